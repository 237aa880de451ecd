//! What a token permits: set at creation, bounds everything later (mission M5, M6: opt-in).
//!
//! The policy at creation is the token's *charter*. A policy in force may be kinder to holders than
//! the charter, never harsher: what the charter does not permit can never be switched on.
//! [`Policy::harsher_than`] states the order, field by field.

use crate::amount::Amount;
use crate::id::WalletId;
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

/// Most wallet classes of a token.
pub const CLASSES_MAX: usize = 8;
/// A whole in basis points.
pub const BASIS_POINTS: u16 = 10_000;
/// Longest reversal window and longest notice: ten years of 366 days.
pub const DURATION_MAX_MS: u64 = 10 * 366 * 86_400_000;

/// What happens when money that a reversal wants back was paid on. From kind to harsh for those who
/// received money.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum MovedOn {
    /// The reversal is refused.
    Refuse,
    /// What is there is taken; for the rest a claim is left on the wallet.
    Claim,
    /// What is missing is taken from those the wallet paid on to.
    Follow,
}

/// Whether payments can be reversed.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct ReversalRule {
    /// For how long after the payment, in milliseconds of ledger time.
    pub window_ms: u64,
    /// When the money was paid on.
    pub moved_on: MovedOn,
}

/// What a payment costs its payer, on top of the amount.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct Fee {
    /// A fixed part, smallest units.
    pub flat: Amount,
    /// A part of the amount, in 1/10,000; rounded down to the smallest unit.
    pub basis_points: u16,
    /// Who gets it.
    pub receiver: WalletId,
}

impl Fee {
    /// The fee for paying `amount`: `flat + ⌊amount × basis_points / 10,000⌋`; `None` above
    /// 2¹²⁸ − 1.
    #[must_use]
    pub fn of(&self, amount: Amount) -> Option<Amount> {
        let share = share_of(amount, u64::from(self.basis_points), u64::from(BASIS_POINTS))?;
        self.flat.checked_add(share)
    }
}

/// `⌊amount × numerator / denominator⌋` without loss on the way; `None` above 2¹²⁸ − 1 or for a
/// denominator of zero. Rounded down: whoever pays never pays a fraction that is not owed.
#[must_use]
pub fn share_of(amount: Amount, numerator: u64, denominator: u64) -> Option<Amount> {
    let (numerator, denominator) = (u128::from(numerator), u128::from(denominator));
    let whole = amount.0.checked_div(denominator)?.checked_mul(numerator)?;
    // Both factors are below 2^64.
    let rest = amount.0.checked_rem(denominator)?.checked_mul(numerator)?;
    whole.checked_add(rest.checked_div(denominator)?).map(Amount)
}

/// Limits of one class of wallets; `None`: no limit.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
#[serde(deny_unknown_fields, default)]
pub struct ClassLimits {
    /// Most that a wallet may hold, reserved money included.
    pub max_balance: Option<Amount>,
    /// Most in one payment, without its fee.
    pub max_payment: Option<Amount>,
    /// Most in all payments of one UTC day, without fees.
    pub max_day: Option<Amount>,
}

/// What a token permits. The default permits nothing beyond issuing, redeeming and paying.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Most that may be in circulation (issued − redeemed).
    pub supply_cap: Option<Amount>,
    /// May the freezer freeze wallets, users and the token?
    pub freezable: bool,
    /// May the reverser reverse payments?
    pub reversal: Option<ReversalRule>,
    /// Fee of a payment.
    pub fee: Option<Fee>,
    /// Must a wallet be approved before it can receive?
    pub allow_list: bool,
    /// May the approver let wallets overdraw?
    pub credit: bool,
    /// May the approver set floors below which a wallet can't pay?
    pub floors: bool,
    /// Limits by wallet class; a wallet is in class 0 unless the approver says otherwise. No entry:
    /// no limits.
    pub classes: Vec<ClassLimits>,
    /// How long before a change against holders takes effect, in milliseconds. Fixed at creation.
    pub notice_ms: u64,
}

impl Policy {
    /// Checks bounds that need no ledger.
    ///
    /// # Errors
    /// The field that is out of its bounds.
    pub fn check(&self) -> Result<(), &'static str> {
        let long = |duration: u64| duration > DURATION_MAX_MS;
        if self.reversal.is_some_and(|rule| rule.window_ms == 0 || long(rule.window_ms)) {
            return Err("reversal.window_ms");
        }
        if self.fee.is_some_and(|fee| fee.basis_points > BASIS_POINTS) {
            return Err("fee.basis_points");
        }
        if self.fee.is_some_and(|fee| fee.basis_points == 0 && fee.flat.0 == 0) {
            return Err("fee");
        }
        if self.classes.len() > CLASSES_MAX {
            return Err("classes");
        }
        if long(self.notice_ms) {
            return Err("notice_ms");
        }
        Ok(())
    }

    /// True for a policy that asks nothing of a plain payment.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// Limits of a class.
    #[must_use]
    pub fn limits(&self, class: u8) -> ClassLimits {
        self.classes.get(usize::from(class)).copied().unwrap_or_default()
    }

    /// The first field in which this policy is harsher to holders than `other`; `None` when it is
    /// nowhere harsher.
    ///
    /// Harsher is: a higher supply cap; freezing, an allow-list, credit or floors where there were
    /// none; a reversal rule where there was none, a longer window, a harsher
    /// [`MovedOn`]; a higher fee (its receiver does not matter); a lower limit of a class; another
    /// notice.
    #[must_use]
    pub fn harsher_than(&self, other: &Self) -> Option<&'static str> {
        let newly = |new: bool, old: bool| new && !old;
        let lower = |new: Option<Amount>, old: Option<Amount>| match (new, old) {
            (Some(new), Some(old)) => new < old,
            (Some(_), None) => true,
            (None, _) => false,
        };
        let fee = |policy: &Self| {
            policy.fee.map_or((Amount::ZERO, 0), |fee| (fee.flat, fee.basis_points))
        };
        let ((flat, points), (old_flat, old_points)) = (fee(self), fee(other));
        let reversal = match (self.reversal, other.reversal) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(new), Some(old)) => new.window_ms > old.window_ms || new.moved_on > old.moved_on,
        };
        let classes = (0u8..).take(CLASSES_MAX).any(|class| {
            let (new, old) = (self.limits(class), other.limits(class));
            lower(new.max_balance, old.max_balance)
                || lower(new.max_payment, old.max_payment)
                || lower(new.max_day, old.max_day)
        });
        let checks = [
            ("supply_cap", lower(other.supply_cap, self.supply_cap)),
            ("freezable", newly(self.freezable, other.freezable)),
            ("reversal", reversal),
            ("fee", flat > old_flat || points > old_points),
            ("allow_list", newly(self.allow_list, other.allow_list)),
            ("credit", newly(self.credit, other.credit)),
            ("floors", newly(self.floors, other.floors)),
            ("classes", classes),
            ("notice_ms", self.notice_ms != other.notice_ms),
        ];
        checks.into_iter().find(|(_, harsher)| *harsher).map(|(field, _)| field)
    }
}

/// A change of policy that is announced and not yet in force.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct ComingPolicy {
    /// What will hold.
    pub policy: Policy,
    /// From this ledger time on.
    pub from_ms: u64,
}

/// The policy part of a token that has one. Absent for a token whose charter is plain.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct TokenRules {
    /// As created; bounds every later policy.
    pub charter: Policy,
    /// In force, unless `coming` has come.
    pub policy: Policy,
    /// Announced.
    pub coming: Option<ComingPolicy>,
}

impl TokenRules {
    /// The rules of a new token; `None` when its policy is plain.
    #[must_use]
    pub fn new(charter: &Policy) -> Option<Box<Self>> {
        let rules = || Self { charter: charter.clone(), policy: charter.clone(), coming: None };
        (!charter.is_plain()).then(|| Box::new(rules()))
    }

    /// The policy in force at a ledger time.
    #[must_use]
    pub fn at(&self, time_ms: u64) -> &Policy {
        match &self.coming {
            Some(coming) if coming.from_ms <= time_ms => &coming.policy,
            _ => &self.policy,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(max_day: u128) -> ClassLimits {
        ClassLimits { max_day: Some(Amount(max_day)), ..ClassLimits::default() }
    }

    #[test]
    fn harsher_is_what_takes_from_holders() {
        let plain = Policy::default();
        let fee = |flat, basis_points| Policy {
            fee: Some(Fee { flat: Amount(flat), basis_points, receiver: WalletId([1; 16]) }),
            ..Policy::default()
        };
        let reversal = |window_ms, moved_on| Policy {
            reversal: Some(ReversalRule { window_ms, moved_on }),
            ..Policy::default()
        };
        let cap = |cap| Policy { supply_cap: Some(Amount(cap)), ..Policy::default() };
        let classes = |classes| Policy { classes, ..Policy::default() };
        let harsher = [
            (plain.clone(), cap(5), "supply_cap"),
            (cap(6), cap(5), "supply_cap"),
            (Policy { freezable: true, ..plain.clone() }, plain.clone(), "freezable"),
            (reversal(1, MovedOn::Refuse), plain.clone(), "reversal"),
            (reversal(2, MovedOn::Refuse), reversal(1, MovedOn::Follow), "reversal"),
            (reversal(1, MovedOn::Follow), reversal(1, MovedOn::Claim), "reversal"),
            (fee(1, 0), plain.clone(), "fee"),
            (fee(1, 9), fee(2, 8), "fee"),
            (Policy { allow_list: true, ..plain.clone() }, plain.clone(), "allow_list"),
            (classes(vec![limits(4)]), classes(vec![limits(5)]), "classes"),
            (classes(vec![limits(4), limits(1)]), classes(vec![limits(4)]), "classes"),
            (Policy { notice_ms: 1, ..plain.clone() }, plain.clone(), "notice_ms"),
        ];
        for (new, old, field) in harsher {
            assert_eq!(new.harsher_than(&old), Some(field), "{new:?} against {old:?}");
            assert_eq!(new.harsher_than(&new), None);
        }
        assert_eq!(cap(5).harsher_than(&plain), None);
        assert_eq!(plain.harsher_than(&fee(1, 1)), None);
        assert_eq!(fee(1, 8).harsher_than(&fee(1, 9)), None);
        assert_eq!(classes(vec![limits(6)]).harsher_than(&classes(vec![limits(5)])), None);
    }

    #[test]
    fn shares_are_exact_and_rounded_down() {
        assert_eq!(share_of(Amount(999), 1, 1_000), Some(Amount(0)));
        assert_eq!(share_of(Amount(1_000), 25, 10_000), Some(Amount(2)));
        assert_eq!(share_of(Amount(u128::MAX), 10_000, 10_000), Some(Amount(u128::MAX)));
        assert_eq!(share_of(Amount(u128::MAX), 10_001, 10_000), None);
        assert_eq!(share_of(Amount(u128::MAX), 1, 3), Some(Amount(u128::MAX / 3)));
        assert_eq!(share_of(Amount(1), 1, 0), None);
    }
}
