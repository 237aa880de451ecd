//! The OpenAPI document, made from the handlers' own descriptions.

use super::{cluster, lookup, proof, record, stream, submit};
use axum::Json;
use utoipa::OpenApi;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Kanjo",
        description = "A relational ledger for digital money. Every answer speaks of final blocks: certified \
                       and on disk. Amounts are strings of digits in the token's smallest unit."
    ),
    paths(
        lookup::status,
        lookup::genesis,
        submit::submit,
        lookup::transaction,
        record::evidence_of,
        record::records,
        record::record,
        record::record_history,
        lookup::wallet,
        lookup::wallet_history,
        lookup::wallet_state,
        lookup::user,
        lookup::tokens,
        lookup::token,
        lookup::blocks,
        lookup::block,
        proof::wallet,
        proof::state,
        proof::user,
        proof::token,
        proof::record,
        proof::transaction,
        proof::reversal,
        proof::block,
        proof::extends,
        cluster::memberships,
        cluster::cluster,
        cluster::tables,
        cluster::membership,
        cluster::leave,
        stream::blocks,
        stream::wallet,
        document,
        super::live,
        super::ready,
        super::metrics,
    )
)]
struct Document;

/// This document.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "operation",
    responses((status = 200, body = serde_json::Value)))]
pub(super) async fn document() -> Json<utoipa::openapi::OpenApi> {
    Json(Document::openapi())
}
