//! Operations made of plans and of what there is.

use super::run::Run;
use super::{Kind, Plan, SECOND_MS, USERS};
use crate::common::rules::{claims, pendings, records};
use kanjo_types::money::{Condition, Every, Grant, Leg, Role, WhenShort};
use kanjo_types::record::Table;
use kanjo_types::standing::{BundleStatus, PendingStatus, ScheduleStatus};
use kanjo_types::{
    Amount, BundleId, ClaimId, Hash, Operation, PendingId, Record, ScheduleId, TokenId, UserId,
    WalletId,
};

/// One of several; `None` when there is none.
pub fn one_of<T: Clone>(items: &[T], pick: u8) -> Option<T> {
    items.get(usize::from(pick) % items.len().max(1)).cloned()
}

type Made = Option<(Operation, Vec<UserId>)>;

impl Run {
    /// The operation, and whose signatures it takes.
    pub fn operation(&self, plan: &Plan, time_ms: u64) -> Made {
        let Plan { kind, token, from, to, pick, amount, .. } = *plan;
        let (token, amount) = (TokenId(u32::from(token)), Amount(amount));
        let issuer = self.user(0);
        let (payer, receiver) = (self.wallet(from, pick), self.wallet(to, pick.wrapping_mul(7)));
        Some(match kind {
            Kind::Pay => return self.pay(plan, token),
            Kind::Issue => (
                Operation::Issue { token, to: receiver, amount },
                self.holders(token, Role::Issuer),
            ),
            Kind::Redeem => {
                let mut signers = self.holders(token, Role::Issuer);
                signers.push(issuer);
                (Operation::Redeem { token, from: self.wallet(0, 0), amount }, signers)
            }
            Kind::OpenWallet => {
                let (owner, number) = (self.user(from), u64::from(pick % 2) + 1);
                (Operation::CreateWallet { owner, number }, vec![owner])
            }
            Kind::Rotate => {
                let access = self.key_sets[usize::from(from)][usize::from(pick % 3)].access.clone();
                (Operation::RotateKeys { user: self.user(from), access }, vec![self.user(from)])
            }
            Kind::Require => {
                let condition = self.condition(plan, token, payer, time_ms);
                (Operation::Require { condition }, vec![self.user(from)])
            }
            Kind::Reserve => return self.reserve(plan, token, time_ms),
            Kind::Post | Kind::Void => return self.settle_pending(plan, amount),
            Kind::Propose | Kind::Agree | Kind::Decline => {
                return self.bundle(plan, token, time_ms);
            }
            Kind::Schedule => return self.new_schedule(plan, token, time_ms),
            Kind::Cancel => return self.cancel(plan),
            Kind::SetAttribute => {
                let (user, name) = (self.user(from), format!("name_{}", pick % 3));
                let commitment = Hash([pick; 32]);
                (Operation::SetAttribute { user, name, commitment }, vec![user])
            }
            Kind::EraseAttribute => return self.erase(plan),
            Kind::Guardians => {
                let mut holders =
                    vec![self.user((from + 1) % USERS), self.user((from + 2) % USERS)];
                holders.sort_unstable();
                let grant = Grant { role: Role::Guardian, holders, threshold: pick % 2 + 1 };
                let delay_ms = u64::from(pick % 4) * SECOND_MS;
                (Operation::SetGuardians { grant, delay_ms }, vec![self.user(from)])
            }
            Kind::Settle => return self.settle(plan),
            Kind::Interest => return self.interest(plan, token),
            _ => return self.act_operation(plan, token, time_ms),
        })
    }

    fn pay(&self, plan: &Plan, token: TokenId) -> Made {
        let Plan { from, to, pick, flag, .. } = *plan;
        let amount = Amount(plan.amount);
        let payer = self.wallet(from, pick);
        let receiver = self.wallet(to, pick.wrapping_mul(7));
        let reference = String::new();
        if flag {
            // All that somebody holds who was paid just now: it can't be taken back then.
            let from = self.last_touched(token, pick)?;
            let amount = self.held(from, token)?;
            let pay = Operation::Transfer { token, from, to: receiver, amount, reference };
            return Some((pay, vec![self.owner(from)]));
        }
        let pay = Operation::Transfer { token, from: payer, to: receiver, amount, reference };
        Some((pay, vec![self.user(from)]))
    }

    fn reserve(&self, plan: &Plan, token: TokenId, time_ms: u64) -> Made {
        let Plan { from, to, pick, flag, .. } = *plan;
        let amount = Amount(plan.amount);
        let payer = self.wallet(from, pick);
        let receiver = self.wallet(to, pick.wrapping_mul(7));
        let reserve = Operation::Reserve {
            token,
            from: payer,
            to: receiver,
            amount,
            expires_ms: time_ms + u64::from(pick % 8) * 5 * SECOND_MS,
            agent: (pick % 5 == 0).then(|| self.user(pick % USERS)),
            linked: flag && pick % 4 == 0,
            reference: String::new(),
        };
        Some((reserve, vec![self.user(from)]))
    }

    fn new_schedule(&self, plan: &Plan, token: TokenId, time_ms: u64) -> Made {
        let Plan { from, to, pick, flag, .. } = *plan;
        let amount = Amount(plan.amount);
        let payer = self.wallet(from, pick);
        let receiver = self.wallet(to, pick.wrapping_mul(7));
        let every = match pick % 4 {
            0 => None,
            1 => Some(Every::Months(1)),
            _ => Some(Every::Milliseconds(60 * SECOND_MS)),
        };
        let schedule = Operation::Schedule {
            token,
            from: payer,
            to: receiver,
            amount,
            first_ms: time_ms + u64::from(pick % 16) * SECOND_MS + 1,
            every,
            times: every.filter(|_| flag).map(|_| u32::from(pick % 3) + 1),
            when_short: match pick % 3 {
                0 => WhenShort::Skip,
                1 => WhenShort::Stop,
                _ => WhenShort::Retry { after_ms: 60 * SECOND_MS, times: 2 },
            },
            reference: String::new(),
        };
        Some((schedule, vec![self.user(from)]))
    }

    fn cancel(&self, plan: &Plan) -> Made {
        let Plan { pick, flag, .. } = *plan;
        let schedules = records(&self.chain.ledger, Table::Schedules);
        let found: Vec<(ScheduleId, WalletId)> = schedules
            .filter_map(|record| match record {
                Record::Schedule(one) if one.status == ScheduleStatus::Active || flag => {
                    Some((one.id, one.from))
                }
                _ => None,
            })
            .collect();
        let (schedule, from) = one_of(&found, pick)?;
        Some((Operation::CancelSchedule { schedule }, vec![self.owner(from)]))
    }

    fn erase(&self, plan: &Plan) -> Made {
        let known: Vec<(UserId, String)> = records(&self.chain.ledger, Table::Attributes)
            .filter_map(|record| match record {
                Record::Attribute(one) => Some((one.user, one.name.clone())),
                _ => None,
            })
            .collect();
        let (user, name) = one_of(&known, plan.pick)?;
        Some((Operation::EraseAttribute { user, name }, vec![user]))
    }

    fn settle(&self, plan: &Plan) -> Made {
        let Plan { from, pick, flag, .. } = *plan;
        let all = claims(&self.chain.ledger);
        let open: Vec<ClaimId> =
            all.filter(|claim| claim.paid < claim.amount || flag).map(|claim| claim.id).collect();
        Some((Operation::SettleClaim { claim: one_of(&open, pick)? }, vec![self.user(from)]))
    }

    fn interest(&self, plan: &Plan, token: TokenId) -> Made {
        let to = (0..USERS).map(|user| self.wallet(user, 0)).collect();
        let interest = Operation::PayInterest {
            token,
            from: self.wallet(0, 0),
            to,
            rate_ppm: u32::from(plan.pick) * 400,
            days: 365,
            year: 365,
        };
        let mut signers = self.holders(token, Role::Issuer);
        signers.push(self.user(0));
        Some((interest, signers))
    }

    pub fn owner(&self, wallet: WalletId) -> UserId {
        self.chain.ledger.wallets().get(&wallet).expect("a wallet").owner
    }

    fn held(&self, wallet: WalletId, token: TokenId) -> Option<Amount> {
        let state = self.chain.ledger.states().get(&(wallet, token))?;
        // About what is left for the payment when the fee is paid, too.
        let left = state.balance.0 - state.balance.0 / 20;
        Some(Amount(left.saturating_sub(u128::from(token.0 == 2))))
    }

    fn condition(&self, plan: &Plan, token: TokenId, wallet: WalletId, time_ms: u64) -> Condition {
        let amount = Amount(plan.amount);
        match plan.pick % 6 {
            0 => Condition::BalanceAtLeast { wallet, token, amount },
            1 => Condition::BalanceAtMost {
                wallet,
                token,
                amount: Amount(plan.amount.saturating_add(150)),
            },
            2 => {
                let state = self.chain.ledger.states().get(&(wallet, token));
                let state = state.map_or(Hash::ZERO, |row| row.hash);
                Condition::StateIs { wallet, token, state }
            }
            3 => Condition::Approved { wallet, token },
            4 => Condition::NotBefore { time_ms },
            _ => Condition::NotAfter { time_ms: time_ms - u64::from(plan.flag) },
        }
    }

    fn settle_pending(&self, plan: &Plan, amount: Amount) -> Made {
        let heads: Vec<(PendingId, UserId)> = pendings(&self.chain.ledger)
            .filter(|one| one.chain == one.id || plan.pick > 250)
            .filter(|one| one.status == PendingStatus::Open || plan.pick < 20)
            .map(|one| (one.id, one.agent.unwrap_or_else(|| self.owner(one.to))))
            .collect();
        let (pending, agent) = one_of(&heads, plan.pick)?;
        let amount = plan.flag.then_some(amount);
        let operation = match plan.kind {
            Kind::Post => Operation::Post { pending, amount },
            _ => Operation::Void { pending },
        };
        Some((operation, vec![agent]))
    }

    fn bundle(&self, plan: &Plan, token: TokenId, time_ms: u64) -> Made {
        let Plan { kind, from, to, pick, amount, flag, .. } = *plan;
        if kind == Kind::Propose {
            let back = TokenId(u32::from(pick % super::TOKENS) + 1);
            let (payer, receiver) = (self.wallet(from, 0), self.wallet(to, 0));
            let leg = |token, from, to, amount| Leg {
                token,
                from,
                to,
                amount: Amount(amount),
                reference: String::new(),
            };
            let legs = vec![
                leg(token, payer, receiver, amount),
                leg(back, receiver, payer, u128::from(pick % 30)),
            ];
            let conditions =
                (0..u8::from(flag)).map(|_| self.condition(plan, token, payer, time_ms));
            let propose = Operation::ProposeBundle {
                parties: vec![self.user(to)],
                conditions: conditions.collect(),
                legs,
                expires_ms: time_ms + u64::from(pick) * SECOND_MS,
            };
            return Some((propose, vec![self.user(from)]));
        }
        let open: Vec<(BundleId, Vec<UserId>)> = records(&self.chain.ledger, Table::Bundles)
            .filter_map(|record| match record {
                Record::Bundle(one) if one.status == BundleStatus::Open || pick < 10 => {
                    let missing = one.parties.iter().filter(|party| !party.agreed || pick < 20);
                    Some((one.id, missing.map(|party| party.user).collect()))
                }
                _ => None,
            })
            .collect();
        let (bundle, mut missing) = one_of(&open, pick)?;
        missing.extend(one_of(&self.users, pick));
        let operation = match kind {
            Kind::Agree => Operation::AgreeBundle { bundle },
            _ => Operation::DeclineBundle { bundle },
        };
        Some((operation, missing))
    }
}
