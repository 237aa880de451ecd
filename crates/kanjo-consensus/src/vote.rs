//! Votes as they travel on topic `votes`.
//!
//! ```text
//! message := count:u16  vote*count
//! vote    := epoch:u64 height:u64 header:32 voter:u16 answer:32 signature:64
//! ```
//! Integers are little-endian.

use crate::bytes::{Input, Malformed};
use bytes::Bytes;
use kanjo_types::block::Vote;
use kanjo_types::hash::Hash;

/// Bytes of one vote.
pub const VOTE_BYTES: usize = 146;
/// Most votes of one message.
pub const VOTES_MAX: usize = 256;

/// A vote and what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedVote {
    /// Membership epoch of the height.
    pub epoch: u64,
    /// The height.
    pub height: u64,
    /// Hash of the header that the voter found there.
    pub header: Hash,
    /// Voter, answer and signature.
    pub vote: Vote,
}

impl SignedVote {
    fn append(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(&self.height.to_le_bytes());
        out.extend_from_slice(&self.header.0);
        out.extend_from_slice(&self.vote.voter.to_le_bytes());
        out.extend_from_slice(&self.vote.answer.0);
        out.extend_from_slice(&self.vote.signature);
    }

    fn take(input: &mut Input) -> Result<Self, Malformed> {
        let (epoch, height, header) = (input.u64()?, input.u64()?, Hash(input.array()?));
        let (voter, answer, signature) = (input.u16()?, Hash(input.array()?), input.array()?);
        Ok(Self { epoch, height, header, vote: Vote { voter, answer, signature } })
    }
}

/// A message of votes; of more than [`VOTES_MAX`], the first ones.
#[must_use]
pub fn encode_votes(votes: &[SignedVote]) -> Bytes {
    let count = votes.len().min(VOTES_MAX);
    let mut out = Vec::with_capacity(2 + count * VOTE_BYTES);
    out.extend_from_slice(&u16::try_from(count).unwrap_or(0).to_le_bytes());
    votes.iter().take(count).for_each(|vote| vote.append(&mut out));
    out.into()
}

/// Reads a message of votes.
///
/// # Errors
/// [`Malformed`] when it is not one.
pub fn decode_votes(bytes: Bytes) -> Result<Vec<SignedVote>, Malformed> {
    let mut input = Input::new("votes", bytes);
    let count = usize::from(input.u16()?);
    if count > VOTES_MAX {
        return Err(input.error(format!("{count} votes; at most {VOTES_MAX} are taken")));
    }
    let votes = (0..count).map(|_| SignedVote::take(&mut input)).collect::<Result<_, _>>()?;
    input.end()?;
    Ok(votes)
}
