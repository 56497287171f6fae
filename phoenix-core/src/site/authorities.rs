//! The sections `ca` and `issuers`: who issues the site's certificates.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use indexmap::IndexMap;

use super::files::Holds;
use super::model::{
    AcmeAuthority, AcmeChallenge, CertificateAuthority, EmbeddedAuthority, ExternalAccount, Guest,
    Reach, ServerTrust, StepCaAuthority,
};
use super::read::{Context, known, maybe, or, section, source};
use super::{certificates, format, names, values};
use crate::ground::document::{Cursor, Fields};
use crate::pki::{KeyType, Profile};

/// What step-ca grants unless it is told otherwise.
const STEP_CA_LIFETIME: Duration = Duration::from_secs(24 * 3600);
const PROPAGATION: Duration = Duration::from_secs(10);
/// Where an ACME server looks for the answer to an http-01 challenge.
const HTTP_01: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 80);

/// The issuers of a site.
pub(super) struct Authorities<'d> {
    /// The one in `ca`, or the default; `None` when what is declared is wrong.
    pub(super) ca: Option<CertificateAuthority>,
    /// Those of `issuers` that are right.
    pub(super) issuers: IndexMap<String, CertificateAuthority>,
    /// Every name in `issuers`.
    pub(super) names: Vec<&'d str>,
    /// Guests in which commands set DNS records.
    hooks: Vec<(String, Cursor<'d>)>,
}

impl Authorities<'_> {
    /// The issuer of this name, or that of `ca`; `None` where it is wrong.
    pub(super) fn get(&self, name: Option<&str>) -> Option<&CertificateAuthority> {
        match name {
            None => self.ca.as_ref(),
            Some(name) => self.issuers.get(name),
        }
    }

    /// Reports guests in which no command can be run.
    pub(super) fn check_guests(&self, guests: &IndexMap<String, Guest>) {
        for (guest, at) in &self.hooks {
            if guests
                .get(guest)
                .is_some_and(|guest| guest.reach != Reach::Agent)
            {
                at.refuse(
                    "commands are run through the guest agent: this guest needs a `vmid` and \
                     `reach: agent`",
                );
            }
        }
    }
}

/// Reads `ca` and `issuers`.
pub(super) fn read<'d>(
    root: &Fields<'d>,
    context: &Context<'d>,
    site: &str,
    state: &Path,
) -> Authorities<'d> {
    let mut hooks = Vec::new();
    let ca = match root.get("ca") {
        Some(section) => format::CA.open(&section).and_then(|fields| {
            let place = (format!("{site} CA"), state.join("ca"));
            authority(&fields, context, place, &mut hooks)
        }),
        None => embedded(None, context, (format!("{site} CA"), state.join("ca"))),
    };
    let mut declared = Vec::new();
    let issuers = section(root, "issuers", &names::PLAIN_NAME)
        .into_iter()
        .filter_map(|(name, _, cursor)| {
            declared.push(name);
            let fields = format::ISSUER.open(&cursor)?;
            let place = (
                format!("{site} {name} CA"),
                state.join("issuers").join(name).join("ca"),
            );
            let read = authority(&fields, context, place, &mut hooks)?;
            Some((name.to_owned(), read))
        })
        .collect();
    Authorities {
        ca,
        issuers,
        names: declared,
        hooks,
    }
}

/// `place` is the common name and directory of an embedded CA that declares none.
fn authority<'d>(
    fields: &Fields<'d>,
    context: &Context<'d>,
    place: (String, std::path::PathBuf),
    hooks: &mut Vec<(String, Cursor<'d>)>,
) -> Option<CertificateAuthority> {
    if let Some(section) = fields.get("step_ca") {
        return step_ca(&section, context).map(CertificateAuthority::StepCa);
    }
    if let Some(section) = fields.get("acme") {
        return acme(&section, context, hooks).map(CertificateAuthority::Acme);
    }
    embedded(fields.get("embedded").as_ref(), context, place)
}

fn embedded<'d>(
    section: Option<&Cursor<'d>>,
    context: &Context<'d>,
    (common_name, directory): (String, std::path::PathBuf),
) -> Option<CertificateAuthority> {
    let fields = match section {
        Some(section) if !section.is_null() => Some(format::EMBEDDED.open(section)?),
        _ => None,
    };
    let get = |key: &str| fields.as_ref().and_then(|fields| fields.get(key));

    let directory = match get("directory") {
        Some(path) => context.files.path(&path),
        None => Some(directory),
    };
    let common_name = match get("common_name") {
        Some(name) => certificates::common_name(&name, certificates::LONGEST_CA_NAME),
        None => Some(common_name),
    };
    let root_lifetime = match get("root_lifetime") {
        Some(lifetime) => values::lifetime(&lifetime),
        None => Some(values::days(3650)),
    };
    let intermediate_lifetime = match get("intermediate_lifetime") {
        Some(cursor) => values::lifetime(&cursor).inspect(|lifetime| {
            if let Some(root) = root_lifetime.filter(|root| lifetime > root) {
                cursor.refuse(format!(
                    "the intermediate cannot outlive the root, which lives {}",
                    values::show(root)
                ));
            }
        }),
        None => root_lifetime.map(|root| root.min(values::days(1825))),
    };
    let key_type = match get("key") {
        Some(key) => key.word(format::KEY_TYPES),
        None => Some(KeyType::default()),
    };
    let passphrase = match get("passphrase") {
        Some(passphrase) => source(&passphrase, "a passphrase", context).map(Some),
        None => Some(None),
    };
    Some(CertificateAuthority::Embedded(EmbeddedAuthority {
        directory: directory?,
        common_name: common_name?,
        root_lifetime: root_lifetime?,
        intermediate_lifetime: intermediate_lifetime?,
        key_type: key_type?,
        passphrase: passphrase?,
    }))
}

fn step_ca<'d>(section: &Cursor<'d>, context: &Context<'d>) -> Option<StepCaAuthority> {
    let fields = format::STEP_CA.open(section)?;
    let url = fields.get("url").and_then(|url| values::https(&url, false));
    let fingerprint = fields
        .get("fingerprint")
        .and_then(|digest| values::fingerprint(&digest));
    let provisioners = provisioners(&fields);
    let password = fields
        .get("password")
        .and_then(|password| source(&password, "a password", context));
    let max_lifetime = or(&fields, "max_lifetime", STEP_CA_LIFETIME, values::lifetime);
    let strict = or(&fields, "strict", false, |value| value.boolean());
    Some(StepCaAuthority {
        url: url?,
        fingerprint: fingerprint?,
        provisioners: provisioners?,
        password: password?,
        max_lifetime: max_lifetime?,
        strict: strict?,
    })
}

fn provisioners(fields: &Fields<'_>) -> Option<BTreeMap<Profile, String>> {
    if let Some(name) = fields.get("provisioner") {
        let name = name.nonempty()?;
        return Some(
            Profile::ALL
                .map(|profile| (profile, name.to_owned()))
                .into(),
        );
    }
    let section = fields.get("provisioners")?;
    let by_profile = format::PROVISIONERS.open(&section)?;
    let mut provisioners = BTreeMap::new();
    for profile in Profile::ALL {
        if let Some(name) = by_profile.get(profile.as_str()) {
            provisioners.insert(profile, name.nonempty()?.to_owned());
        }
    }
    if provisioners.is_empty() {
        section.refuse("a provisioner for at least one profile is expected here");
        return None;
    }
    Some(provisioners)
}

fn acme<'d>(
    section: &Cursor<'d>,
    context: &Context<'d>,
    hooks: &mut Vec<(String, Cursor<'d>)>,
) -> Option<AcmeAuthority> {
    let fields = format::ACME.open(section)?;
    let directory = fields
        .get("directory")
        .and_then(|url| values::https(&url, true));
    let trust = values::trust(&fields, &context.files, ServerTrust::System);
    let roots = maybe(&fields, "roots", |path| {
        context.files.file(path, Holds::Public)
    });
    let contact = or(&fields, "contact", Vec::new(), |list| {
        let items = list.items()?;
        let contact: Vec<String> = items.iter().filter_map(contact).collect();
        (contact.len() == items.len()).then_some(contact)
    });
    let external_account = maybe(&fields, "external_account", |section| {
        let fields = format::EXTERNAL_ACCOUNT.open(section)?;
        let key_id = fields.get("key_id").and_then(|id| {
            let id = id.nonempty()?;
            Some(id.to_owned())
        });
        let key = fields
            .get("key")
            .and_then(|key| source(&key, "a key", context));
        Some(ExternalAccount {
            key_id: key_id?,
            key: key?,
        })
    });
    let challenge = match (fields.get("http_01"), fields.get("dns_01")) {
        (Some(section), _) => http_01(&section),
        (None, Some(section)) => dns_01(&section, context, hooks),
        (None, None) => None,
    };
    Some(AcmeAuthority {
        directory: directory?,
        trust: trust?,
        roots: roots?,
        contact: contact?,
        external_account: external_account?,
        challenge: challenge?,
    })
}

fn contact(cursor: &Cursor<'_>) -> Option<String> {
    let text = cursor.nonempty()?;
    if text.starts_with("mailto:") && text.contains('@') && !text.contains([',', '?', ' ']) {
        return Some(text.to_owned());
    }
    let meant = (text.contains('@') && !text.contains(':')).then(|| format!("mailto:{text}"));
    cursor.refuse_suggesting("a `mailto:` URL with one address is expected here", meant);
    None
}

fn http_01(section: &Cursor<'_>) -> Option<AcmeChallenge> {
    let fields = format::HTTP_01.open(section)?;
    let listen = or(&fields, "listen", HTTP_01, |listen| {
        let text = listen.nonempty()?;
        let parsed = text.parse().ok();
        if parsed.is_none() {
            listen.refuse("an IP address with a port is expected here, such as `0.0.0.0:80`");
        }
        parsed
    });
    Some(AcmeChallenge::Http01 { listen: listen? })
}

fn dns_01<'d>(
    section: &Cursor<'d>,
    context: &Context<'d>,
    hooks: &mut Vec<(String, Cursor<'d>)>,
) -> Option<AcmeChallenge> {
    let fields = format::DNS_01.open(section)?;
    let guest = fields.get("guest").and_then(|at| {
        let name = known(&at, "guest", &context.declared.guests)?;
        hooks.push((name.to_owned(), at));
        Some(name.to_owned())
    });
    let set = fields
        .get("set")
        .and_then(|command| values::command(&command));
    let clear = fields
        .get("clear")
        .and_then(|command| values::command(&command));
    let propagation = or(&fields, "propagation", PROPAGATION, values::wait);
    Some(AcmeChallenge::Dns01 {
        guest: guest?,
        set: set?,
        clear: clear?,
        propagation: propagation?,
    })
}
