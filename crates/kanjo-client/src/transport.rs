//! HTTP under the typed calls: one agent with kept connections, bounded answers, mapped errors.

use crate::error::ClientError;
use kanjo_api::{AT_LEAST_HEADER, BINARY_MEDIA_TYPE, ErrorBody};
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};

/// Bounds of every call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest wait for a connection.
    pub connect: Duration,
    /// Longest wait for a whole answer to a question.
    pub read: Duration,
    /// Longest wait for a submitted transaction to become final.
    pub submit: Duration,
    /// How often a request is sent at most when connections are lost or the node is overloaded.
    pub attempts: u32,
    /// Wait before the second attempt; doubled each time.
    pub backoff_first: Duration,
    /// Longest wait between two attempts.
    pub backoff_max: Duration,
    /// Most bytes of an answer.
    pub answer_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            read: Duration::from_secs(30),
            submit: Duration::from_secs(60),
            attempts: 7,
            backoff_first: Duration::from_millis(50),
            backoff_max: Duration::from_secs(2),
            answer_bytes_max: 64 << 20,
        }
    }
}

impl Limits {
    /// The wait before attempt `attempt` (the first is 0 and has none).
    #[must_use]
    pub fn wait_before(&self, attempt: u32) -> Duration {
        if attempt == 0 {
            return Duration::ZERO;
        }
        let factor = 1u32.checked_shl(attempt - 1).unwrap_or(u32::MAX);
        self.backoff_first.saturating_mul(factor).min(self.backoff_max)
    }
}

/// Why one attempt gave no answer.
#[derive(Debug)]
pub(crate) enum Lost {
    /// Nothing was sent: no connection.
    NotSent(ClientError),
    /// It may have been received.
    Unknown(ClientError),
    /// Sending again can't help.
    Final(ClientError),
}

impl Lost {
    pub(crate) fn into_error(self) -> ClientError {
        match self {
            Self::NotSent(error) | Self::Unknown(error) | Self::Final(error) => error,
        }
    }
}

/// What a request asks to get back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accept {
    Json,
    Binary,
}

/// A body to send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Content<'a> {
    pub(crate) media_type: &'static str,
    pub(crate) bytes: &'a [u8],
}

/// Most addresses of one client.
const ADDRESSES_MAX: usize = 64;

/// The addresses of nodes or gateways of one ledger, and the connections to them. One is spoken to
/// at a time; when it fails, the next.
#[derive(Debug, Clone)]
pub(crate) struct Transport {
    agent: Agent,
    bases: Arc<[String]>,
    /// Which of them is spoken to, counted on and on.
    turn: Arc<AtomicUsize>,
    /// The highest block that an outcome spoke of: answers must know it.
    height: Arc<AtomicU64>,
    pub(crate) limits: Limits,
}

impl Transport {
    pub(crate) fn new(url: &str, limits: Limits) -> Result<Self, ClientError> {
        let bases = url.split(',').map(check_url).collect::<Result<Vec<_>, _>>()?;
        if bases.len() > ADDRESSES_MAX {
            return Err(bad_url(url, "at most 64 addresses"));
        }
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(limits.connect))
            .max_idle_connections(64)
            .max_idle_connections_per_host(64)
            .user_agent(concat!("kanjo-client/", env!("CARGO_PKG_VERSION")))
            .proxy(None)
            .build()
            .new_agent();
        Ok(Self {
            agent,
            bases: bases.into(),
            turn: Arc::default(),
            height: Arc::default(),
            limits,
        })
    }

    /// The address that is spoken to.
    pub(crate) fn base(&self) -> &str {
        let turn = self.turn.load(Ordering::Relaxed);
        self.bases.get(turn % self.bases.len().max(1)).map_or("", String::as_str)
    }

    /// Are there several addresses?
    pub(crate) fn has_others(&self) -> bool {
        self.bases.len() > 1
    }

    /// Speaks to the next address, unless another thread went on from `failed` already.
    pub(crate) fn go_on_from(&self, failed: &str) {
        if self.has_others() && self.base() == failed {
            self.turn.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often something is tried at most: each address once at least.
    pub(crate) fn attempts(&self) -> u32 {
        self.limits.attempts.max(u32::try_from(self.bases.len()).unwrap_or(u32::MAX))
    }

    /// Later answers must know this block.
    pub(crate) fn note_height(&self, height: u64) {
        self.height.fetch_max(height, Ordering::AcqRel);
    }

    /// Sends a question once.
    pub(crate) fn get_once(&self, path: &str) -> Result<Vec<u8>, Lost> {
        let mut request = self.agent.get(format!("{}{path}", self.base()));
        let height = self.height.load(Ordering::Acquire);
        if height > 0 {
            request = request.header(AT_LEAST_HEADER, height.to_string());
        }
        let request = request.config().timeout_global(Some(self.limits.read)).build();
        let answer = request.call().map_err(|error| self.lost(error, self.limits.read))?;
        self.read_answer(answer, self.limits.read)
    }

    /// Sends a body once.
    pub(crate) fn post_once(
        &self,
        path: &str,
        content: Content<'_>,
        accept: Accept,
    ) -> Result<Vec<u8>, Lost> {
        let accept = match accept {
            Accept::Json => "application/json",
            Accept::Binary => BINARY_MEDIA_TYPE,
        };
        let request = self
            .agent
            .post(format!("{}{path}", self.base()))
            .header("accept", accept)
            .content_type(content.media_type)
            .config()
            .timeout_global(Some(self.limits.submit))
            .build();
        let answer =
            request.send(content.bytes).map_err(|error| self.lost(error, self.limits.submit))?;
        self.read_answer(answer, self.limits.submit)
    }

    /// Opens a stream of server-sent events, which has no end and so no overall time limit.
    pub(crate) fn open_stream(&self, path: &str) -> Result<ureq::BodyReader<'static>, ClientError> {
        let base = self.base().to_owned();
        let request = self
            .agent
            .get(format!("{base}{path}"))
            .header("accept", "text/event-stream")
            .config()
            .timeout_recv_response(Some(self.limits.read))
            .build();
        let answer = request.call().map_err(|error| {
            let error = self.lost(error, self.limits.read).into_error();
            self.go_on_from(&base);
            error
        })?;
        if answer.status() != StatusCode::OK {
            let refused = self.read_answer(answer, self.limits.read);
            return Err(refused
                .err()
                .map_or_else(|| self.bad_answer("not a stream"), Lost::into_error));
        }
        Ok(answer.into_body().into_with_config().limit(u64::MAX).reader())
    }

    /// Asks, and asks again after a lost connection, within the limits. With several addresses the
    /// next one is asked, first without a wait.
    pub(crate) fn get(&self, path: &str) -> Result<Vec<u8>, ClientError> {
        let others = u32::try_from(self.bases.len()).unwrap_or(u32::MAX).saturating_sub(1);
        let mut attempt = 0u32;
        loop {
            std::thread::sleep(self.limits.wait_before(attempt.saturating_sub(others)));
            attempt += 1;
            let base = self.base().to_owned();
            let lost = match self.get_once(path) {
                Ok(bytes) => return Ok(bytes),
                Err(lost) => lost,
            };
            let again = match &lost {
                Lost::Unknown(ClientError::Unreachable { .. }) => attempt < self.attempts(),
                Lost::NotSent(_) | Lost::Unknown(_) => attempt <= others,
                Lost::Final(error) => error.is_temporary() && attempt <= others,
            };
            if !again {
                return Err(lost.into_error());
            }
            self.go_on_from(&base);
        }
    }

    pub(crate) fn get_json<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let bytes = self.get(path)?;
        self.parse_json(&bytes)
    }

    pub(crate) fn parse_json<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(bytes).map_err(|error| self.bad_answer(&error.to_string()))
    }

    pub(crate) fn bad_answer(&self, problem: &str) -> ClientError {
        ClientError::BadAnswer { url: self.base().to_owned(), problem: problem.to_owned() }
    }

    fn read_answer(&self, answer: Response<Body>, allowed: Duration) -> Result<Vec<u8>, Lost> {
        let status = answer.status();
        let bytes = answer
            .into_body()
            .into_with_config()
            .limit(self.limits.answer_bytes_max)
            .read_to_vec()
            .map_err(|error| self.lost(error, allowed))?;
        if status.is_success() {
            return Ok(bytes);
        }
        Err(Lost::Final(match serde_json::from_slice::<ErrorBody>(&bytes) {
            Ok(body) => ClientError::Refused { status: status.as_u16(), body },
            Err(_) => {
                let start: String = String::from_utf8_lossy(&bytes).chars().take(120).collect();
                let problem = format!(
                    "HTTP {} without a Kanjo error ('{}'); is this the address of a Kanjo node?",
                    status.as_u16(),
                    start.trim()
                );
                self.bad_answer(&problem)
            }
        }))
    }

    fn lost(&self, error: ureq::Error, allowed: Duration) -> Lost {
        let unreachable =
            |reason: String| ClientError::Unreachable { url: self.base().to_owned(), reason };
        let timeout = |allowed: Duration| ClientError::Timeout {
            url: self.base().to_owned(),
            after_ms: u64::try_from(allowed.as_millis()).unwrap_or(u64::MAX),
        };
        match error {
            ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
                Lost::NotSent(timeout(self.limits.connect))
            }
            ureq::Error::Timeout(_) => Lost::Unknown(timeout(allowed)),
            ureq::Error::HostNotFound => {
                Lost::NotSent(unreachable("this host name is not known".to_owned()))
            }
            ureq::Error::ConnectionFailed => {
                Lost::NotSent(unreachable("connection failed".to_owned()))
            }
            ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                Lost::NotSent(unreachable("connection refused; nothing listens there".to_owned()))
            }
            ureq::Error::Io(error) => Lost::Unknown(unreachable(error.to_string())),
            ureq::Error::Protocol(error) => {
                Lost::Unknown(unreachable(format!("the connection broke off ({error})")))
            }
            other => Lost::Final(self.bad_answer(&other.to_string())),
        }
    }
}

fn bad_url(url: &str, problem: &'static str) -> ClientError {
    ClientError::BadUrl { url: url.chars().take(200).collect(), problem }
}

/// Accepts `http://host[:port]` with an optional trailing slash.
fn check_url(url: &str) -> Result<String, ClientError> {
    let bad = |problem| bad_url(url, problem);
    let trimmed = url.trim().trim_end_matches('/');
    if trimmed.starts_with("https://") {
        return Err(bad("this client speaks plain HTTP; put a TLS proxy or tunnel in between"));
    }
    let rest = trimmed
        .strip_prefix("http://")
        .ok_or_else(|| bad("it must look like http://127.0.0.1:8480"))?;
    if rest.is_empty() || rest.contains(['/', '?', '#', ' ']) {
        return Err(bad("give scheme, host and port only, such as http://127.0.0.1:8480"));
    }
    if trimmed.parse::<ureq::http::Uri>().is_err() {
        return Err(bad("host or port can't be read; it must look like http://127.0.0.1:8480"));
    }
    Ok(trimmed.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_before_use() {
        assert_eq!(check_url("http://node:8480/"), Ok("http://node:8480".to_owned()));
        for bad in ["", "node:8480", "https://node", "http://", "http://a/v1", "http://a b"] {
            assert!(matches!(check_url(bad), Err(ClientError::BadUrl { .. })), "{bad}");
        }
    }

    #[test]
    fn waits_double_up_to_a_bound() {
        let limits = Limits::default();
        let waits: Vec<u128> = (0..8).map(|n| limits.wait_before(n).as_millis()).collect();
        assert_eq!(waits, [0, 50, 100, 200, 400, 800, 1600, 2000]);
        assert_eq!(limits.wait_before(100), limits.backoff_max);
    }

    #[test]
    fn a_port_where_nothing_listens_is_reported_at_once() {
        let transport = Transport::new("http://127.0.0.1:1", Limits::default()).expect("fine url");
        let error = transport.get("/v1/status").expect_err("nothing there");
        assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
    }
}
