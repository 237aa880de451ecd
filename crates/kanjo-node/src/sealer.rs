//! The sealer: roots over a block's transactions, receipts and state, the header, the node's vote,
//! the bytes.

use crate::background::PartitionCopy;
use crate::data::Voter;
use crate::metrics::Stage;
use crate::proofs::PendingProof;
use crate::sequencer::{Batch, BatchBlock};
use crate::shared::{Reply, Shared};
use crossbeam_channel::{Receiver, Sender};
use kanjo_ledger::block::roots;
use kanjo_proof::state::StateTree;
use kanjo_proof::trust::SignedHeader;
use kanjo_types::block::{
    Certificate, HEADER_VERSION, Header, Vote, challenge, integrity_answer, vote_digest,
};
use kanjo_types::stored::{Entry, append_entry, append_head, append_tail};
use kanjo_types::{Hash, Record};
use std::sync::Arc;

/// A block ready to be written, with everything that waits for it.
pub(crate) struct Sealed {
    pub block: Option<SealedBlock>,
    pub replies: Vec<Reply>,
    pub proofs: Vec<PendingProof>,
    pub copies: Vec<PartitionCopy>,
}

pub(crate) struct SealedBlock {
    pub header: Header,
    pub hash: Hash,
    pub bytes: Vec<u8>,
    pub entries: Arc<Vec<Entry>>,
}

pub(crate) struct Sealer {
    pub shared: Arc<Shared>,
    pub batches: Receiver<Batch>,
    pub writer: Sender<Sealed>,
    pub trees: StateTree,
    pub voter: Voter,
    /// Which membership decides on the next height.
    pub epoch: u64,
    pub last: SignedHeader,
}

/// The vote of `voter` over a header, as the only voter: nobody proposed the block to it. The
/// answer is made in the process, for the program `measurement`.
pub(crate) fn certify(
    voter: &Voter,
    measurement: &Hash,
    epoch: u64,
    header: &Header,
) -> Certificate {
    let hash = header.hash();
    let parent = header.parents.first().copied().unwrap_or_default();
    let seed = challenge(&parent, &[]);
    let answer = integrity_answer(measurement, &voter.certificate, &seed, &hash);
    let signature = voter.key.sign(&vote_digest(epoch, header.height, &hash, &answer));
    Certificate { epoch, votes: vec![Vote { voter: voter.position, answer, signature }] }
}

/// The epoch of the heights above a block.
fn epoch_above(entries: &[Entry], epoch: u64) -> u64 {
    let rows = entries.iter().flat_map(|entry| &entry.rows);
    let made = rows.filter_map(|row| match &row.record {
        Record::Membership(membership) => Some(membership.epoch),
        _ => None,
    });
    made.last().unwrap_or(epoch)
}

impl Sealer {
    pub(crate) fn run(mut self) {
        let cpu = self.shared.metrics.thread(Stage::Tree);
        while let Ok(batch) = self.batches.recv() {
            let block = batch.block.map(|block| self.seal(block));
            let proofs = batch.proofs.into_iter();
            let proofs = proofs.filter_map(|query| query.prove(&self.trees, &self.last)).collect();
            let sealed = Sealed { block, replies: batch.replies, proofs, copies: batch.copies };
            if self.writer.send(sealed).is_err() {
                return;
            }
            cpu.lap();
        }
    }

    fn seal(&mut self, block: BatchBlock) -> SealedBlock {
        let BatchBlock { context, entries, effects } = block;
        let roots = roots(&entries);
        self.trees.update(&effects.leaves);
        let mut history = self.shared.history.write();
        assert_eq!(history.len(), context.height, "the history holds every earlier header");
        let header = Header {
            version: HEADER_VERSION,
            chain: self.shared.chain,
            height: context.height,
            parents: vec![self.last.header.hash()],
            time_ms: context.time_ms,
            producer: self.voter.position,
            transactions: u32::try_from(entries.len()).unwrap_or(u32::MAX),
            transactions_root: roots.transactions,
            receipts_root: roots.receipts,
            state_root: self.trees.root(),
            history_root: history.root(),
            fees: effects.fees,
            supply: effects.supply,
        };
        let hash = header.hash();
        history.push(hash);
        drop(history);
        let certificate = certify(&self.voter, &Hash::ZERO, self.epoch, &header);
        self.epoch = epoch_above(&entries, self.epoch);
        let mut bytes = Vec::with_capacity(1_024 + 448 * entries.len());
        append_head(&header, &certificate, &mut bytes);
        entries.iter().for_each(|entry| append_entry(entry, &mut bytes));
        append_tail(&[], &mut bytes);
        self.last = SignedHeader { header: header.clone(), certificate };
        SealedBlock { header, hash, bytes, entries: Arc::new(entries) }
    }
}
