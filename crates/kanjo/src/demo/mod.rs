//! `kanjo demo`: the first thing a newcomer sees. An embedded ledger, 100,000 signed payments
//! through the real HTTP API, and the checks that make it a ledger one need not trust.

mod checks;
mod money;
mod screen;
mod world;

use crate::commands::Plan;
use crate::context::{Context, print_json};
use crate::fail::{Done, Fail};
use crate::load::{self, Outcome, Sending};
use crate::{figures, say, text};
use checks::Checks;
use clap::Args;
use kanjo_client::Client;
use kanjo_node::{Config, RunningNode};
use kanjo_types::{Access, Genesis};
use money::Money;
use screen::Screen;
use serde_json::json;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;
use world::World;

/// Options of `kanjo demo`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  kanjo demo\n  kanjo demo --payments 20000 --json\n\n\
    Starts a ledger in a temporary directory, pays through its HTTP API, checks proofs from the\n\
    genesis file alone, freezes, reverses, swaps, and ends by itself. Exit code 0 when everything holds.")]
pub struct DemoArgs {
    /// How many payments, each with a signature of its own.
    #[arg(long, default_value_t = 100_000, value_parser = payments())]
    payments: u64,
    /// How many users, each with a key and a wallet of its own.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(2..=2_000))]
    users: u16,
}

fn payments() -> clap::builder::RangedU64ValueParser<u64> {
    clap::value_parser!(u64).range(1..=5_000_000)
}

/// Connections of the load.
const CONNECTIONS: usize = 4;

/// Runs `kanjo demo`.
pub fn run(ctx: &Context, args: &DemoArgs) -> Done {
    let screen = Screen::new(ctx.json);
    screen.title();
    let directory = tempfile::tempdir().map_err(|error| {
        Fail::new("file", format!("no temporary directory: {error}")).next("set TMPDIR")
    })?;
    crate::interrupt::remove_on_interrupt(directory.path().to_path_buf());
    let operator = world::operator()?;
    let plan =
        Plan::new("Kanjo demo", vec![("operator".to_owned(), Access::Single(operator.public()))])?;
    let data = directory.path().join("ledger");
    let genesis = plan.create(&data)?;
    let mut config = Config::new(&data);
    config.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let node = kanjo_node::start(config).map_err(|error| Fail::new("start", error))?;
    screen.ledger(&node);
    let result =
        pay_and_check(&screen, args, &node, &genesis, operator, &data.join("genesis.json"));
    let stopped = node.stop().map_err(|error| Fail::new("stop", error));
    let (outcome, money, checks) = result?;
    stopped?;
    report(ctx, &screen, args, &outcome, &money, &checks)
}

fn pay_and_check(
    screen: &Screen,
    args: &DemoArgs,
    node: &RunningNode,
    genesis: &Genesis,
    operator: kanjo_types::signature::SecretKey,
    genesis_file: &std::path::Path,
) -> Done<(Outcome, Money, Checks)> {
    let client = Client::new(&format!("http://{}", node.address()))?;
    let mut world = World::new(genesis, operator, args.users, args.payments)?;
    let start = Instant::now();
    world.create(&client)?;
    screen.created(&world, start.elapsed());
    let start = Instant::now();
    let requests = world.sign()?;
    screen.signed(args.payments, start.elapsed());
    let bar = screen.bar(args.payments);
    let sending =
        Sending { clients: std::slice::from_ref(&client), connections: CONNECTIONS, pace: None };
    let outcome = load::run(&sending, requests.as_slice(), &|done| bar.set_position(done));
    bar.finish_and_clear();
    let outcome = outcome?;
    screen.result(&outcome, CONNECTIONS, world::FRAME);
    checks::history(screen, &client, &world)?;
    let money = money::run(screen, &client, &mut world, genesis_file)?;
    let checks = checks::run(screen, &client, &world, &outcome, genesis_file)?;
    Ok((outcome, money, checks))
}

fn report(
    ctx: &Context,
    screen: &Screen,
    args: &DemoArgs,
    outcome: &Outcome,
    money: &Money,
    checks: &Checks,
) -> Done {
    let all_paid = outcome.failed == 0 && outcome.payments == args.payments;
    if ctx.json {
        print_json(&json!({
            "payments": outcome.payments,
            "payments_per_second": figures::per_second(outcome.payments, outcome.elapsed),
            "latency_ms": {
                "p50": figures::ms_of_us(outcome.latency_at(0.50)),
                "p99": figures::ms_of_us(outcome.latency_at(0.99)),
            },
            "proof_ok": checks.proof_ok,
            "tamper_detected": checks.tamper_detected,
            "supply_ok": checks.supply_ok,
            "freeze_ok": money.freeze_ok,
            "reversal_ok": money.reversal_ok,
            "bundle_ok": money.bundle_ok,
        }));
    }
    let named = [
        (checks.proof_ok, "the proof did not hold"),
        (checks.tamper_detected, "tampering was not noticed"),
        (checks.supply_ok, "the balances do not add up"),
        (money.freeze_ok, "a frozen wallet could pay"),
        (money.reversal_ok, "the reversal did not give the money back, or its proof did not hold"),
        (money.bundle_ok, "the bundle was not paid as it should be"),
    ];
    if all_paid && named.iter().all(|(ok, _)| *ok) {
        screen.goodbye(&ctx.program());
        return Ok(());
    }
    let mut wrong = Vec::new();
    if !all_paid {
        let why = outcome.first_failure.clone().unwrap_or_default();
        let (paid, wanted) = (text::grouped(outcome.payments), text::grouped(args.payments));
        wrong.push(format!("{paid} of {wanted} payments were done ({why})"));
    }
    wrong.extend(named.iter().filter(|(ok, _)| !ok).map(|(_, text)| (*text).to_owned()));
    if !ctx.json {
        say!();
    }
    let code = if ctx.json { crate::fail::SILENT } else { "demo" };
    Err(Fail::new(code, format!("the demo failed: {}", wrong.join("; "))))
}
