//! `kanjo freeze` and `kanjo unfreeze`.

use super::listing::{self, ListArgs};
use crate::context::{Context, Session};
use crate::describe::{Labels, direction_text, target_text};
use crate::fail::{Done, Fail};
use crate::orders::{OrderArgs, order};
use crate::text::{Align, Table, When, bold, parse_when, utc};
use clap::{Args, Subcommand};
use kanjo_client::now_ms;
use kanjo_types::money::{Act, Direction, FreezeTarget};
use kanjo_types::record::{Record, Table as Rows};
use serde_json::json;

/// Options of `kanjo freeze`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    arg_required_else_help = true,
    after_help = "Example:\n  kanjo freeze alice --token GBP --reason FRAUD --reference \"case 7\"\n  \
    kanjo freeze alice --user --token GBP --reason FRAUD --outgoing --until 30d\n  \
    kanjo freeze --token-wide --token GBP --reason INCIDENT\n  kanjo freeze list GBP\n\n\
    A freeze stops payments; it never takes money, and what was reserved still goes back."
)]
pub struct FreezeArgs {
    #[command(subcommand)]
    command: Option<FreezeCommand>,
    #[command(flatten)]
    freeze: NewFreeze,
}

#[derive(Debug, Subcommand)]
enum FreezeCommand {
    /// The freezes that concern a token, a wallet or a user.
    #[command(after_help = "Example:\n  kanjo freeze list GBP\n  kanjo freeze list alice")]
    List(ListArgs),
}

#[derive(Debug, Args)]
struct NewFreeze {
    #[command(flatten)]
    target: TargetArgs,
    /// Token symbol or number.
    #[arg(long, value_name = "SYMBOL", required = true)]
    token: Option<String>,
    /// Only payments to it.
    #[arg(long, conflicts_with = "outgoing")]
    incoming: bool,
    /// Only payments from it.
    #[arg(long)]
    outgoing: bool,
    /// Up to when: a time (2026-12-01T00:00:00Z) or a duration (30d); without end when left out.
    #[arg(long, value_name = "WHEN", value_parser = parse_when)]
    until: Option<When>,
    #[command(flatten)]
    order: OrderArgs,
}

/// What is frozen, in which token.
#[derive(Debug, Args)]
struct TargetArgs {
    /// A wallet or a user, by id or local name.
    #[arg(value_name = "WALLET|USER", required_unless_present = "token_wide")]
    target: Option<String>,
    /// The name is a user's: all its wallets.
    #[arg(long)]
    user: bool,
    /// Everything in the token.
    #[arg(long, conflicts_with = "target")]
    token_wide: bool,
}

/// Options of `kanjo unfreeze`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  kanjo unfreeze alice --token GBP --reason CLEARED\n  \
    kanjo unfreeze --token-wide --token GBP")]
pub struct UnfreezeArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Token symbol or number.
    #[arg(long, value_name = "SYMBOL")]
    token: String,
    #[command(flatten)]
    order: OrderArgs,
}

impl TargetArgs {
    fn resolve(&self, session: &Session) -> Done<FreezeTarget> {
        let Some(text) = &self.target else { return Ok(FreezeTarget::Token) };
        let known_user = session.book.users.contains_key(text);
        let known_wallet = session.book.wallets.contains_key(text);
        if self.user || text.starts_with("kju1") || (known_user && !known_wallet) {
            return Ok(FreezeTarget::User(session.book.user(text)?));
        }
        Ok(FreezeTarget::Wallet(session.book.wallet(text)?))
    }
}

/// Runs `kanjo freeze`.
pub fn freeze(ctx: &Context, args: &FreezeArgs) -> Done {
    match &args.command {
        Some(FreezeCommand::List(list)) => show_list(ctx, list),
        None => start(ctx, &args.freeze),
    }
}

fn start(ctx: &Context, args: &NewFreeze) -> Done {
    let symbol = args.token.as_deref().ok_or_else(|| Fail::usage("give --token SYMBOL"))?;
    let session = ctx.session()?;
    let token = session.token(symbol)?;
    let target = args.target.resolve(&session)?;
    let direction = match (args.incoming, args.outgoing) {
        (true, _) => Direction::Incoming,
        (_, true) => Direction::Outgoing,
        _ => Direction::Both,
    };
    let until_ms = args.until.map(|until| until.ms(now_ms()));
    let act = Act::Freeze { token: token.id, target, direction, until_ms };
    let ordered = order(ctx, &session, act, Vec::new(), &args.order, None)?;
    if ctx.json {
        let extra = json!({ "target": target, "direction": direction, "until_ms": until_ms });
        return ctx.answer(&ordered.json(extra), || {});
    }
    let labels = Labels::of(&session)?;
    let until = until_ms.map_or_else(String::new, |until| format!(" until {}", utc(until)));
    let done = format!(
        "{} in {}: {} payments{until}.",
        bold(&format!("Frozen: {}", target_text(target, &labels))),
        token.symbol,
        direction_text(direction)
    );
    ordered.tell(ctx, &session, &done)
}

/// Runs `kanjo unfreeze`.
pub fn unfreeze(ctx: &Context, args: &UnfreezeArgs) -> Done {
    let session = ctx.session()?;
    let token = session.token(&args.token)?;
    let target = args.target.resolve(&session)?;
    let act = Act::Unfreeze { token: token.id, target };
    let ordered = order(ctx, &session, act, Vec::new(), &args.order, Some("CLEARED"))?;
    if ctx.json {
        return ctx.answer(&ordered.json(json!({ "target": target })), || {});
    }
    let labels = Labels::of(&session)?;
    let target = bold(&format!("No longer frozen: {}", target_text(target, &labels)));
    ordered.tell(ctx, &session, &format!("{target} in {}.", token.symbol))
}

fn show_list(ctx: &Context, list: &ListArgs) -> Done {
    let session = ctx.session()?;
    let labels = Labels::of(&session)?;
    let page = listing::page(&session, Rows::Freezes, list)?;
    let now = session.status.time_ms.max(now_ms());
    let table = Table::new(&[
        ("token", Align::Left),
        ("what", Align::Left),
        ("payments", Align::Left),
        ("until", Align::Left),
        ("reason", Align::Left),
        ("act", Align::Left),
    ]);
    listing::answer(ctx, &page, table, |record| match record {
        Record::Freeze(freeze) => {
            let in_force = freeze.at(now);
            let shown = in_force.map_or("not frozen any more", |one| direction_text(one.direction));
            let until = in_force.and_then(|one| one.until_ms).map_or_else(String::new, utc);
            Some(vec![
                labels.symbol(freeze.token),
                target_text(freeze.target, &labels),
                shown.to_owned(),
                until,
                freeze.reason.code.clone(),
                freeze.act.to_string(),
            ])
        }
        _ => None,
    })
}
