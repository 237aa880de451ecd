//! Scheduled and standing payments.
//!
//! # Dates
//! The dates of a schedule follow from its first date alone, so they never drift. When the ledger
//! was stopped over several dates, each of them is run, one in each of the next blocks: a run sets
//! `next_ms` to the date after it, and if that has passed, too, it is due at once in the next
//! block. Nothing that was ordered is left out in silence.

use crate::execute::Step;
use crate::ledger::Ledger;
use crate::turn::Turn;
use kanjo_types::money::{Every, WhenShort};
use kanjo_types::outcome::ResultCode;
use kanjo_types::policy::DURATION_MAX_MS;
use kanjo_types::record::{Record, RowKey, Table};
use kanjo_types::standing::{Links, Run, ScheduleRecord, ScheduleStatus};
use kanjo_types::{Operation, ScheduleId, UserId};
use time::{Date, Month, OffsetDateTime};

impl Ledger {
    pub(crate) fn schedule(&mut self, turn: &Turn<'_>, operation: &Operation) -> Step {
        let Operation::Schedule {
            token,
            from,
            to,
            amount,
            first_ms,
            every,
            times,
            when_short,
            reference,
        } = operation
        else {
            return Err(ResultCode::NotPermitted);
        };
        let payment = self.future_payment(*token, *from, *to, *amount)?;
        if !turn.signed_by(&payment.from_owner) {
            return Err(ResultCode::NotWalletOwner);
        }
        let ahead = first_ms.checked_sub(turn.time_ms());
        if ahead.is_none_or(|ahead| ahead == 0 || ahead > DURATION_MAX_MS) {
            return Err(ResultCode::InvalidTime);
        }
        self.draft_schedule(ScheduleRecord {
            id: ScheduleId::derive(turn.id, turn.number, 0),
            links: Links::default(),
            token: *token,
            from: *from,
            to: *to,
            amount: *amount,
            first_ms: *first_ms,
            every: *every,
            times: *times,
            when_short: *when_short,
            reference: reference.clone(),
            date: 0,
            tries: 0,
            next_ms: *first_ms,
            paid: 0,
            last: None,
            status: ScheduleStatus::Active,
        });
        Ok(())
    }

    pub(crate) fn cancel_schedule(&mut self, turn: &Turn<'_>, schedule: ScheduleId) -> Step {
        let (mut record, owner) = self.known_schedule(schedule)?;
        if !turn.signed_by(&owner) {
            return Err(ResultCode::NotScheduleOwner);
        }
        if record.status != ScheduleStatus::Active {
            return Err(ResultCode::ScheduleEnded);
        }
        record.status = ScheduleStatus::Cancelled;
        self.draft_schedule(record);
        Ok(())
    }

    /// Makes a scheduled payment as if the owner of the paying wallet had ordered it now: by the
    /// ledger itself, for an active schedule. Never fails then: a payment that can't be made leaves
    /// only the schedule's new version, which says why.
    pub(crate) fn run_schedule(&mut self, turn: &Turn<'_>, schedule: ScheduleId) -> Step {
        let (mut record, owner) = self.known_schedule(schedule)?;
        let turn = Turn { author: owner, ..*turn };
        let tried = self.transfer(&turn, record.token, record.from, record.to, record.amount);
        if tried.is_err() {
            self.scratch.clear();
        }
        take_run(&mut record, tried.err().unwrap_or(ResultCode::Ok), turn.time_ms());
        self.draft_schedule(record);
        Ok(())
    }

    /// A schedule with the owner of its paying wallet.
    fn known_schedule(&self, id: ScheduleId) -> Result<(ScheduleRecord, UserId), ResultCode> {
        let record = self.standing_record(Table::Schedules, RowKey::item(id.0));
        let Some(Record::Schedule(schedule)) = record else {
            return Err(ResultCode::UnknownSchedule);
        };
        let owner = self.owner_of(schedule.from).ok_or(ResultCode::UnknownSourceWallet)?;
        Ok((ScheduleRecord::clone(schedule), owner))
    }

    fn draft_schedule(&mut self, schedule: ScheduleRecord) {
        self.draft_standing(Record::Schedule(Box::new(schedule)));
    }
}

/// Takes what came of a run into its schedule: what is next, if anything.
fn take_run(record: &mut ScheduleRecord, result: ResultCode, now_ms: u64) {
    let due_ms = date_ms(record, record.date).unwrap_or(record.next_ms);
    record.last = Some(Run { due_ms, at_ms: now_ms, result });
    let retries = record.tries;
    record.tries = retries.saturating_add(1);
    let following = following(record);
    if result.is_ok() {
        record.paid = record.paid.saturating_add(1);
    } else {
        match record.when_short {
            WhenShort::Skip => {}
            WhenShort::Stop => {
                record.status = ScheduleStatus::Stopped;
                return;
            }
            WhenShort::Retry { after_ms, times } => {
                let again = now_ms.checked_add(after_ms).filter(|_| retries < times);
                let again = again.filter(|at| following.is_none_or(|(_, next)| *at <= next));
                if let Some(next_ms) = again {
                    record.next_ms = next_ms;
                    return;
                }
            }
        }
    }
    match following {
        Some((date, next_ms)) => {
            (record.date, record.tries, record.next_ms) = (date, 0, next_ms);
        }
        None => record.status = ScheduleStatus::Ended,
    }
}

/// The date after the one the schedule stands at: its number and its time. `None` after the last.
fn following(record: &ScheduleRecord) -> Option<(u32, u64)> {
    let date = record.date.checked_add(1)?;
    if record.times.is_some_and(|times| date >= times) {
        return None;
    }
    Some((date, date_ms(record, date)?))
}

/// The time of a date, counted from 0. `None` where there is none: beyond the calendar, or after
/// the only date.
fn date_ms(record: &ScheduleRecord, date: u32) -> Option<u64> {
    if date == 0 {
        return Some(record.first_ms);
    }
    match record.every? {
        Every::Milliseconds(length) => {
            record.first_ms.checked_add(length.checked_mul(u64::from(date))?)
        }
        Every::Months(months) => {
            months_after(record.first_ms, u64::from(months).checked_mul(u64::from(date))?)
        }
    }
}

/// The same time of day so many months later, UTC: on the same day of the month, or on the last day
/// of a shorter one. `None` beyond the year 9999.
fn months_after(first_ms: u64, months: u64) -> Option<u64> {
    let nanoseconds = i128::from(first_ms).checked_mul(1_000_000)?;
    let first = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).ok()?;
    let months_before = u64::from(u8::from(first.month())) - 1;
    let months = months.checked_add(months_before)?;
    let year = i32::try_from(months / 12).ok()?.checked_add(first.year())?;
    let month = Month::try_from(u8::try_from(months % 12 + 1).ok()?).ok()?;
    let day = first.day().min(month.length(year));
    let date = Date::from_calendar_date(year, month, day).ok()?;
    let milliseconds = first.replace_date(date).unix_timestamp_nanos() / 1_000_000;
    u64::try_from(milliseconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kanjo_types::{Amount, TokenId, WalletId};

    const HOUR_MS: u64 = 3_600_000;

    fn at(year: i32, month: u8, day: u8, hour: u8) -> u64 {
        let month = Month::try_from(month).unwrap();
        let date = Date::from_calendar_date(year, month, day).unwrap();
        let seconds = date.with_hms(hour, 0, 0).unwrap().assume_utc().unix_timestamp();
        u64::try_from(seconds).unwrap() * 1_000
    }

    fn schedule(first_ms: u64, every: Option<Every>, when_short: WhenShort) -> ScheduleRecord {
        ScheduleRecord {
            id: ScheduleId::default(),
            links: Links::default(),
            token: TokenId(1),
            from: WalletId([1; 16]),
            to: WalletId([2; 16]),
            amount: Amount(1),
            first_ms,
            every,
            times: None,
            when_short,
            reference: String::new(),
            date: 0,
            tries: 0,
            next_ms: first_ms,
            paid: 0,
            last: None,
            status: ScheduleStatus::Active,
        }
    }

    /// Number of the date, tries made, next time, status.
    fn stands(record: &ScheduleRecord) -> (u32, u8, u64, ScheduleStatus) {
        (record.date, record.tries, record.next_ms, record.status)
    }

    #[test]
    fn months_are_counted_from_the_first_date() {
        let cases = [
            (at(2023, 1, 31, 9), 1, Some(at(2023, 2, 28, 9))),
            (at(2024, 1, 31, 9), 1, Some(at(2024, 2, 29, 9))),
            (at(2023, 1, 31, 9), 2, Some(at(2023, 3, 31, 9))),
            (at(2023, 1, 31, 9), 3, Some(at(2023, 4, 30, 9))),
            (at(2024, 2, 29, 0), 12, Some(at(2025, 2, 28, 0))),
            (at(2024, 2, 29, 0), 48, Some(at(2028, 2, 29, 0))),
            (at(2023, 12, 15, 23), 1, Some(at(2024, 1, 15, 23))),
            (at(2023, 11, 30, 23), 14, Some(at(2025, 1, 30, 23))),
            (at(2023, 1, 31, 9) + 7, 1, Some(at(2023, 2, 28, 9) + 7)),
            (at(9999, 11, 30, 9), 1, Some(at(9999, 12, 30, 9))),
            (at(9999, 12, 1, 9), 1, None),
            (0, u64::MAX, None),
            (u64::MAX, 1, None),
        ];
        for (first_ms, months, expected) in cases {
            assert_eq!(months_after(first_ms, months), expected, "{first_ms} + {months} months");
        }
    }

    #[test]
    fn dates_end_with_their_number_and_with_the_range_of_time() {
        let first = at(2024, 1, 31, 9);
        let mut record = schedule(first, Some(Every::Milliseconds(HOUR_MS)), WhenShort::Skip);
        assert_eq!(following(&record), Some((1, first + HOUR_MS)));
        record.times = Some(2);
        record.date = 1;
        assert_eq!(following(&record), None);
        record.times = None;
        record.date = u32::MAX;
        assert_eq!(following(&record), None);
        record.date = 0;
        record.every = Some(Every::Milliseconds(u64::MAX));
        assert_eq!(following(&record), None);
        record.every = None;
        assert_eq!(following(&record), None);
    }

    #[test]
    fn a_missed_date_is_due_at_once() {
        let first = at(2024, 1, 31, 9);
        let mut record = schedule(first, Some(Every::Months(1)), WhenShort::Stop);
        let late = at(2024, 4, 1, 0);
        let dates = [at(2024, 1, 31, 9), at(2024, 2, 29, 9), at(2024, 3, 31, 9)];
        for date in dates {
            assert_eq!(record.next_ms, date);
            take_run(&mut record, ResultCode::Ok, late);
            let run = Run { due_ms: date, at_ms: late, result: ResultCode::Ok };
            assert_eq!(record.last, Some(run));
        }
        assert_eq!((record.paid, record.next_ms), (3, at(2024, 4, 30, 9)));
    }

    #[test]
    fn what_cannot_be_paid_is_skipped_stops_or_is_tried_again() {
        use ScheduleStatus::{Active, Ended, Stopped};
        let first = at(2024, 1, 31, 9);
        let short = ResultCode::InsufficientFunds;
        let daily = Some(Every::Milliseconds(24 * HOUR_MS));
        let tomorrow = first + 24 * HOUR_MS;

        let mut record = schedule(first, daily, WhenShort::Skip);
        take_run(&mut record, short, first);
        assert_eq!(stands(&record), (1, 0, tomorrow, Active));

        let mut record = schedule(first, daily, WhenShort::Stop);
        take_run(&mut record, short, first);
        assert_eq!(stands(&record), (0, 1, first, Stopped));

        let retry = WhenShort::Retry { after_ms: HOUR_MS, times: 2 };
        let mut record = schedule(first, daily, retry);
        take_run(&mut record, short, first);
        assert_eq!(stands(&record), (0, 1, first + HOUR_MS, Active));
        take_run(&mut record, short, first + HOUR_MS + 1);
        assert_eq!(stands(&record), (0, 2, first + 2 * HOUR_MS + 1, Active));
        let run = Run { due_ms: first, at_ms: first + HOUR_MS + 1, result: short };
        assert_eq!(record.last, Some(run));
        take_run(&mut record, short, first + 2 * HOUR_MS + 1);
        assert_eq!(stands(&record), (1, 0, tomorrow, Active));
        take_run(&mut record, ResultCode::Ok, tomorrow);
        assert_eq!((record.date, record.tries, record.paid), (2, 0, 1));

        // Never beyond the next date.
        let long = WhenShort::Retry { after_ms: 24 * HOUR_MS, times: 9 };
        let mut record = schedule(first, daily, long);
        take_run(&mut record, short, first + 1);
        assert_eq!(stands(&record), (1, 0, tomorrow, Active));

        // A single payment has no next date.
        let mut record = schedule(first, None, WhenShort::Retry { after_ms: HOUR_MS, times: 1 });
        take_run(&mut record, short, first);
        assert_eq!(stands(&record), (0, 1, first + HOUR_MS, Active));
        take_run(&mut record, short, first + HOUR_MS);
        assert_eq!(stands(&record), (0, 2, first + HOUR_MS, Ended));
    }
}
