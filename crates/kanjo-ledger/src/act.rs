//! Administrative acts: orders, agreement, what each act does.

use crate::execute::Step;
use crate::ledger::Ledger;
use crate::turn::Turn;
use kanjo_types::ActId;
use kanjo_types::money::{Evidence, Grant, Order, Scope};
use kanjo_types::outcome::ResultCode;

impl Ledger {
    pub(crate) fn set_guardians(
        &mut self,
        _turn: &Turn<'_>,
        _grant: &Grant,
        _delay_ms: u64,
    ) -> Step {
        Err(ResultCode::NotPermitted)
    }

    pub(crate) fn order_act(
        &mut self,
        _turn: &Turn<'_>,
        _order: &Order,
        _evidence: &[Evidence],
    ) -> Step {
        Err(ResultCode::NotPermitted)
    }

    pub(crate) fn approve_act(
        &mut self,
        _turn: &Turn<'_>,
        _act: ActId,
        _evidence: &[Evidence],
    ) -> Step {
        Err(ResultCode::NotPermitted)
    }

    pub(crate) fn reject_act(&mut self, _turn: &Turn<'_>, _act: ActId) -> Step {
        Err(ResultCode::NotPermitted)
    }

    pub(crate) fn finish_act(&mut self, _turn: &Turn<'_>, _act: ActId) -> Step {
        Err(ResultCode::NotPermitted)
    }

    pub(crate) fn draft_grant(&mut self, _scope: Scope, _grant: &Grant, _delay_ms: u64) {}
}
