//! Cutting text into statements at their semicolons, by the tokens of PostgreSQL's dialect.

use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

/// What a text holds.
#[derive(Debug, PartialEq, Eq)]
pub struct Split {
    /// Statements that end with a semicolon, without it.
    pub complete: Vec<String>,
    /// What stands behind them: a statement under way, or nothing but space and comments.
    pub rest: String,
    /// Is there a statement in the rest?
    pub is_under_way: bool,
}

impl Split {
    /// All statements, also one that no semicolon ends.
    pub fn all(self) -> Vec<String> {
        let last = self.is_under_way.then(|| self.rest.trim().to_owned());
        self.complete.into_iter().chain(last).collect()
    }
}

/// Finds places that the tokenizer names by line and column, in one pass.
struct Cursor<'a> {
    rest: std::str::CharIndices<'a>,
    line: u64,
    column: u64,
    end: usize,
}

impl<'a> Cursor<'a> {
    fn new(text: &'a str) -> Self {
        Self { rest: text.char_indices(), line: 1, column: 1, end: text.len() }
    }

    /// The byte offset of a place that is not before the last one asked for.
    fn offset(&mut self, place: Location) -> usize {
        while (self.line, self.column) < (place.line, place.column) {
            match self.rest.next() {
                Some((_, '\n')) => (self.line, self.column) = (self.line + 1, 1),
                Some(_) => self.column += 1,
                None => break,
            }
        }
        self.rest.clone().next().map_or(self.end, |(at, _)| at)
    }
}

/// Cuts a text into statements.
pub fn split(text: &str) -> Split {
    let mut tokens: Vec<TokenWithSpan> = Vec::new();
    let dialect = PostgreSqlDialect {};
    let read = Tokenizer::new(&dialect, text).tokenize_with_location_into_buf(&mut tokens);
    let (mut complete, mut from, mut says_something) = (Vec::new(), 0, false);
    let mut cursor = Cursor::new(text);
    for token in &tokens {
        match token.token {
            Token::SemiColon => {
                let at = cursor.offset(token.span.start);
                let statement = text.get(from..at).unwrap_or_default().trim();
                if says_something {
                    complete.push(statement.to_owned());
                }
                (from, says_something) = (at + 1, false);
            }
            Token::Whitespace(_) => {}
            _ => says_something = true,
        }
    }
    let rest = text.get(from..).unwrap_or_default();
    let Err(error) = read else {
        return Split { complete, rest: rest.to_owned(), is_under_way: says_something };
    };
    // Open quotes and comments may go on in the next line; what else can't be read, the server
    // explains.
    let goes_on = error.message.contains("Unterminated") || error.message.contains("EOF");
    if !goes_on && rest.trim_end().ends_with(';') {
        complete.push(rest.trim().to_owned());
        return Split { complete, rest: String::new(), is_under_way: false };
    }
    Split { complete, rest: rest.to_owned(), is_under_way: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn semicolons_end_statements_where_they_mean_it() {
        let text = "SELECT 1; select ';' -- no; end\n, $$a;b$$, \"c;d\" /* ; */;\n ; SELECT 'ä;', E'\\';';";
        let found = split(text);
        assert_eq!(
            found.complete,
            [
                "SELECT 1",
                "select ';' -- no; end\n, $$a;b$$, \"c;d\" /* ; */",
                "SELECT 'ä;', E'\\';'",
            ]
        );
        assert!(!found.is_under_way, "{found:?}");
    }

    #[test]
    fn what_is_not_ended_goes_on() {
        for open in ["SELECT 1", "SELECT 'a;", "SELECT $$ ;", "/* ;", "SELECT \"a;", "SELECT 1; x"]
        {
            assert!(split(open).is_under_way, "{open}");
        }
        for nothing in ["", "  \n", "-- only this", "/* and this */", "SELECT 1; -- done"] {
            assert!(!split(nothing).is_under_way, "{nothing}");
        }
        assert_eq!(split("SELECT 1; SELECT 2").all(), ["SELECT 1", "SELECT 2"]);
    }
}
