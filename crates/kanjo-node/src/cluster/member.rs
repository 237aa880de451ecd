//! Starting and stopping a member.

use crate::clock::Clock;
use crate::cluster::evidence::Appraiser;
use crate::cluster::finality::{Event, FinalityThread, Proposal};
use crate::cluster::handler::{Router, Routes};
use crate::cluster::keeper::Keeper;
use crate::cluster::manager::{Manager, ToManager, View};
use crate::cluster::replayer::Replayer;
use crate::cluster::signing::{SentinelNotary, Signing, ToSign};
use crate::cluster::state::{Own, peers};
use crate::cluster::validity::Listener;
use crate::cluster::{ClusterState, measures, validity};
use crate::config::Config;
use crate::data;
use crate::flow::Flow;
use crate::node::{Assembly, RunningNode, StartError, Thread, join, spawn};
use crate::release::{Behind, Release};
use crate::restart::{self, OpenedAs};
use crate::sealer::{Next, Sealing};
use crossbeam_channel::{Sender, unbounded};
use kanjo_api::cluster::NodeRole;
use kanjo_consensus::boundary::{CommittedEntry, ProposalCheck, Sink};
use kanjo_consensus::engine::{Engine, EngineConfig, Parts};
use kanjo_consensus::entry::{self, EntryHead};
use kanjo_consensus::log::LogParts;
use kanjo_link::bus::{BoxFuture, Bus};
use kanjo_link::keys::LinkKey;
use kanjo_link::mesh::{Limits as MeshLimits, Mesh, MeshConfig};
use kanjo_member::finality::{Beginning, Finality};
use kanjo_proof::merkle::Frontier;
use kanjo_sentinel::client::Signer;
use kanjo_store::disk::Disk;
use kanjo_types::membership::{Member, Membership};
use kanjo_types::signature::verify;
use kanjo_types::{ChainId, Genesis, Hash, PublicKey};
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft_rt_tokio::TokioRuntime;
use parking_lot::RwLock;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, mpsc, oneshot};

/// Committed entries that may be on their way to finality.
const COMMITTED_MAX: usize = 256;

/// What a member needs beside its [`Config`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberOptions {
    /// Where links of other members are taken; the port of its certificate's address on loopback
    /// unless told otherwise.
    pub link_listen: Option<SocketAddr>,
    /// A voter that can't be reached for so long is ejected, if that makes the quorum smaller.
    pub eject_after: Duration,
    /// Times of the engine.
    pub engine: EngineConfig,
    /// Roles that this node takes; all that fall to it when left out.
    pub roles: Option<Vec<NodeRole>>,
    /// Leadership is handed over to a voter that has more than twice the power for a while.
    pub prefer_power: bool,
    /// The newest membership that is known from elsewhere: a node that is new finds itself and the
    /// others there before it has executed the blocks that made it.
    pub membership: Option<Arc<Membership>>,
    /// Members that are reached elsewhere than their certificates say, by name: through a tunnel or
    /// an address translation.
    pub link_via: BTreeMap<String, String>,
}

impl Default for MemberOptions {
    fn default() -> Self {
        let eject_after = Duration::from_secs(5);
        Self {
            link_listen: None,
            eject_after,
            engine: EngineConfig::default(),
            roles: None,
            prefer_power: false,
            membership: None,
            link_via: BTreeMap::new(),
        }
    }
}

/// What of a member runs beside the pipeline.
pub(crate) struct MemberThreads {
    engine: Engine<TokioRuntime>,
    engine_runtime: Runtime,
    links_runtime: Runtime,
    mesh: Arc<Mesh>,
    finality: Sender<Event>,
    flow: Arc<Flow>,
    manager: mpsc::UnboundedSender<ToManager>,
    signer: Sender<ToSign>,
}

impl MemberThreads {
    /// Leaves the quorum, as far as others go on without this node.
    pub(crate) fn leave(&self) -> Result<(), String> {
        let (reply, left) = oneshot::channel();
        if self.manager.send(ToManager::Leave(reply)).is_err() {
            return Err("the cluster's manager is gone".to_owned());
        }
        left.blocking_recv().map_err(|_| "the cluster's manager is gone".to_owned())?
    }

    /// Nothing that is under way here will be final here.
    pub(crate) fn give_up(&self) {
        self.flow.close();
        let _ = self.finality.send(Event::Stop);
    }

    /// Waits for sequencer and sealer, lets finality finish what is under way, then ends the engine
    /// and its links; the other stages end with them.
    pub(crate) fn stop(self, stages: &mut Vec<Thread>) {
        let is_maker = |(name, _): &Thread| matches!(*name, "sequencer" | "sealer");
        let makers: Vec<Thread> = stages.extract_if(.., |stage| is_maker(stage)).collect();
        let made = join(makers);
        let _ = self.finality.send(Event::Finish);
        let is_finality = |(name, _): &Thread| *name == "finality";
        let finality: Vec<Thread> = stages.extract_if(.., |stage| is_finality(stage)).collect();
        if let Err(error) = made.and(join(finality)) {
            tracing::error!(%error, "a stage ended badly");
        }
        self.engine_runtime.block_on(self.engine.stop());
        self.mesh.close();
        let _ = self.signer.send(ToSign::Stop);
        self.links_runtime.shutdown_timeout(Duration::from_secs(1));
        self.engine_runtime.shutdown_timeout(Duration::from_secs(1));
    }
}

/// Hands committed entries to finality, as fast as this node executes them.
struct ToFinality {
    events: Sender<Event>,
    room: Arc<Semaphore>,
}

impl Sink for ToFinality {
    fn committed(&self, entry: CommittedEntry) -> BoxFuture<'static, ()> {
        let (events, room) = (self.events.clone(), self.room.clone());
        Box::pin(async move {
            // Closed never.
            if let Ok(permit) = room.acquire_owned().await {
                let _ = events.send(Event::Committed(Box::new(entry), permit));
            }
        })
    }
}

/// Proposals are taken from members that may lead: executors and witnesses with a vote, now or not
/// long ago. Which epoch a height belongs to is not known before it is executed, so that the
/// engine's own rules decide who leads; this makes sure that a sentinel signed.
struct SignedBySentinel {
    chain: ChainId,
    cluster: Arc<ClusterState>,
}

impl ProposalCheck for SignedBySentinel {
    fn check(&self, _from: u16, entry: &EntryHead) -> Result<(), String> {
        if entry.index == 0 {
            return Ok(());
        }
        let known = self.cluster.known();
        let member = known
            .member(entry.proposer)
            .ok_or_else(|| format!("{} is no member that is known here", entry.proposer))?;
        let key = PublicKey::Ed25519(member.certificate.vote_key);
        if verify(&key, &entry.proposal(self.chain), &entry.signature) {
            return Ok(());
        }
        Err(format!("entry {} is not signed by the sentinel of {}", entry.index, entry.proposer))
    }
}

fn find<'a>(membership: &'a Membership, vote_key: &[u8; 32]) -> Option<(u16, &'a Member)> {
    membership.numbered().find(|(_, member)| member.certificate.vote_key == *vote_key)
}

fn runtime(name: &'static str, threads: usize) -> Result<Runtime, StartError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name(name)
        .enable_all()
        .build()
        .map_err(StartError::Thread)
}

/// Starts the member whose data is in `config.data`. `void` are blocks that this node executed
/// otherwise than the cluster's leader, from before a rewind.
///
/// # Errors
/// [`StartError`]; nothing is left running.
#[allow(clippy::too_many_lines)] // One list of parts; splitting it would hide the order.
pub fn start_member(
    config: Config,
    options: &MemberOptions,
    mut signer: Box<dyn Signer>,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    void: BTreeSet<(u64, Hash)>,
) -> Result<RunningNode, StartError> {
    let dir = config.data.clone();
    let listener = crate::node::bind(config.listen)?;
    let recent = Arc::new(RwLock::default());
    let vote_key = signer.vote_key();
    let is_witness = |genesis: &Genesis| {
        let told = options.membership.clone();
        let told = told.unwrap_or_else(|| Arc::new(Membership::of_genesis(genesis)));
        find(&told, &vote_key).is_some_and(|(_, me)| !me.executes())
    };
    let mut opened = restart::open_member(&config, disk.clone(), Arc::clone(&recent), is_witness)?;
    let chain = opened.genesis.chain_id();
    let membership = opened.membership.clone();
    // For links and for whose signatures are known; which votes count comes from the ledger alone.
    let newest = match &options.membership {
        Some(told) if told.epoch > membership.epoch => told.clone(),
        _ => membership.clone(),
    };
    let me = find(&newest, &vote_key)
        .map(|(number, _)| number)
        .ok_or(StartError::NoMember(hex::encode(vote_key)))?;
    let link_key = LinkKey::read(&data::link_key_path(&dir))
        .map_err(|error| StartError::Member(error.to_string()))?;
    let engine_runtime = runtime("kanjo-engine", 1)?;
    let links_runtime = runtime("kanjo-links", 2)?;
    let router = Arc::new(Router::default());
    let own = newest.member(me).map(|member| member.certificate.address.clone());
    let listen = match options.link_listen {
        Some(listen) => listen.to_string(),
        None => own.unwrap_or_default(),
    };
    let mesh_config = MeshConfig {
        chain: chain.0.0,
        me,
        key: link_key,
        listen,
        peers: peers(&newest, me, &[], Some(&options.link_via)),
        limits: MeshLimits::default(),
    };
    let mesh = links_runtime
        .block_on(Mesh::start(mesh_config, router.clone()))
        .map_err(|error| StartError::Member(format!("links: {error}")))?;
    let bus: Arc<dyn Bus> = mesh.clone();
    let (notice_sender, notices) = mpsc::unbounded_channel();
    let cluster =
        Arc::new(ClusterState::new(me, newest, Arc::clone(&recent), bus.clone(), notice_sender));
    cluster.set_links(mesh.clone());
    cluster.set_own(Own {
        program: signer.measurement(),
        attestor: signer.status().ok().map(|status| status.attestor.name()),
        takes: options.roles.as_ref().map(|roles| measures::mask(roles)),
        link_via: options.link_via.clone(),
    });
    if let Some(told) = &options.membership {
        cluster.learn(told.clone());
    }

    let Some(OpenedAs::Member { log, certificates }) = opened.kind.take() else {
        return Err(StartError::Member("opened as a ledger of one node".to_owned()));
    };
    let flow = Arc::new(Flow::default());
    let genesis_voters = u16::try_from(opened.genesis.voters.len()).unwrap_or(u16::MAX);
    let last = opened.last.clone();
    let is_certified = !last.certificate.votes.is_empty();
    let mut frontier = Frontier::default();
    let earlier = opened.blocks.header_hashes(0..last.header.height);
    earlier.map_err(restart::OpenLedgerError::from)?.into_iter().for_each(|hash| {
        frontier.push(Hash(hash));
    });
    frontier.push(last.header.hash());

    let mut assembly = Assembly::new(
        config,
        clock,
        opened,
        Some(cluster.clone()),
        Sealing::Cluster { me, flow: flow.clone() },
    )?;
    let shared = assembly.shared.clone();
    assembly.prepare_segments_of(log.preparer())?;
    assembly.prepare_segments_of(certificates.preparer())?;

    let (events, finality_events) = unbounded();
    let (to_replayer, heights) = unbounded();
    let (to_signer, to_sign) = unbounded::<ToSign>();
    let (proposals, to_propose) = mpsc::unbounded_channel();
    let (kept_sender, kept) = unbounded();
    let sequencer = assembly.sequencer();
    let signing = Signing {
        shared: shared.clone(),
        cluster: cluster.clone(),
        requests: to_sign,
        finality: events.clone(),
        signer,
    };
    let replayer = Replayer { shared: shared.clone(), heights, sequencer: sequencer.clone() };
    let (index, copies) = assembly.behind()?;
    cluster.kept_to.store(certificates.next_height(), Ordering::Release);
    let keeper = Keeper {
        shared: shared.clone(),
        log: certificates,
        kept,
        recent,
        finality: events.clone(),
        index,
        copies,
    };
    let released = is_certified.then(|| last.clone());
    let next_height = released.as_ref().map_or(0, |signed| signed.header.height + 1);
    let applied = next_height.checked_sub(1);
    let beginning = Beginning {
        me,
        is_witness: cluster.is_witness,
        program: cluster.program(),
        last,
        history: frontier,
        membership,
        void,
    };
    let finality = FinalityThread {
        shared: shared.clone(),
        cluster: cluster.clone(),
        events: finality_events,
        sequencer: sequencer.clone(),
        replayer: to_replayer,
        signer: to_signer.clone(),
        proposals,
        release: Release { shared: shared.clone(), behind: Behind::Certificates(kept_sender) },
        flow: flow.clone(),
        rules: Finality::new(beginning),
        newest: released,
        begin: Instant::now(),
        finish_by: None,
    };
    // The sealer's output goes to finality as events.
    assembly.seal_into(Next::Finality(events.clone()))?;
    assembly.stages.push(spawn("signing", &shared, move || signing.run())?);
    assembly.stages.push(spawn("replay", &shared, move || replayer.run())?);
    assembly.stages.push(spawn("certificates", &shared, move || keeper.run())?);
    assembly.stages.push(spawn("finality", &shared, move || finality.run())?);

    let engine_dir = data::engine_path(&dir);
    kanjo_store::disk::create_dir_durably(&*disk, &engine_dir)
        .map_err(|error| StartError::Member(format!("{}: {error}", engine_dir.display())))?;
    let parts = Parts {
        id: me,
        genesis_voters,
        applied,
        log: LogParts { log, dir: engine_dir, disk },
        bus,
        notary: Arc::new(SentinelNotary {
            requests: to_signer.clone(),
            shared: shared.clone(),
            cluster: cluster.clone(),
        }),
        check: Arc::new(SignedBySentinel { chain, cluster: cluster.clone() }),
        sink: Arc::new(ToFinality {
            events: events.clone(),
            room: Arc::new(Semaphore::new(COMMITTED_MAX)),
        }),
    };
    let mut engine_config = options.engine.clone();
    if cluster.is_witness {
        // Executors should lead: a witness waits for them.
        engine_config.election_min_ms = engine_config.election_min_ms.saturating_mul(4);
        engine_config.election_max_ms = engine_config.election_max_ms.saturating_mul(4);
    }
    let engine = engine_runtime
        .block_on(Engine::<TokioRuntime>::start(engine_config, parts))
        .map_err(|error| StartError::Member(error.to_string()))?;
    let (to_manager, asked) = mpsc::unbounded_channel();
    router.open(Routes::new(
        &shared,
        cluster.clone(),
        engine.clone(),
        events.clone(),
        to_manager.clone(),
        to_signer.clone(),
    ));
    engine_runtime.spawn(propose(engine.clone(), cluster.clone(), to_propose, events.clone()));
    engine_runtime.spawn(watch_role(engine.clone(), cluster.clone(), events.clone()));
    cluster.set_engine(engine.clone());
    cluster.set_manager(to_manager.clone());
    let links = mesh.clone();
    let reachable: Arc<dyn Fn() -> BTreeSet<u16> + Send + Sync> =
        Arc::new(move || reachable(&links));
    let appraiser = Appraiser { chain, cluster: cluster.clone(), reachable: reachable.clone() };
    links_runtime.spawn(appraiser.run());
    links_runtime.spawn(validity::tell(shared.clone(), cluster.clone()));
    let (log, progress) = (shared.log.clone(), engine.clone());
    let certificates = Listener {
        cluster: cluster.clone(),
        next_height: Arc::new(move || log.next_height()),
        committed: Arc::new(move || progress.now().committed),
        finality: events.clone(),
    };
    links_runtime.spawn(certificates.run());
    let manager = Manager {
        shared: shared.clone(),
        cluster,
        engine: engine.clone(),
        finality: events.clone(),
        sequencer,
        signer: to_signer.clone(),
        asked,
        notices,
        reachable,
        eject_after: options.eject_after,
        prefer_power: options.prefer_power,
        state: View::default(),
    };
    links_runtime.spawn(manager.run());
    let threads = MemberThreads {
        engine,
        engine_runtime,
        links_runtime,
        mesh,
        finality: events,
        flow,
        manager: to_manager,
        signer: to_signer,
    };
    assembly.finish(listener, Some(threads))
}

/// Members whose link for the engine's messages is up.
fn reachable(mesh: &Mesh) -> BTreeSet<u16> {
    let up = mesh.peers().into_iter().filter(|peer| peer.connected.iter().all(|up| *up));
    up.map(|peer| peer.peer.number).collect()
}

/// Proposes blocks in order, in the term in which this node leads.
async fn propose(
    engine: Engine<TokioRuntime>,
    cluster: Arc<ClusterState>,
    mut proposals: mpsc::UnboundedReceiver<Proposal>,
    finality: Sender<Event>,
) {
    while let Some(proposal) = proposals.recv().await {
        let Proposal { height, header, bytes } = proposal;
        let term = cluster.leading_term.load(Ordering::Acquire);
        let proposed = engine.propose(term, height, entry::Proposal { header, bytes }).await;
        if let Err(error) = proposed {
            tracing::warn!(height, %error, "a block was not proposed");
            let _ = finality.send(Event::Role { term: None });
        }
    }
}

/// Keeps [`ClusterState::leading_term`], and tells finality when this node leads no more.
async fn watch_role(
    engine: Engine<TokioRuntime>,
    cluster: Arc<ClusterState>,
    finality: Sender<Event>,
) {
    let (mut state, mut waits) = (engine.state(), cluster.watch_signing());
    loop {
        // A leader that can't have its proposals signed leads no more.
        let waits_now = *waits.borrow_and_update();
        let (leads, term) = {
            let state = state.borrow_and_update();
            (state.role == kanjo_consensus::engine::Role::Leader && !waits_now, state.term)
        };
        let leading = if leads { term } else { 0 };
        let before = cluster.leading_term.swap(leading, Ordering::AcqRel);
        if before != leading {
            tracing::info!(term, leads, "leadership");
            if before != 0 {
                let _ = finality.send(Event::Role { term: None });
            }
            if leads {
                let _ = finality.send(Event::Role { term: Some(term) });
            }
        }
        let is_over = tokio::select! {
            changed = state.changed() => changed.is_err(),
            changed = waits.changed() => changed.is_err(),
        };
        if is_over {
            return;
        }
    }
}
