//! The canonical encoding: fixed vectors for every type, in both directions, and properties of all
//! values.
//!
//! `vectors/encoding.json` is what implementations in other languages test against. It is remade
//! with `cargo test --release -p kanjo-types --test encoding -- --ignored remake`; a change in it
//! is a change of the format, which breaks every ledger there is.
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod common;

use borsh::{BorshDeserialize, BorshSerialize};
use kanjo_types::access::{Access, KeySignature, PublicKey};
use kanjo_types::block::{
    Certificate, Header, Receipt, SupplyChange, TokenAmount, Vote, vote_digest,
};
use kanjo_types::codec::{Compact, from_bytes, to_bytes};
use kanjo_types::genesis::{FirstToken, FirstUser, FirstWallet, Genesis, Rules, Voter};
use kanjo_types::record::{
    Record, RowKey, Spent, TokenRecord, TransactionRecord, UserRecord, WalletRecord,
    WalletStateRecord,
};
use kanjo_types::signature::{KeyKind, SecretKey, verify};
use kanjo_types::stored::{decode_signed, genesis_receipt};
use kanjo_types::transaction::{Operation, SignedTransaction, TransactionBody};
use kanjo_types::{Amount, ChainId, Hash, ResultCode, TokenId, TransactionId, UserId, WalletId};
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Vector {
    /// The type, as in the Rust source.
    r#type: String,
    name: String,
    /// The readable form.
    json: Value,
    /// Canonical bytes, hexadecimal.
    bytes: String,
    /// What is computed from the value, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    derived: BTreeMap<String, String>,
}

fn vector<T: BorshSerialize + Serialize>(
    kind: &str,
    name: &str,
    value: &T,
    derived: &[(&str, String)],
) -> Vector {
    Vector {
        r#type: kind.to_owned(),
        name: name.to_owned(),
        json: serde_json::to_value(value).expect("json"),
        bytes: hex::encode(to_bytes(value)),
        derived: derived.iter().map(|(name, text)| ((*name).to_owned(), text.clone())).collect(),
    }
}

// ---- The values ----

fn secret(kind: KeyKind, seed: u8) -> SecretKey {
    SecretKey::from_seed(kind, [seed; 32]).expect("valid seed")
}

fn bank() -> Access {
    Access::Single(secret(KeyKind::Ed25519, 1).public())
}

fn alice() -> Access {
    Access::Single(secret(KeyKind::P256, 2).public())
}

fn board() -> Access {
    let keys = [KeyKind::Ed25519, KeyKind::P256, KeyKind::Secp256k1];
    Access::new(2, keys.map(|kind| secret(kind, 3).public()).to_vec()).expect("valid")
}

fn genesis() -> Genesis {
    let vote_key = |seed| match secret(KeyKind::Ed25519, seed).public() {
        PublicKey::Ed25519(key) => key,
        _ => [0; 32],
    };
    let user = |name: &str, access| FirstUser { name: name.to_owned(), access };
    let balances = BTreeMap::from([("JPY".to_owned(), Amount(1_000_000))]);
    Genesis {
        version: 1,
        name: "example".to_owned(),
        time_ms: 1_767_225_600_000,
        rules: Rules {
            replay_window_ms: 3_600_000,
            open_registration: true,
            open_tokens: false,
            operators: vec!["bank".to_owned()],
        },
        voters: (1..=3u8)
            .map(|n| Voter { name: format!("node-{n}"), key: vote_key(100 + n) })
            .collect(),
        users: vec![user("bank", bank()), user("alice", alice()), user("board", board())],
        tokens: vec![FirstToken {
            symbol: "JPY".to_owned(),
            name: "Japanese yen".to_owned(),
            decimals: 0,
            issuer: "bank".to_owned(),
        }],
        wallets: vec![
            FirstWallet { owner: "bank".to_owned(), number: 0, balances },
            FirstWallet { owner: "alice".to_owned(), number: 0, balances: BTreeMap::new() },
        ],
    }
}

fn ids() -> (ChainId, UserId, WalletId, WalletId) {
    let genesis = genesis();
    let user = genesis.user_id("bank").expect("bank");
    let wallet = |owner| genesis.wallet_id(owner, 0).expect("wallet");
    (genesis.chain_id(), user, wallet("bank"), wallet("alice"))
}

fn operations() -> Vec<(&'static str, Operation)> {
    let (_, user, from, to) = ids();
    let (token, amount) = (TokenId(1), Amount(1_250));
    let text = str::to_owned;
    vec![
        ("create_user", Operation::CreateUser { access: board(), number: 1 }),
        ("create_wallet", Operation::CreateWallet { owner: user, number: 2 }),
        (
            "create_token",
            Operation::CreateToken {
                symbol: text("USD"),
                name: text("US dollar"),
                decimals: 2,
                issuer: user,
            },
        ),
        ("issue", Operation::Issue { token, to: from, amount: Amount(u128::MAX) }),
        ("redeem", Operation::Redeem { token, from, amount }),
        ("transfer", Operation::Transfer { token, from, to, amount, reference: text("家賃 7月") }),
        ("transfer without reference", pay(from, to, 1)),
        ("rotate_keys", Operation::RotateKeys { user, access: alice() }),
    ]
}

fn pay(from: WalletId, to: WalletId, amount: u128) -> Operation {
    let reference = String::new();
    Operation::Transfer { token: TokenId(1), from, to, amount: Amount(amount), reference }
}

fn body(operations: Vec<Operation>) -> TransactionBody {
    let (chain, author, ..) = ids();
    let valid_until_ms = 1_767_225_660_000;
    TransactionBody { version: 1, chain, author, valid_until_ms, salt: 0x0102_0304, operations }
}

fn payment() -> SignedTransaction {
    let (_, _, from, to) = ids();
    body(vec![pay(from, to, 1_250)]).sign(&secret(KeyKind::Ed25519, 1))
}

fn by_the_board() -> SignedTransaction {
    let mut body = body(operations().into_iter().map(|(_, operation)| operation).collect());
    body.author = genesis().user_id("board").expect("board");
    let id = body.id();
    let sign = |key, kind| KeySignature { key, signature: secret(kind, 3).sign(&id.0) };
    let signatures = vec![sign(0, KeyKind::Ed25519), sign(2, KeyKind::Secp256k1)];
    SignedTransaction { body, signatures }
}

fn filled(byte: u8) -> Hash {
    Hash([byte; 32])
}

fn records() -> Vec<(&'static str, Record)> {
    let (_, user, wallet, _) = ids();
    let (previous, transaction) = (filled(0x11), filled(0x22));
    let state = |version, previous, balance| {
        let (token, wallet_record) = (TokenId(1), filled(0x55));
        let balance = Amount(balance);
        Record::WalletState(WalletStateRecord {
            wallet,
            token,
            version,
            balance,
            previous,
            transaction,
            wallet_record,
        })
    };
    let (sponsor, owner_record, issuer_record) = (user, filled(0x33), filled(0x44));
    let user_record =
        UserRecord { id: user, version: 2, access: board(), sponsor, previous, transaction };
    let wallet_record = WalletRecord {
        id: wallet,
        version: 1,
        owner: user,
        number: 0,
        previous: Hash::ZERO,
        transaction,
        owner_record,
    };
    let token_record = TokenRecord {
        id: TokenId(1),
        version: 2,
        symbol: "JPY".to_owned(),
        name: "Japanese yen".to_owned(),
        decimals: 0,
        issuer: user,
        issued: Amount(1_000_000),
        redeemed: Amount(1_250),
        previous,
        transaction,
        issuer_record,
    };
    let payment = payment();
    let transaction_record = TransactionRecord {
        id: payment.body.id(),
        witness: payment.witness(),
        height: 7,
        position: 3,
        time_ms: 1_767_225_601_500,
        author_record: filled(0x66),
        spent: vec![Spent { state: filled(0x77), transaction: filled(0x88) }],
    };
    vec![
        ("user", Record::User(user_record)),
        ("wallet", Record::Wallet(wallet_record)),
        ("token", Record::Token(token_record)),
        ("first wallet state", state(1, Hash::ZERO, 0)),
        ("later wallet state", state(9, previous, 998_750)),
        ("transaction", Record::Transaction(transaction_record)),
    ]
}

fn header() -> Header {
    let (chain, ..) = ids();
    let (token, issued, redeemed) = (TokenId(1), Amount(1_000_000), Amount(1_250));
    Header {
        version: 1,
        chain,
        height: 7,
        parents: vec![filled(0x99)],
        time_ms: 1_767_225_601_500,
        producer: 2,
        transactions: 4,
        transactions_root: filled(0xa1),
        receipts_root: filled(0xa2),
        state_root: filled(0xa3),
        history_root: filled(0xa4),
        fees: vec![TokenAmount { token, amount: Amount(5) }],
        supply: vec![SupplyChange { token, issued, redeemed }],
    }
}

fn certificate() -> Certificate {
    let header = header();
    let digest = vote_digest(0, header.height, &header.hash());
    let vote = |voter: u16, seed| {
        let signature = secret(KeyKind::Ed25519, seed).sign(&digest);
        Vote { voter, signature }
    };
    Certificate { epoch: 0, votes: vec![vote(0, 101), vote(2, 103)] }
}

fn receipts() -> Vec<(&'static str, Receipt)> {
    let id = payment().body.id();
    let good = Receipt {
        id,
        transaction: filled(0x22),
        result: ResultCode::Ok,
        failed_operation: None,
        rows_root: filled(0xb1),
        rows: 2,
    };
    let failed = Receipt {
        result: ResultCode::InsufficientFunds,
        failed_operation: Some(0),
        rows: 0,
        ..good.clone()
    };
    let genesis = genesis_receipt(ids().0, 6, filled(0xb2));
    vec![("done", good), ("failed", failed), ("genesis", genesis)]
}

fn made() -> Vec<Vector> {
    let mut all = Vec::new();
    simple_vectors(&mut all);
    let genesis = genesis();
    let chain = genesis.chain_id().to_string();
    all.push(vector("Genesis", "example", &genesis, &[("chain_id", chain)]));
    for (name, operation) in operations() {
        all.push(vector("Operation", name, &operation, &[]));
    }
    for (name, signed) in [("payment", payment()), ("2 of 3, every operation", by_the_board())] {
        let id = ("id", signed.body.id().to_string());
        let witness = ("witness", signed.witness().to_string());
        all.push(vector("TransactionBody", name, &signed.body, std::slice::from_ref(&id)));
        all.push(vector("SignedTransaction", name, &signed, &[id, witness]));
    }
    for (name, record) in records() {
        let mut derived = vec![("hash", record.hash().to_string())];
        if let Some((table, key)) = record.place() {
            derived.push(("row_key", key.0.to_string()));
            derived.push(("partition", key.partition().to_string()));
            derived.push(("table", (table as u8).to_string()));
        }
        all.push(vector("Record", name, &record, &derived));
    }
    let header = header();
    let hash = header.hash();
    let vote = vote_digest(0, header.height, &hash).to_string();
    let derived = [("hash", hash.to_string()), ("vote_digest_epoch_0", vote)];
    all.push(vector("Header", "height 7", &header, &derived));
    all.push(vector("Certificate", "2 of 3", &certificate(), &[]));
    for (name, receipt) in receipts() {
        all.push(vector("Receipt", name, &receipt, &[("hash", receipt.hash().to_string())]));
    }
    all
}

fn simple_vectors(all: &mut Vec<Vector>) {
    let (chain, _, _, _) = ids();
    for (name, access) in [("ed25519", bank()), ("p256", alice()), ("2 of 3", board())] {
        let user = |number| UserId::derive(chain, &access, number);
        let wallet = |number| WalletId::derive(chain, user(0), number).to_string();
        let derived = [
            ("chain", chain.to_string()),
            ("user_0", user(0).to_string()),
            ("user_1", user(1).to_string()),
            ("wallet_0_of_user_0", wallet(0)),
            ("wallet_7_of_user_0", wallet(7)),
        ];
        all.push(vector("Access", name, &access, &derived));
    }
    let user = UserId([0x01; 16]);
    let wallet = WalletId([0xfe; 16]);
    all.push(vector("UserId", "16 × 01", &user, &[("text", user.to_string())]));
    all.push(vector("WalletId", "16 × fe", &wallet, &[("text", wallet.to_string())]));
    for value in [0, 1, 1_250, u128::MAX] {
        all.push(vector("Amount", &value.to_string(), &Amount(value), &[]));
    }
}

#[test]
#[ignore = "writes vectors/encoding.json"]
fn remake_vectors() {
    common::write_vectors("encoding.json", &made());
}

// ---- The vectors, both ways ----

fn vectors() -> Vec<Vector> {
    serde_json::from_str(&common::read_vectors("encoding.json")).expect("vectors/encoding.json")
}

fn both_ways<T>(vector: &Vector) -> T
where
    T: BorshSerialize + BorshDeserialize + Serialize + DeserializeOwned + PartialEq + Debug,
{
    let bytes = hex::decode(&vector.bytes).expect("hex");
    let from_json: T = serde_json::from_value(vector.json.clone()).expect("json");
    assert_eq!(from_bytes::<T>(&bytes).as_ref(), Ok(&from_json), "{}", vector.name);
    assert_eq!(to_bytes(&from_json), bytes, "{}", vector.name);
    assert_eq!(serde_json::to_value(&from_json).expect("json"), vector.json, "{}", vector.name);
    from_json
}

fn derived(name: &str, value: impl ToString) -> (String, String) {
    (name.to_owned(), value.to_string())
}

fn derive_access(vector: &Vector) -> Vec<(String, String)> {
    let access: Access = both_ways(vector);
    let chain = vector.derived["chain"].parse().expect("chain id");
    let user = UserId::derive(chain, &access, 0);
    vec![
        derived("chain", chain),
        derived("user_0", user),
        derived("user_1", UserId::derive(chain, &access, 1)),
        derived("wallet_0_of_user_0", WalletId::derive(chain, user, 0)),
        derived("wallet_7_of_user_0", WalletId::derive(chain, user, 7)),
    ]
}

fn derive_record(vector: &Vector) -> Vec<(String, String)> {
    let record: Record = both_ways(vector);
    let mut all = vec![derived("hash", record.hash())];
    if let Some((table, key)) = record.place() {
        all.push(derived("row_key", key.0));
        all.push(derived("partition", key.partition()));
        all.push(derived("table", table as u8));
    }
    all
}

fn derive(vector: &Vector) -> Vec<(String, String)> {
    match vector.r#type.as_str() {
        "Access" => derive_access(vector),
        "UserId" => vec![derived("text", both_ways::<UserId>(vector))],
        "WalletId" => vec![derived("text", both_ways::<WalletId>(vector))],
        "Amount" => {
            both_ways::<Amount>(vector);
            vec![]
        }
        "Genesis" => {
            let genesis: Genesis = both_ways(vector);
            assert_eq!(genesis.check(), Ok(()));
            vec![derived("chain_id", genesis.chain_id())]
        }
        "Operation" => {
            both_ways::<Operation>(vector);
            vec![]
        }
        "TransactionBody" => vec![derived("id", both_ways::<TransactionBody>(vector).id())],
        "SignedTransaction" => {
            let signed: SignedTransaction = both_ways(vector);
            assert_eq!(signed.body.check_shape(), Ok(()));
            let decoded = decode_signed(&hex::decode(&vector.bytes).expect("hex"));
            assert_eq!(decoded, Ok((signed.clone(), signed.body.id())));
            vec![derived("id", signed.body.id()), derived("witness", signed.witness())]
        }
        "Record" => derive_record(vector),
        "Header" => {
            let header: Header = both_ways(vector);
            let hash = header.hash();
            let vote = vote_digest(0, header.height, &hash);
            vec![derived("hash", hash), derived("vote_digest_epoch_0", vote)]
        }
        "Certificate" => {
            both_ways::<Certificate>(vector);
            vec![]
        }
        "Receipt" => vec![derived("hash", both_ways::<Receipt>(vector).hash())],
        other => panic!("a vector of unknown type {other}"),
    }
}

#[test]
fn the_vectors_are_the_ones_this_file_makes() {
    let vectors = vectors();
    for (stored, made) in vectors.iter().zip(made()) {
        assert_eq!(*stored, made);
    }
    assert_eq!(vectors.len(), made().len());
}

#[test]
fn every_vector_reads_and_writes_the_same_and_derives_the_same() {
    for vector in vectors() {
        let derived: BTreeMap<String, String> = derive(&vector).into_iter().collect();
        assert_eq!(derived, vector.derived, "{} {}", vector.r#type, vector.name);
    }
}

#[test]
fn vectors_cover_every_operation_record_and_table() {
    let vectors = vectors();
    let tags = |kind: &str| -> BTreeSet<String> {
        let of_kind = vectors.iter().filter(|vector| vector.r#type == kind);
        of_kind.map(|vector| vector.bytes[..2].to_owned()).collect()
    };
    assert_eq!(tags("Operation").len(), 7);
    assert_eq!(tags("Record").len(), 5);
}

#[test]
fn signatures_in_the_vectors_verify() {
    let payment = payment();
    let signature = &payment.signatures[0].signature;
    assert!(verify(&bank().keys()[0], &payment.body.id().0, signature));
    let signed = by_the_board();
    for signature in &signed.signatures {
        let key = board().keys()[usize::from(signature.key)];
        assert!(verify(&key, &signed.body.id().0, &signature.signature));
    }
    let header = header();
    let digest = vote_digest(0, header.height, &header.hash());
    for vote in certificate().votes {
        let key = genesis().voters[usize::from(vote.voter)].key;
        assert!(verify(&PublicKey::Ed25519(key), &digest, &vote.signature));
    }
}

#[test]
fn a_plain_payment_is_drawn_to_the_byte() {
    // The drawing in docs/format.md.
    let bytes = to_bytes(&payment());
    let (chain, author, from, to) = ids();
    assert_eq!(bytes.len(), 195);
    assert_eq!(bytes[0], 1, "version");
    assert_eq!(bytes[1..33], chain.0.0, "chain");
    assert_eq!(bytes[33..49], author.0, "author");
    assert_eq!(bytes[49..57], 1_767_225_660_000u64.to_le_bytes(), "valid_until_ms");
    assert_eq!(bytes[57..65], 0x0102_0304u64.to_le_bytes(), "salt");
    assert_eq!(bytes[65..69], 1u32.to_le_bytes(), "one operation");
    assert_eq!(bytes[69], 5, "transfer");
    assert_eq!(bytes[70..74], 1u32.to_le_bytes(), "token");
    assert_eq!(bytes[74..90], from.0, "from");
    assert_eq!(bytes[90..106], to.0, "to");
    assert_eq!(bytes[106..122], 1_250u128.to_le_bytes(), "amount");
    assert_eq!(bytes[122..126], 0u32.to_le_bytes(), "no reference");
    assert_eq!(bytes[126..130], 1u32.to_le_bytes(), "one signature");
    assert_eq!(bytes[130], 0, "key 0");
    assert_eq!(bytes[131..195], payment().signatures[0].signature, "signature");
}

#[test]
fn row_keys_sort_as_their_rows_and_stay_inside_the_bounds() {
    let keys = [
        RowKey::token(TokenId(1)),
        RowKey::token(TokenId(2)),
        RowKey::token(TokenId(256)),
        RowKey::token(TokenId(u32::MAX)),
    ];
    assert!(keys.is_sorted_by(|a, b| a < b));
    let wallet = WalletId([7; 16]);
    assert!(RowKey::wallet_state(wallet, TokenId(2)) < RowKey::wallet_state(wallet, TokenId(256)));
    for key in keys {
        assert!(RowKey::MIN < key && key < RowKey::MAX);
        assert!(key.partition() < 64);
    }
}

// ---- JSON ----

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

// ---- Canonical means one form ----

#[test]
fn balances_out_of_order_or_twice_are_refused() {
    let balances = ["AAA", "BBB"].map(|symbol| (symbol.to_owned(), Amount(1))).into();
    let wallet = FirstWallet { owner: "bank".to_owned(), number: 0, balances };
    let good = to_bytes(&wallet);
    assert_eq!(from_bytes::<FirstWallet>(&good), Ok(wallet));
    let place = |symbol: &[u8]| good.windows(3).position(|bytes| bytes == symbol).expect("there");
    let (a, b) = (place(b"AAA"), place(b"BBB"));
    let mut swapped = good.clone();
    swapped[a..a + 3].copy_from_slice(b"BBB");
    swapped[b..b + 3].copy_from_slice(b"AAA");
    assert!(from_bytes::<FirstWallet>(&swapped).is_err(), "descending");
    let mut twice = good.clone();
    twice[b..b + 3].copy_from_slice(b"AAA");
    assert!(from_bytes::<FirstWallet>(&twice).is_err(), "twice");
}

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

#[test]
fn compact_integers_have_one_form() {
    for (value, bytes) in [
        (0, "00"),
        (1, "01"),
        (127, "7f"),
        (128, "8001"),
        (300, "ac02"),
        (u128::from(u32::MAX), "ffffffff0f"),
        (u128::MAX, "ffffffffffffffffffffffffffffffffffff03"),
    ] {
        let bytes = hex::decode(bytes).expect("hex");
        assert_eq!(to_bytes(&Compact(value)), bytes);
        assert_eq!(from_bytes::<Compact>(&bytes), Ok(Compact(value)));
    }
    let longest = "ffffffffffffffffffffffffffffffffffff";
    let too_large = [format!("{longest}04"), format!("{longest}83"), format!("{longest}8301")];
    let padded = ["8000", "ff00", "808000"].map(str::to_owned);
    for bad in padded.into_iter().chain(too_large) {
        let bytes = hex::decode(&bad).expect("hex");
        assert!(from_bytes::<Compact>(&bytes).is_err(), "{bad}");
    }
}

fn round_trip<T>(value: &T) -> Result<(), TestCaseError>
where
    T: BorshSerialize + BorshDeserialize + Serialize + DeserializeOwned + PartialEq + Debug,
{
    let bytes = to_bytes(value);
    let decoded = from_bytes::<T>(&bytes);
    prop_assert_eq!(decoded.as_ref(), Ok(value));
    for cut in [0, bytes.len() / 2, bytes.len().saturating_sub(1)] {
        prop_assert!(from_bytes::<T>(&bytes[..cut]).is_err(), "cut to {} bytes", cut);
    }
    prop_assert!(from_bytes::<T>(&[&bytes[..], &[0]].concat()).is_err(), "a byte more");
    let text = serde_json::to_string(value).expect("json");
    prop_assert_eq!(&serde_json::from_str::<T>(&text).expect("json"), value);
    let tree = serde_json::to_value(value).expect("json");
    prop_assert_eq!(&serde_json::from_value::<T>(tree).expect("json"), value);
    Ok(())
}

/// Bytes near a valid encoding: what decodes must encode to the same bytes.
fn canonical<T>(value: &T, changes: &[(prop::sample::Index, u8)]) -> Result<(), TestCaseError>
where
    T: BorshSerialize + BorshDeserialize,
{
    let mut bytes = to_bytes(value);
    for (at, change) in changes {
        let at = at.index(bytes.len());
        bytes[at] ^= change;
        if let Ok(decoded) = from_bytes::<T>(&bytes) {
            prop_assert_eq!(&to_bytes(&decoded), &bytes);
        }
    }
    Ok(())
}

fn changes() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    // Small changes hit tags and counts where large ones only break them.
    let change = prop_oneof![1u8..4, any::<u8>()];
    proptest::collection::vec((any::<prop::sample::Index>(), change), 1..40)
}

proptest! {
    #![proptest_config(common::config(512, 1))]

    #[test]
    fn signed_transactions_round_trip(value in common::signed()) {
        round_trip(&value)?;
        let decoded = decode_signed(&to_bytes(&value));
        prop_assert_eq!(decoded, Ok((value.clone(), value.body.id())));
    }

    #[test]
    fn records_round_trip(value in common::record()) { round_trip(&value)?; }

    #[test]
    fn headers_round_trip(value in common::header()) { round_trip(&value)?; }

    #[test]
    fn receipts_round_trip(value in common::receipt()) { round_trip(&value)?; }

    #[test]
    fn certificates_round_trip(value in common::certificate()) { round_trip(&value)?; }

    #[test]
    fn genesis_files_round_trip(value in common::genesis()) { round_trip(&value)?; }

    #[test]
    fn accesses_round_trip(value in common::access()) { round_trip(&value)?; }

    #[test]
    fn ids_round_trip_as_text(user: [u8; 16], wallet: [u8; 16], hash in common::hash()) {
        let (user, wallet) = (UserId(user), WalletId(wallet));
        prop_assert_eq!(user.to_string().parse(), Ok(user));
        prop_assert_eq!(wallet.to_string().parse(), Ok(wallet));
        prop_assert!(wallet.to_string().parse::<UserId>().is_err());
        prop_assert_eq!(TransactionId(hash).to_string().parse(), Ok(TransactionId(hash)));
    }

    #[test]
    fn changed_signed_transactions_that_decode_are_canonical(v in common::signed(), c in changes()) {
        canonical(&v, &c)?;
    }

    #[test]
    fn changed_records_that_decode_are_canonical(v in common::record(), c in changes()) {
        canonical(&v, &c)?;
    }

    #[test]
    fn changed_headers_that_decode_are_canonical(v in common::header(), c in changes()) {
        canonical(&v, &c)?;
    }

    #[test]
    fn changed_receipts_that_decode_are_canonical(v in common::receipt(), c in changes()) {
        canonical(&v, &c)?;
    }

    #[test]
    fn changed_genesis_bytes_that_decode_are_canonical(v in common::genesis(), c in changes()) {
        canonical(&v, &c)?;
    }

    #[test]
    fn random_bytes_that_decode_are_canonical(bytes: Vec<u8>) {
        if let Ok(value) = from_bytes::<SignedTransaction>(&bytes) {
            prop_assert_eq!(to_bytes(&value), bytes.clone());
        }
        if let Ok(value) = from_bytes::<Record>(&bytes) {
            prop_assert_eq!(to_bytes(&value), bytes.clone());
        }
        if let Ok(value) = from_bytes::<Access>(&bytes) {
            prop_assert_eq!(to_bytes(&value), bytes);
        }
    }
}
