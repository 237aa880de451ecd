//! A session: its role, its open transaction, and how that becomes one ledger transaction.

use crate::catalog::{Catalog, Known};
use crate::change::copied::{self, Copied};
use crate::change::row::failed;
use crate::change::{self, Author, Outcome, Returned, Work, pay};
use crate::define;
use crate::engine::Engine;
use crate::error::{SqlError, code};
use crate::patience::Patience;
use crate::roles::Role;
use crate::tables::scan::Scope;
use crate::transaction::{Drafts, Transaction};
use datafusion::sql::sqlparser::ast::Statement;
use kanjo_api::SubmitOutcome;
use kanjo_client::{ClientError, Draft, DraftError, now_ms};
use kanjo_types::outcome::ResultCode;
use kanjo_types::relation::{RelationChange, RelationKind};
use kanjo_types::transaction::{Operation, SignedTransaction};
use kanjo_types::{TransactionId, UserId};
use kanjo_view::Snapshot;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How often a statement of its own is planned again when others were faster.
const ATTEMPTS_MAX: u32 = 20;

/// What is to be changed.
#[derive(Clone, Copy)]
pub(crate) enum Order<'a> {
    Statement(&'a Statement),
    Copied(&'a Copied),
}

/// What a connection holds beside its statements.
#[derive(Default)]
pub(crate) struct Session {
    pub transaction: Mutex<Option<Transaction>>,
    pub prepared: Mutex<BTreeSet<String>>,
    /// Its name of role.
    pub role: Mutex<String>,
    /// The newest block that it has a transaction in: what comes after sees it.
    height: AtomicU64,
    last: Mutex<Option<TransactionId>>,
    /// What the client is to be told beside the answer.
    pub notices: Mutex<Vec<String>>,
    /// Do its transactions only read, unless they say otherwise?
    pub reads_only: AtomicBool,
    /// Portals that are open.
    pub portals: Mutex<BTreeSet<String>>,
    /// A COPY FROM under way.
    pub copied: Mutex<Option<Copied>>,
}

impl Session {
    /// Id of its newest ledger transaction.
    pub(crate) fn last(&self) -> Option<TransactionId> {
        *self.last.lock()
    }

    fn role<'a>(&self, engine: &'a Engine) -> Option<&'a Role> {
        engine.roles.get(&self.role.lock())
    }

    pub(crate) fn user(&self, engine: &Engine) -> Option<UserId> {
        self.role(engine).map(|role| role.user)
    }

    /// The snapshot that a statement reads: its own, or that of its transaction.
    async fn snapshot(&self, engine: &Engine) -> Result<Arc<Snapshot>, SqlError> {
        let known = self.transaction.lock().as_ref().and_then(|open| open.snapshot.clone());
        if let Some(snapshot) = known {
            return Ok(snapshot);
        }
        let snapshot = engine.snapshot(self.height.load(Ordering::Relaxed)).await?;
        if let Some(open) = self.transaction.lock().as_mut() {
            open.snapshot = Some(Arc::clone(&snapshot));
        }
        Ok(snapshot)
    }

    /// What a query reads.
    pub(crate) async fn scope(&self, engine: &Engine) -> Result<Arc<Scope>, SqlError> {
        let snapshot = self.snapshot(engine).await?;
        let (drafts, reads) = match self.transaction.lock().as_ref() {
            Some(open) => (Arc::clone(&open.drafts), Some(Arc::clone(&open.reads))),
            None => (Arc::default(), None),
        };
        Ok(Arc::new(engine.scope(snapshot, drafts, reads, self.user(engine))?))
    }

    /// Does a statement that changes something, in the open transaction or in one of its own.
    ///
    /// `respond` makes the answer; what it refuses is not committed.
    pub(crate) async fn write<T>(
        &self,
        engine: &Arc<Engine>,
        patience: &mut Patience,
        order: Order<'_>,
        respond: impl Fn(Done) -> Result<T, SqlError>,
    ) -> Result<T, SqlError> {
        let open = self.transaction.lock().take();
        if let Some(mut open) = open {
            let work = async {
                if open.snapshot.is_none() {
                    let height = self.height.load(Ordering::Relaxed);
                    open.snapshot = Some(engine.snapshot(height).await?);
                }
                self.apply(engine, &mut open, order).await
            };
            // What fails here, or is given up, leaves a transaction that can only be rolled back.
            let done = patience.within(work).await;
            *self.transaction.lock() = Some(open);
            return respond(done?);
        }
        let mut attempt = 0;
        loop {
            attempt += 1;
            let mut own = Transaction::new(self.reads_only.load(Ordering::Relaxed));
            let work = async {
                let height = self.height.load(Ordering::Relaxed);
                own.snapshot = Some(engine.snapshot(height).await?);
                self.apply(engine, &mut own, order).await
            };
            let done = patience.within(work).await?;
            let numbered = done.numbered;
            let answer = respond(done)?;
            // Not given up any more: it may be final already.
            match self.submit(engine, own).await {
                Ok(()) => return Ok(answer),
                Err(failed) if attempt < ATTEMPTS_MAX && failed.may_repeat(numbered) => {
                    engine.numbers.forget_all();
                    self.notices.lock().clear();
                }
                Err(failed) => return Err(failed.error),
            }
        }
    }

    /// Drafts what a statement does.
    async fn apply(
        &self,
        engine: &Arc<Engine>,
        open: &mut Transaction,
        order: Order<'_>,
    ) -> Result<Done, SqlError> {
        if open.read_only {
            let message =
                "cannot execute a statement that changes something in a read-only transaction";
            return Err(SqlError::new("25006", message));
        }
        let user = self.user(engine).ok_or_else(|| self.no_user(engine))?;
        let snapshot = open.snapshot.clone();
        let snapshot = snapshot.ok_or_else(|| SqlError::new(code::INTERNAL, "no snapshot"))?;
        let reads = Some(Arc::clone(&open.reads));
        let scope = engine.scope(snapshot, Arc::clone(&open.drafts), reads, Some(user))?;
        let known = Known { catalog: &scope.catalog, roles: &engine.roles };
        if let Order::Statement(statement) = order
            && let Some(defined) = define::plan(statement, &known)
        {
            let defined = defined?;
            for change in &defined.changes {
                if let RelationChange::Create { kind: RelationKind::View(query), .. } =
                    &change.change
                {
                    self.check_view(engine, &scope, query).await?;
                }
            }
            let drafts = Arc::make_mut(&mut open.drafts);
            for change in defined.changes {
                drafts.define(&scope.catalog, user, change)?;
            }
            self.notices.lock().extend(defined.notices);
            return Ok(Done { tag: defined.tag, ..Done::default() });
        }
        let now = i64::try_from(now_ms()).unwrap_or(i64::MAX).saturating_mul(1_000);
        let author = Author { user, now: *open.now.get_or_insert(now) };
        let drafts = std::mem::take(&mut open.drafts);
        let mut work =
            Work { engine: engine.as_ref(), scope: Arc::new(scope), author: &author, drafts };
        let done = match order {
            Order::Copied(copied) => copied::copy(&mut work, copied).map(Done::of),
            Order::Statement(statement) if pay::pays(statement) => {
                let paid = pay::pay(&mut work, statement).await;
                paid.map(|(returned, rows)| Done {
                    tag: "SELECT",
                    rows: Some(rows),
                    returned: Some(returned),
                    ..Done::default()
                })
            }
            Order::Statement(statement) => {
                change::change(&mut work, statement.clone()).await.map(Done::of)
            }
        };
        open.drafts = work.drafts;
        done
    }

    /// A view that can't be planned is not made.
    async fn check_view(
        &self,
        engine: &Engine,
        scope: &Scope,
        query: &str,
    ) -> Result<(), SqlError> {
        let scope = Arc::new(scope.clone());
        engine.plan(&scope, change::statement(query)?).await.map(|_| ())
    }

    fn no_user(&self, engine: &Engine) -> SqlError {
        let role = self.role.lock();
        let message =
            format!("role \"{role}\" can't change anything: it has no user of the ledger");
        let names = engine.roles.names();
        let hint = match names.is_empty() {
            true => "this node keeps no keys for SQL; see docs/sql.md, \"Roles\"".to_owned(),
            false => format!("connect as one of: {}", names.join(", ")),
        };
        SqlError::new(code::NOT_PERMITTED, message).hint(hint)
    }

    /// Makes the transaction a final one of the ledger.
    pub(crate) async fn commit(
        &self,
        engine: &Arc<Engine>,
        open: Transaction,
    ) -> Result<(), SqlError> {
        self.submit(engine, open).await.map_err(|failed| failed.error)
    }

    async fn submit(&self, engine: &Arc<Engine>, open: Transaction) -> Result<(), Failed> {
        let Transaction { snapshot, drafts, reads, .. } = open;
        let Some(snapshot) = snapshot.filter(|_| !drafts.is_empty()) else { return Ok(()) };
        let catalog = engine.catalog(&snapshot, &drafts)?;
        let conditions = reads.lock().conditions(&snapshot, &drafts, &catalog)?;
        let mut operations: Vec<Operation> =
            conditions.into_iter().map(|condition| Operation::Require { condition }).collect();
        let checked = operations.len();
        operations.extend(drafts.operations(&catalog));
        drop(snapshot);
        if operations.len() == checked {
            return Ok(());
        }
        let role = self.role(engine).ok_or_else(|| self.no_user(engine))?;
        let key = role.key.as_ref().ok_or_else(|| {
            let message = format!(
                "role \"{}\" can't change anything: this node has no key of its user",
                self.role.lock()
            );
            SqlError::new(code::NOT_PERMITTED, message)
        })?;
        let draft = Draft::new(engine.chain, role.user).operations(operations);
        let signed = draft.sign(key).map_err(|error| match error {
            DraftError::Refused(refused) => SqlError::new(
                code::LIMIT_EXCEEDED,
                format!("the transaction can't be made: {refused}"),
            ),
            DraftError::NoRandomness(_) => SqlError::new(code::IO, error.to_string()),
        })?;
        let (height, id) = submit(engine, signed, &drafts, &catalog).await?;
        self.height.fetch_max(height, Ordering::Relaxed);
        *self.last.lock() = Some(id);
        Ok(())
    }
}

/// A transaction that is not on the ledger, or is there as a failed one.
struct Failed {
    error: SqlError,
    /// What the ledger said.
    result: Option<ResultCode>,
}

impl From<SqlError> for Failed {
    fn from(error: SqlError) -> Self {
        Self { error, result: None }
    }
}

impl Failed {
    /// May a statement of its own be planned again after this? A row with a number that another
    /// node has taken gets another number.
    fn may_repeat(&self, numbered: bool) -> bool {
        self.error.code == "40001" || numbered && self.result == Some(ResultCode::RowExists)
    }
}

async fn submit(
    engine: &Arc<Engine>,
    signed: SignedTransaction,
    drafts: &Drafts,
    catalog: &Catalog,
) -> Result<(u64, TransactionId), Failed> {
    let client = engine
        .client
        .clone()
        .ok_or_else(|| SqlError::new(code::NOT_PERMITTED, "this SQL service only reads"))?;
    // On a thread of its own, to its end: whoever cancels here would not know what became of it.
    let id = signed.body.id();
    let submitted = tokio::task::spawn_blocking(move || client.submit(&signed)).await;
    let submitted = submitted.map_err(|error| SqlError::new(code::INTERNAL, error.to_string()))?;
    match submitted {
        Ok(SubmitOutcome::Recorded { height, result: ResultCode::Ok, .. }) => Ok((height, id)),
        Ok(SubmitOutcome::Recorded { result, .. }) => {
            Err(Failed { error: refused(result, drafts, catalog), result: Some(result) })
        }
        Ok(SubmitOutcome::Refused { refusal, field }) => {
            let message = format!("the ledger did not take the transaction: {refusal} ({field})");
            Err(SqlError::new(code::UNAVAILABLE, message).into())
        }
        Err(error) if was_not_taken(&error) => {
            let message = format!("the ledger did not take the transaction: {error}");
            Err(SqlError::new(code::UNAVAILABLE, message).into())
        }
        Err(error) => {
            let message = format!("what became of the transaction is not known: {error}");
            let hint = format!("look for it: SELECT * FROM transactions WHERE id = '{id}'");
            Err(SqlError::new("08007", message).hint(hint).into())
        }
    }
}

/// Is it certain that nothing was taken? A node that said no, and not that it can't tell any more,
/// or can't find what it has taken before.
fn was_not_taken(error: &ClientError) -> bool {
    match error {
        ClientError::Refused { status, body } => *status != 404 && body.code != "outcome_unknown",
        ClientError::BadUrl { .. } => true,
        _ => false,
    }
}

/// The error of a transaction that the ledger has recorded as failed.
fn refused(result: ResultCode, drafts: &Drafts, catalog: &Catalog) -> SqlError {
    if result.sqlstate() == "40001" {
        let message =
            "could not serialize access: what the transaction has read was changed by another one";
        return SqlError::new("40001", message).hint("run the transaction again");
    }
    let tables: Vec<&str> = drafts
        .tables()
        .into_iter()
        .filter_map(|number| catalog.get(number))
        .map(|relation| relation.record.name.as_str())
        .collect();
    let error = failed(result, "");
    match tables.is_empty() {
        true => error,
        false => error.detail(format!("The transaction changes: {}.", tables.join(", "))),
    }
}

/// What a statement did.
#[derive(Default)]
pub(crate) struct Done {
    pub tag: &'static str,
    pub rows: Option<usize>,
    pub returned: Option<Returned>,
    numbered: bool,
}

impl Done {
    fn of(outcome: Outcome) -> Self {
        let Outcome { tag, rows, returned, numbered } = outcome;
        let rows = (tag != "TRUNCATE TABLE").then_some(rows);
        Self { tag, rows, returned, numbered }
    }
}
