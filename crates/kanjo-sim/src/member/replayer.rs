//! Takes committed blocks apart and checks their signatures before it is their turn: the node's
//! `cluster/replayer.rs`.

use super::Member;
use super::maker::{Replay, ToMaker};
use super::open::is_broken;
use crate::scene::Broken;
use crate::time::sleep;
use bytes::Bytes;
use kanjo_ledger::chain::Placed;
use kanjo_ledger::recompute::{Ready, ready};
use kanjo_types::stored::decode_transactions;
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedReceiver;

/// What goes to the maker through here, in order.
pub(crate) enum ToReplay {
    /// A committed height.
    Height {
        placed: Box<Placed>,
        block: Option<Bytes>,
        leads_after: bool,
    },
    /// Something that must not overtake them.
    PassOn(ToMaker),
    Stop,
}

/// The task's parts.
pub(crate) struct Replayer {
    pub member: Arc<Member>,
}

impl Replayer {
    pub(crate) async fn run(self, mut heights: UnboundedReceiver<ToReplay>) {
        while let Some(next) = heights.recv().await {
            if !self.member.is_alive() {
                return;
            }
            let message = match next {
                ToReplay::Stop => return,
                ToReplay::PassOn(message) => message,
                ToReplay::Height { placed, block, leads_after } => {
                    // Signatures take time, and much when there are many.
                    sleep(self.member.dice.micros(10, 500)).await;
                    let Some(block) = self.prepare(&placed, block) else { return };
                    ToMaker::Committed(Box::new(Replay { placed: *placed, block, leads_after }))
                }
            };
            let _ = self.member.inboxes.maker.send(message);
        }
    }

    /// The block with its signatures checked, if there is one; nothing when this run is over.
    #[allow(clippy::option_option)] // Neither "no block" nor "over" is an error.
    fn prepare(
        &self,
        placed: &Placed,
        block: Option<Bytes>,
    ) -> Option<Option<(Vec<Ready>, Bytes)>> {
        let Some(content) = block else { return Some(None) };
        let prepared = decode_transactions(&content, self.member.scene.chain)
            .map_err(|error| format!("a committed block can't be read: {error}"))
            .and_then(|(_, raws)| {
                let replica = self.member.replica.lock();
                ready(&replica.ledger, raws).map_err(|error| error.to_string())
            });
        match prepared {
            Ok(ready) => Some(Some((ready, content))),
            Err(_) if is_broken(&self.member, Broken::NoRewind) => {
                Some(Some((Vec::new(), content)))
            }
            Err(reason) => {
                let void = Some((placed.header.height, placed.hash));
                self.member.rewind(&reason, void);
                None
            }
        }
    }
}
