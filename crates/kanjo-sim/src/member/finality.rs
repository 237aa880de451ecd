//! From a committed entry to a final block: the node's `cluster/finality.rs`, event by event.

use super::maker::{Reply, ToMaker};
use super::open::is_broken;
use super::replayer::ToReplay;
use super::sealer::SealedBatch;
use super::signer::ToSign;
use super::{End, Member};
use crate::scene::Broken;
use crate::time::{ms, since_start, sleep, within};
use bytes::Bytes;
use kanjo_consensus::ballots::{self, Ballots, Expected};
use kanjo_consensus::boundary::CommittedEntry;
use kanjo_consensus::entry::Content;
use kanjo_consensus::vote::SignedVote;
use kanjo_ledger::block::roots_of;
use kanjo_ledger::chain::{Chain, Offered, Placed};
use kanjo_proof::trust::SignedHeader;
use kanjo_types::membership::Membership;
use kanjo_types::stored::{decode_block, decode_head};
use kanjo_types::{Certificate, Hash, Record};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// How far votes may run ahead of certificates on disk; less than a sentinel remembers.
const VOTES_AHEAD: u64 = 48;
const _: () = assert!((VOTES_AHEAD as usize) < kanjo_sentinel::rules::VOTES_REMEMBERED);

/// How often a witness looks whether executors had their time.
const WITNESS_TICK: Duration = ms(50);

/// What finality is told.
pub(crate) enum Event {
    /// From the sealer, in order of heights.
    Sealed(Box<SealedBatch>),
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
    /// The engine's voters are changed: behind the entries that did it, blocks are made again.
    Resume,
    /// Ends the task.
    Stop,
}

/// A committed height that is not final.
struct Pending {
    placed: Placed,
    /// The encoding of its block, if there is one that counts.
    block: Option<Bytes>,
    is_computed: bool,
    /// Kept until this node has executed it.
    permit: Option<OwnedSemaphorePermit>,
    /// On a witness: the header of this height if its block does not count.
    empty: Option<Hash>,
}

/// A block on its way to the engine.
pub(crate) struct Proposal {
    pub height: u64,
    pub header: Hash,
    pub bytes: Bytes,
}

/// What finality keeps.
pub(crate) struct State {
    pending: BTreeMap<u64, Pending>,
    /// Blocks made here and not committed yet: hash of the header.
    made: BTreeMap<u64, Hash>,
    /// Sealed batches and the height that must be certified before they are released.
    waiting: VecDeque<(u64, SealedBatch)>,
    certified: BTreeMap<u64, SignedHeader>,
    /// Memberships by the first height that they count for.
    memberships: BTreeMap<u64, Arc<Membership>>,
    released: Option<SignedHeader>,
    sealed_to: u64,
    /// The lowest height for which no votes are expected yet.
    next_ask: u64,
    drained: Vec<oneshot::Sender<()>>,
    /// Term of the newest first entry of this node as leader.
    own_blank: Option<u64>,
}

impl State {
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
        }
    }

    fn membership_at(&self, height: u64) -> Option<&Arc<Membership>> {
        self.memberships.range(..=height).next_back().map(|(_, membership)| membership)
    }
}

/// The task's parts.
pub(crate) struct Finality {
    pub member: Arc<Member>,
    pub proposals: UnboundedSender<Proposal>,
    pub chain: Chain,
    pub ballots: Ballots,
    /// Height and header hash of blocks that this node executed otherwise, before a rewind.
    pub void: BTreeSet<(u64, Hash)>,
    pub state: State,
}

impl Finality {
    pub(crate) async fn run(mut self, mut events: UnboundedReceiver<Event>) {
        while let Some(event) = self.next_event(&mut events).await {
            if !self.member.is_alive() || self.member.ended().is_some() {
                return;
            }
            match event {
                Event::Sealed(sealed) => self.sealed(*sealed),
                Event::Committed(entry, permit) => self.committed(&entry, permit),
                Event::Signed(votes) => self.signed(&votes),
                Event::Ballots(votes) => votes.iter().for_each(|vote| self.ballot(vote)),
                Event::Fetched(signed) => signed.iter().for_each(|one| self.fetched(one)),
                Event::Role { term } => self.role(term),
                Event::Kept => self.ask_votes(),
                Event::Resume => self.replay(ToReplay::PassOn(ToMaker::Resume)),
                Event::Tick => {}
                Event::Stop => return,
            }
            self.tick();
            self.release_ready();
            self.member.note_made(self.state.made.first_key_value().map(|(height, _)| *height));
            if self.state.made.is_empty() {
                for reply in self.state.drained.drain(..) {
                    let _ = reply.send(());
                }
            }
            if self.member.dice.hits(200_000) {
                sleep(self.member.dice.micros(1, 300)).await;
            }
        }
    }

    /// Executors that a witness waits for may have had their time.
    fn tick(&mut self) {
        if self.member.is_witness {
            let now_ms = u64::try_from(since_start().as_millis()).unwrap_or(u64::MAX);
            let events = self.ballots.tick(now_ms);
            self.take(events);
        }
    }

    /// The next event; a witness looks at the clock in between.
    async fn next_event(&self, events: &mut UnboundedReceiver<Event>) -> Option<Event> {
        if !self.member.is_witness {
            return events.recv().await;
        }
        within(WITNESS_TICK, events.recv()).await.unwrap_or(Some(Event::Tick))
    }

    /// A leader makes blocks once its first entry is committed and executed; which of the two this
    /// task hears first is open.
    fn role(&self, term: Option<u64>) {
        match term {
            None => {
                let _ = self.member.inboxes.maker.send(ToMaker::Follow);
            }
            Some(term) if self.state.own_blank == Some(term) => {
                self.replay(ToReplay::PassOn(ToMaker::Lead));
            }
            Some(_) => {}
        }
    }

    fn replay(&self, message: ToReplay) {
        let _ = self.member.inboxes.replayer.send(message);
    }

    // ---- Committed entries ----

    fn committed(&mut self, entry: &CommittedEntry, permit: OwnedSemaphorePermit) {
        let height = entry.index;
        if height == 0 && self.chain.height() == 0 {
            return self.committed_genesis(entry, permit);
        }
        if height <= self.chain.height() {
            return;
        }
        if height != self.chain.height() + 1 {
            let last = self.chain.height();
            return self.failed(format!("the engine committed {height} after {last}"));
        }
        let empty = self.member.is_witness.then(|| self.chain.empty(entry.proposer).hash());
        let placed = self.place(entry);
        let is_mine = self.state.made.get(&height).is_some_and(|made| *made == placed.hash);
        let block = match &entry.content {
            Content::Block(bytes) if placed.void.is_none() => Some(bytes.clone()),
            _ => None,
        };
        let pending = Pending {
            placed: placed.clone(),
            block: block.clone(),
            is_computed: is_mine || self.member.is_witness,
            permit: Some(permit),
            empty,
        };
        self.state.pending.insert(height, pending);
        if is_mine {
            self.state.made.remove(&height);
            return self.ask_votes();
        }
        if self.member.is_witness {
            self.witness_follows(height, block.as_ref(), &placed);
            return self.ask_votes();
        }
        if !self.state.made.is_empty() {
            if !is_broken(&self.member, Broken::NoRewind) {
                // Blocks made here stand on another one than the cluster has committed.
                return self.member.rewind("another leader's block was committed", None);
            }
            self.state.made.clear();
        }
        if matches!(entry.content, Content::Blank) && entry.proposer == self.member.me {
            self.state.own_blank = Some(entry.term);
        }
        let leads_after = !matches!(entry.content, Content::Block(_))
            && entry.proposer == self.member.me
            && self.member.leads_in(entry.term);
        self.replay(ToReplay::Height { placed: Box::new(placed), block, leads_after });
    }

    fn place(&mut self, entry: &CommittedEntry) -> Placed {
        let height = entry.index;
        let head = match &entry.content {
            Content::Block(bytes) => decode_head(bytes).ok().map(|(header, _)| header),
            _ => None,
        };
        let unreadable = head.is_none() && matches!(entry.content, Content::Block(_));
        let otherwise =
            head.as_ref().is_some_and(|header| self.void.contains(&(height, header.hash())));
        let known_void = match (unreadable, otherwise) {
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
        let placed = self.chain.place(offered);
        let (by, term) = (entry.proposer, entry.term);
        let kind = match (&entry.content, placed.void) {
            (_, Some(why)) => format!("void block ({why})"),
            (Content::Block(_), _) => "block".to_owned(),
            (Content::Blank, _) => "blank".to_owned(),
            (Content::Voters(_), _) => "voters".to_owned(),
        };
        self.member
            .note(format!("committed {height} of n{by} in term {term}: {kind} {}", placed.hash));
        placed
    }

    /// A witness executes nothing; changes of the membership it takes from the rows of the block.
    fn witness_follows(&mut self, height: u64, block: Option<&Bytes>, placed: &Placed) {
        let Some(bytes) = block else { return };
        let Ok(block) = decode_block(bytes, self.member.scene.chain) else { return };
        if roots_of(&block).receipts != placed.header.receipts_root {
            return self.member.note("the rows of a block don't give its header's roots");
        }
        for row in block.entries.iter().flat_map(|entry| &entry.rows) {
            if let Record::Membership(membership) = &row.record {
                let membership = Arc::new((**membership).clone());
                self.state.memberships.insert(height + 1, membership.clone());
                self.member.set_membership(membership);
            }
        }
    }

    fn committed_genesis(&mut self, entry: &CommittedEntry, permit: OwnedSemaphorePermit) {
        if self.state.released.is_some() {
            return;
        }
        let (header, hash) = (self.chain.last().clone(), self.chain.last_hash());
        let challenge = kanjo_types::block::challenge(&Hash::ZERO, &entry.signature);
        let placed = Placed { header, hash, challenge, void: None };
        let empty = self.member.is_witness.then_some(hash);
        let permit = Some(permit);
        let pending = Pending { placed, block: None, is_computed: true, permit, empty };
        self.state.pending.insert(0, pending);
        self.ask_votes();
    }

    // ---- Own results ----

    fn sealed(&mut self, mut sealed: SealedBatch) {
        self.state.drained.append(&mut sealed.marks);
        let Some(block) = &sealed.block else {
            return self.state.waiting.push_back((self.state.sealed_to, sealed));
        };
        let height = block.header.height;
        self.state.sealed_to = height;
        if let Some(difference) = &block.difference
            && !is_broken(&self.member, Broken::NoRewind)
        {
            let placed = self.state.pending.get(&height).map(|pending| pending.placed.hash);
            return self.member.rewind(difference, placed.map(|hash| (height, hash)));
        }
        let newest = self.state.memberships.last_key_value().map(|(_, newest)| newest.epoch);
        if newest != Some(block.membership.epoch) {
            self.state.memberships.insert(height + 1, block.membership.clone());
            self.member.set_membership(block.membership.clone());
        }
        if block.is_made {
            self.state.made.insert(height, block.hash);
            let (header, bytes) = (block.hash, block.bytes.clone());
            let _ = self.proposals.send(Proposal { height, header, bytes });
            if is_broken(&self.member, Broken::AcknowledgeEarly) {
                sealed.replies.drain(..).for_each(Reply::send);
            }
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
        while self.expect_votes(self.state.next_ask) {
            self.state.next_ask += 1;
        }
    }

    /// Expects votes for a height that is committed and computed, and gives its own, unless a
    /// certificate is there already. False when it is too early.
    fn expect_votes(&mut self, height: u64) -> bool {
        let Some(membership) = self.state.membership_at(height).cloned() else { return false };
        // Whose votes count here was decided in the block below: that one comes first.
        if self.state.memberships.contains_key(&height) && self.next_release() < height {
            return false;
        }
        // A sentinel remembers so many votes: what it signed above the certificates on disk must be
        // among them, or a power cut of all nodes would leave heights that nobody may sign again.
        if height >= self.member.kept_to.load(Ordering::Acquire).saturating_add(VOTES_AHEAD) {
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
        let is_voter = membership.member(self.member.me).is_some_and(|me| me.votes());
        let header = (!self.member.is_witness).then_some(hash);
        let signable = empty.map_or(Vec::new(), |empty| vec![hash, empty]);
        let expected = Expected { header, challenge, membership, signable };
        let events = self.ballots.expect(height, expected);
        self.take(events);
        let is_certified = self.ballots.certificate(height).is_some();
        if is_voter && !self.member.is_witness && !is_certified {
            self.ask_vote(epoch, height, hash, challenge);
        }
        true
    }

    fn ask_vote(&self, epoch: u64, height: u64, header: Hash, challenge: Hash) {
        let _ = self.member.inboxes.signer.send(ToSign::Vote { epoch, height, header, challenge });
    }

    // ---- Votes ----

    fn signed(&mut self, votes: &[SignedVote]) {
        for vote in votes {
            if is_broken(&self.member, Broken::QuorumOfOne) {
                let certificate = Certificate { epoch: vote.epoch, votes: vec![vote.vote] };
                self.certified(vote.height, vote.header, certificate);
            } else {
                self.ballot(vote);
            }
        }
    }

    fn ballot(&mut self, vote: &SignedVote) {
        let events = self.ballots.vote(vote);
        self.take(events);
    }

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
                    self.member.strengthen(height, certificate);
                }
                ballots::Event::WitnessMaySign { height, header } => {
                    self.witness_signs(height, header);
                }
                ballots::Event::BadVote { voter, height, why } => {
                    self.member
                        .note(format!("a vote of n{voter} at {height} does not count: {why}"));
                    self.member.scene.crimes.count_bad_vote();
                }
                ballots::Event::Differs { notice } => {
                    self.member.note("a member voted for another header");
                    self.member.offer_notice(notice);
                }
                ballots::Event::Contradicted { height, certified, ours, .. } => {
                    let text = format!("height {height}: certified {certified}, computed {ours}");
                    self.failed(text);
                }
                ballots::Event::Equivocation { height, first, second } => {
                    let text = format!("two certificates at {height}: {} {}", first.0, second.0);
                    self.member.scene.observer.finding_of(&self.member, text.clone());
                    self.failed(text);
                }
            }
        }
    }

    fn failed(&self, reason: String) {
        self.member.end(End::Failed(reason));
    }

    fn witness_signs(&mut self, height: u64, header: Hash) {
        let Some(membership) = self.state.membership_at(height) else { return };
        let epoch = membership.epoch;
        if membership.member(self.member.me).is_none_or(|me| !me.votes()) {
            return;
        }
        let Some(pending) = self.state.pending.get(&height) else { return };
        if pending.placed.hash != header {
            return self.follow_executors(height, pending.placed.hash);
        }
        self.ask_vote(epoch, height, header, pending.placed.challenge);
    }

    fn follow_executors(&self, height: u64, placed: Hash) {
        self.member.rewind("the executors found a block void", Some((height, placed)));
    }

    fn certified(&mut self, height: u64, header: Hash, certificate: Certificate) {
        let Some(pending) = self.state.pending.get(&height) else { return };
        if pending.placed.hash != header && pending.empty != Some(header) {
            return self.failed(format!(
                "height {height}: {header} is certified, and no entry of the log has it"
            ));
        }
        if pending.placed.hash != header {
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
                        self.let_out(sealed);
                    }
                }
                _ => return,
            }
        }
    }

    fn final_height(&mut self, height: u64, signed: SignedHeader) {
        let block = self.state.pending.remove(&height).and_then(|pending| pending.block);
        self.member.recent.lock().insert(height, signed.clone());
        self.state.released = Some(signed.clone());
        self.member.next_release.store(height + 1, Ordering::Release);
        let computed = self.state.waiting.iter().find_map(|(needs, sealed)| {
            (*needs == height).then(|| sealed.block.as_ref().map(|block| block.computed))?
        });
        self.member.scene.observer.released(&self.member, &signed, block.as_ref(), computed);
        let _ = self.member.inboxes.keeper.send(Some(signed));
        let newest = self.state.memberships.range(..=height + 1).next_back().map(|(at, _)| *at);
        if let Some(newest) = newest {
            self.state.memberships = self.state.memberships.split_off(&newest);
        }
        self.ask_votes();
        loop {
            match self.state.waiting.front() {
                Some((needs, sealed)) if *needs == height && sealed.block.is_some() => {
                    if let Some((_, sealed)) = self.state.waiting.pop_front() {
                        return self.let_out(sealed);
                    }
                }
                Some((needs, _)) if *needs < height => {
                    if let Some((_, sealed)) = self.state.waiting.pop_front() {
                        self.let_out(sealed);
                    }
                }
                _ => return,
            }
        }
    }

    fn let_out(&mut self, sealed: SealedBatch) {
        if sealed.block.as_ref().is_some_and(|block| block.is_made) {
            self.member.flow.add_permits(1);
        }
        sealed.replies.into_iter().for_each(Reply::send);
    }
}
