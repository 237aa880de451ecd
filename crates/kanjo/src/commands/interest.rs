//! `kanjo interest`.

use crate::author::{Sent, SignArgs, pick_signer, send_together};
use crate::commands::wallet;
use crate::context::Context;
use crate::fail::Done;
use crate::say;
use crate::text::{bold, dim};
use crate::typed::parse_rate;
use clap::{Args, Subcommand};
use kanjo_types::Operation;
use kanjo_types::money::Role;
use serde_json::json;

/// Interest on balances.
#[derive(Debug, Subcommand)]
pub enum InterestCommand {
    /// Pay interest on what wallets hold now; the issuer signs, and the owner of the paying wallet.
    Pay(PayArgs),
}

/// Options of `kanjo interest pay`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  kanjo interest pay --token JPY --from operator --rate 2.5% --days 30 \
    alice bob\n\n\
    Each wallet gets balance × rate × days / year, rounded down to the smallest unit."
)]
pub struct PayArgs {
    /// Who gets interest: wallet ids or local names.
    #[arg(value_name = "WALLET", required = true)]
    to: Vec<String>,
    /// Token symbol or number.
    #[arg(long, value_name = "SYMBOL")]
    token: String,
    /// Paying wallet: id or local name.
    #[arg(long, value_name = "WALLET")]
    from: String,
    /// Yearly rate, such as 2.5%.
    #[arg(long, value_name = "PERCENT", value_parser = parse_rate)]
    rate: u32,
    /// For how many days.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    days: u16,
    /// Days of a year.
    #[arg(long, default_value = "365", value_parser = parse_year)]
    year: u16,
    /// The issuer that signs, when it is not the first whose key is here.
    #[arg(long = "as", value_name = "USER")]
    signers: Vec<String>,
    #[command(flatten)]
    sign: SignArgs,
}

fn parse_year(text: &str) -> Result<u16, String> {
    match text {
        "360" => Ok(360),
        "365" => Ok(365),
        "366" => Ok(366),
        _ => Err("a year has 360, 365 or 366 days".to_owned()),
    }
}

/// Runs `kanjo interest`.
pub fn interest(ctx: &Context, command: &InterestCommand) -> Done {
    let InterestCommand::Pay(args) = command;
    let session = ctx.session()?;
    let token = session.token(&args.token)?;
    let from = session.book.wallet(&args.from)?;
    let to = args.to.iter().map(|to| session.book.wallet(to)).collect::<Done<Vec<_>>>()?;
    let holders = token.authorities.iter().find(|one| one.role == Role::Issuer);
    let holders = holders.map_or_else(|| vec![token.issuer], |one| one.holders.clone());
    let mut signers = if args.signers.is_empty() {
        vec![pick_signer(ctx, &session, &holders, None, &args.sign)?]
    } else {
        args.signers.iter().map(|user| session.book.user(user)).collect::<Done<Vec<_>>>()?
    };
    signers.push(wallet::find(&session, from)?.owner);
    let operation = Operation::PayInterest {
        token: token.id,
        from,
        to: to.clone(),
        rate_ppm: args.rate,
        days: args.days,
        year: args.year,
    };
    let sent = send_together(ctx, &session, &signers, vec![operation], &args.sign)?;
    let json = json!({
        "token": token.id, "from": from, "to": to, "rate_ppm": args.rate, "days": args.days,
        "year": args.year, "sent": sent,
    });
    ctx.answer(&json, || {
        if matches!(sent, Sent::Recorded { .. }) {
            let (count, symbol) = (to.len(), &token.symbol);
            say!("{}", bold(&format!("Interest paid in {symbol} to {count} wallets.")));
        }
        say!("  {}", dim(&sent.sentence()));
    })
}
