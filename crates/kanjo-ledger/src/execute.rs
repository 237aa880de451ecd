//! Execution: one verified transaction against the present state.
//!
//! Operations are tried in order on a scratch pad; when all pass, the transaction's record is made,
//! then the new versions, then the tables change. When one fails, the scratch pad is thrown away
//! and the failure is recorded under the id.

use crate::admission::{Verified, signers_record, unknown_author, verify_again};
use crate::ledger::{BlockContext, Ledger};
use crate::scratch::{Before, Touched, UserDraft, WEIGHT_MAX, WalletDraft, weight};
use crate::table::Row as _;
use crate::turn::Turn;
use bytes::Bytes;
use kanjo_types::outcome::{Refusal, ResultCode};
use kanjo_types::record::{Record, Spent, StateExtra, TransactionRecord};
use kanjo_types::stored::{Entry, Location, Named, spent_states};
use kanjo_types::transaction::Refused;
use kanjo_types::{Hash, Operation, TransactionId, UserId, WalletId};

/// Of each drafted wallet state: is it the next that the operations name?
type NamedRows = smallvec::SmallVec<[bool; 2]>;

/// What came of one operation.
pub(crate) type Step = Result<(), ResultCode>;

/// A transaction as it is recorded, whoever made it.
pub(crate) struct Taken<'a> {
    pub raw: &'a Bytes,
    pub id: TransactionId,
    pub witness: Hash,
    pub author_record: Hash,
    pub operations: &'a [Operation],
}

impl Ledger {
    /// Executes a transaction as number `position` of `block`. The outcome, done or failed, is to
    /// be recorded.
    ///
    /// # Errors
    /// A refusal, with nothing changed and nothing to record: expired, valid for too long, id
    /// already used, unknown author, or signatures that no longer fit the signers' keys.
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
        let mut turn = Turn {
            block,
            id: prepared.id(),
            number: 0,
            author: body.author,
            parties: body.parties(),
            headers: transaction.headers(),
        };
        let mut failure = None;
        for (number, operation) in (0u32..).zip(&body.operations) {
            turn.number = number;
            let done = self.apply(&turn, operation).and_then(|()| self.check_weight());
            if let Err(code) = done {
                failure = Some((code, number));
                break;
            }
        }
        if failure.is_none() && !self.scratch.relations.is_untouched() {
            failure = self.finish_relations().err();
        }
        let taken = Taken {
            raw: prepared.raw(),
            id: prepared.id(),
            witness: prepared.witness(),
            author_record,
            operations: &body.operations,
        };
        self.conclude(block, position, &taken, failure)
    }

    /// Records what came of a transaction and, when it passed, makes what is on the scratch pad so.
    pub(crate) fn conclude(
        &mut self,
        block: BlockContext,
        position: u32,
        taken: &Taken<'_>,
        failure: Option<(ResultCode, u32)>,
    ) -> Result<Entry, Refused> {
        let (spent, named) =
            if failure.is_none() { self.spent(taken.operations) } else { Default::default() };
        let record = TransactionRecord {
            id: taken.id,
            witness: taken.witness,
            height: block.height,
            position,
            time_ms: block.time_ms,
            author_record: taken.author_record,
            spent,
        };
        let record = Record::Transaction(record);
        let hash = record.hash();
        let Record::Transaction(record) = record else {
            return Err(Refused::new(Refusal::Malformed, "record"));
        };
        let rows = if failure.is_none() {
            self.commit(Location { height: block.height, position }, hash, &named)
        } else {
            Vec::new()
        };
        let (result, failed_operation) = match failure {
            Some((code, number)) => (code, Some(number)),
            None => (ResultCode::Ok, None),
        };
        Ok(Entry { raw: taken.raw.clone(), record, hash, result, failed_operation, rows })
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
    /// registers itself. With several signers, a digest over the records of all.
    fn author_record(&self, transaction: &Verified) -> Result<Hash, Refused> {
        let checked = transaction.signers();
        let is_present = |signer: &crate::admission::Author| {
            let present = signer.slot.and_then(|slot| self.users.at(slot));
            present.is_some_and(|row| row.hash == signer.record)
        };
        if checked.iter().all(is_present) {
            return Ok(signers_record(checked));
        }
        let prepared = transaction.prepared();
        let keys = self.author_keys(prepared.transaction()).ok_or_else(unknown_author)?;
        if keys.signers() != checked {
            verify_again(prepared, &keys)?;
        }
        Ok(signers_record(keys.signers()))
    }

    /// The spent states, and for each drafted state whether it is the next that the operations
    /// name.
    fn spent(&self, operations: &[Operation]) -> (Vec<Spent>, NamedRows) {
        if let Some(plain) = self.spent_by_payment(operations) {
            return plain;
        }
        let mut walk = Named::new(operations);
        let drafts = || self.scratch.states.iter();
        let named: NamedRows = drafts().map(|(key, _)| walk.is_next(*key)).collect();
        let kept = drafts()
            .zip(&named)
            .map(|((key, draft), named)| (*key, *named && draft.extra.canonical().is_none()));
        let spent_of = |key| {
            let before = self.scratch.states.get(&key)?.before?;
            Some(Spent { state: before.hash, transaction: before.transaction })
        };
        let spent = spent_states(operations, kept).into_iter().filter_map(spent_of).collect();
        (spent, named)
    }

    /// The same for one payment that touched nothing but its two wallets: no list but the answer.
    fn spent_by_payment(&self, operations: &[Operation]) -> Option<(Vec<Spent>, NamedRows)> {
        let [Operation::Transfer { token, from, to, .. }] = operations else { return None };
        let mut drafts = self.scratch.states.iter();
        let (payer, payee) = (drafts.next()?, drafts.next()?);
        let plain = drafts.next().is_none()
            && payer.0 == (*from, *token)
            && payee.0 == (*to, *token)
            && payer.1.extra == StateExtra::default()
            && payee.1.extra == StateExtra::default();
        let spent_of =
            |before: Before| Spent { state: before.hash, transaction: before.transaction };
        let spent = || payer.1.before.map(spent_of).into_iter().collect();
        plain.then(|| (spent(), smallvec::smallvec![true, true]))
    }

    fn apply(&mut self, turn: &Turn<'_>, operation: &Operation) -> Step {
        match operation {
            Operation::CreateUser { access, number } => {
                if !self.open_registration() && !self.is_operator(&turn.author) {
                    return Err(ResultCode::NotPermitted);
                }
                let id = UserId::derive(self.chain(), access, *number);
                if self.user_known(&id) {
                    return Err(ResultCode::UserExists);
                }
                self.draft_user(id, UserDraft { access: access.clone(), sponsor: turn.author });
                Ok(())
            }
            Operation::CreateWallet { owner, number } => self.create_wallet(turn, *owner, *number),
            Operation::CreateToken { .. } => self.create_token(turn, operation),
            Operation::Issue { token, to, amount } => self.issue(turn, *token, *to, *amount),
            Operation::Redeem { token, from, amount } => self.redeem(turn, *token, *from, *amount),
            Operation::Transfer { token, from, to, amount, .. } => {
                self.transfer(turn, *token, *from, *to, *amount)
            }
            Operation::RotateKeys { user, access } => {
                let sponsor = self.sponsor_of(user).ok_or(ResultCode::UnknownUser)?;
                if !turn.signed_by(user) {
                    return Err(ResultCode::NotYourUser);
                }
                self.draft_user(*user, UserDraft { access: access.clone(), sponsor });
                Ok(())
            }
            _ => self.apply_rules(turn, operation),
        }
    }

    /// Operations beside plain payments: see `docs/money.md`.
    fn apply_rules(&mut self, turn: &Turn<'_>, operation: &Operation) -> Step {
        match operation {
            Operation::Parties { .. } => Ok(()),
            Operation::Require { condition } => self.require(turn, condition),
            Operation::Reserve { .. } => self.reserve(turn, operation),
            Operation::Post { pending, amount } => self.post(turn, *pending, *amount),
            Operation::Void { pending } => self.void(turn, *pending),
            Operation::ProposeBundle { parties, conditions, legs, expires_ms } => {
                self.propose_bundle(turn, parties, conditions, legs, *expires_ms)
            }
            Operation::AgreeBundle { bundle } => self.agree_bundle(turn, *bundle),
            Operation::DeclineBundle { bundle } => self.decline_bundle(turn, *bundle),
            Operation::Schedule { .. } => self.schedule(turn, operation),
            Operation::CancelSchedule { schedule } => self.cancel_schedule(turn, *schedule),
            Operation::SetAttribute { user, name, commitment } => {
                self.set_attribute(turn, *user, name, *commitment)
            }
            Operation::EraseAttribute { user, name } => self.erase_attribute(turn, *user, name),
            Operation::SetGuardians { grant, delay_ms } => {
                self.set_guardians(turn, grant, *delay_ms)
            }
            Operation::Act { order, evidence } => self.order_act(turn, order, evidence),
            Operation::ApproveAct { act, evidence } => self.approve_act(turn, *act, evidence),
            Operation::RejectAct { act } => self.reject_act(turn, *act),
            Operation::FinishAct { act } => self.finish_act(turn, *act),
            Operation::SettleClaim { claim } => self.settle_claim(turn, *claim),
            Operation::PayInterest { .. } => self.pay_interest(turn, operation),
            Operation::ChangeMembership { change } => self.change_membership(turn, change),
            Operation::Define { relation, expected, change } => {
                self.define(turn, *relation, *expected, change)
            }
            Operation::Write { relation, definition, changes } => {
                self.write(turn, *relation, *definition, changes)
            }
            // The others are applied by `apply`; those of the ledger itself never get here, because
            // their shape is refused from outside.
            _ => Err(ResultCode::NotPermitted),
        }
    }

    /// Is what this transaction changes still within what one may change?
    fn check_weight(&self) -> Step {
        if self.scratch.weight > WEIGHT_MAX { Err(ResultCode::TooMuch) } else { Ok(()) }
    }

    pub(crate) fn user_known(&self, id: &UserId) -> bool {
        self.scratch.users.position(id).is_some() || self.users.find(id).is_some()
    }

    pub(crate) fn sponsor_of(&self, id: &UserId) -> Option<UserId> {
        let draft = self.scratch.users.get(id).map(|draft| draft.sponsor);
        draft.or_else(|| self.users.get(id).map(|row| row.sponsor))
    }

    /// Drafts a new version of a user.
    pub(crate) fn draft_user(&mut self, user: UserId, draft: UserDraft) {
        if let Some(place) = self.scratch.users.get_mut(&user) {
            *place = draft;
        } else {
            self.scratch.users.push(user, draft);
            self.scratch.order.push(Touched::User(user));
        }
    }

    fn create_wallet(&mut self, turn: &Turn<'_>, owner: UserId, number: u64) -> Step {
        let sponsor = self.sponsor_of(&owner).ok_or(ResultCode::UnknownUser)?;
        if !turn.signed_by(&owner) && !turn.signed_by(&sponsor) {
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

    /// The newest version of a row beside the balances, drafts of this transaction included.
    pub(crate) fn standing_record(
        &self,
        table: kanjo_types::Table,
        key: kanjo_types::record::RowKey,
    ) -> Option<&Record> {
        if !self.scratch.standing.is_empty()
            && let Some(draft) = self.scratch.standing.get(&(table, key))
        {
            return Some(draft);
        }
        let rows = self.standing(table);
        if rows.is_empty() {
            return None;
        }
        rows.get(&key).map(|row| &row.record)
    }

    /// Hash of the newest recorded version of such a row; zero without one.
    pub(crate) fn standing_hash(
        &self,
        table: kanjo_types::Table,
        key: kanjo_types::record::RowKey,
    ) -> Hash {
        self.standing(table).get(&key).map_or(Hash::ZERO, |row| row.hash())
    }

    /// Drafts a new version of a row beside the balances. Version and previous version are set
    /// here, the transaction when it is committed.
    pub(crate) fn draft_standing(&mut self, mut record: Record) {
        let Some((table, key)) = record.place() else { return };
        self.scratch.weight = self.scratch.weight.saturating_add(weight(&record));
        let old = self.standing(table).get(&key);
        let version = old.map_or(0, |row| row.record.version()) + 1;
        let previous = old.map_or(Hash::ZERO, |row| row.hash());
        if let Some(links) = record.links_mut() {
            *links = kanjo_types::standing::Links { version, previous, transaction: Hash::ZERO };
        }
        if let Some(place) = self.scratch.standing.get_mut(&(table, key)) {
            *place = record;
        } else {
            self.scratch.standing.push((table, key), record);
            self.scratch.order.push(Touched::Standing(table, key));
        }
    }
}
