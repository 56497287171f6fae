//! `phoenix status`.

use std::sync::Arc;

use phoenix_core::sync::{FORMAT_VERSION, RunOutcome, Status};
use serde::Serialize;

use super::{Result, interrupted, open, until_interrupted, warn};
use crate::arguments::Global;
use crate::exit::Exit;
use crate::printer::Printer;
use crate::render;

#[derive(Serialize)]
struct Document<'a> {
    format: u32,
    #[serde(flatten)]
    status: &'a Status,
}

/// Shows nodes, services and certificates.
pub(super) fn status(global: &Global, printer: &Arc<Printer>) -> Result {
    let session = open(global, printer, |_| Ok(()))?;
    warn(&session, printer);
    let status = until_interrupted(printer, session.status())?.map_err(interrupted)?;
    if printer.json() {
        printer.json_line(&Document {
            format: FORMAT_VERSION,
            status: &status,
        });
    } else {
        printer.out(&render::status(printer.layout(), &status));
    }
    Ok(exit(&status))
}

fn exit(status: &Status) -> Exit {
    let healthy = status.nodes.iter().all(|node| node.healthy)
        && status.services.iter().all(|service| service.healthy)
        && status
            .certificates
            .iter()
            .all(|certificate| certificate.healthy);
    match Exit::of(RunOutcome::of(&status.failures)) {
        Exit::Success if !healthy => Exit::Failed,
        exit => exit,
    }
}

#[cfg(test)]
mod tests {
    use phoenix_core::sync::{Failure, FailureClass, NodeStatus};

    use super::*;

    #[test]
    fn what_could_not_be_reached_comes_before_what_is_unhealthy() {
        let mut status = Status::default();
        assert_eq!(exit(&status), Exit::Success);
        status.nodes.push(NodeStatus::default());
        assert_eq!(exit(&status), Exit::Failed);
        status
            .failures
            .push(Failure::message(FailureClass::Unreachable, "no answer"));
        assert_eq!(exit(&status), Exit::Unreachable);
    }

    #[test]
    fn json_has_the_format_first() {
        let status = Status::default();
        let document = Document {
            format: FORMAT_VERSION,
            status: &status,
        };
        assert_eq!(
            serde_json::to_string(&document).expect("JSON"),
            r#"{"format":1,"site":"","nodes":[],"services":[],"certificates":[],"failures":[]}"#
        );
    }
}
