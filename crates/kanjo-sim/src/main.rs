//! Runs seeds: `kanjo-sim --seeds N [--seed S] [--broken WHAT] [--json]`.

use clap::Parser;
use kanjo_sim::{Broken, Options, Report, simulate};
use std::process::ExitCode;
use std::time::Instant;

/// Simulates whole clusters and checks what must hold.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// How many seeds.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How long there are faults, in milliseconds of simulated time; from the seed unless told.
    #[arg(long)]
    faults_ms: Option<u64>,
    /// Breaks the build on purpose: guard-off, quorum-of-one, acknowledge-early, no-rewind.
    #[arg(long)]
    broken: Option<String>,
    /// As for the broken build, with nothing broken.
    #[arg(long, requires = "broken")]
    mended: bool,
    /// Shows events as they happen: for a run that does not end.
    #[arg(long)]
    live: bool,
    /// How many of the last events are shown.
    #[arg(long)]
    lines: Option<usize>,
    /// Shows the last events of every run, also of good ones.
    #[arg(long)]
    trace: bool,
    /// A line of JSON for each run.
    #[arg(long)]
    json: bool,
}

fn show(report: &Report, arguments: &Arguments, millis: u128) {
    if arguments.json {
        let value = serde_json::json!({
            "seed": report.seed,
            "findings": report.findings,
            "plan": format!("{:?}", report.plan),
            "events": report.events,
            "hash": report.hash.to_string(),
            "heights": report.heights,
            "acknowledged": report.acknowledged,
            "proofs": report.proofs,
            "epoch": report.epoch,
            "simulated_ms": report.simulated.as_millis(),
            "recovery_ms": report.recovery.map(|time| time.as_millis()),
            "messages": report.messages.0,
            "lost": report.messages.1,
            "wall_ms": millis,
            "tail": if report.findings.is_empty() { Vec::new() } else { report.tail.clone() },
        });
        return println!("{value}");
    }
    println!(
        "seed {:>6}: {:>4} heights, {:>4} acknowledged, epoch {:>2}, {:>5} ms simulated, recovery {:>5} ms, {millis} ms, {}",
        report.seed,
        report.heights,
        report.acknowledged,
        report.epoch,
        report.simulated.as_millis(),
        report.recovery.map_or_else(|| "-".to_owned(), |time| time.as_millis().to_string()),
        report.hash,
    );
    if !report.findings.is_empty() || arguments.trace {
        println!("  {:?}\n  {:?}", report.plan, report.crimes);
        report.tail.iter().for_each(|line| println!("    {line}"));
        report.findings.iter().for_each(|finding| println!("  ✗ {finding}"));
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // The engine's own words, on request: RUST_LOG=openraft=debug … --live
    if std::env::var_os("RUST_LOG").is_some() {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let show = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        show.without_time().with_ansi(false).init();
    }
    let broken = match &arguments.broken {
        None => None,
        Some(name) => match Broken::ALL.iter().find(|(_, known)| known == name) {
            Some((broken, _)) => Some(*broken),
            None => {
                eprintln!("there is no way '{name}' to break the build");
                return ExitCode::FAILURE;
            }
        },
    };
    let Arguments { faults_ms, lines, live, mended, .. } = arguments;
    let options = Options { broken, faults_ms, lines, live, mended };
    let begin = Instant::now();
    let (mut found, mut acknowledged, mut heights) = (Vec::new(), 0u64, 0u64);
    for seed in arguments.seed..arguments.seed.saturating_add(arguments.seeds) {
        let started = Instant::now();
        let report = simulate(seed, options);
        show(&report, &arguments, started.elapsed().as_millis());
        acknowledged += report.acknowledged;
        heights += report.heights;
        if !report.findings.is_empty() {
            found.push(seed);
        }
    }
    if !arguments.json {
        println!(
            "{} seeds in {} s: {heights} heights, {acknowledged} acknowledged transactions, seeds with findings: {found:?}",
            arguments.seeds,
            begin.elapsed().as_secs(),
        );
    }
    if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
