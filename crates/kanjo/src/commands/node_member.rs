//! A node that is a member of a cluster: running it, joining, leaving.
//!
//! ```text
//!  start ──▶ runs ── told to stop ──▶ leaves the quorum ──▶ stops
//!    ▲        └── must rewind ──▶ stops, marks the block as void ─┐
//!    └────────────────────────────────────────────────────────────┘
//! ```
//! SQL, where it is served, ends before each stop and comes back after a rewind, at its address.

use super::node::{NodeArgs, Told, announce, stopped_by_itself, wait, with_sql};
use crate::attestor::{AttestorArgs, AttestorChoice};
use crate::context::Context;
use crate::fail::{Done, Fail};
use crate::member::{self, MemberFile, Places};
use crate::say;
use crate::sql::Sql;
use crate::text::{bold, dim, note};
use clap::Args;
use kanjo_client::Client;
use kanjo_node::clock::SystemClock;
use kanjo_node::{Config, Ended, MemberOptions, RunningNode, StartError};
use kanjo_proof::Trust;
use kanjo_store::disk::RealDisk;
use kanjo_types::membership::{MemberKind, MemberStatus};
use kanjo_types::{Genesis, Hash};
use serde_json::json;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Longest wait for the cluster to let this node go.
const LEAVE_MAX: Duration = Duration::from_secs(12);
/// More rewinds than this within [`REWINDS_WITHIN`] are no accident.
const REWINDS_MAX: usize = 20;
/// See [`REWINDS_MAX`].
const REWINDS_WITHIN: Duration = Duration::from_secs(60);
/// After a rewind the addresses may still be taken for a moment.
const ADDRESS_WAIT: Duration = Duration::from_secs(5);

/// Runs the member in `data`.
pub fn run(ctx: &Context, data: &Path, args: &NodeArgs) -> Done {
    let file = member::read(data)?;
    let genesis = kanjo_node::data::load_genesis(data).map_err(|error| Fail::new("data", error))?;
    let mut sql = args.sql(ctx)?;
    if sql.is_wanted() && file.certificate.kind == MemberKind::Witness {
        return Err(Fail::usage("a witness holds no rows, so there is nothing to ask it in SQL")
            .next("serve SQL at a node that executes, and run this one without --sql"));
    }
    let mut config = args.config(data, args.member_listen(file.listen)?);
    config.view = sql.is_wanted();
    let parts = Parts {
        config,
        options: MemberOptions {
            link_via: args.link_via(),
            ..file.options(file.membership(data, &genesis)?)
        },
        genesis: &genesis,
        data,
        file: &file,
    };
    let told = Told::listen(args.stops_with_stdin())?;
    let node = with_sql(parts.start(&BTreeSet::new())?, &mut sql)?;
    announce(ctx, &node, data, &sql);
    let node = parts.tend(node, &mut sql, &told)?;
    sql.end();
    // Whoever closes standard input stops several nodes at once: then there is nobody to leave to.
    if !told.stdin_ended() {
        leave_first(&node, &told);
    }
    node.stop().map_err(|error| Fail::new("stop", error))?;
    if !ctx.json {
        say!("Stopped. Everything acknowledged is on disk.");
    }
    Ok(())
}

/// What is needed to start the node, and to start it again.
struct Parts<'a> {
    config: Config,
    options: MemberOptions,
    genesis: &'a Genesis,
    data: &'a Path,
    file: &'a MemberFile,
}

impl Parts<'_> {
    fn start(&self, void: &BTreeSet<(u64, Hash)>) -> Done<RunningNode> {
        let signer = self.file.signer(self.data, self.genesis.chain_id())?;
        let (disk, clock) = (Arc::new(RealDisk), Arc::new(SystemClock));
        let (config, void) = (self.config.clone(), void.clone());
        let node = kanjo_node::start_member(config, &self.options, signer, disk, clock, void)
            .map_err(|error| self.not_started(&error))?;
        let asking = self.file.asking(self.data, self.genesis);
        if let (Some(asking), Some(bearings)) = (asking, node.bearings()) {
            asking.watch(bearings);
        }
        Ok(node)
    }

    /// Ended by itself: broken, or removed by governors.
    fn ended(&self, ended: &Ended, node: &RunningNode) -> Fail {
        let name = &self.file.certificate.name;
        let membership = node.membership();
        let me = membership.as_ref().and_then(|all| all.member(all.number_of(name)?));
        match me {
            Some(me) if me.status == MemberStatus::Removed => Fail::new(
                "removed",
                format!("{name} ends: {ended}"),
            )
            .next(
                "its number and keys never come back; a new node may join: kanjo node join --help",
            ),
            _ => stopped_by_itself(ended),
        }
    }

    fn not_started(&self, error: &StartError) -> Fail {
        let fail = Fail::new("start", error);
        match error {
            StartError::NoMember(_) => fail.next(format!(
                "have a governor admit it: kanjo cluster add {}",
                self.data.join("certificate.json").display()
            )),
            _ => fail.next("its addresses are in member.json; is another node running there?"),
        }
    }

    fn start_again(&self, void: &BTreeSet<(u64, Hash)>) -> Done<RunningNode> {
        let give_up_at = Instant::now() + ADDRESS_WAIT;
        loop {
            match self.start(void) {
                Err(_) if Instant::now() < give_up_at => {
                    std::thread::sleep(Duration::from_millis(100));
                }
                started => return started,
            }
        }
    }

    /// Keeps the node running until the process is told to stop.
    fn tend(&self, mut node: RunningNode, sql: &mut Sql, told: &Told) -> Done<RunningNode> {
        let mut void = BTreeSet::new();
        let mut rewinds: Vec<Instant> = Vec::new();
        loop {
            let Some(ended) = wait(&node, told) else { return Ok(node) };
            let fail = self.ended(&ended, &node);
            sql.pause();
            let stopped = node.stop();
            let Ended::Rewind { reason, void: block } = ended else { return Err(fail) };
            if let Err(error) = stopped {
                note(&format!("while stopping: {error}"));
            }
            rewinds.retain(|at| at.elapsed() < REWINDS_WITHIN);
            rewinds.push(Instant::now());
            if rewinds.len() > REWINDS_MAX {
                let what = format!("the ledger was opened anew {REWINDS_MAX} times: {reason}");
                return Err(Fail::new("rewinds", what)
                    .next("nothing acknowledged is lost; compare: kanjo cluster compare"));
            }
            note(&format!("opening the ledger anew: {reason}"));
            void.extend(block);
            node = self.start_again(&void)?;
            // The vote of a member is worth more than its SQL.
            if let Err(fail) = sql.open(&node) {
                note(&format!("SQL is not served any more: {}", fail.message));
            }
        }
    }
}

/// Leaves the quorum, for a bounded time, and not when told a second time to stop.
fn leave_first(node: &RunningNode, told: &Told) {
    let before = told.signals();
    std::thread::scope(|scope| {
        let (sender, left) = channel();
        scope.spawn(move || {
            let _ = sender.send(node.leave());
        });
        let give_up_at = Instant::now() + LEAVE_MAX;
        loop {
            match left.recv_timeout(Duration::from_millis(50)) {
                Ok(Ok(())) => return,
                Ok(Err(why)) => return note(&format!("stopping without having left: {why}")),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if told.signals() > before || Instant::now() > give_up_at {
                note("stopping at once");
                // The leave under way can't be called back; everything acknowledged is on disk.
                std::process::exit(0);
            }
        }
    });
}

/// Options of `kanjo node join`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  kanjo node join --contact http://10.0.0.1:8480 --data ./bank-4 \
    --name node-4 \\\n    --address 10.0.0.4:8490 --api http://10.0.0.4:8480\n\n\
    Makes the directory, the sentinel's keys and DIR/certificate.json. Then a governor admits it with\n\
    'kanjo cluster add', the sentinel is run, and 'kanjo node --data DIR' catches up and votes."
)]
pub struct JoinArgs {
    /// API of any node of the cluster.
    #[arg(long, value_name = "URL")]
    contact: String,
    /// Directory of the new node.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Its name, unique in the cluster.
    #[arg(long)]
    name: String,
    /// Where other nodes reach it.
    #[arg(long, value_name = "HOST:PORT")]
    address: String,
    /// Where clients reach it.
    #[arg(long, value_name = "URL")]
    api: String,
    /// Where its API listens; the address in --api unless told otherwise.
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Where its links listen; --address unless told otherwise.
    #[arg(long, value_name = "ADDR")]
    link_listen: Option<SocketAddr>,
    /// It stores the log and holds no balances.
    #[arg(long)]
    witness: bool,
    /// The genesis, from somebody you trust; otherwise the contact's is taken: compare its chain
    /// id.
    #[arg(long, value_name = "FILE")]
    genesis: Option<PathBuf>,
    #[command(flatten)]
    attestors: AttestorArgs,
}

/// Runs `kanjo node join`.
pub fn join(ctx: &Context, args: &JoinArgs) -> Done {
    let dir = &args.data;
    if member::is_member(dir) || dir.join("genesis.json").exists() {
        let what = format!("{} already holds a node", dir.display());
        return Err(Fail::new("already_there", what).next("choose another directory"));
    }
    let client = Client::new(&args.contact)?;
    let genesis = match &args.genesis {
        Some(file) => super::read_genesis(file)?,
        None => client.genesis()?,
    };
    let chain = genesis.chain_id();
    let theirs = client.status()?.chain;
    if theirs != chain {
        let what = format!("{} is of ledger {theirs}, the genesis of {chain}", args.contact);
        return Err(Fail::new("other_ledger", what).next("check --contact and --genesis"));
    }
    let mut trust = Trust::new(&genesis).map_err(|error| Fail::new("genesis", error))?;
    let memberships = member::fetch(&client, &mut trust, Vec::new())?;
    let listen =
        match args.listen {
            Some(listen) => listen,
            None => args.api.trim_start_matches("http://").trim_end_matches('/').parse().map_err(
                |_| Fail::usage(format!("{} names no address; give --listen as well", args.api)),
            )?,
        };
    let places = Places {
        address: args.address.clone(),
        api: args.api.clone(),
        listen,
        link_listen: args.link_listen,
    };
    let kind = if args.witness { MemberKind::Witness } else { MemberKind::Executor };
    let attestor = args.attestors.choices(&[&args.name])?.pop();
    let attestor = attestor.unwrap_or(AttestorChoice::SOFTWARE);
    let mut new = member::new(dir, &args.name, kind, &places, &attestor)?;
    new.file.contact = Some(args.contact.clone());
    let certificate = &new.file.certificate;
    certificate.check().map_err(|(refusal, field)| Fail {
        field: Some(field.to_owned()),
        ..Fail::new(refusal.code(), refusal.sentence())
    })?;
    let file = dir.join("certificate.json");
    let text = serde_json::to_string_pretty(certificate).map_err(|e| Fail::file(&file, e))?;
    std::fs::write(&file, format!("{text}\n")).map_err(|error| Fail::file(&file, error))?;
    member::keep(dir, &memberships)?;
    new.create(dir, &genesis)?;
    let json = json!({
        "chain": chain, "epoch": trust.epoch(), "certificate": certificate, "file": file,
        "data": dir,
    });
    ctx.answer(&json, || {
        say!("{} may join {} once governors admit it.", bold(&args.name), bold(&genesis.name));
        say!("  chain        {chain}");
        say!("  epoch        {}", trust.epoch());
        say!("  certificate  {}", file.display());
        if args.genesis.is_none() {
            say!("{}", dim("Compare the chain id with one that you got from somebody you trust."));
        }
        say!();
        say!("{}", dim("Next, a governor:"));
        say!("  {}--node {} cluster add {}", ctx.program_with_home(), args.contact, file.display());
        say!("{}", dim("Then, here, the sentinel and the node:"));
        say!("  {}", sentinel_command(dir, &new.file));
        say!("  {} node --data {}", ctx.program(), dir.display());
    })
}

/// How the sentinel of a member is run by hand.
pub fn sentinel_command(dir: &Path, file: &MemberFile) -> String {
    format!(
        "kanjo-sentinel run --dir {} --socket {} --node-key {}",
        dir.join(&file.sentinel.dir).display(),
        dir.join(&file.sentinel.socket).display(),
        hex::encode(file.certificate.link_key)
    )
}

/// Options of `kanjo node leave`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  kanjo node leave --data ./bank-2\n\n\
    The others go on with a smaller quorum. The node keeps running without a vote until it is\n\
    stopped; started again, it comes back by itself. Stopping a node with Ctrl-C or SIGTERM leaves,\n\
    too.")]
pub struct LeaveArgs {
    /// Directory of the node; without it, the node at --node leaves.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// Runs `kanjo node leave`.
pub fn leave(ctx: &Context, args: &LeaveArgs) -> Done {
    let client = match &args.data {
        Some(dir) => Client::new(&format!("http://{}", member::read(dir)?.listen))?,
        None => ctx.client()?,
    };
    let name = client.cluster()?.name;
    let left = client.leave(&name)?;
    ctx.answer(&left, || {
        say!("{} left the quorum; the membership is epoch {} now.", bold(&left.node), left.epoch);
        say!("{}", dim("Stop it now; when it is started again it comes back by itself."));
    })
}
