//! A node's data directory.
//!
//! ```text
//! DIR/genesis.json   the genesis (public)
//! DIR/vote.key       the node's vote key, 64 hexadecimal digits, mode 0600
//! DIR/log/           the block log: the only truth
//! DIR/checkpoints/   state by partition, for a fast restart
//! DIR/index/         look-ups, rebuilt from the log when damaged
//! ```

use kanjo_link::keys::LinkKey;
use kanjo_types::Genesis;
use kanjo_types::genesis::GenesisError;
use kanjo_types::signature::{KeyKind, SecretKey};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Largest genesis file that is read.
const GENESIS_BYTES_MAX: u64 = 64 << 20;

/// The data directory can't be made or used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// It already holds a ledger.
    #[error("{0} already holds a ledger; choose another directory or start the node with it")]
    AlreadyThere(PathBuf),
    /// It holds no ledger.
    #[error("{0} holds no ledger (no genesis.json); make one with 'kanjo init'")]
    NoLedger(PathBuf),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The genesis file is not JSON of a genesis.
    #[error("{path} is not a genesis: {reason}")]
    NotAGenesis {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The genesis breaks a rule.
    #[error("{path}: {source}")]
    Genesis {
        /// Which file.
        path: PathBuf,
        /// Which rule.
        source: GenesisError,
    },
    /// The vote key is not one of the genesis's voters'.
    #[error("the vote key in {0} belongs to no voter of the genesis; use the key made with it")]
    NotAVoter(PathBuf),
    /// The vote key file is damaged.
    #[error("{0} is not a vote key: expected 64 hexadecimal digits")]
    NotAKey(PathBuf),
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> DataError + '_ {
    move |source| DataError::Io { path: path.to_owned(), source }
}

pub(crate) fn genesis_path(dir: &Path) -> PathBuf {
    dir.join("genesis.json")
}

pub(crate) fn vote_key_path(dir: &Path) -> PathBuf {
    dir.join("vote.key")
}

pub(crate) fn log_path(dir: &Path) -> PathBuf {
    dir.join("log")
}

/// Certificates of a member of a cluster.
pub(crate) fn certificates_path(dir: &Path) -> PathBuf {
    dir.join("certificates")
}

/// Block 0 of a member of a cluster.
pub(crate) fn genesis_log_path(dir: &Path) -> PathBuf {
    dir.join("genesis-log")
}

/// What the engine of a member keeps beside its log.
pub(crate) fn engine_path(dir: &Path) -> PathBuf {
    dir.join("engine")
}

/// The key of a member's links to others.
pub(crate) fn link_key_path(dir: &Path) -> PathBuf {
    dir.join("link.key")
}

pub(crate) fn checkpoints_path(dir: &Path) -> PathBuf {
    dir.join("checkpoints")
}

pub(crate) fn index_path(dir: &Path) -> PathBuf {
    dir.join("index")
}

/// Makes the data directory of a new ledger.
///
/// # Errors
/// [`DataError`]; an existing ledger is never touched.
pub fn create(dir: &Path, genesis: &Genesis, vote_secret: [u8; 32]) -> Result<(), DataError> {
    let path = genesis_path(dir);
    genesis.check().map_err(|source| DataError::Genesis { path: path.clone(), source })?;
    if path.exists() || log_path(dir).exists() {
        return Err(DataError::AlreadyThere(dir.to_owned()));
    }
    let key = vote_key(vote_secret);
    if voter_position(genesis, &key).is_none() {
        return Err(DataError::NotAVoter(vote_key_path(dir)));
    }
    fs::create_dir_all(dir).map_err(io_error(dir))?;
    let json = serde_json::to_string_pretty(genesis).map_err(|error| DataError::NotAGenesis {
        path: path.clone(),
        reason: error.to_string(),
    })?;
    write_durably(&vote_key_path(dir), hex::encode(vote_secret).as_bytes(), 0o600)?;
    // The genesis comes last: a directory without it is no ledger.
    write_durably(&path, json.as_bytes(), 0o644)?;
    let handle = fs::File::open(dir).map_err(io_error(dir))?;
    handle.sync_all().map_err(io_error(dir))
}

/// Makes the data directory of a member: the genesis and the key of its links. Its vote key is with
/// its sentinel.
///
/// # Errors
/// [`DataError`]; an existing ledger is never touched.
pub fn create_member(dir: &Path, genesis: &Genesis, link: &LinkKey) -> Result<(), DataError> {
    let path = genesis_path(dir);
    genesis.check().map_err(|source| DataError::Genesis { path: path.clone(), source })?;
    if path.exists() || log_path(dir).exists() {
        return Err(DataError::AlreadyThere(dir.to_owned()));
    }
    fs::create_dir_all(dir).map_err(io_error(dir))?;
    let json = serde_json::to_string_pretty(genesis).map_err(|error| DataError::NotAGenesis {
        path: path.clone(),
        reason: error.to_string(),
    })?;
    let key_path = link_key_path(dir);
    link.write_new(&key_path).map_err(|error| DataError::Io {
        path: key_path.clone(),
        source: io::Error::other(error),
    })?;
    write_durably(&path, json.as_bytes(), 0o644)?;
    let handle = fs::File::open(dir).map_err(io_error(dir))?;
    handle.sync_all().map_err(io_error(dir))
}

fn write_durably(path: &Path, bytes: &[u8], mode: u32) -> Result<(), DataError> {
    let opened = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path);
    let mut file = opened.map_err(io_error(path))?;
    file.write_all(bytes).map_err(io_error(path))?;
    file.sync_all().map_err(io_error(path))
}

/// Reads and checks the genesis of the ledger in `dir`.
///
/// # Errors
/// [`DataError`] when there is none, or it is damaged.
pub fn load_genesis(dir: &Path) -> Result<Genesis, DataError> {
    let path = genesis_path(dir);
    if !path.exists() {
        return Err(DataError::NoLedger(dir.to_owned()));
    }
    read_genesis(&path)
}

/// Reads and checks a genesis file.
///
/// # Errors
/// [`DataError`] when it can't be read, is no genesis, or breaks a rule.
pub fn read_genesis(path: &Path) -> Result<Genesis, DataError> {
    let not = |reason: String| DataError::NotAGenesis { path: path.to_owned(), reason };
    let length = fs::metadata(path).map_err(io_error(path))?.len();
    if length > GENESIS_BYTES_MAX {
        return Err(not(format!("{length} bytes; at most {GENESIS_BYTES_MAX} are read")));
    }
    let bytes = fs::read(path).map_err(io_error(path))?;
    let genesis: Genesis =
        serde_json::from_slice(&bytes).map_err(|error| not(error.to_string()))?;
    genesis.check().map_err(|source| DataError::Genesis { path: path.to_owned(), source })?;
    Ok(genesis)
}

fn vote_key(secret: [u8; 32]) -> SecretKey {
    let key = SecretKey::from_seed(KeyKind::Ed25519, secret);
    #[allow(clippy::expect_used)] // Any 32 bytes are an Ed25519 secret key.
    key.expect("any 32 bytes are an Ed25519 secret key")
}

fn voter_position(genesis: &Genesis, key: &SecretKey) -> Option<u16> {
    let public = key.public();
    let is_mine = |key: &[u8; 32]| kanjo_types::PublicKey::Ed25519(*key) == public;
    let position = genesis.voters.iter().position(|voter| is_mine(&voter.key))?;
    u16::try_from(position).ok()
}

/// The node's vote key and its position among the voters.
pub(crate) struct Voter {
    pub key: SecretKey,
    pub position: u16,
    /// Hash of its certificate.
    pub certificate: kanjo_types::Hash,
}

pub(crate) fn load_voter(dir: &Path, genesis: &Genesis) -> Result<Voter, DataError> {
    let path = vote_key_path(dir);
    let text = fs::read_to_string(&path).map_err(io_error(&path))?;
    let mut secret = [0u8; 32];
    hex::decode_to_slice(text.trim(), &mut secret).map_err(|_| DataError::NotAKey(path.clone()))?;
    let key = vote_key(secret);
    let position = voter_position(genesis, &key).ok_or(DataError::NotAVoter(path))?;
    let mine = genesis.voters.get(usize::from(position));
    let certificate = mine.map(|voter| voter.certificate().hash(genesis.chain_id()));
    Ok(Voter { key, position, certificate: certificate.unwrap_or_default() })
}
