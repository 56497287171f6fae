//! `phoenix sync all` and `phoenix plan`.

use std::sync::Arc;

use phoenix_core::sync::{EventSink, SyncError, SyncOptions};

use super::{Result, open, until_interrupted};
use crate::arguments::Global;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::printer::Printer;
use crate::progress::Progress;
use crate::render;

/// Makes the site as declared.
pub(super) fn sync(global: &Global, printer: &Arc<Printer>, options: &SyncOptions) -> Result {
    let session = open(global, printer, |_| Ok(()))?;
    let progress = Arc::new(Progress::new(printer));
    let sink: Arc<dyn EventSink> = progress.clone();
    match until_interrupted(printer, session.sync(options, sink))? {
        Err(signal) => Ok(progress.interrupted(signal)),
        Ok(Err(error)) => Err(could_not_begin(&error)),
        Ok(Ok(report)) => {
            progress.close();
            if !printer.json() {
                printer.out(&render::report(printer.layout(), &report));
            }
            Ok(Exit::of(report.outcome))
        }
    }
}

/// Shows what a sync would do.
pub(super) fn plan(
    global: &Global,
    printer: &Arc<Printer>,
    options: &SyncOptions,
    detailed: bool,
) -> Result {
    let session = open(global, printer, |_| Ok(()))?;
    let progress = Arc::new(Progress::new(printer));
    let sink: Arc<dyn EventSink> = progress.clone();
    match until_interrupted(printer, session.plan(options, sink))? {
        Err(signal) => Ok(progress.interrupted(signal)),
        Ok(plan) => {
            progress.close();
            if !printer.json() {
                printer.out(&render::plan(printer.layout(), &plan));
            }
            let outcome = phoenix_core::sync::RunOutcome::of(plan.failures());
            Ok(match Exit::of(outcome) {
                Exit::Success if detailed && plan.has_changes() => Exit::Pending,
                exit => exit,
            })
        }
    }
}

pub(super) fn could_not_begin(error: &SyncError) -> CommandError {
    match error {
        SyncError::Locked { .. } => CommandError::from_error(Exit::Locked, error)
            .hint("wait until it has ended; `phoenix plan` can be run meanwhile"),
        other => CommandError::from_error(Exit::Failed, other),
    }
}
