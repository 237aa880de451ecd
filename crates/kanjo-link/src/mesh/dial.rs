//! The dialling side: one task keeps one connection to one member, for one class of topics.

use super::counters::Counter;
use super::link::{Queue, Wires, tune};
use super::{Class, PeerState, Shared};
use crate::bus::BusError;
use crate::session::{Established, Handshake, LinkError, Progress, Session};
use crate::wire::Item;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// A connection that lasted this long was a good one: the next attempt comes soon again.
const GOOD_AFTER: Duration = Duration::from_secs(5);
/// Addresses of one host name that are tried.
const ADDRESSES_MAX: usize = 4;

pub(super) type Answer = Result<Bytes, BusError>;

/// A connection for one class of topics, or why there is none.
pub(super) struct Lane {
    pub(super) class: Class,
    live: Mutex<Option<Arc<Live>>>,
    why: Mutex<String>,
    /// The member was heard of: try now.
    pub(super) wake: Notify,
}

impl Lane {
    pub(super) fn new(class: Class) -> Self {
        let why = Mutex::new("not connected yet".to_owned());
        Self { class, live: Mutex::new(None), why, wake: Notify::new() }
    }

    pub(super) fn live(&self) -> Option<Arc<Live>> {
        self.live.lock().clone()
    }

    pub(super) fn why(&self) -> String {
        self.why.lock().clone()
    }
}

/// A connection in use.
pub(super) struct Live {
    pub(super) queue: Queue,
    /// None once the connection is gone.
    pending: Mutex<Option<HashMap<u64, oneshot::Sender<Answer>>>>,
    next_id: AtomicU64,
    /// The newest ping under way.
    ping: Mutex<Option<(u64, Instant)>>,
}

/// Why a call can't begin.
pub(super) enum NoCall {
    Gone,
    TooMany,
}

/// A call under way; forgotten when dropped.
pub(super) struct Pending {
    live: Arc<Live>,
    pub(super) id: u64,
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(pending) = self.live.pending.lock().as_mut() {
            pending.remove(&self.id);
        }
    }
}

impl Live {
    fn new(queue: Queue) -> Self {
        let pending = Mutex::new(Some(HashMap::new()));
        Self { queue, pending, next_id: AtomicU64::new(0), ping: Mutex::new(None) }
    }

    pub(super) fn begin(
        self: &Arc<Self>,
        calls_max: usize,
    ) -> Result<(Pending, oneshot::Receiver<Answer>), NoCall> {
        let mut pending = self.pending.lock();
        let open = pending.as_mut().ok_or(NoCall::Gone)?;
        if open.len() >= calls_max {
            return Err(NoCall::TooMany);
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        open.insert(id, sender);
        Ok((Pending { live: Arc::clone(self), id }, receiver))
    }

    fn finish(&self, id: u64, answer: Answer) {
        let sender = self.pending.lock().as_mut().and_then(|pending| pending.remove(&id));
        if let Some(sender) = sender {
            // The caller may have given up in this moment.
            let _ = sender.send(answer);
        }
    }

    fn deal(&self, item: Item, round_trip: impl FnOnce(Duration)) -> Result<(), LinkError> {
        match item {
            Item::Answer { id, body } => self.finish(id, Ok(body)),
            Item::Refusal { id, text } => self.finish(id, Err(BusError::Refused(text))),
            Item::Pong(id) => {
                let mut ping = self.ping.lock();
                if let Some((_, at)) = ping.take_if(|(waiting, _)| *waiting == id) {
                    round_trip(at.elapsed());
                }
            }
            Item::Welcome | Item::Request { .. } | Item::Message { .. } | Item::Ping(_) => {
                return Err(LinkError::Record);
            }
        }
        Ok(())
    }

    async fn pings(&self, every: Duration, forget: Duration) {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for id in 0u64.. {
            ticks.tick().await;
            if self.queue.push(Item::Ping(id), None).is_err() {
                continue;
            }
            let mut waiting = self.ping.lock();
            // An answer may take longer than the time between two pings.
            if waiting.is_none_or(|(_, since)| since.elapsed() > forget) {
                *waiting = Some((id, Instant::now()));
            }
        }
    }
}

/// Puts a connection in its lane; takes it out however its task ends.
struct InUse<'a> {
    lane: &'a Lane,
    live: Arc<Live>,
}

impl<'a> InUse<'a> {
    fn new(lane: &'a Lane, queue: Queue) -> Self {
        let live = Arc::new(Live::new(queue));
        *lane.live.lock() = Some(Arc::clone(&live));
        Self { lane, live }
    }
}

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        *self.lane.live.lock() = None;
        // Dropping the senders ends all calls under way.
        self.live.pending.lock().take();
    }
}

/// Keeps the connection of a lane until the task is aborted.
pub(super) async fn keep(shared: Arc<Shared>, peer: Arc<PeerState>, lane: Arc<Lane>) {
    let mut backoff = BACKOFF_MIN;
    loop {
        let error = match connect(&shared, &peer, &lane).await {
            Ok((stream, session)) => {
                let began = Instant::now();
                let error = run(&shared, &peer, &lane, stream, session).await;
                if began.elapsed() >= GOOD_AFTER {
                    backoff = BACKOFF_MIN;
                }
                error
            }
            Err(error) => error,
        };
        if error.is_breach() {
            shared.counters.broken.one();
        }
        tracing::debug!(member = peer.peer.number, class = ?lane.class, %error, "link down");
        *lane.why.lock() = error.to_string();
        // Woken or not, there is the shortest pause: two that refuse each other must not spin.
        tokio::time::sleep(jitter(BACKOFF_MIN)).await;
        let _ = timeout(jitter(backoff), lane.wake.notified()).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

/// Between half of it and all of it.
fn jitter(of: Duration) -> Duration {
    let mut byte = [0u8; 1];
    // Without randomness the pause is the shortest: worse, not wrong.
    let _ = getrandom::fill(&mut byte);
    of / 2 + of * u32::from(byte[0]) / 512
}

async fn connect(
    shared: &Shared,
    peer: &PeerState,
    lane: &Lane,
) -> Result<(TcpStream, Session), LinkError> {
    // No timeout of our own: a look-up can't be taken back, so they would pile up.
    let addresses: Vec<_> = lookup_host(&peer.peer.address).await?.take(ADDRESSES_MAX).collect();
    let mut last = LinkError::Io(std::io::Error::other("the host name has no address"));
    for address in addresses {
        let connecting = timeout(shared.limits.handshake, TcpStream::connect(address));
        let stream = match connecting.await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                last = error.into();
                continue;
            }
            Err(_) => {
                last = LinkError::Slow;
                continue;
            }
        };
        tune(&stream, &shared.limits);
        let shaking = timeout(shared.limits.handshake, shake(shared, peer, lane, stream));
        match shaking.await.unwrap_or(Err(LinkError::Slow)) {
            Ok(done) => return Ok(done),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn shake(
    shared: &Shared,
    peer: &PeerState,
    lane: &Lane,
    mut stream: TcpStream,
) -> Result<(TcpStream, Session), LinkError> {
    let greeting = [lane.class.number()];
    let (mut handshake, first) = Handshake::dial(&shared.identity, peer.peer.key, &greeting)?;
    stream.write_all(&first).await?;
    let Established { send, mut session, .. } =
        advance(&mut stream, &mut handshake).await.map(|end| *end)?;
    stream.write_all(&send).await?;
    loop {
        if let Some(message) = session.opener.take()? {
            return match Item::parse(message)? {
                Item::Welcome => Ok((stream, session)),
                _ => Err(LinkError::Record),
            };
        }
        if stream.read_buf(session.opener.buffer()).await? == 0 {
            return Err(LinkError::Closed);
        }
    }
}

/// Reads and answers until a handshake is done. Bounded by the caller's timeout.
pub(super) async fn advance(
    stream: &mut TcpStream,
    handshake: &mut Handshake,
) -> Result<Box<Established>, LinkError> {
    let mut piece = [0u8; 1_024];
    loop {
        let count = stream.read(&mut piece).await?;
        if count == 0 {
            return Err(LinkError::Closed);
        }
        match handshake.feed(piece.get(..count).unwrap_or_default())? {
            Progress::Wait => {}
            Progress::Send(bytes) => stream.write_all(&bytes).await?,
            Progress::Done(end) => return Ok(end),
        }
    }
}

async fn run(
    shared: &Shared,
    peer: &PeerState,
    lane: &Lane,
    stream: TcpStream,
    session: Session,
) -> LinkError {
    shared.counters.dialled.one();
    let (queue, receiver) = Queue::new(&shared.limits);
    let in_use = InUse::new(lane, queue);
    let live = &in_use.live;
    let (from, to) = stream.into_split();
    let bytes: (&Counter, &Counter) = (&peer.bytes_in, &peer.bytes_out);
    let wires = Wires::new(&shared.counters, bytes, shared.limits.silence);
    let Session { sealer, mut opener } = session;
    opener.set_message_max(lane.class.message_max());
    let measured = |round_trip: Duration| {
        if lane.class == Class::Control {
            peer.measured(round_trip);
        }
    };
    let ended = tokio::select! {
        ended = wires.read(from, opener, |item| live.deal(item, measured)) => ended,
        ended = wires.write(to, sealer, &live.queue, receiver) => ended,
        () = live.pings(shared.limits.ping_every, shared.limits.silence) => Ok(()),
    };
    ended.err().unwrap_or(LinkError::Closed)
}
