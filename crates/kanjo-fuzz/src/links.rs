//! What comes from other nodes: frames, messages, items.

use bytes::Bytes;
use kanjo_link::LinkError;
use kanjo_link::frame::{Assembler, FrameDecoder, PLAIN_MAX, RECORD_MAX, SEAL_LEN, frame_head};
use kanjo_link::wire::Item;

/// Most bytes of a message here.
const MESSAGE_MAX: usize = 1 << 20;

/// A stream of frames as from a socket. Records stand for their plain texts, as if seals were
/// right, so that the joining of messages is reached.
pub fn link_stream(data: &[u8]) {
    let whole = read(data, data.len().max(1));
    assert!(whole == read(data, 1) && whole == read(data, 7), "pieces matter");
    let (messages, _) = whole;
    let again: Vec<u8> = messages.iter().flat_map(|message| cut(message)).collect();
    // Seals are not kept, so they can't be compared.
    let mut at = 0;
    let mut same = again.len() <= data.len();
    while let Some(head) = again.get(at..).and_then(|rest| rest.first_chunk::<2>()) {
        let end = at + 2 + usize::from(u16::from_le_bytes(*head)) - SEAL_LEN;
        same &= again.get(at..end) == data.get(at..end);
        at = end + SEAL_LEN;
    }
    assert!(same, "a message has two forms");
}

/// Whole messages, and how the stream ended.
fn read(data: &[u8], piece: usize) -> (Vec<Bytes>, Option<String>) {
    let mut frames = FrameDecoder::new(RECORD_MAX);
    let mut joined = Assembler::new(MESSAGE_MAX);
    let mut messages = Vec::new();
    for part in data.chunks(piece) {
        frames.buffer().extend_from_slice(part);
        match take(&mut frames, &mut joined, &mut messages) {
            Ok(()) => {}
            Err(error) => return (messages, Some(error.to_string())),
        }
    }
    (messages, None)
}

fn take(
    frames: &mut FrameDecoder,
    joined: &mut Assembler,
    messages: &mut Vec<Bytes>,
) -> Result<(), LinkError> {
    while let Some(record) = frames.take()? {
        let plain = record.len() - SEAL_LEN;
        let filled = joined.add(plain, |place| {
            place.copy_from_slice(record.get(..plain).unwrap_or_default());
            Ok(())
        });
        messages.extend(filled?);
    }
    Ok(())
}

/// A message as a sender has to cut it.
fn cut(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let plain = [&length.to_le_bytes(), message].concat();
    let frame = |piece: &[u8]| {
        let head = frame_head(piece.len() + SEAL_LEN).unwrap_or_default();
        [&head[..], piece, &[0; SEAL_LEN]].concat()
    };
    plain.chunks(PLAIN_MAX).flat_map(frame).collect()
}

/// One thing said inside a session.
pub fn link_item(data: &[u8]) {
    match Item::parse(Bytes::copy_from_slice(data)) {
        Ok(item) => {
            let (head, body) = item.into_parts();
            assert!([&head[..], &body].concat() == data, "an item has two forms");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
