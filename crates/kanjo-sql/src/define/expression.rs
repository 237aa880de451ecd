//! Expressions of CHECK and DEFAULT: from the parser's tree to the ledger's steps.
//!
//! A text in quotes has no type until its neighbour gives it one, as in PostgreSQL: `status = 'a'`
//! compares texts, `day = '2026-01-31'` dates. Where types don't go together by themselves, casts
//! are put in: a date beside a time, numbers of different kinds in `coalesce`.

use super::literal;
use super::steps::{
    Known, arithmetic, can_compare, coalesce, compared, constant, is_text, negated, no_operator,
    or_else, scale_of, step, too_long,
};
use super::types::{column_type, type_text};
use super::{fold, shown, state};
use crate::error::{SqlError, code};
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArguments, Ident, UnaryOperator, Value as Token,
};
use kanjo_ledger::expression::{Given, Work, check_condition, check_default, evaluate};
use kanjo_types::expression::{Expression, Step};
use kanjo_types::outcome::ResultCode;
use kanjo_types::relation::{Column, ColumnType, Definition, PRECISION_MAX};
use kanjo_types::row::Value;

/// Deepest nesting that is looked into. What has more levels has more steps than there may be.
const LEVELS_MAX: usize = 160;
/// A longer IN list is cut into several, joined by OR: each value of a list is on the stack.
const IN_LIST_MAX: usize = 24;

type Result<T> = std::result::Result<T, SqlError>;

/// What an expression is before its neighbours are known.
enum Term {
    Known(Known),
    /// A text in quotes; whether it was in parentheses, too.
    Quoted(String, bool),
    Null,
}

/// Where an expression stands.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// The table's columns, and its name; none in a DEFAULT.
    table: Option<(&'a Definition, &'a str)>,
}

/// The steps of a CHECK constraint of a table.
pub(super) fn condition(expr: &Expr, definition: &Definition, table: &str) -> Result<Expression> {
    let place = Place { table: Some((definition, table)) };
    let known = place.settled(expr, 0, ColumnType::Boolean)?;
    if known.kind != ColumnType::Boolean {
        let kind = type_text(known.kind);
        let message = format!("argument of CHECK must be type boolean, not type {kind}");
        return Err(SqlError::new(code::TYPE_MISMATCH, message));
    }
    let expression = Expression(known.steps);
    check_condition(&expression, definition).map_err(|_| unsound(expr))?;
    Ok(expression)
}

/// The steps of a default of a column; `None` for null, which is no default.
pub(super) fn default(expr: &Expr, column: &str, kind: ColumnType) -> Result<Option<Expression>> {
    let place = Place { table: None };
    let known = match place.term(expr, 0)? {
        Term::Null => return Ok(None),
        // Length and form are looked at now rather than at the first row.
        Term::Quoted(text, _) => match literal::value_of(kind, &text)? {
            Value::Text(text) => constant(ColumnType::Text(None), Value::Text(text)),
            value => constant(kind, value),
        },
        Term::Known(known) => known,
    };
    let found = known.kind;
    let expression = Expression(known.steps);
    let fits = check_default(&expression, kind);
    fits.map_err(|_| {
        let (kind, found) = (type_text(kind), type_text(found));
        let message = format!(
            "column \"{column}\" is of type {kind} but default expression is of type {found}"
        );
        SqlError::new(code::TYPE_MISMATCH, message)
    })?;
    if is_constant(&expression) {
        value_as(&expression, kind, &Given::default())?;
    }
    Ok(Some(expression))
}

/// The value of a column's default, as a value of the column; null without a default.
///
/// # Errors
/// What the arithmetic or the column's type refuses: 22003, 22012, 22001.
pub(crate) fn default_value(column: &Column, given: &Given) -> Result<Value> {
    match &column.default {
        Some(expression) => value_as(expression, column.kind, given),
        None => Ok(Value::Null),
    }
}

/// Does an expression always give the same value?
pub(super) fn is_constant(expression: &Expression) -> bool {
    let given = |step: &Step| matches!(step, Step::Now | Step::NewUuid | Step::CurrentUser);
    !expression.0.iter().any(given)
}

fn value_as(expression: &Expression, kind: ColumnType, given: &Given) -> Result<Value> {
    let mut steps = expression.0.clone();
    steps.push(Step::Cast(kind));
    let value = evaluate(&Expression(steps), None, given, &mut Work::default());
    value.map_err(|result| literal::refused(result, kind))
}

fn unsound(expr: &Expr) -> SqlError {
    let text = shown(&expr.to_string());
    SqlError::new(state::BAD_DEFINITION, format!("the ledger cannot check ({text})"))
}

fn not_here(what: &str) -> SqlError {
    SqlError::not_supported(format!("{what} is not supported in CHECK and DEFAULT")).hint(
        "there are + - * / %, comparisons, AND, OR, NOT, IS NULL, BETWEEN, IN, LIKE, CAST, \
         coalesce, lower, upper, length; in DEFAULT also now(), gen_random_uuid(), CURRENT_USER",
    )
}

/// A text in quotes beside a value of a type.
fn quoted(text: &str, kind: ColumnType) -> Result<Known> {
    match kind {
        // The neighbour's length and precision don't bound what it is compared with.
        ColumnType::Text(_) => {
            let kind = ColumnType::Text(None);
            Ok(constant(kind, literal::value_of(kind, text)?))
        }
        ColumnType::Numeric { .. } => {
            let wide = ColumnType::Numeric { precision: PRECISION_MAX, scale: 0 };
            literal::value_of(wide, text)?;
            let (kind, value) = literal::number(text.trim())?;
            Ok(constant(kind, value))
        }
        _ => Ok(constant(kind, literal::value_of(kind, text)?)),
    }
}

fn settle(term: Term, kind: ColumnType) -> Result<Known> {
    match term {
        Term::Known(known) => Ok(known),
        Term::Quoted(text, _) => quoted(&text, kind),
        Term::Null => Ok(constant(kind, Value::Null)),
    }
}

/// Gives texts in quotes the type of the first that has one, and puts dates beside times as times.
fn alike(terms: Vec<Term>) -> Result<Vec<Known>> {
    let kinds = terms.iter().filter_map(|term| match term {
        Term::Known(known) => Some(known.kind),
        _ => None,
    });
    let first = kinds.clone().next().unwrap_or(ColumnType::Text(None));
    let timed = kinds.clone().any(|kind| kind == ColumnType::Timestamptz);
    let first = if timed && first == ColumnType::Date { ColumnType::Timestamptz } else { first };
    let settled = terms.into_iter().map(|term| {
        let known = settle(term, first)?;
        if timed && known.kind == ColumnType::Date {
            let kind = ColumnType::Timestamptz;
            return step(vec![known], Step::Cast(kind), kind);
        }
        Ok(known)
    });
    settled.collect()
}

impl Place<'_> {
    fn settled(self, expr: &Expr, level: usize, kind: ColumnType) -> Result<Known> {
        settle(self.term(expr, level)?, kind)
    }

    fn settled_all<'e>(
        self,
        exprs: impl IntoIterator<Item = &'e Expr>,
        level: usize,
    ) -> Result<Vec<Known>> {
        let terms: Result<Vec<Term>> =
            exprs.into_iter().map(|expr| self.term(expr, level)).collect();
        alike(terms?)
    }

    fn term(self, expr: &Expr, level: usize) -> Result<Term> {
        if level > LEVELS_MAX {
            return Err(too_long());
        }
        let level = level + 1;
        let known = match expr {
            Expr::Nested(inner) => {
                return Ok(match self.term(inner, level)? {
                    Term::Quoted(text, _) => Term::Quoted(text, true),
                    term => term,
                });
            }
            Expr::Value(value) => return token(&value.value),
            Expr::Identifier(name) => self.column(name)?,
            Expr::CompoundIdentifier(names) => self.qualified(names)?,
            Expr::BinaryOp { left, op, right } => self.binary(left, op, right, level)?,
            Expr::UnaryOp { op, expr } => self.unary(*op, expr, level)?,
            Expr::Cast {
                kind: CastKind::Cast | CastKind::DoubleColon, expr, data_type, ..
            } => self.cast(expr, data_type, level)?,
            Expr::TypedString(typed) => {
                let kind = column_type(&typed.data_type)?;
                match token(&typed.value.value)? {
                    Term::Quoted(text, _) => constant(kind, literal::value_of(kind, &text)?),
                    _ => return Err(not_here(&shown(&expr.to_string()))),
                }
            }
            Expr::Function(function) => self.function(function, level)?,
            _ => self.predicate(expr, level)?,
        };
        Ok(Term::Known(known))
    }

    /// Expressions that are true, false or null.
    fn predicate(self, expr: &Expr, level: usize) -> Result<Known> {
        let boolean = ColumnType::Boolean;
        let truth = |inner: &Expr| self.truth(inner, level);
        match expr {
            Expr::IsNull(inner) | Expr::IsNotNull(inner) => {
                let inner = self.settled(inner, level, ColumnType::Text(None))?;
                negated(
                    step(vec![inner], Step::IsNull, boolean)?,
                    matches!(expr, Expr::IsNotNull(_)),
                )
            }
            Expr::IsUnknown(inner) => step(vec![truth(inner)?], Step::IsNull, boolean),
            Expr::IsNotUnknown(inner) => {
                negated(step(vec![truth(inner)?], Step::IsNull, boolean)?, true)
            }
            Expr::IsTrue(inner) => or_else(truth(inner)?, false),
            Expr::IsNotTrue(inner) => negated(or_else(truth(inner)?, false)?, true),
            Expr::IsFalse(inner) => negated(or_else(truth(inner)?, true)?, true),
            Expr::IsNotFalse(inner) => or_else(truth(inner)?, true),
            Expr::Between { expr, negated: not, low, high } => {
                let all = self.settled_all([&**expr, low, high], level)?;
                compared(&all, "BETWEEN")?;
                negated(step(all, Step::Between, boolean)?, *not)
            }
            Expr::InList { expr, list, negated: not } => {
                negated(self.in_list(expr, list, level)?, *not)
            }
            Expr::Like { negated: not, any: false, expr, pattern, escape_char } => {
                let escape = escape_char.as_ref().map(|escape| &escape.value);
                match escape {
                    None => {}
                    Some(Token::SingleQuotedString(escape)) if escape == "\\" => {}
                    Some(_) => return Err(not_here("LIKE with another ESCAPE than '\\'")),
                }
                negated(self.like(expr, pattern, level)?, *not)
            }
            other => Err(not_here(name_of(other))),
        }
    }

    fn truth(self, expr: &Expr, level: usize) -> Result<Known> {
        let known = self.settled(expr, level, ColumnType::Boolean)?;
        if known.kind == ColumnType::Boolean {
            return Ok(known);
        }
        let (text, kind) = (shown(&expr.to_string()), type_text(known.kind));
        let message = format!("argument {text} must be type boolean, not type {kind}");
        Err(SqlError::new(code::TYPE_MISMATCH, message))
    }

    fn column(self, name: &Ident) -> Result<Known> {
        let name = fold(name);
        let Some((definition, _)) = self.table else {
            let message = "cannot use column reference in DEFAULT expression";
            return Err(SqlError::not_supported(message));
        };
        let at = definition.columns.iter().position(|column| column.name == name);
        let found = at.and_then(|at| {
            let at = u16::try_from(at).ok()?;
            Some((at, definition.type_of(at)?))
        });
        let (at, kind) = found.ok_or_else(|| {
            SqlError::new(code::NO_COLUMN, format!("column \"{name}\" does not exist"))
        })?;
        Ok(Known { steps: vec![Step::Column(at)], kind, depth: 1 })
    }

    fn qualified(self, names: &[Ident]) -> Result<Known> {
        match (names, self.table) {
            ([table, column], Some((_, of))) if fold(table) == of => self.column(column),
            ([table, ..], Some(_)) => {
                let message = format!("missing FROM-clause entry for table \"{}\"", fold(table));
                Err(SqlError::new(code::NO_TABLE, message))
            }
            _ => Err(SqlError::not_supported("cannot use column reference in DEFAULT expression")),
        }
    }

    fn binary(
        self,
        left: &Expr,
        operator: &BinaryOperator,
        right: &Expr,
        level: usize,
    ) -> Result<Known> {
        let made = match operator {
            BinaryOperator::Plus => Step::Add,
            BinaryOperator::Minus => Step::Subtract,
            BinaryOperator::Multiply => Step::Multiply,
            BinaryOperator::Divide => Step::Divide,
            BinaryOperator::Modulo => Step::Remainder,
            BinaryOperator::Eq => Step::Equal,
            BinaryOperator::NotEq => Step::NotEqual,
            BinaryOperator::Lt => Step::Less,
            BinaryOperator::LtEq => Step::LessEqual,
            BinaryOperator::Gt => Step::Greater,
            BinaryOperator::GtEq => Step::GreaterEqual,
            BinaryOperator::And | BinaryOperator::Or => {
                let both = vec![self.truth(left, level)?, self.truth(right, level)?];
                let is_and = *operator == BinaryOperator::And;
                let made = if is_and { Step::And } else { Step::Or };
                return step(both, made, ColumnType::Boolean);
            }
            BinaryOperator::PGLikeMatch => return self.like(left, right, level),
            BinaryOperator::PGNotLikeMatch => {
                return negated(self.like(left, right, level)?, true);
            }
            other => return Err(not_here(&format!("operator {other}"))),
        };
        let both = self.settled_all([left, right], level)?;
        let [a, b] = &both[..] else { return Err(too_long()) };
        let kind = match made {
            Step::Add | Step::Subtract | Step::Multiply | Step::Divide | Step::Remainder => {
                arithmetic(&made, a.kind, b.kind)
            }
            _ => can_compare(a.kind, b.kind).then_some(ColumnType::Boolean),
        };
        let kind = kind.ok_or_else(|| no_operator(a.kind, &operator.to_string(), b.kind))?;
        step(both, made, kind)
    }

    fn unary(self, operator: UnaryOperator, expr: &Expr, level: usize) -> Result<Known> {
        match operator {
            UnaryOperator::Not => negated(self.truth(expr, level)?, true),
            UnaryOperator::Plus | UnaryOperator::Minus => {
                if let Expr::Value(value) = expr
                    && let Token::Number(digits, _) = &value.value
                {
                    let sign = if operator == UnaryOperator::Minus { "-" } else { "" };
                    let (kind, value) = literal::number(&format!("{sign}{digits}"))?;
                    return Ok(constant(kind, value));
                }
                let known = self.settled(expr, level, ColumnType::Text(None))?;
                let kind = match known.kind {
                    ColumnType::Numeric { scale, .. } => {
                        ColumnType::Numeric { precision: PRECISION_MAX, scale }
                    }
                    kind if kind.is_integer() => kind,
                    kind => {
                        let kind = type_text(kind);
                        let message = format!("operator does not exist: {operator} {kind}");
                        return Err(SqlError::new(code::NO_FUNCTION, message));
                    }
                };
                if operator == UnaryOperator::Plus {
                    return Ok(known);
                }
                step(vec![known], Step::Negate, kind)
            }
            other => Err(not_here(&format!("operator {other}"))),
        }
    }

    fn cast(self, expr: &Expr, data_type: &DataType, level: usize) -> Result<Known> {
        let kind = column_type(data_type)?;
        let known = match self.term(expr, level)? {
            Term::Null => return Ok(constant(kind, Value::Null)),
            // A text in parentheses is a text of its own where that makes a difference: to another
            // length. So `expression_text` can tell a constant from a cast of one.
            Term::Quoted(text, nested) if !(nested && is_text(kind)) => {
                return Ok(constant(kind, literal::value_of(kind, &text)?));
            }
            term => settle(term, ColumnType::Text(None))?,
        };
        let from = known.kind;
        let numbers = scale_of(from).is_some() && scale_of(kind).is_some();
        let texts = is_text(from) && is_text(kind);
        let times = matches!(
            (from, kind),
            (ColumnType::Date, ColumnType::Timestamptz)
                | (ColumnType::Timestamptz, ColumnType::Date)
        );
        if !(numbers || texts || times || from == kind) {
            let (from, kind) = (type_text(from), type_text(kind));
            let message = format!("cannot cast type {from} to {kind} in CHECK and DEFAULT");
            return Err(SqlError::new(state::CANNOT_CAST, message));
        }
        step(vec![known], Step::Cast(kind), kind)
    }

    fn like(self, text: &Expr, pattern: &Expr, level: usize) -> Result<Known> {
        let plain = ColumnType::Text(None);
        let (a, b) = (self.settled(text, level, plain)?, self.settled(pattern, level, plain)?);
        if !is_text(a.kind) || !is_text(b.kind) {
            return Err(no_operator(a.kind, "~~", b.kind));
        }
        step(vec![a, b], Step::Like, ColumnType::Boolean)
    }

    fn in_list(self, expr: &Expr, list: &[Expr], level: usize) -> Result<Known> {
        let all = self.settled_all(std::iter::once(expr).chain(list), level)?;
        compared(&all, "=")?;
        let Some((first, others)) = all.split_first() else { return Err(too_long()) };
        let mut whole: Option<Known> = None;
        for part in others.chunks(IN_LIST_MAX) {
            let count = u8::try_from(part.len()).map_err(|_| too_long())?;
            let operands = std::iter::once(first).chain(part).cloned().collect();
            let part = step(operands, Step::In(count), ColumnType::Boolean)?;
            whole = Some(match whole {
                None => part,
                Some(before) => step(vec![before, part], Step::Or, ColumnType::Boolean)?,
            });
        }
        whole.ok_or_else(|| SqlError::new(code::SYNTAX, "IN needs a value"))
    }

    fn function(self, function: &Function, level: usize) -> Result<Known> {
        let name = function.name.0.last().and_then(|part| part.as_ident()).map(fold);
        let name = name.unwrap_or_default();
        let is_plain = function.over.is_none()
            && function.filter.is_none()
            && function.within_group.is_empty()
            && function.null_treatment.is_none()
            && function.parameters == FunctionArguments::None;
        let arguments = arguments(function).filter(|_| is_plain);
        let arguments = arguments.ok_or_else(|| not_here(&format!("this form of {name}()")))?;
        match (&*name, &arguments[..]) {
            ("now" | "transaction_timestamp" | "current_timestamp", []) => {
                self.given(&name, Step::Now, ColumnType::Timestamptz)
            }
            ("current_date", []) => {
                let now = self.given(&name, Step::Now, ColumnType::Timestamptz)?;
                step(vec![now], Step::Cast(ColumnType::Date), ColumnType::Date)
            }
            ("gen_random_uuid", []) => self.given(&name, Step::NewUuid, ColumnType::Uuid),
            // A session is that of one user from its beginning to its end.
            ("current_user" | "session_user" | "user", []) => {
                self.given(&name, Step::CurrentUser, ColumnType::Text(None))
            }
            ("length" | "char_length" | "character_length", [text]) => {
                self.of_text(&name, text, Step::CharLength, ColumnType::Integer, level)
            }
            ("lower", [text]) => {
                self.of_text(&name, text, Step::Lower, ColumnType::Text(None), level)
            }
            ("upper", [text]) => {
                self.of_text(&name, text, Step::Upper, ColumnType::Text(None), level)
            }
            ("coalesce", [_, ..]) => coalesce(self.settled_all(arguments, level)?),
            ("nextval", _) => Err(not_here("nextval()")
                .hint("a column GENERATED BY DEFAULT AS IDENTITY is numbered by itself")),
            _ => Err(not_here(&format!("function {name}() with {} arguments", arguments.len()))),
        }
    }

    fn given(self, name: &str, step: Step, kind: ColumnType) -> Result<Known> {
        if self.table.is_some() {
            let message = format!("{name} is not supported in CHECK: replicas must agree");
            return Err(SqlError::not_supported(message).hint("it can be a DEFAULT"));
        }
        Ok(Known { steps: vec![step], kind, depth: 1 })
    }

    fn of_text(
        self,
        name: &str,
        text: &Expr,
        made: Step,
        kind: ColumnType,
        level: usize,
    ) -> Result<Known> {
        let text = self.settled(text, level, ColumnType::Text(None))?;
        if !is_text(text.kind) {
            let message = format!("function {name}({}) does not exist", type_text(text.kind));
            return Err(SqlError::new(code::NO_FUNCTION, message));
        }
        step(vec![text], made, kind)
    }
}

fn token(value: &Token) -> Result<Term> {
    Ok(match value {
        Token::Null => Term::Null,
        Token::Boolean(value) => Term::Known(constant(ColumnType::Boolean, Value::Boolean(*value))),
        Token::Number(digits, _) => {
            let (kind, value) = literal::number(digits)?;
            Term::Known(constant(kind, value))
        }
        Token::SingleQuotedString(text)
        | Token::EscapedStringLiteral(text)
        | Token::UnicodeStringLiteral(text)
        | Token::NationalStringLiteral(text) => Term::Quoted(text.clone(), false),
        Token::DollarQuotedString(text) => Term::Quoted(text.value.clone(), false),
        other => return Err(not_here(&shown(&other.to_string()))),
    })
}

/// The arguments of a function, all plain expressions.
fn arguments(function: &Function) -> Option<Vec<&Expr>> {
    let list = match &function.args {
        FunctionArguments::None => return Some(Vec::new()),
        FunctionArguments::Subquery(_) => return None,
        FunctionArguments::List(list) => list,
    };
    if list.duplicate_treatment.is_some() || !list.clauses.is_empty() {
        return None;
    }
    let plain = list.args.iter().map(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    });
    plain.collect()
}

/// What people call an expression that is not here.
fn name_of(expr: &Expr) -> &'static str {
    match expr {
        Expr::Case { .. } => "CASE",
        Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => "a sub-query",
        Expr::ILike { .. } => "ILIKE",
        Expr::SimilarTo { .. } => "SIMILAR TO",
        Expr::RLike { .. } => "a regular expression",
        Expr::AnyOp { .. } | Expr::AllOp { .. } => "ANY and ALL",
        Expr::IsDistinctFrom(..) | Expr::IsNotDistinctFrom(..) => "IS DISTINCT FROM",
        Expr::Extract { .. } => "EXTRACT",
        Expr::Substring { .. } => "SUBSTRING",
        Expr::Trim { .. } => "TRIM",
        Expr::Position { .. } => "POSITION",
        Expr::Overlay { .. } => "OVERLAY",
        Expr::Ceil { .. } => "CEIL",
        Expr::Floor { .. } => "FLOOR",
        Expr::Interval(_) => "INTERVAL",
        Expr::Array(_) => "ARRAY",
        Expr::Tuple(_) => "a row of values",
        Expr::Collate { .. } => "COLLATE",
        Expr::AtTimeZone { .. } => "AT TIME ZONE",
        Expr::Cast { .. } | Expr::Convert { .. } => "this kind of cast",
        Expr::JsonAccess { .. } | Expr::CompoundFieldAccess { .. } => "access to parts of a value",
        Expr::Wildcard(_) | Expr::QualifiedWildcard(..) => "*",
        _ => "this expression",
    }
}

/// The columns that an expression looks at, in the order of their first use.
pub(super) fn columns_of(expression: &Expression) -> Vec<u16> {
    let mut found = Vec::new();
    for step in &expression.0 {
        if let Step::Column(column) = step
            && !found.contains(column)
        {
            found.push(*column);
        }
    }
    found
}

/// The error for a definition that the ledger would refuse and that nothing here has a name for.
pub(super) fn refused_definition(result: ResultCode) -> SqlError {
    let (state, message) = match result {
        ResultCode::TooMany => (code::LIMIT_EXCEEDED, "the definition is too large"),
        _ => (state::BAD_DEFINITION, "the definition is not sound"),
    };
    SqlError::new(state, message)
}
