//! Roots, headers and bytes: the node's `sealer.rs`.

use super::maker::{Batch, BatchBlock, Origin, Reply};
use super::{Event, Member, open};
use crate::time::sleep;
use bytes::Bytes;
use kanjo_ledger::block::roots;
use kanjo_ledger::{BlockContext, BlockEffects};
use kanjo_proof::merkle::Frontier;
use kanjo_types::block::HEADER_VERSION;
use kanjo_types::membership::Membership;
use kanjo_types::stored::{Entry, append_entry, append_head, append_tail};
use kanjo_types::{Certificate, Hash, Header};
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;

/// A batch with its header, and what waits for it.
pub(crate) struct SealedBatch {
    pub block: Option<SealedBlock>,
    pub replies: Vec<Reply>,
    pub marks: Vec<oneshot::Sender<()>>,
}

/// A block that was made or executed here.
pub(crate) struct SealedBlock {
    pub header: Header,
    pub hash: Hash,
    /// Of a block made here: its encoding.
    pub bytes: Bytes,
    pub is_made: bool,
    pub membership: Arc<Membership>,
    /// What this node computed otherwise than the block's leader.
    pub difference: Option<String>,
    /// The state root of this node's own trees.
    pub computed: Hash,
}

/// The task's parts.
pub(crate) struct Sealer {
    pub member: Arc<Member>,
    pub history: Frontier,
}

impl Sealer {
    pub(crate) async fn run(mut self, mut batches: UnboundedReceiver<Batch>) {
        while let Some(batch) = batches.recv().await {
            if !self.member.is_alive() {
                return;
            }
            sleep(self.member.dice.micros(20, 600)).await;
            let is_made =
                batch.block.as_ref().is_some_and(|block| matches!(block.origin, Origin::Made));
            if is_made {
                // Given back when the block is final; closed when the node ends.
                let Ok(permit) = self.member.flow.acquire().await else { return };
                permit.forget();
            }
            if !self.member.is_alive() {
                return;
            }
            let block = batch.block.map(|block| self.seal(block));
            let sealed = SealedBatch { block, replies: batch.replies, marks: batch.marks };
            let _ = self.member.inboxes.finality.send(Event::Sealed(Box::new(sealed)));
        }
    }

    fn seal(&mut self, block: BatchBlock) -> SealedBlock {
        let BatchBlock { context, entries, effects, origin, membership } = block;
        let (header, bytes, difference, computed) = match &origin {
            Origin::Made => {
                let (header, computed) = self.header(context, &entries, effects, self.member.me);
                let bytes = encode(&header, &entries);
                (header, bytes, None, computed)
            }
            Origin::Empty(placed) => {
                let computed = self.member.sealed.lock().trees.root();
                (placed.header.clone(), Bytes::new(), None, computed)
            }
            Origin::Replayed(placed, content) => {
                let producer = placed.header.producer;
                let (header, computed) = self.header(context, &entries, effects, producer);
                let same = header == placed.header && encode(&header, &entries) == *content;
                let difference = (!same)
                    .then(|| format!("the block at {} was computed otherwise", context.height));
                (placed.header.clone(), Bytes::new(), difference, computed)
            }
        };
        let hash = header.hash();
        self.history.push(hash);
        self.member.sealed.lock().last = header.clone();
        let is_made = matches!(origin, Origin::Made);
        SealedBlock { header, hash, bytes, is_made, membership, difference, computed }
    }

    /// The header that follows from what was executed, and the root of the trees.
    fn header(
        &self,
        context: BlockContext,
        entries: &[Entry],
        effects: BlockEffects,
        producer: u16,
    ) -> (Header, Hash) {
        let roots = roots(entries);
        let mut sealed = self.member.sealed.lock();
        sealed.trees.update(&effects.leaves);
        let computed = sealed.trees.root();
        let mut state_root = computed;
        if open::lies(&self.member) {
            // As if a balance had flipped in memory.
            state_root.0 = state_root.0.map(|byte| !byte);
        }
        let header = Header {
            version: HEADER_VERSION,
            chain: self.member.scene.chain,
            height: context.height,
            parents: vec![sealed.last.hash()],
            time_ms: context.time_ms,
            producer,
            transactions: u32::try_from(entries.len()).unwrap_or(u32::MAX),
            transactions_root: roots.transactions,
            receipts_root: roots.receipts,
            state_root,
            history_root: self.history.root(),
            fees: effects.fees,
            supply: effects.supply,
        };
        (header, computed)
    }
}

fn encode(header: &Header, entries: &[Entry]) -> Bytes {
    let mut bytes = Vec::new();
    append_head(header, &Certificate { epoch: 0, votes: Vec::new() }, &mut bytes);
    entries.iter().for_each(|entry| append_entry(entry, &mut bytes));
    append_tail(&[], &mut bytes);
    Bytes::from(bytes)
}
