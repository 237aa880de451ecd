//! Gateways between clients and members: the real rule of `kanjo-gateway` (its `route` module), on
//! simulated time and network.
//!
//! ```text
//!  client ── transaction ──▶ gateway ── to whom some member takes for the leader ──▶ member
//!                              ├── lost, no leader: the very same bytes again, after a pause
//!                              └── used already: the receipt, from any member that has it
//! ```
//! A gateway keeps nothing but what it has under way, so one that crashes takes that with it, and
//! its clients go to another one, which begins anew.

use crate::clients::Clients;
use crate::dice::Dice;
use crate::member::Outcome;
use crate::scene::Scene;
use crate::time::{ms, since_start, sleep, within};
use bytes::Bytes;
use kanjo_api::SubmitOutcome;
use kanjo_gateway::route::{Action, Answer, Event, Submission, Verdict};
use kanjo_types::TransactionId;
use kanjo_types::outcome::Refusal;
use std::time::Duration;

/// How long a gateway waits for the answer of a member.
const ANSWER_MS: u64 = 700;
/// How long it goes on before it answers that the end is open.
const GIVE_UP: Duration = ms(3_000);
/// One submission in so many has its gateway crash.
const CRASH_ONE_IN: u64 = 40;

/// What a client hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// What came of the transaction.
    Told(Outcome),
    /// Nothing of it is on the ledger or on its way there.
    NotTaken(Refusal),
    /// The end is open, or the gateway is gone.
    Open,
}

/// Passes a transaction on by way of some gateway.
pub(crate) async fn submit(scene: &Scene, (id, raw): (TransactionId, Bytes), dice: &Dice) -> Heard {
    let work = pass_on(scene, (id, raw), dice);
    if dice.below(CRASH_ONE_IN) > 0 {
        return work.await;
    }
    let lives = dice.micros(1_000, 1_000_000);
    within(lives, work).await.unwrap_or_else(|| {
        scene.trace.note(format!("a gateway crashes, and with it {id}"));
        Heard::Open
    })
}

async fn pass_on(scene: &Scene, (id, raw): (TransactionId, Bytes), dice: &Dice) -> Heard {
    let give_up_at = since_start() + GIVE_UP;
    let mut submission = Submission::new(1);
    let mut action = Action::Send { pause_ms: 0 };
    let mut answered = None;
    loop {
        let event = match action {
            Action::Finish(verdict) => return heard(verdict, answered),
            Action::Send { pause_ms } => {
                sleep(Duration::from_millis(pause_ms)).await;
                send(scene, (id, raw.clone()), &mut answered, dice).await
            }
            Action::LookUp { pause_ms, .. } => {
                sleep(Duration::from_millis(pause_ms)).await;
                Event::LookedUp(look_up(scene, id, dice).await.into_iter().collect())
            }
        };
        action = submission.on(event);
        if since_start() >= give_up_at && !matches!(action, Action::Finish(_)) {
            action = submission.on(Event::Deadline);
        }
    }
}

fn heard(verdict: Verdict, answered: Option<Outcome>) -> Heard {
    match verdict {
        Verdict::AsAnswered => answered.map_or(Heard::Open, Heard::Told),
        Verdict::Outcomes(outcomes) => match outcomes.first() {
            Some(SubmitOutcome::Recorded { id, height, position, result, .. }) => {
                let (id, height, position, result) = (*id, *height, *position, *result);
                Heard::Told(Outcome::Recorded { id, height, position, result })
            }
            Some(SubmitOutcome::Refused { refusal, .. }) => Heard::Told(Outcome::Refused(*refusal)),
            None => Heard::Open,
        },
        Verdict::NotTaken(refusal) => Heard::NotTaken(refusal),
        Verdict::Unknown => Heard::Open,
    }
}

/// One attempt.
async fn send(
    scene: &Scene,
    sent: (TransactionId, Bytes),
    answered: &mut Option<Outcome>,
    dice: &Dice,
) -> Event {
    let Some(to) = leader(scene, dice).or_else(|| any_member(scene, dice)) else {
        return Event::NotSent;
    };
    let answer = within(ms(dice.between(ANSWER_MS / 2, ANSWER_MS)), ask(scene, to, sent)).await;
    let Some(outcome) = answer.flatten() else { return Event::Lost };
    *answered = Some(outcome);
    let outcome = match outcome {
        Outcome::Recorded { id, height, position, result } => {
            SubmitOutcome::Recorded { id, height, position, result, failed_operation: None }
        }
        Outcome::Refused(refusal) => SubmitOutcome::Refused { refusal, field: String::new() },
    };
    Event::Answered(Answer::Outcomes(vec![outcome]))
}

/// What a member answers; nothing when that is lost on the way.
async fn ask(scene: &Scene, to: u16, (id, raw): (TransactionId, Bytes)) -> Option<Outcome> {
    if !scene.net.client_way().await {
        return std::future::pending().await;
    }
    let member = scene.net.member(to)?;
    if member.is_witness {
        return Some(Outcome::Refused(Refusal::NoLeader));
    }
    let answer = member.submit(raw).await.ok()?;
    // The word of a criminal is worth nothing: clients ask for the proof.
    while member.crime.is_some() && !Clients::is_proven(scene, id, answer) {
        sleep(ms(10)).await;
    }
    if !scene.net.client_way().await {
        return std::future::pending().await;
    }
    Some(answer)
}

/// The receipt, from a member that has the block.
async fn look_up(scene: &Scene, id: TransactionId, dice: &Dice) -> Option<(usize, SubmitOutcome)> {
    if !scene.net.client_way().await {
        return None;
    }
    let member = scene.net.member(any_member(scene, dice)?)?;
    let (height, position, result) = scene.observer.place_of(id)?;
    let outcome = SubmitOutcome::Recorded { id, height, position, result, failed_operation: None };
    let has_it = member.next_final() > height && scene.net.client_way().await;
    has_it.then_some((0, outcome))
}

fn any_member(scene: &Scene, dice: &Dice) -> Option<u16> {
    let members: Vec<u16> = scene.net.members().iter().map(|member| member.me).collect();
    dice.pick(&members)
}

/// Whom some member takes for the leader.
fn leader(scene: &Scene, dice: &Dice) -> Option<u16> {
    let member = scene.net.member(any_member(scene, dice)?)?;
    member.engine()?.now().leader
}
