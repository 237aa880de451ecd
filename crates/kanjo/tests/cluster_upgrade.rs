//! A rolling upgrade: nodes are restarted one after the other with another program while a client
//! pays, and a program that is not allowed gives no vote.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::{Running, World, program, wait};
use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const NAMES: [&str; 3] = ["a", "b", "c"];

struct Nodes {
    world: World,
    sentinels: Vec<Running>,
    running: [Option<Running>; 3],
}

impl Nodes {
    fn data(&self, at: usize) -> PathBuf {
        self.world.dir.join(NAMES[at])
    }

    fn log(&self, at: usize) -> PathBuf {
        self.data(at).join("node.log")
    }

    fn start(&mut self, at: usize, program: &Path) {
        self.running[at] = Some(World::node(program, &self.data(at), &self.log(at)));
    }

    fn take(&mut self, at: usize) -> Running {
        self.running[at].take().expect("it runs")
    }

    /// Stops it as planned and starts it with another program.
    fn restart(&mut self, at: usize, program: &Path) {
        self.take(at).terminate();
        self.start(at, program);
    }

    fn wait_stands(&self, seen_by: usize, at: usize, how: &str) {
        self.world.wait_stands(seen_by, NAMES[at], how);
    }

    fn pay(&self, at: usize) {
        self.world.pay(at, "1");
    }

    /// The node runs a program that is not allowed: it is up to date, says what is wrong and what
    /// to do, and has no vote.
    fn has_no_vote(&self, at: usize, program: &str) {
        let other = (at + 1) % 3;
        wait("it says that its program is not allowed", || {
            let (done, status) = self.world.try_ask(at, &["cluster", "status"]);
            done && status["sentinel"]["allowed"] == false
        });
        // Until others have made a block final without it, nobody would be helped if it left.
        self.pay(other);
        self.wait_stands(other, at, "left");
        self.pay(other);
        wait("it follows", || {
            let (here, there) = (self.world.status(at), self.world.status(other));
            here["heights"]["certified"] == there["heights"]["certified"]
        });
        let status = self.world.status(other);
        assert_eq!(status["nodes"][at]["status"], "left", "{status}");
        assert_eq!(status["quorum"], 2, "{status}");
        // Its sentinel's evidence is refused, but it sends no votes that don't count.
        let doubts = status["doubts"].as_array().expect("doubts");
        let is_of_votes = |doubt: &&Value| doubt["why"].to_string().contains("vote at height");
        assert_eq!(doubts.iter().find(is_of_votes), None, "{status}");
        wait("others see what it runs", || {
            let node = &self.world.status(other)["nodes"][at];
            node["program"] == program && node["allowed"] == false
        });
        let log = std::fs::read_to_string(self.log(at)).expect("a log");
        for said in ["this node has no vote", &format!("kanjo cluster allow {program}")] {
            assert!(log.contains(said), "{said}: {log}");
        }
    }
}

/// Three nodes with the program under test, and a user who is paid.
fn start(temporary: &Path) -> Nodes {
    let mut world = World::new(temporary);
    let dir = world.dir.display().to_string();
    let mut args = vec!["cluster", "init", &dir, "--no-passphrase"];
    NAMES.iter().for_each(|name| args.extend(["--node", name]));
    let made = world.run(&args);
    let api = |node: &Value| node["member"]["certificate"]["api"].as_str().unwrap().to_owned();
    world.apis = made["nodes"].as_array().expect("nodes").iter().map(api).collect();
    let sentinels = NAMES.map(|name| World::sentinel(&world.dir.join(name)));
    let mut nodes = Nodes { world, sentinels: sentinels.into(), running: [None, None, None] };
    (0..3).for_each(|at| nodes.start(at, &program()));
    let world = &nodes.world;
    wait("a leader is known", || world.status(0)["leader"].is_u64());
    world.ask(0, &["key", "new", "alice", "--no-passphrase"]);
    let register = ["user", "create", "alice", "--key", "alice", "--with-wallet"];
    world.ask(0, &[&register[..], &["--sponsor", "operator"]].concat());
    nodes
}

/// Another build of the program: it does the same, and has another hash.
fn new_program(temporary: &Path) -> (PathBuf, String) {
    let path = temporary.join("kanjo-new");
    std::fs::copy(program(), &path).expect("copied");
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).expect("open");
    file.write_all(b"another build").expect("written");
    drop(file);
    let hash = kanjo_sentinel::measure::program_hash(&path).expect("a hash");
    (path, hash.to_string())
}

#[test]
fn a_rolling_upgrade_does_not_stop_the_cluster() {
    let temporary = tempfile::tempdir().expect("a directory");
    let mut nodes = start(temporary.path());
    let old = program();
    let old_hash = kanjo_sentinel::measure::program_hash(&old).expect("a hash").to_string();
    let (new, new_hash) = new_program(temporary.path());

    // A voter that crashes and comes back with a program that is not allowed.
    nodes.take(2).kill();
    nodes.start(2, &new);
    nodes.has_no_vote(2, &new_hash);

    // Allowed, it votes by itself.
    let new_text = new.display().to_string();
    nodes.world.ask(0, &["cluster", "allow", &new_text, "--note", "another build"]);
    nodes.wait_stands(0, 2, "voting");
    let mut paid_before = nodes.world.balance(0);
    paid_before.truncate(paid_before.len() - 6);
    let paid_before: u64 = paid_before.parse().expect("whole tokens");

    // The old one can't be taken away while a majority runs it.
    let (taken, why) = nodes.world.try_ask(0, &["cluster", "disallow", &old_hash]);
    assert!(!taken && why.to_string().contains("too_few_voters"), "{why}");

    // The other two, under load: the client knows all nodes, and every payment is answered.
    let (done, paid) = (AtomicBool::new(false), AtomicU64::new(0));
    let all = nodes.world.apis.join(",");
    let (payer, home) = (&nodes.world.apis.clone(), nodes.world.home.clone());
    let client = World { dir: PathBuf::new(), home, apis: payer.clone() };
    std::thread::scope(|scope| {
        let paying = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                client.pay_at(&all, "1");
                paid.fetch_add(1, Ordering::Relaxed);
            }
        });
        for at in [0, 1] {
            let so_far = paid.load(Ordering::Relaxed);
            nodes.restart(at, &new);
            nodes.wait_stands(2, at, "voting");
            wait("payments go on", || {
                paid.load(Ordering::Relaxed) > so_far || paying.is_finished()
            });
        }
        done.store(true, Ordering::Relaxed);
        paying.join().expect("every payment was answered");
    });
    let expected = format!("{}000000", paid_before + paid.load(Ordering::Relaxed));
    (0..3).for_each(|at| {
        wait("nothing is lost, nothing twice", || nodes.world.balance(at) == expected)
    });

    // The old program has no vote any more.
    nodes.world.ask(1, &["cluster", "disallow", &old_hash]);
    nodes.restart(2, &old);
    nodes.has_no_vote(2, &old_hash);
    nodes.restart(2, &new);
    nodes.wait_stands(0, 2, "voting");
    nodes.world.identical(0, 3);
    nodes.running.iter_mut().filter_map(Option::take).for_each(Running::stop);
    nodes.sentinels.into_iter().for_each(Running::stop);
}
