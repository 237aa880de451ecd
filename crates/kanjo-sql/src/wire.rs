//! The conversation with one client.

use crate::encode;
use crate::engine::Engine;
use crate::error::{SqlError, code};
use crate::params;
use crate::statement::{self, Ask};
use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::ScalarValue;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::LogicalPlan;
use futures_util::{FutureExt as _, Sink, StreamExt as _, TryStreamExt as _, stream};
use kanjo_view::Snapshot;
use parking_lot::Mutex;
use pgwire::api::auth::StartupHandler;
use pgwire::api::auth::noop::NoopStartupHandler;
use pgwire::api::cancel::DefaultCancelHandler;
use pgwire::api::portal::{Format, Portal, PortalExecutionState};
use pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler};
use pgwire::api::results::{FieldInfo, QueryResponse, Response, Tag};
use pgwire::api::stmt::{QueryParser, StoredStatement};
use pgwire::api::store::PortalStore;
use pgwire::api::{
    ClientInfo, ClientPortalStore, ConnectionHandle, ConnectionManager, DEFAULT_NAME,
    PgWireConnectionState, PgWireServerHandlers, Type,
};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::data::DataRow;
use pgwire::messages::extendedquery::{Execute, Parse, ParseComplete, PortalSuspended};
use pgwire::messages::response::TransactionStatus;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tokio::time::Instant;

/// What a connection holds beside its statements.
#[derive(Default)]
struct Session {
    /// Inside of BEGIN … COMMIT; the snapshot from its first query on.
    transaction: Mutex<Option<Option<Arc<Snapshot>>>>,
    prepared: Mutex<BTreeSet<String>>,
}

/// What was prepared.
#[derive(Clone)]
pub(crate) struct Prepared {
    ask: Ask,
    plan: Option<Arc<LogicalPlan>>,
    parameters: Vec<Type>,
}

/// Answers clients.
pub(crate) struct Handler {
    engine: Arc<Engine>,
    connections: Arc<ConnectionManager>,
}

/// The parts that the protocol's driver asks for.
pub(crate) struct Handlers(Arc<Handler>);

impl Handlers {
    pub(crate) fn new(engine: Arc<Engine>, connections: Arc<ConnectionManager>) -> Self {
        Self(Arc::new(Handler { engine, connections }))
    }
}

impl PgWireServerHandlers for Handlers {
    fn simple_query_handler(&self) -> Arc<impl SimpleQueryHandler> {
        Arc::clone(&self.0)
    }

    fn extended_query_handler(&self) -> Arc<impl ExtendedQueryHandler> {
        Arc::clone(&self.0)
    }

    fn startup_handler(&self) -> Arc<impl StartupHandler> {
        Arc::clone(&self.0)
    }

    fn cancel_handler(&self) -> Arc<impl pgwire::api::cancel::CancelHandler> {
        Arc::new(DefaultCancelHandler::new(Arc::clone(&self.0.connections)))
    }
}

impl NoopStartupHandler for Handler {
    fn connection_manager(&self) -> Option<Arc<ConnectionManager>> {
        Some(Arc::clone(&self.connections))
    }
}

fn session(client: &impl ClientInfo) -> Arc<Session> {
    client.session_extensions().get_or_insert_with(Session::default)
}

/// What cancels a connection's statements.
fn handle(client: &impl ClientInfo) -> Option<Arc<ConnectionHandle>> {
    client
        .session_extensions()
        .get::<Arc<ConnectionHandle>>()
        .map(|handle| Arc::clone(handle.as_ref()))
}

/// A panic inside of the engine ends the statement, not the node.
async fn guarded<T>(work: impl Future<Output = Result<T, SqlError>>) -> Result<T, SqlError> {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(done) => done,
        Err(_) => {
            tracing::error!("the SQL engine panicked; the statement was given up");
            Err(SqlError::new(code::INTERNAL, "the engine failed at this statement"))
        }
    }
}

impl Handler {
    fn parse(&self, text: &str) -> Result<Vec<Ask>, SqlError> {
        let parsed = std::panic::catch_unwind(AssertUnwindSafe(|| {
            statement::parse(text, &self.engine.limits, &self.engine.compatible)
        }));
        parsed.unwrap_or_else(|_| {
            Err(SqlError::new(code::INTERNAL, "the parser failed at this text"))
        })
    }

    /// The snapshot that a statement reads: its own, or that of its transaction.
    async fn snapshot(&self, session: &Session) -> Result<Arc<Snapshot>, SqlError> {
        if let Some(Some(snapshot)) = session.transaction.lock().as_ref() {
            return Ok(Arc::clone(snapshot));
        }
        let snapshot = self.engine.snapshot().await?;
        if let Some(transaction) = session.transaction.lock().as_mut() {
            *transaction = Some(Arc::clone(&snapshot));
        }
        Ok(snapshot)
    }

    /// Does what a statement asks for.
    async fn answer(
        &self,
        client: &(impl ClientInfo + Sync),
        prepared: &Prepared,
        parameters: Vec<ScalarValue>,
        format: Option<&Format>,
    ) -> Result<Response, SqlError> {
        let session = session(client);
        let failed = matches!(client.transaction_status(), TransactionStatus::Error);
        if failed && !matches!(prepared.ask, Ask::Commit | Ask::Rollback) {
            let message =
                "current transaction is aborted, commands ignored until end of transaction block";
            return Err(SqlError::new(code::IN_FAILED_TRANSACTION, message));
        }
        match &prepared.ask {
            Ask::Query(_) => {
                self.query(&session, prepared, parameters, format, handle(client)).await
            }
            Ask::Show(name) => show(name, format),
            Ask::Set => Ok(Response::Execution(Tag::new("SET"))),
            Ask::Begin => {
                session.transaction.lock().get_or_insert_default();
                Ok(Response::TransactionStart(Tag::new("BEGIN")))
            }
            Ask::Commit | Ask::Rollback => {
                *session.transaction.lock() = None;
                let done = matches!(prepared.ask, Ask::Commit) && !failed;
                Ok(Response::TransactionEnd(Tag::new(if done { "COMMIT" } else { "ROLLBACK" })))
            }
            Ask::Discard(tag) => Ok(Response::Execution(Tag::new(tag))),
        }
    }

    async fn query(
        &self,
        session: &Session,
        prepared: &Prepared,
        parameters: Vec<ScalarValue>,
        format: Option<&Format>,
        handle: Option<Arc<ConnectionHandle>>,
    ) -> Result<Response, SqlError> {
        let deadline = Instant::now() + self.engine.limits.statement_timeout;
        let Some(plan) = &prepared.plan else {
            return Err(SqlError::new(code::INTERNAL, "a query without a plan"));
        };
        let fields = Arc::new(encode::fields(plan.schema().as_arrow(), format)?);
        let work = async {
            let snapshot = self.snapshot(session).await?;
            self.engine.run(plan.as_ref().clone(), parameters, snapshot).await
        };
        let batches = tokio::time::timeout_at(deadline, guarded(work))
            .await
            .map_err(|_| SqlError::canceled("statement timeout"))??;
        let rows = rows(batches, Arc::clone(&fields), deadline, handle);
        Ok(Response::Query(QueryResponse::new(fields, rows)))
    }

    /// Plans a query; other statements need none.
    async fn prepare(&self, ask: Ask) -> Result<Prepared, SqlError> {
        let plan = match &ask {
            Ask::Query(statement) => {
                let statement = statement.as_ref().clone();
                Some(Arc::new(guarded(self.engine.plan(statement)).await?))
            }
            _ => None,
        };
        Ok(Prepared { ask, plan, parameters: Vec::new() })
    }
}

/// Rows of a result, as long as there is time and nobody cancels.
fn rows(
    batches: SendableRecordBatchStream,
    fields: Arc<Vec<FieldInfo>>,
    deadline: Instant,
    handle: Option<Arc<ConnectionHandle>>,
) -> impl futures_util::Stream<Item = PgWireResult<DataRow>> + Send + 'static {
    let state = (batches, fields, handle, None);
    let chunks = stream::try_unfold(state, move |(mut batches, fields, mut handle, mut cancel)| {
        async move {
            if let Some(handle) = handle.take() {
                // Only now: what the driver listened to until here is over.
                cancel = Some(handle.start_query().await.fuse());
            }
            let next = guarded(async { Ok(batches.next().await) });
            let next = tokio::time::timeout_at(deadline, next);
            let batch = match &mut cancel {
                Some(cancel) => tokio::select! {
                    biased;
                    canceled = cancel => match canceled {
                        Ok(()) => return Err(PgWireError::QueryCanceled),
                        Err(_) => return Err(SqlError::canceled("a newer statement").into()),
                    },
                    batch = next => batch,
                },
                None => next.await,
            };
            let batch = batch.map_err(|_| SqlError::canceled("statement timeout"))?;
            let Some(batch) = batch? else { return Ok::<_, PgWireError>(None) };
            let rows = encode::rows(&batch.map_err(SqlError::from)?, &fields)?;
            let rows = stream::iter(rows.into_iter().map(Ok::<_, PgWireError>));
            Ok(Some((rows, (batches, fields, handle, cancel))))
        }
    });
    chunks.try_flatten()
}

/// The value of a setting, as a row.
fn show(name: &str, format: Option<&Format>) -> Result<Response, SqlError> {
    let value = match name {
        "transaction_isolation"
        | "transaction_isolation_level"
        | "default_transaction_isolation" => "repeatable read",
        "default_transaction_read_only" | "transaction_read_only" => "on",
        "server_version" => "15.0",
        "server_version_num" => "150000",
        "server_encoding" | "client_encoding" => "UTF8",
        "timezone" | "time_zone" => "UTC",
        "search_path" => "public",
        "standard_conforming_strings" | "integer_datetimes" => "on",
        "datestyle" => "ISO, YMD",
        "intervalstyle" => "postgres",
        "bytea_output" => "hex",
        "max_identifier_length" => "63",
        _ => {
            let message = format!("unrecognized configuration parameter \"{name}\"");
            return Err(SqlError::new("42704", message));
        }
    };
    let schema = Schema::new(vec![Field::new(name, DataType::Utf8, false)]);
    let fields = Arc::new(encode::fields(&schema, format)?);
    let array: datafusion::arrow::array::StringArray = std::iter::once(Some(value)).collect();
    let batch =
        datafusion::arrow::array::RecordBatch::try_new(Arc::new(schema), vec![Arc::new(array)]);
    let rows = encode::rows(&batch.map_err(SqlError::from)?, &fields)?;
    let mut response = QueryResponse::new(fields, stream::iter(rows.into_iter().map(Ok)));
    response.set_command_tag("SHOW");
    Ok(Response::Query(response))
}

#[async_trait]
impl SimpleQueryHandler for Handler {
    async fn do_query<C>(&self, client: &mut C, text: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let mut responses = Vec::new();
        for ask in self.parse(text)? {
            let prepared = self.prepare(ask).await?;
            responses.push(self.answer(client, &prepared, Vec::new(), None).await?);
        }
        if responses.is_empty() {
            responses.push(Response::EmptyQuery);
        }
        Ok(responses)
    }
}

#[async_trait]
impl QueryParser for Handler {
    type Statement = Prepared;

    async fn parse_sql<C>(
        &self,
        _: &C,
        sql: &str,
        types: &[Option<Type>],
    ) -> PgWireResult<Option<Prepared>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        let mut asks = self.parse(sql)?;
        let Some(ask) = asks.pop() else { return Ok(None) };
        if !asks.is_empty() {
            let message = "cannot insert multiple commands into a prepared statement";
            return Err(SqlError::new(code::SYNTAX, message).into());
        }
        let mut prepared = self.prepare(ask).await?;
        if let Some(plan) = &prepared.plan {
            prepared.parameters = parameters(plan, types)?;
        }
        Ok(Some(prepared))
    }

    fn get_parameter_types(&self, statement: &Prepared) -> PgWireResult<Vec<Type>> {
        Ok(statement.parameters.clone())
    }

    fn get_result_schema(
        &self,
        statement: &Prepared,
        format: Option<&Format>,
    ) -> PgWireResult<Vec<FieldInfo>> {
        if let Ask::Show(name) = &statement.ask {
            let schema = Schema::new(vec![Field::new(name, DataType::Utf8, false)]);
            return Ok(encode::fields(&schema, format)?);
        }
        let Some(plan) = &statement.plan else { return Ok(Vec::new()) };
        Ok(encode::fields(plan.schema().as_arrow(), format)?)
    }
}

/// Most parameters, as in PostgreSQL's protocol.
const PARAMETERS_MAX: usize = 65_535;

/// Types of a plan's parameters: what the client says, else what the planner found, else text.
fn parameters(plan: &LogicalPlan, given: &[Option<Type>]) -> Result<Vec<Type>, SqlError> {
    let found = plan.get_parameter_types()?;
    let number = |name: &String| name.strip_prefix('$').and_then(|rest| rest.parse::<usize>().ok());
    let count = found.keys().filter_map(number).max().unwrap_or(0);
    if count > PARAMETERS_MAX {
        return Err(SqlError::new(code::LIMIT_EXCEEDED, "too many parameters"));
    }
    let of = |at: usize| {
        let said = given.get(at).cloned().flatten().filter(|of| *of != Type::UNKNOWN);
        said.or_else(|| found.get(&format!("${}", at + 1))?.as_ref().map(encode::wire_type))
    };
    Ok((0..count).map(|at| of(at).unwrap_or(Type::TEXT)).collect())
}

#[async_trait]
impl ExtendedQueryHandler for Handler {
    type Statement = Prepared;
    type QueryParser = Self;

    fn query_parser(&self) -> Arc<Self> {
        Arc::new(Self {
            engine: Arc::clone(&self.engine),
            connections: Arc::clone(&self.connections),
        })
    }

    /// As the trait's, and no more statements than allowed.
    async fn on_parse<C>(&self, client: &mut C, message: Parse) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let name = message.name.clone().unwrap_or_else(|| DEFAULT_NAME.to_owned());
        let prepared_max = self.engine.limits.prepared_max;
        let full = {
            let session = session(client);
            let mut prepared = session.prepared.lock();
            prepared.len() >= prepared_max && !prepared.contains(&name) || {
                prepared.insert(name.clone());
                false
            }
        };
        if full {
            let message = format!("a connection may hold {prepared_max} prepared statements");
            return Err(SqlError::new(code::LIMIT_EXCEEDED, message).into());
        }
        match StoredStatement::parse(client, &message, self.query_parser()).await? {
            Some(statement) => client.portal_store().put_statement(Arc::new(statement)),
            None => client.portal_store().put_empty_statement(&name),
        }
        futures_util::SinkExt::send(
            client,
            PgWireBackendMessage::ParseComplete(ParseComplete::new()),
        )
        .await?;
        Ok(())
    }

    async fn do_query<C>(
        &self,
        client: &mut C,
        portal: &Portal<Prepared>,
        _: usize,
    ) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let prepared = &portal.statement.statement;
        if portal.parameters.len() != prepared.parameters.len() {
            let message = format!(
                "bind message supplies {} parameters, but the statement requires {}",
                portal.parameters.len(),
                prepared.parameters.len()
            );
            return Err(SqlError::new(code::PROTOCOL, message).into());
        }
        if let Format::Individual(codes) = &portal.parameter_format
            && codes.len() != portal.parameters.len()
        {
            return Err(SqlError::new(code::PROTOCOL, "wrong number of parameter formats").into());
        }
        let values = prepared.parameters.iter().zip(&portal.parameters).enumerate();
        let values = values.map(|(at, (of, bytes))| {
            params::value(of, bytes.as_deref(), portal.parameter_format.is_binary(at))
        });
        let values = values.collect::<Result<Vec<_>, SqlError>>()?;
        let format = Some(&portal.result_column_format);
        Ok(self.answer(client, prepared, values, format).await?)
    }

    /// Rows go out as they come: the trait's own way gathers all of them first.
    async fn on_execute<C>(&self, client: &mut C, message: Execute) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        use pgwire::api::store::Entry;
        let name = message.name.as_deref().unwrap_or(DEFAULT_NAME);
        let Some(Entry::Value(portal)) = client.portal_store().get_portal(name) else {
            return self._on_execute(client, message).await;
        };
        let is_query = matches!(portal.statement.statement.ask, Ask::Query(_));
        if !is_query || !matches!(client.state(), PgWireConnectionState::ReadyForQuery) {
            return self._on_execute(client, message).await;
        }
        client.set_state(PgWireConnectionState::QueryInProgress);
        let state = portal.state();
        let mut state = state.lock().await;
        if matches!(*state, PortalExecutionState::Initial) {
            let response = match handle(client) {
                Some(handle) => {
                    let cancel = handle.start_query().await;
                    tokio::select! {
                        response = ExtendedQueryHandler::do_query(self, client, &portal, 0) => response?,
                        Ok(()) = cancel => return Err(PgWireError::QueryCanceled),
                    }
                }
                None => ExtendedQueryHandler::do_query(self, client, &portal, 0).await?,
            };
            if let Response::Query(response) = response {
                *state = PortalExecutionState::Suspended(response);
            }
        }
        let rows_max = usize::try_from(message.max_rows).unwrap_or(0);
        let (mut sent, mut suspended) = (0, false);
        if let PortalExecutionState::Suspended(response) = &mut *state {
            while let Some(row) = response.data_rows().next().await {
                let row = PgWireBackendMessage::DataRow(row?);
                futures_util::SinkExt::feed(client, row).await?;
                sent += 1;
                if rows_max > 0 && sent >= rows_max {
                    suspended = true;
                    break;
                }
            }
        }
        let last = if suspended {
            PgWireBackendMessage::PortalSuspended(PortalSuspended::new())
        } else {
            *state = PortalExecutionState::Finished;
            PgWireBackendMessage::CommandComplete(Tag::new("SELECT").with_rows(sent).into())
        };
        futures_util::SinkExt::feed(client, last).await?;
        client.set_state(PgWireConnectionState::ReadyForQuery);
        Ok(())
    }
}
