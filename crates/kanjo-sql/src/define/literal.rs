//! Texts to values of columns and back, as PostgreSQL's input and output functions do it.

use super::types::type_text;
use super::{state, time};
use crate::error::{SqlError, code};
use kanjo_types::outcome::ResultCode;
use kanjo_types::relation::{ColumnType, PRECISION_MAX};
use kanjo_types::row::Value;

/// The value of a column's type that a text stands for. Never null: whoever calls it knows what
/// stands for null.
///
/// # Errors
/// 22P02 and 22007 where the text is not of the form, 22003 and 22008 where the value is outside of
/// the type, 22001 where it has too many characters, 22021 with a NUL.
pub(crate) fn value_of(kind: ColumnType, text: &str) -> Result<Value, SqlError> {
    let wrong = || invalid(kind, text);
    Ok(match kind {
        ColumnType::Boolean => Value::Boolean(boolean(text).ok_or_else(wrong)?),
        ColumnType::Smallint | ColumnType::Integer | ColumnType::Bigint => integer(kind, text)?,
        ColumnType::Numeric { scale, .. } => {
            let decimal = Decimal::read(text).ok_or_else(|| no_number(kind, text))?;
            let value = Value::Numeric(decimal.at_scale(scale).ok_or_else(|| overflow(kind))?);
            kind.check(&value).map_err(|_| overflow(kind))?;
            value
        }
        ColumnType::Text(most) => Value::Text(within(most, text)?.to_owned()),
        ColumnType::Bytea => Value::Bytes(bytes(text).ok_or_else(wrong)?),
        ColumnType::Uuid => Value::Uuid(uuid(text).ok_or_else(wrong)?),
        ColumnType::Date => Value::Date(time::date_of(text)?),
        ColumnType::Timestamptz => Value::Timestamp(time::time_of(text)?),
        ColumnType::Jsonb => {
            let value = Value::Json(text.to_owned());
            kind.check(&value).map_err(|_| wrong())?;
            value
        }
    })
}

/// The text of a value, as PostgreSQL prints it; `None` for null.
pub(crate) fn text_of(value: &Value, kind: ColumnType) -> Option<String> {
    Some(match value {
        Value::Null => return None,
        Value::Boolean(value) => if *value { "t" } else { "f" }.to_owned(),
        Value::Integer(value) => value.to_string(),
        Value::Numeric(digits) => match kind {
            ColumnType::Numeric { scale, .. } => numeric_text(*digits, scale),
            _ => digits.to_string(),
        },
        Value::Text(text) | Value::Json(text) => text.clone(),
        Value::Bytes(bytes) => format!("\\x{}", hex::encode(bytes)),
        Value::Uuid(bytes) => {
            let digits = hex::encode(bytes);
            let cuts = [0..8, 8..12, 12..16, 16..20, 20..32];
            let groups: Vec<&str> = cuts.into_iter().filter_map(|cut| digits.get(cut)).collect();
            groups.join("-")
        }
        Value::Date(days) => time::date_text(*days),
        Value::Timestamp(time) => time::time_text(*time),
    })
}

fn numeric_text(digits: i128, scale: u8) -> String {
    let scale = usize::from(scale);
    let sign = if digits < 0 { "-" } else { "" };
    let shown = format!("{:0>width$}", digits.unsigned_abs(), width = scale + 1);
    match shown.split_at_checked(shown.len().saturating_sub(scale)) {
        Some((whole, fraction)) if scale > 0 => format!("{sign}{whole}.{fraction}"),
        _ => format!("{sign}{shown}"),
    }
}

fn invalid(kind: ColumnType, text: &str) -> SqlError {
    let name = type_text(kind);
    let name = if matches!(kind, ColumnType::Numeric { .. }) { "numeric" } else { &*name };
    let shown = super::shown(text);
    SqlError::new(code::BAD_TEXT, format!("invalid input syntax for type {name}: \"{shown}\""))
}

fn no_number(kind: ColumnType, text: &str) -> SqlError {
    let name = text.trim().trim_start_matches(['+', '-']).to_ascii_lowercase();
    match &*name {
        "nan" | "infinity" | "inf" => {
            SqlError::not_supported(format!("numeric values have no {}", text.trim()))
        }
        _ => invalid(kind, text),
    }
}

fn overflow(kind: ColumnType) -> SqlError {
    let error = SqlError::new(code::OUT_OF_RANGE, "numeric field overflow");
    match kind {
        ColumnType::Numeric { precision, scale } => error.hint(format!(
            "a field with precision {precision}, scale {scale} must round to an absolute value less \
             than 10^{}",
            precision.saturating_sub(scale)
        )),
        _ => error,
    }
}

/// Any beginning of true, false, yes, no, on, off that belongs to one of them only, 1 or 0.
fn boolean(text: &str) -> Option<bool> {
    let text = text.trim().to_ascii_lowercase();
    Some(match &*text {
        "t" | "tr" | "tru" | "true" | "y" | "ye" | "yes" | "on" | "1" => true,
        "f" | "fa" | "fal" | "fals" | "false" | "n" | "no" | "of" | "off" | "0" => false,
        _ => return None,
    })
}

fn integer(kind: ColumnType, text: &str) -> Result<Value, SqlError> {
    let digits = text.trim();
    let unsigned = digits.strip_prefix(['+', '-']).unwrap_or(digits);
    if unsigned.is_empty() || !unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(invalid(kind, text));
    }
    let value = digits.parse().ok().map(Value::Integer);
    let value = value.filter(|value| kind.check(value).is_ok());
    value.ok_or_else(|| {
        let (shown, name) = (super::shown(text), type_text(kind));
        let message = format!("value \"{shown}\" is out of range for type {name}");
        SqlError::new(code::OUT_OF_RANGE, message)
    })
}

/// A text of at most so many characters. As in PostgreSQL, spaces at the end that are too many are
/// left out.
fn within(most: Option<u32>, text: &str) -> Result<&str, SqlError> {
    if text.contains('\0') {
        return Err(SqlError::new("22021", "texts have no zero byte"));
    }
    let Some(most) = most else { return Ok(text) };
    let end = text.char_indices().nth(most as usize).map(|(at, _)| at);
    match end.and_then(|end| text.split_at_checked(end)) {
        None => Ok(text),
        Some((kept, spaces)) if spaces.bytes().all(|byte| byte == b' ') => Ok(kept),
        Some(_) => Err(SqlError::new(
            "22001",
            format!("value too long for type character varying({most})"),
        )),
    }
}

/// `\x` and hexadecimal digits, or the escape form: `\\`, `\123`, other characters as they are.
fn bytes(text: &str) -> Option<Vec<u8>> {
    if let Some(digits) = text.strip_prefix("\\x") {
        let digits: String = digits.chars().filter(|digit| !digit.is_ascii_whitespace()).collect();
        return hex::decode(digits).ok();
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    loop {
        rest = match rest {
            [] => return Some(out),
            [b'\\', b'\\', rest @ ..] => {
                out.push(b'\\');
                rest
            }
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', rest @ ..] => {
                out.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                rest
            }
            [b'\\', ..] => return None,
            [byte, rest @ ..] => {
                out.push(*byte);
                rest
            }
        }
    }
}

/// 32 hexadecimal digits, a hyphen behind any group of four, all of it in braces or not.
fn uuid(text: &str) -> Option<[u8; 16]> {
    let text = text.trim();
    let inner = text.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')).unwrap_or(text);
    let mut digits = String::with_capacity(32);
    let mut hyphen = true;
    for character in inner.chars() {
        let between = !hyphen && digits.len().is_multiple_of(4);
        match character {
            '-' if between => hyphen = true,
            '-' => return None,
            _ => {
                digits.push(character);
                hyphen = false;
            }
        }
    }
    let ends_in_digit = !hyphen && digits.len() == 32;
    hex::decode(digits).ok().filter(|_| ends_in_digit)?.try_into().ok()
}

/// A decimal fraction as it was written.
struct Decimal {
    negative: bool,
    /// Significant digits, 0 … 9, without leading zeros.
    digits: Vec<u8>,
    /// How many of the digits are behind the point; below 0, so many zeros are missing before it.
    scale: i64,
}

/// More than any type has digits, and no exponent that is larger makes a difference.
const EXPONENT_MAX: i64 = 1_000_000;

impl Decimal {
    /// `12`, `-1.5`, `.5`, `5.`, `1e-3`.
    fn read(text: &str) -> Option<Self> {
        let text = text.trim();
        let negative = text.starts_with('-');
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
            None => (unsigned, 0),
        };
        if !(-EXPONENT_MAX..=EXPONENT_MAX).contains(&exponent) {
            return None;
        }
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = whole.bytes().chain(fraction.bytes());
        if mantissa.len() <= usize::from(mantissa.contains('.')) || !all.clone().all(is_digit) {
            return None;
        }
        let digits = all.map(|digit| digit - b'0').skip_while(|digit| *digit == 0).collect();
        let scale = i64::try_from(fraction.len()).ok()?.checked_sub(exponent)?;
        Some(Self { negative, digits, scale })
    }

    /// The digits at a scale, halves rounded away from zero. `None` when there are too many.
    fn at_scale(&self, scale: u8) -> Option<i128> {
        let most = i64::from(PRECISION_MAX);
        let count = i64::try_from(self.digits.len()).ok()?;
        let kept = count.checked_add(i64::from(scale))?.checked_sub(self.scale)?;
        if self.digits.is_empty() || kept < 0 {
            return Some(0);
        }
        if kept > most {
            return None;
        }
        let kept = usize::try_from(kept).ok()?;
        let padded = self.digits.iter().chain(std::iter::repeat(&0)).take(kept);
        let whole = padded.fold(0i128, |all, digit| all * 10 + i128::from(*digit));
        let up = self.digits.get(kept).is_some_and(|digit| *digit >= 5);
        let value = whole + i128::from(up);
        Some(if self.negative { -value } else { value })
    }
}

fn is_digit(byte: u8) -> bool {
    byte.is_ascii_digit()
}

/// Type and value of a number as it is written in a statement: integer, bigint, or a numeric of as
/// many digits as it has.
pub(super) fn number(text: &str) -> Result<(ColumnType, Value), SqlError> {
    let text = text.replace('_', "");
    let wrong = || SqlError::new(code::SYNTAX, format!("'{}' is no number", super::shown(&text)));
    let too_long = || {
        let message = format!("a number has at most {PRECISION_MAX} digits");
        SqlError::new(code::OUT_OF_RANGE, message)
    };
    if let Ok(value) = text.parse::<i64>() {
        let small = i32::try_from(value).is_ok();
        let kind = if small { ColumnType::Integer } else { ColumnType::Bigint };
        return Ok((kind, Value::Integer(value)));
    }
    let decimal = Decimal::read(&text).ok_or_else(wrong)?;
    let scale = u8::try_from(decimal.scale.max(0)).map_err(|_| too_long())?;
    let digits = decimal.at_scale(scale).ok_or_else(too_long)?;
    let count = u8::try_from(digits.unsigned_abs().to_string().len()).map_err(|_| too_long())?;
    let kind = ColumnType::Numeric { precision: count.max(scale).max(1), scale };
    let value = Value::Numeric(digits);
    let fits = kind.is_sound() && kind.check(&value).is_ok();
    if fits { Ok((kind, value)) } else { Err(too_long()) }
}

/// The error for a value that a type refuses.
pub(super) fn refused(result: ResultCode, kind: ColumnType) -> SqlError {
    let name = type_text(kind);
    match result {
        ResultCode::OutOfRange if !kind.is_integer() => overflow(kind),
        ResultCode::OutOfRange | ResultCode::ArithmeticOverflow => {
            SqlError::new(code::OUT_OF_RANGE, format!("{name} out of range"))
        }
        ResultCode::TextTooLong => {
            SqlError::new("22001", format!("value too long for type {name}"))
        }
        ResultCode::DivisionByZero => SqlError::new(code::DIVISION_BY_ZERO, "division by zero"),
        ResultCode::TooMuch => SqlError::new(state::TOO_LONG, "the expression takes too much work"),
        _ => {
            SqlError::new(code::INTERNAL, format!("the ledger refuses the expression: {result:?}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::define::testing::{any_type, any_value};
    use proptest::prelude::*;

    const PRICE: ColumnType = ColumnType::Numeric { precision: 6, scale: 2 };

    fn code_of(kind: ColumnType, text: &str) -> String {
        value_of(kind, text).unwrap_err().code.into_owned()
    }

    #[test]
    fn numerics_are_rounded_to_their_scale_and_bounded_by_their_precision() {
        for (text, digits) in [
            ("12", 1_200),
            ("-12.345", -1_235),
            ("12.344999", 1_234),
            (" .5 ", 50),
            ("5.", 500),
            ("1e3", 100_000),
            ("125e-3", 13),
            ("9999.99", 999_999),
            ("1e-1000", 0),
            ("000000000000000000000000000000000000000000000001", 100),
        ] {
            assert_eq!(value_of(PRICE, text), Ok(Value::Numeric(digits)), "{text}");
        }
        for text in ["10000", "9999.995", "1e4", "1e1000"] {
            assert_eq!(code_of(PRICE, text), "22003", "{text}");
        }
        for text in ["", ".", "1.2.3", "1,5", "e5", "1e", "--1", "0x10"] {
            assert_eq!(code_of(PRICE, text), "22P02", "{text}");
        }
        assert_eq!(code_of(PRICE, "NaN"), "0A000");
    }

    #[test]
    fn texts_that_are_no_value_of_a_type_are_refused() {
        use ColumnType::{Bigint, Boolean, Bytea, Integer, Jsonb, Smallint, Text, Uuid};
        for (kind, text, code) in [
            (Smallint, "32768", "22003"),
            (Integer, "-2147483649", "22003"),
            (Bigint, "9223372036854775808", "22003"),
            (Integer, "1.5", "22P02"),
            (Integer, "", "22P02"),
            (Boolean, "o", "22P02"),
            (Boolean, "maybe", "22P02"),
            (Text(Some(3)), "four", "22001"),
            (Text(None), "a\0b", "22021"),
            (Bytea, "\\xabc", "22P02"),
            (Bytea, "\\9", "22P02"),
            (Uuid, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1", "22P02"),
            (Uuid, "a0eebc99--9c0b-4ef8-bb6d-6bb9bd380a11", "22P02"),
            (Jsonb, "{", "22P02"),
        ] {
            assert_eq!(code_of(kind, text), code, "{kind:?} {text}");
        }
    }

    #[test]
    fn all_input_forms_of_postgresql_are_read() {
        use ColumnType::{Boolean, Bytea, Integer, Text, Uuid};
        let uuid = value_of(Uuid, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11").unwrap();
        for text in [
            "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
            "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
            "a0eebc999c0b4ef8bb6d6bb9bd380a11",
            "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
        ] {
            assert_eq!(value_of(Uuid, text), Ok(uuid.clone()), "{text}");
        }
        assert_eq!(value_of(Bytea, "a\\\\b\\001"), Ok(Value::Bytes(b"a\\b\x01".to_vec())));
        assert_eq!(value_of(Bytea, "\\xDE ad"), Ok(Value::Bytes(vec![0xde, 0xad])));
        assert_eq!(value_of(Boolean, " Yes "), Ok(Value::Boolean(true)));
        assert_eq!(value_of(Integer, " +7 "), Ok(Value::Integer(7)));
        assert_eq!(value_of(Text(Some(3)), "öäü  "), Ok(Value::Text("öäü".to_owned())));
    }

    #[test]
    fn numbers_have_the_type_of_their_digits() {
        let numeric = |precision, scale| ColumnType::Numeric { precision, scale };
        for (text, kind, value) in [
            ("5", ColumnType::Integer, Value::Integer(5)),
            ("-2147483648", ColumnType::Integer, Value::Integer(-2_147_483_648)),
            ("2147483648", ColumnType::Bigint, Value::Integer(2_147_483_648)),
            ("9223372036854775808", numeric(19, 0), Value::Numeric(9_223_372_036_854_775_808)),
            ("1.50", numeric(3, 2), Value::Numeric(150)),
            (".05", numeric(2, 2), Value::Numeric(5)),
            ("1e3", numeric(4, 0), Value::Numeric(1_000)),
            ("1_000", ColumnType::Integer, Value::Integer(1_000)),
        ] {
            assert_eq!(number(text), Ok((kind, value)), "{text}");
        }
        assert_eq!(number(&"9".repeat(39)).unwrap_err().code, "22003");
        assert_eq!(number("1e-39").unwrap_err().code, "22003");
    }

    proptest! {
        #[test]
        fn every_value_has_a_text_that_stands_for_it(
            (kind, value) in any_type().prop_flat_map(|kind| (Just(kind), any_value(kind))),
        ) {
            match text_of(&value, kind) {
                Some(text) => prop_assert_eq!(value_of(kind, &text), Ok(value)),
                None => prop_assert!(value.is_null()),
            }
        }

        #[test]
        fn no_text_ends_the_process(kind in any_type(), text in any::<String>()) {
            if let Ok(value) = value_of(kind, &text) {
                prop_assert!(kind.check(&value).is_ok());
            }
            let _ = number(&text);
        }
    }
}
