//! `kanjo node`: run a node until it is told to stop.

use crate::context::Context;
use crate::fail::{Done, Fail};
use crate::say;
use crate::text::{bold, dim, note};
use clap::Args;
use kanjo_node::{Config, RunningNode, StartError};
use serde_json::json;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Options of `kanjo node`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  kanjo node --data ./bank\n\n\
    Ctrl-C or SIGTERM stops it cleanly. KANJO_LOG sets what it logs (error, warn, info, debug).")]
pub struct NodeArgs {
    /// Data directory made by 'kanjo init'.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    #[command(flatten)]
    listen: ListenArgs,
    /// A block is cut at the latest this many milliseconds after its first transaction.
    #[arg(long, value_name = "MS")]
    block_interval_ms: Option<u64>,
    /// A block is cut at this many transactions.
    #[arg(long, value_name = "N")]
    block_transactions: Option<usize>,
    /// Threads that check signatures; one for each core when left out.
    #[arg(long, value_name = "N")]
    verify_threads: Option<usize>,
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

/// Where the API listens.
#[derive(Debug, Args)]
pub struct ListenArgs {
    /// Address of the HTTP API; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8480")]
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
    let mut config = Config::new(&args.data);
    config.listen = args.listen.checked()?;
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
    log_to_stderr();
    let node = start(config)?;
    announce(ctx, &node, &args.data);
    run_until_told(node, args.stop_with_stdin)?;
    if !ctx.json {
        say!("Stopped. Everything acknowledged is on disk.");
    }
    Ok(())
}

fn announce(ctx: &Context, node: &RunningNode, data: &Path) {
    let (address, chain, height) = (node.address(), node.chain(), node.height());
    let api = format!("http://{address}");
    if ctx.json {
        let json = json!({
            "address": address.to_string(), "api": api, "chain": chain, "height": height,
            "data": data,
        });
        crate::text::line(&json.to_string());
        return;
    }
    say!("Node running on {}.", bold(&data.display().to_string()));
    say!("  API     {api}");
    say!("  chain   {chain}");
    say!("  height  {height}");
    say!("{}", dim("Ctrl-C stops it cleanly."));
}

/// Starts a node; failures name the next step.
pub fn start(config: Config) -> Done<RunningNode> {
    let data = config.data.display().to_string();
    if !config.data.join("genesis.json").exists() {
        return Err(Fail::new("no_ledger", format!("{data} holds no ledger (no genesis.json)"))
            .next(format!("make one: kanjo init {data}")));
    }
    kanjo_node::start(config).map_err(|error| {
        let next = match &error {
            StartError::Listen { .. } => "choose another address: --listen 127.0.0.1:0".to_owned(),
            _ => format!("find out more: kanjo verify --data {data}"),
        };
        Fail::new("start", error).next(next)
    })
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

/// Runs the node until Ctrl-C, SIGTERM, the end of standard input (when asked for), or its own
/// failure.
pub fn run_until_told(node: RunningNode, with_stdin: bool) -> Done {
    let told = Arc::new(tokio::sync::Notify::new());
    if with_stdin {
        let told = told.clone();
        std::thread::spawn(move || {
            let mut rest = [0u8; 64];
            while std::io::stdin().read(&mut rest).is_ok_and(|read| read > 0) {}
            told.notify_one();
        });
    }
    let failed = wait(&node, &told).map_err(|error| Fail::new("signals", error))?;
    let stopped = node.stop();
    if let Some(reason) = failed {
        return Err(Fail::new("node_stopped", format!("the node stopped by itself: {reason}"))
            .next("nothing acknowledged is lost; see to the disk, then start it again"));
    }
    stopped.map_err(|error| Fail::new("stop", error))
}

/// Waits; `Some` with the reason when the node has stopped by itself.
fn wait(node: &RunningNode, told: &tokio::sync::Notify) -> std::io::Result<Option<String>> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        loop {
            tokio::select! {
                _ = interrupt.recv() => return Ok(None),
                _ = terminate.recv() => return Ok(None),
                () = told.notified() => return Ok(None),
                () = tokio::time::sleep(Duration::from_millis(250)) => {
                    if node.has_stopped() {
                        return Ok(Some(node.wait_stopped()));
                    }
                }
            }
        }
    })
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
