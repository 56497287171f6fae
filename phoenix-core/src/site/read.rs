//! The site file as a whole, and its smaller sections.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use indexmap::IndexMap;

use super::files::{Holds, LocalFiles};
use super::model::{
    CertificatePart, Network, ProxmoxEndpoint, Reach, RegistryLogin, SecretDeclaration,
    SecretSource, ServerTrust, Site, SwarmSettings, Timeouts, ValueSource,
};
use super::names::NameRule;
use super::{authorities, certificates, format, guests, names, stacks, values};
use crate::ground::document::{Cursor, Fields, Position, Value, child_path};

/// What the sections of one site file share while they are read.
#[derive(Debug)]
pub(super) struct Context<'d> {
    pub(super) files: LocalFiles<'d>,
    /// Every name that is declared, also of what turned out to be wrong: one mistake is one
    /// problem.
    pub(super) declared: Declared<'d>,
    /// Paths in guests that something is written to.
    claims: RefCell<HashMap<(String, String), Cursor<'d>>>,
}

/// Names by section.
#[derive(Debug, Default)]
pub(super) struct Declared<'d> {
    pub(super) guests: Vec<&'d str>,
    pub(super) certificates: Vec<&'d str>,
    pub(super) stacks: Vec<&'d str>,
}

impl<'d> Context<'d> {
    /// Reports when something else is written to `path` in `guest` already.
    pub(super) fn claim(&self, guest: &str, path: &str, by: &Cursor<'d>) {
        let mut claims = self.claims.borrow_mut();
        let place = (guest.to_owned(), path.to_owned());
        match claims.get(&place) {
            Some(first) => by.reader().report(
                by.position(),
                by.path(),
                Some(path),
                format!(
                    "this path in guest `{guest}` is also written by {} at {}",
                    first.path(),
                    first.position()
                ),
                None,
            ),
            None => {
                claims.insert(place, by.clone());
            }
        }
    }
}

/// A secret and where it is declared.
pub(super) struct PlacedSecret<'d> {
    pub(super) name: &'d str,
    pub(super) position: Position,
    pub(super) path: String,
    /// `None` when what is declared is wrong.
    pub(super) declaration: Option<SecretDeclaration>,
}

/// The value under `key` as `read` gives it, or `default` when the key is not there.
pub(super) fn or<'d, T>(
    fields: &Fields<'d>,
    key: &str,
    default: T,
    read: impl FnOnce(&Cursor<'d>) -> Option<T>,
) -> Option<T> {
    match fields.get(key) {
        Some(value) => read(&value),
        None => Some(default),
    }
}

/// Like [`or`], for what has no default.
pub(super) fn maybe<'d, T>(
    fields: &Fields<'d>,
    key: &str,
    read: impl FnOnce(&Cursor<'d>) -> Option<T>,
) -> Option<Option<T>> {
    or(fields, key, None, |value| read(value).map(Some))
}

/// The entries of the section `key`, after names against `rule` and names that differ only in
/// case were reported.
pub(super) fn section<'d>(
    root: &Fields<'d>,
    key: &str,
    rule: &NameRule,
) -> Vec<(&'d str, Position, Cursor<'d>)> {
    let Some(entries) = root.get(key).and_then(|section| section.entries()) else {
        return Vec::new();
    };
    let mut seen: HashMap<String, (&str, Position)> = HashMap::new();
    for (name, position, value) in &entries {
        if !rule.allows(name) {
            value.reader().report(
                *position,
                value.path(),
                Some(name),
                format!("the name must be {}", rule.words),
                values::mend(name, rule),
            );
        }
        match seen.get(&name.to_ascii_lowercase()) {
            Some((other, at)) => value.reader().report(
                *position,
                value.path(),
                Some(name),
                format!("the name differs only in case from `{other}` at {at}"),
                None,
            ),
            None => {
                seen.insert(name.to_ascii_lowercase(), (name, *position));
            }
        }
    }
    entries
}

/// A map of labels, options or the like; their names are not empty.
pub(super) fn labels(cursor: &Cursor<'_>) -> Option<BTreeMap<String, String>> {
    for (key, position, value) in cursor.entries()? {
        if key.is_empty() {
            value
                .reader()
                .report(position, value.path(), Some(key), "an empty name", None);
        }
    }
    cursor.texts().map(|texts| texts.into_iter().collect())
}

/// Reads the whole site file, which lies in `directory`; looks at the files it refers to when
/// `look`.
pub(super) fn site(root: &Cursor<'_>, directory: &Path, look: bool) -> Option<Site> {
    let fields = format::SITE.open(root)?;
    let names = |key: &str| -> Vec<&str> {
        match fields.get(key).map(|section| &section.node().value) {
            Some(Value::Map(map)) => map.iter().map(|entry| entry.key.as_str()).collect(),
            _ => Vec::new(),
        }
    };
    let context = Context {
        files: LocalFiles::new(directory),
        declared: Declared {
            guests: names("guests"),
            certificates: names("certificates"),
            stacks: names("stacks"),
        },
        claims: RefCell::default(),
    };

    let name = fields
        .get("site")
        .and_then(|name| values::name(&name, &names::SITE_NAME));
    let state = or(&fields, "state", directory.join(".phoenix"), |path| {
        context.files.path(path)
    });
    let proxmox = maybe(&fields, "proxmox", |section| proxmox(section, &context));
    let authorities = authorities::read(
        &fields,
        &context,
        name.unwrap_or_default(),
        state.as_deref().unwrap_or(directory),
    );
    let ca = authorities.get(None);
    let timeouts = timeouts(&fields);
    let guests = guests::read(&fields, &context, ca);
    let swarm = or(&fields, "swarm", SwarmSettings::default(), swarm);
    let networks = networks(&fields);
    let (certificates, delivered) = certificates::read(&fields, &context, &guests, &authorities);
    authorities.check_guests(&guests);
    let secrets = secrets(&fields, &context, delivered);
    let registries = registries(&fields, &context);
    let environment = stacks::environment(&fields);
    let stacks = stacks::read(&fields, &context, timeouts.map(|t| t.converge));
    let portainer = maybe(&fields, "portainer", |section| {
        stacks::portainer(section, &context, &secrets, &certificates)
    });

    if proxmox.is_some()
        && fields.get("proxmox").is_none()
        && let Some((name, _)) = guests.iter().find(|(_, guest)| guest.reach == Reach::Agent)
    {
        root.reader().report(
            root.position(),
            "",
            None,
            format!(
                "the key `proxmox` is missing: guest `{name}` is reached by its agent, through \
                 the Proxmox API"
            ),
            None,
        );
    }
    needs_a_swarm(&fields);
    if look {
        context.files.look();
    }

    Some(Site {
        name: name?.to_owned(),
        directory: directory.to_owned(),
        state: state?,
        environment: environment?,
        proxmox: proxmox?,
        ca: authorities.ca?,
        issuers: authorities.issuers,
        guests,
        swarm: swarm?,
        networks,
        secrets: secrets
            .into_iter()
            .map(|(name, secret)| Some((name.to_owned(), secret.declaration?)))
            .collect::<Option<_>>()?,
        certificates,
        registries,
        stacks,
        portainer: portainer?,
        timeouts: timeouts?,
    })
}

/// Networks, secrets and stacks live in a swarm.
fn needs_a_swarm(fields: &Fields<'_>) {
    // A role that is misspelt has been reported and may have meant a manager.
    if guests::roles(fields).any(|role| role.text() != Some("worker")) {
        return;
    }
    for key in ["networks", "secrets", "stacks"] {
        if let Some(section) = fields.get(key)
            && matches!(&section.node().value, Value::Map(map) if !map.is_empty())
        {
            section.refuse("these need a swarm, and no guest has `swarm: { role: manager }`");
            return;
        }
    }
}

fn proxmox<'d>(section: &Cursor<'d>, context: &Context<'d>) -> Option<ProxmoxEndpoint> {
    let fields = format::PROXMOX.open(section)?;
    let url = fields.get("url").and_then(|url| values::https(&url, false));
    let token = fields
        .get("token")
        .and_then(|token| source(&token, "a token", context));
    let trust = values::trust(&fields, &context.files, ServerTrust::System);
    Some(ProxmoxEndpoint {
        url: url?,
        token: token?,
        trust: trust?,
    })
}

/// The registries whose credentials are right.
fn registries<'d>(root: &Fields<'d>, context: &Context<'d>) -> IndexMap<String, RegistryLogin> {
    let mut registries = IndexMap::new();
    for (name, _, at) in section(root, "registries", &names::REGISTRY_NAME) {
        let Some(fields) = format::REGISTRY.open(&at) else {
            continue;
        };
        let username = fields.get("username").and_then(|at| at.nonempty());
        let password = fields
            .get("password")
            .and_then(|at| source(&at, "a password", context));
        if let (Some(username), Some(password)) = (username, password) {
            let username = username.to_owned();
            registries.insert(name.to_owned(), RegistryLogin { username, password });
        }
    }
    registries
}

/// Reports a secret that stands where its source is expected, without quoting it.
fn refuse_plain_secret(cursor: &Cursor<'_>, what: &str) -> bool {
    let plain = cursor.node().text().is_some();
    if plain {
        cursor.reader().report(
            cursor.position(),
            cursor.path(),
            None,
            format!("{what} is never written in the site file: say where it is, by `{{ file: PATH }}` or `{{ env: NAME }}`"),
            None,
        );
    }
    plain
}

/// Where `what` (`a token`, `a password`) comes from.
pub(super) fn source<'d>(
    cursor: &Cursor<'d>,
    what: &str,
    context: &Context<'d>,
) -> Option<ValueSource> {
    if refuse_plain_secret(cursor, what) {
        return None;
    }
    let fields = format::SOURCE.open(cursor)?;
    if let Some(variable) = fields.get("env") {
        return Some(ValueSource::Environment(variable_name(&variable)?));
    }
    let path = fields.get("file")?;
    Some(ValueSource::File(context.files.file(&path, Holds::Secret)?))
}

fn variable_name(cursor: &Cursor<'_>) -> Option<String> {
    let text = cursor.nonempty()?;
    if names::VARIABLE_NAME.allows(text) {
        return Some(text.to_owned());
    }
    // Not quoted: people paste the value here.
    cursor.reader().report(
        cursor.position(),
        cursor.path(),
        None,
        format!(
            "the name of an environment variable is expected here: {}",
            names::VARIABLE_NAME.words
        ),
        None,
    );
    None
}

fn timeouts(root: &Fields<'_>) -> Option<Timeouts> {
    let standard = Timeouts {
        guest: Duration::from_secs(60),
        request: Duration::from_secs(30),
        node: Duration::from_secs(120),
        converge: Duration::from_secs(300),
    };
    or(root, "timeouts", standard, |section| {
        let fields = format::TIMEOUTS.open(section)?;
        let guest = or(&fields, "guest", standard.guest, values::wait);
        let request = or(&fields, "request", standard.request, values::wait);
        let node = or(&fields, "node", standard.node, values::wait);
        let converge = or(&fields, "converge", standard.converge, values::wait);
        Some(Timeouts {
            guest: guest?,
            request: request?,
            node: node?,
            converge: converge?,
        })
    })
}

/// A list of subnets that do not overlap.
fn subnets(cursor: &Cursor<'_>) -> Option<Vec<String>> {
    let mut found: Vec<((std::net::IpAddr, u8), Cursor<'_>)> = Vec::new();
    let items = cursor.items()?;
    let count = items.len();
    for item in items {
        let Some(subnet) = values::cidr(&item) else {
            continue;
        };
        if let Some((_, other)) = found
            .iter()
            .find(|(other, _)| values::overlap(*other, subnet))
        {
            item.refuse(format!("overlaps the subnet at {}", other.position()));
            continue;
        }
        found.push((subnet, item));
    }
    (found.len() == count).then(|| {
        found
            .iter()
            .map(|((address, prefix), _)| format!("{address}/{prefix}"))
            .collect()
    })
}

fn swarm(section: &Cursor<'_>) -> Option<SwarmSettings> {
    let fields = format::SWARM.open(section)?;
    let pools = or(&fields, "address_pools", Vec::new(), subnets);
    let size = maybe(&fields, "subnet_size", |size| size.integer(1_u8..=29));
    let heartbeat = maybe(&fields, "heartbeat", |heartbeat| {
        let period = values::wait(heartbeat)?;
        if period < Duration::from_secs(1) || period.subsec_nanos() > 0 {
            heartbeat.refuse("a period in whole seconds, at least `1s`, is expected here");
            return None;
        }
        Some(period)
    });
    if let (Some(pools), Some(size)) = (&pools, size) {
        for pool in pools {
            let prefix = pool
                .rsplit_once('/')
                .and_then(|(_, p)| p.parse::<u8>().ok());
            if pool.contains(':') {
                fields.get("address_pools").inspect(|at| {
                    at.refuse(format!(
                        "the pool `{pool}` is not IPv4, which a swarm's pools are"
                    ));
                });
            } else if prefix.is_some_and(|prefix| prefix > size.unwrap_or(24)) {
                let at = fields.get("subnet_size").or(fields.get("address_pools"));
                at.inspect(|at| {
                    at.refuse(format!(
                        "subnets of /{} are larger than the pool `{pool}`",
                        size.unwrap_or(24)
                    ));
                });
            }
        }
    }
    Some(SwarmSettings {
        address_pools: pools?,
        subnet_size: size?,
        heartbeat: heartbeat?,
    })
}

fn networks(root: &Fields<'_>) -> IndexMap<String, Network> {
    section(root, "networks", &names::PLAIN_NAME)
        .into_iter()
        .filter_map(|(name, position, value)| {
            // These belong to every engine; Docker refuses to make overlay networks of them.
            if matches!(
                name,
                "bridge" | "host" | "none" | "ingress" | "docker_gwbridge"
            ) {
                let message = "Docker has a network of this name already";
                value
                    .reader()
                    .report(position, value.path(), Some(name), message, None);
            }
            Some((name.to_owned(), network(&value)?))
        })
        .collect()
}

fn network(cursor: &Cursor<'_>) -> Option<Network> {
    let standard = Network {
        driver: "overlay".to_owned(),
        attachable: false,
        internal: false,
        subnets: Vec::new(),
        options: BTreeMap::new(),
        labels: BTreeMap::new(),
    };
    if cursor.is_null() {
        return Some(standard);
    }
    let fields = format::NETWORK.open(cursor)?;
    let driver = or(&fields, "driver", standard.driver, |driver| {
        driver.nonempty().map(str::to_owned)
    });
    let attachable = or(&fields, "attachable", false, |value| value.boolean());
    let internal = or(&fields, "internal", false, |value| value.boolean());
    let subnets = or(&fields, "subnets", Vec::new(), subnets);
    let options = or(&fields, "options", BTreeMap::new(), labels);
    let labels = or(&fields, "labels", BTreeMap::new(), labels);
    Some(Network {
        driver: driver?,
        attachable: attachable?,
        internal: internal?,
        subnets: subnets?,
        options: options?,
        labels: labels?,
    })
}

/// The declared secrets and those that certificates deliver to, each name once.
fn secrets<'d>(
    root: &Fields<'d>,
    context: &Context<'d>,
    delivered: Vec<PlacedSecret<'d>>,
) -> IndexMap<&'d str, PlacedSecret<'d>> {
    let declared = section(root, "secrets", &names::SECRET_NAME)
        .into_iter()
        .map(|(name, position, value)| PlacedSecret {
            name,
            position,
            path: value.path().to_owned(),
            declaration: secret(&value, context),
        });
    let mut secrets: IndexMap<&str, PlacedSecret<'_>> = IndexMap::new();
    for secret in declared.chain(delivered) {
        match secrets.get(secret.name) {
            Some(first) => root.at().reader().report(
                secret.position,
                secret.path,
                Some(secret.name),
                format!(
                    "the secret has its content from {} at {} already",
                    first.path, first.position
                ),
                None,
            ),
            None => {
                secrets.insert(secret.name, secret);
            }
        }
    }
    secrets
}

fn secret<'d>(cursor: &Cursor<'d>, context: &Context<'d>) -> Option<SecretDeclaration> {
    if refuse_plain_secret(cursor, "a secret") {
        return None;
    }
    let fields = format::SECRET.open(cursor)?;
    let labels = or(&fields, "labels", BTreeMap::new(), labels);
    if let Some(part) = fields.get("part")
        && fields.get("certificate").is_none()
    {
        part.refuse("`part` belongs to a `certificate`");
    }
    let source = if let Some(path) = fields.get("file") {
        SecretSource::File(context.files.file(&path, Holds::Secret)?)
    } else if let Some(variable) = fields.get("env") {
        SecretSource::Environment(variable_name(&variable)?)
    } else {
        let certificate = fields.get("certificate")?;
        let name = known(&certificate, "certificate", &context.declared.certificates);
        let part = fields
            .required("part")
            .and_then(|part| part.word::<CertificatePart>(format::PARTS));
        SecretSource::Certificate {
            name: name?.to_owned(),
            part: part?,
        }
    };
    Some(SecretDeclaration {
        source,
        labels: labels?,
    })
}

/// A name that is among `declared`, which are `what`.
pub(super) fn known<'d>(cursor: &Cursor<'d>, what: &str, declared: &[&str]) -> Option<&'d str> {
    let name = cursor.nonempty()?;
    if !declared.contains(&name) {
        cursor.refuse_unknown(what, declared.iter().copied());
        return None;
    }
    Some(name)
}

/// The path of `key` in the value at `cursor`, and the cursor's position where there is no such
/// key.
pub(super) fn place<'d>(fields: &Fields<'d>, key: &str) -> (Position, String) {
    fields.get(key).map_or_else(
        || (fields.at().position(), fields.at().path().to_owned()),
        |value| (value.position(), child_path(fields.at().path(), key)),
    )
}

/// The directory of the site file at `path`, and the absolute path itself.
pub(super) fn absolute(path: &Path) -> (PathBuf, PathBuf) {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let directory = path.parent().unwrap_or(Path::new("/")).to_owned();
    (directory, path)
}
