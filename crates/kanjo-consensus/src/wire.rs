//! Messages of the engine. The parts that carry entries are made by hand: entries travel as they
//! are stored, and the receiver's share the memory of the message.
//!
//! ```text
//! call on append   := append          call on elect := 0:u8 append (a heartbeat)
//! call on transfer := transfer                       | 1:u8 ballot | 2:u8 ballot (asks only)
//! append   := vote prev:option-id commit:option-id count:u32 (length:u32 entry)*count
//! appended := 0:u8 | 1:u8 (conflict) | 2:u8 vote (a higher one) | 3:u8 option-id (up to here)
//! ballot   := vote last:option-id transfer:flag        answer := vote granted:flag last:option-id
//! transfer := vote to:u16 last:option-id
//! handed   := 0:u8 | 1:u8 vote vote | 2:u8 option-id option-id
//! vote := term:u64 number:u16 committed:flag     option-id := 0:u8 | 1:u8 term:u64 index:u64
//! ```
//! The index of an entry follows from `prev`: they are consecutive.

use crate::bytes::{Input, Malformed};
use crate::entry::{ENTRY_BYTES_MAX, Entry};
use crate::types::{EntryId, LeaderVote, Types, entry_id};
use bytes::Bytes;
use openraft::AsyncRuntime;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderError, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::vote::{RaftLeaderId, RaftVote, leader_id_std};

/// Most bytes of a message with entries.
pub(crate) const APPEND_BYTES_MAX: usize = 48 << 20;
/// Most entries of a message.
const APPEND_ENTRIES_MAX: u32 = 4_096;
/// Most bytes around the entries of a message.
const APPEND_HEAD_BYTES_MAX: usize = 64;

const _: () = assert!(ENTRY_BYTES_MAX + APPEND_HEAD_BYTES_MAX + 4 <= APPEND_BYTES_MAX);

/// What a call on topic `elect` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Elect {
    /// A heartbeat: an append without entries.
    Heartbeat = 0,
    /// A request for a vote.
    Vote = 1,
    /// Would you vote for me?
    PreVote = 2,
}

impl Elect {
    /// Splits the kind from the rest.
    pub(crate) fn take(body: Bytes) -> Result<(Self, Bytes), Malformed> {
        let mut input = Input::new("elect", body);
        let kind = match input.u8()? {
            0 => Self::Heartbeat,
            1 => Self::Vote,
            2 => Self::PreVote,
            other => return Err(input.error(format!("unknown kind {other}"))),
        };
        Ok((kind, input.rest()))
    }
}

fn number_of(node: u64) -> u16 {
    // Ids of the engine are numbers of members.
    u16::try_from(node).unwrap_or(u16::MAX)
}

pub(crate) fn append_vote(vote: &LeaderVote, out: &mut Vec<u8>) {
    let leader = vote.leader_id();
    out.extend_from_slice(&leader.term().to_le_bytes());
    out.extend_from_slice(&number_of(*leader.node_id()).to_le_bytes());
    out.push(u8::from(vote.is_committed()));
}

pub(crate) fn take_vote(input: &mut Input) -> Result<LeaderVote, Malformed> {
    let (term, number) = (input.u64()?, u64::from(input.u16()?));
    let leader = leader_id_std::LeaderId::new(term, number);
    Ok(LeaderVote::from_leader_id(leader, input.flag()?))
}

fn append_id(id: Option<&EntryId>, out: &mut Vec<u8>) {
    out.push(u8::from(id.is_some()));
    if let Some(id) = id {
        out.extend_from_slice(&id.leader_id.term.to_le_bytes());
        out.extend_from_slice(&id.index.to_le_bytes());
    }
}

fn take_id(input: &mut Input) -> Result<Option<EntryId>, Malformed> {
    if !input.flag()? {
        return Ok(None);
    }
    let term = input.u64()?;
    Ok(Some(entry_id(term, input.u64()?)))
}

/// How many of these entries go into one message; at least one.
pub(crate) fn entries_that_fit(entries: &[Entry]) -> usize {
    let mut bytes = APPEND_HEAD_BYTES_MAX;
    let fits = |entry: &&Entry| {
        bytes += 4 + entry.stored().len();
        bytes <= APPEND_BYTES_MAX
    };
    let most = usize::try_from(APPEND_ENTRIES_MAX).unwrap_or(usize::MAX);
    entries.iter().take(most).take_while(fits).count().max(1).min(entries.len())
}

/// An append of these entries, which are the first ones of the request's.
pub(crate) fn encode_append<R: AsyncRuntime>(
    kind: Option<Elect>,
    request: &AppendEntriesRequest<Types<R>>,
    entries: &[Entry],
) -> Bytes {
    let bytes: usize = entries.iter().map(|entry| 4 + entry.stored().len()).sum();
    let mut out = Vec::with_capacity(bytes + APPEND_HEAD_BYTES_MAX);
    out.extend(kind.map(|kind| kind as u8));
    append_vote(&request.vote, &mut out);
    append_id(request.prev_log_id.as_ref(), &mut out);
    append_id(request.leader_commit.as_ref(), &mut out);
    let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&count.to_le_bytes());
    for entry in entries {
        let length = u32::try_from(entry.stored().len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(entry.stored());
    }
    out.into()
}

pub(crate) fn decode_append<R: AsyncRuntime>(
    body: Bytes,
) -> Result<AppendEntriesRequest<Types<R>>, Malformed> {
    let mut input = Input::new("append", body);
    let vote = take_vote(&mut input)?;
    let (prev_log_id, leader_commit) = (take_id(&mut input)?, take_id(&mut input)?);
    let count = input.u32()?;
    if count > APPEND_ENTRIES_MAX {
        return Err(input.error(format!("{count} entries")));
    }
    let mut index = match prev_log_id {
        Some(id) => id.index.checked_add(1).ok_or_else(|| input.error("an index without end"))?,
        None => 0,
    };
    let mut entries = Vec::new();
    for _ in 0..count {
        let length = usize::try_from(input.u32()?).unwrap_or(usize::MAX);
        let entry = Entry::decode(index, input.take(length)?)?;
        entries.push(entry);
        index = index.checked_add(1).ok_or_else(|| input.error("an index without end"))?;
    }
    input.end()?;
    Ok(AppendEntriesRequest { vote, prev_log_id, entries, leader_commit })
}

pub(crate) fn encode_appended<R: AsyncRuntime>(
    response: &AppendEntriesResponse<Types<R>>,
) -> Bytes {
    let mut out = Vec::with_capacity(20);
    match response {
        AppendEntriesResponse::Success => out.push(0),
        AppendEntriesResponse::Conflict => out.push(1),
        AppendEntriesResponse::HigherVote(vote) => {
            out.push(2);
            append_vote(vote, &mut out);
        }
        AppendEntriesResponse::PartialSuccess(last) => {
            out.push(3);
            append_id(last.as_ref(), &mut out);
        }
    }
    out.into()
}

pub(crate) fn decode_appended<R: AsyncRuntime>(
    body: Bytes,
) -> Result<AppendEntriesResponse<Types<R>>, Malformed> {
    let mut input = Input::new("answer to append", body);
    let response = match input.u8()? {
        0 => AppendEntriesResponse::Success,
        1 => AppendEntriesResponse::Conflict,
        2 => AppendEntriesResponse::HigherVote(take_vote(&mut input)?),
        3 => AppendEntriesResponse::PartialSuccess(take_id(&mut input)?),
        other => return Err(input.error(format!("unknown answer {other}"))),
    };
    input.end()?;
    Ok(response)
}

pub(crate) fn encode_ballot<R: AsyncRuntime>(
    kind: Elect,
    request: &VoteRequest<Types<R>>,
) -> Bytes {
    let mut out = vec![kind as u8];
    append_vote(&request.vote, &mut out);
    append_id(request.last_log_id.as_ref(), &mut out);
    out.push(u8::from(request.leadership_transfer));
    out.into()
}

pub(crate) fn decode_ballot<R: AsyncRuntime>(
    body: Bytes,
) -> Result<VoteRequest<Types<R>>, Malformed> {
    let mut input = Input::new("request for a vote", body);
    let vote = take_vote(&mut input)?;
    let last_log_id = take_id(&mut input)?;
    let leadership_transfer = input.flag()?;
    input.end()?;
    Ok(VoteRequest { vote, last_log_id, leadership_transfer })
}

pub(crate) fn encode_answer<R: AsyncRuntime>(response: &VoteResponse<Types<R>>) -> Bytes {
    let mut out = Vec::with_capacity(32);
    append_vote(&response.vote, &mut out);
    out.push(u8::from(response.vote_granted));
    append_id(response.last_log_id.as_ref(), &mut out);
    out.into()
}

pub(crate) fn decode_answer<R: AsyncRuntime>(
    body: Bytes,
) -> Result<VoteResponse<Types<R>>, Malformed> {
    let mut input = Input::new("answer to a request for a vote", body);
    let vote = take_vote(&mut input)?;
    let vote_granted = input.flag()?;
    let last_log_id = take_id(&mut input)?;
    input.end()?;
    Ok(VoteResponse { vote, vote_granted, last_log_id })
}

pub(crate) fn encode_transfer<R: AsyncRuntime>(request: &TransferLeaderRequest<Types<R>>) -> Bytes {
    let mut out = Vec::with_capacity(32);
    append_vote(request.from_leader(), &mut out);
    out.extend_from_slice(&number_of(*request.to_node_id()).to_le_bytes());
    append_id(request.last_log_id(), &mut out);
    out.into()
}

pub(crate) fn decode_transfer<R: AsyncRuntime>(
    body: Bytes,
) -> Result<TransferLeaderRequest<Types<R>>, Malformed> {
    let mut input = Input::new("transfer", body);
    let from = take_vote(&mut input)?;
    let to = u64::from(input.u16()?);
    let last = take_id(&mut input)?;
    input.end()?;
    Ok(TransferLeaderRequest::new(from, to, last))
}

pub(crate) fn encode_handed<R: AsyncRuntime>(response: &TransferLeaderResponse<Types<R>>) -> Bytes {
    let mut out = Vec::with_capacity(40);
    match response {
        Ok(()) => out.push(0),
        Err(TransferLeaderError::VoteChanged { expected, actual }) => {
            out.push(1);
            append_vote(expected, &mut out);
            append_vote(actual, &mut out);
        }
        Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
            out.push(2);
            append_id(expected.as_ref(), &mut out);
            append_id(actual.as_ref(), &mut out);
        }
    }
    out.into()
}

pub(crate) fn decode_handed<R: AsyncRuntime>(
    body: Bytes,
) -> Result<TransferLeaderResponse<Types<R>>, Malformed> {
    let mut input = Input::new("answer to transfer", body);
    let response = match input.u8()? {
        0 => Ok(()),
        1 => {
            let (expected, actual) = (take_vote(&mut input)?, take_vote(&mut input)?);
            Err(TransferLeaderError::VoteChanged { expected, actual })
        }
        2 => {
            let (expected, actual) = (take_id(&mut input)?, take_id(&mut input)?);
            Err(TransferLeaderError::LogNotFlushed { expected, actual })
        }
        other => return Err(input.error(format!("unknown answer {other}"))),
    };
    input.end()?;
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use openraft::EntryPayload;
    use openraft::entry::RaftEntry;
    use openraft_rt_sim::SimRuntime;

    type R = SimRuntime;

    fn vote() -> LeaderVote {
        LeaderVote::from_leader_id(leader_id_std::LeaderId::new(5, 2), true)
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Reads back, and no other length does.
    fn only_whole<T: PartialEq + std::fmt::Debug>(
        bytes: &Bytes,
        value: &T,
        decode: impl Fn(Bytes) -> Result<T, Malformed>,
    ) {
        assert_eq!(&decode(bytes.clone()).unwrap(), value);
        for end in 0..bytes.len() {
            assert!(decode(bytes.slice(..end)).is_err(), "the first {end} bytes");
        }
        let longer = [bytes.as_ref(), &[0]].concat();
        assert!(decode(longer.into()).is_err());
    }

    fn entry(index: u64) -> Entry {
        let mut entry = Entry::new(entry_id(5, index), EntryPayload::Blank);
        entry.sign(2, [3; 64]);
        entry
    }

    fn request(prev: Option<u64>, count: u64) -> AppendEntriesRequest<Types<R>> {
        let first = prev.map_or(0, |prev| prev + 1);
        AppendEntriesRequest {
            vote: vote(),
            prev_log_id: prev.map(|prev| entry_id(4, prev)),
            leader_commit: Some(entry_id(4, 7)),
            entries: (first..first + count).map(entry).collect(),
        }
    }

    #[test]
    fn appends_read_back_with_consecutive_indexes() {
        for (prev, count) in [(Some(8), 3), (None, 2), (Some(8), 0)] {
            let request = request(prev, count);
            let bytes = encode_append(None, &request, &request.entries);
            let parts = |r: AppendEntriesRequest<Types<R>>| {
                (r.vote, r.prev_log_id, r.leader_commit, r.entries)
            };
            let decode = |bytes| decode_append::<R>(bytes).map(parts);
            only_whole(&bytes, &parts(request), decode);
        }
    }

    #[test]
    fn the_form_of_an_append_is_pinned() {
        let request = request(Some(8), 1);
        let vote = "0500000000000000020001";
        let prev = "0104000000000000000800000000000000";
        let commit = "0104000000000000000700000000000000";
        let entry = hex(request.entries[0].stored());
        let text = [vote, prev, commit, "01000000", "4c000000", &entry].concat();
        assert_eq!(hex(&encode_append(None, &request, &request.entries)), text);
        let heartbeat = ["00", vote, prev, commit, "00000000"].concat();
        assert_eq!(hex(&encode_append(Some(Elect::Heartbeat), &request, &[])), heartbeat);
    }

    #[test]
    fn an_append_with_an_index_beyond_all_is_refused() {
        let mut request = request(None, 1);
        request.prev_log_id = Some(entry_id(1, u64::MAX));
        let bytes = encode_append(None, &request, &request.entries);
        assert!(decode_append::<R>(bytes).unwrap_err().to_string().contains("without end"));
    }

    #[test]
    fn a_message_takes_as_many_entries_as_fit_and_at_least_one() {
        use crate::entry::{ENTRY_HEAD_BYTES, Proposal};
        let large = |index| {
            let bytes = vec![0; ENTRY_BYTES_MAX - ENTRY_HEAD_BYTES].into();
            let block = Proposal { header: kanjo_types::Hash::ZERO, bytes };
            let mut entry = Entry::new(entry_id(5, index), EntryPayload::Normal(block));
            entry.sign(2, [3; 64]);
            entry
        };
        assert_eq!(entries_that_fit(&[]), 0);
        assert_eq!(entries_that_fit(&[entry(1), entry(2)]), 2);
        let entries = [large(1), large(2), entry(3)];
        assert_eq!(entries_that_fit(&entries), 1);
        let mut request = request(Some(0), 0);
        request.entries = entries.to_vec();
        assert!(encode_append(None, &request, &entries[..1]).len() <= APPEND_BYTES_MAX);
    }

    #[test]
    fn answers_to_appends_read_back() {
        for response in [
            AppendEntriesResponse::Success,
            AppendEntriesResponse::Conflict,
            AppendEntriesResponse::HigherVote(vote()),
            AppendEntriesResponse::PartialSuccess(Some(entry_id(4, 9))),
        ] {
            let bytes = encode_appended::<R>(&response);
            only_whole(&bytes, &response, decode_appended::<R>);
        }
    }

    #[test]
    fn ballots_and_answers_read_back() {
        for last_log_id in [None, Some(entry_id(4, 9))] {
            for leadership_transfer in [false, true] {
                let request =
                    VoteRequest::<Types<R>> { vote: vote(), last_log_id, leadership_transfer };
                let bytes = encode_ballot(Elect::PreVote, &request);
                let (kind, rest) = Elect::take(bytes).unwrap();
                assert_eq!(kind, Elect::PreVote);
                only_whole(&rest, &request, decode_ballot::<R>);
                let vote_granted = leadership_transfer;
                let answer = VoteResponse::<Types<R>> { vote: vote(), vote_granted, last_log_id };
                only_whole(&encode_answer(&answer), &answer, decode_answer::<R>);
            }
        }
        assert!(Elect::take(Bytes::from_static(&[3])).is_err());
        assert!(Elect::take(Bytes::new()).is_err());
    }

    #[test]
    fn transfers_and_answers_read_back() {
        let (last, none) = (Some(entry_id(4, 9)), None);
        let request = TransferLeaderRequest::<Types<R>>::new(vote(), 6, last);
        only_whole(&encode_transfer(&request), &request, decode_transfer::<R>);
        let responses: [TransferLeaderResponse<Types<R>>; 3] = [
            Ok(()),
            Err(TransferLeaderError::VoteChanged { expected: vote(), actual: vote() }),
            Err(TransferLeaderError::LogNotFlushed { expected: last, actual: none }),
        ];
        for response in responses {
            only_whole(&encode_handed::<R>(&response), &response, decode_handed::<R>);
        }
    }
}
