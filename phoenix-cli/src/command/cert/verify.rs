//! `phoenix cert verify`.

use phoenix_core::pki::{CertificateFile, HeldKey, Profile, Purpose, VerdictError};
use phoenix_core::sync::FORMAT_VERSION;
use serde::Serialize;
use time::OffsetDateTime;

use super::super::Result;
use super::{read, trusted};
use crate::arguments::CertVerify;
use crate::exit::Exit;
use crate::printer::Printer;
use crate::render;

#[derive(Serialize)]
struct Document<'a> {
    format: u32,
    file: String,
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
    valid: bool,
    checks: &'a [Checked],
}

/// Something that has to hold of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Checked {
    /// What was checked.
    pub(crate) check: String,
    pub(crate) holds: bool,
    /// How that is known.
    pub(crate) detail: String,
}

impl Checked {
    fn new(check: impl Into<String>, holds: bool, detail: impl Into<String>) -> Self {
        Self {
            check: check.into(),
            holds,
            detail: detail.into(),
        }
    }
}

/// Whether a file holds what is asked for.
pub(super) fn verify(printer: &Printer, arguments: &CertVerify) -> Result {
    let trusted = trusted(arguments.ca.as_deref())?;
    let at = arguments.at.unwrap_or_else(OffsetDateTime::now_utc);
    let checks = match read(&arguments.file) {
        Ok(file) => checks(&file, trusted.as_ref(), arguments, at),
        Err(problem) => vec![Checked::new("readable", false, problem)],
    };
    let valid = checks.iter().all(|check| check.holds);
    let file = arguments.file.display().to_string();
    if printer.json() {
        printer.json_line(&Document {
            format: FORMAT_VERSION,
            file,
            at,
            valid,
            checks: &checks,
        });
    } else {
        printer.out(&render::checks(printer.layout(), &file, &checks));
    }
    Ok(if valid { Exit::Success } else { Exit::Failed })
}

fn checks(
    file: &CertificateFile,
    trusted: Option<&CertificateFile>,
    arguments: &CertVerify,
    at: OffsetDateTime,
) -> Vec<Checked> {
    let leaf = &file.leaf().observed;
    let mut checks = vec![Checked::new("readable", true, leaf.subject.as_str())];
    if let Some((holds, detail)) = key(file.key()) {
        checks.push(Checked::new("key", holds, detail));
    }
    let order = match file.out_of_order() {
        None if file.certificates().len() == 1 => "one certificate".to_owned(),
        None => format!("{} certificates, in order", file.certificates().len()),
        Some(index) => format!(
            "number {} ({}) did not issue number {index}",
            index + 1,
            file.certificates()[index].observed.subject
        ),
    };
    checks.push(Checked::new("order", file.out_of_order().is_none(), order));

    let (roots, by) = match trusted {
        Some(trusted) => (
            trusted
                .certificates()
                .iter()
                .map(|root| root.der().clone())
                .collect(),
            "a root of --ca",
        ),
        None => (file.roots(), "the root in the file itself"),
    };
    // One that says nothing about its purpose is good for any.
    let profile = arguments.profile.or(leaf.profile).unwrap_or(Profile::Peer);
    for purpose in Purpose::of(profile) {
        let checked = match file.verdict(purpose, &roots, at) {
            Ok(()) => Checked::new(
                purpose.to_string(),
                true,
                format!("good as a TLS {purpose}, below {by}"),
            ),
            Err(error @ VerdictError::NoRoot) => Checked::new(
                purpose.to_string(),
                false,
                format!("{error}: name one with --ca"),
            ),
            Err(error) => Checked::new(purpose.to_string(), false, error.to_string()),
        };
        checks.push(checked);
    }
    for name in &arguments.names {
        let holds = file.covers(name);
        let detail = if holds {
            "the certificate is valid for it".to_owned()
        } else {
            let names: Vec<&str> = file
                .leaf()
                .names
                .iter()
                .map(|name| name.value.as_str())
                .collect();
            match &names[..] {
                [] => "the certificate has no names".to_owned(),
                names => format!("the certificate is valid for {} only", names.join(", ")),
            }
        };
        checks.push(Checked::new(format!("name {name}"), holds, detail));
    }
    checks
}

/// Whether the key is as it should be; `None` when there is none to speak of.
fn key(key: HeldKey) -> Option<(bool, &'static str)> {
    match key {
        HeldKey::None => None,
        HeldKey::Matches => Some((true, "the private key is that of the certificate")),
        HeldKey::Mismatch => Some((false, "the private key is that of another certificate")),
        HeldKey::Encrypted => Some((
            true,
            "the private key is encrypted: whose it is cannot be told",
        )),
        HeldKey::Several => Some((false, "there is more than one private key")),
        _ => Some((
            false,
            "the private key is broken, or of a kind that cannot be used",
        )),
    }
}
