//! From operations to a final transaction: find the author's keys, sign here, send, report.

use crate::context::{Context, Session};
use crate::fail::{Done, Fail, next_after};
use crate::text::parse_duration;
use clap::Args;
use kanjo_api::SubmitOutcome;
use kanjo_client::{Client, Cosigning, Draft, Signer};
use kanjo_types::outcome::Refusal;
use kanjo_types::record::Record;
use kanjo_types::transaction::SignedTransaction;
use kanjo_types::{Access, Operation, PublicKey, TransactionId, UserId};
use serde::Serialize;
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How a transaction is signed.
#[derive(Debug, Args)]
#[command(next_help_heading = "Signing")]
pub struct SignArgs {
    /// Key that signs, by name or path; repeat it for several. Without it, the signers' keys are
    /// looked for in the home directory.
    #[arg(long = "key", value_name = "KEY")]
    pub keys: Vec<String>,
    /// How long the ledger may take the transaction, such as 90s or 2m.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "2m")]
    pub valid_for: Duration,
    /// Write an unsigned draft to FILE instead of sending; others sign it with 'kanjo tx sign'.
    #[arg(long, value_name = "FILE")]
    pub draft: Option<PathBuf>,
}

/// Who does what.
pub struct Authored {
    /// Who signs.
    pub author: UserId,
    /// With which keys.
    pub access: Access,
    /// What is done.
    pub operations: Vec<Operation>,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Sent {
    /// Final and done.
    Recorded {
        /// The transaction.
        id: TransactionId,
        /// Block height.
        height: u64,
        /// Position in the block.
        position: u32,
    },
    /// Waiting for signatures in a file.
    Drafted {
        /// Which file.
        draft: PathBuf,
        /// The transaction.
        id: TransactionId,
    },
}

impl Sent {
    /// The transaction.
    pub fn id(&self) -> TransactionId {
        match self {
            Self::Recorded { id, .. } | Self::Drafted { id, .. } => *id,
        }
    }

    /// One sentence for people.
    pub fn sentence(&self) -> String {
        match self {
            Self::Recorded { id, height, position } => {
                format!("final in block {height}, position {position}; transaction {id}")
            }
            Self::Drafted { draft, .. } => format!(
                "draft written to {0}; each signer runs: kanjo tx sign {0} --key KEY",
                draft.display()
            ),
        }
    }
}

/// The keys of a user as the ledger has them now.
pub fn access_of(client: &Client, user: UserId) -> Done<Access> {
    let view = client.user(user).map_err(|error| {
        if error.is_not_found() {
            Fail::new("unknown_user", format!("there is no user {user} on this ledger"))
                .next("register it: kanjo user create NAME --key KEY")
        } else {
            error.into()
        }
    })?;
    match view.current.record {
        Record::User(record) => Ok(record.access),
        _ => Err(Fail::new("bad_answer", "the node answered with something else than a user")),
    }
}

/// Signs with the author's keys and submits; or writes a draft.
pub fn send(ctx: &Context, session: &Session, authored: Authored, sign: &SignArgs) -> Done<Sent> {
    let Authored { author, access, operations } = authored;
    send_signed(ctx, session, vec![Signer { user: author, access }], operations, sign)
}

/// As [`send`], for several signers: the first is the author, the others sign as parties. What
/// they have in common is signed by all of them at once.
pub fn send_together(
    ctx: &Context,
    session: &Session,
    signers: &[UserId],
    operations: Vec<Operation>,
    sign: &SignArgs,
) -> Done<Sent> {
    let (signers, operations) = with_parties(session, signers, operations)?;
    send_signed(ctx, session, signers, operations, sign)
}

/// The signers in the ledger's order with their keys, and the operations with the parties first
/// when there are several signers.
pub fn with_parties(
    session: &Session,
    signers: &[UserId],
    mut operations: Vec<Operation>,
) -> Done<(Vec<Signer>, Vec<Operation>)> {
    let author = *signers.first().ok_or_else(|| Fail::usage("nobody to sign; give --as USER"))?;
    let parties: BTreeSet<UserId> =
        signers.iter().copied().filter(|user| *user != author).collect();
    let all = std::iter::once(author).chain(parties.iter().copied());
    let signers = all
        .map(|user| Ok(Signer { user, access: access_of(&session.client, user)? }))
        .collect::<Done<Vec<_>>>()?;
    if !parties.is_empty() {
        operations.insert(0, Operation::Parties { users: parties.into_iter().collect() });
    }
    Ok((signers, operations))
}

/// The position of an operation among those of a transaction of these signers: parties come first
/// when there are several.
pub fn operation_number(signers: &[UserId], position: u32) -> u32 {
    let several = signers.iter().any(|user| Some(user) != signers.first());
    position + u32::from(several)
}

/// The transaction that is to be signed.
pub fn cosigning(
    session: &Session,
    signers: Vec<Signer>,
    operations: Vec<Operation>,
    valid_for: Duration,
) -> Done<Cosigning> {
    let author = signers.first().ok_or_else(|| Fail::usage("nobody to sign"))?.user;
    let draft = Draft::new(session.status.chain, author);
    let body = draft.operations(operations).valid_for(valid_for).body()?;
    Ok(Cosigning::together(body, signers)?)
}

fn send_signed(
    ctx: &Context,
    session: &Session,
    signers: Vec<Signer>,
    operations: Vec<Operation>,
    sign: &SignArgs,
) -> Done<Sent> {
    let mut cosigning = cosigning(session, signers, operations, sign.valid_for)?;
    if let Some(path) = &sign.draft {
        let id = cosigning.id();
        write_draft(path, &cosigning, false)?;
        return Ok(Sent::Drafted { draft: path.clone(), id });
    }
    sign_here(ctx, &mut cosigning, &sign.keys)?;
    submit(&session.client, &cosigning.finish()?)
}

/// Who signs among those that may: whoever was named with `--as`, whoever has the key given with
/// `--key`, or the first whose key is in the home directory.
pub fn pick_signer(
    ctx: &Context,
    session: &Session,
    may: &[UserId],
    named: Option<&String>,
    sign: &SignArgs,
) -> Done<UserId> {
    if let Some(named) = named {
        return session.book.user(named);
    }
    let given = sign.keys.iter().map(|key| Ok(ctx.key(key)?.public())).collect::<Done<Vec<_>>>()?;
    for user in may {
        let access = access_of(&session.client, *user)?;
        let here = |key: &PublicKey| {
            if given.is_empty() {
                ctx.home.keys().find(key).is_ok_and(|found| found.is_some())
            } else {
                given.contains(key)
            }
        };
        if access.keys().iter().any(here) {
            return Ok(*user);
        }
    }
    if sign.draft.is_some()
        && let Some(first) = may.first()
    {
        return Ok(*first);
    }
    let who: Vec<String> = may.iter().map(|user| session.user_label(*user)).collect();
    Err(Fail::new(
        "no_key",
        format!(
            "{} may do this, and none of their keys is in {}",
            who.join(" or "),
            ctx.home.keys().directory().display()
        ),
    )
    .next("give the directory of your keys with --home DIR, or write a draft with --draft FILE"))
}

/// Signs with the given keys, or with those found in the home directory.
pub fn sign_here(ctx: &Context, cosigning: &mut Cosigning, keys: &[String]) -> Done {
    if !keys.is_empty() {
        for name in keys {
            let file = ctx.key(name)?;
            if !all_keys(cosigning).contains(&file.public()) {
                return Err(foreign_key(ctx, name, &all_keys(cosigning)));
            }
            cosigning.sign(&ctx.unlock(&file)?)?;
        }
    } else {
        let mut files = Vec::new();
        for public in cosigning.open_keys() {
            files.extend(ctx.home.keys().find(&public)?);
        }
        files.sort_by_key(kanjo_client::keys::KeyFile::is_encrypted);
        for file in &files {
            // A signer that has enough, through an earlier key, needs no more.
            if cosigning.open_keys().contains(&file.public()) {
                cosigning.sign(&ctx.unlock(file)?)?;
            }
        }
    }
    let (found, needed) = cosigning.progress();
    if found == 0 && needed == 1 {
        return Err(no_key(ctx, &all_keys(cosigning)));
    }
    if found < needed {
        return Err(Fail::new(
            "signatures_missing",
            format!("this needs {needed} signatures and {found} could be made here"),
        )
        .next(
            "collect them: add '--draft FILE' to write a draft, then each signer runs 'kanjo tx \
             sign FILE --key KEY', and one runs 'kanjo tx submit FILE'",
        ));
    }
    Ok(())
}

fn all_keys(cosigning: &Cosigning) -> Vec<PublicKey> {
    let keys = cosigning.signers().iter().flat_map(|signer| signer.access.keys());
    keys.copied().collect()
}

fn no_key(ctx: &Context, keys: &[PublicKey]) -> Fail {
    let wanted: Vec<String> = keys.iter().map(ToString::to_string).collect();
    Fail::new(
        "no_key",
        format!(
            "the author's key {} is not in {}",
            wanted.join(" or "),
            ctx.home.keys().directory().display()
        ),
    )
    .next("give the directory of your keys with --home DIR, or a key file with --key FILE")
}

fn foreign_key(ctx: &Context, name: &str, keys: &[PublicKey]) -> Fail {
    let mine = keys.iter().filter_map(|key| ctx.home.keys().find(key).ok().flatten());
    let mine: Vec<String> = mine.map(|key| key.name().to_owned()).collect();
    let fail = Fail::new("foreign_key", format!("the key '{name}' is none of the signers' keys"));
    if mine.is_empty() {
        fail.next("see your keys with 'kanjo key list'")
    } else {
        fail.next(format!("sign with --key {}", mine.join(" or --key ")))
    }
}

/// Longest wait for a cluster to have a leader.
const LEADER_WAIT: Duration = Duration::from_secs(15);
/// Longest wait for the node at hand to have what its cluster's leader made final.
const FOLLOW_WAIT: Duration = Duration::from_secs(5);
/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Submits to the node at hand, or where that one does not lead its cluster, to the one that does.
/// Sending the same bytes again can't do anything twice.
fn submit_to_leader(client: &Client, signed: &SignedTransaction) -> Done<SubmitOutcome> {
    let give_up_at = Instant::now() + LEADER_WAIT;
    let mut to = client.clone();
    loop {
        let error = match to.submit(signed) {
            Ok(outcome) => {
                wait_until_here(client, &to, &outcome);
                return Ok(outcome);
            }
            Err(error) => error,
        };
        let is_no_leader = error.code() == Some(Refusal::NoLeader.code());
        if !is_no_leader || Instant::now() > give_up_at {
            return Err(error.into());
        }
        std::thread::sleep(LOOK_EVERY);
        to = client.leader().ok().flatten().unwrap_or_else(|| client.clone());
    }
}

/// What is asked next at the node at hand has the transaction in it.
fn wait_until_here(client: &Client, asked: &Client, outcome: &SubmitOutcome) {
    let SubmitOutcome::Recorded { height, .. } = outcome else { return };
    let give_up_at = Instant::now() + FOLLOW_WAIT;
    while client.url() != asked.url()
        && Instant::now() < give_up_at
        && client.status().is_ok_and(|status| status.height < *height)
    {
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Submits and turns whatever is not "done" into a failure.
pub fn submit(client: &Client, signed: &SignedTransaction) -> Done<Sent> {
    match submit_to_leader(client, signed)? {
        SubmitOutcome::Recorded { id, height, position, result, .. } if result.is_ok() => {
            Ok(Sent::Recorded { id, height, position })
        }
        SubmitOutcome::Recorded { id, height, result, failed_operation, .. } => {
            let parties = |one: &&Operation| matches!(one, Operation::Parties { .. });
            let count = signed.body.operations.iter().filter(|one| !parties(one)).count();
            let at = failed_operation.filter(|_| count > 1);
            let at = at.map_or_else(String::new, |at| format!(" at operation {}", at + 1));
            let message = format!(
                "{} Nothing was changed; recorded as failed{at} in block {height}, transaction \
                 {id}.",
                result.sentence()
            );
            let fail = Fail::new(result.code(), message);
            Err(match next_after(result.code()) {
                Some(next) => fail.next(next),
                None => fail,
            })
        }
        SubmitOutcome::Refused { refusal, field } => {
            let fail = Fail::new(refusal.code(), refusal.sentence());
            let fail = Fail { field: Some(field).filter(|field| !field.is_empty()), ..fail };
            Err(match next_after(refusal.code()) {
                Some(next) => fail.next(next),
                None => fail,
            })
        }
    }
}

/// Writes a draft. Drafts hold no secret.
pub fn write_draft(path: &Path, cosigning: &Cosigning, replace: bool) -> Done {
    let json = serde_json::to_vec_pretty(cosigning).map_err(|error| Fail::file(path, error))?;
    let mut options = OpenOptions::new();
    options.write(true);
    if replace {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    let mut file = options.open(path).map_err(|error| {
        let is_there = error.kind() == std::io::ErrorKind::AlreadyExists;
        let fail = Fail::file(path, error);
        if is_there { fail.next("name another file: --out FILE") } else { fail }
    })?;
    file.write_all(&json)
        .and_then(|()| file.write_all(b"\n"))
        .map_err(|error| Fail::file(path, error))
}
