//! Roots of all tables at exactly one height, to compare nodes with each other (mission C4).
//!
//! The question travels through the pipeline like a proof. Trees hold the present only: so the
//! sealer keeps a question until its height comes, and says so when it has passed.

use kanjo_api::cluster::{TableRoot, TableRoots, TablesAnswer};
use kanjo_proof::state::StateTree;
use kanjo_types::record::{PARTITIONS, Table};
use kanjo_types::Header;
use tokio::sync::oneshot;

/// Most questions that wait for their height.
const WAITING_MAX: usize = 64;

/// Asks for the roots at a height.
pub(crate) struct TableQuery {
    pub height: u64,
    pub reply: oneshot::Sender<TablesAnswer>,
}

/// Questions that wait in the sealer.
#[derive(Default)]
pub(crate) struct WaitingTables(Vec<TableQuery>);

/// Roots that wait for their header to be final.
pub(crate) struct PendingTables {
    roots: TableRoots,
    reply: oneshot::Sender<TablesAnswer>,
}

impl PendingTables {
    pub(crate) fn send(self) {
        // The asker may be gone.
        let _ = self.reply.send(TablesAnswer::Roots(self.roots));
    }
}

impl WaitingTables {
    /// Takes new questions, and answers those whose time has come: `header` is the newest that was
    /// sealed, and the trees are as after it.
    pub(crate) fn look(
        &mut self,
        new: Vec<TableQuery>,
        header: &Header,
        trees: &StateTree,
    ) -> Vec<PendingTables> {
        self.0.extend(new);
        self.0.retain(|query| !query.reply.is_closed());
        // Dropped, an asker is told to come again.
        self.0.truncate(WAITING_MAX);
        let mut due = Vec::new();
        for query in std::mem::take(&mut self.0) {
            if query.height > header.height {
                self.0.push(query);
            } else if query.height == header.height {
                due.push(PendingTables { roots: roots(header, trees), reply: query.reply });
            } else {
                let _ = query.reply.send(TablesAnswer::Passed { height: header.height });
            }
        }
        due
    }
}

fn roots(header: &Header, trees: &StateTree) -> TableRoots {
    let tables = Table::ALL.into_iter().map(|table| {
        let numbers = || (0u16..).take(PARTITIONS);
        // Each partition has a leaf that is no row.
        let rows = numbers().map(|number| trees.leaves(table, number).saturating_sub(1)).sum();
        TableRoot {
            table,
            rows,
            root: trees.table_root(table),
            partitions: numbers().filter_map(|number| trees.partition_root(table, number)).collect(),
        }
    });
    TableRoots {
        height: header.height,
        header: header.hash(),
        state_root: trees.root(),
        tables: tables.collect(),
    }
}
