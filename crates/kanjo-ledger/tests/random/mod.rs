//! Random histories with every operation of the ledger.
//!
//! A plan says roughly what is to be done; what that is in detail is decided when its turn comes,
//! by what there is then ([`make`]): which pending payments are open, who holds a role, which
//! transactions could be reversed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod acts;
mod loss;
mod make;
mod run;

pub use run::{Run, run};

use proptest::prelude::*;

pub const USERS: u8 = 6;
/// The plain token and four with rules.
pub const TOKENS: u8 = 5;
pub const SECOND_MS: u64 = 1_000;

/// One kind of operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Pay,
    Issue,
    Redeem,
    OpenWallet,
    Rotate,
    Require,
    Reserve,
    Post,
    Void,
    Propose,
    Agree,
    Decline,
    Schedule,
    Cancel,
    SetAttribute,
    EraseAttribute,
    Guardians,
    Recover,
    Freeze,
    Unfreeze,
    Terms,
    SetPolicy,
    SetRole,
    Reverse,
    Order,
    Approve,
    Reject,
    Finish,
    Settle,
    Interest,
}

/// An operation to be made of what there is at its turn: the numbers choose.
#[derive(Debug, Clone)]
pub struct Plan {
    pub kind: Kind,
    pub token: u8,
    pub from: u8,
    pub to: u8,
    pub pick: u8,
    pub amount: u128,
    pub flag: bool,
}

/// A transaction.
#[derive(Debug, Clone)]
pub struct Sent {
    pub plans: Vec<Plan>,
    /// Everybody whose signature an operation takes signs; otherwise the first alone.
    pub together: bool,
    /// Somebody else signs instead.
    pub stranger: Option<u8>,
}

#[derive(Debug, Clone)]
pub struct History {
    pub blocks: Vec<(u64, Vec<Sent>)>,
    /// For each partition the block after which it is copied, for the restart.
    pub copied: Vec<u8>,
    /// The block after which the ledger is restarted.
    pub cut: u8,
    /// The token of most operations.
    pub focus: u8,
}

fn kinds() -> impl Strategy<Value = Kind> {
    let money = prop_oneof![
        18 => Just(Kind::Pay), 2 => Just(Kind::Issue), 1 => Just(Kind::Redeem),
        1 => Just(Kind::OpenWallet), 1 => Just(Kind::Rotate), 2 => Just(Kind::Require),
        5 => Just(Kind::Reserve), 6 => Just(Kind::Post), 3 => Just(Kind::Void),
        3 => Just(Kind::Propose), 6 => Just(Kind::Agree), 1 => Just(Kind::Decline),
        2 => Just(Kind::Schedule), 1 => Just(Kind::Cancel), 1 => Just(Kind::Interest),
    ];
    let acts = prop_oneof![
        1 => Just(Kind::SetAttribute), 2 => Just(Kind::EraseAttribute),
        1 => Just(Kind::Guardians), 1 => Just(Kind::Recover), 2 => Just(Kind::Freeze),
        3 => Just(Kind::Unfreeze), 3 => Just(Kind::Terms), 1 => Just(Kind::SetPolicy),
        2 => Just(Kind::SetRole), 7 => Just(Kind::Reverse), 2 => Just(Kind::Order),
        6 => Just(Kind::Approve), 1 => Just(Kind::Reject), 3 => Just(Kind::Finish),
        6 => Just(Kind::Settle),
    ];
    prop_oneof![5 => money, 3 => acts]
}

fn amounts() -> impl Strategy<Value = u128> {
    prop_oneof![
        30 => 1u128..40,
        8 => 40u128..150,
        1 => Just(0),
        1 => Just(u128::MAX),
        1 => Just(u128::MAX / 2),
    ]
}

fn plans() -> impl Strategy<Value = Plan> {
    let users = || 0..USERS;
    (kinds(), 0..TOKENS, users(), users(), any::<u8>(), amounts(), any::<bool>()).prop_map(
        |(kind, token, from, to, pick, amount, flag)| Plan {
            kind,
            token: token + 1,
            from,
            to,
            pick,
            amount,
            flag,
        },
    )
}

fn sents() -> impl Strategy<Value = Sent> {
    let plans = prop_oneof![
        8 => prop::collection::vec(plans(), 1..2),
        2 => prop::collection::vec(plans(), 2..6),
    ];
    let stranger = prop::option::weighted(0.05, 0..USERS);
    (plans, prop::bool::weighted(0.8), stranger).prop_map(|(plans, together, stranger)| Sent {
        plans,
        together,
        stranger,
    })
}

pub fn histories() -> impl Strategy<Value = History> {
    let gap = prop_oneof![
        60 => 0..2 * SECOND_MS,
        6 => 5 * SECOND_MS..40 * SECOND_MS,
        1 => 500 * SECOND_MS..200_000 * SECOND_MS,
    ];
    let blocks = prop::collection::vec((gap, prop::collection::vec(sents(), 0..9)), 1..48);
    let copied = prop::collection::vec(0..50u8, 64);
    (blocks, copied, any::<u8>(), 1..=TOKENS).prop_map(|(blocks, copied, cut, focus)| History {
        blocks,
        copied,
        cut,
        focus,
    })
}
