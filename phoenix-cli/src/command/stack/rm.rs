//! `phoenix stack rm`.

use std::sync::Arc;

use phoenix_core::deploy::{self, DeployEvent, Removed};
use phoenix_core::ground::Deadline;
use phoenix_core::sync::FORMAT_VERSION;
use serde::Serialize;

use super::place::Swarm;
use super::{Finished, failed, started, stopped, tell};
use crate::arguments::{Global, StackRm};
use crate::command::{Result, until_interrupted};
use crate::exit::Exit;
use crate::printer::Printer;
use crate::render;

/// Removes stacks.
pub(super) fn rm(global: &Global, printer: &Arc<Printer>, arguments: &StackRm) -> Result {
    let swarm = Swarm::of(global, printer, &arguments.swarm)?;
    let swarm = swarm.locked(printer, &arguments.names)?;
    let volumes = arguments.volumes.then_some(swarm.nodes.as_slice());
    let mut exit = Exit::Success;
    for name in &arguments.names {
        started(printer, name);
        let mut told = |event: DeployEvent| tell(printer, &event);
        let deadline = Deadline::after(arguments.timeout);
        let work = deploy::remove(&swarm.engine, name, volumes, deadline, &mut told);
        let removed = until_interrupted(printer, work)?
            .map_err(stopped)?
            .map_err(|error| failed(&error))?;
        if !removed.unreached.is_empty() {
            exit = Exit::Unreachable;
        }
        say(printer, &removed);
    }
    if printer.json() {
        printer.json_line(&Finished {
            event: "finished",
            format: FORMAT_VERSION,
            exit_code: exit.code(),
            done: &(),
        });
    }
    Ok(exit)
}

#[derive(Serialize)]
struct Gone<'a> {
    event: &'static str,
    #[serde(flatten)]
    removed: &'a Removed,
}

fn say(printer: &Printer, removed: &Removed) {
    if printer.json() {
        printer.json_line(&Gone {
            event: "removed",
            removed,
        });
        return;
    }
    for warning in &removed.warnings {
        printer.err(&render::warning(printer.err_layout(), warning));
    }
    for node in &removed.unreached {
        let text = format!(
            "volumes of stack {} may be left on {}: {}",
            removed.stack, node.node, node.why
        );
        printer.err(&render::warning(printer.err_layout(), &text));
    }
    printer.out(&render::removed(printer.layout(), removed));
}
