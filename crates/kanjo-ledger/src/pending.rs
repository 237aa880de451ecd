//! Pending (two-phase) payments: reserve, then post or void; chains; expiry.

use crate::execute::Step;
use crate::ledger::Ledger;
use crate::turn::Turn;
use kanjo_types::outcome::ResultCode;
use kanjo_types::{Amount, Operation, PendingId};

impl Ledger {
    pub(crate) fn reserve(&mut self, _turn: &Turn<'_>, _operation: &Operation) -> Step {
        Err(ResultCode::NotPermitted)
    }

    pub(crate) fn post(
        &mut self,
        _turn: &Turn<'_>,
        _pending: PendingId,
        _amount: Option<Amount>,
    ) -> Step {
        Err(ResultCode::NotPermitted)
    }

    pub(crate) fn void(&mut self, _turn: &Turn<'_>, _pending: PendingId) -> Step {
        Err(ResultCode::NotPermitted)
    }

    pub(crate) fn expire_pending(&mut self, _turn: &Turn<'_>, _pending: PendingId) -> Step {
        Err(ResultCode::NotPermitted)
    }
}
