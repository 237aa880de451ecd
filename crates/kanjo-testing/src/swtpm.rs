//! A TPM simulator of one's own.

use crate::free_port;
use std::io;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A TPM simulator with its state in a directory; killed when dropped.
#[derive(Debug)]
pub struct Swtpm {
    child: Child,
    /// `swtpm:HOST:PORT:CONTROL_PORT`, as Kanjo's programs take it.
    pub address: String,
}

impl Swtpm {
    /// Starts one, with its state in a directory that is there.
    ///
    /// # Errors
    /// When it is not installed, or does not start.
    pub fn start(state: &Path) -> io::Result<Self> {
        // Another process may take a free port before it does: then with others.
        for _ in 0..10 {
            if let Some(running) = Self::start_once(state)? {
                return Ok(running);
            }
        }
        Err(io::Error::other("swtpm did not start"))
    }

    fn start_once(state: &Path) -> io::Result<Option<Self>> {
        let (data, control) = (free_port(), free_port());
        let mut command = Command::new("swtpm");
        command.args(["socket", "--tpm2", "--tpmstate"]);
        command.arg(format!("dir={}", state.display()));
        command.args(["--server", &format!("type=tcp,bindaddr=127.0.0.1,port={data}")]);
        command.args(["--ctrl", &format!("type=tcp,bindaddr=127.0.0.1,port={control}")]);
        let child =
            command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().map_err(|error| {
                let needed = "swtpm is needed on PATH: apt-get install swtpm (cargo xtask does it)";
                io::Error::new(error.kind(), format!("{needed}: {error}"))
            })?;
        let mut running = Self { child, address: format!("swtpm:127.0.0.1:{data}:{control}") };
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(10) && running.child.try_wait()?.is_none() {
            // Not the data port: it takes one connection there, and would take this one.
            if TcpStream::connect((Ipv4Addr::LOCALHOST, control)).is_ok() {
                return Ok(Some(running));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(None)
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
