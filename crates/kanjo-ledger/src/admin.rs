//! What administrative acts do: freezes, terms, policies, roles, new keys. Who may order them is in
//! [`crate::act`].

use crate::execute::Step;
use crate::ledger::Ledger;
use crate::scratch::UserDraft;
use crate::turn::Turn;
use kanjo_types::money::{Act, Evidence, FreezeTarget, Grant, Role, Scope};
use kanjo_types::outcome::ResultCode;
use kanjo_types::policy::{ComingPolicy, MovedOn, Policy, TokenRules};
use kanjo_types::record::Record;
use kanjo_types::standing::{ActRecord, Freeze, FreezeRecord, Links, TermsRecord};
use kanjo_types::{Access, TokenId, UserId, WalletId};

impl Ledger {
    pub(crate) fn check_users_known(&self, users: &[UserId]) -> Step {
        if users.iter().all(|user| self.user_known(user)) {
            Ok(())
        } else {
            Err(ResultCode::UnknownUser)
        }
    }

    fn check_wallet(&self, wallet: WalletId, code: ResultCode) -> Step {
        self.owner_of(wallet).map(|_| ()).ok_or(code)
    }

    /// Does everything exist that the act names?
    pub(crate) fn check_names(&self, act: &Act) -> Step {
        match act.scope() {
            Scope::Token(token) => self.token_record(token).map(|_| ()),
            Scope::User(user) => return self.check_users_known(&[user]),
        }
        .ok_or(ResultCode::UnknownToken)?;
        match act {
            Act::Issue { to, .. } => self.check_wallet(*to, ResultCode::UnknownTargetWallet),
            Act::Redeem { from, .. } => self.check_wallet(*from, ResultCode::UnknownSourceWallet),
            Act::Freeze { target, .. } | Act::Unfreeze { target, .. } => match target {
                FreezeTarget::Wallet(wallet) => {
                    self.check_wallet(*wallet, ResultCode::UnknownWallet)
                }
                FreezeTarget::User(user) => self.check_users_known(&[*user]),
                FreezeTarget::Token => Ok(()),
            },
            Act::SetTerms { wallet, .. } => self.check_wallet(*wallet, ResultCode::UnknownWallet),
            Act::SetPolicy { policy, .. } => match policy.fee {
                Some(fee) => self.check_wallet(fee.receiver, ResultCode::UnknownTargetWallet),
                None => Ok(()),
            },
            Act::SetRole { grant, .. } => self.check_users_known(&grant.holders),
            Act::Reverse { .. } | Act::Recover { .. } | Act::Audit { .. } => Ok(()),
        }
    }

    /// Does the token's policy permit the act at this time? Looked at when it is proposed, and
    /// again when it is done.
    pub(crate) fn check_permitted(&self, turn: &Turn<'_>, act: &Act) -> Step {
        let is_permitted = match act {
            // Also for a token without rules: its roles may have been granted when it was made.
            Act::Issue { .. } | Act::Redeem { .. } | Act::Recover { .. } | Act::Audit { .. } => {
                true
            }
            Act::SetRole { grant, .. } => grant.role != Role::Guardian,
            Act::SetPolicy { token, policy } => return self.check_policy(*token, policy),
            Act::Freeze { token, .. }
            | Act::Unfreeze { token, .. }
            | Act::SetTerms { token, .. }
            | Act::Reverse { token, .. } => {
                let policy = self.policy(*token, turn.time_ms());
                policy.is_some_and(|policy| permits(policy, act))
            }
        };
        if !is_permitted {
            return Err(ResultCode::PolicyForbids);
        }
        match act {
            Act::Freeze { until_ms: Some(until_ms), .. } if *until_ms < turn.time_ms() => {
                Err(ResultCode::InvalidTime)
            }
            _ => Ok(()),
        }
    }

    fn check_policy(&self, token: TokenId, policy: &Policy) -> Step {
        let rules = self.token_record(token).and_then(|record| record.rules.as_deref());
        let rules = rules.ok_or(ResultCode::PolicyForbids)?;
        match policy.harsher_than(&rules.charter) {
            Some(_) => Err(ResultCode::AgainstCharter),
            None => Ok(()),
        }
    }

    /// Does an act that enough have agreed to.
    pub(crate) fn do_act(
        &mut self,
        turn: &Turn<'_>,
        record: &ActRecord,
        evidence: &[Evidence],
    ) -> Step {
        self.check_permitted(turn, &record.act)?;
        match &record.act {
            Act::Issue { token, to, amount } => self.issue_to(turn, *token, *to, *amount),
            Act::Redeem { token, from, amount } => {
                let owner = self.wallet_owner(*from, *token);
                let owner = owner.ok_or(ResultCode::UnknownSourceWallet)?;
                if !record.agreed.contains(&owner) {
                    return Err(ResultCode::NotWalletOwner);
                }
                self.redeem_from(turn, *token, *from, *amount)
            }
            Act::Freeze { token, target, direction, until_ms } => {
                let freeze = Freeze { direction: *direction, until_ms: *until_ms };
                self.freeze(turn, record, *token, *target, freeze)
            }
            Act::Unfreeze { token, target } => self.unfreeze(turn, record, *token, *target),
            Act::SetTerms { .. } => {
                self.set_terms(record);
                Ok(())
            }
            Act::Reverse { token, originals, trail } => {
                self.reverse(turn, record.id, *token, (originals, trail), evidence)
            }
            Act::SetPolicy { token, policy } => self.set_policy(turn, *token, policy),
            Act::SetRole { token, grant } => {
                self.set_role(*token, grant);
                Ok(())
            }
            Act::Recover { user, access } => self.recover(*user, access),
            // The act itself is the record.
            Act::Audit { .. } => Ok(()),
        }
    }

    fn freeze(
        &mut self,
        turn: &Turn<'_>,
        act: &ActRecord,
        token: TokenId,
        target: FreezeTarget,
        freeze: Freeze,
    ) -> Step {
        if self.freeze_at(token, target, turn.time_ms()) == Some(freeze) {
            return Err(ResultCode::AlreadyFrozen);
        }
        self.draft_freeze(act, token, target, Some(freeze));
        Ok(())
    }

    fn unfreeze(
        &mut self,
        turn: &Turn<'_>,
        act: &ActRecord,
        token: TokenId,
        target: FreezeTarget,
    ) -> Step {
        if self.freeze_at(token, target, turn.time_ms()).is_none() {
            return Err(ResultCode::NotFrozen);
        }
        self.draft_freeze(act, token, target, None);
        Ok(())
    }

    fn draft_freeze(
        &mut self,
        act: &ActRecord,
        token: TokenId,
        target: FreezeTarget,
        freeze: Option<Freeze>,
    ) {
        self.draft_standing(Record::Freeze(Box::new(FreezeRecord {
            token,
            target,
            links: Links::default(),
            freeze,
            act: act.id,
            reason: act.reason.clone(),
        })));
    }

    fn set_terms(&mut self, act: &ActRecord) {
        let Act::SetTerms { token, wallet, approved, class, credit, floor } = act.act else {
            return;
        };
        self.draft_standing(Record::Terms(Box::new(TermsRecord {
            wallet,
            token,
            links: Links::default(),
            approved,
            class,
            credit,
            floor,
            act: act.id,
        })));
    }

    /// Puts a policy in force: at once when it is nowhere harsher to holders than the one in force,
    /// otherwise after the charter's notice. What was announced before is dropped.
    fn set_policy(&mut self, turn: &Turn<'_>, token: TokenId, policy: &Policy) -> Step {
        let record = self.token_draft(token).ok_or(ResultCode::UnknownToken)?;
        let rules = record.rules.as_deref_mut().ok_or(ResultCode::PolicyForbids)?;
        change_policy(rules, policy, turn.time_ms());
        Ok(())
    }

    fn set_role(&mut self, token: TokenId, grant: &Grant) {
        self.draft_grant(Scope::Token(token), grant, 0);
    }

    fn recover(&mut self, user: UserId, access: &Access) -> Step {
        let sponsor = self.sponsor_of(&user).ok_or(ResultCode::UnknownUser)?;
        self.draft_user(user, UserDraft { access: access.clone(), sponsor });
        Ok(())
    }
}

/// Does a policy permit an act that needs one?
fn permits(policy: &Policy, act: &Act) -> bool {
    match act {
        Act::Freeze { .. } => policy.freezable,
        Act::SetTerms { approved, class, credit, floor, .. } => {
            (policy.allow_list || !approved)
                && (!policy.classes.is_empty() || *class == 0)
                && (policy.credit || credit.0 == 0)
                && (policy.floors || floor.0 == 0)
        }
        Act::Reverse { trail, .. } => {
            policy.reversal.is_some_and(|rule| trail.is_empty() || rule.moved_on == MovedOn::Follow)
        }
        // A freeze can be ended whatever the policy has become.
        _ => true,
    }
}

fn change_policy(rules: &mut TokenRules, policy: &Policy, time_ms: u64) {
    let present = rules.at(time_ms).clone();
    let notice_ms = rules.charter.notice_ms;
    if notice_ms == 0 || policy.harsher_than(&present).is_none() {
        rules.policy = policy.clone();
        rules.coming = None;
    } else {
        let from_ms = time_ms.saturating_add(notice_ms);
        rules.policy = present;
        rules.coming = Some(ComingPolicy { policy: policy.clone(), from_ms });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn harsher_policies_wait_for_the_notice() {
        let charter =
            Policy { freezable: true, allow_list: true, notice_ms: 100, ..Policy::default() };
        let kind = Policy { notice_ms: 100, ..Policy::default() };
        let freezable = Policy { freezable: true, ..kind.clone() };
        let mut rules = *TokenRules::new(&charter).expect("not plain");
        change_policy(&mut rules, &kind, 10);
        assert_eq!((rules.at(10), &rules.coming), (&kind, &None), "kinder: at once");
        change_policy(&mut rules, &freezable, 20);
        assert_eq!((rules.at(119), rules.at(120)), (&kind, &freezable));
        change_policy(&mut rules, &charter, 50);
        assert_eq!((rules.at(149), rules.at(150)), (&kind, &charter), "the later one counts");
        change_policy(&mut rules, &freezable, 150);
        assert_eq!((rules.at(150), &rules.coming), (&freezable, &None), "what came was in force");
    }
}
