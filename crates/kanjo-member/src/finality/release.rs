//! What is final, in order, and who waited for it.

use super::{Action, Batch, Finality};
use crate::witness;
use kanjo_proof::trust::SignedHeader;
use kanjo_types::membership::Membership;
use std::sync::Arc;

impl<B: Batch, P> Finality<B, P> {
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
