//! The commands, one module for each noun.

mod block;
mod dev;
mod init;
mod key;
mod node;
mod pay;
mod proof;
mod status;
mod token;
mod tx;
mod user;
mod verify;
mod wallet;

pub use self::wallet::{WalletCommand, history_lines, wallet};
pub use block::{BlockCommand, block};
pub use dev::{DevArgs, dev};
pub use init::{InitArgs, Plan, init, vsm_and_jpy};
pub use key::{KeyCommand, key};
pub use node::{NodeArgs, node};
pub use pay::{PayArgs, pay};
pub use proof::{ProofCommand, proof, read_genesis};
pub use status::{GenesisArgs, genesis, status};
pub use token::{TokenCommand, token};
pub use tx::{TxCommand, tx};
pub use user::{UserCommand, user};
pub use verify::{VerifyArgs, verify};
