//! Plans and runs statements, each on a snapshot of its own and within its limits.

use crate::checked::{self, CheckedArithmetic};
use crate::error::{SqlError, code};
use crate::limits::{Limits, StatementPool};
use crate::tables::scan::Scope;
use crate::tables::{LogProvider, RowProvider, logs, rows};
use datafusion::catalog::SchemaProvider;
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
use kanjo_view::{LogSource, Snapshot, View};
use std::sync::Arc;
use std::time::Duration;

/// Name of the one database.
pub(crate) const DATABASE: &str = "kanjo";

/// How long a statement waits for the view to reach the newest final block.
const CATCH_UP_MAX: Duration = Duration::from_secs(2);

/// Plans and runs statements.
pub(crate) struct Engine {
    base: SessionState,
    view: Arc<View>,
    log: Arc<dyn LogSource>,
    memory: Arc<dyn MemoryPool>,
    pub limits: Limits,
    pub compatible: PostgresCompatibilityParser,
}

impl Engine {
    pub(crate) fn new(
        view: Arc<View>,
        log: Arc<dyn LogSource>,
        limits: Limits,
    ) -> Result<Self, SqlError> {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut config = SessionConfig::new()
            .with_default_catalog_and_schema(DATABASE, "public")
            .with_information_schema(true)
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
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(runtime)
            .with_default_features()
            .with_analyzer_rule(Arc::new(CheckedArithmetic::new()))
            .build();
        let context = SessionContext::new_with_state(state);
        checked::aggregates().into_iter().for_each(|aggregate| context.register_udaf(aggregate));
        let schema = context.catalog(DATABASE).and_then(|catalog| catalog.schema("public"));
        let schema = schema.ok_or_else(|| SqlError::new(code::INTERNAL, "no schema public"))?;
        register(schema.as_ref())?;
        setup_pg_catalog(&context, DATABASE, EmptyContextProvider)
            .map_err(|error| SqlError::from(*error))?;
        let compatible = PostgresCompatibilityParser::new();
        Ok(Self { base: context.state(), view, log, memory, limits, compatible })
    }

    /// A snapshot that has every block that was final when it was asked for.
    pub(crate) async fn snapshot(&self) -> Result<Arc<Snapshot>, SqlError> {
        let newest = self.log.newest();
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

    /// For one statement.
    fn session(&self, scope: Option<Scope>) -> Result<SessionState, SqlError> {
        let bytes_max = self.limits.statement_memory_bytes_max;
        let pool = StatementPool::new(Arc::clone(&self.memory), bytes_max);
        let runtime = RuntimeEnvBuilder::from_runtime_env(self.base.runtime_env())
            .with_memory_pool(Arc::new(pool))
            .build_arc()?;
        let mut config = self.base.config().clone();
        if let Some(scope) = scope {
            config.set_extension(Arc::new(scope));
        }
        let builder = SessionStateBuilder::new_from_existing(self.base.clone());
        Ok(builder.with_config(config).with_runtime_env(runtime).build())
    }

    /// The plan of a query, parameters still open.
    pub(crate) async fn plan(&self, statement: Statement) -> Result<LogicalPlan, SqlError> {
        let statement = parser::Statement::Statement(Box::new(statement));
        let plan = self.base.statement_to_plan(statement).await?;
        let options = SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false);
        options
            .verify_plan(&plan)
            .map_err(|error| SqlError::not_supported(error.strip_backtrace()))?;
        Ok(plan)
    }

    /// Runs a plan on a snapshot.
    pub(crate) async fn run(
        &self,
        plan: LogicalPlan,
        parameters: Vec<ScalarValue>,
        snapshot: Arc<Snapshot>,
    ) -> Result<SendableRecordBatchStream, SqlError> {
        let plan = match parameters.is_empty() {
            true => plan,
            false => plan.with_param_values(ParamValues::from(parameters))?,
        };
        let scope = Scope { snapshot, log: Arc::clone(&self.log) };
        let session = self.session(Some(scope))?;
        let plan = session.optimize(&plan)?;
        let plan = session.create_physical_plan(&plan).await?;
        Ok(execute_stream(plan, session.task_ctx())?)
    }
}

fn register(schema: &dyn SchemaProvider) -> Result<(), SqlError> {
    for table in rows::tables() {
        schema.register_table(table.name.to_owned(), Arc::new(RowProvider::new(table)))?;
    }
    for table in logs::tables() {
        schema.register_table(table.name.to_owned(), Arc::new(LogProvider::new(table)))?;
    }
    Ok(())
}
