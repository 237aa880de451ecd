//! `kanjo attribute`: a personal attribute stays here; the ledger gets a commitment to it, and can
//! be told that it was erased.

use super::listing::{self, ListArgs};
use crate::attributes::AttributeStore;
use crate::author::{Sent, SignArgs, pick_signer, send_together};
use crate::context::{Context, Session};
use crate::fail::{Done, Fail};
use crate::say;
use crate::text::{Align, Table, bold, dim, green, red, utc};
use clap::{Args, Subcommand};
use kanjo_client::AttributeOpening;
use kanjo_types::record::{Record, RowKey, Table as Rows};
use kanjo_types::standing::AttributeRecord;
use kanjo_types::{Hash, Operation, UserId};
use serde_json::json;
use std::io::Read;

/// Personal attributes.
#[derive(Debug, Subcommand)]
pub enum AttributeCommand {
    /// Keep an attribute here and commit to it on the ledger; the user or its sponsor signs.
    #[command(after_help = "Example:\n  \
        kanjo attribute set alice legal_name \"Alice Example\" --as operator\n  \
        kanjo attribute set alice passport - < passport.txt\n\n\
        Only a salted hash goes to the ledger. Whoever signs is its custodian.")]
    Set(SetArgs),
    /// The value and the salt kept here, to disclose them, and what the ledger says.
    #[command(after_help = "Example:\n  kanjo attribute show alice legal_name")]
    Show {
        /// Whose: user id or local name.
        user: String,
        /// Which.
        name: String,
    },
    /// Check a disclosed value and its salt against the ledger.
    #[command(after_help = "Example:\n  \
        kanjo attribute check alice legal_name --value \"Alice Example\" --salt 9f3c…\n\n\
        Exit code 0 when they open the commitment, 1 when they don't.")]
    Check(CheckArgs),
    /// Erase an attribute kept here, then record on the ledger that it was erased.
    #[command(after_help = "Example:\n  kanjo attribute erase alice legal_name\n\n\
        The file is overwritten and removed. Copies elsewhere, backups and what a file system\n\
        keeps of old blocks are yours to erase; the record says that you did.")]
    Erase(EraseArgs),
    /// The attributes of a user that the ledger has commitments to.
    #[command(after_help = "Example:\n  kanjo attribute list alice")]
    List(ListArgs),
}

/// Options of `kanjo attribute set`.
#[derive(Debug, Args)]
pub struct SetArgs {
    /// Whose: user id or local name.
    user: String,
    /// Name of the attribute, such as legal_name: a-z, 0-9 and _.
    name: String,
    /// The attribute; "-" reads it from standard input, and keeps it out of the shell's history.
    value: String,
    /// Who commits to it and keeps it: the user itself, or its sponsor.
    #[arg(long = "as", value_name = "USER")]
    author: Option<String>,
    #[command(flatten)]
    sign: SignArgs,
}

/// Options of `kanjo attribute check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Whose: user id or local name.
    user: String,
    /// Which.
    name: String,
    /// The value that was disclosed.
    #[arg(long)]
    value: String,
    /// The salt that was disclosed, 64 hexadecimal digits.
    #[arg(long, value_name = "HEX")]
    salt: Hash,
}

/// Options of `kanjo attribute erase`.
#[derive(Debug, Args)]
pub struct EraseArgs {
    /// Whose: user id or local name.
    user: String,
    /// Which.
    name: String,
    /// Who says so: the custodian, or the user itself.
    #[arg(long = "as", value_name = "USER")]
    author: Option<String>,
    #[command(flatten)]
    sign: SignArgs,
}

/// Most bytes of a value.
const VALUE_BYTES_MAX: u64 = 64 << 10;

/// Runs `kanjo attribute`.
pub fn attribute(ctx: &Context, command: AttributeCommand) -> Done {
    match command {
        AttributeCommand::Set(args) => set(ctx, &args),
        AttributeCommand::Show { user, name } => show(ctx, &user, &name),
        AttributeCommand::Check(args) => check(ctx, &args),
        AttributeCommand::Erase(args) => erase(ctx, &args),
        AttributeCommand::List(list) => show_list(ctx, list),
    }
}

fn store(ctx: &Context, session: &Session) -> AttributeStore {
    AttributeStore::new(ctx.home.directory(), session.status.chain)
}

fn read_value(given: &str) -> Done<String> {
    if given != "-" {
        return Ok(given.to_owned());
    }
    let mut text = String::new();
    let mut input = std::io::stdin().take(VALUE_BYTES_MAX + 1);
    input.read_to_string(&mut text).map_err(|error| Fail::new("file", error))?;
    if text.len() as u64 > VALUE_BYTES_MAX {
        return Err(Fail::usage("the value has more than 64 KiB"));
    }
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// What the ledger has, if anything.
fn on_ledger(session: &Session, user: UserId, name: &str) -> Done<Option<AttributeRecord>> {
    match session.client.record(Rows::Attributes, RowKey::attribute(user, name)) {
        Ok(view) => match view.record {
            Record::Attribute(record) => Ok(Some(*record)),
            _ => Err(listing::other_record()),
        },
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn sponsor_of(session: &Session, user: UserId) -> Done<UserId> {
    match session.client.user(user)?.current.record {
        Record::User(record) => Ok(record.sponsor),
        _ => Err(listing::other_record()),
    }
}

fn set(ctx: &Context, args: &SetArgs) -> Done {
    let session = ctx.session()?;
    let user = session.book.user(&args.user)?;
    if args.sign.draft.is_some() {
        return Err(Fail::usage(
            "an attribute is signed here, where it is kept; leave out --draft",
        ));
    }
    let may = [user, sponsor_of(&session, user)?];
    let author = pick_signer(ctx, &session, &may, args.author.as_ref(), &args.sign)?;
    let opening = AttributeOpening::draw(&args.name, &read_value(&args.value)?)?;
    let store = store(ctx, &session);
    // On the disk before the ledger knows of it: a commitment that nobody can open is worse than a
    // file too many.
    store.prepare(user, &opening)?;
    let operations = vec![opening.operation(user)];
    let sent = send_together(ctx, &session, &[author], operations, &args.sign);
    if let Err(fail) = &sent
        && !matches!(fail.code.as_str(), "timeout" | "unreachable" | "bad_answer")
    {
        store.settle(user, &args.name, false)?;
    }
    let sent = sent?;
    store.settle(user, &args.name, true)?;
    let path = store.path(user, &args.name)?;
    let json = json!({
        "user": user, "name": args.name, "commitment": opening.commitment(), "custodian": author,
        "file": path, "sent": sent,
    });
    ctx.answer(&json, || {
        say!("{} of {} is committed to.", bold(&args.name), session.user_label(user));
        say!("  commitment  {}", opening.commitment());
        say!("  custodian   {}", session.user_label(author));
        say!("  kept in     {}", path.display());
        say!("  {}", dim(&sent.sentence()));
    })
}

fn show(ctx: &Context, user: &str, name: &str) -> Done {
    let session = ctx.session()?;
    let user = session.book.user(user)?;
    let kept = store(ctx, &session).load(user, name)?;
    let record = on_ledger(&session, user, name)?;
    if kept.is_none() && record.is_none() {
        return Err(Fail::new("unknown_attribute", format!("there is no attribute {name}"))
            .next("see what there is: kanjo attribute list USER"));
    }
    let opens = kept.as_ref().zip(record.as_ref());
    let opens = opens.map(|(kept, record)| kept.commitment() == record.commitment);
    let json = json!({ "user": user, "kept": kept, "record": record, "opens": opens });
    ctx.answer(&json, || {
        say!("{} of {}", bold(name), session.user_label(user));
        match &kept {
            Some(kept) => {
                say!("  value       {}", kept.value);
                say!("  salt        {}", kept.salt);
            }
            None => say!("  value       not kept here"),
        }
        if let Some(record) = &record {
            say!("  commitment  {}", record.commitment);
            say!("  custodian   {}", session.user_label(record.custodian));
            if let Some(erased_ms) = record.erased_ms {
                say!("  erased      {}", utc(erased_ms));
            }
        }
        match opens {
            Some(true) => say!("  {} the value kept here opens the commitment", green("✓")),
            Some(false) => say!("  {} the value kept here is another one", red("✗")),
            None => {}
        }
    })
}

fn check(ctx: &Context, args: &CheckArgs) -> Done {
    let session = ctx.session()?;
    let user = session.book.user(&args.user)?;
    let record = on_ledger(&session, user, &args.name)?.ok_or_else(|| {
        let name = session.user_label(user);
        Fail::new("unknown_attribute", format!("{name} has no attribute {}", args.name))
            .next("see what there is: kanjo attribute list USER")
    })?;
    let opening =
        AttributeOpening { name: args.name.clone(), value: args.value.clone(), salt: args.salt };
    if opening.commitment() != record.commitment {
        return Err(Fail::new(
            "commitment_differs",
            "value and salt don't open the commitment on the ledger: one of them is not what was \
             committed to",
        )
        .next("get both again from the custodian; every space counts"));
    }
    let json = json!({
        "ok": true, "commitment": record.commitment, "custodian": record.custodian,
        "erased_ms": record.erased_ms,
    });
    ctx.answer(&json, || {
        let name = session.user_label(user);
        say!("{} This is the {} of {name}.", green("✓"), bold(&args.name));
        say!("  committed to by {}", session.user_label(record.custodian));
        if let Some(erased_ms) = record.erased_ms {
            say!("  declared erased {}", utc(erased_ms));
        }
    })
}

fn erase(ctx: &Context, args: &EraseArgs) -> Done {
    let session = ctx.session()?;
    let user = session.book.user(&args.user)?;
    let record = on_ledger(&session, user, &args.name)?;
    let record = record.ok_or_else(|| {
        let name = session.user_label(user);
        Fail::new("unknown_attribute", format!("{name} has no attribute {}", args.name))
            .next("see what there is: kanjo attribute list USER")
    })?;
    let may = [record.custodian, user];
    // Whoever can't sign the record should learn it before anything is gone.
    let author = pick_signer(ctx, &session, &may, args.author.as_ref(), &args.sign)?;
    let store = store(ctx, &session);
    let was_here = store.erase(user, &args.name)?;
    let operations = vec![Operation::EraseAttribute { user, name: args.name.clone() }];
    let sent = send_together(ctx, &session, &[author], operations, &args.sign)?;
    let json = json!({
        "user": user, "name": args.name, "file_erased": was_here, "sent": sent,
    });
    ctx.answer(&json, || {
        let (what, name) = (bold(&args.name), session.user_label(user));
        if was_here {
            say!("{what} of {name} is erased here: overwritten and removed.");
        } else {
            say!("{what} of {name} was not kept here.");
        }
        if matches!(sent, Sent::Recorded { .. }) {
            say!("  the ledger records the erasure by {}", session.user_label(author));
        }
        say!("  {}", dim(&sent.sentence()));
    })
}

fn show_list(ctx: &Context, list: ListArgs) -> Done {
    let session = ctx.session()?;
    let store = store(ctx, &session);
    // Attributes are of users: a name stands for the user, also where a wallet has the same.
    let page = listing::page(&session, Rows::Attributes, &ListArgs { user: true, ..list })?;
    let table = Table::new(&[
        ("user", Align::Left),
        ("attribute", Align::Left),
        ("custodian", Align::Left),
        ("erased", Align::Left),
        ("kept here", Align::Left),
    ]);
    listing::answer(ctx, &page, table, |record| match record {
        Record::Attribute(one) => {
            let kept = store.load(one.user, &one.name).ok().flatten().is_some();
            Some(vec![
                session.user_label(one.user),
                one.name.clone(),
                session.user_label(one.custodian),
                one.erased_ms.map_or_else(String::new, utc),
                if kept { "yes" } else { "no" }.to_owned(),
            ])
        }
        _ => None,
    })
}
