//! A transaction of a session: what it reads, what it changes, and the one ledger transaction that
//! it becomes (mission M1, design section 7).
//!
//! ```text
//!  snapshot ─▶ statements ─▶ reads  ─▶ conditions ┐
//!                        └─▶ drafts ─▶ operations ┴─▶ signed, submitted, final
//! ```
//! Invariants:
//! - All its statements read one snapshot with its own drafts on top.
//! - Everything it has read of the tables of users becomes a condition, so that transactions are
//!   serializable: whoever comes second with other rows gets 40001.

mod drafts;
mod reads;

pub(crate) use drafts::{Draft, Drafts};
pub(crate) use reads::Reads;

use crate::error::{SqlError, code};
use kanjo_view::Snapshot;
use parking_lot::Mutex;
use std::sync::Arc;

/// Most savepoints of a transaction.
const SAVEPOINTS_MAX: usize = 64;

/// A transaction that is open.
pub(crate) struct Transaction {
    /// From its first query on.
    pub snapshot: Option<Arc<Snapshot>>,
    pub drafts: Arc<Drafts>,
    pub reads: Arc<Mutex<Reads>>,
    pub read_only: bool,
    /// What `now()` is in defaults: microseconds since 1970-01-01 UTC.
    pub now: Option<i64>,
    savepoints: Vec<(String, Arc<Drafts>)>,
}

impl Transaction {
    pub(crate) fn new(read_only: bool) -> Self {
        Self {
            snapshot: None,
            drafts: Arc::default(),
            reads: Arc::default(),
            read_only,
            now: None,
            savepoints: Vec::new(),
        }
    }

    pub(crate) fn save(&mut self, name: &str) -> Result<(), SqlError> {
        if self.savepoints.len() >= SAVEPOINTS_MAX {
            let message = format!("a transaction may have {SAVEPOINTS_MAX} savepoints");
            return Err(SqlError::new(code::LIMIT_EXCEEDED, message));
        }
        self.savepoints.push((name.to_owned(), Arc::clone(&self.drafts)));
        Ok(())
    }

    fn savepoint(&self, name: &str) -> Result<usize, SqlError> {
        let found = self.savepoints.iter().rposition(|(of, _)| of == name);
        found.ok_or_else(|| SqlError::new("3B001", format!("savepoint \"{name}\" does not exist")))
    }

    /// Forgets what was done since; the savepoint stays.
    pub(crate) fn roll_back_to(&mut self, name: &str) -> Result<(), SqlError> {
        let at = self.savepoint(name)?;
        self.savepoints.truncate(at + 1);
        if let Some((_, drafts)) = self.savepoints.last() {
            self.drafts = Arc::clone(drafts);
        }
        Ok(())
    }

    /// Forgets the savepoint and those after it.
    pub(crate) fn release(&mut self, name: &str) -> Result<(), SqlError> {
        let at = self.savepoint(name)?;
        self.savepoints.truncate(at);
        Ok(())
    }
}
