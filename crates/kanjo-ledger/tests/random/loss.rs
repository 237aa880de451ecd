//! Nobody loses money but by what it signed, or by what the rules take.

use super::Run;
use kanjo_types::record::WalletStateRecord;
use kanjo_types::standing::{PendingStatus, ScheduleRecord};
use kanjo_types::stored::Entry;
use kanjo_types::transaction::LEDGER;
use kanjo_types::{Operation, Record, SignedTransaction, TokenId, UserId, WalletId, codec};
use std::collections::BTreeMap;

/// Balance, reserved money and overdraft as one number; above 2¹²⁷ − 1 it stays there.
fn worth(state: &WalletStateRecord) -> i128 {
    let number = |amount: u128| i128::try_from(amount).unwrap_or(i128::MAX);
    let extra = state.extra();
    let held = number(state.balance.0.saturating_add(extra.reserved.0));
    held.saturating_sub(number(extra.overdraft.0))
}

/// Acts, bundles and claims take from others than those who sign; their own rules are checked
/// elsewhere.
fn takes_from_others(operation: &Operation) -> bool {
    matches!(
        operation,
        Operation::AgreeBundle { .. }
            | Operation::ProposeBundle { .. }
            | Operation::Act { .. }
            | Operation::ApproveAct { .. }
            | Operation::FinishAct { .. }
            | Operation::SettleClaim { .. }
    )
}

/// Whose money an entry may take by what was agreed to earlier: payers of pending payments that it
/// posts, and the payer of a schedule that it runs.
fn agreed_earlier(entry: &Entry) -> Vec<WalletId> {
    let payer = |record: &Record| match record {
        Record::Pending(one) if matches!(one.status, PendingStatus::Posted(_)) => Some(one.from),
        Record::Schedule(one) => {
            let ScheduleRecord { from, last, .. } = **one;
            last.filter(|run| run.result.is_ok()).map(|_| from)
        }
        _ => None,
    };
    entry.rows.iter().filter_map(|row| payer(&row.record)).collect()
}

impl Run {
    /// Looks through all entries; gives back how many were looked at.
    pub fn check_losses(&self) -> usize {
        let mut known: BTreeMap<(WalletId, TokenId), i128> = BTreeMap::new();
        let mut looked_at = 0;
        let mut look = |row: &kanjo_types::stored::Row| match &row.record {
            Record::WalletState(state) => {
                let new = worth(state);
                let old = known.insert((state.wallet, state.token), new).unwrap_or(0);
                (new < old).then_some(state.wallet)
            }
            _ => None,
        };
        for block in &self.chain.blocks {
            block.genesis_rows.iter().for_each(|row| assert_eq!(look(row), None));
            for entry in &block.entries {
                let losers: Vec<WalletId> = entry.rows.iter().filter_map(&mut look).collect();
                let signed: SignedTransaction = codec::from_bytes(&entry.raw).unwrap();
                let body = &signed.body;
                if body.operations.iter().any(takes_from_others) {
                    continue;
                }
                looked_at += 1;
                let signers: Vec<UserId> =
                    body.parties().iter().copied().chain([body.author]).collect();
                let agreed = agreed_earlier(entry);
                for loser in losers {
                    let own = signers.contains(&self.owner(loser)) && body.author != LEDGER;
                    assert!(own || agreed.contains(&loser), "{loser} lost by {body:?}");
                }
            }
        }
        looked_at
    }
}
