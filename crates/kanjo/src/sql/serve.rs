//! Serving SQL beside a node.
//!
//! # Invariants
//! - The address stays this process's from the first bind on: while a member opens its ledger anew,
//!   nobody else can take it, and who connects then waits.
//! - SQL ends before its node does.

use crate::context::Context;
use crate::fail::{Done, Fail};
use crate::home::Home;
use crate::text::note;
use clap::Args;
use kanjo_client::Client;
use kanjo_node::RunningNode;
use kanjo_sql::{Limits, Role, Roles, Service, SqlServer};
use kanjo_types::signature::SecretKey;
use kanjo_types::{Access, ChainId, UserId};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

/// Where `kanjo dev` serves SQL, and `kanjo sql` looks, unless told otherwise.
pub const PORT_DEFAULT: u16 = 5433;
/// How many ports from [`PORT_DEFAULT`] on are tried before any free one is taken.
const PORTS_TRIED: u16 = 16;

/// SQL options of `kanjo node`.
#[derive(Debug, Default, Args)]
pub struct ServeArgs {
    /// Serve SQL over the PostgreSQL wire at this address; port 0 takes a free one.
    #[arg(long, value_name = "ADDR")]
    sql: Option<SocketAddr>,
    /// Allow an address for SQL that other machines reach. It has no password and no encryption.
    #[arg(long, requires = "sql", conflicts_with = "sql_role")]
    sql_allow_remote: bool,
    /// A SQL role that may change things: whoever connects as NAME acts as the user of this key,
    /// which the node keeps unlocked. KEY is a name or a path; USER is needed when the user's keys
    /// have changed since it was registered. Repeat it for several.
    #[arg(long, value_name = "NAME=KEY[@USER]", requires = "sql", value_parser = role)]
    sql_role: Vec<RoleArg>,
}

/// A role as the command line names it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct RoleArg {
    name: String,
    key: String,
    user: Option<UserId>,
}

fn role(text: &str) -> Result<RoleArg, String> {
    let form = "write NAME=KEY or NAME=KEY@USER";
    let (name, rest) = text.split_once('=').ok_or(form)?;
    let (key, user) = match rest.rsplit_once("@kju1") {
        Some((key, user)) => {
            (key, Some(format!("kju1{user}").parse().map_err(|error| format!("{error}; {form}"))?))
        }
        None => (rest, None),
    };
    if name.is_empty() || key.is_empty() {
        return Err(form.to_owned());
    }
    Ok(RoleArg { name: name.to_owned(), key: key.to_owned(), user })
}

/// A key that the node keeps for a role (mission D4).
struct Kept {
    name: String,
    user: Option<UserId>,
    key: Arc<SecretKey>,
}

/// SQL options of `kanjo dev`.
#[derive(Debug, Default, Args)]
pub struct DevServeArgs {
    #[command(flatten)]
    serve: ServeArgs,
    /// No SQL. Otherwise it is served at 127.0.0.1:5433, or the next free port.
    #[arg(long, conflicts_with = "sql")]
    no_sql: bool,
}

/// SQL options of `kanjo cluster dev`.
#[derive(Debug, Default, Args)]
pub struct ClusterServeArgs {
    /// Serve SQL at every node that executes, each at a free port.
    #[arg(long)]
    sql: bool,
}

impl ServeArgs {
    /// Takes the address, when one was given and is safe or explicitly allowed, and opens the keys
    /// of the roles.
    pub fn listen(&self, ctx: &Context) -> Done<Sql> {
        let mut sql = self.bind()?;
        for role in &self.sql_role {
            let file = ctx.key(&role.key)?;
            let key = Arc::new(ctx.unlock(&file)?);
            sql.keys.push(Kept { name: role.name.clone(), user: role.user, key });
        }
        Ok(sql)
    }

    fn bind(&self) -> Done<Sql> {
        let Some(address) = self.sql else { return Ok(Sql::default()) };
        if !address.ip().is_loopback() {
            self.check_remote(address)?;
        }
        let listener = TcpListener::bind(address).map_err(|error| {
            Fail::new("start", format!("SQL can't listen at {address}: {error}"))
                .next("choose another address: --sql 127.0.0.1:0")
        })?;
        Ok(Sql::at(listener))
    }

    fn check_remote(&self, address: SocketAddr) -> Done {
        if !self.sql_allow_remote {
            return Err(Fail::usage(format!(
                "{address} is reachable from other machines, and SQL has no password and no \
                 encryption yet: whoever connects reads the whole ledger"
            ))
            .next("serve it at 127.0.0.1, or add --sql-allow-remote behind a firewall"));
        }
        note(&format!(
            "warning: {address} is reachable from other machines; SQL has no password and no \
             encryption"
        ));
        Ok(())
    }
}

impl DevServeArgs {
    /// Takes the address that was given, or else the first free one.
    pub fn listen(&self, ctx: &Context) -> Done<Sql> {
        if self.no_sql || self.serve.sql.is_some() {
            return self.serve.listen(ctx);
        }
        self.bind()
    }

    fn bind(&self) -> Done<Sql> {
        if self.no_sql {
            return Ok(Sql::default());
        }
        let usual = (PORT_DEFAULT..).take(PORTS_TRIED.into());
        let mut ports = usual.chain(std::iter::once(0));
        let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok();
        let Some(listener) = ports.find_map(bind) else {
            return Err(Fail::new("start", "SQL finds no free port on 127.0.0.1")
                .next("leave it out: --no-sql"));
        };
        Ok(Sql::at(listener))
    }
}

impl ClusterServeArgs {
    /// Is SQL wanted?
    pub fn is_wanted(&self) -> bool {
        self.sql
    }
}

/// SQL of this process: not wanted, waiting for its node, or served.
#[derive(Default)]
pub struct Sql {
    listener: Option<TcpListener>,
    server: Option<SqlServer>,
    keys: Vec<Kept>,
    /// Where the keys of a development ledger are.
    home: Option<Home>,
}

impl Sql {
    fn at(listener: TcpListener) -> Self {
        Self { listener: Some(listener), server: None, keys: Vec::new(), home: None }
    }

    /// Is it to be served?
    pub fn is_wanted(&self) -> bool {
        self.listener.is_some()
    }

    /// Where it is, as clients take it.
    pub fn url(&self) -> Option<String> {
        let address = self.listener.as_ref()?.local_addr().ok()?;
        Some(format!("postgresql://{address}/kanjo"))
    }

    /// Can only this machine reach it?
    pub fn is_local(&self) -> bool {
        let address = self.listener.as_ref().and_then(|listener| listener.local_addr().ok());
        address.is_none_or(|address| address.ip().is_loopback())
    }

    /// Makes roles of the unencrypted keys and the users of a home directory: for development,
    /// where whoever reaches this machine's loopback may act as any of them.
    pub fn act_for(&mut self, home: &Home) {
        self.home = Some(home.clone());
    }

    fn roles(&self, chain: ChainId) -> Done<Roles> {
        let mut roles = Roles::default();
        if let Some(home) = &self.home {
            let book = home.book(chain)?;
            for file in home.keys().list()? {
                let Some(user) = book.users.get(file.name()).copied() else { continue };
                let key =
                    if file.is_encrypted() { None } else { Some(Arc::new(file.unlock(None)?)) };
                roles.add(file.name(), Role { user, key });
            }
        }
        for kept in &self.keys {
            let derived = || UserId::derive(chain, &Access::Single(kept.key.public()), 0);
            let user = kept.user.unwrap_or_else(derived);
            roles.add(&kept.name, Role { user, key: Some(Arc::clone(&kept.key)) });
        }
        Ok(roles)
    }

    /// Serves what `node` holds, from now on.
    pub fn open(&mut self, node: &RunningNode) -> Done {
        let Some(listener) = &self.listener else { return Ok(()) };
        let view = node.view().ok_or_else(|| {
            Fail::new("sql", "this node keeps no rows for SQL").next("run it without --sql")
        })?;
        let listener = listener.try_clone().map_err(|error| Fail::new("sql", error))?;
        let roles = self.roles(node.chain())?;
        let mut address = node.address();
        if address.ip().is_unspecified() {
            address.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        let client = Client::new(&format!("http://{address}"))?;
        let service = Service {
            view,
            log: node.log(),
            chain: node.chain(),
            client: Some(Arc::new(client)),
            roles,
            limits: Limits::default(),
        };
        let server = kanjo_sql::serve(listener, service);
        self.server = Some(server.map_err(|error| Fail::new("sql", error))?);
        Ok(())
    }

    /// Ends all sessions. The address stays taken, for the next [`Sql::open`].
    pub fn pause(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop();
        }
    }

    /// Ends all sessions, and gives the address back.
    pub fn end(self) {
        drop(self);
    }
}

impl Drop for Sql {
    fn drop(&mut self) {
        self.pause();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serve(address: &str, sql_allow_remote: bool) -> ServeArgs {
        let sql = Some(address.parse().expect("an address"));
        ServeArgs { sql, sql_allow_remote, ..ServeArgs::default() }
    }

    #[test]
    fn only_loopback_unless_allowed() {
        let sql = serve("127.0.0.1:0", false).bind().expect("taken");
        let url = sql.url().expect("an address");
        assert!(url.starts_with("postgresql://127.0.0.1:") && !url.contains(":0/"), "{url}");
        let fail = serve("0.0.0.0:0", false).bind().err().expect("refused");
        assert_eq!(fail.exit, crate::fail::EXIT_USAGE);
        assert!(serve("0.0.0.0:0", true).bind().is_ok());
        assert!(!ServeArgs::default().bind().expect("nothing to do").is_wanted());
    }

    #[test]
    fn an_address_that_is_taken_is_told() {
        let sql = serve("127.0.0.1:0", false).bind().expect("taken");
        let url = sql.url().expect("an address");
        let address = url.trim_start_matches("postgresql://").trim_end_matches("/kanjo");
        let fail = serve(address, false).bind().err().expect("refused");
        assert!(fail.message.contains(address), "{}", fail.message);
    }

    #[test]
    fn a_development_ledger_finds_a_port() {
        let several: Vec<Sql> =
            (0..3).map(|_| DevServeArgs::default().bind().expect("a free port")).collect();
        let urls: std::collections::BTreeSet<_> = several.iter().map(Sql::url).collect();
        assert_eq!(urls.len(), 3, "{urls:?}");
        let none = DevServeArgs { no_sql: true, ..DevServeArgs::default() };
        assert!(!none.bind().expect("nothing to do").is_wanted());
    }

    #[test]
    fn roles_are_written_as_name_and_key() {
        let plain = role("alice=keys/alice.json").expect("a role");
        assert_eq!((plain.name.as_str(), plain.key.as_str()), ("alice", "keys/alice.json"));
        assert_eq!(plain.user, None);
        let user = UserId([7; 16]);
        let with_user = role(&format!("a=me@home@{user}")).expect("a role");
        assert_eq!((with_user.key.as_str(), with_user.user), ("me@home", Some(user)));
        for wrong in ["alice", "=key", "alice=", "alice=key@kju1nonsense"] {
            assert!(role(wrong).is_err(), "{wrong}");
        }
    }

    fn users(url: &str) -> String {
        use crate::sql::{Connection, Target};
        let target = Target::new(url, None, None).expect("an address");
        let connection = Connection::open(target).unwrap_or_else(|fail| panic!("{fail:?}"));
        let rows = connection.values("SELECT count(*) FROM users");
        let Ok(rows) = rows else { panic!("no answer") };
        rows.concat().into_iter().flatten().collect()
    }

    #[test]
    fn a_ledger_opened_anew_is_served_where_it_was() {
        use crate::commands::Plan;
        use kanjo_types::Access;
        use kanjo_types::signature::{KeyKind, SecretKey};
        let dir = tempfile::tempdir().expect("temp dir");
        let key = SecretKey::from_seed(KeyKind::Ed25519, [7; 32]).expect("a key");
        let operators = vec![("operator".to_owned(), Access::Single(key.public()))];
        Plan::new("Test", operators).expect("a plan").create(dir.path()).expect("a ledger");
        let mut config = kanjo_node::Config::new(dir.path());
        (config.listen, config.view) = (SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), true);

        let mut sql = serve("127.0.0.1:0", false).bind().expect("taken");
        let url = sql.url().expect("an address");
        let node = kanjo_node::start(config.clone()).expect("it starts");
        sql.open(&node).expect("served");
        assert_eq!(users(&url), "1");
        sql.pause();
        node.stop().expect("it stops");
        // Who connects now is answered by the next one.
        let waiting = std::thread::spawn({
            let url = url.clone();
            move || users(&url)
        });
        let node = kanjo_node::start(config).expect("it starts again");
        sql.open(&node).expect("served again");
        assert_eq!(waiting.join().expect("an answer"), "1");
        assert_eq!(sql.url(), Some(url));
        sql.end();
        node.stop().expect("it stops");
    }
}
