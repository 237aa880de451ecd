//! Behind the log: the index, and checkpoints of one partition after the other.

use crate::cluster::witness;
use crate::history;
use crate::metrics::{Stage, ThreadClock};
use crate::shared::{Health, Shared, ToSequencer};
use crate::subjects;
use borsh::{BorshDeserialize, BorshSerialize};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use kanjo_ledger::PartitionSnapshot;
use kanjo_store::checkpoint::CheckpointStore;
use kanjo_store::index::IndexEntry;
use kanjo_types::codec;
use kanjo_types::membership::Membership;
use kanjo_types::record::PARTITIONS;
use kanjo_types::stored::{Entry, Row};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A final block for the index.
pub(crate) struct ToIndex {
    pub height: u64,
    pub entries: Arc<Vec<Entry>>,
}

/// A partition as it was at `height`; released when that height is final.
pub(crate) struct PartitionCopy {
    pub partition: u16,
    pub height: u64,
    /// Transactions in all blocks up to `height`.
    pub transactions: u64,
    pub content: Copied,
}

/// What is copied.
pub(crate) enum Copied {
    /// The state of a partition.
    State(PartitionSnapshot),
    /// All that a witness knows.
    Members(Arc<Membership>),
}

/// What a checkpoint file of an executor holds.
#[derive(BorshSerialize, BorshDeserialize)]
pub(crate) struct CheckpointPayload {
    /// Transactions in all blocks up to the checkpoint's height.
    pub transactions: u64,
    pub snapshot: PartitionSnapshot,
}

/// Facts of a block for the index.
pub(crate) fn index_entries(entries: &[Entry], genesis_rows: &[Row]) -> Vec<IndexEntry> {
    let mut facts = Vec::with_capacity(entries.len());
    for entry in entries {
        let id = entry.record.id.0.0;
        facts.push(IndexEntry::Transaction { id, position: entry.record.position });
    }
    let of_entries = entries.iter().map(|entry| (entry.record.position, entry.rows.as_slice()));
    for (position, rows) in of_entries.chain([(0, genesis_rows)]) {
        for (number, row) in (0u32..).zip(rows) {
            subjects::facts(&row.record, position, number, &mut facts);
        }
    }
    facts
}

/// How long the indexer waits for a block before it looks at the log by itself.
const INDEX_PAUSE: Duration = Duration::from_millis(100);

/// After a failed write, as on a full disk, the index is tried again after so long.
const INDEX_RETRY: Duration = Duration::from_secs(1);
/// Failures while the disk has room. An index that stays behind would say of transactions that they
/// don't exist; after a restart it is made good from the log.
const INDEX_FAILURES_MAX: u32 = 30;

/// Indexes final blocks as they come. What the index lacks at the start, and what the writer had no
/// room to hand over, is read from the log: payments never wait for the index.
pub(crate) fn run_indexer(shared: &Shared, blocks: &Receiver<ToIndex>) {
    let cpu = shared.metrics.thread(Stage::Background);
    let mut failures = 0;
    while let Err(reason) = index_all(shared, blocks, &cpu) {
        tracing::error!(%reason, "the index waits; look-ups by id may miss newer transactions");
        if shared.stopping() {
            return;
        }
        failures = if shared.health() == Health::StorageFull { 0 } else { failures + 1 };
        if failures > INDEX_FAILURES_MAX {
            return shared.fail(format!("the index: {reason}"));
        }
        std::thread::sleep(INDEX_RETRY);
    }
}

fn index_all(shared: &Shared, blocks: &Receiver<ToIndex>, cpu: &ThreadClock) -> Result<(), String> {
    let mut next = shared.index.next_height().unwrap_or(0);
    loop {
        let received = blocks.recv_timeout(INDEX_PAUSE);
        let over = matches!(received, Err(RecvTimeoutError::Disconnected));
        let final_height = || (shared.tip().height + 1).min(shared.log.next_height());
        let ready = received.as_ref().map_or_else(|_| final_height(), |block| block.height);
        while next < ready && !shared.stopping() {
            let block = history::read_block(shared, next).map_err(|error| error.to_string())?;
            let facts = index_entries(&block.entries, &block.genesis_rows);
            shared.index.record(next, &facts).map_err(|error| error.to_string())?;
            next += 1;
            cpu.lap();
        }
        if let Ok(block) = received
            && block.height == next
        {
            let facts = index_entries(&block.entries, &[]);
            shared.index.record(next, &facts).map_err(|error| error.to_string())?;
            next += 1;
        }
        cpu.lap();
        if over {
            return shared.index.flush().map_err(|error| error.to_string());
        }
    }
}

/// Asks for one partition after the other, so that each is copied about once in the configured
/// time.
pub(crate) fn run_checkpoint_clock(shared: &Shared, sequencer: &Sender<ToSequencer>) {
    let interval = Duration::from_secs(shared.config.checkpoint_interval_s.max(1));
    let pause = interval / u32::try_from(PARTITIONS).unwrap_or(64);
    let mut copied_at = [0u64; PARTITIONS];
    loop {
        for (partition, copied_at) in (0u16..).zip(&mut copied_at) {
            let wake_at = Instant::now() + pause;
            while Instant::now() < wake_at {
                if shared.stopping() {
                    return;
                }
                std::thread::sleep(pause.min(Duration::from_millis(20)));
            }
            let height = shared.tip().height;
            if height > *copied_at {
                if sequencer.send(ToSequencer::Snapshot(partition)).is_err() {
                    return;
                }
                *copied_at = height;
            }
        }
    }
}

/// Writes copies as they come, until the writer is gone.
pub(crate) fn run_checkpointer(
    shared: &Shared,
    store: &CheckpointStore,
    copies: &Receiver<PartitionCopy>,
) {
    let cpu = shared.metrics.thread(Stage::Background);
    while let Ok(copy) = copies.recv() {
        let transactions = copy.transactions;
        let bytes = match copy.content {
            Copied::State(snapshot) => {
                codec::to_bytes(&CheckpointPayload { transactions, snapshot })
            }
            Copied::Members(membership) => {
                let membership = (*membership).clone();
                codec::to_bytes(&witness::Memory { transactions, membership })
            }
        };
        let mut fill = |out: &mut dyn std::io::Write| out.write_all(&bytes);
        if let Err(error) = store.write(copy.partition, copy.height, &mut fill) {
            // The log has everything; a restart takes longer.
            tracing::warn!(%error, partition = copy.partition, "checkpoint not written");
        }
        cpu.lap();
    }
}
