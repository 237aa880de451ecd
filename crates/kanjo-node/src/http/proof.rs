//! Proofs over HTTP, as proof files.

use super::error::ApiError;
use super::extract::{Path, Query};
use super::lookup::{
    VersionQuery, blocking, find_version, locate, newest_state, parse, unknown_block, unknown_state,
};
use super::record::{parse_key, parse_table};
use super::{Answer, Api};
use crate::history::{self, Walk, read_block, read_header, rows_at};
use crate::memberships;
use crate::proofs::{ProofAnswer, ProofQuery, ProvenAt, STATES_MAX, Wanted};
use crate::shared::{Shared, ToSequencer};
use axum::Json;
use axum::extract::State;
use crossbeam_channel::TrySendError;
use kanjo_api::ErrorBody;
use kanjo_ledger::block::{receipt_hash, rows_root};
use kanjo_proof::file::ProofFile;
use kanjo_proof::merkle;
use kanjo_proof::proof::{
    AbsenceProof, BlockProof, ExtendsProof, LaterHeader, Proof, ProvenLeaf, ProvenReceipt,
    ProvenRow, ProvenTransaction, ReversalProof, StateProof, TransactionProof, VersionProof,
    WalletProof,
};
use kanjo_proof::trust::SignedHeader;
use kanjo_types::outcome::Refusal;
use kanjo_types::record::RowKey;
use kanjo_types::stored::{Block, Location, decode_signed, genesis_receipt};
use kanjo_types::transaction::Refused;
use kanjo_types::{Hash, Table, TokenId, TransactionId, UserId, WalletId};
use serde::Deserialize;
use std::sync::Arc;
use tokio::sync::oneshot;

/// A proof with the memberships that lead from the genesis to the voters who signed it.
fn file(shared: &Shared, proof: Proof) -> Result<Json<ProofFile>, ApiError> {
    let memberships = memberships::proofs(shared, proof.epoch())?;
    Ok(Json(ProofFile::new(shared.chain, proof).with_memberships(memberships)))
}

async fn ask(api: &Api, wanted: Wanted) -> Result<ProofAnswer, ApiError> {
    if wanted.key() == RowKey::MIN || wanted.key() == RowKey::MAX {
        // The bounds have these keys; what lies beyond them can't be proven.
        let sentence = "No row has an id of all zeros, or a key of all ones.";
        return Err(ApiError::bad_request(sentence, "id"));
    }
    let (reply, answer) = oneshot::channel();
    match api.sequencer.try_send(ToSequencer::Proof(ProofQuery { wanted, reply })) {
        Ok(()) => answer.await.map_err(|_| ApiError::stopped()),
        Err(TrySendError::Full(_)) => Err(Refused::new(Refusal::Overloaded, "node").into()),
        Err(TrySendError::Disconnected(_)) => Err(ApiError::stopped()),
    }
}

fn damaged(height: u64) -> ApiError {
    history::HistoryError::NoSuchVersion { height }.into()
}

/// The row of a leaf: its record is read from the block that made it.
fn row(walk: &mut Walk<'_>, table: Table, proven: ProvenAt) -> Result<ProvenRow, ApiError> {
    let at = proven.made_at.ok_or_else(|| damaged(0))?;
    let (view, _) = history::version_at(walk, table, proven.leaf.key, at)?;
    if view.hash != proven.leaf.row {
        return Err(damaged(at.height));
    }
    Ok(ProvenRow { record: view.record, next: proven.leaf.next, path: proven.path })
}

fn leaf(proven: ProvenAt) -> ProvenLeaf {
    ProvenLeaf { leaf: proven.leaf, path: proven.path }
}

/// Existence of the row asked for, or its absence.
fn state_proof(shared: &Shared, answer: ProofAnswer) -> Result<Proof, ApiError> {
    if answer.floor.leaf.key != answer.key {
        let ProofAnswer { at, table, key, floor, .. } = answer;
        return Ok(Proof::Absence(AbsenceProof { at, table, key, low: leaf(floor) }));
    }
    let mut walk = Walk::new(shared);
    let row = row(&mut walk, answer.table, answer.floor)?;
    Ok(Proof::State(StateProof { at: answer.at, row }))
}

async fn row_proof(api: Arc<Api>, wanted: Wanted) -> Answer<ProofFile> {
    let answer = ask(&api, wanted).await?;
    blocking(move || file(&api.shared, state_proof(&api.shared, answer)?)).await
}

/// Proof of a user's present record, or of its absence.
#[utoipa::path(get, path = "/v1/proofs/users/{id}", tag = "proofs", params(("id" = String, Path)),
    responses((status = 200, body = serde_json::Value), (status = 400, body = ErrorBody)))]
pub(super) async fn user(State(api): State<Arc<Api>>, Path(id): Path<String>) -> Answer<ProofFile> {
    let id: UserId = parse(&id, "user")?;
    row_proof(api, Wanted::User(id)).await
}

/// Proof of the newest version of a row of any table, or of its absence. The key is as in
/// `/v1/records`.
#[utoipa::path(get, path = "/v1/proofs/records/{table}/{key}", tag = "proofs",
    params(("table" = String, Path), ("key" = String, Path)),
    responses((status = 200, body = serde_json::Value), (status = 400, body = ErrorBody)))]
pub(super) async fn record(
    State(api): State<Arc<Api>>,
    Path((table, key)): Path<(String, String)>,
) -> Answer<ProofFile> {
    let table = parse_table(&table)?;
    let key = parse_key(table, &key)?;
    row_proof(api, Wanted::Row(table, key)).await
}

/// Proof of a token's present record, or of its absence.
#[utoipa::path(get, path = "/v1/proofs/tokens/{id}", tag = "proofs", params(("id" = u32, Path)),
    responses((status = 200, body = serde_json::Value), (status = 400, body = ErrorBody)))]
pub(super) async fn token(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Answer<ProofFile> {
    let id = TokenId(parse(&id, "token")?);
    if id == TokenId(0) || id == TokenId(u32::MAX) {
        return Err(ApiError::bad_request("Token numbers are 1 to 4,294,967,294.", "token"));
    }
    row_proof(api, Wanted::Token(id)).await
}

/// Proof of a wallet and everything it holds, or of its absence.
#[utoipa::path(get, path = "/v1/proofs/wallets/{id}", tag = "proofs", params(("id" = String, Path)),
    responses((status = 200, body = serde_json::Value), (status = 400, body = ErrorBody)))]
pub(super) async fn wallet(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Answer<ProofFile> {
    let id: WalletId = parse(&id, "wallet")?;
    let answer = ask(&api, Wanted::Wallet(id)).await?;
    blocking(move || {
        let shared = &api.shared;
        if answer.floor.leaf.key != answer.key {
            return file(shared, state_proof(shared, answer)?);
        }
        if answer.states.len() >= STATES_MAX {
            let sentence =
                "The wallet holds too many tokens for one proof; prove its states one by one.";
            return Err(ApiError::bad_request(sentence, "wallet"));
        }
        let mut walk = Walk::new(shared);
        let wallet = row(&mut walk, Table::Wallets, answer.floor)?;
        let states = answer.states.into_iter();
        let states = states
            .map(|state| row(&mut walk, Table::WalletStates, state))
            .collect::<Result<Vec<_>, _>>()?;
        let low = leaf(answer.low.ok_or_else(|| damaged(0))?);
        file(shared, Proof::Wallet(WalletProof { at: answer.at, wallet, low, states }))
    })
    .await
}

/// Proof of a wallet's present state in one token, of its absence, or with `version` of a past
/// version.
#[utoipa::path(get, path = "/v1/proofs/wallets/{id}/states/{token}", tag = "proofs",
    params(("id" = String, Path), ("token" = u32, Path), ("version" = Option<u64>, Query)),
    responses((status = 200, body = serde_json::Value), (status = 404, body = ErrorBody)))]
pub(super) async fn state(
    State(api): State<Arc<Api>>,
    Path((id, token)): Path<(String, String)>,
    Query(query): Query<VersionQuery>,
) -> Answer<ProofFile> {
    let id: WalletId = parse(&id, "wallet")?;
    let token = TokenId(parse(&token, "token")?);
    if token == TokenId(0) || token == TokenId(u32::MAX) {
        return Err(ApiError::bad_request("Token numbers are 1 to 4,294,967,294.", "token"));
    }
    if query.version.is_none() {
        return row_proof(api, Wanted::State(id, token)).await;
    }
    let newest = newest_state(&api, id, token).await?;
    let view = find_version(api.clone(), id, token, newest, query.version).await?;
    let at = Location { height: view.height, position: view.position };
    let key = RowKey::wallet_state(id, token);
    blocking(move || {
        let block = read_block(&api.shared, at.height)?;
        let proof =
            version_proof(&block, Table::WalletStates, key, at).ok_or_else(unknown_state)?;
        file(&api.shared, Proof::Version(proof))
    })
    .await
}

fn signed_header(block: &Block) -> SignedHeader {
    SignedHeader { header: block.header.clone(), certificate: block.certificate.clone() }
}

fn version_proof(block: &Block, table: Table, key: RowKey, at: Location) -> Option<VersionProof> {
    let rows = rows_at(block, at.position);
    let index = rows.iter().position(|row| row.record.place() == Some((table, key)))?;
    let hashes: Vec<Hash> = rows.iter().map(|row| row.hash).collect();
    Some(VersionProof {
        at: signed_header(block),
        record: rows.get(index)?.record.clone(),
        index: u32::try_from(index).ok()?,
        path: merkle::inclusion(&hashes, index)?,
        receipt: proven_receipt(block, at.position)?,
        transaction: proven_transaction(block, at.position),
    })
}

fn proven_receipt(block: &Block, position: u32) -> Option<ProvenReceipt> {
    if block.header.height == 0 {
        let rows = &block.genesis_rows;
        let receipt = genesis_receipt(block.header.chain, rows.len(), rows_root(rows));
        return Some(ProvenReceipt { receipt, position: 0, path: Vec::new() });
    }
    let hashes: Vec<Hash> = block.entries.iter().map(receipt_hash).collect();
    let entry = block.entries.get(position as usize)?;
    let receipt = entry.receipt(rows_root(&entry.rows));
    Some(ProvenReceipt { receipt, position, path: merkle::inclusion(&hashes, position as usize)? })
}

fn proven_transaction(block: &Block, position: u32) -> Option<ProvenTransaction> {
    let entry = block.entries.get(position as usize)?;
    let hashes: Vec<Hash> = block.entries.iter().map(|entry| entry.hash).collect();
    let (signed, _) = decode_signed(&entry.raw).ok()?;
    let path = merkle::inclusion(&hashes, position as usize)?;
    Some(ProvenTransaction { signed, record: entry.record.clone(), path })
}

/// Proof of a transaction and what came of it.
#[utoipa::path(get, path = "/v1/proofs/transactions/{id}", tag = "proofs", params(("id" = String, Path)),
    responses((status = 200, body = serde_json::Value), (status = 404, body = ErrorBody)))]
pub(super) async fn transaction(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Answer<ProofFile> {
    let id: TransactionId = parse(&id, "id")?;
    let at = locate(&api, id).await?;
    blocking(move || {
        let proof = transaction_proof(&api.shared, at)?;
        file(&api.shared, Proof::Transaction(proof))
    })
    .await
}

fn transaction_proof(shared: &Shared, at: Location) -> Result<TransactionProof, ApiError> {
    let block = read_block(shared, at.height)?;
    let made = || {
        Some(TransactionProof {
            at: signed_header(&block),
            transaction: proven_transaction(&block, at.position)?,
            receipt: proven_receipt(&block, at.position)?,
        })
    };
    made().ok_or_else(|| damaged(at.height))
}

#[derive(Debug, Deserialize)]
pub(super) struct TokenQuery {
    token: Option<u32>,
}

/// Proof that a transaction was reversed in a token (by default token 1), or that money was
/// followed through it: the transaction, what was done with it, and the act that ordered it.
/// Otherwise proof that it was not.
#[utoipa::path(get, path = "/v1/proofs/reversals/{id}", tag = "proofs",
    params(("id" = String, Path), ("token" = Option<u32>, Query)),
    responses((status = 200, body = serde_json::Value), (status = 404, body = ErrorBody)))]
pub(super) async fn reversal(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    Query(query): Query<TokenQuery>,
) -> Answer<ProofFile> {
    let id: TransactionId = parse(&id, "id")?;
    let at = locate(&api, id).await?;
    let answer = ask(&api, Wanted::Reversal(id, TokenId(query.token.unwrap_or(1)))).await?;
    blocking(move || {
        let shared = &api.shared;
        let ProofAnswer { at: header, table, floor, act: Some(act), .. } = answer else {
            return file(shared, state_proof(shared, answer)?);
        };
        let mut walk = Walk::new(shared);
        let proof = ReversalProof {
            original: transaction_proof(shared, at)?,
            reversal: StateProof { at: header.clone(), row: row(&mut walk, table, floor)? },
            act: StateProof { at: header, row: row(&mut walk, Table::Acts, act)? },
        };
        file(shared, Proof::Reversal(Box::new(proof)))
    })
    .await
}

/// The final header at `height`.
fn header_at(shared: &Shared, height: u64) -> Result<SignedHeader, ApiError> {
    let tip = shared.tip().height;
    if height > tip {
        return Err(unknown_block(height, tip));
    }
    Ok(read_header(shared, height)?)
}

/// `later`, with the place of block `height` in its history.
fn later(shared: &Shared, height: u64, later: SignedHeader) -> Result<LaterHeader, ApiError> {
    let size = later.header.height;
    let path = shared.history.read().inclusion(height, size);
    Ok(LaterHeader { at: later, path: path.ok_or_else(|| damaged(height))? })
}

/// Proof that a block is final and part of the newest block's history.
#[utoipa::path(get, path = "/v1/proofs/blocks/{height}", tag = "proofs", params(("height" = u64, Path)),
    responses((status = 200, body = serde_json::Value), (status = 404, body = ErrorBody)))]
pub(super) async fn block(
    State(api): State<Arc<Api>>,
    Path(height): Path<String>,
) -> Answer<ProofFile> {
    let height: u64 = parse(&height, "height")?;
    blocking(move || {
        let shared = &api.shared;
        let at = header_at(shared, height)?;
        let tip = shared.tip().height;
        let within =
            if tip > height { Some(later(shared, height, header_at(shared, tip)?)?) } else { None };
        file(shared, Proof::Block(BlockProof { at, within }))
    })
    .await
}

#[derive(Debug, Deserialize)]
pub(super) struct ExtendsQuery {
    from: u64,
    to: Option<u64>,
}

/// Proof that the ledger at height `to` (by default the newest) extends the ledger at height
/// `from`.
#[utoipa::path(get, path = "/v1/proofs/extends", tag = "proofs",
    params(("from" = u64, Query), ("to" = Option<u64>, Query)),
    responses((status = 200, body = serde_json::Value), (status = 404, body = ErrorBody)))]
pub(super) async fn extends(
    State(api): State<Arc<Api>>,
    Query(query): Query<ExtendsQuery>,
) -> Answer<ProofFile> {
    blocking(move || {
        let shared = &api.shared;
        let (from, to) = (query.from, query.to.unwrap_or_else(|| shared.tip().height));
        if from >= to {
            let sentence = format!("from ({from}) must be below to ({to}).");
            return Err(ApiError::bad_request(sentence, "from"));
        }
        let earlier = header_at(shared, from)?;
        let later = later(shared, from, header_at(shared, to)?)?;
        let consistency = shared.history.read().consistency(from, to);
        let consistency = consistency.ok_or_else(|| damaged(from))?;
        file(shared, Proof::Extends(ExtendsProof { earlier, later, consistency }))
    })
    .await
}
