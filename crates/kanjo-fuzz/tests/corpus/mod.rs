//! Valid inputs, and the repair of their checksums after a mutation.
#![allow(dead_code, reason = "not every test uses all of it")]

mod proofs;
mod sentinel;

use kanjo_api::{SubmitAnswer, SubmitOutcome, frames};
use kanjo_fuzz::sample::sample;
use kanjo_link::frame::{PLAIN_MAX, SEAL_LEN, frame_head};
use kanjo_link::wire::Item;
use kanjo_store::checkpoint::CheckpointStore;
use kanjo_store::disk::Disk;
use kanjo_store::faults::FaultyDisk;
use kanjo_store::log::{BlockLog, FrameHeader, LogOptions};
use kanjo_store::slots::SlotFile;
use kanjo_store::{Block, BlockRef};
use kanjo_types::outcome::{Refusal, ResultCode};
use kanjo_types::signature::{KeyKind, SecretKey};
use kanjo_types::stored::encode_block;
use kanjo_types::{Amount, Hash, PublicKey, TransactionId, codec};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// Inputs, each with the target it is meant for.
pub type Corpus = Vec<(&'static str, Vec<u8>)>;

const ENCODINGS: &str = include_str!("../../../../vectors/encoding.json");
const BLOCKS: &str = include_str!("../../../../vectors/blocks.json");
const ZIP215: &str = include_str!("../../../../vectors/zip215.json");

fn parse(text: &str) -> Vec<Value> {
    serde_json::from_str(text).expect("vectors are JSON")
}

fn unhex(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().expect("text")).expect("hex")
}

/// Valid inputs, each with the target it is meant for.
pub fn corpus() -> Corpus {
    let mut corpus = Corpus::new();
    for vector in parse(ENCODINGS) {
        let json = vector["json"].to_string().into_bytes();
        let (binary, text) = match vector["type"].as_str().expect("type") {
            "SignedTransaction" => ("decode_signed_transaction", "transaction_json"),
            "Record" => ("decode_record", "record_json"),
            "Header" => ("decode_header", "header_json"),
            "Genesis" => ("decode_genesis", "genesis_json"),
            // The tag of the operation, then the notice and its statements.
            "Operation" if vector["bytes"].as_str().is_some_and(|text| text.starts_with("1d")) => {
                corpus.push(("decode_notice", unhex(&vector["bytes"])[1..].to_vec()));
                continue;
            }
            "Evidence" => ("decode_evidence", ""),
            "Receipt" => ("decode_receipt", ""),
            "Certificate" => ("decode_certificate", ""),
            "Access" => ("decode_access", ""),
            id if id.ends_with("Id") => {
                let text = vector["json"].as_str().expect("text");
                corpus.push(("ids_text", text.as_bytes().to_vec()));
                continue;
            }
            _ => continue,
        };
        corpus.push((binary, unhex(&vector["bytes"])));
        if !text.is_empty() {
            corpus.push((text, json));
        }
        for derived in vector["derived"].as_object().into_iter().flat_map(|map| map.values()) {
            corpus.push(("ids_text", derived.as_str().expect("text").as_bytes().to_vec()));
        }
    }
    for block in parse(BLOCKS) {
        corpus.push(("decode_block", unhex(&block["bytes"])));
        corpus.push(("decode_block_head", unhex(&block["bytes"])));
    }
    typed_texts(&mut corpus);
    signatures(&mut corpus);
    api(&mut corpus);
    storage(&mut corpus);
    links(&mut corpus);
    sentinel::sentinel(&mut corpus);
    proofs::proofs(&mut corpus);
    corpus
}

fn typed_texts(corpus: &mut Corpus) {
    for (decimals, text) in [(2u8, "12.50"), (0, "1250"), (30, "0.000000000000000000000000000001")]
    {
        corpus.push(("amount_text", [&[decimals], text.as_bytes()].concat()));
    }
    corpus.push(("amount_text", [&[0], Amount(u128::MAX).to_string().as_bytes()].concat()));
    for kind in [KeyKind::Ed25519, KeyKind::P256, KeyKind::Secp256k1] {
        let key = SecretKey::from_seed(kind, [1; 32]).expect("valid seed").public();
        corpus.push(("keys_text", key.to_string().into_bytes()));
    }
    for value in [0u128, 127, 128, 1 << 32, u128::MAX] {
        let bytes = kanjo_types::codec::to_bytes(&kanjo_types::codec::Compact(value));
        corpus.push(("decode_compact", bytes));
    }
}

fn signatures(corpus: &mut Corpus) {
    let item = |kind: u8, key: &[u8], digest: &[u8], signature: &[u8]| {
        let mut key = key.to_vec();
        key.resize(33, 0);
        [&[kind], key.as_slice(), digest, signature].concat()
    };
    let vectors = parse(ZIP215);
    for group in vectors.chunks(60) {
        let items = group.iter().step_by(5).map(|vector| {
            let (key, digest) = (unhex(&vector["key"]), unhex(&vector["digest"]));
            item(0, &key, &digest, &unhex(&vector["signature"]))
        });
        corpus.push(("verify_signatures", items.collect::<Vec<_>>().concat()));
    }
    let digest = Hash([7; 32]);
    let mixed = [KeyKind::Ed25519, KeyKind::P256, KeyKind::Secp256k1].map(|kind| {
        let secret = SecretKey::from_seed(kind, [2; 32]).expect("valid seed");
        let signature = secret.sign(&digest);
        match secret.public() {
            PublicKey::Ed25519(key) => item(0, &key, &digest.0, &signature),
            PublicKey::P256(key) => item(1, &key, &digest.0, &signature),
            PublicKey::Secp256k1(key) => item(2, &key, &digest.0, &signature),
        }
    });
    corpus.push(("verify_signatures", mixed.concat()));
}

fn api(corpus: &mut Corpus) {
    let entries = sample().blocks.iter().flat_map(|block| &block.entries);
    let raws: Vec<Vec<u8>> = entries.map(|entry| entry.raw.to_vec()).collect();
    for taken in 0..=raws.len() {
        let mut request = Vec::new();
        raws[..taken].iter().for_each(|raw| frames::append(raw, &mut request));
        frames::append(&[], &mut request);
        corpus.push(("http_frames", request));
    }
    let id = TransactionId(Hash([5; 32]));
    let recorded = |result, failed_operation| SubmitOutcome::Recorded {
        id,
        height: u64::MAX,
        position: 3,
        result,
        failed_operation,
    };
    let refused = |refusal: &Refusal| SubmitOutcome::Refused {
        refusal: *refusal,
        field: "body.operations[0].amount".to_owned(),
    };
    let mut outcomes = vec![recorded(ResultCode::Ok, None)];
    outcomes.extend(ResultCode::ALL.iter().map(|code| recorded(*code, Some(7))));
    corpus.push(("submit_answer", codec::to_bytes(&SubmitAnswer { outcomes: outcomes.clone() })));
    outcomes = Refusal::ALL.iter().map(refused).collect();
    corpus.push(("submit_answer", codec::to_bytes(&SubmitAnswer { outcomes })));
    corpus.push(("submit_answer", codec::to_bytes(&SubmitAnswer { outcomes: Vec::new() })));
}

fn storage(corpus: &mut Corpus) {
    let chain = sample().genesis.chain_id().0.0;
    let faulty = FaultyDisk::new(1);
    let disk: Arc<dyn Disk> = Arc::new(faulty.clone());
    let options = LogOptions { segment_bytes: 64 << 10, first_height: 0 };
    let dir = Path::new("data/log");
    let (mut log, _) = BlockLog::open(disk.clone(), dir, chain, options).expect("opens");
    let mut blocks: Vec<Block> = (0..)
        .zip(&sample().blocks)
        .map(|(height, block)| {
            let header_hash = block.header.hash().0;
            Block { height, header_hash, bytes: encode_block(block) }
        })
        .collect();
    let short = |height| Block { height, header_hash: [8; 32], bytes: vec![1; 3] };
    blocks.extend((2..7).map(short));
    let refs: Vec<BlockRef<'_>> = blocks.iter().map(Block::as_ref).collect();
    for group in [&refs[..1], &refs[1..2], &refs[2..6], &refs[6..]] {
        log.append(group).expect("appends");
    }
    let segment = faulty.get(&dir.join(format!("{:020}.seg", 0))).expect("the first segment");
    let mut rest = &segment[512..];
    while let Ok(header) = FrameHeader::decode(rest) {
        let (frame, behind) = rest.split_at(usize::try_from(header.extent_bytes()).expect("small"));
        corpus.push(("log_frame", frame.to_vec()));
        rest = behind;
    }
    let path = Path::new("data/vote");
    let (mut slots, _) = SlotFile::open(disk.clone(), path).expect("opens");
    for length in [0, 20, 700, 4_096, 455, 2_000] {
        slots.write(&vec![7; length]).expect("writes");
        corpus.push(("slot_file", faulty.get(path).expect("the slots")));
    }
    let dir = Path::new("data/checkpoints");
    let checkpoints = CheckpointStore::open(disk, dir, chain).expect("opens");
    let snapshot = |partition| codec::to_bytes(&sample().ledger.snapshot(partition));
    let distinct: BTreeSet<(Vec<u8>, u16)> =
        (0..64).map(|partition| (snapshot(partition), partition)).collect();
    let mut last = Vec::new();
    for (payload, partition) in distinct {
        if payload == last {
            continue;
        }
        checkpoints.write(partition, 1, &mut |to| to.write_all(&payload)).expect("writes");
        let path = dir.join(format!("p{partition:05}-{:020}.ckpt", 1));
        corpus.push(("checkpoint", faulty.get(&path).expect("a checkpoint")));
        corpus.push(("partition_snapshot", payload.clone()));
        last = payload;
    }
}

/// Messages of one record each and one of two, with zeros for seals; each kind of item.
fn links(corpus: &mut Corpus) {
    let frames = |body: &[u8]| -> Vec<u8> {
        let plain = [&u32::try_from(body.len()).expect("short").to_le_bytes(), body].concat();
        let frame = |piece: &[u8]| {
            let head = frame_head(piece.len() + SEAL_LEN).expect("a piece");
            [&head[..], piece, &[0; SEAL_LEN]].concat()
        };
        plain.chunks(PLAIN_MAX).flat_map(frame).collect()
    };
    corpus.push(("link_stream", frames(b"")));
    corpus.push(("link_stream", [frames(b"one"), frames(&[2; 300]), frames(b"three")].concat()));
    corpus.push(("link_stream", [frames(&[1; PLAIN_MAX]), frames(b"behind")].concat()));
    let body = bytes::Bytes::from_static(b"body");
    let items = [
        Item::Welcome,
        Item::Request { id: 1, topic: 4, ttl_ms: 500, body: body.clone() },
        Item::Answer { id: 1, body: body.clone() },
        Item::refusal(1, "no".to_owned()),
        Item::Message { topic: 4, body },
        Item::Ping(7),
        Item::Pong(7),
    ];
    for item in items {
        let (head, body) = item.into_parts();
        corpus.push(("link_item", [&head[..], &body].concat()));
    }
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes.iter_mut().skip(at).zip(value).for_each(|(to, from)| *to = *from);
}

/// Makes the checksums of a mutated file hold again, so that what they guard is reached.
pub fn repair(name: &str, bytes: &mut [u8]) {
    let length = bytes.len();
    if name == "log_frame" && length >= 96 {
        let sectors = u32::from_le_bytes(bytes[36..40].try_into().expect("four"));
        let end = length.min((sectors as usize).saturating_mul(512)).max(96);
        let body = blake3::hash(&bytes[96..end]);
        put(bytes, 64, &body.as_bytes()[..16]);
        let id = blake3::hash(&bytes[..80]);
        put(bytes, 80, &id.as_bytes()[..16]);
    }
    if name == "slot_file" {
        let (sectors, _) = bytes.as_chunks_mut::<512>();
        for sector in sectors.iter_mut().filter(|sector| sector.starts_with(b"KJSL")) {
            let sum = blake3::hash(&sector[..496]);
            put(sector, 496, &sum.as_bytes()[..16]);
        }
    }
    if name == "checkpoint" && length >= 96 {
        let payload = (length as u64 - 96).to_le_bytes();
        put(bytes, length - 40, &payload);
        let sum = blake3::hash(&bytes[..length - 32]);
        put(bytes, length - 32, sum.as_bytes());
    }
}
