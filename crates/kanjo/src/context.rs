//! What every command has: the options that hold everywhere, the node, the home, and how to answer.

use crate::cli::Global;
use crate::fail::{Done, Fail};
use crate::home::{Book, Home};
use crate::text;
use kanjo_api::{Status, TokenView};
use kanjo_client::Client;
use kanjo_client::keys::{KeyFile, KeyStore, Passphrase};
use kanjo_types::signature::SecretKey;
use kanjo_types::{PublicKey, TokenId};
use serde::Serialize;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Where a node listens unless told otherwise.
pub const NODE_DEFAULT: &str = "http://127.0.0.1:8480";

/// Options and places of one run.
pub struct Context {
    /// Answer with one JSON object.
    pub json: bool,
    /// Keys and names.
    pub home: Home,
    /// Was the home named, rather than the default taken?
    pub home_given: bool,
    node: String,
    /// Was the node named on the command line?
    node_given: bool,
    passphrase_file: Option<PathBuf>,
}

/// A ledger that answers, and the names known for it.
pub struct Session {
    /// The node.
    pub client: Client,
    /// The node's state when the command started.
    pub status: Status,
    /// Local names.
    pub book: Book,
}

impl Context {
    /// The context of a command line.
    pub fn new(global: Global) -> Done<Self> {
        let from_env = std::env::var("KANJO_NODE").ok().filter(|url| !url.is_empty());
        let node_given = global.node.is_some();
        let node = global.node.or(from_env).unwrap_or_else(|| NODE_DEFAULT.to_owned());
        let home_env = std::env::var_os("KANJO_HOME").is_some_and(|home| !home.is_empty());
        Ok(Self {
            json: global.json,
            home_given: global.home.is_some() || home_env,
            home: Home::choose(global.home)?,
            node,
            node_given,
            passphrase_file: global.passphrase_file,
        })
    }

    /// The same with another home.
    pub fn with_home(&self, home: Home) -> Self {
        Self {
            json: self.json,
            home,
            home_given: true,
            node: self.node.clone(),
            node_given: self.node_given,
            passphrase_file: self.passphrase_file.clone(),
        }
    }

    /// How this program was called, so that suggested commands work as they stand.
    pub fn program(&self) -> String {
        let called = std::env::args().next().unwrap_or_default();
        if called.contains('/') { quoted(&called) } else { "kanjo".to_owned() }
    }

    /// The same with the home directory when it is not the default, and a space.
    pub fn program_with_home(&self) -> String {
        let program = self.program();
        if self.home_given {
            let home = quoted(&self.home.directory().display().to_string());
            return format!("{program} --home {home} ");
        }
        format!("{program} ")
    }

    /// Prints a command to type next.
    pub fn next(&self, command: &str) {
        let node = if self.node_given { format!("--node {} ", self.node) } else { String::new() };
        text::line(&text::dim(&format!("Next: {}{node}{command}", self.program_with_home())));
    }

    /// The node.
    pub fn client(&self) -> Done<Client> {
        Ok(Client::new(&self.node)?)
    }

    /// The node, its state and the names of its ledger.
    pub fn session(&self) -> Done<Session> {
        let client = self.client()?;
        let status = client.status()?;
        let book = self.home.book(status.chain)?;
        Ok(Session { client, status, book })
    }

    /// Answers: `json` when it was asked for, what `human` prints otherwise.
    pub fn answer(&self, json: &impl Serialize, human: impl FnOnce()) -> Done {
        if self.json {
            print_json(json)
        } else {
            human()
        }
        Ok(())
    }

    /// A passphrase that opens a key: from the file, the environment, or the terminal.
    fn passphrase_for(&self, name: &str) -> Done<Passphrase> {
        match self.given_passphrase()? {
            Some(passphrase) => Ok(passphrase),
            None => Ok(Passphrase::new(prompt(&format!("Passphrase of key '{name}': "))?)?),
        }
    }

    /// A passphrase for a new key, typed twice when it comes from the terminal.
    pub fn new_passphrase(&self, name: &str) -> Done<Passphrase> {
        if let Some(passphrase) = self.given_passphrase()? {
            return Ok(passphrase);
        }
        let first = Zeroizing::new(prompt(&format!("New passphrase for key '{name}': "))?);
        let second = Zeroizing::new(prompt("The same again: ")?);
        if *first != *second {
            return Err(Fail::new("passphrases_differ", "the two passphrases differ")
                .next("run the command again"));
        }
        Ok(Passphrase::new((*first).clone())?)
    }

    fn given_passphrase(&self) -> Done<Option<Passphrase>> {
        if let Some(path) = &self.passphrase_file {
            let text = std::fs::read_to_string(path).map_err(|error| Fail::file(path, error))?;
            let text = Zeroizing::new(text);
            return Ok(Some(Passphrase::new(text.trim_end_matches(['\r', '\n']).to_owned())?));
        }
        match std::env::var("KANJO_PASSPHRASE") {
            Ok(text) if !text.is_empty() => Ok(Some(Passphrase::new(text)?)),
            _ => Ok(None),
        }
    }

    /// Opens a key.
    pub fn unlock(&self, key: &KeyFile) -> Done<SecretKey> {
        if !key.is_encrypted() {
            return Ok(key.unlock(None)?);
        }
        let passphrase = self.passphrase_for(key.name())?;
        Ok(key.unlock(Some(&passphrase))?)
    }

    /// The key file meant by a name or a path.
    pub fn key(&self, text: &str) -> Done<KeyFile> {
        let as_path = Path::new(text);
        if text.contains('/') || (text.ends_with(".json") && as_path.is_file()) {
            return Ok(KeyStore::load_file(as_path)?);
        }
        Ok(self.home.keys().load(text)?)
    }

    /// The public key meant by a key name, a public key in text, or a file with either.
    pub fn public_key(&self, text: &str) -> Done<PublicKey> {
        if text.contains(':') {
            return text.parse().map_err(Fail::usage);
        }
        let path = Path::new(text);
        if path.is_file() {
            let content = std::fs::read_to_string(path).map_err(|e| Fail::file(path, e))?;
            if let Ok(public) = Zeroizing::new(content).trim().parse() {
                return Ok(public);
            }
            return Ok(KeyStore::load_file(path)?.public());
        }
        Ok(self.home.keys().load(text)?.public())
    }
}

/// A path as a shell takes it.
fn quoted(path: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+:@".contains(c);
    if path.chars().all(plain) {
        path.to_owned()
    } else {
        format!("'{}'", path.replace('\'', "'\\''"))
    }
}

fn prompt(text: &str) -> Done<String> {
    if !std::io::stdin().is_terminal() {
        return Err(Fail::new(
            "passphrase_needed",
            "a passphrase is needed and there is no terminal to ask at",
        )
        .next("give --passphrase-file FILE or set KANJO_PASSPHRASE"));
    }
    rpassword::prompt_password(text)
        .map_err(|error| Fail::new("passphrase_needed", format!("no passphrase read: {error}")))
}

/// Prints one JSON document.
pub fn print_json(json: &impl Serialize) {
    match serde_json::to_string_pretty(json) {
        Ok(json) => text::line(&json),
        Err(error) => text::note(&format!("error: this answer has no JSON form: {error}")),
    }
}

impl Session {
    /// The token meant by a symbol or a number.
    pub fn token(&self, text: &str) -> Done<TokenView> {
        let tokens = self.client.tokens()?;
        let wanted = text.to_ascii_uppercase();
        let number = text.parse::<u32>().ok().map(TokenId);
        if let Some(token) =
            tokens.iter().find(|token| token.symbol == wanted || Some(token.id) == number)
        {
            return Ok(token.clone());
        }
        let known: Vec<&str> = tokens.iter().take(12).map(|token| token.symbol.as_str()).collect();
        let text: String = text.chars().take(40).collect();
        Err(Fail::new(
            "unknown_token",
            format!("there is no token '{text}'; this ledger has: {}", known.join(", ")),
        )
        .next("see them all with 'kanjo token list'"))
    }

    /// A wallet's name, or its id when it has none.
    pub fn wallet_label(&self, id: kanjo_types::WalletId) -> String {
        self.book.wallet_name(id).map_or_else(|| id.to_string(), str::to_owned)
    }

    /// A user's name, or its id when it has none.
    pub fn user_label(&self, id: kanjo_types::UserId) -> String {
        self.book.user_name(id).map_or_else(|| id.to_string(), str::to_owned)
    }
}
