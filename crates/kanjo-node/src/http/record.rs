//! Rows of any table: the newest version, all versions, and those that concern somebody.

use super::error::ApiError;
use super::extract::{Path, Query};
use super::lookup::{
    HistoryQuery, PAGE_BLOCKS_MAX, blocking, history_page, index_error, page_limit, parse,
    unknown_cursor, unknown_state, unknown_wallet, wait_final, wait_indexed,
};
use super::{Answer, Api};
use crate::{evidence, history, rows, subjects};
use axum::Json;
use axum::extract::State;
use kanjo_api::{ErrorBody, HistoryPage, RecordPage, RecordView};
use kanjo_ledger::table::Row as _;
use kanjo_store::index::{RowPlace, Subject};
use kanjo_types::money::Evidence;
use kanjo_types::outcome::ResultCode;
use kanjo_types::record::{RowKey, Table};
use kanjo_types::stored::Location;
use kanjo_types::{
    ActId, BundleId, ClaimId, Hash, PendingId, RelationId, ScheduleId, TokenId, TransactionId,
    UserId, WalletId,
};
use serde::Deserialize;
use std::sync::Arc;

/// Reads the name of a table.
pub(super) fn parse_table(name: &str) -> Result<Table, ApiError> {
    rows::table_named(name).ok_or_else(|| {
        let names = Table::ALL.map(rows::table_name).join(", ");
        ApiError::bad_request(format!("There is no such table; the tables are {names}."), "table")
    })
}

/// Reads the key of a row: the text form of its id where it has one, or the 64 hexadecimal digits
/// of its key.
pub(super) fn parse_key(table: Table, text: &str) -> Result<RowKey, ApiError> {
    if let Some(key) = rows::key_of_hex(text) {
        return Ok(key);
    }
    Ok(match table {
        Table::Users => RowKey::user(parse(text, "key")?),
        Table::Wallets => RowKey::wallet(parse(text, "key")?),
        Table::Tokens => RowKey::token(TokenId(parse(text, "key")?)),
        Table::Pendings => RowKey::item(parse::<PendingId>(text, "key")?.0),
        Table::Bundles => RowKey::item(parse::<BundleId>(text, "key")?.0),
        Table::Schedules => RowKey::item(parse::<ScheduleId>(text, "key")?.0),
        Table::Acts => RowKey::item(parse::<ActId>(text, "key")?.0),
        Table::Claims => RowKey::item(parse::<ClaimId>(text, "key")?.0),
        Table::Memberships => RowKey::epoch(parse(text, "key")?),
        Table::Relations => RowKey::relation(RelationId(parse(text, "key")?)),
        Table::WalletStates
        | Table::Authorities
        | Table::Terms
        | Table::Freezes
        | Table::Reversals
        | Table::Attributes
        | Table::Rows => RowKey(parse::<Hash>(text, "key")?),
    })
}

fn unknown(code: ResultCode) -> ApiError {
    ApiError::not_found(code.code(), code.sentence(), "key")
}

fn unknown_row(table: Table) -> ApiError {
    match table {
        Table::Users => unknown(ResultCode::UnknownUser),
        Table::Wallets => unknown_wallet(),
        Table::Tokens => unknown(ResultCode::UnknownToken),
        Table::WalletStates => unknown_state(),
        Table::Pendings => unknown(ResultCode::UnknownPending),
        Table::Bundles => unknown(ResultCode::UnknownBundle),
        Table::Schedules => unknown(ResultCode::UnknownSchedule),
        Table::Acts => unknown(ResultCode::UnknownAct),
        Table::Claims => unknown(ResultCode::UnknownClaim),
        Table::Attributes => unknown(ResultCode::UnknownAttribute),
        Table::Relations => unknown(ResultCode::NoSuchRelation),
        Table::Authorities
        | Table::Terms
        | Table::Freezes
        | Table::Reversals
        | Table::Memberships
        | Table::Rows => {
            let sentence = "There is no row with this key in the table.";
            ApiError::not_found("unknown_record", sentence, "key")
        }
    }
}

/// A row by the names in the path, and where its newest version was made, once that is final.
async fn find(api: &Api, table: &str, key: &str) -> Result<(Table, RowKey, Location), ApiError> {
    let table = parse_table(table)?;
    let key = parse_key(table, key)?;
    let at = rows::made_at(&api.shared.ledger.read(), table, key);
    let at = at.ok_or_else(|| unknown_row(table))?;
    wait_final(&api.shared, at.height).await?;
    Ok((table, key, at))
}

/// The newest version of a row of any table. The key is the row's id in text where it has one
/// (user, wallet, token, pending, bundle, schedule, act, claim, epoch), otherwise the 64
/// hexadecimal digits of its key.
#[utoipa::path(get, path = "/v1/records/{table}/{key}", tag = "records",
    params(("table" = String, Path), ("key" = String, Path)),
    responses((status = 200, body = RecordView), (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody)))]
pub(super) async fn record(
    State(api): State<Arc<Api>>,
    Path((table, key)): Path<(String, String)>,
) -> Answer<RecordView> {
    let (table, key, at) = find(&api, &table, &key).await?;
    let view = blocking(move || {
        let mut walk = history::Walk::new(&api.shared);
        Ok(history::version_at(&mut walk, table, key, at)?.0)
    });
    Ok(Json(view.await?))
}

/// Versions of a row of any table, newest first. A page may be short, even empty, when many blocks
/// lie between versions; go on with its `next_cursor`.
#[utoipa::path(get, path = "/v1/records/{table}/{key}/history", tag = "records",
    params(("table" = String, Path), ("key" = String, Path), ("before" = Option<u64>, Query),
        ("cursor" = Option<String>, Query), ("limit" = Option<usize>, Query)),
    responses((status = 200, body = HistoryPage), (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody)))]
pub(super) async fn record_history(
    State(api): State<Arc<Api>>,
    Path((table, key)): Path<(String, String)>,
    Query(query): Query<HistoryQuery>,
) -> Answer<HistoryPage> {
    let (table, key, at) = find(&api, &table, &key).await?;
    Ok(Json(history_page(api, table, key, at, query).await?))
}

#[derive(Debug, Deserialize)]
pub(super) struct ListQuery {
    of: String,
    cursor: Option<String>,
    limit: Option<usize>,
}

/// Reads whom or what a list concerns.
fn parse_subject(text: &str) -> Result<Subject, ApiError> {
    if let Ok(number) = text.parse() {
        return Ok(subjects::token(TokenId(number)));
    }
    if text.starts_with("kju1") {
        return Ok(subjects::user(parse::<UserId>(text, "of")?));
    }
    if text.starts_with("kjw1") {
        return Ok(subjects::wallet(parse::<WalletId>(text, "of")?));
    }
    let sentence = "A list is of a user (kju1…), of a wallet (kjw1…) or of a token (its number).";
    Err(ApiError::bad_request(sentence, "of"))
}

/// Reads a cursor of the form `height.position.row`.
fn parse_place(text: &str) -> Result<RowPlace, ApiError> {
    let mut parts = text.splitn(3, '.');
    let mut place = || {
        Some(RowPlace {
            height: parts.next()?.parse().ok()?,
            position: parts.next()?.parse().ok()?,
            row: parts.next()?.parse().ok()?,
        })
    };
    place().ok_or_else(unknown_cursor)
}

/// Rows that concern a user, a wallet or a token, the newest row first, each in its newest version:
/// of the tables `pendings`, `bundles`, `schedules`, `authorities`, `acts`, `terms`, `freezes`,
/// `reversals`, `claims`, `attributes`. A page may be short; go on with its `next_cursor`.
#[utoipa::path(get, path = "/v1/records/{table}", tag = "records",
    params(("table" = String, Path), ("of" = String, Query), ("cursor" = Option<String>, Query),
        ("limit" = Option<usize>, Query)),
    responses((status = 200, body = RecordPage), (status = 400, body = ErrorBody)))]
pub(super) async fn records(
    State(api): State<Arc<Api>>,
    Path(table): Path<String>,
    Query(query): Query<ListQuery>,
) -> Answer<RecordPage> {
    let table = parse_table(&table)?;
    if !Table::STANDING.contains(&table) {
        let names = Table::STANDING.map(rows::table_name).join(", ");
        let sentence = format!("Lists are of the tables {names}.");
        return Err(ApiError::bad_request(sentence, "table"));
    }
    let subject = parse_subject(&query.of)?;
    let after = query.cursor.as_deref().map(parse_place).transpose()?;
    // Every row costs a block at most.
    let limit = page_limit(query.limit).min(PAGE_BLOCKS_MAX);
    wait_indexed(&api.shared).await?;
    let (api_, number) = (api.clone(), table as u8);
    let found = blocking(move || {
        let found = api_.shared.index.rows_of(&subject, number, limit + 1, after);
        found.map_err(|error| index_error(&error))
    });
    let mut found = found.await?;
    let more = found.len() > limit;
    found.truncate(limit);
    let last = found.last().map(|(place, _)| *place).filter(|_| more);
    let keys: Vec<RowKey> = found.into_iter().map(|(_, key)| RowKey(Hash(key))).collect();
    Ok(Json(RecordPage {
        records: newest_versions(api, table, keys).await?,
        next_cursor: last.map(|at| format!("{}.{}.{}", at.height, at.position, at.row)),
    }))
}

async fn newest_versions(
    api: Arc<Api>,
    table: Table,
    keys: Vec<RowKey>,
) -> Result<Vec<RecordView>, ApiError> {
    let places: Vec<(RowKey, Location)> = {
        let ledger = api.shared.ledger.read();
        let rows = ledger.standing(table);
        keys.into_iter().filter_map(|key| Some((key, rows.get(&key)?.made_at()))).collect()
    };
    let newest = places.iter().map(|(_, at)| at.height).max().unwrap_or(0);
    wait_final(&api.shared, newest).await?;
    blocking(move || {
        let mut walk = history::Walk::new(&api.shared);
        let view = |(key, at)| Ok(history::version_at(&mut walk, table, key, at)?.0);
        places.into_iter().map(view).collect()
    })
    .await
}

/// What a transaction did, provable by the hash of its block's header: what an order to reverse it
/// brings.
#[utoipa::path(get, path = "/v1/transactions/{id}/evidence", tag = "transactions",
    params(("id" = String, Path)),
    responses((status = 200, body = serde_json::Value), (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody)))]
pub(super) async fn evidence_of(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Answer<Evidence> {
    let id: TransactionId = parse(&id, "id")?;
    let at = super::lookup::locate(&api, id).await?;
    let made = blocking(move || {
        evidence::evidence(&api.shared, at).map_err(|error| match error {
            evidence::NoEvidence::History(error) => error.into(),
            evidence::NoEvidence::TooMuch => {
                let sentence = "The transaction changed wallets last changed in more than 512 blocks; \
                                there is no evidence of that size.";
                ApiError::bad_request(sentence, "id")
            }
        })
    });
    Ok(Json(made.await?))
}
