//! Readers of text: JSON from clients and files, ids, keys and amounts that people type.

use kanjo_types::{
    ActId, Amount, BundleId, ChainId, ClaimId, Genesis, Hash, Header, PendingId, PublicKey, Record,
    ScheduleId, SignedTransaction, TransactionId, UserId, WalletId, codec,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::{Debug, Display};
use std::str::FromStr;

/// Reads JSON and asserts that the value written again is the same value with the same canonical
/// bytes. (The text itself may differ: spaces, the order of fields, escapes.)
fn json<T>(data: &[u8]) -> Option<T>
where
    T: DeserializeOwned + Serialize + PartialEq + Debug + borsh::BorshSerialize,
{
    let value: T = serde_json::from_slice(data).ok()?;
    let text = serde_json::to_string(&value);
    assert!(text.is_ok(), "what was read can't be written");
    let again = serde_json::from_str::<T>(&text.unwrap_or_default());
    assert!(again.as_ref().is_ok_and(|again| *again == value), "{value:?} became {again:?}");
    let bytes = codec::to_bytes(&value);
    assert!(again.is_ok_and(|again| codec::to_bytes(&again) == bytes));
    Some(value)
}

/// The genesis file.
pub fn genesis_json(data: &[u8]) {
    if let Some(genesis) = json::<Genesis>(data) {
        let _ = genesis.chain_id();
        if genesis.check().is_ok() {
            for user in &genesis.users {
                assert!(genesis.user_id(&user.name).is_some());
            }
            for wallet in &genesis.wallets {
                assert!(genesis.wallet_id(&wallet.owner, wallet.number).is_some());
            }
        }
    }
}

/// A transaction as the JSON interface takes it.
pub fn transaction_json(data: &[u8]) {
    if let Some(signed) = json::<SignedTransaction>(data) {
        let bytes = codec::to_bytes(&signed);
        assert!(codec::from_bytes::<SignedTransaction>(&bytes).is_ok_and(|same| same == signed));
        let _ = (signed.body.check_shape(), signed.body.id(), signed.witness());
    }
}

/// A record as clients get it.
pub fn record_json(data: &[u8]) {
    if let Some(record) = json::<Record>(data) {
        let _ = (record.hash(), record.place());
    }
}

/// A header as clients get it.
pub fn header_json(data: &[u8]) {
    if let Some(header) = json::<Header>(data) {
        let _ = header.hash();
    }
}

/// Reads a text form and asserts that the value's own text is the given one but for capitals and
/// spaces around.
fn text<T: FromStr + Display + PartialEq>(given: &str) -> bool {
    let Ok(value) = given.parse::<T>() else { return false };
    let own = value.to_string();
    assert!(own.eq_ignore_ascii_case(given.trim()), "'{given}' is also '{own}'");
    assert!(own.parse::<T>().is_ok_and(|again| again == value));
    true
}

/// Ids and hashes.
pub fn ids_text(data: &[u8]) {
    let Ok(given) = std::str::from_utf8(data) else { return };
    text::<ChainId>(given);
    text::<TransactionId>(given);
    text::<Hash>(given);
    let kinds = [
        text::<UserId>(given),
        text::<WalletId>(given),
        text::<PendingId>(given),
        text::<BundleId>(given),
        text::<ScheduleId>(given),
        text::<ActId>(given),
        text::<ClaimId>(given),
    ];
    let named = kinds.into_iter().filter(|named| *named).count();
    assert!(named <= 1, "'{given}' names {named} things");
}

/// Public keys.
pub fn keys_text(data: &[u8]) {
    if let Ok(given) = std::str::from_utf8(data) {
        text::<PublicKey>(given);
    }
}

/// Amounts; the first byte is the number of decimals.
pub fn amount_text(data: &[u8]) {
    let Some((decimals, digits)) = data.split_first() else { return };
    let Ok(given) = std::str::from_utf8(digits) else { return };
    if let Ok(amount) = Amount::parse_decimal(given, *decimals) {
        let own = amount.to_decimal(*decimals);
        assert!(Amount::parse_decimal(&own, *decimals) == Ok(amount), "'{own}'");
        // Equal but for zeros in front and behind the point.
        assert!(plain(&own) == plain(given.trim()), "'{given}' was read as {own}");
    }
    if let Ok(amount) = given.parse::<Amount>() {
        assert!(amount.to_string().parse::<Amount>() == Ok(amount));
        assert!(Amount::parse_decimal(given, 0) == Ok(amount));
    }
}

fn plain(number: &str) -> (&str, &str) {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    (whole.trim_start_matches('0'), fraction.trim_end_matches('0'))
}
