//! What runs at the other end of the socket: SHA-256 of the program file of the process that
//! connected.
//!
//! The kernel says which process that is (`SO_PEERCRED`) and opens its program file
//! (`/proc/PID/exe`), also when another file has its path by now. What this doesn't see: memory
//! changed by a debugger, libraries loaded from elsewhere, a process that inherited the socket. It
//! measures a file, and trusts the kernel (`docs/integrity.md`).
//!
//! # Invariants
//! - A measurement belongs to one process (number and time of start) and one file (device, number,
//!   size, times); when any of them changes, the program is read again or the process refused.

use kanjo_types::Hash;
use sha2::{Digest, Sha256};
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const READ_BYTES: usize = 256 << 10;
/// Most bytes of a program.
pub const PROGRAM_MAX: u64 = 2 << 30;
/// Where the time of start stands in `/proc/PID/stat`, counted from the end of the name.
const START_FIELD: usize = 19;

/// A program that can't be measured.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// The kernel doesn't say, or the process is in another namespace.
    #[error("the system does not say which process connected")]
    UnknownProcess,
    /// Not readable.
    #[error("/proc/{pid}/{what} can't be read: {source}")]
    Unreadable {
        /// The process.
        pid: i32,
        /// Which file.
        what: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// Too long to be a program.
    #[error("the program of process {pid} has {bytes} bytes; at most {PROGRAM_MAX} are read")]
    TooLong {
        /// The process.
        pid: i32,
        /// Its length.
        bytes: u64,
    },
    /// The process that connected has ended.
    #[error("process {0} is no longer the one that connected")]
    Replaced(i32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileIdentity {
    device: u64,
    number: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileIdentity {
    fn of(about: &Metadata) -> Self {
        Self {
            device: about.dev(),
            number: about.ino(),
            size: about.size(),
            modified: (about.mtime(), about.mtime_nsec()),
            changed: (about.ctime(), about.ctime_nsec()),
        }
    }
}

/// The measured program of one process.
#[derive(Debug)]
pub struct Measured {
    pid: i32,
    started: String,
    file: FileIdentity,
    program: Hash,
    read_at: Instant,
    /// The file is being read again, on a thread of its own: votes don't wait for that.
    reading: Option<Receiver<ReadProgram>>,
}

impl Measured {
    /// Measures the process at the other end of a Unix socket.
    ///
    /// # Errors
    /// [`MeasureError`].
    pub fn peer(socket: impl AsFd) -> Result<Self, MeasureError> {
        let peer = rustix::net::sockopt::socket_peercred(socket);
        let pid = peer.map_err(|_| MeasureError::UnknownProcess)?.pid.as_raw_nonzero().get();
        if pid > 0 { Self::process(pid) } else { Err(MeasureError::UnknownProcess) }
    }

    /// Measures a process.
    ///
    /// # Errors
    /// [`MeasureError`].
    pub fn process(pid: i32) -> Result<Self, MeasureError> {
        let started = started(pid)?;
        let (file, program) = read_program(pid)?;
        let read_at = Instant::now();
        let measured = Self { pid, started, file, program, read_at, reading: None };
        measured.check_process()?;
        Ok(measured)
    }

    /// The process.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// SHA-256 of the program; read anew at once when the file has changed, and beside that each
    /// time `every` has passed, for what changes a file and leaves no trace. Such a read takes as
    /// long as it takes, and counts from the first question after it; with zero it is waited for.
    ///
    /// # Errors
    /// [`MeasureError`].
    pub fn program(&mut self, every: Duration) -> Result<Hash, MeasureError> {
        self.check_process()?;
        let what = "exe";
        let unreadable = |source| MeasureError::Unreadable { pid: self.pid, what, source };
        let about = fs::metadata(format!("/proc/{}/exe", self.pid)).map_err(unreadable)?;
        let age = self.read_at.elapsed();
        if FileIdentity::of(&about) != self.file || every.is_zero() || age / 2 >= every {
            let read = read_program(self.pid);
            self.take(read)?;
        } else if let Some(read) = self.reading.as_ref().and_then(|reading| reading.try_recv().ok())
        {
            self.take(read)?;
        } else if age >= every && self.reading.is_none() {
            let (done, reading) = channel();
            let pid = self.pid;
            // Where no thread is to be had, it is read in the foreground after a while.
            let read = move || drop(done.send(read_program(pid)));
            if std::thread::Builder::new().name("measure".to_owned()).spawn(read).is_ok() {
                self.reading = Some(reading);
            }
        }
        Ok(self.program)
    }

    fn take(&mut self, read: ReadProgram) -> Result<(), MeasureError> {
        self.reading = None;
        (self.file, self.program) = read?;
        self.read_at = Instant::now();
        self.check_process()
    }

    fn check_process(&self) -> Result<(), MeasureError> {
        if started(self.pid).is_ok_and(|started| started == self.started) {
            Ok(())
        } else {
            Err(MeasureError::Replaced(self.pid))
        }
    }
}

/// When the process started, in ticks since the machine did.
fn started(pid: i32) -> Result<String, MeasureError> {
    let unreadable = |source| MeasureError::Unreadable { pid, what: "stat", source };
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).map_err(unreadable)?;
    // The name stands in parentheses and may hold anything, also parentheses.
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest);
    let start = fields.and_then(|fields| fields.split_whitespace().nth(START_FIELD));
    start.map(str::to_owned).ok_or_else(|| unreadable(io::ErrorKind::InvalidData.into()))
}

type ReadProgram = Result<(FileIdentity, Hash), MeasureError>;

fn read_program(pid: i32) -> ReadProgram {
    let unreadable = |source| MeasureError::Unreadable { pid, what: "exe", source };
    let file = File::open(format!("/proc/{pid}/exe")).map_err(unreadable)?;
    let about = file.metadata().map_err(unreadable)?;
    if about.len() > PROGRAM_MAX {
        return Err(MeasureError::TooLong { pid, bytes: about.len() });
    }
    let identity = FileIdentity::of(&about);
    Ok((identity, digest(file.take(PROGRAM_MAX)).map_err(unreadable)?))
}

fn digest(mut content: impl Read) -> io::Result<Hash> {
    let mut hasher = Sha256::new();
    let mut piece = vec![0; READ_BYTES];
    loop {
        match content.read(&mut piece) {
            Ok(0) => return Ok(Hash(hasher.finalize().into())),
            Ok(count) => hasher.update(piece.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// SHA-256 of a program file, as a measurement has it.
///
/// # Errors
/// When it can't be read.
pub fn program_hash(path: &std::path::Path) -> io::Result<Hash> {
    digest(File::open(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;
    use std::process::{Command, Stdio};

    #[test]
    fn the_peer_of_a_socket_is_measured_by_its_program_file() {
        let (here, _there) = UnixStream::pair().unwrap();
        let mut measured = Measured::peer(&here).unwrap();
        let own = program_hash(&std::env::current_exe().unwrap()).unwrap();
        assert_eq!(measured.pid(), i32::try_from(std::process::id()).unwrap());
        assert_eq!(measured.program(Duration::from_secs(60)).unwrap(), own);
        assert_eq!(measured.program(Duration::ZERO).unwrap(), own, "read again");
        let before = measured.read_at;
        std::thread::sleep(Duration::from_millis(3));
        assert_eq!(measured.program(Duration::from_millis(2)).unwrap(), own);
        while measured.read_at == before {
            assert_eq!(measured.program(Duration::from_secs(3_600)).unwrap(), own);
        }
    }

    #[test]
    fn another_program_has_another_measurement_and_an_ended_process_none() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("node");
        fs::copy("/bin/sleep", &program).unwrap();
        let mut child = Command::new(&program).arg("60").stdin(Stdio::null()).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        // Between fork and exec the child still has the parent's program.
        let own = program_hash(&std::env::current_exe().unwrap()).unwrap();
        let mut measured = Measured::process(pid).unwrap();
        for _ in 0..200 {
            if measured.program(Duration::ZERO).unwrap() != own {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let old = program_hash(&program).unwrap();
        assert_eq!(measured.program(Duration::from_secs(60)).unwrap(), old);
        // A new file at the same path is not what runs.
        fs::remove_file(&program).unwrap();
        fs::copy("/bin/true", &program).unwrap();
        assert_eq!(measured.program(Duration::ZERO).unwrap(), old);
        child.kill().unwrap();
        child.wait().unwrap();
        let ended = measured.program(Duration::from_secs(60)).unwrap_err();
        assert!(matches!(ended, MeasureError::Replaced(_)), "{ended}");
    }
}
