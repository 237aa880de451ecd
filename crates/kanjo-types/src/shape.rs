//! The shape of operations: bounds of counts, texts and numbers that need no ledger.
//!
//! Each check names the field that breaks a rule by its path from the operation, such as
//! `legs[2].amount`; [`crate::transaction::TransactionBody::check_shape`] puts the operation in
//! front.

use crate::access::Access;
use crate::amount::Amount;
use crate::id::WalletId;
use crate::money::{
    Act, Condition, Every, Evidence, GRANTS_MAX, Grant, INTEREST_WALLETS_MAX, LEGS_MAX, Leg,
    ORIGINALS_MAX, Role, check_attribute_name, check_parties, check_policy, check_reference,
    positive,
};
use crate::outcome::Refusal;
use crate::policy::DURATION_MAX_MS;
use crate::transaction::{Operation, Refused, check_token};

/// A broken rule and the field that breaks it.
pub(crate) type Field = Result<(), (Refusal, &'static str)>;

/// As [`Field`], where the field lies deeper.
pub(crate) type Shape = Result<(), Flaw>;

/// A broken rule, with the path of the field from where it was found.
pub(crate) struct Flaw {
    refusal: Refusal,
    field: String,
}

impl From<(Refusal, &'static str)> for Flaw {
    fn from((refusal, field): (Refusal, &'static str)) -> Self {
        Self::new(refusal, field)
    }
}

impl Flaw {
    pub(crate) fn new(refusal: Refusal, field: &str) -> Self {
        Self { refusal, field: field.to_owned() }
    }

    /// As seen from one level above.
    pub(crate) fn within(self, place: &str) -> Self {
        Self { field: format!("{place}.{}", self.field), ..self }
    }
}

impl From<Flaw> for Refused {
    fn from(flaw: Flaw) -> Self {
        Self { refusal: flaw.refusal, field: flaw.field }
    }
}

/// Checks each of a list and says which of them is wrong.
fn each<T>(items: &[T], place: &str, check: impl Fn(&T) -> Field) -> Shape {
    for (position, item) in items.iter().enumerate() {
        check(item).map_err(|wrong| Flaw::from(wrong).within(&format!("{place}[{position}]")))?;
    }
    Ok(())
}

impl Operation {
    pub(crate) fn check_shape(&self) -> Shape {
        let keys = |access: &Access| access.check().map_err(|_| (Refusal::InvalidKeys, "access"));
        match self {
            Self::CreateUser { access, .. } | Self::RotateKeys { access, .. } => Ok(keys(access)?),
            Self::CreateToken { symbol, name, decimals, policy, grants, .. } => {
                check_token(symbol, name, *decimals)?;
                check_policy(policy)?;
                check_grants(grants)
            }
            Self::Issue { amount, .. } | Self::Redeem { amount, .. } => Ok(positive(amount)?),
            Self::Transfer { from, to, amount, reference, .. }
            | Self::Reserve { from, to, amount, reference, .. } => {
                Ok(check_payment(*from, *to, amount, reference)?)
            }
            Self::Parties { users } => Ok(check_parties(users, "users")?),
            Self::Post { amount, .. } => Ok(amount.as_ref().map_or(Ok(()), positive)?),
            Self::ProposeBundle { parties, conditions, legs, .. } => {
                check_parties(parties, "parties")?;
                check_bundle(conditions, legs)
            }
            Self::Schedule { from, to, amount, every, times, when_short, reference, .. } => {
                check_payment(*from, *to, amount, reference)?;
                every.map_or(Ok(()), Every::check)?;
                if *times == Some(0) || (times.is_some() && every.is_none()) {
                    return Err(Flaw::new(Refusal::InvalidSchedule, "times"));
                }
                Ok(when_short.check()?)
            }
            Self::SetAttribute { name, .. } | Self::EraseAttribute { name, .. } => {
                Ok(check_attribute_name(name)?)
            }
            Self::SetGuardians { grant, delay_ms } => check_guardians(grant, *delay_ms),
            Self::Act { order, evidence } => {
                order.check().map_err(|flaw| flaw.within("order"))?;
                Ok(check_evidence(evidence, matches!(order.act, Act::Reverse { .. }))?)
            }
            Self::ApproveAct { evidence, .. } => Ok(check_evidence(evidence, true)?),
            Self::PayInterest { to, rate_ppm, days, year, .. } => {
                Ok(check_interest(to, *rate_ppm, *days, *year)?)
            }
            Self::CreateWallet { .. }
            | Self::Require { .. }
            | Self::Void { .. }
            | Self::AgreeBundle { .. }
            | Self::DeclineBundle { .. }
            | Self::CancelSchedule { .. }
            | Self::RejectAct { .. }
            | Self::FinishAct { .. }
            | Self::SettleClaim { .. }
            // The ledger checks definitions and rows: most rules depend on what is there.
            | Self::Define { .. }
            | Self::Write { .. } => Ok(()),
            Self::ChangeMembership { change } => Ok(change.check()?),
            Self::ExpirePending { .. } | Self::RunSchedule { .. } | Self::TakeNotice { .. } => {
                Err(Flaw::new(Refusal::LedgerOnly, "type"))
            }
        }
    }
}

fn check_payment(from: WalletId, to: WalletId, amount: &Amount, reference: &str) -> Field {
    positive(amount)?;
    if from == to {
        return Err((Refusal::SameWallet, "to"));
    }
    check_reference(reference)
}

fn check_bundle(conditions: &[Condition], legs: &[Leg]) -> Shape {
    if conditions.len() > LEGS_MAX {
        return Err(Flaw::new(Refusal::InvalidBundle, "conditions"));
    }
    if !(1..=LEGS_MAX).contains(&legs.len()) {
        return Err(Flaw::new(Refusal::InvalidBundle, "legs"));
    }
    each(legs, "legs", |leg| check_payment(leg.from, leg.to, &leg.amount, &leg.reference))
}

/// Roles of a token, each at most once, ascending.
fn check_grants(grants: &[Grant]) -> Shape {
    if grants.len() > GRANTS_MAX || !grants.is_sorted_by(|a, b| a.role < b.role) {
        return Err(Flaw::new(Refusal::InvalidRole, "grants"));
    }
    each(grants, "grants", Grant::check_of_token)
}

fn check_guardians(grant: &Grant, delay_ms: u64) -> Shape {
    if grant.role != Role::Guardian {
        return Err(Flaw::new(Refusal::InvalidRole, "grant.role"));
    }
    grant.check().map_err(|wrong| Flaw::from(wrong).within("grant"))?;
    if delay_ms > DURATION_MAX_MS {
        return Err(Flaw::new(Refusal::InvalidRole, "delay_ms"));
    }
    Ok(())
}

/// Only a reversal has evidence: one for each transaction at most.
fn check_evidence(evidence: &[Evidence], may_reverse: bool) -> Field {
    let most = if may_reverse { ORIGINALS_MAX } else { 0 };
    if evidence.len() > most { Err((Refusal::InvalidReversal, "evidence")) } else { Ok(()) }
}

fn check_interest(to: &[WalletId], rate_ppm: u32, days: u16, year: u16) -> Field {
    let checks = [
        ((1..=INTEREST_WALLETS_MAX).contains(&to.len()), "to"),
        (rate_ppm > 0, "rate_ppm"),
        (days > 0, "days"),
        (matches!(year, 360 | 365 | 366), "year"),
    ];
    let wrong = checks.into_iter().find(|(fine, _)| !fine);
    wrong.map_or(Ok(()), |(_, field)| Err((Refusal::InvalidInterest, field)))
}
