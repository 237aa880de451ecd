//! What the ledger does by itself when its time has come: without traffic, across restarts, and as
//! the audit sees it.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::forgery::{AT, Forger, Forgery, finding};
use common::money::{done, record, reserve, schedule, signed};
use common::{
    FIRST_BALANCE, HandClock, NOON, VSM, World, balance, client, get, must_end, wait_until,
};
use kanjo_client::{Client, Page};
use kanjo_node::RunningNode;
use kanjo_store::disk::RealDisk;
use kanjo_store::faults::FaultyDisk;
use kanjo_types::standing::{PendingStatus, ScheduleStatus};
use kanjo_types::stored::decode_signed;
use kanjo_types::transaction::LEDGER;
use kanjo_types::{Operation, PendingId, Record, ResultCode, ScheduleId, SignedTransaction, codec};
use std::sync::Arc;
use std::time::Duration;

fn stop(node: RunningNode) {
    must_end("stop", move || node.stop()).expect("a clean stop");
}

/// Long enough for the node to have looked at its clock.
fn let_it_look() {
    std::thread::sleep(Duration::from_millis(150));
}

fn pending(node: &RunningNode, id: PendingId) -> PendingStatus {
    match record(node.address(), "pendings", id).record {
        Record::Pending(pending) => pending.status,
        other => panic!("{other:?}"),
    }
}

fn paid(node: &RunningNode, id: ScheduleId) -> (u32, ScheduleStatus) {
    match record(node.address(), "schedules", id).record {
        Record::Schedule(schedule) => (schedule.paid, schedule.status),
        other => panic!("{other:?}"),
    }
}

/// Ids and results of a block, by author: true for the ledger itself.
fn block(client: &Client, height: u64) -> Vec<(bool, ResultCode)> {
    let ids = client.block(height).expect("a block").transactions;
    let look = |id| {
        let view = client.transaction(id).expect("a transaction");
        (view.transaction.body.author == LEDGER, view.result)
    };
    ids.into_iter().map(look).collect()
}

/// A pending payment of 100 from wallet 0 until NOON + 1 s, and three payments of 10 from wallet 1
/// at NOON + 2 s, a minute and two minutes later.
fn order(world: &World, client: &Client) -> (PendingId, ScheduleId) {
    let id = done(client, &signed(world, 0, vec![reserve(world, VSM, 0, 1, 100, NOON + 1_000)]));
    let pending = PendingId::derive(id, 0, 0);
    let id = done(client, &signed(world, 1, vec![schedule(world, VSM, 1, 2, NOON + 2_000, 3)]));
    (pending, ScheduleId::derive(id, 0, 0))
}

#[test]
fn due_work_is_done_without_traffic_and_survives_a_restart_between() {
    let (world, clock) = (World::new(3), HandClock::at(NOON));
    let node = world.start_with_clock(clock.clone());
    let (reserved, standing) = order(&world, &client(&node));
    assert_eq!(balance(&client(&node), world.wallets[0], VSM), FIRST_BALANCE - 100);
    // At its last millisecond it still stands, and no block is made for nothing.
    clock.set(NOON + 1_000);
    let_it_look();
    assert_eq!((pending(&node, reserved), node.height()), (PendingStatus::Open, 2));
    clock.set(NOON + 1_001);
    wait_until("it expires", || pending(&node, reserved) == PendingStatus::Expired);
    assert_eq!(node.height(), 3);
    assert_eq!(block(&client(&node), 3), [(true, ResultCode::Ok)]);
    assert_eq!(client(&node).block(3).expect("a block").header.time_ms, NOON + 1_001);
    assert_eq!(balance(&client(&node), world.wallets[0], VSM), FIRST_BALANCE);
    let metrics = get(node.address(), "/metrics").text();
    assert!(metrics.contains("kanjo_transactions_total 3"), "{metrics}");
    stop(node);
    // Nothing but the agenda tells the new node.
    let node = world.start_with_clock(clock.clone());
    let_it_look();
    assert_eq!((paid(&node, standing), node.height()), ((0, ScheduleStatus::Active), 3));
    clock.set(NOON + 2_000);
    wait_until("it pays", || paid(&node, standing).0 == 1);
    assert_eq!(balance(&client(&node), world.wallets[2], VSM), FIRST_BALANCE + 10);
    stop(node);
    // Two dates pass while nothing runs; both are made up for.
    clock.set(NOON + 122_500);
    let node = world.start_with_clock(clock.clone());
    wait_until("it ends", || paid(&node, standing) == (3, ScheduleStatus::Ended));
    assert_eq!(balance(&client(&node), world.wallets[2], VSM), FIRST_BALANCE + 30);
    let height = node.height();
    clock.set(NOON + 900_000);
    let_it_look();
    assert_eq!(node.height(), height, "nothing is due any more");
    let status = client(&node).status().expect("a status");
    assert_eq!(status.transactions, 2 + 4);
    assert_eq!((status.rows.standing["pendings"], status.rows.standing["schedules"]), (1, 1));
    stop(node);
    world.assert_audit_clean(Arc::new(RealDisk));
}

#[test]
fn the_agenda_is_the_same_from_checkpoints_from_the_log_and_from_both() {
    let kinds: [&[&str]; 3] = [&[], &["checkpoints"], &["checkpoints", "index"]];
    for lost in kinds {
        let (world, clock) = (World::new(3), HandClock::at(NOON));
        let node = world.start_with_clock(clock.clone());
        let (reserved, standing) = order(&world, &client(&node));
        stop(node);
        // Blocks above the checkpoints of that stop: one more reservation, one already settled.
        let node = world.start_with_clock(clock.clone());
        let operations = vec![
            reserve(&world, VSM, 2, 1, 7, NOON + 1_500),
            reserve(&world, VSM, 2, 1, 5, NOON + 1_500),
        ];
        let id = done(&client(&node), &signed(&world, 2, operations));
        let second = [PendingId::derive(id, 0, 0), PendingId::derive(id, 1, 0)];
        let void = Operation::Void { pending: second[1] };
        done(&client(&node), &signed(&world, 1, vec![void]));
        stop(node);
        for name in lost {
            std::fs::remove_dir_all(world.data().join(name)).expect("removed");
        }
        let node = world.start_with_clock(clock.clone());
        clock.set(NOON + 130_000);
        wait_until("all is done", || {
            pending(&node, reserved) == PendingStatus::Expired
                && pending(&node, second[0]) == PendingStatus::Expired
                && paid(&node, standing) == (3, ScheduleStatus::Ended)
        });
        assert_eq!(pending(&node, second[1]), PendingStatus::Voided);
        let held = world.balances(&client(&node));
        assert_eq!(held, [FIRST_BALANCE, FIRST_BALANCE - 30, FIRST_BALANCE + 30]);
        stop(node);
        world.assert_audit_clean(Arc::new(RealDisk));
    }
}

#[test]
fn due_work_comes_first_in_a_block_with_payments_and_fills_it() {
    let (world, clock) = (World::new(3), HandClock::at(NOON));
    let mut config = world.config();
    config.block_interval_ms = 400;
    // A copy of a partition would cut the block.
    config.checkpoint_interval_s = 600;
    config.block_transactions_max = 4;
    let node = kanjo_node::start_with(config, Arc::new(RealDisk), clock.clone()).expect("starts");
    let reserves = |count| {
        let reserve = || reserve(&world, VSM, 0, 1, 1, NOON + 1_000);
        signed(&world, 0, (0..count).map(|_| reserve()).collect())
    };
    let pay = || signed(&world, 1, vec![world.transfer(1, 2, 1)]);
    done(&client(&node), &reserves(2));
    clock.set(NOON + 1_001);
    let_it_look();
    // The block that the two opened waits for more; it is full with these two.
    let payments = [pay(), pay()];
    let began = std::time::Instant::now();
    common::submit_all(&client(&node), &payments);
    assert!(began.elapsed() < Duration::from_millis(390), "four fill a block");
    let ok = |by_ledger| (by_ledger, ResultCode::Ok);
    assert_eq!(block(&client(&node), 2), [ok(true), ok(true), ok(false), ok(false)]);
    // More at once than a block takes: still one block, as its first transactions.
    clock.set(NOON);
    let operations = (0..6).map(|_| reserve(&world, VSM, 0, 1, 1, NOON + 2_000)).collect();
    done(&client(&node), &signed(&world, 0, operations));
    clock.set(NOON + 2_001);
    wait_until("they expire", || node.height() == 4);
    assert_eq!(block(&client(&node), 4), [ok(true); 6]);
    stop(node);
    world.assert_audit_clean(Arc::new(RealDisk));
}

#[test]
fn a_schedule_that_cannot_pay_says_so_and_the_stream_of_the_payee_sees_those_that_do() {
    let (world, clock) = (World::new(3), HandClock::at(NOON));
    let node = world.start_with_clock(clock.clone());
    let empty = world.transfer(1, 2, FIRST_BALANCE - 15);
    let operations = vec![empty, schedule(&world, VSM, 1, 0, NOON + 1_000, 2)];
    let id = done(&client(&node), &signed(&world, 1, operations));
    let standing = ScheduleId::derive(id, 1, 0);
    let mut changes = client(&node).stream_wallet(world.wallets[0]).expect("a stream");
    clock.set(NOON + 65_000);
    wait_until("it ends", || paid(&node, standing).1 == ScheduleStatus::Ended);
    let Record::Schedule(record) = record(node.address(), "schedules", standing).record else {
        panic!("a schedule")
    };
    assert_eq!(record.last.map(|run| run.result), Some(ResultCode::InsufficientFunds));
    assert_eq!(record.paid, 1);
    let change = must_end("the stream", move || changes.next().expect("open").expect("a change"));
    let Record::WalletState(state) = change.version.record else { panic!("a state") };
    assert_eq!(state.balance.0, FIRST_BALANCE + 10);
    let page = Page { before: None, limit: None };
    let history = client(&node).history(world.wallets[0], VSM, page).expect("a history");
    assert_eq!(history.versions.len(), 2);
    stop(node);
    world.assert_audit_clean(Arc::new(RealDisk));
}

/// Block `AT` begins with two expiries and has two payments; the next has one payment.
fn past() -> Forgery {
    let (world, disk) = (World::new(3), FaultyDisk::new(0));
    let clock = HandClock::at(NOON);
    let mut config = world.config();
    config.block_interval_ms = 400;
    // A copy of a partition would cut the block.
    config.checkpoint_interval_s = 600;
    let disk_ = Arc::new(disk.clone());
    let node = kanjo_node::start_with(config, disk_, clock.clone()).expect("starts");
    let pay = || signed(&world, 1, vec![world.transfer(1, 2, 1)]);
    done(&client(&node), &pay());
    let reserve = |amount| reserve(&world, VSM, 0, 1, amount, NOON + 1_000);
    done(&client(&node), &signed(&world, 0, vec![reserve(3), reserve(4)]));
    clock.set(NOON + 1_001);
    let_it_look();
    common::submit_all(&client(&node), &[pay(), pay()]);
    done(&client(&node), &pay());
    node.stop().expect("a clean stop");
    let forgery = Forgery::of(world, disk);
    let counts: Vec<usize> = forgery.blocks.iter().map(|block| block.entries.len()).collect();
    assert_eq!(counts, [0, 1, 1, 4, 1]);
    forgery
}

#[test]
fn the_audit_accepts_due_work_and_names_what_was_left_out_moved_or_forged() {
    let mut forgery = past();
    let report = forgery.audit_as(Forger::Voter);
    assert_eq!((report.ok, report.transactions), (true, 7), "{:?}", report.first_error);
    let right = forgery.blocks.clone();
    type Forge = fn(&mut Forgery);
    let forges: [(&str, Forge, u32, &str); 7] = [
        ("left out", |forgery| drop(forgery.blocks[AT].entries.remove(0)), 0, "due transaction"),
        (
            "all left out",
            |forgery| drop(forgery.blocks[AT].entries.drain(..2)),
            0,
            "due transaction",
        ),
        ("moved behind a payment", |forgery| forgery.blocks[AT].entries.swap(1, 2), 1, "due"),
        ("in another order", |forgery| forgery.blocks[AT].entries.swap(0, 1), 0, "due transaction"),
        ("of something else", forge_another, 0, "due transaction's id"),
        ("with other rows", forge_rows, 1, "row"),
        ("once more at the end", forge_again, 4, "not due"),
    ];
    for (what, forge, position, words) in forges {
        for forger in [Forger::Content, Forger::Header, Forger::Voter] {
            forgery.blocks.clone_from(&right);
            forge(&mut forgery);
            let found = finding(&forgery.audit_as(forger), AT);
            let text = format!("{}: {}", found.record, found.problem);
            if forger == Forger::Voter {
                assert_eq!(found.position, Some(position), "{what}: {found:?}");
                assert!(text.contains(words), "{what}: {text}");
            }
        }
    }
}

/// The ledger gives something back that is not there.
fn forge_another(forgery: &mut Forgery) {
    let entry = &mut forgery.blocks[AT].entries[0];
    let (mut signed, _): (SignedTransaction, _) = decode_signed(&entry.raw).expect("a transaction");
    signed.body.operations = vec![Operation::ExpirePending { pending: PendingId([9; 16]) }];
    entry.raw = codec::to_bytes(&signed).into();
    entry.record.id = signed.body.id();
    entry.hash = Record::Transaction(entry.record.clone()).hash();
}

/// More is given back than was reserved.
fn forge_rows(forgery: &mut Forgery) {
    let rows = &mut forgery.blocks[AT].entries[1].rows;
    let row = rows.iter_mut().find(|row| matches!(row.record, Record::WalletState(_)));
    let row = row.expect("a state");
    let Record::WalletState(state) = &mut row.record else { panic!("a state") };
    state.balance.0 += 1;
    row.hash = row.record.hash();
}

fn forge_again(forgery: &mut Forgery) {
    let entry = forgery.blocks[AT].entries[0].clone();
    forgery.blocks[AT].entries.push(entry);
}
