//! `kanjo cluster`: make one, look at it, compare its nodes, change who belongs to it.

mod compare;
mod dev;
mod govern;
mod make;
mod status;

use crate::context::Context;
use crate::fail::Done;
use clap::Subcommand;

/// The cluster.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Run a whole cluster on this machine: nodes and sentinels, each a process of its own.
    Dev(dev::DevArgs),
    /// Make the genesis and the directories of all nodes of a new cluster, without starting them.
    Init(make::InitArgs),
    /// Nodes, leader, heights, lag, roles, integrity and doubts, as the node at --node sees them.
    Status(status::StatusArgs),
    /// Compare what all nodes hold at one height, table by table.
    Compare(compare::CompareArgs),
    /// Admit a node by its certificate.
    Add(govern::AddArgs),
    /// Take a node out for good.
    Remove(govern::MemberArgs),
    /// Let a doubted node back.
    Readmit(govern::MemberArgs),
    /// Allow a program: nodes that run it may vote.
    Allow(govern::AllowArgs),
    /// Allow a program no more.
    Disallow(govern::DisallowArgs),
}

/// Runs `kanjo cluster`.
pub fn cluster(ctx: &Context, command: &ClusterCommand) -> Done {
    match command {
        ClusterCommand::Dev(args) => dev::run(ctx, args),
        ClusterCommand::Init(args) => make::run(ctx, args),
        ClusterCommand::Status(args) => status::run(ctx, args),
        ClusterCommand::Compare(args) => compare::run(ctx, args),
        ClusterCommand::Add(args) => govern::add(ctx, args),
        ClusterCommand::Remove(args) => govern::remove(ctx, args),
        ClusterCommand::Readmit(args) => govern::readmit(ctx, args),
        ClusterCommand::Allow(args) => govern::allow(ctx, args),
        ClusterCommand::Disallow(args) => govern::disallow(ctx, args),
    }
}
