//! All nodes of a run: disks that outlive processes, starts and restarts, and the faults.

use crate::clients::Clients;
use crate::dice::Dice;
use crate::member::{self, End, Member, ToManager};
use crate::plan::{Fault, Plan};
use crate::scene::{NodeSettings, Scene};
use crate::time::{clock_ms, ms, since_start, sleep, spawn, within};
use crate::world;
use kanjo_store::faults::FaultyDisk;
use kanjo_types::membership::{MemberKind, MemberStatus, MembershipChange};
use kanjo_types::{Hash, Operation};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Starts in a row that fail before that is a finding.
const STARTS_MAX: u32 = 5;

/// A node: what outlives its process, and the process while it runs.
struct Node {
    number: u16,
    settings: NodeSettings,
    disk: FaultyDisk,
    member: Option<Arc<Member>>,
    /// Blocks that it executed otherwise.
    void: BTreeSet<(u64, Hash)>,
    /// When a stopped one is started again.
    start_at: Option<Duration>,
    /// Its disk is about to die.
    dies_at: Option<Duration>,
    /// It leaves: told when it has left.
    leaves: Option<oneshot::Receiver<Result<(), String>>>,
    /// It must not go on.
    failed: bool,
    failed_starts: u32,
}

/// See the [module](self).
pub struct Cluster {
    scene: Arc<Scene>,
    plan: Plan,
    dice: Dice,
    nodes: Vec<Node>,
    clients: Option<Arc<Clients>>,
    heals_at: Option<Duration>,
    admitted: u16,
}

impl Cluster {
    /// Nodes with empty disks, not started.
    #[must_use]
    pub fn new(scene: Arc<Scene>, plan: Plan) -> Self {
        let dice = scene.dice.fork();
        let mut cluster = Self {
            scene,
            nodes: Vec::new(),
            clients: None,
            heals_at: None,
            admitted: 0,
            plan,
            dice,
        };
        (0..cluster.plan.executors + cluster.plan.witnesses).for_each(|n| cluster.add(n));
        cluster
    }

    fn add(&mut self, number: u16) {
        let node = Node {
            number,
            settings: self.plan.settings(number, &self.dice),
            disk: FaultyDisk::new(self.dice.draw()),
            member: None,
            void: BTreeSet::new(),
            start_at: Some(since_start()),
            dies_at: None,
            leaves: None,
            failed: false,
            failed_starts: 0,
        };
        self.nodes.push(node);
    }

    /// Who pays.
    pub fn set_clients(&mut self, clients: Arc<Clients>) {
        self.clients = Some(clients);
    }

    /// Members that run.
    pub fn running(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.nodes.iter().filter_map(|node| node.member.as_ref()).filter(|member| member.is_alive())
    }

    // ---- Processes ----

    /// Looks after all nodes: takes down those that ended, starts those whose time has come.
    pub async fn tend(&mut self) {
        let now = since_start();
        if self.heals_at.is_some_and(|at| at <= now) {
            self.heal_links();
        }
        for place in 0..self.nodes.len() {
            let Some(node) = self.nodes.get_mut(place) else { continue };
            if node.dies_at.is_some_and(|at| at <= now) {
                let back = ms(self.dice.between(50, 1_000));
                self.crash(place, Some(back));
                continue;
            }
            node.look_whether_left(&self.scene, &self.dice);
            let ended = node.member.as_ref().and_then(|member| member.ended());
            if let Some(end) = ended {
                self.ended(place, end);
            }
            let Some(node) = self.nodes.get_mut(place) else { continue };
            if node.start_at.is_some_and(|at| at <= now) && !node.failed {
                node.start(&self.scene, &self.dice).await;
            }
        }
    }

    fn ended(&mut self, place: usize, end: End) {
        let Some(node) = self.nodes.get_mut(place) else { return };
        let is_dying = node.dies_at.is_some();
        match end {
            End::Rewind { void, .. } => {
                node.void.extend(void);
                node.kill(&self.scene);
                node.start_at = Some(since_start() + ms(self.dice.between(5, 60)));
            }
            End::Failed(reason) => {
                if node.settings.crime.is_none() {
                    self.scene.observer.finding(format!("n{place} stops for good: {reason}"));
                }
                node.kill(&self.scene);
                node.failed = true;
            }
            End::Broken(reason) => {
                if !is_dying {
                    self.scene.observer.finding(format!("n{place} broke: {reason}"));
                }
                node.kill(&self.scene);
                if !is_dying {
                    node.start_at = Some(since_start() + ms(100));
                }
            }
        }
    }

    fn crash(&mut self, place: usize, back: Option<Duration>) {
        let seed = self.dice.draw();
        let Some(node) = self.nodes.get_mut(place) else { return };
        self.scene.trace.note(format!("n{} loses power", node.number));
        node.dies_at = None;
        node.leaves = None;
        node.take_down(&self.scene);
        node.disk = node.disk.crash(seed);
        node.start_at = back.map(|back| since_start() + back);
    }

    // ---- Faults ----

    /// Something bad.
    pub fn fault(&mut self) {
        let Some(fault) = self.dice.pick(&self.plan.faults) else { return };
        let up: Vec<usize> = self.up();
        let Some(place) = self.dice.pick(&up) else { return };
        match fault {
            Fault::Crash => self.crash(place, Some(ms(self.dice.between(30, 800)))),
            Fault::TornCrash => self.tear(place),
            Fault::LongCrash => self.crash(place, Some(ms(self.dice.between(2_000, 4_000)))),
            Fault::PowerCut if self.dice.below(3) == 0 => {
                for place in up {
                    self.crash(place, Some(ms(self.dice.between(30, 600))));
                }
            }
            Fault::PowerCut => {}
            Fault::Partition => self.part(),
            Fault::OneWay => self.deafen(place),
            Fault::SlowDisk => {
                let number = self.number(place);
                let most = self.dice.between(5_000, 80_000);
                self.scene.trace.note(format!("disk of n{number} is slow"));
                self.scene.set_disk(number, (self.dice.below(3) > 0).then_some(most));
            }
            Fault::FullDisk => self.fill(place),
            Fault::Leave => self.leave(place),
            Fault::SentinelAway => self.send_sentinel_away(place),
            Fault::HandOver => self.hand_over(),
            Fault::Admit => self.admit(),
        }
    }

    fn up(&self) -> Vec<usize> {
        let is_up = |node: &Node| node.member.is_some() && node.dies_at.is_none();
        (0..).zip(&self.nodes).filter(|(_, node)| is_up(node)).map(|(place, _)| place).collect()
    }

    fn number(&self, place: usize) -> u16 {
        self.nodes.get(place).map_or(0, |node| node.number)
    }

    /// Dies in the middle of one of the next writes.
    fn tear(&mut self, place: usize) {
        let after = self.dice.between(1, 40);
        let Some(node) = self.nodes.get_mut(place) else { return };
        self.scene.trace.note(format!("disk of n{} dies after {after} changes", node.number));
        node.disk.crash_after(after);
        node.dies_at = Some(since_start() + ms(self.dice.between(30, 200)));
    }

    fn part(&mut self) {
        let count = self.nodes.len() as u64;
        let side: Vec<bool> = (0..count).map(|_| self.dice.below(2) == 0).collect();
        self.scene.trace.note(format!("partition {side:?}"));
        for (a, left) in (0u16..).zip(&side) {
            for (b, right) in (0u16..).zip(&side) {
                if left != right {
                    self.scene.net.cut(a, b);
                }
            }
        }
        self.heals_at = Some(since_start() + ms(self.dice.between(150, 1_500)));
    }

    fn deafen(&mut self, place: usize) {
        let me = self.number(place);
        let hears = self.dice.below(2) == 0;
        self.scene.trace.note(format!("n{me} {}", if hears { "is not heard" } else { "is deaf" }));
        for other in (0u16..).take(self.nodes.len()).filter(|other| *other != me) {
            let (from, to) = if hears { (me, other) } else { (other, me) };
            self.scene.net.cut(from, to);
        }
        self.heals_at = Some(since_start() + ms(self.dice.between(150, 1_500)));
    }

    fn fill(&mut self, place: usize) {
        let is_filled = self.dice.below(2) == 0;
        let Some(node) = self.nodes.get(place) else { return };
        self.scene.trace.note(format!("disk of n{}: full is {is_filled}", node.number));
        node.disk.set_space(is_filled.then_some(4_096));
    }

    fn leave(&mut self, place: usize) {
        let Some(node) = self.nodes.get_mut(place) else { return };
        let Some(member) = &node.member else { return };
        if node.leaves.is_some() {
            return;
        }
        self.scene.trace.note(format!("n{} is to leave", node.number));
        let (reply, left) = oneshot::channel();
        let _ = member.inboxes.manager.send(ToManager::Leave(reply));
        node.leaves = Some(left);
    }

    fn send_sentinel_away(&mut self, place: usize) {
        let (number, time) = (self.number(place), ms(self.dice.between(50, 2_500)));
        self.scene.trace.note(format!("the sentinel of n{number} is away for {time:?}"));
        self.scene.send_sentinel_away(number, since_start() + time);
    }

    fn hand_over(&mut self) {
        let Some(leader) = self.running().find(|member| member.leads()).cloned() else { return };
        let others = self.scene.net.others(leader.me);
        let criminal = self.plan.criminal.map(|(number, _)| number);
        let criminal = criminal.filter(|number| others.contains(number));
        let Some(to) = criminal.or_else(|| self.dice.pick(&others)) else { return };
        self.scene.trace.note(format!("n{} is to hand over to n{to}", leader.me));
        if self.dice.below(2) == 0 {
            let _ = leader.inboxes.manager.send(ToManager::HandOver(to));
            return;
        }
        // In the middle of everything.
        spawn(async move {
            if let Some(engine) = leader.engine() {
                // It may lead no more.
                let _ = engine.transfer_leader(to).await;
            }
        });
    }

    /// Governors admit a node, which starts with an empty disk.
    fn admit(&mut self) {
        let number = u16::try_from(self.nodes.len()).unwrap_or(u16::MAX);
        let Some(clients) = self.clients.clone().filter(|_| self.admitted < 2) else { return };
        // Numbers are given in the order of admission: one after the other.
        let members = self.scene.observer.membership().map_or(0, |known| known.members.len());
        if members != self.nodes.len() {
            return;
        }
        self.admitted += 1;
        self.scene.trace.note(format!("n{number} is to be admitted"));
        self.add(number);
        let certificate = Box::new(world::certificate(number, MemberKind::Executor));
        let change = MembershipChange::Admit { certificate };
        let operations = vec![Operation::ChangeMembership { change }];
        let (until, salt) = (clock_ms(0) + 60_000, u64::MAX - u64::from(number));
        let signed = world::governed(&self.scene.genesis, until, salt, operations);
        let dice = self.dice.fork();
        spawn(async move {
            if let Some(signed) = signed {
                clients.send(&signed, &dice).await;
            }
        });
    }

    // ---- Afterwards ----

    fn heal_links(&mut self) {
        self.heals_at = None;
        self.scene.trace.note("links are whole");
        self.scene.net.heal();
    }

    /// All faults end: links are whole, disks have room, criminals keep the rules, everybody comes
    /// back.
    pub fn mend(&mut self) {
        self.scene.trace.note("faults end");
        self.heal_links();
        self.scene.net.set_weather(crate::net::Weather::default());
        self.scene.mend_machines();
        self.scene.end_crimes();
        let now = since_start();
        for node in &mut self.nodes {
            node.disk.set_space(None);
            if node.member.is_none() && !node.failed && node.dies_at.is_none() {
                node.start_at = Some(now);
            }
        }
    }

    /// Has everybody who can come back come back, and does everybody stand at the same height?
    /// What is missing, if not.
    #[must_use]
    pub fn missing(&self) -> Option<String> {
        let top = self.scene.observer.next_final();
        let Some(membership) = self.scene.observer.membership() else {
            return Some("no membership".to_owned());
        };
        for node in self.nodes.iter().filter(|node| !node.failed) {
            let number = node.number;
            let status = membership.member(number).map(|member| member.status);
            let Some(member) = &node.member else { return Some(format!("n{number} is down")) };
            let is_out = matches!(status, Some(MemberStatus::Doubted | MemberStatus::Removed));
            if is_out {
                if node.settings.crime.is_none() {
                    return Some(format!("n{number} is {status:?}"));
                }
                continue;
            }
            if status != Some(MemberStatus::Voting) {
                return Some(format!("n{number} is {status:?}"));
            }
            let next = member.next_final();
            if next + 4 < top {
                return Some(format!("n{number} is final up to {next} of {top}"));
            }
        }
        None
    }

    /// For people: how everybody stands.
    #[must_use]
    pub fn standing(&self) -> Vec<String> {
        let line = |node: &Node| {
            let number = node.number;
            let Some(member) = &node.member else {
                return format!("n{number} down, failed: {}", node.failed);
            };
            let engine = member.engine().map(|engine| engine.now());
            format!("n{number} final below {}; {engine:?}", member.next_final())
        };
        self.nodes.iter().map(line).collect()
    }

    /// Ends all processes.
    pub async fn stop(&mut self) {
        for node in &mut self.nodes {
            node.take_down(&self.scene);
        }
        sleep(ms(50)).await;
    }
}

impl Node {
    /// The process ends now; its engine's tasks are told.
    fn take_down(&mut self, scene: &Scene) {
        let Some(member) = self.member.take() else { return };
        member.kill();
        scene.net.leave(self.number);
        spawn(async move {
            if let Some(engine) = member.take_engine() {
                // An engine that waits for something that never comes is left to itself.
                let _ = within(ms(2_000), engine.stop()).await;
            }
        });
    }

    /// The process is killed; what it wrote stays.
    fn kill(&mut self, scene: &Scene) {
        self.take_down(scene);
        // A dying disk stays as it is until the power is gone.
        if self.dies_at.is_none() {
            self.disk = self.disk.kill_process();
        }
    }

    fn look_whether_left(&mut self, scene: &Scene, dice: &Dice) {
        let Some(leaves) = &mut self.leaves else { return };
        match leaves.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) => return,
            Ok(Ok(())) => scene.trace.note(format!("n{} has left", self.number)),
            Ok(Err(error)) => scene.trace.note(format!("n{} stops: {error}", self.number)),
            Err(oneshot::error::TryRecvError::Closed) => {}
        }
        self.leaves = None;
        self.kill(scene);
        self.start_at = Some(since_start() + ms(dice.between(50, 1_500)));
    }

    async fn start(&mut self, scene: &Arc<Scene>, dice: &Dice) {
        self.start_at = None;
        let (settings, void) = (self.settings, self.void.clone());
        match member::start(scene, self.number, &self.disk, settings, void).await {
            Ok(member) => {
                self.member = Some(member);
                self.failed_starts = 0;
            }
            Err(error) => {
                scene.trace.note(format!("n{} does not start: {error}", self.number));
                self.failed_starts += 1;
                if self.failed_starts >= STARTS_MAX && self.settings.crime.is_none() {
                    let text = format!("n{} does not start: {error}", self.number);
                    scene.observer.finding(text);
                    self.failed = true;
                }
                self.disk = self.disk.kill_process();
                self.start_at = Some(since_start() + ms(dice.between(50, 300)));
            }
        }
    }
}
