//! Pending (two-phase) payments: reserve, then post or void; chains; expiry.
//!
//! # Invariant
//! What a wallet has reserved in a token is the sum of amount and fee of its open pending payments
//! there, those of chains included.

use crate::execute::Step;
use crate::ledger::Ledger;
use crate::payment::Payment;
use crate::turn::Turn;
use kanjo_types::money::CHAIN_MAX;
use kanjo_types::outcome::ResultCode;
use kanjo_types::policy::DURATION_MAX_MS;
use kanjo_types::record::{Record, RowKey, Table};
use kanjo_types::standing::{Links, PendingRecord, PendingStatus};
use kanjo_types::{Amount, Operation, PendingId};

impl Ledger {
    pub(crate) fn reserve(&mut self, turn: &Turn<'_>, operation: &Operation) -> Step {
        let Operation::Reserve { token, from, to, amount, expires_ms, agent, linked, reference } =
            operation
        else {
            return Err(ResultCode::NotPermitted);
        };
        let payment = self.future_payment(*token, *from, *to, *amount)?;
        if agent.is_some_and(|agent| !self.user_known(&agent)) {
            return Err(ResultCode::UnknownUser);
        }
        if !turn.signed_by(&payment.from_owner) {
            return Err(ResultCode::NotWalletOwner);
        }
        let latest = turn.time_ms().saturating_add(DURATION_MAX_MS);
        if !(turn.time_ms()..=latest).contains(expires_ms) {
            return Err(ResultCode::InvalidTime);
        }
        let id = PendingId::derive(turn.id, turn.number, 0);
        let chain = if *linked { self.join_chain(id, *expires_ms)? } else { id };
        let fee = self.reserve_money(turn, &payment)?;
        self.scratch.chain = Some(chain);
        self.draft_pending(PendingRecord {
            id,
            links: Links::default(),
            token: *token,
            from: *from,
            to: *to,
            amount: *amount,
            fee,
            created_ms: turn.time_ms(),
            expires_ms: *expires_ms,
            agent: *agent,
            chain,
            members: Vec::new(),
            reference: reference.clone(),
            status: PendingStatus::Open,
        });
        Ok(())
    }

    /// Adds a pending payment to the chain of the one reserved before it in this transaction; gives
    /// back the first of the chain.
    fn join_chain(&mut self, id: PendingId, expires_ms: u64) -> Result<PendingId, ResultCode> {
        let head = self.scratch.chain.and_then(|head| self.pending(head));
        let mut head = head.ok_or(ResultCode::InvalidChain)?.clone();
        // The transaction itself may have settled the chain already.
        let fits = head.status == PendingStatus::Open
            && head.expires_ms == expires_ms
            && head.members.len() + 1 < CHAIN_MAX;
        if !fits {
            return Err(ResultCode::InvalidChain);
        }
        let chain = head.id;
        head.members.push(id);
        self.draft_pending(head);
        Ok(chain)
    }

    /// Moves amount and fee from what the payer can spend to what it has reserved, after the checks
    /// of a payment. Gives back the fee.
    fn reserve_money(&mut self, turn: &Turn<'_>, payment: &Payment) -> Result<Amount, ResultCode> {
        let Payment { token, from, amount, .. } = *payment;
        let fee = self.charge_payment(turn, self.rules(token, turn.time_ms()), payment)?;
        let total = amount.checked_add(fee).ok_or(ResultCode::InsufficientFunds)?;
        // With credit, more than was ever issued can be reserved.
        let draft = self.state_draft(from, token);
        let reserved = draft.extra.reserved.checked_add(total);
        draft.extra.reserved = reserved.ok_or(ResultCode::BalanceOverflow)?;
        let held = draft.balance.checked_add(draft.extra.reserved);
        held.map(|_| fee).ok_or(ResultCode::BalanceOverflow)
    }

    /// Pays a pending payment, or a chain of them in order.
    pub(crate) fn post(
        &mut self,
        turn: &Turn<'_>,
        pending: PendingId,
        amount: Option<Amount>,
    ) -> Step {
        let chain = self.open_chain(turn, pending)?;
        let alone = chain.len() == 1;
        for (number, pending) in chain.into_iter().enumerate() {
            if number == 0 {
                check_post(&pending, alone, amount, turn.time_ms())?;
            }
            let amount = amount.unwrap_or(pending.amount);
            self.post_one(turn, pending, amount)?;
        }
        Ok(())
    }

    fn post_one(&mut self, turn: &Turn<'_>, pending: PendingRecord, amount: Amount) -> Step {
        let PendingRecord { token, from, to, .. } = pending;
        let payment = self.payment(token, from, to, amount)?;
        let rules = self.rules(token, turn.time_ms());
        // The fee of the day, and never more than the payer has reserved for it.
        let fee = match rules {
            None => Amount::ZERO,
            Some(rules) => {
                self.check_passage(turn, rules, &payment)?;
                let fee = Self::fee_of(rules.fee, from, amount);
                fee.map_or(pending.fee, |fee| fee.min(pending.fee))
            }
        };
        self.release(turn, &pending, amount, fee)?;
        self.credit(to, token, amount)?;
        if let Some(rules) = rules {
            if rules.limited {
                self.check_holding(to, token, turn.time_ms())?;
            }
            self.take_fee(token, rules.fee, fee)?;
        }
        self.draft_pending(PendingRecord { status: PendingStatus::Posted(amount), ..pending });
        Ok(())
    }

    /// Ends a reservation: `paid` and `fee` of it are the caller's to give to whom they belong, the
    /// rest goes back to the payer and to its limit of the day.
    fn release(
        &mut self,
        turn: &Turn<'_>,
        pending: &PendingRecord,
        paid: Amount,
        fee: Amount,
    ) -> Step {
        let PendingRecord { token, from, .. } = *pending;
        let total = pending.amount.checked_add(pending.fee);
        let total = total.ok_or(ResultCode::BalanceOverflow)?;
        let unpaid = pending.amount.checked_sub(paid).ok_or(ResultCode::PostTooMuch)?;
        let unneeded = pending.fee.checked_sub(fee).ok_or(ResultCode::PostTooMuch)?;
        let extra = &mut self.state_draft(from, token).extra;
        let reserved = extra.reserved.checked_sub(total);
        extra.reserved = reserved.ok_or(ResultCode::InsufficientFunds)?;
        let back = unpaid.checked_add(unneeded).ok_or(ResultCode::BalanceOverflow)?;
        self.credit(from, token, back)?;
        self.uncount_payment((from, token), unpaid, pending.created_ms, turn.time_ms());
        Ok(())
    }

    pub(crate) fn void(&mut self, turn: &Turn<'_>, pending: PendingId) -> Step {
        let chain = self.open_chain(turn, pending)?;
        self.give_back(turn, chain, PendingStatus::Voided)
    }

    /// Gives back what was not posted in time: by the ledger itself, for the first of a chain that
    /// is open. Never fails then, because what is reserved fits beside the balance.
    pub(crate) fn expire_pending(&mut self, turn: &Turn<'_>, pending: PendingId) -> Step {
        let chain = self.chain_of(pending).ok_or(ResultCode::UnknownPending)?;
        self.give_back(turn, chain, PendingStatus::Expired)
    }

    fn give_back(
        &mut self,
        turn: &Turn<'_>,
        chain: Vec<PendingRecord>,
        status: PendingStatus,
    ) -> Step {
        for pending in chain {
            self.release(turn, &pending, Amount::ZERO, Amount::ZERO)?;
            self.draft_pending(PendingRecord { status, ..pending });
        }
        Ok(())
    }

    /// The members of an open chain that the signers may settle, the first one first.
    fn open_chain(
        &self,
        turn: &Turn<'_>,
        head: PendingId,
    ) -> Result<Vec<PendingRecord>, ResultCode> {
        let chain = self.chain_of(head).ok_or(ResultCode::UnknownPending)?;
        let signed = |pending: &PendingRecord| {
            let agent = pending.agent.or_else(|| self.owner_of(pending.to));
            agent.is_some_and(|agent| turn.signed_by(&agent))
        };
        if !chain.iter().all(signed) {
            return Err(ResultCode::NotAgent);
        }
        // Members are settled together.
        if chain.iter().any(|pending| pending.status != PendingStatus::Open) {
            return Err(ResultCode::AlreadySettled);
        }
        Ok(chain)
    }

    /// A pending payment and those linked to it; `None` for one that is not the first of its chain.
    fn chain_of(&self, head: PendingId) -> Option<Vec<PendingRecord>> {
        let head = self.pending(head).filter(|pending| pending.chain == pending.id)?;
        let members = head.members.iter().map(|member| self.pending(*member));
        std::iter::once(Some(head)).chain(members).map(|pending| pending.cloned()).collect()
    }

    fn pending(&self, id: PendingId) -> Option<&PendingRecord> {
        match self.standing_record(Table::Pendings, RowKey::item(id.0))? {
            Record::Pending(pending) => Some(pending),
            _ => None,
        }
    }

    fn draft_pending(&mut self, pending: PendingRecord) {
        self.draft_standing(Record::Pending(Box::new(pending)));
    }
}

/// Times and states that posting asks for: in time, a chain whole, no more than was reserved.
fn check_post(head: &PendingRecord, alone: bool, amount: Option<Amount>, time_ms: u64) -> Step {
    if time_ms > head.expires_ms {
        return Err(ResultCode::PendingExpired);
    }
    let Some(amount) = amount else { return Ok(()) };
    if !alone {
        return Err(ResultCode::PartOfChain);
    }
    if amount > head.amount { Err(ResultCode::PostTooMuch) } else { Ok(()) }
}
