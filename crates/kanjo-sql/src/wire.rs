//! The conversation with one client.

use crate::encode;
use crate::engine::Engine;
use crate::error::{SqlError, code, error_info};
use crate::session::{Done, Session};
use crate::statement::{self, Ask};
use crate::tables::relation::RelationProvider;
use crate::tables::scan::Scope;
use crate::transaction::Transaction;
use crate::{describe, params};
use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::source_as_provider;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::{Expr, LogicalPlan};
use futures_util::{FutureExt as _, Sink, StreamExt as _, TryStreamExt as _, stream};
use kanjo_types::{Hash, RelationId};
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
    METADATA_USER, PgWireConnectionState, PgWireServerHandlers, Type,
};
use pgwire::error::{ErrorInfo, PgWireError, PgWireResult};
use pgwire::messages::data::DataRow;
use pgwire::messages::extendedquery::{
    Close, CloseComplete, Execute, Parse, ParseComplete, PortalSuspended,
    TARGET_TYPE_BYTE_STATEMENT,
};
use pgwire::messages::response::TransactionStatus;
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use std::any::Any;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tokio::time::Instant;

/// What was prepared.
#[derive(Clone)]
pub(crate) struct Prepared {
    ask: Ask,
    plan: Option<Arc<LogicalPlan>>,
    /// Tables of users that the plan reads, as they were.
    tables: Vec<(RelationId, Hash)>,
    /// What a change answers with.
    returned: Option<SchemaRef>,
    parameters: Vec<Type>,
}

impl Prepared {
    fn new(ask: Ask) -> Self {
        Self { ask, plan: None, tables: Vec::new(), returned: None, parameters: Vec::new() }
    }
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

#[async_trait]
impl NoopStartupHandler for Handler {
    async fn post_startup<C>(&self, client: &mut C, _: PgWireFrontendMessage) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let name = client.metadata().get(METADATA_USER).cloned().unwrap_or_default();
        *session(client).role.lock() = name;
        Ok(())
    }

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
    fn parse(&self, text: &str, session: &Session) -> Result<Vec<Ask>, SqlError> {
        let role = session.role.lock().clone();
        let parsed = std::panic::catch_unwind(AssertUnwindSafe(|| {
            statement::parse(text, &self.engine.limits, &self.engine.compatible, &role)
        }));
        parsed.unwrap_or_else(|_| {
            Err(SqlError::new(code::INTERNAL, "the parser failed at this text"))
        })
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
        if failed && !matches!(prepared.ask, Ask::Commit | Ask::Rollback | Ask::RollbackTo(_)) {
            let message =
                "current transaction is aborted, commands ignored until end of transaction block";
            return Err(SqlError::new(code::IN_FAILED_TRANSACTION, message));
        }
        match &prepared.ask {
            Ask::Query(_) => {
                self.query(&session, prepared, parameters, format, handle(client)).await
            }
            Ask::Change(statement) => {
                let mut statement = statement.as_ref().clone();
                params::fill(&mut statement, &parameters)?;
                let deadline = Instant::now() + self.engine.limits.statement_timeout;
                let work = guarded(session.write(&self.engine, &statement));
                let done = tokio::time::timeout_at(deadline, work);
                let done = done.await.map_err(|_| SqlError::canceled("statement timeout"))??;
                changed(done, format)
            }
            Ask::Show(name) => show(name, &session, format),
            Ask::Set => Ok(Response::Execution(Tag::new("SET"))),
            Ask::Begin { read_only } => {
                let mut open = session.transaction.lock();
                open.get_or_insert_with(|| Transaction::new(*read_only));
                Ok(Response::TransactionStart(Tag::new("BEGIN")))
            }
            Ask::Commit if !failed => {
                let open = session.transaction.lock().take();
                if let Some(open) = open {
                    guarded(session.commit(&self.engine, open)).await?;
                }
                Ok(Response::TransactionEnd(Tag::new("COMMIT")))
            }
            Ask::Commit | Ask::Rollback => {
                *session.transaction.lock() = None;
                Ok(Response::TransactionEnd(Tag::new("ROLLBACK")))
            }
            Ask::Savepoint(name) => {
                in_transaction(&session, "SAVEPOINT", |open| open.save(name))?;
                Ok(Response::Execution(Tag::new("SAVEPOINT")))
            }
            Ask::RollbackTo(name) => {
                in_transaction(&session, "ROLLBACK TO SAVEPOINT", |open| open.roll_back_to(name))?;
                Ok(Response::TransactionStart(Tag::new("ROLLBACK")))
            }
            Ask::Release(name) => {
                in_transaction(&session, "RELEASE SAVEPOINT", |open| open.release(name))?;
                Ok(Response::Execution(Tag::new("RELEASE")))
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
        let (Some(plan), Ask::Query(statement)) = (&prepared.plan, &prepared.ask) else {
            return Err(SqlError::new(code::INTERNAL, "a query without a plan"));
        };
        let fields = Arc::new(encode::fields(plan.schema().as_arrow(), format)?);
        let work = async {
            let scope = session.scope(&self.engine).await?;
            let plan = match is_current(&prepared.tables, &scope) {
                true => plan.as_ref().clone(),
                false => {
                    let new = self.engine.plan(&scope, statement.as_ref().clone()).await?;
                    if new.schema().as_arrow() != plan.schema().as_arrow() {
                        let message = "cached plan must not change result type";
                        return Err(SqlError::not_supported(message).hint("prepare it again"));
                    }
                    new
                }
            };
            self.engine.run(&scope, plan, parameters).await
        };
        let batches = tokio::time::timeout_at(deadline, guarded(work))
            .await
            .map_err(|_| SqlError::canceled("statement timeout"))??;
        let rows = rows(batches, Arc::clone(&fields), deadline, handle);
        Ok(Response::Query(QueryResponse::new(fields, rows)))
    }

    /// Plans a query; other statements need none.
    async fn prepare(&self, session: &Session, ask: Ask) -> Result<Prepared, SqlError> {
        let mut prepared = Prepared::new(ask);
        match &prepared.ask {
            Ask::Query(statement) => {
                let statement = statement.as_ref().clone();
                let scope = session.scope(&self.engine).await?;
                let plan = guarded(self.engine.plan(&scope, statement)).await?;
                prepared.tables = tables_of(&plan)?;
                prepared.plan = Some(Arc::new(plan));
            }
            Ask::Change(statement) => {
                let scope = session.scope(&self.engine).await?;
                let described = guarded(describe::change(&self.engine, &scope, statement)).await?;
                (prepared.parameters, prepared.returned) = described;
            }
            _ => {}
        }
        Ok(prepared)
    }
}

/// Tables of users that a plan reads.
fn tables_of(plan: &LogicalPlan) -> Result<Vec<(RelationId, Hash)>, SqlError> {
    let mut found = Vec::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Ok(provider) = source_as_provider(&scan.source)
            && let Some(table) = (provider.as_ref() as &dyn Any).downcast_ref::<RelationProvider>()
        {
            found.push((table.relation.record.number, table.relation.hash));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// Are the tables of a plan still what they were?
fn is_current(tables: &[(RelationId, Hash)], scope: &Scope) -> bool {
    scope.drafts.relations.is_empty()
        && tables.iter().all(|(number, hash)| {
            scope.catalog.get(*number).is_some_and(|relation| relation.hash == *hash)
        })
}

fn in_transaction<T>(
    session: &Session,
    what: &str,
    work: impl FnOnce(&mut Transaction) -> Result<T, SqlError>,
) -> Result<T, SqlError> {
    match session.transaction.lock().as_mut() {
        Some(open) => work(open),
        None => {
            let message = format!("{what} can only be used in transaction blocks");
            Err(SqlError::new("25P01", message))
        }
    }
}

/// The answer to a statement that changed something.
fn changed(done: Done, format: Option<&Format>) -> Result<Response, SqlError> {
    let tag = match done.tag {
        "INSERT" => "INSERT 0",
        tag => tag,
    };
    let Some(returned) = done.returned else {
        let tag = Tag::new(tag);
        return Ok(Response::Execution(match done.rows {
            Some(rows) => tag.with_rows(rows),
            None => tag,
        }));
    };
    let fields = Arc::new(encode::fields(&returned.schema, format)?);
    let mut rows = Vec::new();
    for batch in &returned.batches {
        rows.extend(encode::rows(batch, &fields)?);
    }
    let mut response = QueryResponse::new(fields, stream::iter(rows.into_iter().map(Ok)));
    response.set_command_tag(tag);
    Ok(Response::Query(response))
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
fn show(name: &str, session: &Session, format: Option<&Format>) -> Result<Response, SqlError> {
    let last = session.last().map(|id| id.to_string()).unwrap_or_default();
    let value = match name {
        "kanjo_last_transaction" | "kanjo.last_transaction" => last.as_str(),
        "transaction_isolation"
        | "transaction_isolation_level"
        | "default_transaction_isolation" => "serializable",
        "default_transaction_read_only" | "transaction_read_only" => "off",
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
        let session = session(client);
        for ask in self.parse(text, &session)? {
            let is_commit = matches!(ask, Ask::Commit);
            let failed = matches!(client.transaction_status(), TransactionStatus::Error);
            let prepared = match failed {
                // Not looked at any more.
                true => Ok(Prepared::new(ask)),
                false => self.prepare(&session, ask).await,
            };
            let answer = match prepared {
                Ok(prepared) => self.answer(client, &prepared, Vec::new(), None).await,
                Err(error) => Err(error),
            };
            tell(client, &session).await?;
            match answer {
                Ok(response) => {
                    // Statements that come with it see what it has begun or ended.
                    let status = client.transaction_status();
                    match &response {
                        Response::TransactionStart(_) => {
                            client.set_transaction_status(status.to_in_transaction_state());
                        }
                        Response::TransactionEnd(_) => {
                            client.set_transaction_status(status.to_idle_state());
                        }
                        _ => {}
                    }
                    responses.push(response);
                }
                Err(error) => {
                    failed_at(client, is_commit);
                    if responses.is_empty() {
                        return Err(error.into());
                    }
                    responses.push(Response::Error(Box::new(error_info(error))));
                    return Ok(responses);
                }
            }
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
        client: &C,
        sql: &str,
        types: &[Option<Type>],
    ) -> PgWireResult<Option<Prepared>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        let session = session(client);
        let mut asks = self.parse(sql, &session)?;
        let Some(ask) = asks.pop() else { return Ok(None) };
        if !asks.is_empty() {
            let message = "cannot insert multiple commands into a prepared statement";
            return Err(SqlError::new(code::SYNTAX, message).into());
        }
        let mut prepared = self.prepare(&session, ask).await?;
        if let Some(plan) = &prepared.plan {
            prepared.parameters = parameters(plan, types)?;
        }
        for (said, found) in types.iter().zip(&mut prepared.parameters) {
            if let Some(said) = said.as_ref().filter(|said| **said != Type::UNKNOWN) {
                found.clone_from(said);
            }
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
        if let Some(returned) = &statement.returned {
            return Ok(encode::fields(returned, format)?);
        }
        let Some(plan) = &statement.plan else { return Ok(Vec::new()) };
        Ok(encode::fields(plan.schema().as_arrow(), format)?)
    }
}

/// Sends the notices of a statement.
async fn tell<C>(client: &mut C, session: &Session) -> PgWireResult<()>
where
    C: Sink<PgWireBackendMessage> + Unpin + Send,
    PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
{
    let notices = std::mem::take(&mut *session.notices.lock());
    for text in notices {
        let notice = ErrorInfo::new("NOTICE".to_owned(), "00000".to_owned(), text);
        let notice = PgWireBackendMessage::NoticeResponse(notice.into());
        futures_util::SinkExt::feed(client, notice).await?;
    }
    Ok(())
}

/// What a failed COMMIT leaves is over; any other failure leaves its transaction to be rolled back.
fn failed_at(client: &mut impl ClientInfo, is_commit: bool) {
    if is_commit {
        client.set_transaction_status(TransactionStatus::Idle);
    }
}

/// Most parameters, as in PostgreSQL's protocol.
const PARAMETERS_MAX: usize = 65_535;

/// Parameters that stand for a count of rows.
fn limits_of(plan: &LogicalPlan) -> Result<BTreeSet<String>, SqlError> {
    let mut names = BTreeSet::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Limit(limit) = node {
            let counts = [&limit.skip, &limit.fetch].into_iter().flatten();
            names.extend(counts.filter_map(|count| match count.as_ref() {
                Expr::Placeholder(placeholder) => Some(placeholder.id.clone()),
                _ => None,
            }));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(names)
}

/// Types of a plan's parameters: what the client says, else what the planner found, else text.
fn parameters(plan: &LogicalPlan, given: &[Option<Type>]) -> Result<Vec<Type>, SqlError> {
    let found = plan.get_parameter_types()?;
    let number = |name: &String| name.strip_prefix('$').and_then(|rest| rest.parse::<usize>().ok());
    let limits = limits_of(plan)?;
    let count = found.keys().filter_map(number).max().unwrap_or(0);
    if count > PARAMETERS_MAX {
        return Err(SqlError::new(code::LIMIT_EXCEEDED, "too many parameters"));
    }
    let of = |at: usize| {
        let said = given.get(at).cloned().flatten().filter(|of| *of != Type::UNKNOWN);
        let name = format!("${}", at + 1);
        said.or_else(|| limits.contains(&name).then_some(Type::INT8))
            .or_else(|| found.get(&name)?.as_ref().map(encode::wire_type))
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
        match StoredStatement::parse(client, &message, self.query_parser()).await {
            Ok(Some(statement)) => client.portal_store().put_statement(Arc::new(statement)),
            Ok(None) => client.portal_store().put_empty_statement(&name),
            Err(error) => {
                session(client).prepared.lock().remove(&name);
                return Err(error);
            }
        }
        futures_util::SinkExt::send(
            client,
            PgWireBackendMessage::ParseComplete(ParseComplete::new()),
        )
        .await?;
        Ok(())
    }

    /// As the trait's, and there is room for another one.
    async fn on_close<C>(&self, client: &mut C, message: Close) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let name = message.name.as_deref().unwrap_or(DEFAULT_NAME);
        match message.target_type {
            TARGET_TYPE_BYTE_STATEMENT => {
                session(client).prepared.lock().remove(name);
                client.portal_store().rm_statement(name);
            }
            _ => client.portal_store().rm_portal(name),
        }
        let closed = PgWireBackendMessage::CloseComplete(CloseComplete::new());
        futures_util::SinkExt::send(client, closed).await?;
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
        let answer = self.answer(client, prepared, values, format).await;
        let session = session(client);
        tell(client, &session).await?;
        if answer.is_err() {
            failed_at(client, matches!(prepared.ask, Ask::Commit));
        }
        Ok(answer?)
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
