//! The rules again, as plainly as they can be said: maps of balances, copied for every transaction.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use kanjo_ledger::Ledger;
use kanjo_types::outcome::{Refusal, ResultCode};
use kanjo_types::{
    Access, Amount, ChainId, Genesis, Hash, Operation, TokenId, TransactionBody, UserId, WalletId,
};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone)]
struct Token {
    symbol: String,
    issuer: UserId,
    issued: u128,
    redeemed: u128,
}

#[derive(Clone, Default)]
struct State {
    users: BTreeMap<UserId, (Access, UserId)>,
    wallets: BTreeMap<WalletId, UserId>,
    tokens: Vec<Token>,
    balances: BTreeMap<(WalletId, TokenId), u128>,
}

pub struct Model {
    chain: ChainId,
    open_registration: bool,
    open_tokens: bool,
    operators: BTreeSet<UserId>,
    window_ms: u64,
    used: BTreeSet<Hash>,
    state: State,
}

fn ensure(condition: bool, code: ResultCode) -> Result<(), ResultCode> {
    if condition { Ok(()) } else { Err(code) }
}

impl Model {
    pub fn new(genesis: &Genesis) -> Self {
        let mut state = State::default();
        for user in &genesis.users {
            let id = genesis.user_id(&user.name).unwrap();
            state.users.insert(id, (user.access.clone(), id));
        }
        for token in &genesis.tokens {
            let issuer = genesis.user_id(&token.issuer).unwrap();
            let symbol = token.symbol.clone();
            state.tokens.push(Token { symbol, issuer, issued: 0, redeemed: 0 });
        }
        for wallet in &genesis.wallets {
            let id = genesis.wallet_id(&wallet.owner, wallet.number).unwrap();
            state.wallets.insert(id, genesis.user_id(&wallet.owner).unwrap());
            for (symbol, amount) in &wallet.balances {
                let number = state.tokens.iter().position(|token| token.symbol == *symbol).unwrap();
                state.tokens[number].issued += amount.0;
                let token = TokenId(u32::try_from(number).unwrap() + 1);
                state.balances.insert((id, token), amount.0);
            }
        }
        let operators = genesis.rules.operators.iter();
        Self {
            chain: genesis.chain_id(),
            open_registration: genesis.rules.open_registration,
            open_tokens: genesis.rules.open_tokens,
            operators: operators.map(|name| genesis.user_id(name).unwrap()).collect(),
            window_ms: genesis.rules.replay_window_ms,
            used: BTreeSet::new(),
            state,
        }
    }

    pub fn access_of(&self, user: &UserId) -> Option<&Access> {
        self.state.users.get(user).map(|(access, _)| access)
    }

    fn keys_needed(&self, body: &TransactionBody) -> Option<Access> {
        if let Some(access) = self.access_of(&body.author) {
            return Some(access.clone());
        }
        match &body.operations[0] {
            Operation::CreateUser { access, number }
                if self.open_registration
                    && UserId::derive(self.chain, access, *number) == body.author =>
            {
                Some(access.clone())
            }
            _ => None,
        }
    }

    fn check_keys(&self, body: &TransactionBody, signed_by: &Access) -> Option<Refusal> {
        match self.keys_needed(body) {
            None => Some(Refusal::UnknownAuthor),
            Some(access) if access != *signed_by => Some(Refusal::BadSignature),
            Some(_) => None,
        }
    }

    /// What admission must say, given who really signed (single keys only).
    pub fn admission(&self, body: &TransactionBody, signed_by: &Access) -> Option<Refusal> {
        let shape = body.operations.iter().find_map(|operation| match operation {
            Operation::Issue { amount, .. }
            | Operation::Redeem { amount, .. }
            | Operation::Transfer { amount, .. }
                if amount.0 == 0 =>
            {
                Some(Refusal::ZeroAmount)
            }
            Operation::Transfer { from, to, .. } if from == to => Some(Refusal::SameWallet),
            _ => None,
        });
        shape.or_else(|| self.check_keys(body, signed_by))
    }

    pub fn execute(
        &mut self,
        time_ms: u64,
        body: &TransactionBody,
        signed_by: &Access,
    ) -> Result<(ResultCode, Option<u32>), Refusal> {
        if body.valid_until_ms < time_ms {
            return Err(Refusal::Expired);
        }
        if body.valid_until_ms > time_ms + self.window_ms {
            return Err(Refusal::ValidTooLong);
        }
        if self.used.contains(&body.id().0) {
            return Err(Refusal::AlreadyUsed);
        }
        if let Some(refusal) = self.check_keys(body, signed_by) {
            return Err(refusal);
        }
        self.used.insert(body.id().0);
        let mut state = self.state.clone();
        for (number, operation) in (0u32..).zip(&body.operations) {
            if let Err(code) = self.apply(&mut state, body.author, operation) {
                return Ok((code, Some(number)));
            }
        }
        self.state = state;
        Ok((ResultCode::Ok, None))
    }

    fn apply(
        &self,
        state: &mut State,
        author: UserId,
        operation: &Operation,
    ) -> Result<(), ResultCode> {
        let operator = self.operators.contains(&author);
        match operation {
            Operation::CreateUser { access, number } => {
                ensure(self.open_registration || operator, ResultCode::NotPermitted)?;
                let id = UserId::derive(self.chain, access, *number);
                ensure(!state.users.contains_key(&id), ResultCode::UserExists)?;
                state.users.insert(id, (access.clone(), author));
            }
            Operation::CreateWallet { owner, number } => {
                let (_, sponsor) = state.users.get(owner).ok_or(ResultCode::UnknownUser)?;
                ensure(author == *owner || author == *sponsor, ResultCode::NotPermitted)?;
                let id = WalletId::derive(self.chain, *owner, *number);
                ensure(!state.wallets.contains_key(&id), ResultCode::WalletExists)?;
                state.wallets.insert(id, *owner);
            }
            Operation::CreateToken { symbol, issuer, .. } => {
                ensure(self.open_tokens || operator, ResultCode::NotPermitted)?;
                ensure(state.users.contains_key(issuer), ResultCode::UnknownUser)?;
                let taken = state.tokens.iter().any(|token| token.symbol == *symbol);
                ensure(!taken, ResultCode::SymbolTaken)?;
                let (symbol, issuer) = (symbol.clone(), *issuer);
                state.tokens.push(Token { symbol, issuer, issued: 0, redeemed: 0 });
            }
            Operation::RotateKeys { user, access } => {
                let row = state.users.get_mut(user).ok_or(ResultCode::UnknownUser)?;
                ensure(*user == author, ResultCode::NotYourUser)?;
                row.0 = access.clone();
            }
            Operation::Issue { .. } | Operation::Redeem { .. } | Operation::Transfer { .. } => {
                return state.move_money(author, operation);
            }
            other => panic!("{other:?} is not among the plain operations"),
        }
        Ok(())
    }

    /// Balances, supplies, owners and keys are the ledger's.
    pub fn compare(&self, ledger: &Ledger) {
        assert_eq!(ledger.users().len(), self.state.users.len());
        assert_eq!(ledger.wallets().len(), self.state.wallets.len());
        assert_eq!(ledger.tokens().len(), self.state.tokens.len());
        assert_eq!(ledger.states().len(), self.state.balances.len());
        for (id, (access, sponsor)) in &self.state.users {
            let row = ledger.users().get(id).unwrap();
            assert_eq!((&row.access, &row.sponsor), (access, sponsor));
        }
        for (id, owner) in &self.state.wallets {
            assert_eq!(ledger.wallets().get(id).unwrap().owner, *owner);
        }
        for (number, token) in (1u32..).zip(&self.state.tokens) {
            let record = &ledger.tokens().get(&TokenId(number)).unwrap().record;
            assert_eq!((&record.symbol, record.issuer), (&token.symbol, token.issuer));
            let supply = (record.issued, record.redeemed);
            assert_eq!(supply, (Amount(token.issued), Amount(token.redeemed)));
        }
        for (key, balance) in &self.state.balances {
            assert_eq!(ledger.states().get(key).unwrap().balance.0, *balance);
        }
    }
}

impl State {
    fn token(&self, token: TokenId) -> Result<usize, ResultCode> {
        let position = (token.0 as usize).wrapping_sub(1);
        ensure(position < self.tokens.len(), ResultCode::UnknownToken)?;
        Ok(position)
    }

    fn pay_out(&mut self, key: (WalletId, TokenId), amount: u128) -> Result<(), ResultCode> {
        let balance = self.balances.entry(key).or_default();
        *balance = balance.checked_sub(amount).ok_or(ResultCode::InsufficientFunds)?;
        Ok(())
    }

    fn pay_in(&mut self, key: (WalletId, TokenId), amount: u128) -> Result<(), ResultCode> {
        let balance = self.balances.entry(key).or_default();
        *balance = balance.checked_add(amount).ok_or(ResultCode::BalanceOverflow)?;
        Ok(())
    }

    fn move_money(&mut self, author: UserId, operation: &Operation) -> Result<(), ResultCode> {
        let source = |state: &Self, wallet: &WalletId| {
            state.wallets.get(wallet).copied().ok_or(ResultCode::UnknownSourceWallet)
        };
        let target = |state: &Self, wallet: &WalletId| {
            ensure(state.wallets.contains_key(wallet), ResultCode::UnknownTargetWallet)
        };
        match operation {
            Operation::Issue { token, to, amount } => {
                let position = self.token(*token)?;
                target(self, to)?;
                ensure(self.tokens[position].issuer == author, ResultCode::NotIssuer)?;
                self.pay_in((*to, *token), amount.0)?;
                let issued = &mut self.tokens[position].issued;
                *issued = issued.checked_add(amount.0).ok_or(ResultCode::SupplyOverflow)?;
            }
            Operation::Redeem { token, from, amount } => {
                let position = self.token(*token)?;
                let owner = source(self, from)?;
                ensure(self.tokens[position].issuer == author, ResultCode::NotIssuer)?;
                ensure(owner == author, ResultCode::NotWalletOwner)?;
                self.pay_out((*from, *token), amount.0)?;
                self.tokens[position].redeemed += amount.0;
            }
            Operation::Transfer { token, from, to, amount, .. } => {
                self.token(*token)?;
                let owner = source(self, from)?;
                target(self, to)?;
                ensure(owner == author, ResultCode::NotWalletOwner)?;
                self.pay_out((*from, *token), amount.0)?;
                self.pay_in((*to, *token), amount.0)?;
            }
            _ => {}
        }
        Ok(())
    }
}
