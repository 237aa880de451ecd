//! What a node says about its cluster, under `/v1/cluster`.
//!
//! Unlike all other answers these speak of the present moment as this node sees it, not of final
//! blocks: who can be reached, who lags. What the ledger says (members, their standing, the epoch)
//! is marked as such.

use kanjo_types::membership::{Measurement, MemberKind, MemberStatus};
use kanjo_types::{ChainId, Hash, Table};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A cluster as one of its nodes sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClusterStatus {
    /// Name of the ledger.
    pub ledger: String,
    /// Chain id.
    #[schema(value_type = String)]
    pub chain: ChainId,
    /// Number of the node that answers.
    pub me: u16,
    /// Its name.
    pub name: String,
    /// What it is to the engine that orders blocks.
    pub role: EngineRole,
    /// Why the engine has stopped, or stands still, if so.
    #[serde(default)]
    pub stopped: Option<String>,
    /// Term of the engine.
    pub term: u64,
    /// Number of the node that orders, if it is known.
    pub leader: Option<u16>,
    /// Newest membership that this node has executed.
    pub epoch: u64,
    /// The block that made it.
    pub epoch_height: u64,
    /// Votes that a certificate takes.
    pub quorum: usize,
    /// How far this node is.
    pub heights: Heights,
    /// Voters of the engine: one set, or the old and the new one while they change.
    pub engine_voters: Vec<Vec<u16>>,
    /// Nodes that get all entries and have no vote.
    pub learners: Vec<u16>,
    /// All members there ever were, by number.
    pub nodes: Vec<NodeView>,
    /// The process that signs for this node.
    pub sentinel: SentinelView,
    /// Programs that nodes may run; when empty, none is checked.
    #[schema(value_type = Vec<Object>)]
    pub measurements: Vec<Measurement>,
    /// What this node holds against others.
    pub doubts: Vec<DoubtView>,
    /// Who does what, as this node computes it from what all measured.
    pub roles: Vec<RoleView>,
}

/// What a node is to the engine that orders blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EngineRole {
    /// The only node of its ledger.
    Alone,
    /// Orders.
    Leader,
    /// Stores what the leader ordered, and votes in elections.
    Follower,
    /// Wants to lead.
    Candidate,
    /// Stores what the leader ordered, without a vote.
    Learner,
    /// Has stopped.
    Stopped,
}

/// Heights of one node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Heights {
    /// Newest height with a certificate.
    pub certified: u64,
    /// Newest height that the engine has committed.
    pub committed: Option<u64>,
    /// Newest height in the log.
    pub log: Option<u64>,
    /// Newest height that another member said is final.
    #[serde(default)]
    pub heard: Option<u64>,
}

/// One member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeView {
    /// Its number, for ever.
    pub number: u16,
    /// Its name.
    pub name: String,
    /// Executor or witness.
    #[schema(value_type = String)]
    pub kind: MemberKind,
    /// How it stands in the ledger.
    #[schema(value_type = String)]
    pub status: MemberStatus,
    /// Since which epoch.
    pub since_epoch: u64,
    /// Why; empty when nothing needs saying.
    pub reason: String,
    /// URL of its API.
    pub api: String,
    /// `host:port` of its links.
    pub address: String,
    /// Is the link to it up? Absent for the node that answers, and for removed ones.
    pub connected: Option<bool>,
    /// Why the link is down.
    #[serde(default)]
    pub why: Option<String>,
    /// Time of a message there and back, microseconds.
    #[serde(default)]
    pub round_trip_us: Option<u64>,
    /// Newest final height it told, at most about a second old.
    #[serde(default)]
    pub height: Option<u64>,
    /// How many heights it is behind the node that answers, by what it told, or by the engine's
    /// books when that one leads.
    #[serde(default)]
    pub lag: Option<u64>,
    /// Signature checks per second, by its own test.
    #[serde(default)]
    pub checks_per_s: Option<u64>,
    /// Bytes free where its data is.
    #[serde(default)]
    pub disk_free: Option<u64>,
    /// Share of the recent heights that it voted for in time, in thousandths.
    #[serde(default)]
    pub in_time: Option<u16>,
    /// What its sentinel gave as evidence when this node asked for it.
    #[serde(default)]
    pub evidence: Option<EvidenceView>,
    /// SHA-256 of its program, as its sentinel measured it and it told.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub program: Option<Hash>,
    /// May nodes run this program? Votes of one that may not count nowhere, whatever it tells.
    #[serde(default)]
    pub allowed: Option<bool>,
}

/// What a member's sentinel says of itself, as judged by the node that answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EvidenceView {
    /// `appraised`, `refused` or `unanswered`.
    pub state: String,
    /// When, in milliseconds before now.
    pub age_ms: u64,
    /// Why it was refused, or why there is none.
    #[serde(default)]
    pub why: Option<String>,
    /// What vouches for the sentinel: `software` or `tpm2`.
    #[serde(default)]
    pub attestor: Option<String>,
    /// Is it the attestor of the member's certificate?
    #[serde(default)]
    pub pinned: Option<bool>,
    /// The attestor's count.
    #[serde(default)]
    pub count: Option<u64>,
    /// The highest height that the sentinel voted for.
    #[serde(default)]
    pub highest_vote: Option<u64>,
}

/// The process that signs for a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SentinelView {
    /// `none` (a ledger of one node), `unknown`, `answers`, `silent` or `refuses`.
    pub state: String,
    /// Why it is silent or refuses.
    #[serde(default)]
    pub why: Option<String>,
    /// What vouches for it: `software` or `tpm2`.
    #[serde(default)]
    pub attestor: Option<String>,
    /// SHA-256 of this node's program, as the sentinel measured it.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub program: Option<Hash>,
    /// May nodes run this program?
    #[serde(default)]
    pub allowed: Option<bool>,
}

/// What a node holds against another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DoubtView {
    /// Number of the other.
    pub member: u16,
    /// Its name.
    pub name: String,
    /// How long ago it was noted.
    pub age_ms: u64,
    /// What happened.
    pub why: String,
}

/// What a node does for the others (mission M19).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum NodeRole {
    /// Takes requests of clients and answers them.
    Client,
    /// Is the first choice to order blocks.
    Coordination,
    /// Is the first choice to pass messages on.
    Messaging,
    /// Checks signatures and executes.
    Worker,
    /// Keeps the whole log.
    Persistence,
    /// Keeps the copy to fall back on.
    Backup,
}

impl NodeRole {
    /// All of them, in their order.
    pub const ALL: [Self; 6] = [
        Self::Client,
        Self::Coordination,
        Self::Messaging,
        Self::Worker,
        Self::Persistence,
        Self::Backup,
    ];

    /// Its name, as in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Coordination => "coordination",
            Self::Messaging => "messaging",
            Self::Worker => "worker",
            Self::Persistence => "persistence",
            Self::Backup => "backup",
        }
    }
}

impl std::str::FromStr for NodeRole {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|role| role.name() == text);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("'{text}' is no role; there are {names}")
        })
    }
}

/// A role and who has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RoleView {
    /// Which.
    pub role: NodeRole,
    /// Number of the node.
    pub node: u16,
    /// Its name.
    pub name: String,
    /// Why it has it.
    pub why: String,
}

/// What is asked of `/v1/cluster/leave`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LeaveRequest {
    /// Name of the node that is to leave: the one that is asked.
    pub node: String,
}

/// A node that has left the quorum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Left {
    /// Its name.
    pub node: String,
    /// The membership now.
    pub epoch: u64,
}

/// What a node's tables hold at one height.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum TablesAnswer {
    /// The roots.
    Roots(TableRoots),
    /// The tables are beyond this height already: ask for a later one.
    Passed {
        /// Where they are.
        height: u64,
    },
    /// The height did not come within the time to wait.
    NotReached {
        /// Where they are.
        height: u64,
    },
    /// A witness: it holds no tables.
    NoTables,
}

/// Roots of all tables at a height.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TableRoots {
    /// Which height; it is final.
    pub height: u64,
    /// Hash of its header.
    #[schema(value_type = String)]
    pub header: Hash,
    /// Root over all tables, as the trees of this node give it.
    #[schema(value_type = String)]
    pub state_root: Hash,
    /// Table by table.
    pub tables: Vec<TableRoot>,
}

/// Roots of one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TableRoot {
    /// Which.
    #[schema(value_type = String)]
    pub table: Table,
    /// Rows in it.
    pub rows: u64,
    /// Its root: the node of the state tree above its partitions.
    #[schema(value_type = String)]
    pub root: Hash,
    /// Roots of its 64 partitions.
    #[schema(value_type = Vec<String>)]
    pub partitions: Vec<Hash>,
}
