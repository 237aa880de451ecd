//! An attestor made of files: a key and a counter, in a directory of its own.
//!
//! It proves nothing against somebody who owns the machine: whoever can write the files can set
//! the counter back, and whoever can read the key can sign. What it does: a guard's directory
//! restored from a backup without this one, or the other way round, is noticed.

use super::{Attestation, Attestor, AttestorError, AttestorKind};
use crate::guard::RecordStore;
use ed25519_zebra::{SigningKey, VerificationKeyBytes};
use kanjo_types::Hash;

/// See the module.
pub struct SoftwareAttestor {
    key: SigningKey,
    counter: Box<dyn RecordStore>,
    count: u64,
}

/// What the attestor signs: a text of its own, then the qualifying data.
#[must_use]
pub fn statement(qualifying: &Hash) -> Vec<u8> {
    [b"kanjo software attestor, proves nothing about hardware: ".as_slice(), &qualifying.0].concat()
}

impl SoftwareAttestor {
    /// An attestor with this key, and a counter that stands in `counter`, whose newest record is
    /// `record`. Without a record it begins at zero.
    ///
    /// # Errors
    /// [`AttestorError::Files`] when the record is no count.
    pub fn open(
        key_seed: [u8; 32],
        counter: Box<dyn RecordStore>,
        record: Option<&[u8]>,
    ) -> Result<Self, AttestorError> {
        let count = match record {
            None => 0,
            Some(record) => {
                let bytes = <[u8; 8]>::try_from(record).map_err(|_| {
                    AttestorError::Files(format!("a counter of {} bytes", record.len()))
                })?;
                u64::from_le_bytes(bytes)
            }
        };
        Ok(Self { key: SigningKey::from(key_seed), counter, count })
    }

    /// The public half of its key.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        VerificationKeyBytes::from(&self.key).into()
    }
}

impl Attestor for SoftwareAttestor {
    fn kind(&self) -> AttestorKind {
        AttestorKind::Software
    }

    fn count(&mut self) -> Result<u64, AttestorError> {
        Ok(self.count)
    }

    fn advance(&mut self) -> Result<u64, AttestorError> {
        let next = self.count + 1;
        let written = self.counter.write(&next.to_le_bytes());
        written.map_err(|error| AttestorError::Files(format!("the counter: {error}")))?;
        self.count = next;
        Ok(next)
    }

    fn attest(&mut self, qualifying: &Hash) -> Result<Attestation, AttestorError> {
        let signature = self.key.sign(&statement(qualifying)).to_bytes();
        Ok(Attestation::Software { key: self.public(), signature })
    }
}
