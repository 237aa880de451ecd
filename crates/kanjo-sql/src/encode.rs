//! Rows as the wire carries them, in text and in binary.

use crate::error::{SqlError, code};
use crate::tables::cells::WIRE_TYPE;
use crate::tables::values::DISPLAY_PLACES;
use bytes::{BufMut, BytesMut};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Field, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, Schema,
    TimeUnit, TimestampMicrosecondType,
};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use kanjo_types::relation::ColumnType;
use pgwire::api::Type;
use pgwire::api::portal::Format;
use pgwire::api::results::{FieldFormat, FieldInfo};
use pgwire::messages::data::DataRow;
use std::fmt::Write as _;
use std::sync::Arc;

/// Microseconds from 1970 to 2000, where PostgreSQL begins to count.
const EPOCH_US: i64 = 946_684_800_000_000;
/// The same in days.
const EPOCH_DAYS: i32 = 10_957;

/// PostgreSQL's type for one of the engine's.
pub(crate) fn wire_type(of: &DataType) -> Type {
    match of {
        DataType::Boolean => Type::BOOL,
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => Type::INT2,
        DataType::Int32 | DataType::UInt16 => Type::INT4,
        DataType::Int64 | DataType::UInt32 => Type::INT8,
        DataType::UInt64
        | DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => Type::NUMERIC,
        DataType::Float16 | DataType::Float32 => Type::FLOAT4,
        DataType::Float64 => Type::FLOAT8,
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => Type::BYTEA,
        DataType::Date32 | DataType::Date64 => Type::DATE,
        DataType::Timestamp(_, None) => Type::TIMESTAMP,
        DataType::Timestamp(_, Some(_)) => Type::TIMESTAMPTZ,
        DataType::Dictionary(_, inner) => wire_type(inner),
        _ => Type::TEXT,
    }
}

/// PostgreSQL's type for a column of a table of users.
pub(crate) fn type_of_column(kind: ColumnType) -> Type {
    match kind {
        ColumnType::Boolean => Type::BOOL,
        ColumnType::Smallint => Type::INT2,
        ColumnType::Integer => Type::INT4,
        ColumnType::Bigint => Type::INT8,
        ColumnType::Numeric { .. } => Type::NUMERIC,
        ColumnType::Text(_) => Type::TEXT,
        ColumnType::Bytea => Type::BYTEA,
        ColumnType::Uuid => Type::UUID,
        ColumnType::Date => Type::DATE,
        ColumnType::Timestamptz => Type::TIMESTAMPTZ,
        ColumnType::Jsonb => Type::JSONB,
    }
}

/// PostgreSQL's type for a field: the engine keeps some of them as texts and says so beside.
fn field_type(field: &Field) -> Type {
    match field.metadata().get(WIRE_TYPE).map(String::as_str) {
        Some("uuid") => Type::UUID,
        Some("jsonb") => Type::JSONB,
        _ => wire_type(field.data_type()),
    }
}

/// The engine's type that values of a wire type are brought to before they are written.
fn plain_type(of: &Type) -> DataType {
    match *of {
        Type::BOOL => DataType::Boolean,
        Type::INT2 => DataType::Int16,
        Type::INT4 => DataType::Int32,
        Type::INT8 => DataType::Int64,
        Type::FLOAT4 => DataType::Float32,
        Type::FLOAT8 => DataType::Float64,
        Type::BYTEA => DataType::Binary,
        Type::DATE => DataType::Date32,
        // Always UTC: the zone is written behind it.
        Type::TIMESTAMP | Type::TIMESTAMPTZ => DataType::Timestamp(TimeUnit::Microsecond, None),
        _ => DataType::Utf8,
    }
}

/// Columns of a result.
pub(crate) fn fields(schema: &Schema, format: Option<&Format>) -> Result<Vec<FieldInfo>, SqlError> {
    if let Some(Format::Individual(codes)) = format
        && codes.len() != schema.fields().len()
    {
        let message = format!(
            "{} result formats were given for {} columns",
            codes.len(),
            schema.fields().len()
        );
        return Err(SqlError::new(code::PROTOCOL, message));
    }
    let fields = schema.fields().iter().enumerate().map(|(at, field)| {
        let format = format.map_or(FieldFormat::Text, |format| format.format_for(at));
        FieldInfo::new(field.name().clone(), None, None, field_type(field), format)
    });
    Ok(fields.collect())
}

/// A column of a batch, ready to be written.
struct Ready<'a> {
    array: ArrayRef,
    of: &'a Type,
    binary: bool,
}

/// The rows of a batch.
pub(crate) fn rows(batch: &RecordBatch, fields: &[FieldInfo]) -> Result<Vec<DataRow>, SqlError> {
    if batch.num_columns() != fields.len() {
        let message = "the result has other columns than were described";
        return Err(SqlError::new(code::INTERNAL, message));
    }
    let columns: Vec<Ready<'_>> = batch
        .columns()
        .iter()
        .zip(fields)
        .map(|(array, field)| {
            let of = field.datatype();
            let binary = field.format() == FieldFormat::Binary;
            Ok(Ready { array: ready(array, of)?, of, binary })
        })
        .collect::<Result<_, SqlError>>()?;
    let count = i16::try_from(columns.len());
    let count = count.map_err(|_| SqlError::new(code::LIMIT_EXCEEDED, "too many columns"))?;
    let mut rows = Vec::with_capacity(batch.num_rows());
    let mut text = String::new();
    for row in 0..batch.num_rows() {
        let mut out = BytesMut::with_capacity(32 * columns.len());
        for column in &columns {
            if column.array.is_null(row) {
                out.put_i32(-1);
                continue;
            }
            let start = out.len();
            out.put_i32(0);
            match column.binary {
                true => binary(column, row, &mut text, &mut out)?,
                false => {
                    write_text(column, row, &mut text)?;
                    out.put_slice(text.as_bytes());
                }
            }
            let length = i32::try_from(out.len() - start - 4);
            let length =
                length.map_err(|_| SqlError::new(code::LIMIT_EXCEEDED, "a value is too long"))?;
            if let Some(place) = out.get_mut(start..start + 4) {
                place.copy_from_slice(&length.to_be_bytes());
            }
        }
        rows.push(DataRow::new(out, count));
    }
    Ok(rows)
}

fn ready(array: &ArrayRef, of: &Type) -> Result<ArrayRef, SqlError> {
    let decimal = matches!(array.data_type(), DataType::Decimal128(..) | DataType::Decimal256(..));
    if *of == Type::NUMERIC && decimal {
        return Ok(Arc::clone(array));
    }
    let plain = plain_type(of);
    if *array.data_type() == plain {
        return Ok(Arc::clone(array));
    }
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    if let DataType::Timestamp(unit, Some(_)) = array.data_type() {
        let naive = DataType::Timestamp(*unit, None);
        // The number stays what it is: only the zone goes.
        let data = array.to_data().into_builder().data_type(naive).build()?;
        let naive = datafusion::arrow::array::make_array(data);
        return Ok(cast_with_options(&naive, &plain, &strict)?);
    }
    if plain != DataType::Utf8 {
        return Ok(cast_with_options(array, &plain, &strict)?);
    }
    // Lists, intervals and the like: in words.
    match cast_with_options(array, &plain, &strict) {
        Ok(text) => Ok(text),
        Err(_) => {
            let options = FormatOptions::default();
            let formatter = ArrayFormatter::try_new(array.as_ref(), &options)?;
            let texts = (0..array.len())
                .map(|row| (!array.is_null(row)).then(|| formatter.value(row).to_string()));
            let texts: datafusion::arrow::array::StringArray = texts.collect();
            Ok(Arc::new(texts))
        }
    }
}

fn numeric_text(array: &ArrayRef, row: usize, text: &mut String) {
    text.clear();
    match array.data_type() {
        DataType::Decimal128(..) => {
            let array = array.as_primitive::<datafusion::arrow::datatypes::Decimal128Type>();
            text.push_str(&array.value_as_string(row));
        }
        DataType::Decimal256(_, places) => {
            let array = array.as_primitive::<datafusion::arrow::datatypes::Decimal256Type>();
            text.push_str(&array.value_as_string(row));
            // Of the places that some token could have, those that this amount needs.
            if *places == DISPLAY_PLACES && text.contains('.') {
                let kept = text.trim_end_matches('0').trim_end_matches('.').len();
                text.truncate(kept);
            }
        }
        _ => text.push_str(array.as_string::<i32>().value(row)),
    }
}

fn write_text(column: &Ready<'_>, row: usize, text: &mut String) -> Result<(), SqlError> {
    let array = &column.array;
    text.clear();
    match *column.of {
        Type::NUMERIC => numeric_text(array, row, text),
        Type::BOOL => text.push(if array.as_boolean().value(row) { 't' } else { 'f' }),
        Type::BYTEA => {
            text.push_str("\\x");
            text.push_str(&hex::encode(array.as_binary::<i32>().value(row)));
        }
        Type::TIMESTAMP | Type::TIMESTAMPTZ => {
            let options =
                FormatOptions::default().with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.f"));
            let formatter = ArrayFormatter::try_new(array.as_ref(), &options)?;
            write_value(text, &formatter, row)?;
            if *column.of == Type::TIMESTAMPTZ {
                text.push_str("+00");
            }
        }
        Type::INT2 => push(text, array.as_primitive::<Int16Type>().value(row)),
        Type::INT4 => push(text, array.as_primitive::<Int32Type>().value(row)),
        Type::INT8 => push(text, array.as_primitive::<Int64Type>().value(row)),
        Type::FLOAT4 => push_float(text, array.as_primitive::<Float32Type>().value(row).into()),
        Type::FLOAT8 => push_float(text, array.as_primitive::<Float64Type>().value(row)),
        Type::DATE => {
            let options = FormatOptions::default();
            let formatter = ArrayFormatter::try_new(array.as_ref(), &options)?;
            write_value(text, &formatter, row)?;
        }
        _ => text.push_str(array.as_string::<i32>().value(row)),
    }
    Ok(())
}

fn push(text: &mut String, number: impl std::fmt::Display) {
    // Writing into a string can't fail.
    let _ = write!(text, "{number}");
}

fn push_float(text: &mut String, number: f64) {
    match number {
        number if number.is_nan() => text.push_str("NaN"),
        f64::INFINITY => text.push_str("Infinity"),
        f64::NEG_INFINITY => text.push_str("-Infinity"),
        number => push(text, number),
    }
}

fn write_value(
    text: &mut String,
    formatter: &ArrayFormatter<'_>,
    row: usize,
) -> Result<(), SqlError> {
    let written = write!(text, "{}", formatter.value(row).try_to_string()?);
    written.map_err(|error| SqlError::new(code::INTERNAL, error.to_string()))
}

fn binary(
    column: &Ready<'_>,
    row: usize,
    text: &mut String,
    out: &mut BytesMut,
) -> Result<(), SqlError> {
    let array = &column.array;
    match *column.of {
        Type::BOOL => out.put_u8(u8::from(array.as_boolean().value(row))),
        Type::INT2 => out.put_i16(array.as_primitive::<Int16Type>().value(row)),
        Type::INT4 => out.put_i32(array.as_primitive::<Int32Type>().value(row)),
        Type::INT8 => out.put_i64(array.as_primitive::<Int64Type>().value(row)),
        Type::FLOAT4 => out.put_f32(array.as_primitive::<Float32Type>().value(row)),
        Type::FLOAT8 => out.put_f64(array.as_primitive::<Float64Type>().value(row)),
        Type::BYTEA => out.put_slice(array.as_binary::<i32>().value(row)),
        Type::DATE => {
            let days = array.as_primitive::<Date32Type>().value(row);
            out.put_i32(days.saturating_sub(EPOCH_DAYS));
        }
        Type::TIMESTAMP | Type::TIMESTAMPTZ => {
            let time_us = array.as_primitive::<TimestampMicrosecondType>().value(row);
            out.put_i64(time_us.saturating_sub(EPOCH_US));
        }
        Type::NUMERIC => {
            numeric_text(array, row, text);
            numeric(text, out)?;
        }
        Type::UUID => {
            let text = array.as_string::<i32>().value(row).replace('-', "");
            let bytes = hex::decode(text);
            let bytes = bytes.map_err(|_| SqlError::new(code::INTERNAL, "a uuid is none"))?;
            out.put_slice(&bytes);
        }
        Type::JSONB => {
            // The version of the format.
            out.put_u8(1);
            out.put_slice(array.as_string::<i32>().value(row).as_bytes());
        }
        _ => out.put_slice(array.as_string::<i32>().value(row).as_bytes()),
    }
    Ok(())
}

/// A decimal number in PostgreSQL's binary form: groups of four digits around the point.
pub(crate) fn numeric(text: &str, out: &mut BytesMut) -> Result<(), SqlError> {
    let wrong = || SqlError::new(code::INTERNAL, format!("'{text}' is not a decimal number"));
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let padded_whole = format!("{}{whole}", "0".repeat((4 - whole.len() % 4) % 4));
    let padded_fraction = format!("{fraction}{}", "0".repeat((4 - fraction.len() % 4) % 4));
    let joined = format!("{padded_whole}{padded_fraction}");
    let groups: Vec<i16> = joined
        .as_bytes()
        .chunks(4)
        .map(|group| std::str::from_utf8(group).ok().and_then(|group| group.parse().ok()))
        .collect::<Option<_>>()
        .ok_or_else(wrong)?;
    let leading = groups.iter().take_while(|group| **group == 0).count();
    let trailing = groups.iter().rev().take_while(|group| **group == 0).count();
    let end = groups.len().saturating_sub(trailing);
    let kept = groups.get(leading..end).unwrap_or_default();
    let weight = (padded_whole.len() / 4) as i64 - 1 - leading as i64;
    let weight = if kept.is_empty() { 0 } else { i16::try_from(weight).map_err(|_| wrong())? };
    out.put_i16(i16::try_from(kept.len()).map_err(|_| wrong())?);
    out.put_i16(weight);
    out.put_u16(if negative && !kept.is_empty() { 0x4000 } else { 0 });
    out.put_i16(i16::try_from(fraction.len()).map_err(|_| wrong())?);
    kept.iter().for_each(|group| out.put_i16(*group));
    Ok(())
}
