//! A new cluster: its genesis, and the directory of each node.

use crate::attestor::{AttestorArgs, AttestorChoice};
use crate::commands::init::{
    OPERATOR, Plan, VSM_DECIMALS, operators, remember, vsm_and_jpy, wallet_with_vsm,
};
use crate::commands::node_member::sentinel_command;
use crate::context::Context;
use crate::fail::{Done, Fail};
use crate::member::{self, NewMember, Places};
use crate::say;
use crate::text::{bold, dim};
use clap::Args;
use kanjo_sentinel::measure::program_hash;
use kanjo_types::genesis::{Cluster, Link, Voter};
use kanjo_types::membership::{Measurement, MemberKind};
use kanjo_types::{Amount, Genesis};
use serde_json::json;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

/// A node of a new cluster.
#[derive(Debug, Clone)]
pub struct NodePlan {
    /// Its name, also of its directory.
    pub name: String,
    /// Executor or witness.
    pub kind: MemberKind,
    /// How it is reached.
    pub places: Places,
    /// What vouches for its sentinel.
    pub attestor: AttestorChoice,
}

/// What a new cluster is made of.
pub struct ClusterPlan {
    /// The ledger.
    pub ledger: Plan,
    /// Its nodes.
    pub nodes: Vec<NodePlan>,
    /// Programs that they may run.
    pub measurements: Vec<Measurement>,
    /// How many governors must sign a change.
    pub threshold: u8,
}

/// This program, as one that nodes may run.
pub fn own_measurement() -> Done<Measurement> {
    let fail = |error: std::io::Error| Fail::new("program", error);
    let program = program_hash(&std::env::current_exe().map_err(fail)?).map_err(fail)?;
    Ok(Measurement { program, note: format!("kanjo {}", env!("CARGO_PKG_VERSION")) })
}

/// Ports that are tried for [`free_places`]: below those that systems hand out for outgoing
/// connections, of which one could be taken between here and the start of a node.
const PORTS: std::ops::Range<u16> = 10_000..30_000;

/// Addresses on loopback that are free now.
pub fn free_places(count: usize) -> Done<Vec<Places>> {
    let mut random = [0u8; 2];
    getrandom::fill(&mut random).map_err(|error| Fail::new("randomness", error))?;
    let range = PORTS.end - PORTS.start;
    let first = u16::from_le_bytes(random) % range;
    // From a random one around once.
    let ports = (0..range).map(|step| PORTS.start + (first + step) % range);
    let listen = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok();
    // All are held until all are found, so that none comes twice.
    let held: Vec<TcpListener> = ports.filter_map(listen).take(2 * count).collect();
    let addresses: Vec<SocketAddr> =
        held.iter().filter_map(|listener| listener.local_addr().ok()).collect();
    let places = |pair: &[SocketAddr]| match pair {
        [link, api] => Ok(Places {
            address: link.to_string(),
            api: format!("http://{api}"),
            listen: *api,
            link_listen: None,
        }),
        _ => Err(Fail::new("address", "there are not enough free ports on loopback")),
    };
    let found: Vec<Places> = addresses.chunks(2).map(places).collect::<Done<_>>()?;
    if found.len() < count {
        return Err(Fail::new("address", "there are not enough free ports on loopback"));
    }
    Ok(found)
}

impl ClusterPlan {
    /// Makes the directories of all nodes below `dir`; gives their names and the genesis.
    pub fn create(&self, dir: &Path) -> Done<Genesis> {
        let mut genesis = self.ledger.genesis()?;
        let mut made: Vec<(PathBuf, NewMember)> = Vec::new();
        for node in &self.nodes {
            let node_dir = dir.join(&node.name);
            let NodePlan { name, kind, places, attestor } = node;
            let new = member::new(&node_dir, name, *kind, places, attestor)?;
            made.push((node_dir, new));
        }
        genesis.voters = made.iter().map(|(_, new)| voter(new)).collect();
        genesis.cluster = Cluster {
            governors: self.ledger.operators.iter().map(|(name, _)| name.clone()).collect(),
            threshold: self.threshold,
            measurements: self.measurements.clone(),
        };
        genesis.check().map_err(|error| Fail::new("genesis", error))?;
        made.iter().try_for_each(|(node_dir, new)| new.create(node_dir, &genesis))?;
        Ok(genesis)
    }
}

fn voter(new: &NewMember) -> Voter {
    let certificate = new.file.certificate.clone();
    let link = Link {
        key: certificate.link_key,
        address: certificate.address,
        api: certificate.api,
        attestor: certificate.attestor,
    };
    Voter {
        name: certificate.name,
        key: certificate.vote_key,
        kind: certificate.kind,
        link: Some(link),
    }
}

/// Options of `kanjo cluster init`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    kanjo cluster init ./bank --node a=10.0.0.1:8490,10.0.0.1:8480 \\\n    \
    --node b=10.0.0.2:8490,10.0.0.2:8480 --node c=10.0.0.3:8490,10.0.0.3:8480\n  \
    kanjo cluster init ./trial --node a --node b --node c --witness w\n\n\
    Each NAME[=LINK,API] gets a directory DIR/NAME with all that its node and its sentinel need, secret\n\
    keys included: move it to its machine. Without addresses they are free ones on loopback.")]
pub struct InitArgs {
    /// Directory below which the nodes' directories are made.
    dir: PathBuf,
    /// A node; repeat it.
    #[arg(long = "node", value_name = "NAME[=LINK,API]", required = true)]
    nodes: Vec<String>,
    /// A witness; repeat it.
    #[arg(long = "witness", value_name = "NAME[=LINK,API]")]
    witnesses: Vec<String>,
    /// Name of the ledger, for people.
    #[arg(long, default_value = "Kanjo")]
    name: String,
    /// An operator's key: a key's name, a public key, or a file with one. Repeat it for several.
    /// Operators are the governors, too. Without it, the key 'operator' of the home directory is
    /// used, or drawn.
    #[arg(long = "operator", value_name = "KEY")]
    operators: Vec<String>,
    /// How many governors must sign a change of the membership.
    #[arg(long, value_name = "N", default_value_t = 1)]
    threshold: u8,
    /// Don't encrypt the operator's key when one is drawn. For development only.
    #[arg(long, conflicts_with = "operators")]
    no_passphrase: bool,
    /// Check no program: nodes may run anything.
    #[arg(long)]
    any_program: bool,
    /// First VSM in the operator's wallet, in whole tokens.
    #[arg(long, value_name = "AMOUNT", default_value = "1000000000")]
    vsm_supply: String,
    #[command(flatten)]
    attestors: AttestorArgs,
}

/// Runs `kanjo cluster init`.
pub fn run(ctx: &Context, args: &InitArgs) -> Done {
    let supply = Amount::parse_decimal(&args.vsm_supply, VSM_DECIMALS)
        .map_err(|error| Fail::usage(format!("--vsm-supply: {error}")))?;
    let operators = operators(ctx, &args.operators, args.no_passphrase)?;
    let first = operators.first().map_or_else(|| OPERATOR.to_owned(), |(name, _)| name.clone());
    let mut ledger = Plan::new(&args.name, operators)?;
    ledger.tokens = vsm_and_jpy(&first);
    ledger.wallets = vec![wallet_with_vsm(&first, supply)];
    let executors = args.nodes.iter().map(|text| (text, MemberKind::Executor));
    let witnesses = args.witnesses.iter().map(|text| (text, MemberKind::Witness));
    let all: Vec<(&String, MemberKind)> = executors.chain(witnesses).collect();
    let free = free_places(all.len())?;
    let nodes = all.iter().zip(free).map(|((text, kind), free)| parse_node(text, *kind, free));
    let mut nodes = nodes.collect::<Done<Vec<NodePlan>>>()?;
    attest(&mut nodes, &args.attestors)?;
    let plan = ClusterPlan {
        ledger,
        nodes,
        measurements: if args.any_program { Vec::new() } else { vec![own_measurement()?] },
        threshold: args.threshold,
    };
    let genesis = plan.create(&args.dir)?;
    remember(ctx, &genesis)?;
    tell(ctx, &args.dir, &plan, &genesis)
}

/// Gives each node the attestor that was chosen for it.
pub fn attest(nodes: &mut [NodePlan], args: &AttestorArgs) -> Done {
    let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
    let choices = args.choices(&names)?;
    nodes.iter_mut().zip(choices).for_each(|(node, choice)| node.attestor = choice);
    Ok(())
}

fn tell(ctx: &Context, dir: &Path, plan: &ClusterPlan, genesis: &Genesis) -> Done {
    let chain = genesis.chain_id();
    let mut files = Vec::new();
    for node in &plan.nodes {
        let node_dir = dir.join(&node.name);
        let file = member::read(&node_dir)?;
        files.push((node_dir, file));
    }
    let nodes: Vec<_> =
        files.iter().map(|(dir, file)| json!({ "data": dir, "member": file })).collect();
    ctx.answer(&json!({ "chain": chain, "nodes": nodes }), || {
        say!("Cluster {} made in {}.", bold(&genesis.name), dir.display());
        say!("  chain  {chain}");
        for (dir, file) in &files {
            let certificate = &file.certificate;
            say!(
                "  {}  links {}, API {}, {}",
                bold(&certificate.name),
                certificate.address,
                certificate.api,
                dir.display()
            );
        }
        say!();
        say!("{}", dim("Move each directory to its machine. There, the sentinel, then the node:"));
        for (dir, file) in &files {
            say!("  {}", sentinel_command(dir, file));
            say!("  {} node --data {}", ctx.program(), dir.display());
        }
    })
}

fn parse_node(text: &str, kind: MemberKind, free: Places) -> Done<NodePlan> {
    let usage = || Fail::usage(format!("'{text}': write NAME or NAME=HOST:PORT,HOST:PORT"));
    let Some((name, addresses)) = text.split_once('=') else {
        let (name, attestor) = (checked(text)?, AttestorChoice::SOFTWARE);
        return Ok(NodePlan { name, kind, places: free, attestor });
    };
    let (address, api) = addresses.split_once(',').ok_or_else(usage)?;
    let listen: SocketAddr = api.parse().map_err(|_| usage())?;
    let places = Places {
        address: address.to_owned(),
        api: format!("http://{api}"),
        listen,
        link_listen: None,
    };
    Ok(NodePlan { name: checked(name)?, kind, places, attestor: AttestorChoice::SOFTWARE })
}

/// A name is also that of a directory.
fn checked(name: &str) -> Done<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || !name.chars().all(plain) {
        return Err(Fail::usage(format!("'{name}': names have letters, digits, - and _")));
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free() -> Places {
        free_places(1).expect("free").pop().expect("one")
    }

    #[test]
    fn nodes_are_typed_with_or_without_addresses() {
        let plan = parse_node("a=h:1,127.0.0.1:2", MemberKind::Executor, free()).expect("a node");
        assert_eq!((plan.name.as_str(), plan.places.address.as_str()), ("a", "h:1"));
        assert_eq!(plan.places.api, "http://127.0.0.1:2");
        assert!(parse_node("a", MemberKind::Executor, free()).is_ok());
        for bad in ["", "a=b", "../a", "a/b", "a=h:1,api", "a b"] {
            assert!(parse_node(bad, MemberKind::Executor, free()).is_err(), "{bad}");
        }
    }

    #[test]
    fn free_places_are_distinct() {
        let places = free_places(5).expect("free");
        let mut all: Vec<String> = places
            .iter()
            .flat_map(|places| [places.address.clone(), places.listen.to_string()])
            .collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 10);
    }
}
