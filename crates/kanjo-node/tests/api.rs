//! A node over real HTTP on loopback: bad input is refused by code, sentence and field and changes
//! nothing; order, replays, reads, proofs, streams, metrics, stop and start.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::{
    Answer, FIRST_BALANCE, HandClock, JPY, Model, NOON, VSM, World, access, balance, client,
    client_at, framed, get, is_done, key, load, load_at, look_up, must_end, post_binary, post_json,
    request, submit_all, transfer, wait_until,
};
use kanjo_api::{SUBMIT_BYTES_MAX, SUBMIT_TRANSACTIONS_MAX, SubmitOutcome, frames};
use kanjo_client::{Client, Page};
use kanjo_node::RunningNode;
use kanjo_proof::{Fact, ProofFile};
use kanjo_store::disk::RealDisk;
use kanjo_types::outcome::Refusal;
use kanjo_types::transaction::{OPERATIONS_MAX, REVERSAL_BYTES_MAX};
use kanjo_types::{
    Amount, Hash, Operation, Record, ResultCode, SignedTransaction, TokenId, TransactionBody,
    UserId, WalletId, codec,
};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The newest header: it commits to everything.
fn newest(client: &Client) -> (u64, Hash) {
    let status = client.status().expect("a status");
    (status.height, status.header_hash)
}

fn stop(node: RunningNode) {
    must_end("stop", move || node.stop()).expect("a clean stop");
}

fn json(transaction: &SignedTransaction) -> Vec<u8> {
    serde_json::to_vec(transaction).expect("json")
}

fn assert_refused(answer: &Answer, status: u16, code: &str, field: &str) {
    assert_eq!((answer.status, answer.code().as_str()), (status, code), "{}", answer.text());
    assert!(answer.field().contains(field), "field {field}: {}", answer.text());
}

#[test]
fn what_is_no_transaction_is_refused_by_name_and_changes_nothing() {
    let world = World::new(2);
    let node = world.start();
    let (client, address) = (client(&node), node.address());
    client.submit(&world.pay(0, 1, 1)).expect("final");
    let before = newest(&client);
    let good = String::from_utf8(json(&world.pay(0, 1, 2))).expect("text");
    let with = |from: &str, to: &str| {
        assert!(good.contains(from), "{from} in {good}");
        good.replace(from, to)
    };
    let deep = "[".repeat(200_000);
    let deep_object = "{\"body\":".repeat(50_000);
    let bodies = [
        String::new(),
        " ".to_owned(),
        "null".to_owned(),
        "[]".to_owned(),
        "{}".to_owned(),
        "\u{0}\u{1}\u{2}".to_owned(),
        "{\"body\": {}}".to_owned(),
        deep,
        deep_object,
        good[..good.len() - 1].to_owned(),
        format!("{good}{good}"),
        with("\"amount\":\"2\"", "\"amount\":2"),
        with("\"amount\":\"2\"", "\"amount\":\"-2\""),
        with("\"amount\":\"2\"", "\"amount\":\"2.0\""),
        with("\"amount\":\"2\"", "\"amount\":\"1e3\""),
        with("\"amount\":\"2\"", "\"amount\":1e400"),
        with("\"amount\":\"2\"", "\"amount\":\"340282366920938463463374607431768211456\""),
        with("\"amount\":\"2\"", &format!("\"amount\":\"{}\"", "9".repeat(100_000))),
        with("\"type\":\"transfer\"", "\"type\":\"mint\""),
        with("\"version\":1", "\"version\":256"),
        with("\"token\":1", "\"token\":4294967296"),
        with("\"token\":1", "\"token\":-1"),
        with("kjw1", "kju1"),
        with("\"signature\":\"", "\"signature\":\"00"),
    ];
    for body in &bodies {
        let answer = post_json(address, body.as_bytes());
        let shown: String = body.chars().take(80).collect();
        assert_eq!((answer.status, answer.code().as_str()), (422, "malformed"), "{shown}");
        assert!(!answer.field().is_empty() && answer.text().len() < 2_000, "{shown}");
    }
    let not_text = post_json(address, &[0xff, 0xfe, 0x80]);
    assert_refused(&not_text, 422, "malformed", "");
    for kind in ["text/plain", "", "application/xml", "multipart/form-data; boundary=x"] {
        let headers = [("content-type", kind)];
        let answer = request(address, "POST", "/v1/transactions", &headers, good.as_bytes());
        assert_refused(&answer, 415, "unsupported_media_type", "content-type");
    }
    assert_eq!(newest(&client), before, "nothing changed");
    assert!(is_done(&client.submit(&world.pay(0, 1, 2)).expect("the node goes on")));
    stop(node);
}

#[test]
fn frames_that_are_cut_too_many_or_too_large_are_refused_whole() {
    let world = World::new(2);
    let node = world.start();
    let (client, address) = (client(&node), node.address());
    let before = newest(&client);
    let good = framed(&[world.pay(0, 1, 1), world.pay(0, 1, 2)]);
    for cut in [1, 2, 3, good.len() / 2 - 1, good.len() / 2 + 1, good.len() / 2 + 4, good.len() - 1]
    {
        let answer = post_binary(address, &good[..cut]);
        assert_refused(&answer, 422, "malformed", "cut short");
    }
    let mut longer = good.clone();
    longer.extend([7, 0]);
    assert_refused(&post_binary(address, &longer), 422, "malformed", "cut short");
    let too_long = u32::try_from(REVERSAL_BYTES_MAX + 1).expect("fits").to_le_bytes();
    assert_refused(&post_binary(address, &too_long), 413, "too_large", "frame at byte 0");
    let endless = [&good[..], &[0xff; 8]].concat();
    assert_refused(&post_binary(address, &endless), 413, "too_large", "frame at byte");
    let too_many = vec![0; 4 * (SUBMIT_TRANSACTIONS_MAX + 1)];
    assert_refused(&post_binary(address, &too_many), 413, "too_large", "65,536");
    let oversized = vec![b' '; SUBMIT_BYTES_MAX + 1];
    assert_refused(&post_binary(address, &oversized), 413, "too_large", "request");
    assert_refused(&post_json(address, &oversized), 413, "too_large", "request");
    let nothing = post_binary(address, b"");
    assert_eq!((nothing.status, nothing.json()["outcomes"].clone()), (200, Value::Array(vec![])));
    let as_many_as_can_be = post_binary(address, &vec![0; 4 * SUBMIT_TRANSACTIONS_MAX]);
    let outcomes = as_many_as_can_be.json()["outcomes"].as_array().expect("outcomes").clone();
    assert_eq!(outcomes.len(), SUBMIT_TRANSACTIONS_MAX);
    assert!(outcomes.iter().all(|outcome| outcome["refusal"] == "malformed"));
    assert_eq!(newest(&client), before, "nothing changed");
    stop(node);
}

#[test]
fn bytes_that_are_not_canonical_are_refused_one_by_one() {
    let world = World::new(2);
    let node = world.start();
    let client = client(&node);
    let good = codec::to_bytes(&world.pay(0, 1, 3));
    let reference = good.windows(4).position(|bytes| bytes == b"test").expect("the reference");
    let altered = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        bytes
    };
    let bad = [
        altered(&|bytes| bytes.push(0)),
        altered(&|bytes| bytes.truncate(bytes.len() - 1)),
        altered(&|bytes| bytes[reference] = 0xff),
        altered(&|bytes| bytes[reference - 4] = 0xff),
        // The number of operations, then the kind of the first.
        altered(&|bytes| bytes[65..69].fill(0xff)),
        altered(&|bytes| bytes[69] = 200),
        vec![],
        vec![1],
        vec![0xff; 300],
    ];
    let mut request = Vec::new();
    for bytes in &bad {
        frames::append(bytes, &mut request);
    }
    frames::append(&good, &mut request);
    let outcomes = client.submit_frames(&request).expect("an answer").outcomes;
    assert_eq!(outcomes.len(), bad.len() + 1);
    for (number, outcome) in outcomes.iter().enumerate().take(bad.len()) {
        let SubmitOutcome::Refused { refusal, field } = outcome else { panic!("{outcome:?}") };
        assert_eq!(*refusal, Refusal::Malformed, "case {number}");
        assert!(!field.is_empty());
    }
    assert!(is_done(&outcomes[bad.len()]), "its neighbours' faults don't hurt the good one");
    assert_eq!(world.balances(&client), [FIRST_BALANCE - 3, FIRST_BALANCE + 3]);
    stop(node);
}

/// A transaction with its body changed before it is signed, so that only the change is wrong.
fn signed_with(world: &World, change: impl Fn(&mut TransactionBody)) -> SignedTransaction {
    let draft = world.draft(0).operation(world.transfer(0, 1, 5));
    let mut body = draft.body().expect("a body");
    change(&mut body);
    body.sign(&key(0))
}

fn with_operation(world: &World, operation: Operation) -> SignedTransaction {
    signed_with(world, |body| body.operations = vec![operation.clone()])
}

fn with_transfer(
    world: &World,
    change: impl Fn(&mut WalletId, &mut Amount, &mut String),
) -> SignedTransaction {
    signed_with(world, |body| {
        let Some(Operation::Transfer { to, amount, reference, .. }) = body.operations.first_mut()
        else {
            panic!("a transfer")
        };
        change(to, amount, reference);
    })
}

type Refused = (SignedTransaction, Refusal, u16, &'static str);

/// Refusals by what is said: the transaction, code, HTTP status, field.
fn refused_contents(world: &World) -> Vec<Refused> {
    use Refusal as R;
    let token = |symbol: &str, name: &str, decimals| {
        let (symbol, name, issuer) = (symbol.to_owned(), name.to_owned(), world.users[0]);
        with_operation(
            world,
            Operation::CreateToken {
                symbol,
                name,
                decimals,
                issuer,
                policy: Box::default(),
                grants: Vec::new(),
            },
        )
    };
    let operation = world.transfer(0, 1, 1);
    let too_many = vec![operation; OPERATIONS_MAX + 1];
    let shared = kanjo_types::Access::Shared { threshold: 0, keys: vec![] };
    let nobody = with_operation(world, Operation::CreateUser { access: shared, number: 0 });
    let from = world.wallets[0];
    let long = "x".repeat(65);
    let cases = [
        (signed_with(world, |b| b.version = 2), R::UnsupportedVersion, "version"),
        (signed_with(world, |b| b.chain.0.0[0] ^= 1), R::WrongChain, "chain"),
        (signed_with(world, |b| b.operations.clear()), R::NoOperations, "operations"),
        (
            signed_with(world, |b| b.operations.clone_from(&too_many)),
            R::TooManyOperations,
            "operations",
        ),
        (with_transfer(world, |_, a, _| a.0 = 0), R::ZeroAmount, "operations[0].amount"),
        (with_transfer(world, |to, _, _| *to = from), R::SameWallet, "operations[0].to"),
        (nobody, R::InvalidKeys, "operations[0].access"),
        (token("vsm", "x", 0), R::InvalidSymbol, "operations[0].symbol"),
        (token("ABCDEFGHIJKLM", "x", 0), R::InvalidSymbol, "operations[0].symbol"),
        (token("ABC", "", 0), R::InvalidName, "operations[0].name"),
        (token("ABC", "x", 31), R::InvalidDecimals, "operations[0].decimals"),
        (
            with_transfer(world, |_, _, text| text.clone_from(&long)),
            R::InvalidReference,
            "operations[0].reference",
        ),
        (
            with_transfer(world, |_, _, text| text.push('\n')),
            R::InvalidReference,
            "operations[0].reference",
        ),
    ];
    cases.into_iter().map(|(signed, refusal, field)| (signed, refusal, 422, field)).collect()
}

/// Refusals by time and by who signed.
fn refused_signatures(world: &World) -> Vec<Refused> {
    use Refusal as R;
    let until = |valid_until_ms| pay_until(world, valid_until_ms);
    let resigned = |change: &dyn Fn(&mut SignedTransaction)| {
        let mut signed = world.pay(0, 1, 5);
        change(&mut signed);
        signed
    };
    let now_ms = kanjo_client::now_ms();
    let field = "valid_until_ms";
    let stranger = signed_with(world, |body| body.author = UserId([9; 16]));
    let by_another = |signed: &mut SignedTransaction| {
        signed.signatures[0].signature = key(1).sign(&signed.body.id().0);
    };
    let flipped = |signed: &mut SignedTransaction| signed.signatures[0].signature[9] ^= 4;
    let changed = |signed: &mut SignedTransaction| signed.body.salt ^= 1;
    let unsigned = |signed: &mut SignedTransaction| signed.signatures.clear();
    let twice = |signed: &mut SignedTransaction| signed.signatures = vec![signed.signatures[0]; 2];
    let other_key = |signed: &mut SignedTransaction| signed.signatures[0].key = 1;
    vec![
        (until(0), R::Expired, 422, field),
        (until(now_ms - 60_000), R::Expired, 422, field),
        (until(now_ms + 2 * 86_400_000), R::ValidTooLong, 422, field),
        (until(u64::MAX), R::ValidTooLong, 422, field),
        (stranger, R::UnknownAuthor, 403, "author"),
        (resigned(&unsigned), R::SignatureCount, 422, "signatures"),
        (resigned(&twice), R::SignatureCount, 422, "signatures"),
        (resigned(&other_key), R::UnknownKey, 422, "signatures[0]"),
        (resigned(&flipped), R::BadSignature, 403, "signatures[0]"),
        (resigned(&changed), R::BadSignature, 403, "signatures[0]"),
        (resigned(&by_another), R::BadSignature, 403, "signatures[0]"),
    ]
}

#[test]
fn each_bad_transaction_has_its_stable_code_and_field_and_changes_nothing() {
    let world = World::new(2);
    let node = world.start();
    let (client, address) = (client(&node), node.address());
    let before = newest(&client);
    let mut cases = refused_contents(&world);
    cases.extend(refused_signatures(&world));
    for (transaction, refusal, status, field) in &cases {
        let answer = post_json(address, &json(transaction));
        assert_refused(&answer, *status, refusal.code(), field);
        assert_eq!(answer.json()["message"], refusal.sentence());
    }
    // The same in one binary request, around one good payment.
    let mut transactions: Vec<SignedTransaction> =
        cases.iter().map(|(transaction, ..)| transaction.clone()).collect();
    assert_eq!(newest(&client), before, "nothing changed");
    transactions.insert(7, world.pay(0, 1, 9));
    let mut outcomes = submit_all(&client, &transactions);
    assert!(is_done(&outcomes.remove(7)));
    for ((_, expected, _, place), outcome) in cases.iter().zip(outcomes) {
        let SubmitOutcome::Refused { refusal, field } = outcome else { panic!("{outcome:?}") };
        assert_eq!(refusal, *expected);
        assert!(field.contains(place), "{field} for {refusal}");
    }
    assert_eq!(world.balances(&client), [FIRST_BALANCE - 9, FIRST_BALANCE + 9]);
    assert_eq!(newest(&client).0, before.0 + 1, "one block for the one payment");
    stop(node);
    world.assert_audit_clean(Arc::new(RealDisk));
}

#[test]
fn what_the_rules_forbid_is_recorded_as_failed_and_moves_nothing() {
    let world = World::new(3);
    let node = world.start();
    let (client, address) = (client(&node), node.address());
    let state_root = |client: &Client| {
        let height = client.status().expect("a status").height;
        client.block(height).expect("a block").header.state_root
    };
    let before = state_root(&client);
    let [w0, w1, w2] = [0, 1, 2].map(|n| world.wallets[n]);
    let nowhere = WalletId([3; 16]);
    let issue = |to, amount| Operation::Issue { token: VSM, to, amount: Amount(amount) };
    let symbol = |symbol: &str| Operation::CreateToken {
        symbol: symbol.to_owned(),
        name: "name".to_owned(),
        decimals: 2,
        issuer: world.users[0],
        policy: Box::default(),
        grants: Vec::new(),
    };
    let of_token = |token, from, to| Operation::Transfer {
        token: TokenId(token),
        from,
        to,
        amount: Amount(1),
        reference: String::new(),
    };
    use ResultCode as C;
    let cases: Vec<(usize, Operation, ResultCode)> = vec![
        (1, symbol("NEW"), C::NotPermitted),
        (0, Operation::CreateUser { access: access(1), number: 0 }, C::UserExists),
        (0, Operation::CreateWallet { owner: UserId([4; 16]), number: 0 }, C::UnknownUser),
        (0, Operation::RotateKeys { user: world.users[1], access: access(7) }, C::NotYourUser),
        (0, Operation::CreateWallet { owner: world.users[0], number: 0 }, C::WalletExists),
        (0, symbol("JPY"), C::SymbolTaken),
        (0, of_token(3, w0, w1), C::UnknownToken),
        (0, of_token(0, w0, w1), C::UnknownToken),
        (0, of_token(u32::MAX, w0, w1), C::UnknownToken),
        (0, transfer(nowhere, w1, 1), C::UnknownSourceWallet),
        (0, transfer(w0, nowhere, 1), C::UnknownTargetWallet),
        (0, transfer(w0, WalletId([0; 16]), 1), C::UnknownTargetWallet),
        (0, transfer(w0, WalletId([0xff; 16]), 1), C::UnknownTargetWallet),
        (1, issue(w1, 5), C::NotIssuer),
        (0, transfer(w1, w2, 1), C::NotWalletOwner),
        (0, transfer(w0, w1, FIRST_BALANCE + 1), C::InsufficientFunds),
        (0, transfer(w0, w1, u128::MAX), C::InsufficientFunds),
        (0, issue(w0, u128::MAX), C::BalanceOverflow),
        (0, issue(w0, u128::MAX - FIRST_BALANCE), C::SupplyOverflow),
    ];
    for (author, operation, expected) in cases {
        // First a leg that would be fine alone: all or nothing.
        let fine = world.transfer(author, (author + 1) % 3, 1);
        let transaction = world.sign(author, vec![fine, operation]);
        let answer = post_json(address, &json(&transaction)).json();
        assert_eq!(answer["result"], expected.code(), "{answer}");
        assert_eq!(
            (&answer["outcome"], &answer["failed_operation"]),
            (&"recorded".into(), &1.into())
        );
        assert_eq!(state_root(&client), before, "{expected:?} moves nothing");
        // A failed id never succeeds later.
        let again = post_json(address, &json(&transaction));
        assert_refused(&again, 409, "already_used", "id");
    }
    assert_eq!(world.balances(&client), [FIRST_BALANCE; 3]);
    stop(node);
    world.assert_audit_clean(Arc::new(RealDisk));
}

#[test]
fn amounts_at_the_edge_of_u128_are_exact() {
    let world = World::new(2);
    let node = world.start();
    let client = client(&node);
    let rest = u128::MAX - 2 * FIRST_BALANCE;
    let issue = |amount| Operation::Issue { token: JPY, to: world.wallets[0], amount };
    let all = world.sign(0, vec![issue(Amount(rest))]);
    assert!(is_done(&client.submit(&all).expect("final")));
    let one_more = world.sign(0, vec![issue(Amount(1))]);
    let SubmitOutcome::Recorded { result, .. } = client.submit(&one_more).expect("final") else {
        panic!("recorded")
    };
    assert_eq!(result, ResultCode::SupplyOverflow);
    assert_eq!(balance(&client, world.wallets[0], JPY), rest + FIRST_BALANCE);
    assert_eq!(client.token(JPY).expect("a token").supply.0, u128::MAX);
    let everything = Operation::Transfer {
        token: JPY,
        from: world.wallets[0],
        to: world.wallets[1],
        amount: Amount(rest + FIRST_BALANCE),
        reference: String::new(),
    };
    assert!(is_done(&client.submit(&world.sign(0, vec![everything])).expect("final")));
    assert_eq!(balance(&client, world.wallets[1], JPY), u128::MAX);
    stop(node);
    world.assert_audit_clean(Arc::new(RealDisk));
}

fn refusals(outcomes: &[SubmitOutcome], refusal: Refusal) -> usize {
    let is = |outcome: &&SubmitOutcome| matches!(outcome, SubmitOutcome::Refused { refusal: found, .. } if *found == refusal);
    outcomes.iter().filter(is).count()
}

#[test]
fn the_same_bytes_are_recorded_once_however_they_are_sent() {
    let world = World::new(3);
    let node = world.start();
    let client = client(&node);
    let mut paid = 0;
    // Twice in one request, next to each other, and far apart in different jobs.
    let payment = world.pay(0, 1, 1);
    let mut request = vec![payment.clone(), payment.clone()];
    request.extend((0..1_200).map(|_| world.pay(2, 1, 1)));
    request.push(payment.clone());
    let outcomes = submit_all(&client, &request);
    assert_eq!(refusals(&outcomes, Refusal::AlreadyUsed), 2);
    assert!(is_done(&outcomes[0]), "the first one counts");
    paid += 1;
    // In requests of several threads at once.
    for _ in 0..15 {
        let payments: Vec<_> = (0..20).map(|_| world.pay(0, 1, 1)).collect();
        let outcomes: Vec<SubmitOutcome> = std::thread::scope(|scope| {
            let send = || submit_all(&client, &payments);
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(send)).collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("sent")).collect()
        });
        assert_eq!(outcomes.iter().filter(|outcome| is_done(outcome)).count(), 20);
        assert_eq!(refusals(&outcomes, Refusal::AlreadyUsed), 60);
        paid += 20;
    }
    // With another signature by the same key over the same body: the id is the body's.
    let mut resigned = payment.clone();
    resigned.signatures[0].signature[0] ^= 1;
    let error = client.submit(&resigned).expect_err("refused");
    assert!(["already_used", "bad_signature"].contains(&error.code().unwrap_or_default()));
    // After a restart, from checkpoints and from the log alone.
    let address = node.address();
    let found = look_up(&client_at(address), payment.body.id());
    stop(node);
    for _ in 0..2 {
        let node = world.start();
        let client = common::client(&node);
        assert_eq!(client.submit(&payment).expect_err("refused").code(), Some("already_used"));
        assert_eq!(look_up(&client, payment.body.id()), found, "as it was recorded");
        assert_eq!(balance(&client, world.wallets[0], VSM), FIRST_BALANCE - paid);
        stop(node);
        std::fs::remove_dir_all(world.data().join("checkpoints")).expect("removed");
    }
}

#[test]
fn a_request_keeps_its_order_across_jobs() {
    const LENGTH: usize = 2_600;
    let world = World::new(2);
    let node = world.start();
    let client = client(&node);
    // A banknote of one wallet goes round: each payer has only what it has just received.
    let keys: Vec<_> = (0..4).map(|n| key(500 + n)).collect();
    let user = |n: u64| UserId::derive(world.chain, &access(500 + n), 0);
    let users: Vec<UserId> = (0..4).map(user).collect();
    let wallets: Vec<WalletId> =
        users.iter().map(|user| WalletId::derive(world.chain, *user, 0)).collect();
    for (number, owner) in (0..4u64).zip(&users) {
        let create = vec![
            Operation::CreateUser { access: access(500 + number), number: 0 },
            Operation::CreateWallet { owner: *owner, number: 0 },
        ];
        assert!(is_done(&client.submit(&world.sign(0, create)).expect("final")));
    }
    let note = 77_777;
    let mut request = vec![world.sign(0, vec![transfer(world.wallets[0], wallets[0], note)])];
    for step in 0..LENGTH {
        let (from, to) = (step % 4, (step + 1) % 4);
        let draft = kanjo_client::Draft::new(world.chain, users[from]);
        let draft = draft.operation(transfer(wallets[from], wallets[to], note));
        request.push(draft.sign(&keys[from]).expect("signed"));
    }
    let outcomes = submit_all(&client, &request);
    let failed: Vec<_> = outcomes.iter().filter(|outcome| !is_done(outcome)).collect();
    assert!(failed.is_empty(), "{} of {}: {:?}", failed.len(), request.len(), failed.first());
    let places: Vec<_> = outcomes
        .iter()
        .map(|outcome| match outcome {
            SubmitOutcome::Recorded { height, position, .. } => (*height, *position),
            SubmitOutcome::Refused { .. } => unreachable!("all were done"),
        })
        .collect();
    assert!(places.is_sorted_by(|a, b| a < b), "one after the other");
    assert_eq!(balance(&client, wallets[LENGTH % 4], VSM), note);
    stop(node);
    world.assert_audit_clean(Arc::new(RealDisk));
}

fn proven(world: &World, text: &str) -> Fact {
    let file = ProofFile::from_json(text).expect("a proof file");
    file.check(&world.genesis).expect("the proof checks").fact
}

#[test]
fn what_was_answered_is_seen_at_once_by_every_read_and_proof() {
    let world = World::new(3);
    let node = world.start();
    let client = client(&node);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Others pay at the same time, so that blocks overlap.
        let noise = scope.spawn(|| {
            for n in 0..100_000 {
                let sent = client_at(node.address()).submit(&world.pay(1, 2, 1));
                if n > 0 && over.load(Ordering::Relaxed) {
                    break;
                }
                sent.expect("final");
            }
        });
        for round in 1..=60u128 {
            let payment = world.pay(0, 1, 1);
            let outcome = client.submit(&payment).expect("final");
            assert_eq!(balance(&client, world.wallets[0], VSM), FIRST_BALANCE - round);
            let wanted = u64::try_from(round).expect("fits") + 1;
            let state = client.wallet_state(world.wallets[0], VSM, None).expect("a state");
            let Record::WalletState(record) = &state.record else { panic!("{state:?}") };
            assert_eq!((record.version, record.balance.0), (wanted, FIRST_BALANCE - round));
            let page = Page { before: None, limit: Some(2) };
            let history = client.history(world.wallets[0], VSM, page).expect("a history");
            assert_eq!(history.versions[0], state);
            assert_eq!(look_up(&client, payment.body.id()), Some(outcome.clone()));
            let text = client.proof_of_state(world.wallets[0], VSM, None).expect("a proof");
            assert_eq!(proven(&world, &text), Fact::State { record: state.record.clone() });
            let text = client.proof_of_transaction(payment.body.id()).expect("a proof");
            let Fact::Transaction { transaction, receipt, .. } = proven(&world, &text) else {
                panic!("a transaction")
            };
            assert_eq!((transaction, receipt.result), (payment, ResultCode::Ok));
            let SubmitOutcome::Recorded { height, .. } = outcome else { panic!("recorded") };
            assert!(client.status().expect("a status").height >= height);
            assert_eq!(client.block(height).expect("a block").header.height, height);
        }
        over.store(true, Ordering::Relaxed);
        noise.join().expect("noise");
    });
    stop(node);
}

#[test]
fn proofs_of_a_hammered_wallet_always_check() {
    let world = World::new(4);
    let node = world.start();
    let (address, over) = (node.address(), AtomicBool::new(false));
    let wallet = world.wallets[1];
    std::thread::scope(|scope| {
        let loads = scope.spawn(|| load_at(&world, address, 3, 100_000, &over));
        let client = client_at(address);
        // The first payment may take its time: before it the ledger has nothing it could extend.
        while client.proof_of_state(wallet, VSM, Some(2)).is_err() {
            assert!(!loads.is_finished(), "the load ended before a payment was final");
            std::thread::sleep(Duration::from_millis(10));
        }
        let (mut height, mut version) = (0, 0);
        for round in 0..60 {
            let text = client.proof_of_wallet(wallet).expect("a proof");
            let file = ProofFile::from_json(&text).expect("a proof file");
            let statement = file.check(&world.genesis).expect("it checks");
            assert!(statement.at.height >= height, "time does not run backwards");
            height = statement.at.height;
            let Fact::Wallet { states, .. } = statement.fact else { panic!("a wallet") };
            assert_eq!(states.len(), 2);
            assert!(states[0].version >= version);
            version = states[0].version;
            let text = client.proof_of_state(wallet, VSM, Some(1 + version / 2)).expect("a proof");
            assert!(matches!(proven(&world, &text), Fact::Version { .. } | Fact::State { .. }));
            let absent = client.proof_of_wallet(WalletId([round + 1; 16])).expect("a proof");
            assert!(matches!(proven(&world, &absent), Fact::Absence { .. }));
            let text = client.proof_of_extension(0, height).expect("a proof");
            assert!(matches!(proven(&world, &text), Fact::Extends { .. }));
        }
        over.store(true, Ordering::Relaxed);
        let model = loads.join().expect("load");
        assert!(model.unknown.is_empty());
        assert!(version > 1, "it was being paid all the time");
    });
    stop(node);
}

#[test]
fn every_kind_of_proof_checks_from_the_genesis_alone() {
    let world = World::new(3);
    let node = world.start();
    let client = client(&node);
    let payment = world.pay(0, 1, 1);
    client.submit(&payment).expect("final");
    client.submit(&world.pay(1, 2, 1)).expect("final");
    let proofs = [
        client.proof_of_wallet(world.wallets[0]),
        client.proof_of_state(world.wallets[0], VSM, None),
        client.proof_of_state(world.wallets[0], VSM, Some(1)),
        client.proof_of_state(world.wallets[0], TokenId(9), None),
        client.proof_of_user(world.users[2]),
        client.proof_of_user(UserId([1; 16])),
        client.proof_of_user(UserId([0xff; 16])),
        client.proof_of_wallet(WalletId([0xff; 16])),
        client.proof_of_token(VSM),
        client.proof_of_token(TokenId(77)),
        client.proof_of_transaction(payment.body.id()),
        client.proof_of_block(0),
        client.proof_of_block(1),
        client.proof_of_block(2),
        client.proof_of_extension(0, 2),
        client.proof_of_extension(1, 2),
    ];
    for text in proofs {
        let text = text.expect("a proof");
        proven(&world, &text);
        let other = common::genesis("Another ledger", 3, common::VOTE_SECRET);
        let file = ProofFile::from_json(&text).expect("a proof file");
        file.check(&other).expect_err("not of another ledger");
    }
    stop(node);
}

/// A path of the document with its parameters filled in.
fn sample(path: &str, world: &World, payment: &SignedTransaction) -> String {
    let id = match path {
        _ if path.contains("/wallets/") => world.wallets[0].to_string(),
        _ if path.contains("/users/") => world.users[0].to_string(),
        _ if path.contains("/tokens/") => "1".to_owned(),
        _ => payment.body.id().to_string(),
    };
    let filled = path.replace("{id}", &id).replace("{token}", "1").replace("{height}", "1");
    let filled = filled.replace("{epoch}", "0");
    if path.ends_with("/records/{table}") {
        return filled.replace("{table}", "acts") + "?of=1";
    }
    let wallet = world.wallets[0].to_string();
    let filled = filled.replace("{table}", "wallets").replace("{key}", &wallet);
    if path.ends_with("/extends") { format!("{filled}?from=0&to=1") } else { filled }
}

/// The status of a GET whose answer may not end.
fn status_of(address: SocketAddr, path: &str) -> u16 {
    let mut stream = TcpStream::connect(address).expect("a connection");
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n").expect("sent");
    let mut start = [0u8; 12];
    stream.read_exact(&mut start).expect("a status line");
    String::from_utf8_lossy(&start[9..12]).parse().expect("a status")
}

fn refs_of(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                if let ("$ref", Some(reference)) = (name.as_str(), field.as_str()) {
                    found.insert(reference.to_owned());
                }
                refs_of(field, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| refs_of(item, found)),
        _ => {}
    }
}

#[test]
fn the_openapi_document_and_the_router_agree() {
    let world = World::new(2);
    let node = world.start();
    let (client, address) = (client(&node), node.address());
    let payment = world.pay(0, 1, 1);
    client.submit(&payment).expect("final");
    let document = get(address, "/v1/openapi.json");
    assert_eq!(document.status, 200);
    let document = document.json();
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.")));
    let mut references = BTreeSet::new();
    refs_of(&document, &mut references);
    for reference in &references {
        let pointer = reference.strip_prefix('#').expect("a reference inside the document");
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    let paths = document["paths"].as_object().expect("paths");
    let mut ids = BTreeSet::new();
    for (path, item) in paths {
        for (method, operation) in item.as_object().expect("operations") {
            let id = operation["operationId"].as_str().expect("an operation id");
            assert!(ids.insert(format!("{method} {id} {}", operation["tags"])), "{id} twice");
            assert!(operation["responses"].as_object().is_some_and(|all| !all.is_empty()));
            let named = operation["parameters"].as_array().cloned().unwrap_or_default();
            for parameter in path.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
                assert!(named.iter().any(|p| p["name"] == parameter), "{path}: {parameter}");
            }
        }
        if item.get("get").is_some() {
            let path = sample(path, &world, &payment);
            assert_eq!(status_of(address, &path), 200, "{path}");
        } else {
            let answer = get(address, path);
            assert_refused(&answer, 405, "method_not_allowed", "method");
        }
    }
    // Whatever the router serves is described.
    let source = include_str!("../src/http/mod.rs");
    let routes = source.split(".route(\"").skip(1).filter_map(|rest| rest.split('"').next());
    let mut served = 0;
    for route in routes {
        let described = paths.contains_key(route) || paths.contains_key(&format!("/v1{route}"));
        assert!(described, "{route} is not in the document");
        served += 1;
    }
    assert_eq!(served, paths.len(), "and nothing else is described");
    stop(node);
}

#[test]
fn wrong_paths_methods_and_parameters_are_refused_by_name() {
    let world = World::new(2);
    let node = world.start();
    let address = node.address();
    let wallet = world.wallets[0];
    let cases = [
        ("GET", "/nothing".to_owned(), 404, "unknown_path"),
        ("GET", "/v1".to_owned(), 404, "unknown_path"),
        ("GET", "/v1/nothing".to_owned(), 404, "unknown_path"),
        ("GET", "/v1/../etc/passwd".to_owned(), 404, "unknown_path"),
        ("DELETE", "/v1/status".to_owned(), 405, "method_not_allowed"),
        ("PUT", "/v1/transactions".to_owned(), 405, "method_not_allowed"),
        ("GET", "/v1/wallets/xyz".to_owned(), 400, "bad_request"),
        ("GET", format!("/v1/wallets/{}", world.users[0]), 400, "bad_request"),
        ("GET", format!("/v1/wallets/{}", WalletId([7; 16])), 404, "unknown_wallet"),
        ("GET", format!("/v1/wallets/{wallet}/states/99"), 404, "unknown_state"),
        ("GET", format!("/v1/wallets/{wallet}/states/x"), 400, "bad_request"),
        ("GET", format!("/v1/wallets/{wallet}/states/99999999999"), 400, "bad_request"),
        ("GET", format!("/v1/wallets/{wallet}/states/1?version=9"), 404, "unknown_state"),
        ("GET", format!("/v1/wallets/{wallet}/states/1?version=0"), 404, "unknown_state"),
        ("GET", format!("/v1/users/{}", UserId([7; 16])), 404, "unknown_user"),
        ("GET", "/v1/tokens/77".to_owned(), 404, "unknown_token"),
        ("GET", "/v1/tokens/0".to_owned(), 404, "unknown_token"),
        ("GET", "/v1/blocks/999".to_owned(), 404, "unknown_block"),
        ("GET", "/v1/blocks/-1".to_owned(), 400, "bad_request"),
        ("GET", "/v1/blocks/18446744073709551615".to_owned(), 404, "unknown_block"),
        ("GET", "/v1/blocks/99999999999999999999999".to_owned(), 400, "bad_request"),
        ("GET", format!("/v1/transactions/{}", "00".repeat(32)), 404, "unknown_transaction"),
        ("GET", "/v1/transactions/00".to_owned(), 400, "bad_request"),
        ("GET", "/v1/proofs/extends?from=5&to=2".to_owned(), 400, "bad_request"),
        ("GET", "/v1/proofs/extends?from=0&to=99".to_owned(), 404, "unknown_block"),
        ("GET", "/v1/proofs/blocks/99".to_owned(), 404, "unknown_block"),
        ("GET", "/v1/proofs/tokens/0".to_owned(), 400, "bad_request"),
        ("GET", format!("/v1/proofs/wallets/{}", WalletId([0; 16])), 400, "bad_request"),
        ("GET", format!("/v1/proofs/users/{}", UserId([0; 16])), 400, "bad_request"),
        ("GET", format!("/v1/proofs/transactions/{}", "00".repeat(32)), 404, "unknown_transaction"),
        ("GET", format!("/v1/stream/wallets/{}", WalletId([7; 16])), 404, "unknown_wallet"),
    ];
    for (method, path, status, code) in cases {
        let answer = request(address, method, &path, &[], b"");
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{method} {path}");
        assert!(!answer.field().is_empty(), "{path}");
    }
    // Parameters of the wrong kind are JSON errors too, with a code.
    for path in [
        "/v1/blocks?limit=x".to_owned(),
        "/v1/blocks?before=-4".to_owned(),
        "/v1/proofs/extends".to_owned(),
        "/v1/proofs/extends?from=x".to_owned(),
        "/v1/stream/blocks?from=x".to_owned(),
        format!("/v1/wallets/{wallet}/history?token=x"),
        format!("/v1/wallets/{wallet}/states/1?version=x"),
        "/v1/users/%ff".to_owned(),
    ] {
        let answer = get(address, &path);
        assert_eq!((answer.status, answer.code().as_str()), (400, "bad_request"), "{path}");
    }
    // Pages are bounded, whatever is asked for.
    for limit in ["0", "1000000", "18446744073709551615"] {
        let page = get(address, &format!("/v1/blocks?limit={limit}"));
        assert_eq!(page.status, 200, "{}", page.text());
    }
    let page = get(address, "/v1/blocks?before=0").json();
    assert_eq!(page["blocks"].as_array().map(Vec::len), Some(0));
    stop(node);
}

/// Samples of the metrics text by name and labels.
fn metrics(address: SocketAddr) -> Vec<(String, f64)> {
    let text = get(address, "/metrics").text();
    assert!(text.ends_with("# EOF\n"), "the end is marked");
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let parse = |line: &str| {
        let (name, value) = line.rsplit_once(' ').expect("name and value");
        let plain = name.split('{').next().unwrap_or_default();
        let fine = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        assert!(!plain.is_empty() && plain.chars().all(fine), "{line}");
        (name.to_owned(), value.parse().unwrap_or_else(|error| panic!("{line}: {error}")))
    };
    samples.map(parse).collect()
}

#[test]
fn metrics_parse_and_counters_move_with_what_happens() {
    let world = World::new(3);
    let node = world.start();
    let (client, address) = (client(&node), node.address());
    let value = |samples: &[(String, f64)], wanted: &str| {
        let sample = samples.iter().find(|(name, _)| name == wanted);
        sample.unwrap_or_else(|| panic!("no {wanted} in {samples:?}")).1
    };
    let before = metrics(address);
    let names: BTreeSet<&String> = before.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), before.len(), "no sample twice");
    submit_all(&client, &[world.pay(0, 1, 1), world.pay(0, 1, 1), world.pay(1, 2, u128::MAX)]);
    let used = world.pay(2, 1, 1);
    client.submit(&used).expect("final");
    client.submit(&used).expect_err("already used");
    let after = metrics(address);
    let moved = |name: &str| value(&after, name) - value(&before, name);
    let exactly = |name: &str, by: u32| {
        assert!((moved(name) - f64::from(by)).abs() < 0.5, "{name} moved by {}", moved(name));
    };
    exactly("kanjo_transactions_total", 4);
    exactly("kanjo_refused_total", 1);
    exactly("kanjo_blocks_total", 2);
    exactly("kanjo_height", 2);
    assert!(moved("kanjo_log_bytes_total") > 500.0);
    assert!(moved("kanjo_requests_total") >= 4.0);
    assert!(moved("kanjo_cpu_seconds_total") >= 0.0);
    assert!((value(&after, "kanjo_running") - 1.0).abs() < 0.1);
    assert!(value(&after, "kanjo_in_flight") < 0.5, "nothing is under way");
    assert!(value(&after, "process_resident_memory_bytes") > 1e6);
    assert_eq!(get(address, "/health/live").text(), "live\n");
    let ready = get(address, "/health/ready");
    assert_eq!((ready.status, ready.text().as_str()), (200, "ready\n"));
    stop(node);
}

#[test]
fn streams_leave_nothing_out_while_load_runs() {
    let world = World::new(4);
    let node = world.start();
    let address = node.address();
    let wallet = world.wallets[1];
    submit_all(&client(&node), &(0..40).map(|_| world.pay(0, 2, 1)).collect::<Vec<_>>());
    let mut changes = client(&node).stream_wallet(wallet).expect("a stream");
    let mut blocks = client(&node).stream_blocks(Some(0)).expect("a stream");
    let mut live = client(&node).stream_blocks(None).expect("a stream");
    let mut model = load(&world, &node, 3, 60);
    // Large blocks too, and one last change that marks the end.
    let client = client_at(address);
    for _ in 0..4 {
        let many: Vec<_> = (0..700).map(|n| world.pay(n % 2, 3, 1)).collect();
        submit_all(&client, &many);
    }
    let last = client.submit(&world.pay(3, 1, 1)).expect("final");
    let SubmitOutcome::Recorded { height: last, .. } = last else { panic!("recorded") };
    let page = Page { before: None, limit: Some(1_000) };
    let newest = client.history(wallet, VSM, page).expect("a history").versions;
    let Record::WalletState(newest) = &newest[0].record else { panic!("a state") };
    let seen = must_end("the streams", move || {
        let mut transactions = 0;
        for height in 0..=last {
            let block = blocks.next().expect("open").expect("a block");
            assert_eq!(block.height, height, "no gap, no repetition");
            transactions += u64::from(block.transactions);
        }
        let first = live.next().expect("open").expect("a block").height;
        for height in first + 1..=last {
            assert_eq!(live.next().expect("open").expect("a block").height, height);
        }
        let mut states = Vec::new();
        loop {
            let view = changes.next().expect("open").expect("a change").version;
            let at = (view.height, view.position);
            let Record::WalletState(state) = view.record else { panic!("a state") };
            states.push((at, state));
            if at.0 == last {
                return (transactions, states);
            }
        }
    });
    let (transactions, states) = seen;
    assert_eq!(transactions, client.status().expect("a status").transactions);
    let versions: Vec<u64> = states.iter().map(|(_, state)| state.version).collect();
    assert_eq!(versions, (2..=newest.version).collect::<Vec<_>>(), "every change, in order");
    assert!(states.is_sorted_by(|(a, _), (b, _)| a < b));
    let linked = states.iter().zip(states.iter().skip(1));
    for ((_, older), (_, newer)) in linked {
        assert_eq!(newer.previous, Record::WalletState(older.clone()).hash());
    }
    model.unknown.clear();
    stop(node);
}

#[test]
fn a_stream_of_a_stopping_node_ends() {
    let world = World::new(2);
    let node = world.start();
    let mut blocks = client(&node).stream_blocks(Some(0)).expect("a stream");
    let mut changes = client(&node).stream_wallet(world.wallets[0]).expect("a stream");
    assert!(blocks.next().expect("open").is_ok());
    stop(node);
    let ended = must_end("the streams", move || (blocks.next(), changes.next()));
    assert!(matches!(ended, (Some(Err(_)), Some(Err(_)))));
}

#[test]
fn a_stopped_node_continues_where_it_was() {
    let world = World::new(4);
    let mut model = Model::default();
    let mut height = 0;
    for round in 0..5 {
        let node = world.start();
        assert!(node.height() >= height, "nothing final is taken back");
        model.check(&world, &client(&node));
        model.merge(load(&world, &node, 2, 10));
        height = node.height();
        stop(node);
        if round == 2 {
            std::fs::remove_dir_all(world.data().join("index")).expect("removed");
        }
    }
    world.assert_audit_clean(Arc::new(RealDisk));
}

#[test]
fn a_stop_under_load_answers_or_refuses_everyone() {
    let world = World::new(5);
    let mut model = Model::default();
    for round in 0..6 {
        let node = world.start();
        model.check(&world, &client(&node));
        let (address, over) = (node.address(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let loads = scope.spawn(|| load_at(&world, address, 4, 100_000, &over));
            let before = node.height();
            wait_until("load runs", || node.height() > before + 5 + round);
            stop(node);
            over.store(true, Ordering::Relaxed);
            model.merge(loads.join().expect("load"));
        });
    }
    let node = world.start();
    model.check(&world, &client(&node));
    stop(node);
    world.assert_audit_clean(Arc::new(RealDisk));
}

fn pay_until(world: &World, valid_until_ms: u64) -> SignedTransaction {
    signed_with(world, |body| body.valid_until_ms = valid_until_ms)
}

#[test]
fn validity_ends_and_begins_at_the_very_millisecond() {
    let world = World::new(2);
    let clock = HandClock::at(NOON);
    let node = world.start_with_clock(clock.clone());
    let client = client(&node);
    let window = world.genesis.rules.replay_window_ms;
    let code = |valid_until_ms| {
        let outcome = client.submit(&pay_until(&world, valid_until_ms));
        outcome.map_or_else(|error| error.code().unwrap_or("none").to_owned(), |_| String::new())
    };
    assert_eq!(code(NOON - 1), "expired");
    assert_eq!(code(NOON), "");
    assert_eq!(code(NOON + window), "");
    assert_eq!(code(NOON + window + 1), "valid_too_long");
    // The ledger's time never goes back, whatever the clock does.
    clock.set(NOON - 500_000);
    assert_eq!(code(NOON - 1), "expired");
    assert_eq!(code(NOON), "");
    let block = client.block(node.height()).expect("a block");
    assert_eq!(block.header.time_ms, NOON);
    stop(node);
}

#[test]
fn a_clock_that_jumps_ahead_and_back_does_not_let_a_payment_in_twice() {
    let world = World::new(2);
    let clock = HandClock::at(NOON);
    let node = world.start_with_clock(clock.clone());
    let payment = pay_until(&world, NOON + 60_000);
    assert!(is_done(&client(&node).submit(&payment).expect("final")));
    // The clock jumps far ahead. Only refused transactions come, so no block is made at that time.
    clock.set(NOON + 10_000_000);
    let late = pay_until(&world, NOON + 1);
    let error = client(&node).submit(&late).expect_err("expired by then");
    assert_eq!(error.code(), Some("expired"));
    // It is set back. The id must not have been forgotten.
    clock.set(NOON + 5);
    let error = client(&node).submit(&payment).expect_err("never twice");
    assert!(["already_used", "expired"].contains(&error.code().unwrap_or_default()), "{error}");
    assert_eq!(balance(&client(&node), world.wallets[0], VSM), FIRST_BALANCE - 5);
    stop(node);
    // And not after a restart either, from the checkpoints written meanwhile.
    let node = world.start_with_clock(clock);
    let error = client(&node).submit(&payment).expect_err("never twice");
    assert!(["already_used", "expired"].contains(&error.code().unwrap_or_default()), "{error}");
    assert_eq!(balance(&client(&node), world.wallets[0], VSM), FIRST_BALANCE - 5);
    stop(node);
    world.assert_audit_clean(Arc::new(RealDisk));
}

#[test]
fn a_user_made_in_a_request_pays_in_the_same_request() {
    let world = World::new(2);
    let node = world.start();
    let client = client(&node);
    let user = UserId::derive(world.chain, &access(900), 0);
    let wallet = WalletId::derive(world.chain, user, 0);
    let register = vec![
        Operation::CreateUser { access: access(900), number: 0 },
        Operation::CreateWallet { owner: user, number: 0 },
    ];
    let by_newcomer = |operations| {
        let draft = kanjo_client::Draft::new(world.chain, user).operations(operations);
        draft.sign(&key(900)).expect("signed")
    };
    let pays = by_newcomer(vec![transfer(wallet, world.wallets[1], 4)]);
    let request = [
        by_newcomer(register),
        world.sign(0, vec![transfer(world.wallets[0], wallet, 10)]),
        pays.clone(),
    ];
    let outcomes = submit_all(&client, &request);
    assert!(outcomes.iter().all(is_done), "{outcomes:?}");
    assert_eq!(balance(&client, wallet, VSM), 6);
    stop(node);
    world.assert_audit_clean(Arc::new(RealDisk));
}

#[test]
fn new_keys_count_from_the_next_transaction_of_the_same_request_on() {
    let world = World::new(2);
    let node = world.start();
    let client = client(&node);
    let pay_with = |seed| {
        world.draft(0).operations([world.transfer(0, 1, 1)]).sign(&key(seed)).expect("signed")
    };
    let rotate = |to, with| {
        let operation = Operation::RotateKeys { user: world.users[0], access: access(to) };
        world.draft(0).operations([operation]).sign(&key(with)).expect("signed")
    };
    let request =
        [pay_with(0), rotate(70, 0), pay_with(0), pay_with(70), rotate(71, 70), pay_with(71)];
    let outcomes = submit_all(&client, &request);
    let done: Vec<bool> = outcomes.iter().map(is_done).collect();
    assert_eq!(done, [true, true, false, true, true, true], "{outcomes:?}");
    let SubmitOutcome::Refused { refusal, .. } = outcomes[2] else { panic!("{outcomes:?}") };
    assert_eq!(refusal, Refusal::BadSignature);
    stop(node);
    world.assert_audit_clean(Arc::new(RealDisk));
}

#[test]
fn shared_accounts_need_their_threshold_in_order() {
    let world = World::new(2);
    let node = world.start();
    let client = client(&node);
    let mut secrets: Vec<_> = (700..703).map(key).collect();
    secrets.sort_by_key(kanjo_types::signature::SecretKey::public);
    let keys = secrets.iter().map(kanjo_types::signature::SecretKey::public).collect();
    let shared = kanjo_types::Access::new(2, keys).expect("two of three");
    let user = UserId::derive(world.chain, &shared, 0);
    let wallet = WalletId::derive(world.chain, user, 0);
    let open = vec![
        Operation::CreateUser { access: shared, number: 0 },
        Operation::CreateWallet { owner: user, number: 0 },
        transfer(world.wallets[0], wallet, 50),
    ];
    assert!(is_done(&client.submit(&world.sign(0, open)).expect("final")));
    let signed_by = |positions: &[u8]| {
        let draft = kanjo_client::Draft::new(world.chain, user);
        let body = draft.operation(transfer(wallet, world.wallets[1], 7)).body().expect("a body");
        let id = body.id().0;
        let sign = |position: &u8| kanjo_types::KeySignature {
            key: *position,
            signature: secrets[usize::from(*position).min(2)].sign(&id),
        };
        SignedTransaction { signatures: positions.iter().map(sign).collect(), body }
    };
    let cases: [(&[u8], &str); 7] = [
        (&[], "signature_count"),
        (&[1], "signature_count"),
        (&[0, 1, 2], "signature_count"),
        (&[1, 0], "signature_order"),
        (&[1, 1], "signature_order"),
        (&[1, 3], "unknown_key"),
        (&[0, 255], "unknown_key"),
    ];
    for (positions, code) in cases {
        let error = client.submit(&signed_by(positions)).expect_err("refused");
        assert_eq!(error.code(), Some(code), "{positions:?}");
    }
    let mut swapped = signed_by(&[0, 2]);
    swapped.signatures[1].key = 1;
    let error = client.submit(&swapped).expect_err("refused");
    assert_eq!(error.code(), Some("bad_signature"));
    for positions in [[0, 1], [0, 2], [1, 2]] {
        assert!(is_done(&client.submit(&signed_by(&positions)).expect("final")));
    }
    assert_eq!(balance(&client, wallet, VSM), 50 - 21);
    stop(node);
    world.assert_audit_clean(Arc::new(RealDisk));
}
