//! SQL roles: names of the ledger's users, and the keys that a node keeps for them (mission D4).

use kanjo_types::UserId;
use kanjo_types::signature::SecretKey;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A role: whoever connects under its name acts as a user of the ledger.
#[derive(Clone)]
pub struct Role {
    /// Which user.
    pub user: UserId,
    /// Signs the user's transactions; without it the role only reads.
    pub key: Option<Arc<SecretKey>>,
}

impl std::fmt::Debug for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let signs = self.key.is_some();
        f.debug_struct("Role").field("user", &self.user).field("signs", &signs).finish()
    }
}

/// The roles of a SQL service. Under any other name one reads what everybody may read.
#[derive(Debug, Clone, Default)]
pub struct Roles(BTreeMap<String, Role>);

impl Roles {
    /// Adds a role; of a name that comes twice the last one counts.
    pub fn add(&mut self, name: impl Into<String>, role: Role) {
        self.0.insert(name.into(), role);
    }

    /// The role with a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Role> {
        self.0.get(name)
    }

    /// The user behind a name.
    #[must_use]
    pub fn user(&self, name: &str) -> Option<UserId> {
        self.get(name).map(|role| role.user)
    }

    /// All names.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    /// The name of a user, if it has one here.
    #[must_use]
    pub fn name_of(&self, user: UserId) -> Option<&str> {
        self.0.iter().find(|(_, role)| role.user == user).map(|(name, _)| name.as_str())
    }
}
