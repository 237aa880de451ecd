//! The sentinel's command line: `init`, `run`, `status`. The work is in the library.
#![forbid(unsafe_code)]

use clap::{Args, Parser, Subcommand, ValueEnum};
use kanjo_sentinel::attestor::{AttestorKind, tpm2};
use kanjo_sentinel::directory::{self, AttestorSettings, Settings};
use kanjo_sentinel::service::{Handle, Options, Service};
use kanjo_sentinel::tpm::quote::parse_registers;
use rustix::process::DumpableBehavior;
use std::error::Error;
use std::fs;
use std::io::{Read, Write};
use std::num::NonZeroU64;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

const EXAMPLES: &str = "\
Examples:
  kanjo-sentinel init --dir /var/lib/kanjo/sentinel
  kanjo-sentinel init --dir S --attestor tpm2 --tpm device:/dev/tpmrm0 --pcrs 0,2,4,7
  kanjo-sentinel run --dir S --socket /run/kanjo/sentinel.sock --node-key 8520f0…4e6a
  kanjo-sentinel status --dir S --json

Exit codes: 0 done, 1 refused or failed, 2 typed wrongly.";

/// The process beside a node that holds its vote key, measures it, and never signs two histories.
#[derive(Parser)]
#[command(name = "kanjo-sentinel", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a sentinel: its keys, its guard, its attestor; prints what the node has to know.
    #[command(after_help = EXAMPLES)]
    Init(Init),
    /// Sign for the node, until SIGTERM or Ctrl-C.
    #[command(after_help = EXAMPLES)]
    Run(Run),
    /// Show how a sentinel stands, running or not.
    #[command(after_help = EXAMPLES)]
    Status(Status),
}

#[derive(Args)]
struct Init {
    /// Its directory, made with mode 0700.
    #[arg(long)]
    dir: PathBuf,
    /// What counts and vouches for it.
    #[arg(long, value_enum, default_value_t = Kind::Software)]
    attestor: Kind,
    /// Directory of the software attestor; best where backups of DIR don't reach.
    /// [default: DIR/attestor]
    #[arg(long)]
    attestor_dir: Option<PathBuf>,
    /// The TPM: swtpm:HOST:PORT[:CONTROL_PORT] or device:PATH.
    #[arg(long, default_value = "device:/dev/tpmrm0")]
    tpm: String,
    /// NV index of the TPM's counter.
    #[arg(long, default_value_t = tpm2::COUNTER_INDEX)]
    counter_index: u32,
    /// Registers that are quoted.
    #[arg(long, default_value = "0,2,4,7")]
    pcrs: String,
    /// Make the count durable at the latest after so many signed heights [default: 64 (software),
    /// 256 (tpm2)]. With more than 1, an old copy of DIR may be younger than the last durable count
    /// and go unnoticed: with software after a power cut, with tpm2 after a kill.
    #[arg(long)]
    epoch_heights: Option<NonZeroU64>,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Run {
    /// Its directory.
    #[arg(long)]
    dir: PathBuf,
    /// Where the node connects; its directory must be closed to others (0700, or 0750 with a
    /// group)
    #[arg(long)]
    socket: PathBuf,
    /// The node's link key, 64 hexadecimal digits: nobody else is answered.
    #[arg(long, value_parser = parse_key)]
    node_key: [u8; 32],
    /// Where the TPM is now, if elsewhere than at init.
    #[arg(long)]
    tpm: Option<String>,
    /// Read the node's program again at least so often, in seconds.
    #[arg(long, default_value_t = 60)]
    measure_every_s: u64,
    /// Stop when standard input ends: for programs that run a sentinel of their own.
    #[arg(long, hide = true)]
    stop_with_stdin: bool,
}

#[derive(Args)]
struct Status {
    /// Its directory.
    #[arg(long)]
    dir: PathBuf,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Software,
    Tpm2,
}

type Done = Result<(), Box<dyn Error>>;

fn parse_key(text: &str) -> Result<[u8; 32], String> {
    let mut key = [0; 32];
    hex::decode_to_slice(text.trim(), &mut key).map_err(|_| "64 hexadecimal digits".to_owned())?;
    Ok(key)
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Init(args) => init(&args),
        Command::Run(args) => run(args),
        Command::Status(args) => status(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn say(text: &str) -> Done {
    writeln!(std::io::stdout(), "{text}")?;
    Ok(())
}

fn init(args: &Init) -> Done {
    let (attestor, kind) = match args.attestor {
        Kind::Software => {
            let dir = match &args.attestor_dir {
                Some(dir) => std::path::absolute(dir)?,
                None => {
                    eprintln!(
                        "note: a backup of the whole directory, put back, would go unnoticed"
                    );
                    eprintln!("  next: keep the attestor elsewhere with --attestor-dir");
                    PathBuf::from("attestor")
                }
            };
            (AttestorSettings::Software { dir }, AttestorKind::Software)
        }
        Kind::Tpm2 => {
            let (tpm, counter_index) = (args.tpm.clone(), args.counter_index);
            let registers = parse_registers(&args.pcrs)?;
            (AttestorSettings::Tpm2 { tpm, counter_index, registers }, AttestorKind::Tpm2)
        }
    };
    let default = NonZeroU64::new(kind.default_epoch_heights()).unwrap_or(NonZeroU64::MIN);
    let epoch_heights = args.epoch_heights.unwrap_or(default);
    let made = directory::init(&args.dir, &Settings { attestor, epoch_heights })?;
    if args.json {
        return say(&serde_json::to_string_pretty(&made)?);
    }
    say(&format!("vote key         {}", hex::encode(made.vote_key)))?;
    say(&format!("channel key      {}", hex::encode(made.channel_key)))?;
    say(&format!("attestor         {}", made.attestor.name()))?;
    say(&format!("attestation key  {}", made.attestation_key))?;
    made.pcrs
        .iter()
        .try_for_each(|(register, value)| say(&format!("register {register:2}      {value}")))
}

fn run(args: Run) -> Done {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    // Not to be debugged or dumped by another process of the same user: it holds the vote key.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let opened = directory::open(&args.dir, args.tpm.as_deref())?;
    if let AttestorSettings::Software { .. } = opened.settings.attestor {
        warn!("the software attestor proves nothing against whoever owns this machine");
    }
    let epoch_heights = opened.settings.epoch_heights;
    if epoch_heights > NonZeroU64::MIN {
        info!(%epoch_heights, "an old copy younger than the last durable count may go unnoticed");
    }
    let options = Options {
        socket: args.socket.clone(),
        node_key: args.node_key,
        measure_every: Duration::from_secs(args.measure_every_s),
    };
    let service = Service::bind(options, opened.signing, opened.channel_key)?;
    stop_on_signal(service.handle())?;
    if args.stop_with_stdin {
        stop_with_stdin(service.handle());
    }
    answer_status(&args.dir, service.handle())?;
    let stands = service.handle().status().sentinel;
    info!(socket = %args.socket.display(), count = stands.count, "ready");
    let done = service.run();
    let _ = fs::remove_file(directory::status_socket(&args.dir));
    done?;
    info!("stopped");
    Ok(())
}

fn stop_on_signal(handle: Handle) -> Done {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = runtime.block_on(async {
        let interrupt = signal(SignalKind::interrupt())?;
        std::io::Result::Ok((interrupt, signal(SignalKind::terminate())?))
    })?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        info!("stopping");
        handle.stop();
    });
    Ok(())
}

fn stop_with_stdin(handle: Handle) {
    std::thread::spawn(move || {
        let mut rest = [0u8; 64];
        while std::io::stdin().read(&mut rest).is_ok_and(|read| read > 0) {}
        info!("standard input ended");
        handle.stop();
    });
}

/// Answers on a socket in the sentinel's own directory: whoever may enter it may ask.
fn answer_status(dir: &Path, handle: Handle) -> Done {
    let path = directory::status_socket(dir);
    if path.exists() {
        // The lock of the guard says that no other sentinel runs here.
        fs::remove_file(&path)?;
    }
    let listener = UnixListener::bind(&path)?;
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else {
                std::thread::sleep(Duration::from_millis(100));
                continue;
            };
            // Whoever asks and doesn't read waits for nobody.
            let _ = stream.set_write_timeout(Some(Duration::from_secs(1)));
            let text = serde_json::to_string_pretty(&handle.status()).unwrap_or_default();
            let _ = stream.write_all(text.as_bytes());
        }
    });
    Ok(())
}

fn status(args: &Status) -> Done {
    const ANSWER_MAX: u64 = 64 << 10;
    let running = UnixStream::connect(directory::status_socket(&args.dir)).and_then(|stream| {
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut text = String::new();
        stream.take(ANSWER_MAX).read_to_string(&mut text)?;
        Ok(text)
    });
    let mut value = match &running {
        Ok(text) => serde_json::from_str::<serde_json::Value>(text)?,
        Err(_) => serde_json::to_value(directory::at_rest(&args.dir)?)?,
    };
    if let Some(fields) = value.as_object_mut() {
        fields.insert("running".to_owned(), running.is_ok().into());
    }
    if args.json {
        return say(&serde_json::to_string_pretty(&value)?);
    }
    let fields = value.as_object().into_iter().flatten();
    for (name, value) in fields {
        let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        say(&format!("{:17}{shown}", name.replace('_', " ")))?;
    }
    Ok(())
}
