//! How long a statement may go on: until its time is over or its client cancels it.
//!
//! Operators that can work for hours on one batch give way between batches, so that this is noticed
//! and others go on.

use crate::error::{SqlError, code};
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode as _};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use tokio::time::Instant;

/// The patience with a statement. What must not be given up half-way is not done under it.
pub(crate) struct Patience {
    deadline: Instant,
    /// True: cancelled. False: it can't be any more.
    canceled: Option<BoxFuture<'static, bool>>,
}

impl Patience {
    pub(crate) fn new(deadline: Instant, canceled: Option<BoxFuture<'static, bool>>) -> Self {
        Self { deadline, canceled }
    }

    /// For what goes on after the statement has been begun.
    pub(crate) fn take(&mut self) -> Self {
        Self { deadline: self.deadline, canceled: self.canceled.take() }
    }

    /// Works, as long as there is patience. A panic inside of the engine ends the statement, not
    /// the node.
    pub(crate) async fn within<T>(
        &mut self,
        work: impl Future<Output = std::result::Result<T, SqlError>>,
    ) -> std::result::Result<T, SqlError> {
        let mut work = pin!(tokio::time::timeout_at(self.deadline, guarded(work)));
        while let Some(canceled) = &mut self.canceled {
            tokio::select! {
                biased;
                canceled = canceled => match canceled {
                    true => return Err(SqlError::canceled("user request")),
                    // A newer statement is the one that can be cancelled now.
                    false => self.canceled = None,
                },
                done = &mut work => {
                    return done.map_err(|_| SqlError::canceled("statement timeout"))?;
                }
            }
        }
        work.await.map_err(|_| SqlError::canceled("statement timeout"))?
    }
}

async fn guarded<T>(
    work: impl Future<Output = std::result::Result<T, SqlError>>,
) -> std::result::Result<T, SqlError> {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(done) => done,
        Err(_) => {
            tracing::error!("the SQL engine panicked; the statement was given up");
            Err(SqlError::new(code::INTERNAL, "the engine failed at this statement"))
        }
    }
}

/// Wraps operators that make many rows of few. The engine does so for sources only.
#[derive(Debug)]
pub(crate) struct Yielding;

impl PhysicalOptimizerRule for Yielding {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let wrapped = plan.transform_up(|plan| {
            let many = plan.name().contains("Join") || plan.name() == "UnnestExec";
            Ok(match many {
                true => {
                    Transformed::yes(Arc::new(CooperativeExec::new(plan)) as Arc<dyn ExecutionPlan>)
                }
                false => Transformed::no(plan),
            })
        })?;
        Ok(wrapped.data)
    }

    fn name(&self) -> &'static str {
        "yielding"
    }

    fn schema_check(&self) -> bool {
        true
    }
}
