//! Prepared payments, in requests of the size that a rate asks for.

use crate::fail::{Done, Fail};
use crate::load::{Ready, Source};
use kanjo_api::frames;
use std::collections::VecDeque;

/// Prepared payments, taken one after the other in requests of any size.
pub struct Payments {
    source: Box<dyn Source>,
    position: usize,
    frames: VecDeque<Vec<u8>>,
}

impl Payments {
    /// All payments of `source`; each of its transactions must be one payment.
    pub fn new(source: Box<dyn Source>) -> Self {
        Self { source, position: 0, frames: VecDeque::new() }
    }

    /// The next `count` payments in requests of `each`; fewer when there are no more.
    pub fn take(&mut self, count: u64, each: u64) -> Done<Vec<Ready>> {
        let mut requests: Vec<Ready> = Vec::new();
        for _ in 0..count {
            let Some(frame) = self.next()? else { break };
            let has_room = requests.last().is_some_and(|last| last.payments < each.max(1));
            if !has_room {
                requests.push(Ready { bytes: Vec::new(), transactions: 0, payments: 0 });
            }
            if let Some(last) = requests.last_mut() {
                frames::append(&frame, &mut last.bytes);
                last.transactions += 1;
                last.payments += 1;
            }
        }
        Ok(requests)
    }

    fn next(&mut self) -> Done<Option<Vec<u8>>> {
        if self.frames.is_empty() {
            let Some(request) = self.source.request(self.position)? else { return Ok(None) };
            self.position += 1;
            let ranges = frames::split(&request.bytes)
                .map_err(|error| Fail::new("bench", format!("{error:?}")))?;
            let slices = ranges.into_iter().filter_map(|range| request.bytes.get(range));
            self.frames.extend(slices.map(<[u8]>::to_vec));
        }
        Ok(self.frames.pop_front())
    }
}
