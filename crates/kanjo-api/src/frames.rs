//! The binary form of a submit request: `(length: u32 LE, canonical SignedTransaction bytes)*`.

use std::ops::Range;

/// The request is not a sequence of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// The request ends inside a frame that starts at this offset.
    Truncated {
        /// Where the frame starts.
        offset: usize,
    },
    /// More frames than a request may have.
    TooMany,
    /// A frame longer than a transaction may be.
    TooLong {
        /// Where the frame starts.
        offset: usize,
    },
}

/// Appends one frame.
pub fn append(transaction: &[u8], out: &mut Vec<u8>) {
    let length = u32::try_from(transaction.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(transaction);
}

/// The ranges of the transactions inside `bytes`.
///
/// # Errors
/// [`FrameError`] when `bytes` is not a whole sequence of frames within the limits.
pub fn split(bytes: &[u8]) -> Result<Vec<Range<usize>>, FrameError> {
    let mut ranges = Vec::with_capacity(bytes.len() / 200);
    let mut offset = 0usize;
    while offset < bytes.len() {
        if ranges.len() >= crate::SUBMIT_TRANSACTIONS_MAX {
            return Err(FrameError::TooMany);
        }
        let truncated = FrameError::Truncated { offset };
        let length = bytes
            .get(offset..)
            .and_then(|rest| rest.first_chunk::<4>())
            .map(|length| u32::from_le_bytes(*length) as usize)
            .ok_or(truncated)?;
        if length > kanjo_types::transaction::REVERSAL_BYTES_MAX {
            return Err(FrameError::TooLong { offset });
        }
        let end = offset + 4 + length;
        if end > bytes.len() {
            return Err(truncated);
        }
        ranges.push(offset + 4..end);
        offset = end;
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn frames_round_trip(items: Vec<Vec<u8>>) {
            let mut bytes = Vec::new();
            items.iter().for_each(|item| append(item, &mut bytes));
            let ranges = split(&bytes).expect("whole");
            let back: Vec<Vec<u8>> = ranges.into_iter().map(|range| bytes[range].to_vec()).collect();
            prop_assert_eq!(back, items);
        }

        #[test]
        fn any_bytes_are_split_or_refused(bytes: Vec<u8>) {
            let _ = split(&bytes);
        }
    }

    #[test]
    fn a_cut_request_is_refused_whole() {
        let mut bytes = Vec::new();
        append(b"abc", &mut bytes);
        assert_eq!(split(&bytes[..6]), Err(FrameError::Truncated { offset: 0 }));
        assert_eq!(split(&[1, 0]), Err(FrameError::Truncated { offset: 0 }));
        assert_eq!(split(&[255; 8]), Err(FrameError::TooLong { offset: 0 }));
    }
}
