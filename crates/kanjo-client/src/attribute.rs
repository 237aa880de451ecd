//! Personal attributes: only a salted commitment goes to the ledger; value and salt stay with their
//! custodian and open the commitment to whom they are shown.

use crate::draft::DraftError;
use kanjo_types::money::attribute_commitment;
use kanjo_types::{Hash, Operation, UserId};
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

/// What opens a commitment. Wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttributeOpening {
    /// Name, such as `legal_name`.
    pub name: String,
    /// The attribute itself.
    pub value: String,
    /// Drawn at random, 32 bytes: without it nobody can try values against the commitment.
    pub salt: Hash,
}

impl std::fmt::Debug for AttributeOpening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AttributeOpening({}, …)", self.name)
    }
}

impl Drop for AttributeOpening {
    fn drop(&mut self) {
        self.value.zeroize();
        self.salt.0.zeroize();
    }
}

impl AttributeOpening {
    /// A value with a salt of its own.
    ///
    /// # Errors
    /// [`DraftError::NoRandomness`].
    pub fn draw(name: &str, value: &str) -> Result<Self, DraftError> {
        let mut salt = [0u8; 32];
        getrandom::fill(&mut salt).map_err(|error| DraftError::NoRandomness(error.to_string()))?;
        Ok(Self { name: name.to_owned(), value: value.to_owned(), salt: Hash(salt) })
    }

    /// What goes to the ledger.
    #[must_use]
    pub fn commitment(&self) -> Hash {
        attribute_commitment(&self.salt.0, &self.name, &self.value)
    }

    /// The operation that commits to it.
    #[must_use]
    pub fn operation(&self, user: UserId) -> Operation {
        Operation::SetAttribute { user, name: self.name.clone(), commitment: self.commitment() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_have_different_commitments_that_open() {
        let draw = || AttributeOpening::draw("legal_name", "Alice Example").expect("random");
        let (a, b) = (draw(), draw());
        assert_ne!(a.commitment(), b.commitment());
        let json = serde_json::to_string(&a).expect("json");
        let back: AttributeOpening = serde_json::from_str(&json).expect("json");
        assert_eq!(back.commitment(), a.commitment());
        let mut other = a.clone();
        other.value = "Alice Examplf".to_owned();
        assert_ne!(other.commitment(), a.commitment());
        assert!(!format!("{a:?}").contains("Example"));
    }
}
