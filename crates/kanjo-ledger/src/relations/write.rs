//! Changes of rows.
//!
//! Checks come in this order: the table exists and is one; the signers have the right for each kind
//! of change; the definition is the one that the changes were planned under; then, change by
//! change: the row is as expected, types and NOT NULL by column, size, CHECK by constraint, and for
//! a new row that its key is free.

use super::{Origin, Trouble, Troubled};
use crate::execute::Step;
use crate::expression::{Work, holds};
use crate::ledger::Ledger;
use crate::table::Row as _;
use crate::turn::Turn;
use kanjo_types::outcome::ResultCode;
use kanjo_types::record::{Record, RowKey};
use kanjo_types::relation::{
    Constraint, Definition, RIGHT_DELETE, RIGHT_INSERT, RIGHT_UPDATE, RelationRecord,
};
use kanjo_types::row::{ROW_BYTES_MAX, RowChange, RowRecord, Value, row_key};
use kanjo_types::standing::Links;
use kanjo_types::{Hash, RelationId, codec};

fn right_for(change: &RowChange) -> u8 {
    match change {
        RowChange::Insert { .. } => RIGHT_INSERT,
        RowChange::Update { .. } => RIGHT_UPDATE,
        RowChange::Delete { .. } => RIGHT_DELETE,
    }
}

impl Ledger {
    pub(crate) fn write(
        &mut self,
        turn: &Turn<'_>,
        relation: RelationId,
        definition: Hash,
        changes: &[RowChange],
    ) -> Step {
        self.check_write(turn, relation, definition, changes).inspect_err(|_| {
            self.scratch.relations.trouble = Some(Trouble::of(relation));
        })?;
        let mut work = self.scratch.relations.work;
        for (change, number) in changes.iter().zip(0u32..) {
            let row = self.planned(relation, change, &mut work).map_err(|(code, trouble)| {
                let trouble = Trouble { change: Some(number), ..trouble };
                self.scratch.relations.trouble = Some(trouble);
                code
            })?;
            let origin = Origin { operation: turn.number, change: number };
            self.scratch.relations.rows.insert(row.key, origin);
            self.draft_standing(Record::Row(Box::new(row)));
        }
        self.scratch.relations.work = work;
        Ok(())
    }

    fn check_write(
        &self,
        turn: &Turn<'_>,
        relation: RelationId,
        definition: Hash,
        changes: &[RowChange],
    ) -> Step {
        let record = self.relation_now(relation).ok_or(ResultCode::NoSuchRelation)?;
        record.table().ok_or(ResultCode::NotATable)?;
        let needed = changes.iter().fold(0, |all, change| all | right_for(change));
        let rights = [RIGHT_INSERT, RIGHT_UPDATE, RIGHT_DELETE].into_iter();
        let mut missing = rights.filter(|right| {
            needed & right != 0 && !turn.signers().any(|signer| record.permits(&signer, *right))
        });
        if missing.next().is_some() {
            return Err(ResultCode::NotPermitted);
        }
        if self.relation_before(relation) != definition {
            return Err(ResultCode::DefinitionChanged);
        }
        Ok(())
    }

    /// The version of a row that a change makes.
    fn planned(
        &self,
        relation: RelationId,
        change: &RowChange,
        work: &mut Work,
    ) -> Troubled<RowRecord> {
        let plain = |code| (code, Trouble::of(relation));
        let definition = self.relation_now(relation).and_then(RelationRecord::table);
        let definition = definition.ok_or(plain(ResultCode::NoSuchRelation))?;
        let made = |key, values| RowRecord {
            relation,
            key,
            links: Links::default(),
            values,
            references: Vec::new(),
        };
        match change {
            RowChange::Insert { values } => {
                let key = fitting(relation, definition, values, work)?;
                if self.row_now(key).is_some() {
                    return Err(plain(ResultCode::RowExists));
                }
                Ok(made(key, Some(values.clone())))
            }
            RowChange::Update { key, expected, values } => {
                self.check_expected(relation, *key, *expected).map_err(plain)?;
                if fitting(relation, definition, values, work)? != *key {
                    return Err(plain(ResultCode::KeyChanged));
                }
                Ok(made(*key, Some(values.clone())))
            }
            RowChange::Delete { key, expected } => {
                self.check_expected(relation, *key, *expected).map_err(plain)?;
                Ok(made(*key, None))
            }
        }
    }

    /// Is the row there, and was it before the transaction what the change's maker has read?
    fn check_expected(&self, relation: RelationId, key: RowKey, expected: Hash) -> Step {
        let there = self.row_now(key).is_some_and(|row| row.relation == relation);
        let before = self.row_before(key).map_or(Hash::ZERO, |row| row.hash());
        if there && before == expected { Ok(()) } else { Err(ResultCode::RowChanged) }
    }
}

/// Do values keep types, NOT NULL, size and CHECK? Gives the row's key.
fn fitting(
    relation: RelationId,
    definition: &Definition,
    values: &[Value],
    work: &mut Work,
) -> Troubled<RowKey> {
    let plain = |code| (code, Trouble::of(relation));
    if values.len() != definition.columns.len() {
        return Err(plain(ResultCode::WrongType));
    }
    for ((column, value), position) in definition.columns.iter().zip(values).zip(0u16..) {
        let at_column =
            |code| (code, Trouble { column: Some(column.name.clone()), ..Trouble::of(relation) });
        let needed = column.not_null || definition.primary.contains(&position);
        if needed && value.is_null() {
            return Err(at_column(ResultCode::NullValue));
        }
        column.kind.check(value).map_err(at_column)?;
    }
    if values_bytes(values) > ROW_BYTES_MAX {
        return Err(plain(ResultCode::RowTooLarge));
    }
    let key = row_key(relation, definition.values(values, &definition.primary));
    let key = key.ok_or(plain(ResultCode::RowTooLarge))?;
    for constraint in &definition.constraints {
        keeps(relation, definition, constraint, values, work)?;
    }
    Ok(key)
}

fn values_bytes(values: &[Value]) -> usize {
    values.iter().map(codec::length).sum()
}

/// Does a row keep a constraint, if it is a CHECK?
pub(super) fn keeps(
    relation: RelationId,
    definition: &Definition,
    constraint: &Constraint,
    values: &[Value],
    work: &mut Work,
) -> Troubled<()> {
    let Constraint::Check { name, expression } = constraint else { return Ok(()) };
    let troubled = |code| (code, Trouble::constraint(relation, name));
    match holds(expression, definition, values, work) {
        Ok(true) => Ok(()),
        Ok(false) => Err(troubled(ResultCode::CheckFailed)),
        Err(code) => Err(troubled(code)),
    }
}
