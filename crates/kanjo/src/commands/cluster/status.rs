//! `kanjo cluster status`.

use crate::context::Context;
use crate::fail::{Done, Fail};
use crate::say;
use crate::text::{Align, Table, bold, dim, green, grouped, red};
use clap::Args;
use kanjo_api::cluster::{ClusterStatus, EngineRole, EvidenceView, NodeRole, NodeView, RoleView};
use kanjo_client::Client;
use kanjo_types::Hash;
use kanjo_types::membership::{MemberKind, MemberStatus};
use std::time::{Duration, Instant};

/// How long a cluster may take to find a leader and make its first height final.
const READY_MAX: Duration = Duration::from_secs(30);

/// Options of `kanjo cluster status`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  kanjo cluster status --why\n  kanjo cluster status --watch\n\n\
    'ledger' columns are what the ledger says, the others what the asked node sees now."
)]
pub struct StatusArgs {
    /// Say why each node has its roles.
    #[arg(long)]
    why: bool,
    /// Show it again every second, until Ctrl-C.
    #[arg(long)]
    watch: bool,
}

/// Runs `kanjo cluster status`.
pub fn run(ctx: &Context, args: &StatusArgs) -> Done {
    let client = ctx.client()?;
    loop {
        let status = client.cluster();
        if !args.watch {
            let status = status?;
            return ctx.answer(&status, || print(&client, &status, args.why));
        }
        match &status {
            Ok(status) if ctx.json => crate::context::print_json(status),
            Ok(status) => {
                // To the top of an empty screen.
                say!("\u{1b}[2J\u{1b}[H");
                print(&client, status, args.why);
            }
            Err(error) => crate::text::note(&error.to_string()),
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Waits until a node of the cluster knows a leader and has a certificate.
pub fn wait_ready(apis: &[String]) -> Done {
    let give_up_at = Instant::now() + READY_MAX;
    let clients = apis.iter().map(|api| Ok(Client::new(api)?)).collect::<Done<Vec<Client>>>()?;
    loop {
        let is_ready = clients.iter().all(|client| {
            client.cluster().is_ok_and(|status| {
                let is_certified = status.heights.committed.is_some_and(|committed| {
                    committed > 0 && status.heights.certified >= committed
                });
                status.leader.is_some() && is_certified
            })
        });
        if is_ready {
            return Ok(());
        }
        if Instant::now() > give_up_at {
            return Err(Fail::new("not_ready", "the nodes run, and no leader certified anything")
                .next("see node.log and sentinel.log of each node; kanjo cluster status"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// How the members stand, in a table.
pub fn print_short(status: &ClusterStatus) {
    let mut table = Table::new(&[
        ("node", Align::Left),
        ("kind", Align::Left),
        ("stands", Align::Left),
        ("is", Align::Left),
        ("API", Align::Left),
    ])
    .indented(2);
    for node in &status.nodes {
        table.row([
            node.name.clone(),
            kind(node.kind).to_owned(),
            stands(node.status).to_owned(),
            engine_word(status, node).to_owned(),
            node.api.clone(),
        ]);
    }
    table.print();
}

fn kind(kind: MemberKind) -> &'static str {
    match kind {
        MemberKind::Executor => "executor",
        MemberKind::Witness => "witness",
    }
}

fn stands(status: MemberStatus) -> &'static str {
    match status {
        MemberStatus::Voting => "voting",
        MemberStatus::Standby => "standby",
        MemberStatus::Left => "left",
        MemberStatus::Ejected => "ejected",
        MemberStatus::Doubted => "doubted",
        MemberStatus::Removed => "removed",
    }
}

fn engine_word(status: &ClusterStatus, node: &NodeView) -> &'static str {
    if status.leader == Some(node.number) {
        return "leader";
    }
    if status.learners.contains(&node.number) {
        return "learner";
    }
    if status.engine_voters.iter().any(|set| set.contains(&node.number)) {
        return "follower";
    }
    "-"
}

/// The beginning of a program's hash, and whether it may run.
fn program_word(program: &Hash, allowed: Option<bool>) -> String {
    let short: String = program.to_string().chars().take(8).collect();
    if allowed == Some(false) { format!("{short} NOT allowed") } else { short }
}

fn print(client: &Client, status: &ClusterStatus, why: bool) {
    say!("{} at {}, as {} sees it", bold(&status.ledger), client.url(), bold(&status.name));
    print_self(status);
    say!();
    print_nodes(status);
    print_roles(status, why);
    print_programs(status);
    for doubt in &status.doubts {
        let (name, seconds) = (&doubt.name, doubt.age_ms / 1_000);
        say!("{} {name}, {seconds} s ago: {}", red("doubt"), doubt.why);
    }
}

fn print_self(status: &ClusterStatus) {
    let role = match status.role {
        EngineRole::Alone => "alone",
        EngineRole::Leader => "leader",
        EngineRole::Follower => "follower",
        EngineRole::Candidate => "candidate",
        EngineRole::Learner => "learner",
        EngineRole::Stopped => "stopped",
    };
    say!("  role       {role}, term {}", status.term);
    if let Some(why) = &status.stopped {
        say!("  {}", red(why));
    }
    let leader = status.nodes.iter().find(|node| Some(node.number) == status.leader);
    say!("  leader     {}", leader.map_or_else(|| red("none"), |node| node.name.clone()));
    let voters = status.nodes.iter().filter(|node| node.status == MemberStatus::Voting).count();
    say!(
        "  ledger     epoch {} since block {}; {} of {voters} votes make a block final",
        status.epoch,
        grouped(status.epoch_height),
        status.quorum
    );
    let heights = &status.heights;
    let shown = |height: Option<u64>| height.map_or_else(|| "-".to_owned(), grouped);
    say!(
        "  heights    {} final, {} committed, {} in the log, {} heard to be final",
        grouped(heights.certified),
        shown(heights.committed),
        shown(heights.log),
        shown(heights.heard)
    );
    if status.engine_voters.len() > 1 {
        say!("  voters     changing: {:?}", status.engine_voters);
    }
    let sentinel = &status.sentinel;
    let state = match sentinel.state.as_str() {
        "answers" => green("answers"),
        "none" | "unknown" => sentinel.state.clone(),
        other => red(other),
    };
    let why = sentinel.why.as_ref().map_or_else(String::new, |why| format!(": {why}"));
    let attestor = sentinel.attestor.as_ref();
    let attestor = attestor.map_or_else(String::new, |name| format!(", attestor {name}"));
    say!("  sentinel   {state}{attestor}{why}");
    if let (Some(program), Some(allowed)) = (&sentinel.program, sentinel.allowed) {
        let word = if allowed { green("allowed") } else { red("NOT allowed: it has no vote") };
        say!("  program    {word}, {program}");
        if !allowed {
            say!("             a governor allows it: kanjo cluster allow {program}");
            say!("             or start the node with a program that is allowed");
        }
    }
}

fn print_nodes(status: &ClusterStatus) {
    let mut table = Table::new(&[
        ("node", Align::Left),
        ("kind", Align::Left),
        ("ledger", Align::Left),
        ("is", Align::Left),
        ("link", Align::Left),
        ("round trip", Align::Right),
        ("height", Align::Right),
        ("lag", Align::Right),
        ("in time", Align::Right),
        ("evidence", Align::Left),
        ("program", Align::Left),
        ("API", Align::Left),
    ])
    .indented(2);
    let none = || "-".to_owned();
    for node in &status.nodes {
        let link = match node.connected {
            _ if node.number == status.me => "itself".to_owned(),
            Some(true) => "up".to_owned(),
            Some(false) => "down".to_owned(),
            None => none(),
        };
        table.row([
            node.name.clone(),
            kind(node.kind).to_owned(),
            format!("{} since {}", stands(node.status), node.since_epoch),
            engine_word(status, node).to_owned(),
            link,
            node.round_trip_us.map_or_else(none, |micros| format!("{micros} µs")),
            node.height.map_or_else(none, grouped),
            node.lag.map_or_else(none, grouped),
            node.in_time.map_or_else(none, |share| format!("{} %", share / 10)),
            node.evidence.as_ref().map_or_else(none, evidence),
            node.program.map_or_else(none, |program| program_word(&program, node.allowed)),
            node.api.clone(),
        ]);
    }
    table.print();
    let reasons = status.nodes.iter().filter(|node| !node.reason.is_empty());
    reasons.for_each(|node| say!("  {}: {}", node.name, node.reason));
    let down = status.nodes.iter().filter(|node| node.connected == Some(false));
    down.for_each(|node| {
        if let Some(why) = &node.why {
            say!("  {}", dim(&format!("{}: {why}", node.name)));
        }
    });
}

/// What became of a sentinel's evidence, in a few words; why it was refused stands with the doubts.
fn evidence(found: &EvidenceView) -> String {
    let seconds = found.age_ms / 1_000;
    match (found.state.as_str(), &found.attestor, found.pinned) {
        ("appraised", Some(attestor), Some(true)) => format!("{attestor}, {seconds} s ago"),
        ("appraised", Some(attestor), _) => format!("{attestor}, not pinned"),
        ("refused", _, _) => red("refused"),
        (other, _, _) => other.to_owned(),
    }
}

fn print_roles(status: &ClusterStatus, why: bool) {
    if status.roles.is_empty() {
        return;
    }
    say!();
    for role in NodeRole::ALL {
        let given: Vec<&RoleView> = status.roles.iter().filter(|one| one.role == role).collect();
        if why {
            for one in &given {
                say!("  {:<13} {:<12} {}", role.name(), one.name, dim(&one.why));
            }
        } else {
            let names: Vec<&str> = given.iter().map(|one| one.name.as_str()).collect();
            say!("  {:<13} {}", role.name(), names.join(", "));
        }
        if given.is_empty() {
            say!("  {:<13} {}", role.name(), dim("nobody"));
        }
    }
}

fn print_programs(status: &ClusterStatus) {
    say!();
    if status.measurements.is_empty() {
        return say!("  programs   any; none is checked");
    }
    for measurement in &status.measurements {
        say!("  program    {} {}", measurement.program, dim(&measurement.note));
    }
}
