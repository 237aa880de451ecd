//! The typed calls.

use crate::error::ClientError;
use crate::transport::{Limits, Transport};
use kanjo_api::{
    BlockPage, BlockView, HistoryPage, RecordView, Status, TokenView, TransactionView, UserView,
    WalletView,
};
use kanjo_types::{Genesis, TokenId, TransactionId, UserId, WalletId};

/// Which part of a listing, newest first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Page {
    /// Only what is older than this version or height.
    pub before: Option<u64>,
    /// How many at most; the node caps it at `kanjo_api::PAGE_MAX`.
    pub limit: Option<usize>,
}

/// A node, spoken to over HTTP. Cheap to clone; clones share connections. Safe to use from many
/// threads.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) transport: Transport,
}

impl Client {
    /// A client of the node or gateway at `url`, such as `http://127.0.0.1:8480`, or of several of
    /// one ledger, with commas between them: when one can't be reached, the next is spoken to. Does
    /// not connect yet.
    ///
    /// # Errors
    /// [`ClientError::BadUrl`].
    pub fn new(url: &str) -> Result<Self, ClientError> {
        Self::with_limits(url, Limits::default())
    }

    /// Like [`Client::new`] with other bounds.
    ///
    /// # Errors
    /// [`ClientError::BadUrl`].
    pub fn with_limits(url: &str, limits: Limits) -> Result<Self, ClientError> {
        Ok(Self { transport: Transport::new(url, limits)? })
    }

    /// The address of the node that is spoken to.
    #[must_use]
    pub fn url(&self) -> &str {
        self.transport.base()
    }

    /// The node and its ledger.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn status(&self) -> Result<Status, ClientError> {
        self.transport.get_json("/v1/status")
    }

    /// The genesis as the node tells it. Don't check proofs against it: use a copy you trust.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn genesis(&self) -> Result<Genesis, ClientError> {
        self.transport.get_json("/v1/genesis")
    }

    /// A transaction in a final block.
    ///
    /// # Errors
    /// Any [`ClientError`]; [`ClientError::is_not_found`] when it is in no final block.
    pub fn transaction(&self, id: TransactionId) -> Result<TransactionView, ClientError> {
        self.transport.get_json(&format!("/v1/transactions/{id}"))
    }

    /// A wallet and its balances.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn wallet(&self, id: WalletId) -> Result<WalletView, ClientError> {
        self.transport.get_json(&format!("/v1/wallets/{id}"))
    }

    /// Versions of a wallet's balance in one token, newest first.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn history(
        &self,
        wallet: WalletId,
        token: TokenId,
        page: Page,
    ) -> Result<HistoryPage, ClientError> {
        let path = format!("/v1/wallets/{wallet}/history?token={token}{}", page_query(page, '&'));
        self.transport.get_json(&path)
    }

    /// One version of a wallet's balance; the newest when `version` is `None`.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn wallet_state(
        &self,
        wallet: WalletId,
        token: TokenId,
        version: Option<u64>,
    ) -> Result<RecordView, ClientError> {
        let version = version_query(version);
        self.transport.get_json(&format!("/v1/wallets/{wallet}/states/{token}{version}"))
    }

    /// A user.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn user(&self, id: UserId) -> Result<UserView, ClientError> {
        self.transport.get_json(&format!("/v1/users/{id}"))
    }

    /// All tokens.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn tokens(&self) -> Result<Vec<TokenView>, ClientError> {
        self.transport.get_json("/v1/tokens")
    }

    /// A token.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn token(&self, id: TokenId) -> Result<TokenView, ClientError> {
        self.transport.get_json(&format!("/v1/tokens/{id}"))
    }

    /// Blocks, newest first.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn blocks(&self, page: Page) -> Result<BlockPage, ClientError> {
        self.transport.get_json(&format!("/v1/blocks{}", page_query(page, '?')))
    }

    /// One block.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn block(&self, height: u64) -> Result<BlockView, ClientError> {
        self.transport.get_json(&format!("/v1/blocks/{height}"))
    }

    /// The node's measurements in the Prometheus text format.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn metrics(&self) -> Result<String, ClientError> {
        let bytes = self.transport.get("/metrics")?;
        String::from_utf8(bytes).map_err(|_| self.transport.bad_answer("metrics that are not text"))
    }
}

/// Proof files, as the JSON text the node gives. Check them with `kanjo-proof` against a genesis
/// you trust.
impl Client {
    /// That a wallet exists, or does not.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn proof_of_wallet(&self, id: WalletId) -> Result<String, ClientError> {
        self.proof(&format!("wallets/{id}"))
    }

    /// A wallet's balance in one token (the newest version when `version` is `None`), or that there
    /// is none.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn proof_of_state(
        &self,
        wallet: WalletId,
        token: TokenId,
        version: Option<u64>,
    ) -> Result<String, ClientError> {
        self.proof(&format!("wallets/{wallet}/states/{token}{}", version_query(version)))
    }

    /// That a user exists, or does not.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn proof_of_user(&self, id: UserId) -> Result<String, ClientError> {
        self.proof(&format!("users/{id}"))
    }

    /// A token, or that there is none of this number.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn proof_of_token(&self, id: TokenId) -> Result<String, ClientError> {
        self.proof(&format!("tokens/{id}"))
    }

    /// That a transaction is in a final block, and what came of it.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn proof_of_transaction(&self, id: TransactionId) -> Result<String, ClientError> {
        self.proof(&format!("transactions/{id}"))
    }

    /// That a block is part of the ledger.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn proof_of_block(&self, height: u64) -> Result<String, ClientError> {
        self.proof(&format!("blocks/{height}"))
    }

    /// That the ledger at height `to` extends the ledger at height `from`.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn proof_of_extension(&self, from: u64, to: u64) -> Result<String, ClientError> {
        self.proof(&format!("extends?from={from}&to={to}"))
    }

    pub(crate) fn proof(&self, path: &str) -> Result<String, ClientError> {
        let bytes = self.transport.get(&format!("/v1/proofs/{path}"))?;
        String::from_utf8(bytes).map_err(|_| self.transport.bad_answer("a proof that is not text"))
    }
}

fn version_query(version: Option<u64>) -> String {
    version.map_or_else(String::new, |version| format!("?version={version}"))
}

pub(crate) fn page_query(page: Page, mut separator: char) -> String {
    let mut query = String::new();
    let before = page.before.map(|before| ("before", before));
    let limit = page.limit.map(|limit| ("limit", limit as u64));
    for (name, value) in before.into_iter().chain(limit) {
        query.push(separator);
        query.push_str(&format!("{name}={value}"));
        separator = '&';
    }
    query
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_become_queries() {
        assert_eq!(page_query(Page::default(), '?'), "");
        let both = Page { before: Some(9), limit: Some(20) };
        assert_eq!(page_query(both, '?'), "?before=9&limit=20");
        assert_eq!(page_query(both, '&'), "&before=9&limit=20");
        assert_eq!(page_query(Page { before: None, limit: Some(1) }, '?'), "?limit=1");
    }
}
