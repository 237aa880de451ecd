//! Answers to statements.

use crate::change::{self, copied::Copied};
use crate::error::{SqlError, code};
use crate::patience::Patience;
use crate::session::{Done, Order, Session};
use crate::shortcut::Shortcut;
use crate::statement::{Ask, Setting};
use crate::tables::scan::Scope;
use crate::transaction::Transaction;
use crate::wire::{Handler, session};
use crate::{copy, encode};
use crate::{describe, params};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::LogicalPlan;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use kanjo_types::{Hash, RelationId};
use pgwire::api::portal::Format;
use pgwire::api::results::{CopyResponse, FieldInfo, QueryResponse, Response, Tag};
use pgwire::api::{ClientInfo, Type};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::copy::CopyData;
use pgwire::messages::data::DataRow;
use pgwire::messages::response::TransactionStatus;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What was prepared.
#[derive(Clone)]
pub(crate) struct Prepared {
    pub ask: Ask,
    pub plan: Option<Arc<LogicalPlan>>,
    /// A way past the planner.
    shortcut: Option<Arc<Shortcut>>,
    /// Tables of users that the plan reads, as they were.
    tables: Vec<(RelationId, Hash)>,
    /// Was it planned with definitions that were not on the ledger?
    is_drafted: bool,
    /// What a change answers with.
    pub returned: Option<SchemaRef>,
    pub parameters: Vec<Type>,
}

impl Prepared {
    pub(crate) fn new(ask: Ask) -> Self {
        Self {
            ask,
            plan: None,
            shortcut: None,
            tables: Vec::new(),
            is_drafted: false,
            returned: None,
            parameters: Vec::new(),
        }
    }

    /// Are the tables of its plan still what they were?
    fn is_current(&self, scope: &Scope) -> bool {
        let same = |(number, hash): &(RelationId, Hash)| {
            scope.catalog.get(*number).is_some_and(|relation| relation.hash == *hash)
        };
        let drafted = self.is_drafted || !scope.drafts.relations.is_empty();
        // A plan that is used again has read its definitions again.
        if let Some(reads) = &scope.reads {
            let mut reads = reads.lock();
            self.tables.iter().for_each(|(number, _)| reads.relation(*number));
        }
        !drafted && self.tables.iter().all(same)
    }
}

impl Handler {
    /// Does what a statement asks for.
    pub(crate) async fn answer(
        &self,
        client: &(impl ClientInfo + Sync),
        patience: &mut Patience,
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
            Ask::Query(_) => self.query(&session, patience, prepared, parameters, format).await,
            Ask::Change(statement) => {
                let mut statement = statement.as_ref().clone();
                params::fill(&mut statement, &parameters)?;
                let order = Order::Statement(&statement);
                let respond = |done| changed(done, prepared.returned.as_ref(), format);
                session.write(&self.engine, patience, order, respond).await
            }
            Ask::Copy(plan) if plan.out => self.copy_out(&session, patience, plan).await,
            Ask::Copy(plan) => self.copy_in(&session, plan).await,
            Ask::Show(name) => show(name, &session, format),
            Ask::Set(setting) => set(&session, *setting),
            Ask::Begin { read_only } => {
                let mut open = session.transaction.lock();
                let read_only = *read_only || session.reads_only.load(Ordering::Relaxed);
                open.get_or_insert_with(|| Transaction::new(read_only));
                Ok(Response::TransactionStart(Tag::new("BEGIN")))
            }
            Ask::Commit if !failed => {
                let open = session.transaction.lock().take();
                if let Some(open) = open {
                    session.commit(&self.engine, open).await?;
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
        patience: &mut Patience,
        prepared: &Prepared,
        parameters: Vec<ScalarValue>,
        format: Option<&Format>,
    ) -> Result<Response, SqlError> {
        let (Some(plan), Ask::Query(statement)) = (&prepared.plan, &prepared.ask) else {
            return Err(SqlError::new(code::INTERNAL, "a query without a plan"));
        };
        let fields = Arc::new(encode::fields(plan.schema().as_arrow(), format)?);
        if let Some(shortcut) = &prepared.shortcut {
            let scope = patience.within(session.scope(&self.engine)).await?;
            if prepared.is_current(&scope)
                && let Some(batch) = shortcut.read(&scope, &parameters)?
            {
                let rows = encode::rows(&batch, &fields)?;
                let rows = stream::iter(rows.into_iter().map(Ok));
                return Ok(Response::Query(QueryResponse::new(fields, rows)));
            }
        }
        let work = async {
            let scope = session.scope(&self.engine).await?;
            let plan = match prepared.is_current(&scope) {
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
        let batches = patience.within(work).await?;
        let rows = rows(batches, Arc::clone(&fields), patience.take());
        Ok(Response::Query(QueryResponse::new(fields, rows)))
    }

    /// Rows to the client.
    async fn copy_out(
        &self,
        session: &Session,
        patience: &mut Patience,
        plan: &copy::Plan,
    ) -> Result<Response, SqlError> {
        let work = async {
            let scope = session.scope(&self.engine).await?;
            let planned = self.engine.plan(&scope, plan.query()?).await?;
            let fields = encode::fields(planned.schema().as_arrow(), None)?;
            let batches = self.engine.run(&scope, planned, Vec::new()).await?;
            Ok((Arc::new(fields), batches))
        };
        let (fields, batches) = patience.within(work).await?;
        let names: Vec<&str> = fields.iter().map(FieldInfo::name).collect();
        let (columns, form) = (fields.len(), plan.form.clone());
        let header = form.header(&names).map(|line| Ok(CopyData::new(line.into())));
        let lines = rows(batches, Arc::clone(&fields), patience.take()).map(move |row| {
            let line = form.line(&copy::fields(&row?)?);
            Ok(CopyData::new(line.into()))
        });
        let lines = stream::iter(header).chain(lines);
        Ok(Response::CopyOut(CopyResponse::new(0, columns, lines)))
    }

    /// Rows from the client: how many columns they have.
    async fn copy_in(&self, session: &Session, plan: &copy::Plan) -> Result<Response, SqlError> {
        let copy::Subject::Table(name, columns) = &plan.subject else {
            return Err(SqlError::new(code::SYNTAX, "COPY FROM needs a table"));
        };
        let scope = session.scope(&self.engine).await?;
        let (schema, table) = change::split(name)?;
        let relation = scope.catalog.table(&schema, &table)?;
        let all = relation.record.table().map_or(0, |definition| definition.columns.len());
        let count = if columns.is_empty() { all } else { columns.len() };
        *session.copied.lock() =
            Some(Copied { plan: plan.clone(), bytes: Vec::new(), is_too_long: false });
        Ok(Response::CopyIn(CopyResponse::new(0, count, stream::empty())))
    }

    /// Plans a query; other statements need none.
    pub(crate) async fn prepare(
        &self,
        session: &Session,
        patience: &mut Patience,
        ask: Ask,
    ) -> Result<Prepared, SqlError> {
        let mut prepared = Prepared::new(ask);
        match &prepared.ask {
            Ask::Query(statement) => {
                let statement = statement.as_ref().clone();
                let scope = session.scope(&self.engine).await?;
                let plan = patience.within(self.engine.plan(&scope, statement)).await?;
                prepared.tables = scope.resolved.lock().iter().copied().collect();
                prepared.is_drafted = !scope.drafts.relations.is_empty();
                prepared.shortcut = Shortcut::of(&plan).map(Arc::new);
                prepared.plan = Some(Arc::new(plan));
            }
            Ask::Change(statement) => {
                let scope = session.scope(&self.engine).await?;
                let described = describe::change(&self.engine, &scope, statement);
                let described = patience.within(described).await?;
                (prepared.parameters, prepared.returned) = described;
            }
            _ => {}
        }
        Ok(prepared)
    }
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
fn changed(
    done: Done,
    described: Option<&SchemaRef>,
    format: Option<&Format>,
) -> Result<Response, SqlError> {
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
    if described.is_some_and(|described| described.fields() != returned.schema.fields()) {
        let message = "cached plan must not change result type";
        return Err(SqlError::not_supported(message).hint("prepare it again"));
    }
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
    patience: Patience,
) -> impl futures_util::Stream<Item = PgWireResult<DataRow>> + Send + 'static {
    let state = (batches, fields, patience);
    let chunks = stream::try_unfold(state, |(mut batches, fields, mut patience)| async move {
        let batch = patience.within(async { Ok(batches.next().await) }).await?;
        let Some(batch) = batch else { return Ok::<_, PgWireError>(None) };
        let rows = encode::rows(&batch.map_err(SqlError::from)?, &fields)?;
        let rows = stream::iter(rows.into_iter().map(Ok::<_, PgWireError>));
        Ok(Some((rows, (batches, fields, patience))))
    });
    chunks.try_flatten()
}

/// Changes a setting of the session, or of its transaction.
fn set(session: &Session, setting: Setting) -> Result<Response, SqlError> {
    match setting {
        Setting::Nothing => {}
        Setting::SessionReadOnly(read_only) => {
            session.reads_only.store(read_only, Ordering::Relaxed);
        }
        Setting::TransactionReadOnly => {
            in_transaction(session, "SET TRANSACTION", |open| {
                open.read_only = true;
                Ok(())
            })?;
        }
    }
    Ok(Response::Execution(Tag::new("SET")))
}

/// The value of a setting, as a row.
fn show(name: &str, session: &Session, format: Option<&Format>) -> Result<Response, SqlError> {
    let last = session.last().map(|id| id.to_string()).unwrap_or_default();
    let value = match name {
        "kanjo_last_transaction" | "kanjo.last_transaction" => last.as_str(),
        "transaction_isolation"
        | "transaction_isolation_level"
        | "default_transaction_isolation" => "serializable",
        "default_transaction_read_only" | "transaction_read_only"
            if session.reads_only.load(Ordering::Relaxed) =>
        {
            "on"
        }
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
