//! Changes of the engine's voters, step by step.
//!
//! ```text
//!   {0 1 2} ──▶ {0 1 2} and {0 1 3} ──▶ {0 1 3}     two entries: joint, then uniform
//!                        └ a leader that dies here leaves it to the next one
//! ```

use crate::engine::EngineError;
use crate::machine::Machine;
use crate::types::{Types, Voters};
use openraft::errors::{ChangeMembershipError, ClientWriteError, Fatal, RaftError};
use openraft::{AsyncRuntime, ChangeMembers, EmptyNode, Raft};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Steps of one change: end an interrupted one, learners and voters, leave nodes out; and some
/// more, when somebody else changes something between.
const STEPS_MAX: usize = 8;

/// How long to wait before trying again to end an interrupted change, and how often.
const FINISH_WAIT: Duration = Duration::from_millis(20);
const FINISH_TRIES_MAX: usize = 500;

/// What there shall be.
pub(crate) struct Goal {
    pub(crate) voters: BTreeSet<u64>,
    pub(crate) learners: BTreeSet<u64>,
}

type Change = ChangeMembers<u64, EmptyNode>;

impl Goal {
    /// The next step from here, and whether voters that it takes out still follow.
    fn step_from(&self, current: &Voters) -> Option<(Change, bool)> {
        let nodes: BTreeSet<u64> = current.nodes().map(|(node, _)| *node).collect();
        let wanted: BTreeSet<u64> = self.voters.union(&self.learners).copied().collect();
        let missing = added(wanted.difference(&nodes));
        match current.get_joint_config().as_slice() {
            [voters] if *voters == self.voters && missing.is_empty() => {
                let extra: BTreeSet<u64> = nodes.difference(&wanted).copied().collect();
                (!extra.is_empty()).then_some((Change::RemoveNodes(extra), true))
            }
            [voters] if *voters == self.voters => Some((Change::AddNodes(missing), true)),
            [voters] => {
                let stays = voters.difference(&self.voters).any(|node| wanted.contains(node));
                let replace = Change::ReplaceAllVoters(self.voters.clone());
                Some((Change::Batch(vec![Change::AddNodes(missing), replace]), stays))
            }
            _ => Some((end_joint(), true)),
        }
    }
}

fn added<'a>(nodes: impl Iterator<Item = &'a u64>) -> BTreeMap<u64, EmptyNode> {
    nodes.map(|node| (*node, EmptyNode {})).collect()
}

/// No change, which the engine takes as the second step of a joint one.
fn end_joint() -> Change {
    Change::AddVoterIds(BTreeSet::new())
}

/// Makes changes, one at a time.
pub(crate) struct Changes<R: AsyncRuntime> {
    raft: Raft<Types<R>, Machine<R>>,
    busy: AtomicBool,
}

/// While it lives, nobody else makes a change.
struct Turn<'a>(&'a AtomicBool);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl<R: AsyncRuntime> Changes<R> {
    pub(crate) fn new(raft: Raft<Types<R>, Machine<R>>) -> Self {
        Self { raft, busy: AtomicBool::new(false) }
    }

    fn turn(&self) -> Result<Turn<'_>, EngineError> {
        if self.busy.swap(true, Ordering::AcqRel) {
            return Err(EngineError::InProgress);
        }
        Ok(Turn(&self.busy))
    }

    async fn current(&self) -> Result<Voters, EngineError> {
        let current =
            self.raft.with_raft_state(|s| s.membership_state.effective().membership().clone());
        current.await.map_err(stopped)
    }

    async fn step(&self, change: Change, stays: bool) -> Result<(), EngineError> {
        let done = self.raft.change_membership(change, stays).await;
        done.map(drop).map_err(refused)
    }

    pub(crate) async fn change(&self, goal: &Goal) -> Result<(), EngineError> {
        if goal.voters.is_empty() || !goal.voters.is_disjoint(&goal.learners) {
            let text = "there must be voters, and none of them is a learner";
            return Err(EngineError::Refused(text.to_owned()));
        }
        let _turn = self.turn()?;
        for _ in 0..STEPS_MAX {
            match goal.step_from(&self.current().await?) {
                Some((change, stays)) => self.step(change, stays).await?,
                None => return Ok(()),
            }
        }
        Err(EngineError::InProgress)
    }

    pub(crate) async fn add_learner(&self, node: u64) -> Result<(), EngineError> {
        let _turn = self.turn()?;
        if self.current().await?.get_node(&node).is_some() {
            return Ok(());
        }
        self.step(Change::AddNodes(added([node].iter())), true).await
    }

    /// Ends a joint change that a leader before began, if this node still leads and nobody else
    /// makes a change.
    async fn finish(&self) -> Result<(), EngineError> {
        let _turn = self.turn()?;
        for _ in 0..FINISH_TRIES_MAX {
            if self.current().await?.get_joint_config().len() < 2 {
                return Ok(());
            }
            match self.step(end_joint(), true).await {
                // Until the joint entry itself is committed.
                Err(EngineError::InProgress) => R::sleep(FINISH_WAIT).await,
                Err(error) => {
                    // Asking changes the engine's state, which brings the next try: a leader that
                    // hands over and refuses everything would be asked without end.
                    R::sleep(FINISH_WAIT).await;
                    return Err(error);
                }
                Ok(()) => return Ok(()),
            }
        }
        Err(EngineError::InProgress)
    }
}

/// Ends a joint change that nobody is at any more.
pub(crate) fn finish_interrupted<R: AsyncRuntime>(changes: &Arc<Changes<R>>) {
    if changes.busy.load(Ordering::Acquire) {
        return;
    }
    let changes = changes.clone();
    let finish = async move {
        // What fails is tried again when the engine's state changes next, by the leader of then.
        if let Err(error) = changes.finish().await {
            tracing::debug!(%error, "an interrupted change of voters is not ended yet");
        }
    };
    drop(R::spawn(finish));
}

fn stopped<R: AsyncRuntime>(error: Fatal<Types<R>>) -> EngineError {
    EngineError::Stopped(error.to_string())
}

fn refused<R: AsyncRuntime>(error: RaftError<Types<R>, ClientWriteError<Types<R>>>) -> EngineError {
    match error {
        RaftError::Fatal(error) => stopped(error),
        RaftError::APIError(
            ClientWriteError::ForwardToLeader(to) | ClientWriteError::LogEntryDiscarded(to),
        ) => EngineError::NotLeader(to.leader_id.and_then(|leader| u16::try_from(leader).ok())),
        RaftError::APIError(ClientWriteError::ChangeMembershipError(
            ChangeMembershipError::InProgress(_) | ChangeMembershipError::UncommittedLeaderLog(_),
        )) => EngineError::InProgress,
        RaftError::APIError(error) => EngineError::Refused(error.to_string()),
    }
}
