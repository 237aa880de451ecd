//! A cluster that fails on command: tiny servers that speak a node's API around one ledger.

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kanjo_api::{ErrorBody, SubmitAnswer, SubmitOutcome, TransactionView, frames};
use kanjo_client::Draft;
use kanjo_types::outcome::{Refusal, ResultCode};
use kanjo_types::record::{Record, TransactionRecord};
use kanjo_types::signature::{KeyKind, SecretKey};
use kanjo_types::stored::decode_signed;
use kanjo_types::transaction::SignedTransaction;
use kanjo_types::{ChainId, Hash, Operation, TransactionId, UserId, codec};
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What a node does with the next submission.
#[derive(Debug, Clone)]
pub enum Act {
    /// Close the connection, take nothing.
    Drop,
    /// Take all, close the connection.
    TakeAndDrop,
    /// Answer with this status and code.
    Say(u16, &'static str),
    /// An answer that no Kanjo node gives.
    Html(u16),
    /// Take all, never answer.
    TakeAndHang,
    /// Take the first transaction, and refuse the others: no leader.
    TakeOne,
}

#[derive(Default)]
pub struct World {
    pub leader: Option<u16>,
    pub term: u64,
    pub recorded: BTreeMap<TransactionId, (SignedTransaction, u64)>,
    pub height: u64,
    /// Every body received, with the number of the node.
    pub bodies: Vec<(u16, Bytes)>,
    pub acts: BTreeMap<u16, VecDeque<Act>>,
    /// Heights that questions named.
    pub at_least: Vec<u64>,
    /// Nodes that answered a question.
    pub asked: Vec<u16>,
    pub apis: Vec<String>,
    /// Look-ups that find nothing yet.
    pub index_lags: u32,
}

pub struct Cluster {
    pub world: Arc<Mutex<World>>,
    nodes: Vec<JoinHandle<()>>,
}

type Body = BoxBody<Bytes, io::Error>;

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

fn answer(status: u16, body: impl Into<Bytes>) -> Response<Body> {
    Response::builder().status(status).body(full(body)).expect("an answer")
}

fn error(status: u16, code: &str) -> Response<Body> {
    let (code, message) = (code.to_owned(), "A sentence.".to_owned());
    let body = ErrorBody { code, message, field: Some("here".to_owned()) };
    answer(status, serde_json::to_vec(&body).expect("json"))
}

impl Cluster {
    /// `count` nodes; the first leads.
    pub async fn start(count: u16) -> Self {
        let world = Arc::new(Mutex::new(World { leader: Some(0), term: 1, ..World::default() }));
        let mut nodes = Vec::new();
        for number in 0..count {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
            let url = format!("http://{}", listener.local_addr().expect("address"));
            world.lock().expect("lock").apis.push(url);
            nodes.push(tokio::spawn(serve(number, listener, world.clone())));
        }
        Self { world, nodes }
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("lock")
    }

    pub fn urls(&self) -> Vec<String> {
        self.world().apis.clone()
    }

    pub fn next(&self, number: u16, act: Act) {
        self.world().acts.entry(number).or_default().push_back(act);
    }

    pub fn lead(&self, leader: Option<u16>) {
        let mut world = self.world();
        world.leader = leader;
        world.term += 1;
    }

    /// The node is gone, its connections too.
    pub fn kill(&self, number: u16) {
        self.nodes[usize::from(number)].abort();
    }
}

async fn serve(number: u16, listener: TcpListener, world: Arc<Mutex<World>>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.expect("accept");
        let world = world.clone();
        connections.spawn(async move {
            let service = service_fn(|request| handle(number, world.clone(), request));
            let served = hyper::server::conn::http1::Builder::new();
            let _ = served.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn handle(
    number: u16,
    world: Arc<Mutex<World>>,
    request: Request<Incoming>,
) -> Result<Response<Body>, io::Error> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    if parts.method == Method::POST {
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let is_frames =
            parts.headers.get("content-type").is_some_and(|kind| kind == "application/octet-stream");
        let done = submit(number, &world, &body, is_frames)?;
        match done {
            Some(done) => return Ok(done),
            None => std::future::pending::<()>().await,
        }
    }
    let mut world = world.lock().expect("lock");
    if path == "/v1/cluster" {
        let leader = world.leader;
        let role = if leader == Some(number) { "leader" } else { "follower" };
        let nodes = world.apis.iter().enumerate();
        let nodes: Vec<_> = nodes
            .map(|(n, api)| json!({ "number": n, "kind": "executor", "api": api }))
            .collect();
        let cluster = json!({
            "me": number, "role": role, "term": world.term, "leader": leader, "nodes": nodes,
        });
        return Ok(answer(200, cluster.to_string()));
    }
    if let Some(height) = parts.headers.get("kanjo-at-least") {
        let height = height.to_str().expect("text").parse().expect("a number");
        world.at_least.push(height);
    }
    world.asked.push(number);
    if path == "/v1/stream/blocks" {
        return Ok(events());
    }
    if path == "/v1/behind" && number == 0 {
        return Ok(error(503, "behind"));
    }
    let Some(id) = path.strip_prefix("/v1/transactions/") else {
        return Ok(answer(200, format!("{number}{}", parts.uri)));
    };
    if world.index_lags > 0 {
        world.index_lags -= 1;
        return Ok(error(404, "unknown_transaction"));
    }
    let id: TransactionId = id.parse().expect("an id");
    let found = world.recorded.get(&id).map(|(signed, height)| view(signed, *height));
    Ok(found.map_or_else(|| error(404, "unknown_transaction"), |view| answer(200, view)))
}

/// Two events, one second apart, then no end.
fn events() -> Response<Body> {
    let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
    tokio::spawn(async move {
        for event in ["data: 1\n\n", "data: 2\n\n"] {
            let _ = sender.send(Bytes::from_static(event.as_bytes())).await;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        std::future::pending::<()>().await;
    });
    let events = futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|bytes| (Ok(Frame::data(bytes)), receiver))
    });
    let body = http_body_util::StreamBody::new(events);
    Response::builder()
        .header("content-type", "text/event-stream")
        .body(BodyExt::boxed(body))
        .expect("an answer")
}

fn submit(
    number: u16,
    world: &Mutex<World>,
    body: &Bytes,
    is_frames: bool,
) -> Result<Option<Response<Body>>, io::Error> {
    let world = &mut *world.lock().expect("lock");
    world.bodies.push((number, body.clone()));
    let act = world.acts.entry(number).or_default().pop_front();
    let all: Vec<SignedTransaction> = if is_frames {
        let ranges = frames::split(body).expect("frames");
        ranges.into_iter().map(|range| decode_signed(&body[range]).expect("canonical").0).collect()
    } else {
        vec![serde_json::from_slice(body).expect("a transaction")]
    };
    let no_leader = || SubmitOutcome::Refused {
        refusal: Refusal::NoLeader,
        field: "node".to_owned(),
    };
    let outcomes: Vec<SubmitOutcome> = match act {
        Some(Act::Drop) => return Err(io::Error::other("dropped")),
        Some(Act::Say(status, code)) => return Ok(Some(error(status, code))),
        Some(Act::Html(status)) => return Ok(Some(answer(status, "<html>a proxy</html>"))),
        _ if world.leader != Some(number) => return Ok(Some(error(503, "no_leader"))),
        Some(Act::TakeOne) => {
            let outcomes = all.iter().enumerate();
            outcomes.map(|(at, one)| if at == 0 { world.take(one) } else { no_leader() }).collect()
        }
        _ => all.iter().map(|one| world.take(one)).collect(),
    };
    match act {
        Some(Act::TakeAndDrop) => return Err(io::Error::other("dropped")),
        Some(Act::TakeAndHang) => return Ok(None),
        _ => {}
    }
    if is_frames {
        return Ok(Some(answer(200, codec::to_bytes(&SubmitAnswer { outcomes }))));
    }
    Ok(Some(match &outcomes[0] {
        SubmitOutcome::Refused { refusal, .. } => error(409, refusal.code()),
        outcome => answer(200, serde_json::to_vec(outcome).expect("json")),
    }))
}

impl World {
    fn take(&mut self, signed: &SignedTransaction) -> SubmitOutcome {
        let id = signed.body.id();
        if self.recorded.contains_key(&id) {
            return SubmitOutcome::Refused { refusal: Refusal::AlreadyUsed, field: "id".to_owned() };
        }
        self.height += 1;
        self.recorded.insert(id, (signed.clone(), self.height));
        recorded(signed, self.height)
    }
}

pub fn recorded(signed: &SignedTransaction, height: u64) -> SubmitOutcome {
    SubmitOutcome::Recorded {
        id: signed.body.id(),
        height,
        position: 3,
        result: ResultCode::Ok,
        failed_operation: None,
    }
}

fn view(signed: &SignedTransaction, height: u64) -> Vec<u8> {
    let id = signed.body.id();
    let record = TransactionRecord {
        id,
        witness: signed.witness(),
        height,
        position: 3,
        time_ms: 1,
        author_record: Hash::ZERO,
        spent: Vec::new(),
    };
    let view = TransactionView {
        id,
        hash: Hash::ZERO,
        height,
        position: 3,
        time_ms: 1,
        result: ResultCode::Ok,
        failed_operation: None,
        transaction: signed.clone(),
        record: Record::Transaction(record),
        rows: Vec::new(),
    };
    serde_json::to_vec(&view).expect("json")
}

pub fn payment() -> SignedTransaction {
    let key = SecretKey::from_seed(KeyKind::Ed25519, [1; 32]).expect("key");
    Draft::new(ChainId::default(), UserId::default())
        .operation(Operation::CreateWallet { owner: UserId::default(), number: 0 })
        .sign(&key)
        .expect("signed")
}

pub fn framed(all: &[SignedTransaction]) -> Bytes {
    let mut bytes = Vec::new();
    all.iter().for_each(|one| frames::append(&codec::to_bytes(one), &mut bytes));
    bytes.into()
}

/// A plain HTTP client.
pub struct Http(Client<HttpConnector, Full<Bytes>>);

impl Http {
    pub fn new() -> Self {
        Self(Client::builder(TokioExecutor::new()).build_http())
    }

    pub async fn open(
        &self,
        method: &str,
        url: String,
        kind: &str,
        body: Bytes,
    ) -> Response<Incoming> {
        let request = Request::builder()
            .method(method)
            .uri(url)
            .header("content-type", kind)
            .body(Full::new(body))
            .expect("a request");
        self.0.request(request).await.expect("an answer")
    }

    pub async fn call(&self, method: &str, url: String, kind: &str, body: Bytes) -> (u16, Bytes) {
        let answer = self.open(method, url, kind, body).await;
        let status = answer.status().as_u16();
        (status, answer.into_body().collect().await.expect("a body").to_bytes())
    }

    pub async fn get(&self, url: String) -> (u16, String) {
        let (status, body) = self.call("GET", url, "text/plain", Bytes::new()).await;
        (status, String::from_utf8_lossy(&body).into_owned())
    }
}
