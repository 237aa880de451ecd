//! The value of an expression for a row.

use super::Work;
use super::number::{Number, bounded};
use super::pattern::is_like;
use super::typing::{arity, result_type, scale_of};
use kanjo_types::expression::{Expression, Step};
use kanjo_types::outcome::ResultCode;
use kanjo_types::relation::{ColumnType, Definition};
use kanjo_types::row::Value;
use std::borrow::Cow;
use std::cmp::Ordering;

const DAY_MICROSECONDS: i64 = 86_400_000_000;

/// What a planner gives to defaults. CHECK constraints never ask for it.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// Microseconds since 1970-01-01 UTC.
    pub now: i64,
    /// A random UUID, for each use another.
    pub uuid: [u8; 16],
    /// Text form of the user's id.
    pub user: String,
}

/// A value on the stack.
#[derive(Debug, Clone)]
struct Operand<'a> {
    kind: ColumnType,
    value: Cow<'a, Value>,
}

type Computed<'a> = Result<Cow<'a, Value>, ResultCode>;

/// Does a row keep a CHECK constraint? It does when the expression is true or null.
///
/// # Errors
/// As [`evaluate`].
pub fn holds(
    expression: &Expression,
    definition: &Definition,
    values: &[Value],
    work: &mut Work,
) -> Result<bool, ResultCode> {
    let value = evaluate(expression, Some((definition, values)), &Given::default(), work)?;
    Ok(value != Value::Boolean(false))
}

/// The value of an expression that was checked before, over the values of a row, or of a default
/// (`None`).
///
/// # Errors
/// [`ResultCode::ArithmeticOverflow`], [`ResultCode::DivisionByZero`], [`ResultCode::OutOfRange`]
/// and [`ResultCode::TextTooLong`] of casts, [`ResultCode::TooMuch`] when no work is left,
/// [`ResultCode::BadDefinition`] when it was not checked.
pub fn evaluate(
    expression: &Expression,
    row: Option<(&Definition, &[Value])>,
    given: &Given,
    work: &mut Work,
) -> Result<Value, ResultCode> {
    let unsound = ResultCode::BadDefinition;
    let mut stack: Vec<Operand<'_>> = Vec::new();
    for step in &expression.0 {
        work.take(1)?;
        let operands = stack.len().checked_sub(arity(step)).ok_or(unsound)?;
        let operands = stack.split_off(operands);
        let operand = match step {
            Step::Column(column) => {
                let (definition, values) = row.ok_or(unsound)?;
                let kind = definition.type_of(*column).ok_or(unsound)?;
                Operand { kind, value: Cow::Borrowed(definition.value(values, *column)) }
            }
            _ => {
                let kinds: Vec<ColumnType> = operands.iter().map(|operand| operand.kind).collect();
                let kind = result_type(step, &kinds).ok_or(unsound)?;
                Operand { kind, value: apply(step, operands, kind, given, work)? }
            }
        };
        stack.push(operand);
    }
    stack.pop().map(|operand| operand.value.into_owned()).ok_or(unsound)
}

fn apply<'a>(
    step: &'a Step,
    mut operands: Vec<Operand<'a>>,
    kind: ColumnType,
    given: &Given,
    work: &mut Work,
) -> Computed<'a> {
    match step {
        Step::Constant { value, .. } => return Ok(Cow::Borrowed(value)),
        Step::Now => return owned(Value::Timestamp(given.now)),
        Step::NewUuid => return owned(Value::Uuid(given.uuid)),
        Step::CurrentUser => return owned(Value::Text(given.user.clone())),
        Step::And | Step::Or | Step::Not => return owned(logic(step, &operands)),
        Step::IsNull => {
            return owned(Value::Boolean(operands.iter().all(|operand| operand.value.is_null())));
        }
        Step::Coalesce(_) => {
            let found = operands.into_iter().find(|operand| !operand.value.is_null());
            return Ok(found.map_or(Cow::Owned(Value::Null), |operand| operand.value));
        }
        Step::In(_) | Step::Between => return owned(membership(step, &operands, work)?),
        _ => {}
    }
    if operands.iter().any(|operand| operand.value.is_null()) {
        return owned(Value::Null);
    }
    match (step, &mut operands[..]) {
        (Step::Cast(_), [operand]) => cast(operand, kind).map(Cow::Owned),
        (Step::Negate, [operand]) => {
            let zero = Number { digits: 0, scale: 0 };
            let number = number(operand)?;
            owned(numbered(zero.subtract(number, number.scale)?, kind)?)
        }
        (Step::CharLength | Step::Lower | Step::Upper, [operand]) => {
            owned(of_text(step, &operand.value, work)?)
        }
        (Step::Like, [text, pattern]) => match (&*text.value, &*pattern.value) {
            (Value::Text(text), Value::Text(pattern)) => {
                owned(Value::Boolean(is_like(text, pattern, work)?))
            }
            _ => Err(ResultCode::BadDefinition),
        },
        (Step::Add | Step::Subtract | Step::Multiply | Step::Divide | Step::Remainder, [a, b]) => {
            let digits = arithmetic(step, number(a)?, number(b)?, kind)?;
            owned(numbered(digits, kind)?)
        }
        (_, [a, b]) => {
            let order = compare(a, b, work)?;
            owned(Value::Boolean(fits(step, order).ok_or(ResultCode::BadDefinition)?))
        }
        _ => Err(ResultCode::BadDefinition),
    }
}

fn owned<'a>(value: Value) -> Computed<'a> {
    Ok(Cow::Owned(value))
}

/// True, false or null.
fn truth(value: &Value) -> Option<bool> {
    match value {
        Value::Boolean(value) => Some(*value),
        _ => None,
    }
}

fn of_truth(truth: Option<bool>) -> Value {
    truth.map_or(Value::Null, Value::Boolean)
}

fn and(a: Option<bool>, b: Option<bool>) -> Option<bool> {
    match (a, b) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        _ => None,
    }
}

fn or(a: Option<bool>, b: Option<bool>) -> Option<bool> {
    and(a.map(|a| !a), b.map(|b| !b)).map(|both| !both)
}

fn logic(step: &Step, operands: &[Operand<'_>]) -> Value {
    let mut truths = operands.iter().map(|operand| truth(&operand.value));
    let (first, second) = (truths.next().flatten(), truths.next().flatten());
    of_truth(match step {
        Step::And => and(first, second),
        Step::Or => or(first, second),
        _ => first.map(|first| !first),
    })
}

/// `between` and `in`, which are comparisons joined by `and` and `or`.
fn membership(step: &Step, operands: &[Operand<'_>], work: &mut Work) -> Result<Value, ResultCode> {
    let [first, others @ ..] = operands else { return Err(ResultCode::BadDefinition) };
    let mut order = |other: &Operand<'_>| -> Result<Option<Ordering>, ResultCode> {
        if first.value.is_null() || other.value.is_null() {
            return Ok(None);
        }
        compare(first, other, work).map(Some)
    };
    if let (Step::Between, [low, high]) = (step, others) {
        let low = order(low)?.map(Ordering::is_ge);
        let high = order(high)?.map(Ordering::is_le);
        return Ok(of_truth(and(low, high)));
    }
    let mut found = Some(false);
    for other in others {
        found = or(found, order(other)?.map(Ordering::is_eq));
    }
    Ok(of_truth(found))
}

fn fits(step: &Step, order: Ordering) -> Option<bool> {
    Some(match step {
        Step::Equal => order.is_eq(),
        Step::NotEqual => order.is_ne(),
        Step::Less => order.is_lt(),
        Step::LessEqual => order.is_le(),
        Step::Greater => order.is_gt(),
        Step::GreaterEqual => order.is_ge(),
        _ => return None,
    })
}

fn compare(a: &Operand<'_>, b: &Operand<'_>, work: &mut Work) -> Result<Ordering, ResultCode> {
    Ok(match (&*a.value, &*b.value) {
        (Value::Integer(a), Value::Integer(b)) => a.cmp(b),
        (Value::Integer(_) | Value::Numeric(_), _) => number(a)?.compare(number(b)?),
        (Value::Text(a), Value::Text(b)) => {
            work.take(a.len().min(b.len()))?;
            a.as_bytes().cmp(b.as_bytes())
        }
        (Value::Bytes(a), Value::Bytes(b)) => {
            work.take(a.len().min(b.len()))?;
            a.cmp(b)
        }
        (Value::Boolean(a), Value::Boolean(b)) => a.cmp(b),
        (Value::Uuid(a), Value::Uuid(b)) => a.cmp(b),
        (Value::Date(a), Value::Date(b)) => a.cmp(b),
        (Value::Timestamp(a), Value::Timestamp(b)) => a.cmp(b),
        _ => return Err(ResultCode::BadDefinition),
    })
}

fn number(operand: &Operand<'_>) -> Result<Number, ResultCode> {
    let scale = scale_of(operand.kind).ok_or(ResultCode::BadDefinition)?;
    match &*operand.value {
        // Columns of integers and of numerics go together where a default was unified.
        Value::Integer(value) => Ok(Number { digits: i128::from(*value), scale: 0 }),
        Value::Numeric(digits) => Ok(Number { digits: *digits, scale }),
        _ => Err(ResultCode::BadDefinition),
    }
}

/// A result of arithmetic as a value of its type.
fn numbered(digits: i128, kind: ColumnType) -> Result<Value, ResultCode> {
    let overflow = ResultCode::ArithmeticOverflow;
    if !kind.is_integer() {
        return bounded(digits).map(Value::Numeric);
    }
    let value = Value::Integer(i64::try_from(digits).map_err(|_| overflow)?);
    kind.check(&value).map_err(|_| overflow)?;
    Ok(value)
}

fn arithmetic(step: &Step, a: Number, b: Number, kind: ColumnType) -> Result<i128, ResultCode> {
    let scale = scale_of(kind).ok_or(ResultCode::BadDefinition)?;
    match step {
        Step::Add => a.add(b, scale),
        Step::Subtract => a.subtract(b, scale),
        Step::Multiply => a.multiply(b),
        Step::Remainder => a.remainder(b, scale),
        _ if kind.is_integer() => a.divide_whole(b),
        _ => a.divide(b, scale),
    }
}

fn of_text(step: &Step, value: &Value, work: &mut Work) -> Result<Value, ResultCode> {
    let Value::Text(text) = value else { return Err(ResultCode::BadDefinition) };
    work.take(text.len())?;
    Ok(match step {
        // A text of a row has at most 2¹⁶ bytes, and constants are shorter than a transaction.
        Step::CharLength => Value::Integer(i64::try_from(text.chars().count()).unwrap_or(i64::MAX)),
        Step::Lower => Value::Text(text.to_ascii_lowercase()),
        _ => Value::Text(text.to_ascii_uppercase()),
    })
}

fn cast(operand: &Operand<'_>, kind: ColumnType) -> Result<Value, ResultCode> {
    let overflow = ResultCode::OutOfRange;
    let value = match (&*operand.value, kind) {
        (Value::Date(days), ColumnType::Timestamptz) => {
            let time = i64::from(*days).checked_mul(DAY_MICROSECONDS);
            Value::Timestamp(time.ok_or(overflow)?)
        }
        (Value::Timestamp(time), ColumnType::Date) => {
            let days = time.div_euclid(DAY_MICROSECONDS);
            Value::Date(i32::try_from(days).map_err(|_| overflow)?)
        }
        (Value::Integer(_) | Value::Numeric(_), _) => {
            let scale = scale_of(kind).ok_or(ResultCode::BadDefinition)?;
            let digits = number(operand)?.at_scale(scale).map_err(|_| overflow)?;
            if kind.is_integer() {
                Value::Integer(i64::try_from(digits).map_err(|_| overflow)?)
            } else {
                Value::Numeric(digits)
            }
        }
        (value, _) => value.clone(),
    };
    kind.check(&value)?;
    Ok(value)
}
