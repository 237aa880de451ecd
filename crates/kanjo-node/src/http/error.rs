//! Errors of the API: HTTP status, stable code, a sentence, the field.

use crate::history::HistoryError;
use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use kanjo_api::ErrorBody;
use kanjo_types::outcome::Refusal;
use kanjo_types::transaction::Refused;

/// An error answer.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    body: ErrorBody,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        let body = ErrorBody { code: code.to_owned(), message: message.into(), field: None };
        Self { status, body }
    }

    pub(crate) fn field(mut self, field: impl Into<String>) -> Self {
        self.body.field = Some(field.into());
        self
    }

    pub(crate) fn bad_request(message: impl Into<String>, field: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message).field(field)
    }

    pub(crate) fn not_found(code: &str, message: impl Into<String>, field: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message).field(field)
    }

    /// The node stopped while the answer was under way.
    pub(crate) fn stopped() -> Self {
        let sentence = "The node stopped before the answer was final. Transactions that were under way may \
                        or may not be recorded: look them up by id, or send the same bytes again.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "outcome_unknown", sentence)
    }

    /// The node lost the leadership while the answer was under way.
    pub(crate) fn leads_no_more() -> Self {
        let sentence = "The node leads no more. Transactions that were under way may or may not be recorded: \
                        look them up by id, or send the same bytes again.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "outcome_unknown", sentence)
    }
}

/// HTTP status of a refusal.
pub(crate) fn status_of(refusal: Refusal) -> StatusCode {
    match refusal {
        Refusal::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Refusal::AlreadyUsed => StatusCode::CONFLICT,
        Refusal::UnknownAuthor | Refusal::BadSignature => StatusCode::FORBIDDEN,
        Refusal::Overloaded => StatusCode::TOO_MANY_REQUESTS,
        Refusal::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
        Refusal::Stopping | Refusal::NoLeader => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        let refusal = refused.refusal;
        Self::new(status_of(refusal), refusal.code(), refusal.sentence()).field(refused.field)
    }
}

impl From<HistoryError> for ApiError {
    fn from(error: HistoryError) -> Self {
        tracing::error!(%error, "history can't be read");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "damaged_data", error.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let retry = matches!(
            self.status,
            StatusCode::TOO_MANY_REQUESTS
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::INSUFFICIENT_STORAGE
        );
        let mut response = (self.status, Json(self.body)).into_response();
        if retry {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
        }
        response
    }
}
