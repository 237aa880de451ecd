//! What the built-in bus says inside a session: one [`Item`] in each message. No I/O.
//!
//! ```text
//! kind u8   0 welcome                                          answers ▶ dials, once, first
//!           1 request    id u64 | topic u8 | ttl_ms u32 | body dials ▶ answers
//!           2 answer     id u64 | body                         answers ▶ dials
//!           3 refusal    id u64 | text, UTF-8, at most 1,024 B answers ▶ dials
//!           4 message    topic u8 | body                       dials ▶ answers
//!           5 ping       id u64                                dials ▶ answers
//!           6 pong       id u64                                answers ▶ dials
//! ```
//!
//! Integers are little-endian.

use crate::session::LinkError;
use bytes::{Buf, Bytes};

/// Most bytes of the text of a refusal.
pub const TEXT_MAX: usize = 1_024;
/// Bytes in front of the body of a request: the longest head.
pub const HEAD_MAX: usize = 14;

/// One thing said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// The dialling side's key is accepted.
    Welcome,
    /// A call.
    Request {
        /// Chosen by the dialling side; used once in a connection.
        id: u64,
        /// Number of the topic.
        topic: u8,
        /// How long an answer is awaited.
        ttl_ms: u32,
        /// What is asked.
        body: Bytes,
    },
    /// The answer to a call.
    Answer {
        /// Of the request.
        id: u64,
        /// What is answered.
        body: Bytes,
    },
    /// A call is refused.
    Refusal {
        /// Of the request.
        id: u64,
        /// Why, for people.
        text: String,
    },
    /// Said without expecting an answer.
    Message {
        /// Number of the topic.
        topic: u8,
        /// What is said.
        body: Bytes,
    },
    /// Are you there?
    Ping(u64),
    /// Here.
    Pong(u64),
}

impl Item {
    /// A refusal with a text that is not too long.
    #[must_use]
    pub fn refusal(id: u64, mut text: String) -> Self {
        let mut end = TEXT_MAX.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        Self::Refusal { id, text }
    }

    /// Bytes of its body, for bounds.
    #[must_use]
    pub fn body_len(&self) -> usize {
        match self {
            Self::Request { body, .. } | Self::Answer { body, .. } | Self::Message { body, .. } => {
                body.len()
            }
            Self::Refusal { text, .. } => text.len(),
            Self::Welcome | Self::Ping(_) | Self::Pong(_) => 0,
        }
    }

    /// Head and body, as sent.
    #[must_use]
    pub fn into_parts(self) -> (Vec<u8>, Bytes) {
        let mut head = Vec::with_capacity(HEAD_MAX);
        let mut begin = |kind: u8, id: Option<u64>| {
            head.push(kind);
            head.extend(id.into_iter().flat_map(u64::to_le_bytes));
        };
        let body = match self {
            Self::Welcome => {
                begin(0, None);
                Bytes::new()
            }
            Self::Request { id, topic, ttl_ms, body } => {
                begin(1, Some(id));
                head.push(topic);
                head.extend_from_slice(&ttl_ms.to_le_bytes());
                body
            }
            Self::Answer { id, body } => {
                begin(2, Some(id));
                body
            }
            Self::Refusal { id, text } => {
                begin(3, Some(id));
                Bytes::from(text)
            }
            Self::Message { topic, body } => {
                begin(4, None);
                head.push(topic);
                body
            }
            Self::Ping(id) => {
                begin(5, Some(id));
                Bytes::new()
            }
            Self::Pong(id) => {
                begin(6, Some(id));
                Bytes::new()
            }
        };
        (head, body)
    }

    /// Reads what was sent.
    ///
    /// # Errors
    /// [`LinkError::Record`]: it is none of the above.
    pub fn parse(mut from: Bytes) -> Result<Self, LinkError> {
        let wrong = |_| LinkError::Record;
        let item = match from.try_get_u8().map_err(wrong)? {
            0 => Self::Welcome,
            1 => Self::Request {
                id: from.try_get_u64_le().map_err(wrong)?,
                topic: from.try_get_u8().map_err(wrong)?,
                ttl_ms: from.try_get_u32_le().map_err(wrong)?,
                body: std::mem::take(&mut from),
            },
            2 => Self::Answer {
                id: from.try_get_u64_le().map_err(wrong)?,
                body: std::mem::take(&mut from),
            },
            3 => {
                let id = from.try_get_u64_le().map_err(wrong)?;
                let text = std::mem::take(&mut from);
                if text.len() > TEXT_MAX {
                    return Err(LinkError::Record);
                }
                let text = std::str::from_utf8(&text).map_err(|_| LinkError::Record)?;
                Self::Refusal { id, text: text.to_owned() }
            }
            4 => Self::Message {
                topic: from.try_get_u8().map_err(wrong)?,
                body: std::mem::take(&mut from),
            },
            5 => Self::Ping(from.try_get_u64_le().map_err(wrong)?),
            6 => Self::Pong(from.try_get_u64_le().map_err(wrong)?),
            _ => return Err(LinkError::Record),
        };
        if from.is_empty() { Ok(item) } else { Err(LinkError::Record) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes_of(item: &Item) -> Bytes {
        let (head, body) = item.clone().into_parts();
        assert!(head.len() <= HEAD_MAX);
        [&head[..], &body].concat().into()
    }

    #[test]
    fn items_are_pinned_to_the_byte() {
        let body = Bytes::from_static(&[0xaa, 0xbb]);
        let request = Item::Request { id: 0x0102, topic: 4, ttl_ms: 500, body: body.clone() };
        let pinned = [
            (Item::Welcome, "00"),
            (request, "01020100000000000004f4010000aabb"),
            (Item::Answer { id: 3, body: body.clone() }, "020300000000000000aabb"),
            (Item::refusal(3, "no".into()), "0303000000000000006e6f"),
            (Item::Message { topic: 5, body }, "0405aabb"),
            (Item::Ping(9), "050900000000000000"),
            (Item::Pong(9), "060900000000000000"),
        ];
        for (item, hex) in pinned {
            assert_eq!(hex::encode(bytes_of(&item)), hex);
            assert_eq!(Item::parse(bytes_of(&item)).unwrap(), item);
        }
    }

    #[test]
    fn a_long_refusal_is_cut_between_characters() {
        let Item::Refusal { text, .. } = Item::refusal(1, "é".repeat(600)) else { panic!() };
        assert_eq!(text.len(), 1_024);
        let Item::Refusal { text, .. } = Item::refusal(1, format!("a{}", "é".repeat(600))) else {
            panic!()
        };
        assert_eq!(text.len(), 1_023);
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_the_same(input in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut input = input;
            if let Some(kind) = input.first_mut() {
                *kind %= 8;
            }
            if let Ok(item) = Item::parse(Bytes::from(input.clone())) {
                prop_assert_eq!(bytes_of(&item), input);
            }
        }
    }
}
