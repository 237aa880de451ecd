//! The few places where figures need fractions: rates, times and measurements for people.
#![allow(
    clippy::float_arithmetic,
    reason = "rates and times that are shown, never amounts or anything the ledger depends on"
)]

use std::time::Duration;

/// Things per second, rounded.
pub fn per_second(count: u64, time: Duration) -> u64 {
    let seconds = time.as_secs_f64();
    if seconds <= 0.0 { 0 } else { (count as f64 / seconds).round() as u64 }
}

/// Microseconds as milliseconds with three places at most.
pub fn ms_of_us(us: u64) -> f64 {
    us as f64 / 1_000.0
}

/// Seconds with two places at most.
pub fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 100.0).round() / 100.0
}

/// Seconds of CPU as microseconds for each of `count` things, with two places at most.
pub fn us_each(cpu_seconds: f64, count: u64) -> f64 {
    if count == 0 { 0.0 } else { (cpu_seconds * 1e8 / count as f64).round() / 100.0 }
}

/// The difference of two measurements, never below zero.
pub fn increase(before: f64, after: f64) -> f64 {
    (after - before).max(0.0)
}

/// Clock ticks of 1/100 s as seconds.
pub fn ticks_to_seconds(ticks: u64) -> f64 {
    ticks as f64 / 100.0
}

/// `part` of `whole` in percent, with two places at most.
pub fn percent(part: f64, whole: f64) -> f64 {
    if whole <= 0.0 { 0.0 } else { (part * 10_000.0 / whole).round() / 100.0 }
}

/// Two times together.
pub fn sum(a: f64, b: f64) -> f64 {
    a + b
}

/// `a / b` of whole numbers, rounded down.
pub fn ratio_of(a: u64, b: u64) -> u64 {
    a.checked_div(b).unwrap_or(0)
}

/// `a / b`, rounded.
pub fn ratio(a: f64, b: u64) -> u64 {
    if b == 0 { 0 } else { (a / b as f64).round() as u64 }
}

/// Bytes in the unit that reads best.
pub fn bytes(count: u64) -> String {
    let mib = count as f64 / f64::from(1 << 20);
    if mib >= 1024.0 { format!("{:.2} GiB", mib / 1024.0) } else { format!("{mib:.0} MiB") }
}
