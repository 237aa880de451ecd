//! `kanjo node`: run a node until it is told to stop.

use super::node_member::{self, JoinArgs, LeaveArgs};
use crate::context::Context;
use crate::fail::{Done, Fail};
use crate::say;
use crate::sql::{ServeArgs, Sql};
use crate::text::{bold, dim, note};
use clap::{Args, Subcommand};
use kanjo_node::{Config, Ended, RunningNode, StartError};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// How often a running node is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Options of `kanjo node`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "Example:\n  kanjo node --data ./bank\n\n\
    Ctrl-C or SIGTERM stops it cleanly; a member of a cluster leaves the quorum first, and a second\n\
    Ctrl-C does not wait for that. KANJO_LOG sets what it logs (error, warn, info, debug).")]
pub struct NodeArgs {
    #[command(subcommand)]
    command: Option<NodeCommand>,
    /// Data directory made by 'kanjo init', 'kanjo cluster init' or 'kanjo node join'.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    listen: ListenArgs,
    #[command(flatten)]
    sql: ServeArgs,
    /// A block is cut at the latest this many milliseconds after its first transaction.
    #[arg(long, value_name = "MS")]
    block_interval_ms: Option<u64>,
    /// A block is cut at this many transactions.
    #[arg(long, value_name = "N")]
    block_transactions: Option<usize>,
    /// Threads that check signatures; one for each core when left out.
    #[arg(long, value_name = "N")]
    verify_threads: Option<usize>,
    /// Reach a member of the cluster at another address than its certificate says, as through a
    /// tunnel or an address translation; repeat it for several.
    #[arg(long = "link-via", value_name = "NAME=HOST:PORT", value_parser = member_elsewhere)]
    link_via: Vec<(String, String)>,
    /// Size of a segment of the block log: for tests.
    #[arg(long, hide = true)]
    segment_bytes: Option<u64>,
    /// Seconds between two checkpoints of a partition: for tests.
    #[arg(long, hide = true)]
    checkpoint_interval_s: Option<u64>,
    /// Stop when standard input ends: for programs that run a node of their own.
    #[arg(long, hide = true)]
    stop_with_stdin: bool,
}

/// What a node does beside running.
#[derive(Debug, Subcommand)]
enum NodeCommand {
    /// Make the directory of a node that is to join a cluster, and the certificate that governors
    /// admit.
    Join(JoinArgs),
    /// Have a running member leave the quorum, before it is stopped.
    Leave(LeaveArgs),
}

/// Where an API listens unless told otherwise.
const LISTEN_DEFAULT: &str = "127.0.0.1:8480";

/// Where the API listens.
#[derive(Debug, Args)]
pub struct ListenArgs {
    /// Address of the HTTP API; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = LISTEN_DEFAULT)]
    pub listen: SocketAddr,
    /// Allow an address that other machines reach. The API has no access control of its own.
    #[arg(long)]
    pub allow_remote: bool,
}

impl ListenArgs {
    /// The address, when it is safe or explicitly allowed.
    pub fn checked(&self) -> Done<SocketAddr> {
        if self.listen.ip().is_loopback() {
            return Ok(self.listen);
        }
        if !self.allow_remote {
            return Err(Fail::usage(format!(
                "{} is reachable from other machines, and the API has no access control or \
                 encryption of its own",
                self.listen
            ))
            .next("listen on 127.0.0.1, or add --allow-remote behind a firewall and a TLS proxy"));
        }
        note(&format!(
            "warning: {} is reachable from other machines; the API has no access control and no \
             encryption",
            self.listen
        ));
        Ok(self.listen)
    }
}

/// Runs `kanjo node`.
pub fn node(ctx: &Context, args: &NodeArgs) -> Done {
    match &args.command {
        Some(NodeCommand::Join(join)) => return node_member::join(ctx, join),
        Some(NodeCommand::Leave(leave)) => return node_member::leave(ctx, leave),
        None => {}
    }
    let data = args.data.as_ref().ok_or_else(|| Fail::usage("which node? give --data DIR"))?;
    log_to_stderr();
    if crate::member::is_member(data) {
        return node_member::run(ctx, data, args);
    }
    let mut sql = args.sql.listen(ctx)?;
    let mut config = args.config(data, args.listen.checked()?);
    config.view = sql.is_wanted();
    let node = start(config, &mut sql)?;
    // Before anybody is told that it runs: who stops it at once shall stop it cleanly.
    let told = Told::listen(args.stop_with_stdin)?;
    announce(ctx, &node, data, &sql);
    run_until_told(node, sql, &told)?;
    if !ctx.json {
        say!("Stopped. Everything acknowledged is on disk.");
    }
    Ok(())
}

fn member_elsewhere(text: &str) -> Result<(String, String), String> {
    let (name, address) = text.split_once('=').ok_or("write NAME=HOST:PORT")?;
    let port = address.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
    if name.is_empty() || !matches!(port, Some(Ok(_))) {
        return Err("write NAME=HOST:PORT".to_owned());
    }
    Ok((name.to_owned(), address.to_owned()))
}

impl NodeArgs {
    /// Members that are reached elsewhere than their certificates say, by name.
    pub fn link_via(&self) -> BTreeMap<String, String> {
        self.link_via.iter().cloned().collect()
    }

    /// Stop when standard input ends?
    pub fn stops_with_stdin(&self) -> bool {
        self.stop_with_stdin
    }

    /// Where SQL is served.
    pub fn sql(&self, ctx: &Context) -> Done<Sql> {
        self.sql.listen(ctx)
    }

    /// Where the API of a member listens: as its file says, unless told otherwise here.
    pub fn member_listen(&self, listen: SocketAddr) -> Done<SocketAddr> {
        let is_default = LISTEN_DEFAULT.parse() == Ok(self.listen.listen);
        let listen = if is_default { listen } else { self.listen.listen };
        ListenArgs { listen, allow_remote: self.listen.allow_remote }.checked()
    }

    /// Settings of the node.
    pub fn config(&self, data: &Path, listen: SocketAddr) -> Config {
        let mut config = Config::new(data);
        config.listen = listen;
        self.tune(&mut config);
        config
    }

    fn tune(&self, config: &mut Config) {
        let args = self;
        if let Some(interval) = args.block_interval_ms {
            config.block_interval_ms = interval;
        }
        if let Some(transactions) = args.block_transactions {
            config.block_transactions_max = transactions.max(1);
        }
        if let Some(threads) = args.verify_threads {
            config.verify_threads = threads;
        }
        if let Some(bytes) = args.segment_bytes {
            config.segment_bytes = bytes;
        }
        if let Some(interval) = args.checkpoint_interval_s {
            config.checkpoint_interval_s = interval;
        }
    }
}

/// Tells where a node runs.
pub fn announce(ctx: &Context, node: &RunningNode, data: &Path, sql: &Sql) {
    let (address, chain, height) = (node.address(), node.chain(), node.height());
    let api = format!("http://{address}");
    if ctx.json {
        let json = json!({
            "address": address.to_string(), "api": api, "chain": chain, "height": height,
            "data": data, "sql": sql.url(),
        });
        crate::text::line(&json.to_string());
        return;
    }
    say!("Node running on {}.", bold(&data.display().to_string()));
    say!("  API     {api}");
    if let Some(url) = sql.url() {
        say!("  SQL     {url}");
    }
    say!("  chain   {chain}");
    say!("  height  {height}");
    say!("{}", dim("Ctrl-C stops it cleanly."));
}

/// Starts a node, and SQL where it is wanted; failures name the next step.
pub fn start(config: Config, sql: &mut Sql) -> Done<RunningNode> {
    let data = config.data.display().to_string();
    if !config.data.join("genesis.json").exists() {
        return Err(Fail::new("no_ledger", format!("{data} holds no ledger (no genesis.json)"))
            .next(format!("make one: kanjo init {data}")));
    }
    let node = kanjo_node::start(config).map_err(|error| {
        let next = match &error {
            StartError::Listen { .. } => "choose another address: --listen 127.0.0.1:0".to_owned(),
            _ => format!("find out more: kanjo verify --data {data}"),
        };
        Fail::new("start", error).next(next)
    })?;
    with_sql(node, sql)
}

/// Serves SQL of a node that has just started, where it is wanted.
pub fn with_sql(node: RunningNode, sql: &mut Sql) -> Done<RunningNode> {
    match sql.open(&node) {
        Ok(()) => Ok(node),
        Err(fail) => {
            let _ = node.stop();
            Err(fail)
        }
    }
}

/// Messages of the node go to standard error.
pub fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("KANJO_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    // A second call, as in tests, keeps the first setting.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .try_init();
}

/// Runs the node until the process is told to stop, or the node fails. SQL ends first.
pub fn run_until_told(node: RunningNode, sql: Sql, told: &Told) -> Done {
    let ended = wait(&node, told);
    sql.end();
    let stopped = node.stop();
    if let Some(ended) = ended {
        return Err(stopped_by_itself(&ended));
    }
    stopped.map_err(|error| Fail::new("stop", error))
}

/// The node has stopped without being told.
pub fn stopped_by_itself(ended: &Ended) -> Fail {
    Fail::new("node_stopped", format!("the node stopped by itself: {ended}"))
        .next("nothing acknowledged is lost; see to the disk, then start it again")
}

/// Who told the process to stop, and how often.
#[derive(Clone)]
pub struct Told(Arc<Signs>);

#[derive(Default)]
struct Signs {
    /// Ctrl-C and SIGTERM so far.
    signals: AtomicUsize,
    stdin_ended: AtomicBool,
}

impl Told {
    /// Listens from now on, on threads of its own.
    pub fn listen(with_stdin: bool) -> Done<Self> {
        let signs = Arc::new(Signs::default());
        if with_stdin {
            let signs = signs.clone();
            std::thread::spawn(move || {
                let mut rest = [0u8; 64];
                while std::io::stdin().read(&mut rest).is_ok_and(|read| read > 0) {}
                signs.stdin_ended.store(true, Ordering::Release);
            });
        }
        listen_for_signals(signs.clone()).map_err(|error| Fail::new("signals", error))?;
        Ok(Self(signs))
    }

    /// How many signals came.
    pub fn signals(&self) -> usize {
        self.0.signals.load(Ordering::Acquire)
    }

    /// Has standard input ended?
    pub fn stdin_ended(&self) -> bool {
        self.0.stdin_ended.load(Ordering::Acquire)
    }

    /// Is the process to stop?
    pub fn is_told(&self) -> bool {
        self.signals() > 0 || self.stdin_ended()
    }
}

fn listen_for_signals(signs: Arc<Signs>) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = runtime.block_on(async {
        std::io::Result::Ok((signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?))
    })?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                signs.signals.fetch_add(1, Ordering::AcqRel);
            }
        });
    });
    Ok(())
}

/// Waits until the process is told to stop; `Some` with the reason when the node has stopped by
/// itself before.
pub fn wait(node: &RunningNode, told: &Told) -> Option<Ended> {
    while !told.is_told() {
        if let Some(ended) = node.ended() {
            return Some(ended);
        }
        std::thread::sleep(LOOK_EVERY);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_unless_allowed() {
        let listen = |text: &str, allow_remote| ListenArgs {
            listen: text.parse().expect("an address"),
            allow_remote,
        };
        assert!(listen("127.0.0.1:1", false).checked().is_ok());
        assert!(listen("[::1]:1", false).checked().is_ok());
        let fail = listen("0.0.0.0:1", false).checked().expect_err("refused");
        assert_eq!(fail.exit, crate::fail::EXIT_USAGE);
        assert!(listen("192.168.0.1:1", true).checked().is_ok());
    }
}
