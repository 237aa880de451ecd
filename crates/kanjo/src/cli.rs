//! The command line: what can be typed.

use crate::bench::BenchCommand;
#[cfg(feature = "sql")]
use crate::commands::SqlArgs;
use crate::commands::{
    ActCommand, AttributeCommand, BlockCommand, BundleCommand, ClaimCommand, ClusterCommand,
    DevArgs, FreezeArgs, GatewayArgs, GenesisArgs, InitArgs, InterestCommand, KeyCommand, NodeArgs,
    PayArgs, PendingCommand, ProofCommand, RecoveryCommand, ReverseArgs, ScheduleCommand,
    TermsCommand, TokenCommand, TxCommand, UnfreezeArgs, UserCommand, VerifyArgs, WalletCommand,
};
use crate::demo::DemoArgs;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// A relational ledger for digital money: signed payments, hash-linked records, proofs.
#[derive(Debug, Parser)]
#[command(
    name = "kanjo",
    version,
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 100,
    after_help = "First steps:\n  \
        kanjo demo                 100,000 payments and their proofs, in seconds\n  \
        kanjo dev                  a ledger of your own on this machine\n  \
        kanjo help pay             any command explained, with an example"
)]
pub struct Cli {
    /// Options that hold everywhere.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options that hold everywhere.
#[derive(Debug, Args)]
pub struct Global {
    /// Answer with one JSON object instead of text.
    #[arg(long, global = true, help_heading = "Everywhere")]
    pub json: bool,
    /// Address of the node or gateway, or several with commas [env: KANJO_NODE; default:
    /// http://127.0.0.1:8480].
    #[arg(long, global = true, value_name = "URL", help_heading = "Everywhere")]
    pub node: Option<String>,
    /// Directory of keys and local names [env: KANJO_HOME; default: ~/.kanjo].
    #[arg(long, global = true, value_name = "DIR", help_heading = "Everywhere")]
    pub home: Option<PathBuf>,
    /// File whose content opens encrypted keys [env: KANJO_PASSPHRASE holds the passphrase itself].
    #[arg(long, global = true, value_name = "FILE", help_heading = "Everywhere")]
    pub passphrase_file: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// See it all work: 100,000 signed payments, proofs, tampering noticed.
    Demo(DemoArgs),
    /// Run a ledger of your own on this machine, and continue it next time.
    Dev(DevArgs),
    /// Make a new ledger: its genesis and the data directory of its node.
    Init(InitArgs),
    /// Run a node on a data directory made by 'kanjo init'.
    Node(NodeArgs),
    /// Clusters: run one here, make one, see how it is, compare its nodes, change its members.
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Run a gateway: clients speak to it as to a node, and it finds the leader of the cluster.
    Gateway(GatewayArgs),
    /// What the node says about itself and its ledger.
    #[command(after_help = "Example:\n  kanjo status")]
    Status,
    /// The ledger's genesis, as the node tells it.
    Genesis(GenesisArgs),
    /// Keys: draw, list, show.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Users: register, show, change keys.
    #[command(subcommand)]
    User(UserCommand),
    /// Wallets: open, show, history, watch.
    #[command(subcommand)]
    Wallet(WalletCommand),
    /// Tokens: create, list, issue, redeem, policy, roles.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Pay from one wallet to another.
    Pay(PayArgs),
    /// Pending payments: reserve now, post or void later.
    #[command(subcommand)]
    Pending(PendingCommand),
    /// Bundles: payments of several parties, all or nothing.
    #[command(subcommand)]
    Bundle(BundleCommand),
    /// Scheduled and standing payments that the ledger makes by itself.
    #[command(subcommand)]
    Schedule(ScheduleCommand),
    /// Administrative acts: what holders of a role ordered, agree to, reject.
    #[command(subcommand)]
    Act(ActCommand),
    /// Freeze a wallet, a user or a whole token, where its policy permits it.
    Freeze(FreezeArgs),
    /// End a freeze.
    Unfreeze(UnfreezeArgs),
    /// What holds for one wallet in a token: approval, class, credit, floor.
    #[command(subcommand)]
    Terms(TermsCommand),
    /// Interest on balances.
    #[command(subcommand)]
    Interest(InterestCommand),
    /// Undo payments, where the token's policy permits it.
    Reverse(ReverseArgs),
    /// Claims that reversals left on wallets.
    #[command(subcommand)]
    Claim(ClaimCommand),
    /// Personal attributes: a commitment on the ledger, the value here, to be shown or erased.
    #[command(subcommand)]
    Attribute(AttributeCommand),
    /// New keys for a user that lost its own, given by its guardians.
    #[command(subcommand)]
    Recovery(RecoveryCommand),
    /// Transactions: show, and collect signatures of several keys.
    #[command(subcommand)]
    Tx(TxCommand),
    /// Blocks: list, show.
    #[command(subcommand)]
    Block(BlockCommand),
    /// Proofs: get one from a node, check one from a genesis file alone.
    #[command(subcommand)]
    Proof(ProofCommand),
    /// Ask in SQL: a REPL, or statements of a script.
    #[cfg(feature = "sql")]
    Sql(SqlArgs),
    /// Recompute a whole ledger from its genesis, offline.
    Verify(VerifyArgs),
    /// Measure payments per second on this machine.
    #[command(subcommand)]
    Bench(BenchCommand),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        fn visit(command: &clap::Command, path: &str, missing: &mut Vec<String>) {
            let path = format!("{path} {}", command.get_name());
            if command.get_subcommands().next().is_none() {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                if !help.contains("Example") {
                    missing.push(path.clone());
                }
            }
            command.get_subcommands().for_each(|sub| visit(sub, &path, missing));
        }
        let mut missing = Vec::new();
        visit(&Cli::command(), "", &mut missing);
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn nothing_takes_the_name_of_an_option_that_holds_everywhere() {
        fn visit(command: &clap::Command, everywhere: &[String], taken: &mut Vec<String>) {
            for positional in command.get_positionals() {
                let name = positional.get_id().to_string();
                if everywhere.contains(&name) {
                    taken.push(format!("{} {name}", command.get_name()));
                }
            }
            command.get_subcommands().for_each(|sub| visit(sub, everywhere, taken));
        }
        let command = Cli::command();
        let global = command.get_arguments().filter(|option| option.is_global_set());
        let everywhere: Vec<String> = global.map(|option| option.get_id().to_string()).collect();
        assert!(everywhere.contains(&"node".to_owned()), "{everywhere:?}");
        let mut taken = Vec::new();
        visit(&command, &everywhere, &mut taken);
        assert!(taken.is_empty(), "{taken:?}");
    }

    #[test]
    fn global_options_may_stand_anywhere() {
        let cli = Cli::try_parse_from(["kanjo", "block", "list", "--json", "--node", "http://a:1"]);
        let cli = cli.expect("parses");
        assert!(cli.global.json);
        assert_eq!(cli.global.node.as_deref(), Some("http://a:1"));
    }

    #[test]
    fn what_is_typed_wrongly_is_a_usage_error() {
        for bad in [
            &["kanjo", "pay", "a", "b"][..],
            &["kanjo", "pay", "a", "b", "1", "--token", "JPY", "--valid-for", "2"],
            &["kanjo", "key", "new", "a", "--kind", "rsa"],
            &["kanjo", "block", "show", "last"],
            &["kanjo", "tx", "show", "abc"],
            &["kanjo", "frobnicate"],
        ] {
            let error = Cli::try_parse_from(bad).expect_err("must be refused");
            assert_eq!(error.exit_code(), 2, "{bad:?}");
        }
    }
}
