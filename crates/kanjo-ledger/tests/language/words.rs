//! Reading words: numbers, times, and clauses that may stand anywhere in an operation.

use crate::common::START_MS;
use kanjo_types::Amount;
use kanjo_types::signature::KeyKind;

pub fn amount(text: &str) -> Amount {
    match text {
        "max" => Amount(u128::MAX),
        "max-1" => Amount(u128::MAX - 1),
        digits => Amount(digits.replace(',', "").parse().unwrap_or_else(|_| panic!("{text}"))),
    }
}

pub fn kind(text: &str) -> KeyKind {
    match text {
        "ed25519" => KeyKind::Ed25519,
        "p256" => KeyKind::P256,
        "secp256k1" => KeyKind::Secp256k1,
        other => panic!("kind of key '{other}'"),
    }
}

/// Seconds in milliseconds.
pub fn seconds(text: &str) -> u64 {
    let (whole, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), "0"));
    let fraction: u64 = format!("{fraction:0<3}").parse().expect("milliseconds");
    whole.parse::<u64>().unwrap_or_else(|_| panic!("time '{text}'")) * 1_000 + fraction
}

/// Ledger time from seconds after the genesis; `ever` is the end of all time, `long-ago` its start.
pub fn moment(text: &str) -> u64 {
    match text {
        "ever" => u64::MAX,
        "long-ago" => 0,
        text => START_MS + seconds(text),
    }
}

/// `bob/2` is bob's wallet number 2, `bob` his first.
pub fn purse(text: &str) -> (&str, u64) {
    match text.split_once('/') {
        Some((name, number)) => (name, number.parse().expect("number of a wallet")),
        None => (text, 0),
    }
}

/// The words of an operation, from which clauses are taken one by one.
pub struct Words<'a>(pub Vec<&'a str>);

impl<'a> Words<'a> {
    pub fn new(text: &'a str) -> Self {
        Self(text.split_whitespace().collect())
    }

    /// Takes out all of `keys` followed by one word; gives back that word.
    pub fn clause(&mut self, keys: &str) -> Option<&'a str> {
        let keys: Vec<&str> = keys.split(' ').collect();
        let at = self.0.windows(keys.len() + 1).position(|words| words[..keys.len()] == keys)?;
        self.0.drain(at..=at + keys.len()).next_back()
    }

    /// Takes out `key`, a number and its unit.
    pub fn measure(&mut self, key: &str) -> Option<(&'a str, &'a str)> {
        let at = self.0.iter().position(|word| *word == key)?;
        let taken: Vec<&str> = self.0.drain(at..at + 3).collect();
        Some((taken[1], taken[2]))
    }

    /// Takes out `key` and the names after it: `a + b + c`.
    pub fn names(&mut self, key: &str) -> Option<Vec<&'a str>> {
        let at = self.0.iter().position(|word| *word == key)?;
        let mut end = at + 2;
        while self.0.get(end) == Some(&"+") {
            end += 2;
        }
        Some(self.0.drain(at..end).skip(1).step_by(2).collect())
    }

    /// Takes out a text; was it there?
    pub fn flag(&mut self, text: &str) -> bool {
        let keys: Vec<&str> = text.split(' ').collect();
        match self.0.windows(keys.len()).position(|words| words == keys) {
            Some(at) => self.0.drain(at..at + keys.len()).len() > 0,
            None => false,
        }
    }
}
