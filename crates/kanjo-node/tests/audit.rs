//! Forged logs: every frame has a right checksum, and the worst forgers hold the vote key and sign
//! what they made. The audit names the first record that is wrong all the same.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::forgery::{AT, Forger, Forgery, finding, sign};
use common::{FIRST_BALANCE, VSM, World, client, is_done, key, submit_all, transfer};
use kanjo_store::disk::{Disk, RealDisk};
use kanjo_store::faults::FaultyDisk;
use kanjo_types::block::vote_digest;
use kanjo_types::stored::{Block, decode_signed};
use kanjo_types::transaction::SignedTransaction;
use kanjo_types::{Amount, Operation, Record, ResultCode, codec};
use std::sync::Arc;

/// Blocks: genesis, payments, a payment that fails, payments with an issue, more payments.
fn past() -> Forgery {
    let (world, disk) = (World::new(5), FaultyDisk::new(0));
    let node = world.start_on(&disk);
    let client = client(&node);
    let issue = Operation::Issue { token: VSM, to: world.wallets[0], amount: Amount(500) };
    let groups = [
        (0..4).map(|n| world.pay(n, n + 1, 10)).collect(),
        vec![world.pay(0, 1, FIRST_BALANCE * 9), world.pay(1, 2, 3)],
        vec![
            world.pay(0, 1, 11),
            world.pay(1, 2, 12),
            world.pay(2, 3, 13),
            world.sign(0, vec![issue]),
            world.sign(3, vec![world.transfer(3, 0, 5), world.transfer(3, 1, 6)]),
            world.pay(4, 0, FIRST_BALANCE * 9),
        ],
        vec![world.pay(0, 4, 1)],
        vec![world.pay(1, 4, 1), world.pay(2, 4, 1)],
    ];
    for group in groups {
        submit_all(&client, &group);
    }
    node.stop().expect("a clean stop");
    let forgery = Forgery::of(world, disk);
    assert_eq!(forgery.blocks.len(), 6, "one block for each group");
    forgery
}

/// The error of each forger: (position, words that say which record).
fn expect(forge: impl Fn(&mut Forgery), expected: [(Forger, Option<u32>, &[&str]); 3]) {
    for (forger, position, words) in expected {
        let mut forgery = past();
        forge(&mut forgery);
        let finding = finding(&forgery.audit_as(forger), AT);
        assert_eq!(finding.position, position, "{forger:?}: {finding:?}");
        let text = format!("{}: {}", finding.record, finding.problem);
        assert!(words.iter().any(|word| text.contains(word)), "{forger:?}: {text}");
    }
}

const VOTE: &[&str] = &["header or certificate"];

#[test]
fn the_ledger_as_it_was_is_found_right() {
    for forger in [Forger::Content, Forger::Voter] {
        let report = past().audit_as(forger);
        assert_eq!((report.ok, report.blocks, report.first_error), (true, 6, None));
        assert_eq!(report.transactions, 15);
    }
}

#[test]
fn a_changed_balance_is_named() {
    let forge = |forgery: &mut Forgery| {
        let row = &mut forgery.blocks[AT].entries[1].rows[1];
        let Record::WalletState(state) = &mut row.record else { panic!("a wallet state") };
        state.balance.0 += 1_000;
        row.hash = row.record.hash();
    };
    let row: &[&str] = &["row 1"];
    expect(
        forge,
        [
            (Forger::Content, Some(1), row),
            (Forger::Header, None, VOTE),
            (Forger::Voter, Some(1), row),
        ],
    );
}

#[test]
fn a_node_does_not_start_on_a_changed_balance() {
    let mut forgery = past();
    let last = forgery.blocks.last_mut().expect("a block");
    let Record::WalletState(state) = &mut last.entries[1].rows[1].record else { panic!("a state") };
    state.balance.0 += 1_000;
    forgery.write();
    let Forgery { world, disk, .. } = forgery;
    let checkpoints = world.data().join("checkpoints");
    let files = disk.files().into_iter().filter(|path| path.starts_with(&checkpoints));
    files.for_each(|path| disk.remove(&path).expect("removed"));
    let error = world.try_start_on(&disk).map(|_| ()).expect_err("refused");
    assert!(error.to_string().contains("state root"), "{error}");
}

fn change_transaction(
    forgery: &mut Forgery,
    position: usize,
    change: impl Fn(&mut SignedTransaction),
) {
    let entry = &mut forgery.blocks[AT].entries[position];
    let (mut signed, _) = decode_signed(&entry.raw).expect("a transaction");
    change(&mut signed);
    entry.raw = codec::to_bytes(&signed).into();
    entry.record.id = signed.body.id();
    entry.record.witness = signed.witness();
    entry.hash = Record::Transaction(entry.record.clone()).hash();
}

fn pay_more(signed: &mut SignedTransaction) {
    let Some(Operation::Transfer { amount, .. }) = signed.body.operations.first_mut() else {
        panic!("a payment")
    };
    amount.0 += 1;
}

#[test]
fn a_changed_amount_is_named() {
    let words: &[&str] = &["signature"];
    expect(
        |forgery| change_transaction(forgery, 2, pay_more),
        [
            (Forger::Content, Some(2), words),
            (Forger::Header, None, VOTE),
            (Forger::Voter, Some(2), words),
        ],
    );
}

#[test]
fn a_changed_signature_is_named() {
    let words: &[&str] = &["signature"];
    let flip = |signed: &mut SignedTransaction| signed.signatures[0].signature[7] ^= 1;
    expect(
        |forgery| change_transaction(forgery, 0, flip),
        [
            (Forger::Content, Some(0), words),
            (Forger::Header, None, VOTE),
            (Forger::Voter, Some(0), words),
        ],
    );
}

#[test]
fn a_payment_made_up_by_someone_else_is_named() {
    let words: &[&str] = &["signature"];
    let steal = |forgery: &mut Forgery| {
        // The thief signs a payment out of a wallet of user 1 with its own key, in user 1's name.
        let (from, to) = (forgery.world.wallets[1], forgery.world.wallets[4]);
        let draft = forgery.world.draft(1).operation(transfer(from, to, 400));
        let stolen = draft.sign(&key(4)).expect("signed");
        change_transaction(forgery, 1, |signed| *signed = stolen.clone());
    };
    expect(
        steal,
        [
            (Forger::Content, Some(1), words),
            (Forger::Header, None, VOTE),
            (Forger::Voter, Some(1), words),
        ],
    );
}

#[test]
fn a_dropped_transaction_is_named() {
    // Those behind it move up; the first of them was made for another position and another past.
    let drop = |forgery: &mut Forgery| {
        let entries = &mut forgery.blocks[AT].entries;
        entries.remove(1);
    };
    let words: &[&str] = &["transaction record", "row", "transactions_root", "spent", "block"];
    for forger in [Forger::Content, Forger::Header, Forger::Voter] {
        let mut forgery = past();
        drop(&mut forgery);
        let finding = finding(&forgery.audit_as(forger), AT);
        let text = format!("{}: {}", finding.record, finding.problem);
        let named = words.iter().any(|word| text.contains(word));
        assert!(named || (forger == Forger::Header && text.contains(VOTE[0])), "{text}");
        if forger == Forger::Voter {
            assert_eq!(finding.position, Some(1), "{finding:?}");
        }
    }
}

#[test]
fn a_dropped_last_transaction_is_named() {
    let mut forgery = past();
    forgery.blocks[AT].entries.pop();
    let finding = finding(&forgery.audit_as(Forger::Content), AT);
    assert!(finding.record.contains("header") || finding.record.contains("block"), "{finding:?}");
}

#[test]
fn a_past_rewritten_by_all_voters_has_other_headers() {
    // A failed payment dropped by who holds every vote key, and everything signed again,
    // contradicts nothing inside the log; it does contradict every header and proof handed out
    // before.
    let mut forgery = past();
    let dropped = forgery.blocks[AT].entries.pop().expect("an entry");
    assert_ne!(dropped.result, ResultCode::Ok);
    let handed_out = Forgery::header_hashes(&forgery.blocks);
    forgery.seal(Forger::Voter);
    let rewritten = Forgery::header_hashes(&forgery.blocks);
    assert_eq!(handed_out[..AT], rewritten[..AT]);
    assert!(handed_out[AT..].iter().zip(&rewritten[AT..]).all(|(a, b)| a != b));
    let report = forgery.audit();
    assert!(report.ok, "only an earlier header or receipt tells: {:?}", report.first_error);
}

#[test]
fn swapped_transactions_are_named() {
    let words: &[&str] = &["transaction record", "row"];
    expect(
        |forgery| forgery.blocks[AT].entries.swap(0, 2),
        [
            (Forger::Content, Some(0), words),
            (Forger::Header, None, VOTE),
            (Forger::Voter, Some(0), words),
        ],
    );
}

#[test]
fn a_changed_result_is_named() {
    let words: &[&str] = &["receipt.result"];
    let deny = |forgery: &mut Forgery| {
        let entry = &mut forgery.blocks[AT].entries[5];
        assert_eq!(entry.result, ResultCode::InsufficientFunds);
        entry.result = ResultCode::UnknownTargetWallet;
    };
    expect(
        deny,
        [
            (Forger::Content, Some(5), words),
            (Forger::Header, None, VOTE),
            (Forger::Voter, Some(5), words),
        ],
    );
}

#[test]
fn every_changed_header_field_is_named() {
    type Change = fn(&mut kanjo_types::Header);
    let changes: [(&str, Change); 11] = [
        ("version", |header| header.version = 9),
        ("chain", |header| header.chain.0.0[0] ^= 1),
        ("height", |header| header.height += 1),
        ("parents", |header| header.parents[0].0[0] ^= 1),
        ("time_ms", |header| header.time_ms = 5),
        ("transactions_root", |header| header.transactions_root.0[0] ^= 1),
        ("receipts_root", |header| header.receipts_root.0[0] ^= 1),
        ("state_root", |header| header.state_root.0[0] ^= 1),
        ("history_root", |header| header.history_root.0[0] ^= 1),
        ("fees", |header| {
            let amount = Amount(1);
            header.fees.push(kanjo_types::block::TokenAmount { token: VSM, amount });
        }),
        ("supply", |header| header.supply.clear()),
    ];
    for (field, change) in changes {
        for signed in [false, true] {
            let mut forgery = past();
            change(&mut forgery.blocks[AT].header);
            if signed {
                sign(&mut forgery.blocks[AT]);
            }
            let finding = finding(&forgery.audit(), AT);
            let text = format!("{}: {}", finding.record, finding.problem);
            let named = text.contains("header") || text.contains("transaction record");
            assert!(named, "{field}: {text}");
            // A changed time changes every record of the block; chain and version are looked at
            // first.
            if signed && !["chain", "version", "time_ms"].contains(&field) {
                assert!(text.contains(field), "{field}: {text}");
            }
        }
    }
}

#[test]
fn a_wrong_number_of_transactions_and_an_unknown_producer_are_named() {
    let mut forgery = past();
    forgery.blocks[AT].header.transactions += 1;
    sign(&mut forgery.blocks[AT]);
    finding(&forgery.audit(), AT);
    let mut forgery = past();
    forgery.blocks[AT].header.producer = 7;
    sign(&mut forgery.blocks[AT]);
    let report = forgery.audit();
    assert!(!report.ok, "there is no voter 7");
    // Either here, or at the next block, whose parent it no longer is.
    let finding = finding(&report, AT);
    assert!(finding.record.contains("producer"), "{finding:?}");
}

#[test]
fn a_dropped_block_is_named() {
    for forger in [Forger::Content, Forger::Header] {
        let mut forgery = past();
        forgery.blocks.remove(AT);
        finding(&forgery.audit_as(forger), AT);
    }
    // With the vote key and new heights, the records themselves contradict it.
    let mut forgery = past();
    forgery.blocks.remove(AT);
    for (height, block) in forgery.blocks.iter_mut().enumerate() {
        block.header.height = height as u64;
    }
    let finding = finding(&forgery.audit_as(Forger::Voter), AT);
    assert_eq!(finding.position, Some(0), "{finding:?}");
}

#[test]
fn a_forged_certificate_is_named() {
    type Change = fn(&mut Block);
    let changes: [Change; 6] = [
        |block| block.certificate.votes[0].signature[0] ^= 1,
        |block| block.certificate.votes.clear(),
        |block| block.certificate.votes[0].voter = 1,
        |block| block.certificate.epoch = 1,
        |block| block.certificate.votes.push(block.certificate.votes[0]),
        |block| {
            let digest = vote_digest(
                0,
                block.header.height,
                &block.header.hash(),
                &block.certificate.votes[0].answer,
            );
            block.certificate.votes[0].signature = key(0).sign(&digest);
        },
    ];
    for change in changes {
        let mut forgery = past();
        change(&mut forgery.blocks[AT]);
        let finding = finding(&forgery.audit(), AT);
        assert!(finding.record.contains("certificate"), "{finding:?}");
    }
}

#[test]
fn inflated_supply_is_named() {
    // In the header only.
    let mut forgery = past();
    forgery.blocks[AT].header.supply[0].issued.0 += 1_000_000;
    let finding_ = finding(&forgery.audit_as(Forger::Voter), AT);
    assert_eq!(finding_.record, "header.supply");
    // In the token's record and in a balance, consistently, by an issue that was never signed.
    let mut forgery = past();
    let entry = &mut forgery.blocks[AT].entries[3];
    for row in &mut entry.rows {
        match &mut row.record {
            Record::Token(token) => token.issued.0 += 1_000_000,
            Record::WalletState(state) => state.balance.0 += 1_000_000,
            _ => {}
        }
        row.hash = row.record.hash();
    }
    forgery.blocks[AT].header.supply[0].issued.0 += 1_000_000;
    let finding_ = finding(&forgery.audit_as(Forger::Voter), AT);
    assert_eq!(finding_.position, Some(3));
    assert!(finding_.record.contains("row"), "{finding_:?}");
    // In the genesis block.
    let mut forgery = past();
    let row = forgery.blocks[0].genesis_rows.iter_mut().rev();
    let row = row.into_iter().find(|row| matches!(row.record, Record::WalletState(_)));
    let row = row.expect("a first balance");
    let Record::WalletState(state) = &mut row.record else { panic!("a wallet state") };
    state.balance.0 += 1;
    row.hash = row.record.hash();
    let finding_ = finding(&forgery.audit(), 0);
    assert!(finding_.record.contains("genesis"), "{finding_:?}");
}

#[test]
fn an_appended_block_that_nobody_voted_for_is_named() {
    let mut forgery = past();
    let mut block = forgery.blocks[AT].clone();
    let last = forgery.blocks.last().expect("a block").header.clone();
    block.header.height = last.height + 1;
    block.header.parents = vec![last.hash()];
    forgery.blocks.push(block);
    let height = forgery.blocks.len() - 1;
    let finding = finding(&forgery.audit(), height);
    assert!(finding.record.contains("certificate"), "{finding:?}");
}

#[test]
fn rows_that_follow_from_nothing_are_named() {
    let words: &[&str] = &["number of rows", "block"];
    let add = |forgery: &mut Forgery| {
        let row = forgery.blocks[AT].entries[3].rows[0].clone();
        assert!(matches!(row.record, Record::Token(_)));
        forgery.blocks[AT].entries[4].rows.insert(0, row);
    };
    for forger in [Forger::Content, Forger::Voter] {
        let mut forgery = past();
        add(&mut forgery);
        let finding = finding(&forgery.audit_as(forger), AT);
        let text = format!("{}: {}", finding.record, finding.problem);
        assert!(words.iter().any(|word| text.contains(word)), "{text}");
    }
}

#[test]
fn keys_that_change_within_a_block_do_not_confuse_the_audit() {
    let world = World::new(3);
    let mut config = world.config();
    // Long enough for three requests, one after the other, to meet in one block.
    config.block_interval_ms = 300;
    let node = kanjo_node::start(config).expect("the node starts");
    let client = client(&node);
    let access = |seed| common::access(seed);
    let rotate = |to: u64| Operation::RotateKeys { user: world.users[1], access: access(to) };
    let signed = |seed: u64, operations: Vec<Operation>| {
        world.draft(1).operations(operations).sign(&key(seed)).expect("signed")
    };
    let pay = || vec![world.transfer(1, 2, 1)];
    let requests = [
        vec![signed(1, pay()), signed(1, vec![rotate(100)]), signed(1, pay())],
        vec![signed(100, pay()), signed(100, vec![rotate(101)])],
        vec![signed(101, pay()), signed(100, pay())],
    ];
    let done: Vec<Vec<bool>> = std::thread::scope(|scope| {
        let send = |request: Vec<SignedTransaction>| {
            let client = &client;
            let sending = scope.spawn(move || submit_all(client, &request));
            std::thread::sleep(std::time::Duration::from_millis(60));
            sending
        };
        let sending: Vec<_> = requests.into_iter().map(send).collect();
        let outcomes = sending.into_iter().map(|thread| thread.join().expect("sent"));
        outcomes.map(|outcomes| outcomes.iter().map(is_done).collect()).collect()
    });
    assert_eq!(done, [vec![true, true, false], vec![true, true], vec![true, false]]);
    node.stop().expect("a clean stop");
    world.assert_audit_clean(Arc::new(RealDisk));
}
