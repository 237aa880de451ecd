//! Patterns of LIKE.

use super::Work;
use kanjo_types::outcome::ResultCode;

/// A part of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// `%`: any characters.
    Any,
    /// `_`: any character.
    One,
    /// This character.
    Exactly(char),
}

fn parts(pattern: &str) -> Vec<Part> {
    let mut characters = pattern.chars();
    let mut parts = Vec::with_capacity(pattern.len());
    while let Some(character) = characters.next() {
        parts.push(match character {
            '%' => Part::Any,
            '_' => Part::One,
            // At the end of a pattern it stands for itself.
            '\\' => Part::Exactly(characters.next().unwrap_or('\\')),
            _ => Part::Exactly(character),
        });
    }
    parts
}

/// Is the whole text of the pattern? When what follows a `%` does not fit, the last `%` takes one
/// character more; earlier ones need never take more. Each comparison is a unit of work.
pub(super) fn is_like(text: &str, pattern: &str, work: &mut Work) -> Result<bool, ResultCode> {
    work.take(text.len() + pattern.len())?;
    let text: Vec<char> = text.chars().collect();
    let parts = parts(pattern);
    let (mut at, mut part) = (0, 0);
    // After the last `%`: its place, and where in the text what follows it is tried.
    let mut retry: Option<(usize, usize)> = None;
    while let Some(character) = text.get(at) {
        work.take(1)?;
        match parts.get(part) {
            Some(Part::Any) => {
                part += 1;
                retry = Some((part, at));
                continue;
            }
            Some(Part::One) => part += 1,
            Some(Part::Exactly(wanted)) if wanted == character => part += 1,
            _ => {
                let Some((after, from)) = retry else { return Ok(false) };
                retry = Some((after, from + 1));
                (part, at) = (after, from + 1);
                continue;
            }
        }
        at += 1;
    }
    Ok(parts.iter().skip(part).all(|part| *part == Part::Any))
}
