//! What the tests of the log share.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use kanjo_store::disk::Disk;
use kanjo_store::faults::{FaultyDisk, SeededRng};
use kanjo_store::log::{AppendError, BlockLog, LogOptions, OpenError, OpenReport};
use kanjo_store::{Block, BlockRef};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub const CHAIN: [u8; 32] = [7; 32];
pub const DIR: &str = "data/log";

pub fn options(segment_bytes: u64) -> LogOptions {
    LogOptions { segment_bytes, first_height: 0 }
}

pub fn open(disk: &FaultyDisk, segment_bytes: u64) -> Result<(BlockLog, OpenReport), OpenError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    BlockLog::open(disk, Path::new(DIR), CHAIN, options(segment_bytes))
}

/// A block whose content follows from its height; some are long, some full of zeros.
pub fn block(height: u64, salt: u64) -> Block {
    let mut rng = SeededRng::new(height ^ (salt << 32));
    let len_max = if rng.below(4) == 0 { 2_500 } else { 300 };
    let len = rng.below(len_max) as usize;
    let zeros = rng.below(4) == 0;
    let byte = |rng: &mut SeededRng| if zeros { 0 } else { rng.next_u64() as u8 };
    let bytes = (0..len).map(|_| byte(&mut rng)).collect();
    let mut header_hash = [0; 32];
    header_hash[..8].copy_from_slice(&rng.next_u64().to_le_bytes());
    Block { height, header_hash, bytes }
}

pub fn group(first: u64, count: u64, salt: u64) -> Vec<Block> {
    (first..first + count).map(|height| block(height, salt)).collect()
}

pub fn append(log: &mut BlockLog, blocks: &[Block]) -> Result<(), AppendError> {
    let refs: Vec<BlockRef<'_>> = blocks.iter().map(Block::as_ref).collect();
    log.append(&refs).map(|locations| assert_eq!(locations.len(), blocks.len()))
}

/// The log must hold exactly these blocks.
pub fn assert_holds(log: &BlockLog, blocks: &[Block], context: &str) {
    assert_eq!(log.next_height(), blocks.len() as u64, "{context}: next height");
    let read: Vec<Block> = log.iter_from(0).map(|b| b.expect(context)).collect();
    assert!(read == blocks, "{context}: the blocks read back differ");
    let hashes = log.header_hashes(0..u64::MAX).expect(context);
    assert!(hashes.iter().eq(blocks.iter().map(|b| &b.header_hash)), "{context}: header hashes");
}

pub fn segment_path(height: u64) -> PathBuf {
    Path::new(DIR).join(format!("{height:020}.seg"))
}

pub fn sidecar_path(height: u64) -> PathBuf {
    Path::new(DIR).join(format!("{height:020}.idx"))
}
