//! Whose turn it is: what the operations of one transaction are executed with.

use crate::ledger::BlockContext;
use kanjo_types::{Hash, TransactionId, UserId};

/// A transaction at its turn.
#[derive(Clone, Copy)]
pub(crate) struct Turn<'a> {
    pub block: BlockContext,
    /// Id of the transaction: ids of what it makes follow from it.
    pub id: TransactionId,
    /// Position of the operation under way.
    pub number: u32,
    pub author: UserId,
    /// Who signed beside the author.
    pub parties: &'a [UserId],
    /// Header hashes of blocks that evidence refers to, by ascending height.
    pub headers: &'a [(u64, Hash)],
}

impl Turn<'_> {
    /// Did the user sign?
    pub(crate) fn signed_by(&self, user: &UserId) -> bool {
        self.author == *user || self.parties.contains(user)
    }

    pub(crate) fn time_ms(&self) -> u64 {
        self.block.time_ms
    }

    /// All who signed, the author first.
    pub(crate) fn signers(&self) -> impl Iterator<Item = UserId> + '_ {
        std::iter::once(self.author).chain(self.parties.iter().copied())
    }
}
