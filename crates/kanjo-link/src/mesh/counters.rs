//! What a mesh counts.

use crate::bus::Topic;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, more: usize) {
        self.0.fetch_add(more as u64, Ordering::Relaxed);
    }

    pub(super) fn one(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
pub(super) struct OfTopic {
    pub(super) called: Counter,
    pub(super) sent: Counter,
    pub(super) dropped: Counter,
    pub(super) received: Counter,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    topics: [OfTopic; Topic::ALL.len()],
    pub(super) unreachable: Counter,
    pub(super) timeouts: Counter,
    pub(super) refused: Counter,
    pub(super) expired: Counter,
    pub(super) busy: Counter,
    pub(super) dialled: Counter,
    pub(super) accepted: Counter,
    pub(super) replaced: Counter,
    pub(super) unknown_keys: Counter,
    pub(super) failed_handshakes: Counter,
    pub(super) slow_handshakes: Counter,
    pub(super) turned_away: Counter,
    pub(super) broken: Counter,
}

impl Counters {
    pub(super) fn topic(&self, topic: Topic) -> &OfTopic {
        // The list is as long as there are topics, so there is always one.
        let [first, ..] = &self.topics;
        self.topics.get(usize::from(topic.number())).unwrap_or(first)
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let of_topic = |topic| {
            let counted = self.topic(topic);
            TopicSnapshot {
                topic,
                called: counted.called.get(),
                sent: counted.sent.get(),
                dropped: counted.dropped.get(),
                received: counted.received.get(),
            }
        };
        Snapshot {
            topics: Topic::ALL.map(of_topic),
            unreachable: self.unreachable.get(),
            timeouts: self.timeouts.get(),
            refused: self.refused.get(),
            expired: self.expired.get(),
            busy: self.busy.get(),
            dialled: self.dialled.get(),
            accepted: self.accepted.get(),
            replaced: self.replaced.get(),
            unknown_keys: self.unknown_keys.get(),
            failed_handshakes: self.failed_handshakes.get(),
            slow_handshakes: self.slow_handshakes.get(),
            turned_away: self.turned_away.get(),
            broken: self.broken.get(),
        }
    }
}

/// Counts of one topic, since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicSnapshot {
    /// Which.
    pub topic: Topic,
    /// Calls made, to one member each.
    pub called: u64,
    /// Messages queued for sending, to one member each.
    pub sent: u64,
    /// Messages that were lost here: receiver away, queue full, too large.
    pub dropped: u64,
    /// Calls and messages given to the handler.
    pub received: u64,
}

/// All counts since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// By topic.
    pub topics: [TopicSnapshot; Topic::ALL.len()],
    /// Calls that failed because the member was away or its queue full.
    pub unreachable: u64,
    /// Calls without an answer in time.
    pub timeouts: u64,
    /// Calls that were refused by the other side.
    pub refused: u64,
    /// Requests whose time was over before they were sent or answered.
    pub expired: u64,
    /// Calls of others that were refused because too many were under way.
    pub busy: u64,
    /// Connections made.
    pub dialled: u64,
    /// Connections accepted, after the handshake.
    pub accepted: u64,
    /// Accepted connections that replaced an older one of the same member.
    pub replaced: u64,
    /// Handshakes with a key that is not a member's.
    pub unknown_keys: u64,
    /// Handshakes that failed: other ledger, altered, or no handshake at all.
    pub failed_handshakes: u64,
    /// Handshakes that took too long.
    pub slow_handshakes: u64,
    /// Connections closed at once because too many handshakes were under way.
    pub turned_away: u64,
    /// Connections that ended by a wrong seal, frame or item.
    pub broken: u64,
}
