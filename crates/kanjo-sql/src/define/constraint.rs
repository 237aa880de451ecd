//! Constraints of a table that is being made or changed.

use super::expression::{columns_of, condition, refused_definition};
use super::types::type_text;
use super::{Names, Relation, fold, names, state};
use crate::error::{SqlError, code};
use datafusion::sql::sqlparser::ast::{
    ConstraintCharacteristics, ConstraintReferenceMatchKind, Expr, ForeignKeyConstraint, Ident,
    IndexColumn, IndexOption, IndexType, NullsDistinctOption, ReferentialAction, TableConstraint,
};
use kanjo_types::relation::{
    CONSTRAINTS_MAX, ColumnType, Constraint, Definition, KEY_COLUMNS_MAX, LedgerTable, OnDelete,
    RelationRecord, Target,
};
use kanjo_types::{RelationId, codec};

type Result<T> = std::result::Result<T, SqlError>;

/// A table as it is so far.
pub(super) struct Draft<'a> {
    pub names: &'a dyn Names,
    pub schema: String,
    pub name: String,
    /// `None` while it is being made.
    pub number: Option<RelationId>,
    pub definition: Definition,
    pub indexes: Vec<String>,
}

impl<'a> Draft<'a> {
    pub(super) fn of(record: &RelationRecord, names: &'a dyn Names) -> Result<Self> {
        let relation = Relation { record: record.clone(), hash: kanjo_types::Hash::default() };
        let definition = names::table(&relation)?.clone();
        Ok(Self {
            names,
            schema: record.schema.clone(),
            name: record.name.clone(),
            number: Some(record.number),
            definition,
            indexes: record.indexes.iter().map(|index| index.name.clone()).collect(),
        })
    }

    fn has_constraint(&self, name: &str) -> bool {
        self.definition.constraint(name).is_some() || names::primary_name(&self.name) == name
    }

    fn has_name(&self, name: &str) -> bool {
        self.has_constraint(name) || self.indexes.iter().any(|index| index == name)
    }

    /// The names of columns, joined as in names that are made up.
    fn joined(&self, columns: &[u16]) -> String {
        let names = columns.iter().filter_map(|at| self.definition.columns.get(usize::from(*at)));
        names.map(|column| &*column.name).collect::<Vec<&str>>().join("_")
    }

    /// The name of a constraint that has no index.
    fn plain_name(
        &self,
        name: Option<&Ident>,
        columns: Option<&str>,
        label: &str,
    ) -> Result<String> {
        let Some(name) = name else {
            return Ok(names::choose(&self.name, columns, label, |name| self.has_name(name)));
        };
        let name = names::new_name(name)?;
        if self.has_constraint(&name) {
            return Err(self.taken(&name));
        }
        Ok(name)
    }

    /// The name of an index or a unique constraint, which is also one of the schema.
    pub(super) fn index_name(
        &self,
        name: Option<&Ident>,
        columns: &[u16],
        label: &str,
    ) -> Result<String> {
        let in_schema =
            |name: &str| names::is_taken(&self.schema, name, self.names) || *name == self.name;
        let Some(name) = name else {
            let taken = |name: &str| self.has_name(name) || in_schema(name);
            return Ok(names::choose(&self.name, Some(&self.joined(columns)), label, taken));
        };
        let name = names::new_name(name)?;
        if self.definition.constraint(&name).is_some() {
            return Err(self.taken(&name));
        }
        if self.has_name(&name) || in_schema(&name) {
            return Err(names::exists(&name));
        }
        Ok(name)
    }

    fn taken(&self, name: &str) -> SqlError {
        let message =
            format!("constraint \"{name}\" for relation \"{}\" already exists", self.name);
        SqlError::new(state::DUPLICATE, message)
    }

    pub(super) fn column(&self, name: &Ident, place: &str) -> Result<u16> {
        let name = fold(name);
        let at = self.definition.columns.iter().position(|column| column.name == name);
        at.and_then(|at| u16::try_from(at).ok()).ok_or_else(|| {
            let message = format!("column \"{name}\" {place} does not exist");
            SqlError::new(code::NO_COLUMN, message)
        })
    }

    /// Columns of a key or an index, by name.
    pub(super) fn columns<'n>(
        &self,
        names: impl IntoIterator<Item = &'n Ident>,
        what: &str,
    ) -> Result<Vec<u16>> {
        let mut columns = Vec::new();
        for name in names {
            let column = self.column(name, &format!("named in {what}"))?;
            if columns.contains(&column) {
                let message = format!("column \"{}\" appears twice in {what}", fold(name));
                return Err(SqlError::new(state::DUPLICATE_COLUMN, message));
            }
            columns.push(column);
        }
        if columns.len() > KEY_COLUMNS_MAX {
            let message = format!("{what} has at most {KEY_COLUMNS_MAX} columns");
            return Err(SqlError::new(state::TOO_MANY_COLUMNS, message));
        }
        Ok(columns)
    }

    /// Values in keys are compared; two texts of one JSON value would be different keys.
    pub(super) fn no_json(&self, columns: &[u16], what: &str) -> Result<()> {
        let json = |at: &&u16| self.definition.type_of(**at) == Some(ColumnType::Jsonb);
        match columns.iter().find(json) {
            None => Ok(()),
            Some(at) => {
                let name = self.joined(&[*at]);
                let message = format!("column \"{name}\" of type jsonb cannot be in {what}");
                Err(SqlError::not_supported(message)
                    .hint("jsonb is kept as it was written, so equal values have several texts"))
            }
        }
    }

    /// Takes a constraint into the table.
    pub(super) fn push(&mut self, constraint: Constraint) -> Result<Constraint> {
        if self.definition.constraints.len() >= CONSTRAINTS_MAX {
            let message = format!("a table has at most {CONSTRAINTS_MAX} constraints");
            return Err(SqlError::new(code::LIMIT_EXCEEDED, message));
        }
        self.definition.constraints.push(constraint.clone());
        Ok(constraint)
    }

    /// Checks the table as a whole, as the ledger does.
    pub(super) fn check(&self) -> Result<()> {
        self.definition.check().map_err(refused_definition)?;
        let most = kanjo_types::relation::DEFINITION_BYTES_MAX;
        if codec::length(&self.definition) > most {
            let message = format!("the definition of a table has at most {most} bytes");
            return Err(SqlError::new(code::LIMIT_EXCEEDED, message));
        }
        Ok(())
    }

    pub(super) fn unique(
        &mut self,
        name: Option<&Ident>,
        columns: Vec<u16>,
        nulls_distinct: bool,
        label: &str,
    ) -> Result<Constraint> {
        self.no_json(&columns, "a unique constraint")?;
        let name = self.index_name(name, &columns, label)?;
        self.push(Constraint::Unique { name, columns, nulls_distinct })
    }

    /// `column`: of a constraint that stands with a column.
    pub(super) fn check_constraint(
        &mut self,
        name: Option<&Ident>,
        expr: &Expr,
        column: Option<&str>,
    ) -> Result<Constraint> {
        let expression = condition(expr, &self.definition, &self.name)?;
        let only = match &columns_of(&expression)[..] {
            [only] => Some(self.joined(&[*only])),
            _ => None,
        };
        let name = self.plain_name(name, column.or(only.as_deref()), "check")?;
        self.push(Constraint::Check { name, expression })
    }

    pub(super) fn foreign(
        &mut self,
        name: Option<&Ident>,
        columns: Vec<u16>,
        key: &ForeignKeyConstraint,
    ) -> Result<Constraint> {
        let on_delete = actions(key)?;
        if key.match_kind == Some(ConstraintReferenceMatchKind::Partial) {
            return Err(SqlError::not_supported("MATCH PARTIAL is not supported"));
        }
        if key.match_kind == Some(ConstraintReferenceMatchKind::Full) && columns.len() > 1 {
            return Err(SqlError::not_supported(
                "MATCH FULL is not supported with several columns",
            )
            .hint("add CHECK ((a IS NULL AND b IS NULL) OR (a IS NOT NULL AND b IS NOT NULL))"));
        }
        let joined = self.joined(&columns);
        let name = self.plain_name(name, Some(&joined), "fkey")?;
        self.no_json(&columns, "a foreign key")?;
        let (columns, target) = self.target(&name, columns, key)?;
        self.push(Constraint::Foreign { name, columns, target, on_delete })
    }

    /// What a foreign key references, and its columns in the order of the key that it leads to.
    fn target(
        &self,
        constraint: &str,
        columns: Vec<u16>,
        key: &ForeignKeyConstraint,
    ) -> Result<(Vec<u16>, Target)> {
        let (schema, name) = names::split(&key.foreign_table)?;
        let itself = schema == self.schema && name == self.name;
        let found = if itself { None } else { self.names.find(&schema, &name) };
        if !itself && found.is_none() {
            let table = self.ledger_target(constraint, (&schema, &name), &columns, key)?;
            return Ok((columns, Target::Ledger(table)));
        }
        let of_target = match &found {
            Some(relation) => names::table(relation)?,
            None => &self.definition,
        };
        let itself = self.number.unwrap_or(RelationId(0));
        let relation = found.as_ref().map_or(itself, |relation| relation.record.number);
        let to = referred(&name, of_target, &key.referred_columns)?;
        if to.len() != columns.len() {
            return Err(SqlError::new(
                state::NOT_UNIQUE_TARGET,
                "number of referencing and referenced columns for foreign key disagree",
            ));
        }
        let (columns, to) = as_key(of_target, columns, to).ok_or_else(|| {
            let message = format!(
                "there is no unique constraint matching given keys for referenced table \"{name}\""
            );
            SqlError::new(state::NOT_UNIQUE_TARGET, message)
        })?;
        for (from, to) in columns.iter().zip(&to) {
            let types = (self.definition.type_of(*from), of_target.type_of(*to));
            if let (Some(a), Some(b)) = types
                && !a.compares_with(b)
            {
                return Err(self.incompatible(constraint, *from, a, &type_text(b)));
            }
        }
        Ok((columns, Target::Rows { relation, columns: to }))
    }

    fn incompatible(&self, name: &str, column: u16, a: ColumnType, b: &str) -> SqlError {
        let message = format!("foreign key constraint \"{name}\" cannot be implemented");
        let (column, a) = (self.joined(&[column]), type_text(a));
        SqlError::new(code::TYPE_MISMATCH, message).hint(format!(
            "key column \"{column}\" and what it references are of incompatible types: {a} and {b}"
        ))
    }

    /// A table of the ledger's own: one column with the text form of an id.
    fn ledger_target(
        &self,
        constraint: &str,
        (schema, name): (&str, &str),
        columns: &[u16],
        key: &ForeignKeyConstraint,
    ) -> Result<LedgerTable> {
        let Some(table) = names::ledger_table(schema, name) else {
            if !names::is_reserved(schema, name) {
                return Err(names::no_relation(schema, name));
            }
            let message = format!("table \"{name}\" cannot be referenced by a foreign key");
            let hint = match name {
                "transactions" | "transfers" | "receipts" => {
                    "the state keeps no transactions, and need not: the version of a row carries \
                     the hash of the transaction that made it"
                }
                _ => "users, wallets, tokens, pendings, bundles, schedules, acts and claims can be",
            };
            return Err(SqlError::not_supported(message).hint(hint));
        };
        let referred: Vec<String> = key.referred_columns.iter().map(fold).collect();
        let tokens = table == LedgerTable::Tokens;
        let [column] = columns else {
            return Err(SqlError::new(
                state::NOT_UNIQUE_TARGET,
                "number of referencing and referenced columns for foreign key disagree",
            ));
        };
        let kind = self.definition.type_of(*column).unwrap_or(ColumnType::Jsonb);
        let is_text = matches!(kind, ColumnType::Text(_));
        let of = match referred.first().map(String::as_str) {
            None if tokens => "integer, the token's number, or text, its symbol",
            Some("id") if tokens => "integer, the token's number",
            Some("symbol") if tokens => "text, the token's symbol",
            None | Some("id") => "text, the text form of an id",
            Some(other) => {
                let message = format!(
                    "there is no unique constraint matching given keys for referenced table \
                     \"{name}\""
                );
                return Err(SqlError::new(state::NOT_UNIQUE_TARGET, message)
                    .hint(format!("reference {name} (id) instead of \"{other}\"")));
            }
        };
        let fits = (of.starts_with("text") || referred.is_empty()) && is_text
            || of.starts_with("integer") && kind.is_integer();
        if fits { Ok(table) } else { Err(self.incompatible(constraint, *column, kind, of)) }
    }

    /// A constraint that stands behind the columns, or is added. A primary key is not for here.
    pub(super) fn table_constraint(&mut self, of: &TableConstraint) -> Result<Constraint> {
        match of {
            TableConstraint::Unique(unique) => {
                plain_index(unique.index_type.as_ref(), &unique.index_options)?;
                enforced(unique.characteristics.as_ref(), unique.name.as_ref())?;
                let columns = self.columns(identifiers(&unique.columns)?, "unique constraint")?;
                let distinct = unique.nulls_distinct != NullsDistinctOption::NotDistinct;
                self.unique(unique.name.as_ref(), columns, distinct, "key")
            }
            TableConstraint::Check(check) if check.enforced == Some(false) => {
                Err(not_enforced(check.name.as_ref()))
            }
            TableConstraint::Check(check) => {
                self.check_constraint(check.name.as_ref(), &check.expr, None)
            }
            TableConstraint::ForeignKey(key) => {
                enforced(key.characteristics.as_ref(), key.name.as_ref())?;
                let columns = self.columns(&key.columns, "foreign key constraint")?;
                self.foreign(key.name.as_ref(), columns, key)
            }
            other => Err(SqlError::not_supported(format!("{other} is not supported"))),
        }
    }
}

/// Columns of a table that a foreign key names; its primary key when it names none.
fn referred(table: &str, definition: &Definition, of: &[Ident]) -> Result<Vec<u16>> {
    if of.is_empty() {
        return Ok(definition.primary.clone());
    }
    let position = |name: &Ident| {
        let name = fold(name);
        let at = definition.columns.iter().position(|column| column.name == name);
        at.and_then(|at| u16::try_from(at).ok()).ok_or_else(|| {
            let message = format!(
                "column \"{name}\" of \"{table}\" referenced in foreign key constraint does not \
                 exist"
            );
            SqlError::new(code::NO_COLUMN, message)
        })
    };
    of.iter().map(position).collect()
}

/// Both lists in the order of the primary key or the unique constraint that the second is, as
/// PostgreSQL takes them in any order.
fn as_key(of: &Definition, columns: Vec<u16>, to: Vec<u16>) -> Option<(Vec<u16>, Vec<u16>)> {
    let uniques = of.constraints.iter().filter_map(|constraint| match constraint {
        Constraint::Unique { columns, .. } => Some(columns),
        _ => None,
    });
    let mut keys: Vec<&Vec<u16>> = std::iter::once(&of.primary).chain(uniques).collect();
    // The key in the given order before those in another.
    keys.sort_by_key(|key| **key != to);
    keys.into_iter().find_map(|key| {
        let place = |column: &u16| to.iter().position(|other| other == column);
        let places: Option<Vec<usize>> = key.iter().map(place).collect();
        let places = places.filter(|places| places.len() == to.len())?;
        let pick = |of: &[u16]| places.iter().filter_map(|at| of.get(*at).copied()).collect();
        Some((pick(&columns), pick(&to)))
    })
}

fn actions(key: &ForeignKeyConstraint) -> Result<OnDelete> {
    match key.on_update {
        None | Some(ReferentialAction::NoAction | ReferentialAction::Restrict) => {}
        Some(other) => {
            let message = format!("ON UPDATE {other} is not supported");
            return Err(SqlError::not_supported(message)
                .hint("a row keeps its primary key: with another one it is another row"));
        }
    }
    match key.on_delete {
        None | Some(ReferentialAction::NoAction | ReferentialAction::Restrict) => {
            Ok(OnDelete::Restrict)
        }
        Some(ReferentialAction::Cascade) => Ok(OnDelete::Cascade),
        Some(ReferentialAction::SetNull) => Ok(OnDelete::SetNull),
        Some(other @ ReferentialAction::SetDefault) => {
            Err(SqlError::not_supported(format!("ON DELETE {other} is not supported"))
                .hint("use RESTRICT, CASCADE or SET NULL"))
        }
    }
}

fn not_enforced(name: Option<&Ident>) -> SqlError {
    let name = name.map(|name| format!(" \"{}\"", fold(name))).unwrap_or_default();
    SqlError::not_supported(format!("constraint{name}: NOT ENFORCED is not supported"))
}

/// DEFERRABLE and its like are taken: all but the primary key is checked at COMMIT.
pub(super) fn enforced(of: Option<&ConstraintCharacteristics>, name: Option<&Ident>) -> Result<()> {
    match of.and_then(|of| of.enforced) {
        Some(false) => Err(not_enforced(name)),
        _ => Ok(()),
    }
}

/// The columns of a key or an index; expressions and operator classes are refused.
pub(super) fn identifiers(columns: &[IndexColumn]) -> Result<Vec<&Ident>> {
    let plain = |of: &'_ IndexColumn| -> Result<()> {
        match &of.operator_class {
            Some(class) => {
                Err(SqlError::not_supported(format!("operator class {class} is not supported")))
            }
            None => Ok(()),
        }
    };
    let mut found = Vec::with_capacity(columns.len());
    for of in columns {
        plain(of)?;
        match &of.column.expr {
            Expr::Identifier(name) => found.push(name),
            Expr::Collate { collation, .. } => {
                let message = format!("collation {collation} is not supported");
                return Err(SqlError::not_supported(message).hint("texts are compared by bytes"));
            }
            expr => {
                let text = super::shown(&expr.to_string());
                let message = format!("an index over an expression is not supported: {text}");
                return Err(SqlError::not_supported(message)
                    .hint("keep the value in a column of its own, and index that"));
            }
        }
    }
    Ok(found)
}

/// Refuses what only PostgreSQL's indexes have.
pub(super) fn plain_index(kind: Option<&IndexType>, options: &[IndexOption]) -> Result<()> {
    let kind = options
        .iter()
        .find_map(|option| match option {
            IndexOption::Using(kind) => Some(kind),
            _ => None,
        })
        .or(kind);
    match kind {
        None | Some(IndexType::BTree) => {}
        Some(other) => {
            let message = format!("index method {other} is not supported");
            return Err(SqlError::not_supported(message).hint("there is btree only"));
        }
    }
    match options.iter().find(|option| !matches!(option, IndexOption::Using(_))) {
        None => Ok(()),
        Some(option) => Err(SqlError::not_supported(format!("{option} is not supported"))),
    }
}
