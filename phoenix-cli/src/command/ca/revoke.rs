//! `phoenix ca revoke` and `phoenix ca crl`.

use std::path::Path;
use std::time::Duration;

use phoenix_core::ground::write_atomic;
use phoenix_core::pki::{Crl, EmbeddedCa, InventoryEntry, Serial};
use phoenix_core::sync::FORMAT_VERSION;
use serde::Serialize;
use time::OffsetDateTime;

use super::super::Result;
use super::super::cert::{hexadecimal, read};
use super::{Place, refused};
use crate::arguments::{CaCrl, CaRevoke, Global};
use crate::error::CommandError;
use crate::escape;
use crate::exit::Exit;
use crate::printer::Printer;
use crate::render;

#[derive(Serialize)]
struct Revoked<'a> {
    format: u32,
    certificate: &'a InventoryEntry,
}

/// Revokes a certificate. Needs no passphrase: only a list of it is signed.
pub(super) fn revoke(global: &Global, printer: &Printer, arguments: &CaRevoke) -> Result {
    let ca = Place::new(global, &arguments.place)?.open(None)?;
    let serial = serial(&ca, &arguments.what)?;
    let entry = ca
        .revoke(&serial, arguments.reason, OffsetDateTime::now_utc())
        .map_err(|error| refused(&error))?;
    if printer.json() {
        printer.json_line(&Revoked {
            format: FORMAT_VERSION,
            certificate: &entry,
        });
    } else {
        printer.out(&format!(
            "Revoked {serial} ({}): {}.\nOthers learn of it from `phoenix ca crl`.\n",
            escape::line(&entry.issued.common_name),
            arguments.reason
        ));
    }
    Ok(Exit::Success)
}

/// The serial number that `what` is, or that of the first certificate in the file of this name.
fn serial(ca: &EmbeddedCa, what: &str) -> std::result::Result<Serial, CommandError> {
    let path = Path::new(what);
    if !path.exists() {
        return what.parse().map_err(|error| {
            CommandError::from_error(Exit::Usage, &error)
                .hint("there is no file of this name either; `phoenix ca show --inventory` lists the serial numbers")
        });
    }
    let failed =
        |problem: String| CommandError::new(Exit::Failed, format!("{}: {problem}", path.display()));
    let file = read(path).map_err(failed)?;
    let leaf = &file.leaf().observed;
    let serial: Serial = leaf
        .serial
        .parse()
        .map_err(|error: phoenix_core::pki::SerialError| failed(error.to_string()))?;
    // A serial number is unique below one CA only.
    let entries = ca.inventory().map_err(|error| refused(&error))?;
    let fingerprint = leaf.fingerprint_hex();
    match entries
        .iter()
        .any(|entry| entry.issued.fingerprint == fingerprint)
    {
        true => Ok(serial),
        false => Err(failed(format!(
            "this CA's inventory does not have its first certificate ({})",
            leaf.subject
        ))),
    }
}

#[derive(Serialize)]
struct Lists<'a> {
    format: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    out: Option<&'a Path>,
    lists: Vec<List<'a>>,
}

#[derive(Serialize)]
struct List<'a> {
    issuer: &'a str,
    issuer_key_id: &'a str,
    number: u64,
    #[serde(with = "time::serde::rfc3339")]
    this_update: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    next_update: OffsetDateTime,
    revoked: usize,
    pem: String,
}

/// Prints or writes what was revoked.
pub(super) fn crl(global: &Global, printer: &Printer, arguments: &CaCrl) -> Result {
    let place = Place::new(global, &arguments.place)?;
    let passphrase = place.passphrase(printer, &arguments.passphrase)?;
    let ca = place.open(passphrase.as_ref())?;
    let wanted = arguments
        .intermediate
        .map(|number| key_id(&ca, number))
        .transpose()?;
    let valid_for = Duration::from_secs(u64::from(arguments.days) * 86_400);
    let mut crls = ca
        .crls(OffsetDateTime::now_utc(), valid_for)
        .map_err(|error| refused(&error))?;
    if let Some(wanted) = wanted {
        crls.retain(|crl| crl.issuer_key_id == wanted);
    }
    if crls.is_empty() {
        let message = "there is no list: no intermediate that is still valid has issued anything";
        return Err(CommandError::new(Exit::Failed, message));
    }
    if arguments.der && crls.len() > 1 {
        let message = format!("there are {} lists, and DER holds one", crls.len());
        return Err(CommandError::new(Exit::Usage, message)
            .hint("choose one with --intermediate NUMBER, or leave --der out"));
    }
    let content = match crls.first() {
        Some(crl) if arguments.der => crl.der.clone(),
        _ => crls.iter().map(Crl::pem).collect::<String>().into_bytes(),
    };
    if let Some(out) = &arguments.out {
        write_atomic(out, &content, 0o644).map_err(|error| {
            CommandError::new(
                Exit::Failed,
                format!("cannot write {}: {error}", out.display()),
            )
        })?;
    }
    match &arguments.out {
        out if printer.json() => printer.json_line(&Lists {
            format: FORMAT_VERSION,
            out: out.as_deref(),
            lists: crls.iter().map(List::new).collect(),
        }),
        None => printer.out_bytes(&content),
        Some(out) => printer.out(&summary(out, &crls)),
    }
    Ok(Exit::Success)
}

/// The identifier of the key of the intermediate with this number.
fn key_id(ca: &EmbeddedCa, number: u32) -> std::result::Result<String, CommandError> {
    ca.intermediates()
        .find(|intermediate| intermediate.number() == number)
        .and_then(|intermediate| intermediate.certificate().subject_key_id.as_deref())
        .map(hexadecimal)
        .ok_or_else(|| {
            CommandError::new(Exit::Usage, format!("there is no intermediate {number}"))
                .hint("`phoenix ca show` lists them")
        })
}

impl<'a> List<'a> {
    fn new(crl: &'a Crl) -> Self {
        Self {
            issuer: &crl.issuer,
            issuer_key_id: &crl.issuer_key_id,
            number: crl.number,
            this_update: crl.this_update,
            next_update: crl.next_update,
            revoked: crl.revoked,
            pem: crl.pem(),
        }
    }
}

fn summary(out: &Path, crls: &[Crl]) -> String {
    let mut text = format!(
        "{}: {}\n",
        escape::line(&out.display().to_string()),
        render::number(crls.len(), "revocation list")
    );
    for crl in crls {
        text.push_str(&format!(
            "  {}: number {}, {} revoked, next on {}\n",
            escape::line(&crl.issuer),
            crl.number,
            crl.revoked,
            crl.next_update.date()
        ));
    }
    text
}
