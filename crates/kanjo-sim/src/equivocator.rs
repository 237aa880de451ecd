//! A leader that shows two histories: to some members its blocks, to the others, the *victims*, an
//! entry without a block at the same term and height, so that payments which the first have never
//! happened for the second.
//!
//! ```text
//!              ┌─ block ──────▶ honest ─▶ votes for the block    ┐ with the leader's
//!  equivocator ┤                                                 │ own votes, one for each:
//!              └─ blank entry ▶ victim ─▶ votes for an empty one ┘ two certificates
//! ```
//! Both entries are what a leader may propose, both headers are right, and every honest member
//! votes once. With three voters one such leader is enough, if its sentinel signs anything. One
//! whose guard works signs one proposal and one vote of each two, so that victims refuse the other
//! entry, and the other vote is never given.

use crate::crimes::Crime;
use crate::member::Member;
use crate::time::{ms, sleep};
use bytes::Bytes;
use kanjo_consensus::boundary::ProposalRequest;
use kanjo_consensus::entry::{Content, Entry};
use kanjo_consensus::vote::{SignedVote, encode_votes};
use kanjo_link::bus::Topic;
use kanjo_types::block::challenge;
use kanjo_types::stored::decode_head;
use kanjo_types::{Hash, Header};
use openraft::EntryPayload;
use openraft::entry::RaftEntry;
use std::collections::BTreeMap;
use std::sync::Arc;

/// It shows a second entry at every so many heights.
const SECOND_EVERY: u64 = 5;
/// How often it looks whether the block below is final.
const LOOKS: u32 = 20;

/// By term and height: the second entry; nothing where it was honest.
pub(crate) type Shown = BTreeMap<(u64, u64), Option<Second>>;

/// What victims get in place of a block.
#[derive(Clone)]
pub(crate) struct Second {
    stored: Bytes,
    /// The header that they find.
    header: Hash,
}

/// Half of the others, the upper one.
fn is_victim(member: &Member, to: u16) -> bool {
    let others = member.scene.net.others(member.me);
    others.iter().rev().take(others.len() / 2).any(|other| *other == to)
}

/// Is this what victims are to vote for?
pub(crate) fn is_second(member: &Member, vote: &SignedVote) -> bool {
    member.crime == Some(Crime::Equivocator)
        && seconds_at(member, vote.height).contains(&vote.header)
}

fn seconds_at(member: &Member, height: u64) -> Vec<Hash> {
    let shown = member.scene.crimes.shown.lock();
    let at = shown.iter().filter(|((_, at), _)| *at == height);
    at.filter_map(|(_, second)| second.as_ref().map(|second| second.header)).collect()
}

/// Sends each member only what fits what it was shown.
pub(crate) fn publish_votes(member: &Member, votes: &[SignedVote]) {
    for to in member.scene.net.others(member.me) {
        let fits = |vote: &&SignedVote| {
            let seconds = seconds_at(member, vote.height);
            seconds.is_empty() || seconds.contains(&vote.header) == is_victim(member, to)
        };
        let fitting: Vec<SignedVote> = votes.iter().filter(fits).copied().collect();
        if !fitting.is_empty() {
            member.scene.net.send(member.me, to, Topic::Votes, encode_votes(&fitting));
        }
    }
}

/// Where the entries begin in a message on topic append, and how many there are; see `wire.rs` of
/// kanjo-consensus.
fn entries_of(body: &[u8]) -> Option<(usize, u64, u32)> {
    let flag = |at: usize| body.get(at).copied();
    let number = |at: usize| {
        let bytes = body.get(at..at + 8)?;
        bytes.try_into().ok().map(u64::from_le_bytes)
    };
    let mut at = 11;
    let mut first = 0;
    if flag(at)? == 1 {
        first = number(at + 9)? + 1;
        at += 17;
    } else {
        at += 1;
    }
    at += if flag(at)? == 1 { 17 } else { 1 };
    let count = u32::from_le_bytes(body.get(at..at + 4)?.try_into().ok()?);
    Some((at + 4, first, count))
}

/// The message with second entries in it, if it is for a victim.
pub(crate) async fn show(member: &Arc<Member>, to: u16, body: Bytes) -> Bytes {
    if !is_victim(member, to) {
        return body;
    }
    replaced(member, &body).await.unwrap_or(body)
}

async fn replaced(member: &Arc<Member>, body: &Bytes) -> Option<Bytes> {
    let (mut at, first, count) = entries_of(body)?;
    let mut message = Vec::from(body.get(..at)?);
    for index in (first..).take(usize::try_from(count).ok()?) {
        let length = u32::from_le_bytes(body.get(at..at + 4)?.try_into().ok()?);
        let end = at + 4 + usize::try_from(length).ok()?;
        if end > body.len() {
            return None;
        }
        let stored = body.slice(at + 4..end);
        let stored = match second(member, index, &stored).await {
            Some(second) => second.stored,
            None => stored,
        };
        message.extend_from_slice(&u32::try_from(stored.len()).ok()?.to_le_bytes());
        message.extend_from_slice(&stored);
        at = end;
    }
    Some(message.into())
}

/// What stands for an entry among victims: decided when the first of them gets it.
async fn second(member: &Arc<Member>, index: u64, stored: &Bytes) -> Option<Second> {
    if !index.is_multiple_of(SECOND_EVERY) {
        return None;
    }
    let entry = Entry::decode(index, stored.clone()).ok()?;
    let Content::Block(content) = entry.content() else { return None };
    let place = (entry.term(), index);
    if entry.proposer() != member.me || !member.leads_in(entry.term()) {
        return None;
    }
    if let Some(shown) = member.scene.crimes.shown.lock().get(&place) {
        return shown.clone();
    }
    let (header, _) = decode_head(content).ok()?;
    let second = match final_below(member, &header).await {
        Some(parent) => make(member, &entry, &header, &parent).await,
        None => None,
    };
    member.scene.crimes.shown.lock().insert(place, second.clone());
    second
}

/// The header below, once it is final: then victims stand on it, too.
async fn final_below(member: &Member, header: &Header) -> Option<Header> {
    let below = header.height.checked_sub(1)?;
    for _ in 0..LOOKS {
        if let Some(signed) = member.signed(below) {
            let is_parent = header.parents.as_slice() == [signed.header.hash()];
            return is_parent.then_some(signed.header);
        }
        sleep(ms(1)).await;
    }
    None
}

async fn make(
    member: &Arc<Member>,
    entry: &Entry,
    header: &Header,
    parent: &Header,
) -> Option<Second> {
    let (term, height) = (entry.term(), entry.index());
    let request = ProposalRequest { term, height, content: Content::Blank.digest() };
    let signed = member.sign_proposal(request).await;
    member.scene.crimes.count_second(signed.is_some());
    let how = if signed.is_some() { "signed" } else { "not signed by its sentinel" };
    member.note(format!("shows victims a blank entry at {height}, {how}"));
    let signature = match signed {
        Some(signature) => signature,
        None => *entry.signature()?,
    };
    let mut blank = Entry::new(entry.id(), EntryPayload::Blank);
    blank.sign(member.me, signature);
    let parent_hash = parent.hash();
    let empty = Header::empty(parent, parent_hash, header.history_root, member.me).hash();
    // Without a good entry nobody else votes so: then it is tried only now and then.
    if signed.is_some() || member.dice.below(4) == 0 {
        member.ask_vote(height, empty, challenge(&parent_hash, &signature));
    }
    Some(Second { stored: blank.stored().clone(), header: empty })
}
