//! The audit of a member of a cluster: beside everything that the audit of a lone node checks, the
//! leaders' signatures under their proposals, and the answers to the challenges of Proof of
//! Integrity (mission M11), which nobody but the holder of a log can recompute.

use crate::audit::{Auditor, Finding, Progress, Report, compare, wrong};
use crate::blocks::{Blocks, ClusterLogs};
use crate::data;
use kanjo_consensus::entry::Entry;
use kanjo_proof::trust::SignedHeader;
use kanjo_store::disk::Disk;
use kanjo_store::log::{BlockLog, LogOptions, LogReader, OpenError};
use kanjo_types::block::{challenge, integrity_answer};
use kanjo_types::membership::Membership;
use kanjo_types::signature::verify;
use kanjo_types::{ChainId, Hash, PublicKey};
use std::path::Path;
use std::sync::Arc;

/// True for the data directory of a member of a cluster.
pub(crate) fn is_member(dir: &Path) -> bool {
    data::certificates_path(dir).exists()
}

/// The logs of a member beside the engine's, held open while they are read.
pub(crate) struct MemberLogs {
    blocks: Blocks,
    chain: ChainId,
    _held: [BlockLog; 2],
}

impl MemberLogs {
    /// Opens certificates and genesis of the member in `dir`; `log` is the engine's.
    pub(crate) fn open(
        dir: &Path,
        disk: &Arc<dyn Disk>,
        chain: ChainId,
        log: LogReader,
    ) -> Result<Self, OpenError> {
        let options = LogOptions { first_height: 0, ..LogOptions::default() };
        let open = |path: &Path| {
            BlockLog::open(disk.clone(), path, chain.0.0, options).map(|(log, _)| log)
        };
        let certificates = open(&data::certificates_path(dir))?;
        let genesis = open(&data::genesis_log_path(dir))?;
        let logs = ClusterLogs {
            certificates: certificates.reader(),
            recent: Arc::default(),
            genesis: genesis.reader(),
        };
        let blocks = Blocks::new(chain, log, Some(logs));
        Ok(Self { blocks, chain, _held: [certificates, genesis] })
    }

    /// Height after the last certified block.
    pub(crate) fn next_height(&self) -> u64 {
        self.blocks.next_height()
    }

    /// Checks every certified height.
    pub(crate) fn check_blocks(
        &self,
        auditor: &mut Auditor,
        report: &mut Report,
        progress: &mut dyn FnMut(Progress),
    ) {
        let total = self.next_height();
        if total == 0 {
            report.fail(None, wrong("certificates", "are none, not even the genesis's"));
        }
        for height in 0..total {
            match self.check(height, auditor) {
                Ok(transactions) => report.transactions += u64::from(transactions),
                Err(finding) => return report.fail(Some(height), finding),
            }
            report.blocks += 1;
            let (blocks_done, transactions) = (report.blocks, report.transactions);
            progress(Progress { blocks_done, blocks_total: total, transactions, phase: "blocks" });
        }
    }

    fn check(&self, height: u64, auditor: &mut Auditor) -> Result<u32, Finding> {
        let block = self.blocks.read(height).map_err(|error| wrong("block", error.to_string()))?;
        let entry = self.blocks.entry(height);
        let entry = entry.map_err(|error| wrong("entry of the log", error.to_string()))?;
        let membership = auditor.membership_at(height);
        let parent = auditor.last_hash();
        let signed =
            SignedHeader { header: block.header.clone(), certificate: block.certificate.clone() };
        if height > 0 {
            self.check_proposal(&membership, &entry)?;
        }
        check_answers(self.chain, &membership, parent, &entry, &signed)?;
        let transactions = auditor.check_block(height, &block)?;
        let kept = self.blocks.header_hashes(height..height + 1);
        let kept = kept.map_err(|error| wrong("header hash beside the log", error.to_string()))?;
        compare("header hash beside the log", &kept, &vec![auditor.last_hash().0])?;
        Ok(transactions)
    }

    /// Every entry was signed by the sentinel of the member that proposed it, before anybody
    /// appended it.
    fn check_proposal(&self, membership: &Membership, entry: &Entry) -> Result<(), Finding> {
        let unsigned = || wrong("proposal", "is not signed");
        let head = entry.head().ok_or_else(unsigned)?;
        let member = membership.member(head.proposer);
        let member = member.ok_or_else(|| wrong("proposer", "is no member"))?;
        let key = PublicKey::Ed25519(member.certificate.vote_key);
        if verify(&key, &head.proposal(self.chain), &head.signature) {
            return Ok(());
        }
        let name = &member.certificate.name;
        Err(wrong("proposal", format!("is not signed by the sentinel of {name}")))
    }
}

/// Every vote answers the height's challenge for a program that the membership allows.
fn check_answers(
    chain: ChainId,
    membership: &Membership,
    parent: Hash,
    entry: &Entry,
    signed: &SignedHeader,
) -> Result<(), Finding> {
    if membership.measurements.is_empty() {
        return Ok(());
    }
    let proposal = entry.signature().copied().unwrap_or([0; 64]);
    let (challenge, header) = (challenge(&parent, &proposal), signed.header.hash());
    for vote in &signed.certificate.votes {
        let Some(member) = membership.member(vote.voter) else { continue };
        let certificate = member.certificate.hash(chain);
        let is_allowed = membership.measurements.iter().any(|measurement| {
            vote.answer == integrity_answer(&measurement.program, &certificate, &challenge, &header)
        });
        if !is_allowed {
            let name = &member.certificate.name;
            return Err(wrong(
                "answer of integrity",
                format!("of {name} is that of no program that was allowed"),
            ));
        }
    }
    Ok(())
}
