//! An attestor made of files: a key and a counter, in a directory of its own.
//!
//! It proves nothing against somebody who owns the machine: whoever can write the files can set
//! the counter back, and whoever can read the key can sign. What it does: a guard's directory
//! restored from a backup without this one, or the other way round, is noticed.
//!
//! ```text
//!   counter        a slot file, synced                the count at the last sync
//!   counter.soon   count u64, checksum; not synced    the count now, unless the power went
//! ```
//! A sync for each batch would double what signing costs. The page cache outlives the process, so
//! whoever kills the sentinel and puts an old record back meets the newest count all the same.

use super::{Attestation, Attestor, AttestorError, AttestorKind};
use crate::guard::RecordStore;
use ed25519_zebra::{SigningKey, VerificationKeyBytes};
use kanjo_store::disk::{Disk, DiskFile};
use kanjo_types::Hash;
use sha2::{Digest, Sha256};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Most counts between two that are synced: what a power cut may take back.
pub const SOON_MAX: u64 = 256;

/// A count that is written and never synced.
pub struct SoonFile {
    file: Arc<dyn DiskFile>,
    count: Option<u64>,
}

fn soon_bytes(count: u64) -> [u8; 16] {
    let number = count.to_le_bytes();
    let sum = Sha256::new().chain_update(b"kanjo counter.soon").chain_update(number).finalize();
    let mut bytes = number.iter().chain(&sum);
    std::array::from_fn(|_| bytes.next().copied().unwrap_or_default())
}

impl SoonFile {
    /// Opens or makes it. What is no whole count counts for nothing.
    ///
    /// # Errors
    /// The disk's.
    pub fn open(disk: &dyn Disk, path: &Path) -> io::Result<Self> {
        let file = match disk.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => disk.create(path)?,
            opened => opened?,
        };
        let mut bytes = [0; 16];
        let is_read = file.byte_len()? == 16 && file.read_exact_at(&mut bytes, 0).is_ok();
        let (number, _) = bytes.split_at(8);
        let count = number.try_into().map(u64::from_le_bytes).ok();
        let count = count.filter(|count| is_read && soon_bytes(*count) == bytes);
        Ok(Self { file, count })
    }

    fn write(&self, count: u64) -> io::Result<()> {
        self.file.write_all_at(&soon_bytes(count), 0)
    }
}

/// See the module.
pub struct SoftwareAttestor {
    key: SigningKey,
    counter: Box<dyn RecordStore>,
    soon: Option<SoonFile>,
    count: u64,
}

/// What the attestor signs: a text of its own, then the qualifying data.
#[must_use]
pub fn statement(qualifying: &Hash) -> Vec<u8> {
    [b"kanjo software attestor, proves nothing about hardware: ".as_slice(), &qualifying.0].concat()
}

impl SoftwareAttestor {
    /// An attestor with this key, and a counter that stands in `counter`, whose newest record is
    /// `record`. Without a record it begins at zero. With `soon` it counts without a sync, too.
    ///
    /// # Errors
    /// [`AttestorError::Files`] when the record is no count.
    pub fn open(
        key_seed: [u8; 32],
        counter: Box<dyn RecordStore>,
        record: Option<&[u8]>,
        soon: Option<SoonFile>,
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
        let count = count.max(soon.as_ref().and_then(|soon| soon.count).unwrap_or(0));
        Ok(Self { key: SigningKey::from(key_seed), counter, soon, count })
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

    fn soon_max(&self) -> u64 {
        if self.soon.is_some() { SOON_MAX } else { 0 }
    }

    fn advance_soon(&mut self) -> Result<u64, AttestorError> {
        let Some(soon) = &self.soon else { return self.advance() };
        let next = self.count + 1;
        let written = soon.write(next);
        written.map_err(|error| AttestorError::Files(format!("counter.soon: {error}")))?;
        self.count = next;
        Ok(next)
    }

    fn attest(&mut self, qualifying: &Hash) -> Result<Attestation, AttestorError> {
        let signature = self.key.sign(&statement(qualifying)).to_bytes();
        Ok(Attestation::Software { key: self.public(), signature })
    }
}
