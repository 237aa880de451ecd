//! Reversal: what transactions did in a token is undone (mission M5).
//!
//! Nothing is deleted: a reversal is a transaction of its own that moves money the other way, and
//! says so in the table of reversals for each transaction it undoes.
//!
//! Over all originals, each wallet's changes of worth are added up. What a wallet gained it must
//! return, what it lost it gets. A series a → b → c, undone whole, so takes from c and gives to a;
//! b neither needs nor gets anything. When a wallet that must return money has spent it, the
//! token's policy decides: refuse, leave a claim, or follow the money along a trail of payments.

use crate::claim::Owed;
use crate::evidence::{self, Change, Proven};
use crate::execute::Step;
use crate::ledger::Ledger;
use crate::signed::Signed;
use crate::table::Row as _;
use crate::turn::Turn;
use kanjo_types::money::Evidence;
use kanjo_types::outcome::ResultCode;
use kanjo_types::policy::{MovedOn, ReversalRule};
use kanjo_types::record::{Record, RowKey, Table};
use kanjo_types::standing::{Links, ReversalKind, ReversalMove, ReversalRecord};
use kanjo_types::{ActId, Amount, Hash, TokenId, TransactionId, WalletId};
use std::collections::BTreeMap;

/// What each wallet must return (above zero) or gets (below zero).
type Net = BTreeMap<WalletId, Signed>;

/// Who must still return money, or still gets some.
type Parts = Vec<(WalletId, u128)>;

impl Ledger {
    /// Undoes originals (newest first); the trail (oldest first) shows where their money went.
    pub(crate) fn reverse(
        &mut self,
        turn: &Turn<'_>,
        act: ActId,
        token: TokenId,
        (originals, trail): (&[TransactionId], &[TransactionId]),
        evidence: &[Evidence],
    ) -> Step {
        let policy = self.policy(token, turn.time_ms());
        let rule = policy.and_then(|policy| policy.reversal).ok_or(ResultCode::PolicyForbids)?;
        let (originals, trail) = prove(turn, token, (originals, trail), evidence)?;
        for original in &originals {
            self.check_original(turn, token, rule, original)?;
        }
        for followed in &trail {
            self.check_untouched(token, followed)?;
        }
        let mut net = net_of(&originals)?;
        let followed = self.follow(token, &mut net, &originals, &trail)?;
        for original in &originals {
            let moves = original.changes.iter().map(undone).collect();
            self.draft_reversal(act, token, original, ReversalKind::Reversed, moves);
        }
        for (payment, moves) in trail.iter().zip(followed) {
            self.draft_reversal(act, token, payment, ReversalKind::Followed, moves);
        }
        self.move_back(turn, act, token, rule.moved_on, &net)
    }

    fn check_original(
        &self,
        turn: &Turn<'_>,
        token: TokenId,
        rule: ReversalRule,
        original: &Proven,
    ) -> Step {
        if original.time_ms.saturating_add(rule.window_ms) < turn.time_ms() {
            return Err(ResultCode::ReversalTooLate);
        }
        self.check_untouched(token, original)?;
        // Issuing and redeeming change the sum.
        let sum = original
            .changes
            .iter()
            .try_fold(Signed::default(), |sum, change| sum.checked_add(change.delta));
        if original.changes.is_empty() || sum.is_none_or(|sum| !sum.is_zero()) {
            return Err(ResultCode::NotReversible);
        }
        Ok(())
    }

    /// Passed, not undone or followed before, and no reversal itself.
    fn check_untouched(&self, token: TokenId, transaction: &Proven) -> Step {
        let key = RowKey::reversal(transaction.id, token);
        if self.standing_record(Table::Reversals, key).is_some() {
            return Err(ResultCode::AlreadyReversed);
        }
        if !transaction.result.is_ok() || transaction.is_reversal {
            return Err(ResultCode::NotReversible);
        }
        Ok(())
    }

    /// Follows the money along the trail, payment by payment: who paid on what it lacks now passes
    /// the duty to return it to those it paid. Gives what each payment passed on.
    fn follow(
        &self,
        token: TokenId,
        net: &mut Net,
        originals: &[Proven],
        trail: &[Proven],
    ) -> Result<Vec<Vec<ReversalMove>>, ResultCode> {
        let mut earlier = originals.iter().rev().peekable();
        let mut held = BTreeMap::new();
        let mut followed = Vec::with_capacity(trail.len());
        for payment in trail {
            while let Some(original) = earlier.next_if(|original| original.at < payment.at) {
                for change in &original.changes {
                    let sum: &mut u128 = held.entry(change.wallet).or_default();
                    *sum = sum.saturating_add(change.delta.gain());
                }
            }
            let moves = self.pass_on(token, net, &mut held, payment)?;
            // Also one that came before the money it is to follow.
            if moves.is_empty() {
                return Err(ResultCode::BadEvidence);
            }
            followed.push(moves);
        }
        Ok(followed)
    }

    /// One payment of the trail. `held` is what each wallet had got until then of the money that is
    /// followed: nobody answers for more than passed through that payment.
    fn pass_on(
        &self,
        token: TokenId,
        net: &mut Net,
        held: &mut BTreeMap<WalletId, u128>,
        payment: &Proven,
    ) -> Result<Vec<ReversalMove>, ResultCode> {
        let mut moves = Vec::new();
        let mut receivers: Vec<(&Change, u128)> = payment
            .changes
            .iter()
            .filter(|change| change.delta.gain() > 0)
            .map(|change| (change, 0))
            .collect();
        for payer in payment.changes.iter().filter(|change| change.delta.loss() > 0) {
            let (balance, _) = self.state_now(payer.wallet, token);
            let owed = net.get(&payer.wallet).copied().unwrap_or_default().gain();
            let got = held.get(&payer.wallet).copied().unwrap_or_default();
            let most = owed.saturating_sub(balance.0).min(payer.delta.loss()).min(got);
            let mut left = most;
            for (receiver, passed) in &mut receivers {
                let part = left.min(receiver.delta.gain().saturating_sub(*passed));
                if part > 0 {
                    left -= part;
                    *passed = passed.saturating_add(part);
                    pass(net, held, payer.wallet, receiver.wallet, part)?;
                }
            }
            let given = most - left;
            if given > 0 {
                let (wallet, undone) = (payer.wallet, payer.state);
                moves.push(ReversalMove {
                    wallet,
                    undone,
                    taken: Amount::ZERO,
                    given: Amount(given),
                });
            }
        }
        let passed = receivers.into_iter().filter(|(_, passed)| *passed > 0);
        moves.extend(passed.map(|(receiver, passed)| ReversalMove {
            wallet: receiver.wallet,
            undone: receiver.state,
            taken: Amount(passed),
            given: Amount::ZERO,
        }));
        Ok(moves)
    }

    fn draft_reversal(
        &mut self,
        act: ActId,
        token: TokenId,
        transaction: &Proven,
        kind: ReversalKind,
        moves: Vec<ReversalMove>,
    ) {
        let token_record = self.tokens.get(&token).map_or(Hash::ZERO, |row| row.hash());
        self.draft_standing(Record::Reversal(Box::new(ReversalRecord {
            original: transaction.id,
            token,
            links: Links::default(),
            kind,
            original_record: transaction.record,
            token_record,
            act,
            moves,
        })));
    }

    /// Takes the money where it is and gives it back; leaves claims for the rest where the policy
    /// says so. Freezes, limits and approval don't stop it.
    fn move_back(
        &mut self,
        turn: &Turn<'_>,
        act: ActId,
        token: TokenId,
        moved_on: MovedOn,
        net: &Net,
    ) -> Step {
        let (rests, mut collected) = self.collect(token, moved_on, net)?;
        let mut missing: Parts = Vec::new();
        for (wallet, delta) in net.iter().filter(|(_, delta)| delta.loss() > 0) {
            let now = collected.min(delta.loss());
            collected -= now;
            if now > 0 {
                self.wallet_owner(*wallet, token).ok_or(ResultCode::UnknownTargetWallet)?;
                self.credit(*wallet, token, Amount(now))?;
            }
            if now < delta.loss() {
                missing.push((*wallet, delta.loss() - now));
            }
        }
        self.leave_claims(turn, token, act, &matched(&rests, &missing))
    }

    /// Takes what wallets must return: what they lack, and how much was there.
    fn collect(
        &mut self,
        token: TokenId,
        moved_on: MovedOn,
        net: &Net,
    ) -> Result<(Parts, u128), ResultCode> {
        let (mut rests, mut collected) = (Parts::new(), 0u128);
        for (wallet, delta) in net.iter().filter(|(_, delta)| delta.gain() > 0) {
            self.wallet_owner(*wallet, token).ok_or(ResultCode::UnknownSourceWallet)?;
            let draft = self.state_draft(*wallet, token);
            let there = draft.balance.0.min(delta.gain());
            draft.balance = Amount(draft.balance.0 - there);
            collected = collected.checked_add(there).ok_or(ResultCode::BalanceOverflow)?;
            if there < delta.gain() {
                if moved_on != MovedOn::Claim {
                    return Err(ResultCode::FundsMoved);
                }
                rests.push((*wallet, delta.gain() - there));
            }
        }
        Ok((rests, collected))
    }
}

/// Checks all evidence: originals strictly newest first, the trail strictly oldest first.
fn prove(
    turn: &Turn<'_>,
    token: TokenId,
    (originals, trail): (&[TransactionId], &[TransactionId]),
    evidence: &[Evidence],
) -> Result<(Vec<Proven>, Vec<Proven>), ResultCode> {
    if originals.len() + trail.len() != evidence.len() {
        return Err(ResultCode::BadEvidence);
    }
    let proven: Option<Vec<Proven>> = originals
        .iter()
        .chain(trail)
        .zip(evidence)
        .map(|(id, evidence)| evidence::check(evidence, *id, token, turn.headers))
        .collect();
    let mut originals_proven = proven.ok_or(ResultCode::BadEvidence)?;
    let trail_proven = originals_proven.split_off(originals.len());
    if !originals_proven.is_sorted_by(|newer, older| newer.at > older.at)
        || !trail_proven.is_sorted_by(|older, newer| older.at < newer.at)
    {
        return Err(ResultCode::BadEvidence);
    }
    Ok((originals_proven, trail_proven))
}

fn net_of(originals: &[Proven]) -> Result<Net, ResultCode> {
    let mut net = Net::new();
    for change in originals.iter().flat_map(|original| &original.changes) {
        let sum = net.entry(change.wallet).or_default();
        *sum = sum.checked_add(change.delta).ok_or(ResultCode::BalanceOverflow)?;
    }
    Ok(net)
}

/// Passes the duty to return `part` from one wallet to another.
fn pass(
    net: &mut Net,
    held: &mut BTreeMap<WalletId, u128>,
    from: WalletId,
    to: WalletId,
    part: u128,
) -> Step {
    for (wallet, change) in [(from, Signed::between(part, 0)), (to, Signed::between(0, part))] {
        let sum = net.entry(wallet).or_default();
        *sum = sum.checked_add(change).ok_or(ResultCode::BalanceOverflow)?;
        let held = held.entry(wallet).or_default();
        *held = held.saturating_sub(change.loss()).saturating_add(change.gain());
    }
    Ok(())
}

fn undone(change: &Change) -> ReversalMove {
    ReversalMove {
        wallet: change.wallet,
        undone: change.state,
        taken: Amount(change.delta.gain()),
        given: Amount(change.delta.loss()),
    }
}

/// Who owes whom: debtors and creditors in order, each filled up before the next.
fn matched(debtors: &[(WalletId, u128)], creditors: &[(WalletId, u128)]) -> Vec<Owed> {
    let mut owed = Vec::new();
    let mut creditors = creditors.iter().copied().peekable();
    for (debtor, mut rest) in debtors.iter().copied() {
        while rest > 0 {
            let Some((creditor, missing)) = creditors.peek_mut() else { return owed };
            let amount = rest.min(*missing);
            rest -= amount;
            *missing -= amount;
            if amount > 0 {
                owed.push(Owed { debtor, creditor: *creditor, amount });
            }
            if *missing == 0 {
                creditors.next();
            }
        }
    }
    owed
}

#[cfg(test)]
mod tests;
