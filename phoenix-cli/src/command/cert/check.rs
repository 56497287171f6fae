//! `phoenix cert check`.

use std::path::Path;
use std::sync::Arc;

use phoenix_core::sync::{CertificateStatus, FORMAT_VERSION, Failure};
use serde::Serialize;
use time::OffsetDateTime;

use super::super::{Result, interrupted, open, until_interrupted, warn};
use super::read;
use crate::arguments::{CertCheck, Global};
use crate::error::CommandError;
use crate::escape;
use crate::exit::Exit;
use crate::printer::Printer;

#[derive(Serialize)]
struct Document<'a> {
    format: u32,
    days: u32,
    certificates: &'a [Checked],
    unreadable: &'a [Unreadable],
}

/// A file, or a certificate of the site.
#[derive(Debug, Serialize)]
struct Checked {
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// The subject of the certificate that ends first; absent for one of the site.
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    /// Which of the certificates in the file that is, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<usize>,
    #[serde(with = "time::serde::rfc3339::option")]
    not_after: Option<OffsetDateTime>,
    days_left: Option<i64>,
    due: bool,
    /// What else is to be said of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Debug, Serialize)]
struct Unreadable {
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    message: String,
}

/// Whether certificates are valid for some days more.
pub(super) fn check(global: &Global, printer: &Arc<Printer>, arguments: &CertCheck) -> Result {
    let now = OffsetDateTime::now_utc();
    let mut certificates = Vec::new();
    let mut unreadable = Vec::new();
    if arguments.files.is_empty() {
        let session = open(global, printer, |_| Ok(()))?;
        warn(&session, printer);
        let (states, failures) =
            until_interrupted(printer, session.certificates(false))?.map_err(interrupted)?;
        certificates.extend(
            states
                .iter()
                .map(|state| of_site(state, arguments.days, now)),
        );
        unreadable.extend(failures.iter().map(|failure: &Failure| Unreadable {
            file: None,
            message: failure.message.clone(),
        }));
    }
    for file in &arguments.files {
        match of_file(file, arguments.days, now) {
            Ok(checked) => certificates.push(checked),
            Err(message) => unreadable.push(Unreadable {
                file: Some(file.display().to_string()),
                message,
            }),
        }
    }
    if printer.json() {
        printer.json_line(&Document {
            format: FORMAT_VERSION,
            days: arguments.days,
            certificates: &certificates,
            unreadable: &unreadable,
        });
    } else if certificates.is_empty() && unreadable.is_empty() {
        printer.out("The site has no certificates.\n");
    } else {
        for checked in &certificates {
            printer.out(&line(checked));
        }
    }
    for one in &unreadable {
        let message = match &one.file {
            Some(file) => format!("{file}: {}", one.message),
            None => one.message.clone(),
        };
        let error = CommandError::new(Exit::Failed, message);
        printer.err(&error.text(printer.err_layout()));
    }
    Ok(if !unreadable.is_empty() {
        Exit::Failed
    } else if certificates.iter().any(|checked| checked.due) {
        Exit::Pending
    } else {
        Exit::Success
    })
}

fn is_due(not_after: OffsetDateTime, days: u32, now: OffsetDateTime) -> bool {
    not_after - now < time::Duration::days(days.into())
}

/// A file counts as its certificate that ends first.
fn of_file(path: &Path, days: u32, now: OffsetDateTime) -> std::result::Result<Checked, String> {
    let file = read(path)?;
    let (index, first) = file.first_to_end();
    let certificates = file.certificates();
    let early = certificates
        .iter()
        .find(|certificate| certificate.observed.not_before > now);
    let end = first.observed.not_after;
    let reason = match early {
        Some(early) => Some(format!("{} is not valid yet", early.observed.subject)),
        None if now > end => Some("expired".to_owned()),
        None => None,
    };
    Ok(Checked {
        file: Some(path.display().to_string()),
        name: None,
        subject: Some(first.observed.subject.clone()),
        number: (certificates.len() > 1).then_some(index + 1),
        not_after: Some(end),
        days_left: Some((end - now).whole_days()),
        due: early.is_some() || is_due(end, days, now),
        reason,
    })
}

fn of_site(state: &CertificateStatus, days: u32, now: OffsetDateTime) -> Checked {
    Checked {
        file: None,
        name: Some(state.name.clone()),
        subject: None,
        number: None,
        not_after: state.not_after,
        days_left: state.days_left,
        due: state.not_after.is_none_or(|end| is_due(end, days, now)),
        reason: (!state.healthy).then(|| state.state.clone()),
    }
}

fn line(checked: &Checked) -> String {
    let place = checked.file.as_ref().or(checked.name.as_ref());
    let mut text = place.map_or_else(String::new, |place| escape::line(place).into_owned());
    text.push_str(": ");
    if let Some(subject) = &checked.subject {
        text.push_str(&escape::line(subject));
        if let Some(number) = checked.number.filter(|number| *number > 1) {
            text.push_str(&format!(" (number {number} in it)"));
        }
        text.push_str(", ");
    }
    match checked.days_left {
        Some(1) => text.push_str("1 day left"),
        Some(days) => text.push_str(&format!("{days} days left")),
        None => text.push_str("never issued"),
    }
    text.push_str(if checked.due { ": due" } else { ": fine" });
    if let Some(reason) = &checked.reason {
        text.push_str(&format!(" ({})", escape::line(reason)));
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_certificate_of_the_site_that_was_never_issued_is_due() {
        let now = datetime!(2030-01-01 00:00 UTC);
        let mut state = CertificateStatus::default();
        state.name = "web\u{1b}[2J".into();
        state.state = "issue it: missing".into();
        let checked = of_site(&state, 10, now);
        assert_eq!(
            line(&checked),
            "web\\u{1b}[2J: never issued: due (issue it: missing)\n"
        );
        state.healthy = true;
        for (end, due) in [
            (datetime!(2030-01-11 00:00 UTC), false),
            (datetime!(2030-01-10 23:59:59 UTC), true),
        ] {
            state.not_after = Some(end);
            assert_eq!(of_site(&state, 10, now).due, due, "{end}");
        }
    }
}
