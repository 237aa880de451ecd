//! The chain of headers as the replicated log commits it: one header for each entry of the log.
//!
//! ```text
//!  entry of the log        its header
//!  block that fits     ──▶ the one in it
//!  block that does not ──▶ void: an empty block's
//!  anything else       ──▶ an empty block's
//! ```
//! A block fits when its height is its place, its parent is the header below it, its history is the
//! one so far, and its time does not go back. All of that is public, so that witnesses, who hold no
//! balances, follow the same chain.

use kanjo_proof::merkle::Frontier;
use kanjo_types::block::{HEADER_VERSION, Header, challenge};
use kanjo_types::{ChainId, Hash};

/// What stands at a height.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The header.
    pub header: Header,
    /// Its hash.
    pub hash: Hash,
    /// What sentinels answer at this height.
    pub challenge: Hash,
    /// Why the block in the log does not count, if there is one that does not.
    pub void: Option<&'static str>,
}

/// An entry of the log, as far as the chain is concerned.
#[derive(Debug, Clone, Copy)]
pub struct Offered<'a> {
    /// Number of the member that proposed it.
    pub proposer: u16,
    /// The proposer's signature.
    pub signature: &'a [u8],
    /// The header of the block in it; nothing for an entry without a block.
    pub block: Option<&'a Header>,
    /// Why the block is known to be void, if it is: this replica executed it otherwise.
    pub known_void: Option<&'static str>,
}

/// The chain so far.
#[derive(Debug, Clone)]
pub struct Chain {
    chain: ChainId,
    last: Header,
    last_hash: Hash,
    history: Frontier,
}

impl Chain {
    /// A chain that ends with `last`; `history` holds the hashes of all headers up to it.
    ///
    /// # Panics
    /// When `history` has another length.
    #[must_use]
    pub fn new(last: Header, history: Frontier) -> Self {
        assert_eq!(history.len(), last.height + 1, "the history holds every header");
        Self { chain: last.chain, last_hash: last.hash(), last, history }
    }

    /// Height of the last header.
    #[must_use]
    pub fn height(&self) -> u64 {
        self.last.height
    }

    /// The last header.
    #[must_use]
    pub fn last(&self) -> &Header {
        &self.last
    }

    /// Hash of the last header.
    #[must_use]
    pub fn last_hash(&self) -> Hash {
        self.last_hash
    }

    /// The header of the next height if the block there does not count, or there is none.
    #[must_use]
    pub fn empty(&self, proposer: u16) -> Header {
        Header::empty(&self.last, self.last_hash, self.history.root(), proposer)
    }

    /// The header of the next height.
    pub fn place(&mut self, offered: Offered<'_>) -> Placed {
        let parent = self.last_hash;
        let misfit =
            offered.known_void.or_else(|| offered.block.and_then(|block| self.misfit(block)));
        let (header, void) = match (offered.block, misfit) {
            (Some(block), None) => (block.clone(), None),
            (_, void) => (self.empty(offered.proposer), void),
        };
        let hash = header.hash();
        self.history.push(hash);
        self.last = header.clone();
        self.last_hash = hash;
        Placed { header, hash, challenge: challenge(&parent, offered.signature), void }
    }

    /// Why a block does not fit here, if it does not.
    fn misfit(&self, block: &Header) -> Option<&'static str> {
        if block.version != HEADER_VERSION || block.chain != self.chain {
            return Some("it is of another ledger or header version");
        }
        if block.height != self.last.height + 1 {
            return Some("its height is not its place in the log");
        }
        if block.parents.as_slice() != [self.last_hash] {
            return Some("its parent is not the block below it");
        }
        if block.history_root != self.history.root() {
            return Some("its history is not the one so far");
        }
        if block.time_ms < self.last.time_ms {
            return Some("its time is before that of the block below it");
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn genesis() -> Header {
        let chain = ChainId(Hash([7; 32]));
        let none = Hash::ZERO;
        Header {
            version: HEADER_VERSION,
            chain,
            height: 0,
            parents: Vec::new(),
            time_ms: 5,
            producer: 0,
            transactions: 0,
            transactions_root: none,
            receipts_root: none,
            state_root: none,
            history_root: none,
            fees: Vec::new(),
            supply: Vec::new(),
        }
    }

    fn chain() -> Chain {
        let header = genesis();
        let mut history = Frontier::default();
        history.push(header.hash());
        Chain::new(header, history)
    }

    fn next(chain: &Chain) -> Header {
        let root = chain.history.root();
        let mut header = Header::empty(chain.last(), chain.last_hash(), root, 1);
        header.time_ms += 3;
        header.transactions = 2;
        header
    }

    fn offer(block: &Header) -> Offered<'_> {
        Offered { proposer: 1, signature: &[1; 64], block: Some(block), known_void: None }
    }

    #[test]
    fn a_block_that_fits_is_taken_and_others_leave_an_empty_height() {
        let mut chain = chain();
        let good = next(&chain);
        let placed = chain.place(offer(&good));
        assert_eq!((placed.header, placed.void), (good.clone(), None));
        // The same again: its height is below its place now.
        let placed = chain.place(offer(&good));
        assert!(placed.void.is_some());
        assert_eq!((placed.header.height, placed.header.transactions), (2, 0));
        assert_eq!(placed.header.parents, [good.hash()]);
        let broken: [fn(&mut Header); 5] = [
            |header| header.parents = vec![Hash::ZERO],
            |header| header.history_root = Hash::ZERO,
            |header| header.time_ms = 1,
            |header| header.chain = ChainId(Hash::ZERO),
            |header| header.height += 1,
        ];
        for break_it in broken {
            let mut header = next(&chain);
            break_it(&mut header);
            assert!(chain.clone().place(offer(&header)).void.is_some());
        }
        let header = next(&chain);
        let mut known = offer(&header);
        known.known_void = Some("executed otherwise");
        let empty = chain.empty(1);
        assert_eq!(chain.place(known).header, empty);
    }

    #[test]
    fn every_replica_places_alike_and_the_challenge_depends_on_the_proposal() {
        let (mut one, mut other) = (chain(), chain());
        let blank = Offered { proposer: 2, signature: &[9; 64], block: None, known_void: None };
        let placed = one.place(blank);
        assert_eq!(placed, other.place(blank));
        let mut third = chain();
        let resigned = Offered { signature: &[8; 64], ..blank };
        let differs = third.place(resigned);
        assert_eq!(differs.hash, placed.hash);
        assert_ne!(differs.challenge, placed.challenge);
    }
}
