//! Administrative acts: who may order them, ordering, and what is still missing.

use crate::author::{Sent, SignArgs, operation_number, pick_signer, send_together};
use crate::context::{Context, Session};
use crate::describe::{Labels, act_text};
use crate::fail::{Done, Fail};
use crate::say;
use crate::text::{bold, dim, parse_duration, utc};
use clap::Args;
use kanjo_client::now_ms;
use kanjo_types::money::{Act, Evidence, Order, Reason, Scope};
use kanjo_types::record::{RowKey, Table};
use kanjo_types::standing::{ActRecord, ActStatus};
use kanjo_types::{ActId, Operation, Record, UserId};
use serde_json::{Value, json};
use std::time::Duration;

/// Why, by whom, and until when others may agree.
#[derive(Debug, Args)]
#[command(next_help_heading = "Order")]
pub struct OrderArgs {
    /// Why: a code of 1 to 16 characters of A-Z, 0-9 and _, such as COURT_ORDER. Freezing and
    /// reversing need it.
    #[arg(long, value_name = "CODE")]
    pub reason: Option<String>,
    /// A file number or the like, at most 64 bytes; public for ever, so no personal data.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reference: String,
    /// Who orders it, when it is not the first holder whose key is here; repeat it for holders
    /// that sign together.
    #[arg(long = "as", value_name = "USER")]
    pub signers: Vec<String>,
    /// How long other holders have to agree, when more must.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "7d")]
    pub expires_in: Duration,
    /// How it is signed.
    #[command(flatten)]
    pub sign: SignArgs,
}

/// An act that was ordered, agreed to or otherwise moved on.
pub struct Ordered {
    /// What became of the transaction.
    pub sent: Sent,
    /// Which act.
    pub id: ActId,
    /// As it is now; `None` for a draft.
    pub record: Option<ActRecord>,
}

/// Holders of the role that an act takes, and how many of them must agree.
pub fn holders_of(session: &Session, act: &Act) -> Done<(Vec<UserId>, u8)> {
    let role = act.role();
    match act.scope() {
        Scope::Token(token) => {
            let view = session.client.token(token)?;
            let found = view.authorities.into_iter().find(|one| one.role == role);
            Ok(found.map_or((vec![view.issuer], 1), |one| (one.holders, one.threshold)))
        }
        Scope::User(user) => {
            let key = RowKey::authority(Scope::User(user), role);
            let view = session.client.record(Table::Authorities, key).map_err(|error| {
                if error.is_not_found() {
                    let name = session.user_label(user);
                    Fail::new("no_guardians", format!("{name} has named no guardians"))
                        .next("it must do so itself, in time: kanjo recovery guardians USER …")
                } else {
                    error.into()
                }
            })?;
            match view.record {
                Record::Authority(record) => Ok((record.holders, record.threshold)),
                _ => Err(Fail::new("bad_answer", "the node answered with another record")),
            }
        }
    }
}

/// Those named with `--as`, or the first holder whose key is here.
fn signers_of(
    ctx: &Context,
    session: &Session,
    may: &[UserId],
    named: &[String],
    sign: &SignArgs,
) -> Done<Vec<UserId>> {
    if named.is_empty() {
        return Ok(vec![pick_signer(ctx, session, may, None, sign)?]);
    }
    named.iter().map(|user| session.book.user(user)).collect()
}

/// Are enough of the holders among these users?
pub fn are_enough(holders: &[UserId], threshold: u8, users: &[UserId]) -> bool {
    let count = holders.iter().filter(|holder| users.contains(holder)).count();
    count >= usize::from(threshold)
}

/// Orders an act. `usual` is the reason when none was given; without it a reason must be given.
pub fn order(
    ctx: &Context,
    session: &Session,
    act: Act,
    evidence: Vec<Evidence>,
    args: &OrderArgs,
    usual: Option<&str>,
) -> Done<Ordered> {
    let code = args.reason.as_deref().or(usual);
    let code = code.ok_or_else(|| Fail::usage("say why: --reason CODE, such as FRAUD"))?;
    let reason = Reason { code: code.to_owned(), reference: args.reference.clone() };
    let (holders, threshold) = holders_of(session, &act)?;
    let signers = signers_of(ctx, session, &holders, &args.signers, &args.sign)?;
    // The ledger takes evidence only with the agreement that makes a reversal done.
    let evidence = if are_enough(&holders, threshold, &signers) { evidence } else { Vec::new() };
    let expires_in = u64::try_from(args.expires_in.as_millis()).unwrap_or(u64::MAX);
    let order = Order { act, reason, expires_ms: now_ms().saturating_add(expires_in) };
    let operation = Operation::Act { order: Box::new(order), evidence };
    let sent = send_together(ctx, session, &signers, vec![operation], &args.sign)?;
    let id = ActId::derive(sent.id(), operation_number(&signers, 0), 0);
    finished(session, sent, id)
}

/// Which act, and who moves it on.
#[derive(Debug, Args)]
pub struct MoveArgs {
    /// Which.
    pub act: ActId,
    /// Who does it, when it is not the first who may and whose key is here; repeat it for holders
    /// that sign together.
    #[arg(long = "as", value_name = "USER")]
    pub signers: Vec<String>,
    /// How it is signed.
    #[command(flatten)]
    pub sign: SignArgs,
}

/// Moves an act on: agrees, rejects, finishes. By one of `may`, or those named with `--as`; what
/// they do may depend on who they are.
pub fn move_on(
    ctx: &Context,
    session: &Session,
    may: &[UserId],
    args: &MoveArgs,
    operation: impl FnOnce(&[UserId]) -> Done<Operation>,
) -> Done<Ordered> {
    let signers = signers_of(ctx, session, may, &args.signers, &args.sign)?;
    let operations = vec![operation(&signers)?];
    let sent = send_together(ctx, session, &signers, operations, &args.sign)?;
    finished(session, sent, args.act)
}

fn finished(session: &Session, sent: Sent, id: ActId) -> Done<Ordered> {
    let record = match &sent {
        Sent::Recorded { .. } => Some(act_record(session, id)?),
        Sent::Drafted { .. } => None,
    };
    Ok(Ordered { sent, id, record })
}

/// An act as the ledger has it.
pub fn act_record(session: &Session, id: ActId) -> Done<ActRecord> {
    let view = session.client.record(Table::Acts, RowKey::item(id.0)).map_err(|error| {
        if error.is_not_found() {
            Fail::new("unknown_act", format!("there is no act {id} on this ledger"))
                .next("see them: kanjo act list TOKEN")
        } else {
            error.into()
        }
    })?;
    match view.record {
        Record::Act(record) => Ok(*record),
        _ => Err(Fail::new("bad_answer", "the node answered with something else than an act")),
    }
}

/// One word for how an act stands, as in JSON.
pub fn status_word(status: ActStatus) -> &'static str {
    match status {
        ActStatus::Proposed => "proposed",
        ActStatus::Waiting(_) => "waiting",
        ActStatus::Done => "done",
        ActStatus::Rejected => "rejected",
    }
}

impl Ordered {
    /// The machine-readable answer, with `extra` beside it.
    pub fn json(&self, extra: Value) -> Value {
        let mut json = json!({
            "act": self.id,
            "status": self.record.as_ref().map(|record| status_word(record.status)),
            "agreed": self.record.as_ref().map(|record| &record.agreed),
            "sent": self.sent,
        });
        if let (Some(all), Value::Object(extra)) = (json.as_object_mut(), extra) {
            all.extend(extra);
        }
        json
    }

    /// Tells what came of it: `done` when it is done, otherwise who still must agree and how.
    pub fn tell(&self, ctx: &Context, session: &Session, done: &str) -> Done {
        let Some(record) = &self.record else {
            say!("  {}", dim(&self.sent.sentence()));
            return Ok(());
        };
        match record.status {
            ActStatus::Done => {
                say!("{done}");
                say!("  act  {}", self.id);
                say!("  {}", dim(&self.sent.sentence()));
                Ok(())
            }
            _ => {
                let next = tell_open(session, self.id, record)?;
                say!("  {}", dim(&self.sent.sentence()));
                next.iter().for_each(|next| ctx.next(next));
                Ok(())
            }
        }
    }
}

/// Tells who still must agree to an act, or when it takes effect; gives the command to type next.
pub fn tell_open(session: &Session, id: ActId, record: &ActRecord) -> Done<Option<String>> {
    let labels = Labels::of(session)?;
    let head = match record.status {
        ActStatus::Proposed => "Proposed, not done yet",
        ActStatus::Waiting(_) => "Agreed, not done yet",
        ActStatus::Done => "Done",
        ActStatus::Rejected => "Rejected",
    };
    say!("{}: {}.", bold(head), act_text(&record.act, &labels));
    say!("  act     {id}");
    let names = |users: &[UserId]| {
        users.iter().map(|user| session.user_label(*user)).collect::<Vec<_>>().join(", ")
    };
    match record.status {
        ActStatus::Proposed => {
            let (holders, threshold) = holders_of(session, &record.act)?;
            let (agreed, open): (Vec<UserId>, Vec<UserId>) =
                holders.iter().partition(|user| record.agreed.contains(user));
            let count = agreed.len();
            let role = record.act.role().name();
            say!("  agreed  {count} of {threshold} that must: {}", names(&record.agreed));
            say!("  open    another {role} until {}: {}", utc(record.expires_ms), names(&open));
            let first = open.first().map(|user| session.user_label(*user));
            Ok(first.map(|first| format!("act approve {id} --as {first}")))
        }
        ActStatus::Waiting(ready_ms) => {
            say!("  agreed  {}", names(&record.agreed));
            say!("  waits   until {}; then anyone can finish it", utc(ready_ms));
            Ok(Some(format!("act finish {id}")))
        }
        ActStatus::Done | ActStatus::Rejected => {
            say!("  agreed  {}", names(&record.agreed));
            Ok(None)
        }
    }
}
