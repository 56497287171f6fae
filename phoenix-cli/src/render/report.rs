//! A report: the steps by outcome, the failures in full, the checks with their evidence, and at
//! the end one line that says how it went.

use std::fmt::Write as _;
use std::time::Duration;

use phoenix_core::sync::{Report, RunOutcome, StepOutcome, StepReport};

use super::table::{Cell, table};
use super::{Layout, duration, failure, number, reason, warning};

/// The whole report.
pub(crate) fn report(layout: &Layout, report: &Report) -> String {
    let mut text = String::new();
    steps(layout, report, &mut text);
    failures(layout, report, &mut text);
    checks(layout, report, &mut text);
    if !report.warnings.is_empty() {
        for one in &report.warnings {
            text.push_str(&warning(layout, one));
        }
        text.push('\n');
    }
    text.push_str(&last_line(layout, report));
    text
}

fn steps(layout: &Layout, report: &Report, text: &mut String) {
    let mut rows = Vec::new();
    let order: [fn(&StepOutcome) -> bool; 4] = [
        |outcome| matches!(outcome, StepOutcome::Unchanged),
        |outcome| matches!(outcome, StepOutcome::Changed),
        |outcome| matches!(outcome, StepOutcome::Failed),
        |outcome| matches!(outcome, StepOutcome::Skipped { .. }),
    ];
    for wanted in order {
        for step in report.steps.iter().filter(|step| wanted(&step.outcome)) {
            if step.outcome == StepOutcome::Unchanged && !layout.verbose {
                continue;
            }
            rows.push(row(step));
        }
    }
    if !rows.is_empty() {
        text.push_str("Steps\n");
        text.push_str(&table(layout, ["OUTCOME", "STEP", "TIME", "DETAIL"], &rows));
        text.push('\n');
    }
}

fn row(step: &StepReport) -> [Cell; 4] {
    let evidence = || step.evidence.clone().unwrap_or_default();
    let (word, style, detail) = match &step.outcome {
        StepOutcome::Unchanged => ("unchanged", Layout::DIM, evidence()),
        StepOutcome::Changed => ("changed", Layout::GOOD, evidence()),
        StepOutcome::Failed => (
            "failed",
            Layout::BAD,
            step.failure.as_ref().map(reason).unwrap_or_default(),
        ),
        StepOutcome::Skipped { because_of } => (
            "skipped",
            Layout::WARN,
            format!("because {because_of} failed"),
        ),
        _ => ("ended", Layout::DIM, evidence()),
    };
    let time = match &step.outcome {
        StepOutcome::Skipped { .. } => String::new(),
        _ => duration(Duration::from_millis(step.elapsed_ms)),
    };
    [
        Cell::new(word).styled(style),
        Cell::new(step.step.to_string()),
        Cell::new(time),
        Cell::new(detail),
    ]
}

fn failures(layout: &Layout, report: &Report, text: &mut String) {
    let failed: Vec<_> = report
        .steps
        .iter()
        .filter_map(|step| Some((step.step.to_string(), step.failure.as_ref()?)))
        .collect();
    if failed.is_empty() {
        return;
    }
    text.push_str("Failures\n");
    for (name, why) in failed {
        text.push_str(&failure(layout, &name, why));
    }
    text.push('\n');
}

fn checks(layout: &Layout, report: &Report, text: &mut String) {
    let rows: Vec<_> = report
        .checks
        .iter()
        .map(|check| {
            let (word, style) = if check.holds {
                ("ok", Layout::GOOD)
            } else {
                ("WRONG", Layout::BAD)
            };
            [
                Cell::new(word).styled(style),
                Cell::new(format!("{}: {}", check.statement, check.evidence)),
            ]
        })
        .collect();
    if !rows.is_empty() {
        text.push_str("Checks\n");
        text.push_str(&table(layout, ["", "STATEMENT AND EVIDENCE"], &rows));
        text.push('\n');
    }
}

fn last_line(layout: &Layout, report: &Report) -> String {
    let count = |wanted: fn(&StepOutcome) -> bool| {
        report
            .steps
            .iter()
            .filter(|step| wanted(&step.outcome))
            .count()
    };
    let time = duration(Duration::from_millis(report.elapsed_ms));
    let wrong = report.checks.iter().filter(|check| !check.holds).count();
    if report.outcome == RunOutcome::Converged && report.changed == 0 {
        return format!(
            "{} ({}, {time})\n",
            layout.paint(Layout::GOOD, "Nothing to change. The site is as declared."),
            number(report.steps.len(), "step"),
        );
    }
    let (word, style) = match report.outcome {
        RunOutcome::Converged => ("Converged:", Layout::GOOD),
        RunOutcome::Unreachable => ("Not converged, a target could not be reached:", Layout::BAD),
        _ => ("Not converged:", Layout::BAD),
    };
    let mut line = layout.paint(style, word).into_owned();
    let _ = write!(
        line,
        " {} changed, {} unchanged",
        report.changed,
        count(|outcome| matches!(outcome, StepOutcome::Unchanged))
    );
    for (count, word) in [
        (
            count(|outcome| matches!(outcome, StepOutcome::Failed)),
            "failed",
        ),
        (
            count(|outcome| matches!(outcome, StepOutcome::Skipped { .. })),
            "skipped",
        ),
        (wrong, "checked and found wrong"),
    ] {
        if count > 0 {
            let _ = write!(line, ", {count} {word}");
        }
    }
    let _ = writeln!(line, " in {time}");
    line
}

#[cfg(test)]
mod tests {
    use phoenix_core::sync::{Check, Failure, FailureClass, ResourceId};

    use super::*;

    fn sample() -> Report {
        let mut failed = StepReport::new(
            ResourceId::Certificate("web".into()),
            StepOutcome::Failed,
            1_250,
        );
        failed.failure = Some(Failure::message(
            FailureClass::Failed,
            "refused\nfor a reason",
        ));
        let mut changed = StepReport::new(ResourceId::Swarm, StepOutcome::Changed, 61_000);
        changed.evidence = Some("active, 1 manager".into());
        let mut report = Report::new(
            "lab",
            vec![
                failed,
                changed,
                StepReport::new(
                    ResourceId::Stack("web".into()),
                    StepOutcome::Skipped {
                        because_of: ResourceId::Certificate("web".into()),
                    },
                    0,
                ),
                StepReport::new(ResourceId::Authority, StepOutcome::Unchanged, 3),
            ],
            62_000,
        );
        report.checks = vec![
            Check::new("the swarm was active first", true, "event 3 before event 9"),
            Check::new("every stack has converged", false, "web was skipped"),
        ];
        report
    }

    #[test]
    fn a_failed_run_says_what_and_why() {
        assert_eq!(
            report(&Layout::default(), &sample()),
            "Steps
  OUTCOME  STEP             TIME   DETAIL
  changed  swarm            1m01s  active, 1 manager
  failed   certificate/web  1.2s   refused
  skipped  stack/web               because certificate/web failed

Failures
  certificate/web
    refused
    for a reason

Checks
         STATEMENT AND EVIDENCE
  ok     the swarm was active first: event 3 before event 9
  WRONG  every stack has converged: web was skipped

Not converged: 1 changed, 1 unchanged, 1 failed, 1 skipped, 1 checked and found wrong in 1m02s
"
        );
    }

    #[test]
    fn a_run_without_changes_says_so() {
        let quiet = Report::new(
            "lab",
            vec![StepReport::new(
                ResourceId::Swarm,
                StepOutcome::Unchanged,
                3,
            )],
            812,
        );
        assert_eq!(
            report(&Layout::default(), &quiet),
            "Nothing to change. The site is as declared. (1 step, 0.8s)\n"
        );
    }

    #[test]
    fn a_converged_run_counts_what_it_changed() {
        let done = Report::new(
            "lab",
            vec![StepReport::new(ResourceId::Swarm, StepOutcome::Changed, 3)],
            20_000,
        );
        let text = report(&Layout::default(), &done);
        assert!(
            text.ends_with("\nConverged: 1 changed, 0 unchanged in 20s\n"),
            "{text}"
        );
    }
}
