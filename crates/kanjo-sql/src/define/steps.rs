//! Steps with their types: what goes together, and what comes of it. As `kanjo-ledger` types them.

use super::state;
use super::types::type_text;
use crate::error::{SqlError, code};
use kanjo_types::expression::{DEPTH_MAX, STEPS_MAX, Step};
use kanjo_types::relation::{ColumnType, PRECISION_MAX};
use kanjo_types::row::Value;

/// Digits behind the point that a quotient has at least.
const QUOTIENT_SCALE_MIN: u8 = 6;

type Result<T> = std::result::Result<T, SqlError>;

/// Steps with what they give.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub steps: Vec<Step>,
    pub kind: ColumnType,
    /// Most values on the stack at one time.
    pub depth: usize,
}

/// The error for an expression that has more steps, or more values at a time, than there may be.
pub(super) fn too_long() -> SqlError {
    let message = format!("an expression has at most {STEPS_MAX} steps, {DEPTH_MAX} values deep");
    SqlError::new(state::TOO_LONG, message)
}

/// The error for operands that an operator does not take.
pub(super) fn no_operator(a: ColumnType, operator: &str, b: ColumnType) -> SqlError {
    let (a, b) = (type_text(a), type_text(b));
    let message = format!("operator does not exist: {a} {operator} {b}");
    SqlError::new(code::NO_FUNCTION, message).hint("add explicit type casts")
}

/// A constant.
pub(super) fn constant(kind: ColumnType, value: Value) -> Known {
    Known { steps: vec![Step::Constant { kind, value }], kind, depth: 1 }
}

/// A step over operands.
pub(super) fn step(operands: Vec<Known>, step: Step, kind: ColumnType) -> Result<Known> {
    let depths = operands.iter().enumerate().map(|(before, operand)| before + operand.depth);
    let depth = depths.max().unwrap_or(1);
    let mut steps: Vec<Step> = operands.into_iter().flat_map(|operand| operand.steps).collect();
    steps.push(step);
    let fits = steps.len() <= STEPS_MAX && depth <= DEPTH_MAX;
    if fits { Ok(Known { steps, kind, depth }) } else { Err(too_long()) }
}

/// Steps with NOT behind them, or as they are.
pub(super) fn negated(known: Known, negated: bool) -> Result<Known> {
    if negated { step(vec![known], Step::Not, ColumnType::Boolean) } else { Ok(known) }
}

/// Digits behind the point; `None` for what is no number.
pub(super) fn scale_of(kind: ColumnType) -> Option<u8> {
    match kind {
        ColumnType::Numeric { scale, .. } => Some(scale),
        _ if kind.is_integer() => Some(0),
        _ => None,
    }
}

/// May values of the two types be compared?
pub(super) fn can_compare(a: ColumnType, b: ColumnType) -> bool {
    a.compares_with(b) || (scale_of(a).is_some() && scale_of(b).is_some())
}

fn wider(a: ColumnType, b: ColumnType) -> ColumnType {
    match (a, b) {
        (ColumnType::Bigint, _) | (_, ColumnType::Bigint) => ColumnType::Bigint,
        (ColumnType::Integer, _) | (_, ColumnType::Integer) => ColumnType::Integer,
        _ => ColumnType::Smallint,
    }
}

/// Is it a text, of any length?
pub(super) fn is_text(kind: ColumnType) -> bool {
    matches!(kind, ColumnType::Text(_))
}

/// Can the first be compared with all others?
pub(super) fn compared(all: &[Known], operator: &str) -> Result<()> {
    let Some((first, others)) = all.split_first() else { return Ok(()) };
    match others.iter().find(|other| !can_compare(first.kind, other.kind)) {
        Some(other) => Err(no_operator(first.kind, operator, other.kind)),
        None => Ok(()),
    }
}

/// The truth, or another where it is null.
pub(super) fn or_else(truth: Known, otherwise: bool) -> Result<Known> {
    let otherwise = constant(ColumnType::Boolean, Value::Boolean(otherwise));
    step(vec![truth, otherwise], Step::Coalesce(2), ColumnType::Boolean)
}

/// `coalesce` gives one type: the widest integer, or the numeric with the most digits behind the
/// point.
pub(super) fn coalesce(all: Vec<Known>) -> Result<Known> {
    let count = u8::try_from(all.len()).map_err(|_| too_long())?;
    let Some(first) = all.first().map(|first| first.kind) else { return Err(too_long()) };
    let numbers = all.iter().map(|known| scale_of(known.kind)).collect::<Option<Vec<u8>>>();
    let (all, kind) = match numbers {
        Some(_) if all.iter().all(|known| known.kind.is_integer()) => {
            let kind = all.iter().fold(first, |kind, known| wider(kind, known.kind));
            (all, kind)
        }
        Some(scales) => {
            let scale = scales.into_iter().max().unwrap_or(0);
            let kind = ColumnType::Numeric { precision: PRECISION_MAX, scale };
            let cast = |known: Known| match known.kind {
                ColumnType::Numeric { scale: of, .. } if of == scale => Ok(known),
                _ => step(vec![known], Step::Cast(kind), kind),
            };
            (all.into_iter().map(cast).collect::<Result<Vec<Known>>>()?, kind)
        }
        None => {
            let other = all
                .iter()
                .find(|known| known.kind != first && !(is_text(known.kind) && is_text(first)));
            if let Some(other) = other {
                let (a, b) = (type_text(first), type_text(other.kind));
                let message = format!("COALESCE types {a} and {b} cannot be matched");
                return Err(SqlError::new(code::TYPE_MISMATCH, message));
            }
            (all, if is_text(first) { ColumnType::Text(None) } else { first })
        }
    };
    step(all, Step::Coalesce(count), kind)
}

/// The type of a sum, product and so on, as the ledger has it.
pub(super) fn arithmetic(step: &Step, a: ColumnType, b: ColumnType) -> Option<ColumnType> {
    let (scale_a, scale_b) = (scale_of(a)?, scale_of(b)?);
    if a.is_integer() && b.is_integer() {
        return Some(wider(a, b));
    }
    let larger = scale_a.max(scale_b);
    let scale = match step {
        Step::Multiply => scale_a.checked_add(scale_b)?,
        Step::Divide => larger.max(QUOTIENT_SCALE_MIN),
        _ => larger,
    };
    let fits = scale <= PRECISION_MAX;
    fits.then_some(ColumnType::Numeric { precision: PRECISION_MAX, scale })
}
