//! Bundles that are collected on the ledger, and conditions.

use crate::execute::Step;
use crate::ledger::Ledger;
use crate::turn::Turn;
use kanjo_types::money::{Condition, Leg};
use kanjo_types::outcome::ResultCode;
use kanjo_types::record::{Record, RowKey, Table};
use kanjo_types::standing::{BundleParty, BundleRecord, BundleStatus, Links};
use kanjo_types::{BundleId, Hash, TokenId, UserId, WalletId};

impl Ledger {
    /// Checks a condition against what holds at this point of the transaction. Drafts nothing.
    pub(crate) fn require(&mut self, turn: &Turn<'_>, condition: &Condition) -> Step {
        self.check_condition_names(condition)?;
        let balance = |wallet, token| self.state_now(wallet, token).0;
        let (holds, otherwise) = match *condition {
            Condition::BalanceAtLeast { wallet, token, amount } => {
                (balance(wallet, token) >= amount, ResultCode::BalanceTooLow)
            }
            Condition::BalanceAtMost { wallet, token, amount } => {
                (balance(wallet, token) <= amount, ResultCode::BalanceTooHigh)
            }
            Condition::StateIs { wallet, token, state } => {
                (self.recorded_state(wallet, token) == state, ResultCode::StateChanged)
            }
            Condition::Approved { wallet, token } => {
                (self.terms(wallet, token).approved, ResultCode::WalletNotApproved)
            }
            Condition::NotBefore { time_ms } => (turn.time_ms() >= time_ms, ResultCode::TooEarly),
            Condition::NotAfter { time_ms } => (turn.time_ms() <= time_ms, ResultCode::TooLate),
            Condition::RowIs { .. } | Condition::RangeIs { .. } | Condition::RelationIs { .. } => {
                return self.require_rows(condition);
            }
        };
        if holds { Ok(()) } else { Err(otherwise) }
    }

    /// Hash of the state as it was before this transaction; zero when there was none.
    fn recorded_state(&self, wallet: WalletId, token: TokenId) -> Hash {
        self.states.get(&(wallet, token)).map_or(Hash::ZERO, |row| row.hash)
    }

    /// A condition can be asked only of a token and a wallet that are there.
    fn check_condition_names(&self, condition: &Condition) -> Step {
        match condition {
            Condition::BalanceAtLeast { wallet, token, .. }
            | Condition::BalanceAtMost { wallet, token, .. }
            | Condition::StateIs { wallet, token, .. }
            | Condition::Approved { wallet, token } => {
                self.token_record(*token).ok_or(ResultCode::UnknownToken)?;
                self.owner_of(*wallet).ok_or(ResultCode::UnknownWallet)?;
                Ok(())
            }
            Condition::NotBefore { .. }
            | Condition::NotAfter { .. }
            | Condition::RowIs { .. }
            | Condition::RangeIs { .. }
            | Condition::RelationIs { .. } => Ok(()),
        }
    }

    /// Puts a bundle on the ledger. Who signs this has agreed; when that is everybody, it is paid
    /// at once.
    pub(crate) fn propose_bundle(
        &mut self,
        turn: &Turn<'_>,
        parties: &[UserId],
        conditions: &[Condition],
        legs: &[Leg],
        expires_ms: u64,
    ) -> Step {
        if parties.iter().any(|party| !self.user_known(party)) {
            return Err(ResultCode::UnknownUser);
        }
        conditions.iter().try_for_each(|condition| self.check_condition_names(condition))?;
        let is_party = |user: &UserId| *user == turn.author || parties.contains(user);
        let mut all_payers_in = true;
        for leg in legs {
            let payment = self.future_payment(leg.token, leg.from, leg.to, leg.amount)?;
            all_payers_in &= is_party(&payment.from_owner);
        }
        if !all_payers_in {
            return Err(ResultCode::NotParty);
        }
        if expires_ms <= turn.time_ms() {
            return Err(ResultCode::InvalidTime);
        }
        let mut users: Vec<UserId> = parties.iter().copied().chain([turn.author]).collect();
        users.sort_unstable();
        let party = |user: UserId| BundleParty { user, agreed: turn.signed_by(&user) };
        self.pay_when_agreed(
            turn,
            BundleRecord {
                id: BundleId::derive(turn.id, turn.number, 0),
                links: Links::default(),
                parties: users.into_iter().map(party).collect(),
                conditions: conditions.to_vec(),
                legs: legs.to_vec(),
                expires_ms,
                status: BundleStatus::Open,
            },
        )
    }

    pub(crate) fn agree_bundle(&mut self, turn: &Turn<'_>, bundle: BundleId) -> Step {
        let mut bundle = self.bundle(turn, bundle)?;
        if turn.time_ms() > bundle.expires_ms {
            return Err(ResultCode::BundleExpired);
        }
        let mut news = false;
        for party in bundle.parties.iter_mut().filter(|party| turn.signed_by(&party.user)) {
            news |= !party.agreed;
            party.agreed = true;
        }
        if !news {
            return Err(ResultCode::AlreadyAgreed);
        }
        self.pay_when_agreed(turn, bundle)
    }

    /// Ends an open bundle, also one that has expired; by whoever is a party, agreed or not.
    pub(crate) fn decline_bundle(&mut self, turn: &Turn<'_>, bundle: BundleId) -> Step {
        let bundle = self.bundle(turn, bundle)?;
        let declined = BundleRecord { status: BundleStatus::Declined, ..bundle };
        self.draft_standing(Record::Bundle(Box::new(declined)));
        Ok(())
    }

    /// An open bundle that a signer is a party of.
    fn bundle(&self, turn: &Turn<'_>, id: BundleId) -> Result<BundleRecord, ResultCode> {
        let record = self.standing_record(Table::Bundles, RowKey::item(id.0));
        let Some(Record::Bundle(bundle)) = record else {
            return Err(ResultCode::UnknownBundle);
        };
        if !bundle.parties.iter().any(|party| turn.signed_by(&party.user)) {
            return Err(ResultCode::NotParty);
        }
        if bundle.status != BundleStatus::Open {
            return Err(ResultCode::BundleClosed);
        }
        Ok(BundleRecord::clone(bundle))
    }

    /// Writes the bundle down, paid when all have agreed: conditions first, then legs in order.
    fn pay_when_agreed(&mut self, turn: &Turn<'_>, mut bundle: BundleRecord) -> Step {
        if bundle.parties.iter().all(|party| party.agreed) {
            for condition in &bundle.conditions {
                self.require(turn, condition)?;
            }
            for leg in &bundle.legs {
                let payment = self.payment(leg.token, leg.from, leg.to, leg.amount)?;
                self.pay(turn, &payment)?;
            }
            bundle.status = BundleStatus::Done;
        }
        self.draft_standing(Record::Bundle(Box::new(bundle)));
        Ok(())
    }
}
