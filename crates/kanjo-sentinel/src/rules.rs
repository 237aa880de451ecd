//! What may be signed: the rules alone, without disk, clock or keys.
//!
//! # Invariants
//! - Votes: for one height at most one (epoch, header) is ever allowed. Heights only rise; the
//!   last [`VOTES_REMEMBERED`] heights may be asked for again, with the same epoch and header.
//! - Proposals: for one (term, height) at most one content is ever allowed. Terms only rise;
//!   within the present term the last [`PROPOSALS_REMEMBERED`] heights may be asked for again, with
//!   the same content.
//! - A batch is allowed whole or not at all.
//!
//! What was forgotten is refused, never allowed: forgetting costs service, not safety.

use crate::memory::{Memory, Signed};
use borsh::{BorshDeserialize, BorshSerialize};
use kanjo_types::Hash;
use kanjo_types::id::ChainId;

/// How many voted heights are remembered, so that they can be voted for again. A node must not run
/// further ahead of its stored certificates than this, or a crash leaves heights that it never
/// votes for again. Also the most votes of a batch.
pub const VOTES_REMEMBERED: usize = 64;
/// How many proposed heights of the present term are remembered, and the most of a batch.
/// (Two times 64 would not fit the 4,096 bytes of a durable record.)
pub const PROPOSALS_REMEMBERED: usize = 56;
/// The first byte of a guard's record.
pub const RECORD_FORMAT: u8 = 1;
/// Most bytes of a record.
pub const RECORD_MAX: usize = 4_096;

/// Asks for a vote: this header at this height of this membership epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct VoteRequest {
    /// Membership epoch of the height.
    pub epoch: u64,
    /// Height.
    pub height: u64,
    /// Hash of the header that this replica came to.
    pub header: Hash,
    /// Challenge of the height ([`kanjo_types::block::challenge`]).
    pub challenge: Hash,
}

/// Asks for the signature under a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct ProposalRequest {
    /// The leader's term.
    pub term: u64,
    /// Height.
    pub height: u64,
    /// Header hash of a block, digest of another entry.
    pub content: Hash,
}

/// Why nothing is signed.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, thiserror::Error)]
pub enum Refusal {
    /// The heart of it: another header was signed at this height.
    #[error("height {height} is signed already: header {header} in epoch {epoch}")]
    SignedOther {
        /// The height.
        height: u64,
        /// Epoch that was signed.
        epoch: u64,
        /// Header that was signed.
        header: Hash,
    },
    /// Below the highest vote, and not among those remembered.
    #[error(
        "height {height} is below {highest}, the highest signed, and what was signed there is no longer known"
    )]
    HeightPassed {
        /// The height asked for.
        height: u64,
        /// The highest signed.
        highest: u64,
    },
    /// Another content was proposed at this term and height.
    #[error("term {term}, height {height} is proposed already, with content {content}")]
    ProposedOther {
        /// The term.
        term: u64,
        /// The height.
        height: u64,
        /// Content that was signed.
        content: Hash,
    },
    /// A lower term than the highest proposed in.
    #[error("term {term} is over: this sentinel has signed a proposal of term {highest}")]
    TermPassed {
        /// The term asked for.
        term: u64,
        /// The highest.
        highest: u64,
    },
    /// Below the highest proposal of the term, and not among those remembered.
    #[error(
        "in term {term}, height {height} is below {highest}, the highest proposed, and what was proposed there is no longer known"
    )]
    ProposalPassed {
        /// The term.
        term: u64,
        /// The height asked for.
        height: u64,
        /// The highest proposed in it.
        highest: u64,
    },
    /// For another ledger.
    #[error("this sentinel signs for ledger {bound} only, not for {asked}")]
    OtherChain {
        /// The ledger it signed for first.
        bound: ChainId,
        /// The one asked for.
        asked: ChainId,
    },
    /// Too many at once.
    #[error("{found} requests in a batch; at most {max} are taken")]
    BatchTooLarge {
        /// How many there may be.
        max: u32,
        /// How many there were.
        found: u32,
    },
    /// A notice that this member does not sign.
    #[error("member {member} does not sign this notice: {why}")]
    Notice {
        /// Who was to sign.
        member: u16,
        /// Why not.
        why: String,
    },
    /// The certificate does not belong to this sentinel and this node.
    #[error("the node's certificate is refused: {0}")]
    Certificate(String),
    /// A nonce of the wrong length.
    #[error("a nonce of {found} bytes; evidence takes 8 to 64")]
    Nonce {
        /// Its length.
        found: u32,
    },
    /// Another version of the messages.
    #[error("messages of version {asked}; this sentinel speaks version {known}")]
    Version {
        /// The node's.
        asked: u16,
        /// The sentinel's.
        known: u16,
    },
    /// Something was asked before the greeting, or the greeting came twice.
    #[error("the first message of a session, and no other, is the greeting")]
    Greeting,
    /// The node's program could not be measured, so nothing can be said about it.
    #[error("the node's program can't be measured: {0}")]
    Measurement(String),
    /// The guard or its attestor failed; the sentinel signs nothing until it is started again.
    #[error("the sentinel signs nothing more until it is started again: {0}")]
    Stopped(String),
    /// The attestor gave no evidence; signing goes on.
    #[error("the attestor gives no evidence: {0}")]
    Attestor(String),
}

/// All that a guard remembers.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct GuardState {
    /// The vote key that it guards.
    pub key: [u8; 32],
    /// The ledger; bound by the first greeting, for ever.
    pub chain: Option<ChainId>,
    /// The attestor's count that this record fits.
    pub count: u64,
    /// Heights signed since the count was last made durable.
    pub signed_since: u64,
    /// The last votes; their stamp is the membership epoch.
    voted: Memory,
    /// The last proposals of the highest term, which is their stamp.
    proposed: Memory,
}

/// A record that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the guard's record can't be read: {0}")]
pub struct RecordError(String);

impl GuardState {
    /// Nothing signed yet.
    #[must_use]
    pub fn new(key: [u8; 32], count: u64) -> Self {
        let (voted, proposed) = (Memory::default(), Memory::default());
        Self { key, chain: None, count, signed_since: 0, voted, proposed }
    }

    /// The highest vote: its stamp is the epoch.
    #[must_use]
    pub fn highest_vote(&self) -> Option<Signed> {
        self.voted.highest()
    }

    /// The highest proposal: its stamp is the term.
    #[must_use]
    pub fn highest_proposal(&self) -> Option<Signed> {
        self.proposed.highest()
    }

    /// Binds the state to a ledger. True when that is new.
    ///
    /// # Errors
    /// [`Refusal::OtherChain`].
    pub fn bind(&mut self, chain: ChainId) -> Result<bool, Refusal> {
        match self.chain {
            None => {
                self.chain = Some(chain);
                Ok(true)
            }
            Some(bound) if bound == chain => Ok(false),
            Some(bound) => Err(Refusal::OtherChain { bound, asked: chain }),
        }
    }

    /// Allows a vote and remembers it. True when it is new.
    ///
    /// # Errors
    /// [`Refusal::SignedOther`] or [`Refusal::HeightPassed`].
    pub fn vote(&mut self, request: &VoteRequest) -> Result<bool, Refusal> {
        let VoteRequest { epoch, height, header, .. } = *request;
        let asked = Signed { height, stamp: epoch, hash: header };
        let highest = match self.voted.highest() {
            Some(highest) if height <= highest.height => highest.height,
            _ => {
                self.voted.push(asked, VOTES_REMEMBERED);
                return Ok(true);
            }
        };
        match self.voted.find(height) {
            Some(signed) if signed == asked => Ok(false),
            Some(Signed { stamp: epoch, hash: header, .. }) => {
                Err(Refusal::SignedOther { height, epoch, header })
            }
            None => Err(Refusal::HeightPassed { height, highest }),
        }
    }

    /// Allows a proposal and remembers it. True when it is new.
    ///
    /// # Errors
    /// [`Refusal::TermPassed`], [`Refusal::ProposedOther`] or [`Refusal::ProposalPassed`].
    pub fn propose(&mut self, request: &ProposalRequest) -> Result<bool, Refusal> {
        let ProposalRequest { term, height, content } = *request;
        let asked = Signed { height, stamp: term, hash: content };
        let highest = match self.proposed.highest() {
            Some(highest) if term < highest.stamp => {
                return Err(Refusal::TermPassed { term, highest: highest.stamp });
            }
            Some(highest) if term == highest.stamp && height <= highest.height => highest.height,
            Some(highest) if term == highest.stamp => {
                self.proposed.push(asked, PROPOSALS_REMEMBERED);
                return Ok(true);
            }
            _ => {
                self.proposed = Memory::default();
                self.proposed.push(asked, PROPOSALS_REMEMBERED);
                return Ok(true);
            }
        };
        match self.proposed.find(height) {
            Some(signed) if signed == asked => Ok(false),
            Some(Signed { hash: content, .. }) => {
                Err(Refusal::ProposedOther { term, height, content })
            }
            None => Err(Refusal::ProposalPassed { term, height, highest }),
        }
    }

    /// The record of this state: a format byte, then Borsh.
    #[must_use]
    pub fn to_record(&self) -> Vec<u8> {
        let mut record = vec![RECORD_FORMAT];
        kanjo_types::codec::append(self, &mut record);
        record
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`RecordError`] when it is of another format or breaks an invariant.
    pub fn from_record(record: &[u8]) -> Result<Self, RecordError> {
        let refused = |why: &str| RecordError(why.to_owned());
        let Some((&RECORD_FORMAT, rest)) = record.split_first() else {
            return Err(refused("not of format 1"));
        };
        let state: Self =
            kanjo_types::codec::from_bytes(rest).map_err(|error| RecordError(error.to_string()))?;
        if !state.voted.is_sound(VOTES_REMEMBERED) || !state.proposed.is_sound(PROPOSALS_REMEMBERED)
        {
            return Err(refused("heights that do not rise, or too many"));
        }
        Ok(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kanjo_types::hash::{TAG_HEADER, digest};

    fn header(salt: u64) -> Hash {
        digest(TAG_HEADER, &[&salt.to_le_bytes()])
    }

    fn vote(epoch: u64, height: u64, salt: u64) -> VoteRequest {
        VoteRequest { epoch, height, header: header(salt), challenge: Hash::ZERO }
    }

    fn proposal(term: u64, height: u64, salt: u64) -> ProposalRequest {
        ProposalRequest { term, height, content: header(salt) }
    }

    #[test]
    fn one_header_for_one_height_and_the_same_again() {
        let mut state = GuardState::new([1; 32], 0);
        assert_eq!(state.vote(&vote(0, 5, 1)), Ok(true));
        assert_eq!(state.vote(&vote(0, 5, 1)), Ok(false));
        let other = Refusal::SignedOther { height: 5, epoch: 0, header: header(1) };
        assert_eq!(state.vote(&vote(0, 5, 2)), Err(other.clone()));
        assert_eq!(state.vote(&vote(1, 5, 1)), Err(other), "another epoch is another statement");
        assert_eq!(state.vote(&vote(0, 7, 3)), Ok(true), "gaps are allowed");
        assert_eq!(
            state.vote(&vote(0, 6, 3)),
            Err(Refusal::HeightPassed { height: 6, highest: 7 }),
            "what lies in a gap is refused for ever"
        );
        assert_eq!(state.vote(&vote(0, 5, 1)), Ok(false), "below the highest, remembered");
    }

    #[test]
    fn what_is_forgotten_is_refused() {
        let mut state = GuardState::new([1; 32], 0);
        for height in 0..=VOTES_REMEMBERED as u64 {
            state.vote(&vote(0, height, height)).unwrap();
            state.propose(&proposal(3, height, height)).unwrap();
        }
        let highest = VOTES_REMEMBERED as u64;
        assert_eq!(state.vote(&vote(0, 0, 0)), Err(Refusal::HeightPassed { height: 0, highest }));
        assert_eq!(state.vote(&vote(0, 1, 1)), Ok(false));
        assert_eq!(
            state.propose(&proposal(3, 0, 0)),
            Err(Refusal::ProposalPassed { term: 3, height: 0, highest })
        );
        let kept = highest - PROPOSALS_REMEMBERED as u64;
        assert!(state.propose(&proposal(3, kept, kept)).is_err());
        assert_eq!(state.propose(&proposal(3, kept + 1, kept + 1)), Ok(false));
    }

    #[test]
    fn one_content_for_one_term_and_height_and_terms_never_go_back() {
        let mut state = GuardState::new([1; 32], 0);
        assert_eq!(state.propose(&proposal(2, 10, 1)), Ok(true));
        assert_eq!(state.propose(&proposal(2, 10, 1)), Ok(false));
        let other = Refusal::ProposedOther { term: 2, height: 10, content: header(1) };
        assert_eq!(state.propose(&proposal(2, 10, 2)), Err(other));
        assert_eq!(state.propose(&proposal(3, 9, 2)), Ok(true), "a new term may begin lower");
        assert_eq!(
            state.propose(&proposal(2, 10, 1)),
            Err(Refusal::TermPassed { term: 2, highest: 3 })
        );
    }

    #[test]
    fn a_sentinel_serves_one_ledger() {
        let mut state = GuardState::new([1; 32], 0);
        let (a, b) = (ChainId(header(1)), ChainId(header(2)));
        assert_eq!(state.bind(a), Ok(true));
        assert_eq!(state.bind(a), Ok(false));
        assert_eq!(state.bind(b), Err(Refusal::OtherChain { bound: a, asked: b }));
    }

    #[test]
    fn a_record_reads_back_and_a_wrong_one_is_refused() {
        let mut state = GuardState::new([1; 32], 7);
        state.vote(&vote(0, 5, 1)).unwrap();
        state.vote(&vote(0, 6, 1)).unwrap();
        state.propose(&proposal(2, 10, 1)).unwrap();
        let record = state.to_record();
        assert_eq!(GuardState::from_record(&record), Ok(state.clone()));
        assert!(GuardState::from_record(&[]).is_err());
        assert!(GuardState::from_record(&[&[2], &record[1..]].concat()).is_err());
        assert!(GuardState::from_record(&[&record[..], &[0]].concat()).is_err());
    }

    #[test]
    fn the_longest_record_fits_a_slot() {
        let mut state = GuardState::new([1; 32], u64::MAX);
        state.bind(ChainId(header(1))).unwrap();
        for step in 0..200 {
            // Gaps now and then, so that there are as many runs as there may be.
            let height = step + step / 30;
            state.vote(&vote(step / 40, height, step)).unwrap();
            state.propose(&proposal(1, height, step)).unwrap();
        }
        let longest = state.to_record().len();
        assert!((3_900..=RECORD_MAX).contains(&longest), "{longest}");
        assert_eq!(GuardState::from_record(&state.to_record()), Ok(state));
    }
}
