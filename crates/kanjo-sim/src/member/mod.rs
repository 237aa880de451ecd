//! One run of a member's process: the node's pipeline as tasks of the simulation.
//!
//! ```text
//!  submit ─▶ maker ─▶ sealer ─┐                 ┌─ engine ◀── other members
//!              ▲              ▼                 ▼
//!              └─ replayer ─ finality ─▶ proposer ─▶ engine
//!                             │  ▲ ▲
//!                   signer ◀──┘  │ └── votes of other members
//!                             └──┘ certified: answers, keeper
//! ```
//! The tasks stand for threads of `kanjo-node` (`sequencer.rs`, `sealer.rs`, `cluster/`), with the
//! same rules in the same order, and use the same pure parts: `kanjo_member`, `recompute`,
//! [`Ledger`], the sentinel's guard, and the engine itself. A rule that is not in one of those is
//! changed here when it changes there.

pub(crate) mod finality;
mod keeper;
mod maker;
mod manager;
mod open;
mod replayer;
mod sealer;
mod signer;

pub(crate) use finality::Event;
pub(crate) use maker::{Outcome, ToMaker};
pub(crate) use manager::ToManager;
pub use open::start;

use crate::crimes::Crime;
use crate::dice::Dice;
use crate::equivocator;
use crate::scene::Scene;
use crate::time::{self, Rt};
use bytes::Bytes;
use kanjo_consensus::engine::{Engine, Role};
use kanjo_consensus::vote::{SignedVote, decode_votes, encode_votes};
use kanjo_ledger::Ledger;
use kanjo_link::bus::{BoxFuture, Topic};
use kanjo_proof::state::StateTree;
use kanjo_proof::trust::SignedHeader;
use kanjo_store::faults::FaultyDisk;
use kanjo_types::membership::{Membership, Notice};
use kanjo_types::{Certificate, Hash, codec};
use parking_lot::Mutex;
use replayer::ToReplay;
use signer::ToSign;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

/// Own votes kept, to be sent again to those who missed them.
const VOTES_KEPT: usize = 64;
/// A leader that says nothing for so long is gone.
const ENGINE_SILENT_MAX: Duration = time::ms(500);
/// Most certificates in an answer.
pub(crate) const CERTIFICATES_MAX: u64 = 512;

/// Why a run ended by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The ledger in memory is not the cluster's: it is to be opened anew.
    Rewind {
        /// Why.
        reason: String,
        /// A block that this node executed otherwise.
        void: Option<(u64, Hash)>,
    },
    /// The node must not go on.
    Failed(String),
    /// Its disk or its engine failed; it may be started again.
    Broken(String),
}

/// Where a member's tasks are told things.
pub(crate) struct Inboxes {
    pub finality: UnboundedSender<Event>,
    pub maker: UnboundedSender<ToMaker>,
    pub replayer: UnboundedSender<ToReplay>,
    pub signer: UnboundedSender<ToSign>,
    pub manager: UnboundedSender<ToManager>,
    pub keeper: UnboundedSender<Option<SignedHeader>>,
}

/// What the ledger in memory stands for.
pub(crate) struct Replica {
    pub ledger: Ledger,
    /// The last height executed.
    pub height: u64,
    /// A block above it is under construction.
    pub is_open: bool,
}

/// The state trees and the header above them.
pub(crate) struct Sealed {
    pub trees: StateTree,
    pub last: kanjo_types::Header,
}

/// See the [module](self).
pub struct Member {
    /// Its number.
    pub me: u16,
    /// Where it plays.
    pub scene: Arc<Scene>,
    /// Its randomness.
    pub dice: Dice,
    /// What it does wrong.
    pub crime: Option<Crime>,
    /// Does it execute nothing?
    pub is_witness: bool,
    /// How far its clock is off.
    pub skew_ms: i64,
    /// Its disk.
    pub disk: FaultyDisk,
    pub(crate) inboxes: Inboxes,
    pub(crate) replica: Mutex<Replica>,
    pub(crate) sealed: Mutex<Sealed>,
    pub(crate) leading_term: AtomicU64,
    /// The height after the last released one.
    pub(crate) next_release: AtomicU64,
    /// Height after the last certificate on disk.
    pub(crate) kept_to: AtomicU64,
    /// The lowest block made here that is not committed, and since when.
    made: Mutex<Option<(u64, Duration)>>,
    /// Its sentinel did not answer when it was asked last.
    pub(crate) sentinel_is_away: AtomicBool,
    /// The engine stands still: it waits for a sentinel that is away.
    pub(crate) signing_waits: AtomicBool,
    pub(crate) certificates: kanjo_store::log::LogReader,
    pub(crate) recent: Mutex<BTreeMap<u64, SignedHeader>>,
    membership: Mutex<Arc<Membership>>,
    /// With members that stand in the log and not yet in the ledger.
    foreseen: Mutex<Option<Arc<Membership>>>,
    /// When members sent something of the engine's last.
    heard: Mutex<BTreeMap<u16, Duration>>,
    votes: Mutex<VecDeque<SignedVote>>,
    engine: Mutex<Option<Engine<Rt>>>,
    /// Room for blocks made here and not final yet.
    pub(crate) flow: Arc<tokio::sync::Semaphore>,
    alive: AtomicBool,
    ended: Mutex<Option<End>>,
}

impl Member {
    /// Is the process running?
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Acquire)
    }

    /// Does this member break the rules at present?
    #[must_use]
    pub fn commits(&self, crime: Crime) -> bool {
        self.crime == Some(crime) && self.scene.crimes_go_on()
    }

    /// Why it ended by itself, if it did.
    #[must_use]
    pub fn ended(&self) -> Option<End> {
        self.ended.lock().clone()
    }

    /// Writes down what happened here.
    pub fn note(&self, text: impl AsRef<str>) {
        if self.is_alive() {
            self.scene.trace.note(format!("n{} {}", self.me, text.as_ref()));
        }
    }

    /// Ends by itself; the first reason stays.
    pub(crate) fn end(&self, end: End) {
        if !self.is_alive() {
            return;
        }
        let mut ended = self.ended.lock();
        if ended.is_none() {
            self.scene.trace.note(format!("n{} ends: {end:?}", self.me));
            *ended = Some(end);
        }
    }

    pub(crate) fn rewind(&self, reason: &str, void: Option<(u64, Hash)>) {
        self.end(End::Rewind { reason: reason.to_owned(), void });
    }

    /// From now on nothing this run does has an effect.
    pub fn kill(&self) {
        self.alive.store(false, Ordering::Release);
        self.flow.close();
        let _ = self.inboxes.finality.send(Event::Stop);
        let _ = self.inboxes.maker.send(ToMaker::Stop);
        let _ = self.inboxes.replayer.send(ToReplay::Stop);
        let _ = self.inboxes.signer.send(ToSign::Stop);
        let _ = self.inboxes.manager.send(ToManager::Stop);
        let _ = self.inboxes.keeper.send(None);
    }

    /// The engine, once it runs.
    pub(crate) fn engine(&self) -> Option<Engine<Rt>> {
        self.engine.lock().clone()
    }

    /// Gives the engine away: it and this member hold each other.
    pub(crate) fn take_engine(&self) -> Option<Engine<Rt>> {
        self.engine.lock().take()
    }

    /// The newest membership that this node has executed.
    #[must_use]
    pub fn membership(&self) -> Arc<Membership> {
        self.membership.lock().clone()
    }

    pub(crate) fn set_membership(&self, membership: Arc<Membership>) {
        if membership.epoch < self.membership().epoch {
            return;
        }
        self.note(format!("membership of epoch {}", membership.epoch));
        *self.membership.lock() = membership;
        *self.foreseen.lock() = None;
        let _ = self.inboxes.manager.send(ToManager::Changed);
    }

    /// Whom to link with and whose proposals to append: the members, and those that the log adds.
    pub(crate) fn known(&self) -> Arc<Membership> {
        self.foreseen.lock().clone().unwrap_or_else(|| self.membership())
    }

    /// Takes members that stand in the log, until another membership is executed.
    pub(crate) fn foresee(&self, foreseen: Arc<Membership>) {
        self.note(format!("foresees {} members", foreseen.members.len()));
        *self.foreseen.lock() = Some(foreseen);
    }

    /// Does it take links from this number? A node that came later is told whom it joins.
    pub(crate) fn knows(&self, number: u16) -> bool {
        let known = self.known();
        known.member(self.me).is_none() || known.member(number).is_some()
    }

    /// Did this member, or this one as leader, send something of the engine's of late?
    pub(crate) fn heard_of_late(&self, number: u16) -> bool {
        let is_late = |at: &Duration| time::since_start().saturating_sub(*at) > ENGINE_SILENT_MAX;
        number == self.me || self.heard.lock().get(&number).is_some_and(|at| !is_late(at))
    }

    /// The lowest block made here that is not committed.
    pub(crate) fn note_made(&self, lowest: Option<u64>) {
        let mut made = self.made.lock();
        if made.map(|(height, _)| height) != lowest {
            *made = lowest.map(|height| (height, time::since_start()));
        }
    }

    /// For how long a block made here has waited to be committed.
    pub(crate) fn made_waits(&self) -> Option<Duration> {
        self.made.lock().map(|(_, since)| time::since_start().saturating_sub(since))
    }

    /// Does this node lead in `term`?
    pub(crate) fn leads_in(&self, term: u64) -> bool {
        self.leading_term.load(Ordering::Acquire) == term
    }

    /// Does this node lead, as far as it knows?
    #[must_use]
    pub fn leads(&self) -> bool {
        self.is_alive() && self.engine().is_some_and(|engine| engine.now().role == Role::Leader)
    }

    /// The height after the last final one here.
    #[must_use]
    pub fn next_final(&self) -> u64 {
        self.next_release.load(Ordering::Acquire)
    }

    /// Its clock.
    #[must_use]
    pub fn clock_ms(&self) -> u64 {
        time::clock_ms(self.skew_ms)
    }

    /// Members that it has a link with.
    #[must_use]
    pub fn reachable(&self) -> BTreeSet<u16> {
        self.scene.net.reachable(self.me)
    }

    // ---- Messages out ----

    /// Asks another member.
    pub(crate) async fn ask(
        &self,
        to: u16,
        topic: Topic,
        body: Bytes,
        ttl: Duration,
    ) -> Result<Bytes, kanjo_link::bus::BusError> {
        if !self.is_alive() {
            return Err(kanjo_link::bus::BusError::Closed);
        }
        self.scene.net.clone().call((self.me, to), topic, body, ttl).await
    }

    pub(crate) fn publish(&self, topic: Topic, body: &Bytes) {
        if !self.is_alive() || self.commits(Crime::Withholder) {
            return;
        }
        for other in self.scene.net.others(self.me) {
            self.scene.net.send(self.me, other, topic, body.clone());
        }
    }

    pub(crate) fn publish_votes(&self, votes: &[SignedVote]) {
        if votes.is_empty() {
            return;
        }
        self.scene.observer.saw_votes(votes);
        self.send_votes(votes);
        let mut kept = self.votes.lock();
        kept.extend(votes.iter().copied());
        let surplus = kept.len().saturating_sub(VOTES_KEPT);
        kept.drain(..surplus);
    }

    /// Own votes from a height on.
    pub(crate) fn votes_from(&self, height: u64) -> Vec<SignedVote> {
        self.votes.lock().iter().filter(|vote| vote.height >= height).copied().collect()
    }

    /// Sends own votes from a height on again: a message may have been lost.
    pub(crate) fn repeat_votes(&self, from: u64) {
        let votes = self.votes_from(from);
        if !votes.is_empty() {
            self.send_votes(&votes);
        }
    }

    fn send_votes(&self, votes: &[SignedVote]) {
        if self.commits(Crime::Equivocator) && self.is_alive() {
            equivocator::publish_votes(self, votes);
        } else {
            self.publish(Topic::Votes, &encode_votes(votes));
        }
    }

    pub(crate) fn strengthen(&self, height: u64, certificate: Certificate) {
        if let Some(signed) = self.recent.lock().get_mut(&height) {
            signed.certificate = certificate;
        }
    }

    /// A notice to be brought to the ledger.
    pub(crate) fn offer_notice(&self, notice: Notice) {
        let _ = self.inboxes.manager.send(ToManager::Bring(notice));
    }

    /// A final header, from memory or disk.
    #[must_use]
    pub fn signed(&self, height: u64) -> Option<SignedHeader> {
        if let Some(signed) = self.recent.lock().get(&height) {
            return Some(signed.clone());
        }
        let bytes = self.certificates.read(height).ok()??;
        codec::from_bytes(&bytes).ok()
    }

    // ---- Messages in ----

    /// A member asks.
    pub(crate) fn call(
        self: Arc<Self>,
        from: u16,
        topic: Topic,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, String>> {
        if !self.is_alive() {
            return Box::pin(async { Err("this node is stopping".to_owned()) });
        }
        match topic {
            Topic::Append | Topic::Elect | Topic::Transfer | Topic::Snapshot => {
                self.scene.crimes.overhear(self.me, topic, &body);
                self.heard.lock().insert(from, time::since_start());
                Box::pin(async move {
                    let Some(engine) = self.engine() else { return Err("starting".to_owned()) };
                    if topic == Topic::Append {
                        // The disk takes its time.
                        time::sleep(self.scene.disk_time(self.me)).await;
                    }
                    engine.handle(from, topic, body).await
                })
            }
            Topic::Fetch => Box::pin(async move { self.certificates_from(&body) }),
            Topic::Notices => Box::pin(async move {
                let (reply, answer) = oneshot::channel();
                let asked = ToManager::Asked { from, body, reply };
                let stopping = || "this node is stopping".to_owned();
                self.inboxes.manager.send(asked).map_err(|_| stopping())?;
                answer.await.map_err(|_| stopping())?
            }),
            other => Box::pin(async move { Err(format!("topic {other} takes no calls")) }),
        }
    }

    fn certificates_from(&self, body: &[u8]) -> Result<Bytes, String> {
        if self.commits(Crime::Withholder) {
            return Err("no".to_owned());
        }
        let from: u64 = codec::from_bytes(body).map_err(|error| error.to_string())?;
        let to = self.next_final().min(from.saturating_add(CERTIFICATES_MAX));
        let signed: Vec<SignedHeader> =
            (from..to).map_while(|height| self.signed(height)).collect();
        Ok(Bytes::from(codec::to_bytes(&signed)))
    }

    /// A member says something.
    pub(crate) fn message(&self, from: u16, topic: Topic, body: Bytes) {
        if !self.is_alive() || topic != Topic::Votes {
            return;
        }
        self.scene.crimes.overhear(self.me, topic, &body);
        match decode_votes(body) {
            // Each speaks for itself, so that nobody can use up another's place.
            Ok(votes) if votes.iter().all(|vote| vote.vote.voter == from) => {
                let _ = self.inboxes.finality.send(Event::Ballots(votes));
            }
            Ok(_) => self.note(format!("member {from} sent votes of others")),
            Err(error) => self.note(format!("member {from}: {error}")),
        }
    }

    /// A transaction from a client.
    pub(crate) fn submit(&self, raw: Bytes) -> oneshot::Receiver<Outcome> {
        let (reply, answer) = oneshot::channel();
        let _ = self.inboxes.maker.send(ToMaker::Submit { raw, reply });
        answer
    }
}

// What criminals ask of their own sentinel.
impl Member {
    /// Has a proposal signed beside the engine.
    pub(crate) async fn sign_proposal(
        &self,
        request: kanjo_consensus::boundary::ProposalRequest,
    ) -> Option<[u8; 64]> {
        let (reply, answer) = oneshot::channel();
        let asked = ToSign::Proposals { requests: vec![request], reply };
        self.inboxes.signer.send(asked).ok()?;
        answer.await.ok()?.ok()?.first().copied()
    }

    /// Has a vote signed beside finality.
    pub(crate) fn ask_vote(&self, height: u64, header: Hash, challenge: Hash) {
        let epoch = self.membership().epoch;
        let _ = self.inboxes.signer.send(ToSign::Vote { epoch, height, header, challenge });
    }
}
