//! A run: a seed in, findings out.

use crate::clients::Clients;
use crate::cluster::Cluster;
use crate::crimes::Counts;
use crate::dice::Dice;
use crate::observer::Observer;
use crate::panics;
use crate::plan::Plan;
use crate::scene::{Broken, Scene};
use crate::time::{Rt, ms, since_start, sleep};
use crate::trace::Trace;
use crate::world;
use kanjo_types::Hash;
use openraft::AsyncRuntime;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// Events kept to be shown with a finding.
const LINES_KEPT: usize = 120;
/// How often nodes are looked after.
const TICK: Duration = ms(5);
/// How long a cluster may take to recover.
const RECOVERY: Duration = ms(20_000);
/// Payments that must be acknowledged after the faults.
const PAYMENTS_AFTER: u64 = 10;

/// How to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// What is broken on purpose.
    pub broken: Option<Broken>,
    /// How long there are faults, in milliseconds of simulated time; from the seed unless told.
    pub faults_ms: Option<u64>,
    /// How many of the last events are kept to be shown.
    pub lines: Option<usize>,
    /// Events are shown on stderr as they happen: for a run that does not end.
    pub live: bool,
    /// Everything is as for a build that is broken on purpose, and nothing is broken.
    pub mended: bool,
}

impl Options {
    fn plan(&self, dice: &Dice) -> Plan {
        Plan::draw(dice, self.broken, self.faults_ms)
    }
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// What must not be; empty when all is well.
    pub findings: Vec<String>,
    /// What was drawn from the seed.
    pub plan: Plan,
    /// How many events there were.
    pub events: u64,
    /// Hash over all of them.
    pub hash: Hash,
    /// Final heights.
    pub heights: u64,
    /// Acknowledged transactions.
    pub acknowledged: u64,
    /// Proofs of wallets that were checked.
    pub proofs: u64,
    /// The epoch of the membership at the end.
    pub epoch: u64,
    /// Simulated time.
    pub simulated: Duration,
    /// How long the cluster took to recover.
    pub recovery: Option<Duration>,
    /// What became of crimes.
    pub crimes: Counts,
    /// Messages carried and lost.
    pub messages: (u64, u64),
    /// The last events.
    pub tail: Vec<String>,
}

impl Report {
    /// Of a run that panicked.
    fn unfinished(seed: u64, options: Options) -> Self {
        Self {
            seed,
            findings: vec!["the run did not finish".to_owned()],
            plan: options.plan(&Dice::new(seed)),
            events: 0,
            hash: Hash::ZERO,
            heights: 0,
            acknowledged: 0,
            proofs: 0,
            epoch: 0,
            simulated: Duration::ZERO,
            recovery: None,
            crimes: Counts::default(),
            messages: (0, 0),
            tail: Vec::new(),
        }
    }
}

/// Runs a seed.
#[must_use]
pub fn simulate(seed: u64, options: Options) -> Report {
    panics::watch();
    let mut runtime = Rt::with_seed(seed);
    let played = catch_unwind(AssertUnwindSafe(|| runtime.block_on(play(seed, options))));
    let mut report = played.unwrap_or_else(|_| Report::unfinished(seed, options));
    drop(runtime);
    let panics = panics::take();
    report.findings.extend(panics.into_iter().map(|text| format!("panic: {text}")));
    report
}

async fn play(seed: u64, options: Options) -> Report {
    let dice = Dice::new(seed);
    let plan = options.plan(&dice);
    let genesis = world::genesis(plan.executors, plan.witnesses, plan.accounts);
    let trace = Arc::new(Trace::new(options.lines.unwrap_or(LINES_KEPT), options.live));
    let observer = Observer::new(genesis.clone(), trace);
    let broken = options.broken.filter(|_| !options.mended);
    let scene = Arc::new(Scene::new(genesis, observer, &dice, broken));
    scene.trace.note(format!("{plan:?}"));
    let mut cluster = Cluster::new(scene.clone(), plan.clone());
    let clients = Clients::start(&scene, plan.accounts, plan.accounts);
    cluster.set_clients(clients.clone());
    with_faults(&scene, &plan, &mut cluster).await;
    cluster.mend();
    let recovery = recover(&scene, &plan, &mut cluster, &clients).await;
    clients.stop();
    scene.observer.finish();
    let simulated = since_start();
    cluster.stop().await;
    let (acknowledged, proofs) = scene.observer.counts();
    Report {
        seed,
        findings: scene.observer.findings(),
        events: scene.trace.count(),
        hash: scene.trace.hash(),
        heights: scene.observer.next_final(),
        acknowledged,
        proofs,
        epoch: scene.observer.membership().map_or(0, |membership| membership.epoch),
        simulated,
        recovery,
        crimes: scene.crimes.counts(),
        messages: scene.net.counts(),
        tail: scene.trace.tail(),
        plan,
    }
}

fn look_around(scene: &Scene, plan: &Plan, cluster: &Cluster) {
    for member in cluster.running() {
        let account = scene.dice.below(plan.accounts);
        scene.observer.look_at(member, account, plan.accounts);
    }
}

async fn with_faults(scene: &Arc<Scene>, plan: &Plan, cluster: &mut Cluster) {
    let end = since_start() + ms(plan.faults_ms);
    // First a while in good order.
    let mut next = since_start() + ms(700);
    while since_start() < end && scene.observer.findings().is_empty() {
        cluster.tend().await;
        sleep(TICK).await;
        if since_start() >= next {
            scene.net.set_weather(plan.weather);
            cluster.fault();
            look_around(scene, plan, cluster);
            next = since_start() + ms(scene.dice.between(plan.pause_ms / 2, plan.pause_ms * 2));
        }
    }
}

/// Waits until payments are acknowledged again and everybody stands alike; how long that took.
async fn recover(
    scene: &Arc<Scene>,
    plan: &Plan,
    cluster: &mut Cluster,
    clients: &Clients,
) -> Option<Duration> {
    let begin = since_start();
    let acknowledged = scene.observer.counts().0;
    let mut stopped_at = None;
    loop {
        if !scene.observer.findings().is_empty() {
            return None;
        }
        cluster.tend().await;
        sleep(TICK).await;
        let passed = since_start() - begin;
        let paid = scene.observer.counts().0 - acknowledged;
        let missing = match cluster.missing() {
            None if paid < PAYMENTS_AFTER => Some(format!("{paid} payments acknowledged")),
            missing => missing,
        };
        match (&missing, stopped_at) {
            // At rest every replica stands at its last final height.
            (None, None) => {
                clients.stop();
                stopped_at = Some(since_start());
            }
            (None, Some(at)) if since_start() - at > ms(1_500) => {
                let before = scene.observer.counts().1;
                look_around(scene, plan, cluster);
                if scene.observer.counts().1 > before {
                    return Some(passed);
                }
                // A member that just came back makes a block of its own.
                if since_start() - at > ms(4_000) {
                    scene.observer.finding("at rest no proof could be made".to_owned());
                }
            }
            _ => {}
        }
        if passed > RECOVERY {
            let standing = cluster.standing().join("\n      ");
            let what = missing.unwrap_or_else(|| "rest".to_owned());
            scene.observer.finding(format!("no recovery: {what}\n      {standing}"));
            return None;
        }
    }
}
