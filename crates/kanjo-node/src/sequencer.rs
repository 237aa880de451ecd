//! The sequencer: takes checked transactions in ticket order, executes them, cuts blocks. A block
//! begins with what the ledger has to do by itself at its time; when nothing else comes, such work
//! makes a block of its own.

use crate::background::{Copied, PartitionCopy};
use crate::evidence;
use crate::intake::{Checked, Item};
use crate::metrics::Stage;
use crate::proofs::{self, ResolvedQuery};
use crate::shared::{Reply, Shared, ToSequencer, recorded};
use crate::tables::TableQuery;
use bytes::Bytes;
use crossbeam_channel::{Receiver, RecvError, RecvTimeoutError, Sender};
use kanjo_api::SubmitOutcome;
use kanjo_ledger::block::bytes_of;
use kanjo_ledger::chain::Placed;
use kanjo_ledger::recompute::{Ready, recompute};
use kanjo_ledger::{BlockContext, BlockEffects, Verified};
use kanjo_types::membership::{Membership, Notice, Statement};
use kanjo_types::outcome::Refusal;
use kanjo_types::stored::{Entry, Location};
use parking_lot::RwLockWriteGuard;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How often the clock is looked at while the ledger has something to do later.
const DUE_POLL: Duration = Duration::from_millis(50);

/// What the sealer gets: a block's content, or only things that must wait for earlier blocks to be
/// final.
#[derive(Default)]
pub(crate) struct Batch {
    pub block: Option<BatchBlock>,
    pub replies: Vec<Reply>,
    pub proofs: Vec<ResolvedQuery>,
    pub tables: Vec<TableQuery>,
    pub copies: Vec<PartitionCopy>,
    /// Told when nothing made before is on its way any more.
    pub marks: Vec<oneshot::Sender<()>>,
}

/// The content of a block.
pub(crate) struct BatchBlock {
    pub context: BlockContext,
    pub entries: Vec<Entry>,
    pub effects: BlockEffects,
    pub origin: Origin,
    /// The membership after the block.
    pub membership: Arc<Membership>,
}

/// Where a block comes from.
pub(crate) enum Origin {
    /// Made here.
    Made,
    /// Made by another leader and committed by the cluster; its encoding.
    Replayed(Box<Placed>, Bytes),
    /// A height at which nothing is done.
    Empty(Box<Placed>),
}

/// A committed height on its way to be executed.
pub(crate) struct Replay {
    pub placed: Placed,
    /// Its transactions and its encoding; nothing for an empty height.
    pub block: Option<(Vec<Ready>, Bytes)>,
    /// Afterwards this node leads.
    pub leads_after: bool,
}

/// Who makes blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// This node.
    Leading,
    /// This node, once the cluster's engine has changed its voters.
    Paused,
    /// Another one.
    Following,
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
    mode: Mode,
    /// Jobs that came while paused.
    stash: VecDeque<Checked>,
    stopping: bool,
    /// The ledger in memory is not the cluster's: it must be opened anew.
    broken: bool,
}

/// The block under construction.
#[derive(Default)]
struct Open {
    context: Option<BlockContext>,
    entries: Vec<Entry>,
    bytes: usize,
    replies: Vec<Reply>,
    queries: Vec<proofs::ProofQuery>,
    tables: Vec<TableQuery>,
    snapshots: Vec<u16>,
    marks: Vec<oneshot::Sender<()>>,
}

impl Open {
    fn is_empty(&self) -> bool {
        self.entries.is_empty()
            && self.replies.is_empty()
            && self.queries.is_empty()
            && self.tables.is_empty()
            && self.snapshots.is_empty()
            && self.marks.is_empty()
    }
}

impl Sequencer {
    /// A sequencer that makes blocks at once (a ledger of one node), or follows first.
    pub(crate) fn new(
        shared: Arc<Shared>,
        messages: Receiver<ToSequencer>,
        sealer: Sender<Batch>,
        is_alone: bool,
    ) -> Self {
        let mode = if is_alone { Mode::Leading } else { Mode::Following };
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
            mode,
            stash: VecDeque::new(),
            stopping: false,
            broken: false,
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
            if self.broken {
                break;
            }
            let cut_at = Instant::now() + interval;
            // Whatever follows a committed height, or a change of mode, is another batch.
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
            if self.broken || (self.stopping && self.messages.is_empty()) {
                break;
            }
        }
    }

    /// The next message; nothing when it is time to look whether something is due.
    fn next_message(&self) -> Result<Option<ToSequencer>, RecvError> {
        // At the end what is left to do waits for the next start.
        if self.due_ms.is_none() || self.stopping || self.mode != Mode::Leading {
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
        self.mode == Mode::Leading && self.due_ms.is_some_and(|due_ms| due_ms <= self.now_ms())
    }

    fn take_one_more(&mut self) {
        if let Ok(message) = self.messages.recv_timeout(Duration::from_millis(1)) {
            self.take(message);
        }
    }

    fn is_full(&self) -> bool {
        if self.broken {
            return true;
        }
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
                    match self.mode {
                        Mode::Leading => self.execute(checked),
                        Mode::Paused => self.stash.push_back(checked),
                        Mode::Following => self.refuse(&checked),
                    }
                }
            }
            ToSequencer::Notice(notice, statements) => self.take_notice(notice, statements),
            ToSequencer::Proof(query) => self.open.queries.push(query),
            ToSequencer::Tables(query) => self.open.tables.push(query),
            ToSequencer::Snapshot(partition) => self.open.snapshots.push(partition),
            ToSequencer::Committed(replay) => self.replay(*replay),
            ToSequencer::Mark(mark) => self.open.marks.push(mark),
            ToSequencer::Pause => self.set_mode(Mode::Leading, Mode::Paused),
            ToSequencer::Resume => self.set_mode(Mode::Paused, Mode::Leading),
            ToSequencer::Lead => self.set_mode(Mode::Following, Mode::Leading),
            ToSequencer::Follow => {
                self.set_mode(Mode::Leading, Mode::Following);
                self.set_mode(Mode::Paused, Mode::Following);
            }
            ToSequencer::Stop => self.stopping = true,
        }
    }

    /// Ends the block under construction and sends it on. False when the sealer is gone.
    fn flush(&mut self) -> bool {
        let batch = self.cut();
        batch.is_none_or(|batch| self.sealer.send(batch).is_ok())
    }

    fn set_mode(&mut self, from: Mode, to: Mode) {
        if self.mode != from {
            return;
        }
        if !self.flush() {
            self.broken = true;
            return;
        }
        tracing::debug!(?from, ?to, next_height = self.next_height, "sequencer");
        self.mode = to;
        while let Some(checked) = self.stash.pop_front() {
            if to == Mode::Leading {
                self.execute(checked);
            } else {
                self.refuse(&checked);
            }
        }
    }

    /// Only a leader takes transactions; the same one may be sent to it.
    fn refuse(&self, checked: &Checked) {
        let outcome =
            || SubmitOutcome::Refused { refusal: Refusal::NoLeader, field: "node".to_owned() };
        let count = checked.items.len();
        self.shared.in_flight.fetch_sub(count, Ordering::AcqRel);
        checked.submission.settle((0..count).map(|offset| (checked.first + offset, outcome())));
    }

    /// Takes what members say about themselves or each other; the epoch makes it good once, so what
    /// comes too late is passed over.
    fn take_notice(&mut self, notice: Notice, statements: Vec<Statement>) {
        if self.mode != Mode::Leading {
            return;
        }
        let context = self.context();
        let position = u32::try_from(self.open.entries.len()).unwrap_or(u32::MAX);
        let mut ledger = self.shared.ledger.write();
        match ledger.take_notice(context, position, notice, statements) {
            Ok(entry) => {
                self.open.bytes += bytes_of(&entry);
                self.open.entries.push(entry);
            }
            Err(error) => tracing::info!(%error, "a notice was not taken"),
        }
    }

    /// Executes what the cluster has committed.
    fn replay(&mut self, replay: Replay) {
        let Replay { placed, block, leads_after } = replay;
        let height = placed.header.height;
        if self.mode == Mode::Leading && self.open.entries.is_empty() {
            self.mode = Mode::Following;
        }
        if self.mode == Mode::Leading || height != self.next_height {
            // Executed here: something that the cluster did not commit at this height.
            self.broken = true;
            return self.shared.rewind("another leader's block was committed", None);
        }
        if !self.flush() {
            self.broken = true;
            return;
        }
        let context = BlockContext { height, time_ms: placed.header.time_ms };
        let mut entries = Vec::new();
        let mut effects = BlockEffects::default();
        let placed = Box::new(placed);
        let origin = match block {
            None => Origin::Empty(placed),
            Some((transactions, content)) => {
                let mut ledger = self.shared.ledger.write();
                let shared = &self.shared;
                let mut headers =
                    |verified: &Verified| evidence::headers_below(shared, verified, height);
                match recompute(&mut ledger, context, transactions, &mut headers) {
                    Ok(computed) => entries = computed,
                    Err(difference) => {
                        drop(ledger);
                        self.broken = true;
                        let void = Some((height, placed.hash));
                        return self.shared.rewind(&difference.to_string(), void);
                    }
                }
                effects = ledger.end_block();
                self.due_ms = ledger.next_due_ms();
                Origin::Replayed(placed, content)
            }
        };
        self.next_height = height + 1;
        self.transactions += entries.len() as u64;
        self.last_time_ms = context.time_ms;
        let membership = self.shared.ledger.read().membership().clone();
        let block = Some(BatchBlock { context, entries, effects, origin, membership });
        let batch = Batch { block, ..Batch::default() };
        if self.sealer.send(batch).is_err() {
            self.broken = true;
        }
        // A change of the engine's voters is made in a pause, which has its own end.
        if leads_after && self.mode != Mode::Paused {
            self.mode = Mode::Leading;
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
                let membership = ledger.membership().clone();
                drop(ledger);
                self.next_height += 1;
                self.transactions += open.entries.len() as u64;
                self.last_time_ms = context.time_ms;
                let (entries, origin) = (open.entries, Origin::Made);
                Some(BatchBlock { context, entries, effects, origin, membership })
            }
            _ => None,
        };
        let ledger = self.shared.ledger.read();
        let height = self.next_height - 1;
        let copies = open.snapshots.into_iter().map(|partition| PartitionCopy {
            partition,
            height,
            transactions: self.transactions,
            content: Copied::State(ledger.snapshot(partition)),
        });
        let copies = copies.collect();
        let proofs = open.queries.into_iter().map(|query| query.resolve(&ledger)).collect();
        drop(ledger);
        let (replies, tables, marks) = (open.replies, open.tables, open.marks);
        Some(Batch { block, replies, proofs, tables, copies, marks })
    }
}
