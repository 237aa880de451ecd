//! The block as the log keeps it: consistent blocks come back exactly, damaged ones never do harm.
//!
//! `vectors/blocks.json` holds three small blocks; it is remade with
//! `cargo test --release -p kanjo-types --test stored -- --ignored remake`.
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod common;
mod ledger;

use kanjo_types::codec;
use kanjo_types::record::{Record, StateExtra, WalletStateRecord};
use kanjo_types::stored::{
    Block, Location, append_entry, append_head, append_tail, decode_block, decode_head,
    decode_signed, encode_block, genesis_receipt,
};
use kanjo_types::transaction::{LEDGER, Operation};
use kanjo_types::{Amount, ChainId, Hash, ResultCode, TokenId, hash};
use ledger::{CHAIN, Ledger, expire, interest, key, pay, reserve, user, wallet};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

fn assert_round_trip(block: &Block) -> Vec<u8> {
    let bytes = encode_block(block);
    let decoded = decode_block(&bytes, CHAIN).expect("a block");
    assert_eq!(decoded.header, block.header);
    for (decoded, entry) in decoded.entries.iter().zip(&block.entries) {
        assert_eq!(decoded, entry);
    }
    assert_eq!(decoded, *block);
    assert_eq!(encode_block(&decoded), bytes);
    let head = decode_head(&bytes).expect("a head");
    assert_eq!(head, (block.header.clone(), block.certificate.clone()));
    bytes
}

fn issue(token: u32, to: u8, amount: u128) -> Operation {
    Operation::Issue { token: TokenId(token), to: wallet(to), amount: Amount(amount) }
}

fn redeem(token: u32, from: u8, amount: u128) -> Operation {
    Operation::Redeem { token: TokenId(token), from: wallet(from), amount: Amount(amount) }
}

fn create_user(n: u8) -> Operation {
    Operation::CreateUser { access: key(n), number: u64::from(n) }
}

fn create_wallet(n: u8) -> Operation {
    Operation::CreateWallet { owner: user(n), number: 1 }
}

fn create_token(symbol: &str) -> Operation {
    let (symbol, name) = (symbol.to_owned(), format!("Token {symbol}"));
    let (policy, grants) = (Box::default(), vec![]);
    Operation::CreateToken { symbol, name, decimals: 2, issuer: user(1), policy, grants }
}

fn rotate(n: u8) -> Operation {
    Operation::RotateKeys { user: user(n), access: key(n | 0x40) }
}

/// Three blocks with every kind of entry.
fn samples() -> Vec<(&'static str, Block)> {
    let (mut ledger, genesis) = Ledger::genesis();
    let first = ledger.next(vec![
        vec![pay(1, 1, 2, 100, "")],
        vec![pay(1, 1, 3, 50, "first money of wallet 3")],
        vec![pay(1, 4, 1, 1, "wallet 4 has nothing")],
        vec![issue(2, 1, u128::MAX)],
        vec![create_user(7), create_wallet(2), create_token("USD"), rotate(3)],
    ]);
    let second = ledger.next(vec![
        vec![pay(1, 3, 4, 50, ""), pay(1, 4, 3, 20, ""), pay(1, 3, 4, 20, ""), pay(1, 1, 4, 1, "")],
        vec![create_token("EUR"), issue(7, 2, 500), pay(7, 2, 3, 200, ""), redeem(7, 3, 200)],
        vec![rotate(3), pay(2, 1, 2, 1, "a mixed one")],
        vec![pay(1, 1, 2, 1, ""), pay(1, 1, 2, 10_000_000, "fails whole")],
    ]);
    let third = ledger.next(vec![
        vec![reserve(1, 1, 2, 900), pay(1, 1, 2, 5, "held"), pay(1, 2, 3, 7, "")],
        vec![interest(1, 1, &[2, 4]), pay(1, 1, 2, 3, "")],
        vec![reserve(1, 2, 4, 40), pay(1, 4, 2, 1, "")],
    ]);
    let fourth = ledger.next(vec![
        vec![expire(1)],
        vec![pay(1, 1, 2, 1, "plain again")],
        vec![pay(1, 3, 2, 1, "to one who has reserved")],
    ]);
    vec![
        ("genesis", genesis),
        ("height 1", first),
        ("height 2", second),
        ("height 3", third),
        ("height 4", fourth),
    ]
}

/// How the wallet states of an entry are kept: true for the short form.
fn forms(block: &Block, entry: usize) -> Vec<bool> {
    let states = block.entries[entry].rows.iter().filter_map(|row| match &row.record {
        Record::WalletState(state) => Some(row.named && state.extra.is_none()),
        _ => None,
    });
    states.collect()
}

#[test]
fn states_that_the_operations_do_not_name_keep_their_keys() {
    let samples = samples();
    let (third, fourth) = (&samples[3].1, &samples[4].1);
    // Wallet 1 has reserved money; 2 and 3 are the next that the operations name.
    assert_eq!(forms(third, 0), [false, true, true]);
    assert!(third.entries[0].rows[1].named, "named, but with more than a balance");
    // The payer of interest is named by the payment after it; 2 is, too; 4 is not.
    assert_eq!(forms(third, 1), [false, true, false]);
    assert_eq!(forms(third, 2), [false, true]);
    // What the ledger does by itself names nothing.
    let expiry = &fourth.entries[0];
    assert_eq!((forms(fourth, 0), expiry.rows.len()), (vec![false], 2));
    let (signed, _) = decode_signed(&expiry.raw).expect("a transaction");
    assert_eq!((signed.body.author, signed.signatures.len()), (LEDGER, 0));
    assert_eq!(expiry.record.author_record, Hash::ZERO);
    assert_eq!(forms(fourth, 1), [true, false], "wallet 2 still has reserved money");
    assert_eq!(forms(fourth, 2), [true, false]);
}

#[test]
fn what_is_kept_with_its_key_is_spent_after_what_the_operations_pay_from() {
    let samples = samples();
    let (third, fourth) = (&samples[3].1, &samples[4].1);
    let spent = |block: &Block, entry: usize| -> Vec<Hash> {
        block.entries[entry].record.spent.iter().map(|spent| spent.state).collect()
    };
    let previous = |block: &Block, entry: usize, row: usize| -> Hash {
        block.entries[entry].rows[row].record.previous()
    };
    // Rows: pending payment, then states 1, 2, 3. Both payers; wallet 1 once, though kept in full.
    assert_eq!(spent(third, 0), [previous(third, 0, 1), previous(third, 0, 2)]);
    // The payment names wallet 1 as payer; wallet 4 is kept with its key.
    assert_eq!(spent(third, 1), [previous(third, 1, 0), previous(third, 1, 2)]);
    // Wallet 4 pays; then wallet 2, which the reservation changed.
    assert_eq!(spent(third, 2), [previous(third, 2, 2), previous(third, 2, 1)]);
    assert_eq!(spent(fourth, 0), [previous(fourth, 0, 1)]);
    // Wallet 3 pays; wallet 2 only receives, but its state is kept in full.
    assert_eq!(spent(fourth, 2), [previous(fourth, 2, 0), previous(fourth, 2, 1)]);
    let all = fourth.entries.iter().flat_map(|entry| &entry.record.spent);
    assert!(all.into_iter().all(|spent| !spent.transaction.is_zero()));
}

#[test]
fn blocks_with_every_kind_of_entry_come_back_exactly() {
    for (_, block) in samples() {
        assert_round_trip(&block);
    }
}

#[test]
fn samples_hold_what_they_are_meant_to_hold() {
    let samples = samples();
    let (genesis, first, second) = (&samples[0].1, &samples[1].1, &samples[2].1);
    assert_eq!(genesis.genesis_rows.len(), 11);
    let failed = &first.entries[2];
    assert_eq!((failed.result, failed.failed_operation), (ResultCode::InsufficientFunds, Some(0)));
    assert!(failed.rows.is_empty() && failed.record.spent.is_empty());
    let state = |entry: usize, row: usize| match &first.entries[entry].rows[row].record {
        Record::WalletState(state) => state.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!((state(0, 0).version, state(0, 1).version), (2, 2));
    assert_eq!((state(1, 0).version, state(1, 1).version), (3, 1));
    assert_eq!(first.entries[1].record.spent[0].state, first.entries[0].rows[0].hash);
    assert_eq!(first.entries[1].record.spent[0].transaction, first.entries[0].hash);
    assert_eq!(first.entries[0].record.spent[0].transaction, CHAIN.0);
    // A wallet that is paid first and pays later in one transaction spends no earlier state.
    let batch = &second.entries[0];
    assert_eq!((batch.rows.len(), batch.record.spent.len()), (3, 2));
    assert_eq!(second.entries[1].record.spent.len(), 0);
    assert_eq!(second.entries[3].failed_operation, Some(1));
    let expected_at = Location { height: 1, position: 4 };
    assert_eq!(second.entries[2].rows[0].previous_at, expected_at, "keys of user 3");
}

#[test]
fn an_entry_appended_alone_is_the_same_as_in_a_whole_block() {
    for (_, block) in samples() {
        let mut bytes = Vec::new();
        append_head(&block.header, &block.certificate, &mut bytes);
        block.entries.iter().for_each(|entry| append_entry(entry, &mut bytes));
        append_tail(&block.genesis_rows, &mut bytes);
        assert_eq!(bytes, encode_block(&block));
    }
}

#[test]
fn receipts_repeat_the_entry() {
    let samples = samples();
    let entry = &samples[1].1.entries[2];
    let receipt = entry.receipt(Hash([9; 32]));
    assert_eq!((receipt.id, receipt.transaction), (entry.record.id, entry.hash));
    assert_eq!((receipt.result, receipt.failed_operation), (entry.result, Some(0)));
    assert_eq!((receipt.rows, receipt.rows_root), (0, Hash([9; 32])));
    let genesis = genesis_receipt(CHAIN, 11, Hash([8; 32]));
    assert_eq!((genesis.transaction, genesis.rows), (CHAIN.0, 11));
}

#[test]
fn another_chain_gives_other_transactions() {
    let block = &samples()[1].1;
    let other = decode_block(&encode_block(block), ChainId(Hash([1; 32]))).expect("a block");
    assert_ne!(other.entries[0].record.id, block.entries[0].record.id);
    assert_ne!(other.entries[0].hash, block.entries[0].hash);
}

// ---- The fixture ----

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Fixture {
    name: String,
    chain: ChainId,
    header_hash: Hash,
    /// Hashes of the transaction records.
    transactions: Vec<Hash>,
    /// Hashes of the rows, of all entries and of the genesis.
    rows: Vec<Hash>,
    bytes: String,
}

fn fixtures() -> Vec<Fixture> {
    let of = |(name, block): (&str, Block)| Fixture {
        name: name.to_owned(),
        chain: CHAIN,
        header_hash: block.header.hash(),
        transactions: block.entries.iter().map(|entry| entry.hash).collect(),
        rows: (block.entries.iter().flat_map(|entry| &entry.rows))
            .chain(&block.genesis_rows)
            .map(|row| row.hash)
            .collect(),
        bytes: hex::encode(encode_block(&block)),
    };
    samples().into_iter().map(of).collect()
}

/// Digest of the bytes of all blocks in `vectors/blocks.json`. It changes only with the format.
const PINNED: &str = "7b8fd786a58f1369257082584aa87e10f2728c663bb3e08e083139f971514b66";

#[test]
#[ignore = "writes vectors/blocks.json"]
fn remake_vectors() {
    common::write_vectors("blocks.json", &fixtures());
}

#[test]
fn blocks_written_by_an_earlier_build_still_read_the_same() {
    let text = common::read_vectors("blocks.json");
    let stored: Vec<Fixture> = serde_json::from_str(&text).expect("vectors/blocks.json");
    assert_eq!(stored, fixtures());
    let mut all = Vec::new();
    for (fixture, (_, block)) in stored.iter().zip(samples()) {
        let bytes = hex::decode(&fixture.bytes).expect("hex");
        assert_eq!(decode_block(&bytes, fixture.chain), Ok(block), "{}", fixture.name);
        all.extend(bytes);
    }
    assert_eq!(hash::digest(hash::TAG_HEADER, &[&all]).to_string(), PINNED);
}

// ---- Size ----

#[test]
fn a_plain_payment_takes_at_most_400_bytes() {
    let (mut ledger, _) = Ledger::genesis();
    let block_of = |count: usize, reference: &str| {
        let amount = |n: usize| 1_000 + u128::try_from(n).expect("small");
        (0..count).map(|n| vec![pay(1, 1, 2, amount(n) % 7 + 1, reference)]).collect::<Vec<_>>()
    };
    ledger.next(block_of(1, ""));
    // A young ledger, then one of ten million blocks, where heights take four bytes.
    for (height, count, reference) in
        [(2, 100, ""), (10_000_000, 100, ""), (10_000_100, 10_000, ""), (10_000_200, 100, "rent 7")]
    {
        ledger.skip_to(height);
        ledger.next(block_of(count, ""));
        let one = encode_block(&ledger.next(block_of(1, reference))).len();
        let many = encode_block(&ledger.next(block_of(count + 1, reference))).len();
        let each = (many - one).div_ceil(count);
        println!("{each} bytes per payment: height {height}, {count} a block, '{reference}'");
        assert!(each <= 400 + reference.len(), "{each}");
    }
}

// ---- Damage ----

fn assert_harmless(bytes: &[u8]) {
    if let Ok(block) = decode_block(bytes, CHAIN) {
        assert_eq!(encode_block(&block), bytes, "two encodings of one block");
    }
}

#[test]
fn every_truncation_is_refused() {
    for (name, block) in samples() {
        let bytes = encode_block(&block);
        for length in 0..bytes.len() {
            assert!(decode_block(&bytes[..length], CHAIN).is_err(), "{name} cut to {length}");
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert!(decode_block(&longer, CHAIN).is_err(), "{name} and a byte more");
    }
}

#[test]
fn every_single_changed_byte_is_refused_or_gives_another_block() {
    for (name, block) in samples() {
        let bytes = encode_block(&block);
        for at in 0..bytes.len() {
            for change in [0x01, 0x02, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[at] ^= change;
                let Ok(other) = decode_block(&changed, CHAIN) else { continue };
                assert_ne!(other, block, "{name}, byte {at}");
                assert_eq!(encode_block(&other), changed, "{name}, byte {at}");
            }
        }
    }
}

/// One entry, with a hand-made row appended in place of its own.
fn block_with_row(row: &[u8]) -> Vec<u8> {
    let (mut ledger, _) = Ledger::genesis();
    let mut block = ledger.next(vec![vec![pay(1, 4, 3, 1, "fails, so it has no rows")]]);
    block.entries[0].result = ResultCode::Ok;
    block.entries[0].failed_operation = None;
    let mut bytes = encode_block(&block);
    // The end: rows of the entry (0), rows of the genesis (0).
    bytes.truncate(bytes.len() - 2);
    bytes.push(1);
    bytes.extend_from_slice(row);
    bytes.push(0);
    bytes
}

fn full_row(record: &Record) -> Vec<u8> {
    let mut row = vec![1];
    codec::append(record, &mut row);
    row.extend_from_slice(&[0, 0]);
    row
}

#[test]
fn a_wallet_state_written_in_full_inside_an_entry_is_refused() {
    // It has a shorter form there, and one block must have one encoding.
    let record = Record::WalletState(WalletStateRecord {
        wallet: wallet(3),
        token: TokenId(1),
        version: 1,
        balance: Amount(1),
        extra: None,
        previous: Hash::ZERO,
        transaction: Hash::ZERO,
        wallet_record: Hash([3; 32]),
    });
    let bytes = block_with_row(&full_row(&record));
    let error = decode_block(&bytes, CHAIN).expect_err("must refuse").to_string();
    assert!(error.contains("wallet state"), "{error}");
}

#[test]
fn a_transaction_record_among_the_rows_is_refused() {
    let samples = samples();
    let record = Record::Transaction(samples[1].1.entries[0].record.clone());
    let error = decode_block(&block_with_row(&full_row(&record)), CHAIN).expect_err("must refuse");
    assert!(error.to_string().contains("transaction record"), "{error}");
}

#[test]
fn a_row_of_an_unknown_kind_is_refused() {
    let error = decode_block(&block_with_row(&[3; 80]), CHAIN).expect_err("must refuse");
    assert!(error.to_string().contains("row kind 3"), "{error}");
}

/// A first version of a wallet state, kept with its key.
fn row_with_key(n: u8, extra: Option<StateExtra>) -> Vec<u8> {
    let mut row = vec![2];
    codec::append(&wallet(n), &mut row);
    codec::append(&codec::Compact(1), &mut row);
    codec::append(&extra.map(Box::new), &mut row);
    row.extend_from_slice(&[1, 9]);
    row.extend_from_slice(&[3; 32]);
    row
}

#[test]
fn a_state_has_one_form() {
    // The only operation pays from wallet 4 to wallet 3.
    let decode = |row: &[u8]| decode_block(&block_with_row(row), CHAIN);
    let refused = |row: &[u8]| decode(row).expect_err("must refuse").to_string();
    let reserved = StateExtra { reserved: Amount(1), ..StateExtra::default() };
    for (row, named) in [
        (row_with_key(3, None), false),
        (row_with_key(1, None), false),
        (row_with_key(1, Some(reserved)), false),
        (row_with_key(4, Some(reserved)), true),
    ] {
        let block = decode(&row).expect("a block");
        assert_eq!(block.entries[0].rows[0].named, named);
        assert_eq!(encode_block(&block), block_with_row(&row));
    }
    // Kind 0 is right for the first state that the operation names.
    assert!(refused(&row_with_key(4, None)).contains("has a shorter form"));
    let day_alone = StateExtra { day: 7, ..StateExtra::default() };
    for extra in [StateExtra::default(), day_alone, StateExtra { day: 7, ..reserved }] {
        assert!(refused(&row_with_key(1, Some(extra))).contains("not canonical"), "{extra:?}");
    }
}

#[test]
fn the_rows_of_a_genesis_have_no_short_form() {
    let genesis = samples().swap_remove(0).1;
    for row in [row_with_key(1, None), vec![0; 34]] {
        let mut bytes = encode_block(&Block { genesis_rows: vec![], ..genesis.clone() });
        bytes.pop();
        bytes.push(1);
        bytes.extend_from_slice(&row);
        assert!(decode_block(&bytes, CHAIN).is_err());
    }
}

#[test]
fn a_state_without_its_key_takes_the_next_that_is_named() {
    // Kind 0 twice: wallet 4, then wallet 3; a third has no name left.
    let state = |n: u8| [&[0, 1, n][..], &[3; 32]].concat();
    let rows = |count: u8| {
        let mut bytes = block_with_row(&state(1));
        let end = bytes.len() - 1;
        bytes.truncate(end);
        let at = end - state(1).len() - 1;
        bytes[at] = count;
        (1..count).for_each(|n| bytes.extend(state(n + 1)));
        bytes.push(0);
        decode_block(&bytes, CHAIN)
    };
    let block = rows(2).expect("a block");
    let wallets: Vec<_> = block.entries[0].rows.iter().map(|row| &row.record).collect();
    let owner = |record: &Record| match record {
        Record::WalletState(state) => state.wallet,
        other => panic!("{other:?}"),
    };
    assert_eq!(wallets.into_iter().map(owner).collect::<Vec<_>>(), [wallet(4), wallet(3)]);
    let error = rows(3).expect_err("must refuse").to_string();
    assert!(error.contains("more wallet states than operations touch"), "{error}");
}

#[test]
fn rows_of_a_genesis_above_height_0_are_refused() {
    let samples = samples();
    let mut block = samples[1].1.clone();
    block.genesis_rows = samples[0].1.genesis_rows.clone();
    assert!(decode_block(&encode_block(&block), CHAIN).is_err());
}

#[test]
fn a_count_that_differs_from_the_header_is_refused() {
    let mut block = samples().remove(1).1;
    block.entries.pop();
    assert!(decode_block(&encode_block(&block), CHAIN).is_err());
}

#[test]
fn links_to_earlier_transactions_must_match_the_spent_states() {
    let block = samples().remove(1).1;
    for add in [false, true] {
        let mut changed = block.clone();
        let spent = &mut changed.entries[0].record.spent;
        if add {
            spent.push(spent[0])
        } else {
            spent.clear()
        }
        let error = decode_block(&encode_block(&changed), CHAIN).expect_err("must refuse");
        assert!(error.to_string().contains("spent states"), "{error}");
    }
}

#[test]
fn an_unknown_format_is_named() {
    let mut bytes = encode_block(&samples()[0].1);
    bytes[0] = 2;
    for error in [decode_block(&bytes, CHAIN).err(), decode_head(&bytes).err()] {
        let text = error.expect("must refuse").to_string();
        assert!(text.contains("block format 2; this software knows format 1"), "{text}");
    }
}

proptest! {
    #![proptest_config(common::config(96, 400))]

    #[test]
    fn random_consistent_blocks_come_back_exactly(
        blocks in proptest::collection::vec(
            proptest::collection::vec(
                proptest::collection::vec(operation(), 1..12), 0..8), 1..5),
    ) {
        let (mut ledger, genesis) = Ledger::genesis();
        assert_round_trip(&genesis);
        for transactions in blocks {
            assert_round_trip(&ledger.next(transactions));
        }
    }

    #[test]
    fn spliced_blocks_do_no_harm(
        from: prop::sample::Index, to: prop::sample::Index, length in 1usize..200, changes: Vec<(prop::sample::Index, u8)>,
    ) {
        let samples = samples();
        let (a, b) = (encode_block(&samples[1].1), encode_block(&samples[2].1));
        let (from, to) = (from.index(a.len()), to.index(b.len()));
        let piece = &a[from..(from + length).min(a.len())];
        let mut spliced = [&b[..to], piece, &b[to..]].concat();
        assert_harmless(&spliced);
        for (at, byte) in changes.into_iter().take(16) {
            let at = at.index(spliced.len());
            spliced[at] = byte;
            assert_harmless(&spliced);
        }
    }
}

fn operation() -> impl Strategy<Value = Operation> {
    let who = || 1u8..=4;
    let token = || prop_oneof![4 => Just(1u32), 1 => 2u32..4];
    let amount = prop_oneof![8 => 1u128..2_000, 1 => any::<u128>()];
    prop_oneof![
        12 => (token(), who(), who(), amount, any::<[char; 4]>()).prop_map(|(token, from, to, amount, text)| {
            // A wallet can't pay itself.
            let to = if to == from { to % 4 + 1 } else { to };
            pay(token, from, to, amount, &String::from_iter(text))
        }),
        3 => (token(), who(), 0u128..1_000_000).prop_map(|(token, to, n)| issue(token, to, n)),
        2 => (token(), who(), 0u128..1_000).prop_map(|(token, from, n)| redeem(token, from, n)),
        1 => (5u8..60).prop_map(create_user),
        1 => who().prop_map(create_wallet),
        1 => Just(create_token("USD")),
        1 => who().prop_map(rotate),
        3 => (token(), who(), who(), 0u128..2_000)
            .prop_map(|(token, from, to, amount)| reserve(token, from, to, amount)),
        2 => (1u8..20).prop_map(expire),
        2 => (token(), who(), proptest::collection::vec(who(), 0..4))
            .prop_map(|(token, from, to)| interest(token, from, &to)),
    ]
}
