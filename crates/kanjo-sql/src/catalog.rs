//! The tables and views of users, as a statement sees them.

use crate::define::{Names, Relation};
use crate::error::{SqlError, code};
use crate::roles::Roles;
use crate::transaction::Drafts;
use kanjo_types::record::{Record, RowKey, Table};
use kanjo_types::relation::{RelationKind, RelationRecord};
use kanjo_types::{RelationId, UserId};
use kanjo_view::{Content, Snapshot};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// Relations that are read at one time.
const BATCH: usize = 512;

/// The relations of a snapshot, with what a transaction has made of them.
pub(crate) struct Catalog {
    by_name: BTreeMap<(String, String), Arc<Relation>>,
    by_number: BTreeMap<RelationId, Arc<Relation>>,
    /// Dropped ones included.
    count: u32,
}

impl Catalog {
    pub(crate) fn read(snapshot: &Snapshot, drafts: &Drafts) -> Result<Self, SqlError> {
        let mut catalog = Self { by_name: BTreeMap::new(), by_number: BTreeMap::new(), count: 0 };
        let mut next = Some(Bound::Unbounded);
        while let Some(from) = next {
            let (rows, on) = snapshot.scan(Table::Relations, from, RowKey::MAX, BATCH)?;
            next = on;
            for (_, version) in rows {
                let Content::Record(record) = &version.content else { continue };
                let Record::Relation(record) = record.as_ref() else { continue };
                catalog.count += 1;
                if !drafts.relations.contains_key(&record.number) {
                    let record = record.as_ref().clone();
                    catalog.add(Arc::new(Relation { record, hash: version.hash }));
                }
            }
        }
        for relation in drafts.relations.values() {
            catalog.count += u32::from(relation.hash.is_zero());
            catalog.add(Arc::clone(relation));
        }
        Ok(catalog)
    }

    fn add(&mut self, relation: Arc<Relation>) {
        let record = &relation.record;
        if !record.dropped {
            let name = (record.schema.clone(), record.name.clone());
            self.by_number.insert(record.number, Arc::clone(&relation));
            self.by_name.insert(name, relation);
        }
    }

    pub(crate) fn get(&self, number: RelationId) -> Option<&Arc<Relation>> {
        self.by_number.get(&number)
    }

    pub(crate) fn named(&self, schema: &str, name: &str) -> Option<&Arc<Relation>> {
        self.by_name.get(&(schema.to_owned(), name.to_owned()))
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Relation>> {
        self.by_number.values()
    }

    /// Schemas that hold a relation.
    pub(crate) fn schemas(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.by_name.keys().map(|(schema, _)| schema.clone()).collect();
        names.dedup();
        names
    }

    pub(crate) fn next_number(&self) -> RelationId {
        RelationId(self.count.saturating_add(1))
    }

    /// The table with a name, for somebody who wants to change its rows.
    pub(crate) fn table(&self, schema: &str, name: &str) -> Result<&Arc<Relation>, SqlError> {
        let found = self.named(schema, name).ok_or_else(|| {
            let message = format!("relation \"{name}\" does not exist");
            SqlError::new(code::NO_TABLE, message)
        })?;
        match found.record.kind {
            RelationKind::Table(_) => Ok(found),
            RelationKind::View(_) => {
                let message = format!("\"{name}\" is a view: change the tables that it reads");
                Err(SqlError::new("42809", message))
            }
        }
    }
}

/// The relations of the height that was asked for last.
#[derive(Default)]
pub(crate) struct Catalogs(Mutex<Option<(u64, Arc<Catalog>)>>);

impl Catalogs {
    pub(crate) fn at(&self, snapshot: &Snapshot) -> Result<Arc<Catalog>, SqlError> {
        let height = snapshot.height();
        if let Some((of, known)) = self.0.lock().as_ref()
            && *of == height
        {
            return Ok(Arc::clone(known));
        }
        let read = Arc::new(Catalog::read(snapshot, &Drafts::default())?);
        *self.0.lock() = Some((height, Arc::clone(&read)));
        Ok(read)
    }
}

/// May `user` do this? Somebody without a user may do what everybody may.
pub(crate) fn permit(
    record: &RelationRecord,
    user: Option<UserId>,
    right: u8,
) -> Result<(), SqlError> {
    let everybody = record.grants.iter().filter(|grant| grant.to.is_none());
    let everybody = everybody.fold(0, |all, grant| all | grant.rights);
    let may = everybody & right == right || user.is_some_and(|user| record.permits(&user, right));
    if may {
        return Ok(());
    }
    let message = format!("permission denied for {} {}", record.kind.word(), record.name);
    let hint = match user {
        Some(user) => format!("its owner can GRANT it to {user}"),
        None => "this role has no user of the ledger; connect as one that has".to_owned(),
    };
    Err(SqlError::new(code::NOT_PERMITTED, message).hint(hint))
}

/// A catalog as definitions ask it, with the names of roles.
pub(crate) struct Known<'a> {
    pub catalog: &'a Catalog,
    pub roles: &'a Roles,
}

impl Names for Known<'_> {
    fn find(&self, schema: &str, name: &str) -> Option<Arc<Relation>> {
        self.catalog.named(schema, name).cloned()
    }

    fn all(&self) -> Vec<Arc<Relation>> {
        self.catalog.all().cloned().collect()
    }

    fn next_number(&self) -> RelationId {
        self.catalog.next_number()
    }

    fn user(&self, role: &str) -> Option<UserId> {
        self.roles.user(role).or_else(|| role.parse().ok())
    }
}
