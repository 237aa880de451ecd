//! Clients that pay without pause, each through its own order of nodes, and remember every answer.

use crate::Trouble;
use kanjo_api::{SubmitOutcome, frames};
use kanjo_client::{Client, ClientError, Draft, Limits};
use kanjo_store::faults::SeededRng;
use kanjo_types::signature::{KeyKind, SecretKey};
use kanjo_types::transaction::SignedTransaction;
use kanjo_types::{
    Access, Amount, ChainId, Genesis, Operation, ResultCode, TokenId, TransactionId, UserId,
    WalletId, codec,
};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The token that is paid.
pub(crate) const TOKEN: TokenId = TokenId(1);
/// Accounts that pay each other.
pub(crate) const ACCOUNTS: u64 = 24;
/// What each has at first.
pub(crate) const FIRST_BALANCE: u128 = 1_000_000_000;
/// What nobody has: such a payment is recorded as failed.
const TOO_MUCH: u128 = u128::MAX / 4;
/// Payments expire, so that what became of all is certain at the end.
pub(crate) const VALID_FOR: Duration = Duration::from_secs(25);

/// Requests of one client.
const REQUESTS: u32 = 50;
/// How long a client waits that was refused, or is faster than it should be.
const PAUSE: Duration = Duration::from_millis(20);

fn key(number: u64) -> Result<SecretKey, Trouble> {
    let mut bytes = [77u8; 32];
    let (low, _) = bytes.split_at_mut(8);
    low.copy_from_slice(&number.to_le_bytes());
    let key = SecretKey::from_seed(KeyKind::Ed25519, bytes);
    key.map_err(|error| Trouble::new("a key", format!("{error:?}")))
}

/// The key of the ledger's operator.
pub(crate) fn operator_key() -> Result<SecretKey, Trouble> {
    key(u64::MAX)
}

/// Someone who pays.
struct Account {
    user: UserId,
    wallet: WalletId,
    key: SecretKey,
}

/// All accounts of a ledger.
pub(crate) struct Accounts {
    chain: ChainId,
    accounts: Vec<Account>,
}

impl Accounts {
    /// Makes them in the ledger.
    pub(crate) fn create(genesis: &Genesis, client: &Client) -> Result<Self, Trouble> {
        let missing = || Trouble::new("genesis", "it names no operator");
        let name = genesis.users.first().map(|user| user.name.clone()).ok_or_else(missing)?;
        let operator = genesis.user_id(&name).ok_or_else(missing)?;
        let purse = genesis.wallet_id(&name, 0).ok_or_else(missing)?;
        let (chain, signer) = (genesis.chain_id(), operator_key()?);
        let mut accounts = Vec::new();
        for number in 1..=ACCOUNTS {
            let key = key(number)?;
            let access = Access::Single(key.public());
            let user = UserId::derive(chain, &access, number);
            let wallet = WalletId::derive(chain, user, 0);
            let transfer = Operation::Transfer {
                token: TOKEN,
                from: purse,
                to: wallet,
                amount: Amount(FIRST_BALANCE),
                reference: String::new(),
            };
            let operations = [
                Operation::CreateUser { access, number },
                Operation::CreateWallet { owner: user, number: 0 },
                transfer,
            ];
            let made = Draft::new(chain, operator).operations(operations).sign(&signer);
            let made = made.map_err(|error| Trouble::new("an account", error))?;
            let outcome = client.submit(&made);
            match outcome.map_err(|error| Trouble::new("an account", error))? {
                SubmitOutcome::Recorded { result: ResultCode::Ok, .. } => {}
                other => return Err(Trouble::new("an account", format!("{other:?}"))),
            }
            accounts.push(Account { user, wallet, key });
        }
        Ok(Self { chain, accounts })
    }

    /// All wallets.
    pub(crate) fn wallets(&self) -> impl Iterator<Item = WalletId> + '_ {
        self.accounts.iter().map(|account| account.wallet)
    }

    fn pick(&self, rng: &mut SeededRng) -> Option<&Account> {
        let place = usize::try_from(rng.below(self.accounts.len() as u64)).ok()?;
        self.accounts.get(place)
    }

    /// A payment of one to four legs; one in sixteen is of more than there is.
    fn payment(&self, rng: &mut SeededRng) -> Option<Payment> {
        let from = self.pick(rng)?;
        let is_too_much = rng.below(16) == 0;
        let legs = if rng.below(8) == 0 { 4 } else { 1 };
        let mut draft = Draft::new(self.chain, from.user).valid_for(VALID_FOR);
        let mut paid = Vec::new();
        for leg in 1..=legs {
            let to = self.accounts.get(usize::try_from(rng.below(ACCOUNTS)).ok()?)?;
            let to = if to.wallet == from.wallet { self.accounts.first()? } else { to };
            if to.wallet == from.wallet {
                continue;
            }
            let amount = if is_too_much { TOO_MUCH } else { u128::from(leg + rng.below(500)) };
            draft = draft.operation(Operation::Transfer {
                token: TOKEN,
                from: from.wallet,
                to: to.wallet,
                amount: Amount(amount),
                reference: String::new(),
            });
            paid.push((from.wallet, to.wallet, amount));
        }
        if paid.is_empty() {
            return None;
        }
        let signed = draft.sign(&from.key).ok()?;
        Some(Payment { id: signed.body.id(), signed, paid: paid.into() })
    }
}

/// What moves when it is done: from, to, how much.
pub(crate) type Paid = Arc<[(WalletId, WalletId, u128)]>;

struct Payment {
    id: TransactionId,
    signed: SignedTransaction,
    paid: Paid,
}

/// An answer that was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) height: u64,
    pub(crate) position: u32,
    pub(crate) result: ResultCode,
}

/// What a client was told.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    /// It is recorded.
    Recorded(Place),
    /// Nothing is recorded, and why.
    Refused(String),
    /// What became of it is not known.
    Unknown(String),
}

/// A payment and what became of it.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) id: TransactionId,
    pub(crate) paid: Paid,
    pub(crate) told: Told,
}

/// What clients have in common.
struct Desk {
    accounts: Arc<Accounts>,
    sent: Mutex<Vec<Sent>>,
    /// Milliseconds since the start in which a payment was acknowledged.
    acknowledged_ms: Mutex<Vec<u64>>,
    began: Instant,
    stop: AtomicBool,
    /// Payments acknowledged.
    count: AtomicU64,
    /// As many are made in a second at most; after a time without any, more of them.
    payments_per_s: u64,
}

/// The clients at work.
pub(crate) struct Load {
    desk: Arc<Desk>,
    clients: Vec<JoinHandle<()>>,
}

/// What the clients have seen.
pub(crate) struct Seen {
    pub(crate) sent: Vec<Sent>,
    pub(crate) acknowledged_ms: Vec<u64>,
}

/// A client of these nodes, as an application would use it.
pub(crate) fn client(apis: &[String], first: usize) -> Result<Client, Trouble> {
    let turn = first % apis.len().max(1);
    let (before, after) = apis.split_at_checked(turn).unwrap_or((&[], apis));
    let urls: Vec<&str> = after.iter().chain(before).map(String::as_str).collect();
    let limits = Limits {
        connect: Duration::from_secs(1),
        submit: Duration::from_secs(5),
        attempts: 10,
        ..Limits::default()
    };
    Client::with_limits(&urls.join(","), limits).map_err(|error| Trouble::new("client", error))
}

impl Load {
    pub(crate) fn start(
        accounts: &Arc<Accounts>,
        apis: &[String],
        (threads, payments_per_s): (usize, u64),
        seed: u64,
    ) -> Result<Self, Trouble> {
        let desk = Arc::new(Desk {
            accounts: accounts.clone(),
            sent: Mutex::default(),
            acknowledged_ms: Mutex::default(),
            began: Instant::now(),
            stop: AtomicBool::new(false),
            count: AtomicU64::new(0),
            payments_per_s,
        });
        let mut clients = Vec::new();
        for number in 0..threads {
            let (desk, apis) = (desk.clone(), apis.to_vec());
            let seed = seed.wrapping_mul(31).wrapping_add(number as u64 + 1);
            let work = move || desk.work(&apis, &mut SeededRng::new(seed));
            let thread = std::thread::Builder::new().name(format!("client-{number}")).spawn(work);
            clients.push(thread.map_err(|error| Trouble::new("client", error))?);
        }
        Ok(Self { desk, clients })
    }

    pub(crate) fn began(&self) -> Instant {
        self.desk.began
    }

    /// Payments acknowledged so far.
    pub(crate) fn count(&self) -> u64 {
        self.desk.count.load(Ordering::Relaxed)
    }

    /// Ends it, and gives all that was sent.
    pub(crate) fn stop(self) -> Seen {
        self.desk.stop.store(true, Ordering::Release);
        for client in self.clients {
            // A panic is told on standard error.
            let _ = client.join();
        }
        let sent = std::mem::take(&mut *self.desk.sent.lock());
        let acknowledged_ms = std::mem::take(&mut *self.desk.acknowledged_ms.lock());
        Seen { sent, acknowledged_ms }
    }
}

impl Desk {
    /// One client after the other, each with an order of nodes of its own: those that fled from a
    /// node would all be at the next one otherwise.
    fn work(&self, apis: &[String], rng: &mut SeededRng) {
        while !self.stop.load(Ordering::Acquire) {
            let mut order = apis.to_vec();
            for place in (1..order.len()).rev() {
                let other = usize::try_from(rng.below(place as u64 + 1)).unwrap_or(place);
                order.swap(place, other);
            }
            match client(&order, 0) {
                Ok(client) => self.pay(&client, rng),
                Err(trouble) => return eprintln!("{trouble}"),
            }
        }
    }

    fn pay(&self, client: &Client, rng: &mut SeededRng) {
        for _ in 0..REQUESTS {
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            let count = if rng.below(3) == 0 { 2 + rng.below(10) } else { 1 };
            let payments: Vec<Payment> =
                (0..count).filter_map(|_| self.accounts.payment(rng)).collect();
            let answers = submit(client, &payments);
            let has_failed = answers.iter().any(|told| !matches!(told, Told::Recorded(_)));
            self.note(payments, answers);
            if has_failed || self.is_ahead() {
                std::thread::sleep(PAUSE);
            }
        }
    }

    fn is_ahead(&self) -> bool {
        let elapsed_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let due = elapsed_ms.saturating_mul(self.payments_per_s) / 1_000;
        self.count.load(Ordering::Relaxed) > due
    }

    fn note(&self, payments: Vec<Payment>, answers: Vec<Told>) {
        let recorded =
            answers.iter().filter(|told| matches!(told, Told::Recorded(_))).count() as u64;
        if recorded > 0 {
            let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
            let mut times = self.acknowledged_ms.lock();
            if times.last() != Some(&now) {
                times.push(now);
            }
            self.count.fetch_add(recorded, Ordering::Relaxed);
        }
        let sent = payments.into_iter().zip(answers);
        let sent = sent.map(|(payment, told)| Sent { id: payment.id, paid: payment.paid, told });
        self.sent.lock().extend(sent);
    }
}

fn submit(client: &Client, payments: &[Payment]) -> Vec<Told> {
    let answer = match payments {
        [one] => client.submit(&one.signed).map(|outcome| vec![outcome]),
        many => {
            let mut bytes = Vec::new();
            for payment in many {
                frames::append(&codec::to_bytes(&payment.signed), &mut bytes);
            }
            client.submit_frames(&bytes).map(|answer| answer.outcomes)
        }
    };
    match answer {
        Ok(outcomes) if outcomes.len() == payments.len() => {
            payments.iter().zip(outcomes).map(|(payment, outcome)| told(payment, outcome)).collect()
        }
        Ok(outcomes) => {
            let why = format!("{} outcomes for {} payments", outcomes.len(), payments.len());
            vec![Told::Unknown(why); payments.len()]
        }
        Err(error) => vec![failed(&error); payments.len()],
    }
}

fn told(payment: &Payment, outcome: SubmitOutcome) -> Told {
    match outcome {
        SubmitOutcome::Recorded { id, height, position, result, .. } if id == payment.id => {
            Told::Recorded(Place { height, position, result })
        }
        SubmitOutcome::Recorded { id, .. } => Told::Unknown(format!("an answer about {id}")),
        SubmitOutcome::Refused { refusal, .. } => Told::Refused(refusal.code().to_owned()),
    }
}

/// A refusal promises that nothing is recorded, but for the one that says that it is not known.
fn failed(error: &ClientError) -> Told {
    match error.code() {
        Some(code) if code != "outcome_unknown" => Told::Refused(code.to_owned()),
        Some(code) => Told::Unknown(code.to_owned()),
        None if matches!(error, ClientError::Timeout { .. }) => Told::Unknown("timeout".to_owned()),
        None => Told::Unknown("unreachable".to_owned()),
    }
}

/// How often each was told.
pub(crate) fn counted<'a>(told: impl Iterator<Item = &'a str>) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for one in told {
        *counts.entry(one.to_owned()).or_insert(0) += 1;
    }
    counts
}
