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
mod values;

use borsh::{BorshDeserialize, BorshSerialize};
use kanjo_types::access::{Access, PublicKey};
use kanjo_types::block::{
    Certificate, Header, Receipt, challenge, integrity_answer, proposal_digest, vote_digest,
};
use kanjo_types::codec::{Compact, from_bytes, to_bytes};
use kanjo_types::genesis::{FirstWallet, Genesis};
use kanjo_types::hash::{TAG_SIGNERS, digest};
use kanjo_types::id::{ActId, BundleId, ClaimId, PendingId, ScheduleId};
use kanjo_types::money::{Evidence, attribute_commitment};
use kanjo_types::policy::Policy;
use kanjo_types::record::{Record, RowKey};
use kanjo_types::row::{Value, ordered_key, range_digest, row_key};
use kanjo_types::signature::verify;
use kanjo_types::stored::decode_signed;
use kanjo_types::transaction::{LEDGER, Operation, SignedTransaction, TransactionBody};
use kanjo_types::{Amount, Hash, Refusal, RelationId, TokenId, TransactionId, UserId, WalletId};
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use values::*;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Vector {
    /// The type, as in the Rust source.
    r#type: String,
    name: String,
    /// The readable form.
    json: Json,
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

/// What is computed from a header alone, or with fixed values: the measurement e1…, the certificate
/// of node-4, the proposal's signature 5a….
fn derived_of(header: &Header) -> [(&'static str, Hash); 6] {
    let (hash, chain) = (header.hash(), header.chain);
    let seed = challenge(&header.parents[0], &[0x5a; 64]);
    let certificate = cluster::node().hash(chain);
    let answer = integrity_answer(&filled(0xe1), &certificate, &seed, &hash);
    [
        ("hash", hash),
        ("node_4", certificate),
        ("proposal_digest_term_3", proposal_digest(chain, 3, header.height, &hash)),
        ("challenge", seed),
        ("integrity_answer", answer),
        ("vote_digest_epoch_0", vote_digest(0, header.height, &hash, &answer)),
    ]
}

fn made() -> Vec<Vector> {
    let mut all = Vec::new();
    simple_vectors(&mut all);
    let genesis = genesis();
    let chain = genesis.chain_id().to_string();
    all.push(vector("Genesis", "example", &genesis, &[("chain_id", chain)]));
    let ruled = with_policy(genesis);
    let chain = ruled.chain_id().to_string();
    all.push(vector("Genesis", "a token with a policy", &ruled, &[("chain_id", chain)]));
    let parties = [("parties", Operation::Parties { users: money::others() })];
    let of_users = operations().into_iter().chain(parties).chain(money::operations());
    let of_users = of_users.chain(cluster::operations()).chain(tables::operations());
    for (name, operation) in of_users.chain(money::of_the_ledger()).chain(cluster::notices()) {
        all.push(vector("Operation", name, &operation, &[]));
    }
    all.push(vector("Evidence", "of a payment", &money::evidence(), &[]));
    for (name, signed) in [
        ("payment", payment()),
        ("2 of 3, every operation", by_the_board()),
        ("two signers", money::by_bank_and_board()),
        ("by the ledger", money::by_the_ledger()),
    ] {
        let id = ("id", signed.body.id().to_string());
        let witness = ("witness", signed.witness().to_string());
        all.push(vector("TransactionBody", name, &signed.body, std::slice::from_ref(&id)));
        all.push(vector("SignedTransaction", name, &signed, &[id, witness]));
    }
    row_vectors(&mut all);
    let of_rules = standing::records().into_iter().chain(cluster::records());
    for (name, record) in records().into_iter().chain(of_rules).chain(tables::records()) {
        let mut derived = vec![("hash", record.hash().to_string())];
        if let Some((table, key)) = record.place() {
            derived.push(("row_key", key.0.to_string()));
            derived.push(("partition", key.partition().to_string()));
            derived.push(("table", (table as u8).to_string()));
        }
        all.push(vector("Record", name, &record, &derived));
    }
    let header = header();
    let derived = derived_of(&header).map(|(name, hash)| (name, hash.to_string()));
    all.push(vector("Header", "height 7", &header, &derived));
    all.push(vector("Certificate", "2 of 3", &certificate(), &[]));
    for (name, receipt) in receipts() {
        all.push(vector("Receipt", name, &receipt, &[("hash", receipt.hash().to_string())]));
    }
    all
}

/// Values, where rows with them as a key lie in table 3, and what a range of two rows digests to.
fn row_vectors(all: &mut Vec<Vector>) {
    for (kind, value) in tables::values() {
        let derived = derived_of_value(&value);
        let name = serde_json::to_string(&kind).expect("json");
        all.push(vector("Value", &name, &value, &derived));
    }
    let range = [(RowKey(filled(0x0a)), filled(0x1a)), (RowKey(filled(0x0b)), filled(0x1b))];
    let digest = range_digest(range.into_iter()).to_string();
    all.push(vector("Range", "key and record hash of two rows", &range, &[("digest", digest)]));
}

fn derived_of_value(value: &Value) -> Vec<(&'static str, String)> {
    let (Some(ordered), Some(key)) = (ordered_key([value]), row_key(RelationId(3), [value])) else {
        return Vec::new();
    };
    vec![("ordered", hex::encode(ordered)), ("row_key_in_table_3", key.0.to_string())]
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
    item_ids(all);
    let signers = [filled(0x11), filled(0x22)];
    let of_signers = [("digest", digest_of(&signers).to_string())];
    all.push(vector("Signers", "two records", &signers, &of_signers));
    let attribute = (filled(0x05), "legal_name".to_owned(), "山田 花子".to_owned());
    let commitment = attribute_commitment(&attribute.0.0, &attribute.1, &attribute.2).to_string();
    all.push(vector("Attribute", "salt, name, value", &attribute, &[("commitment", commitment)]));
    for value in [0, 1, 1_250, u128::MAX] {
        all.push(vector("Amount", &value.to_string(), &Amount(value), &[]));
    }
}

/// The token of the genesis under a policy; without a fee, whose receiver a genesis can't know.
fn with_policy(mut genesis: Genesis) -> Genesis {
    genesis.tokens[0].policy = Policy { fee: None, ..money::policy() };
    genesis
}

/// What a transaction record says of the records of several signers.
fn digest_of(records: &[Hash]) -> Hash {
    let records: Vec<&[u8]> = records.iter().map(|record| &record.0[..]).collect();
    digest(TAG_SIGNERS, &records)
}

/// Ids of what the third operation of a transaction makes.
fn item_ids(all: &mut Vec<Vector>) {
    let transaction = TransactionId(filled(0xc1));
    let derived = |id: String| [("transaction", transaction.to_string()), ("text", id)];
    let name = "operation 2, part 1";
    macro_rules! item {
        ($($kind:ident)*) => {$(
            let id = $kind::derive(transaction, 2, 1);
            all.push(vector(stringify!($kind), name, &id, &derived(id.to_string())));
        )*};
    }
    item!(PendingId BundleId ScheduleId ActId ClaimId);
}

macro_rules! derive_item {
    ($kind:ident, $vector:expr) => {{
        let id: $kind = both_ways($vector);
        let transaction = $vector.derived["transaction"].parse().expect("a transaction id");
        assert_eq!(id, $kind::derive(transaction, 2, 1));
        vec![derived("transaction", transaction), derived("text", id)]
    }};
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
        "PendingId" => derive_item!(PendingId, vector),
        "BundleId" => derive_item!(BundleId, vector),
        "ScheduleId" => derive_item!(ScheduleId, vector),
        "ActId" => derive_item!(ActId, vector),
        "ClaimId" => derive_item!(ClaimId, vector),
        "Signers" => vec![derived("digest", digest_of(&both_ways::<[Hash; 2]>(vector)))],
        "Attribute" => {
            let (salt, name, value) = both_ways::<(Hash, String, String)>(vector);
            vec![derived("commitment", attribute_commitment(&salt.0, &name, &value))]
        }
        "Operation" => {
            both_ways::<Operation>(vector);
            vec![]
        }
        "Evidence" => {
            both_ways::<Evidence>(vector);
            vec![]
        }
        "TransactionBody" => vec![derived("id", both_ways::<TransactionBody>(vector).id())],
        "SignedTransaction" => {
            let signed: SignedTransaction = both_ways(vector);
            let refusal = signed.body.check_shape().err().map(|refused| refused.refusal);
            let of_the_ledger = signed.body.author == LEDGER;
            assert_eq!(refusal, of_the_ledger.then_some(Refusal::LedgerOnly));
            let decoded = decode_signed(&hex::decode(&vector.bytes).expect("hex"));
            assert_eq!(decoded, Ok((signed.clone(), signed.body.id())));
            vec![derived("id", signed.body.id()), derived("witness", signed.witness())]
        }
        "Record" => derive_record(vector),
        "Value" => {
            let value: Value = both_ways(vector);
            let found = derived_of_value(&value).into_iter();
            found.map(|(name, text)| derived(name, text)).collect()
        }
        "Range" => {
            let range: [(RowKey, Hash); 2] = both_ways(vector);
            vec![derived("digest", range_digest(range.into_iter()))]
        }
        "Header" => {
            let header: Header = both_ways(vector);
            derived_of(&header).map(|(name, hash)| derived(name, hash)).to_vec()
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
    assert_eq!(tags("Operation").len(), 32);
    assert_eq!(tags("Record").len(), 18);
    assert_eq!(tags("Value").len(), 10);
    let defined = vectors.iter().filter(|vector| vector.name.starts_with("define: "));
    let changes: BTreeSet<&str> = defined
        .map(|vector| if vector.name == "define: create" { "00" } else { &vector.bytes[76..78] })
        .collect();
    assert_eq!(changes.len(), 10);
    let acts = vectors.iter().filter(|vector| vector.name.starts_with("act: "));
    let acts: BTreeSet<&str> = acts.map(|vector| &vector.bytes[2..4]).collect();
    assert_eq!(acts.len(), 10);
    let tables = vectors.iter().filter_map(|vector| vector.derived.get("table"));
    assert_eq!(tables.collect::<BTreeSet<_>>().len(), kanjo_types::Table::ALL.len());
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
    let signed = money::by_bank_and_board();
    let keys = [bank().keys(), board().keys()].concat();
    for signature in &signed.signatures {
        let key = keys[usize::from(signature.key)];
        assert!(verify(&key, &signed.body.id().0, &signature.signature));
    }
    let header = header();
    for vote in certificate().votes {
        let digest = vote_digest(0, header.height, &header.hash(), &vote.answer);
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
    fn evidence_round_trips(value in common::money::evidence()) { round_trip(&value)?; }

    #[test]
    fn standing_records_round_trip(value in common::standing::record()) { round_trip(&value)?; }

    #[test]
    fn operations_of_every_kind_round_trip(
        plain in common::plain_operation(),
        rules in common::money::operation(),
        system in common::money::of_the_ledger(),
        reversal in common::money::reversal(),
    ) {
        for value in [plain, rules, system, reversal] {
            round_trip(&value)?;
        }
    }

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
    fn changed_evidence_that_decodes_is_canonical(
        v in common::money::evidence(), c in changes(),
    ) {
        canonical(&v, &c)?;
    }

    #[test]
    fn changed_operations_that_decode_are_canonical(
        v in common::money::operation(), c in changes(),
    ) {
        canonical(&v, &c)?;
    }

    #[test]
    fn changed_records_that_decode_are_canonical(v in common::record(), c in changes()) {
        canonical(&v, &c)?;
    }

    #[test]
    fn changed_rows_and_definitions_that_decode_are_canonical(
        at in any::<prop::sample::Index>(), c in changes(),
    ) {
        let (_, record) = at.get(&tables::records()).clone();
        canonical(&record, &c)?;
        let (_, operation) = at.get(&tables::operations()).clone();
        canonical(&operation, &c)?;
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
