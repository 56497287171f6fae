//! The commands, and what they share: the site file found and loaded, a runtime that listens for
//! signals.

mod ca;
mod cert;
mod check;
mod exec;
mod renew;
mod stack;
mod status;
mod sync;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::CommandFactory as _;
use phoenix_core::site::{self, LoadError, Loaded, Site};
use phoenix_core::sync::{Inputs, OpenError, Session, SyncOptions};

use crate::arguments::{Arguments, Command, Global, SyncWhat};
use crate::error::{self, CommandError};
use crate::exit::Exit;
use crate::interrupt::Interrupt;
use crate::printer::Printer;
use crate::render::{self, Severity};

/// How long what runs in the background may take to end after a command has.
const LAST_MOMENTS: Duration = Duration::from_secs(2);

pub(crate) use ca::{AuthorityKey, CaCertificate, Overview};
pub(crate) use cert::{Checked, Described, Description};
#[cfg(test)]
pub(crate) use cert::{NameCheck, Verdict};

type Result = std::result::Result<Exit, CommandError>;

/// Carries out what `arguments` ask for.
pub(crate) fn run(arguments: &Arguments, printer: &Arc<Printer>) -> Result {
    let global = &arguments.global;
    match &arguments.command {
        Command::Sync(sync) => {
            let SyncWhat::All(all) = &sync.what;
            let options = SyncOptions::default()
                .reset_portainer(all.reset_portainer)
                .retry_rolled_back(all.retry_rolled_back);
            if all.dry_run {
                sync::plan(global, printer, &options, all.detailed_exitcode)
            } else {
                sync::sync(global, printer, &options)
            }
        }
        Command::Plan(plan) => {
            let options = SyncOptions::default()
                .reset_portainer(plan.reset_portainer)
                .retry_rolled_back(plan.retry_rolled_back);
            sync::plan(global, printer, &options, plan.detailed_exitcode)
        }
        Command::Renew(renew) => renew::renew(global, printer, renew),
        Command::Exec(exec) => exec::exec(global, printer, exec),
        Command::Status => status::status(global, printer),
        Command::Check => check::check(global, printer),
        Command::Stack(command) => stack::stack(global, printer, command),
        Command::Cert(command) => cert::cert(global, printer, command),
        Command::Ca(command) => ca::ca(global, printer, command),
        Command::Schema => Ok(schema(printer)),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Arguments::command(), "phoenix", &mut script);
            printer.out_bytes(&script);
            Ok(Exit::Success)
        }
    }
}

fn schema(printer: &Printer) -> Exit {
    let schema = site::schema();
    if printer.json() {
        printer.json_line(&schema);
    } else {
        printer.out(&format!("{schema:#}\n"));
    }
    Exit::Success
}

/// The site file: the one that was named, or the nearest one upward.
fn site_file(global: &Global) -> std::result::Result<PathBuf, CommandError> {
    if let Some(named) = &global.config {
        return Ok(named.clone());
    }
    let here = std::env::current_dir().map_err(|error| {
        CommandError::new(
            Exit::Usage,
            format!("the working directory cannot be read: {error}"),
        )
    })?;
    Site::find(&here).ok_or_else(|| {
        let message = format!("no phoenix.yaml in {} or above it", here.display());
        CommandError::new(Exit::Usage, message)
            .hint("name the site file with --config FILE or PHOENIX_CONFIG")
    })
}

fn load(global: &Global) -> std::result::Result<Loaded, CommandError> {
    Site::load(&site_file(global)?).map_err(|error| match error {
        LoadError::Invalid { problems, .. } => CommandError::of_problems(problems.0),
        other => CommandError::from_error(Exit::Usage, &other),
    })
}

/// Loads the site, tells its warnings, and opens it.
fn open(
    global: &Global,
    printer: &Printer,
    before: impl FnOnce(&Site) -> std::result::Result<(), CommandError>,
) -> std::result::Result<Session, CommandError> {
    let loaded = load(global)?;
    let layout = printer.err_layout();
    if !loaded.warnings.is_empty() {
        printer.err(&error::problems(
            layout,
            Severity::Warning,
            &loaded.warnings,
            None,
        ));
    }
    before(&loaded.site)?;
    let inputs = Inputs::new(|name: &str| std::env::var(name).ok());
    Session::open(loaded.site, inputs).map_err(|error| match error {
        OpenError::Problems(problems) => CommandError::of_problems(problems.0),
        other => CommandError::from_error(Exit::Usage, &other),
    })
}

/// Tells what was found while a site was opened, where no plan or report does.
fn warn(session: &Session, printer: &Printer) {
    for warning in session.warnings() {
        printer.err(&render::warning(printer.err_layout(), warning));
    }
}

/// Runs `work` on a runtime until it ends or a signal comes; `Err` holds the signal. `work` is
/// dropped then, which stops it between two requests.
fn until_interrupted<T>(
    printer: &Arc<Printer>,
    work: impl Future<Output = T>,
) -> std::result::Result<std::result::Result<T, &'static str>, CommandError> {
    let cannot = |error: std::io::Error| {
        CommandError::new(
            Exit::Failed,
            format!("the runtime cannot be started: {error}"),
        )
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(cannot)?;
    let ended = runtime.block_on(async {
        let mut interrupt = Interrupt::listen(printer).map_err(cannot)?;
        Ok(tokio::select! {
            biased;
            signal = interrupt.caught() => Err(signal),
            result = work => Ok(result),
        })
    });
    runtime.shutdown_timeout(LAST_MOMENTS);
    ended
}

/// The end of a command of which nothing has to be said but that it was interrupted.
fn interrupted(signal: &'static str) -> CommandError {
    CommandError::new(Exit::Interrupted, format!("interrupted by {signal}"))
}
