//! Votes: when this node's is asked for, what those of all make final, and who waited for that.

use super::{Action, Batch, Failure, Finality, VOTES_AHEAD};
use crate::conduct::has_vote;
use crate::witness;
use kanjo_consensus::ballots::{Event, Expected};
use kanjo_proof::trust::SignedHeader;
use kanjo_types::membership::Membership;
use kanjo_types::{Certificate, Hash};
use std::sync::Arc;

impl<B: Batch, P> Finality<B, P> {
    /// Goes on with all heights that are committed and computed, in order: a sentinel never signs
    /// below what it has signed.
    pub(super) fn ask_votes(&mut self) {
        while self.ask_vote(self.next_ask) {
            self.next_ask += 1;
        }
    }

    /// Expects votes for a height that is committed and computed, and asks for its own. False when
    /// it is too early.
    fn ask_vote(&mut self, height: u64) -> bool {
        let Some(membership) = self.membership_at(height).cloned() else { return false };
        // Whose votes count here was decided in the block below: that one comes first, and is on
        // disk, since a sentinel remembers little across epochs.
        let kept_to = self.around.kept_to;
        if self.memberships.contains_key(&height) && kept_to.min(self.next_release) < height {
            return false;
        }
        // A sentinel remembers so many votes: what it signed above the certificates on disk must be
        // among them, or a power cut of all nodes would leave heights that nobody may sign again.
        if height >= kept_to.saturating_add(VOTES_AHEAD) {
            return false;
        }
        let Some(pending) = self.pending.get_mut(&height) else { return false };
        if !pending.is_computed {
            return false;
        }
        let (hash, challenge) = (pending.placed.hash, pending.placed.challenge);
        let (empty, permit) = (pending.empty, pending.permit.take());
        self.free(permit);
        let epoch = membership.epoch;
        let is_voter = has_vote(&membership, self.me, &self.program);
        // A witness finds no header of its own: it follows the executors.
        let header = (!self.is_witness).then_some(hash);
        let signable = empty.map_or(Vec::new(), |empty| vec![hash, empty]);
        let expected = Expected { header, challenge, membership, signable };
        let events = self.ballots.expect(height, expected);
        self.count(events);
        // Also where a certificate is there already: until that is on disk somewhere for good, the
        // power may take it, and a sentinel signs nothing below what it has signed.
        if is_voter && !self.is_witness {
            self.act(Action::AskVote { epoch, height, header: hash, challenge });
        }
        true
    }

    /// A certificate from a peer: its votes count as if they had come from the voters.
    pub(super) fn fetched(&mut self, signed: &SignedHeader) {
        let (height, header) = (signed.header.height, signed.header.hash());
        let events = self.ballots.votes_of(height, header, &signed.certificate);
        self.count(events);
    }

    /// Takes what came of votes.
    pub(super) fn count(&mut self, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Certified { height, header, certificate } => {
                    self.certified(height, header, certificate);
                }
                Event::Strengthened { height, certificate } => {
                    self.act(Action::Strengthen { height, certificate });
                }
                Event::WitnessMaySign { height, header } => self.witness_signs(height, header),
                Event::BadVote { voter, height, why } => {
                    self.act(Action::BadVote { voter, height, why });
                }
                Event::Differs { notice } => self.act(Action::Differs { notice }),
                Event::Contradicted { height, certified, ours, .. } => {
                    self.act(Action::Fail(Failure::Contradicted { height, certified, ours }));
                }
                Event::Equivocation { height, first, second } => {
                    let (first, second) = (Box::new(first), Box::new(second));
                    self.act(Action::Fail(Failure::Equivocation { height, first, second }));
                }
            }
        }
    }

    /// The executors voted for `header`; this witness says that it is the committed one.
    fn witness_signs(&mut self, height: u64, header: Hash) {
        let Some(membership) = self.membership_at(height) else { return };
        let epoch = membership.epoch;
        if !has_vote(membership, self.me, &self.program) {
            return;
        }
        let Some(pending) = self.pending.get(&height) else { return };
        let (placed, challenge) = (pending.placed.hash, pending.placed.challenge);
        if placed != header {
            return self.follow_executors(height, placed);
        }
        self.act(Action::AskVote { epoch, height, header, challenge });
    }

    /// The executors found a block void that fits from outside: a witness places it anew.
    fn follow_executors(&mut self, height: u64, placed: Hash) {
        let reason = "the executors found a block void".to_owned();
        self.act(Action::Rewind { reason, void: Some((height, placed)) });
    }

    fn certified(&mut self, height: u64, header: Hash, certificate: Certificate) {
        let Some(pending) = self.pending.get(&height) else { return };
        let placed = pending.placed.hash;
        if placed != header && pending.empty != Some(header) {
            return self.act(Action::Fail(Failure::NotInLog { height, header }));
        }
        if placed != header {
            // Executors hear of it as a contradiction.
            return self.follow_executors(height, placed);
        }
        let signed = SignedHeader { header: pending.placed.header.clone(), certificate };
        self.certified.insert(height, signed);
    }

    /// Takes a certificate without counting its votes. No member does that: a simulator does, to
    /// see what comes of a member that believes too much. The next [step](Self::step) acts on it.
    pub fn believe(&mut self, height: u64, header: Hash, certificate: Certificate) {
        self.certified(height, header, certificate);
    }

    // ---- What is final ----

    pub(super) fn release_ready(&mut self) {
        loop {
            let height = self.next_release;
            let is_computed = self.pending.get(&height).is_some_and(|pending| pending.is_computed);
            if is_computed && let Some(signed) = self.certified.remove(&height) {
                self.final_height(height, signed);
                continue;
            }
            // Batches without a block, as those of refusals, wait for the last one before them.
            match self.waiting.front() {
                Some(next) if !next.has_block && next.needs < height => self.let_out(false),
                _ => return,
            }
        }
    }

    fn final_height(&mut self, height: u64, signed: SignedHeader) {
        let permit = self.pending.remove(&height).and_then(|pending| pending.permit);
        self.free(permit);
        self.next_release = height + 1;
        self.act(Action::Final { signed });
        let newest = self.memberships.range(..=height + 1).next_back().map(|(at, _)| *at);
        if let Some(newest) = newest {
            self.memberships = self.memberships.split_off(&newest);
        }
        let remembers = self.witness_remembers(height, newest == Some(height + 1));
        self.ask_votes();
        loop {
            match self.waiting.front() {
                Some(next) if next.needs == height && next.has_block => return self.let_out(true),
                Some(next) if next.needs < height => self.let_out(false),
                // The genesis, and every height of a witness: nothing waits for it.
                _ => return self.act(Action::HeightOnly { remembers }),
            }
        }
    }

    /// What a witness writes down when `height` is final: changes of the membership, and now and
    /// then how far it has come.
    fn witness_remembers(&mut self, height: u64, is_changed: bool) -> Option<Arc<Membership>> {
        let is_long_ago = height >= self.remembered + witness::HEIGHTS_MAX;
        if !self.is_witness || !(is_changed || is_long_ago) {
            return None;
        }
        self.remembered = height;
        self.membership_at(height + 1).cloned()
    }

    fn let_out(&mut self, is_newest: bool) {
        if let Some(next) = self.waiting.pop_front() {
            self.act(Action::Release { batch: next.batch, is_newest });
        }
    }
}
