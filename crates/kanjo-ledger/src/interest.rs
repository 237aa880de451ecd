//! Interest on present balances.

use crate::execute::Step;
use crate::ledger::Ledger;
use crate::turn::Turn;
use kanjo_types::outcome::ResultCode;
use kanjo_types::policy::share_of;
use kanjo_types::{Amount, Operation, TokenId, UserId, WalletId};

/// A rate for some days of a year.
#[derive(Clone, Copy)]
struct Rate {
    ppm: u32,
    days: u16,
    year: u16,
}

impl Rate {
    /// `⌊balance × ppm × days / (1,000,000 × year)⌋`; `None` above 2¹²⁸ − 1.
    fn of(self, balance: Amount) -> Option<Amount> {
        let share = u64::from(self.ppm) * u64::from(self.days);
        share_of(balance, share, 1_000_000 * u64::from(self.year))
    }
}

impl Ledger {
    /// Pays interest, wallet by wallet: each on what it holds at its turn. The paying wallet gets
    /// none; a wallet that is named twice gets it twice. No fee is taken and no limit counts.
    pub(crate) fn pay_interest(&mut self, turn: &Turn<'_>, operation: &Operation) -> Step {
        let Operation::PayInterest { token, from, to, rate_ppm, days, year } = operation else {
            return Err(ResultCode::NotPermitted);
        };
        let (token, from) = (*token, *from);
        self.token_record(token).ok_or(ResultCode::UnknownToken)?;
        let owner = self.owner_of(from).ok_or(ResultCode::UnknownSourceWallet)?;
        let target = |wallet: &WalletId| Some((*wallet, self.owner_of(*wallet)?));
        let targets: Option<Vec<(WalletId, UserId)>> = to.iter().map(target).collect();
        let mut targets = targets.ok_or(ResultCode::UnknownTargetWallet)?;
        targets.retain(|(wallet, _)| *wallet != from);
        self.check_issuer(turn, token)?;
        if !turn.signed_by(&owner) {
            return Err(ResultCode::NotWalletOwner);
        }
        self.check_interest(turn, token, (from, owner), &targets)?;
        let rate = Rate { ppm: *rate_ppm, days: *days, year: *year };
        let mut paid = false;
        for (wallet, _) in targets {
            let (balance, _) = self.state_now(wallet, token);
            // No wallet holds enough to pay more than an amount can be.
            let interest = rate.of(balance).ok_or(ResultCode::InsufficientFunds)?;
            if interest == Amount::ZERO {
                continue;
            }
            self.charge(turn, from, token, interest)?;
            self.credit(wallet, token, interest)?;
            paid = true;
        }
        if paid { Ok(()) } else { Err(ResultCode::NothingToPay) }
    }

    /// Freezes of the payer and of every receiver, claims on the payer.
    fn check_interest(
        &self,
        turn: &Turn<'_>,
        token: TokenId,
        from: (WalletId, UserId),
        targets: &[(WalletId, UserId)],
    ) -> Step {
        let Some(rules) = self.rules(token, turn.time_ms()) else { return Ok(()) };
        if rules.freezable {
            self.check_freezes(token, turn.time_ms(), Some(from), None)?;
            for target in targets {
                self.check_freezes(token, turn.time_ms(), None, Some(*target))?;
            }
        }
        if self.state_now(from.0, token).1.claims.0 > 0 {
            return Err(ResultCode::ClaimOpen);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interest_is_exact_and_rounded_down() {
        let rate = |ppm, days, year| Rate { ppm, days, year };
        let cases = [
            (rate(20_000, 365, 365), 1_000, Some(20)),
            (rate(20_000, 1, 365), 1_000_000, Some(54)),
            (rate(20_000, 1, 360), 1_000_000, Some(55)),
            (rate(20_000, 1, 366), 18_299, Some(0)),
            (rate(20_000, 1, 366), 18_300, Some(1)),
            (rate(20_000, 1, 365), 0, Some(0)),
            (rate(1_000_000, 365, 365), u128::MAX, Some(u128::MAX)),
            (rate(1_000_000, 366, 365), u128::MAX, None),
            (rate(u32::MAX, u16::MAX, 360), 360_000_000, Some(281_470_681_677_825)),
        ];
        for (rate, balance, interest) in cases {
            let Rate { ppm, days, year } = rate;
            let found = rate.of(Amount(balance)).map(|amount| amount.0);
            assert_eq!(found, interest, "{balance} at {ppm} for {days} of {year} days");
        }
    }
}
