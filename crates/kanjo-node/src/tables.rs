//! Roots of all tables at exactly one height, to compare nodes with each other (mission C4).
//!
//! The question travels through the pipeline like a proof. Trees hold the present only: so the
//! sealer keeps a question until its height comes, and says so when it has passed.

use kanjo_api::cluster::{TableRoot, TableRoots, TablesAnswer};
use kanjo_proof::state::StateTree;
use kanjo_types::Header;
use kanjo_types::record::{PARTITIONS, Table};
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
            partitions: numbers()
                .filter_map(|number| trees.partition_root(table, number))
                .collect(),
        }
    });
    TableRoots {
        height: header.height,
        header: header.hash(),
        state_root: trees.root(),
        tables: tables.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kanjo_proof::state::{Leaf, LeafUpdate};
    use kanjo_types::record::RowKey;
    use kanjo_types::{ChainId, Hash};

    fn header(height: u64) -> Header {
        let first = Header {
            version: 1,
            chain: ChainId::default(),
            height: height.saturating_sub(1),
            parents: vec![],
            time_ms: 0,
            producer: 0,
            transactions: 0,
            transactions_root: Hash::ZERO,
            receipts_root: Hash::ZERO,
            state_root: Hash::ZERO,
            history_root: Hash::ZERO,
            fees: vec![],
            supply: vec![],
        };
        Header { height, ..first }
    }

    fn ask(height: u64) -> (TableQuery, oneshot::Receiver<TablesAnswer>) {
        let (reply, answer) = oneshot::channel();
        (TableQuery { height, reply }, answer)
    }

    #[test]
    fn a_question_waits_for_its_height_and_no_other() {
        let (trees, mut waiting) = (StateTree::new(), WaitingTables::default());
        let (now, mut now_answer) = ask(7);
        let (later, mut later_answer) = ask(9);
        let (past, mut past_answer) = ask(6);
        for due in waiting.look(vec![now, later, past], &header(7), &trees) {
            due.send();
        }
        let roots = |answer| match answer {
            Ok(TablesAnswer::Roots(roots)) => roots,
            other => panic!("no roots: {other:?}"),
        };
        assert_eq!(roots(now_answer.try_recv()).height, 7);
        assert_eq!(past_answer.try_recv(), Ok(TablesAnswer::Passed { height: 7 }));
        assert!(waiting.look(Vec::new(), &header(8), &trees).is_empty());
        assert!(later_answer.try_recv().is_err());
        for due in waiting.look(Vec::new(), &header(9), &trees) {
            due.send();
        }
        assert_eq!(roots(later_answer.try_recv()).tables.len(), Table::ALL.len());
    }

    #[test]
    fn a_row_changes_the_roots_of_its_table_and_partition_alone() {
        let mut trees = StateTree::new();
        let before = roots(&header(1), &trees);
        let leaf = |key: RowKey, next| Leaf { key, next, row: Hash([5; 32]) };
        let key = RowKey(Hash([0x44; 32]));
        let partition = key.partition();
        let update = |slot, leaf| LeafUpdate { table: Table::Wallets, partition, slot, leaf };
        trees.update(&[update(0, Leaf::bound(key)), update(1, leaf(key, RowKey::MAX))]);
        let after = roots(&header(1), &trees);
        assert_ne!(before.state_root, after.state_root);
        for (before, after) in before.tables.iter().zip(&after.tables) {
            let changed: Vec<usize> = (0..PARTITIONS)
                .filter(|at| before.partitions[*at] != after.partitions[*at])
                .collect();
            if after.table == Table::Wallets {
                assert_ne!(before.root, after.root);
                assert_eq!((after.rows, changed), (1, vec![usize::from(partition)]));
            } else {
                assert_eq!((before, changed), (after, Vec::new()));
            }
        }
    }

    #[test]
    fn who_asks_no_more_takes_no_room() {
        let (trees, mut waiting) = (StateTree::new(), WaitingTables::default());
        let gone: Vec<TableQuery> = (0..100).map(|_| ask(50).0).collect();
        waiting.look(gone, &header(1), &trees);
        let (late, answer) = ask(50);
        waiting.look(vec![late], &header(2), &trees);
        assert_eq!(waiting.0.len(), 1);
        drop(answer);
    }
}
