//! Expressions of CHECK constraints and defaults: their types, and their values for a row.
//!
//! Replicas evaluate the same steps to the same value: integers and decimal fractions are exact and
//! checked, texts are compared by their bytes, letters are those of ASCII. Nulls are SQL's: a step
//! with a null operand is null, but for those that say otherwise.
//!
//! # Types of results
//! | steps | operands | result |
//! |---|---|---|
//! | `add` … `remainder` | integers | the wider of the two |
//! | `add`, `subtract`, `remainder` | numbers, one a numeric | numeric of the larger scale |
//! | `multiply` | the same | numeric, scales added |
//! | `divide` | the same | numeric, the larger scale, 6 at least; rounded, halves away from zero |
//! | comparisons, `between`, `in` | of one kind | boolean |
//!
//! A numeric result has up to 38 digits. More is [`ResultCode::ArithmeticOverflow`].

mod evaluate;
mod number;
mod pattern;
mod typing;

pub use evaluate::{Given, evaluate, holds};
pub use typing::{check_condition, check_default};

use kanjo_types::outcome::ResultCode;

/// Most units of work that the expressions of one transaction take: a step is one, and so is each
/// byte of a text that it looks at.
pub const WORK_MAX: u64 = 1 << 22;

/// Work that is left to a transaction.
#[derive(Debug, Clone, Copy)]
pub struct Work(u64);

impl Default for Work {
    fn default() -> Self {
        Self(WORK_MAX)
    }
}

impl Work {
    pub(crate) fn take(&mut self, units: usize) -> Result<(), ResultCode> {
        let left = self.0.checked_sub(units as u64);
        self.0 = left.unwrap_or(0);
        if left.is_some() { Ok(()) } else { Err(ResultCode::TooMuch) }
    }
}

#[cfg(test)]
mod tests;
