//! The canonical binary encoding (Borsh 1.x) and the compact integers of the block store.

use borsh::io::{Error, ErrorKind, Read, Result as IoResult, Write};
use borsh::{BorshDeserialize, BorshSerialize};

/// The bytes were not the canonical encoding of the expected type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A field was cut short, out of its range, or of an unknown variant.
    #[error("not a canonical encoding: {0}")]
    Malformed(String),
    /// Bytes were left over after the value.
    #[error("{0} bytes left over after the value; send exactly one value")]
    TrailingBytes(usize),
}

/// Canonical bytes of `value`.
///
/// # Panics
/// Never for the types of this crate: writing to memory does not fail and no collection exceeds
/// `u32::MAX`.
#[must_use]
pub fn to_bytes<T: BorshSerialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    append(value, &mut bytes);
    bytes
}

/// How many canonical bytes `value` has.
#[must_use]
pub fn length<T: BorshSerialize>(value: &T) -> usize {
    borsh::object_length(value).unwrap_or(usize::MAX)
}

/// Appends the canonical bytes of `value` to `out`.
pub fn append<T: BorshSerialize>(value: &T, out: &mut Vec<u8>) {
    let result = value.serialize(out);
    assert!(result.is_ok(), "encoding into memory can't fail: collections are far below 2^32");
}

/// Decodes exactly one value that fills `bytes`.
///
/// # Errors
/// [`DecodeError`] when the bytes are not the canonical encoding of one `T`.
pub fn from_bytes<T: BorshDeserialize>(bytes: &[u8]) -> Result<T, DecodeError> {
    let mut rest = bytes;
    let value =
        T::deserialize(&mut rest).map_err(|error| DecodeError::Malformed(error.to_string()))?;
    if rest.is_empty() { Ok(value) } else { Err(DecodeError::TrailingBytes(rest.len())) }
}

/// An unsigned integer in 7-bit groups, least significant first (LEB128), in its shortest form
/// only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compact(pub u128);

impl BorshSerialize for Compact {
    fn serialize<W: Write>(&self, writer: &mut W) -> IoResult<()> {
        let mut buffer = [0u8; 19];
        let mut rest = self.0;
        let mut used = 0usize;
        for byte in &mut buffer {
            used += 1;
            let low = (rest & 0x7f) as u8;
            rest >>= 7;
            if rest == 0 {
                *byte = low;
                break;
            }
            *byte = low | 0x80;
        }
        writer.write_all(buffer.get(..used).unwrap_or(&buffer))
    }
}

impl BorshDeserialize for Compact {
    fn deserialize_reader<R: Read>(reader: &mut R) -> IoResult<Self> {
        let mut value = 0u128;
        for position in 0..19u32 {
            let byte = u8::deserialize_reader(reader)?;
            let group = u128::from(byte & 0x7f);
            if position == 18 && byte > 0x03 {
                return Err(Error::new(ErrorKind::InvalidData, "compact integer above 128 bits"));
            }
            value |= group << (7 * position);
            if byte & 0x80 == 0 {
                if byte == 0 && position > 0 {
                    return Err(Error::new(
                        ErrorKind::InvalidData,
                        "compact integer not in its shortest form",
                    ));
                }
                return Ok(Self(value));
            }
        }
        Err(Error::new(ErrorKind::InvalidData, "compact integer longer than 19 bytes"))
    }
}

impl Compact {
    /// Reads a compact integer that must fit 64 bits.
    ///
    /// # Errors
    /// An `InvalidData` error when it is larger.
    pub fn read_u64<R: Read>(reader: &mut R) -> IoResult<u64> {
        let Self(value) = Self::deserialize_reader(reader)?;
        u64::try_from(value)
            .map_err(|_| Error::new(ErrorKind::InvalidData, "integer above 64 bits"))
    }

    /// Reads a compact integer that must fit 32 bits.
    ///
    /// # Errors
    /// An `InvalidData` error when it is larger.
    pub fn read_u32<R: Read>(reader: &mut R) -> IoResult<u32> {
        let Self(value) = Self::deserialize_reader(reader)?;
        u32::try_from(value)
            .map_err(|_| Error::new(ErrorKind::InvalidData, "integer above 32 bits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn compact_round_trips(value: u128, shift in 0u32..128) {
            let value = Compact(value >> shift);
            prop_assert_eq!(from_bytes::<Compact>(&to_bytes(&value)), Ok(value));
        }

        #[test]
        fn compact_never_panics_and_is_canonical(bytes: Vec<u8>) {
            if let Ok(value) = from_bytes::<Compact>(&bytes) {
                prop_assert_eq!(to_bytes(&value), bytes);
            }
        }
    }

    #[test]
    fn trailing_bytes_are_refused() {
        assert_eq!(from_bytes::<u8>(&[1, 2]), Err(DecodeError::TrailingBytes(1)));
    }
}
