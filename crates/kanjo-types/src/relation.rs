//! Relations: tables and views that users of the ledger define for themselves, and the changes of a
//! definition. What the rules about them are: `docs/tables.md`.
//!
//! A definition names columns by their position, counted from 0, which never changes: columns are
//! only ever added. Constraints and indexes have names, distinct within their relation.

use crate::expression::Expression;
use crate::id::{RelationId, UserId};
use crate::outcome::ResultCode;
use crate::row::Value;
use crate::standing::Links;
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Most relations of a ledger, those included that were dropped.
pub const RELATIONS_MAX: u32 = 4_096;
/// Most columns of a table.
pub const COLUMNS_MAX: usize = 256;
/// Most columns of a key: primary, unique or foreign.
pub const KEY_COLUMNS_MAX: usize = 32;
/// Most constraints, and most indexes, of a table.
pub const CONSTRAINTS_MAX: usize = 64;
/// Most bytes of the name of a schema, relation, column, constraint or index.
pub const RELATION_NAME_MAX: usize = 63;
/// Most bytes of a table's definition, encoded.
pub const DEFINITION_BYTES_MAX: usize = 65_536;
/// Most bytes of a view's query.
pub const QUERY_BYTES_MAX: usize = 65_536;
/// Most grants of a relation.
pub const TABLE_GRANTS_MAX: usize = 64;
/// Most digits of a numeric.
pub const PRECISION_MAX: u8 = 38;
/// Most characters that a text type can name.
pub const CHARACTERS_MAX: u32 = 65_536;
/// Most rows that a new constraint is checked against.
pub const CHECKED_ROWS_MAX: usize = 100_000;

// Columns are numbered in 16 bits.
const _: () = assert!(COLUMNS_MAX <= u16::MAX as usize && KEY_COLUMNS_MAX <= COLUMNS_MAX);

/// The type of a column, or of a step of an expression.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    /// True or false.
    Boolean,
    /// −2¹⁵ … 2¹⁵ − 1.
    Smallint,
    /// −2³¹ … 2³¹ − 1.
    Integer,
    /// −2⁶³ … 2⁶³ − 1.
    Bigint,
    /// Decimal fraction, exact.
    Numeric {
        /// Digits in all: 1 … [`PRECISION_MAX`].
        precision: u8,
        /// Digits behind the point: 0 … `precision`.
        scale: u8,
    },
    /// Unicode text without NUL; at most so many characters (code points) where one is given. Texts
    /// are compared by their UTF-8 bytes.
    Text(Option<u32>),
    /// Bytes.
    Bytea,
    /// 16 bytes.
    Uuid,
    /// Days since 1970-01-01, proleptic Gregorian.
    Date,
    /// Microseconds since 1970-01-01 UTC.
    Timestamptz,
    /// Well-formed JSON, kept as it was written.
    Jsonb,
}

impl ColumnType {
    /// May values of the two types be equal? What a foreign key and its target must agree in.
    #[must_use]
    pub fn compares_with(self, other: Self) -> bool {
        match (self, other) {
            (Self::Numeric { scale: a, .. }, Self::Numeric { scale: b, .. }) => a == b,
            (Self::Text(_), Self::Text(_)) => true,
            (Self::Jsonb, _) | (_, Self::Jsonb) => false,
            _ => self == other || (self.is_integer() && other.is_integer()),
        }
    }

    /// One of the three integer types?
    #[must_use]
    pub fn is_integer(self) -> bool {
        matches!(self, Self::Smallint | Self::Integer | Self::Bigint)
    }

    /// Are its precision, scale and length within their bounds?
    #[must_use]
    pub fn is_sound(self) -> bool {
        match self {
            Self::Numeric { precision, scale } => {
                (1..=PRECISION_MAX).contains(&precision) && scale <= precision
            }
            Self::Text(Some(characters)) => (1..=CHARACTERS_MAX).contains(&characters),
            _ => true,
        }
    }
}

/// Whether a planner numbers the rows in this column. The ledger gives no numbers.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Identity {
    /// It does not.
    None,
    /// Where the statement gives no value.
    ByDefault,
    /// Always.
    Always,
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: ColumnType,
    /// Must every row have a value?
    #[serde(default)]
    pub not_null: bool,
    /// What planners put where a statement gives no value.
    #[serde(default)]
    pub default: Option<Expression>,
    /// Whether planners number the rows.
    #[serde(default = "no_identity")]
    pub identity: Identity,
    /// In a column added later: the value of rows that were written before; null when absent.
    #[serde(default)]
    pub added: Option<Value>,
}

fn no_identity() -> Identity {
    Identity::None
}

/// A table of the ledger's own that rows can reference, by the text form of an id. All that is in
/// them stays, so such a reference never breaks.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum LedgerTable {
    /// Users: text `kju1…`.
    Users,
    /// Wallets: text `kjw1…`.
    Wallets,
    /// Tokens: the number in an integer column, the symbol in a text column.
    Tokens,
    /// Pending payments: text `kjp1…`.
    Pendings,
    /// Bundles: text `kjb1…`.
    Bundles,
    /// Scheduled payments: text `kjs1…`.
    Schedules,
    /// Administrative acts: text `kja1…`.
    Acts,
    /// Claims: text `kjc1…`.
    Claims,
}

/// What a foreign key references.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Target {
    /// Rows of a table.
    Rows {
        /// Which; 0 in an order: the table itself.
        relation: RelationId,
        /// Its primary key, or the columns of one of its unique constraints, in that order.
        columns: Vec<u16>,
    },
    /// Rows of the ledger's own.
    Ledger(LedgerTable),
}

/// What a planner does with rows whose target is deleted. The ledger only sees the row changes that
/// come of it, and refuses what would leave a reference without a target.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum OnDelete {
    /// Refuses.
    Restrict,
    /// Deletes them, too.
    Cascade,
    /// Makes their references null.
    SetNull,
}

/// A constraint of a table, beside its types, its primary key and NOT NULL.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Constraint {
    /// No two live rows have the same values.
    Unique {
        /// Its name.
        name: String,
        /// In these columns.
        columns: Vec<u16>,
        /// Is a row with a null among them equal to no other?
        nulls_distinct: bool,
    },
    /// The expression is true or null for every live row.
    Check {
        /// Its name.
        name: String,
        /// Boolean.
        expression: Expression,
    },
    /// The target of every live row exists, unless one of the columns is null.
    Foreign {
        /// Its name.
        name: String,
        /// The referencing columns.
        columns: Vec<u16>,
        /// What they reference.
        target: Target,
        /// What a planner does when the target is deleted.
        on_delete: OnDelete,
    },
}

impl Constraint {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Unique { name, .. } | Self::Check { name, .. } | Self::Foreign { name, .. } => {
                name
            }
        }
    }
}

/// What a table's rows are.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// Columns, 1 … [`COLUMNS_MAX`].
    pub columns: Vec<Column>,
    /// Columns of the primary key, 1 … [`KEY_COLUMNS_MAX`].
    pub primary: Vec<u16>,
    /// Constraints, at most [`CONSTRAINTS_MAX`].
    pub constraints: Vec<Constraint>,
}

/// An index that planners know. It has no constraint and no bytes on the ledger.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Index {
    /// Its name.
    pub name: String,
    /// Over these columns.
    pub columns: Vec<u16>,
}

/// May read: told to nodes, which keep to it.
pub const RIGHT_SELECT: u8 = 1;
/// May insert rows.
pub const RIGHT_INSERT: u8 = 2;
/// May update rows.
pub const RIGHT_UPDATE: u8 = 4;
/// May delete rows.
pub const RIGHT_DELETE: u8 = 8;
/// May reference rows from other tables, which keeps the rows from being deleted.
pub const RIGHT_REFERENCE: u8 = 16;
/// All rights.
pub const RIGHTS_ALL: u8 =
    RIGHT_SELECT | RIGHT_INSERT | RIGHT_UPDATE | RIGHT_DELETE | RIGHT_REFERENCE;

/// What a user may do with a relation.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableGrant {
    /// Who; everybody when absent.
    #[serde(default)]
    pub to: Option<UserId>,
    /// Sum of `RIGHT_…`, not 0.
    pub rights: u8,
}

/// A relation's content.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RelationKind {
    /// A table.
    Table(Definition),
    /// A view: the text of its query, which only nodes understand.
    View(String),
}

impl RelationKind {
    /// What people call it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Table(_) => "table",
            Self::View(_) => "view",
        }
    }
}

/// A version of a relation.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct RelationRecord {
    /// Which: relations are numbered from 1 in the order of their making.
    pub number: RelationId,
    /// Version and hash links.
    pub links: Links,
    /// Schema of the name.
    pub schema: String,
    /// Name, unique in its schema among relations that are not dropped.
    pub name: String,
    /// Who may change it, and has all rights.
    pub owner: UserId,
    /// Table or view.
    pub kind: RelationKind,
    /// Who may do what, ascending, everybody first.
    pub grants: Vec<TableGrant>,
    /// Indexes that planners know.
    pub indexes: Vec<Index>,
    /// Was it dropped? Its rows stay as they were and take no part in anything.
    pub dropped: bool,
}

impl RelationRecord {
    /// The definition of a table that is not dropped.
    #[must_use]
    pub fn table(&self) -> Option<&Definition> {
        match &self.kind {
            RelationKind::Table(definition) if !self.dropped => Some(definition),
            _ => None,
        }
    }

    /// Has the user all of `rights`?
    #[must_use]
    pub fn permits(&self, user: &UserId, rights: u8) -> bool {
        let granted = self.grants.iter().filter(|grant| grant.to.is_none_or(|to| to == *user));
        let granted = granted.fold(0, |all, grant| all | grant.rights);
        self.owner == *user || granted & rights == rights
    }
}

/// What `define` does.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RelationChange {
    /// Makes a relation that the author owns.
    Create {
        /// Schema of the name.
        schema: String,
        /// Name.
        name: String,
        /// Table or view.
        kind: RelationKind,
    },
    /// Adds a column behind the others.
    AddColumn {
        /// The column.
        column: Column,
    },
    /// Adds a constraint that all live rows keep.
    AddConstraint {
        /// The constraint.
        constraint: Constraint,
    },
    /// Drops a constraint.
    DropConstraint {
        /// Its name.
        name: String,
    },
    /// Tells planners of an index.
    AddIndex {
        /// The index.
        index: Index,
    },
    /// Drops an index.
    DropIndex {
        /// Its name.
        name: String,
    },
    /// Replaces all grants.
    SetGrants {
        /// At most [`TABLE_GRANTS_MAX`], ascending by user, everybody first.
        grants: Vec<TableGrant>,
    },
    /// Gives it another name.
    Rename {
        /// Schema of the name.
        schema: String,
        /// Name.
        name: String,
    },
    /// Gives it to another user.
    SetOwner {
        /// To whom.
        owner: UserId,
    },
    /// Drops it.
    Drop,
}

/// The result of a check of a definition.
pub type Checked = Result<(), ResultCode>;

const BAD: Checked = Err(ResultCode::BadDefinition);

fn check_if(fine: bool) -> Checked {
    if fine { Ok(()) } else { BAD }
}

/// Checks a name: 1 … [`RELATION_NAME_MAX`] bytes without control characters.
///
/// # Errors
/// [`ResultCode::BadDefinition`].
pub fn check_relation_name(name: &str) -> Checked {
    let fine = (1..=RELATION_NAME_MAX).contains(&name.len()) && !name.chars().any(char::is_control);
    check_if(fine)
}

/// Checks grants: count, order, rights.
///
/// # Errors
/// [`ResultCode::TooMany`] or [`ResultCode::BadDefinition`].
pub fn check_table_grants(grants: &[TableGrant]) -> Checked {
    if grants.len() > TABLE_GRANTS_MAX {
        return Err(ResultCode::TooMany);
    }
    let rights = grants.iter().all(|grant| (1..=RIGHTS_ALL).contains(&grant.rights));
    check_if(rights && grants.is_sorted_by(|a, b| a.to < b.to))
}

impl Definition {
    /// The type of a column.
    #[must_use]
    pub fn type_of(&self, column: u16) -> Option<ColumnType> {
        self.columns.get(usize::from(column)).map(|column| column.kind)
    }

    /// The value that a row with these values has in a column: rows that were written before the
    /// column was added have the one that came with it.
    #[must_use]
    pub fn value<'a>(&'a self, values: &'a [Value], column: u16) -> &'a Value {
        let added = || self.columns.get(usize::from(column)).and_then(|of| of.added.as_ref());
        values.get(usize::from(column)).or_else(added).unwrap_or(&Value::Null)
    }

    /// The constraint with a name.
    #[must_use]
    pub fn constraint(&self, name: &str) -> Option<&Constraint> {
        self.constraints.iter().find(|constraint| constraint.name() == name)
    }

    /// The first unique constraint over exactly these columns, in this order.
    #[must_use]
    pub fn unique_over(&self, columns: &[u16]) -> Option<&Constraint> {
        self.constraints.iter().find(|constraint| match constraint {
            Constraint::Unique { columns: of_it, .. } => of_it == columns,
            _ => false,
        })
    }

    /// The values of a row in some columns, in their order.
    pub fn values<'a>(
        &'a self,
        values: &'a [Value],
        columns: &'a [u16],
    ) -> impl Iterator<Item = &'a Value> + Clone {
        columns.iter().map(|column| self.value(values, *column))
    }

    /// Checks what needs neither the ledger nor the types of expressions: names, counts, types, the
    /// columns of keys.
    ///
    /// # Errors
    /// [`ResultCode::TooMany`], or [`ResultCode::BadDefinition`]; or what a column's `added` value
    /// breaks.
    pub fn check(&self) -> Checked {
        if self.columns.len() > COLUMNS_MAX || self.constraints.len() > CONSTRAINTS_MAX {
            return Err(ResultCode::TooMany);
        }
        self.columns.iter().try_for_each(Column::check)?;
        let names: BTreeSet<&str> = self.columns.iter().map(|column| &*column.name).collect();
        check_if(names.len() == self.columns.len() && !names.is_empty())?;
        self.check_columns(&self.primary)?;
        let of_key = self.primary.iter().filter_map(|at| self.columns.get(usize::from(*at)));
        let keyed = of_key.clone().all(|column| column.kind != ColumnType::Jsonb);
        check_if(keyed && of_key.clone().all(|column| column.added.is_none()))?;
        let names: BTreeSet<&str> = self.constraints.iter().map(Constraint::name).collect();
        check_if(names.len() == self.constraints.len())?;
        self.constraints.iter().try_for_each(|constraint| self.check_constraint(constraint))
    }

    /// Checks columns that make up a key: 1 … [`KEY_COLUMNS_MAX`], known, distinct.
    ///
    /// # Errors
    /// [`ResultCode::BadDefinition`].
    pub fn check_columns(&self, columns: &[u16]) -> Checked {
        let known = columns.iter().all(|column| usize::from(*column) < self.columns.len());
        let distinct: BTreeSet<&u16> = columns.iter().collect();
        let counted = (1..=KEY_COLUMNS_MAX).contains(&columns.len());
        check_if(counted && known && distinct.len() == columns.len())
    }

    fn check_constraint(&self, constraint: &Constraint) -> Checked {
        check_relation_name(constraint.name())?;
        match constraint {
            Constraint::Unique { columns, .. } => {
                self.check_columns(columns)?;
                let jsonb = |column: &u16| self.type_of(*column) == Some(ColumnType::Jsonb);
                check_if(!columns.iter().any(jsonb))
            }
            Constraint::Check { .. } => Ok(()),
            Constraint::Foreign { columns, target, .. } => {
                self.check_columns(columns)?;
                match target {
                    Target::Rows { columns: of_target, .. } => {
                        check_if(of_target.len() == columns.len())
                    }
                    Target::Ledger(table) => self.check_ledger_key(columns, *table),
                }
            }
        }
    }

    fn check_ledger_key(&self, columns: &[u16], table: LedgerTable) -> Checked {
        let [column] = columns else { return BAD };
        check_if(self.type_of(*column).is_some_and(|kind| match kind {
            ColumnType::Text(_) => true,
            _ => kind.is_integer() && table == LedgerTable::Tokens,
        }))
    }
}

impl Column {
    fn check(&self) -> Checked {
        check_relation_name(&self.name)?;
        check_if(self.kind.is_sound())?;
        check_if(self.identity == Identity::None || self.kind.is_integer())?;
        match &self.added {
            Some(value) => self.kind.check(value),
            None => Ok(()),
        }
    }
}
