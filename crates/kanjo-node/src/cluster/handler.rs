//! What other members send: the engine's calls, votes, notices, questions.

use crate::cluster::ClusterState;
use crate::cluster::evidence;
use crate::cluster::fetch;
use crate::cluster::finality::Event;
use crate::cluster::manager::ToManager;
use crate::cluster::signing::ToSign;
use crate::shared::Shared;
use bytes::Bytes;
use crossbeam_channel::Sender;
use kanjo_consensus::engine::Engine;
use kanjo_consensus::vote::decode_votes;
use kanjo_link::bus::{BoxFuture, Handler, Topic};
use openraft_rt_tokio::TokioRuntime;
use std::sync::{Arc, OnceLock, Weak};
use tokio::sync::{Semaphore, mpsc, oneshot};

/// Answers made from the disk at the same time.
const READERS_MAX: usize = 2;

/// Routes what comes over the bus. Links exist before the engine does: until then callers are told
/// to come again.
#[derive(Default)]
pub(crate) struct Router {
    parts: OnceLock<Routes>,
}

/// Where things go.
pub(crate) struct Routes {
    pub shared: Weak<Shared>,
    pub cluster: Arc<ClusterState>,
    pub engine: Engine<TokioRuntime>,
    pub finality: Sender<Event>,
    pub manager: mpsc::UnboundedSender<ToManager>,
    pub signer: Sender<ToSign>,
    readers: Arc<Semaphore>,
}

impl Routes {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        cluster: Arc<ClusterState>,
        engine: Engine<TokioRuntime>,
        finality: Sender<Event>,
        manager: mpsc::UnboundedSender<ToManager>,
        signer: Sender<ToSign>,
    ) -> Self {
        let (shared, readers) = (Arc::downgrade(shared), Arc::new(Semaphore::new(READERS_MAX)));
        Self { shared, cluster, engine, finality, manager, signer, readers }
    }

    /// A member says that a height is final there.
    fn heard(&self, from: u16, body: &[u8]) {
        let validity = match self.cluster.heard.take(from, body) {
            Ok(validity) => validity,
            Err(why) => return self.cluster.note_doubt(from, why),
        };
        let tip = self.shared.upgrade().map(|shared| shared.tip());
        if let Some(tip) = tip.filter(|tip| tip.height == validity.height)
            && tip.header_hash != validity.header
        {
            let (height, theirs, ours) = (tip.height, validity.header, tip.header_hash);
            let why = format!("says that {theirs} is final at height {height}; here it is {ours}");
            tracing::error!(from, why, "two headers at one height");
            self.cluster.note_doubt(from, why);
        }
    }
}

fn starting() -> String {
    "this node is starting; come again".to_owned()
}

impl Router {
    /// From now on things go there.
    pub(crate) fn open(&self, routes: Routes) {
        let _ = self.parts.set(routes);
    }
}

impl Handler for Router {
    fn call(
        &self,
        from: u16,
        topic: Topic,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, String>> {
        let Some(routes) = self.parts.get() else {
            return Box::pin(async { Err(starting()) });
        };
        // Entries, or heartbeats; candidates are told apart by the engine, which names the leader.
        if matches!(topic, Topic::Append | Topic::Elect) {
            routes.cluster.heard_from(from);
        }
        match topic {
            Topic::Append | Topic::Elect | Topic::Transfer | Topic::Snapshot => {
                routes.engine.handle(from, topic, body)
            }
            Topic::Fetch => {
                let (shared, readers) = (routes.shared.clone(), routes.readers.clone());
                Box::pin(async move {
                    let _turn = readers.acquire_owned().await.map_err(|error| error.to_string())?;
                    let work = move || match shared.upgrade() {
                        Some(shared) => fetch::answer(&shared, &body),
                        None => Err(starting()),
                    };
                    let done = tokio::task::spawn_blocking(work).await;
                    done.map_err(|error| error.to_string())?
                })
            }
            Topic::Notices => {
                let (reply, answer) = oneshot::channel();
                let sent = routes.manager.send(ToManager::Asked { from, body, reply });
                Box::pin(async move {
                    sent.map_err(|_| "this node is stopping".to_owned())?;
                    answer.await.map_err(|_| "this node is stopping".to_owned())?
                })
            }
            Topic::Evidence => {
                let (cluster, signer) = (routes.cluster.clone(), routes.signer.clone());
                Box::pin(evidence::answer(cluster, signer, from, body))
            }
            Topic::Votes | Topic::Final | Topic::Measures => {
                Box::pin(async move { Err(format!("topic {topic} takes no calls")) })
            }
        }
    }

    fn message(&self, from: u16, topic: Topic, body: Bytes) {
        let Some(routes) = self.parts.get() else { return };
        match topic {
            Topic::Votes => match decode_votes(body) {
                // Each speaks for itself, so that nobody can use up another's place.
                Ok(votes) if votes.iter().all(|vote| vote.vote.voter == from) => {
                    let _ = routes.finality.send(Event::Ballots(votes));
                }
                Ok(_) => routes.cluster.note_doubt(from, "sent votes of others".to_owned()),
                Err(error) => routes.cluster.note_doubt(from, error.to_string()),
            },
            Topic::Measures => {
                let _ = routes.manager.send(ToManager::Measured { from, body });
            }
            Topic::Final => routes.heard(from, &body),
            _ => {}
        }
    }
}
