//! `kanjo status` and `kanjo genesis`.

use crate::context::Context;
use crate::fail::{Done, Fail};
use crate::say;
use crate::text::{bold, dim, green, grouped, red, utc};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;

/// Options of `kanjo genesis`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  kanjo genesis --out genesis.json\n\n\
    Proofs are only as good as the genesis they are checked against: compare the chain id\n\
    with one that you got from somebody you trust.")]
pub struct GenesisArgs {
    /// Write it to FILE.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Runs `kanjo status`.
pub fn status(ctx: &Context) -> Done {
    let client = ctx.client()?;
    let status = client.status()?;
    ctx.answer(&status, || {
        say!("{} at {}", bold(&status.ledger), client.url());
        let state = if status.state == "running" { green("running") } else { red(&status.state) };
        say!("  state         {state}, kanjo {}", status.version);
        say!("  chain         {}", status.chain);
        say!("  height        {}, {}", grouped(status.height), utc(status.time_ms));
        say!("  header        {}", status.header_hash);
        say!("  transactions  {}", grouped(status.transactions));
        let rows = &status.rows;
        say!(
            "  holds         {} users, {} wallets, {} tokens, {} balances",
            grouped(rows.users),
            grouped(rows.wallets),
            grouped(rows.tokens),
            grouped(rows.wallet_states)
        );
        let standing = rows.standing.iter().filter(|(_, count)| **count > 0);
        let standing: Vec<String> =
            standing.map(|(name, count)| format!("{} {name}", grouped(*count))).collect();
        if !standing.is_empty() {
            say!("                {}", standing.join(", "));
        }
    })
}

/// Runs `kanjo genesis`.
pub fn genesis(ctx: &Context, args: &GenesisArgs) -> Done {
    let genesis = ctx.client()?.genesis()?;
    let chain = genesis.chain_id();
    let Some(path) = &args.out else {
        crate::context::print_json(&genesis);
        return Ok(());
    };
    let text = serde_json::to_string_pretty(&genesis).map_err(|error| Fail::file(path, error))?;
    std::fs::write(path, format!("{text}\n")).map_err(|error| Fail::file(path, error))?;
    ctx.answer(&json!({ "chain": chain, "file": path }), || {
        say!("Genesis of {} written to {}.", bold(&genesis.name), path.display());
        say!("  chain  {chain}");
        say!("{}", dim("Compare the chain id with one that you got from somebody you trust."));
    })
}
