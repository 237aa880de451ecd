//! What the stages and the readers share.

use crate::blocks::Blocks;
use crate::clock::Clock;
use crate::cluster::{ClusterState, status};
use crate::config::Config;
use crate::metrics::Metrics;
use crate::proofs::ProofQuery;
use crate::sequencer::Replay;
use crate::tables::TableQuery;
use crate::view::ToView;
use crossbeam_channel::Sender;
use kanjo_api::{BlockSummary, SubmitOutcome};
use kanjo_ledger::Ledger;
use kanjo_proof::merkle::AppendTree;
use kanjo_store::index::Index;
use kanjo_types::membership::{Notice, Statement};
use kanjo_types::stored::{Entry, Location};
use kanjo_types::{ChainId, Genesis, Hash, TransactionId};
use kanjo_view::View;
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::sync::{OwnedSemaphorePermit, broadcast, oneshot, watch};

/// The newest final block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tip {
    pub height: u64,
    pub header_hash: Hash,
    pub time_ms: u64,
    /// Transactions in all final blocks.
    pub transactions: u64,
}

/// How the node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Health {
    Running,
    StorageFull,
    Stopping,
    /// After a disk error, with its text.
    Stopped(String),
    /// The ledger in memory is not the cluster's; it is being opened anew.
    Rewinding {
        reason: String,
        /// Height and header hash of a block that was executed otherwise here.
        void: Option<(u64, Hash)>,
    },
}

impl Health {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::StorageFull => "storage_full",
            Self::Stopping => "stopping",
            Self::Stopped(_) => "stopped",
            Self::Rewinding { .. } => "rewinding",
        }
    }
}

/// A final block for the streams.
pub(crate) struct FinalBlock {
    pub summary: BlockSummary,
    pub entries: Arc<Vec<Entry>>,
}

pub(crate) struct Shared {
    pub config: Config,
    pub genesis: Genesis,
    pub chain: ChainId,
    pub clock: Arc<dyn Clock>,
    pub ledger: RwLock<Ledger>,
    pub tip: watch::Sender<Tip>,
    pub health: watch::Sender<Health>,
    /// Hashes of all headers, sealed ones that are not final yet included.
    pub history: RwLock<AppendTree>,
    pub log: Blocks,
    pub index: Arc<Index>,
    pub blocks: broadcast::Sender<Arc<FinalBlock>>,
    pub metrics: Metrics,
    pub in_flight: AtomicUsize,
    pub stop: AtomicBool,
    /// Hashes of headers that are committed and not final yet; empty on a ledger of one node.
    pub pending_headers: RwLock<BTreeMap<u64, Hash>>,
    /// Proofs of memberships that were asked for before.
    pub memberships: crate::memberships::Made,
    /// The rows for SQL, and where final blocks go for it; none without SQL.
    pub view: Option<(Arc<View>, Sender<ToView>)>,
    /// What only members of a cluster have.
    pub cluster: Option<Arc<ClusterState>>,
}

impl Shared {
    pub(crate) fn tip(&self) -> Tip {
        *self.tip.borrow()
    }

    /// The ledger's time: the clock's, and never before the newest final block's.
    pub(crate) fn time_ms(&self) -> u64 {
        self.clock.now_ms().max(self.tip().time_ms)
    }

    pub(crate) fn health(&self) -> Health {
        self.health.borrow().clone()
    }

    /// Does this node hold the log alone, and no state?
    pub(crate) fn is_witness(&self) -> bool {
        self.cluster.as_ref().is_some_and(|cluster| cluster.is_witness)
    }

    pub(crate) fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    pub(crate) fn is_rewinding(&self) -> bool {
        matches!(*self.health.borrow(), Health::Rewinding { .. })
    }

    /// Certificates below this height are on disk.
    pub(crate) fn kept_certificates(&self, next_height: u64) {
        if let Some(cluster) = &self.cluster {
            cluster.kept_to.store(next_height, Ordering::Release);
        }
    }

    /// Marks the disk as full; true when it was not marked before.
    pub(crate) fn storage_is_full(&self) -> bool {
        self.health.send_if_modified(|health| {
            let was_running = *health == Health::Running;
            if was_running {
                *health = Health::StorageFull;
            }
            was_running
        })
    }

    /// The disk has room again; true when it was marked as full.
    pub(crate) fn storage_has_room(&self) -> bool {
        self.health.send_if_modified(|health| {
            let was_full = *health == Health::StorageFull;
            if was_full {
                *health = Health::Running;
            }
            was_full
        })
    }

    pub(crate) fn fail(&self, reason: String) {
        tracing::error!(%reason, "the node stops taking transactions");
        self.health.send_replace(Health::Stopped(reason));
        self.stop.store(true, Ordering::Release);
    }

    /// Stops because the ledger in memory is not the one that the cluster committed; the process
    /// opens it anew. `void` is a block that this node executed otherwise.
    pub(crate) fn rewind(&self, reason: &str, void: Option<(u64, Hash)>) {
        tracing::warn!(%reason, ?void, "opening the ledger anew from disk");
        let health = |health: &mut Health| {
            let is_first = !matches!(health, Health::Stopped(_) | Health::Rewinding { .. });
            if is_first {
                *health = Health::Rewinding { reason: reason.to_owned(), void };
            }
            is_first
        };
        self.health.send_if_modified(health);
        self.stop.store(true, Ordering::Release);
    }

    pub(crate) fn producer_name(&self, producer: u16) -> String {
        if let Some(cluster) = &self.cluster {
            return status::name_of(&cluster.membership(), producer);
        }
        let voter = self.genesis.voters.get(usize::from(producer));
        voter.map_or_else(|| producer.to_string(), |voter| voter.name.clone())
    }
}

/// One submit request under way: an outcome for each of its transactions.
pub(crate) struct Submission {
    outcomes: Mutex<Vec<Option<SubmitOutcome>>>,
    remaining: AtomicUsize,
    done: Mutex<Option<oneshot::Sender<Vec<SubmitOutcome>>>>,
    /// The request's share of the room for bodies, given back when its last transaction is settled,
    /// also when the client has gone.
    _room: Option<OwnedSemaphorePermit>,
}

impl Submission {
    pub(crate) fn new(
        count: usize,
        room: Option<OwnedSemaphorePermit>,
    ) -> (Arc<Self>, oneshot::Receiver<Vec<SubmitOutcome>>) {
        let (sender, receiver) = oneshot::channel();
        let submission = Self {
            outcomes: Mutex::new(vec![None; count]),
            remaining: AtomicUsize::new(count),
            done: Mutex::new(Some(sender)),
            _room: room,
        };
        (Arc::new(submission), receiver)
    }

    /// Sets outcomes; the last one answers the request.
    pub(crate) fn settle(&self, outcomes: impl IntoIterator<Item = (usize, SubmitOutcome)>) {
        let mut settled = 0usize;
        {
            let mut places = self.outcomes.lock();
            for (position, outcome) in outcomes {
                if let Some(place @ None) = places.get_mut(position) {
                    *place = Some(outcome);
                    settled += 1;
                }
            }
        }
        if settled > 0 && self.remaining.fetch_sub(settled, Ordering::AcqRel) == settled {
            let all = std::mem::take(&mut *self.outcomes.lock());
            if let Some(done) = self.done.lock().take() {
                // The client may be gone; its transactions are recorded all the same.
                let _ = done.send(all.into_iter().flatten().collect());
            }
        }
    }
}

/// Outcomes of one submission that wait for a block to be final.
pub(crate) struct Reply {
    pub submission: Arc<Submission>,
    pub outcomes: Vec<(usize, SubmitOutcome)>,
}

impl Reply {
    pub(crate) fn send(self) {
        self.submission.settle(self.outcomes);
    }
}

/// A message to the sequencer.
pub(crate) enum ToSequencer {
    Checked(crate::intake::Checked),
    /// What members say; only a leader takes it.
    Notice(Notice, Vec<Statement>),
    /// A height that the cluster has committed.
    Committed(Box<Replay>),
    /// Tell when nothing made before this is on its way any more.
    Mark(oneshot::Sender<()>),
    /// Finish the block under construction and make no more until told.
    Pause,
    /// Go on after a pause.
    Resume,
    /// This node leads, and has executed what was committed before.
    Lead,
    /// This node leads no more.
    Follow,
    Proof(ProofQuery),
    /// Roots of all tables at a height.
    Tables(TableQuery),
    /// Copy a partition at the next block boundary.
    Snapshot(u16),
    Stop,
}

/// Outcome of a recorded transaction.
pub(crate) fn recorded(entry: &Entry, at: Location) -> SubmitOutcome {
    SubmitOutcome::Recorded {
        id: TransactionId(entry.record.id.0),
        height: at.height,
        position: at.position,
        result: entry.result,
        failed_operation: entry.failed_operation,
    }
}
