//! `phoenix stack deploy`, `diff` and `rollback`.

use std::sync::Arc;

use phoenix_core::deploy::{self, DeployEvent, Deployment, StackPlan};
use phoenix_core::ground::Deadline;
use phoenix_core::sync::FORMAT_VERSION;
use serde::Serialize;

use super::place::Swarm;
use super::source::load;
use super::{failed, finish, started, stopped, tell};
use crate::arguments::{Global, StackDeploy, StackDiff, StackRollback};
use crate::command::{Result, interrupted, until_interrupted};
use crate::exit::Exit;
use crate::printer::Printer;
use crate::render;

/// Makes a stack as declared.
pub(super) fn deploy(global: &Global, printer: &Arc<Printer>, arguments: &StackDeploy) -> Result {
    let file = load(&arguments.file.source, printer)?;
    let stack = file.stack().to_owned();
    let swarm = Swarm::of(global, printer, &arguments.swarm)?;
    let swarm = swarm.locked(printer, std::slice::from_ref(&stack))?;
    started(printer, &stack);
    let mut options = swarm.options(printer, &arguments.file, true)?;
    options.log_lines = arguments.log_lines;
    let deployment = Deployment::new(&swarm.engine, &file, options);
    let mut told = |event: DeployEvent| tell(printer, &event);
    let work = deployment.apply(Deadline::after(arguments.timeout), &mut told);
    let done = until_interrupted(printer, work)?
        .map_err(stopped)?
        .map_err(|error| swarm.failed(&error))?;
    Ok(finish(printer, &done))
}

#[derive(Serialize)]
struct Document<'a> {
    format: u32,
    changes: bool,
    #[serde(flatten)]
    plan: &'a StackPlan,
}

/// Shows what a deployment would change.
pub(super) fn diff(global: &Global, printer: &Arc<Printer>, arguments: &StackDiff) -> Result {
    let file = load(&arguments.file.source, printer)?;
    let swarm = Swarm::of(global, printer, &arguments.swarm)?;
    swarm.tell_whose(printer, file.stack());
    let options = swarm.options(printer, &arguments.file, false)?;
    let deployment = Deployment::new(&swarm.engine, &file, options);
    let plan = until_interrupted(printer, deployment.plan())?
        .map_err(interrupted)?
        .map_err(|error| swarm.failed(&error))?;
    if printer.json() {
        printer.json_line(&Document {
            format: FORMAT_VERSION,
            changes: plan.has_changes(),
            plan: &plan,
        });
    } else {
        for warning in &plan.warnings {
            printer.err(&render::warning(printer.err_layout(), warning));
        }
        printer.out(&render::stack_plan(printer.layout(), &plan));
    }
    Ok(
        if !plan.missing.is_empty() || !plan.taken.is_empty() || plan.rolled_back().next().is_some()
        {
            Exit::Failed
        } else if arguments.detailed_exitcode && plan.has_changes() {
            Exit::Pending
        } else {
            Exit::Success
        },
    )
}

/// Returns services to their previous specs.
pub(super) fn rollback(
    global: &Global,
    printer: &Arc<Printer>,
    arguments: &StackRollback,
) -> Result {
    let stack = &arguments.name;
    let swarm = Swarm::of(global, printer, &arguments.swarm)?;
    let swarm = swarm.locked(printer, std::slice::from_ref(stack))?;
    started(printer, stack);
    let mut told = |event: DeployEvent| tell(printer, &event);
    let work = deploy::rollback(
        &swarm.engine,
        stack,
        &arguments.services,
        Deadline::after(arguments.timeout),
        &mut told,
    );
    // Run again it would return to what is left now.
    let shown = format!("phoenix stack services {stack} shows how far it came");
    let done = until_interrupted(printer, work)?
        .map_err(|signal| interrupted(signal).hint(shown))?
        .map_err(|error| failed(&error))?;
    Ok(finish(printer, &done))
}
