//! The home directory: keys, and local names for users and wallets of each ledger.
//!
//! ```text
//! ~/.kanjo/keys/NAME.json            key files
//! ~/.kanjo/ledgers/<chain 16>.json   { version, chain, users: {name: id}, wallets: {name: id} }
//! ```
//! Ids belong to one chain, so names are kept for each ledger apart.

use crate::fail::{Done, Fail};
use kanjo_client::keys::KeyStore;
use kanjo_types::{ChainId, UserId, WalletId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The directory of keys and names.
#[derive(Debug, Clone)]
pub struct Home {
    directory: PathBuf,
}

impl Home {
    /// The home in `directory`.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// The home that was asked for, `KANJO_HOME`, or `~/.kanjo`.
    pub fn choose(given: Option<PathBuf>) -> Done<Self> {
        let from_env = || std::env::var_os("KANJO_HOME").filter(|v| !v.is_empty());
        let default = || std::env::home_dir().map(|home| home.join(".kanjo"));
        given
            .or_else(|| from_env().map(PathBuf::from))
            .or_else(default)
            .map(Self::new)
            .ok_or_else(|| Fail::usage("no home directory; give one with --home DIR"))
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The key files.
    pub fn keys(&self) -> KeyStore {
        KeyStore::new(self.directory.join("keys"))
    }

    fn book_path(&self, chain: ChainId) -> PathBuf {
        let name: String = chain.to_string().chars().take(16).collect();
        self.directory.join("ledgers").join(format!("{name}.json"))
    }

    /// The names of a ledger's users and wallets.
    pub fn book(&self, chain: ChainId) -> Done<Book> {
        let path = self.book_path(chain);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Book::new(chain));
            }
            other => other.map_err(|error| Fail::file(&path, error))?,
        };
        let book: Book = serde_json::from_slice(&bytes).map_err(|error| {
            Fail::file(&path, format!("not a file of names: {error}"))
                .next("remove it; names can be set again with 'kanjo wallet name' and 'user name'")
        })?;
        if book.chain != chain || book.version != BOOK_VERSION {
            return Err(Fail::file(&path, "names of another ledger or version")
                .next("remove the file; names can be set again with 'kanjo wallet name'"));
        }
        Ok(book)
    }

    /// Writes the names of a ledger: a new file, then renamed over the old one.
    pub fn save_book(&self, book: &Book) -> Done {
        let path = self.book_path(book.chain);
        let fail = |error: std::io::Error| Fail::file(&path, error);
        let json = serde_json::to_vec_pretty(book).map_err(|error| Fail::file(&path, error))?;
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(fail)?;
        }
        let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
        fs::write(&temporary, json).map_err(fail)?;
        fs::rename(&temporary, &path).map_err(fail)
    }
}

const BOOK_VERSION: u8 = 1;

/// Local names for users and wallets of one ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Book {
    version: u8,
    chain: ChainId,
    /// Users by name.
    pub users: BTreeMap<String, UserId>,
    /// Wallets by name.
    pub wallets: BTreeMap<String, WalletId>,
}

impl Book {
    /// No names yet.
    pub fn new(chain: ChainId) -> Self {
        let (users, wallets) = (BTreeMap::new(), BTreeMap::new());
        Self { version: BOOK_VERSION, chain, users, wallets }
    }

    /// The user meant by an id or a name.
    pub fn user(&self, text: &str) -> Done<UserId> {
        if let Some(id) = self.users.get(text) {
            return Ok(*id);
        }
        if text.contains('1') && text.starts_with("kj") {
            return text.parse().map_err(|error| Fail::new("bad_id", error));
        }
        Err(unknown("user", text, self.users.keys()))
    }

    /// The wallet meant by an id or a name.
    pub fn wallet(&self, text: &str) -> Done<WalletId> {
        if let Some(id) = self.wallets.get(text) {
            return Ok(*id);
        }
        if text.contains('1') && text.starts_with("kj") {
            return text.parse().map_err(|error| Fail::new("bad_id", error));
        }
        Err(unknown("wallet", text, self.wallets.keys()))
    }

    /// The name of a user.
    pub fn user_name(&self, id: UserId) -> Option<&str> {
        self.users.iter().find(|(_, known)| **known == id).map(|(name, _)| name.as_str())
    }

    /// The name of a wallet.
    pub fn wallet_name(&self, id: WalletId) -> Option<&str> {
        self.wallets.iter().find(|(_, known)| **known == id).map(|(name, _)| name.as_str())
    }
}

fn unknown<'a>(kind: &str, text: &str, known: impl Iterator<Item = &'a String>) -> Fail {
    let text: String = text.chars().take(80).collect();
    let known: Vec<&str> = known.take(12).map(String::as_str).collect();
    let known = if known.is_empty() {
        "no names are known here for this ledger".to_owned()
    } else {
        format!("known here: {}", known.join(", "))
    };
    let (prefix, upper) = if kind == "user" { ("kju1", "USER") } else { ("kjw1", "WALLET") };
    Fail::new(
        &format!("unknown_{kind}_name"),
        format!("'{text}' is neither a {kind} id ({prefix}…) nor a {kind} name; {known}"),
    )
    .next(format!("give an id a name with: kanjo {kind} name {text} {upper}_ID"))
}

/// Names must not look like ids and be easy to type.
pub fn check_name(name: &str) -> Done {
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    let count = name.chars().count();
    let looks_like_id = name.starts_with("kju1") || name.starts_with("kjw1");
    if (1..=64).contains(&count) && name.chars().all(allowed) && !looks_like_id {
        return Ok(());
    }
    Err(Fail::usage(format!(
        "'{}' can't be a name: use 1 to 64 letters, digits, '-', '_' and '.', and no id",
        name.chars().take(80).collect::<String>()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kept_for_each_ledger_apart() {
        let directory = tempfile::tempdir().expect("temp dir");
        let home = Home::new(directory.path().join("home"));
        let (a, b) = (ChainId::default(), ChainId(kanjo_types::Hash([1; 32])));
        let mut book = home.book(a).expect("empty");
        book.wallets.insert("alice".to_owned(), WalletId([7; 16]));
        home.save_book(&book).expect("saved");
        assert_eq!(home.book(a).expect("read"), book);
        assert_eq!(home.book(a).expect("read").wallet("alice").expect("known"), WalletId([7; 16]));
        assert!(home.book(b).expect("empty").wallets.is_empty());
    }

    #[test]
    fn unknown_names_list_the_known_ones() {
        let mut book = Book::new(ChainId::default());
        book.wallets.insert("alice".to_owned(), WalletId([7; 16]));
        let fail = book.wallet("alcie").expect_err("unknown");
        assert!(fail.message.contains("known here: alice"), "{}", fail.message);
        let mistyped = book.wallet("kjw1qqqq").expect_err("bad id");
        assert_eq!(mistyped.code, "bad_id");
        let id = WalletId([9; 16]).to_string();
        assert_eq!(book.wallet(&id).expect("an id"), WalletId([9; 16]));
    }

    #[test]
    fn a_name_never_looks_like_an_id() {
        assert!(check_name("kjw1abc").is_err());
        assert!(check_name("a b").is_err());
        assert!(check_name("").is_err());
        assert!(check_name("shop-7").is_ok());
    }
}
