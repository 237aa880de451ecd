//! The load generator of `demo` and `bench`: ready requests, sent over a few connections, timed.
//!
//! Requests are made and signed before the clock starts. Each connection has one request in flight;
//! the node answers when every payment of it is final and on disk. That time is the latency of its
//! payments; at a given rate it counts from when they were due.

use crate::fail::{Done, Fail};
use hdrhistogram::Histogram;
use kanjo_api::SubmitOutcome;
use kanjo_client::Client;
use std::borrow::Cow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Frames of ready transactions.
pub struct Request<'a> {
    /// What is sent.
    pub bytes: Cow<'a, [u8]>,
    /// Transactions in it.
    pub transactions: usize,
    /// Payments in them: as many as transactions, unless they are batches.
    pub payments: u64,
}

/// Where requests come from.
pub trait Source: Sync {
    /// The request at a position, or `None` after the last one.
    fn request(&self, position: usize) -> Done<Option<Request<'_>>>;
}

/// A ready request kept in memory.
pub struct Ready {
    /// What is sent.
    pub bytes: Vec<u8>,
    /// Transactions in it.
    pub transactions: usize,
    /// Payments in them.
    pub payments: u64,
}

impl Source for [Ready] {
    fn request(&self, position: usize) -> Done<Option<Request<'_>>> {
        Ok(self.get(position).map(|ready| Request {
            bytes: Cow::Borrowed(&ready.bytes),
            transactions: ready.transactions,
            payments: ready.payments,
        }))
    }
}

/// What a load came to.
pub struct Outcome {
    /// From the first request sent to the last answer.
    pub elapsed: Duration,
    /// Payments final and done.
    pub payments: u64,
    /// Transactions that were refused or failed.
    pub failed: u64,
    /// The first of those, as text.
    pub first_failure: Option<String>,
    /// Microseconds from when a request was sent, or due, to its answer; once for each payment.
    pub latency_us: Histogram<u64>,
}

impl Outcome {
    /// A latency below which this share of the payments was, in microseconds.
    pub fn latency_at(&self, quantile: f64) -> u64 {
        self.latency_us.value_at_quantile(quantile)
    }
}

/// Three significant digits, up to ten minutes.
fn histogram() -> Done<Histogram<u64>> {
    Histogram::new_with_bounds(1, 600_000_000, 3).map_err(|error| Fail::new("histogram", error))
}

struct Shared<'a, S: Source + ?Sized> {
    sending: &'a Sending<'a>,
    source: &'a S,
    start: Instant,
    next: AtomicUsize,
    payments: AtomicU64,
    failed: AtomicU64,
    first_failure: Mutex<Option<String>>,
    progress: &'a (dyn Fn(u64) + Sync),
}

/// How requests are sent.
pub struct Sending<'a> {
    /// Where they go, in turn.
    pub clients: &'a [Client],
    /// Connections, each with one request in flight.
    pub connections: usize,
    /// When each is due; as fast as answers come when left out.
    pub pace: Option<Pace>,
}

/// A rate at which payments are due. The clock of a request starts when it is due, so that one slow
/// answer counts for all that wait behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Payments per second.
    pub rate: u64,
    /// Payments in each request.
    pub each: u64,
}

impl Pace {
    /// When the request at `position` is due, after the start.
    fn due(self, position: usize) -> Duration {
        let before = (position as u64).saturating_mul(self.each);
        Duration::from_micros(before.saturating_mul(1_000_000) / self.rate.max(1))
    }
}

/// Sends everything. `progress` hears the payments done so far.
pub fn run<S: Source + ?Sized>(
    sending: &Sending<'_>,
    source: &S,
    progress: &(dyn Fn(u64) + Sync),
) -> Done<Outcome> {
    let start = Instant::now();
    let shared = Shared {
        sending,
        source,
        start,
        next: AtomicUsize::new(0),
        payments: AtomicU64::new(0),
        failed: AtomicU64::new(0),
        first_failure: Mutex::new(None),
        progress,
    };
    let results: Vec<Done<Histogram<u64>>> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..sending.connections.max(1)).map(|_| scope.spawn(|| work(&shared))).collect();
        let joined = threads.into_iter().map(|thread| {
            thread.join().unwrap_or_else(|_| Err(Fail::new("load", "a sending thread panicked")))
        });
        joined.collect()
    });
    let elapsed = start.elapsed();
    let mut latency_us = histogram()?;
    for result in results {
        latency_us.add(result?).map_err(|error| Fail::new("histogram", error))?;
    }
    let first_failure = shared.first_failure.into_inner().unwrap_or_default();
    Ok(Outcome {
        elapsed,
        payments: shared.payments.into_inner(),
        failed: shared.failed.into_inner(),
        first_failure,
        latency_us,
    })
}

fn work<S: Source + ?Sized>(shared: &Shared<'_, S>) -> Done<Histogram<u64>> {
    let mut latency = histogram()?;
    loop {
        let position = shared.next.fetch_add(1, Ordering::Relaxed);
        let Some(request) = shared.source.request(position)? else { return Ok(latency) };
        let clients = shared.sending.clients;
        let client = clients
            .get(position % clients.len().max(1))
            .ok_or_else(|| Fail::new("load", "nowhere to send payments to"))?;
        let from = match shared.sending.pace {
            None => Instant::now(),
            Some(pace) => {
                let due = shared.start + pace.due(position);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                due
            }
        };
        let answer = client.submit_frames(&request.bytes)?;
        let us = u64::try_from(from.elapsed().as_micros()).unwrap_or(u64::MAX).max(1);
        latency.saturating_record(us);
        if request.payments > 1 {
            latency
                .record_n(us.min(latency.high()), request.payments - 1)
                .map_err(|error| Fail::new("histogram", error))?;
        }
        count(shared, &request, &answer.outcomes)?;
        (shared.progress)(shared.payments.load(Ordering::Relaxed));
    }
}

fn count<S: Source + ?Sized>(
    shared: &Shared<'_, S>,
    request: &Request<'_>,
    outcomes: &[SubmitOutcome],
) -> Done {
    if outcomes.len() != request.transactions {
        return Err(Fail::new(
            "bad_answer",
            format!("{} outcomes for {} transactions", outcomes.len(), request.transactions),
        ));
    }
    let failed = outcomes.iter().filter(|outcome| !is_done(outcome)).count() as u64;
    let transactions = request.transactions.max(1) as u64;
    let each = request.payments / transactions;
    let payments = if failed == 0 { request.payments } else { each * (transactions - failed) };
    shared.payments.fetch_add(payments, Ordering::Relaxed);
    if failed > 0 {
        shared.failed.fetch_add(failed, Ordering::Relaxed);
        if let (Some(outcome), Ok(mut first)) =
            (outcomes.iter().find(|outcome| !is_done(outcome)), shared.first_failure.lock())
        {
            first.get_or_insert_with(|| describe(outcome));
        }
    }
    Ok(())
}

fn is_done(outcome: &SubmitOutcome) -> bool {
    matches!(outcome, SubmitOutcome::Recorded { result, .. } if result.is_ok())
}

fn describe(outcome: &SubmitOutcome) -> String {
    match outcome {
        SubmitOutcome::Recorded { id, result, .. } => format!("{result} (transaction {id})"),
        SubmitOutcome::Refused { refusal, field } => format!("{refusal} (field: {field})"),
    }
}

/// Threads for work that is not waiting: one for each core.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Does `work` for 0 … count − 1 on all cores, in no particular order, and gives the results in
/// order.
pub fn on_all_cores<T: Send>(count: usize, work: impl Fn(usize) -> Done<T> + Sync) -> Done<Vec<T>> {
    let next = AtomicUsize::new(0);
    let one = || -> Done<Vec<(usize, T)>> {
        let mut made = Vec::new();
        loop {
            let position = next.fetch_add(1, Ordering::Relaxed);
            if position >= count {
                return Ok(made);
            }
            made.push((position, work(position)?));
        }
    };
    let parts: Vec<Done<Vec<(usize, T)>>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores()).map(|_| scope.spawn(one)).collect();
        let joined = threads.into_iter().map(|thread| {
            thread.join().unwrap_or_else(|_| Err(Fail::new("worker", "a thread panicked")))
        });
        joined.collect()
    });
    let mut all = Vec::with_capacity(count);
    for part in parts {
        all.extend(part?);
    }
    all.sort_unstable_by_key(|(position, _)| *position);
    Ok(all.into_iter().map(|(_, made)| made).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_due_at_their_rate() {
        let at = |rate, each, position| Pace { rate, each }.due(position);
        assert_eq!(at(1_000, 5, 0), Duration::ZERO);
        assert_eq!(at(1_000, 5, 200), Duration::from_secs(1));
        assert_eq!(at(10_000, 50, 3), Duration::from_millis(15));
    }

    #[test]
    fn work_on_all_cores_keeps_its_order() {
        let squares = on_all_cores(1_000, |n| Ok(n * n)).expect("done");
        assert!(squares.iter().enumerate().all(|(n, square)| n * n == *square));
        let failed =
            on_all_cores(10, |n| if n == 7 { Err(Fail::new("seven", "no")) } else { Ok(n) });
        assert_eq!(failed.map(|_| ()).expect_err("fails").code, "seven");
    }
}
