//! A payment is never made twice and never lost sight of, whatever happens to the connection.
//!
//! The node here is a script: for each connection, what to do after reading the request.

#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use kanjo_api::{ErrorBody, SubmitAnswer, SubmitOutcome, TransactionView, frames};
use kanjo_client::{Client, ClientError, Draft, Limits};
use kanjo_types::outcome::{Refusal, ResultCode};
use kanjo_types::record::{Record, TransactionRecord};
use kanjo_types::signature::{KeyKind, SecretKey};
use kanjo_types::transaction::SignedTransaction;
use kanjo_types::{ChainId, Hash, Operation, UserId, codec};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

enum Act {
    /// Read the request, close without an answer.
    Drop,
    /// Answer with this status and body.
    Answer(u16, Vec<u8>),
}

struct Request {
    line: String,
    at_least: Option<u64>,
    body: Vec<u8>,
}

fn read_request(stream: &TcpStream) -> Request {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).expect("request line");
    let mut length = 0usize;
    let mut at_least = None;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).expect("header");
        if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a number");
        }
        if let Some(value) = header.to_ascii_lowercase().strip_prefix("kanjo-at-least:") {
            at_least = value.trim().parse().ok();
        }
        if header.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0u8; length];
    reader.read_exact(&mut body).expect("body");
    Request { line: line.trim().to_owned(), at_least, body }
}

/// A client of one such node.
fn node(acts: Vec<Act>) -> (Client, JoinHandle<Vec<Request>>) {
    let (url, handle) = server(acts);
    (client(&url), handle)
}

/// A node that does one act for each connection and then ends.
fn server(acts: Vec<Act>) -> (String, JoinHandle<Vec<Request>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let url = format!("http://{}", listener.local_addr().expect("address"));
    let handle = std::thread::spawn(move || {
        let mut requests = Vec::new();
        for act in acts {
            let (mut stream, _) = listener.accept().expect("a connection");
            requests.push(read_request(&stream));
            if let Act::Answer(status, body) = act {
                let head = format!(
                    "HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                stream.write_all(head.as_bytes()).expect("head");
                stream.write_all(&body).expect("body");
            }
        }
        requests
    });
    (url, handle)
}

fn client(urls: &str) -> Client {
    let limits = Limits {
        backoff_first: Duration::from_millis(1),
        backoff_max: Duration::from_millis(4),
        attempts: 4,
        ..Limits::default()
    };
    Client::with_limits(urls, limits).expect("url")
}

/// Where nothing listens.
const NOBODY: &str = "http://127.0.0.1:1";

fn payment() -> SignedTransaction {
    let key = SecretKey::from_seed(KeyKind::Ed25519, [1; 32]).expect("key");
    Draft::new(ChainId::default(), UserId::default())
        .operation(Operation::CreateWallet { owner: UserId::default(), number: 0 })
        .sign(&key)
        .expect("signed")
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("json")
}

fn error(code: &str) -> Vec<u8> {
    let (code, message) = (code.to_owned(), "A sentence.".to_owned());
    json(&ErrorBody { code, message, field: None })
}

fn view(signed: &SignedTransaction) -> Vec<u8> {
    let id = signed.body.id();
    let record = TransactionRecord {
        id,
        witness: signed.witness(),
        height: 7,
        position: 3,
        time_ms: 1,
        author_record: Hash::ZERO,
        spent: Vec::new(),
    };
    json(&TransactionView {
        id,
        hash: Hash::ZERO,
        height: 7,
        position: 3,
        time_ms: 1,
        result: ResultCode::Ok,
        failed_operation: None,
        transaction: signed.clone(),
        record: Record::Transaction(record),
        rows: Vec::new(),
    })
}

fn recorded(signed: &SignedTransaction) -> SubmitOutcome {
    SubmitOutcome::Recorded {
        id: signed.body.id(),
        height: 7,
        position: 3,
        result: ResultCode::Ok,
        failed_operation: None,
    }
}

#[test]
fn a_lost_answer_is_found_again() {
    let signed = payment();
    let (client, node) = node(vec![
        Act::Drop,
        Act::Answer(409, error("already_used")),
        Act::Answer(404, error("unknown_transaction")),
        Act::Answer(200, view(&signed)),
    ]);
    assert_eq!(client.submit(&signed), Ok(recorded(&signed)));
    let requests = node.join().expect("node");
    assert_eq!(requests[0].body, requests[1].body, "the very same bytes are sent again");
    assert!(requests[3].line.contains(&signed.body.id().to_string()), "{}", requests[3].line);
}

#[test]
fn ones_own_repetition_is_told_as_it_is() {
    let signed = payment();
    let (client, _node) = node(vec![Act::Answer(409, error("already_used"))]);
    let answer = client.submit(&signed).expect_err("refused");
    assert_eq!(answer.code(), Some("already_used"));
}

#[test]
fn lost_answers_of_many_are_found_again() {
    let (a, b) = (payment(), payment());
    let mut request = Vec::new();
    frames::append(&codec::to_bytes(&a), &mut request);
    frames::append(&codec::to_bytes(&b), &mut request);
    let used = SubmitOutcome::Refused { refusal: Refusal::AlreadyUsed, field: "id".to_owned() };
    let answer = SubmitAnswer { outcomes: vec![used, recorded(&b)] };
    let (client, _node) = node(vec![
        Act::Drop,
        Act::Answer(200, codec::to_bytes(&answer)),
        Act::Answer(200, view(&a)),
    ]);
    let outcomes = client.submit_frames(&request).expect("answered").outcomes;
    assert_eq!(outcomes, [recorded(&a), recorded(&b)]);
}

#[test]
fn sending_again_has_a_bound() {
    let (client, node) = node(vec![Act::Drop, Act::Drop, Act::Drop, Act::Drop]);
    let error = client.submit(&payment()).expect_err("no answer");
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
    assert_eq!(node.join().expect("node").len(), 4);
}

#[test]
fn an_overloaded_node_is_asked_again() {
    let signed = payment();
    let (client, _node) = node(vec![
        Act::Answer(503, error("overloaded")),
        Act::Answer(200, json(&recorded(&signed))),
    ]);
    assert_eq!(client.submit(&signed), Ok(recorded(&signed)));
}

#[test]
fn what_is_no_node_is_said_so() {
    let (client, _node) = node(vec![Act::Answer(404, b"<html>nginx</html>".to_vec())]);
    let error = client.status().expect_err("no node");
    assert!(matches!(error, ClientError::BadAnswer { .. }), "{error:?}");
}

#[test]
fn no_leader_is_temporary() {
    let signed = payment();
    let (client, node) = node(vec![
        Act::Answer(503, error("no_leader")),
        Act::Answer(503, error("no_leader")),
        Act::Answer(200, json(&recorded(&signed))),
    ]);
    assert_eq!(client.submit(&signed), Ok(recorded(&signed)));
    assert_eq!(node.join().expect("node").len(), 3);
}

#[test]
fn what_a_gateway_does_not_know_is_asked_again() {
    let signed = payment();
    let (client, _node) = node(vec![
        Act::Answer(504, error("outcome_unknown")),
        Act::Answer(409, error("already_used")),
        Act::Answer(200, view(&signed)),
    ]);
    assert_eq!(client.submit(&signed), Ok(recorded(&signed)));
}

#[test]
fn what_expired_after_it_was_recorded_is_recorded() {
    let signed = payment();
    let expired = || Act::Answer(422, error("expired"));
    let (taken, _node) = node(vec![Act::Drop, expired(), Act::Answer(200, view(&signed))]);
    assert_eq!(taken.submit(&signed), Ok(recorded(&signed)));
    let unknown = Act::Answer(404, error("unknown_transaction"));
    let (other, _node) = node(vec![Act::Drop, expired(), unknown]);
    assert_eq!(other.submit(&signed).expect_err("refused").code(), Some("expired"));
}

#[test]
fn those_of_many_that_found_no_leader_go_again_and_the_rest_stays() {
    let (a, b) = (payment(), payment());
    let mut request = Vec::new();
    frames::append(&codec::to_bytes(&a), &mut request);
    frames::append(&codec::to_bytes(&b), &mut request);
    let refused = |refusal| SubmitOutcome::Refused { refusal, field: "x".to_owned() };
    let answer = |outcomes| Act::Answer(200, codec::to_bytes(&SubmitAnswer { outcomes }));
    let (client, node) = node(vec![
        answer(vec![recorded(&a), refused(Refusal::NoLeader)]),
        answer(vec![refused(Refusal::AlreadyUsed), recorded(&b)]),
    ]);
    let outcomes = client.submit_frames(&request).expect("answered").outcomes;
    assert_eq!(outcomes, [recorded(&a), recorded(&b)]);
    let requests = node.join().expect("node");
    assert_eq!(requests[0].body, requests[1].body, "the very same bytes");
}

#[test]
fn the_next_address_is_spoken_to_when_one_fails() {
    let signed = payment();
    let (first, one) = server(vec![Act::Drop]);
    let (second, two) = server(vec![
        Act::Answer(409, error("already_used")),
        Act::Answer(200, view(&signed)),
        Act::Answer(200, b"[]".to_vec()),
    ]);
    let client = client(&format!("{NOBODY},{first},{second}"));
    assert_eq!(client.submit(&signed), Ok(recorded(&signed)));
    assert_eq!(client.url(), second, "and stays there");
    assert_eq!(client.tokens(), Ok(Vec::new()));
    let (one, two) = (one.join().expect("node"), two.join().expect("node"));
    assert_eq!(one[0].body, two[0].body);
    assert_eq!(two[2].at_least, Some(7), "an answer must know what was recorded");
}

#[test]
fn a_question_goes_to_the_next_address() {
    let behind = Act::Answer(503, error("behind"));
    let (first, _one) = server(vec![behind]);
    let (second, _two) = server(vec![Act::Answer(200, b"[]".to_vec())]);
    let client = client(&format!("{NOBODY}, {first},{second}/"));
    assert_eq!(client.tokens(), Ok(Vec::new()));
}

#[test]
fn when_all_addresses_fail_it_ends() {
    let client = client(&format!("{NOBODY},{NOBODY}"));
    let error = client.tokens().expect_err("nobody");
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
    let error = client.submit(&payment()).expect_err("nobody");
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
}

#[test]
fn a_node_that_takes_nothing_says_nothing_about_an_attempt_that_was_lost() {
    let signed = payment();
    let no_leader = || Act::Answer(503, error("no_leader"));
    let (one, _node) = node(vec![Act::Drop, no_leader(), no_leader(), no_leader()]);
    let error = one.submit(&signed).expect_err("lost");
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");

    let mut request = Vec::new();
    frames::append(&codec::to_bytes(&signed), &mut request);
    let refused = || SubmitOutcome::Refused { refusal: Refusal::NoLeader, field: "x".to_owned() };
    let answer = || Act::Answer(200, codec::to_bytes(&SubmitAnswer { outcomes: vec![refused()] }));
    let (many, _node) = node(vec![Act::Drop, answer(), answer(), answer(), answer()]);
    let error = many.submit_frames(&request).expect_err("lost");
    assert_eq!(error.code(), Some("outcome_unknown"), "{error:?}");

    let (never, _node) = node(vec![answer(), answer(), answer(), answer()]);
    let outcomes = never.submit_frames(&request).expect("answered").outcomes;
    assert_eq!(outcomes, [refused()], "nothing was lost: it is refused");
}

#[test]
fn a_full_disk_sends_clients_to_the_next_address() {
    let signed = payment();
    let full = || Act::Answer(507, error("storage_full"));
    let (first, _one) = server(vec![full(), full()]);
    let (second, _two) =
        server(vec![Act::Answer(200, json(&recorded(&signed))), Act::Answer(200, b"[]".to_vec())]);
    let both = client(&format!("{first},{second}"));
    assert_eq!(both.submit(&signed), Ok(recorded(&signed)));
    let other = client(&format!("{first},{second}"));
    assert_eq!(other.tokens(), Ok(Vec::new()));
}
