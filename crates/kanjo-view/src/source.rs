//! Where readers find blocks.

use kanjo_types::TransactionId;
use kanjo_types::stored::{Block, Location};
use std::sync::Arc;

/// The log could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LogError(pub String);

/// The log of final blocks, and the index that finds transactions in it.
pub trait LogSource: Send + Sync {
    /// Height of the newest final block.
    fn newest(&self) -> u64;

    /// The final block at a height, at most that of [`LogSource::newest`].
    ///
    /// # Errors
    /// [`LogError`] when it is not there or can't be read.
    fn block(&self, height: u64) -> Result<Arc<Block>, LogError>;

    /// Where a transaction stands; `None` when no final block holds it.
    ///
    /// # Errors
    /// [`LogError`] when the index can't be read, or is behind the newest block.
    fn find(&self, id: TransactionId) -> Result<Option<Location>, LogError>;
}
