//! The decisions about one submission, without time and network: what to do after each thing that
//! happens, and what to answer in the end.
//!
//! ```text
//!            ┌──────────────── Send, after a pause ◀───────────────┐
//!            ▼                                                     │
//!  start ─▶ Send ─▶ answered ─▶ all settled? ── yes ─▶ Finish      │ no leader, stopping, lost
//!            │                       └── no ──────────────────────▶┤
//!            ├──▶ not sent / lost ────────────────────────────────▶┘
//!            └──▶ used on a repetition ─▶ LookUp ─▶ receipt: settled; none yet: after a pause again
//!  deadline in any state ─▶ Finish
//! ```
//! # Invariants
//! - What was recorded stays what it is: a later answer never replaces it.
//! - A transaction that an attempt *may* have brought to the ledger is in doubt until its receipt is
//!   seen. It is never told as refused, whatever a node says of a repetition: that node may lag
//!   behind, or the transaction may have expired meanwhile. Only a refusal that follows from the
//!   bytes alone counts, for it would have met every attempt.
//! - At the deadline, anything in doubt makes the answer *unknown*.

use kanjo_api::SubmitOutcome;
use kanjo_types::outcome::Refusal;

/// The pause before the first repetition, in milliseconds; doubled each time.
const PAUSE_FIRST_MS: u64 = 10;
/// The longest pause between two attempts.
const PAUSE_MAX_MS: u64 = 500;
/// So many look-ups without a receipt, then the bytes are sent again: what a fallen leader had in
/// flight may be gone.
const LOOK_UPS_MAX: u32 = 4;

/// What a node answered to one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// An outcome for each transaction.
    Outcomes(Vec<SubmitOutcome>),
    /// Refused as a whole because of its bytes: every node refuses it, always.
    Improper,
    /// Refused as a whole; this attempt brought nothing to the ledger.
    NotTaken(Refusal),
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The attempt was answered.
    Answered(Answer),
    /// No node received the attempt.
    NotSent,
    /// A node may have received the attempt, and what it did is not known.
    Lost,
    /// The receipts asked for: for each transaction with one, its place and what came of it.
    LookedUp(Vec<(usize, SubmitOutcome)>),
    /// No time is left.
    Deadline,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Find the leader and send it the very same bytes, after a pause.
    Send {
        /// How long to wait before.
        pause_ms: u64,
    },
    /// Ask for the receipts of the transactions at these places, after a pause.
    LookUp {
        /// Places in the request.
        places: Vec<usize>,
        /// How long to wait before.
        pause_ms: u64,
    },
    /// Answer.
    Finish(Verdict),
}

/// The answer to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// What the node answered last, as it is.
    AsAnswered,
    /// An outcome for each transaction.
    Outcomes(Vec<SubmitOutcome>),
    /// Nothing of it is on the ledger or on its way there.
    NotTaken(Refusal),
    /// Some of it may be on the ledger. Sending the same again is safe.
    Unknown,
}

/// One transaction of the request.
#[derive(Debug, Clone, Default)]
struct Place {
    recorded: Option<SubmitOutcome>,
    refused: Option<SubmitOutcome>,
    /// An attempt may have brought it to the ledger.
    in_doubt: bool,
    /// There may be a receipt: a node knows its id, or refuses what it may have taken before.
    is_used: bool,
}

/// One submission under way.
#[derive(Debug, Clone)]
pub struct Submission {
    places: Vec<Place>,
    attempts: u32,
    pauses: u32,
    look_ups: u32,
    /// The whole was refused at the last attempt.
    whole: Option<Refusal>,
    /// Did anything but the node's last answer go into the outcomes?
    is_composed: bool,
}

impl Submission {
    /// A submission of `count` transactions. The first thing to do is [`Action::Send`].
    #[must_use]
    pub fn new(count: usize) -> Self {
        Self {
            places: vec![Place::default(); count],
            attempts: 1,
            pauses: 0,
            look_ups: 0,
            whole: None,
            is_composed: false,
        }
    }

    /// Attempts so far, the one under way included.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Takes in what happened.
    pub fn on(&mut self, event: Event) -> Action {
        match event {
            Event::Answered(Answer::Outcomes(outcomes)) => self.outcomes(outcomes),
            Event::Answered(Answer::Improper) => Action::Finish(Verdict::AsAnswered),
            Event::Answered(Answer::NotTaken(refusal)) => self.not_taken(refusal),
            Event::NotSent => self.send_again(),
            Event::Lost => self.lost(),
            Event::LookedUp(receipts) => self.looked_up(receipts),
            Event::Deadline => Action::Finish(self.at_deadline()),
        }
    }

    fn outcomes(&mut self, outcomes: Vec<SubmitOutcome>) -> Action {
        if outcomes.len() != self.places.len() {
            // Not an answer to this request.
            return self.lost();
        }
        self.whole = None;
        let is_repetition = self.attempts > 1;
        for (place, outcome) in self.places.iter_mut().zip(outcomes) {
            place.take(outcome, is_repetition);
        }
        self.settle()
    }

    fn not_taken(&mut self, refusal: Refusal) -> Action {
        let is_clean = self.places.iter().all(|place| !place.in_doubt && place.recorded.is_none());
        self.whole = Some(refusal);
        if is_clean && !another_node_may_take(refusal) {
            return Action::Finish(Verdict::AsAnswered);
        }
        self.send_again()
    }

    fn lost(&mut self) -> Action {
        for place in &mut self.places {
            if place.recorded.is_none() && !place.is_refused_for_good() {
                place.in_doubt = true;
            }
        }
        self.send_again()
    }

    fn looked_up(&mut self, receipts: Vec<(usize, SubmitOutcome)>) -> Action {
        for (at, outcome) in receipts {
            if let Some(place) = self.places.get_mut(at)
                && matches!(outcome, SubmitOutcome::Recorded { .. })
            {
                place.recorded.get_or_insert(outcome);
            }
        }
        self.settle()
    }

    /// After an answer to every transaction.
    fn settle(&mut self) -> Action {
        let open = |place: &Place| place.recorded.is_none() && place.is_open();
        let used: Vec<usize> = self.found(|place| open(place) && place.is_used);
        let others = self.places.iter().any(|place| open(place) && !place.is_used);
        if others || (!used.is_empty() && self.look_ups >= LOOK_UPS_MAX) {
            self.look_ups = 0;
            return self.send_again();
        }
        if used.is_empty() {
            return Action::Finish(self.settled());
        }
        // The first is at once: the receipt is most often there.
        let pause_ms = if self.look_ups == 0 { 0 } else { self.pause_ms() };
        self.look_ups += 1;
        self.is_composed = true;
        Action::LookUp { places: used, pause_ms }
    }

    fn found(&self, wanted: impl Fn(&Place) -> bool) -> Vec<usize> {
        let places = self.places.iter().enumerate().filter(|(_, place)| wanted(place));
        places.map(|(at, _)| at).collect()
    }

    fn settled(&self) -> Verdict {
        let is_one_refused =
            self.places.len() == 1 && self.places.iter().all(|place| place.recorded.is_none());
        if !self.is_composed || is_one_refused {
            return Verdict::AsAnswered;
        }
        self.told().map_or(Verdict::Unknown, Verdict::Outcomes)
    }

    fn told(&self) -> Option<Vec<SubmitOutcome>> {
        let told = |place: &Place| place.recorded.clone().or_else(|| place.refused.clone());
        self.places.iter().map(told).collect()
    }

    fn send_again(&mut self) -> Action {
        self.attempts = self.attempts.saturating_add(1);
        self.is_composed |= self.places.iter().any(|place| place.recorded.is_some());
        Action::Send { pause_ms: self.pause_ms() }
    }

    fn pause_ms(&mut self) -> u64 {
        let doubled = PAUSE_FIRST_MS.checked_shl(self.pauses).unwrap_or(PAUSE_MAX_MS);
        self.pauses = (self.pauses + 1).min(16);
        doubled.min(PAUSE_MAX_MS)
    }

    fn at_deadline(&self) -> Verdict {
        let is_in_doubt = |place: &Place| place.recorded.is_none() && place.in_doubt;
        if self.places.iter().any(is_in_doubt) {
            return Verdict::Unknown;
        }
        match self.told() {
            Some(outcomes) if self.places.len() > 1 => Verdict::Outcomes(outcomes),
            _ => {
                let refusals = self.places.iter().filter_map(Place::refusal);
                let refusal = self.whole.or(refusals.last()).unwrap_or(Refusal::NoLeader);
                Verdict::NotTaken(refusal)
            }
        }
    }
}

impl Place {
    fn take(&mut self, outcome: SubmitOutcome, is_repetition: bool) {
        if self.recorded.is_some() {
            return;
        }
        match &outcome {
            SubmitOutcome::Recorded { .. } => self.recorded = Some(outcome),
            SubmitOutcome::Refused { refusal, .. } if follows_from_bytes(*refusal) => {
                self.in_doubt = false;
                self.refused = Some(outcome);
            }
            SubmitOutcome::Refused { refusal: Refusal::AlreadyUsed, .. } => {
                // Told as it is when the first attempt said so: the client's own repetition.
                let was_told = self.refusal() == Some(Refusal::AlreadyUsed) && !self.in_doubt;
                let by_us = is_repetition && !was_told;
                self.is_used = by_us;
                self.in_doubt |= by_us;
                self.refused = Some(outcome);
            }
            SubmitOutcome::Refused { refusal, .. } => {
                // One in doubt may have been taken before it expired, or its author changed keys.
                self.is_used = self.in_doubt && !is_about_the_node(*refusal);
                self.refused = Some(outcome);
            }
        }
    }

    fn refusal(&self) -> Option<Refusal> {
        match self.refused {
            Some(SubmitOutcome::Refused { refusal, .. }) => Some(refusal),
            _ => None,
        }
    }

    fn is_refused_for_good(&self) -> bool {
        self.refusal().is_some_and(follows_from_bytes)
    }

    /// Is more to be done for it?
    fn is_open(&self) -> bool {
        self.in_doubt || self.refusal().is_none_or(another_node_may_take)
    }
}

/// Refused because this node leads no more, while another one does or soon will.
fn another_node_may_take(refusal: Refusal) -> bool {
    matches!(refusal, Refusal::NoLeader | Refusal::Stopping)
}

/// Refused for what the node is, not for what the transaction is.
fn is_about_the_node(refusal: Refusal) -> bool {
    another_node_may_take(refusal) || matches!(refusal, Refusal::Overloaded | Refusal::StorageFull)
}

/// True when the refusal follows from the bytes of the transaction and the genesis alone, so that
/// every node says it at all times.
#[must_use]
pub fn follows_from_bytes(refusal: Refusal) -> bool {
    match refusal {
        Refusal::Expired
        | Refusal::ValidTooLong
        | Refusal::AlreadyUsed
        | Refusal::UnknownAuthor
        | Refusal::SignatureCount
        | Refusal::SignatureOrder
        | Refusal::UnknownKey
        | Refusal::BadSignature
        | Refusal::Overloaded
        | Refusal::StorageFull
        | Refusal::Stopping
        | Refusal::NoLeader => false,
        // Shape, size and chain; `TooLarge` of a request as a whole is no outcome of a transaction.
        _ => true,
    }
}
