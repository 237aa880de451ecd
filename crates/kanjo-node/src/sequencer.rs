//! The sequencer: takes checked transactions in ticket order, executes them, cuts blocks. A block
//! begins with what the ledger has to do by itself at its time; when nothing else comes, such work
//! makes a block of its own.

use crate::background::PartitionCopy;
use crate::evidence;
use crate::intake::{Checked, Item};
use crate::metrics::Stage;
use crate::proofs::{self, ResolvedQuery};
use crate::shared::{Reply, Shared, ToSequencer, recorded};
use crossbeam_channel::{Receiver, RecvError, RecvTimeoutError, Sender};
use kanjo_api::SubmitOutcome;
use kanjo_ledger::block::bytes_of;
use kanjo_ledger::{BlockContext, BlockEffects};
use kanjo_types::stored::{Entry, Location};
use parking_lot::RwLockWriteGuard;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the clock is looked at while the ledger has something to do later.
const DUE_POLL: Duration = Duration::from_millis(50);

/// What the sealer gets: a block's content, or only things that must wait for earlier blocks to be
/// final.
pub(crate) struct Batch {
    pub block: Option<BatchBlock>,
    pub replies: Vec<Reply>,
    pub proofs: Vec<ResolvedQuery>,
    pub copies: Vec<PartitionCopy>,
}

/// The content of a block.
pub(crate) struct BatchBlock {
    pub context: BlockContext,
    pub entries: Vec<Entry>,
    pub effects: BlockEffects,
}

pub(crate) struct Sequencer {
    shared: Arc<Shared>,
    messages: Receiver<ToSequencer>,
    sealer: Sender<Batch>,
    next_height: u64,
    /// Transactions in all blocks below `next_height`.
    transactions: u64,
    last_time_ms: u64,
    /// When the ledger has something to do by itself, as of the last block.
    due_ms: Option<u64>,
    next_ticket: u64,
    /// Jobs that came before their turn.
    early: BTreeMap<u64, Checked>,
    open: Open,
    stopping: bool,
}

/// The block under construction.
#[derive(Default)]
struct Open {
    context: Option<BlockContext>,
    entries: Vec<Entry>,
    bytes: usize,
    replies: Vec<Reply>,
    queries: Vec<proofs::ProofQuery>,
    snapshots: Vec<u16>,
}

impl Open {
    fn is_empty(&self) -> bool {
        self.entries.is_empty()
            && self.replies.is_empty()
            && self.queries.is_empty()
            && self.snapshots.is_empty()
    }
}

impl Sequencer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        messages: Receiver<ToSequencer>,
        sealer: Sender<Batch>,
    ) -> Self {
        let tip = shared.tip();
        let due_ms = shared.ledger.read().next_due_ms();
        Self {
            shared,
            messages,
            sealer,
            next_height: tip.height + 1,
            transactions: tip.transactions,
            last_time_ms: tip.time_ms,
            due_ms,
            next_ticket: 0,
            early: BTreeMap::new(),
            open: Open::default(),
            stopping: false,
        }
    }

    /// Runs until told to stop and the queue is empty, or the sealer is gone.
    pub(crate) fn run(mut self) {
        let cpu = self.shared.metrics.thread(Stage::Execution);
        let interval = Duration::from_millis(self.shared.config.block_interval_ms);
        loop {
            match self.next_message() {
                Ok(Some(message)) => self.take(message),
                Ok(None) if self.is_due() => {
                    self.context();
                }
                Ok(None) => continue,
                Err(RecvError) => break,
            }
            let cut_at = Instant::now() + interval;
            let batch = loop {
                if self.is_full() || self.open.is_empty() {
                    break self.cut();
                }
                match self.messages.recv_deadline(cut_at) {
                    Ok(message) => self.take(message),
                    // While the sealer is busy, a larger block is better than a queue of small
                    // ones.
                    Err(RecvTimeoutError::Timeout) if self.sealer.is_full() => self.take_one_more(),
                    Err(_) => break self.cut(),
                }
            };
            if batch.is_some_and(|batch| self.sealer.send(batch).is_err()) {
                break;
            }
            cpu.lap();
            if self.stopping && self.messages.is_empty() {
                break;
            }
        }
    }

    /// The next message; nothing when it is time to look whether something is due.
    fn next_message(&self) -> Result<Option<ToSequencer>, RecvError> {
        // At the end what is left to do waits for the next start.
        if self.due_ms.is_none() || self.stopping {
            return self.messages.recv().map(Some);
        }
        let ahead_ms = self.due_ms.map_or(0, |due_ms| due_ms.saturating_sub(self.now_ms()));
        if ahead_ms == 0 {
            return Ok(None);
        }
        match self.messages.recv_timeout(DUE_POLL.min(Duration::from_millis(ahead_ms))) {
            Ok(message) => Ok(Some(message)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(RecvError),
        }
    }

    /// The time of a block that is opened now.
    fn now_ms(&self) -> u64 {
        self.shared.clock.now_ms().max(self.last_time_ms)
    }

    fn is_due(&self) -> bool {
        self.due_ms.is_some_and(|due_ms| due_ms <= self.now_ms())
    }

    fn take_one_more(&mut self) {
        if let Ok(message) = self.messages.recv_timeout(Duration::from_millis(1)) {
            self.take(message);
        }
    }

    fn is_full(&self) -> bool {
        let config = &self.shared.config;
        self.open.entries.len() >= config.block_transactions_max
            || self.open.bytes >= config.block_bytes_max
            // One copy of a partition at a time: together they are as large as the state.
            || !self.open.snapshots.is_empty()
            || self.stopping
    }

    fn take(&mut self, message: ToSequencer) {
        match message {
            ToSequencer::Checked(checked) => {
                self.early.insert(checked.ticket, checked);
                while let Some(checked) = self.early.remove(&self.next_ticket) {
                    self.next_ticket += 1;
                    self.execute(checked);
                }
            }
            ToSequencer::Proof(query) => self.open.queries.push(query),
            ToSequencer::Snapshot(partition) => self.open.snapshots.push(partition),
            ToSequencer::Stop => self.stopping = true,
        }
    }

    /// Opens a block, unless one is open: it begins with what is due.
    fn context(&mut self) -> BlockContext {
        if let Some(context) = self.open.context {
            return context;
        }
        let context = BlockContext { height: self.next_height, time_ms: self.now_ms() };
        self.open.context = Some(context);
        if self.due_ms.is_some_and(|due_ms| due_ms <= context.time_ms) {
            let due = self.shared.ledger.write().run_due(context);
            #[allow(clippy::expect_used)]
            // A ledger that can't do it is broken: nothing may be made.
            let entries = due.expect("what is due can always be recorded");
            assert!(!entries.is_empty(), "the agenda names something to do");
            self.open.bytes += entries.iter().map(bytes_of).sum::<usize>();
            self.open.entries = entries;
        }
        context
    }

    fn execute(&mut self, checked: Checked) {
        let context = self.context();
        let mut outcomes = Vec::with_capacity(checked.items.len());
        let mut ledger = self.shared.ledger.write();
        for (offset, item) in checked.items.into_iter().enumerate() {
            let number = self.open.entries.len();
            let position = u32::try_from(number).unwrap_or(u32::MAX);
            let verified = match item {
                Item::Verified(verified) => Ok(verified),
                Item::Refused(refused) => Err(refused),
                Item::Doubtful(doubtful) => doubtful.settle(&ledger),
            };
            let outcome = verified.and_then(|mut verified| {
                if !verified.wanted_headers().is_empty() {
                    // Waiting, perhaps: readers go on. Only this thread changes the ledger.
                    let set = || evidence::set_headers(&self.shared, &mut verified, context.height);
                    RwLockWriteGuard::unlocked(&mut ledger, set)?;
                }
                let entry = ledger.execute(context, position, &verified)?;
                let at = Location { height: context.height, position };
                let outcome = recorded(&entry, at);
                self.open.bytes += bytes_of(&entry);
                self.open.entries.push(entry);
                Ok(outcome)
            });
            let outcome = outcome.unwrap_or_else(|refused| SubmitOutcome::Refused {
                refusal: refused.refusal,
                field: refused.field,
            });
            outcomes.push((checked.first + offset, outcome));
        }
        drop(ledger);
        // A refusal too is answered only when all that came before it is final: "already used" must
        // be true.
        self.open.replies.push(Reply { submission: checked.submission, outcomes });
    }

    /// Closes the block under construction.
    fn cut(&mut self) -> Option<Batch> {
        if self.open.is_empty() {
            return None;
        }
        let open = std::mem::take(&mut self.open);
        let block = match open.context {
            Some(context) if !open.entries.is_empty() => {
                let mut ledger = self.shared.ledger.write();
                // Only for a block that is made: ids forgotten at a time that no block has could be
                // taken twice when the clock is set back.
                ledger.begin_block(context);
                let effects = ledger.end_block();
                self.due_ms = ledger.next_due_ms();
                drop(ledger);
                self.next_height += 1;
                self.transactions += open.entries.len() as u64;
                self.last_time_ms = context.time_ms;
                Some(BatchBlock { context, entries: open.entries, effects })
            }
            _ => None,
        };
        let ledger = self.shared.ledger.read();
        let height = self.next_height - 1;
        let copies = open.snapshots.into_iter().map(|partition| PartitionCopy {
            partition,
            height,
            transactions: self.transactions,
            snapshot: ledger.snapshot(partition),
        });
        let copies = copies.collect();
        let proofs = open.queries.into_iter().map(|query| query.resolve(&ledger)).collect();
        drop(ledger);
        Some(Batch { block, replies: open.replies, proofs, copies })
    }
}
