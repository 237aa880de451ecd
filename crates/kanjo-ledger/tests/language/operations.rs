//! What the words of a row ask the ledger to do.

use super::words::{Words, amount, moment, purse, seconds};
use super::world::World;
use kanjo_types::money::{Condition, Every, Leg, WhenShort, attribute_commitment};
use kanjo_types::record::RowKey;
use kanjo_types::{
    Access, BundleId, ClaimId, Hash, Operation, PendingId, Record, ScheduleId, Table,
};

const LONG: &str = "this reference is one byte longer than the 64 bytes that it may have";

impl World {
    pub fn operation(&mut self, who: &str, text: &str) -> Vec<Operation> {
        if let [times, "x", ..] = text.split_whitespace().collect::<Vec<_>>()[..] {
            let (_, rest) = text.split_once(" x ").unwrap();
            let operations = self.operation(who, rest);
            let times: usize = times.replace(',', "").parse().unwrap();
            return operations.iter().cycle().take(times * operations.len()).cloned().collect();
        }
        let first = text.split_whitespace().next().unwrap_or_default();
        let one = match first {
            "inserts" | "updates" | "deletes" | "alters" => self.table_operation(text),
            "creates" if text.starts_with("creates table") || text.starts_with("creates view") => {
                self.table_operation(text)
            }
            "creates" | "opens" | "changes" => self.registration(who, text),
            "issues" | "redeems" | "pays" => self.payment(who, text),
            "reserves" | "posts" | "voids" | "expires" => self.pending(who, text),
            "takes" | "proposes" | "agrees" | "declines" => self.bundle(text),
            "requires" => Operation::Require { condition: self.condition(&text[9..]) },
            "schedules" | "cancels" | "runs" => self.schedule(who, text),
            "admits" | "removes" | "readmits" | "allows" | "forbids" => {
                self.change_membership(text)
            }
            "commits" | "erases" | "settles" | "gives" => self.other(who, text),
            _ => self.act_operation(who, text),
        };
        vec![one]
    }

    fn registration(&mut self, who: &str, text: &str) -> Operation {
        let mut words = Words::new(text);
        let impossible = words.flag("with impossible keys");
        let unnamed = words.flag("without name");
        let decimals = words.measure("with").map_or(0, |(decimals, _)| decimals.parse().unwrap());
        let policy = words.clause("under");
        let grants = self.grants(&mut words);
        match words.0[..] {
            ["creates", "user", name] => {
                let _ = self.user(name);
                let mut access = self.key_set(name).access;
                if impossible {
                    let Access::Single(key) = access else { panic!("{name}") };
                    access = Access::Shared { threshold: 1, keys: vec![key, key] };
                }
                Operation::CreateUser { access, number: 0 }
            }
            ["opens", "wallet", wallet] => {
                let (owner, number) = purse(wallet);
                Operation::CreateWallet { owner: self.user(owner), number }
            }
            ["creates", "token", symbol, "for", issuer] => Operation::CreateToken {
                symbol: symbol.to_owned(),
                name: if unnamed { String::new() } else { "x".to_owned() },
                decimals,
                issuer: self.user(issuer),
                policy: Box::new(policy.map(|name| self.policy(name)).unwrap_or_default()),
                grants,
            },
            ["changes", "keys", "to", set] => {
                Operation::RotateKeys { user: self.user(who), access: self.key_set(set).access }
            }
            ["changes", "keys", "of", whose, "to", set] => {
                Operation::RotateKeys { user: self.user(whose), access: self.key_set(set).access }
            }
            _ => panic!("{}: '{text}' is not understood", self.place),
        }
    }

    fn payment(&mut self, who: &str, text: &str) -> Operation {
        let mut words = Words::new(text);
        let long = words.flag("with a long reference");
        let from = words.clause("from").unwrap_or(who);
        match words.0[..] {
            ["issues", value, symbol, "to", to] => Operation::Issue {
                token: self.token(symbol),
                to: self.wallet(to),
                amount: amount(value),
            },
            ["redeems", value, symbol] => Operation::Redeem {
                token: self.token(symbol),
                from: self.wallet(from),
                amount: amount(value),
            },
            ["pays", value, symbol, "to", to] => Operation::Transfer {
                token: self.token(symbol),
                from: self.wallet(from),
                to: self.wallet(to),
                amount: amount(value),
                reference: if long { LONG.to_owned() } else { String::new() },
            },
            ["pays", ppm, "ppm", "interest", "on", symbol] => {
                panic!("{}: {ppm} {symbol}: 'gives' interest", self.place)
            }
            _ => panic!("{}: '{text}' is not understood", self.place),
        }
    }

    pub fn pending_id(&self, text: &str) -> PendingId {
        let (id, operation) = self.made_by(text, |one| matches!(one, Operation::Reserve { .. }));
        PendingId::derive(id, operation, 0)
    }

    fn pending(&mut self, who: &str, text: &str) -> Operation {
        let mut words = Words::new(text);
        let long = words.flag("with a long reference");
        let from = words.clause("from").unwrap_or(who);
        let agent = words.clause("by").map(|name| self.user(name));
        let until = words.clause("until");
        let linked = words.flag("linked");
        match words.0[..] {
            ["reserves", value, symbol, "for", to] => Operation::Reserve {
                token: self.token(symbol),
                from: self.wallet(from),
                to: self.wallet(to),
                amount: amount(value),
                expires_ms: moment(until.expect("until when")),
                agent,
                linked,
                reference: if long { LONG.to_owned() } else { String::new() },
            },
            ["posts", pending] => {
                Operation::Post { pending: self.pending_id(pending), amount: None }
            }
            ["posts", value, "of", pending] => {
                Operation::Post { pending: self.pending_id(pending), amount: Some(amount(value)) }
            }
            ["voids", pending] => Operation::Void { pending: self.pending_id(pending) },
            ["expires", pending] => Operation::ExpirePending { pending: self.pending_id(pending) },
            _ => panic!("{}: '{text}' is not understood", self.place),
        }
    }

    pub fn bundle_id(&self, text: &str) -> BundleId {
        let makes = |one: &Operation| matches!(one, Operation::ProposeBundle { .. });
        let (id, operation) = self.made_by(text, makes);
        BundleId::derive(id, operation, 0)
    }

    /// `proposes to bob + carol until 30: 5 JPY alice > bob & 3 USD bob > alice if CONDITION & …`.
    fn bundle(&mut self, text: &str) -> Operation {
        let (head, rest) = text.split_once(':').unwrap_or((text, ""));
        let mut words = Words::new(head);
        let names = words.names("to").or_else(|| words.names("along")).unwrap_or_default();
        match (words.0[..].to_vec()[..].as_ref(), &names[..]) {
            (["takes"], names) => Operation::Parties {
                users: names.iter().filter(|n| **n != "none").map(|n| self.user(n)).collect(),
            },
            (["agrees"], [bundle]) => Operation::AgreeBundle { bundle: self.bundle_id(bundle) },
            (["declines", bundle], _) => {
                Operation::DeclineBundle { bundle: self.bundle_id(bundle) }
            }
            (["proposes", "until", until], names) => {
                let (legs, conditions) = rest.split_once(" if ").unwrap_or((rest, ""));
                let legs = legs.split('&').filter(|leg| !leg.trim().is_empty());
                let legs = legs.flat_map(|leg| self.legs(leg)).collect();
                let conditions = conditions.split('&').filter(|one| !one.trim().is_empty());
                Operation::ProposeBundle {
                    parties: self.users(names),
                    conditions: conditions.map(|one| self.condition(one)).collect(),
                    legs,
                    expires_ms: moment(until),
                }
            }
            _ => panic!("{}: '{text}' is not understood", self.place),
        }
    }

    /// `5 JPY alice > bob`, `65 x 5 JPY alice > bob`.
    fn legs(&mut self, text: &str) -> Vec<Leg> {
        match text.split_whitespace().collect::<Vec<_>>()[..] {
            [times, "x", ..] => {
                let (_, rest) = text.split_once(" x ").unwrap();
                vec![self.legs(rest)[0].clone(); times.parse().unwrap()]
            }
            [value, symbol, from, ">", to] => vec![Leg {
                token: self.token(symbol),
                from: self.wallet(from),
                to: self.wallet(to),
                amount: amount(value),
                reference: String::new(),
            }],
            _ => panic!("{}: leg '{text}'", self.place),
        }
    }

    fn condition(&mut self, text: &str) -> Condition {
        if let Some(condition) = self.table_condition(text) {
            return condition;
        }
        match text.split_whitespace().collect::<Vec<_>>()[..] {
            [wallet, "has", "at", "least", value, symbol] => Condition::BalanceAtLeast {
                wallet: self.wallet(wallet),
                token: self.token(symbol),
                amount: amount(value),
            },
            [wallet, "has", "at", "most", value, symbol] => Condition::BalanceAtMost {
                wallet: self.wallet(wallet),
                token: self.token(symbol),
                amount: amount(value),
            },
            [wallet, "approved", "for", symbol] => {
                Condition::Approved { wallet: self.wallet(wallet), token: self.token(symbol) }
            }
            [wallet, symbol, "as", "after", name] => Condition::StateIs {
                state: self.state_after(wallet, symbol, name),
                wallet: self.wallet(wallet),
                token: self.token(symbol),
            },
            [wallet, symbol, "never", "touched"] => Condition::StateIs {
                wallet: self.wallet(wallet),
                token: self.token(symbol),
                state: Hash::ZERO,
            },
            ["time", "from", time] => Condition::NotBefore { time_ms: moment(time) },
            ["time", "until", time] => Condition::NotAfter { time_ms: moment(time) },
            _ => panic!("{}: condition '{text}'", self.place),
        }
    }

    /// Hash of the state of a wallet that a transaction made.
    fn state_after(&mut self, wallet: &str, symbol: &str, name: &str) -> Hash {
        let place =
            (Table::WalletStates, RowKey::wallet_state(self.wallet(wallet), self.token(symbol)));
        let id = self.transaction(name);
        let mut entries = self.chain().blocks.iter().flat_map(|block| &block.entries);
        let entry = entries.find(|entry| entry.record.id == id).expect("was recorded");
        let row = entry.rows.iter().find(|row| row.record.place() == Some(place));
        row.expect("it touched the wallet").hash
    }

    pub fn schedule_id(&self, text: &str) -> ScheduleId {
        let (id, operation) = self.made_by(text, |one| matches!(one, Operation::Schedule { .. }));
        ScheduleId::derive(id, operation, 0)
    }

    /// `schedules 5 JPY to bob at 10 every 60 s times 3 or skips`.
    fn schedule(&mut self, who: &str, text: &str) -> Operation {
        let (head, short) = text.split_once(" or ").unwrap_or((text, "skips"));
        let mut words = Words::new(head);
        let long = words.flag("with a long reference");
        let from = words.clause("from").unwrap_or(who);
        let at = words.clause("at");
        let every = words.measure("every").map(|(number, unit)| match unit {
            "months" => Every::Months(number.parse().unwrap()),
            "s" => Every::Milliseconds(seconds(number)),
            other => panic!("{other}"),
        });
        let times = words.clause("times").map(|times| times.parse().unwrap());
        let when_short = match short.split_whitespace().collect::<Vec<_>>()[..] {
            ["skips"] => WhenShort::Skip,
            ["stops"] => WhenShort::Stop,
            ["retries", times, "after", time, "s"] => {
                WhenShort::Retry { after_ms: seconds(time), times: times.parse().unwrap() }
            }
            _ => panic!("{}: '{short}'", self.place),
        };
        match words.0[..] {
            ["schedules", value, symbol, "to", to] => Operation::Schedule {
                token: self.token(symbol),
                from: self.wallet(from),
                to: self.wallet(to),
                amount: amount(value),
                first_ms: moment(at.expect("at which time")),
                every,
                times,
                when_short,
                reference: if long { LONG.to_owned() } else { String::new() },
            },
            ["cancels", schedule] => {
                Operation::CancelSchedule { schedule: self.schedule_id(schedule) }
            }
            ["runs", schedule] => {
                Operation::RunSchedule { schedule: self.schedule_id(schedule), version: 1 }
            }
            _ => panic!("{}: '{text}' is not understood", self.place),
        }
    }

    /// Claim number 2 of the reversal r1: `r1#2`.
    pub fn claim_id(&self, text: &str) -> ClaimId {
        let (reversal, part) = text.split_once('#').unwrap_or((text, "1"));
        let makes =
            |one: &Operation| matches!(one, Operation::Act { .. } | Operation::ApproveAct { .. });
        let (id, operation) = self.made_by(reversal, makes);
        ClaimId::derive(id, operation, part.parse::<u32>().unwrap() - 1)
    }

    fn other(&mut self, who: &str, text: &str) -> Operation {
        let mut words = Words::new(text);
        let from = words.clause("from").unwrap_or(who);
        let to = words.names("to").unwrap_or_default();
        let value = words.clause("being").unwrap_or("x");
        match words.0[..] {
            ["commits", name, "of", user] => Operation::SetAttribute {
                user: self.user(user),
                name: name.to_owned(),
                commitment: attribute_commitment(&[1; 32], name, value),
            },
            ["erases", name, "of", user] => {
                Operation::EraseAttribute { user: self.user(user), name: name.to_owned() }
            }
            ["settles", claim] => Operation::SettleClaim { claim: self.claim_id(claim) },
            ["gives", ppm, "ppm", "interest", "on", symbol, "for", days, "days", "of", year] => {
                let to: Vec<_> = to.iter().filter(|name| **name != "none").copied().collect();
                let mut to: Vec<_> = to.iter().map(|wallet| self.wallet(wallet)).collect();
                if value == "many" {
                    to = vec![to[0]; 1_001];
                }
                Operation::PayInterest {
                    token: self.token(symbol),
                    from: self.wallet(from),
                    to,
                    rate_ppm: ppm.parse().unwrap(),
                    days: days.parse().unwrap(),
                    year: year.parse().unwrap(),
                }
            }
            _ => panic!("{}: '{text}' is not understood", self.place),
        }
    }

    /// The newest version of what stands beside the balances.
    pub fn standing(&mut self, table: Table, key: RowKey) -> Option<Record> {
        let rows = self.chain().ledger.standing(table);
        rows.get(&key).map(|row| row.record.clone())
    }
}
