//! Opening a member's disk, and starting its tasks (`restart.rs` and `cluster/member.rs` of the
//! node).

use super::finality::{FinalityTask, Proposal};
use super::keeper::Keeper;
use super::maker::Maker;
use super::manager::Manager;
use super::replayer::Replayer;
use super::sealer::Sealer;
use super::signer::{Sentinel, Signing};
use super::{End, Event, Inboxes, Member, Replica, Sealed};
use crate::crimes::{Crime, MemberBus};
use crate::scene::{Broken, NodeSettings, Scene};
use crate::time::{Rt, spawn};
use crate::world;
use bytes::Bytes;
use kanjo_consensus::boundary::{CommittedEntry, ProposalCheck, Sink};
use kanjo_consensus::engine::{Engine, EngineConfig, Parts, Role};
use kanjo_consensus::entry::{Content, Entry, EntryHead};
use kanjo_consensus::log::{LogParts, Writing};
use kanjo_ledger::Ledger;
use kanjo_ledger::block::{build_trees, genesis_block};
use kanjo_link::bus::BoxFuture;
use kanjo_member::finality::{Beginning, Finality};
use kanjo_proof::merkle::Frontier;
use kanjo_proof::trust::SignedHeader;
use kanjo_store::disk::Disk;
use kanjo_store::faults::FaultyDisk;
use kanjo_store::log::{BlockLog, LogOptions};
use kanjo_types::membership::MemberKind;
use kanjo_types::signature::verify;
use kanjo_types::stored::{Block, decode_block};
use kanjo_types::{Hash, PublicKey, codec};
use openraft::async_runtime::watch::WatchReceiver as _;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// Committed entries that may be on their way to finality.
const COMMITTED_MAX: usize = 256;
/// Blocks made here that may be on their way.
pub(super) const FLOW_BLOCKS: usize = 8;
const SEGMENT_BYTES: u64 = 1 << 18;

/// What a directory holds.
struct Opened {
    log: BlockLog,
    certificates: BlockLog,
    ledger: Ledger,
    last: SignedHeader,
    /// Hashes of all headers.
    history: Vec<Hash>,
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn open_log(disk: &FaultyDisk, scene: &Scene, name: &str) -> Result<BlockLog, String> {
    let options = LogOptions { segment_bytes: SEGMENT_BYTES, first_height: 0 };
    let path = Path::new("/node").join(name);
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let opened = BlockLog::open(disk, &path, scene.chain.0.0, options);
    opened.map(|(log, _)| log).map_err(|error| format!("{name}: {error}"))
}

/// State up to the last certificate on disk.
fn open(disk: &FaultyDisk, scene: &Scene) -> Result<Opened, String> {
    let log = open_log(disk, scene, "log")?;
    let certificates = open_log(disk, scene, "certificates")?;
    let (entries, end) = (log.next_height(), certificates.next_height());
    if entries < end {
        return Err(format!("the log ends below height {entries}, certificates below {end}"));
    }
    let (genesis, mut ledger, _) = genesis_block(&scene.genesis);
    let certificate = kanjo_types::Certificate { epoch: 0, votes: Vec::new() };
    let mut last = SignedHeader { header: genesis.header, certificate };
    let mut history = vec![last.header.hash()];
    for height in 0..end {
        let bytes = certificates.read(height).map_err(text)?.unwrap_or_default();
        let signed: SignedHeader = codec::from_bytes(&bytes).map_err(text)?;
        if height > 0 {
            history.push(signed.header.hash());
            ledger.redo(&stored_block(&log, scene, &signed)?, |_| true);
        }
        last = signed;
    }
    Ok(Opened { log, certificates, ledger, last, history })
}

/// A final block, from the engine's log.
fn stored_block(log: &BlockLog, scene: &Scene, signed: &SignedHeader) -> Result<Block, String> {
    let SignedHeader { header, certificate } = signed.clone();
    let height = header.height;
    let bytes = log.read(height).map_err(text)?.unwrap_or_default();
    let entry = Entry::decode(height, Bytes::from(bytes)).map_err(text)?;
    if let Content::Block(content) = entry.content()
        && header.transactions > 0
    {
        let block = decode_block(content, scene.chain).map_err(text)?;
        if block.header == header {
            return Ok(Block { certificate, ..block });
        }
        return Err(format!("the log holds another block at height {height}"));
    }
    Ok(Block { header, certificate, entries: Vec::new(), genesis_rows: Vec::new() })
}

/// Starts the member whose data is on `disk`. `void` are blocks that it executed otherwise than the
/// cluster's leader, from before a rewind.
///
/// # Errors
/// Why it can't be started, as text.
#[allow(clippy::too_many_lines)] // One list of parts; splitting it would hide the order.
pub async fn start(
    scene: &Arc<Scene>,
    me: u16,
    disk: &FaultyDisk,
    settings: NodeSettings,
    void: BTreeSet<(u64, Hash)>,
) -> Result<Arc<Member>, String> {
    let Opened { log, certificates, ledger, last, history } = open(disk, scene)?;
    let membership = ledger.membership().clone();
    let is_witness = settings.kind == MemberKind::Witness;
    let trees = build_trees(&ledger);
    // What others found is what this disk gives again; a witness doesn't look at balances.
    if trees.root() != last.header.state_root {
        let (height, found) = (last.header.height, trees.root());
        scene.observer.finding(format!(
            "n{me} opened height {height}: state root {found}, its header says {}",
            last.header.state_root
        ));
    }
    let sentinel = Sentinel::open(scene, me, disk, settings)?;
    let (finality_in, finality_out) = unbounded_channel();
    let (maker_in, maker_out) = unbounded_channel();
    let (replayer_in, replayer_out) = unbounded_channel();
    let (signer_in, signer_out) = unbounded_channel();
    let (manager_in, manager_out) = unbounded_channel();
    let (keeper_in, keeper_out) = unbounded_channel();
    let (batches_in, batches_out) = unbounded_channel();
    let (proposals_in, proposals_out) = unbounded_channel();
    let is_certified = !last.certificate.votes.is_empty();
    let released = is_certified.then(|| last.clone());
    let next_height = released.as_ref().map_or(0, |signed| signed.header.height + 1);
    let mut frontier = Frontier::default();
    history.iter().for_each(|hash| frontier.push(*hash));
    let (height, next_due) = (last.header.height, ledger.next_due_ms());
    let member = Arc::new(Member {
        me,
        scene: scene.clone(),
        dice: scene.dice.fork(),
        crime: settings.crime,
        is_witness,
        skew_ms: settings.skew_ms,
        disk: disk.clone(),
        inboxes: Inboxes {
            finality: finality_in,
            maker: maker_in,
            replayer: replayer_in,
            signer: signer_in,
            manager: manager_in,
            keeper: keeper_in,
        },
        replica: Mutex::new(Replica { ledger, height, is_open: false }),
        sealed: Mutex::new(Sealed { trees, last: last.header.clone() }),
        leading_term: AtomicU64::new(0),
        next_release: AtomicU64::new(next_height),
        kept_to: AtomicU64::new(certificates.next_height()),
        made: Mutex::default(),
        sentinel_is_away: AtomicBool::new(false),
        signing_waits: AtomicBool::new(false),
        certificates: certificates.reader(),
        recent: Mutex::default(),
        membership: Mutex::new(membership.clone()),
        foreseen: Mutex::default(),
        heard: Mutex::default(),
        votes: Mutex::default(),
        engine: Mutex::default(),
        flow: Arc::new(tokio::sync::Semaphore::new(FLOW_BLOCKS)),
        alive: AtomicBool::new(true),
        ended: Mutex::default(),
    });
    member.note(format!("starts above height {:?}", next_height.checked_sub(1)));
    let (next_block, time_ms) = (height + 1, last.header.time_ms);
    let rules = Finality::new(Beginning {
        me,
        is_witness,
        program: world::PROGRAM,
        last,
        history: frontier.clone(),
        membership,
        void,
    });
    let finality = FinalityTask::new(member.clone(), proposals_in, rules);
    let maker = Maker::new(member.clone(), batches_in, next_block, time_ms, next_due);
    let sealer = Sealer { member: member.clone(), history: frontier };
    spawn(finality.run(finality_out));
    spawn(maker.run(maker_out));
    spawn(sealer.run(batches_out));
    spawn(Replayer { member: member.clone() }.run(replayer_out));
    spawn(Signing { member: member.clone(), sentinel }.run(signer_out));
    spawn(Keeper { member: member.clone(), log: certificates }.run(keeper_out));
    let genesis_voters = u16::try_from(scene.genesis.voters.len()).unwrap_or(u16::MAX);
    let parts = Parts {
        id: me,
        genesis_voters,
        applied: next_height.checked_sub(1),
        log: LogParts {
            log,
            dir: Path::new("/node/engine").to_owned(),
            disk: Arc::new(disk.clone()),
        },
        bus: Arc::new(MemberBus { member: member.clone() }),
        notary: Arc::new(super::signer::Notary { member: member.clone() }),
        check: Arc::new(SignedBySentinel { member: member.clone() }),
        sink: Arc::new(ToFinality {
            member: member.clone(),
            room: Arc::new(Semaphore::new(COMMITTED_MAX)),
        }),
    };
    let engine = Engine::<Rt>::start(engine_config(is_witness), parts).await.map_err(|error| {
        member.kill();
        text(error)
    })?;
    *member.engine.lock() = Some(engine.clone());
    spawn(propose(member.clone(), engine.clone(), proposals_out));
    spawn(watch_role(member.clone(), engine.clone()));
    spawn(Manager::new(member.clone(), engine).run(manager_out));
    scene.net.join(member.clone());
    if let Some(crime) = settings.crime {
        spawn(crate::crimes::run(member.clone(), crime));
    }
    Ok(member)
}

/// Times of the engine in a run. Executors should lead: a witness waits for them.
fn engine_config(is_witness: bool) -> EngineConfig {
    let times = if is_witness { 4 } else { 1 };
    EngineConfig {
        heartbeat_ms: 40,
        election_min_ms: 150 * times,
        election_max_ms: 300 * times,
        append_timeout_ms: 500,
        entries_per_append: 64,
        writing: Writing::Inline,
    }
}

/// Hands committed entries to finality, as fast as this node executes them.
struct ToFinality {
    member: Arc<Member>,
    room: Arc<Semaphore>,
}

impl Sink for ToFinality {
    fn committed(&self, entry: CommittedEntry) -> BoxFuture<'static, ()> {
        let (member, room) = (self.member.clone(), self.room.clone());
        Box::pin(async move {
            // Closed never.
            if let Ok(permit) = room.acquire_owned().await
                && member.is_alive()
            {
                let _ = member.inboxes.finality.send(Event::Committed(Box::new(entry), permit));
            }
        })
    }
}

struct SignedBySentinel {
    member: Arc<Member>,
}

impl ProposalCheck for SignedBySentinel {
    fn check(&self, _from: u16, entry: &EntryHead) -> Result<(), String> {
        if entry.index == 0 {
            return Ok(());
        }
        let known = self.member.known();
        let proposer = known
            .member(entry.proposer)
            .ok_or_else(|| format!("{} is no member that is known here", entry.proposer))?;
        let key = PublicKey::Ed25519(proposer.certificate.vote_key);
        if verify(&key, &entry.proposal(self.member.scene.chain), &entry.signature) {
            return Ok(());
        }
        let (index, by) = (entry.index, entry.proposer);
        self.member.note(format!("refuses entry {index}: not signed by the sentinel of n{by}"));
        self.member.scene.crimes.count_refused_entry();
        Err(format!("entry {index} is not signed by the sentinel of {by}"))
    }
}

/// Proposes blocks in order, in the term in which this node leads.
async fn propose(
    member: Arc<Member>,
    engine: Engine<Rt>,
    mut proposals: UnboundedReceiver<Proposal>,
) {
    while let Some(proposal) = proposals.recv().await {
        if !member.is_alive() {
            return;
        }
        let Proposal { height, header, bytes } = proposal;
        let term = member.leading_term.load(Ordering::Acquire);
        let proposal = kanjo_consensus::entry::Proposal { header, bytes };
        if let Err(error) = engine.propose(term, height, proposal).await {
            member.note(format!("height {height} was not proposed: {error}"));
            let _ = member.inboxes.finality.send(Event::Role { term: None });
        }
    }
}

/// Keeps the term in which this node leads, and tells finality when it leads no more.
async fn watch_role(member: Arc<Member>, engine: Engine<Rt>) {
    let mut state = engine.state();
    loop {
        let (leads, term, stopped) = {
            let state = state.borrow_and_update();
            (state.role == Role::Leader, state.term, state.stopped.clone())
        };
        if !member.is_alive() {
            return;
        }
        if let Some(reason) = stopped {
            return member.end(End::Broken(format!("the engine stopped: {reason}")));
        }
        let leading = if leads { term } else { 0 };
        let before = member.leading_term.swap(leading, Ordering::AcqRel);
        if before != leading {
            member.note(if leads { format!("leads term {term}") } else { "follows".to_owned() });
            if before != 0 {
                let _ = member.inboxes.finality.send(Event::Role { term: None });
            }
            if leads {
                let _ = member.inboxes.finality.send(Event::Role { term: Some(term) });
            }
        }
        if state.changed().await.is_err() {
            return;
        }
    }
}

/// Is a break of the rules switched on?
pub(super) fn is_broken(member: &Member, broken: Broken) -> bool {
    member.scene.broken == Some(broken)
}

/// Does this member lie about results now?
pub(super) fn lies(member: &Member) -> bool {
    member.commits(Crime::Liar)
}
