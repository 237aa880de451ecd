//! Claims that reversals leave: what a wallet owes because the money that was to be taken back had
//! been spent.
//!
//! While a wallet owes claims in a token it can't pay in it, so what comes in stays until somebody,
//! anybody, has the claim settled. Settling is part of the reversal: no freeze, fee or limit stops
//! it.

use crate::execute::Step;
use crate::ledger::Ledger;
use crate::turn::Turn;
use kanjo_types::outcome::ResultCode;
use kanjo_types::record::{Record, RowKey, Table};
use kanjo_types::standing::{ClaimRecord, Links};
use kanjo_types::{ActId, Amount, ClaimId, TokenId, WalletId};

/// What one wallet owes another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owed {
    pub debtor: WalletId,
    pub creditor: WalletId,
    pub amount: u128,
}

impl Ledger {
    pub(crate) fn settle_claim(&mut self, _turn: &Turn<'_>, claim: ClaimId) -> Step {
        let mut record = self.claim_record(claim).ok_or(ResultCode::UnknownClaim)?.clone();
        let open = record.amount.0.saturating_sub(record.paid.0);
        if open == 0 {
            return Err(ResultCode::ClaimSettled);
        }
        let (token, debtor, creditor) = (record.token, record.debtor, record.creditor);
        let (balance, _) = self.state_now(debtor, token);
        let paid = Amount(balance.0.min(open));
        if paid == Amount::ZERO {
            return Err(ResultCode::NothingToPay);
        }
        self.wallet_owner(debtor, token).ok_or(ResultCode::UnknownSourceWallet)?;
        self.wallet_owner(creditor, token).ok_or(ResultCode::UnknownTargetWallet)?;
        let draft = self.state_draft(debtor, token);
        draft.balance = Amount(draft.balance.0.saturating_sub(paid.0));
        draft.extra.claims = Amount(draft.extra.claims.0.saturating_sub(paid.0));
        self.credit(creditor, token, paid)?;
        record.paid = Amount(record.paid.0.saturating_add(paid.0));
        self.draft_standing(Record::Claim(Box::new(record)));
        Ok(())
    }

    fn claim_record(&self, claim: ClaimId) -> Option<&ClaimRecord> {
        match self.standing_record(Table::Claims, RowKey::item(claim.0)) {
            Some(Record::Claim(record)) => Some(record),
            _ => None,
        }
    }

    /// Leaves claims on debtors.
    pub(crate) fn leave_claims(
        &mut self,
        turn: &Turn<'_>,
        token: TokenId,
        act: ActId,
        owed: &[Owed],
    ) -> Step {
        for (part, owed) in (0u32..).zip(owed) {
            let amount = Amount(owed.amount);
            let extra = &mut self.state_draft(owed.debtor, token).extra;
            extra.claims = extra.claims.checked_add(amount).ok_or(ResultCode::BalanceOverflow)?;
            self.draft_standing(Record::Claim(Box::new(ClaimRecord {
                id: ClaimId::derive(turn.id, turn.number, part),
                links: Links::default(),
                token,
                debtor: owed.debtor,
                creditor: owed.creditor,
                amount,
                paid: Amount::ZERO,
                act,
            })));
        }
        Ok(())
    }
}
