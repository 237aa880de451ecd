//! `kanjo cluster dev`: a whole cluster on this machine.
//!
//! ```text
//!  this process ── stdin pipes ──▶ gateway                      closed first
//!                ├─ stdin pipes ──▶ node 1 … node n             closed then
//!                └─ stdin pipes ──▶ sentinel 1 … sentinel n     closed last
//! ```
//! Whatever ends this process closes the pipes, and so everything.

use super::make::{ClusterPlan, NodePlan, attest, free_places, own_measurement};
use super::status::{print_short, wait_ready};
use crate::attestor::{AttestorArgs, AttestorChoice};
use crate::commands::init::{development_plan, remember};
use crate::commands::node::Told;
use crate::context::{Context, NODE_DEFAULT};
use crate::fail::{Done, Fail};
use crate::home::Home;
use crate::member::{self, MemberFile};
use crate::processes::Process;
use crate::say;
use crate::sql::ClusterServeArgs;
use crate::text::{bold, dim, note};
use clap::Args;
use kanjo_types::Genesis;
use kanjo_types::membership::MemberKind;
use serde_json::json;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

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
    /// Where the gateway listens; port 0 takes a free one. Unless told otherwise it is
    /// 127.0.0.1:8480, where clients look by default, or a free port when that one is taken.
    #[arg(long, value_name = "ADDR")]
    gateway: Option<SocketAddr>,
    /// No gateway.
    #[arg(long, conflicts_with = "gateway")]
    no_gateway: bool,
    /// The program of the sentinels; the one beside this program unless told otherwise.
    #[arg(long, value_name = "FILE")]
    sentinel: Option<PathBuf>,
    #[command(flatten)]
    sql: ClusterServeArgs,
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
    /// Where it serves SQL.
    sql: Option<String>,
}

impl Running {
    fn start(dir: PathBuf, file: MemberFile, sql: &ClusterServeArgs) -> Done<Self> {
        let executes = file.certificate.kind == MemberKind::Executor;
        let sql_options: &[&str] =
            if executes && sql.is_wanted() { &["--sql", "127.0.0.1:0"] } else { &[] };
        let node = Process::node(&dir, &file, sql_options)?;
        Ok(Self { dir, file, node, sql: None })
    }

    /// Waits until it runs.
    fn wait(&mut self) -> Done {
        let line = self.node.first_line().map_err(|fail| {
            let log = self.dir.join("node.log");
            fail.next(format!("see {} and sentinel.log beside it", log.display()))
        })?;
        let told: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        self.sql = told.get("sql").and_then(|url| url.as_str()).map(str::to_owned);
        Ok(())
    }
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
        running.push(Running::start(dir, file, &args.sql)?);
    }
    running.iter_mut().try_for_each(Running::wait)?;
    let apis: Vec<String> = running.iter().map(|one| one.file.certificate.api.clone()).collect();
    wait_ready(&apis)?;
    let mut gateway = Gateway::start(args, &apis)?;
    let url = gateway.as_ref().map(|gateway| gateway.url.as_str());
    announce(ctx, args, &running, url, is_new)?;
    tend(&mut running, &mut sentinels, gateway.as_mut(), &told);
    stop(ctx, running, sentinels, gateway, &told);
    Ok(())
}

/// The gateway, and where clients find it.
struct Gateway {
    url: String,
    process: Process,
}

impl Gateway {
    /// Starts it where it is wanted, or else where clients look by default, or else anywhere.
    fn start(args: &DevArgs, apis: &[String]) -> Done<Option<Self>> {
        if args.no_gateway {
            return Ok(None);
        }
        let start = |listen| Self::start_at(listen, apis, &args.dir).map(Some);
        if let Some(listen) = args.gateway {
            return start(listen);
        }
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let usual = NODE_DEFAULT.trim_start_matches("http://").parse().unwrap_or(anywhere);
        let is_free = TcpListener::bind(usual).is_ok();
        // It may be taken between this look and its start.
        if is_free && let Ok(started) = start(usual) {
            return Ok(started);
        }
        start(anywhere)
    }

    fn start_at(listen: SocketAddr, apis: &[String], dir: &Path) -> Done<Self> {
        let mut process = Process::gateway(apis, listen, dir)?;
        let line = process.first_line()?;
        let told: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        let url = told.get("api").and_then(|api| api.as_str()).unwrap_or_default().to_owned();
        Ok(Self { url, process })
    }
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
    let ledger = development_plan(ctx, "Kanjo development cluster")?;
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
                "data": one.dir, "pid": one.node.id(), "sql": one.sql,
            })
        };
        let nodes: Vec<_> = running.iter().map(node).collect();
        let json = json!({
            "chain": status.chain, "home": ctx.home.directory(), "dir": args.dir, "new": is_new,
            "gateway": gateway, "api": gateway.unwrap_or(api), "nodes": nodes,
        });
        crate::text::line(&json.to_string());
        return Ok(());
    }
    let state = if is_new { "new" } else { "continued" };
    say!();
    say!("  {}  {}", bold("kanjo cluster dev"), dim("nodes, sentinels, gateway on this machine"));
    say!();
    if let Some(gateway) = gateway {
        say!("  gateway    {}  {}", bold(gateway), dim("clients speak to it as to a node"));
    }
    for one in running {
        if let Some(url) = &one.sql {
            say!("  SQL        {url}  {}", dim(&format!("of {}", one.file.certificate.name)));
        }
    }
    say!("  directory  {} ({state})", args.dir.display());
    say!("  chain      {}", status.chain);
    say!(
        "  operator   an unencrypted key in {}/keys; it governs the cluster",
        ctx.home.directory().display()
    );
    say!();
    print_short(&status);
    say!();
    say!("  {}", bold("Try next, from this directory in another terminal"));
    say!();
    for (what, command) in suggestions(ctx, args, running, gateway) {
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
fn suggestions(
    ctx: &Context,
    args: &DevArgs,
    running: &[Running],
    gateway: Option<&str>,
) -> Vec<(String, String)> {
    let executors: Vec<&Running> =
        running.iter().filter(|one| one.file.certificate.kind == MemberKind::Executor).collect();
    let first = executors.first().map_or("", |one| one.file.certificate.api.as_str());
    let prefix = ctx.program_with_home();
    let by_way_of = |api: &str| match api {
        NODE_DEFAULT => prefix.clone(),
        api => format!("{prefix}--node {api} "),
    };
    let (any, first) = (by_way_of(gateway.unwrap_or(first)), by_way_of(first));
    let mut list = vec![
        ("who is there, who leads, who does what and why", format!("{any}cluster status --why")),
        ("a user with a wallet", format!("{any}key new alice --no-passphrase")),
        ("", format!("{any}user create alice --key alice --with-wallet")),
        (
            "a payment, and one by way of a node",
            format!("{any}pay operator alice 12.50 --token VSM"),
        ),
        ("", format!("{first}pay operator alice 1 --token VSM")),
        ("do all nodes hold the same?", format!("{any}cluster compare")),
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
        format!("{any}proof state alice VSM --out alice.proof"),
    ));
    let genesis = args.dir.join("node-1/genesis.json");
    list.push((
        "",
        format!("{} proof check alice.proof --genesis {}", ctx.program(), genesis.display()),
    ));
    list.into_iter().map(|(what, command)| (what.to_owned(), command)).collect()
}

/// Waits until told to stop; says when a child ends by itself.
fn tend(
    running: &mut [Running],
    sentinels: &mut [Process],
    mut gateway: Option<&mut Gateway>,
    told: &Told,
) {
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
        let gateway = gateway.as_deref_mut().map(|gateway| &mut gateway.process);
        for other in sentinels.iter_mut().chain(gateway) {
            if let Some(status) = other.has_ended() {
                note(&format!("{} ended ({status})", other.name));
            }
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// The gateway first, so that nothing new comes; then the nodes, all at once: none has to leave the
/// quorum of the others. Then sentinels. A second Ctrl-C does not wait.
fn stop(
    ctx: &Context,
    running: Vec<Running>,
    sentinels: Vec<Process>,
    gateway: Option<Gateway>,
    told: &Told,
) {
    let most = || if told.signals() > 1 { Duration::ZERO } else { STOP_MAX };
    let together = |mut processes: Vec<Process>| {
        processes.iter_mut().for_each(Process::tell);
        for process in &mut processes {
            if !process.wait(most) {
                note(&format!("{} did not stop in time and was killed", process.name));
            }
        }
    };
    together(gateway.into_iter().map(|gateway| gateway.process).collect());
    together(running.into_iter().map(|one| one.node).collect());
    together(sentinels);
    if !ctx.json {
        say!();
        say!("Stopped. The next 'kanjo cluster dev' continues here.");
    }
}
