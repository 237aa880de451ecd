//! The commands, one module for each noun.

mod act;
mod attribute;
mod block;
mod bundle;
mod claim;
mod cluster;
mod dev;
mod freeze;
mod gateway;
mod init;
mod interest;
mod key;
mod listing;
mod node;
mod node_member;
mod pay;
mod pending;
mod proof;
mod recovery;
mod reverse;
mod schedule;
#[cfg(feature = "sql")]
mod sql;
mod status;
mod terms;
mod token;
mod token_rules;
mod tx;
mod user;
mod verify;
mod wallet;

pub use self::wallet::{WalletCommand, history_lines, wallet};
pub use act::{ActCommand, act};
pub use attribute::{AttributeCommand, attribute};
pub use block::{BlockCommand, block};
pub use bundle::{BundleCommand, bundle};
pub use claim::{ClaimCommand, claim};
pub use cluster::{
    ClusterCommand, ClusterPlan, NodePlan, cluster, free_places, own_measurement, wait_ready,
};
pub use dev::{DevArgs, dev};
pub use freeze::{FreezeArgs, UnfreezeArgs, freeze, unfreeze};
pub use gateway::{GatewayArgs, gateway};
pub use init::{InitArgs, Plan, init, vsm_and_jpy};
pub use interest::{InterestCommand, interest};
pub use key::{KeyCommand, key};
pub use node::{NodeArgs, node};
pub use pay::{PayArgs, pay};
pub use pending::{PendingCommand, pending};
pub use proof::{ProofCommand, proof, read_genesis};
pub use recovery::{RecoveryCommand, recovery};
pub use reverse::{ReverseArgs, reverse};
pub use schedule::{ScheduleCommand, schedule};
#[cfg(feature = "sql")]
pub use sql::{SqlArgs, sql};
pub use status::{GenesisArgs, genesis, status};
pub use terms::{TermsCommand, terms};
pub use token::{TokenCommand, parse_amount, token};
pub use tx::{TxCommand, tx};
pub use user::{UserCommand, user};
pub use verify::{VerifyArgs, verify};
