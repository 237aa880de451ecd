//! Clusters of processes, through the command line alone.
#![allow(dead_code)] // Each test uses its part.

pub mod load;

use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for anything.
pub const WAIT_MAX: Duration = Duration::from_secs(30);

/// The program under test.
pub fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_kanjo"))
}

/// The sentinel's program beside ours. Building this package alone does not build it.
pub fn sentinel() -> PathBuf {
    let beside = program().with_file_name("kanjo-sentinel");
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
pub struct Running {
    pub child: Child,
    /// The line that it prints when it runs.
    pub told: Value,
}

impl Running {
    /// Starts a program that prints a line of JSON when it runs.
    pub fn start(command: Command) -> Self {
        let mut running = Self::spawn(command);
        let mut line = String::new();
        let out = running.child.stdout.as_mut().expect("piped");
        BufReader::new(out).read_line(&mut line).expect("a line");
        running.told = serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        running
    }

    /// Starts a program that says nothing.
    pub fn spawn(mut command: Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Self { child: command.spawn().expect("the program starts"), told: Value::Null }
    }

    pub fn pid(&self) -> u64 {
        u64::from(self.child.id())
    }

    /// Ends its standard input: it stops without leaving.
    pub fn stop(mut self) {
        drop(self.child.stdin.take());
        assert!(self.ends(), "it stops cleanly");
    }

    /// A planned stop.
    pub fn terminate(mut self) {
        signal("-TERM", self.pid());
        assert!(self.ends(), "it stops cleanly");
    }

    /// No stop at all.
    pub fn kill(mut self) {
        signal("-KILL", self.pid());
        self.ends();
    }

    /// Waits until it has ended; did it end well?
    pub fn ends(&mut self) -> bool {
        let give_up_at = Instant::now() + WAIT_MAX;
        loop {
            match self.child.try_wait().expect("a child") {
                Some(status) => return status.success(),
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

pub fn signal(signal: &str, pid: u64) {
    let sent = Command::new("kill").args([signal, &pid.to_string()]).status();
    assert!(sent.expect("kill runs").success());
}

/// The first value with this name, at any depth.
pub fn find<'a>(json: &'a Value, name: &str) -> Option<&'a Value> {
    match json {
        Value::Object(fields) => {
            fields.get(name).or_else(|| fields.values().find_map(|value| find(value, name)))
        }
        Value::Array(items) => items.iter().find_map(|item| find(item, name)),
        _ => None,
    }
}

pub fn is_there(pid: u64) -> bool {
    // A process that ended and was not waited for yet has no program any more.
    std::fs::read_link(format!("/proc/{pid}/exe")).is_ok()
}

/// Waits until something is so.
pub fn wait(what: &str, is_so: impl FnMut() -> bool) {
    wait_for(WAIT_MAX, what, is_so);
}

/// Waits for so long until something is so.
pub fn wait_for(most: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let give_up_at = Instant::now() + most;
    while !is_so() {
        assert!(Instant::now() < give_up_at, "not within {most:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Where commands are typed.
pub struct World {
    pub dir: PathBuf,
    pub home: PathBuf,
    /// APIs of nodes by their place.
    pub apis: Vec<String>,
}

impl World {
    pub fn new(temporary: &Path) -> Self {
        Self { dir: temporary.join("c"), home: temporary.join("home"), apis: Vec::new() }
    }

    /// A command without a node.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(["--json", "--home"]).arg(&self.home).args(args);
        command
    }

    /// A command to the node or gateway with this URL.
    pub fn command_to(&self, api: &str, args: &[&str]) -> Command {
        let mut command = self.command(&["--node", api]);
        command.args(args);
        command
    }

    pub fn try_ask_at(&self, api: &str, args: &[&str]) -> (bool, Value) {
        done(self.command_to(api, args))
    }

    pub fn ask_at(&self, api: &str, args: &[&str]) -> Value {
        let (done, json) = self.try_ask_at(api, args);
        assert!(done, "{args:?} at {api}: {json}");
        json
    }

    pub fn try_ask(&self, at: usize, args: &[&str]) -> (bool, Value) {
        self.try_ask_at(&self.apis[at], args)
    }

    pub fn ask(&self, at: usize, args: &[&str]) -> Value {
        self.ask_at(&self.apis[at], args)
    }

    /// A command without a node.
    pub fn run(&self, args: &[&str]) -> Value {
        let (done, json) = done(self.command(args));
        assert!(done, "{args:?}: {json}");
        json
    }

    pub fn status(&self, at: usize) -> Value {
        self.ask(at, &["cluster", "status"])
    }

    /// How a member stands in the ledger, as the node `at` sees it.
    pub fn stands(&self, at: usize, name: &str) -> String {
        let (_, status) = self.try_ask(at, &["cluster", "status"]);
        let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
        let member = nodes.iter().find(|node| node["name"] == name);
        member.and_then(|node| node["status"].as_str()).unwrap_or("no answer").to_owned()
    }

    pub fn wait_stands(&self, at: usize, name: &str, how: &str) {
        wait(&format!("{name} is {how}"), || self.stands(at, name) == how);
    }

    pub fn pay(&self, at: usize, amount: &str) {
        self.pay_at(&self.apis[at], amount);
    }

    pub fn pay_at(&self, api: &str, amount: &str) {
        self.ask_at(api, &["pay", "operator", "alice", amount, "--token", "VSM"]);
    }

    pub fn balance(&self, at: usize) -> String {
        balance(&self.ask(at, &["wallet", "show", "alice"]))
    }

    pub fn identical(&self, at: usize, nodes: usize) {
        self.compared(&self.ask(at, &["cluster", "compare"]), nodes);
    }

    pub fn identical_without(&self, at: usize, nodes: usize, without: &str) {
        self.compared(&self.ask(at, &["cluster", "compare", "--without", without]), nodes);
    }

    fn compared(&self, compared: &Value, nodes: usize) {
        assert_eq!(compared["identical"], true, "{compared}");
        let roots = compared["nodes"].as_array().expect("nodes").iter();
        assert_eq!(roots.filter(|node| node["answer"] == "roots").count(), nodes, "{compared}");
    }

    /// Starts three nodes in `dir` and, unless told otherwise, a gateway.
    pub fn dev(&mut self, more: &[&str]) -> Running {
        let mut command = self.command(&["cluster", "dev", "--nodes", "3", "--stop-with-stdin"]);
        command.arg("--dir").arg(&self.dir).arg("--sentinel").arg(sentinel()).args(more);
        let dev = Running::start(command);
        let nodes = dev.told["nodes"].as_array().expect("nodes");
        let api = |node: &Value| node["api"].as_str().expect("text").to_owned();
        self.apis = nodes.iter().map(api).collect();
        assert_eq!(self.apis.len(), 3, "{}", dev.told);
        dev
    }

    /// A program as the node in `data`, its messages in `log`.
    pub fn node(program: &Path, data: &Path, log: &Path) -> Running {
        let mut command = Command::new(program);
        command.args(["--json", "node", "--stop-with-stdin", "--data"]).arg(data);
        Running::start(with_log(command, log))
    }

    /// The sentinel of the member in `data`.
    pub fn sentinel(data: &Path) -> Running {
        let file = std::fs::read_to_string(data.join("member.json")).expect("a member");
        let member: Value = serde_json::from_str(&file).expect("JSON");
        let key = member["certificate"]["link_key"].as_str().expect("a key");
        let mut command = Command::new(sentinel());
        command.args(["run", "--stop-with-stdin", "--node-key", key]);
        command.arg("--dir").arg(data.join("sentinel"));
        command.arg("--socket").arg(data.join("sentinel/node.sock"));
        Running::spawn(with_log(command, &data.join("sentinel.log")))
    }
}

fn with_log(mut command: Command, log: &Path) -> Command {
    let log = File::options().create(true).append(true).open(log).expect("a file");
    command.stderr(log);
    command
}

fn done(mut command: Command) -> (bool, Value) {
    let output = command.stdin(Stdio::null()).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let json = serde_json::from_str(&text).unwrap_or_else(|_| {
        Value::String(format!("{text}{}", String::from_utf8_lossy(&output.stderr)))
    });
    (output.status.success(), json)
}

/// The first balance of a wallet that was shown.
pub fn balance(wallet: &Value) -> String {
    let balances = find(wallet, "balances").unwrap_or_else(|| panic!("{wallet}"));
    let balance = balances.as_array().and_then(|all| all.first()).expect("one balance");
    balance["balance"].as_str().expect("a string").to_owned()
}

/// A node that came later.
pub struct Newcomer {
    pub data: PathBuf,
    pub log: PathBuf,
    pub sentinel: Option<Running>,
    pub node: Option<Running>,
}

impl Newcomer {
    /// Makes its identity; nothing runs yet.
    pub fn join(world: &mut World, name: &str, contact: usize, more: &[&str]) -> Self {
        let data = world.dir.join(name);
        let api = format!("http://127.0.0.1:{}", kanjo_testing::free_port());
        let address = format!("127.0.0.1:{}", kanjo_testing::free_port());
        let contact = world.apis[contact].clone();
        let mut command = world.command(&["node", "join", "--name", name, "--contact", &contact]);
        command.args(["--address", &address, "--api", &api]).args(more).arg("--data").arg(&data);
        let output = command.output().expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        world.apis.push(api);
        let log = data.join("node.log");
        Self { data, log, sentinel: None, node: None }
    }

    /// Governors admit it.
    pub fn admit(&self, world: &World, at: usize) {
        self.admit_at(world, &world.apis[at]);
    }

    pub fn admit_at(&self, world: &World, api: &str) {
        let certificate = self.data.join("certificate.json");
        world.ask_at(api, &["cluster", "add", &certificate.display().to_string()]);
    }

    pub fn start(&mut self) {
        self.sentinel.get_or_insert_with(|| World::sentinel(&self.data));
        self.node = Some(World::node(&program(), &self.data, &self.log));
    }

    pub fn kill(&mut self) {
        self.node.take().expect("it runs").kill();
    }

    pub fn stop(self) {
        self.node.into_iter().chain(self.sentinel).for_each(Running::stop);
    }

    /// Does its log show this?
    pub fn says(&self, what: &str) -> bool {
        self.logged().contains(what)
    }

    pub fn logged(&self) -> String {
        std::fs::read_to_string(&self.log).expect("a log")
    }
}
