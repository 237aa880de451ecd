//! Forged logs: every frame has a right checksum, and the worst forgers hold the vote key.

use super::{VOTE_SECRET, World};
use kanjo_ledger::block::roots_of;
use kanjo_node::audit::{self, Finding, Report};
use kanjo_proof::merkle::AppendTree;
use kanjo_store::BlockRef;
use kanjo_store::disk::Disk;
use kanjo_store::faults::FaultyDisk;
use kanjo_store::log::{BlockLog, LogOptions};
use kanjo_types::Hash;
use kanjo_types::block::{Vote, vote_digest};
use kanjo_types::signature::{KeyKind, SecretKey};
use kanjo_types::stored::{Block, decode_block, encode_block};
use std::sync::Arc;

/// Height of the block that is forged; there are blocks before and after it.
pub const AT: usize = 3;

/// A stopped ledger and its blocks, to be forged.
pub struct Forgery {
    pub world: World,
    pub disk: FaultyDisk,
    pub blocks: Vec<Block>,
}

/// Who forges.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Forger {
    /// Changes the content and leaves the header as it is.
    Content,
    /// Recomputes roots, links and hashes from there on, without the vote key.
    Header,
    /// As before, and signs with the node's own vote key.
    Voter,
}

impl Forgery {
    /// Of the blocks of a stopped node.
    pub fn of(world: World, disk: FaultyDisk) -> Self {
        let blocks = read(&world, &disk);
        Self { world, disk, blocks }
    }

    /// Makes headers fit the contents again, from block `AT` on, as `forger` can, and writes the
    /// log.
    pub fn seal(&mut self, forger: Forger) {
        if forger != Forger::Content {
            let mut history = AppendTree::new();
            let mut parent = Hash::ZERO;
            for (height, block) in self.blocks.iter_mut().enumerate() {
                if height >= AT {
                    let roots = roots_of(block);
                    block.header.transactions = block.entries.len() as u32;
                    block.header.transactions_root = roots.transactions;
                    block.header.receipts_root = roots.receipts;
                    block.header.parents = vec![parent];
                    block.header.history_root = history.root();
                }
                parent = block.header.hash();
                history.push(parent);
                if height >= AT && forger == Forger::Voter {
                    sign(block);
                }
            }
        }
    }

    pub fn header_hashes(blocks: &[Block]) -> Vec<Hash> {
        blocks.iter().map(|block| block.header.hash()).collect()
    }

    pub fn audit_as(&mut self, forger: Forger) -> Report {
        self.seal(forger);
        self.audit()
    }

    pub fn audit(&self) -> Report {
        self.write();
        let disk = Arc::new(self.disk.clone());
        audit::verify_on(&self.world.data(), disk, &mut |_| {}).expect("audited")
    }

    /// A new log of the forged blocks, every frame with a right checksum.
    pub fn write(&self) {
        let Self { world, disk, blocks } = self;
        let dir = world.log_dir();
        let old = disk.files().into_iter().filter(|path| path.starts_with(&dir));
        old.for_each(|path| disk.remove(&path).expect("removed"));
        let options = LogOptions { segment_bytes: 64 << 10, first_height: 0 };
        let (mut log, _) = BlockLog::open(Arc::new(disk.clone()), &dir, world.chain.0.0, options)
            .expect("a new log");
        for (height, block) in (0..).zip(blocks) {
            let bytes = encode_block(block);
            let header_hash = block.header.hash().0;
            log.append(&[BlockRef { height, header_hash, bytes: &bytes }]).expect("appended");
        }
    }
}

pub fn read(world: &World, disk: &FaultyDisk) -> Vec<Block> {
    let options = LogOptions { segment_bytes: 64 << 10, first_height: 0 };
    let (log, _) =
        BlockLog::open(Arc::new(disk.clone()), &world.log_dir(), world.chain.0.0, options)
            .expect("the log");
    let decode = |block: kanjo_store::Block| decode_block(&block.bytes, world.chain).expect("fine");
    log.iter_from(0).map(|block| decode(block.expect("read"))).collect()
}

pub fn sign(block: &mut Block) {
    let vote = SecretKey::from_seed(KeyKind::Ed25519, VOTE_SECRET).expect("a key");
    let answer = kanjo_types::Hash([7; 32]);
    let digest = vote_digest(0, block.header.height, &block.header.hash(), &answer);
    block.certificate.votes = vec![Vote { voter: 0, answer, signature: vote.sign(&digest) }];
}

/// The audit's first error, which must be in block `height`.
pub fn finding(report: &Report, height: usize) -> Finding {
    assert!(!report.ok);
    let finding = report.first_error.clone().expect("a finding");
    assert_eq!(finding.height, Some(height as u64), "{finding:?}");
    assert_eq!(report.blocks, height as u64, "everything before was right");
    assert!(finding.problem.len() > 8, "{finding:?}");
    finding
}
