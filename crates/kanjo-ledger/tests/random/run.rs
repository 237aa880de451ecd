//! Plays a history on a chain, and remembers what is needed to play it again in other ways.

use super::{History, Kind, Plan, Sent, TOKENS, USERS};
use crate::common::copies::Copies;
use crate::common::{self, Chain, KeySet, START_MS};
use kanjo_ledger::{BlockContext, Verified};
use kanjo_types::money::{Act, Grant, Order, Reason, Role};
use kanjo_types::policy::{ClassLimits, Fee, MovedOn, Policy, ReversalRule};
use kanjo_types::stored::Entry;
use kanjo_types::transaction::Refused;
use kanjo_types::{
    Amount, Genesis, KeySignature, Operation, SignedTransaction, TokenId, UserId, WalletId,
};
use std::collections::{BTreeMap, BTreeSet};

const KEY_SETS: u8 = 3;

/// One block as it was fed, with what came of it, the ledger's own work first.
pub struct Fed {
    pub context: BlockContext,
    pub items: Vec<(Verified, Result<Entry, Refused>)>,
    pub due: Vec<Entry>,
    pub next_due_ms: Option<u64>,
}

pub struct Run {
    pub chain: Chain,
    pub fed: Vec<Fed>,
    /// By partition: height and bytes.
    pub copies: Copies,
    /// How often each kind of operation was in a transaction that passed.
    pub done: BTreeMap<Kind, u32>,
    pub users: Vec<UserId>,
    pub key_sets: Vec<Vec<KeySet>>,
    salt: u64,
}

/// The policy at creation of each token but the first, which is plain.
pub fn charter(run_wallet: impl Fn(u8) -> WalletId, token: u8) -> Policy {
    let limit = |amount: u128| Some(Amount(amount));
    let reversal = |window_ms, moved_on| Some(ReversalRule { window_ms, moved_on });
    let fee = |flat, basis_points, user| {
        Some(Fee { flat: Amount(flat), basis_points, receiver: run_wallet(user) })
    };
    match token {
        1 => Policy::default(),
        2 => Policy {
            supply_cap: limit(5_000),
            freezable: true,
            reversal: reversal(600_000, MovedOn::Claim),
            fee: fee(1, 100, 0),
            allow_list: true,
            credit: true,
            floors: true,
            classes: vec![
                ClassLimits {
                    max_balance: limit(600),
                    max_payment: limit(120),
                    max_day: limit(300),
                },
                ClassLimits { max_day: limit(90), ..ClassLimits::default() },
            ],
            notice_ms: 5_000,
        },
        3 => Policy { reversal: reversal(60_000, MovedOn::Refuse), credit: true, ..plain() },
        4 => Policy { reversal: reversal(600_000, MovedOn::Follow), freezable: true, ..plain() },
        _ => Policy {
            reversal: reversal(600_000, MovedOn::Claim),
            fee: fee(0, 500, 1),
            credit: true,
            ..plain()
        },
    }
}

fn plain() -> Policy {
    Policy::default()
}

fn key_set(user: u8, version: u8) -> KeySet {
    KeySet::single(&format!("user {user} keys {version}"))
}

fn genesis() -> Genesis {
    let mut genesis = common::empty_genesis();
    genesis.rules.replay_window_ms = 600_000;
    genesis.rules.operators = vec!["0".to_owned()];
    for user in 0..USERS {
        let name = user.to_string();
        genesis.users.push(common::first_user(&name, &key_set(user, 0)));
        let held: &[(&str, u128)] = if user == 5 { &[] } else { &[("JPY", 100)] };
        genesis.wallets.push(common::first_wallet(&name, 0, held));
    }
    genesis.tokens.push(common::first_token("JPY", "0"));
    genesis
}

fn ordered(act: Act) -> Operation {
    let reason = Reason { code: "START".to_owned(), reference: String::new() };
    let order = Box::new(Order { act, reason, expires_ms: START_MS });
    Operation::Act { order, evidence: Vec::new() }
}

impl Run {
    fn new() -> Self {
        let mut chain = Chain::new(genesis());
        chain.compared_every = 16;
        let key_sets: Vec<Vec<KeySet>> = (0..USERS)
            .map(|user| (0..KEY_SETS).map(|keys| key_set(user, keys)).collect())
            .collect();
        let id = |sets: &Vec<KeySet>| UserId::derive(chain.chain(), &sets[0].access, 0);
        let users = key_sets.iter().map(id).collect();
        let (fed, copies, done) = (Vec::new(), Copies::none(), BTreeMap::new());
        let mut run = Self { chain, fed, copies, done, users, key_sets, salt: 0 };
        run.make_tokens();
        run
    }

    pub fn user(&self, number: u8) -> UserId {
        self.users[usize::from(number)]
    }

    /// Wallet `pick` of a user: nearly always the first.
    pub fn wallet(&self, user: u8, pick: u8) -> WalletId {
        let number = u64::from(pick >= 250);
        WalletId::derive(self.chain.chain(), self.user(user), number)
    }

    pub fn time_ms(&self) -> u64 {
        self.fed.last().map_or(START_MS, |fed| fed.context.time_ms)
    }

    /// Tokens with rules, approved and funded wallets, some credit: the first block.
    fn make_tokens(&mut self) {
        let mut operations = Vec::new();
        for token in 2..=TOKENS {
            operations.push(Operation::CreateToken {
                symbol: format!("T{token}"),
                name: "a token".to_owned(),
                decimals: 0,
                issuer: self.user(0),
                policy: Box::new(charter(|user| self.wallet(user, 0), token)),
                grants: Vec::new(),
            });
            for user in 0..USERS {
                let act = Act::SetTerms {
                    token: TokenId(u32::from(token)),
                    wallet: self.wallet(user, 0),
                    approved: token == 2,
                    class: 0,
                    credit: Amount(if user == 1 && token != 4 { 40 } else { 0 }),
                    floor: Amount::ZERO,
                };
                operations.push(ordered(act));
                if user < 5 {
                    operations.push(Operation::Issue {
                        token: TokenId(u32::from(token)),
                        to: self.wallet(user, 0),
                        amount: Amount(if user == 0 { 200 } else { 50 }),
                    });
                }
            }
        }
        for (token, role, other) in [
            (2, Role::Freezer, 3),
            (4, Role::Reverser, 2),
            (5, Role::Approver, 1),
            (3, Role::Issuer, 1),
        ] {
            let mut holders = vec![self.user(0), self.user(other)];
            holders.sort_unstable();
            let grant = Grant { role, holders, threshold: 2 };
            operations.push(ordered(Act::SetRole { token: TokenId(token), grant }));
        }
        let first = self.signed(&[self.user(0)], operations, START_MS);
        let first = self.chain.admit(&first).expect("well formed");
        self.block(START_MS, vec![first]);
        let done = &self.fed[0].items[0].1;
        assert!(done.as_ref().is_ok_and(|entry| entry.result.is_ok()), "{done:?}");
    }

    /// Keys that a user has at present.
    fn keys_of(&self, user: UserId) -> &KeySet {
        let access = &self.chain.ledger.users().get(&user).expect("a user").access;
        let mut sets = self.key_sets.iter().flatten();
        sets.find(|set| set.access == *access).expect("known keys")
    }

    /// Signed by all, the author first.
    fn signed(
        &mut self,
        signers: &[UserId],
        mut operations: Vec<Operation>,
        time_ms: u64,
    ) -> SignedTransaction {
        self.salt += 1;
        let author = signers[0];
        let others: BTreeSet<UserId> =
            signers.iter().copied().filter(|user| *user != author).collect();
        if !others.is_empty() {
            operations.insert(0, Operation::Parties { users: others.iter().copied().collect() });
        }
        let chain = self.chain.chain();
        let body = common::body(chain, author, time_ms + 30_000, self.salt, operations);
        let mut signed = self.keys_of(author).sign(body);
        for (offset, other) in (1u8..).zip(others) {
            let more = self.keys_of(other).sign(signed.body.clone()).signatures;
            let counted = |one: KeySignature| KeySignature { key: one.key + offset, ..one };
            signed.signatures.extend(more.into_iter().map(counted));
        }
        signed
    }

    fn block(&mut self, time_ms: u64, transactions: Vec<Verified>) {
        let transactions: Vec<Verified> =
            transactions.into_iter().map(|one| self.chain.with_headers(one)).collect();
        let outcomes = self.chain.block(time_ms, &transactions);
        let block = self.chain.blocks.last().unwrap();
        let due = block.entries[..self.chain.due].to_vec();
        let context = BlockContext { height: self.chain.height(), time_ms };
        let items = transactions.into_iter().zip(outcomes).collect();
        let next_due_ms = self.chain.ledger.next_due_ms();
        self.fed.push(Fed { context, items, due, next_due_ms });
    }

    /// Makes, signs and admits what a transaction of the history plans.
    fn admit(&mut self, sent: &Sent, focus: u8, time_ms: u64) -> Option<Verified> {
        let mut operations = Vec::new();
        let mut signers: Vec<UserId> = Vec::new();
        for plan in &sent.plans {
            let token = if plan.amount % 5 < 3 { focus } else { plan.token };
            let (operation, needed) = self.operation(&Plan { token, ..plan.clone() }, time_ms)?;
            operations.push(operation);
            signers.extend(needed);
        }
        if !sent.together {
            signers.truncate(1);
        }
        if let Some(stranger) = sent.stranger {
            signers = vec![self.user(stranger)];
        }
        let signed = self.signed(&signers, operations, time_ms);
        // Amounts of zero and a few other shapes are refused here.
        self.chain.admit(&signed).ok()
    }

    fn count(&mut self, sents: &[&Sent]) {
        let fed = self.fed.last().unwrap();
        for (sent, (_, outcome)) in sents.iter().zip(&fed.items) {
            if outcome.as_ref().is_ok_and(|entry| entry.result.is_ok()) {
                for plan in &sent.plans {
                    *self.done.entry(plan.kind).or_default() += 1;
                }
            }
        }
    }
}

/// Plays a history. [`Chain`] checks after every block what must hold.
pub fn run(history: &History) -> Run {
    let mut run = Run::new();
    for (number, (gap, sents)) in history.blocks.iter().enumerate() {
        let time_ms = run.time_ms() + gap;
        let mut admitted = Vec::new();
        let mut taken = Vec::new();
        for sent in sents {
            if let Some(verified) = run.admit(sent, history.focus, time_ms) {
                admitted.push(verified);
                taken.push(sent);
            }
        }
        run.block(time_ms, admitted);
        run.count(&taken);
        run.copies.make(&run.chain, &history.copied, number);
    }
    run.chain.compare();
    run
}
