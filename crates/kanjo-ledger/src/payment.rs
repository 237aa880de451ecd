//! Balances: paying, issuing and redeeming, with the rules of the token where it has any.
//!
//! Order of checks, here and wherever money moves: token and wallets exist, the signers may do it,
//! freezes, approval, claims, limits, funds, what the receiver may hold.

use crate::execute::Step;
use crate::ledger::Ledger;
use crate::scratch::{Before, StateDraft, Touched};
use crate::table::{Row as _, Slot};
use crate::turn::Turn;
use kanjo_types::money::{Direction, FreezeTarget, Role, Scope};
use kanjo_types::outcome::ResultCode;
use kanjo_types::policy::{Fee, Policy, TokenRules};
use kanjo_types::record::{Record, RowKey, StateExtra, Table, TokenRecord};
use kanjo_types::{Amount, Hash, Operation, TokenId, UserId, WalletId};

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

/// What the approver set for a wallet; nothing when it set nothing.
#[derive(Clone, Copy, Default)]
pub(crate) struct Terms {
    pub approved: bool,
    pub class: u8,
    pub credit: Amount,
    pub floor: Amount,
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

    /// The policy in force, for a token that is known; the plain one when it has no rules.
    pub(crate) fn policy(&self, token: TokenId, time_ms: u64) -> Option<&Policy> {
        let rules = self.token_record(token)?.rules.as_deref();
        rules.map(|rules| rules.at(time_ms))
    }

    /// What the policy asks of a payment; `None` for a token without rules.
    pub(crate) fn rules(&self, token: TokenId, time_ms: u64) -> Option<Rules> {
        let policy = self.policy(token, time_ms)?;
        Some(Rules {
            freezable: policy.freezable,
            allow_list: policy.allow_list,
            limited: !policy.classes.is_empty(),
            fee: policy.fee,
        })
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

    fn frozen(&self, token: TokenId, target: FreezeTarget, time_ms: u64) -> Option<Direction> {
        match self.standing_record(Table::Freezes, RowKey::freeze(token, target)) {
            Some(Record::Freeze(record)) => record.at(time_ms).map(|freeze| freeze.direction),
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
        if self.frozen(token, FreezeTarget::Token, time_ms).is_some() {
            return Err(ResultCode::TokenFrozen);
        }
        let stops = |wallet: WalletId, owner: UserId, stops: fn(Direction) -> bool| {
            [FreezeTarget::Wallet(wallet), FreezeTarget::User(owner)]
                .into_iter()
                .filter_map(|target| self.frozen(token, target, time_ms))
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
    pub(crate) fn charge(&mut self, wallet: WalletId, token: TokenId, amount: Amount) -> Step {
        let terms = self.terms(wallet, token);
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
        let limits = self.policy(token, turn.time_ms()).map(|policy| policy.limits(class));
        let Some(limits) = limits else { return Ok(()) };
        if limits.max_payment.is_some_and(|limit| amount > limit) {
            return Err(ResultCode::PaymentLimit);
        }
        let Some(limit) = limits.max_day else { return Ok(()) };
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
        let Payment { token, from, to, amount, .. } = *payment;
        let Some(rules) = self.rules(token, turn.time_ms()) else {
            self.debit(from, token, amount)?;
            return self.credit(to, token, amount);
        };
        self.check_flow(turn, rules, payment)?;
        let fee = Self::fee_of(rules.fee, from, amount);
        let charged = fee.and_then(|fee| amount.checked_add(fee));
        if rules.limited {
            self.count_payment(turn, payment)?;
        }
        self.charge(from, token, charged.ok_or(ResultCode::InsufficientFunds)?)?;
        self.credit(to, token, amount)?;
        if rules.limited {
            self.check_holding(to, token, turn.time_ms())?;
        }
        self.take_fee(token, rules.fee, fee.unwrap_or_default())
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
        let payment = self.payment(token, from, to, amount)?;
        if !turn.signed_by(&payment.from_owner) {
            return Err(ResultCode::NotWalletOwner);
        }
        self.pay(turn, &payment)
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

    /// How many of the signers hold a role, and how many it takes. A role of a token without a
    /// record of its own is held by the issuer alone. `None` when the scope is unknown.
    pub(crate) fn authority(
        &self,
        turn: &Turn<'_>,
        scope: Scope,
        role: Role,
    ) -> Option<(usize, usize)> {
        if let Some(Record::Authority(record)) =
            self.standing_record(Table::Authorities, RowKey::authority(scope, role))
        {
            let signing = record.holders.iter().filter(|holder| turn.signed_by(holder));
            return Some((signing.count(), usize::from(record.threshold)));
        }
        match scope {
            Scope::Token(token) => {
                let issuer = self.token_record(token)?.issuer;
                Some((usize::from(turn.signed_by(&issuer)), 1))
            }
            Scope::User(_) => None,
        }
    }

    pub(crate) fn check_issuer(&self, turn: &Turn<'_>, token: TokenId) -> Step {
        let authority = self.authority(turn, Scope::Token(token), Role::Issuer);
        match authority.ok_or(ResultCode::UnknownToken)? {
            (0, _) => Err(ResultCode::NotIssuer),
            (signing, needed) if signing < needed => Err(ResultCode::ApprovalNeeded),
            _ => Ok(()),
        }
    }

    pub(crate) fn issue(
        &mut self,
        turn: &Turn<'_>,
        token: TokenId,
        to: WalletId,
        amount: Amount,
    ) -> Step {
        self.token_record(token).ok_or(ResultCode::UnknownToken)?;
        self.wallet_owner(to, token).ok_or(ResultCode::UnknownTargetWallet)?;
        self.check_issuer(turn, token)?;
        self.issue_to(turn, token, to, amount)
    }

    /// Issues; who may is for the caller to check.
    pub(crate) fn issue_to(
        &mut self,
        turn: &Turn<'_>,
        token: TokenId,
        to: WalletId,
        amount: Amount,
    ) -> Step {
        let owner = self.wallet_owner(to, token).ok_or(ResultCode::UnknownTargetWallet)?;
        let time_ms = turn.time_ms();
        let rules = self.rules(token, time_ms);
        if let Some(rules) = rules {
            if rules.freezable {
                self.check_freezes(token, time_ms, None, Some((to, owner)))?;
            }
            if rules.allow_list && !self.terms(to, token).approved {
                return Err(ResultCode::NotApproved);
            }
        }
        self.credit(to, token, amount)?;
        if rules.is_some_and(|rules| rules.limited) {
            self.check_holding(to, token, time_ms)?;
        }
        let cap = self.policy(token, time_ms).and_then(|policy| policy.supply_cap);
        let record = self.token_draft(token).ok_or(ResultCode::UnknownToken)?;
        record.issued = record.issued.checked_add(amount).ok_or(ResultCode::SupplyOverflow)?;
        let circulating = record.issued.0.checked_sub(record.redeemed.0);
        if cap.is_some_and(|cap| circulating.is_none_or(|circulating| circulating > cap.0)) {
            return Err(ResultCode::SupplyCap);
        }
        Ok(())
    }

    pub(crate) fn redeem(
        &mut self,
        turn: &Turn<'_>,
        token: TokenId,
        from: WalletId,
        amount: Amount,
    ) -> Step {
        self.token_record(token).ok_or(ResultCode::UnknownToken)?;
        let owner = self.wallet_owner(from, token).ok_or(ResultCode::UnknownSourceWallet)?;
        self.check_issuer(turn, token)?;
        if !turn.signed_by(&owner) {
            return Err(ResultCode::NotWalletOwner);
        }
        self.redeem_from(turn, token, from, amount)
    }

    /// Redeems; who may is for the caller to check.
    pub(crate) fn redeem_from(
        &mut self,
        turn: &Turn<'_>,
        token: TokenId,
        from: WalletId,
        amount: Amount,
    ) -> Step {
        let owner = self.wallet_owner(from, token).ok_or(ResultCode::UnknownSourceWallet)?;
        match self.rules(token, turn.time_ms()) {
            None => self.debit(from, token, amount)?,
            Some(rules) => {
                if rules.freezable {
                    self.check_freezes(token, turn.time_ms(), Some((from, owner)), None)?;
                }
                if self.state_now(from, token).1.claims.0 > 0 {
                    return Err(ResultCode::ClaimOpen);
                }
                self.charge(from, token, amount)?;
            }
        }
        let record = self.token_draft(token).ok_or(ResultCode::UnknownToken)?;
        record.redeemed = record.redeemed.checked_add(amount).ok_or(ResultCode::SupplyOverflow)?;
        // Overdrafts put more into wallets than was issued.
        if record.redeemed > record.issued {
            return Err(ResultCode::NothingIssued);
        }
        Ok(())
    }

    /// The token's draft, made from its present row on first touch.
    pub(crate) fn token_draft(&mut self, token: TokenId) -> Option<&mut TokenRecord> {
        let position = match self.scratch.tokens.position(&token) {
            Some(position) => position,
            None => {
                let row = self.tokens.get(&token)?;
                let mut record = row.record.clone();
                record.version += 1;
                record.previous = row.hash();
                self.scratch.order.push(Touched::Token(token));
                self.scratch.tokens.push(token, record)
            }
        };
        self.scratch.tokens.at_mut(position)
    }

    pub(crate) fn create_token(&mut self, turn: &Turn<'_>, operation: &Operation) -> Step {
        let Operation::CreateToken { symbol, name, decimals, issuer, policy, grants } = operation
        else {
            return Err(ResultCode::NotPermitted);
        };
        if !self.open_tokens && !self.is_operator(&turn.author) {
            return Err(ResultCode::NotPermitted);
        }
        let mut users = grants.iter().flat_map(|grant| &grant.holders).chain([issuer]);
        if users.any(|user| !self.user_known(user)) {
            return Err(ResultCode::UnknownUser);
        }
        if policy.fee.is_some_and(|fee| self.owner_of(fee.receiver).is_none()) {
            return Err(ResultCode::UnknownTargetWallet);
        }
        let taken = self.symbols.contains_key(symbol) || self.scratch.new_symbols.contains(symbol);
        if taken {
            return Err(ResultCode::SymbolTaken);
        }
        let number = u32::try_from(self.tokens.len() + self.scratch.new_symbols.len() + 1);
        let id = number.ok().filter(|number| *number < u32::MAX).map(TokenId);
        let id = id.ok_or(ResultCode::TokensExhausted)?;
        let record = TokenRecord {
            id,
            version: 1,
            symbol: symbol.clone(),
            name: name.clone(),
            decimals: *decimals,
            issuer: *issuer,
            issued: Amount::ZERO,
            redeemed: Amount::ZERO,
            rules: TokenRules::new(policy),
            previous: Hash::ZERO,
            transaction: Hash::ZERO,
            issuer_record: Hash::ZERO,
        };
        self.scratch.tokens.push(id, record);
        self.scratch.new_symbols.insert(symbol.clone());
        self.scratch.order.push(Touched::Token(id));
        for grant in grants {
            self.draft_grant(Scope::Token(id), grant, 0);
        }
        Ok(())
    }
}

/// The UTC day of a time, in days since 1970-01-01; days beyond 2³² are one.
fn day_of(time_ms: u64) -> u32 {
    u32::try_from(time_ms / DAY_MS).unwrap_or(u32::MAX)
}
