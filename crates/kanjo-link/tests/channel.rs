//! Blocking channels over Unix sockets, as between a node and its sentinel.
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests"
)]

use bytes::Bytes;
use kanjo_link::session::PURPOSE_SENTINEL;
use kanjo_link::{BlockingChannel, Identity, LinkError, LinkKey};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);

fn identity(byte: u8) -> Identity {
    let key = LinkKey::from_private(&[byte; 32]).unwrap();
    Identity { purpose: PURPOSE_SENTINEL, chain: [7; 32], key }
}

type Channel = BlockingChannel<UnixStream>;

fn shake(known: u8) -> (Result<Channel, LinkError>, Result<Channel, LinkError>) {
    let (near, far) = UnixStream::pair().unwrap();
    let answering = thread::spawn(move || {
        BlockingChannel::answer(far, &identity(2), vec![identity(known).key.public()], SECOND)
    });
    let expected = identity(2).key.public();
    let dialled = BlockingChannel::dial(near, &identity(1), expected, b"node", SECOND);
    (dialled, answering.join().unwrap())
}

#[test]
fn requests_and_answers_of_any_length_go_both_ways() {
    let (near, far) = shake(1);
    let (mut near, mut far) = (near.unwrap(), far.unwrap());
    assert_eq!(far.peer(), identity(1).key.public());
    assert_eq!(near.peer(), identity(2).key.public());
    assert_eq!((far.greeting(), near.greeting()), (&b"node"[..], &b""[..]));
    let echo = thread::spawn(move || {
        for _ in 0..5 {
            let message = far.receive().unwrap();
            far.send(message).unwrap();
        }
        far
    });
    for length in [0, 1, 65_515, 65_516, 10 << 20] {
        let body = Bytes::from(vec![length as u8 ^ 3; length]);
        near.send(body.clone()).unwrap();
        assert!(near.receive().unwrap() == body, "{length}");
    }
    drop(echo.join().unwrap());
    assert!(matches!(near.receive(), Err(LinkError::Closed)));
}

#[test]
fn a_key_that_is_not_known_gets_no_answer() {
    let (near, far) = shake(9);
    assert!(matches!(far, Err(LinkError::UnknownKey(key)) if key == identity(1).key.public()));
    assert!(matches!(near.unwrap().receive(), Err(LinkError::Closed)));
}

#[test]
fn a_read_timeout_loses_nothing() {
    let (near, far) = shake(1);
    let (mut near, mut far) = (near.unwrap(), far.unwrap());
    near.stream().set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let waited = near.receive();
    assert!(matches!(waited, Err(LinkError::Io(error)) if error.kind() == ErrorKind::WouldBlock));
    far.send(Bytes::from_static(b"late")).unwrap();
    assert_eq!(near.receive().unwrap(), "late");
}

#[test]
fn a_dripping_handshake_ends_with_its_limit() {
    let (near, mut far) = UnixStream::pair().unwrap();
    let limit = Duration::from_millis(200);
    let begun = Instant::now();
    let answering = thread::spawn(move || {
        BlockingChannel::answer(near, &identity(2), vec![identity(1).key.public()], limit)
    });
    // A first message of 300 bytes, one by one: every byte restarts a read timeout.
    far.write_all(&300u16.to_le_bytes()).unwrap();
    while far.write_all(&[5]).is_ok() {
        thread::sleep(Duration::from_millis(10));
        assert!(begun.elapsed() < 20 * SECOND);
    }
    assert!(matches!(answering.join().unwrap(), Err(LinkError::Slow)));
}

/// Alters one byte of what is read.
struct Altering {
    stream: UnixStream,
    left: usize,
}

impl Read for Altering {
    fn read(&mut self, place: &mut [u8]) -> std::io::Result<usize> {
        let count = self.stream.read(place)?;
        if self.left < count {
            place[self.left] ^= 1;
        }
        self.left = self.left.wrapping_sub(count);
        Ok(count)
    }
}

impl Write for Altering {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

#[test]
fn an_altered_byte_ends_the_channel() {
    // 98 bytes of handshake come first, then frames of 2 + 4 + 8 + 16 bytes.
    let (near, far) = UnixStream::pair().unwrap();
    let near = Altering { stream: near, left: 98 + 30 + 10 };
    let answering = thread::spawn(move || {
        let known = vec![identity(1).key.public()];
        let mut far = BlockingChannel::answer(far, &identity(2), known, SECOND).unwrap();
        for _ in 0..3 {
            far.send(Bytes::from_static(b"12345678")).unwrap();
        }
        far
    });
    let expected = identity(2).key.public();
    let mut near = BlockingChannel::dial(near, &identity(1), expected, b"", SECOND).unwrap();
    let _far = answering.join().unwrap();
    assert_eq!(near.receive().unwrap(), "12345678");
    assert!(matches!(near.receive(), Err(LinkError::Seal)));
    assert!(matches!(near.receive(), Err(LinkError::Closed)), "dead after an error");
}
