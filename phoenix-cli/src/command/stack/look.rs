//! `phoenix stack ls`, `services`, `ps` and `logs`.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use phoenix_core::deploy::{self, DeployError, StackLine};
use phoenix_core::docker::{LogOptions, LogStream};
use phoenix_core::ground::Deadline;
use phoenix_core::sync::FORMAT_VERSION;
use serde::Serialize;

use super::failed;
use super::place::Swarm;
use crate::arguments::{Global, StackLogs, StackLs, StackPs, StackServices, Tail};
use crate::command::{Result, interrupted, until_interrupted};
use crate::error::CommandError;
use crate::exit::Exit;
use crate::printer::Printer;
use crate::render;

/// How long looking may take.
const LOOK: Duration = Duration::from_secs(30);

#[derive(Serialize)]
struct Stacks<'a> {
    format: u32,
    stacks: &'a [deploy::StackSummary],
}

#[derive(Serialize)]
struct Services<'a> {
    format: u32,
    stack: &'a str,
    services: &'a [deploy::ServiceStanding],
}

#[derive(Serialize)]
struct Tasks<'a> {
    format: u32,
    stack: &'a str,
    tasks: &'a [deploy::TaskStanding],
}

fn ended<T>(
    printer: &Arc<Printer>,
    work: impl Future<Output = std::result::Result<T, DeployError>>,
) -> std::result::Result<T, CommandError> {
    until_interrupted(printer, work)?
        .map_err(interrupted)?
        .map_err(|error| failed(&error))
}

/// That there is nothing of this name.
fn nothing(stack: &str) -> CommandError {
    failed(&DeployError::Unknown {
        stack: stack.to_owned(),
        service: None,
        known: Vec::new(),
    })
}

/// Lists the stacks.
pub(super) fn ls(global: &Global, printer: &Arc<Printer>, arguments: &StackLs) -> Result {
    let swarm = Swarm::of(global, printer, &arguments.swarm)?;
    let stacks = ended(printer, deploy::list(&swarm.engine, Deadline::after(LOOK)))?;
    if printer.json() {
        printer.json_line(&Stacks {
            format: FORMAT_VERSION,
            stacks: &stacks,
        });
    } else {
        printer.out(&render::stack_list(printer.layout(), &stacks));
    }
    Ok(Exit::Success)
}

/// Lists the services of a stack.
pub(super) fn services(
    global: &Global,
    printer: &Arc<Printer>,
    arguments: &StackServices,
) -> Result {
    let swarm = Swarm::of(global, printer, &arguments.swarm)?;
    let work = deploy::services(&swarm.engine, &arguments.name, Deadline::after(LOOK));
    let services = ended(printer, work)?;
    if services.is_empty() {
        return Err(nothing(&arguments.name));
    }
    if printer.json() {
        printer.json_line(&Services {
            format: FORMAT_VERSION,
            stack: &arguments.name,
            services: &services,
        });
    } else {
        printer.out(&render::stack_services(printer.layout(), &services));
    }
    Ok(if services.iter().all(|service| service.settled) {
        Exit::Success
    } else {
        Exit::Failed
    })
}

/// Lists the tasks of a stack.
pub(super) fn ps(global: &Global, printer: &Arc<Printer>, arguments: &StackPs) -> Result {
    let swarm = Swarm::of(global, printer, &arguments.swarm)?;
    let deadline = Deadline::after(LOOK);
    let work = deploy::tasks(&swarm.engine, &arguments.name, arguments.all, deadline);
    let tasks = ended(printer, work)?;
    if tasks.is_empty() {
        return Err(nothing(&arguments.name));
    }
    if printer.json() {
        printer.json_line(&Tasks {
            format: FORMAT_VERSION,
            stack: &arguments.name,
            tasks: &tasks,
        });
    } else {
        printer.out(&render::stack_tasks(printer.layout(), &tasks));
    }
    Ok(Exit::Success)
}

/// Prints what tasks wrote, and with `--follow` what they go on to write.
pub(super) fn logs(global: &Global, printer: &Arc<Printer>, arguments: &StackLogs) -> Result {
    let swarm = Swarm::of(global, printer, &arguments.swarm)?;
    let mut options = LogOptions::default();
    if let Tail::Last(count) = arguments.tail {
        options = options.with_tail(count);
    }
    if let Some(since) = arguments.since {
        options = options.with_since(since);
    }
    if arguments.follow {
        return follow(printer, &swarm, arguments, options);
    }
    let (stack, only) = (&arguments.name, &arguments.services);
    let work = deploy::logs(&swarm.engine, stack, only, options, Deadline::after(LOOK));
    let mut exit = Exit::Success;
    for line in ended(printer, work)? {
        exit = print(printer, arguments, &line).unwrap_or(exit);
    }
    Ok(exit)
}

/// Prints what tasks write until a signal comes, which is how it is meant to end.
fn follow(
    printer: &Arc<Printer>,
    swarm: &Swarm,
    arguments: &StackLogs,
    options: LogOptions,
) -> Result {
    let mut exit = Exit::Success;
    let work = async {
        let (stack, only) = (&arguments.name, &arguments.services);
        let deadline = Deadline::after(LOOK);
        let mut lines = deploy::follow_logs(&swarm.engine, stack, only, options, deadline).await?;
        while let Some(line) = lines.next().await {
            exit = print(printer, arguments, &line?).unwrap_or(exit);
            if printer.is_broken() {
                break;
            }
        }
        Ok(())
    };
    match until_interrupted(printer, work)? {
        Ok(Ok(())) | Err(_) => Ok(exit),
        Ok(Err(error)) => Err(failed(&error)),
    }
}

/// Prints a line. Gives how the command ends where the line says that others are missing.
fn print(printer: &Printer, arguments: &StackLogs, line: &StackLine) -> Option<Exit> {
    let incomplete = line.line.stream == LogStream::Engine;
    if incomplete {
        let text = format!(
            "the logs of {} are incomplete: {}",
            line.service, line.line.text
        );
        printer.err(&render::warning(printer.err_layout(), &text));
    }
    if printer.json() {
        printer.json_line(line);
    } else if !incomplete {
        let text = render::stack_line(printer.layout(), line, arguments.timestamps);
        printer.out(&text);
    }
    incomplete.then_some(Exit::Failed)
}
