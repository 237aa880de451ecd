//! Ctrl-C while something temporary is running: take the temporary directory away before ending.

use std::path::PathBuf;
use tokio::signal::unix::{SignalKind, signal};

/// Exit code after Ctrl-C, as shells have it.
const EXIT_INTERRUPTED: i32 = 130;

/// From now on Ctrl-C and SIGTERM remove `directory` and end the process. Without signals (which no
/// system this runs on lacks) the directory is merely left behind.
pub fn remove_on_interrupt(directory: PathBuf) {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime else { return };
        let told = runtime.block_on(async {
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut terminate = signal(SignalKind::terminate())?;
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            std::io::Result::Ok(())
        });
        if told.is_ok() {
            // The node may be writing still; what is left then is in the system's temporary
            // directory.
            let _ = std::fs::remove_dir_all(&directory);
            let _ = std::fs::remove_dir_all(&directory);
            std::process::exit(EXIT_INTERRUPTED);
        }
    });
}
