//! Errors with PostgreSQL's codes.

use datafusion::arrow::error::ArrowError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use kanjo_view::{LogError, SnapshotError};
use pgwire::error::{ErrorInfo, PgWireError};
use std::borrow::Cow;

/// SQLSTATE codes that are used here.
pub(crate) mod code {
    pub(crate) const NOT_SUPPORTED: &str = "0A000";
    pub(crate) const PROTOCOL: &str = "08P01";
    pub(crate) const OUT_OF_RANGE: &str = "22003";
    pub(crate) const DIVISION_BY_ZERO: &str = "22012";
    pub(crate) const BAD_VALUE: &str = "22023";
    pub(crate) const BAD_TEXT: &str = "22P02";
    pub(crate) const IN_FAILED_TRANSACTION: &str = "25P02";
    pub(crate) const NOT_PERMITTED: &str = "42501";
    pub(crate) const SYNTAX: &str = "42601";
    pub(crate) const NO_COLUMN: &str = "42703";
    pub(crate) const NO_FUNCTION: &str = "42883";
    pub(crate) const NO_TABLE: &str = "42P01";
    pub(crate) const AMBIGUOUS: &str = "42702";
    pub(crate) const GROUPING: &str = "42803";
    pub(crate) const TYPE_MISMATCH: &str = "42804";
    pub(crate) const OUT_OF_MEMORY: &str = "53200";
    pub(crate) const TOO_MANY_CONNECTIONS: &str = "53300";
    pub(crate) const LIMIT_EXCEEDED: &str = "54000";
    pub(crate) const TOO_COMPLEX: &str = "54001";
    pub(crate) const UNAVAILABLE: &str = "57P03";
    pub(crate) const CANCELED: &str = "57014";
    pub(crate) const IO: &str = "58030";
    pub(crate) const SNAPSHOT_TOO_OLD: &str = "72000";
    pub(crate) const INTERNAL: &str = "XX000";
}

/// A statement failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} (SQLSTATE {code})")]
pub struct SqlError {
    /// SQLSTATE, as in PostgreSQL's appendix A.
    pub code: Cow<'static, str>,
    /// What went wrong.
    pub message: String,
    /// Which values it was about.
    pub detail: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// Where in the statement, counted in characters from 1.
    pub position: Option<usize>,
}

impl SqlError {
    pub(crate) fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
            detail: None,
            hint: None,
            position: None,
        }
    }

    pub(crate) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn at(mut self, position: Option<usize>) -> Self {
        self.position = position;
        self
    }

    pub(crate) fn not_supported(what: impl Into<String>) -> Self {
        Self::new(code::NOT_SUPPORTED, what)
    }

    pub(crate) fn canceled(why: &str) -> Self {
        Self::new(code::CANCELED, format!("canceling statement due to {why}"))
    }
}

impl From<SnapshotError> for SqlError {
    fn from(error: SnapshotError) -> Self {
        let code = match error {
            SnapshotError::TooMany(_) => code::TOO_MANY_CONNECTIONS,
            SnapshotError::Expired(_) => code::SNAPSHOT_TOO_OLD,
        };
        Self::new(code, error.to_string())
    }
}

impl From<LogError> for SqlError {
    fn from(error: LogError) -> Self {
        Self::new(code::IO, error.to_string())
    }
}

impl From<SqlError> for DataFusionError {
    fn from(error: SqlError) -> Self {
        Self::External(Box::new(error))
    }
}

impl From<SqlError> for PgWireError {
    fn from(error: SqlError) -> Self {
        Self::UserError(Box::new(info(error)))
    }
}

/// As the wire carries it.
fn info(error: SqlError) -> ErrorInfo {
    let SqlError { code, message, detail, hint, position } = error;
    let mut info = ErrorInfo::new("ERROR".to_owned(), code.into_owned(), message);
    info.detail = detail;
    info.severity_nonlocalized = Some("ERROR".to_owned());
    info.hint = hint;
    info.position = position.map(|position| position.to_string());
    info
}

impl From<ArrowError> for SqlError {
    fn from(error: ArrowError) -> Self {
        let message = error.to_string();
        match error {
            ArrowError::ArithmeticOverflow(_) => Self::new(code::OUT_OF_RANGE, out_of_range()),
            ArrowError::DivideByZero => Self::new(code::DIVISION_BY_ZERO, "division by zero"),
            ArrowError::CastError(_) | ArrowError::ParseError(_) => cast(message),
            ArrowError::InvalidArgumentError(_) if is_too_large(&message) => {
                Self::new(code::OUT_OF_RANGE, out_of_range())
            }
            ArrowError::ExternalError(inner) => match inner.downcast::<DataFusionError>() {
                Ok(inner) => Self::from(*inner),
                Err(inner) => match inner.downcast::<Self>() {
                    Ok(inner) => *inner,
                    Err(inner) => Self::new(code::INTERNAL, inner.to_string()),
                },
            },
            ArrowError::NotYetImplemented(text) => Self::not_supported(text),
            ArrowError::MemoryError(text) => Self::new(code::OUT_OF_MEMORY, text),
            _ => Self::new(code::INTERNAL, message),
        }
    }
}

fn out_of_range() -> &'static str {
    "value out of range"
}

fn is_too_large(message: &str) -> bool {
    let words = ["too large to store", "too small to store", "out of range", "verflow"];
    words.iter().any(|words| message.contains(words))
}

/// Of a text that is no value of a type, or a number that does not fit.
fn cast(message: String) -> SqlError {
    if is_too_large(&message) || message.contains("Can't cast value") {
        return SqlError::new(code::OUT_OF_RANGE, message);
    }
    SqlError::new(code::BAD_TEXT, message)
}

impl From<DataFusionError> for SqlError {
    fn from(error: DataFusionError) -> Self {
        match error {
            DataFusionError::ArrowError(error, _) => Self::from(*error),
            DataFusionError::External(inner) => match inner.downcast::<Self>() {
                Ok(inner) => *inner,
                Err(inner) => Self::new(code::INTERNAL, inner.to_string()),
            },
            DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => {
                Self::from(*inner)
            }
            DataFusionError::Collection(mut errors) => match errors.pop() {
                Some(error) => Self::from(error),
                None => Self::new(code::INTERNAL, "no error"),
            },
            DataFusionError::Shared(inner) => shared(&inner),
            DataFusionError::SQL(error, _) => Self::new(code::SYNTAX, error.to_string()),
            DataFusionError::SchemaError(error, _) => schema(&error),
            DataFusionError::NotImplemented(text) => Self::not_supported(text),
            DataFusionError::ResourcesExhausted(text) => Self::new(
                code::OUT_OF_MEMORY,
                format!("the statement needs too much memory: {text}"),
            ),
            DataFusionError::Plan(text) => plan(text),
            DataFusionError::Execution(text) => execution(text),
            other => Self::new(code::INTERNAL, other.strip_backtrace()),
        }
    }
}

/// An error that several readers wait for.
fn shared(error: &DataFusionError) -> SqlError {
    match error.find_root() {
        DataFusionError::ArrowError(error, _) => match error.as_ref() {
            ArrowError::ArithmeticOverflow(_) => SqlError::new(code::OUT_OF_RANGE, out_of_range()),
            ArrowError::DivideByZero => SqlError::new(code::DIVISION_BY_ZERO, "division by zero"),
            error => cast(error.to_string()),
        },
        DataFusionError::External(inner) => match inner.downcast_ref::<SqlError>() {
            Some(inner) => inner.clone(),
            None => SqlError::new(code::INTERNAL, inner.to_string()),
        },
        DataFusionError::ResourcesExhausted(text) => {
            SqlError::new(code::OUT_OF_MEMORY, text.clone())
        }
        DataFusionError::Execution(text) => execution(text.clone()),
        other => SqlError::new(code::INTERNAL, other.strip_backtrace()),
    }
}

fn schema(error: &SchemaError) -> SqlError {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let message = format!("column \"{}\" does not exist", field.flat_name());
            let known: Vec<String> =
                valid_fields.iter().take(40).map(|field| field.name.clone()).collect();
            let error = SqlError::new(code::NO_COLUMN, message);
            if known.is_empty() {
                error
            } else {
                error.hint(format!("there are: {}", known.join(", ")))
            }
        }
        SchemaError::AmbiguousReference { field } => SqlError::new(
            code::AMBIGUOUS,
            format!("column reference \"{}\" is ambiguous", field.flat_name()),
        ),
        SchemaError::DuplicateQualifiedField { .. }
        | SchemaError::DuplicateUnqualifiedField { .. } => {
            SqlError::new("42701", error.to_string())
        }
    }
}

/// The planner has one kind of error for many things; its words tell them apart.
fn plan(text: String) -> SqlError {
    let lower = text.to_lowercase();
    let has = |words: &str| lower.contains(words);
    let code = if has("table '") && has("not found") {
        let name = text.split('\'').nth(1).unwrap_or_default();
        let name = name.rsplit('.').next().unwrap_or(name);
        return SqlError::new(code::NO_TABLE, format!("relation \"{name}\" does not exist"));
    } else if has("invalid function") || has("no function matches") || has("failed to coerce arg") {
        code::NO_FUNCTION
    } else if has("group by") || has("aggregate") && has("not allowed") {
        code::GROUPING
    } else if has("cannot coerce") || has("cannot infer common") || has("type mismatch") {
        code::TYPE_MISMATCH
    } else if has("not implemented") || has("unsupported") || has("not supported") {
        code::NOT_SUPPORTED
    } else if has("overflow") || has("out of range") {
        code::OUT_OF_RANGE
    } else {
        code::SYNTAX
    };
    SqlError::new(code, text)
}

fn execution(text: String) -> SqlError {
    let lower = text.to_lowercase();
    let code = if lower.contains("overflow") || lower.contains("out of range") {
        code::OUT_OF_RANGE
    } else if lower.contains("divide by zero") || lower.contains("division by zero") {
        code::DIVISION_BY_ZERO
    } else if lower.contains("more than one row") {
        "21000"
    } else {
        code::BAD_VALUE
    };
    SqlError::new(code, text)
}
