//! Completion of what is typed: keywords, tables, columns, commands.

use super::describe::Names;
use super::statements::split;
use rustyline::completion::Completer;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Helper};
use std::collections::BTreeSet;

/// Words that statements are made of.
const KEYWORDS: &[&str] = &[
    "ALL",
    "AND",
    "AS",
    "ASC",
    "AVG",
    "BEGIN",
    "BETWEEN",
    "BY",
    "CASE",
    "CAST",
    "COALESCE",
    "COMMIT",
    "COUNT",
    "CROSS",
    "CURRENT_TIMESTAMP",
    "DESC",
    "DISTINCT",
    "ELSE",
    "END",
    "EXCEPT",
    "EXISTS",
    "EXPLAIN",
    "FALSE",
    "FILTER",
    "FROM",
    "FULL",
    "GROUP",
    "HAVING",
    "ILIKE",
    "IN",
    "INNER",
    "INTERSECT",
    "INTERVAL",
    "IS",
    "JOIN",
    "LEFT",
    "LIKE",
    "LIMIT",
    "MAX",
    "MIN",
    "NOT",
    "NULL",
    "NULLS",
    "OFFSET",
    "ON",
    "OR",
    "ORDER",
    "OUTER",
    "OVER",
    "PARTITION",
    "RECURSIVE",
    "RIGHT",
    "ROLLBACK",
    "ROLLUP",
    "SELECT",
    "SET",
    "SHOW",
    "SUM",
    "THEN",
    "TRUE",
    "UNION",
    "USING",
    "VALUES",
    "WHEN",
    "WHERE",
    "WINDOW",
    "WITH",
];
/// Words that a table follows.
const BEFORE_TABLE: &[&str] = &["from", "join", "into", "update", "table", "\\d"];
/// Commands.
const COMMANDS: &[&str] = &["\\?", "\\d", "\\dt", "\\q", "\\timing", "\\x"];

/// What the line editor asks.
#[derive(Default)]
pub struct Assistant {
    /// Tables and columns.
    pub names: Names,
}

fn is_part_of_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_' || letter == '\\' || letter == '?'
}

impl Assistant {
    /// What could stand in the place of the last word of `before`, and where that word begins.
    pub fn candidates(&self, before: &str) -> (usize, Vec<String>) {
        let start = before.rfind(|letter| !is_part_of_word(letter));
        let start = start.map_or(0, |at| at + before.get(at..).map_or(1, first_length));
        let (head, word) = before.split_at_checked(start).unwrap_or((before, ""));
        if word.starts_with('\\') && head.trim().is_empty() {
            let fits = COMMANDS.iter().filter(|command| command.starts_with(word));
            return (start, fits.map(|command| (*command).to_owned()).collect());
        }
        let lower = word.to_lowercase();
        let fits = |name: &&String| name.starts_with(&lower);
        if let Some(table) = head.strip_suffix('.') {
            let table = table.rsplit(|letter| !is_part_of_word(letter)).next().unwrap_or_default();
            let columns: BTreeSet<&String> = match self.names.get(&table.to_lowercase()) {
                Some(columns) => columns.iter().filter(fits).collect(),
                // Another name that the statement gave a table.
                None => self.names.values().flatten().filter(fits).collect(),
            };
            return (start, columns.into_iter().cloned().collect());
        }
        let tables = self.names.keys().filter(fits);
        let previous = head.split_whitespace().next_back().unwrap_or_default().to_lowercase();
        if BEFORE_TABLE.contains(&previous.as_str()) {
            return (start, tables.cloned().collect());
        }
        if word.is_empty() {
            return (start, Vec::new());
        }
        let columns = self.names.values().flatten().filter(fits);
        let names: BTreeSet<&String> = tables.chain(columns).collect();
        let upper = word.to_uppercase();
        let keywords = KEYWORDS.iter().filter(|keyword| keyword.starts_with(&upper));
        let is_lower = word == lower;
        let keywords = keywords.map(|keyword| match is_lower {
            true => keyword.to_lowercase(),
            false => (*keyword).to_owned(),
        });
        (start, keywords.chain(names.into_iter().cloned()).collect())
    }
}

/// Bytes of the first character.
fn first_length(text: &str) -> usize {
    text.chars().next().map_or(1, char::len_utf8)
}

/// Is this all of what is to be done at once? Commands take one line; statements end with `;`.
pub fn is_complete(text: &str) -> bool {
    let trimmed = text.trim();
    let is_word = ["exit", "quit", "help"].contains(&trimmed.to_lowercase().as_str());
    is_word || trimmed.starts_with('\\') || !split(text).is_under_way
}

impl Completer for Assistant {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(self.candidates(line.get(..position).unwrap_or(line)))
    }
}

impl Validator for Assistant {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(match is_complete(context.input()) {
            true => ValidationResult::Valid(None),
            false => ValidationResult::Incomplete,
        })
    }
}

impl Hinter for Assistant {
    type Hint = String;
}

impl Highlighter for Assistant {}

impl Helper for Assistant {}

#[cfg(test)]
mod tests {
    use super::*;

    fn assistant() -> Assistant {
        let names = [("wallets", ["id", "owner"]), ("balances", ["wallet", "amount"])];
        let owned = |(table, columns): (&str, [&str; 2])| {
            (table.to_owned(), columns.map(str::to_owned).to_vec())
        };
        Assistant { names: names.into_iter().map(owned).collect() }
    }

    #[test]
    fn what_fits_the_place_is_offered() {
        let assistant = assistant();
        let offered = |before: &str| {
            let (start, words) = assistant.candidates(before);
            (before[start..].to_owned(), words.join(" "))
        };
        for (before, word, words) in [
            ("sel", "sel", "select"),
            ("SEL", "SEL", "SELECT"),
            ("SELECT wal", "wal", "wallet wallets"),
            ("SELECT * FROM w", "w", "wallets"),
            ("SELECT * FROM ", "", "balances wallets"),
            ("SELECT * FROM wallets w JOIN BA", "BA", "balances"),
            ("SELECT wallets.", "", "id owner"),
            ("SELECT x.am", "am", "amount"),
            ("SELECT (am", "am", "amount"),
            ("SELECT 'é", "é", ""),
            ("\\t", "\\t", "\\timing"),
            ("\\d wal", "wal", "wallets"),
            ("SELECT ", "", ""),
        ] {
            assert_eq!(offered(before), (word.to_owned(), words.to_owned()), "{before}");
        }
    }

    #[test]
    fn statements_end_with_a_semicolon_and_commands_with_the_line() {
        for done in ["SELECT 1;", "\\d wallets", "", "quit", "SELECT ';';", "-- nothing"] {
            assert!(is_complete(done), "{done}");
        }
        for open in ["SELECT 1", "SELECT ';", "SELECT 1; SELECT 2"] {
            assert!(!is_complete(open), "{open}");
        }
    }

    #[test]
    fn keywords_are_sorted() {
        assert!(KEYWORDS.is_sorted());
    }
}
