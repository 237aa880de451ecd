//! A session between two processes that know each other's keys: Noise XX, sans I/O.
//!
//! ```text
//!  dials (initiator)                                        answers (responder)
//!    │── e ──────────────────────────────────────────────────────▶│
//!    │◀───────────────────────────────────────────── e, ee, s, es ─│
//!    │ is s the key I expect? otherwise stop, and stay unknown      │
//!    │── s, se, greeting ────────────────────────────────────────▶│
//!    │                        is s one of the keys I know? otherwise stop
//!    │◀═══════════════════ sealed messages both ways ═════════════▶│
//! ```
//!
//! Protocol `Noise_XX_25519_ChaChaPoly_BLAKE2s`; the prologue names purpose and ledger, so
//! processes of different ledgers, or of different purposes, can't even begin to talk.
//!
//! Invariants:
//! - A [`Session`] exists only between two processes that proved to hold the keys that the other
//!   one expected.
//! - Each side sends nothing that identifies it before that (initiator), or before the first
//!   message made sense (responder).
//! - Records are numbered by a counter of each direction: none is altered, repeated, dropped or
//!   reordered without the session ending.
//! - After any error the session is dead; whoever holds it drops the connection.

use crate::frame::{
    Assembler, FRAME_HEAD, FrameDecoder, GREETING_MAX, HANDSHAKE_MAX, MESSAGE_MAX, PLAIN_MAX,
    RECORD_MAX, SEAL_LEN, frame_head,
};
use crate::keys::{LinkKey, PublicLinkKey};
use bytes::{Bytes, BytesMut};
use snow::{Builder, HandshakeState, StatelessTransportState};
use std::sync::Arc;

/// The Noise protocol in use.
pub const PROTOCOL: &str = "Noise_XX_25519_ChaChaPoly_BLAKE2s";
/// First in every prologue; its last byte is the version.
pub const PROLOGUE_START: &[u8] = b"kanjo-link\x01";
/// Purpose of links between nodes.
pub const PURPOSE_MESH: &str = "mesh";
/// Purpose of the link between a node and its sentinel.
pub const PURPOSE_SENTINEL: &str = "sentinel";

/// Why a link can't be set up or used on.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// A frame's length is out of bounds.
    #[error("a frame of {0} bytes is out of bounds")]
    Frame(usize),
    /// A record is not cut as a sender has to.
    #[error("a record is not cut as it has to be")]
    Record,
    /// A message is longer than allowed.
    #[error("a message of {length} bytes is longer than {max}")]
    TooLarge {
        /// Its length.
        length: usize,
        /// The bound.
        max: usize,
    },
    /// A handshake message makes no sense: other ledger, other purpose, or altered on its way.
    #[error("the handshake fails: other ledger, other purpose, or altered on its way")]
    Handshake,
    /// The other side proved a key that is not expected.
    #[error("the other side's key {} is not expected", hex::encode(.0))]
    UnknownKey(PublicLinkKey),
    /// A record's seal is wrong.
    #[error("a record was altered, repeated or left out on its way")]
    Seal,
    /// No randomness from the operating system.
    #[error("the operating system gives no randomness")]
    Random,
    /// The cryptographic library lacks a part.
    #[error("the cryptographic library lacks a part")]
    Setup,
    /// A key file is refused.
    #[error("key file {path}: {why}")]
    KeyFile {
        /// Which.
        path: String,
        /// Why.
        why: String,
    },
    /// The handshake took too long.
    #[error("the handshake took too long")]
    Slow,
    /// The other side closed.
    #[error("the other side closed the connection")]
    Closed,
    /// Reading or writing failed.
    #[error("input or output: {0}")]
    Io(#[from] std::io::Error),
}

impl LinkError {
    /// Did the other side, or somebody in between, break the rules of a session?
    #[must_use]
    pub fn is_breach(&self) -> bool {
        matches!(self, Self::Seal | Self::Frame(_) | Self::Record | Self::TooLarge { .. })
    }
}

/// Who we are, and in what ledger.
#[derive(Clone, Debug)]
pub struct Identity {
    /// What the link is for; at most 255 bytes. Both sides must say the same.
    pub purpose: &'static str,
    /// The chain id of the ledger. Both sides must say the same.
    pub chain: [u8; 32],
    /// Our key.
    pub key: LinkKey,
}

impl Identity {
    /// What both sides hash before anything else: `"kanjo-link" ‖ version u8 ‖ length of purpose
    /// u8 ‖ purpose ‖ chain id`.
    #[must_use]
    pub fn prologue(&self) -> Vec<u8> {
        let length = u8::try_from(self.purpose.len()).unwrap_or(u8::MAX);
        [PROLOGUE_START, &[length], self.purpose.as_bytes(), &self.chain].concat()
    }

    fn state(&self, initiator: bool) -> Result<HandshakeState, LinkError> {
        let parameters = PROTOCOL.parse().map_err(|_| LinkError::Setup)?;
        let prologue = self.prologue();
        let builder = Builder::new(parameters)
            .local_private_key(self.key.private())
            .and_then(|builder| builder.prologue(&prologue))
            .map_err(|_| LinkError::Setup)?;
        let built = if initiator { builder.build_initiator() } else { builder.build_responder() };
        built.map_err(|_| LinkError::Setup)
    }
}

/// What to do after input was fed to a handshake.
#[derive(Debug)]
pub enum Progress {
    /// Read more.
    Wait,
    /// Send these bytes, then read more.
    Send(Vec<u8>),
    /// Done. Send the bytes in it, if any.
    Done(Box<Established>),
}

/// The end of a handshake.
#[derive(Debug)]
pub struct Established {
    /// To send before anything else; empty for the responder.
    pub send: Vec<u8>,
    /// The other side's proven key.
    pub peer: PublicLinkKey,
    /// What the initiator said in its last message; authenticated. Empty for the initiator.
    pub greeting: Vec<u8>,
    /// For sending and receiving.
    pub session: Session,
}

enum Side {
    Initiator { expected: PublicLinkKey, greeting: Vec<u8> },
    Responder { known: Vec<PublicLinkKey>, answered: bool },
}

/// A handshake under way.
pub struct Handshake {
    noise: Option<HandshakeState>,
    frames: FrameDecoder,
    side: Side,
}

impl std::fmt::Debug for Handshake {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Handshake")
    }
}

impl Handshake {
    /// Dials a process that must hold `expected`. Gives the first bytes to send.
    ///
    /// # Errors
    /// [`LinkError::TooLarge`] for a greeting longer than [`GREETING_MAX`]; [`LinkError::Setup`].
    pub fn dial(
        identity: &Identity,
        expected: PublicLinkKey,
        greeting: &[u8],
    ) -> Result<(Self, Vec<u8>), LinkError> {
        Self::dial_from(identity.state(true)?, expected, greeting)
    }

    fn dial_from(
        mut noise: HandshakeState,
        expected: PublicLinkKey,
        greeting: &[u8],
    ) -> Result<(Self, Vec<u8>), LinkError> {
        if greeting.len() > GREETING_MAX {
            return Err(LinkError::TooLarge { length: greeting.len(), max: GREETING_MAX });
        }
        let first = write_handshake(&mut noise, &[])?;
        let side = Side::Initiator { expected, greeting: greeting.to_vec() };
        Ok((Self { noise: Some(noise), frames: FrameDecoder::new(HANDSHAKE_MAX), side }, first))
    }

    /// Answers a process that must hold one of `known`.
    ///
    /// # Errors
    /// [`LinkError::Setup`].
    pub fn answer(identity: &Identity, known: Vec<PublicLinkKey>) -> Result<Self, LinkError> {
        Ok(Self {
            noise: Some(identity.state(false)?),
            frames: FrameDecoder::new(HANDSHAKE_MAX),
            side: Side::Responder { known, answered: false },
        })
    }

    /// Takes what was read: any piece of the stream, best not more than some kilobytes.
    ///
    /// # Errors
    /// [`LinkError::Frame`], [`LinkError::Handshake`], [`LinkError::UnknownKey`]: drop the
    /// connection and say nothing.
    pub fn feed(&mut self, input: &[u8]) -> Result<Progress, LinkError> {
        self.frames.buffer().extend_from_slice(input);
        let Some(frame) = self.frames.take()? else { return Ok(Progress::Wait) };
        let mut noise = self.noise.take().ok_or(LinkError::Handshake)?;
        let mut payload = vec![0u8; HANDSHAKE_MAX + SEAL_LEN];
        let length = noise.read_message(&frame, &mut payload).map_err(|_| LinkError::Handshake)?;
        payload.truncate(length);
        match &mut self.side {
            Side::Initiator { expected, greeting } => {
                if length != 0 {
                    return Err(LinkError::Handshake);
                }
                let peer = proven(&noise, |key| key == expected)?;
                let send = write_handshake(&mut noise, greeting)?;
                self.done(noise, peer, send, Vec::new())
            }
            Side::Responder { answered, .. } if !*answered => {
                if length != 0 {
                    return Err(LinkError::Handshake);
                }
                *answered = true;
                let second = write_handshake(&mut noise, &[])?;
                self.noise = Some(noise);
                Ok(Progress::Send(second))
            }
            Side::Responder { known, .. } => {
                let peer = proven(&noise, |key| known.contains(key))?;
                self.done(noise, peer, Vec::new(), payload)
            }
        }
    }

    fn done(
        &mut self,
        noise: HandshakeState,
        peer: PublicLinkKey,
        send: Vec<u8>,
        greeting: Vec<u8>,
    ) -> Result<Progress, LinkError> {
        let state = noise.into_stateless_transport_mode().map_err(|_| LinkError::Handshake)?;
        let state = Arc::new(state);
        let mut frames = std::mem::replace(&mut self.frames, FrameDecoder::new(HANDSHAKE_MAX));
        frames.set_max(RECORD_MAX);
        let session = Session {
            sealer: Sealer { state: Arc::clone(&state), counter: 0, plain: Vec::new() },
            opener: Opener {
                state,
                counter: 0,
                frames,
                messages: Assembler::new(MESSAGE_MAX),
                dead: false,
            },
        };
        Ok(Progress::Done(Box::new(Established { send, peer, greeting, session })))
    }
}

fn write_handshake(noise: &mut HandshakeState, payload: &[u8]) -> Result<Vec<u8>, LinkError> {
    let mut frame = vec![0u8; FRAME_HEAD + HANDSHAKE_MAX + SEAL_LEN];
    let (head, record) = frame.split_at_mut(FRAME_HEAD);
    let length = noise.write_message(payload, record).map_err(|error| match error {
        snow::Error::Rng => LinkError::Random,
        _ => LinkError::Handshake,
    })?;
    head.copy_from_slice(&frame_head(length)?);
    frame.truncate(FRAME_HEAD + length);
    Ok(frame)
}

fn proven(
    noise: &HandshakeState,
    expected: impl Fn(&PublicLinkKey) -> bool,
) -> Result<PublicLinkKey, LinkError> {
    let key = noise.get_remote_static().and_then(|key| PublicLinkKey::try_from(key).ok());
    let key = key.ok_or(LinkError::Handshake)?;
    if expected(&key) { Ok(key) } else { Err(LinkError::UnknownKey(key)) }
}

/// Both directions of an established session.
#[derive(Debug)]
pub struct Session {
    /// Outgoing.
    pub sealer: Sealer,
    /// Incoming.
    pub opener: Opener,
}

/// A message on its way out: a head of its own, then a body that is not copied.
#[derive(Debug)]
pub struct Outgoing {
    head: Vec<u8>,
    body: Bytes,
    at: usize,
    begun: bool,
}

impl Outgoing {
    /// The message `head ‖ body`. The head is at most [`GREETING_MAX`] bytes.
    ///
    /// # Errors
    /// [`LinkError::TooLarge`].
    pub fn new(head: &[u8], body: Bytes) -> Result<Self, LinkError> {
        if head.len() > GREETING_MAX {
            return Err(LinkError::TooLarge { length: head.len(), max: GREETING_MAX });
        }
        let length = head.len() + body.len();
        let too_large = LinkError::TooLarge { length, max: MESSAGE_MAX };
        match u32::try_from(length) {
            Ok(number) if length <= MESSAGE_MAX => {
                let head = [&number.to_le_bytes()[..], head].concat();
                Ok(Self { head, body, at: 0, begun: false })
            }
            _ => Err(too_large),
        }
    }

    /// The plain text of the next record: its head, if it is the first, and a piece of the body.
    fn next(&mut self) -> (&[u8], &[u8]) {
        let head: &[u8] = if self.begun { &[] } else { &self.head };
        self.begun = true;
        let rest = self.body.get(self.at..).unwrap_or_default();
        let piece = rest.get(..PLAIN_MAX - head.len()).unwrap_or(rest);
        self.at += piece.len();
        (head, piece)
    }

    fn done(&self) -> bool {
        self.begun && self.at == self.body.len()
    }
}

/// Seals outgoing messages.
pub struct Sealer {
    state: Arc<StatelessTransportState>,
    counter: u64,
    plain: Vec<u8>,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Sealer({})", self.counter)
    }
}

impl Sealer {
    /// Appends frames of the message to `out` until the message is done (true) or `out` holds
    /// `enough` bytes (false: call again after `out` was sent).
    ///
    /// # Errors
    /// [`LinkError::Seal`] after 2⁶⁴ − 1 records.
    pub fn seal(
        &mut self,
        message: &mut Outgoing,
        out: &mut Vec<u8>,
        enough: usize,
    ) -> Result<bool, LinkError> {
        while !message.done() {
            if out.len() >= enough {
                return Ok(false);
            }
            let (head, piece) = message.next();
            if head.is_empty() {
                write_record(&self.state, &mut self.counter, piece, out)?;
            } else {
                self.plain.clear();
                self.plain.extend_from_slice(head);
                self.plain.extend_from_slice(piece);
                write_record(&self.state, &mut self.counter, &self.plain, out)?;
            }
        }
        Ok(true)
    }

    /// Appends all frames of a message to `out`.
    ///
    /// # Errors
    /// [`LinkError::TooLarge`], [`LinkError::Seal`].
    pub fn seal_all(&mut self, message: &[u8], out: &mut Vec<u8>) -> Result<(), LinkError> {
        let mut message = Outgoing::new(&[], Bytes::copy_from_slice(message))?;
        self.seal(&mut message, out, usize::MAX).map(|_| ())
    }
}

fn write_record(
    state: &StatelessTransportState,
    counter: &mut u64,
    plain: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), LinkError> {
    let record = plain.len() + SEAL_LEN;
    let start = out.len();
    out.extend_from_slice(&frame_head(record)?);
    out.resize(start + FRAME_HEAD + record, 0);
    let place = out.get_mut(start + FRAME_HEAD..).unwrap_or_default();
    state.write_message(*counter, plain, place).map_err(|_| LinkError::Seal)?;
    *counter = counter.checked_add(1).ok_or(LinkError::Seal)?;
    Ok(())
}

/// Opens incoming messages.
pub struct Opener {
    state: Arc<StatelessTransportState>,
    counter: u64,
    frames: FrameDecoder,
    messages: Assembler,
    dead: bool,
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Opener({})", self.counter)
    }
}

impl Opener {
    /// Lowers the longest message that is accepted. To be called before any message came.
    pub fn set_message_max(&mut self, max: usize) {
        self.messages = Assembler::new(max);
    }

    /// Where input is put. Add a bounded piece, then take messages until there are none.
    pub fn buffer(&mut self) -> &mut BytesMut {
        self.frames.buffer()
    }

    /// The next whole message.
    ///
    /// # Errors
    /// [`LinkError::Frame`], [`LinkError::Seal`], [`LinkError::Record`], [`LinkError::TooLarge`]:
    /// drop the connection. All further calls fail.
    pub fn take(&mut self) -> Result<Option<Bytes>, LinkError> {
        if self.dead {
            return Err(LinkError::Closed);
        }
        let taken = self.try_take();
        self.dead = taken.is_err();
        taken
    }

    fn try_take(&mut self) -> Result<Option<Bytes>, LinkError> {
        while let Some(record) = self.frames.take()? {
            let length = record.len().checked_sub(SEAL_LEN).ok_or(LinkError::Record)?;
            let (state, counter) = (&self.state, self.counter);
            let message = self.messages.add(length, |place| {
                state.read_message(counter, &record, place).map(|_| ()).map_err(|_| LinkError::Seal)
            })?;
            self.counter = self.counter.checked_add(1).ok_or(LinkError::Seal)?;
            if message.is_some() {
                return Ok(message);
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
