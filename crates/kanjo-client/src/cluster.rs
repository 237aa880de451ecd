//! What a node says about its cluster, and finding the node that takes transactions.

use crate::client::Client;
use crate::error::ClientError;
use crate::transport::{Accept, Content, Lost};
use kanjo_api::cluster::{ClusterStatus, LeaveRequest, Left, TablesAnswer};
use kanjo_types::membership::Membership;
use serde::de::DeserializeOwned;

impl Client {
    /// The cluster as the node sees it now.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn cluster(&self) -> Result<ClusterStatus, ClientError> {
        self.transport.get_json("/v1/cluster")
    }

    /// A client of the node that takes transactions, as far as this node knows one; of this node
    /// itself when it is the one.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn leader(&self) -> Result<Option<Self>, ClientError> {
        let status = self.cluster()?;
        let Some(leader) = status.leader else { return Ok(None) };
        if leader == status.me {
            return Ok(Some(self.clone()));
        }
        let node = status.nodes.iter().find(|node| node.number == leader);
        node.map(|node| Self::with_limits(&node.api, self.transport.limits)).transpose()
    }

    /// Roots of all tables at exactly one height; the node waits some seconds for one that is not
    /// reached yet.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn tables(&self, height: u64) -> Result<TablesAnswer, ClientError> {
        self.transport.get_json(&format!("/v1/cluster/tables?height={height}"))
    }

    /// One membership, by its epoch.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn membership(&self, epoch: u64) -> Result<Membership, ClientError> {
        self.transport.get_json(&format!("/v1/cluster/memberships/{epoch}"))
    }

    /// Proofs of the memberships above an epoch, in a form of the caller's: `kanjo-proof` has it.
    /// A node gives at most 256 at a time.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn membership_proofs<T: DeserializeOwned>(
        &self,
        after: u64,
    ) -> Result<Vec<T>, ClientError> {
        self.transport.get_json(&format!("/v1/proofs/memberships?after={after}"))
    }

    /// Has the node with this name leave the quorum; it must be the one that is asked, and on this
    /// machine.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn leave(&self, node: &str) -> Result<Left, ClientError> {
        let request = LeaveRequest { node: node.to_owned() };
        let bytes = serde_json::to_vec(&request)
            .map_err(|error| self.transport.bad_answer(&format!("can't write JSON: {error}")))?;
        let content = Content { media_type: "application/json", bytes: &bytes };
        let answer = self.transport.post_once("/v1/cluster/leave", content, Accept::Json);
        self.transport.parse_json(&answer.map_err(Lost::into_error)?)
    }
}
