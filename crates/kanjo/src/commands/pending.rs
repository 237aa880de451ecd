//! `kanjo pending`: two-phase payments.

use super::listing::{self, ListArgs};
use super::wallet;
use crate::author::{Sent, SignArgs, operation_number, pick_signer, send_together};
use crate::commands::parse_amount;
use crate::context::{Context, Session};
use crate::describe::Labels;
use crate::fail::Done;
use crate::say;
use crate::text::{Align, Table, bold, dim, parse_duration, utc};
use crate::typed::{LegText, parse_leg};
use clap::{Args, Subcommand};
use kanjo_client::now_ms;
use kanjo_types::money::Leg;
use kanjo_types::record::{Record, RowKey, Table as Rows};
use kanjo_types::standing::{PendingRecord, PendingStatus};
use kanjo_types::{Operation, PendingId, UserId};
use serde_json::json;
use std::time::Duration;

/// Pending payments.
#[derive(Debug, Subcommand)]
pub enum PendingCommand {
    /// Reserve money for a payment that its agent posts or voids later.
    #[command(after_help = "Example:\n  \
        kanjo pending reserve alice hotel 200 --token JPY --expires-in 2d\n  \
        kanjo pending reserve alice hotel 200 --token JPY --agent cardco \\\n    \
        --also \"alice pays 5 JPY to cardco\"\n\n\
        With --also, all are posted or voided as one.")]
    Reserve(ReserveArgs),
    /// Pay a pending payment; its agent signs (the receiver, unless another was named).
    #[command(after_help = "Example:\n  kanjo pending post kjp1…\n  \
        kanjo pending post kjp1… --amount 180")]
    Post(PostArgs),
    /// Give a pending payment back; its agent signs.
    #[command(after_help = "Example:\n  kanjo pending void kjp1…")]
    Void(SettleArgs),
    /// One pending payment.
    #[command(after_help = "Example:\n  kanjo pending show kjp1…")]
    Show {
        /// Which.
        pending: PendingId,
    },
    /// The pending payments of a wallet, an agent or a token, newest first.
    #[command(after_help = "Example:\n  kanjo pending list alice")]
    List(ListArgs),
}

/// Options of `kanjo pending reserve`.
#[derive(Debug, Args)]
pub struct ReserveArgs {
    /// Paying wallet: id or local name.
    from: String,
    /// Receiving wallet: id or local name.
    to: String,
    /// How much, at most, can be posted, in whole tokens.
    amount: String,
    /// Token symbol or number.
    #[arg(long, value_name = "SYMBOL")]
    token: String,
    /// How long it can be posted; then the money goes back by itself.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "7d")]
    expires_in: Duration,
    /// Who posts or voids it; the receiver when left out.
    #[arg(long, value_name = "USER")]
    agent: Option<String>,
    /// What for, at most 64 bytes; public for ever, so no personal data.
    #[arg(long, value_name = "TEXT", default_value = "")]
    reference: String,
    /// Another payment reserved with it, as "alice pays 5 JPY to bob"; repeat it for more.
    #[arg(long, value_name = "PAYMENT", value_parser = parse_leg)]
    also: Vec<LegText>,
    #[command(flatten)]
    sign: SignArgs,
}

/// Options of `kanjo pending void`.
#[derive(Debug, Args)]
pub struct SettleArgs {
    /// Which: the first of its chain.
    pending: PendingId,
    /// Who signs, when it is not the agent whose key is here.
    #[arg(long = "as", value_name = "USER")]
    author: Option<String>,
    #[command(flatten)]
    sign: SignArgs,
}

/// Options of `kanjo pending post`.
#[derive(Debug, Args)]
pub struct PostArgs {
    #[command(flatten)]
    settle: SettleArgs,
    /// How much of it, in whole tokens; all when left out. The rest goes back.
    #[arg(long, value_name = "AMOUNT")]
    amount: Option<String>,
}

/// Runs `kanjo pending`.
pub fn pending(ctx: &Context, command: PendingCommand) -> Done {
    match command {
        PendingCommand::Reserve(args) => reserve(ctx, &args),
        PendingCommand::Post(args) => settle(ctx, &args.settle, Some(args.amount.as_deref())),
        PendingCommand::Void(args) => settle(ctx, &args, None),
        PendingCommand::Show { pending } => show(ctx, pending),
        PendingCommand::List(list) => show_list(ctx, &list),
    }
}

fn reserve(ctx: &Context, args: &ReserveArgs) -> Done {
    let session = ctx.session()?;
    let token = session.token(&args.token)?;
    let first = Leg {
        token: token.id,
        from: session.book.wallet(&args.from)?,
        to: session.book.wallet(&args.to)?,
        amount: parse_amount(&args.amount, token.decimals)?,
        reference: args.reference.clone(),
    };
    let mut legs = vec![first];
    for also in &args.also {
        legs.push(also.resolve(&session)?);
    }
    let agent = args.agent.as_ref().map(|agent| session.book.user(agent)).transpose()?;
    let expires_in = u64::try_from(args.expires_in.as_millis()).unwrap_or(u64::MAX);
    let expires_ms = now_ms().saturating_add(expires_in);
    let owners = legs.iter().map(|leg| Ok(wallet::find(&session, leg.from)?.owner));
    let signers = owners.collect::<Done<Vec<UserId>>>()?;
    let operations = legs.iter().enumerate().map(|(number, leg)| Operation::Reserve {
        token: leg.token,
        from: leg.from,
        to: leg.to,
        amount: leg.amount,
        expires_ms,
        agent,
        linked: number > 0,
        reference: leg.reference.clone(),
    });
    let sent = send_together(ctx, &session, &signers, operations.collect(), &args.sign)?;
    let id = |number| PendingId::derive(sent.id(), operation_number(&signers, number), 0);
    let ids: Vec<PendingId> = (0u32..).zip(&legs).map(|(number, _)| id(number)).collect();
    let head = id(0);
    let labels = Labels::of(&session)?;
    let json = json!({ "pending": head, "chain": ids, "expires_ms": expires_ms, "sent": sent });
    ctx.answer(&json, || {
        if matches!(sent, Sent::Recorded { .. }) {
            for leg in &legs {
                let (from, to) = (session.wallet_label(leg.from), session.wallet_label(leg.to));
                let money = bold(&labels.money(leg.token, leg.amount));
                say!("Reserved {money} of {from} for {to}.");
            }
            say!("  pending  {head}");
            say!("  until    {}; then it goes back by itself", utc(expires_ms));
        }
        say!("  {}", dim(&sent.sentence()));
        if matches!(sent, Sent::Recorded { .. }) {
            ctx.next(&format!("pending post {head}"));
        }
    })
}

fn read(session: &Session, id: PendingId) -> Done<PendingRecord> {
    let what = format!("pending payment {id}");
    match listing::record(session, Rows::Pendings, RowKey::item(id.0), &what)? {
        Record::Pending(record) => Ok(*record),
        _ => Err(listing::other_record()),
    }
}

/// Who must sign for a chain: the agent of each of its members.
fn agents(session: &Session, head: &PendingRecord) -> Done<Vec<UserId>> {
    let mut agents = Vec::new();
    let members = head.members.iter().map(|id| read(session, *id));
    for one in std::iter::once(Ok(head.clone())).chain(members) {
        let one = one?;
        let agent = match one.agent {
            Some(agent) => agent,
            None => wallet::find(session, one.to)?.owner,
        };
        if !agents.contains(&agent) {
            agents.push(agent);
        }
    }
    Ok(agents)
}

/// Posts (`Some`, with the amount if one was given) or voids.
fn settle(ctx: &Context, args: &SettleArgs, post: Option<Option<&str>>) -> Done {
    let session = ctx.session()?;
    let before = read(&session, args.pending)?;
    let signers = match (&args.author, agents(&session, &before)?) {
        (Some(_), agents) => {
            vec![pick_signer(ctx, &session, &agents, args.author.as_ref(), &args.sign)?]
        }
        (None, agents) => agents,
    };
    let decimals = session.client.token(before.token)?.decimals;
    let operation = match post {
        Some(amount) => Operation::Post {
            pending: args.pending,
            amount: amount.map(|text| parse_amount(text, decimals)).transpose()?,
        },
        None => Operation::Void { pending: args.pending },
    };
    let sent = send_together(ctx, &session, &signers, vec![operation], &args.sign)?;
    let after = match &sent {
        Sent::Recorded { .. } => Some(read(&session, args.pending)?),
        Sent::Drafted { .. } => None,
    };
    let labels = Labels::of(&session)?;
    let status = after.as_ref().map(|record| record.status);
    ctx.answer(&json!({ "pending": args.pending, "status": status, "sent": sent }), || {
        if let Some(record) = &after {
            say!("{}: {}.", bold("Done"), status_text(record, &labels));
            if !record.members.is_empty() {
                say!("  with {} linked to it", record.members.len());
            }
        }
        say!("  {}", dim(&sent.sentence()));
    })
}

fn status_text(record: &PendingRecord, labels: &Labels<'_>) -> String {
    match record.status {
        PendingStatus::Open => "open".to_owned(),
        PendingStatus::Posted(amount) => format!("posted {}", labels.money(record.token, amount)),
        PendingStatus::Voided => "voided, the money went back".to_owned(),
        PendingStatus::Expired => "expired, the money went back".to_owned(),
    }
}

fn show(ctx: &Context, id: PendingId) -> Done {
    let session = ctx.session()?;
    let record = read(&session, id)?;
    let labels = Labels::of(&session)?;
    let agents = agents(&session, &record)?;
    ctx.answer(&record, || {
        say!("Pending payment {}", bold(&id.to_string()));
        say!("  status   {}", status_text(&record, &labels));
        say!("  from     {}", session.wallet_label(record.from));
        say!("  to       {}", session.wallet_label(record.to));
        say!("  amount   {}", labels.money(record.token, record.amount));
        if record.fee.0 > 0 {
            say!("  fee      {} reserved on top", labels.money(record.token, record.fee));
        }
        let names: Vec<String> = agents.iter().map(|agent| session.user_label(*agent)).collect();
        say!("  agent    {}", names.join(" and "));
        say!("  made     {}", utc(record.created_ms));
        say!("  until    {}", utc(record.expires_ms));
        if !record.reference.is_empty() {
            say!("  for      {}", record.reference);
        }
        if record.chain != id {
            say!("  part of  {}", record.chain);
        }
        for member in &record.members {
            say!("  with     {member}");
        }
    })
}

fn show_list(ctx: &Context, list: &ListArgs) -> Done {
    let session = ctx.session()?;
    let labels = Labels::of(&session)?;
    let page = listing::page(&session, Rows::Pendings, list)?;
    let table = Table::new(&[
        ("pending payment", Align::Left),
        ("status", Align::Left),
        ("from", Align::Left),
        ("to", Align::Left),
        ("amount", Align::Right),
        ("until", Align::Left),
    ]);
    listing::answer(ctx, &page, table, |record| match record {
        Record::Pending(one) => Some(vec![
            one.id.to_string(),
            status_text(one, &labels),
            session.wallet_label(one.from),
            session.wallet_label(one.to),
            labels.money(one.token, one.amount),
            utc(one.expires_ms),
        ]),
        _ => None,
    })
}
