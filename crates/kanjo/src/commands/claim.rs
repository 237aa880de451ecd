//! `kanjo claim`: what wallets owe after reversals.

use super::listing::{self, ListArgs};
use super::wallet;
use crate::author::{Sent, SignArgs, pick_signer, send_together};
use crate::context::Context;
use crate::describe::Labels;
use crate::fail::Done;
use crate::say;
use crate::text::{Align, Table, bold, dim};
use clap::{Args, Subcommand};
use kanjo_types::record::{Record, RowKey, Table as Rows};
use kanjo_types::standing::ClaimRecord;
use kanjo_types::{Amount, ClaimId, Operation};
use serde_json::json;

/// Claims that reversals left.
#[derive(Debug, Subcommand)]
pub enum ClaimCommand {
    /// The claims that concern a wallet or a token.
    #[command(after_help = "Example:\n  kanjo claim list bob\n  kanjo claim list GBP")]
    List(ListArgs),
    /// Pay a claim from what its debtor now holds. Anyone may.
    #[command(after_help = "Example:\n  kanjo claim settle kjc1…")]
    Settle(SettleArgs),
}

/// Options of `kanjo claim settle`.
#[derive(Debug, Args)]
pub struct SettleArgs {
    /// Which.
    claim: ClaimId,
    /// Who signs, when it is not the creditor, the debtor, or the first whose key is here.
    #[arg(long = "as", value_name = "USER")]
    author: Option<String>,
    #[command(flatten)]
    sign: SignArgs,
}

fn open(claim: &ClaimRecord) -> Amount {
    claim.amount.checked_sub(claim.paid).unwrap_or(Amount::ZERO)
}

/// Runs `kanjo claim`.
pub fn claim(ctx: &Context, command: ClaimCommand) -> Done {
    match command {
        ClaimCommand::List(list) => show_list(ctx, &list),
        ClaimCommand::Settle(args) => settle(ctx, &args),
    }
}

fn show_list(ctx: &Context, list: &ListArgs) -> Done {
    let session = ctx.session()?;
    let labels = Labels::of(&session)?;
    let page = listing::page(&session, Rows::Claims, list)?;
    let table = Table::new(&[
        ("claim", Align::Left),
        ("debtor", Align::Left),
        ("creditor", Align::Left),
        ("at first", Align::Right),
        ("open", Align::Right),
    ]);
    listing::answer(ctx, &page, table, |record| match record {
        Record::Claim(claim) => Some(vec![
            claim.id.to_string(),
            session.wallet_label(claim.debtor),
            session.wallet_label(claim.creditor),
            labels.money(claim.token, claim.amount),
            labels.money(claim.token, open(claim)),
        ]),
        _ => None,
    })
}

fn settle(ctx: &Context, args: &SettleArgs) -> Done {
    let session = ctx.session()?;
    let key = RowKey::item(args.claim.0);
    let what = format!("claim {}", args.claim);
    let read = || match listing::record(&session, Rows::Claims, key, &what)? {
        Record::Claim(claim) => Ok(*claim),
        _ => Err(listing::other_record()),
    };
    let before = read()?;
    let mut may = vec![
        wallet::find(&session, before.creditor)?.owner,
        wallet::find(&session, before.debtor)?.owner,
    ];
    may.extend(session.book.users.values().copied());
    let author = pick_signer(ctx, &session, &may, args.author.as_ref(), &args.sign)?;
    let operations = vec![Operation::SettleClaim { claim: args.claim }];
    let sent = send_together(ctx, &session, &[author], operations, &args.sign)?;
    let after = match &sent {
        Sent::Recorded { .. } => Some(read()?),
        Sent::Drafted { .. } => None,
    };
    let labels = Labels::of(&session)?;
    ctx.answer(&json!({ "claim": after.as_ref(), "sent": sent }), || {
        if let Some(after) = &after {
            let paid = after.paid.checked_sub(before.paid).unwrap_or(Amount::ZERO);
            let paid = bold(&labels.money(after.token, paid));
            let creditor = session.wallet_label(after.creditor);
            say!("Paid {paid} to {creditor}; {} open.", labels.money(after.token, open(after)));
        }
        say!("  {}", dim(&sent.sentence()));
    })
}
