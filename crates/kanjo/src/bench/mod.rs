//! `kanjo bench`: figures of this machine.
//!
//! ```text
//!  this process                                          a node of its own (the same program)
//!  1 accounts 1 … N with balances 1 … N ──── batches ──▶ creates, issues
//!  2 signs every payment                                 idle
//!  3 the clock starts ── signed frames, HTTP, kept ────▶ verify, execute, link, tree, fsync
//!  4 the clock stops;  asks every receiver ────────────▶ balances: 1 + 2 + … + N ?
//! ```

mod accounts;
mod child;
mod cluster;
mod cluster_report;
mod energy;
mod file;
mod measure;
mod members;
mod paced;
mod prepare;
mod report;

use crate::commands::Plan;
use crate::context::Context;
use crate::fail::{Done, Fail};
use crate::load::{self, Sending};
use accounts::Shape;
use child::Child;
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use kanjo_client::{Client, Limits};
use measure::Measure;
use prepare::Prepared;
use report::Figures;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Measure payments per second on this machine.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// The e-money experiment: N accounts with balances 1 … N, each pays its whole balance.
    #[command(after_help = "Example:\n  kanjo bench emoney --accounts 1000000\n  \
        kanjo bench emoney --accounts 1000000 --batch 8190 --json\n  \
        kanjo bench emoney --nodes 3\n\n\
        The node is a process of its own; payments are signed before the clock starts and sent\n\
        over loopback HTTP. Afterwards the sum received must be 1 + 2 + … + N.")]
    Emoney(EmoneyArgs),
}

/// Options of `kanjo bench emoney`.
#[derive(Debug, Args)]
pub struct EmoneyArgs {
    /// Accounts, with balances of 1 … N smallest units.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = to(100_000_000))]
    accounts: u64,
    /// How many of them pay, the poorest first; all when left out.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    payments: Option<u64>,
    /// Payments as batches of this many with one signature, by the operator, who then owns all
    /// accounts.
    #[arg(long, value_name = "LEGS", value_parser = clap::value_parser!(u16).range(1..=8190))]
    batch: Option<u16>,
    /// Keep the signed payments in FILE rather than in memory, and use them again when they fit.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Payments in a request, about.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = to(65_536))]
    frame: u64,
    /// Connections, each with one request in flight.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = to(256))]
    connections: u64,
    /// Receiving wallets.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = to(8_000))]
    receivers: u64,
    /// Data directory of the node, kept afterwards; a temporary one when left out.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Measure a cluster of this many nodes that execute, at several rates.
    #[arg(long, value_name = "N", value_parser = to(64))]
    nodes: Option<u64>,
    /// Witnesses in the cluster.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "nodes",
        value_parser = clap::value_parser!(u64).range(0..=64))]
    witnesses: u64,
    /// Send everything to the first node; otherwise it is spread over all.
    #[arg(long, requires = "nodes")]
    all_to_one: bool,
    /// Payments per second; repeat it for several (default: 1000, 5000, 10000). The rest goes as
    /// fast as answers come.
    #[arg(long = "rate", value_name = "N", requires = "nodes", value_parser = to(1_000_000))]
    rates: Vec<u64>,
    /// The program of the sentinels; the one beside this program unless told otherwise.
    #[arg(long, value_name = "FILE", requires = "nodes")]
    sentinel: Option<PathBuf>,
}

/// A number from 1 to `most`.
fn to(most: u64) -> clap::builder::RangedU64ValueParser<u64> {
    clap::value_parser!(u64).range(1..=most)
}

/// Runs `kanjo bench`.
pub fn run(ctx: &Context, command: &BenchCommand) -> Done {
    let BenchCommand::Emoney(args) = command;
    let shape = Shape {
        accounts: args.accounts,
        payments: args.payments.unwrap_or(args.accounts),
        legs: args.batch.map(u64::from),
        frame: args.frame,
        receivers: args.receivers,
    };
    if shape.payments > shape.accounts {
        return Err(Fail::usage(format!(
            "--payments {} is more than --accounts {}: each account pays once, its whole balance",
            shape.payments, shape.accounts
        )));
    }
    let temporary = tempfile::tempdir().map_err(|error| Fail::new("file", error))?;
    crate::interrupt::remove_on_interrupt(temporary.path().to_path_buf());
    let data = args.data.clone().unwrap_or_else(|| temporary.path().join("node"));
    if let Some(nodes) = args.nodes {
        return cluster::run(ctx, args, &shape, &data, nodes);
    }
    let figures = measure(ctx, args, &shape, &data)?;
    figures.show(ctx, &shape, args.connections, args.data.as_deref())
}

fn measure(
    ctx: &Context,
    args: &EmoneyArgs,
    shape: &Shape,
    data: &std::path::Path,
) -> Done<Figures> {
    let operator = accounts::operator()?;
    let plan = accounts::plan(&operator)?;
    let genesis = Plan::create(&plan, data)?;
    let node = Child::start(data)?;
    // Requests may wait behind a whole queue of others, and answers of batches are large.
    let limits = Limits { submit: Duration::from_secs(600), ..Limits::default() };
    let client = Client::with_limits(node.api(), limits)?;
    let bench = accounts::Bench::new(&genesis, operator, shape)?;

    let start = Instant::now();
    let bar = bar(ctx, "Accounts", shape.accounts);
    let prepared = prepare::run(&bench, &client, args.file.as_deref(), &bar);
    bar.finish_and_clear();
    let Prepared { requests, reused } = prepared?;
    let setup = start.elapsed();

    let before = Measure::take(&client, &node)?;
    let load_before = measure::own_cpu();
    let bar = self::bar(ctx, "Payments", shape.payments);
    let connections = usize::try_from(args.connections).unwrap_or(1);
    let sending = Sending { clients: std::slice::from_ref(&client), connections, pace: None };
    let outcome = load::run(&sending, &*requests, &|done| bar.set_position(done));
    bar.finish_and_clear();
    let outcome = outcome?;
    let load_cpu = crate::figures::increase(load_before, measure::own_cpu());
    let after = Measure::take(&client, &node)?;
    let received = prepare::received(&bench, &client)?;
    let stop = Instant::now();
    node.stop()?;
    Ok(Figures { setup, reused, outcome, load_cpu, before, after, received, stop: stop.elapsed() })
}

fn bar(ctx: &Context, title: &'static str, length: u64) -> ProgressBar {
    if ctx.json {
        return ProgressBar::hidden();
    }
    let template = format!("  {title:<9} {{bar:40}} {{human_pos}} of {{human_len}}  {{rate}}");
    let style = ProgressStyle::with_template(&template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key("rate", |state: &indicatif::ProgressState, out: &mut dyn std::fmt::Write| {
            let rate = crate::figures::per_second(state.pos(), state.elapsed());
            // A progress bar that can't be drawn is no reason to stop.
            let _ = write!(out, "{}/s", crate::text::grouped(rate));
        });
    ProgressBar::new(length).with_style(style.progress_chars("━╸─"))
}
