//! `kanjo tx`: show transactions, and collect the signatures of several keys in a file.

use crate::author::{SignArgs, sign_here, submit, write_draft};
use crate::commands::pay::{PaymentArgs, pay_with};
use crate::context::Context;
use crate::describe::{Labels, describe};
use crate::fail::{Done, Fail};
use crate::say;
use crate::text::{bold, dim, green, parse_duration, red, utc};
use clap::{Args, Subcommand};
use kanjo_client::Cosigning;
use kanjo_types::TransactionId;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Transactions: show, and collect signatures of several keys.
#[derive(Debug, Subcommand)]
pub enum TxCommand {
    /// A transaction in a final block, and what came of it.
    #[command(after_help = "Example:\n  kanjo tx show 9f3c…")]
    Show {
        /// Transaction id, 64 hexadecimal digits.
        id: TransactionId,
    },
    /// Write a payment to a file, to be signed by several keys.
    #[command(after_help = "Example:\n  \
        kanjo tx draft board shop 12.50 --token VSM --out payment.json\n  \
        kanjo tx sign payment.json --key ann\n  \
        kanjo tx sign payment.json --key ben\n  \
        kanjo tx submit payment.json\n\n\
        Other commands write drafts with --draft FILE.")]
    Draft(DraftArgs),
    /// Add a signature to a draft. Works offline.
    #[command(after_help = "Example:\n  kanjo tx sign payment.json --key ann")]
    Sign {
        /// The draft.
        file: PathBuf,
        /// Key that signs, by name or path; repeat it for several.
        #[arg(long = "key", value_name = "KEY", required = true)]
        keys: Vec<String>,
    },
    /// Send a draft that has all its signatures.
    #[command(after_help = "Example:\n  kanjo tx submit payment.json")]
    Submit {
        /// The draft.
        file: PathBuf,
    },
}

/// Options of `kanjo tx draft`.
#[derive(Debug, Args)]
pub struct DraftArgs {
    #[command(flatten)]
    payment: PaymentArgs,
    /// Where to write it.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// How long the signers have.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "12h")]
    valid_for: Duration,
}

/// Runs `kanjo tx`.
pub fn tx(ctx: &Context, command: TxCommand) -> Done {
    match command {
        TxCommand::Show { id } => show(ctx, id),
        TxCommand::Draft(DraftArgs { payment, out, valid_for }) => {
            let sign = SignArgs { keys: Vec::new(), valid_for, draft: Some(out) };
            pay_with(ctx, &payment, &sign)
        }
        TxCommand::Sign { file, keys } => sign_file(ctx, &file, &keys, ["tx sign", "tx submit"]),
        TxCommand::Submit { file } => submit_file(ctx, &file),
    }
}

/// Sends a draft that has all its signatures.
pub fn submit_file(ctx: &Context, file: &Path) -> Done {
    let draft = read_draft(file)?;
    let (id, signed) = (draft.id(), draft.finish()?);
    let sent = submit(&ctx.client()?, &signed).map_err(|fail| {
        let used = fail.code == "already_used";
        if used { fail.next(format!("see what came of it: kanjo tx show {id}")) } else { fail }
    })?;
    ctx.answer(&sent, || {
        say!("Done.");
        say!("  {}", dim(&sent.sentence()));
    })
}

fn read_draft(path: &Path) -> Done<Cosigning> {
    let bytes = std::fs::read(path).map_err(|error| Fail::file(path, error))?;
    let draft: Cosigning = serde_json::from_slice(&bytes).map_err(|error| {
        Fail::new("damaged_draft", format!("{} is not a draft: {error}", path.display()))
            .next("write one with: kanjo tx draft FROM TO AMOUNT --token SYMBOL --out FILE")
    })?;
    draft.check()?;
    Ok(draft)
}

/// Adds signatures to a draft: of the given keys, or of those found in the home directory. The
/// commands are those for the next signer, and for sending it.
pub fn sign_file(ctx: &Context, path: &Path, keys: &[String], [again, send]: [&str; 2]) -> Done {
    let mut draft = read_draft(path)?;
    let book = ctx.home.book(draft.body().chain)?;
    let labels = Labels::offline(&book);
    if !ctx.json {
        // Whoever signs sees what is signed: straight from the bytes, in smallest units.
        describe(draft.body(), &labels);
    }
    let (before, _) = draft.progress();
    match sign_here(ctx, &mut draft, keys) {
        Err(fail) if fail.code == "signatures_missing" => {}
        other => other?,
    }
    let (found, needed) = draft.progress();
    if found == before && found < needed {
        return Err(Fail::new("no_key", "none of the keys that are still needed is here")
            .next(format!("give the key that signs: kanjo {again} {} --key KEY", path.display())));
    }
    write_draft(path, &draft, true)?;
    let signers = draft.progress_by_signer();
    let json = json!({
        "id": draft.id(), "signatures": found, "needed": needed, "signers": signers, "file": path,
    });
    ctx.answer(&json, || {
        say!("Signed: {found} of {needed} signatures are there.");
        for signer in signers.iter().filter(|one| signers.len() > 1 && !one.is_complete()) {
            let (found, needed) = (signer.found, signer.needed);
            say!("  {} has given {found} of {needed}", labels.user(signer.user));
        }
        if found < needed {
            ctx.next(&format!("{again} {} --key KEY (by another signer)", path.display()));
        } else {
            ctx.next(&format!("{send} {}", path.display()));
        }
    })
}

fn show(ctx: &Context, id: TransactionId) -> Done {
    let session = ctx.session()?;
    let view = session.client.transaction(id).map_err(|error| {
        if error.is_not_found() {
            Fail::new("unknown_transaction", format!("{id} is in no final block of this ledger"))
                .next("check the id, or wait: a transaction may become final until it expires")
        } else {
            error.into()
        }
    })?;
    let labels = Labels::of(&session)?;
    ctx.answer(&view, || {
        say!("Transaction {}", bold(&id.to_string()));
        let result = view.result.to_string();
        say!("  result    {}", if view.result.is_ok() { green(&result) } else { red(&result) });
        say!("  block     {}, position {}", view.height, view.position);
        say!("  time      {}", utc(view.time_ms));
        describe(&view.transaction.body, &labels);
        say!("  record    {}", view.hash);
        say!("  made      {} record versions", view.rows.len());
    })
}
