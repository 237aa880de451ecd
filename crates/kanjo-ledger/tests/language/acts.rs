//! Administrative acts in words, and the evidence that reversals bring.

use super::words::{Words, amount, moment, seconds};
use super::world::World;
use crate::common::evidence_of;
use kanjo_types::money::{Act, Direction, Evidence, FreezeTarget, Grant, Order, Reason, Role};
use kanjo_types::{ActId, Amount, Hash, Operation, ResultCode, TransactionId};

fn role(text: &str) -> Role {
    match text {
        "issuer" => Role::Issuer,
        "freezer" => Role::Freezer,
        "reverser" => Role::Reverser,
        "approver" => Role::Approver,
        "auditor" => Role::Auditor,
        "governor" => Role::Governor,
        "guardian" => Role::Guardian,
        other => panic!("role '{other}'"),
    }
}

impl World {
    fn grant(&mut self, role: Role, names: &[&str], threshold: Option<&str>) -> Grant {
        let threshold = threshold.map_or(1, |text| text.parse().unwrap());
        let mut holders = self.users(names);
        // `zed + zed` is no mistake of the table: it is one that the ledger must find.
        holders.retain(|user| *user != kanjo_types::UserId([0; 16]));
        Grant { role, holders, threshold }
    }

    /// `granting freezer to fred + fiona threshold 2 and approver to ann`.
    pub fn grants(&mut self, words: &mut Words<'_>) -> Vec<Grant> {
        let Some(at) = words.0.iter().position(|word| *word == "granting") else {
            return Vec::new();
        };
        let rest = words.0.split_off(at);
        let grants = rest[1..].split(|word| *word == "and");
        grants
            .map(|grant| {
                let mut words = Words(grant.to_vec());
                let threshold = words.clause("threshold");
                let names = words.names("to").expect("to whom");
                self.grant(role(words.0[0]), &names, threshold)
            })
            .collect()
    }

    pub fn act_id(&self, text: &str) -> ActId {
        let (id, operation) = self.made_by(text, |one| matches!(one, Operation::Act { .. }));
        ActId::derive(id, operation, 0)
    }

    /// What deals with acts: orders them, or answers to an order.
    pub fn act_operation(&mut self, who: &str, text: &str) -> Operation {
        let mut words = Words::new(text);
        let code = words.clause("because").unwrap_or("TEST").to_owned();
        let expires = words.clause("agreeing by").map(moment);
        match words.0[..] {
            ["approves", act] => Operation::ApproveAct { act: self.act_id(act), evidence: vec![] },
            ["approves", act, "with", "evidence"] => {
                let record = self.act_record(act).expect("a recorded act");
                let Act::Reverse { originals, trail, .. } = record.act else { panic!("{text}") };
                let evidence = originals.iter().chain(&trail).map(|id| self.evidence(*id));
                Operation::ApproveAct { evidence: evidence.collect(), act: self.act_id(act) }
            }
            ["rejects", act] => Operation::RejectAct { act: self.act_id(act) },
            ["finishes", act] => Operation::FinishAct { act: self.act_id(act) },
            ["names", "guardians", ..] => {
                let (delay, _) = words.measure("after").expect("after which delay");
                let threshold = words.clause("threshold");
                let role = role(words.clause("of").unwrap_or("guardian"));
                let names = words.names("guardians").expect("guardians");
                let grant = self.grant(role, &names, threshold);
                Operation::SetGuardians { grant, delay_ms: seconds(delay) }
            }
            _ => {
                let (act, evidence) = self.act(who, text, &mut words);
                let reason = Reason { code, reference: String::new() };
                let expires_ms = expires.unwrap_or(self.time_ms + 60_000);
                Operation::Act { order: Box::new(Order { act, reason, expires_ms }), evidence }
            }
        }
    }

    fn act(&mut self, who: &str, text: &str, words: &mut Words<'_>) -> (Act, Vec<Evidence>) {
        let act = match words.0[0] {
            "reverses" => return self.reversal(words),
            "freezes" | "unfreezes" => self.freeze(words),
            "sets" => self.terms(words),
            "makes" => {
                let threshold = words.clause("threshold");
                let names = words.names("makes").expect("whom");
                let [name, "of", symbol] = words.0[..] else { panic!("{}", self.place) };
                Act::SetRole {
                    token: self.token(symbol),
                    grant: self.grant(role(name), &names, threshold),
                }
            }
            _ => match words.0[..] {
                ["orders", value, symbol, "issued", "to", to] => Act::Issue {
                    token: self.token(symbol),
                    to: self.wallet(to),
                    amount: amount(value),
                },
                ["orders", value, symbol, "redeemed"] => Act::Redeem {
                    token: self.token(symbol),
                    from: self.wallet(who),
                    amount: amount(value),
                },
                ["orders", value, symbol, "redeemed", "from", from] => Act::Redeem {
                    token: self.token(symbol),
                    from: self.wallet(from),
                    amount: amount(value),
                },
                ["puts", symbol, "under", policy] => Act::SetPolicy {
                    token: self.token(symbol),
                    policy: Box::new(self.policy(policy)),
                },
                ["recovers", user, "with", set] => Act::Recover {
                    user: self.user(user),
                    access: Box::new(self.key_set(set).access),
                },
                ["audits", "block", height, "for", symbol] => Act::Audit {
                    token: self.token(symbol),
                    height: height.parse().unwrap(),
                    header: Hash([1; 32]),
                },
                _ => panic!("{}: '{text}' is not understood", self.place),
            },
        };
        (act, Vec::new())
    }

    /// `freezes wallet bob in JPY both until 50`, `unfreezes user bob in JPY`, `freezes all in
    /// JPY`.
    fn freeze(&mut self, words: &mut Words<'_>) -> Act {
        let until_ms = words.clause("until").map(moment);
        let token = words.clause("in").expect("in which token");
        let target = match words.0[1..] {
            ["wallet", wallet, ..] => FreezeTarget::Wallet(self.wallet(wallet)),
            ["user", user, ..] => FreezeTarget::User(self.user(user)),
            ["all", ..] => FreezeTarget::Token,
            _ => panic!("{}: what is frozen?", self.place),
        };
        let direction = match words.0.last() {
            Some(&"incoming") => Direction::Incoming,
            Some(&"outgoing") => Direction::Outgoing,
            _ => Direction::Both,
        };
        let token = self.token(token);
        if words.0[0] == "freezes" {
            Act::Freeze { token, target, direction, until_ms }
        } else {
            Act::Unfreeze { token, target }
        }
    }

    /// `sets alice in JPY approved class 1 credit 50`.
    fn terms(&mut self, words: &mut Words<'_>) -> Act {
        let token = words.clause("in").expect("in which token");
        let class = words.clause("class").map_or(0, |text| text.parse().unwrap());
        let value = |text: Option<&str>| text.map_or(Amount::ZERO, amount);
        let credit = value(words.clause("credit"));
        let floor = value(words.clause("floor"));
        let approved = words.flag("approved");
        let ["sets", wallet] = words.0[..] else { panic!("{}: {:?}", self.place, words.0) };
        let (token, wallet) = (self.token(token), self.wallet(wallet));
        Act::SetTerms { token, wallet, approved, class, credit, floor }
    }

    pub fn evidence(&mut self, id: TransactionId) -> Evidence {
        evidence_of(self.chain(), id).expect("it was recorded")
    }

    /// `reverses t2 + t1 in JPY following t3`, each with its evidence unless it says otherwise.
    fn reversal(&mut self, words: &mut Words<'_>) -> (Act, Vec<Evidence>) {
        let without = words.flag("without evidence");
        let shown = words.names("showing");
        let altered = words.clause("altering its");
        let token = words.clause("in").expect("in which token");
        let token = self.token(token);
        let many = words.flag("many times");
        let trail = words.names("following").unwrap_or_default();
        let originals = words.names("reverses").unwrap_or_default();
        let mut shown = shown.unwrap_or_else(|| [&originals[..], &trail[..]].concat());
        shown.retain(|name| *name != "nothing" && *name != "none");
        let id = |name: &&str| self.transaction(name);
        let mut originals: Vec<_> =
            originals.iter().filter(|name| **name != "none").map(id).collect();
        let trail: Vec<_> = trail.iter().map(id).collect();
        let shown: Vec<_> = shown.iter().map(id).collect();
        let mut evidence: Vec<_> = if without { &[][..] } else { &shown[..] }
            .iter()
            .map(|id| self.evidence(*id))
            .collect();
        if let Some(part) = altered {
            alter(&mut evidence[0], part);
        }
        if many {
            originals = (0..257u16).map(numbered).collect();
        }
        (Act::Reverse { token, originals, trail }, evidence)
    }
}

fn numbered(number: u16) -> TransactionId {
    let mut id = [0u8; 32];
    id[..2].copy_from_slice(&number.to_be_bytes());
    TransactionId(Hash(id))
}

/// Changes evidence, so that it no longer proves what it says.
fn alter(evidence: &mut Evidence, part: &str) {
    let flip = |hash: &mut Hash| hash.0[5] ^= 1;
    match part {
        "header" => evidence.header.time_ms += 1,
        "height" => evidence.header.height += 1_000,
        "record" => evidence.record.time_ms += 1,
        "position" => evidence.record.position += 1,
        "result" => evidence.receipt.result = ResultCode::PolicyForbids,
        "receipt" => flip(&mut evidence.receipt.rows_root),
        "count" => evidence.receipt.rows += 1,
        "path" => evidence.path.push(Hash::ZERO),
        "rows" => {
            evidence.rows.pop();
        }
        "order" => evidence.rows.reverse(),
        "balance" => {
            let Some(kanjo_types::Record::WalletState(state)) = evidence.rows.last_mut() else {
                panic!("a wallet state last")
            };
            state.balance.0 += 1;
        }
        "past" => {
            let Some(kanjo_types::Record::WalletState(state)) = evidence.before.first_mut() else {
                panic!("a wallet state first")
            };
            state.balance.0 += 1;
        }
        "lack" => {
            evidence.before.pop();
        }
        "surplus" => {
            let again = evidence.before[0].clone();
            evidence.before.push(again);
        }
        other => panic!("alter '{other}'"),
    }
}
