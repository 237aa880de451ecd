//! From a committed entry to a final block: headers in the order of the log, own results, votes,
//! certificates.
//!
//! ```text
//!   sealer ── Sealed ─┐      ┌─▶ engine: propose (blocks made here)
//!   engine ─ Committed┼─▶ ■ ─┼─▶ replayer (blocks made elsewhere) ─▶ sequencer ─▶ sealer
//!   signer ── Signed ─┤      ├─▶ signer: vote, once committed and executed
//!   bus ───── Ballot ─┘      └─▶ release, once certified: answers, streams; keeper: certificates
//! ```
//! One thread; it never waits for another stage, so that no circle of stages can stand still.
//!
//! # Invariants
//! - Nothing is released before its height is certified, and heights are released in order.
//! - A vote is asked for only when the entry is committed and this node computed its header.
//! - A block made here that the cluster did not commit at its height is never voted for: the ledger
//!   in memory is opened anew.

use crate::cluster::ClusterState;
use crate::cluster::replayer::ToReplay;
use crate::cluster::signing::ToSign;
use crate::cluster::witness;
use crate::flow::Flow;
use crate::metrics::Stage;
use crate::release::Release;
use crate::sealer::Sealed;
use crate::shared::{Shared, ToSequencer};
use bytes::Bytes;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use kanjo_consensus::ballots::{self, Ballots, Expected};
use kanjo_consensus::boundary::CommittedEntry;
use kanjo_consensus::entry::Content;
use kanjo_consensus::vote::SignedVote;
use kanjo_ledger::chain::{Chain, Offered, Placed};
use kanjo_proof::trust::SignedHeader;
use kanjo_types::membership::Membership;
use kanjo_types::stored::{decode_block, decode_head};
use kanjo_types::{Certificate, Hash};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::OwnedSemaphorePermit;

/// How far votes may run ahead of certificates on disk; less than a sentinel remembers.
const VOTES_AHEAD: u64 = 48;
const _: () = assert!((VOTES_AHEAD as usize) < kanjo_sentinel::rules::VOTES_REMEMBERED);

/// How often a witness looks whether executors had their time.
const WITNESS_TICK: Duration = Duration::from_millis(50);
/// How long a stop waits for blocks under way.
const FINISH_TIME: Duration = Duration::from_secs(5);

/// What the finality thread is told.
pub(crate) enum Event {
    /// From the sealer, in order of heights.
    Sealed(Box<Sealed>),
    /// From the engine, in order of heights, with its share of the room for entries under way.
    Committed(Box<CommittedEntry>, OwnedSemaphorePermit),
    /// Own votes.
    Signed(Vec<SignedVote>),
    /// Votes of a member.
    Ballots(Vec<SignedVote>),
    /// Certificates got from a peer.
    Fetched(Vec<SignedHeader>),
    /// The term in which this node leads; nothing when it leads no more.
    Role { term: Option<u64> },
    /// Certificates were written: the sentinel may go on.
    Kept,
    /// Nothing came for a while.
    Tick,
    /// The engine's voters are changed: make blocks again, behind what is committed.
    Resume,
    /// Ends the thread when what is under way is final, or soon.
    Finish,
    /// Ends the thread.
    Stop,
}

/// A committed height that is not final.
struct Pending {
    placed: Placed,
    /// This node computed the same header; a witness needs not.
    is_computed: bool,
    /// Kept until this node has executed it.
    permit: Option<OwnedSemaphorePermit>,
    /// On a witness: the header of this height if its block does not count.
    empty: Option<Hash>,
}

/// What the finality thread works with.
pub(crate) struct Finality {
    pub shared: Arc<Shared>,
    pub cluster: Arc<ClusterState>,
    pub events: Receiver<Event>,
    pub sequencer: Sender<ToSequencer>,
    pub replayer: Sender<ToReplay>,
    pub signer: Sender<ToSign>,
    pub proposals: tokio::sync::mpsc::UnboundedSender<Proposal>,
    pub release: Release,
    pub flow: Arc<Flow>,
    pub chain: Chain,
    pub ballots: Ballots,
    /// Height and header hash of a block that this node executed otherwise, before a rewind.
    pub void: BTreeSet<(u64, Hash)>,
    pub state: State,
    /// For times that a witness is told.
    pub begin: Instant,
    /// Set when the node stops.
    pub finish_by: Option<Instant>,
}

/// A block on its way to the engine.
pub(crate) struct Proposal {
    pub height: u64,
    pub header: Hash,
    pub bytes: Bytes,
}

/// What the finality thread keeps.
pub(crate) struct State {
    pending: BTreeMap<u64, Pending>,
    /// Hashes of the headers of blocks made here and not committed yet.
    made: BTreeMap<u64, Hash>,
    /// Sealed batches and the height that must be certified before they are released.
    waiting: VecDeque<(u64, Sealed)>,
    /// Certified heights that are not released yet.
    certified: BTreeMap<u64, SignedHeader>,
    /// Memberships by the first height that they count for.
    memberships: BTreeMap<u64, Arc<Membership>>,
    /// Newest height that is released.
    released: Option<SignedHeader>,
    sealed_to: u64,
    /// The lowest height for which no votes are expected yet.
    next_ask: u64,
    drained: Vec<tokio::sync::oneshot::Sender<()>>,
    /// Term of the newest first entry of this node as leader.
    own_blank: Option<u64>,
    /// A witness: the height at which it last wrote down what it knows.
    remembered: u64,
}

impl State {
    /// Everything up to `tip` is final, if there is a certificate.
    pub(crate) fn new(
        tip: u64,
        released: Option<SignedHeader>,
        membership: Arc<Membership>,
    ) -> Self {
        let first = released.as_ref().map_or(0, |signed| signed.header.height + 1);
        Self {
            pending: BTreeMap::new(),
            made: BTreeMap::new(),
            waiting: VecDeque::new(),
            certified: BTreeMap::new(),
            memberships: BTreeMap::from([(first, membership)]),
            released,
            sealed_to: tip,
            next_ask: first,
            drained: Vec::new(),
            own_blank: None,
            remembered: tip,
        }
    }

    /// The membership whose votes count at a height; nothing before this node has executed the
    /// height below.
    fn membership_at(&self, height: u64) -> Option<&Arc<Membership>> {
        self.memberships.range(..=height).next_back().map(|(_, membership)| membership)
    }
}

impl Finality {
    pub(crate) fn run(mut self) {
        let cpu = self.shared.metrics.thread(Stage::Certificate);
        while let Some(event) = self.next_event() {
            match event {
                Event::Sealed(sealed) => self.sealed(*sealed),
                Event::Committed(entry, permit) => self.committed(&entry, permit),
                Event::Signed(votes) | Event::Ballots(votes) => {
                    votes.iter().for_each(|vote| self.ballot(vote));
                }
                Event::Fetched(signed) => signed.iter().for_each(|one| self.fetched(one)),
                Event::Role { term } => self.role(term),
                Event::Kept => self.ask_votes(),
                Event::Tick => {}
                Event::Resume => {
                    let _ = self.replayer.send(ToReplay::PassOn(ToSequencer::Resume));
                }
                Event::Finish => self.finish_by = Some(Instant::now() + FINISH_TIME),
                Event::Stop => break,
            }
            self.tick();
            self.release_ready();
            self.cluster.note_made(self.state.made.first_key_value().map(|(height, _)| *height));
            if self.state.made.is_empty() {
                for reply in self.state.drained.drain(..) {
                    let _ = reply.send(());
                }
            }
            if self.shared.stopping() && self.shared.is_rewinding() {
                break;
            }
            cpu.lap();
        }
        self.flow.close();
    }

    /// The next event; nothing when it is time to end.
    fn next_event(&self) -> Option<Event> {
        match self.finish_by {
            Some(_) if self.state.waiting.is_empty() => None,
            Some(finish_by) => self.events.recv_deadline(finish_by).ok(),
            // It looks at the clock in between.
            None if self.cluster.is_witness => match self.events.recv_timeout(WITNESS_TICK) {
                Err(RecvTimeoutError::Timeout) => Some(Event::Tick),
                event => event.ok(),
            },
            None => self.events.recv().ok(),
        }
    }

    /// Executors that a witness waits for may have had their time.
    fn tick(&mut self) {
        if self.cluster.is_witness {
            let now_ms = u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX);
            let events = self.ballots.tick(now_ms);
            self.take(events);
        }
    }

    /// A leader makes blocks once its first entry is committed and executed; which of the two this
    /// thread hears first is open.
    fn role(&mut self, term: Option<u64>) {
        match term {
            None => self.tell(ToSequencer::Follow),
            Some(term) if self.state.own_blank == Some(term) => {
                let _ = self.replayer.send(ToReplay::PassOn(ToSequencer::Lead));
            }
            Some(_) => {}
        }
    }

    /// Tells the sequencer; it may be busy, so that another thread waits for it.
    fn tell(&self, message: ToSequencer) {
        if let Err(TrySendError::Full(message)) = self.sequencer.try_send(message) {
            let _ = self.replayer.send(ToReplay::PassOn(message));
        }
    }

    // ---- Committed entries ----

    fn committed(&mut self, entry: &CommittedEntry, permit: OwnedSemaphorePermit) {
        let height = entry.index;
        if height == 0 && self.chain.height() == 0 {
            return self.committed_genesis(entry, permit);
        }
        if height <= self.chain.height() {
            // Taken before a restart of the engine.
            return;
        }
        assert_eq!(height, self.chain.height() + 1, "the engine commits in order");
        let head = match &entry.content {
            Content::Block(bytes) => decode_head(bytes).ok().map(|(header, _)| header),
            _ => None,
        };
        let unreadable = head.is_none() && matches!(entry.content, Content::Block(_));
        let executed_otherwise =
            head.as_ref().is_some_and(|header| self.void.contains(&(height, header.hash())));
        let known_void = match (unreadable, executed_otherwise) {
            (true, _) => Some("its bytes are no block"),
            (_, true) => Some("this node executed it otherwise"),
            _ => None,
        };
        let offered = Offered {
            proposer: entry.proposer,
            signature: &entry.signature,
            block: head.as_ref(),
            known_void,
        };
        let empty = self.cluster.is_witness.then(|| self.chain.empty(entry.proposer).hash());
        let placed = self.chain.place(offered);
        if let Some(why) = placed.void {
            tracing::warn!(height, why, proposer = entry.proposer, "a block in the log is void");
        }
        self.shared.pending_headers.write().insert(height, placed.hash);
        let is_mine = self.state.made.get(&height).is_some_and(|made| *made == placed.hash);
        let pending = Pending {
            placed: placed.clone(),
            is_computed: is_mine || self.cluster.is_witness,
            permit: Some(permit),
            empty,
        };
        self.state.pending.insert(height, pending);
        if is_mine {
            self.state.made.remove(&height);
            return self.ask_votes();
        }
        if self.cluster.is_witness {
            self.witness_follows(height, &entry.content, &placed);
            return self.ask_votes();
        }
        if !self.state.made.is_empty() {
            // Blocks made here stand on another one than the cluster has committed.
            return self.shared.rewind("another leader's block was committed", None);
        }
        let block = match &entry.content {
            Content::Block(bytes) if placed.void.is_none() => Some(bytes.clone()),
            _ => None,
        };
        if matches!(entry.content, Content::Blank) && entry.proposer == self.cluster.me {
            self.state.own_blank = Some(entry.term);
        }
        let leads_after = !matches!(entry.content, Content::Block(_))
            && entry.proposer == self.cluster.me
            && self.cluster.leads_in(entry.term);
        let _ =
            self.replayer.send(ToReplay::Height { placed: Box::new(placed), block, leads_after });
    }

    /// A witness executes nothing; changes of the membership it takes from the rows of the block,
    /// once they give the roots in its header, which the executors certify.
    fn witness_follows(&mut self, height: u64, content: &Content, placed: &Placed) {
        let Content::Block(bytes) = content else { return };
        if placed.void.is_some() {
            return;
        }
        let Ok(block) = decode_block(bytes, self.shared.chain) else { return };
        match witness::made_in(&block) {
            Ok(Some(membership)) => {
                self.state.memberships.insert(height + 1, membership.clone());
                self.cluster.set_membership(membership);
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "a change of the membership is not taken"),
        }
    }

    /// Height 0 is executed by definition; its entry says that the first voters are in place.
    fn committed_genesis(&mut self, entry: &CommittedEntry, permit: OwnedSemaphorePermit) {
        if self.state.released.is_some() {
            return;
        }
        let header = self.chain.last().clone();
        let hash = self.chain.last_hash();
        let challenge = kanjo_types::block::challenge(&Hash::ZERO, &entry.signature);
        let placed = Placed { header, hash, challenge, void: None };
        let empty = self.cluster.is_witness.then_some(hash);
        let pending = Pending { placed, is_computed: true, permit: Some(permit), empty };
        self.state.pending.insert(0, pending);
        self.ask_votes();
    }

    // ---- Own results ----

    fn sealed(&mut self, mut sealed: Sealed) {
        self.state.drained.append(&mut sealed.marks);
        let Some(block) = &sealed.block else {
            return self.state.waiting.push_back((self.state.sealed_to, sealed));
        };
        let height = block.header.height;
        self.state.sealed_to = height;
        if let Some(difference) = &block.difference {
            let reason = difference.to_string();
            let placed = self.state.pending.get(&height).map(|pending| pending.placed.hash);
            return self.shared.rewind(&reason, placed.map(|hash| (height, hash)));
        }
        let newest = self.state.memberships.last_key_value().map(|(_, newest)| newest.epoch);
        if newest != Some(block.membership.epoch) {
            self.state.memberships.insert(height + 1, block.membership.clone());
            self.cluster.set_membership(block.membership.clone());
        }
        if block.is_made {
            self.state.made.insert(height, block.hash);
            let (header, bytes) = (block.hash, block.bytes.clone());
            // The engine may be gone; then this node stops or rewinds.
            let _ = self.proposals.send(Proposal { height, header, bytes });
        } else if let Some(pending) = self.state.pending.get_mut(&height) {
            pending.is_computed = true;
            pending.permit = None;
        }
        self.state.waiting.push_back((height, sealed));
        self.ask_votes();
    }

    /// Goes on with all heights that are committed and computed, in order: a sentinel never signs
    /// below what it has signed.
    fn ask_votes(&mut self) {
        while self.ask_vote(self.state.next_ask) {
            self.state.next_ask += 1;
        }
    }

    /// Expects votes for a height that is committed and computed, and gives its own, unless a
    /// certificate is there already. False when it is too early.
    fn ask_vote(&mut self, height: u64) -> bool {
        let Some(membership) = self.state.membership_at(height).cloned() else { return false };
        // Whose votes count here was decided in the block below: that one comes first.
        if self.state.memberships.contains_key(&height) && self.next_release() < height {
            return false;
        }
        // A sentinel remembers so many votes: what it signed above the certificates on disk must be
        // among them, or a power cut of all nodes would leave heights that nobody may sign again.
        if height >= self.cluster.kept_to.load(Ordering::Acquire).saturating_add(VOTES_AHEAD) {
            return false;
        }
        let Some(pending) = self.state.pending.get_mut(&height) else { return false };
        if !pending.is_computed {
            return false;
        }
        pending.permit = None;
        let (hash, challenge) = (pending.placed.hash, pending.placed.challenge);
        let empty = pending.empty;
        let epoch = membership.epoch;
        let is_voter = self.cluster.has_vote(&membership);
        // A witness finds no header of its own: it follows the executors.
        let header = (!self.cluster.is_witness).then_some(hash);
        let signable = empty.map_or(Vec::new(), |empty| vec![hash, empty]);
        let expected = Expected { header, challenge, membership, signable };
        let events = self.ballots.expect(height, expected);
        self.take(events);
        // With a certificate at hand, as when this node catches up, its vote is not needed.
        let is_certified = self.ballots.certificate(height).is_some();
        if is_voter && !self.cluster.is_witness && !is_certified {
            let _ = self.signer.send(ToSign::Vote { epoch, height, header: hash, challenge });
        }
        true
    }

    // ---- Votes ----

    fn ballot(&mut self, vote: &SignedVote) {
        let events = self.ballots.vote(vote);
        self.take(events);
    }

    /// A certificate from a peer: its votes count as if they had come from the voters.
    fn fetched(&mut self, signed: &SignedHeader) {
        let (height, header) = (signed.header.height, signed.header.hash());
        let events = self.ballots.votes_of(height, header, &signed.certificate);
        self.take(events);
    }

    fn take(&mut self, events: Vec<ballots::Event>) {
        for event in events {
            match event {
                ballots::Event::Certified { height, header, certificate } => {
                    self.certified(height, header, certificate);
                }
                ballots::Event::Strengthened { height, certificate } => {
                    self.cluster.strengthen(height, certificate);
                }
                ballots::Event::WitnessMaySign { height, header } => {
                    self.witness_signs(height, header);
                }
                ballots::Event::BadVote { voter, height, why } => {
                    tracing::warn!(voter, height, %why, "a vote does not count");
                    self.cluster.note_doubt(voter, format!("vote at height {height}: {why}"));
                }
                ballots::Event::Differs { notice } => {
                    tracing::error!(?notice, "a member voted for another header");
                    self.cluster.offer_notice(notice);
                }
                ballots::Event::Contradicted { height, certified, ours, .. } => {
                    self.shared.fail(format!(
                        "at height {height} a majority certified {certified}, this node computed \
                         {ours}: its memory, its disk or its program is faulty"
                    ));
                }
                ballots::Event::Equivocation { height, first, second } => {
                    tracing::error!(height, ?first, ?second, "two certificates at one height");
                    self.shared.fail(format!(
                        "two certificates at height {height}: voters signed twice; the proof is in \
                         the log of this process"
                    ));
                }
            }
        }
    }

    /// The executors voted for `header`; this witness says that it is the committed one.
    fn witness_signs(&mut self, height: u64, header: Hash) {
        let Some(membership) = self.state.membership_at(height) else { return };
        let epoch = membership.epoch;
        if !self.cluster.has_vote(membership) {
            return;
        }
        let Some(pending) = self.state.pending.get(&height) else { return };
        if pending.placed.hash != header {
            return self.follow_executors(height, pending.placed.hash);
        }
        let challenge = pending.placed.challenge;
        let _ = self.signer.send(ToSign::Vote { epoch, height, header, challenge });
    }

    /// The executors found a block void that fits from outside: a witness places it anew.
    fn follow_executors(&self, height: u64, placed: Hash) {
        self.shared.rewind("the executors found a block void", Some((height, placed)));
    }

    fn certified(&mut self, height: u64, header: Hash, certificate: Certificate) {
        let Some(pending) = self.state.pending.get(&height) else { return };
        if pending.placed.hash != header && pending.empty != Some(header) {
            return self.shared.fail(format!(
                "at height {height} {header} is certified, and no entry of the log has that header"
            ));
        }
        if pending.placed.hash != header {
            // Executors hear of it as a contradiction.
            return self.follow_executors(height, pending.placed.hash);
        }
        let signed = SignedHeader { header: pending.placed.header.clone(), certificate };
        self.state.certified.insert(height, signed);
    }

    // ---- Release ----

    fn next_release(&self) -> u64 {
        self.state.released.as_ref().map_or(0, |signed| signed.header.height + 1)
    }

    fn release_ready(&mut self) {
        loop {
            let height = self.next_release();
            let is_computed =
                self.state.pending.get(&height).is_some_and(|pending| pending.is_computed);
            if is_computed && let Some(signed) = self.state.certified.remove(&height) {
                self.final_height(height, signed);
                continue;
            }
            let is_final = |needs: u64| self.state.released.is_some() && needs < height;
            match self.state.waiting.front() {
                Some((needs, sealed)) if sealed.block.is_none() && is_final(*needs) => {
                    if let Some((_, sealed)) = self.state.waiting.pop_front() {
                        self.let_out(sealed, None);
                    }
                }
                _ => return,
            }
        }
    }

    fn final_height(&mut self, height: u64, signed: SignedHeader) {
        self.state.pending.remove(&height);
        self.shared.pending_headers.write().remove(&height);
        self.cluster.keep_recent(&signed);
        self.state.released = Some(signed.clone());
        let newest = self.state.memberships.range(..=height + 1).next_back().map(|(at, _)| *at);
        if let Some(newest) = newest {
            self.state.memberships = self.state.memberships.split_off(&newest);
        }
        let copy = self.witness_remembers(height, newest == Some(height + 1));
        self.ask_votes();
        loop {
            match self.state.waiting.front() {
                Some((needs, sealed)) if *needs == height && sealed.block.is_some() => {
                    if let Some((_, sealed)) = self.state.waiting.pop_front() {
                        return self.let_out(sealed, Some(signed));
                    }
                }
                Some((needs, _)) if *needs < height => {
                    if let Some((_, sealed)) = self.state.waiting.pop_front() {
                        self.let_out(sealed, None);
                    }
                }
                // The genesis, and every height of a witness: nothing waits for it.
                _ => return self.release.height_only(&signed, copy),
            }
        }
    }

    /// What a witness writes down when `height` is final: changes of the membership, and now and
    /// then how far it has come.
    fn witness_remembers(&mut self, height: u64, is_changed: bool) -> Option<Arc<Membership>> {
        let is_long_ago = height >= self.state.remembered + witness::HEIGHTS_MAX;
        if !self.cluster.is_witness || !(is_changed || is_long_ago) {
            return None;
        }
        self.state.remembered = height;
        self.state.membership_at(height + 1).cloned()
    }

    fn let_out(&mut self, mut sealed: Sealed, signed: Option<SignedHeader>) {
        if let Some(block) = &sealed.block
            && block.is_made
        {
            self.flow.leave(block.bytes.len());
        }
        if let Some(last) = &self.state.released {
            sealed.proofs.iter_mut().for_each(|proof| proof.certify(last));
        }
        self.release.release(sealed, signed);
    }
}
