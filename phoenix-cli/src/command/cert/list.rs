//! `phoenix cert list`.

use std::sync::Arc;

use phoenix_core::sync::{CertificateStatus, FORMAT_VERSION, Failure, RunOutcome};
use serde::Serialize;

use super::super::{Result, interrupted, open, until_interrupted, warn};
use crate::arguments::Global;
use crate::exit::Exit;
use crate::printer::Printer;
use crate::render;

#[derive(Serialize)]
struct Document<'a> {
    format: u32,
    site: &'a str,
    certificates: &'a [CertificateStatus],
    failures: &'a [Failure],
}

/// Lists the site's certificates.
pub(super) fn list(global: &Global, printer: &Arc<Printer>) -> Result {
    let session = open(global, printer, |_| Ok(()))?;
    warn(&session, printer);
    let (certificates, failures) =
        until_interrupted(printer, session.certificates(true))?.map_err(interrupted)?;
    if printer.json() {
        printer.json_line(&Document {
            format: FORMAT_VERSION,
            site: &session.site().name,
            certificates: &certificates,
            failures: &failures,
        });
    } else {
        printer.out(&render::certificate_list(
            printer.layout(),
            &certificates,
            &failures,
        ));
    }
    let healthy = certificates.iter().all(|certificate| certificate.healthy);
    Ok(match Exit::of(RunOutcome::of(&failures)) {
        Exit::Success if !healthy => Exit::Failed,
        exit => exit,
    })
}
