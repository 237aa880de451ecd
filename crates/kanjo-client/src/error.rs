//! What can go wrong between a client and a node.

use kanjo_api::ErrorBody;

/// A call did not give an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The node understood the request and said no.
    #[error("{}", refusal_text(.body))]
    Refused {
        /// HTTP status: 404 when the thing does not exist.
        status: u16,
        /// Stable code, sentence and field.
        body: ErrorBody,
    },
    /// No connection, or it broke and sending again did not help.
    #[error("no answer from {url}: {reason}")]
    Unreachable {
        /// Which node.
        url: String,
        /// What the system said.
        reason: String,
    },
    /// The node took longer than allowed. A submitted transaction may still become final: ask for
    /// it by its id.
    #[error("no answer from {url} within {after_ms} ms")]
    Timeout {
        /// Which node.
        url: String,
        /// How long was allowed.
        after_ms: u64,
    },
    /// Something answered, but not as a Kanjo node does.
    #[error("the answer from {url} is not understood: {problem}")]
    BadAnswer {
        /// Which address.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The address can't be used.
    #[error("'{url}' is not a node address: {problem}")]
    BadUrl {
        /// What was given.
        url: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

fn refusal_text(body: &ErrorBody) -> String {
    match &body.field {
        Some(field) if !field.is_empty() => format!("{} (field: {field})", body.message),
        _ => body.message.clone(),
    }
}

impl ClientError {
    /// True when the node says that the thing asked for does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }

    /// The stable code of a refusal.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { body, .. } => Some(&body.code),
            _ => None,
        }
    }

    /// True when the same request may succeed later without change.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Timeout { .. } => true,
            Self::Refused { status, .. } => matches!(status, 429 | 503 | 507),
            Self::BadAnswer { .. } | Self::BadUrl { .. } => false,
        }
    }
}
