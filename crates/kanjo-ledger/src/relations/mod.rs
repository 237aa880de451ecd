//! Tables that users define: their definitions, their rows, and what must hold of them.
//!
//! ```text
//! define ─▶ draft of the relation ┐                     ┌▶ unique, foreign, new constraints
//! write  ─▶ draft of each row     ┴─▶ end of operations ┴▶ order of rows, references ─▶ commit
//!           types, NULL, CHECK        (finish)             (links)
//! ```
//! Unique and foreign constraints are looked at when all operations have passed, so that a
//! transaction may break them on its way. `expected` hashes and conditions speak of what was there
//! before the transaction, whatever it has drafted since: that is what its maker has read.

mod condition;
mod define;
mod finish;
mod index;
mod links;
mod write;

pub(crate) use index::RelationIndex;
pub(crate) use links::LinkTo;

use crate::expression::Work;
use crate::ledger::Ledger;
use crate::rows::StandingRow;
use crate::table::Row as _;
use kanjo_types::record::{Record, RowKey, Table};
use kanjo_types::relation::{Constraint, Definition, RelationRecord, Target};
use kanjo_types::row::{RowRecord, relation_bounds};
use kanjo_types::{Hash, RelationId, ResultCode};
use std::collections::{BTreeMap, BTreeSet};

/// Most rows that the conditions and new constraints of one transaction look at.
const READ_ROWS_MAX: usize = 1 << 17;
const _: () = assert!(kanjo_types::relation::CHECKED_ROWS_MAX <= READ_ROWS_MAX);

/// What a failed operation on a table of users failed at; the receipt has only code and operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Which table.
    pub relation: RelationId,
    /// Which change of the operation, counted from 0, where it was one.
    pub change: Option<u32>,
    /// Which column, where it was one.
    pub column: Option<String>,
    /// Which constraint, where it was one.
    pub constraint: Option<String>,
}

impl Trouble {
    pub(crate) fn of(relation: RelationId) -> Self {
        Self { relation, change: None, column: None, constraint: None }
    }

    fn constraint(relation: RelationId, name: &str) -> Self {
        Self { constraint: Some(name.to_owned()), ..Self::of(relation) }
    }
}

/// A failure, with what it was at.
pub(crate) type Troubled<T> = Result<T, (ResultCode, Trouble)>;

/// Which change drafted a row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin {
    pub operation: u32,
    pub change: u32,
}

/// What a transaction would change in tables of users, beside its drafts.
#[derive(Default)]
pub(crate) struct RelationScratch {
    /// Relations drafted.
    pub relations: BTreeSet<RelationId>,
    /// How many of them are new.
    pub created: u32,
    /// Rows drafted, and by which change last.
    pub rows: BTreeMap<RowKey, Origin>,
    /// Constraints that are new, and by which operation.
    pub constraints: BTreeMap<(RelationId, String), u32>,
    /// What the rows drafted refer to; set at the end.
    pub links: BTreeMap<RowKey, Vec<LinkTo>>,
    /// How many rows were looked at.
    pub read: usize,
    /// What is left for expressions.
    pub work: Work,
    /// Why it failed.
    pub trouble: Option<Trouble>,
}

impl RelationScratch {
    pub(crate) fn is_untouched(&self) -> bool {
        self.relations.is_empty() && self.rows.is_empty()
    }

    /// Is there anything to forget?
    pub(crate) fn is_used(&self) -> bool {
        !self.is_untouched() || self.trouble.is_some() || self.read > 0
    }

    /// Takes rows from those that may be looked at.
    fn read(&mut self, rows: usize) -> Result<(), ResultCode> {
        self.read = self.read.saturating_add(rows);
        if self.read > READ_ROWS_MAX { Err(ResultCode::TooMuch) } else { Ok(()) }
    }
}

/// The record of a row that is not deleted.
pub(crate) fn live(record: &Record) -> Option<&RowRecord> {
    match record {
        Record::Row(row) if row.values.is_some() => Some(row),
        _ => None,
    }
}

pub(crate) fn relation_of(record: &Record) -> Option<&RelationRecord> {
    match record {
        Record::Relation(relation) => Some(relation),
        _ => None,
    }
}

/// The foreign keys of a definition that reference rows of a table.
fn foreign_keys(
    definition: &Definition,
    of: RelationId,
) -> impl Iterator<Item = (&str, &[u16], &[u16])> {
    definition.constraints.iter().filter_map(move |constraint| match constraint {
        Constraint::Foreign {
            name,
            columns,
            target: Target::Rows { relation, columns: to },
            ..
        } if *relation == of => Some((&**name, &**columns, &**to)),
        _ => None,
    })
}

impl Ledger {
    /// Where the last executed transaction failed, if it did at a table of users.
    #[must_use]
    pub fn trouble(&self) -> Option<&Trouble> {
        self.scratch.relations.trouble.as_ref()
    }

    /// The newest version of a relation that is not dropped, drafts included.
    pub(crate) fn relation_now(&self, relation: RelationId) -> Option<&RelationRecord> {
        let record = self.standing_record(Table::Relations, RowKey::relation(relation))?;
        relation_of(record).filter(|record| !record.dropped)
    }

    /// The definition of a table, drafts included.
    fn table_now(&self, relation: RelationId) -> Option<&Definition> {
        self.relation_now(relation)?.table()
    }

    /// Hash of a relation's record before this transaction; zero when it was not there or dropped.
    fn relation_before(&self, relation: RelationId) -> Hash {
        let row = self.standing(Table::Relations).get(&RowKey::relation(relation));
        let live = row.filter(|row| relation_of(&row.record).is_some_and(|of| !of.dropped));
        live.map_or(Hash::ZERO, |row| row.hash())
    }

    /// The newest version of a row that is not deleted, drafts included.
    fn row_now(&self, key: RowKey) -> Option<&RowRecord> {
        self.standing_record(Table::Rows, key).and_then(live)
    }

    /// A row before this transaction, if it was not deleted.
    fn row_before(&self, key: RowKey) -> Option<&StandingRow> {
        self.standing(Table::Rows).get(&key).filter(|row| live(&row.record).is_some())
    }

    /// Recorded rows of a table between two keys, ascending, with those that are deleted.
    pub fn rows_between(
        &self,
        relation: RelationId,
        from: RowKey,
        to: RowKey,
    ) -> impl Iterator<Item = &StandingRow> {
        let (first, last) = relation_bounds(relation);
        let (from, to) = (from.max(first), to.min(last));
        let rows = self.standing(Table::Rows);
        let floor = rows.floor(first.partition(), &from);
        let slots = std::iter::successors(Some(floor), |slot| rows.following(*slot));
        let found = slots.filter_map(|slot| rows.at(slot)).skip_while(move |row| row.key < from);
        found.take_while(move |row| row.key <= to)
    }

    /// All recorded rows of a table, ascending, with those that are deleted.
    fn rows_of(&self, relation: RelationId) -> impl Iterator<Item = &StandingRow> {
        self.rows_between(relation, RowKey::MIN, RowKey::MAX)
    }
}
