//! Clients behind gateways: each pays one payment after the other, and sends the same transaction
//! again, by way of any gateway, until it knows what came of it.

use crate::dice::Dice;
use crate::gateway::{self, Heard};
use crate::member::Outcome;
use crate::scene::Scene;
use crate::time::{clock_ms, sleep, spawn};
use crate::world;
use bytes::Bytes;
use kanjo_types::outcome::Refusal;
use kanjo_types::{SignedTransaction, TransactionId, codec};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

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
        let scene = &self.scene;
        self.sent.fetch_add(1, Ordering::Relaxed);
        for attempt in 0..200u32 {
            match gateway::submit(scene, (id, raw.clone()), dice).await {
                Heard::Told(outcome @ Outcome::Recorded { id, height, position, result }) => {
                    scene.observer.acknowledged(id, (height, position, result));
                    self.done.fetch_add(1, Ordering::Relaxed);
                    return Some(outcome);
                }
                // Taken by way of a gateway that is gone: an id is taken once.
                Heard::Told(Outcome::Refused(Refusal::AlreadyUsed)) => {
                    if scene.observer.place_of(id).is_none() {
                        let text = format!("{id} is said to be used, and is in no final block");
                        scene.observer.finding(text);
                    }
                    self.done.fetch_add(1, Ordering::Relaxed);
                    return None;
                }
                Heard::Told(Outcome::Refused(Refusal::NoLeader)) | Heard::Open => {
                    sleep(dice.micros(2_000, 40_000)).await;
                }
                // Some try again, the others rely on it.
                Heard::NotTaken(_) if attempt > 0 || dice.below(2) == 0 => {
                    sleep(dice.micros(2_000, 40_000)).await;
                }
                Heard::NotTaken(refusal) => {
                    scene.observer.not_taken(id);
                    return self.refused(refusal, attempt);
                }
                Heard::Told(Outcome::Refused(refusal)) => return self.refused(refusal, attempt),
            }
        }
        None
    }

    fn refused(&self, refusal: Refusal, attempt: u32) -> Option<Outcome> {
        self.scene.trace.note(format!("client: refused, {refusal} ({attempt})"));
        self.done.fetch_add(1, Ordering::Relaxed);
        None
    }

    /// Is what a member answered in a certified block?
    pub(crate) fn is_proven(scene: &Scene, id: TransactionId, answer: Outcome) -> bool {
        let place = scene.observer.place_of(id);
        match answer {
            Outcome::Recorded { height, position, result, .. } => {
                place == Some((height, position, result))
            }
            Outcome::Refused(Refusal::NoLeader) => true,
            Outcome::Refused(Refusal::AlreadyUsed) => place.is_some(),
            Outcome::Refused(_) => !scene.crimes_go_on(),
        }
    }
}
