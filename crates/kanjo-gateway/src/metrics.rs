//! What a gateway counts.

use crate::server::Gateway;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters beside those of submissions.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// HTTP requests.
    pub requests: AtomicU64,
    /// Questions that went to another node.
    pub failovers: AtomicU64,
    /// Submissions refused because there was no room for their body.
    pub overloaded: AtomicU64,
    /// Connections open.
    pub connections: AtomicU64,
}

/// The text that Prometheus scrapes.
pub(crate) fn render(gateway: &Gateway) -> String {
    let mut registry = Registry::with_prefix("kanjo_gateway");
    let load = |value: &AtomicU64| value.load(Ordering::Relaxed);
    let (own, forward) = (&gateway.counts, gateway.forwarder.counts());
    for (name, help, value) in [
        ("requests", "HTTP requests", load(&own.requests)),
        ("submissions", "Submit requests", load(&forward.submissions)),
        ("retries", "Submit requests sent to a node again", load(&forward.retries)),
        ("look_ups", "Receipts asked for after a repetition", load(&forward.look_ups)),
        ("outcome_unknown", "Submit requests without an outcome in time", load(&forward.unknown)),
        ("overloaded", "Submit requests without room for them", load(&own.overloaded)),
        ("failovers", "Questions that went to another node", load(&own.failovers)),
        ("leader_changes", "How often another node led", load(&gateway.nodes.leader_changes)),
    ] {
        let counter = Counter::<u64>::default();
        counter.inc_by(value);
        registry.register(name, help, counter);
    }
    for (name, help, value) in [
        ("in_flight", "Submit requests under way", load(&forward.in_flight)),
        ("connections", "Connections open", load(&own.connections)),
        ("nodes_healthy", "Nodes that answer questions", gateway.nodes.healthy() as u64),
        ("has_leader", "1 while the leader is known", u64::from(gateway.leader().is_some())),
    ] {
        let gauge: Gauge = Gauge::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        registry.register(name, help, gauge);
    }
    let mut text = String::new();
    // Encoding into a string can't fail.
    let _ = encode(&mut text, &registry);
    text
}
