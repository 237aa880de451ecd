//! The engine as the node uses it.
//!
//! ```text
//!  propose(block) ─────▶ ┌────────┐ ──▶ Sink::committed(entry), by height
//!  change_voters, … ───▶ │ Engine │ ──▶ state(): role, term, leader, voters, how far others are
//!  handle(call) ───────▶ └────────┘ ──▶ Bus
//! ```
//! # What the node can rely on
//! - Committed entries come in the order of heights, without gaps, and never change.
//! - A block is at the height it was proposed for, or it was not taken, or it is **void**: it can
//!   land higher when the engine's voters change meanwhile. So let all proposals be committed
//!   before you change voters.
//! - Blocks proposed in a term are in the log in the order of the calls, or left out from some
//!   point on. When [`EngineState::term`] or [`EngineState::role`] changes, what is not committed
//!   may be lost; the next committed entries say.
//! - A new leader's first entry is blank, and takes a height.

use crate::boundary::{Notary, ProposalCheck, Sink};
use crate::changes::{Changes, Goal, finish_interrupted};
use crate::entry::{ENTRY_BYTES_MAX, ENTRY_HEAD_BYTES, Entry, Proposal};
use crate::log::{Log, LogParts, LogReader, Writing};
use crate::machine::Machine;
use crate::network::{Network, Server};
use crate::types::{Leader, Types};
use bytes::Bytes;
use kanjo_link::bus::{BoxFuture, Bus, Topic};
use openraft::alias::{SerdeInstantOf, WatchReceiverOf, WatchSenderOf};
use openraft::async_runtime::watch::{WatchReceiver, WatchSender};
use openraft::type_config::TypeConfigExt;
use openraft::{AsyncRuntime, Raft, RaftMetrics, ServerState, SnapshotPolicy};
use openraft_rt_tokio::TokioRuntime;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;

/// Proposals, and calls of other nodes, that may wait for the engine.
const PROPOSALS_WAITING_MAX: u64 = 256;

/// For snapshots, of which there are none.
const SNAPSHOT_TIMEOUT_MS: u64 = 10_000;

/// How the engine behaves. Times are milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// How often a leader says that it is there.
    pub heartbeat_ms: u64,
    /// The shortest silence after which a follower wants to lead.
    pub election_min_ms: u64,
    /// The longest.
    pub election_max_ms: u64,
    /// How long a few entries may take to another node's disk; large ones get more time. After an
    /// answer that got lost, a follower waits so long for the next entries.
    pub append_timeout_ms: u64,
    /// Most entries of one message.
    pub entries_per_append: u64,
    /// Who writes the log.
    pub writing: Writing,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            heartbeat_ms: 50,
            election_min_ms: 250,
            election_max_ms: 500,
            append_timeout_ms: 500,
            entries_per_append: 256,
            writing: Writing::Thread,
        }
    }
}

impl EngineConfig {
    fn of_engine(&self) -> Result<openraft::Config, openraft::ConfigError> {
        openraft::Config {
            cluster_name: "kanjo".to_owned(),
            heartbeat_interval: self.heartbeat_ms,
            election_timeout_min: self.election_min_ms,
            election_timeout_max: self.election_max_ms,
            max_payload_entries: self.entries_per_append,
            max_append_entries: Some(self.entries_per_append),
            // Whoever proposes more waits.
            api_channel_size: Some(PROPOSALS_WAITING_MAX),
            // Logs are complete, so nobody ever needs a snapshot.
            snapshot_policy: SnapshotPolicy::Never,
            replication_lag_threshold: u64::MAX,
            max_in_snapshot_log_to_keep: u64::MAX,
            install_snapshot_timeout: SNAPSHOT_TIMEOUT_MS,
            // A node that was away does not disturb a leader that others hear.
            enable_pre_vote: Some(true),
            // A leader that hears no majority falls silent, so that others can elect one.
            quorum_loss_probe_interval: Some(self.election_max_ms.saturating_mul(2)),
            backoff: "20ms 40ms 80ms ..1s".to_owned(),
            // Its sentinel may have signed a proposal that never reached the disk.
            enable_leader_restore: Some(false),
            ..openraft::Config::default()
        }
        .validate()
    }
}

/// What a node is in the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Gets entries and has no vote.
    Learner,
    /// Gets entries and votes.
    Follower,
    /// Wants to lead.
    Candidate,
    /// Orders.
    Leader,
    /// The engine has stopped, see [`EngineState::stopped`].
    Stopped,
}

/// What is known of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineState {
    /// What this node is.
    pub role: Role,
    /// The term.
    pub term: u64,
    /// Who leads, if that is known.
    pub leader: Option<u16>,
    /// Height of the last entry of this node's log.
    pub last_log: Option<u64>,
    /// Height up to which entries are committed, as far as this node knows.
    pub committed: Option<u64>,
    /// The voters: one set, or the old and the new one while they change.
    pub voters: Vec<BTreeSet<u16>>,
    /// Those that get entries and have no vote.
    pub learners: BTreeSet<u16>,
    /// On a leader: up to which height each other node is known to have the same log on disk.
    pub progress: BTreeMap<u16, Option<u64>>,
    /// Why the engine has stopped.
    pub stopped: Option<String>,
}

impl EngineState {
    /// Do the voters change at present?
    #[must_use]
    pub fn is_joint(&self) -> bool {
        self.voters.len() > 1
    }
}

/// Something was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// Another node leads, or nobody.
    #[error("this node does not lead; the leader is {0:?}")]
    NotLeader(Option<u16>),
    /// Too long for one entry.
    #[error("the block has {found} bytes; an entry takes {max}")]
    TooLarge {
        /// Of the block.
        found: usize,
        /// The bound.
        max: usize,
    },
    /// The voters change already.
    #[error("another change of voters is under way")]
    InProgress,
    /// The engine does not do this.
    #[error("refused: {0}")]
    Refused(String),
    /// The engine has stopped.
    #[error("the engine has stopped: {0}")]
    Stopped(String),
}

/// What the engine is made of.
pub struct Parts {
    /// Number of this member.
    pub id: u16,
    /// How many voters the genesis has: members 0 … n − 1.
    pub genesis_voters: u16,
    /// The height up to which the node has its state; entries above come to the sink. `None`: begin
    /// with the genesis entry at height 0.
    pub applied: Option<u64>,
    /// The log.
    pub log: LogParts,
    /// To other nodes.
    pub bus: Arc<dyn Bus>,
    /// The sentinel.
    pub notary: Arc<dyn Notary>,
    /// Who may propose.
    pub check: Arc<dyn ProposalCheck>,
    /// Where committed entries go.
    pub sink: Arc<dyn Sink>,
}

/// Follows [`EngineState`].
pub type StateReceiver<R> = WatchReceiverOf<Types<R>, EngineState>;

/// A running engine; clones are the same one. See the [module](self).
pub struct Engine<R: AsyncRuntime> {
    inner: Arc<Inner<R>>,
}

struct Inner<R: AsyncRuntime> {
    id: u16,
    raft: Raft<Types<R>, Machine<R>>,
    server: Server<R>,
    changes: Arc<Changes<R>>,
    reader: LogReader,
    state: StateReceiver<R>,
    /// Says that the state machine has let go of its files.
    gone: Mutex<Option<oneshot::Receiver<()>>>,
    /// Threads to wait for at the end.
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Ends the engine's own thread, if it has one.
    end: Mutex<Option<oneshot::Sender<()>>>,
}

impl<R: AsyncRuntime> Clone for Engine<R> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

fn start_error(error: impl std::fmt::Display) -> EngineError {
    EngineError::Stopped(error.to_string())
}

impl<R: AsyncRuntime> Engine<R> {
    /// Starts the engine on the runtime that polls this.
    ///
    /// # Errors
    /// [`EngineError::Stopped`] when the log can't be opened or the configuration is wrong.
    pub async fn start(config: EngineConfig, parts: Parts) -> Result<Self, EngineError> {
        let Parts { id, genesis_voters, applied, log, bus, notary, check, sink } = parts;
        let genesis = Entry::genesis(genesis_voters);
        let of_engine = config.of_engine().map_err(start_error)?;
        let (mut log, history) =
            Log::<R>::open(id, log, Some(&genesis), notary.clone(), config.writing)
                .map_err(start_error)?;
        let reader = log.reader();
        let threads = Mutex::new(log.closed().into_iter().collect());
        let (machine, gone) = Machine::new(&reader, history, applied, sink).map_err(start_error)?;
        let gone = Mutex::new(Some(gone));
        let append_timeout = Duration::from_millis(config.append_timeout_ms);
        let network = Network { id, bus, append_timeout, runtime: PhantomData };
        let raft = Raft::new(u64::from(id), Arc::new(of_engine), network, log, machine);
        let raft = raft.await.map_err(start_error)?;
        let server = Server { raft: raft.clone(), check, notary, genesis };
        let (sender, state) = Types::<R>::watch_channel(state_of(&raft.metrics().borrow_watched()));
        let changes = Arc::new(Changes::new(raft.clone()));
        drop(R::spawn(follow::<R>(raft.metrics(), sender, Arc::downgrade(&changes))));
        let end = Mutex::new(None);
        let inner = Inner { id, raft, server, changes, reader, state, gone, threads, end };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Do entries wait because the disk is full? The engine goes on when there is room.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.inner.reader.is_full()
    }

    /// Number of this member.
    #[must_use]
    pub fn id(&self) -> u16 {
        self.inner.id
    }

    /// Reads entries of the log.
    #[must_use]
    pub fn log(&self) -> LogReader {
        self.inner.reader.clone()
    }

    /// Follows what is known of the engine.
    #[must_use]
    pub fn state(&self) -> StateReceiver<R> {
        self.inner.state.clone()
    }

    /// What is known of the engine now.
    #[must_use]
    pub fn now(&self) -> EngineState {
        self.inner.state.borrow_watched().clone()
    }

    /// On a leader: how long each other node has not answered, longest when it never has in this
    /// term. Empty on others.
    #[must_use]
    pub fn silences(&self) -> BTreeMap<u16, Option<Duration>> {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let now = Types::<R>::now();
        let heard = metrics.heartbeat.iter().flatten();
        let silence = |(node, at): (&u64, &Option<SerdeInstantOf<Types<R>>>)| {
            let node = u16::try_from(*node).ok()?;
            Some((node, at.as_ref().map(|at| now - **at)))
        };
        heard.filter_map(silence).collect()
    }

    /// Answers a call of another node on topic append, elect, transfer or snapshot.
    pub fn handle(
        &self,
        from: u16,
        topic: Topic,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, String>> {
        let inner = self.inner.clone();
        Box::pin(async move { inner.server.answer(from, topic, body).await })
    }

    /// Puts a block into the log, behind those proposed before in `term`. Call it again only when
    /// it has returned. That it was taken shows when it is committed.
    ///
    /// # Errors
    /// [`EngineError::NotLeader`] when this node does not lead in this term, as far as it knows;
    /// [`EngineError::TooLarge`]; [`EngineError::Stopped`].
    pub async fn propose(
        &self,
        term: u64,
        height: u64,
        proposal: Proposal,
    ) -> Result<(), EngineError> {
        let max = ENTRY_BYTES_MAX - ENTRY_HEAD_BYTES;
        let found = proposal.bytes.len();
        if found > max {
            return Err(EngineError::TooLarge { found, max });
        }
        let state = self.now();
        if state.role != Role::Leader || state.term != term {
            return Err(EngineError::NotLeader(state.leader.filter(|leader| *leader != self.id())));
        }
        tracing::trace!(term, height, %proposal, "propose");
        let write = self.inner.raft.write(proposal).with_leader(Leader::new(term));
        write.await.map_err(start_error)
    }

    /// Sets the voters and those that follow without a vote; others are sent nothing any more.
    /// Goes through a joint change if need be, and ends one that was interrupted first. When this
    /// returns, the change is committed and the sink has it.
    ///
    /// Each step takes a height: none when nothing changes, two for a change of voters, one more
    /// for nodes that are left out.
    ///
    /// # Errors
    /// [`EngineError::NotLeader`], [`EngineError::InProgress`], [`EngineError::Refused`],
    /// [`EngineError::Stopped`]. Some steps may have been taken; call it again on the leader.
    pub async fn change_voters(
        &self,
        voters: BTreeSet<u16>,
        learners: BTreeSet<u16>,
    ) -> Result<(), EngineError> {
        let wanted = |numbers: BTreeSet<u16>| numbers.into_iter().map(u64::from).collect();
        self.inner
            .changes
            .change(&Goal { voters: wanted(voters), learners: wanted(learners) })
            .await
    }

    /// Lets a node follow, without a vote. A voter stays one.
    ///
    /// # Errors
    /// As [`Engine::change_voters`].
    pub async fn add_learner(&self, node: u16) -> Result<(), EngineError> {
        self.inner.changes.add_learner(u64::from(node)).await
    }

    /// Asks another voter to lead. Whether it does shows in the state.
    ///
    /// # Errors
    /// [`EngineError::Stopped`].
    pub async fn transfer_leader(&self, to: u16) -> Result<(), EngineError> {
        self.inner.raft.trigger().transfer_leader(u64::from(to)).await.map_err(start_error)
    }

    /// Asks to lead at once instead of waiting for the next silence.
    ///
    /// # Errors
    /// [`EngineError::Stopped`].
    pub async fn elect(&self) -> Result<(), EngineError> {
        self.inner.raft.trigger().elect(true).await.map_err(start_error)
    }

    /// Stops the engine. When this returns, the log is closed and may be opened again. Don't wait
    /// for it inside the sink or the notary: the engine waits for them.
    pub async fn stop(&self) {
        // An engine that has stopped by itself says so again; there is nothing to do about it.
        let _ = self.inner.raft.shutdown().await;
        let gone = self.inner.gone.lock().take();
        if let Some(gone) = gone {
            // It says so by being dropped.
            let _ = gone.await;
        }
        drop(self.inner.end.lock().take());
        let threads = std::mem::take(&mut *self.inner.threads.lock());
        for thread in threads {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Engine<TokioRuntime> {
    /// Starts the engine on a thread and a runtime of its own, so that the node's work never
    /// delays a heartbeat. Blocks until it runs.
    ///
    /// # Errors
    /// As [`Engine::start`].
    pub fn start_thread(config: EngineConfig, parts: Parts) -> Result<Self, EngineError> {
        let (started, result) = std::sync::mpsc::sync_channel(1);
        let (end, ended) = oneshot::channel::<()>();
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => return drop(started.send(Err(start_error(error)))),
            };
            runtime.block_on(async {
                let engine = Self::start(config, parts).await;
                let runs = engine.is_ok();
                // The caller waits for it.
                drop(started.send(engine));
                if runs {
                    // Dropped without a word when the engine is stopped, or forgotten.
                    let _ = ended.await;
                }
            });
        };
        let name = "kanjo-engine".to_owned();
        let thread = std::thread::Builder::new().name(name).spawn(run).map_err(start_error)?;
        let engine = result.recv().map_err(start_error)??;
        engine.inner.threads.lock().push(thread);
        *engine.inner.end.lock() = Some(end);
        Ok(engine)
    }
}

async fn follow<R: AsyncRuntime>(
    mut metrics: WatchReceiverOf<Types<R>, RaftMetrics<Types<R>>>,
    sender: WatchSenderOf<Types<R>, EngineState>,
    changes: Weak<Changes<R>>,
) {
    loop {
        let state = state_of::<R>(&metrics.borrow_and_update());
        if state.role == Role::Leader && state.is_joint() {
            changes.upgrade().inspect(finish_interrupted);
        }
        sender.send_if_different(state);
        if metrics.changed().await.is_err() {
            let mut state = state_of::<R>(&metrics.borrow_and_update());
            state.role = Role::Stopped;
            sender.send_if_different(state);
            return;
        }
    }
}

fn state_of<R: AsyncRuntime>(metrics: &RaftMetrics<Types<R>>) -> EngineState {
    let number = |node: u64| u16::try_from(node).ok();
    let voters = metrics.membership_config.membership();
    let sets = voters.get_joint_config().iter();
    let progress = metrics.replication.iter().flatten();
    let stopped = metrics.running_state.as_ref().err().map(ToString::to_string);
    EngineState {
        role: match metrics.state {
            _ if stopped.is_some() => Role::Stopped,
            ServerState::Learner => Role::Learner,
            ServerState::Follower => Role::Follower,
            ServerState::Candidate => Role::Candidate,
            ServerState::Leader => Role::Leader,
            ServerState::Shutdown => Role::Stopped,
        },
        term: metrics.current_term,
        leader: metrics.current_leader.and_then(number),
        last_log: metrics.last_log_index,
        committed: metrics.cluster_committed.map(|id| id.index),
        voters: sets.map(|set| set.iter().copied().filter_map(number).collect()).collect(),
        learners: voters.learner_ids().filter_map(number).collect(),
        progress: progress
            .filter_map(|(node, id)| Some((number(*node)?, id.map(|id| id.index))))
            .collect(),
        stopped,
    }
}
