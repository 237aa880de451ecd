//! Expressions as SQL text, for `\d` and the catalog. Read again, the text gives the same steps.

use super::literal::{number, text_of};
use super::types::type_text;
use kanjo_types::expression::{Expression, Step};
use kanjo_types::relation::{ColumnType, Definition};
use kanjo_types::row::Value;

/// A part of the text.
struct Piece {
    text: String,
    /// How it is written with NOT before it, where that is nicer.
    negated: Option<String>,
    form: Form,
}

/// What must stand around a piece that is an operand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Nothing.
    Closed,
    /// Nothing, but a sign or a cast would change what it is.
    Literal,
    /// Parentheses.
    Open,
}

/// Expression of a DEFAULT or CHECK as SQL text, for `\d`.
pub(crate) fn expression_text(expression: &Expression, definition: &Definition) -> String {
    let mut stack: Vec<Piece> = Vec::new();
    for step in &expression.0 {
        let count = operands_of(step);
        let Some(start) = stack.len().checked_sub(count) else { return unsound() };
        let operands = stack.split_off(start);
        let Some(piece) = piece(step, &operands, definition) else { return unsound() };
        stack.push(piece);
    }
    match (stack.pop(), stack.is_empty()) {
        (Some(piece), true) => piece.text,
        _ => unsound(),
    }
}

/// Stands for what the ledger never holds.
fn unsound() -> String {
    "NULL /* not sound */".to_owned()
}

fn operands_of(step: &Step) -> usize {
    match step {
        Step::Column(_) | Step::Constant { .. } | Step::Now | Step::NewUuid | Step::CurrentUser => {
            0
        }
        Step::Cast(_)
        | Step::Negate
        | Step::Not
        | Step::IsNull
        | Step::CharLength
        | Step::Lower
        | Step::Upper => 1,
        Step::Between => 3,
        Step::In(count) => usize::from(*count) + 1,
        Step::Coalesce(count) => usize::from(*count),
        _ => 2,
    }
}

fn closed(text: String) -> Piece {
    Piece { text, negated: None, form: Form::Closed }
}

fn open(text: String) -> Piece {
    Piece { text, negated: None, form: Form::Open }
}

/// A piece as an operand.
fn operand(piece: &Piece) -> String {
    match piece.form {
        Form::Open => format!("({})", piece.text),
        _ => piece.text.clone(),
    }
}

/// A piece where a literal would be read as part of what stands beside it.
fn apart(piece: &Piece) -> String {
    match piece.form {
        Form::Closed => piece.text.clone(),
        _ => format!("({})", piece.text),
    }
}

fn listed(pieces: &[Piece]) -> String {
    let texts: Vec<&str> = pieces.iter().map(|piece| &*piece.text).collect();
    texts.join(", ")
}

fn piece(step: &Step, operands: &[Piece], definition: &Definition) -> Option<Piece> {
    let call = |name: &str| Some(closed(format!("{name}({})", listed(operands))));
    if let Some(symbol) = symbol(step) {
        let [a, b] = operands else { return None };
        return Some(open(format!("{} {symbol} {}", operand(a), operand(b))));
    }
    let predicate = |text: &dyn Fn(&str) -> String| {
        Some(Piece { text: text(""), negated: Some(text("NOT ")), form: Form::Open })
    };
    match (step, operands) {
        (Step::Column(column), []) => {
            let column = definition.columns.get(usize::from(*column))?;
            Some(closed(quoted_name(&column.name)))
        }
        (Step::Constant { kind, value }, []) => Some(constant(*kind, value)),
        (Step::Now, []) => call("now"),
        (Step::NewUuid, []) => call("gen_random_uuid"),
        (Step::CurrentUser, []) => Some(closed("CURRENT_USER".to_owned())),
        (Step::Cast(kind), [of]) => {
            // A number keeps its own type before a cast, a text in quotes would not.
            let is_number = of.text.starts_with(|first: char| first.is_ascii_digit());
            let of = if is_number { operand(of) } else { apart(of) };
            Some(closed(format!("{of}::{}", type_text(*kind))))
        }
        (Step::Negate, [of]) => Some(open(format!("-{}", apart(of)))),
        (Step::Not, [of]) => Some(match &of.negated {
            Some(text) => open(text.clone()),
            None => open(format!("NOT {}", operand(of))),
        }),
        (Step::IsNull, [of]) => predicate(&|not| format!("{} IS {not}NULL", operand(of))),
        (Step::Between, [of, low, high]) => predicate(&|not| {
            format!("{} {not}BETWEEN {} AND {}", operand(of), operand(low), operand(high))
        }),
        (Step::In(_), [of, list @ ..]) => {
            predicate(&|not| format!("{} {not}IN ({})", operand(of), listed(list)))
        }
        (Step::Like, [of, pattern]) => {
            predicate(&|not| format!("{} {not}LIKE {}", operand(of), operand(pattern)))
        }
        (Step::CharLength, [_]) => call("char_length"),
        (Step::Lower, [_]) => call("lower"),
        (Step::Upper, [_]) => call("upper"),
        (Step::Coalesce(_), _) => call("COALESCE"),
        _ => None,
    }
}

fn symbol(step: &Step) -> Option<&'static str> {
    Some(match step {
        Step::Add => "+",
        Step::Subtract => "-",
        Step::Multiply => "*",
        Step::Divide => "/",
        Step::Remainder => "%",
        Step::Equal => "=",
        Step::NotEqual => "<>",
        Step::Less => "<",
        Step::LessEqual => "<=",
        Step::Greater => ">",
        Step::GreaterEqual => ">=",
        Step::And => "AND",
        Step::Or => "OR",
        _ => return None,
    })
}

/// A constant, with its type where its text alone would be read as another.
fn constant(kind: ColumnType, value: &Value) -> Piece {
    let typed = |text: String| closed(format!("{text}::{}", type_text(kind)));
    let literal = |text: String, form| Piece { text, negated: None, form };
    let Some(text) = text_of(value, kind) else { return typed("NULL".to_owned()) };
    match value {
        Value::Boolean(value) => closed(value.to_string()),
        Value::Text(_) if kind == ColumnType::Text(None) => {
            literal(quoted_text(&text), Form::Literal)
        }
        Value::Integer(_) | Value::Numeric(_)
            if number(&text).is_ok_and(|(of, read)| of == kind && read == *value) =>
        {
            let form = if text.starts_with('-') { Form::Open } else { Form::Literal };
            literal(text, form)
        }
        _ => typed(quoted_text(&text)),
    }
}

/// A text in quotes.
pub(super) fn quoted_text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A name, in quotes where it would be read as something else without them.
pub(super) fn quoted_name(name: &str) -> String {
    let mut characters = name.chars();
    let first = characters.next().is_some_and(|first| first.is_ascii_lowercase() || first == '_');
    let rest = characters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if first && rest && !RESERVED.contains(&name) {
        return name.to_owned();
    }
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The words of PostgreSQL that are no names without quotes, or mean a function or a type where an
/// expression begins (its appendix C: reserved, and those that cannot be functions or types), and
/// those that our parser takes for one.
const RESERVED: &[&str] = &[
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "authorization",
    "between",
    "bigint",
    "binary",
    "bit",
    "boolean",
    "both",
    "case",
    "cast",
    "ceil",
    "char",
    "character",
    "check",
    "coalesce",
    "collate",
    "collation",
    "column",
    "concurrently",
    "connect_by_root",
    "constraint",
    "convert",
    "create",
    "cross",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "date",
    "dec",
    "decimal",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "exists",
    "extract",
    "false",
    "fetch",
    "float",
    "floor",
    "for",
    "foreign",
    "freeze",
    "from",
    "full",
    "grant",
    "greatest",
    "group",
    "grouping",
    "having",
    "ilike",
    "in",
    "initially",
    "inner",
    "inout",
    "int",
    "integer",
    "intersect",
    "interval",
    "into",
    "is",
    "isnull",
    "join",
    "json",
    "lambda",
    "lateral",
    "leading",
    "least",
    "left",
    "like",
    "limit",
    "localtime",
    "localtimestamp",
    "map",
    "match",
    "national",
    "natural",
    "nchar",
    "none",
    "normalize",
    "not",
    "notnull",
    "null",
    "nullif",
    "numeric",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "out",
    "outer",
    "overlaps",
    "overlay",
    "placing",
    "position",
    "precision",
    "primary",
    "prior",
    "real",
    "references",
    "returning",
    "right",
    "row",
    "select",
    "session_user",
    "setof",
    "similar",
    "smallint",
    "some",
    "struct",
    "substr",
    "substring",
    "symmetric",
    "system_user",
    "table",
    "tablesample",
    "then",
    "time",
    "timestamp",
    "timestamptz",
    "to",
    "trailing",
    "treat",
    "trim",
    "true",
    "try_cast",
    "union",
    "unique",
    "user",
    "using",
    "uuid",
    "values",
    "varchar",
    "variadic",
    "verbose",
    "when",
    "where",
    "window",
    "with",
];
