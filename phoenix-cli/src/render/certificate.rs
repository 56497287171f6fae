//! Certificates as text.

use phoenix_core::pki::HeldKey;
use phoenix_core::sync::{CertificateStatus, Failure};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::table::{Cell, table, wrap};
use super::{Layout, failure, number};
use crate::command::{Checked, Described, Description};
use crate::escape;

/// The width of what stands before the values of a certificate.
const LABEL: usize = 18;

/// Fewer days than this are worth a second look.
const FEW_DAYS: i64 = 14;

/// Certificates, whether they are in order, and what the first is good for; `own` when only what
/// came with it was trusted.
pub(crate) fn certificates(layout: &Layout, description: &Description, own: bool) -> String {
    let count = description.certificates.len();
    let mut text = format!(
        "{}: {}{}\n",
        escape::line(&description.source),
        number(count, "certificate"),
        key(description.key)
    );
    for (index, certificate) in description.certificates.iter().enumerate() {
        text.push('\n');
        if count > 1 {
            text.push_str(&format!("{}. ", index + 1));
        }
        text.push_str(&described(layout, certificate));
    }
    text.push('\n');
    if count > 1 {
        let (style, order) = match description.out_of_order {
            None => (Layout::GOOD, "each was issued by the next".to_owned()),
            Some(number) => (
                Layout::BAD,
                format!("number {number} did not issue number {}", number - 1),
            ),
        };
        line(layout, &mut text, "order", &layout.paint(style, &order));
    }
    if let Some(name) = &description.name {
        let shown = escape::line(&name.name);
        let (style, holds) = if name.holds {
            (Layout::GOOD, format!("valid for {shown}"))
        } else {
            (Layout::BAD, format!("not valid for {shown}"))
        };
        line(layout, &mut text, "name", &layout.paint(style, &holds));
    }
    for verdict in &description.verdicts {
        let (style, holds) = match &verdict.reason {
            None if own => (
                Layout::GOOD,
                "good, if the root that comes with it is trusted".to_owned(),
            ),
            None => (Layout::GOOD, "good".to_owned()),
            Some(reason) => (Layout::WARN, format!("no: {}", escape::line(reason))),
        };
        let label = format!("as a TLS {}", verdict.purpose);
        line(layout, &mut text, &label, &layout.paint(style, &holds));
    }
    text
}

/// One certificate: its subject, and what it says.
pub(crate) fn described(layout: &Layout, certificate: &Described) -> String {
    let subject = match certificate.subject.as_str() {
        "" => "(no subject)".into(),
        subject => escape::line(subject),
    };
    let mut text = format!("{}\n", layout.paint(Layout::BOLD, &subject));
    let mut say = |label: &str, value: &str| line(layout, &mut text, label, value);
    say("issuer", &escape::line(&certificate.issuer));
    let left = days_left(layout, certificate.days_left);
    say(
        "valid",
        &format!(
            "{} to {} ({left})",
            instant(certificate.not_before),
            instant(certificate.not_after)
        ),
    );
    let mut kinds: Vec<&str> = Vec::new();
    for name in &certificate.names {
        if !kinds.contains(&name.kind) {
            kinds.push(name.kind);
        }
    }
    for kind in kinds {
        let names: Vec<_> = certificate
            .names
            .iter()
            .filter(|name| name.kind == kind)
            .map(|name| escape::line(&name.value))
            .collect();
        say(&format!("names ({kind})"), &names.join(", "));
    }
    if certificate.names.is_empty() && certificate.ca != Some(true) {
        say("names", "none: clients ignore the common name");
    }
    say(
        "key",
        &format!(
            "{}, signed with {}",
            escape::line(&certificate.key),
            escape::line(&certificate.signature_algorithm)
        ),
    );
    if let Some(usages) = &certificate.key_usages {
        say("key usage", &usages.join(", "));
    }
    if let Some(usages) = &certificate.extended_key_usages {
        say("extended usage", &usages.join(", "));
    }
    match (certificate.ca, certificate.path_len) {
        (Some(true), Some(0)) => say("CA", "yes, for leaves alone"),
        (Some(true), Some(more)) => say("CA", &format!("yes, with at most {more} CAs below it")),
        (Some(true), None) => say("CA", "yes"),
        (Some(false), _) => say("CA", "no"),
        (None, _) => {}
    }
    if certificate.version != 3 {
        say("version", &certificate.version.to_string());
    }
    say("serial", &certificate.serial);
    say("SHA-256", &certificate.fingerprint_sha256);
    if let Some(id) = &certificate.subject_key_id {
        say("key id", id);
    }
    if let Some(id) = &certificate.authority_key_id {
        say("issuer's key id", id);
    }
    text
}

fn key(key: HeldKey) -> &'static str {
    match key {
        HeldKey::None => "",
        HeldKey::Matches => ", and the private key of the first",
        HeldKey::Mismatch => ", and a private key that is not that of the first",
        HeldKey::Encrypted => ", and an encrypted private key",
        HeldKey::Several => ", and more than one private key",
        _ => ", and a private key that cannot be used",
    }
}

pub(super) fn line(layout: &Layout, text: &mut String, label: &str, value: &str) {
    // What is painted has columns that do not show; it is short, and is left as it is.
    let room = layout
        .width
        .filter(|_| !value.contains('\u{1b}'))
        .map(|width| width.saturating_sub(LABEL + 4).max(24));
    let label = format!("{label}:");
    for (index, part) in wrap(value, room).iter().enumerate() {
        let label = if index == 0 { label.as_str() } else { "" };
        text.push_str("    ");
        text.push_str(&layout.paint(Layout::DIM, &format!("{label:<LABEL$}")));
        text.push_str(part);
        text.push('\n');
    }
}

/// How many days a certificate is valid for still.
pub(super) fn days_left(layout: &Layout, days: i64) -> String {
    match days {
        days if days < 0 => layout.paint(Layout::BAD, "expired").into_owned(),
        1 => layout.paint(Layout::WARN, "1 day left").into_owned(),
        days if days < FEW_DAYS => layout
            .paint(Layout::WARN, &format!("{days} days left"))
            .into_owned(),
        days => format!("{days} days left"),
    }
}

pub(super) fn instant(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_else(|_| at.to_string())
}

/// What was checked of `file`, and what came of it.
pub(crate) fn checks(layout: &Layout, file: &str, checks: &[Checked]) -> String {
    let failed = checks.iter().filter(|check| !check.holds).count();
    let end = if failed == 0 {
        layout.paint(Layout::GOOD, "valid").into_owned()
    } else {
        let text = format!("not valid: {} failed", number(failed, "check"));
        layout.paint(Layout::BAD, &text).into_owned()
    };
    let rows: Vec<[Cell; 3]> = checks
        .iter()
        .map(|check| {
            let (style, verdict) = if check.holds {
                (Layout::GOOD, "holds")
            } else {
                (Layout::BAD, "fails")
            };
            [
                Cell::new(&check.check),
                Cell::new(verdict).styled(style),
                Cell::new(&check.detail),
            ]
        })
        .collect();
    format!(
        "{}: {end}\n{}",
        escape::line(file),
        table(layout, ["CHECK", "VERDICT", "BECAUSE"], &rows)
    )
}

/// The certificates of a site, and what could not be looked at.
pub(crate) fn certificate_list(
    layout: &Layout,
    certificates: &[CertificateStatus],
    failures: &[Failure],
) -> String {
    let rows: Vec<[Cell; 7]> = certificates.iter().map(row).collect();
    let header = [
        "NAME",
        "PROFILE",
        "ISSUER",
        "DAYS LEFT",
        "DUE",
        "STATE",
        "NAMES, DELIVERED TO",
    ];
    let mut text = if rows.is_empty() && failures.is_empty() {
        "The site has no certificates.\n".to_owned()
    } else {
        table(layout, header, &rows)
    };
    if !failures.is_empty() {
        if !rows.is_empty() {
            text.push('\n');
        }
        text.push_str("Could not be looked at\n");
        for one in failures {
            let title = one.guest.as_deref().unwrap_or("site");
            text.push_str(&failure(layout, title, one));
        }
    }
    text
}

fn row(certificate: &CertificateStatus) -> [Cell; 7] {
    let days = match certificate.days_left {
        Some(days) if days < 0 => Cell::new(format!("{days} (expired)")).styled(Layout::BAD),
        Some(days) if days < FEW_DAYS => Cell::new(days.to_string()).styled(Layout::WARN),
        Some(days) => Cell::new(days.to_string()),
        None => Cell::new("-"),
    };
    let due = certificate
        .due
        .map_or_else(|| "now".to_owned(), |due| due.date().to_string());
    let state = if certificate.healthy {
        Layout::GOOD
    } else {
        Layout::BAD
    };
    let mut places = certificate.sans.join(", ");
    if !certificate.delivered_to.is_empty() {
        places.push_str(" -> ");
        places.push_str(&certificate.delivered_to.join(", "));
    }
    [
        Cell::new(&certificate.name),
        Cell::new(&certificate.profile),
        Cell::new(&certificate.issuer),
        days,
        Cell::new(due),
        Cell::new(&certificate.state).styled(state),
        Cell::new(places),
    ]
}

#[cfg(test)]
mod tests {
    use phoenix_core::sync::FailureClass;
    use time::macros::datetime;

    use super::*;
    use crate::command::{NameCheck, Verdict};

    fn leaf() -> Described {
        Described {
            subject: "CN=web\u{1b}[2J".into(),
            issuer: "CN=Test".into(),
            serial: "0a".into(),
            not_before: datetime!(2030-01-01 00:00 UTC),
            not_after: datetime!(2030-02-01 00:00 UTC),
            days_left: 31,
            names: Vec::new(),
            profile: None,
            key: "ecdsa-p256".into(),
            signature_algorithm: "ecdsa-with-SHA256".into(),
            key_usages: Some(vec!["digitalSignature"]),
            extended_key_usages: Some(vec!["serverAuth".into()]),
            ca: Some(false),
            path_len: None,
            version: 3,
            fingerprint_sha256: "00ff".into(),
            subject_key_id: None,
            authority_key_id: None,
        }
    }

    #[test]
    fn what_a_server_presents_is_readable_and_harmless() {
        let description = Description {
            format: 1,
            source: "web.lan:443".into(),
            certificates: vec![leaf()],
            key: HeldKey::None,
            out_of_order: None,
            verdicts: vec![Verdict {
                purpose: phoenix_core::pki::Purpose::Server,
                holds: false,
                reason: Some("there is no root".into()),
            }],
            name: Some(NameCheck {
                name: "web.lan".into(),
                holds: false,
            }),
        };
        assert_eq!(
            certificates(&Layout::default(), &description, true),
            "web.lan:443: 1 certificate

CN=web\\u{1b}[2J
    issuer:           CN=Test
    valid:            2030-01-01T00:00:00Z to 2030-02-01T00:00:00Z (31 days left)
    names:            none: clients ignore the common name
    key:              ecdsa-p256, signed with ecdsa-with-SHA256
    key usage:        digitalSignature
    extended usage:   serverAuth
    CA:               no
    serial:           0a
    SHA-256:          00ff

    name:             not valid for web.lan
    as a TLS server:  no: there is no root
"
        );
    }

    #[test]
    fn the_list_has_everything_of_a_certificate_and_what_failed() {
        let mut certificate = CertificateStatus::default();
        certificate.name = "web".into();
        certificate.profile = "server".into();
        certificate.issuer = "ca".into();
        certificate.sans = vec!["web.lan".into()];
        certificate.days_left = Some(3);
        certificate.due = Some(datetime!(2030-01-02 03:04 UTC));
        certificate.delivered_to = vec!["portainer".into()];
        certificate.state = "valid".into();
        certificate.healthy = true;
        let failed = Failure::message(FailureClass::Unreachable, "no answer").in_guest("web2");
        assert_eq!(
            certificate_list(&Layout::default(), &[certificate], &[failed]),
            "  NAME  PROFILE  ISSUER  DAYS LEFT  DUE         STATE  NAMES, DELIVERED TO
  web   server   ca      3          2030-01-02  valid  web.lan -> portainer

Could not be looked at
  web2
    no answer
    guest:   web2
"
        );
        assert_eq!(
            certificate_list(&Layout::default(), &[], &[]),
            "The site has no certificates.\n"
        );
    }
}
