//! Scenario tables a banker could read: `tests/scenarios/*.txt`. How to write one:
//! `tests/scenarios/README.md`.
#![allow(missing_docs, reason = "tests")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::{Chain, KeySet, START_MS};
use kanjo_ledger::Verified;
use kanjo_types::outcome::{Refusal, ResultCode};
use kanjo_types::signature::KeyKind;
use kanjo_types::{
    Access, Amount, ChainId, Genesis, Operation, SignedTransaction, TokenId, UserId, WalletId,
    codec,
};
use std::collections::{BTreeMap, BTreeSet};

/// The lines of one scenario.
struct Scenario {
    title: String,
    file: String,
    lines: Vec<(usize, String)>,
}

fn scenarios() -> Vec<Scenario> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios");
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder of scenarios")
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    paths.sort();
    let mut found: Vec<Scenario> = Vec::new();
    for path in paths {
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if let Some(title) = line.strip_prefix("scenario:") {
                let title = title.trim().to_owned();
                found.push(Scenario { title, file: file.clone(), lines: Vec::new() });
            } else if !line.is_empty() && !line.starts_with('#') && !line.starts_with("|--") {
                let scenario = found.last_mut().expect("a scenario starts with its title");
                scenario.lines.push((number, line.to_owned()));
            }
        }
    }
    found
}

/// A transaction as written in a row of a table.
struct Prepared {
    signed: SignedTransaction,
    verified: Option<Verified>,
}

/// One scenario under way.
struct World {
    genesis: Genesis,
    chain: Option<Chain>,
    key_sets: BTreeMap<String, KeySet>,
    people: BTreeMap<String, UserId>,
    kept: BTreeMap<String, Prepared>,
    time_ms: u64,
    salt: u64,
    place: String,
    seen: BTreeSet<String>,
}

fn amount(text: &str) -> Amount {
    match text {
        "max" => Amount(u128::MAX),
        "max-1" => Amount(u128::MAX - 1),
        digits => Amount(digits.replace(',', "").parse().unwrap_or_else(|_| panic!("{text}"))),
    }
}

fn kind(text: &str) -> KeyKind {
    match text {
        "ed25519" => KeyKind::Ed25519,
        "p256" => KeyKind::P256,
        "secp256k1" => KeyKind::Secp256k1,
        other => panic!("kind of key '{other}'"),
    }
}

fn seconds(text: &str) -> u64 {
    let (whole, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), "0"));
    let fraction: u64 = format!("{fraction:0<3}").parse().expect("milliseconds");
    whole.parse::<u64>().unwrap_or_else(|_| panic!("time '{text}'")) * 1_000 + fraction
}

impl World {
    fn new() -> Self {
        Self {
            genesis: common::empty_genesis(),
            chain: None,
            key_sets: BTreeMap::new(),
            people: BTreeMap::new(),
            kept: BTreeMap::new(),
            time_ms: START_MS,
            salt: 0,
            place: String::new(),
            seen: BTreeSet::new(),
        }
    }

    fn line(&mut self, line: &str) {
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
        let clauses = rest.split(',').map(str::trim).filter(|clause| !clause.is_empty());
        for clause in clauses {
            let words: Vec<&str> = clause.split_whitespace().collect();
            match word {
                "rules" => self.rule(&words),
                "keys" => self.keys(&words),
                "start" => self.start(&words),
                "balances" | "states" | "supply" | "versions" => self.check(word, &words),
                other => panic!("{}: '{other}:' is not known", self.place),
            }
        }
    }

    fn rule(&mut self, words: &[&str]) {
        let rules = &mut self.genesis.rules;
        match words {
            ["registration", "open"] => rules.open_registration = true,
            ["tokens", "open"] => rules.open_tokens = true,
            ["registration" | "tokens", "closed"] => {}
            ["window", seconds, "s"] => {
                rules.replay_window_ms = seconds.parse::<u64>().unwrap() * 1_000;
            }
            other => panic!("{}: rule {other:?}", self.place),
        }
    }

    /// `keys: firm = 2 of ed25519 p256 secp256k1`.
    fn keys(&mut self, words: &[&str]) {
        let [name, "=", threshold, "of", kinds @ ..] = words else { panic!("{}", self.place) };
        let kinds: Vec<KeyKind> = kinds.iter().map(|text| kind(text)).collect();
        let set = KeySet::new(name, threshold.parse().unwrap(), &kinds);
        self.key_sets.insert((*name).to_owned(), set);
    }

    fn key_set(&self, name: &str) -> KeySet {
        self.key_sets.get(name).cloned().unwrap_or_else(|| KeySet::single(name))
    }

    /// A user of the genesis, made on first mention.
    fn first(&mut self, name: &str) {
        if !self.genesis.users.iter().any(|user| user.name == name) {
            let user = common::first_user(name, &self.key_set(name));
            self.genesis.users.push(user);
        }
    }

    fn start(&mut self, words: &[&str]) {
        let (name, number) = purse(words[0]);
        self.first(name);
        match &words[1..] {
            ["operates"] => self.genesis.rules.operators.push(name.to_owned()),
            ["issues", symbol] => self.genesis.tokens.push(common::first_token(symbol, name)),
            ["has", "no", "wallet"] => {}
            ["holds", "nothing"] => {
                self.genesis.wallets.push(common::first_wallet(name, number, &[]));
            }
            ["holds", value, symbol] => {
                let same = |wallet: &&mut kanjo_types::genesis::FirstWallet| {
                    wallet.owner == name && wallet.number == number
                };
                let held = amount(value);
                match self.genesis.wallets.iter_mut().find(same) {
                    Some(wallet) => {
                        wallet.balances.insert((*symbol).to_owned(), held);
                    }
                    None => self.genesis.wallets.push(common::first_wallet(
                        name,
                        number,
                        &[(symbol, held.0)],
                    )),
                }
            }
            other => panic!("{}: start {other:?}", self.place),
        }
    }

    fn chain(&mut self) -> &mut Chain {
        if self.chain.is_none() {
            let chain = Chain::new(self.genesis.clone());
            for user in &self.genesis.users {
                self.people.insert(user.name.clone(), self.genesis.user_id(&user.name).unwrap());
            }
            self.chain = Some(chain);
        }
        self.chain.as_mut().unwrap()
    }

    fn chain_id(&mut self) -> ChainId {
        self.chain().chain()
    }

    fn user(&mut self, name: &str) -> UserId {
        let chain = self.chain_id();
        if name == "nobody" {
            return UserId([0xee; 16]);
        }
        let access = self.key_set(name).access;
        *self.people.entry(name.to_owned()).or_insert_with(|| UserId::derive(chain, &access, 0))
    }

    fn wallet(&mut self, text: &str) -> WalletId {
        if text == "nowhere" {
            return WalletId([0xdd; 16]);
        }
        let (name, number) = purse(text);
        let owner = self.user(name);
        WalletId::derive(self.chain_id(), owner, number)
    }

    fn token(&mut self, symbol: &str) -> TokenId {
        if let Some(number) = symbol.strip_prefix('#') {
            return TokenId(number.parse().unwrap());
        }
        let tokens = self.chain().ledger.tokens();
        let found = tokens.rows(0).iter().find(|row| row.record.symbol == symbol);
        found.map_or(TokenId(999), |row| row.record.id)
    }
}

/// `bob/2` is bob's wallet number 2, `bob` his first.
fn purse(text: &str) -> (&str, u64) {
    match text.split_once('/') {
        Some((name, number)) => (name, number.parse().expect("number of a wallet")),
        None => (text, 0),
    }
}

impl World {
    fn operation(&mut self, who: &str, text: &str) -> Vec<Operation> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let one = match words[..] {
            [times, "x", ..] => {
                let (_, rest) = text.split_once(" x ").unwrap();
                let operations = self.operation(who, rest);
                let times: usize = times.replace(',', "").parse().unwrap();
                return operations.iter().cycle().take(times * operations.len()).cloned().collect();
            }
            ["creates", "user", name] => {
                let _ = self.user(name);
                Operation::CreateUser { access: self.key_set(name).access, number: 0 }
            }
            ["creates", "user", name, "with", "impossible", "keys"] => {
                let Access::Single(key) = self.key_set(name).access else { panic!("{name}") };
                let access = Access::Shared { threshold: 1, keys: vec![key, key] };
                Operation::CreateUser { access, number: 0 }
            }
            ["opens", "wallet", wallet] => {
                let (owner, number) = purse(wallet);
                Operation::CreateWallet { owner: self.user(owner), number }
            }
            ["creates", "token", symbol, "for", issuer] => self.new_token(symbol, issuer, "x", 0),
            ["creates", "token", symbol, "for", issuer, "without", "name"] => {
                self.new_token(symbol, issuer, "", 0)
            }
            ["creates", "token", symbol, "for", issuer, "with", decimals, "decimals"] => {
                self.new_token(symbol, issuer, "x", decimals.parse().unwrap())
            }
            ["issues", value, symbol, "to", to] => Operation::Issue {
                token: self.token(symbol),
                to: self.wallet(to),
                amount: amount(value),
            },
            ["redeems", value, symbol] => self.redeem(value, symbol, who),
            ["redeems", value, symbol, "from", from] => self.redeem(value, symbol, from),
            ["pays", value, symbol, "to", to] => self.pay(value, symbol, who, to, ""),
            ["pays", value, symbol, "to", to, "with", "a", "long", "reference"] => {
                self.pay(value, symbol, who, to, &"x".repeat(65))
            }
            ["pays", value, symbol, "from", from, "to", to] => {
                self.pay(value, symbol, from, to, "")
            }
            ["changes", "keys", "to", set] => {
                Operation::RotateKeys { user: self.user(who), access: self.key_set(set).access }
            }
            ["changes", "keys", "of", whose, "to", set] => {
                Operation::RotateKeys { user: self.user(whose), access: self.key_set(set).access }
            }
            _ => panic!("{}: '{text}' is not understood", self.place),
        };
        vec![one]
    }

    fn new_token(&mut self, symbol: &str, issuer: &str, name: &str, decimals: u8) -> Operation {
        let (symbol, name) = (symbol.to_owned(), name.to_owned());
        Operation::CreateToken {
            symbol,
            name,
            decimals,
            issuer: self.user(issuer),
            policy: Box::default(),
            grants: Vec::new(),
        }
    }

    fn redeem(&mut self, value: &str, symbol: &str, from: &str) -> Operation {
        let (token, from) = (self.token(symbol), self.wallet(from));
        Operation::Redeem { token, from, amount: amount(value) }
    }

    fn pay(&mut self, value: &str, symbol: &str, from: &str, to: &str, note: &str) -> Operation {
        Operation::Transfer {
            token: self.token(symbol),
            from: self.wallet(from),
            to: self.wallet(to),
            amount: amount(value),
            reference: note.to_owned(),
        }
    }

    /// Signs what a row says. `who` is `alice`, or `alice with KEYS`, `alice with 0 2`, `alice with
    /// KEYS 0 2`.
    fn sign(&mut self, who: &str, does: &str) -> SignedTransaction {
        let (name, with) = who.split_once(" with ").unwrap_or((who, ""));
        let mut parts = does.split(", ").map(str::trim);
        let texts: Vec<&str> = parts.next().unwrap().split(';').map(str::trim).collect();
        let mut operations = Vec::new();
        for text in texts.iter().filter(|text| **text != "nothing") {
            operations.extend(self.operation(name, text));
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
        signed.body.salt += if altered { 1_000_000 } else { 0 };
        signed
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

    fn send_raw(&mut self, raw: Vec<u8>) -> String {
        match self.chain().admit_raw(raw) {
            Ok(verified) => self.execute(verified),
            Err(error) => refused(&error),
        }
    }

    fn execute(&mut self, verified: Verified) -> String {
        let time_ms = self.time_ms;
        match self.chain().block(time_ms, &[verified]).pop().unwrap() {
            Err(error) => refused(&error),
            Ok(entry) => match entry.failed_operation {
                None => entry.result.code().to_owned(),
                // Bankers count from 1.
                Some(0) if is_single(&entry.raw) => entry.result.code().to_owned(),
                Some(number) => format!("{} in {}", entry.result.code(), number + 1),
            },
        }
    }

    /// `balances: bob/1 5 JPY`, `versions: bob 3 JPY`, `supply: 7 JPY`, `states: 4`.
    fn check(&mut self, what: &str, words: &[&str]) {
        let place = self.place.clone();
        match (what, words) {
            ("states", [count]) => {
                let states = self.chain().ledger.states().len();
                assert_eq!(states, count.parse::<usize>().unwrap(), "{place}");
            }
            ("supply", [value, symbol]) => {
                let token = self.token(symbol);
                let supply = self.chain().ledger.circulating(token);
                assert_eq!(Amount(supply), amount(value), "{place}: {symbol}");
            }
            (_, [wallet, value, symbol]) => {
                let key = (self.wallet(wallet), self.token(symbol));
                let state = self.chain().ledger.states().get(&key);
                let (balance, version) = state.map_or((0, 0), |row| (row.balance.0, row.version));
                let found = if what == "versions" { u128::from(version) } else { balance };
                assert_eq!(Amount(found), amount(value), "{place}: {wallet} {symbol}");
            }
            _ => panic!("{place}: '{what}: {words:?}' is not understood"),
        }
    }
}

fn is_single(raw: &[u8]) -> bool {
    let transaction: SignedTransaction = codec::from_bytes(raw).unwrap();
    transaction.body.operations.len() == 1
}

fn refused(error: &kanjo_types::transaction::Refused) -> String {
    format!("refused: {}", error.refusal.code())
}

fn play(scenario: &Scenario) -> BTreeSet<String> {
    let mut world = World::new();
    for (number, line) in &scenario.lines {
        world.place = format!("{}:{number} ({})", scenario.file, scenario.title);
        world.line(line);
    }
    world.seen
}

#[test]
fn every_scenario_ends_as_its_table_says() {
    let scenarios = scenarios();
    assert!(scenarios.len() > 20, "scenarios are found");
    let titles: BTreeSet<&str> = scenarios.iter().map(|scenario| scenario.title.as_str()).collect();
    assert_eq!(titles.len(), scenarios.len(), "titles differ");
    // All are played, so that a change of the rules shows everything it changes.
    let played: Vec<_> =
        scenarios.iter().map(|scenario| std::panic::catch_unwind(|| play(scenario))).collect();
    let failed = played.iter().filter(|played| played.is_err()).count();
    assert_eq!(failed, 0, "scenarios that ended otherwise; see above");
    let seen: BTreeSet<String> = played.into_iter().flatten().flatten().collect();
    // 4 billion tokens don't fit a test; the last three refusals are the node's.
    let results = ResultCode::ALL.iter().filter(|code| **code != ResultCode::TokensExhausted);
    let refusals = Refusal::ALL.iter().filter(|code| **code < Refusal::Overloaded);
    let codes = results.map(|code| code.code()).chain(refusals.map(|code| code.code()));
    for code in codes {
        assert!(seen.contains(code), "no scenario shows '{code}'");
    }
}
