//! Child processes of `kanjo cluster dev`: sentinels, nodes, a gateway. They end with this process,
//! however that comes about: their standard input is a pipe that closes with it.

use crate::fail::{Done, Fail};
use crate::member::MemberFile;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A running child.
pub struct Process {
    /// For people.
    pub name: String,
    child: Child,
    ended: Option<ExitStatus>,
}

impl Process {
    fn spawn(name: String, command: &mut Command, log: &Path) -> Done<Self> {
        let log = OpenOptions::new().create(true).append(true).open(log);
        let log = log.map_err(|error| Fail::new("log", error))?;
        // Ctrl-C is for this process; it tells the children in their order.
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::from(log))
            .process_group(0)
            .spawn()
            .map_err(|error| Fail::new("child", format!("can't start {name}: {error}")))?;
        Ok(Self { name, child, ended: None })
    }

    /// Starts the sentinel of the member in `dir`.
    pub fn sentinel(program: &Path, dir: &Path, file: &MemberFile) -> Done<Self> {
        let mut command = Command::new(program);
        command
            .args(["run", "--stop-with-stdin", "--dir"])
            .arg(dir.join(&file.sentinel.dir))
            .arg("--socket")
            .arg(dir.join(&file.sentinel.socket))
            .args(["--node-key", &hex::encode(file.certificate.link_key)]);
        let name = format!("the sentinel of {}", file.certificate.name);
        Self::spawn(name, &mut command, &dir.join("sentinel.log"))
    }

    /// Starts the node in `dir`: this program as `kanjo node`, with `more` options.
    pub fn node(dir: &Path, file: &MemberFile, more: &[&str]) -> Done<Self> {
        let program = std::env::current_exe().map_err(|error| Fail::new("program", error))?;
        let mut command = Command::new(program);
        command.args(["node", "--json", "--stop-with-stdin", "--data"]).arg(dir).args(more);
        Self::spawn(file.certificate.name.clone(), &mut command, &dir.join("node.log"))
    }

    /// Starts a gateway to nodes: this program as `kanjo gateway`.
    pub fn gateway(nodes: &[String], listen: SocketAddr, dir: &Path) -> Done<Self> {
        let program = std::env::current_exe().map_err(|error| Fail::new("program", error))?;
        let mut command = Command::new(program);
        command.args(["gateway", "--json", "--stop-with-stdin", "--nodes", &nodes.join(",")]);
        command.args(["--listen", &listen.to_string()]);
        Self::spawn("the gateway".to_owned(), &mut command, &dir.join("gateway.log"))
    }

    /// Waits for the first line that it prints: a node prints it when it runs.
    pub fn first_line(&mut self) -> Done<String> {
        let mut line = String::new();
        if let Some(out) = self.child.stdout.as_mut() {
            let read = BufReader::new(out).read_line(&mut line);
            read.map_err(|error| Fail::new("child", error))?;
        }
        if line.contains("\"api\"") {
            return Ok(line);
        }
        let said = line.trim();
        let said = if said.is_empty() { "it said nothing" } else { said };
        Err(Fail::new("child", format!("{} did not start: {said}", self.name)))
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has; told once.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_some() {
            return None;
        }
        self.ended = self.child.try_wait().ok().flatten();
        self.ended
    }

    /// Tells it to stop, without waiting.
    pub fn tell(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Waits until it has stopped, as long as `most` says when it is asked again and again; false
    /// when it had to be killed.
    pub fn wait(&mut self, most: impl Fn() -> Duration) -> bool {
        let start = Instant::now();
        while start.elapsed() < most() {
            if self.ended.is_some() || !matches!(self.child.try_wait(), Ok(None)) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        false
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // After a clean stop it is gone; here something failed.
        if matches!(self.child.try_wait(), Ok(None)) {
            self.tell();
            self.wait(|| Duration::from_secs(5));
        }
    }
}
