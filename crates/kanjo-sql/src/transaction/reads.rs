//! What a transaction has read, as conditions of the ledger transaction.

use super::Drafts;
use crate::catalog::Catalog;
use crate::error::{SqlError, code};
use kanjo_types::money::Condition;
use kanjo_types::record::{Record, RowKey, Table};
use kanjo_types::row::{RANGE_ROWS_MAX, range_digest, relation_bounds};
use kanjo_types::{Hash, RelationId, TokenId, WalletId};
use kanjo_view::{Content, Snapshot};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// Most rows that the conditions of one transaction look at, as the ledger counts them.
const ROWS_MAX: usize = 1 << 17;
/// Most keys and ranges that are remembered one by one.
const PLACES_MAX: usize = 4_000;

/// What was read.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    relations: BTreeSet<RelationId>,
    /// Ranges of row keys, first and last; a single row has both equal.
    ranges: BTreeSet<(RelationId, RowKey, RowKey)>,
    states: BTreeMap<(WalletId, TokenId), Hash>,
}

impl Reads {
    pub(crate) fn range(&mut self, relation: RelationId, from: RowKey, to: RowKey) {
        self.relations.insert(relation);
        self.ranges.insert((relation, from, to));
        if self.ranges.len() > PLACES_MAX {
            // More than a commit can name one by one: whole tables.
            self.ranges = self
                .relations
                .iter()
                .map(|relation| {
                    let (from, to) = relation_bounds(*relation);
                    (*relation, from, to)
                })
                .collect();
        }
    }

    pub(crate) fn relation(&mut self, relation: RelationId) {
        self.relations.insert(relation);
    }

    pub(crate) fn state(&mut self, wallet: WalletId, token: TokenId, hash: Hash) {
        self.states.insert((wallet, token), hash);
    }

    /// The conditions, unless what is changed says the same.
    pub(crate) fn conditions(
        &self,
        snapshot: &Snapshot,
        drafts: &Drafts,
        catalog: &Catalog,
    ) -> Result<Vec<Condition>, SqlError> {
        let mut conditions = Vec::new();
        for relation in &self.relations {
            let Some(found) = catalog.get(*relation) else { continue };
            let is_new = found.hash.is_zero();
            if !is_new && !drafts.writes(*relation) && !drafts.relations.contains_key(relation) {
                conditions.push(Condition::RelationIs { relation: *relation, hash: found.hash });
            }
        }
        let mut left = ROWS_MAX;
        for (relation, from, to) in merged(&self.ranges) {
            if catalog.get(relation).is_some_and(|found| found.hash.is_zero()) {
                continue;
            }
            if from == to {
                // A change of a row brings the hash that it was planned on.
                let before = drafts.rows.get(&from).map(|draft| draft.before);
                if before.is_none_or(|before| before.is_zero()) {
                    let hash = row_hash(snapshot, from)?;
                    conditions.push(Condition::RowIs { relation, key: from, hash });
                }
                continue;
            }
            digests(snapshot, (relation, from, to), &mut left, &mut conditions)?;
        }
        // The ledger looks at states of wallets and tokens that are there.
        let states = self.states.iter().filter(|(_, state)| !state.is_zero());
        conditions.extend(states.map(|((wallet, token), state)| Condition::StateIs {
            wallet: *wallet,
            token: *token,
            state: *state,
        }));
        if conditions.len() > PLACES_MAX {
            return Err(too_much());
        }
        Ok(conditions)
    }
}

fn too_much() -> SqlError {
    let message = "the transaction has read more than the ledger looks at again when it commits";
    SqlError::new(code::LIMIT_EXCEEDED, message)
        .hint("read by primary key, or commit in smaller pieces")
}

/// Ranges without overlap.
fn merged(ranges: &BTreeSet<(RelationId, RowKey, RowKey)>) -> Vec<(RelationId, RowKey, RowKey)> {
    let mut merged: Vec<(RelationId, RowKey, RowKey)> = Vec::new();
    for (relation, from, to) in ranges {
        match merged.last_mut() {
            Some((last, _, end)) if last == relation && from <= end => *end = (*end).max(*to),
            _ => merged.push((*relation, *from, *to)),
        }
    }
    merged
}

/// Hash of a row's record in the snapshot; zero when it is not there or deleted.
pub(crate) fn row_hash(snapshot: &Snapshot, key: RowKey) -> Result<Hash, SqlError> {
    let found = snapshot.get(Table::Rows, &key)?;
    Ok(found.filter(|version| is_live(&version.content)).map_or(Hash::ZERO, |found| found.hash))
}

fn is_live(content: &Content) -> bool {
    match content {
        Content::Record(record) => match record.as_ref() {
            Record::Row(row) => row.values.is_some(),
            _ => false,
        },
        _ => false,
    }
}

/// Digests over a range, in pieces of as many rows as one condition covers.
fn digests(
    snapshot: &Snapshot,
    (relation, from, to): (RelationId, RowKey, RowKey),
    left: &mut usize,
    conditions: &mut Vec<Condition>,
) -> Result<(), SqlError> {
    let mut start = from;
    loop {
        let (rows, next) =
            snapshot.scan(Table::Rows, Bound::Included(start), to, RANGE_ROWS_MAX)?;
        *left = left.checked_sub(rows.len()).ok_or_else(too_much)?;
        let end = match (&next, rows.last()) {
            (Some(_), Some((last, _))) => *last,
            _ => to,
        };
        let live = rows.iter().filter(|(_, version)| is_live(&version.content));
        let digest = range_digest(live.map(|(key, version)| (*key, version.hash)));
        conditions.push(Condition::RangeIs { relation, from: start, to: end, digest });
        if next.is_none() {
            return Ok(());
        }
        start = after(end);
    }
}

/// The key behind a key.
fn after(key: RowKey) -> RowKey {
    let mut bytes = key.0.0;
    for byte in bytes.iter_mut().rev() {
        let (sum, carry) = byte.overflowing_add(1);
        *byte = sum;
        if !carry {
            break;
        }
    }
    RowKey(Hash(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> RowKey {
        RowKey(Hash([byte; 32]))
    }

    #[test]
    fn ranges_that_overlap_become_one() {
        let one = RelationId(1);
        let ranges = [
            (one, key(1), key(3)),
            (one, key(2), key(2)),
            (one, key(3), key(5)),
            (one, key(7), key(7)),
            (RelationId(2), key(1), key(9)),
        ];
        let merged = merged(&ranges.into_iter().collect());
        let expected =
            [(one, key(1), key(5)), (one, key(7), key(7)), (RelationId(2), key(1), key(9))];
        assert_eq!(merged, expected);
    }

    #[test]
    fn the_key_behind_a_key_carries() {
        let mut bytes = [0; 32];
        bytes[31] = 0xff;
        bytes[30] = 0xff;
        bytes[29] = 4;
        let next = after(RowKey(Hash(bytes)));
        assert_eq!(next.0.0[28..], [0, 5, 0, 0]);
    }
}
