//! Feeding the view that SQL reads: from the ledger as opened, then with every final block.

use crate::history;
use crate::metrics::{Stage, ThreadClock};
use crate::shared::Shared;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use kanjo_ledger::Ledger;
use kanjo_types::TransactionId;
use kanjo_types::record::{PARTITIONS, Record, RowKey, Table};
use kanjo_types::stored::{Block, Entry, Location, Row};
use kanjo_view::{Content, LogError, LogSource, Version, View};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// A final block for the view.
pub(crate) struct ToView {
    pub height: u64,
    pub entries: Arc<Vec<Entry>>,
}

/// How long the feeder waits for a block before it looks at the log by itself.
const PAUSE: Duration = Duration::from_millis(100);

/// Takes all rows of the ledger as it was opened, at `height`.
pub(crate) fn load(view: &View, ledger: &Ledger, height: u64) {
    for partition in (0u16..).take(PARTITIONS) {
        for row in ledger.users().rows(partition) {
            let content = Content::User(Arc::new((row.access.clone(), row.sponsor)));
            let version = Version::new(row.version, row.hash, row.at.into(), content);
            view.load(Table::Users, RowKey::user(row.id), version);
        }
        for row in ledger.wallets().rows(partition) {
            let content = Content::Wallet(row.owner);
            let version = Version::new(row.version, row.hash, row.at.into(), content);
            view.load(Table::Wallets, RowKey::wallet(row.id), version);
        }
        for row in ledger.tokens().rows(partition) {
            let record = Record::Token(row.record.clone());
            load_record(view, &record, row.hash, row.at.into());
        }
        for row in ledger.states().rows(partition) {
            let content = Content::state(row.balance, row.extra.as_deref());
            let version = Version::new(row.version, row.hash, row.at.into(), content);
            view.load(Table::WalletStates, RowKey::wallet_state(row.wallet, row.token), version);
        }
        for table in Table::STANDING {
            for row in ledger.standing(table).rows(partition) {
                load_record(view, &row.record, row.hash, row.at.into());
            }
        }
    }
    view.start(height);
}

fn load_record(view: &View, record: &Record, hash: kanjo_types::Hash, at: Location) {
    if let (Some((table, key)), Some(version)) = (record.place(), Version::of(record, hash, at)) {
        view.load(table, key, version);
    }
}

/// A row that a block made, as the view takes it.
fn version(row: &Row, at: Location) -> Option<(Table, RowKey, Version)> {
    let (table, key) = row.record.place()?;
    Some((table, key, Version::of(&row.record, row.hash, at)?))
}

fn apply(view: &View, height: u64, entries: &[Entry]) {
    let rows = entries.iter().flat_map(|entry| {
        let at = Location { height, position: entry.record.position };
        entry.rows.iter().filter_map(move |row| version(row, at))
    });
    view.apply(height, rows);
}

/// Feeds the view with final blocks as they come. What the writer had no room to hand over is read
/// from the log: payments never wait for the view.
pub(crate) fn run_feeder(shared: &Shared, view: &View, blocks: &Receiver<ToView>) {
    let cpu = shared.metrics.thread(Stage::Background);
    while let Err(reason) = feed(shared, view, blocks, &cpu) {
        tracing::error!(%reason, "SQL stays behind until the log can be read");
        if shared.stopping() {
            return;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn feed(
    shared: &Shared,
    view: &View,
    blocks: &Receiver<ToView>,
    cpu: &ThreadClock,
) -> Result<(), String> {
    let mut next = view.height() + 1;
    loop {
        let received = blocks.recv_timeout(PAUSE);
        let over = matches!(received, Err(RecvTimeoutError::Disconnected));
        let final_height = || (shared.tip().height + 1).min(shared.log.next_height());
        let ready = received.as_ref().map_or_else(|_| final_height(), |block| block.height);
        while next < ready && !shared.stopping() {
            let block = history::read_block(shared, next).map_err(|error| error.to_string())?;
            apply(view, next, &block.entries);
            next += 1;
        }
        match received {
            Ok(block) if block.height == next => {
                apply(view, next, &block.entries);
                next += 1;
            }
            Ok(_) => {}
            Err(_) => view.tidy(),
        }
        cpu.lap();
        // The sender stands in `shared`, which this thread holds: it never goes by itself.
        if over || shared.stopping() {
            return Ok(());
        }
    }
}

/// The log for readers that may outlive the node.
pub(crate) struct Log(pub Weak<Shared>);

/// How long a look-up waits for the index when that is behind.
const INDEX_WAIT: Duration = Duration::from_secs(2);

impl Log {
    fn shared(&self) -> Result<Arc<Shared>, LogError> {
        self.0.upgrade().ok_or_else(|| LogError("the node has stopped".to_owned()))
    }
}

impl LogSource for Log {
    fn newest(&self) -> u64 {
        self.0.upgrade().map_or(0, |shared| shared.tip().height)
    }

    fn block(&self, height: u64) -> Result<Arc<Block>, LogError> {
        let shared = self.shared()?;
        let block = history::read_block(&shared, height);
        block.map(Arc::new).map_err(|error| LogError(error.to_string()))
    }

    fn find(&self, id: TransactionId) -> Result<Option<Location>, LogError> {
        let shared = self.shared()?;
        let wanted = shared.tip().height;
        let give_up_at = Instant::now() + INDEX_WAIT;
        loop {
            let covered = shared.index.next_height().is_some_and(|next| next > wanted);
            let found = shared.index.find_transaction(&id.0.0);
            let found = found.map_err(|error| LogError(format!("index: {error}")))?;
            if let Some((height, position)) = found {
                return Ok(Some(Location { height, position }));
            }
            if covered {
                return Ok(None);
            }
            if Instant::now() >= give_up_at {
                return Err(LogError("the index is behind the newest block; try again".to_owned()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
