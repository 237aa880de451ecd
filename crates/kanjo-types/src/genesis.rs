//! The genesis: the readable file from which everything else can be checked.
//!
//! Its digest is the chain id. The digest covers the content, not the spacing of the file.

use crate::access::{Access, AccessError, PublicKey};
use crate::amount::Amount;
use crate::codec;
use crate::hash::{self, TAG_GENESIS};
use crate::id::{ChainId, UserId, WalletId};
use crate::membership::{
    Attestor, MEASUREMENTS_MAX, MEMBERS_MAX, Measurement, MemberKind, NodeCertificate,
};
use crate::policy::Policy;
use crate::transaction::check_token;
use borsh::io::{Error, ErrorKind, Read, Result as IoResult};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The only genesis version there is.
pub const GENESIS_VERSION: u8 = 1;

/// Rules that hold for the life of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// How far ahead `valid_until_ms` may be, and so how long ids are remembered.
    pub replay_window_ms: u64,
    /// May anyone register a user and open wallets for it? Otherwise only operators register users.
    pub open_registration: bool,
    /// May any user create tokens? Otherwise only operators.
    pub open_tokens: bool,
    /// Names of users of this genesis that may always do both.
    pub operators: Vec<String>,
}

/// A voter of the first membership.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Voter {
    /// For people.
    pub name: String,
    /// Ed25519 vote key, 64 hexadecimal digits.
    #[serde(with = "hex::serde")]
    pub key: [u8; 32],
    /// Executor or witness.
    #[serde(default, skip_serializing_if = "is_executor")]
    pub kind: MemberKind,
    /// How the others reach it; absent on a ledger of one node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<Link>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // As serde calls it.
fn is_executor(kind: &MemberKind) -> bool {
    *kind == MemberKind::Executor
}

/// How other nodes and clients reach a voter, and what vouches for its sentinel.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// X25519 key, 64 hexadecimal digits.
    #[serde(with = "hex::serde")]
    pub key: [u8; 32],
    /// `host:port` for other nodes.
    pub address: String,
    /// URL for clients.
    pub api: String,
    /// What vouches for its sentinel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attestor: Option<Attestor>,
}

impl Voter {
    /// A voter that executes, alone: nobody links to it.
    #[must_use]
    pub fn alone(name: &str, key: [u8; 32]) -> Self {
        Self { name: name.to_owned(), key, kind: MemberKind::Executor, link: None }
    }

    /// The voter's certificate.
    #[must_use]
    pub fn certificate(&self) -> NodeCertificate {
        let link = self.link.as_ref();
        NodeCertificate {
            name: self.name.clone(),
            kind: self.kind,
            vote_key: self.key,
            link_key: link.map_or([0; 32], |link| link.key),
            address: link.map_or_else(String::new, |link| link.address.clone()),
            api: link.map_or_else(String::new, |link| link.api.clone()),
            attestor: link.and_then(|link| link.attestor.clone()),
        }
    }
}

/// How the cluster is governed.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Names of users of this genesis that change the membership.
    #[serde(default)]
    pub governors: Vec<String>,
    /// How many of them must sign a change; 1 … their number.
    #[serde(default)]
    pub threshold: u8,
    /// Programs that nodes may run; when empty, none is checked.
    #[serde(default)]
    pub measurements: Vec<Measurement>,
}

impl Cluster {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A first user.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirstUser {
    /// Name used inside this file.
    pub name: String,
    /// Its keys.
    pub access: Access,
}

/// A first token; they are numbered from 1 in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirstToken {
    /// Short unique name.
    pub symbol: String,
    /// Long name.
    pub name: String,
    /// Decimal places.
    pub decimals: u8,
    /// Name of the issuing user.
    pub issuer: String,
    /// What it permits, for good. Without a fee: its receiver would be a wallet of this ledger, and
    /// the ledger's id depends on this file.
    #[serde(default, skip_serializing_if = "Policy::is_plain")]
    pub policy: Policy,
}

/// A first wallet with its balances.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirstWallet {
    /// Name of the owning user.
    pub owner: String,
    /// Which of its wallets.
    #[serde(default)]
    pub number: u64,
    /// Amounts in smallest units by token symbol.
    #[serde(default)]
    #[borsh(deserialize_with = "read_ascending")]
    pub balances: BTreeMap<String, Amount>,
}

/// Borsh by itself takes map entries in any order and twice; the canonical form is ascending.
fn read_ascending<R: Read>(reader: &mut R) -> IoResult<BTreeMap<String, Amount>> {
    let pairs = Vec::<(String, Amount)>::deserialize_reader(reader)?;
    if !pairs.is_sorted_by(|(a, _), (b, _)| a < b) {
        let text = "balances must be in ascending order of distinct symbols";
        return Err(Error::new(ErrorKind::InvalidData, text));
    }
    Ok(pairs.into_iter().collect())
}

/// The first state of a ledger and its rules.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Genesis {
    /// [`GENESIS_VERSION`].
    pub version: u8,
    /// Name of the ledger, for people.
    pub name: String,
    /// Time of the genesis block, milliseconds since 1970-01-01 UTC.
    pub time_ms: u64,
    /// Rules.
    pub rules: Rules,
    /// First membership; a certificate needs more than half of it.
    pub voters: Vec<Voter>,
    /// How the cluster is governed.
    #[serde(default, skip_serializing_if = "Cluster::is_default")]
    pub cluster: Cluster,
    /// First users.
    pub users: Vec<FirstUser>,
    /// First tokens.
    pub tokens: Vec<FirstToken>,
    /// First wallets.
    pub wallets: Vec<FirstWallet>,
}

/// The genesis breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GenesisError {
    /// Another version.
    #[error("genesis version {0}; this software knows version 1")]
    Version(u8),
    /// Outside 1 s … 7 days.
    #[error("rules.replay_window_ms is {0}; it must be 1,000 (1 s) to 604,800,000 (7 days)")]
    ReplayWindow(u64),
    /// None, or too many.
    #[error("{0} voters; a ledger has 1 to 1,024")]
    VoterCount(usize),
    /// A name or key used twice, or a name that is empty or too long.
    #[error("{0} '{1}' is used twice, empty, or longer than 64 bytes")]
    Name(&'static str, String),
    /// A voter's texts or keys break a rule of certificates.
    #[error(
        "voter '{0}': {1} breaks a rule; texts have 1 to 128 bytes without control characters, keys \
         can be held by one party only"
    )]
    Voter(String, &'static str),
    /// Several voters, and no way to reach one of them.
    #[error("voter '{0}' has no link; where there are several voters, each needs one")]
    NoLink(String),
    /// All voters are witnesses.
    #[error("all voters are witnesses; at least one must execute")]
    NoExecutor,
    /// A threshold that can't be reached, or that is none.
    #[error(
        "cluster.threshold is {threshold}, there are {governors} governors; it must be 1 to their number, or 0 without any"
    )]
    Governors {
        /// How many must sign.
        threshold: u8,
        /// How many there are.
        governors: usize,
    },
    /// Too many, twice the same, or a note that is too long.
    #[error("cluster.measurements: at most 16 distinct ones, with notes of at most 128 bytes")]
    Measurements,
    /// A vote key that is no key, or one that anyone can sign for.
    #[error("the key of voter '{0}' is not an Ed25519 key that can be held by one party")]
    VoterKey(String),
    /// Refers to a user or token that the file does not have.
    #[error("{0} refers to '{1}', which this genesis does not define")]
    Unknown(&'static str, String),
    /// Keys that break a rule.
    #[error("user '{0}': {1}")]
    Access(String, AccessError),
    /// A token that breaks a rule.
    #[error("token '{0}': {1}")]
    Token(String, String),
    /// Balances of a token add up to more than 2¹²⁸ − 1.
    #[error("first balances of token '{0}' add up to more than 2^128 - 1")]
    Supply(String),
}

/// Most bytes of a name in a genesis.
const NAME_MAX: usize = 64;

fn claim<'a>(
    seen: &mut BTreeSet<&'a str>,
    what: &'static str,
    name: &'a str,
) -> Result<(), GenesisError> {
    if name.is_empty() || name.len() > NAME_MAX || !seen.insert(name) {
        return Err(GenesisError::Name(what, name.to_owned()));
    }
    Ok(())
}

impl Genesis {
    /// The chain id: digest of the canonical bytes of this value.
    #[must_use]
    pub fn chain_id(&self) -> ChainId {
        ChainId(hash::digest(TAG_GENESIS, &[&codec::to_bytes(self)]))
    }

    /// The id of the first user with this name.
    #[must_use]
    pub fn user_id(&self, name: &str) -> Option<UserId> {
        let user = self.users.iter().find(|user| user.name == name)?;
        Some(UserId::derive(self.chain_id(), &user.access, 0))
    }

    /// The id of a wallet of the first user with this name.
    #[must_use]
    pub fn wallet_id(&self, owner: &str, number: u64) -> Option<WalletId> {
        Some(WalletId::derive(self.chain_id(), self.user_id(owner)?, number))
    }

    /// Votes needed for a certificate of the first membership: 50 % + 1.
    #[must_use]
    pub fn quorum(&self) -> usize {
        self.voters.len() / 2 + 1
    }

    /// Checks every rule stated in this module.
    ///
    /// # Errors
    /// The first rule broken.
    pub fn check(&self) -> Result<(), GenesisError> {
        if self.version != GENESIS_VERSION {
            return Err(GenesisError::Version(self.version));
        }
        if !(1_000..=604_800_000).contains(&self.rules.replay_window_ms) {
            return Err(GenesisError::ReplayWindow(self.rules.replay_window_ms));
        }
        if !(1..=MEMBERS_MAX).contains(&self.voters.len()) {
            return Err(GenesisError::VoterCount(self.voters.len()));
        }
        let mut names = BTreeSet::new();
        claim(&mut names, "ledger name", &self.name)?;
        self.check_voters()?;
        self.check_cluster()?;
        self.check_users_and_tokens()
    }

    fn check_voters(&self) -> Result<(), GenesisError> {
        let (mut names, mut keys, mut link_keys) =
            (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for voter in &self.voters {
            claim(&mut names, "voter", &voter.name)?;
            if !crate::signature::is_key(&PublicKey::Ed25519(voter.key)) {
                return Err(GenesisError::VoterKey(voter.name.clone()));
            }
            if !keys.insert(voter.key) {
                return Err(GenesisError::Name("voter key", hex::encode(voter.key)));
            }
            let Some(link) = &voter.link else {
                if self.voters.len() > 1 {
                    return Err(GenesisError::NoLink(voter.name.clone()));
                }
                continue;
            };
            let wrong = |(_, field)| GenesisError::Voter(voter.name.clone(), field);
            voter.certificate().check().map_err(wrong)?;
            if !link_keys.insert(link.key) {
                return Err(GenesisError::Name("link key", hex::encode(link.key)));
            }
        }
        let executes = |voter: &Voter| voter.kind == MemberKind::Executor;
        if self.voters.iter().any(executes) { Ok(()) } else { Err(GenesisError::NoExecutor) }
    }

    fn check_cluster(&self) -> Result<(), GenesisError> {
        let Cluster { governors, threshold, measurements } = &self.cluster;
        let mut names = BTreeSet::new();
        for governor in governors {
            claim(&mut names, "governor", governor)?;
            if !self.users.iter().any(|user| user.name == *governor) {
                let what = "cluster.governors";
                return Err(GenesisError::Unknown(what, governor.clone()));
            }
        }
        let (threshold, least) = (*threshold, usize::from(!governors.is_empty()));
        if !(least..=governors.len()).contains(&usize::from(threshold)) {
            return Err(GenesisError::Governors { threshold, governors: governors.len() });
        }
        let mut programs = BTreeSet::new();
        let is_fine = |measurement: &Measurement| {
            measurement.check().is_ok() && programs.insert(measurement.program)
        };
        if measurements.len() > MEASUREMENTS_MAX || !measurements.iter().all(is_fine) {
            return Err(GenesisError::Measurements);
        }
        Ok(())
    }

    fn check_users_and_tokens(&self) -> Result<(), GenesisError> {
        let mut users = BTreeSet::new();
        let mut accesses = BTreeSet::new();
        for user in &self.users {
            claim(&mut users, "user", &user.name)?;
            user.access.check().map_err(|error| GenesisError::Access(user.name.clone(), error))?;
            if !accesses.insert(codec::to_bytes(&user.access)) {
                return Err(GenesisError::Name("keys of user", user.name.clone()));
            }
        }
        let known = |what, name: &String| {
            if users.contains(name.as_str()) {
                Ok(())
            } else {
                Err(GenesisError::Unknown(what, name.clone()))
            }
        };
        self.rules.operators.iter().try_for_each(|name| known("rules.operators", name))?;
        let mut supplies = BTreeMap::new();
        for token in &self.tokens {
            check_token(&token.symbol, &token.name, token.decimals).map_err(|(refusal, _)| {
                GenesisError::Token(token.symbol.clone(), refusal.sentence().to_owned())
            })?;
            known("a token's issuer", &token.issuer)?;
            let bad_policy = match token.policy.check() {
                Ok(()) => token.policy.fee.map(|_| "fee: not in a genesis; create the token later"),
                Err(field) => Some(field),
            };
            if let Some(field) = bad_policy {
                return Err(GenesisError::Token(token.symbol.clone(), format!("policy.{field}")));
            }
            if supplies.insert(token.symbol.as_str(), Amount::ZERO).is_some() {
                return Err(GenesisError::Name("token", token.symbol.clone()));
            }
        }
        let mut wallets = BTreeSet::new();
        for wallet in &self.wallets {
            known("a wallet's owner", &wallet.owner)?;
            if !wallets.insert((wallet.owner.as_str(), wallet.number)) {
                return Err(GenesisError::Name("wallet of", wallet.owner.clone()));
            }
            for (symbol, amount) in &wallet.balances {
                let supply = supplies
                    .get_mut(symbol.as_str())
                    .ok_or_else(|| GenesisError::Unknown("a balance", symbol.clone()))?;
                *supply = supply
                    .checked_add(*amount)
                    .ok_or_else(|| GenesisError::Supply(symbol.clone()))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::{KeyKind, SecretKey};

    fn genesis(key: [u8; 32]) -> Genesis {
        let rules = Rules {
            replay_window_ms: 1_000,
            open_registration: false,
            open_tokens: false,
            operators: Vec::new(),
        };
        Genesis {
            version: GENESIS_VERSION,
            name: "test".to_owned(),
            time_ms: 0,
            rules,
            voters: vec![Voter::alone("node-1", key)],
            cluster: Cluster::default(),
            users: Vec::new(),
            tokens: Vec::new(),
            wallets: Vec::new(),
        }
    }

    fn public(seed: u8) -> [u8; 32] {
        let public = SecretKey::from_seed(KeyKind::Ed25519, [seed; 32]).expect("a key").public();
        let PublicKey::Ed25519(key) = public else { panic!("an Ed25519 key") };
        key
    }

    fn linked(number: u8, kind: MemberKind) -> Voter {
        let text = |what: &str| format!("{what}-{number}");
        let link =
            Link { key: [number; 32], address: text("host"), api: text("http"), attestor: None };
        Voter { kind, link: Some(link), ..Voter::alone(&text("node"), public(number)) }
    }

    #[test]
    fn several_voters_need_links_and_one_that_executes() {
        let checked = |change: &dyn Fn(&mut Vec<Voter>)| {
            let mut genesis = genesis(public(1));
            genesis.voters = (1..=3).map(|n| linked(n, MemberKind::Executor)).collect();
            change(&mut genesis.voters);
            genesis.check()
        };
        let link = |voters: &mut Vec<Voter>, change: &dyn Fn(&mut Link)| {
            change(voters[1].link.as_mut().expect("a link"));
        };
        let wrong = |field| Err(GenesisError::Voter("node-2".to_owned(), field));
        assert_eq!(checked(&|_| ()), Ok(()));
        assert_eq!(checked(&|all| all[1].link = None), Err(GenesisError::NoLink("node-2".into())));
        assert_eq!(checked(&|all| link(all, &|link| link.address.clear())), wrong("address"));
        assert_eq!(checked(&|all| link(all, &|link| link.api.push('\n'))), wrong("api"));
        assert_eq!(checked(&|all| link(all, &|link| link.key = [0; 32])), wrong("link_key"));
        let twice = checked(&|all| link(all, &|link| link.key = [1; 32]));
        assert!(matches!(twice, Err(GenesisError::Name("link key", _))));
        assert_eq!(checked(&|all| all[0].kind = MemberKind::Witness), Ok(()));
        let witnesses =
            checked(&|all| all.iter_mut().for_each(|voter| voter.kind = MemberKind::Witness));
        assert_eq!(witnesses, Err(GenesisError::NoExecutor));
    }

    #[test]
    fn governors_are_users_and_enough_of_them_can_sign() {
        let checked = |governors: &[&str], threshold, measurements: &[u8]| {
            let mut genesis = genesis(public(1));
            let user = |(name, seed): (&str, u8)| FirstUser {
                name: name.to_owned(),
                access: Access::Single(PublicKey::Ed25519(public(seed))),
            };
            genesis.users = [("ann", 2), ("bob", 3)].map(user).to_vec();
            let measurement =
                |byte: &u8| Measurement { program: crate::Hash([*byte; 32]), note: String::new() };
            genesis.cluster = Cluster {
                governors: governors.iter().map(|name| (*name).to_owned()).collect(),
                threshold,
                measurements: measurements.iter().map(measurement).collect(),
            };
            genesis.check()
        };
        let few = |threshold, governors| Err(GenesisError::Governors { threshold, governors });
        assert_eq!(checked(&[], 0, &[]), Ok(()));
        assert_eq!(checked(&[], 1, &[]), few(1, 0));
        assert_eq!(checked(&["ann", "bob"], 2, &[1, 2]), Ok(()));
        assert_eq!(checked(&["ann", "bob"], 0, &[]), few(0, 2));
        assert_eq!(checked(&["ann", "bob"], 3, &[]), few(3, 2));
        assert!(matches!(checked(&["ann", "ann"], 1, &[]), Err(GenesisError::Name(..))));
        assert!(matches!(checked(&["eve"], 1, &[]), Err(GenesisError::Unknown(..))));
        assert_eq!(checked(&[], 0, &[7, 7]), Err(GenesisError::Measurements));
        let many: Vec<u8> = (0..17).collect();
        assert_eq!(checked(&[], 0, &many), Err(GenesisError::Measurements));
    }

    #[test]
    fn a_vote_key_that_anyone_can_sign_for_is_refused() {
        assert_eq!(genesis(public(1)).check(), Ok(()));
        let mut identity = [0; 32];
        identity[0] = 1;
        let refused = Err(GenesisError::VoterKey("node-1".to_owned()));
        assert_eq!(genesis(identity).check(), refused);
        assert_eq!(genesis([2; 32]).check(), refused);
    }
}
