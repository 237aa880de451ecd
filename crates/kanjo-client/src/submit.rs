//! Submitting, with resending that can't pay twice.
//!
//! ```text
//! send ─▶ answer                                    done
//!      ─▶ connection lost, no leader, overloaded ─▶ wait ─▶ send the same bytes again (bounded),
//!             │                                            to the next address if there is one
//!             └─▶ already_used ─▶ taken the first time: fetch the outcome
//!             └─▶ refused for another reason ─▶ is there a receipt all the same? else done
//! ```
//! A refusal `already_used` on the *first* attempt is the caller's own repetition and is given as
//! it is.

use crate::client::Client;
use crate::error::ClientError;
use crate::transport::{Accept, Content, Lost};
use kanjo_api::{BINARY_MEDIA_TYPE, ErrorBody, SubmitAnswer, SubmitOutcome, frames};
use kanjo_types::outcome::Refusal;
use kanjo_types::stored::decode_signed;
use kanjo_types::transaction::SignedTransaction;
use kanjo_types::{TransactionId, codec};

const PATH: &str = "/v1/transactions";

impl Client {
    /// Submits one transaction and returns when it is final or refused.
    ///
    /// A refusal by the node is [`SubmitOutcome::Refused`] or [`ClientError::Refused`]; nothing was
    /// recorded. A recorded transaction may have failed: look at its `result`.
    ///
    /// # Errors
    /// Any [`ClientError`]. After [`ClientError::Timeout`] or [`ClientError::Unreachable`] the
    /// transaction may still become final until its `valid_until_ms`; submitting the same bytes
    /// again is safe.
    pub fn submit(&self, transaction: &SignedTransaction) -> Result<SubmitOutcome, ClientError> {
        let id = transaction.body.id();
        let bytes = serde_json::to_vec(transaction)
            .map_err(|error| self.transport.bad_answer(&format!("can't write JSON: {error}")))?;
        let content = Content { media_type: "application/json", bytes: &bytes };
        let (answer, sent_before) = self.send(content, Accept::Json);
        let outcome = match answer {
            Ok(answer) => self.transport.parse_json::<SubmitOutcome>(&answer)?,
            Err(error) if sent_before => match refusal_of(&error) {
                Some(refusal) if is_used(refusal) => self.recorded(id)?,
                Some(refusal) if may_be_late(refusal) => {
                    self.transaction(id).map(|view| view.outcome()).map_err(|_| error)?
                }
                _ => return Err(error),
            },
            Err(error) => return Err(error),
        };
        self.note(std::slice::from_ref(&outcome));
        Ok(outcome)
    }

    /// Submits many transactions in one request: `frames` as `kanjo_api::frames` defines them.
    /// Returns when all are final or refused; outcomes are in the order of the frames.
    ///
    /// # Errors
    /// Any [`ClientError`]; see [`Client::submit`].
    pub fn submit_frames(&self, frames: &[u8]) -> Result<SubmitAnswer, ClientError> {
        let content = Content { media_type: BINARY_MEDIA_TYPE, bytes: frames };
        let limits = &self.transport.limits;
        let mut known: Vec<SubmitOutcome> = Vec::new();
        let (mut is_repeated, mut was_lost) = (false, false);
        let mut attempt = 0;
        loop {
            std::thread::sleep(limits.wait_before(attempt));
            attempt += 1;
            let base = self.transport.base().to_owned();
            let (answer, sent_before) = self.send(content, Accept::Binary);
            is_repeated |= sent_before;
            was_lost |= sent_before;
            let mut answer: SubmitAnswer = codec::from_bytes(&answer?)
                .map_err(|error| self.transport.bad_answer(&error.to_string()))?;
            // What was recorded at an earlier attempt stays so.
            for (now, before) in answer.outcomes.iter_mut().zip(known) {
                if matches!(before, SubmitOutcome::Recorded { .. }) {
                    *now = before;
                }
            }
            let has = |wanted: fn(Refusal) -> bool| {
                answer.outcomes.iter().any(|outcome| refused(outcome).is_some_and(wanted))
            };
            if has(|refusal| refusal == Refusal::NoLeader) && attempt < limits.attempts {
                known = answer.outcomes;
                is_repeated = true;
                self.transport.go_on_from(&base);
                continue;
            }
            if is_repeated && has(|refusal| is_used(refusal) || may_be_late(refusal)) {
                answer = self.resolve(frames, answer)?;
            }
            // A node that takes nothing now says nothing about an earlier attempt.
            let is_open = |outcome| refused(outcome).is_some_and(is_about_the_node);
            if was_lost && answer.outcomes.iter().any(is_open) {
                return Err(unknown());
            }
            self.note(&answer.outcomes);
            return Ok(answer);
        }
    }

    /// Answers from here on know these outcomes.
    fn note(&self, outcomes: &[SubmitOutcome]) {
        let height = |outcome: &SubmitOutcome| match outcome {
            SubmitOutcome::Recorded { height, .. } => *height,
            SubmitOutcome::Refused { .. } => 0,
        };
        self.transport.note_height(outcomes.iter().map(height).max().unwrap_or(0));
    }

    /// The second value tells whether an earlier attempt may have been received.
    fn send(&self, content: Content<'_>, accept: Accept) -> (Result<Vec<u8>, ClientError>, bool) {
        let limits = &self.transport.limits;
        let has_others = self.transport.has_others();
        let mut sent_before = false;
        let mut lost_before = None;
        let mut attempt = 0;
        loop {
            std::thread::sleep(limits.wait_before(attempt));
            attempt += 1;
            let may_repeat = attempt < self.transport.attempts();
            let base = self.transport.base().to_owned();
            match self.transport.post_once(PATH, content, accept) {
                Ok(answer) => return (Ok(answer), sent_before),
                Err(Lost::Unknown(error)) if may_repeat => {
                    sent_before = true;
                    lost_before = Some(error);
                }
                Err(Lost::NotSent(_)) if may_repeat && (sent_before || has_others) => {}
                Err(Lost::Final(error)) if may_repeat && error.code() == Some(UNKNOWN) => {
                    sent_before = true;
                    lost_before = Some(error);
                }
                Err(Lost::Final(error)) if may_repeat && is_for_later(&error, has_others) => {
                    // A busy node is no reason to go to another one.
                    if refusal_of(&error) == Some(Refusal::Overloaded) {
                        continue;
                    }
                }
                Err(lost) => {
                    let error = lost.into_error();
                    // A node that takes nothing now says nothing about an earlier attempt.
                    let error = match lost_before {
                        Some(lost) if refusal_of(&error).is_none_or(is_about_the_node) => lost,
                        _ => error,
                    };
                    return (Err(error), sent_before);
                }
            }
            self.transport.go_on_from(&base);
        }
    }

    fn resolve(
        &self,
        frames_sent: &[u8],
        mut answer: SubmitAnswer,
    ) -> Result<SubmitAnswer, ClientError> {
        let ranges = frames::split(frames_sent)
            .map_err(|_| self.transport.bad_answer("an answer to something that is not frames"))?;
        for (outcome, range) in answer.outcomes.iter_mut().zip(ranges) {
            let Some(refusal) = refused(outcome) else { continue };
            let raw = frames_sent.get(range).unwrap_or_default();
            let Ok((_, id)) = decode_signed(raw) else { continue };
            if is_used(refusal) {
                *outcome = self.recorded(id)?;
            } else if may_be_late(refusal)
                && let Ok(view) = self.transaction(id)
            {
                *outcome = view.outcome();
            }
        }
        Ok(answer)
    }

    /// What came of a transaction that the ledger has taken. It may be in flight still, so this
    /// asks again a bounded number of times.
    fn recorded(&self, id: TransactionId) -> Result<SubmitOutcome, ClientError> {
        let limits = &self.transport.limits;
        let mut attempt = 0;
        loop {
            std::thread::sleep(limits.wait_before(attempt));
            attempt += 1;
            match self.transaction(id) {
                Ok(view) => return Ok(view.outcome()),
                // The index may still be behind the block that holds it.
                Err(error)
                    if (error.is_not_found() || error.is_temporary())
                        && attempt < limits.attempts => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Code of an answer that leaves open what became of the request.
const UNKNOWN: &str = "outcome_unknown";

fn unknown() -> ClientError {
    let message = "An earlier attempt was lost on the way, and no node takes it now: send the same bytes \
                   again later, or look the transactions up.";
    let body = ErrorBody { code: UNKNOWN.to_owned(), message: message.to_owned(), field: None };
    ClientError::Refused { status: 503, body }
}

fn refused(outcome: &SubmitOutcome) -> Option<Refusal> {
    match outcome {
        SubmitOutcome::Refused { refusal, .. } => Some(*refusal),
        SubmitOutcome::Recorded { .. } => None,
    }
}

fn refusal_of(error: &ClientError) -> Option<Refusal> {
    let code = error.code()?;
    Refusal::ALL.iter().copied().find(|refusal| refusal.code() == code)
}

fn is_used(refusal: Refusal) -> bool {
    refusal == Refusal::AlreadyUsed
}

/// A transaction that an earlier attempt brought to the ledger may meet these at a later one: it
/// has expired since, or its author has other keys.
fn may_be_late(refusal: Refusal) -> bool {
    matches!(
        refusal,
        Refusal::Expired
            | Refusal::ValidTooLong
            | Refusal::UnknownAuthor
            | Refusal::SignatureCount
            | Refusal::SignatureOrder
            | Refusal::UnknownKey
            | Refusal::BadSignature
    )
}

/// Said of what the node is, not of what the transaction is.
fn is_about_the_node(refusal: Refusal) -> bool {
    matches!(
        refusal,
        Refusal::NoLeader | Refusal::Overloaded | Refusal::StorageFull | Refusal::Stopping
    )
}

/// May the same bytes do better a moment later, or at another address?
fn is_for_later(error: &ClientError, has_others: bool) -> bool {
    match refusal_of(error) {
        Some(Refusal::Overloaded | Refusal::NoLeader) => true,
        Some(Refusal::Stopping | Refusal::StorageFull) => has_others,
        _ => has_others && error.code() == Some("witness"),
    }
}
