//! The node's side: [`Signer`], over the channel to a sentinel or within the process.

use crate::attestor::software::{SoftwareAttestor, SoonFile};
use crate::guard::{Guard, GuardError, RecordStore};
use crate::rules::{ProposalRequest, Refusal, VoteRequest};
use crate::signing::{Seen, Signing, Status};
use ed25519_zebra::{SigningKey, VerificationKeyBytes};
use kanjo_types::Hash;
use kanjo_types::block::Vote;
use kanjo_types::id::ChainId;
use kanjo_types::membership::{NodeCertificate, Notice, Statement};
use std::num::NonZeroU64;

/// Why there is no signature.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// The sentinel said no, and will say so again.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The sentinel could not be reached, or the channel broke, each time it was tried.
    #[error("the sentinel could not be reached, tried {tries} times: {last}")]
    Unreachable {
        /// How often.
        tries: u32,
        /// What went wrong the last time.
        last: String,
    },
    /// The sentinel answered something else than was asked.
    #[error("the sentinel's answer makes no sense: {0}")]
    Answer(String),
    /// The guard failed or must not work (only of a signer within the process).
    #[error(transparent)]
    Guard(GuardError),
}

impl From<GuardError> for SignerError {
    fn from(error: GuardError) -> Self {
        match error {
            GuardError::Refused(refusal) => Self::Refused(refusal),
            GuardError::Stopped(why) => Self::Refused(Refusal::Stopped(why)),
            other => Self::Guard(other),
        }
    }
}

/// Signs for one node and one ledger. All calls wait for the disk.
pub trait Signer: Send {
    /// Signs proposals, all or none; at most [`crate::rules::PROPOSALS_REMEMBERED`].
    ///
    /// # Errors
    /// [`SignerError`].
    fn proposals(&mut self, requests: &[ProposalRequest]) -> Result<Vec<[u8; 64]>, SignerError>;

    /// Votes as the member with this number, all or none; at most
    /// [`crate::rules::VOTES_REMEMBERED`].
    ///
    /// # Errors
    /// [`SignerError`].
    fn votes(&mut self, member: u16, requests: &[VoteRequest]) -> Result<Vec<Vote>, SignerError>;

    /// Signs a notice as the member with this number.
    ///
    /// # Errors
    /// [`SignerError`].
    fn notice(
        &mut self,
        member: u16,
        epoch: u64,
        notice: &Notice,
    ) -> Result<Statement, SignerError>;

    /// Evidence for a nonce of 8 to 64 bytes ([`crate::evidence`]).
    ///
    /// # Errors
    /// [`SignerError`].
    fn evidence(&mut self, nonce: &[u8]) -> Result<Vec<u8>, SignerError>;

    /// How the sentinel stands.
    ///
    /// # Errors
    /// [`SignerError`].
    fn status(&mut self) -> Result<Status, SignerError>;

    /// The measurement of the node's program that answers carry.
    fn measurement(&self) -> Hash;

    /// The vote key.
    fn vote_key(&self) -> [u8; 32];
}

/// Guard and key in the node's own process: for ledgers of one node, and for the simulator. The
/// guard holds; that the node can't reach the key does not.
pub struct LocalSigner {
    signing: Signing,
    seen: Seen,
}

/// Stores and keys of a [`LocalSigner`].
pub struct LocalParts {
    /// Seed of the vote key.
    pub vote_seed: [u8; 32],
    /// Seed of the software attestor's key.
    pub attestor_seed: [u8; 32],
    /// Where the guard's record is kept, and the newest one.
    pub guard: (Box<dyn RecordStore>, Option<Vec<u8>>),
    /// Where the attestor's counter is kept, and the newest one.
    pub counter: (Box<dyn RecordStore>, Option<Vec<u8>>),
    /// Where the attestor counts between two counts that are synced, if it does.
    pub soon: Option<SoonFile>,
    /// The count is durable at the latest after so many signed heights.
    pub epoch_heights: NonZeroU64,
}

impl LocalSigner {
    /// Opens the guard, for the node with this certificate and program. When neither a record of
    /// the guard nor a count is there, the key is taken to be new, and a first record is made.
    ///
    /// # Errors
    /// When the guard must not work, or the certificate is not for this key.
    pub fn open(
        parts: LocalParts,
        chain: ChainId,
        certificate: &NodeCertificate,
        measurement: Hash,
    ) -> Result<Self, SignerError> {
        let LocalParts { vote_seed, attestor_seed, guard, counter, soon, epoch_heights } = parts;
        let (mut store, mut record) = guard;
        let (counter, count) = counter;
        let is_new = record.is_none() && count.is_none();
        let attestor = SoftwareAttestor::open(attestor_seed, counter, count.as_deref(), soon);
        let mut attestor = attestor.map_err(GuardError::Attestor)?;
        let key = VerificationKeyBytes::from(&SigningKey::from(vote_seed)).into();
        if is_new {
            record = Some(Guard::create(key, store.as_mut(), &mut attestor)?);
        }
        let (record, attestor) = (record.as_deref(), Box::new(attestor));
        let guard = Guard::open(key, store, record, attestor, epoch_heights)?;
        let mut signing = Signing::new(vote_seed, guard);
        signing.greet(chain, certificate)?;
        let seen = Seen { chain, certificate: certificate.hash(chain), measurement };
        Ok(Self { signing, seen })
    }

    /// Ends the run cleanly.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn close(self) -> Result<(), SignerError> {
        Ok(self.signing.close()?)
    }
}

impl Signer for LocalSigner {
    fn proposals(&mut self, requests: &[ProposalRequest]) -> Result<Vec<[u8; 64]>, SignerError> {
        Ok(self.signing.proposals(self.seen.chain, requests)?)
    }

    fn votes(&mut self, member: u16, requests: &[VoteRequest]) -> Result<Vec<Vote>, SignerError> {
        Ok(self.signing.votes(&self.seen, member, requests)?)
    }

    fn notice(
        &mut self,
        member: u16,
        epoch: u64,
        notice: &Notice,
    ) -> Result<Statement, SignerError> {
        Ok(self.signing.notice(self.seen.chain, member, epoch, notice)?)
    }

    fn evidence(&mut self, nonce: &[u8]) -> Result<Vec<u8>, SignerError> {
        Ok(self.signing.evidence(&self.seen, nonce)?)
    }

    fn status(&mut self) -> Result<Status, SignerError> {
        Ok(self.signing.status())
    }

    fn measurement(&self) -> Hash {
        self.seen.measurement
    }

    fn vote_key(&self) -> [u8; 32] {
        self.signing.vote_key()
    }
}
