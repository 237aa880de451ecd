//! Rows of every table over HTTP: read, walked, listed by what they concern, proven.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::money::{
    EUR, FUNDS, LATER, act, assert_code, done, evidence, hex, list, make_token, pay, policy,
    proven, read, record, reserve, schedule, sign_with, signed, sorted, start, stop_and_audit,
};
use common::{NOON, VSM, World, client, get};
use kanjo_api::{HistoryPage, RecordPage};
use kanjo_client::Client;
use kanjo_proof::Fact;
use kanjo_types::money::{
    Act, Direction, FreezeTarget, Grant, Leg, Role, Scope, attribute_commitment,
};
use kanjo_types::record::RowKey;
use kanjo_types::standing::{BundleStatus, PendingStatus};
use kanjo_types::{
    ActId, Amount, BundleId, ClaimId, Hash, Operation, PendingId, Record, ScheduleId,
    SignedTransaction, Table, TransactionId, UserId, WalletId,
};
use std::net::SocketAddr;

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
    // A ledger whose members never changed has no row of memberships; `cluster_api` has. Tables of
    // users are in the tests of the ledger.
    let mut tables: Vec<_> = places.iter().map(|(table, _, _)| *table).collect();
    tables.extend([Table::Memberships, Table::Relations, Table::Rows]);
    assert_eq!(tables, Table::ALL);
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
