//! Cutting a stream of bytes into frames, and records back into messages. No I/O, no keys.
//!
//! ```text
//! stream   ┌ length u16 LE ┬ record ───────────────┐┌ length ┬ record …
//!          └───────────────┴ 16 to 65,535 bytes ───┘└────────┴
//! record   a handshake message, or ChaCha20-Poly1305 of up to 65,519 bytes of plain text
//! message  ┌ length u32 LE ┬ bytes ─────────────────────────────────────┐  cut into records:
//!          └───────────────┴ at most 64 MiB, or less by configuration ──┘  all but the last full
//! ```
//!
//! Invariants:
//! - A length is checked before anything is stored or reserved for it, and what is reserved ahead
//!   of the bytes is at most [`RESERVED_MAX`].
//! - A record belongs to one message, so every accepted stream has exactly one form.

use crate::session::LinkError;
use bytes::{Buf, Bytes, BytesMut};

/// Most bytes of a record: the bound of the Noise protocol.
pub const RECORD_MAX: usize = 65_535;
/// Bytes of the seal of a record.
pub const SEAL_LEN: usize = 16;
/// Most bytes of plain text in a record.
pub const PLAIN_MAX: usize = RECORD_MAX - SEAL_LEN;
/// Most bytes of a message.
pub const MESSAGE_MAX: usize = 64 << 20;
/// Most bytes of a frame during the handshake: the third message with the longest greeting.
pub const HANDSHAKE_MAX: usize = 32 + SEAL_LEN + GREETING_MAX + SEAL_LEN;
/// Most bytes of a greeting.
pub const GREETING_MAX: usize = 255;
/// Bytes in front of a record.
pub const FRAME_HEAD: usize = 2;
/// Bytes in front of a message.
pub const MESSAGE_HEAD: usize = 4;
/// Most bytes reserved for a message before they have come.
pub const RESERVED_MAX: usize = 1 << 20;

const _: () = assert!(RECORD_MAX == u16::MAX as usize && HANDSHAKE_MAX < RECORD_MAX);
const _: () = assert!(MESSAGE_MAX < u32::MAX as usize);

/// Cuts a stream into frames.
#[derive(Debug)]
pub struct FrameDecoder {
    buffer: BytesMut,
    max: usize,
}

impl FrameDecoder {
    /// A decoder that refuses frames longer than `max`.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { buffer: BytesMut::new(), max: max.min(RECORD_MAX) }
    }

    /// Raises or lowers the longest frame.
    pub fn set_max(&mut self, max: usize) {
        self.max = max.min(RECORD_MAX);
    }

    /// Where input is put. Add a bounded piece, then take frames until there are none.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next whole frame's record.
    ///
    /// # Errors
    /// [`LinkError::Frame`] when the length is out of bounds; the stream can't be read on.
    pub fn take(&mut self) -> Result<Option<BytesMut>, LinkError> {
        let Some(head) = self.buffer.first_chunk::<FRAME_HEAD>() else { return Ok(None) };
        let length = usize::from(u16::from_le_bytes(*head));
        if length < SEAL_LEN || length > self.max {
            return Err(LinkError::Frame(length));
        }
        if self.buffer.len() < FRAME_HEAD + length {
            return Ok(None);
        }
        self.buffer.advance(FRAME_HEAD);
        Ok(Some(self.buffer.split_to(length)))
    }
}

/// Writes the length in front of a record.
///
/// # Errors
/// [`LinkError::Frame`] when it is out of bounds.
pub fn frame_head(record: usize) -> Result<[u8; FRAME_HEAD], LinkError> {
    match u16::try_from(record) {
        Ok(length) if record >= SEAL_LEN => Ok(length.to_le_bytes()),
        _ => Err(LinkError::Frame(record)),
    }
}

/// Joins the plain texts of records to messages.
#[derive(Debug)]
pub struct Assembler {
    /// Head and body so far.
    joined: Vec<u8>,
    /// Head and body at the end, once the head has come.
    whole: Option<usize>,
    max: usize,
}

impl Assembler {
    /// An assembler that refuses messages longer than `max`.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { joined: Vec::new(), whole: None, max: max.min(MESSAGE_MAX) }
    }

    /// Adds a record of `length` bytes of plain text, which `fill` writes.
    ///
    /// # Errors
    /// What `fill` says; [`LinkError::TooLarge`]; [`LinkError::Record`] when the record is not
    /// cut as a sender has to. The stream can't be read on.
    pub fn add(
        &mut self,
        length: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), LinkError>,
    ) -> Result<Option<Bytes>, LinkError> {
        if length > PLAIN_MAX {
            return Err(LinkError::Record);
        }
        let start = self.joined.len();
        self.joined.resize(start + length, 0);
        fill(self.joined.get_mut(start..).unwrap_or_default())?;
        let whole = match self.whole {
            Some(whole) => whole,
            None => self.head()?,
        };
        let have = self.joined.len();
        if have > whole || (have < whole && length != PLAIN_MAX) {
            return Err(LinkError::Record);
        }
        if have < whole {
            return Ok(None);
        }
        self.whole = None;
        let mut message = Bytes::from(std::mem::take(&mut self.joined));
        message.advance(MESSAGE_HEAD);
        Ok(Some(message))
    }

    fn head(&mut self) -> Result<usize, LinkError> {
        let head = self.joined.first_chunk::<MESSAGE_HEAD>().ok_or(LinkError::Record)?;
        let length = usize::try_from(u32::from_le_bytes(*head)).unwrap_or(usize::MAX);
        if length > self.max {
            return Err(LinkError::TooLarge { length, max: self.max });
        }
        let whole = MESSAGE_HEAD + length;
        let missing = whole.saturating_sub(self.joined.len());
        self.joined.reserve(missing.min(RESERVED_MAX));
        self.whole = Some(whole);
        Ok(whole)
    }
}
