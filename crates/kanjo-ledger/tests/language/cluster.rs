//! The cluster: its start, changes by governors, what members say.

use super::words::Words;
use super::world::World;
use crate::common::cluster::{doubt, first_voters, node, state};
use kanjo_types::membership::{
    Measurement, MemberKind, MemberStatus, MembershipChange, Notice, Statement,
};
use kanjo_types::{Hash, Operation};

/// A program by its name.
fn program(name: &str) -> Hash {
    let mut bytes = [0u8; 32];
    bytes.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
    Hash(bytes)
}

fn measurement(name: &str) -> Measurement {
    Measurement { program: program(name), note: name.to_owned() }
}

fn numbers(words: &[&str]) -> Vec<u16> {
    words.iter().filter(|word| **word != "+").map(|word| word.parse().unwrap()).collect()
}

impl World {
    /// `cluster: 4 voters, 3 voters + 1 witnesses, governed by ann + bob threshold 2, running p q`.
    pub fn cluster(&mut self, words: &[&str]) {
        match words {
            [executors, "voters"] => {
                let executors = executors.replace('_', "").parse().unwrap();
                self.genesis.voters = first_voters(executors, 0);
            }
            [executors, "voters", "+", witnesses, "witnesses"] => {
                let counts = (executors.parse().unwrap(), witnesses.parse().unwrap());
                self.genesis.voters = first_voters(counts.0, counts.1);
            }
            ["governed", "by", ..] => {
                let mut words = Words(words.to_vec());
                let threshold = words.clause("threshold").map_or(1, |text| text.parse().unwrap());
                let names = words.names("by").unwrap_or_default();
                let cluster = &mut self.genesis.cluster;
                cluster.governors = names.iter().map(|name| (*name).to_owned()).collect();
                cluster.threshold = threshold;
            }
            ["running", programs @ ..] => {
                let programs = programs.iter().map(|name| measurement(name)).collect();
                self.genesis.cluster.measurements = programs;
            }
            other => panic!("{}: cluster {other:?}", self.place),
        }
    }

    /// `admits 7`, `admits witness 7 called node-1 with vote key of 2`, `removes 1`, `readmits 1`,
    /// `allows p`, `forbids p`.
    pub fn change_membership(&mut self, text: &str) -> Operation {
        let mut words = Words::new(text);
        let witness = words.flag("witness");
        let name = words.clause("called");
        let vote_key = words.clause("with vote key of");
        let link_key = words.clause("with link key of");
        let reason = words.clause("because").unwrap_or_default().replace("\\n", "\n");
        let change = match words.0[..] {
            ["admits", number] => {
                let kind = if witness { MemberKind::Witness } else { MemberKind::Executor };
                let mut node = node(number.parse().unwrap(), kind);
                let other = |number: &str| {
                    crate::common::cluster::node(number.parse().unwrap(), MemberKind::Executor)
                };
                name.iter().for_each(|name| (*name).clone_into(&mut node.name));
                vote_key.iter().for_each(|number| node.vote_key = other(number).vote_key);
                link_key.iter().for_each(|number| node.link_key = other(number).link_key);
                MembershipChange::Admit { certificate: Box::new(node) }
            }
            ["removes", number] => {
                MembershipChange::Remove { member: number.parse().unwrap(), reason }
            }
            ["readmits", number] => {
                MembershipChange::Readmit { member: number.parse().unwrap(), reason }
            }
            ["allows", name] => MembershipChange::Allow { measurement: measurement(name) },
            ["forbids", name] => MembershipChange::Disallow { program: program(name) },
            _ => panic!("{}: '{text}' is not understood", self.place),
        };
        Operation::ChangeMembership { change }
    }

    /// What the row `says` makes of the members in `who`: `1 leaves`, `1 returns`, `2 + 3 are
    /// gone`, `2 voted otherwise at 4`.
    fn notice(&mut self, who: &str, says: &str) -> (Notice, Vec<Statement>) {
        let notice = match says.split_whitespace().collect::<Vec<_>>()[..] {
            [member, "leaves"] => Notice::Leave { member: member.parse().unwrap() },
            [member, "returns"] => Notice::Return { member: member.parse().unwrap() },
            [ref members @ .., "gone"] => Notice::Eject { members: numbers(members) },
            [member, "voted", "otherwise", "at", height] => {
                let (height, member) = (height.parse().unwrap(), member.parse().unwrap());
                doubt(&self.chain().ledger, height, member)
            }
            _ => panic!("{}: '{says}' is not understood", self.place),
        };
        let words: Vec<&str> = who.split_whitespace().skip(1).collect();
        let ledger = &self.chain().ledger;
        let statements = state(ledger, ledger.membership().epoch, &notice, &numbers(&words));
        (notice, statements)
    }

    /// `says: 1 leaves`, or `says: 1 leaves; 2 leaves` in one block: `taken`, or why not.
    pub fn hear(&mut self, who: &str, says: &str) -> String {
        let notices: Vec<_> = says.split(';').map(|one| self.notice(who, one)).collect();
        let time_ms = self.time_ms;
        let outcomes = self.chain().hear(time_ms, &notices);
        let texts = outcomes.iter().map(|outcome| match outcome {
            Ok(_) => "taken".to_owned(),
            Err(error) => error.to_string(),
        });
        texts.collect::<Vec<_>>().join("; ")
    }

    pub fn member_text(&mut self, number: &str) -> String {
        let membership = self.chain().ledger.membership();
        let member = membership.member(number.parse().unwrap());
        match member.map(|member| member.status) {
            None => "unknown",
            Some(MemberStatus::Voting) => "voting",
            Some(MemberStatus::Standby) => "standby",
            Some(MemberStatus::Left) => "left",
            Some(MemberStatus::Ejected) => "ejected",
            Some(MemberStatus::Doubted) => "doubted",
            Some(MemberStatus::Removed) => "removed",
        }
        .to_owned()
    }
}
