//! Rows of tables that users define: values, their limits, changes, and where rows lie in the tree.
//!
//! ```text
//! row key  relation, bits reversed, big-endian   4     so the rows of a table are in one partition
//!          first bytes of the ordered key       12     sorts as the key does, up to here
//!          start of a digest of the key         16     tells apart keys that agree so far
//! ```

use crate::codec;
use crate::hash::{self, Hash, TAG_RANGE, TAG_ROW_KEY};
use crate::id::RelationId;
use crate::json;
use crate::outcome::ResultCode;
use crate::record::RowKey;
use crate::relation::{Checked, ColumnType};
use crate::standing::Links;
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

/// Most bytes of a row's values, encoded.
pub const ROW_BYTES_MAX: usize = 65_536;
/// Most bytes of the ordered encoding of a primary key.
pub const KEY_BYTES_MAX: usize = 1_024;
/// Most rows that one condition covers.
pub const RANGE_ROWS_MAX: usize = 65_536;

/// A value of a column.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// No value.
    Null,
    /// A boolean.
    Boolean(bool),
    /// A smallint, integer or bigint.
    Integer(i64),
    /// A numeric: its digits without the point, which the column's scale places. JSON form: text.
    Numeric(#[serde(with = "decimal")] i128),
    /// A text.
    Text(String),
    /// A bytea. JSON form: hexadecimal digits.
    Bytes(#[serde(with = "hexadecimal")] Vec<u8>),
    /// A uuid. JSON form: 32 hexadecimal digits.
    Uuid(#[serde(with = "hexadecimal")] [u8; 16]),
    /// A date, in days since 1970-01-01.
    Date(i32),
    /// A timestamptz, in microseconds since 1970-01-01 UTC.
    Timestamp(i64),
    /// A jsonb, as it was written.
    Json(String),
}

mod decimal {
    use serde::{Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &i128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i128, D::Error> {
        crate::id::deserialize_text(deserializer)
    }
}

mod hexadecimal {
    use serde::{Deserialize, Deserializer, Serializer};
    use std::borrow::Cow;

    pub fn serialize<T: AsRef<[u8]>, S: Serializer>(
        bytes: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(bytes))
    }

    pub fn deserialize<'de, T: TryFrom<Vec<u8>>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        let wrong = || serde::de::Error::custom("not the expected number of hexadecimal digits");
        let text = <Cow<'de, str> as Deserialize>::deserialize(deserializer)?;
        let bytes = hex::decode(text.as_ref()).map_err(|_| wrong())?;
        T::try_from(bytes).map_err(|_| wrong())
    }
}

/// A version of a row.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct RowRecord {
    /// Of which table.
    pub relation: RelationId,
    /// Where it lies: [`row_key`] of its primary key.
    pub key: RowKey,
    /// Version and hash links.
    pub links: Links,
    /// Its values by column; fewer than columns when some were added later. `None`: deleted.
    pub values: Option<Vec<Value>>,
    /// Relations: hash of the record of its table, then of the row that each foreign key
    /// references, in the order of the constraints; zero for none.
    pub references: Vec<Hash>,
}

/// One change of a table's rows. `expected` is the hash of the record that the row had before the
/// transaction; zero when it was not there, or deleted.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RowChange {
    /// A new row.
    Insert {
        /// One value for each column.
        values: Vec<Value>,
    },
    /// New values for a row, with the same primary key.
    Update {
        /// Which row.
        key: RowKey,
        /// Of the record before the transaction.
        expected: Hash,
        /// One value for each column.
        values: Vec<Value>,
    },
    /// Deletes a row.
    Delete {
        /// Which row.
        key: RowKey,
        /// Of the record before the transaction.
        expected: Hash,
    },
}

impl Value {
    /// Is there no value?
    #[must_use]
    pub fn is_null(&self) -> bool {
        *self == Self::Null
    }

    /// Appends the encoding that sorts as the values of one type do, byte by byte, and that no
    /// other value's encoding starts with. `None` for null and JSON, which are in no key.
    fn append_ordered(&self, out: &mut Vec<u8>) -> Option<()> {
        match self {
            Self::Null | Self::Json(_) => return None,
            Self::Boolean(value) => out.push(u8::from(*value)),
            Self::Integer(value) | Self::Timestamp(value) => {
                out.extend_from_slice(&(value ^ i64::MIN).to_be_bytes());
            }
            Self::Numeric(value) => out.extend_from_slice(&(value ^ i128::MIN).to_be_bytes()),
            Self::Date(value) => out.extend_from_slice(&(value ^ i32::MIN).to_be_bytes()),
            Self::Uuid(value) => out.extend_from_slice(value),
            Self::Text(value) => append_terminated(value.as_bytes(), out),
            Self::Bytes(value) => append_terminated(value, out),
        }
        Some(())
    }
}

/// Bytes with 00 as 00 ff, then 00 00.
fn append_terminated(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        out.push(*byte);
        if *byte == 0 {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&[0, 0]);
}

impl ColumnType {
    /// Does the value fit the type? Null always does: NOT NULL is the column's.
    ///
    /// # Errors
    /// [`ResultCode::WrongType`], [`ResultCode::OutOfRange`], [`ResultCode::TextTooLong`],
    /// [`ResultCode::BadText`].
    pub fn check(self, value: &Value) -> Checked {
        let within = |fits: bool| if fits { Ok(()) } else { Err(ResultCode::OutOfRange) };
        match (self, value) {
            (_, Value::Null)
            | (Self::Boolean, Value::Boolean(_))
            | (Self::Bigint, Value::Integer(_))
            | (Self::Bytea, Value::Bytes(_))
            | (Self::Uuid, Value::Uuid(_))
            | (Self::Date, Value::Date(_))
            | (Self::Timestamptz, Value::Timestamp(_)) => Ok(()),
            (Self::Smallint, Value::Integer(value)) => within(i16::try_from(*value).is_ok()),
            (Self::Integer, Value::Integer(value)) => within(i32::try_from(*value).is_ok()),
            (Self::Numeric { precision, .. }, Value::Numeric(value)) => {
                let most = 10u128.checked_pow(u32::from(precision));
                within(most.is_some_and(|most| value.unsigned_abs() < most))
            }
            (Self::Text(most), Value::Text(text)) => check_text(text, most),
            (Self::Jsonb, Value::Json(text)) if json::is_well_formed(text) => Ok(()),
            (Self::Jsonb, Value::Json(_)) => Err(ResultCode::BadText),
            _ => Err(ResultCode::WrongType),
        }
    }
}

fn check_text(text: &str, most: Option<u32>) -> Checked {
    if text.contains('\0') {
        return Err(ResultCode::BadText);
    }
    // A character has a byte at least, so most texts need no count.
    let too_long = |most: u32| text.len() > most as usize && text.chars().count() > most as usize;
    if most.is_some_and(too_long) { Err(ResultCode::TextTooLong) } else { Ok(()) }
}

/// The ordered encoding of a key: it sorts as the values do, one after the other. `None` when a
/// value is null or JSON.
#[must_use]
pub fn ordered_key<'a>(values: impl IntoIterator<Item = &'a Value>) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(32);
    values.into_iter().try_for_each(|value| value.append_ordered(&mut out))?;
    Some(out)
}

/// Where the row with a primary key lies. `None` when a value is null or JSON, or the ordered
/// encoding is longer than [`KEY_BYTES_MAX`].
#[must_use]
pub fn row_key<'a, I>(relation: RelationId, values: I) -> Option<RowKey>
where
    I: IntoIterator<Item = &'a Value> + Clone,
{
    let ordered = ordered_key(values.clone())?;
    if ordered.len() > KEY_BYTES_MAX {
        return None;
    }
    let values: Vec<&Value> = values.into_iter().collect();
    let number = relation.0.to_le_bytes();
    let tail = hash::digest(TAG_ROW_KEY, &[&number, &codec::to_bytes(&values)]);
    Some(placed(relation, &ordered, 0, &tail.0))
}

/// The table that a row key is of: it begins with the table's number, bits reversed.
#[must_use]
pub fn relation_of_key(key: RowKey) -> RelationId {
    let number = key.0.0.first_chunk::<4>().copied().unwrap_or_default();
    RelationId(u32::from_be_bytes(number).reverse_bits())
}

/// The smallest and the largest row key of a table.
#[must_use]
pub fn relation_bounds(relation: RelationId) -> (RowKey, RowKey) {
    (placed(relation, &[], 0, &[0; 32]), placed(relation, &[], 0xff, &[0xff; 32]))
}

/// Row keys between which all rows lie whose primary key is at or after `from` and at or before
/// `to`; each names as many leading values of the key as there are bounds for. Others may lie
/// there, too: only the first 12 bytes of the encoding count. `None` when a value is null or JSON.
#[must_use]
pub fn key_bounds(relation: RelationId, from: &[Value], to: &[Value]) -> Option<(RowKey, RowKey)> {
    let from = placed(relation, &ordered_key(from)?, 0, &[0; 32]);
    Some((from, placed(relation, &ordered_key(to)?, 0xff, &[0xff; 32])))
}

fn placed(relation: RelationId, ordered: &[u8], filler: u8, tail: &[u8; 32]) -> RowKey {
    let number = relation.0.reverse_bits().to_be_bytes();
    let ordered = ordered.iter().chain(std::iter::repeat(&filler)).take(12);
    let bytes = number.iter().chain(ordered).chain(tail);
    let mut key = [0u8; 32];
    key.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    RowKey(Hash(key))
}

/// The digest of a range of rows: of key and record hash of each live row, by ascending key.
#[must_use]
pub fn range_digest(rows: impl Iterator<Item = (RowKey, Hash)>) -> Hash {
    let bytes: Vec<[u8; 32]> = rows.flat_map(|(key, hash)| [key.0.0, hash.0]).collect();
    hash::digest(TAG_RANGE, &[bytes.as_flattened()])
}
