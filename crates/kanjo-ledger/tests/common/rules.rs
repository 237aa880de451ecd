//! What the rules of money promise of every state, checked from the rows themselves.

use super::Chain;
use kanjo_ledger::Ledger;
use kanjo_types::record::{RowKey, StateExtra};
use kanjo_types::standing::{ClaimRecord, PendingRecord, PendingStatus};
use kanjo_types::stored::Row;
use kanjo_types::{Record, Table, TokenId, WalletId};
use std::collections::BTreeMap;

type Sums = BTreeMap<(WalletId, TokenId), u128>;

/// The newest versions in a table of what stands beside the balances.
pub fn records(ledger: &Ledger, table: Table) -> impl Iterator<Item = &Record> {
    let rows = (0..64).flat_map(move |partition| ledger.standing(table).rows(partition));
    rows.map(|row| &row.record)
}

pub fn pendings(ledger: &Ledger) -> impl Iterator<Item = &PendingRecord> {
    records(ledger, Table::Pendings).map(|record| match record {
        Record::Pending(pending) => &**pending,
        other => panic!("{other:?} among the pending payments"),
    })
}

pub fn claims(ledger: &Ledger) -> impl Iterator<Item = &ClaimRecord> {
    records(ledger, Table::Claims).map(|record| match record {
        Record::Claim(claim) => &**claim,
        other => panic!("{other:?} among the claims"),
    })
}

fn reserved(ledger: &Ledger) -> Sums {
    let mut sums = Sums::new();
    for pending in pendings(ledger).filter(|pending| pending.status == PendingStatus::Open) {
        let sum = sums.entry((pending.from, pending.token)).or_default();
        *sum += pending.amount.0 + pending.fee.0;
    }
    sums
}

fn owed(ledger: &Ledger) -> Sums {
    let mut sums = Sums::new();
    for claim in claims(ledger) {
        let open = claim.amount.0.checked_sub(claim.paid.0).expect("no more paid than owed");
        *sums.entry((claim.debtor, claim.token)).or_default() += open;
    }
    sums
}

/// Chains of pending payments stand and fall as one.
fn check_chains(ledger: &Ledger) {
    for head in pendings(ledger).filter(|pending| pending.chain == pending.id) {
        for member in &head.members {
            let row = ledger.standing(Table::Pendings).get(&RowKey::item(member.0)).unwrap();
            let Record::Pending(member) = &row.record else { panic!("no pending payment") };
            assert_eq!(member.chain, head.id);
            let same = match (member.status, head.status) {
                (PendingStatus::Posted(_), PendingStatus::Posted(_)) => true,
                (member, head) => member == head,
            };
            assert!(same, "a chain is settled whole");
            assert_eq!(member.expires_ms, head.expires_ms);
        }
    }
}

/// Sums of reservations and claims, overdrafts, one form of every state.
pub fn check(ledger: &Ledger) {
    let (mut reserved, mut owed) = (reserved(ledger), owed(ledger));
    for row in (0..64).flat_map(|partition| ledger.states().rows(partition)) {
        let extra = row.extra();
        let key = (row.wallet, row.token);
        assert_eq!(row.extra, extra.canonical(), "one form of what is beside the balance");
        assert!(row.balance.0 == 0 || extra.overdraft.0 == 0, "no balance while overdrawn");
        assert_eq!(extra.reserved.0, reserved.remove(&key).unwrap_or(0), "open pendings");
        assert_eq!(extra.claims.0, owed.remove(&key).unwrap_or(0), "open claims");
    }
    assert!(reserved.values().chain(owed.values()).all(|sum| *sum == 0), "each has a state");
    check_chains(ledger);
    super::cluster::check(ledger);
}

impl Chain {
    /// Nobody is overdrawn further than its credit limit allows before or after the transaction.
    /// To be called before its rows are taken in.
    pub fn check_overdrafts(&self, rows: &[Row]) {
        let terms = |row: &Row| match &row.record {
            Record::Terms(terms) => Some(((terms.wallet, terms.token), terms.credit.0)),
            _ => None,
        };
        let new_terms: Sums = rows.iter().filter_map(terms).collect();
        for row in rows {
            let Record::WalletState(state) = &row.record else { continue };
            let key = (state.wallet, state.token);
            let place = (Table::WalletStates, RowKey::wallet_state(key.0, key.1));
            let before = self.overdrafts.get(&place.1).copied().unwrap_or(0);
            let after = state.extra.as_deref().map_or(0, |extra: &StateExtra| extra.overdraft.0);
            let old = self.credits.get(&place.1).copied().unwrap_or(0);
            let credit = new_terms.get(&key).copied().unwrap_or(0).max(old);
            assert!(after <= before || after <= credit, "overdrawn by {after}, allowed {credit}");
        }
    }

    /// Remembers what [`Chain::check_overdrafts`] compares with.
    pub fn note_overdrafts(&mut self, rows: &[Row]) {
        for row in rows {
            match &row.record {
                Record::WalletState(state) => {
                    let key = RowKey::wallet_state(state.wallet, state.token);
                    self.overdrafts.insert(key, state.extra().overdraft.0);
                }
                Record::Terms(terms) => {
                    let key = RowKey::wallet_state(terms.wallet, terms.token);
                    self.credits.insert(key, terms.credit.0);
                }
                _ => {}
            }
        }
    }
}
