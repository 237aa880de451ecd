//! Look-ups. Every answer speaks of final blocks: a handler reads the tables, then waits until the
//! newest version it saw is final.

use super::error::ApiError;
use super::extract::{Path, Query};
use super::view::Seen;
use super::{Answer, Api};
use crate::history::{self, HistoryError, Walking};
use crate::rows;
use crate::shared::{Health, Shared};
use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use kanjo_api::{
    AT_LEAST_HEADER, BlockPage, BlockSummary, BlockView, ErrorBody, HistoryPage, PAGE_MAX, RecordView, RowCounts,
    Status, TokenView, TransactionView, UserView, WalletView,
};
use kanjo_ledger::table::Row as _;
use kanjo_store::index::IndexError;
use kanjo_types::outcome::Refusal;
use kanjo_types::record::RowKey;
use kanjo_types::stored::{Block, Location, decode_signed};
use kanjo_types::transaction::Refused;
use kanjo_types::{Genesis, Header, Record, Table, TokenId, TransactionId, UserId, WalletId};
use serde::Deserialize;
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Versions and blocks in a page when the request does not say.
const PAGE_DEFAULT: usize = 50;
/// Blocks read for one page of a history.
pub(super) const PAGE_BLOCKS_MAX: usize = 256;
/// Blocks read to find one version.
const VERSION_BLOCKS_MAX: usize = 512;
/// How many items a page has.
pub(super) fn page_limit(asked: Option<usize>) -> usize {
    asked.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX)
}

/// How long a look-up by id waits for the index to catch up.
const INDEX_WAIT: Duration = Duration::from_secs(2);

/// Reads a path or query parameter.
pub(super) fn parse<T: FromStr>(text: &str, field: &str) -> Result<T, ApiError>
where
    T::Err: Display,
{
    text.parse().map_err(|error: T::Err| ApiError::bad_request(error.to_string(), field))
}

/// Waits until block `height` is final.
pub(super) async fn wait_final(shared: &Shared, height: u64) -> Result<(), ApiError> {
    if shared.tip().height >= height {
        return Ok(());
    }
    let mut tip = shared.tip.subscribe();
    let mut health = shared.health.subscribe();
    let no_end = |health: &Health| {
        matches!(health, Health::Stopped(_) | Health::StorageFull | Health::Rewinding { .. })
    };
    tokio::select! {
        _ = tip.wait_for(|tip| tip.height >= height) => Ok(()),
        // What was read may not become final for long, or ever.
        health = health.wait_for(no_end) => match health.as_deref() {
            Ok(Health::StorageFull) => Err(Refused::new(Refusal::StorageFull, "node").into()),
            _ => Err(ApiError::stopped()),
        },
    }
}

/// How long a request waits for the height that it names.
const AT_LEAST_WAIT: Duration = Duration::from_secs(1);

/// Waits a little until the block that a request names (`kanjo-at-least`) is final here.
pub(super) async fn wait_at_least(shared: &Shared, headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(named) = headers.get(AT_LEAST_HEADER) else { return Ok(()) };
    let height = named.to_str().ok().and_then(|text| text.parse().ok());
    let height: u64 = height
        .ok_or_else(|| ApiError::bad_request("The height must be a number.", AT_LEAST_HEADER))?;
    match tokio::time::timeout(AT_LEAST_WAIT, wait_final(shared, height)).await {
        Ok(reached) => reached,
        Err(_) => {
            let sentence = "This node is behind the height that the request names; ask another one.";
            let status = axum::http::StatusCode::SERVICE_UNAVAILABLE;
            Err(ApiError::new(status, "behind", sentence).field(AT_LEAST_HEADER))
        }
    }
}

/// Reads from disk that run at once; more wait, so that readers can't take the processor from
/// payments.
static READERS: Semaphore = Semaphore::const_new(4);

/// Runs reading from disk away from the threads that serve requests.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    // Closed never: a static.
    let _turn = READERS.acquire().await;
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(ApiError::stopped()))
}

pub(super) fn unknown_wallet() -> ApiError {
    ApiError::not_found("unknown_wallet", "There is no such wallet in the ledger.", "wallet")
}

pub(super) fn unknown_state() -> ApiError {
    let sentence = "This wallet never held this token, or the version is not there.";
    ApiError::not_found("unknown_state", sentence, "token")
}

/// The node and its ledger.
#[utoipa::path(get, path = "/v1/status", tag = "ledger", responses((status = 200, body = Status)))]
pub(super) async fn status(State(api): State<Arc<Api>>) -> Answer<Status> {
    let shared = &api.shared;
    let rows = {
        let ledger = shared.ledger.read();
        RowCounts {
            users: ledger.users().len() as u64,
            wallets: ledger.wallets().len() as u64,
            tokens: ledger.tokens().len() as u64,
            wallet_states: ledger.states().len() as u64,
            standing: Table::STANDING
                .into_iter()
                .map(|table| (rows::table_name(table), ledger.standing(table).len() as u64))
                .collect(),
        }
    };
    let tip = shared.tip();
    Ok(Json(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ledger: shared.genesis.name.clone(),
        chain: shared.chain,
        height: tip.height,
        header_hash: tip.header_hash,
        time_ms: tip.time_ms,
        transactions: tip.transactions,
        rows,
        replay_window_ms: shared.genesis.rules.replay_window_ms,
        state: shared.health().name().to_owned(),
    }))
}

/// The genesis: all that is needed to check proofs.
#[utoipa::path(get, path = "/v1/genesis", tag = "ledger",
    responses((status = 200, body = serde_json::Value)))]
pub(super) async fn genesis(State(api): State<Arc<Api>>) -> Answer<Genesis> {
    Ok(Json(api.shared.genesis.clone()))
}

/// Not a 404: it may well be there.
fn index_behind() -> ApiError {
    let status = axum::http::StatusCode::SERVICE_UNAVAILABLE;
    let sentence = "Not known yet: the index is behind the newest blocks; try again shortly.";
    ApiError::new(status, "index_behind", sentence).field("id")
}

/// Waits a little until the index covers every block that is final now.
pub(super) async fn wait_indexed(shared: &Shared) -> Result<(), ApiError> {
    let wanted = shared.tip().height;
    let give_up_at = tokio::time::Instant::now() + INDEX_WAIT;
    while shared.index.next_height().is_none_or(|next| next <= wanted) {
        if tokio::time::Instant::now() >= give_up_at {
            return Err(index_behind());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

pub(super) fn index_error(error: &IndexError) -> ApiError {
    let status = axum::http::StatusCode::INTERNAL_SERVER_ERROR;
    ApiError::new(status, "index_error", error.to_string())
}

/// Where a transaction stands, from the index; waits a little when the index is behind.
pub(super) async fn locate(api: &Api, id: TransactionId) -> Result<Location, ApiError> {
    let shared = &api.shared;
    let wanted = shared.tip().height;
    let give_up_at = tokio::time::Instant::now() + INDEX_WAIT;
    loop {
        let covered = shared.index.next_height().is_some_and(|next| next > wanted);
        let index = shared.index.clone();
        let found =
            blocking(move || index.find_transaction(&id.0.0).map_err(|error| index_error(&error)));
        if let Some((height, position)) = found.await? {
            return Ok(Location { height, position });
        }
        if covered {
            let sentence = "No final block holds a transaction with this id.";
            return Err(ApiError::not_found("unknown_transaction", sentence, "id"));
        }
        if tokio::time::Instant::now() >= give_up_at {
            return Err(index_behind());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A transaction with what came of it.
#[utoipa::path(get, path = "/v1/transactions/{id}", tag = "transactions", params(("id" = String, Path)),
    responses((status = 200, body = TransactionView), (status = 404, body = ErrorBody)))]
pub(super) async fn transaction(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Answer<TransactionView> {
    let id: TransactionId = parse(&id, "id")?;
    let at = locate(&api, id).await?;
    let view = blocking(move || {
        let block = history::read_block(&api.shared, at.height)?;
        transaction_view(&block, at).ok_or_else(|| {
            ApiError::not_found("unknown_transaction", "The index points to another block.", "id")
        })
    });
    Ok(Json(view.await?))
}

fn transaction_view(block: &Block, at: Location) -> Option<TransactionView> {
    let entry = block.entries.get(at.position as usize)?;
    let (transaction, _) = decode_signed(&entry.raw).ok()?;
    Some(TransactionView {
        id: entry.record.id,
        hash: entry.hash,
        height: at.height,
        position: at.position,
        time_ms: block.header.time_ms,
        result: entry.result,
        failed_operation: entry.failed_operation,
        transaction,
        record: Record::Transaction(entry.record.clone()),
        rows: entry.rows.iter().map(|row| row.record.clone()).collect(),
    })
}

/// A wallet and what it holds.
#[utoipa::path(get, path = "/v1/wallets/{id}", tag = "wallets", params(("id" = String, Path)),
    responses((status = 200, body = WalletView), (status = 404, body = ErrorBody)))]
pub(super) async fn wallet(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Answer<WalletView> {
    let id: WalletId = parse(&id, "wallet")?;
    let (view, newest) = {
        let ledger = api.shared.ledger.read();
        let tip = api.shared.tip();
        let row = ledger.wallets().get(&id).ok_or_else(unknown_wallet)?;
        let mut seen = Seen::new(&ledger, api.shared.time_ms());
        seen.note(row.made_at());
        let mut balances = Vec::new();
        let partition = RowKey::wallet(id).partition();
        let mut slot = Some(ledger.states().floor(partition, &(id, TokenId(0))));
        while let Some(next) = slot.and_then(|slot| ledger.states().following(slot))
            && let Some(state) = ledger.states().at(next)
            && state.wallet == id
            && balances.len() < PAGE_MAX
        {
            balances.push(seen.balance(state, row.owner));
            slot = Some(next);
        }
        let height = tip.height.max(seen.newest);
        (WalletView { id, owner: row.owner, record: row.hash, balances, height }, seen.newest)
    };
    wait_final(&api.shared, newest).await?;
    Ok(Json(view))
}

#[derive(Debug, Deserialize)]
pub(super) struct HistoryQuery {
    pub token: Option<u32>,
    pub before: Option<u64>,
    pub cursor: Option<String>,
    pub limit: Option<usize>,
}

/// Reads a cursor of the form `height.position`.
fn parse_cursor(text: &str) -> Result<Location, ApiError> {
    let parts = text.split_once('.');
    let at = parts.and_then(|(height, position)| {
        Some(Location { height: height.parse().ok()?, position: position.parse().ok()? })
    });
    at.ok_or_else(unknown_cursor)
}

pub(super) fn unknown_cursor() -> ApiError {
    ApiError::bad_request("A cursor is what an earlier page of the same list gave.", "cursor")
}

/// Newest place of a wallet's state, once it is final.
pub(super) async fn newest_state(
    api: &Api,
    wallet: WalletId,
    token: TokenId,
) -> Result<Location, ApiError> {
    let at = {
        let ledger = api.shared.ledger.read();
        ledger.wallets().get(&wallet).ok_or_else(unknown_wallet)?;
        ledger.states().get(&(wallet, token)).ok_or_else(unknown_state)?.made_at()
    };
    wait_final(&api.shared, at.height).await?;
    Ok(at)
}

/// Versions of a wallet's state in one token (by default token 1), newest first. A page may be
/// short, even empty, when many blocks lie between versions; go on with its `next_cursor`, which
/// costs the same however deep.
#[utoipa::path(get, path = "/v1/wallets/{id}/history", tag = "wallets",
    params(("id" = String, Path), ("token" = Option<u32>, Query), ("before" = Option<u64>, Query),
        ("cursor" = Option<String>, Query), ("limit" = Option<usize>, Query)),
    responses((status = 200, body = HistoryPage), (status = 404, body = ErrorBody)))]
pub(super) async fn wallet_history(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    Query(query): Query<HistoryQuery>,
) -> Answer<HistoryPage> {
    let id: WalletId = parse(&id, "wallet")?;
    let token = TokenId(query.token.unwrap_or(1));
    let newest = newest_state(&api, id, token).await?;
    let key = RowKey::wallet_state(id, token);
    Ok(Json(history_page(api, Table::WalletStates, key, newest, query).await?))
}

/// A page of the versions of a row whose newest was made at `newest`.
pub(super) async fn history_page(
    api: Arc<Api>,
    table: Table,
    key: RowKey,
    newest: Location,
    query: HistoryQuery,
) -> Result<HistoryPage, ApiError> {
    let limit = page_limit(query.limit);
    let at = match &query.cursor {
        Some(cursor) => parse_cursor(cursor)?,
        None => newest,
    };
    if at > newest {
        return Err(unknown_cursor());
    }
    let walking = Walking { at, before: query.before, limit, blocks_max: PAGE_BLOCKS_MAX };
    blocking(move || {
        let found = history::versions(&api.shared, table, key, walking);
        let (versions, next) = match found {
            Err(HistoryError::NoSuchVersion { .. }) if query.cursor.is_some() => {
                return Err(unknown_cursor());
            }
            found => found?,
        };
        let last = versions.last().map(|view| view.record.version());
        Ok(HistoryPage {
            versions,
            next_before: last.filter(|version| *version > 1),
            next_cursor: next.map(|at| format!("{}.{}", at.height, at.position)),
        })
    })
    .await
}

#[derive(Debug, Deserialize)]
pub(super) struct VersionQuery {
    pub version: Option<u64>,
}

/// A wallet's state in one token: the newest, or a version.
#[utoipa::path(get, path = "/v1/wallets/{id}/states/{token}", tag = "wallets",
    params(("id" = String, Path), ("token" = u32, Path), ("version" = Option<u64>, Query)),
    responses((status = 200, body = RecordView), (status = 404, body = ErrorBody)))]
pub(super) async fn wallet_state(
    State(api): State<Arc<Api>>,
    Path((id, token)): Path<(String, String)>,
    Query(query): Query<VersionQuery>,
) -> Answer<RecordView> {
    let id: WalletId = parse(&id, "wallet")?;
    let token = TokenId(parse(&token, "token")?);
    let at = newest_state(&api, id, token).await?;
    Ok(Json(find_version(api, id, token, at, query.version).await?))
}

/// The state of a wallet with this version, or the newest, made at `at`.
pub(super) async fn find_version(
    api: Arc<Api>,
    wallet: WalletId,
    token: TokenId,
    at: Location,
    version: Option<u64>,
) -> Result<RecordView, ApiError> {
    let key = RowKey::wallet_state(wallet, token);
    blocking(move || {
        let before = version.map(|version| version.saturating_add(1));
        let walking = Walking { at, before, limit: 1, blocks_max: VERSION_BLOCKS_MAX };
        let (found, next) = history::versions(&api.shared, Table::WalletStates, key, walking)?;
        let wanted = |view: &RecordView| {
            version.is_none_or(|version| view.record.version() == version)
        };
        match found.into_iter().next() {
            Some(view) if wanted(&view) => Ok(view),
            None if next.is_some() => {
                let sentence = "That version lies too many blocks back to be found from the newest one; \
                                page through the wallet's history and ask for its transaction.";
                Err(ApiError::bad_request(sentence, "version"))
            }
            _ => Err(unknown_state()),
        }
    })
    .await
}

/// A user, its keys and its wallets.
#[utoipa::path(get, path = "/v1/users/{id}", tag = "users", params(("id" = String, Path)),
    responses((status = 200, body = UserView), (status = 404, body = ErrorBody)))]
pub(super) async fn user(State(api): State<Arc<Api>>, Path(id): Path<String>) -> Answer<UserView> {
    let id: UserId = parse(&id, "user")?;
    let unknown =
        || ApiError::not_found("unknown_user", "There is no such user in the ledger.", "user");
    let at = api.shared.ledger.read().users().get(&id).map(|row| row.made_at());
    let at = at.ok_or_else(unknown)?;
    wait_final(&api.shared, at.height).await?;
    wait_indexed(&api.shared).await?;
    let view = blocking(move || {
        let mut walk = history::Walk::new(&api.shared);
        let (current, _) = history::version_at(&mut walk, Table::Users, RowKey::user(id), at)?;
        let wallets = api.shared.index.wallets_of(&id.0, PAGE_MAX, None);
        let wallets = wallets.map_err(|error| index_error(&error))?;
        Ok(UserView { id, current, wallets: wallets.into_iter().map(WalletId).collect() })
    });
    Ok(Json(view.await?))
}

/// All tokens, by number; at most 1,000.
#[utoipa::path(get, path = "/v1/tokens", tag = "tokens",
    responses((status = 200, body = Vec<TokenView>)))]
pub(super) async fn tokens(State(api): State<Arc<Api>>) -> Answer<Vec<TokenView>> {
    let (tokens, newest) = {
        let ledger = api.shared.ledger.read();
        let rows = (1u32..).take(PAGE_MAX).map_while(|id| ledger.tokens().get(&TokenId(id)));
        let mut seen = Seen::new(&ledger, api.shared.time_ms());
        let tokens = rows.map(|row| seen.token(row)).collect();
        (tokens, seen.newest)
    };
    wait_final(&api.shared, newest).await?;
    Ok(Json(tokens))
}

/// A token and its supply.
#[utoipa::path(get, path = "/v1/tokens/{id}", tag = "tokens", params(("id" = u32, Path)),
    responses((status = 200, body = TokenView), (status = 404, body = ErrorBody)))]
pub(super) async fn token(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Answer<TokenView> {
    let id = TokenId(parse(&id, "token")?);
    let found = {
        let ledger = api.shared.ledger.read();
        let mut seen = Seen::new(&ledger, api.shared.time_ms());
        ledger.tokens().get(&id).map(|row| (seen.token(row), seen.newest))
    };
    let (view, height) = found.ok_or_else(|| {
        ApiError::not_found("unknown_token", "There is no such token in the ledger.", "token")
    })?;
    wait_final(&api.shared, height).await?;
    Ok(Json(view))
}

#[derive(Debug, Deserialize)]
pub(super) struct PageQuery {
    before: Option<u64>,
    limit: Option<usize>,
}

pub(super) fn summary(shared: &Shared, header: &Header) -> BlockSummary {
    BlockSummary {
        height: header.height,
        time_ms: header.time_ms,
        producer: header.producer,
        producer_name: shared.producer_name(header.producer),
        transactions: header.transactions,
        fees: header.fees.clone(),
        hash: header.hash(),
    }
}

/// Blocks, newest first: height, time, producer, transactions, fees.
#[utoipa::path(get, path = "/v1/blocks", tag = "blocks",
    params(("before" = Option<u64>, Query), ("limit" = Option<usize>, Query)),
    responses((status = 200, body = BlockPage)))]
pub(super) async fn blocks(
    State(api): State<Arc<Api>>,
    Query(query): Query<PageQuery>,
) -> Answer<BlockPage> {
    let limit = page_limit(query.limit);
    let page = blocking(move || {
        let end = (api.shared.tip().height + 1).min(query.before.unwrap_or(u64::MAX));
        let start = end.saturating_sub(limit as u64);
        let mut blocks = Vec::with_capacity(limit);
        for height in (start..end).rev() {
            let at = history::read_header(&api.shared, height)?;
            blocks.push(summary(&api.shared, &at.header));
        }
        Ok(BlockPage { blocks, next_before: (start > 0).then_some(start) })
    });
    Ok(Json(page.await?))
}

pub(super) fn unknown_block(height: u64, tip: u64) -> ApiError {
    let sentence = format!("There is no final block {height}; the newest is {tip}.");
    ApiError::not_found("unknown_block", sentence, "height")
}

/// One block: header, certificate, transaction ids.
#[utoipa::path(get, path = "/v1/blocks/{height}", tag = "blocks", params(("height" = u64, Path)),
    responses((status = 200, body = BlockView), (status = 404, body = ErrorBody)))]
pub(super) async fn block(
    State(api): State<Arc<Api>>,
    Path(height): Path<String>,
) -> Answer<BlockView> {
    let height: u64 = parse(&height, "height")?;
    let tip = api.shared.tip().height;
    if height > tip {
        return Err(unknown_block(height, tip));
    }
    let view = blocking(move || {
        let block = history::read_block(&api.shared, height)?;
        let transactions = block.entries.iter().map(|entry| entry.record.id).collect();
        let hash = block.header.hash();
        Ok(BlockView { hash, header: block.header, certificate: block.certificate, transactions })
    });
    Ok(Json(view.await?))
}
