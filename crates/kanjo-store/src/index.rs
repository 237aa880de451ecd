//! The index behind the log: which block holds a transaction, which wallets a user has, which rows
//! concern a user, a wallet or a token.
//!
//! It lives in fjall, is written in bulk after the fact, and can be deleted at any time: its
//! content follows from the log. Entries gather in memory, where lookups already see them, and
//! go to disk as one sorted run ([`Index::flush`]): that costs a seventh of the CPU of write
//! batches. After a crash the index is simply behind, says so ([`Index::next_height`]), and
//! the caller records the missing blocks again. Recording a block twice changes nothing.
//!
//! Keys:
//! - transactions: the whole 32-byte id → height and position. Not a 16-byte prefix: ids can
//!   be ground, so two with one prefix must be told apart, and only a whole key is found with
//!   one bloom-filtered lookup.
//! - wallets of a user: user id ‖ wallet id → nothing, read as a range.
//! - rows by subject: subject ‖ table ‖ place, newest first ‖ → key of the row, read as a range.
//! - known rows: subject ‖ table ‖ key of the row → nothing, for rows whose subjects may change:
//!   a subject that comes up again keeps its first place.
//! - progress: the next height to record, written with or after the entries it vouches for; and the
//!   number of this layout.

use fjall::compaction::Leveled;
use fjall::config::{BloomConstructionPolicy, FilterPolicy, FilterPolicyEntry};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const BLOCK_CACHE_BYTES: u64 = 64 << 20;
const JOURNAL_BYTES_MAX: u64 = 64 << 20;
const MEMTABLE_BYTES: u64 = 4 << 20;
const BLOOM_BITS_PER_KEY: f32 = 10.0;
/// Runs gathered before they are merged: half the compaction of fjall's default of 4.
const RUNS_BEFORE_MERGE: u8 = 8;
/// Transactions gathered in memory before they go to disk, at about 100 bytes each.
const GATHERED_TRANSACTIONS_MAX: usize = 250_000;
/// Wallets gathered in memory before everything goes to disk.
const GATHERED_WALLETS_MAX: usize = 250_000;
/// Rows by subject gathered in memory before everything goes to disk.
const GATHERED_ROWS_MAX: usize = 250_000;
const PROGRESS_KEY: &[u8] = b"next_height";
const FORMAT_KEY: &[u8] = b"format";
/// Number of this layout; the one before had no number and no rows by subject.
const FORMAT: &[u8] = &[2];

/// What a row concerns: a kind of the caller's, and an id.
pub type Subject = [u8; 17];
/// The key of a row in its table.
pub type RowKey = [u8; 32];

/// Where a row came to concern a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowPlace {
    /// Height of the block.
    pub height: u64,
    /// Position of the transaction in it.
    pub position: u32,
    /// Number of the row among those of the transaction.
    pub row: u32,
}

/// One fact about a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexEntry {
    /// The block holds this transaction.
    Transaction {
        /// The transaction's id.
        id: [u8; 32],
        /// Its place in the block.
        position: u32,
    },
    /// The block opened this wallet.
    WalletOfUser {
        /// The owner.
        user: [u8; 16],
        /// The wallet.
        wallet: [u8; 16],
    },
    /// The block made a row that concerns this subject.
    RowOfSubject {
        /// What it concerns.
        subject: Subject,
        /// Number of the table.
        table: u8,
        /// The row.
        key: RowKey,
        /// Position of its transaction in the block.
        position: u32,
        /// Number of the row in the transaction.
        row: u32,
        /// The subject may come up again for this row: then only the first time counts. Costs a
        /// look-up.
        may_repeat: bool,
    },
}

/// Why the index did not answer. Never fatal: see [`Index::rebuild`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// The store failed.
    #[error("cannot {what} the index in {path}: {source}; it can be rebuilt from the log",
        path = path.display())]
    Store {
        /// What was tried.
        what: &'static str,
        /// The index's directory.
        path: PathBuf,
        /// What the store said.
        source: fjall::Error,
    },
    /// The directory could not be removed.
    #[error("cannot remove the index in {path}: {source}", path = path.display())]
    Remove {
        /// The index's directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An entry is not of the form this build writes.
    #[error("the index in {path} holds a malformed {what}; rebuild it from the log",
        path = path.display())]
    Malformed {
        /// The index's directory.
        path: PathBuf,
        /// The kind of entry.
        what: &'static str,
    },
    /// Written by software with another layout.
    #[error("the index in {path} has another layout than this software's; rebuild it from the log",
        path = path.display())]
    OtherFormat {
        /// The index's directory.
        path: PathBuf,
    },
    /// Blocks must be recorded in order.
    #[error("block {found} cannot be recorded: the index is at {next}, record that one first")]
    Gap {
        /// The height the index needs next.
        next: u64,
        /// The height given.
        found: u64,
    },
}

type TransactionId = [u8; 32];
type UserId = [u8; 16];
type WalletId = [u8; 16];
/// Subject ‖ table ‖ place with all bits turned, so that the newest comes first.
type PlaceKey = [u8; PLACE_KEY_BYTES];
const PLACE_KEY_BYTES: usize = 17 + 1 + 16;
/// Subject ‖ table ‖ row.
type KnownKey = [u8; 17 + 1 + 32];

/// Entries that are not on disk yet.
#[derive(Default)]
struct Gathered {
    transactions: HashMap<TransactionId, (u64, u32)>,
    wallets: BTreeSet<(UserId, WalletId)>,
    rows: BTreeMap<PlaceKey, RowKey>,
    known: BTreeSet<KnownKey>,
}

impl Gathered {
    fn is_full(&self) -> bool {
        self.transactions.len() >= GATHERED_TRANSACTIONS_MAX
            || self.wallets.len() >= GATHERED_WALLETS_MAX
            || self.rows.len() >= GATHERED_ROWS_MAX
    }

    /// Takes in what an earlier flush failed to write.
    fn take_back(&mut self, failed: &Self) {
        for (id, place) in &failed.transactions {
            self.transactions.entry(*id).or_insert(*place);
        }
        self.wallets.extend(&failed.wallets);
        self.rows.extend(&failed.rows);
        self.known.extend(&failed.known);
    }
}

/// What lookups see in front of the disk.
#[derive(Default)]
struct Memory {
    gathered: Gathered,
    /// Being written to disk right now.
    flushing: Option<Arc<Gathered>>,
    next_height: Option<u64>,
}

impl Memory {
    /// Newest first.
    fn layers(&self) -> impl Iterator<Item = &Gathered> {
        [&self.gathered].into_iter().chain(self.flushing.as_deref())
    }
}

/// The index; share it by reference between threads. One thread records.
pub struct Index {
    path: PathBuf,
    database: Database,
    transactions: Keyspace,
    wallets: Keyspace,
    rows: Keyspace,
    known: Keyspace,
    progress: Keyspace,
    memory: RwLock<Memory>,
    /// Held during a flush, so that runs reach the disk one after another.
    flush: Mutex<()>,
}

fn keyspace_options() -> KeyspaceCreateOptions {
    let bloom = BloomConstructionPolicy::BitsPerKey(BLOOM_BITS_PER_KEY);
    KeyspaceCreateOptions::default()
        .max_memtable_size(MEMTABLE_BYTES)
        .filter_policy(FilterPolicy::all(FilterPolicyEntry::Bloom(bloom)))
        .compaction_strategy(Arc::new(Leveled::default().with_l0_threshold(RUNS_BEFORE_MERGE)))
}

impl Index {
    /// Opens the index in `dir`, or begins an empty one there. If this fails because the
    /// directory is damaged, call [`rebuild`](Self::rebuild).
    pub fn open(dir: &Path) -> Result<Self, IndexError> {
        let failed = |source| IndexError::Store { what: "open", path: dir.to_owned(), source };
        let database = Database::builder(dir)
            .cache_size(BLOCK_CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES_MAX)
            .worker_threads(1)
            .manual_journal_persist(true)
            .open()
            .map_err(failed)?;
        let keyspace = |name| database.keyspace(name, keyspace_options).map_err(failed);
        let transactions = keyspace("transactions")?;
        let wallets = keyspace("wallets")?;
        let rows = keyspace("rows")?;
        let known = keyspace("known_rows")?;
        let progress = keyspace("progress")?;
        let path = dir.to_owned();
        let next_height = match progress.get(PROGRESS_KEY).map_err(failed)? {
            None => None,
            Some(value) => {
                let bytes = (&*value).try_into();
                let malformed = |_| IndexError::Malformed { path: path.clone(), what: "progress" };
                Some(u64::from_be_bytes(bytes.map_err(malformed)?))
            }
        };
        let format = progress.get(FORMAT_KEY).map_err(failed)?;
        if next_height.is_some() && format.as_deref() != Some(FORMAT) {
            return Err(IndexError::OtherFormat { path });
        }
        let memory = RwLock::new(Memory { next_height, ..Memory::default() });
        let flush = Mutex::new(());
        Ok(Self { path, database, transactions, wallets, rows, known, progress, memory, flush })
    }

    /// Removes whatever is in `dir` and begins an empty index: for one that is damaged, or
    /// ahead of the log. Drop the old one first.
    pub fn rebuild(dir: &Path) -> Result<Self, IndexError> {
        match std::fs::remove_dir_all(dir) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(IndexError::Remove { path: dir.to_owned(), source })
            }
            _ => Self::open(dir),
        }
    }

    fn failed(&self, what: &'static str) -> impl Fn(fjall::Error) -> IndexError {
        let path = self.path.clone();
        move |source| IndexError::Store { what, path: path.clone(), source }
    }

    /// Records a block. Heights go up one by one, from any start; recording one again is
    /// allowed. Writes to disk only now and then, when enough has gathered.
    pub fn record(&self, height: u64, entries: &[IndexEntry]) -> Result<(), IndexError> {
        let full = {
            let mut memory = self.memory.write();
            if let Some(next) = memory.next_height
                && height > next
            {
                return Err(IndexError::Gap { next, found: height });
            }
            for entry in entries {
                self.gather(&mut memory, height, entry)?;
            }
            memory.next_height = memory.next_height.max(Some(height.saturating_add(1)));
            memory.gathered.is_full()
        };
        if full { self.flush() } else { Ok(()) }
    }

    fn gather(
        &self,
        memory: &mut Memory,
        height: u64,
        entry: &IndexEntry,
    ) -> Result<(), IndexError> {
        match *entry {
            IndexEntry::Transaction { id, position } => {
                memory.gathered.transactions.insert(id, (height, position));
            }
            IndexEntry::WalletOfUser { user, wallet } => {
                memory.gathered.wallets.insert((user, wallet));
            }
            IndexEntry::RowOfSubject { subject, table, key, position, row, may_repeat } => {
                if may_repeat {
                    let known = known_key(&subject, table, &key);
                    if memory.layers().any(|gathered| gathered.known.contains(&known))
                        || self.known.contains_key(known).map_err(self.failed("read"))?
                    {
                        return Ok(());
                    }
                    memory.gathered.known.insert(known);
                }
                let place = RowPlace { height, position, row };
                memory.gathered.rows.insert(place_key(&subject, table, place), key);
            }
        }
        Ok(())
    }

    /// Writes everything gathered to disk. For an orderly stop; not needed for correctness.
    pub fn flush(&self) -> Result<(), IndexError> {
        let _one_at_a_time = self.flush.lock();
        let (gathered, next_height) = {
            let mut memory = self.memory.write();
            // What an earlier flush failed to write is still there: write it with the rest.
            let mut gathered = std::mem::take(&mut memory.gathered);
            if let Some(failed) = memory.flushing.take() {
                gathered.take_back(&failed);
            }
            let gathered = Arc::new(gathered);
            memory.flushing = Some(gathered.clone());
            (gathered, memory.next_height)
        };
        self.write_run(&gathered, next_height)?;
        self.memory.write().flushing = None;
        Ok(())
    }

    fn write_run(&self, gathered: &Gathered, next_height: Option<u64>) -> Result<(), IndexError> {
        let failed = self.failed("write to");
        if !gathered.transactions.is_empty() {
            let mut run: Vec<_> = gathered.transactions.iter().collect();
            run.sort_unstable_by(|a, b| a.0.cmp(b.0));
            let mut ingestion = self.transactions.start_ingestion().map_err(&failed)?;
            for (id, (height, position)) in run {
                let place = encode_place(*height, *position);
                ingestion.write(id.as_slice(), place.as_slice()).map_err(&failed)?;
            }
            ingestion.finish().map_err(&failed)?;
        }
        let mut batch = self.database.batch();
        for (user, wallet) in &gathered.wallets {
            let key = [user.as_slice(), wallet.as_slice()].concat();
            batch.insert(&self.wallets, key, []);
        }
        for (place, key) in &gathered.rows {
            batch.insert(&self.rows, place.as_slice(), key.as_slice());
        }
        for known in &gathered.known {
            batch.insert(&self.known, known.as_slice(), []);
        }
        if let Some(next) = next_height {
            batch.insert(&self.progress, PROGRESS_KEY, next.to_be_bytes());
            batch.insert(&self.progress, FORMAT_KEY, FORMAT);
        }
        batch.commit().map_err(&failed)?;
        // Otherwise a killed process would lose all progress, not only what is in memory.
        self.database.persist(PersistMode::SyncData).map_err(&failed)
    }

    /// The next height to record; `None` if nothing was ever recorded. After opening this is
    /// what reached the disk. Above the log's next height the index is of no use: rebuild it.
    pub fn next_height(&self) -> Option<u64> {
        self.memory.read().next_height
    }

    /// The highest height that lookups cover; `None` if there is none.
    pub fn indexed_height(&self) -> Option<u64> {
        self.next_height().and_then(|next| next.checked_sub(1))
    }

    /// Height and position of a transaction, if a recorded block holds it.
    pub fn find_transaction(&self, id: &[u8; 32]) -> Result<Option<(u64, u32)>, IndexError> {
        {
            let memory = self.memory.read();
            for gathered in memory.layers() {
                if let Some(place) = gathered.transactions.get(id) {
                    return Ok(Some(*place));
                }
            }
        }
        let Some(value) = self.transactions.get(id).map_err(self.failed("read"))? else {
            return Ok(None);
        };
        let malformed = || IndexError::Malformed { path: self.path.clone(), what: "transaction" };
        decode_place(&value).ok_or_else(malformed).map(Some)
    }

    /// Up to `limit` wallets of a user, in the order of their ids, from behind `after`.
    pub fn wallets_of(
        &self,
        user: &[u8; 16],
        limit: usize,
        after: Option<[u8; 16]>,
    ) -> Result<Vec<[u8; 16]>, IndexError> {
        let from = match after {
            Some(wallet) => Bound::Excluded((*user, wallet)),
            None => Bound::Included((*user, [0; 16])),
        };
        let range = (from, Bound::Included((*user, [u8::MAX; 16])));
        let mut found = BTreeSet::new();
        {
            let memory = self.memory.read();
            for gathered in memory.layers() {
                found.extend(gathered.wallets.range(range).take(limit).map(|(_, wallet)| *wallet));
            }
        }
        let key = |(user, wallet): (UserId, WalletId)| [user, wallet].concat();
        let on_disk = self.wallets.range((range.0.map(key), range.1.map(key)));
        for guard in on_disk.take(limit) {
            let key = guard.key().map_err(self.failed("read"))?;
            let (_, wallet) = key
                .split_last_chunk()
                .ok_or_else(|| IndexError::Malformed { path: self.path.clone(), what: "wallet" })?;
            found.insert(*wallet);
        }
        Ok(found.into_iter().take(limit).collect())
    }

    /// Up to `limit` rows of a table that concern a subject, those that came to it last first, from
    /// behind `after`.
    pub fn rows_of(
        &self,
        subject: &Subject,
        table: u8,
        limit: usize,
        after: Option<RowPlace>,
    ) -> Result<Vec<(RowPlace, RowKey)>, IndexError> {
        let newest = RowPlace { height: u64::MAX, position: u32::MAX, row: u32::MAX };
        let oldest = RowPlace { height: 0, position: 0, row: 0 };
        let from = match after {
            Some(place) => Bound::Excluded(place_key(subject, table, place)),
            None => Bound::Included(place_key(subject, table, newest)),
        };
        let range = (from, Bound::Included(place_key(subject, table, oldest)));
        // The place behind the last row: nothing is left.
        if after == Some(oldest) {
            return Ok(Vec::new());
        }
        let mut found = BTreeMap::new();
        {
            let memory = self.memory.read();
            for gathered in memory.layers() {
                let rows = gathered.rows.range(range).take(limit);
                found.extend(rows.map(|(place, key)| (*place, *key)));
            }
        }
        let malformed = || IndexError::Malformed { path: self.path.clone(), what: "row" };
        for guard in self.rows.range(range).take(limit) {
            let (place, key) = guard.into_inner().map_err(self.failed("read"))?;
            let place: PlaceKey = (&*place).try_into().map_err(|_| malformed())?;
            found.insert(place, (&*key).try_into().map_err(|_| malformed())?);
        }
        let rows = found.into_iter().take(limit);
        rows.map(|(place, key)| Ok((decode_row_place(&place).ok_or_else(malformed)?, key)))
            .collect()
    }
}

fn joined<const N: usize>(parts: [&[u8]; 3]) -> [u8; N] {
    let mut key = [0; N];
    key.iter_mut().zip(parts.into_iter().flatten()).for_each(|(to, from)| *to = *from);
    key
}

fn place_key(subject: &Subject, table: u8, place: RowPlace) -> PlaceKey {
    let [a, b, c, d] = place.row.to_be_bytes();
    let place = encode_place(place.height, place.position).into_iter().chain([a, b, c, d]);
    let mut turned = [0u8; 16];
    turned.iter_mut().zip(place).for_each(|(to, from)| *to = !from);
    joined([subject, &[table], &turned])
}

fn known_key(subject: &Subject, table: u8, key: &RowKey) -> KnownKey {
    joined([subject, &[table], key])
}

fn decode_row_place(key: &PlaceKey) -> Option<RowPlace> {
    let (_, turned) = key.split_last_chunk::<16>()?;
    let place = turned.map(|byte| !byte);
    let (at, row) = place.split_last_chunk::<4>()?;
    let (height, position) = decode_place(at)?;
    Some(RowPlace { height, position, row: u32::from_be_bytes(*row) })
}

fn encode_place(height: u64, position: u32) -> [u8; 12] {
    let [h0, h1, h2, h3, h4, h5, h6, h7] = height.to_be_bytes();
    let [p0, p1, p2, p3] = position.to_be_bytes();
    [h0, h1, h2, h3, h4, h5, h6, h7, p0, p1, p2, p3]
}

fn decode_place(value: &[u8]) -> Option<(u64, u32)> {
    let (height, position) = value.split_first_chunk::<8>()?;
    let position = position.try_into().ok()?;
    Some((u64::from_be_bytes(*height), u32::from_be_bytes(position)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_back_and_a_short_one_is_refused() {
        let place = encode_place(0x0102_0304_0506_0708, 0x090a_0b0c);
        assert_eq!(place, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        assert_eq!(decode_place(&place), Some((0x0102_0304_0506_0708, 0x090a_0b0c)));
        assert_eq!(decode_place(&place[..11]), None);
    }

    #[test]
    fn places_of_rows_sort_newest_first_and_are_read_back() {
        let place = |height, position, row| RowPlace { height, position, row };
        let places =
            [place(9, 0, 0), place(8, 7, 3), place(8, 7, 2), place(8, 6, 9), place(0, 0, 0)];
        let keys = places.map(|place| place_key(&[3; 17], 5, place));
        assert!(keys.is_sorted_by(|a, b| a < b));
        assert_eq!(keys.map(|key| decode_row_place(&key).expect("a place")), places);
    }
}
