//! Entries of the replicated log: one for each height, and the bytes that the log keeps of it.
//!
//! ```text
//! entry  := format:u8=2  kind:u8  term:u64  proposer:u16  signature:64  content
//! kind 0 := blank, a new leader's first entry; no content
//! kind 1 := a block; content is the block's encoding, its certificate without votes
//! kind 2 := a change of the engine's voters:
//!           sets:u8=1|2  (count:u16 number:u16*count)*sets  learners:u16 number:u16*learners
//! ```
//! Integers are little-endian; numbers ascend. The index is not in the bytes: it is the height of
//! their place in the block log.

use crate::bytes::{Input, Malformed};
use crate::types::{EntryId, Leader, Voters, entry_id};
use bytes::Bytes;
use kanjo_types::block::proposal_digest;
use kanjo_types::hash::Hash;
use kanjo_types::id::ChainId;
use kanjo_types::membership::MEMBERS_MAX;
use openraft::entry::{RaftEntry, RaftPayload};
use openraft::{EmptyNode, EntryPayload};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fmt;

/// The format of stored entries.
pub const ENTRY_FORMAT: u8 = 2;
/// Bytes before the content.
pub const ENTRY_HEAD_BYTES: usize = 76;
/// Most bytes of an entry; one with a few more bytes around it fits a message of 48 MiB.
pub const ENTRY_BYTES_MAX: usize = (48 << 20) - 4_096;

const _: () = assert!(ENTRY_HEAD_BYTES == 1 + 1 + 8 + 2 + 64, "the parts of the head");

/// A block that the leader puts into the log.
#[derive(Clone, PartialEq, Eq)]
pub struct Proposal {
    /// Hash of its header; for people.
    pub header: Hash,
    /// The block's encoding, its certificate without votes.
    pub bytes: Bytes,
}

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "block {} of {} bytes", self.header, self.bytes.len())
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What an entry holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nothing: a new leader's first entry.
    Blank,
    /// The encoding of a block.
    Block(Bytes),
    /// Voters of the engine from here on.
    Voters(Voters),
}

impl Content {
    fn kind(&self) -> u8 {
        match self {
            Self::Blank => 0,
            Self::Block(_) => 1,
            Self::Voters(_) => 2,
        }
    }

    fn encode(&self) -> Bytes {
        match self {
            Self::Blank => Bytes::new(),
            Self::Block(bytes) => bytes.clone(),
            Self::Voters(voters) => encode_voters(voters).into(),
        }
    }

    fn decode(kind: u8, bytes: Bytes) -> Result<Self, Malformed> {
        let content = match kind {
            0 if bytes.is_empty() => Self::Blank,
            0 => return Err(malformed("a blank entry with content")),
            1 => Self::Block(bytes),
            2 => Self::Voters(decode_voters(bytes)?),
            other => return Err(malformed(format!("unknown kind {other}"))),
        };
        Ok(content)
    }

    /// What a proposal's signature covers: SHA-256 of the kind and every byte of the content, so
    /// that nobody can put other bytes beside a header that was signed.
    #[must_use]
    pub fn digest(&self) -> Hash {
        let mut hasher = Sha256::new();
        hasher.update([self.kind()]);
        hasher.update(self.encode());
        Hash(hasher.finalize().into())
    }
}

fn malformed(why: impl Into<String>) -> Malformed {
    Malformed { what: "entry", why: why.into() }
}

/// An entry of the log. One that its leader has not signed yet has no signature.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    id: EntryId,
    proposer: u16,
    signature: Option<[u8; 64]>,
    digest: Hash,
    content: Content,
    /// The encoding; empty while there is no signature.
    stored: Bytes,
}

/// What the signature of an entry is checked against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryHead {
    /// Term of its leader.
    pub term: u64,
    /// Its height.
    pub index: u64,
    /// Number of the member that proposed it.
    pub proposer: u16,
    /// [`Content::digest`].
    pub content: Hash,
    /// Of the proposer's sentinel over the [`EntryHead::proposal`].
    pub signature: [u8; 64],
}

impl EntryHead {
    /// What the signature is over.
    #[must_use]
    pub fn proposal(&self, chain: ChainId) -> Hash {
        proposal_digest(chain, self.term, self.index, &self.content)
    }
}

impl Entry {
    /// The first entry of every log, at height 0: members 0 … n − 1 vote.
    ///
    /// Nobody signs it, because every node makes the same from the genesis file.
    #[must_use]
    pub fn genesis(voters: u16) -> Self {
        let numbers: BTreeSet<u64> = (0..voters).map(u64::from).collect();
        let content = Content::Voters(Voters::new_with_defaults(vec![numbers], []));
        let mut entry = Self::unsigned(entry_id(0, 0), content);
        entry.sign(0, [0; 64]);
        entry
    }

    fn unsigned(id: EntryId, content: Content) -> Self {
        let digest = content.digest();
        Self { id, proposer: 0, signature: None, digest, content, stored: Bytes::new() }
    }

    /// Its term and index.
    #[must_use]
    pub fn id(&self) -> EntryId {
        self.id
    }

    /// Its height.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.id.index
    }

    /// The term of the leader that wrote it.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.id.leader_id.term
    }

    /// Number of the member that proposed it.
    #[must_use]
    pub fn proposer(&self) -> u16 {
        self.proposer
    }

    /// The signature of the proposer's sentinel.
    #[must_use]
    pub fn signature(&self) -> Option<&[u8; 64]> {
        self.signature.as_ref()
    }

    /// [`Content::digest`].
    #[must_use]
    pub fn digest(&self) -> Hash {
        self.digest
    }

    /// What it holds.
    #[must_use]
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// What it holds, without a copy.
    #[must_use]
    pub fn into_content(self) -> Content {
        self.content
    }

    /// The encoding; empty while there is no signature.
    #[must_use]
    pub fn stored(&self) -> &Bytes {
        &self.stored
    }

    /// What its signature is checked against; `None` while there is none.
    #[must_use]
    pub fn head(&self) -> Option<EntryHead> {
        let signature = self.signature?;
        let (term, index) = (self.term(), self.index());
        Some(EntryHead { term, index, proposer: self.proposer, content: self.digest, signature })
    }

    /// Puts the leader's signature on an entry, and makes its encoding.
    pub fn sign(&mut self, proposer: u16, signature: [u8; 64]) {
        let content = self.content.encode();
        let mut out = Vec::with_capacity(ENTRY_HEAD_BYTES + content.len());
        out.extend_from_slice(&[ENTRY_FORMAT, self.content.kind()]);
        out.extend_from_slice(&self.term().to_le_bytes());
        out.extend_from_slice(&proposer.to_le_bytes());
        out.extend_from_slice(&signature);
        out.extend_from_slice(&content);
        self.stored = out.into();
        self.proposer = proposer;
        self.signature = Some(signature);
        // The block's bytes are kept once.
        if let Content::Block(bytes) = &mut self.content {
            *bytes = self.stored.slice(ENTRY_HEAD_BYTES..);
        }
    }

    /// Reads the encoding of the entry at `index`.
    ///
    /// # Errors
    /// [`Malformed`] when it is not the encoding of one entry of a known format.
    pub fn decode(index: u64, stored: Bytes) -> Result<Self, Malformed> {
        if stored.len() > ENTRY_BYTES_MAX {
            let found = stored.len();
            return Err(malformed(format!("{found} bytes; at most {ENTRY_BYTES_MAX} are taken")));
        }
        let mut input = Input::new("entry", stored.clone());
        let format = input.u8()?;
        if format != ENTRY_FORMAT {
            return Err(malformed(format!("format {format}; this software knows {ENTRY_FORMAT}")));
        }
        let kind = input.u8()?;
        let (term, proposer) = (input.u64()?, input.u16()?);
        let signature = Some(input.array::<64>()?);
        let content = Content::decode(kind, input.rest())?;
        let digest = content.digest();
        Ok(Self { id: entry_id(term, index), proposer, signature, digest, content, stored })
    }
}

fn append_numbers(numbers: impl Iterator<Item = u64>, out: &mut Vec<u8>) {
    // Ids of the engine are numbers of members.
    let numbers: Vec<u16> = numbers.filter_map(|number| u16::try_from(number).ok()).collect();
    let count = u16::try_from(numbers.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&count.to_le_bytes());
    numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
}

fn take_numbers(input: &mut Input) -> Result<BTreeSet<u64>, Malformed> {
    let count = input.u16()?;
    if usize::from(count) > MEMBERS_MAX {
        return Err(input.error(format!("{count} members; at most {MEMBERS_MAX} there are")));
    }
    let mut numbers = BTreeSet::new();
    for _ in 0..count {
        let number = u64::from(input.u16()?);
        if numbers.last().is_some_and(|last| *last >= number) {
            return Err(input.error(format!("number {number} is out of order")));
        }
        numbers.insert(number);
    }
    Ok(numbers)
}

/// The encoding of the engine's voters.
#[must_use]
pub fn encode_voters(voters: &Voters) -> Vec<u8> {
    let sets = voters.get_joint_config();
    let mut out = vec![u8::try_from(sets.len()).unwrap_or(u8::MAX)];
    sets.iter().for_each(|set| append_numbers(set.iter().copied(), &mut out));
    append_numbers(voters.learner_ids(), &mut out);
    out
}

/// Reads the engine's voters.
///
/// # Errors
/// [`Malformed`] when it is not the encoding of voters.
pub fn decode_voters(bytes: Bytes) -> Result<Voters, Malformed> {
    let mut input = Input::new("voters", bytes);
    let count = input.u8()?;
    if count > 2 {
        return Err(input.error(format!("{count} sets of voters")));
    }
    let mut sets = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        sets.push(take_numbers(&mut input)?);
    }
    let learners = take_numbers(&mut input)?;
    input.end()?;
    if sets.iter().any(BTreeSet::is_empty) || sets.iter().any(|set| !set.is_disjoint(&learners)) {
        return Err(input.error("an empty set of voters, or a learner that votes"));
    }
    Ok(Voters::new_with_defaults(sets, learners))
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (id, kind, bytes) = (self.id, self.content.kind(), self.stored.len());
        write!(f, "entry {id} of kind {kind} by {} ({bytes} bytes)", self.proposer)
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl RaftEntry for Entry {
    type CommittedLeaderId = Leader;
    type Payload = EntryPayload<Proposal, u64, EmptyNode>;

    fn new(id: EntryId, payload: Self::Payload) -> Self {
        let content = match payload {
            EntryPayload::Blank => Content::Blank,
            EntryPayload::Membership(voters) => Content::Voters(voters),
            EntryPayload::Normal(Proposal { bytes, .. }) => Content::Block(bytes),
        };
        Self::unsigned(id, content)
    }

    fn log_id_parts(&self) -> (&Leader, u64) {
        (&self.id.leader_id, self.id.index)
    }

    fn set_log_id(&mut self, new: EntryId) {
        // A signature is for one place in the log.
        self.id = new;
        self.signature = None;
        self.stored = Bytes::new();
    }

    fn get_membership(
        &self,
    ) -> Option<
        openraft::Membership<
            <Self::Payload as RaftPayload>::NodeId,
            <Self::Payload as RaftPayload>::Node,
        >,
    > {
        match &self.content {
            Content::Voters(voters) => Some(voters.clone()),
            Content::Blank | Content::Block(_) => None,
        }
    }
}
