//! Records of any table, their proofs, and the evidence that reversals bring.

use crate::client::{Client, Page, page_query};
use crate::error::ClientError;
use kanjo_api::{HistoryPage, RecordPage, RecordView};
use kanjo_types::money::Evidence;
use kanjo_types::record::{RowKey, Table};
use kanjo_types::{TokenId, TransactionId, UserId, WalletId};

/// Whom or what listed rows concern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// A user.
    User(UserId),
    /// A wallet.
    Wallet(WalletId),
    /// A token.
    Token(TokenId),
}

impl std::fmt::Display for Of {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::User(id) => id.fmt(f),
            Self::Wallet(id) => id.fmt(f),
            Self::Token(id) => id.fmt(f),
        }
    }
}

/// The name of a table as in addresses, such as `wallet_states`.
#[must_use]
pub fn table_name(table: Table) -> &'static str {
    match table {
        Table::Users => "users",
        Table::Wallets => "wallets",
        Table::Tokens => "tokens",
        Table::WalletStates => "wallet_states",
        Table::Pendings => "pendings",
        Table::Bundles => "bundles",
        Table::Schedules => "schedules",
        Table::Authorities => "authorities",
        Table::Acts => "acts",
        Table::Terms => "terms",
        Table::Freezes => "freezes",
        Table::Reversals => "reversals",
        Table::Claims => "claims",
        Table::Attributes => "attributes",
        Table::Memberships => "memberships",
        Table::Relations => "relations",
        Table::Rows => "rows",
    }
}

impl Client {
    /// The newest version of a row.
    ///
    /// # Errors
    /// Any [`ClientError`]; [`ClientError::is_not_found`] when there is no such row.
    pub fn record(&self, table: Table, key: RowKey) -> Result<RecordView, ClientError> {
        self.transport.get_json(&row_path(table, key))
    }

    /// Versions of a row, newest first.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn record_history(
        &self,
        table: Table,
        key: RowKey,
        page: Page,
    ) -> Result<HistoryPage, ClientError> {
        let query = page_query(page, '?');
        self.transport.get_json(&format!("{}/history{query}", row_path(table, key)))
    }

    /// The rows of a table that concern a user, a wallet or a token, newest first. `cursor` is the
    /// `next_cursor` of the page before.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn records(
        &self,
        table: Table,
        of: Of,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<RecordPage, ClientError> {
        let cursor = cursor.map_or_else(String::new, |cursor| format!("&cursor={cursor}"));
        let table = table_name(table);
        self.transport.get_json(&format!("/v1/records/{table}?of={of}&limit={limit}{cursor}"))
    }

    /// A proof of a row of any table, or that there is none.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn proof_of_record(&self, table: Table, key: RowKey) -> Result<String, ClientError> {
        self.proof(&format!("records/{}/{}", table_name(table), key.0))
    }

    /// A proof of what a reversal did with a transaction in a token: the transaction, what was done
    /// with it, and the act that ordered it; or a proof that it was not reversed.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn proof_of_reversal(
        &self,
        original: TransactionId,
        token: TokenId,
    ) -> Result<String, ClientError> {
        self.proof(&format!("reversals/{original}?token={token}"))
    }

    /// What a transaction did, provable against the hash of its block's header.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn evidence(&self, id: TransactionId) -> Result<Evidence, ClientError> {
        self.transport.get_json(&format!("/v1/transactions/{id}/evidence"))
    }

    /// The evidence of several transactions, in their order: what agreeing to a reversal brings,
    /// for the originals and then the trail of its act.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn evidence_of(&self, ids: &[TransactionId]) -> Result<Vec<Evidence>, ClientError> {
        ids.iter().map(|id| self.evidence(*id)).collect()
    }

    /// Fetches what a reversal of `originals` brings, following the money through `trail`, and puts
    /// it in the order that the ledger wants.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn reversal_parts(
        &self,
        originals: &[TransactionId],
        trail: &[TransactionId],
    ) -> Result<ReversalParts, ClientError> {
        Ok(ReversalParts::new(self.evidence_of(originals)?, self.evidence_of(trail)?))
    }
}

/// The transactions of a reversal in the ledger's order, with their evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReversalParts {
    /// What is undone, newest first.
    pub originals: Vec<TransactionId>,
    /// By which the money moved on, oldest first.
    pub trail: Vec<TransactionId>,
    /// Of the originals, then of the trail.
    pub evidence: Vec<Evidence>,
}

impl ReversalParts {
    /// Orders the evidence: originals newest first, trail oldest first.
    #[must_use]
    pub fn new(mut originals: Vec<Evidence>, mut trail: Vec<Evidence>) -> Self {
        let place = |evidence: &Evidence| (evidence.header.height, evidence.record.position);
        originals.sort_by_key(|evidence| std::cmp::Reverse(place(evidence)));
        trail.sort_by_key(place);
        let ids = |list: &[Evidence]| list.iter().map(|evidence| evidence.record.id).collect();
        Self {
            originals: ids(&originals),
            trail: ids(&trail),
            evidence: originals.into_iter().chain(trail).collect(),
        }
    }
}

fn row_path(table: Table, key: RowKey) -> String {
    format!("/v1/records/{}/{}", table_name(table), key.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kanjo_types::record::TransactionRecord;
    use kanjo_types::{ChainId, Hash, Header, Receipt, ResultCode};

    #[test]
    fn tables_are_named_as_in_json() {
        for table in Table::ALL {
            let json = serde_json::to_string(&table).expect("json");
            assert_eq!(json, format!("\"{}\"", table_name(table)));
        }
    }

    fn evidence(height: u64, position: u32) -> Evidence {
        let id = TransactionId(Hash([height as u8 * 16 + position as u8; 32]));
        let header = Header {
            version: 1,
            chain: ChainId::default(),
            height,
            parents: vec![],
            time_ms: 0,
            producer: 0,
            transactions: 1,
            transactions_root: Hash::ZERO,
            receipts_root: Hash::ZERO,
            state_root: Hash::ZERO,
            history_root: Hash::ZERO,
            fees: vec![],
            supply: vec![],
        };
        let record = TransactionRecord {
            id,
            witness: Hash::ZERO,
            height,
            position,
            time_ms: 0,
            author_record: Hash::ZERO,
            spent: Vec::new(),
        };
        let receipt = Receipt {
            id,
            transaction: Hash::ZERO,
            result: ResultCode::Ok,
            failed_operation: None,
            rows_root: Hash::ZERO,
            rows: 0,
        };
        Evidence { header, record, receipt, path: vec![], rows: vec![], before: vec![] }
    }

    #[test]
    fn originals_come_newest_first_and_the_trail_oldest_first() {
        let list = |places: &[(u64, u32)]| places.iter().map(|(h, p)| evidence(*h, *p)).collect();
        let parts =
            ReversalParts::new(list(&[(3, 1), (5, 0), (3, 2)]), list(&[(9, 0), (6, 1), (6, 0)]));
        let first = |ids: &[TransactionId]| ids.iter().map(|id| id.0.0[0]).collect::<Vec<_>>();
        assert_eq!(first(&parts.originals), [5 * 16, 3 * 16 + 2, 3 * 16 + 1]);
        assert_eq!(first(&parts.trail), [6 * 16, 6 * 16 + 1, 9 * 16]);
        let of_evidence: Vec<TransactionId> =
            parts.evidence.iter().map(|evidence| evidence.record.id).collect();
        assert_eq!(of_evidence, [parts.originals, parts.trail].concat());
    }
}
