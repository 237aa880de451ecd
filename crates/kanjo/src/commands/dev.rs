//! `kanjo dev`: a ledger of one's own on this machine.

use crate::commands::init::{development_plan, remember};
use crate::commands::node::{ListenArgs, Told, log_to_stderr, run_until_told, start};
use crate::context::Context;
use crate::fail::Done;
use crate::home::{Book, Home};
use crate::say;
use crate::sql::{DevServeArgs, Sql};
use crate::text::{bold, dim, grouped};
use clap::Args;
use kanjo_node::{Config, RunningNode};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Options of `kanjo dev`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  kanjo dev\n\n\
    Makes a ledger with open registration and an unencrypted operator key on the first run, and\n\
    continues it on the next. Keys and names are kept in DIR/home. Ctrl-C stops it cleanly.")]
pub struct DevArgs {
    /// Data directory.
    #[arg(long, value_name = "DIR", default_value = "./kanjo-dev")]
    data: PathBuf,
    #[command(flatten)]
    listen: ListenArgs,
    #[command(flatten)]
    sql: DevServeArgs,
}

/// Runs `kanjo dev`.
pub fn dev(ctx: &Context, args: &DevArgs) -> Done {
    let listen = args.listen.checked()?;
    let mut sql = args.sql.listen(ctx)?;
    let home = if ctx.home_given { ctx.home.clone() } else { Home::new(args.data.join("home")) };
    let ctx = &ctx.with_home(home);
    if sql.is_local() {
        sql.act_for(&ctx.home);
    }
    let is_new = !args.data.join("genesis.json").exists();
    if is_new {
        create(ctx, &args.data)?;
    }
    log_to_stderr();
    let mut config = Config::new(&args.data);
    config.listen = listen;
    config.view = sql.is_wanted();
    let node = start(config, &mut sql)?;
    // Before anybody is told that it runs: who stops it at once shall stop it cleanly.
    let told = Told::listen(false)?;
    let book = ctx.home.book(node.chain())?;
    announce(ctx, args, &node, &sql, &book, is_new);
    run_until_told(node, sql, &told)?;
    if !ctx.json {
        say!();
        say!("Stopped. The next 'kanjo dev' continues here.");
    }
    Ok(())
}

fn create(ctx: &Context, data: &Path) -> Done {
    let genesis = development_plan(ctx, "Kanjo development ledger")?.create(data)?;
    remember(ctx, &genesis)
}

fn announce(
    ctx: &Context,
    args: &DevArgs,
    node: &RunningNode,
    sql: &Sql,
    book: &Book,
    is_new: bool,
) {
    let api = format!("http://{}", node.address());
    if ctx.json {
        let json = json!({
            "address": node.address().to_string(), "api": api, "chain": node.chain(),
            "height": node.height(), "data": args.data, "home": ctx.home.directory(),
            "new": is_new, "sql": sql.url(),
        });
        crate::text::line(&json.to_string());
        return;
    }
    let data = args.data.display();
    let state = if is_new {
        "new".to_owned()
    } else {
        format!("continued at height {}", grouped(node.height()))
    };
    say!();
    say!("  {}  {}", bold("kanjo dev"), dim("one node on this machine, data kept on disk"));
    say!();
    say!("  ledger    {data} ({state})");
    say!("  API       {api}/v1, described at {api}/v1/openapi.json");
    if let Some(url) = sql.url() {
        say!("  SQL       {url}, for psql and others");
    }
    say!("  chain     {}", node.chain());
    say!("  operator  an unencrypted key in {}/keys", ctx.home.directory().display());
    say!();
    say!("  {}", bold("Try next, from this directory in another terminal"));
    say!();
    for (what, command) in suggestions(ctx, args, &api, sql, book) {
        if !what.is_empty() {
            say!("  {}", dim(&format!("# {what}")));
        }
        say!("  {command}");
    }
    say!();
    say!("  {}", dim("Ctrl-C stops it; the next 'kanjo dev' continues."));
}

/// Commands that work as they stand against this node.
fn suggestions(
    ctx: &Context,
    args: &DevArgs,
    api: &str,
    sql: &Sql,
    book: &Book,
) -> Vec<(String, String)> {
    let mut prefix = ctx.program_with_home();
    let program = ctx.program();
    if api != crate::context::NODE_DEFAULT {
        prefix.push_str(&format!("--node {api} "));
    }
    let data = args.data.display();
    let mut list: Vec<(String, String)> = Vec::new();
    let mut add = |what: &str, command: String| list.push((what.to_owned(), command));
    if !book.wallets.contains_key("alice") {
        if !ctx.home.keys().path("alice").is_ok_and(|path| path.exists()) {
            add(
                "a user with a key and a wallet of her own",
                format!("{prefix}key new alice --no-passphrase"),
            );
        }
        add("", format!("{prefix}user create alice --key alice --with-wallet"));
    }
    add(
        "a payment, signed here and final when it answers",
        format!("{prefix}pay operator alice 12.50 --token VSM"),
    );
    add("yen, issued by the operator", format!("{prefix}token issue JPY alice 50000"));
    add("what came of it", format!("{prefix}wallet history alice --token VSM"));
    add("", format!("{prefix}block list"));
    if let Some(url) = sql.url() {
        let question = "SELECT symbol, count(*) AS wallets, max(amount) AS most FROM balances \
                        GROUP BY symbol";
        add(
            "what all wallets hold, in SQL",
            format!("{program} sql --url {url} -c \"{question}\""),
        );
    }
    add(
        "a proof of her balance, checked from the genesis alone, offline",
        format!("{prefix}proof state alice VSM --out alice.proof"),
    );
    add("", format!("{program} proof check alice.proof --genesis {data}/genesis.json"));
    add(
        "after Ctrl-C: recompute the whole ledger from its genesis",
        format!("{program} verify --data {data}"),
    );
    list
}
