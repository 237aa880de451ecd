//! Administrative acts made of plans.

use super::make::one_of;
use super::run::{Run, charter};
use super::{Kind, Plan, SECOND_MS, USERS};
use crate::common::evidence_of;
use crate::common::rules::records;
use kanjo_types::money::{
    Act, Direction, Evidence, FreezeTarget, Grant, Order, Reason, Role, Scope,
};
use kanjo_types::policy::Policy;
use kanjo_types::record::{RowKey, Table};
use kanjo_types::standing::{ActRecord, ActStatus};
use kanjo_types::{Amount, Hash, Operation, Record, TokenId, TransactionId, UserId, WalletId};
use std::collections::{BTreeMap, BTreeSet};

type Made = Option<(Operation, Vec<UserId>)>;

impl Run {
    fn holders_of(&self, scope: Scope, role: Role) -> Vec<UserId> {
        let rows = self.chain.ledger.standing(Table::Authorities);
        match rows.get(&RowKey::authority(scope, role)).map(|row| &row.record) {
            Some(Record::Authority(record)) => record.holders.clone(),
            _ => vec![self.user(0)],
        }
    }

    /// Who holds a role of a token.
    pub fn holders(&self, token: TokenId, role: Role) -> Vec<UserId> {
        self.holders_of(Scope::Token(token), role)
    }

    pub fn act_operation(&self, plan: &Plan, token: TokenId, time_ms: u64) -> Made {
        if matches!(plan.kind, Kind::Approve | Kind::Reject | Kind::Finish) {
            return self.answer(plan);
        }
        let (act, evidence) = self.act(plan, token, time_ms)?;
        let signers = self.holders_of(act.scope(), act.role());
        // The first alone may not be enough: then it brings no evidence, and others agree.
        let evidence = if plan.flag && signers.len() > 1 { Vec::new() } else { evidence };
        let signers = if plan.flag { vec![one_of(&signers, plan.pick)?] } else { signers };
        let reason = Reason { code: "RANDOM".to_owned(), reference: String::new() };
        let expires_ms = time_ms + u64::from(plan.pick) * SECOND_MS;
        let order = Box::new(Order { act, reason, expires_ms });
        Some((Operation::Act { order, evidence }, signers))
    }

    fn act(&self, plan: &Plan, token: TokenId, time_ms: u64) -> Option<(Act, Vec<Evidence>)> {
        let Plan { from, to, pick, amount, .. } = *plan;
        // Mostly a token whose charter permits it.
        let token = match plan.kind {
            Kind::Freeze if pick > 10 => TokenId(2 + 2 * u32::from(pick % 2)),
            Kind::Terms if pick > 10 => TokenId([2, 3, 5][usize::from(pick % 3)]),
            Kind::SetPolicy if pick > 10 => TokenId(2 + u32::from(pick % 4)),
            Kind::Reverse if token.0 == 1 && pick > 10 => TokenId(5),
            _ => token,
        };
        let wallet = self.wallet(from, pick);
        let target = match pick % 5 {
            0..3 => FreezeTarget::Wallet(wallet),
            3 => FreezeTarget::User(self.user(from)),
            _ => FreezeTarget::Token,
        };
        let act = match plan.kind {
            Kind::Freeze => Act::Freeze {
                token,
                target,
                direction: [Direction::Incoming, Direction::Outgoing, Direction::Both]
                    [usize::from(to % 3)],
                until_ms: (pick % 4 > 0).then_some(time_ms + u64::from(pick) * 40),
            },
            Kind::Unfreeze => return self.unfreeze(plan),
            Kind::Terms => {
                let class = if token.0 == 2 { pick % 3 } else { 0 };
                let credit = Amount(if pick % 2 == 0 { amount } else { 0 });
                let floor = Amount(if pick % 6 == 1 && token.0 == 2 { amount } else { 0 });
                Act::SetTerms { token, wallet, approved: token.0 == 2, class, credit, floor }
            }
            Kind::SetPolicy => {
                let policy = self.policy(token, pick);
                Act::SetPolicy { token, policy: Box::new(policy) }
            }
            Kind::SetRole => {
                let mut holders = vec![self.user(0), self.user(1 + pick % (USERS - 1))];
                holders.sort_unstable();
                let role = Role::OF_TOKENS[usize::from(pick % 6)];
                Act::SetRole {
                    token,
                    grant: Grant { role, holders, threshold: if pick % 4 > 0 { 2 } else { 1 } },
                }
            }
            Kind::Recover => {
                let guarded: Vec<UserId> = records(&self.chain.ledger, Table::Authorities)
                    .filter_map(|record| match record {
                        Record::Authority(one) => Some(one.scope),
                        _ => None,
                    })
                    .filter_map(|scope| match scope {
                        Scope::User(user) => Some(user),
                        Scope::Token(_) => None,
                    })
                    .collect();
                let user = one_of(&guarded, from)?;
                let number = self.users.iter().position(|other| *other == user)?;
                let access = self.key_sets[number][usize::from(pick % 3)].access.clone();
                Act::Recover { user, access: Box::new(access) }
            }
            Kind::Reverse => return self.reversal(plan, token),
            _ => match pick % 3 {
                0 => Act::Issue { token, to: self.wallet(to, 0), amount: Amount(amount) },
                1 => Act::Redeem { token, from: self.wallet(0, 0), amount: Amount(amount) },
                _ => Act::Audit { token, height: u64::from(pick), header: Hash([pick; 32]) },
            },
        };
        Some((act, Vec::new()))
    }

    /// Ends a freeze there is.
    fn unfreeze(&self, plan: &Plan) -> Option<(Act, Vec<Evidence>)> {
        let frozen: Vec<(TokenId, FreezeTarget)> = records(&self.chain.ledger, Table::Freezes)
            .filter_map(|record| match record {
                Record::Freeze(one) if one.freeze.is_some() => Some((one.token, one.target)),
                _ => None,
            })
            .collect();
        let (token, target) = one_of(&frozen, plan.pick)?;
        Some((Act::Unfreeze { token, target }, Vec::new()))
    }

    /// The charter, something kinder, or something else.
    fn policy(&self, token: TokenId, pick: u8) -> Policy {
        let number = u8::try_from(token.0).unwrap();
        let charter = charter(|user| self.wallet(user, 0), number);
        match pick % 5 {
            0 => Policy { fee: None, ..charter },
            1 => Policy { credit: false, freezable: false, ..charter },
            2 => Policy { credit: true, freezable: true, ..charter },
            3 => Policy { classes: Vec::new(), allow_list: false, ..charter },
            _ => charter,
        }
    }

    fn answer(&self, plan: &Plan) -> Made {
        let live = |one: &ActRecord| match plan.kind {
            Kind::Finish => matches!(one.status, ActStatus::Waiting(_)),
            _ => one.status == ActStatus::Proposed,
        };
        let acts: Vec<&ActRecord> = records(&self.chain.ledger, Table::Acts)
            .filter_map(|record| match record {
                Record::Act(one) if live(one) || plan.pick < 10 => Some(&**one),
                _ => None,
            })
            .collect();
        let record = one_of(&acts, plan.pick)?;
        let act = record.id;
        let holders = self.holders_of(record.act.scope(), record.act.role());
        let mut signers: Vec<UserId> =
            holders.into_iter().filter(|user| !record.agreed.contains(user)).collect();
        signers.extend(one_of(&self.users, plan.from));
        let operation = match plan.kind {
            Kind::Approve => {
                let ids = match &record.act {
                    Act::Reverse { originals, trail, .. } => {
                        originals.iter().chain(trail).collect()
                    }
                    _ => Vec::new(),
                };
                let evidence = ids.into_iter().filter_map(|id| evidence_of(&self.chain, *id));
                Operation::ApproveAct { act, evidence: evidence.collect() }
            }
            Kind::Reject => Operation::RejectAct { act },
            _ => Operation::FinishAct { act },
        };
        Some((operation, signers))
    }

    /// Recorded transactions that touched money of a token, the oldest first, with what each wallet
    /// gained (zero: nothing, or lost).
    fn moved(&self, token: TokenId) -> Vec<(TransactionId, BTreeMap<WalletId, u128>)> {
        let mut worth: BTreeMap<WalletId, u128> = BTreeMap::new();
        let mut moved = Vec::new();
        for entry in self.chain.blocks.iter().flat_map(|block| &block.entries) {
            let mut gains = BTreeMap::new();
            for row in &entry.rows {
                let Record::WalletState(state) = &row.record else { continue };
                if state.token == token {
                    let before = worth.insert(state.wallet, state.worth()).unwrap_or(0);
                    // An overdrawn wallet is worth less than nothing, modulo 2^128.
                    let gain = state.worth().wrapping_sub(before);
                    gains.insert(state.wallet, if gain < 1 << 127 { gain } else { 0 });
                }
            }
            if !gains.is_empty() && entry.record.height > 1 {
                moved.push((entry.record.id, gains));
            }
        }
        moved
    }

    /// Does a wallet hold less than it gained then?
    fn is_spent(&self, token: TokenId, gains: &BTreeMap<WalletId, u128>) -> bool {
        gains.iter().any(|(wallet, gain)| {
            let state = self.chain.ledger.states().get(&(*wallet, token));
            state.is_some_and(|row| row.balance.0 < *gain)
        })
    }

    /// A wallet of the last transaction that moved money of a token.
    pub fn last_touched(&self, token: TokenId, pick: u8) -> Option<WalletId> {
        let (_, wallets) = self.moved(token).pop()?;
        let paid = wallets.into_iter().filter(|(_, gain)| *gain > 0).map(|(wallet, _)| wallet);
        one_of(&paid.collect::<Vec<_>>(), pick / 2)
    }

    /// One to three of the last transactions, and where the token says so a trail that leads from
    /// the oldest of them.
    fn reversal(&self, plan: &Plan, token: TokenId) -> Option<(Act, Vec<Evidence>)> {
        let moved = self.moved(token);
        let last = moved.len().checked_sub(1)?;
        let mut first = last.saturating_sub(usize::from(plan.pick % 5));
        if plan.amount.is_multiple_of(2) {
            // One whose money somebody has spent since.
            let spent: Vec<usize> = (last.saturating_sub(15)..=last)
                .filter(|number| self.is_spent(token, &moved[*number].1))
                .collect();
            first = one_of(&spent, plan.pick).unwrap_or(first);
        }
        let count = [1, 1, 1, 1, 2, 3][usize::from(plan.to)];
        let mut originals: Vec<usize> = (first..moved.len()).step_by(2).take(count).collect();
        originals.reverse();
        let mut trail = Vec::new();
        if token.0 == 4 && !plan.from.is_multiple_of(4) {
            let paid = |gains: &BTreeMap<WalletId, u128>| {
                let paid = gains.iter().filter(|(_, gain)| **gain > 0);
                paid.map(|(wallet, _)| *wallet).collect::<BTreeSet<WalletId>>()
            };
            let mut reached = paid(&moved[first].1);
            for (number, (id, gains)) in moved.iter().enumerate().skip(first + 1) {
                let paying =
                    gains.iter().any(|(wallet, gain)| *gain == 0 && reached.contains(wallet));
                if !originals.contains(&number) && paying {
                    reached.extend(paid(gains));
                    trail.push(*id);
                }
            }
            trail.truncate(usize::from(plan.from % 4));
        }
        let originals: Vec<TransactionId> =
            originals.into_iter().map(|number| moved[number].0).collect();
        let evidence = originals.iter().chain(&trail).map(|id| evidence_of(&self.chain, *id));
        let evidence = evidence.collect::<Option<Vec<Evidence>>>()?;
        Some((Act::Reverse { token, originals, trail }, evidence))
    }
}
