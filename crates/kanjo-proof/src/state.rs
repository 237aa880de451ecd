//! The state commitment: 17 tables × 64 partitions, each an *indexed Merkle tree*.
//!
//! ```text
//! state root       SHA-256("kanjo/state/1" ‖ RFC 6962 root over 2,048 partition roots)
//!                     order: (table, partition) = (0,0) (0,1) … (0,63) (1,0) … (31,63);
//!                     there are no tables 17 … 31: their roots are 32 zero bytes
//! partition root   SHA-256("kanjo/part/1" ‖ table u8 ‖ partition u16 ‖ leaves u64 ‖ tree root)
//! tree root        depth = smallest d with 2^d ≥ leaves;  absent leaves are 32 zero bytes
//!                        ·
//!                     /     \           node = BLAKE3(node key; left ‖ right)
//!                   ·         ·
//!                 /   \     /   \
//! slot           0     1   2     3      leaf = BLAKE3(leaf key; key ‖ next ‖ row ‖ place)
//! key           MIN    k   c     t      place = table u8 ‖ partition u16 ‖ 29 zero bytes
//! next           c     t   k    MAX     integers little-endian
//! ```
//! Slot 0 is the *bound leaf*; rows take the slots 1, 2, … in the order in which they were made and
//! keep them. `next` is the next key of the partition, so the leaves are also a list by ascending
//! key: one leaf with `key < x < next` proves that there is no `x`, and a run of leaves linked by
//! `next` is complete.
//!
//! # Cost
//! A change of a row touches one leaf, a new row two (its own and the one that pointed past it).
//! The dirty leaves of a whole block are hashed together, then the dirty nodes of each level over
//! all partitions together, so that the vector lanes are full ([`StateTree::update`]).
//!
//! # Invariants
//! - Level `k` of a tree holds ⌈leaves / 2^k⌉ digests, padded to whole pairs with the digest of the
//!   empty subtree, so every inner node's 64 input bytes lie side by side in one cache line.
//! - Roots are up to date after every call.
//! - The tree does not know keys: that `next` really is the next key is the ledger's duty.

use crate::lanes::{self, BATCH, LEAF_BYTES, NODE_BYTES};
use crate::merkle;
use crate::path::StatePath;
use borsh::{BorshDeserialize, BorshSerialize};
use kanjo_types::hash::{TAG_PARTITION, TAG_STATE, digest};
use kanjo_types::record::{PARTITIONS, RowKey};
use kanjo_types::{Hash, Table};
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;

/// Places for trees in a state: one for each partition of 32 tables. Partitions of the tables
/// that there are not (17 … 31) have the zero root.
pub const TREES: usize = 32 * PARTITIONS;
/// Most leaves of a partition: slots have 32 bits.
pub const LEAVES_MAX: u64 = 1 << 32;
const LEVELS_MAX: usize = 33;
/// A loader that promises more leaves than this gets the room as they come.
const PAIRS_RESERVED_MAX: usize = 1 << 24;

// The partition roots form a complete tree with room for every table.
const _: () = assert!(TREES.is_power_of_two() && Table::ALL.len() * PARTITIONS <= TREES);
const _: () = assert!(1u64 << (LEVELS_MAX - 1) == LEAVES_MAX);

/// What the tree commits about a row.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct Leaf {
    /// Key of the row; [`RowKey::MIN`] in the bound leaf.
    pub key: RowKey,
    /// The next larger key of the partition; [`RowKey::MAX`] in the leaf of the largest.
    pub next: RowKey,
    /// Hash of the current version of the row; zero in the bound leaf.
    pub row: Hash,
}

impl Leaf {
    /// The bound leaf of a partition whose smallest key is `first` ([`RowKey::MAX`] when it has no
    /// rows).
    #[must_use]
    pub fn bound(first: RowKey) -> Self {
        Self { key: RowKey::MIN, next: first, row: Hash::ZERO }
    }

    /// Digest of this leaf in a partition of a table.
    #[must_use]
    pub fn digest(&self, table: Table, partition: u16) -> Hash {
        Hash(lanes::hash_leaf(&self.bytes(table as u8, partition)))
    }

    fn bytes(&self, table: u8, partition: u16) -> [u8; LEAF_BYTES] {
        let mut place = [0u8; 32];
        let [low, high] = partition.to_le_bytes();
        place.iter_mut().zip([table, low, high]).for_each(|(to, from)| *to = from);
        let mut bytes = [0u8; LEAF_BYTES];
        let (chunks, _) = bytes.as_chunks_mut::<32>();
        let parts = [&self.key.0.0, &self.next.0.0, &self.row.0, &place];
        chunks.iter_mut().zip(parts).for_each(|(to, from)| *to = *from);
        bytes
    }
}

/// A leaf that is new or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeafUpdate {
    /// Table of the row.
    pub table: Table,
    /// Partition of the row.
    pub partition: u16,
    /// Slot of the row: an existing one, or the next free one.
    pub slot: u32,
    /// What the slot holds from now on.
    pub leaf: Leaf,
}

/// Levels above the leaves of a tree of `leaves` ≥ 1 leaves.
pub(crate) fn tree_depth(leaves: u64) -> u32 {
    u64::BITS - leaves.saturating_sub(1).leading_zeros()
}

/// Position of a partition of a table among all trees; `None` above 63.
pub(crate) fn tree_index(table: Table, partition: u16) -> Option<usize> {
    let partition = usize::from(partition);
    (partition < PARTITIONS).then(|| table as usize * PARTITIONS + partition)
}

fn place_of(tree: usize) -> (Table, u16) {
    let table = Table::ALL.get(tree / PARTITIONS).copied().unwrap_or(Table::WalletStates);
    (table, u16::try_from(tree % PARTITIONS).unwrap_or(0))
}

/// Root of a partition of a table.
#[must_use]
pub fn partition_root(table: Table, partition: u16, leaves: u64, tree_root: &Hash) -> Hash {
    let place = [&[table as u8][..], &partition.to_le_bytes(), &leaves.to_le_bytes()];
    let [table, partition, leaves] = place;
    digest(TAG_PARTITION, &[table, partition, leaves, &tree_root.0])
}

/// State root above the RFC 6962 root of all partition roots.
#[must_use]
pub fn state_root(over_partitions: &Hash) -> Hash {
    digest(TAG_STATE, &[&over_partitions.0])
}

/// Digests of empty subtrees, by level.
static EMPTY: LazyLock<[[u8; 32]; LEVELS_MAX]> = LazyLock::new(|| {
    let mut levels = [[0u8; 32]; LEVELS_MAX];
    let mut below = [0u8; 32];
    for level in levels.iter_mut().skip(1) {
        below = lanes::hash_node(&below, &below);
        *level = below;
    }
    levels
});

/// Digest of a subtree without leaves, `level` levels above the leaves (0 … 32).
#[must_use]
pub fn empty_subtree(level: usize) -> Hash {
    Hash(EMPTY.get(level).copied().unwrap_or_default())
}

/// Two neighbours on a level: the input of the node above them.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Pair([[u8; 32]; 2]);

impl Pair {
    fn empty(level: usize) -> Self {
        Self([empty_subtree(level).0; 2])
    }

    fn get(&self, node: u64) -> [u8; 32] {
        let [left, right] = self.0;
        if node & 1 == 0 { left } else { right }
    }

    fn set(&mut self, node: u64, digest: [u8; 32]) {
        let [left, right] = &mut self.0;
        if node & 1 == 0 {
            *left = digest;
        } else {
            *right = digest;
        }
    }

    fn bytes(&self) -> &[u8; NODE_BYTES] {
        static ZERO: [u8; NODE_BYTES] = [0; NODE_BYTES];
        self.0.as_flattened().first_chunk().unwrap_or(&ZERO)
    }
}

/// One tree.
#[derive(Clone, Default)]
struct Partition {
    leaves: u64,
    levels: Vec<Vec<Pair>>,
}

impl Partition {
    fn depth(&self) -> usize {
        tree_depth(self.leaves) as usize
    }

    fn get(&self, level: usize, node: u64) -> Option<[u8; 32]> {
        let pair = usize::try_from(node / 2).ok()?;
        self.levels.get(level)?.get(pair).map(|pair| pair.get(node))
    }

    fn set(&mut self, level: usize, node: u64, digest: [u8; 32]) {
        let position = usize::try_from(node / 2).unwrap_or(usize::MAX);
        if self.levels.len() <= level {
            self.levels.resize_with(level + 1, Vec::new);
        }
        let Some(pairs) = self.levels.get_mut(level) else { return };
        if let Some(pair) = pairs.get_mut(position) {
            pair.set(node, digest);
        } else {
            assert!(position == pairs.len(), "levels grow without gaps");
            let mut pair = Pair::empty(level);
            pair.set(node, digest);
            pairs.push(pair);
        }
    }

    fn tree_root(&self) -> Hash {
        Hash(self.get(self.depth(), 0).unwrap_or_default())
    }

    /// Builds a tree from all its leaves, in order of slots.
    fn build(table: Table, partition: u16, leaves: impl Iterator<Item = Leaf>) -> Self {
        let mut digests = Digests::default();
        let mut batch = Vec::with_capacity(BATCH);
        let mut leaves = leaves.fuse();
        let at_least = leaves.size_hint().0.div_ceil(2);
        digests.pairs.reserve_exact(at_least.min(PAIRS_RESERVED_MAX));
        loop {
            batch.clear();
            let taken = leaves.by_ref().take(BATCH);
            batch.extend(taken.map(|leaf| leaf.bytes(table as u8, partition)));
            if batch.is_empty() {
                break;
            }
            digests.leaves(&batch);
        }
        let count = digests.count;
        assert!((1..=LEAVES_MAX).contains(&count), "a partition has 1 to 2^32 leaves");
        let mut levels = vec![digests.pairs];
        for level in 1..=tree_depth(count) as usize {
            let below = levels.last().map_or(&[][..], Vec::as_slice);
            let mut digests = Digests { level, ..Digests::default() };
            digests.pairs.reserve_exact(below.len().div_ceil(2));
            below.chunks(BATCH).for_each(|pairs| digests.nodes(pairs));
            levels.push(digests.pairs);
        }
        Self { leaves: count, levels }
    }
}

/// A level under construction.
#[derive(Default)]
struct Digests {
    level: usize,
    count: u64,
    pairs: Vec<Pair>,
}

impl Digests {
    fn leaves(&mut self, inputs: &[[u8; LEAF_BYTES]]) {
        let mut refs = [&[0u8; LEAF_BYTES]; BATCH];
        refs.iter_mut().zip(inputs).for_each(|(to, from)| *to = from);
        let mut out = [[0u8; 32]; BATCH];
        lanes::hash_leaves(refs.get(..inputs.len()).unwrap_or_default(), &mut out);
        self.append(out.get(..inputs.len()).unwrap_or_default());
    }

    fn nodes(&mut self, below: &[Pair]) {
        let mut refs = [&[0u8; NODE_BYTES]; BATCH];
        refs.iter_mut().zip(below).for_each(|(to, from)| *to = from.bytes());
        let mut out = [[0u8; 32]; BATCH];
        lanes::hash_nodes(refs.get(..below.len()).unwrap_or_default(), &mut out);
        self.append(out.get(..below.len()).unwrap_or_default());
    }

    /// Only the last call may have an odd number of digests.
    fn append(&mut self, digests: &[[u8; 32]]) {
        let (pairs, last) = digests.as_chunks::<2>();
        self.pairs.extend(pairs.iter().map(|pair| Pair(*pair)));
        if let [digest] = last {
            let mut pair = Pair::empty(self.level);
            pair.set(0, *digest);
            self.pairs.push(pair);
        }
        self.count += digests.len() as u64;
    }
}

/// A node of some tree: the tree above 32 bits of position. Sorts by (tree, position).
fn node_id(tree: usize, node: u64) -> u64 {
    (tree as u64) << 32 | node
}

fn tree_and_node(id: u64) -> (usize, u64) {
    ((id >> 32) as usize, id & 0xffff_ffff)
}

fn parent(id: u64) -> u64 {
    let (tree, node) = tree_and_node(id);
    node_id(tree, node / 2)
}

/// The trees of all partitions of all tables.
#[derive(Clone)]
pub struct StateTree {
    partitions: Vec<Partition>,
    /// The RFC 6962 tree over the partition roots, as a heap: node 1 is its root, nodes 2n and 2n +
    /// 1 are below node n, and the digest of the leaf of tree t is node 1,024 + t.
    top: Vec<Hash>,
    root: Hash,
}

impl std::fmt::Debug for StateTree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StateTree({})", self.root)
    }
}

impl Default for StateTree {
    fn default() -> Self {
        Self::new()
    }
}

impl StateTree {
    /// The state without rows: every partition has its bound leaf alone.
    #[must_use]
    pub fn new() -> Self {
        let partitions = (0..Table::ALL.len() * PARTITIONS)
            .map(|tree| {
                let (table, partition) = place_of(tree);
                Partition::build(table, partition, std::iter::once(Leaf::bound(RowKey::MAX)))
            })
            .collect();
        let mut state = Self { partitions, top: vec![Hash::ZERO; 2 * TREES], root: Hash::ZERO };
        state.refresh_top((0..TREES).collect());
        state
    }

    /// The root that goes into the header.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.root
    }

    /// Leaves of a partition, the bound leaf included; so also its next free slot. 0 above
    /// partition 63.
    #[must_use]
    pub fn leaves(&self, table: Table, partition: u16) -> u64 {
        let tree = tree_index(table, partition).and_then(|tree| self.partitions.get(tree));
        tree.map_or(0, |partition| partition.leaves)
    }

    /// Root of a partition, as it goes into the state root; `None` above partition 63.
    #[must_use]
    pub fn partition_root(&self, table: Table, partition: u16) -> Option<Hash> {
        let held = tree_index(table, partition).and_then(|tree| self.partitions.get(tree))?;
        Some(partition_root(table, partition, held.leaves, &held.tree_root()))
    }

    /// The node of the state tree above all partitions of a table.
    #[must_use]
    pub fn table_root(&self, table: Table) -> Hash {
        self.top.get(TREES / PARTITIONS + table as usize).copied().unwrap_or_default()
    }

    /// Sets the leaves of one block, in any order, and brings all roots up to date.
    ///
    /// # Panics
    /// When a slot is given twice, when new slots leave a gap after the existing ones, or
    /// when a partition is above 63: the caller's books are wrong, and a root over them must not go
    /// into a header.
    pub fn update(&mut self, updates: &[LeafUpdate]) {
        let mut dirty = self.set_leaves(updates);
        let mut touched: Vec<usize> = dirty.iter().map(|id| tree_and_node(*id).0).collect();
        touched.dedup();
        for level in 0..LEVELS_MAX - 1 {
            let partitions = &self.partitions;
            dirty.retain(|id| {
                let (tree, _) = tree_and_node(*id);
                partitions.get(tree).is_some_and(|partition| partition.depth() > level)
            });
            if dirty.is_empty() {
                break;
            }
            dirty.iter_mut().for_each(|id| *id = parent(*id));
            dirty.dedup();
            dirty.chunks(BATCH).for_each(|nodes| self.refresh_nodes(level + 1, nodes));
        }
        self.refresh_top(touched);
    }

    /// Hashes and stores leaves; gives back their node ids in ascending order.
    fn set_leaves(&mut self, updates: &[LeafUpdate]) -> Vec<u64> {
        let mut order: Vec<(u64, &LeafUpdate)> = Vec::with_capacity(updates.len());
        for update in updates {
            let tree = tree_index(update.table, update.partition);
            assert!(tree.is_some(), "partition {} is above 63", update.partition);
            order.push((node_id(tree.unwrap_or(0), u64::from(update.slot)), update));
        }
        order.sort_unstable_by_key(|(id, _)| *id);
        let distinct = order.is_sorted_by(|(a, _), (b, _)| a < b);
        assert!(distinct, "a slot is updated once in a block");
        let mut bytes = [[0u8; LEAF_BYTES]; BATCH];
        let mut out = [[0u8; 32]; BATCH];
        for batch in order.chunks(BATCH) {
            for (to, (_, update)) in bytes.iter_mut().zip(batch) {
                *to = update.leaf.bytes(update.table as u8, update.partition);
            }
            let mut refs = [&[0u8; LEAF_BYTES]; BATCH];
            refs.iter_mut().zip(&bytes).for_each(|(to, from)| *to = from);
            lanes::hash_leaves(refs.get(..batch.len()).unwrap_or_default(), &mut out);
            for ((id, _), digest) in batch.iter().zip(out) {
                let (tree, slot) = tree_and_node(*id);
                let Some(partition) = self.partitions.get_mut(tree) else { continue };
                assert!(slot <= partition.leaves, "slots are taken without gaps");
                partition.leaves = partition.leaves.max(slot + 1);
                partition.set(0, slot, digest);
            }
        }
        order.into_iter().map(|(id, _)| id).collect()
    }

    /// Recomputes nodes of one level, at most [`BATCH`], from the pairs below them.
    fn refresh_nodes(&mut self, level: usize, nodes: &[u64]) {
        let mut out = [[0u8; 32]; BATCH];
        let mut inputs = [&[0u8; NODE_BYTES]; BATCH];
        for (input, id) in inputs.iter_mut().zip(nodes) {
            let (tree, node) = tree_and_node(*id);
            let pair = self
                .partitions
                .get(tree)
                .and_then(|partition| partition.levels.get(level - 1))
                .and_then(|pairs| pairs.get(usize::try_from(node).ok()?));
            assert!(pair.is_some(), "a dirty node has something below it");
            if let Some(pair) = pair {
                *input = pair.bytes();
            }
        }
        lanes::hash_nodes(inputs.get(..nodes.len()).unwrap_or_default(), &mut out);
        for (id, digest) in nodes.iter().zip(out) {
            let (tree, node) = tree_and_node(*id);
            if let Some(partition) = self.partitions.get_mut(tree) {
                partition.set(level, node, digest);
            }
        }
    }

    /// Recomputes the partition roots of `trees` (ascending), what is above them, and the state
    /// root.
    fn refresh_top(&mut self, trees: Vec<usize>) {
        let mut dirty = trees;
        for position in &mut dirty {
            let (table, number) = place_of(*position);
            let root = self.partitions.get(*position).map_or(Hash::ZERO, |partition| {
                partition_root(table, number, partition.leaves, &partition.tree_root())
            });
            *position += TREES;
            if let Some(place) = self.top.get_mut(*position) {
                *place = merkle::leaf(&root);
            }
        }
        while dirty.first().is_some_and(|position| *position > 1) {
            dirty.iter_mut().for_each(|position| *position /= 2);
            dirty.dedup();
            for position in &dirty {
                let below = (self.top.get(2 * position), self.top.get(2 * position + 1));
                let (Some(left), Some(right)) = below else { continue };
                let digest = merkle::node(left, right);
                if let Some(place) = self.top.get_mut(*position) {
                    *place = digest;
                }
            }
        }
        self.root = state_root(&self.top.get(1).copied().unwrap_or_default());
    }

    /// Replaces a partition by all its leaves, the bound leaf first, then rows in order of slots
    /// (restart).
    ///
    /// # Panics
    /// When there is no leaf, more than 2³², or the partition is above 63.
    pub fn load_partition(
        &mut self,
        table: Table,
        partition: u16,
        leaves: impl Iterator<Item = Leaf>,
    ) {
        let tree = tree_index(table, partition);
        let place = tree.and_then(|tree| self.partitions.get_mut(tree));
        assert!(place.is_some(), "partition {partition} is above 63");
        if let Some(place) = place {
            *place = Partition::build(table, partition, leaves);
        }
        self.refresh_top(tree.into_iter().collect());
    }

    /// The way from a slot to the state root; `None` when there is no such slot.
    #[must_use]
    pub fn path(&self, table: Table, partition: u16, slot: u32) -> Option<StatePath> {
        let tree = tree_index(table, partition)?;
        let held = self.partitions.get(tree)?;
        if u64::from(slot) >= held.leaves {
            return None;
        }
        let siblings = (0..held.depth())
            .map(|level| held.get(level, (u64::from(slot) >> level) ^ 1).map(Hash))
            .collect::<Option<Vec<Hash>>>()?;
        let mut partitions = Vec::with_capacity(TREES.ilog2() as usize);
        let mut position = TREES + tree;
        while position > 1 {
            partitions.push(*self.top.get(position ^ 1)?);
            position /= 2;
        }
        let leaves = held.leaves;
        Some(StatePath { table, partition, slot, leaves, siblings, partitions })
    }

    /// Bytes of memory held.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let pairs = |partition: &Partition| -> usize {
            partition.levels.iter().map(|level| level.capacity() * size_of::<Pair>()).sum()
        };
        let trees: usize = self.partitions.iter().map(pairs).sum();
        trees + self.top.capacity() * size_of::<Hash>()
    }
}
