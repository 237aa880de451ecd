//! Streams of final blocks and of one wallet's changes: server-sent events as blocking iterators.

use crate::client::Client;
use crate::error::ClientError;
use kanjo_api::{BlockSummary, WalletEvent};
use kanjo_types::WalletId;
use serde::de::DeserializeOwned;
use std::io::{BufRead, BufReader, Read};

/// Most bytes of one line of a stream.
const LINE_BYTES_MAX: u64 = 1 << 20;

impl Client {
    /// Final blocks from height `from` on (from now on when `None`), as they come. A lost
    /// connection is opened again at the next height, a bounded number of times in a row.
    ///
    /// # Errors
    /// Any [`ClientError`] of opening the stream.
    pub fn stream_blocks(&self, from: Option<u64>) -> Result<BlockStream, ClientError> {
        let events = Events::open(self, &blocks_path(from))?;
        Ok(BlockStream { client: self.clone(), events, next: from, ended: false })
    }

    /// New versions of one wallet's states from now on. Ends with an error when the connection is
    /// lost.
    ///
    /// # Errors
    /// Any [`ClientError`] of opening the stream.
    pub fn stream_wallet(&self, wallet: WalletId) -> Result<WalletStream, ClientError> {
        let events = Events::open(self, &format!("/v1/stream/wallets/{wallet}"))?;
        Ok(WalletStream { events, ended: false })
    }
}

fn blocks_path(from: Option<u64>) -> String {
    let query = from.map_or_else(String::new, |from| format!("?from={from}"));
    format!("/v1/stream/blocks{query}")
}

/// Blocks as they become final. Blocks the calling thread.
pub struct BlockStream {
    client: Client,
    events: Events,
    next: Option<u64>,
    ended: bool,
}

impl BlockStream {
    fn reopen(&mut self, cause: ClientError) -> Result<(), ClientError> {
        let limits = self.client.transport.limits;
        let mut last = cause;
        for attempt in 1..limits.attempts {
            std::thread::sleep(limits.wait_before(attempt));
            match Events::open(&self.client, &blocks_path(self.next)) {
                Ok(events) => {
                    self.events = events;
                    return Ok(());
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl Iterator for BlockStream {
    type Item = Result<BlockSummary, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            match self.events.next_event::<BlockSummary>() {
                Ok(block) => {
                    self.next = Some(block.height.saturating_add(1));
                    return Some(Ok(block));
                }
                Err(error @ ClientError::Unreachable { .. }) => {
                    if let Err(error) = self.reopen(error) {
                        self.ended = true;
                        return Some(Err(error));
                    }
                }
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

/// Changes of one wallet as they become final. Blocks the calling thread.
pub struct WalletStream {
    events: Events,
    ended: bool,
}

impl Iterator for WalletStream {
    type Item = Result<WalletEvent, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let event = self.events.next_event();
        self.ended = event.is_err();
        Some(event)
    }
}

struct Events {
    client: Client,
    reader: BufReader<Box<dyn Read + Send>>,
}

impl Events {
    fn open(client: &Client, path: &str) -> Result<Self, ClientError> {
        let reader = client.transport.open_stream(path)?;
        Ok(Self { client: client.clone(), reader: BufReader::new(Box::new(reader)) })
    }

    /// The next event's JSON. Comments (keep-alives) and event names are skipped.
    fn next_event<T: DeserializeOwned>(&mut self) -> Result<T, ClientError> {
        let mut data = String::new();
        loop {
            let line = self.next_line()?;
            if line.is_empty() {
                if data.is_empty() {
                    continue;
                }
                return self.client.transport.parse_json(data.as_bytes());
            }
            if let Some(rest) = line.strip_prefix("data:") {
                if !data.is_empty() {
                    data.push('\n');
                }
                data.push_str(rest.strip_prefix(' ').unwrap_or(rest));
                if data.len() as u64 > LINE_BYTES_MAX {
                    return Err(self.client.transport.bad_answer("an event above 1 MiB"));
                }
            }
        }
    }

    fn next_line(&mut self) -> Result<String, ClientError> {
        let mut line = String::new();
        let unreachable =
            |reason: String| ClientError::Unreachable { url: self.client.url().to_owned(), reason };
        let read = (&mut self.reader)
            .take(LINE_BYTES_MAX)
            .read_line(&mut line)
            .map_err(|error| unreachable(error.to_string()))?;
        if read == 0 {
            return Err(unreachable("the node ended the stream".to_owned()));
        }
        if !line.ends_with('\n') {
            return Err(if read as u64 == LINE_BYTES_MAX {
                self.client.transport.bad_answer("a line above 1 MiB")
            } else {
                unreachable("the stream was cut".to_owned())
            });
        }
        line.truncate(line.trim_end_matches(['\n', '\r']).len());
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(text: &'static str) -> Events {
        let client = Client::new("http://127.0.0.1:1").expect("fine url");
        Events { client, reader: BufReader::new(Box::new(text.as_bytes())) }
    }

    #[test]
    fn events_are_read_and_comments_skipped() {
        let mut stream =
            events(": hello\n\nevent: x\ndata: [1,\ndata: 2]\n\nid: 4\r\ndata:3\r\n\r\n");
        assert_eq!(stream.next_event::<Vec<u8>>(), Ok(vec![1, 2]));
        assert_eq!(stream.next_event::<u8>(), Ok(3));
        assert!(matches!(stream.next_event::<u8>(), Err(ClientError::Unreachable { .. })));
    }

    #[test]
    fn what_is_not_json_is_a_bad_answer() {
        assert!(matches!(
            events("data: nonsense\n\n").next_event::<u8>(),
            Err(ClientError::BadAnswer { .. })
        ));
    }
}
