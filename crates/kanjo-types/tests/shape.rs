//! `TransactionBody::check_shape`: a table of what it refuses, with which field, and what goes
//! first.
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod common;
mod shape_money;

use kanjo_types::access::{Access, PublicKey};
use kanjo_types::membership::{
    Attestor, Measurement, MemberKind, MembershipChange, NodeCertificate, Notice, Register,
};
use kanjo_types::money::{Act, Order, Reason};
use kanjo_types::signature::{KeyKind, SecretKey, is_agreement_key};
use kanjo_types::transaction::{OPERATIONS_MAX, Operation, Refused, TransactionBody};
use kanjo_types::{Amount, ChainId, Hash, Refusal, TokenId, UserId, WalletId};
use proptest::prelude::*;
use std::collections::BTreeSet;

const ALICE: WalletId = WalletId([0xa1; 16]);
const BOB: WalletId = WalletId([0xb0; 16]);

fn body(version: u8, operations: Vec<Operation>) -> TransactionBody {
    TransactionBody {
        version,
        chain: ChainId(Hash([0xcc; 32])),
        author: UserId([0xaa; 16]),
        valid_until_ms: 1_800_000_000_000,
        salt: 7,
        operations,
    }
}

fn pay(to: WalletId, amount: u128, reference: &str) -> Operation {
    let reference = reference.to_owned();
    Operation::Transfer { token: TokenId(1), from: ALICE, to, amount: Amount(amount), reference }
}

fn token(symbol: &str, name: &str, decimals: u8) -> Operation {
    let (symbol, name) = (symbol.to_owned(), name.to_owned());
    let (policy, grants) = (Box::default(), vec![]);
    Operation::CreateToken { symbol, name, decimals, issuer: UserId([1; 16]), policy, grants }
}

fn issue(amount: u128) -> Operation {
    Operation::Issue { token: TokenId(1), to: ALICE, amount: Amount(amount) }
}

fn redeem(amount: u128) -> Operation {
    Operation::Redeem { token: TokenId(1), from: ALICE, amount: Amount(amount) }
}

fn create_user(access: Access) -> Operation {
    Operation::CreateUser { access, number: 0 }
}

fn rotate(access: Access) -> Operation {
    Operation::RotateKeys { user: UserId([1; 16]), access }
}

fn key(seed: u8) -> PublicKey {
    SecretKey::from_seed(KeyKind::Ed25519, [seed; 32]).expect("any seed").public()
}

/// `count` distinct keys in ascending order.
fn keys(count: u8) -> Vec<PublicKey> {
    let keys: BTreeSet<PublicKey> = (1..=count).map(key).collect();
    keys.into_iter().collect()
}

fn shared(threshold: u8, keys: Vec<PublicKey>) -> Access {
    Access::Shared { threshold, keys }
}

fn reversed(mut keys: Vec<PublicKey>) -> Vec<PublicKey> {
    keys.reverse();
    keys
}

fn off_curve() -> PublicKey {
    PublicKey::P256([0xff; 33])
}

type Scenario = (&'static str, Operation, Option<(Refusal, &'static str)>);

fn payments() -> Vec<Scenario> {
    use Refusal::{InvalidReference, SameWallet, ZeroAmount};
    let at_most = "é".repeat(32);
    let too_long = format!("{at_most}x");
    vec![
        ("smallest payment", pay(BOB, 1, ""), None),
        ("largest payment", pay(BOB, u128::MAX, "rent"), None),
        ("zero payment", pay(BOB, 0, ""), Some((ZeroAmount, "amount"))),
        ("paying oneself", pay(ALICE, 1, ""), Some((SameWallet, "to"))),
        ("64 bytes of reference", pay(BOB, 1, &at_most), None),
        ("65 bytes of reference", pay(BOB, 1, &too_long), Some((InvalidReference, "reference"))),
        ("a line break in it", pay(BOB, 1, "a\nb"), Some((InvalidReference, "reference"))),
        ("a zero byte in it", pay(BOB, 1, "a\0b"), Some((InvalidReference, "reference"))),
        ("a C1 control in it", pay(BOB, 1, "a\u{85}b"), Some((InvalidReference, "reference"))),
        ("zero goes before oneself", pay(ALICE, 0, "\n"), Some((ZeroAmount, "amount"))),
        ("oneself goes before reference", pay(ALICE, 1, "\n"), Some((SameWallet, "to"))),
        ("issue", issue(1), None),
        ("issue nothing", issue(0), Some((ZeroAmount, "amount"))),
        ("redeem", redeem(1), None),
        ("redeem nothing", redeem(0), Some((ZeroAmount, "amount"))),
    ]
}

fn tokens() -> Vec<Scenario> {
    use Refusal::{InvalidDecimals, InvalidName, InvalidSymbol};
    let symbol = Some((InvalidSymbol, "symbol"));
    let name = Some((InvalidName, "name"));
    let decimals = Some((InvalidDecimals, "decimals"));
    let longest = "é".repeat(32);
    let longer = format!("{longest}x");
    vec![
        ("plain token", token("JPY", "Japanese yen", 0), None),
        ("longest symbol", token("A23456789012", "x", 30), None),
        ("13 characters", token("A234567890123", "x", 0), symbol),
        ("no symbol", token("", "x", 0), symbol),
        ("digit first", token("1A", "x", 0), symbol),
        ("lower case", token("Jpy", "x", 0), symbol),
        ("not ASCII", token("É", "x", 0), symbol),
        ("space", token("J Y", "x", 0), symbol),
        ("64 bytes of name", token("A", &longest, 0), None),
        ("65 bytes of name", token("A", &longer, 0), name),
        ("no name", token("A", "", 0), name),
        ("tab in name", token("A", "a\tb", 0), name),
        ("31 decimals", token("A", "a", 31), decimals),
        ("symbol goes before name", token("a", "", 31), symbol),
        ("name goes before decimals", token("A", "", 31), name),
    ]
}

fn accesses() -> Vec<(&'static str, Access, bool)> {
    let twice = vec![key(1), key(1)];
    let off = shared(1, [keys(2), vec![off_curve()]].concat());
    vec![
        ("single key", Access::Single(key(1)), true),
        ("single key off its curve", Access::Single(off_curve()), false),
        ("2 of 3", shared(2, keys(3)), true),
        ("16 of 16", shared(16, keys(16)), true),
        ("17 keys", shared(2, keys(17)), false),
        ("shared by none", shared(0, vec![]), false),
        ("shared by one", shared(1, keys(1)), false),
        ("0 of 2", shared(0, keys(2)), false),
        ("3 of 2", shared(3, keys(2)), false),
        ("descending", shared(1, reversed(keys(2))), false),
        ("a key twice", shared(1, twice), false),
        ("one of them off its curve", off, false),
    ]
}

/// u of every point of low order, in each of its writings: 0, 1, p − 1, and two of order 8; then
/// p, p + 1, and 2p − 1 … 2p + 1 with the bit set that is not looked at.
fn low_order() -> Vec<[u8; 32]> {
    let eighths = [
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    ];
    let eighth =
        |text: &str| <[u8; 32]>::try_from(hex::decode(text).expect("hex")).expect("32 bytes");
    let small = |first: u8| std::array::from_fn(|place| if place == 0 { first } else { 0 });
    let near = |first: u8, last: u8| {
        std::array::from_fn(|place| match place {
            0 => first,
            31 => last,
            _ => 0xff,
        })
    };
    let mut all = vec![small(0), small(1), near(0xec, 0x7f)];
    all.extend(eighths.map(eighth));
    all.extend([near(0xed, 0x7f), near(0xee, 0x7f)]);
    let marked = |mut key: [u8; 32]| {
        key[31] |= 0x80;
        key
    };
    let again: Vec<[u8; 32]> = all.iter().copied().map(marked).collect();
    all.extend(again);
    all
}

#[test]
fn keys_of_low_order_agree_on_nothing() {
    for key in low_order() {
        assert!(!is_agreement_key(&key), "{}", hex::encode(key));
    }
    // The base point, and a u that lies on the twist.
    for first in [9, 2] {
        let mut key = [0; 32];
        key[0] = first;
        assert!(is_agreement_key(&key));
    }
}

fn software() -> Attestor {
    let PublicKey::Ed25519(key) = key(2) else { panic!("an Ed25519 key") };
    Attestor::Software { key }
}

/// The generator of P-256 stands for any point.
fn tpm2(registers: &[u8]) -> Attestor {
    let hex = "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296\
               4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5";
    let value = kanjo_types::Hash([1; 32]);
    let registers = registers.iter().map(|number| Register { number: *number, value });
    let key = hex::decode(hex).expect("hex").try_into().expect("64 bytes");
    Attestor::Tpm2 { key, registers: registers.collect() }
}

fn tpm2_off_curve() -> Attestor {
    let Attestor::Tpm2 { mut key, registers } = tpm2(&[0]) else { panic!("a TPM") };
    key[63] ^= 1;
    Attestor::Tpm2 { key, registers }
}

fn memberships() -> Vec<Scenario> {
    let invalid = |field| Some((Refusal::InvalidMember, field));
    let bad_attestor = invalid("attestor");
    let PublicKey::Ed25519(vote_key) = key(1) else { panic!("an Ed25519 key") };
    let longest = "x".repeat(128);
    let longer = format!("{longest}x");
    let reason = |reason: &str| MembershipChange::Remove { member: 1, reason: reason.to_owned() };
    let allow = |note: &str| MembershipChange::Allow {
        measurement: Measurement { program: kanjo_types::Hash([1; 32]), note: note.to_owned() },
    };
    let admit = |change: &dyn Fn(&mut NodeCertificate)| {
        let mut certificate = NodeCertificate {
            name: longest.clone(),
            kind: MemberKind::Witness,
            vote_key,
            link_key: [1; 32],
            address: "a:1".to_owned(),
            api: "b".to_owned(),
            attestor: None,
        };
        change(&mut certificate);
        MembershipChange::Admit { certificate: Box::new(certificate) }
    };
    let change = |change| Operation::ChangeMembership { change };
    let notice = Box::new(Notice::Leave { member: 0 });
    let taken = Operation::TakeNotice { notice, statements: vec![] };
    vec![
        ("admit", change(admit(&|_| ())), None),
        ("no name", change(admit(&|node| node.name.clear())), invalid("name")),
        ("long name", change(admit(&|node| node.name.clone_from(&longer))), invalid("name")),
        ("no address", change(admit(&|node| node.address.clear())), invalid("address")),
        ("tab in address", change(admit(&|node| node.api.push('\t'))), invalid("api")),
        ("small order", change(admit(&|node| node.vote_key = [0; 32])), invalid("vote_key")),
        ("no link key", change(admit(&|node| node.link_key = [0; 32])), invalid("link_key")),
        ("low order", change(admit(&|node| node.link_key = low_order()[4])), invalid("link_key")),
        ("software", change(admit(&|node| node.attestor = Some(software()))), None),
        ("tpm2", change(admit(&|node| node.attestor = Some(tpm2(&[0, 23])))), None),
        (
            "an attestor's key of small order",
            change(admit(&|node| node.attestor = Some(Attestor::Software { key: [0; 32] }))),
            invalid("attestor"),
        ),
        ("no registers", change(admit(&|node| node.attestor = Some(tpm2(&[])))), bad_attestor),
        ("a 25th", change(admit(&|node| node.attestor = Some(tpm2(&[24])))), bad_attestor),
        ("twice", change(admit(&|node| node.attestor = Some(tpm2(&[7, 7])))), bad_attestor),
        (
            "off its curve",
            change(admit(&|node| node.attestor = Some(tpm2_off_curve()))),
            bad_attestor,
        ),
        ("no reason", change(reason("")), None),
        ("longest reason", change(reason(&longest)), None),
        ("longer reason", change(reason(&longer)), invalid("reason")),
        ("newline in a reason", change(reason("a\nb")), invalid("reason")),
        ("note", change(allow(&longest)), None),
        ("longer note", change(allow(&longer)), invalid("note")),
        ("notice", taken, Some((Refusal::LedgerOnly, "type"))),
    ]
}

fn scenarios() -> Vec<Scenario> {
    let invalid = Some((Refusal::InvalidKeys, "access"));
    let mut all = payments();
    all.extend(tokens());
    for (name, access, good) in accesses() {
        let expected = if good { None } else { invalid };
        all.push((name, create_user(access.clone()), expected));
        all.push((name, rotate(access), expected));
    }
    let wallet = Operation::CreateWallet { owner: UserId([1; 16]), number: u64::MAX };
    all.push(("wallet", wallet, None));
    all.extend(shape_money::scenarios());
    all.extend(memberships());
    all
}

#[test]
fn every_operation_is_refused_for_the_stated_reason_and_field() {
    for (name, operation, expected) in scenarios() {
        for position in [0, 3] {
            let mut operations = vec![issue(1); position];
            operations.push(operation.clone());
            let wanted = expected.map_or(Ok(()), |(refusal, field)| {
                Err(Refused::new(refusal, format!("operations[{position}].{field}")))
            });
            assert_eq!(body(1, operations).check_shape(), wanted, "{name}");
        }
    }
}

#[test]
fn every_shape_refusal_has_a_scenario() {
    let seen: BTreeSet<Refusal> =
        scenarios().into_iter().filter_map(|(_, _, expected)| Some(expected?.0)).collect();
    let expected: BTreeSet<Refusal> =
        Refusal::ALL.iter().copied().filter(|r| (6..=24).contains(&(*r as u8))).collect();
    assert_eq!(seen, expected, "ZeroAmount … LedgerOnly");
}

#[test]
fn parties_come_first_and_once_and_without_the_author() {
    let parties = |users| Operation::Parties { users };
    let users = shape_money::users;
    let check = |operations| body(1, operations).check_shape();
    let refused = |position| {
        let field = format!("operations[{position}].users");
        Err(Refused::new(Refusal::InvalidParties, field))
    };
    assert_eq!(check(vec![parties(users(1)), issue(1)]), Ok(()));
    assert_eq!(check(vec![parties(users(15)), issue(1)]), Ok(()));
    assert_eq!(check(vec![parties(users(16)), issue(1)]), refused(0));
    assert_eq!(check(vec![parties(vec![]), issue(1)]), refused(0));
    assert_eq!(check(vec![parties(vec![UserId([1; 16]); 2])]), refused(0));
    assert_eq!(check(vec![parties(users(2).into_iter().rev().collect())]), refused(0));
    assert_eq!(check(vec![parties(vec![UserId([0xaa; 16])])]), refused(0));
    assert_eq!(check(vec![issue(1), parties(users(1))]), refused(1));
    assert_eq!(check(vec![parties(users(1)), parties(users(1))]), refused(1));
    let of = |operations| body(1, operations).parties().to_vec();
    assert_eq!(of(vec![parties(users(3)), issue(1)]), users(3));
    assert_eq!(of(vec![issue(1), parties(users(3))]), []);
}

#[test]
fn keys_of_all_operations_are_counted_together() {
    let sixteen = || shared(1, keys(16));
    let recover = |access| {
        let act = Act::Recover { user: UserId([1; 16]), access: Box::new(access) };
        let reason = Reason { code: "LOST".to_owned(), reference: String::new() };
        let order = Box::new(Order { act, reason, expires_ms: 0 });
        Operation::Act { order, evidence: vec![] }
    };
    // 511 × 16 + 14 = 8,190.
    let mut operations: Vec<Operation> = (0..511)
        .map(|n| if n % 2 == 0 { recover(sixteen()) } else { create_user(sixteen()) })
        .collect();
    operations.push(rotate(shared(1, keys(14))));
    assert_eq!(body(1, operations.clone()).check_shape(), Ok(()));
    operations.push(recover(Access::Single(key(1))));
    let refused = body(1, operations).check_shape().expect_err("too many keys");
    assert_eq!(refused.refusal, Refusal::TooLarge);
}

#[test]
fn version_then_count_then_the_first_bad_operation_decides() {
    let refused = |refusal, field: &str| Err(Refused::new(refusal, field));
    let too_many = vec![issue(0); OPERATIONS_MAX + 1];
    let version = refused(Refusal::UnsupportedVersion, "version");
    assert_eq!(body(0, vec![]).check_shape(), version);
    assert_eq!(body(2, too_many.clone()).check_shape(), version);
    assert_eq!(body(255, vec![issue(1)]).check_shape(), version);
    assert_eq!(body(1, vec![]).check_shape(), refused(Refusal::NoOperations, "operations"));
    assert_eq!(body(1, too_many).check_shape(), refused(Refusal::TooManyOperations, "operations"));
    assert_eq!(body(1, vec![issue(1); OPERATIONS_MAX]).check_shape(), Ok(()));
    // A later operation with an earlier refusal code does not overtake an earlier operation.
    let operations = vec![issue(1), pay(BOB, 1, "\n"), issue(0)];
    let expected = refused(Refusal::InvalidReference, "operations[1].reference");
    assert_eq!(body(1, operations).check_shape(), expected);
}

#[test]
fn a_refusal_says_what_is_wrong_and_where() {
    let refused = body(1, vec![issue(1), issue(0)]).check_shape().expect_err("must refuse");
    let text = refused.to_string();
    assert!(text.contains("zero_amount"), "{text}");
    assert!(text.contains("operations[1].amount"), "{text}");
}

proptest! {
    #![proptest_config(common::config(256, 8190))]

    #[test]
    fn a_body_is_well_shaped_exactly_when_each_of_its_operations_is(body in common::body()) {
        let mut body = body;
        body.version = 1;
        let alone = |operation: &Operation| {
            let operations = vec![operation.clone()];
            TransactionBody { operations, ..body.clone() }.check_shape()
        };
        // Parties that are good alone still have to come first.
        let good = |(at, operation): (usize, &Operation)| {
            alone(operation).is_ok() && (at == 0 || !matches!(operation, Operation::Parties { .. }))
        };
        let first = body.operations.iter().enumerate().position(|each| !good(each));
        match (first, body.check_shape()) {
            (None, Ok(())) => {}
            (None, Err(refused)) => prop_assert_eq!(refused.refusal, Refusal::NoOperations),
            (Some(at), Err(refused)) => {
                let place = format!("operations[{at}].");
                prop_assert!(refused.field.starts_with(&place), "{}", refused);
            }
            (Some(at), Ok(())) => prop_assert!(false, "operation {at} was let through"),
        }
    }
}
