//! An attestor that is a TPM 2.0: counts in an NV counter, vouches with quotes.
//!
//! What a quote proves: a TPM with this attestation key has seen the machine start software that
//! gives these register values, and somebody there asked it to quote this vote key's hash with this
//! nonce. It does not prove that only the sentinel could ask; that follows from what the registers
//! say was started.

use super::{Attestation, Attestor, AttestorError, AttestorKind};
use crate::tpm::quote::Pcrs;
use crate::tpm::{Address, AttestationKey, Tpm};
use kanjo_types::Hash;

/// The counter's NV index when none is given: in the range that the owner uses freely.
pub const COUNTER_INDEX: u32 = 0x0180_4b4a;
/// Registers quoted when none are given: firmware, its drivers, boot loader, secure boot state.
pub const REGISTERS: u32 = 1 | 1 << 2 | 1 << 4 | 1 << 7;

/// See the module.
pub struct Tpm2Attestor {
    tpm: Tpm,
    index: u32,
    registers: u32,
    key: AttestationKey,
}

impl Tpm2Attestor {
    /// Connects to the TPM; makes its attestation key and counter when they are not there.
    ///
    /// # Errors
    /// When the TPM can't be reached or refuses.
    pub fn open(address: &Address, index: u32, registers: u32) -> Result<Self, AttestorError> {
        let mut tpm = Tpm::open(address)?;
        let (handle, key) = tpm.attestation_key()?;
        tpm.flush(handle)?;
        tpm.open_counter(index)?;
        Ok(Self { tpm, index, registers, key })
    }

    /// The attestation key, to be pinned by whoever checks evidence.
    #[must_use]
    pub fn attestation_key(&self) -> AttestationKey {
        self.key
    }

    /// The values of the quoted registers now.
    ///
    /// # Errors
    /// When the TPM refuses.
    pub fn pcrs(&mut self) -> Result<Pcrs, AttestorError> {
        Ok(self.tpm.pcrs(self.registers)?)
    }
}

impl Attestor for Tpm2Attestor {
    fn kind(&self) -> AttestorKind {
        AttestorKind::Tpm2
    }

    fn count(&mut self) -> Result<u64, AttestorError> {
        Ok(self.tpm.read_counter(self.index)?)
    }

    fn advance(&mut self) -> Result<u64, AttestorError> {
        Ok(self.tpm.increment(self.index)?)
    }

    /// The key is loaded for each quote and unloaded again: a TPM has room for three.
    fn attest(&mut self, qualifying: &Hash) -> Result<Attestation, AttestorError> {
        let (handle, _) = self.tpm.attestation_key()?;
        let quote = self.tpm.quote(handle, qualifying, self.registers);
        self.tpm.flush(handle)?;
        Ok(Attestation::Tpm2(quote?))
    }
}
