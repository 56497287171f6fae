//! `phoenix cert`: certificates in files, without any site.

use std::fs;
use std::path::Path;

use phoenix_core::pki::ObservedCertificate;
use phoenix_core::sync::FORMAT_VERSION;
use serde::Serialize;
use time::OffsetDateTime;

use super::Result;
use crate::arguments::CertCheck;
use crate::error::CommandError;
use crate::escape;
use crate::exit::Exit;
use crate::printer::Printer;

#[derive(Serialize)]
struct Document {
    format: u32,
    certificates: Vec<Checked>,
}

#[derive(Serialize)]
struct Checked {
    file: String,
    subject: String,
    days_left: i64,
    due: bool,
}

/// Whether the first certificate of each file is valid for some days more.
pub(super) fn check(printer: &Printer, arguments: &CertCheck) -> Result {
    let now = OffsetDateTime::now_utc();
    let certificates = arguments
        .files
        .iter()
        .map(|file| checked(file, arguments.days, now))
        .collect::<std::result::Result<Vec<_>, _>>()?;
    let due = certificates.iter().any(|certificate| certificate.due);
    if printer.json() {
        printer.json_line(&Document {
            format: FORMAT_VERSION,
            certificates,
        });
    } else {
        for certificate in &certificates {
            printer.out(&format!(
                "{}: {}, {} days left: {}\n",
                escape::line(&certificate.file),
                escape::line(&certificate.subject),
                certificate.days_left,
                if certificate.due { "due" } else { "fine" },
            ));
        }
    }
    Ok(if due { Exit::Pending } else { Exit::Success })
}

fn checked(
    file: &Path,
    days: u32,
    now: OffsetDateTime,
) -> std::result::Result<Checked, CommandError> {
    let failed = |error: &dyn std::fmt::Display| {
        CommandError::new(Exit::Failed, format!("{}: {error}", file.display()))
    };
    let content = fs::read(file).map_err(|error| failed(&error))?;
    // DER begins with a SEQUENCE, which no PEM text does.
    let read = if content.starts_with(&[0x30, 0x82]) {
        ObservedCertificate::from_der(&content)
    } else {
        ObservedCertificate::from_pem(&content)
    };
    let certificate =
        read.map_err(|error| failed(&error).hint("a PEM or DER certificate is expected"))?;
    let left = certificate.not_after - now;
    Ok(Checked {
        file: file.display().to_string(),
        subject: certificate.subject,
        days_left: left.whole_days(),
        due: certificate.not_before > now || left < time::Duration::days(days.into()),
    })
}
