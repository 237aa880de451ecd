//! Transaction ids that are remembered so that none is taken twice.
//!
//! Ids are kept until their `valid_until` has passed, in buckets of one minute of `valid_until`, so
//! that forgetting is dropping a bucket. The first 16 bytes of an id are kept: making two
//! transactions that share them takes 2⁶⁴ work and only gets the maker's own second one refused.

use borsh::{BorshDeserialize, BorshSerialize};
use hashbrown::HashSet;
use kanjo_types::TransactionId;
use kanjo_types::record::{PARTITIONS, RowKey};
use std::collections::BTreeMap;

/// Width of a bucket.
const BUCKET_MS: u64 = 60_000;

type ShortId = [u8; 16];

fn short(id: &TransactionId) -> ShortId {
    let mut short = [0u8; 16];
    short.iter_mut().zip(id.0.0).for_each(|(to, from)| *to = from);
    short
}

/// Remembered ids of one partition (by the top six bits of the id), for a checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct ReplaySnapshot {
    buckets: Vec<(u64, Vec<ShortId>)>,
}

/// All remembered ids.
pub struct ReplayWindow {
    partitions: Vec<BTreeMap<u64, HashSet<ShortId>>>,
}

impl Default for ReplayWindow {
    fn default() -> Self {
        Self { partitions: vec![BTreeMap::new(); PARTITIONS] }
    }
}

fn partition_of(id: &TransactionId) -> usize {
    usize::from(RowKey(id.0).partition())
}

impl ReplayWindow {
    /// True when the id was recorded with this `valid_until_ms`.
    #[must_use]
    pub fn contains(&self, id: &TransactionId, valid_until_ms: u64) -> bool {
        self.partitions
            .get(partition_of(id))
            .and_then(|buckets| buckets.get(&(valid_until_ms / BUCKET_MS)))
            .is_some_and(|bucket| bucket.contains(&short(id)))
    }

    /// Remembers an id.
    pub fn insert(&mut self, id: &TransactionId, valid_until_ms: u64) {
        if let Some(buckets) = self.partitions.get_mut(partition_of(id)) {
            buckets.entry(valid_until_ms / BUCKET_MS).or_default().insert(short(id));
        }
    }

    /// Forgets ids whose `valid_until` lies before `time_ms` for certain: from there on they are
    /// expired.
    pub fn forget_before(&mut self, time_ms: u64) {
        let first_kept = time_ms / BUCKET_MS;
        for buckets in &mut self.partitions {
            while buckets.first_key_value().is_some_and(|(bucket, _)| *bucket < first_kept) {
                buckets.pop_first();
            }
        }
    }

    /// How many ids are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.partitions.iter().flat_map(BTreeMap::values).map(HashSet::len).sum()
    }

    /// True when none is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The ids of one partition. Sorted, so that equal windows give equal bytes.
    #[must_use]
    pub fn snapshot(&self, partition: u16) -> ReplaySnapshot {
        let Some(buckets) = self.partitions.get(usize::from(partition)) else {
            return ReplaySnapshot::default();
        };
        let sorted = |ids: &HashSet<ShortId>| {
            let mut ids: Vec<ShortId> = ids.iter().copied().collect();
            ids.sort_unstable();
            ids
        };
        ReplaySnapshot { buckets: buckets.iter().map(|(at, ids)| (*at, sorted(ids))).collect() }
    }

    /// Restores the ids of one partition.
    pub fn load(&mut self, partition: u16, snapshot: ReplaySnapshot) {
        if let Some(buckets) = self.partitions.get_mut(usize::from(partition)) {
            *buckets = snapshot
                .buckets
                .into_iter()
                .map(|(at, ids)| (at, ids.into_iter().collect()))
                .collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kanjo_types::Hash;

    fn id(n: u8) -> TransactionId {
        TransactionId(Hash([n; 32]))
    }

    #[test]
    fn an_id_is_remembered_until_it_is_expired() {
        let mut window = ReplayWindow::default();
        window.insert(&id(200), 120_001);
        window.forget_before(120_001);
        assert!(window.contains(&id(200), 120_001));
        assert!(!window.contains(&id(201), 120_001));
        window.forget_before(179_999);
        assert!(window.contains(&id(200), 120_001), "the bucket still holds valid ids");
        window.forget_before(180_000);
        assert!(window.is_empty());
    }

    #[test]
    fn a_snapshot_restores_the_window() {
        let mut window = ReplayWindow::default();
        (0..250).for_each(|n| window.insert(&id(n), u64::from(n) * 1_000));
        let mut other = ReplayWindow::default();
        (0..64).for_each(|p| other.load(p, window.snapshot(p)));
        assert_eq!(other.len(), 250);
        (0..250).for_each(|n| assert!(other.contains(&id(n), u64::from(n) * 1_000)));
    }
}
