//! A session over any blocking stream: a Unix socket between a node and its sentinel, say.

use crate::frame::MESSAGE_MAX;
use crate::keys::PublicLinkKey;
use crate::session::{Handshake, Identity, LinkError, Outgoing, Progress, Session};
use bytes::Bytes;
use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

const READ_BYTES: usize = 64 << 10;
const WRITE_BYTES: usize = 256 << 10;

/// A session and its stream. Timeouts within a message are the stream's own: set them there.
#[derive(Debug)]
pub struct BlockingChannel<S> {
    stream: S,
    session: Session,
    peer: PublicLinkKey,
    greeting: Vec<u8>,
    read: Box<[u8]>,
    out: Vec<u8>,
    broken: bool,
}

impl<S: Read + Write> BlockingChannel<S> {
    /// Dials a process that must hold `expected`. `limit` bounds the whole handshake if the stream
    /// has a read timeout; a silent other side is noticed by that timeout.
    ///
    /// The other side may still refuse our key: then the first [`Self::receive`] fails.
    ///
    /// # Errors
    /// Those of [`Handshake::feed`]; [`LinkError::Slow`], [`LinkError::Closed`], [`LinkError::Io`].
    pub fn dial(
        mut stream: S,
        identity: &Identity,
        expected: PublicLinkKey,
        greeting: &[u8],
        limit: Duration,
    ) -> Result<Self, LinkError> {
        let (handshake, first) = Handshake::dial(identity, expected, greeting)?;
        stream.write_all(&first)?;
        stream.flush()?;
        Self::shake(stream, handshake, limit)
    }

    /// Answers a process that must hold one of `known`. `limit` as in [`Self::dial`].
    ///
    /// # Errors
    /// As [`Self::dial`].
    pub fn answer(
        stream: S,
        identity: &Identity,
        known: Vec<PublicLinkKey>,
        limit: Duration,
    ) -> Result<Self, LinkError> {
        Self::shake(stream, Handshake::answer(identity, known)?, limit)
    }

    fn shake(mut stream: S, mut handshake: Handshake, limit: Duration) -> Result<Self, LinkError> {
        let begun = Instant::now();
        let mut read = vec![0u8; READ_BYTES].into_boxed_slice();
        loop {
            let count = read_some(&mut stream, &mut read)?;
            if begun.elapsed() > limit {
                return Err(LinkError::Slow);
            }
            match handshake.feed(read.get(..count).unwrap_or_default())? {
                Progress::Wait => {}
                Progress::Send(bytes) => {
                    stream.write_all(&bytes)?;
                    stream.flush()?;
                }
                Progress::Done(end) => {
                    stream.write_all(&end.send)?;
                    stream.flush()?;
                    let (peer, greeting, session) = (end.peer, end.greeting, end.session);
                    let out = Vec::new();
                    return Ok(Self { stream, session, peer, greeting, read, out, broken: false });
                }
            }
        }
    }

    /// The other side's proven key.
    #[must_use]
    pub fn peer(&self) -> PublicLinkKey {
        self.peer
    }

    /// What the dialling side said in its handshake.
    #[must_use]
    pub fn greeting(&self) -> &[u8] {
        &self.greeting
    }

    /// The stream, to set its timeouts. Reading or writing it breaks the session.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// Lowers the longest message that is accepted. To be called before any message came.
    pub fn set_message_max(&mut self, max: usize) {
        self.session.opener.set_message_max(max.min(MESSAGE_MAX));
    }

    /// Sends a message.
    ///
    /// # Errors
    /// [`LinkError::TooLarge`]: nothing was sent. All others: the channel is of no more use, and
    /// further calls fail with [`LinkError::Closed`].
    pub fn send(&mut self, message: Bytes) -> Result<(), LinkError> {
        if self.broken {
            return Err(LinkError::Closed);
        }
        let mut message = Outgoing::new(&[], message)?;
        self.broken = true;
        loop {
            self.out.clear();
            let done = self.session.sealer.seal(&mut message, &mut self.out, WRITE_BYTES)?;
            self.stream.write_all(&self.out)?;
            if done {
                break;
            }
        }
        self.stream.flush()?;
        self.broken = false;
        Ok(())
    }

    /// Waits for the next message, as long as the stream's read timeout allows between two pieces.
    ///
    /// # Errors
    /// [`LinkError::Io`] of kind `WouldBlock` or `TimedOut`: nothing is lost, call again. All
    /// others: the channel is of no more use.
    pub fn receive(&mut self) -> Result<Bytes, LinkError> {
        loop {
            if let Some(message) = self.session.opener.take()? {
                return Ok(message);
            }
            let count = read_some(&mut self.stream, &mut self.read)?;
            let piece = self.read.get(..count).unwrap_or_default();
            self.session.opener.buffer().extend_from_slice(piece);
        }
    }
}

fn read_some(stream: &mut impl Read, place: &mut [u8]) -> Result<usize, LinkError> {
    loop {
        match stream.read(place) {
            Ok(0) => return Err(LinkError::Closed),
            Ok(count) => return Ok(count),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}
