//! Plans and runs queries, each on a snapshot of its own and within its limits.

use crate::catalog::{Catalog, Catalogs};
use crate::change::Numbers;
use crate::checked::{self, CheckedArithmetic};
use crate::error::{SqlError, code};
use crate::limits::{Limits, StatementPool};
use crate::patience::Yielding;
use crate::roles::Roles;
use crate::tables::names::{Database, OfNewest, OfStatement, Source};
use crate::tables::scan::Scope;
use crate::tables::{LogProvider, RowProvider, logs, rows};
use crate::transaction::{Drafts, Reads};
use datafusion::arrow::array::RecordBatch;
use datafusion::catalog::information_schema::{INFORMATION_SCHEMA, InformationSchemaProvider};
use datafusion::catalog::{
    CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList, MemorySchemaProvider,
    SchemaProvider, TableProvider,
};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SendableRecordBatchStream, SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::{SQLOptions, SessionConfig, SessionContext};
use datafusion::sql::parser;
use datafusion::sql::sqlparser::ast::Statement;
use datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_pg_catalog::pg_catalog::setup_pg_catalog;
use datafusion_pg_catalog::sql::PostgresCompatibilityParser;
use futures_util::TryStreamExt as _;
use kanjo_client::Client;
use kanjo_types::UserId;
use kanjo_view::{LogSource, Snapshot, View};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Name of the one database.
pub(crate) const DATABASE: &str = "kanjo";

/// How long a statement waits for the view to reach the newest final block.
const CATCH_UP_MAX: Duration = Duration::from_secs(2);

/// Plans and runs queries.
pub(crate) struct Engine {
    base: Arc<SessionState>,
    fixed: Arc<MemoryCatalogProvider>,
    view: Arc<View>,
    log: Arc<dyn LogSource>,
    catalogs: Arc<Catalogs>,
    memory: Arc<dyn MemoryPool>,
    /// Where transactions are submitted.
    pub client: Option<Arc<Client>>,
    pub chain: kanjo_types::ChainId,
    pub roles: Roles,
    pub numbers: Numbers,
    pub limits: Limits,
    pub compatible: PostgresCompatibilityParser,
}

/// What an engine is made of.
pub(crate) struct Parts {
    pub view: Arc<View>,
    pub log: Arc<dyn LogSource>,
    pub client: Option<Arc<Client>>,
    pub chain: kanjo_types::ChainId,
    pub roles: Roles,
    pub limits: Limits,
}

impl Engine {
    pub(crate) fn new(parts: Parts) -> Result<Self, SqlError> {
        let Parts { view, log, client, chain, roles, limits } = parts;
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut config = SessionConfig::new()
            .with_default_catalog_and_schema(DATABASE, "public")
            .with_create_default_catalog_and_schema(false)
            // Its own is put in below: one that shows what there is to everybody.
            .with_information_schema(false)
            .with_target_partitions(threads.min(4))
            .with_batch_size(4_096);
        let options = config.options_mut();
        options.sql_parser.dialect = datafusion::common::config::Dialect::PostgreSQL;
        // Money: 1.5 is a decimal.
        options.sql_parser.parse_float_as_decimal = true;
        let memory: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(limits.memory_bytes_max));
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::clone(&memory))
            .with_disk_manager_builder(
                DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled),
            )
            .build_arc()?;
        let fixed = Arc::new(MemoryCatalogProvider::new());
        let public: Arc<dyn SchemaProvider> = Arc::new(MemorySchemaProvider::new());
        register(public.as_ref())?;
        datafusion::catalog::CatalogProvider::register_schema(fixed.as_ref(), "public", public)?;
        let newest = Arc::new(OfNewest::default());
        let catalogs = Arc::new(MemoryCatalogProviderList::new());
        let source: Arc<dyn Source> = Arc::clone(&newest) as Arc<dyn Source>;
        let database = Database { fixed: Arc::clone(&fixed), source, depth: 0 };
        catalogs.register_catalog(DATABASE.to_owned(), Arc::new(database));
        let described = Arc::new(InformationSchemaProvider::new(Arc::clone(&catalogs) as _));
        datafusion::catalog::CatalogProvider::register_schema(
            fixed.as_ref(),
            INFORMATION_SCHEMA,
            described,
        )?;
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(runtime)
            .with_default_features()
            .with_catalog_list(catalogs)
            .with_analyzer_rule(Arc::new(CheckedArithmetic::new()))
            .with_physical_optimizer_rule(Arc::new(Yielding))
            .build();
        let context = SessionContext::new_with_state(state);
        checked::aggregates().into_iter().for_each(|aggregate| context.register_udaf(aggregate));
        setup_pg_catalog(&context, DATABASE, EmptyContextProvider)
            .map_err(|error| SqlError::from(*error))?;
        let base = Arc::new(context.state());
        let relations = Arc::<Catalogs>::default();
        let newest_of = Newest {
            catalogs: Arc::clone(&relations),
            view: Arc::clone(&view),
            log: Arc::clone(&log),
            base: Arc::clone(&base),
        };
        let _ = newest.0.set(Box::new(newest_of));
        let compatible = PostgresCompatibilityParser::new();
        let numbers = Numbers::default();
        Ok(Self {
            base,
            fixed,
            view,
            log,
            catalogs: relations,
            memory,
            client,
            chain,
            roles,
            numbers,
            limits,
            compatible,
        })
    }

    /// A snapshot that has every block that was final when it was asked for, and at least `height`.
    pub(crate) async fn snapshot(&self, height: u64) -> Result<Arc<Snapshot>, SqlError> {
        let newest = self.log.newest().max(height);
        let give_up_at = tokio::time::Instant::now() + CATCH_UP_MAX;
        while self.view.height() < newest {
            if tokio::time::Instant::now() >= give_up_at {
                let message = "the tables are behind the newest block; try again";
                return Err(SqlError::new("55000", message));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(Arc::new(self.view.snapshot()?))
    }

    /// What a statement reads.
    pub(crate) fn scope(
        &self,
        snapshot: Arc<Snapshot>,
        drafts: Arc<Drafts>,
        reads: Option<Arc<Mutex<Reads>>>,
        user: Option<UserId>,
    ) -> Result<Scope, SqlError> {
        let catalog = self.catalog(&snapshot, &drafts)?;
        let (log, brought) = (Arc::clone(&self.log), BTreeMap::new());
        let (resolved, views) = (Arc::default(), Arc::default());
        Ok(Scope {
            snapshot,
            log,
            drafts,
            reads,
            catalog,
            user,
            enforce: true,
            brought,
            resolved,
            views,
        })
    }

    /// The relations of a snapshot; those of a height are read once.
    pub(crate) fn catalog(
        &self,
        snapshot: &Snapshot,
        drafts: &Drafts,
    ) -> Result<Arc<Catalog>, SqlError> {
        if !drafts.relations.is_empty() {
            return Ok(Arc::new(Catalog::read(snapshot, drafts)?));
        }
        self.catalogs.at(snapshot)
    }

    /// For one statement.
    fn session(&self, scope: &Arc<Scope>) -> Result<SessionState, SqlError> {
        let bytes_max = self.limits.statement_memory_bytes_max;
        let pool = StatementPool::new(Arc::clone(&self.memory), bytes_max);
        let runtime = RuntimeEnvBuilder::from_runtime_env(self.base.runtime_env())
            .with_memory_pool(Arc::new(pool))
            .build_arc()?;
        let state = session_state(&self.base, &self.fixed, scope, 0)?;
        let mut state =
            SessionStateBuilder::new_from_existing(state).with_runtime_env(runtime).build();
        state.mark_start_execution();
        Ok(state)
    }

    /// The plan of a query, parameters still open.
    pub(crate) async fn plan(
        &self,
        scope: &Arc<Scope>,
        statement: Statement,
    ) -> Result<LogicalPlan, SqlError> {
        let state = session_state(&self.base, &self.fixed, scope, 0)?;
        let statement = parser::Statement::Statement(Box::new(statement));
        let plan = state.statement_to_plan(statement).await?;
        let options = SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false);
        options
            .verify_plan(&plan)
            .map_err(|error| SqlError::not_supported(error.strip_backtrace()))?;
        bound(&plan)?;
        Ok(plan)
    }

    /// Runs a plan.
    pub(crate) async fn run(
        &self,
        scope: &Arc<Scope>,
        plan: LogicalPlan,
        parameters: Vec<ScalarValue>,
    ) -> Result<SendableRecordBatchStream, SqlError> {
        let plan = match parameters.is_empty() {
            true => plan,
            false => plan.with_param_values(ParamValues::from(parameters))?,
        };
        let session = self.session(scope)?;
        let plan = session.create_physical_plan(&plan).await?;
        Ok(execute_stream(plan, session.task_ctx())?)
    }

    /// All rows of a query.
    pub(crate) async fn gather(
        &self,
        scope: &Arc<Scope>,
        statement: Statement,
    ) -> Result<Vec<RecordBatch>, SqlError> {
        let plan = self.plan(scope, statement).await?;
        let batches = self.run(scope, plan, Vec::new()).await?;
        self.collect(batches).await
    }

    /// All rows of a stream, within the memory of a statement.
    pub(crate) async fn collect(
        &self,
        mut batches: SendableRecordBatchStream,
    ) -> Result<Vec<RecordBatch>, SqlError> {
        let mut left = GATHERED_BYTES_MAX;
        let mut all = Vec::new();
        while let Some(batch) = batches.try_next().await? {
            left = left.checked_sub(batch.get_array_memory_size()).ok_or_else(|| {
                let message = format!(
                    "the statement changes or returns more than {GATHERED_BYTES_MAX} bytes"
                );
                SqlError::new(code::LIMIT_EXCEEDED, message).hint("do it in smaller pieces")
            })?;
            all.push(batch);
        }
        Ok(all)
    }
}

/// A plan has no more nodes than this: names that stand for queries multiply when they are used
/// twice.
const NODES_MAX: usize = 4_000;
/// Bytes of rows that a change works with at one time: many times what a transaction holds.
const GATHERED_BYTES_MAX: usize = 64 << 20;

/// Refuses plans that would take the optimizer too long: it can't be interrupted.
fn bound(plan: &LogicalPlan) -> Result<(), SqlError> {
    let mut nodes = 0usize;
    plan.apply_with_subqueries(|_| {
        nodes += 1;
        Ok(match nodes > NODES_MAX {
            true => TreeNodeRecursion::Stop,
            false => TreeNodeRecursion::Continue,
        })
    })?;
    if nodes > NODES_MAX {
        let message = format!("the plan of the statement has more than {NODES_MAX} steps");
        let error = SqlError::new(code::TOO_COMPLEX, message);
        return Err(error.hint("queries of WITH and views count each time that they are used"));
    }
    Ok(())
}

/// The engine's state with a statement's tables.
pub(crate) fn session_state(
    base: &Arc<SessionState>,
    fixed: &Arc<MemoryCatalogProvider>,
    scope: &Arc<Scope>,
    depth: usize,
) -> Result<SessionState, SqlError> {
    let source: Arc<dyn Source> =
        Arc::new(OfStatement { scope: Arc::clone(scope), base: Arc::clone(base) });
    let catalogs = Arc::new(MemoryCatalogProviderList::new());
    let database = Database { fixed: Arc::clone(fixed), source, depth };
    catalogs.register_catalog(DATABASE.to_owned(), Arc::new(database));
    let mut config = base.config().clone();
    config.set_extension(Arc::clone(scope));
    let builder = SessionStateBuilder::new_from_existing(base.as_ref().clone());
    let mut state = builder.with_config(config).with_catalog_list(catalogs).build();
    // What `now()` is.
    state.mark_start_execution();
    Ok(state)
}

/// The tables of the newest block, for what describes the database.
struct Newest {
    catalogs: Arc<Catalogs>,
    view: Arc<View>,
    log: Arc<dyn LogSource>,
    base: Arc<SessionState>,
}

impl Source for Newest {
    fn scope(&self) -> Result<Arc<Scope>, SqlError> {
        let snapshot = Arc::new(self.view.snapshot()?);
        let drafts = Arc::<Drafts>::default();
        let catalog = self.catalogs.at(&snapshot)?;
        Ok(Arc::new(Scope {
            snapshot,
            log: Arc::clone(&self.log),
            drafts,
            reads: None,
            catalog,
            user: None,
            enforce: false,
            brought: BTreeMap::new(),
            resolved: Arc::default(),
            views: Arc::default(),
        }))
    }

    fn base(&self) -> Option<Arc<SessionState>> {
        Some(Arc::clone(&self.base))
    }
}

fn register(schema: &dyn SchemaProvider) -> Result<(), SqlError> {
    for table in rows::tables() {
        let name = table.name.to_owned();
        let provider: Arc<dyn TableProvider> = Arc::new(RowProvider::new(table));
        schema.register_table(name, provider)?;
    }
    for table in logs::tables() {
        schema.register_table(table.name.to_owned(), Arc::new(LogProvider::new(table)))?;
    }
    Ok(())
}
