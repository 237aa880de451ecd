//! In a build without SQL: no options, and nothing is served.

use crate::context::Context;
use crate::fail::Done;
use crate::home::Home;
use clap::Args;
use kanjo_node::RunningNode;

/// No options.
#[derive(Debug, Default, Args)]
pub struct ServeArgs {}

/// No options.
#[derive(Debug, Default, Args)]
pub struct DevServeArgs {}

/// No options.
#[derive(Debug, Default, Args)]
pub struct ClusterServeArgs {}

impl ServeArgs {
    /// Nothing is wanted.
    pub fn listen(&self, _: &Context) -> Done<Sql> {
        Ok(Sql)
    }
}

impl DevServeArgs {
    /// Nothing is wanted.
    pub fn listen(&self, _: &Context) -> Done<Sql> {
        Ok(Sql)
    }
}

impl ClusterServeArgs {
    /// Nothing is wanted.
    pub fn is_wanted(&self) -> bool {
        false
    }
}

/// No SQL.
pub struct Sql;

impl Sql {
    /// It never is.
    pub fn is_wanted(&self) -> bool {
        false
    }

    /// Nobody reaches it.
    pub fn is_local(&self) -> bool {
        true
    }

    /// Nothing to do.
    pub fn act_for(&mut self, _: &Home) {}

    /// Nowhere.
    pub fn url(&self) -> Option<String> {
        None
    }

    /// Nothing to do.
    pub fn open(&mut self, _: &RunningNode) -> Done {
        Ok(())
    }

    /// Nothing to do.
    pub fn pause(&mut self) {}

    /// Nothing to do.
    pub fn end(self) {}
}
