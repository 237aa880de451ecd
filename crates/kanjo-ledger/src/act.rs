//! Administrative acts: who may order them, who must agree, and how each stands.
//!
//! ```text
//!            enough sign                          enough agree
//! order ───────────────────▶ Done    Proposed ──────────────────▶ Done
//!   │ fewer                                │  a holder, the maker
//!   └──────────▶ Proposed                  └──────────────────────▶ Rejected
//!
//! keys of a user: enough guardians ──▶ Waiting ──delay, finish──▶ Done
//!                                        └── the user, a guardian, the maker ──▶ Rejected
//! ```
//! What an act does when it is done is in [`crate::admin`] and [`crate::reversal`].

use crate::execute::Step;
use crate::ledger::Ledger;
use crate::payment::HeldBy;
use crate::table::Row as _;
use crate::turn::Turn;
use kanjo_types::money::{Act, Evidence, Grant, Order, Role, Scope};
use kanjo_types::outcome::ResultCode;
use kanjo_types::policy::DURATION_MAX_MS;
use kanjo_types::record::{Record, RowKey, Table};
use kanjo_types::standing::{ActRecord, ActStatus, AuthorityRecord, Links};
use kanjo_types::{ActId, Hash, UserId};

/// Who holds a role at present.
struct Holders {
    users: Vec<UserId>,
    threshold: usize,
    delay_ms: u64,
}

impl Holders {
    /// Those who sign, in the order in which they do.
    fn signing(&self, turn: &Turn<'_>) -> Vec<UserId> {
        turn.signers().filter(|signer| self.users.contains(signer)).collect()
    }

    /// Are enough of those who agreed holders still?
    fn are_enough(&self, agreed: &[UserId]) -> bool {
        self.users.iter().filter(|user| agreed.contains(user)).count() >= self.threshold
    }
}

impl Ledger {
    pub(crate) fn set_guardians(&mut self, turn: &Turn<'_>, grant: &Grant, delay_ms: u64) -> Step {
        self.check_users_known(&grant.holders)?;
        if grant.holders.contains(&turn.author) {
            return Err(ResultCode::NotPermitted);
        }
        self.draft_grant(Scope::User(turn.author), grant, delay_ms);
        Ok(())
    }

    /// Gives a role to others.
    pub(crate) fn draft_grant(&mut self, scope: Scope, grant: &Grant, delay_ms: u64) {
        self.draft_standing(Record::Authority(Box::new(AuthorityRecord {
            scope,
            role: grant.role,
            links: Links::default(),
            holders: grant.holders.clone(),
            threshold: grant.threshold,
            delay_ms,
        })));
    }

    fn holders(&self, scope: Scope, role: Role) -> Option<Holders> {
        let HeldBy { users, threshold, delay_ms } = self.held_by(scope, role)?;
        Some(Holders { users: users.to_vec(), threshold, delay_ms })
    }

    pub(crate) fn order_act(
        &mut self,
        turn: &Turn<'_>,
        order: &Order,
        evidence: &[Evidence],
    ) -> Step {
        let act = &order.act;
        self.check_names(act)?;
        let holders = self.holders(act.scope(), act.role()).ok_or(ResultCode::NotHolder)?;
        let agreed = holders.signing(turn);
        if agreed.is_empty() {
            return Err(ResultCode::NotHolder);
        }
        if !holders.are_enough(&agreed) {
            self.check_permitted(turn, act)?;
            let latest_ms = turn.time_ms().saturating_add(DURATION_MAX_MS);
            if !(turn.time_ms()..=latest_ms).contains(&order.expires_ms) {
                return Err(ResultCode::InvalidTime);
            }
        }
        let record = ActRecord {
            id: ActId::derive(turn.id, turn.number, 0),
            links: Links::default(),
            act: act.clone(),
            reason: order.reason.clone(),
            maker: turn.author,
            agreed,
            rejected_by: None,
            expires_ms: order.expires_ms,
            authority: Hash::ZERO,
            token_record: Hash::ZERO,
            status: ActStatus::Proposed,
        };
        self.take_agreement(turn, record, &holders, evidence)
    }

    pub(crate) fn approve_act(
        &mut self,
        turn: &Turn<'_>,
        act: ActId,
        evidence: &[Evidence],
    ) -> Step {
        let mut record = self.act_record(act).ok_or(ResultCode::UnknownAct)?.clone();
        let holders = self.holders(record.act.scope(), record.act.role());
        let holders = holders.ok_or(ResultCode::NotHolder)?;
        let mut signing = holders.signing(turn);
        if signing.is_empty() {
            return Err(ResultCode::NotHolder);
        }
        match record.status {
            ActStatus::Proposed => {}
            ActStatus::Waiting(_) => return Err(ResultCode::ActWaiting),
            ActStatus::Done | ActStatus::Rejected => return Err(ResultCode::ActClosed),
        }
        if turn.time_ms() > record.expires_ms {
            return Err(ResultCode::ActExpired);
        }
        signing.retain(|user| !record.agreed.contains(user));
        if signing.is_empty() {
            return Err(ResultCode::AlreadyAgreed);
        }
        record.agreed.append(&mut signing);
        self.take_agreement(turn, record, &holders, evidence)
    }

    /// Records who agreed and, when that is enough, does the act or lets it wait.
    fn take_agreement(
        &mut self,
        turn: &Turn<'_>,
        mut record: ActRecord,
        holders: &Holders,
        evidence: &[Evidence],
    ) -> Step {
        let is_enough = holders.are_enough(&record.agreed);
        record.status = match record.act {
            _ if !is_enough => ActStatus::Proposed,
            Act::Recover { .. } => {
                ActStatus::Waiting(turn.time_ms().saturating_add(holders.delay_ms))
            }
            _ => ActStatus::Done,
        };
        let is_done = record.status == ActStatus::Done;
        let takes_evidence = is_done && matches!(record.act, Act::Reverse { .. });
        if !evidence.is_empty() && !takes_evidence {
            return Err(ResultCode::BadEvidence);
        }
        self.draft_act(record.clone());
        if is_done { self.do_act(turn, &record, evidence) } else { Ok(()) }
    }

    pub(crate) fn reject_act(&mut self, turn: &Turn<'_>, act: ActId) -> Step {
        let mut record = self.act_record(act).ok_or(ResultCode::UnknownAct)?.clone();
        let holders = self.holders(record.act.scope(), record.act.role());
        let may_reject = |user: &UserId| {
            *user == record.maker
                || record.act.scope() == Scope::User(*user)
                || holders.as_ref().is_some_and(|holders| holders.users.contains(user))
        };
        let rejected_by = turn.signers().find(may_reject).ok_or(ResultCode::NotHolder)?;
        if matches!(record.status, ActStatus::Done | ActStatus::Rejected) {
            return Err(ResultCode::ActClosed);
        }
        record.rejected_by = Some(rejected_by);
        record.status = ActStatus::Rejected;
        self.draft_act(record);
        Ok(())
    }

    pub(crate) fn finish_act(&mut self, turn: &Turn<'_>, act: ActId) -> Step {
        let mut record = self.act_record(act).ok_or(ResultCode::UnknownAct)?.clone();
        match record.status {
            ActStatus::Waiting(ready_ms) if ready_ms <= turn.time_ms() => {}
            ActStatus::Waiting(_) | ActStatus::Proposed => return Err(ResultCode::ActNotReady),
            ActStatus::Done | ActStatus::Rejected => return Err(ResultCode::ActClosed),
        }
        // A user that has named others meanwhile is not given keys by those it dismissed.
        let holders = self.holders(record.act.scope(), record.act.role());
        if !holders.is_some_and(|holders| holders.are_enough(&record.agreed)) {
            return Err(ResultCode::ActNotReady);
        }
        record.status = ActStatus::Done;
        self.draft_act(record.clone());
        self.do_act(turn, &record, &[])
    }

    fn act_record(&self, act: ActId) -> Option<&ActRecord> {
        match self.standing_record(Table::Acts, RowKey::item(act.0)) {
            Some(Record::Act(record)) => Some(record),
            _ => None,
        }
    }

    /// Drafts a version of an act, with the relations as they are before this transaction.
    fn draft_act(&mut self, mut record: ActRecord) {
        let (scope, role) = (record.act.scope(), record.act.role());
        record.authority = self.standing_hash(Table::Authorities, RowKey::authority(scope, role));
        record.token_record = match scope {
            Scope::Token(token) => self.tokens.get(&token).map_or(Hash::ZERO, |row| row.hash()),
            Scope::User(_) => Hash::ZERO,
        };
        self.draft_standing(Record::Act(Box::new(record)));
    }
}

#[cfg(test)]
mod tests;
