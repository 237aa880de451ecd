//! Failures that teach: what was wrong, what would be right, and the next command to type.

use kanjo_client::keys::KeyError;
use kanjo_client::{ClientError, CosignError, DraftError};
use serde_json::{Value, json};
use std::fmt::Display;
use std::path::Path;

/// Exit code of something refused or failed.
pub const EXIT_FAILED: u8 = 1;
/// Exit code of a command that was typed wrongly.
pub const EXIT_USAGE: u8 = 2;
/// Code of a failure that has been reported in full; only the exit code is left to give.
pub const SILENT: &str = "reported";

/// Why a command did not do what was asked.
#[derive(Debug, Clone)]
pub struct Fail {
    /// Exit code.
    pub exit: u8,
    /// Stable name.
    pub code: String,
    /// What was wrong, as a sentence.
    pub message: String,
    /// Which part of the request.
    pub field: Option<String>,
    /// What to do or type next.
    pub next: Option<String>,
}

/// What a command comes to.
pub type Done<T = ()> = Result<T, Fail>;

impl Fail {
    /// Something refused or failed.
    pub fn new(code: &str, message: impl Display) -> Self {
        Self {
            exit: EXIT_FAILED,
            code: code.to_owned(),
            message: message.to_string(),
            field: None,
            next: None,
        }
    }

    /// Something typed wrongly.
    pub fn usage(message: impl Display) -> Self {
        Self { exit: EXIT_USAGE, ..Self::new("usage", message) }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn next(mut self, next: impl Display) -> Self {
        self.next = Some(next.to_string());
        self
    }

    /// A file could not be read or written.
    pub fn file(path: &Path, error: impl Display) -> Self {
        Self::new("file", format!("{}: {error}", path.display()))
    }

    /// With the commands in what to do next as this program was called.
    #[must_use]
    pub fn called_as(mut self, called: &str) -> Self {
        self.next = self.next.map(|next| next.replace("kanjo ", called));
        self
    }

    /// The machine-readable form.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({ "error": {
            "code": self.code,
            "message": self.message,
            "field": self.field,
            "next": self.next,
        }})
    }
}

impl From<ClientError> for Fail {
    fn from(error: ClientError) -> Self {
        let message = error.to_string();
        match error {
            ClientError::Refused { body, .. } => {
                let next = next_after(&body.code).map(str::to_owned);
                let field = body.field.filter(|field| !field.is_empty());
                Self { field, next, ..Self::new(&body.code, body.message) }
            }
            ClientError::Unreachable { .. } => Self::new("unreachable", message).next(
                "start a node on this machine with 'kanjo dev', or name another with --node URL",
            ),
            ClientError::Timeout { .. } => Self::new("timeout", message)
                .next("see 'kanjo status'; a submitted transaction may still become final"),
            ClientError::BadAnswer { .. } => Self::new("bad_answer", message)
                .next("check --node URL; it must be the address of a Kanjo node"),
            ClientError::BadUrl { .. } => {
                Self { exit: EXIT_USAGE, ..Self::new("bad_url", message) }
            }
        }
    }
}

/// What to do after a refusal or a failed result, by its code.
pub fn next_after(code: &str) -> Option<&'static str> {
    Some(match code {
        "insufficient_funds" => "see what the wallet holds: kanjo wallet show WALLET",
        "unknown_token" => "see the tokens: kanjo token list",
        "unknown_source_wallet" | "unknown_target_wallet" | "unknown_wallet" => {
            "check the wallet's id; a new wallet: kanjo wallet create NAME --user USER"
        }
        "unknown_author" | "unknown_user" => {
            "register first: kanjo user create NAME --key KEY (or ask an operator to sponsor you)"
        }
        "not_permitted" => {
            "this ledger leaves that to its operators: let one sign it (--as or --sponsor OPERATOR)"
        }
        "not_wallet_owner" => {
            "only its owner takes money from a wallet; see whose it is: kanjo wallet show WALLET"
        }
        "not_issuer" => "see who issues the token: kanjo token show SYMBOL",
        "expired" | "valid_too_long" => {
            "check this machine's clock against the ledger's (kanjo status), or change --valid-for"
        }
        "already_used" => "see what came of it: kanjo tx show ID",
        "wrong_chain" => "draft and sign it again for this ledger",
        "overloaded" | "storage_full" | "stopping" | "no_leader" | "no_node" | "behind" => {
            "try again shortly; see 'kanjo status'"
        }
        "user_exists" => "another user with the same keys needs another --number",
        "wallet_exists" => "another wallet of the same user needs another --number",
        "symbol_taken" => "see the tokens: kanjo token list",
        _ => return next_by_the_rules(code),
    })
}

/// As [`next_after`], for what policies, roles and administrative acts refuse.
fn next_by_the_rules(code: &str) -> Option<&'static str> {
    Some(match code {
        "unknown_pending" | "already_settled" | "pending_expired" | "not_agent" => {
            "see how it stands: kanjo pending show PENDING"
        }
        "unknown_bundle" | "bundle_closed" | "bundle_expired" | "not_party" => {
            "see how it stands: kanjo bundle show BUNDLE"
        }
        "unknown_schedule" | "schedule_ended" | "not_schedule_owner" => {
            "see how it stands: kanjo schedule show SCHEDULE"
        }
        "unknown_act" | "act_closed" | "act_expired" | "act_waiting" | "act_not_ready" => {
            "see how it stands: kanjo act show ACT"
        }
        "unknown_claim" | "claim_settled" => "see the claims: kanjo claim list WALLET",
        "claim_open" => {
            "see what it owes: kanjo claim list WALLET; pay it: kanjo claim settle CLAIM"
        }
        "not_holder" => {
            "see who holds the role: kanjo token show SYMBOL; sign as one of them: --as USER"
        }
        "approval_needed" => {
            "order it with --reason CODE; the other holders agree with 'kanjo act approve'"
        }
        "policy_forbids" => "see what the token permits: kanjo token show SYMBOL",
        "against_charter" => "see what can never be exceeded: kanjo token show SYMBOL (charter)",
        "already_frozen" | "not_frozen" | "token_frozen" | "source_frozen" | "target_frozen" => {
            "see the freezes: kanjo freeze list SYMBOL"
        }
        "not_approved" | "wallet_not_approved" => {
            "the token's approver approves it: kanjo terms set WALLET --token SYMBOL --approve"
        }
        "payment_limit" | "day_limit" | "balance_limit" | "below_floor" => {
            "see what holds for the wallet: kanjo terms show WALLET --token SYMBOL"
        }
        "already_reversed" => "see the reversal: kanjo proof reversal TX --token SYMBOL",
        "funds_moved" => {
            "where the policy says 'follow', name the payments it moved on by: --follow TX"
        }
        "supply_cap" | "nothing_issued" => "see the supply and its cap: kanjo token show SYMBOL",
        "not_custodian" | "unknown_attribute" | "attribute_erased" => {
            "see the attributes: kanjo attribute list USER"
        }
        _ => return None,
    })
}

impl From<KeyError> for Fail {
    fn from(error: KeyError) -> Self {
        let message = error.to_string();
        match error {
            KeyError::Unknown { name, .. } => Self::new("unknown_key", message).next(format!(
                "see your keys with 'kanjo key list', or draw one with 'kanjo key new {name}'"
            )),
            KeyError::Exists(_) => Self::new("key_exists", message),
            KeyError::Name(_) => Self { exit: EXIT_USAGE, ..Self::new("key_name", message) },
            KeyError::WrongPassphrase(_) => Self::new("wrong_passphrase", message)
                .next("try again; KANJO_PASSPHRASE and --passphrase-file go before the prompt"),
            KeyError::PassphraseNeeded(_) => Self::new("passphrase_needed", message)
                .next("run it in a terminal, or give --passphrase-file FILE or KANJO_PASSPHRASE"),
            KeyError::EmptyPassphrase => Self::new("empty_passphrase", message)
                .next("type one, or ask for an unencrypted key with --no-passphrase"),
            KeyError::Damaged { .. } => {
                Self::new("damaged_key", message).next("restore the key file from a copy")
            }
            KeyError::NoRandomness(_) | KeyError::Derivation(_) => Self::new("key", message),
            KeyError::Io { .. } => Self::new("file", message),
        }
    }
}

impl From<DraftError> for Fail {
    fn from(error: DraftError) -> Self {
        match error {
            DraftError::Refused(refused) => Self {
                field: Some(refused.field.clone()),
                ..Self::new(refused.refusal.code(), refused.refusal.sentence())
            },
            DraftError::NoRandomness(_) => Self::new("randomness", error),
        }
    }
}

impl From<CosignError> for Fail {
    fn from(error: CosignError) -> Self {
        let message = error.to_string();
        let (code, next) = match error {
            CosignError::Missing { .. } => (
                "signatures_missing",
                "let the next signer run: kanjo tx sign FILE --key KEY (a bundle: kanjo bundle sign FILE --key KEY)",
            ),
            CosignError::Complete(_) => (
                "complete",
                "when all have signed, send it: kanjo tx submit FILE (a bundle: kanjo bundle send FILE)",
            ),
            CosignError::ForeignKey(_) => ("foreign_key", "see your keys: kanjo key list"),
            CosignError::SignedAlready(_) => ("signed_already", "let another key sign"),
            CosignError::BadSignature(_) => ("bad_signature", "draft it again: kanjo tx draft"),
            CosignError::Version(_) | CosignError::Signers | CosignError::Invalid(_) => {
                ("damaged_draft", "draft it again: kanjo tx draft")
            }
        };
        Self::new(code, message).next(next)
    }
}
