//! One run: a cluster, clients, faults one after the other, and the checks at the end.

use crate::check::{Findings, check};
use crate::cluster::{Cluster, Part, Programs};
use crate::faults::{Deck, Fault};
use crate::load::{Accounts, Load, Seen, Told, VALID_FOR, client, counted, operator_key};
use crate::{Report, Trouble};
use kanjo_store::faults::SeededRng;
use kanjo_types::membership::MemberStatus;
use rustix::process::Signal;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often processes are looked after.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// After a fault is over, all must be well within this time.
const WELL_WITHIN: Duration = Duration::from_secs(60);
/// A member that is dead is ejected within this time.
const EJECTED_WITHIN: Duration = Duration::from_secs(30);
/// A full disk is felt when the space set aside is used up.
const FULL_LEAST: Duration = Duration::from_secs(6);
/// Clients pay at once from so many threads.
const CLIENTS: usize = 8;

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is tested.
    pub programs: Programs,
    /// Nodes that execute.
    pub executors: usize,
    /// Nodes that don't.
    pub witnesses: usize,
    /// From which everything random follows.
    pub seed: u64,
    /// How long faults go on.
    pub time: Duration,
    /// Kinds of faults.
    pub faults: Vec<Fault>,
    /// In this order and each once, or drawn.
    pub in_order: bool,
    /// Longest time that a fault stays.
    pub hold_max: Duration,
    /// Clients make pauses, so that there are at most so many payments in a second: each of them is
    /// looked up at the end.
    pub payments_per_s: u64,
    /// A line on standard error for each fault.
    pub is_told: bool,
    /// Logs and data stay, also where nothing was found.
    pub keeps: bool,
}

/// Runs it.
///
/// # Errors
/// The cluster can't be made or started; what goes wrong later is in [`Report::findings`].
pub fn run(options: &Options) -> Result<Report, Trouble> {
    let dir = tempfile::Builder::new().prefix("kanjo-chaos").tempdir();
    let dir = dir.map_err(|error| Trouble::new("a directory", error))?;
    let mut run = Run::start(options, dir.path())?;
    run.faults();
    let report = run.finish()?;
    if options.keeps || !report.findings.is_empty() {
        eprintln!("logs and data: {}", dir.keep().display());
    }
    Ok(report)
}

struct Run<'a> {
    options: &'a Options,
    rng: SeededRng,
    cluster: Cluster,
    accounts: Arc<Accounts>,
    load: Option<Load>,
    began: Instant,
    report: Report,
    findings: Findings,
    /// Times without a majority, in milliseconds since the load began.
    alone: Vec<(u64, u64)>,
}

impl<'a> Run<'a> {
    fn start(options: &'a Options, dir: &Path) -> Result<Self, Trouble> {
        let operator = operator_key()?.public().to_string();
        let programs = options.programs.clone();
        let mut cluster =
            Cluster::create(programs, dir, options.executors, options.witnesses, &operator)?;
        let mut report = Report { seed: options.seed, ..Report::default() };
        let is_disk = |fault: &Fault| matches!(fault, Fault::FullFollower | Fault::FullLeader);
        if options.faults.iter().any(is_disk)
            && let Err(trouble) = cluster.give_rooms()
        {
            report.not_run.push(format!("full disks: {trouble}"));
        }
        cluster.start_all();
        let apis: Vec<String> = cluster
            .nodes
            .iter()
            .filter(|node| node.executes)
            .map(|node| node.api.clone())
            .collect();
        let give_up_at = Instant::now() + WELL_WITHIN;
        while !cluster.not_well().is_empty() {
            if Instant::now() > give_up_at {
                let mut wrong = cluster.not_well();
                wrong.append(&mut cluster.findings);
                return Err(Trouble::new("the cluster does not start", wrong.join("\n")));
            }
            cluster.tend();
            std::thread::sleep(LOOK_EVERY);
        }
        let accounts = Arc::new(Accounts::create(&cluster.genesis, &client(&apis, 0)?)?);
        let load = Load::start(&accounts, &apis, (CLIENTS, options.payments_per_s), options.seed)?;
        Ok(Self {
            options,
            rng: SeededRng::new(options.seed),
            cluster,
            accounts,
            began: load.began(),
            load: Some(load),
            report,
            findings: Findings::default(),
            alone: Vec::new(),
        })
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn say(&self, text: &str) {
        if self.options.is_told {
            let at_ms = self.now_ms();
            let count = self.load.as_ref().map_or(0, Load::count);
            eprintln!("{:>4}.{:03} s {count:>7} paid  {text}", at_ms / 1_000, at_ms % 1_000);
        }
    }

    fn wait(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.cluster.tend();
            std::thread::sleep(LOOK_EVERY.min(until.saturating_duration_since(Instant::now())));
        }
    }

    /// Waits until something is so; false when it is not in time.
    fn until(&mut self, most: Duration, mut is_so: impl FnMut(&Cluster) -> bool) -> bool {
        let give_up_at = Instant::now() + most;
        while !is_so(&self.cluster) {
            if Instant::now() > give_up_at {
                return false;
            }
            self.wait(LOOK_EVERY);
        }
        true
    }

    fn between(&mut self, least_ms: u64, most_ms: u64) -> Duration {
        Duration::from_millis(least_ms + self.rng.below(most_ms - least_ms + 1))
    }

    fn place(&mut self, below: usize) -> usize {
        usize::try_from(self.rng.below(below as u64)).unwrap_or(0)
    }

    /// All faults, one after the other.
    fn faults(&mut self) {
        let nodes = self.cluster.nodes.len();
        let has_rooms = self.cluster.nodes.iter().all(|node| node.room.is_some());
        let is_possible = |fault: &Fault| {
            let needs_room = matches!(fault, Fault::FullFollower | Fault::FullLeader);
            fault.fits(nodes) && (has_rooms || !needs_room)
        };
        let kinds = self.options.faults.iter().copied().filter(is_possible).collect();
        let mut deck = Deck::new(kinds, !self.options.in_order);
        self.wait(Duration::from_secs(1));
        while self.began.elapsed() < self.options.time {
            let Some(fault) = deck.next(&mut self.rng) else { break };
            *self.report.faults.entry(fault.name()).or_insert(0) += 1;
            self.one(fault);
            if !self.get_well(&fault.name()) {
                return;
            }
            let pause = self.between(100, 2_000);
            self.wait(pause);
        }
    }

    /// All must be well again, and payments go on.
    fn get_well(&mut self, after: &str) -> bool {
        let began = Instant::now();
        let paid = self.load.as_ref().map_or(0, Load::count);
        let is_well = self.until(WELL_WITHIN, |cluster| cluster.not_well().is_empty());
        if !is_well {
            let wrong = self.cluster.not_well().join("; ");
            self.say(&format!("after {after}, not well: {wrong}"));
            self.findings.add("NOT WELL", format!("60 s after {after}: {wrong}"));
            return false;
        }
        let give_up_at = Instant::now() + WELL_WITHIN;
        while self.load.as_ref().map_or(0, Load::count) == paid {
            if Instant::now() > give_up_at {
                self.say(&format!("after {after}, no payment in 60 s"));
                self.findings.add("NO PAYMENTS", format!("in 60 s after {after}"));
                return false;
            }
            self.wait(LOOK_EVERY);
        }
        let took = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.say(&format!("  well after {took} ms"));
        let longest = &mut self.report.longest_recovery_ms;
        *longest = (*longest).max(took);
        true
    }

    fn victim(&mut self, fault: Fault) -> usize {
        let nodes = self.cluster.nodes.len();
        let leader = self.cluster.leader().filter(|leader| *leader < nodes);
        match (fault.is_of_leader(), leader) {
            (true, Some(leader)) => leader,
            (false, Some(leader)) if fault != Fault::KillBoth && fault != Fault::Leave => {
                (leader + 1 + self.place(nodes - 1)) % nodes
            }
            _ => self.place(nodes),
        }
    }

    fn one(&mut self, fault: Fault) {
        let victim = self.victim(fault);
        let longest = u64::try_from(self.options.hold_max.as_millis()).unwrap_or(u64::MAX);
        let hold = self.between(500, longest.max(501));
        let name = self.cluster.nodes.get(victim).map_or("", |node| &node.name).to_owned();
        self.say(&format!("{} of {name} for {} ms", fault.name(), hold.as_millis()));
        let alone_from = (!fault.leaves_majority()).then(|| self.now_ms());
        match fault {
            Fault::KillFollower | Fault::KillLeader => self.kill(victim, &[Part::Node], hold),
            Fault::KillBoth => self.kill(victim, &[Part::Sentinel, Part::Node], hold),
            Fault::KillSentinel | Fault::KillLeadersSentinel => {
                self.kill(victim, &[Part::Sentinel], hold);
            }
            Fault::KillAgain => self.kill_again(victim),
            Fault::KillAll => self.kill_all(&[Part::Node], hold / 4),
            Fault::KillEverything => self.kill_all(&[Part::Sentinel, Part::Node], hold / 4),
            Fault::KillTwo => self.kill_two(victim, hold),
            Fault::PauseLeader | Fault::PauseFollower => self.pause(victim, Part::Node, hold),
            Fault::PauseSentinel => self.pause(victim, Part::Sentinel, hold),
            Fault::Leave => self.leave(victim, hold),
            Fault::FullFollower | Fault::FullLeader => {
                self.fill(victim, FULL_LEAST + hold * 2);
            }
            _ => self.break_links(fault, victim, hold),
        }
        if let Some(from) = alone_from {
            let to = self.now_ms();
            self.alone.push((from, to));
        }
    }

    // ---- Processes ----

    fn kill(&mut self, victim: usize, parts: &[Part], hold: Duration) {
        parts.iter().for_each(|part| self.cluster.kill(victim, *part));
        self.wait(hold);
        parts.iter().for_each(|part| self.cluster.start(victim, *part));
    }

    /// It dies again and again while it starts and catches up.
    fn kill_again(&mut self, victim: usize) {
        for _ in 0..4 {
            self.cluster.kill(victim, Part::Node);
            let away = self.between(0, 1_500);
            self.wait(away);
            self.cluster.start(victim, Part::Node);
            let alive = self.between(20, 1_500);
            self.wait(alive);
        }
    }

    fn kill_all(&mut self, parts: &[Part], hold: Duration) {
        let places = 0..self.cluster.nodes.len();
        for part in parts {
            places.clone().for_each(|place| self.cluster.kill(place, *part));
        }
        self.wait(hold);
        for part in parts {
            places.clone().for_each(|place| self.cluster.start(place, *part));
        }
    }

    /// One dies, the others eject it and go on with a smaller quorum, then another one dies. An
    /// executor must be left.
    fn kill_two(&mut self, first: usize, hold: Duration) {
        let nodes = self.cluster.nodes.len();
        let executors: Vec<usize> = (0..nodes)
            .filter(|at| self.cluster.nodes.get(*at).is_some_and(|n| n.executes))
            .collect();
        let second = executors.iter().copied().find(|at| *at != first).unwrap_or(0);
        self.cluster.kill(first, Part::Node);
        let witness = (0..nodes).find(|at| *at != first && *at != second).unwrap_or(0);
        let is_out = self.until(EJECTED_WITHIN, |cluster| {
            let Some(status) = cluster.status(witness) else { return false };
            let member = status.nodes.get(first);
            let is_ejected = member.is_some_and(|member| member.status == MemberStatus::Ejected);
            // Before the engine has changed its voters, too, the old quorum counts.
            let counts = |set: &Vec<u16>| set.iter().any(|voter| usize::from(*voter) == first);
            is_ejected
                && status.engine_voters.len() == 1
                && !status.engine_voters.iter().any(counts)
        });
        if is_out {
            self.say("  it is ejected; another one is killed");
            self.cluster.kill(second, Part::Node);
            self.wait(hold);
            self.cluster.start(second, Part::Node);
        } else {
            self.findings.add("NOT EJECTED", format!("a dead member in {EJECTED_WITHIN:?}"));
        }
        self.cluster.start(first, Part::Node);
    }

    fn pause(&mut self, victim: usize, part: Part, hold: Duration) {
        self.cluster.signal(victim, part, Signal::STOP);
        self.wait(hold);
        self.cluster.signal(victim, part, Signal::CONT);
    }

    fn leave(&mut self, victim: usize, hold: Duration) {
        self.cluster.signal(victim, Part::Node, Signal::TERM);
        let within = Duration::from_secs(20);
        let has_ended = self.until(within, |cluster| cluster.has_ended(victim, Part::Node));
        if !has_ended {
            self.findings.add("NOT STOPPED", format!("{within:?} after SIGTERM"));
            self.cluster.kill(victim, Part::Node);
        }
        self.wait(hold);
        self.cluster.start(victim, Part::Node);
    }

    // ---- Disks ----

    fn fill(&mut self, victim: usize, hold: Duration) {
        let api = self.cluster.nodes.get(victim).map(|node| node.api.clone()).unwrap_or_default();
        let is_executor = self.cluster.nodes.get(victim).is_some_and(|node| node.executes);
        if !self.size(victim, true) {
            return;
        }
        let until = Instant::now() + hold;
        let asks = client(std::slice::from_ref(&api), 0);
        let mut said_after = None;
        while Instant::now() < until {
            self.wait(Duration::from_millis(200));
            let state = asks.as_ref().ok().and_then(|client| client.status().ok());
            if said_after.is_none() && state.is_some_and(|status| status.state == "storage_full") {
                said_after =
                    Some(hold.saturating_sub(until.saturating_duration_since(Instant::now())));
            }
        }
        match said_after {
            Some(after) => self.say(&format!("  it said storage_full after {after:?}")),
            None if is_executor => self.say("  it did not say storage_full"),
            None => {}
        }
        self.report.said_full += u64::from(said_after.is_some());
        let leader = self.cluster.leader();
        let heights = self.cluster.heights();
        self.say(&format!("  heights {heights:?}, leader {leader:?}; there is room again"));
        self.size(victim, false);
    }

    fn size(&mut self, victim: usize, full: bool) -> bool {
        let Some(node) = self.cluster.nodes.get_mut(victim) else { return false };
        let Some(room) = &node.room else { return false };
        let done = if full { room.fill() } else { room.empty() };
        node.is_full = full;
        if let Err(trouble) = done {
            self.findings.add("disk", trouble.to_string());
            return false;
        }
        true
    }

    // ---- Links ----

    fn break_links(&mut self, fault: Fault, victim: usize, hold: Duration) {
        let nodes = self.cluster.nodes.len();
        let others: Vec<usize> = (0..nodes).filter(|other| *other != victim).collect();
        let leader = self.cluster.leader().unwrap_or(0);
        let network = &self.cluster.network;
        match fault {
            Fault::CutLeader | Fault::CutFollower => {
                others.iter().for_each(|other| network.cut(victim, *other));
            }
            Fault::StallLeader => others.iter().for_each(|other| {
                network.stall(victim, *other);
                network.stall(*other, victim);
            }),
            Fault::MuteLeader => others.iter().for_each(|other| network.stall(victim, *other)),
            Fault::DeafLeader => others.iter().for_each(|other| network.stall(*other, victim)),
            Fault::CutPair => network.cut(victim, leader),
            Fault::Halves => {
                // The victim and one more on one side; of three nodes each is alone.
                let with = others.first().copied().filter(|_| nodes.is_multiple_of(2));
                for (at, one) in others.iter().enumerate() {
                    if Some(*one) != with {
                        network.cut(victim, *one);
                        with.into_iter().for_each(|with| network.cut(with, *one));
                    }
                    if with.is_none() {
                        let rest = others.iter().skip(at + 1);
                        rest.for_each(|other| network.cut(*one, *other));
                    }
                }
            }
            Fault::Slow => {
                let delay = Duration::from_millis(20 + self.rng.below(200));
                others.iter().for_each(|other| {
                    network.delay(victim, *other, delay);
                    network.delay(*other, victim, delay);
                });
            }
            Fault::Resets | Fault::Corrupt => return self.pester(fault, hold),
            _ => {}
        }
        self.wait(hold);
        self.cluster.network.heal();
    }

    fn pester(&mut self, fault: Fault, hold: Duration) {
        let until = Instant::now() + hold;
        let nodes = self.cluster.nodes.len();
        while Instant::now() < until {
            let one = self.place(nodes);
            let other = (one + 1 + self.place(nodes - 1)) % nodes;
            if fault == Fault::Resets {
                self.cluster.network.reset(one, other);
            } else {
                self.cluster.network.corrupt(one, other);
            }
            let pause = self.between(50, 600);
            self.wait(pause);
        }
        self.cluster.network.heal();
    }

    // ---- The end ----

    fn finish(mut self) -> Result<Report, Trouble> {
        self.cluster.network.heal();
        let seen = self.load.take().map(Load::stop);
        let seen = seen.unwrap_or(Seen { sent: Vec::new(), acknowledged_ms: Vec::new() });
        let end_ms = self.now_ms();
        self.say("the load is over");
        self.figures(&seen, end_ms);
        // What became of all payments is certain once the last has expired.
        let is_unknown = |sent: &crate::load::Sent| !matches!(sent.told, Told::Recorded(_));
        if seen.sent.iter().any(is_unknown) {
            self.wait(VALID_FOR + Duration::from_secs(2));
        }
        let is_same = |cluster: &Cluster| {
            let heights = cluster.heights();
            let first = heights.first().copied().flatten();
            first.is_some() && heights.iter().all(|height| *height == first)
        };
        if !self.until(WELL_WITHIN, |cluster| cluster.not_well().is_empty() && is_same(cluster)) {
            let (heights, wrong) = (self.cluster.heights(), self.cluster.not_well());
            self.findings.add("NOT WELL", format!("at the end: {heights:?}, {wrong:?}"));
        }
        self.compare()?;
        let checked = check(&self.cluster, &self.accounts, &seen, &mut self.findings)?;
        self.report.height = checked.height;
        self.report.unknown_recorded = checked.unknown_recorded;
        self.say("all payments are looked up");
        self.cluster.stop();
        self.verify()?;
        self.say("all data is verified");
        self.report.sentinels_ended_full = self.cluster.ended_full;
        let mut lines = std::mem::take(&mut self.findings).lines();
        lines.append(&mut self.cluster.findings);
        self.report.findings = lines;
        Ok(std::mem::take(&mut self.report))
    }

    fn figures(&mut self, seen: &Seen, end_ms: u64) {
        let report = &mut self.report;
        report.seconds = end_ms / 1_000;
        for one in &seen.sent {
            match &one.told {
                Told::Recorded(_) => report.acknowledged += 1,
                Told::Refused(_) | Told::Unknown(_) => {}
            }
        }
        report.refused = counted(seen.sent.iter().filter_map(|one| match &one.told {
            Told::Refused(code) => Some(code.as_str()),
            _ => None,
        }));
        report.unknown = counted(seen.sent.iter().filter_map(|one| match &one.told {
            Told::Unknown(why) => Some(why.as_str()),
            _ => None,
        }));
        let mut times = seen.acknowledged_ms.clone();
        times.sort_unstable();
        times.push(end_ms);
        let mut before = 0;
        for time in times {
            let gap = time.saturating_sub(before);
            let is_alone = self.alone.iter().any(|(from, to)| *from < time && *to > before);
            let longest = if is_alone {
                &mut report.longest_without_majority_ms
            } else {
                &mut report.longest_with_majority_ms
            };
            if gap > longest.0 {
                *longest = (gap, before);
            }
            before = time;
        }
    }

    fn compare(&mut self) -> Result<(), Trouble> {
        let (done, said) = self.cluster.ask(0, &["cluster", "compare"])?;
        let is_identical = said.get("identical").and_then(serde_json::Value::as_bool);
        if !done || is_identical != Some(true) {
            self.findings.add("COMPARE", said.to_string());
        }
        Ok(())
    }

    fn verify(&mut self) -> Result<(), Trouble> {
        for place in 0..self.cluster.nodes.len() {
            let Some(node) = self.cluster.nodes.get(place).filter(|node| node.executes) else {
                continue;
            };
            let (name, data) = (node.name.clone(), node.dir.display().to_string());
            let (done, said) = self.cluster.ask(place, &["verify", "--data", &data])?;
            if !done {
                self.findings.add("VERIFY", format!("{name}: {said}"));
            }
        }
        Ok(())
    }
}
