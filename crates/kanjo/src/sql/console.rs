//! What is typed: statements, and commands that begin with a backslash.

use super::connection::{Connection, Failure};
use super::describe::{self, Names};
use super::output::{Column, Form, printer};
use super::report::Report;
use super::statements::split;
use crate::fail::{Done, EXIT_FAILED, Fail, SILENT};
use crate::say;
use crate::text::{line, note};
use std::io::{self, BufRead, BufWriter, Write};
use std::time::Duration;

/// Longest statement that is read; servers take less.
const STATEMENT_BYTES_MAX: usize = 16 << 20;

/// What the commands do.
const COMMANDS: &str = "\
Statements end with ; and may take several lines. Results are what is final.

  \\dt          tables
  \\d TABLE     columns of a table
  \\x           one value a line, on or off
  \\timing      how long statements take, on or off
  \\?           this
  \\q           end (Ctrl-D as well)

Ctrl-C cancels the statement that runs. Tab completes. docs/sql.md lists tables and what is refused.";

/// What comes after something was typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// More.
    GoOn,
    /// The end was asked for.
    Quit,
}

/// A session: a connection, and how results are printed.
pub struct Console {
    connection: Connection,
    form: Form,
    timing: bool,
}

impl Console {
    /// Prints results in `form`, with the time that they took when `timing`.
    pub fn new(connection: Connection, form: Form, timing: bool) -> Self {
        Self { connection, form, timing }
    }

    /// The connection.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Connects again when the connection is lost, and says so.
    pub fn keep_open(&mut self) -> Done {
        if self.connection.keep_open()? {
            note("connected again; what was prepared, set or begun before is gone");
        }
        Ok(())
    }

    /// Tables and columns, for completion.
    pub fn names(&self) -> Names {
        // Without them nothing is completed; the statement that fails next says what is wrong.
        describe::names(&self.connection).unwrap_or_default()
    }

    /// Does everything in a text, up to the first error.
    pub fn text(&mut self, text: &str) -> Done<Next> {
        if text.trim_start().starts_with('\\') {
            return self.command(text.trim());
        }
        for statement in split(text).all() {
            self.statement(&statement)?;
        }
        Ok(Next::GoOn)
    }

    /// Does everything that is read, up to the first error.
    pub fn script(&mut self, input: impl BufRead) -> Done {
        let failed = |error| Fail::new("file", format!("standard input: {error}"));
        let mut text = String::new();
        let mut input = input;
        loop {
            let mut line = String::new();
            let room = STATEMENT_BYTES_MAX.saturating_sub(text.len());
            let room = u64::try_from(room).unwrap_or(u64::MAX).saturating_add(1);
            let read = io::Read::take(&mut input, room).read_line(&mut line).map_err(failed)?;
            if read == 0 {
                return self.text(&text).map(|_| ());
            }
            let begins = text.trim().is_empty();
            if begins && line.trim_start().starts_with('\\') {
                if self.command(line.trim())? == Next::Quit {
                    return Ok(());
                }
                continue;
            }
            text.push_str(&line);
            if text.len() > STATEMENT_BYTES_MAX {
                let message = format!("a statement is longer than {STATEMENT_BYTES_MAX} bytes");
                return Err(Fail::new("54000", message)
                    .next("end statements with ';', and send many rows in many statements"));
            }
            if !line.contains(';') {
                continue;
            }
            let found = split(&text);
            for statement in &found.complete {
                self.statement(statement)?;
            }
            text = if found.is_under_way { found.rest } else { String::new() };
        }
    }

    fn statement(&mut self, statement: &str) -> Done {
        let mut out = BufWriter::new(io::stdout().lock());
        let ran = self.connection.run(statement, self.form, &mut out);
        let flushed = out.flush();
        drop(out);
        match ran {
            Ok(took) => {
                flushed.map_err(unread)?;
                self.took(took);
                Ok(())
            }
            Err(failure) => Err(self.failed(failure, statement)),
        }
    }

    fn took(&self, took: Duration) {
        if !self.timing {
            return;
        }
        let us = took.as_micros();
        let text = format!("Time: {}.{:03} ms", us / 1_000, us % 1_000);
        // What programs read has only results on standard output.
        if self.form.is_for_people() { line(&text) } else { note(&text) }
    }

    /// Reports a failure in full.
    fn failed(&self, failure: Failure, statement: &str) -> Fail {
        match failure {
            Failure::Output(error) => unread(error),
            Failure::Statement(report) => {
                self.report(&report, statement);
                reported(EXIT_FAILED)
            }
        }
    }

    fn report(&self, report: &Report, statement: &str) {
        if self.form == Form::Json {
            line(&report.json().to_string());
        } else {
            report.print(statement);
        }
    }

    fn command(&mut self, text: &str) -> Done<Next> {
        let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let argument = rest.trim().trim_end_matches(';').trim();
        match (name, argument) {
            ("\\q", _) => return Ok(Next::Quit),
            ("\\?", _) => say!("{COMMANDS}"),
            ("\\dt" | "\\d", "") => self.statement(describe::TABLES)?,
            ("\\d", table) => self.describe(table)?,
            ("\\timing", wanted) => {
                self.timing = switched(self.timing, wanted);
                self.switch_told("timing", self.timing);
            }
            ("\\x", wanted) => self.expand(wanted),
            _ => {
                let report = Report::new(
                    "42601",
                    format!("there is no command '{name}'"),
                    Some("\\? lists the commands; statements end with ;"),
                );
                self.report(&report, text);
                return Err(reported(EXIT_FAILED));
            }
        }
        Ok(Next::GoOn)
    }

    fn switch_told(&self, what: &str, on: bool) {
        if self.form.is_for_people() {
            say!("{what} is {}", if on { "on" } else { "off" });
        }
    }

    fn expand(&mut self, wanted: &str) {
        if !self.form.is_for_people() {
            return note("\\x is for results that people read; --json and --csv stay as they are");
        }
        let on = switched(self.form == Form::Expanded, wanted);
        self.form = if on { Form::Expanded } else { Form::Aligned };
        self.switch_told("one value a line", on);
    }

    fn describe(&mut self, table: &str) -> Done {
        let described = describe::columns(&self.connection, table);
        let rows = described.map_err(|failure| self.failed(failure, ""))?;
        let columns = ["column", "type", "null"].map(Column::text).to_vec();
        let mut out = BufWriter::new(io::stdout().lock());
        let print = || {
            let mut printer = printer(self.form, columns, &mut out)?;
            for row in &rows {
                printer.row(&row.each_ref().map(|value| Some(value.as_str())))?;
            }
            printer.end(rows.len() as u64)?;
            drop(printer);
            out.flush()
        };
        print().map_err(unread)
    }
}

fn switched(now: bool, wanted: &str) -> bool {
    match wanted {
        "on" => true,
        "off" => false,
        _ => !now,
    }
}

/// What there was to say is said.
fn reported(exit: u8) -> Fail {
    Fail { exit, ..Fail::new(SILENT, "") }
}

/// Output can't be written. That nobody reads it any more, as behind `| head`, is no failure.
fn unread(error: io::Error) -> Fail {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return reported(0);
    }
    Fail::new("file", format!("standard output: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_take_a_word_or_turn() {
        assert!(switched(false, ""));
        assert!(!switched(true, ""));
        assert!(switched(true, "on"));
        assert!(!switched(false, "off"));
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let closed = unread(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((closed.exit, closed.code.as_str()), (0, SILENT));
        assert_eq!(unread(io::Error::from(io::ErrorKind::StorageFull)).exit, EXIT_FAILED);
    }
}
