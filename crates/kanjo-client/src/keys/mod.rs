//! Key files: where private keys live, encrypted unless asked otherwise.
//!
//! ```text
//! { "version": 1, "name": "alice", "kind": "ed25519", "public": "ed25519:9f…",
//!   "secret": { "encrypted": {
//!       "kdf":  { "name": "argon2id", "memory_kib": 65536, "passes": 3, "lanes": 1, "salt": "…" },
//!       "aead": "xchacha20poly1305", "nonce": "…", "ciphertext": "…" } } }
//! ```
//! or `"secret": { "plain": "…" }`. The secret is the 32-byte seed of the key. The kind and the
//! public key are authenticated with it, so a file whose public half was exchanged does not open.
//!
//! # Invariants
//! - Files are created with mode 0600 in a directory of mode 0700, and never overwritten.
//! - Seeds, passphrases and derived keys are wiped from memory when dropped and never printed.
//! - Parameters read from a file are bounded, so that a crafted file can't exhaust memory.

mod seal;
mod store;

pub use store::KeyStore;

use kanjo_types::PublicKey;
use kanjo_types::signature::{KeyKind, SecretKey};
use seal::Sealed;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// The only version of key files.
pub const KEY_FILE_VERSION: u8 = 1;

/// Something about a key file went wrong.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The name can't be a file name.
    #[error(
        "'{0}' can't be a key's name: use 1 to 64 of a-z, A-Z, 0-9, '-', '_' and '.', no '.' first"
    )]
    Name(String),
    /// A key of this name exists.
    #[error("there is a key '{0}' already; keys are never overwritten, choose another name")]
    Exists(String),
    /// No key of this name.
    #[error("there is no key '{name}' in {directory}")]
    Unknown {
        /// Which name.
        name: String,
        /// Where it was looked for.
        directory: PathBuf,
    },
    /// The file can't be read as a key file.
    #[error("{path} is not a key file: {problem}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The file is encrypted and no passphrase was given.
    #[error("the key '{0}' is encrypted; its passphrase is needed")]
    PassphraseNeeded(String),
    /// The passphrase is wrong, or the file was changed: the two can't be told apart.
    #[error("the key '{0}' does not open: the passphrase is wrong, or the file was changed")]
    WrongPassphrase(String),
    /// An empty passphrase protects nothing.
    #[error("the passphrase is empty")]
    EmptyPassphrase,
    /// The system gave no random bytes.
    #[error("the system's source of randomness failed: {0}")]
    NoRandomness(String),
    /// The key could not be derived from the passphrase.
    #[error("deriving the key from the passphrase failed: {0}")]
    Derivation(String),
    /// Reading or writing failed.
    #[error("{path}: {error}")]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
}

/// A passphrase; wiped when dropped, never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Passphrase(String);

impl Passphrase {
    /// A passphrase.
    ///
    /// # Errors
    /// [`KeyError::EmptyPassphrase`].
    pub fn new(text: String) -> Result<Self, KeyError> {
        if text.is_empty() { Err(KeyError::EmptyPassphrase) } else { Ok(Self(text)) }
    }
}

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passphrase(…)")
    }
}

/// How much work a passphrase guess costs (argon2id).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Memory, KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Default for Cost {
    fn default() -> Self {
        Self { memory_kib: 65_536, passes: 3, lanes: 1 }
    }
}

/// How a new key is kept.
#[derive(Debug, Clone, Copy)]
pub enum Protection<'a> {
    /// Encrypted under a passphrase.
    Passphrase(&'a Passphrase, Cost),
    /// As it is: whoever reads the file owns the key.
    Plain,
}

/// A key as it is kept on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFile {
    version: u8,
    name: String,
    kind: KeyKind,
    public: PublicKey,
    secret: Secret,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Secret {
    Encrypted(Sealed),
    Plain(PlainSeed),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Encrypted(_) => "Encrypted(…)",
            Self::Plain(_) => "Plain(…)",
        })
    }
}

#[derive(Clone, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(transparent)]
struct PlainSeed(#[serde(with = "hex::serde")] [u8; 32]);

impl KeyFile {
    /// Draws a new key.
    ///
    /// # Errors
    /// [`KeyError`] for a bad name, no randomness, or a failed derivation.
    pub fn generate(
        name: &str,
        kind: KeyKind,
        protection: Protection<'_>,
    ) -> Result<Self, KeyError> {
        // A random seed is no ECDSA key with probability 2^-32 at most; three in a row do not
        // happen.
        let mut seed = Zeroizing::new([0u8; 32]);
        for _ in 0..3 {
            getrandom::fill(seed.as_mut_slice())
                .map_err(|error| KeyError::NoRandomness(error.to_string()))?;
            if SecretKey::from_seed(kind, *seed).is_ok() {
                return Self::from_seed(name, kind, &seed, protection);
            }
        }
        Err(KeyError::NoRandomness("it gave no usable key three times in a row".to_owned()))
    }

    /// Keeps the key of a given seed.
    ///
    /// # Errors
    /// [`KeyError`] for a bad name, a seed that is no key, or a failed derivation.
    pub fn from_seed(
        name: &str,
        kind: KeyKind,
        seed: &Zeroizing<[u8; 32]>,
        protection: Protection<'_>,
    ) -> Result<Self, KeyError> {
        check_name(name)?;
        let key = SecretKey::from_seed(kind, **seed)
            .map_err(|error| KeyError::Derivation(error.to_string()))?;
        let public = key.public();
        let secret = match protection {
            Protection::Plain => Secret::Plain(PlainSeed(**seed)),
            Protection::Passphrase(passphrase, cost) => Secret::Encrypted(seal::seal(
                seed,
                passphrase.0.as_bytes(),
                cost,
                &authenticated(kind, &public),
            )?),
        };
        Ok(Self { version: KEY_FILE_VERSION, name: name.to_owned(), kind, public, secret })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// Its public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// Does it need a passphrase?
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        matches!(self.secret, Secret::Encrypted(_))
    }

    /// The secret key.
    ///
    /// # Errors
    /// [`KeyError::PassphraseNeeded`], or [`KeyError::WrongPassphrase`] when it or the file is
    /// wrong.
    pub fn unlock(&self, passphrase: Option<&Passphrase>) -> Result<SecretKey, KeyError> {
        let wrong = || KeyError::WrongPassphrase(self.name.clone());
        let seed = match &self.secret {
            Secret::Plain(seed) => Zeroizing::new(seed.0),
            Secret::Encrypted(sealed) => {
                let passphrase =
                    passphrase.ok_or_else(|| KeyError::PassphraseNeeded(self.name.clone()))?;
                let authenticated = authenticated(self.kind, &self.public);
                seal::open(sealed, passphrase.0.as_bytes(), &authenticated)?.ok_or_else(wrong)?
            }
        };
        let key = SecretKey::from_seed(self.kind, *seed).map_err(|_| wrong())?;
        if key.public() == self.public { Ok(key) } else { Err(wrong()) }
    }
}

/// What is authenticated together with the secret.
fn authenticated(kind: KeyKind, public: &PublicKey) -> Vec<u8> {
    format!("kanjo/key-file/{KEY_FILE_VERSION}/{kind:?}/{public}").into_bytes()
}

/// Names become file names.
fn check_name(name: &str) -> Result<(), KeyError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let fine = (1..=64).contains(&name.len())
        && !name.starts_with(['.', '-'])
        && name.bytes().all(allowed);
    if fine { Ok(()) } else { Err(KeyError::Name(name.chars().take(80).collect())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: Cost = Cost { memory_kib: 64, passes: 1, lanes: 1 };

    fn passphrase(text: &str) -> Passphrase {
        Passphrase::new(text.to_owned()).expect("not empty")
    }

    #[test]
    fn a_key_survives_encryption_and_json() {
        let secret = passphrase("correct horse");
        for kind in [KeyKind::Ed25519, KeyKind::P256, KeyKind::Secp256k1] {
            let protection = Protection::Passphrase(&secret, CHEAP);
            let file = KeyFile::generate("alice", kind, protection).expect("drawn");
            let json = serde_json::to_string(&file).expect("json");
            let back: KeyFile = serde_json::from_str(&json).expect("json");
            let key = back.unlock(Some(&secret)).expect("opens");
            assert_eq!(key.public(), file.public());
            assert!(matches!(back.unlock(None), Err(KeyError::PassphraseNeeded(_))));
            let wrong = passphrase("correct horsf");
            assert!(matches!(back.unlock(Some(&wrong)), Err(KeyError::WrongPassphrase(_))));
        }
    }

    #[test]
    fn every_change_of_the_file_is_noticed() {
        let secret = passphrase("p");
        let protection = Protection::Passphrase(&secret, CHEAP);
        let file = KeyFile::generate("alice", KeyKind::Ed25519, protection).expect("drawn");
        let other = KeyFile::generate("eve", KeyKind::Ed25519, Protection::Plain).expect("drawn");
        let mut exchanged = file.clone();
        exchanged.public = other.public;
        assert!(exchanged.unlock(Some(&secret)).is_err(), "public half exchanged");
        let json = serde_json::to_value(&file).expect("json");
        let paths = ["/nonce", "/ciphertext", "/kdf/salt"];
        for path in paths {
            let mut changed = json.clone();
            let field = changed.pointer_mut(&format!("/secret/encrypted{path}")).expect("there");
            let text = field.as_str().expect("text").to_owned();
            let first = if text.starts_with('0') { "1" } else { "0" };
            *field = format!("{first}{}", &text[1..]).into();
            let changed: KeyFile = serde_json::from_value(changed).expect("still a key file");
            assert!(changed.unlock(Some(&secret)).is_err(), "{path}");
        }
    }

    #[test]
    fn a_file_can_not_ask_for_all_the_memory() {
        let secret = passphrase("p");
        let protection = Protection::Passphrase(&secret, CHEAP);
        let file = KeyFile::generate("alice", KeyKind::Ed25519, protection).expect("drawn");
        let mut json = serde_json::to_value(&file).expect("json");
        *json.pointer_mut("/secret/encrypted/kdf/memory_kib").expect("there") = u32::MAX.into();
        let greedy: KeyFile = serde_json::from_value(json).expect("still a key file");
        assert!(matches!(greedy.unlock(Some(&secret)), Err(KeyError::Derivation(_))));
    }

    #[test]
    fn secrets_are_never_printed() {
        let seed = Zeroizing::new([0xab; 32]);
        let file = KeyFile::from_seed("a", KeyKind::Ed25519, &seed, Protection::Plain);
        assert!(!format!("{file:?}{:?}", passphrase("abab")).contains("abab"));
    }

    #[test]
    fn names_stay_inside_the_directory() {
        for bad in ["", "..", "a/b", ".hidden", "a b", "-x", "é"] {
            assert!(matches!(check_name(bad), Err(KeyError::Name(_))), "{bad}");
        }
        assert!(check_name("alice-2.old_key").is_ok());
    }
}
