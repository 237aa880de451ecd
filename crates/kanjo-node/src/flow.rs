//! Room for blocks that were made here and are not final yet.

use parking_lot::{Condvar, Mutex};

/// Most blocks on their way: more would only be smaller ones.
const BLOCKS_MAX: usize = 8;
/// Most bytes on their way.
const BYTES_MAX: usize = 64 << 20;

/// Counts blocks on their way; makers wait for room.
#[derive(Default)]
pub(crate) struct Flow {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    blocks: usize,
    bytes: usize,
    is_closed: bool,
}

impl Flow {
    /// Waits for room; false when the node stops.
    pub(crate) fn enter(&self, bytes: usize) -> bool {
        let mut state = self.state.lock();
        while !state.is_closed
            && (state.blocks >= BLOCKS_MAX
                || (state.blocks > 0 && state.bytes.saturating_add(bytes) > BYTES_MAX))
        {
            self.changed.wait(&mut state);
        }
        state.blocks += 1;
        state.bytes = state.bytes.saturating_add(bytes);
        !state.is_closed
    }

    /// A block is final.
    pub(crate) fn leave(&self, bytes: usize) {
        let mut state = self.state.lock();
        state.blocks = state.blocks.saturating_sub(1);
        state.bytes = state.bytes.saturating_sub(bytes);
        self.changed.notify_all();
    }

    /// Lets everybody go.
    pub(crate) fn close(&self) {
        self.state.lock().is_closed = true;
        self.changed.notify_all();
    }
}
