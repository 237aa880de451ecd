//! `cargo xtask chaos [--minutes N] [--nodes N] [--witnesses N] [--seed S] [--faults …] [--json]`.

use clap::Parser;
use kanjo_chaos::{Fault, Group, Options, Programs, Report, run};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Faults on a cluster of real processes under load, and what must hold after them.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// How long faults go on.
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// How long faults go on, in seconds instead.
    #[arg(long)]
    seconds: Option<u64>,
    /// Nodes that execute.
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// Witnesses.
    #[arg(long, default_value_t = 1)]
    witnesses: usize,
    /// From which faults and payments follow.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Which faults.
    #[arg(long, value_enum, value_delimiter = ',',
        default_values = ["kill", "partition", "disk", "sentinel"])]
    faults: Vec<Group>,
    /// Only these kinds of faults, by name, in this order and once.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// The program of the nodes; the one beside this one unless told otherwise.
    #[arg(long, value_name = "FILE")]
    kanjo: Option<PathBuf>,
    /// The program of the sentinels.
    #[arg(long, value_name = "FILE")]
    sentinel: Option<PathBuf>,
    /// Most payments in a second: each is looked up at every executor at the end.
    #[arg(long, default_value_t = 600)]
    rate: u64,
    /// Longest time that a fault stays, in milliseconds.
    #[arg(long, default_value_t = 8_000)]
    hold_ms: u64,
    /// Keep logs and data.
    #[arg(long)]
    keep: bool,
    /// The report as JSON.
    #[arg(long)]
    json: bool,
}

fn beside(name: &str) -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let program = own.with_file_name(name);
    if program.is_file() {
        return Ok(program);
    }
    Err(format!("{} is missing: cargo build --release --workspace --bins", program.display()))
}

fn chosen(arguments: &Arguments) -> Result<Vec<Fault>, String> {
    if arguments.only.is_empty() {
        let all = Fault::ALL.iter().filter(|(group, _)| arguments.faults.contains(group));
        return Ok(all.map(|(_, fault)| *fault).collect());
    }
    let find = |name: &String| {
        let found = Fault::ALL.iter().find(|(_, fault)| fault.name() == *name);
        found.map(|(_, fault)| *fault).ok_or_else(|| format!("there is no fault '{name}'"))
    };
    arguments.only.iter().map(find).collect()
}

fn options(arguments: &Arguments) -> Result<Options, String> {
    let program = |given: &Option<PathBuf>, name| match given {
        Some(path) => Ok(path.clone()),
        None => beside(name),
    };
    if arguments.nodes < 2 || arguments.nodes + arguments.witnesses < 3 {
        return Err("at least two executors, and three nodes in all".to_owned());
    }
    Ok(Options {
        programs: Programs {
            kanjo: program(&arguments.kanjo, "kanjo")?,
            sentinel: program(&arguments.sentinel, "kanjo-sentinel")?,
        },
        executors: arguments.nodes,
        witnesses: arguments.witnesses,
        seed: arguments.seed,
        time: Duration::from_secs(arguments.seconds.unwrap_or(arguments.minutes * 60)),
        faults: chosen(arguments)?,
        in_order: !arguments.only.is_empty(),
        hold_max: Duration::from_millis(arguments.hold_ms),
        payments_per_s: arguments.rate,
        is_told: true,
        keeps: arguments.keep,
    })
}

fn show(report: &Report) {
    println!("seed {}, {} s, height {}", report.seed, report.seconds, report.height);
    println!("  acknowledged payments  {}", report.acknowledged);
    println!("  refused                {:?}", report.refused);
    println!("  fate unknown           {:?}", report.unknown);
    println!("  … of which recorded    {}", report.unknown_recorded);
    println!("  faults                 {:?}", report.faults);
    let gap = |(gap_ms, at_ms): (u64, u64)| format!("{gap_ms} ms (at {} s)", at_ms / 1_000);
    println!("  longest time without an acknowledged payment");
    println!("    with a majority      {}", gap(report.longest_with_majority_ms));
    println!("    without              {}", gap(report.longest_without_majority_ms));
    println!("  longest recovery       {} ms", report.longest_recovery_ms);
    println!(
        "  full disks             said {}, sentinels ended {}",
        report.said_full, report.sentinels_ended_full
    );
    report.not_run.iter().for_each(|what| println!("  NOT RUN {what}"));
    report.findings.iter().for_each(|what| println!("  ✗ {what}"));
    if report.findings.is_empty() {
        println!("  ✓ all that was acknowledged is there, once, on every executor");
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let report = options(&arguments)
        .and_then(|options| run(&options).map_err(|trouble| trouble.to_string()));
    match report {
        Ok(report) => {
            if arguments.json {
                println!("{}", serde_json::to_string_pretty(&report).unwrap_or_default());
            } else {
                show(&report);
            }
            if report.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}
