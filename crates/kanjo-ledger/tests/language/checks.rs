//! What is looked at between the rows of a table.

use super::words::{amount, moment};
use super::world::World;
use kanjo_types::record::{RowKey, StateExtra};
use kanjo_types::standing::{
    ActRecord, ActStatus, BundleStatus, ClaimRecord, PendingStatus, ReversalKind, ScheduleRecord,
    ScheduleStatus,
};
use kanjo_types::{Amount, Record, Table};

impl World {
    /// `balances: bob/1 5 JPY`, `pendings: p1 posted 3`, … : see the README.
    pub fn check(&mut self, what: &str, words: &[&str]) {
        if self.table_check(what, words) {
            return;
        }
        let place = self.place.clone();
        match (what, words) {
            ("states", [count]) => {
                let states = self.chain().ledger.states().len();
                assert_eq!(states, count.parse::<usize>().unwrap(), "{place}");
            }
            ("due", [count]) => {
                assert_eq!(self.chain().due, count.parse::<usize>().unwrap(), "{place}");
            }
            ("epoch" | "voters" | "quorum", [number]) => {
                let membership = self.chain().ledger.membership();
                let found = match what {
                    "epoch" => membership.epoch,
                    "voters" => membership.voters().count() as u64,
                    _ => membership.quorum() as u64,
                };
                assert_eq!(found, number.parse::<u64>().unwrap(), "{place}: {what}");
            }
            ("supply", [value, symbol]) => {
                let token = self.token(symbol);
                let supply = self.chain().ledger.circulating(token);
                assert_eq!(Amount(supply), amount(value), "{place}: {symbol}");
            }
            ("fees", [value, symbol]) => {
                let token = self.token(symbol);
                let header = &self.chain().blocks.last().unwrap().header;
                let fee = header.fees.iter().find(|fee| fee.token == token);
                let found = fee.map_or(Amount::ZERO, |fee| fee.amount);
                assert_eq!(found, amount(value), "{place}: fees in {symbol}");
            }
            (
                "balances" | "versions" | "reserved" | "overdrafts" | "claims" | "today",
                [wallet, value, symbol],
            ) => {
                let found = self.state(what, wallet, symbol);
                assert_eq!(Amount(found), amount(value), "{place}: {what} {wallet} {symbol}");
            }
            (_, [name, expected @ ..]) => {
                let found = self.standing_text(what, name, expected);
                assert_eq!(found, expected.join(" "), "{place}: {what} {name}");
            }
            _ => panic!("{place}: '{what}: {words:?}' is not understood"),
        }
    }

    fn state(&mut self, what: &str, wallet: &str, symbol: &str) -> u128 {
        let key = (self.wallet(wallet), self.token(symbol));
        let Some(state) = self.chain().ledger.states().get(&key) else { return 0 };
        let StateExtra { reserved, overdraft, claims, paid_today, .. } = state.extra();
        match what {
            "versions" => u128::from(state.version),
            "reserved" => reserved.0,
            "overdrafts" => overdraft.0,
            "claims" => claims.0,
            "today" => paid_today.0,
            _ => state.balance.0,
        }
    }

    /// How something stands, as far as `expected` asks.
    fn standing_text(&mut self, what: &str, name: &str, expected: &[&str]) -> String {
        match what {
            "pendings" => self.pending_text(name),
            "bundles" => self.bundle_text(name),
            "schedules" => self.schedule_text(name, expected),
            "acts" => match self.act_record(name).map(|act| act.status) {
                None => "unknown".to_owned(),
                Some(ActStatus::Proposed) => "proposed".to_owned(),
                Some(ActStatus::Waiting(ready_ms)) => format!("waiting until {}", since(ready_ms)),
                Some(ActStatus::Done) => "done".to_owned(),
                Some(ActStatus::Rejected) => "rejected".to_owned(),
            },
            "owed" => {
                let key = RowKey::item(self.claim_id(name).0);
                match self.standing(Table::Claims, key) {
                    Some(Record::Claim(claim)) => self.claim_text(&claim, expected),
                    _ => "unknown".to_owned(),
                }
            }
            "members" => self.member_text(name),
            "reversals" => self.reversal_text(name, expected),
            "attributes" => self.attribute_text(name, expected),
            other => panic!("{}: '{other}:' is not known", self.place),
        }
    }

    fn pending_text(&mut self, name: &str) -> String {
        let key = RowKey::item(self.pending_id(name).0);
        let Some(Record::Pending(pending)) = self.standing(Table::Pendings, key) else {
            return "unknown".to_owned();
        };
        match pending.status {
            PendingStatus::Open => "open".to_owned(),
            PendingStatus::Posted(amount) => format!("posted {}", amount.0),
            PendingStatus::Voided => "voided".to_owned(),
            PendingStatus::Expired => "expired".to_owned(),
        }
    }

    fn bundle_text(&mut self, name: &str) -> String {
        let key = RowKey::item(self.bundle_id(name).0);
        let Some(Record::Bundle(bundle)) = self.standing(Table::Bundles, key) else {
            return "unknown".to_owned();
        };
        match bundle.status {
            BundleStatus::Open => "open".to_owned(),
            BundleStatus::Done => "done".to_owned(),
            BundleStatus::Declined => "declined".to_owned(),
        }
    }

    /// `active paid 2 last insufficient_funds next 70`, any of the pairs.
    fn schedule_text(&mut self, name: &str, expected: &[&str]) -> String {
        let key = RowKey::item(self.schedule_id(name).0);
        let Some(Record::Schedule(schedule)) = self.standing(Table::Schedules, key) else {
            return "unknown".to_owned();
        };
        let ScheduleRecord { status, paid, next_ms, last, .. } = *schedule;
        let status = match status {
            ScheduleStatus::Active => "active",
            ScheduleStatus::Ended => "ended",
            ScheduleStatus::Stopped => "stopped",
            ScheduleStatus::Cancelled => "cancelled",
        };
        let mut text = vec![status.to_owned()];
        for asked in expected.iter().skip(1).step_by(2) {
            let value = match *asked {
                "paid" => paid.to_string(),
                "next" => since(next_ms),
                "last" => last.map_or("none", |run| run.result.code()).to_owned(),
                "for" => last.map_or("none".to_owned(), |run| since(run.due_ms)),
                "at" => last.map_or("none".to_owned(), |run| since(run.at_ms)),
                other => panic!("{}: '{other}'", self.place),
            };
            text.push(format!("{asked} {value}"));
        }
        text.join(" ")
    }

    pub fn act_record(&mut self, name: &str) -> Option<ActRecord> {
        let key = RowKey::item(self.act_id(name).0);
        match self.standing(Table::Acts, key) {
            Some(Record::Act(act)) => Some(*act),
            _ => None,
        }
    }

    /// `bob to alice 7 paid 3`.
    fn claim_text(&mut self, claim: &ClaimRecord, expected: &[&str]) -> String {
        let [debtor, "to", creditor, ..] = expected else { panic!("{}", self.place) };
        let right = self.wallet(debtor) == claim.debtor && self.wallet(creditor) == claim.creditor;
        assert!(right, "{}: debtor and creditor", self.place);
        format!("{debtor} to {creditor} {} paid {}", claim.amount.0, claim.paid.0)
    }

    /// `reversals: t1 reversed in JPY`, `t2 followed in JPY`, `t3 untouched in JPY`.
    fn reversal_text(&mut self, name: &str, expected: &[&str]) -> String {
        let [_, "in", symbol] = expected else { panic!("{}", self.place) };
        let key = RowKey::reversal(self.transaction(name), self.token(symbol));
        let kind = match self.standing(Table::Reversals, key) {
            Some(Record::Reversal(reversal)) => match reversal.kind {
                ReversalKind::Reversed => "reversed",
                ReversalKind::Followed => "followed",
            },
            _ => "untouched",
        };
        format!("{kind} in {symbol}")
    }

    /// `attributes: alice legal_name kept by bank`, `alice legal_name erased`, `alice age unknown`.
    fn attribute_text(&mut self, user: &str, expected: &[&str]) -> String {
        let [name, ..] = expected else { panic!("{}", self.place) };
        let key = RowKey::attribute(self.user(user), name);
        let Some(Record::Attribute(attribute)) = self.standing(Table::Attributes, key) else {
            return format!("{name} unknown");
        };
        let by = expected.last().unwrap();
        if attribute.erased_ms.is_some() {
            format!("{name} erased")
        } else if self.user(by) == attribute.custodian {
            format!("{name} kept by {by}")
        } else {
            format!("{name} kept by another")
        }
    }
}

/// Seconds since the genesis.
fn since(time_ms: u64) -> String {
    let passed = time_ms - moment("0");
    match passed % 1_000 {
        0 => (passed / 1_000).to_string(),
        rest => format!("{}.{rest:03}", passed / 1_000),
    }
}
