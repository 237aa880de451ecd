//! Errors of statements, for people and for programs.

use super::output::shown;
use crate::text::{note, red};
use serde_json::{Value, json};
use tokio_postgres::error::{DbError, ErrorPosition};
use unicode_width::UnicodeWidthStr as _;

/// Most characters of a line that are shown on either side of the place of an error.
const AROUND_MAX: usize = 60;

/// Why a statement was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// SQLSTATE.
    pub code: String,
    /// What went wrong.
    pub message: String,
    /// More about it.
    pub detail: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// Where in the statement, counted in characters from 1.
    pub position: Option<usize>,
}

impl Report {
    /// An error without a place.
    pub fn new(code: &str, message: impl std::fmt::Display, hint: Option<&str>) -> Self {
        let (message, hint) = (message.to_string(), hint.map(str::to_owned));
        Self { code: code.to_owned(), message, detail: None, hint, position: None }
    }

    /// What the server answered, or what became of the connection.
    pub fn of(error: &tokio_postgres::Error) -> Self {
        if let Some(answered) = error.as_db_error() {
            return Self::answered(answered);
        }
        let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
        let message = format!("{error}{}", cause.unwrap_or_default());
        if error.is_closed() || message.contains("communicating") {
            return Self::new(
                "08006",
                format!("the connection is lost ({message})"),
                Some("the node may have stopped; what was acknowledged is on disk"),
            );
        }
        Self::new("08P01", message, None)
    }

    fn answered(error: &DbError) -> Self {
        let position = match error.position() {
            Some(ErrorPosition::Original(position)) => usize::try_from(*position).ok(),
            _ => None,
        };
        Self {
            code: error.code().code().to_owned(),
            message: error.message().to_owned(),
            detail: error.detail().map(str::to_owned),
            hint: error.hint().map(str::to_owned),
            position,
        }
    }

    /// Prints it for people, to standard error, with the place in `statement` marked.
    pub fn print(&self, statement: &str) {
        note(&format!("{} {}: {}", red("ERROR"), self.code, shown(&self.message)));
        if let Some((number, line, before)) = self.place(statement) {
            let head = format!("LINE {number}: ");
            note(&format!("{head}{line}"));
            note(&format!("{}^", " ".repeat(head.width() + before)));
        }
        for (head, text) in [("DETAIL", &self.detail), ("HINT", &self.hint)] {
            if let Some(text) = text {
                note(&format!("{head}: {}", shown(text)));
            }
        }
    }

    /// Number of the line, what of it is shown, and how many columns come before the place.
    fn place(&self, statement: &str) -> Option<(usize, String, usize)> {
        let mut left = self.position?.checked_sub(1)?;
        for (number, line) in (1..).zip(statement.split('\n')) {
            let length = line.chars().count();
            if left > length {
                left -= length + 1;
                continue;
            }
            let from = left.saturating_sub(AROUND_MAX);
            let mut before: String = line.chars().skip(from).take(left - from).collect();
            let mut after: String = line.chars().skip(left).take(AROUND_MAX).collect();
            if from > 0 {
                before.insert(0, '…');
            }
            if left + AROUND_MAX < length {
                after.push('…');
            }
            let (before, after) = (shown(&before), shown(&after));
            let width = before.width();
            return Some((number, format!("{before}{after}"), width));
        }
        None
    }

    /// Prints it for programs, to standard output.
    pub fn json(&self) -> Value {
        json!({ "error": {
            "code": self.code, "message": self.message, "detail": self.detail, "hint": self.hint,
            "position": self.position,
        }})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(position: usize) -> Report {
        Report { position: Some(position), ..Report::new("42601", "wrong", None) }
    }

    #[test]
    fn the_place_is_marked_in_its_line() {
        let statement = "SELECT 'é',\n  nothing\nFROM x";
        assert_eq!(at(15).place(statement), Some((2, "  nothing".to_owned(), 2)));
        assert_eq!(at(1).place(statement), Some((1, "SELECT 'é',".to_owned(), 0)));
        assert_eq!(at(200).place(statement), None);
        assert_eq!(at(0).place(statement), None);
    }

    #[test]
    fn of_a_long_line_a_piece_is_shown() {
        let statement = format!("SELECT {} nothing {}", "x, ".repeat(100), ", y".repeat(100));
        let (number, line, before) = at(309).place(&statement).expect("a place");
        assert_eq!((number, before), (1, 61));
        assert!(line.starts_with('…') && line.ends_with('…'), "{line}");
        assert!(line.chars().skip(before).collect::<String>().starts_with("nothing"), "{line}");
    }
}
