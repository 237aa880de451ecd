//! Asks the nodes who leads: each second, and four times as often while nobody knows.

use crate::nodes::{Directory, Leader, Nodes, Seen};
use crate::upstream::{Failed, Upstream};
use axum::http::{HeaderMap, Method, StatusCode};
use bytes::Bytes;
use futures_util::future::join_all;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Between two rounds while the leader is known.
const KNOWN_INTERVAL: Duration = Duration::from_secs(1);
/// While it is not.
const UNKNOWN_INTERVAL: Duration = Duration::from_millis(250);
/// Longest wait for one node's answer.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// While the leader is known, it is looked at so often whether it still is.
const STEP: Duration = Duration::from_millis(50);

/// The part of `/v1/cluster` that a gateway needs.
#[derive(Debug, Deserialize)]
struct Cluster {
    me: u16,
    role: String,
    term: u64,
    leader: Option<u16>,
    nodes: Vec<Member>,
}

#[derive(Debug, Deserialize)]
struct Member {
    number: u16,
    kind: String,
    api: String,
}

impl Cluster {
    fn seen(self, url: &Arc<str>) -> Seen {
        let leads_alone = self.role == "alone";
        let of = |number: u16| self.nodes.iter().find(|member| member.number == number);
        let leader = if leads_alone { Some(self.me) } else { self.leader };
        let leader = leader.and_then(|number| {
            let api = match of(number) {
                _ if number == self.me => url.clone(),
                Some(member) => Arc::from(member.api.trim_end_matches('/')),
                None => return None,
            };
            Some(Leader { number, api })
        });
        let is_ready = self.role != "stopped";
        Seen {
            is_up: true,
            is_ready,
            executes: of(self.me).is_none_or(|member| member.kind != "witness"),
            number: Some(self.me),
            term: self.term,
            // What a stopped engine knows is old.
            leader: leader.filter(|_| is_ready),
        }
    }
}

/// Runs until it is dropped.
pub(crate) async fn watch(nodes: Arc<Nodes>, upstream: Upstream) {
    loop {
        let urls = nodes.urls();
        let round = join_all(urls.into_iter().map(|url| ask(&upstream, url))).await;
        nodes.update(round);
        let started = Instant::now();
        loop {
            let interval = if nodes.leader().is_some() { KNOWN_INTERVAL } else { UNKNOWN_INTERVAL };
            if started.elapsed() >= interval {
                break;
            }
            tokio::time::sleep(STEP).await;
        }
    }
}

async fn ask(upstream: &Upstream, url: Arc<str>) -> (Arc<str>, Seen) {
    let until = Instant::now() + ANSWER_MAX;
    let path = format!("{url}/v1/cluster");
    let asked = upstream.whole(Method::GET, &path, HeaderMap::new(), Bytes::new(), until).await;
    let down = Seen { executes: true, ..Seen::default() };
    let seen = match asked {
        Ok(answer) if answer.status == StatusCode::OK => {
            match serde_json::from_slice::<Cluster>(&answer.body) {
                Ok(cluster) => cluster.seen(&url),
                Err(error) => {
                    tracing::warn!(node = &*url, %error, "not understood");
                    down
                }
            }
        }
        // A ledger of one node.
        Ok(answer) if answer.status == StatusCode::NOT_FOUND => Seen {
            is_up: true,
            is_ready: true,
            executes: true,
            number: None,
            term: 0,
            leader: Some(Leader { number: 0, api: url.clone() }),
        },
        Ok(_) => Seen { is_up: true, ..down },
        Err(Failed::NotSent(error) | Failed::Lost(error)) => {
            tracing::debug!(node = &*url, %error, "no answer");
            down
        }
    };
    (url, seen)
}
