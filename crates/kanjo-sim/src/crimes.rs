//! Members that break the rules, named by their crime. Each is an insider: its links are
//! authenticated, it has a sentinel, and runs the node's software but for the crime.
//!
//! - **equivocator**: as a leader, shows some members another block than the others in the same
//!   term and height, has its sentinel asked to sign it, and votes for it;
//! - **forger**: sends votes with wrong signatures, votes in others' names, entries with wrong
//!   signatures;
//! - **replayer**: sends old votes and proposals again, its own and others';
//! - **withholder**: sends no votes and gives no certificates;
//! - **liar**: computes another state root than the others.

use crate::dice::Dice;
use crate::member::Member;
use crate::time::{ms, sleep};
use bytes::Bytes;
use kanjo_consensus::boundary::ProposalRequest;
use kanjo_consensus::bus::{BoxFuture, Bus, BusError, Topic};
use kanjo_consensus::entry::{Content, ENTRY_HEAD_BYTES, Entry};
use kanjo_consensus::vote::{SignedVote, encode_votes};
use kanjo_types::Hash;
use kanjo_types::block::{Vote, challenge};
use kanjo_types::stored::{decode_block, encode_block};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What is overheard and kept.
const HEARD_MAX: usize = 64;
/// An equivocator shows a second block at every so many heights.
const SECOND_EVERY: u64 = 5;

/// What a member does wrong. See the [module](self).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crime {
    /// Shows two blocks.
    Equivocator,
    /// Signs wrongly.
    Forger,
    /// Says old things again.
    Replayer,
    /// Says nothing.
    Withholder,
    /// Computes wrongly.
    Liar,
}

impl Crime {
    /// Each of them.
    pub const ALL: [Self; 5] =
        [Self::Equivocator, Self::Forger, Self::Replayer, Self::Withholder, Self::Liar];
}

/// What became of crimes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Second proposals that a sentinel refused to sign.
    pub unsigned: u64,
    /// Second proposals that a sentinel signed.
    pub signed: u64,
    /// Entries that members refused to append.
    pub entries_refused: u64,
    /// Votes that counted for nothing.
    pub votes_refused: u64,
}

/// What criminals heard, and what became of their crimes.
#[derive(Default)]
pub struct Crimes {
    heard: Mutex<VecDeque<(u16, Topic, Bytes)>>,
    unsigned: AtomicU64,
    signed: AtomicU64,
    entries_refused: AtomicU64,
    votes_refused: AtomicU64,
}

impl Crimes {
    pub(crate) fn overhear(&self, by: u16, topic: Topic, body: &Bytes) {
        if !matches!(topic, Topic::Append | Topic::Votes) || body.len() < 64 {
            return;
        }
        let mut heard = self.heard.lock();
        if heard.len() >= HEARD_MAX {
            heard.pop_front();
        }
        heard.push_back((by, topic, body.clone()));
    }

    fn heard_by(&self, by: u16, dice: &Dice) -> Option<(Topic, Bytes)> {
        let heard = self.heard.lock();
        let own: Vec<&(u16, Topic, Bytes)> = heard.iter().filter(|one| one.0 == by).collect();
        let (_, topic, body) = dice.pick(&own)?;
        Some((*topic, body.clone()))
    }

    pub(crate) fn count_refused_entry(&self) {
        self.entries_refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_bad_vote(&self) {
        self.votes_refused.fetch_add(1, Ordering::Relaxed);
    }

    /// What became of them.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            unsigned: self.unsigned.load(Ordering::Relaxed),
            signed: self.signed.load(Ordering::Relaxed),
            entries_refused: self.entries_refused.load(Ordering::Relaxed),
            votes_refused: self.votes_refused.load(Ordering::Relaxed),
        }
    }
}

/// The bus as one run of a member uses it.
pub(crate) struct MemberBus {
    pub(crate) member: Arc<Member>,
}

impl Bus for MemberBus {
    fn call(
        &self,
        to: u16,
        topic: Topic,
        body: Bytes,
        ttl: Duration,
    ) -> BoxFuture<'static, Result<Bytes, BusError>> {
        let member = self.member.clone();
        Box::pin(async move {
            let body = if topic == Topic::Append && member.commits(Crime::Equivocator) {
                second_block(&member, to, body).await
            } else {
                body
            };
            member.ask(to, topic, body, ttl).await
        })
    }

    fn send(&self, to: u16, topic: Topic, body: Bytes) {
        if self.member.is_alive() {
            self.member.scene.net.send(self.member.me, to, topic, body);
        }
    }

    fn publish(&self, topic: Topic, body: Bytes) {
        self.member.publish(topic, &body);
    }
}

/// Commits crimes until the run ends.
pub(crate) async fn run(member: Arc<Member>, crime: Crime) {
    while member.is_alive() {
        sleep(ms(member.dice.between(20, 150))).await;
        if !member.commits(crime) {
            continue;
        }
        match crime {
            Crime::Forger => forge(&member).await,
            Crime::Replayer => replay(&member).await,
            // Done where they would do right.
            Crime::Equivocator | Crime::Withholder | Crime::Liar => {}
        }
    }
}

fn random_hash(dice: &Dice) -> Hash {
    let mut bytes = [0; 32];
    bytes.iter_mut().for_each(|byte| *byte = u8::try_from(dice.below(256)).unwrap_or(0));
    Hash(bytes)
}

async fn forge(member: &Member) {
    let dice = &member.dice;
    let others = member.scene.net.others(member.me);
    let Some(other) = dice.pick(&others) else { return };
    let voter = if dice.below(2) == 0 { member.me } else { other };
    let (height, header) = (member.next_final() + dice.below(3), random_hash(dice));
    let mut signature = [0; 64];
    signature.iter_mut().for_each(|byte| *byte = u8::try_from(dice.below(256)).unwrap_or(0));
    let vote = Vote { voter, answer: random_hash(dice), signature };
    let vote = SignedVote { epoch: member.membership().epoch, height, header, vote };
    member.publish(Topic::Votes, &encode_votes(&[vote]));
    if let Some((Topic::Append, body)) = member.scene.crimes.heard_by(member.me, dice) {
        let mut forged = body.to_vec();
        // The number of the node that leads, then something in the entries.
        if let Some(place) = forged.get_mut(8..10) {
            place.copy_from_slice(&member.me.to_le_bytes());
        }
        let at = usize::try_from(dice.between(56, 130)).unwrap_or(0);
        if let Some(byte) = forged.get_mut(at) {
            *byte ^= 1;
        }
        // What is answered is of no interest.
        let _ = member.ask(other, Topic::Append, forged.into(), ms(200)).await;
    }
}

async fn replay(member: &Member) {
    let others = member.scene.net.others(member.me);
    let Some(other) = member.dice.pick(&others) else { return };
    match member.scene.crimes.heard_by(member.me, &member.dice) {
        Some((Topic::Votes, body)) => member.publish(Topic::Votes, &body),
        Some((topic, body)) => {
            let _ = member.ask(other, topic, body, ms(200)).await;
        }
        None => {}
    }
    member.repeat_votes(0);
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

/// Another block in place of one of a message, for the upper half of the others.
async fn second_block(member: &Arc<Member>, to: u16, body: Bytes) -> Bytes {
    let others = member.scene.net.others(member.me);
    let is_victim = others.iter().rev().take(others.len() / 2).any(|other| *other == to);
    if !is_victim {
        return body;
    }
    make_second(member, &body).await.unwrap_or(body)
}

/// The first entry of a message at a height that the crime is for: place, height, bytes.
fn find_entry(body: &Bytes) -> Option<(usize, u64, Bytes)> {
    let (mut at, mut index, count) = entries_of(body)?;
    for _ in 0..count {
        let length = u32::from_le_bytes(body.get(at..at + 4)?.try_into().ok()?);
        let end = at + 4 + usize::try_from(length).ok()?;
        if index % SECOND_EVERY == 0 {
            return (end <= body.len()).then(|| (at, index, body.slice(at + 4..end)));
        }
        at = end;
        index += 1;
    }
    None
}

async fn make_second(member: &Arc<Member>, body: &Bytes) -> Option<Bytes> {
    let (at, index, stored) = find_entry(body)?;
    let entry = Entry::decode(index, stored.clone()).ok()?;
    let Content::Block(content) = entry.content() else { return None };
    if entry.proposer() != member.me {
        return None;
    }
    let mut block = decode_block(content, member.scene.chain).ok()?;
    // The same payments a millisecond later: good in every other respect.
    block.header.time_ms += 1;
    let header = block.header.hash();
    let request = ProposalRequest { term: entry.term(), height: index, content: header };
    let counts = &member.scene.crimes;
    let signature = match member.sign_proposal(request).await {
        Some(signature) => {
            counts.signed.fetch_add(1, Ordering::Relaxed);
            member.note(format!("shows a second block at {index}, signed"));
            signature
        }
        None => {
            counts.unsigned.fetch_add(1, Ordering::Relaxed);
            member.note(format!("shows a second block at {index}, not signed by its sentinel"));
            *entry.signature()?
        }
    };
    let parent = block.header.parents.first().copied().unwrap_or_default();
    member.ask_vote(index, header, challenge(&parent, &signature));
    let mut second = Vec::from(stored.get(..ENTRY_HEAD_BYTES - 64)?);
    second.extend_from_slice(&signature);
    second.extend_from_slice(&encode_block(&block));
    let mut message = Vec::from(body.get(..at)?);
    message.extend_from_slice(&u32::try_from(second.len()).ok()?.to_le_bytes());
    message.extend_from_slice(&second);
    message.extend_from_slice(body.get(at + 4 + stored.len()..)?);
    Some(message.into())
}
