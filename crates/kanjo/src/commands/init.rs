//! `kanjo init`: a new ledger.

use crate::commands::key::new_key;
use crate::context::Context;
use crate::fail::{Done, Fail};
use crate::say;
use crate::text::{bold, dim, parse_duration};
use clap::Args;
use kanjo_client::keys::{KeyError, KeyFile, Protection};
use kanjo_client::now_ms;
use kanjo_types::genesis::{
    Cluster, FirstToken, FirstUser, FirstWallet, GENESIS_VERSION, Rules, Voter,
};
use kanjo_types::signature::{KeyKind, SecretKey};
use kanjo_types::{Access, Amount, Genesis, Policy, PublicKey};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use zeroize::Zeroizing;

/// Name of the operator's key, user and wallet unless told otherwise.
pub const OPERATOR: &str = "operator";
/// Decimals of VSM.
pub const VSM_DECIMALS: u8 = 6;
/// First VSM of the operator of a development ledger, in whole tokens.
const DEVELOPMENT_SUPPLY: u128 = 1_000_000;

/// Options of `kanjo init`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  kanjo init ./bank --name \"My bank\"\n  kanjo node --data ./bank\n\n\
    DIR/genesis.json is what proofs are checked against: give it to everyone. DIR/vote.key is the\n\
    node's secret."
)]
pub struct InitArgs {
    /// Directory of the new node; made when it does not exist.
    dir: PathBuf,
    /// Name of the ledger, for people.
    #[arg(long, default_value = "Kanjo")]
    name: String,
    /// An operator's key: a key's name, a public key, or a file with one. Repeat it for several
    /// operators. Without it, the key 'operator' of the home directory is used, or drawn.
    #[arg(long = "operator", value_name = "KEY")]
    operators: Vec<String>,
    /// Don't encrypt the operator's key when one is drawn. For development only.
    #[arg(long, conflicts_with = "operators")]
    no_passphrase: bool,
    /// Anyone may register; otherwise operators do.
    #[arg(long)]
    open_registration: bool,
    /// Anyone may create tokens; otherwise operators do.
    #[arg(long)]
    open_tokens: bool,
    /// First VSM in the operator's wallet, in whole tokens.
    #[arg(long, value_name = "AMOUNT", default_value = "1000000000")]
    vsm_supply: String,
    /// How far ahead a transaction may be valid, and so how long ids are remembered: 1s to 7d.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "24h")]
    replay_window: Duration,
}

/// What a new ledger starts with.
pub struct Plan {
    /// Name of the ledger.
    pub name: String,
    /// Operators by name.
    pub operators: Vec<(String, Access)>,
    /// May anyone register?
    pub open_registration: bool,
    /// May anyone create tokens?
    pub open_tokens: bool,
    /// How far ahead transactions may be valid.
    pub replay_window: Duration,
    /// First tokens.
    pub tokens: Vec<FirstToken>,
    /// First wallets.
    pub wallets: Vec<FirstWallet>,
    /// Time of the genesis.
    pub time_ms: u64,
    /// Secret of the node's vote key.
    pub vote_secret: Zeroizing<[u8; 32]>,
}

impl Plan {
    /// A ledger with nothing but operators, starting now, with a random vote key.
    pub fn new(name: &str, operators: Vec<(String, Access)>) -> Done<Self> {
        let mut vote_secret = Zeroizing::new([0u8; 32]);
        getrandom::fill(vote_secret.as_mut_slice())
            .map_err(|error| Fail::new("randomness", error))?;
        Ok(Self {
            name: name.to_owned(),
            operators,
            open_registration: false,
            open_tokens: false,
            replay_window: Duration::from_secs(86_400),
            tokens: Vec::new(),
            wallets: Vec::new(),
            time_ms: now_ms(),
            vote_secret,
        })
    }

    /// The genesis.
    pub fn genesis(&self) -> Done<Genesis> {
        let vote_key = SecretKey::from_seed(KeyKind::Ed25519, *self.vote_secret)
            .map_err(|error| Fail::new("key", error))?;
        let PublicKey::Ed25519(key) = vote_key.public() else {
            return Err(Fail::new("key", "vote keys are Ed25519"));
        };
        let users = self
            .operators
            .iter()
            .map(|(name, access)| FirstUser { name: name.clone(), access: access.clone() });
        Ok(Genesis {
            version: GENESIS_VERSION,
            name: self.name.clone(),
            time_ms: self.time_ms,
            rules: Rules {
                replay_window_ms: u64::try_from(self.replay_window.as_millis()).unwrap_or(u64::MAX),
                open_registration: self.open_registration,
                open_tokens: self.open_tokens,
                operators: self.operators.iter().map(|(name, _)| name.clone()).collect(),
            },
            voters: vec![Voter::alone("node-1", key)],
            cluster: Cluster::default(),
            users: users.collect(),
            tokens: self.tokens.clone(),
            wallets: self.wallets.clone(),
        })
    }

    /// Writes the data directory of the ledger's node.
    pub fn create(&self, dir: &Path) -> Done<Genesis> {
        let genesis = self.genesis()?;
        genesis.check().map_err(|error| Fail::new("genesis", error))?;
        kanjo_node::data::create(dir, &genesis, *self.vote_secret)
            .map_err(|error| Fail::new("data", error))?;
        Ok(genesis)
    }
}

/// A ledger for development: open to all, its operator's key in the home unencrypted, drawn when it
/// is not there yet.
pub fn development_plan(ctx: &Context, name: &str) -> Done<Plan> {
    let store = ctx.home.keys();
    let key = match store.load(OPERATOR) {
        Ok(key) => key,
        Err(KeyError::Unknown { .. }) => {
            let key = KeyFile::generate(OPERATOR, KeyKind::Ed25519, Protection::Plain)?;
            store.save(&key)?;
            key
        }
        Err(error) => return Err(error.into()),
    };
    let mut plan = Plan::new(name, vec![(OPERATOR.to_owned(), Access::Single(key.public()))])?;
    plan.open_registration = true;
    plan.open_tokens = true;
    plan.tokens = vsm_and_jpy(OPERATOR);
    let supply = DEVELOPMENT_SUPPLY.checked_mul(10u128.pow(u32::from(VSM_DECIMALS)));
    let supply = supply.ok_or_else(|| Fail::usage("the first supply is too large"))?;
    plan.wallets = vec![wallet_with_vsm(OPERATOR, Amount(supply))];
    Ok(plan)
}

/// VSM with six decimals and JPY with none, issued by `issuer`.
pub fn vsm_and_jpy(issuer: &str) -> Vec<FirstToken> {
    let token = |symbol: &str, name: &str, decimals| FirstToken {
        symbol: symbol.to_owned(),
        name: name.to_owned(),
        decimals,
        issuer: issuer.to_owned(),
        policy: Policy::default(),
    };
    vec![token("VSM", "Versum", VSM_DECIMALS), token("JPY", "Japanese yen deposit", 0)]
}

/// The first wallet of `owner`, holding `vsm`.
pub fn wallet_with_vsm(owner: &str, vsm: Amount) -> FirstWallet {
    let held = (vsm != Amount::ZERO).then(|| ("VSM".to_owned(), vsm));
    let balances: BTreeMap<String, Amount> = held.into_iter().collect();
    FirstWallet { owner: owner.to_owned(), number: 0, balances }
}

/// Runs `kanjo init`.
pub fn init(ctx: &Context, args: &InitArgs) -> Done {
    let supply = Amount::parse_decimal(&args.vsm_supply, VSM_DECIMALS)
        .map_err(|error| Fail::usage(format!("--vsm-supply: {error}")))?;
    if args.dir.join("genesis.json").exists() {
        let dir = args.dir.display();
        let fail = Fail::new("already_there", format!("{dir} already holds a ledger"));
        return Err(fail.next(format!("run it with 'kanjo node --data {dir}', or choose another")));
    }
    let operators = operators(ctx, &args.operators, args.no_passphrase)?;
    let (first, _) = operators.first().ok_or_else(|| Fail::usage("no operator"))?;
    let first = first.clone();
    let mut plan = Plan::new(&args.name, operators)?;
    plan.open_registration = args.open_registration;
    plan.open_tokens = args.open_tokens;
    plan.replay_window = args.replay_window;
    plan.tokens = vsm_and_jpy(&first);
    plan.wallets = vec![wallet_with_vsm(&first, supply)];
    let genesis = plan.create(&args.dir)?;
    remember(ctx, &genesis)?;
    let chain = genesis.chain_id();
    let wallet = genesis.wallet_id(&first, 0);
    let dir = args.dir.display();
    let json = json!({ "chain": chain, "data": args.dir, "operator": first, "wallet": wallet });
    ctx.answer(&json, || {
        say!("Ledger {} made in {dir}.", bold(&args.name));
        say!("  chain     {chain}");
        say!("  operator  {first}, holding {} VSM", crate::text::group_digits(&args.vsm_supply));
        say!("  genesis   {dir}/genesis.json (public: proofs are checked against it)");
        say!("  vote key  {dir}/vote.key (secret: it is the node)");
        say!();
        say!("{}", dim("Next:"));
        say!("  {} node --data {dir}", ctx.program());
        say!("  {}wallet show {first}", ctx.program_with_home());
    })
}

/// Keeps the ids of the first users and wallets under their names.
pub fn remember(ctx: &Context, genesis: &Genesis) -> Done {
    let mut book = ctx.home.book(genesis.chain_id())?;
    for user in &genesis.users {
        if let Some(id) = genesis.user_id(&user.name) {
            book.users.insert(user.name.clone(), id);
        }
    }
    for wallet in genesis.wallets.iter().filter(|wallet| wallet.number == 0) {
        if let Some(id) = genesis.wallet_id(&wallet.owner, 0) {
            book.wallets.insert(wallet.owner.clone(), id);
        }
    }
    ctx.home.save_book(&book)
}

/// Operators by the keys that were named, or the one of the home directory.
pub fn operators(
    ctx: &Context,
    given: &[String],
    no_passphrase: bool,
) -> Done<Vec<(String, Access)>> {
    if given.is_empty() {
        let key = match ctx.home.keys().load(OPERATOR) {
            Ok(key) => key,
            Err(KeyError::Unknown { .. }) => {
                new_key(ctx, OPERATOR, KeyKind::Ed25519, no_passphrase)?.0
            }
            Err(error) => return Err(error.into()),
        };
        return Ok(vec![(OPERATOR.to_owned(), Access::Single(key.public()))]);
    }
    let mut found: Vec<(String, Access)> = Vec::new();
    for (position, text) in given.iter().enumerate() {
        let access = Access::Single(ctx.public_key(text)?);
        let stem = Path::new(text).file_stem().and_then(|stem| stem.to_str()).map(str::to_owned);
        let name = match stem {
            Some(stem) if !text.contains(':') => stem,
            _ if position == 0 => OPERATOR.to_owned(),
            _ => format!("{OPERATOR}-{}", position + 1),
        };
        found.push((name, access));
    }
    Ok(found)
}
