//! Writes certificates behind finality, then lets index and checkpoints go on.
//!
//! A certificate that is lost with the power can be had again: the entry is in the engine's log,
//! and a sentinel signs the same header again. So payments don't wait for this write.

use crate::background::{PartitionCopy, ToIndex};
use crate::blocks::Recent;
use crate::cluster::finality::Event;
use crate::metrics::Stage;
use crate::release::{Kept, pass_on};
use crate::shared::{Health, Shared};
use crossbeam_channel::{Receiver, Sender};
use kanjo_store::BlockRef;
use kanjo_store::log::{AppendError, BlockLog};
use kanjo_types::codec;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long certificates gather for one write.
const GATHER: Duration = Duration::from_millis(25);
/// Most in one write.
const GROUP_MAX: usize = 1_024;
/// How often a full disk is tried again.
const FULL_RETRY: Duration = Duration::from_millis(200);

/// The thread's work.
pub(crate) struct Keeper {
    pub shared: Arc<Shared>,
    pub log: BlockLog,
    pub kept: Receiver<Kept>,
    pub recent: Recent,
    pub finality: Sender<Event>,
    pub index: Sender<ToIndex>,
    pub copies: Sender<PartitionCopy>,
}

impl Keeper {
    /// Works until nobody is left to send, or a write fails.
    pub(crate) fn run(mut self) {
        let cpu = self.shared.metrics.thread(Stage::Log);
        while let Ok(first) = self.kept.recv() {
            if self.shared.health() != Health::Stopping {
                std::thread::sleep(GATHER);
            }
            let mut group = vec![first];
            group.extend(self.kept.try_iter().take(GROUP_MAX - 1));
            if let Err(error) = self.append(&group) {
                return self.shared.fail(format!("certificates: {error}"));
            }
            self.shared.kept_certificates(self.log.next_height());
            let _ = self.finality.send(Event::Kept);
            for kept in group {
                if let Some(signed) = &kept.signed {
                    self.recent.write().remove(&signed.header.height);
                }
                pass_on(&self.shared, kept, &self.index, &self.copies);
            }
            cpu.lap();
        }
    }

    fn append(&mut self, group: &[Kept]) -> Result<(), AppendError> {
        let signed: Vec<_> = group.iter().filter_map(|kept| kept.signed.as_ref()).collect();
        let bytes: Vec<Vec<u8>> = signed.iter().map(|signed| codec::to_bytes(*signed)).collect();
        let blocks: Vec<BlockRef<'_>> = signed
            .iter()
            .zip(&bytes)
            .map(|(signed, bytes)| BlockRef {
                height: signed.header.height,
                header_hash: signed.header.hash().0,
                bytes,
            })
            .collect();
        loop {
            let appended = self.log.append(&blocks);
            let is_full = matches!(appended, Err(AppendError::DiskFull { .. }));
            if let Some(cluster) = &self.shared.cluster {
                cluster.kept_waits.store(is_full, Ordering::Release);
            }
            match appended {
                Ok(_) => return Ok(()),
                Err(AppendError::DiskFull { .. }) if !self.shared.stopping() => {
                    std::thread::sleep(FULL_RETRY);
                }
                Err(error) => return Err(error),
            }
        }
    }
}
