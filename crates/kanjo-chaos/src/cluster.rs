//! Nodes and sentinels as processes, started and restarted as a service manager would.

use crate::Trouble;
use crate::proxy::Network;
use crate::room::Room;
use kanjo_api::cluster::ClusterStatus;
use kanjo_client::{Client, Limits};
use kanjo_types::Genesis;
use kanjo_types::membership::MemberStatus;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What ended by itself is started again after so long.
const RESTART_AFTER: Duration = Duration::from_millis(500);
/// Small, so that a full disk is felt soon.
const SEGMENT_BYTES: &str = "1048576";
/// Lines of a log that a finding quotes.
const TAIL_LINES: usize = 12;

/// The programs under test.
#[derive(Clone, Debug)]
pub struct Programs {
    /// `kanjo`.
    pub kanjo: PathBuf,
    /// `kanjo-sentinel`.
    pub sentinel: PathBuf,
}

/// One of the two processes of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Node,
    Sentinel,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Sentinel => "sentinel",
        }
    }
}

/// A process, and what it should be doing.
#[derive(Default)]
struct Process {
    child: Option<Child>,
    /// It is to run; what ends is started again.
    wanted: bool,
    /// It was told to stop and may end.
    told: bool,
    restart_at: Option<Instant>,
}

/// A member of the cluster.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) executes: bool,
    pub(crate) dir: PathBuf,
    logs: PathBuf,
    pub(crate) api: String,
    link: SocketAddr,
    sentinel_args: Vec<String>,
    node: Process,
    sentinel: Process,
    pub(crate) room: Option<Room>,
    /// Its disk is full, so that its sentinel may end.
    pub(crate) is_full: bool,
}

/// All of them, and the network between.
pub(crate) struct Cluster {
    programs: Programs,
    pub(crate) nodes: Vec<Node>,
    pub(crate) network: Network,
    pub(crate) genesis: Genesis,
    home: PathBuf,
    /// What ended by itself.
    pub(crate) findings: Vec<String>,
    /// Sentinels that ended because their disk was full.
    pub(crate) ended_full: u32,
}

impl Cluster {
    /// Makes directories below `dir`; nothing runs yet.
    pub(crate) fn create(
        programs: Programs,
        dir: &Path,
        executors: usize,
        witnesses: usize,
        operator: &str,
    ) -> Result<Self, Trouble> {
        let home = dir.join("home");
        let mut init = Command::new(&programs.kanjo);
        init.args(["--json", "--home"]).arg(&home).args(["cluster", "init"]).arg(dir.join("c"));
        init.args(["--operator", operator]);
        let mut places = Vec::new();
        for place in 0..executors + witnesses {
            let executes = place < executors;
            let name = format!("{}{}", if executes { "n" } else { "w" }, place + 1);
            let (link, api) = (kanjo_testing::free_port(), kanjo_testing::free_port());
            init.arg(if executes { "--node" } else { "--witness" });
            init.arg(format!("{name}=127.0.0.1:{link},127.0.0.1:{api}"));
            places.push((name, executes, link, api));
        }
        let made = init.output().map_err(|error| Trouble::new("kanjo cluster init", error))?;
        if !made.status.success() {
            let said = String::from_utf8_lossy(&made.stderr).into_owned();
            return Err(Trouble::new("kanjo cluster init", said));
        }
        let logs = dir.join("logs");
        std::fs::create_dir_all(&logs).map_err(|error| Trouble::new("logs", error))?;
        let mut nodes = Vec::new();
        for (name, executes, link, api) in places {
            let link = SocketAddr::from((Ipv4Addr::LOCALHOST, link));
            nodes.push(Node::made(&dir.join("c"), &logs, name, executes, link, api)?);
        }
        let links: Vec<SocketAddr> = nodes.iter().map(|node| node.link).collect();
        let genesis = nodes.first().map(|node| node.dir.join("genesis.json")).unwrap_or_default();
        let genesis = std::fs::read_to_string(&genesis)
            .map_err(|error| Trouble::new("genesis", error))
            .and_then(|text| {
                serde_json::from_str(&text).map_err(|error| Trouble::new("genesis", error))
            })?;
        let network = Network::start(&links)?;
        let findings = Vec::new();
        Ok(Self { programs, nodes, network, genesis, home, findings, ended_full: 0 })
    }

    /// Gives each node a file system of its own.
    ///
    /// # Errors
    /// This machine does not permit it; nothing has changed then.
    pub(crate) fn give_rooms(&mut self) -> Result<(), Trouble> {
        for node in &mut self.nodes {
            node.room = Some(Room::hold(&node.dir)?);
        }
        Ok(())
    }

    pub(crate) fn start(&mut self, place: usize, part: Part) {
        if let Some(node) = self.nodes.get_mut(place) {
            let process = node.process(part);
            process.wanted = true;
            process.told = false;
            process.restart_at = Some(Instant::now());
        }
        self.tend();
    }

    pub(crate) fn start_all(&mut self) {
        for part in [Part::Sentinel, Part::Node] {
            (0..self.nodes.len()).for_each(|place| self.start(place, part));
        }
    }

    /// SIGKILL; it stays away until it is started.
    pub(crate) fn kill(&mut self, place: usize, part: Part) {
        let Some(node) = self.nodes.get_mut(place) else { return };
        let process = node.process(part);
        process.wanted = false;
        process.restart_at = None;
        if let Some(mut child) = process.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub(crate) fn signal(&mut self, place: usize, part: Part, signal: Signal) {
        let Some(node) = self.nodes.get_mut(place) else { return };
        let process = node.process(part);
        if signal == Signal::TERM {
            (process.wanted, process.told) = (false, true);
        }
        let id = process.child.as_ref().and_then(|child| i32::try_from(child.id()).ok());
        if let Some(pid) = id.and_then(Pid::from_raw) {
            // It may have ended in this moment.
            let _ = kill_process(pid, signal);
        }
    }

    /// Looks after all processes: what ended by itself is a finding, and is started again.
    pub(crate) fn tend(&mut self) {
        for place in 0..self.nodes.len() {
            for part in [Part::Sentinel, Part::Node] {
                self.tend_one(place, part);
            }
        }
    }

    fn tend_one(&mut self, place: usize, part: Part) {
        let Some(node) = self.nodes.get_mut(place) else { return };
        let (name, is_full) = (node.name.clone(), node.is_full);
        let process = node.process(part);
        let ended = process.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
        if let Some(status) = ended {
            process.child = None;
            process.restart_at = process.wanted.then(|| Instant::now() + RESTART_AFTER);
            let by_itself = !process.told;
            if by_itself && is_full && part == Part::Sentinel {
                self.ended_full += 1;
            } else if by_itself || !status.success() {
                let tail = node.tail(part);
                let what = part.name();
                self.findings.push(format!("{what} of {name} ended by itself: {status}\n{tail}"));
            }
        }
        let Some(node) = self.nodes.get_mut(place) else { return };
        let process = node.process(part);
        let is_due = process.restart_at.is_some_and(|at| at <= Instant::now());
        if process.wanted && process.child.is_none() && is_due {
            process.restart_at = None;
            match self.spawn(place, part) {
                Ok(child) => {
                    if let Some(node) = self.nodes.get_mut(place) {
                        node.process(part).child = Some(child);
                    }
                }
                Err(trouble) => self.findings.push(trouble.to_string()),
            }
        }
    }

    fn spawn(&self, place: usize, part: Part) -> Result<Child, Trouble> {
        let Some(node) = self.nodes.get(place) else {
            return Err(Trouble::new("node", "there is none at this place"));
        };
        let program = match part {
            Part::Node => &self.programs.kanjo,
            Part::Sentinel => &self.programs.sentinel,
        };
        let mut command = node.within(program);
        match part {
            Part::Sentinel => {
                command.args(&node.sentinel_args);
            }
            Part::Node => {
                command.args(["node", "--json", "--stop-with-stdin", "--data"]).arg(&node.dir);
                command.args(["--segment-bytes", SEGMENT_BYTES]);
                for (other, there) in self.nodes.iter().enumerate() {
                    if let Some(address) = self.network.address(place, other) {
                        command.args(["--link-via", &format!("{}={address}", there.name)]);
                    }
                }
            }
        }
        let what = || format!("starting the {} of {}", part.name(), node.name);
        let log = node.log(part).map_err(|error| Trouble::new(what(), error))?;
        let out = log.try_clone().map_err(|error| Trouble::new(what(), error))?;
        command.stdin(Stdio::piped()).stdout(out).stderr(log);
        command.spawn().map_err(|error| Trouble::new(what(), error))
    }

    /// Has it ended after being told to?
    pub(crate) fn has_ended(&self, place: usize, part: Part) -> bool {
        let node = self.nodes.get(place);
        node.is_none_or(|node| match part {
            Part::Node => node.node.child.is_none(),
            Part::Sentinel => node.sentinel.child.is_none(),
        })
    }

    /// What a node says of the cluster.
    pub(crate) fn status(&self, place: usize) -> Option<ClusterStatus> {
        let node = self.nodes.get(place)?;
        let limits = Limits {
            connect: Duration::from_millis(300),
            read: Duration::from_millis(700),
            attempts: 1,
            ..Limits::default()
        };
        Client::with_limits(&node.api, limits).ok()?.cluster().ok()
    }

    /// Who leads, by what most say.
    pub(crate) fn leader(&self) -> Option<usize> {
        let said = (0..self.nodes.len()).filter_map(|place| self.status(place));
        let newest = said.filter(|status| status.leader.is_some()).max_by_key(|one| one.term);
        newest.and_then(|status| status.leader).map(usize::from)
    }

    /// Who is not as it should be, and how; empty when all vote and are at one height.
    pub(crate) fn not_well(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut heights = Vec::new();
        for (place, node) in self.nodes.iter().enumerate() {
            let Some(status) = self.status(place) else {
                wrong.push(format!("{} does not answer", node.name));
                continue;
            };
            heights.push(status.heights.certified);
            let itself = status.nodes.get(place);
            if itself.is_none_or(|itself| itself.status != MemberStatus::Voting) {
                let how = itself.map(|itself| itself.status);
                wrong.push(format!("{} is {how:?}, {:?}", node.name, status.role));
            }
            if status.sentinel.state != "answers" {
                let why = status.sentinel.why.unwrap_or_default();
                wrong.push(format!("{}: sentinel {} {why}", node.name, status.sentinel.state));
            }
            if status.engine_voters.len() != 1 {
                wrong.push(format!("{}: voters {:?}", node.name, status.engine_voters));
            }
        }
        let (least, most) = (heights.iter().min(), heights.iter().max());
        if let (Some(least), Some(most)) = (least, most)
            && most - least > 20
        {
            wrong.push(format!("heights {heights:?}"));
        }
        wrong
    }

    /// Newest certified height of each node.
    pub(crate) fn heights(&self) -> Vec<Option<u64>> {
        let height = |place| self.status(place).map(|status| status.heights.certified);
        (0..self.nodes.len()).map(height).collect()
    }

    /// Runs `kanjo` for its JSON, where the node's files are.
    pub(crate) fn ask(&self, place: usize, args: &[&str]) -> Result<(bool, Value), Trouble> {
        let what = || format!("kanjo {}", args.join(" "));
        let Some(node) = self.nodes.get(place) else {
            return Err(Trouble::new(what(), "no such node"));
        };
        let mut command = node.within(&self.programs.kanjo);
        command.args(["--json", "--home"]).arg(&self.home).args(["--node", &node.api]).args(args);
        let output = command.stdin(Stdio::null()).output();
        let output = output.map_err(|error| Trouble::new(what(), error))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let said = || {
            let all = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
            Value::String(all)
        };
        Ok((output.status.success(), serde_json::from_str(&text).unwrap_or_else(|_| said())))
    }

    /// Stops all nodes, then all sentinels, as whoever closes their input does.
    pub(crate) fn stop(&mut self) {
        for part in [Part::Node, Part::Sentinel] {
            for node in &mut self.nodes {
                let process = node.process(part);
                (process.wanted, process.told) = (false, true);
                if let Some(child) = process.child.as_mut() {
                    drop(child.stdin.take());
                }
            }
            let give_up_at = Instant::now() + Duration::from_secs(20);
            while Instant::now() < give_up_at
                && !(0..self.nodes.len()).all(|place| self.has_ended(place, part))
            {
                self.tend();
                std::thread::sleep(Duration::from_millis(20));
            }
            for place in 0..self.nodes.len() {
                if !self.has_ended(place, part) {
                    let name = self.nodes.get(place).map_or("", |node| &node.name);
                    let what = part.name();
                    self.findings.push(format!("the {what} of {name} did not stop in 20 s"));
                    self.kill(place, part);
                }
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for place in 0..self.nodes.len() {
            self.kill(place, Part::Node);
            self.kill(place, Part::Sentinel);
        }
    }
}

impl Node {
    fn made(
        cluster: &Path,
        logs: &Path,
        name: String,
        executes: bool,
        link: SocketAddr,
        api: u16,
    ) -> Result<Self, Trouble> {
        let dir = cluster.join(&name);
        let path = dir.join("member.json");
        let fail = |error: &dyn std::fmt::Display| Trouble::new("member.json", error);
        let text = std::fs::read_to_string(&path).map_err(|error| fail(&error))?;
        let member: Value = serde_json::from_str(&text).map_err(|error| fail(&error))?;
        let field = |path: &str| {
            let value = member.pointer(path).and_then(Value::as_str);
            value.map(str::to_owned).ok_or_else(|| fail(&format!("{path} is missing")))
        };
        let within = |relative: String| dir.join(relative).display().to_string();
        let sentinel_args = vec![
            "run".to_owned(),
            "--stop-with-stdin".to_owned(),
            "--dir".to_owned(),
            within(field("/sentinel/dir")?),
            "--socket".to_owned(),
            within(field("/sentinel/socket")?),
            "--node-key".to_owned(),
            field("/certificate/link_key")?,
        ];
        Ok(Self {
            logs: logs.to_owned(),
            api: format!("http://127.0.0.1:{api}"),
            node: Process::default(),
            sentinel: Process::default(),
            room: None,
            is_full: false,
            name,
            executes,
            dir,
            link,
            sentinel_args,
        })
    }

    fn process(&mut self, part: Part) -> &mut Process {
        match part {
            Part::Node => &mut self.node,
            Part::Sentinel => &mut self.sentinel,
        }
    }

    fn within(&self, program: &Path) -> Command {
        self.room.as_ref().map_or_else(|| Command::new(program), |room| room.within(program))
    }

    fn log_path(&self, part: Part) -> PathBuf {
        self.logs.join(format!("{}-{}.log", self.name, part.name()))
    }

    fn log(&self, part: Part) -> std::io::Result<File> {
        OpenOptions::new().create(true).append(true).open(self.log_path(part))
    }

    fn tail(&self, part: Part) -> String {
        let text = std::fs::read(self.log_path(part)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(TAIL_LINES);
        let tail = lines.get(from..).unwrap_or_default();
        tail.iter().map(|line| format!("    {line}\n")).collect()
    }
}
