//! A table in memory: rows by slot, an index by key, and the order of keys, in 64 partitions.
//!
//! # Invariants
//! - A row keeps its slot for ever; slots are given in order of creation, from 1. Slot 0 is the
//!   bound below every key.
//! - `next` chains the slots of a partition by ascending key, from slot 0 to `END`.
//! - `index` is for look-up only and never walked: its hasher is seeded at random against crafted
//!   keys. It holds slots alone (5 bytes a row; the key is in the row), so that it stays in the
//!   processor's caches.

use hashbrown::{DefaultHashBuilder, HashTable};
use kanjo_proof::state::Leaf;
use kanjo_types::Hash;
use kanjo_types::record::{PARTITIONS, RowKey};
use kanjo_types::stored::Location;
use std::collections::BTreeMap;
use std::hash::BuildHasher as _;

/// "No next row."
const END: u32 = u32::MAX;

/// What a table needs to know of its rows.
pub trait Row {
    /// Key of a row; sorts as its [`RowKey`] does.
    type Key: Copy + Ord + std::hash::Hash;

    /// The row's key.
    fn key(&self) -> Self::Key;
    /// The key's form in the trees.
    fn row_key(key: &Self::Key) -> RowKey;
    /// Hash of the row's record.
    fn hash(&self) -> Hash;
    /// Where the row's version was made.
    fn made_at(&self) -> Location;
}

/// A place in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    /// Which partition.
    pub partition: u16,
    /// Which slot in it.
    pub slot: u32,
}

struct Partition<R: Row> {
    rows: Vec<R>,
    next: Vec<u32>,
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    order: BTreeMap<R::Key, u32>,
}

fn row_at<R>(rows: &[R], slot: u32) -> Option<&R> {
    rows.get((slot as usize).checked_sub(1)?)
}

impl<R: Row> Partition<R> {
    fn new() -> Self {
        Self {
            rows: Vec::new(),
            next: vec![END],
            index: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            order: BTreeMap::new(),
        }
    }

    fn row(&self, slot: u32) -> Option<&R> {
        row_at(&self.rows, slot)
    }

    fn find(&self, key: &R::Key) -> Option<u32> {
        let is_it = |slot: &u32| self.row(*slot).is_some_and(|row| row.key() == *key);
        self.index.find(self.hasher.hash_one(key), is_it).copied()
    }

    /// Takes the row at `slot`, which must be there, into the index.
    fn add_to_index(&mut self, slot: u32, key: &R::Key) {
        let (rows, hasher) = (&self.rows, &self.hasher);
        let hash_of = |slot: &u32| row_at(rows, *slot).map_or(0, |row| hasher.hash_one(row.key()));
        self.index.insert_unique(hasher.hash_one(key), slot, hash_of);
    }

    fn leaf(&self, slot: u32) -> Option<Leaf> {
        let (key, row) = match slot {
            0 => (RowKey::MIN, Hash::ZERO),
            _ => self.row(slot).map(|row| (R::row_key(&row.key()), row.hash()))?,
        };
        let next = match *self.next.get(slot as usize)? {
            END => RowKey::MAX,
            next => R::row_key(&self.row(next)?.key()),
        };
        Some(Leaf { key, next, row })
    }

    /// A partition from its rows in slot order. Keys must be distinct.
    fn from_rows(rows: Vec<R>) -> Self {
        let slots = || (1..END).zip(&rows).map(|(slot, row)| (row.key(), slot));
        let order: BTreeMap<R::Key, u32> = slots().collect();
        assert_eq!(order.len(), rows.len(), "a key has one row");
        let mut next = vec![END; rows.len() + 1];
        let mut before = 0u32;
        for slot in order.values() {
            if let Some(link) = next.get_mut(before as usize) {
                *link = *slot;
            }
            before = *slot;
        }
        let index = HashTable::with_capacity(rows.len());
        let mut partition = Self { rows, next, index, order, ..Self::new() };
        for slot in (1..END).take(partition.rows.len()) {
            if let Some(key) = partition.row(slot).map(R::key) {
                partition.add_to_index(slot, &key);
            }
        }
        partition
    }

    /// Appends a row with a new key; returns its slot and its predecessor's.
    fn insert(&mut self, row: R) -> (u32, u32) {
        let key = row.key();
        let slot = u32::try_from(self.next.len()).unwrap_or(END);
        assert!(slot < END, "a partition holds fewer than 2^32 - 1 rows");
        let before = self.order.range(..key).next_back().map_or(0, |(_, slot)| *slot);
        let after = self.next.get_mut(before as usize).map(|next| std::mem::replace(next, slot));
        assert!(after.is_some(), "every slot has a link");
        self.next.push(after.unwrap_or(END));
        self.rows.push(row);
        self.add_to_index(slot, &key);
        let earlier = self.order.insert(key, slot);
        assert!(earlier.is_none(), "a key has one row");
        (slot, before)
    }
}

/// All rows of a table.
pub struct Table<R: Row> {
    partitions: Vec<Partition<R>>,
    count: usize,
}

impl<R: Row> Default for Table<R> {
    fn default() -> Self {
        Self { partitions: (0..PARTITIONS).map(|_| Partition::new()).collect(), count: 0 }
    }
}

impl<R: Row> Table<R> {
    fn partition(&self, partition: u16) -> &Partition<R> {
        let found = self.partitions.get(usize::from(partition));
        #[allow(clippy::expect_used)] // Partition numbers come from six bits of a key.
        found.expect("a partition number is below 64")
    }

    fn partition_mut(&mut self, partition: u16) -> &mut Partition<R> {
        let found = self.partitions.get_mut(usize::from(partition));
        #[allow(clippy::expect_used)] // As above.
        found.expect("a partition number is below 64")
    }

    /// Replaces a partition by rows in slot order. Keys must be distinct.
    pub fn load(&mut self, partition: u16, rows: Vec<R>) {
        let (old, new) = (self.partition(partition).rows.len(), rows.len());
        *self.partition_mut(partition) = Partition::from_rows(rows);
        self.count = self.count - old + new;
    }

    /// Where the row with `key` is.
    #[must_use]
    pub fn find(&self, key: &R::Key) -> Option<Slot> {
        let partition = R::row_key(key).partition();
        let slot = self.partition(partition).find(key)?;
        Some(Slot { partition, slot })
    }

    /// The row at `slot`.
    #[must_use]
    pub fn at(&self, slot: Slot) -> Option<&R> {
        self.partition(slot.partition).row(slot.slot)
    }

    /// The row with `key`.
    #[must_use]
    pub fn get(&self, key: &R::Key) -> Option<&R> {
        self.at(self.find(key)?)
    }

    /// Replaces the row with the same key, or appends it. Returns its slot and, for a new row, the
    /// slot whose link now leads to it.
    pub fn put(&mut self, row: R) -> (Slot, Option<Slot>) {
        let key = row.key();
        let partition = R::row_key(&key).partition();
        let part = self.partition_mut(partition);
        if let Some(slot) = part.find(&key) {
            if let Some(place) = part.rows.get_mut((slot as usize).saturating_sub(1)) {
                *place = row;
            }
            return (Slot { partition, slot }, None);
        }
        let (slot, before) = part.insert(row);
        self.count += 1;
        (Slot { partition, slot }, Some(Slot { partition, slot: before }))
    }

    /// Replaces the row at `slot` by one with the same key; gives back the old one.
    pub(crate) fn replace(&mut self, slot: Slot, row: R) -> Option<R> {
        let rows = &mut self.partition_mut(slot.partition).rows;
        let place = rows.get_mut((slot.slot as usize).checked_sub(1)?)?;
        assert!(place.key() == row.key(), "a row keeps its slot");
        Some(std::mem::replace(place, row))
    }

    /// The leaf of `slot` in its partition's tree.
    #[must_use]
    pub fn leaf(&self, slot: Slot) -> Option<Leaf> {
        self.partition(slot.partition).leaf(slot.slot)
    }

    /// Leaves of a partition by slot, the bound first.
    pub fn leaves(&self, partition: u16) -> impl Iterator<Item = Leaf> + '_ {
        let part = self.partition(partition);
        (0..=part.rows.len()).filter_map(|slot| part.leaf(u32::try_from(slot).ok()?))
    }

    /// Rows of a partition by slot.
    #[must_use]
    pub fn rows(&self, partition: u16) -> &[R] {
        &self.partition(partition).rows
    }

    /// The slot of the greatest key at or below `key` in the partition (slot 0 when there is none).
    #[must_use]
    pub fn floor(&self, partition: u16, key: &R::Key) -> Slot {
        let found = self.partition(partition).order.range(..=key).next_back();
        Slot { partition, slot: found.map_or(0, |(_, slot)| *slot) }
    }

    /// The slot after `slot` in key order.
    #[must_use]
    pub fn following(&self, slot: Slot) -> Option<Slot> {
        match self.partition(slot.partition).next.get(slot.slot as usize).copied()? {
            END => None,
            next => Some(Slot { partition: slot.partition, slot: next }),
        }
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// True without rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}
