//! Keeps the cluster in order: the engine's voters in line with the membership, members that left
//! or were ejected back in, unreachable voters out, lost certificates fetched.
//!
//! ```text
//!  membership (ledger) ≠ voters (engine)   leader: pause, change the engine's voters, go on
//!  voter unreachable for the set time      leader: ask the others; a majority agrees: Eject
//!  committed, computed, not certified      repeat own votes, fetch certificates
//!  nothing final, strangers in the log     link with members that the log adds
//!  own standing                            [`super::standing`]
//! ```
//! Everything that changes the membership is a notice that the ledger checks; this is only who
//! asks.

use crate::cluster::fetch;
use crate::cluster::finality::Event;
use crate::cluster::measures;
use crate::cluster::roles::Assignment;
use crate::cluster::signing::ToSign;
use crate::cluster::{ClusterState, SentinelState};
use crate::shared::{Health, Shared, ToSequencer};
use bytes::Bytes;
use crossbeam_channel::Sender;
use kanjo_api::cluster::NodeRole;
use kanjo_consensus::engine::{Engine, EngineState, Role};
use kanjo_link::bus::Topic;
use kanjo_member::conduct::{self, Absent, Question};
use kanjo_member::foresight;
use kanjo_types::codec;
use kanjo_types::membership::{Notice, Statement};
use openraft_rt_tokio::TokioRuntime;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// How often the manager looks.
pub(super) const TICK: Duration = Duration::from_millis(100);
/// How long a call to another member may take.
pub(super) const CALL: Duration = Duration::from_secs(2);
/// A height that is committed and not final for so long has lost votes.
const STUCK: Duration = Duration::from_millis(300);
/// How long a pause of block making may last.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How long another node must have been the better leader.
const PREFERRED_FOR: Duration = Duration::from_secs(10);
/// A block made here that waits for so long to be committed, with a majority there, is lost.
const MADE_MAX: Duration = Duration::from_secs(15);

/// What the manager is told.
pub(crate) enum ToManager {
    /// A member asks on topic notices.
    Asked { from: u16, body: Bytes, reply: oneshot::Sender<Result<Bytes, String>> },
    /// A member measured something.
    Measured { from: u16, body: Bytes },
    /// Leave the quorum before a planned stop.
    Leave(oneshot::Sender<Result<(), String>>),
}

/// The manager's parts.
pub(crate) struct Manager {
    pub shared: Arc<Shared>,
    pub cluster: Arc<ClusterState>,
    pub engine: Engine<TokioRuntime>,
    pub finality: Sender<Event>,
    pub sequencer: Sender<ToSequencer>,
    pub signer: Sender<ToSign>,
    pub asked: mpsc::UnboundedReceiver<ToManager>,
    pub notices: mpsc::UnboundedReceiver<Notice>,
    pub reachable: Arc<dyn Fn() -> BTreeSet<u16> + Send + Sync>,
    pub eject_after: Duration,
    /// Leadership goes to whoever has more than twice the power for a while.
    pub prefer_power: bool,
    pub state: View,
}

/// What the manager remembers.
pub(crate) struct View {
    /// Since then times are counted.
    begin: Instant,
    absent: Absent,
    /// The newest final height and since when.
    tip: (u64, Instant),
    pub(super) next_ask: Instant,
    /// The node stops as planned: it does not ask for its vote again.
    pub(super) leaving: bool,
    /// Did this node say that its program is not allowed?
    pub(super) told_program: bool,
    next_foresight: Instant,
    next_measures: Instant,
    /// When leadership is offered to others again, while the disk is full.
    next_full: Instant,
    /// Another node that is to lead, and since when.
    preferred: Option<(u16, Instant)>,
    /// How often others were asked for certificates.
    turn: usize,
}

impl Default for View {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            begin: now,
            absent: Absent::default(),
            tip: (0, now),
            next_ask: now,
            leaving: false,
            told_program: false,
            next_foresight: now,
            next_measures: now,
            next_full: now,
            preferred: None,
            turn: 0,
        }
    }
}

/// Who should lead instead of `me`, by power alone; nobody when it is not worth a hand-over.
fn stronger(me: u16, cluster: &ClusterState) -> Option<u16> {
    let roles = cluster.measured.roles(cluster);
    let is_first = |one: &&Assignment| one.role == NodeRole::Coordination;
    let first = roles.iter().find(is_first).map(|one| one.node).filter(|node| *node != me)?;
    let measured = cluster.measured.fresh();
    let power = |node: u16| measured.get(&node).map(|one| one.checks_per_s);
    (power(first)? > power(me)?.saturating_mul(2)).then_some(first)
}

impl Manager {
    /// Works until the node stops.
    pub(crate) async fn run(mut self) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => self.tick().await,
                () = self.cluster.membership_changed() => self.tick().await,
                asked = self.asked.recv() => match asked {
                    Some(ToManager::Asked { from, body, reply }) => {
                        let answer = self.answer(from, &body).await;
                        let _ = reply.send(answer);
                    }
                    Some(ToManager::Measured { from, body }) => {
                        if let Err(why) = self.cluster.measured.take(from, &body) {
                            self.cluster.note_doubt(from, why);
                        }
                    }
                    Some(ToManager::Leave(reply)) => {
                        let left = self.leave().await;
                        let _ = reply.send(left);
                    }
                    None => return,
                },
                notice = self.notices.recv() => match notice {
                    Some(notice) => self.bring(notice, Vec::new()).await,
                    None => return,
                },
            }
            if self.shared.stopping() {
                return;
            }
        }
    }

    async fn tick(&mut self) {
        let engine = self.engine.now();
        self.watch_engine(&engine);
        self.watch_disk(&engine).await;
        self.look_who_is_there();
        self.measure(&engine).await;
        self.unstick(&engine).await;
        self.foresee(&engine).await;
        self.watch_made(&engine);
        if engine.role == Role::Leader && self.cluster.is_witness {
            self.step_aside(&engine).await;
        } else if engine.role == Role::Leader && self.cluster.signing_waits() {
            // Nothing that the engine is asked now is answered soon.
        } else if engine.role == Role::Leader && self.sentinel_is_away() {
            self.step_down().await;
        } else if engine.role == Role::Leader {
            self.align_voters(&engine).await;
            self.eject().await;
        }
        self.cluster.part_with_removed();
        self.watch_own(&engine).await;
    }

    /// An engine that ends before the node was told to is broken.
    pub(super) fn watch_engine(&self, engine: &EngineState) {
        if let Some(reason) = &engine.stopped
            && matches!(self.shared.health(), Health::Running | Health::StorageFull)
        {
            self.shared.fail(format!("the engine stopped: {reason}"));
        }
    }

    /// A full disk is told in the status. A leader whose disk is full hands over: others have room.
    async fn watch_disk(&mut self, engine: &EngineState) {
        if !self.engine.is_full() && !self.cluster.kept_waits.load(Ordering::Acquire) {
            if self.shared.storage_has_room() {
                tracing::warn!("the disk has room again");
            }
            return;
        }
        if self.shared.storage_is_full() {
            tracing::error!("the disk is full; this node takes nothing until there is room");
        }
        if engine.role != Role::Leader || Instant::now() < self.state.next_full {
            return;
        }
        self.state.next_full = Instant::now() + CALL;
        let others = conduct::other_executors(&self.cluster.membership(), self.cluster.me);
        if !others.is_empty() && self.pause().await {
            self.hand_over(&others).await;
            let _ = self.finality.send(Event::Resume);
        }
    }

    fn look_who_is_there(&mut self) {
        let (reachable, now) = ((self.reachable)(), self.state.begin.elapsed());
        self.state.absent.look(&self.cluster.membership(), self.cluster.me, &reachable, now);
    }

    // ---- Measures ----

    async fn measure(&mut self, engine: &EngineState) {
        if Instant::now() < self.state.next_measures {
            return;
        }
        self.state.next_measures = Instant::now() + measures::EVERY;
        let (shared, cluster) = (self.shared.clone(), self.cluster.clone());
        // It reads certificates, and the first time tests what the machine can do.
        let work = move || cluster.measured.measure(&shared, &cluster);
        if tokio::task::spawn_blocking(work).await.is_err() {
            return;
        }
        if self.prefer_power && engine.role == Role::Leader {
            self.prefer_power().await;
        }
    }

    /// Hands leadership to a voter that has more than twice the power, once that has held for a
    /// while.
    async fn prefer_power(&mut self) {
        let stronger = stronger(self.cluster.me, &self.cluster);
        self.state.preferred = match (stronger, self.state.preferred) {
            (Some(now), Some((before, since))) if now == before => Some((before, since)),
            (Some(now), _) => Some((now, Instant::now())),
            (None, _) => None,
        };
        let Some((node, since)) = self.state.preferred else { return };
        if since.elapsed() < PREFERRED_FOR {
            return;
        }
        self.state.preferred = None;
        tracing::info!(node, "handing leadership to the node with most power");
        if self.pause().await {
            self.hand_over(&BTreeSet::from([node])).await;
            // Where the hand-over failed this node goes on; otherwise it follows by now.
            let _ = self.finality.send(Event::Resume);
        }
    }

    fn down(&self) -> BTreeSet<u16> {
        self.state.absent.down(self.state.begin.elapsed(), self.eject_after)
    }

    /// A block that the engine took and does not commit, although a majority is there, is lost:
    /// what was executed on top of it can't stay.
    fn watch_made(&self, engine: &EngineState) {
        let (membership, reachable) = (self.cluster.membership(), (self.reachable)());
        let is_heard = conduct::majority_is_there(&membership, self.cluster.me, &reachable);
        // An engine that waits for its sentinel commits nothing, and a new start would wait, too.
        let is_lost = !self.cluster.signing_waits()
            && self.cluster.made_waits().is_some_and(|waits| waits > MADE_MAX);
        if is_lost && (is_heard || engine.role != Role::Leader) && !self.shared.stopping() {
            self.shared.rewind("a block made here was not committed", None);
        }
    }

    // ---- Lost votes ----

    async fn unstick(&mut self, engine: &EngineState) {
        let tip = self.shared.log.next_height();
        if tip != self.state.tip.0 {
            self.state.tip = (tip, Instant::now());
            return;
        }
        let is_behind = engine.committed.is_some_and(|committed| committed >= tip);
        if !is_behind || self.state.tip.1.elapsed() < STUCK || Instant::now() < self.state.next_ask
        {
            return;
        }
        self.state.next_ask = Instant::now() + STUCK;
        self.cluster.repeat_votes(tip);
        let peers = (self.reachable)();
        self.state.turn = self.state.turn.wrapping_add(1);
        for peer in conduct::whom_to_ask(engine.leader, &peers, self.state.turn) {
            let got = fetch::ask(&self.cluster, peer, tip, fetch::CERTIFICATES_MAX, CALL).await;
            if let Some(signed) = got {
                // More may be there: ask again at once.
                self.state.next_ask = Instant::now();
                let _ = self.finality.send(Event::Fetched(signed));
                return;
            }
        }
    }

    /// Where nothing becomes final, a member that this node does not know yet may be needed.
    async fn foresee(&mut self, engine: &EngineState) {
        let is_stuck = self.state.tip.1.elapsed() >= STUCK;
        if !is_stuck
            || Instant::now() < self.state.next_foresight
            || !foresight::names_strangers(engine, &self.cluster.known())
        {
            return;
        }
        self.state.next_foresight = Instant::now() + CALL;
        let (log, chain) = (self.engine.log(), self.shared.chain);
        let executed = self.cluster.membership();
        let look = move || foresight::foresee(&log, chain, &executed);
        match tokio::task::spawn_blocking(look).await {
            Ok(Ok(Some(foreseen))) => {
                tracing::info!("linking with members that the log adds, and the ledger not yet");
                self.cluster.foresee(foreseen);
            }
            Ok(Ok(None)) | Err(_) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the log can't be read for new members"),
        }
    }

    // ---- The engine's voters ----

    /// Brings the engine's voters in line with the membership of the ledger.
    async fn align_voters(&mut self, engine: &EngineState) {
        let membership = self.cluster.membership();
        if conduct::is_aligned(engine, &membership) {
            return;
        }
        let (wanted, learners) = conduct::engine_members(&membership);
        tracing::info!(?wanted, ?learners, now = ?engine.voters, "changing the engine's voters");
        if !wanted.contains(&self.cluster.me) {
            // This node left: another one must lead, and do this.
            return self.hand_over(&wanted).await;
        }
        if !self.pause().await {
            return;
        }
        if let Err(error) = self.engine.change_voters(wanted, learners).await {
            tracing::warn!(%error, "the engine's voters were not changed; trying again");
        }
        let _ = self.finality.send(Event::Resume);
    }

    /// A witness executes nothing, so it can't make blocks: it leads only until an executor has its
    /// whole log, and hands over.
    async fn step_aside(&mut self, engine: &EngineState) {
        let executors = conduct::other_executors(&self.cluster.membership(), self.cluster.me);
        if conduct::any_is_up_to_date(&executors, engine) {
            self.hand_over(&executors).await;
        }
    }

    fn sentinel_is_away(&self) -> bool {
        matches!(self.cluster.sentinel(), SentinelState::Silent(_))
    }

    /// Without its sentinel this node can't make another block: it hands over before one is due.
    async fn step_down(&mut self) {
        if Instant::now() < self.state.next_ask {
            return;
        }
        self.state.next_ask = Instant::now() + CALL;
        let others = conduct::other_voters(&self.cluster.membership(), self.cluster.me);
        tracing::warn!("handing leadership over: the sentinel is away");
        // A block may have come meanwhile, and the engine wait for its signature.
        if tokio::time::timeout(CALL, self.hand_over(&others)).await.is_err() {
            tracing::warn!("leadership was not handed over in time");
        }
    }

    pub(super) async fn hand_over(&mut self, voters: &BTreeSet<u16>) {
        let best = conduct::successor(voters, &(self.reachable)(), &self.engine.now());
        if let Some(best) = best
            && let Err(error) = self.engine.transfer_leader(best).await
        {
            tracing::warn!(%error, to = best, "leadership was not handed over");
        }
    }

    /// No blocks are made from here on, and all that were are committed.
    pub(super) async fn pause(&self) -> bool {
        let _ = self.sequencer.send(ToSequencer::Pause);
        let (reply, drained) = oneshot::channel();
        if self.sequencer.send(ToSequencer::Mark(reply)).is_err() {
            return false;
        }
        let is_drained = tokio::time::timeout(PAUSE_MAX, drained).await;
        if !matches!(is_drained, Ok(Ok(()))) {
            let _ = self.finality.send(Event::Resume);
            return false;
        }
        true
    }

    // ---- Ejection ----

    async fn eject(&mut self) {
        let membership = self.cluster.membership();
        let members = membership.ejectable(&self.down());
        if members.is_empty() || Instant::now() < self.state.next_ask {
            return;
        }
        self.state.next_ask = Instant::now() + CALL;
        let (epoch, notice) = (membership.epoch, Notice::Eject { members: members.clone() });
        let mut statements = BTreeMap::new();
        match self.sign(epoch, &notice).await {
            Ok(own) => statements.insert(own.member, own),
            Err(error) => return tracing::warn!(%error, "no statement for an ejection"),
        };
        let question = Question::Eject { epoch, members: members.clone() };
        let body = Bytes::from(codec::to_bytes(&question));
        for (number, _) in membership.voters() {
            if number == self.cluster.me || members.contains(&number) {
                continue;
            }
            let answer = self.cluster.bus.call(number, Topic::Notices, body.clone(), CALL).await;
            match answer.map(|bytes| codec::from_bytes::<Statement>(&bytes)) {
                Ok(Ok(statement)) if statement.member == number => {
                    statements.insert(number, statement);
                }
                Ok(_) => {}
                Err(error) => tracing::info!(number, %error, "does not agree to an ejection"),
            }
        }
        if statements.len() < membership.quorum() {
            return;
        }
        tracing::warn!(?members, "ejecting members that a majority can't reach");
        let statements = statements.into_values().collect();
        let _ = self.sequencer.send(ToSequencer::Notice(notice, statements));
    }

    pub(super) async fn sign(&self, epoch: u64, notice: &Notice) -> Result<Statement, String> {
        let (reply, answer) = oneshot::channel();
        let notice = Box::new(notice.clone());
        self.signer
            .send(ToSign::Notice { epoch, notice, reply })
            .map_err(|_| "stopping".to_owned())?;
        answer.await.map_err(|_| "stopping".to_owned())?
    }

    async fn answer(&mut self, from: u16, body: &[u8]) -> Result<Bytes, String> {
        match codec::from_bytes(body).map_err(|error| error.to_string())? {
            Question::Take { notice, statements } => {
                if self.engine.now().role != Role::Leader {
                    return Err("this node does not lead".to_owned());
                }
                let membership = self.cluster.membership();
                let reachable = (self.reachable)();
                conduct::check_notice(&notice, &membership, self.cluster.me, &reachable)?;
                tracing::info!(from, ?notice, "a member's notice");
                self.sequencer
                    .try_send(ToSequencer::Notice(notice, statements))
                    .map_err(|error| error.to_string())?;
                Ok(Bytes::new())
            }
            Question::Eject { epoch, members } => {
                let membership = self.cluster.membership();
                conduct::check_ejection(epoch, &members, &membership, &self.down())?;
                let statement = self.sign(epoch, &Notice::Eject { members }).await?;
                Ok(Bytes::from(codec::to_bytes(&statement)))
            }
        }
    }

    /// Brings a notice to the ledger, by way of the leader.
    pub(super) async fn bring(&mut self, notice: Notice, statements: Vec<Statement>) {
        let engine = self.engine.now();
        if engine.role == Role::Leader {
            let _ = self.sequencer.try_send(ToSequencer::Notice(notice, statements));
            return;
        }
        let Some(leader) = engine.leader else { return };
        let body = Bytes::from(codec::to_bytes(&Question::Take { notice, statements }));
        if let Err(error) = self.cluster.bus.call(leader, Topic::Notices, body, CALL).await {
            tracing::info!(%error, "the leader did not take a notice");
        }
    }
}
