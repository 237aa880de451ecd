//! The cluster under test: sentinels and nodes, each a process of its own.

use super::measure::{Measure, process_cpu};
use crate::attestor::AttestorChoice;
use crate::commands::{ClusterPlan, NodePlan, Plan, free_places, own_measurement, wait_ready};
use crate::fail::{Done, Fail};
use crate::member::{self, MemberFile};
use crate::processes::Process;
use kanjo_api::cluster::{TableRoots, TablesAnswer};
use kanjo_client::{Client, Limits};
use kanjo_types::Genesis;
use kanjo_types::membership::MemberKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest wait for a process to stop.
const STOP_MAX: Duration = Duration::from_secs(120);
/// How often the tables are compared until nodes speak of the same height.
const COMPARISONS_MAX: u32 = 20;

/// One member.
pub struct Member {
    /// Its file.
    pub file: MemberFile,
    /// Its API.
    pub client: Client,
    node: Process,
    sentinel: Process,
}

/// A running cluster. It stops when it is dropped.
pub struct Members(Vec<Member>);

/// Processor time of one member.
#[derive(Debug, Clone, Default)]
pub struct Used {
    /// Seconds of the node.
    pub node: f64,
    /// Of them, for votes and certificates.
    pub certificate: f64,
    /// Seconds of the sentinel.
    pub sentinel: f64,
}

impl Member {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.file.certificate.name
    }

    fn executes(&self) -> bool {
        self.file.certificate.kind == MemberKind::Executor
    }

    fn used(&self) -> Done<Used> {
        let metrics = Measure::of(&self.client)?;
        let certificate = metrics.stages.get("certificate").copied().unwrap_or_default();
        Ok(Used {
            node: process_cpu(self.node.id()),
            certificate,
            sentinel: process_cpu(self.sentinel.id()),
        })
    }
}

impl Members {
    /// Makes and starts a cluster below `dir`.
    pub fn start(
        ledger: Plan,
        dir: &Path,
        nodes: u64,
        witnesses: u64,
        sentinel: Option<&PathBuf>,
        limits: Limits,
    ) -> Done<(Self, Genesis)> {
        let program = member::sentinel_program(sentinel)?;
        let executors = (1..=nodes).map(|n| (format!("node-{n}"), MemberKind::Executor));
        let witnesses = (1..=witnesses).map(|n| (format!("witness-{n}"), MemberKind::Witness));
        let all: Vec<(String, MemberKind)> = executors.chain(witnesses).collect();
        let places = free_places(all.len())?;
        let attestor = AttestorChoice::SOFTWARE;
        let plan =
            |((name, kind), places)| NodePlan { name, kind, places, attestor: attestor.clone() };
        let nodes: Vec<NodePlan> = all.into_iter().zip(places).map(plan).collect();
        let dirs: Vec<PathBuf> = nodes.iter().map(|node| dir.join(&node.name)).collect();
        let measurements = vec![own_measurement()?];
        let genesis = ClusterPlan { ledger, nodes, measurements, threshold: 1 }.create(dir)?;
        let mut members = Vec::new();
        for dir in &dirs {
            let file = member::read(dir)?;
            let sentinel = Process::sentinel(&program, dir, &file)?;
            let node = Process::node(dir, &file, &[])?;
            let client = Client::with_limits(&file.certificate.api, limits)?;
            members.push(Member { file, client, node, sentinel });
        }
        members.iter_mut().try_for_each(|member| member.node.first_line().map(|_| ()))?;
        let members = Self(members);
        let apis: Vec<String> =
            members.0.iter().map(|member| member.file.certificate.api.clone()).collect();
        wait_ready(&apis)?;
        Ok((members, genesis))
    }

    /// Clients of all nodes that execute.
    pub fn executors(&self) -> Vec<Client> {
        let executors = self.0.iter().filter(|member| member.executes());
        executors.map(|member| member.client.clone()).collect()
    }

    /// Their names, in order.
    pub fn names(&self) -> Vec<String> {
        self.0.iter().map(|member| member.name().to_owned()).collect()
    }

    /// Name of the one that leads.
    pub fn leader(&self) -> Done<String> {
        let Some(first) = self.0.first() else { return Ok(String::new()) };
        let status = first.client.cluster()?;
        let leads = |number: &u16| Some(*number) == status.leader;
        let node = status.nodes.iter().find(|node| leads(&node.number));
        Ok(node.map(|node| node.name.clone()).unwrap_or_default())
    }

    /// Processor time of all so far, in order.
    pub fn used(&self) -> Done<Vec<Used>> {
        self.0.iter().map(Member::used).collect()
    }

    /// Roots of all executors at one height; fails when they differ.
    pub fn compare(&self) -> Done<TableRoots> {
        let clients = self.executors();
        for _ in 0..COMPARISONS_MAX {
            let mut height = 0;
            for client in &clients {
                height = height.max(client.status()?.height);
            }
            let mut roots = Vec::new();
            for client in &clients {
                if let TablesAnswer::Roots(found) = client.tables(height)? {
                    roots.push(found);
                }
            }
            // One that is beyond the height already can't tell its roots at it.
            if roots.len() < clients.len() {
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
            let mut roots = roots.into_iter();
            let first = roots.next().ok_or_else(|| Fail::new("compare", "no node executes"))?;
            return match roots.find(|other| *other != first) {
                None => Ok(first),
                Some(other) => Err(Fail::new("tables_differ", format!("{first:?} and {other:?}"))),
            };
        }
        Err(Fail::new("compare", "the nodes never spoke of the same height"))
    }

    /// Stops all: nodes first, at once.
    pub fn stop(mut self) -> Done {
        self.0.iter_mut().for_each(|member| member.node.tell());
        let mut killed = Vec::new();
        for member in &mut self.0 {
            if !member.node.wait(|| STOP_MAX) {
                killed.push(member.node.name.clone());
            }
        }
        self.0.iter_mut().for_each(|member| member.sentinel.tell());
        for member in &mut self.0 {
            if !member.sentinel.wait(|| STOP_MAX) {
                killed.push(member.sentinel.name.clone());
            }
        }
        if killed.is_empty() {
            return Ok(());
        }
        Err(Fail::new("child", format!("{} did not stop in 2 minutes", killed.join(", "))))
    }
}
