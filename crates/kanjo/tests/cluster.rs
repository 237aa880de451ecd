//! A cluster of three nodes and three sentinels, each a process of its own, through the command line
//! alone: pay through any node, compare, kill the leader, pay on, bring it back, compare again,
//! leave, prove, stop.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The sentinel's program beside ours. Building this package alone does not build it.
fn sentinel() -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_kanjo")).with_file_name("kanjo-sentinel");
    if !beside.is_file() {
        let target = beside.ancestors().nth(2).expect("a target directory");
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "-p", "kanjo-sentinel", "--target-dir"]).arg(target);
        if target.join("release") == beside.parent().expect("a directory") {
            build.arg("--release");
        }
        assert!(build.status().expect("cargo runs").success(), "the sentinel is built");
    }
    beside
}

/// A child whose standard input ends with it.
struct Running {
    child: Child,
    told: Value,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut line = String::new();
        let out = child.stdout.as_mut().expect("piped");
        BufReader::new(out).read_line(&mut line).expect("a line");
        let told = serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        Self { child, told }
    }

    fn stop(mut self) {
        drop(self.child.stdin.take());
        let give_up_at = Instant::now() + Duration::from_secs(20);
        loop {
            match self.child.try_wait().expect("a child") {
                Some(status) => return assert!(status.success(), "{status}"),
                None if Instant::now() > give_up_at => panic!("it did not stop in time"),
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        if matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_secs(2));
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

struct World {
    dir: PathBuf,
    home: PathBuf,
    apis: Vec<String>,
}

impl World {
    fn kanjo(&self, at: usize, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kanjo"));
        command.args(["--json", "--home"]).arg(&self.home);
        if let Some(api) = self.apis.get(at) {
            command.args(["--node", api]);
        }
        command.args(args);
        command
    }

    fn try_ask(&self, at: usize, args: &[&str]) -> (bool, Value) {
        let output = self.kanjo(at, args).stdin(Stdio::null()).output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let json = serde_json::from_str(&text).unwrap_or(Value::String(text));
        (output.status.success(), json)
    }

    fn ask(&self, at: usize, args: &[&str]) -> Value {
        let (done, json) = self.try_ask(at, args);
        assert!(done, "{args:?} at node {}: {json}", at + 1);
        json
    }

    fn status(&self, at: usize) -> Value {
        self.ask(at, &["cluster", "status"])
    }

    fn pay(&self, at: usize, amount: &str) {
        self.ask(at, &["pay", "operator", "alice", amount, "--token", "VSM"]);
    }

    fn balance(&self, at: usize) -> String {
        let wallet = self.ask(at, &["wallet", "show", "alice"]);
        let text = wallet.to_string();
        let balances = find(&wallet, "balances").unwrap_or_else(|| panic!("{text}"));
        let balance = balances.as_array().and_then(|all| all.first()).expect("one balance");
        balance["balance"].as_str().expect("a string").to_owned()
    }

    fn identical(&self, at: usize, nodes: usize) {
        let compared = self.ask(at, &["cluster", "compare"]);
        assert_eq!(compared["identical"], true, "{compared}");
        let roots = compared["nodes"].as_array().expect("nodes").iter();
        assert_eq!(roots.filter(|node| node["answer"] == "roots").count(), nodes, "{compared}");
    }

    /// Waits until something is so.
    fn wait(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let give_up_at = Instant::now() + Duration::from_secs(20);
        while !is_so() {
            assert!(Instant::now() < give_up_at, "not within 20 seconds: {what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The first value with this name, at any depth.
fn find<'a>(json: &'a Value, name: &str) -> Option<&'a Value> {
    match json {
        Value::Object(fields) => {
            fields.get(name).or_else(|| fields.values().find_map(|value| find(value, name)))
        }
        Value::Array(items) => items.iter().find_map(|item| find(item, name)),
        _ => None,
    }
}

fn is_there(pid: u64) -> bool {
    // A process that ended and was not waited for yet has no program any more.
    std::fs::read_link(format!("/proc/{pid}/exe")).is_ok()
}

#[test]
fn three_nodes_as_processes() {
    let temporary = tempfile::tempdir().expect("a directory");
    let dir = temporary.path().join("c");
    let mut world = World { home: temporary.path().join("home"), dir, apis: Vec::new() };
    let mut command = world.kanjo(9, &["cluster", "dev", "--nodes", "3", "--stop-with-stdin"]);
    command.arg("--dir").arg(&world.dir).arg("--sentinel").arg(sentinel());
    let dev = Running::start(command);
    let nodes = dev.told["nodes"].as_array().expect("nodes").clone();
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    world.apis = nodes.iter().map(|node| text(&node["api"])).collect();
    let mut pids: Vec<u64> = nodes.iter().filter_map(|node| node["pid"].as_u64()).collect();
    assert_eq!((world.apis.len(), pids.len()), (3, 3), "{}", dev.told);

    // Through one node and another, whichever leads.
    world.ask(0, &["key", "new", "alice", "--no-passphrase"]);
    world.ask(0, &["user", "create", "alice", "--key", "alice", "--with-wallet"]);
    (0..3).for_each(|at| world.pay(at, "1.5"));
    (0..3).for_each(|at| {
        world.wait("all nodes show the payments", || world.balance(at) == "4500000");
    });
    let status = world.status(0);
    let members = status["nodes"].as_array().expect("nodes");
    assert!(members.iter().all(|node| node["status"] == "voting"), "{status}");
    assert_eq!(status["sentinel"]["allowed"], true, "{status}");
    assert_eq!(status["sentinel"]["state"], "answers", "{status}");
    world.wait("roles are assigned", || {
        let roles = world.status(0)["roles"].clone();
        let roles = roles.as_array().cloned().unwrap_or_default();
        roles.iter().filter(|role| role["role"] == "worker").count() == 3
    });
    world.identical(1, 3);

    // The leader dies.
    let leader = world.status(0)["leader"].as_u64().expect("a leader") as usize;
    let other = (leader + 1) % 3;
    let killed = Command::new("kill").args(["-9", &pids[leader].to_string()]).status();
    assert!(killed.expect("kill runs").success());
    world.pay(other, "2");
    world.wait("another leads", || {
        world.status(other)["leader"].as_u64().is_some_and(|now| now != leader as u64)
    });
    world.wait("its roles have moved", || {
        let roles = world.status(other)["roles"].clone();
        let roles = roles.as_array().cloned().unwrap_or_default();
        !roles.is_empty() && roles.iter().all(|role| role["node"].as_u64() != Some(leader as u64))
    });
    let (done, _) = world.try_ask(other, &["cluster", "compare"]);
    assert!(!done, "a node that is silent is no agreement");

    // It comes back.
    let mut command = world.kanjo(9, &["node", "--stop-with-stdin", "--data"]);
    command.arg(world.dir.join(format!("node-{}", leader + 1)));
    let back = Running::start(command);
    pids[leader] = u64::from(back.child.id());
    world.wait("it has caught up", || {
        let (done, json) = world.try_ask(leader, &["wallet", "show", "alice"]);
        done && json.to_string().contains("6500000")
    });
    world.pay(leader, "1");
    world.identical(other, 3);

    // One leaves; the proof of a balance leads through the new membership to the genesis alone.
    let leaving = (leader + 2) % 3;
    let data = world.dir.join(format!("node-{}", leaving + 1));
    let left = world.ask(9, &["node", "leave", "--data", &data.display().to_string()]);
    assert!(left["epoch"].as_u64().is_some_and(|epoch| epoch >= 1), "{left}");
    world.pay(other, "1");
    let status = world.status(other);
    assert_eq!(status["nodes"][leaving]["status"], "left", "{status}");
    assert_eq!(status["quorum"], 2, "{status}");
    let proof = temporary.path().join("alice.proof").display().to_string();
    world.ask(other, &["proof", "state", "alice", "VSM", "--out", &proof]);
    let genesis = world.dir.join("node-1/genesis.json").display().to_string();
    let checked = world.ask(9, &["proof", "check", &proof, "--genesis", &genesis]);
    assert_eq!(checked["ok"], true, "{checked}");
    assert!(find(&checked, "epoch").and_then(Value::as_u64).is_some_and(|epoch| epoch >= 1));

    back.stop();
    dev.stop();
    assert!(!pids.iter().any(|pid| is_there(*pid)), "a node outlived the cluster");
}
