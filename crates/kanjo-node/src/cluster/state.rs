//! What the threads of a member share about the cluster.

use crate::blocks::Recent;
use crate::cluster::evidence::Findings;
use crate::cluster::manager::ToManager;
use crate::cluster::measures::Measured;
use crate::cluster::validity::Heard;
use kanjo_consensus::engine::Engine;
use kanjo_consensus::vote::{SignedVote, encode_votes};
use kanjo_link::bus::{Bus, Topic};
use kanjo_link::mesh::{Mesh, Peer};
use kanjo_proof::trust::SignedHeader;
use kanjo_types::membership::{Member, MemberStatus, Membership, Notice};
use kanjo_types::{Certificate, Hash};
use openraft_rt_tokio::TokioRuntime;
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc, oneshot, watch};

/// Own votes kept, to be sent again to those who missed them.
const VOTES_KEPT: usize = 64;
/// How long links to a member that is removed stay, so that it hears of it.
const PART_AFTER: Duration = Duration::from_secs(3);
/// A leader that says nothing for so long is gone; many times what the engine waits.
const LEADER_SILENT_MAX: Duration = Duration::from_secs(2);
/// Doubts kept for the status page.
const DOUBTS_KEPT: usize = 64;

/// How the sentinel is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum SentinelState {
    /// Nothing was asked yet.
    #[default]
    Unknown,
    /// It votes.
    Answers,
    /// It can't be reached; why.
    Silent(String),
    /// It refuses to vote; why.
    Refuses(String),
}

/// What is fixed for this run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Own {
    /// SHA-256 of this node's program, as its sentinel measured it.
    pub program: Hash,
    /// What vouches for the sentinel.
    pub attestor: Option<&'static str>,
    /// Roles it takes by configuration.
    pub takes: Option<u8>,
    /// Members that are reached elsewhere than their certificates say.
    pub link_via: BTreeMap<String, String>,
}

/// Milliseconds since then.
pub(crate) fn age_ms(at: Instant) -> u64 {
    u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Other members to link to, some of them `via` other addresses than their certificates say;
/// `going` were removed and have not been told for long.
pub(crate) fn peers(
    membership: &Membership,
    me: u16,
    going: &[u16],
    via: Option<&BTreeMap<String, String>>,
) -> Vec<Peer> {
    let others = membership.numbered().filter(|(number, member)| {
        *number != me && (!is_removed(member) || going.contains(number))
    });
    let peer = |(number, member): (u16, &Member)| Peer {
        number,
        key: member.certificate.link_key,
        address: via
            .and_then(|via| via.get(&member.certificate.name))
            .unwrap_or(&member.certificate.address)
            .clone(),
    };
    others.map(peer).collect()
}

fn is_removed(member: &Member) -> bool {
    member.status == MemberStatus::Removed
}

/// See the [module](self).
pub(crate) struct ClusterState {
    /// This member's number.
    pub me: u16,
    pub is_witness: bool,
    pub recent: Recent,
    pub bus: Arc<dyn Bus>,
    /// Height after the last certificate on disk.
    pub kept_to: AtomicU64,
    /// Certificates wait because the disk is full.
    pub kept_waits: AtomicBool,
    /// The lowest block made here that is not committed, and since when.
    made: Mutex<Option<(u64, Instant)>>,
    /// Term in which this node leads; 0 when it does not.
    pub leading_term: AtomicU64,
    membership: RwLock<Arc<Membership>>,
    /// With members that stand in the log and not yet in the ledger.
    foreseen: RwLock<Option<Arc<Membership>>>,
    changed: Notify,
    /// The newest epoch that was proven to this node from elsewhere.
    told: AtomicU64,
    /// When members sent something of the engine's last.
    engine_heard: Mutex<BTreeMap<u16, Instant>>,
    /// When links to members that were removed end.
    part_at: Mutex<Option<Instant>>,
    sentinel: Mutex<SentinelState>,
    /// The engine stands still: it waits for a sentinel that is away.
    signing_waits: watch::Sender<bool>,
    doubts: Mutex<BTreeMap<u16, (Instant, String)>>,
    votes: Mutex<VecDeque<SignedVote>>,
    notices: mpsc::UnboundedSender<Notice>,
    links: OnceLock<Arc<Mesh>>,
    engine: OnceLock<Engine<TokioRuntime>>,
    manager: OnceLock<mpsc::UnboundedSender<ToManager>>,
    own: OnceLock<Own>,
    pub measured: Measured,
    /// What other sentinels gave as evidence.
    pub evidence: Findings,
    /// What others said is final.
    pub heard: Heard,
}

impl ClusterState {
    pub(crate) fn new(
        me: u16,
        membership: Arc<Membership>,
        recent: Recent,
        bus: Arc<dyn Bus>,
        notices: mpsc::UnboundedSender<Notice>,
    ) -> Self {
        let is_witness = membership.member(me).is_some_and(|me| !me.executes());
        Self {
            me,
            is_witness,
            recent,
            bus,
            kept_to: AtomicU64::new(0),
            kept_waits: AtomicBool::new(false),
            made: Mutex::default(),
            leading_term: AtomicU64::new(0),
            membership: RwLock::new(membership),
            foreseen: RwLock::default(),
            changed: Notify::new(),
            told: AtomicU64::new(0),
            engine_heard: Mutex::default(),
            part_at: Mutex::default(),
            sentinel: Mutex::default(),
            signing_waits: watch::Sender::new(false),
            doubts: Mutex::default(),
            votes: Mutex::default(),
            notices,
            links: OnceLock::new(),
            engine: OnceLock::new(),
            manager: OnceLock::new(),
            own: OnceLock::new(),
            measured: Measured::default(),
            evidence: Findings::default(),
            heard: Heard::default(),
        }
    }

    /// The newest membership that this node has executed.
    pub(crate) fn membership(&self) -> Arc<Membership> {
        self.membership.read().clone()
    }

    /// Whom to link with and whose proposals to append: the members, and those that the log adds
    /// ([`kanjo_member::foresight`]).
    pub(crate) fn known(&self) -> Arc<Membership> {
        self.foreseen.read().clone().unwrap_or_else(|| self.membership())
    }

    /// Takes members that stand in the log, until another membership is executed.
    pub(crate) fn foresee(&self, foreseen: Arc<Membership>) {
        if let Some(links) = self.links() {
            links.set_peers(peers(&foreseen, self.me, &[], self.link_via()));
        }
        *self.foreseen.write() = Some(foreseen);
    }

    /// An older one than is known, as when a node that was told the newest catches up, changes
    /// nothing.
    pub(crate) fn set_membership(&self, membership: Arc<Membership>) {
        let before = {
            let mut newest = self.membership.write();
            if membership.epoch < newest.epoch {
                return;
            }
            std::mem::replace(&mut *newest, membership.clone())
        };
        *self.foreseen.write() = None;
        tracing::info!(epoch = membership.epoch, "membership");
        let stood = |number: &u16| before.member(*number).is_some_and(|member| !is_removed(member));
        let removed = membership.numbered().filter(|(_, member)| is_removed(member));
        let going: Vec<u16> =
            removed.map(|(number, _)| number).filter(|number| stood(number)).collect();
        if let Some(links) = self.links() {
            links.set_peers(peers(&membership, self.me, &going, self.link_via()));
        }
        if !going.is_empty() {
            *self.part_at.lock() = Some(Instant::now() + PART_AFTER);
        }
        self.changed.notify_one();
    }

    /// Takes a membership that was proven to this node and that it may not have executed.
    pub(crate) fn learn(&self, membership: Arc<Membership>) {
        self.told.fetch_max(membership.epoch, Ordering::AcqRel);
        self.set_membership(membership);
    }

    /// Was this epoch, or a later one, proven to this node from elsewhere?
    pub(crate) fn was_told(&self, epoch: u64) -> bool {
        self.told.load(Ordering::Acquire) >= epoch
    }

    fn link_via(&self) -> Option<&BTreeMap<String, String>> {
        self.own.get().map(|own| &own.link_via)
    }

    /// Ends the links to members that were removed, once they had time to hear of it.
    pub(crate) fn part_with_removed(&self) {
        let mut part_at = self.part_at.lock();
        if part_at.is_some_and(|at| at <= Instant::now()) {
            *part_at = None;
            if let Some(links) = self.links() {
                links.set_peers(peers(&self.membership(), self.me, &[], self.link_via()));
            }
        }
    }

    /// Waits for the next change of the membership; for one that waits.
    pub(crate) async fn membership_changed(&self) {
        self.changed.notified().await;
    }

    pub(crate) fn set_links(&self, links: Arc<Mesh>) {
        let _ = self.links.set(links);
    }

    pub(crate) fn set_engine(&self, engine: Engine<TokioRuntime>) {
        let _ = self.engine.set(engine);
    }

    pub(crate) fn set_manager(&self, manager: mpsc::UnboundedSender<ToManager>) {
        let _ = self.manager.set(manager);
    }

    pub(crate) fn set_own(&self, own: Own) {
        let _ = self.own.set(own);
    }

    pub(crate) fn own(&self) -> Own {
        self.own.get().cloned().unwrap_or_default()
    }

    /// SHA-256 of this node's program.
    pub(crate) fn program(&self) -> Hash {
        self.own.get().map(|own| own.program).unwrap_or_default()
    }

    pub(crate) fn takes(&self) -> Option<u8> {
        self.own.get().and_then(|own| own.takes)
    }

    /// Leaves the quorum, as far as others go on without this node.
    pub(crate) async fn leave(&self) -> Result<(), String> {
        let gone = || "the cluster's manager is gone".to_owned();
        let (reply, left) = oneshot::channel();
        let manager = self.manager.get().ok_or_else(gone)?;
        manager.send(ToManager::Leave(reply)).map_err(|_| gone())?;
        left.await.map_err(|_| gone())?
    }

    /// A member sent something of the engine's.
    pub(crate) fn heard_from(&self, member: u16) {
        self.engine_heard.lock().insert(member, Instant::now());
    }

    /// Who leads, if it is this node or was heard of late. The engine names the last leader also
    /// when that is gone, until there is another one.
    pub(crate) fn heard_leader(&self) -> Option<u16> {
        let leader = self.engine()?.now().leader?;
        let is_heard = |at: &Instant| at.elapsed() < LEADER_SILENT_MAX;
        let leads = leader == self.me
            && self.leading_term.load(Ordering::Acquire) != 0
            && !self.signing_waits();
        (leads || self.engine_heard.lock().get(&leader).is_some_and(is_heard)).then_some(leader)
    }

    pub(crate) fn links(&self) -> Option<&Arc<Mesh>> {
        self.links.get()
    }

    pub(crate) fn engine(&self) -> Option<&Engine<TokioRuntime>> {
        self.engine.get()
    }

    /// Base URL of the leader's API, as the engine and the membership know.
    pub(crate) fn leader_api(&self) -> Option<Arc<str>> {
        let leader = self.engine()?.now().leader?;
        if leader == self.me && self.signing_waits() {
            // Others may have another one by now.
            return None;
        }
        let membership = self.membership();
        let api = &membership.member(leader)?.certificate.api;
        Some(Arc::from(api.trim_end_matches('/')))
    }

    /// The lowest block made here that is not committed.
    pub(crate) fn note_made(&self, lowest: Option<u64>) {
        let mut made = self.made.lock();
        if made.map(|(height, _)| height) != lowest {
            *made = lowest.map(|height| (height, Instant::now()));
        }
    }

    /// For how long a block made here has waited to be committed.
    pub(crate) fn made_waits(&self) -> Option<Duration> {
        self.made.lock().map(|(_, since)| since.elapsed())
    }

    // ---- Certificates and votes ----

    /// A certificate that can be read before it is on disk.
    pub(crate) fn keep_recent(&self, signed: &SignedHeader) {
        self.recent.write().insert(signed.header.height, signed.clone());
    }

    /// Later votes make a certificate stronger, as long as it is not on disk.
    pub(crate) fn strengthen(&self, height: u64, certificate: Certificate) {
        if let Some(signed) = self.recent.write().get_mut(&height) {
            signed.certificate = certificate;
        }
    }

    pub(crate) fn publish_votes(&self, votes: &[SignedVote]) {
        if votes.is_empty() {
            return;
        }
        self.bus.publish(Topic::Votes, encode_votes(votes));
        let mut kept = self.votes.lock();
        kept.extend(votes.iter().copied());
        let surplus = kept.len().saturating_sub(VOTES_KEPT);
        kept.drain(..surplus);
    }

    /// Is this node's vote for a height, one of the newest, given?
    pub(crate) fn has_voted(&self, height: u64) -> bool {
        self.votes.lock().iter().any(|vote| vote.height == height)
    }

    /// Sends own votes above `height` again: a message may have been lost.
    pub(crate) fn repeat_votes(&self, above: u64) {
        let votes: Vec<SignedVote> =
            self.votes.lock().iter().filter(|vote| vote.height >= above).copied().collect();
        if !votes.is_empty() {
            self.bus.publish(Topic::Votes, encode_votes(&votes));
        }
    }

    // ---- What is wrong ----

    pub(crate) fn note_doubt(&self, member: u16, why: String) {
        let mut doubts = self.doubts.lock();
        if doubts.len() < DOUBTS_KEPT || doubts.contains_key(&member) {
            doubts.insert(member, (Instant::now(), why));
        }
    }

    /// Doubts by member, with their age in milliseconds; a member may be there twice.
    pub(crate) fn doubts(&self) -> Vec<(u16, u64, String)> {
        let noted = self.doubts.lock().clone().into_iter();
        let noted = noted.map(|(member, (at, why))| (member, at, why));
        let all = noted.chain(self.evidence.refused());
        all.map(|(member, at, why)| (member, age_ms(at), why)).collect()
    }

    /// A notice to be brought to the ledger.
    pub(crate) fn offer_notice(&self, notice: Notice) {
        let _ = self.notices.send(notice);
    }

    pub(crate) fn sentinel(&self) -> SentinelState {
        self.sentinel.lock().clone()
    }

    pub(crate) fn sentinel_answers(&self) {
        *self.sentinel.lock() = SentinelState::Answers;
    }

    /// True when it was not known before.
    pub(crate) fn sentinel_silent(&self, why: String) -> bool {
        let mut sentinel = self.sentinel.lock();
        let is_news = !matches!(*sentinel, SentinelState::Silent(_));
        *sentinel = SentinelState::Silent(why);
        is_news
    }

    pub(crate) fn set_signing_waits(&self, waits: bool) {
        self.signing_waits.send_if_modified(|now| std::mem::replace(now, waits) != waits);
    }

    pub(crate) fn signing_waits(&self) -> bool {
        *self.signing_waits.borrow()
    }

    pub(crate) fn watch_signing(&self) -> watch::Receiver<bool> {
        self.signing_waits.subscribe()
    }

    pub(crate) fn sentinel_refuses(&self, why: String) {
        *self.sentinel.lock() = SentinelState::Refuses(why);
    }
}
