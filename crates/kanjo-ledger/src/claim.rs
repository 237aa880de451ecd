//! Claims that reversals leave.

use crate::execute::Step;
use crate::ledger::Ledger;
use crate::turn::Turn;
use kanjo_types::ClaimId;
use kanjo_types::outcome::ResultCode;

impl Ledger {
    pub(crate) fn settle_claim(&mut self, _turn: &Turn<'_>, _claim: ClaimId) -> Step {
        Err(ResultCode::NotPermitted)
    }
}
