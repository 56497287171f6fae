//! The command line of `phoenix stack`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::exit;

/// What to do with stacks.
#[derive(Debug, Subcommand)]
pub(crate) enum Stack {
    /// Print what would be sent to an engine: networks, secrets, configs and services
    ///
    /// Asks neither a site nor an engine nor a registry: images have no digest, and secrets and
    /// configs no ids. The content of a secret is never printed.
    #[command(after_help = exit::HELP)]
    Render(StackRender),
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
    /// The compose files; each is laid over those before it
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,

    /// The stack's name
    #[arg(long, value_name = "NAME")]
    pub(crate) name: String,

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

    /// A file of variables, NAME=value in each line; later files win, and the environment of this
    /// process wins over all
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,

    /// A profile whose services are part of the stack (compose dialect)
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
