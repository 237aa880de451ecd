//! Interest on present balances.

use crate::execute::Step;
use crate::ledger::Ledger;
use crate::turn::Turn;
use kanjo_types::Operation;
use kanjo_types::outcome::ResultCode;

impl Ledger {
    pub(crate) fn pay_interest(&mut self, _turn: &Turn<'_>, _operation: &Operation) -> Step {
        Err(ResultCode::NotPermitted)
    }
}
