//! All tables, and the snapshots that are open.
//!
//! # Invariants
//! - A snapshot sees of every row the newest version made at or below its height, and no other,
//!   until it is dropped or expires.
//! - [`View::apply`] raises the height after the block's last row is in, so no snapshot sees half a
//!   block. Until then the versions below stay, because a snapshot may still be opened at the
//!   height before.
//! - An expired snapshot is marked before anything it needs is dropped, and a reader looks at the
//!   mark while it holds the partition's lock: what it has read before the mark was whole.

use crate::chain::Chain;
use crate::version::Version;
use kanjo_types::record::{PARTITIONS, RowKey, Table};
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How many snapshots there can be, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most snapshots open at the same time.
    pub snapshots_max: usize,
    /// A snapshot that is older expires with the next block.
    pub snapshot_age_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { snapshots_max: 4_096, snapshot_age_max: Duration::from_mins(5) }
    }
}

/// A snapshot can't be had or used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// As many as may be are open.
    #[error(
        "{0} snapshots are open, and no more are allowed; try again when statements have ended"
    )]
    TooMany(usize),
    /// It was held for too long: rows that it needs may be gone.
    #[error("the snapshot at height {0} was held for too long and has expired; run it again")]
    Expired(u64),
}

/// Rows in the order of their keys, and where to go on, unless these were the last.
pub type Batch = (Vec<(RowKey, Version)>, Option<Bound<RowKey>>);

type Rows = BTreeMap<RowKey, Chain>;

#[derive(Default)]
struct Partition {
    rows: Rows,
    /// Rows that have older versions.
    layered: BTreeSet<RowKey>,
}

struct Open {
    height: u64,
    since: Instant,
    expired: Arc<AtomicBool>,
}

#[derive(Default)]
struct State {
    height: u64,
    /// By number.
    open: BTreeMap<u64, Open>,
    next_number: u64,
    /// Snapshots went since the last pruning.
    pruning_due: bool,
}

/// The final rows of a ledger.
pub struct View {
    /// By table, then by partition.
    partitions: Vec<RwLock<Partition>>,
    /// Rows by table, those of later blocks included.
    counts: Vec<AtomicUsize>,
    state: Mutex<State>,
    limits: Limits,
}

fn place(table: Table, partition: u16) -> usize {
    table as usize * PARTITIONS + usize::from(partition)
}

impl View {
    /// An empty view; [`View::load`] fills it before [`View::start`].
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let tables = Table::ALL.len();
        Self {
            partitions: (0..tables * PARTITIONS).map(|_| RwLock::default()).collect(),
            counts: (0..tables).map(|_| AtomicUsize::new(0)).collect(),
            state: Mutex::default(),
            limits,
        }
    }

    /// Takes a row as it is when the view begins. Of a key that comes twice the last one counts.
    pub fn load(&self, table: Table, key: RowKey, version: Version) {
        let Some(partition) = self.partitions.get(place(table, key.partition())) else { return };
        if partition.write().rows.insert(key, Chain::new(version)).is_none() {
            self.count(table);
        }
    }

    /// All rows of `height` are in: the view begins.
    pub fn start(&self, height: u64) {
        self.state.lock().height = height;
    }

    /// Takes the rows of the next block, in their order, and shows them all at once.
    ///
    /// # Panics
    /// When `height` is not above that of the block before.
    pub fn apply(&self, height: u64, rows: impl IntoIterator<Item = (Table, RowKey, Version)>) {
        assert!(height > self.height(), "blocks come in order");
        let mut touched = BTreeSet::new();
        for (table, key, version) in rows {
            let at = place(table, key.partition());
            let Some(partition) = self.partitions.get(at) else { continue };
            let mut partition = partition.write();
            if let Some(chain) = partition.rows.get_mut(&key) {
                chain.push(version);
                partition.layered.insert(key);
                touched.insert(at);
            } else {
                partition.rows.insert(key, Chain::new(version));
                self.count(table);
            }
        }
        let pruning_due = {
            let mut state = self.state.lock();
            state.height = height;
            self.expire(&mut state);
            std::mem::take(&mut state.pruning_due)
        };
        if pruning_due {
            self.prune(0..self.partitions.len());
        } else {
            self.prune(touched);
        }
    }

    /// Lets go of snapshots that are too old and of rows that nobody sees any more: for when no
    /// block comes for a while.
    pub fn tidy(&self) {
        let due = {
            let mut state = self.state.lock();
            self.expire(&mut state);
            std::mem::take(&mut state.pruning_due)
        };
        if due {
            self.prune(0..self.partitions.len());
        }
    }

    fn expire(&self, state: &mut State) {
        let age_max = self.limits.snapshot_age_max;
        let before = state.open.len();
        state.open.retain(|_, open| {
            let keep = open.since.elapsed() <= age_max;
            if !keep {
                open.expired.store(true, Ordering::SeqCst);
            }
            keep
        });
        state.pruning_due |= state.open.len() < before;
    }

    fn prune(&self, places: impl IntoIterator<Item = usize>) {
        let readers: Vec<u64> = {
            let state = self.state.lock();
            let heights: BTreeSet<u64> = state.open.values().map(|open| open.height).collect();
            heights.into_iter().collect()
        };
        for partition in places.into_iter().filter_map(|at| self.partitions.get(at)) {
            let mut partition = partition.write();
            let Partition { rows, layered } = &mut *partition;
            layered.retain(|key| rows.get_mut(key).is_some_and(|chain| chain.prune(&readers)));
        }
    }

    fn count(&self, table: Table) {
        if let Some(count) = self.counts.get(table as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many rows a table has, about: of the newest block, or of one that is being applied.
    #[must_use]
    pub fn rows(&self, table: Table) -> usize {
        self.counts.get(table as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Height of the newest block that readers see.
    #[must_use]
    pub fn height(&self) -> u64 {
        self.state.lock().height
    }

    /// How many snapshots are open.
    #[must_use]
    pub fn snapshots(&self) -> usize {
        self.state.lock().open.len()
    }

    /// How many rows keep older versions.
    #[must_use]
    pub fn layered(&self) -> usize {
        self.partitions.iter().map(|partition| partition.read().layered.len()).sum()
    }

    /// Opens a snapshot at the newest height.
    ///
    /// # Errors
    /// [`SnapshotError::TooMany`].
    pub fn snapshot(self: &Arc<Self>) -> Result<Snapshot, SnapshotError> {
        let mut state = self.state.lock();
        if state.open.len() >= self.limits.snapshots_max {
            return Err(SnapshotError::TooMany(state.open.len()));
        }
        let (number, height) = (state.next_number, state.height);
        state.next_number += 1;
        let expired = Arc::new(AtomicBool::new(false));
        let open = Open { height, since: Instant::now(), expired: Arc::clone(&expired) };
        state.open.insert(number, open);
        Ok(Snapshot { view: Arc::clone(self), height, number, expired })
    }
}

/// All rows as they were at a height.
pub struct Snapshot {
    view: Arc<View>,
    height: u64,
    number: u64,
    expired: Arc<AtomicBool>,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").field("height", &self.height).finish_non_exhaustive()
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        let mut state = self.view.state.lock();
        if state.open.remove(&self.number).is_some_and(|open| open.height < state.height) {
            state.pruning_due = true;
        }
    }
}

impl Snapshot {
    /// At which height.
    #[must_use]
    pub fn height(&self) -> u64 {
        self.height
    }

    /// How many rows a table has, about.
    #[must_use]
    pub fn rows(&self, table: Table) -> usize {
        self.view.rows(table)
    }

    /// Fails once the snapshot has expired.
    ///
    /// # Errors
    /// [`SnapshotError::Expired`].
    pub fn check(&self) -> Result<(), SnapshotError> {
        if self.expired.load(Ordering::SeqCst) {
            return Err(SnapshotError::Expired(self.height));
        }
        Ok(())
    }

    /// The row with a key.
    ///
    /// # Errors
    /// [`SnapshotError::Expired`].
    pub fn get(&self, table: Table, key: &RowKey) -> Result<Option<Version>, SnapshotError> {
        let Some(partition) = self.view.partitions.get(place(table, key.partition())) else {
            return Ok(None);
        };
        let partition = partition.read();
        self.check()?;
        Ok(partition.rows.get(key).and_then(|chain| chain.at(self.height)).cloned())
    }

    /// The next rows of a table from `from` on up to and including `to`, in the order of their
    /// keys, at most `limit` of them; and where to go on, unless these were the last.
    ///
    /// # Errors
    /// [`SnapshotError::Expired`].
    pub fn scan(
        &self,
        table: Table,
        from: Bound<RowKey>,
        to: RowKey,
        limit: usize,
    ) -> Result<Batch, SnapshotError> {
        let mut found = Vec::new();
        let first = match &from {
            Bound::Included(key) | Bound::Excluded(key) => key.partition(),
            Bound::Unbounded => 0,
        };
        if is_empty(&from, &to) {
            return Ok((found, None));
        }
        // Keys of one partition are all below those of the next: top bits are what they go by.
        for number in first..=to.partition() {
            let Some(partition) = self.view.partitions.get(place(table, number)) else { break };
            let partition = partition.read();
            self.check()?;
            for (key, chain) in partition.rows.range((from, Bound::Included(to))) {
                let Some(version) = chain.at(self.height) else { continue };
                if found.len() >= limit {
                    let last = found.last().map_or(from, |(key, _)| Bound::Excluded(*key));
                    return Ok((found, Some(last)));
                }
                found.push((*key, version.clone()));
            }
        }
        Ok((found, None))
    }
}

/// Would a map refuse the range?
fn is_empty(from: &Bound<RowKey>, to: &RowKey) -> bool {
    match from {
        Bound::Included(key) => key > to,
        Bound::Excluded(key) => key >= to,
        Bound::Unbounded => false,
    }
}
