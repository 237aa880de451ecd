//! Proofs of the present state: a question travels through the pipeline like a transaction, so that
//! rows, trees and header are of one height, and is answered when that height is final.

use crate::rows;
use crate::sealer::Sealed;
use crate::tables::PendingTables;
use kanjo_ledger::Ledger;
use kanjo_ledger::table::{Row, Slot, Table};
use kanjo_proof::path::StatePath;
use kanjo_proof::state::{Leaf, StateTree};
use kanjo_proof::trust::SignedHeader;
use kanjo_types::record::{self, RowKey};
use kanjo_types::stored::Location;
use kanjo_types::{Record, TokenId, TransactionId, UserId, WalletId};
use tokio::sync::oneshot;

/// Most wallet states in one proof.
pub(crate) const STATES_MAX: usize = 4_096;

/// What is to be proven.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wanted {
    User(UserId),
    Token(TokenId),
    State(WalletId, TokenId),
    /// The wallet and all of its states.
    Wallet(WalletId),
    /// A row of any table.
    Row(record::Table, RowKey),
    /// The reversal of a transaction in a token, and the act that ordered it.
    Reversal(TransactionId, TokenId),
}

impl Wanted {
    /// Key of the row asked for.
    pub(crate) fn key(&self) -> RowKey {
        match *self {
            Self::User(id) => RowKey::user(id),
            Self::Token(id) => RowKey::token(id),
            Self::State(wallet, token) => RowKey::wallet_state(wallet, token),
            Self::Wallet(id) => RowKey::wallet(id),
            Self::Row(_, key) => key,
            Self::Reversal(original, token) => RowKey::reversal(original, token),
        }
    }
}

/// A leaf on the way to a proof.
#[derive(Debug, Clone)]
pub(crate) struct ProvenAt {
    pub leaf: Leaf,
    pub path: StatePath,
    /// Where its row's version was made; nothing for the bound.
    pub made_at: Option<Location>,
}

/// The leaf at or below the wanted key, and for a wallet its states.
pub(crate) struct ProofAnswer {
    pub at: SignedHeader,
    pub table: record::Table,
    pub key: RowKey,
    pub floor: ProvenAt,
    /// The leaf below a wallet's states.
    pub low: Option<ProvenAt>,
    pub states: Vec<ProvenAt>,
    /// The act that ordered a reversal.
    pub act: Option<ProvenAt>,
}

pub(crate) struct ProofQuery {
    pub wanted: Wanted,
    pub reply: oneshot::Sender<ProofAnswer>,
}

struct Found {
    slot: Slot,
    leaf: Leaf,
    made_at: Option<Location>,
}

/// A question whose rows are fixed.
pub(crate) struct ResolvedQuery {
    table: record::Table,
    key: RowKey,
    floor: Option<Found>,
    low: Option<Found>,
    states: Vec<Found>,
    act: Option<Found>,
    reply: oneshot::Sender<ProofAnswer>,
}

fn found<R: Row>(table: &Table<R>, slot: Slot) -> Option<Found> {
    let made_at = table.at(slot).map(Row::made_at);
    Some(Found { slot, leaf: table.leaf(slot)?, made_at })
}

fn floor<R: Row>(table: &Table<R>, key: &R::Key) -> Option<Found> {
    found(table, table.floor(R::row_key(key).partition(), key))
}

/// The leaf at or below a key. What stands in a key behind the id of a row only makes it greater
/// than the row's, so the id alone finds the leaf.
fn floor_of(ledger: &Ledger, table: record::Table, key: RowKey) -> Option<Found> {
    use record::Table as T;
    let (id, token) = rows::parts(key);
    match table {
        T::Users => floor(ledger.users(), &UserId(id)),
        T::Wallets => floor(ledger.wallets(), &WalletId(id)),
        T::Tokens => floor(ledger.tokens(), &rows::token_of(key)),
        T::WalletStates => floor(ledger.states(), &(WalletId(id), token)),
        _ => floor(ledger.standing(table), &key),
    }
}

impl ProofQuery {
    pub(crate) fn resolve(self, ledger: &Ledger) -> ResolvedQuery {
        use record::Table as T;
        let mut low = None;
        let mut states = Vec::new();
        let mut act = None;
        let (table, key, floor) = match self.wanted {
            Wanted::User(id) => (T::Users, RowKey::user(id), floor(ledger.users(), &id)),
            Wanted::Token(id) => (T::Tokens, RowKey::token(id), floor(ledger.tokens(), &id)),
            Wanted::State(wallet, token) => {
                let key = RowKey::wallet_state(wallet, token);
                (T::WalletStates, key, floor(ledger.states(), &(wallet, token)))
            }
            Wanted::Wallet(id) => {
                let table = ledger.states();
                low = floor(table, &(id, TokenId(0)));
                let mut slot = low.as_ref().map(|low| low.slot);
                while let Some(next) = slot.and_then(|slot| table.following(slot))
                    && table.at(next).is_some_and(|row| row.wallet == id)
                    && states.len() < STATES_MAX
                {
                    states.extend(found(table, next));
                    slot = Some(next);
                }
                (T::Wallets, RowKey::wallet(id), floor(ledger.wallets(), &id))
            }
            Wanted::Row(table, key) => (table, key, floor_of(ledger, table, key)),
            Wanted::Reversal(original, token) => {
                let key = RowKey::reversal(original, token);
                if let Some(row) = ledger.standing(T::Reversals).get(&key)
                    && let Record::Reversal(reversal) = &row.record
                {
                    act = floor_of(ledger, T::Acts, RowKey::item(reversal.act.0));
                }
                (T::Reversals, key, floor_of(ledger, T::Reversals, key))
            }
        };
        ResolvedQuery { table, key, floor, low, states, act, reply: self.reply }
    }
}

impl ResolvedQuery {
    /// Adds the paths. Nothing when the question can't be answered (then the asker sees a closed
    /// channel).
    pub(crate) fn prove(self, trees: &StateTree, at: &SignedHeader) -> Option<PendingProof> {
        let prove = |table, found: Found| {
            let path = trees.path(table, found.slot.partition, found.slot.slot)?;
            Some(ProvenAt { leaf: found.leaf, path, made_at: found.made_at })
        };
        let state = |found| prove(record::Table::WalletStates, found);
        let low = match self.low {
            Some(low) => Some(state(low)?),
            None => None,
        };
        let act = match self.act {
            Some(act) => Some(prove(record::Table::Acts, act)?),
            None => None,
        };
        let answer = ProofAnswer {
            at: at.clone(),
            table: self.table,
            key: self.key,
            floor: prove(self.table, self.floor?)?,
            low,
            states: self.states.into_iter().map(state).collect::<Option<Vec<_>>>()?,
            act,
        };
        Some(PendingProof { answer, reply: self.reply })
    }
}

/// A proof that waits for its header to be final.
pub(crate) struct PendingProof {
    answer: ProofAnswer,
    reply: oneshot::Sender<ProofAnswer>,
}

impl PendingProof {
    /// Sets the certificate that came after the paths were taken.
    pub(crate) fn certify(&mut self, signed: &SignedHeader) {
        if self.answer.at.header.height == signed.header.height {
            self.answer.at.certificate = signed.certificate.clone();
        }
    }

    pub(crate) fn send(self) {
        // The asker may be gone.
        let _ = self.reply.send(self.answer);
    }
}

/// Everything of a sealed batch that is sent when it is final.
pub(crate) fn release(sealed: &mut Sealed) {
    std::mem::take(&mut sealed.proofs).into_iter().for_each(PendingProof::send);
    std::mem::take(&mut sealed.tables).into_iter().for_each(PendingTables::send);
}
