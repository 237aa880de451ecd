//! What happens when a block is final: answers, the tip, streams, the index, copies of partitions.

use crate::background::{PartitionCopy, ToIndex};
use crate::cluster::witness;
use crate::proofs;
use crate::sealer::{Sealed, SealedBlock};
use crate::shared::{FinalBlock, Health, Shared, Tip};
use crate::view::ToView;
use crossbeam_channel::Sender;
use kanjo_api::{BlockSummary, SubmitOutcome};
use kanjo_proof::trust::SignedHeader;
use kanjo_types::membership::Membership;
use kanjo_types::stored::Entry;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Lets out what waited for finality.
pub(crate) struct Release {
    pub shared: Arc<Shared>,
    pub behind: Behind,
}

/// Where index and checkpoints get what they write behind finality.
pub(crate) enum Behind {
    /// At once: the log has certificates in it.
    Log { index: Sender<ToIndex>, copies: Sender<PartitionCopy> },
    /// When the certificates are on disk: neither may know a height that a restart does not.
    Certificates(Sender<Kept>),
}

/// What is to be kept of a final height.
#[derive(Default)]
pub(crate) struct Kept {
    pub signed: Option<SignedHeader>,
    pub index: Option<ToIndex>,
    pub copies: Vec<PartitionCopy>,
}

impl Release {
    /// A batch whose block, and all before it, is final.
    pub(crate) fn release(&self, mut sealed: Sealed, signed: Option<SignedHeader>) {
        let index = sealed.block.take().map(|block| self.publish(block));
        proofs::release(&mut sealed);
        let settled: usize = sealed.replies.iter().map(|reply| reply.outcomes.len()).sum();
        let refused = sealed.replies.iter().flat_map(|reply| &reply.outcomes);
        let refused =
            refused.filter(|(_, outcome)| matches!(outcome, SubmitOutcome::Refused { .. })).count();
        self.shared.metrics.refused.fetch_add(refused as u64, Ordering::Relaxed);
        self.shared.in_flight.fetch_sub(settled, Ordering::AcqRel);
        sealed.replies.into_iter().for_each(crate::shared::Reply::send);
        self.keep(Kept { signed, index, copies: sealed.copies });
    }

    /// A final height for which nothing waits: that of the genesis, and all of a witness's.
    /// `remembered` is what a witness is to write down.
    pub(crate) fn height_only(&self, signed: &SignedHeader, remembered: Option<Arc<Membership>>) {
        let header = &signed.header;
        self.shared.tip.send_modify(|tip| {
            *tip = Tip {
                height: header.height,
                header_hash: header.hash(),
                time_ms: header.time_ms,
                transactions: tip.transactions + u64::from(header.transactions),
            };
        });
        let index = ToIndex { height: header.height, entries: Arc::new(Vec::new()) };
        if header.transactions == 0 && header.height > 0 {
            self.show(header.height, &index.entries);
        }
        let index = (header.transactions == 0 && header.height > 0).then_some(index);
        let transactions = self.shared.tip().transactions;
        let copy = remembered.map(|known| witness::copy(header.height, transactions, known));
        let copies = copy.into_iter().collect();
        self.keep(Kept { signed: Some(signed.clone()), index, copies });
    }

    /// Tells the view. Without room its feeder reads the block from the log.
    fn show(&self, height: u64, entries: &Arc<Vec<Entry>>) {
        if let Some((_, blocks)) = &self.shared.view {
            let _ = blocks.try_send(ToView { height, entries: Arc::clone(entries) });
        }
    }

    fn keep(&self, kept: Kept) {
        match &self.behind {
            Behind::Log { index, copies } => pass_on(&self.shared, kept, index, copies),
            Behind::Certificates(kept_) => {
                // Gone only when the node stops.
                let _ = kept_.send(kept);
            }
        }
    }

    fn publish(&self, block: SealedBlock) -> ToIndex {
        let SealedBlock { header, hash, entries, .. } = block;
        let metrics = &self.shared.metrics;
        metrics.blocks.fetch_add(1, Ordering::Relaxed);
        metrics.transactions.fetch_add(u64::from(header.transactions), Ordering::Relaxed);
        self.shared.tip.send_modify(|tip| {
            *tip = Tip {
                height: header.height,
                header_hash: hash,
                time_ms: header.time_ms,
                transactions: tip.transactions + u64::from(header.transactions),
            };
        });
        self.show(header.height, &entries);
        let to_index = ToIndex { height: header.height, entries: entries.clone() };
        if self.shared.blocks.receiver_count() > 0 {
            let summary = BlockSummary {
                height: header.height,
                time_ms: header.time_ms,
                producer: header.producer,
                producer_name: self.shared.producer_name(header.producer),
                transactions: header.transactions,
                fees: header.fees,
                hash,
            };
            let _ = self.shared.blocks.send(Arc::new(FinalBlock { summary, entries }));
        }
        to_index
    }
}

/// Hands over to index and checkpoints.
pub(crate) fn pass_on(
    shared: &Shared,
    kept: Kept,
    index: &Sender<ToIndex>,
    copies: &Sender<PartitionCopy>,
) {
    if let Some(block) = kept.index {
        // Without room the indexer reads the block from the log: finality never waits for it.
        let _ = index.try_send(block);
    }
    for copy in kept.copies {
        // The log has everything: a copy that finds no room is left out, and finality never waits
        // for the disk of the checkpoints, except at the end, when each copy makes the next start
        // faster.
        if shared.health() == Health::Stopping {
            let _ = copies.send(copy);
        } else {
            let _ = copies.try_send(copy);
        }
    }
}
