//! ALTER TABLE: columns and constraints come, constraints go, names and owners change. What has
//! been written stays as it was: rows are chained by hashes over their values.

use super::constraint::Draft;
use super::table::{added_constraints, describe, push_column};
use super::{Change, Defined, Names, Relation, expression, fold, grant, names, remove, state};
use crate::error::{SqlError, code};
use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    AlterColumnOperation, AlterTable, AlterTableOperation, ColumnDef, DropBehavior, Ident,
    ObjectName, ObjectNamePart, Owner, RenameTableNameKind, Statement, TableConstraint,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;
use kanjo_ledger::expression::Given;
use kanjo_types::relation::{Constraint, Identity, RelationChange, RelationRecord};
use std::sync::Arc;

type Result<T> = std::result::Result<T, SqlError>;

const TAG: &str = "ALTER TABLE";

pub(super) fn alter(alter: &AlterTable, names: &dyn Names) -> Result<Defined> {
    let relation = match names::find(&alter.name, names) {
        Ok(relation) => relation,
        Err(error) if alter.if_exists && error.code == code::NO_TABLE => {
            let (_, name) = names::split(&alter.name)?;
            let notice = format!("relation \"{name}\" does not exist, skipping");
            return Ok(Defined::new(TAG).notice(notice));
        }
        Err(error) => return Err(error),
    };
    let mut altering =
        Altering { names, record: relation.record.clone(), defined: Defined::new(TAG) };
    for operation in &alter.operations {
        altering.apply(operation)?;
    }
    Ok(altering.defined)
}

/// A relation, changed so far by the actions before.
struct Altering<'a> {
    names: &'a dyn Names,
    record: RelationRecord,
    defined: Defined,
}

impl Altering<'_> {
    fn apply(&mut self, operation: &AlterTableOperation) -> Result<()> {
        match operation {
            AlterTableOperation::AddColumn {
                if_not_exists,
                column_def,
                column_position: None,
                ..
            } => self.add_column(column_def, *if_not_exists),
            AlterTableOperation::AddConstraint { constraint, not_valid } => {
                self.add_constraint(constraint, *not_valid)
            }
            AlterTableOperation::DropConstraint { if_exists, name, drop_behavior } => {
                self.drop_constraint(name, *if_exists, *drop_behavior)
            }
            AlterTableOperation::ValidateConstraint { name } => {
                let name = fold(name);
                let draft = Draft::of(&self.record, self.names)?;
                match draft.definition.constraint(&name) {
                    Some(_) => Ok(()),
                    None => Err(self.no_constraint(&name)),
                }
            }
            AlterTableOperation::RenameTable { table_name: RenameTableNameKind::To(name) } => {
                self.rename(name)
            }
            AlterTableOperation::OwnerTo { new_owner } => self.set_owner(new_owner),
            other => Err(refused(other)),
        }
    }

    fn push(&mut self, change: RelationChange) {
        self.defined.changes.push(Change::of(self.record.number, change));
    }

    /// Goes on with a table as it has become.
    fn keep(&mut self, draft: Draft<'_>) {
        self.record.kind = kanjo_types::relation::RelationKind::Table(draft.definition);
    }

    fn add_column(&mut self, of: &ColumnDef, if_not_exists: bool) -> Result<()> {
        let mut draft = Draft::of(&self.record, self.names)?;
        let mut described = describe(of)?;
        let name = described.column.name.clone();
        let table = &self.record.name;
        if draft.definition.columns.iter().any(|column| column.name == name) {
            let message = format!("column \"{name}\" of relation \"{table}\" already exists");
            if if_not_exists {
                self.defined.notices.push(message + ", skipping");
                return Ok(());
            }
            return Err(SqlError::new(state::DUPLICATE_COLUMN, message));
        }
        if described.is_primary {
            let message = format!("multiple primary keys for table \"{table}\" are not allowed");
            return Err(SqlError::new(state::BAD_DEFINITION, message));
        }
        let column = &mut described.column;
        match &column.default {
            Some(default) if expression::is_constant(default) => {
                column.added = Some(expression::default_value(column, &Given::default())?);
            }
            Some(_) => {
                let message = format!(
                    "a default that is not constant is not supported for the added column \"{name}\""
                );
                return Err(SqlError::not_supported(message).hint(
                    "rows that are there stay as they were written and would have one value for \
                     all; make a table with the column, and copy the rows",
                ));
            }
            None => {}
        }
        if column.identity != Identity::None {
            self.defined
                .notices
                .push(format!("column \"{name}\" numbers new rows; the table must have none yet"));
        }
        self.defined.notices.append(&mut described.notices);
        push_column(&mut draft, described.column.clone())?;
        let constraints = added_constraints(&mut draft, &described)?;
        draft.check()?;
        self.keep(draft);
        self.push(RelationChange::AddColumn { column: described.column });
        for constraint in constraints {
            self.push(RelationChange::AddConstraint { constraint });
        }
        Ok(())
    }

    fn add_constraint(&mut self, of: &TableConstraint, not_valid: bool) -> Result<()> {
        let mut draft = Draft::of(&self.record, self.names)?;
        if not_valid {
            return Err(SqlError::not_supported("NOT VALID is not supported")
                .hint("a constraint holds for all rows, or it is not there"));
        }
        if matches!(of, TableConstraint::PrimaryKey(_)) {
            let name = &self.record.name;
            let message = format!("multiple primary keys for table \"{name}\" are not allowed");
            return Err(SqlError::new(state::BAD_DEFINITION, message));
        }
        let constraint = draft.table_constraint(of)?;
        draft.check()?;
        self.keep(draft);
        self.push(RelationChange::AddConstraint { constraint });
        Ok(())
    }

    fn drop_constraint(
        &mut self,
        name: &Ident,
        if_exists: bool,
        behavior: Option<DropBehavior>,
    ) -> Result<()> {
        let mut draft = Draft::of(&self.record, self.names)?;
        let name = fold(name);
        if draft.definition.constraint(&name).is_none() {
            if names::primary_name(&self.record.name) == name {
                let message = format!("the primary key \"{name}\" cannot be dropped");
                return Err(
                    SqlError::not_supported(message).hint("rows lie where their primary key says")
                );
            }
            let error = self.no_constraint(&name);
            if if_exists {
                self.defined.notices.push(error.message + ", skipping");
                return Ok(());
            }
            return Err(error);
        }
        let relation = Relation { record: self.record.clone(), hash: Default::default() };
        let others = Others { names: self.names, changed: Arc::new(relation) };
        let cascade = behavior == Some(DropBehavior::Cascade);
        let (mut changes, mut notices) =
            remove::drop_constraint(&others.changed, &name, cascade, &others)?;
        let own = self.record.number;
        let gone = |of: &Constraint| {
            changes.iter().any(|change| {
                change.relation == Some(own)
                    && matches!(&change.change, RelationChange::DropConstraint { name }
                        if name == of.name())
            })
        };
        draft.definition.constraints.retain(|of| !gone(of));
        self.keep(draft);
        self.defined.changes.append(&mut changes);
        self.defined.notices.append(&mut notices);
        Ok(())
    }

    fn no_constraint(&self, name: &str) -> SqlError {
        let table = &self.record.name;
        let message = format!("constraint \"{name}\" of relation \"{table}\" does not exist");
        SqlError::new(state::UNDEFINED, message)
    }

    /// RENAME TO has a name alone; with a schema before it, it is what [`set_schema`] made.
    fn rename(&mut self, to: &ObjectName) -> Result<()> {
        let (schema, name) = match &to.0[..] {
            [_] => (self.record.schema.clone(), names::split(to)?.1),
            _ => names::split(to)?,
        };
        if to.0.len() > 1 && schema == self.record.schema {
            return Ok(());
        }
        names::check_permitted(&schema, &name)?;
        if names::is_taken(&schema, &name, self.names) {
            return Err(names::exists(&names::shown(&schema, &name)));
        }
        self.record.schema.clone_from(&schema);
        self.record.name.clone_from(&name);
        self.push(RelationChange::Rename { schema, name });
        Ok(())
    }

    fn set_owner(&mut self, owner: &Owner) -> Result<()> {
        let Owner::Ident(role) = owner else {
            return Err(SqlError::not_supported(format!("OWNER TO {owner} is not supported"))
                .hint("name the role"));
        };
        let role = fold(role);
        let owner = self.names.user(&role).ok_or_else(|| grant::no_role(&role))?;
        if owner != self.record.owner {
            self.record.owner = owner;
            self.push(RelationChange::SetOwner { owner });
        }
        Ok(())
    }
}

/// The relations, one of them as the actions before have changed it.
struct Others<'a> {
    names: &'a dyn Names,
    changed: Arc<Relation>,
}

impl Names for Others<'_> {
    fn find(&self, schema: &str, name: &str) -> Option<Arc<Relation>> {
        self.all().into_iter().find(|of| of.record.schema == schema && of.record.name == name)
    }

    fn all(&self) -> Vec<Arc<Relation>> {
        let number = self.changed.record.number;
        let mut all = self.names.all();
        all.retain(|relation| relation.record.number != number);
        all.push(Arc::clone(&self.changed));
        all
    }

    fn next_number(&self) -> kanjo_types::RelationId {
        self.names.next_number()
    }

    fn user(&self, role: &str) -> Option<kanjo_types::UserId> {
        self.names.user(role)
    }
}

/// Says why an action is not there.
fn refused(operation: &AlterTableOperation) -> SqlError {
    let written = "rows are chained by hashes over what was written, so they stay as they are";
    let (what, hint) = match operation {
        AlterTableOperation::RenameColumn { .. } => ("RENAME COLUMN", written),
        AlterTableOperation::DropColumn { .. } => ("DROP COLUMN", written),
        AlterTableOperation::RenameConstraint { .. } => {
            ("RENAME CONSTRAINT", "drop the constraint and add it with the other name")
        }
        AlterTableOperation::AlterColumn { op, .. } => match op {
            AlterColumnOperation::SetDataType { .. } => ("ALTER COLUMN … TYPE", written),
            AlterColumnOperation::SetNotNull => {
                ("ALTER COLUMN … SET NOT NULL", "use ADD CHECK (column IS NOT NULL)")
            }
            AlterColumnOperation::DropNotNull => {
                ("ALTER COLUMN … DROP NOT NULL", "a column stays as it was defined")
            }
            AlterColumnOperation::SetDefault { .. } | AlterColumnOperation::DropDefault => {
                ("ALTER COLUMN … DEFAULT", "a column stays as it was defined")
            }
            AlterColumnOperation::AddGenerated { .. } => {
                ("ALTER COLUMN … ADD GENERATED", "a column stays as it was defined")
            }
        },
        AlterTableOperation::EnableRowLevelSecurity
        | AlterTableOperation::DisableRowLevelSecurity
        | AlterTableOperation::ForceRowLevelSecurity
        | AlterTableOperation::NoForceRowLevelSecurity => {
            ("row level security", "grant rights on a view")
        }
        AlterTableOperation::EnableTrigger { .. } | AlterTableOperation::DisableTrigger { .. } => {
            ("a trigger", "a transaction says all that it changes: put it there")
        }
        other => {
            let text = super::shown(&other.to_string());
            return SqlError::not_supported(format!("ALTER TABLE … {text} is not supported"));
        }
    };
    SqlError::not_supported(format!("{what} is not supported")).hint(hint)
}

/// Reads `ALTER TABLE … SET SCHEMA`, which the parser does not know: as a renaming to a name with
/// another schema, which [`super::plan`] takes. `None` for all other texts.
pub(crate) fn set_schema(text: &str) -> Option<Statement> {
    let mut parser = Parser::new(&PostgreSqlDialect {}).try_with_sql(text).ok()?;
    if !parser.parse_keyword(Keyword::ALTER) {
        return None;
    }
    parser.parse_one_of_keywords(&[Keyword::TABLE, Keyword::VIEW])?;
    let if_exists = parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
    let only = parser.parse_keyword(Keyword::ONLY);
    let name = parser.parse_object_name(false).ok()?;
    if !parser.parse_keywords(&[Keyword::SET, Keyword::SCHEMA]) {
        return None;
    }
    let schema = parser.parse_identifier().ok()?;
    let _ = parser.consume_token(&Token::SemiColon);
    if parser.peek_token() != Token::EOF {
        return None;
    }
    let own = name.0.last()?.clone();
    let to = ObjectName(vec![ObjectNamePart::Identifier(schema), own]);
    let table_name = RenameTableNameKind::To(to);
    Some(Statement::AlterTable(AlterTable {
        name,
        if_exists,
        only,
        operations: vec![AlterTableOperation::RenameTable { table_name }],
        location: None,
        on_cluster: None,
        table_type: None,
        end_token: AttachedToken::empty(),
    }))
}
