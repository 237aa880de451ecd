//! Streams of server-sent events: final blocks, and the changes of one wallet.

use super::Api;
use super::error::ApiError;
use super::extract::{Path, Query};
use super::lookup::{parse, summary, unknown_wallet};
use crate::history;
use crate::shared::{FinalBlock, Health, Shared};
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream;
use kanjo_api::{ErrorBody, RecordView, WalletEvent};
use kanjo_types::{Record, WalletId};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc};

/// Events that a slow reader may lag behind before the stream waits for it.
const EVENTS_WAITING_MAX: usize = 256;

/// A reader that takes nothing for so long is given up.
const READER_TIME_MAX: Duration = Duration::from_secs(30);

type Events = mpsc::Sender<Result<Event, Infallible>>;

#[derive(Debug, Deserialize)]
pub(super) struct FromQuery {
    from: Option<u64>,
}

fn event(name: &str, id: u64, content: &impl Serialize) -> Option<Result<Event, Infallible>> {
    Event::default().event(name).id(id.to_string()).json_data(content).ok().map(Ok)
}

fn sse(
    events: mpsc::Receiver<Result<Event, Infallible>>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let stream = tokio_stream::wrappers::ReceiverStream::new(events);
    Sse::new(stream).keep_alive(KeepAlive::default())
}

/// Sends an event; nothing when the reader is gone, or takes so long that it is given up.
async fn deliver(events: &Events, event: Result<Event, Infallible>) -> Option<()> {
    events.send_timeout(event, READER_TIME_MAX).await.ok()
}

/// The next final block; `Closed` when the node stops.
async fn next_block(
    shared: &Shared,
    live: &mut broadcast::Receiver<Arc<FinalBlock>>,
) -> Result<Arc<FinalBlock>, broadcast::error::RecvError> {
    let mut health = shared.health.subscribe();
    let over = |health: &Health| {
        matches!(health, Health::Stopping | Health::Stopped(_) | Health::Rewinding { .. })
    };
    tokio::select! {
        block = live.recv() => block,
        _ = health.wait_for(over) => Err(broadcast::error::RecvError::Closed),
    }
}

/// Sends past blocks from `next` on until the newest, returns the height after the last one sent.
async fn catch_up(shared: &Arc<Shared>, events: &Events, mut next: u64) -> Option<u64> {
    while next <= shared.tip().height {
        let (shared_, height) = (shared.clone(), next);
        let read = move || {
            let at = history::read_header(&shared_, height).ok()?;
            Some(summary(&shared_, &at.header))
        };
        let block = tokio::task::spawn_blocking(read).await.ok()??;
        deliver(events, event("block", next, &block)?).await?;
        next += 1;
    }
    Some(next)
}

/// Final blocks as they come (`event: block`, a `BlockSummary` each), from height `from` on if
/// given. A reader that falls far behind is served from the log; none is left out.
#[utoipa::path(get, path = "/v1/stream/blocks", tag = "streams", params(("from" = Option<u64>, Query)),
    responses((status = 200, content_type = "text/event-stream")))]
pub(super) async fn blocks(
    State(api): State<Arc<Api>>,
    Query(query): Query<FromQuery>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let (sender, events) = mpsc::channel(EVENTS_WAITING_MAX);
    let shared = api.shared.clone();
    tokio::spawn(async move {
        let mut live = shared.blocks.subscribe();
        let from = query.from.unwrap_or_else(|| shared.tip().height + 1);
        let Some(mut next) = catch_up(&shared, &sender, from).await else { return };
        loop {
            match next_block(&shared, &mut live).await {
                Ok(block) if block.summary.height < next => {}
                Ok(block) => {
                    next = block.summary.height + 1;
                    let Some(event) = event("block", block.summary.height, &block.summary) else {
                        return;
                    };
                    if deliver(&sender, event).await.is_none() {
                        return;
                    }
                }
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    match catch_up(&shared, &sender, next).await {
                        Some(height) => next = height,
                        None => return,
                    }
                }
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    });
    sse(events)
}

fn changes(block: &FinalBlock, wallet: WalletId) -> Vec<RecordView> {
    let mut found = Vec::new();
    for entry in block.entries.iter() {
        for row in &entry.rows {
            if matches!(&row.record, Record::WalletState(state) if state.wallet == wallet) {
                found.push(RecordView {
                    hash: row.hash,
                    record: row.record.clone(),
                    height: block.summary.height,
                    position: entry.record.position,
                    time_ms: block.summary.time_ms,
                    transaction_id: entry.record.id,
                });
            }
        }
    }
    found
}

/// New versions of a wallet's states as they become final (`event: change`, a `WalletEvent` each).
/// A reader that falls more than 64 blocks behind gets `event: lagged` and should read the wallet's
/// history.
#[utoipa::path(get, path = "/v1/stream/wallets/{id}", tag = "streams", params(("id" = String, Path)),
    responses((status = 200, content_type = "text/event-stream"), (status = 404, body = ErrorBody)))]
pub(super) async fn wallet(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let id: WalletId = parse(&id, "wallet")?;
    if api.shared.ledger.read().wallets().find(&id).is_none() {
        return Err(unknown_wallet());
    }
    let shared = api.shared.clone();
    let mut live = shared.blocks.subscribe();
    let (sender, events) = mpsc::channel(EVENTS_WAITING_MAX);
    tokio::spawn(async move {
        loop {
            let batch = match next_block(&shared, &mut live).await {
                Ok(block) => changes(&block, id)
                    .into_iter()
                    .filter_map(|version| event("change", version.height, &WalletEvent { version }))
                    .collect(),
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    vec![Ok(Event::default().event("lagged").data(missed.to_string()))]
                }
                Err(broadcast::error::RecvError::Closed) => return,
            };
            for event in batch {
                if deliver(&sender, event).await.is_none() {
                    return;
                }
            }
            if sender.is_closed() {
                return;
            }
        }
    });
    Ok(sse(events))
}
