//! `kanjo act`: administrative acts, and the agreement of several holders of a role.

use super::listing::{self, ListArgs};
use crate::context::{Context, Session};
use crate::describe::{Labels, act_text};
use crate::fail::{Done, Fail};
use crate::orders::{
    MoveArgs, OrderArgs, Ordered, act_record, are_enough, holders_of, move_on, order, status_word,
    tell_open,
};
use crate::say;
use crate::text::{Align, Table, bold, clipped, dim};
use clap::{Args, Subcommand};
use kanjo_types::money::{Act, Evidence};
use kanjo_types::record::{Record, Table as Rows};
use kanjo_types::standing::{ActRecord, ActStatus};
use kanjo_types::{ActId, Hash, Operation, UserId};
use serde_json::json;

/// Administrative acts.
#[derive(Debug, Subcommand)]
pub enum ActCommand {
    /// The acts of a token or a user, newest first.
    #[command(after_help = "Example:\n  kanjo act list GBP\n  kanjo act list GBP --open")]
    List {
        #[command(flatten)]
        list: ListArgs,
        /// Only those that are not done or rejected yet.
        #[arg(long)]
        open: bool,
    },
    /// One act: what, why, by whom, and who must still agree.
    #[command(after_help = "Example:\n  kanjo act show kja1…")]
    Show {
        /// Which.
        act: ActId,
    },
    /// Agree to an act, as a holder of its role; the last one needed makes it done.
    #[command(after_help = "Example:\n  kanjo act approve kja1… --as bob")]
    Approve(MoveArgs),
    /// Reject an act: as a holder of its role, as who ordered it, or as the user it would give new
    /// keys.
    #[command(after_help = "Example:\n  kanjo act reject kja1… --as bob")]
    Reject(MoveArgs),
    /// Do an act whose delay has passed.
    #[command(after_help = "Example:\n  kanjo act finish kja1… --as alice")]
    Finish(MoveArgs),
    /// Record on the ledger that a block was audited, as an auditor of a token.
    #[command(
        after_help = "Example:\n  kanjo verify --data ./copy     # prints the last header's hash\n  \
        kanjo act audit JPY --height 1200 --header 9f3c… --reference \"audit 2026-4\""
    )]
    Audit(AuditArgs),
}

/// Options of `kanjo act audit`.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// Token symbol or number: its auditor speaks.
    token: String,
    /// Height of the block.
    #[arg(long)]
    height: u64,
    /// Hash of its header, as the audit found it.
    #[arg(long, value_name = "HASH")]
    header: Hash,
    #[command(flatten)]
    order: OrderArgs,
}

/// Runs `kanjo act`.
pub fn act(ctx: &Context, command: ActCommand) -> Done {
    match command {
        ActCommand::List { list, open } => show_list(ctx, &list, open),
        ActCommand::Show { act } => show(ctx, act),
        ActCommand::Approve(args) => approve(ctx, &args),
        ActCommand::Reject(args) => reject(ctx, &args),
        ActCommand::Finish(args) => finish(ctx, &args),
        ActCommand::Audit(args) => audit(ctx, &args),
    }
}

fn audit(ctx: &Context, args: &AuditArgs) -> Done {
    let session = ctx.session()?;
    let token = session.token(&args.token)?;
    let (height, header) = (args.height, args.header);
    let on_ledger = session.client.block(height)?.hash;
    if on_ledger != header {
        let found = format!("block {height} of this ledger has header {on_ledger}, not {header}");
        return Err(Fail::new("other_header", found)
            .next("check height and hash; if both are right, this node shows another history"));
    }
    let act = Act::Audit { token: token.id, height, header };
    let ordered = order(ctx, &session, act, Vec::new(), &args.order, Some("AUDIT"))?;
    if ctx.json {
        let extra = json!({ "height": height, "header": header });
        return ctx.answer(&ordered.json(extra), || {});
    }
    let done = format!("{} header {header}.", bold(&format!("Audited: block {height},")));
    ordered.tell(ctx, &session, &done)
}

/// Most characters of an act in a list; 'act show' has them all.
const WIDTH_MAX: usize = 72;

fn show_list(ctx: &Context, list: &ListArgs, open: bool) -> Done {
    let session = ctx.session()?;
    let labels = Labels::of(&session)?;
    let mut page = listing::page(&session, Rows::Acts, list)?;
    if open {
        page.records.retain(|view| match &view.record {
            Record::Act(act) => {
                matches!(act.status, ActStatus::Proposed | ActStatus::Waiting(_))
            }
            _ => false,
        });
    }
    let table = Table::new(&[
        ("act", Align::Left),
        ("status", Align::Left),
        ("by", Align::Left),
        ("reason", Align::Left),
        ("what", Align::Left),
    ]);
    listing::answer(ctx, &page, table, |record| match record {
        Record::Act(act) => Some(vec![
            act.id.to_string(),
            status_word(act.status).to_owned(),
            session.user_label(act.maker),
            act.reason.code.clone(),
            clipped(&act_text(&act.act, &labels), WIDTH_MAX),
        ]),
        _ => None,
    })
}

fn show(ctx: &Context, id: ActId) -> Done {
    let session = ctx.session()?;
    let record = act_record(&session, id)?;
    if ctx.json {
        return ctx.answer(&record, || {});
    }
    let next = tell_open(&session, id, &record)?;
    say!("  role    {}", record.act.role().name());
    say!("  maker   {}", session.user_label(record.maker));
    let reference = &record.reason.reference;
    let reference = if reference.is_empty() { String::new() } else { format!(", \"{reference}\"") };
    say!("  reason  {}{reference}", record.reason.code);
    if let Some(user) = record.rejected_by {
        say!("  rejected by {}", session.user_label(user));
    }
    next.iter().for_each(|next| ctx.next(next));
    Ok(())
}

/// Who may agree and has not.
fn still_to_agree(session: &Session, record: &ActRecord) -> Done<Vec<UserId>> {
    let (holders, _) = holders_of(session, &record.act)?;
    let open: Vec<UserId> =
        holders.iter().copied().filter(|user| !record.agreed.contains(user)).collect();
    // When all have agreed, the ledger says so better than a missing key would.
    Ok(if open.is_empty() { holders } else { open })
}

/// What agreeing must bring: to a reversal that is done by it, the evidence of its transactions.
fn evidence_for(session: &Session, record: &ActRecord, signers: &[UserId]) -> Done<Vec<Evidence>> {
    let Act::Reverse { originals, trail, .. } = &record.act else { return Ok(Vec::new()) };
    let (holders, threshold) = holders_of(session, &record.act)?;
    let agreed: Vec<UserId> = record.agreed.iter().chain(signers).copied().collect();
    if !are_enough(&holders, threshold, &agreed) {
        return Ok(Vec::new());
    }
    let ids: Vec<_> = originals.iter().chain(trail).copied().collect();
    Ok(session.client.evidence_of(&ids)?)
}

fn answer(ctx: &Context, session: &Session, ordered: &Ordered, done: &str) -> Done {
    if ctx.json {
        return ctx.answer(&ordered.json(json!({})), || {});
    }
    ordered.tell(ctx, session, done)
}

/// Agrees to an act.
pub fn approve(ctx: &Context, args: &MoveArgs) -> Done {
    let session = ctx.session()?;
    let record = act_record(&session, args.act)?;
    let labels = Labels::of(&session)?;
    let may = still_to_agree(&session, &record)?;
    let moved = move_on(ctx, &session, &may, args, |signers| {
        let evidence = evidence_for(&session, &record, signers)?;
        Ok(Operation::ApproveAct { act: args.act, evidence })
    })?;
    let done = format!("{}: {}.", bold("Agreed and done"), act_text(&record.act, &labels));
    answer(ctx, &session, &moved, &done)
}

/// Rejects an act.
pub fn reject(ctx: &Context, args: &MoveArgs) -> Done {
    let session = ctx.session()?;
    let record = act_record(&session, args.act)?;
    let (mut may, _) = holders_of(&session, &record.act)?;
    may.insert(0, record.maker);
    if let Act::Recover { user, .. } = &record.act {
        may.insert(0, *user);
    }
    reject_as(ctx, &session, &record, &may, args)
}

/// Rejects an act as one of `may`.
pub fn reject_as(
    ctx: &Context,
    session: &Session,
    record: &ActRecord,
    may: &[UserId],
    args: &MoveArgs,
) -> Done {
    let moved = move_on(ctx, session, may, args, |_| Ok(Operation::RejectAct { act: args.act }))?;
    let labels = Labels::of(session)?;
    ctx.answer(&moved.json(json!({})), || {
        if moved.record.is_some() {
            say!("{}: {}.", bold("Rejected"), act_text(&record.act, &labels));
        }
        say!("  {}", dim(&moved.sent.sentence()));
    })
}

/// Does an act whose delay has passed.
pub fn finish(ctx: &Context, args: &MoveArgs) -> Done {
    let session = ctx.session()?;
    let record = act_record(&session, args.act)?;
    let labels = Labels::of(&session)?;
    // Anyone may: those concerned first, then whoever's name is known here.
    let (mut may, _) = holders_of(&session, &record.act)?;
    may.extend(session.book.users.values().copied());
    let moved = move_on(ctx, &session, &may, args, |_| Ok(Operation::FinishAct { act: args.act }))?;
    let done = format!("{}: {}.", bold("Done"), act_text(&record.act, &labels));
    answer(ctx, &session, &moved, &done)
}
