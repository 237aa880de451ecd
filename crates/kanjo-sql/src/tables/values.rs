//! Values of columns, and the arrays they are gathered in.

use crate::error::{SqlError, code};
use datafusion::arrow::array::{
    ArrayRef, BooleanBuilder, Decimal256Builder, Int64Builder, StringBuilder,
    TimestampMicrosecondBuilder,
};
use datafusion::arrow::datatypes::{DataType, TimeUnit, i256};
use kanjo_types::{Amount, Hash};
use serde::Serialize;
use std::sync::Arc;

/// Digits of an amount in smallest units: 2¹²⁸ − 1 has 39.
pub(crate) const UNITS_DIGITS: u8 = 39;
/// Decimal places of an amount in display units: as many as a token can have.
pub(crate) const DISPLAY_PLACES: i8 = 30;

/// Digits of such an amount: any amount of any token, and room for sums.
pub(crate) const DISPLAY_DIGITS: u8 = UNITS_DIGITS + DISPLAY_PLACES.unsigned_abs();

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `text`.
    Text,
    /// `boolean`.
    Truth,
    /// `bigint`.
    Whole,
    /// `numeric`: an amount in smallest units.
    Units,
    /// `numeric`: an amount in display units, exact for every token.
    Display,
    /// `timestamptz`, in UTC.
    Time,
}

impl Kind {
    pub(crate) fn data_type(self) -> DataType {
        match self {
            Self::Text => DataType::Utf8,
            Self::Truth => DataType::Boolean,
            Self::Whole => DataType::Int64,
            Self::Units => DataType::Decimal256(UNITS_DIGITS, 0),
            Self::Display => DataType::Decimal256(DISPLAY_DIGITS, DISPLAY_PLACES),
            Self::Time => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        }
    }
}

/// A value of a row in a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Null,
    Text(String),
    Truth(bool),
    Whole(u64),
    Number(u128),
    /// Smallest units, and how many of them are one display unit: 10 to the power of this.
    Display(u128, u8),
    /// Milliseconds since 1970-01-01 UTC.
    Time(u64),
}

impl Value {
    /// The text form.
    pub(crate) fn text(value: impl std::fmt::Display) -> Self {
        Self::Text(value.to_string())
    }

    /// The JSON form.
    pub(crate) fn json(value: &impl Serialize) -> Self {
        serde_json::to_string(value).map_or(Self::Null, Self::Text)
    }

    /// The name of an enumeration's variant, without what it carries.
    pub(crate) fn name(value: &impl Serialize) -> Self {
        match serde_json::to_value(value) {
            Ok(serde_json::Value::String(name)) => Self::Text(name),
            Ok(serde_json::Value::Object(map)) => {
                map.into_iter().next().map_or(Self::Null, |(name, _)| Self::Text(name))
            }
            _ => Self::Null,
        }
    }

    /// A hash; nothing when it is zero.
    pub(crate) fn hash(hash: Hash) -> Self {
        if hash == Hash::ZERO { Self::Null } else { Self::text(hash) }
    }

    pub(crate) fn units(amount: Amount) -> Self {
        Self::Number(amount.0)
    }

    pub(crate) fn option<T>(value: Option<T>, make: impl FnOnce(T) -> Self) -> Self {
        value.map_or(Self::Null, make)
    }
}

/// Gathers the values of one column.
pub(crate) enum Gathered {
    Text(StringBuilder),
    Truth(BooleanBuilder),
    Whole(Int64Builder),
    Number(Decimal256Builder),
    Time(TimestampMicrosecondBuilder),
}

impl Gathered {
    pub(crate) fn new(kind: Kind) -> Self {
        match kind {
            Kind::Text => Self::Text(StringBuilder::new()),
            Kind::Truth => Self::Truth(BooleanBuilder::new()),
            Kind::Whole => Self::Whole(Int64Builder::new()),
            Kind::Units | Kind::Display => {
                Self::Number(Decimal256Builder::new().with_data_type(kind.data_type()))
            }
            Kind::Time => Self::Time(TimestampMicrosecondBuilder::new().with_timezone("UTC")),
        }
    }

    pub(crate) fn push(&mut self, value: Value) -> Result<(), SqlError> {
        let out_of_range = || SqlError::new(code::OUT_OF_RANGE, "value out of range");
        match (self, value) {
            (Self::Text(texts), Value::Text(text)) => texts.append_value(text),
            (Self::Text(texts), Value::Null) => texts.append_null(),
            (Self::Truth(truths), Value::Truth(truth)) => truths.append_value(truth),
            (Self::Truth(truths), Value::Null) => truths.append_null(),
            (Self::Whole(numbers), Value::Whole(number)) => {
                numbers.append_value(i64::try_from(number).map_err(|_| out_of_range())?);
            }
            (Self::Whole(numbers), Value::Null) => numbers.append_null(),
            (Self::Number(numbers), Value::Number(number)) => {
                numbers.append_value(i256::from_parts(number, 0));
            }
            (Self::Number(numbers), Value::Display(units, decimals)) => {
                let places = u32::from(DISPLAY_PLACES.unsigned_abs().saturating_sub(decimals));
                let factor = i256::from_i128(10i128.pow(places));
                let value = i256::from_parts(units, 0).checked_mul(factor);
                numbers.append_value(value.ok_or_else(out_of_range)?);
            }
            (Self::Number(numbers), Value::Null) => numbers.append_null(),
            (Self::Time(times), Value::Time(time_ms)) => {
                let time_us = i64::try_from(time_ms).ok().and_then(|ms| ms.checked_mul(1_000));
                // A time that an author may name can lie beyond what PostgreSQL knows.
                times.append_option(time_us);
            }
            (Self::Time(times), Value::Null) => times.append_null(),
            (_, value) => {
                let message = format!("a column got {value:?}, which is of another type");
                return Err(SqlError::new(code::INTERNAL, message));
            }
        }
        Ok(())
    }

    pub(crate) fn finish(mut self) -> ArrayRef {
        match &mut self {
            Self::Text(texts) => Arc::new(texts.finish()),
            Self::Truth(truths) => Arc::new(truths.finish()),
            Self::Whole(numbers) => Arc::new(numbers.finish()),
            Self::Number(numbers) => Arc::new(numbers.finish()),
            Self::Time(times) => Arc::new(times.finish()),
        }
    }
}
