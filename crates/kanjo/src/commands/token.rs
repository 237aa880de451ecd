//! `kanjo token`: create, list, issue, redeem.

use crate::author::{Authored, Sent, SignArgs, access_of, send};
use crate::context::Context;
use crate::fail::{Done, Fail};
use crate::say;
use crate::text::{Align, Table, bold, dim, group_digits};
use clap::{Args, Subcommand};
use kanjo_types::{Amount, Operation};
use serde_json::json;

/// Tokens: create, list, issue, redeem.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Create a token.
    #[command(after_help = "Example:\n  \
        kanjo token create EUR --name Euro --decimals 2 --issuer operator")]
    Create(CreateArgs),
    /// All tokens of the ledger.
    #[command(after_help = "Example:\n  kanjo token list")]
    List,
    /// One token.
    #[command(after_help = "Example:\n  kanjo token show JPY")]
    Show {
        /// Symbol or number.
        token: String,
    },
    /// Bring new money into a wallet; the issuer signs.
    #[command(after_help = "Example:\n  kanjo token issue JPY alice 50000")]
    Issue(MoveArgs),
    /// Take money out of being, from a wallet of the issuer; the issuer signs.
    #[command(after_help = "Example:\n  kanjo token redeem JPY operator 50000")]
    Redeem(MoveArgs),
}

/// Options of `kanjo token create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Short unique name: A-Z and 0-9, letter first, at most 12.
    symbol: String,
    /// Long name.
    #[arg(long)]
    name: String,
    /// Decimal places of amounts.
    #[arg(long)]
    decimals: u8,
    /// Who issues and redeems: user id or local name.
    #[arg(long, value_name = "USER")]
    issuer: String,
    /// Who signs, when it is not the issuer.
    #[arg(long = "as", value_name = "USER")]
    author: Option<String>,
    #[command(flatten)]
    sign: SignArgs,
}

/// Options of `kanjo token issue` and `redeem`.
#[derive(Debug, Args)]
pub struct MoveArgs {
    /// Token symbol or number.
    token: String,
    /// Wallet id or local name.
    wallet: String,
    /// How much, in whole tokens, such as 12.50.
    amount: String,
    #[command(flatten)]
    sign: SignArgs,
}

/// Runs `kanjo token`.
pub fn token(ctx: &Context, command: TokenCommand) -> Done {
    match command {
        TokenCommand::Create(args) => create(ctx, &args),
        TokenCommand::List => list(ctx),
        TokenCommand::Show { token } => show(ctx, &token),
        TokenCommand::Issue(args) => change_supply(ctx, &args, true),
        TokenCommand::Redeem(args) => change_supply(ctx, &args, false),
    }
}

fn create(ctx: &Context, args: &CreateArgs) -> Done {
    let session = ctx.session()?;
    let issuer = session.book.user(&args.issuer)?;
    let author = args.author.as_ref().map_or(Ok(issuer), |author| session.book.user(author))?;
    let access = access_of(&session.client, author)?;
    let operations = vec![Operation::CreateToken {
        symbol: args.symbol.clone(),
        name: args.name.clone(),
        decimals: args.decimals,
        issuer,
    }];
    let sent = send(ctx, &session, Authored { author, access, operations }, &args.sign)?;
    let token = match &sent {
        Sent::Recorded { .. } => Some(session.token(&args.symbol)?),
        Sent::Drafted { .. } => None,
    };
    ctx.answer(&json!({ "token": token, "sent": sent }), || {
        if let Some(token) = &token {
            say!("Token {} created, number {}.", bold(&token.symbol), token.id);
        }
        say!("  {}", dim(&sent.sentence()));
        if token.is_some() {
            ctx.next(&format!("token issue {} WALLET AMOUNT", args.symbol));
        }
    })
}

fn list(ctx: &Context) -> Done {
    let session = ctx.session()?;
    let tokens = session.client.tokens()?;
    ctx.answer(&tokens, || {
        let mut table = Table::new(&[
            ("number", Align::Right),
            ("symbol", Align::Left),
            ("name", Align::Left),
            ("decimals", Align::Right),
            ("in circulation", Align::Right),
            ("issuer", Align::Left),
        ]);
        for token in &tokens {
            table.row([
                token.id.to_string(),
                token.symbol.clone(),
                token.name.clone(),
                token.decimals.to_string(),
                group_digits(&token.supply.to_decimal(token.decimals)),
                session.user_label(token.issuer),
            ]);
        }
        table.print();
        if tokens.is_empty() {
            say!("No tokens yet.");
        }
    })
}

fn show(ctx: &Context, token: &str) -> Done {
    let session = ctx.session()?;
    let token = session.token(token)?;
    let shown = |amount: Amount| group_digits(&amount.to_decimal(token.decimals));
    ctx.answer(&token, || {
        say!("Token {} ({})", bold(&token.symbol), token.name);
        say!("  number          {}", token.id);
        say!("  decimals        {}", token.decimals);
        say!("  issuer          {}", session.user_label(token.issuer));
        say!("  issued          {}", shown(token.issued));
        say!("  redeemed        {}", shown(token.redeemed));
        say!("  in circulation  {}", shown(token.supply));
    })
}

fn change_supply(ctx: &Context, args: &MoveArgs, issue: bool) -> Done {
    let session = ctx.session()?;
    let token = session.token(&args.token)?;
    let wallet = session.book.wallet(&args.wallet)?;
    let amount = parse_amount(&args.amount, token.decimals)?;
    let operation = if issue {
        Operation::Issue { token: token.id, to: wallet, amount }
    } else {
        Operation::Redeem { token: token.id, from: wallet, amount }
    };
    let access = access_of(&session.client, token.issuer)?;
    let authored = Authored { author: token.issuer, access, operations: vec![operation] };
    let sent = send(ctx, &session, authored, &args.sign)?;
    let json = json!({ "token": token.id, "wallet": wallet, "amount": amount, "sent": sent });
    ctx.answer(&json, || {
        let shown = group_digits(&amount.to_decimal(token.decimals));
        let symbol = &token.symbol;
        let label = session.wallet_label(wallet);
        match (&sent, issue) {
            (Sent::Drafted { .. }, _) => {}
            (_, true) => say!("Issued {} to {label}.", bold(&format!("{shown} {symbol}"))),
            (_, false) => say!("Redeemed {} from {label}.", bold(&format!("{shown} {symbol}"))),
        }
        say!("  {}", dim(&sent.sentence()));
    })
}

/// An amount in whole tokens, above zero.
pub fn parse_amount(text: &str, decimals: u8) -> Done<Amount> {
    let amount =
        Amount::parse_decimal(text, decimals).map_err(|error| Fail::new("bad_amount", error))?;
    if amount == Amount::ZERO {
        return Err(Fail::new("zero_amount", "the amount is zero; it must be above zero"));
    }
    Ok(amount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_in_whole_tokens() {
        assert_eq!(parse_amount("12.50", 6).expect("fine"), Amount(12_500_000));
        assert_eq!(parse_amount("1.5", 0).expect_err("too precise").code, "bad_amount");
        assert_eq!(parse_amount("0.00", 2).expect_err("zero").code, "zero_amount");
        assert!(parse_amount("1e9", 2).is_err());
    }
}
