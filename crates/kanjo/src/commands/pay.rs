//! `kanjo pay`.

use crate::author::{Authored, Sent, SignArgs, access_of, send};
use crate::commands::token::parse_amount;
use crate::commands::wallet;
use crate::context::{Context, Session};
use crate::fail::Done;
use crate::say;
use crate::text::{When, bold, dim, group_digits, parse_when};
use crate::typed::{ConditionText, parse_condition};
use clap::Args;
use kanjo_api::TokenView;
use kanjo_client::now_ms;
use kanjo_types::money::Condition;
use kanjo_types::{Amount, Hash, Operation, WalletId};
use serde_json::json;

/// Options of `kanjo pay`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  kanjo pay alice bob 12.50 --token VSM --reference \"invoice 7\"\n  \
    kanjo pay alice bob 12.50 --token VSM --require \"balance>=500\" \\\n    \
    --require \"bob balance<=20\" --not-after 2026-12-01T00:00:00Z\n\n\
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
    #[command(flatten)]
    conditions: ConditionArgs,
}

/// What must hold when it is paid; otherwise nothing is.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Conditions")]
pub struct ConditionArgs {
    /// What must hold, such as "balance>=500", "bob balance<=20 VSM" or "bob approved"; of the
    /// paying wallet and the paid token unless it names others. Repeat it for more.
    #[arg(long, value_name = "CONDITION", value_parser = parse_condition)]
    require: Vec<ConditionText>,
    /// Not before this time (2026-12-01T00:00:00Z), or this long from now (1h).
    #[arg(long, value_name = "WHEN", value_parser = parse_when)]
    not_before: Option<When>,
    /// Not after this time, or this long from now.
    #[arg(long, value_name = "WHEN", value_parser = parse_when)]
    not_after: Option<When>,
    /// Only if the paying wallet's newest state has this hash: nothing came between.
    #[arg(long, value_name = "HASH")]
    if_state: Option<Hash>,
}

impl ConditionArgs {
    fn resolve(
        &self,
        session: &Session,
        wallet: WalletId,
        token: &TokenView,
    ) -> Done<Vec<Condition>> {
        let mut conditions = Vec::new();
        for text in &self.require {
            conditions.push(text.resolve(session, Some((wallet, token)))?);
        }
        let now = now_ms();
        let moment = |when: Option<When>| when.map(|when| when.ms(now));
        conditions.extend(moment(self.not_before).map(|time_ms| Condition::NotBefore { time_ms }));
        conditions.extend(moment(self.not_after).map(|time_ms| Condition::NotAfter { time_ms }));
        let token = token.id;
        conditions.extend(self.if_state.map(|state| Condition::StateIs { wallet, token, state }));
        Ok(conditions)
    }
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
    let conditions = args.conditions.resolve(&session, from, &token)?;
    let transfer = Operation::Transfer { token: token.id, from, to, amount, reference };
    let requirements = conditions.into_iter().map(|condition| Operation::Require { condition });
    let operations = requirements.chain([transfer]).collect();
    let sent = send(ctx, &session, Authored { author, access, operations }, sign)?;
    let fee = fee(&token, from, amount);
    let json = json!({
        "token": token.id, "symbol": token.symbol, "from": from, "to": to, "amount": amount,
        "fee": fee, "sent": sent,
    });
    ctx.answer(&json, || {
        let money = |amount: Amount| {
            format!("{} {}", group_digits(&amount.to_decimal(token.decimals)), token.symbol)
        };
        let shown = money(amount);
        let (from, to) = (session.wallet_label(from), session.wallet_label(to));
        if matches!(sent, Sent::Recorded { .. }) {
            let fee = fee.map_or_else(String::new, |fee| format!(", and a fee of {}", money(fee)));
            say!("Paid {} from {from} to {to}{fee}.", bold(&shown));
        }
        say!("  {}", dim(&sent.sentence()));
    })
}

/// What the payment costs its payer on top, by the policy in force.
fn fee(token: &TokenView, from: WalletId, amount: Amount) -> Option<Amount> {
    let fee = token.policy.fee.filter(|fee| fee.receiver != from)?;
    fee.of(amount).filter(|fee| *fee != Amount::ZERO)
}
