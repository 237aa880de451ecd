//! A cluster of processes one of whose sentinels has a TPM: its votes count, the others appraise
//! its quotes, and a machine that started something else is doubted.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::{World, signal};
use kanjo_sentinel::tpm::Tpm;
use kanjo_testing::Swtpm;
use kanjo_types::Hash;
use serde_json::Value;

/// Waits for something in the status of a node.
fn wait(world: &World, at: usize, what: &str, is_so: impl Fn(&Value) -> bool) {
    common::wait(what, || is_so(&world.status(at)));
}

fn evidence(status: &Value, of: usize) -> &Value {
    &status["nodes"][of]["evidence"]
}

#[test]
fn a_member_with_a_tpm_votes_and_its_quotes_are_appraised() {
    let temporary = tempfile::tempdir().expect("a directory");
    let state = temporary.path().join("tpm");
    std::fs::create_dir(&state).expect("a directory");
    let tpm = Swtpm::start(&state).expect("a TPM");
    let mut world = World::new(temporary.path());
    // Register 16 can be extended without disturbing what was measured at start.
    let options = [
        "--attestor",
        "node-2=tpm2",
        "--tpm",
        &format!("node-2={}", tpm.address),
        "--pcrs",
        "7,16",
    ];
    let running = world.dev(&options);
    assert_eq!(world.apis.len(), 3);

    let genesis = std::fs::read_to_string(world.dir.join("node-1/genesis.json")).expect("a file");
    let genesis: Value = serde_json::from_str(&genesis).expect("JSON");
    let kinds: Vec<&str> = (0..3)
        .map(|n| genesis["voters"][n]["link"]["attestor"]["kind"].as_str().expect("pinned"))
        .collect();
    assert_eq!(kinds, ["software", "tpm2", "software"]);

    world.ask(0, &["key", "new", "alice", "--no-passphrase"]);
    world.ask(0, &["user", "create", "alice", "--key", "alice", "--with-wallet"]);
    world.ask(0, &["pay", "operator", "alice", "1.5", "--token", "VSM"]);
    wait(&world, 0, "both quotes and signatures are appraised", |status| {
        let is_fine = |of: usize, attestor: &str| {
            let found = evidence(status, of);
            found["state"] == "appraised"
                && found["attestor"] == attestor
                && found["pinned"] == true
        };
        is_fine(1, "tpm2") && is_fine(2, "software")
    });
    // Without the third member nothing is final that the one with the TPM has not voted for.
    let third = running.told["nodes"][2]["pid"].as_u64().expect("a process");
    signal("-STOP", third);
    world.pay(0, "1");
    signal("-CONT", third);
    wait(&world, 1, "it leads or follows like any other", |status| {
        status["sentinel"]["attestor"] == "tpm2" && status["sentinel"]["state"] == "answers"
    });
    running.stop();

    // The machine starts something else: a register has another value from here on.
    let mut client = Tpm::open(&tpm.address.parse().expect("an address")).expect("the TPM");
    client.extend(16, &Hash([9; 32])).expect("extended");
    drop(client);
    let running = world.dev(&[]);
    wait(&world, 0, "its evidence is refused, and that is a doubt", |status| {
        let found = evidence(status, 1);
        let doubts = status["doubts"].as_array().expect("doubts");
        found["state"] == "refused"
            && found["why"].as_str().is_some_and(|why| why.contains("registers"))
            && doubts.iter().any(|doubt| doubt["member"] == 1)
            && evidence(status, 2)["state"] == "appraised"
    });
    running.stop();
    drop(tpm);
}
