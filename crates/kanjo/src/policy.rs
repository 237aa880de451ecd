//! A token's policy as typed and as shown.

use crate::context::Session;
use crate::describe::Labels;
use crate::fail::{Done, Fail};
use crate::text::{duration, group_digits, parse_duration};
use crate::typed::whole;
use clap::{Args, ValueEnum};
use kanjo_types::policy::{ClassLimits, Fee, MovedOn, Policy, ReversalRule};
use kanjo_types::{Amount, WalletId};
use std::time::Duration;

/// What a token permits, as typed.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Policy")]
pub struct PolicyArgs {
    /// Most that may be in circulation, in whole tokens.
    #[arg(long, value_name = "AMOUNT")]
    cap: Option<String>,
    /// The freezer may freeze wallets, users and the whole token.
    #[arg(long)]
    freezable: bool,
    /// The reverser may reverse payments for this long.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    reversible: Option<Duration>,
    /// When money to be taken back was paid on: refuse the reversal, leave a claim, or follow the
    /// money; 'refuse' when left out.
    #[arg(long, value_name = "WHAT", value_enum)]
    moved_on: Option<MovedOnArg>,
    /// Fixed part of the fee of a payment, in whole tokens.
    #[arg(long, value_name = "AMOUNT")]
    fee_flat: Option<String>,
    /// Part of the amount that is a fee, in basis points (1/10,000).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=10_000))]
    fee_bp: Option<u16>,
    /// Wallet that gets the fees.
    #[arg(long, value_name = "WALLET")]
    fee_to: Option<String>,
    /// Wallets must be approved before they can receive.
    #[arg(long)]
    allow_list: bool,
    /// The approver may let wallets overdraw.
    #[arg(long)]
    credit: bool,
    /// The approver may set floors below which a wallet can't pay.
    #[arg(long)]
    floors: bool,
    /// Limits of a class of wallets, such as "balance=5000,payment=100,day=300", or "none"; the
    /// first is class 0, where every wallet is at first. Repeat it for more classes.
    #[arg(long = "class", value_name = "LIMITS", value_parser = parse_class)]
    classes: Vec<ClassText>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum MovedOnArg {
    Refuse,
    Claim,
    Follow,
}

/// Limits of a class as typed, in whole tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClassText {
    balance: Option<String>,
    payment: Option<String>,
    day: Option<String>,
}

fn parse_class(text: &str) -> Result<ClassText, String> {
    let wrong = || {
        format!("'{text}' are no limits: write \"balance=5000,payment=100,day=300\" or \"none\"")
    };
    let mut class = ClassText::default();
    if text.trim() == "none" {
        return Ok(class);
    }
    for part in text.split(',') {
        let (name, amount) = part.split_once('=').ok_or_else(wrong)?;
        let place = match name.trim() {
            "balance" => &mut class.balance,
            "payment" => &mut class.payment,
            "day" => &mut class.day,
            _ => return Err(wrong()),
        };
        if place.replace(amount.trim().to_owned()).is_some() {
            return Err(wrong());
        }
    }
    Ok(class)
}

impl ClassText {
    fn limits(&self, decimals: u8) -> Done<ClassLimits> {
        let read = |text: &Option<String>| -> Done<Option<Amount>> {
            text.as_ref().map(|text| whole(text, decimals)).transpose()
        };
        Ok(ClassLimits {
            max_balance: read(&self.balance)?,
            max_payment: read(&self.payment)?,
            max_day: read(&self.day)?,
        })
    }
}

impl PolicyArgs {
    /// `base` with what was typed.
    pub fn apply(&self, session: &Session, decimals: u8, base: Policy) -> Done<Policy> {
        let mut policy = base;
        if let Some(cap) = &self.cap {
            policy.supply_cap = Some(whole(cap, decimals)?);
        }
        policy.freezable |= self.freezable;
        policy.allow_list |= self.allow_list;
        policy.credit |= self.credit;
        policy.floors |= self.floors;
        policy.reversal = self.reversal(policy.reversal)?;
        policy.fee = self.fee(session, decimals, policy.fee)?;
        if !self.classes.is_empty() {
            let limits = self.classes.iter().map(|class| class.limits(decimals));
            policy.classes = limits.collect::<Done<_>>()?;
        }
        Ok(policy)
    }

    fn reversal(&self, base: Option<ReversalRule>) -> Done<Option<ReversalRule>> {
        let window =
            self.reversible.map(|window| u64::try_from(window.as_millis()).unwrap_or(u64::MAX));
        let moved_on = self.moved_on.map(|moved_on| match moved_on {
            MovedOnArg::Refuse => MovedOn::Refuse,
            MovedOnArg::Claim => MovedOn::Claim,
            MovedOnArg::Follow => MovedOn::Follow,
        });
        let window_ms = match (window, base, moved_on) {
            (Some(window_ms), ..) => window_ms,
            (None, Some(base), _) => base.window_ms,
            (None, None, None) => return Ok(None),
            (None, None, Some(_)) => {
                return Err(Fail::usage("--moved-on needs --reversible DURATION"));
            }
        };
        let moved_on = moved_on.or(base.map(|base| base.moved_on)).unwrap_or(MovedOn::Refuse);
        Ok(Some(ReversalRule { window_ms, moved_on }))
    }

    fn fee(&self, session: &Session, decimals: u8, base: Option<Fee>) -> Done<Option<Fee>> {
        if self.fee_flat.is_none() && self.fee_bp.is_none() && self.fee_to.is_none() {
            return Ok(base);
        }
        let receiver = match (&self.fee_to, base) {
            (Some(wallet), _) => session.book.wallet(wallet)?,
            (None, Some(base)) => base.receiver,
            (None, None) => return Err(Fail::usage("a fee needs its receiver: --fee-to WALLET")),
        };
        let flat = match &self.fee_flat {
            Some(flat) => whole(flat, decimals)?,
            None => base.map_or(Amount::ZERO, |base| base.flat),
        };
        let basis_points = self.fee_bp.unwrap_or_else(|| base.map_or(0, |base| base.basis_points));
        Ok(Some(Fee { flat, basis_points, receiver }))
    }
}

/// A part of a policy that can be taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// The supply cap.
    Cap,
    /// Freezing.
    Freezable,
    /// Reversals.
    Reversible,
    /// The fee.
    Fee,
    /// The allow-list.
    AllowList,
    /// Credit.
    Credit,
    /// Floors.
    Floors,
    /// Classes.
    Classes,
}

impl Part {
    /// Takes it away.
    pub fn drop_from(self, policy: &mut Policy) {
        match self {
            Self::Cap => policy.supply_cap = None,
            Self::Freezable => policy.freezable = false,
            Self::Reversible => policy.reversal = None,
            Self::Fee => policy.fee = None,
            Self::AllowList => policy.allow_list = false,
            Self::Credit => policy.credit = false,
            Self::Floors => policy.floors = false,
            Self::Classes => policy.classes.clear(),
        }
    }
}

/// What a policy permits, a line for each part; none for a plain policy.
pub fn policy_lines(
    policy: &Policy,
    money: &dyn Fn(Amount) -> String,
    wallet: &dyn Fn(WalletId) -> String,
) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(cap) = policy.supply_cap {
        lines.push(format!("at most {} in circulation", money(cap)));
    }
    if policy.freezable {
        lines.push("wallets, users and the token can be frozen".to_owned());
    }
    if let Some(rule) = policy.reversal {
        let moved_on = match rule.moved_on {
            MovedOn::Refuse => "refused when the money was paid on",
            MovedOn::Claim => "leaves a claim when the money was paid on",
            MovedOn::Follow => "follows the money when it was paid on",
        };
        let window = duration(rule.window_ms);
        lines.push(format!("payments can be reversed for {window}; {moved_on}"));
    }
    if let Some(fee) = policy.fee {
        let receiver = wallet(fee.receiver);
        let share = percent_of_points(fee.basis_points);
        let parts = [
            (fee.flat != Amount::ZERO).then(|| money(fee.flat)),
            (fee.basis_points > 0).then_some(share),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        lines.push(format!("a payment costs {}, to {receiver}", parts.join(" and ")));
    }
    if policy.allow_list {
        lines.push("wallets must be approved before they receive".to_owned());
    }
    if policy.credit {
        lines.push("wallets can be given credit".to_owned());
    }
    if policy.floors {
        lines.push("wallets can be given a floor".to_owned());
    }
    for (class, limits) in policy.classes.iter().enumerate() {
        lines.push(format!("class {class}: {}", limits_text(limits, money)));
    }
    if policy.notice_ms > 0 {
        let notice = duration(policy.notice_ms);
        lines.push(format!("changes against holders are announced {notice} before"));
    }
    lines
}

/// Basis points in percent: 25 is `0.25%`.
fn percent_of_points(points: u16) -> String {
    format!("{}%", Amount(u128::from(points)).to_decimal(2))
}

fn limits_text(limits: &ClassLimits, money: &dyn Fn(Amount) -> String) -> String {
    let parts = [
        limits.max_balance.map(|most| format!("holds at most {}", money(most))),
        limits.max_payment.map(|most| format!("pays at most {} at once", money(most))),
        limits.max_day.map(|most| format!("at most {} a day", money(most))),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "no limits".to_owned() } else { parts.join(", ") }
}

/// The same in words of a token: what a signer of a policy is shown.
pub fn policy_words(policy: &Policy, decimals: Option<(u8, &str)>, labels: &Labels<'_>) -> String {
    let money = |amount: Amount| match decimals {
        Some((decimals, symbol)) => {
            format!("{} {symbol}", group_digits(&amount.to_decimal(decimals)))
        }
        None => format!("{} smallest units", group_digits(&amount.to_string())),
    };
    let lines = policy_lines(policy, &money, &|id| labels.wallet_short(id));
    if lines.is_empty() { "plain".to_owned() } else { lines.join("; ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_read_in_any_order() {
        let class = parse_class("day=3, balance=5").expect("fine");
        let limits = class.limits(2).expect("fine");
        assert_eq!(limits.max_day, Some(Amount(300)));
        assert_eq!(limits.max_balance, Some(Amount(500)));
        assert_eq!(limits.max_payment, None);
        assert_eq!(parse_class("none"), Ok(ClassText::default()));
        for bad in ["", "balance", "weight=3", "day=1,day=2"] {
            assert!(parse_class(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn parts_can_be_taken_away() {
        let mut policy = Policy {
            supply_cap: Some(Amount(5)),
            freezable: true,
            reversal: Some(ReversalRule { window_ms: 1, moved_on: MovedOn::Claim }),
            fee: Some(Fee { flat: Amount(1), basis_points: 0, receiver: WalletId([1; 16]) }),
            allow_list: true,
            credit: true,
            floors: true,
            classes: vec![ClassLimits::default()],
            notice_ms: 0,
        };
        Part::value_variants().iter().for_each(|part| part.drop_from(&mut policy));
        assert!(policy.is_plain());
    }

    #[test]
    fn shares_are_shown_in_percent() {
        assert_eq!(percent_of_points(25), "0.25%");
        assert_eq!(percent_of_points(10_000), "100.00%");
    }
}
