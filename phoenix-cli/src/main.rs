//! The `phoenix` command: arguments in, text and an exit code out. It decides nothing about a
//! site; that is phoenix-core's work.
//!
//! * [`arguments`]: the command line as types
//! * [`command`]: one module for each command
//! * [`render`]: events, plans, reports and failures as text; [`escape`] makes text from
//!   elsewhere fit for a terminal
//! * [`progress`]: events as they come
//! * [`printer`]: the one place that writes and ends the process
//! * [`error`] and [`exit`]: why a command was not carried out, and the exit codes
//! * [`interrupt`] and [`logging`]: signals, and the log on stderr

mod arguments;
mod command;
mod error;
mod escape;
mod exit;
mod interrupt;
mod logging;
mod printer;
mod progress;
mod render;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;

use arguments::{Arguments, first_look};
use error::CommandError;
use exit::Exit;
use printer::Printer;

fn main() -> ExitCode {
    let line: Vec<OsString> = std::env::args_os().collect();
    let arguments = match Arguments::try_parse_from(&line) {
        Ok(arguments) => arguments,
        Err(problem) => return misunderstood(&line, &problem).into(),
    };
    let global = &arguments.global;
    let printer = Arc::new(Printer::new(global.json, global.color, global.verbose > 0));
    let chosen = std::env::var("PHOENIX_LOG").ok();
    let done = logging::start(&printer, global.verbose, chosen.as_deref())
        .map_err(|problem| CommandError::new(Exit::Usage, problem))
        .and_then(|()| command::run(&arguments, &printer));
    let exit = done.unwrap_or_else(|error| printer.error(&error));
    printer.finish(exit).into()
}

/// Answers a command line that asks for help, or that cannot be understood.
fn misunderstood(line: &[OsString], problem: &clap::Error) -> Exit {
    let (json, color) = first_look(line);
    let printer = Printer::new(json, color, false);
    let text = |color: bool| {
        let text = problem.render();
        if color {
            text.ansi().to_string()
        } else {
            text.to_string()
        }
    };
    if !problem.use_stderr() {
        printer.out(&text(printer.layout().color));
        return printer.finish(Exit::Success);
    }
    if json {
        let message = text(false);
        let message = message.trim().trim_start_matches("error: ");
        printer.json_line(&CommandError::new(Exit::Usage, message).document());
    }
    printer.err(&text(printer.err_layout().color));
    printer.finish(Exit::Usage)
}
