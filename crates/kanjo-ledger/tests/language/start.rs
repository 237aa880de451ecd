//! The beginning of a scenario: rules, keys, policies, the genesis.

use super::words::{amount, kind, purse, seconds};
use super::world::World;
use crate::common::{self, Chain, KeySet, START_MS};
use kanjo_types::genesis::FirstWallet;
use kanjo_types::money::{Act, Order, Reason};
use kanjo_types::policy::{ClassLimits, Fee, MovedOn, Policy, ReversalRule};
use kanjo_types::signature::KeyKind;
use kanjo_types::{Amount, Operation, codec};

/// A token that the first block makes: one with a fee can't stand in the genesis.
pub struct Later {
    issuer: String,
    symbol: String,
    policy: String,
    holdings: Vec<(String, Amount)>,
}

impl World {
    pub fn rule(&mut self, words: &[&str]) {
        let rules = &mut self.genesis.rules;
        match words {
            ["registration", "open"] => rules.open_registration = true,
            ["tokens", "open"] => rules.open_tokens = true,
            ["registration" | "tokens", "closed"] => {}
            ["window", seconds, "s"] => {
                rules.replay_window_ms = seconds.parse::<u64>().unwrap() * 1_000;
            }
            other => panic!("{}: rule {other:?}", self.place),
        }
    }

    /// `keys: firm = 2 of ed25519 p256 secp256k1`.
    pub fn keys(&mut self, words: &[&str]) {
        let [name, "=", threshold, "of", kinds @ ..] = words else { panic!("{}", self.place) };
        let kinds: Vec<KeyKind> = kinds.iter().map(|text| kind(text)).collect();
        let set = KeySet::new(name, threshold.parse().unwrap(), &kinds);
        self.key_sets.insert((*name).to_owned(), set);
    }

    pub fn key_set(&self, name: &str) -> KeySet {
        self.key_sets.get(name).cloned().unwrap_or_else(|| KeySet::single(name))
    }

    /// A user of the genesis, made on first mention.
    fn first(&mut self, name: &str) {
        if !self.genesis.users.iter().any(|user| user.name == name) {
            let user = common::first_user(name, &self.key_set(name));
            self.genesis.users.push(user);
        }
    }

    pub fn start(&mut self, words: &[&str]) {
        let (name, number) = purse(words[0]);
        self.first(name);
        match &words[1..] {
            ["operates"] => self.genesis.rules.operators.push(name.to_owned()),
            ["issues", symbol] => self.genesis.tokens.push(common::first_token(symbol, name)),
            ["issues", symbol, "under", policy] => self.start_token(name, symbol, policy),
            ["has", "no", "wallet"] => {}
            ["holds", "nothing"] => self.start_wallet(name, number, None),
            ["holds", value, symbol] => {
                let held = amount(value);
                match self.later.iter_mut().find(|later| later.symbol == *symbol) {
                    Some(later) => {
                        later.holdings.push((words[0].to_owned(), held));
                        self.start_wallet(name, number, None);
                    }
                    None => self.start_wallet(name, number, Some((symbol, held))),
                }
            }
            other => panic!("{}: start {other:?}", self.place),
        }
    }

    fn start_token(&mut self, issuer: &str, symbol: &str, name: &str) {
        let text = self.policies.get(name).unwrap_or_else(|| panic!("policy '{name}'"));
        if text.contains("fee") {
            let (issuer, symbol, policy) = (issuer.into(), symbol.into(), name.into());
            self.later.push(Later { issuer, symbol, policy, holdings: Vec::new() });
            return;
        }
        let policy = self.policy(name);
        let token = common::first_token(symbol, issuer);
        self.genesis.tokens.push(kanjo_types::genesis::FirstToken { policy, ..token });
    }

    fn start_wallet(&mut self, owner: &str, number: u64, held: Option<(&str, Amount)>) {
        let same = |wallet: &FirstWallet| wallet.owner == owner && wallet.number == number;
        let position = self.genesis.wallets.iter().position(same).unwrap_or_else(|| {
            self.genesis.wallets.push(common::first_wallet(owner, number, &[]));
            self.genesis.wallets.len() - 1
        });
        if let Some((symbol, held)) = held {
            self.genesis.wallets[position].balances.insert(symbol.to_owned(), held);
        }
    }

    pub fn chain(&mut self) -> &mut Chain {
        if self.chain.is_none() {
            let chain = Chain::new(self.genesis.clone());
            for user in &self.genesis.users {
                self.people.insert(user.name.clone(), self.genesis.user_id(&user.name).unwrap());
            }
            self.chain = Some(chain);
            for later in std::mem::take(&mut self.later) {
                self.make_later(&later);
            }
        }
        self.chain.as_mut().unwrap()
    }

    fn make_later(&mut self, later: &Later) {
        let policy = self.policy(&later.policy);
        let approving = policy.allow_list;
        let token =
            kanjo_types::TokenId(u32::try_from(self.chain().ledger.tokens().len()).unwrap() + 1);
        let mut operations = vec![Operation::CreateToken {
            symbol: later.symbol.clone(),
            name: "x".to_owned(),
            decimals: 0,
            issuer: self.user(&later.issuer),
            policy: Box::new(policy),
            grants: Vec::new(),
        }];
        for (wallet, amount) in &later.holdings {
            let wallet = self.wallet(wallet);
            if approving {
                let act = Act::SetTerms {
                    token,
                    wallet,
                    approved: true,
                    class: 0,
                    credit: Amount::ZERO,
                    floor: Amount::ZERO,
                };
                let reason = Reason { code: "START".to_owned(), reference: String::new() };
                let order = Box::new(Order { act, reason, expires_ms: START_MS });
                operations.push(Operation::Act { order, evidence: Vec::new() });
            }
            operations.push(Operation::Issue { token, to: wallet, amount: *amount });
        }
        self.salt += 1;
        let (chain, author) = (self.chain_id(), self.user(&later.issuer));
        let body = common::body(chain, author, START_MS + 1, self.salt, operations);
        let signed = self.key_set(&later.issuer).sign(body);
        assert_eq!(self.send_raw(codec::to_bytes(&signed)), "ok", "{}: start", self.place);
    }

    /// `policy: NAME = freezable, reversal 60 s claim, …` is read when it is used: a fee names a
    /// wallet.
    pub fn policy(&mut self, name: &str) -> Policy {
        let text = self.policies.get(name).cloned();
        let text = text.unwrap_or_else(|| panic!("{}: policy '{name}'", self.place));
        let mut policy = Policy::default();
        for clause in text.split(',').map(str::trim) {
            match clause.split_whitespace().collect::<Vec<_>>()[..] {
                ["plain"] => {}
                ["freezable"] => policy.freezable = true,
                ["allow-list"] => policy.allow_list = true,
                ["credit"] => policy.credit = true,
                ["floors"] => policy.floors = true,
                ["cap", value] => policy.supply_cap = Some(amount(value)),
                ["notice", time, "s"] => policy.notice_ms = seconds(time),
                ["reversal", time, "s", moved_on] => {
                    let moved_on = match moved_on {
                        "refuse" => MovedOn::Refuse,
                        "claim" => MovedOn::Claim,
                        "follow" => MovedOn::Follow,
                        other => panic!("{}: {other}", self.place),
                    };
                    policy.reversal = Some(ReversalRule { window_ms: seconds(time), moved_on });
                }
                ["fee", flat, "+", points, "bp", "to", receiver] => {
                    policy.fee = Some(Fee {
                        flat: amount(flat),
                        basis_points: points.parse().unwrap(),
                        receiver: self.wallet(receiver),
                    });
                }
                ["classes", ref classes @ ..] => {
                    policy.classes = classes.iter().map(|class| limits(class)).collect();
                }
                ref other => panic!("{}: policy {other:?}", self.place),
            }
        }
        policy
    }
}

/// `100/50/60`: most held, most in one payment, most on one day; `-` for no limit.
fn limits(text: &str) -> ClassLimits {
    let limit = |part: &str| (part != "-").then(|| amount(part));
    let [max_balance, max_payment, max_day] = text.split('/').map(limit).collect::<Vec<_>>()[..]
    else {
        panic!("class '{text}'")
    };
    ClassLimits { max_balance, max_payment, max_day }
}
