//! The engine's state machine: hands committed entries to the node, in order.

use crate::boundary::{CommittedEntry, Sink};
use crate::entry::Content;
use crate::log::{LogReader, VoterHistory};
use crate::network::no_snapshots;
use crate::types::{EntryId, StoredVoters, Types};
use futures_util::{Stream, StreamExt};
use openraft::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{AsyncRuntime, OptionalSend, RaftSnapshotBuilder};
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Knows how far the node has come; the state itself is the node's.
pub(crate) struct Machine<R> {
    applied: Option<EntryId>,
    voters: StoredVoters,
    history: VoterHistory,
    sink: Arc<dyn Sink>,
    /// Dropped last: then the files are free.
    _alive: oneshot::Sender<()>,
    runtime: PhantomData<fn() -> R>,
}

impl<R: AsyncRuntime> Machine<R> {
    /// `applied` is the height up to which the node has its state. The receiver says when the
    /// machine is gone.
    pub(crate) fn new(
        reader: &LogReader,
        history: VoterHistory,
        applied: Option<u64>,
        sink: Arc<dyn Sink>,
    ) -> io::Result<(Self, oneshot::Receiver<()>)> {
        let (mut id, mut voters) = (None, StoredVoters::default());
        if let Some(height) = applied {
            let entry = reader.entry(height)?.ok_or_else(|| {
                io::Error::other(format!("the state is at height {height}, the log ends below it"))
            })?;
            id = Some(entry.id());
            voters = history.at(height, reader)?;
        }
        let (_alive, gone) = oneshot::channel();
        Ok((Self { applied: id, voters, history, sink, _alive, runtime: PhantomData }, gone))
    }
}

impl<R: AsyncRuntime> RaftStateMachine<Types<R>> for Machine<R> {
    type SnapshotData = ();
    type SnapshotBuilder = NoSnapshots;

    async fn applied_state(&mut self) -> io::Result<(Option<EntryId>, StoredVoters)> {
        Ok((self.applied, self.voters.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types<R>>>> + Unpin + OptionalSend,
    {
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            let (id, proposer) = (entry.id(), entry.proposer());
            let signature = entry.signature().copied();
            let signature = signature.ok_or_else(|| {
                io::Error::other(format!("the committed entry {id} has no signature"))
            })?;
            let content = entry.into_content();
            if let Content::Voters(voters) = &content {
                self.voters = StoredVoters::new(Some(id), voters.clone());
                // On disk before the node hears of it: what the node has, the history has.
                self.history.push(&self.voters)?;
            }
            let (index, term) = (id.index, id.leader_id.term);
            let committed = CommittedEntry { index, term, proposer, signature, content };
            self.sink.committed(committed).await;
            self.applied = Some(id);
            if let Some(responder) = responder {
                responder.send(());
            }
        }
        Ok(())
    }

    // The engine may always ask for a builder; it never gets a snapshot out of it.
    async fn get_snapshot_builder(&mut self) -> NoSnapshots {
        NoSnapshots
    }

    async fn install_snapshot(
        &mut self,
        _meta: &SnapshotMetaOf<Types<R>>,
        _snapshot: (),
    ) -> io::Result<()> {
        Err(no_snapshots())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<Types<R>, ()>>> {
        Ok(None)
    }
}

/// Builds nothing.
pub(crate) struct NoSnapshots;

impl<R: AsyncRuntime> RaftSnapshotBuilder<Types<R>> for NoSnapshots {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<Types<R>, ()>> {
        Err(no_snapshots())
    }
}
