//! The membership of the cluster: who may change it, by what, and what members say themselves.
//!
//! ```text
//!  governors ──ChangeMembership──┐  admit, remove, readmit, allow, disallow
//!                                ├──► row of epoch e + 1 ──► counts above this block
//!  members ──notices, TakeNotice─┘  leave, return, eject, doubt
//! ```
//! # Invariants
//! - At least one voter executes, in every epoch.
//! - A block makes at most one epoch: one transaction of a block changes the membership, with all
//!   its operations as one; others fail with `membership_changed`, notices are not taken. So
//!   whatever changes the membership in a block is judged by the one in force there.
//! - Epochs are consecutive, and their heights ascend.
//! - An ejection lowers the quorum, so it is only done where it helps; and a majority of the voters
//!   sign it, so two halves can't eject each other.

use crate::execute::Step;
use crate::ledger::{BlockContext, Ledger};
use crate::turn::Turn;
use kanjo_types::block::{Certificate, Vote};
use kanjo_types::membership::{
    CertificateError, MEASUREMENTS_MAX, MEMBERS_MAX, Member, MemberStatus, Membership,
    MembershipChange, NodeCertificate, Notice, Statement, notice_digest,
};
use kanjo_types::outcome::ResultCode;
use kanjo_types::record::{Record, RowKey, Table};
use kanjo_types::signature::verify;
use kanjo_types::standing::Links;
use kanjo_types::stored::{Entry, decode_signed};
use kanjo_types::transaction::{LEDGER, Refused};
use kanjo_types::{Hash, Operation, PublicKey};
use std::sync::Arc;

/// Why a notice is not taken. Nothing has changed then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoticeError {
    /// One change for each block.
    #[error("the membership changed in this block already; the next block may take the notice")]
    Changed,
    /// No member has this number.
    #[error("there is no member {0}")]
    UnknownMember(u16),
    /// Only some can say this.
    #[error("member {member} is {status:?}; the notice does not fit that")]
    Standing {
        /// Whom the notice is about.
        member: u16,
        /// How it stands.
        status: MemberStatus,
    },
    /// Members or signers twice, not ascending, or nobody named.
    #[error("members and signers must be given, distinct and ascending")]
    Order,
    /// Somebody who must not sign did, or the other way round.
    #[error("the notice must be signed by {needed} members, and is by {found}")]
    Signers {
        /// How many must.
        needed: usize,
        /// How many did.
        found: usize,
    },
    /// A signer without a vote, one that is to be ejected, or another than the member itself.
    #[error("member {0} has no say in this notice")]
    Signer(u16),
    /// Of another key, of another epoch, or of another notice.
    #[error("the signature of member {0} does not verify for this notice in this epoch")]
    Signature(u16),
    /// An ejection that would not help.
    #[error("the quorum would be {after} after {before}; an ejection must lower it")]
    Quorum {
        /// Votes needed now.
        before: usize,
        /// Votes needed then.
        after: usize,
    },
    /// Nobody would be left.
    #[error("the cluster would be left without a voter that executes")]
    LastVoter,
    /// Evidence of an epoch that is unknown, or in which the member did not stand as it does now.
    #[error("evidence of epoch {found}; of this member, epochs {first} to {last} count")]
    Epoch {
        /// Epoch of the evidence.
        found: u64,
        /// Since when the member votes.
        first: u64,
        /// The present epoch.
        last: u64,
    },
    /// Evidence of a height that its epoch does not decide on, or that is not below this block.
    #[error("epoch {epoch} does not decide on height {height}, or it is not below this block")]
    Height {
        /// Epoch of the evidence.
        epoch: u64,
        /// Its height.
        height: u64,
    },
    /// The member voted as the others did.
    #[error("the vote is for the certified header; it shows nothing")]
    SameHeader,
    /// A vote or certificate that is none.
    #[error("evidence that does not count: {0}")]
    Evidence(#[from] CertificateError),
    /// Never for a sound ledger.
    #[error("the notice can't be recorded: {0}")]
    Recorded(#[from] Refused),
}

/// The notice in a transaction of the ledger itself, from its canonical bytes; `None` when it is
/// anything else. Whoever finds it in a block takes it with [`Ledger::take_notice`], and compares.
#[must_use]
pub fn notice_of(raw: &[u8]) -> Option<(Notice, Vec<Statement>)> {
    // version 1 · chain 32 · author 16
    if raw.get(33..49)? != LEDGER.0 {
        return None;
    }
    let mut operations = decode_signed(raw).ok()?.0.body.operations;
    match (operations.pop(), operations.is_empty()) {
        (Some(Operation::TakeNotice { notice, statements }), true) => Some((*notice, statements)),
        _ => None,
    }
}

/// Epoch e + 1 as it begins: as epoch e.
fn successor(membership: &Membership, block: BlockContext) -> Membership {
    Membership {
        epoch: membership.epoch + 1,
        links: Links::default(),
        height: block.height,
        ..membership.clone()
    }
}

fn has_executing_voter(membership: &Membership) -> bool {
    membership.voters().any(|(_, member)| member.executes())
}

fn set(membership: &mut Membership, member: u16, status: MemberStatus, reason: &str) {
    let since_epoch = membership.epoch;
    if let Some(member) = membership.members.get_mut(usize::from(member)) {
        (member.status, member.since_epoch) = (status, since_epoch);
        reason.clone_into(&mut member.reason);
    }
}

// ---- Changes by governors ----

fn status_of(membership: &Membership, member: u16) -> Result<MemberStatus, ResultCode> {
    membership.member(member).map(|member| member.status).ok_or(ResultCode::UnknownMember)
}

/// Is there what the change names?
fn check_named(membership: &Membership, change: &MembershipChange) -> Step {
    match change {
        MembershipChange::Remove { member, .. } | MembershipChange::Readmit { member, .. } => {
            status_of(membership, *member).map(|_| ())
        }
        MembershipChange::Disallow { program } => {
            let mut allowed = membership.measurements.iter();
            let is_there = allowed.any(|allowed| allowed.program == *program);
            if is_there { Ok(()) } else { Err(ResultCode::UnknownMeasurement) }
        }
        MembershipChange::Admit { .. } | MembershipChange::Allow { .. } => Ok(()),
    }
}

fn admit(next: &mut Membership, certificate: &NodeCertificate) -> Step {
    let is_same = |member: &Member| {
        let other = &member.certificate;
        other.name == certificate.name
            || other.vote_key == certificate.vote_key
            || other.link_key == certificate.link_key
    };
    if next.members.iter().any(is_same) {
        return Err(ResultCode::MemberExists);
    }
    if next.members.len() >= MEMBERS_MAX {
        return Err(ResultCode::TooManyMembers);
    }
    next.members.push(Member {
        certificate: certificate.clone(),
        status: MemberStatus::Standby,
        since_epoch: next.epoch,
        reason: String::new(),
    });
    Ok(())
}

fn change(next: &mut Membership, change: &MembershipChange) -> Step {
    match change {
        MembershipChange::Admit { certificate } => admit(next, certificate),
        MembershipChange::Remove { member, reason } => match status_of(next, *member)? {
            MemberStatus::Removed => Err(ResultCode::MemberStanding),
            _ => {
                set(next, *member, MemberStatus::Removed, reason);
                Ok(())
            }
        },
        MembershipChange::Readmit { member, reason } => match status_of(next, *member)? {
            MemberStatus::Doubted => {
                set(next, *member, MemberStatus::Standby, reason);
                Ok(())
            }
            _ => Err(ResultCode::MemberStanding),
        },
        MembershipChange::Allow { measurement } => {
            let mut allowed = next.measurements.iter();
            if allowed.any(|allowed| allowed.program == measurement.program) {
                return Err(ResultCode::MeasurementExists);
            }
            if next.measurements.len() >= MEASUREMENTS_MAX {
                return Err(ResultCode::TooManyMeasurements);
            }
            next.measurements.push(measurement.clone());
            Ok(())
        }
        MembershipChange::Disallow { program } => {
            // An empty list allows every program: nobody gets there by taking away.
            if next.measurements.len() == 1 {
                return Err(ResultCode::LastMeasurement);
            }
            next.measurements.retain(|allowed| allowed.program != *program);
            Ok(())
        }
    }
}

impl Ledger {
    /// The newest membership. It is in force for blocks above the one that made it; for a height of
    /// the past see [`Ledger::membership_at`].
    #[must_use]
    pub fn membership(&self) -> &Arc<Membership> {
        &self.membership
    }

    /// The membership of an epoch.
    #[must_use]
    pub fn membership_of(&self, epoch: u64) -> Option<&Membership> {
        if epoch == self.membership.epoch {
            return Some(&self.membership);
        }
        if epoch == 0 {
            return Some(&self.first_membership);
        }
        match &self.standing(Table::Memberships).get(&RowKey::epoch(epoch))?.record {
            Record::Membership(membership) => Some(membership),
            _ => None,
        }
    }

    /// The membership whose voters decide on a height: the newest that was made below it.
    #[must_use]
    pub fn membership_at(&self, height: u64) -> Arc<Membership> {
        if self.membership.height < height {
            return Arc::clone(&self.membership);
        }
        let earlier = (1..self.membership.epoch).rev().map(|epoch| self.membership_of(epoch));
        let found = earlier.flatten().find(|membership| membership.height < height);
        found.map_or_else(|| Arc::clone(&self.first_membership), |found| Arc::new(found.clone()))
    }

    /// Takes a row as the newest membership, if it is.
    pub(crate) fn note_membership(&mut self, membership: &Membership) {
        if membership.epoch > self.membership.epoch {
            self.membership = Arc::new(membership.clone());
        }
    }

    /// Finds the newest membership anew among the rows.
    pub(crate) fn find_membership(&mut self) {
        let table = self.standing(Table::Memberships);
        let rows = crate::ledger::partitions().flat_map(|partition| table.rows(partition));
        let memberships = rows.filter_map(|row| match &row.record {
            Record::Membership(membership) => Some(membership),
            _ => None,
        });
        let newest = memberships.max_by_key(|membership| membership.epoch);
        self.membership = newest.map_or_else(
            || Arc::clone(&self.first_membership),
            |newest| Arc::new(newest.as_ref().clone()),
        );
    }

    fn check_governors(&self, turn: &Turn<'_>) -> Step {
        match turn.signers().filter(|user| self.governors.contains(user)).count() {
            0 => Err(ResultCode::NotPermitted),
            signing if signing < self.governors_needed => Err(ResultCode::GovernorsNeeded),
            _ => Ok(()),
        }
    }

    /// The next membership as earlier operations of the transaction left it.
    fn membership_draft(&self, block: BlockContext) -> Membership {
        let key = (Table::Memberships, RowKey::epoch(self.membership.epoch + 1));
        match self.scratch.standing.get(&key) {
            Some(Record::Membership(draft)) => draft.as_ref().clone(),
            _ => successor(&self.membership, block),
        }
    }

    fn membership_changed(&self, block: BlockContext) -> bool {
        self.membership.height >= block.height
    }

    pub(crate) fn change_membership(&mut self, turn: &Turn<'_>, by: &MembershipChange) -> Step {
        let mut next = self.membership_draft(turn.block);
        check_named(&next, by)?;
        self.check_governors(turn)?;
        if self.membership_changed(turn.block) {
            return Err(ResultCode::MembershipChanged);
        }
        change(&mut next, by)?;
        if !has_executing_voter(&next) {
            return Err(ResultCode::LastVoter);
        }
        self.draft_standing(Record::Membership(Box::new(next)));
        Ok(())
    }

    /// Takes a notice as number `position` of `block`, in a transaction of the ledger itself. What
    /// it makes follows from the state, the block and the notice alone, so that whoever finds such
    /// a transaction in a block can make it again and compare.
    ///
    /// # Errors
    /// [`NoticeError`] says which rule it breaks; nothing has changed, and nothing is recorded.
    pub fn take_notice(
        &mut self,
        block: BlockContext,
        position: u32,
        notice: Notice,
        statements: Vec<Statement>,
    ) -> Result<Entry, NoticeError> {
        let next = self.judge_notice(block, &notice, &statements)?;
        // The epoch makes the id its own: the same may be said again in a later one.
        let salt = self.membership.epoch;
        let operation = Operation::TakeNotice { notice: Box::new(notice), statements };
        self.scratch.clear();
        self.draft_standing(Record::Membership(Box::new(next)));
        let transaction = self.own_transaction(block, salt, operation);
        Ok(self.record_own(block, position, &transaction)?)
    }

    /// The membership after a notice that a block could take; changes nothing.
    ///
    /// # Errors
    /// As [`Ledger::take_notice`].
    pub fn judge_notice(
        &self,
        block: BlockContext,
        notice: &Notice,
        statements: &[Statement],
    ) -> Result<Membership, NoticeError> {
        if self.membership_changed(block) {
            return Err(NoticeError::Changed);
        }
        let mut next = successor(&self.membership, block);
        match notice {
            Notice::Leave { member } => {
                self.check_standing(*member, &[MemberStatus::Voting])?;
                self.check_own(*member, notice, statements)?;
                set(&mut next, *member, MemberStatus::Left, "");
            }
            Notice::Return { member } => {
                let may = [MemberStatus::Standby, MemberStatus::Left, MemberStatus::Ejected];
                self.check_standing(*member, &may)?;
                self.check_own(*member, notice, statements)?;
                set(&mut next, *member, MemberStatus::Voting, "");
            }
            Notice::Eject { members } => {
                self.check_ejection(members, notice, statements)?;
                for member in members {
                    set(&mut next, *member, MemberStatus::Ejected, "could not be reached");
                }
                let (before, after) = (self.membership.quorum(), next.quorum());
                if after >= before {
                    return Err(NoticeError::Quorum { before, after });
                }
            }
            Notice::Doubt { height, voted, vote, certified, certificate } => {
                if !statements.is_empty() {
                    let found = statements.len();
                    return Err(NoticeError::Signers { needed: 0, found });
                }
                self.check_standing(vote.voter, &[MemberStatus::Voting])?;
                let headers = (*voted, *certified);
                self.check_doubt(block, *height, headers, vote, certificate)?;
                let reason = format!("voted for another header at height {height}");
                set(&mut next, vote.voter, MemberStatus::Doubted, &reason);
            }
        }
        if has_executing_voter(&next) { Ok(next) } else { Err(NoticeError::LastVoter) }
    }

    fn check_standing(&self, member: u16, may: &[MemberStatus]) -> Result<(), NoticeError> {
        let found = self.membership.member(member);
        let status = found.ok_or(NoticeError::UnknownMember(member))?.status;
        if may.contains(&status) { Ok(()) } else { Err(NoticeError::Standing { member, status }) }
    }

    /// Signed by the member itself and nobody else.
    fn check_own(
        &self,
        member: u16,
        notice: &Notice,
        statements: &[Statement],
    ) -> Result<(), NoticeError> {
        match statements {
            [statement] if statement.member == member => self.check_statement(notice, statement),
            [statement] => Err(NoticeError::Signer(statement.member)),
            _ => Err(NoticeError::Signers { needed: 1, found: statements.len() }),
        }
    }

    fn check_statement(&self, notice: &Notice, by: &Statement) -> Result<(), NoticeError> {
        let member = self.membership.member(by.member);
        let member = member.ok_or(NoticeError::UnknownMember(by.member))?;
        let key = PublicKey::Ed25519(member.certificate.vote_key);
        let digest = notice_digest(self.chain(), self.membership.epoch, notice);
        let is_right = verify(&key, &digest, &by.signature);
        if is_right { Ok(()) } else { Err(NoticeError::Signature(by.member)) }
    }

    /// Signed by a majority of the voters, none of them ejected.
    fn check_ejection(
        &self,
        members: &[u16],
        notice: &Notice,
        statements: &[Statement],
    ) -> Result<(), NoticeError> {
        let is_ordered = members.is_sorted_by(|a, b| a < b)
            && statements.is_sorted_by(|a, b| a.member < b.member);
        if members.is_empty() || !is_ordered {
            return Err(NoticeError::Order);
        }
        for member in members {
            self.check_standing(*member, &[MemberStatus::Voting])?;
        }
        let (needed, found) = (self.membership.quorum(), statements.len());
        if found < needed {
            return Err(NoticeError::Signers { needed, found });
        }
        for statement in statements {
            let signer = self.membership.member(statement.member);
            if !signer.is_some_and(Member::votes) || members.contains(&statement.member) {
                return Err(NoticeError::Signer(statement.member));
            }
            self.check_statement(notice, statement)?;
        }
        Ok(())
    }

    /// The voter's own vote is the evidence, of any epoch since it votes: others may have come and
    /// gone meanwhile. What it did before it was last readmitted does not count again.
    fn check_doubt(
        &self,
        block: BlockContext,
        height: u64,
        (voted, certified): (Hash, Hash),
        vote: &Vote,
        certificate: &Certificate,
    ) -> Result<(), NoticeError> {
        let member = self.membership.member(vote.voter);
        let first = member.ok_or(NoticeError::UnknownMember(vote.voter))?.since_epoch;
        let (epoch, last) = (certificate.epoch, self.membership.epoch);
        let outside = NoticeError::Epoch { found: epoch, first, last };
        if !(first..=last).contains(&epoch) {
            return Err(outside);
        }
        let then = self.membership_of(epoch).ok_or(outside)?;
        let next = self.membership_of(epoch.saturating_add(1)).map(|next| next.height);
        let is_below = height < block.height && next.is_none_or(|next| height <= next);
        // The genesis's voters decide on height 0, too.
        if !is_below || (epoch > 0 && height <= then.height) {
            return Err(NoticeError::Height { epoch, height });
        }
        if voted == certified {
            return Err(NoticeError::SameHeader);
        }
        then.check(height, &certified, certificate)?;
        then.check_vote(height, &voted, vote)?;
        Ok(())
    }
}
