//! Amounts of a token, in its smallest unit.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// A number of smallest units of some token (0 … 2¹²⁸ − 1). JSON form: a string of decimal digits,
/// because JSON numbers lose precision above 2⁵³.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    BorshSerialize,
    BorshDeserialize,
)]
pub struct Amount(pub u128);

/// The text was not an amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseAmountError {
    /// Not digits with at most one decimal point.
    #[error("'{0}' is not an amount: write digits, with at most one '.', such as 1250 or 12.50")]
    NotANumber(String),
    /// More places than the token has.
    #[error("'{text}' has {found} decimal places; this token has {allowed}")]
    TooPrecise {
        /// What was given.
        text: String,
        /// Places given.
        found: usize,
        /// Places the token has.
        allowed: u8,
    },
    /// Above 2¹²⁸ − 1 smallest units.
    #[error("'{0}' is larger than a ledger amount can be (2^128 - 1 smallest units)")]
    TooLarge(String),
}

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// Sum, or `None` above 2¹²⁸ − 1.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// Difference, or `None` below zero.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// Reads an amount in whole tokens, such as `12.50` for a token with two decimals.
    ///
    /// # Errors
    /// [`ParseAmountError`] names what is wrong with the text.
    pub fn parse_decimal(text: &str, decimals: u8) -> Result<Self, ParseAmountError> {
        let text = text.trim();
        let shown = || text.chars().take(60).collect::<String>();
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits_only = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let no_fraction_after_point = text.contains('.') && fraction.is_empty();
        if whole.is_empty()
            || no_fraction_after_point
            || !digits_only(whole)
            || !digits_only(fraction)
        {
            return Err(ParseAmountError::NotANumber(shown()));
        }
        if fraction.len() > usize::from(decimals) {
            return Err(ParseAmountError::TooPrecise {
                text: shown(),
                found: fraction.len(),
                allowed: decimals,
            });
        }
        let missing = usize::from(decimals) - fraction.len();
        let digits =
            whole.bytes().chain(fraction.bytes()).chain(std::iter::repeat_n(b'0', missing));
        let mut value = 0u128;
        for digit in digits {
            value = value
                .checked_mul(10)
                .and_then(|value| value.checked_add(u128::from(digit - b'0')))
                .ok_or_else(|| ParseAmountError::TooLarge(shown()))?;
        }
        Ok(Self(value))
    }

    /// Writes the amount in whole tokens: `1250` with two decimals is `12.50`.
    #[must_use]
    pub fn to_decimal(self, decimals: u8) -> String {
        let places = usize::from(decimals);
        let digits = format!("{:0>width$}", self.0, width = places + 1);
        let (whole, fraction) = digits.split_at(digits.len() - places);
        if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Amount {
    type Err = ParseAmountError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse_decimal(text, 0)
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::id::deserialize_text(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn decimals_are_shifted_exactly() {
        assert_eq!(Amount::parse_decimal("12.5", 2), Ok(Amount(1250)));
        assert_eq!(Amount(5).to_decimal(2), "0.05");
        assert_eq!(Amount(5).to_decimal(0), "5");
        for bad in ["", ".", "1.", ".5", "-1", "1e3", "1,000", "1.2.3", " "] {
            assert!(Amount::parse_decimal(bad, 2).is_err(), "{bad}");
        }
        assert!(matches!(
            Amount::parse_decimal("1.234", 2),
            Err(ParseAmountError::TooPrecise { found: 3, allowed: 2, .. })
        ));
        let above = "340282366920938463463374607431768211456";
        assert!(matches!(above.parse::<Amount>(), Err(ParseAmountError::TooLarge(_))));
    }

    proptest! {
        #[test]
        fn decimal_text_round_trips(value: u128, decimals in 0u8..=30) {
            let amount = Amount(value);
            prop_assert_eq!(Amount::parse_decimal(&amount.to_decimal(decimals), decimals), Ok(amount));
        }
    }
}
