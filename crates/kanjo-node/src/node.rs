//! Starting and stopping a node: its threads and their order.

use crate::background::{
    PartitionCopy, ToIndex, run_checkpoint_clock, run_checkpointer, run_indexer,
};
use crate::clock::{Clock, SystemClock};
use crate::cluster::{ClusterState, MemberThreads};
use crate::config::Config;
use crate::http;
use crate::intake::Intake;
use crate::measure::measurement;
use crate::metrics::{Metrics, Stage};
use crate::release::{Behind, Release};
pub use crate::restart::OpenLedgerError;
use crate::restart::{self, Opened, OpenedAs};
use crate::sealer::{Next, Sealer, Sealing};
use crate::sequencer::{Batch, Sequencer};
use crate::shared::{Health, Shared, ToSequencer};
use crate::tables::WaitingTables;
use crate::view::{self, Log, ToView};
use crate::writer::Writer;
use crossbeam_channel::{Receiver, Sender, bounded};
use kanjo_ledger::Ledger;
use kanjo_proof::state::StateTree;
use kanjo_proof::trust::SignedHeader;
use kanjo_store::checkpoint::CheckpointStore;
use kanjo_store::disk::{Disk, RealDisk};
use kanjo_store::log::Preparer;
use kanjo_types::membership::Membership;
use kanjo_types::record::PARTITIONS;
use kanjo_types::{ChainId, Hash};
use kanjo_view::{LogSource, View};
use parking_lot::RwLock;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{broadcast, watch};

/// The node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The ledger could not be opened.
    #[error(transparent)]
    Open(#[from] OpenLedgerError),
    /// The address could not be bound.
    #[error("can't listen on {address}: {source}; is another node running there? choose --listen")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A thread could not be started.
    #[error("can't start a thread: {0}")]
    Thread(io::Error),
    /// The sentinel's vote key belongs to no member.
    #[error(
        "the sentinel's vote key {0} belongs to no member of this ledger; have the node admitted first"
    )]
    NoMember(String),
    /// Something that only a member of a cluster needs.
    #[error("{0}")]
    Member(String),
}

/// The node did not stop cleanly. What was acknowledged is safe all the same.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// It had stopped by itself before.
    #[error("the node had stopped by itself: {0}")]
    Failed(String),
    /// A thread ended by a panic.
    #[error("a thread of the node panicked: {0}")]
    Panicked(&'static str),
}

/// A running node. Dropping it without [`RunningNode::stop`] leaves its threads running.
pub struct RunningNode {
    shared: Arc<Shared>,
    address: SocketAddr,
    intake: Arc<Intake>,
    sequencer: Sender<ToSequencer>,
    http: Option<http::Server>,
    workers: Vec<(&'static str, JoinHandle<()>)>,
    stages: Vec<(&'static str, JoinHandle<()>)>,
    background: Vec<(&'static str, JoinHandle<()>)>,
    member: Option<MemberThreads>,
}

/// Tells a member where it stands. A node that was away while members came that it does not know,
/// or that was removed, can't hear that over its links: those know each other by the membership.
#[derive(Clone)]
pub struct Bearings(Weak<ClusterState>);

impl Bearings {
    /// Does the node hear a leader? Nothing once it has ended.
    #[must_use]
    pub fn hears_leader(&self) -> Option<bool> {
        Some(self.0.upgrade()?.heard_leader().is_some())
    }

    /// Who belongs to the cluster now; the caller has checked the proof of it. Links and what
    /// proposals are taken follow it at once; which votes count comes from the ledger alone.
    pub fn learn(&self, membership: Arc<Membership>) {
        if let Some(cluster) = self.0.upgrade() {
            cluster.learn(membership);
        }
    }
}

/// Why a node stopped by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// Something is broken; a person must look.
    Failed(String),
    /// The ledger in memory was not the one that the cluster committed: stop it and start it again,
    /// with this block marked as void if there is one.
    Rewind {
        /// What was found.
        reason: String,
        /// Height and header hash of a block that this node executed otherwise.
        void: Option<(u64, Hash)>,
    },
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Failed(reason) => f.write_str(reason),
            Self::Rewind { reason, .. } => write!(f, "the ledger is to be opened anew: {reason}"),
        }
    }
}

/// Blocks that may wait between two stages.
const STAGE_QUEUE: usize = 2;
/// Blocks that may wait for the index.
const INDEX_QUEUE: usize = 64;
/// Partition copies that may wait to be written.
const COPY_QUEUE: usize = 2;
/// Checked jobs that may wait for the sequencer.
const SEQUENCER_QUEUE: usize = 1_024;
/// Final blocks that a slow stream may lag behind.
const STREAM_QUEUE: usize = 64;

/// Ends the threads of a start that failed half-way; those that wait on a channel end when it is
/// dropped.
struct StopThreads(Option<Arc<Shared>>);

impl Drop for StopThreads {
    fn drop(&mut self) {
        if let Some(shared) = &self.0 {
            shared.stop.store(true, Ordering::Release);
        }
    }
}

pub(crate) type Thread = (&'static str, JoinHandle<()>);

pub(crate) fn spawn(
    name: &'static str,
    shared: &Arc<Shared>,
    work: impl FnOnce() + Send + 'static,
) -> Result<Thread, StartError> {
    let shared = shared.clone();
    let guarded = move || {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        if outcome.is_err() {
            // An invariant is broken: nothing may be made from this state.
            shared.fail(format!("the {name} thread panicked"));
        }
    };
    let handle = std::thread::Builder::new().name(format!("kanjo-{name}")).spawn(guarded);
    handle.map(|handle| (name, handle)).map_err(StartError::Thread)
}

/// Binds the HTTP API's address.
pub(crate) fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).map_err(|source| StartError::Listen { address, source })
}

/// Starts the node in `config.data`, a ledger of one node.
///
/// # Errors
/// [`StartError`]; nothing is left running.
pub fn start(config: Config) -> Result<RunningNode, StartError> {
    start_with(config, Arc::new(RealDisk), Arc::new(SystemClock))
}

/// As [`start`], with a disk and a clock of the caller's: for tests of failures.
///
/// # Errors
/// As [`start`].
pub fn start_with(
    config: Config,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
) -> Result<RunningNode, StartError> {
    let listener = bind(config.listen)?;
    let mut opened = restart::open(&config, disk)?;
    let Some(OpenedAs::Alone { log, voter }) = opened.kind.take() else {
        return Err(StartError::Member("opened as a member of a cluster".to_owned()));
    };
    let sealing = Sealing::Alone { voter, measurement: measurement() };
    let mut assembly = Assembly::new(config, clock, opened, None, sealing)?;
    let (to_writer, sealed) = bounded(STAGE_QUEUE);
    assembly.seal_into(Next::Writer(to_writer))?;
    assembly.prepare_segments_of(log.preparer())?;
    let (index, copies) = assembly.behind()?;
    let shared = assembly.shared.clone();
    let release = Release { shared: shared.clone(), behind: Behind::Log { index, copies } };
    let writer = Writer { shared: shared.clone(), log, sealed, release };
    assembly.stages.push(spawn("writer", &shared, move || writer.run())?);
    assembly.finish(listener, None)
}

/// A node under construction: what every node has, alone or in a cluster.
pub(crate) struct Assembly {
    pub shared: Arc<Shared>,
    intake: Arc<Intake>,
    sequencer: Sender<ToSequencer>,
    /// What the sealer will be made of.
    unsealed: Option<(Receiver<Batch>, StateTree, Sealing, SignedHeader, u64)>,
    checkpoints: Option<CheckpointStore>,
    workers: Vec<Thread>,
    pub stages: Vec<Thread>,
    background: Vec<Thread>,
    cleanup: StopThreads,
}

impl Assembly {
    /// Intake and sequencer run already.
    pub(crate) fn new(
        config: Config,
        clock: Arc<dyn Clock>,
        opened: Opened,
        cluster: Option<Arc<ClusterState>>,
        sealing: Sealing,
    ) -> Result<Self, StartError> {
        let Opened { genesis, ledger, trees, history, blocks, index, checkpoints, .. } = opened;
        let is_alone = cluster.is_none();
        let epoch = ledger.membership().epoch;
        let (view, to_be_shown) = viewed(&config, &ledger, opened.tip.height);
        let shared = Arc::new(Shared {
            chain: genesis.chain_id(),
            config,
            genesis,
            clock,
            ledger: RwLock::new(ledger),
            tip: watch::Sender::new(opened.tip),
            health: watch::Sender::new(Health::Running),
            history: RwLock::new(history),
            log: blocks,
            index: Arc::new(index),
            blocks: broadcast::Sender::new(STREAM_QUEUE),
            metrics: Metrics::default(),
            in_flight: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            pending_headers: RwLock::default(),
            memberships: crate::memberships::Made::default(),
            view,
            cluster,
        });
        let cleanup = StopThreads(Some(shared.clone()));
        let (to_sequencer, messages) = bounded(SEQUENCER_QUEUE);
        let (to_sealer, batches) = bounded(STAGE_QUEUE);
        let (intake, jobs) = Intake::new(shared.clone());
        let mut workers = Vec::new();
        for _ in 0..shared.config.verify_threads() {
            let (jobs, shared_, sequencer) = (jobs.clone(), shared.clone(), to_sequencer.clone());
            workers.push(spawn("signature", &shared, move || jobs.work(&shared_, &sequencer))?);
        }
        let background = match &shared.view {
            Some((view, _)) => {
                let (view, shared_) = (Arc::clone(view), shared.clone());
                let work = move || view::run_feeder(&shared_, &view, &to_be_shown);
                vec![spawn("view", &shared, work)?]
            }
            None => Vec::new(),
        };
        let sequencer = Sequencer::new(shared.clone(), messages, to_sealer, is_alone);
        let stages = vec![spawn("sequencer", &shared, move || sequencer.run())?];
        Ok(Self {
            shared,
            intake: Arc::new(intake),
            sequencer: to_sequencer,
            unsealed: Some((batches, trees, sealing, opened.last, epoch)),
            checkpoints: Some(checkpoints),
            workers,
            stages,
            background,
            cleanup,
        })
    }

    /// Where messages for the sequencer go.
    pub(crate) fn sequencer(&self) -> Sender<ToSequencer> {
        self.sequencer.clone()
    }

    /// Starts the sealer.
    pub(crate) fn seal_into(&mut self, next: Next) -> Result<(), StartError> {
        let Some((batches, trees, sealing, last, epoch)) = self.unsealed.take() else {
            return Ok(());
        };
        let (shared, waiting) = (self.shared.clone(), WaitingTables::default());
        let sealer = Sealer { shared, batches, next, trees, sealing, epoch, last, waiting };
        self.stages.push(spawn("sealer", &self.shared, move || sealer.run())?);
        Ok(())
    }

    /// Starts index and checkpoints; returns where they are told what to write.
    pub(crate) fn behind(
        &mut self,
    ) -> Result<(Sender<ToIndex>, Sender<PartitionCopy>), StartError> {
        let (to_index, to_be_indexed) = bounded(INDEX_QUEUE);
        let (to_checkpointer, copies) = bounded(COPY_QUEUE);
        let (for_index, for_copies, for_clock) =
            (self.shared.clone(), self.shared.clone(), self.shared.clone());
        let sequencer = self.sequencer.clone();
        let index = move || run_indexer(&for_index, &to_be_indexed);
        self.background.push(spawn("index", &self.shared, index)?);
        if let Some(store) = self.checkpoints.take() {
            let work = move || run_checkpointer(&for_copies, &store, &copies);
            self.background.push(spawn("checkpoints", &self.shared, work)?);
        }
        if !self.shared.is_witness() {
            let clock = move || run_checkpoint_clock(&for_clock, &sequencer);
            self.background.push(spawn("clock", &self.shared, clock)?);
        }
        Ok((to_index, to_checkpointer))
    }

    /// Keeps the next segment of a log ready.
    pub(crate) fn prepare_segments_of(&mut self, preparer: Preparer) -> Result<(), StartError> {
        let shared = self.shared.clone();
        let work = move || prepare_segments(&shared, &preparer);
        self.background.push(spawn("segments", &self.shared, work)?);
        Ok(())
    }

    /// Serves HTTP: the node runs.
    pub(crate) fn finish(
        mut self,
        listener: TcpListener,
        member: Option<MemberThreads>,
    ) -> Result<RunningNode, StartError> {
        let address = listener
            .local_addr()
            .map_err(|source| StartError::Listen { address: self.shared.config.listen, source })?;
        let (shared, intake) = (self.shared.clone(), self.intake.clone());
        let http = http::serve(listener, shared, intake, self.sequencer.clone())
            .map_err(StartError::Thread)?;
        self.cleanup.0 = None;
        Ok(RunningNode {
            shared: self.shared,
            address,
            intake: self.intake,
            sequencer: self.sequencer,
            http: Some(http),
            workers: self.workers,
            stages: self.stages,
            background: self.background,
            member,
        })
    }
}

/// The view of a ledger as it was opened, and the channel that feeds it; it is never used without
/// SQL.
#[allow(clippy::type_complexity)] // Named once.
fn viewed(
    config: &Config,
    ledger: &Ledger,
    height: u64,
) -> (Option<(Arc<View>, Sender<ToView>)>, Receiver<ToView>) {
    let (to_view, to_be_shown) = bounded(INDEX_QUEUE);
    if !config.view {
        return (None, to_be_shown);
    }
    let view = Arc::new(View::new(kanjo_view::Limits::default()));
    view::load(&view, ledger, height);
    (Some((view, to_view)), to_be_shown)
}

/// Keeps the next segment of the log ready, so that appends don't wait for it.
fn prepare_segments(shared: &Shared, preparer: &kanjo_store::log::Preparer) {
    let cpu = shared.metrics.thread(Stage::Background);
    while !shared.stopping() {
        if !preparer.is_ready()
            && let Err(error) = preparer.prepare_next()
        {
            tracing::warn!(%error, "no room for the next segment of the log");
            std::thread::sleep(Duration::from_millis(500));
        }
        cpu.lap();
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn join(threads: Vec<Thread>) -> Result<(), StopError> {
    let mut panicked = None;
    for (name, handle) in threads {
        if handle.join().is_err() {
            panicked = Some(name);
        }
    }
    panicked.map_or(Ok(()), |name| Err(StopError::Panicked(name)))
}

impl RunningNode {
    /// Where the HTTP API listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Which ledger it serves.
    #[must_use]
    pub fn chain(&self) -> ChainId {
        self.shared.chain
    }

    /// Height of the newest final block.
    #[must_use]
    pub fn height(&self) -> u64 {
        self.shared.tip().height
    }

    /// Waits until the node has stopped by itself, for example after a disk error; returns why.
    #[must_use]
    pub fn wait_stopped(&self) -> Ended {
        loop {
            if let Some(ended) = self.ended() {
                return ended;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The rows that SQL reads, when the node was started [with them](Config::view).
    #[must_use]
    pub fn view(&self) -> Option<Arc<View>> {
        self.shared.view.as_ref().map(|(view, _)| Arc::clone(view))
    }

    /// The log of final blocks, for SQL.
    #[must_use]
    pub fn log(&self) -> Arc<dyn LogSource> {
        Arc::new(Log(Arc::downgrade(&self.shared)))
    }

    /// Why the node has stopped by itself, if it has.
    #[must_use]
    pub fn ended(&self) -> Option<Ended> {
        match self.shared.health() {
            Health::Stopped(reason) => Some(Ended::Failed(reason)),
            Health::Rewinding { reason, void } => Some(Ended::Rewind { reason, void }),
            Health::Running | Health::StorageFull | Health::Stopping => None,
        }
    }

    /// True once the node has stopped by itself.
    #[must_use]
    pub fn has_stopped(&self) -> bool {
        self.ended().is_some()
    }

    /// In a cluster: does this node lead?
    #[must_use]
    pub fn leads(&self) -> bool {
        let leads = |cluster: &Arc<ClusterState>| {
            cluster.leading_term.load(Ordering::Acquire) != 0 && !cluster.is_witness
        };
        self.shared.cluster.as_ref().is_some_and(leads)
    }

    /// In a cluster: the newest membership that this node has executed.
    #[must_use]
    pub fn membership(&self) -> Option<Arc<Membership>> {
        self.shared.cluster.as_ref().map(|cluster| cluster.membership())
    }

    /// In a cluster: for whoever tells this node of memberships that it could not hear of itself.
    #[must_use]
    pub fn bearings(&self) -> Option<Bearings> {
        self.shared.cluster.as_ref().map(|cluster| Bearings(Arc::downgrade(cluster)))
    }

    /// In a cluster: leaves the quorum, so that a stop that follows is a planned one. The others go
    /// on with a smaller quorum; this node comes back by itself when it is started again.
    ///
    /// # Errors
    /// Why the others did not take it; stopping is safe all the same.
    pub fn leave(&self) -> Result<(), String> {
        self.member.as_ref().map_or(Ok(()), MemberThreads::leave)
    }

    /// Stops: takes no more requests, makes final what is under way, copies the state for a fast
    /// restart.
    ///
    /// # Errors
    /// [`StopError`] when it had failed before or a thread panicked.
    pub fn stop(mut self) -> Result<(), StopError> {
        // A failure that came before stays visible.
        let was_running = self.shared.health.send_if_modified(|health| {
            let running = matches!(health, Health::Running | Health::StorageFull);
            if running {
                *health = Health::Stopping;
            }
            running
        });
        self.intake.close();
        if let Some(member) = &self.member
            && !was_running
        {
            member.give_up();
        }
        let workers = join(std::mem::take(&mut self.workers));
        if was_running && !self.shared.is_witness() {
            for partition in (0u16..).take(PARTITIONS) {
                if self.sequencer.send(ToSequencer::Snapshot(partition)).is_err() {
                    break;
                }
            }
        }
        // The sequencer may be gone already when the node has failed.
        let _ = self.sequencer.send(ToSequencer::Stop);
        if let Some(member) = self.member.take() {
            member.stop(&mut self.stages);
        }
        let stages = join(std::mem::take(&mut self.stages));
        self.shared.stop.store(true, Ordering::Release);
        if let Some(http) = self.http.take() {
            http.stop();
        }
        let background = join(std::mem::take(&mut self.background));
        match self.shared.health() {
            // It may have failed on the way, for example because the disk was still full.
            Health::Stopped(reason) => Err(StopError::Failed(reason)),
            _ => workers.and(stages).and(background),
        }
    }
}
