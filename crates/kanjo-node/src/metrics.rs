//! Counters, and the processor time of each stage.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use rustix::time::{ClockId, clock_gettime};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A stage of the pipeline. What is not in one of these is network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Decoding and signatures.
    Signature,
    /// Order, replay, rules, links.
    Execution,
    /// Roots, state trees, header, encoding.
    Tree,
    /// Append and sync.
    Log,
    /// Votes and certificates.
    Certificate,
    /// Indexes and checkpoints.
    Background,
}

const STAGES: [(Stage, &str); 6] = [
    (Stage::Signature, "signature"),
    (Stage::Execution, "execution"),
    (Stage::Tree, "tree"),
    (Stage::Log, "log"),
    (Stage::Certificate, "certificate"),
    (Stage::Background, "background"),
];

/// Counters of a node.
#[derive(Default)]
pub(crate) struct Metrics {
    stage_cpu_ns: [Arc<AtomicU64>; STAGES.len()],
    pub transactions: AtomicU64,
    pub blocks: AtomicU64,
    pub refused: AtomicU64,
    pub log_bytes: AtomicU64,
    pub groups: AtomicU64,
    pub requests: AtomicU64,
}

/// Reads the processor time of its thread and adds it to a stage.
pub(crate) struct ThreadClock {
    total: Arc<AtomicU64>,
    last: std::cell::Cell<u64>,
}

fn cpu_ns(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

impl ThreadClock {
    /// Adds what the thread used since the last call.
    pub(crate) fn lap(&self) {
        let now = cpu_ns(ClockId::ThreadCPUTime);
        let before = self.last.replace(now);
        self.total.fetch_add(now.saturating_sub(before), Ordering::Relaxed);
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, prometheus_client::encoding::EncodeLabelSet)]
struct StageLabel {
    stage: &'static str,
}

/// What the node knows beside its counters, at the time of a scrape.
pub(crate) struct Readings {
    pub height: u64,
    pub in_flight: u64,
    pub index_lag: u64,
    pub running: bool,
}

impl Metrics {
    /// The clock of the calling thread for `stage`.
    pub(crate) fn thread(&self, stage: Stage) -> ThreadClock {
        let mut totals = self.stage_cpu_ns.iter().zip(STAGES);
        let total = totals.find(|(_, (other, _))| *other == stage);
        let last = std::cell::Cell::new(cpu_ns(ClockId::ThreadCPUTime));
        ThreadClock { total: total.map(|(total, _)| total.clone()).unwrap_or_default(), last }
    }

    /// The text that Prometheus scrapes.
    pub(crate) fn render(&self, readings: &Readings) -> String {
        let mut registry = Registry::with_prefix("kanjo");
        let count = |registry: &mut Registry, name: &str, help: &str, value: u64| {
            let counter = Counter::<u64>::default();
            counter.inc_by(value);
            registry.register(name, help, counter);
        };
        let load = |value: &AtomicU64| value.load(Ordering::Relaxed);
        count(
            &mut registry,
            "transactions",
            "Transactions in final blocks",
            load(&self.transactions),
        );
        count(&mut registry, "blocks", "Final blocks since the start", load(&self.blocks));
        count(&mut registry, "refused", "Transactions refused", load(&self.refused));
        count(&mut registry, "log_bytes", "Bytes appended to the block log", load(&self.log_bytes));
        count(&mut registry, "log_groups", "Appends, each with one sync", load(&self.groups));
        count(&mut registry, "requests", "HTTP requests", load(&self.requests));
        self.render_cpu(&mut registry);
        let set = |registry: &mut Registry, name: &str, help: &str, value: u64| {
            let gauge: Gauge = Gauge::default();
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
            registry.register(name, help, gauge);
        };
        set(&mut registry, "height", "Newest final block", readings.height);
        set(&mut registry, "in_flight", "Transactions not final yet", readings.in_flight);
        set(&mut registry, "index_lag_blocks", "Final blocks not indexed yet", readings.index_lag);
        set(
            &mut registry,
            "running",
            "1 while transactions are taken",
            u64::from(readings.running),
        );
        let mut process = Registry::with_prefix("process");
        set(&mut process, "resident_memory_bytes", "Resident memory", resident_bytes());
        let mut text = String::new();
        let mut own = String::new();
        // Encoding into a string can't fail.
        let _ = encode(&mut own, &registry);
        let _ = encode(&mut text, &process);
        text.truncate(text.len() - "# EOF\n".len().min(text.len()));
        text + &own
    }

    fn render_cpu(&self, registry: &mut Registry) {
        let family = Family::<StageLabel, Counter<f64, AtomicU64>>::default();
        let mut known = 0;
        for ((_, stage), total) in STAGES.iter().zip(&self.stage_cpu_ns) {
            let used = total.load(Ordering::Relaxed);
            known += used;
            family.get_or_create(&StageLabel { stage }).inc_by(seconds(used));
        }
        let all = cpu_ns(ClockId::ProcessCPUTime);
        let rest = seconds(all.saturating_sub(known));
        family.get_or_create(&StageLabel { stage: "network" }).inc_by(rest);
        registry.register("stage_cpu_seconds", "Processor time by stage", family);
        let total = Counter::<f64, AtomicU64>::default();
        total.inc_by(seconds(all));
        registry.register("cpu_seconds", "Processor time of the process", total);
    }
}

#[allow(clippy::float_arithmetic, clippy::cast_precision_loss)] // For display in seconds only.
fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}
