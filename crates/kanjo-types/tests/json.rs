//! The readable forms: what is left out has a default, what is unknown or wrong is refused and
//! named.
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod values;

use kanjo_types::transaction::Operation;
use kanjo_types::{Genesis, Record, TransactionBody, UserId, WalletId};
use serde_json::{Value, json};
use values::*;

fn refusal_of(change: impl FnOnce(&mut Value)) -> String {
    let mut value = serde_json::to_value(genesis()).expect("json");
    change(&mut value);
    let error = serde_json::from_str::<Genesis>(&value.to_string()).expect_err("must refuse");
    error.to_string()
}

#[test]
fn a_genesis_with_unknown_fields_is_refused_and_the_field_named() {
    let places = ["", "/rules", "/voters/0", "/users/1", "/tokens/0", "/wallets/0"];
    for place in places.into_iter().chain(["/users/2/access/shared"]) {
        let message = refusal_of(|value| {
            let object = value.pointer_mut(place).and_then(Value::as_object_mut);
            object.expect(place).insert("replay_windw".to_owned(), json!(1));
        });
        assert!(message.contains("unknown field `replay_windw`"), "{place}: {message}");
    }
}

#[test]
fn a_genesis_with_a_missing_or_wrong_field_is_refused_and_the_field_named() {
    let message = refusal_of(|value| {
        value.as_object_mut().expect("object").remove("rules");
    });
    assert!(message.contains("missing field `rules`"), "{message}");
    let message = refusal_of(|value| value["users"][0]["access"] = json!({"single": "rsa:00"}));
    assert!(message.contains("'rsa:00' is not a public key"), "{message}");
    let message = refusal_of(|value| value["wallets"][0]["balances"]["JPY"] = json!("1e6"));
    assert!(message.contains("'1e6' is not an amount"), "{message}");
    let message = refusal_of(|value| value["voters"][0]["key"] = json!("00"));
    assert!(message.to_lowercase().contains("length"), "{message}");
}

#[test]
fn the_chain_id_depends_on_the_content_and_not_on_the_spacing() {
    let genesis = genesis();
    for text in [serde_json::to_string(&genesis), serde_json::to_string_pretty(&genesis)] {
        let read: Genesis = serde_json::from_str(&text.expect("json")).expect("genesis");
        assert_eq!(read.chain_id(), genesis.chain_id());
    }
    let mut other = genesis.clone();
    other.rules.open_tokens = true;
    assert_ne!(other.chain_id(), genesis.chain_id());
}

// ---- Ids ----

#[test]
fn an_id_has_one_text_form_besides_its_capitals() {
    use bech32::primitives::iter::{ByteIterExt, Fe32IterExt};
    let id = WalletId([7; 16]);
    let text = id.to_string();
    assert_eq!(text.to_uppercase().parse::<WalletId>(), Ok(id), "as QR codes have it");
    let prefix = bech32::Hrp::parse("kjw").expect("prefix");
    let spell = |last: u8, more: usize| -> String {
        let mut groups: Vec<bech32::Fe32> = id.0.iter().copied().bytes_to_fes().collect();
        let padded = groups.pop().expect("26 groups").to_u8() | last;
        groups.push(bech32::Fe32::try_from(padded).expect("5 bits"));
        groups.extend(std::iter::repeat_n(bech32::Fe32::Q, more));
        groups.into_iter().with_checksum::<bech32::Bech32m>(&prefix).chars().collect()
    };
    assert_eq!(spell(0, 0), text);
    for (last, more) in [(1, 0), (2, 0), (3, 0), (0, 1), (3, 1)] {
        let other = spell(last, more);
        assert!(other.parse::<WalletId>().is_err(), "{other} has a right checksum");
    }
    // The older checksum (BIP 173) is not taken either.
    let old = bech32::encode::<bech32::Bech32>(prefix, &id.0).expect("encodes");
    assert!(old.parse::<WalletId>().is_err());
}

#[test]
fn every_single_wrong_character_of_an_id_is_noticed() {
    let text = UserId([0x5a; 16]).to_string();
    for at in 4..text.len() {
        for letter in "qpzry9x8gf2tvdw0s3jn54khce6mua7l".chars() {
            let mut wrong = text.clone();
            wrong.replace_range(at..=at, &letter.to_string());
            assert_eq!(wrong.parse::<UserId>().is_ok(), wrong == text, "{wrong}");
        }
    }
}

// ---- Operations ----

/// Every object inside a value, by its path.
fn objects(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            found.push(path.to_owned());
            for (name, field) in fields {
                objects(field, &format!("{path}/{name}"), found);
            }
        }
        Value::Array(items) => {
            for (position, item) in items.iter().enumerate() {
                objects(item, &format!("{path}/{position}"), found);
            }
        }
        _ => {}
    }
}

/// What evidence repeats from the ledger is read as records are everywhere: leniently.
fn repeated(path: &str) -> bool {
    ["/header", "/record", "/receipt", "/rows/", "/before/"].iter().any(|part| path.contains(part))
        && path.contains("/evidence/")
}

#[test]
fn a_body_with_an_unknown_field_anywhere_is_refused_and_the_field_named() {
    let all = operations().into_iter().chain(money::operations()).chain(money::of_the_ledger());
    let parties = Operation::Parties { users: money::others() };
    for (name, operation) in all.chain([("parties", parties)]) {
        let body = serde_json::to_value(body(vec![operation])).expect("json");
        let mut paths = Vec::new();
        objects(&body, "", &mut paths);
        for path in paths.iter().filter(|path| !repeated(path)) {
            let mut changed = body.clone();
            let object = changed.pointer_mut(path).and_then(Value::as_object_mut).expect("object");
            object.insert("amont".to_owned(), json!("1"));
            let error = serde_json::from_value::<TransactionBody>(changed);
            let error = error.expect_err(&format!("{name}: {path} takes a field 'amont'"));
            let text = error.to_string();
            // A choice without fields of its own is told apart by its single key.
            let single = text.contains("single key");
            assert!(text.contains("amont") || single, "{name}, {path}: {text}");
        }
    }
}

fn read(value: Value) -> Operation {
    serde_json::from_value(value).expect("an operation")
}

#[test]
fn what_is_left_out_has_its_default() {
    let (_, user, from, to) = ids();
    let order = |act: Value| {
        json!({"type": "act",
               "order": {"act": act, "reason": {"code": "X"}, "expires_ms": 1}})
    };
    let cases = [
        json!({"type": "create_token", "symbol": "USD", "name": "x", "decimals": 2, "issuer": user}),
        json!({"type": "create_token", "symbol": "USD", "name": "x", "decimals": 2, "issuer": user,
               "policy": {"freezable": true}, "grants": []}),
        json!({"type": "transfer", "token": 1, "from": from, "to": to, "amount": "1"}),
        json!({"type": "reserve", "token": 1, "from": from, "to": to, "amount": "1",
               "expires_ms": 1}),
        json!({"type": "post", "pending": money::pending_id()}),
        json!({"type": "propose_bundle", "parties": [user], "expires_ms": 1,
               "legs": [{"token": 1, "from": from, "to": to, "amount": "1"}]}),
        json!({"type": "schedule", "token": 1, "from": from, "to": to, "amount": "1",
               "first_ms": 1, "when_short": "skip"}),
        order(json!({"act": "set_terms", "token": 1, "wallet": to, "approved": true})),
        order(json!({"act": "freeze", "token": 1, "target": "token", "direction": "both"})),
        order(json!({"act": "reverse", "token": 1, "originals": []})),
        json!({"type": "approve_act", "act": money::act_id()}),
    ];
    for case in cases {
        let operation = read(case.clone());
        // Written out it has every field, and is the same.
        let full = serde_json::to_value(&operation).expect("json");
        assert_ne!(full, case);
        assert_eq!(read(full), operation);
    }
    let missing = json!({"type": "schedule", "token": 1, "from": from, "to": to, "amount": "1",
                         "first_ms": 1});
    let error = serde_json::from_value::<Operation>(missing).expect_err("what if it is short?");
    assert!(error.to_string().contains("when_short"), "{error}");
}

#[test]
fn plain_records_are_written_without_what_they_do_not_have() {
    for (name, record) in records() {
        let value = serde_json::to_value(&record).expect("json");
        assert_eq!(value.get("rules").is_some(), name == "token with rules", "{name}");
        assert_eq!(value.get("extra").is_some(), name == "wallet state with more", "{name}");
        assert_eq!(serde_json::from_value::<Record>(value).expect("a record"), record);
    }
}
