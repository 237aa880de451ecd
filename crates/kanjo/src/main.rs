//! The command line of the Kanjo ledger, and the first thing everyone sees of it.
//!
//! Every command answers in text for people or, with `--json`, in one JSON object. Exit codes: 0
//! done,
//! 1 refused or failed, 2 typed wrongly.
//!
//! # Place in the flow
//! On top of everything: it parses what was typed ([`cli`]), signs with keys of the home directory
//! ([`author`], [`home`]), speaks to nodes through `kanjo-client`, and runs nodes through
//! `kanjo-node`.
#![forbid(unsafe_code)]

mod attestor;
mod attributes;
mod author;
mod bearings;
mod bench;
mod cli;
mod commands;
mod context;
mod demo;
mod describe;
mod fail;
mod figures;
mod home;
mod interrupt;
mod load;
mod member;
mod orders;
mod policy;
mod processes;
mod sql;
mod text;
mod typed;

use clap::Parser;
use cli::{Cli, Command};
use context::Context;
use fail::{Done, Fail};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let json = cli.global.json;
    let done = Context::new(cli.global).and_then(|ctx| {
        // Suggested commands work as they stand: with the program and home of this call.
        let called = ctx.program_with_home();
        run(&ctx, cli.command).map_err(|fail| fail.called_as(&called))
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(fail) => {
            report(&fail, json);
            ExitCode::from(fail.exit)
        }
    }
}

fn run(ctx: &Context, command: Command) -> Done {
    match command {
        Command::Demo(args) => demo::run(ctx, &args),
        Command::Dev(args) => commands::dev(ctx, &args),
        Command::Init(args) => commands::init(ctx, &args),
        Command::Node(args) => commands::node(ctx, &args),
        Command::Gateway(args) => commands::gateway(ctx, &args),
        Command::Cluster(command) => commands::cluster(ctx, &command),
        Command::Status => commands::status(ctx),
        Command::Genesis(args) => commands::genesis(ctx, &args),
        Command::Key(command) => commands::key(ctx, command),
        Command::User(command) => commands::user(ctx, command),
        Command::Wallet(command) => commands::wallet(ctx, command),
        Command::Token(command) => commands::token(ctx, command),
        Command::Pay(args) => commands::pay(ctx, &args),
        Command::Pending(command) => commands::pending(ctx, command),
        Command::Bundle(command) => commands::bundle(ctx, command),
        Command::Schedule(command) => commands::schedule(ctx, command),
        Command::Act(command) => commands::act(ctx, command),
        Command::Freeze(args) => commands::freeze(ctx, &args),
        Command::Unfreeze(args) => commands::unfreeze(ctx, &args),
        Command::Terms(command) => commands::terms(ctx, command),
        Command::Interest(command) => commands::interest(ctx, &command),
        Command::Reverse(args) => commands::reverse(ctx, &args),
        Command::Claim(command) => commands::claim(ctx, command),
        Command::Attribute(command) => commands::attribute(ctx, command),
        Command::Recovery(command) => commands::recovery(ctx, command),
        Command::Tx(command) => commands::tx(ctx, command),
        Command::Block(command) => commands::block(ctx, &command),
        Command::Proof(command) => commands::proof(ctx, &command),
        Command::Verify(args) => commands::verify(ctx, &args),
        #[cfg(feature = "sql")]
        Command::Sql(args) => commands::sql(ctx, &args),
        Command::Bench(command) => bench::run(ctx, &command),
    }
}

fn report(fail: &Fail, json: bool) {
    if fail.code == fail::SILENT {
        return;
    }
    if json {
        context::print_json(&fail.to_json());
        return;
    }
    let field = fail.field.as_ref().map_or_else(String::new, |field| format!(" (field: {field})"));
    // What is typed wrongly needs no code: the message says what to type.
    let is_usage = fail.exit == fail::EXIT_USAGE;
    let code = if is_usage { String::new() } else { format!("{}: ", fail.code) };
    text::note(&format!("error: {code}{}{field}", fail.message));
    if let Some(next) = &fail.next {
        text::note(&format!("  next: {next}"));
    }
}
