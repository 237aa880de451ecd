//! A small disk for a node: a file system in memory, in a mount namespace of its own, whose size is
//! changed while the node runs.
//!
//! ```text
//!  holder: unshare --mount (… --user where not root): mounts, then waits for its input to end
//!  node, sentinel: nsenter into the holder's namespaces
//!  full: the file system is made as small as what it holds     room: it is made large again
//! ```
//! Nothing is mounted where others see it, and all is gone with the holder.

use crate::Trouble;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Size while there is room.
const SIZE_MIB: u64 = 4_096;

/// How often it is tried to make a file system no larger than what it holds.
const FILL_TRIES: u32 = 20;

/// A file system of one node.
pub(crate) struct Room {
    holder: Child,
    dir: PathBuf,
    has_users: bool,
}

const HOLD: &str = r#"
set -e
cp -a "$1" "$1.copy"
mount -t tmpfs -o "size=$2m,mode=0700" kanjo-chaos "$1"
cp -a "$1.copy/." "$1/"
rm -rf "$1.copy"
echo ready
cat > /dev/null
"#;

impl Room {
    /// Moves `dir` to a file system of its own.
    ///
    /// # Errors
    /// This machine does not permit it; why.
    pub(crate) fn hold(dir: &Path) -> Result<Self, Trouble> {
        let is_root = rustix::process::geteuid().is_root();
        let mut command = Command::new("unshare");
        command.arg("--mount");
        if !is_root {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["sh", "-c", HOLD, "sh"]).arg(dir).arg(SIZE_MIB.to_string());
        let fail = |why: &dyn std::fmt::Display| Trouble::new("a small file system", why);
        let mut holder = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| fail(&error))?;
        let mut line = String::new();
        if let Some(out) = holder.stdout.as_mut() {
            let _ = BufReader::new(out).read_line(&mut line);
        }
        if line.trim() != "ready" {
            let _ = holder.kill();
            let said = holder.wait_with_output().map_err(|error| fail(&error))?;
            return Err(fail(&String::from_utf8_lossy(&said.stderr).trim()));
        }
        Ok(Self { holder, dir: dir.to_owned(), has_users: !is_root })
    }

    /// Has a command run where this file system is.
    pub(crate) fn within(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.holder.id().to_string(), "--mount"]);
        if self.has_users {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.arg(program);
        command
    }

    /// The disk is full from now on: what is there can be read and written over, nothing added.
    pub(crate) fn fill(&self) -> Result<(), Trouble> {
        let path = format!("/proc/{}/root{}", self.holder.id(), self.dir.display());
        let full = |error: rustix::io::Errno| Trouble::new(&path, error);
        let mut tries = 0;
        loop {
            let now = rustix::fs::statvfs(&path).map_err(full)?;
            let used = now.f_blocks.saturating_sub(now.f_bfree).saturating_mul(now.f_frsize);
            tries += 1;
            match self.resize(used) {
                // The node wrote meanwhile, so that more is there than should fit.
                Err(_) if tries < FILL_TRIES => {}
                done => return done,
            }
        }
    }

    /// There is room again.
    pub(crate) fn empty(&self) -> Result<(), Trouble> {
        self.resize(SIZE_MIB << 20)
    }

    fn resize(&self, bytes: u64) -> Result<(), Trouble> {
        let mut command = self.within(Path::new("mount"));
        command.args(["-o", &format!("remount,size={bytes}")]).arg(&self.dir);
        let done = command.output().map_err(|error| Trouble::new("mount", error))?;
        if done.status.success() {
            return Ok(());
        }
        Err(Trouble::new("mount", String::from_utf8_lossy(&done.stderr).trim()))
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
