//! Types of columns by the names that PostgreSQL has for them.

use super::{fold, state};
use crate::error::{SqlError, code};
use datafusion::sql::sqlparser::ast::{
    CharacterLength, DataType, ExactNumberInfo, ObjectNamePart, TimezoneInfo,
};
use kanjo_types::relation::{CHARACTERS_MAX, ColumnType, PRECISION_MAX};

/// What `numeric` without a precision is here. PostgreSQL's has no bounds; ours has 38 digits, of
/// which 9 behind the point leave 29 before it.
pub(crate) const NUMERIC: ColumnType = ColumnType::Numeric { precision: PRECISION_MAX, scale: 9 };

/// PostgreSQL's name of a type.
pub(crate) fn type_text(kind: ColumnType) -> String {
    match kind {
        ColumnType::Boolean => "boolean".to_owned(),
        ColumnType::Smallint => "smallint".to_owned(),
        ColumnType::Integer => "integer".to_owned(),
        ColumnType::Bigint => "bigint".to_owned(),
        ColumnType::Numeric { precision, scale } => format!("numeric({precision},{scale})"),
        ColumnType::Text(None) => "text".to_owned(),
        ColumnType::Text(Some(most)) => format!("character varying({most})"),
        ColumnType::Bytea => "bytea".to_owned(),
        ColumnType::Uuid => "uuid".to_owned(),
        ColumnType::Date => "date".to_owned(),
        ColumnType::Timestamptz => "timestamp with time zone".to_owned(),
        ColumnType::Jsonb => "jsonb".to_owned(),
    }
}

/// The type that a name stands for. `json` is `jsonb`, which is kept as it was written; `varchar`
/// without a length is `text`; `numeric` alone is [`NUMERIC`].
///
/// # Errors
/// 0A000 for types of PostgreSQL that are not here, with the reason; 42704 for unknown ones; 22023
/// for a precision, scale or length outside of its bounds.
pub(crate) fn column_type(of: &DataType) -> Result<ColumnType, SqlError> {
    Ok(match of {
        DataType::Bool | DataType::Boolean => ColumnType::Boolean,
        DataType::SmallInt(None) | DataType::Int2(None) => ColumnType::Smallint,
        DataType::Int(None) | DataType::Integer(None) | DataType::Int4(None) => ColumnType::Integer,
        DataType::BigInt(None) | DataType::Int8(None) => ColumnType::Bigint,
        DataType::Numeric(info) | DataType::Decimal(info) | DataType::Dec(info) => numeric(info)?,
        DataType::Text => ColumnType::Text(None),
        DataType::Varchar(length)
        | DataType::CharacterVarying(length)
        | DataType::CharVarying(length) => ColumnType::Text(characters(length.as_ref())?),
        DataType::Bytea => ColumnType::Bytea,
        DataType::Uuid => ColumnType::Uuid,
        DataType::Date => ColumnType::Date,
        DataType::Timestamp(digits, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz) => {
            if digits.is_some_and(|digits| digits != 6) {
                let message = format!("{of} is not supported: times have six digits of a second");
                return Err(SqlError::not_supported(message).hint("use timestamptz"));
            }
            ColumnType::Timestamptz
        }
        DataType::JSON | DataType::JSONB => ColumnType::Jsonb,
        other => return Err(refused(other)),
    })
}

/// The integer type of a `serial`, whose rows planners number.
pub(super) fn serial(of: &DataType) -> Option<ColumnType> {
    let DataType::Custom(name, arguments) = of else { return None };
    let [ObjectNamePart::Identifier(name)] = &name.0[..] else { return None };
    match &*fold(name) {
        _ if !arguments.is_empty() => None,
        "smallserial" | "serial2" => Some(ColumnType::Smallint),
        "serial" | "serial4" => Some(ColumnType::Integer),
        "bigserial" | "serial8" => Some(ColumnType::Bigint),
        _ => None,
    }
}

/// Is it `numeric` without a precision?
pub(super) fn is_plain_numeric(of: &DataType) -> bool {
    matches!(
        of,
        DataType::Numeric(ExactNumberInfo::None)
            | DataType::Decimal(ExactNumberInfo::None)
            | DataType::Dec(ExactNumberInfo::None)
    )
}

fn numeric(info: &ExactNumberInfo) -> Result<ColumnType, SqlError> {
    let (precision, scale) = match info {
        ExactNumberInfo::None => return Ok(NUMERIC),
        ExactNumberInfo::Precision(precision) => (*precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (*precision, *scale),
    };
    let kind = match (u8::try_from(precision), u8::try_from(scale)) {
        (Ok(precision), Ok(scale)) => Some(ColumnType::Numeric { precision, scale }),
        _ => None,
    };
    kind.filter(|kind| kind.is_sound()).ok_or_else(|| {
        let message = format!("numeric({precision},{scale}) is outside of what there is");
        SqlError::new(code::BAD_VALUE, message).hint(format!(
            "the precision is between 1 and {PRECISION_MAX}, the scale between 0 and the precision"
        ))
    })
}

fn characters(length: Option<&CharacterLength>) -> Result<Option<u32>, SqlError> {
    let most = match length {
        None | Some(CharacterLength::Max) => return Ok(None),
        Some(CharacterLength::IntegerLength { length, .. }) => *length,
    };
    let most = u32::try_from(most).ok().filter(|most| (1..=CHARACTERS_MAX).contains(most));
    most.map(Some).ok_or_else(|| {
        let message = format!("length for type varchar must be between 1 and {CHARACTERS_MAX}");
        SqlError::new(code::BAD_VALUE, message).hint("text has no length to declare")
    })
}

/// Says which type is not here, why, and what to take.
fn refused(of: &DataType) -> SqlError {
    let (why, hint) = match of {
        DataType::Real
        | DataType::Float(_)
        | DataType::Float4
        | DataType::Float8
        | DataType::Double(_)
        | DataType::DoublePrecision => {
            ("replicas must agree in every digit, floating point does not promise it", "numeric")
        }
        DataType::Char(_) | DataType::Character(_) => {
            ("its blanks would make equal texts of different bytes", "varchar(n) or text")
        }
        DataType::Timestamp(..) | DataType::Datetime(_) => {
            ("a time without a zone is no moment", "timestamptz, which is in UTC")
        }
        DataType::Time(..) => ("there are only dates and moments", "timestamptz, text or integer"),
        DataType::Interval { .. } => ("its months have no length", "an integer of days or seconds"),
        DataType::Array(_) => ("a column has one value", "a table of its own, or jsonb"),
        DataType::Bit(_) | DataType::BitVarying(_) | DataType::VarBit(_) => {
            ("there are no bit strings", "bytea or boolean")
        }
        DataType::TsVector | DataType::TsQuery => ("there is no text search", "text"),
        DataType::GeometricType(_) => ("there is no geometry", "numeric columns, or jsonb"),
        DataType::Regclass => ("the catalog's numbers are the node's own", "text"),
        DataType::Custom(name, _) => return custom(&name.to_string().to_lowercase()),
        other => return unknown(&other.to_string().to_lowercase()),
    };
    let name = of.to_string().to_lowercase();
    SqlError::not_supported(format!("type {name} is not supported: {why}"))
        .hint(format!("use {hint}"))
}

fn custom(name: &str) -> SqlError {
    let (why, hint) = match name.trim_start_matches("pg_catalog.") {
        "money" => ("its form depends on the locale", "numeric(19,2)"),
        "inet" | "cidr" | "macaddr" | "macaddr8" => ("there are no network addresses", "text"),
        "xml" => ("there is no XML", "text"),
        "bpchar" | "\"char\"" | "name" => ("it is a kind of fixed text", "text"),
        "citext" => ("texts are compared by their bytes", "text, and CHECK (x = lower(x))"),
        "hstore" => ("it is an extension", "jsonb"),
        "oid" | "xid" | "regtype" => ("the catalog's numbers are the node's own", "bigint"),
        _ => return unknown(name),
    };
    SqlError::not_supported(format!("type {name} is not supported: {why}"))
        .hint(format!("use {hint}"))
}

fn unknown(name: &str) -> SqlError {
    SqlError::new(state::UNDEFINED, format!("type \"{name}\" does not exist"))
}
