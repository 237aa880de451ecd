//! Who is there and who pays whom.

use crate::fail::{Done, Fail};
use crate::load::{Ready, on_all_cores};
use kanjo_api::{SubmitOutcome, frames};
use kanjo_client::{Client, Draft, now_ms};
use kanjo_types::policy::{MovedOn, Policy, ReversalRule};
use kanjo_types::signature::{KeyKind, SecretKey};
use kanjo_types::{
    Access, Amount, ChainId, Genesis, Operation, TokenId, TransactionId, UserId, WalletId, codec,
};
use std::time::Duration;
use zeroize::Zeroizing;

/// Payments in a request.
pub const FRAME: usize = 1_000;
/// How long the signed payments may be taken.
const VALID_FOR: Duration = Duration::from_secs(3_600);

/// A token of the demo.
pub struct DemoToken {
    /// Number.
    pub id: TokenId,
    /// Symbol.
    pub symbol: &'static str,
    name: &'static str,
    /// Decimal places.
    pub decimals: u8,
    /// What every user gets, in smallest units.
    funding: u128,
    /// Can it be frozen and reversed?
    ruled: bool,
}

impl DemoToken {
    fn policy(&self) -> Policy {
        if !self.ruled {
            return Policy::default();
        }
        let window_ms = 24 * 3_600_000;
        Policy {
            freezable: true,
            reversal: Some(ReversalRule { window_ms, moved_on: MovedOn::Claim }),
            ..Policy::default()
        }
    }
}

/// VSM, plain, in which everybody pays; and JPY, which its issuer can freeze and reverse.
pub const TOKENS: [DemoToken; 2] = [
    DemoToken {
        id: TokenId(1),
        symbol: "VSM",
        name: "Versum",
        decimals: 6,
        funding: 10_000_000_000,
        ruled: false,
    },
    DemoToken {
        id: TokenId(2),
        symbol: "JPY",
        name: "Japanese yen deposit",
        decimals: 0,
        funding: 1_000_000,
        ruled: true,
    },
];

/// What the operator issues to itself and takes back, so that the redeemed total is not zero.
const ISSUED_TO_OPERATOR: u128 = 500_000;
const REDEEMED: u128 = 200_000;

/// A user of the demo.
pub struct Person {
    /// Its key.
    pub key: SecretKey,
    /// Its id.
    pub user: UserId,
    /// Its wallet.
    pub wallet: WalletId,
}

/// A payment in VSM.
struct Payment {
    from: usize,
    to: usize,
    amount: u128,
}

/// Everybody, and every payment to come.
pub struct World {
    /// The ledger.
    pub chain: ChainId,
    /// The operator's key.
    pub operator: SecretKey,
    /// The operator: issuer of both tokens, and holder of every role.
    pub operator_id: UserId,
    /// The operator's wallet.
    pub operator_wallet: WalletId,
    /// The users.
    pub people: Vec<Person>,
    payments: Vec<Payment>,
    /// What every user's wallet must hold in the end, by token.
    pub expected: Vec<[u128; TOKENS.len()]>,
}

/// The operator's key.
pub fn operator() -> Done<SecretKey> {
    let mut seed = Zeroizing::new([0u8; 32]);
    getrandom::fill(seed.as_mut_slice()).map_err(|error| Fail::new("randomness", error))?;
    SecretKey::from_seed(KeyKind::Ed25519, *seed).map_err(|error| Fail::new("key", error))
}

/// SplitMix64: who pays whom need not be secret, only the same on every run.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }
}

impl World {
    /// Draws the users' keys and the payments.
    pub fn new(genesis: &Genesis, operator: SecretKey, users: u16, payments: u64) -> Done<Self> {
        let chain = genesis.chain_id();
        let operator_id =
            genesis.user_id("operator").ok_or_else(|| Fail::new("genesis", "no operator"))?;
        let people = on_all_cores(usize::from(users), |_| {
            let key = self::operator()?;
            let user = UserId::derive(chain, &Access::Single(key.public()), 0);
            Ok(Person { key, user, wallet: WalletId::derive(chain, user, 0) })
        })?;
        let payments = draw_payments(u64::from(users), payments);
        let mut expected: Vec<[u128; TOKENS.len()]> =
            vec![TOKENS.map(|token| token.funding); people.len()];
        for payment in &payments {
            move_expected(&mut expected, payment.from, payment.to, 0, payment.amount)?;
        }
        let operator_wallet = WalletId::derive(chain, operator_id, 0);
        Ok(Self { chain, operator, operator_id, operator_wallet, people, payments, expected })
    }

    /// Creates tokens, users and wallets, and funds them.
    pub fn create(&mut self, client: &Client) -> Done {
        let tokens = TOKENS.map(|token| Operation::CreateToken {
            symbol: token.symbol.to_owned(),
            name: token.name.to_owned(),
            decimals: token.decimals,
            issuer: self.operator_id,
            policy: Box::new(token.policy()),
            grants: Vec::new(),
        });
        self.submit(client, tokens.to_vec())?;
        let mut operations = Vec::with_capacity(self.people.len() * 4);
        for person in &self.people {
            let access = Access::Single(person.key.public());
            operations.push(Operation::CreateUser { access, number: 0 });
            operations.push(Operation::CreateWallet { owner: person.user, number: 0 });
            operations.extend(TOKENS.iter().map(|token| Operation::Issue {
                token: token.id,
                to: person.wallet,
                amount: Amount(token.funding),
            }));
        }
        // Whole users, four operations each, fit one transaction of 8,190.
        for chunk in operations.chunks(8_000) {
            self.submit(client, chunk.to_vec())?;
        }
        let (token, wallet) = (TokenId(2), self.operator_wallet);
        let own = vec![
            Operation::CreateWallet { owner: self.operator_id, number: 0 },
            Operation::Issue { token, to: wallet, amount: Amount(ISSUED_TO_OPERATOR) },
            Operation::Redeem { token, from: wallet, amount: Amount(REDEEMED) },
        ];
        self.submit(client, own)
    }

    fn submit(&self, client: &Client, operations: Vec<Operation>) -> Done {
        let draft = Draft::new(self.chain, self.operator_id).operations(operations);
        done(client.submit(&draft.sign(&self.operator)?)?).map(|_| ())
    }

    /// Notes that money moved beside the payments, so that the balances in the end are known.
    pub fn expect(&mut self, from: usize, to: usize, token: usize, amount: u128) -> Done {
        move_expected(&mut self.expected, from, to, token, amount)
    }

    /// Signs every payment with its payer's key, on all cores, into requests of [`FRAME`].
    pub fn sign(&self) -> Done<Vec<Ready>> {
        let now = now_ms();
        let count = self.payments.len().div_ceil(FRAME);
        on_all_cores(count, |position| {
            let first = position * FRAME;
            let payments = self.payments.iter().enumerate().skip(first).take(FRAME);
            let mut ready = Ready { bytes: Vec::new(), transactions: 0, payments: 0 };
            for (salt, payment) in payments {
                let signed = self.signed(payment, salt as u64, now)?;
                frames::append(&signed, &mut ready.bytes);
                ready.transactions += 1;
                ready.payments += 1;
            }
            Ok(ready)
        })
    }

    fn signed(&self, payment: &Payment, salt: u64, now: u64) -> Done<Vec<u8>> {
        let missing = || Fail::new("demo", "a payment of nobody");
        let from = self.people.get(payment.from).ok_or_else(missing)?;
        let to = self.people.get(payment.to).ok_or_else(missing)?;
        let token = TOKENS.first().ok_or_else(missing)?;
        let body = Draft::new(self.chain, from.user)
            .at(now)
            .valid_for(VALID_FOR)
            .operation(Operation::Transfer {
                token: token.id,
                from: from.wallet,
                to: to.wallet,
                amount: Amount(payment.amount),
                reference: String::new(),
            })
            .body_with_salt(salt);
        Ok(codec::to_bytes(&body.sign(&from.key)))
    }
}

/// The id of a transaction that is final and done.
pub fn done(outcome: SubmitOutcome) -> Done<TransactionId> {
    match outcome {
        SubmitOutcome::Recorded { id, result, .. } if result.is_ok() => Ok(id),
        SubmitOutcome::Recorded { result, .. } => Err(Fail::new(result.code(), result)),
        SubmitOutcome::Refused { refusal, .. } => Err(Fail::new(refusal.code(), refusal)),
    }
}

fn move_expected(
    expected: &mut [[u128; TOKENS.len()]],
    from: usize,
    to: usize,
    token: usize,
    amount: u128,
) -> Done {
    let too_much = || Fail::new("demo", "a payment exceeds what the payer was given");
    let mut change = |row: usize, change: &dyn Fn(u128) -> Option<u128>| {
        let place = expected.get_mut(row).and_then(|held| held.get_mut(token));
        let place = place.ok_or_else(too_much)?;
        *place = change(*place).ok_or_else(too_much)?;
        Ok(())
    };
    change(from, &|held| held.checked_sub(amount))?;
    change(to, &|held| held.checked_add(amount))
}

/// Every user pays in turn, random others, in VSM, never more than it was given in all.
fn draw_payments(users: u64, payments: u64) -> Vec<Payment> {
    let mut draw = Draw(2026);
    let each = payments.div_ceil(users).max(1);
    let one = |number: u64| {
        let from = number % users;
        let to = (from + 1 + draw.below(users - 1)) % users;
        let funding = TOKENS.first().map_or(0, |token| token.funding);
        let most = u64::try_from(funding / u128::from(each)).unwrap_or(u64::MAX).max(1);
        let amount = u128::from(1 + draw.below(most));
        Payment { from: from as usize, to: to as usize, amount }
    };
    (0..payments).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn nobody_pays_more_than_it_was_given() {
        for (users, count) in [(2, 1), (2, 1_000), (7, 100), (1_000, 100_000)] {
            let payments = draw_payments(users, count);
            assert_eq!(payments.len() as u64, count);
            let mut spent: BTreeMap<usize, u128> = BTreeMap::new();
            for payment in payments {
                assert_ne!(payment.from, payment.to);
                assert!(payment.amount > 0);
                *spent.entry(payment.from).or_default() += payment.amount;
            }
            assert!(spent.values().all(|amount| *amount <= TOKENS[0].funding));
        }
    }
}
