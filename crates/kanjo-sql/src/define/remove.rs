//! DROP of tables, views, indexes and schemas.

use super::names::{self, Indexed, Referencing};
use super::{Change, Defined, Names, Relation, state, view};
use crate::error::{SqlError, code};
use datafusion::sql::sqlparser::ast::{ObjectName, ObjectType};
use kanjo_types::RelationId;
use kanjo_types::relation::{RelationChange, RelationKind};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

type Result<T> = std::result::Result<T, SqlError>;

/// Relations that go, by number.
type Going = BTreeMap<u32, Arc<Relation>>;

pub(super) fn drop(
    what: ObjectType,
    of: &[ObjectName],
    if_exists: bool,
    cascade: bool,
    names: &dyn Names,
) -> Option<Result<Defined>> {
    Some(match what {
        ObjectType::Table => relations("DROP TABLE", of, if_exists, cascade, names),
        ObjectType::View => relations("DROP VIEW", of, if_exists, cascade, names),
        ObjectType::Index => indexes(of, if_exists, cascade, names),
        ObjectType::Schema => schemas(of, cascade, names),
        ObjectType::Role | ObjectType::User => return None,
        other => nothing_such(other, of, if_exists),
    })
}

/// What there can't be is not there: no error where the statement does not mind.
fn nothing_such(what: ObjectType, of: &[ObjectName], if_exists: bool) -> Result<Defined> {
    let word = what.to_string().to_lowercase();
    let missing = |name: &ObjectName| format!("{word} \"{name}\" does not exist");
    if if_exists {
        let notices = of.iter().map(|name| missing(name) + ", skipping").collect();
        let tag = match what {
            ObjectType::Sequence => "DROP SEQUENCE",
            ObjectType::MaterializedView => "DROP MATERIALIZED VIEW",
            ObjectType::Type => "DROP TYPE",
            ObjectType::Collation => "DROP COLLATION",
            _ => "DROP",
        };
        return Ok(Defined { tag, changes: vec![], notices });
    }
    let message = of.first().map(missing).unwrap_or_default();
    Err(SqlError::new(state::UNDEFINED, message).hint(format!("there is no {word} at all")))
}

fn relations(
    tag: &'static str,
    of: &[ObjectName],
    if_exists: bool,
    cascade: bool,
    names: &dyn Names,
) -> Result<Defined> {
    let mut notices = Vec::new();
    let mut going = Going::new();
    for name in of {
        let found = match names::find(name, names) {
            Ok(found) => found,
            Err(error) if if_exists && error.code == code::NO_TABLE => {
                let (_, name) = names::split(name)?;
                let word = if tag == "DROP VIEW" { "view" } else { "table" };
                notices.push(format!("{word} \"{name}\" does not exist, skipping"));
                continue;
            }
            Err(error) => return Err(error),
        };
        let (word, other) = match found.record.kind {
            RelationKind::Table(_) => ("DROP TABLE", "table"),
            RelationKind::View(_) => ("DROP VIEW", "view"),
        };
        if word != tag {
            let (name, wanted) =
                (&found.record.name, if other == "view" { "table" } else { "view" });
            let message = format!("\"{name}\" is not a {wanted}");
            let hint = format!("Use {word} to remove a {other}.");
            return Err(SqlError::new(state::WRONG_KIND, message).hint(hint));
        }
        going.insert(found.record.number.0, found);
    }
    let changes = changes(&going, cascade, &mut notices, names)?;
    Ok(Defined { tag, changes, notices })
}

/// Drops relations: first the foreign keys of those that stay, then one after the other, those that
/// reference before those that they reference.
fn changes(
    going: &Going,
    cascade: bool,
    notices: &mut Vec<String>,
    names: &dyn Names,
) -> Result<Vec<Change>> {
    let mut changes = Vec::new();
    // Who of those that go references whom.
    let mut referencing: BTreeMap<u32, Vec<Referencing>> = BTreeMap::new();
    for (number, relation) in going {
        let all = names::referencing(RelationId(*number), names);
        let (inside, outside) =
            all.into_iter().partition(|(other, _)| going.contains_key(&other.record.number.0));
        referencing.insert(*number, inside);
        drop_keys(relation, outside, cascade, notices, &mut changes)?;
    }
    let mut left: BTreeSet<u32> = going.keys().copied().collect();
    while let Some(first) = left.first().copied() {
        let is_held = |number: &u32| {
            let others = referencing.get(number).into_iter().flatten();
            others.clone().any(|(other, _)| left.contains(&other.record.number.0))
        };
        let free = left.iter().find(|number| !is_held(number)).copied();
        // In a circle of references, the first one is let go by those that are left.
        let number = free.unwrap_or(first);
        if free.is_none() {
            for (other, keys) in referencing.get(&number).into_iter().flatten() {
                if left.contains(&other.record.number.0) {
                    changes.extend(keys.iter().map(|name| {
                        let name = name.clone();
                        Change::of(other.record.number, RelationChange::DropConstraint { name })
                    }));
                }
            }
            referencing.remove(&number);
        }
        changes.push(Change::of(RelationId(number), RelationChange::Drop));
        left.remove(&number);
    }
    Ok(changes)
}

/// Drops the foreign keys that reference a table which goes, of tables that stay; only with
/// CASCADE.
fn drop_keys(
    relation: &Relation,
    outside: Vec<Referencing>,
    cascade: bool,
    notices: &mut Vec<String>,
    changes: &mut Vec<Change>,
) -> Result<()> {
    let table = &relation.record.name;
    for (other, keys) in outside {
        for name in keys {
            let of = format!("constraint {name} on table {}", other.record.name);
            if !cascade {
                let message =
                    format!("cannot drop table {table} because other objects depend on it");
                return Err(SqlError::new(state::IN_USE, message).hint(format!(
                    "{of} depends on table {table}; use DROP ... CASCADE to drop the dependent \
                     objects too"
                )));
            }
            notices.push(format!("drop cascades to {of}"));
            changes.push(Change::of(other.record.number, RelationChange::DropConstraint { name }));
        }
    }
    Ok(())
}

fn indexes(
    of: &[ObjectName],
    if_exists: bool,
    cascade: bool,
    names: &dyn Names,
) -> Result<Defined> {
    let mut defined = Defined::new("DROP INDEX");
    for name in of {
        let (schema, name) = names::split(name)?;
        match names::index_named(&schema, &name, names) {
            None if if_exists => {
                defined.notices.push(format!("index \"{name}\" does not exist, skipping"));
            }
            None => {
                let message = format!("index \"{name}\" does not exist");
                return Err(SqlError::new(state::UNDEFINED, message));
            }
            Some((table, Indexed::Index)) => {
                let change = RelationChange::DropIndex { name };
                defined.changes.push(Change::of(table.record.number, change));
            }
            Some((table, Indexed::Unique)) => {
                let (mut changes, mut notices) = drop_constraint(&table, &name, cascade, names)?;
                defined.changes.append(&mut changes);
                defined.notices.append(&mut notices);
            }
            Some((table, Indexed::Primary)) => {
                let table = &table.record.name;
                let message = format!(
                    "cannot drop index {name} because constraint {name} on table {table} requires it"
                );
                return Err(
                    SqlError::new(state::IN_USE, message).hint("a table keeps its primary key")
                );
            }
        }
    }
    Ok(defined)
}

/// Drops a constraint; with CASCADE also the foreign keys that need it.
pub(super) fn drop_constraint(
    relation: &Relation,
    name: &str,
    cascade: bool,
    names: &dyn Names,
) -> Result<(Vec<Change>, Vec<String>)> {
    use kanjo_types::relation::{Constraint, Target};
    let record = &relation.record;
    let definition = names::table(relation)?;
    let (mut changes, mut notices) = (Vec::new(), Vec::new());
    if let Some(Constraint::Unique { columns, .. }) = definition.constraint(name) {
        let same = |other: &&Constraint| match other {
            Constraint::Unique { name: of, columns: others, .. } => of != name && others == columns,
            _ => false,
        };
        let is_other_key = definition.primary == *columns
            || definition.constraints.iter().any(|other| same(&other));
        let needs = |of: &&Constraint| match of {
            Constraint::Foreign { target: Target::Rows { relation, columns: to }, .. } => {
                *relation == record.number && to == columns && !is_other_key
            }
            _ => false,
        };
        let mut all = names.all();
        all.sort_by_key(|other| other.record.number.0);
        for other in &all {
            let of_other = other.record.table().map(|of| &of.constraints[..]).unwrap_or_default();
            for key in of_other.iter().filter(|key| needs(key)) {
                let of = format!("constraint {} on table {}", key.name(), other.record.name);
                if !cascade {
                    let message = format!(
                        "cannot drop constraint {name} on table {} because other objects depend on it",
                        record.name
                    );
                    return Err(SqlError::new(state::IN_USE, message).hint(format!(
                        "{of} depends on it; use DROP ... CASCADE to drop the dependent objects too"
                    )));
                }
                notices.push(format!("drop cascades to {of}"));
                let change = RelationChange::DropConstraint { name: key.name().to_owned() };
                changes.push(Change::of(other.record.number, change));
            }
        }
    }
    let change = RelationChange::DropConstraint { name: name.to_owned() };
    changes.push(Change::of(record.number, change));
    Ok((changes, notices))
}

fn schemas(of: &[ObjectName], cascade: bool, names: &dyn Names) -> Result<Defined> {
    let mut notices = Vec::new();
    let mut going = Going::new();
    for name in of {
        let schema = view::schema(name)?;
        names::check_permitted(&schema, "")?;
        let mut inside = names.all();
        inside.retain(|relation| relation.record.schema == schema);
        inside.sort_by_key(|relation| relation.record.number.0);
        let Some(first) = inside.first() else {
            notices.push(format!("schema \"{schema}\" is empty, nothing to do"));
            continue;
        };
        if !cascade {
            let (word, first) = (first.record.kind.word(), &first.record.name);
            let message = format!("cannot drop schema {schema} because other objects depend on it");
            return Err(SqlError::new(state::IN_USE, message).hint(format!(
                "{word} {first} is in it; use DROP ... CASCADE to drop the dependent objects too"
            )));
        }
        for relation in inside {
            let (word, name) = (relation.record.kind.word(), &relation.record.name);
            notices.push(format!("drop cascades to {word} {name}"));
            going.insert(relation.record.number.0, relation);
        }
    }
    let changes = changes(&going, cascade, &mut notices, names)?;
    Ok(Defined { tag: "DROP SCHEMA", changes, notices })
}
