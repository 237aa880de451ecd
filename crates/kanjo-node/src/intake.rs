//! Intake: requests become jobs, jobs are decoded and their signatures checked on all cores.
//!
//! Jobs carry a ticket; the sequencer takes them in ticket order, so payments of one request, and
//! requests that came one after the other, keep their order although many threads work on them.

use crate::metrics::Stage;
use crate::shared::{Shared, Submission, ToSequencer};
use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded};
use kanjo_ledger::admission::AuthorKeys;
use kanjo_ledger::{Ledger, Prepared, Verified, prepare, verify, verify_one};
use kanjo_types::Hash;
use kanjo_types::outcome::Refusal;
use kanjo_types::transaction::Refused;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Most transactions in a job.
pub(crate) const JOB_MAX: usize = 512;
/// A job is closed at this many bytes, so that one can't fill a block many times over.
const JOB_BYTES_MAX: usize = 1 << 20;
/// A worker gathers small jobs up to this many transactions for one batch of signatures.
const BATCH_MIN: usize = 256;
/// Jobs that may wait for a worker.
const JOBS_WAITING_MAX: usize = 4_096;

/// Transactions of one submission on their way to a worker.
struct Job {
    ticket: u64,
    submission: Arc<Submission>,
    first: usize,
    raws: Vec<Bytes>,
}

/// A job whose signatures are checked.
pub(crate) struct Checked {
    pub ticket: u64,
    pub submission: Arc<Submission>,
    /// Position of the first in the submission.
    pub first: usize,
    pub items: Vec<Item>,
}

/// A transaction after its signatures were checked.
pub(crate) enum Item {
    /// Good against the author's keys of that moment.
    Verified(Verified),
    /// Refused for good.
    Refused(Refused),
    /// Refused against the author's keys of that moment. A transaction before it may bring the
    /// author, or other keys: then it gets another look at its turn.
    Doubtful(Box<Doubtful>),
}

/// See [`Item::Doubtful`].
pub(crate) struct Doubtful {
    refused: Refused,
    prepared: Prepared,
    /// Hash of the author's record at that moment.
    record: Option<Hash>,
}

impl Doubtful {
    /// Checks again if the author's keys are others now.
    ///
    /// # Errors
    /// The refusal, the earlier one when nothing has changed.
    pub(crate) fn settle(self, ledger: &Ledger) -> Result<Verified, Refused> {
        let keys = ledger.author_keys(self.prepared.transaction());
        if keys.as_ref().map(AuthorKeys::record) == self.record {
            return Err(self.refused);
        }
        verify_one(self.prepared, keys)
    }
}

/// Cuts a request into jobs of at most [`JOB_MAX`] transactions and about [`JOB_BYTES_MAX`] bytes.
fn split(raws: Vec<Bytes>) -> Vec<Vec<Bytes>> {
    let mut jobs = Vec::with_capacity(raws.len().div_ceil(JOB_MAX));
    let mut job = Vec::new();
    let mut bytes = 0;
    for raw in raws {
        bytes += raw.len();
        job.push(raw);
        if job.len() >= JOB_MAX || bytes >= JOB_BYTES_MAX {
            jobs.push(std::mem::take(&mut job));
            bytes = 0;
        }
    }
    if !job.is_empty() {
        jobs.push(job);
    }
    jobs
}

/// The entrance: gives out tickets.
pub(crate) struct Intake {
    shared: Arc<Shared>,
    jobs: Mutex<(u64, Option<Sender<Job>>)>,
}

impl Intake {
    /// The entrance and the queue behind it, to be served by [`work`].
    pub(crate) fn new(shared: Arc<Shared>) -> (Self, Workers) {
        let (sender, jobs) = bounded(JOBS_WAITING_MAX);
        (Self { shared, jobs: Mutex::new((0, Some(sender))) }, Workers { jobs })
    }

    /// Takes the transactions of one request, all or none.
    ///
    /// # Errors
    /// [`Refusal::Overloaded`] or [`Refusal::Stopping`]: nothing was taken.
    pub(crate) fn submit(
        &self,
        submission: &Arc<Submission>,
        raws: Vec<Bytes>,
    ) -> Result<(), Refusal> {
        let count = raws.len();
        let before = self.shared.in_flight.fetch_add(count, Ordering::AcqRel);
        if before > 0 && before + count > self.shared.config.in_flight_max {
            self.shared.in_flight.fetch_sub(count, Ordering::AcqRel);
            return Err(Refusal::Overloaded);
        }
        let jobs = split(raws);
        let mut entrance = self.jobs.lock();
        let (next_ticket, sender) = &mut *entrance;
        let refusal = match sender {
            None => Some(Refusal::Stopping),
            Some(sender) if JOBS_WAITING_MAX - sender.len() < jobs.len() => {
                Some(Refusal::Overloaded)
            }
            Some(_) => None,
        };
        if let Some(refusal) = refusal {
            self.shared.in_flight.fetch_sub(count, Ordering::AcqRel);
            return Err(refusal);
        }
        let mut first = 0;
        for raws in jobs {
            let taken = raws.len();
            let job = Job { ticket: *next_ticket, submission: submission.clone(), first, raws };
            // Only this lock's holder fills the queue, so there is room; when the workers have died
            // the node is failing and the request gets no answer.
            if sender.as_ref().is_some_and(|sender| sender.try_send(job).is_ok()) {
                *next_ticket += 1;
            }
            first += taken;
        }
        Ok(())
    }

    /// Closes the entrance; workers end when the queue is empty.
    pub(crate) fn close(&self) {
        self.jobs.lock().1 = None;
    }
}

/// The queue behind the entrance.
#[derive(Clone)]
pub(crate) struct Workers {
    jobs: Receiver<Job>,
}

impl Workers {
    /// Works until the entrance is closed and the queue is empty.
    pub(crate) fn work(&self, shared: &Shared, sequencer: &Sender<ToSequencer>) {
        let clock = shared.metrics.thread(Stage::Signature);
        while let Ok(job) = self.jobs.recv() {
            let mut jobs = vec![job];
            let mut count: usize = jobs.iter().map(|job| job.raws.len()).sum();
            while count < BATCH_MIN {
                let Ok(job) = self.jobs.try_recv() else { break };
                count += job.raws.len();
                jobs.push(job);
            }
            for checked in check(shared, jobs) {
                if sequencer.send(ToSequencer::Checked(checked)).is_err() {
                    return;
                }
            }
            clock.lap();
        }
    }
}

/// What would be refused at execution anyway is refused before a signature is checked: it is
/// cheaper, and gives the refusal that comes first in the documented order. The block's time is
/// this time or a little later.
fn check_time_and_id(ledger: &Ledger, now_ms: u64, item: &Prepared) -> Result<(), Refused> {
    let valid_until_ms = item.transaction().body.valid_until_ms;
    let refuse = |refusal, field: &str| Err(Refused::new(refusal, field));
    if valid_until_ms < now_ms {
        return refuse(Refusal::Expired, "body.valid_until_ms");
    }
    if valid_until_ms - now_ms > ledger.replay_window_ms() {
        return refuse(Refusal::ValidTooLong, "body.valid_until_ms");
    }
    if ledger.replay().contains(&item.id(), valid_until_ms) {
        return refuse(Refusal::AlreadyUsed, "id");
    }
    Ok(())
}

/// Checks several jobs as one batch.
fn check(shared: &Shared, jobs: Vec<Job>) -> Vec<Checked> {
    let mut shells = Vec::with_capacity(jobs.len());
    let mut prepared: Vec<Result<Prepared, Refused>> = Vec::new();
    for job in jobs {
        shells.push((job.ticket, job.submission, job.first, job.raws.len()));
        prepared.extend(job.raws.into_iter().map(|raw| prepare(raw, shared.chain)));
    }
    let mut to_verify = Vec::with_capacity(prepared.len());
    let mut checked_against = Vec::with_capacity(prepared.len());
    let now_ms = shared.clock.now_ms();
    let places: Vec<Option<Refused>> = {
        let ledger = shared.ledger.read();
        let take = |item: Result<Prepared, Refused>| match item {
            Err(refused) => Some(refused),
            Ok(item) => {
                if let Err(refused) = check_time_and_id(&ledger, now_ms, &item) {
                    return Some(refused);
                }
                let keys = ledger.author_keys(item.transaction());
                checked_against.push((item.raw().clone(), keys.as_ref().map(AuthorKeys::record)));
                to_verify.push((item, keys));
                None
            }
        };
        prepared.into_iter().map(take).collect()
    };
    let verified = verify(to_verify).into_iter().zip(checked_against);
    let mut verified = verified.map(|(outcome, (raw, record))| match outcome {
        Ok(verified) => Item::Verified(verified),
        Err(refused) => match prepare(raw, shared.chain) {
            Ok(prepared) => Item::Doubtful(Box::new(Doubtful { refused, prepared, record })),
            Err(refused) => Item::Refused(refused),
        },
    });
    let mut places = places.into_iter();
    shells
        .into_iter()
        .map(|(ticket, submission, first, count)| {
            let items = places.by_ref().take(count).filter_map(|refused| match refused {
                Some(refused) => Some(Item::Refused(refused)),
                None => verified.next(),
            });
            Checked { ticket, submission, first, items: items.collect() }
        })
        .collect()
}
