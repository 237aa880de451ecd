//! The engine on a thread of its own, with real files.

use bytes::Bytes;
use kanjo_consensus::boundary::{
    CommittedEntry, Notary, NotaryError, ProposalCheck, ProposalRequest, Sink,
};
use kanjo_consensus::bus::{BoxFuture, Bus, BusError, Topic};
use kanjo_consensus::engine::{Engine, EngineConfig, EngineError, Parts, Role};
use kanjo_consensus::entry::{Content, ENTRY_BYTES_MAX, EntryHead, Proposal};
use kanjo_consensus::log::LogParts;
use kanjo_store::disk::RealDisk;
use kanjo_store::log::{BlockLog, LogOptions};
use kanjo_types::block::{Certificate, HEADER_VERSION, Header};
use kanjo_types::hash::Hash;
use kanjo_types::id::ChainId;
use kanjo_types::stored::{Block, encode_block};
use openraft_rt_tokio::TokioRuntime;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

struct Alone;

impl Bus for Alone {
    fn call(
        &self,
        to: u16,
        _topic: Topic,
        _body: Bytes,
        _ttl: Duration,
    ) -> BoxFuture<'static, Result<Bytes, BusError>> {
        let why = "there is nobody".to_owned();
        Box::pin(async move { Err(BusError::Unreachable { to, why }) })
    }

    fn send(&self, _to: u16, _topic: Topic, _body: Bytes) {}

    fn publish(&self, _topic: Topic, _body: Bytes) {}
}

impl Notary for Alone {
    fn sign(
        &self,
        requests: Vec<ProposalRequest>,
    ) -> BoxFuture<'static, Result<Vec<[u8; 64]>, NotaryError>> {
        Box::pin(async move { Ok(requests.iter().map(|_| [1; 64]).collect()) })
    }
}

impl ProposalCheck for Alone {
    fn check(&self, from: u16, _entry: &EntryHead) -> Result<(), String> {
        Err(format!("nobody expects entries of {from}"))
    }
}

#[derive(Default)]
struct Ledger(Mutex<Vec<CommittedEntry>>);

impl Sink for Ledger {
    fn committed(&self, entry: CommittedEntry) -> BoxFuture<'static, ()> {
        self.0.lock().unwrap().push(entry);
        Box::pin(async {})
    }
}

impl Ledger {
    /// Waits until an entry of this height is there.
    fn wait(&self, height: u64) {
        let until = Instant::now() + Duration::from_secs(30);
        while self.0.lock().unwrap().last().is_none_or(|entry| entry.index < height) {
            assert!(Instant::now() < until, "nothing is committed");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn block(height: u64) -> Proposal {
    let header = Header {
        version: HEADER_VERSION,
        chain: ChainId(Hash([1; 32])),
        height,
        parents: vec![Hash([2; 32])],
        time_ms: height,
        producer: 0,
        transactions: 0,
        transactions_root: Hash::ZERO,
        receipts_root: Hash::ZERO,
        state_root: Hash::ZERO,
        history_root: Hash::ZERO,
        fees: Vec::new(),
        supply: Vec::new(),
    };
    let hash = header.hash();
    let certificate = Certificate { epoch: 0, votes: Vec::new() };
    let block = Block { header, certificate, entries: Vec::new(), genesis_rows: Vec::new() };
    Proposal { header: hash, bytes: encode_block(&block).into() }
}

fn start(dir: &Path, applied: Option<u64>) -> (Engine<TokioRuntime>, Arc<Ledger>) {
    let (disk, ledger) = (Arc::new(RealDisk), Arc::new(Ledger::default()));
    let options = LogOptions { segment_bytes: 1 << 20, first_height: 0 };
    let (log, _) = BlockLog::open(disk.clone(), &dir.join("log"), [1; 32], options).unwrap();
    let parts = Parts {
        id: 0,
        genesis_voters: 1,
        applied,
        log: LogParts { log, dir: dir.to_owned(), disk },
        bus: Arc::new(Alone),
        notary: Arc::new(Alone),
        check: Arc::new(Alone),
        sink: ledger.clone(),
    };
    (Engine::start_thread(EngineConfig::default(), parts).unwrap(), ledger)
}

#[test]
fn one_voter_orders_stops_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, ledger) = start(dir.path(), None);
    let caller = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    // Genesis, and the blank of the first term.
    ledger.wait(1);
    let state = engine.now();
    assert_eq!((state.role, state.leader, state.last_log), (Role::Leader, Some(0), Some(1)));
    caller.block_on(async {
        for height in 2..200 {
            engine.propose(state.term, height, block(height)).await.unwrap();
        }
        let other_term = engine.propose(state.term + 1, 200, block(200)).await;
        assert_eq!(other_term, Err(EngineError::NotLeader(None)));
        let bytes = vec![0; ENTRY_BYTES_MAX].into();
        let too_large =
            engine.propose(state.term, 200, Proposal { header: Hash::ZERO, bytes }).await;
        assert!(matches!(too_large, Err(EngineError::TooLarge { .. })));
    });
    ledger.wait(199);
    let first: Vec<CommittedEntry> = ledger.0.lock().unwrap().clone();
    assert!((0..200).eq(first.iter().map(|entry| entry.index)));
    caller.block_on(engine.stop());
    let stopped = caller.block_on(engine.propose(state.term, 200, block(200)));
    assert!(stopped.is_err());
    assert_eq!(engine.now().role, Role::Stopped);
    drop(engine);

    // The directory is free again, and what was committed comes again from where the state is.
    let (engine, ledger) = start(dir.path(), Some(150));
    ledger.wait(200);
    let again: Vec<CommittedEntry> = ledger.0.lock().unwrap().clone();
    assert_eq!(again[..49], first[151..]);
    assert_eq!((again[49].index, &again[49].content), (200, &Content::Blank));
    assert!(again[49].term > state.term, "a restarted leader leads in a new term only");
    caller.block_on(engine.stop());
}

#[test]
fn a_state_beyond_the_log_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, _) = start(dir.path(), None);
    let caller = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    caller.block_on(engine.stop());
    let result = std::panic::catch_unwind(|| start(dir.path(), Some(1_000)));
    assert!(result.is_err(), "the log lost its end");
}
