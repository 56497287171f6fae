//! A CA as text.

use phoenix_core::pki::{InventoryEntry, Revocation};
use time::OffsetDateTime;

use super::certificate::{days_left, instant, line};
use super::table::{Cell, table};
use super::{Layout, number};
use crate::command::{AuthorityKey, CaCertificate, Overview};
use crate::escape;

/// The root, the intermediates, how much was issued, and all of that when it is listed.
pub(crate) fn ca(layout: &Layout, overview: &Overview, now: OffsetDateTime) -> String {
    let mut text = String::new();
    certificate(layout, &mut text, "root", &overview.root);
    for intermediate in &overview.intermediates {
        let current = match intermediate.current {
            Some(true) => ", which signs",
            _ => "",
        };
        let role = match intermediate.number {
            Some(number) => format!("intermediate {number}{current}"),
            None => format!("intermediate{current}"),
        };
        certificate(layout, &mut text, &role, intermediate);
    }
    let counts = &overview.issued;
    text.push_str(&format!(
        "\n{} issued: {} valid, {} expired, {} revoked\n",
        number(counts.total, "certificate"),
        counts.valid,
        counts.expired,
        counts.revoked
    ));
    if let Some(entries) = overview.inventory.as_ref().filter(|all| !all.is_empty()) {
        let rows: Vec<_> = entries.iter().map(|entry| row(entry, now)).collect();
        text.push('\n');
        text.push_str(&table(
            layout,
            ["SERIAL", "PROFILE", "ENDS", "STATE", "NAMES", "WHERE"],
            &rows,
        ));
    }
    text
}

fn certificate(layout: &Layout, text: &mut String, role: &str, certificate: &CaCertificate) {
    let subject = escape::line(&certificate.subject);
    text.push_str(&format!(
        "{} ({role})\n",
        layout.paint(Layout::BOLD, &subject)
    ));
    let mut say = |label: &str, value: &str| line(layout, text, label, value);
    say(
        "valid",
        &format!(
            "{} to {} ({})",
            instant(certificate.not_before),
            instant(certificate.not_after),
            days_left(layout, certificate.days_left)
        ),
    );
    let kind = certificate
        .key_type
        .map_or("of another kind", |kind| kind.as_str());
    let kept = match certificate.key {
        Some(AuthorityKey::Encrypted) => ", encrypted",
        Some(AuthorityKey::InTheClear) => ", not encrypted",
        Some(AuthorityKey::Elsewhere) => ", kept elsewhere",
        None => "",
    };
    say("key", &format!("{kind}{kept}"));
    say("serial", &certificate.serial);
    say("SHA-256", &certificate.fingerprint_sha256);
    if let Some(id) = &certificate.subject_key_id {
        say("key id", id);
    }
}

fn row(entry: &InventoryEntry, now: OffsetDateTime) -> [Cell; 6] {
    let issued = &entry.issued;
    let state = match entry.revoked {
        Some(Revocation { reason, at, .. }) => {
            Cell::new(format!("revoked {} ({reason})", at.date())).styled(Layout::BAD)
        }
        None if issued.not_after < now => Cell::new("expired").styled(Layout::WARN),
        None => Cell::new("valid").styled(Layout::GOOD),
    };
    let mut names: Vec<String> = issued.sans.iter().map(ToString::to_string).collect();
    if !issued.common_name.is_empty() && !names.contains(&issued.common_name) {
        names.insert(0, format!("CN={}", issued.common_name));
    }
    let places: Vec<&str> = entry
        .delivered
        .iter()
        .map(|placement| placement.place.as_str())
        .collect();
    [
        Cell::new(issued.serial.as_str()),
        Cell::new(issued.profile.as_str()),
        Cell::new(issued.not_after.date().to_string()),
        state,
        Cell::new(names.join(", ")),
        Cell::new(if places.is_empty() {
            "-".to_owned()
        } else {
            places.join(", ")
        }),
    ]
}
