//! Personal attributes kept here: the values and salts whose commitments are on the ledger.
//!
//! ```text
//! HOME/attributes/<chain 16>/USER.NAME.json   { version, chain, user, name, value, salt }
//! ```
//! Files are readable by their owner only. Erasing writes zeros over a file, forces them to the
//! disk and removes the file; a file system that keeps old blocks (snapshots, flash storage) may
//! still hold them, and copies elsewhere are not touched.

use crate::fail::{Done, Fail};
use kanjo_client::AttributeOpening;
use kanjo_types::{ChainId, UserId};
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

const VERSION: u8 = 1;

/// The attributes kept in a home directory for one ledger.
pub struct AttributeStore {
    directory: PathBuf,
    chain: ChainId,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u8,
    chain: ChainId,
    user: UserId,
    opening: AttributeOpening,
}

impl AttributeStore {
    /// The store in `home`.
    pub fn new(home: &Path, chain: ChainId) -> Self {
        let name: String = chain.to_string().chars().take(16).collect();
        Self { directory: home.join("attributes").join(name), chain }
    }

    /// Where an attribute is kept.
    pub fn path(&self, user: UserId, name: &str) -> Done<PathBuf> {
        let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if name.is_empty() || name.len() > 32 || !name.chars().all(fine) {
            return Err(Fail::usage(format!(
                "'{name}' can't be an attribute's name: use 1 to 32 of a-z, 0-9 and _"
            )));
        }
        Ok(self.directory.join(format!("{user}.{name}.json")))
    }

    /// Writes an attribute beside the one kept so far, to be put in its place by
    /// [`AttributeStore::settle`] once the ledger has its commitment.
    pub fn prepare(&self, user: UserId, opening: &AttributeOpening) -> Done {
        let path = self.path(user, &opening.name)?;
        let failed = |error: std::io::Error| Fail::file(&path, error);
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory).map_err(failed)?;
        let kept = Kept { version: VERSION, chain: self.chain, user, opening: opening.clone() };
        let json = serde_json::to_vec_pretty(&kept).map_err(|error| Fail::file(&path, error))?;
        let json = Zeroizing::new(json);
        let waiting = waiting(&path);
        erase_file(&waiting)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&waiting)
            .map_err(failed)?;
        file.write_all(&json).and_then(|()| file.sync_all()).map_err(failed)
    }

    /// Puts a prepared attribute in its place, erasing the one before; or erases the prepared one
    /// when the ledger did not take its commitment.
    pub fn settle(&self, user: UserId, name: &str, taken: bool) -> Done {
        let path = self.path(user, name)?;
        if !taken {
            erase_file(&waiting(&path))?;
            return Ok(());
        }
        erase_file(&path)?;
        fs::rename(waiting(&path), &path).map_err(|error| Fail::file(&path, error))
    }

    /// What is kept under a name.
    pub fn load(&self, user: UserId, name: &str) -> Done<Option<AttributeOpening>> {
        let path = self.path(user, name)?;
        let bytes = match fs::read(&path) {
            Ok(bytes) => Zeroizing::new(bytes),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Fail::file(&path, error)),
        };
        let kept: Kept = serde_json::from_slice(&bytes)
            .map_err(|error| Fail::file(&path, format!("not a kept attribute: {error}")))?;
        if kept.version != VERSION || kept.chain != self.chain || kept.user != user {
            return Err(Fail::file(&path, "an attribute of another version, ledger or user"));
        }
        Ok(Some(kept.opening))
    }

    /// Overwrites and removes what is kept under a name; false when there was nothing.
    pub fn erase(&self, user: UserId, name: &str) -> Done<bool> {
        let path = self.path(user, name)?;
        let waiting = erase_file(&waiting(&path))?;
        Ok(erase_file(&path)? || waiting)
    }
}

fn waiting(path: &Path) -> PathBuf {
    path.with_extension("json.new")
}

/// Zeros over the file, on the disk, before its name is gone.
fn erase_file(path: &Path) -> Done<bool> {
    let failed = |error: std::io::Error| Fail::file(path, error);
    let length = match fs::symlink_metadata(path) {
        Ok(found) if found.is_file() => found.len(),
        Ok(_) => return Err(Fail::file(path, "not a file; it is left as it is")),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed(error)),
    };
    let mut file = OpenOptions::new().write(true).open(path).map_err(failed)?;
    let zeros = vec![0u8; usize::try_from(length).unwrap_or(0)];
    file.write_all(&zeros).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::remove_file(path).map_err(failed)?;
    if let Some(directory) = path.parent() {
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn an_attribute_is_kept_replaced_and_erased() {
        let home = tempfile::tempdir().expect("temp dir");
        let store = AttributeStore::new(home.path(), ChainId::default());
        let user = UserId([7; 16]);
        let draw = |value| AttributeOpening::draw("legal_name", value).expect("random");
        let (first, second) = (draw("Alice"), draw("Alice Example"));
        store.prepare(user, &first).expect("written");
        assert_eq!(store.load(user, "legal_name").expect("read"), None, "not settled yet");
        store.settle(user, "legal_name", true).expect("settled");
        assert_eq!(store.load(user, "legal_name").expect("read"), Some(first.clone()));
        let mode = fs::metadata(store.path(user, "legal_name").expect("path")).expect("there");
        assert_eq!(mode.permissions().mode() & 0o777, 0o600);
        store.prepare(user, &second).expect("written");
        store.settle(user, "legal_name", false).expect("thrown away");
        assert_eq!(store.load(user, "legal_name").expect("read"), Some(first));
        store.prepare(user, &second).expect("written");
        store.settle(user, "legal_name", true).expect("settled");
        assert_eq!(store.load(user, "legal_name").expect("read"), Some(second));
        assert!(store.erase(user, "legal_name").expect("erased"));
        assert!(!store.erase(user, "legal_name").expect("nothing there"));
        assert_eq!(store.load(user, "legal_name").expect("read"), None);
        let directory = store.path(user, "legal_name").expect("path");
        let left = fs::read_dir(directory.parent().expect("directory")).expect("read").count();
        assert_eq!(left, 0, "no file is left");
    }

    #[test]
    fn names_stay_inside_the_store() {
        let store = AttributeStore::new(Path::new("/nowhere"), ChainId::default());
        for bad in ["", "../up", "Name", "a b", &"x".repeat(33)] {
            assert_eq!(store.path(UserId::default(), bad).expect_err("refused").code, "usage");
        }
    }
}
