//! The project's verbs, the same by hand and in continuous integration: `cargo xtask <verb>`.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

const HELP: &str = "\
cargo xtask <verb>

  test          everything a change must pass: format, lints, docs, all tests, the demo
  fmt           format the code
  lint          format check, line lengths and clippy
  docs          build the documentation, warnings are errors
  unit          all tests except the crash test
  crash [N]     kill a node N times under load and check what is left (default 200)
  fuzz [SECS]   a longer bounded run of every decoder against mutated input (default 60)
  sim [ARGS]    simulated clusters: --seeds N [--seed S] [--json] (default 300 seeds)
  chaos [ARGS]  faults on real processes under load: --minutes N [--nodes 3] [--witnesses 1] [--seed S]
                [--faults kill,partition,disk,sentinel] [--json] (default 10 minutes)
  demo          the main job end to end, its figures checked
  bench [ARGS]  kanjo bench, in the release profile (default: emoney, 1,000,000 accounts)
  vectors       write the fixed test vectors anew

Tests need Rust, a C compiler, swtpm (a TPM simulator) and psql, which are installed with apt-get when
they are missing; everything runs on loopback.
";

type Step = Result<(), String>;

fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    command.args(arguments);
    // What cargo says of this program: build scripts that look at it would run again, and what
    // depends on them be compiled again, as often as somebody calls cargo by hand in between.
    let own = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in env::vars().filter(|(name, _)| own(name)) {
        command.env_remove(name);
    }
    command
}

fn run(command: &mut Command) -> Step {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let shown = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    eprintln!("\n▸ {shown}");
    let started = Instant::now();
    match command.status() {
        Ok(status) if status.success() => {
            eprintln!("  done in {} s", started.elapsed().as_secs());
            Ok(())
        }
        Ok(status) => Err(format!("{shown}: {status}")),
        Err(error) => Err(format!("{shown}: {error}")),
    }
}

/// Longest comment line, and longest line of code: the formatter leaves long texts alone.
const COMMENT_MAX: usize = 100;
const CODE_MAX: usize = 140;

fn long_lines(dir: &Path, found: &mut Vec<String>) -> Result<(), std::io::Error> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            long_lines(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path)?;
            for (number, line) in (1..).zip(text.lines()) {
                let comment = line.trim_start().starts_with("//");
                let max = if comment { COMMENT_MAX } else { CODE_MAX };
                if line.chars().count() > max {
                    found.push(format!("{}:{number}: longer than {max} columns", path.display()));
                }
            }
        }
    }
    Ok(())
}

fn lint() -> Step {
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    let mut found = Vec::new();
    for dir in ["crates", "xtask"] {
        long_lines(Path::new(dir), &mut found).map_err(|error| format!("{dir}: {error}"))?;
    }
    if !found.is_empty() {
        return Err(found.join("\n"));
    }
    let clippy = ["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"];
    run(&mut cargo(&clippy))
}

fn docs() -> Step {
    let mut command = cargo(&["doc", "--release", "--workspace", "--no-deps", "--quiet"]);
    run(command.env("RUSTDOCFLAGS", "-D warnings"))
}

/// Programs that tests start, and the Debian packages that bring them.
const TEST_PROGRAMS: [(&str, &str); 2] = [("swtpm", "swtpm"), ("psql", "postgresql-client")];

fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// Installs what tests need and this machine lacks.
fn test_programs() -> Step {
    for (program, package) in TEST_PROGRAMS {
        if is_installed(program) {
            continue;
        }
        let missing = |why: String| {
            format!("tests need {program}: install the package {package} and try again ({why})")
        };
        // Without lists of packages nothing is found; with old ones it mostly is.
        let install = ["install", "--yes", "--no-install-recommends", package];
        let apt = |arguments: &[&str]| run(Command::new("apt-get").args(arguments));
        apt(&install)
            .or_else(|_| apt(&["update"]).and_then(|()| apt(&install)))
            .map_err(missing)?;
    }
    Ok(())
}

/// Seeds of the simulator in a full test.
const SIM_SEEDS: &str = "240";

fn unit() -> Step {
    test_programs()?;
    run(cargo(&["test", "--release", "--workspace"]).env("KANJO_SIM_SEEDS", SIM_SEEDS))
}

fn crash(rounds: &str) -> Step {
    let arguments =
        ["test", "--release", "--workspace", "--test", "crash", "--", "--ignored", "--nocapture"];
    run(cargo(&arguments).env("KANJO_CRASH_ROUNDS", rounds))
}

fn sim(arguments: &[String]) -> Step {
    let mut command = cargo(&["run", "--release", "--quiet", "--package", "kanjo-sim", "--"]);
    if arguments.is_empty() {
        command.args(["--seeds", "300"]);
    }
    run(command.args(arguments))
}

fn chaos(arguments: &[String]) -> Step {
    run(&mut cargo(&["build", "--release", "--workspace", "--bins"]))?;
    // It finds the programs that it starts beside itself.
    let own = env::current_exe().map_err(|error| error.to_string())?;
    let target = own.ancestors().nth(2).ok_or("this program lies in no target directory")?;
    run(Command::new(target.join("release/kanjo-chaos")).args(arguments))
}

fn fuzz(seconds: &str) -> Step {
    let arguments = ["test", "--release", "--package", "kanjo-fuzz", "--", "--nocapture"];
    run(cargo(&arguments).env("KANJO_FUZZ_SECONDS", seconds))
}

/// Runs the demo for machines and checks that it says what a user relies on.
fn demo() -> Step {
    let mut command = cargo(&["run", "--release", "--quiet", "--", "demo", "--json"]);
    eprintln!("\n▸ {command:?}");
    let output = command.output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    eprintln!("{text}");
    if !output.status.success() {
        return Err(format!(
            "demo: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    let squeezed: String = text.split_whitespace().collect();
    for wanted in [
        "\"payments\":100000",
        "\"proof_ok\":true",
        "\"tamper_detected\":true",
        "\"supply_ok\":true",
        "\"freeze_ok\":true",
        "\"reversal_ok\":true",
        "\"bundle_ok\":true",
    ] {
        if !squeezed.contains(wanted) {
            return Err(format!("demo: its answer lacks {wanted}"));
        }
    }
    Ok(())
}

fn bench(arguments: &[String]) -> Step {
    let mut command = cargo(&["run", "--release", "--quiet", "--", "bench"]);
    if arguments.is_empty() {
        command.args(["emoney", "--accounts", "1000000", "--payments", "1000000"]);
    }
    run(command.args(arguments))
}

fn vectors() -> Step {
    let arguments =
        ["test", "--release", "--package", "kanjo-types", "--", "--ignored", "remake_vectors"];
    run(&mut cargo(&arguments))
}

fn test() -> Step {
    lint()?;
    docs()?;
    unit()?;
    crash("200")?;
    demo()
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let word = |position: usize, default: &'static str| {
        arguments.get(position).map_or(default, String::as_str)
    };
    let outcome = match word(0, "help") {
        "test" => test(),
        "fmt" => run(&mut cargo(&["fmt", "--all"])),
        "lint" => lint(),
        "docs" => docs(),
        "unit" => unit(),
        "crash" => crash(word(1, "200")),
        "fuzz" => fuzz(word(1, "60")),
        "sim" => sim(arguments.get(1..).unwrap_or_default()),
        "chaos" => chaos(arguments.get(1..).unwrap_or_default()),
        "demo" => demo(),
        "bench" => bench(arguments.get(1..).unwrap_or_default()),
        "vectors" => vectors(),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(())
        }
        other => Err(format!("there is no verb '{other}'\n\n{HELP}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("\n✗ {reason}");
            ExitCode::FAILURE
        }
    }
}
