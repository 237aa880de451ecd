//! Values of tables of users, as the engine's arrays, and back.

use crate::define::{text_of, value_of};
use crate::error::{SqlError, code};
use datafusion::arrow::array::{
    Array, ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Int16Builder,
    Int32Builder, Int64Builder, StringBuilder, TimestampMicrosecondBuilder,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::ScalarValue;
use kanjo_types::relation::{Column, ColumnType, Definition};
use kanjo_types::row::Value;
use std::sync::Arc;

/// Key of a field's metadata that names a type of PostgreSQL which the engine keeps as text.
pub(crate) const WIRE_TYPE: &str = "kanjo.type";

/// The engine's type for a column.
pub(crate) fn data_type(kind: ColumnType) -> DataType {
    match kind {
        ColumnType::Boolean => DataType::Boolean,
        ColumnType::Smallint => DataType::Int16,
        ColumnType::Integer => DataType::Int32,
        ColumnType::Bigint => DataType::Int64,
        ColumnType::Numeric { precision, scale } => {
            DataType::Decimal128(precision, i8::try_from(scale).unwrap_or(i8::MAX))
        }
        ColumnType::Text(_) | ColumnType::Uuid | ColumnType::Jsonb => DataType::Utf8,
        ColumnType::Bytea => DataType::Binary,
        ColumnType::Date => DataType::Date32,
        ColumnType::Timestamptz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
    }
}

/// A field for a column.
pub(crate) fn field(column: &Column) -> Field {
    let field = Field::new(&column.name, data_type(column.kind), !column.not_null);
    let named = match column.kind {
        ColumnType::Uuid => "uuid",
        ColumnType::Jsonb => "jsonb",
        _ => return field,
    };
    field.with_metadata([(WIRE_TYPE.to_owned(), named.to_owned())].into())
}

/// The schema of a table. Columns of the primary key are never null.
pub(crate) fn schema(definition: &Definition) -> SchemaRef {
    let fields = definition.columns.iter().enumerate().map(|(at, column)| {
        let is_key = definition.primary.iter().any(|key| usize::from(*key) == at);
        let field = field(column);
        if is_key { field.with_nullable(false) } else { field }
    });
    Arc::new(Schema::new(fields.collect::<Vec<Field>>()))
}

/// Gathers the values of one column.
pub(crate) enum Cells {
    Boolean(BooleanBuilder),
    Smallint(Int16Builder),
    Integer(Int32Builder),
    Bigint(Int64Builder),
    Numeric(Decimal128Builder),
    Text(StringBuilder, ColumnType),
    Bytea(BinaryBuilder),
    Date(Date32Builder),
    Time(TimestampMicrosecondBuilder),
}

impl Cells {
    pub(crate) fn new(kind: ColumnType) -> Self {
        match kind {
            ColumnType::Boolean => Self::Boolean(BooleanBuilder::new()),
            ColumnType::Smallint => Self::Smallint(Int16Builder::new()),
            ColumnType::Integer => Self::Integer(Int32Builder::new()),
            ColumnType::Bigint => Self::Bigint(Int64Builder::new()),
            ColumnType::Numeric { .. } => {
                Self::Numeric(Decimal128Builder::new().with_data_type(data_type(kind)))
            }
            ColumnType::Text(_) | ColumnType::Uuid | ColumnType::Jsonb => {
                Self::Text(StringBuilder::new(), kind)
            }
            ColumnType::Bytea => Self::Bytea(BinaryBuilder::new()),
            ColumnType::Date => Self::Date(Date32Builder::new()),
            ColumnType::Timestamptz => {
                Self::Time(TimestampMicrosecondBuilder::new().with_timezone("UTC"))
            }
        }
    }

    pub(crate) fn push(&mut self, value: &Value) -> Result<(), SqlError> {
        match (self, value) {
            (Self::Boolean(cells), Value::Boolean(value)) => cells.append_value(*value),
            (Self::Boolean(cells), Value::Null) => cells.append_null(),
            (Self::Smallint(cells), Value::Integer(value)) => {
                cells.append_value(i16::try_from(*value).map_err(|_| wrong(value))?);
            }
            (Self::Smallint(cells), Value::Null) => cells.append_null(),
            (Self::Integer(cells), Value::Integer(value)) => {
                cells.append_value(i32::try_from(*value).map_err(|_| wrong(value))?);
            }
            (Self::Integer(cells), Value::Null) => cells.append_null(),
            (Self::Bigint(cells), Value::Integer(value)) => cells.append_value(*value),
            (Self::Bigint(cells), Value::Null) => cells.append_null(),
            (Self::Numeric(cells), Value::Numeric(value)) => cells.append_value(*value),
            (Self::Numeric(cells), Value::Null) => cells.append_null(),
            (Self::Text(cells, _), Value::Null) => cells.append_null(),
            (Self::Text(cells, _), Value::Text(text) | Value::Json(text)) => {
                cells.append_value(text);
            }
            (Self::Text(cells, kind), value) => {
                cells.append_value(text_of(value, *kind).ok_or_else(|| wrong(value))?);
            }
            (Self::Bytea(cells), Value::Bytes(value)) => cells.append_value(value),
            (Self::Bytea(cells), Value::Null) => cells.append_null(),
            (Self::Date(cells), Value::Date(value)) => cells.append_value(*value),
            (Self::Date(cells), Value::Null) => cells.append_null(),
            (Self::Time(cells), Value::Timestamp(value)) => cells.append_value(*value),
            (Self::Time(cells), Value::Null) => cells.append_null(),
            (_, value) => return Err(wrong(value)),
        }
        Ok(())
    }

    pub(crate) fn finish(mut self) -> ArrayRef {
        match &mut self {
            Self::Boolean(cells) => Arc::new(cells.finish()),
            Self::Smallint(cells) => Arc::new(cells.finish()),
            Self::Integer(cells) => Arc::new(cells.finish()),
            Self::Bigint(cells) => Arc::new(cells.finish()),
            Self::Numeric(cells) => Arc::new(cells.finish()),
            Self::Text(cells, _) => Arc::new(cells.finish()),
            Self::Bytea(cells) => Arc::new(cells.finish()),
            Self::Date(cells) => Arc::new(cells.finish()),
            Self::Time(cells) => Arc::new(cells.finish()),
        }
    }
}

fn wrong(value: impl std::fmt::Debug) -> SqlError {
    SqlError::new(code::INTERNAL, format!("a column got {value:?}, which is of another type"))
}

/// The value of an array in a row, as a column takes it: assignments of PostgreSQL, numbers rounded
/// to the column's places with halves away from zero, texts read as values of the column's type.
pub(crate) fn value_at(array: &dyn Array, row: usize, kind: ColumnType) -> Result<Value, SqlError> {
    value_of_scalar(&ScalarValue::try_from_array(array, row)?, kind)
}

pub(crate) fn value_of_scalar(scalar: &ScalarValue, kind: ColumnType) -> Result<Value, SqlError> {
    if scalar.is_null() {
        return Ok(Value::Null);
    }
    let made = match (scalar, kind) {
        (ScalarValue::Dictionary(_, inner), _) => return value_of_scalar(inner, kind),
        (ScalarValue::Boolean(Some(value)), ColumnType::Boolean) => Value::Boolean(*value),
        (ScalarValue::Boolean(Some(value)), ColumnType::Text(_)) => Value::Text(value.to_string()),
        (ScalarValue::Date32(Some(days)), ColumnType::Date) => Value::Date(*days),
        (ScalarValue::Date32(Some(days)), ColumnType::Timestamptz) => {
            let time = i64::from(*days).checked_mul(86_400_000_000);
            Value::Timestamp(time.ok_or_else(|| out_of_range(kind))?)
        }
        (
            ScalarValue::Binary(Some(bytes))
            | ScalarValue::LargeBinary(Some(bytes))
            | ScalarValue::BinaryView(Some(bytes)),
            ColumnType::Bytea,
        ) => Value::Bytes(bytes.clone()),
        (_, ColumnType::Timestamptz | ColumnType::Date) if microseconds(scalar).is_some() => {
            let time = microseconds(scalar).unwrap_or_default();
            match kind {
                ColumnType::Date => Value::Date(day_of(time)?),
                _ => Value::Timestamp(time),
            }
        }
        (
            _,
            ColumnType::Smallint
            | ColumnType::Integer
            | ColumnType::Bigint
            | ColumnType::Numeric { .. },
        ) if decimal(scalar)?.is_some() => match decimal(scalar)? {
            Some((digits, places)) => number(digits, places, kind)?,
            None => Value::Null,
        },
        _ => match scalar.try_as_str() {
            Some(Some(text)) => match kind {
                ColumnType::Text(_) => Value::Text(text.to_owned()),
                // A time gives its day, as in PostgreSQL.
                ColumnType::Date => match value_of(kind, text) {
                    Err(error) => match value_of(ColumnType::Timestamptz, text) {
                        Ok(Value::Timestamp(time)) => Value::Date(day_of(time)?),
                        _ => return Err(error),
                    },
                    day => day?,
                },
                _ => value_of(kind, text)?,
            },
            _ => return of_another_type(scalar, kind),
        },
    };
    Ok(made)
}

/// Numbers and times become texts; nothing else becomes something of another kind by itself.
fn of_another_type(scalar: &ScalarValue, kind: ColumnType) -> Result<Value, SqlError> {
    if matches!(kind, ColumnType::Text(_)) {
        return Ok(Value::Text(scalar.to_string()));
    }
    let message = format!(
        "the expression is of type {}, the column of type {}",
        scalar.data_type(),
        crate::define::type_text(kind)
    );
    Err(SqlError::new(code::TYPE_MISMATCH, message).hint("cast it with CAST(… AS …)"))
}

/// The day of a time, in UTC.
fn day_of(time: i64) -> Result<i32, SqlError> {
    let days = time.div_euclid(86_400_000_000);
    i32::try_from(days).map_err(|_| out_of_range(ColumnType::Date))
}

fn out_of_range(kind: ColumnType) -> SqlError {
    let message = format!("value out of range for type {}", crate::define::type_text(kind));
    SqlError::new(code::OUT_OF_RANGE, message)
}

fn microseconds(scalar: &ScalarValue) -> Option<i64> {
    match scalar {
        ScalarValue::TimestampSecond(Some(time), _) => time.checked_mul(1_000_000),
        ScalarValue::TimestampMillisecond(Some(time), _) => time.checked_mul(1_000),
        ScalarValue::TimestampMicrosecond(Some(time), _) => Some(*time),
        ScalarValue::TimestampNanosecond(Some(time), _) => Some(time.div_euclid(1_000)),
        _ => None,
    }
}

/// Digits and places of a number. Floats come through their shortest decimal text.
fn decimal(scalar: &ScalarValue) -> Result<Option<(i128, i8)>, SqlError> {
    let too_large = || SqlError::new(code::OUT_OF_RANGE, "value out of range");
    Ok(Some(match scalar {
        ScalarValue::Int8(Some(value)) => (i128::from(*value), 0),
        ScalarValue::Int16(Some(value)) => (i128::from(*value), 0),
        ScalarValue::Int32(Some(value)) => (i128::from(*value), 0),
        ScalarValue::Int64(Some(value)) => (i128::from(*value), 0),
        ScalarValue::UInt8(Some(value)) => (i128::from(*value), 0),
        ScalarValue::UInt16(Some(value)) => (i128::from(*value), 0),
        ScalarValue::UInt32(Some(value)) => (i128::from(*value), 0),
        ScalarValue::UInt64(Some(value)) => (i128::from(*value), 0),
        ScalarValue::Decimal32(Some(value), _, places) => (i128::from(*value), *places),
        ScalarValue::Decimal64(Some(value), _, places) => (i128::from(*value), *places),
        ScalarValue::Decimal128(Some(value), _, places) => (*value, *places),
        ScalarValue::Decimal256(Some(value), _, places) => {
            // Many of the places can be zeros.
            let (mut value, mut places) = (*value, *places);
            let ten = datafusion::arrow::datatypes::i256::from_i128(10);
            while value.to_i128().is_none() && places > 0 && value % ten == Default::default() {
                (value, places) = (value / ten, places - 1);
            }
            (value.to_i128().ok_or_else(too_large)?, places)
        }
        ScalarValue::Float32(Some(value)) => of_text(&value.to_string())?,
        ScalarValue::Float64(Some(value)) => of_text(&value.to_string())?,
        _ => return Ok(None),
    }))
}

fn of_text(text: &str) -> Result<(i128, i8), SqlError> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{whole}{fraction}").parse::<i128>().ok();
    let places = i8::try_from(fraction.len()).ok();
    digits.zip(places).ok_or_else(|| {
        SqlError::new(code::OUT_OF_RANGE, format!("{text} can't be stored as a number"))
    })
}

/// A number of a column's type.
fn number(digits: i128, places: i8, kind: ColumnType) -> Result<Value, SqlError> {
    let wanted = match kind {
        ColumnType::Numeric { scale, .. } => i32::from(scale),
        _ => 0,
    };
    let shift = wanted - i32::from(places);
    let factor = 10i128.checked_pow(shift.unsigned_abs());
    let digits = match (factor, shift >= 0) {
        (Some(factor), true) => digits.checked_mul(factor).ok_or_else(|| out_of_range(kind))?,
        (None, true) if digits != 0 => return Err(out_of_range(kind)),
        (Some(factor), false) => {
            let (quotient, rest) = (digits / factor, digits % factor);
            let up = rest.unsigned_abs() >= factor.unsigned_abs().div_ceil(2);
            quotient + if up { digits.signum() } else { 0 }
        }
        _ => 0,
    };
    let value = match kind {
        ColumnType::Numeric { .. } => Value::Numeric(digits),
        _ => Value::Integer(i64::try_from(digits).map_err(|_| out_of_range(kind))?),
    };
    kind.check(&value).map_err(|_| out_of_range(kind))?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_to_the_columns_places_with_halves_away_from_zero() {
        let cents = ColumnType::Numeric { precision: 12, scale: 2 };
        let of = |digits, places| number(digits, places, cents).unwrap();
        assert_eq!(of(10_005, 3), Value::Numeric(1_001));
        assert_eq!(of(-10_005, 3), Value::Numeric(-1_001));
        assert_eq!(of(10_004, 3), Value::Numeric(1_000));
        assert_eq!(of(7, 0), Value::Numeric(700));
        assert_eq!(of(1, 30), Value::Numeric(0));
        assert_eq!(number(15, 1, ColumnType::Integer).unwrap(), Value::Integer(2));
        assert_eq!(number(25, 1, ColumnType::Integer).unwrap(), Value::Integer(3));
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused() {
        let cents = ColumnType::Numeric { precision: 4, scale: 2 };
        for (digits, kind) in
            [(100, cents), (1 << 15, ColumnType::Smallint), (1 << 31, ColumnType::Integer)]
        {
            assert_eq!(number(digits, 0, kind).unwrap_err().code, code::OUT_OF_RANGE);
        }
        assert_eq!(number(i128::MAX, 0, cents).unwrap_err().code, code::OUT_OF_RANGE);
    }
}
