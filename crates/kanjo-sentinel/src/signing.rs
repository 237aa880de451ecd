//! Signing under the guard: the one place where the vote key is used.
//!
//! # Invariants
//! - The guard's record is durable before a signature exists.

use crate::attestor::{AttestorKind, qualifying, session_hash};
use crate::evidence::{Claims, NONCE_LEN};
use crate::guard::{Guard, GuardError};
use crate::rules::{ProposalRequest, Refusal, VoteRequest};
use borsh::{BorshDeserialize, BorshSerialize};
use ed25519_zebra::{SigningKey, VerificationKeyBytes};
use kanjo_types::Hash;
use kanjo_types::block::{Vote, integrity_answer, proposal_digest, vote_digest};
use kanjo_types::id::ChainId;
use kanjo_types::membership::{NodeCertificate, Notice, Statement, notice_digest};
use serde::Serialize;

/// What was seen of the node that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The ledger it works for.
    pub chain: ChainId,
    /// Hash of its certificate.
    pub certificate: Hash,
    /// SHA-256 of its program.
    pub measurement: Hash,
}

/// How a sentinel stands.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize)]
pub struct Status {
    /// Its vote key.
    #[serde(with = "hex::serde")]
    pub vote_key: [u8; 32],
    /// The ledger it is bound to.
    pub chain: Option<ChainId>,
    /// Its attestor.
    pub attestor: AttestorKind,
    /// The count of its guard's record.
    pub count: u64,
    /// The highest height voted for.
    pub highest_vote: Option<u64>,
    /// The highest term and height proposed.
    pub highest_proposal: Option<(u64, u64)>,
    /// Why it signs nothing more, if so.
    pub stopped: Option<String>,
}

/// The vote key with its guard.
pub struct Signing {
    key: SigningKey,
    guard: Guard,
}

impl Signing {
    /// Signs with the key of this seed, under this guard.
    #[must_use]
    pub fn new(seed: [u8; 32], guard: Guard) -> Self {
        Self { key: SigningKey::from(seed), guard }
    }

    /// The vote key.
    #[must_use]
    pub fn vote_key(&self) -> [u8; 32] {
        VerificationKeyBytes::from(&self.key).into()
    }

    /// The guard.
    #[must_use]
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Binds the guard to a ledger, and checks that the certificate is for this vote key.
    ///
    /// # Errors
    /// [`Refusal::Certificate`], [`Refusal::OtherChain`]; when the disk fails.
    pub fn greet(
        &mut self,
        chain: ChainId,
        certificate: &NodeCertificate,
    ) -> Result<(), GuardError> {
        if let Err((_, field)) = certificate.check() {
            return Err(Refusal::Certificate(format!("its {field} is not valid")).into());
        }
        if certificate.vote_key != self.vote_key() {
            let why = "its vote_key is not this sentinel's".to_owned();
            return Err(Refusal::Certificate(why).into());
        }
        self.guard.bind(chain)
    }

    /// Signs proposals.
    ///
    /// # Errors
    /// The guard's.
    pub fn proposals(
        &mut self,
        chain: ChainId,
        requests: &[ProposalRequest],
    ) -> Result<Vec<[u8; 64]>, GuardError> {
        self.guard.bind(chain)?;
        self.guard.proposals(requests)?;
        let sign = |request: &ProposalRequest| {
            let ProposalRequest { term, height, content } = request;
            self.sign(&proposal_digest(chain, *term, *height, content))
        };
        Ok(requests.iter().map(sign).collect())
    }

    /// Votes. The answer is that of the node seen now, also when a header is voted for again.
    ///
    /// # Errors
    /// The guard's.
    pub fn votes(
        &mut self,
        seen: &Seen,
        member: u16,
        requests: &[VoteRequest],
    ) -> Result<Vec<Vote>, GuardError> {
        self.guard.bind(seen.chain)?;
        self.guard.votes(requests)?;
        let vote = |request: &VoteRequest| {
            let VoteRequest { epoch, height, header, challenge } = request;
            let answer = integrity_answer(&seen.measurement, &seen.certificate, challenge, header);
            let signature = self.sign(&vote_digest(*epoch, *height, header, &answer));
            Vote { voter: member, answer, signature }
        };
        Ok(requests.iter().map(vote).collect())
    }

    /// Signs a notice: a member's own leave or return, or the ejection of others.
    ///
    /// # Errors
    /// [`Refusal::Notice`] for any other; the guard's.
    pub fn notice(
        &mut self,
        chain: ChainId,
        member: u16,
        epoch: u64,
        notice: &Notice,
    ) -> Result<Statement, GuardError> {
        self.guard.bind(chain)?;
        let refused = |why: &str| Refusal::Notice { member, why: why.to_owned() };
        match notice {
            Notice::Leave { member: who } | Notice::Return { member: who } if *who != member => {
                return Err(refused("it is another member's").into());
            }
            Notice::Eject { members } if members.contains(&member) => {
                return Err(refused("it ejects this member").into());
            }
            Notice::Doubt { .. } => {
                return Err(refused("doubts carry their evidence and no signature").into());
            }
            Notice::Leave { .. } | Notice::Return { .. } | Notice::Eject { .. } => {}
        }
        Ok(Statement { member, signature: self.sign(&notice_digest(chain, epoch, notice)) })
    }

    /// Evidence for an asker's nonce.
    ///
    /// # Errors
    /// [`Refusal::Nonce`]; [`Refusal::Attestor`], after which signing goes on.
    pub fn evidence(&mut self, seen: &Seen, nonce: &[u8]) -> Result<Vec<u8>, GuardError> {
        if !NONCE_LEN.contains(&nonce.len()) {
            let found = u32::try_from(nonce.len()).unwrap_or(u32::MAX);
            return Err(Refusal::Nonce { found }.into());
        }
        self.guard.bind(seen.chain)?;
        let session = session_hash(&self.vote_key());
        let attested = self.guard.attestor().attest(&qualifying(&session, nonce));
        let attestation = attested.map_err(|error| Refusal::Attestor(error.to_string()))?;
        let state = self.guard.state();
        let claims = Claims {
            nonce: nonce.to_vec(),
            measurement: seen.measurement,
            certificate: seen.certificate,
            chain: seen.chain,
            count: state.count,
            highest_vote: state.highest_vote().map(|signed| signed.height),
            session,
            attestation,
        };
        Ok(claims.sign(&self.key))
    }

    /// How it stands.
    #[must_use]
    pub fn status(&mut self) -> Status {
        let attestor = self.guard.attestor().kind();
        let state = self.guard.state();
        Status {
            vote_key: self.vote_key(),
            chain: state.chain,
            attestor,
            count: state.count,
            highest_vote: state.highest_vote().map(|signed| signed.height),
            highest_proposal: state.highest_proposal().map(|signed| (signed.stamp, signed.height)),
            stopped: self.guard.stopped().map(str::to_owned),
        }
    }

    /// Ends the run cleanly.
    ///
    /// # Errors
    /// When disk or attestor fail.
    pub fn close(self) -> Result<(), GuardError> {
        self.guard.close()
    }

    fn sign(&self, digest: &Hash) -> [u8; 64] {
        self.key.sign(&digest.0).to_bytes()
    }
}
