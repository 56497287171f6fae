//! Stacks on a swarm: plans, what goes on, how it ended, and how they stand.

use std::fmt::Write as _;

use anstyle::Style;
use phoenix_core::deploy::{
    Change, DeployEvent, Deployed, OutcomeKind, Removed, ServiceAction, ServiceOutcome,
    ServiceStanding, StackLine, StackPlan, StackSummary, TaskStanding, Verb,
};

use super::table::{Cell, table};
use super::{Layout, number};
use crate::escape;

/// What a deployment would change.
pub(crate) fn stack_plan(layout: &Layout, plan: &StackPlan) -> String {
    let mut text = String::new();
    let changes = plan.changes();
    for one in &changes {
        change(layout, one, &mut text);
    }
    for service in &plan.services {
        if let ServiceAction::RolledBack(rolled) = &service.action {
            let _ = writeln!(
                text,
                "{} service {}: {}; it is not tried again without --retry-rolled-back",
                layout.paint(Layout::BAD, "!"),
                layout.paint(Layout::BOLD, &escape::line(&service.name)),
                escape::line(&rolled.to_string())
            );
            for one in &service.changes {
                let _ = writeln!(text, "    {}", escape::line(&one.to_string()));
            }
        }
    }
    let missing = plan.missing.iter().map(ToString::to_string);
    for unmet in missing.chain(plan.taken.iter().map(ToString::to_string)) {
        let _ = writeln!(
            text,
            "{} {}",
            layout.paint(Layout::BAD, "!"),
            escape::line(&unmet)
        );
    }
    if text.is_empty() {
        let services = number(plan.services.len(), "service");
        return format!("No changes: {services} as declared.\n");
    }
    let awaited = changes.iter().filter(|one| one.verb == Verb::Await).count();
    let sent = changes.len() - awaited;
    let unsettled = format!(
        "{} {} not converged",
        number(awaited, "service"),
        if awaited == 1 { "has" } else { "have" }
    );
    match (sent, awaited) {
        (0, 0) => {}
        (0, _) => {
            let _ = writeln!(text, "Nothing to send; {unsettled}.");
        }
        (_, 0) => {
            let _ = writeln!(text, "{} to make.", number(sent, "change"));
        }
        _ => {
            let _ = writeln!(text, "{} to make; {unsettled}.", number(sent, "change"));
        }
    }
    text
}

fn change(layout: &Layout, change: &Change, text: &mut String) {
    let (sign, style) = match change.verb {
        Verb::Create => ("+", Layout::GOOD),
        Verb::Remove => ("-", Layout::BAD),
        Verb::Await => ("?", Layout::WARN),
        _ => ("~", Layout::WARN),
    };
    let what = escape::line(&change.what).into_owned();
    let what = layout.paint(Layout::BOLD, &what).into_owned();
    let sign = layout.paint(style, sign).into_owned();
    // Differences of a spec are long: each has a line of its own.
    if change.verb == Verb::Update && change.what.starts_with("service ") {
        let _ = writeln!(text, "{sign} {what}");
        for why in &change.why {
            let _ = writeln!(text, "    {}", escape::line(why));
        }
    } else {
        let why = change.why.join("; ");
        let _ = writeln!(text, "{sign} {what} ({})", escape::line(&why));
    }
}

/// One event of a deployment.
pub(crate) fn stack_event(layout: &Layout, event: &DeployEvent) -> String {
    let mut text = String::new();
    match event {
        DeployEvent::Changed(one) => change(layout, one, &mut text),
        DeployEvent::Standing {
            service,
            text: standing,
        } => {
            let line = format!("  {}: {}", escape::line(service), escape::line(standing));
            text = format!("{}\n", layout.paint(Layout::DIM, &line));
        }
        DeployEvent::Waiting { text: what } => {
            let line = format!("  waiting for {}", escape::line(what));
            text = format!("{}\n", layout.paint(Layout::DIM, &line));
        }
        DeployEvent::Ended(outcome) => ended(layout, outcome, &mut text),
        _ => {}
    }
    text
}

fn ended(layout: &Layout, outcome: &ServiceOutcome, text: &mut String) {
    let (sign, style) = if outcome.kind.is_success() {
        ("=", Layout::GOOD)
    } else if outcome.kind == OutcomeKind::Blocked {
        ("!", Layout::WARN)
    } else {
        ("!", Layout::BAD)
    };
    let _ = writeln!(
        text,
        "{} service {} {}",
        layout.paint(style, sign),
        layout.paint(Layout::BOLD, &escape::line(&outcome.service)),
        escape::line(&outcome.text)
    );
    for line in &outcome.log {
        let line = format!("    | {}", escape::line(line));
        let _ = writeln!(text, "{}", layout.paint(Layout::DIM, &line));
    }
}

/// How a deployment ended, in one line.
pub(crate) fn deployed(layout: &Layout, done: &Deployed) -> String {
    let changes = match done.changes.len() {
        0 => "nothing to change".to_owned(),
        count => number(count, "change"),
    };
    let failed = done.failures().count();
    let services = number(done.outcomes.len(), "service");
    let (word, style) = if failed == 0 {
        ("Converged:", Layout::GOOD)
    } else {
        ("Failed:", Layout::BAD)
    };
    let mut text = format!("{} {services}", layout.paint(style, word));
    if failed > 0 {
        let mut kinds: Vec<String> = done.failures().map(|one| one.kind.to_string()).collect();
        kinds.sort();
        kinds.dedup();
        let _ = write!(text, ", {failed} not as declared ({})", kinds.join(", "));
    }
    let _ = writeln!(text, "; {changes}.");
    text
}

/// What was removed, in one line.
pub(crate) fn removed(layout: &Layout, removed: &Removed) -> String {
    let stack = escape::line(&removed.stack).into_owned();
    if removed.changes.is_empty() {
        return format!("Nothing is there of stack {stack}.\n");
    }
    format!(
        "{} stack {stack}, {}.\n",
        layout.paint(Layout::GOOD, "Removed:"),
        number(removed.changes.len(), "object")
    )
}

fn health(healthy: bool) -> Style {
    if healthy { Layout::GOOD } else { Layout::BAD }
}

/// The stacks of a swarm.
pub(crate) fn stack_list(layout: &Layout, stacks: &[StackSummary]) -> String {
    if stacks.is_empty() {
        return "The swarm has no stacks.\n".to_owned();
    }
    let rows: Vec<[Cell; 6]> = stacks
        .iter()
        .map(|stack| {
            [
                Cell::new(&stack.name),
                Cell::new(stack.services.to_string()),
                Cell::new(stack.converged.to_string())
                    .styled(health(stack.converged == stack.services)),
                Cell::new(stack.networks.to_string()),
                Cell::new(stack.secrets.to_string()),
                Cell::new(stack.configs.to_string()),
            ]
        })
        .collect();
    let header = [
        "STACK",
        "SERVICES",
        "CONVERGED",
        "NETWORKS",
        "SECRETS",
        "CONFIGS",
    ];
    table(layout, header, &rows)
}

/// The services of a stack.
pub(crate) fn stack_services(layout: &Layout, services: &[ServiceStanding]) -> String {
    let rows: Vec<[Cell; 6]> = services
        .iter()
        .map(|service| {
            [
                Cell::new(&service.name),
                Cell::new(service.mode),
                Cell::new(&service.replicas),
                Cell::new(&service.image),
                Cell::new(service.ports.join(", ")),
                Cell::new(&service.state).styled(health(service.settled)),
            ]
        })
        .collect();
    let header = ["SERVICE", "MODE", "REPLICAS", "IMAGE", "PORTS", "STATE"];
    table(layout, header, &rows)
}

/// The tasks of a stack.
pub(crate) fn stack_tasks(layout: &Layout, tasks: &[TaskStanding]) -> String {
    let rows: Vec<[Cell; 6]> = tasks
        .iter()
        .map(|task| {
            let image = task.image.split('@').next().unwrap_or_default();
            let mut error = task.error.clone();
            if let Some(code) = task.exit_code.filter(|code| *code != 0) {
                if !error.is_empty() {
                    error.push_str("; ");
                }
                let _ = write!(error, "exit code {code}");
            }
            [
                Cell::new(&task.name),
                Cell::new(image),
                Cell::new(&task.node),
                Cell::new(&task.desired),
                Cell::new(&task.state).styled(health(task.error.is_empty())),
                Cell::new(error),
            ]
        })
        .collect();
    let header = ["TASK", "IMAGE", "NODE", "DESIRED", "STATE", "ERROR"];
    table(layout, header, &rows)
}

/// A line that a task wrote.
pub(crate) fn stack_line(layout: &Layout, one: &StackLine, timestamps: bool) -> String {
    let name = match (one.name.is_empty(), one.hostname.is_empty()) {
        (true, _) => one.service.clone(),
        (false, true) => one.name.clone(),
        (false, false) => format!("{}@{}", one.name, one.hostname),
    };
    let mut from = format!("{} |", escape::line(&name));
    if timestamps {
        from = format!("{} {from}", escape::line(&one.line.time));
    }
    format!(
        "{} {}\n",
        layout.paint(Layout::DIM, &from),
        escape::line(&one.line.text)
    )
}
