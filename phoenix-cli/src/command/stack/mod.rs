//! `phoenix stack`: stacks on a swarm, with a site or without one.

mod deploy;
mod look;
mod place;
mod rendered;
mod rm;
mod source;

use std::sync::Arc;

use phoenix_core::deploy::{DeployError, DeployEvent, Deployed, OutcomeKind, ServiceOutcome};
use phoenix_core::docker::EngineError;
use phoenix_core::sync::FORMAT_VERSION;
use serde::Serialize;

use super::{Result, interrupted};
use crate::arguments::{Global, Stack};
use crate::error::CommandError;
use crate::exit::Exit;
use crate::printer::Printer;
use crate::render;

pub(super) fn stack(global: &Global, printer: &Arc<Printer>, command: &Stack) -> Result {
    match command {
        Stack::Render(arguments) => rendered::render(printer, arguments),
        Stack::Deploy(arguments) => deploy::deploy(global, printer, arguments),
        Stack::Diff(arguments) => deploy::diff(global, printer, arguments),
        Stack::Rollback(arguments) => deploy::rollback(global, printer, arguments),
        Stack::Rm(arguments) => rm::rm(global, printer, arguments),
        Stack::Ls(arguments) => look::ls(global, printer, arguments),
        Stack::Services(arguments) => look::services(global, printer, arguments),
        Stack::Ps(arguments) => look::ps(global, printer, arguments),
        Stack::Logs(arguments) => look::logs(global, printer, arguments),
    }
}

/// Why a command about a stack was not carried out.
fn failed(error: &DeployError) -> CommandError {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut exit = Exit::Failed;
    while let Some(cause) = source {
        if cause
            .downcast_ref::<EngineError>()
            .is_some_and(EngineError::is_unreachable)
        {
            exit = Exit::Unreachable;
        }
        source = cause.source();
    }
    if matches!(
        error,
        DeployError::Tasks { .. } | DeployError::Lingers { .. }
    ) {
        exit = Exit::Unreachable;
    }
    if matches!(error, DeployError::Name { .. }) {
        exit = Exit::Usage;
    }
    let told = CommandError::from_error(exit, error);
    match error {
        DeployError::Credentials { .. } => told.hint(
            "log in with a docker CLI whose configuration names no credential program: `auths` then holds them",
        ),
        DeployError::Unknown { service: None, .. } => {
            told.hint("phoenix stack ls lists the stacks that there are")
        }
        DeployError::Missing { .. } => {
            told.hint("create it, or declare it in the compose file without `external`")
        }
        DeployError::Taken { .. } => {
            told.hint("remove it, or give the stack or what it makes another name")
        }
        _ => told,
    }
}

/// The end of a command that was interrupted, and that goes on when it is run again.
fn stopped(signal: &'static str) -> CommandError {
    interrupted(signal).hint("run the same command again to go on")
}

#[derive(Serialize)]
struct Started<'a> {
    event: &'static str,
    format: u32,
    stack: &'a str,
}

/// Tells programs that something is about to be done to `stack`.
fn started(printer: &Printer, stack: &str) {
    if printer.json() {
        printer.json_line(&Started {
            event: "started",
            format: FORMAT_VERSION,
            stack,
        });
    }
}

/// Tells what goes on, as it comes.
fn tell(printer: &Printer, event: &DeployEvent) {
    if printer.json() {
        printer.json_line(event);
        return;
    }
    match event {
        DeployEvent::Standing { .. } | DeployEvent::Waiting { .. } => {
            printer.err(&render::stack_event(printer.err_layout(), event));
        }
        _ => printer.out(&render::stack_event(printer.layout(), event)),
    }
}

#[derive(Serialize)]
struct Finished<'a, T: Serialize> {
    event: &'static str,
    format: u32,
    exit_code: u8,
    #[serde(flatten)]
    done: &'a T,
}

/// Tells how it ended.
fn finish(printer: &Printer, done: &Deployed) -> Exit {
    let exit = match exit_of(&done.outcomes) {
        Exit::Success if !done.unfinished.is_empty() => Exit::Failed,
        exit => exit,
    };
    if printer.json() {
        printer.json_line(&Finished {
            event: "finished",
            format: FORMAT_VERSION,
            exit_code: exit.code(),
            done,
        });
    } else {
        for warning in &done.warnings {
            printer.err(&render::warning(printer.err_layout(), warning));
        }
        for left in &done.unfinished {
            let text = format!("not everything could be removed: {left}");
            printer.err(&render::warning(printer.err_layout(), &text));
        }
        printer.out(&render::deployed(printer.layout(), done));
        if let Some(hint) = advice(&done.outcomes) {
            printer.err(&render::hint(printer.err_layout(), hint));
        }
    }
    exit
}

/// What can be done about services that ended so and that the same command leaves as they are.
fn advice(outcomes: &[ServiceOutcome]) -> Option<&'static str> {
    let any = |kind| outcomes.iter().any(|outcome| outcome.kind == kind);
    if any(OutcomeKind::RolledBack) {
        Some(
            "what was rolled back is not tried again as it is: change the stack, or deploy it with --retry-rolled-back",
        )
    } else if any(OutcomeKind::Paused) {
        Some(
            "a paused update stays as it is: change the stack, or deploy it with --retry-rolled-back to resume the update",
        )
    } else {
        None
    }
}

/// The exit code of services that ended so: that of the failure that all share, or 1.
fn exit_of(outcomes: &[ServiceOutcome]) -> Exit {
    let mut exit = Exit::Success;
    for outcome in outcomes {
        let own = match outcome.kind {
            OutcomeKind::Converged | OutcomeKind::Completed => continue,
            // Follows from another.
            OutcomeKind::Blocked => continue,
            OutcomeKind::Paused => Exit::Paused,
            OutcomeKind::Unschedulable => Exit::Unschedulable,
            OutcomeKind::CrashLoop => Exit::CrashLoop,
            OutcomeKind::ImageMissing => Exit::ImageMissing,
            OutcomeKind::JobFailed => Exit::JobFailed,
            OutcomeKind::TimedOut | OutcomeKind::Unanswered => Exit::Unreachable,
            _ => Exit::Failed,
        };
        if exit == Exit::Success {
            exit = own;
        } else if exit != own {
            return Exit::Failed;
        }
    }
    let well = outcomes.iter().all(|outcome| outcome.kind.is_success());
    if exit == Exit::Success && !well {
        return Exit::Failed;
    }
    exit
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(kinds: &[&str]) -> Vec<ServiceOutcome> {
        let one = |kind: &&str| {
            serde_json::from_value(serde_json::json!({
                "service": "shop_web", "outcome": kind, "text": "",
            }))
            .expect("an outcome")
        };
        kinds.iter().map(one).collect()
    }

    #[test]
    fn the_exit_code_is_that_of_the_failure_that_all_share() {
        let cases: [(&[&str], u8); 12] = [
            (&[], 0),
            (&["converged", "completed"], 0),
            (&["rolled-back"], 1),
            (&["paused", "converged"], 11),
            (&["unschedulable", "unschedulable"], 12),
            (&["crash-loop", "blocked"], 13),
            (&["image-missing"], 14),
            (&["job-failed"], 15),
            (&["timed-out", "unanswered"], 4),
            (&["refused"], 1),
            // It waits for an end that does not come.
            (&["converged", "blocked"], 1),
            (&["crash-loop", "image-missing"], 1),
        ];
        for (kinds, code) in cases {
            assert_eq!(exit_of(&outcomes(kinds)).code(), code, "{kinds:?}");
        }
    }
}
