//! What an outsider starts from: the chain id and the voters of a genesis.

use crate::error::ProofError;
use borsh::{BorshDeserialize, BorshSerialize};
use kanjo_types::block::{HEADER_VERSION, vote_digest};
use kanjo_types::genesis::Voter;
use kanjo_types::signature::verify;
use kanjo_types::{Certificate, ChainId, Genesis, Hash, Header, PublicKey};
use serde::{Deserialize, Serialize};

/// The only membership that a genesis defines.
const GENESIS_EPOCH: u64 = 0;

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
    /// Names of the voters whose votes were checked, in the order of the genesis.
    pub signed_by: Vec<String>,
    /// How many voters the ledger has.
    pub voters: usize,
}

/// The part of a genesis that proofs are checked against. Make it once, check many.
#[derive(Clone, Debug)]
pub struct Trust {
    chain: ChainId,
    voters: Vec<Voter>,
    quorum: usize,
}

impl Trust {
    /// Trust in the voters of `genesis`.
    ///
    /// # Errors
    /// [`ProofError::Genesis`] when the genesis breaks a rule (two voters with one key
    /// would count twice).
    pub fn new(genesis: &Genesis) -> Result<Self, ProofError> {
        genesis.check()?;
        let (voters, quorum) = (genesis.voters.clone(), genesis.quorum());
        Ok(Self { chain: genesis.chain_id(), voters, quorum })
    }

    /// The ledger.
    #[must_use]
    pub fn chain(&self) -> ChainId {
        self.chain
    }

    /// Checks version, ledger and votes of a header.
    ///
    /// # Errors
    /// The first thing wrong, in this order: version, ledger, epoch, number of votes,
    /// their order, the voters, the signatures.
    pub fn check(&self, signed: &SignedHeader) -> Result<Final, ProofError> {
        let SignedHeader { header, certificate } = signed;
        if header.version != HEADER_VERSION {
            return Err(ProofError::HeaderVersion(header.version));
        }
        if header.chain != self.chain {
            return Err(ProofError::WrongChain { expected: self.chain, found: header.chain });
        }
        let hash = header.hash();
        Ok(Final {
            height: header.height,
            time_ms: header.time_ms,
            header: hash,
            signed_by: self.check_votes(certificate, header.height, &hash)?,
            voters: self.voters.len(),
        })
    }

    fn check_votes(
        &self,
        certificate: &Certificate,
        height: u64,
        header: &Hash,
    ) -> Result<Vec<String>, ProofError> {
        if certificate.epoch != GENESIS_EPOCH {
            return Err(ProofError::Epoch(certificate.epoch));
        }
        let (needed, found) = (self.quorum, certificate.votes.len());
        if found < needed {
            return Err(ProofError::NotEnoughVotes { needed, found });
        }
        let mut last = None;
        let mut voters = Vec::new();
        for vote in &certificate.votes {
            if last.is_some_and(|last| last >= vote.voter) {
                return Err(ProofError::VoteOrder(vote.voter));
            }
            last = Some(vote.voter);
            let (position, known) = (usize::from(vote.voter), self.voters.len());
            let unknown = ProofError::UnknownVoter { voter: vote.voter, voters: known };
            voters.push(self.voters.get(position).ok_or(unknown)?);
        }
        let digest = vote_digest(certificate.epoch, height, header);
        for (vote, voter) in certificate.votes.iter().zip(&voters) {
            if !verify(&PublicKey::Ed25519(voter.key), &digest, &vote.signature) {
                return Err(ProofError::BadVote(vote.voter));
            }
        }
        Ok(voters.into_iter().map(|voter| voter.name.clone()).collect())
    }
}
