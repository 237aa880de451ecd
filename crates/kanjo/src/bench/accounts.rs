//! The experiment's accounts, receivers and payments. Everything follows from fixed seeds, so that
//! signed payments kept in a file fit the next run: same genesis, same chain, same ids.

use crate::commands::{Plan, vsm_and_jpy};
use crate::fail::{Done, Fail};
use crate::load::Ready;
use kanjo_api::frames;
use kanjo_client::Draft;
use kanjo_types::signature::{KeyKind, SecretKey};
use kanjo_types::transaction::OPERATIONS_MAX;
use kanjo_types::{Access, Amount, ChainId, Genesis, Operation, TokenId, UserId, WalletId, codec};
use std::time::Duration;
use zeroize::Zeroizing;

/// The token that is paid: VSM, the first of the genesis.
const TOKEN: TokenId = TokenId(1);
/// How long the ledger remembers ids.
const WINDOW: Duration = Duration::from_secs(7 * 86_400);
/// How long signed payments may be used.
pub const VALID_FOR: Duration = Duration::from_secs(6 * 86_400);
/// Time of the genesis: 2026-01-01.
const GENESIS_MS: u64 = 1_767_225_600_000;
// Whole accounts, of two or three operations, fill a transaction.
const _: () = assert!(OPERATIONS_MAX.is_multiple_of(2) && OPERATIONS_MAX.is_multiple_of(3));
/// Wallet numbers of the operator from here on are accounts (with `--batch`); below are receivers.
const FIRST_ACCOUNT_NUMBER: u64 = 1_000_000;
/// Domain of the seeds.
const SEED_OPERATOR: u8 = 1;
const SEED_ACCOUNT: u8 = 2;
const SEED_VOTE: u8 = 3;

/// What is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// Accounts.
    pub accounts: u64,
    /// Accounts that pay.
    pub payments: u64,
    /// Payments under one signature, when they go as batches.
    pub legs: Option<u64>,
    /// Payments in a request, about.
    pub frame: u64,
    /// Receiving wallets.
    pub receivers: u64,
}

impl Shape {
    /// Accounts that are made, and whose payments are signed, together: what one transaction can
    /// make, or with batches as many whole batches as fit the most operations of one.
    pub fn chunk(&self) -> u64 {
        let operations = OPERATIONS_MAX as u64;
        match self.legs {
            None => operations / 3,
            Some(legs) => operations / legs.clamp(1, operations) * legs.clamp(1, operations),
        }
    }

    /// How many chunks there are.
    pub fn chunks(&self) -> u64 {
        self.accounts.div_ceil(self.chunk())
    }

    /// 1 + 2 + … + the number of payments.
    pub fn sum(&self) -> u128 {
        let n = u128::from(self.payments);
        n * (n + 1) / 2
    }
}

fn key(kind: u8, number: u64) -> Done<SecretKey> {
    let mut seed = [kind; 32];
    seed.iter_mut().zip(number.to_le_bytes()).for_each(|(to, from)| *to = from);
    SecretKey::from_seed(KeyKind::Ed25519, seed).map_err(|error| Fail::new("key", error))
}

/// The operator's key.
pub fn operator() -> Done<SecretKey> {
    key(SEED_OPERATOR, 0)
}

/// The ledger of the experiment. Its keys are public knowledge: it is for measuring only.
pub fn plan(operator: &SecretKey) -> Done<Plan> {
    let access = Access::Single(operator.public());
    let mut plan = Plan::new("Kanjo bench", vec![("operator".to_owned(), access)])?;
    plan.replay_window = WINDOW;
    plan.time_ms = GENESIS_MS;
    plan.vote_secret = Zeroizing::new([SEED_VOTE; 32]);
    plan.tokens = vsm_and_jpy("operator");
    Ok(plan)
}

/// Who makes the transactions of the experiment.
pub struct Bench {
    /// The ledger.
    pub chain: ChainId,
    /// What is measured.
    pub shape: Shape,
    operator: SecretKey,
    operator_id: UserId,
}

/// The transactions around one chunk of accounts.
pub struct Chunk {
    /// Frames that create and fund the accounts.
    pub setup: Vec<u8>,
    /// Their payments, signed, in requests. Empty when they are not asked for.
    pub payments: Vec<Ready>,
    /// Accounts in it.
    pub accounts: u64,
}

impl Bench {
    /// The experiment on the ledger of `genesis`.
    pub fn new(genesis: &Genesis, operator: SecretKey, shape: &Shape) -> Done<Self> {
        let operator_id =
            genesis.user_id("operator").ok_or_else(|| Fail::new("genesis", "no operator"))?;
        Ok(Self { chain: genesis.chain_id(), shape: shape.clone(), operator, operator_id })
    }

    /// A receiving wallet.
    pub fn receiver(&self, number: u64) -> WalletId {
        WalletId::derive(self.chain, self.operator_id, number % self.shape.receivers)
    }

    /// One frame that opens all receiving wallets.
    pub fn receivers(&self) -> Vec<u8> {
        let open = |number| Operation::CreateWallet { owner: self.operator_id, number };
        let operations: Vec<Operation> = (0..self.shape.receivers).map(open).collect();
        self.setup(&operations, u64::MAX)
    }

    /// Frames of as many transactions of the operator as the operations need. Whole accounts stay
    /// together: two or three operations each divide the most operations of a transaction.
    fn setup(&self, operations: &[Operation], salt: u64) -> Vec<u8> {
        let mut out = Vec::new();
        for part in operations.chunks(OPERATIONS_MAX) {
            let draft = Draft::new(self.chain, self.operator_id).operations(part.iter().cloned());
            let body = draft.valid_for(VALID_FOR).body_with_salt(salt);
            frames::append(&codec::to_bytes(&body.sign(&self.operator)), &mut out);
        }
        out
    }

    /// Makes a chunk. Account n (from 1) gets n smallest units, and pays them to receiver n mod
    /// receivers.
    pub fn chunk(&self, position: u64, with_payments: bool) -> Done<Chunk> {
        let size = self.shape.chunk();
        let first = position * size + 1;
        let last = (first + size - 1).min(self.shape.accounts);
        if self.shape.legs.is_some() {
            return Ok(self.batch_chunk(position, first, last, with_payments));
        }
        let accounts = last + 1 - first;
        let mut operations = Vec::with_capacity(3 * size as usize);
        let paying = (self.shape.payments + 1).saturating_sub(first).min(accounts);
        // Requests of about equal size.
        let requests = paying.div_ceil(self.shape.frame).max(1);
        let each = paying.div_ceil(requests).max(1);
        let mut payments: Vec<Ready> = Vec::new();
        for number in first..=last {
            let key = key(SEED_ACCOUNT, number)?;
            let access = Access::Single(key.public());
            let user = UserId::derive(self.chain, &access, 0);
            let wallet = WalletId::derive(self.chain, user, 0);
            operations.push(Operation::CreateUser { access, number: 0 });
            operations.push(Operation::CreateWallet { owner: user, number: 0 });
            let amount = Amount(u128::from(number));
            operations.push(Operation::Issue { token: TOKEN, to: wallet, amount });
            if !with_payments || number > self.shape.payments {
                continue;
            }
            let operation = self.payment(wallet, number);
            let body = Draft::new(self.chain, user).operation(operation).valid_for(VALID_FOR);
            let signed = body.body_with_salt(number).sign(&key);
            append(&mut payments, &codec::to_bytes(&signed), 1, each);
        }
        let setup = self.setup(&operations, position);
        Ok(Chunk { setup, payments, accounts })
    }

    fn payment(&self, from: WalletId, number: u64) -> Operation {
        Operation::Transfer {
            token: TOKEN,
            from,
            to: self.receiver(number),
            amount: Amount(u128::from(number)),
            reference: String::new(),
        }
    }

    /// As `chunk`, for accounts that are wallets of the operator.
    fn batch_chunk(&self, position: u64, first: u64, last: u64, with_payments: bool) -> Chunk {
        let legs = self.shape.legs.unwrap_or(1).max(1);
        let mut operations = Vec::new();
        let mut batch = Vec::new();
        let mut payments: Vec<Ready> = Vec::new();
        for number in first..=last {
            let wallet_number = FIRST_ACCOUNT_NUMBER + number;
            let wallet = WalletId::derive(self.chain, self.operator_id, wallet_number);
            let (owner, amount) = (self.operator_id, Amount(u128::from(number)));
            operations.push(Operation::CreateWallet { owner, number: wallet_number });
            operations.push(Operation::Issue { token: TOKEN, to: wallet, amount });
            let pays = with_payments && number <= self.shape.payments;
            if pays {
                batch.push(self.payment(wallet, number));
            }
            let full = batch.len() as u64 >= legs || number == last;
            if full && !batch.is_empty() {
                let count = batch.len() as u64;
                let draft = Draft::new(self.chain, self.operator_id)
                    .operations(std::mem::take(&mut batch))
                    .valid_for(VALID_FOR);
                let signed = draft.body_with_salt((1 << 40) + number).sign(&self.operator);
                append(&mut payments, &codec::to_bytes(&signed), count, self.shape.frame);
            }
        }
        let setup = self.setup(&operations, position);
        Chunk { setup, payments, accounts: last + 1 - first }
    }
}

/// Adds a transaction to the last request, or starts a new one when that has `most` payments.
fn append(requests: &mut Vec<Ready>, transaction: &[u8], payments: u64, most: u64) {
    let has_room = requests.last().is_some_and(|last| last.payments + payments <= most.max(1));
    if !has_room {
        requests.push(Ready { bytes: Vec::new(), transactions: 0, payments: 0 });
    }
    if let Some(last) = requests.last_mut() {
        frames::append(transaction, &mut last.bytes);
        last.transactions += 1;
        last.payments += payments;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bench(shape: &Shape) -> Bench {
        let operator = operator().expect("key");
        let genesis = plan(&operator).expect("plan").genesis().expect("genesis");
        genesis.check().expect("valid");
        Bench::new(&genesis, operator, shape).expect("bench")
    }

    #[test]
    fn every_account_pays_its_whole_balance_once() {
        for legs in [None, Some(7), Some(8_190)] {
            let shape =
                Shape { accounts: 5_000, payments: 4_500, legs, frame: 1_000, receivers: 9 };
            let bench = bench(&shape);
            let mut sum = 0u128;
            let mut counted = 0u64;
            for position in 0..shape.chunks() {
                let chunk = bench.chunk(position, true).expect("made");
                for request in chunk.payments {
                    let ranges = frames::split(&request.bytes).expect("frames");
                    assert_eq!(ranges.len(), request.transactions);
                    counted += request.payments;
                    for range in ranges {
                        let raw = &request.bytes[range];
                        let (signed, _) =
                            kanjo_types::stored::decode_signed(raw).expect("canonical");
                        signed.body.check_shape().expect("valid");
                        for operation in &signed.body.operations {
                            let Operation::Transfer { amount, .. } = operation else {
                                panic!("not a payment");
                            };
                            sum += amount.0;
                        }
                    }
                }
            }
            assert_eq!((counted, sum), (4_500, shape.sum()), "{legs:?}");
        }
    }

    #[test]
    fn the_ledger_is_the_same_on_every_run() {
        let shape = Shape { accounts: 1, payments: 1, legs: None, frame: 1, receivers: 1 };
        assert_eq!(bench(&shape).chain, bench(&shape).chain);
    }
}
