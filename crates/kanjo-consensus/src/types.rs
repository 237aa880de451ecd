//! The engine's type parameters, for any runtime.

use crate::entry::{Entry, Proposal};
use openraft::impls::{BoxedErrorSource, InlineBatch, ProgressResponder};
use openraft::vote::leader_id_std;
use openraft::{AsyncRuntime, EmptyNode, EntryPayload, LogId, OptionalSend, RaftTypeConfig};
use std::marker::PhantomData;

/// Types of the engine over the runtime `R`: [`openraft_rt_tokio::TokioRuntime`] in production,
/// `openraft_rt_sim::SimRuntime` in simulation.
pub struct Types<R>(PhantomData<fn() -> R>);

/// Which leader wrote an entry: its term, because a term has one leader at most.
pub type Leader = leader_id_std::CommittedLeaderId<u64>;
/// Term and index of an entry.
pub type EntryId = LogId<Leader>;
/// Voters of the engine, one set or two while they change, and learners.
pub type Voters = openraft::Membership<u64, EmptyNode>;
/// The voters and the entry that made them so.
pub type StoredVoters = openraft::StoredMembership<Leader, u64, EmptyNode>;
/// A vote for a leader.
pub type LeaderVote = openraft::Vote<leader_id_std::LeaderId<u64, u64>>;

impl<R: AsyncRuntime> RaftTypeConfig for Types<R> {
    type D = Proposal;
    type R = ();
    type NodeId = u64;
    type Node = EmptyNode;
    type Term = u64;
    type LeaderId = leader_id_std::LeaderId<u64, u64>;
    type Vote = LeaderVote;
    type Payload = EntryPayload<Proposal, u64, EmptyNode>;
    type Entry = Entry;
    type AsyncRuntime = R;
    type Responder<T>
        = ProgressResponder<Self, T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = BoxedErrorSource;
}

/// The id of an entry.
#[must_use]
pub fn entry_id(term: u64, index: u64) -> EntryId {
    EntryId::new(Leader::new(term), index)
}

// Derived impls would ask the same of `R`, which is only a name here.
impl<R> Clone for Types<R> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<R> Copy for Types<R> {}
impl<R> Default for Types<R> {
    fn default() -> Self {
        Self(PhantomData)
    }
}
impl<R> std::fmt::Debug for Types<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Types")
    }
}
impl<R> PartialEq for Types<R> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl<R> Eq for Types<R> {}
impl<R> PartialOrd for Types<R> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<R> Ord for Types<R> {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}
