//! Proofs as files: `{ "kanjo_proof": 1, "chain": "<hex>", "proof": { "kind": … } }`, with
//! `"memberships": […]` in front of the proof when the voters are no longer those of the genesis.

use crate::error::ProofError;
use crate::proof::{MembershipProof, Proof};
use crate::statement::Statement;
use crate::trust::Trust;
use kanjo_types::{ChainId, Genesis};
use serde::{Deserialize, Serialize};

/// The only version of the file form there is.
pub const FILE_VERSION: u32 = 1;
/// Most bytes of a proof file: 64 MiB.
pub const FILE_BYTES_MAX: usize = 64 << 20;

/// A proof and the ledger it is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProofFile {
    /// [`FILE_VERSION`].
    pub kanjo_proof: u32,
    /// Which genesis it is to be checked against.
    pub chain: ChainId,
    /// From the genesis to the voters who signed, by ascending epoch; none when the genesis's did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub memberships: Vec<MembershipProof>,
    /// The proof.
    pub proof: Proof,
}

/// The text is no proof file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// Above [`FILE_BYTES_MAX`].
    #[error("the file has {0} bytes; a proof file has at most 67,108,864 (64 MiB)")]
    TooLarge(usize),
    /// JSON, but not ours.
    #[error("not a proof file: it must be a JSON object with \"kanjo_proof\": 1 ({0})")]
    NotAProofFile(String),
    /// From other software.
    #[error("proof file version {0}; this software knows version 1")]
    Version(u64),
    /// A field is missing or wrong.
    #[error("the proof file can't be read: {0}")]
    Malformed(String),
    /// The proof can't be written.
    #[error("the proof can't be written as JSON: {0}")]
    Unwritable(String),
}

/// The first look at a file: its version, whatever else it has.
#[derive(Deserialize)]
struct Head {
    kanjo_proof: u64,
}

impl ProofFile {
    /// A file of the version that this software writes.
    #[must_use]
    pub fn new(chain: ChainId, proof: Proof) -> Self {
        Self { kanjo_proof: FILE_VERSION, chain, memberships: Vec::new(), proof }
    }

    /// The same with the memberships that lead to the voters who signed it.
    #[must_use]
    pub fn with_memberships(self, memberships: Vec<MembershipProof>) -> Self {
        Self { memberships, ..self }
    }

    /// The file's text, indented for people.
    ///
    /// # Errors
    /// [`FileError::TooLarge`] when nobody could read it back.
    pub fn to_json(&self) -> Result<String, FileError> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| FileError::Unwritable(error.to_string()))?;
        if text.len() > FILE_BYTES_MAX { Err(FileError::TooLarge(text.len())) } else { Ok(text) }
    }

    /// Reads a file's text.
    ///
    /// # Errors
    /// [`FileError`] says whether it is too large, no proof file, of another version, or broken.
    pub fn from_json(text: &str) -> Result<Self, FileError> {
        if text.len() > FILE_BYTES_MAX {
            return Err(FileError::TooLarge(text.len()));
        }
        let head: Head = serde_json::from_str(text)
            .map_err(|error| FileError::NotAProofFile(error.to_string()))?;
        if head.kanjo_proof != u64::from(FILE_VERSION) {
            return Err(FileError::Version(head.kanjo_proof));
        }
        serde_json::from_str(text).map_err(|error| FileError::Malformed(error.to_string()))
    }

    /// Checks the proof, and that the file names the ledger of the genesis.
    ///
    /// # Errors
    /// [`ProofError::WrongChain`] first of all, then memberships in their order, then as
    /// [`Proof::check`].
    pub fn check(&self, genesis: &Genesis) -> Result<Statement, ProofError> {
        let expected = genesis.chain_id();
        if self.chain != expected {
            return Err(ProofError::WrongChain { expected, found: self.chain });
        }
        let mut trust = Trust::new(genesis)?;
        self.memberships.iter().try_for_each(|membership| trust.advance(membership))?;
        self.proof.check_with(&trust)
    }
}
