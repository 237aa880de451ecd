//! What one client, one statement and all of them together may take.

use datafusion::common::Result;
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{
    MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation,
};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Limits of the SQL service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Most connections at the same time; more are told so and closed.
    pub connections_max: usize,
    /// Longest statement, in bytes.
    pub statement_bytes_max: usize,
    /// Most operators that can nest in each other: those between two commas of a list, and around
    /// it.
    pub operators_max: usize,
    /// Deepest nesting of parentheses, sub-queries and expressions in the statement's text.
    pub nesting_max: usize,
    /// Memory that one statement may take for sorting, joining and grouping.
    pub statement_memory_bytes_max: usize,
    /// Memory that all statements together may take.
    pub memory_bytes_max: usize,
    /// A statement that takes longer ends with an error.
    pub statement_timeout: Duration,
    /// Prepared statements and portals that a connection may hold.
    pub prepared_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 1_000,
            statement_bytes_max: 1 << 20,
            operators_max: 400,
            nesting_max: 48,
            statement_memory_bytes_max: 256 << 20,
            memory_bytes_max: 1 << 30,
            statement_timeout: Duration::from_mins(1),
            prepared_max: 1_000,
        }
    }
}

/// A statement's share of the memory for all.
#[derive(Debug)]
pub(crate) struct StatementPool {
    all: Arc<dyn MemoryPool>,
    used: AtomicUsize,
    bytes_max: usize,
}

impl StatementPool {
    pub(crate) fn new(all: Arc<dyn MemoryPool>, bytes_max: usize) -> Self {
        Self { all, used: AtomicUsize::new(0), bytes_max }
    }
}

impl fmt::Display for StatementPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "statement ({} bytes at most)", self.bytes_max)
    }
}

impl MemoryPool for StatementPool {
    fn name(&self) -> &'static str {
        "statement"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.all.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.all.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.used.fetch_add(additional, Ordering::Relaxed);
        self.all.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.used.fetch_sub(shrink, Ordering::Relaxed);
        self.all.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let fits = |used: usize| used.checked_add(additional).filter(|sum| *sum <= self.bytes_max);
        let grown = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        if grown.is_err() {
            let text = format!("a statement may take {} bytes", self.bytes_max);
            return Err(DataFusionError::ResourcesExhausted(text));
        }
        self.all.try_grow(reservation, additional).inspect_err(|_| {
            self.used.fetch_sub(additional, Ordering::Relaxed);
        })
    }

    fn reserved(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.bytes_max)
    }
}
