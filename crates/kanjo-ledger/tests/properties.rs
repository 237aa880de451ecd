//! Random histories against a simple model, and against the ledger itself by other ways.
//!
//! [`common::Chain`] checks after every block: conservation, version chains and links, trees built
//! in steps against trees built at once, blocks through their encoding, and a ledger that only
//! redoes blocks.
#![allow(missing_docs, reason = "tests")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;
mod model;

use common::copies::Copies;
use common::{Chain, KeySet, START_MS, snapshots};
use kanjo_ledger::block::build_trees;
use kanjo_ledger::{BlockContext, Ledger, Verified};
use kanjo_types::outcome::Refusal;
use kanjo_types::stored::Entry;
use kanjo_types::transaction::Refused;
use kanjo_types::{Amount, Genesis, Operation, TokenId, UserId, WalletId};
use model::Model;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

const USERS: u8 = 7;
const FIRST_USERS: u8 = 4;
const KEY_SETS: u8 = 3;
const SYMBOLS: [&str; 5] = ["JPY", "VSM", "EUR", "X1", "X2"];
const WINDOW_MS: u64 = 60_000;

/// A wallet by owner and number.
type Purse = (u8, u8);

#[derive(Debug, Clone)]
enum Plan {
    User(u8),
    Wallet(Purse),
    Token { symbol: u8, issuer: u8 },
    Issue { token: u8, to: Purse, amount: u128 },
    Redeem { token: u8, from: Purse, amount: u128 },
    Pay { token: u8, from: Purse, to: Purse, amount: u128 },
    Rotate { user: u8, keys: u8 },
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    None,
    OtherKeys,
    Expired,
    TooLong,
    AtTheLastMoment,
    Again(u8),
    NextBlock,
}

#[derive(Debug, Clone)]
struct Sent {
    author: u8,
    fault: Fault,
    plans: Vec<Plan>,
}

#[derive(Debug, Clone)]
struct History {
    open_registration: bool,
    open_tokens: bool,
    blocks: Vec<(u64, Vec<Sent>)>,
    /// For each partition the block after which it is copied, for the restart.
    copied: Vec<u8>,
}

fn amounts() -> impl Strategy<Value = u128> {
    prop_oneof![
        8 => 1u128..40,
        1 => Just(0),
        1 => Just(u128::MAX),
        1 => Just(u128::MAX - 1),
        1 => Just(u128::MAX / 2),
        1 => any::<u128>(),
    ]
}

fn purses() -> impl Strategy<Value = Purse> {
    (0..USERS, prop_oneof![3 => Just(0u8), 1 => Just(1u8)])
}

fn plans() -> impl Strategy<Value = Plan> {
    let token = || prop_oneof![6 => Just(1u8), 2 => Just(2u8), 1 => 0..7u8];
    prop_oneof![
        2 => (0..USERS).prop_map(Plan::User),
        2 => purses().prop_map(Plan::Wallet),
        1 => (0..5u8, 0..USERS).prop_map(|(symbol, issuer)| Plan::Token { symbol, issuer }),
        3 => (token(), purses(), amounts())
            .prop_map(|(token, to, amount)| Plan::Issue { token, to, amount }),
        2 => (token(), purses(), amounts())
            .prop_map(|(token, from, amount)| Plan::Redeem { token, from, amount }),
        12 => (token(), purses(), purses(), amounts())
            .prop_map(|(token, from, to, amount)| Plan::Pay { token, from, to, amount }),
        1 => (0..USERS, 0..KEY_SETS).prop_map(|(user, keys)| Plan::Rotate { user, keys }),
    ]
}

/// What the author may do, mostly: otherwise nearly every batch would fail.
fn biased(author: u8, plan: Plan, honest: bool) -> Plan {
    if !honest {
        return plan;
    }
    match plan {
        Plan::Pay { token, from, to, amount } => {
            Plan::Pay { token, from: (author, from.1), to, amount }
        }
        Plan::Redeem { token, from, amount } => {
            Plan::Redeem { token, from: (author, from.1), amount }
        }
        Plan::Wallet(purse) => Plan::Wallet((author, purse.1)),
        Plan::Rotate { keys, .. } => Plan::Rotate { user: author, keys },
        other => other,
    }
}

fn sents() -> impl Strategy<Value = Sent> {
    let fault = prop_oneof![
        20 => Just(Fault::None),
        1 => Just(Fault::OtherKeys),
        1 => Just(Fault::Expired),
        1 => Just(Fault::TooLong),
        1 => Just(Fault::AtTheLastMoment),
        2 => (0..40u8).prop_map(Fault::Again),
        2 => Just(Fault::NextBlock),
    ];
    let plans = prop_oneof![
        3 => prop::collection::vec((plans(), prop::bool::weighted(0.9)), 1..3),
        1 => prop::collection::vec((plans(), prop::bool::weighted(0.97)), 3..14),
    ];
    let author = prop_oneof![3 => Just(0u8), 5 => 0..USERS];
    (author, fault, plans).prop_map(|(author, fault, plans)| {
        let plans = plans.into_iter().map(|(plan, honest)| biased(author, plan, honest)).collect();
        Sent { author, fault, plans }
    })
}

fn histories() -> impl Strategy<Value = History> {
    let gap = prop_oneof![4 => 0..2_000u64, 1 => 30_000..90_000u64];
    let blocks = prop::collection::vec((gap, prop::collection::vec(sents(), 0..9)), 1..12);
    let copied = prop::collection::vec(0..14u8, 64);
    (any::<bool>(), any::<bool>(), blocks, copied).prop_map(
        |(open_registration, open_tokens, blocks, copied)| History {
            open_registration,
            open_tokens,
            blocks,
            copied,
        },
    )
}

fn key_set(user: u8, version: u8) -> KeySet {
    KeySet::single(&format!("user {user} keys {version}"))
}

struct Names {
    key_sets: Vec<Vec<KeySet>>,
    users: Vec<UserId>,
    chain: kanjo_types::ChainId,
}

impl Names {
    fn wallet(&self, purse: Purse) -> WalletId {
        WalletId::derive(self.chain, self.users[usize::from(purse.0)], u64::from(purse.1))
    }

    fn operation(&self, plan: &Plan) -> Operation {
        let user = |user: &u8| self.users[usize::from(*user)];
        let access = |user: &u8, keys: u8| {
            self.key_sets[usize::from(*user)][usize::from(keys)].access.clone()
        };
        match plan {
            Plan::User(new) => Operation::CreateUser { access: access(new, 0), number: 0 },
            Plan::Wallet((owner, number)) => {
                Operation::CreateWallet { owner: user(owner), number: u64::from(*number) }
            }
            Plan::Token { symbol, issuer } => Operation::CreateToken {
                symbol: SYMBOLS[usize::from(*symbol)].to_owned(),
                name: "a token".to_owned(),
                decimals: 2,
                issuer: user(issuer),
                policy: Box::default(),
                grants: Vec::new(),
            },
            Plan::Issue { token, to, amount } => Operation::Issue {
                token: TokenId(u32::from(*token)),
                to: self.wallet(*to),
                amount: Amount(*amount),
            },
            Plan::Redeem { token, from, amount } => Operation::Redeem {
                token: TokenId(u32::from(*token)),
                from: self.wallet(*from),
                amount: Amount(*amount),
            },
            Plan::Pay { token, from, to, amount } => Operation::Transfer {
                token: TokenId(u32::from(*token)),
                from: self.wallet(*from),
                to: self.wallet(*to),
                amount: Amount(*amount),
                reference: String::new(),
            },
            Plan::Rotate { user: whose, keys } => {
                Operation::RotateKeys { user: user(whose), access: access(whose, *keys) }
            }
        }
    }
}

fn genesis_of(history: &History) -> Genesis {
    let mut genesis = common::empty_genesis();
    genesis.rules.replay_window_ms = WINDOW_MS;
    genesis.rules.open_registration = history.open_registration;
    genesis.rules.open_tokens = history.open_tokens;
    genesis.rules.operators = vec!["0".to_owned()];
    for user in 0..FIRST_USERS {
        genesis.users.push(common::first_user(&user.to_string(), &key_set(user, 0)));
    }
    genesis.tokens.push(common::first_token("JPY", "0"));
    genesis.tokens.push(common::first_token("VSM", "1"));
    for user in 0..3u8 {
        let balances: &[(&str, u128)] = match user {
            0 => &[("JPY", 100), ("VSM", 7)],
            1 => &[("JPY", 60)],
            // Nearly all that can be: sums overflow when they are made in the wrong order.
            _ => &[("VSM", u128::MAX - 20)],
        };
        genesis.wallets.push(common::first_wallet(&user.to_string(), 0, balances));
        genesis.wallets.push(common::first_wallet(&user.to_string(), 1, &[]));
    }
    genesis
}

type Fed = Vec<(BlockContext, Vec<(Verified, Result<Entry, Refused>)>)>;

struct Run {
    chain: Chain,
    model: Model,
    fed: Fed,
    copies: Copies,
}

/// A transaction waiting for its turn.
struct Waiting {
    verified: Verified,
    keys: KeySet,
}

fn run(history: &History) -> Run {
    let genesis = genesis_of(history);
    let chain_id = genesis.chain_id();
    let key_sets: Vec<Vec<KeySet>> =
        (0..USERS).map(|user| (0..KEY_SETS).map(|keys| key_set(user, keys)).collect()).collect();
    let users = key_sets.iter().map(|sets| UserId::derive(chain_id, &sets[0].access, 0)).collect();
    let names = Names { key_sets, users, chain: chain_id };
    let mut run = Run {
        model: Model::new(&genesis),
        chain: Chain::new(genesis),
        fed: Vec::new(),
        copies: Copies::none(),
    };
    run.chain.compared_every = 3;
    let mut time_ms = START_MS;
    let mut salt = 0;
    let mut late: Vec<Waiting> = Vec::new();
    let mut sent_before: Vec<kanjo_types::SignedTransaction> = Vec::new();
    for (number, (gap, sents)) in history.blocks.iter().enumerate() {
        time_ms += gap;
        let mut turn = std::mem::take(&mut late);
        for sent in sents {
            salt += 1;
            let Some(waiting) = admit(&run, &names, sent, time_ms, salt, &mut sent_before) else {
                continue;
            };
            if matches!(sent.fault, Fault::NextBlock) { &mut late } else { &mut turn }
                .push(waiting);
        }
        execute(&mut run, time_ms, &turn);
        run.copies.make(&run.chain, &history.copied, number);
    }
    run.chain.compare();
    run
}

/// Signs and admits, and compares what admission says with the model.
fn admit(
    run: &Run,
    names: &Names,
    sent: &Sent,
    time_ms: u64,
    salt: u64,
    sent_before: &mut Vec<kanjo_types::SignedTransaction>,
) -> Option<Waiting> {
    let author = names.users[usize::from(sent.author)];
    let valid_until = match sent.fault {
        Fault::Expired => time_ms - 1,
        Fault::TooLong => time_ms + WINDOW_MS + 1,
        Fault::AtTheLastMoment => time_ms,
        _ => time_ms + WINDOW_MS / 2,
    };
    let operations = sent.plans.iter().map(|plan| names.operation(plan)).collect();
    let body = common::body(run.chain.chain(), author, valid_until, salt, operations);
    let sets = names.key_sets.iter().flatten();
    let find = |access: &kanjo_types::Access| {
        sets.clone().find(|set| set.access == *access).expect("known keys").clone()
    };
    let first = &names.key_sets[usize::from(sent.author)][0];
    let mut keys = run.model.access_of(&author).map_or_else(|| first.clone(), find);
    if matches!(sent.fault, Fault::OtherKeys) {
        keys = key_set(sent.author, 9);
    }
    let mut signed = keys.sign(body);
    if let Fault::Again(which) = sent.fault
        && let Some(earlier) = sent_before.get(usize::from(which))
    {
        signed = earlier.clone();
        let sets = sets.clone().chain(std::iter::once(&keys));
        let digest = signed.body.id().0;
        let signer = sets.into_iter().find(|set| {
            let key = set.access.keys()[0];
            kanjo_types::signature::verify(&key, &digest, &signed.signatures[0].signature)
        });
        keys = signer?.clone();
    }
    sent_before.push(signed.clone());
    let expected = run.model.admission(&signed.body, &keys.access);
    let admitted = run.chain.admit(&signed);
    assert_eq!(admitted.as_ref().err().map(|refused| refused.refusal), expected);
    Some(Waiting { verified: admitted.ok()?, keys })
}

fn execute(run: &mut Run, time_ms: u64, turn: &[Waiting]) {
    let transactions: Vec<Verified> = turn.iter().map(|item| item.verified.clone()).collect();
    let outcomes = run.chain.block(time_ms, &transactions);
    for (item, outcome) in turn.iter().zip(&outcomes) {
        let body = &item.verified.prepared().transaction().body;
        let expected = run.model.execute(time_ms, body, &item.keys.access);
        let found: Result<_, Refusal> = outcome
            .as_ref()
            .map(|entry| (entry.result, entry.failed_operation))
            .map_err(|refused| refused.refusal);
        assert_eq!(found, expected, "{body:?}");
    }
    run.model.compare(&run.chain.ledger);
    let context = BlockContext { height: run.chain.height(), time_ms };
    run.fed.push((context, transactions.into_iter().zip(outcomes).collect()));
}

/// Executes the same on another ledger.
fn feed(
    ledger: &mut Ledger,
    context: BlockContext,
    items: &[(Verified, Result<Entry, Refused>)],
) -> Vec<Result<Entry, Refused>> {
    ledger.begin_block(context);
    let mut position = 0;
    let mut outcomes = Vec::new();
    for (verified, _) in items {
        let outcome = ledger.execute(context, position, verified);
        position += u32::from(outcome.is_ok());
        outcomes.push(outcome);
    }
    outcomes
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(20_261_007),
        max_shrink_iters: 4_000,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config(400))]

    /// The model agrees, every invariant of `Chain` holds, and a second ledger does exactly the
    /// same.
    #[test]
    fn the_ledger_follows_the_model_and_is_deterministic(history in histories()) {
        let run = run(&history);
        let (_, mut second, _) = kanjo_ledger::block::genesis_block(&run.chain.genesis);
        for (context, items) in &run.fed {
            let outcomes = feed(&mut second, *context, items);
            let before: Vec<_> = items.iter().map(|(_, outcome)| outcome.clone()).collect();
            prop_assert!(outcomes == before);
            second.end_block();
        }
        prop_assert!(snapshots(&second) == snapshots(&run.chain.ledger));
    }

    /// A ledger put together from partitions copied at different heights, then redoing the log up
    /// to some height, is the same ledger: same rows, same roots, same answers from then on.
    #[test]
    fn a_restart_from_copies_of_different_heights_gives_the_same_ledger(
        history in histories(),
        cut in any::<prop::sample::Index>(),
    ) {
        let run = run(&history);
        let restart_at = cut.index(run.chain.blocks.len());
        let mut restored = run.copies.restart(&run.chain, restart_at);
        let state_root = run.chain.blocks[restart_at].header.state_root;
        prop_assert_eq!(build_trees(&restored).root(), state_root);
        prop_assert!(restored.audit_supply().is_ok());
        for (context, items) in run.fed.iter().skip(restart_at) {
            let outcomes = feed(&mut restored, *context, items);
            let before: Vec<_> = items.iter().map(|(_, outcome)| outcome.clone()).collect();
            prop_assert!(outcomes == before);
            let supply = restored.end_block().supply;
            let header = &run.chain.blocks[usize::try_from(context.height).unwrap()].header;
            prop_assert_eq!(&supply, &header.supply);
        }
        prop_assert!(snapshots(&restored) == snapshots(&run.chain.ledger));
        nothing_is_taken_twice(restored, run)?;
    }

    /// Leaving out whatever failed or was refused changes nothing for the others, bit for bit.
    #[test]
    fn a_failed_transaction_leaves_no_trace_but_its_id(history in histories()) {
        let run = run(&history);
        let (_, mut other, mut tree) = kanjo_ledger::block::genesis_block(&run.chain.genesis);
        for (number, (context, items)) in run.fed.iter().enumerate() {
            other.begin_block(*context);
            let done = items.iter().filter_map(|(verified, outcome)| {
                let entry = outcome.as_ref().ok().filter(|entry| entry.result.is_ok())?;
                Some((verified, entry))
            });
            for (verified, entry) in done {
                let again = other.execute(*context, entry.record.position, verified);
                prop_assert_eq!(again.as_ref().ok(), Some(entry));
            }
            tree.update(&other.end_block().leaves);
            prop_assert_eq!(tree.root(), run.chain.blocks[number + 1].header.state_root);
        }
    }
}

/// Sends everything once more: all ids are used or expired, and both ledgers say the same.
fn nothing_is_taken_twice(mut restored: Ledger, mut run: Run) -> Result<(), TestCaseError> {
    let last = run.fed.last().map_or(START_MS, |(context, _)| context.time_ms);
    let context = BlockContext { height: run.chain.height() + 1, time_ms: last + 10 };
    let again: Vec<_> = run.fed.iter().flat_map(|(_, items)| items.clone()).collect();
    let mine = feed(&mut run.chain.ledger, context, &again);
    prop_assert!(mine == feed(&mut restored, context, &again));
    let recorded = again.iter().zip(&mine).filter(|((_, before), _)| before.is_ok());
    for (_, now) in recorded {
        let refusal = now.as_ref().err().map(|refused| refused.refusal);
        prop_assert!(matches!(refusal, Some(Refusal::AlreadyUsed | Refusal::Expired)));
    }
    Ok(())
}
