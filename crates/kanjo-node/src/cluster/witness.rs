//! What a witness keeps of the ledger: who the members are, and nothing else.
//!
//! A witness executes nothing and holds no balances (design, section 6), but it must know whose
//! votes count. It takes changes of the membership from the rows of the blocks in its log, once
//! those give the roots in the header, which the executors certify.

use crate::background::{Copied, PartitionCopy};
use crate::blocks::Blocks;
use crate::restart::OpenLedgerError;
use borsh::{BorshDeserialize, BorshSerialize};
use kanjo_ledger::block::roots_of;
use kanjo_proof::trust::SignedHeader;
use kanjo_store::checkpoint::CheckpointStore;
use kanjo_types::membership::Membership;
use kanjo_types::stored::Block;
use kanjo_types::{Genesis, Record, codec};
use std::sync::Arc;

/// A witness writes what it knows at least once in so many heights, so that a restart reads little.
pub(crate) const HEIGHTS_MAX: u64 = 8_192;
/// It is kept where executors keep their first partition.
const PARTITION: u16 = 0;

/// What the checkpoint of a witness holds.
#[derive(BorshSerialize, BorshDeserialize)]
pub(crate) struct Memory {
    /// Transactions in all blocks up to its height.
    pub transactions: u64,
    /// Whose votes count above its height.
    pub membership: Membership,
}

/// The rows of a block are not those that its header commits to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the rows of block {0} don't give the roots in its header")]
pub(crate) struct OtherRows(u64);

/// The membership that a block made, if it made one.
pub(crate) fn made_in(block: &Block) -> Result<Option<Arc<Membership>>, OtherRows> {
    let rows = block.entries.iter().flat_map(|entry| &entry.rows);
    let made = rows.filter_map(|row| match &row.record {
        Record::Membership(membership) => Some(membership),
        _ => None,
    });
    let Some(newest) = made.last() else { return Ok(None) };
    if roots_of(block).receipts != block.header.receipts_root {
        return Err(OtherRows(block.header.height));
    }
    Ok(Some(Arc::new((**newest).clone())))
}

/// What is to be kept when `height` is final.
pub(crate) fn copy(height: u64, transactions: u64, membership: Arc<Membership>) -> PartitionCopy {
    let content = Copied::Members(membership);
    PartitionCopy { partition: PARTITION, height, transactions, content }
}

/// What a witness knows at the end of its log.
pub(crate) struct Known {
    pub membership: Arc<Membership>,
    pub transactions: u64,
    pub last: SignedHeader,
}

/// From the newest checkpoint, then the log above it; nothing when not even the genesis is
/// certified.
pub(crate) fn restore(
    genesis: &Genesis,
    blocks: &Blocks,
    checkpoints: &CheckpointStore,
) -> Result<Option<Known>, OpenLedgerError> {
    let Some(tip) = blocks.next_height().checked_sub(1) else { return Ok(None) };
    let loaded = checkpoints.load_at_most(PARTITION, tip)?;
    let kept = loaded.checkpoint.and_then(|checkpoint| {
        let memory = codec::from_bytes::<Memory>(&checkpoint.payload);
        let memory = memory.inspect_err(|error| tracing::warn!(%error, "bad checkpoint"));
        Some((checkpoint.height, memory.ok()?))
    });
    let (from, mut known) = match kept {
        Some((height, memory)) => (height + 1, memory),
        None => (1, Memory { transactions: 0, membership: Membership::of_genesis(genesis) }),
    };
    let mut newest = Arc::new(known.membership);
    for height in from..=tip {
        let block = blocks.read(height)?;
        known.transactions += u64::from(block.header.transactions);
        let made = made_in(&block).map_err(|error| OpenLedgerError::History(error.to_string()))?;
        if let Some(made) = made {
            newest = made;
        }
    }
    let last = blocks.signed(tip)?;
    Ok(Some(Known { membership: newest, transactions: known.transactions, last }))
}
