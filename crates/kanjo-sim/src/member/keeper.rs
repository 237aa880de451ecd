//! Writes certificates behind finality: the node's `cluster/keeper.rs`.

use super::{End, Event, Member};
use crate::time::{ms, sleep};
use kanjo_proof::trust::SignedHeader;
use kanjo_store::BlockRef;
use kanjo_store::log::{AppendError, BlockLog};
use kanjo_types::codec;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::mpsc::UnboundedReceiver;

/// The task's parts.
pub(crate) struct Keeper {
    pub member: Arc<Member>,
    pub log: BlockLog,
}

impl Keeper {
    pub(crate) async fn run(mut self, mut kept: UnboundedReceiver<Option<SignedHeader>>) {
        while let Some(Some(first)) = kept.recv().await {
            let wait = ms(25) + self.member.scene.disk_time(self.member.me);
            sleep(wait).await;
            let mut group = vec![first];
            while let Ok(Some(next)) = kept.try_recv() {
                group.push(next);
            }
            if !self.member.is_alive() || !self.append(&group).await {
                return;
            }
            self.member.kept_to.store(self.log.next_height(), Ordering::Release);
            let _ = self.member.inboxes.finality.send(Event::Kept);
            let mut recent = self.member.recent.lock();
            for signed in &group {
                recent.remove(&signed.header.height);
            }
        }
    }

    async fn append(&mut self, group: &[SignedHeader]) -> bool {
        let encoded: Vec<Vec<u8>> = group.iter().map(codec::to_bytes).collect();
        loop {
            let refs = group.iter().zip(&encoded).map(|(signed, bytes)| BlockRef {
                height: signed.header.height,
                header_hash: signed.header.hash().0,
                bytes,
            });
            match self.log.append(&refs.collect::<Vec<_>>()) {
                Ok(_) => return true,
                Err(AppendError::DiskFull { .. }) => {
                    sleep(ms(200)).await;
                    if !self.member.is_alive() {
                        return false;
                    }
                }
                Err(error) => {
                    self.member.end(End::Broken(format!("certificates: {error}")));
                    return false;
                }
            }
        }
    }
}
