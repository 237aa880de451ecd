//! `kanjo bundle`: payments of several parties, all or nothing. Signed offline in a file by all, or
//! agreed to on the ledger one after the other.

use super::listing::{self, ListArgs};
use super::tx::{sign_file, submit_file};
use super::wallet;
use crate::author::{
    Sent, SignArgs, cosigning, operation_number, pick_signer, send_together, with_parties,
    write_draft,
};
use crate::context::{Context, Session};
use crate::describe::{Labels, condition_text, describe, leg_text};
use crate::fail::{Done, Fail};
use crate::say;
use crate::text::{Align, Table, bold, dim, parse_duration, utc};
use crate::typed::{ConditionText, LegText, parse_condition, parse_leg};
use clap::{Args, Subcommand};
use kanjo_client::now_ms;
use kanjo_types::money::{Condition, Leg};
use kanjo_types::record::{Record, RowKey, Table as Rows};
use kanjo_types::standing::{BundleRecord, BundleStatus};
use kanjo_types::{BundleId, Operation, UserId};
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;

/// Bundles.
#[derive(Debug, Subcommand)]
pub enum BundleCommand {
    /// Write payments of several parties to a file that all of them sign.
    #[command(after_help = "Example:\n  \
        kanjo bundle new --leg \"alice pays 100 JPY to bob\" --leg \"bob pays 1 VSM to alice\" \
        --out swap.json\n  \
        kanjo bundle sign swap.json --key alice\n  \
        kanjo bundle sign swap.json --key bob\n  \
        kanjo bundle send swap.json\n\n\
        All payments are made at once, or none is.")]
    New(NewArgs),
    /// Sign a bundle's file, having seen what it says. Works offline.
    #[command(after_help = "Example:\n  kanjo bundle sign swap.json --key alice")]
    Sign {
        /// The file.
        file: PathBuf,
        /// Key that signs, by name or path; those found in the home directory when left out.
        #[arg(long = "key", value_name = "KEY")]
        keys: Vec<String>,
    },
    /// Send a bundle's file that all parties have signed.
    #[command(after_help = "Example:\n  kanjo bundle send swap.json")]
    Send {
        /// The file.
        file: PathBuf,
    },
    /// Put a bundle on the ledger; it is paid when the last party agrees.
    #[command(after_help = "Example:\n  \
        kanjo bundle propose --leg \"alice pays 100 JPY to bob\" \
        --leg \"bob pays 1 VSM to alice\" --expires-in 2d")]
    Propose(ProposeArgs),
    /// Agree to a bundle on the ledger, as one of its parties.
    #[command(after_help = "Example:\n  kanjo bundle agree kjb1… --as bob")]
    Agree(PartyArgs),
    /// End an open bundle, as one of its parties.
    #[command(after_help = "Example:\n  kanjo bundle decline kjb1… --as bob")]
    Decline(PartyArgs),
    /// One bundle on the ledger.
    #[command(after_help = "Example:\n  kanjo bundle show kjb1…")]
    Show {
        /// Which.
        bundle: BundleId,
    },
    /// The bundles that a user is a party of, newest first.
    #[command(after_help = "Example:\n  kanjo bundle list alice")]
    List(ListArgs),
}

/// What is paid, and when.
#[derive(Debug, Args)]
pub struct ContentArgs {
    /// A payment, as "alice pays 100 JPY to bob"; repeat it, in order.
    #[arg(long = "leg", value_name = "PAYMENT", required = true, value_parser = parse_leg)]
    legs: Vec<LegText>,
    /// What must hold, such as "alice balance>=500 JPY", "bob approved JPY" or
    /// "time<=2026-12-01T00:00:00Z"; repeat it for more.
    #[arg(long, value_name = "CONDITION", value_parser = parse_condition)]
    require: Vec<ConditionText>,
}

/// Options of `kanjo bundle new`.
#[derive(Debug, Args)]
pub struct NewArgs {
    #[command(flatten)]
    content: ContentArgs,
    /// Where to write it.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// How long the parties have to sign and send it.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "12h")]
    valid_for: Duration,
}

/// Options of `kanjo bundle propose`.
#[derive(Debug, Args)]
pub struct ProposeArgs {
    #[command(flatten)]
    content: ContentArgs,
    /// A user that must agree though it pays nothing; repeat it for more.
    #[arg(long = "party", value_name = "USER")]
    parties: Vec<String>,
    /// How long the parties have to agree.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "7d")]
    expires_in: Duration,
    /// Who proposes it, when it is not the first party whose key is here.
    #[arg(long = "as", value_name = "USER")]
    author: Option<String>,
    #[command(flatten)]
    sign: SignArgs,
}

/// Which bundle, and who speaks.
#[derive(Debug, Args)]
pub struct PartyArgs {
    /// Which.
    bundle: BundleId,
    /// The party, when it is not the first one whose key is here.
    #[arg(long = "as", value_name = "USER")]
    author: Option<String>,
    #[command(flatten)]
    sign: SignArgs,
}

struct Content {
    legs: Vec<Leg>,
    conditions: Vec<Condition>,
    /// Owners of the paying wallets, in the order of the legs.
    payers: Vec<UserId>,
}

fn resolve(session: &Session, args: &ContentArgs) -> Done<Content> {
    let legs = args.legs.iter().map(|leg| leg.resolve(session)).collect::<Done<Vec<_>>>()?;
    let conditions =
        args.require.iter().map(|one| one.resolve(session, None)).collect::<Done<Vec<_>>>()?;
    let mut payers = Vec::new();
    for leg in &legs {
        let owner = wallet::find(session, leg.from)?.owner;
        if !payers.contains(&owner) {
            payers.push(owner);
        }
    }
    Ok(Content { legs, conditions, payers })
}

/// Runs `kanjo bundle`.
pub fn bundle(ctx: &Context, command: BundleCommand) -> Done {
    match command {
        BundleCommand::New(args) => new(ctx, &args),
        BundleCommand::Sign { file, keys } => {
            sign_file(ctx, &file, &keys, ["bundle sign", "bundle send"])
        }
        BundleCommand::Send { file } => submit_file(ctx, &file),
        BundleCommand::Propose(args) => propose(ctx, &args),
        BundleCommand::Agree(args) => answer_as(ctx, &args, true),
        BundleCommand::Decline(args) => answer_as(ctx, &args, false),
        BundleCommand::Show { bundle } => show(ctx, bundle),
        BundleCommand::List(list) => show_list(ctx, &list),
    }
}

fn new(ctx: &Context, args: &NewArgs) -> Done {
    let session = ctx.session()?;
    let content = resolve(&session, &args.content)?;
    let conditions =
        content.conditions.into_iter().map(|condition| Operation::Require { condition });
    let payments = content.legs.into_iter().map(|leg| Operation::Transfer {
        token: leg.token,
        from: leg.from,
        to: leg.to,
        amount: leg.amount,
        reference: leg.reference,
    });
    let operations = conditions.chain(payments).collect();
    let (signers, operations) = with_parties(&session, &content.payers, operations)?;
    let file = cosigning(&session, signers, operations, args.valid_for)?;
    write_draft(&args.out, &file, false)?;
    let (_, needed) = file.progress();
    let labels = Labels::of(&session)?;
    let json = json!({
        "file": args.out, "id": file.id(), "needed": needed,
        "signers": file.progress_by_signer(),
    });
    ctx.answer(&json, || {
        say!("Bundle written to {}.", bold(&args.out.display().to_string()));
        describe(file.body(), &labels);
        ctx.next(&format!("bundle sign {} (by each party)", args.out.display()));
    })
}

fn propose(ctx: &Context, args: &ProposeArgs) -> Done {
    let session = ctx.session()?;
    let content = resolve(&session, &args.content)?;
    let mut parties = content.payers;
    for party in &args.parties {
        parties.push(session.book.user(party)?);
    }
    let author = pick_signer(ctx, &session, &parties, args.author.as_ref(), &args.sign)?;
    parties.retain(|party| *party != author);
    parties.sort_unstable();
    parties.dedup();
    if parties.is_empty() {
        return Err(Fail::usage(
            "nobody else has to agree: pay it with 'kanjo pay', or name a --party",
        ));
    }
    let expires_in = u64::try_from(args.expires_in.as_millis()).unwrap_or(u64::MAX);
    let expires_ms = now_ms().saturating_add(expires_in);
    let operation = Operation::ProposeBundle {
        parties: parties.clone(),
        conditions: content.conditions,
        legs: content.legs.clone(),
        expires_ms,
    };
    let sent = send_together(ctx, &session, &[author], vec![operation], &args.sign)?;
    let id = BundleId::derive(sent.id(), operation_number(&[author], 0), 0);
    let labels = Labels::of(&session)?;
    let json = json!({
        "bundle": id, "open": parties, "expires_ms": expires_ms, "sent": sent,
    });
    ctx.answer(&json, || {
        if matches!(sent, Sent::Recorded { .. }) {
            say!("{}", bold("Proposed; nothing is paid yet:"));
            content.legs.iter().for_each(|leg| say!("  {}", leg_text(leg, &labels)));
            say!("  bundle  {id}");
            let names: Vec<String> = parties.iter().map(|one| session.user_label(*one)).collect();
            say!("  open    until {}: {}", utc(expires_ms), names.join(", "));
        }
        say!("  {}", dim(&sent.sentence()));
        if matches!(sent, Sent::Recorded { .. }) {
            ctx.next(&format!("bundle agree {id} --as PARTY"));
        }
    })
}

fn read(session: &Session, id: BundleId) -> Done<BundleRecord> {
    let what = format!("bundle {id}");
    match listing::record(session, Rows::Bundles, RowKey::item(id.0), &what)? {
        Record::Bundle(record) => Ok(*record),
        _ => Err(listing::other_record()),
    }
}

fn answer_as(ctx: &Context, args: &PartyArgs, agree: bool) -> Done {
    let session = ctx.session()?;
    let before = read(&session, args.bundle)?;
    // Those that have not agreed yet go first.
    let mut parties = before.parties.clone();
    parties.sort_by_key(|party| party.agreed);
    let may: Vec<UserId> = parties.iter().map(|party| party.user).collect();
    let author = pick_signer(ctx, &session, &may, args.author.as_ref(), &args.sign)?;
    let operation = if agree {
        Operation::AgreeBundle { bundle: args.bundle }
    } else {
        Operation::DeclineBundle { bundle: args.bundle }
    };
    let sent = send_together(ctx, &session, &[author], vec![operation], &args.sign)?;
    let after = match &sent {
        Sent::Recorded { .. } => Some(read(&session, args.bundle)?),
        Sent::Drafted { .. } => None,
    };
    let labels = Labels::of(&session)?;
    let status = after.as_ref().map(|record| record.status);
    ctx.answer(&json!({ "bundle": args.bundle, "status": status, "sent": sent }), || {
        if let Some(record) = &after {
            tell(&session, record, &labels);
        }
        say!("  {}", dim(&sent.sentence()));
    })
}

fn status_word(status: BundleStatus) -> &'static str {
    match status {
        BundleStatus::Open => "open",
        BundleStatus::Done => "done, all is paid",
        BundleStatus::Declined => "declined, nothing was paid",
    }
}

fn tell(session: &Session, record: &BundleRecord, labels: &Labels<'_>) {
    say!("Bundle {}: {}.", bold(&record.id.to_string()), status_word(record.status));
    for leg in &record.legs {
        say!("  {}", leg_text(leg, labels));
    }
    for condition in &record.conditions {
        say!("  only if {}", condition_text(condition, labels));
    }
    for party in &record.parties {
        let said = if party.agreed { "has agreed" } else { "has not agreed" };
        say!("  {} {said}", session.user_label(party.user));
    }
}

fn show(ctx: &Context, id: BundleId) -> Done {
    let session = ctx.session()?;
    let record = read(&session, id)?;
    let labels = Labels::of(&session)?;
    ctx.answer(&record, || {
        tell(&session, &record, &labels);
        say!("  until {}", utc(record.expires_ms));
    })
}

fn show_list(ctx: &Context, list: &ListArgs) -> Done {
    let session = ctx.session()?;
    let labels = Labels::of(&session)?;
    let page = listing::page(&session, Rows::Bundles, list)?;
    let table = Table::new(&[
        ("bundle", Align::Left),
        ("status", Align::Left),
        ("agreed", Align::Left),
        ("until", Align::Left),
        ("payments", Align::Left),
    ]);
    listing::answer(ctx, &page, table, |record| match record {
        Record::Bundle(one) => {
            let agreed = one.parties.iter().filter(|party| party.agreed).count();
            let legs: Vec<String> = one.legs.iter().map(|leg| leg_text(leg, &labels)).collect();
            Some(vec![
                one.id.to_string(),
                status_word(one.status).to_owned(),
                format!("{agreed} of {}", one.parties.len()),
                utc(one.expires_ms),
                legs.join("; "),
            ])
        }
        _ => None,
    })
}
