//! What the rows beside the balances concern, for the index: users, wallets, tokens.

use kanjo_store::index::{IndexEntry, Subject};
use kanjo_types::money::{Act, FreezeTarget, Scope};
use kanjo_types::record::Table;
use kanjo_types::standing::ActRecord;
use kanjo_types::{Record, TokenId, UserId, WalletId};

const USER: u8 = 0;
const WALLET: u8 = 1;
const TOKEN: u8 = 2;

fn subject(kind: u8, id: &[u8]) -> Subject {
    let mut subject = [0u8; 17];
    let bytes = [kind].into_iter().chain(id.iter().copied());
    subject.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    subject
}

pub(crate) fn user(id: UserId) -> Subject {
    subject(USER, &id.0)
}

pub(crate) fn wallet(id: WalletId) -> Subject {
    subject(WALLET, &id.0)
}

pub(crate) fn token(id: TokenId) -> Subject {
    subject(TOKEN, &id.0.to_be_bytes())
}

fn scope(scope: Scope) -> Subject {
    match scope {
        Scope::Token(id) => token(id),
        Scope::User(id) => user(id),
    }
}

fn target(target: FreezeTarget) -> Option<Subject> {
    match target {
        FreezeTarget::Wallet(id) => Some(wallet(id)),
        FreezeTarget::User(id) => Some(user(id)),
        FreezeTarget::Token => None,
    }
}

fn of_act(record: &ActRecord) -> Vec<Subject> {
    let mut subjects = vec![scope(record.act.scope()), user(record.maker)];
    match &record.act {
        Act::Freeze { target: on, .. } | Act::Unfreeze { target: on, .. } => {
            subjects.extend(target(*on));
        }
        Act::SetTerms { wallet: on, .. } => subjects.push(wallet(*on)),
        _ => {}
    }
    subjects
}

/// What a version of a row concerns; nothing for the tables that have look-ups of their own.
fn of_record(record: &Record) -> Vec<Subject> {
    match record {
        Record::Pending(pending) => {
            let sides = [wallet(pending.from), wallet(pending.to), token(pending.token)];
            sides.into_iter().chain(pending.agent.map(user)).collect()
        }
        Record::Bundle(bundle) => bundle.parties.iter().map(|party| user(party.user)).collect(),
        Record::Schedule(schedule) => {
            vec![wallet(schedule.from), wallet(schedule.to), token(schedule.token)]
        }
        Record::Authority(authority) => {
            let holders = authority.holders.iter().copied().map(user);
            std::iter::once(scope(authority.scope)).chain(holders).collect()
        }
        Record::Act(act) => of_act(act),
        Record::Terms(terms) => vec![wallet(terms.wallet), token(terms.token)],
        Record::Freeze(freeze) => {
            std::iter::once(token(freeze.token)).chain(target(freeze.target)).collect()
        }
        Record::Reversal(reversal) => {
            let wallets = reversal.moves.iter().map(|moved| wallet(moved.wallet));
            std::iter::once(token(reversal.token)).chain(wallets).collect()
        }
        Record::Claim(claim) => {
            vec![wallet(claim.debtor), wallet(claim.creditor), token(claim.token)]
        }
        Record::Attribute(attribute) => vec![user(attribute.user), user(attribute.custodian)],
        // Found by their epochs, names and keys.
        Record::Membership(_)
        | Record::Relation(_)
        | Record::Row(_)
        | Record::User(_)
        | Record::Wallet(_)
        | Record::Token(_)
        | Record::WalletState(_)
        | Record::Transaction(_) => Vec::new(),
    }
}

/// Facts of a version of a row for the index: number `row` of the transaction at `position`.
pub(crate) fn facts(record: &Record, position: u32, row: u32, facts: &mut Vec<IndexEntry>) {
    if let Record::Wallet(wallet) = record {
        facts.push(IndexEntry::WalletOfUser { user: wallet.owner.0, wallet: wallet.id.0 });
        return;
    }
    let Some((table, key)) = record.place() else { return };
    // Holders and custodians may change; everything else is fixed by the first version.
    let may_repeat = matches!(table, Table::Authorities | Table::Attributes);
    if record.version() > 1 && !may_repeat {
        return;
    }
    let mut subjects = of_record(record);
    subjects.sort_unstable();
    subjects.dedup();
    let fact = |subject| IndexEntry::RowOfSubject {
        subject,
        table: table as u8,
        key: key.0.0,
        position,
        row,
        may_repeat,
    };
    facts.extend(subjects.into_iter().map(fact));
}
