//! Parameters as the wire carries them.

use crate::define::text_of;
use crate::error::{SqlError, code};
use datafusion::arrow::datatypes::i256;
use datafusion::common::ScalarValue;
use datafusion::sql::sqlparser::ast::{
    CastKind, DataType as SqlType, ExactNumberInfo, Expr, Statement, TimezoneInfo, UnaryOperator,
    Value as Literal, VisitMut as _, VisitorMut,
};
use kanjo_types::relation::ColumnType;
use kanjo_types::row::Value;
use pgwire::api::Type;
use std::ops::ControlFlow;

/// Microseconds from 1970 to 2000, where PostgreSQL begins to count.
const EPOCH_US: i64 = 946_684_800_000_000;
const EPOCH_DAYS: i32 = 10_957;

fn bad(of: &Type, what: &str) -> SqlError {
    SqlError::new(
        code::BAD_TEXT,
        format!("invalid input syntax for type {}: \"{what}\"", of.name()),
    )
}

/// The value of a parameter of a type; `None` is SQL's null.
pub(crate) fn value(
    of: &Type,
    bytes: Option<&[u8]>,
    binary: bool,
) -> Result<ScalarValue, SqlError> {
    let Some(bytes) = bytes else { return Ok(null(of)) };
    if binary { from_binary(of, bytes) } else { from_text(of, bytes) }
}

/// Puts values in the place of a statement's parameters.
pub(crate) fn fill(statement: &mut Statement, values: &[ScalarValue]) -> Result<(), SqlError> {
    struct Fill<'a>(&'a [ScalarValue]);
    impl VisitorMut for Fill<'_> {
        type Break = SqlError;
        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
            let Some(number) = number(expr) else { return ControlFlow::Continue(()) };
            let value = self.0.get(number.wrapping_sub(1));
            let Some(value) = value else {
                let message = format!("there is no parameter ${number}");
                return ControlFlow::Break(SqlError::new("42P02", message));
            };
            match literal(value) {
                Ok(literal) => *expr = literal,
                Err(error) => return ControlFlow::Break(error),
            }
            ControlFlow::Continue(())
        }
    }
    match statement.visit(&mut Fill(values)) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

/// The number of a parameter, `$1` and so on.
pub(crate) fn number(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Value(value) => match &value.value {
            Literal::Placeholder(name) => name.strip_prefix('$')?.parse().ok(),
            _ => None,
        },
        _ => None,
    }
}

/// A value as it would be written in a statement.
fn literal(value: &ScalarValue) -> Result<Expr, SqlError> {
    let plain = |literal: Literal| Ok(Expr::Value(literal.into()));
    let cast = |text: String, of: SqlType| {
        Ok(Expr::Cast {
            kind: CastKind::Cast,
            expr: Box::new(Expr::Value(Literal::SingleQuotedString(text).into())),
            data_type: of,
            array: false,
            format: None,
        })
    };
    if value.is_null() {
        return plain(Literal::Null);
    }
    match value {
        ScalarValue::Boolean(Some(value)) => plain(Literal::Boolean(*value)),
        ScalarValue::Int64(Some(value)) if *value == i64::MIN => {
            cast(value.to_string(), SqlType::BigInt(None))
        }
        ScalarValue::Int64(Some(value)) => Ok(signed(&value.to_string())),
        ScalarValue::Float64(Some(_)) => {
            cast(value.to_string(), SqlType::Double(ExactNumberInfo::None))
        }
        ScalarValue::Decimal128(..) | ScalarValue::Decimal256(..) => {
            Ok(signed(&decimal_text(value).unwrap_or_else(|| value.to_string())))
        }
        ScalarValue::Binary(Some(bytes)) => plain(Literal::HexStringLiteral(hex::encode(bytes))),
        ScalarValue::Utf8(Some(text)) => plain(Literal::SingleQuotedString(text.clone())),
        ScalarValue::Date32(Some(_)) => cast(value.to_string(), SqlType::Date),
        ScalarValue::TimestampMicrosecond(Some(time), _) => {
            let text = text_of(&Value::Timestamp(*time), ColumnType::Timestamptz);
            let text = text.ok_or_else(|| SqlError::new("22008", "timestamp out of range"))?;
            cast(text, SqlType::Timestamp(None, TimezoneInfo::Tz))
        }
        other => Err(SqlError::not_supported(format!("a parameter of type {}", other.data_type()))),
    }
}

/// A number, with its sign as an operator.
fn signed(text: &str) -> Expr {
    let number = |text: &str| Expr::Value(Literal::Number(text.to_owned(), false).into());
    match text.strip_prefix('-') {
        Some(rest) => Expr::Nested(Box::new(Expr::UnaryOp {
            op: UnaryOperator::Minus,
            expr: Box::new(number(rest)),
        })),
        None => number(text),
    }
}

/// A decimal with its point.
fn decimal_text(value: &ScalarValue) -> Option<String> {
    let (digits, places) = match value {
        ScalarValue::Decimal128(Some(digits), _, places) => (digits.to_string(), *places),
        ScalarValue::Decimal256(Some(digits), _, places) => (digits.to_string(), *places),
        _ => return None,
    };
    let places = usize::try_from(places).ok()?;
    let (sign, digits) = match digits.strip_prefix('-') {
        Some(rest) => ("-", rest.to_owned()),
        None => ("", digits),
    };
    let digits = format!("{digits:0>width$}", width = places + 1);
    let (whole, fraction) = digits.split_at_checked(digits.len().checked_sub(places)?)?;
    Some(match places {
        0 => format!("{sign}{whole}"),
        _ => format!("{sign}{whole}.{fraction}"),
    })
}

fn null(of: &Type) -> ScalarValue {
    match *of {
        Type::BOOL => ScalarValue::Boolean(None),
        Type::INT2 | Type::INT4 | Type::INT8 => ScalarValue::Int64(None),
        Type::FLOAT4 | Type::FLOAT8 => ScalarValue::Float64(None),
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME => ScalarValue::Utf8(None),
        _ => ScalarValue::Null,
    }
}

fn from_text(of: &Type, bytes: &[u8]) -> Result<ScalarValue, SqlError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| SqlError::new("22021", "a parameter is not UTF-8"))?;
    Ok(match *of {
        Type::BOOL => ScalarValue::Boolean(Some(match text.trim().to_lowercase().as_str() {
            "t" | "true" | "on" | "yes" | "1" => true,
            "f" | "false" | "off" | "no" | "0" => false,
            _ => return Err(bad(of, text)),
        })),
        Type::INT2 | Type::INT4 | Type::INT8 | Type::OID => {
            ScalarValue::Int64(Some(text.trim().parse().map_err(|_| bad(of, text))?))
        }
        Type::FLOAT4 | Type::FLOAT8 => {
            ScalarValue::Float64(Some(text.trim().parse().map_err(|_| bad(of, text))?))
        }
        Type::NUMERIC => decimal(text.trim()).ok_or_else(|| bad(of, text))?,
        Type::BYTEA => {
            let digits = text.strip_prefix("\\x").ok_or_else(|| bad(of, text))?;
            ScalarValue::Binary(Some(hex::decode(digits).map_err(|_| bad(of, text))?))
        }
        // Dates, times and what is not known: the planner casts the text.
        _ => ScalarValue::Utf8(Some(text.to_owned())),
    })
}

/// A decimal number with as many places as its text has, an exponent brought into it.
fn decimal(text: &str) -> Option<ScalarValue> {
    let (text, exponent) = match text.split_once(['e', 'E']) {
        Some((text, exponent)) => (text, exponent.parse::<i16>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let negative = whole.starts_with('-');
    let whole = whole.strip_prefix(['+', '-']).unwrap_or(whole);
    let mut digits = format!("{whole}{fraction}");
    if digits.is_empty()
        || digits.len() > 256
        || !digits.bytes().all(|digit| digit.is_ascii_digit())
    {
        return None;
    }
    let mut places = i16::try_from(fraction.len()).ok()?.checked_sub(exponent)?;
    if places < 0 {
        if digits.len() + usize::from(places.unsigned_abs()) > 256 {
            return None;
        }
        digits.extend(std::iter::repeat_n('0', usize::from(places.unsigned_abs())));
        places = 0;
    }
    let digits = digits.trim_start_matches('0');
    let digits = if digits.is_empty() { "0" } else { digits };
    let places = i8::try_from(places).ok().filter(|places| *places <= 38)?;
    let signed = if negative { format!("-{digits}") } else { digits.to_owned() };
    match signed.parse::<i128>() {
        Ok(number) if digits.len() <= 38 => Some(ScalarValue::Decimal128(Some(number), 38, places)),
        _ if digits.len() <= 76 => {
            Some(ScalarValue::Decimal256(Some(i256::from_string(&signed)?), 76, places))
        }
        _ => None,
    }
}

fn exact<const N: usize>(of: &Type, bytes: &[u8]) -> Result<[u8; N], SqlError> {
    <[u8; N]>::try_from(bytes).map_err(|_| {
        let message = format!("a {} parameter has {} bytes instead of {N}", of.name(), bytes.len());
        SqlError::new("22P03", message)
    })
}

fn from_binary(of: &Type, bytes: &[u8]) -> Result<ScalarValue, SqlError> {
    Ok(match *of {
        Type::BOOL => ScalarValue::Boolean(Some(exact::<1>(of, bytes)? != [0])),
        Type::INT2 => ScalarValue::Int64(Some(i16::from_be_bytes(exact(of, bytes)?).into())),
        Type::INT4 => ScalarValue::Int64(Some(i32::from_be_bytes(exact(of, bytes)?).into())),
        Type::OID => ScalarValue::Int64(Some(u32::from_be_bytes(exact(of, bytes)?).into())),
        Type::INT8 => ScalarValue::Int64(Some(i64::from_be_bytes(exact(of, bytes)?))),
        Type::FLOAT4 => ScalarValue::Float64(Some(f32::from_be_bytes(exact(of, bytes)?).into())),
        Type::FLOAT8 => ScalarValue::Float64(Some(f64::from_be_bytes(exact(of, bytes)?))),
        Type::BYTEA => ScalarValue::Binary(Some(bytes.to_vec())),
        Type::TIMESTAMP | Type::TIMESTAMPTZ => {
            let since_2000 = i64::from_be_bytes(exact(of, bytes)?);
            let time_us = since_2000
                .checked_add(EPOCH_US)
                .ok_or_else(|| SqlError::new("22008", "timestamp out of range"))?;
            let zone = (*of == Type::TIMESTAMPTZ).then(|| "UTC".into());
            ScalarValue::TimestampMicrosecond(Some(time_us), zone)
        }
        Type::DATE => {
            let days = i32::from_be_bytes(exact(of, bytes)?).checked_add(EPOCH_DAYS);
            let days = days.ok_or_else(|| SqlError::new("22008", "date out of range"))?;
            ScalarValue::Date32(Some(days))
        }
        Type::UUID => ScalarValue::Utf8(text_of(&Value::Uuid(exact(of, bytes)?), ColumnType::Uuid)),
        Type::JSONB => match bytes {
            [1, text @ ..] => from_text(&Type::TEXT, text)?,
            _ => return Err(bad(of, "another version of jsonb")),
        },
        Type::NUMERIC => numeric(of, bytes)?,
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::UNKNOWN => {
            return from_text(&Type::TEXT, bytes);
        }
        _ => {
            let message = format!("parameters of type {} are not taken in binary", of.name());
            return Err(SqlError::not_supported(message));
        }
    })
}

/// PostgreSQL's binary form of a decimal number.
fn numeric(of: &Type, bytes: &[u8]) -> Result<ScalarValue, SqlError> {
    let wrong = || SqlError::new("22P03", "a numeric parameter is not well formed");
    let words: Vec<u16> =
        bytes.as_chunks::<2>().0.iter().map(|word| u16::from_be_bytes(*word)).collect();
    let [count, weight, sign, places, groups @ ..] = words.as_slice() else { return Err(wrong()) };
    let places = usize::from(*places);
    if usize::from(*count) != groups.len() || places > 38 || groups.len() > 32 {
        return Err(wrong());
    }
    let negative = match sign {
        0 => false,
        0x4000 => true,
        _ => return Err(SqlError::not_supported("numeric NaN and infinity are not taken")),
    };
    let weight = i32::from(weight.cast_signed());
    if !(-32..=32).contains(&weight) {
        return Err(wrong());
    }
    let digits_of = |position: i32| {
        let at = usize::try_from(weight - position).ok();
        let group = at.and_then(|at| groups.get(at)).copied().unwrap_or(0);
        format!("{group:04}")
    };
    if groups.iter().any(|group| *group > 9_999) {
        return Err(wrong());
    }
    let whole: String = (0..=weight.max(0)).rev().map(digits_of).collect();
    let fraction: String = (1..=10).map(|position: i32| digits_of(-position)).collect();
    let fraction = fraction.get(..places).unwrap_or_default();
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let minus = if negative { "-" } else { "" };
    let text = match fraction.is_empty() {
        true => format!("{minus}{whole}"),
        false => format!("{minus}{whole}.{fraction}"),
    };
    decimal(&text).ok_or_else(|| bad(of, &text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;

    #[test]
    fn a_binary_numeric_is_read_as_it_was_written() {
        let texts = [
            "0",
            "1",
            "-1",
            "10000",
            "9999",
            "12.5",
            "-0.0001",
            "0.00000001",
            "123456789.987654321",
            "340282366920938463463374607431768211455",
            "99999999999999999999999999999999999999",
        ];
        for text in texts {
            let mut out = BytesMut::new();
            crate::encode::numeric(text, &mut out).unwrap();
            let read = value(&Type::NUMERIC, Some(&out), true).unwrap();
            assert_eq!(Some(read), decimal(text), "{text}");
        }
    }

    #[test]
    fn a_numeric_text_may_have_an_exponent() {
        let of = |text: &str| value(&Type::NUMERIC, Some(text.as_bytes()), false).unwrap();
        assert_eq!(of("1E+5"), ScalarValue::Decimal128(Some(100_000), 38, 0));
        assert_eq!(of("-12.5e-1"), ScalarValue::Decimal128(Some(-125), 38, 2));
    }

    #[test]
    fn what_is_no_value_is_refused() {
        assert_eq!(value(&Type::INT8, Some(b"12x"), false).unwrap_err().code, code::BAD_TEXT);
        assert_eq!(value(&Type::INT8, Some(b"12"), true).unwrap_err().code, "22P03");
        for bad in ["", "-", "1-2", "1.-2", "abc", ".", "NaN", "1e", "1e99999", "1.2.3", "--1"] {
            let read = value(&Type::NUMERIC, Some(bad.as_bytes()), false);
            assert!(read.is_err(), "{bad}: {read:?}");
        }
    }
}
