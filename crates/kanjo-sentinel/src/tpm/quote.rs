//! Quotes, and how they are checked: by anybody, without a TPM.

use super::TpmError;
use super::command::read_selection;
use super::wire::{Reader, Writer};
use kanjo_types::Hash;
use p256::ecdsa::signature::hazmat::PrehashVerifier;
use p256::ecdsa::{Signature, VerifyingKey};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Registers of a bank.
pub const PCR_COUNT: u8 = 24;
/// Most bytes of a TPMS_ATTEST.
pub const ATTEST_MAX: usize = 512;

const MAGIC: u32 = 0xff54_4347;
const TYPE_QUOTE: u16 = 0x8018;

/// Values of registers of the SHA-256 bank.
pub type Pcrs = BTreeMap<u8, Hash>;

/// A TPM's statement about its registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    /// TPMS_ATTEST: what was signed.
    pub attest: Vec<u8>,
    /// First half of the ECDSA signature.
    pub r: [u8; 32],
    /// Second half.
    pub s: [u8; 32],
}

/// The public half of a TPM's attestation key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttestationKey {
    /// Affine x.
    pub x: [u8; 32],
    /// Affine y.
    pub y: [u8; 32],
}

impl AttestationKey {
    /// 64 bytes: x, then y.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 64] {
        let mut bytes = [0; 64];
        let (x, y) = bytes.split_at_mut(32);
        x.copy_from_slice(&self.x);
        y.copy_from_slice(&self.y);
        bytes
    }

    /// From 64 bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 64]) -> Self {
        let (mut x, mut y) = ([0; 32], [0; 32]);
        let (first, second) = bytes.split_at(32);
        x.copy_from_slice(first);
        y.copy_from_slice(second);
        Self { x, y }
    }
}

/// A quote that proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuoteError {
    /// Not a TPMS_ATTEST.
    #[error("the quote can't be read: {0}")]
    Malformed(&'static str),
    /// Not made by a TPM.
    #[error("the quote does not begin with what only a TPM writes there")]
    Magic,
    /// Another kind of attestation.
    #[error("an attestation of type {0:#x} is no quote")]
    Type(u16),
    /// For another nonce or another vote key: replayed.
    #[error("the quote is for another nonce or another vote key")]
    Qualifying,
    /// Other registers.
    #[error("the quote covers registers {found:#08x}, not {expected:#08x}")]
    Registers {
        /// One bit for each.
        expected: u32,
        /// What it covers.
        found: u32,
    },
    /// Registers of other values: other software was started.
    #[error("the registers have other values than expected")]
    Values,
    /// Signed by another key, or changed.
    #[error("the quote's signature is wrong")]
    Signature,
}

/// What a TPMS_ATTEST of a quote says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quoted<'a> {
    /// The asker's data.
    pub qualifying: &'a [u8],
    /// Clock of the TPM in milliseconds.
    pub clock_ms: u64,
    /// How often the TPM was reset.
    pub resets: u32,
    /// One bit for each register.
    pub registers: u32,
    /// SHA-256 over their values.
    pub digest: &'a [u8],
}

/// Reads a TPMS_ATTEST.
///
/// # Errors
/// [`QuoteError::Malformed`], [`QuoteError::Magic`], [`QuoteError::Type`].
pub fn read_attest(attest: &[u8]) -> Result<Quoted<'_>, QuoteError> {
    let cut = |error: TpmError| match error {
        TpmError::Malformed(why) => QuoteError::Malformed(why),
        _ => QuoteError::Malformed("it can't be read"),
    };
    if attest.len() > ATTEST_MAX {
        return Err(QuoteError::Malformed("it is too long"));
    }
    let mut reader = Reader::new(attest);
    if reader.u32().map_err(cut)? != MAGIC {
        return Err(QuoteError::Magic);
    }
    match reader.u16().map_err(cut)? {
        TYPE_QUOTE => {}
        other => return Err(QuoteError::Type(other)),
    }
    let mut fields = || {
        reader.sized()?; // name of the signer
        let qualifying = reader.sized()?;
        let (clock_ms, resets) = (reader.u64()?, reader.u32()?);
        reader.take(4 + 1 + 8)?; // restarts, is the clock safe, firmware
        let registers = read_selection(&mut reader)?;
        let digest = reader.sized()?;
        reader.end()?;
        Ok(Quoted { qualifying, clock_ms, resets, registers, digest })
    };
    fields().map_err(cut)
}

/// Checks that the TPM with this attestation key has quoted `qualifying` and registers with just
/// these values. Whether the key is a TPM's is for the caller to know: it is pinned when the node
/// is admitted.
///
/// # Errors
/// The first thing wrong.
pub fn verify_quote(
    quote: &Quote,
    qualifying: &Hash,
    expected: &Pcrs,
    key: &AttestationKey,
) -> Result<(), QuoteError> {
    let quoted = read_attest(&quote.attest)?;
    let signature = Signature::from_scalars(quote.r, quote.s).map_err(|_| QuoteError::Signature)?;
    let mut point = vec![4u8];
    point.extend_from_slice(&key.to_bytes());
    let key = VerifyingKey::from_sec1_bytes(&point).map_err(|_| QuoteError::Signature)?;
    let signed = Sha256::digest(&quote.attest);
    key.verify_prehash(&signed, &signature).map_err(|_| QuoteError::Signature)?;
    if quoted.qualifying != qualifying.0 {
        return Err(QuoteError::Qualifying);
    }
    let bits = registers_of(expected);
    if quoted.registers != bits {
        return Err(QuoteError::Registers { expected: bits, found: quoted.registers });
    }
    let mut values = Sha256::new();
    expected.values().for_each(|value| values.update(value.0));
    if quoted.digest != values.finalize().as_slice() {
        return Err(QuoteError::Values);
    }
    Ok(())
}

/// One bit for each register.
#[must_use]
pub fn registers_of(values: &Pcrs) -> u32 {
    values
        .keys()
        .filter(|register| **register < PCR_COUNT)
        .fold(0, |bits, register| bits | 1 << register)
}

/// Reads a list like `0,2,4,7`.
///
/// # Errors
/// [`TpmError::Registers`].
pub fn parse_registers(text: &str) -> Result<u32, TpmError> {
    let register = |part: &str| part.trim().parse::<u8>().ok().filter(|number| *number < PCR_COUNT);
    let bits =
        text.split(',').map(register).try_fold(0u32, |bits, number| Some(bits | 1 << number?));
    bits.ok_or_else(|| TpmError::Registers(text.chars().take(80).collect()))
}

/// Writes what a TPM would sign; for tests of the verifier.
#[must_use]
pub fn write_attest(qualifying: &[u8], registers: u32, digest: &[u8]) -> Vec<u8> {
    let [a, b, c, _] = registers.to_le_bytes();
    Writer::new()
        .u32(MAGIC)
        .u16(TYPE_QUOTE)
        .sized(&[])
        .sized(qualifying)
        .raw(&[0; 25])
        .u32(1)
        .u16(super::command::ALG_SHA256)
        .u8(3)
        .raw(&[a, b, c])
        .sized(digest)
        .into_bytes()
}
