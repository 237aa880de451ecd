//! Indexes over tables of users, in memory: names, unique and foreign keys.
//!
//! # Invariants
//! - They follow from the rows. While a log is redone they are [stale](RelationIndex::stale),
//!   because partitions then stand at different heights; the next block begins with making them
//!   anew.
//! - `tables` has every table that is not dropped, with each of its unique constraints and each of
//!   its foreign keys to rows; under each constraint stand the live rows, those aside that it does
//!   not concern because of a null.

use super::{live, relation_of};
use crate::ledger::Ledger;
use kanjo_types::record::{Record, RowKey, Table};
use kanjo_types::relation::{Constraint, Definition, RelationRecord, Target};
use kanjo_types::row::Value;
use kanjo_types::{RelationId, codec};
use std::collections::{BTreeMap, BTreeSet};

/// The values of a row in the columns of a key, encoded.
pub(super) type KeyBytes = Vec<u8>;

/// Rows by the values in the columns of a constraint.
pub(super) enum ConstraintIndex {
    /// One row each.
    Unique(BTreeMap<KeyBytes, RowKey>),
    /// Of a foreign key: the rows that reference.
    Foreign(BTreeSet<(KeyBytes, RowKey)>),
}

/// All of them.
#[derive(Default)]
pub(crate) struct RelationIndex {
    /// Must they be made anew?
    pub stale: bool,
    /// Rows that the transaction under way changes beside constraints that it adds: these take the
    /// rows in as they become, not as they were.
    pub changing: BTreeSet<RowKey>,
    /// By schema and name, of relations that are not dropped.
    pub names: BTreeMap<(String, String), RelationId>,
    /// By table and name of the constraint.
    tables: BTreeMap<RelationId, BTreeMap<String, ConstraintIndex>>,
    /// Which tables reference which.
    targeting: BTreeMap<RelationId, BTreeSet<RelationId>>,
}

/// The values in some columns, encoded; `None` when a null is among them and that means that the
/// constraint does not concern the row.
pub(super) fn key_of(
    definition: &Definition,
    values: &[Value],
    columns: &[u16],
    nulls_count: bool,
) -> Option<KeyBytes> {
    let values: Vec<&Value> = definition.values(values, columns).collect();
    let concerned = nulls_count || !values.iter().any(|value| value.is_null());
    concerned.then(|| codec::to_bytes(&values))
}

impl ConstraintIndex {
    /// An empty one for a constraint that has one.
    fn empty(constraint: &Constraint) -> Option<Self> {
        match constraint {
            Constraint::Unique { .. } => Some(Self::Unique(BTreeMap::new())),
            Constraint::Foreign { target: Target::Rows { .. }, .. } => {
                Some(Self::Foreign(BTreeSet::new()))
            }
            _ => None,
        }
    }

    /// Takes a row in, or out.
    fn put(&mut self, key: KeyBytes, row: RowKey, is_there: bool) {
        match self {
            Self::Unique(rows) if is_there => drop(rows.insert(key, row)),
            // Another row may have taken the values over in the same transaction.
            Self::Unique(rows) if rows.get(&key) == Some(&row) => drop(rows.remove(&key)),
            Self::Unique(_) => {}
            Self::Foreign(rows) if is_there => drop(rows.insert((key, row))),
            Self::Foreign(rows) => drop(rows.remove(&(key, row))),
        }
    }
}

/// The key under which a constraint has a row.
pub(super) fn constraint_key(
    definition: &Definition,
    constraint: &Constraint,
    values: &[Value],
) -> Option<KeyBytes> {
    match constraint {
        Constraint::Unique { columns, nulls_distinct, .. } => {
            key_of(definition, values, columns, !nulls_distinct)
        }
        Constraint::Foreign { columns, .. } => key_of(definition, values, columns, false),
        Constraint::Check { .. } => None,
    }
}

impl RelationIndex {
    /// The row that has a unique key.
    pub(super) fn unique(&self, of: RelationId, constraint: &str, key: &[u8]) -> Option<RowKey> {
        match self.tables.get(&of)?.get(constraint)? {
            ConstraintIndex::Unique(rows) => rows.get(key).copied(),
            ConstraintIndex::Foreign(_) => None,
        }
    }

    /// The rows whose foreign key has these values.
    pub(super) fn referencing<'a>(
        &'a self,
        of: RelationId,
        constraint: &str,
        key: &'a [u8],
    ) -> impl Iterator<Item = RowKey> + 'a {
        let found = self.tables.get(&of).and_then(|table| table.get(constraint));
        let rows = found.and_then(|index| match index {
            ConstraintIndex::Foreign(rows) => Some(rows),
            ConstraintIndex::Unique(_) => None,
        });
        let from = (key.to_vec(), RowKey::MIN);
        let rows = rows.into_iter().flat_map(move |rows| rows.range(from.clone()..));
        rows.take_while(move |(other, _)| other == key).map(|(_, row)| *row)
    }

    /// Tables with foreign keys to a table, as recorded.
    pub(super) fn targeting(&self, of: RelationId) -> impl Iterator<Item = RelationId> + '_ {
        self.targeting.get(&of).into_iter().flatten().copied()
    }

    fn forget_relation(&mut self, old: &RelationRecord) {
        let name = (old.schema.clone(), old.name.clone());
        if self.names.get(&name) == Some(&old.number) {
            self.names.remove(&name);
        }
        for tables in self.targeting.values_mut() {
            tables.remove(&old.number);
        }
        self.targeting.retain(|_, tables| !tables.is_empty());
    }

    /// Takes a new version of a relation; `rows` are its rows.
    fn take_relation<'a>(
        &mut self,
        old: Option<&RelationRecord>,
        new: &RelationRecord,
        rows: impl Iterator<Item = &'a Record>,
    ) {
        if let Some(old) = old {
            self.forget_relation(old);
        }
        let number = new.number;
        if !new.dropped {
            self.names.insert((new.schema.clone(), new.name.clone()), number);
        }
        let Some(definition) = new.table() else {
            self.tables.remove(&number);
            return;
        };
        for constraint in &definition.constraints {
            if let Constraint::Foreign { target: Target::Rows { relation, .. }, .. } = constraint {
                self.targeting.entry(*relation).or_default().insert(number);
            }
        }
        let mut before = self.tables.remove(&number).unwrap_or_default();
        let old = old.and_then(RelationRecord::table);
        let is_old = |constraint: &&Constraint| {
            old.and_then(|old| old.constraint(constraint.name())) == Some(*constraint)
        };
        let (kept, new): (Vec<_>, Vec<_>) = definition.constraints.iter().partition(is_old);
        let kept = kept.into_iter().filter_map(|of| before.remove_entry(of.name()));
        let mut indexes: BTreeMap<String, ConstraintIndex> = kept.collect();
        let mut made: Vec<(&Constraint, ConstraintIndex)> =
            new.into_iter().filter_map(|of| Some((of, ConstraintIndex::empty(of)?))).collect();
        if !made.is_empty() {
            let changing = &self.changing;
            for row in rows.filter_map(live).filter(|row| !changing.contains(&row.key)) {
                let values = row.values.as_deref().unwrap_or_default();
                for (constraint, index) in &mut made {
                    if let Some(key) = constraint_key(definition, constraint, values) {
                        index.put(key, row.key, true);
                    }
                }
            }
        }
        indexes.extend(made.into_iter().map(|(of, index)| (of.name().to_owned(), index)));
        self.tables.insert(number, indexes);
    }

    /// Takes a version of a row in, or out.
    fn take_row(&mut self, definition: &Definition, record: &Record, is_there: bool) {
        let Some(row) = live(record) else { return };
        let Some(indexes) = self.tables.get_mut(&row.relation) else { return };
        let values = row.values.as_deref().unwrap_or_default();
        for constraint in &definition.constraints {
            if let Some(index) = indexes.get_mut(constraint.name())
                && let Some(key) = constraint_key(definition, constraint, values)
            {
                index.put(key, row.key, is_there);
            }
        }
    }
}

impl Ledger {
    /// Keeps the indexes when a version is about to be taken into the tables.
    pub(crate) fn index_standing(&mut self, table: Table, key: RowKey, record: &Record) {
        if self.relation_index.stale || !matches!(table, Table::Relations | Table::Rows) {
            return;
        }
        let mut index = std::mem::take(&mut self.relation_index);
        let old = self.standing(table).get(&key).map(|row| &row.record);
        match record {
            Record::Relation(relation) => {
                let rows = self.rows_of(relation.number).map(|row| &row.record);
                index.take_relation(old.and_then(relation_of), relation, rows);
            }
            Record::Row(row) => {
                let relation = self.standing(Table::Relations);
                let relation = relation.get(&RowKey::relation(row.relation));
                let relation = relation.and_then(|of| relation_of(&of.record));
                if let Some(definition) = relation.and_then(RelationRecord::table) {
                    old.into_iter().for_each(|old| index.take_row(definition, old, false));
                    index.take_row(definition, record, true);
                }
            }
            _ => {}
        }
        self.relation_index = index;
    }

    /// Makes the indexes anew from the rows, if they are stale.
    pub(crate) fn settle_indexes(&mut self) {
        if !self.relation_index.stale {
            return;
        }
        let mut index = RelationIndex::default();
        for partition in crate::ledger::partitions() {
            for row in self.standing(Table::Relations).rows(partition) {
                if let Some(relation) = relation_of(&row.record) {
                    let rows = self.rows_of(relation.number).map(|row| &row.record);
                    index.take_relation(None, relation, rows);
                }
            }
        }
        self.relation_index = index;
    }
}
