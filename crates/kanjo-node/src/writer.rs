//! The writer: appends sealed blocks in groups, one sync each, then lets everything out that
//! waited.

use crate::metrics::Stage;
use crate::release::Release;
use crate::sealer::Sealed;
use crate::shared::{Health, Shared};
use crossbeam_channel::Receiver;
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
    pub release: Release,
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
            group.into_iter().for_each(|sealed| self.release.release(sealed, None));
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
        if self.shared.storage_has_room() {
            tracing::info!("the disk has room again");
        }
        let bytes: usize = blocks.iter().map(|block| block.bytes.len()).sum();
        self.shared.metrics.log_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.shared.metrics.groups.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Marks the disk as full and waits a little; false when the node is stopping.
    fn wait_for_room(&self) -> bool {
        if self.shared.storage_is_full() {
            tracing::error!("the disk is full; payments wait until there is room");
        }
        std::thread::sleep(FULL_RETRY);
        self.shared.health() == Health::StorageFull
    }
}

fn size(group: &[Sealed]) -> usize {
    group.iter().filter_map(|sealed| sealed.block.as_ref()).map(|block| block.bytes.len()).sum()
}
