//! The engine's log in the block log: entry at index i is the block at height i.
//!
//! ```text
//!  append ─▶ sentinel signs (leader) ─▶ cache: readable at once ─▶ writer ─▶ one write, one sync
//!                                         │                                        │
//!  replication, committed entries ◀───────┴── or from disk, when older             ▼
//!                                                                 engine: "it is on disk"
//! ```
//! # Invariants
//! - Writes happen in the order in which they were asked for, votes for leaders among them.
//! - An entry leaves the cache only after it is on disk.
//! - The engine hears that an entry or a vote is kept only after it is synced.
//! - An entry has a signature before anybody can read it.
//! - Entries that wait for the disk take at most [`WAITING_BYTES_MAX`]; then the engine waits.

mod cache;
#[cfg(test)]
mod tests;
mod voters;
mod writer;

pub(crate) use voters::VoterHistory;
pub use writer::Writing;

use crate::boundary::{Notary, ProposalRequest};
use crate::bytes::Input;
use crate::entry::{ENTRY_BYTES_MAX, Entry};
use crate::types::{EntryId, LeaderVote, Types};
use crate::wire::{append_vote, take_vote};
use cache::Cache;
use futures_util::{Stream, stream};
use kanjo_store::disk::Disk;
use kanjo_store::log::BlockLog;
use kanjo_store::slots::SlotFile;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::{AsyncRuntime, OptionalSend};
use parking_lot::Mutex;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Semaphore;
use writer::{Backend, Group, Writer};

/// Bytes of entries that may wait for the disk.
pub const WAITING_BYTES_MAX: usize = 64 << 20;
/// Bytes of entries that are read for one message to a follower.
const READ_BYTES_MAX: usize = 4 << 20;

const _: () = assert!(ENTRY_BYTES_MAX <= WAITING_BYTES_MAX, "every entry can be written");

/// What the engine keeps on disk.
pub struct LogParts {
    /// The entries; the first height is 0. A reader of it sees what is on disk, committed or not.
    pub log: BlockLog,
    /// Where the small records are: `leader.slot`, the vote for a leader, and `voters.slot`, the
    /// newest changes of the engine's voters.
    pub dir: PathBuf,
    /// Of both.
    pub disk: Arc<dyn Disk>,
}

/// What the log and its readers share.
struct Shared {
    disk: kanjo_store::log::LogReader,
    state: Mutex<State>,
    /// Entries wait because the disk is full.
    is_full: AtomicBool,
}

struct State {
    cache: Cache,
    /// The index after the last entry, on disk or not.
    next: u64,
    last: Option<EntryId>,
    vote: Option<LeaderVote>,
    committed: Option<EntryId>,
}

/// Reads entries, also those that are not on disk yet; cheap to clone.
#[derive(Clone)]
pub struct LogReader {
    shared: Arc<Shared>,
}

impl LogReader {
    /// The entry at this index; `None` above the end.
    ///
    /// # Errors
    /// The disk's, or that what it holds is no entry.
    pub fn entry(&self, index: u64) -> io::Result<Option<Entry>> {
        {
            let state = self.shared.state.lock();
            if index >= state.next {
                return Ok(None);
            }
            if let Some(entry) = state.cache.get(index) {
                return Ok(Some(entry.clone()));
            }
        }
        let Some(bytes) = self.shared.disk.read(index).map_err(io::Error::other)? else {
            return Ok(None);
        };
        Entry::decode(index, bytes.into()).map(Some).map_err(io::Error::other)
    }

    /// Do entries wait because the disk is full?
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.shared.is_full.load(Ordering::Acquire)
    }

    /// The index after the last entry, on disk or not.
    #[must_use]
    pub fn next_index(&self) -> u64 {
        self.shared.state.lock().next
    }

    /// Entries from `start`, below `end`, of at most `bytes_max`; but one at least, if it is there.
    fn entries(&self, start: u64, end: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let (mut entries, mut bytes) = (Vec::new(), 0usize);
        for index in start.max(self.shared.disk.first_height())..end {
            let Some(entry) = self.entry(index)? else { break };
            bytes = bytes.saturating_add(entry.stored().len());
            if bytes > bytes_max && !entries.is_empty() {
                break;
            }
            entries.push(entry);
        }
        Ok(entries)
    }
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

impl<R: AsyncRuntime> RaftLogReader<Types<R>> for LogReader {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<Entry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (start, end) = bounds(&range);
        self.entries(start, end, usize::MAX)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.entries(start, end, READ_BYTES_MAX)
    }

    // One by one, so that a long way to catch up is never in memory whole.
    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = io::Result<Entry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (start, end) = bounds(&range);
        let reader = self.clone();
        stream::iter((start..end).map_while(move |index| reader.entry(index).transpose()))
    }

    async fn read_vote(&mut self) -> io::Result<Option<LeaderVote>> {
        Ok(self.shared.state.lock().vote)
    }
}

/// The engine's log; see the [module](self).
pub(crate) struct Log<R: AsyncRuntime> {
    id: u16,
    reader: LogReader,
    writer: Writer<R>,
    waiting: Arc<Semaphore>,
    notary: Arc<dyn Notary>,
}

impl<R: AsyncRuntime> Log<R> {
    /// Opens the log, and begins it with the genesis entry if it is empty.
    ///
    /// # Errors
    /// The disk's; or the log does not begin with this entry.
    pub(crate) fn open(
        id: u16,
        parts: LogParts,
        genesis: Option<&Entry>,
        notary: Arc<dyn Notary>,
        writing: Writing,
    ) -> io::Result<(Self, VoterHistory)> {
        let LogParts { log, dir, disk: files } = parts;
        let disk = log.reader();
        let open = |name| SlotFile::open(files.clone(), &dir.join(name)).map_err(io::Error::other);
        let (vote, kept) = open("leader.slot")?;
        let kept = kept.map(|bytes| {
            let mut input = Input::new("vote for a leader", bytes.into());
            take_vote(&mut input).map_err(io::Error::other)
        });
        let state = State {
            cache: Cache::new(log.next_height()),
            next: log.next_height(),
            last: None,
            vote: kept.transpose()?,
            committed: None,
        };
        let is_full = AtomicBool::new(false);
        let shared = Arc::new(Shared { disk, state: Mutex::new(state), is_full });
        let mut backend = Backend { log, vote, shared: shared.clone() };
        let reader = LogReader { shared };
        if let Some(genesis) = genesis {
            begin(&mut backend, &reader, genesis)?;
        }
        let end = reader.next_index();
        let last = end.checked_sub(1).map(|index| reader.entry(index)).transpose()?.flatten();
        reader.shared.state.lock().last = last.map(|entry| entry.id());
        let writer = Writer::start(backend, writing)?;
        let waiting = Arc::new(Semaphore::new(WAITING_BYTES_MAX));
        let history = VoterHistory::open(open("voters.slot")?)?;
        Ok((Self { id, reader, writer, waiting, notary }, history))
    }

    /// A reader for other threads.
    pub(crate) fn reader(&self) -> LogReader {
        self.reader.clone()
    }

    /// Ends when the log is closed and its directory may be opened again.
    pub(crate) fn closed(&mut self) -> Option<std::thread::JoinHandle<()>> {
        self.writer.thread()
    }

    /// Has the sentinel sign what has no signature yet: this leader's new entries.
    async fn sign(&self, entries: &mut [Entry]) -> io::Result<()> {
        let unsigned = |entry: &&Entry| entry.signature().is_none();
        let request = |entry: &Entry| ProposalRequest {
            term: entry.term(),
            height: entry.index(),
            content: entry.digest(),
        };
        let requests: Vec<_> = entries.iter().filter(unsigned).map(request).collect();
        if requests.is_empty() {
            return Ok(());
        }
        let asked = requests.len();
        let signatures = self.notary.sign(requests).await.map_err(io::Error::other)?;
        if signatures.len() != asked {
            let found = signatures.len();
            return Err(io::Error::other(format!("{found} signatures for {asked} proposals")));
        }
        let new = entries.iter_mut().filter(|entry| entry.signature().is_none());
        new.zip(signatures).for_each(|(entry, signature)| entry.sign(self.id, signature));
        Ok(())
    }
}

/// Writes the genesis entry, or checks that it is there.
fn begin(backend: &mut Backend, reader: &LogReader, genesis: &Entry) -> io::Result<()> {
    if reader.next_index() == 0 {
        backend.append_genesis(genesis)?;
        reader.shared.state.lock().next = 1;
        return Ok(());
    }
    match reader.entry(0)? {
        Some(found) if found == *genesis => Ok(()),
        _ => Err(io::Error::other("the log does not begin with the entry of this genesis")),
    }
}

impl<R: AsyncRuntime> RaftLogStorage<Types<R>> for Log<R> {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types<R>>> {
        let last_log_id = self.reader.shared.state.lock().last;
        Ok(LogState { last_purged_log_id: None, last_log_id })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        self.reader.clone()
    }

    async fn save_vote(&mut self, vote: &LeaderVote) -> io::Result<()> {
        let mut bytes = Vec::new();
        append_vote(vote, &mut bytes);
        self.writer.vote(bytes).await?;
        self.reader.shared.state.lock().vote = Some(*vote);
        Ok(())
    }

    // In memory only: what is committed is learnt again after a restart.
    async fn save_committed(&mut self, committed: Option<EntryId>) -> io::Result<()> {
        self.reader.shared.state.lock().committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<EntryId>> {
        Ok(self.reader.shared.state.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types<R>>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut entries: Vec<Entry> = entries.into_iter().collect();
        self.sign(&mut entries).await?;
        let bytes: usize = entries.iter().map(|entry| entry.stored().len()).sum();
        let permits = u32::try_from(bytes.min(WAITING_BYTES_MAX)).unwrap_or(u32::MAX);
        let waiting = self.waiting.clone().acquire_many_owned(permits).await;
        let waiting = waiting.map_err(io::Error::other)?;
        {
            let mut state = self.reader.shared.state.lock();
            for entry in &entries {
                let (expected, found) = (state.next, entry.index());
                if found != expected {
                    let text = format!("entry {found} where {expected} comes next");
                    return Err(io::Error::other(text));
                }
                state.cache.push(entry.clone());
                state.next = found.saturating_add(1);
                state.last = Some(entry.id());
            }
        }
        self.writer.append(Group { entries, callback, waiting }).await
    }

    async fn truncate_after(&mut self, last: Option<EntryId>) -> io::Result<()> {
        let next = last.map_or(0, |id| id.index.saturating_add(1));
        let before = match last {
            Some(id) => self.reader.entry(id.index)?.map(|entry| entry.id()),
            None => None,
        };
        {
            let mut state = self.reader.shared.state.lock();
            if next >= state.next {
                return Ok(());
            }
            state.cache.truncate(next);
            (state.next, state.last) = (next, before);
        }
        self.writer.truncate(last.map(|id| id.index)).await
    }

    async fn purge(&mut self, id: EntryId) -> io::Result<()> {
        Err(io::Error::other(format!("entries up to {id} are kept: logs are complete")))
    }
}
