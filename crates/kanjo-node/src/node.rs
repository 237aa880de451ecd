//! Starting and stopping a node: its threads and their order.

use crate::background::{run_checkpoint_clock, run_checkpointer, run_indexer};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::http;
use crate::intake::Intake;
use crate::metrics::{Metrics, Stage};
pub use crate::restart::OpenLedgerError;
use crate::restart::{self, Opened};
use crate::sealer::Sealer;
use crate::sequencer::Sequencer;
use crate::shared::{Health, Shared, ToSequencer};
use crate::writer::Writer;
use crossbeam_channel::{Sender, bounded};
use kanjo_store::disk::{Disk, RealDisk};
use kanjo_types::ChainId;
use kanjo_types::record::PARTITIONS;
use parking_lot::RwLock;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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

type Thread = (&'static str, JoinHandle<()>);

fn spawn(
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

/// Starts the node in `config.data`.
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
    let listener = std::net::TcpListener::bind(config.listen)
        .map_err(|source| StartError::Listen { address: config.listen, source })?;
    let address = listener
        .local_addr()
        .map_err(|source| StartError::Listen { address: config.listen, source })?;
    let opened = restart::open(&config, disk)?;
    let Opened { genesis, voter, ledger, trees, history, log, index, checkpoints, tip, last } =
        opened;
    let shared = Arc::new(Shared {
        chain: genesis.chain_id(),
        config,
        genesis,
        clock,
        ledger: RwLock::new(ledger),
        tip: watch::Sender::new(tip),
        health: watch::Sender::new(Health::Running),
        history: RwLock::new(history),
        log: log.reader(),
        index: Arc::new(index),
        blocks: broadcast::Sender::new(STREAM_QUEUE),
        metrics: Metrics::default(),
        in_flight: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
    });
    let mut cleanup = StopThreads(Some(shared.clone()));
    let (to_sequencer, messages) = bounded(SEQUENCER_QUEUE);
    let (to_sealer, batches) = bounded(STAGE_QUEUE);
    let (to_writer, sealed) = bounded(STAGE_QUEUE);
    let (to_index, to_be_indexed) = bounded(INDEX_QUEUE);
    let (to_checkpointer, copies) = bounded(COPY_QUEUE);
    let (intake, workers) = Intake::new(shared.clone());
    let intake = Arc::new(intake);

    let mut worker_threads = Vec::new();
    for _ in 0..shared.config.verify_threads() {
        let (workers, shared_, sequencer) = (workers.clone(), shared.clone(), to_sequencer.clone());
        let work = move || workers.work(&shared_, &sequencer);
        worker_threads.push(spawn("signature", &shared, work)?);
    }
    drop(workers);
    let preparer = log.preparer();
    let sequencer = Sequencer::new(shared.clone(), messages, to_sealer);
    let epoch = shared.ledger.read().membership().epoch;
    let sealer =
        Sealer { shared: shared.clone(), batches, writer: to_writer, trees, voter, epoch, last };
    let writer =
        Writer { shared: shared.clone(), log, sealed, index: to_index, copies: to_checkpointer };
    let stages = vec![
        spawn("sequencer", &shared, move || sequencer.run())?,
        spawn("sealer", &shared, move || sealer.run())?,
        spawn("writer", &shared, move || writer.run())?,
    ];
    let (for_index, for_copies, for_clock, for_segments) =
        (shared.clone(), shared.clone(), shared.clone(), shared.clone());
    let clock_sequencer = to_sequencer.clone();
    let background = vec![
        spawn("index", &shared, move || run_indexer(&for_index, &to_be_indexed))?,
        spawn("checkpoints", &shared, move || {
            run_checkpointer(&for_copies, &checkpoints, &copies)
        })?,
        spawn("clock", &shared, move || run_checkpoint_clock(&for_clock, &clock_sequencer))?,
        spawn("segments", &shared, move || prepare_segments(&for_segments, &preparer))?,
    ];
    let http = http::serve(listener, shared.clone(), intake.clone(), to_sequencer.clone())
        .map_err(StartError::Thread)?;
    cleanup.0 = None;
    Ok(RunningNode {
        shared,
        address,
        intake,
        sequencer: to_sequencer,
        http: Some(http),
        workers: worker_threads,
        stages,
        background,
    })
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

fn join(threads: Vec<Thread>) -> Result<(), StopError> {
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
    pub fn wait_stopped(&self) -> String {
        loop {
            if let Health::Stopped(reason) = self.shared.health() {
                return reason;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// True once the node has stopped by itself.
    #[must_use]
    pub fn has_stopped(&self) -> bool {
        matches!(self.shared.health(), Health::Stopped(_))
    }

    /// Stops: takes no more requests, makes final what is under way, copies the state for a fast
    /// restart.
    ///
    /// # Errors
    /// [`StopError`] when it had failed before or a thread panicked.
    pub fn stop(mut self) -> Result<(), StopError> {
        // A failure that came before stays visible.
        let was_running = self.shared.health.send_if_modified(|health| {
            let running = !matches!(health, Health::Stopped(_));
            if running {
                *health = Health::Stopping;
            }
            running
        });
        self.intake.close();
        let workers = join(std::mem::take(&mut self.workers));
        if was_running {
            for partition in (0u16..).take(PARTITIONS) {
                if self.sequencer.send(ToSequencer::Snapshot(partition)).is_err() {
                    break;
                }
            }
        }
        // The sequencer may be gone already when the node has failed.
        let _ = self.sequencer.send(ToSequencer::Stop);
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
