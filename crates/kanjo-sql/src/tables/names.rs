//! Which table a name means: the ledger's own, a table or view of users, or one that a statement
//! brings along.

use super::relation::RelationProvider;
use super::scan::Scope;
use crate::catalog::permit;
use crate::define::Relation;
use crate::engine;
use crate::error::{SqlError, code};
use crate::limits::Limits;
use async_trait::async_trait;
use datafusion::catalog::view::ViewTable;
use datafusion::catalog::{CatalogProvider, MemoryCatalogProvider, SchemaProvider, TableProvider};
use datafusion::common::Result;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use kanjo_types::relation::{RIGHT_SELECT, RelationKind};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

/// Views of a statement, each counted wherever it is named.
const VIEWS_MAX: usize = 200;
/// Views that read views.
const VIEWS_DEEP_MAX: usize = 16;

/// What a name is looked up in.
pub(crate) trait Source: Send + Sync {
    fn scope(&self) -> Result<Arc<Scope>, SqlError>;
    fn base(&self) -> Option<Arc<SessionState>>;
}

/// A statement's own.
pub(crate) struct OfStatement {
    pub scope: Arc<Scope>,
    pub base: Arc<SessionState>,
}

impl Source for OfStatement {
    fn scope(&self) -> Result<Arc<Scope>, SqlError> {
        Ok(Arc::clone(&self.scope))
    }

    fn base(&self) -> Option<Arc<SessionState>> {
        Some(Arc::clone(&self.base))
    }
}

/// The newest block's, for tables that describe the database. It is set when the engine stands.
#[derive(Default)]
pub(crate) struct OfNewest(pub OnceLock<Box<dyn Source>>);

impl Source for OfNewest {
    fn scope(&self) -> Result<Arc<Scope>, SqlError> {
        let source = self.0.get();
        source.ok_or_else(|| SqlError::new(code::INTERNAL, "the engine is not set up"))?.scope()
    }

    fn base(&self) -> Option<Arc<SessionState>> {
        self.0.get().and_then(|source| source.base())
    }
}

/// The database.
pub(crate) struct Database {
    /// Schemas of the engine and the ledger's own tables.
    pub fixed: Arc<MemoryCatalogProvider>,
    pub source: Arc<dyn Source>,
    /// So many views are being looked into.
    pub depth: usize,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Database")
    }
}

impl CatalogProvider for Database {
    fn schema_names(&self) -> Vec<String> {
        let mut names = self.fixed.schema_names();
        if let Ok(scope) = self.source.scope() {
            names.extend(scope.catalog.schemas());
        }
        names.sort_unstable();
        names.dedup();
        names
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let fixed = self.fixed.schema(name);
        if name.starts_with("pg_") || name == "information_schema" {
            return fixed;
        }
        let known = fixed.is_some()
            || self
                .source
                .scope()
                .is_ok_and(|scope| scope.catalog.schemas().iter().any(|schema| schema == name));
        known.then(|| {
            Arc::new(Schema {
                name: name.to_owned(),
                fixed,
                database: Arc::clone(&self.fixed),
                source: Arc::clone(&self.source),
                depth: self.depth,
            }) as Arc<dyn SchemaProvider>
        })
    }

    fn register_schema(
        &self,
        name: &str,
        schema: Arc<dyn SchemaProvider>,
    ) -> Result<Option<Arc<dyn SchemaProvider>>> {
        self.fixed.register_schema(name, schema)
    }
}

/// A schema that holds tables.
struct Schema {
    name: String,
    fixed: Option<Arc<dyn SchemaProvider>>,
    database: Arc<MemoryCatalogProvider>,
    source: Arc<dyn Source>,
    depth: usize,
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schema({})", self.name)
    }
}

#[async_trait]
impl SchemaProvider for Schema {
    fn table_names(&self) -> Vec<String> {
        let mut names = self.fixed.as_ref().map_or_else(Vec::new, |fixed| fixed.table_names());
        if let Ok(scope) = self.source.scope() {
            let of_schema = scope.catalog.all().map(|relation| &relation.record);
            let of_schema = of_schema.filter(|record| record.schema == self.name);
            names.extend(of_schema.map(|record| record.name.clone()));
        }
        names
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let scope = self.source.scope()?;
        if let Some(brought) = scope.brought.get(name) {
            return Ok(Some(Arc::clone(brought)));
        }
        if let Some(fixed) = &self.fixed
            && let Some(found) = fixed.table(name).await?
        {
            return Ok(Some(found));
        }
        let Some(relation) = scope.catalog.named(&self.name, name).cloned() else {
            return Ok(None);
        };
        if scope.enforce {
            permit(&relation.record, scope.user, RIGHT_SELECT)?;
            let number = relation.record.number;
            scope.resolved.lock().insert((number, relation.hash));
            if let Some(reads) = &scope.reads {
                reads.lock().relation(number);
            }
        }
        match &relation.record.kind {
            RelationKind::Table(_) => {
                let provider = RelationProvider::new(relation);
                Ok(provider.map(|provider| Arc::new(provider) as Arc<dyn TableProvider>))
            }
            // What only describes the database leaves out what can't be planned.
            RelationKind::View(query) => match self.view(&scope, &relation, query).await {
                Err(_) if !scope.enforce => Ok(None),
                view => view.map(Some),
            },
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        self.table_names().iter().any(|known| known == name)
    }
}

impl Schema {
    /// A view reads with the rights of its owner, as in PostgreSQL.
    async fn view(
        &self,
        scope: &Arc<Scope>,
        relation: &Relation,
        query: &str,
    ) -> Result<Arc<dyn TableProvider>> {
        let record = &relation.record;
        let put_in = scope.views.fetch_add(1, Ordering::Relaxed);
        if self.depth >= VIEWS_DEEP_MAX || put_in >= VIEWS_MAX {
            let message =
                format!("view \"{}\" reads itself, or views too deep or too many", record.name);
            return Err(SqlError::new(code::TOO_COMPLEX, message).into());
        }
        let base = self
            .source
            .base()
            .ok_or_else(|| DataFusionError::Internal("a view outside of a statement".to_owned()))?;
        crate::statement::bound(query, &Limits::default())?;
        let owned = Arc::new(Scope {
            user: Some(record.owner),
            brought: BTreeMap::new(),
            ..scope.as_ref().clone()
        });
        let state = engine::session_state(&base, &self.database, &owned, self.depth + 1)?;
        let plan = Box::pin(state.create_logical_plan(query)).await?;
        Ok(Arc::new(ViewTable::new(plan, Some(query.to_owned()))))
    }
}
