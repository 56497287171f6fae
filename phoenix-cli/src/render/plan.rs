//! A plan: what would change and why, and at the end one line that says how much.

use std::fmt::Write as _;

use phoenix_core::sync::{Change, Plan, PlannedAction};

use super::{Layout, failure};
use crate::escape;

/// How many steps a plan holds of each kind.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    change: usize,
    unchanged: usize,
    failed: usize,
    blocked: usize,
}

impl Counts {
    fn of(plan: &Plan) -> Self {
        let mut counts = Self::default();
        for step in &plan.steps {
            match &step.action {
                PlannedAction::Unchanged { .. } => counts.unchanged += 1,
                PlannedAction::Change { .. } => counts.change += 1,
                PlannedAction::Failed { .. } => counts.failed += 1,
                PlannedAction::Blocked { .. } => counts.blocked += 1,
                _ => {}
            }
        }
        counts
    }
}

/// The whole plan.
pub(crate) fn plan(layout: &Layout, plan: &Plan) -> String {
    let mut text = String::new();
    for step in &plan.steps {
        let name = escape::line(&step.step.to_string()).into_owned();
        match &step.action {
            PlannedAction::Unchanged { evidence } if layout.verbose => {
                let line = if evidence.is_empty() {
                    format!("= {name}")
                } else {
                    format!("= {name}: {}", escape::line(evidence))
                };
                let _ = writeln!(text, "{}", layout.paint(Layout::DIM, &line));
            }
            PlannedAction::Change { changes, after } => {
                let _ = write!(
                    text,
                    "{} {}",
                    layout.paint(Layout::GOOD, "~"),
                    layout.paint(Layout::BOLD, &name)
                );
                if let Some(after) = after {
                    let after = format!(
                        " (to be looked at after {})",
                        escape::line(&after.to_string())
                    );
                    text.push_str(&layout.paint(Layout::DIM, &after));
                }
                text.push('\n');
                for one in changes {
                    let _ = writeln!(text, "    {}", change(layout, one));
                }
            }
            PlannedAction::Failed { failure: why } => {
                text.push_str(&failure(layout, &format!("! {name} failed"), why)[2..]);
            }
            PlannedAction::Blocked { by } => {
                let line = format!(
                    "- {name} (not looked at: {} failed)",
                    escape::line(&by.to_string())
                );
                let _ = writeln!(text, "{}", layout.paint(Layout::DIM, &line));
            }
            _ => {}
        }
    }
    for warning in &plan.warnings {
        text.push_str(&super::warning(layout, warning));
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(&plan_line(layout, plan));
    text
}

/// How much would change, on one line.
pub(crate) fn plan_line(layout: &Layout, plan: &Plan) -> String {
    let counts = Counts::of(plan);
    if counts.change + counts.failed + counts.blocked == 0 {
        return format!(
            "{}\n",
            layout.paint(Layout::GOOD, "No changes. The site is as declared.")
        );
    }
    let mut parts = vec![
        format!("{} to change", counts.change),
        format!("{} unchanged", counts.unchanged),
    ];
    if counts.failed > 0 {
        parts.push(format!("{} failed", counts.failed));
    }
    if counts.blocked > 0 {
        parts.push(format!("{} not looked at", counts.blocked));
    }
    format!(
        "{} {}\n",
        layout.paint(Layout::BOLD, "Plan:"),
        parts.join(", ")
    )
}

/// A change with its reasons, on one line.
pub(crate) fn change(layout: &Layout, change: &Change) -> String {
    let mut text = format!("{} {}", change.verb, escape::line(&change.what));
    if !change.why.is_empty() {
        let why = format!(" ({})", escape::line(&change.why.join("; ")));
        text.push_str(&layout.paint(Layout::DIM, &why));
    }
    if change.disruptive {
        text.push(' ');
        text.push_str(&layout.paint(Layout::WARN, "[disruptive]"));
    }
    text
}

#[cfg(test)]
mod tests {
    use phoenix_core::sync::{Failure, FailureClass, PlannedStep, ResourceId, Verb};

    use super::*;

    fn unchanged(id: ResourceId) -> PlannedStep {
        PlannedStep::new(
            id,
            vec![],
            PlannedAction::Unchanged {
                evidence: "as declared".into(),
            },
        )
    }

    fn sample() -> Plan {
        let mut plan = Plan::new(
            "lab",
            vec![
                unchanged(ResourceId::Authority),
                PlannedStep::new(
                    ResourceId::Endpoint("web".into()),
                    vec![],
                    PlannedAction::Change {
                        changes: vec![
                            Change::because(
                                Verb::Issue,
                                "server certificate",
                                ["missing", "SAN\u{7} changed"],
                            ),
                            Change::new(Verb::Restart, "docker.service", "its certificate changes")
                                .disruptive(),
                        ],
                        after: None,
                    },
                ),
                PlannedStep::new(
                    ResourceId::Swarm,
                    vec![],
                    PlannedAction::Change {
                        changes: vec![Change::new(Verb::Create, "swarm", "not there yet")],
                        after: Some(ResourceId::Endpoint("web".into())),
                    },
                ),
            ],
        );
        plan.warnings
            .push("the token file can be read by others".into());
        plan
    }

    #[test]
    fn changes_have_reasons_and_disruption_is_marked() {
        assert_eq!(
            plan(&Layout::default(), &sample()),
            "~ docker/web
    issue server certificate (missing; SAN\\u{7} changed)
    restart docker.service (its certificate changes) [disruptive]
~ swarm (to be looked at after docker/web)
    create swarm (not there yet)
warning: the token file can be read by others

Plan: 2 to change, 1 unchanged
"
        );
    }

    #[test]
    fn disruption_is_yellow() {
        let layout = Layout {
            color: true,
            ..Layout::default()
        };
        assert!(plan(&layout, &sample()).contains("\u{1b}[33m[disruptive]\u{1b}[0m"));
    }

    #[test]
    fn what_is_unchanged_is_listed_only_when_asked() {
        let layout = Layout {
            verbose: true,
            ..Layout::default()
        };
        let quiet = Plan::new("lab", vec![unchanged(ResourceId::Authority)]);
        assert_eq!(
            plan(&Layout::default(), &quiet),
            "No changes. The site is as declared.\n"
        );
        assert_eq!(
            plan(&layout, &quiet),
            "= authority: as declared\n\nNo changes. The site is as declared.\n"
        );
    }

    #[test]
    fn what_could_not_be_observed_is_no_unchanged_site() {
        let failed = Plan::new(
            "lab",
            vec![
                PlannedStep::new(
                    ResourceId::Guest("web".into()),
                    vec![],
                    PlannedAction::Failed {
                        failure: Failure::message(FailureClass::Unreachable, "no answer in 60s"),
                    },
                ),
                PlannedStep::new(
                    ResourceId::Node("web".into()),
                    vec![],
                    PlannedAction::Blocked {
                        by: ResourceId::Guest("web".into()),
                    },
                ),
            ],
        );
        assert_eq!(
            plan(&Layout::default(), &failed),
            "! guest/web failed
    no answer in 60s
- node/web (not looked at: guest/web failed)

Plan: 0 to change, 0 unchanged, 1 failed, 1 not looked at
"
        );
    }
}
