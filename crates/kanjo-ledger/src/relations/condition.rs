//! Conditions on rows: what a transaction's maker has read.

use super::{READ_ROWS_MAX, live};
use crate::execute::Step;
use crate::ledger::Ledger;
use crate::table::Row as _;
use kanjo_types::money::Condition;
use kanjo_types::outcome::ResultCode;
use kanjo_types::record::RowKey;
use kanjo_types::row::{RANGE_ROWS_MAX, range_digest, relation_bounds};
use kanjo_types::{Hash, RelationId};

impl Ledger {
    /// Checks a condition on tables of users; the others are not for here.
    pub(crate) fn require_rows(&mut self, condition: &Condition) -> Step {
        let (holds, otherwise) = match *condition {
            Condition::RelationIs { relation, hash } => {
                (self.relation_before(relation) == hash, ResultCode::DefinitionChanged)
            }
            Condition::RowIs { relation, key, hash } => {
                self.check_table(relation)?;
                let (first, last) = relation_bounds(relation);
                let row = self.row_before(key).filter(|_| (first..=last).contains(&key));
                let found = row.map_or(Hash::ZERO, |row| row.hash());
                (found == hash, ResultCode::RowChanged)
            }
            Condition::RangeIs { relation, from, to, digest } => {
                self.check_table(relation)?;
                (self.digest_of(relation, from, to)? == digest, ResultCode::RowChanged)
            }
            _ => return Err(ResultCode::NotPermitted),
        };
        if holds { Ok(()) } else { Err(otherwise) }
    }

    fn check_table(&self, relation: RelationId) -> Step {
        let record = self.relation_now(relation).ok_or(ResultCode::NoSuchRelation)?;
        record.table().map(|_| ()).ok_or(ResultCode::NotATable)
    }

    fn digest_of(
        &mut self,
        relation: RelationId,
        from: RowKey,
        to: RowKey,
    ) -> Result<Hash, ResultCode> {
        let (digest, looked_at) = self.digest_within(relation, (from, to), READ_ROWS_MAX + 1);
        self.scratch.relations.read(looked_at)?;
        digest
    }

    /// What [`Condition::RangeIs`] says of the rows as they are now.
    ///
    /// # Errors
    /// [`ResultCode::TooMany`] for more than [`RANGE_ROWS_MAX`] live rows.
    pub fn range_digest(
        &self,
        relation: RelationId,
        from: RowKey,
        to: RowKey,
    ) -> Result<Hash, ResultCode> {
        self.digest_within(relation, (from, to), usize::MAX).0
    }

    /// The digest of a range of which at most so many rows are looked at, and how many were.
    fn digest_within(
        &self,
        relation: RelationId,
        (from, to): (RowKey, RowKey),
        most: usize,
    ) -> (Result<Hash, ResultCode>, usize) {
        let mut looked_at = 0usize;
        let rows = self.rows_between(relation, from, to).take(most).inspect(|_| looked_at += 1);
        let found = rows.filter(|row| live(&row.record).is_some());
        let found: Vec<_> = found.take(RANGE_ROWS_MAX + 1).map(|row| (row.key, row.hash)).collect();
        if found.len() > RANGE_ROWS_MAX {
            return (Err(ResultCode::TooMany), looked_at);
        }
        (Ok(range_digest(found.into_iter())), looked_at)
    }
}
