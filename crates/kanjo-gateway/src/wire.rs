//! Submissions as they stand on the wire: transactions of a request, answers of a node, answers to
//! the client.

use crate::route::Answer;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use kanjo_api::{BINARY_MEDIA_TYPE, ErrorBody, SubmitAnswer, SubmitOutcome, frames};
use kanjo_types::outcome::Refusal;
use kanjo_types::stored::decode_signed;
use kanjo_types::transaction::SignedTransaction;
use kanjo_types::{TransactionId, codec};

const JSON: &str = "application/json";

/// How a request is written and its answer wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// One transaction as JSON.
    Json,
    /// Frames, answered in the binary form.
    Frames,
    /// Frames, answered as JSON.
    FramesToJson,
    /// Neither: a node refuses it.
    Other,
}

impl Form {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let media_type = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let sent = media_type(header::CONTENT_TYPE).unwrap_or("");
        if sent.starts_with(BINARY_MEDIA_TYPE) {
            let accepted = media_type(header::ACCEPT).unwrap_or("");
            return if accepted.contains(JSON) { Self::FramesToJson } else { Self::Frames };
        }
        if sent.starts_with(JSON) { Self::Json } else { Self::Other }
    }

    /// How many outcomes an answer has. A request that is no sequence of frames has none: nodes
    /// refuse it as a whole.
    pub(crate) fn count(self, body: &[u8]) -> usize {
        match self {
            Self::Json => 1,
            Self::Frames | Self::FramesToJson => frames::split(body).map_or(0, |all| all.len()),
            Self::Other => 0,
        }
    }

    /// Ids of the transactions at `places`, which must be ascending. One that can't be read has
    /// none: it is on no ledger.
    pub(crate) fn ids(self, body: &[u8], places: &[usize]) -> Vec<(usize, TransactionId)> {
        match self {
            Self::Json => {
                let signed = serde_json::from_slice::<SignedTransaction>(body);
                let id = signed.ok().map(|signed| signed.body.id());
                places.first().copied().zip(id).into_iter().collect()
            }
            Self::Frames | Self::FramesToJson => {
                let ranges = frames::split(body).unwrap_or_default();
                let id = |at: &usize| {
                    let raw = body.get(ranges.get(*at)?.clone())?;
                    decode_signed(raw).ok().map(|(_, id)| (*at, id))
                };
                places.iter().filter_map(id).collect()
            }
            Self::Other => Vec::new(),
        }
    }
}

/// A node's whole answer.
#[derive(Debug, Clone)]
pub(crate) struct Answered {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answered {
    /// What the answer says, or `None` when it leaves open what became of the request.
    pub(crate) fn read(&self, form: Form, count: usize) -> Option<Answer> {
        if self.status == StatusCode::OK {
            return self.outcomes(form).map(Answer::Outcomes);
        }
        let error: ErrorBody = serde_json::from_slice(&self.body).ok()?;
        let refusal = Refusal::ALL.iter().copied().find(|refusal| refusal.code() == error.code);
        match (form, refusal) {
            // `too_large` of one transaction or of the request: the bytes are what they are.
            (_, Some(refusal)) if crate::route::follows_from_bytes(refusal) => {
                Some(Answer::Improper)
            }
            (Form::Json, Some(refusal)) if !is_of_the_whole(refusal) && count == 1 => {
                let field = error.field.unwrap_or_default();
                Some(Answer::Outcomes(vec![SubmitOutcome::Refused { refusal, field }]))
            }
            (_, Some(refusal)) => Some(Answer::NotTaken(refusal)),
            // A witness: it takes nothing.
            (_, None) if self.status == StatusCode::MISDIRECTED_REQUEST => {
                Some(Answer::NotTaken(Refusal::NoLeader))
            }
            (_, None) if self.status.is_client_error() => Some(Answer::Improper),
            (_, None) => None,
        }
    }

    fn outcomes(&self, form: Form) -> Option<Vec<SubmitOutcome>> {
        match form {
            Form::Json => serde_json::from_slice(&self.body).ok().map(|outcome| vec![outcome]),
            Form::Frames => {
                let answer = codec::from_bytes::<SubmitAnswer>(&self.body).ok();
                answer.map(|answer| answer.outcomes)
            }
            Form::FramesToJson => {
                let answer = serde_json::from_slice::<SubmitAnswer>(&self.body).ok();
                answer.map(|answer| answer.outcomes)
            }
            Form::Other => None,
        }
    }
}

/// Refusals of a node that took no look at the transaction.
fn is_of_the_whole(refusal: Refusal) -> bool {
    matches!(
        refusal,
        Refusal::Overloaded | Refusal::StorageFull | Refusal::Stopping | Refusal::NoLeader
    )
}

/// The highest block that the outcomes speak of.
pub(crate) fn height_of(outcomes: &[SubmitOutcome]) -> u64 {
    let height = |outcome: &SubmitOutcome| match outcome {
        SubmitOutcome::Recorded { height, .. } => *height,
        SubmitOutcome::Refused { .. } => 0,
    };
    outcomes.iter().map(height).max().unwrap_or(0)
}

/// Outcomes in the form that was asked for.
pub(crate) fn outcomes_answer(form: Form, outcomes: Vec<SubmitOutcome>) -> Response {
    match form {
        Form::Frames => {
            let bytes = codec::to_bytes(&SubmitAnswer { outcomes });
            ([(header::CONTENT_TYPE, BINARY_MEDIA_TYPE)], bytes).into_response()
        }
        Form::FramesToJson => axum::Json(SubmitAnswer { outcomes }).into_response(),
        Form::Json | Form::Other => match outcomes.into_iter().next() {
            Some(outcome) => axum::Json(outcome).into_response(),
            None => unknown_answer(),
        },
    }
}

/// An error of the gateway's own, in the form of a node's.
pub(crate) fn error_answer(status: StatusCode, code: &str, message: &str, field: &str) -> Response {
    let body = ErrorBody {
        code: code.to_owned(),
        message: message.to_owned(),
        field: Some(field.to_owned()),
    };
    let mut response = (status, axum::Json(body)).into_response();
    if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
    }
    response
}

/// Nothing was taken.
pub(crate) fn refusal_answer(refusal: Refusal) -> Response {
    let status = match refusal {
        Refusal::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Refusal::Overloaded => StatusCode::TOO_MANY_REQUESTS,
        Refusal::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    error_answer(status, refusal.code(), refusal.sentence(), "node")
}

/// The deadline has passed while something was in doubt.
pub(crate) fn unknown_answer() -> Response {
    let sentence = "No node said in time what became of this. It may or may not be recorded: send \
                    the very same transaction again, which is safe, or look it up by its id.";
    error_answer(StatusCode::GATEWAY_TIMEOUT, "outcome_unknown", sentence, "node")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, code: &str) -> Answered {
        let error = ErrorBody { code: code.to_owned(), message: String::new(), field: None };
        Answered {
            status: StatusCode::from_u16(status).expect("a status"),
            headers: HeaderMap::new(),
            body: serde_json::to_vec(&error).expect("json").into(),
        }
    }

    #[test]
    fn refusals_of_a_node_are_told_from_what_leaves_all_open() {
        let read = |form, status, code| answered(status, code).read(form, 1);
        assert_eq!(read(Form::Json, 503, "no_leader"), Some(Answer::NotTaken(Refusal::NoLeader)));
        assert_eq!(read(Form::Frames, 400, "malformed"), Some(Answer::Improper));
        assert_eq!(read(Form::Frames, 415, "unsupported_media_type"), Some(Answer::Improper));
        assert_eq!(read(Form::Json, 503, "outcome_unknown"), None);
        assert_eq!(read(Form::Json, 500, "damaged_data"), None);
        let used = SubmitOutcome::Refused { refusal: Refusal::AlreadyUsed, field: String::new() };
        assert_eq!(read(Form::Json, 409, "already_used"), Some(Answer::Outcomes(vec![used])));
        let mut foreign = answered(502, "");
        foreign.body = Bytes::from_static(b"<html>bad gateway</html>");
        assert_eq!(foreign.read(Form::Json, 1), None);
    }
}
