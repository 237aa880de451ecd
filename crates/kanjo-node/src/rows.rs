//! Rows of any table by table and key.

use kanjo_ledger::Ledger;
use kanjo_ledger::table::Row as _;
use kanjo_types::record::{RowKey, Table};
use kanjo_types::stored::Location;
use kanjo_types::{Hash, TokenId, UserId, WalletId};
use serde::Deserialize;
use serde::de::IntoDeserializer as _;
use serde::de::value::{Error, StrDeserializer};

/// The id at the start of a key, and the token number behind it.
pub(crate) fn parts(key: RowKey) -> ([u8; 16], TokenId) {
    let (id, rest) =
        key.0.0.split_first_chunk::<16>().map_or(([0; 16], &[][..]), |(id, rest)| (*id, rest));
    let token = rest.first_chunk::<4>().copied().unwrap_or_default();
    (id, TokenId(u32::from_be_bytes(token)))
}

/// The token number at the start of a key.
pub(crate) fn token_of(key: RowKey) -> TokenId {
    let number = key.0.0.first_chunk::<4>().copied().unwrap_or_default();
    TokenId(u32::from_be_bytes(number))
}

/// Where the newest version of a row was made.
pub(crate) fn made_at(ledger: &Ledger, table: Table, key: RowKey) -> Option<Location> {
    let (id, token) = parts(key);
    let (found, at) = match table {
        Table::Users => {
            ledger.users().get(&UserId(id)).map(|row| (RowKey::user(row.id), row.made_at()))
        }
        Table::Wallets => {
            ledger.wallets().get(&WalletId(id)).map(|row| (RowKey::wallet(row.id), row.made_at()))
        }
        Table::Tokens => ledger
            .tokens()
            .get(&token_of(key))
            .map(|row| (RowKey::token(row.record.id), row.made_at())),
        Table::WalletStates => ledger
            .states()
            .get(&(WalletId(id), token))
            .map(|row| (RowKey::wallet_state(row.wallet, row.token), row.made_at())),
        _ => ledger.standing(table).get(&key).map(|row| (row.key, row.made_at())),
    }?;
    // Something may stand behind the id.
    (found == key).then_some(at)
}

/// The name of a table, as in paths and records.
pub(crate) fn table_name(table: Table) -> String {
    match serde_json::to_value(table) {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(),
    }
}

/// The table with this name.
pub(crate) fn table_named(name: &str) -> Option<Table> {
    let name: StrDeserializer<'_, Error> = name.into_deserializer();
    Table::deserialize(name).ok()
}

/// A key in text: 64 hexadecimal digits.
pub(crate) fn key_of_hex(text: &str) -> Option<RowKey> {
    text.parse::<Hash>().ok().map(RowKey)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_the_names_of_their_records() {
        for table in Table::ALL {
            let name = table_name(table);
            assert_eq!(table_named(&name), Some(table), "{name}");
        }
        assert_eq!(table_name(Table::WalletStates), "wallet_states");
        assert_eq!(table_named("WalletStates"), None);
        assert_eq!(table_named("transactions"), None);
    }

    #[test]
    fn keys_are_taken_apart() {
        let (wallet, token) = (WalletId([9; 16]), TokenId(0x0102_0304));
        assert_eq!(parts(RowKey::wallet_state(wallet, token)), (wallet.0, token));
        assert_eq!(token_of(RowKey::token(token)), token);
    }
}
