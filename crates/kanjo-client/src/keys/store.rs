//! A directory of key files.

use super::{KEY_FILE_VERSION, KeyError, KeyFile, check_name};
use kanjo_types::PublicKey;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Most bytes of a key file.
const FILE_BYTES_MAX: u64 = 16 << 10;

/// Key files in one directory, one file for each key: `NAME.json`.
#[derive(Debug, Clone)]
pub struct KeyStore {
    directory: PathBuf,
}

impl KeyStore {
    /// The keys in `directory`, which is created with the first key.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// Where the keys are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where the key `name` is.
    ///
    /// # Errors
    /// [`KeyError::Name`].
    pub fn path(&self, name: &str) -> Result<PathBuf, KeyError> {
        check_name(name)?;
        Ok(self.directory.join(format!("{name}.json")))
    }

    /// Writes a new key file and syncs it to disk.
    ///
    /// # Errors
    /// [`KeyError::Exists`] when there is one of this name, or [`KeyError::Io`].
    pub fn save(&self, key: &KeyFile) -> Result<PathBuf, KeyError> {
        let path = self.path(key.name())?;
        create_private_dir(&self.directory).map_err(io(&self.directory))?;
        let json = serde_json::to_vec_pretty(key).map_err(|error| KeyError::Damaged {
            path: path.clone(),
            problem: error.to_string(),
        })?;
        let json = Zeroizing::new(json);
        let mut file = match create_private_file(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(KeyError::Exists(key.name().to_owned()));
            }
            other => other.map_err(io(&path))?,
        };
        file.write_all(&json)
            .and_then(|()| file.write_all(b"\n"))
            .and_then(|()| file.sync_all())
            .map_err(io(&path))?;
        Ok(path)
    }

    /// Reads the key `name`.
    ///
    /// # Errors
    /// [`KeyError::Unknown`], [`KeyError::Damaged`] or [`KeyError::Io`].
    pub fn load(&self, name: &str) -> Result<KeyFile, KeyError> {
        let path = self.path(name)?;
        match Self::load_file(&path) {
            Err(KeyError::Io { error, .. }) if error.kind() == std::io::ErrorKind::NotFound => {
                let directory = self.directory.clone();
                Err(KeyError::Unknown { name: name.to_owned(), directory })
            }
            other => other,
        }
    }

    /// Reads a key file wherever it is.
    ///
    /// # Errors
    /// [`KeyError::Damaged`] or [`KeyError::Io`].
    pub fn load_file(path: &Path) -> Result<KeyFile, KeyError> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(2048));
        fs::File::open(path)
            .and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes))
            .map_err(io(path))?;
        let damaged = |problem: String| KeyError::Damaged { path: path.to_path_buf(), problem };
        let key: KeyFile =
            serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if key.version != KEY_FILE_VERSION {
            return Err(damaged(format!(
                "version {}; this software knows version {KEY_FILE_VERSION}",
                key.version
            )));
        }
        Ok(key)
    }

    /// All keys by name. Files that are no key files are left out.
    ///
    /// # Errors
    /// [`KeyError::Io`]; a directory that is not there holds no keys.
    pub fn list(&self) -> Result<Vec<KeyFile>, KeyError> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(io(&self.directory))?,
        };
        let mut keys = Vec::new();
        for entry in entries {
            let path = entry.map_err(io(&self.directory))?.path();
            if path.extension().is_some_and(|extension| extension == "json")
                && let Ok(key) = Self::load_file(&path)
            {
                keys.push(key);
            }
        }
        keys.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(keys)
    }

    /// The key with this public half, if it is here.
    ///
    /// # Errors
    /// [`KeyError::Io`].
    pub fn find(&self, public: &PublicKey) -> Result<Option<KeyFile>, KeyError> {
        Ok(self.list()?.into_iter().find(|key| key.public == *public))
    }
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> KeyError + '_ {
    |error| KeyError::Io { path: path.to_path_buf(), error }
}

#[cfg(unix)]
fn create_private_dir(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(not(unix))]
fn create_private_dir(path: &Path) -> std::io::Result<()> {
    fs::create_dir_all(path)
}

#[cfg(unix)]
fn create_private_file(path: &Path) -> std::io::Result<fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(not(unix))]
fn create_private_file(path: &Path) -> std::io::Result<fs::File> {
    fs::OpenOptions::new().write(true).create_new(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Protection;
    use kanjo_types::signature::KeyKind;

    fn plain(name: &str) -> KeyFile {
        KeyFile::generate(name, KeyKind::Ed25519, Protection::Plain).expect("drawn")
    }

    #[test]
    fn keys_are_kept_private_and_never_overwritten() {
        let home = tempfile::tempdir().expect("temp dir");
        let store = KeyStore::new(home.path().join("keys"));
        assert!(store.list().expect("empty").is_empty());
        let key = plain("alice");
        let path = store.save(&key).expect("saved");
        assert!(matches!(store.save(&plain("alice")), Err(KeyError::Exists(_))));
        assert_eq!(store.load("alice").expect("there").public(), key.public());
        assert_eq!(store.find(&key.public()).expect("read").expect("there").name(), "alice");
        assert!(matches!(store.load("bob"), Err(KeyError::Unknown { .. })));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode();
            assert_eq!(mode(&path) & 0o777, 0o600);
            assert_eq!(mode(store.directory()) & 0o777, 0o700);
        }
    }

    #[test]
    fn damaged_files_are_named() {
        let home = tempfile::tempdir().expect("temp dir");
        let store = KeyStore::new(home.path());
        let path = store.save(&plain("alice")).expect("saved");
        let text = fs::read_to_string(&path).expect("read");
        for (damage, text) in [
            ("cut", text.get(..40).expect("longer").to_owned()),
            ("version", text.replace("\"version\": 1", "\"version\": 9")),
            ("not a point", text.replace("ed25519:", "p256:")),
        ] {
            fs::write(&path, text).expect("write");
            assert!(matches!(store.load("alice"), Err(KeyError::Damaged { .. })), "{damage}");
        }
        assert!(store.list().expect("read").is_empty());
    }
}
