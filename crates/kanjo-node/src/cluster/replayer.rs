//! Takes committed blocks apart and checks their signatures before it is their turn to be executed.

use crate::metrics::Stage;
use crate::sequencer::Replay;
use crate::shared::{Shared, ToSequencer};
use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender};
use kanjo_ledger::chain::Placed;
use kanjo_ledger::recompute::{Ready, ready};
use kanjo_types::stored::decode_transactions;
use std::sync::Arc;

/// Signatures of a block are shared among cores in parts of at least this size.
const PART_MIN: usize = 512;

/// What goes to the sequencer through here, in order.
pub(crate) enum ToReplay {
    /// A committed height.
    Height { placed: Box<Placed>, block: Option<Bytes>, leads_after: bool },
    /// Something that found the sequencer busy.
    PassOn(ToSequencer),
}

/// The thread's work.
pub(crate) struct Replayer {
    pub shared: Arc<Shared>,
    pub heights: Receiver<ToReplay>,
    pub sequencer: Sender<ToSequencer>,
}

impl Replayer {
    /// Works until the finality thread or the sequencer is gone.
    pub(crate) fn run(self) {
        let cpu = self.shared.metrics.thread(Stage::Signature);
        while let Ok(next) = self.heights.recv() {
            let message = match next {
                ToReplay::PassOn(message) => message,
                ToReplay::Height { placed, block, leads_after } => {
                    let block = match block.map(|content| self.prepare(content)) {
                        None => None,
                        Some(Ok(block)) => Some(block),
                        Some(Err(reason)) => {
                            let void = Some((placed.header.height, placed.hash));
                            return self.shared.rewind(&reason, void);
                        }
                    };
                    ToSequencer::Committed(Box::new(Replay { placed: *placed, block, leads_after }))
                }
            };
            if self.sequencer.send(message).is_err() {
                return;
            }
            cpu.lap();
        }
    }

    fn prepare(&self, content: Bytes) -> Result<(Vec<Ready>, Bytes), String> {
        let (_, raws) = decode_transactions(&content, self.shared.chain)
            .map_err(|error| format!("a committed block can't be read: {error}"))?;
        let parts = self.shared.config.verify_threads().min(raws.len() / PART_MIN).max(1);
        if parts == 1 {
            let ledger = self.shared.ledger.read();
            let ready = ready(&ledger, raws).map_err(|error| error.to_string())?;
            return Ok((ready, content));
        }
        let size = raws.len().div_ceil(parts);
        let shared = &self.shared;
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let work = |part: &[Bytes]| {
                let part = part.to_vec();
                scope.spawn(move || {
                    let cpu = shared.metrics.thread(Stage::Signature);
                    let outcome = ready(&shared.ledger.read(), part);
                    cpu.lap();
                    outcome
                })
            };
            let threads: Vec<_> = raws.chunks(size).map(work).collect();
            threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
        });
        let mut all = Vec::with_capacity(raws.len());
        for outcome in outcomes {
            let part = outcome.map_err(|_| "checking signatures panicked".to_owned())?;
            all.extend(part.map_err(|error| error.to_string())?);
        }
        Ok((all, content))
    }
}
