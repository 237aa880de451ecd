//! The ledger under test: members and their keys, accounts, the genesis.

use crate::time::START_MS;
use kanjo_types::genesis::{Cluster, FirstToken, FirstUser, FirstWallet, Link, Rules, Voter};
use kanjo_types::membership::{Measurement, MemberKind, NodeCertificate};
use kanjo_types::signature::{KeyKind, SecretKey};
use kanjo_types::{
    Access, Amount, Genesis, Hash, Operation, Policy, PublicKey, SignedTransaction, TokenId,
    TransactionBody, UserId, WalletId,
};
use std::collections::BTreeMap;

/// The token that is paid with.
pub const TOKEN: TokenId = TokenId(1);
/// What each account has at first.
pub const FIRST_BALANCE: u128 = 10_000;
/// The program that every node runs.
pub const PROGRAM: Hash = Hash([0x55; 32]);
const GOVERNOR: &str = "bank";

/// Seed of the vote key of a node.
#[must_use]
pub fn vote_seed(number: u16) -> [u8; 32] {
    seed(0x70, number)
}

/// Seed of the key of a node's attestor.
#[must_use]
pub fn attestor_seed(number: u16) -> [u8; 32] {
    seed(0x71, number)
}

fn seed(kind: u8, number: u16) -> [u8; 32] {
    let mut seed = [kind; 32];
    seed.iter_mut().zip(number.to_le_bytes()).for_each(|(to, from)| *to = from);
    seed
}

fn public(seed: [u8; 32]) -> [u8; 32] {
    match SecretKey::from_seed(KeyKind::Ed25519, seed).map(|key| key.public()) {
        Ok(PublicKey::Ed25519(key)) => key,
        _ => [0; 32],
    }
}

/// The certificate of a node.
#[must_use]
pub fn certificate(number: u16, kind: MemberKind) -> NodeCertificate {
    NodeCertificate {
        name: format!("node-{number}"),
        kind,
        vote_key: public(vote_seed(number)),
        link_key: seed(0x72, number),
        address: format!("host-{number}:1"),
        api: format!("http://host-{number}"),
        attestor: None,
    }
}

fn voter(number: u16, kind: MemberKind) -> Voter {
    let node = certificate(number, kind);
    let (key, attestor) = (node.link_key, node.attestor);
    let link = Link { key, address: node.address, api: node.api, attestor };
    Voter { kind, link: Some(link), ..Voter::alone(&node.name, node.vote_key) }
}

fn user_key(name: &str) -> Option<SecretKey> {
    let mut seed = [0x30; 32];
    seed.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
    SecretKey::from_seed(KeyKind::Ed25519, seed).ok()
}

/// Name of an account.
#[must_use]
pub fn account(number: u64) -> String {
    format!("account-{number}")
}

/// The genesis of a cluster with so many executors, witnesses and accounts.
#[must_use]
pub fn genesis(executors: u16, witnesses: u16, accounts: u64) -> Genesis {
    let names: Vec<String> =
        std::iter::once(GOVERNOR.to_owned()).chain((0..accounts).map(account)).collect();
    let user = |name: &String| {
        let access = user_key(name).map(|key| Access::Single(key.public()))?;
        Some(FirstUser { name: name.clone(), access })
    };
    let wallet = |number: u64| FirstWallet {
        owner: account(number),
        number: 0,
        balances: BTreeMap::from([("JPY".to_owned(), Amount(FIRST_BALANCE))]),
    };
    let kind = |number: u16| {
        if number < executors { MemberKind::Executor } else { MemberKind::Witness }
    };
    Genesis {
        version: 1,
        name: "simulated".to_owned(),
        time_ms: START_MS,
        rules: Rules {
            replay_window_ms: 120_000,
            open_registration: false,
            open_tokens: false,
            operators: Vec::new(),
        },
        voters: (0..executors + witnesses).map(|number| voter(number, kind(number))).collect(),
        cluster: Cluster {
            governors: vec![GOVERNOR.to_owned()],
            threshold: 1,
            measurements: vec![Measurement { program: PROGRAM, note: "simulated".to_owned() }],
        },
        users: names.iter().filter_map(user).collect(),
        tokens: vec![FirstToken {
            symbol: "JPY".to_owned(),
            name: "yen".to_owned(),
            decimals: 0,
            issuer: GOVERNOR.to_owned(),
            policy: Policy::default(),
        }],
        wallets: (0..accounts).map(wallet).collect(),
    }
}

/// Signs for a user of the genesis; nothing for an unknown one.
#[must_use]
pub fn signed(
    genesis: &Genesis,
    name: &str,
    valid_until_ms: u64,
    salt: u64,
    operations: Vec<Operation>,
) -> Option<SignedTransaction> {
    let author: UserId = genesis.user_id(name)?;
    let chain = genesis.chain_id();
    let body = TransactionBody { version: 1, chain, author, valid_until_ms, salt, operations };
    Some(body.sign(&user_key(name)?))
}

/// Signs for the governor.
#[must_use]
pub fn governed(
    genesis: &Genesis,
    valid_until_ms: u64,
    salt: u64,
    operations: Vec<Operation>,
) -> Option<SignedTransaction> {
    signed(genesis, GOVERNOR, valid_until_ms, salt, operations)
}

/// The wallet of an account.
#[must_use]
pub fn wallet(genesis: &Genesis, account_number: u64) -> Option<WalletId> {
    genesis.wallet_id(&account(account_number), 0)
}

/// A payment between accounts.
#[must_use]
pub fn payment(
    genesis: &Genesis,
    (from, to): (u64, u64),
    amount: u128,
    valid_until_ms: u64,
    salt: u64,
) -> Option<SignedTransaction> {
    let transfer = Operation::Transfer {
        token: TOKEN,
        from: wallet(genesis, from)?,
        to: wallet(genesis, to)?,
        amount: Amount(amount),
        reference: String::new(),
    };
    signed(genesis, &account(from), valid_until_ms, salt, vec![transfer])
}
