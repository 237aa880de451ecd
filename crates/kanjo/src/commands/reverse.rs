//! `kanjo reverse`.

use crate::context::{Context, Session};
use crate::describe::Labels;
use crate::fail::{Done, Fail};
use crate::orders::{OrderArgs, order};
use crate::say;
use crate::text::bold;
use clap::Args;
use kanjo_client::Of;
use kanjo_types::money::Act;
use kanjo_types::record::{Record, RowKey, Table};
use kanjo_types::standing::{ActStatus, ClaimRecord, ReversalRecord};
use kanjo_types::{ActId, Amount, TokenId, TransactionId, WalletId};
use serde_json::json;
use std::collections::BTreeMap;

/// Options of `kanjo reverse`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  kanjo reverse 9f3c… --token GBP --reason COURT_ORDER --reference \"case 7\"\n  \
    kanjo reverse 9f3c… --token GBP --reason FRAUD --follow 81d0…\n\n\
    The payments stay in the ledger for ever; what they did in this token is undone. The order of\n\
    the transactions doesn't matter here. Proof of it: kanjo proof reversal TX --token SYMBOL"
)]
pub struct ReverseArgs {
    /// Transactions to undo: ids of 64 hexadecimal digits.
    #[arg(value_name = "TX", required = true)]
    transactions: Vec<TransactionId>,
    /// Token symbol or number.
    #[arg(long, value_name = "SYMBOL")]
    token: String,
    /// A payment by which the money moved on, where the policy says to follow it; repeat it.
    #[arg(long, value_name = "TX")]
    follow: Vec<TransactionId>,
    #[command(flatten)]
    order: OrderArgs,
}

/// Most claims of a token that are looked through for those of a reversal.
const CLAIMS_LOOKED_THROUGH: usize = 300;

/// Runs `kanjo reverse`.
pub fn reverse(ctx: &Context, args: &ReverseArgs) -> Done {
    let session = ctx.session()?;
    let token = session.token(&args.token)?;
    let parts =
        session.client.reversal_parts(&args.transactions, &args.follow).map_err(|error| {
            if error.is_not_found() {
                Fail::new("unknown_transaction", "one of the transactions is in no final block")
                    .next("check the ids: kanjo tx show TX")
            } else {
                error.into()
            }
        })?;
    let originals = parts.originals.clone();
    let undone: Vec<_> = parts.originals.iter().chain(&parts.trail).copied().collect();
    let act = Act::Reverse { token: token.id, originals: parts.originals, trail: parts.trail };
    let ordered = order(ctx, &session, act, parts.evidence, &args.order, None)?;
    let is_done = ordered.record.as_ref().is_some_and(|record| record.status == ActStatus::Done);
    let (reversals, claims) = if is_done {
        (reversal_records(&session, token.id, &undone)?, claims_of(&session, token.id, ordered.id)?)
    } else {
        (Vec::new(), Vec::new())
    };
    if ctx.json {
        let extra = json!({ "originals": originals, "reversals": reversals, "claims": claims });
        return ctx.answer(&ordered.json(extra), || {});
    }
    let labels = Labels::of(&session)?;
    let count = originals.len();
    let what =
        if count == 1 { "1 transaction".to_owned() } else { format!("{count} transactions") };
    ordered.tell(
        ctx,
        &session,
        &format!("{} in {}.", bold(&format!("Reversed: {what}")), token.symbol),
    )?;
    for (wallet, (taken, given)) in net_of(&reversals) {
        let wallet = session.wallet_label(wallet);
        if taken > given {
            let amount = labels.money(token.id, Amount(taken.saturating_sub(given)));
            say!("  {amount} is taken back of {wallet}");
        }
        if given > taken {
            let amount = labels.money(token.id, Amount(given.saturating_sub(taken)));
            say!("  {amount} is given back to {wallet}");
        }
    }
    for claim in &claims {
        let (debtor, creditor) =
            (session.wallet_label(claim.debtor), session.wallet_label(claim.creditor));
        let amount = labels.money(token.id, claim.amount);
        say!("  of that, {debtor} still owes {creditor} {amount}: claim {}", claim.id);
    }
    if is_done && let Some(first) = originals.first() {
        ctx.next(&format!("proof reversal {first} --token {}", token.symbol));
    }
    Ok(())
}

/// What is taken of and given to each wallet, over all transactions undone and followed: who
/// paid the money on answers for what it kept only.
fn net_of(reversals: &[ReversalRecord]) -> BTreeMap<WalletId, (u128, u128)> {
    let mut net: BTreeMap<WalletId, (u128, u128)> = BTreeMap::new();
    for one in reversals.iter().flat_map(|reversal| &reversal.moves) {
        let (taken, given) = net.entry(one.wallet).or_default();
        *taken = taken.saturating_add(one.taken.0);
        *given = given.saturating_add(one.given.0);
    }
    net
}

fn reversal_records(
    session: &Session,
    token: TokenId,
    undone: &[TransactionId],
) -> Done<Vec<ReversalRecord>> {
    let mut found = Vec::with_capacity(undone.len());
    for id in undone {
        let view = session.client.record(Table::Reversals, RowKey::reversal(*id, token))?;
        if let Record::Reversal(record) = view.record {
            found.push(*record);
        }
    }
    Ok(found)
}

/// The claims that an act left, among the newest of the token.
fn claims_of(session: &Session, token: TokenId, act: ActId) -> Done<Vec<ClaimRecord>> {
    let page =
        session.client.records(Table::Claims, Of::Token(token), CLAIMS_LOOKED_THROUGH, None)?;
    let claims = page.records.into_iter().filter_map(|view| match view.record {
        Record::Claim(claim) if claim.act == act => Some(*claim),
        _ => None,
    });
    Ok(claims.collect())
}
