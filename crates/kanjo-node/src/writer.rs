//! The writer: appends sealed blocks in groups, one sync each, then lets everything out that
//! waited.

use crate::background::{PartitionCopy, ToIndex};
use crate::metrics::Stage;
use crate::proofs;
use crate::sealer::{Sealed, SealedBlock};
use crate::shared::{FinalBlock, Health, Shared, Tip};
use crossbeam_channel::{Receiver, Sender};
use kanjo_api::{BlockSummary, SubmitOutcome};
use kanjo_store::BlockRef;
use kanjo_store::log::{AppendError, BlockLog};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A group is closed at this many bytes.
const GROUP_BYTES_MAX: usize = 16 << 20;
/// How often a full disk is tried again.
const FULL_RETRY: Duration = Duration::from_millis(200);

pub(crate) struct Writer {
    pub shared: Arc<Shared>,
    pub log: BlockLog,
    pub sealed: Receiver<Sealed>,
    pub index: Sender<ToIndex>,
    pub copies: Sender<PartitionCopy>,
}

impl Writer {
    /// Runs until the sealer is gone, or a write fails. Returns the log for a clean close.
    pub(crate) fn run(mut self) {
        let cpu = self.shared.metrics.thread(Stage::Log);
        let mut next = None;
        loop {
            let Some(first) = next.take().or_else(|| self.sealed.recv().ok()) else { return };
            let mut group = vec![first];
            let mut bytes = size(&group);
            while bytes < GROUP_BYTES_MAX {
                let Ok(sealed) = self.sealed.try_recv() else { break };
                bytes += sealed.block.as_ref().map_or(0, |block| block.bytes.len());
                group.push(sealed);
            }
            if let Err(error) = self.append(&group) {
                // Those who wait get no answer: whether their payments are on disk shows after a
                // restart.
                self.shared.fail(error.to_string());
                return;
            }
            group.into_iter().for_each(|sealed| self.release(sealed));
            cpu.lap();
        }
    }

    fn append(&mut self, group: &[Sealed]) -> Result<(), AppendError> {
        let blocks: Vec<BlockRef<'_>> = group
            .iter()
            .filter_map(|sealed| sealed.block.as_ref())
            .map(|block| BlockRef {
                height: block.header.height,
                header_hash: block.hash.0,
                bytes: &block.bytes,
            })
            .collect();
        if blocks.is_empty() {
            return Ok(());
        }
        loop {
            match self.log.append(&blocks) {
                Ok(_) => break,
                // Nothing was written; who waits goes on waiting, until there is room or the node
                // stops.
                Err(AppendError::DiskFull { .. }) if self.wait_for_room() => {}
                Err(error) => return Err(error),
            }
        }
        let again = |health: &mut Health| {
            let was_full = *health == Health::StorageFull;
            if was_full {
                *health = Health::Running;
            }
            was_full
        };
        if self.shared.health.send_if_modified(again) {
            tracing::info!("the disk has room again");
        }
        let bytes: usize = blocks.iter().map(|block| block.bytes.len()).sum();
        self.shared.metrics.log_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.shared.metrics.groups.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Marks the disk as full and waits a little; false when the node is stopping.
    fn wait_for_room(&self) -> bool {
        let full = |health: &mut Health| {
            let was_running = *health == Health::Running;
            if was_running {
                *health = Health::StorageFull;
            }
            was_running
        };
        if self.shared.health.send_if_modified(full) {
            tracing::error!("the disk is full; payments wait until there is room");
        }
        std::thread::sleep(FULL_RETRY);
        self.shared.health() == Health::StorageFull
    }

    fn release(&self, mut sealed: Sealed) {
        if let Some(block) = sealed.block.take() {
            self.publish(block);
        }
        proofs::release(&mut sealed);
        let settled: usize = sealed.replies.iter().map(|reply| reply.outcomes.len()).sum();
        let refused = sealed.replies.iter().flat_map(|reply| &reply.outcomes);
        let refused =
            refused.filter(|(_, outcome)| matches!(outcome, SubmitOutcome::Refused { .. })).count();
        self.shared.metrics.refused.fetch_add(refused as u64, Ordering::Relaxed);
        self.shared.in_flight.fetch_sub(settled, Ordering::AcqRel);
        sealed.replies.into_iter().for_each(crate::shared::Reply::send);
        for copy in sealed.copies {
            // The log has everything: a copy that finds no room is left out, and finality never
            // waits for the disk of the checkpoints, except at the end, when each copy makes the
            // next start faster.
            if self.shared.health() == Health::Stopping {
                let _ = self.copies.send(copy);
            } else {
                let _ = self.copies.try_send(copy);
            }
        }
    }

    fn publish(&self, block: SealedBlock) {
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
        let to_index = ToIndex { height: header.height, entries: entries.clone() };
        // Without room the indexer reads the block from the log: finality never waits for it.
        let _ = self.index.try_send(to_index);
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
    }
}

fn size(group: &[Sealed]) -> usize {
    group.iter().filter_map(|sealed| sealed.block.as_ref()).map(|block| block.bytes.len()).sum()
}
