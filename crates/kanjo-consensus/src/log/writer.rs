//! The one place that writes: a thread in production, the caller itself in simulation.

use super::Shared;
use crate::entry::Entry;
use crate::types::Types;
use crossbeam_channel::{Receiver, Sender};
use kanjo_store::BlockRef;
use kanjo_store::log::{AppendError, BlockLog};
use kanjo_store::slots::SlotFile;
use openraft::AsyncRuntime;
use openraft::storage::IOFlushed;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// Most bytes of one write.
const WRITE_BYTES_MAX: usize = 16 << 20;
/// Writes that may wait; the bytes of entries have their own bound.
const COMMANDS_MAX: usize = 1_024;
/// How long to wait for room on a full disk before looking again.
const DISK_FULL_WAIT: Duration = Duration::from_millis(100);

/// Who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writing {
    /// A thread of its own, so that the engine goes on meanwhile, and entries that wait share a
    /// write.
    Thread,
    /// The caller, so that a simulation is the same each time.
    Inline,
}

/// Entries to append, and whom to tell when they are on disk.
pub(super) struct Group<R: AsyncRuntime> {
    pub(super) entries: Vec<Entry>,
    pub(super) callback: IOFlushed<Types<R>>,
    /// Their share of what may wait.
    pub(super) waiting: OwnedSemaphorePermit,
}

/// A write.
pub(super) enum Command<R: AsyncRuntime> {
    Append(Group<R>),
    Truncate(Option<u64>, oneshot::Sender<io::Result<()>>),
    Vote(Vec<u8>, oneshot::Sender<io::Result<()>>),
}

/// The files.
pub(super) struct Backend {
    pub(super) log: BlockLog,
    pub(super) vote: SlotFile,
    pub(super) shared: Arc<Shared>,
}

impl Backend {
    pub(super) fn append_genesis(&mut self, genesis: &Entry) -> io::Result<()> {
        self.append(&[genesis]).map_err(io::Error::other)
    }

    fn append(&mut self, entries: &[&Entry]) -> Result<(), AppendError> {
        let mut blocks = Vec::with_capacity(entries.len());
        for entry in entries {
            let (height, header_hash) = (entry.index(), entry.digest().0);
            blocks.push(BlockRef { height, header_hash, bytes: entry.stored() });
        }
        let appended = self.log.append(&blocks);
        let is_full = matches!(appended, Err(AppendError::DiskFull { .. }));
        self.shared.is_full.store(is_full, Ordering::Release);
        appended?;
        self.shared.state.lock().cache.synced(self.log.next_height());
        Ok(())
    }

    fn truncate(&mut self, after: Option<u64>) -> io::Result<()> {
        self.log.truncate_after(after).map_err(io::Error::other)
    }

    fn keep(&mut self, vote: &[u8]) -> io::Result<()> {
        self.vote.write(vote).map_err(io::Error::other)
    }
}

/// Hands writes to whoever writes.
pub(super) enum Writer<R: AsyncRuntime> {
    Thread { commands: Sender<Command<R>>, thread: Option<JoinHandle<()>> },
    Inline(Box<Backend>),
}

fn stopped() -> io::Error {
    io::Error::other("the log's writer has stopped")
}

impl<R: AsyncRuntime> Writer<R> {
    pub(super) fn start(backend: Backend, writing: Writing) -> io::Result<Self> {
        if writing == Writing::Inline {
            return Ok(Self::Inline(Box::new(backend)));
        }
        let (commands, received) = crossbeam_channel::bounded(COMMANDS_MAX);
        let thread = std::thread::Builder::new()
            .name("kanjo-log".to_owned())
            .spawn(move || run(backend, &received))?;
        Ok(Self::Thread { commands, thread: Some(thread) })
    }

    /// The thread, which ends when the log is dropped.
    pub(super) fn thread(&mut self) -> Option<JoinHandle<()>> {
        match self {
            Self::Thread { thread, .. } => thread.take(),
            Self::Inline(_) => None,
        }
    }

    /// Appends; the group's callback says when it is on disk.
    pub(super) async fn append(&mut self, group: Group<R>) -> io::Result<()> {
        let backend = match self {
            Self::Thread { commands, .. } => {
                return commands.send(Command::Append(group)).map_err(|_| stopped());
            }
            Self::Inline(backend) => backend,
        };
        let entries: Vec<&Entry> = group.entries.iter().collect();
        let result = loop {
            match backend.append(&entries) {
                Err(AppendError::DiskFull { .. }) => R::sleep(DISK_FULL_WAIT).await,
                other => break other.map_err(io::Error::other),
            }
        };
        group.callback.io_completed(result);
        Ok(())
    }

    /// Drops all entries after this index, or all.
    pub(super) async fn truncate(&mut self, after: Option<u64>) -> io::Result<()> {
        match self {
            Self::Thread { commands, .. } => {
                let (done, result) = oneshot::channel();
                commands.send(Command::Truncate(after, done)).map_err(|_| stopped())?;
                result.await.map_err(|_| stopped())?
            }
            Self::Inline(backend) => backend.truncate(after),
        }
    }

    /// Keeps the vote for a leader.
    pub(super) async fn vote(&mut self, vote: Vec<u8>) -> io::Result<()> {
        match self {
            Self::Thread { commands, .. } => {
                let (done, result) = oneshot::channel();
                commands.send(Command::Vote(vote, done)).map_err(|_| stopped())?;
                result.await.map_err(|_| stopped())?
            }
            Self::Inline(backend) => backend.keep(&vote),
        }
    }
}

/// The writer's thread: ends when nobody can give it commands any more.
fn run<R: AsyncRuntime>(mut backend: Backend, commands: &Receiver<Command<R>>) {
    let mut next = None;
    while let Some(command) = next.take().or_else(|| commands.recv().ok()) {
        match command {
            Command::Append(group) => next = append_groups(&mut backend, group, commands),
            // Nobody waits any more when the engine was stopped meanwhile.
            Command::Truncate(after, done) => drop(done.send(backend.truncate(after))),
            Command::Vote(vote, done) => drop(done.send(backend.keep(&vote))),
        }
    }
}

/// Writes a group, and those that wait behind it, with one write and one sync. Returns the command
/// that came after them.
fn append_groups<R: AsyncRuntime>(
    backend: &mut Backend,
    first: Group<R>,
    commands: &Receiver<Command<R>>,
) -> Option<Command<R>> {
    let size = |group: &Group<R>| group.entries.iter().map(|e| e.stored().len()).sum::<usize>();
    let mut bytes = size(&first);
    let (mut groups, mut after) = (vec![first], None);
    while bytes < WRITE_BYTES_MAX {
        match commands.try_recv() {
            Ok(Command::Append(group)) => {
                bytes = bytes.saturating_add(size(&group));
                groups.push(group);
            }
            Ok(other) => {
                after = Some(other);
                break;
            }
            Err(_) => break,
        }
    }
    let entries: Vec<&Entry> = groups.iter().flat_map(|group| &group.entries).collect();
    let result = loop {
        match backend.append(&entries) {
            // Nothing was written; payments wait until there is room.
            Err(AppendError::DiskFull { .. }) => std::thread::sleep(DISK_FULL_WAIT),
            other => break other.map_err(|error| error.to_string()),
        }
    };
    for group in groups {
        drop(group.waiting);
        group.callback.io_completed(result.clone().map_err(io::Error::other));
    }
    after
}
