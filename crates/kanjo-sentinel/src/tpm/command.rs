//! The commands, to the byte, and what is read from their answers.

use super::TpmError;
use super::quote::{AttestationKey, PCR_COUNT, Pcrs, Quote};
use super::wire::{Reader, Writer, command};
use kanjo_types::Hash;

/// TPM_RH_OWNER: the hierarchy whose authorisation, empty unless the owner set one, makes keys and
/// NV indices.
pub const OWNER: u32 = 0x4000_0001;
/// TPM_ALG_SHA256.
pub const ALG_SHA256: u16 = 0x000b;
const ALG_NULL: u16 = 0x0010;
const ALG_ECDSA: u16 = 0x0018;
const ALG_ECC: u16 = 0x0023;
const CURVE_P256: u16 = 0x0003;
/// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted, sign: a key that
/// signs what the TPM itself made, and nothing else.
const ATTESTATION_ATTRIBUTES: u32 = 0x0005_0472;
/// counter, writable and readable by its own and the owner's authorisation, no lock-out.
pub const COUNTER_ATTRIBUTES: u32 = 0x0206_0016;
/// Set by the TPM once the counter has counted.
pub const NV_WRITTEN: u32 = 0x2000_0000;
/// Bytes of a counter.
pub const COUNTER_LEN: u16 = 8;

/// TPM2_Startup(CLEAR).
#[must_use]
pub fn startup() -> Vec<u8> {
    command(0x144, &[], false, &Writer::new().u16(0).into_bytes())
}

/// TPM2_SelfTest(full).
#[must_use]
pub fn self_test() -> Vec<u8> {
    command(0x143, &[], false, &[1])
}

/// TPM2_PCR_Read of these registers, SHA-256 bank. A TPM answers for at most eight.
#[must_use]
pub fn pcr_read(registers: u32) -> Vec<u8> {
    command(0x17e, &[], false, &selection(registers))
}

/// TPM2_PCR_Extend.
#[must_use]
pub fn pcr_extend(register: u8, digest: &Hash) -> Vec<u8> {
    let values = Writer::new().u32(1).u16(ALG_SHA256).raw(&digest.0);
    command(0x182, &[u32::from(register)], true, &values.into_bytes())
}

/// TPM2_CreatePrimary: an ECC P-256 restricted signing key of the owner hierarchy. The same TPM
/// makes the same key each time, until its owner seed is cleared.
#[must_use]
pub fn create_attestation_key() -> Vec<u8> {
    let sensitive = Writer::new().u16(0).u16(0).into_bytes();
    let public = Writer::new()
        .u16(ALG_ECC)
        .u16(ALG_SHA256)
        .u32(ATTESTATION_ATTRIBUTES)
        .u16(0) // no policy
        .u16(ALG_NULL) // no symmetric algorithm
        .u16(ALG_ECDSA)
        .u16(ALG_SHA256)
        .u16(CURVE_P256)
        .u16(ALG_NULL) // no key derivation
        .u16(0) // unique x
        .u16(0) // unique y
        .into_bytes();
    let parameters = Writer::new().sized(&sensitive).sized(&public).u16(0).u32(0);
    command(0x131, &[OWNER], true, &parameters.into_bytes())
}

/// TPM2_Quote over these registers, with `qualifying` inside.
#[must_use]
pub fn quote(key: u32, qualifying: &Hash, registers: u32) -> Vec<u8> {
    let parameters = Writer::new().sized(&qualifying.0).u16(ALG_NULL).raw(&selection(registers));
    command(0x158, &[key], true, &parameters.into_bytes())
}

/// TPM2_ReadPublic.
#[must_use]
pub fn read_public(key: u32) -> Vec<u8> {
    command(0x173, &[key], false, &[])
}

/// TPM2_NV_DefineSpace of a counter.
#[must_use]
pub fn nv_define_counter(index: u32) -> Vec<u8> {
    let public = Writer::new()
        .u32(index)
        .u16(ALG_SHA256)
        .u32(COUNTER_ATTRIBUTES)
        .u16(0) // no policy
        .u16(COUNTER_LEN)
        .into_bytes();
    let parameters = Writer::new().u16(0).sized(&public);
    command(0x12a, &[OWNER], true, &parameters.into_bytes())
}

/// TPM2_NV_ReadPublic.
#[must_use]
pub fn nv_read_public(index: u32) -> Vec<u8> {
    command(0x169, &[index], false, &[])
}

/// TPM2_NV_Increment.
#[must_use]
pub fn nv_increment(index: u32) -> Vec<u8> {
    command(0x134, &[index, index], true, &[])
}

/// TPM2_NV_Read of a counter.
#[must_use]
pub fn nv_read_counter(index: u32) -> Vec<u8> {
    let parameters = Writer::new().u16(COUNTER_LEN).u16(0);
    command(0x14e, &[index, index], true, &parameters.into_bytes())
}

/// TPM2_FlushContext.
#[must_use]
pub fn flush(handle: u32) -> Vec<u8> {
    command(0x165, &[handle], false, &[])
}

/// TPML_PCR_SELECTION of registers of the SHA-256 bank; bit n is register n.
fn selection(registers: u32) -> Vec<u8> {
    let [a, b, c, _] = registers.to_le_bytes();
    Writer::new().u32(1).u16(ALG_SHA256).u8(3).raw(&[a, b, c]).into_bytes()
}

/// Reads a TPML_PCR_SELECTION of at most the SHA-256 bank.
///
/// # Errors
/// [`TpmError::Malformed`], also for other banks.
pub fn read_selection(reader: &mut Reader<'_>) -> Result<u32, TpmError> {
    let banks = reader.u32()?;
    if banks == 0 {
        return Ok(0);
    }
    if banks != 1 || reader.u16()? != ALG_SHA256 || reader.u8()? != 3 {
        return Err(TpmError::Malformed("registers of other banks than SHA-256"));
    }
    let &[a, b, c] = reader.take(3)? else {
        return Err(TpmError::Malformed("it is cut short"));
    };
    Ok(u32::from_le_bytes([a, b, c, 0]))
}

/// Reads the answer of [`pcr_read`] into `values`; says which registers came.
///
/// # Errors
/// [`TpmError::Malformed`].
pub fn read_pcrs(parameters: &[u8], values: &mut Pcrs) -> Result<u32, TpmError> {
    let mut reader = Reader::new(parameters);
    reader.u32()?; // update counter
    let registers = read_selection(&mut reader)?;
    if reader.u32()? != registers.count_ones() {
        return Err(TpmError::Malformed("as many digests as registers"));
    }
    for register in (0..PCR_COUNT).filter(|register| registers & (1 << register) != 0) {
        let digest = <[u8; 32]>::try_from(reader.sized()?)
            .map_err(|_| TpmError::Malformed("a digest that is not SHA-256"))?;
        values.insert(register, Hash(digest));
    }
    reader.end()?;
    Ok(registers)
}

/// Reads a TPM2B_PUBLIC that must be an attestation key as [`create_attestation_key`] asks for.
///
/// # Errors
/// [`TpmError::Malformed`] when it is anything else.
pub fn read_attestation_key(reader: &mut Reader<'_>) -> Result<AttestationKey, TpmError> {
    let mut public = Reader::new(reader.sized()?);
    let header = (public.u16()?, public.u16()?, public.u32()?, public.sized()?.len());
    let scheme = (public.u16()?, public.u16()?, public.u16()?, public.u16()?, public.u16()?);
    let wanted = (ALG_ECC, ALG_SHA256, ATTESTATION_ATTRIBUTES, 0);
    if header != wanted || scheme != (ALG_NULL, ALG_ECDSA, ALG_SHA256, CURVE_P256, ALG_NULL) {
        return Err(TpmError::Malformed("a key that is not a restricted P-256 signing key"));
    }
    let (x, y) = (padded(public.sized()?)?, padded(public.sized()?)?);
    public.end()?;
    Ok(AttestationKey { x, y })
}

/// Reads the answer of [`quote`].
///
/// # Errors
/// [`TpmError::Malformed`].
pub fn read_quote(parameters: &[u8]) -> Result<Quote, TpmError> {
    let mut reader = Reader::new(parameters);
    let attest = reader.sized()?.to_vec();
    if (reader.u16()?, reader.u16()?) != (ALG_ECDSA, ALG_SHA256) {
        return Err(TpmError::Malformed("a signature that is not ECDSA with SHA-256"));
    }
    let (r, s) = (padded(reader.sized()?)?, padded(reader.sized()?)?);
    reader.end()?;
    Ok(Quote { attest, r, s })
}

/// Reads the answer of [`nv_read_counter`].
///
/// # Errors
/// [`TpmError::Malformed`].
pub fn read_counter(parameters: &[u8]) -> Result<u64, TpmError> {
    let mut reader = Reader::new(parameters);
    let mut counter = Reader::new(reader.sized()?);
    reader.end()?;
    let count = counter.u64()?;
    counter.end()?;
    Ok(count)
}

/// Reads the answer of [`nv_read_public`]: attributes and size.
///
/// # Errors
/// [`TpmError::Malformed`].
pub fn read_nv_public(parameters: &[u8]) -> Result<(u32, u16), TpmError> {
    let mut reader = Reader::new(parameters);
    let mut public = Reader::new(reader.sized()?);
    public.u32()?; // index
    public.u16()?; // name algorithm
    let attributes = public.u32()?;
    public.sized()?; // policy
    let size = public.u16()?;
    public.end()?;
    Ok((attributes, size))
}

/// A number of at most 32 bytes; some TPMs leave leading zeros out.
fn padded(bytes: &[u8]) -> Result<[u8; 32], TpmError> {
    let mut number = [0; 32];
    let start = number.len().checked_sub(bytes.len());
    let place = start.and_then(|start| number.get_mut(start..));
    place.ok_or(TpmError::Malformed("a number above 256 bits"))?.copy_from_slice(bytes);
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tpm::wire::{self, response};
    use proptest::prelude::*;

    fn hex_of(parts: &[&str]) -> Vec<u8> {
        hex::decode(parts.concat()).unwrap()
    }

    const PASSWORD: &str = "00000009400000090000000000";
    const ONES: &str = "1111111111111111111111111111111111111111111111111111111111111111";

    /// Written by hand after parts 2 and 3 of the specification.
    #[test]
    fn commands_to_the_byte() {
        let ones = Hash([0x11; 32]);
        let (key, index) = (0x80ff_ffff, 0x0180_4b4a);
        let vectors: [(Vec<u8>, &[&str]); 12] = [
            (startup(), &["80010000000c000001440000"]),
            (self_test(), &["80010000000b0000014301"]),
            (pcr_read(0x01_0080), &["8001000000140000017e00000001000b03800001"]),
            (
                pcr_extend(16, &ones),
                &["8002000000410000018200000010", PASSWORD, "00000001000b", ONES],
            ),
            (
                create_attestation_key(),
                &[
                    "8002000000410000013140000001",
                    PASSWORD,
                    "000400000000",
                    "00180023000b0005047200000010",
                    "0018000b0003001000000000",
                    "000000000000",
                ],
            ),
            (
                quote(key, &ones, 0x81),
                &[
                    "8002000000490000015880ffffff",
                    PASSWORD,
                    "0020",
                    ONES,
                    "0010",
                    "00000001000b03810000",
                ],
            ),
            (read_public(key), &["80010000000e0000017380ffffff"]),
            (
                nv_define_counter(index),
                &[
                    "80020000002d0000012a40000001",
                    PASSWORD,
                    "0000",
                    "000e01804b4a000b0206001600000008",
                ],
            ),
            (nv_read_public(index), &["80010000000e0000016901804b4a"]),
            (nv_increment(index), &["80020000001f0000013401804b4a01804b4a", PASSWORD]),
            (
                nv_read_counter(index),
                &["8002000000230000014e01804b4a01804b4a", PASSWORD, "00080000"],
            ),
            (flush(key), &["80010000000e0000016580ffffff"]),
        ];
        for (made, expected) in vectors {
            assert_eq!(hex::encode(&made), hex::encode(hex_of(expected)));
            let header = made.first_chunk().unwrap();
            assert_eq!(wire::announced(header).unwrap(), made.len());
        }
    }

    #[test]
    fn answers_to_the_byte() {
        let counter = hex_of(&["80020000001d00000000", "0000000a", "0008", "0000000000000007"]);
        let counter = [counter, hex_of(&["0000010000"])].concat();
        let taken = response(&counter, false).unwrap();
        assert_eq!(read_counter(taken.parameters).unwrap(), 7);
        let pcrs = hex_of(&["0000002a", "00000001000b03000001", "00000001", "0020", ONES]);
        let mut values = Pcrs::new();
        assert_eq!(read_pcrs(&pcrs, &mut values).unwrap(), 1 << 16);
        assert_eq!(values, Pcrs::from([(16, Hash([0x11; 32]))]));
        let signed = hex_of(&["0002abcd", "0018000b", "0020", ONES, "0001", "05"]);
        let read = read_quote(&signed).unwrap();
        assert_eq!((read.attest, read.r), (vec![0xab, 0xcd], [0x11; 32]));
        assert_eq!(read.s[..31], [0; 31], "leading zeros that the TPM left out");
        let refused = hex_of(&["80010000000a00000101"]);
        let refused = response(&refused, true).unwrap();
        assert_eq!((refused.code, refused.handle), (0x101, None));
        assert!(response(&hex_of(&["80010000000b00000101"]), true).is_err(), "wrong size");
    }

    fn read_all(bytes: &[u8]) {
        let _ = response(bytes, true);
        let _ = response(bytes, false);
        let _ = read_pcrs(bytes, &mut Pcrs::new());
        let _ = read_attestation_key(&mut Reader::new(bytes));
        let _ = read_quote(bytes);
        let _ = read_counter(bytes);
        let _ = read_nv_public(bytes);
        let _ = crate::tpm::quote::read_attest(bytes);
    }

    proptest! {
        #[test]
        fn nothing_that_comes_from_a_tpm_makes_it_panic(bytes: Vec<u8>) {
            read_all(&bytes);
        }

        #[test]
        fn cut_and_changed_answers_are_read_or_refused(cut in 0usize..140, place in 0usize..140, bit in 0u8..8) {
            let attest = crate::tpm::quote::write_attest(&[1; 32], 0x81, &[2; 32]);
            let quote = Writer::new().sized(&attest).u16(ALG_ECDSA).u16(ALG_SHA256);
            let quote = quote.sized(&[3; 32]).sized(&[4; 32]).into_bytes();
            for mut bytes in [attest, quote] {
                if let Some(byte) = bytes.get_mut(place) {
                    *byte ^= 1 << bit;
                }
                bytes.truncate(cut);
                read_all(&bytes);
            }
        }
    }
}
