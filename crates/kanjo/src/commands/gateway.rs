//! `kanjo gateway`: clients speak to it as to a node; it finds the leader.

use crate::commands::node::{ListenArgs, Told};
use crate::context::Context;
use crate::fail::{Done, Fail};
use crate::say;
use crate::text::{bold, dim};
use clap::Args;
use kanjo_gateway::{Config, StartError};
use serde_json::json;
use std::net::SocketAddr;
use std::time::Duration;

/// How often it is looked whether to stop.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Options of `kanjo gateway`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    kanjo gateway --nodes http://10.0.0.1:8480,http://10.0.0.2:8480,http://10.0.0.3:8480\n\n\
    Submissions go to the leader, and to the next one when it falls, exactly once; questions to any\n\
    node in turn. It holds no keys and no data. KANJO_LOG sets what it logs; with --json it logs one\n\
    JSON object a line, on standard error. Ctrl-C stops it.")]
pub struct GatewayArgs {
    /// Nodes of one cluster, with commas between them.
    #[arg(long, value_name = "URL,URL,…", value_delimiter = ',', required = true)]
    nodes: Vec<String>,
    /// Where it listens; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8470")]
    listen: SocketAddr,
    /// Allow an address that other machines reach. The API has no access control of its own.
    #[arg(long)]
    allow_remote: bool,
    /// Longest time for one submission, in seconds; clients should wait longer.
    #[arg(long, value_name = "SECONDS", default_value_t = 30,
        value_parser = clap::value_parser!(u64).range(1..=3_600))]
    deadline: u64,
    /// Most connections at one time; more wait.
    #[arg(long, value_name = "N", default_value_t = 4_096,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: u32,
    /// Stop when standard input ends: for programs that run a gateway of their own.
    #[arg(long, hide = true)]
    stop_with_stdin: bool,
}

/// Runs `kanjo gateway`.
pub fn gateway(ctx: &Context, args: &GatewayArgs) -> Done {
    let mut config = Config::new(args.nodes.clone());
    let listen = ListenArgs { listen: args.listen, allow_remote: args.allow_remote };
    config.listen = listen.checked()?;
    config.deadline = Duration::from_secs(args.deadline);
    config.connections_max = usize::try_from(args.connections).unwrap_or(usize::MAX);
    log(ctx);
    let told = Told::listen(args.stop_with_stdin)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("kanjo-gateway")
        .enable_all()
        .build()
        .map_err(|error| Fail::new("start", error))?;
    runtime.block_on(async {
        let gateway = kanjo_gateway::start(config).await.map_err(not_started)?;
        announce(ctx, args, gateway.address());
        while !told.is_told() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        gateway.stop().await;
        Done::Ok(())
    })?;
    if !ctx.json {
        say!("Stopped.");
    }
    Ok(())
}

fn not_started(error: StartError) -> Fail {
    match &error {
        StartError::Listen { .. } => {
            Fail::new("start", error).next("choose another address: --listen 127.0.0.1:0")
        }
        StartError::NoNodes | StartError::BadNode(_) => Fail::usage(error),
    }
}

fn announce(ctx: &Context, args: &GatewayArgs, address: SocketAddr) {
    let api = format!("http://{address}");
    if ctx.json {
        let json = json!({ "api": api, "address": address.to_string(), "nodes": args.nodes });
        crate::text::line(&json.to_string());
        return;
    }
    say!("Gateway to {} nodes.", bold(&args.nodes.len().to_string()));
    say!("  API  {api}");
    say!("{}", dim("Use it as a node: kanjo --node URL … . Ctrl-C stops it."));
}

/// Messages go to standard error: as text, or one JSON object a line.
fn log(ctx: &Context) {
    if !ctx.json {
        return super::node::log_to_stderr();
    }
    let filter = tracing_subscriber::EnvFilter::try_from_env("KANJO_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    // A second call, as in tests, keeps the first setting.
    let _ = tracing_subscriber::fmt()
        .json()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .try_init();
}
