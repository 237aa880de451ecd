//! What a transaction would change, kept beside the ledger until all of its operations have passed.

use crate::relations::RelationScratch;
use crate::table::Slot;
use hashbrown::HashMap;
use kanjo_types::money::Act;
use kanjo_types::record::{Record, RowKey, StateExtra, Table, TokenRecord};
use kanjo_types::stored::Location;
use kanjo_types::{Access, Amount, Hash, PendingId, TokenId, UserId, WalletId, codec};
use std::collections::BTreeSet;

/// Up to this many drafts of a kind are searched in line; a plain payment has two.
const LINEAR_MAX: usize = 8;

/// Drafts of one kind in the order of first touch.
pub(crate) struct Drafts<K, D> {
    items: Vec<(K, D)>,
    index: HashMap<K, usize>,
}

impl<K, D> Default for Drafts<K, D> {
    fn default() -> Self {
        Self { items: Vec::new(), index: HashMap::new() }
    }
}

impl<K: Copy + Eq + std::hash::Hash, D> Drafts<K, D> {
    pub(crate) fn position(&self, key: &K) -> Option<usize> {
        if self.items.len() <= LINEAR_MAX {
            self.items.iter().position(|(other, _)| other == key)
        } else {
            self.index.get(key).copied()
        }
    }

    pub(crate) fn get(&self, key: &K) -> Option<&D> {
        self.items.get(self.position(key)?).map(|(_, draft)| draft)
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut D> {
        let position = self.position(key)?;
        self.at_mut(position)
    }

    pub(crate) fn at_mut(&mut self, position: usize) -> Option<&mut D> {
        self.items.get_mut(position).map(|(_, draft)| draft)
    }

    pub(crate) fn push(&mut self, key: K, draft: D) -> usize {
        let position = self.items.len();
        self.items.push((key, draft));
        if self.items.len() == LINEAR_MAX + 1 {
            let all = self.items.iter().enumerate().map(|(at, (key, _))| (*key, at));
            self.index.extend(all);
        } else if self.items.len() > LINEAR_MAX {
            self.index.insert(key, position);
        }
        position
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &(K, D)> {
        self.items.iter()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    fn clear(&mut self) {
        self.items.clear();
        self.index.clear();
    }
}

/// Most that one transaction may draft beside the balances, by [`weight`]. An operation of a few
/// bytes can change much that earlier ones have put on the ledger: 64 linked pending payments, a
/// bundle with all its legs.
pub(crate) const WEIGHT_MAX: usize = 16_384;

/// How much a record counts for: one, and one for each part of those that can be large. A part
/// takes no more than 128 bytes.
pub(crate) fn weight(record: &Record) -> usize {
    1 + match record {
        Record::Bundle(bundle) => bundle.legs.len() + bundle.conditions.len(),
        Record::Act(act) => match &act.act {
            Act::Reverse { originals, trail, .. } => (originals.len() + trail.len()) / 4,
            _ => 0,
        },
        // Four texts and two keys; a hash and a text.
        Record::Membership(membership) => {
            5 * membership.members.len() + 2 * membership.measurements.len()
        }
        // Many of them would be many definitions to look through.
        Record::Relation(relation) => 64 + codec::length(relation.as_ref()) / 128,
        Record::Row(row) => codec::length(row.as_ref()) / 128,
        _ => 0,
    }
}

/// A new version of a user.
pub(crate) struct UserDraft {
    pub access: Access,
    pub sponsor: UserId,
}

/// A new wallet.
pub(crate) struct WalletDraft {
    pub owner: UserId,
    pub number: u64,
}

/// The state before: what a new version links to.
#[derive(Clone, Copy)]
pub(crate) struct Before {
    pub hash: Hash,
    pub version: u64,
    pub transaction: Hash,
    pub at: Location,
    pub slot: Slot,
}

/// A wallet state under change.
pub(crate) struct StateDraft {
    pub before: Option<Before>,
    pub balance: Amount,
    pub extra: StateExtra,
}

/// A draft of anything but a wallet state, in the order of first touch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Touched {
    User(UserId),
    Wallet(WalletId),
    Token(TokenId),
    Standing(Table, RowKey),
}

/// Everything a transaction would change.
#[derive(Default)]
pub(crate) struct Scratch {
    pub users: Drafts<UserId, UserDraft>,
    pub wallets: Drafts<WalletId, WalletDraft>,
    pub tokens: Drafts<TokenId, TokenRecord>,
    pub states: Drafts<(WalletId, TokenId), StateDraft>,
    /// Records of what stands beside the balances; their links are set but for the transaction.
    pub standing: Drafts<(Table, RowKey), Record>,
    pub order: Vec<Touched>,
    /// Fees taken.
    pub fees: Vec<(TokenId, Amount)>,
    /// How much was drafted beside the balances ([`weight`]).
    pub weight: usize,
    /// The last reservation of this transaction, to which the next one may be linked.
    pub chain: Option<PendingId>,
    /// Symbols of tokens created by this transaction.
    pub new_symbols: BTreeSet<String>,
    /// Slots of wallets looked up on the way, to be used again when their states are written.
    pub wallet_slots: Drafts<WalletId, Slot>,
    /// Tables of users.
    pub relations: RelationScratch,
}

impl Scratch {
    pub(crate) fn clear(&mut self) {
        self.users.clear();
        self.wallets.clear();
        self.tokens.clear();
        self.states.clear();
        self.standing.clear();
        self.order.clear();
        self.fees.clear();
        self.weight = 0;
        self.chain = None;
        self.new_symbols.clear();
        self.wallet_slots.clear();
        if self.relations.is_used() {
            self.relations = RelationScratch::default();
        }
    }
}
