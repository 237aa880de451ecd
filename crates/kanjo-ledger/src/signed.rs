//! Differences of amounts, exact: a magnitude up to 2¹²⁸ − 1 and a sign.

use kanjo_types::record::WalletStateRecord;

/// How much more or less.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Signed {
    /// Never true for zero.
    negative: bool,
    magnitude: u128,
}

impl Signed {
    fn new(negative: bool, magnitude: u128) -> Self {
        Self { negative: negative && magnitude > 0, magnitude }
    }

    /// From `before` to `after`.
    pub(crate) fn between(before: u128, after: u128) -> Self {
        Self::new(after < before, after.abs_diff(before))
    }

    /// By how much the worth of a wallet changed: balance + reserved − overdraft. `None` outside
    /// ±(2¹²⁸ − 1).
    pub(crate) fn change(
        before: Option<&WalletStateRecord>,
        after: &WalletStateRecord,
    ) -> Option<Self> {
        let old = before.map(WalletStateRecord::extra).unwrap_or_default();
        let new = after.extra();
        Self::between(before.map_or(0, |before| before.balance.0), after.balance.0)
            .checked_add(Self::between(old.reserved.0, new.reserved.0))?
            .checked_add(Self::between(new.overdraft.0, old.overdraft.0))
    }

    /// As much the other way.
    pub(crate) fn negated(self) -> Self {
        Self::new(!self.negative, self.magnitude)
    }

    /// Sum, or `None` outside ±(2¹²⁸ − 1).
    pub(crate) fn checked_add(self, other: Self) -> Option<Self> {
        if self.negative == other.negative {
            let magnitude = self.magnitude.checked_add(other.magnitude)?;
            return Some(Self::new(self.negative, magnitude));
        }
        let (plus, minus) = if self.negative { (other, self) } else { (self, other) };
        Some(Self::between(minus.magnitude, plus.magnitude))
    }

    /// How far above zero; zero when below.
    pub(crate) fn gain(self) -> u128 {
        if self.negative { 0 } else { self.magnitude }
    }

    /// How far below zero; zero when above.
    pub(crate) fn loss(self) -> u128 {
        if self.negative { self.magnitude } else { 0 }
    }

    pub(crate) fn is_zero(self) -> bool {
        self.magnitude == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kanjo_types::record::StateExtra;
    use kanjo_types::{Amount, Hash, TokenId, WalletId};

    const MAX: u128 = u128::MAX;

    #[test]
    fn sums_are_exact_to_the_bounds() {
        let plus = |amount| Signed::between(0, amount);
        let minus = |amount| Signed::between(amount, 0);
        assert_eq!(minus(0), Signed::default(), "zero has one form");
        assert_eq!(plus(5).checked_add(minus(7)), Some(minus(2)));
        assert_eq!(minus(5).checked_add(plus(7)), Some(plus(2)));
        assert_eq!(minus(MAX).checked_add(plus(MAX)), Some(Signed::default()));
        assert_eq!(plus(MAX).checked_add(plus(1)), None);
        assert_eq!(minus(MAX).checked_add(minus(1)), None);
        assert_eq!((minus(3).gain(), minus(3).loss()), (0, 3));
        assert_eq!((plus(3).gain(), plus(3).loss()), (3, 0));
    }

    #[test]
    fn reserving_changes_no_worth_and_an_overdraft_lowers_it() {
        let state = |balance, reserved, overdraft| WalletStateRecord {
            wallet: WalletId([1; 16]),
            token: TokenId(1),
            version: 1,
            balance: Amount(balance),
            extra: StateExtra {
                reserved: Amount(reserved),
                overdraft: Amount(overdraft),
                ..StateExtra::default()
            }
            .canonical(),
            previous: Hash::ZERO,
            transaction: Hash::ZERO,
            wallet_record: Hash::ZERO,
        };
        let change = |before: &WalletStateRecord, after: &WalletStateRecord| {
            Signed::change(Some(before), after).expect("fits")
        };
        assert!(change(&state(10, 0, 0), &state(4, 6, 0)).is_zero());
        assert_eq!(change(&state(10, 0, 0), &state(0, 0, 5)).loss(), 15);
        assert_eq!(change(&state(0, 0, 5), &state(3, 0, 0)).gain(), 8);
        assert_eq!(Signed::change(None, &state(0, 2, 9)).expect("fits").loss(), 7);
        assert_eq!(change(&state(0, 0, 0), &state(MAX, 0, 0)).gain(), MAX);
    }
}
