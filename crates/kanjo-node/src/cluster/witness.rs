//! How a witness keeps what it takes from blocks (`kanjo_member::witness`), and gets it back.

use crate::background::{Copied, PartitionCopy};
use crate::blocks::Blocks;
use crate::restart::OpenLedgerError;
use borsh::{BorshDeserialize, BorshSerialize};
use kanjo_member::witness::made_in;
use kanjo_proof::trust::SignedHeader;
use kanjo_store::checkpoint::CheckpointStore;
use kanjo_types::membership::Membership;
use kanjo_types::{Genesis, codec};
use std::sync::Arc;

/// What it knows is kept where executors keep their first partition.
const PARTITION: u16 = 0;

/// What the checkpoint of a witness holds.
#[derive(BorshSerialize, BorshDeserialize)]
pub(crate) struct Memory {
    /// Transactions in all blocks up to its height.
    pub transactions: u64,
    /// Whose votes count above its height.
    pub membership: Membership,
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
