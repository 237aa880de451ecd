//! One scenario under way: names, rows, and what came of them.

use super::start::Later;
use super::tables::Tables;
use super::words::{purse, seconds};
use crate::common::{self, Chain, KeySet, START_MS};
use kanjo_ledger::Verified;
use kanjo_types::{
    ChainId, Genesis, Hash, KeySignature, Operation, SignedTransaction, TokenId, TransactionId,
    UserId, WalletId, codec,
};
use std::collections::{BTreeMap, BTreeSet};

/// A transaction as written in a row of a table.
pub struct Prepared {
    pub signed: SignedTransaction,
    pub verified: Option<Verified>,
}

/// Names and the chain of a scenario.
pub struct World {
    pub genesis: Genesis,
    pub chain: Option<Chain>,
    pub key_sets: BTreeMap<String, KeySet>,
    pub policies: BTreeMap<String, String>,
    pub later: Vec<Later>,
    pub people: BTreeMap<String, UserId>,
    pub kept: BTreeMap<String, Prepared>,
    pub time_ms: u64,
    pub salt: u64,
    pub place: String,
    pub seen: BTreeSet<String>,
    pub tables: Tables,
}

impl World {
    pub fn new() -> Self {
        Self {
            genesis: common::empty_genesis(),
            chain: None,
            key_sets: BTreeMap::new(),
            policies: BTreeMap::new(),
            later: Vec::new(),
            people: BTreeMap::new(),
            kept: BTreeMap::new(),
            time_ms: START_MS,
            salt: 0,
            place: String::new(),
            seen: BTreeSet::new(),
            tables: Tables::default(),
        }
    }

    pub fn line(&mut self, line: &str) {
        if let Some(row) = line.strip_prefix('|') {
            let cells: Vec<&str> = row.trim_end_matches('|').split('|').map(str::trim).collect();
            match cells[..] {
                ["time", "who", "does", "result"] => {}
                [time, who, does, result] => self.row(time, who, does, result),
                _ => panic!("{}: a row has four cells", self.place),
            }
            return;
        }
        let (word, rest) = line.split_once(':').unwrap_or_else(|| panic!("{}: ?", self.place));
        if word == "policy" {
            let (name, text) = rest.split_once('=').expect("policy: NAME = …");
            self.policies.insert(name.trim().to_owned(), text.trim().to_owned());
            return;
        }
        let clauses = rest.split(',').map(str::trim).filter(|clause| !clause.is_empty());
        for clause in clauses {
            let words: Vec<&str> = clause.split_whitespace().collect();
            match word {
                "rules" => self.rule(&words),
                "keys" => self.keys(&words),
                "start" => self.start(&words),
                "cluster" => self.cluster(&words),
                _ => self.check(word, &words),
            }
        }
    }

    pub fn chain_id(&mut self) -> ChainId {
        self.chain().chain()
    }

    pub fn user(&mut self, name: &str) -> UserId {
        let chain = self.chain_id();
        if name == "nobody" {
            return UserId([0xee; 16]);
        }
        let access = self.key_set(name).access;
        *self.people.entry(name.to_owned()).or_insert_with(|| UserId::derive(chain, &access, 0))
    }

    /// Users in ascending order.
    pub fn users(&mut self, names: &[&str]) -> Vec<UserId> {
        let mut users: Vec<UserId> = names.iter().map(|name| self.user(name)).collect();
        users.sort_unstable();
        users
    }

    pub fn wallet(&mut self, text: &str) -> WalletId {
        if text == "nowhere" {
            return WalletId([0xdd; 16]);
        }
        let (name, number) = purse(text);
        let owner = self.user(name);
        WalletId::derive(self.chain_id(), owner, number)
    }

    pub fn token(&mut self, symbol: &str) -> TokenId {
        if let Some(number) = symbol.strip_prefix('#') {
            return TokenId(number.parse().unwrap());
        }
        let tokens = self.chain().ledger.tokens();
        let found = tokens.rows(0).iter().find(|row| row.record.symbol == symbol);
        found.map_or(TokenId(999), |row| row.record.id)
    }

    pub fn transaction(&self, name: &str) -> TransactionId {
        if name == "nothing" {
            return TransactionId(Hash([0xcc; 32]));
        }
        let kept = self.kept.get(name).unwrap_or_else(|| panic!("{}: '{name}'?", self.place));
        kept.signed.body.id()
    }

    /// Transaction and operation that made a thing: `p1` by the first operation of p1 that makes
    /// such a thing, `p1.2` by its second operation; `nothing` was never made.
    pub fn made_by(&self, text: &str, makes: fn(&Operation) -> bool) -> (TransactionId, u32) {
        let (name, number) = text.split_once('.').unwrap_or((text, ""));
        let id = self.transaction(name);
        if name == "nothing" {
            return (id, 0);
        }
        let operations = &self.kept[name].signed.body.operations;
        let parties = usize::from(matches!(operations[0], Operation::Parties { .. }));
        let position = match number.parse::<usize>() {
            Ok(number) => number - 1 + parties,
            Err(_) => operations.iter().position(makes).unwrap_or_else(|| panic!("{text}?")),
        };
        (id, u32::try_from(position).unwrap())
    }
}

impl World {
    /// Signs what a row says. `who` is `alice`, `alice with KEYS`, `alice with 0 2`, `alice with
    /// KEYS 0 2`, `alice + bob`, `alice + bob without bob`.
    fn sign(&mut self, who: &str, does: &str) -> SignedTransaction {
        let (who, without) = who.split_once(" without ").unwrap_or((who, ""));
        let (names, with) = who.split_once(" with ").unwrap_or((who, ""));
        let mut names = names.split(" + ");
        let name = names.next().unwrap();
        let parties: Vec<&str> = names.collect();
        let mut parts = does.split(", ").map(str::trim);
        let texts: Vec<&str> = parts.next().unwrap().split(';').map(str::trim).collect();
        let mut operations = Vec::new();
        if !parties.is_empty() {
            operations.push(Operation::Parties { users: self.users(&parties) });
        }
        for text in texts.iter().filter(|text| **text != "nothing") {
            let (by, text) = match text.split_once(": ") {
                Some((by, text)) if !by.contains(' ') => (by, text),
                _ => (name, *text),
            };
            operations.extend(self.operation(by, text));
        }
        self.salt += 1;
        let (chain, author) = (self.chain_id(), self.user(name));
        let mut body = common::body(chain, author, self.time_ms + 30_000, self.salt, operations);
        let mut altered = false;
        for part in parts {
            match part.split_whitespace().collect::<Vec<_>>()[..] {
                ["valid", "until", time] => body.valid_until_ms = START_MS + seconds(time),
                ["for", "another", "ledger"] => body.chain = ChainId::default(),
                ["in", "version", version] => body.version = version.parse().unwrap(),
                ["altered", "afterwards"] => altered = true,
                ref other => panic!("{}: '{other:?}' is not understood", self.place),
            }
        }
        let mut words: Vec<&str> = with.split_whitespace().collect();
        let is_name = words.first().is_some_and(|word| word.parse::<u8>().is_err());
        let keys = self.key_set(if is_name { words.remove(0) } else { name });
        let positions: Vec<u8> = words.iter().map(|word| word.parse().unwrap()).collect();
        let mut signed =
            if positions.is_empty() { keys.sign(body) } else { keys.sign_at(body, &positions) };
        self.add_signatures(&mut signed, &parties, without, keys.access.keys().len());
        signed.body.salt += if altered { 1_000_000 } else { 0 };
        signed
    }

    /// Lets the parties sign, by ascending user; their keys are counted on from the author's.
    fn add_signatures(
        &mut self,
        signed: &mut SignedTransaction,
        parties: &[&str],
        without: &str,
        mut offset: usize,
    ) {
        let mut sorted: Vec<&str> = parties.to_vec();
        sorted.sort_by_key(|name| self.user(name));
        for name in sorted {
            let keys = self.key_set(name);
            let mine = keys.sign(signed.body.clone()).signatures.into_iter();
            let shift = u8::try_from(offset).unwrap();
            if name != without {
                signed.signatures.extend(
                    mine.map(|signature| KeySignature { key: signature.key + shift, ..signature }),
                );
            }
            offset += keys.access.keys().len();
        }
    }

    fn row(&mut self, time: &str, who: &str, does: &str, expected: &str) {
        self.chain();
        if !time.is_empty() {
            self.time_ms = START_MS + seconds(time);
        }
        let (does, name) = match does.rsplit_once(" as ") {
            Some((does, name)) if !name.contains(' ') => (does, Some(name.to_owned())),
            _ => (does, None),
        };
        let found = match does.split_whitespace().collect::<Vec<_>>()[..] {
            ["time", "passes"] => self.pass_time(),
            ["sends", "noise"] => self.send_raw(vec![1; 300]),
            ["sends", "too", "much"] => self.send_raw(vec![1; (2 << 20) + 1]),
            ["sends", kept, "again"] => {
                let signed = self.kept[kept].signed.clone();
                self.send_raw(codec::to_bytes(&signed))
            }
            ["sends", kept, "with", "another", "signature", "again"] => {
                let mut signed = self.kept[kept].signed.clone();
                signed.signatures[0].signature[3] ^= 1;
                self.send_raw(codec::to_bytes(&signed))
            }
            ["says:", ..] => self.hear(who, does.trim_start_matches("says:")),
            [first, "and", second, "have", "their", "turn"] => {
                let verified = |kept: &str| self.kept[kept].verified.clone().expect("was checked");
                let both = [verified(first), verified(second)];
                let time_ms = self.time_ms;
                let outcomes = self.chain().block(time_ms, &both);
                let codes = outcomes.into_iter().map(|one| one.unwrap().result.code());
                self.seen.extend(codes.clone().map(str::to_owned));
                codes.collect::<Vec<_>>().join("; ")
            }
            [kept, "has", "its", "turn"] => {
                let verified = self.kept[kept].verified.clone().expect("was checked");
                self.execute(verified)
            }
            ["hands", "in:", ..] => {
                let does = does.trim_start().strip_prefix("hands in:").expect("hands in: …");
                let signed = self.sign(who, does.trim());
                let admitted = self.chain().admit(&signed);
                let result = admitted.as_ref().map_or_else(refused, |_| "checked".to_owned());
                let kept = Prepared { signed, verified: admitted.ok() };
                self.kept.insert(name.clone().expect("a name"), kept);
                result
            }
            _ => {
                let signed = self.sign(who, does);
                if let Some(name) = &name {
                    let kept = Prepared { signed: signed.clone(), verified: None };
                    self.kept.insert(name.clone(), kept);
                }
                self.send_raw(codec::to_bytes(&signed))
            }
        };
        assert_eq!(found, expected, "{}: {who} {does}", self.place);
        let code = found.trim_start_matches("refused: ").split(' ').next().unwrap_or_default();
        self.seen.insert(code.to_owned());
    }

    /// A block without transactions but the ledger's own.
    fn pass_time(&mut self) -> String {
        let time_ms = self.time_ms;
        self.chain().block(time_ms, &[]);
        match self.chain().due {
            0 => "nothing due".to_owned(),
            due => format!("{due} due"),
        }
    }

    pub fn send_raw(&mut self, raw: Vec<u8>) -> String {
        match self.chain().admit_raw(raw) {
            Ok(verified) => self.execute(verified),
            Err(error) => refused(&error),
        }
    }

    fn execute(&mut self, verified: Verified) -> String {
        let time_ms = self.time_ms;
        let body = &verified.prepared().transaction().body;
        let parties = u32::from(!body.parties().is_empty());
        let is_single = body.operations.len() == 1 + parties as usize;
        match self.chain().block(time_ms, &[verified]).pop().unwrap() {
            Err(error) => refused(&error),
            Ok(entry) => match entry.failed_operation {
                None => entry.result.code().to_owned(),
                Some(_) if is_single => entry.result.code().to_owned(),
                // Bankers count from 1, and don't count the parties.
                Some(number) => format!("{} in {}", entry.result.code(), number + 1 - parties),
            },
        }
    }
}

fn refused(error: &kanjo_types::transaction::Refused) -> String {
    format!("refused: {}", error.refusal.code())
}
