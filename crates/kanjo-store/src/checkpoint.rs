//! Checkpoints: the state of one partition at one height, so that a restart does not redo the
//! whole log. Partitions are checkpointed one by one, each at its own height; a restart loads
//! each and redoes the log from the lowest.
//!
//! ```text
//! p00007-00000000000000000812.ckpt
//! ┌──────────┬─────────┬───────────┬─────┬──────────┬────────┬─────────┬──────────┬────────┐
//! │ KANJOCKP │ version │ partition │ 0   │ chain id │ height │ payload │ payload  │ BLAKE3 │
//! │ 8        │ u16     │ u16       │ u32 │ 32       │ u64    │ …       │ length 8 │ 32     │
//! └──────────┴─────────┴───────────┴─────┴──────────┴────────┴─────────┴──────────┴────────┘
//! ```
//!
//! Invariants:
//! - a checkpoint gets its name only after it was synced;
//! - the newest two of a partition are kept, so that a damaged one has a predecessor;
//! - a damaged checkpoint is never fatal while the log is whole: the older one, or none, is
//!   used and more of the log is redone.

use crate::ChainId;
use crate::bytes::{Bytes, hex};
use crate::disk::{Disk, DiskFile, create_dir_durably};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MAGIC: [u8; 8] = *b"KANJOCKP";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 56;
const FOOTER_BYTES: usize = 40;
const SUM_BYTES: usize = 32;
const WRITE_CHUNK_BYTES: usize = 1 << 20;
/// Checkpoints kept for each partition.
pub const KEPT_PER_PARTITION: usize = 2;

/// A checkpoint that was loaded and verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The partition it belongs to.
    pub partition: u16,
    /// The state contains everything up to and including this height.
    pub height: u64,
    /// What the caller wrote.
    pub payload: Vec<u8>,
}

/// Why bytes are not a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Too short, or not a checkpoint at all.
    #[error("it is not a checkpoint: {0}")]
    NotACheckpoint(&'static str),
    /// A format this build does not read.
    #[error("format version {0} is not known, this build reads {VERSION}")]
    Version(u16),
    /// The content is damaged.
    #[error("it does not match its BLAKE3 checksum")]
    Checksum,
    /// It is whole, but not the one that its name or the caller says.
    #[error("it is of {what} {found}, expected {expected}")]
    Foreign {
        /// The field that differs.
        what: &'static str,
        /// What the file says.
        found: String,
        /// What it should say.
        expected: String,
    },
}

/// A checkpoint file that could not be used; the log makes up for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

/// The outcome of loading a partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loaded {
    /// The newest good checkpoint; `None` means: redo from the start of the log.
    pub checkpoint: Option<Checkpoint>,
    /// Newer ones that are damaged or foreign. Worth a warning, not a failure.
    pub rejected: Vec<Rejected>,
}

/// Why checkpoints were not opened, written or loaded.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {path}: {source}", path = path.display())]
pub struct CheckpointError {
    /// What was tried.
    pub what: &'static str,
    /// On which file or directory.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// The checkpoints in one directory.
pub struct CheckpointStore {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    chain_id: ChainId,
    heights: Mutex<BTreeMap<u16, BTreeSet<u64>>>,
    /// Found damaged by `load`; they do not count among the two that are kept.
    damaged: Mutex<BTreeSet<PathBuf>>,
}

/// The chain and the content of a checkpoint file.
pub type Decoded = (ChainId, Checkpoint);

/// Decodes and verifies a checkpoint file. Never panics, whatever the bytes.
pub fn decode(bytes: &[u8]) -> Result<Decoded, DecodeError> {
    let (chain_id, partition, height, payload) = decode_borrowed(bytes)?;
    Ok((chain_id, Checkpoint { partition, height, payload: payload.to_vec() }))
}

fn decode_borrowed(bytes: &[u8]) -> Result<(ChainId, u16, u64, &[u8]), DecodeError> {
    let short = DecodeError::NotACheckpoint("it is too short");
    let payload_len = bytes.len().checked_sub(HEADER_BYTES + FOOTER_BYTES);
    let payload_len = payload_len.ok_or(short.clone())?;
    let mut fields = Bytes::new(bytes);
    if fields.array().ok_or(short.clone())? != MAGIC {
        return Err(DecodeError::NotACheckpoint("it does not start with KANJOCKP"));
    }
    let version = fields.u16().ok_or(short.clone())?;
    if version != VERSION {
        return Err(DecodeError::Version(version));
    }
    let parse = || -> Option<_> {
        let partition = fields.u16()?;
        fields.u32()?;
        let (chain_id, height) = (fields.array::<32>()?, fields.u64()?);
        let payload = fields.take(payload_len)?;
        Some((chain_id, partition, height, payload, fields.u64()?, fields.array::<SUM_BYTES>()?))
    };
    let mut parse = parse;
    let (chain_id, partition, height, payload, length, sum) = parse().ok_or(short.clone())?;
    let summed = bytes.get(..bytes.len() - SUM_BYTES).ok_or(short)?;
    if length != payload_len as u64 || *blake3::hash(summed).as_bytes() != sum {
        return Err(DecodeError::Checksum);
    }
    Ok((chain_id, partition, height, payload))
}

/// Hashes and buffers what goes to a file.
struct HashingWriter<'a> {
    file: &'a dyn DiskFile,
    hasher: blake3::Hasher,
    buffer: Vec<u8>,
    written: u64,
}

impl HashingWriter<'_> {
    fn flush_buffer(&mut self) -> io::Result<()> {
        self.hasher.update(&self.buffer);
        self.file.write_all_at(&self.buffer, self.written)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

impl Write for HashingWriter<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(data);
        if self.buffer.len() >= WRITE_CHUNK_BYTES {
            self.flush_buffer()?;
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn file_name(partition: u16, height: u64) -> String {
    format!("p{partition:05}-{height:020}.ckpt")
}

fn parse_name(name: &str) -> Option<(u16, u64)> {
    let (partition, height) = name.strip_prefix('p')?.strip_suffix(".ckpt")?.split_once('-')?;
    let (partition, height) = (partition.parse().ok()?, height.parse().ok()?);
    (file_name(partition, height) == name).then_some((partition, height))
}

impl CheckpointStore {
    /// Opens the checkpoints in `dir`, creating it if needed, and removes half-written ones.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        chain_id: ChainId,
    ) -> Result<Self, CheckpointError> {
        let at = |what: &'static str, path: &Path| {
            let path = path.to_owned();
            move |source: io::Error| CheckpointError { what, path, source }
        };
        create_dir_durably(&*disk, dir).map_err(at("create", dir))?;
        let mut heights: BTreeMap<u16, BTreeSet<u64>> = BTreeMap::new();
        for name in disk.list(dir).map_err(at("list", dir))? {
            if name.ends_with(".tmp") {
                let path = dir.join(&name);
                disk.remove(&path).map_err(at("remove", &path))?;
            } else if let Some((partition, height)) = parse_name(&name) {
                heights.entry(partition).or_default().insert(height);
            }
        }
        disk.sync_dir(dir).map_err(at("sync", dir))?;
        let (heights, damaged) = (Mutex::new(heights), Mutex::default());
        Ok(Self { disk, dir: dir.to_owned(), chain_id, heights, damaged })
    }

    /// Writes the checkpoint of a partition; `fill` writes the payload, in pieces of any size.
    /// Durable when this returns `Ok`; after an error the earlier checkpoints are untouched.
    /// Different partitions may be written from different threads at once.
    pub fn write(
        &self,
        partition: u16,
        height: u64,
        fill: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), CheckpointError> {
        let path = self.dir.join(file_name(partition, height));
        let temporary = path.with_extension("ckpt.tmp");
        let written = self
            .write_file(&temporary, partition, height, fill)
            .and_then(|()| self.disk.rename(&temporary, &path));
        if let Err(source) = written {
            // Gives the space back; if that fails too, opening the store removes it.
            let _ = self.disk.remove(&temporary);
            return Err(CheckpointError { what: "write", path, source });
        }
        let synced = self.disk.sync_dir(&self.dir);
        synced.map_err(|source| CheckpointError { what: "sync the name of", path, source })?;
        self.heights.lock().entry(partition).or_default().insert(height);
        self.damaged.lock().remove(&self.dir.join(file_name(partition, height)));
        self.remove_old(partition);
        Ok(())
    }

    fn write_file(
        &self,
        path: &Path,
        partition: u16,
        height: u64,
        fill: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        let file = self.disk.create(path)?;
        let hasher = blake3::Hasher::new();
        let buffer = Vec::with_capacity(WRITE_CHUNK_BYTES);
        let mut writer = HashingWriter { file: &*file, hasher, buffer, written: 0 };
        writer.buffer.extend(MAGIC);
        writer.buffer.extend(VERSION.to_le_bytes());
        writer.buffer.extend(partition.to_le_bytes());
        writer.buffer.extend([0; 4]);
        writer.buffer.extend(self.chain_id);
        writer.buffer.extend(height.to_le_bytes());
        assert_eq!(writer.buffer.len(), HEADER_BYTES);
        fill(&mut writer)?;
        let length = writer.written + writer.buffer.len() as u64 - HEADER_BYTES as u64;
        writer.buffer.extend(length.to_le_bytes());
        writer.flush_buffer()?;
        let sum = writer.hasher.finalize();
        file.write_all_at(sum.as_bytes(), writer.written)?;
        file.sync_data()
    }

    /// Removes all but the newest two good checkpoints. Failing is harmless: they only take
    /// space, and the next write tries again.
    fn remove_old(&self, partition: u16) {
        let mut all = self.heights.lock();
        let mut damaged = self.damaged.lock();
        let Some(heights) = all.get_mut(&partition) else { return };
        let mut good = 0;
        let mut gone = Vec::new();
        for height in heights.iter().rev() {
            let path = self.dir.join(file_name(partition, *height));
            if !damaged.contains(&path) {
                good += 1;
                if good <= KEPT_PER_PARTITION {
                    continue;
                }
            }
            if self.disk.remove(&path).is_ok() {
                damaged.remove(&path);
                gone.push(*height);
            }
        }
        heights.retain(|height| !gone.contains(height));
    }

    /// Loads the newest good checkpoint of a partition.
    pub fn load(&self, partition: u16) -> Result<Loaded, CheckpointError> {
        self.load_at_most(partition, u64::MAX)
    }

    /// Loads the newest good checkpoint that is not above `height_max`: one above the end of
    /// the log must not be used, it contains blocks that the log cannot vouch for.
    pub fn load_at_most(&self, partition: u16, height_max: u64) -> Result<Loaded, CheckpointError> {
        let heights: Vec<u64> = {
            let all = self.heights.lock();
            let heights = all.get(&partition).into_iter().flatten().rev();
            heights.copied().filter(|height| *height <= height_max).collect()
        };
        let mut loaded = Loaded::default();
        for height in heights {
            match self.load_file(partition, height) {
                Ok(checkpoint) => {
                    loaded.checkpoint = Some(checkpoint);
                    break;
                }
                Err(rejected) => {
                    self.damaged.lock().insert(rejected.path.clone());
                    loaded.rejected.push(rejected);
                }
            }
        }
        Ok(loaded)
    }

    fn load_file(&self, partition: u16, height: u64) -> Result<Checkpoint, Rejected> {
        let path = self.dir.join(file_name(partition, height));
        let reject = |reason: String| Rejected { path: path.clone(), reason };
        let read = || -> io::Result<Vec<u8>> {
            let file = self.disk.open(&path)?;
            let len = usize::try_from(file.byte_len()?).map_err(|_| io::ErrorKind::FileTooLarge)?;
            let mut bytes = vec![0; len];
            file.read_exact_at(&mut bytes, 0)?;
            Ok(bytes)
        };
        let mut bytes = read().map_err(|error| reject(format!("it cannot be read: {error}")))?;
        let (chain_id, found_partition, found_height, payload) =
            decode_borrowed(&bytes).map_err(|error| reject(error.to_string()))?;
        let foreign = |what, found: String, expected: String| {
            Err(reject(DecodeError::Foreign { what, found, expected }.to_string()))
        };
        if chain_id != self.chain_id {
            return foreign("chain", hex(&chain_id), hex(&self.chain_id));
        }
        if found_partition != partition {
            return foreign("partition", found_partition.to_string(), partition.to_string());
        }
        if found_height != height {
            return foreign("height", found_height.to_string(), height.to_string());
        }
        let len = payload.len();
        bytes.drain(..HEADER_BYTES);
        bytes.truncate(len);
        Ok(Checkpoint { partition, height, payload: bytes })
    }

    /// Partitions and heights for which there are files, good or not.
    pub fn list(&self) -> Vec<(u16, u64)> {
        let all = self.heights.lock();
        let pairs = |(partition, heights): (&u16, &BTreeSet<u64>)| {
            let partition = *partition;
            heights.iter().map(move |height| (partition, *height)).collect::<Vec<_>>()
        };
        all.iter().flat_map(pairs).collect()
    }
}
