//! One connection after its handshake: queue, writing, reading.

use super::counters::{Counter, Counters};
use super::{Limits, READ_BYTES, WRITE_BYTES};
use crate::session::{LinkError, Opener, Outgoing, Sealer};
use crate::wire::Item;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

/// Something to send, and until when it makes sense.
pub(super) struct Queued {
    item: Item,
    until: Option<Instant>,
}

/// The sending end of a connection's queue, bounded in items and bytes.
#[derive(Clone)]
pub(super) struct Queue {
    sender: mpsc::Sender<Queued>,
    bytes: Arc<AtomicUsize>,
    bytes_max: usize,
}

/// The queue is full, or its connection gone.
pub(super) struct Full;

impl Queue {
    pub(super) fn new(limits: &Limits) -> (Self, mpsc::Receiver<Queued>) {
        let (sender, receiver) = mpsc::channel(limits.queue_items.max(1));
        let bytes_max = limits.queue_bytes;
        (Self { sender, bytes: Arc::default(), bytes_max }, receiver)
    }

    /// Queues at once or not at all. An empty queue takes an item of any size.
    pub(super) fn push(&self, item: Item, until: Option<Instant>) -> Result<(), Full> {
        let length = item.body_len();
        let before = self.bytes.fetch_add(length, Ordering::AcqRel);
        let fits = before == 0 || before.saturating_add(length) <= self.bytes_max;
        if fits && self.sender.try_send(Queued { item, until }).is_ok() {
            return Ok(());
        }
        self.bytes.fetch_sub(length, Ordering::AcqRel);
        Err(Full)
    }

    /// Queues, waiting for room: for answers, whose number is bounded elsewhere.
    pub(super) async fn push_wait(&self, item: Item) {
        let length = item.body_len();
        self.bytes.fetch_add(length, Ordering::AcqRel);
        if self.sender.send(Queued { item, until: None }).await.is_err() {
            self.bytes.fetch_sub(length, Ordering::AcqRel);
        }
    }

    fn taken(&self, queued: &Queued) {
        self.bytes.fetch_sub(queued.item.body_len(), Ordering::AcqRel);
    }
}

/// What both directions of a connection share.
pub(super) struct Wires<'a> {
    pub(super) counters: &'a Counters,
    pub(super) bytes_in: &'a Counter,
    pub(super) bytes_out: &'a Counter,
    /// No byte read for this long, and no large piece written either: the connection is dead.
    pub(super) silence: Duration,
    began: Instant,
    /// When a large piece was last written, in milliseconds since the beginning.
    wrote_ms: AtomicU64,
}

impl<'a> Wires<'a> {
    pub(super) fn new(
        counters: &'a Counters,
        bytes: (&'a Counter, &'a Counter),
        silence: Duration,
    ) -> Self {
        let (bytes_in, bytes_out) = bytes;
        let (began, wrote_ms) = (Instant::now(), AtomicU64::new(0));
        Self { counters, bytes_in, bytes_out, silence, began, wrote_ms }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    async fn flush(&self, half: &mut OwnedWriteHalf, out: &mut Vec<u8>) -> Result<(), LinkError> {
        half.write_all(out).await?;
        self.bytes_out.add(out.len());
        if out.len() >= WRITE_BYTES {
            self.wrote_ms.store(self.now_ms(), Ordering::Relaxed);
        }
        out.clear();
        Ok(())
    }

    /// Sends what is queued until the connection or the queue ends. What lies in the queue at one
    /// time goes out in one write.
    pub(super) async fn write(
        &self,
        mut half: OwnedWriteHalf,
        mut sealer: Sealer,
        queue: &Queue,
        mut receiver: mpsc::Receiver<Queued>,
    ) -> Result<(), LinkError> {
        let mut out = Vec::new();
        while let Some(first) = receiver.recv().await {
            let mut next = Some(first);
            while let Some(queued) = next {
                queue.taken(&queued);
                if let Some(item) = self.still_wanted(queued) {
                    let (head, body) = item.into_parts();
                    let mut message = Outgoing::new(&head, body)?;
                    while !sealer.seal(&mut message, &mut out, WRITE_BYTES)? {
                        self.flush(&mut half, &mut out).await?;
                    }
                }
                next = if out.len() < WRITE_BYTES { receiver.try_recv().ok() } else { None };
            }
            if !out.is_empty() {
                self.flush(&mut half, &mut out).await?;
            }
        }
        Err(LinkError::Closed)
    }

    /// Requests carry the time that is left for them.
    fn still_wanted(&self, queued: Queued) -> Option<Item> {
        let Queued { mut item, until } = queued;
        if let (Item::Request { ttl_ms, .. }, Some(until)) = (&mut item, until) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                self.counters.expired.one();
                return None;
            }
            let left_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
            *ttl_ms = left_ms.max(1);
        }
        Some(item)
    }

    /// Gives what comes to `deal` until the connection ends.
    pub(super) async fn read(
        &self,
        mut half: OwnedReadHalf,
        mut opener: Opener,
        mut deal: impl FnMut(Item) -> Result<(), LinkError>,
    ) -> Result<(), LinkError> {
        loop {
            while let Some(message) = opener.take()? {
                deal(Item::parse(message)?)?;
            }
            let buffer = opener.buffer();
            buffer.reserve(READ_BYTES);
            match timeout(self.silence, half.read_buf(buffer)).await {
                Ok(Ok(0)) => return Err(LinkError::Closed),
                Ok(Ok(count)) => self.bytes_in.add(count),
                Ok(Err(error)) => return Err(error.into()),
                Err(_) if self.writes() => {}
                Err(_) => return Err(LinkError::Slow),
            }
        }
    }

    /// Is a long message on its way out? Then the other side may be too busy to say anything.
    fn writes(&self) -> bool {
        let silence_ms = u64::try_from(self.silence.as_millis()).unwrap_or(u64::MAX);
        let wrote_ms = self.wrote_ms.load(Ordering::Relaxed);
        wrote_ms > 0 && self.now_ms().saturating_sub(wrote_ms) < silence_ms
    }
}

/// Small messages go at once; the kernel notices a dead other side by itself too.
pub(super) fn tune(stream: &TcpStream, limits: &Limits) {
    // None of these is needed for correctness, so a kernel that refuses one is no error.
    let _ = stream.set_nodelay(true);
    let socket = socket2::SockRef::from(stream);
    let alive = socket2::TcpKeepalive::new().with_time(limits.silence);
    let _ = socket.set_tcp_keepalive(&alive);
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_user_timeout(Some(limits.silence));
}
