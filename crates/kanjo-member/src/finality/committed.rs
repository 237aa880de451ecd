//! Committed entries: their places in the chain, and who executes them.

use super::{Action, Batch, Failure, Finality, Pending};
use crate::witness;
use bytes::Bytes;
use kanjo_consensus::boundary::CommittedEntry;
use kanjo_consensus::entry::Content;
use kanjo_ledger::chain::{Chain, Offered, Placed};
use kanjo_types::block::challenge;
use kanjo_types::stored::{decode_block, decode_head};
use kanjo_types::{ChainId, Hash};
use std::collections::BTreeSet;

impl<B: Batch, P> Finality<B, P> {
    pub(super) fn committed(&mut self, entry: Box<CommittedEntry>, permit: P) {
        let (height, last) = (entry.index, self.chain.height());
        if height == 0 && last == 0 {
            return self.committed_genesis(&entry, permit);
        }
        if height <= last {
            // Taken before a restart of the engine.
            return self.free(Some(permit));
        }
        if height != last + 1 {
            return self.act(Action::Fail(Failure::OutOfOrder { committed: height, last }));
        }
        let empty = self.is_witness.then(|| self.chain.empty(entry.proposer).hash());
        let placed = place(&mut self.chain, &self.void, &entry);
        let is_mine = self.made.get(&height).is_some_and(|made| *made == placed.hash);
        let block = match &entry.content {
            Content::Block(bytes) if placed.void.is_none() => Some(bytes.clone()),
            _ => None,
        };
        let (chain, term) = (placed.header.chain, entry.term);
        let is_own = entry.proposer == self.me;
        let is_block = matches!(entry.content, Content::Block(_));
        let is_blank = matches!(entry.content, Content::Blank);
        let is_computed = is_mine || self.is_witness;
        self.act(Action::Placed { entry, hash: placed.hash, void: placed.void });
        let pending = Pending { placed: placed.clone(), is_computed, permit: Some(permit), empty };
        self.pending.insert(height, pending);
        if is_mine {
            self.made.remove(&height);
            return self.ask_votes();
        }
        if self.is_witness {
            self.witness_follows(height, chain, block.as_ref());
            return self.ask_votes();
        }
        if !self.made.is_empty() {
            // Blocks made here stand on another one than the cluster has committed.
            let reason = "another leader's block was committed".to_owned();
            return self.act(Action::Rewind { reason, void: None });
        }
        if is_blank && is_own {
            self.own_blank = Some(term);
        }
        let leads_after = !is_block && is_own && self.around.leading_term == term;
        self.act(Action::Replay { placed: Box::new(placed), block, leads_after });
    }

    /// Height 0 is executed by definition; its entry says that the first voters are in place.
    fn committed_genesis(&mut self, entry: &CommittedEntry, permit: P) {
        if self.next_release > 0 {
            return self.free(Some(permit));
        }
        let (header, hash) = (self.chain.last().clone(), self.chain.last_hash());
        let challenge = challenge(&Hash::ZERO, &entry.signature);
        let placed = Placed { header, hash, challenge, void: None };
        let empty = self.is_witness.then_some(hash);
        let pending = Pending { placed, is_computed: true, permit: Some(permit), empty };
        self.pending.insert(0, pending);
        self.ask_votes();
    }

    /// A witness executes nothing; changes of the membership it takes from the rows of the block,
    /// once they give the roots in its header, which the executors certify.
    fn witness_follows(&mut self, height: u64, chain: ChainId, block: Option<&Bytes>) {
        let Some(bytes) = block else { return };
        let Ok(block) = decode_block(bytes, chain) else { return };
        match witness::made_in(&block) {
            Ok(Some(membership)) => self.set_membership(height, membership),
            Ok(None) => {}
            Err(error) => self.act(Action::OtherRows(error)),
        }
    }

    /// Forgets blocks made here if this entry, the next one, shows that they are lost. No member
    /// does that: it rewinds. A simulator calls it before it commits the entry, to see what comes
    /// of a member that goes on.
    pub fn forget_made_if_lost(&mut self, entry: &CommittedEntry) {
        let height = entry.index;
        if self.made.is_empty() || height != self.chain.height() + 1 {
            return;
        }
        let placed = place(&mut self.chain.clone(), &self.void, entry);
        if self.made.get(&height) != Some(&placed.hash) {
            self.made.clear();
        }
    }
}

/// Gives an entry its place.
fn place(chain: &mut Chain, void: &BTreeSet<(u64, Hash)>, entry: &CommittedEntry) -> Placed {
    let head = match &entry.content {
        Content::Block(bytes) => decode_head(bytes).ok().map(|(header, _)| header),
        _ => None,
    };
    let is_unreadable = head.is_none() && matches!(entry.content, Content::Block(_));
    let is_void = |hash: Hash| void.contains(&(entry.index, hash));
    // Nothing is void in most runs, and hashing takes time.
    let is_otherwise =
        !void.is_empty() && head.as_ref().is_some_and(|header| is_void(header.hash()));
    let known_void = match (is_unreadable, is_otherwise) {
        (true, _) => Some("its bytes are no block"),
        (_, true) => Some("this node executed it otherwise"),
        _ => None,
    };
    chain.place(Offered {
        proposer: entry.proposer,
        signature: &entry.signature,
        block: head.as_ref(),
        known_void,
    })
}
