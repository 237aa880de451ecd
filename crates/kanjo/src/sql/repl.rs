//! `kanjo sql` at a terminal.

use super::complete::Assistant;
use super::console::{Console, Next};
use crate::fail::{Done, Fail, SILENT};
use crate::home::Home;
use crate::say;
use crate::text::{bold, dim, note};
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{CompletionType, Config, Editor};
use std::path::PathBuf;

/// Most entries of the history.
const HISTORY_MAX: usize = 1_000;
/// The history's file in the home directory.
const HISTORY_FILE: &str = "sql_history";
/// Statements that begin so may change which tables there are.
const CHANGES: [&str; 3] = ["create", "alter", "drop"];

type Lines = Editor<Assistant, FileHistory>;

/// Reads and does what is typed, until the end is asked for.
pub fn run(console: &mut Console, home: &Home) -> Done {
    let failed = |error: ReadlineError| Fail::new("terminal", error);
    let config = Config::builder().completion_type(CompletionType::List);
    let config = config.max_history_size(HISTORY_MAX).map_err(failed)?.build();
    let mut lines: Lines = Editor::with_config(config).map_err(failed)?;
    lines.set_helper(Some(Assistant { names: console.names() }));
    let history = history(&mut lines, home);
    let target = &console.connection().target;
    say!("SQL of {}, at {}. {}", bold(&target.database), target.address, dim("\\? explains."));
    loop {
        let text = match lines.readline("kanjo=> ") {
            Ok(text) => text,
            // Ctrl-C leaves what was typed.
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        remember(&mut lines, history.as_ref(), &text);
        let text = match text.trim().to_lowercase().as_str() {
            "" => continue,
            "exit" | "quit" => return Ok(()),
            "help" => "\\?".to_owned(),
            _ => text,
        };
        let done = console.keep_open().and_then(|()| console.text(&text));
        match done {
            Ok(Next::Quit) => return Ok(()),
            Ok(Next::GoOn) => {}
            Err(fail) if fail.code == SILENT && fail.exit == 0 => return Ok(()),
            Err(fail) => told(&fail),
        }
        let first = text.split_whitespace().next().unwrap_or_default().to_lowercase();
        if CHANGES.contains(&first.as_str())
            && let Some(assistant) = lines.helper_mut()
        {
            assistant.names = console.names();
        }
    }
}

/// Says what was not said yet; the session goes on.
fn told(fail: &Fail) {
    if fail.code != SILENT {
        note(&format!("error: {}: {}", fail.code, fail.message));
        if let Some(next) = &fail.next {
            note(&format!("  next: {next}"));
        }
    }
}

/// Reads the history of earlier sessions; where it is kept, if it can be.
fn history(lines: &mut Lines, home: &Home) -> Option<PathBuf> {
    let directory = home.directory();
    if let Err(error) = std::fs::create_dir_all(directory) {
        note(&format!("no history is kept: {}: {error}", directory.display()));
        return None;
    }
    let path = directory.join(HISTORY_FILE);
    match lines.load_history(&path) {
        Err(ReadlineError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => {
            note(&format!("no history is kept: {}: {error}", path.display()));
            return None;
        }
        Ok(()) => {}
    }
    Some(path)
}

/// Keeps what was typed at once, so that a lost terminal loses nothing; passwords are not kept.
fn remember(lines: &mut Lines, history: Option<&PathBuf>, text: &str) {
    if text.to_lowercase().contains("password") {
        return;
    }
    let is_new = lines.add_history_entry(text.trim_end()).unwrap_or(false);
    if let (true, Some(path)) = (is_new, history) {
        // Whoever can't keep it can still work.
        let _ = lines.append_history(path);
    }
}
