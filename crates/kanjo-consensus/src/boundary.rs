//! What the engine asks of the node around it.

use crate::entry::{Content, EntryHead};
use kanjo_link::bus::BoxFuture;
use kanjo_types::hash::Hash;

/// A proposal to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProposalRequest {
    /// Term of the leader.
    pub term: u64,
    /// Height of the entry.
    pub height: u64,
    /// [`Content::digest`](crate::entry::Content::digest).
    pub content: Hash,
}

/// No signatures came.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotaryError {
    /// The sentinel has signed another proposal for this term and height.
    #[error("the sentinel refuses: {0}")]
    Refused(String),
    /// The sentinel can't be reached.
    #[error("the sentinel can't be reached: {0}")]
    Unreachable(String),
}

/// Signs what this node proposes as leader: its sentinel.
///
/// An error ends the engine, because a leader that can't sign must not lead: retry inside, and give
/// up late. While it is asked, the engine sends no heartbeats, so others take over soon.
pub trait Notary: Send + Sync {
    /// Signs [`proposal_digest`](kanjo_types::block::proposal_digest) of each request, in order.
    fn sign(
        &self,
        requests: Vec<ProposalRequest>,
    ) -> BoxFuture<'static, Result<Vec<[u8; 64]>, NotaryError>>;

    /// Does it wait for a sentinel that is away? The engine stands still meanwhile, so calls of
    /// other nodes are refused at once instead of piling up.
    fn waits(&self) -> bool {
        false
    }
}

/// Says whether the entries that another node sends may be appended.
pub trait ProposalCheck: Send + Sync {
    /// `from` is the leader that sends, which need not be the proposer.
    ///
    /// # Errors
    /// Why the entry must not be appended.
    fn check(&self, from: u16, entry: &EntryHead) -> Result<(), String>;
}

/// An entry that will never change again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedEntry {
    /// Its height.
    pub index: u64,
    /// Term of the leader that wrote it.
    pub term: u64,
    /// Number of the member that proposed it.
    pub proposer: u16,
    /// Of the proposer's sentinel; the challenge of the height comes from it.
    pub signature: [u8; 64],
    /// What it holds.
    pub content: Content,
}

/// Takes committed entries.
pub trait Sink: Send + Sync {
    /// Called for each committed entry in the order of heights, the first one above `applied` of
    /// [`Engine::start`](crate::engine::Engine::start). The engine waits for the future before it
    /// gives the next, so that a slow receiver bounds what waits.
    fn committed(&self, entry: CommittedEntry) -> BoxFuture<'static, ()>;
}
