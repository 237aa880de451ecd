//! A node that starts empty, and one that was away, catch up and vote by themselves while the
//! cluster is paid through as fast as it answers. KANJO_TEST_PAYMENTS sets how many payments it has
//! to catch up with; the times are printed, never asserted.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::load::Load;
use common::{Newcomer, World, wait_for};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Far more than it takes: a node that does not catch up at all is found.
const CATCH_UP_MAX: Duration = Duration::from_secs(600);

fn payments() -> u64 {
    std::env::var("KANJO_TEST_PAYMENTS").ok().and_then(|text| text.parse().ok()).unwrap_or(20_000)
}

/// Pays at least `count` more.
fn pay(load: &Load, count: u64) -> Duration {
    let (before, start) = (load.paid.load(Ordering::Relaxed), Instant::now());
    load.run(|| load.paid.load(Ordering::Relaxed) - before >= count);
    start.elapsed()
}

fn height(world: &World, at: usize) -> u64 {
    let (_, status) = world.try_ask(at, &["cluster", "status"]);
    status["heights"]["certified"].as_u64().unwrap_or(0)
}

fn votes(world: &World, name: &str) {
    wait_for(CATCH_UP_MAX, &format!("{name} votes"), || world.stands(0, name) == "voting");
}

#[test]
fn nodes_catch_up_under_load() {
    let temporary = tempfile::tempdir().expect("a directory");
    let mut world = World::new(temporary.path());
    let dev = world.dev(&["--no-gateway"]);
    world.ask(0, &["key", "new", "alice", "--no-passphrase"]);
    let alice = world.ask(0, &["user", "create", "alice", "--key", "alice", "--with-wallet"]);
    let wallet = common::find(&alice, "wallet").expect("a wallet").clone();
    let load = Load::new(&world, &world.apis.join(","), &wallet);
    let count = payments();
    let took = pay(&load, count);
    println!("{count} payments in {took:?}, height {}", height(&world, 0));

    // An empty node, nothing else to do.
    let mut fourth = Newcomer::join(&mut world, "node-4", 1, &[]);
    fourth.admit(&world, 0);
    let start = Instant::now();
    fourth.start();
    votes(&world, "node-4");
    println!("an empty node caught up and votes after {:?}", start.elapsed());

    // It is away for long: it is ejected, and comes back while the cluster is busy.
    fourth.kill();
    world.wait_stands(0, "node-4", "ejected");
    let took = pay(&load, count);
    println!("{count} more payments in {took:?}, height {}", height(&world, 0));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (load, done) = (&load, &done);
        let paying = scope.spawn(move || load.run(|| done.load(Ordering::Relaxed)));
        let (start, before) = (Instant::now(), load.paid.load(Ordering::Relaxed));
        let behind = height(&world, 0);
        fourth.start();
        votes(&world, "node-4");
        let paid = load.paid.load(Ordering::Relaxed) - before;
        let more = height(&world, 0) - behind;
        println!(
            "it is back and votes after {:?}; meanwhile {paid} payments in {more} heights",
            start.elapsed()
        );
        done.store(true, Ordering::Relaxed);
        paying.join().expect("every payment was answered");
    });
    let paid = load.paid.load(Ordering::Relaxed).to_string();
    (0..4).for_each(|at| {
        common::wait("all nodes show all payments", || world.balance(at) == paid);
    });
    world.identical(0, 4);
    fourth.stop();
    dev.stop();
}
