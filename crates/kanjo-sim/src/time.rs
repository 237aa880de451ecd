//! Simulated time.

use openraft::AsyncRuntime;
use openraft_rt_sim::{SimInstant, SimRuntime};
use std::time::Duration;

/// The runtime of a run.
pub type Rt = SimRuntime;

/// Ledger time at the start of a run.
pub const START_MS: u64 = 1_700_000_000_000;

/// Time since the run began.
#[must_use]
pub fn since_start() -> Duration {
    SimInstant::try_now().map_or(Duration::ZERO, SimInstant::elapsed_since_start)
}

/// For people: milliseconds and three digits.
#[must_use]
pub fn millis_since_start() -> Millis {
    Millis(since_start())
}

/// Milliseconds with three digits behind the point.
pub struct Millis(Duration);

impl std::fmt::Display for Millis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = format!("{}.{:03}", self.0.as_millis(), self.0.subsec_micros() % 1_000);
        f.pad(&text)
    }
}

/// Clock of a node that is `skew_ms` off.
#[must_use]
pub fn clock_ms(skew_ms: i64) -> u64 {
    let passed = u64::try_from(since_start().as_millis()).unwrap_or(u64::MAX);
    START_MS.saturating_add(passed).saturating_add_signed(skew_ms)
}

/// Waits.
pub async fn sleep(time: Duration) {
    Rt::sleep(time).await;
}

/// Waits for a future, at most so long.
pub async fn within<F: Future + Send>(time: Duration, future: F) -> Option<F::Output> {
    Rt::timeout(time, future).await.ok()
}

/// Starts a task.
pub fn spawn<F>(future: F)
where
    F: Future<Output = ()> + Send + 'static,
{
    drop(Rt::spawn(future));
}

/// Milliseconds.
#[must_use]
pub const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
