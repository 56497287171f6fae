//! The section `certificates`: what is issued, and where it goes.

use std::collections::BTreeMap;
use std::time::Duration;

use indexmap::IndexMap;

use super::authorities::Authorities;
use super::model::{
    AcmeAuthority, AcmeChallenge, CertificateAuthority, CertificateDeclaration, CertificatePart,
    DeliveredFile, Delivery, Guest, Reach, SecretDeclaration, SecretSource, ServedCheck, Viewpoint,
};
use super::read::{Context, PlacedSecret, known, maybe, or, place, section};
use super::{format, names, values};
use crate::ground::document::{Cursor, Fields};
use crate::pki::{KeyType, RenewalRule, SubjectAltName};

/// The most characters of a common name (X.520).
const LONGEST_COMMON_NAME: usize = 64;
/// Of the CA's: the intermediate's is derived from it.
pub(super) const LONGEST_CA_NAME: usize = 51;
const LIFETIME: Duration = values::days(90);
/// How long a reloaded server may take to present its new certificate.
const CHECK_TIMEOUT: Duration = Duration::from_secs(30);

/// The certificates that are right, and the secrets that any of them delivers to.
pub(super) fn read<'d>(
    root: &Fields<'d>,
    context: &Context<'d>,
    guests: &IndexMap<String, Guest>,
    authorities: &Authorities<'d>,
) -> (
    IndexMap<String, CertificateDeclaration>,
    Vec<PlacedSecret<'d>>,
) {
    let mut delivered = Vec::new();
    let certificates = section(root, "certificates", &names::PLAIN_NAME)
        .into_iter()
        .filter_map(|(name, _, cursor)| {
            let read = certificate(&cursor, name, context, guests, authorities, &mut delivered)?;
            Some((name.to_owned(), read))
        })
        .collect();
    (certificates, delivered)
}

fn certificate<'d>(
    cursor: &Cursor<'d>,
    name: &str,
    context: &Context<'d>,
    guests: &IndexMap<String, Guest>,
    authorities: &Authorities<'d>,
    delivered: &mut Vec<PlacedSecret<'d>>,
) -> Option<CertificateDeclaration> {
    let fields = format::CERTIFICATE.open(cursor)?;
    let common_name = fields
        .get("common_name")
        .and_then(|name| self::common_name(&name, LONGEST_COMMON_NAME));
    let profile = fields
        .get("profile")
        .and_then(|profile| profile.word(format::PROFILES));
    let sans = or(&fields, "sans", Vec::new(), values::sans);
    let issuer = maybe(&fields, "issuer", |issuer| {
        known(issuer, "issuer", &authorities.names)
    });
    let authority = match issuer {
        Some(issuer) => authorities.get(issuer),
        None => None,
    };
    let validity = validity(&fields, authority);
    if let (Some(CertificateAuthority::Acme(acme)), Some(sans)) = (authority, &sans) {
        check_acme_names(&fields, sans, acme);
    }
    let key_type = or(&fields, "key", KeyType::default(), |key| {
        key.word(format::KEY_TYPES)
    });
    let deliveries = or(&fields, "deliver", Vec::new(), |list| {
        let items = list.items()?;
        let mut deliveries = Vec::new();
        let mut complete = true;
        for item in &items {
            match delivery(item, name, context, guests, delivered) {
                Some(delivery) => deliveries.extend(delivery),
                None => complete = false,
            }
        }
        complete.then_some(deliveries)
    });
    if let (Some(profile), Some(sans)) = (profile, &sans)
        && profile.is_server()
    {
        check_server_names(&fields, sans, common_name.as_deref());
    }
    let (lifetime, rule) = validity?;
    Some(CertificateDeclaration {
        common_name: common_name?,
        profile: profile?,
        sans: sans?,
        lifetime,
        rule,
        key_type: key_type?,
        issuer: issuer?.map(str::to_owned),
        deliveries: deliveries?,
    })
}

/// What a TLS client looks at are the alternative names alone.
fn check_server_names(fields: &Fields<'_>, sans: &[SubjectAltName], common_name: Option<&str>) {
    if sans.is_empty() {
        let (position, path) = place(fields, "sans");
        fields.at().reader().report(
            position,
            path,
            None,
            "a server's certificate needs at least one name in `sans`: clients ignore the common name",
            None,
        );
        return;
    }
    let covered = common_name.is_none_or(|name| {
        name.parse::<SubjectAltName>()
            .is_ok_and(|name| sans.iter().any(|san| san.covers(&name)))
    });
    if !covered && let Some(at) = fields.get("common_name") {
        at.warn("no name in `sans` covers the common name, which clients ignore");
    }
}

/// A subject's common name.
pub(super) fn common_name(cursor: &Cursor<'_>, longest: usize) -> Option<String> {
    let text = cursor.nonempty()?;
    let wrong = if text.trim() != text {
        Some("a name does not begin or end with white space".to_owned())
    } else if text.chars().any(char::is_control) {
        Some("a name has no control characters".to_owned())
    } else if text.chars().count() > longest {
        Some(format!("the name has more than {longest} characters"))
    } else {
        None
    };
    if let Some(wrong) = wrong {
        cursor.refuse(wrong);
        return None;
    }
    Some(text.to_owned())
}

/// An ACME server proves host names and addresses, and wildcards by dns-01 only.
fn check_acme_names(fields: &Fields<'_>, sans: &[SubjectAltName], acme: &AcmeAuthority) {
    let Some(at) = fields.get("sans") else {
        return;
    };
    let over_dns = matches!(acme.challenge, AcmeChallenge::Dns01 { .. });
    for san in sans {
        match san {
            SubjectAltName::Dns(_) if san.is_wildcard() && !over_dns => at.refuse(format!(
                "an ACME server proves a wildcard such as `{san}` by `dns_01` only"
            )),
            SubjectAltName::Ip(_) if over_dns => at.refuse(format!(
                "an ACME server proves an address such as `{san}` by `http_01` only"
            )),
            SubjectAltName::Dns(_) | SubjectAltName::Ip(_) => {}
            SubjectAltName::Email(_) | SubjectAltName::Uri(_) => at.refuse(format!(
                "an ACME server issues for host names and addresses only, not for `{san}`"
            )),
        }
    }
    if sans.is_empty() {
        at.refuse("an ACME server needs at least one host name or address");
    }
}

/// How long a leaf of `authority` lives and when it is renewed.
pub(super) fn validity(
    fields: &Fields<'_>,
    authority: Option<&CertificateAuthority>,
) -> Option<(Duration, RenewalRule)> {
    let most = match authority {
        Some(CertificateAuthority::Embedded(ca)) => Some((
            ca.intermediate_lifetime,
            "no certificate outlives the CA's intermediate, which lives",
        )),
        Some(CertificateAuthority::StepCa(ca)) => {
            Some((ca.max_lifetime, "the step-ca server grants at most"))
        }
        Some(CertificateAuthority::Acme(_)) => {
            fields.get("lifetime").inspect(|at| {
                at.refuse("an ACME server decides how long its certificates live");
            });
            None
        }
        None => None,
    };
    let lifetime = match fields.get("lifetime") {
        Some(cursor) => {
            let lifetime = values::lifetime(&cursor);
            if let (Some(lifetime), Some((most, why))) = (lifetime, most)
                && lifetime > most
            {
                cursor.refuse(format!("{why} {}", values::show(most)));
            }
            lifetime
        }
        // An issuer that grants less than the default has shorter leaves.
        None => Some(most.map_or(LIFETIME, |(most, _)| LIFETIME.min(most))),
    };
    let rule = match fields.get("renew_before") {
        Some(cursor) => values::lifetime(&cursor)
            .inspect(|renew_before| {
                if let Some(lifetime) = lifetime.filter(|lifetime| renew_before >= lifetime) {
                    cursor.refuse(format!(
                        "must be shorter than the lifetime, which is {}: it would be renewed every time",
                        values::show(lifetime)
                    ));
                }
            })
            .map(RenewalRule::Before),
        None => Some(RenewalRule::TwoThirds),
    };
    Some((lifetime?, rule?))
}

/// `Some(None)` for a delivery to secrets, which go into `delivered`.
fn delivery<'d>(
    cursor: &Cursor<'d>,
    certificate: &str,
    context: &Context<'d>,
    guests: &IndexMap<String, Guest>,
    delivered: &mut Vec<PlacedSecret<'d>>,
) -> Option<Option<Delivery>> {
    let fields = format::DELIVERY.open(cursor)?;
    if let Some(secrets) = fields.get("secrets") {
        for key in ["files", "reload", "rollback", "check"] {
            fields.get(key).inspect(|at| {
                at.refuse(format!("`{key}` belongs to a delivery to a `guest`"));
            });
        }
        to_secrets(&secrets, certificate, delivered)?;
        return Some(None);
    }
    let at = fields.get("guest")?;
    let guest = known(&at, "guest", &context.declared.guests);
    if let Some(known) = guest.and_then(|name| guests.get(name))
        && known.reach != Reach::Agent
    {
        at.refuse("files are delivered through the guest agent: this guest needs a `vmid` and `reach: agent`");
    }
    let reload = maybe(&fields, "reload", values::command);
    let rollback = or(&fields, "rollback", false, |value| value.boolean());
    let check = maybe(&fields, "check", served_check);
    let files = fields.required("files").and_then(|list| {
        let items = list.items()?;
        if items.is_empty() {
            list.refuse("a delivery has at least one file");
            return None;
        }
        let files: Vec<DeliveredFile> = items
            .iter()
            .filter_map(|item| file(item, guest, context))
            .collect();
        (files.len() == items.len()).then_some(files)
    });
    Some(Some(Delivery {
        guest: guest?.to_owned(),
        files: files?,
        reload: reload?,
        rollback: rollback?,
        check: check?,
    }))
}

/// Where a delivered certificate must be seen.
fn served_check(cursor: &Cursor<'_>) -> Option<ServedCheck> {
    let fields = format::CHECK.open(cursor)?;
    let address = fields
        .get("address")
        .and_then(|address| values::tcp_address(&address));
    let server_name = maybe(&fields, "server_name", |name| {
        match name.nonempty()?.parse() {
            Ok(SubjectAltName::Dns(name)) if !name.contains('*') => Some(name),
            _ => {
                name.refuse("a host name is expected here, as a client would ask for it");
                None
            }
        }
    });
    let from = or(&fields, "from", Viewpoint::Phoenix, |from| {
        from.word(format::VIEWPOINTS)
    });
    let timeout = or(&fields, "timeout", CHECK_TIMEOUT, values::wait);
    let (host, port) = address?;
    Some(ServedCheck {
        host,
        port,
        server_name: server_name?,
        from: from?,
        timeout: timeout?,
    })
}

fn to_secrets<'d>(
    cursor: &Cursor<'d>,
    certificate: &str,
    delivered: &mut Vec<PlacedSecret<'d>>,
) -> Option<()> {
    format::SECRET_PARTS.open(cursor)?;
    let entries = cursor.entries()?;
    if entries.is_empty() {
        cursor.refuse("a delivery to secrets names at least one part");
        return None;
    }
    for (part, _, value) in entries {
        let part = format::PARTS.iter().find(|(word, _)| *word == part);
        let (Some((_, part)), Some(name)) = (part, values::name(&value, &names::SECRET_NAME))
        else {
            continue;
        };
        delivered.push(PlacedSecret {
            name,
            position: value.position(),
            path: value.path().to_owned(),
            declaration: Some(SecretDeclaration {
                source: SecretSource::Certificate {
                    name: certificate.to_owned(),
                    part: *part,
                },
                labels: BTreeMap::new(),
            }),
        });
    }
    Some(())
}

fn file<'d>(
    cursor: &Cursor<'d>,
    guest: Option<&str>,
    context: &Context<'d>,
) -> Option<DeliveredFile> {
    let fields = format::FILE.open(cursor)?;
    let part = fields.get("part").and_then(|part| part.word(format::PARTS));
    let path = fields.get("path").and_then(|at| {
        let path = values::guest_path(&at)?;
        if let Some(guest) = guest {
            context.claim(guest, &path, &at);
        }
        Some(path)
    });
    let account = |key: &str| {
        or(&fields, key, "root".to_owned(), |name| {
            values::name(name, &names::ACCOUNT_NAME).map(str::to_owned)
        })
    };
    let owner = account("owner");
    let group = account("group");
    let has_key =
        part.is_some_and(|part| matches!(part, CertificatePart::Key | CertificatePart::Bundle));
    let mode = match fields.get("mode") {
        Some(at) => values::mode(&at).inspect(|mode| {
            if has_key && mode & 0o007 != 0 {
                at.warn("every user of the guest can access this private key");
            } else if mode & 0o002 != 0 {
                at.warn("every user of the guest can replace this file");
            }
        }),
        None => Some(if has_key { 0o600 } else { 0o644 }),
    };
    Some(DeliveredFile {
        part: part?,
        path: path?,
        owner: owner?,
        group: group?,
        mode: mode?,
    })
}
