//! `kanjo user`: register, show, change keys.

use crate::author::{Authored, Sent, SignArgs, access_of, send};
use crate::context::{Context, Session};
use crate::fail::{Done, Fail};
use crate::home::check_name;
use crate::say;
use crate::text::{bold, dim, utc};
use clap::{Args, Subcommand};
use kanjo_types::record::Record;
use kanjo_types::{Access, Operation, UserId, WalletId};
use serde_json::json;

/// Users: register, show, change keys.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Register a user with one key, or with several of which some must sign.
    #[command(after_help = "Example:\n  kanjo user create alice --key alice --with-wallet\n  \
        kanjo user create board --shared \"2 of ann,ben,cleo\"\n  \
        kanjo user create bob --key bob.pub --sponsor operator")]
    Create(CreateArgs),
    /// A user's keys and wallets.
    #[command(after_help = "Example:\n  kanjo user show alice")]
    Show {
        /// User id or local name.
        user: String,
    },
    /// Replace a user's keys; its present keys sign.
    #[command(after_help = "Example:\n  kanjo key new alice-2\n  \
        kanjo user rotate-keys alice --new-key alice-2")]
    RotateKeys(RotateArgs),
    /// Give a user's id a local name.
    #[command(after_help = "Example:\n  kanjo user name bob kju1…")]
    Name {
        /// The name.
        name: String,
        /// The id.
        id: UserId,
    },
}

/// Options of `kanjo user create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Local name of the user; the key's name when left out.
    name: Option<String>,
    /// Its key: a key's name, a public key, or a file with one.
    #[arg(long, value_name = "KEY", conflicts_with = "shared", required_unless_present = "shared")]
    key: Option<String>,
    /// Several keys of which some must sign, as "2 of ann,ben,cleo".
    #[arg(long, value_name = "K of KEYS", value_parser = parse_shared, requires = "name")]
    shared: Option<Shared>,
    /// Lets one set of keys hold several users; 0 for the first.
    #[arg(long, default_value_t = 0)]
    number: u64,
    /// Open its first wallet too, in the same transaction.
    #[arg(long)]
    with_wallet: bool,
    /// The user that registers it and signs for that; itself when left out.
    #[arg(long, value_name = "USER")]
    sponsor: Option<String>,
    /// Key of the sponsor, when it is not found by itself.
    #[arg(long, value_name = "KEY", requires = "sponsor")]
    sponsor_key: Vec<String>,
}

/// The keys that a user is to have.
#[derive(Debug, Args)]
pub struct KeysArgs {
    /// The key it has from now on: a key's name, a public key, or a file with one.
    #[arg(long, value_name = "KEY", conflicts_with = "shared", required_unless_present = "shared")]
    new_key: Option<String>,
    /// Several keys of which some must sign, as "2 of ann,ben,cleo".
    #[arg(long, value_name = "K of KEYS", value_parser = parse_shared)]
    shared: Option<Shared>,
}

/// Options of `kanjo user rotate-keys`.
#[derive(Debug, Args)]
pub struct RotateArgs {
    /// User id or local name.
    user: String,
    #[command(flatten)]
    keys: KeysArgs,
    #[command(flatten)]
    sign: SignArgs,
}

/// `K of a,b,c`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    threshold: u8,
    keys: Vec<String>,
}

fn parse_shared(text: &str) -> Result<Shared, String> {
    let wrong = || {
        format!("'{text}' is not a rule of shared access: write for example \"2 of ann,ben,cleo\"")
    };
    let (threshold, keys) = text.split_once(" of ").ok_or_else(wrong)?;
    let threshold = threshold.trim().parse().map_err(|_| wrong())?;
    let keys: Vec<String> = keys.split(',').map(|key| key.trim().to_owned()).collect();
    if keys.iter().any(String::is_empty) { Err(wrong()) } else { Ok(Shared { threshold, keys }) }
}

/// The access that was typed.
pub fn access(ctx: &Context, keys: &KeysArgs) -> Done<Access> {
    access_of_keys(ctx, keys.new_key.as_deref(), keys.shared.as_ref())
}

fn access_of_keys(ctx: &Context, key: Option<&str>, shared: Option<&Shared>) -> Done<Access> {
    let one = key.map(|key| Shared { threshold: 1, keys: vec![key.to_owned()] });
    let rule = shared
        .cloned()
        .or(one)
        .ok_or_else(|| Fail::usage("give --key KEY or --shared \"2 of ann,ben,cleo\""))?;
    let keys = rule.keys.iter().map(|key| ctx.public_key(key)).collect::<Done<Vec<_>>>()?;
    Access::new(rule.threshold, keys).map_err(|error| Fail::new("invalid_keys", error))
}

/// Runs `kanjo user`.
pub fn user(ctx: &Context, command: UserCommand) -> Done {
    match command {
        UserCommand::Create(args) => create(ctx, &args),
        UserCommand::Show { user } => show(ctx, &user),
        UserCommand::RotateKeys(args) => rotate(ctx, &args),
        UserCommand::Name { name, id } => {
            check_name(&name)?;
            let mut session = ctx.session()?;
            session.client.user(id)?;
            session.book.users.insert(name.clone(), id);
            ctx.home.save_book(&session.book)?;
            ctx.answer(&json!({ "name": name, "id": id }), || say!("{name} is {id} from now on."))
        }
    }
}

fn create(ctx: &Context, args: &CreateArgs) -> Done {
    let access = access_of_keys(ctx, args.key.as_deref(), args.shared.as_ref())?;
    let mut session = ctx.session()?;
    let id = UserId::derive(session.status.chain, &access, args.number);
    let name = local_name(ctx, args)?;
    check_free(&session, &name, id)?;
    let mut operations =
        vec![Operation::CreateUser { access: access.clone(), number: args.number }];
    let wallet = WalletId::derive(session.status.chain, id, 0);
    if args.with_wallet {
        operations.push(Operation::CreateWallet { owner: id, number: 0 });
    }
    let (author, author_access, keys) = match &args.sponsor {
        Some(sponsor) => {
            let sponsor = session.book.user(sponsor)?;
            (sponsor, access_of(&session.client, sponsor)?, args.sponsor_key.clone())
        }
        None => (id, access, Vec::new()),
    };
    let sign = SignArgs { keys, valid_for: kanjo_client::VALID_FOR_DEFAULT, draft: None };
    let authored = Authored { author, access: author_access, operations };
    let sent = send(ctx, &session, authored, &sign).map_err(|fail| closed(fail, args))?;
    session.book.users.insert(name.clone(), id);
    if args.with_wallet {
        session.book.wallets.insert(name.clone(), wallet);
    }
    ctx.home.save_book(&session.book)?;
    let wallet = args.with_wallet.then_some(wallet);
    ctx.answer(&json!({ "user": id, "name": name, "wallet": wallet, "sent": sent }), || {
        say!("User {} registered.", bold(&name));
        say!("  user    {id}");
        if let Some(wallet) = wallet {
            say!("  wallet  {wallet}");
        }
        say!("  {}", dim(&sent.sentence()));
        if wallet.is_none() {
            ctx.next(&format!("wallet create {name} --user {name}"));
        }
    })
}

fn local_name(ctx: &Context, args: &CreateArgs) -> Done<String> {
    let name = match (&args.name, &args.key) {
        (Some(name), _) => name.clone(),
        (None, Some(key)) if ctx.home.keys().path(key).is_ok_and(|path| path.exists()) => {
            key.clone()
        }
        _ => return Err(Fail::usage("give the user a name: kanjo user create NAME --key KEY")),
    };
    check_name(&name)?;
    Ok(name)
}

fn check_free(session: &Session, name: &str, id: UserId) -> Done {
    match session.book.users.get(name) {
        Some(other) if *other != id => Err(Fail::new(
            "name_taken",
            format!("'{name}' is the local name of another user, {other}"),
        )
        .next("choose another name")),
        _ => Ok(()),
    }
}

/// A self-registration on a ledger that only lets operators register is refused as "unknown
/// author".
fn closed(fail: Fail, args: &CreateArgs) -> Fail {
    if fail.code == "unknown_author" && args.sponsor.is_none() {
        return Fail::new("not_permitted", "on this ledger only operators register users")
            .next("let an operator sponsor it: add --sponsor OPERATOR");
    }
    fail
}

fn show(ctx: &Context, user: &str) -> Done {
    let session = ctx.session()?;
    let id = session.book.user(user)?;
    let view = session.client.user(id)?;
    ctx.answer(&view, || {
        say!("User {}", bold(&session.user_label(id)));
        say!("  id        {id}");
        if let Record::User(record) = &view.current.record {
            let (threshold, keys) = (record.access.threshold(), record.access.keys());
            for (position, key) in keys.iter().enumerate() {
                let title = if position == 0 { "keys" } else { "" };
                say!("  {title:<8}  {key}");
            }
            if keys.len() > 1 {
                say!("            {threshold} of {} must sign", keys.len());
            }
            say!("  sponsor   {}", session.user_label(record.sponsor));
            say!("  version   {}", record.version);
        }
        say!("  since     block {}, {}", view.current.height, utc(view.current.time_ms));
        for (position, wallet) in view.wallets.iter().enumerate() {
            let title = if position == 0 { "wallets" } else { "" };
            let name = session.book.wallet_name(*wallet).unwrap_or_default();
            say!("  {title:<8}  {wallet}  {}", dim(name));
        }
        if view.wallets.is_empty() {
            say!("  wallets   none");
        }
    })
}

fn rotate(ctx: &Context, args: &RotateArgs) -> Done {
    let new_access = access(ctx, &args.keys)?;
    let session = ctx.session()?;
    let id = session.book.user(&args.user)?;
    let access = access_of(&session.client, id)?;
    if access == new_access {
        return Err(Fail::new("same_keys", "these are the user's keys already"));
    }
    let operations = vec![Operation::RotateKeys { user: id, access: new_access }];
    let sent = send(ctx, &session, Authored { author: id, access, operations }, &args.sign)?;
    ctx.answer(&json!({ "user": id, "sent": sent }), || {
        if matches!(sent, Sent::Recorded { .. }) {
            say!("Keys of {} replaced.", bold(&session.user_label(id)));
        }
        say!("  {}", dim(&sent.sentence()));
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_access_is_read_as_people_write_it() {
        let shared = parse_shared("2 of ann, ben,cleo").expect("fine");
        assert_eq!(shared.threshold, 2);
        assert_eq!(shared.keys, ["ann", "ben", "cleo"]);
        for bad in ["", "2", "two of a,b", "2 of", "2 of a,,b", "300 of a,b"] {
            assert!(parse_shared(bad).is_err(), "{bad}");
        }
    }
}
