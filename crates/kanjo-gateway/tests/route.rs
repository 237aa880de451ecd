//! The decisions hold against any order of faults: no transaction has two outcomes, and nothing
//! that may have happened is told as refused.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use kanjo_api::SubmitOutcome;
use kanjo_gateway::route::{Action, Answer, Event, Submission, Verdict};
use kanjo_types::outcome::{Refusal, ResultCode};
use kanjo_types::{Hash, TransactionId};
use proptest::prelude::*;

/// What becomes of one attempt.
#[derive(Debug, Clone)]
enum Fate {
    NotSent,
    LostOnTheWay,
    /// Taken now, the answer lost.
    LostAnswer,
    /// Taken when the submission is over already.
    Late,
    /// The leader answers; where the second is set, it refuses a fresh transaction so.
    Leader(Vec<Option<Refusal>>),
    /// One that lags behind answers: it refuses whatever was recorded.
    Stale(Refusal),
    Whole(Refusal),
    OtherLength,
}

fn passing() -> impl Strategy<Value = Refusal> {
    prop::sample::select(vec![
        Refusal::Expired,
        Refusal::UnknownAuthor,
        Refusal::BadSignature,
        Refusal::Overloaded,
        Refusal::StorageFull,
        Refusal::Stopping,
        Refusal::NoLeader,
    ])
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        Just(Fate::NotSent),
        Just(Fate::LostOnTheWay),
        Just(Fate::LostAnswer),
        Just(Fate::Late),
        Just(Fate::OtherLength),
        prop::collection::vec(prop::option::weighted(0.3, passing()), 4).prop_map(Fate::Leader),
        passing().prop_map(Fate::Stale),
        prop::sample::select(vec![
            Refusal::Overloaded,
            Refusal::StorageFull,
            Refusal::Stopping,
            Refusal::NoLeader,
        ])
        .prop_map(Fate::Whole),
    ]
}

fn refused(refusal: Refusal) -> SubmitOutcome {
    SubmitOutcome::Refused { refusal, field: String::new() }
}

/// A ledger that takes each id once.
struct World {
    /// Refused by every node for their bytes.
    improper: Vec<bool>,
    recorded: Vec<Option<SubmitOutcome>>,
    /// Recorded before the submission began.
    earlier: Vec<bool>,
    height: u64,
    late: bool,
}

impl World {
    fn record(&mut self, at: usize) -> SubmitOutcome {
        self.height += 1;
        let outcome = SubmitOutcome::Recorded {
            id: TransactionId(Hash([at as u8; 32])),
            height: self.height,
            position: 0,
            result: ResultCode::Ok,
            failed_operation: None,
        };
        self.recorded[at] = Some(outcome.clone());
        outcome
    }

    fn take_all(&mut self) {
        for at in 0..self.recorded.len() {
            if !self.improper[at] && self.recorded[at].is_none() {
                self.record(at);
            }
        }
    }

    fn leader(&mut self, wishes: &[Option<Refusal>]) -> Vec<SubmitOutcome> {
        let one = |at: usize| match (self.improper[at], &self.recorded[at], wishes[at]) {
            (true, _, _) => refused(Refusal::ZeroAmount),
            (_, Some(_), _) => refused(Refusal::AlreadyUsed),
            (_, None, Some(wish)) => refused(wish),
            (_, None, None) => self.record(at),
        };
        (0..self.recorded.len()).map(one).collect()
    }

    fn stale(&self, refusal: Refusal) -> Vec<SubmitOutcome> {
        let one = |improper: &bool| refused(if *improper { Refusal::ZeroAmount } else { refusal });
        self.improper.iter().map(one).collect()
    }

    fn event(&mut self, fate: Fate) -> Event {
        match fate {
            Fate::NotSent => Event::NotSent,
            Fate::LostOnTheWay => Event::Lost,
            Fate::LostAnswer => {
                self.take_all();
                Event::Lost
            }
            Fate::Late => {
                self.late = true;
                Event::Lost
            }
            Fate::Leader(wishes) => Event::Answered(Answer::Outcomes(self.leader(&wishes))),
            Fate::Stale(refusal) => Event::Answered(Answer::Outcomes(self.stale(refusal))),
            Fate::Whole(refusal) => Event::Answered(Answer::NotTaken(refusal)),
            Fate::OtherLength => {
                self.take_all();
                Event::Answered(Answer::Outcomes(Vec::new()))
            }
        }
    }

    fn look_up(&self, places: &[usize], lags: bool) -> Event {
        let receipt = |at: &usize| self.recorded[*at].clone().map(|outcome| (*at, outcome));
        Event::LookedUp(if lags { Vec::new() } else { places.iter().filter_map(receipt).collect() })
    }
}

/// What the client is told for each transaction; `None` when it is told nothing.
fn told(verdict: Verdict, last: Option<Answer>, count: usize) -> Option<Vec<SubmitOutcome>> {
    match (verdict, last) {
        (Verdict::Unknown, _) => None,
        (Verdict::Outcomes(outcomes), _) => Some(outcomes),
        (Verdict::NotTaken(refusal), _)
        | (Verdict::AsAnswered, Some(Answer::NotTaken(refusal))) => {
            Some(vec![refused(refusal); count])
        }
        (Verdict::AsAnswered, Some(Answer::Outcomes(outcomes))) => Some(outcomes),
        (Verdict::AsAnswered, answer) => panic!("as answered: {answer:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_told_is_what_became_of_it(
        improper in prop::collection::vec(prop::bool::weighted(0.15), 1..4),
        earlier in prop::collection::vec(prop::bool::weighted(0.15), 4),
        fates in prop::collection::vec(fate(), 1..8),
        lags in prop::collection::vec(prop::bool::weighted(0.3), 40),
    ) {
        let count = improper.len();
        let mut world = World {
            recorded: vec![None; count],
            earlier: vec![false; count],
            height: 0,
            late: false,
            improper,
        };
        for (at, earlier) in earlier.iter().take(count).enumerate() {
            if *earlier && !world.improper[at] {
                world.record(at);
                world.earlier[at] = true;
            }
        }
        let mut submission = Submission::new(count);
        let mut action = Action::Send { pause_ms: 0 };
        let (mut last, mut was_lost) = (None, false);
        let (mut fates, mut lags) = (fates.into_iter(), lags.into_iter());
        let mut steps = 0;
        let verdict = loop {
            steps += 1;
            prop_assert!(steps < 1_000, "it goes on for ever");
            let event = match &action {
                Action::Finish(verdict) => break verdict.clone(),
                Action::Send { .. } => fates.next().map(|fate| world.event(fate)),
                Action::LookUp { places, .. } => lags.next().map(|lags| world.look_up(places, lags)),
            };
            let event = event.unwrap_or(Event::Deadline);
            was_lost |= matches!(event, Event::Lost);
            if let Event::Answered(answer) = &event {
                last = Some(answer.clone());
            }
            action = submission.on(event);
        };
        if world.late {
            world.take_all();
        }
        let is_certain = !was_lost && submission.attempts() == 1;
        prop_assert!(verdict != Verdict::Unknown || !is_certain);
        for (at, told) in told(verdict, last, count).into_iter().flatten().enumerate() {
            match told {
                SubmitOutcome::Recorded { .. } => {
                    prop_assert_eq!(Some(&told), world.recorded[at].as_ref());
                }
                SubmitOutcome::Refused { refusal, .. } => prop_assert!(
                    world.recorded[at].is_none() || world.earlier[at],
                    "recorded, and told as {refusal:?}"
                ),
            }
        }
    }
}

fn ok(at: u8, height: u64) -> SubmitOutcome {
    SubmitOutcome::Recorded {
        id: TransactionId(Hash([at; 32])),
        height,
        position: 0,
        result: ResultCode::Ok,
        failed_operation: None,
    }
}

fn outcomes(all: &[SubmitOutcome]) -> Event {
    Event::Answered(Answer::Outcomes(all.to_vec()))
}

#[test]
fn a_lost_answer_is_looked_up_after_the_repetition() {
    let mut submission = Submission::new(1);
    assert!(matches!(submission.on(Event::Lost), Action::Send { .. }));
    let used = outcomes(&[refused(Refusal::AlreadyUsed)]);
    assert_eq!(submission.on(used), Action::LookUp { places: vec![0], pause_ms: 0 });
    let found = Event::LookedUp(vec![(0, ok(0, 9))]);
    assert_eq!(submission.on(found), Action::Finish(Verdict::Outcomes(vec![ok(0, 9)])));
}

#[test]
fn what_a_fallen_leader_had_in_flight_is_sent_again() {
    let mut submission = Submission::new(1);
    submission.on(Event::Lost);
    let mut action = submission.on(outcomes(&[refused(Refusal::AlreadyUsed)]));
    let mut look_ups = 0;
    while matches!(action, Action::LookUp { .. }) {
        look_ups += 1;
        assert!(look_ups < 10);
        action = submission.on(Event::LookedUp(Vec::new()));
    }
    assert!(matches!(action, Action::Send { .. }), "{action:?}");
    let done = submission.on(outcomes(&[ok(0, 12)]));
    assert!(matches!(done, Action::Finish(_)), "{done:?}");
}

#[test]
fn a_busy_leader_is_told_at_once_unless_something_is_in_doubt() {
    let busy = || Event::Answered(Answer::NotTaken(Refusal::Overloaded));
    assert_eq!(Submission::new(3).on(busy()), Action::Finish(Verdict::AsAnswered));
    let mut submission = Submission::new(3);
    submission.on(Event::Lost);
    assert!(matches!(submission.on(busy()), Action::Send { .. }));
    assert_eq!(submission.on(Event::Deadline), Action::Finish(Verdict::Unknown));
}

#[test]
fn without_a_leader_until_the_deadline_nothing_was_taken() {
    let mut submission = Submission::new(2);
    submission.on(Event::NotSent);
    submission.on(Event::Answered(Answer::NotTaken(Refusal::NoLeader)));
    let verdict = Verdict::NotTaken(Refusal::NoLeader);
    assert_eq!(submission.on(Event::Deadline), Action::Finish(verdict));
}

#[test]
fn parts_of_a_batch_that_found_no_leader_go_again_and_the_rest_stays() {
    let mut submission = Submission::new(3);
    let first = [ok(0, 4), refused(Refusal::NoLeader), refused(Refusal::ZeroAmount)];
    assert!(matches!(submission.on(outcomes(&first)), Action::Send { .. }));
    let used = refused(Refusal::AlreadyUsed);
    let done = submission.on(outcomes(&[used, ok(1, 8), refused(Refusal::ZeroAmount)]));
    let all = vec![ok(0, 4), ok(1, 8), refused(Refusal::ZeroAmount)];
    assert_eq!(done, Action::Finish(Verdict::Outcomes(all)));
}
