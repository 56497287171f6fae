//! The command line of `phoenix stack`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use phoenix_core::stack::is_stack_name;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::timeout;
use crate::exit;

/// How a command that reads compose files is used.
macro_rules! usage {
    ($command:literal) => {
        concat!(
            "phoenix stack ",
            $command,
            " [OPTIONS] --name <NAME> <FILE>...\n       ",
            "phoenix stack ",
            $command,
            " [OPTIONS] -c <FILE>... <NAME>"
        )
    };
}

/// What to do with stacks.
#[derive(Debug, Subcommand)]
pub(crate) enum Stack {
    /// Print what would be sent to an engine: networks, secrets, configs and services
    ///
    /// Asks neither a site nor an engine nor a registry: images have no digest, and secrets and
    /// configs no ids. The content of a secret is never printed.
    #[command(after_help = exit::STACK_RENDER_HELP, override_usage = usage!("render"))]
    Render(StackRender),
    /// Make a stack as its compose file declares, and wait until it is
    ///
    /// Where nothing differs nothing is sent. Every service ends in one of several ways, each with
    /// an exit code of its own; an update that the engine rolls back is a failure.
    #[command(after_help = exit::STACK_HELP, override_usage = usage!("deploy"))]
    Deploy(StackDeploy),
    /// Show what a deployment would change, and change nothing
    #[command(after_help = exit::STACK_DIFF_HELP, override_usage = usage!("diff"))]
    Diff(StackDiff),
    /// Remove a stack, and wait until its tasks have ended and nothing of it is left
    #[command(after_help = exit::STACK_RM_HELP)]
    Rm(StackRm),
    /// List the stacks of the swarm
    #[command(after_help = exit::STACK_LOOK_HELP)]
    Ls(StackLs),
    /// List the services of a stack and how they stand; exit with 1 when one is not converged
    #[command(after_help = exit::STACK_LOOK_HELP)]
    Services(StackServices),
    /// List the tasks of a stack
    #[command(after_help = exit::STACK_LOOK_HELP)]
    Ps(StackPs),
    /// Print what the tasks of a stack wrote
    #[command(after_help = exit::STACK_LOOK_HELP)]
    Logs(StackLogs),
    /// Return services to the specs that they had before their last updates
    #[command(after_help = exit::STACK_HELP)]
    Rollback(StackRollback),
}

/// Which swarm.
#[derive(Debug, Args)]
pub(crate) struct SwarmPlace {
    /// A manager's engine, unix:///PATH or tcp://HOST:PORT; repeat it for several, any of which
    /// will do [default: the managers of the site of --config, else DOCKER_HOST, else the managers
    /// of the site found here, else unix:///var/run/docker.sock]
    #[arg(long = "host", value_name = "URL")]
    pub(crate) hosts: Vec<String>,

    /// Where ca.pem, cert.pem and key.pem for tcp:// are [default: DOCKER_CERT_PATH]
    #[arg(long, value_name = "DIR")]
    pub(crate) tls_dir: Option<PathBuf>,
}

/// What is declared, and how it is compared.
#[derive(Debug, Args)]
pub(crate) struct StackFile {
    #[command(flatten)]
    pub(crate) source: StackSource,

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

    /// The key under which contents of secrets are recognised, the same on every machine that
    /// deploys the stack; made where there is none [default: the site's, else that of this user]
    #[arg(
        long,
        value_name = "FILE",
        env = "PHOENIX_FINGERPRINT_KEY",
        hide_env_values = true
    )]
    pub(crate) fingerprint_key: Option<PathBuf>,

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

    /// How long the services may take, like 90s or 5m
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

    /// Exit with 3 when something would be sent
    #[arg(long)]
    pub(crate) detailed_exitcode: bool,

    #[command(flatten)]
    pub(crate) swarm: SwarmPlace,
}

/// Arguments of `stack rm`.
#[derive(Debug, Args)]
pub(crate) struct StackRm {
    /// The stacks
    #[arg(value_name = "NAME", required = true, value_parser = stack_name)]
    pub(crate) names: Vec<String>,

    /// Remove their volumes, too, on all nodes whose engines can be reached
    ///
    /// A volume is its node's: those on the nodes of --host, or of the site. Nodes that could not
    /// be looked at are named, and the exit code is 4 then.
    #[arg(long)]
    pub(crate) volumes: bool,

    /// How long it may take, like 90s or 5m
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
    #[arg(value_parser = stack_name)]
    pub(crate) name: String,

    #[command(flatten)]
    pub(crate) swarm: SwarmPlace,
}

/// Arguments of `stack ps`.
#[derive(Debug, Args)]
pub(crate) struct StackPs {
    /// The stack
    #[arg(value_parser = stack_name)]
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
    #[arg(value_parser = stack_name)]
    pub(crate) name: String,

    /// Only these services, by name or key
    #[arg(value_name = "SERVICE")]
    pub(crate) services: Vec<String>,

    /// How many of every task's last lines, or `all`
    #[arg(short = 'n', long, value_name = "N", default_value = "100", value_parser = tail)]
    pub(crate) tail: Tail,

    /// Only what was written since: a time like 2030-01-31T12:00:00Z, or how long ago, like 10m
    #[arg(long, value_name = "WHEN", value_parser = since)]
    pub(crate) since: Option<OffsetDateTime>,

    /// Go on printing what is written, until interrupted: that is no failure
    ///
    /// A service that is added to the stack meanwhile is not among those that are printed.
    #[arg(short, long)]
    pub(crate) follow: bool,

    /// Print when each line was written
    #[arg(short, long)]
    pub(crate) timestamps: bool,

    #[command(flatten)]
    pub(crate) swarm: SwarmPlace,
}

/// A name that a stack can have.
pub(crate) fn stack_name(text: &str) -> Result<String, String> {
    if is_stack_name(text) {
        return Ok(text.to_owned());
    }
    let rule = "a stack's name is letters, digits, `-` and `_`, with a letter or digit first";
    Err(rule.to_owned())
}

/// How many lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tail {
    /// As many as there are.
    All,
    /// So many.
    Last(u32),
}

fn tail(text: &str) -> Result<Tail, String> {
    match text.parse() {
        Ok(count) => Ok(Tail::Last(count)),
        Err(_) if text == "all" => Ok(Tail::All),
        Err(_) => Err("it is a number of lines, or `all`".to_owned()),
    }
}

/// A time, or how long ago it was.
fn since(text: &str) -> Result<OffsetDateTime, String> {
    if let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(time);
    }
    humantime::parse_duration(text)
        .ok()
        .and_then(|ago| OffsetDateTime::now_utc().checked_sub(ago.try_into().ok()?))
        .ok_or_else(|| "write it like 10m, or like 2030-01-31T12:00:00Z".to_owned())
}

/// Arguments of `stack rollback`.
#[derive(Debug, Args)]
pub(crate) struct StackRollback {
    /// The stack
    #[arg(value_parser = stack_name)]
    pub(crate) name: String,

    /// Only these services, by name or key
    #[arg(value_name = "SERVICE")]
    pub(crate) services: Vec<String>,

    /// How long it may take, like 90s or 5m
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = timeout)]
    pub(crate) timeout: Duration,

    #[command(flatten)]
    pub(crate) swarm: SwarmPlace,
}

/// Arguments of `stack render`.
#[derive(Debug, Args)]
pub(crate) struct StackRender {
    #[command(flatten)]
    pub(crate) source: StackSource,
}

/// Where a stack is declared, and how to read it.
#[derive(Debug, Args)]
pub(crate) struct StackSource {
    /// The compose files, each laid over those before it; - is standard input, whose paths are
    /// relative to the working directory. With -c, the stack's name instead
    #[arg(value_name = "FILE", required_unless_present = "compose_files")]
    pub(crate) words: Vec<PathBuf>,

    /// A compose file, as `docker stack deploy -c FILE NAME` takes it; repeat it for several
    #[arg(short = 'c', long = "compose-file", value_name = "FILE")]
    pub(crate) compose_files: Vec<PathBuf>,

    /// The stack's name [default in the compose dialect: `name` at the top of the files]
    #[arg(long, value_name = "NAME", value_parser = stack_name)]
    pub(crate) name: Option<String>,

    /// What the files are written for: swarm (docker stack deploy) or compose (docker compose)
    #[arg(
        long,
        value_name = "DIALECT",
        default_value = "swarm",
        hide_possible_values = true
    )]
    pub(crate) dialect: DialectName,

    /// What becomes of what docker drops or changes without a word: phoenix does what was meant or
    /// refuses, docker does as docker does, with a warning
    #[arg(
        long,
        value_name = "WAY",
        default_value = "phoenix",
        hide_possible_values = true
    )]
    pub(crate) compat: CompatName,

    /// A file of variables, NAME=value in each line; repeat it for several: later ones win, and the
    /// environment of this process wins over all
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,

    /// A profile whose services are part of the stack (compose dialect); repeat it for several
    #[arg(long, value_name = "NAME")]
    pub(crate) profile: Vec<String>,
}

/// A dialect of compose files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DialectName {
    /// What `docker stack deploy` reads.
    Swarm,
    /// What `docker compose` reads.
    Compose,
}

/// What becomes of what docker drops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CompatName {
    /// What was meant, or a refusal.
    Phoenix,
    /// As docker does.
    Docker,
}
