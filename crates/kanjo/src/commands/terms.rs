//! `kanjo terms`: what an approver sets for one wallet in a token.

use super::listing::{self, ListArgs};
use crate::context::{Context, Session};
use crate::describe::Labels;
use crate::fail::Done;
use crate::orders::{OrderArgs, order};
use crate::say;
use crate::text::{Align, Table, bold};
use crate::typed::whole;
use clap::{Args, Subcommand};
use kanjo_types::money::Act;
use kanjo_types::record::{Record, RowKey, Table as Rows};
use kanjo_types::standing::TermsRecord;
use kanjo_types::{Amount, TokenId, WalletId};
use serde_json::json;

/// What holds for one wallet in a token.
#[derive(Debug, Subcommand)]
pub enum TermsCommand {
    /// Approve a wallet, put it in a class, give it credit or a floor. What is left out stays.
    #[command(after_help = "Example:\n  kanjo terms set alice --token BOND --approve\n  \
        kanjo terms set shop --token GBP --class 1\n  \
        kanjo terms set shop --token GBP --credit 5000")]
    Set(SetArgs),
    /// What holds for a wallet.
    #[command(after_help = "Example:\n  kanjo terms show alice --token GBP")]
    Show {
        /// Wallet id or local name.
        wallet: String,
        /// Token symbol or number.
        #[arg(long, value_name = "SYMBOL")]
        token: String,
    },
    /// All terms of a token or a wallet.
    #[command(after_help = "Example:\n  kanjo terms list GBP")]
    List(ListArgs),
}

/// Options of `kanjo terms set`.
#[derive(Debug, Args)]
pub struct SetArgs {
    /// Wallet id or local name.
    wallet: String,
    /// Token symbol or number.
    #[arg(long, value_name = "SYMBOL")]
    token: String,
    /// It may receive, where the token has an allow-list.
    #[arg(long, conflicts_with = "revoke")]
    approve: bool,
    /// It may not receive any more; what it holds it can still pay out.
    #[arg(long)]
    revoke: bool,
    /// Its class.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=7))]
    class: Option<u8>,
    /// How far it may be overdrawn, in whole tokens.
    #[arg(long, value_name = "AMOUNT")]
    credit: Option<String>,
    /// What must stay in it, in whole tokens.
    #[arg(long, value_name = "AMOUNT")]
    floor: Option<String>,
    #[command(flatten)]
    order: OrderArgs,
}

/// Runs `kanjo terms`.
pub fn terms(ctx: &Context, command: TermsCommand) -> Done {
    match command {
        TermsCommand::Set(args) => set(ctx, &args),
        TermsCommand::Show { wallet, token } => show(ctx, &wallet, &token),
        TermsCommand::List(list) => show_list(ctx, &list),
    }
}

/// What was set, if anything was.
fn present(session: &Session, wallet: WalletId, token: TokenId) -> Done<Option<TermsRecord>> {
    match session.client.record(Rows::Terms, RowKey::wallet_state(wallet, token)) {
        Ok(view) => match view.record {
            Record::Terms(terms) => Ok(Some(*terms)),
            _ => Err(listing::other_record()),
        },
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn set(ctx: &Context, args: &SetArgs) -> Done {
    let session = ctx.session()?;
    let token = session.token(&args.token)?;
    let wallet = session.book.wallet(&args.wallet)?;
    let before = present(&session, wallet, token.id)?;
    let (approved, class, credit, floor) = before
        .map_or((false, 0, Amount::ZERO, Amount::ZERO), |terms| {
            (terms.approved, terms.class, terms.credit, terms.floor)
        });
    let amount = |text: &Option<String>, before: Amount| match text {
        Some(text) => whole(text, token.decimals),
        None => Ok(before),
    };
    let approved = (approved || args.approve) && !args.revoke;
    let class = args.class.unwrap_or(class);
    let (credit, floor) = (amount(&args.credit, credit)?, amount(&args.floor, floor)?);
    let act = Act::SetTerms { token: token.id, wallet, approved, class, credit, floor };
    let ordered = order(ctx, &session, act, Vec::new(), &args.order, Some("TERMS"))?;
    if ctx.json {
        let extra = json!({
            "wallet": wallet, "token": token.id, "approved": approved, "class": class,
            "credit": credit, "floor": floor,
        });
        return ctx.answer(&ordered.json(extra), || {});
    }
    let shown = words(&Labels::of(&session)?, token.id, approved, class, credit, floor);
    let done = format!(
        "{} in {}: {shown}.",
        bold(&format!("Terms of {}", session.wallet_label(wallet))),
        token.symbol
    );
    ordered.tell(ctx, &session, &done)
}

fn words(
    labels: &Labels<'_>,
    token: TokenId,
    approved: bool,
    class: u8,
    credit: Amount,
    floor: Amount,
) -> String {
    let mut parts = Vec::new();
    if approved {
        parts.push("approved".to_owned());
    }
    parts.push(format!("class {class}"));
    if credit != Amount::ZERO {
        parts.push(format!("credit {}", labels.money(token, credit)));
    }
    if floor != Amount::ZERO {
        parts.push(format!("floor {}", labels.money(token, floor)));
    }
    parts.join(", ")
}

fn show(ctx: &Context, wallet: &str, token: &str) -> Done {
    let session = ctx.session()?;
    let token = session.token(token)?;
    let wallet = session.book.wallet(wallet)?;
    super::wallet::find(&session, wallet)?;
    let terms = present(&session, wallet, token.id)?;
    let labels = Labels::of(&session)?;
    ctx.answer(&json!({ "wallet": wallet, "token": token.id, "terms": terms }), || {
        say!("Terms of {} in {}", bold(&session.wallet_label(wallet)), token.symbol);
        let Some(terms) = &terms else {
            say!("  nothing was set: not approved, class 0, no credit, no floor");
            return;
        };
        say!("  approved  {}", if terms.approved { "yes" } else { "no" });
        say!("  class     {}", terms.class);
        say!("  credit    {}", labels.money(token.id, terms.credit));
        say!("  floor     {}", labels.money(token.id, terms.floor));
        say!("  by        act {}", terms.act);
    })
}

fn show_list(ctx: &Context, list: &ListArgs) -> Done {
    let session = ctx.session()?;
    let labels = Labels::of(&session)?;
    let page = listing::page(&session, Rows::Terms, list)?;
    let table =
        Table::new(&[("wallet", Align::Left), ("token", Align::Left), ("terms", Align::Left)]);
    listing::answer(ctx, &page, table, |record| match record {
        Record::Terms(terms) => Some(vec![
            session.wallet_label(terms.wallet),
            labels.symbol(terms.token),
            words(&labels, terms.token, terms.approved, terms.class, terms.credit, terms.floor),
        ]),
        _ => None,
    })
}
