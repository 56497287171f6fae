//! `phoenix ca show` and `phoenix ca export`, and how a CA is shown after it has changed.

use std::time::Duration;

use phoenix_core::pki::{EmbeddedCa, InventoryEntry, KeyType, ObservedCertificate};
use phoenix_core::sync::FORMAT_VERSION;
use serde::Serialize;
use time::OffsetDateTime;

use super::super::Result;
use super::super::cert::hexadecimal;
use super::{Place, refused};
use crate::arguments::{CaExport, CaShow, Global};
use crate::error::CommandError;
use crate::exit::Exit;
use crate::printer::Printer;
use crate::render;

/// How long leaves are taken to live when there is none yet.
const USUAL_LEAF: Duration = Duration::from_secs(90 * 86_400);

/// A CA.
#[derive(Debug, Serialize)]
pub(crate) struct Overview {
    pub(crate) format: u32,
    pub(crate) directory: String,
    pub(crate) root: CaCertificate,
    /// Oldest first; the last one signs.
    pub(crate) intermediates: Vec<CaCertificate>,
    pub(crate) issued: Counts,
    pub(crate) warnings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) inventory: Option<Vec<InventoryEntry>>,
}

/// How many certificates were issued, and what became of them. One that was revoked and has
/// expired since counts as revoked.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Counts {
    pub(crate) total: usize,
    pub(crate) valid: usize,
    pub(crate) expired: usize,
    pub(crate) revoked: usize,
}

/// A certificate of a CA.
#[derive(Debug, Serialize)]
pub(crate) struct CaCertificate {
    /// The number of an intermediate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) number: Option<u32>,
    /// Whether an intermediate is the one that signs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<bool>,
    pub(crate) subject: String,
    pub(crate) serial: String,
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) not_before: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) not_after: OffsetDateTime,
    pub(crate) days_left: i64,
    pub(crate) key_type: Option<KeyType>,
    /// How its key is kept; not looked at for earlier intermediates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<AuthorityKey>,
    pub(crate) fingerprint_sha256: String,
    pub(crate) subject_key_id: Option<String>,
}

/// How a key is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AuthorityKey {
    /// Encrypted with a passphrase.
    Encrypted,
    /// In the clear.
    InTheClear,
    /// It is not in the CA's directory.
    Elsewhere,
}

impl CaCertificate {
    fn new(observed: &ObservedCertificate, key: Option<AuthorityKey>, now: OffsetDateTime) -> Self {
        Self {
            number: None,
            current: None,
            subject: observed.subject.clone(),
            serial: observed.serial.clone(),
            not_before: observed.not_before,
            not_after: observed.not_after,
            days_left: (observed.not_after - now).whole_days(),
            key_type: observed.key_type,
            key,
            fingerprint_sha256: observed.fingerprint_hex(),
            subject_key_id: observed.subject_key_id.as_deref().map(hexadecimal),
        }
    }
}

impl Counts {
    fn of(entries: &[InventoryEntry], now: OffsetDateTime) -> Self {
        let mut counts = Self {
            total: entries.len(),
            ..Self::default()
        };
        for entry in entries {
            if entry.revoked.is_some() {
                counts.revoked += 1;
            } else if entry.issued.not_after < now {
                counts.expired += 1;
            } else {
                counts.valid += 1;
            }
        }
        counts
    }
}

impl Overview {
    /// Of `ca`, with all that it has issued when `listed`.
    pub(super) fn new(
        ca: &EmbeddedCa,
        listed: bool,
        now: OffsetDateTime,
    ) -> std::result::Result<Self, CommandError> {
        // A certificate knows whole seconds alone.
        let now = now.replace_nanosecond(0).unwrap_or(now);
        let entries = ca.inventory().map_err(|error| refused(&error))?;
        let longest = entries
            .iter()
            .filter(|entry| entry.issued.not_after >= now)
            .filter_map(|entry| {
                Duration::try_from(entry.issued.not_after - entry.issued.not_before).ok()
            })
            .max()
            .unwrap_or(USUAL_LEAF);
        let key = |in_the_clear| match in_the_clear {
            true => AuthorityKey::InTheClear,
            false => AuthorityKey::Encrypted,
        };
        let root_key = if ca.has_root_key() {
            key(ca.is_root_key_in_the_clear())
        } else {
            AuthorityKey::Elsewhere
        };
        let signing = ca.intermediate().fingerprint;
        let intermediates = ca.intermediates().map(|intermediate| {
            let observed = intermediate.certificate();
            let current = observed.fingerprint == signing;
            let kept = current.then(|| key(ca.is_signing_key_in_the_clear()));
            CaCertificate {
                number: Some(intermediate.number()),
                current: Some(current),
                ..CaCertificate::new(observed, kept, now)
            }
        });
        Ok(Self {
            format: FORMAT_VERSION,
            directory: ca.directory().display().to_string(),
            root: CaCertificate::new(ca.root(), Some(root_key), now),
            intermediates: intermediates.collect(),
            issued: Counts::of(&entries, now),
            warnings: ca.warnings(now, longest),
            inventory: listed.then_some(entries),
        })
    }

    /// Prints it, below what was done.
    pub(super) fn print(&self, printer: &Printer, done: &str) {
        if printer.json() {
            printer.json_line(self);
            return;
        }
        printer.out(done);
        printer.out(&render::ca(
            printer.layout(),
            self,
            OffsetDateTime::now_utc(),
        ));
        for warning in &self.warnings {
            printer.err(&render::warning(printer.err_layout(), warning));
        }
    }
}

/// Shows a CA. Needs no passphrase: no key is used.
pub(super) fn show(global: &Global, printer: &Printer, arguments: &CaShow) -> Result {
    let ca = Place::new(global, &arguments.place)?.open(None)?;
    Overview::new(&ca, arguments.inventory, OffsetDateTime::now_utc())?.print(printer, "");
    Ok(Exit::Success)
}

#[derive(Serialize)]
struct Exported<'a> {
    format: u32,
    root_fingerprint_sha256: String,
    pem: &'a str,
}

/// Prints the root, which others trust.
pub(super) fn export(global: &Global, printer: &Printer, arguments: &CaExport) -> Result {
    let ca = Place::new(global, &arguments.place)?.open(None)?;
    let mut pem = String::new();
    if arguments.chain {
        pem.push_str(&ca.intermediate_pem());
    }
    pem.push_str(ca.root_pem());
    if printer.json() {
        printer.json_line(&Exported {
            format: FORMAT_VERSION,
            root_fingerprint_sha256: ca.root().fingerprint_hex(),
            pem: &pem,
        });
    } else {
        printer.out(&pem);
    }
    Ok(Exit::Success)
}
