//! `kanjo cluster dev`: a whole cluster on this machine.
//!
//! ```text
//!  this process ── stdin pipes ──▶ sentinel 1 … sentinel n      closed last
//!                └─ stdin pipes ──▶ node 1 … node n             closed first
//! ```
//! Whatever ends this process closes the pipes, and so everything.

use super::make::{ClusterPlan, NodePlan, attest, free_places, own_measurement};
use super::status::{print_short, wait_ready};
use crate::attestor::{AttestorArgs, AttestorChoice};
use crate::commands::init::{OPERATOR, Plan, VSM_DECIMALS, remember, vsm_and_jpy, wallet_with_vsm};
use crate::commands::node::Told;
use crate::context::Context;
use crate::fail::{Done, Fail};
use crate::home::Home;
use crate::member::{self, MemberFile};
use crate::processes::Process;
use crate::say;
use crate::text::{bold, dim, note};
use clap::Args;
use kanjo_client::keys::{KeyFile, Protection};
use kanjo_types::membership::MemberKind;
use kanjo_types::signature::KeyKind;
use kanjo_types::{Access, Amount, Genesis};
use serde_json::json;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// First VSM of the operator.
const VSM_SUPPLY: u128 = 1_000_000;
/// Longest wait for a node or sentinel to stop.
const STOP_MAX: Duration = Duration::from_secs(15);
/// How often children are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Options of `kanjo cluster dev`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  kanjo cluster dev --nodes 3\n\n\
    Makes a cluster with open registration and an unencrypted operator key on the first run, and\n\
    continues it on the next. Keys and names are kept in DIR/home, messages of the nodes in\n\
    DIR/NODE/node.log. Ctrl-C stops all of it cleanly.")]
pub struct DevArgs {
    /// Nodes that execute.
    #[arg(long, value_name = "N", default_value_t = 3)]
    nodes: usize,
    /// Witnesses: they vote, store the log, and hold no balances.
    #[arg(long, value_name = "N", default_value_t = 0)]
    witnesses: usize,
    /// Directory of everything.
    #[arg(long, value_name = "DIR", default_value = "./kanjo-cluster")]
    dir: PathBuf,
    /// A gateway as well, on this address; port 0 takes a free one.
    #[arg(long, value_name = "ADDR")]
    gateway: Option<SocketAddr>,
    /// The program of the sentinels; the one beside this program unless told otherwise.
    #[arg(long, value_name = "FILE")]
    sentinel: Option<PathBuf>,
    #[command(flatten)]
    attestors: AttestorArgs,
    /// Stop when standard input ends: for programs that run a cluster of their own.
    #[arg(long, hide = true)]
    stop_with_stdin: bool,
}

/// A node of the running cluster.
struct Running {
    dir: PathBuf,
    file: MemberFile,
    node: Process,
}

/// Runs `kanjo cluster dev`.
pub fn run(ctx: &Context, args: &DevArgs) -> Done {
    let sentinel_program = member::sentinel_program(args.sentinel.as_ref())?;
    let home = if ctx.home_given { ctx.home.clone() } else { Home::new(args.dir.join("home")) };
    let ctx = &ctx.with_home(home);
    let told = Told::listen(args.stop_with_stdin)?;
    let mut members = members(&args.dir)?;
    let is_new = members.is_empty();
    if is_new {
        create(ctx, args)?;
        members = self::members(&args.dir)?;
    } else {
        check_program(&args.dir, &members)?;
    }
    let mut sentinels = Vec::new();
    for (dir, file) in &members {
        sentinels.push(Process::sentinel(&sentinel_program, dir, file)?);
    }
    let mut running = Vec::new();
    for (dir, file) in members {
        let node = Process::node(&dir, &file)?;
        running.push(Running { dir, file, node });
    }
    for one in &mut running {
        one.node.first_line().map_err(|fail| {
            fail.next(format!(
                "see {} and sentinel.log beside it",
                one.dir.join("node.log").display()
            ))
        })?;
    }
    let apis: Vec<String> = running.iter().map(|one| one.file.certificate.api.clone()).collect();
    wait_ready(&apis)?;
    // Told to stop with the sentinels, after the nodes.
    let gateway = gateway(args, &apis, &mut sentinels)?;
    announce(ctx, args, &running, gateway.as_deref(), is_new)?;
    tend(&mut running, &mut sentinels, &told);
    stop(ctx, running, sentinels, &told);
    Ok(())
}

/// Starts the gateway, if one is wanted; gives its address.
fn gateway(args: &DevArgs, apis: &[String], others: &mut Vec<Process>) -> Done<Option<String>> {
    let Some(listen) = args.gateway else { return Ok(None) };
    let mut process = Process::gateway(apis, listen, &args.dir)?;
    let line = process.first_line()?;
    others.push(process);
    let told: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
    Ok(told.get("api").and_then(|api| api.as_str()).map(str::to_owned))
}

/// The members whose directories are below `dir`, by name.
fn members(dir: &Path) -> Done<Vec<(PathBuf, MemberFile)>> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Ok(Vec::new()) };
    let mut dirs: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| member::is_member(path) && path.join("genesis.json").exists())
        .collect();
    dirs.sort();
    dirs.into_iter().map(|dir| Ok((dir.clone(), member::read(&dir)?))).collect()
}

fn create(ctx: &Context, args: &DevArgs) -> Done {
    if args.nodes == 0 {
        return Err(Fail::usage("a cluster has at least one node that executes: --nodes 1"));
    }
    let store = ctx.home.keys();
    let key = match store.load(OPERATOR) {
        Ok(key) => key,
        Err(kanjo_client::keys::KeyError::Unknown { .. }) => {
            let key = KeyFile::generate(OPERATOR, KeyKind::Ed25519, Protection::Plain)?;
            store.save(&key)?;
            key
        }
        Err(error) => return Err(error.into()),
    };
    let operators = vec![(OPERATOR.to_owned(), Access::Single(key.public()))];
    let mut ledger = Plan::new("Kanjo development cluster", operators)?;
    ledger.open_registration = true;
    ledger.open_tokens = true;
    ledger.tokens = vsm_and_jpy(OPERATOR);
    let supply = VSM_SUPPLY.checked_mul(10u128.pow(u32::from(VSM_DECIMALS)));
    let supply = supply.ok_or_else(|| Fail::usage("the first supply is too large"))?;
    ledger.wallets = vec![wallet_with_vsm(OPERATOR, Amount(supply))];
    let executors = (1..=args.nodes).map(|n| (format!("node-{n}"), MemberKind::Executor));
    let witnesses = (1..=args.witnesses).map(|n| (format!("witness-{n}"), MemberKind::Witness));
    let places = free_places(args.nodes + args.witnesses)?;
    let nodes = executors.chain(witnesses).zip(places);
    let attestor = AttestorChoice::SOFTWARE;
    let plan = |((name, kind), places)| NodePlan { name, kind, places, attestor: attestor.clone() };
    let mut nodes: Vec<NodePlan> = nodes.map(plan).collect();
    attest(&mut nodes, &args.attestors)?;
    let plan = ClusterPlan { ledger, nodes, measurements: vec![own_measurement()?], threshold: 1 };
    let genesis = plan.create(&args.dir)?;
    remember(ctx, &genesis)
}

/// A cluster that was made by another build has another program in its genesis; then no vote
/// counts.
fn check_program(dir: &Path, members: &[(PathBuf, MemberFile)]) -> Done {
    let Some((first, _)) = members.first() else { return Ok(()) };
    let genesis: Genesis =
        kanjo_node::data::load_genesis(first).map_err(|error| Fail::new("data", error))?;
    let allowed = &genesis.cluster.measurements;
    let own = own_measurement()?.program;
    if allowed.is_empty() || allowed.iter().any(|allowed| allowed.program == own) {
        return Ok(());
    }
    note(&format!(
        "warning: the genesis in {} allows another build of this program. Unless this one was \
         allowed since, no vote of its nodes counts: begin anew with --dir, or run the build that \
         made it and 'kanjo cluster allow' this one ({own}).",
        dir.display()
    ));
    Ok(())
}

fn announce(
    ctx: &Context,
    args: &DevArgs,
    running: &[Running],
    gateway: Option<&str>,
    is_new: bool,
) -> Done {
    let first = running.first().ok_or_else(|| Fail::usage("a cluster has nodes"))?;
    let api = &first.file.certificate.api;
    let client = kanjo_client::Client::new(api)?;
    let status = client.cluster()?;
    if ctx.json {
        let node = |one: &Running| {
            json!({
                "name": one.file.certificate.name, "api": one.file.certificate.api,
                "data": one.dir, "pid": one.node.id(),
            })
        };
        let nodes: Vec<_> = running.iter().map(node).collect();
        let json = json!({
            "chain": status.chain, "home": ctx.home.directory(), "dir": args.dir, "new": is_new,
            "api": api, "nodes": nodes, "gateway": gateway,
        });
        crate::text::line(&json.to_string());
        return Ok(());
    }
    let state = if is_new { "new" } else { "continued" };
    say!();
    say!("  {}  {}", bold("kanjo cluster dev"), dim("nodes and sentinels on this machine"));
    say!();
    say!("  directory  {} ({state})", args.dir.display());
    say!("  chain      {}", status.chain);
    say!(
        "  operator   an unencrypted key in {}/keys; it governs the cluster",
        ctx.home.directory().display()
    );
    if let Some(gateway) = gateway {
        say!("  gateway    {gateway}: clients may speak to it as to a node");
    }
    say!();
    print_short(&status);
    say!();
    say!("  {}", bold("Try next, from this directory in another terminal"));
    say!();
    for (what, command) in suggestions(ctx, args, running) {
        if !what.is_empty() {
            say!("  {}", dim(&format!("# {what}")));
        }
        say!("  {command}");
    }
    say!();
    say!("  {}", dim("Ctrl-C stops all of it; the next 'kanjo cluster dev' continues."));
    Ok(())
}

/// Commands that work as they stand.
fn suggestions(ctx: &Context, args: &DevArgs, running: &[Running]) -> Vec<(String, String)> {
    let executors: Vec<&Running> =
        running.iter().filter(|one| one.file.certificate.kind == MemberKind::Executor).collect();
    let api = |at: usize| {
        let one = executors.get(at).or(executors.first());
        one.map_or("", |one| one.file.certificate.api.as_str())
    };
    let prefix = ctx.program_with_home();
    let first = format!("{prefix}--node {}", api(0));
    let second = format!("{prefix}--node {}", api(1));
    let mut list = vec![
        ("who is there, who leads, who does what and why", format!("{first} cluster status --why")),
        (
            "a user with a wallet, by way of one node",
            format!("{first} key new alice --no-passphrase"),
        ),
        ("", format!("{first} user create alice --key alice --with-wallet")),
        ("a payment by way of another", format!("{second} pay operator alice 12.50 --token VSM")),
        ("do all nodes hold the same?", format!("{first} cluster compare")),
    ];
    if let Some(last) = executors.last().filter(|_| executors.len() > 2) {
        let dir = last.dir.display();
        list.push(("kill a node, and pay on", format!("kill -9 {}", last.node.id())));
        list.push((
            "bring it back: it catches up by itself",
            format!("{} node --data {dir}", ctx.program()),
        ));
    }
    list.push((
        "a proof, checked from the genesis alone, offline",
        format!("{first} proof state alice VSM --out alice.proof"),
    ));
    let genesis = args.dir.join("node-1/genesis.json");
    list.push((
        "",
        format!("{} proof check alice.proof --genesis {}", ctx.program(), genesis.display()),
    ));
    list.into_iter().map(|(what, command)| (what.to_owned(), command)).collect()
}

/// Waits until told to stop; says when a child ends by itself.
fn tend(running: &mut [Running], sentinels: &mut [Process], told: &Told) {
    while !told.is_told() {
        for one in running.iter_mut() {
            if let Some(status) = one.node.has_ended() {
                let name = &one.node.name;
                note(&format!(
                    "{name} ended ({status}); bring it back: kanjo node --data {}",
                    one.dir.display()
                ));
            }
        }
        for sentinel in sentinels.iter_mut() {
            if let Some(status) = sentinel.has_ended() {
                note(&format!("{} ended ({status})", sentinel.name));
            }
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Nodes first, all at once: none has to leave the quorum of the others. Then sentinels.
/// A second Ctrl-C does not wait.
fn stop(ctx: &Context, mut running: Vec<Running>, mut sentinels: Vec<Process>, told: &Told) {
    let most = || if told.signals() > 1 { Duration::ZERO } else { STOP_MAX };
    running.iter_mut().for_each(|one| one.node.tell());
    for one in &mut running {
        if !one.node.wait(most) {
            note(&format!("{} did not stop in time and was killed", one.node.name));
        }
    }
    sentinels.iter_mut().for_each(Process::tell);
    for sentinel in &mut sentinels {
        if !sentinel.wait(most) {
            note(&format!("{} did not stop in time and was killed", sentinel.name));
        }
    }
    if !ctx.json {
        say!();
        say!("Stopped. The next 'kanjo cluster dev' continues here.");
    }
}
