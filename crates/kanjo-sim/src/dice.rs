//! Randomness of a run: everything follows from the seed.

use kanjo_store::faults::SeededRng;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// A shared generator; clones draw from the same stream.
#[derive(Clone)]
pub struct Dice(Arc<Mutex<SeededRng>>);

impl Dice {
    /// A generator whose whole output follows from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(SeededRng::new(seed))))
    }

    /// Another stream, which follows from this one.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self::new(self.draw())
    }

    /// The next 64 bits.
    #[must_use]
    pub fn draw(&self) -> u64 {
        self.0.lock().next_u64()
    }

    /// A number below `bound`, or 0 if that is 0.
    #[must_use]
    pub fn below(&self, bound: u64) -> u64 {
        self.0.lock().below(bound)
    }

    /// A number from `least` to `most`, both included.
    #[must_use]
    pub fn between(&self, least: u64, most: u64) -> u64 {
        least.saturating_add(self.below(most.saturating_sub(least).saturating_add(1)))
    }

    /// True about `ppm` times in a million.
    #[must_use]
    pub fn hits(&self, ppm: u32) -> bool {
        self.0.lock().hits(ppm)
    }

    /// A time from `least` to `most` microseconds.
    #[must_use]
    pub fn micros(&self, least: u64, most: u64) -> Duration {
        Duration::from_micros(self.between(least, most))
    }

    /// One of these; nothing when there are none.
    #[must_use]
    pub fn pick<T: Copy>(&self, from: &[T]) -> Option<T> {
        let place = usize::try_from(self.below(from.len() as u64)).ok()?;
        from.get(place).copied()
    }
}
