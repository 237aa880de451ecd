//! `kanjo recovery`: guardians give a user that lost its keys new ones, after a delay in which the
//! user can object.

use super::act::{approve, finish, reject_as};
use super::user::{KeysArgs, access};
use crate::author::{Sent, SignArgs, send_together};
use crate::context::Context;
use crate::describe::{Labels, holders_text};
use crate::fail::{Done, Fail};
use crate::orders::{MoveArgs, OrderArgs, act_record, order};
use crate::say;
use crate::text::{bold, dim, duration, parse_duration};
use crate::typed::{HoldersText, parse_holders};
use clap::{Args, Subcommand};
use kanjo_types::Operation;
use kanjo_types::money::{Act, Role};
use serde_json::json;
use std::time::Duration;

/// New keys from guardians.
#[derive(Debug, Subcommand)]
pub enum RecoveryCommand {
    /// Name the guardians who can give a user new keys; the user itself signs, in good time.
    #[command(after_help = "Example:\n  kanjo recovery guardians alice ann,ben,cleo:2 --delay 3d")]
    Guardians(GuardiansArgs),
    /// Order new keys for a user, as one of its guardians.
    #[command(after_help = "Example:\n  kanjo key new alice-2\n  \
        kanjo recovery start alice --new-key alice-2 --as ann")]
    Start(StartArgs),
    /// Agree to new keys, as another guardian.
    #[command(after_help = "Example:\n  kanjo recovery approve kja1… --as ben")]
    Approve(MoveArgs),
    /// Put the new keys in force when the delay has passed.
    #[command(after_help = "Example:\n  kanjo recovery finish kja1… --as ann")]
    Finish(MoveArgs),
    /// Object to new keys, as the user itself with its present keys.
    #[command(after_help = "Example:\n  kanjo recovery veto kja1…")]
    Veto(MoveArgs),
}

/// Options of `kanjo recovery guardians`.
#[derive(Debug, Args)]
pub struct GuardiansArgs {
    /// Whose: user id or local name.
    user: String,
    /// The guardians and how many of them must agree, such as ann,ben,cleo:2.
    #[arg(value_name = "USERS:HOW_MANY", value_parser = parse_holders)]
    guardians: HoldersText,
    /// How long the user can object after they agreed.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "3d")]
    delay: Duration,
    #[command(flatten)]
    sign: SignArgs,
}

/// Options of `kanjo recovery start`.
#[derive(Debug, Args)]
pub struct StartArgs {
    /// Who lost its keys: user id or local name.
    user: String,
    #[command(flatten)]
    keys: KeysArgs,
    #[command(flatten)]
    order: OrderArgs,
}

/// Runs `kanjo recovery`.
pub fn recovery(ctx: &Context, command: RecoveryCommand) -> Done {
    match command {
        RecoveryCommand::Guardians(args) => guardians(ctx, &args),
        RecoveryCommand::Start(args) => start(ctx, &args),
        RecoveryCommand::Approve(args) => approve(ctx, &args),
        RecoveryCommand::Finish(args) => finish(ctx, &args),
        RecoveryCommand::Veto(args) => veto(ctx, &args),
    }
}

fn guardians(ctx: &Context, args: &GuardiansArgs) -> Done {
    let session = ctx.session()?;
    let user = session.book.user(&args.user)?;
    let grant = args.guardians.resolve(&session, Role::Guardian)?;
    let delay_ms = u64::try_from(args.delay.as_millis()).unwrap_or(u64::MAX);
    let operations = vec![Operation::SetGuardians { grant: grant.clone(), delay_ms }];
    let sent = send_together(ctx, &session, &[user], operations, &args.sign)?;
    let labels = Labels::of(&session)?;
    let json = json!({
        "user": user, "guardians": grant.holders, "threshold": grant.threshold,
        "delay_ms": delay_ms, "sent": sent,
    });
    ctx.answer(&json, || {
        if matches!(sent, Sent::Recorded { .. }) {
            say!(
                "{}: {}, after {}.",
                bold(&format!("Guardians of {}", session.user_label(user))),
                holders_text(&grant.holders, grant.threshold, &labels),
                duration(delay_ms)
            );
        }
        say!("  {}", dim(&sent.sentence()));
    })
}

fn start(ctx: &Context, args: &StartArgs) -> Done {
    let access = access(ctx, &args.keys)?;
    let session = ctx.session()?;
    let user = session.book.user(&args.user)?;
    let act = Act::Recover { user, access: Box::new(access) };
    let ordered = order(ctx, &session, act, Vec::new(), &args.order, Some("LOST_KEYS"))?;
    if ctx.json {
        return ctx.answer(&ordered.json(json!({ "user": user })), || {});
    }
    let done = bold(&format!("{} has new keys.", session.user_label(user)));
    ordered.tell(ctx, &session, &done)
}

fn veto(ctx: &Context, args: &MoveArgs) -> Done {
    let session = ctx.session()?;
    let record = act_record(&session, args.act)?;
    let Act::Recover { user, .. } = record.act else {
        return Err(Fail::new("not_a_recovery", "this act gives nobody new keys")
            .next("reject other acts with: kanjo act reject ACT"));
    };
    reject_as(ctx, &session, &record, &[user], args)
}
