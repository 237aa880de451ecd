//! `kanjo pay`.

use crate::author::{Authored, Sent, SignArgs, access_of, send};
use crate::commands::token::parse_amount;
use crate::commands::wallet;
use crate::context::Context;
use crate::fail::Done;
use crate::say;
use crate::text::{bold, dim, group_digits};
use clap::Args;
use kanjo_types::Operation;
use serde_json::json;

/// Options of `kanjo pay`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  kanjo pay alice bob 12.50 --token VSM --reference \"invoice 7\"\n\n\
    The owner of the paying wallet signs, here; only the signature is sent. The answer comes\n\
    when the payment is final."
)]
pub struct PayArgs {
    #[command(flatten)]
    payment: PaymentArgs,
    #[command(flatten)]
    sign: SignArgs,
}

/// What is paid.
#[derive(Debug, Args)]
pub struct PaymentArgs {
    /// Paying wallet: id or local name.
    from: String,
    /// Receiving wallet: id or local name.
    to: String,
    /// How much, in whole tokens, such as 12.50.
    amount: String,
    /// Token symbol or number.
    #[arg(long, value_name = "SYMBOL")]
    token: String,
    /// What for, at most 64 bytes; public for ever, so no personal data.
    #[arg(long, value_name = "TEXT", default_value = "")]
    reference: String,
}

/// Runs `kanjo pay`.
pub fn pay(ctx: &Context, args: &PayArgs) -> Done {
    pay_with(ctx, &args.payment, &args.sign)
}

/// Pays, or drafts a payment.
pub fn pay_with(ctx: &Context, args: &PaymentArgs, sign: &SignArgs) -> Done {
    let session = ctx.session()?;
    let token = session.token(&args.token)?;
    let from = session.book.wallet(&args.from)?;
    let to = session.book.wallet(&args.to)?;
    let amount = parse_amount(&args.amount, token.decimals)?;
    let author = wallet::find(&session, from)?.owner;
    let access = access_of(&session.client, author)?;
    let reference = args.reference.clone();
    let operations = vec![Operation::Transfer { token: token.id, from, to, amount, reference }];
    let sent = send(ctx, &session, Authored { author, access, operations }, sign)?;
    let json = json!({
        "token": token.id, "symbol": token.symbol, "from": from, "to": to, "amount": amount,
        "sent": sent,
    });
    ctx.answer(&json, || {
        let shown =
            format!("{} {}", group_digits(&amount.to_decimal(token.decimals)), token.symbol);
        let (from, to) = (session.wallet_label(from), session.wallet_label(to));
        if matches!(sent, Sent::Recorded { .. }) {
            say!("Paid {} from {from} to {to}.", bold(&shown));
        }
        say!("  {}", dim(&sent.sentence()));
    })
}
