//! A cluster grows while it is paid through its gateway: an empty node and a witness are admitted
//! by hand, catch up and vote by themselves; one is killed and returns, one is removed for good.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::{Newcomer, Running, World, balance, signal, wait};
use serde_json::Value;

/// What a removed node says.
const REMOVED: &str = "governors removed this node from the cluster";

fn start(world: &mut World) -> (Running, String) {
    let dev = world.dev(&[]);
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let gateway = text(&dev.told["gateway"]);
    assert_eq!(dev.told["api"], dev.told["gateway"], "clients are pointed at the gateway");
    (dev, gateway)
}

#[test]
fn a_cluster_grows_and_shrinks() {
    let temporary = tempfile::tempdir().expect("a directory");
    let mut world = World::new(temporary.path());
    let (dev, gateway) = start(&mut world);
    world.ask_at(&gateway, &["key", "new", "alice", "--no-passphrase"]);
    world.ask_at(&gateway, &["user", "create", "alice", "--key", "alice", "--with-wallet"]);
    (0..20).for_each(|_| world.pay_at(&gateway, "1"));

    // An empty node.
    let mut fourth = Newcomer::join(&mut world, "node-4", 1, &[]);
    let mut early = world.command(&["node", "--data", &fourth.data.display().to_string()]);
    let early = early.output().expect("it runs");
    assert!(!early.status.success(), "nobody joins unasked");
    assert!(String::from_utf8_lossy(&early.stdout).contains("not_admitted"), "{early:?}");
    fourth.admit_at(&world, &gateway);
    assert_eq!(world.stands(0, "node-4"), "standby");
    assert!(!fourth.data.join("log").exists(), "it starts with nothing");
    fourth.start();
    world.wait_stands(0, "node-4", "voting");
    world.pay(3, "1");
    wait("the new node shows all payments", || world.balance(3) == "21000000");
    world.identical(3, 4);
    assert_eq!(world.status(0)["quorum"], 3);

    // It is killed and returns.
    fourth.kill();
    (0..5).for_each(|_| world.pay_at(&gateway, "1"));
    fourth.start();
    wait("it has caught up", || {
        let (done, wallet) = world.try_ask(3, &["wallet", "show", "alice"]);
        done && balance(&wallet) == "26000000"
    });
    world.wait_stands(0, "node-4", "voting");
    world.identical(0, 4);

    // A witness.
    let mut witness = Newcomer::join(&mut world, "witness-1", 3, &["--witness"]);
    witness.admit_at(&world, &gateway);
    witness.start();
    world.wait_stands(0, "witness-1", "voting");
    world.identical(0, 4);
    assert_eq!(world.status(4)["name"], "witness-1");
    removed(&world, &gateway, fourth);

    // Two executors and the witness are a majority of four.
    let third = dev.told["nodes"][2]["pid"].as_u64().expect("a process");
    signal("-KILL", third);
    world.pay_at(&gateway, "1");
    world.wait_stands(0, "node-3", "ejected");

    // Removed while it is away: no link tells it, and it finds out all the same.
    witness.kill();
    world.ask_at(&gateway, &["cluster", "remove", "witness-1", "--reason", "no longer needed"]);
    witness.start();
    assert!(!witness.node.take().expect("it ran").ends(), "it ends by itself");
    assert!(witness.says(REMOVED), "{}", witness.logged());
    world.pay_at(&gateway, "1");
    world.identical_without(0, 2, "node-3");
    witness.stop();
    dev.stop();
}

/// Governors take the fourth node out: it says so and ends, and neither it nor the others ever let
/// it vote again.
fn removed(world: &World, gateway: &str, mut fourth: Newcomer) {
    let reason = "machine sold";
    world.ask_at(gateway, &["cluster", "remove", "node-4", "--reason", reason]);
    assert_eq!(world.stands(0, "node-4"), "removed");
    let mut node = fourth.node.take().expect("it ran");
    assert!(!node.ends(), "it ends by itself, and not as after a planned stop");
    assert!(fourth.says(REMOVED) && fourth.says(reason), "{}", fourth.logged());
    world.pay_at(gateway, "1");
    assert_eq!(world.status(0)["quorum"], 3, "three executors and a witness");
    world.identical(0, 3);

    // Nor does it come back.
    std::fs::remove_file(&fourth.log).expect("a log");
    fourth.start();
    assert!(!fourth.node.take().expect("it ran").ends(), "it ends by itself again");
    assert!(fourth.says(REMOVED), "{}", fourth.logged());
    assert_eq!(world.stands(0, "node-4"), "removed");
}
