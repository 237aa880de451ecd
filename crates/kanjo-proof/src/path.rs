//! The way from one row to the state root of a header.

use crate::merkle::{self, MerkleError};
use crate::state::{Leaf, TREES, partition_root, tree_depth, tree_index};
use crate::{lanes, state};
use borsh::{BorshDeserialize, BorshSerialize};
use kanjo_types::{Hash, Table};
use serde::{Deserialize, Serialize};

/// Where a leaf is, and the digests beside its way up to the state root.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct StatePath {
    /// Table of the row.
    pub table: Table,
    /// Partition of the row: 0 … 63.
    pub partition: u16,
    /// Slot of the leaf: 0 is the bound leaf, rows have 1, 2, … in order of creation.
    pub slot: u32,
    /// Leaves of the partition, the bound leaf included: 1 … 2³².
    pub leaves: u64,
    /// BLAKE3 digests beside the way to the partition's tree root, lowest first: one for each
    /// level.
    pub siblings: Vec<Hash>,
    /// RFC 6962 path of the partition root among the 1,024 of all tables, lowest first: ten hashes.
    pub partitions: Vec<Hash>,
}

/// A path that fits no state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StatePathError {
    /// There are 64.
    #[error("partition {0}; partitions are 0 to 63")]
    Partition(u16),
    /// None, or more than there are slots.
    #[error("a partition of {0} leaves; a partition has 1 to 2^32")]
    Leaves(u64),
    /// The slot is outside the partition.
    #[error("slot {slot} in a partition of {leaves} leaves; slots are 0 to the number less 1")]
    Slot {
        /// Given slot.
        slot: u32,
        /// Given number of leaves.
        leaves: u64,
    },
    /// Not one digest for each level.
    #[error("{found} digests in the partition's tree; {leaves} leaves make {needed} levels")]
    Depth {
        /// Digests given.
        found: usize,
        /// Given number of leaves.
        leaves: u64,
        /// Digests needed.
        needed: u32,
    },
    /// The part above the partition root.
    #[error("among the partition roots: {0}")]
    Partitions(#[from] MerkleError),
}

impl StatePath {
    /// The state root that follows when this place holds `leaf`.
    ///
    /// # Errors
    /// [`StatePathError`] when the place or the number of digests fits no state.
    pub fn root(&self, leaf: &Leaf) -> Result<Hash, StatePathError> {
        let tree = tree_index(self.table, self.partition)
            .ok_or(StatePathError::Partition(self.partition))?;
        if !(1..=state::LEAVES_MAX).contains(&self.leaves) {
            return Err(StatePathError::Leaves(self.leaves));
        }
        if u64::from(self.slot) >= self.leaves {
            return Err(StatePathError::Slot { slot: self.slot, leaves: self.leaves });
        }
        let needed = tree_depth(self.leaves);
        if self.siblings.len() != needed as usize {
            let found = self.siblings.len();
            return Err(StatePathError::Depth { found, leaves: self.leaves, needed });
        }
        let mut digest = leaf.digest(self.table, self.partition).0;
        let mut bits = self.slot;
        for sibling in &self.siblings {
            digest = if bits & 1 == 0 {
                lanes::hash_node(&digest, &sibling.0)
            } else {
                lanes::hash_node(&sibling.0, &digest)
            };
            bits >>= 1;
        }
        let root = partition_root(self.table, self.partition, self.leaves, &Hash(digest));
        let over_all = merkle::root_from_path(root, tree as u64, TREES as u64, &self.partitions)?;
        Ok(state::state_root(&over_all))
    }
}
