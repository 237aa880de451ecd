//! Executes: the node's `sequencer.rs`, message by message.

use super::open::is_broken;
use super::{Member, Replica};
use crate::scene::Broken;
use crate::time::{Rt, ms, sleep};
use bytes::Bytes;
use kanjo_ledger::chain::Placed;
use kanjo_ledger::recompute::{Ready, recompute};
use kanjo_ledger::{BlockContext, BlockEffects, Verified, prepare, verify_one};
use kanjo_types::membership::{Membership, Notice, Statement};
use kanjo_types::outcome::Refusal;
use kanjo_types::stored::Entry;
use kanjo_types::transaction::Refused;
use kanjo_types::{Hash, ResultCode, TransactionId};
use openraft::AsyncRuntime;
use openraft::Instant as _;
use openraft_rt_sim::SimInstant;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;

/// How long a block stays open after its first transaction, in milliseconds.
const INTERVAL_MS: u64 = 4;
/// Most transactions of a block: few, so that blocks follow each other closely.
const TRANSACTIONS_MAX: usize = 16;

/// What came of a transaction, as a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is in a final block.
    Recorded { id: TransactionId, height: u64, position: u32, result: ResultCode },
    /// It is not taken.
    Refused(Refusal),
}

/// An answer that waits for a block to be final.
pub(crate) struct Reply {
    reply: oneshot::Sender<Outcome>,
    outcome: Outcome,
}

impl Reply {
    pub(crate) fn send(self) {
        // The client may have given up.
        let _ = self.reply.send(self.outcome);
    }
}

/// A committed height on its way to be executed.
pub(crate) struct Replay {
    pub placed: Placed,
    /// Its transactions and its encoding; nothing for an empty height.
    pub block: Option<(Vec<Ready>, Bytes)>,
    /// Afterwards this node leads.
    pub leads_after: bool,
}

/// A message to the maker.
pub(crate) enum ToMaker {
    Submit {
        raw: Bytes,
        reply: oneshot::Sender<Outcome>,
    },
    Notice(Notice, Vec<Statement>),
    Committed(Box<Replay>),
    /// Tell when nothing made before this is on its way any more.
    Mark(oneshot::Sender<()>),
    Pause,
    Resume,
    /// What this node executed is what the cluster has committed: make blocks.
    Lead,
    Follow,
    Stop,
}

/// Where a block comes from.
pub(crate) enum Origin {
    Made,
    Replayed(Box<Placed>, Bytes),
    Empty(Box<Placed>),
}

/// The content of a block.
pub(crate) struct BatchBlock {
    pub context: BlockContext,
    pub entries: Vec<Entry>,
    pub effects: BlockEffects,
    pub origin: Origin,
    pub membership: Arc<Membership>,
}

/// What the sealer gets.
#[derive(Default)]
pub(crate) struct Batch {
    pub block: Option<BatchBlock>,
    pub replies: Vec<Reply>,
    pub marks: Vec<oneshot::Sender<()>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Leading,
    /// Until the engine's voters are changed.
    Paused,
    Following,
}

#[derive(Default)]
struct Open {
    context: Option<BlockContext>,
    entries: Vec<Entry>,
    replies: Vec<Reply>,
    marks: Vec<oneshot::Sender<()>>,
}

impl Open {
    fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.replies.is_empty() && self.marks.is_empty()
    }
}

type Checked = (Bytes, oneshot::Sender<Outcome>);

/// The task's parts.
pub(crate) struct Maker {
    member: Arc<Member>,
    sealer: UnboundedSender<Batch>,
    next_height: u64,
    last_time_ms: u64,
    due_ms: Option<u64>,
    open: Open,
    mode: Mode,
    stash: VecDeque<Checked>,
    broken: bool,
}

impl Maker {
    pub(crate) fn new(
        member: Arc<Member>,
        sealer: UnboundedSender<Batch>,
        next_height: u64,
        last_time_ms: u64,
        due_ms: Option<u64>,
    ) -> Self {
        Self {
            member,
            sealer,
            next_height,
            last_time_ms,
            due_ms,
            open: Open::default(),
            mode: Mode::Following,
            stash: VecDeque::new(),
            broken: false,
        }
    }

    pub(crate) async fn run(mut self, mut messages: UnboundedReceiver<ToMaker>) {
        while let Some(message) = messages.recv().await {
            if !self.take(message) {
                return;
            }
            let mut cut_at = SimInstant::now() + ms(INTERVAL_MS);
            let batch = loop {
                if self.is_full() || self.open.is_empty() {
                    break self.cut();
                }
                match Rt::timeout_at(cut_at, messages.recv()).await {
                    Ok(Some(message)) => {
                        if !self.take(message) {
                            return;
                        }
                    }
                    // While there is no room, a larger block is better than a queue of small ones.
                    Err(_) if self.must_wait() && self.member.is_alive() => {
                        cut_at = SimInstant::now() + ms(1);
                    }
                    _ => break self.cut(),
                }
            };
            if let Some(batch) = batch {
                self.send(batch);
            }
            if self.broken || !self.member.is_alive() {
                return;
            }
            // Executing takes time.
            sleep(self.member.dice.micros(20, 400)).await;
        }
    }

    fn must_wait(&self) -> bool {
        self.mode == Mode::Leading && self.member.flow.available_permits() == 0
    }

    fn send(&mut self, batch: Batch) {
        self.broken |= self.sealer.send(batch).is_err();
    }

    fn is_full(&self) -> bool {
        self.broken || self.open.entries.len() >= TRANSACTIONS_MAX
    }

    /// False when it is time to end.
    fn take(&mut self, message: ToMaker) -> bool {
        match message {
            ToMaker::Submit { raw, reply } => match self.mode {
                Mode::Leading => self.execute((raw, reply)),
                Mode::Paused => self.stash.push_back((raw, reply)),
                Mode::Following => refuse(reply),
            },
            ToMaker::Notice(notice, statements) => self.take_notice(notice, statements),
            ToMaker::Committed(replay) => self.replay(*replay),
            ToMaker::Mark(mark) => self.open.marks.push(mark),
            ToMaker::Pause => self.set_mode(Mode::Leading, Mode::Paused),
            ToMaker::Resume => self.set_mode(Mode::Paused, Mode::Leading),
            ToMaker::Lead => self.set_mode(Mode::Following, Mode::Leading),
            ToMaker::Follow => {
                self.set_mode(Mode::Leading, Mode::Following);
                self.set_mode(Mode::Paused, Mode::Following);
            }
            ToMaker::Stop => return false,
        }
        !self.broken && self.member.is_alive()
    }

    fn flush(&mut self) {
        if let Some(batch) = self.cut() {
            self.send(batch);
        }
    }

    fn set_mode(&mut self, from: Mode, to: Mode) {
        if self.mode != from {
            return;
        }
        self.flush();
        self.mode = to;
        self.member.note(format!("{from:?} → {to:?} at {}", self.next_height));
        while let Some(checked) = self.stash.pop_front() {
            if to == Mode::Leading {
                self.execute(checked);
            } else {
                refuse(checked.1);
            }
        }
    }

    fn take_notice(&mut self, notice: Notice, statements: Vec<Statement>) {
        if self.mode != Mode::Leading {
            return;
        }
        let member = self.member.clone();
        let mut replica = member.replica.lock();
        let Some(context) = self.context(&mut replica) else { return };
        let position = u32::try_from(self.open.entries.len()).unwrap_or(u32::MAX);
        match replica.ledger.take_notice(context, position, notice, statements) {
            Ok(entry) => self.open.entries.push(entry),
            Err(error) => member.note(format!("a notice was not taken: {error}")),
        }
    }

    /// Executes what the cluster has committed.
    fn replay(&mut self, replay: Replay) {
        let Replay { placed, block, leads_after } = replay;
        let height = placed.header.height;
        let rewinds = !is_broken(&self.member, Broken::NoRewind);
        if self.mode == Mode::Leading && self.open.entries.is_empty() {
            self.mode = Mode::Following;
        }
        if rewinds && (self.mode == Mode::Leading || height != self.next_height) {
            self.broken = true;
            return self.member.rewind("another leader's block was committed", None);
        }
        self.flush();
        let context = BlockContext { height, time_ms: placed.header.time_ms.max(self.floor()) };
        let (mut entries, mut effects) = (Vec::new(), BlockEffects::default());
        let member = self.member.clone();
        let mut replica = member.replica.lock();
        let void = Some((height, placed.hash));
        let placed = Box::new(placed);
        let origin = match block {
            None => Origin::Empty(placed),
            Some((transactions, content)) => {
                match recompute(&mut replica.ledger, context, transactions, &mut no_headers) {
                    Ok(computed) => entries = computed,
                    Err(_) if !rewinds => {}
                    Err(difference) => {
                        self.broken = true;
                        return member.rewind(&difference.to_string(), void);
                    }
                }
                effects = replica.ledger.end_block();
                self.due_ms = replica.ledger.next_due_ms();
                Origin::Replayed(placed, content)
            }
        };
        self.next_height = height + 1;
        self.last_time_ms = context.time_ms;
        replica.height = height;
        let membership = replica.ledger.membership().clone();
        drop(replica);
        let block = Some(BatchBlock { context, entries, effects, origin, membership });
        self.send(Batch { block, ..Batch::default() });
        if leads_after && self.mode != Mode::Paused {
            self.mode = Mode::Leading;
            self.member.note(format!("makes blocks from {}", self.next_height));
        }
    }

    /// A build that doesn't rewind must not run into the ledger's own assertion.
    fn floor(&self) -> u64 {
        if is_broken(&self.member, Broken::NoRewind) { self.last_time_ms } else { 0 }
    }

    fn context(&mut self, replica: &mut Replica) -> Option<BlockContext> {
        if let Some(context) = self.open.context {
            return Some(context);
        }
        let time_ms = self.member.clock_ms().max(self.last_time_ms);
        let context = BlockContext { height: self.next_height, time_ms };
        self.open.context = Some(context);
        replica.is_open = true;
        if self.due_ms.is_some_and(|due_ms| due_ms <= context.time_ms) {
            match replica.ledger.run_due(context) {
                Ok(entries) => self.open.entries = entries,
                Err(error) => {
                    let text = format!("what is due can't be recorded: {error}");
                    self.member.scene.observer.finding_of(&self.member, text);
                    return None;
                }
            }
        }
        Some(context)
    }

    fn execute(&mut self, (raw, reply): Checked) {
        let member = self.member.clone();
        let mut replica = member.replica.lock();
        let Some(context) = self.context(&mut replica) else { return };
        let position = u32::try_from(self.open.entries.len()).unwrap_or(u32::MAX);
        let recorded = run_one(&mut replica, &member, context, position, raw);
        let outcome = match recorded {
            Ok(entry) => {
                let (id, result) = (entry.record.id, entry.result);
                self.open.entries.push(entry);
                Outcome::Recorded { id, height: context.height, position, result }
            }
            Err(refused) => Outcome::Refused(refused.refusal),
        };
        // A refusal too is answered only when all that came before it is final.
        self.open.replies.push(Reply { reply, outcome });
    }

    fn cut(&mut self) -> Option<Batch> {
        if self.open.is_empty() {
            return None;
        }
        let open = std::mem::take(&mut self.open);
        self.member.replica.lock().is_open = false;
        let block = match open.context {
            Some(context) if !open.entries.is_empty() => {
                let mut replica = self.member.replica.lock();
                replica.ledger.begin_block(context);
                let effects = replica.ledger.end_block();
                self.due_ms = replica.ledger.next_due_ms();
                replica.height = context.height;
                let membership = replica.ledger.membership().clone();
                self.next_height += 1;
                self.last_time_ms = context.time_ms;
                let (entries, origin) = (open.entries, Origin::Made);
                Some(BatchBlock { context, entries, effects, origin, membership })
            }
            _ => None,
        };
        Some(Batch { block, replies: open.replies, marks: open.marks })
    }
}

fn refuse(reply: oneshot::Sender<Outcome>) {
    let _ = reply.send(Outcome::Refused(Refusal::NoLeader));
}

fn no_headers(_: &Verified) -> Vec<(u64, Hash)> {
    Vec::new()
}

fn run_one(
    replica: &mut Replica,
    member: &Member,
    context: BlockContext,
    position: u32,
    raw: Bytes,
) -> Result<Entry, Refused> {
    let prepared = prepare(raw, member.scene.chain)?;
    let keys = replica.ledger.author_keys(prepared.transaction());
    let verified = verify_one(prepared, keys)?;
    replica.ledger.execute(context, position, &verified)
}
