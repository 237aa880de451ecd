//! The engine's own suite against this log, in simulation and with a thread and real files.
//!
//! Left out is what this log does not do on purpose: purging and snapshots (`purge_*`,
//! `append_to_log`, `try_get_log_entry`, `snapshot_meta`, `transfer_snapshot` and those that prepare
//! themselves by purging). The suite begins its logs at any index; so the log is made at the first
//! append.

use super::*;
use crate::boundary::{CommittedEntry, NotaryError, Sink};
use crate::entry::Content;
use crate::machine::Machine;
use crate::types::{StoredVoters, entry_id};
use futures_util::StreamExt;
use kanjo_link::bus::BoxFuture;
use kanjo_store::faults::FaultyDisk;
use kanjo_store::log::LogOptions;
use openraft::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::entry::RaftEntry;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::TypeConfigExt;
use openraft::{EntryPayload, StorageError};
use openraft_rt_sim::SimRuntime;
use openraft_rt_tokio::TokioRuntime;
use std::future::Future;
use std::path::Path;

struct Signs;

impl Notary for Signs {
    fn sign(
        &self,
        requests: Vec<ProposalRequest>,
    ) -> BoxFuture<'static, Result<Vec<[u8; 64]>, NotaryError>> {
        Box::pin(async move { Ok(requests.iter().map(|_| [1; 64]).collect()) })
    }
}

struct Drain;

impl Sink for Drain {
    fn committed(&self, _entry: CommittedEntry) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}

fn parts(disk: &FaultyDisk, first_height: u64) -> LogParts {
    let (disk, dir) = (Arc::new(disk.clone()), Path::new("/node"));
    let options = LogOptions { segment_bytes: 1 << 20, first_height };
    let (log, _) = BlockLog::open(disk.clone(), &dir.join("log"), [7; 32], options).unwrap();
    LogParts { log, dir: dir.to_owned(), disk }
}

fn open<R: AsyncRuntime>(disk: &FaultyDisk, first: u64, writing: Writing) -> Log<R> {
    Log::open(0, parts(disk, first), None, Arc::new(Signs), writing).unwrap().0
}

/// A log that begins where the suite first appends.
struct AnyFirst<R: AsyncRuntime> {
    disk: FaultyDisk,
    writing: Writing,
    log: Option<Log<R>>,
    /// Reads whatever log there is.
    reader: Shift,
}

#[derive(Clone, Default)]
struct Shift(Arc<Mutex<Option<LogReader>>>);

impl<R: AsyncRuntime> AnyFirst<R> {
    fn new(writing: Writing) -> Self {
        let disk = FaultyDisk::new(1);
        let log = open::<R>(&disk, 0, writing);
        let reader = Shift(Arc::new(Mutex::new(Some(log.reader()))));
        Self { disk, writing, log: Some(log), reader }
    }

    fn log(&mut self) -> &mut Log<R> {
        self.log.as_mut().unwrap()
    }

    /// Opens the log again, at this index, if nothing is in it.
    fn begin_at(&mut self, first: u64) {
        if first == 0 || self.reader().next_index() != 0 {
            return;
        }
        let mut old = self.log.take().unwrap();
        let vote = old.reader.shared.state.lock().vote;
        let thread = old.closed();
        drop(old);
        thread.map(|thread| thread.join().unwrap());
        self.disk = FaultyDisk::new(1);
        let log = open::<R>(&self.disk, first, self.writing);
        log.reader.shared.state.lock().vote = vote;
        *self.reader.0.lock() = Some(log.reader());
        self.log = Some(log);
    }

    fn reader(&self) -> LogReader {
        self.reader.0.lock().clone().unwrap()
    }
}

impl<R: AsyncRuntime> RaftLogReader<Types<R>> for Shift {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<Entry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let mut reader = self.0.lock().clone().unwrap();
        RaftLogReader::<Types<R>>::try_get_log_entries(&mut reader, range).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        let mut reader = self.0.lock().clone().unwrap();
        RaftLogReader::<Types<R>>::limited_get_log_entries(&mut reader, start, end).await
    }

    async fn read_vote(&mut self) -> io::Result<Option<LeaderVote>> {
        let mut reader = self.0.lock().clone().unwrap();
        RaftLogReader::<Types<R>>::read_vote(&mut reader).await
    }

    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = io::Result<Entry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let mut reader = self.0.lock().clone().unwrap();
        let entries = RaftLogReader::<Types<R>>::entries_stream(&mut reader, range).await;
        stream::iter(entries.collect::<Vec<_>>().await)
    }
}

impl<R: AsyncRuntime> RaftLogStorage<Types<R>> for AnyFirst<R> {
    type LogReader = Shift;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types<R>>> {
        self.log().get_log_state().await
    }

    async fn get_log_reader(&mut self) -> Shift {
        self.reader.clone()
    }

    async fn save_vote(&mut self, vote: &LeaderVote) -> io::Result<()> {
        self.log().save_vote(vote).await
    }

    async fn save_committed(&mut self, committed: Option<EntryId>) -> io::Result<()> {
        self.log().save_committed(committed).await
    }

    async fn read_committed(&mut self) -> io::Result<Option<EntryId>> {
        self.log().read_committed().await
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types<R>>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        entries.first().inspect(|first| self.begin_at(first.index()));
        self.log().append(entries, callback).await
    }

    async fn truncate_after(&mut self, last: Option<EntryId>) -> io::Result<()> {
        self.log().truncate_after(last).await
    }

    async fn purge(&mut self, id: EntryId) -> io::Result<()> {
        self.log().purge(id).await
    }
}

/// Signs what the suite applies, as the log would have.
struct Signing<R>(Machine<R>);

impl<R: AsyncRuntime> RaftStateMachine<Types<R>> for Signing<R> {
    type SnapshotData = ();
    type SnapshotBuilder = <Machine<R> as RaftStateMachine<Types<R>>>::SnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<EntryId>, StoredVoters)> {
        self.0.applied_state().await
    }

    async fn apply<S>(&mut self, entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types<R>>>> + Unpin + OptionalSend,
    {
        let sign = |item: io::Result<EntryResponder<Types<R>>>| {
            item.map(|(mut entry, responder)| {
                entry.sign(0, [1; 64]);
                (entry, responder)
            })
        };
        self.0.apply(entries.map(sign)).await
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        self.0.get_snapshot_builder().await
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMetaOf<Types<R>>,
        snapshot: (),
    ) -> io::Result<()> {
        self.0.install_snapshot(meta, snapshot).await
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<Types<R>, ()>>> {
        self.0.get_current_snapshot().await
    }
}

struct Builder(Writing);

impl<R: AsyncRuntime> StoreBuilder<Types<R>, AnyFirst<R>, Signing<R>> for Builder {
    async fn build(&self) -> Result<((), AnyFirst<R>, Signing<R>), StorageError<Types<R>>> {
        let store = AnyFirst::<R>::new(self.0);
        let disk = FaultyDisk::new(2);
        let slot = SlotFile::open(Arc::new(disk), Path::new("/node/voters.slot")).unwrap();
        let history = VoterHistory::open(slot).unwrap();
        let (machine, _) = Machine::new(&store.reader(), history, None, Arc::new(Drain)).unwrap();
        Ok(((), store, Signing(machine)))
    }
}

async fn on<R, F, T>(writing: Writing, test: F)
where
    R: AsyncRuntime,
    F: Fn(AnyFirst<R>, Signing<R>) -> T,
    T: Future<Output = io::Result<()>>,
{
    let ((), store, machine) = Builder(writing).build().await.unwrap();
    test(store, machine).await.unwrap();
}

async fn suite<R: AsyncRuntime>(writing: Writing) {
    type All<R> = Suite<Types<R>, AnyFirst<R>, Signing<R>, Builder, ()>;
    macro_rules! each {
        ($($test:ident)*) => { $( on::<R, _, _>(writing, All::<R>::$test).await; )* };
    }
    each!(
        last_membership_in_log_initial last_membership_in_log last_membership_in_log_multi_step
        get_membership_initial get_membership_from_log_and_empty_sm
        get_membership_from_empty_log_and_sm get_membership_from_log_le_sm_last_applied
        get_membership_from_log_gt_sm_last_applied_1 get_membership_from_log_gt_sm_last_applied_2
        get_initial_state_without_init get_initial_state_membership_from_empty_log_and_sm
        get_initial_state_membership_from_sm_inlog_is_smaller
        get_initial_state_membership_from_log_insm_is_smaller get_initial_state_with_state
        get_initial_state_last_log_gt_sm get_initial_state_inverted_log_order
        get_initial_state_conflict_at_same_index get_initial_state_re_apply_committed
        save_vote get_log_entries limited_get_log_entries leader_bounded_stream entries_stream
        log_reader_reads_new_entries initial_logs last_applied_state
        delete_logs_after_11 delete_logs_after_5 delete_logs_after_0 delete_logs_after_none
        snapshot_meta_optional apply_single apply_multiple
    );
}

#[test]
fn the_engines_suite_passes_in_simulation() {
    SimRuntime::with_seed(1).block_on(suite::<SimRuntime>(Writing::Inline));
}

#[test]
fn the_engines_suite_passes_with_a_thread() {
    TokioRuntime::new(1).block_on(suite::<TokioRuntime>(Writing::Thread));
}

fn blank(term: u64, index: u64) -> Entry {
    Entry::new(entry_id(term, index), EntryPayload::Blank)
}

async fn append(log: &mut Log<TokioRuntime>, entries: Vec<Entry>) {
    let (done, result) = Types::<TokioRuntime>::oneshot();
    log.append(entries, IOFlushed::signal(done)).await.unwrap();
    result.await.unwrap().unwrap();
}

#[test]
fn what_was_told_to_be_on_disk_is_there_after_a_crash() {
    TokioRuntime::new(1).block_on(async {
        let disk = FaultyDisk::new(3);
        let genesis = Entry::genesis(3);
        let open = |disk: &FaultyDisk| {
            let parts = parts(disk, 0);
            Log::<TokioRuntime>::open(0, parts, Some(&genesis), Arc::new(Signs), Writing::Thread)
                .unwrap()
                .0
        };
        let mut log = open(&disk);
        append(&mut log, (1..9).map(|index| blank(1, index)).collect()).await;
        log.truncate_after(Some(entry_id(1, 5))).await.unwrap();
        append(&mut log, vec![blank(2, 6)]).await;
        let vote = LeaderVote::new_committed(2, 1);
        log.save_vote(&vote).await.unwrap();
        let after = disk.crash(5);
        drop(log);
        let mut log = open(&after);
        assert_eq!(log.get_log_reader().await.shared.state.lock().vote, Some(vote));
        let state = log.get_log_state().await.unwrap();
        assert_eq!(state.last_log_id, Some(entry_id(2, 6)));
        let terms: Vec<u64> =
            (0..7).map(|index| log.reader().entry(index).unwrap().unwrap().term()).collect();
        assert_eq!(terms, [0, 1, 1, 1, 1, 1, 2]);
        let entry = log.reader().entry(6).unwrap().unwrap();
        assert_eq!((entry.signature(), entry.content()), (Some(&[1; 64]), &Content::Blank));
    });
}

#[test]
fn a_log_of_another_genesis_is_refused() {
    let disk = FaultyDisk::new(4);
    let open = |voters| {
        let genesis = Entry::genesis(voters);
        let (parts, notary) = (parts(&disk, 0), Arc::new(Signs));
        Log::<SimRuntime>::open(0, parts, Some(&genesis), notary, Writing::Inline).map(drop)
    };
    open(3).unwrap();
    open(3).unwrap();
    assert!(open(4).unwrap_err().to_string().contains("this genesis"));
}
