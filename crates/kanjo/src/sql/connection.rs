//! A connection to a server of the PostgreSQL wire, and statements over it.

use super::output::{Column, Form, Printer, Row, printer};
use super::report::Report;
use crate::fail::{Done, EXIT_USAGE, Fail};
use futures_util::StreamExt as _;
use std::io::{self, Write};
use std::pin::pin;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

/// Where `kanjo dev` serves SQL.
pub const URL_DEFAULT: &str = "postgresql://127.0.0.1:5433/kanjo";
/// Name of the database, and of the user where there is no other.
const NAME_DEFAULT: &str = "kanjo";
/// Longest wait for a connection, its first answers included.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Longest wait for a request to cancel to be taken.
const CANCEL_MAX: Duration = Duration::from_secs(2);
/// Exit code after Ctrl-C, as shells have it.
const EXIT_INTERRUPTED: i32 = 130;

/// What to connect to.
pub struct Target {
    config: Config,
    /// For people.
    pub address: String,
    /// For people.
    pub database: String,
}

impl Target {
    /// The target that a URL, or only an address, names; user and database go before those in it.
    pub fn new(url: &str, user: Option<&str>, database: Option<&str>) -> Done<Self> {
        let is_address = !url.contains("://") && !url.contains('=');
        let text = if is_address { format!("postgresql://{url}") } else { url.to_owned() };
        let mut config: Config = text.parse().map_err(|error: tokio_postgres::Error| {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
            let cause = cause.unwrap_or_default();
            let message = format!("'{url}' is no address of a PostgreSQL server{cause}");
            Fail { exit: EXIT_USAGE, ..Fail::new("bad_url", message) }
                .next(format!("write it as {URL_DEFAULT}"))
        })?;
        if url.starts_with("http") || config.get_ssl_mode() == SslMode::Require {
            return Err(unfit(url, &config));
        }
        if let Some(user) = user {
            config.user(user);
        } else if config.get_user().is_none() {
            config.user(std::env::var("USER").unwrap_or_else(|_| NAME_DEFAULT.to_owned()));
        }
        if let Some(database) = database {
            config.dbname(database);
        } else if config.get_dbname().is_none() {
            config.dbname(NAME_DEFAULT);
        }
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            config.host("127.0.0.1");
        }
        config.application_name("kanjo sql");
        let address = address(&config);
        let database = config.get_dbname().unwrap_or_default().to_owned();
        Ok(Self { config, address, database })
    }

    fn not_connected(&self, error: &tokio_postgres::Error) -> Fail {
        let address = &self.address;
        if let Some(answer) = error.as_db_error() {
            let fail = Fail::new(answer.code().code(), answer.message());
            return match answer.hint() {
                Some(hint) => fail.next(hint),
                None => fail,
            };
        }
        let mut cause: Option<&dyn std::error::Error> = Some(error);
        let mut said = Vec::new();
        while let Some(error) = cause {
            let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
            if kind == Some(io::ErrorKind::ConnectionRefused) {
                return Fail::new("unreachable", format!("nobody listens at {address}"))
                    .next(start_one());
            }
            said.push(error.to_string());
            cause = error.source();
        }
        let said = said.join(": ");
        if said.starts_with("error connecting") {
            return Fail::new("unreachable", format!("{address}: {said}"))
                .next(format!("check the address; {}", start_one()));
        }
        Fail::new("bad_answer", format!("what answers at {address} does not speak SQL: {said}"))
            .next(
                "the address of SQL is another than that of the HTTP API: \
                 see what 'kanjo dev' or 'kanjo node' printed when it started",
            )
    }

    fn silent(&self) -> Fail {
        let seconds = CONNECT_MAX.as_secs();
        let message = format!("{} did not answer within {seconds} s", self.address);
        Fail::new("timeout", message).next(
            "check the address; while a node opens its ledger anew, connections wait: try again",
        )
    }
}

fn start_one() -> &'static str {
    "start a ledger with SQL: 'kanjo dev', or 'kanjo node --data DIR --sql 127.0.0.1:5433'; \
     or name another address with --url"
}

/// A URL that names what is not there.
fn unfit(url: &str, config: &Config) -> Fail {
    let fail = if config.get_ssl_mode() == SslMode::Require {
        Fail::usage("SQL has no TLS yet").next("leave 'sslmode=require' out, and keep to loopback")
    } else {
        Fail::usage(format!("'{url}' is not where SQL is")).next(format!("try {URL_DEFAULT}"))
    };
    Fail { code: "bad_url".to_owned(), ..fail }
}

fn address(config: &Config) -> String {
    let host = config.get_hosts().first().map_or_else(
        || config.get_hostaddrs().first().map(ToString::to_string).unwrap_or_default(),
        |host| match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(path) => path.display().to_string(),
        },
    );
    let port = config.get_ports().first().copied().unwrap_or(5432);
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Why a statement came to nothing.
pub enum Failure {
    /// The server refused it, or was lost.
    Statement(Box<Report>),
    /// Nobody reads what is printed any more, or the file is full.
    Output(io::Error),
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Statement(Box::new(Report::of(&error)))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// A connection.
pub struct Connection {
    runtime: Runtime,
    /// What it is connected to.
    pub target: Target,
    client: Client,
    /// Counts presses of Ctrl-C. Who waits for them runs a statement.
    presses: watch::Sender<u64>,
}

impl Connection {
    /// Connects.
    pub fn open(target: Target) -> Done<Self> {
        // Beside this thread, which may wait for what is typed, one keeps the connection going.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("kanjo-sql-client")
            .enable_all()
            .build()
            .map_err(|error| Fail::new("start", error))?;
        let client = connect(&runtime, &target)?;
        let presses = watch::Sender::new(0);
        listen_for_interrupts(&runtime, presses.clone())
            .map_err(|error| Fail::new("signals", error))?;
        Ok(Self { runtime, target, client, presses })
    }

    /// Connects again when the connection is lost; true when that was needed. Transactions and
    /// settings of the old one are gone.
    pub fn keep_open(&mut self) -> Done<bool> {
        if !self.client.is_closed() {
            return Ok(false);
        }
        self.client = connect(&self.runtime, &self.target)?;
        Ok(true)
    }

    /// Columns of a statement's result, without running it.
    pub fn columns(&self, statement: &str) -> Result<Vec<Column>, Failure> {
        self.wait(self.prepared(statement))
    }

    /// Runs one statement and prints what comes; returns how long it took.
    pub fn run(
        &self,
        statement: &str,
        form: Form,
        out: &mut dyn Write,
    ) -> Result<Duration, Failure> {
        self.wait(async {
            // Results in text have no types; what is only prepared tells them.
            let columns = self.prepared(statement).await?;
            let mut printer = printer(form, columns, out)?;
            let started = Instant::now();
            match self.print(statement, printer.as_mut()).await {
                Ok(()) => Ok(started.elapsed()),
                Err(Failure::Statement(report)) => {
                    printer.broken(&report.json())?;
                    Err(Failure::Statement(report))
                }
                Err(other) => Err(other),
            }
        })
    }

    /// All values of a short result.
    pub fn values(&self, statement: &str) -> Result<Vec<Vec<Option<String>>>, Failure> {
        let messages = self.wait(async { Ok(self.client.simple_query(statement).await?) })?;
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect())
            }
            _ => None,
        });
        Ok(rows.collect())
    }

    async fn prepared(&self, statement: &str) -> Result<Vec<Column>, Failure> {
        let prepared = self.client.prepare(statement).await?;
        let columns = prepared.columns().iter();
        let column = |of: &tokio_postgres::Column| Column {
            name: of.name().to_owned(),
            of: of.type_().clone(),
        };
        Ok(columns.map(column).collect())
    }

    async fn print(&self, statement: &str, printer: &mut dyn Printer) -> Result<(), Failure> {
        let mut messages = pin!(self.client.simple_query_raw(statement).await?);
        let mut count = 0;
        while let Some(message) = messages.next().await {
            match message? {
                SimpleQueryMessage::Row(row) => {
                    let values: Vec<Option<&str>> =
                        (0..row.len()).map(|at| row.try_get(at)).collect::<Result<_, _>>()?;
                    let row: &Row<'_> = &values;
                    printer.row(row)?;
                }
                SimpleQueryMessage::CommandComplete(rows) => count = rows,
                _ => {}
            }
        }
        Ok(printer.end(count)?)
    }

    /// Waits for a statement. Ctrl-C asks the server to cancel it; a second one does not wait.
    fn wait<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        self.runtime.block_on(async {
            let mut work = pin!(work);
            let mut presses = self.presses.subscribe();
            loop {
                tokio::select! {
                    done = &mut work => return done,
                    Ok(()) = presses.changed() => {}
                }
                let canceling = self.client.cancel_token();
                let canceling = canceling.cancel_query(NoTls);
                tokio::select! {
                    done = &mut work => return done,
                    Ok(()) = presses.changed() => std::process::exit(EXIT_INTERRUPTED),
                    _ = tokio::time::timeout(CANCEL_MAX, canceling) => {}
                }
            }
        })
    }
}

fn connect(runtime: &Runtime, target: &Target) -> Done<Client> {
    runtime.block_on(async {
        let connecting = tokio::time::timeout(CONNECT_MAX, target.config.connect(NoTls));
        let connected = connecting.await.map_err(|_| target.silent())?;
        let (client, connection) = connected.map_err(|error| target.not_connected(&error))?;
        // Its errors reach the statement that is under way, or the next one.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(client)
    })
}

/// Counts Ctrl-C; when no statement runs, it ends the process, as it would without all this.
fn listen_for_interrupts(runtime: &Runtime, presses: watch::Sender<u64>) -> io::Result<()> {
    let _inside = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt())?;
    runtime.spawn(async move {
        while interrupt.recv().await.is_some() {
            if presses.receiver_count() == 0 {
                std::process::exit(EXIT_INTERRUPTED);
            }
            presses.send_modify(|presses| *presses = presses.wrapping_add(1));
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_in_every_usual_form() {
        for (url, address, database) in [
            (URL_DEFAULT, "127.0.0.1:5433", "kanjo"),
            ("127.0.0.1:7000", "127.0.0.1:7000", "kanjo"),
            ("localhost", "localhost:5432", "kanjo"),
            ("postgres://me@example.org/mine", "example.org:5432", "mine"),
            ("host=example.org port=7 user=me dbname=mine", "example.org:7", "mine"),
        ] {
            let target = Target::new(url, None, None).unwrap_or_else(|_| panic!("{url}"));
            assert_eq!((target.address.as_str(), target.database.as_str()), (address, database));
        }
        let target = Target::new(URL_DEFAULT, Some("alice"), Some("other")).expect("an address");
        assert_eq!(target.config.get_user(), Some("alice"));
        assert_eq!(target.config.get_dbname(), Some("other"));
    }

    #[test]
    fn what_is_no_address_is_a_usage_error() {
        for url in [
            "http://127.0.0.1:8480",
            "postgresql://a:b",
            "x=y",
            &format!("{URL_DEFAULT}?sslmode=require"),
        ] {
            let fail = Target::new(url, None, None).err().unwrap_or_else(|| panic!("{url}"));
            assert_eq!((fail.exit, fail.code.as_str()), (EXIT_USAGE, "bad_url"), "{url}");
            assert!(fail.next.is_some(), "{url}");
        }
    }

    #[test]
    fn failures_to_connect_say_what_to_do() {
        let port = kanjo_testing::free_port();
        let target = Target::new(&format!("127.0.0.1:{port}"), None, None).expect("an address");
        let fail = Connection::open(target).err().expect("nobody is there");
        assert_eq!(fail.code, "unreachable");
        assert!(fail.message.contains(&port.to_string()), "{}", fail.message);
        assert!(fail.next.is_some_and(|next| next.contains("--sql")));

        // Somebody else is there, who speaks otherwise.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let other = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().expect("a client");
            socket
                .write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
                .expect("sent");
        });
        let target = Target::new(&address, None, None).expect("an address");
        let fail = Connection::open(target).err().expect("it is no SQL");
        other.join().expect("it ends");
        assert_eq!(fail.code, "bad_answer", "{}", fail.message);
    }
}
