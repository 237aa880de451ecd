//! Signed payments kept in a file.
//!
//! ```text
//! file    := header line (JSON, '\n')  request*  end
//! request := payments:u32 LE  transactions:u32 LE  length:u32 LE  frames
//! end     := 0xffffffff
//! ```

use super::accounts::{Bench, VALID_FOR};
use crate::fail::{Done, Fail};
use crate::load::{Ready, Request, Source};
use kanjo_client::now_ms;
use kanjo_types::ChainId;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

const VERSION: u32 = 1;
const END: u32 = u32::MAX;
/// Signed payments with less time left than this are signed anew.
const LEFT_MS_MIN: u64 = 3_600_000;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Header {
    kanjo_bench: u32,
    chain: ChainId,
    accounts: u64,
    payments: u64,
    legs: Option<u64>,
    frame: u64,
    receivers: u64,
    valid_until_ms: u64,
}

impl Header {
    fn of(bench: &Bench) -> Self {
        let shape = &bench.shape;
        let valid_for_ms = u64::try_from(VALID_FOR.as_millis()).unwrap_or(u64::MAX);
        Self {
            kanjo_bench: VERSION,
            chain: bench.chain,
            accounts: shape.accounts,
            payments: shape.payments,
            legs: shape.legs,
            frame: shape.frame,
            receivers: shape.receivers,
            valid_until_ms: now_ms().saturating_add(valid_for_ms),
        }
    }
}

/// A file that is written.
pub struct Writer {
    path: PathBuf,
    out: Mutex<BufWriter<File>>,
}

impl Writer {
    /// Starts the file anew.
    pub fn create(path: &Path, bench: &Bench) -> Done<Self> {
        let fail = |error: std::io::Error| Fail::file(path, error);
        let mut out = BufWriter::new(File::create(path).map_err(fail)?);
        let header =
            serde_json::to_string(&Header::of(bench)).map_err(|error| Fail::file(path, error))?;
        writeln!(out, "{header}").map_err(fail)?;
        Ok(Self { path: path.to_path_buf(), out: Mutex::new(out) })
    }

    /// Adds requests.
    pub fn append(&self, requests: &[Ready]) -> Done {
        let mut out =
            self.out.lock().map_err(|_| Fail::new("file", "a writing thread panicked"))?;
        for request in requests {
            let numbers =
                [request.payments, request.transactions as u64, request.bytes.len() as u64];
            let mut head = Vec::with_capacity(12);
            for number in numbers {
                let number = u32::try_from(number).map_err(|e| Fail::file(&self.path, e))?;
                head.extend_from_slice(&number.to_le_bytes());
            }
            out.write_all(&head)
                .and_then(|()| out.write_all(&request.bytes))
                .map_err(|error| Fail::file(&self.path, error))?;
        }
        Ok(())
    }

    /// Marks the file as whole.
    pub fn finish(self) -> Done {
        let fail = |error: std::io::Error| Fail::file(&self.path, error);
        let out = self.out.into_inner();
        let mut out = out.map_err(|_| Fail::new("file", "a writing thread panicked"))?;
        out.write_all(&END.to_le_bytes()).and_then(|()| out.flush()).map_err(fail)
    }
}

struct Place {
    offset: u64,
    length: usize,
    transactions: usize,
    payments: u64,
}

/// A whole file, read request by request.
pub struct PaymentFile {
    path: PathBuf,
    file: File,
    places: Vec<Place>,
}

/// The file changed under us.
pub fn damaged(path: &Path) -> Fail {
    Fail::file(path, "not the payments that were written; remove the file and run again")
}

impl PaymentFile {
    /// Opens the payments when they are whole, for this experiment, and valid for a while;
    /// otherwise `None`.
    pub fn open(path: &Path, bench: &Bench) -> Done<Option<Self>> {
        let file = match File::open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|error| Fail::file(path, error))?,
        };
        let mut reader = BufReader::new(&file);
        let mut line = String::new();
        let read = (&mut reader).take(4_096).read_line(&mut line);
        let Ok(header) = serde_json::from_str::<Header>(&line) else {
            return if read.is_ok_and(|read| read == 0) {
                Ok(None)
            } else {
                Err(Fail::file(path, "it exists and is no file of payments; it is not overwritten")
                    .next("choose another --file"))
            };
        };
        let wanted = Header { valid_until_ms: header.valid_until_ms, ..Header::of(bench) };
        if header != wanted || header.valid_until_ms < now_ms().saturating_add(LEFT_MS_MIN) {
            return Ok(None);
        }
        let Ok(Some(places)) = read_places(&mut reader, line.len() as u64) else { return Ok(None) };
        drop(reader);
        Ok(Some(Self { path: path.to_path_buf(), file, places }))
    }
}

/// `None` when the file ends before its end mark.
fn read_places(
    reader: &mut BufReader<&File>,
    mut offset: u64,
) -> std::io::Result<Option<Vec<Place>>> {
    let mut places = Vec::new();
    let next = |reader: &mut BufReader<&File>| -> std::io::Result<u32> {
        let mut number = [0u8; 4];
        reader.read_exact(&mut number)?;
        Ok(u32::from_le_bytes(number))
    };
    loop {
        let payments = next(reader)?;
        if payments == END {
            return Ok(Some(places));
        }
        let (transactions, length) = (next(reader)? as usize, next(reader)?);
        offset += 12;
        let payments = u64::from(payments);
        places.push(Place { offset, length: length as usize, transactions, payments });
        offset += u64::from(length);
        if reader.seek(SeekFrom::Start(offset)).is_err() {
            return Ok(None);
        }
    }
}

impl Source for PaymentFile {
    fn request(&self, position: usize) -> Done<Option<Request<'_>>> {
        let Some(place) = self.places.get(position) else { return Ok(None) };
        let mut bytes = vec![0u8; place.length];
        self.file
            .read_exact_at(&mut bytes, place.offset)
            .map_err(|error| Fail::file(&self.path, error))?;
        Ok(Some(Request {
            bytes: Cow::Owned(bytes),
            transactions: place.transactions,
            payments: place.payments,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::accounts::{self, Shape};

    #[test]
    fn payments_come_back_as_they_were_kept() {
        let shape =
            Shape { accounts: 3_000, payments: 3_000, legs: None, frame: 500, receivers: 2 };
        let operator = accounts::operator().expect("key");
        let genesis = accounts::plan(&operator).expect("plan").genesis().expect("genesis");
        let bench = Bench::new(&genesis, operator, &shape).expect("bench");
        let directory = tempfile::tempdir().expect("temp dir");
        let path = directory.path().join("payments");
        assert!(PaymentFile::open(&path, &bench).expect("absent").is_none());
        let writer = Writer::create(&path, &bench).expect("created");
        let requests = bench.chunk(0, true).expect("made").payments;
        writer.append(&requests).expect("written");
        writer.out.lock().expect("lock").flush().expect("flushed");
        assert!(PaymentFile::open(&path, &bench).expect("cut").is_none(), "without its end mark");
        writer.finish().expect("finished");
        let kept = PaymentFile::open(&path, &bench).expect("read").expect("whole");
        for (position, request) in requests.iter().enumerate() {
            let back = kept.request(position).expect("read").expect("there");
            assert_eq!(back.bytes.as_ref(), request.bytes);
            assert_eq!(back.payments, request.payments);
        }
        assert!(kept.request(requests.len()).expect("read").is_none());
        std::fs::write(&path, "my thesis").expect("written");
        assert!(PaymentFile::open(&path, &bench).is_err(), "not overwritten");
    }
}
