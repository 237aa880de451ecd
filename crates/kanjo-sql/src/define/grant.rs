//! GRANT and REVOKE on tables and views.

use super::{Change, Defined, Names, Relation, fold, names, state, view};
use crate::error::{SqlError, code};
use datafusion::sql::sqlparser::ast::{
    Action, Grant, GrantObjects, Grantee, GranteeName, GranteesType, Privileges, Revoke,
};
use kanjo_types::UserId;
use kanjo_types::relation::{
    RIGHT_DELETE, RIGHT_INSERT, RIGHT_REFERENCE, RIGHT_SELECT, RIGHT_UPDATE, RIGHTS_ALL,
    RelationChange, TABLE_GRANTS_MAX, TableGrant,
};
use std::collections::BTreeMap;
use std::sync::Arc;

type Result<T> = std::result::Result<T, SqlError>;

pub(super) fn grant(grant: &Grant, names: &dyn Names) -> Result<Defined> {
    if grant.with_grant_option {
        return Err(SqlError::not_supported("WITH GRANT OPTION is not supported")
            .hint("the owner of a table grants rights on it"));
    }
    let to = (&grant.privileges, grant.objects.as_ref(), &grant.grantees[..]);
    changed("GRANT", to, names, |present, rights| present | rights)
}

pub(super) fn revoke(revoke: &Revoke, names: &dyn Names) -> Result<Defined> {
    let from = (&revoke.privileges, revoke.objects.as_ref(), &revoke.grantees[..]);
    changed("REVOKE", from, names, |present, rights| present & !rights)
}

/// Sets the grants of each relation to what comes of the present ones.
fn changed(
    tag: &'static str,
    (privileges, objects, grantees): (&Privileges, Option<&GrantObjects>, &[Grantee]),
    names: &dyn Names,
    change: impl Fn(u8, u8) -> u8,
) -> Result<Defined> {
    let relations = relations(objects, names)?;
    let rights = rights(privileges)?;
    let users: Result<Vec<Option<UserId>>> =
        grantees.iter().map(|grantee| user(grantee, names)).collect();
    let users = users?;
    let mut defined = Defined::new(tag);
    for relation in relations {
        let record = &relation.record;
        let mut grants: BTreeMap<Option<UserId>, u8> =
            record.grants.iter().map(|grant| (grant.to, grant.rights)).collect();
        // The owner has all rights, whatever is granted.
        for user in users.iter().filter(|user| **user != Some(record.owner)) {
            let present = grants.entry(*user).or_default();
            *present = change(*present, rights);
        }
        grants.retain(|_, rights| *rights != 0);
        let grants: Vec<TableGrant> =
            grants.into_iter().map(|(to, rights)| TableGrant { to, rights }).collect();
        if grants.len() > TABLE_GRANTS_MAX {
            let message = format!("a table has grants to at most {TABLE_GRANTS_MAX} users");
            return Err(SqlError::new(code::LIMIT_EXCEEDED, message));
        }
        if grants != record.grants {
            let change = RelationChange::SetGrants { grants };
            defined.changes.push(Change::of(record.number, change));
        }
    }
    Ok(defined)
}

/// The relations that are named, each once.
fn relations(objects: Option<&GrantObjects>, names: &dyn Names) -> Result<Vec<Arc<Relation>>> {
    let mut found: BTreeMap<u32, Arc<Relation>> = BTreeMap::new();
    match objects {
        Some(GrantObjects::Tables(tables) | GrantObjects::Views(tables)) => {
            for table in tables {
                let relation = names::find(table, names)?;
                found.insert(relation.record.number.0, relation);
            }
        }
        Some(GrantObjects::AllTablesInSchema { schemas }) => {
            for schema in schemas {
                let schema = view::schema(schema)?;
                let all = names.all().into_iter();
                let inside = all.filter(|relation| relation.record.schema == schema);
                found.extend(inside.map(|relation| (relation.record.number.0, relation)));
            }
        }
        None => {
            return Err(SqlError::not_supported("membership in a role is not supported")
                .hint("grant the rights to each role"));
        }
        Some(other) => {
            let what = super::shown(&other.to_string());
            return Err(SqlError::not_supported(format!("rights on {what} are not supported"))
                .hint("there are rights on tables and views"));
        }
    }
    Ok(found.into_values().collect())
}

fn rights(privileges: &Privileges) -> Result<u8> {
    let actions = match privileges {
        Privileges::All { .. } => return Ok(RIGHTS_ALL),
        Privileges::Actions(actions) => actions,
    };
    let right = |action: &Action| {
        let of_columns = |columns: &Option<Vec<_>>, right| match columns {
            None => Ok(right),
            Some(_) => Err(SqlError::not_supported("rights on columns are not supported")
                .hint("grant rights on a view that has these columns only")),
        };
        match action {
            Action::Select { columns } => of_columns(columns, RIGHT_SELECT),
            Action::Insert { columns } => of_columns(columns, RIGHT_INSERT),
            Action::Update { columns } => of_columns(columns, RIGHT_UPDATE),
            Action::References { columns } => of_columns(columns, RIGHT_REFERENCE),
            Action::Delete => Ok(RIGHT_DELETE),
            other => Err(SqlError::not_supported(format!("privilege {other} is not supported"))
                .hint("there are SELECT, INSERT, UPDATE, DELETE, REFERENCES and ALL")),
        }
    };
    actions.iter().try_fold(0, |all, action| Ok(all | right(action)?))
}

/// The user of a role; `None` for everybody.
fn user(grantee: &Grantee, names: &dyn Names) -> Result<Option<UserId>> {
    let name = match (&grantee.grantee_type, &grantee.name) {
        (GranteesType::Public, _) => return Ok(None),
        (
            GranteesType::None | GranteesType::Role | GranteesType::User | GranteesType::Group,
            Some(GranteeName::ObjectName(name)),
        ) => name,
        _ => return Err(SqlError::not_supported(format!("grants to {grantee} are not supported"))),
    };
    let [part] = &name.0[..] else { return Err(no_role(&name.to_string())) };
    let Some(role) = part.as_ident() else { return Err(no_role(&name.to_string())) };
    if role.quote_style.is_none() && role.value.eq_ignore_ascii_case("public") {
        return Ok(None);
    }
    let role = fold(role);
    names.user(&role).map(Some).ok_or_else(|| no_role(&role))
}

pub(super) fn no_role(role: &str) -> SqlError {
    SqlError::new(state::UNDEFINED, format!("role \"{role}\" does not exist"))
}
