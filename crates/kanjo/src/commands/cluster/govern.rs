//! Changes of the membership, signed by governors.

use crate::author::{Sent, SignArgs, pick_signer, send_together};
use crate::context::{Context, Session};
use crate::fail::{Done, Fail};
use crate::say;
use crate::text::{bold, dim, note};
use clap::Args;
use kanjo_api::cluster::ClusterStatus;
use kanjo_sentinel::measure::program_hash;
use kanjo_types::membership::{Measurement, MemberStatus, MembershipChange, NodeCertificate};
use kanjo_types::{Hash, Operation, UserId};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Who signs for the governors.
#[derive(Debug, Args)]
pub struct GovernArgs {
    /// A governor that signs; repeat it where several must. Without it, governors whose keys are
    /// here.
    #[arg(long = "as", value_name = "USER")]
    signers: Vec<String>,
    #[command(flatten)]
    sign: SignArgs,
}

/// Options of `kanjo cluster add`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  kanjo cluster add ./bank-4/certificate.json\n\n\
    The node follows as standby from then on, and votes by itself when it has caught up.")]
pub struct AddArgs {
    /// The node's certificate, as 'kanjo node join' wrote it.
    certificate: PathBuf,
    #[command(flatten)]
    govern: GovernArgs,
}

/// Options of commands about one member.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  kanjo cluster remove node-4 --reason \"machine sold\"\n  \
    kanjo cluster readmit node-2 --reason \"memory replaced\"")]
pub struct MemberArgs {
    /// Name of the node.
    // Not `node`: that is an option which holds everywhere.
    #[arg(value_name = "NODE")]
    member: String,
    /// Why; it stands in the ledger.
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    govern: GovernArgs,
}

/// Options of `kanjo cluster allow`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  kanjo cluster allow ./new/kanjo --note \"kanjo 0.2\"\n\n\
    A rolling upgrade: allow the new program, restart node by node with it, disallow the old one.")]
pub struct AllowArgs {
    /// The program file, or its SHA-256 in 64 hexadecimal digits.
    program: String,
    /// For people: version, who built it.
    #[arg(long, default_value = "")]
    note: String,
    #[command(flatten)]
    govern: GovernArgs,
}

/// Options of `kanjo cluster disallow`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  kanjo cluster disallow 9f3c…")]
pub struct DisallowArgs {
    /// The program file, or its SHA-256 in 64 hexadecimal digits.
    program: String,
    /// Also when too few voters would be left that run an allowed program.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    govern: GovernArgs,
}

/// Runs `kanjo cluster add`.
pub fn add(ctx: &Context, args: &AddArgs) -> Done {
    let path = &args.certificate;
    let text = std::fs::read_to_string(path).map_err(|error| Fail::file(path, error))?;
    let certificate: NodeCertificate =
        serde_json::from_str(&text).map_err(|error| Fail::file(path, error))?;
    let name = certificate.name.clone();
    let change = MembershipChange::Admit { certificate: Box::new(certificate) };
    change_membership(ctx, change, &args.govern, &format!("{name} is admitted"))
}

/// Runs `kanjo cluster remove`.
pub fn remove(ctx: &Context, args: &MemberArgs) -> Done {
    let (member, reason) = (number_of(ctx, &args.member)?, args.reason.clone());
    let change = MembershipChange::Remove { member, reason };
    change_membership(ctx, change, &args.govern, &format!("{} is removed", args.member))
}

/// Runs `kanjo cluster readmit`.
pub fn readmit(ctx: &Context, args: &MemberArgs) -> Done {
    let (member, reason) = (number_of(ctx, &args.member)?, args.reason.clone());
    let change = MembershipChange::Readmit { member, reason };
    change_membership(ctx, change, &args.govern, &format!("{} is readmitted", args.member))
}

/// Runs `kanjo cluster allow`.
pub fn allow(ctx: &Context, args: &AllowArgs) -> Done {
    let measurement = Measurement { program: program(&args.program)?, note: args.note.clone() };
    let done = format!("{} is allowed", measurement.program);
    change_membership(ctx, MembershipChange::Allow { measurement }, &args.govern, &done)
}

/// Runs `kanjo cluster disallow`.
pub fn disallow(ctx: &Context, args: &DisallowArgs) -> Done {
    let program = program(&args.program)?;
    if !args.force {
        check_others(&ctx.client()?.cluster()?, &program)?;
    }
    let done = format!("{program} is allowed no more");
    change_membership(ctx, MembershipChange::Disallow { program }, &args.govern, &done)
}

/// Without a quorum of voters whose programs are allowed nothing would be final any more, not even
/// allowing the program again.
fn check_others(status: &ClusterStatus, program: &Hash) -> Done {
    let voters = status.nodes.iter().filter(|node| node.status == MemberStatus::Voting);
    let (without, with): (Vec<_>, Vec<_>) =
        voters.partition(|node| node.program == Some(*program) || node.allowed == Some(false));
    let names: Vec<&str> = without
        .iter()
        .filter(|node| node.program == Some(*program))
        .map(|node| node.name.as_str())
        .collect();
    if with.len() < status.quorum && !names.is_empty() {
        let what = format!(
            "{} run it: {} voters with an allowed program would be left, and {} are needed",
            names.join(", "),
            with.len(),
            status.quorum
        );
        return Err(Fail::new("too_few_voters", what)
            .next("start them with another program that is allowed first; or give --force"));
    }
    if !names.is_empty() {
        note(&format!("warning: {} run it and will have no vote", names.join(", ")));
    }
    Ok(())
}

fn number_of(ctx: &Context, name: &str) -> Done<u16> {
    let status = ctx.client()?.cluster()?;
    let found = status.nodes.iter().find(|node| node.name == name);
    found.map(|node| node.number).ok_or_else(|| {
        let names: Vec<&str> = status.nodes.iter().map(|node| node.name.as_str()).collect();
        let what = format!("there is no node '{name}'; there are {}", names.join(", "));
        Fail::new("unknown_member", what).next("see them: kanjo cluster status")
    })
}

fn program(text: &str) -> Done<Hash> {
    if let Ok(hash) = text.parse() {
        return Ok(hash);
    }
    let path = Path::new(text);
    program_hash(path).map_err(|error| Fail::file(path, error))
}

/// The governors of the genesis.
fn governors(session: &Session) -> Done<(Vec<UserId>, u8)> {
    let genesis = session.client.genesis()?;
    let cluster = &genesis.cluster;
    let users: Vec<UserId> =
        cluster.governors.iter().filter_map(|name| genesis.user_id(name)).collect();
    if users.is_empty() {
        return Err(Fail::new(
            "no_governors",
            "the genesis names no governors; nobody may do this",
        ));
    }
    Ok((users, cluster.threshold))
}

/// As many governors as must sign: those named, or those whose keys are here.
fn signers(ctx: &Context, session: &Session, args: &GovernArgs) -> Done<Vec<UserId>> {
    let (mut may, threshold) = governors(session)?;
    if !args.signers.is_empty() {
        return args.signers.iter().map(|user| session.book.user(user)).collect();
    }
    let mut signers = Vec::new();
    for _ in 0..threshold.max(1) {
        let next = pick_signer(ctx, session, &may, None, &args.sign)?;
        may.retain(|user| *user != next);
        signers.push(next);
    }
    Ok(signers)
}

fn change_membership(
    ctx: &Context,
    change: MembershipChange,
    args: &GovernArgs,
    done: &str,
) -> Done {
    change.check().map_err(|(refusal, field)| Fail {
        field: Some(field.to_owned()),
        ..Fail::new(refusal.code(), refusal.sentence())
    })?;
    let session = ctx.session()?;
    let signers = signers(ctx, &session, args)?;
    let operations = vec![Operation::ChangeMembership { change: change.clone() }];
    let sent = send_together(ctx, &session, &signers, operations, &args.sign)?;
    ctx.answer(&json!({ "change": change, "sent": sent }), || {
        match &sent {
            Sent::Recorded { .. } => say!("{}.", bold(done)),
            Sent::Drafted { .. } => say!("{}: {done}, once signed.", bold("Drafted")),
        }
        say!("  {}", dim(&sent.sentence()));
        ctx.next("cluster status");
    })
}
