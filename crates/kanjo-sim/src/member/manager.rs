//! Keeps the cluster in order: the node's `cluster/manager.rs`, tick by tick.

use super::maker::ToMaker;
use super::signer::ToSign;
use super::{Event, Member};
use crate::time::{Rt, ms, since_start, sleep, within};
use bytes::Bytes;
use kanjo_consensus::engine::{Engine, EngineState, Role};
use kanjo_link::bus::Topic;
use kanjo_member::conduct::{self, Absent, Leaving, Question};
use kanjo_member::foresight;
use kanjo_proof::trust::SignedHeader;
use kanjo_types::codec;
use kanjo_types::membership::{Notice, Statement};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;

const TICK: Duration = ms(50);
const CALL: Duration = ms(500);
const STUCK: Duration = ms(300);
const PAUSE_MAX: Duration = ms(3_000);
/// Without a leader for so long, others are asked.
const BEARINGS_AFTER: Duration = ms(1_000);
const EJECT_AFTER: Duration = ms(1_500);
/// A block made here that waits for so long to be committed, with a majority there, is lost.
const MADE_MAX: Duration = ms(4_000);

/// What the manager is told.
pub(crate) enum ToManager {
    Asked {
        from: u16,
        body: Bytes,
        reply: oneshot::Sender<Result<Bytes, String>>,
    },
    Bring(Notice),
    /// The membership is another one.
    Changed,
    /// Hand leadership to another member, as where it has more power.
    HandOver(u16),
    /// Leave the quorum before a planned stop.
    Leave(oneshot::Sender<Result<(), String>>),
    Stop,
}

/// The task's parts.
pub(crate) struct Manager {
    member: Arc<Member>,
    engine: Engine<Rt>,
    absent: Absent,
    /// The newest final height and since when.
    tip: (u64, Duration),
    next_ask: Duration,
    next_foresight: Duration,
    /// When a leader was heard last, or others were asked.
    bearings_at: Duration,
    leaving: bool,
    /// How often others were asked for certificates.
    turn: usize,
}

impl Manager {
    pub(crate) fn new(member: Arc<Member>, engine: Engine<Rt>) -> Self {
        let now = since_start();
        let (absent, tip) = (Absent::default(), (0, now));
        Self {
            member,
            engine,
            absent,
            tip,
            next_ask: now,
            next_foresight: now,
            bearings_at: now,
            leaving: false,
            turn: 0,
        }
    }

    pub(crate) async fn run(mut self, mut asked: UnboundedReceiver<ToManager>) {
        loop {
            match within(TICK, asked.recv()).await {
                None | Some(Some(ToManager::Changed)) => self.tick().await,
                Some(Some(ToManager::Asked { from, body, reply })) => {
                    let answer = self.answer(from, &body).await;
                    let _ = reply.send(answer);
                }
                Some(Some(ToManager::Bring(notice))) => self.bring(notice, Vec::new()).await,
                Some(Some(ToManager::HandOver(to))) => {
                    if self.engine.now().role == Role::Leader && self.pause().await {
                        self.hand_over(&BTreeSet::from([to])).await;
                        // Where the hand-over failed this node goes on; otherwise it follows.
                        let _ = self.member.inboxes.finality.send(Event::Resume);
                    }
                }
                Some(Some(ToManager::Leave(reply))) => {
                    let left = self.leave().await;
                    let _ = reply.send(left);
                }
                Some(Some(ToManager::Stop) | None) => return,
            }
            if !self.member.is_alive() {
                return;
            }
        }
    }

    async fn tick(&mut self) {
        let engine = self.engine.now();
        self.look_who_is_there();
        self.unstick(&engine).await;
        self.foresee(&engine);
        self.find_bearings(&engine).await;
        self.watch_made(&engine);
        if engine.role == Role::Leader && self.member.is_witness {
            self.step_aside(&engine).await;
        } else if engine.role == Role::Leader && self.signing_waits() {
            // Nothing that the engine is asked now is answered soon.
        } else if engine.role == Role::Leader
            && self.member.sentinel_is_away.load(Ordering::Acquire)
        {
            self.step_down().await;
        } else if engine.role == Role::Leader {
            self.align_voters(&engine).await;
            self.eject().await;
        }
        self.come_back(&engine).await;
    }

    fn look_who_is_there(&mut self) {
        let (membership, reachable) = (self.member.membership(), self.member.reachable());
        self.absent.look(&membership, self.member.me, &reachable, since_start());
    }

    fn down(&self) -> BTreeSet<u16> {
        self.absent.down(since_start(), EJECT_AFTER)
    }

    /// A block that the engine took and does not commit, although a majority is there, is lost:
    /// what was executed on top of it can't stay.
    fn watch_made(&self, engine: &EngineState) {
        let (membership, reachable) = (self.member.membership(), self.member.reachable());
        let is_heard = conduct::majority_is_there(&membership, self.member.me, &reachable);
        // An engine that waits for its sentinel commits nothing, and a new start would wait, too.
        let is_lost =
            !self.signing_waits() && self.member.made_waits().is_some_and(|waits| waits > MADE_MAX);
        if is_lost && (is_heard || engine.role != Role::Leader) {
            self.member.rewind("a block made here was not committed", None);
        }
    }

    fn signing_waits(&self) -> bool {
        self.member.signing_waits.load(Ordering::Acquire)
    }

    /// Without its sentinel this node can't make another block: it hands over before one is due.
    async fn step_down(&mut self) {
        if since_start() < self.next_ask {
            return;
        }
        self.next_ask = since_start() + CALL;
        let others = conduct::other_voters(&self.member.membership(), self.member.me);
        // A block may have come meanwhile, and the engine wait for its signature.
        let _ = within(CALL, self.hand_over(&others)).await;
    }

    // ---- Lost votes ----

    async fn unstick(&mut self, engine: &EngineState) {
        let (tip, now) = (self.member.next_final(), since_start());
        if tip != self.tip.0 {
            self.tip = (tip, now);
            return;
        }
        let is_behind = engine.committed.is_some_and(|committed| committed >= tip);
        if !is_behind || now.saturating_sub(self.tip.1) < STUCK || now < self.next_ask {
            return;
        }
        self.next_ask = now + STUCK;
        self.member.repeat_votes(tip);
        let peers = self.member.reachable();
        let body = Bytes::from(codec::to_bytes(&tip));
        self.turn = self.turn.wrapping_add(1);
        for peer in conduct::whom_to_ask(engine.leader, &peers, self.turn) {
            let answer = self.member.ask(peer, Topic::Fetch, body.clone(), CALL).await;
            let Ok(answer) = answer else { continue };
            if let Ok(signed) = codec::from_bytes::<Vec<SignedHeader>>(&answer)
                && !signed.is_empty()
            {
                self.next_ask = since_start();
                let _ = self.member.inboxes.finality.send(Event::Fetched(signed));
                return;
            }
        }
    }

    /// Where nothing becomes final, a member that this node does not know yet may be needed.
    fn foresee(&mut self, engine: &EngineState) {
        let now = since_start();
        if now.saturating_sub(self.tip.1) < STUCK
            || now < self.next_foresight
            || !foresight::names_strangers(engine, &self.member.known())
        {
            return;
        }
        self.next_foresight = now + CALL;
        let executed = self.member.membership();
        match foresight::foresee(&self.engine.log(), self.member.scene.chain, &executed) {
            Ok(Some(foreseen)) => self.member.foresee(foreseen),
            Ok(None) => {}
            Err(error) => self.member.note(format!("the log can't be read: {error}")),
        }
    }

    /// A node that hears no leader asks the APIs of those it knows for the membership: a member
    /// that came meanwhile may lead. What `kanjo/src/bearings.rs` does, without the proofs.
    async fn find_bearings(&mut self, engine: &EngineState) {
        let now = since_start();
        if engine.leader.is_some_and(|leader| self.member.heard_of_late(leader)) {
            self.bearings_at = now;
        }
        if now.saturating_sub(self.bearings_at) < BEARINGS_AFTER {
            return;
        }
        self.bearings_at = now;
        let membership = self.member.membership();
        for (number, _) in membership.numbered() {
            let net = &self.member.scene.net;
            let Some(other) = net.member(number).filter(|_| number != self.member.me) else {
                continue;
            };
            let is_answered = net.client_way().await && net.client_way().await;
            if !is_answered || !other.is_alive() {
                continue;
            }
            let newest = other.membership();
            if newest.epoch > membership.epoch {
                self.member.note(format!("is told of epoch {} by n{number}", newest.epoch));
                return self.member.set_membership(newest);
            }
        }
    }

    // ---- The engine's voters ----

    async fn align_voters(&mut self, engine: &EngineState) {
        let membership = self.member.membership();
        if conduct::is_aligned(engine, &membership) {
            return;
        }
        let (wanted, learners) = conduct::engine_members(&membership);
        if !wanted.contains(&self.member.me) {
            return self.hand_over(&wanted).await;
        }
        self.member.note(format!("aligns voters to {wanted:?}, learners {learners:?}"));
        if !self.pause().await {
            return;
        }
        if let Err(error) = self.engine.change_voters(wanted, learners).await {
            self.member.note(format!("voters were not changed: {error}"));
        }
        let _ = self.member.inboxes.finality.send(Event::Resume);
    }

    /// A witness executes nothing, so it can't make blocks: it leads only until an executor has its
    /// whole log, and hands over.
    async fn step_aside(&mut self, engine: &EngineState) {
        let executors = conduct::other_executors(&self.member.membership(), self.member.me);
        if conduct::any_is_up_to_date(&executors, engine) {
            self.hand_over(&executors).await;
        }
    }

    async fn hand_over(&mut self, voters: &BTreeSet<u16>) {
        let best = conduct::successor(voters, &self.member.reachable(), &self.engine.now());
        if let Some(best) = best {
            self.member.note(format!("hands over to n{best}"));
            let _ = self.engine.transfer_leader(best).await;
        }
    }

    async fn pause(&self) -> bool {
        let maker = &self.member.inboxes.maker;
        let _ = maker.send(ToMaker::Pause);
        let (reply, drained) = oneshot::channel();
        if maker.send(ToMaker::Mark(reply)).is_err() {
            return false;
        }
        if !matches!(within(PAUSE_MAX, drained).await, Some(Ok(()))) {
            let _ = self.member.inboxes.finality.send(Event::Resume);
            return false;
        }
        true
    }

    // ---- Ejection ----

    async fn eject(&mut self) {
        let membership = self.member.membership();
        let members = membership.ejectable(&self.down());
        if members.is_empty() || since_start() < self.next_ask {
            return;
        }
        self.next_ask = since_start() + CALL;
        let (epoch, notice) = (membership.epoch, Notice::Eject { members: members.clone() });
        let mut statements = BTreeMap::new();
        match self.sign(epoch, &notice).await {
            Ok(own) => statements.insert(own.member, own),
            Err(_) => return,
        };
        let question = Question::Eject { epoch, members: members.clone() };
        let body = Bytes::from(codec::to_bytes(&question));
        for (number, _) in membership.voters() {
            if number == self.member.me || members.contains(&number) {
                continue;
            }
            let answer = self.member.ask(number, Topic::Notices, body.clone(), CALL).await;
            if let Ok(Ok(statement)) = answer.map(|bytes| codec::from_bytes::<Statement>(&bytes))
                && statement.member == number
            {
                statements.insert(number, statement);
            }
        }
        if statements.len() < membership.quorum() {
            return;
        }
        self.member.note(format!("ejects {members:?}"));
        let statements = statements.into_values().collect();
        let _ = self.member.inboxes.maker.send(ToMaker::Notice(notice, statements));
    }

    async fn sign(&self, epoch: u64, notice: &Notice) -> Result<Statement, String> {
        let (reply, answer) = oneshot::channel();
        let asked = ToSign::Notice { epoch, notice: Box::new(notice.clone()), reply };
        let stopping = || "stopping".to_owned();
        self.member.inboxes.signer.send(asked).map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }

    async fn answer(&mut self, from: u16, body: &[u8]) -> Result<Bytes, String> {
        match codec::from_bytes(body).map_err(|error| error.to_string())? {
            Question::Take { notice, statements } => {
                if self.engine.now().role != Role::Leader {
                    return Err("this node does not lead".to_owned());
                }
                let (membership, reachable) = (self.member.membership(), self.member.reachable());
                conduct::check_notice(&notice, &membership, self.member.me, &reachable)?;
                self.member.note(format!("notice of n{from}"));
                let _ = self.member.inboxes.maker.send(ToMaker::Notice(notice, statements));
                Ok(Bytes::new())
            }
            Question::Eject { epoch, members } => {
                let membership = self.member.membership();
                conduct::check_ejection(epoch, &members, &membership, &self.down())?;
                let statement = self.sign(epoch, &Notice::Eject { members }).await?;
                Ok(Bytes::from(codec::to_bytes(&statement)))
            }
        }
    }

    // ---- Coming back and leaving ----

    async fn bring(&mut self, notice: Notice, statements: Vec<Statement>) {
        let engine = self.engine.now();
        if engine.role == Role::Leader {
            let _ = self.member.inboxes.maker.send(ToMaker::Notice(notice, statements));
            return;
        }
        let Some(leader) = engine.leader else { return };
        let body = Bytes::from(codec::to_bytes(&Question::Take { notice, statements }));
        if let Err(error) = self.member.ask(leader, Topic::Notices, body, CALL).await {
            self.member.note(format!("the leader did not take a notice: {error}"));
        }
    }

    async fn come_back(&mut self, engine: &EngineState) {
        let membership = self.member.membership();
        let Some(me) = membership.member(self.member.me) else { return };
        let next = self.member.next_final();
        if self.leaving
            || !conduct::may_come_back(me.status, engine.committed, next)
            || engine.leader.is_none()
        {
            return;
        }
        if since_start() < self.next_ask {
            return;
        }
        self.next_ask = since_start() + CALL;
        let notice = Notice::Return { member: self.member.me };
        if let Ok(statement) = self.sign(membership.epoch, &notice).await {
            self.member.note("asks for its vote again");
            self.bring(notice, vec![statement]).await;
        }
    }

    async fn leave(&mut self) -> Result<(), String> {
        self.leaving = true;
        let give_up_at = since_start() + PAUSE_MAX * 2;
        while since_start() < give_up_at && self.member.is_alive() {
            let membership = self.member.membership();
            let (me, engine) = (self.member.me, self.engine.now());
            match conduct::leaving(&membership, me, &engine) {
                Leaving::Done => return Ok(()),
                Leaving::Wait => {}
                Leaving::HandOver => {
                    if self.pause().await {
                        self.hand_over(&conduct::other_voters(&membership, me)).await;
                    }
                }
                Leaving::Sign => {
                    let notice = Notice::Leave { member: me };
                    let statement = self.sign(membership.epoch, &notice).await?;
                    self.bring(notice, vec![statement]).await;
                }
            }
            for _ in 0..5 {
                sleep(TICK).await;
            }
        }
        Err("the cluster did not take the notice of leaving in time".to_owned())
    }
}
