//! A small value on disk that is replaced whole.

use std::io;

/// A small value on disk that is replaced whole, and survives a crash as it was before or after.
pub trait Slot: Send + Sync {
    /// The value; `None` before the first write.
    fn read(&self) -> Option<Vec<u8>>;

    /// Replaces the value; it is on disk when this returns.
    ///
    /// # Errors
    /// The disk's; then the value is the old one or the new one.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
}
