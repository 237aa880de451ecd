//! `kanjo token`: create, list, issue, redeem; policy and roles are in [`super::token_rules`].

use super::token_rules::{PolicyCommand, RoleCommand, policy, role, show_rules};
use crate::author::{Sent, SignArgs, pick_signer, send_together};
use crate::context::Context;
use crate::describe::Labels;
use crate::fail::{Done, Fail};
use crate::orders::{OrderArgs, order};
use crate::policy::PolicyArgs;
use crate::say;
use crate::text::{Align, Table, bold, dim, group_digits, parse_duration};
use crate::typed::{GrantText, parse_grant, resolve_grants};
use clap::{Args, Subcommand};
use kanjo_api::TokenView;
use kanjo_types::money::{Act, Role};
use kanjo_types::policy::Policy;
use kanjo_types::{Amount, Operation, UserId};
use serde_json::json;
use std::time::Duration;

/// Tokens: create, list, issue, redeem, policy, roles.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Create a token. What its policy does not permit now can never be switched on.
    #[command(after_help = "Example:\n  \
        kanjo token create EUR --name Euro --decimals 2 --issuer operator\n  \
        kanjo token create GBP --name Pound --decimals 2 --issuer operator \\\n    \
        --freezable --reversible 24h --moved-on follow --fee-bp 5 --fee-to operator \\\n    \
        --credit --floors --class \"payment=100,day=500\" --class none --notice 7d \\\n    \
        --grant freezer=alice,bob:2 --grant reverser=alice,bob:2\n  \
        kanjo token create BOND --name \"Bond 2031\" --decimals 0 --issuer operator --allow-list")]
    Create(Box<CreateArgs>),
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
    /// The token's policy: change it within the charter.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// The token's roles: give them to others.
    #[command(subcommand)]
    Role(RoleCommand),
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
    policy: PolicyArgs,
    /// How long before a change against holders takes effect.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, help_heading = "Policy")]
    notice: Option<Duration>,
    /// Who holds a role, as ROLE=USER,USER:HOW_MANY; the issuer holds the others. Repeat it.
    #[arg(long = "grant", value_name = "GRANT", value_parser = parse_grant, help_heading = "Policy")]
    grants: Vec<GrantText>,
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
    order: OrderArgs,
}

/// Runs `kanjo token`.
pub fn token(ctx: &Context, command: TokenCommand) -> Done {
    match command {
        TokenCommand::Create(args) => create(ctx, &args),
        TokenCommand::List => list(ctx),
        TokenCommand::Show { token } => show(ctx, &token),
        TokenCommand::Issue(args) => change_supply(ctx, &args, true),
        TokenCommand::Redeem(args) => change_supply(ctx, &args, false),
        TokenCommand::Policy(command) => policy(ctx, command),
        TokenCommand::Role(command) => role(ctx, command),
    }
}

fn create(ctx: &Context, args: &CreateArgs) -> Done {
    let session = ctx.session()?;
    let issuer = session.book.user(&args.issuer)?;
    let author = args.author.as_ref().map_or(Ok(issuer), |author| session.book.user(author))?;
    let mut policy = args.policy.apply(&session, args.decimals, Policy::default())?;
    if let Some(notice) = args.notice {
        policy.notice_ms = u64::try_from(notice.as_millis()).unwrap_or(u64::MAX);
    }
    let operations = vec![Operation::CreateToken {
        symbol: args.symbol.clone(),
        name: args.name.clone(),
        decimals: args.decimals,
        issuer,
        policy: Box::new(policy),
        grants: resolve_grants(&session, &args.grants)?,
    }];
    let sent = send_together(ctx, &session, &[author], operations, &args.sign)?;
    let token = match &sent {
        Sent::Recorded { .. } => Some(session.token(&args.symbol)?),
        Sent::Drafted { .. } => None,
    };
    let labels = token.as_ref().map(|_| Labels::of(&session)).transpose()?;
    ctx.answer(&json!({ "token": token, "sent": sent }), || {
        if let Some(token) = &token {
            say!("Token {} created, number {}.", bold(&token.symbol), token.id);
            if let Some(labels) = &labels {
                show_rules(&session, token, labels);
            }
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
            ("rules", Align::Left),
        ]);
        for token in &tokens {
            table.row([
                token.id.to_string(),
                token.symbol.clone(),
                token.name.clone(),
                token.decimals.to_string(),
                group_digits(&token.supply.to_decimal(token.decimals)),
                session.user_label(token.issuer),
                rules_words(token),
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
    let labels = Labels::of(&session)?;
    ctx.answer(&token, || {
        say!("Token {} ({})", bold(&token.symbol), token.name);
        say!("  number          {}", token.id);
        say!("  decimals        {}", token.decimals);
        say!("  issuer          {}", session.user_label(token.issuer));
        say!("  issued          {}", shown(token.issued));
        say!("  redeemed        {}", shown(token.redeemed));
        say!("  in circulation  {}", shown(token.supply));
        show_rules(&session, &token, &labels);
    })
}

/// What a token permits, in a word each.
fn rules_words(token: &TokenView) -> String {
    let policy = &token.policy;
    let words = [
        (token.frozen.is_some(), "frozen now"),
        (policy.supply_cap.is_some(), "cap"),
        (policy.freezable, "freezable"),
        (policy.reversal.is_some(), "reversible"),
        (policy.fee.is_some(), "fee"),
        (policy.allow_list, "allow-list"),
        (policy.credit, "credit"),
        (policy.floors, "floors"),
        (!policy.classes.is_empty(), "limits"),
        (token.coming.is_some(), "a change is coming"),
    ];
    let words: Vec<&str> =
        words.iter().filter(|(holds, _)| *holds).map(|(_, word)| *word).collect();
    if words.is_empty() { "plain".to_owned() } else { words.join(", ") }
}

/// Who holds the issuer's role, and how many of them must agree.
fn issuers(token: &TokenView) -> (Vec<UserId>, u8) {
    let found = token.authorities.iter().find(|one| one.role == Role::Issuer);
    found.map_or_else(|| (vec![token.issuer], 1), |one| (one.holders.clone(), one.threshold))
}

fn change_supply(ctx: &Context, args: &MoveArgs, issue: bool) -> Done {
    let session = ctx.session()?;
    let token = session.token(&args.token)?;
    let wallet = session.book.wallet(&args.wallet)?;
    let amount = parse_amount(&args.amount, token.decimals)?;
    let (holders, threshold) = issuers(&token);
    let shown = group_digits(&amount.to_decimal(token.decimals));
    let shown = bold(&format!("{shown} {}", token.symbol));
    let label = session.wallet_label(wallet);
    let done = if issue {
        format!("Issued {shown} to {label}.")
    } else {
        format!("Redeemed {shown} from {label}.")
    };
    let json = json!({ "token": token.id, "wallet": wallet, "amount": amount });
    if threshold > 1 || args.order.reason.is_some() {
        let id = token.id;
        let act = if issue {
            Act::Issue { token: id, to: wallet, amount }
        } else {
            Act::Redeem { token: id, from: wallet, amount }
        };
        let ordered = order(ctx, &session, act, Vec::new(), &args.order, Some("SUPPLY"))?;
        if ctx.json {
            return ctx.answer(&ordered.json(json), || {});
        }
        return ordered.tell(ctx, &session, &done);
    }
    let operation = if issue {
        Operation::Issue { token: token.id, to: wallet, amount }
    } else {
        Operation::Redeem { token: token.id, from: wallet, amount }
    };
    let named = args.order.signers.first();
    let issuer = pick_signer(ctx, &session, &holders, named, &args.order.sign)?;
    let sent = send_together(ctx, &session, &[issuer], vec![operation], &args.order.sign)?;
    let mut json = json;
    if let Some(fields) = json.as_object_mut() {
        fields.insert("sent".to_owned(), json!(sent));
    }
    ctx.answer(&json, || {
        if matches!(sent, Sent::Recorded { .. }) {
            say!("{done}");
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
