//! The section `guests`: guests, their Docker engines and their places in the swarm.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

use indexmap::IndexMap;

use super::files::Holds;
use super::model::{
    CertificateAuthority, DaemonSettings, DockerAddress, DockerEndpoint, DockerTls, Guest, Reach,
    SwarmRole,
};
use super::read::{Context, labels, maybe, or, section};
use super::{certificates, format, names, values};
use crate::ground::document::{Cursor, Fields, Value};
use crate::pki::SubjectAltName;

/// The values under `swarm.role` of all guests, whatever they are.
pub(super) fn roles<'d>(
    root: &Fields<'d>,
) -> impl Iterator<Item = &'d crate::ground::document::Node> {
    let guests = match root.get("guests").map(|guests| &guests.node().value) {
        Some(Value::Map(guests)) => guests.iter().as_slice(),
        _ => &[],
    };
    guests.iter().filter_map(|guest| {
        let Value::Map(guest) = &guest.value.value else {
            return None;
        };
        match &guest.get("swarm")?.value {
            Value::Map(member) => member.get("role"),
            _ => None,
        }
    })
}

/// The guests that are right; what is wrong with the others has been reported.
pub(super) fn read<'d>(
    root: &Fields<'d>,
    context: &Context<'d>,
    ca: Option<&CertificateAuthority>,
) -> IndexMap<String, Guest> {
    let mut vmids: HashMap<u32, Cursor<'d>> = HashMap::new();
    let mut addresses: HashMap<DockerAddress, Cursor<'d>> = HashMap::new();
    let mut guests = IndexMap::new();
    for (name, _, cursor) in section(root, "guests", &names::HOST_NAME) {
        let Some(fields) = format::GUEST.open(&cursor) else {
            continue;
        };
        let vmid = maybe(&fields, "vmid", |vmid| {
            let number = vmid.integer(100_u32..=999_999_999)?;
            unique(&mut vmids, number, vmid, "VMID")?;
            Some(number)
        });
        let node = maybe(&fields, "node", |node| {
            values::name(node, &names::HOST_NAME).map(str::to_owned)
        });
        let reach = reach(&fields);
        let docker = maybe(&fields, "docker", |docker| {
            let endpoint = docker_endpoint(docker, name, reach, context, ca)?;
            // The position of the address says more than that of the endpoint.
            let at = docker.child("address")?;
            unique(
                &mut addresses,
                endpoint.address.clone(),
                &at,
                "Docker address",
            )?;
            Some(endpoint)
        });
        let member = maybe(&fields, "swarm", |member| {
            if fields.get("docker").is_none() {
                member.refuse("a member of the swarm needs a `docker` endpoint");
            }
            swarm_member(member, docker.as_ref().and_then(Option::as_ref))
        });
        guests.extend((|| {
            let (role, advertise, labels) = match member? {
                Some(member) => (Some(member.0), member.1, member.2),
                None => (None, None, BTreeMap::new()),
            };
            let guest = Guest {
                vmid: vmid?,
                node: node?,
                reach: reach?,
                docker: docker?,
                role,
                advertise,
                labels,
            };
            Some((name.to_owned(), guest))
        })());
    }
    check_managers(root);
    guests
}

/// Reports a value that another guest has already.
fn unique<'d, K: std::hash::Hash + Eq>(
    seen: &mut HashMap<K, Cursor<'d>>,
    value: K,
    at: &Cursor<'d>,
    what: &str,
) -> Option<()> {
    if let Some(first) = seen.get(&value) {
        at.refuse(format!(
            "the {what} is also at {} ({})",
            first.position(),
            first.path()
        ));
        return None;
    }
    seen.insert(value, at.clone());
    Some(())
}

fn reach(fields: &Fields<'_>) -> Option<Reach> {
    let by_agent = fields.get("vmid").is_some();
    let default = if by_agent {
        Reach::Agent
    } else {
        Reach::DockerOnly
    };
    let reach = or(fields, "reach", default, |reach| {
        reach.word(format::REACHES)
    })?;
    if reach == Reach::Agent && !by_agent {
        fields.get("reach").inspect(|at| {
            at.refuse("a guest that is reached by its agent needs a `vmid`");
        });
        return None;
    }
    if let Some(node) = fields.get("node")
        && !by_agent
    {
        node.refuse("`node` belongs to a `vmid`");
        return None;
    }
    if reach == Reach::DockerOnly && fields.get("docker").is_none() {
        fields.at().refuse(
            "the guest cannot be reached: give it a `vmid` (reached by its agent) or a `docker` \
             endpoint",
        );
        return None;
    }
    Some(reach)
}

fn docker_endpoint<'d>(
    cursor: &Cursor<'d>,
    guest: &str,
    reach: Option<Reach>,
    context: &Context<'d>,
    ca: Option<&CertificateAuthority>,
) -> Option<DockerEndpoint> {
    let fields = format::DOCKER.open(cursor)?;
    let address = fields
        .get("address")
        .and_then(|address| values::docker_address(&address));
    let tls = match (fields.get("tls"), fields.get("managed")) {
        (Some(tls), _) => docker_tls(&tls, context).map(Some),
        (None, Some(managed)) => {
            if reach == Some(Reach::DockerOnly) {
                managed.refuse(
                    "Phoenix configures a daemon through the guest agent: this needs a `vmid` and \
                     `reach: agent`",
                );
            }
            let settings = daemon(&managed, guest, context, ca);
            if let Some(DockerAddress::Tcp { host, .. }) = &address {
                in_daemon_certificate(&fields, host, guest);
            }
            settings.map(DockerTls::Managed).map(Some)
        }
        (None, None) => Some(None),
    };
    match &address {
        Some(DockerAddress::Unix(_)) => {
            for key in ["tls", "managed"] {
                fields.get(key).inspect(|at| {
                    at.refuse(format!(
                        "`{key}` belongs to a TCP address, not to a unix socket"
                    ));
                });
            }
        }
        Some(DockerAddress::Tcp { .. })
            if fields.get("tls").is_none() && fields.get("managed").is_none() =>
        {
            fields.get("address").inspect(|at| {
                at.refuse("a TCP address needs `managed` or `tls`: without TLS, whoever reaches it owns the machine");
            });
        }
        _ => {}
    }
    Some(DockerEndpoint {
        address: address?,
        tls: tls?,
    })
}

/// The daemon's certificate names the guest and the host of its address.
fn in_daemon_certificate(fields: &Fields<'_>, host: &str, guest: &str) {
    if let Err(error) = host.parse::<SubjectAltName>() {
        fields.get("address").inspect(|at| {
            at.refuse(format!("no certificate can name this host: {error}"));
        });
    }
    if let Err(error) = guest.parse::<SubjectAltName>() {
        fields.at().refuse(format!(
            "no certificate can name the guest, as that of a managed daemon does: {error}"
        ));
    }
}

fn docker_tls<'d>(cursor: &Cursor<'d>, context: &Context<'d>) -> Option<DockerTls> {
    let fields = format::DOCKER_TLS.open(cursor)?;
    let file = |key: &str, holds| {
        fields
            .get(key)
            .and_then(|path| context.files.file(&path, holds))
    };
    let ca = file("ca", Holds::Public);
    let certificate = file("cert", Holds::Public);
    let key = file("key", Holds::Key);
    Some(DockerTls::Files {
        ca: ca?,
        certificate: certificate?,
        key: key?,
    })
}

fn daemon<'d>(
    cursor: &Cursor<'d>,
    guest: &str,
    context: &Context<'d>,
    ca: Option<&CertificateAuthority>,
) -> Option<DaemonSettings> {
    let fields = format::MANAGED.open(cursor)?;
    let restart = fields
        .get("restart")
        .and_then(|restart| values::command(&restart));
    let path = |key: &str, default: &str| or(&fields, key, default.to_owned(), values::guest_path);
    let daemon_json = path("daemon_json", "/etc/docker/daemon.json");
    let certificates = path("certificates", "/etc/docker/phoenix");
    if let Some(path) = &daemon_json {
        let at = fields.get("daemon_json");
        context.claim(guest, path, at.as_ref().unwrap_or(cursor));
    }
    if let Some(directory) = &certificates {
        let at = fields.get("certificates");
        for file in ["ca.pem", "server.pem", "server-key.pem"] {
            let path = format!("{directory}/{file}");
            context.claim(guest, &path, at.as_ref().unwrap_or(cursor));
        }
    }
    let unit = or(&fields, "unit", "docker.service".to_owned(), unit);
    let sans = or(&fields, "sans", Vec::new(), values::sans);
    let validity = certificates::validity(&fields, ca);
    let (lifetime, rule) = validity?;
    Some(DaemonSettings {
        restart: restart?,
        daemon_json: daemon_json?,
        certificates: certificates?,
        unit: unit?,
        sans: sans?,
        lifetime,
        rule,
    })
}

fn unit(cursor: &Cursor<'_>) -> Option<String> {
    let text = cursor.nonempty()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "@:._-".contains(c);
    match text.strip_suffix(".service") {
        Some(name) if !name.is_empty() && name.chars().all(plain) => Some(text.to_owned()),
        _ => {
            let meant = text.chars().all(plain).then(|| format!("{text}.service"));
            cursor.refuse_suggesting(
                "a systemd unit such as `docker.service` is expected here",
                meant,
            );
            None
        }
    }
}

type Member = (SwarmRole, Option<String>, BTreeMap<String, String>);

fn swarm_member(cursor: &Cursor<'_>, docker: Option<&DockerEndpoint>) -> Option<Member> {
    let fields = format::MEMBER.open(cursor)?;
    let role = fields.get("role").and_then(|role| role.word(format::ROLES));
    let advertise = maybe(&fields, "advertise", advertise);
    let labels = or(&fields, "labels", BTreeMap::new(), labels);
    if let Some(DockerAddress::Tcp { host, .. }) = docker.map(|docker| &docker.address)
        && host.parse::<IpAddr>().is_err()
        && fields.get("advertise").is_none()
    {
        // Docker refuses a host name when a swarm is made, and ignores it when one is joined.
        cursor.refuse(format!(
            "the key `advertise` is missing: engines advertise an IP address or a network \
             interface, and `{host}` is neither"
        ));
        return None;
    }
    Some((role?, advertise?, labels?))
}

/// `ADDRESS`, `ADDRESS:PORT`, `INTERFACE` or `INTERFACE:PORT`.
fn advertise(cursor: &Cursor<'_>) -> Option<String> {
    let text = cursor.nonempty()?;
    let address = text
        .parse::<IpAddr>()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()));
    let interface = || {
        let (name, port) = match text.split_once(':') {
            Some((name, port)) => (name, port.parse::<u16>().ok()),
            None => (text, Some(0)),
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-@".contains(c);
        // The kernel's limit is 15 octets.
        port.is_some() && (1..=15).contains(&name.len()) && name.chars().all(plain)
    };
    match address {
        Some(address) if address.is_unspecified() => {
            cursor.refuse("other nodes cannot reach this address");
            None
        }
        Some(_) => Some(text.to_owned()),
        None if interface() => Some(text.to_owned()),
        None => {
            cursor.refuse(
                "an IP address or a network interface is expected here, with an optional port",
            );
            None
        }
    }
}

/// A swarm has a manager, and better an odd number of them.
fn check_managers(root: &Fields<'_>) {
    let Some(section) = root.get("guests") else {
        return;
    };
    let managers = roles(root)
        .filter(|role| role.text() == Some("manager"))
        .count();
    let workers = roles(root)
        .filter(|role| role.text() == Some("worker"))
        .count();
    if managers == 0 && workers > 0 && workers == roles(root).count() {
        section.refuse("the swarm has workers and no manager: give one guest `role: manager`");
    }
    if managers > 0 && managers.is_multiple_of(2) {
        section.warn(format!(
            "{managers} managers: the swarm stops when {} of them fails, as with {} managers; an odd number is better",
            managers / 2,
            managers - 1
        ));
    }
    if managers + workers == 0
        && let Some(settings) = root.get("swarm")
        && roles(root).next().is_none()
    {
        settings.warn("no guest has a role in the swarm, so these settings apply to nothing");
    }
}
