//! Everything of Kanjo that touches the disk.
//!
//! ```text
//!            blocks, in groups                       behind the log, any time later
//! commit ──▶ log::BlockLog ── one write, one sync ──▶ checkpoint::CheckpointStore (state)
//!                 │                                └▶ index::Index (lookups)
//!                 └─▶ log::LogReader (restart, look-ups, audit)
//! vote ────▶ slots::SlotFile ── one write, one sync
//! ```
//!
//! The crate knows nothing of payments: a block is a height, a header hash and bytes. It depends on
//! no other Kanjo crate; `kanjo-node` joins it with the ledger. In a cluster the block log is the
//! log of the consensus engine too, which may take back what it has not committed
//! ([`log::BlockLog::truncate_after`]); a [`slots::SlotFile`] holds what a voter must not forget.
//!
//! Invariants:
//! - The block log is the only truth, and the only synchronous write beside the votes.
//!   Checkpoints and indexes can be deleted at any time; they are rebuilt from the log.
//! - What was acknowledged (an append that returned `Ok`) is read back identical or refused
//!   with an error that names file, offset and height. It is never altered, and never dropped
//!   unless the caller truncates the log.
//! - After a write or sync has failed, the log accepts nothing until it is opened again.
//! - All I/O of log, slots and checkpoints goes through [`disk::Disk`], so [`faults::FaultyDisk`]
//!   can fail any of it, and replay any failure from a seed.
//!
//! The formats are drawn to the byte in `docs/format-storage.md`.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod bytes;
pub mod checkpoint;
pub mod disk;
pub mod faults;
pub mod index;
pub mod log;
pub mod slots;

/// The hash that identifies a chain: that of its genesis.
pub type ChainId = [u8; 32];

/// The hash of a block header.
pub type HeaderHash = [u8; 32];

/// A block to append: borrowed, opaque.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockRef<'a> {
    /// Its height; consecutive over the log.
    pub height: u64,
    /// The hash of its header, kept in the sidecars for a fast start.
    pub header_hash: HeaderHash,
    /// Everything else.
    pub bytes: &'a [u8],
}

/// A block read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Its height.
    pub height: u64,
    /// The hash of its header.
    pub header_hash: HeaderHash,
    /// Its bytes, as appended.
    pub bytes: Vec<u8>,
}

impl Block {
    /// The block, borrowed.
    pub fn as_ref(&self) -> BlockRef<'_> {
        BlockRef { height: self.height, header_hash: self.header_hash, bytes: &self.bytes }
    }
}
