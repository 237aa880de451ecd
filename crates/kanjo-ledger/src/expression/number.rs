//! Arithmetic of integers and decimal fractions, exact and checked.

use kanjo_types::outcome::ResultCode;
use kanjo_types::relation::PRECISION_MAX;
use std::cmp::Ordering;

/// A decimal fraction: its digits without the point, and how many of them are behind it. An integer
/// has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number {
    pub digits: i128,
    pub scale: u8,
}

type Computed = Result<i128, ResultCode>;

const OVERFLOW: ResultCode = ResultCode::ArithmeticOverflow;

fn power(exponent: u8) -> Result<i128, ResultCode> {
    10i128.checked_pow(u32::from(exponent)).ok_or(OVERFLOW)
}

/// Has it at most 38 digits?
pub(super) fn bounded(digits: i128) -> Computed {
    let most = power(PRECISION_MAX)?.unsigned_abs();
    if digits.unsigned_abs() < most { Ok(digits) } else { Err(OVERFLOW) }
}

impl Number {
    /// The digits at another scale; halves are rounded away from zero.
    pub(super) fn at_scale(self, scale: u8) -> Computed {
        if scale >= self.scale {
            return self.digits.checked_mul(power(scale - self.scale)?).ok_or(OVERFLOW);
        }
        let unit = power(self.scale - scale)?;
        let (whole, rest) = (self.digits / unit, self.digits % unit);
        let rounds = rest.unsigned_abs() >= unit.unsigned_abs() - rest.unsigned_abs();
        Ok(if rounds { whole + rest.signum() } else { whole })
    }

    /// Which of the two is larger? Exact also where lifting to a common scale leaves 128 bits.
    pub(super) fn compare(self, other: Self) -> Ordering {
        let scale = self.scale.max(other.scale);
        match (self.at_scale(scale), other.at_scale(scale)) {
            (Ok(a), Ok(b)) => a.cmp(&b),
            // What is lifted out of bounds is farther from zero than what is not, and only the one
            // of the smaller scale is lifted.
            (Err(_), _) => self.digits.cmp(&0),
            (_, Err(_)) => 0.cmp(&other.digits),
        }
    }

    pub(super) fn add(self, other: Self, scale: u8) -> Computed {
        self.at_scale(scale)?.checked_add(other.at_scale(scale)?).ok_or(OVERFLOW)
    }

    pub(super) fn subtract(self, other: Self, scale: u8) -> Computed {
        self.at_scale(scale)?.checked_sub(other.at_scale(scale)?).ok_or(OVERFLOW)
    }

    /// The scale of a product is the sum of the two.
    pub(super) fn multiply(self, other: Self) -> Computed {
        self.digits.checked_mul(other.digits).ok_or(OVERFLOW)
    }

    /// The remainder, with the sign of the dividend.
    pub(super) fn remainder(self, other: Self, scale: u8) -> Computed {
        if other.digits == 0 {
            return Err(ResultCode::DivisionByZero);
        }
        // The smallest number by −1 leaves 128 bits as a quotient, and nothing as a remainder.
        Ok(self.at_scale(scale)?.checked_rem(other.at_scale(scale)?).unwrap_or(0))
    }

    /// The quotient of integers, without its fraction.
    pub(super) fn divide_whole(self, other: Self) -> Computed {
        if other.digits == 0 {
            return Err(ResultCode::DivisionByZero);
        }
        self.digits.checked_div(other.digits).ok_or(OVERFLOW)
    }

    /// The quotient at `scale`, which is not below that of either; halves are rounded away from
    /// zero. Digit by digit, so that only a result that is too large is an overflow.
    pub(super) fn divide(self, other: Self, scale: u8) -> Computed {
        let divisor = other.digits.unsigned_abs();
        let whole = self.digits.unsigned_abs();
        let (Some(mut quotient), Some(mut rest)) =
            (whole.checked_div(divisor), whole.checked_rem(divisor))
        else {
            return Err(ResultCode::DivisionByZero);
        };
        let more = scale.saturating_add(other.scale).saturating_sub(self.scale);
        for _ in 0..more {
            let digit;
            (digit, rest) = ten_times(rest, divisor);
            let lifted = quotient.checked_mul(10).and_then(|lifted| lifted.checked_add(digit));
            quotient = lifted.ok_or(OVERFLOW)?;
        }
        if rest >= divisor - rest {
            quotient = quotient.checked_add(1).ok_or(OVERFLOW)?;
        }
        let quotient = i128::try_from(quotient).map_err(|_| OVERFLOW)?;
        let negative = (self.digits < 0) != (other.digits < 0);
        Ok(if negative { -quotient } else { quotient })
    }
}

/// Ten times `rest`, which is below `divisor`, as a digit and a new rest; no step leaves 128 bits.
fn ten_times(rest: u128, divisor: u128) -> (u128, u128) {
    let mut digit = 0;
    let mut sum = 0;
    for _ in 0..10 {
        let room = divisor - sum;
        if rest >= room {
            sum = rest - room;
            digit += 1;
        } else {
            sum += rest;
        }
    }
    (digit, sum)
}
