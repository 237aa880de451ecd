//! `kanjo tx`: show transactions, and collect the signatures of several keys in a file.

use crate::author::{SignArgs, sign_here, submit, write_draft};
use crate::commands::pay::{PaymentArgs, pay_with};
use crate::context::{Context, Session};
use crate::fail::{Done, Fail};
use crate::home::Book;
use crate::say;
use crate::text::{bold, dim, green, group_digits, parse_duration, red, utc};
use clap::{Args, Subcommand};
use kanjo_client::Cosigning;
use kanjo_types::{Amount, Operation, TokenId, TransactionBody, TransactionId, UserId, WalletId};
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
        TxCommand::Sign { file, keys } => sign(ctx, &file, &keys),
        TxCommand::Submit { file } => {
            let draft = read_draft(&file)?;
            let (id, signed) = (draft.id(), draft.finish()?);
            let sent = submit(&ctx.client()?, &signed).map_err(|fail| {
                let used = fail.code == "already_used";
                if used {
                    fail.next(format!("see what came of it: kanjo tx show {id}"))
                } else {
                    fail
                }
            })?;
            ctx.answer(&sent, || {
                say!("Done.");
                say!("  {}", dim(&sent.sentence()));
            })
        }
    }
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

fn sign(ctx: &Context, path: &Path, keys: &[String]) -> Done {
    let mut draft = read_draft(path)?;
    if !ctx.json {
        // Whoever signs sees what is signed: straight from the bytes, in smallest units.
        let book = ctx.home.book(draft.body().chain)?;
        describe(draft.body(), &Labels { book: &book, session: None });
    }
    match sign_here(ctx, &mut draft, keys) {
        Err(fail) if fail.code == "signatures_missing" => {}
        other => other?,
    }
    write_draft(path, &draft, true)?;
    let (found, needed) = draft.progress();
    let json = json!({ "id": draft.id(), "signatures": found, "needed": needed, "file": path });
    ctx.answer(&json, || {
        say!("Signed: {found} of {needed} signatures are there.");
        if found < needed {
            ctx.next(&format!("tx sign {} --key KEY (by another signer)", path.display()));
        } else {
            ctx.next(&format!("tx submit {}", path.display()));
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
    ctx.answer(&view, || {
        say!("Transaction {}", bold(&id.to_string()));
        let result = view.result.to_string();
        say!("  result    {}", if view.result.is_ok() { green(&result) } else { red(&result) });
        say!("  block     {}, position {}", view.height, view.position);
        say!("  time      {}", utc(view.time_ms));
        let labels = Labels { book: &session.book, session: Some(&session) };
        describe(&view.transaction.body, &labels);
        say!("  record    {}", view.hash);
        say!("  made      {} record versions", view.rows.len());
    })
}

/// More operations than this are counted, not listed.
const OPERATIONS_SHOWN_MAX: usize = 20;

/// What ids and amounts are called.
struct Labels<'a> {
    book: &'a Book,
    /// Without it amounts stay in smallest units: nobody is there to ask for decimals.
    session: Option<&'a Session>,
}

impl Labels<'_> {
    /// The id, and the local name when there is one.
    fn user(&self, id: UserId) -> String {
        self.book.user_name(id).map_or_else(|| id.to_string(), |name| format!("{name} ({id})"))
    }

    fn wallet(&self, id: WalletId) -> String {
        self.book.wallet_name(id).map_or_else(|| id.to_string(), |name| format!("{name} ({id})"))
    }

    fn money(&self, token: TokenId, amount: Amount) -> String {
        let view = self.session.and_then(|session| session.client.token(token).ok());
        view.map_or_else(
            || format!("{} smallest units of token {token}", group_digits(&amount.to_string())),
            |view| format!("{} {}", group_digits(&amount.to_decimal(view.decimals)), view.symbol),
        )
    }
}

/// Prints what is signed.
fn describe(body: &TransactionBody, labels: &Labels<'_>) {
    say!("  author    {}", labels.user(body.author));
    say!("  until     {}", utc(body.valid_until_ms));
    for operation in body.operations.iter().take(OPERATIONS_SHOWN_MAX) {
        say!("  does      {}", sentence(operation, labels));
    }
    match body.operations.len().saturating_sub(OPERATIONS_SHOWN_MAX) {
        0 => {}
        more => say!("            … and {more} more operations"),
    }
}

fn sentence(operation: &Operation, labels: &Labels<'_>) -> String {
    let wallet = |id| labels.wallet(id);
    let user = |id| labels.user(id);
    let money = |token, amount| labels.money(token, amount);
    match operation {
        Operation::CreateUser { access, number } => format!(
            "register user number {number} with {} of {} keys",
            access.threshold(),
            access.keys().len()
        ),
        Operation::CreateWallet { owner, number } => {
            format!("open wallet number {number} of {}", user(*owner))
        }
        Operation::CreateToken { symbol, decimals, issuer, .. } => {
            format!("create token {symbol}, {decimals} decimals, issued by {}", user(*issuer))
        }
        Operation::Issue { token, to, amount } => {
            format!("issue {} to {}", money(*token, *amount), wallet(*to))
        }
        Operation::Redeem { token, from, amount } => {
            format!("redeem {} from {}", money(*token, *amount), wallet(*from))
        }
        Operation::Transfer { token, from, to, amount, reference } => {
            let what_for =
                if reference.is_empty() { String::new() } else { format!(", \"{reference}\"") };
            let money = money(*token, *amount);
            format!("pay {money} from {} to {}{what_for}", wallet(*from), wallet(*to))
        }
        Operation::RotateKeys { user: id, access } => format!(
            "replace the keys of {} by {} of {} keys",
            user(*id),
            access.threshold(),
            access.keys().len()
        ),
    }
}
