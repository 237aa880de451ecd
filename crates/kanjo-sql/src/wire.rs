//! The conversation with one client.

use crate::answer::Prepared;
use crate::copy::BYTES_MAX;
use crate::encode;
use crate::engine::Engine;
use crate::error::{SqlError, code};
use crate::params;
use crate::patience::Patience;
use crate::session::{Done, Order, Session};
use crate::statement::{self, Ask};
use crate::transaction::Transaction;
use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::{Expr, LogicalPlan};
use futures_util::{FutureExt as _, Sink, StreamExt as _};
use pgwire::api::auth::StartupHandler;
use pgwire::api::auth::noop::NoopStartupHandler;
use pgwire::api::cancel::DefaultCancelHandler;
use pgwire::api::copy::{self, CopyHandler};
use pgwire::api::portal::{Format, Portal, PortalExecutionState};
use pgwire::api::query::{
    ExtendedQueryHandler, SimpleQueryHandler, send_describe_response, send_execution_response,
    send_query_response, send_ready_for_query,
};
use pgwire::api::results::{FieldInfo, Response, Tag};
use pgwire::api::stmt::{QueryParser, StoredStatement};
use pgwire::api::store::PortalStore;
use pgwire::api::{
    ClientInfo, ClientPortalStore, ConnectionHandle, ConnectionManager, DEFAULT_NAME,
    METADATA_USER, PgWireConnectionState, PgWireServerHandlers, Type,
};
use pgwire::error::{ErrorInfo, PgWireError, PgWireResult};
use pgwire::messages::copy::{CopyData, CopyDone, CopyFail};
use pgwire::messages::data::{NoData, ParameterDescription};
use pgwire::messages::extendedquery::{
    Bind, BindComplete, Close, CloseComplete, Describe, Execute, Parse, ParseComplete,
    PortalSuspended, TARGET_TYPE_BYTE_STATEMENT,
};
use pgwire::messages::response::{EmptyQueryResponse, TransactionStatus};
use pgwire::messages::simplequery::Query;
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tokio::time::Instant;

/// Answers clients.
pub(crate) struct Handler {
    pub engine: Arc<Engine>,
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

    fn copy_handler(&self) -> Arc<impl CopyHandler> {
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

pub(crate) fn session(client: &impl ClientInfo) -> Arc<Session> {
    client.session_extensions().get_or_insert_with(Session::default)
}

/// What cancels a connection's statements.
fn handle(client: &impl ClientInfo) -> Option<Arc<ConnectionHandle>> {
    client
        .session_extensions()
        .get::<Arc<ConnectionHandle>>()
        .map(|handle| Arc::clone(handle.as_ref()))
}

impl Handler {
    /// From now on the client's next request to cancel is about this statement.
    async fn patience(&self, client: &impl ClientInfo) -> Patience {
        let deadline = Instant::now() + self.engine.limits.statement_timeout;
        let canceled = match handle(client) {
            Some(handle) => Some(handle.start_query().await.map(|sent| sent.is_ok()).boxed()),
            None => None,
        };
        Patience::new(deadline, canceled)
    }

    fn parse(&self, text: &str, session: &Session) -> Result<Vec<Ask>, SqlError> {
        let role = session.role.lock().clone();
        let parsed = std::panic::catch_unwind(AssertUnwindSafe(|| {
            statement::parse(text, &self.engine.limits, &self.engine.compatible, &role)
        }));
        parsed.unwrap_or_else(|_| {
            Err(SqlError::new(code::INTERNAL, "the parser failed at this text"))
        })
    }
}

#[async_trait]
impl SimpleQueryHandler for Handler {
    /// Statement by statement, each answered before the next one begins. Several that come
    /// together, without BEGIN, are one transaction, as in PostgreSQL.
    async fn on_query<C>(&self, client: &mut C, query: Query) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        if !matches!(client.state(), PgWireConnectionState::ReadyForQuery) {
            return Err(PgWireError::NotReadyForQuery);
        }
        client.set_state(PgWireConnectionState::QueryInProgress);
        let session = session(client);
        let asks = self.parse(&query.query, &session)?;
        if asks.is_empty() {
            let empty = PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new());
            futures_util::SinkExt::feed(client, empty).await?;
        }
        let together = is_one_transaction(&asks) && session.transaction.lock().is_none();
        if together {
            *session.transaction.lock() = Some(Transaction::new(false));
        }
        if asks.len() > 1 && asks.iter().any(|ask| matches!(ask, Ask::Copy(_))) {
            let message = "COPY among other statements of one message";
            return Err(SqlError::not_supported(message).hint("send it by itself").into());
        }
        for ask in asks {
            if let Err(error) = self.one(client, &session, ask).await {
                if together {
                    *session.transaction.lock() = None;
                }
                return Err(error);
            }
        }
        let open = if together { session.transaction.lock().take() } else { None };
        if let Some(open) = open {
            session.commit(&self.engine, open).await?;
        }
        if matches!(client.state(), PgWireConnectionState::CopyInProgress(_)) {
            return Ok(());
        }
        client.set_state(PgWireConnectionState::ReadyForQuery);
        let status = client.transaction_status();
        send_ready_for_query(client, status).await
    }

    async fn do_query<C>(&self, _: &mut C, _: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        Err(SqlError::new(code::INTERNAL, "queries are answered by on_query").into())
    }
}

/// Several statements that change something, and none that begins or ends a transaction.
fn is_one_transaction(asks: &[Ask]) -> bool {
    asks.len() > 1
        && asks.iter().any(|ask| matches!(ask, Ask::Change(_)))
        && asks.iter().all(|ask| {
            matches!(
                ask,
                Ask::Change(_) | Ask::Query(_) | Ask::Show(_) | Ask::Set(_) | Ask::Discard(_)
            )
        })
}

impl Handler {
    /// Answers one statement of a simple query.
    async fn one<C>(&self, client: &mut C, session: &Session, ask: Ask) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let mut patience = self.patience(client).await;
        let failed = matches!(client.transaction_status(), TransactionStatus::Error);
        let is_commit = matches!(ask, Ask::Commit);
        let prepared = match failed {
            // Not looked at any more.
            true => Prepared::new(ask),
            false => self.prepare(session, &mut patience, ask).await?,
        };
        let answer = self.answer(client, &mut patience, &prepared, Vec::new(), None).await;
        tell(client, session).await?;
        if answer.is_err() && is_commit {
            // What a failed COMMIT leaves is over.
            client.set_transaction_status(TransactionStatus::Idle);
        }
        respond(client, answer?, true).await
    }
}

/// Sends an answer, with its columns or without, and takes note of what it means for the
/// transaction.
async fn respond<C>(client: &mut C, response: Response, describe: bool) -> PgWireResult<()>
where
    C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send,
    C::Error: Debug,
    PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
{
    match response {
        Response::Query(response) => send_query_response(client, response, describe).await,
        Response::Execution(tag) => send_execution_response(client, tag).await,
        Response::TransactionStart(tag) => {
            client.set_transaction_status(TransactionStatus::Transaction);
            send_execution_response(client, tag).await
        }
        Response::TransactionEnd(tag) => {
            client.set_transaction_status(TransactionStatus::Idle);
            send_execution_response(client, tag).await
        }
        Response::CopyOut(response) => copy::send_copy_out_response(client, response).await,
        Response::CopyIn(response) => {
            // What comes next is data; `true` where a Sync ends it.
            client.set_state(PgWireConnectionState::CopyInProgress(!describe));
            copy::send_copy_in_response(client, response).await
        }
        _ => Err(SqlError::new(code::INTERNAL, "an answer of another kind").into()),
    }
}

#[async_trait]
impl CopyHandler for Handler {
    async fn on_copy_data<C>(&self, client: &mut C, data: CopyData) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let session = session(client);
        let mut copied = session.copied.lock();
        let Some(open) = copied.as_mut() else { return Ok(()) };
        if open.bytes.len() + data.data.len() > BYTES_MAX {
            // The rest is not kept; the end says so.
            open.is_too_long = true;
            open.bytes = Vec::new();
        }
        if !open.is_too_long {
            open.bytes.extend_from_slice(&data.data);
        }
        Ok(())
    }

    async fn on_copy_done<C>(&self, client: &mut C, _: CopyDone) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let session = session(client);
        let copied = session.copied.lock().take();
        let copied = copied.ok_or_else(|| SqlError::new(code::PROTOCOL, "no COPY is under way"))?;
        if copied.is_too_long {
            let message =
                format!("COPY sent more than {BYTES_MAX} bytes, more than one transaction holds");
            let error = SqlError::new(code::LIMIT_EXCEEDED, message);
            return Err(error.hint("copy in smaller pieces").into());
        }
        let mut patience = self.patience(client).await;
        let order = Order::Copied(&copied);
        let respond = |done: Done| Ok(Tag::new("COPY").with_rows(done.rows.unwrap_or(0)));
        let tag = session.write(&self.engine, &mut patience, order, respond).await?;
        send_execution_response(client, tag).await
    }

    async fn on_copy_fail<C>(&self, client: &mut C, fail: CopyFail) -> PgWireError
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        *session(client).copied.lock() = None;
        SqlError::canceled(&format!("the client's end of COPY: {}", fail.message)).into()
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
        let mut patience = self.patience(client).await;
        let mut prepared = self.prepare(&session, &mut patience, ask).await?;
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

/// Most portals of a connection.
const PORTALS_MAX: usize = 64;

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
                client.portal_store().rm_statement(&name);
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
            _ => {
                session(client).portals.lock().remove(name);
                client.portal_store().rm_portal(name);
            }
        }
        let closed = PgWireBackendMessage::CloseComplete(CloseComplete::new());
        futures_util::SinkExt::send(client, closed).await?;
        Ok(())
    }

    /// As the trait's, and "no data" where a statement has parameters and no columns.
    async fn on_describe<C>(&self, client: &mut C, message: Describe) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        use pgwire::api::store::Entry;
        let name = message.name.as_deref().unwrap_or(DEFAULT_NAME);
        if message.target_type != TARGET_TYPE_BYTE_STATEMENT {
            return self._on_describe(client, message).await;
        }
        let Some(Entry::Value(statement)) = client.portal_store().get_statement(name) else {
            return self._on_describe(client, message).await;
        };
        let described = self.do_describe_statement(client, &statement).await?;
        if described.parameters.is_empty() || !described.fields.is_empty() {
            return send_describe_response(client, &described).await;
        }
        let types = described.parameters.iter().map(Type::oid).collect();
        let types = ParameterDescription::new(types);
        let types = PgWireBackendMessage::ParameterDescription(types);
        futures_util::SinkExt::feed(client, types).await?;
        futures_util::SinkExt::feed(client, PgWireBackendMessage::NoData(NoData::new())).await?;
        Ok(())
    }

    /// As the trait's, and no more portals than allowed.
    async fn on_bind<C>(&self, client: &mut C, message: Bind) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        use pgwire::api::store::Entry;
        let statement_name = message.statement_name.as_deref().unwrap_or(DEFAULT_NAME);
        let portal_name = message.portal_name.as_deref().unwrap_or(DEFAULT_NAME).to_owned();
        {
            let session = session(client);
            let mut portals = session.portals.lock();
            if portals.len() >= PORTALS_MAX && !portals.contains(&portal_name) {
                let message = format!("a connection may hold {PORTALS_MAX} portals");
                return Err(SqlError::new(code::LIMIT_EXCEEDED, message).into());
            }
            portals.insert(portal_name.clone());
        }
        match client.portal_store().get_statement(statement_name) {
            Some(Entry::Value(statement)) => {
                let portal = Portal::try_new(&message, statement)?;
                client.portal_store().put_portal(Arc::new(portal));
            }
            Some(Entry::Empty) if message.parameters.is_empty() => {
                client.portal_store().put_empty_portal(&portal_name);
            }
            Some(Entry::Empty) => {
                let message = "bind message supplies parameters, but the statement is empty";
                return Err(SqlError::new(code::PROTOCOL, message).into());
            }
            None => return Err(PgWireError::StatementNotFound(statement_name.to_owned())),
        }
        let bound = PgWireBackendMessage::BindComplete(BindComplete::new());
        futures_util::SinkExt::send(client, bound).await?;
        Ok(())
    }

    async fn do_query<C>(&self, _: &mut C, _: &Portal<Prepared>, _: usize) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        Err(SqlError::new(code::INTERNAL, "portals are answered by on_execute").into())
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
        if !matches!(client.state(), PgWireConnectionState::ReadyForQuery) {
            return Err(PgWireError::NotReadyForQuery);
        }
        client.set_state(PgWireConnectionState::QueryInProgress);
        let state = portal.state();
        let mut state = state.lock().await;
        if matches!(*state, PortalExecutionState::Initial) {
            match self.begin(client, &portal).await? {
                Response::Query(response) => *state = PortalExecutionState::Suspended(response),
                response => {
                    *state = PortalExecutionState::Finished;
                    if matches!(response, Response::TransactionEnd(_)) {
                        // Portals end with their transaction.
                        client.portal_store().clear_portals();
                        session(client).portals.lock().clear();
                    }
                    respond(client, response, false).await?;
                    if !matches!(client.state(), PgWireConnectionState::CopyInProgress(_)) {
                        client.set_state(PgWireConnectionState::ReadyForQuery);
                    }
                    return Ok(());
                }
            }
        }
        let rows_max = usize::try_from(message.max_rows).unwrap_or(0);
        let (mut sent, mut suspended) = (0, false);
        let mut tag = "SELECT".to_owned();
        if let PortalExecutionState::Suspended(response) = &mut *state {
            tag = response.command_tag().to_owned();
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
            PgWireBackendMessage::CommandComplete(Tag::new(&tag).with_rows(sent).into())
        };
        futures_util::SinkExt::feed(client, last).await?;
        client.set_state(PgWireConnectionState::ReadyForQuery);
        Ok(())
    }
}

impl Handler {
    /// Begins to answer a portal.
    async fn begin<C>(&self, client: &mut C, portal: &Portal<Prepared>) -> PgWireResult<Response>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
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
        let mut patience = self.patience(client).await;
        let answer = self.answer(client, &mut patience, prepared, values, format).await;
        let session = session(client);
        tell(client, &session).await?;
        if answer.is_err() && matches!(prepared.ask, Ask::Commit) {
            client.set_transaction_status(TransactionStatus::Idle);
        }
        Ok(answer?)
    }
}
