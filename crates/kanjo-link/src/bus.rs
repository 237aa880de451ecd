//! The boundary between the ledger and whatever carries its messages: [`Bus`] and [`Handler`].
//!
//! ```text
//!   consensus, votes, notices, fetch         consensus, votes, notices, fetch
//!            │ call/send/publish                        ▲ Handler
//!            ▼                                          │
//!           Bus ───────── topic, sender, bytes ─────── Bus
//! ```
//!
//! Nothing here knows of sockets: the built-in bus is [`crate::mesh`], the simulator has its own,
//! brokers may follow.
//!
//! # What a bus promises, and what not
//! - The sender's number that a handler sees is authenticated.
//! - Bodies arrive whole and unaltered, or not at all.
//! - A call ends once: with the answer, or with an error no later than its time to live. After an
//!   error the other side may still have handled the call. So calls must bear repetition.
//! - Messages ([`Bus::send`], [`Bus::publish`]) are best effort: lost when queues are full or the
//!   receiver is away. They may overtake each other. Nothing is stored.
//! - Every queue is bounded.

use bytes::Bytes;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// A boxed future that may move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Topic {
    /// Entries of the replicated log, and heartbeats.
    Append = 0,
    /// Requests for votes of an election.
    Elect = 1,
    /// Hand-over of leadership.
    Transfer = 2,
    /// State for a node that is far behind.
    Snapshot = 3,
    /// Votes over headers.
    Votes = 4,
    /// Notices of members about themselves or each other.
    Notices = 5,
    /// Heights that became final.
    Final = 6,
    /// Blocks and certificates on demand.
    Fetch = 7,
    /// Measurements that roles are assigned by.
    Measures = 8,
    /// Evidence of a member's sentinel, for an asker's nonce.
    Evidence = 9,
}

impl Topic {
    /// Every topic, by number.
    pub const ALL: [Self; 10] = [
        Self::Append,
        Self::Elect,
        Self::Transfer,
        Self::Snapshot,
        Self::Votes,
        Self::Notices,
        Self::Final,
        Self::Fetch,
        Self::Measures,
        Self::Evidence,
    ];

    /// Its name in metrics and broker topics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Elect => "elect",
            Self::Transfer => "transfer",
            Self::Snapshot => "snapshot",
            Self::Votes => "votes",
            Self::Notices => "notices",
            Self::Final => "final",
            Self::Fetch => "fetch",
            Self::Measures => "measures",
            Self::Evidence => "evidence",
        }
    }

    /// Its number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The topic with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

impl std::fmt::Display for Topic {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// Not connected, not known, or the connection broke before the answer came.
    #[error("member {to} is unreachable: {why}")]
    Unreachable {
        /// Whom.
        to: u16,
        /// Why, for people.
        why: String,
    },
    /// No answer within the time to live.
    #[error("no answer in time")]
    Timeout,
    /// The other side answered that it won't.
    #[error("refused: {0}")]
    Refused(String),
    /// The body is longer than a bus carries.
    #[error("the message is too large")]
    TooLarge,
    /// This bus is shut down.
    #[error("the bus is closed")]
    Closed,
}

/// Carries messages to members of the ledger.
pub trait Bus: Send + Sync {
    /// Asks a member and waits for its answer, at most `ttl`.
    fn call(
        &self,
        to: u16,
        topic: Topic,
        body: Bytes,
        ttl: Duration,
    ) -> BoxFuture<'static, Result<Bytes, BusError>>;

    /// Sends to a member; lost when it can't be sent now.
    fn send(&self, to: u16, topic: Topic, body: Bytes);

    /// Sends to all other members; lost for those it can't be sent to now.
    fn publish(&self, topic: Topic, body: Bytes);
}

/// Takes what a bus brings. Must not block: it is called from the bus's own tasks.
pub trait Handler: Send + Sync {
    /// A member asks. An error is told to it as text ([`BusError::Refused`]). The future is dropped
    /// when the member's time to live is over or its connection breaks.
    fn call(
        &self,
        from: u16,
        topic: Topic,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, String>>;

    /// A member says something and expects no answer.
    fn message(&self, from: u16, topic: Topic, body: Bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_keep_their_numbers_and_have_different_names() {
        for (number, topic) in (0u8..).zip(Topic::ALL) {
            assert_eq!(topic.number(), number);
            assert_eq!(Topic::from_number(number), Some(topic));
            assert_eq!(Topic::ALL.iter().filter(|other| other.name() == topic.name()).count(), 1);
        }
        assert_eq!(Topic::from_number(10), None);
    }
}
