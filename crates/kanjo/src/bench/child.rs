//! The node under test: a process of its own, this program run as `kanjo node`.

use crate::fail::{Done, Fail};
use serde::Deserialize;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{self, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for the node to stop: it copies the whole state to disk.
const STOP_MAX: Duration = Duration::from_secs(900);

/// A running node process. It stops when this process ends, however that comes about.
pub struct Child {
    process: process::Child,
    api: String,
}

#[derive(Deserialize)]
struct Announced {
    api: String,
}

impl Child {
    /// Starts a node on a data directory, on a free loopback port.
    pub fn start(data: &Path) -> Done<Self> {
        let fail =
            |error: std::io::Error| Fail::new("child", format!("can't start a node: {error}"));
        let program = std::env::current_exe().map_err(fail)?;
        let mut process = Command::new(program)
            .args(["node", "--json", "--stop-with-stdin", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(fail)?;
        let mut line = String::new();
        if let Some(out) = process.stdout.as_mut() {
            BufReader::new(out).read_line(&mut line).map_err(fail)?;
        }
        match serde_json::from_str::<Announced>(&line) {
            Ok(announced) => Ok(Self { process, api: announced.api }),
            Err(_) => {
                // It may have ended by itself already.
                let _ = process.kill();
                let _ = process.wait();
                Err(Fail::new("child", format!("the node did not start: {}", line.trim())))
            }
        }
    }

    /// Address of its API.
    pub fn api(&self) -> &str {
        &self.api
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Stops it cleanly.
    pub fn stop(mut self) -> Done {
        drop(self.process.stdin.take());
        let start = Instant::now();
        while start.elapsed() < STOP_MAX {
            match self.process.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => {
                    return Err(Fail::new("child", format!("the node ended with {status}")));
                }
                Ok(None) => std::thread::sleep(Duration::from_millis(20)),
                Err(error) => return Err(Fail::new("child", error)),
            }
        }
        Err(Fail::new("child", "the node did not stop within 15 minutes"))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            // After a clean stop it is gone; here something failed, and its data is temporary.
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}
