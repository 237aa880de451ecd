//! `kanjo key`: draw, list, show.

use crate::context::Context;
use crate::fail::Done;
use crate::say;
use crate::text::{Align, Table, bold, note};
use clap::{Subcommand, ValueEnum};
use kanjo_client::keys::{Cost, KeyFile, Protection};
use kanjo_types::signature::KeyKind;
use serde::Serialize;
use serde_json::json;
use std::path::PathBuf;

/// Keys: draw, list, show.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Draw a new key and keep it in the home directory, encrypted.
    #[command(after_help = "Example:\n  kanjo key new alice\n  \
        kanjo key new till-7 --kind p256 --passphrase-file secret.txt")]
    New {
        /// Name of the key, and of its file.
        name: String,
        /// What kind of key.
        #[arg(long, value_enum, default_value_t = Kind::Ed25519)]
        kind: Kind,
        /// Don't encrypt it. Whoever reads the file owns the key: for development only.
        #[arg(long)]
        no_passphrase: bool,
    },
    /// The keys in the home directory.
    #[command(after_help = "Example:\n  kanjo key list")]
    List,
    /// One key's public half and where it is kept.
    #[command(after_help = "Example:\n  kanjo key show alice")]
    Show {
        /// Name or path of the key.
        name: String,
    },
    /// Print the public half, to give to others.
    #[command(after_help = "Example:\n  kanjo key export-public alice --out alice.pub")]
    ExportPublic {
        /// Name or path of the key.
        name: String,
        /// Write it to FILE instead.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

/// Kinds of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Fast, the default.
    Ed25519,
    /// NIST P-256: passkeys and hardware security modules.
    P256,
    /// secp256k1: Ethereum wallets.
    Secp256k1,
}

impl From<Kind> for KeyKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Ed25519 => Self::Ed25519,
            Kind::P256 => Self::P256,
            Kind::Secp256k1 => Self::Secp256k1,
        }
    }
}

#[derive(Serialize)]
struct KeyView {
    name: String,
    kind: KeyKind,
    public: String,
    encrypted: bool,
    file: Option<PathBuf>,
}

impl KeyView {
    fn of(ctx: &Context, key: &KeyFile) -> Self {
        Self {
            name: key.name().to_owned(),
            kind: key.kind(),
            public: key.public().to_string(),
            encrypted: key.is_encrypted(),
            file: ctx.home.keys().path(key.name()).ok(),
        }
    }
}

/// Runs `kanjo key`.
pub fn key(ctx: &Context, command: KeyCommand) -> Done {
    match command {
        KeyCommand::New { name, kind, no_passphrase } => {
            let (key, path) = new_key(ctx, &name, kind.into(), no_passphrase)?;
            ctx.answer(&KeyView::of(ctx, &key), || {
                say!("Key {} drawn.", bold(&name));
                say!("  public  {}", key.public());
                say!("  kept    {}", path.display());
                ctx.next(&format!("user create {name} --key {name} --with-wallet"));
            })
        }
        KeyCommand::List => list(ctx),
        KeyCommand::Show { name } => {
            let key = ctx.key(&name)?;
            ctx.answer(&KeyView::of(ctx, &key), || {
                say!("{}", bold(key.name()));
                say!("  public     {}", key.public());
                say!("  encrypted  {}", if key.is_encrypted() { "yes" } else { "no" });
            })
        }
        KeyCommand::ExportPublic { name, out } => {
            let public = ctx.key(&name)?.public().to_string();
            if let Some(path) = &out {
                std::fs::write(path, format!("{public}\n"))
                    .map_err(|error| crate::fail::Fail::file(path, error))?;
            }
            ctx.answer(&json!({ "public": public, "file": out }), || match &out {
                Some(path) => say!("Public key written to {}.", path.display()),
                None => say!("{public}"),
            })
        }
    }
}

/// Draws a key and keeps it.
pub fn new_key(
    ctx: &Context,
    name: &str,
    kind: KeyKind,
    no_passphrase: bool,
) -> Done<(KeyFile, PathBuf)> {
    let store = ctx.home.keys();
    if store.path(name)?.exists() {
        return Err(kanjo_client::keys::KeyError::Exists(name.to_owned()).into());
    }
    let key = if no_passphrase {
        note(&format!(
            "warning: the key '{name}' is kept unencrypted; whoever reads its file owns it"
        ));
        KeyFile::generate(name, kind, Protection::Plain)?
    } else {
        let passphrase = ctx.new_passphrase(name)?;
        KeyFile::generate(name, kind, Protection::Passphrase(&passphrase, Cost::default()))?
    };
    let path = store.save(&key)?;
    Ok((key, path))
}

fn list(ctx: &Context) -> Done {
    let keys = ctx.home.keys().list()?;
    let views: Vec<KeyView> = keys.iter().map(|key| KeyView::of(ctx, key)).collect();
    ctx.answer(&views, || {
        if keys.is_empty() {
            say!("No keys in {}.", ctx.home.keys().directory().display());
            ctx.next("key new NAME");
            return;
        }
        let columns = [("name", Align::Left), ("encrypted", Align::Left), ("public", Align::Left)];
        let mut table = Table::new(&columns);
        for view in &views {
            let encrypted = if view.encrypted { "yes" } else { "no" };
            table.row([view.name.clone(), encrypted.to_owned(), view.public.clone()]);
        }
        table.print();
    })
}
