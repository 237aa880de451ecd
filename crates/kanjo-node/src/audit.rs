//! The offline audit: recomputes everything from the genesis and compares it with what the log
//! says.
//!
//! For each block: the link to its parent, the history root, the certificate, every signature, the
//! execution of every transaction under the rules, what the ledger had to do by itself at the
//! block's time, every record version with its links, the roots over transactions, receipts and
//! state, the supplies and the fees. Nothing of the node's own state
//! (checkpoints, index) is trusted or used. The first thing wrong is named.

use crate::audit_member::{MemberLogs, is_member};
use crate::data::{self, DataError};
use crate::restart::check_nothing_lost;
use kanjo_ledger::block::{genesis_block, is_empty, roots_of};
use kanjo_ledger::membership::notice_of;
use kanjo_ledger::{
    BlockContext, Ledger, Verified, prepare, verify as verify_signatures, verify_one,
};
use kanjo_proof::merkle::AppendTree;
use kanjo_proof::state::StateTree;
use kanjo_proof::trust::{SignedHeader, Trust};
use kanjo_store::checkpoint::CheckpointStore;
use kanjo_store::disk::{Disk, RealDisk};
use kanjo_store::log::{BlockLog, LogOptions, LogReader, OpenError};
use kanjo_types::block::{HEADER_VERSION, Header};
use kanjo_types::membership::Membership;
use kanjo_types::stored::{Block, Entry, decode_block};
use kanjo_types::transaction::LEDGER;
use kanjo_types::{ChainId, Genesis, Hash};
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;

/// Signatures are checked this many at a time.
const SIGNATURES_AT_ONCE: usize = 1_024;

/// Where the author stands in the bytes of a transaction: behind the version and the chain id.
const AUTHOR_AT: std::ops::Range<usize> = 33..49;

/// How far the audit is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Blocks checked.
    pub blocks_done: u64,
    /// Blocks in the log.
    pub blocks_total: u64,
    /// Transactions checked.
    pub transactions: u64,
    /// What is being done.
    pub phase: &'static str,
}

/// The first thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// In which block.
    pub height: Option<u64>,
    /// At which transaction of it.
    pub position: Option<u32>,
    /// Which record or field.
    pub record: String,
    /// What is wrong with it.
    pub problem: String,
}

/// What the audit found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Blocks found right.
    pub blocks: u64,
    /// Transactions found right.
    pub transactions: u64,
    /// True when nothing is wrong.
    pub ok: bool,
    /// The first thing wrong.
    pub first_error: Option<Finding>,
    /// Which ledger, as its genesis file says: compare it with the chain id you know.
    pub chain: ChainId,
    /// Hash of the last header found right: compare it with one you got earlier, or from elsewhere.
    pub header_hash: Option<Hash>,
}

/// The audit could not be made.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// No ledger there, or no genesis.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The log is in use or can't be opened at all.
    #[error("block log: {0}")]
    Log(OpenError),
}

pub(crate) fn wrong(record: impl Into<String>, problem: impl Into<String>) -> Finding {
    Finding { height: None, position: None, record: record.into(), problem: problem.into() }
}

pub(crate) fn compare<T: PartialEq + std::fmt::Debug>(
    record: &str,
    found: &T,
    expected: &T,
) -> Result<(), Finding> {
    if found == expected {
        return Ok(());
    }
    Err(wrong(record, format!("is {found:?}, recomputed {expected:?}")))
}

/// Audits the ledger in `dir`. The node must not be running on it. The log is opened as a start
/// opens it: an unfinished write at its end is cut off; nothing else is changed.
///
/// # Errors
/// [`AuditError`] when there is nothing that could be audited; damage is not an error but a
/// [`Finding`].
pub fn verify(dir: &Path, progress: &mut dyn FnMut(Progress)) -> Result<Report, AuditError> {
    verify_on(dir, Arc::new(RealDisk), progress)
}

/// As [`verify`], on a disk of the caller's.
///
/// # Errors
/// As [`verify`].
pub fn verify_on(
    dir: &Path,
    disk: Arc<dyn Disk>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, AuditError> {
    let genesis = data::load_genesis(dir)?;
    let chain = genesis.chain_id();
    let mut report = Report {
        blocks: 0,
        transactions: 0,
        ok: true,
        first_error: None,
        chain,
        header_hash: None,
    };
    let options = LogOptions { first_height: 0, ..LogOptions::default() };
    let log_dir = data::log_path(dir);
    let log = match BlockLog::open(disk.clone(), &log_dir, chain.0.0, options) {
        Ok((log, _)) => log,
        Err(error @ OpenError::Corrupt { .. }) => {
            report.fail(None, wrong("block log", error.to_string()));
            return Ok(report);
        }
        Err(error) => return Err(AuditError::Log(error)),
    };
    let reader = log.reader();
    let trust = match Trust::new(&genesis) {
        Ok(trust) => trust,
        Err(error) => {
            report.fail(None, wrong("genesis", error.to_string()));
            return Ok(report);
        }
    };
    let mut auditor = Auditor::new(&genesis, trust);
    let next_height = if is_member(dir) {
        let logs = match MemberLogs::open(dir, &disk, chain, reader) {
            Ok(logs) => logs,
            Err(error @ OpenError::Corrupt { .. }) => {
                report.fail(None, wrong("certificates", error.to_string()));
                return Ok(report);
            }
            Err(error) => return Err(AuditError::Log(error)),
        };
        logs.check_blocks(&mut auditor, &mut report, progress);
        logs.next_height()
    } else {
        check_blocks(&reader, &mut auditor, &mut report, progress);
        reader.next_height()
    };
    report.header_hash = auditor.last.as_ref().map(|(hash, _)| *hash);
    if report.ok {
        check_end(dir, disk, next_height, &auditor, &mut report);
    }
    Ok(report)
}

impl Report {
    pub(crate) fn fail(&mut self, height: Option<u64>, finding: Finding) {
        self.ok = false;
        self.first_error = Some(Finding { height, ..finding });
    }
}

fn check_blocks(
    reader: &LogReader,
    auditor: &mut Auditor,
    report: &mut Report,
    progress: &mut dyn FnMut(Progress),
) {
    let total = reader.next_height();
    if total == 0 {
        report.fail(None, wrong("block log", "holds no block, not even the genesis"));
    }
    for height in 0..total {
        let read = match reader.read_block(height) {
            Ok(Some(block)) => Ok(block),
            Ok(None) => Err(wrong("block", "is missing")),
            Err(error) => Err(wrong("block", error.to_string())),
        };
        let checked = read.and_then(|block| {
            let transactions = auditor.check(height, &block.bytes)?;
            let hash = auditor.last.as_ref().map(|(hash, _)| *hash).unwrap_or_default();
            compare("header hash in the log", &Hash(block.header_hash), &hash)?;
            let kept = reader.header_hashes(height..height + 1);
            let kept =
                kept.map_err(|error| wrong("header hash beside the log", error.to_string()))?;
            compare("header hash beside the log", &kept, &vec![hash.0])?;
            Ok(transactions)
        });
        match checked {
            Ok(transactions) => report.transactions += u64::from(transactions),
            Err(finding) => return report.fail(Some(height), finding),
        }
        report.blocks += 1;
        let (blocks_done, transactions) = (report.blocks, report.transactions);
        progress(Progress { blocks_done, blocks_total: total, transactions, phase: "blocks" });
    }
}

/// Supplies, and whether the log ends where it should.
fn check_end(
    dir: &Path,
    disk: Arc<dyn Disk>,
    next_height: u64,
    auditor: &Auditor,
    report: &mut Report,
) {
    if let Err(mismatch) = auditor.ledger.audit_supply() {
        return report.fail(next_height.checked_sub(1), wrong("supply", mismatch.to_string()));
    }
    let checkpoints = data::checkpoints_path(dir);
    let store = CheckpointStore::open(disk, &checkpoints, report.chain.0.0);
    // Unreadable checkpoints prove nothing either way.
    if let Ok(store) = store
        && let Err(lost) = check_nothing_lost(next_height, &store, None)
    {
        report.fail(Some(next_height), wrong("block log", lost.to_string()));
    }
}

pub(crate) struct Auditor {
    trust: Trust,
    genesis_block: Option<Block>,
    ledger: Ledger,
    trees: StateTree,
    history: AppendTree,
    /// Hashes of the headers found right, by height: evidence is checked against them.
    headers: Vec<Hash>,
    last: Option<(Hash, Header)>,
}

impl Auditor {
    fn new(genesis: &Genesis, trust: Trust) -> Self {
        let (block, ledger, trees) = genesis_block(genesis);
        Self {
            trust,
            genesis_block: Some(block),
            ledger,
            trees,
            history: AppendTree::new(),
            headers: Vec::new(),
            last: None,
        }
    }

    /// Checks one block; returns how many transactions it has.
    fn check(&mut self, height: u64, bytes: &[u8]) -> Result<u32, Finding> {
        let block = decode_block(bytes, self.trust.chain())
            .map_err(|error| wrong("block", error.to_string()))?;
        self.check_block(height, &block)
    }

    /// The membership whose votes count at the next height to be checked.
    pub(crate) fn membership_at(&self, height: u64) -> Arc<Membership> {
        self.ledger.membership_at(height)
    }

    /// Hash of the last header found right; zeros before the first.
    pub(crate) fn last_hash(&self) -> Hash {
        self.last.as_ref().map(|(hash, _)| *hash).unwrap_or_default()
    }

    /// Checks one block; returns how many transactions it has.
    pub(crate) fn check_block(&mut self, height: u64, block: &Block) -> Result<u32, Finding> {
        let header = &block.header;
        let hash = header.hash();
        let signed =
            SignedHeader { header: header.clone(), certificate: block.certificate.clone() };
        self.trust
            .check(&signed)
            .map_err(|error| wrong("header or certificate", error.to_string()))?;
        if let Some(expected) = self.genesis_block.take() {
            compare("genesis header", header, &expected.header)?;
            compare("genesis rows", &block.genesis_rows, &expected.genesis_rows)?;
        } else {
            self.check_links(height, header)?;
            if !self.is_empty(header) {
                self.execute(block)?;
            }
        }
        self.learn_membership()?;
        self.history.push(hash);
        self.headers.push(hash);
        self.last = Some((hash, header.clone()));
        Ok(header.transactions)
    }

    fn check_links(&self, height: u64, header: &Header) -> Result<(), Finding> {
        let (parent, time_ms) =
            self.last.as_ref().map(|(hash, last)| (*hash, last.time_ms)).unwrap_or_default();
        compare("header.version", &header.version, &HEADER_VERSION)?;
        compare("header.height", &header.height, &height)?;
        compare("header.parents", &header.parents, &vec![parent])?;
        compare("header.history_root", &header.history_root, &self.history.root())?;
        if header.time_ms < time_ms {
            return Err(wrong("header.time_ms", "is before the parent's"));
        }
        let membership = self.ledger.membership_at(height);
        if membership.member(header.producer).is_none() {
            return Err(wrong("header.producer", format!("is {}, no member", header.producer)));
        }
        if header.transactions == 0 && !self.is_empty(header) {
            let problem = "is zero; then everything else stays as it was, too";
            return Err(wrong("header.transactions", problem));
        }
        Ok(())
    }

    /// A height at which nothing was done: a new leader's first entry, a change of voters.
    fn is_empty(&self, header: &Header) -> bool {
        self.last
            .as_ref()
            .is_some_and(|(hash, last)| is_empty(header, last, *hash, self.history.root()))
    }

    /// The voters of the blocks above are those that this one made.
    fn learn_membership(&mut self) -> Result<(), Finding> {
        let newest = self.ledger.membership();
        if newest.epoch > self.trust.epoch() {
            let learnt = self.trust.learn(Arc::clone(newest));
            learnt.map_err(|error| wrong("membership", error.to_string()))?;
        }
        Ok(())
    }

    fn execute(&mut self, block: &Block) -> Result<(), Finding> {
        let header = &block.header;
        let context = BlockContext { height: header.height, time_ms: header.time_ms };
        self.ledger.begin_block(context);
        let due = self.check_due(context, &block.entries)?;
        // Notices that the ledger takes stand alone: they have no signature of an author.
        let rest = block.entries.get(due..).unwrap_or_default();
        for group in rest.chunk_by(|a, b| !is_own(a) && !is_own(b)) {
            for chunk in group.chunks(SIGNATURES_AT_ONCE) {
                match chunk {
                    [entry] if is_own(entry) => self.check_notice(context, entry)?,
                    _ => self.execute_chunk(context, chunk)?,
                }
            }
        }
        let effects = self.ledger.end_block();
        let roots = roots_of(block);
        compare("header.transactions_root", &header.transactions_root, &roots.transactions)?;
        compare("header.receipts_root", &header.receipts_root, &roots.receipts)?;
        compare("header.supply", &header.supply, &effects.supply)?;
        compare("header.fees", &header.fees, &effects.fees)?;
        self.trees.update(&effects.leaves);
        compare("header.state_root", &header.state_root, &self.trees.root())
    }

    /// Hashes of the earlier headers that the evidence in a transaction needs.
    fn headers_for(&self, verified: &Verified) -> Vec<(u64, Hash)> {
        let wanted = verified.wanted_headers().into_iter();
        let known = |height: u64| {
            let hash = self.headers.get(usize::try_from(height).ok()?)?;
            Some((height, *hash))
        };
        wanted.filter_map(known).collect()
    }

    /// A block begins with what the ledger has to do by itself at its time; returns how many that
    /// are.
    fn check_due(&mut self, context: BlockContext, entries: &[Entry]) -> Result<usize, Finding> {
        let due = self.ledger.run_due(context);
        let due = due.map_err(|error| wrong("due transaction", error.to_string()))?;
        let mut found = entries.iter();
        for expected in &due {
            let check = |found: Option<&Entry>| {
                let Some(found) = found else {
                    let id = expected.record.id;
                    return Err(wrong("due transaction", format!("{id} is left out")));
                };
                compare("due transaction's id", &found.record.id, &expected.record.id)?;
                compare("due transaction", &found.raw, &expected.raw)?;
                compare_entries(found, expected)
            };
            check(found.next()).map_err(|finding| at(expected, finding))?;
        }
        Ok(due.len())
    }

    /// Takes a notice of members again.
    fn check_notice(&mut self, context: BlockContext, entry: &Entry) -> Result<(), Finding> {
        let Some((notice, statements)) = notice_of(&entry.raw) else {
            let problem = "is the ledger's own, but was not due at this place";
            return Err(at(entry, wrong("transaction", problem)));
        };
        let position = entry.record.position;
        let taken = self.ledger.take_notice(context, position, notice, statements);
        let taken = taken.map_err(|error| at(entry, wrong("notice", error.to_string())))?;
        compare("transaction", &entry.raw, &taken.raw)
            .and_then(|()| compare_entries(entry, &taken))
            .map_err(|finding| at(entry, finding))
    }

    fn execute_chunk(&mut self, context: BlockContext, entries: &[Entry]) -> Result<(), Finding> {
        let mut items = Vec::with_capacity(entries.len());
        for entry in entries {
            let prepared = prepare(entry.raw.clone(), self.ledger.chain())
                .map_err(|error| at(entry, wrong("transaction", error.to_string())))?;
            let keys = self.ledger.author_keys(prepared.transaction());
            items.push((prepared, keys));
        }
        for (entry, outcome) in entries.iter().zip(verify_signatures(items)) {
            // A user made earlier in the same chunk, or keys changed there: look again, now that it
            // is this transaction's turn.
            let outcome = outcome.or_else(|_| {
                let prepared = prepare(entry.raw.clone(), self.ledger.chain())?;
                let keys = self.ledger.author_keys(prepared.transaction());
                verify_one(prepared, keys)
            });
            let mut verified =
                outcome.map_err(|error| at(entry, wrong("signature", error.to_string())))?;
            verified.set_headers(self.headers_for(&verified));
            let executed = self
                .ledger
                .execute(context, entry.record.position, &verified)
                .map_err(|error| at(entry, wrong("transaction", error.to_string())))?;
            compare_entries(entry, &executed).map_err(|finding| at(entry, finding))?;
        }
        Ok(())
    }
}

/// Is the ledger itself the author?
fn is_own(entry: &Entry) -> bool {
    entry.raw.get(AUTHOR_AT) == Some(&LEDGER.0)
}

fn at(entry: &Entry, finding: Finding) -> Finding {
    Finding { position: Some(entry.record.position), ..finding }
}

fn compare_entries(found: &Entry, expected: &Entry) -> Result<(), Finding> {
    compare("receipt.result", &found.result, &expected.result)?;
    compare("receipt.failed_operation", &found.failed_operation, &expected.failed_operation)?;
    compare("transaction record", &found.record, &expected.record)?;
    compare("number of rows", &found.rows.len(), &expected.rows.len())?;
    for (number, (found, expected)) in found.rows.iter().zip(&expected.rows).enumerate() {
        compare(&format!("row {number}"), found, expected)?;
    }
    compare("transaction hash", &found.hash, &expected.hash)
}
