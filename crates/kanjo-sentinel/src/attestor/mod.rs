//! What stands behind a sentinel: something that counts, and that vouches for the vote key.
//!
//! | kind | counts in | vouches with | against |
//! |---|---|---|---|
//! | [`software`] | a file of its own | a key file of its own | a backup put back |
//! | [`tpm2`] | an NV counter of the TPM | a quote over PCRs | who changes disks, not chips |
//!
//! # Invariants
//! - A count never goes down, and `advance` answers only when the new one is durable.
//! - What `advance_soon` counted is lost in a power cut at most, not with the process.

pub mod software;
pub mod tpm2;

use borsh::{BorshDeserialize, BorshSerialize};
use kanjo_types::Hash;
use serde::Serialize;
use sha2::{Digest, Sha256};

/// Kinds of attestors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AttestorKind {
    /// Files. Proves nothing against somebody who owns the machine.
    Software,
    /// A TPM 2.0.
    Tpm2,
}

impl AttestorKind {
    /// As in options and evidence.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Software => "software",
            Self::Tpm2 => "tpm2",
        }
    }

    /// The signed heights after which the count is durable at the latest. A TPM's counter takes
    /// some ten milliseconds and wears out; a file counts each batch, and is synced as often.
    #[must_use]
    pub fn default_epoch_heights(self) -> u64 {
        match self {
            Self::Software => 64,
            Self::Tpm2 => 256,
        }
    }
}

/// What an attestor says about a vote key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attestation {
    /// A signature of the attestor's own key over the qualifying data.
    Software {
        /// Ed25519 key of the attestor.
        key: [u8; 32],
        /// Over [`software::statement`].
        signature: [u8; 64],
    },
    /// A quote of a TPM.
    Tpm2(crate::tpm::Quote),
}

/// An attestor that failed.
#[derive(Debug, thiserror::Error)]
pub enum AttestorError {
    /// Its files.
    #[error("the attestor's files: {0}")]
    Files(String),
    /// The TPM.
    #[error("the TPM: {0}")]
    Tpm(#[from] crate::tpm::TpmError),
}

/// Counts, and vouches for the vote key.
pub trait Attestor: Send {
    /// Which kind.
    fn kind(&self) -> AttestorKind;

    /// The count now.
    ///
    /// # Errors
    /// [`AttestorError`].
    fn count(&mut self) -> Result<u64, AttestorError>;

    /// Counts one up, durably, and says the new count.
    ///
    /// # Errors
    /// [`AttestorError`]; whether it has counted is then unknown.
    fn advance(&mut self) -> Result<u64, AttestorError>;

    /// How many counts in a row may be made by [`Attestor::advance_soon`]; 0 when there is no such
    /// thing, as with a TPM.
    fn soon_max(&self) -> u64 {
        0
    }

    /// Counts one up for as long as the machine has power; the next [`Attestor::advance`] makes it
    /// durable.
    ///
    /// # Errors
    /// [`AttestorError`]; whether it has counted is then unknown.
    fn advance_soon(&mut self) -> Result<u64, AttestorError> {
        self.advance()
    }

    /// Vouches for `qualifying`, which binds the vote key and the asker's nonce ([`qualifying`]).
    ///
    /// # Errors
    /// [`AttestorError`].
    fn attest(&mut self, qualifying: &Hash) -> Result<Attestation, AttestorError>;
}

/// The hash of a vote key, as quotes and evidence name it.
#[must_use]
pub fn session_hash(vote_key: &[u8; 32]) -> Hash {
    Hash(Sha256::digest(vote_key).into())
}

/// What an attestor vouches for: SHA-256(session key hash ‖ nonce).
#[must_use]
pub fn qualifying(session: &Hash, nonce: &[u8]) -> Hash {
    Hash(Sha256::new().chain_update(session.0).chain_update(nonce).finalize().into())
}
