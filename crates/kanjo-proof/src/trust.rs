//! What an outsider starts from, a genesis, and what it learns from there: the memberships, epoch
//! by epoch.
//!
//! ```text
//!  genesis ── epoch 0 ──certifies──► block with the row of epoch 1 ── epoch 1 ──certifies──► …
//!             votes above height 0   up to this height               votes above this height
//! ```
//! Each step is a [`MembershipProof`]; a certificate counts only for heights of its own epoch, so
//! that voters who left can't sign new blocks, and new ones can't sign old blocks.

use crate::error::ProofError;
use crate::proof::MembershipProof;
use borsh::{BorshDeserialize, BorshSerialize};
use kanjo_types::block::HEADER_VERSION;
use kanjo_types::membership::{Membership, Vouched};
use kanjo_types::{Certificate, ChainId, Genesis, Hash, Header};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A header and the votes that made it final.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct SignedHeader {
    /// What was agreed.
    pub header: Header,
    /// By whom.
    pub certificate: Certificate,
}

/// A header that a quorum signed, in plain fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Final {
    /// Height of the block.
    pub height: u64,
    /// Ledger time, milliseconds since 1970-01-01 UTC.
    pub time_ms: u64,
    /// Hash of the header.
    pub header: Hash,
    /// Which membership signed.
    pub epoch: u64,
    /// Who of it.
    #[serde(flatten)]
    pub vouched: Vouched,
}

/// A genesis and the memberships known from it, against which proofs are checked. Make it once,
/// check many.
#[derive(Clone, Debug)]
pub struct Trust {
    chain: ChainId,
    /// By epoch, from 0; never empty.
    known: Vec<Arc<Membership>>,
}

impl Trust {
    /// Trust in the voters of `genesis`.
    ///
    /// # Errors
    /// [`ProofError::Genesis`] when the genesis breaks a rule (two voters with one key
    /// would count twice).
    pub fn new(genesis: &Genesis) -> Result<Self, ProofError> {
        genesis.check()?;
        let known = vec![Arc::new(Membership::of_genesis(genesis))];
        Ok(Self { chain: genesis.chain_id(), known })
    }

    /// The ledger.
    #[must_use]
    pub fn chain(&self) -> ChainId {
        self.chain
    }

    /// The newest epoch that is known.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.known.len().saturating_sub(1) as u64
    }

    /// The membership of an epoch, as far as it is known.
    #[must_use]
    pub fn membership(&self, epoch: u64) -> Option<&Arc<Membership>> {
        self.known.get(usize::try_from(epoch).ok()?)
    }

    /// Learns the membership of the next epoch. One that is known already, and is the same, changes
    /// nothing: many proofs may bring the same memberships.
    ///
    /// # Errors
    /// The first thing wrong, and nothing is learnt: the header or its votes, the way from the row
    /// to the header, the epoch (not the next), or the height.
    pub fn advance(&mut self, proof: &MembershipProof) -> Result<(), ProofError> {
        self.check(&proof.at)?;
        proof.check_row()?;
        let made = &proof.membership;
        if self.membership(made.epoch).is_some_and(|known| **known == *made) {
            return Ok(());
        }
        let next = self.epoch() + 1;
        if made.epoch != next || proof.at.certificate.epoch + 1 != next {
            return Err(ProofError::NotNextEpoch { expected: next, found: made.epoch });
        }
        let at = proof.at.header.height;
        if made.height != at {
            let what = "the height of the membership";
            return Err(ProofError::Disagree { what, expected: at, found: made.height });
        }
        self.learn(Arc::new(made.clone()))
    }

    /// Learns the membership of the next epoch from whoever executes the ledger and needs no proof.
    ///
    /// # Errors
    /// [`ProofError::NotNextEpoch`], and nothing is learnt.
    pub fn learn(&mut self, membership: Arc<Membership>) -> Result<(), ProofError> {
        let (expected, found) = (self.epoch() + 1, membership.epoch);
        if found != expected {
            return Err(ProofError::NotNextEpoch { expected, found });
        }
        self.known.push(membership);
        Ok(())
    }

    /// Checks version, ledger and votes of a header.
    ///
    /// # Errors
    /// The first thing wrong, in this order: version, ledger, epoch, whether the height is one of
    /// that epoch, number of votes, their order, voters and signatures, an executor among them.
    pub fn check(&self, signed: &SignedHeader) -> Result<Final, ProofError> {
        let SignedHeader { header, certificate } = signed;
        if header.version != HEADER_VERSION {
            return Err(ProofError::HeaderVersion(header.version));
        }
        if header.chain != self.chain {
            return Err(ProofError::WrongChain { expected: self.chain, found: header.chain });
        }
        let membership = self.membership_at(certificate.epoch, header.height)?;
        let hash = header.hash();
        Ok(Final {
            height: header.height,
            time_ms: header.time_ms,
            header: hash,
            epoch: certificate.epoch,
            vouched: membership.check(header.height, &hash, certificate)?,
        })
    }

    /// The membership of an epoch, if the height is one that it decides on.
    fn membership_at(&self, epoch: u64, height: u64) -> Result<&Membership, ProofError> {
        let unknown = ProofError::Epoch { found: epoch, known: self.epoch() };
        let membership = self.membership(epoch).ok_or(unknown)?;
        let above = (epoch > 0).then_some(membership.height);
        let last = self.membership(epoch.saturating_add(1)).map(|next| next.height);
        let is_within =
            above.is_none_or(|above| height > above) && last.is_none_or(|last| height <= last);
        if is_within { Ok(membership) } else { Err(ProofError::OtherEpoch { epoch, height }) }
    }
}
