//! A sentinel's directory: its keys, its guard, its settings. Made by `init`, opened by `run`.
//!
//! ```text
//! DIR/                0700
//!   vote.key          0600  the vote key; written last: without it there is no sentinel
//!   channel.key       0600  the sentinel's end of the channel
//!   settings.json           attestor, and where it is
//!   guard                   the guard's record (`kanjo_store::slots`)
//!   status.sock             answers how it stands, while it runs
//! ATTESTOR/           0700  software attestor only: DIR/attestor, or better somewhere else
//!   attestor.key      0600
//!   counter
//!   counter.soon
//! ```
//! Keys are not encrypted: whoever can read the directory has the vote key.
//!
//! # Invariants
//! - A vote key is never written over, and a guard's record never made for a key that exists.

use crate::appraisal::pinned;
use crate::attestor::software::{SoftwareAttestor, SoonFile};
use crate::attestor::tpm2::Tpm2Attestor;
use crate::attestor::{Attestor, AttestorError, AttestorKind};
use crate::evidence::Trust;
use crate::guard::{Guard, GuardError};
use crate::rules::GuardState;
use crate::signing::Signing;
use crate::tpm::{Address, TpmError};
use ed25519_zebra::{SigningKey, VerificationKeyBytes};
use kanjo_link::keys::LinkKey;
use kanjo_link::session::LinkError;
use kanjo_store::disk::{Disk, RealDisk};
use kanjo_store::slots::{SlotError, SlotFile};
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::num::NonZeroU64;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

const KEY_START: &str = "kanjo-vote-key-1 ";
const KEY_FILE_MAX: u64 = 256;

/// A directory that can't be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// There is a sentinel already.
    #[error("{0} holds a vote key already; it is never written over")]
    Exists(PathBuf),
    /// There is none.
    #[error("{0} holds no vote key; make a sentinel with: kanjo-sentinel init --dir {0}")]
    Missing(PathBuf),
    /// A file.
    #[error("{path}: {why}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A key of the channel.
    #[error(transparent)]
    ChannelKey(#[from] LinkError),
    /// The record's file.
    #[error(transparent)]
    Slot(#[from] SlotError),
    /// The guard.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// The attestor.
    #[error(transparent)]
    Attestor(#[from] AttestorError),
}

/// Where a sentinel counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "attestor", rename_all = "snake_case", deny_unknown_fields)]
pub enum AttestorSettings {
    /// Files.
    Software {
        /// Its directory; a relative one lies in the sentinel's.
        dir: PathBuf,
    },
    /// A TPM.
    Tpm2 {
        /// `swtpm:HOST:PORT[:CONTROL_PORT]` or `device:PATH`.
        tpm: String,
        /// NV index of its counter.
        counter_index: u32,
        /// Bit n: register n is quoted.
        registers: u32,
    },
}

/// What `init` decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The attestor.
    #[serde(flatten)]
    pub attestor: AttestorSettings,
    /// The attestor's count is durable at the latest after so many signed heights.
    pub epoch_heights: NonZeroU64,
}

/// What others have to know of a new sentinel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Made {
    /// For the node's certificate.
    #[serde(with = "hex::serde")]
    pub vote_key: [u8; 32],
    /// For the node's configuration.
    #[serde(with = "hex::serde")]
    pub channel_key: [u8; 32],
    /// Which attestor.
    pub attestor: AttestorKind,
    /// For whoever checks evidence: Ed25519 key of the software attestor, or x ‖ y of the TPM's
    /// attestation key.
    pub attestation_key: String,
    /// Values of the quoted registers now; tpm2 only.
    pub pcrs: std::collections::BTreeMap<u8, kanjo_types::Hash>,
    /// The same, as the node's certificate says it.
    pub pinned: kanjo_types::membership::Attestor,
}

/// A sentinel that is ready to sign.
pub struct Opened {
    /// Key and guard.
    pub signing: Signing,
    /// Its end of the channel.
    pub channel_key: LinkKey,
    /// What `init` decided.
    pub settings: Settings,
}

/// What can be read without starting: for a sentinel that doesn't run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AtRest {
    /// The vote key.
    #[serde(with = "hex::serde")]
    pub vote_key: [u8; 32],
    /// The channel key.
    #[serde(with = "hex::serde")]
    pub channel_key: [u8; 32],
    /// The ledger it is bound to.
    pub chain: Option<kanjo_types::id::ChainId>,
    /// The count of the guard's record.
    pub count: u64,
    /// The highest height voted for.
    pub highest_vote: Option<u64>,
}

/// Where a running sentinel answers how it stands.
#[must_use]
pub fn status_socket(dir: &Path) -> PathBuf {
    dir.join("status.sock")
}

/// Makes a sentinel: keys, guard, attestor.
///
/// # Errors
/// When there is one, or files or the attestor fail. It can then be called again.
pub fn init(dir: &Path, settings: &Settings) -> Result<Made, DirectoryError> {
    let vote_path = dir.join("vote.key");
    if vote_path.exists() {
        return Err(DirectoryError::Exists(dir.to_owned()));
    }
    make_private_dir(dir)?;
    let mut parts = open_attestor(dir, &settings.attestor, true)?;
    let seed = random_seed()?;
    let vote_key = VerificationKeyBytes::from(&SigningKey::from(*seed)).into();
    let (mut guard, _) = SlotFile::open(disk(), &dir.join("guard"))?;
    Guard::create(vote_key, &mut guard, parts.attestor.as_mut())?;
    let channel_path = dir.join("channel.key");
    if channel_path.exists() {
        // Of an init that did not get to its end.
        fs::remove_file(&channel_path).map_err(at(&channel_path))?;
    }
    let channel = LinkKey::generate()?;
    channel.write_new(&channel_path)?;
    let text = serde_json::to_string_pretty(settings).map_err(|error| DirectoryError::File {
        path: dir.join("settings.json"),
        why: error.to_string(),
    })?;
    write_file(&dir.join("settings.json"), text.as_bytes(), false)?;
    write_seed(&vote_path, &seed)?;
    let channel_key = channel.public();
    let Parts { attestor, trust } = parts;
    let (attestation_key, pcrs) = match &trust {
        Trust::Software { key } => (hex::encode(key), crate::tpm::Pcrs::new()),
        Trust::Tpm2 { key, pcrs } => (hex::encode(key.to_bytes()), pcrs.clone()),
    };
    let (attestor, pinned) = (attestor.kind(), pinned(&trust));
    Ok(Made { vote_key, channel_key, attestor, attestation_key, pcrs, pinned })
}

/// Opens a sentinel to sign: a new count begins.
///
/// # Errors
/// When there is none, another process has it open, or the guard must not work.
pub fn open(dir: &Path, tpm: Option<&str>) -> Result<Opened, DirectoryError> {
    let seed = read_vote_seed(dir)?;
    let mut settings = read_settings(dir)?;
    if let (AttestorSettings::Tpm2 { tpm: address, .. }, Some(given)) =
        (&mut settings.attestor, tpm)
    {
        given.clone_into(address);
    }
    let channel_key = LinkKey::read(&dir.join("channel.key"))?;
    let (store, record) = SlotFile::open(disk(), &dir.join("guard"))?;
    let attestor = open_attestor(dir, &settings.attestor, false)?.attestor;
    let key = VerificationKeyBytes::from(&SigningKey::from(*seed)).into();
    let heights = settings.epoch_heights;
    let guard = Guard::open(key, Box::new(store), record.as_deref(), attestor, heights)?;
    Ok(Opened { signing: Signing::new(*seed, guard), channel_key, settings })
}

/// Reads what a sentinel that doesn't run has on disk.
///
/// # Errors
/// When there is none, or its record can't be read.
pub fn at_rest(dir: &Path) -> Result<AtRest, DirectoryError> {
    let seed = read_vote_seed(dir)?;
    let path = dir.join("guard");
    let bytes = fs::read(&path).map_err(at(&path))?;
    let refused = |why: String| DirectoryError::File { path: path.clone(), why };
    let record = kanjo_store::slots::decode(&bytes).map_err(|fault| refused(fault.to_string()))?;
    let record = record.ok_or(GuardError::Missing)?;
    let state = GuardState::from_record(&record.payload).map_err(GuardError::Record)?;
    Ok(AtRest {
        vote_key: VerificationKeyBytes::from(&SigningKey::from(*seed)).into(),
        channel_key: LinkKey::read(&dir.join("channel.key"))?.public(),
        chain: state.chain,
        count: state.count,
        highest_vote: state.highest_vote().map(|signed| signed.height),
    })
}

struct Parts {
    attestor: Box<dyn Attestor>,
    trust: Trust,
}

fn open_attestor(
    home: &Path,
    settings: &AttestorSettings,
    make: bool,
) -> Result<Parts, DirectoryError> {
    match settings {
        AttestorSettings::Software { dir } => {
            let dir = &home.join(dir);
            let key_path = dir.join("attestor.key");
            make_private_dir(dir)?;
            if make && !key_path.exists() {
                write_seed(&key_path, &*random_seed()?)?;
            }
            let seed = read_seed(&key_path)?;
            let (counter, record) = SlotFile::open(disk(), &dir.join("counter"))?;
            let path = dir.join("counter.soon");
            let soon = Some(SoonFile::open(&RealDisk, &path).map_err(at(&path))?);
            let (counter, record) = (Box::new(counter), record.as_deref());
            let attestor = SoftwareAttestor::open(*seed, counter, record, soon)?;
            let trust = Trust::Software { key: attestor.public() };
            Ok(Parts { attestor: Box::new(attestor), trust })
        }
        AttestorSettings::Tpm2 { tpm, counter_index, registers } => {
            let address: Address =
                tpm.parse().map_err(|error: TpmError| AttestorError::Tpm(error))?;
            let mut attestor = Tpm2Attestor::open(&address, *counter_index, *registers)?;
            let trust = Trust::Tpm2 { key: attestor.attestation_key(), pcrs: attestor.pcrs()? };
            Ok(Parts { attestor: Box::new(attestor), trust })
        }
    }
}

fn disk() -> Arc<dyn Disk> {
    Arc::new(RealDisk)
}

fn at(path: &Path) -> impl Fn(io::Error) -> DirectoryError {
    let path = path.to_owned();
    move |error| DirectoryError::File { path: path.clone(), why: error.to_string() }
}

fn make_private_dir(dir: &Path) -> Result<(), DirectoryError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(at(dir))?;
    let mode = fs::metadata(dir).map_err(at(dir))?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(at(dir))
}

fn random_seed() -> Result<Zeroizing<[u8; 32]>, DirectoryError> {
    let mut seed = Zeroizing::new([0u8; 32]);
    getrandom::fill(seed.as_mut_slice()).map_err(|_| LinkError::Random)?;
    Ok(seed)
}

fn write_seed(path: &Path, seed: &[u8; 32]) -> Result<(), DirectoryError> {
    let text = Zeroizing::new(format!("{KEY_START}{}\n", hex::encode(seed)));
    write_file(path, text.as_bytes(), true)
}

/// Writes a file durably; a `new` one must not be there.
fn write_file(path: &Path, content: &[u8], new: bool) -> Result<(), DirectoryError> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(!new).create_new(new).mode(0o600);
    let mut file = options.open(path).map_err(at(path))?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(at(path))?;
    let dir = path.parent().unwrap_or(Path::new("."));
    RealDisk.sync_dir(dir).map_err(at(dir))
}

fn read_vote_seed(dir: &Path) -> Result<Zeroizing<[u8; 32]>, DirectoryError> {
    let path = dir.join("vote.key");
    if path.exists() { read_seed(&path) } else { Err(DirectoryError::Missing(dir.to_owned())) }
}

fn read_seed(path: &Path) -> Result<Zeroizing<[u8; 32]>, DirectoryError> {
    let refused = |why: &str| DirectoryError::File { path: path.to_owned(), why: why.to_owned() };
    let file = fs::File::open(path).map_err(at(path))?;
    if file.metadata().map_err(at(path))?.permissions().mode() & 0o077 != 0 {
        return Err(refused("others than its owner may open it; set its mode to 0600"));
    }
    let mut text = Zeroizing::new(String::new());
    file.take(KEY_FILE_MAX).read_to_string(&mut text).map_err(at(path))?;
    let digits = text.strip_prefix(KEY_START).map(str::trim_end);
    let mut seed = Zeroizing::new([0u8; 32]);
    digits
        .and_then(|digits| hex::decode_to_slice(digits, seed.as_mut_slice()).ok())
        .ok_or_else(|| refused("it is not a vote key"))?;
    Ok(seed)
}

fn read_settings(dir: &Path) -> Result<Settings, DirectoryError> {
    let path = dir.join("settings.json");
    let text = fs::read_to_string(&path).map_err(at(&path))?;
    serde_json::from_str(&text)
        .map_err(|error| DirectoryError::File { path, why: error.to_string() })
}
