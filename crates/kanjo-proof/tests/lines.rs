//! What people read about each kind of row, present or absent.
#![allow(missing_docs, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::*;
use kanjo_types::money::{FreezeTarget, Role, Scope};
use kanjo_types::record::RowKey;
use kanjo_types::{Hash, Record, Table, TokenId, TransactionId, UserId, WalletId};
use serde_json::Value;

/// The records of the test vectors, by name.
fn records() -> Vec<(String, Record)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../vectors/encoding.json");
    let text = std::fs::read_to_string(path).expect("vectors/encoding.json");
    let vectors: Vec<Value> = serde_json::from_str(&text).expect("json");
    let of = |vector: &Value| {
        let name = vector["name"].as_str().expect("a name").to_owned();
        (name, serde_json::from_value(vector["json"].clone()).expect("a record"))
    };
    vectors.iter().filter(|vector| vector["type"] == "Record").map(of).collect()
}

/// The first line of the statement that the record is current.
fn line(record: Record) -> String {
    let (table, key) = record.place().expect("a row");
    let ledger = Ledger::new(1, vec![record]);
    let statement = ledger.state(table, key).check(&ledger.genesis).expect("checks");
    statement.to_string().lines().next().map(str::to_owned).expect("a line")
}

/// Ids are long: the line with each replaced by its kind.
fn without_ids(line: &str) -> String {
    let short = |word: &str| {
        let end = word.find([':', ',', ')']).unwrap_or(word.len());
        let (id, rest) = word.split_at(end);
        let is_id = id.len() > 20 && (id.starts_with("kj") || id.len() == 64);
        if is_id { format!("{}…{rest}", &id[..2]) } else { word.to_owned() }
    };
    line.split(' ').map(short).collect::<Vec<_>>().join(" ")
}

/// Name and line of each record.
const LINES: &str = include_str!("lines.txt");

#[test]
fn every_record_has_a_line_of_its_own() {
    let rows = records().into_iter().filter(|(_, record)| record.place().is_some());
    let all = rows.map(|(name, record)| format!("{name}: {}", without_ids(&line(record))));
    let all: Vec<String> = all.collect();
    all.iter().for_each(|line| println!("{line}"));
    assert_eq!(all, LINES.lines().collect::<Vec<_>>());
}

#[test]
fn an_absent_row_of_every_table_is_named() {
    let ledger = Ledger::new(1, vec![]);
    let absent = |table, key| {
        let statement = ledger.absence(table, key).check(&ledger.genesis).expect("checks");
        let text = statement.to_string();
        text.lines().next().map(without_ids).expect("a line")
    };
    let (user, wallet, token) = (UserId(spread(1)), WalletId(spread(2)), TokenId(700));
    let item = RowKey::item(spread(3));
    let role = |scope, role| absent(Table::Authorities, RowKey::authority(scope, role));
    let freeze = |target| absent(Table::Freezes, RowKey::freeze(token, target));
    assert_eq!(absent(Table::Pendings, item), "there is no pending payment kj…");
    assert_eq!(absent(Table::Bundles, item), "there is no bundle kj…");
    assert_eq!(absent(Table::Schedules, item), "there is no scheduled payment kj…");
    assert_eq!(absent(Table::Acts, item), "there is no act kj…");
    assert_eq!(absent(Table::Claims, item), "there is no claim kj…");
    let terms = RowKey::wallet_state(wallet, token);
    let text = "there is no record of terms of wallet kj… in token 700";
    assert_eq!(absent(Table::Terms, terms), text);
    let text = "there is no record of holders for freezer of token 700";
    assert_eq!(role(Scope::Token(token), Role::Freezer), text);
    let text = "there is no record of holders for guardian of user kj…";
    assert_eq!(role(Scope::User(user), Role::Guardian), text);
    let text = "there is no freeze of wallet kj… in token 700";
    assert_eq!(freeze(FreezeTarget::Wallet(wallet)), text);
    let text = "there is no freeze of user kj… in token 700";
    assert_eq!(freeze(FreezeTarget::User(user)), text);
    assert_eq!(freeze(FreezeTarget::Token), "there is no freeze of token 700");
    let text = absent(Table::Memberships, RowKey::epoch(70_000));
    assert_eq!(text, "there is no membership of epoch 70000");
    let reversal = RowKey::reversal(TransactionId(Hash([7; 32])), token);
    let text = absent(Table::Reversals, reversal);
    assert!(text.starts_with("there is no row of Reversals with key "), "{text}");
    let text = absent(Table::Attributes, RowKey::attribute(user, "legal_name"));
    assert!(text.starts_with("there is no attribute of user kj… with key "), "{text}");
    let odd = RowKey(Hash([9; 32]));
    for table in
        [Table::Freezes, Table::Authorities, Table::Pendings, Table::Terms, Table::Memberships]
    {
        let text = absent(table, odd);
        assert!(text.starts_with(&format!("there is no row of {table:?} with key")), "{text}");
    }
}

#[test]
fn a_wallet_shows_what_it_has_beside_its_balance() {
    let (_, state) = records()
        .into_iter()
        .find(|(name, _)| name == "wallet state with more")
        .expect("in the vectors");
    let Record::WalletState(state) = state else { panic!("a state") };
    let Record::Wallet(mut wallet) = wallet(1, Hash::ZERO) else { panic!("a wallet") };
    wallet.id = state.wallet;
    let id = wallet.id;
    let ledger = Ledger::new(1, vec![Record::Wallet(wallet), Record::WalletState(state)]);
    let text = ledger.wallet(id).check(&ledger.genesis).expect("checks").to_string();
    let line = "\n  998000 of token 1, 1250 reserved, 450 owed to claims\n";
    assert!(text.contains(line), "{text}");
}
