//! Scheduled and standing payments.

use crate::execute::Step;
use crate::ledger::Ledger;
use crate::turn::Turn;
use kanjo_types::outcome::ResultCode;
use kanjo_types::{Operation, ScheduleId};

impl Ledger {
    pub(crate) fn schedule(&mut self, _turn: &Turn<'_>, _operation: &Operation) -> Step {
        Err(ResultCode::NotPermitted)
    }

    pub(crate) fn cancel_schedule(&mut self, _turn: &Turn<'_>, _schedule: ScheduleId) -> Step {
        Err(ResultCode::NotPermitted)
    }

    pub(crate) fn run_schedule(&mut self, _turn: &Turn<'_>, _schedule: ScheduleId) -> Step {
        Err(ResultCode::NotPermitted)
    }
}
