//! Tokens and their supply: creating tokens, issuing and redeeming.

use crate::execute::Step;
use crate::ledger::Ledger;
use crate::scratch::Touched;
use crate::table::Row as _;
use crate::turn::Turn;
use kanjo_types::money::{Role, Scope};
use kanjo_types::outcome::ResultCode;
use kanjo_types::policy::TokenRules;
use kanjo_types::record::TokenRecord;
use kanjo_types::{Amount, Hash, Operation, TokenId, WalletId};

impl Ledger {
    pub(crate) fn check_issuer(&self, turn: &Turn<'_>, token: TokenId) -> Step {
        let held = self.held_by(Scope::Token(token), Role::Issuer);
        let held = held.ok_or(ResultCode::UnknownToken)?;
        match held.users.iter().filter(|user| turn.signed_by(user)).count() {
            0 => Err(ResultCode::NotIssuer),
            signing if signing < held.threshold => Err(ResultCode::ApprovalNeeded),
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
                self.charge(turn, from, token, amount)?;
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
