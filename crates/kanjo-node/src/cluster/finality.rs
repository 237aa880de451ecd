//! The thread that makes blocks final, by the rules of `kanjo_member::finality`.
//!
//! ```text
//!   sealer ── Sealed ─┐      ┌─▶ engine: propose (blocks made here)
//!   engine ─ Committed┼─▶ ■ ─┼─▶ replayer (blocks made elsewhere) ─▶ sequencer ─▶ sealer
//!   signer ── Signed ─┤      ├─▶ signer: vote, once committed and executed
//!   bus ───── Ballot ─┘      └─▶ release, once certified: answers, streams; keeper: certificates
//! ```
//! It never waits for another stage, so that no circle of stages can stand still.

use crate::cluster::ClusterState;
use crate::cluster::replayer::ToReplay;
use crate::cluster::signing::ToSign;
use crate::flow::Flow;
use crate::metrics::Stage;
use crate::release::Release;
use crate::sealer::Sealed;
use crate::shared::{Shared, ToSequencer};
use bytes::Bytes;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use kanjo_consensus::boundary::CommittedEntry;
use kanjo_consensus::vote::SignedVote;
use kanjo_member::finality::{
    Action, Batch, ExecutedBlock, Failure, Finality, Input, Surroundings, VOTES_AHEAD,
};
use kanjo_proof::trust::SignedHeader;
use kanjo_types::Hash;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

const _: () = assert!((VOTES_AHEAD as usize) < kanjo_sentinel::rules::VOTES_REMEMBERED);

/// How often a witness looks whether executors had their time.
const WITNESS_TICK: Duration = Duration::from_millis(50);
/// How long a stop waits for blocks under way.
const FINISH_TIME: Duration = Duration::from_secs(5);

/// What the finality thread is told.
pub(crate) enum Event {
    /// From the sealer, in order of heights.
    Sealed(Box<Sealed>),
    /// From the engine, in order of heights, with its share of the room for entries under way.
    Committed(Box<CommittedEntry>, OwnedSemaphorePermit),
    /// Own votes.
    Signed(Vec<SignedVote>),
    /// Votes of a member.
    Ballots(Vec<SignedVote>),
    /// Certificates got from a peer.
    Fetched(Vec<SignedHeader>),
    /// The term in which this node leads; nothing when it leads no more.
    Role { term: Option<u64> },
    /// Certificates were written: the sentinel may go on.
    Kept,
    /// Nothing came for a while.
    Tick,
    /// The engine's voters are changed: make blocks again, behind what is committed.
    Resume,
    /// Ends the thread when what is under way is final, or soon.
    Finish,
    /// Ends the thread.
    Stop,
}

/// A block on its way to the engine.
pub(crate) struct Proposal {
    pub height: u64,
    pub header: Hash,
    pub bytes: Bytes,
}

impl Batch for Sealed {
    type Mark = oneshot::Sender<()>;

    fn block(&self) -> Option<ExecutedBlock> {
        let block = self.block.as_ref()?;
        Some(ExecutedBlock {
            height: block.header.height,
            hash: block.hash,
            bytes: block.bytes.clone(),
            is_made: block.is_made,
            membership: block.membership.clone(),
            difference: block.difference.as_ref().map(ToString::to_string),
        })
    }

    fn take_marks(&mut self) -> Vec<Self::Mark> {
        std::mem::take(&mut self.marks)
    }
}

type Todo = Action<Sealed, OwnedSemaphorePermit>;

/// What the finality thread works with.
pub(crate) struct FinalityThread {
    pub shared: Arc<Shared>,
    pub cluster: Arc<ClusterState>,
    pub events: Receiver<Event>,
    pub sequencer: Sender<ToSequencer>,
    pub replayer: Sender<ToReplay>,
    pub signer: Sender<ToSign>,
    pub proposals: tokio::sync::mpsc::UnboundedSender<Proposal>,
    pub release: Release,
    pub flow: Arc<Flow>,
    pub rules: Finality<Sealed, OwnedSemaphorePermit>,
    /// The newest final header.
    pub newest: Option<SignedHeader>,
    /// For times that a witness is told.
    pub begin: Instant,
    /// Set when the node stops.
    pub finish_by: Option<Instant>,
}

impl FinalityThread {
    pub(crate) fn run(mut self) {
        let cpu = self.shared.metrics.thread(Stage::Certificate);
        while let Some(event) = self.next_event() {
            let input = match event {
                Event::Sealed(sealed) => Input::Sealed(sealed),
                Event::Committed(entry, permit) => Input::Committed(entry, permit),
                Event::Signed(votes) | Event::Ballots(votes) => Input::Votes(votes),
                Event::Fetched(signed) => Input::Fetched(signed),
                Event::Role { term } => Input::Role { term },
                Event::Kept => Input::Kept,
                Event::Resume => Input::Resume,
                Event::Tick => Input::Tick,
                Event::Finish => {
                    self.finish_by = Some(Instant::now() + FINISH_TIME);
                    Input::Tick
                }
                Event::Stop => break,
            };
            self.rules.step(input, self.surroundings());
            while let Some(action) = self.rules.next_action() {
                self.carry_out(action);
            }
            if self.shared.stopping() && self.shared.is_rewinding() {
                break;
            }
            cpu.lap();
        }
        self.flow.close();
    }

    /// The next event; nothing when it is time to end.
    fn next_event(&self) -> Option<Event> {
        match self.finish_by {
            Some(_) if self.rules.is_idle() => None,
            Some(finish_by) => self.events.recv_deadline(finish_by).ok(),
            // It looks at the clock in between.
            None if self.cluster.is_witness => match self.events.recv_timeout(WITNESS_TICK) {
                Err(RecvTimeoutError::Timeout) => Some(Event::Tick),
                event => event.ok(),
            },
            None => self.events.recv().ok(),
        }
    }

    fn surroundings(&self) -> Surroundings {
        let now_ms = if self.cluster.is_witness { self.begin.elapsed().as_millis() } else { 0 };
        Surroundings {
            now_ms: u64::try_from(now_ms).unwrap_or(u64::MAX),
            kept_to: self.cluster.kept_to.load(Ordering::Acquire),
            leading_term: self.cluster.leading_term.load(Ordering::Acquire),
        }
    }

    /// Tells the sequencer; it may be busy, so that another thread waits for it.
    fn tell(&self, message: ToSequencer) {
        if let Err(TrySendError::Full(message)) = self.sequencer.try_send(message) {
            self.replay(ToReplay::PassOn(message));
        }
    }

    fn replay(&self, message: ToReplay) {
        let _ = self.replayer.send(message);
    }

    fn carry_out(&mut self, action: Todo) {
        match action {
            Action::Propose { height, header, bytes } => {
                // The engine may be gone; then this node stops or rewinds.
                let _ = self.proposals.send(Proposal { height, header, bytes });
            }
            Action::Placed { entry, hash, void } => self.placed(&entry, hash, void),
            Action::Replay { placed, block, leads_after } => {
                self.replay(ToReplay::Height { placed, block, leads_after });
            }
            Action::Free(permit) => drop(permit),
            Action::Lead => self.replay(ToReplay::PassOn(ToSequencer::Lead)),
            Action::Resume => self.replay(ToReplay::PassOn(ToSequencer::Resume)),
            Action::Follow => self.tell(ToSequencer::Follow),
            Action::Made { lowest } => self.cluster.note_made(lowest),
            Action::Drained(marks) => marks.into_iter().for_each(|mark| {
                let _ = mark.send(());
            }),
            Action::AskVote { epoch, height, header, challenge } => {
                let _ = self.signer.send(ToSign::Vote { epoch, height, header, challenge });
            }
            Action::SetMembership(membership) => self.cluster.set_membership(membership),
            Action::OtherRows(error) => {
                tracing::warn!(%error, "a change of the membership is not taken");
            }
            Action::BadVote { voter, height, why } => {
                tracing::warn!(voter, height, %why, "a vote does not count");
                self.cluster.note_doubt(voter, format!("vote at height {height}: {why}"));
            }
            Action::Differs { notice } => {
                tracing::error!(?notice, "a member voted for another header");
                self.cluster.offer_notice(notice);
            }
            Action::Final { signed } => self.final_height(signed),
            Action::Release { batch, is_newest } => self.let_out(*batch, is_newest),
            Action::HeightOnly { remembers } => {
                if let Some(newest) = &self.newest {
                    self.release.height_only(newest, remembers);
                }
            }
            Action::Strengthen { height, certificate } => {
                self.cluster.strengthen(height, certificate);
            }
            Action::Rewind { reason, void } => self.shared.rewind(&reason, void),
            Action::Fail(failure) => self.fail(&failure),
        }
    }

    fn placed(&self, entry: &CommittedEntry, hash: Hash, void: Option<&'static str>) {
        let (height, proposer) = (entry.index, entry.proposer);
        if let Some(why) = void {
            tracing::warn!(height, why, proposer, "a block in the log is void");
        }
        self.shared.pending_headers.write().insert(height, hash);
    }

    fn final_height(&mut self, signed: SignedHeader) {
        self.shared.pending_headers.write().remove(&signed.header.height);
        self.cluster.keep_recent(&signed);
        self.newest = Some(signed);
    }

    fn let_out(&self, mut sealed: Sealed, is_newest: bool) {
        if let Some(block) = &sealed.block
            && block.is_made
        {
            self.flow.leave(block.bytes.len());
        }
        if let Some(newest) = &self.newest {
            sealed.proofs.iter_mut().for_each(|proof| proof.certify(newest));
        }
        let signed = self.newest.as_ref().filter(|_| is_newest);
        self.release.release(sealed, signed.cloned());
    }

    fn fail(&self, failure: &Failure) {
        if let Failure::Equivocation { height, first, second } = failure {
            tracing::error!(height, ?first, ?second, "two certificates at one height");
        }
        self.shared.fail(failure.to_string());
    }
}
