//! Execution: one verified transaction against the present state.
//!
//! Operations are tried in order on a scratch pad; when all pass, the transaction's record is made,
//! then the new versions, then the tables change. When one fails, the scratch pad is thrown away
//! and the failure is recorded under the id.

use crate::admission::{Verified, unknown_author, verify_again};
use crate::ledger::{BlockContext, Ledger};
use crate::scratch::{Before, StateDraft, Touched, UserDraft, WalletDraft};
use crate::table::{Row as _, Slot};
use kanjo_types::outcome::{Refusal, ResultCode};
use kanjo_types::record::{
    Record, Spent, TokenRecord, TransactionRecord, UserRecord, WalletRecord, WalletStateRecord,
};
use kanjo_types::stored::{Entry, Location, Row, paying_states};
use kanjo_types::transaction::Refused;
use kanjo_types::{Amount, Hash, Operation, TokenId, UserId, WalletId};

type Step = Result<(), ResultCode>;

impl Ledger {
    /// Executes a transaction as number `position` of `block`. The outcome, done or failed, is to
    /// be recorded.
    ///
    /// # Errors
    /// A refusal, with nothing changed and nothing to record: expired, valid for too long, id
    /// already used, unknown author, or signatures that no longer fit the author's keys.
    pub fn execute(
        &mut self,
        block: BlockContext,
        position: u32,
        transaction: &Verified,
    ) -> Result<Entry, Refused> {
        let prepared = transaction.prepared();
        self.check_admissible(block, transaction)?;
        let body = &prepared.transaction().body;
        let author_record = self.author_record(transaction)?;
        self.replay.insert(&prepared.id(), body.valid_until_ms);
        self.scratch.clear();
        let mut failure = None;
        for (number, operation) in (0u32..).zip(&body.operations) {
            if let Err(code) = self.apply(body.author, operation) {
                failure = Some((code, number));
                break;
            }
        }
        let spent = if failure.is_none() { self.spent(&body.operations) } else { Vec::new() };
        let record = TransactionRecord {
            id: prepared.id(),
            witness: prepared.witness(),
            height: block.height,
            position,
            time_ms: block.time_ms,
            author_record,
            spent,
        };
        let record = Record::Transaction(record);
        let hash = record.hash();
        let Record::Transaction(record) = record else {
            return Err(Refused::new(Refusal::Malformed, "record"));
        };
        let rows = if failure.is_none() {
            self.commit(Location { height: block.height, position }, hash)
        } else {
            Vec::new()
        };
        let (result, failed_operation) = match failure {
            Some((code, number)) => (code, Some(number)),
            None => (ResultCode::Ok, None),
        };
        Ok(Entry { raw: prepared.raw().clone(), record, hash, result, failed_operation, rows })
    }

    fn check_admissible(&self, block: BlockContext, transaction: &Verified) -> Result<(), Refused> {
        let prepared = transaction.prepared();
        let body = &prepared.transaction().body;
        if body.chain != self.chain() {
            return Err(Refused::new(Refusal::WrongChain, "body.chain"));
        }
        if body.valid_until_ms < block.time_ms {
            return Err(Refused::new(Refusal::Expired, "body.valid_until_ms"));
        }
        if body.valid_until_ms - block.time_ms > self.replay_window_ms {
            return Err(Refused::new(Refusal::ValidTooLong, "body.valid_until_ms"));
        }
        if self.replay.contains(&prepared.id(), body.valid_until_ms) {
            return Err(Refused::new(Refusal::AlreadyUsed, "id"));
        }
        Ok(())
    }

    /// The hash of the author's present record, whose keys the signatures fit: those they were
    /// checked against, or the new ones when they changed in between. Zero for a user that
    /// registers itself.
    fn author_record(&self, transaction: &Verified) -> Result<Hash, Refused> {
        let checked = transaction.author();
        let present = checked.slot.and_then(|slot| self.users.at(slot));
        if present.is_some_and(|row| row.hash == checked.record) {
            return Ok(checked.record);
        }
        let prepared = transaction.prepared();
        let keys = self.author_keys(prepared.transaction()).ok_or_else(unknown_author)?;
        if keys.author != checked {
            verify_again(prepared, &keys.access)?;
        }
        Ok(keys.author.record)
    }

    fn spent(&self, operations: &[Operation]) -> Vec<Spent> {
        let spent_of = |key| {
            let before = self.scratch.states.get(&key)?.before?;
            Some(Spent { state: before.hash, transaction: before.transaction })
        };
        paying_states(operations).into_iter().filter_map(spent_of).collect()
    }

    fn apply(&mut self, author: UserId, operation: &Operation) -> Step {
        match operation {
            Operation::CreateUser { access, number } => {
                if !self.open_registration() && !self.is_operator(&author) {
                    return Err(ResultCode::NotPermitted);
                }
                let id = UserId::derive(self.chain(), access, *number);
                if self.user_known(&id) {
                    return Err(ResultCode::UserExists);
                }
                let draft = UserDraft { access: access.clone(), sponsor: author };
                self.scratch.users.push(id, draft);
                self.scratch.order.push(Touched::User(id));
                Ok(())
            }
            Operation::CreateWallet { owner, number } => {
                self.create_wallet(author, *owner, *number)
            }
            Operation::CreateToken { symbol, name, decimals, issuer } => {
                self.create_token(author, symbol, name, *decimals, *issuer)
            }
            Operation::Issue { token, to, amount } => self.issue(author, *token, *to, *amount),
            Operation::Redeem { token, from, amount } => {
                self.redeem(author, *token, *from, *amount)
            }
            Operation::Transfer { token, from, to, amount, .. } => {
                self.transfer(author, *token, *from, *to, *amount)
            }
            Operation::RotateKeys { user, access } => {
                let sponsor = self.sponsor_of(user).ok_or(ResultCode::UnknownUser)?;
                if *user != author {
                    return Err(ResultCode::NotYourUser);
                }
                let draft = UserDraft { access: access.clone(), sponsor };
                match self.scratch.users.position(user) {
                    Some(position) => {
                        if let Some(place) = self.scratch.users.at_mut(position) {
                            *place = draft;
                        }
                    }
                    None => {
                        self.scratch.users.push(*user, draft);
                        self.scratch.order.push(Touched::User(*user));
                    }
                }
                Ok(())
            }
        }
    }

    fn user_known(&self, id: &UserId) -> bool {
        self.scratch.users.position(id).is_some() || self.users.find(id).is_some()
    }

    fn sponsor_of(&self, id: &UserId) -> Option<UserId> {
        let draft = self.scratch.users.get(id).map(|draft| draft.sponsor);
        draft.or_else(|| self.users.get(id).map(|row| row.sponsor))
    }

    fn create_wallet(&mut self, author: UserId, owner: UserId, number: u64) -> Step {
        let sponsor = self.sponsor_of(&owner).ok_or(ResultCode::UnknownUser)?;
        if author != owner && author != sponsor {
            return Err(ResultCode::NotPermitted);
        }
        let id = WalletId::derive(self.chain(), owner, number);
        if self.scratch.wallets.position(&id).is_some() || self.wallets.find(&id).is_some() {
            return Err(ResultCode::WalletExists);
        }
        self.scratch.wallets.push(id, WalletDraft { owner, number });
        self.scratch.order.push(Touched::Wallet(id));
        Ok(())
    }

    fn create_token(
        &mut self,
        author: UserId,
        symbol: &str,
        name: &str,
        decimals: u8,
        issuer: UserId,
    ) -> Step {
        if !self.open_tokens && !self.is_operator(&author) {
            return Err(ResultCode::NotPermitted);
        }
        if !self.user_known(&issuer) {
            return Err(ResultCode::UnknownUser);
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
            symbol: symbol.to_owned(),
            name: name.to_owned(),
            decimals,
            issuer,
            issued: Amount::ZERO,
            redeemed: Amount::ZERO,
            previous: Hash::ZERO,
            transaction: Hash::ZERO,
            issuer_record: Hash::ZERO,
        };
        self.scratch.tokens.push(id, record);
        self.scratch.new_symbols.insert(symbol.to_owned());
        self.scratch.order.push(Touched::Token(id));
        Ok(())
    }

    /// The position of the token's draft, made from its present row on first touch.
    fn token_draft(&mut self, token: TokenId) -> Option<usize> {
        if let Some(position) = self.scratch.tokens.position(&token) {
            return Some(position);
        }
        let row = self.tokens.get(&token)?;
        let mut record = row.record.clone();
        record.version += 1;
        record.previous = row.hash;
        self.scratch.order.push(Touched::Token(token));
        Some(self.scratch.tokens.push(token, record))
    }

    fn token_issuer(&self, token: TokenId) -> Option<UserId> {
        let draft = self.scratch.tokens.get(&token).map(|record| record.issuer);
        draft.or_else(|| self.tokens.get(&token).map(|row| row.record.issuer))
    }

    fn token_known(&self, token: TokenId) -> bool {
        let in_batch =
            !self.scratch.tokens.is_empty() && self.scratch.tokens.position(&token).is_some();
        in_batch || self.tokens.find(&token).is_some()
    }

    /// The owner of a wallet. Remembers where the wallet is, and drafts its state in `token` if
    /// there is one: callers are about to change that state.
    fn wallet_owner(&mut self, wallet: WalletId, token: TokenId) -> Option<UserId> {
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
        let draft = StateDraft { before: Some(before), balance: row.balance };
        let wallet_slot = Slot { partition: slot.partition, slot: row.wallet_slot };
        self.scratch.states.push(key, draft);
        Some(wallet_slot)
    }

    /// The position of a state's draft, made from its present row on first touch.
    fn state_draft(&mut self, wallet: WalletId, token: TokenId) -> usize {
        let key = (wallet, token);
        if let Some(position) = self.scratch.states.position(&key) {
            return position;
        }
        self.existing_state(wallet, token);
        let new = StateDraft { before: None, balance: Amount::ZERO };
        match self.scratch.states.position(&key) {
            Some(position) => position,
            None => self.scratch.states.push(key, new),
        }
    }

    fn debit(&mut self, wallet: WalletId, token: TokenId, amount: Amount) -> Step {
        let position = self.state_draft(wallet, token);
        let draft = self.scratch.states.at_mut(position).ok_or(ResultCode::InsufficientFunds)?;
        draft.balance = draft.balance.checked_sub(amount).ok_or(ResultCode::InsufficientFunds)?;
        Ok(())
    }

    fn credit(&mut self, wallet: WalletId, token: TokenId, amount: Amount) -> Step {
        let position = self.state_draft(wallet, token);
        let draft = self.scratch.states.at_mut(position).ok_or(ResultCode::BalanceOverflow)?;
        draft.balance = draft.balance.checked_add(amount).ok_or(ResultCode::BalanceOverflow)?;
        Ok(())
    }

    fn transfer(
        &mut self,
        author: UserId,
        token: TokenId,
        from: WalletId,
        to: WalletId,
        amount: Amount,
    ) -> Step {
        if !self.token_known(token) {
            return Err(ResultCode::UnknownToken);
        }
        let owner = self.wallet_owner(from, token).ok_or(ResultCode::UnknownSourceWallet)?;
        self.wallet_owner(to, token).ok_or(ResultCode::UnknownTargetWallet)?;
        if owner != author {
            return Err(ResultCode::NotWalletOwner);
        }
        self.debit(from, token, amount)?;
        self.credit(to, token, amount)
    }

    fn issue(&mut self, author: UserId, token: TokenId, to: WalletId, amount: Amount) -> Step {
        let issuer = self.token_issuer(token).ok_or(ResultCode::UnknownToken)?;
        self.wallet_owner(to, token).ok_or(ResultCode::UnknownTargetWallet)?;
        if issuer != author {
            return Err(ResultCode::NotIssuer);
        }
        self.credit(to, token, amount)?;
        let position = self.token_draft(token).ok_or(ResultCode::UnknownToken)?;
        let record = self.scratch.tokens.at_mut(position).ok_or(ResultCode::UnknownToken)?;
        record.issued = record.issued.checked_add(amount).ok_or(ResultCode::SupplyOverflow)?;
        Ok(())
    }

    fn redeem(&mut self, author: UserId, token: TokenId, from: WalletId, amount: Amount) -> Step {
        let issuer = self.token_issuer(token).ok_or(ResultCode::UnknownToken)?;
        let owner = self.wallet_owner(from, token).ok_or(ResultCode::UnknownSourceWallet)?;
        if issuer != author {
            return Err(ResultCode::NotIssuer);
        }
        if owner != author {
            return Err(ResultCode::NotWalletOwner);
        }
        self.debit(from, token, amount)?;
        let position = self.token_draft(token).ok_or(ResultCode::UnknownToken)?;
        let record = self.scratch.tokens.at_mut(position).ok_or(ResultCode::UnknownToken)?;
        record.redeemed = record.redeemed.checked_add(amount).ok_or(ResultCode::SupplyOverflow)?;
        Ok(())
    }

    /// Makes the new versions from the scratch pad and takes them into the tables.
    fn commit(&mut self, at: Location, transaction: Hash) -> Vec<Row> {
        let scratch = std::mem::take(&mut self.scratch);
        let count = scratch.order.len() + scratch.states.iter().count();
        let mut rows = Vec::with_capacity(count);
        for touched in &scratch.order {
            let made = match touched {
                Touched::User(id) => self.user_row(*id, &scratch, transaction),
                Touched::Wallet(id) => self.wallet_row(*id, &scratch, transaction),
                Touched::Token(id) => self.token_row(*id, &scratch, transaction),
            };
            if let Some(row) = made {
                self.install(&row.record, row.hash, at);
                rows.push(row);
            }
        }
        for ((wallet, token), draft) in scratch.states.iter() {
            let slot = scratch.wallet_slots.get(wallet).copied();
            let slot = slot.or_else(|| self.wallets.find(wallet));
            let wallet_record = slot.and_then(|slot| self.wallets.at(slot));
            assert!(
                wallet_record.is_some_and(|row| row.id == *wallet),
                "a state's wallet was found before"
            );
            let wallet_slot = slot.map_or(0, |slot| slot.slot);
            let before = draft.before;
            let state = WalletStateRecord {
                wallet: *wallet,
                token: *token,
                version: before.map_or(0, |before| before.version) + 1,
                balance: draft.balance,
                previous: before.map_or(Hash::ZERO, |before| before.hash),
                transaction,
                wallet_record: wallet_record.map_or(Hash::ZERO, |row| row.hash),
            };
            let previous_at = before.map_or_else(Location::default, |before| before.at);
            let record = Record::WalletState(state.clone());
            let hash = record.hash();
            let state_slot = before.map(|before| before.slot);
            self.install_state(&state, hash, at.into(), state_slot, wallet_slot);
            rows.push(Row { hash, record, previous_at });
        }
        assert_eq!(rows.len(), count, "every draft made a version");
        self.scratch = scratch;
        rows
    }

    fn user_row(&self, id: UserId, scratch: &crate::scratch::Scratch, tx: Hash) -> Option<Row> {
        let draft = scratch.users.get(&id)?;
        let old = self.users.get(&id);
        let record = Record::User(UserRecord {
            id,
            version: old.map_or(0, |row| row.version) + 1,
            access: draft.access.clone(),
            sponsor: draft.sponsor,
            previous: old.map_or(Hash::ZERO, |row| row.hash),
            transaction: tx,
        });
        let previous_at = old.map_or_else(Location::default, |row| row.at.into());
        Some(Row { hash: record.hash(), record, previous_at })
    }

    fn wallet_row(&self, id: WalletId, scratch: &crate::scratch::Scratch, tx: Hash) -> Option<Row> {
        let draft = scratch.wallets.get(&id)?;
        let owner = self.users.get(&draft.owner)?;
        let record = Record::Wallet(WalletRecord {
            id,
            version: 1,
            owner: draft.owner,
            number: draft.number,
            previous: Hash::ZERO,
            transaction: tx,
            owner_record: owner.hash(),
        });
        Some(Row { hash: record.hash(), record, previous_at: Location::default() })
    }

    fn token_row(&self, id: TokenId, scratch: &crate::scratch::Scratch, tx: Hash) -> Option<Row> {
        let mut record = scratch.tokens.get(&id)?.clone();
        let issuer = self.users.get(&record.issuer)?;
        record.transaction = tx;
        record.issuer_record = issuer.hash();
        let old = self.tokens.get(&id);
        let previous_at = old.map_or_else(Location::default, |row| row.at.into());
        let record = Record::Token(record);
        Some(Row { hash: record.hash(), record, previous_at })
    }
}
