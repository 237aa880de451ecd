//! Members that break the rules, named by their crime. Each is an insider: its links are
//! authenticated, it has a sentinel, and runs the node's software but for the crime.
//!
//! - **equivocator**: as a leader, shows some members another entry than the others in the same
//!   term and height, has its sentinel asked to sign both, and votes for both (`equivocator.rs`);
//! - **forger**: sends votes with wrong signatures, votes in others' names, entries with wrong
//!   signatures;
//! - **replayer**: sends old votes and proposals again, its own and others';
//! - **withholder**: sends no votes and gives no certificates;
//! - **liar**: computes another state root than the others.

use crate::dice::Dice;
use crate::equivocator::{self, Shown};
use crate::member::Member;
use crate::time::{ms, sleep};
use bytes::Bytes;
use kanjo_consensus::bus::{BoxFuture, Bus, BusError, Topic};
use kanjo_consensus::vote::{SignedVote, encode_votes};
use kanjo_types::Hash;
use kanjo_types::block::Vote;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What is overheard and kept.
const HEARD_MAX: usize = 64;

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
    /// What an equivocator shows.
    pub(crate) shown: Mutex<Shown>,
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

    /// A second proposal was to be signed.
    pub(crate) fn count_second(&self, is_signed: bool) {
        let count = if is_signed { &self.signed } else { &self.unsigned };
        count.fetch_add(1, Ordering::Relaxed);
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
                equivocator::show(&member, to, body).await
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
