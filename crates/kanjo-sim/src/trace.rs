//! What happened, in order: a hash over all of it, and the last lines for people.

use crate::time;
use kanjo_types::Hash;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::collections::VecDeque;

#[derive(Default)]
struct State {
    hasher: Sha256,
    lines: VecDeque<String>,
    count: u64,
}

/// The log of a run. Two runs of the same seed have the same hash.
pub struct Trace {
    state: Mutex<State>,
    /// Lines kept to be shown.
    lines_max: usize,
    /// Every line is shown at once.
    live: bool,
}

impl Trace {
    /// Keeps the last lines; shows every line at once, too, if it is live.
    #[must_use]
    pub fn new(lines_max: usize, live: bool) -> Self {
        Self { state: Mutex::default(), lines_max, live }
    }

    /// Writes an event down.
    pub fn note(&self, text: impl AsRef<str>) {
        let line = format!("{:>12} {}", time::millis_since_start(), text.as_ref());
        if self.live {
            eprintln!("{line}");
        }
        let mut state = self.state.lock();
        state.hasher.update(line.as_bytes());
        state.hasher.update(b"\n");
        state.count += 1;
        if state.lines.len() >= self.lines_max {
            state.lines.pop_front();
        }
        state.lines.push_back(line);
    }

    /// Hash over all events so far.
    #[must_use]
    pub fn hash(&self) -> Hash {
        Hash(self.state.lock().hasher.clone().finalize().into())
    }

    /// How many events there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.state.lock().count
    }

    /// The last events.
    #[must_use]
    pub fn tail(&self) -> Vec<String> {
        self.state.lock().lines.iter().cloned().collect()
    }
}
