//! The rules of money over HTTP: records and lists of every table, evidence and reversals, proofs,
//! fees, several signers.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::money::{
    EUR, FUNDS, LATER, act, assert_code, done, hex, list, make_token, pay, policy, read, record,
    reserve, schedule, send, sign_with, signed,
};
use common::{HandClock, NOON, VSM, World, access, balance, client, get, is_done, key, must_end};
use kanjo_api::{BalanceView, HistoryPage, RecordPage};
use kanjo_client::{Client, Draft};
use kanjo_node::RunningNode;
use kanjo_proof::{Fact, ProofFile};
use kanjo_store::disk::RealDisk;
use kanjo_types::block::TokenAmount;
use kanjo_types::money::{
    Act, Direction, Evidence, FreezeTarget, Grant, Leg, Role, Scope, attribute_commitment,
};
use kanjo_types::policy::Policy;
use kanjo_types::record::RowKey;
use kanjo_types::standing::{ActStatus, BundleStatus, PendingStatus};
use kanjo_types::{
    ActId, Amount, BundleId, ClaimId, Hash, KeySignature, Operation, PendingId, Record, ResultCode,
    ScheduleId, SignedTransaction, Table, TokenId, TransactionId, UserId, WalletId,
};
use std::net::SocketAddr;
use std::sync::Arc;

fn start(accounts: u64) -> (World, Arc<HandClock>, RunningNode) {
    let (world, clock) = (World::new(accounts), HandClock::at(NOON));
    let node = world.start_with_clock(clock.clone());
    (world, clock, node)
}

fn stop_and_audit(world: &World, node: RunningNode) {
    must_end("stop", move || node.stop()).expect("a clean stop");
    world.assert_audit_clean(Arc::new(RealDisk));
}

fn held(client: &Client, wallet: WalletId, token: TokenId) -> BalanceView {
    let view = client.wallet(wallet).expect("a wallet");
    view.balances.into_iter().find(|held| held.token == token).expect("it holds the token")
}

fn evidence(address: SocketAddr, id: TransactionId) -> Evidence {
    read(address, &format!("/v1/transactions/{id}/evidence"))
}

fn proven(world: &World, address: SocketAddr, path: &str) -> Fact {
    let answer = get(address, path);
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    let file = ProofFile::from_json(&answer.text()).expect("a proof file");
    file.check(&world.genesis).unwrap_or_else(|error| panic!("{path}: {error}")).fact
}

#[test]
fn a_payment_is_reversed_with_its_evidence_and_all_of_it_is_on_record() {
    let (world, _, node) = start(4);
    let (client, address) = (client(&node), node.address());
    make_token(&world, &client, policy(&world), Vec::new());
    let payment = done(&client, &signed(&world, 1, vec![pay(&world, EUR, 1, 2, 1_000)]));
    assert_eq!(held(&client, world.wallets[1], EUR).balance.0, FUNDS - 1_011);
    let found = evidence(address, payment);
    assert_eq!((found.record.id, found.receipt.result), (payment, ResultCode::Ok));
    assert_eq!(found.rows.len(), 3, "payer, payee, who gets the fee");
    assert_eq!(found.before.len(), 2, "who gets the fee had nothing before");
    for before in &found.before {
        assert!(found.rows.iter().any(|row| row.previous() == before.hash()));
    }
    let reverse = |id, evidence| {
        let order = Act::Reverse { token: EUR, originals: vec![id], trail: Vec::new() };
        signed(&world, 0, vec![act(order, evidence)])
    };
    // What is not proven is not reversed: another amount, a header that is not there (yet).
    let mut forged = found.clone();
    let Record::WalletState(state) = &mut forged.rows[1] else { panic!("a state") };
    state.balance.0 += 1;
    let mut unborn = found.clone();
    unborn.header.height += 1_000_000;
    for evidence in [vec![], vec![forged], vec![unborn]] {
        let (result, _) = send(&client, &reverse(payment, evidence));
        assert_eq!(result, ResultCode::BadEvidence);
    }
    let reversed = done(&client, &reverse(payment, vec![found.clone()]));
    assert_eq!(held(&client, world.wallets[2], EUR).balance.0, FUNDS);
    assert_eq!(send(&client, &reverse(payment, vec![found])).0, ResultCode::AlreadyReversed);
    let row = RowKey::reversal(payment, EUR);
    let Record::Reversal(reversal) = record(address, "reversals", hex(row)).record else {
        panic!("a reversal")
    };
    let by = ActId::derive(reversed, 0, 0);
    assert_eq!((reversal.original, reversal.act), (payment, by));
    let Record::Act(order) = record(address, "acts", by).record else { panic!("an act") };
    assert_eq!((order.status, order.reason.code.as_str()), (ActStatus::Done, "COURT_ORDER"));
    for of in [world.wallets[1].to_string(), world.wallets[2].to_string(), EUR.to_string()] {
        assert_eq!(list(address, "reversals", of, 10), [Record::Reversal(reversal.clone())]);
    }
    let fact = proven(&world, address, &format!("/v1/proofs/records/reversals/{}", hex(row)));
    assert_eq!(fact, Fact::State { record: Record::Reversal(reversal) });
    stop_and_audit(&world, node);
}

#[test]
fn evidence_of_the_newest_blocks_is_waited_for_and_the_audit_sees_the_same() {
    let (world, _, node) = start(3);
    let (client, address) = (client(&node), node.address());
    make_token(&world, &client, policy(&world), Vec::new());
    // The reversal travels with payments that open blocks before it, from several threads.
    let ids: Vec<TransactionId> = (0..6)
        .map(|_| done(&client, &signed(&world, 1, vec![pay(&world, EUR, 1, 2, 10)])))
        .collect();
    std::thread::scope(|scope| {
        let noise = |n: usize| {
            let client = common::client_at(address);
            for _ in 0..40 {
                let from = n % 3;
                done(&client, &signed(&world, from, vec![world.transfer(from, (n + 1) % 3, 1)]));
            }
        };
        (0..3).for_each(|n| drop(scope.spawn(move || noise(n))));
        for id in &ids {
            let order = Act::Reverse { token: EUR, originals: vec![*id], trail: Vec::new() };
            done(&client, &signed(&world, 0, vec![act(order, vec![evidence(address, *id)])]));
        }
        // Headers of blocks that are under way while it is executed.
        let mut early = evidence(address, ids[0]);
        for ahead in 0..8 {
            early.header.height = node.height() + ahead;
            let order = Act::Reverse { token: EUR, originals: vec![ids[0]], trail: Vec::new() };
            let order = signed(&world, 0, vec![act(order, vec![early.clone()])]);
            let (result, _) = must_end("evidence", {
                let client = common::client_at(address);
                move || send(&client, &order)
            });
            assert!(!result.is_ok());
        }
    });
    assert_eq!(held(&client, world.wallets[2], EUR).balance.0, FUNDS);
    stop_and_audit(&world, node);
    let node = world.start_with_clock(HandClock::at(NOON));
    assert_eq!(list(node.address(), "reversals", EUR, 2).len(), 6);
    stop_and_audit(&world, node);
}

#[test]
fn lists_hold_the_rows_that_concern_somebody_newest_first() {
    let (world, clock, node) = start(4);
    let (client, address) = (client(&node), node.address());
    make_token(&world, &client, policy(&world), Vec::new());
    let [w0, w1, w2, w3] = world.wallets[..] else { panic!("four wallets") };
    let agent = world.users[3];
    let mut with_agent = reserve(&world, EUR, 1, 2, 5, NOON + 9_000);
    if let Operation::Reserve { agent: place, .. } = &mut with_agent {
        *place = Some(agent);
    }
    let three = vec![
        reserve(&world, EUR, 1, 2, 10, NOON + 5_000),
        reserve(&world, EUR, 2, 1, 20, NOON + 5_000),
        with_agent,
    ];
    let id = done(&client, &signed_by_two(&world, three));
    let ids: Vec<PendingId> = (1..4).map(|n| PendingId::derive(id, n, 0)).collect();
    let last = done(&client, &signed(&world, 2, vec![reserve(&world, EUR, 2, 3, 7, LATER)]));
    let last = PendingId::derive(last, 0, 0);
    // Later versions stay at the place of the first.
    done(&client, &signed(&world, 2, vec![Operation::Post { pending: ids[0], amount: None }]));
    let listed = |of: &dyn std::fmt::Display, limit| {
        let pendings = list(address, "pendings", of, limit).into_iter();
        let pendings = pendings.map(|record| match record {
            Record::Pending(pending) => (pending.id, pending.status),
            other => panic!("{other:?}"),
        });
        pendings.collect::<Vec<_>>()
    };
    let open = PendingStatus::Open;
    let posted = PendingStatus::Posted(Amount(10));
    for limit in [1, 2, 3, 1_000] {
        let all = [(last, open), (ids[2], open), (ids[1], open), (ids[0], posted)];
        assert_eq!(listed(&w2, limit), all);
        assert_eq!(listed(&EUR, limit), all);
        assert_eq!(listed(&w1, limit), all[1..]);
        assert_eq!(listed(&w3, limit), [(last, open)]);
        assert_eq!(listed(&agent, limit), [(ids[2], open)]);
        assert_eq!(listed(&w0, limit), []);
        assert_eq!(listed(&VSM, limit), []);
        assert_eq!(listed(&world.users[1], limit), []);
    }
    clock.set(NOON + 5_001);
    common::wait_until("one expires", || listed(&w1, 9)[1].1 == PendingStatus::Expired);
    // An index that is lost is made anew from the log, and says the same.
    let before = listed(&w2, 2);
    stop_and_audit(&world, node);
    std::fs::remove_dir_all(world.data().join("index")).expect("removed");
    let node = world.start_with_clock(clock);
    let again = list(node.address(), "pendings", w2, 3);
    let again = again.iter().map(|record| match record {
        Record::Pending(pending) => (pending.id, pending.status),
        other => panic!("{other:?}"),
    });
    assert_eq!(again.collect::<Vec<_>>(), before);
    stop_and_audit(&world, node);
}

fn signed_by_two(world: &World, operations: Vec<Operation>) -> SignedTransaction {
    sign_with(world, 1, &[2], operations)
}

/// One row of every table beside the balances.
struct Rows {
    pending: PendingId,
    bundle: BundleId,
    schedule: ScheduleId,
    act: ActId,
    claim: ClaimId,
    reversed: TransactionId,
}

fn make_rows(world: &World, address: SocketAddr, client: &Client) -> Rows {
    let freezers = Grant { role: Role::Freezer, holders: sorted(world, &[1, 2]), threshold: 2 };
    make_token(world, client, policy(world), vec![freezers]);
    let id = done(client, &signed(world, 1, vec![reserve(world, EUR, 1, 2, 10, LATER)]));
    let pending = PendingId::derive(id, 0, 0);
    let leg = Leg {
        token: EUR,
        from: world.wallets[1],
        to: world.wallets[2],
        amount: Amount(1),
        reference: String::new(),
    };
    let bundle = Operation::ProposeBundle {
        parties: vec![world.users[2]],
        conditions: Vec::new(),
        legs: vec![leg],
        expires_ms: LATER,
    };
    let bundle = BundleId::derive(done(client, &signed(world, 1, vec![bundle])), 0, 0);
    let standing = schedule(world, EUR, 1, 3, LATER, 2);
    let schedule = ScheduleId::derive(done(client, &signed(world, 1, vec![standing])), 0, 0);
    let freeze = Act::Freeze {
        token: EUR,
        target: FreezeTarget::Wallet(world.wallets[3]),
        direction: Direction::Incoming,
        until_ms: None,
    };
    let id = done(client, &signed(world, 1, vec![act(freeze, Vec::new())]));
    let order = ActId::derive(id, 0, 0);
    let agree = Operation::ApproveAct { act: order, evidence: Vec::new() };
    done(client, &signed(world, 2, vec![agree]));
    let terms = Act::SetTerms {
        token: EUR,
        wallet: world.wallets[1],
        approved: false,
        class: 0,
        credit: Amount(0),
        floor: Amount(500),
    };
    done(client, &signed(world, 0, vec![act(terms, Vec::new())]));
    let attribute = Operation::SetAttribute {
        user: world.users[1],
        name: "legal_name".to_owned(),
        commitment: attribute_commitment(&[7; 32], "legal_name", "Ann"),
    };
    done(client, &signed(world, 1, vec![attribute]));
    // Wallet 4 gets money, loses nearly all of it, and owes the rest after the reversal.
    let reversed = done(client, &signed(world, 2, vec![pay(world, EUR, 2, 4, 1_000)]));
    let all = pay(world, EUR, 4, 1, FUNDS + 500);
    done(client, &signed(world, 4, vec![all]));
    let proof = evidence(address, reversed);
    let reverse = Act::Reverse { token: EUR, originals: vec![reversed], trail: Vec::new() };
    done(client, &signed(world, 0, vec![act(reverse, vec![proof])]));
    let claims = list(address, "claims", world.wallets[4], 10);
    let [Record::Claim(claim)] = &claims[..] else { panic!("one claim: {claims:?}") };
    Rows { pending, bundle, schedule, act: order, claim: claim.id, reversed }
}

fn sorted(world: &World, users: &[usize]) -> Vec<UserId> {
    let mut users: Vec<UserId> = users.iter().map(|user| world.users[*user]).collect();
    users.sort_unstable();
    users
}

/// Table and key of a row of every table, as in paths.
fn places(world: &World, rows: &Rows) -> Vec<(Table, String, RowKey)> {
    let state = RowKey::wallet_state(world.wallets[1], EUR);
    let authority = RowKey::authority(Scope::Token(EUR), Role::Freezer);
    let freeze = RowKey::freeze(EUR, FreezeTarget::Wallet(world.wallets[3]));
    let reversal = RowKey::reversal(rows.reversed, EUR);
    let attribute = RowKey::attribute(world.users[1], "legal_name");
    vec![
        (Table::Users, world.users[1].to_string(), RowKey::user(world.users[1])),
        (Table::Wallets, world.wallets[1].to_string(), RowKey::wallet(world.wallets[1])),
        (Table::Tokens, EUR.to_string(), RowKey::token(EUR)),
        (Table::WalletStates, hex(state), state),
        (Table::Pendings, rows.pending.to_string(), RowKey::item(rows.pending.0)),
        (Table::Bundles, rows.bundle.to_string(), RowKey::item(rows.bundle.0)),
        (Table::Schedules, rows.schedule.to_string(), RowKey::item(rows.schedule.0)),
        (Table::Authorities, hex(authority), authority),
        (Table::Acts, rows.act.to_string(), RowKey::item(rows.act.0)),
        (Table::Terms, hex(state), state),
        (Table::Freezes, hex(freeze), freeze),
        (Table::Reversals, hex(reversal), reversal),
        (Table::Claims, rows.claim.to_string(), RowKey::item(rows.claim.0)),
        (Table::Attributes, hex(attribute), attribute),
    ]
}

fn name(table: Table) -> String {
    serde_json::to_value(table).expect("json").as_str().expect("a name").to_owned()
}

#[test]
fn rows_of_every_table_are_read_walked_listed_and_proven() {
    let (world, _, node) = start(5);
    let (client, address) = (client(&node), node.address());
    let rows = make_rows(&world, address, &client);
    let places = places(&world, &rows);
    assert_eq!(places.iter().map(|(table, _, _)| *table).collect::<Vec<_>>(), Table::ALL);
    for (table, text, key) in &places {
        let table_name = name(*table);
        let view = record(address, &table_name, text);
        assert_eq!(view.record.place(), Some((*table, *key)), "{table_name}");
        assert_eq!(view.hash, view.record.hash());
        assert_eq!(record(address, &table_name, hex(*key)), view, "by its key too");
        let proof = format!("/v1/proofs/records/{table_name}/{text}");
        let fact = proven(&world, address, &proof);
        assert_eq!(fact, Fact::State { record: view.record.clone() }, "{table_name}");
        check_history(address, &table_name, text, &view.record);
        // Nothing is there: right behind this row, and far from it.
        let mut behind = *key;
        behind.0.0[31] ^= 1;
        for key in [behind, RowKey(Hash([0x55; 32]))] {
            let answer = get(address, &format!("/v1/records/{table_name}/{}", hex(key)));
            assert_eq!(answer.status, 404, "{table_name}");
            let proof = format!("/v1/proofs/records/{table_name}/{}", hex(key));
            assert_eq!(proven(&world, address, &proof), Fact::Absence { table: *table, key });
        }
    }
    check_lists(&world, address, &rows);
    stop_and_audit(&world, node);
}

fn check_history(address: SocketAddr, table: &str, key: &str, newest: &Record) {
    let path = format!("/v1/records/{table}/{key}/history?limit=2");
    let (mut cursor, mut next) = (String::new(), newest.clone());
    loop {
        let page: HistoryPage = read(address, &format!("{path}{cursor}"));
        for view in &page.versions {
            assert_eq!(view.record.hash(), next.hash(), "{table}: linked back");
            if next.version() == 1 {
                assert_eq!(page.next_cursor, None);
                return;
            }
            let below =
                format!("/v1/records/{table}/{key}/history?before={}&limit=1", next.version());
            let below: HistoryPage = read(address, &below);
            next = below.versions[0].record.clone();
        }
        cursor = format!("&cursor={}", page.next_cursor.expect("earlier versions"));
    }
}

fn check_lists(world: &World, address: SocketAddr, rows: &Rows) {
    let [u0, u1, u2, ..] = world.users[..] else { panic!("users") };
    let count = |table: &str, of: &dyn std::fmt::Display| list(address, table, of, 2).len();
    assert_eq!(count("bundles", &u1), 1);
    assert_eq!(count("bundles", &u2), 1);
    assert_eq!(count("bundles", &u0), 0);
    assert_eq!(count("schedules", &world.wallets[3]), 1);
    assert_eq!(count("schedules", &EUR), 1);
    assert_eq!((count("authorities", &u1), count("authorities", &EUR)), (1, 1));
    assert_eq!(count("acts", &EUR), 3);
    assert_eq!((count("acts", &u0), count("acts", &u1), count("acts", &u2)), (2, 1, 0));
    assert_eq!((count("acts", &world.wallets[3]), count("acts", &world.wallets[1])), (1, 1));
    assert_eq!((count("terms", &world.wallets[1]), count("terms", &EUR)), (1, 1));
    assert_eq!((count("freezes", &world.wallets[3]), count("freezes", &EUR)), (1, 1));
    assert_eq!((count("claims", &world.wallets[2]), count("claims", &EUR)), (1, 1));
    assert_eq!((count("attributes", &u1), count("attributes", &u0)), (1, 0));
    let Record::Bundle(bundle) = record(address, "bundles", rows.bundle).record else {
        panic!("a bundle")
    };
    assert_eq!(bundle.status, BundleStatus::Open);
}

#[test]
fn new_holders_find_the_row_and_none_sees_it_twice() {
    let (world, _, node) = start(4);
    let (client, address) = (client(&node), node.address());
    make_token(&world, &client, policy(&world), Vec::new());
    let hold = |holders: &[usize]| {
        let grant = Grant { role: Role::Freezer, holders: sorted(&world, holders), threshold: 1 };
        done(&client, &signed(&world, 0, vec![act(Act::SetRole { token: EUR, grant }, vec![])]));
    };
    hold(&[1]);
    hold(&[2]);
    hold(&[1, 3]);
    for user in 1..4 {
        let found = list(address, "authorities", world.users[user], 1);
        let [Record::Authority(authority)] = &found[..] else { panic!("one: {found:?}") };
        assert_eq!(authority.links.version, 3);
        assert_eq!(authority.holders, sorted(&world, &[1, 3]));
    }
    assert_eq!(list(address, "authorities", EUR, 1).len(), 1);
    let token = client.token(EUR).expect("a token");
    let roles: Vec<Role> = token.authorities.iter().map(|authority| authority.role).collect();
    assert_eq!(roles, Role::OF_TOKENS);
    for authority in token.authorities {
        let freezer = authority.role == Role::Freezer;
        let holders = if freezer { sorted(&world, &[1, 3]) } else { vec![world.users[0]] };
        assert_eq!((authority.holders, authority.threshold), (holders, 1));
    }
    stop_and_audit(&world, node);
}

#[test]
fn what_is_not_there_or_not_asked_rightly_is_refused_by_name() {
    let (world, _, node) = start(2);
    let address = node.address();
    let absent = "11".repeat(32);
    let item = [7u8; 16];
    let cases = [
        ("users", UserId(item).to_string(), "unknown_user"),
        ("wallets", WalletId(item).to_string(), "unknown_wallet"),
        ("tokens", "77".to_owned(), "unknown_token"),
        ("wallet_states", absent.clone(), "unknown_state"),
        ("pendings", PendingId(item).to_string(), "unknown_pending"),
        ("bundles", BundleId(item).to_string(), "unknown_bundle"),
        ("schedules", ScheduleId(item).to_string(), "unknown_schedule"),
        ("authorities", absent.clone(), "unknown_record"),
        ("acts", ActId(item).to_string(), "unknown_act"),
        ("terms", absent.clone(), "unknown_record"),
        ("freezes", absent.clone(), "unknown_record"),
        ("reversals", absent.clone(), "unknown_record"),
        ("claims", ClaimId(item).to_string(), "unknown_claim"),
        ("attributes", absent.clone(), "unknown_attribute"),
    ];
    for (table, key, code) in &cases {
        for end in ["", "/history"] {
            let answer = get(address, &format!("/v1/records/{table}/{key}{end}"));
            assert_code(&answer, 404, code);
            assert!(!answer.field().is_empty());
        }
        // Neither a text id of another kind, nor half a key.
        for wrong in ["zz", "kju1xyz", &absent[..62]] {
            for path in ["records", "proofs/records"] {
                let answer = get(address, &format!("/v1/{path}/{table}/{wrong}"));
                assert_code(&answer, 400, "bad_request");
                assert_eq!(answer.field(), "key");
            }
        }
        for bound in ["00", "ff"] {
            let proof = format!("/v1/proofs/records/{table}/{}", bound.repeat(32));
            assert_code(&get(address, &proof), 400, "bad_request");
        }
    }
    let user = world.users[0];
    let bad = [
        (format!("/v1/records/nothing?of={user}"), "table"),
        (format!("/v1/records/transactions?of={user}"), "table"),
        (format!("/v1/records/wallets?of={user}"), "table"),
        (format!("/v1/records/nothing/{absent}"), "table"),
        (format!("/v1/proofs/records/nothing/{absent}"), "table"),
        ("/v1/records/acts".to_owned(), "query"),
        ("/v1/records/acts?of=".to_owned(), "of"),
        ("/v1/records/acts?of=me".to_owned(), "of"),
        ("/v1/records/acts?of=-1".to_owned(), "of"),
        ("/v1/records/acts?of=kju1xyz".to_owned(), "of"),
        ("/v1/records/acts?of=kjw1xyz".to_owned(), "of"),
        (format!("/v1/records/acts?of={user}&limit=x"), "query"),
        (format!("/v1/records/acts?of={user}&cursor=x"), "cursor"),
        (format!("/v1/records/acts?of={user}&cursor=1.2"), "cursor"),
        (format!("/v1/records/acts?of={user}&cursor=1.2.3.4"), "cursor"),
        (format!("/v1/records/users/{user}/history?cursor=9.9"), "cursor"),
        (format!("/v1/records/users/{user}/history?cursor=x"), "cursor"),
        ("/v1/transactions/00/evidence".to_owned(), "id"),
    ];
    for (path, field) in bad {
        let answer = get(address, &path);
        assert_code(&answer, 400, "bad_request");
        assert_eq!(answer.field(), field, "{path}");
    }
    let unknown = get(address, &format!("/v1/transactions/{absent}/evidence"));
    assert_code(&unknown, 404, "unknown_transaction");
    for limit in ["0", "1000000"] {
        let page: RecordPage = read(address, &format!("/v1/records/acts?of=1&limit={limit}"));
        assert_eq!(page.records, []);
    }
    let page: RecordPage = read(address, "/v1/records/acts?of=1&cursor=0.0.0");
    assert_eq!((page.records.len(), page.next_cursor), (0, None));
    stop_and_audit(&world, node);
}

#[test]
fn wallets_and_tokens_show_what_rules_and_approvers_make_of_them() {
    let (world, clock, node) = start(4);
    let client = client(&node);
    let charter = Policy { notice_ms: 1_000, ..policy(&world) };
    make_token(&world, &client, charter.clone(), Vec::new());
    let [_, w1, w2, w3] = world.wallets[..] else { panic!("wallets") };
    let order = |act_| done(&client, &signed(&world, 0, vec![act(act_, Vec::new())]));
    let terms = |wallet, credit, floor| Act::SetTerms {
        token: EUR,
        wallet,
        approved: false,
        class: 0,
        credit: Amount(credit),
        floor: Amount(floor),
    };
    order(terms(w1, 0, 4_000));
    order(terms(w2, 700, 0));
    done(&client, &signed(&world, 1, vec![reserve(&world, EUR, 1, 3, 1_000, LATER)]));
    let view = held(&client, w1, EUR);
    assert_eq!((view.balance.0, view.reserved.0), (FUNDS - 1_011, 1_011));
    assert_eq!(view.available.0, FUNDS - 1_011 - 4_000);
    assert_eq!(view.terms.map(|terms| terms.floor.0), Some(4_000));
    done(&client, &signed(&world, 2, vec![pay(&world, EUR, 2, 3, FUNDS)]));
    let view = held(&client, w2, EUR);
    assert_eq!((view.balance.0, view.overdraft.0, view.available.0), (0, 101, 599));
    let freeze =
        |target, direction, until_ms| Act::Freeze { token: EUR, target, direction, until_ms };
    order(freeze(FreezeTarget::Wallet(w3), Direction::Incoming, None));
    assert_eq!(held(&client, w3, EUR).frozen, Some(Direction::Incoming));
    let owner = FreezeTarget::User(world.users[3]);
    order(freeze(owner, Direction::Outgoing, Some(NOON + 10)));
    assert_eq!(held(&client, w3, EUR).frozen, Some(Direction::Both));
    assert_eq!((held(&client, w1, EUR).frozen, held(&client, w1, VSM).frozen), (None, None));
    clock.set(NOON + 11);
    assert_eq!(held(&client, w3, EUR).frozen, Some(Direction::Incoming));
    order(freeze(FreezeTarget::Token, Direction::Both, None));
    assert_eq!(held(&client, w1, EUR).frozen, Some(Direction::Both));
    // Kinder at once; back to the charter after its notice.
    let kinder = Policy { fee: None, ..charter.clone() };
    let set = |policy: &Policy| Act::SetPolicy { token: EUR, policy: Box::new(policy.clone()) };
    order(set(&kinder));
    order(set(&charter));
    let token = client.token(EUR).expect("a token");
    assert_eq!((&token.policy, &token.charter), (&kinder, &charter));
    let coming = token.coming.expect("announced");
    assert_eq!((coming.policy, coming.from_ms), (charter.clone(), NOON + 11 + 1_000));
    assert_eq!(token.frozen.map(|freeze| freeze.direction), Some(Direction::Both));
    assert_eq!(token.supply.0, 3 * FUNDS);
    clock.set(NOON + 11 + 1_000);
    let token = client.token(EUR).expect("a token");
    assert_eq!((token.policy, token.coming), (charter, None));
    let plain = client.token(VSM).expect("a token");
    assert_eq!((plain.policy, plain.charter, plain.frozen), <_>::default());
    assert_eq!(client.tokens().expect("tokens").len(), 3);
    stop_and_audit(&world, node);
}

#[test]
fn fees_are_in_the_block_list_and_their_receiver_sees_them_come() {
    let (world, _, node) = start(3);
    let client = client(&node);
    make_token(&world, &client, policy(&world), Vec::new());
    let mut changes = client.stream_wallet(world.wallets[0]).expect("a stream");
    let mut blocks = client.stream_blocks(None).expect("a stream");
    let two = vec![pay(&world, EUR, 1, 2, 100), pay(&world, EUR, 1, 2, 1_000)];
    done(&client, &signed(&world, 1, two));
    done(&client, &signed(&world, 1, vec![world.transfer(1, 2, 5)]));
    let listed = client.blocks(kanjo_client::Page { before: None, limit: Some(3) });
    let fees: Vec<_> = listed.expect("blocks").blocks.into_iter().map(|b| b.fees).collect();
    let taken = vec![TokenAmount { token: EUR, amount: Amount(2 + 11) }];
    assert_eq!(fees, [vec![], taken.clone(), vec![]]);
    let (change, block) = must_end("the streams", move || {
        let change = changes.next().expect("open").expect("a change").version;
        (change, blocks.next().expect("open").expect("a block"))
    });
    let Record::WalletState(state) = change.record else { panic!("a state") };
    assert_eq!((state.token, state.balance.0), (EUR, 13));
    assert_eq!(block.fees, taken);
    assert_eq!(held(&client, world.wallets[0], EUR).balance.0, 13);
    stop_and_audit(&world, node);
}

#[test]
fn several_signers_pay_as_one_and_every_signature_counts() {
    let (world, _, node) = start(3);
    let client = client(&node);
    let swap = || vec![world.transfer(0, 1, 5), world.transfer(1, 2, 3), world.transfer(2, 0, 1)];
    let good = sign_with(&world, 0, &[1, 2], swap());
    let code = |change: &dyn Fn(&mut SignedTransaction)| {
        let mut bad = good.clone();
        change(&mut bad);
        client.submit(&bad).expect_err("refused").code().expect("a code").to_owned()
    };
    assert_eq!(code(&|bad| drop(bad.signatures.pop())), "signature_count");
    assert_eq!(code(&|bad| bad.signatures.swap(0, 1)), "signature_order");
    assert_eq!(code(&|bad| bad.signatures[1].key = 2), "signature_order");
    assert_eq!(code(&|bad| bad.signatures[2].key = 3), "signature_count");
    assert_eq!(code(&|bad| bad.signatures[1].signature[9] ^= 1), "bad_signature");
    assert_eq!(
        code(&|bad| bad.signatures[2].signature = bad.signatures[0].signature),
        "bad_signature"
    );
    let unknown = Operation::Parties { users: vec![UserId([9; 16])] };
    let draft = world.draft(0).at(NOON).operations([unknown, world.transfer(0, 1, 1)]);
    let error = client.submit(&draft.sign(&key(0)).expect("signed")).expect_err("refused");
    assert_eq!(error.code(), Some("unknown_author"));
    done(&client, &good);
    let first = common::FIRST_BALANCE;
    assert_eq!(world.balances(&client), [first - 4, first + 2, first + 2]);
    // Without the others' signatures their wallets are not spent from.
    let (result, _) = send(&client, &signed(&world, 0, swap()));
    assert_eq!(result, ResultCode::NotWalletOwner);
    stop_and_audit(&world, node);
}

#[test]
fn a_party_made_or_with_new_keys_in_the_same_request_counts_at_its_turn() {
    let (world, _, node) = start(2);
    let client = client(&node);
    let newcomer = UserId::derive(world.chain, &access(900), 0);
    let wallet = WalletId::derive(world.chain, newcomer, 0);
    let together = |with: u64, amount| {
        let operations = [
            Operation::Parties { users: vec![newcomer] },
            world.transfer(0, 1, 1),
            common::transfer(wallet, world.wallets[1], amount),
        ];
        let body = world.draft(0).at(NOON).operations(operations).body().expect("a body");
        let id = body.id().0;
        let sign = |position, seed| KeySignature { key: position, signature: key(seed).sign(&id) };
        SignedTransaction { signatures: vec![sign(0, 0), sign(1, with)], body }
    };
    let by_newcomer = |with: u64, operation| {
        Draft::new(world.chain, newcomer)
            .at(NOON)
            .operation(operation)
            .sign(&key(with))
            .expect("ok")
    };
    let make = vec![
        Operation::CreateUser { access: access(900), number: 0 },
        Operation::CreateWallet { owner: newcomer, number: 0 },
        common::transfer(world.wallets[0], wallet, 100),
    ];
    let rotate = Operation::RotateKeys { user: newcomer, access: access(901) };
    let request = [
        signed(&world, 0, make),
        together(900, 10),
        together(901, 20),
        by_newcomer(900, rotate),
        together(900, 30),
        together(901, 40),
    ];
    let outcomes = common::submit_all(&client, &request);
    let passed: Vec<bool> = outcomes.iter().map(is_done).collect();
    assert_eq!(passed, [true, true, false, true, false, true], "{outcomes:?}");
    assert_eq!(balance(&client, wallet, VSM), 50);
    stop_and_audit(&world, node);
}
