//! The language of scenario tables: `tests/scenarios/README.md`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod acts;
mod checks;
mod cluster;
mod operations;
mod start;
mod tables;
mod words;
mod world;

pub use tables::SHOWN_ELSEWHERE;
pub use world::World;

use std::collections::BTreeSet;

/// The lines of one scenario.
pub struct Scenario {
    pub title: String,
    file: String,
    lines: Vec<(usize, String)>,
}

/// All scenarios, file by file.
pub fn scenarios() -> Vec<Scenario> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios");
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder of scenarios")
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    paths.sort();
    let mut found: Vec<Scenario> = Vec::new();
    for path in paths {
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if let Some(title) = line.strip_prefix("scenario:") {
                let title = title.trim().to_owned();
                found.push(Scenario { title, file: file.clone(), lines: Vec::new() });
            } else if !line.is_empty() && !line.starts_with('#') && !line.starts_with("|--") {
                let scenario = found.last_mut().expect("a scenario starts with its title");
                scenario.lines.push((number, line.to_owned()));
            }
        }
    }
    found
}

/// Plays a scenario; gives back the codes it has shown.
pub fn play(scenario: &Scenario) -> BTreeSet<String> {
    let mut world = World::new();
    for (number, line) in &scenario.lines {
        world.place = format!("{}:{number} ({})", scenario.file, scenario.title);
        world.line(line);
    }
    world.seen
}
