//! What rows refer to: in the end each names the hash of the record that each of its foreign keys
//! leads to, as it is after the transaction.
//!
//! So a row is made after those that it references. Where rows reference each other in a circle,
//! the one that comes first names the other as it was before the transaction, or zero.

use super::Origin;
use crate::ledger::Ledger;
use crate::scratch::{Scratch, Touched};
use crate::table::Row as _;
use kanjo_types::record::{RowKey, Table};
use kanjo_types::relation::LedgerTable;
use kanjo_types::row::{RowRecord, Value};
use kanjo_types::{Hash, TokenId, UserId, WalletId};
use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

/// What a foreign key of a row leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkTo {
    /// Nothing: one of its columns is null.
    Nothing,
    /// A user.
    User(UserId),
    /// A wallet.
    Wallet(WalletId),
    /// A token.
    Token(TokenId),
    /// A row beside the balances.
    Standing(Table, RowKey),
}

/// An id from its text form, if that is the one form it has.
fn id_of<T: FromStr + ToString>(value: &Value) -> Option<T> {
    let Value::Text(text) = value else { return None };
    T::from_str(text).ok().filter(|id| id.to_string() == *text)
}

impl Ledger {
    /// The row of the ledger's own that a value names, drafts included.
    pub(super) fn ledger_row(&self, table: LedgerTable, value: &Value) -> Option<LinkTo> {
        match table {
            LedgerTable::Users => {
                id_of(value).filter(|user| self.user_known(user)).map(LinkTo::User)
            }
            LedgerTable::Wallets => {
                let wallet = id_of(value)?;
                self.owner_of(wallet).map(|_| LinkTo::Wallet(wallet))
            }
            LedgerTable::Tokens => self.token_named(value).map(LinkTo::Token),
            LedgerTable::Pendings => {
                self.item(Table::Pendings, id_of::<kanjo_types::PendingId>(value)?.0)
            }
            LedgerTable::Bundles => {
                self.item(Table::Bundles, id_of::<kanjo_types::BundleId>(value)?.0)
            }
            LedgerTable::Schedules => {
                self.item(Table::Schedules, id_of::<kanjo_types::ScheduleId>(value)?.0)
            }
            LedgerTable::Acts => self.item(Table::Acts, id_of::<kanjo_types::ActId>(value)?.0),
            LedgerTable::Claims => {
                self.item(Table::Claims, id_of::<kanjo_types::ClaimId>(value)?.0)
            }
        }
    }

    fn item(&self, table: Table, id: [u8; 16]) -> Option<LinkTo> {
        let key = RowKey::item(id);
        self.standing_record(table, key).map(|_| LinkTo::Standing(table, key))
    }

    fn token_named(&self, value: &Value) -> Option<TokenId> {
        match value {
            Value::Integer(number) => {
                let token = TokenId(u32::try_from(*number).ok()?);
                self.token_record(token).map(|_| token)
            }
            Value::Text(symbol) => {
                let drafted = || {
                    let mut drafts = self.scratch.tokens.iter();
                    drafts.find(|(_, draft)| draft.symbol == *symbol).map(|(token, _)| *token)
                };
                self.symbols.get(symbol).copied().or_else(drafted)
            }
            _ => None,
        }
    }

    /// The references of a drafted row, whose targets stand in the tables by now.
    pub(crate) fn references(&self, row: &RowRecord, scratch: &Scratch) -> Vec<Hash> {
        let relation = self.standing_hash(Table::Relations, RowKey::relation(row.relation));
        let links = scratch.relations.links.get(&row.key).into_iter().flatten();
        let hash_of = |link: &LinkTo| match link {
            LinkTo::Nothing => None,
            LinkTo::User(user) => self.users.get(user).map(|row| row.hash()),
            LinkTo::Wallet(wallet) => self.wallets.get(wallet).map(|row| row.hash()),
            LinkTo::Token(token) => self.tokens.get(token).map(|row| row.hash()),
            LinkTo::Standing(table, key) => Some(self.standing_hash(*table, *key)),
        };
        let targets = links.map(|link| hash_of(link).unwrap_or(Hash::ZERO));
        std::iter::once(relation).chain(targets).collect()
    }

    /// Puts drafted rows behind everything else, those first that others reference.
    pub(super) fn order_rows(&mut self) {
        let is_row = |touched: &Touched| matches!(touched, Touched::Standing(Table::Rows, _));
        let order = std::mem::take(&mut self.scratch.order);
        let (rows, others): (Vec<_>, Vec<_>) = order.into_iter().partition(is_row);
        let rows = rows.into_iter().filter_map(|touched| match touched {
            Touched::Standing(_, key) => Some(key),
            _ => None,
        });
        let scratch = &self.scratch.relations;
        let sorted = sorted(rows, &scratch.rows, &scratch.links).into_iter();
        let sorted = sorted.map(|key| Touched::Standing(Table::Rows, key));
        self.scratch.order = others.into_iter().chain(sorted).collect();
    }
}

/// Rows after those of them that they link to, otherwise in their order.
fn sorted(
    rows: impl Iterator<Item = RowKey>,
    drafted: &BTreeMap<RowKey, Origin>,
    links: &BTreeMap<RowKey, Vec<LinkTo>>,
) -> Vec<RowKey> {
    let targets = |row: &RowKey| -> Vec<RowKey> {
        let links = links.get(row).into_iter().flatten();
        let targets = links.filter_map(|link| match link {
            LinkTo::Standing(Table::Rows, key) if drafted.contains_key(key) => Some(*key),
            _ => None,
        });
        // Taken from the end below.
        let mut targets: Vec<RowKey> = targets.collect();
        targets.reverse();
        targets
    };
    let mut seen = BTreeSet::new();
    let mut sorted = Vec::with_capacity(drafted.len());
    for row in rows {
        if !seen.insert(row) {
            continue;
        }
        // A path of links, each row with the targets that are still to be looked at.
        let mut path = vec![(row, targets(&row))];
        while let Some((row, open)) = path.last_mut() {
            match open.pop() {
                Some(target) if seen.insert(target) => path.push((target, targets(&target))),
                Some(_) => {}
                None => {
                    sorted.push(*row);
                    path.pop();
                }
            }
        }
    }
    sorted
}
