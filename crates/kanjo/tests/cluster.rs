//! A cluster of three nodes and three sentinels, each a process of its own, through the command
//! line alone: pay through any node, compare, kill the leader, pay on, bring it back, compare
//! again, leave, prove, stop.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::{Running, World, find, is_there, signal, wait};
use serde_json::Value;

#[test]
fn three_nodes_as_processes() {
    let temporary = tempfile::tempdir().expect("a directory");
    let mut world = World::new(temporary.path());
    let dev = world.dev(&["--no-gateway"]);
    let nodes = dev.told["nodes"].as_array().expect("nodes").clone();
    let mut pids: Vec<u64> = nodes.iter().filter_map(|node| node["pid"].as_u64()).collect();
    assert_eq!(pids.len(), 3, "{}", dev.told);

    // Through one node and another, whichever leads.
    world.ask(0, &["key", "new", "alice", "--no-passphrase"]);
    world.ask(0, &["user", "create", "alice", "--key", "alice", "--with-wallet"]);
    (0..3).for_each(|at| world.pay(at, "1.5"));
    (0..3).for_each(|at| {
        wait("all nodes show the payments", || world.balance(at) == "4500000");
    });
    let status = world.status(0);
    let members = status["nodes"].as_array().expect("nodes");
    assert!(members.iter().all(|node| node["status"] == "voting"), "{status}");
    assert_eq!(status["sentinel"]["allowed"], true, "{status}");
    assert_eq!(status["sentinel"]["state"], "answers", "{status}");
    wait("roles are assigned", || {
        let roles = world.status(0)["roles"].clone();
        let roles = roles.as_array().cloned().unwrap_or_default();
        roles.iter().filter(|role| role["role"] == "worker").count() == 3
    });
    world.identical(1, 3);

    // The leader dies.
    let leader = world.status(0)["leader"].as_u64().expect("a leader") as usize;
    let other = (leader + 1) % 3;
    signal("-KILL", pids[leader]);
    world.pay(other, "2");
    wait("another leads", || {
        world.status(other)["leader"].as_u64().is_some_and(|now| now != leader as u64)
    });
    wait("its roles have moved", || {
        let roles = world.status(other)["roles"].clone();
        let roles = roles.as_array().cloned().unwrap_or_default();
        !roles.is_empty() && roles.iter().all(|role| role["node"].as_u64() != Some(leader as u64))
    });
    let (done, _) = world.try_ask(other, &["cluster", "compare"]);
    assert!(!done, "a node that is silent is no agreement");

    // It comes back.
    let mut command = world.command(&["node", "--stop-with-stdin", "--data"]);
    command.arg(world.dir.join(format!("node-{}", leader + 1)));
    let back = Running::start(command);
    pids[leader] = back.pid();
    wait("it has caught up", || {
        let (done, json) = world.try_ask(leader, &["wallet", "show", "alice"]);
        done && json.to_string().contains("6500000")
    });
    world.pay(leader, "1");
    world.identical(other, 3);

    // One leaves; the proof of a balance leads through the new membership to the genesis alone.
    let leaving = (leader + 2) % 3;
    let data = world.dir.join(format!("node-{}", leaving + 1));
    let left = world.run(&["node", "leave", "--data", &data.display().to_string()]);
    assert!(left["epoch"].as_u64().is_some_and(|epoch| epoch >= 1), "{left}");
    world.pay(other, "1");
    let status = world.status(other);
    assert_eq!(status["nodes"][leaving]["status"], "left", "{status}");
    assert_eq!(status["quorum"], 2, "{status}");
    let proof = temporary.path().join("alice.proof").display().to_string();
    world.ask(other, &["proof", "state", "alice", "VSM", "--out", &proof]);
    let genesis = world.dir.join("node-1/genesis.json").display().to_string();
    let checked = world.run(&["proof", "check", &proof, "--genesis", &genesis]);
    assert_eq!(checked["ok"], true, "{checked}");
    assert!(find(&checked, "epoch").and_then(Value::as_u64).is_some_and(|epoch| epoch >= 1));

    back.stop();
    dev.stop();
    assert!(!pids.iter().any(|pid| is_there(*pid)), "a node outlived the cluster");
}
