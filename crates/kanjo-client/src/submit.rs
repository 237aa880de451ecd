//! Submitting, with resending that can't pay twice.
//!
//! ```text
//! send ─▶ answer                                    done
//!      ─▶ connection lost ─▶ wait ─▶ send the same bytes again (bounded)
//!                                     ─▶ already_used ─▶ taken the first time: fetch the outcome
//!                                     ─▶ anything else                done
//! ```
//! A refusal `already_used` on the *first* attempt is the caller's own repetition and is given as
//! it is.

use crate::client::Client;
use crate::error::ClientError;
use crate::transport::{Accept, Content, Lost};
use kanjo_api::{BINARY_MEDIA_TYPE, SubmitAnswer, SubmitOutcome, frames};
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
        let used = |error: &ClientError| error.code() == Some(Refusal::AlreadyUsed.code());
        match answer {
            Ok(answer) => {
                let outcome: SubmitOutcome = self.transport.parse_json(&answer)?;
                if sent_before && is_used(&outcome) { self.recorded(id) } else { Ok(outcome) }
            }
            Err(error) if sent_before && used(&error) => self.recorded(id),
            Err(error) => Err(error),
        }
    }

    /// Submits many transactions in one request: `frames` as `kanjo_api::frames` defines them.
    /// Returns when all are final or refused; outcomes are in the order of the frames.
    ///
    /// # Errors
    /// Any [`ClientError`]; see [`Client::submit`].
    pub fn submit_frames(&self, frames: &[u8]) -> Result<SubmitAnswer, ClientError> {
        let content = Content { media_type: BINARY_MEDIA_TYPE, bytes: frames };
        let (answer, sent_before) = self.send(content, Accept::Binary);
        let answer: SubmitAnswer = codec::from_bytes(&answer?)
            .map_err(|error| self.transport.bad_answer(&error.to_string()))?;
        if sent_before && answer.outcomes.iter().any(is_used) {
            return self.resolve_used(frames, answer);
        }
        Ok(answer)
    }

    /// The second value tells whether an earlier attempt may have been received.
    fn send(&self, content: Content<'_>, accept: Accept) -> (Result<Vec<u8>, ClientError>, bool) {
        let limits = &self.transport.limits;
        let mut sent_before = false;
        let mut attempt = 0;
        loop {
            std::thread::sleep(limits.wait_before(attempt));
            attempt += 1;
            let may_repeat = attempt < limits.attempts;
            match self.transport.post_once(PATH, content, accept) {
                Ok(answer) => return (Ok(answer), sent_before),
                Err(Lost::Unknown(_)) if may_repeat => sent_before = true,
                Err(Lost::NotSent(_)) if may_repeat && sent_before => {}
                Err(Lost::Final(error)) if may_repeat && is_overloaded(&error) => {}
                Err(lost) => return (Err(lost.into_error()), sent_before),
            }
        }
    }

    fn resolve_used(
        &self,
        frames_sent: &[u8],
        mut answer: SubmitAnswer,
    ) -> Result<SubmitAnswer, ClientError> {
        let ranges = frames::split(frames_sent)
            .map_err(|_| self.transport.bad_answer("an answer to something that is not frames"))?;
        for (outcome, range) in answer.outcomes.iter_mut().zip(ranges) {
            if !is_used(outcome) {
                continue;
            }
            let raw = frames_sent.get(range).unwrap_or_default();
            if let Ok((_, id)) = decode_signed(raw) {
                *outcome = self.recorded(id)?;
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

fn is_used(outcome: &SubmitOutcome) -> bool {
    matches!(outcome, SubmitOutcome::Refused { refusal: Refusal::AlreadyUsed, .. })
}

fn is_overloaded(error: &ClientError) -> bool {
    error.code() == Some(Refusal::Overloaded.code())
}
