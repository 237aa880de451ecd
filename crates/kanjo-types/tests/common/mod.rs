//! What the tests of this crate share: arbitrary values, seeds that never change, and the vector
//! files.
#![allow(dead_code, missing_docs, reason = "each test file uses a part of it")]

pub mod cluster;
pub mod money;
pub mod standing;

use kanjo_types::access::{Access, KeySignature, PublicKey};
use kanjo_types::block::{Certificate, Header, Receipt, SupplyChange, TokenAmount, Vote};
use kanjo_types::genesis::{FirstToken, FirstUser, FirstWallet, Genesis, Rules, Voter};
use kanjo_types::record::{
    Record, Spent, TokenRecord, TransactionRecord, UserRecord, WalletRecord, WalletStateRecord,
};
use kanjo_types::transaction::{Operation, SignedTransaction, TransactionBody};
use kanjo_types::{Amount, ChainId, Hash, ResultCode, TokenId, TransactionId, UserId, WalletId};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use std::path::PathBuf;

/// A property run with a seed of its own: the same cases on every machine.
pub fn config(cases: u32, seed: u64) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// A file under `vectors/`.
pub fn vector_path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "..", "vectors", name].iter().collect()
}

pub fn read_vectors(name: &str) -> String {
    let path = vector_path(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub fn write_vectors<T: serde::Serialize>(name: &str, value: &T) {
    let mut text = serde_json::to_string_pretty(value).expect("json");
    text.push('\n');
    std::fs::write(vector_path(name), text).expect("vectors/ can be written");
}

pub fn bytes<const N: usize>() -> impl Strategy<Value = [u8; N]> {
    vec(any::<u8>(), N).prop_map(|bytes| bytes.try_into().expect("N bytes"))
}

pub fn hash() -> impl Strategy<Value = Hash> {
    bytes::<32>().prop_map(Hash)
}

fn user() -> impl Strategy<Value = UserId> {
    bytes::<16>().prop_map(UserId)
}

fn wallet() -> impl Strategy<Value = WalletId> {
    bytes::<16>().prop_map(WalletId)
}

fn token() -> impl Strategy<Value = TokenId> {
    any::<u32>().prop_map(TokenId)
}

/// Amounts of every size: a uniform u128 is nearly always near its maximum.
pub fn amount() -> impl Strategy<Value = Amount> {
    (any::<u128>(), 0u32..128).prop_map(|(value, shift)| Amount(value >> shift))
}

pub fn text(max: usize) -> impl Strategy<Value = String> {
    vec(any::<char>(), 0..max).prop_map(String::from_iter)
}

pub fn public_key() -> impl Strategy<Value = PublicKey> {
    prop_oneof![
        bytes::<32>().prop_map(PublicKey::Ed25519),
        bytes::<33>().prop_map(PublicKey::P256),
        bytes::<33>().prop_map(PublicKey::Secp256k1),
    ]
}

pub fn access() -> impl Strategy<Value = Access> {
    prop_oneof![
        public_key().prop_map(Access::Single),
        (any::<u8>(), vec(public_key(), 0..5))
            .prop_map(|(threshold, keys)| Access::Shared { threshold, keys }),
    ]
}

pub fn plain_operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        (access(), any::<u64>())
            .prop_map(|(access, number)| Operation::CreateUser { access, number }),
        (user(), any::<u64>())
            .prop_map(|(owner, number)| Operation::CreateWallet { owner, number }),
        create_token(),
        (token(), wallet(), amount()).prop_map(|(token, to, amount)| Operation::Issue {
            token,
            to,
            amount
        }),
        (token(), wallet(), amount()).prop_map(|(token, from, amount)| Operation::Redeem {
            token,
            from,
            amount
        }),
        (token(), wallet(), wallet(), amount(), text(20)).prop_map(
            |(token, from, to, amount, reference)| Operation::Transfer {
                token,
                from,
                to,
                amount,
                reference
            }
        ),
        (user(), access()).prop_map(|(user, access)| Operation::RotateKeys { user, access }),
    ]
}

fn create_token() -> impl Strategy<Value = Operation> {
    let texts = (text(8), text(20), any::<u8>());
    (texts, user(), money::policy(), vec(money::grant(), 0..3)).prop_map(
        |((symbol, name, decimals), issuer, policy, grants)| Operation::CreateToken {
            symbol,
            name,
            decimals,
            issuer,
            policy: Box::new(policy),
            grants,
        },
    )
}

pub fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![4 => plain_operation(), 8 => money::operation(), 1 => money::reversal(), 1 => cluster::operation()]
}

pub fn body() -> impl Strategy<Value = TransactionBody> {
    (any::<u8>(), hash(), user(), any::<u64>(), any::<u64>(), vec(operation(), 0..6)).prop_map(
        |(version, chain, author, valid_until_ms, salt, operations)| TransactionBody {
            version,
            chain: ChainId(chain),
            author,
            valid_until_ms,
            salt,
            operations,
        },
    )
}

pub fn signed() -> impl Strategy<Value = SignedTransaction> {
    let signature =
        (any::<u8>(), bytes::<64>()).prop_map(|(key, signature)| KeySignature { key, signature });
    (body(), vec(signature, 0..4))
        .prop_map(|(body, signatures)| SignedTransaction { body, signatures })
}

pub fn record() -> impl Strategy<Value = Record> {
    prop_oneof![
        1 => plain_record(),
        1 => standing::record(),
        1 => cluster::membership().prop_map(|row| Record::Membership(Box::new(row))),
    ]
}

pub fn transaction_record() -> impl Strategy<Value = TransactionRecord> {
    let spent = (hash(), hash()).prop_map(|(state, transaction)| Spent { state, transaction });
    let hashes = (hash(), hash(), hash());
    (hashes, any::<(u64, u32, u64)>(), vec(spent, 0..4)).prop_map(
        |((id, witness, author_record), (height, position, time_ms), spent)| TransactionRecord {
            id: TransactionId(id),
            witness,
            height,
            position,
            time_ms,
            author_record,
            spent,
        },
    )
}

fn plain_record() -> impl Strategy<Value = Record> {
    let links = || (any::<u64>(), hash(), hash(), hash());
    let texts = (text(12), text(20), any::<u8>());
    prop_oneof![
        (user(), access(), user(), links()).prop_map(
            |(id, access, sponsor, (version, previous, transaction, _))| {
                Record::User(UserRecord { id, version, access, sponsor, previous, transaction })
            }
        ),
        (wallet(), user(), any::<u64>(), links()).prop_map(
            |(id, owner, number, (version, previous, transaction, owner_record))| {
                Record::Wallet(WalletRecord {
                    id,
                    version,
                    owner,
                    number,
                    previous,
                    transaction,
                    owner_record,
                })
            }
        ),
        (token(), texts, user(), amount(), amount(), standing::rules(), links()).prop_map(
            |(id, (symbol, name, decimals), issuer, issued, redeemed, rules, links)| {
                let (version, previous, transaction, issuer_record) = links;
                Record::Token(TokenRecord {
                    id,
                    version,
                    symbol,
                    name,
                    decimals,
                    issuer,
                    issued,
                    redeemed,
                    rules,
                    previous,
                    transaction,
                    issuer_record,
                })
            }
        ),
        (wallet(), token(), amount(), standing::extra(), links()).prop_map(
            |(wallet, token, balance, extra, (version, previous, transaction, wallet_record))| {
                Record::WalletState(WalletStateRecord {
                    wallet,
                    token,
                    version,
                    balance,
                    extra,
                    previous,
                    transaction,
                    wallet_record,
                })
            }
        ),
        transaction_record().prop_map(Record::Transaction),
    ]
}

pub fn header() -> impl Strategy<Value = Header> {
    let fee = (token(), amount()).prop_map(|(token, amount)| TokenAmount { token, amount });
    let supply = (token(), amount(), amount()).prop_map(|(token, issued, redeemed)| SupplyChange {
        token,
        issued,
        redeemed,
    });
    let numbers = (any::<u8>(), any::<u64>(), any::<u64>(), any::<u16>(), any::<u32>());
    let roots = (hash(), hash(), hash(), hash(), hash());
    (numbers, roots, vec(hash(), 0..3), vec(fee, 0..3), vec(supply, 0..3)).prop_map(
        |(numbers, roots, parents, fees, supply)| {
            let (version, height, time_ms, producer, transactions) = numbers;
            let (chain, transactions_root, receipts_root, state_root, history_root) = roots;
            Header {
                version,
                chain: ChainId(chain),
                height,
                parents,
                time_ms,
                producer,
                transactions,
                transactions_root,
                receipts_root,
                state_root,
                history_root,
                fees,
                supply,
            }
        },
    )
}

pub fn receipt() -> impl Strategy<Value = Receipt> {
    let result = proptest::sample::select(ResultCode::ALL);
    (hash(), hash(), result, any::<Option<u32>>(), hash(), any::<u32>()).prop_map(
        |(id, transaction, result, failed_operation, rows_root, rows)| Receipt {
            id: TransactionId(id),
            transaction,
            result,
            failed_operation,
            rows_root,
            rows,
        },
    )
}

pub fn vote() -> impl Strategy<Value = Vote> {
    let parts = (any::<u16>(), hash(), bytes::<64>());
    parts.prop_map(|(voter, answer, signature)| Vote { voter, answer, signature })
}

pub fn certificate() -> impl Strategy<Value = Certificate> {
    let vote = vote();
    (any::<u64>(), vec(vote, 0..5)).prop_map(|(epoch, votes)| Certificate { epoch, votes })
}

pub fn genesis() -> impl Strategy<Value = Genesis> {
    let rules = (any::<u64>(), any::<bool>(), any::<bool>(), vec(text(8), 0..3)).prop_map(
        |(replay_window_ms, open_registration, open_tokens, operators)| Rules {
            replay_window_ms,
            open_registration,
            open_tokens,
            operators,
        },
    );
    let voter = (text(8), bytes::<32>(), cluster::kind(), option::of(cluster::link()))
        .prop_map(|(name, key, kind, link)| Voter { name, key, kind, link });
    let user = (text(8), access()).prop_map(|(name, access)| FirstUser { name, access });
    let token = (text(8), text(8), any::<u8>(), text(8), money::policy()).prop_map(
        |(symbol, name, decimals, issuer, policy)| FirstToken {
            symbol,
            name,
            decimals,
            issuer,
            policy,
        },
    );
    let wallet = (text(8), any::<u64>(), btree_map(text(6), amount(), 0..4))
        .prop_map(|(owner, number, balances)| FirstWallet { owner, number, balances });
    let lists = (vec(voter, 0..4), vec(user, 0..4), vec(token, 0..3), vec(wallet, 0..4));
    (any::<u8>(), text(8), any::<u64>(), rules, cluster::cluster(), lists).prop_map(
        |(version, name, time_ms, rules, cluster, (voters, users, tokens, wallets))| Genesis {
            version,
            name,
            time_ms,
            rules,
            voters,
            cluster,
            users,
            tokens,
            wallets,
        },
    )
}
