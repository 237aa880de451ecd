//! A disk in memory that fails as told and crashes on command, the same way for the same seed.
//!
//! The model, which is harsher than most file systems:
//! - a write is visible at once, sector by sector, and survives a crash for
//!   certain only if it was synced; of unsynced writes any subset of sectors may survive;
//! - names (create, rename, remove) survive for certain only if the directory was synced; of
//!   unsynced changes to names a prefix may survive;
//! - after a failed sync the bytes stay visible, but are marked clean: a later successful sync
//!   does not save them, only writing them again and then syncing does.
//!
//! ```
//! use kanjo_store::disk::Disk;
//! use kanjo_store::faults::{Fault, FaultyDisk};
//! # fn main() -> std::io::Result<()> {
//! let disk = FaultyDisk::new(7);
//! disk.inject(Fault::FailSync, 0);
//! let file = disk.create("log/a".as_ref())?;
//! file.write_all_at(b"lost", 0)?;
//! assert!(file.sync_data().is_err());
//! drop(disk.crash(1));
//! assert!(file.byte_len().is_err(), "nothing works on a disk without power");
//! # Ok(())
//! # }
//! ```

mod rng;

pub use rng::SeededRng;

use crate::disk::{Disk, DiskFile, DiskLock, SECTOR_BYTES};
use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const ENOSPC: i32 = 28;
const EIO: i32 = 5;

/// One thing to go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A write fails with EIO; some of its first sectors got through.
    FailWrite,
    /// A write writes only some of the first sectors of what was asked, and says so.
    ShortWrite,
    /// A sync of a file fails with EIO.
    FailSync,
    /// A sync of a directory fails with EIO.
    FailSyncDir,
    /// A read fails with EIO.
    FailRead,
    /// A read returns one flipped bit; the file is whole.
    FlipOnRead,
}

/// How often things go wrong by themselves, in parts per million of operations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FaultRates {
    /// Writes that fail.
    pub fail_write_ppm: u32,
    /// Writes that are short.
    pub short_write_ppm: u32,
    /// File syncs that fail.
    pub fail_sync_ppm: u32,
    /// Reads that return a flipped bit.
    pub flip_read_ppm: u32,
}

struct Write {
    offset: u64,
    data: Vec<u8>,
    /// A sync has failed since: a later one does not save this write.
    stranded: bool,
}

#[derive(Default)]
struct Inode {
    path: PathBuf,
    visible: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Write>,
}

enum NameChange {
    Link(PathBuf, u64),
    Unlink(PathBuf),
    Rename { from: PathBuf, to: PathBuf, inode: u64 },
}

impl NameChange {
    fn path(&self) -> &Path {
        match self {
            Self::Link(path, _) | Self::Unlink(path) | Self::Rename { to: path, .. } => path,
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Self::Link(path, inode) => {
                names.insert(path.clone(), *inode);
            }
            Self::Unlink(path) => {
                names.remove(path);
            }
            Self::Rename { from, to, inode } => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
        }
    }
}

struct Planned {
    fault: Fault,
    suffix: String,
    skip: u64,
}

struct State {
    rng: SeededRng,
    inodes: BTreeMap<u64, Inode>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    unsynced_names: Vec<NameChange>,
    locks: BTreeSet<PathBuf>,
    planned: Vec<Planned>,
    rates: FaultRates,
    space_left: Option<u64>,
    changes: u64,
    crash_at_change: Option<u64>,
    crashed: bool,
}

/// An in-memory disk with faults; clones share the same disk.
#[derive(Clone)]
pub struct FaultyDisk {
    state: Arc<Mutex<State>>,
}

fn overlay(bytes: &mut Vec<u8>, offset: u64, data: &[u8]) {
    let start = offset as usize;
    let end = start + data.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    if let Some(target) = bytes.get_mut(start..end) {
        target.copy_from_slice(data);
    }
}

/// Splits a write at the sector boundaries of the file.
fn sector_pieces(offset: u64, mut data: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let mut at = offset;
    std::iter::from_fn(move || {
        if data.is_empty() {
            return None;
        }
        let room = SECTOR_BYTES - (at as usize % SECTOR_BYTES);
        let (piece, rest) = data.split_at(room.min(data.len()));
        let piece_at = at;
        at += piece.len() as u64;
        data = rest;
        Some((piece_at, piece))
    })
}

fn os_error(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

impl State {
    fn empty(seed: u64) -> Self {
        Self {
            rng: SeededRng::new(seed),
            inodes: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            unsynced_names: Vec::new(),
            locks: BTreeSet::new(),
            planned: Vec::new(),
            rates: FaultRates::default(),
            space_left: None,
            changes: 0,
            crash_at_change: None,
            crashed: false,
        }
    }

    fn check_alive(&self) -> io::Result<()> {
        if self.crashed {
            Err(io::Error::other("the simulated machine has crashed"))
        } else {
            Ok(())
        }
    }

    /// Counts a change; true if the machine dies during this one.
    fn dies_now(&mut self) -> bool {
        self.changes += 1;
        self.crashed = self.crash_at_change.is_some_and(|at| self.changes >= at);
        self.crashed
    }

    fn due(&mut self, fault: Fault, path: &Path) -> bool {
        let name = path.to_string_lossy();
        let matches = |p: &Planned| p.fault == fault && name.ends_with(&p.suffix);
        let Some(at) = self.planned.iter().position(matches) else { return false };
        let Some(planned) = self.planned.get_mut(at) else { return false };
        if planned.skip > 0 {
            planned.skip -= 1;
            return false;
        }
        self.planned.remove(at);
        true
    }

    fn write(&mut self, inode: u64, data: &[u8], offset: u64) -> io::Result<usize> {
        self.check_alive()?;
        let path = self.inodes.get(&inode).map(|i| i.path.clone()).unwrap_or_default();
        let fails = self.due(Fault::FailWrite, &path) || self.rng.hits(self.rates.fail_write_ppm);
        let short = self.due(Fault::ShortWrite, &path) || self.rng.hits(self.rates.short_write_ppm);
        let dies = self.dies_now();
        let mut len = data.len();
        if fails || short || dies {
            // At least one sector if it only is short, so that writing on comes to an end.
            let sectors = sector_pieces(offset, data).count() as u64;
            let least = u64::from(!(fails || dies));
            let kept = least + self.rng.below(sectors.saturating_sub(least));
            len = sector_pieces(offset, data).take(kept as usize).map(|(_, p)| p.len()).sum();
        }
        let Some(file) = self.inodes.get_mut(&inode) else { return Err(os_error(EIO)) };
        let growth = (offset + len as u64).saturating_sub(file.visible.len() as u64);
        let mut full = false;
        if let Some(left) = &mut self.space_left {
            if growth > *left {
                len = len.saturating_sub((growth - *left) as usize);
                full = len == 0;
            }
            *left -= growth.min(*left);
        }
        let data = data.split_at(len).0.to_vec();
        if !data.is_empty() {
            overlay(&mut file.visible, offset, &data);
            file.unsynced.push(Write { offset, data, stranded: false });
        }
        match (full, fails || dies) {
            (true, _) => Err(os_error(ENOSPC)),
            (_, true) => Err(os_error(EIO)),
            _ => Ok(len),
        }
    }

    fn sync(&mut self, inode: u64) -> io::Result<()> {
        self.check_alive()?;
        let path = self.inodes.get(&inode).map(|i| i.path.clone()).unwrap_or_default();
        let fails = self.due(Fault::FailSync, &path) || self.rng.hits(self.rates.fail_sync_ppm);
        let dies = self.dies_now();
        let Some(file) = self.inodes.get_mut(&inode) else { return Err(os_error(EIO)) };
        if dies || fails {
            for write in &mut file.unsynced {
                write.stranded |= fails;
            }
            return Err(os_error(EIO));
        }
        let (stranded, synced) = std::mem::take(&mut file.unsynced)
            .into_iter()
            .partition::<Vec<_>, _>(|write| write.stranded);
        for write in &synced {
            overlay(&mut file.durable, write.offset, &write.data);
        }
        // A stranded write that was written again is durable with the newer write.
        let newer = |old: &Write| {
            let end = old.offset + old.data.len() as u64;
            synced.iter().any(|w| w.offset <= old.offset && w.offset + w.data.len() as u64 >= end)
        };
        file.unsynced = stranded.into_iter().filter(|old| !newer(old)).collect();
        Ok(())
    }

    fn change_name(&mut self, change: NameChange) -> io::Result<()> {
        self.check_alive()?;
        let dies = self.dies_now();
        change.apply(&mut self.names);
        self.unsynced_names.push(change);
        if dies { Err(os_error(EIO)) } else { Ok(()) }
    }

    fn inode_of(&self, path: &Path) -> io::Result<u64> {
        self.check_alive()?;
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn truncate(&mut self, inode: u64) {
        if let Some(file) = self.inodes.get_mut(&inode) {
            file.visible.clear();
            file.unsynced.clear();
        }
    }

    /// Gives the space of a file back.
    fn release(&mut self, inode: u64) {
        let len = self.inodes.get(&inode).map_or(0, |file| file.visible.len() as u64);
        if let Some(left) = &mut self.space_left {
            *left += len;
        }
    }
}

impl FaultyDisk {
    /// An empty disk on which nothing fails yet.
    pub fn new(seed: u64) -> Self {
        Self { state: Arc::new(Mutex::new(State::empty(seed))) }
    }

    /// Lets the operation that matches `fault` fail, after `skip` of its kind have passed.
    pub fn inject(&self, fault: Fault, skip: u64) {
        self.inject_on(fault, "", skip);
    }

    /// As [`inject`](Self::inject), counting only files whose path ends in `suffix`.
    pub fn inject_on(&self, fault: Fault, suffix: &str, skip: u64) {
        self.state.lock().planned.push(Planned { fault, suffix: suffix.to_owned(), skip });
    }

    /// Lets things fail at random from now on.
    pub fn set_rates(&self, rates: FaultRates) {
        self.state.lock().rates = rates;
    }

    /// Bytes by which files may still grow; `None` for no limit. Removing files gives back.
    pub fn set_space(&self, bytes: Option<u64>) {
        self.state.lock().space_left = bytes;
    }

    /// Lets the machine die in the middle of the `n`-th change from now (writes, syncs, names).
    /// From then on every operation fails; call [`crash`](Self::crash) for what is left.
    pub fn crash_after(&self, n: u64) {
        let mut state = self.state.lock();
        state.crash_at_change = Some(state.changes + n.max(1));
    }

    /// Writes, syncs and changes of names so far.
    pub fn changes(&self) -> u64 {
        self.state.lock().changes
    }

    /// Cuts the power. Returns the disk as found afterwards: a seeded choice among the states
    /// allowed. Everything on the old disk fails from now on.
    pub fn crash(&self, seed: u64) -> Self {
        let mut rng = SeededRng::new(seed ^ 0x6372_6173_6800_0000);
        let mut state = self.state.lock();
        state.crashed = true;
        let mut after = State::empty(rng.next_u64());
        after.durable_names = state.durable_names.clone();
        let kept = rng.below(state.unsynced_names.len() as u64 + 1) as usize;
        for change in state.unsynced_names.iter().take(kept) {
            change.apply(&mut after.durable_names);
        }
        after.names = after.durable_names.clone();
        for (path, inode) in &after.names {
            let Some(file) = state.inodes.get(inode) else { continue };
            let bytes = survivors(file, &mut rng);
            let (visible, durable, path) = (bytes.clone(), bytes, path.clone());
            after.inodes.insert(*inode, Inode { path, visible, durable, unsynced: Vec::new() });
        }
        Self { state: Arc::new(Mutex::new(after)) }
    }

    /// Kills the process, not the machine: everything visible stays, including bytes that a
    /// failed sync has left in the page cache only. Locks are released, open files die.
    pub fn kill_process(&self) -> Self {
        let mut old = self.state.lock();
        let mut state = State::empty(old.rng.next_u64());
        state.inodes = std::mem::take(&mut old.inodes);
        state.names = std::mem::take(&mut old.names);
        state.durable_names = std::mem::take(&mut old.durable_names);
        state.unsynced_names = std::mem::take(&mut old.unsynced_names);
        state.space_left = old.space_left;
        old.crashed = true;
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// An independent copy in which everything visible is durable and nothing is planned.
    pub fn snapshot(&self) -> Self {
        let old = self.state.lock();
        let mut state = State::empty(0);
        state.names = old.names.clone();
        state.durable_names = old.names.clone();
        for inode in old.names.values() {
            let Some(file) = old.inodes.get(inode) else { continue };
            let (visible, durable) = (file.visible.clone(), file.visible.clone());
            let copy = Inode { path: file.path.clone(), visible, durable, unsynced: Vec::new() };
            state.inodes.insert(*inode, copy);
        }
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Flips bits of a file at rest: XORs the byte at `offset` with `mask`.
    pub fn flip(&self, path: &Path, offset: u64, mask: u8) -> io::Result<()> {
        self.edit(path, |bytes| {
            let byte = usize::try_from(offset).ok().and_then(|at| bytes.get_mut(at));
            byte.map(|byte| *byte ^= mask).ok_or(io::ErrorKind::UnexpectedEof.into())
        })
    }

    /// Replaces the content of a file at rest.
    pub fn put(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        if self.state.lock().inode_of(path).is_err() {
            self.create(path)?;
        }
        if let Some(parent) = path.parent() {
            self.sync_dir(parent)?;
        }
        self.edit(path, |bytes| {
            *bytes = content.to_vec();
            Ok(())
        })
    }

    /// The visible content of a file.
    pub fn get(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.state.lock();
        let inode = state.inode_of(path)?;
        Ok(state.inodes.get(&inode).map(|file| file.visible.clone()).unwrap_or_default())
    }

    /// All files.
    pub fn files(&self) -> Vec<PathBuf> {
        self.state.lock().names.keys().cloned().collect()
    }

    fn edit(&self, path: &Path, change: impl Fn(&mut Vec<u8>) -> io::Result<()>) -> io::Result<()> {
        let mut state = self.state.lock();
        let inode = state.inode_of(path)?;
        let file = state.inodes.get_mut(&inode).ok_or(io::ErrorKind::NotFound)?;
        change(&mut file.visible)?;
        file.durable = file.visible.clone();
        file.unsynced.clear();
        Ok(())
    }

    fn lock_state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

/// What is left of a file: the synced bytes and a choice among the sectors of unsynced writes.
fn survivors(file: &Inode, rng: &mut SeededRng) -> Vec<u8> {
    let mut bytes = file.durable.clone();
    let pieces: Vec<(u64, &[u8])> =
        file.unsynced.iter().flat_map(|w| sector_pieces(w.offset, &w.data)).collect();
    let count = pieces.len() as u64;
    let mode = rng.below(5);
    let prefix = rng.below(count + 1);
    let single = rng.below(count);
    for (index, (offset, piece)) in (0..).zip(pieces) {
        let survives = match mode {
            0 => false,
            1 => true,
            2 => index < prefix,
            3 => index != single,
            _ => rng.below(2) == 0,
        };
        if survives {
            overlay(&mut bytes, offset, piece);
        }
    }
    bytes
}

struct FaultyFile {
    disk: FaultyDisk,
    inode: u64,
}

impl DiskFile for FaultyFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.lock_state();
        state.check_alive()?;
        let path = state.inodes.get(&self.inode).map(|i| i.path.clone()).unwrap_or_default();
        if state.due(Fault::FailRead, &path) {
            return Err(os_error(EIO));
        }
        let rate = state.rates.flip_read_ppm;
        let flips = state.due(Fault::FlipOnRead, &path) || state.rng.hits(rate);
        let bit = state.rng.next_u64();
        let Some(file) = state.inodes.get(&self.inode) else { return Err(os_error(EIO)) };
        let rest = file.visible.get(offset as usize..).unwrap_or_default();
        let len = rest.len().min(buf.len());
        let target = buf.split_at_mut(len).0;
        target.copy_from_slice(rest.split_at(len).0);
        let at = (bit >> 3).checked_rem(len as u64).unwrap_or(0) as usize;
        if flips && let Some(byte) = target.get_mut(at) {
            *byte ^= 1 << (bit & 7);
        }
        Ok(len)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<usize> {
        self.disk.lock_state().write(self.inode, data, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.lock_state().sync(self.inode)
    }

    fn byte_len(&self) -> io::Result<u64> {
        let state = self.disk.lock_state();
        state.check_alive()?;
        Ok(state.inodes.get(&self.inode).map_or(0, |file| file.visible.len() as u64))
    }
}

struct FaultyLock {
    disk: FaultyDisk,
    path: PathBuf,
}

impl DiskLock for FaultyLock {}

impl Drop for FaultyLock {
    fn drop(&mut self) {
        self.disk.lock_state().locks.remove(&self.path);
    }
}

impl Disk for FaultyDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.lock_state();
        state.check_alive()?;
        if let Some(old) = state.names.get(path).copied() {
            // Whoever still has the old file open loses its content, as with O_TRUNC.
            state.release(old);
            state.truncate(old);
        }
        let inode = state.inodes.keys().next_back().map_or(1, |last| last + 1);
        state.inodes.insert(inode, Inode { path: path.to_owned(), ..Inode::default() });
        state.change_name(NameChange::Link(path.to_owned(), inode))?;
        drop(state);
        Ok(Arc::new(FaultyFile { disk: self.clone(), inode }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let inode = self.lock_state().inode_of(path)?;
        Ok(Arc::new(FaultyFile { disk: self.clone(), inode }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.lock_state();
        state.check_alive()?;
        let inside = state.names.keys().filter(|path| path.parent() == Some(dir));
        let name = |path: &PathBuf| path.file_name().map(|n| n.to_string_lossy().into_owned());
        Ok(inside.filter_map(name).collect())
    }

    fn create_dir_all(&self, _dir: &Path) -> io::Result<()> {
        self.lock_state().check_alive()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock_state();
        let inode = state.inode_of(from)?;
        if let Some(old) = state.names.get(to).copied() {
            state.release(old);
        }
        if let Some(file) = state.inodes.get_mut(&inode) {
            file.path = to.to_owned();
        }
        state.change_name(NameChange::Rename { from: from.to_owned(), to: to.to_owned(), inode })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock_state();
        let inode = state.inode_of(path)?;
        state.release(inode);
        state.change_name(NameChange::Unlink(path.to_owned()))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock_state();
        state.check_alive()?;
        let fails = state.due(Fault::FailSyncDir, dir);
        if state.dies_now() || fails {
            return Err(os_error(EIO));
        }
        let (synced, rest) = std::mem::take(&mut state.unsynced_names)
            .into_iter()
            .partition::<Vec<_>, _>(|change| change.path().parent() == Some(dir));
        for change in &synced {
            change.apply(&mut state.durable_names);
        }
        state.unsynced_names = rest;
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        let mut state = self.lock_state();
        state.check_alive()?;
        if !state.locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(FaultyLock { disk: self.clone(), path: path.to_owned() }))
    }
}
