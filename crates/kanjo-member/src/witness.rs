//! What a witness takes from blocks: who the members are, and nothing else.
//!
//! A witness executes nothing and holds no balances (design, section 6), but it must know whose
//! votes count. It takes changes of the membership from the rows of the blocks in its log, once
//! those give the roots in the header, which the executors certify.

use kanjo_ledger::block::roots_of;
use kanjo_types::Record;
use kanjo_types::membership::Membership;
use kanjo_types::stored::Block;
use std::sync::Arc;

/// A witness writes what it knows at least once in so many heights, so that a restart reads little.
pub const HEIGHTS_MAX: u64 = 8_192;

/// The rows of a block are not those that its header commits to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the rows of block {0} don't give the roots in its header")]
pub struct OtherRows(pub u64);

/// The membership that a block made, if it made one.
///
/// # Errors
/// [`OtherRows`] when its rows are not those of its header.
pub fn made_in(block: &Block) -> Result<Option<Arc<Membership>>, OtherRows> {
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
