//! Brings a submission to the leader: does what [`crate::route`] decides.

use crate::nodes::Directory;
use crate::route::{Action, Answer, Event, Submission, Verdict};
use crate::upstream::{Failed, Upstream};
use crate::wire::{self, Answered, Form};
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use futures_util::StreamExt;
use kanjo_api::{FORWARDED_HEADER, SubmitOutcome, TransactionView};
use kanjo_types::TransactionId;
use kanjo_types::outcome::Refusal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Receipts that are asked for at one time.
const LOOK_UPS_AT_ONCE: usize = 16;
/// Longest wait for one receipt.
const LOOK_UP_MAX: Duration = Duration::from_secs(5);
/// How often the directory is asked who leads while nobody does.
const LEADER_STEP: Duration = Duration::from_millis(20);
/// How often it is asked whether the one that was sent to still leads.
const STILL_STEP: Duration = Duration::from_millis(250);
/// After so many steps without it, its answer is waited for no longer.
const STILL_STEPS_MAX: u32 = 4;

/// How submissions are brought to the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForwardOptions {
    /// Longest time for one submission, from its arrival to its answer.
    pub deadline: Duration,
    /// Tells nodes that this request was passed on by a node, so that it goes no further.
    pub is_node: bool,
}

impl Default for ForwardOptions {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(30), is_node: false }
    }
}

/// What was done so far.
#[derive(Debug, Default)]
pub struct ForwardCounts {
    /// Submissions taken in.
    pub submissions: AtomicU64,
    /// Attempts after the first of a submission.
    pub retries: AtomicU64,
    /// Receipts asked for.
    pub look_ups: AtomicU64,
    /// Submissions whose outcome was not known at the deadline.
    pub unknown: AtomicU64,
    /// Submissions under way.
    pub in_flight: AtomicU64,
}

/// Counts one submission as long as it lives, however it ends.
struct InFlight(Arc<ForwardCounts>);

impl InFlight {
    fn of(counts: &Arc<ForwardCounts>) -> Self {
        counts.submissions.fetch_add(1, Ordering::Relaxed);
        counts.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(counts.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An answer to a submission.
#[derive(Debug)]
pub struct Submitted {
    /// What goes to the client.
    pub response: Response,
    /// The highest block that it speaks of; 0 for none.
    pub height: u64,
}

/// Brings submissions to the leader, and the same bytes to the next one when it falls.
#[derive(Clone)]
pub struct Forwarder {
    pub(crate) upstream: Upstream,
    directory: Arc<dyn Directory>,
    options: ForwardOptions,
    counts: Arc<ForwardCounts>,
}

/// One submission and what is kept of it.
struct Job<'a> {
    forwarder: &'a Forwarder,
    form: Form,
    headers: HeaderMap,
    body: Bytes,
    count: usize,
    until: Instant,
    last: Option<Answered>,
    height: u64,
}

impl Forwarder {
    /// Sends to the leader that `directory` names.
    #[must_use]
    pub fn new(directory: Arc<dyn Directory>, options: ForwardOptions) -> Self {
        Self {
            upstream: Upstream::new(),
            directory,
            options,
            counts: Arc::new(ForwardCounts::default()),
        }
    }

    /// What was done so far.
    #[must_use]
    pub fn counts(&self) -> &ForwardCounts {
        &self.counts
    }

    /// Brings the body of a submit request to the leader; `headers` are those of the request. The
    /// answer is that of a node, or `outcome_unknown` at the deadline.
    pub async fn submit(&self, headers: &HeaderMap, body: Bytes) -> Submitted {
        let _in_flight = InFlight::of(&self.counts);
        let form = Form::of(headers);
        let mut job = Job {
            forwarder: self,
            form,
            headers: self.headers(headers),
            count: form.count(&body),
            body,
            until: Instant::now() + self.options.deadline,
            last: None,
            height: 0,
        };
        let verdict = job.run().await;
        let (last, height) = (job.last, job.height);
        let response = match verdict {
            Verdict::AsAnswered => last.map_or_else(wire::unknown_answer, pass_on),
            Verdict::Outcomes(outcomes) => {
                let height = height.max(wire::height_of(&outcomes));
                let response = wire::outcomes_answer(form, outcomes);
                return Submitted { response, height };
            }
            Verdict::NotTaken(refusal) => wire::refusal_answer(refusal),
            Verdict::Unknown => {
                self.counts.unknown.fetch_add(1, Ordering::Relaxed);
                wire::unknown_answer()
            }
        };
        Submitted { response, height }
    }

    fn headers(&self, from: &HeaderMap) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for name in [header::CONTENT_TYPE, header::ACCEPT] {
            if let Some(value) = from.get(&name) {
                headers.insert(name, value.clone());
            }
        }
        if self.options.is_node {
            headers.insert(FORWARDED_HEADER, HeaderValue::from_static("1"));
        }
        headers
    }

    /// The receipt of a transaction: of the leader, or of another node when that one has none.
    async fn receipt(&self, id: TransactionId, until: Instant) -> Option<SubmitOutcome> {
        self.counts.look_ups.fetch_add(1, Ordering::Relaxed);
        let leader = self.directory.leader();
        let others = self.directory.readers().into_iter();
        let others = others.filter(|node| Some(node) != leader.as_ref());
        for node in leader.clone().into_iter().chain(others) {
            let until = until.min(Instant::now() + LOOK_UP_MAX);
            let url = format!("{node}/v1/transactions/{id}");
            let none = (HeaderMap::new(), Bytes::new());
            let asked = self.upstream.whole(Method::GET, &url, none.0, none.1, until).await;
            let Ok(answer) = asked else { continue };
            if answer.status != StatusCode::OK {
                continue;
            }
            let view = serde_json::from_slice::<TransactionView>(&answer.body);
            if let Ok(view) = view
                && view.id == id
            {
                return Some(view.outcome());
            }
        }
        None
    }
}

impl Job<'_> {
    async fn run(&mut self) -> Verdict {
        let mut submission = Submission::new(self.count);
        let mut action = Action::Send { pause_ms: 0 };
        loop {
            let event = match action {
                Action::Finish(verdict) => return verdict,
                Action::Send { pause_ms } => {
                    if submission.attempts() > 1 {
                        self.forwarder.counts.retries.fetch_add(1, Ordering::Relaxed);
                    }
                    match self.pause(pause_ms).await {
                        true => self.send().await,
                        false => Event::Deadline,
                    }
                }
                Action::LookUp { places, pause_ms } => match self.pause(pause_ms).await {
                    true => self.look_up(&places).await,
                    false => Event::Deadline,
                },
            };
            action = submission.on(event);
        }
    }

    /// Waits; false when no time is left.
    async fn pause(&self, ms: u64) -> bool {
        if ms > 0 {
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
        Instant::now() < self.until
    }

    async fn send(&mut self) -> Event {
        let leader = loop {
            if let Some(leader) = self.forwarder.directory.leader() {
                break leader;
            }
            if Instant::now() >= self.until {
                return Event::Deadline;
            }
            tokio::time::sleep(LEADER_STEP).await;
        };
        let directory = &self.forwarder.directory;
        match self.attempt(&leader).await {
            Ok(answer) => {
                let read = answer.read(self.form, self.count);
                self.last = Some(answer);
                if let Some(Answer::Outcomes(outcomes)) = &read {
                    self.height = self.height.max(wire::height_of(outcomes));
                }
                if read.as_ref().is_none_or(leads_no_more) {
                    directory.suspect(&leader);
                }
                read.map_or(Event::Lost, Event::Answered)
            }
            Err(failed) => {
                tracing::debug!(node = &*leader, error = %failed, "a submission goes again");
                directory.suspect(&leader);
                match failed {
                    Failed::NotSent(_) => Event::NotSent,
                    Failed::Lost(_) => Event::Lost,
                }
            }
        }
    }

    /// Sends once, and waits for the answer as long as the node leads.
    async fn attempt(&self, leader: &Arc<str>) -> Result<Answered, Failed> {
        let url = format!("{leader}/v1/transactions");
        let (headers, body) = (self.headers.clone(), self.body.clone());
        let upstream = &self.forwarder.upstream;
        let mut sent =
            std::pin::pin!(upstream.whole(Method::POST, &url, headers, body, self.until));
        let mut steps = 0;
        loop {
            tokio::select! {
                answer = &mut sent => return answer,
                () = tokio::time::sleep(STILL_STEP) => {}
            }
            let now = self.forwarder.directory.leader();
            steps = if now.is_some_and(|now| now != *leader) { steps + 1 } else { 0 };
            if steps >= STILL_STEPS_MAX {
                return Err(Failed::Lost("another node leads now".to_owned()));
            }
        }
    }

    async fn look_up(&self, places: &[usize]) -> Event {
        let ids = self.form.ids(&self.body, places);
        let receipts = futures_util::stream::iter(ids).map(|(at, id)| async move {
            self.forwarder.receipt(id, self.until).await.map(|outcome| (at, outcome))
        });
        let found: Vec<_> = receipts.buffer_unordered(LOOK_UPS_AT_ONCE).collect().await;
        Event::LookedUp(found.into_iter().flatten().collect())
    }
}

fn leads_no_more(answer: &Answer) -> bool {
    let gone = |refusal: &Refusal| matches!(refusal, Refusal::NoLeader | Refusal::Stopping);
    match answer {
        Answer::NotTaken(refusal) => gone(refusal),
        Answer::Outcomes(outcomes) => outcomes.iter().any(
            |outcome| matches!(outcome, SubmitOutcome::Refused { refusal, .. } if gone(refusal)),
        ),
        Answer::Improper => false,
    }
}

/// A node's answer, as it is.
fn pass_on(answered: Answered) -> Response {
    let mut response = Response::new(Body::from(answered.body));
    *response.status_mut() = answered.status;
    for name in [header::CONTENT_TYPE, header::RETRY_AFTER] {
        if let Some(value) = answered.headers.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}
