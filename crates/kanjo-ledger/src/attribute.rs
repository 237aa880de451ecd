//! Commitments to personal attributes, and their erasure.

use crate::execute::Step;
use crate::ledger::Ledger;
use crate::turn::Turn;
use kanjo_types::outcome::ResultCode;
use kanjo_types::{Hash, UserId};

impl Ledger {
    pub(crate) fn set_attribute(
        &mut self,
        _turn: &Turn<'_>,
        _user: UserId,
        _name: &str,
        _commitment: Hash,
    ) -> Step {
        Err(ResultCode::NotPermitted)
    }

    pub(crate) fn erase_attribute(&mut self, _turn: &Turn<'_>, _user: UserId, _name: &str) -> Step {
        Err(ResultCode::NotPermitted)
    }
}
