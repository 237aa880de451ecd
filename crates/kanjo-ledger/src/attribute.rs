//! Commitments to personal attributes, and their erasure.

use crate::execute::Step;
use crate::ledger::Ledger;
use crate::turn::Turn;
use kanjo_types::outcome::ResultCode;
use kanjo_types::record::{Record, RowKey, Table};
use kanjo_types::standing::{AttributeRecord, Links};
use kanjo_types::{Hash, UserId};

impl Ledger {
    /// Commits to an attribute. The signer who is the user or its sponsor keeps the attribute from
    /// now on; the author comes first when both sign.
    pub(crate) fn set_attribute(
        &mut self,
        turn: &Turn<'_>,
        user: UserId,
        name: &str,
        commitment: Hash,
    ) -> Step {
        let sponsor = self.sponsor_of(&user).ok_or(ResultCode::UnknownUser)?;
        let custodian = turn.signers().find(|signer| [user, sponsor].contains(signer));
        let record = AttributeRecord {
            user,
            name: name.to_owned(),
            links: Links::default(),
            commitment,
            custodian: custodian.ok_or(ResultCode::NotCustodian)?,
            erased_ms: None,
        };
        self.draft_standing(Record::Attribute(Box::new(record)));
        Ok(())
    }

    /// Declares an attribute erased where it was kept. The commitment stays: without the salt it
    /// says nothing.
    pub(crate) fn erase_attribute(&mut self, turn: &Turn<'_>, user: UserId, name: &str) -> Step {
        if !self.user_known(&user) {
            return Err(ResultCode::UnknownUser);
        }
        let key = RowKey::attribute(user, name);
        let Some(Record::Attribute(record)) = self.standing_record(Table::Attributes, key) else {
            return Err(ResultCode::UnknownAttribute);
        };
        if !turn.signed_by(&record.custodian) && !turn.signed_by(&user) {
            return Err(ResultCode::NotCustodian);
        }
        if record.erased_ms.is_some() {
            return Err(ResultCode::AttributeErased);
        }
        let mut erased = record.clone();
        erased.erased_ms = Some(turn.time_ms());
        self.draft_standing(Record::Attribute(erased));
        Ok(())
    }
}
