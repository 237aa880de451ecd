//! One line for people about a record of what stands beside the balances.

use kanjo_types::Record;
use std::fmt;

pub(crate) fn write_line(f: &mut fmt::Formatter<'_>, record: &Record) -> fmt::Result {
    match record {
        Record::Pending(pending) => write!(f, "pending payment {} ", pending.id)?,
        _ => write!(f, "a row ")?,
    }
    write!(f, "(version {})", record.version())
}
