//! Balances: paying, issuing and redeeming, with the rules of the token where it has any.
//!
//! Order of checks, here and wherever money moves: token and wallets exist, the signers may do it,
//! freezes, approval, claims, limits, funds, what the receiver may hold.

use crate::execute::Step;
use crate::ledger::Ledger;
use crate::scratch::{Before, StateDraft};
use crate::table::Slot;
use crate::turn::Turn;
use kanjo_types::money::{Direction, FreezeTarget, Role, Scope};
use kanjo_types::outcome::ResultCode;
use kanjo_types::policy::{Fee, Policy};
use kanjo_types::record::{Record, RowKey, StateExtra, Table, TokenRecord};
use kanjo_types::standing::{AuthorityRecord, Freeze};
use kanjo_types::{Amount, TokenId, UserId, WalletId};

/// A day of ledger time.
const DAY_MS: u64 = 86_400_000;

/// The parts of a policy that every payment looks at.
#[derive(Clone, Copy)]
pub(crate) struct Rules {
    pub freezable: bool,
    pub allow_list: bool,
    pub limited: bool,
    pub fee: Option<Fee>,
}

impl Rules {
    fn of(policy: &Policy) -> Self {
        Self {
            freezable: policy.freezable,
            allow_list: policy.allow_list,
            limited: !policy.classes.is_empty(),
            fee: policy.fee,
        }
    }
}

/// What the approver set for a wallet; nothing when it set nothing.
#[derive(Clone, Copy, Default)]
pub(crate) struct Terms {
    pub approved: bool,
    pub class: u8,
    pub credit: Amount,
    pub floor: Amount,
}

/// Who holds a role, how many of them must agree, and how long the act then waits.
pub(crate) struct HeldBy<'a> {
    pub users: &'a [UserId],
    pub threshold: usize,
    pub delay_ms: u64,
}

/// A payment whose wallets are known.
#[derive(Clone, Copy)]
pub(crate) struct Payment {
    pub token: TokenId,
    pub from: WalletId,
    pub from_owner: UserId,
    pub to: WalletId,
    pub to_owner: UserId,
    pub amount: Amount,
}

impl Ledger {
    /// The newest record of a token, drafts of this transaction included.
    pub(crate) fn token_record(&self, token: TokenId) -> Option<&TokenRecord> {
        if !self.scratch.tokens.is_empty()
            && let Some(draft) = self.scratch.tokens.get(&token)
        {
            return Some(draft);
        }
        self.tokens.get(&token).map(|row| &row.record)
    }

    /// The record whose policy holds in this transaction: what it changes of a policy itself
    /// counts from the next one on, so that records refer to the policy they were made under.
    fn ruling_record(&self, token: TokenId) -> Option<&TokenRecord> {
        let recorded = self.tokens.get(&token).map(|row| &row.record);
        recorded.or_else(|| self.scratch.tokens.get(&token))
    }

    /// The policy in force, for a token that is known; the plain one when it has no rules.
    pub(crate) fn policy(&self, token: TokenId, time_ms: u64) -> Option<&Policy> {
        let rules = self.ruling_record(token)?.rules.as_deref();
        rules.map(|rules| rules.at(time_ms))
    }

    /// What the policy asks of a payment; `None` for a token without rules.
    pub(crate) fn rules(&self, token: TokenId, time_ms: u64) -> Option<Rules> {
        self.policy(token, time_ms).map(Rules::of)
    }

    /// The owner of a wallet, drafts of this transaction included. Drafts nothing.
    pub(crate) fn owner_of(&self, wallet: WalletId) -> Option<UserId> {
        let draft = self.scratch.wallets.get(&wallet).map(|draft| draft.owner);
        draft.or_else(|| self.wallets.get(&wallet).map(|row| row.owner))
    }

    /// The owner of a wallet. Remembers where the wallet is, and drafts its state in `token` if
    /// there is one: callers are about to change that state.
    pub(crate) fn wallet_owner(&mut self, wallet: WalletId, token: TokenId) -> Option<UserId> {
        if !self.scratch.wallets.is_empty()
            && let Some(draft) = self.scratch.wallets.get(&wallet)
        {
            return Some(draft.owner);
        }
        // Always drafted here, so that drafts stand in the order of first touch: paying side first.
        let drafted = self.existing_state(wallet, token);
        let slot = match self.scratch.wallet_slots.get(&wallet) {
            Some(slot) => *slot,
            None => {
                let slot = match drafted {
                    Some(slot) => slot,
                    None => self.wallets.find(&wallet)?,
                };
                self.scratch.wallet_slots.push(wallet, slot);
                slot
            }
        };
        self.wallets.at(slot).map(|row| row.owner)
    }

    /// Drafts the state when it has a row and no draft yet; gives back where its wallet is.
    fn existing_state(&mut self, wallet: WalletId, token: TokenId) -> Option<Slot> {
        let key = (wallet, token);
        if self.scratch.states.position(&key).is_some() {
            return None;
        }
        let slot = self.states.find(&key)?;
        let row = self.states.at(slot)?;
        let before = Before {
            hash: row.hash,
            version: row.version,
            transaction: row.transaction,
            at: row.at.into(),
            slot,
        };
        let draft = StateDraft { before: Some(before), balance: row.balance, extra: row.extra() };
        let wallet_slot = Slot { partition: slot.partition, slot: row.wallet_slot };
        self.scratch.states.push(key, draft);
        Some(wallet_slot)
    }

    /// The draft of a state, made from its present row on first touch.
    pub(crate) fn state_draft(&mut self, wallet: WalletId, token: TokenId) -> &mut StateDraft {
        let key = (wallet, token);
        let position = match self.scratch.states.position(&key) {
            Some(position) => position,
            None => {
                self.existing_state(wallet, token);
                let new = StateDraft {
                    before: None,
                    balance: Amount::ZERO,
                    extra: StateExtra::default(),
                };
                match self.scratch.states.position(&key) {
                    Some(position) => position,
                    None => self.scratch.states.push(key, new),
                }
            }
        };
        let draft = self.scratch.states.at_mut(position);
        #[allow(clippy::expect_used)] // The position was found or made just above.
        draft.expect("a draft is where it was put")
    }

    /// Balance and extra of a state, drafts of this transaction included. Drafts nothing.
    pub(crate) fn state_now(&self, wallet: WalletId, token: TokenId) -> (Amount, StateExtra) {
        let key = (wallet, token);
        if let Some(draft) = self.scratch.states.get(&key) {
            return (draft.balance, draft.extra);
        }
        let row = self.states.get(&key);
        row.map_or((Amount::ZERO, StateExtra::default()), |row| (row.balance, row.extra()))
    }

    /// What the approver set for a wallet.
    pub(crate) fn terms(&self, wallet: WalletId, token: TokenId) -> Terms {
        match self.standing_record(Table::Terms, RowKey::wallet_state(wallet, token)) {
            Some(Record::Terms(terms)) => Terms {
                approved: terms.approved,
                class: terms.class,
                credit: terms.credit,
                floor: terms.floor,
            },
            _ => Terms::default(),
        }
    }

    /// The freeze of a target that is in force.
    pub(crate) fn freeze_at(
        &self,
        token: TokenId,
        target: FreezeTarget,
        time_ms: u64,
    ) -> Option<Freeze> {
        match self.standing_record(Table::Freezes, RowKey::freeze(token, target)) {
            Some(Record::Freeze(record)) => record.at(time_ms),
            _ => None,
        }
    }

    /// Is money stopped on its way out of `from` or into `to`? Each with its owner.
    pub(crate) fn check_freezes(
        &self,
        token: TokenId,
        time_ms: u64,
        from: Option<(WalletId, UserId)>,
        to: Option<(WalletId, UserId)>,
    ) -> Step {
        let stops_all = |freeze: Freeze| {
            (from.is_some() && freeze.direction.stops_outgoing())
                || (to.is_some() && freeze.direction.stops_incoming())
        };
        if self.freeze_at(token, FreezeTarget::Token, time_ms).is_some_and(stops_all) {
            return Err(ResultCode::TokenFrozen);
        }
        let stops = |wallet: WalletId, owner: UserId, stops: fn(Direction) -> bool| {
            [FreezeTarget::Wallet(wallet), FreezeTarget::User(owner)]
                .into_iter()
                .filter_map(|target| self.freeze_at(token, target, time_ms))
                .map(|freeze| freeze.direction)
                .any(stops)
        };
        if from.is_some_and(|(wallet, owner)| stops(wallet, owner, Direction::stops_outgoing)) {
            return Err(ResultCode::SourceFrozen);
        }
        if to.is_some_and(|(wallet, owner)| stops(wallet, owner, Direction::stops_incoming)) {
            return Err(ResultCode::TargetFrozen);
        }
        Ok(())
    }

    /// Takes money out of a wallet of a plain token.
    pub(crate) fn debit(&mut self, wallet: WalletId, token: TokenId, amount: Amount) -> Step {
        let draft = self.state_draft(wallet, token);
        draft.balance = draft.balance.checked_sub(amount).ok_or(ResultCode::InsufficientFunds)?;
        Ok(())
    }

    /// Puts money into a wallet: an overdraft is repaid first. Balance and reserved money together
    /// stay within range, so that what is reserved can always come back.
    pub(crate) fn credit(&mut self, wallet: WalletId, token: TokenId, amount: Amount) -> Step {
        let draft = self.state_draft(wallet, token);
        let repaid = draft.extra.overdraft.min(amount);
        draft.extra.overdraft = Amount(draft.extra.overdraft.0 - repaid.0);
        let rest = Amount(amount.0 - repaid.0);
        draft.balance = draft.balance.checked_add(rest).ok_or(ResultCode::BalanceOverflow)?;
        let held = draft.balance.checked_add(draft.extra.reserved);
        held.map(|_| ()).ok_or(ResultCode::BalanceOverflow)
    }

    /// Takes money out of a wallet down to its floor, or into its credit.
    /// Terms hold only as far as the policy in force permits them.
    pub(crate) fn charge(
        &mut self,
        turn: &Turn<'_>,
        wallet: WalletId,
        token: TokenId,
        amount: Amount,
    ) -> Step {
        let mut terms = self.terms(wallet, token);
        let policy = self.policy(token, turn.time_ms());
        if !policy.is_some_and(|policy| policy.credit) {
            terms.credit = Amount::ZERO;
        }
        if !policy.is_some_and(|policy| policy.floors) {
            terms.floor = Amount::ZERO;
        }
        let draft = self.state_draft(wallet, token);
        let Some(balance) = draft.balance.checked_sub(amount) else {
            let missing = Amount(amount.0 - draft.balance.0);
            let overdraft = draft.extra.overdraft.checked_add(missing);
            let overdraft = overdraft.filter(|overdraft| *overdraft <= terms.credit);
            draft.extra.overdraft = overdraft.ok_or(ResultCode::InsufficientFunds)?;
            draft.balance = Amount::ZERO;
            return Ok(());
        };
        if balance < terms.floor {
            return Err(ResultCode::BelowFloor);
        }
        draft.balance = balance;
        Ok(())
    }

    /// May the wallet hold what it now holds, reserved money included?
    pub(crate) fn check_holding(&self, wallet: WalletId, token: TokenId, time_ms: u64) -> Step {
        let Some(policy) = self.policy(token, time_ms).filter(|policy| !policy.classes.is_empty())
        else {
            return Ok(());
        };
        let limit = policy.limits(self.terms(wallet, token).class).max_balance;
        let (balance, extra) = self.state_now(wallet, token);
        let held = balance.checked_add(extra.reserved);
        match limit {
            Some(limit) if held.is_none_or(|held| held > limit) => Err(ResultCode::BalanceLimit),
            _ => Ok(()),
        }
    }

    /// Checks the limits of the payer's class and counts the payment for its day.
    pub(crate) fn count_payment(&mut self, turn: &Turn<'_>, payment: &Payment) -> Step {
        let Payment { token, from, amount, .. } = *payment;
        let class = self.terms(from, token).class;
        let Some(policy) = self.policy(token, turn.time_ms()) else { return Ok(()) };
        let limits = policy.limits(class);
        // Counted in every class when one of them has a limit: wallets change class in mid-day.
        let counts = policy.classes.iter().any(|limits| limits.max_day.is_some());
        if limits.max_payment.is_some_and(|limit| amount > limit) {
            return Err(ResultCode::PaymentLimit);
        }
        if !counts {
            return Ok(());
        }
        let limit = limits.max_day.unwrap_or(Amount(u128::MAX));
        let day = day_of(turn.time_ms());
        let extra = &mut self.state_draft(from, token).extra;
        let before = if extra.day == day { extra.paid_today } else { Amount::ZERO };
        let paid = before.checked_add(amount).filter(|paid| *paid <= limit);
        extra.paid_today = paid.ok_or(ResultCode::DayLimit)?;
        extra.day = day;
        Ok(())
    }

    /// Gives back to the day's limit what was reserved on the same day and never paid.
    pub(crate) fn uncount_payment(
        &mut self,
        (wallet, token): (WalletId, TokenId),
        amount: Amount,
        reserved_ms: u64,
        time_ms: u64,
    ) {
        let extra = &mut self.state_draft(wallet, token).extra;
        let day = day_of(time_ms);
        if extra.day == day && day_of(reserved_ms) == day {
            extra.paid_today = Amount(extra.paid_today.0.saturating_sub(amount.0));
        }
    }

    /// The fee of a payment under `fee`; nothing when the payer is who gets it.
    pub(crate) fn fee_of(fee: Option<Fee>, from: WalletId, amount: Amount) -> Option<Amount> {
        match fee {
            Some(fee) if fee.receiver != from => fee.of(amount),
            _ => Some(Amount::ZERO),
        }
    }

    /// Gives a fee to its receiver, whatever limits that wallet has.
    pub(crate) fn take_fee(&mut self, token: TokenId, fee: Option<Fee>, amount: Amount) -> Step {
        let Some(fee) = fee.filter(|_| amount.0 > 0) else { return Ok(()) };
        self.credit(fee.receiver, token, amount)?;
        self.scratch.fees.push((token, amount));
        Ok(())
    }

    /// A payment in a token: plain, or under its rules. Who may order it is for the caller to
    /// check.
    pub(crate) fn pay(&mut self, turn: &Turn<'_>, payment: &Payment) -> Step {
        self.pay_under(turn, self.rules(payment.token, turn.time_ms()), payment)
    }

    fn pay_under(&mut self, turn: &Turn<'_>, rules: Option<Rules>, payment: &Payment) -> Step {
        let Payment { token, to, amount, .. } = *payment;
        let fee = self.charge_payment(turn, rules, payment)?;
        self.credit(to, token, amount)?;
        let Some(rules) = rules else { return Ok(()) };
        if rules.limited {
            self.check_holding(to, token, turn.time_ms())?;
        }
        self.take_fee(token, rules.fee, fee)
    }

    /// Takes amount and fee of a payment from its payer, after all checks on that side. Gives the
    /// fee.
    pub(crate) fn charge_payment(
        &mut self,
        turn: &Turn<'_>,
        rules: Option<Rules>,
        payment: &Payment,
    ) -> Result<Amount, ResultCode> {
        let Payment { token, from, amount, .. } = *payment;
        let Some(rules) = rules else {
            self.debit(from, token, amount)?;
            return Ok(Amount::ZERO);
        };
        self.check_flow(turn, rules, payment)?;
        if rules.limited {
            self.count_payment(turn, payment)?;
        }
        let fee = Self::fee_of(rules.fee, from, amount).ok_or(ResultCode::InsufficientFunds)?;
        let total = amount.checked_add(fee).ok_or(ResultCode::InsufficientFunds)?;
        self.charge(turn, from, token, total)?;
        Ok(fee)
    }

    /// Freezes, approval of the receiver, claims on the payer.
    pub(crate) fn check_flow(&self, turn: &Turn<'_>, rules: Rules, payment: &Payment) -> Step {
        self.check_passage(turn, rules, payment)?;
        if self.state_now(payment.from, payment.token).1.claims.0 > 0 {
            return Err(ResultCode::ClaimOpen);
        }
        Ok(())
    }

    /// Freezes and approval of the receiver: all that is asked again when reserved money is paid.
    pub(crate) fn check_passage(&self, turn: &Turn<'_>, rules: Rules, payment: &Payment) -> Step {
        let Payment { token, from, from_owner, to, to_owner, .. } = *payment;
        if rules.freezable {
            let (from, to) = (Some((from, from_owner)), Some((to, to_owner)));
            self.check_freezes(token, turn.time_ms(), from, to)?;
        }
        if rules.allow_list && !self.terms(to, token).approved {
            return Err(ResultCode::NotApproved);
        }
        Ok(())
    }

    pub(crate) fn transfer(
        &mut self,
        turn: &Turn<'_>,
        token: TokenId,
        from: WalletId,
        to: WalletId,
        amount: Amount,
    ) -> Step {
        let record = self.ruling_record(token).ok_or(ResultCode::UnknownToken)?;
        let rules = record.rules.as_deref().map(|rules| Rules::of(rules.at(turn.time_ms())));
        let from_owner = self.wallet_owner(from, token).ok_or(ResultCode::UnknownSourceWallet)?;
        let to_owner = self.wallet_owner(to, token).ok_or(ResultCode::UnknownTargetWallet)?;
        if !turn.signed_by(&from_owner) {
            return Err(ResultCode::NotWalletOwner);
        }
        self.pay_under(turn, rules, &Payment { token, from, from_owner, to, to_owner, amount })
    }

    /// A payment that is about to be made: its token and wallets must be known.
    pub(crate) fn payment(
        &mut self,
        token: TokenId,
        from: WalletId,
        to: WalletId,
        amount: Amount,
    ) -> Result<Payment, ResultCode> {
        self.token_record(token).ok_or(ResultCode::UnknownToken)?;
        let from_owner = self.wallet_owner(from, token).ok_or(ResultCode::UnknownSourceWallet)?;
        let to_owner = self.wallet_owner(to, token).ok_or(ResultCode::UnknownTargetWallet)?;
        Ok(Payment { token, from, from_owner, to, to_owner, amount })
    }

    /// A payment for later: as [`Ledger::payment`], but no state of its wallets is drafted.
    pub(crate) fn future_payment(
        &self,
        token: TokenId,
        from: WalletId,
        to: WalletId,
        amount: Amount,
    ) -> Result<Payment, ResultCode> {
        self.token_record(token).ok_or(ResultCode::UnknownToken)?;
        let from_owner = self.owner_of(from).ok_or(ResultCode::UnknownSourceWallet)?;
        let to_owner = self.owner_of(to).ok_or(ResultCode::UnknownTargetWallet)?;
        Ok(Payment { token, from, from_owner, to, to_owner, amount })
    }

    /// The holders of a role before this transaction: as with new keys, new holders count from the
    /// next one on. Of a token made in this transaction, those it is made with.
    pub(crate) fn authority_record(&self, scope: Scope, role: Role) -> Option<&AuthorityRecord> {
        let key = RowKey::authority(scope, role);
        let is_new = matches!(scope, Scope::Token(token) if self.tokens.find(&token).is_none());
        let record = if is_new {
            self.standing_record(Table::Authorities, key)
        } else {
            self.standing(Table::Authorities).get(&key).map(|row| &row.record)
        };
        match record {
            Some(Record::Authority(record)) => Some(record),
            _ => None,
        }
    }

    /// Who holds a role: by its record, or else the token's issuer alone. A user without a record
    /// has no guardians. `None` when nobody does.
    pub(crate) fn held_by(&self, scope: Scope, role: Role) -> Option<HeldBy<'_>> {
        if let Some(record) = self.authority_record(scope, role) {
            return Some(HeldBy {
                users: &record.holders,
                threshold: usize::from(record.threshold),
                delay_ms: record.delay_ms,
            });
        }
        match scope {
            Scope::Token(token) => {
                let users = std::slice::from_ref(&self.token_record(token)?.issuer);
                Some(HeldBy { users, threshold: 1, delay_ms: 0 })
            }
            Scope::User(_) => None,
        }
    }
}

/// The UTC day of a time, in days since 1970-01-01; days beyond 2³² are one.
fn day_of(time_ms: u64) -> u32 {
    u32::try_from(time_ms / DAY_MS).unwrap_or(u32::MAX)
}
