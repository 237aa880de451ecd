//! A gateway in front of nodes that fail in every way: each transaction happens once, and what is
//! told of it is true.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod common;

use bytes::Bytes;
use common::{Act, Cluster, Http, framed, payment, recorded};
use http_body_util::BodyExt;
use kanjo_api::{ErrorBody, SubmitAnswer, SubmitOutcome};
use kanjo_gateway::{Config, Running, start};
use kanjo_types::codec;
use kanjo_types::outcome::Refusal;
use kanjo_types::transaction::SignedTransaction;
use std::time::{Duration, Instant};

const JSON: &str = "application/json";
const FRAMES: &str = "application/octet-stream";

async fn gateway(cluster: &Cluster, deadline_ms: u64) -> (Running, String) {
    let mut config = Config::new(cluster.urls());
    config.listen = "127.0.0.1:0".parse().expect("an address");
    config.deadline = Duration::from_millis(deadline_ms);
    let running = start(config).await.expect("started");
    let url = format!("http://{}", running.address());
    wait_until(&format!("{url}/health/ready"), 200).await;
    (running, url)
}

async fn wait_until(url: &str, status: u16) {
    for _ in 0..200 {
        if Http::new().get(url.to_owned()).await.0 == status {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{url} never said {status}");
}

async fn pay(url: &str, signed: &SignedTransaction) -> Result<SubmitOutcome, (u16, ErrorBody)> {
    let body = Bytes::from(serde_json::to_vec(signed).expect("json"));
    let (status, body) =
        Http::new().call("POST", format!("{url}/v1/transactions"), JSON, body).await;
    if status == 200 {
        return Ok(serde_json::from_slice(&body).expect("an outcome"));
    }
    Err((status, serde_json::from_slice(&body).expect("an error of Kanjo")))
}

fn code(answer: Result<SubmitOutcome, (u16, ErrorBody)>) -> (u16, String) {
    let (status, body) = answer.expect_err("refused");
    (status, body.code)
}

/// All attempts had the same bytes, and the ledger took it once.
fn check_once(cluster: &Cluster, signed: &SignedTransaction, attempts: usize) {
    let world = cluster.world();
    assert_eq!(world.bodies.len(), attempts);
    let sent = serde_json::to_vec(signed).expect("json");
    assert!(world.bodies.iter().all(|(_, body)| *body == sent));
    assert_eq!(world.recorded.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_goes_to_the_leader_as_it_is() {
    let cluster = Cluster::start(3).await;
    cluster.lead(Some(2));
    let (_gateway, url) = gateway(&cluster, 5_000).await;
    let signed = payment();
    assert_eq!(pay(&url, &signed).await, Ok(recorded(&signed, 1)));
    check_once(&cluster, &signed, 1);
    assert_eq!(cluster.world().bodies[0].0, 2);
    // The client's own repetition is told as it is.
    assert_eq!(code(pay(&url, &signed).await), (409, "already_used".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_falls_after_it_took_a_payment_leaves_one_payment() {
    let cluster = Cluster::start(3).await;
    let (_gateway, url) = gateway(&cluster, 10_000).await;
    let signed = payment();
    cluster.next(0, Act::TakeAndHang);
    let paying = {
        let (url, signed) = (url.clone(), signed.clone());
        tokio::spawn(async move { pay(&url, &signed).await })
    };
    while cluster.world().bodies.is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    cluster.kill(0);
    cluster.world().index_lags = 2;
    tokio::time::sleep(Duration::from_millis(300)).await;
    cluster.lead(Some(1));
    assert_eq!(paying.await.expect("joined"), Ok(recorded(&signed, 1)));
    let world = cluster.world();
    assert_eq!(world.recorded.len(), 1);
    assert_eq!(world.bodies.iter().map(|(node, _)| *node).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(world.bodies[0].1, world.bodies[1].1, "the very same bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_hangs_is_left_when_another_one_leads() {
    let cluster = Cluster::start(3).await;
    let (_gateway, url) = gateway(&cluster, 20_000).await;
    let signed = payment();
    cluster.next(0, Act::TakeAndHang);
    let paying = {
        let (url, signed) = (url.clone(), signed.clone());
        tokio::spawn(async move { pay(&url, &signed).await })
    };
    while cluster.world().bodies.is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    cluster.lead(Some(1));
    assert_eq!(paying.await.expect("joined"), Ok(recorded(&signed, 1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_temporary_answer_is_tried_again() {
    for act in [
        Act::Drop,
        Act::TakeAndDrop,
        Act::Say(503, "no_leader"),
        Act::Say(503, "stopping"),
        Act::Say(503, "outcome_unknown"),
        Act::Say(500, "damaged_data"),
        Act::Html(502),
        Act::Html(503),
    ] {
        let cluster = Cluster::start(2).await;
        let (_gateway, url) = gateway(&cluster, 5_000).await;
        cluster.next(0, act.clone());
        let signed = payment();
        assert_eq!(pay(&url, &signed).await, Ok(recorded(&signed, 1)), "{act:?}");
        check_once(&cluster, &signed, 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_passed_on_at_once() {
    let cluster = Cluster::start(2).await;
    let (_gateway, url) = gateway(&cluster, 5_000).await;
    for (status, refused) in [
        (400, "malformed"),
        (403, "bad_signature"),
        (422, "expired"),
        (429, "overloaded"),
        (507, "storage_full"),
        (415, "unsupported_media_type"),
    ] {
        let before = cluster.world().bodies.len();
        cluster.next(0, Act::Say(status, refused));
        let (said, error) = pay(&url, &payment()).await.expect_err("refused");
        assert_eq!((said, error.code.as_str()), (status, refused));
        assert_eq!(error.field.as_deref(), Some("here"), "as the node said it");
        assert_eq!(cluster.world().bodies.len(), before + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_doubt_at_the_deadline_is_unknown_and_never_refused() {
    let cluster = Cluster::start(2).await;
    let (_gateway, url) = gateway(&cluster, 600).await;
    cluster.next(0, Act::Drop);
    for _ in 0..200 {
        cluster.next(0, Act::Say(403, "bad_signature"));
    }
    assert_eq!(code(pay(&url, &payment()).await), (504, "outcome_unknown".to_owned()));
    cluster.world().acts.clear();
    cluster.next(0, Act::TakeAndHang);
    let start = Instant::now();
    assert_eq!(code(pay(&url, &payment()).await), (504, "outcome_unknown".to_owned()));
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_leader_nothing_is_taken_and_that_is_said() {
    let cluster = Cluster::start(2).await;
    let (_gateway, url) = gateway(&cluster, 700).await;
    cluster.lead(None);
    let answer = pay(&url, &payment()).await;
    assert_eq!(code(answer), (503, "no_leader".to_owned()));
    wait_until(&format!("{url}/health/ready"), 503).await;
    assert!(cluster.world().recorded.is_empty());
    // It comes back by itself.
    cluster.lead(Some(1));
    wait_until(&format!("{url}/health/ready"), 200).await;
    assert!(pay(&url, &payment()).await.is_ok());
}

async fn pay_all(url: &str, all: &[SignedTransaction]) -> Vec<SubmitOutcome> {
    let path = format!("{url}/v1/transactions");
    let (status, body) = Http::new().call("POST", path, FRAMES, framed(all)).await;
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    codec::from_bytes::<SubmitAnswer>(&body).expect("an answer").outcomes
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_a_batch_has_its_first_outcome() {
    let cluster = Cluster::start(2).await;
    let (_gateway, url) = gateway(&cluster, 5_000).await;
    let all: Vec<SignedTransaction> = (0..40).map(|_| payment()).collect();
    let wanted: Vec<_> = all.iter().zip(1..).map(|(one, height)| recorded(one, height)).collect();
    cluster.next(0, Act::TakeAndDrop);
    assert_eq!(pay_all(&url, &all).await, wanted);
    // Sent again by the client: its own repetition, told as it is.
    let used = SubmitOutcome::Refused { refusal: Refusal::AlreadyUsed, field: "id".to_owned() };
    assert_eq!(pay_all(&url, &all).await, vec![used; 40]);
    assert_eq!(cluster.world().recorded.len(), 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_part_of_a_batch_that_found_no_leader_is_sent_again() {
    let cluster = Cluster::start(2).await;
    let (_gateway, url) = gateway(&cluster, 5_000).await;
    let all: Vec<SignedTransaction> = (0..3).map(|_| payment()).collect();
    cluster.next(0, Act::TakeOne);
    let outcomes = pay_all(&url, &all).await;
    let wanted: Vec<_> = all.iter().zip(1..).map(|(one, height)| recorded(one, height)).collect();
    assert_eq!(outcomes, wanted);
    assert_eq!(cluster.world().bodies[0].1, cluster.world().bodies[1].1);
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_go_round_and_past_a_dead_node() {
    let cluster = Cluster::start(3).await;
    let (_gateway, url) = gateway(&cluster, 5_000).await;
    for _ in 0..6 {
        let (status, body) = Http::new().get(format!("{url}/v1/wallets/x?token=1")).await;
        assert_eq!(status, 200);
        assert!(body.ends_with("/v1/wallets/x?token=1"), "{body}");
    }
    let asked = cluster.world().asked.clone();
    assert!((0..3).all(|node| asked.contains(&node)), "{asked:?}");
    cluster.kill(1);
    for _ in 0..9 {
        assert_eq!(Http::new().get(format!("{url}/v1/tokens")).await.0, 200);
        assert_eq!(Http::new().get(format!("{url}/v1/behind")).await.0, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_submits_and_asks_names_the_block_that_the_answer_must_know() {
    let cluster = Cluster::start(3).await;
    let (_gateway, url) = gateway(&cluster, 5_000).await;
    Http::new().get(format!("{url}/v1/tokens")).await;
    assert!(cluster.world().at_least.is_empty());
    cluster.world().height = 76;
    pay(&url, &payment()).await.expect("paid");
    Http::new().get(format!("{url}/v1/tokens")).await;
    assert_eq!(cluster.world().at_least, [77]);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_come_as_they_are_made() {
    let cluster = Cluster::start(1).await;
    let (_gateway, url) = gateway(&cluster, 5_000).await;
    let path = format!("{url}/v1/stream/blocks");
    let answer = Http::new().open("GET", path, "text/plain", Bytes::new()).await;
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut body = answer.into_body();
    let start = Instant::now();
    for event in ["data: 1\n\n", "data: 2\n\n"] {
        let frame = body.frame().await.expect("a frame").expect("fine");
        assert_eq!(frame.into_data().expect("data"), event);
    }
    assert!(start.elapsed() >= Duration::from_millis(200), "the second came later");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_or_of_another_kind_is_refused_here() {
    let cluster = Cluster::start(1).await;
    let mut config = Config::new(cluster.urls());
    config.listen = "127.0.0.1:0".parse().expect("an address");
    config.body_room_kib = 64;
    let gateway = start(config).await.expect("started");
    let url = format!("http://{}", gateway.address());
    wait_until(&format!("{url}/health/ready"), 200).await;
    let http = Http::new();
    let send = |method: &'static str, path: &str, size: usize| {
        let (http, url) = (&http, format!("{url}{path}"));
        async move {
            let (status, body) = http.call(method, url, FRAMES, vec![0; size].into()).await;
            let error: ErrorBody = serde_json::from_slice(&body).expect("an error of Kanjo");
            (status, error.code)
        }
    };
    let large = send("POST", "/v1/transactions", 100 << 10).await;
    assert_eq!(large, (429, "overloaded".to_owned()));
    let other = send("POST", "/v1/cluster/leave", 10).await;
    assert_eq!(other, (405, "method_not_allowed".to_owned()));
    let other = send("DELETE", "/v1/transactions", 0).await;
    assert_eq!(other, (405, "method_not_allowed".to_owned()));
    assert!(cluster.world().bodies.is_empty());
    let (_, metrics) = http.get(format!("{url}/metrics")).await;
    assert!(metrics.contains("kanjo_gateway_overloaded_total 1"), "{metrics}");
    assert!(metrics.contains("kanjo_gateway_in_flight 0"), "{metrics}");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_have_a_bound_and_the_next_one_waits() {
    let cluster = Cluster::start(1).await;
    let mut config = Config::new(cluster.urls());
    config.listen = "127.0.0.1:0".parse().expect("an address");
    config.connections_max = 1;
    let gateway = start(config).await.expect("started");
    let url = format!("http://{}/health/live", gateway.address());
    let held = tokio::net::TcpStream::connect(gateway.address()).await.expect("connected");
    tokio::time::sleep(Duration::from_millis(100)).await;
    let http = Http::new();
    let asked = http.get(url.clone());
    let waited = tokio::time::timeout(Duration::from_millis(300), asked).await;
    assert!(waited.is_err(), "there is one place only");
    drop(held);
    let answer = tokio::time::timeout(Duration::from_secs(5), Http::new().get(url)).await;
    assert_eq!(answer.expect("in time").0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_needs_nodes_that_can_be_addresses() {
    for bad in [vec![], vec!["node:1".to_owned()], vec!["http://a/v1".to_owned()]] {
        assert!(start(Config::new(bad)).await.is_err());
    }
}
