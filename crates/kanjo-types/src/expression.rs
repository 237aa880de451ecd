//! Expressions of CHECK constraints and defaults, as lists of steps.
//!
//! An expression is in postfix order: each step takes its operands from the top of a stack and puts
//! its result there; one value is left. `price >= 0` is `column 2`, `constant 0`, `greater_equal`.
//! So no type contains itself, and length and depth have bounds. How steps are typed and evaluated
//! is in `docs/tables.md`; the evaluator is in `kanjo-ledger`.

use crate::relation::ColumnType;
use crate::row::Value;
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

/// Most steps of an expression.
pub const STEPS_MAX: usize = 256;
/// Most values on the stack at one time.
pub const DEPTH_MAX: usize = 32;

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    /// Puts the row's value of a column.
    Column(u16),
    /// Puts a value.
    Constant {
        /// Its type.
        #[serde(rename = "type")]
        kind: ColumnType,
        /// The value, or null.
        value: Value,
    },
    /// Makes a number of one type a number of another, a date a time (its midnight UTC), a time a
    /// date (its day UTC), a text one with another length.
    Cast(ColumnType),
    /// a + b, of numbers.
    Add,
    /// a − b, of numbers.
    Subtract,
    /// a × b, of numbers.
    Multiply,
    /// a ÷ b: of integers without fraction, toward zero; of numerics rounded.
    Divide,
    /// Remainder of a ÷ b; it has the sign of a.
    Remainder,
    /// −a.
    Negate,
    /// a = b.
    Equal,
    /// a ≠ b.
    NotEqual,
    /// a < b.
    Less,
    /// a ≤ b.
    LessEqual,
    /// a > b.
    Greater,
    /// a ≥ b.
    GreaterEqual,
    /// a and b, of three values.
    And,
    /// a or b, of three values.
    Or,
    /// not a, of three values.
    Not,
    /// Is a null? Never null itself.
    IsNull,
    /// b ≤ a and a ≤ c.
    Between,
    /// Is a one of the next so many?
    In(u8),
    /// Is text a of pattern b? `%` is any text, `_` any character, `\` takes the next as it is.
    Like,
    /// Number of characters (code points) of a text.
    CharLength,
    /// ASCII letters made small.
    Lower,
    /// ASCII letters made capital.
    Upper,
    /// The first of so many that is not null.
    Coalesce(u8),
    /// In defaults only: the time at which a planner works.
    Now,
    /// In defaults only: a random UUID that a planner draws.
    NewUuid,
    /// In defaults only: the user's id as text.
    CurrentUser,
}

/// Steps in postfix order.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Expression(pub Vec<Step>);
