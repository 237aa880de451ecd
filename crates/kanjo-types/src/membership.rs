//! Who makes up the cluster: members, their keys and their standing, epoch by epoch.
//!
//! A [`Membership`] is a row of the ledger, one for each epoch, and it is whole: whoever holds the
//! row of an epoch can check every certificate of that epoch (mission M11, C8). Epoch 0 is the
//! genesis's and has no row. The row of epoch e + 1 is made in a block that the voters of epoch e
//! certify, and it counts for all blocks above that one.
//!
//! # Invariants
//! - A member keeps its number (its place in [`Membership::members`]) for ever; votes and headers
//!   name it by that number.
//! - There is at least one voter that executes.
//! - A certificate takes more than half of the voters, and at least one that executes.

use crate::PublicKey;
use crate::block::{Certificate, Vote, vote_digest};
use crate::codec;
use crate::genesis::Genesis;
use crate::hash::{self, Hash, TAG_MEMBER, TAG_NOTICE};
use crate::id::ChainId;
use crate::outcome::Refusal;
use crate::signature::verify;
use crate::standing::Links;
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Most members of a cluster, those included that left.
pub const MEMBERS_MAX: usize = 1_024;
/// Most measurements that are allowed at one time.
pub const MEASUREMENTS_MAX: usize = 16;
/// Most bytes of a name, an address or a reason.
pub const MEMBER_TEXT_MAX: usize = 128;

/// What a member does.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum MemberKind {
    /// Orders, executes, and vouches for results.
    #[default]
    Executor,
    /// Orders and stores the log, and holds no balances: its vote says that a block is the
    /// committed one at its height, nothing about results.
    Witness,
}

/// How a member stands.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum MemberStatus {
    /// Its votes count.
    Voting,
    /// Admitted, and not voting yet: it follows until it asks for its vote.
    Standby,
    /// It stopped as planned; it comes back by itself.
    Left,
    /// A majority could not reach it; it comes back by itself.
    Ejected,
    /// It voted for another result, or its integrity failed; only governors readmit it.
    Doubted,
    /// Governors took it out, for good.
    Removed,
}

/// Registers that a TPM has.
pub const REGISTERS_MAX: usize = 24;

/// What vouches for a sentinel, as it was seen when the node was admitted: what its evidence is
/// compared with. It is no secret.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Attestor {
    /// Files: proves nothing against whoever owns the machine.
    Software {
        /// Ed25519 key that it signs with.
        #[serde(with = "hex::serde")]
        key: [u8; 32],
    },
    /// A TPM 2.0.
    Tpm2 {
        /// Its attestation key on P-256: x, then y.
        #[serde(with = "hex::serde")]
        key: [u8; 64],
        /// What its registers must hold, by ascending number.
        registers: Vec<Register>,
    },
}

/// A register of a TPM (PCR) and its value.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Register {
    /// 0 … 23.
    pub number: u8,
    /// In the SHA-256 bank.
    pub value: Hash,
}

impl Attestor {
    /// As in options and evidence.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Software { .. } => "software",
            Self::Tpm2 { .. } => "tpm2",
        }
    }

    fn is_valid(&self) -> bool {
        match self {
            Self::Software { key } => crate::signature::is_key(&PublicKey::Ed25519(*key)),
            Self::Tpm2 { key, registers } => {
                let is_known = |one: &Register| usize::from(one.number) < REGISTERS_MAX;
                !registers.is_empty()
                    && registers.iter().all(is_known)
                    && registers.is_sorted_by(|a, b| a.number < b.number)
                    && crate::signature::is_p256_point(key)
            }
        }
    }
}

/// What a node is to the cluster: the content of its certificate.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeCertificate {
    /// For people; unique.
    pub name: String,
    /// Executor or witness.
    #[serde(default)]
    pub kind: MemberKind,
    /// Ed25519 key of its sentinel.
    #[serde(with = "hex::serde")]
    pub vote_key: [u8; 32],
    /// X25519 key of its links to other nodes.
    #[serde(with = "hex::serde")]
    pub link_key: [u8; 32],
    /// `host:port` of its links to other nodes.
    pub address: String,
    /// URL of its API.
    pub api: String,
    /// What vouches for its sentinel. Without it nobody can tell whose word its evidence is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attestor: Option<Attestor>,
}

impl NodeCertificate {
    /// Checks texts and keys: every key must be one that a single party can hold.
    ///
    /// # Errors
    /// The refusal and the field that caused it.
    pub fn check(&self) -> Result<(), (Refusal, &'static str)> {
        let texts = [(&self.name, "name"), (&self.address, "address"), (&self.api, "api")];
        for (text, field) in texts {
            check_text(text, field)?;
            if text.is_empty() {
                return Err((Refusal::InvalidMember, field));
            }
        }
        if !crate::signature::is_key(&PublicKey::Ed25519(self.vote_key)) {
            return Err((Refusal::InvalidMember, "vote_key"));
        }
        if !crate::signature::is_agreement_key(&self.link_key) {
            return Err((Refusal::InvalidMember, "link_key"));
        }
        if self.attestor.as_ref().is_some_and(|attestor| !attestor.is_valid()) {
            return Err((Refusal::InvalidMember, "attestor"));
        }
        Ok(())
    }

    /// What an answer to a challenge covers.
    #[must_use]
    pub fn hash(&self, chain: ChainId) -> Hash {
        hash::digest(TAG_MEMBER, &[&chain.0.0, &codec::to_bytes(self)])
    }
}

/// A member and how it stands.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Member {
    /// Keys and addresses.
    pub certificate: NodeCertificate,
    /// How it stands.
    pub status: MemberStatus,
    /// Since which epoch it stands so.
    pub since_epoch: u64,
    /// Why; empty when nothing needs saying.
    pub reason: String,
}

impl Member {
    /// Do its votes count?
    #[must_use]
    pub fn votes(&self) -> bool {
        self.status == MemberStatus::Voting
    }

    /// Does it execute what it votes for?
    #[must_use]
    pub fn executes(&self) -> bool {
        self.certificate.kind == MemberKind::Executor
    }
}

/// A program that nodes may run.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measurement {
    /// SHA-256 of the program file.
    pub program: Hash,
    /// For people: version, who built it.
    pub note: String,
}

impl Measurement {
    /// Checks the note.
    ///
    /// # Errors
    /// The refusal and the field that caused it.
    pub fn check(&self) -> Result<(), (Refusal, &'static str)> {
        check_text(&self.note, "note")
    }
}

/// The membership of one epoch.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Membership {
    /// Which epoch; 0 is the genesis's.
    pub epoch: u64,
    /// Hash links; version 1, no previous version: each epoch has a row of its own.
    pub links: Links,
    /// The block that made it; it counts above.
    pub height: u64,
    /// All members there ever were; a member's number is its place.
    pub members: Vec<Member>,
    /// Programs that nodes may run; when empty, none is checked.
    pub measurements: Vec<Measurement>,
}

/// Who stands behind a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vouched {
    /// Names of the voters whose votes were checked, by ascending number.
    pub signed_by: Vec<String>,
    /// How many of them executed the block.
    pub executors: usize,
    /// How many voters the epoch has.
    pub voters: usize,
}

/// A certificate that does not certify.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Of another epoch.
    #[error(
        "the certificate is of membership epoch {found}, the membership at hand is epoch {known}"
    )]
    Epoch {
        /// The certificate's.
        found: u64,
        /// That of the membership it is checked against.
        known: u64,
    },
    /// Fewer votes than more than half.
    #[error("{found} votes; the quorum is {needed}")]
    NotEnoughVotes {
        /// Votes there must be.
        needed: usize,
        /// Votes there are.
        found: usize,
    },
    /// Not ascending, or twice.
    #[error("the vote of voter {0} is out of order or there twice")]
    VoteOrder(u16),
    /// Not a voter of the epoch.
    #[error("voter {voter} is none of the {voters} voters of this epoch")]
    UnknownVoter {
        /// Which number.
        voter: u16,
        /// How many voters there are.
        voters: usize,
    },
    /// Only witnesses signed.
    #[error("only witnesses signed; at least one voter that executed the block must")]
    NoExecutor,
    /// A wrong signature.
    #[error("the signature of voter {0} is wrong")]
    BadVote(u16),
}

/// More than half of `voters`.
const fn quorum_of(voters: usize) -> usize {
    voters / 2 + 1
}

impl Membership {
    /// The membership that a genesis defines: epoch 0.
    #[must_use]
    pub fn of_genesis(genesis: &Genesis) -> Self {
        let members = genesis.voters.iter().map(|voter| Member {
            certificate: voter.certificate(),
            status: MemberStatus::Voting,
            since_epoch: 0,
            reason: String::new(),
        });
        Self {
            epoch: 0,
            links: Links::default(),
            height: 0,
            members: members.collect(),
            measurements: genesis.cluster.measurements.clone(),
        }
    }

    /// The member with this number.
    #[must_use]
    pub fn member(&self, number: u16) -> Option<&Member> {
        self.members.get(usize::from(number))
    }

    /// The number of the member with this name.
    #[must_use]
    pub fn number_of(&self, name: &str) -> Option<u16> {
        let place = self.members.iter().position(|member| member.certificate.name == name)?;
        u16::try_from(place).ok()
    }

    /// Members by number.
    pub fn numbered(&self) -> impl Iterator<Item = (u16, &Member)> {
        (0u16..).zip(&self.members)
    }

    /// Those whose votes count, by number.
    pub fn voters(&self) -> impl Iterator<Item = (u16, &Member)> {
        self.numbered().filter(|(_, member)| member.votes())
    }

    /// Could those of the other voters who are `there` make blocks final if `member` left?
    #[must_use]
    pub fn goes_on_without(&self, member: u16, there: &BTreeSet<u16>) -> bool {
        let others = || self.voters().filter(|(number, _)| *number != member);
        let present = || others().filter(|(number, _)| there.contains(number));
        present().count() >= quorum_of(others().count())
            && present().any(|(_, member)| member.executes())
    }

    /// Votes needed for a certificate: 50 % + 1 (mission M3, C8).
    #[must_use]
    pub fn quorum(&self) -> usize {
        quorum_of(self.voters().count())
    }

    /// Those of `down` whose ejection makes the quorum smaller; nothing when it would not (mission
    /// M3: 4 → 3, 5 → 3, not 3 → 2), or when those who are left can't decide it.
    #[must_use]
    pub fn ejectable(&self, down: &BTreeSet<u16>) -> Vec<u16> {
        let (gone, left): (Vec<_>, Vec<_>) =
            self.voters().partition(|(number, _)| down.contains(number));
        let lowers = quorum_of(left.len()) < self.quorum();
        let is_executed = left.iter().any(|(_, member)| member.executes());
        if !lowers || !is_executed || left.len() < self.quorum() {
            return Vec::new();
        }
        gone.into_iter().map(|(number, _)| number).collect()
    }

    /// May a node run this program?
    #[must_use]
    pub fn allows(&self, program: &Hash) -> bool {
        self.measurements.is_empty()
            || self.measurements.iter().any(|measurement| measurement.program == *program)
    }

    /// Checks one vote for a header: a voter's, and rightly signed.
    ///
    /// # Errors
    /// [`CertificateError::UnknownVoter`] or [`CertificateError::BadVote`].
    pub fn check_vote(
        &self,
        height: u64,
        header: &Hash,
        vote: &Vote,
    ) -> Result<&Member, CertificateError> {
        let unknown =
            || CertificateError::UnknownVoter { voter: vote.voter, voters: self.voters().count() };
        let member = self.member(vote.voter).filter(|member| member.votes()).ok_or_else(unknown)?;
        let digest = vote_digest(self.epoch, height, header, &vote.answer);
        let key = PublicKey::Ed25519(member.certificate.vote_key);
        if !verify(&key, &digest, &vote.signature) {
            return Err(CertificateError::BadVote(vote.voter));
        }
        Ok(member)
    }

    /// Checks a certificate over a header.
    ///
    /// # Errors
    /// The first thing wrong, in this order: epoch, number of votes, their order, the voters and
    /// signatures by vote, an executor among them.
    pub fn check(
        &self,
        height: u64,
        header: &Hash,
        certificate: &Certificate,
    ) -> Result<Vouched, CertificateError> {
        if certificate.epoch != self.epoch {
            let (found, known) = (certificate.epoch, self.epoch);
            return Err(CertificateError::Epoch { found, known });
        }
        let (needed, found) = (self.quorum(), certificate.votes.len());
        if found < needed {
            return Err(CertificateError::NotEnoughVotes { needed, found });
        }
        let mut last = None;
        for vote in &certificate.votes {
            if last.is_some_and(|last| last >= vote.voter) {
                return Err(CertificateError::VoteOrder(vote.voter));
            }
            last = Some(vote.voter);
        }
        let (mut signed_by, mut executors) = (Vec::with_capacity(found), 0usize);
        for vote in &certificate.votes {
            let member = self.check_vote(height, header, vote)?;
            signed_by.push(member.certificate.name.clone());
            executors += usize::from(member.executes());
        }
        if executors == 0 {
            return Err(CertificateError::NoExecutor);
        }
        Ok(Vouched { signed_by, executors, voters: self.voters().count() })
    }
}

/// A change of the membership by governors.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum MembershipChange {
    /// Admits a node; it follows as standby until it asks for its vote.
    Admit {
        /// Keys and addresses.
        certificate: Box<NodeCertificate>,
    },
    /// Takes a member out for good.
    Remove {
        /// Which.
        member: u16,
        /// Why.
        reason: String,
    },
    /// Lets a doubted member back as standby.
    Readmit {
        /// Which.
        member: u16,
        /// What was found and mended.
        reason: String,
    },
    /// Allows a program.
    Allow {
        /// Which.
        measurement: Measurement,
    },
    /// Allows a program no more.
    Disallow {
        /// SHA-256 of the program file.
        program: Hash,
    },
}

impl MembershipChange {
    /// Checks texts and keys.
    ///
    /// # Errors
    /// The refusal and the field that caused it.
    pub fn check(&self) -> Result<(), (Refusal, &'static str)> {
        match self {
            Self::Admit { certificate } => certificate.check(),
            Self::Remove { reason, .. } | Self::Readmit { reason, .. } => {
                check_text(reason, "reason")
            }
            Self::Allow { measurement } => measurement.check(),
            Self::Disallow { .. } => Ok(()),
        }
    }
}

fn check_text(text: &str, field: &'static str) -> Result<(), (Refusal, &'static str)> {
    if text.len() > MEMBER_TEXT_MAX || text.chars().any(char::is_control) {
        return Err((Refusal::InvalidMember, field));
    }
    Ok(())
}

/// What members say about themselves or each other; the ledger checks their signatures.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Notice {
    /// A voter stops as planned. Signed by itself.
    Leave {
        /// Which.
        member: u16,
    },
    /// A standby, or one that left or was ejected, is up to date and votes again. Signed by itself.
    Return {
        /// Which.
        member: u16,
    },
    /// Voters that could not be reached for the set time. Signed by a majority of the voters, the
    /// ejected ones not among them.
    Eject {
        /// Which, ascending.
        members: Vec<u16>,
    },
    /// A voter signed another header than the certified one at a height, of this epoch. Its own
    /// vote is the evidence; signed by nobody else.
    Doubt {
        /// The height.
        height: u64,
        /// The header it voted for.
        voted: Hash,
        /// Its vote.
        vote: Vote,
        /// The header that was certified.
        certified: Hash,
        /// By whom.
        certificate: Certificate,
    },
}

/// A member's signature under a notice.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// Who signs.
    pub member: u16,
    /// Ed25519 signature of its sentinel over [`notice_digest`].
    #[serde(with = "hex::serde")]
    pub signature: [u8; 64],
}

/// What a member signs for a notice. The epoch makes it good once: every notice that is taken
/// begins a new epoch.
#[must_use]
pub fn notice_digest(chain: ChainId, epoch: u64, notice: &Notice) -> Hash {
    let parts: [&[u8]; 3] = [&chain.0.0, &epoch.to_le_bytes(), &codec::to_bytes(notice)];
    hash::digest(TAG_NOTICE, &parts)
}
