//! The answering side: takes connections of members, and gives what they bring to the handler.

use super::dial::advance;
use super::link::{Queue, Wires, tune};
use super::{Class, PeerState, Shared};
use crate::bus::Topic;
use crate::keys::PublicLinkKey;
use crate::session::{Handshake, LinkError, Session};
use crate::wire::Item;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

/// Pause after the kernel couldn't give a connection, out of file handles for instance.
const PAUSE: Duration = Duration::from_millis(100);
/// One of so many refused strangers is logged.
const LOG_EVERY: u64 = 1_000;

/// The accepted connections: one for each member and class.
#[derive(Default)]
pub(super) struct Accepted {
    by_place: HashMap<(PublicLinkKey, Class), AbortHandle>,
}

impl Accepted {
    /// Ends the connections of those that `keep` doesn't name.
    pub(super) fn retain(&mut self, keep: impl Fn(&PublicLinkKey) -> bool) {
        self.by_place.retain(|(key, _), handle| {
            let kept = keep(key);
            if !kept {
                handle.abort();
            }
            kept
        });
    }
}

/// Takes connections until the task is aborted; all of them end with it.
pub(super) async fn listen(shared: Arc<Shared>, listener: TcpListener) {
    let room = Arc::new(Semaphore::new(shared.limits.handshakes_max));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => match Arc::clone(&room).try_acquire_owned() {
                Ok(permit) => {
                    // The task needs its own handle to be found by the next one of its kind.
                    let (sender, receiver) = tokio::sync::oneshot::channel();
                    let task = serve(Arc::clone(&shared), stream, permit, receiver);
                    // It waits for this handle, so it is there.
                    let _ = sender.send(connections.spawn(task));
                }
                Err(_) => {
                    shared.counters.turned_away.one();
                }
            },
            Err(error) => {
                tracing::warn!(%error, "no connection could be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn serve(
    shared: Arc<Shared>,
    stream: TcpStream,
    permit: OwnedSemaphorePermit,
    own: tokio::sync::oneshot::Receiver<AbortHandle>,
) {
    tune(&stream, &shared.limits);
    let Ok(own) = own.await else { return };
    let shaken = timeout(shared.limits.handshake, shake(&shared, stream)).await;
    drop(permit);
    let shaken = shaken.unwrap_or(Err(LinkError::Slow));
    match shaken {
        Ok((stream, session, key, class)) => {
            let Some(peer) = register(&shared, key, class, own) else { return };
            let error = run(&shared, &peer, class, stream, session).await;
            if error.is_breach() {
                shared.counters.broken.one();
                tracing::warn!(member = peer.peer.number, %error, "link from a member broken");
            }
        }
        Err(LinkError::UnknownKey(key)) => {
            let before = shared.counters.unknown_keys.one();
            if before.is_multiple_of(LOG_EVERY) {
                let key = hex::encode(key);
                tracing::warn!(key, before, "a stranger was turned away");
            }
        }
        Err(LinkError::Slow) => {
            shared.counters.slow_handshakes.one();
        }
        Err(_) => {
            shared.counters.failed_handshakes.one();
        }
    }
}

async fn shake(
    shared: &Shared,
    mut stream: TcpStream,
) -> Result<(TcpStream, Session, PublicLinkKey, Class), LinkError> {
    let known = shared.peers.read().by_key.keys().copied().collect();
    let mut handshake = Handshake::answer(&shared.identity, known)?;
    let end = advance(&mut stream, &mut handshake).await?;
    let &[class] = end.greeting.as_slice() else { return Err(LinkError::Record) };
    let class = Class::from_number(class).ok_or(LinkError::Record)?;
    Ok((stream, end.session, end.peer, class))
}

/// Finds the member and takes the place of an older connection of it.
fn register(
    shared: &Shared,
    key: PublicLinkKey,
    class: Class,
    own: AbortHandle,
) -> Option<Arc<PeerState>> {
    // Held over both steps, so that a member that is removed meanwhile doesn't slip in.
    let peers = shared.peers.read();
    let peer = peers.by_key.get(&key).and_then(|number| peers.by_number.get(number)).cloned()?;
    let older = shared.accepted.lock().by_place.insert((key, class), own);
    if let Some(older) = older {
        if !older.is_finished() {
            shared.counters.replaced.one();
        }
        older.abort();
    }
    shared.counters.accepted.one();
    // It is there, so it can be dialled.
    for lane in &peer.lanes {
        lane.wake.notify_one();
    }
    Some(peer)
}

async fn run(
    shared: &Arc<Shared>,
    peer: &Arc<PeerState>,
    class: Class,
    stream: TcpStream,
    session: Session,
) -> LinkError {
    let (queue, receiver) = Queue::new(&shared.limits);
    queue.push_wait(Item::Welcome).await;
    let (from, to) = stream.into_split();
    let wires =
        Wires::new(&shared.counters, (&peer.bytes_in, &peer.bytes_out), shared.limits.silence * 2);
    let Session { sealer, mut opener } = session;
    opener.set_message_max(class.message_max());
    let mut desk = Desk {
        shared: Arc::clone(shared),
        from: peer.peer.number,
        class,
        queue: queue.clone(),
        calls: JoinSet::new(),
        bytes: Arc::default(),
    };
    let ended = tokio::select! {
        ended = wires.read(from, opener, |item| desk.deal(item)) => ended,
        ended = wires.write(to, sealer, &queue, receiver) => ended,
    };
    ended.err().unwrap_or(LinkError::Closed)
}

/// Gives what one connection brings to the handler. Calls under way end with it.
struct Desk {
    shared: Arc<Shared>,
    from: u16,
    class: Class,
    queue: Queue,
    calls: JoinSet<()>,
    /// Bytes of calls under way.
    bytes: Arc<AtomicUsize>,
}

/// Counts the bytes of a call as long as it is under way.
struct Held(Arc<AtomicUsize>, usize);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::AcqRel);
    }
}

impl Desk {
    fn deal(&mut self, item: Item) -> Result<(), LinkError> {
        match item {
            Item::Request { id, topic, ttl_ms, body } => {
                let ttl = Duration::from_millis(u64::from(ttl_ms));
                self.call(id, topic, ttl, body);
            }
            Item::Message { topic, body } => {
                // A topic of a later version is no fault of the connection.
                if let Some(topic) = self.topic(topic) {
                    self.shared.counters.topic(topic).received.one();
                    self.shared.handler.message(self.from, topic, body);
                }
            }
            Item::Ping(id) => {
                // A full queue shows that this side is alive.
                let _ = self.queue.push(Item::Pong(id), None);
            }
            Item::Welcome | Item::Answer { .. } | Item::Refusal { .. } | Item::Pong(_) => {
                return Err(LinkError::Record);
            }
        }
        Ok(())
    }

    /// Only topics of the connection's class: otherwise bulk could delay votes after all.
    fn topic(&self, number: u8) -> Option<Topic> {
        Topic::from_number(number).filter(|topic| Class::of(*topic) == self.class)
    }

    fn call(&mut self, id: u64, topic: u8, ttl: Duration, body: Bytes) {
        while self.calls.try_join_next().is_some() {}
        let Some(topic) = self.topic(topic) else {
            return self.refuse(id, "unknown topic");
        };
        let limits = &self.shared.limits;
        let length = body.len();
        let before = self.bytes.fetch_add(length, Ordering::AcqRel);
        let held = Held(Arc::clone(&self.bytes), length);
        let too_many = self.calls.len() >= limits.calls_of(self.class);
        if too_many || (before > 0 && before.saturating_add(length) > limits.call_bytes) {
            self.shared.counters.busy.one();
            return self.refuse(id, "too many calls are under way");
        }
        self.shared.counters.topic(topic).received.one();
        let asked = self.shared.handler.call(self.from, topic, body);
        let (shared, queue, most) =
            (Arc::clone(&self.shared), self.queue.clone(), self.class.body_max());
        self.calls.spawn(async move {
            let _held = held;
            let item = match timeout(ttl, asked).await {
                Ok(Ok(body)) if body.len() > most => {
                    Item::refusal(id, "the answer is too large".to_owned())
                }
                Ok(Ok(body)) => Item::Answer { id, body },
                Ok(Err(text)) => Item::refusal(id, text),
                Err(_) => {
                    shared.counters.expired.one();
                    return;
                }
            };
            queue.push_wait(item).await;
        });
    }

    fn refuse(&self, id: u64, why: &str) {
        // With a full queue the caller waits for its time to live instead.
        let _ = self.queue.push(Item::refusal(id, why.to_owned()), None);
    }
}
