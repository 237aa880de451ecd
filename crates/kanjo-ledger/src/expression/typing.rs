//! The types of expressions, checked when a table is defined.

use kanjo_types::expression::{DEPTH_MAX, Expression, STEPS_MAX, Step};
use kanjo_types::outcome::ResultCode;
use kanjo_types::relation::{ColumnType, Definition, PRECISION_MAX};

/// Digits behind the point that a quotient has at least.
const QUOTIENT_SCALE_MIN: u8 = 6;

/// Checks the expression of a CHECK constraint: sound, and boolean.
///
/// # Errors
/// [`ResultCode::BadDefinition`].
pub fn check_condition(expression: &Expression, definition: &Definition) -> Result<(), ResultCode> {
    match type_of(expression, Some(definition)) {
        Some(ColumnType::Boolean) => Ok(()),
        _ => Err(ResultCode::BadDefinition),
    }
}

/// Checks the expression of a default: sound, without columns, and of a type that a cast makes the
/// column's.
///
/// # Errors
/// [`ResultCode::BadDefinition`].
pub fn check_default(expression: &Expression, kind: ColumnType) -> Result<(), ResultCode> {
    let found = type_of(expression, None);
    let fits = found.is_some_and(|found| found == kind || casts(found, kind));
    if fits { Ok(()) } else { Err(ResultCode::BadDefinition) }
}

/// The type of an expression over the columns of a table, or of a default (`None`). `None` when it
/// is not sound.
fn type_of(expression: &Expression, definition: Option<&Definition>) -> Option<ColumnType> {
    if expression.0.len() > STEPS_MAX {
        return None;
    }
    let mut stack: Vec<ColumnType> = Vec::with_capacity(DEPTH_MAX);
    for step in &expression.0 {
        let operands = stack.split_off(stack.len().checked_sub(arity(step))?);
        let result = match step {
            Step::Column(column) => definition?.type_of(*column),
            Step::Now | Step::NewUuid | Step::CurrentUser if definition.is_some() => None,
            _ => result_type(step, &operands),
        };
        stack.push(result?);
        if stack.len() > DEPTH_MAX {
            return None;
        }
    }
    match stack[..] {
        [kind] => Some(kind),
        _ => None,
    }
}

/// How many operands a step takes.
pub(super) fn arity(step: &Step) -> usize {
    match step {
        Step::Column(_) | Step::Constant { .. } | Step::Now | Step::NewUuid | Step::CurrentUser => {
            0
        }
        Step::Cast(_)
        | Step::Negate
        | Step::Not
        | Step::IsNull
        | Step::CharLength
        | Step::Lower
        | Step::Upper => 1,
        Step::Between => 3,
        Step::In(count) => usize::from(*count) + 1,
        Step::Coalesce(count) => usize::from(*count),
        _ => 2,
    }
}

/// The type of a step's result, given those of its operands; columns are for the caller. `None`
/// when they don't go together.
pub(super) fn result_type(step: &Step, operands: &[ColumnType]) -> Option<ColumnType> {
    use ColumnType::{Boolean, Integer, Text, Timestamptz, Uuid};
    let boolean = |fits: bool| fits.then_some(Boolean);
    match (step, operands) {
        (Step::Constant { kind, value }, []) => {
            (kind.is_sound() && kind.check(value).is_ok()).then_some(*kind)
        }
        (Step::Now, []) => Some(Timestamptz),
        (Step::NewUuid, []) => Some(Uuid),
        (Step::CurrentUser, []) => Some(Text(None)),
        (Step::Cast(to), [from]) => (to.is_sound() && casts(*from, *to)).then_some(*to),
        (Step::Negate, [number]) => scale_of(*number).map(|_| without_precision(*number)),
        (Step::CharLength, [Text(_)]) => Some(Integer),
        (Step::Lower | Step::Upper, [Text(_)]) => Some(Text(None)),
        (Step::IsNull, [_]) => Some(Boolean),
        (Step::Not, [kind]) => boolean(*kind == Boolean),
        (Step::And | Step::Or, [a, b]) => boolean(*a == Boolean && *b == Boolean),
        (Step::Like, [a, b]) => boolean(matches!((a, b), (Text(_), Text(_)))),
        (Step::Between | Step::In(1..), [first, others @ ..]) => {
            boolean(others.iter().all(|other| can_compare(*first, *other)))
        }
        (Step::Coalesce(1..), [first, others @ ..]) => {
            others.iter().try_fold(without_precision(*first), |kind, other| united(kind, *other))
        }
        (Step::Add | Step::Subtract | Step::Multiply | Step::Divide | Step::Remainder, [a, b]) => {
            arithmetic(step, *a, *b)
        }
        (
            Step::Equal
            | Step::NotEqual
            | Step::Less
            | Step::LessEqual
            | Step::Greater
            | Step::GreaterEqual,
            [a, b],
        ) => boolean(can_compare(*a, *b)),
        _ => None,
    }
}

/// Digits behind the point of a number's type; `None` for what is no number.
pub(super) fn scale_of(kind: ColumnType) -> Option<u8> {
    match kind {
        ColumnType::Numeric { scale, .. } => Some(scale),
        _ if kind.is_integer() => Some(0),
        _ => None,
    }
}

/// The type of what is computed: bounds of a column don't hold for it.
fn without_precision(kind: ColumnType) -> ColumnType {
    match kind {
        ColumnType::Numeric { scale, .. } => {
            ColumnType::Numeric { precision: PRECISION_MAX, scale }
        }
        ColumnType::Text(_) => ColumnType::Text(None),
        _ => kind,
    }
}

fn can_compare(a: ColumnType, b: ColumnType) -> bool {
    a.compares_with(b) || (scale_of(a).is_some() && scale_of(b).is_some())
}

/// A type for values of both.
fn united(a: ColumnType, b: ColumnType) -> Option<ColumnType> {
    if a.is_integer() && b.is_integer() {
        return Some(wider(a, b));
    }
    let (a, b) = (without_precision(a), without_precision(b));
    (a == b).then_some(a)
}

fn wider(a: ColumnType, b: ColumnType) -> ColumnType {
    match (a, b) {
        (ColumnType::Bigint, _) | (_, ColumnType::Bigint) => ColumnType::Bigint,
        (ColumnType::Integer, _) | (_, ColumnType::Integer) => ColumnType::Integer,
        _ => ColumnType::Smallint,
    }
}

fn arithmetic(step: &Step, a: ColumnType, b: ColumnType) -> Option<ColumnType> {
    let (scale_a, scale_b) = (scale_of(a)?, scale_of(b)?);
    if a.is_integer() && b.is_integer() {
        return Some(wider(a, b));
    }
    let larger = scale_a.max(scale_b);
    let scale = match step {
        Step::Multiply => scale_a + scale_b,
        Step::Divide => larger.max(QUOTIENT_SCALE_MIN),
        _ => larger,
    };
    let fits = scale <= PRECISION_MAX;
    fits.then_some(ColumnType::Numeric { precision: PRECISION_MAX, scale })
}

/// Does a cast make one type the other?
fn casts(from: ColumnType, to: ColumnType) -> bool {
    use ColumnType::{Date, Text, Timestamptz};
    let numbers = scale_of(from).is_some() && scale_of(to).is_some();
    numbers
        || from == to
        || matches!((from, to), (Text(_), Text(_)) | (Date, Timestamptz) | (Timestamptz, Date))
}
