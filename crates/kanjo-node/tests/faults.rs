//! A node on a disk that fails. Each fault ends in recovery or in a clear refusal, never in a wrong
//! balance, and nothing acknowledged is lost. All disks are in memory and fail the same way for the
//! same seed.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::{
    Model, VOTE_SECRET, World, client, genesis, get, is_done, load, load_at, load_until, look_up,
    must_end, wait_until,
};
use kanjo_client::ClientError;
use kanjo_node::{RunningNode, StartError, audit};
use kanjo_store::checkpoint::CheckpointStore;
use kanjo_store::disk::Disk;
use kanjo_store::faults::{Fault, FaultyDisk, SeededRng};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const ACCOUNTS: u64 = 6;
const SECTOR: u64 = 512;

fn code(error: &ClientError) -> &str {
    error.code().unwrap_or("no code")
}

/// Starts on `disk`, checks everything, stops, audits.
fn check_after(world: &World, disk: &FaultyDisk, model: &mut Model) {
    let node = world.start_on(disk);
    model.check(world, &client(&node));
    let more = load(world, &node, 2, 5);
    assert!(more.unknown.is_empty(), "the node takes payments again");
    model.merge(more);
    model.check(world, &client(&node));
    must_end("stop", move || node.stop()).expect("a clean stop");
    world.assert_audit_clean(Arc::new(disk.clone()));
}

/// A node that has stopped by itself says so everywhere and takes nothing more.
fn assert_stopped(world: &World, node: &RunningNode, why: &str) {
    let reason = node.wait_stopped().to_string();
    assert!(reason.contains(why), "{reason}");
    let ready = get(node.address(), "/health/ready");
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("stopped") && ready.text().contains(why), "{}", ready.text());
    assert_eq!(get(node.address(), "/health/live").status, 200);
    let client = client(node);
    assert_eq!(client.status().expect("a status").state, "stopped");
    let refused = client.submit(&world.pay(0, 1, 1)).expect_err("nothing is taken");
    assert_eq!(code(&refused), "stopping");
}

/// Load until the fault strikes: everything acknowledged came before it, the rest is unknown.
fn load_until_failure(
    world: &World,
    disk: &FaultyDisk,
    seed: u64,
    fault: Fault,
    why: &str,
) -> (Model, u64) {
    let node = world.start_on(disk);
    let mut model = load(world, &node, 3, 8);
    assert!(model.unknown.is_empty());
    disk.inject_on(fault, ".seg", seed % 5);
    let failed = load(world, &node, 4, 60);
    assert!(!failed.unknown.is_empty(), "somebody was under way");
    model.merge(failed);
    assert_stopped(world, &node, why);
    let unknown = model.unknown.len() as u64;
    // What was final stays readable after the failure.
    let (payment, outcome) = model.acknowledged.first().cloned().expect("an early payment");
    assert_eq!(look_up(&client(&node), payment.body.id()), Some(outcome));
    must_end("stop after a failure", move || node.stop()).expect_err("it had failed");
    (model, unknown)
}

#[test]
fn a_failed_sync_stops_the_node_and_loses_nothing_acknowledged() {
    for seed in 0..6 {
        let world = World::new(ACCOUNTS);
        let disk = FaultyDisk::new(seed);
        let (mut model, _) = load_until_failure(&world, &disk, seed, Fault::FailSync, "sync");
        // A power cut, or only a new process: both must do.
        let after = if seed % 2 == 0 { disk.crash(seed) } else { disk.kill_process() };
        check_after(&world, &after, &mut model);
    }
}

#[test]
fn a_failed_write_stops_the_node_and_loses_nothing_acknowledged() {
    for seed in 10..16 {
        let world = World::new(ACCOUNTS);
        let disk = FaultyDisk::new(seed);
        let (mut model, _) = load_until_failure(&world, &disk, seed, Fault::FailWrite, "write");
        let after = if seed % 2 == 0 { disk.crash(seed) } else { disk.kill_process() };
        check_after(&world, &after, &mut model);
    }
}

#[test]
fn those_who_wait_when_a_sync_fails_are_told_that_the_outcome_is_unknown() {
    let world = World::new(ACCOUNTS);
    let disk = FaultyDisk::new(3);
    let node = world.start_on(&disk);
    let client = client(&node);
    client.submit(&world.pay(0, 1, 5)).expect("final");
    disk.inject_on(Fault::FailSync, ".seg", 0);
    let error = client.submit(&world.pay(1, 2, 7)).expect_err("not final");
    assert_eq!(code(&error), "outcome_unknown", "{error}");
    assert_stopped(&world, &node, "sync");
    // A read of a wallet whose newest version never became final gives no number.
    let error = client.wallet(world.wallets[1]).expect_err("not final");
    assert_eq!(code(&error), "outcome_unknown");
    must_end("stop", move || node.stop()).expect_err("it had failed");
}

#[test]
fn short_writes_are_continued_and_nobody_notices() {
    for seed in 20..24 {
        let world = World::new(ACCOUNTS);
        let disk = FaultyDisk::new(seed);
        let node = world.start_on(&disk);
        (0..10).for_each(|skip| disk.inject_on(Fault::ShortWrite, ".seg", skip));
        let mut model = load(&world, &node, 3, 20);
        assert!(model.unknown.is_empty(), "short writes are no failure");
        model.check(&world, &client(&node));
        must_end("stop", move || node.stop()).expect("a clean stop");
        check_after(&world, &disk.crash(seed), &mut model);
    }
}

#[test]
fn a_full_disk_refuses_keeps_reading_and_goes_on_when_there_is_room() {
    for seed in 30..33 {
        let world = World::new(ACCOUNTS);
        let disk = FaultyDisk::new(seed);
        let node = world.start_on(&disk);
        let mut model = load(&world, &node, 2, 5);
        let quiet = model.acknowledged.first().cloned().expect("an early payment");
        disk.set_space(Some(200_000 + seed * 10_000));
        let (address, enough) = (node.address(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let loading = scope.spawn(|| load_until(&world, &node, 3, 10_000, &enough));
            wait_until("the disk is full", || {
                let status = client(&node).status().expect("a status");
                status.state == "storage_full"
            });
            let error = client(&node).submit(&world.pay(0, 1, 1)).expect_err("no room");
            assert_eq!(code(&error), "storage_full", "{error}");
            let ready = get(address, "/health/ready");
            assert_eq!((ready.status, ready.text().trim()), (503, "storage_full"));
            assert_eq!(look_up(&client(&node), quiet.0.body.id()), Some(quiet.1.clone()));
            assert!(!client(&node).blocks(Default::default()).expect("blocks").blocks.is_empty());
            enough.store(true, Ordering::Relaxed);
            disk.set_space(None);
            wait_until("there is room again", || get(address, "/health/ready").status == 200);
            model.merge(loading.join().expect("load"));
        });
        assert!(model.unknown.is_empty(), "those under way waited and were answered");
        model.merge(load(&world, &node, 2, 10));
        model.check(&world, &client(&node));
        must_end("stop", move || node.stop()).expect("a clean stop");
        check_after(&world, &disk.crash(seed), &mut model);
    }
}

#[test]
fn a_stop_while_the_disk_is_full_ends_and_loses_nothing() {
    let world = World::new(ACCOUNTS);
    let disk = FaultyDisk::new(34);
    let node = world.start_on(&disk);
    let mut model = load(&world, &node, 2, 5);
    disk.set_space(Some(150_000));
    let (address, full) = (node.address(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let loading = scope.spawn(|| load_at(&world, address, 2, 10_000, &full));
        wait_until("the disk is full", || get(address, "/health/ready").status == 503);
        full.store(true, Ordering::Relaxed);
        // Clean or not: it ends. What was under way was not acknowledged.
        let _ = must_end("stop on a full disk", move || node.stop());
        model.merge(loading.join().expect("load"));
    });
    disk.set_space(None);
    check_after(&world, &disk.kill_process(), &mut model);
}

#[test]
fn power_cuts_at_any_change_leave_everything_acknowledged() {
    let world = World::new(ACCOUNTS);
    let mut disk = FaultyDisk::new(40);
    let mut model = Model::default();
    let mut rng = SeededRng::new(40);
    for round in 0..25u64 {
        // Some cuts fall into the start, some long after it.
        disk.crash_after(1 + rng.below(if round % 3 == 0 { 30 } else { 250 }));
        if let Ok(node) = world.try_start_on(&disk) {
            model.merge(load(&world, &node, 3, 25));
            let _ = must_end("stop after a power cut", move || node.stop());
        }
        disk = disk.crash(round);
        let node = world.start_on(&disk);
        model.check(&world, &client(&node));
        must_end("stop", move || node.stop()).expect("a clean stop");
    }
    world.assert_audit_clean(Arc::new(disk.clone()));
}

/// A ledger with a past: several segments, checkpoints, a clean stop.
fn ledger_with_a_past(seed: u64) -> (World, FaultyDisk, Model) {
    let world = World::new(ACCOUNTS);
    let disk = FaultyDisk::new(seed);
    let node = world.start_on(&disk);
    let model = load(&world, &node, 3, 60);
    assert!(model.unknown.is_empty() && model.acknowledged.iter().any(|(_, o)| is_done(o)));
    must_end("stop", move || node.stop()).expect("a clean stop");
    (world, disk, model)
}

fn files(disk: &FaultyDisk, ending: &str) -> Vec<PathBuf> {
    disk.files().into_iter().filter(|path| path.to_string_lossy().ends_with(ending)).collect()
}

/// Starts on damaged data: everything right, or a refusal to start or to read. `true` when it
/// started.
fn right_or_refused(world: &World, disk: &FaultyDisk, model: &Model) -> Result<(), StartError> {
    let node = world.try_start_on(disk)?;
    let client = client(&node);
    assert_eq!(world.balances(&client), model.balances(world), "never a wrong balance");
    for (transaction, outcome) in &model.acknowledged {
        match client.transaction(transaction.body.id()) {
            Ok(view) => {
                assert_eq!(view.transaction, *transaction);
                assert_eq!(
                    look_up(&client, transaction.body.id()).as_ref(),
                    Some(outcome),
                    "what is shown is right"
                );
            }
            // The index could not be made beyond the damage: it says that it does not know.
            Err(error) if code(&error) == "index_behind" => break,
            Err(error) => assert_eq!(code(&error), "damaged_data", "{error}"),
        }
    }
    must_end("stop", move || node.stop()).expect("a clean stop");
    Ok(())
}

#[test]
fn a_flipped_bit_in_the_log_is_refused_or_named() {
    let (mut refused, mut named, mut harmless) = (0, 0, 0);
    for seed in 50..53 {
        let (world, disk, model) = ledger_with_a_past(seed);
        let mut rng = SeededRng::new(seed);
        for _ in 0..5 {
            let damaged = disk.snapshot();
            let segments = files(&damaged, ".seg");
            let path = &segments[rng.below(segments.len() as u64) as usize];
            let content = damaged.get(path).expect("a segment");
            let used = content.iter().rposition(|byte| *byte != 0).expect("not empty") as u64;
            let offset = rng.below(used + 1);
            damaged.flip(path, offset, 1 << rng.below(8)).expect("flipped");
            let report = audit::verify_on(&world.data(), Arc::new(damaged.snapshot()), &mut |_| {})
                .expect("audited");
            if let Some(finding) = &report.first_error {
                assert!(finding.problem.contains(".seg"), "it names the file: {finding:?}");
                assert!(finding.problem.contains("height"), "and the height: {finding:?}");
                named += 1;
            } else {
                // Padding, or the unwritten rest of the last frame.
                harmless += 1;
            }
            // A start that was refused has left no index.
            let _ = std::fs::remove_dir_all(world.data().join("index"));
            match right_or_refused(&world, &damaged, &model) {
                Err(StartError::Open(error)) => {
                    let text = error.to_string();
                    assert!(text.contains(".seg") && text.contains("height"), "{text}");
                    assert!(!report.ok, "the audit sees what the start sees: {text}");
                    refused += 1;
                }
                outcome => outcome.expect("no other refusal"),
            }
        }
    }
    println!("{refused} refused at the start, {named} named by the audit, {harmless} harmless");
    assert!(named > harmless, "most bits of a log are covered");
}

#[test]
fn damaged_checkpoints_are_passed_over() {
    for seed in 60..64 {
        let (world, disk, model) = ledger_with_a_past(seed);
        let checkpoints = files(&disk, ".ckpt");
        assert!(checkpoints.len() >= 64, "there is one for each partition");
        let mut rng = SeededRng::new(seed);
        for path in &checkpoints {
            let content = disk.get(path).expect("a checkpoint");
            match (seed + rng.below(3)) % 3 {
                0 => disk.flip(path, rng.below(content.len() as u64), 0x10).expect("flipped"),
                1 => disk.put(path, &content[..content.len() / 2]).expect("cut"),
                _ => disk.put(path, b"").expect("emptied"),
            }
        }
        right_or_refused(&world, &disk, &model).expect("it starts from the log");
        // The stop above wrote good ones; damage some, so that heights differ between partitions.
        for path in files(&disk, ".ckpt").iter().step_by(3) {
            disk.flip(path, 40, 0xff).expect("flipped");
        }
        right_or_refused(&world, &disk, &model).expect("it starts from what is good");
        for path in files(&disk, ".ckpt") {
            disk.remove(&path).expect("removed");
        }
        right_or_refused(&world, &disk, &model).expect("it starts without checkpoints");
        world.assert_audit_clean(Arc::new(disk.clone()));
    }
}

#[test]
fn a_whole_checkpoint_with_wrong_content_does_not_change_a_balance() {
    for seed in 70..73 {
        let (world, disk, model) = ledger_with_a_past(seed);
        let dir = world.data().join("checkpoints");
        let open = || CheckpointStore::open(Arc::new(disk.clone()), &dir, world.chain.0.0);
        let store = open().expect("checkpoints");
        let load = |partition| store.load(partition).expect("read").checkpoint.expect("there");
        // The partition of a wallet gets the valid, checksummed content of another partition.
        let first = world.wallets[0].0[0] >> 2;
        let other = load((u16::from(first) + 1) % 64);
        let mine = load(u16::from(first));
        store
            .write(mine.partition, mine.height, &mut |out| out.write_all(&other.payload))
            .expect("written");
        drop(store);
        right_or_refused(&world, &disk, &model).expect("the header's root tells; the log decides");
    }
}

#[test]
fn the_checkpoints_of_another_ledger_are_passed_over() {
    let (world, disk, model) = ledger_with_a_past(75);
    let (other, other_disk, _) = ledger_with_a_past(76);
    // Under the names of its own: a name above the end of the log would tell of lost blocks.
    let foreign = files(&other_disk, ".ckpt");
    for (mine, foreign) in files(&disk, ".ckpt").iter().zip(foreign.iter().cycle()) {
        disk.put(mine, &other_disk.get(foreign).expect("a checkpoint")).expect("put");
    }
    drop(other);
    right_or_refused(&world, &disk, &model).expect("it starts from the log");
}

#[test]
fn a_lost_or_damaged_index_and_lost_sidecars_are_made_anew() {
    for seed in 80..83 {
        let (world, disk, model) = ledger_with_a_past(seed);
        let index = world.data().join("index");
        std::fs::remove_dir_all(&index).expect("removed");
        right_or_refused(&world, &disk, &model).expect("without an index");
        let client_sees_all = |world: &World, disk: &FaultyDisk| {
            let node = world.start_on(disk);
            for (transaction, outcome) in &model.acknowledged {
                let found = look_up(&client(&node), transaction.body.id());
                assert_eq!(found.as_ref(), Some(outcome));
            }
            must_end("stop", move || node.stop()).expect("a clean stop");
        };
        damage_files(&index, seed);
        client_sees_all(&world, &disk);
        std::fs::remove_dir_all(&index).expect("removed");
        std::fs::write(&index, b"not a directory").expect("written");
        if world.try_start_on(&disk).map(|node| must_end("stop", move || node.stop())).is_ok() {
            client_sees_all(&world, &disk);
        } else {
            std::fs::remove_file(&index).expect("removed");
        }
        for path in files(&disk, ".idx") {
            disk.remove(&path).expect("removed");
        }
        client_sees_all(&world, &disk);
        world.assert_audit_clean(Arc::new(disk.clone()));
    }
}

/// Overwrites the start of some files of a directory on the real disk.
fn damage_files(dir: &Path, seed: u64) {
    let mut rng = SeededRng::new(seed);
    let mut waiting = vec![dir.to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in std::fs::read_dir(&dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                waiting.push(path);
            } else if rng.below(2) == 0 {
                let mut content = std::fs::read(&path).expect("a file");
                content.iter_mut().take(64).for_each(|byte| *byte ^= 0xa5);
                std::fs::write(&path, content).expect("written");
            }
        }
    }
}

#[test]
fn a_log_that_lost_its_end_is_refused() {
    let (world, disk, model) = ledger_with_a_past(85);
    let last = files(&disk, ".seg").pop().expect("a segment");
    let damaged = disk.snapshot();
    damaged.remove(&last).expect("removed");
    let error = right_or_refused(&world, &damaged, &model).expect_err("blocks are missing");
    assert!(error.to_string().len() > 30, "{error}");
    // The index alone tells, too.
    for path in files(&damaged, ".ckpt") {
        damaged.remove(&path).expect("removed");
    }
    let error = right_or_refused(&world, &damaged, &model).expect_err("blocks are missing");
    assert!(error.to_string().len() > 30, "{error}");
    right_or_refused(&world, &disk, &model).expect("the whole log is served");
}

#[test]
fn a_lost_segment_is_refused_by_name() {
    let (world, disk, model) = ledger_with_a_past(90);
    let segments = files(&disk, ".seg");
    assert!(segments.len() >= 3, "{} segments", segments.len());
    let damaged = disk.snapshot();
    damaged.remove(&segments[1]).expect("removed");
    let error = right_or_refused(&world, &damaged, &model).expect_err("a hole in the log");
    assert!(error.to_string().contains(".seg"), "{error}");
    // A cut inside acknowledged data, at the end of a sealed segment, is damage too.
    let damaged = disk.snapshot();
    let content = damaged.get(&segments[0]).expect("a segment");
    let used = content.iter().rposition(|byte| *byte != 0).expect("not empty") as u64;
    let cut = (used / SECTOR) * SECTOR;
    let mut cut_content = content[..cut as usize].to_vec();
    cut_content.resize(content.len(), 0);
    damaged.put(&segments[0], &cut_content).expect("put");
    let report = audit::verify_on(&world.data(), Arc::new(damaged.snapshot()), &mut |_| {});
    assert!(!report.expect("audited").ok, "the audit names it");
    let _ = right_or_refused(&world, &damaged, &model);
}

#[test]
fn a_swapped_genesis_or_vote_key_is_refused() {
    let (world, disk, model) = ledger_with_a_past(95);
    let genesis_path = world.data().join("genesis.json");
    let good = std::fs::read(&genesis_path).expect("a genesis");
    let refusal = |what: &str| {
        let error = right_or_refused(&world, &disk, &model).expect_err("refused");
        assert!(error.to_string().len() > 20, "{what}: {error}");
        error.to_string()
    };
    // Another ledger with the same voter.
    let other = genesis("Another ledger", ACCOUNTS, VOTE_SECRET);
    std::fs::write(&genesis_path, serde_json::to_vec(&other).expect("json")).expect("written");
    let text = refusal("another genesis");
    assert!(text.contains("chain"), "{text}");
    // One balance made larger.
    let text = String::from_utf8(good.clone()).expect("text").replacen("1000000", "9000000", 1);
    std::fs::write(&genesis_path, text).expect("written");
    let text = refusal("a genesis with another balance");
    assert!(text.contains("chain"), "{text}");
    std::fs::write(&genesis_path, b"{ \"version\": 1 }").expect("written");
    assert!(refusal("half a genesis").contains("genesis.json"));
    std::fs::remove_file(&genesis_path).expect("removed");
    assert!(refusal("no genesis").contains("genesis.json"));
    std::fs::write(&genesis_path, &good).expect("written");

    let key_path = world.data().join("vote.key");
    std::fs::write(&key_path, "22".repeat(32)).expect("written");
    assert!(refusal("another vote key").contains("vote key"));
    std::fs::write(&key_path, "xyz").expect("written");
    assert!(refusal("no vote key").contains("vote.key"));
    std::fs::remove_file(&key_path).expect("removed");
    assert!(refusal("missing vote key").contains("vote.key"));
    let secret: String = VOTE_SECRET.iter().map(|byte| format!("{byte:02x}")).collect();
    std::fs::write(&key_path, secret).expect("written");
    right_or_refused(&world, &disk, &model).expect("all is as it was");
}

#[test]
fn two_nodes_never_share_a_directory() {
    let (world, disk, model) = ledger_with_a_past(97);
    let node = world.start_on(&disk);
    let error = world.try_start_on(&disk).map(|_| ()).expect_err("refused");
    assert!(error.to_string().contains("locked"), "{error}");
    let mut model = model;
    model.merge(load(&world, &node, 2, 5));
    model.check(&world, &client(&node));
    must_end("stop", move || node.stop()).expect("a clean stop");
}
