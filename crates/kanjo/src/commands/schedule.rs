//! `kanjo schedule`: payments that the ledger makes by itself, once or again and again.

use super::listing::{self, ListArgs};
use super::wallet;
use crate::author::{Sent, SignArgs, operation_number, send_together};
use crate::commands::parse_amount;
use crate::context::{Context, Session};
use crate::describe::{Labels, every_text, when_short_text};
use crate::fail::Done;
use crate::say;
use crate::text::{Align, Table, When, bold, dim, parse_when, utc};
use crate::typed::{parse_every, parse_when_short};
use clap::{Args, Subcommand};
use kanjo_client::now_ms;
use kanjo_types::money::{Every, WhenShort};
use kanjo_types::record::{Record, RowKey, Table as Rows};
use kanjo_types::standing::{ScheduleRecord, ScheduleStatus};
use kanjo_types::{Operation, ScheduleId};
use serde_json::json;

/// Scheduled and standing payments.
#[derive(Debug, Subcommand)]
pub enum ScheduleCommand {
    /// Order a payment for later, once or again and again; the owner of the paying wallet signs.
    #[command(after_help = "Example:\n  \
        kanjo schedule new alice landlord 900 --token JPY --first 2026-12-01T09:00:00Z \
        --every 1month --when-short retry:1d:3\n  \
        kanjo schedule new alice bob 5 --token JPY --first 24h")]
    New(NewArgs),
    /// End a scheduled payment; the owner of the paying wallet signs.
    #[command(after_help = "Example:\n  kanjo schedule cancel kjs1…")]
    Cancel(CancelArgs),
    /// One scheduled payment, and what came of its last date.
    #[command(after_help = "Example:\n  kanjo schedule show kjs1…")]
    Show {
        /// Which.
        schedule: ScheduleId,
    },
    /// The scheduled payments of a wallet or a token, newest first.
    #[command(after_help = "Example:\n  kanjo schedule list alice")]
    List(ListArgs),
}

/// Options of `kanjo schedule new`.
#[derive(Debug, Args)]
pub struct NewArgs {
    /// Paying wallet: id or local name.
    from: String,
    /// Receiving wallet: id or local name.
    to: String,
    /// How much each time, in whole tokens.
    amount: String,
    /// Token symbol or number.
    #[arg(long, value_name = "SYMBOL")]
    token: String,
    /// The first date: a time (2026-12-01T09:00:00Z) or a duration from now (24h).
    #[arg(long, value_name = "WHEN", value_parser = parse_when)]
    first: When,
    /// How often, such as 7d or 1month; once when left out.
    #[arg(long, value_name = "INTERVAL", value_parser = parse_every)]
    every: Option<Every>,
    /// How many dates in all; without end when left out.
    #[arg(long, value_name = "N", requires = "every")]
    times: Option<u32>,
    /// When it can't be paid: skip the date, stop for good, or retry:AFTER:TIMES.
    #[arg(long, value_name = "WHAT", value_parser = parse_when_short, default_value = "skip")]
    when_short: WhenShort,
    /// What for, at most 64 bytes; public for ever, so no personal data.
    #[arg(long, value_name = "TEXT", default_value = "")]
    reference: String,
    #[command(flatten)]
    sign: SignArgs,
}

/// Options of `kanjo schedule cancel`.
#[derive(Debug, Args)]
pub struct CancelArgs {
    /// Which.
    schedule: ScheduleId,
    #[command(flatten)]
    sign: SignArgs,
}

/// Runs `kanjo schedule`.
pub fn schedule(ctx: &Context, command: ScheduleCommand) -> Done {
    match command {
        ScheduleCommand::New(args) => new(ctx, &args),
        ScheduleCommand::Cancel(args) => cancel(ctx, &args),
        ScheduleCommand::Show { schedule } => show(ctx, schedule),
        ScheduleCommand::List(list) => show_list(ctx, &list),
    }
}

fn new(ctx: &Context, args: &NewArgs) -> Done {
    let session = ctx.session()?;
    let token = session.token(&args.token)?;
    let from = session.book.wallet(&args.from)?;
    let to = session.book.wallet(&args.to)?;
    let amount = parse_amount(&args.amount, token.decimals)?;
    let owner = wallet::find(&session, from)?.owner;
    let first_ms = args.first.ms(now_ms());
    let operation = Operation::Schedule {
        token: token.id,
        from,
        to,
        amount,
        first_ms,
        every: args.every,
        times: args.times,
        when_short: args.when_short,
        reference: args.reference.clone(),
    };
    let sent = send_together(ctx, &session, &[owner], vec![operation], &args.sign)?;
    let id = ScheduleId::derive(sent.id(), operation_number(&[owner], 0), 0);
    let labels = Labels::of(&session)?;
    let json = json!({ "schedule": id, "first_ms": first_ms, "sent": sent });
    ctx.answer(&json, || {
        if matches!(sent, Sent::Recorded { .. }) {
            let money = bold(&labels.money(token.id, amount));
            let (from, to) = (session.wallet_label(from), session.wallet_label(to));
            let often = args.every.map_or_else(|| "once".to_owned(), every_text);
            say!("Scheduled: {money} from {from} to {to}, {often}.");
            say!("  schedule  {id}");
            say!("  first     {}", utc(first_ms));
            say!("  {}", when_short_text(args.when_short));
        }
        say!("  {}", dim(&sent.sentence()));
    })
}

fn read(session: &Session, id: ScheduleId) -> Done<ScheduleRecord> {
    let what = format!("scheduled payment {id}");
    match listing::record(session, Rows::Schedules, RowKey::item(id.0), &what)? {
        Record::Schedule(record) => Ok(*record),
        _ => Err(listing::other_record()),
    }
}

fn cancel(ctx: &Context, args: &CancelArgs) -> Done {
    let session = ctx.session()?;
    let record = read(&session, args.schedule)?;
    let owner = wallet::find(&session, record.from)?.owner;
    let operation = Operation::CancelSchedule { schedule: args.schedule };
    let sent = send_together(ctx, &session, &[owner], vec![operation], &args.sign)?;
    ctx.answer(&json!({ "schedule": args.schedule, "sent": sent }), || {
        if matches!(sent, Sent::Recorded { .. }) {
            let count = if record.paid == 1 { "payment" } else { "payments" };
            say!("{} after {} {count}.", bold("Cancelled"), record.paid);
        }
        say!("  {}", dim(&sent.sentence()));
    })
}

fn status_word(status: ScheduleStatus) -> &'static str {
    match status {
        ScheduleStatus::Active => "active",
        ScheduleStatus::Ended => "ended, all dates are done",
        ScheduleStatus::Stopped => "stopped, it could not be paid",
        ScheduleStatus::Cancelled => "cancelled",
    }
}

fn show(ctx: &Context, id: ScheduleId) -> Done {
    let session = ctx.session()?;
    let record = read(&session, id)?;
    let labels = Labels::of(&session)?;
    ctx.answer(&record, || {
        say!("Scheduled payment {}", bold(&id.to_string()));
        say!("  status  {}", status_word(record.status));
        say!("  from    {}", session.wallet_label(record.from));
        say!("  to      {}", session.wallet_label(record.to));
        say!("  amount  {}", labels.money(record.token, record.amount));
        let often = record.every.map_or_else(|| "once".to_owned(), every_text);
        let times = record.times.map_or_else(String::new, |times| format!(", {times} times"));
        say!("  often   {often}{times}; {}", when_short_text(record.when_short));
        if record.status == ScheduleStatus::Active {
            say!("  next    {}", utc(record.next_ms));
        }
        say!("  paid    {} {}", record.paid, if record.paid == 1 { "time" } else { "times" });
        if let Some(last) = record.last {
            say!("  last    {}: {}", utc(last.at_ms), last.result);
        }
        if !record.reference.is_empty() {
            say!("  for     {}", record.reference);
        }
    })
}

fn show_list(ctx: &Context, list: &ListArgs) -> Done {
    let session = ctx.session()?;
    let labels = Labels::of(&session)?;
    let page = listing::page(&session, Rows::Schedules, list)?;
    let table = Table::new(&[
        ("schedule", Align::Left),
        ("status", Align::Left),
        ("from", Align::Left),
        ("to", Align::Left),
        ("amount", Align::Right),
        ("often", Align::Left),
        ("next", Align::Left),
        ("paid", Align::Right),
    ]);
    listing::answer(ctx, &page, table, |record| match record {
        Record::Schedule(one) => Some(vec![
            one.id.to_string(),
            status_word(one.status).to_owned(),
            session.wallet_label(one.from),
            session.wallet_label(one.to),
            labels.money(one.token, one.amount),
            one.every.map_or_else(|| "once".to_owned(), every_text),
            if one.status == ScheduleStatus::Active { utc(one.next_ms) } else { String::new() },
            one.paid.to_string(),
        ]),
        _ => None,
    })
}
