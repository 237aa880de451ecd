//! What somebody signs: a body of one or more operations, all or nothing.

use crate::access::{Access, KeySignature};
use crate::amount::Amount;
use crate::codec;
use crate::hash::{self, Hash, TAG_TRANSACTION, TAG_WITNESS};
use crate::id::{ChainId, TokenId, TransactionId, UserId, WalletId};
use crate::outcome::Refusal;
use crate::signature::SecretKey;
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

/// The only body version there is.
pub const BODY_VERSION: u8 = 1;
/// Most operations in one transaction (one signature over a batch).
pub const OPERATIONS_MAX: usize = 8_190;
/// Most keys that the operations of one transaction bring: each is checked to be a point on its
/// curve.
pub const KEYS_MAX: usize = 8_190;
/// Most bytes of one signed transaction: room for the largest batch of the largest operation of
/// common kinds.
pub const TRANSACTION_BYTES_MAX: usize = 2 << 20;
/// Most bytes of a payment's reference.
pub const REFERENCE_BYTES_MAX: usize = 64;
/// Most characters of a token symbol.
pub const SYMBOL_CHARS_MAX: usize = 12;
/// Most bytes of a token name.
pub const NAME_BYTES_MAX: usize = 64;
/// Most decimal places of a token.
pub const DECIMALS_MAX: u8 = 30;

// A batch of plain payments with full references fits the byte limit.
const _: () = assert!(OPERATIONS_MAX * (57 + REFERENCE_BYTES_MAX) + 4_096 <= TRANSACTION_BYTES_MAX);

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Operation {
    /// Registers a user; its id follows from the keys and the number. The author becomes its
    /// sponsor, who may also open wallets for it.
    CreateUser {
        /// Keys of the new user.
        access: Access,
        /// Lets one set of keys hold several users; 0 for the first.
        number: u64,
    },
    /// Opens a wallet. By its owner, or by the owner's sponsor.
    CreateWallet {
        /// Whose wallet.
        owner: UserId,
        /// Lets one user hold several wallets; 0 for the first.
        number: u64,
    },
    /// Creates a token.
    CreateToken {
        /// Short unique name, such as `JPY`.
        symbol: String,
        /// Long name.
        name: String,
        /// Decimal places of the display unit.
        decimals: u8,
        /// Who issues and redeems.
        issuer: UserId,
    },
    /// Brings new money into being. By the issuer.
    Issue {
        /// Which token.
        token: TokenId,
        /// Into which wallet.
        to: WalletId,
        /// How much.
        amount: Amount,
    },
    /// Takes money out of being. By the issuer, from a wallet of its own.
    Redeem {
        /// Which token.
        token: TokenId,
        /// From which wallet.
        from: WalletId,
        /// How much.
        amount: Amount,
    },
    /// Pays. By the owner of the paying wallet.
    Transfer {
        /// Which token.
        token: TokenId,
        /// Paying wallet.
        from: WalletId,
        /// Receiving wallet.
        to: WalletId,
        /// How much.
        amount: Amount,
        /// What for, at most 64 bytes; public for ever, so no personal data.
        #[serde(default)]
        reference: String,
    },
    /// Replaces the keys of a user. By the user itself, with its present keys.
    RotateKeys {
        /// Which user.
        user: UserId,
        /// Its keys from the next transaction on.
        access: Access,
    },
}

/// What is signed.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransactionBody {
    /// [`BODY_VERSION`].
    pub version: u8,
    /// Which ledger.
    pub chain: ChainId,
    /// Who signs.
    pub author: UserId,
    /// Last ledger time (milliseconds since 1970-01-01 UTC) at which it may be taken.
    pub valid_until_ms: u64,
    /// Tells otherwise equal transactions apart; draw it at random.
    pub salt: u64,
    /// 1 … [`OPERATIONS_MAX`] operations; all are done, or none.
    pub operations: Vec<Operation>,
}

/// A body with its author's signatures.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedTransaction {
    /// What is signed.
    pub body: TransactionBody,
    /// Exactly as many as the author's threshold, by ascending key position.
    pub signatures: Vec<KeySignature>,
}

/// A refusal, with the field that caused it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{refusal} (field: {field})")]
pub struct Refused {
    /// Why.
    pub refusal: Refusal,
    /// Which field, as a path such as `operations[3].amount`.
    pub field: String,
}

impl Refused {
    /// A refusal caused by `field`.
    #[must_use]
    pub fn new(refusal: Refusal, field: impl Into<String>) -> Self {
        Self { refusal, field: field.into() }
    }
}

/// The transaction id of canonical body bytes.
#[must_use]
pub fn id_of_body_bytes(body: &[u8]) -> TransactionId {
    TransactionId(hash::digest(TAG_TRANSACTION, &[body]))
}

impl TransactionBody {
    /// The id: what the author signs.
    #[must_use]
    pub fn id(&self) -> TransactionId {
        id_of_body_bytes(&codec::to_bytes(self))
    }

    /// Signs alone with the first key.
    #[must_use]
    pub fn sign(self, key: &SecretKey) -> SignedTransaction {
        let signature = key.sign(&self.id().0);
        SignedTransaction { body: self, signatures: vec![KeySignature { key: 0, signature }] }
    }

    /// Checks everything that needs no ledger: version, counts, amounts, texts, keys.
    ///
    /// # Errors
    /// The first rule broken, in the order of [`Refusal`] for each operation, with the field.
    pub fn check_shape(&self) -> Result<(), Refused> {
        if self.version != BODY_VERSION {
            return Err(Refused::new(Refusal::UnsupportedVersion, "version"));
        }
        if self.operations.is_empty() {
            return Err(Refused::new(Refusal::NoOperations, "operations"));
        }
        if self.operations.len() > OPERATIONS_MAX {
            return Err(Refused::new(Refusal::TooManyOperations, "operations"));
        }
        let keys: usize = self.operations.iter().map(Operation::keys).sum();
        if keys > KEYS_MAX {
            return Err(Refused::new(Refusal::TooLarge, "operations: at most 8,190 keys"));
        }
        for (position, operation) in self.operations.iter().enumerate() {
            operation.check_shape().map_err(|(refusal, field)| {
                Refused::new(refusal, format!("operations[{position}].{field}"))
            })?;
        }
        Ok(())
    }
}

impl SignedTransaction {
    /// Digest of the signatures; with the id it fixes every byte of the transaction.
    #[must_use]
    pub fn witness(&self) -> Hash {
        let mut bytes = Vec::with_capacity(4 + 65 * self.signatures.len());
        codec::append(&self.signatures, &mut bytes);
        hash::digest(TAG_WITNESS, &[&bytes])
    }
}

impl Operation {
    fn check_shape(&self) -> Result<(), (Refusal, &'static str)> {
        let positive = |amount: &Amount| {
            if amount.0 == 0 { Err((Refusal::ZeroAmount, "amount")) } else { Ok(()) }
        };
        let keys = |access: &Access| access.check().map_err(|_| (Refusal::InvalidKeys, "access"));
        match self {
            Self::CreateUser { access, .. } | Self::RotateKeys { access, .. } => keys(access),
            Self::CreateWallet { .. } => Ok(()),
            Self::CreateToken { symbol, name, decimals, .. } => {
                check_token(symbol, name, *decimals)
            }
            Self::Issue { amount, .. } | Self::Redeem { amount, .. } => positive(amount),
            Self::Transfer { from, to, amount, reference, .. } => {
                positive(amount)?;
                if from == to {
                    return Err((Refusal::SameWallet, "to"));
                }
                if reference.len() > REFERENCE_BYTES_MAX || reference.chars().any(char::is_control)
                {
                    return Err((Refusal::InvalidReference, "reference"));
                }
                Ok(())
            }
        }
    }

    /// How many keys it brings.
    fn keys(&self) -> usize {
        match self {
            Self::CreateUser { access, .. } | Self::RotateKeys { access, .. } => {
                access.keys().len()
            }
            _ => 0,
        }
    }

    /// The wallet states this operation changes, paying side first.
    #[must_use]
    pub fn touches(&self) -> [Option<(WalletId, TokenId)>; 2] {
        match self {
            Self::Issue { token, to, .. } => [Some((*to, *token)), None],
            Self::Redeem { token, from, .. } => [Some((*from, *token)), None],
            Self::Transfer { token, from, to, .. } => [Some((*from, *token)), Some((*to, *token))],
            _ => [None, None],
        }
    }
}

/// Checks the texts and the scale of a token.
///
/// # Errors
/// The refusal and the field that caused it.
pub fn check_token(symbol: &str, name: &str, decimals: u8) -> Result<(), (Refusal, &'static str)> {
    let symbol_fine = symbol.len() <= SYMBOL_CHARS_MAX
        && symbol.bytes().next().is_some_and(|byte| byte.is_ascii_uppercase())
        && symbol.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    if !symbol_fine {
        return Err((Refusal::InvalidSymbol, "symbol"));
    }
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return Err((Refusal::InvalidName, "name"));
    }
    if decimals > DECIMALS_MAX {
        return Err((Refusal::InvalidDecimals, "decimals"));
    }
    Ok(())
}
