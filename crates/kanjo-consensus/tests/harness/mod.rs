//! A cluster in one process under simulated time: an in-memory bus with delay, loss and cuts, disks
//! that lose what was not synced, and sentinels that remember what they signed.
#![allow(dead_code, reason = "each test file uses a part")]

use bytes::Bytes;
use kanjo_consensus::boundary::{
    CommittedEntry, Notary, NotaryError, ProposalCheck, ProposalRequest, Sink,
};
use kanjo_consensus::bus::{BoxFuture, Bus, BusError, Topic};
use kanjo_consensus::engine::{Engine, EngineConfig, Parts, Role};
use kanjo_consensus::entry::{Content, EntryHead, Proposal};
use kanjo_consensus::log::{LogParts, Writing};
use kanjo_store::faults::FaultyDisk;
use kanjo_store::log::{BlockLog, LogOptions};
use kanjo_types::PublicKey;
use kanjo_types::block::{Certificate, HEADER_VERSION, Header, proposal_digest};
use kanjo_types::hash::Hash;
use kanjo_types::id::ChainId;
use kanjo_types::signature::{KeyKind, SecretKey, verify};
use kanjo_types::stored::{Block, encode_block};
use openraft::AsyncRuntime;
use openraft_rt_sim::SimRuntime;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub type R = SimRuntime;

pub fn chain() -> ChainId {
    ChainId(Hash([7; 32]))
}

pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub async fn sleep(duration: Duration) {
    R::sleep(duration).await;
}

/// Runs a test under simulated time.
pub fn simulate<F: Future<Output = ()>>(seed: u64, test: F) {
    SimRuntime::with_seed(seed).block_on(test);
}

/// The link between all nodes.
#[derive(Default)]
pub struct Net {
    nodes: Mutex<BTreeMap<u16, Engine<R>>>,
    /// From whom to whom nothing passes.
    cuts: Mutex<BTreeSet<(u16, u16)>>,
    /// Every so many messages one is lost; 0: none.
    pub loss: Mutex<u64>,
    count: Mutex<u64>,
    /// Changes the body of a message on its way.
    pub tamper: Mutex<Option<Tamper>>,
    /// From this height on nobody knows who proposes.
    pub unknown_from: Mutex<Option<u64>>,
}

pub type Tamper = Box<dyn Fn(u16, u16, Topic, Bytes) -> Bytes + Send>;

impl Net {
    fn passes(&self, from: u16, to: u16) -> bool {
        let mut count = self.count.lock().unwrap();
        *count += 1;
        let loss = *self.loss.lock().unwrap();
        // Without a period that heartbeats could fall in with.
        let mixed = count.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        let lost = loss > 0 && mixed.is_multiple_of(loss);
        !lost && !self.cuts.lock().unwrap().contains(&(from, to))
    }

    /// A little different each time, and the same each run.
    fn delay(&self) -> Duration {
        let count = *self.count.lock().unwrap();
        Duration::from_micros(200 + count * 7_919 % 400)
    }

    pub fn cut(&self, from: u16, to: u16) {
        self.cuts.lock().unwrap().insert((from, to));
    }

    /// Cuts one node off, both ways.
    pub fn isolate(&self, node: u16, others: impl IntoIterator<Item = u16>) {
        for other in others {
            self.cut(node, other);
            self.cut(other, node);
        }
    }

    pub fn heal(&self) {
        self.cuts.lock().unwrap().clear();
    }
}

struct Link {
    id: u16,
    net: Arc<Net>,
}

impl Bus for Link {
    fn call(
        &self,
        to: u16,
        topic: Topic,
        body: Bytes,
        ttl: Duration,
    ) -> BoxFuture<'static, Result<Bytes, BusError>> {
        let (id, net) = (self.id, self.net.clone());
        let call = async move {
            sleep(net.delay()).await;
            if !net.passes(id, to) {
                return std::future::pending().await;
            }
            let body = match &*net.tamper.lock().unwrap() {
                Some(tamper) => tamper(id, to, topic, body),
                None => body,
            };
            let node = net.nodes.lock().unwrap().get(&to).cloned();
            let Some(node) = node else {
                return Err(BusError::Unreachable { to, why: "down".to_owned() });
            };
            let answer = node.handle(id, topic, body).await.map_err(BusError::Refused);
            sleep(net.delay()).await;
            if net.passes(to, id) { answer } else { std::future::pending().await }
        };
        Box::pin(async move { R::timeout(ttl, call).await.unwrap_or(Err(BusError::Timeout)) })
    }

    fn send(&self, _to: u16, _topic: Topic, _body: Bytes) {}

    fn publish(&self, _topic: Topic, _body: Bytes) {}
}

pub fn key(id: u16) -> SecretKey {
    let mut seed = [9; 32];
    seed[..2].copy_from_slice(&id.to_le_bytes());
    SecretKey::from_seed(KeyKind::Ed25519, seed).unwrap()
}

/// Signs each (term, height) once, whatever becomes of the node.
pub struct Sentinel {
    key: SecretKey,
    signed: Mutex<BTreeMap<(u64, u64), Hash>>,
}

impl Notary for Sentinel {
    fn sign(
        &self,
        requests: Vec<ProposalRequest>,
    ) -> BoxFuture<'static, Result<Vec<[u8; 64]>, NotaryError>> {
        let mut signed = self.signed.lock().unwrap();
        let mut signatures = Vec::new();
        for ProposalRequest { term, height, content } in requests {
            let before = *signed.entry((term, height)).or_insert(content);
            // An honest node never asks for this.
            assert_eq!(before, content, "two proposals for term {term}, height {height}");
            signatures.push(self.key.sign(&proposal_digest(chain(), term, height, &content)));
        }
        Box::pin(async move {
            sleep(Duration::from_micros(300)).await;
            Ok(signatures)
        })
    }
}

/// Knows the keys of all members.
pub struct Members(Arc<Net>);

impl ProposalCheck for Members {
    fn check(&self, _from: u16, entry: &EntryHead) -> Result<(), String> {
        if self.0.unknown_from.lock().unwrap().is_some_and(|height| entry.index >= height) {
            return Err(format!("the proposer of {} is not known here", entry.index));
        }
        let public: PublicKey = key(entry.proposer).public();
        let good = verify(&public, &entry.proposal(chain()), &entry.signature);
        good.then_some(()).ok_or_else(|| format!("wrong signature at height {}", entry.index))
    }
}

/// A node's state: all entries it was given.
#[derive(Default)]
pub struct Ledger {
    pub entries: Mutex<Vec<CommittedEntry>>,
}

impl Sink for Ledger {
    fn committed(&self, entry: CommittedEntry) -> BoxFuture<'static, ()> {
        let mut entries = self.entries.lock().unwrap();
        assert_eq!(entry.index, entries.len() as u64, "in order, without gaps");
        entries.push(entry);
        Box::pin(async { sleep(Duration::from_micros(50)).await })
    }
}

/// What remains of a node when it is down, and the engine while it is up.
pub struct Node {
    pub id: u16,
    pub disk: FaultyDisk,
    pub sentinel: Arc<Sentinel>,
    pub ledger: Arc<Ledger>,
    pub engine: Option<Engine<R>>,
}

pub struct Cluster {
    pub net: Arc<Net>,
    pub nodes: Vec<Node>,
    voters: u16,
}

pub fn open(disk: &FaultyDisk) -> LogParts {
    let (shared, dir) = (Arc::new(disk.clone()), Path::new("/node"));
    let options = LogOptions { segment_bytes: 1 << 20, first_height: 0 };
    let chain = chain().0.0;
    let (log, _) = BlockLog::open(shared.clone(), &dir.join("log"), chain, options).unwrap();
    LogParts { log, dir: dir.to_owned(), disk: shared }
}

pub fn config() -> EngineConfig {
    EngineConfig {
        heartbeat_ms: 20,
        election_min_ms: 100,
        election_max_ms: 200,
        writing: Writing::Inline,
        ..EngineConfig::default()
    }
}

impl Cluster {
    /// `voters` of the genesis, and more nodes that are nothing yet.
    pub async fn start(voters: u16, others: u16) -> Self {
        let net = Arc::new(Net::default());
        let node = |id: u16| Node {
            id,
            disk: FaultyDisk::new(u64::from(id)),
            sentinel: Arc::new(Sentinel { key: key(id), signed: Mutex::default() }),
            ledger: Arc::default(),
            engine: None,
        };
        let nodes = (0..voters + others).map(node).collect();
        let mut cluster = Self { net, nodes, voters };
        for id in 0..voters + others {
            cluster.up(id).await;
        }
        cluster
    }

    pub fn node(&self, id: u16) -> &Node {
        &self.nodes[usize::from(id)]
    }

    pub fn engine(&self, id: u16) -> &Engine<R> {
        self.node(id).engine.as_ref().expect("it is up")
    }

    pub async fn up(&mut self, id: u16) {
        let node = &mut self.nodes[usize::from(id)];
        let applied = (node.ledger.entries.lock().unwrap().len() as u64).checked_sub(1);
        let parts = Parts {
            id,
            genesis_voters: self.voters,
            applied,
            log: open(&node.disk),
            bus: Arc::new(Link { id, net: self.net.clone() }),
            notary: node.sentinel.clone(),
            check: Arc::new(Members(self.net.clone())),
            sink: node.ledger.clone(),
        };
        let engine = Engine::start(config(), parts).await.unwrap();
        node.engine = Some(engine.clone());
        self.net.nodes.lock().unwrap().insert(id, engine);
    }

    /// Cuts the power of a node. Its state lags behind what it had executed, by some heights.
    pub async fn crash(&mut self, id: u16, lost: usize) {
        self.net.nodes.lock().unwrap().remove(&id);
        let node = &mut self.nodes[usize::from(id)];
        node.disk = node.disk.crash(u64::from(id) + lost as u64);
        let old = node.engine.take().expect("it is up");
        // What it is still given belongs to nobody.
        let mut entries = node.ledger.entries.lock().unwrap().clone();
        entries.truncate(entries.len().saturating_sub(lost));
        node.ledger = Arc::new(Ledger { entries: Mutex::new(entries) });
        old.stop().await;
    }

    /// Stops a node as planned, and opens the same files again.
    pub async fn restart(&mut self, id: u16) {
        self.net.nodes.lock().unwrap().remove(&id);
        let engine = self.nodes[usize::from(id)].engine.take().expect("it is up");
        engine.stop().await;
        self.up(id).await;
    }

    /// Waits until somebody leads and a majority follows; who, and in which term.
    pub async fn leader(&self) -> (u16, u64) {
        for _ in 0..2_000 {
            sleep(ms(5)).await;
            let up = self.nodes.iter().filter_map(|node| node.engine.as_ref());
            let leaders = up.filter(|engine| engine.now().role == Role::Leader);
            let Some(leader) = leaders.max_by_key(|engine| engine.now().term) else { continue };
            let state = leader.now();
            let own = state.last_log.and_then(|last| leader.log().entry(last).ok().flatten());
            if state.committed == state.last_log && own.is_some_and(|e| e.term() == state.term) {
                return (leader.id(), state.term);
            }
        }
        let states = self.nodes.iter().filter_map(|node| node.engine.as_ref());
        panic!("nobody leads: {:#?}", states.map(Engine::now).collect::<Vec<_>>());
    }

    /// Waits until all nodes that are up have the same entries, at least up to `height`.
    pub async fn settled(&self, height: u64) {
        let lengths = || {
            let up = self.nodes.iter().filter(|node| node.engine.is_some());
            up.map(|node| node.ledger.entries.lock().unwrap().len() as u64).collect::<BTreeSet<_>>()
        };
        for _ in 0..4_000 {
            let lengths = lengths();
            if lengths.len() == 1 && lengths.first() > Some(&height) {
                return;
            }
            sleep(ms(5)).await;
        }
        panic!("not settled: {:?}", lengths());
    }

    /// All nodes that are up hold equal entries as far as they have come; returns the longest.
    pub fn agree(&self) -> Vec<CommittedEntry> {
        let mut longest: Vec<CommittedEntry> = Vec::new();
        for node in &self.nodes {
            let entries = node.ledger.entries.lock().unwrap().clone();
            let common = entries.len().min(longest.len());
            assert_eq!(entries[..common], longest[..common], "node {} differs", node.id);
            if entries.len() > longest.len() {
                longest = entries;
            }
        }
        longest
    }

    pub async fn stop(&mut self) {
        self.net.nodes.lock().unwrap().clear();
        for node in &mut self.nodes {
            if let Some(engine) = node.engine.take() {
                engine.stop().await;
            }
        }
    }
}

pub fn header(height: u64, number: u64) -> Header {
    Header {
        version: HEADER_VERSION,
        chain: chain(),
        height,
        parents: vec![Hash([1; 32])],
        time_ms: number,
        producer: 0,
        transactions: 0,
        transactions_root: Hash::ZERO,
        receipts_root: Hash::ZERO,
        state_root: Hash::ZERO,
        history_root: Hash::ZERO,
        fees: Vec::new(),
        supply: Vec::new(),
    }
}

/// A block that says its height and a number.
pub fn block(height: u64, number: u64) -> Proposal {
    let header = header(height, number);
    let hash = header.hash();
    let certificate = Certificate { epoch: 0, votes: Vec::new() };
    let block = Block { header, certificate, entries: Vec::new(), genesis_rows: Vec::new() };
    Proposal { header: hash, bytes: encode_block(&block).into() }
}

/// The height and number that a block says it has.
pub fn said(entry: &CommittedEntry) -> Option<(u64, u64)> {
    let Content::Block(bytes) = &entry.content else { return None };
    let (header, _) = kanjo_types::stored::decode_head(bytes).unwrap();
    Some((header.height, header.time_ms))
}

/// Proposes blocks on whoever leads until `count` more are committed; `numbers` gives each its
/// number. Returns the numbers that are known to be committed.
pub async fn propose(cluster: &Cluster, count: u64, numbers: &mut u64) -> BTreeSet<u64> {
    let mut done = BTreeSet::new();
    while (done.len() as u64) < count {
        let (leader, term) = cluster.leader().await;
        let engine = cluster.engine(leader).clone();
        let mut height = engine.now().last_log.unwrap_or(0) + 1;
        while (done.len() as u64) < count {
            let window = 16.min(count - done.len() as u64);
            let mut wanted = Vec::new();
            for _ in 0..window {
                *numbers += 1;
                if engine.propose(term, height, block(height, *numbers)).await.is_err() {
                    break;
                }
                wanted.push((height, *numbers));
                height += 1;
            }
            let ledger = &cluster.node(leader).ledger;
            let have = |(height, number): &(u64, u64)| {
                let entries = ledger.entries.lock().unwrap();
                let entry = entries.get(usize::try_from(*height).unwrap());
                entry.is_some_and(|entry| said(entry) == Some((*height, *number)))
            };
            for _ in 0..100 {
                if wanted.iter().all(have) {
                    break;
                }
                sleep(ms(5)).await;
            }
            let before = done.len();
            done.extend(wanted.iter().filter(|wanted| have(wanted)).map(|(_, number)| *number));
            if done.len() - before < wanted.len() || wanted.is_empty() {
                break;
            }
        }
    }
    done
}
