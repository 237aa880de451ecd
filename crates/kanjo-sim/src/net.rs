//! The network between members, and between clients and members: loss, delay, reordering,
//! duplication, cuts one way or both.
//!
//! ```text
//!  from ──▶ cut? lost? ──▶ delay ──▶ (twice?) ──▶ Member::call / message
//!                                                       │ answer
//!  from ◀── delay ◀── cut? lost? ◀──────────────────────┘
//! ```
//! Messages overtake each other because each has a delay of its own.

use crate::dice::Dice;
use crate::member::Member;
use crate::time::{sleep, spawn, within};
use bytes::Bytes;
use kanjo_link::bus::{BusError, Topic};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How bad the network is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// Messages lost, in parts per million.
    pub loss_ppm: u32,
    /// Messages that arrive twice.
    pub twice_ppm: u32,
    /// Messages that take long.
    pub slow_ppm: u32,
    /// How long at most, in microseconds.
    pub slow_max_us: u64,
}

#[derive(Default)]
struct State {
    members: BTreeMap<u16, Arc<Member>>,
    /// From whom to whom nothing passes.
    cuts: BTreeSet<(u16, u16)>,
    weather: Weather,
    carried: u64,
    lost: u64,
}

impl State {
    /// Links have members of the ledger at both ends; nobody else is let in.
    fn know_each_other(&self, one: u16, other: u16) -> bool {
        let knows =
            |one: u16, other: u16| self.members.get(&one).is_none_or(|member| member.knows(other));
        knows(one, other) && knows(other, one)
    }
}

/// All links.
pub struct Net {
    dice: Dice,
    state: Mutex<State>,
}

impl Net {
    /// A network in good order.
    #[must_use]
    pub fn new(dice: Dice) -> Self {
        Self { dice, state: Mutex::default() }
    }

    /// From now on this member gets what is for its number.
    pub fn join(&self, member: Arc<Member>) {
        self.state.lock().members.insert(member.me, member);
    }

    /// Nobody has this number any more.
    pub fn leave(&self, number: u16) {
        self.state.lock().members.remove(&number);
    }

    /// Who has this number.
    #[must_use]
    pub fn member(&self, number: u16) -> Option<Arc<Member>> {
        self.state.lock().members.get(&number).cloned()
    }

    /// Who is there, by number.
    #[must_use]
    pub fn members(&self) -> Vec<Arc<Member>> {
        self.state.lock().members.values().cloned().collect()
    }

    /// Sets how bad it is.
    pub fn set_weather(&self, weather: Weather) {
        self.state.lock().weather = weather;
    }

    /// Lets nothing pass from one to the other.
    pub fn cut(&self, from: u16, to: u16) {
        self.state.lock().cuts.insert((from, to));
    }

    /// Everything passes again.
    pub fn heal(&self) {
        self.state.lock().cuts.clear();
    }

    /// Messages carried and lost so far.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.carried, state.lost)
    }

    /// Members that this one has a link with: a link that is cut one way breaks.
    #[must_use]
    pub fn reachable(&self, me: u16) -> BTreeSet<u16> {
        let state = self.state.lock();
        let others = state.members.keys().copied().filter(|other| *other != me);
        let whole = |other: &u16| {
            !state.cuts.contains(&(me, *other))
                && !state.cuts.contains(&(*other, me))
                && state.know_each_other(me, *other)
        };
        others.filter(whole).collect()
    }

    /// How long a message takes; nothing when it is lost.
    fn way(&self, from: u16, to: u16) -> Option<Duration> {
        let mut state = self.state.lock();
        let weather = state.weather;
        if !state.know_each_other(from, to)
            || state.cuts.contains(&(from, to))
            || self.dice.hits(weather.loss_ppm)
        {
            state.lost += 1;
            return None;
        }
        state.carried += 1;
        let slow = self.dice.hits(weather.slow_ppm);
        let most = if slow { weather.slow_max_us.max(600) } else { 600 };
        Some(self.dice.micros(100, most))
    }

    fn comes_twice(&self) -> bool {
        let ppm = self.state.lock().weather.twice_ppm;
        self.dice.hits(ppm)
    }

    /// Carries a call and its answer.
    ///
    /// # Errors
    /// As [`kanjo_link::bus::Bus::call`].
    pub async fn call(
        self: Arc<Self>,
        (from, to): (u16, u16),
        topic: Topic,
        body: Bytes,
        ttl: Duration,
    ) -> Result<Bytes, BusError> {
        let call = async {
            if !self.state.lock().know_each_other(from, to) {
                return Err(BusError::Unreachable { to, why: "no member".to_owned() });
            }
            let Some(way) = self.way(from, to) else { return std::future::pending().await };
            sleep(way).await;
            let Some(member) = self.member(to) else {
                return Err(BusError::Unreachable { to, why: "down".to_owned() });
            };
            if self.comes_twice() {
                let (again, member, body) =
                    (self.dice.micros(10, 5_000), member.clone(), body.clone());
                spawn(async move {
                    sleep(again).await;
                    // Nobody waits for the second answer.
                    let _ = member.call(from, topic, body).await;
                });
            }
            let answer = member.call(from, topic, body).await;
            let Some(way) = self.way(to, from) else { return std::future::pending().await };
            sleep(way).await;
            answer.map_err(BusError::Refused)
        };
        within(ttl, call).await.unwrap_or(Err(BusError::Timeout))
    }

    /// Carries a message.
    pub fn send(self: &Arc<Self>, from: u16, to: u16, topic: Topic, body: Bytes) {
        let times = if self.comes_twice() { 2 } else { 1 };
        for _ in 0..times {
            let Some(way) = self.way(from, to) else { continue };
            let (net, body) = (self.clone(), body.clone());
            spawn(async move {
                sleep(way).await;
                if let Some(member) = net.member(to) {
                    member.message(from, topic, body);
                }
            });
        }
    }

    /// Members that there are, but for one.
    #[must_use]
    pub fn others(&self, me: u16) -> Vec<u16> {
        self.state.lock().members.keys().copied().filter(|other| *other != me).collect()
    }

    /// The way between a client and a member; false when the message is lost.
    pub async fn client_way(&self) -> bool {
        // Clients are at no end of a cut.
        match self.way(u16::MAX, u16::MAX) {
            Some(way) => {
                sleep(way).await;
                true
            }
            None => false,
        }
    }
}
