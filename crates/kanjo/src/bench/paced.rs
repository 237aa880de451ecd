//! Payments sent at a given rate, spread over several nodes. The clock of a request starts when it
//! is due, so that one slow answer counts for all that wait behind it.

use crate::fail::{Done, Fail};
use crate::load::{Ready, Source};
use hdrhistogram::Histogram;
use kanjo_api::{SubmitOutcome, frames};
use kanjo_client::Client;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What a phase came to.
pub struct Phase {
    /// From the first request due to the last answer.
    pub elapsed: Duration,
    /// Payments final and done.
    pub payments: u64,
    /// Payments that were refused or failed.
    pub failed: u64,
    /// The first of those, as text.
    pub first_failure: Option<String>,
    /// Microseconds from when a payment was due until it was final.
    pub latency_us: Histogram<u64>,
}

/// Prepared payments, taken one after the other in requests of any size.
pub struct Payments {
    source: Box<dyn Source>,
    position: usize,
    frames: std::collections::VecDeque<Vec<u8>>,
}

impl Payments {
    /// All payments of `source`; each of its transactions must be one payment.
    pub fn new(source: Box<dyn Source>) -> Self {
        Self { source, position: 0, frames: std::collections::VecDeque::new() }
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

struct Shared<'a> {
    clients: &'a [Client],
    requests: &'a [Ready],
    /// Payments per second; as fast as answers come when `None`.
    rate: Option<u64>,
    start: Instant,
    next: AtomicUsize,
    payments: AtomicU64,
    failed: AtomicU64,
    first_failure: Mutex<Option<String>>,
}

fn histogram() -> Done<Histogram<u64>> {
    Histogram::new_with_bounds(1, 600_000_000, 3).map_err(|error| Fail::new("histogram", error))
}

/// Sends all requests over `connections` connections, to the clients in turn.
pub fn run(
    clients: &[Client],
    requests: &[Ready],
    connections: usize,
    rate: Option<u64>,
) -> Done<Phase> {
    let shared = Shared {
        clients,
        requests,
        rate,
        start: Instant::now(),
        next: AtomicUsize::new(0),
        payments: AtomicU64::new(0),
        failed: AtomicU64::new(0),
        first_failure: Mutex::new(None),
    };
    let results: Vec<Done<Histogram<u64>>> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..connections.max(1)).map(|_| scope.spawn(|| work(&shared))).collect();
        let joined = threads.into_iter().map(|thread| {
            thread.join().unwrap_or_else(|_| Err(Fail::new("load", "a sending thread panicked")))
        });
        joined.collect()
    });
    let elapsed = shared.start.elapsed();
    let mut latency_us = histogram()?;
    for result in results {
        latency_us.add(result?).map_err(|error| Fail::new("histogram", error))?;
    }
    Ok(Phase {
        elapsed,
        payments: shared.payments.into_inner(),
        failed: shared.failed.into_inner(),
        first_failure: shared.first_failure.into_inner().unwrap_or_default(),
        latency_us,
    })
}

/// When the request at `position` is due after the start; all requests are of the same size.
fn due(position: usize, each: u64, rate: u64) -> Duration {
    let before = (position as u64).saturating_mul(each);
    Duration::from_micros(before.saturating_mul(1_000_000) / rate.max(1))
}

fn work(shared: &Shared<'_>) -> Done<Histogram<u64>> {
    let mut latency = histogram()?;
    let each = shared.requests.first().map_or(1, |first| first.payments);
    loop {
        let position = shared.next.fetch_add(1, Ordering::Relaxed);
        let Some(request) = shared.requests.get(position) else { return Ok(latency) };
        let Some(client) = shared.clients.get(position % shared.clients.len().max(1)) else {
            return Ok(latency);
        };
        let from = match shared.rate {
            None => Instant::now(),
            Some(rate) => {
                let at = shared.start + due(position, each, rate);
                std::thread::sleep(at.saturating_duration_since(Instant::now()));
                at
            }
        };
        let answer = client.submit_frames(&request.bytes)?;
        let us = u64::try_from(from.elapsed().as_micros()).unwrap_or(u64::MAX);
        let us = us.clamp(1, latency.high());
        latency.record_n(us, request.payments).map_err(|error| Fail::new("histogram", error))?;
        count(shared, &answer.outcomes);
    }
}

fn count(shared: &Shared<'_>, outcomes: &[SubmitOutcome]) {
    let is_done = |outcome: &&SubmitOutcome| matches!(outcome, SubmitOutcome::Recorded { result, .. } if result.is_ok());
    let done = outcomes.iter().filter(is_done).count() as u64;
    shared.payments.fetch_add(done, Ordering::Relaxed);
    shared.failed.fetch_add(outcomes.len() as u64 - done, Ordering::Relaxed);
    let failed = outcomes.iter().find(|outcome| !is_done(outcome));
    if let (Some(outcome), Ok(mut first)) = (failed, shared.first_failure.lock()) {
        first.get_or_insert_with(|| format!("{outcome:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_due_at_their_rate() {
        assert_eq!(due(0, 5, 1_000), Duration::ZERO);
        assert_eq!(due(200, 5, 1_000), Duration::from_secs(1));
        assert_eq!(due(3, 50, 10_000), Duration::from_millis(15));
    }
}
