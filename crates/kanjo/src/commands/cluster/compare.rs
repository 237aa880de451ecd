//! `kanjo cluster compare`: what all nodes hold at one height, table by table (mission C4).

use crate::context::Context;
use crate::fail::{Done, EXIT_FAILED, Fail, SILENT};
use crate::say;
use crate::text::{bold, dim, green, grouped, red};
use clap::Args;
use kanjo_api::cluster::{ClusterStatus, TableRoots, TablesAnswer};
use kanjo_client::{Client, table_name};
use kanjo_types::membership::{MemberKind, MemberStatus};
use serde_json::{Value, json};

/// How often a later height is tried while the ledger runs ahead.
const TRIES: u32 = 8;
/// How far above the newest height the first retry looks.
const AHEAD_FIRST: u64 = 8;

/// Options of `kanjo cluster compare`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  kanjo cluster compare\n\n\
    Asks every node for the roots of its tables at one and the same height. Exit code 0 when all are\n\
    the same, 1 when they differ or a node that should answer does not.")]
pub struct CompareArgs {
    /// Leave out a node, by name; repeat it.
    #[arg(long, value_name = "NAME")]
    without: Vec<String>,
}

/// What a node said.
enum Said {
    Roots(Box<TableRoots>),
    Witness,
    Silent(String),
}

/// Runs `kanjo cluster compare`.
pub fn run(ctx: &Context, args: &CompareArgs) -> Done {
    let status = ctx.client()?.cluster()?;
    let (height, said) = ask_all(&status, &args.without)?;
    let answered: Vec<(&str, &TableRoots)> = said
        .iter()
        .filter_map(|(name, said)| match said {
            Said::Roots(roots) => Some((name.as_str(), &**roots)),
            _ => None,
        })
        .collect();
    let silent: Vec<(&str, &str)> = said
        .iter()
        .filter_map(|(name, said)| match said {
            Said::Silent(why) => Some((name.as_str(), why.as_str())),
            _ => None,
        })
        .collect();
    let differences = differences(&answered);
    let ok = differences.is_empty() && silent.is_empty() && !answered.is_empty();
    let json = json!({
        "height": height,
        "identical": differences.is_empty() && !answered.is_empty(),
        "nodes": said.iter().map(|(name, said)| node_json(name, said)).collect::<Vec<_>>(),
        "differences": differences.iter().map(|one| json!({
            "node": one.node, "other": one.other, "table": one.table, "partitions": one.partitions,
        })).collect::<Vec<_>>(),
    });
    ctx.answer(&json, || tell(height, &said, &answered, &differences))?;
    if ok {
        return Ok(());
    }
    // All has been said.
    Err(Fail { exit: EXIT_FAILED, ..Fail::new(SILENT, "the nodes differ or are silent") })
}

fn node_json(name: &str, said: &Said) -> Value {
    match said {
        Said::Roots(roots) => json!({
            "name": name, "answer": "roots", "header": roots.header, "state_root": roots.state_root,
        }),
        Said::Witness => json!({ "name": name, "answer": "no_tables" }),
        Said::Silent(why) => json!({ "name": name, "answer": "silent", "why": why }),
    }
}

/// Asks every member that belongs to the cluster at one height that none has passed.
fn ask_all(status: &ClusterStatus, without: &[String]) -> Done<(u64, Vec<(String, Said)>)> {
    let counts = |status: MemberStatus| status != MemberStatus::Removed;
    let nodes: Vec<_> = status
        .nodes
        .iter()
        .filter(|node| counts(node.status) && !without.contains(&node.name))
        .collect();
    let mut height = 0;
    for node in &nodes {
        // Silent ones are found out when they are asked.
        if let Ok(there) = Client::new(&node.api)?.status() {
            height = height.max(there.height);
        }
    }
    let mut ahead = AHEAD_FIRST;
    // Was the height guessed, rather than told by a node?
    let mut is_guess = false;
    for _ in 0..TRIES {
        let mut said = Vec::new();
        let mut passed = None;
        let answers: Vec<_> = std::thread::scope(|scope| {
            let ask = |api: &str| {
                let api = api.to_owned();
                scope.spawn(move || Client::new(&api).and_then(|client| client.tables(height)))
            };
            let threads: Vec<_> = nodes.iter().map(|node| ask(&node.api)).collect();
            threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
        });
        let mut behind = None;
        for (node, answer) in nodes.iter().zip(answers) {
            let one = match answer {
                Ok(Ok(TablesAnswer::Roots(roots))) => Said::Roots(Box::new(roots)),
                Ok(Ok(TablesAnswer::NoTables)) => Said::Witness,
                Ok(Ok(TablesAnswer::Passed { height: now })) => {
                    passed = passed.max(Some(now));
                    continue;
                }
                Ok(Ok(TablesAnswer::NotReached { height: now })) => {
                    behind = behind.max(Some(now));
                    Said::Silent(format!("it is at height {now} and did not come to {height}"))
                }
                Ok(Err(_)) if node.kind == MemberKind::Witness => {
                    Said::Silent("a witness; it does not answer".to_owned())
                }
                Ok(Err(error)) => Said::Silent(error.to_string()),
                Err(_) => Said::Silent("asking it failed".to_owned()),
            };
            said.push((node.name.clone(), one));
        }
        (height, is_guess) = match (passed, behind) {
            // The ledger runs ahead: guess where it will be.
            (Some(now), None) => (now + ahead, true),
            // It ran to a height that was guessed and no further, or stands still: take the newest.
            (Some(now), Some(_)) => (now, false),
            (None, Some(now)) if is_guess => (now, false),
            (None, _) => return Ok((height, said)),
        };
        ahead *= 4;
    }
    Err(Fail::new("too_fast", "the ledger ran ahead of every height that was tried")
        .next("try again, or when less is paid"))
}

/// Where a node differs from the first.
struct Difference<'a> {
    node: &'a str,
    other: &'a str,
    table: &'static str,
    partitions: Vec<usize>,
}

fn differences<'a>(answered: &[(&'a str, &'a TableRoots)]) -> Vec<Difference<'a>> {
    let Some(((other, first), rest)) = answered.split_first() else { return Vec::new() };
    let mut found = Vec::new();
    for (node, roots) in rest {
        for (mine, theirs) in first.tables.iter().zip(&roots.tables) {
            let pairs = mine.partitions.iter().zip(&theirs.partitions).enumerate();
            let partitions: Vec<usize> =
                pairs.filter(|(_, (a, b))| a != b).map(|(at, _)| at).collect();
            if mine.root != theirs.root || mine.rows != theirs.rows || !partitions.is_empty() {
                let table = table_name(mine.table);
                found.push(Difference { node, other, table, partitions });
            }
        }
        if found.is_empty()
            && (roots.header != first.header || roots.state_root != first.state_root)
        {
            found.push(Difference { node, other, table: "header", partitions: Vec::new() });
        }
    }
    found
}

fn tell(
    height: u64,
    said: &[(String, Said)],
    answered: &[(&str, &TableRoots)],
    differences: &[Difference<'_>],
) {
    let names: Vec<&str> = answered.iter().map(|(name, _)| *name).collect();
    let at = grouped(height);
    match answered.first() {
        None => say!("{} no node answered", red("✗")),
        Some((_, first)) if differences.is_empty() => {
            let rows: u64 = first.tables.iter().map(|table| table.rows).sum();
            let count = answered.len();
            let head = format!("identical at height {at}");
            say!(
                "{} {}: {count} nodes, {} rows in {} tables",
                green("✓"),
                bold(&head),
                grouped(rows),
                first.tables.len()
            );
            say!("  nodes       {}", names.join(", "));
            say!("  state root  {}", first.state_root);
            say!("  header      {}", first.header);
        }
        Some(_) => {
            say!("{} {}", red("✗"), bold(&format!("different at height {at}")));
            for one in differences {
                let partitions: Vec<String> =
                    one.partitions.iter().map(ToString::to_string).collect();
                say!(
                    "  {} and {}: {} in partitions {}",
                    one.node,
                    one.other,
                    one.table,
                    partitions.join(", ")
                );
            }
        }
    }
    for (name, said) in said {
        match said {
            Said::Witness => say!("  {}", dim(&format!("{name} is a witness: it holds no tables"))),
            Said::Silent(why) => say!("  {} {name}: {why}", red("silent")),
            Said::Roots(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kanjo_api::cluster::TableRoot;
    use kanjo_types::{Hash, Table};

    fn roots(changed: Option<usize>) -> TableRoots {
        let mut partitions = vec![Hash::ZERO; 64];
        if let Some(at) = changed.and_then(|at| partitions.get_mut(at)) {
            *at = Hash([1; 32]);
        }
        let root = if changed.is_some() { Hash([2; 32]) } else { Hash::ZERO };
        let table = TableRoot { table: Table::WalletStates, rows: 3, root, partitions };
        TableRoots { height: 7, header: Hash::ZERO, state_root: root, tables: vec![table] }
    }

    #[test]
    fn tables_and_partitions_that_differ_are_named() {
        let (same, other) = (roots(None), roots(Some(41)));
        assert!(differences(&[("a", &same), ("b", &same)]).is_empty());
        let found = differences(&[("a", &same), ("b", &other), ("c", &same)]);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].node, found[0].table), ("b", "wallet_states"));
        assert_eq!(found[0].partitions, [41]);
    }

    #[test]
    fn other_headers_over_the_same_tables_are_a_difference() {
        let (same, mut other) = (roots(None), roots(None));
        other.header = Hash([9; 32]);
        assert_eq!(differences(&[("a", &same), ("b", &other)]).len(), 1);
    }
}
