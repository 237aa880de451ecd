//! The binary forms of the HTTP API.

use crate::binary::decode;
use kanjo_api::{SubmitAnswer, frames};

/// A submit request: the ranges lie in the input, one behind the other, and framed again they are
/// the input.
pub fn http_frames(data: &[u8]) {
    let Ok(ranges) = frames::split(data) else { return };
    let mut end = 0;
    let mut again = Vec::with_capacity(data.len());
    for range in ranges {
        assert!(end + 4 == range.start && range.start <= range.end, "{range:?} after {end}");
        end = range.end;
        let transaction = data.get(range);
        assert!(transaction.is_some(), "a range outside the request");
        frames::append(transaction.unwrap_or_default(), &mut again);
    }
    assert!(end == data.len() && again == data, "framed again it is another request");
}

/// The answer to a submit request.
pub fn submit_answer(data: &[u8]) {
    let Some(answer) = decode::<SubmitAnswer>(data) else { return };
    let text = serde_json::to_string(&answer);
    assert!(text.is_ok(), "what was read can't be written");
    let again = serde_json::from_str::<SubmitAnswer>(&text.unwrap_or_default());
    assert!(again.is_ok_and(|again| again == answer), "another answer in JSON");
}
