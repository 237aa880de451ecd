//! The rows of block 0.

use kanjo_types::policy::TokenRules;
use kanjo_types::record::{Record, TokenRecord, UserRecord, WalletRecord, WalletStateRecord};
use kanjo_types::stored::{Location, Row};
use kanjo_types::{Amount, Genesis, Hash, TokenId, UserId, WalletId};
use std::collections::BTreeMap;

fn row(record: Record) -> Row {
    Row { hash: record.hash(), record, previous_at: Location::default(), named: false }
}

/// The rows that `genesis` defines, in the order of the file: users, tokens, wallets each followed
/// by its states by ascending token. Their transaction link is the chain id. `genesis` must have
/// passed [`Genesis::check`]; what it does not define is left out.
#[must_use]
pub fn genesis_rows(genesis: &Genesis) -> Vec<Row> {
    let chain = genesis.chain_id();
    let mut rows = Vec::new();
    let mut users: BTreeMap<&str, (UserId, Hash)> = BTreeMap::new();
    for user in &genesis.users {
        let id = UserId::derive(chain, &user.access, 0);
        let made = row(Record::User(UserRecord {
            id,
            version: 1,
            access: user.access.clone(),
            sponsor: id,
            previous: Hash::ZERO,
            transaction: chain.0,
        }));
        users.insert(&user.name, (id, made.hash));
        rows.push(made);
    }
    let mut tokens: BTreeMap<&str, TokenId> = BTreeMap::new();
    for (number, token) in (1u32..).zip(&genesis.tokens) {
        let Some((issuer, issuer_record)) = users.get(token.issuer.as_str()).copied() else {
            continue;
        };
        tokens.insert(&token.symbol, TokenId(number));
        let balances =
            genesis.wallets.iter().filter_map(|wallet| wallet.balances.get(&token.symbol));
        rows.push(row(Record::Token(TokenRecord {
            id: TokenId(number),
            version: 1,
            symbol: token.symbol.clone(),
            name: token.name.clone(),
            decimals: token.decimals,
            issuer,
            issued: Amount(balances.map(|amount| amount.0).sum()),
            redeemed: Amount::ZERO,
            rules: TokenRules::new(&token.policy),
            previous: Hash::ZERO,
            transaction: chain.0,
            issuer_record,
        })));
    }
    for wallet in &genesis.wallets {
        let Some((owner, owner_record)) = users.get(wallet.owner.as_str()).copied() else {
            continue;
        };
        let id = WalletId::derive(chain, owner, wallet.number);
        let made = row(Record::Wallet(WalletRecord {
            id,
            version: 1,
            owner,
            number: wallet.number,
            previous: Hash::ZERO,
            transaction: chain.0,
            owner_record,
        }));
        let wallet_record = made.hash;
        rows.push(made);
        let named = |(symbol, amount): (&String, &Amount)| {
            Some((tokens.get(symbol.as_str()).copied()?, *amount))
        };
        let balances: BTreeMap<TokenId, Amount> =
            wallet.balances.iter().filter_map(named).filter(|(_, amount)| amount.0 > 0).collect();
        rows.extend(balances.into_iter().map(|(token, balance)| {
            row(Record::WalletState(WalletStateRecord {
                wallet: id,
                token,
                version: 1,
                balance,
                extra: None,
                previous: Hash::ZERO,
                transaction: chain.0,
                wallet_record,
            }))
        }));
    }
    rows
}
