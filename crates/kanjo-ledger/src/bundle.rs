//! Bundles that are collected on the ledger, and conditions.

use crate::execute::Step;
use crate::ledger::Ledger;
use crate::turn::Turn;
use kanjo_types::money::{Condition, Leg};
use kanjo_types::outcome::ResultCode;
use kanjo_types::{BundleId, UserId};

impl Ledger {
    pub(crate) fn require(&mut self, _turn: &Turn<'_>, _condition: &Condition) -> Step {
        Err(ResultCode::NotPermitted)
    }

    pub(crate) fn propose_bundle(
        &mut self,
        _turn: &Turn<'_>,
        _parties: &[UserId],
        _conditions: &[Condition],
        _legs: &[Leg],
        _expires_ms: u64,
    ) -> Step {
        Err(ResultCode::NotPermitted)
    }

    pub(crate) fn agree_bundle(&mut self, _turn: &Turn<'_>, _bundle: BundleId) -> Step {
        Err(ResultCode::NotPermitted)
    }

    pub(crate) fn decline_bundle(&mut self, _turn: &Turn<'_>, _bundle: BundleId) -> Step {
        Err(ResultCode::NotPermitted)
    }
}
