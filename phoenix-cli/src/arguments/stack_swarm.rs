//! The command line of `phoenix stack`, as far as it is about stacks on a swarm.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::timeout;
use crate::exit;

/// What to do with stacks on a swarm.
#[derive(Debug, Subcommand)]
pub(crate) enum StackOnSwarm {
    /// Make a stack as its compose file declares, and wait until it is
    ///
    /// Where nothing differs nothing is sent. Every service ends in one of several ways, each with
    /// an exit code of its own; an update that the engine rolls back is a failure.
    #[command(after_help = exit::STACK_HELP)]
    Deploy(StackDeploy),
    /// Show what a deployment would change, and change nothing
    #[command(after_help = exit::STACK_HELP)]
    Diff(StackDiff),
    /// Remove a stack, and wait until its tasks have ended and nothing of it is left
    #[command(after_help = exit::HELP)]
    Rm(StackRm),
    /// List the stacks of the swarm
    #[command(after_help = exit::HELP)]
    Ls(StackLs),
    /// List the services of a stack and how they stand; exit with 1 when one is not converged
    #[command(after_help = exit::HELP)]
    Services(StackServices),
    /// List the tasks of a stack
    #[command(after_help = exit::HELP)]
    Ps(StackPs),
    /// Print what the tasks of a stack wrote
    #[command(after_help = exit::HELP)]
    Logs(StackLogs),
    /// Return services to the specs that they had before their last updates
    #[command(after_help = exit::STACK_HELP)]
    Rollback(StackRollback),
}

/// Which swarm.
#[derive(Debug, Args)]
pub(crate) struct SwarmPlace {
    /// A manager's engine, unix:///PATH or tcp://HOST:PORT; repeat it for several, any of which
    /// will do [default: DOCKER_HOST, else the site's managers]
    #[arg(long = "host", value_name = "URL")]
    pub(crate) hosts: Vec<String>,

    /// Where ca.pem, cert.pem and key.pem for tcp:// are [default: DOCKER_CERT_PATH]
    #[arg(long, value_name = "DIR")]
    pub(crate) tls_dir: Option<PathBuf>,
}

/// Which compose file, and how it is read and compared.
#[derive(Debug, Args)]
pub(crate) struct StackFile {
    /// The compose file
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// The stack's name
    #[arg(long, value_name = "NAME")]
    pub(crate) name: String,

    /// Remove services, networks, secrets and configs of the stack that are not in the file
    #[arg(long)]
    pub(crate) prune: bool,

    /// When to ask registries for digests: always, changed (when the image in the file is another
    /// one) or never
    #[arg(
        long,
        value_name = "WHEN",
        default_value = "always",
        hide_possible_values = true
    )]
    pub(crate) resolve_image: ResolveImage,

    /// Use the credentials of docker's configuration file, and give them to the nodes
    #[arg(long)]
    pub(crate) with_registry_auth: bool,

    /// How many old versions of a secret or config to keep, for a rollback to find
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) keep: usize,

    /// Try once more what the engine rolled back before
    #[arg(long)]
    pub(crate) retry_rolled_back: bool,
}

/// When registries are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ResolveImage {
    /// Always.
    Always,
    /// When the image in the file is another one.
    Changed,
    /// Never.
    Never,
}

/// Arguments of `stack deploy`.
#[derive(Debug, Args)]
pub(crate) struct StackDeploy {
    #[command(flatten)]
    pub(crate) file: StackFile,

    /// How long the services may take
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = timeout)]
    pub(crate) timeout: Duration,

    /// How many of a failed task's last lines to show
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) log_lines: u32,

    #[command(flatten)]
    pub(crate) swarm: SwarmPlace,
}

/// Arguments of `stack diff`.
#[derive(Debug, Args)]
pub(crate) struct StackDiff {
    #[command(flatten)]
    pub(crate) file: StackFile,

    /// Exit with 3 when something differs
    #[arg(long)]
    pub(crate) detailed_exitcode: bool,

    #[command(flatten)]
    pub(crate) swarm: SwarmPlace,
}

/// Arguments of `stack rm`.
#[derive(Debug, Args)]
pub(crate) struct StackRm {
    /// The stacks
    #[arg(value_name = "NAME", required = true)]
    pub(crate) names: Vec<String>,

    /// Remove their volumes, too, on all nodes whose engines can be reached
    ///
    /// A volume is its node's: those on the nodes of --host, or of the site. Nodes that could not
    /// be looked at are named, and the exit code is 4 then.
    #[arg(long)]
    pub(crate) volumes: bool,

    /// How long it may take
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = timeout)]
    pub(crate) timeout: Duration,

    #[command(flatten)]
    pub(crate) swarm: SwarmPlace,
}

/// Arguments of `stack ls`.
#[derive(Debug, Args)]
pub(crate) struct StackLs {
    #[command(flatten)]
    pub(crate) swarm: SwarmPlace,
}

/// Arguments of `stack services`.
#[derive(Debug, Args)]
pub(crate) struct StackServices {
    /// The stack
    pub(crate) name: String,

    #[command(flatten)]
    pub(crate) swarm: SwarmPlace,
}

/// Arguments of `stack ps`.
#[derive(Debug, Args)]
pub(crate) struct StackPs {
    /// The stack
    pub(crate) name: String,

    /// Show earlier tasks that the swarm remembers, too
    #[arg(long)]
    pub(crate) all: bool,

    #[command(flatten)]
    pub(crate) swarm: SwarmPlace,
}

/// Arguments of `stack logs`.
#[derive(Debug, Args)]
pub(crate) struct StackLogs {
    /// The stack
    pub(crate) name: String,

    /// Only these services, by name or key
    #[arg(value_name = "SERVICE")]
    pub(crate) services: Vec<String>,

    /// How many of every task's last lines
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) tail: u32,

    #[command(flatten)]
    pub(crate) swarm: SwarmPlace,
}

/// Arguments of `stack rollback`.
#[derive(Debug, Args)]
pub(crate) struct StackRollback {
    /// The stack
    pub(crate) name: String,

    /// Only these services, by name or key
    #[arg(value_name = "SERVICE")]
    pub(crate) services: Vec<String>,

    /// How long it may take
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = timeout)]
    pub(crate) timeout: Duration,

    #[command(flatten)]
    pub(crate) swarm: SwarmPlace,
}
