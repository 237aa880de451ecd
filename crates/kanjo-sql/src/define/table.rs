//! CREATE TABLE, and columns as they stand there and in ALTER TABLE.

use super::constraint::{Draft, enforced, identifiers, plain_index};
use super::expression;
use super::types::{self, column_type, serial, type_text};
use super::{Change, Defined, Names, names, state};
use crate::error::{SqlError, code};
use datafusion::sql::sqlparser::ast::{
    ColumnDef, ColumnOption, ColumnOptionDef, ConstraintCharacteristics, CreateTable,
    CreateTableOptions, Expr, ForeignKeyConstraint, GeneratedAs, Ident, ObjectName,
    TableConstraint,
};
use kanjo_types::relation::{
    COLUMNS_MAX, Column, ColumnType, Definition, Identity, RelationChange, RelationKind,
};

type Result<T> = std::result::Result<T, SqlError>;

/// A constraint that stands with a column, and the name that it was given.
pub(super) struct OfColumn<'a> {
    name: Option<&'a Ident>,
    what: What<'a>,
}

enum What<'a> {
    Unique,
    Check(&'a Expr),
    Foreign(&'a ForeignKeyConstraint),
}

/// A column with what stands with it.
pub(super) struct Described<'a> {
    pub column: Column,
    pub is_primary: bool,
    pub constraints: Vec<OfColumn<'a>>,
    pub notices: Vec<String>,
}

pub(super) fn create(create: &CreateTable, names: &dyn Names) -> Result<Defined> {
    let (schema, name) = names::split(&create.name)?;
    plain(create)?;
    names::check_permitted(&schema, &name)?;
    if names.find(&schema, &name).is_some() {
        if create.if_not_exists {
            let notice = format!("relation \"{name}\" already exists, skipping");
            return Ok(Defined::new("CREATE TABLE").notice(notice));
        }
        return Err(names::exists(&name));
    }
    if names::is_taken(&schema, &name, names) {
        return Err(names::exists(&name));
    }
    let definition = Definition { columns: vec![], primary: vec![], constraints: vec![] };
    let number = None;
    let indexes = Vec::new();
    let mut draft = Draft { names, schema, name, number, definition, indexes };
    let notices = fill(&mut draft, create)?;
    draft.check()?;
    let kind = RelationKind::Table(draft.definition);
    let change = RelationChange::Create { schema: draft.schema, name: draft.name, kind };
    Ok(Defined { tag: "CREATE TABLE", changes: vec![Change::make(change)], notices })
}

/// Columns first, then the keys, which foreign keys to the table itself need, then the others.
fn fill(draft: &mut Draft<'_>, create: &CreateTable) -> Result<Vec<String>> {
    let mut notices = Vec::new();
    let mut described = Vec::new();
    for of in &create.columns {
        let mut of = describe(of)?;
        push_column(draft, of.column.clone())?;
        notices.append(&mut of.notices);
        described.push(of);
    }
    primary(draft, create, &described, &mut notices)?;
    for of in &described {
        column_constraints(draft, of, |what| matches!(what, What::Unique), &mut |_| ())?;
    }
    let of_table = |wanted: fn(&TableConstraint) -> bool| {
        create.constraints.iter().filter(move |constraint| wanted(constraint))
    };
    for constraint in of_table(|of| matches!(of, TableConstraint::Unique(_))) {
        draft.table_constraint(constraint)?;
    }
    for of in &described {
        column_constraints(draft, of, |what| !matches!(what, What::Unique), &mut |_| ())?;
    }
    let others = |of: &TableConstraint| {
        !matches!(of, TableConstraint::Unique(_) | TableConstraint::PrimaryKey(_))
    };
    for constraint in of_table(others) {
        draft.table_constraint(constraint)?;
    }
    Ok(notices)
}

/// Puts a column behind the others.
pub(super) fn push_column(draft: &mut Draft<'_>, column: Column) -> Result<()> {
    let columns = &mut draft.definition.columns;
    if columns.iter().any(|other| other.name == column.name) {
        let message = format!("column \"{}\" specified more than once", column.name);
        return Err(SqlError::new(state::DUPLICATE_COLUMN, message));
    }
    if columns.len() >= COLUMNS_MAX {
        let message = format!("tables can have at most {COLUMNS_MAX} columns");
        return Err(SqlError::new(state::TOO_MANY_COLUMNS, message));
    }
    columns.push(column);
    Ok(())
}

/// Takes the constraints of a column into the table.
fn column_constraints(
    draft: &mut Draft<'_>,
    of: &Described<'_>,
    wanted: impl Fn(&What<'_>) -> bool,
    made: &mut dyn FnMut(kanjo_types::relation::Constraint),
) -> Result<()> {
    let name = &of.column.name;
    let at = draft.definition.columns.iter().position(|column| column.name == *name);
    let at = at.and_then(|at| u16::try_from(at).ok()).unwrap_or_default();
    for constraint in of.constraints.iter().filter(|of| wanted(&of.what)) {
        made(match constraint.what {
            What::Unique => draft.unique(constraint.name, vec![at], true, "key")?,
            What::Check(expr) => draft.check_constraint(constraint.name, expr, Some(name))?,
            What::Foreign(key) => draft.foreign(constraint.name, vec![at], key)?,
        });
    }
    Ok(())
}

/// Takes all constraints of an added column into the table.
pub(super) fn added_constraints(
    draft: &mut Draft<'_>,
    of: &Described<'_>,
) -> Result<Vec<kanjo_types::relation::Constraint>> {
    let mut all = Vec::new();
    column_constraints(draft, of, |_| true, &mut |constraint| all.push(constraint))?;
    Ok(all)
}

/// The primary key, from a column or behind the columns.
fn primary(
    draft: &mut Draft<'_>,
    create: &CreateTable,
    described: &[Described<'_>],
    notices: &mut Vec<String>,
) -> Result<()> {
    let mut keys: Vec<Vec<u16>> = Vec::new();
    for (at, of) in described.iter().enumerate().filter(|(_, of)| of.is_primary) {
        let at = u16::try_from(at);
        keys.extend(at.ok().map(|at| vec![at]));
        notices.extend(unnamed(&draft.name, primary_option_name(create, &of.column.name)));
    }
    for constraint in &create.constraints {
        if let TableConstraint::PrimaryKey(key) = constraint {
            plain_index(key.index_type.as_ref(), &key.index_options)?;
            immediate(key.characteristics.as_ref(), key.name.as_ref())?;
            keys.push(draft.columns(identifiers(&key.columns)?, "primary key constraint")?);
            notices.extend(unnamed(&draft.name, key.name.as_ref()));
        }
    }
    let mut keys = keys.into_iter();
    let Some(key) = keys.next() else {
        let message = format!("table \"{}\" has no primary key", draft.name);
        return Err(SqlError::not_supported(message).hint(
            "rows are kept, proven and referenced by their primary key: add one, for example \
             id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY",
        ));
    };
    if keys.next().is_some() {
        let message = format!("multiple primary keys for table \"{}\" are not allowed", draft.name);
        return Err(SqlError::new(state::BAD_DEFINITION, message));
    }
    draft.no_json(&key, "a primary key")?;
    for at in &key {
        if let Some(column) = draft.definition.columns.get_mut(usize::from(*at)) {
            column.not_null = true;
        }
    }
    draft.definition.primary = key;
    Ok(())
}

fn primary_option_name<'a>(create: &'a CreateTable, column: &str) -> Option<&'a Ident> {
    let of = create.columns.iter().find(|of| super::fold(&of.name) == column)?;
    let is_key = |option: &&ColumnOptionDef| matches!(option.option, ColumnOption::PrimaryKey(_));
    of.options.iter().find(is_key)?.name.as_ref()
}

/// Says so where a primary key was given a name that it does not keep.
fn unnamed(table: &str, name: Option<&Ident>) -> Option<String> {
    let name = super::fold(name?);
    let own = names::primary_name(table);
    (name != own).then(|| format!("the primary key is called \"{own}\", not \"{name}\""))
}

fn immediate(of: Option<&ConstraintCharacteristics>, name: Option<&Ident>) -> Result<()> {
    enforced(of, name)?;
    match of.and_then(|of| of.deferrable) {
        Some(true) => Err(SqlError::not_supported("a primary key cannot be DEFERRABLE")
            .hint("a row lies where its key says, so a key is never there twice")),
        _ => Ok(()),
    }
}

/// A column as it stands in CREATE TABLE and ADD COLUMN.
pub(super) fn describe(of: &ColumnDef) -> Result<Described<'_>> {
    let name = names::new_name(&of.name)?;
    let numbered = serial(&of.data_type);
    let kind = match numbered {
        Some(kind) => kind,
        None => column_type(&of.data_type)?,
    };
    let mut notices = Vec::new();
    if types::is_plain_numeric(&of.data_type) {
        let kind = type_text(kind);
        notices.push(format!("column \"{name}\": numeric without a precision is {kind}"));
    }
    let identity = if numbered.is_some() { Identity::ByDefault } else { Identity::None };
    let column =
        Column { name, kind, not_null: numbered.is_some(), default: None, identity, added: None };
    let mut described = Described { column, is_primary: false, constraints: Vec::new(), notices };
    let mut nullable = false;
    let mut defaults = 0;
    for option in &of.options {
        match &option.option {
            ColumnOption::Null => nullable = true,
            ColumnOption::Default(_) => defaults += 1,
            _ => {}
        }
        apply(&mut described, option)?;
    }
    let column = &described.column;
    if nullable && (column.not_null || described.is_primary) {
        let message =
            format!("conflicting NULL/NOT NULL declarations for column \"{}\"", column.name);
        return Err(SqlError::new(code::SYNTAX, message));
    }
    if defaults > 1 || (defaults > 0 && column.identity != Identity::None) {
        let message = format!("multiple default values specified for column \"{}\"", column.name);
        return Err(SqlError::new(code::SYNTAX, message));
    }
    Ok(described)
}

fn apply<'a>(described: &mut Described<'a>, option: &'a ColumnOptionDef) -> Result<()> {
    let column = &mut described.column;
    let name = option.name.as_ref();
    let mut add = |what| described.constraints.push(OfColumn { name, what });
    match &option.option {
        ColumnOption::Null => {}
        ColumnOption::NotNull => column.not_null = true,
        ColumnOption::Default(expr) => {
            column.default = expression::default(expr, &column.name, column.kind)?;
        }
        ColumnOption::PrimaryKey(key) => {
            immediate(key.characteristics.as_ref(), name)?;
            described.is_primary = true;
        }
        ColumnOption::Unique(unique) => {
            enforced(unique.characteristics.as_ref(), name)?;
            add(What::Unique);
        }
        ColumnOption::Check(check) if check.enforced == Some(false) => {
            return Err(SqlError::not_supported("CHECK … NOT ENFORCED is not supported"));
        }
        ColumnOption::Check(check) => add(What::Check(&check.expr)),
        ColumnOption::ForeignKey(key) => {
            enforced(key.characteristics.as_ref(), name)?;
            add(What::Foreign(key));
        }
        ColumnOption::Collation(collation) => collated(column.kind, collation)?,
        ColumnOption::Generated {
            generated_as, sequence_options, generation_expr: None, ..
        } => {
            if sequence_options.as_ref().is_some_and(|options| !options.is_empty()) {
                return Err(SqlError::not_supported(format!(
                    "options of the identity column \"{}\" are not supported",
                    column.name
                ))
                .hint("its numbers go up from 1"));
            }
            numbered(column, *generated_as)?;
        }
        ColumnOption::Generated { .. } => {
            let message = format!("generated column \"{}\" is not supported", column.name);
            return Err(SqlError::not_supported(message).hint("compute it in a view"));
        }
        other => {
            let text = super::shown(&other.to_string());
            return Err(SqlError::not_supported(format!("{text} is not supported for a column")));
        }
    }
    Ok(())
}

fn numbered(column: &mut Column, generated_as: GeneratedAs) -> Result<()> {
    if !column.kind.is_integer() {
        return Err(SqlError::new(
            code::BAD_VALUE,
            format!(
                "identity column \"{}\" must be of type smallint, integer, or bigint",
                column.name
            ),
        ));
    }
    if column.identity != Identity::None {
        let message = format!("multiple identity specifications for column \"{}\"", column.name);
        return Err(SqlError::new(code::SYNTAX, message));
    }
    column.not_null = true;
    column.identity = match generated_as {
        GeneratedAs::Always => Identity::Always,
        GeneratedAs::ByDefault | GeneratedAs::ExpStored => Identity::ByDefault,
    };
    Ok(())
}

/// Texts are compared by their bytes, which is the collation "C".
fn collated(kind: ColumnType, collation: &ObjectName) -> Result<()> {
    let name = collation.0.last().and_then(|part| part.as_ident());
    let name = name.map(|name| name.value.to_lowercase()).unwrap_or_default();
    let bytewise = matches!(&*name, "c" | "posix" | "ucs_basic" | "default" | "c.utf-8" | "c.utf8");
    if bytewise && matches!(kind, ColumnType::Text(_)) {
        return Ok(());
    }
    let message = format!("collation {collation} is not supported");
    Err(SqlError::not_supported(message).hint("texts are compared by their bytes, as in \"C\""))
}

/// Refuses what a table here has not.
fn plain(create: &CreateTable) -> Result<()> {
    let refusals = [
        (
            create.temporary || create.global.is_some(),
            "CREATE TEMPORARY TABLE",
            "use WITH in a query",
        ),
        (create.query.is_some(), "CREATE TABLE AS", "use CREATE TABLE and INSERT … SELECT"),
        (create.or_replace, "CREATE OR REPLACE TABLE", "use DROP TABLE and CREATE TABLE"),
        (create.like.is_some(), "CREATE TABLE … LIKE", "name the columns"),
        (create.clone.is_some(), "CREATE TABLE … CLONE", "name the columns"),
        (create.inherits.is_some(), "INHERITS", "use a foreign key"),
        (
            create.partition_by.is_some() || create.partition_of.is_some(),
            "a partitioned table",
            "the ledger divides all tables by itself",
        ),
        (
            create.table_options != CreateTableOptions::None,
            "an option of the storage of a table",
            "leave it out: the ledger stores all rows alike",
        ),
        (create.on_commit.is_some(), "ON COMMIT", "there are no temporary tables"),
        (create.external, "CREATE EXTERNAL TABLE", "use COPY"),
    ];
    match refusals.into_iter().find(|(is_there, ..)| *is_there) {
        None => Ok(()),
        Some((_, what, hint)) => {
            Err(SqlError::not_supported(format!("{what} is not supported")).hint(hint))
        }
    }
}
