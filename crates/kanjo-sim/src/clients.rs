//! Clients behind a gateway: each pays one payment after the other, and sends the same transaction
//! again, to any member, until it knows what came of it.

use crate::dice::Dice;
use crate::member::Outcome;
use crate::scene::Scene;
use crate::time::{clock_ms, ms, sleep, spawn, within};
use crate::world;
use bytes::Bytes;
use kanjo_types::outcome::Refusal;
use kanjo_types::{SignedTransaction, TransactionId, codec};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How long a gateway waits for an answer.
const ANSWER_MS: u64 = 700;
/// How long a transaction may be taken.
const VALID_MS: u64 = 60_000;

/// What clients share.
pub struct Clients {
    scene: Arc<Scene>,
    accounts: u64,
    salt: AtomicU64,
    stopped: AtomicBool,
    sent: AtomicU64,
    done: AtomicU64,
}

impl Clients {
    /// Starts so many.
    #[must_use]
    pub fn start(scene: &Arc<Scene>, count: u64, accounts: u64) -> Arc<Self> {
        let clients = Arc::new(Self {
            scene: scene.clone(),
            accounts,
            salt: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            done: AtomicU64::new(0),
        });
        for number in 0..count {
            let (clients, dice) = (clients.clone(), scene.dice.fork());
            spawn(async move { clients.pay(number, &dice).await });
        }
        clients
    }

    /// No new payments.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    /// How many transactions were sent, and of how many the end is known.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.sent.load(Ordering::Relaxed), self.done.load(Ordering::Relaxed))
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    async fn pay(&self, number: u64, dice: &Dice) {
        while !self.is_stopped() {
            sleep(dice.micros(1_000, 30_000)).await;
            let from = number % self.accounts.max(1);
            let to =
                (from + 1 + dice.below(self.accounts.saturating_sub(1))) % self.accounts.max(1);
            // Some of them are more than there is: they are recorded as failed.
            let amount = u128::from(dice.between(1, 3_000));
            let salt = self.salt.fetch_add(1, Ordering::Relaxed);
            let until = clock_ms(0) + VALID_MS;
            let payment = world::payment(&self.scene.genesis, (from, to), amount, until, salt);
            let Some(payment) = payment else { return };
            self.send(&payment, dice).await;
        }
    }

    /// Sends a transaction until its end is known, or clients are stopped for good.
    pub(crate) async fn send(
        &self,
        transaction: &SignedTransaction,
        dice: &Dice,
    ) -> Option<Outcome> {
        let (id, raw) = (transaction.body.id(), Bytes::from(codec::to_bytes(transaction)));
        let mut leader = None;
        self.sent.fetch_add(1, Ordering::Relaxed);
        for attempt in 0..200u32 {
            let to = leader.take().or_else(|| self.any_member(dice));
            match self.ask(to, (id, raw.clone()), dice).await {
                Some(outcome @ Outcome::Recorded { id, height, position, result }) => {
                    self.scene.observer.acknowledged(id, (height, position, result));
                    self.done.fetch_add(1, Ordering::Relaxed);
                    return Some(outcome);
                }
                Some(Outcome::Refused(Refusal::NoLeader)) | None => {
                    leader = self.leader(dice);
                    sleep(dice.micros(2_000, 40_000)).await;
                }
                // It was recorded when an answer was lost: an id is taken once.
                Some(Outcome::Refused(Refusal::AlreadyUsed)) => {
                    if self.scene.observer.place_of(id).is_none() {
                        let text = format!("{id} is said to be used, and is in no final block");
                        self.scene.observer.finding(text);
                    }
                    self.done.fetch_add(1, Ordering::Relaxed);
                    return None;
                }
                Some(Outcome::Refused(refusal)) => {
                    self.scene.trace.note(format!("client: refused, {refusal} ({attempt})"));
                    self.done.fetch_add(1, Ordering::Relaxed);
                    return None;
                }
            }
        }
        None
    }

    fn any_member(&self, dice: &Dice) -> Option<u16> {
        let members: Vec<u16> = self.scene.net.members().iter().map(|member| member.me).collect();
        dice.pick(&members)
    }

    /// Whom some member takes for the leader.
    fn leader(&self, dice: &Dice) -> Option<u16> {
        let member = self.scene.net.member(self.any_member(dice)?)?;
        member.engine()?.now().leader
    }

    /// Is what a member answered in a certified block?
    fn is_proven(&self, id: TransactionId, answer: Outcome) -> bool {
        let place = self.scene.observer.place_of(id);
        match answer {
            Outcome::Recorded { height, position, result, .. } => {
                place == Some((height, position, result))
            }
            Outcome::Refused(Refusal::NoLeader) => true,
            Outcome::Refused(Refusal::AlreadyUsed) => place.is_some(),
            Outcome::Refused(_) => !self.scene.crimes_go_on(),
        }
    }

    /// What a member answers, if it does in time.
    async fn ask(
        &self,
        to: Option<u16>,
        (id, raw): (TransactionId, Bytes),
        dice: &Dice,
    ) -> Option<Outcome> {
        let scene = &self.scene;
        let ask = async {
            if !scene.net.client_way().await {
                return std::future::pending().await;
            }
            let member = scene.net.member(to?)?;
            if member.is_witness {
                return Some(Outcome::Refused(Refusal::NoLeader));
            }
            let answer = member.submit(raw).await.ok()?;
            // The word of a criminal is worth nothing: clients ask for the proof.
            while member.crime.is_some() && !self.is_proven(id, answer) {
                sleep(ms(10)).await;
            }
            if !scene.net.client_way().await {
                return std::future::pending().await;
            }
            Some(answer)
        };
        within(ms(dice.between(ANSWER_MS / 2, ANSWER_MS)), ask).await.flatten()
    }
}
