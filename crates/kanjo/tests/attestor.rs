//! A cluster of processes one of whose sentinels has a TPM: its votes count, the others appraise
//! its quotes, and a machine that started something else is doubted.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use kanjo_sentinel::tpm::Tpm;
use kanjo_types::Hash;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
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

/// A child that is killed when the test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let give_up_at = Instant::now() + Duration::from_secs(20);
        while matches!(self.0.try_wait(), Ok(None)) && Instant::now() < give_up_at {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    let first = 10_000 + (std::process::id().wrapping_mul(193) % 20_000) as u16;
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (first..32_000).find(is_free).expect("a free port")
}

/// Starts a TPM simulator, its two ports one after the other; gives its address.
fn swtpm(state: &Path) -> (Running, String) {
    let data = free_port();
    let control = (data + 1..32_100).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    let control = control.expect("a free port");
    let mut child = Command::new("swtpm")
        .args(["socket", "--tpm2", "--tpmstate"])
        .arg(format!("dir={}", state.display()))
        .args(["--server", &format!("type=tcp,bindaddr=127.0.0.1,port={data}")])
        .args(["--ctrl", &format!("type=tcp,bindaddr=127.0.0.1,port={control}")])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("swtpm is needed on PATH: apt-get install swtpm (cargo xtask does it)");
    let begun = Instant::now();
    while TcpStream::connect(("127.0.0.1", control)).is_err() {
        let status = child.try_wait().expect("a child");
        assert!(status.is_none() && begun.elapsed() < Duration::from_secs(20), "{status:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    (Running(child), format!("swtpm:127.0.0.1:{data}:{control}"))
}

struct World {
    home: PathBuf,
    apis: Vec<String>,
}

impl World {
    fn kanjo(&self, at: Option<usize>, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kanjo"));
        command.args(["--json", "--home"]).arg(&self.home);
        if let Some(at) = at {
            command.args(["--node", &self.apis[at]]);
        }
        command.args(args);
        command
    }

    fn ask(&self, at: usize, args: &[&str]) -> Value {
        let output = self.kanjo(Some(at), args).stdin(Stdio::null()).output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{args:?}: {text} {output:?}");
        serde_json::from_str(&text).unwrap_or(Value::String(text))
    }

    /// Waits for something in the status of a node.
    fn wait(&self, at: usize, what: &str, mut is_so: impl FnMut(&Value) -> bool) {
        let give_up_at = Instant::now() + Duration::from_secs(60);
        loop {
            let status = self.ask(at, &["cluster", "status"]);
            if is_so(&status) {
                return;
            }
            assert!(Instant::now() < give_up_at, "not in time: {what}: {status:#}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Starts the cluster, with the TPM of the second node where it is now.
fn dev(world: &mut World, dir: &Path, more: &[&str]) -> Running {
    let mut command = world.kanjo(None, &["cluster", "dev", "--nodes", "3", "--stop-with-stdin"]);
    command.arg("--dir").arg(dir).arg("--sentinel").arg(sentinel()).args(more);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut line).expect("a line");
    let told: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}"));
    let nodes = told["nodes"].as_array().expect("nodes");
    world.apis = nodes.iter().map(|node| node["api"].as_str().expect("text").to_owned()).collect();
    Running(child)
}

fn evidence(status: &Value, of: usize) -> &Value {
    &status["nodes"][of]["evidence"]
}

#[test]
fn a_member_with_a_tpm_votes_and_its_quotes_are_appraised() {
    let temporary = tempfile::tempdir().expect("a directory");
    let state = temporary.path().join("tpm");
    std::fs::create_dir(&state).expect("a directory");
    let (tpm, address) = swtpm(&state);
    let dir = temporary.path().join("c");
    let mut world = World { home: temporary.path().join("home"), apis: Vec::new() };
    // Register 16 can be extended without disturbing what was measured at start.
    let options =
        ["--attestor", "node-2=tpm2", "--tpm", &format!("node-2={address}"), "--pcrs", "7,16"];
    let running = dev(&mut world, &dir, &options);
    assert_eq!(world.apis.len(), 3);

    let genesis = std::fs::read_to_string(dir.join("node-1/genesis.json")).expect("a file");
    let genesis: Value = serde_json::from_str(&genesis).expect("JSON");
    let kinds: Vec<&str> = (0..3)
        .map(|n| genesis["voters"][n]["link"]["attestor"]["kind"].as_str().expect("pinned"))
        .collect();
    assert_eq!(kinds, ["software", "tpm2", "software"]);

    world.ask(0, &["key", "new", "alice", "--no-passphrase"]);
    world.ask(0, &["user", "create", "alice", "--key", "alice", "--with-wallet"]);
    world.ask(0, &["pay", "operator", "alice", "1.5", "--token", "VSM"]);
    world.wait(0, "both quotes and signatures are appraised", |status| {
        let is_fine = |of: usize, attestor: &str| {
            let found = evidence(status, of);
            found["state"] == "appraised"
                && found["attestor"] == attestor
                && found["pinned"] == true
        };
        is_fine(1, "tpm2") && is_fine(2, "software")
    });
    world.wait(0, "the member with the TPM votes in time", |status| {
        status["nodes"][1]["in_time"].as_u64().is_some_and(|share| share > 0)
    });
    world.wait(1, "it leads or follows like any other", |status| {
        status["sentinel"]["attestor"] == "tpm2" && status["sentinel"]["state"] == "answers"
    });
    drop(running);

    // The machine starts something else: a register has another value from here on.
    let mut client = Tpm::open(&address.parse().expect("an address")).expect("the TPM");
    client.extend(16, &Hash([9; 32])).expect("extended");
    drop(client);
    let running = dev(&mut world, &dir, &[]);
    world.wait(0, "its evidence is refused, and that is a doubt", |status| {
        let found = evidence(status, 1);
        let doubts = status["doubts"].as_array().expect("doubts");
        found["state"] == "refused"
            && found["why"].as_str().is_some_and(|why| why.contains("registers"))
            && doubts.iter().any(|doubt| doubt["member"] == 1)
            && evidence(status, 2)["state"] == "appraised"
    });
    drop(running);
    drop(tpm);
}
