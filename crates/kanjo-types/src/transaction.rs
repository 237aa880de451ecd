//! What somebody signs: a body of one or more operations, all or nothing.

use crate::access::{Access, KeySignature};
use crate::amount::Amount;
use crate::codec;
use crate::hash::{self, Hash, TAG_TRANSACTION, TAG_WITNESS};
use crate::id::{
    ActId, BundleId, ChainId, ClaimId, PendingId, RelationId, ScheduleId, TokenId, TransactionId,
    UserId, WalletId,
};
use crate::membership::{MembershipChange, Notice, Statement};
use crate::money::{Act, Condition, Every, Evidence, Grant, Leg, ORIGINALS_MAX, Order, WhenShort};
use crate::outcome::Refusal;
use crate::policy::Policy;
use crate::relation::RelationChange;
use crate::row::RowChange;
use crate::shape::Flaw;
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
/// Most bytes of one that brings evidence: what a large batch made takes more room than the batch,
/// and must not be irreversible for its size.
pub const REVERSAL_BYTES_MAX: usize = 24 << 20;
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
        /// Who issues and redeems, and holds every role that is not granted to others.
        issuer: UserId,
        /// What the token permits, for good; plain when absent.
        #[serde(default)]
        policy: Box<Policy>,
        /// Who holds which role, by ascending role.
        #[serde(default)]
        grants: Vec<Grant>,
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
    /// First in a bundle: these users sign the whole transaction too, and what follows may spend
    /// from the wallets of any signer.
    Parties {
        /// Other signers, 1 … 15, ascending, without the author.
        users: Vec<UserId>,
    },
    /// What must hold at this point, or the whole transaction fails.
    Require {
        /// What.
        condition: Condition,
    },
    /// Makes a pending payment: reserves the money. By the owner of the paying wallet.
    Reserve {
        /// Which token.
        token: TokenId,
        /// Paying wallet.
        from: WalletId,
        /// Receiving wallet.
        to: WalletId,
        /// How much, at most, can be posted.
        amount: Amount,
        /// Last ledger time at which it can be posted; then the money goes back.
        expires_ms: u64,
        /// Who posts or voids it; the receiver's owner when absent.
        #[serde(default)]
        agent: Option<UserId>,
        /// Posts and voids as one with the reservation before it in this transaction.
        #[serde(default)]
        linked: bool,
        /// What for, at most 64 bytes; public for ever.
        #[serde(default)]
        reference: String,
    },
    /// Pays a pending payment, with its whole chain. By its agent.
    Post {
        /// Which: the first of its chain.
        pending: PendingId,
        /// How much of it; all when absent. The rest goes back.
        #[serde(default)]
        amount: Option<Amount>,
    },
    /// Gives a pending payment back, with its whole chain. By its agent.
    Void {
        /// Which: the first of its chain.
        pending: PendingId,
    },
    /// Puts a bundle on the ledger for the others to agree to.
    ProposeBundle {
        /// The other parties, 1 … 15, ascending, without the author.
        parties: Vec<UserId>,
        /// What must hold when it is paid.
        #[serde(default)]
        conditions: Vec<Condition>,
        /// What is paid, in order.
        legs: Vec<Leg>,
        /// Last ledger time at which a party can agree.
        expires_ms: u64,
    },
    /// Agrees to a bundle; the last to agree makes it be paid. By a party.
    AgreeBundle {
        /// Which.
        bundle: BundleId,
    },
    /// Ends an open bundle. By a party.
    DeclineBundle {
        /// Which.
        bundle: BundleId,
    },
    /// Orders a payment for later, once or again and again; the ledger makes it. By the owner of
    /// the paying wallet.
    Schedule {
        /// Which token.
        token: TokenId,
        /// Paying wallet.
        from: WalletId,
        /// Receiving wallet.
        to: WalletId,
        /// How much each time.
        amount: Amount,
        /// First date, ledger time.
        first_ms: u64,
        /// How often; once when absent.
        #[serde(default)]
        every: Option<Every>,
        /// How many dates in all; without end when absent. Only with `every`.
        #[serde(default)]
        times: Option<u32>,
        /// What happens when it can't be paid.
        when_short: WhenShort,
        /// What for, at most 64 bytes; public for ever.
        #[serde(default)]
        reference: String,
    },
    /// Ends a scheduled payment. By the owner of the paying wallet.
    CancelSchedule {
        /// Which.
        schedule: ScheduleId,
    },
    /// Commits to a personal attribute that is kept elsewhere. By the user or its sponsor.
    SetAttribute {
        /// Whose.
        user: UserId,
        /// Name, such as `legal_name`: `a`-`z`, `0`-`9`, `_`.
        name: String,
        /// [`crate::money::attribute_commitment`].
        commitment: Hash,
    },
    /// Declares that an attribute was erased where it was kept. By its custodian (who committed to
    /// it) or by the user.
    EraseAttribute {
        /// Whose.
        user: UserId,
        /// Which.
        name: String,
    },
    /// Names the guardians who can give the author new keys. By the user itself.
    SetGuardians {
        /// Role [`crate::money::Role::Guardian`], holders, threshold.
        grant: Grant,
        /// How long the user can object, in milliseconds.
        delay_ms: u64,
    },
    /// Orders an administrative act. By holders of its role: done at once when enough of them sign,
    /// otherwise proposed to the others.
    Act {
        /// What and why.
        order: Box<Order>,
        /// For a reversal that is done at once: of the originals, then of the trail.
        #[serde(default)]
        evidence: Vec<Evidence>,
    },
    /// Agrees to a proposed act; when enough have, it is done. By a holder of its role.
    ApproveAct {
        /// Which.
        act: ActId,
        /// For a reversal that is done by this: of the originals, then of the trail.
        #[serde(default)]
        evidence: Vec<Evidence>,
    },
    /// Rejects a proposed or waiting act. By a holder of its role, by whoever ordered it, or by the
    /// user whose keys it would replace.
    RejectAct {
        /// Which.
        act: ActId,
    },
    /// Does an act whose delay has passed. By anyone.
    FinishAct {
        /// Which.
        act: ActId,
    },
    /// Pays a claim from what its debtor now holds. By anyone.
    SettleClaim {
        /// Which.
        claim: ClaimId,
    },
    /// Pays interest on present balances, `⌊balance × rate × days / (1,000,000 × year)⌋` to each.
    /// By the issuer.
    PayInterest {
        /// Which token.
        token: TokenId,
        /// Paying wallet, of a signer.
        from: WalletId,
        /// Who gets interest; 1 … 1,000 wallets.
        to: Vec<WalletId>,
        /// Millionths a year.
        rate_ppm: u32,
        /// For how many days.
        days: u16,
        /// Days of a year: 360, 365 or 366.
        year: u16,
    },
    /// By the ledger itself: gives an expired pending payment back, with its whole chain.
    ExpirePending {
        /// Which: the first of its chain.
        pending: PendingId,
    },
    /// By the ledger itself: makes a scheduled payment.
    RunSchedule {
        /// Which.
        schedule: ScheduleId,
        /// Version of its record that this run works on; makes each run's id its own.
        version: u64,
    },
    /// Changes the membership of the cluster. By governors, as many as the genesis says.
    ChangeMembership {
        /// What.
        change: MembershipChange,
    },
    /// By the ledger itself: takes what members say about themselves or each other.
    TakeNotice {
        /// What they say.
        notice: Box<Notice>,
        /// Their signatures, by ascending member.
        statements: Vec<Statement>,
    },
    /// Makes or changes a table or view of users. By its owner; made by operators, or by anyone
    /// where tokens are open.
    Define {
        /// Which; when it is made, the number that it must get, if that matters.
        #[serde(default)]
        relation: Option<RelationId>,
        /// Hash of its record before the transaction; zero when it is made in it.
        expected: Hash,
        /// What.
        change: Box<RelationChange>,
    },
    /// Changes rows of a table of users. By those who have the right.
    Write {
        /// Which table.
        relation: RelationId,
        /// Hash of the table's record before the transaction, under which the changes were planned;
        /// zero when it is made in it.
        definition: Hash,
        /// The changes, in order.
        changes: Vec<RowChange>,
    },
}

/// The author of what the ledger does by itself: it signs nothing, every node computes the same.
pub const LEDGER: UserId = UserId([0; 16]);

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
    /// Exactly as many as the author's threshold, by ascending key position. With parties, key
    /// positions are counted through: the author's keys first, then those of each party, and each
    /// signer needs its own threshold. None when the author is [`LEDGER`].
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
    /// The users beside the author whose signatures it needs.
    #[must_use]
    pub fn parties(&self) -> &[UserId] {
        match self.operations.first() {
            Some(Operation::Parties { users }) => users,
            _ => &[],
        }
    }

    /// Of how many transactions it brings evidence.
    #[must_use]
    pub fn evidence(&self) -> usize {
        self.operations.iter().map(Operation::evidence).sum()
    }

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
            let parties = match operation {
                Operation::Parties { .. } if position > 0 => Err("users"),
                Operation::Parties { users } => self.check_others(users, "users"),
                Operation::ProposeBundle { parties, .. } => self.check_others(parties, "parties"),
                _ => Ok(()),
            };
            parties
                .map_err(|field| Flaw::new(Refusal::InvalidParties, field))
                .and_then(|()| operation.check_shape())
                .map_err(|flaw| flaw.within(&format!("operations[{position}]")))?;
        }
        // Each may need the header of another block.
        if self.evidence() > ORIGINALS_MAX {
            return Err(Refused::new(Refusal::TooLarge, "operations: at most 256 of evidence"));
        }
        Ok(())
    }

    /// The author is a party anyway and is not named again.
    fn check_others(&self, users: &[UserId], field: &'static str) -> Result<(), &'static str> {
        if users.contains(&self.author) { Err(field) } else { Ok(()) }
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
    /// How many keys it brings.
    fn keys(&self) -> usize {
        match self {
            Self::CreateUser { access, .. } | Self::RotateKeys { access, .. } => {
                access.keys().len()
            }
            Self::Act { order, .. } => match &order.act {
                Act::Recover { access, .. } => access.keys().len(),
                _ => 0,
            },
            _ => 0,
        }
    }

    /// Of how many transactions it brings evidence.
    fn evidence(&self) -> usize {
        match self {
            Self::Act { evidence, .. } | Self::ApproveAct { evidence, .. } => evidence.len(),
            _ => 0,
        }
    }

    /// The wallet states that a plain payment changes, paying side first. What the other operations
    /// change follows from the rules and is kept with the rows ([`crate::stored`]).
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
