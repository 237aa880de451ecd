//! Dates and times as text: ISO 8601 as PostgreSQL prints and reads it, in UTC.
//!
//! A date of the ledger is 32 bits of days, a time 64 bits of microseconds: more years than the
//! calendars of the libraries at hand have, so the few lines of the calendar are here (Hinnant's
//! algorithm: years begin in March, eras have 400 years).

use super::state;
use crate::error::SqlError;

const DAY_MICROSECONDS: i64 = 86_400_000_000;
const SECOND_MICROSECONDS: i64 = 1_000_000;

/// Why a text is no date or time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    /// Not of the form.
    Form,
    /// Of the form, but there is no such day, hour, offset.
    Field,
    /// Outside of what the ledger can hold.
    Range,
}

fn refuse(wrong: Wrong, text: &str, kind: &str) -> SqlError {
    let shown = super::shown(text);
    match wrong {
        Wrong::Form => SqlError::new(
            state::BAD_TIME_FORM,
            format!("invalid input syntax for type {kind}: \"{shown}\""),
        )
        .hint("dates are written 2026-01-31, times 2026-01-31 12:00:00.123456+00"),
        Wrong::Field => SqlError::new(
            state::TIME_RANGE,
            format!("date/time field value out of range: \"{shown}\""),
        ),
        Wrong::Range => {
            let what = if kind == "date" { "date" } else { "timestamp" };
            SqlError::new(state::TIME_RANGE, format!("{what} out of range: \"{shown}\""))
        }
    }
}

/// Days since 1970-01-01 of a text.
pub(super) fn date_of(text: &str) -> Result<i32, SqlError> {
    let parsed = (|| {
        let (body, before_christ) = era(text.trim());
        let mut reader = Reader(body);
        let days = reader.date(before_christ)?;
        reader.end()?;
        i32::try_from(days).map_err(|_| Wrong::Range)
    })();
    parsed.map_err(|wrong| refuse(wrong, text, "date"))
}

/// Microseconds since 1970-01-01 UTC of a text; without an offset it is in UTC.
pub(super) fn time_of(text: &str) -> Result<i64, SqlError> {
    let parsed = (|| {
        let (body, before_christ) = era(text.trim());
        let mut reader = Reader(body);
        let days = reader.date(before_christ)?;
        let within = if reader.0.is_empty() { 0 } else { reader.time()? };
        let offset = reader.offset()?;
        reader.end()?;
        let time = i128::from(days) * i128::from(DAY_MICROSECONDS);
        let time = time + i128::from(within) - i128::from(offset);
        i64::try_from(time).map_err(|_| Wrong::Range)
    })();
    parsed.map_err(|wrong| refuse(wrong, text, "timestamp with time zone"))
}

/// The text without a trailing `BC`, and whether it had one.
fn era(text: &str) -> (&str, bool) {
    match text.strip_suffix("BC").or_else(|| text.strip_suffix("bc")) {
        Some(rest) => (rest.trim_end(), true),
        None => (text, false),
    }
}

struct Reader<'a>(&'a str);

impl Reader<'_> {
    /// Between `least` and `most` digits.
    fn number(&mut self, least: usize, most: usize) -> Result<i64, Wrong> {
        let count = self.0.bytes().take_while(u8::is_ascii_digit).count();
        if !(least..=most).contains(&count) {
            return Err(Wrong::Form);
        }
        let (digits, rest) = self.0.split_at_checked(count).ok_or(Wrong::Form)?;
        self.0 = rest;
        digits.parse().map_err(|_| Wrong::Form)
    }

    fn takes(&mut self, character: char) -> bool {
        let rest = self.0.strip_prefix(character);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn expect(&mut self, character: char) -> Result<(), Wrong> {
        if self.takes(character) { Ok(()) } else { Err(Wrong::Form) }
    }

    fn end(&self) -> Result<(), Wrong> {
        if self.0.is_empty() { Ok(()) } else { Err(Wrong::Form) }
    }

    /// `2026-01-31`, as days since 1970-01-01.
    fn date(&mut self, before_christ: bool) -> Result<i64, Wrong> {
        let year = self.number(4, 7)?;
        self.expect('-')?;
        let month = self.number(1, 2)?;
        self.expect('-')?;
        let day = self.number(1, 2)?;
        // There is no year 0: 1 BC comes before 1.
        if year == 0 {
            return Err(Wrong::Field);
        }
        let year = if before_christ { 1 - year } else { year };
        if !(1..=12).contains(&month) || !(1..=days_of(year, month)).contains(&day) {
            return Err(Wrong::Field);
        }
        Ok(days_from(year, month, day))
    }

    /// ` 12:00:00.123456` or `T12:00`, as microseconds of the day.
    fn time(&mut self) -> Result<i64, Wrong> {
        if !self.takes('T') && !self.takes('t') {
            self.expect(' ')?;
            self.0 = self.0.trim_start();
        }
        let hour = self.number(1, 2)?;
        self.expect(':')?;
        let minute = self.number(2, 2)?;
        let second = if self.takes(':') { self.number(2, 2)? } else { 0 };
        let fraction = if self.takes('.') { self.fraction()? } else { 0 };
        let within = (hour * 3_600 + minute * 60 + second) * SECOND_MICROSECONDS + fraction;
        // As in PostgreSQL: a day ends with 24:00:00, a minute with second 60.
        let fits = hour <= 24 && minute <= 59 && second <= 60 && within <= DAY_MICROSECONDS;
        if fits { Ok(within) } else { Err(Wrong::Field) }
    }

    /// Microseconds; what is finer is rounded.
    fn fraction(&mut self) -> Result<i64, Wrong> {
        let count = self.0.bytes().take_while(u8::is_ascii_digit).count();
        let (digits, rest) = self.0.split_at_checked(count).ok_or(Wrong::Form)?;
        self.0 = rest;
        let padded = digits.bytes().chain(std::iter::repeat(b'0'));
        let seven = padded.take(7).fold(0i64, |all, digit| all * 10 + i64::from(digit - b'0'));
        Ok((seven + 5) / 10)
    }

    /// `Z`, `+01`, `-05:30`, `+0100`, or nothing; as microseconds ahead of UTC.
    fn offset(&mut self) -> Result<i64, Wrong> {
        self.0 = self.0.trim_start();
        let name = self.0.to_ascii_uppercase();
        if matches!(&*name, "" | "Z" | "UTC" | "GMT") {
            self.0 = "";
            return Ok(0);
        }
        let ahead = self.takes('+');
        if !ahead {
            self.expect('-')?;
        }
        let (hours, minutes) = match self.0.bytes().take_while(u8::is_ascii_digit).count() {
            4 => {
                let both = self.number(4, 4)?;
                (both / 100, both % 100)
            }
            _ => {
                let hours = self.number(1, 2)?;
                (hours, if self.takes(':') { self.number(2, 2)? } else { 0 })
            }
        };
        let seconds = if self.takes(':') { self.number(2, 2)? } else { 0 };
        if hours > 15 || minutes > 59 || seconds > 59 {
            return Err(Wrong::Field);
        }
        let offset = (hours * 3_600 + minutes * 60 + seconds) * SECOND_MICROSECONDS;
        Ok(if ahead { offset } else { -offset })
    }
}

fn days_of(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01; years are counted with a year 0.
fn days_from(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month and day of a number of days.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let of_era = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * of_era + of_era / 4 - of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + of_era + i64::from(month <= 2), month, day)
}

/// `2026-01-31`, and whether it is before Christ.
fn day_text(days: i64) -> (String, &'static str) {
    let (year, month, day) = civil(days);
    let (year, era) = if year > 0 { (year, "") } else { (1 - year, " BC") };
    (format!("{year:04}-{month:02}-{day:02}"), era)
}

/// A date as PostgreSQL prints it.
pub(super) fn date_text(days: i32) -> String {
    let (day, era) = day_text(i64::from(days));
    day + era
}

/// A time as PostgreSQL prints it in UTC.
pub(super) fn time_text(time: i64) -> String {
    let (day, era) = day_text(time.div_euclid(DAY_MICROSECONDS));
    let within = time.rem_euclid(DAY_MICROSECONDS);
    let (seconds, fraction) = (within / SECOND_MICROSECONDS, within % SECOND_MICROSECONDS);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let fraction = if fraction == 0 { String::new() } else { format!(".{fraction:06}") };
    let fraction = fraction.trim_end_matches('0');
    format!("{day} {hour:02}:{minute:02}:{second:02}{fraction}+00{era}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn forms_that_postgresql_prints_and_people_write_are_read() {
        let noon = 1_769_860_800_000_000;
        for text in [
            "2026-01-31 12:00:00+00",
            "2026-01-31 12:00",
            "2026-01-31T12:00:00Z",
            "2026-1-31 12:00:00.000000 UTC",
            "2026-01-31 13:30:00+01:30",
            "2026-01-31 06:30:00-0530",
            " 2026-01-31 12:00:00.0000004+00 ",
        ] {
            assert_eq!(time_of(text), Ok(noon), "{text}");
        }
        assert_eq!(time_of("2026-01-30 24:00:00"), time_of("2026-01-31"));
        assert_eq!(time_text(noon + 120_000), "2026-01-31 12:00:00.12+00");
        assert_eq!(date_of("1970-01-01"), Ok(0));
        assert_eq!(date_text(-719_163), "0001-12-31 BC");
        assert_eq!(date_of("0044-03-15 BC").map(date_text), Ok("0044-03-15 BC".to_owned()));
        assert_eq!(time_text(i64::MIN), "290309-12-21 19:59:05.224192+00 BC".to_owned());
    }

    #[test]
    fn what_is_no_date_is_told_from_what_is_no_day() {
        for (text, code) in [
            ("", "22007"),
            ("yesterday", "22007"),
            ("31.01.2026", "22007"),
            ("2026-01-31x", "22007"),
            ("infinity", "22007"),
            ("2026-02-29", "22008"),
            ("2026-13-01", "22008"),
            ("0000-01-01", "22008"),
            ("9999999-01-01", "22008"),
        ] {
            assert_eq!(date_of(text).unwrap_err().code, code, "{text}");
        }
        for (text, code) in [
            ("2026-01-31 25:00", "22008"),
            ("2026-01-31 24:00:01", "22008"),
            ("2026-01-31 12:60", "22008"),
            ("2026-01-31 12:00+16", "22008"),
            ("999999-01-31 12:00", "22008"),
            ("2026-01-31 12", "22007"),
            ("2026-01-31 12:00 Europe/Berlin", "22007"),
        ] {
            assert_eq!(time_of(text).unwrap_err().code, code, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_date_and_time_has_one_text(days: i32, time: i64) {
            prop_assert_eq!(date_of(&date_text(days)), Ok(days));
            prop_assert_eq!(time_of(&time_text(time)), Ok(time));
        }

        #[test]
        fn the_calendar_is_that_of_the_library(days in -700_000i32..2_900_000) {
            let unix = time::Date::from_calendar_date(1970, time::Month::January, 1).unwrap();
            let date = time::Date::from_julian_day(unix.to_julian_day() + days).unwrap();
            let (year, month, day) = date.to_calendar_date();
            let expected = (i64::from(year), i64::from(u8::from(month)), i64::from(day));
            prop_assert_eq!(civil(i64::from(days)), expected);
        }
    }
}
