//! Text for people: times, durations, grouped digits, tables, and a little colour on terminals.

use std::io::{IsTerminal, Write};
use std::sync::OnceLock;
use std::time::Duration;

/// Writes a line to standard output. A closed pipe (`kanjo … | head`) is not an error.
pub fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n"));
    let _ = written.and_then(|()| out.flush());
}

/// Writes a line to standard error.
pub fn note(text: &str) {
    let mut out = std::io::stderr().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n"));
}

/// Prints a formatted line to standard output.
#[macro_export]
macro_rules! say {
    () => { $crate::text::line("") };
    ($($arg:tt)*) => { $crate::text::line(&format!($($arg)*)) };
}

fn coloured() -> bool {
    static COLOURED: OnceLock<bool> = OnceLock::new();
    *COLOURED.get_or_init(|| {
        std::io::stdout().is_terminal()
            && std::env::var_os("NO_COLOR").is_none()
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
    })
}

fn paint(code: &str, text: &str) -> String {
    if coloured() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// Important.
pub fn bold(text: &str) -> String {
    paint("1", text)
}

/// Secondary.
pub fn dim(text: &str) -> String {
    paint("2", text)
}

/// Good.
pub fn green(text: &str) -> String {
    paint("32", text)
}

/// Bad.
pub fn red(text: &str) -> String {
    paint("31", text)
}

/// `1234567` as `1,234,567`.
pub fn grouped(number: impl Into<u128>) -> String {
    group_digits(&number.into().to_string())
}

/// Groups the digits before the decimal point of a number in text.
pub fn group_digits(number: &str) -> String {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let mut out = String::with_capacity(number.len() + number.len() / 3);
    for (position, digit) in whole.chars().enumerate() {
        if position > 0 && (whole.len() - position).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if !fraction.is_empty() {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

/// Milliseconds since 1970-01-01 UTC in ISO 8601: `2026-11-21T10:45:09.123Z`.
pub fn utc(ms: u64) -> String {
    let (seconds, millis) = (ms / 1_000, ms % 1_000);
    let (days, second_of_day) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute) = (second_of_day / 3_600, second_of_day % 3_600 / 60);
    let second = second_of_day % 60;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// The Gregorian date of a number of days since 1970-01-01.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

/// A duration as typed: `90s`, `2m`, `1h`, `7d`, `500ms`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || {
        format!(
            "'{text}' is not a duration: write a number and ms, s, m, h or d, such as 90s or 2m"
        )
    };
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at_checked(digits).ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(wrong)
}

/// A duration as it is typed, in the largest unit that fits: `24h` is `1d`, `90s` stays `90s`.
pub fn duration(ms: u64) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let fits = units.iter().find(|(unit, _)| ms > 0 && ms.is_multiple_of(*unit));
    fits.map_or_else(|| format!("{ms}ms"), |(unit, name)| format!("{}{name}", ms / unit))
}

/// A time as typed, RFC 3339 in UTC: `2026-12-01T09:00:00Z`, with up to three decimals of a second.
/// Milliseconds since 1970-01-01 UTC.
pub fn parse_time(text: &str) -> Result<u64, String> {
    read_time(text).ok_or_else(|| {
        let text: String = text.chars().take(40).collect();
        format!("'{text}' is not a time: write it in UTC, such as 2026-12-01T09:00:00Z")
    })
}

fn read_time(text: &str) -> Option<u64> {
    let (date, clock) = text.strip_suffix('Z')?.split_once('T')?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let digits = |text: &str, most: usize| -> Option<u64> {
        let fine = (1..=most).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_digit());
        if fine { text.parse().ok() } else { None }
    };
    let fields = |text: &str, separator: char| -> Option<[u64; 3]> {
        let parts: Vec<u64> =
            text.split(separator).map(|part| digits(part, 4)).collect::<Option<_>>()?;
        parts.try_into().ok()
    };
    let [year, month, day] = fields(date, '-')?;
    let [hour, minute, second] = fields(clock, ':')?;
    if year < 1970 || hour > 23 || minute > 59 || second > 59 || month == 0 || day == 0 {
        return None;
    }
    let days = days_of(year, month, day)?;
    // A day that the month doesn't have comes out as another date.
    if civil(days) != (year, month, day) {
        return None;
    }
    let millis = digits(fraction, 3)? * [100, 10, 1].get(fraction.len() - 1)?;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000 + millis)
}

/// Days from 1970-01-01 to a Gregorian date of this or a later day.
fn days_of(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = if month > 2 { month - 3 } else { month + 9 };
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).checked_sub(719_468)
}

/// A time as typed: an RFC 3339 time, or how long from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// From now.
    In(Duration),
    /// Milliseconds since 1970-01-01 UTC.
    At(u64),
}

impl When {
    /// Milliseconds since 1970-01-01 UTC, when it is `now_ms`.
    pub fn ms(self, now_ms: u64) -> u64 {
        match self {
            Self::In(after) => {
                now_ms.saturating_add(u64::try_from(after.as_millis()).unwrap_or(u64::MAX))
            }
            Self::At(ms) => ms,
        }
    }
}

/// A time, or a duration from now.
pub fn parse_when(text: &str) -> Result<When, String> {
    if let Ok(after) = parse_duration(text) {
        return Ok(When::In(after));
    }
    read_time(text).map(When::At).ok_or_else(|| {
        let text: String = text.chars().take(40).collect();
        format!("'{text}' is neither a time (2026-12-01T09:00:00Z) nor a duration from now (7d)")
    })
}

/// How a column stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Aligned columns with a header.
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
    indent: usize,
}

impl Table {
    /// A table with these columns.
    pub fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new(), indent: 0 }
    }

    /// Moves the table to the right.
    pub fn indented(mut self, indent: usize) -> Self {
        self.indent = indent;
        self
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The lines of the table, header first.
    pub fn lines(&self) -> Vec<String> {
        let width_of = |column: usize, title: &str| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(title.chars().count())
        };
        let widths: Vec<usize> =
            self.columns.iter().enumerate().map(|(at, (title, _))| width_of(at, title)).collect();
        let render = |cells: &mut dyn Iterator<Item = &str>| {
            let mut out = " ".repeat(self.indent);
            for (position, cell) in cells.enumerate() {
                let width = widths.get(position).copied().unwrap_or(0);
                let right = self.columns.get(position).is_some_and(|(_, a)| *a == Align::Right);
                if position > 0 {
                    out.push_str("  ");
                }
                let space = " ".repeat(width.saturating_sub(cell.chars().count()));
                let (before, after) =
                    if right { (space.as_str(), "") } else { ("", space.as_str()) };
                out.push_str(before);
                out.push_str(cell);
                out.push_str(after);
            }
            out.trim_end().to_owned()
        };
        let header = render(&mut self.columns.iter().map(|(title, _)| *title));
        let rows = self.rows.iter().map(|row| render(&mut row.iter().map(String::as_str)));
        std::iter::once(dim(&header)).chain(rows).collect()
    }

    /// Prints the table.
    pub fn print(&self) {
        self.lines().iter().for_each(|text| line(text));
    }
}

/// A long text on one line of a table.
pub fn clipped(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let start: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{start}…")
}

/// The first eight and last four characters of an id, for narrow columns.
pub fn short(id: &impl std::fmt::Display) -> String {
    let text = id.to_string();
    let (Some(head), Some(tail)) = (text.get(..10), text.get(text.len().saturating_sub(4)..))
    else {
        return text;
    };
    if text.len() <= 16 { text.clone() } else { format!("{head}…{tail}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_iso_8601_utc() {
        assert_eq!(utc(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(utc(1_709_251_199_999), "2024-02-29T23:59:59.999Z");
        assert_eq!(utc(1_795_257_909_123), "2026-11-21T10:45:09.123Z");
        assert_eq!(utc(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        for bad in ["", "2", "m", "-1s", "1.5h", "2 m", "99999999999999999999d", "1w"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_read_as_they_are_written() {
        for ms in [0, 951_782_400_000, 1_709_251_199_999, 1_795_257_909_123, 4_107_542_400_000] {
            assert_eq!(parse_time(&utc(ms)), Ok(ms), "{}", utc(ms));
        }
        assert_eq!(parse_time("2026-11-21T10:45:09Z"), Ok(1_795_257_909_000));
        assert_eq!(parse_time("2026-11-21T10:45:09.1Z"), Ok(1_795_257_909_100));
        for bad in [
            "",
            "2026-11-21",
            "2026-11-21T10:45:09",
            "2026-11-21T10:45:09+01:00",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-11-00T00:00:00Z",
            "2026-11-21T24:00:00Z",
            "1969-12-31T23:59:59Z",
            "2026-11-21T10:45:09.1234Z",
            "2026-11-21T10:45:09.Z",
            "+026-11-21T10:45:09Z",
        ] {
            assert!(parse_time(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_moment_is_a_time_or_a_duration_from_now() {
        assert_eq!(parse_when("2d").map(|when| when.ms(1_000)), Ok(172_801_000));
        assert_eq!(parse_when("1970-01-01T00:00:07Z").map(|when| when.ms(1_000)), Ok(7_000));
        assert!(parse_when("tomorrow").is_err());
    }

    #[test]
    fn durations_are_shown_in_the_largest_unit_that_fits() {
        let shown = [0, 500, 90_000, 3_600_000, 5_400_000, 604_800_000].map(duration);
        assert_eq!(shown, ["0ms", "500ms", "90s", "1h", "90m", "7d"]);
    }

    #[test]
    fn digits_are_grouped_before_the_point_only() {
        assert_eq!(grouped(0u64), "0");
        assert_eq!(grouped(999u64), "999");
        assert_eq!(grouped(1_000u64), "1,000");
        assert_eq!(group_digits("1234567.891234"), "1,234,567.891234");
    }

    #[test]
    fn tables_are_aligned() {
        let mut table = Table::new(&[("height", Align::Right), ("producer", Align::Left)]);
        table.row(["9".to_owned(), "node-1".to_owned()]);
        table.row(["1,234,567".to_owned(), "n".to_owned()]);
        assert_eq!(table.lines(), ["   height  producer", "        9  node-1", "1,234,567  n"]);
    }

    #[test]
    fn ids_are_shortened_at_character_borders() {
        assert_eq!(short(&"abc"), "abc");
        assert_eq!(short(&"0123456789abcdefghij"), "0123456789…ghij");
    }
}
