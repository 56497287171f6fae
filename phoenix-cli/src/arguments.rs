//! The command line as types.

mod ca;
mod cert;
mod stack;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::exit;

pub(crate) use ca::{
    Ca, CaCrl, CaExport, CaImport, CaInit, CaPlace, CaReencrypt, CaRevoke, CaRotate, CaShow,
    PassphraseSource,
};
pub(crate) use cert::{Cert, CertCheck, CertIssue, CertShow, CertVerify};
pub(crate) use stack::{
    CompatName, DialectName, ResolveImage, Stack, StackDeploy, StackDiff, StackFile, StackLogs,
    StackLs, StackPs, StackRender, StackRm, StackRollback, StackServices, StackSource, SwarmPlace,
    Tail, stack_name,
};

/// Takes a site of Proxmox VE guests, a private CA, a Docker Swarm, secrets, Portainer and stacks
/// to what phoenix.yaml declares.
#[derive(Debug, Parser)]
#[command(
    name = "phoenix",
    version,
    after_help = exit::HELP,
    arg_required_else_help = true,
    subcommand_required = true,
    max_term_width = 100
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command understands.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The site file [default: phoenix.yaml here or in a directory above]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "PHOENIX_CONFIG",
        hide_env_values = true
    )]
    pub(crate) config: Option<PathBuf>,

    /// Write JSON to stdout: one event per line, or one document
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// When to color: auto, always or never; NO_COLOR is honoured
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        hide_possible_values = true
    )]
    pub(crate) color: Color,

    /// Show what is unchanged too, and log to stderr; twice for more [PHOENIX_LOG chooses]
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// When to color.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Color {
    /// Whether to color what goes to a terminal or elsewhere.
    pub(crate) fn applies(self, terminal: bool, no_color: bool) -> bool {
        match self {
            Self::Auto => terminal && !no_color,
            Self::Always => true,
            Self::Never => false,
        }
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make the site as declared
    Sync(Sync),
    /// Show what a sync would do, and change nothing
    #[command(after_help = exit::HELP)]
    Plan(PlanArguments),
    /// Renew the certificates that are due, and bring them where they are used
    ///
    /// A sync restricted to certificates: those that are due are issued and delivered, the
    /// secrets made from them and the stacks that use these secrets follow. What they need is
    /// checked and never changed. Says nothing when nothing is due and stdout is no terminal.
    #[command(after_help = exit::HELP)]
    Renew(Renew),
    /// Run a program in a guest, and end as it ended
    #[command(after_help = exit::HELP)]
    Exec(Exec),
    /// Show nodes, services and certificates as they are now
    #[command(after_help = exit::HELP)]
    Status,
    /// Check the site file, offline
    Check,
    /// Render, deploy, look at, roll back and remove stacks on a swarm, with a site or without one
    #[command(subcommand)]
    Stack(Stack),
    /// Look at, check and issue certificates; most of it needs no site
    #[command(subcommand)]
    Cert(Cert),
    /// Make, show, rotate and use a CA in a directory; most of it needs no site
    #[command(subcommand)]
    Ca(Ca),
    /// Print the JSON Schema of the site file
    Schema,
    /// Print shell completions
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// Arguments of `sync`.
#[derive(Debug, Args)]
pub(crate) struct Sync {
    #[command(subcommand)]
    pub(crate) what: SyncWhat,
}

/// What to sync.
#[derive(Debug, Subcommand)]
pub(crate) enum SyncWhat {
    /// Everything that the site file declares
    #[command(after_help = exit::HELP)]
    All(SyncAll),
}

/// Arguments of `sync all`.
#[derive(Debug, Args)]
pub(crate) struct SyncAll {
    /// Remove Portainer's stack and its data first, then deploy it afresh
    #[arg(long)]
    pub(crate) reset_portainer: bool,

    /// Try once more what the engine rolled back before
    #[arg(long)]
    pub(crate) retry_rolled_back: bool,

    /// Show what would be done, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// With --dry-run: exit with 3 when changes are pending
    #[arg(long, requires = "dry_run")]
    pub(crate) detailed_exitcode: bool,
}

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub(crate) struct PlanArguments {
    /// Plan the removal of Portainer's stack and its data, too
    #[arg(long)]
    pub(crate) reset_portainer: bool,

    /// Plan to try once more what the engine rolled back before
    #[arg(long)]
    pub(crate) retry_rolled_back: bool,

    /// Exit with 3 when changes are pending
    #[arg(long)]
    pub(crate) detailed_exitcode: bool,
}

/// Arguments of `renew`.
#[derive(Debug, Args)]
pub(crate) struct Renew {
    /// Only these: declared names, docker/GUEST for a daemon's, docker-client for Phoenix's own
    #[arg(value_name = "NAME", conflicts_with_all = ["watch", "print_systemd"])]
    pub(crate) names: Vec<String>,

    /// Issue them anew though they are not due
    #[arg(long, conflicts_with_all = ["watch", "print_systemd"])]
    pub(crate) force: bool,

    /// Show what would be done, and change nothing
    #[arg(long, conflicts_with_all = ["watch", "print_systemd"])]
    pub(crate) dry_run: bool,

    /// Stay, and renew whenever a certificate becomes due, until SIGTERM or SIGINT
    #[arg(long, conflicts_with = "print_systemd")]
    pub(crate) watch: bool,

    /// Print a systemd service and timer that renew every hour
    #[arg(long)]
    pub(crate) print_systemd: bool,
}

/// Arguments of `exec`.
#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// The guest's name in the site file
    pub(crate) guest: String,

    /// How long the program may run, and stdin may take to end
    #[arg(long, default_value = "60s", value_parser = timeout)]
    pub(crate) timeout: Duration,

    /// The program and its arguments, visible to every process in the guest: no secrets
    ///
    /// When stdin is not a terminal it is read to its end (at most 64 KiB) and handed to the
    /// program.
    #[arg(last = true, required = true, value_name = "ARGV")]
    pub(crate) argv: Vec<String>,
}

fn timeout(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration.is_zero() => Err("it must be more than nothing".into()),
        Ok(duration) if duration > Duration::from_secs(7 * 24 * 3600) => {
            Err("it must be at most 7 days".into())
        }
        Ok(duration) => Ok(duration),
        Err(error) => Err(format!("{error}; write it like 90s or 5m")),
    }
}

/// What is known of the command line before it is understood: how to say that it is not.
pub(crate) fn first_look(arguments: &[OsString]) -> (bool, Color) {
    let own = arguments.iter().take_while(|argument| *argument != "--");
    let mut json = false;
    let mut color = Color::Auto;
    let mut awaited = false;
    for argument in own {
        let argument = argument.to_string_lossy();
        let value = if awaited {
            Some(argument.as_ref())
        } else {
            argument.strip_prefix("--color=")
        };
        if let Some(chosen) = value.and_then(|value| Color::from_str(value, false).ok()) {
            color = chosen;
        }
        awaited = argument == "--color";
        json |= argument == "--json";
    }
    (json, color)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_first_look_stops_where_the_guests_program_begins() {
        let look =
            |text: &str| first_look(&text.split(' ').map(OsString::from).collect::<Vec<_>>());
        assert_eq!(look("phoenix plan --json"), (true, Color::Auto));
        assert_eq!(
            look("phoenix exec web -- ls --json --color=always"),
            (false, Color::Auto)
        );
        assert_eq!(look("phoenix --color never --jsno"), (false, Color::Never));
        assert_eq!(look("phoenix --color=always x"), (false, Color::Always));
    }

    #[test]
    fn a_timeout_is_a_duration_of_some_length() {
        assert_eq!(timeout("1m30s"), Ok(Duration::from_secs(90)));
        assert!(timeout("0s").is_err());
        assert!(timeout("90").is_err());
        assert!(timeout("900days").is_err());
    }

    #[test]
    fn color_follows_no_color_only_when_automatic() {
        assert!(Color::Auto.applies(true, false));
        assert!(!Color::Auto.applies(true, true));
        assert!(!Color::Auto.applies(false, false));
        assert!(Color::Always.applies(false, true));
        assert!(!Color::Never.applies(true, false));
    }
}
