//! A service of a compose file, read into the model.
//!
//! Invariants: what a service refers to is declared in the file; a key that a swarm has no use for
//! is an error that says so.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

use crate::ground::document::{Cursor, Fields, Value, nearest};

use super::deploy::{deploy, restart};
use super::image::Image;
use super::interpolate::Variables;
use super::model::{
    Attachment, Deploy, EndpointMode, FileReference, Healthcheck, Logging, MountKind, Place,
    PublishMode, Service, Ulimit,
};
use super::reading::{
    boolean, extensible, fields, filled, integer, labels, one_or_more, options, text, texts, time,
};
use super::{environment, ports, volumes, words};

/// What the services of a file may refer to, and how they are read.
pub(super) struct Declared<'a> {
    pub(super) directory: &'a Path,
    pub(super) variables: &'a Variables,
    pub(super) services: &'a [&'a str],
    pub(super) networks: &'a [&'a str],
    pub(super) volumes: &'a [&'a str],
    pub(super) configs: &'a [&'a str],
    pub(super) secrets: &'a [&'a str],
}

const KEYS: &[&str] = &[
    "image",
    "command",
    "entrypoint",
    "environment",
    "env_file",
    "labels",
    "ports",
    "volumes",
    "tmpfs",
    "networks",
    "configs",
    "secrets",
    "healthcheck",
    "deploy",
    "restart",
    "depends_on",
    "hostname",
    "user",
    "working_dir",
    "stop_grace_period",
    "stop_signal",
    "init",
    "tty",
    "stdin_open",
    "read_only",
    "extra_hosts",
    "dns",
    "dns_search",
    "cap_add",
    "cap_drop",
    "sysctls",
    "ulimits",
    "logging",
];

/// Keys of other compose dialects, and of the swarm's where it does nothing with them.
const REFUSED: &[(&str, &str)] = &[
    ("annotations", "a swarm does not support annotations"),
    (
        "blkio_config",
        "a swarm does not support limits of block devices",
    ),
    (
        "build",
        "a swarm does not build images: build and push it, and name it under `image`",
    ),
    (
        "cgroup",
        "a swarm does not support the choice of a cgroup namespace",
    ),
    ("cgroup_parent", "a swarm does not support a cgroup parent"),
    (
        "cgroupns_mode",
        "a swarm does not support the choice of a cgroup namespace",
    ),
    (
        "container_name",
        "a swarm does not support names of containers: a service may have several",
    ),
    (
        "cpu_count",
        "a swarm does not support this; use `deploy.resources`",
    ),
    (
        "cpu_quota",
        "a swarm does not support this; use `deploy.resources.limits.cpus`",
    ),
    (
        "cpu_shares",
        "a swarm does not support this; use `deploy.resources`",
    ),
    (
        "cpus",
        "a swarm does not support this; use `deploy.resources.limits.cpus`",
    ),
    (
        "cpuset",
        "a swarm does not support this; use `deploy.resources`",
    ),
    (
        "credential_spec",
        "credential specs of Windows containers are not supported",
    ),
    ("develop", "this has no meaning in a swarm"),
    ("device_cgroup_rules", "a swarm does not support devices"),
    ("devices", "a swarm does not support devices"),
    (
        "dns_opt",
        "a swarm takes no resolver options from compose files",
    ),
    (
        "domainname",
        "a swarm does not support domain names; write the whole name under `hostname`",
    ),
    (
        "expose",
        "this does nothing in a swarm: every port of a service is open to its networks; remove it",
    ),
    (
        "extends",
        "services that extend others are not supported; use YAML anchors",
    ),
    (
        "external_links",
        "a swarm does not support links; use a common network",
    ),
    (
        "gpus",
        "a swarm does not support this; use `deploy.resources.reservations.generic_resources`",
    ),
    (
        "group_add",
        "a swarm takes no further groups from compose files",
    ),
    (
        "ipc",
        "a swarm does not support the choice of an IPC namespace",
    ),
    (
        "isolation",
        "isolation modes of Windows containers are not supported",
    ),
    (
        "links",
        "a swarm does not support links; services of a network reach each other by name",
    ),
    ("mac_address", "a swarm does not support MAC addresses"),
    (
        "mem_limit",
        "a swarm does not support this; use `deploy.resources.limits.memory`",
    ),
    (
        "mem_reservation",
        "a swarm does not support this; use `deploy.resources.reservations.memory`",
    ),
    ("mem_swappiness", "a swarm does not support this"),
    (
        "memswap_limit",
        "a swarm does not support this; use `deploy.resources.limits.memory`",
    ),
    (
        "network_mode",
        "a swarm does not support network modes; an external network named `host` does the same as `host`",
    ),
    ("oom_kill_disable", "a swarm does not support this"),
    (
        "oom_score_adj",
        "a swarm takes no score for the out-of-memory killer from compose files",
    ),
    (
        "pid",
        "a swarm does not support the choice of a PID namespace",
    ),
    (
        "pids_limit",
        "a swarm does not support this; use `deploy.resources.limits.pids`",
    ),
    (
        "platform",
        "a swarm does not support this; use `deploy.placement.constraints`",
    ),
    (
        "privileged",
        "a swarm does not support privileged containers; use `cap_add`",
    ),
    ("profiles", "a swarm does not support profiles"),
    ("pull_policy", "a swarm pulls what a node does not have"),
    ("runtime", "a swarm does not support runtimes"),
    (
        "scale",
        "a swarm does not support this; use `deploy.replicas`",
    ),
    ("security_opt", "a swarm does not support security options"),
    (
        "shm_size",
        "a swarm does not support this; mount a tmpfs of that size at `/dev/shm`",
    ),
    ("storage_opt", "a swarm does not support storage options"),
    ("userns_mode", "a swarm does not support user namespaces"),
    (
        "uts",
        "a swarm does not support the choice of a UTS namespace",
    ),
    (
        "volume_driver",
        "a swarm does not support this; set the driver of the volume",
    ),
    (
        "volumes_from",
        "a swarm does not support this; declare a volume and mount it in both services",
    ),
];

pub(super) fn place(at: &Cursor<'_>) -> Place {
    Place {
        position: at.position(),
        path: at.path().to_owned(),
    }
}

/// Reads a service.
pub(super) fn service(at: &Cursor<'_>, declared: &Declared<'_>) -> Option<Service> {
    let map = extensible(at, KEYS, REFUSED)?;
    let image_at = map.required("image");
    let image = image_at.as_ref().and_then(image);

    let mounts = mounts(&map, declared);
    let deploy = service_deploy(&map);
    let ports = optional(&map, "ports", ports::ports);
    if let (Some(ports), Some(deploy)) = (&ports, &deploy)
        && deploy.endpoint_mode == Some(EndpointMode::Dnsrr)
        && ports.iter().any(|port| port.mode == PublishMode::Ingress)
        && let Some(at) = map.get("ports")
    {
        at.refuse("with `endpoint_mode: dnsrr` every port needs `mode: host` (in the long form)");
    }
    let environment = environment::environment(&map, declared.directory, declared.variables);
    let networks = optional(&map, "networks", |at| attachments(at, declared));
    let configs = optional(&map, "configs", |at| files(at, "config", declared.configs));
    let secrets = optional(&map, "secrets", |at| files(at, "secret", declared.secrets));
    let capabilities = capabilities(&map);
    let depends_on = optional(&map, "depends_on", |at| depends_on(at, declared));
    let own = |key| present(&map, key, |at| filled(at).map(str::to_owned));
    let flag = |key| optional(&map, key, boolean);

    let command = optional(&map, "command", command_words);
    let entrypoint = optional(&map, "entrypoint", command_words);
    let service_labels = optional(&map, "labels", labels);
    let healthcheck = present(&map, "healthcheck", healthcheck);
    let hostname = own("hostname");
    let user = own("user");
    let working_dir = own("working_dir");
    let stop_grace_period = present(&map, "stop_grace_period", time);
    let stop_signal = own("stop_signal");
    let init = present(&map, "init", boolean);
    let (tty, stdin_open, read_only) = (flag("tty"), flag("stdin_open"), flag("read_only"));
    let extra_hosts = optional(&map, "extra_hosts", extra_hosts);
    let dns = optional(&map, "dns", dns);
    let dns_search = optional(&map, "dns_search", one_or_more);
    let sysctls = optional(&map, "sysctls", labels);
    let ulimits = optional(&map, "ulimits", ulimits);
    let logging = present(&map, "logging", logging);
    let (cap_add, cap_drop) = capabilities?;

    Some(Service {
        image: image?,
        image_place: place(&image_at?),
        entrypoint: entrypoint?,
        command: command?,
        environment: environment?,
        labels: service_labels?,
        ports: ports?,
        mounts: mounts?,
        networks: networks?,
        configs: configs?,
        secrets: secrets?,
        healthcheck: healthcheck?,
        deploy: deploy?,
        hostname: hostname?,
        user: user?,
        working_dir: working_dir?,
        stop_grace_period: stop_grace_period?,
        stop_signal: stop_signal?,
        init: init?,
        tty: tty?,
        stdin_open: stdin_open?,
        read_only: read_only?,
        extra_hosts: extra_hosts?,
        dns: dns?,
        dns_search: dns_search?,
        cap_add,
        cap_drop,
        sysctls: sysctls?,
        ulimits: ulimits?,
        logging: logging?,
        depends_on: depends_on?,
    })
}

/// What `read` makes of the value under `key`, or the default without the key.
fn optional<'d, T: Default>(
    map: &Fields<'d>,
    key: &str,
    read: impl FnOnce(&Cursor<'d>) -> Option<T>,
) -> Option<T> {
    match map.get(key) {
        Some(at) => read(&at),
        None => Some(T::default()),
    }
}

/// What `read` makes of the value under `key`, or `Some(None)` without the key.
fn present<'d, T>(
    map: &Fields<'d>,
    key: &str,
    read: impl FnOnce(&Cursor<'d>) -> Option<T>,
) -> Option<Option<T>> {
    match map.get(key) {
        Some(at) => read(&at).map(Some),
        None => Some(None),
    }
}

/// Reports that `name` is none of `known`.
fn undefined(at: &Cursor<'_>, what: &str, name: &str, known: &[&str]) {
    let meant = nearest(name, known.iter().copied()).map(str::to_owned);
    at.reader().report(
        at.position(),
        at.path(),
        Some(name),
        format!("no {what} of this name is declared under `{what}s`"),
        meant,
    );
}

fn image(at: &Cursor<'_>) -> Option<Image> {
    match Image::parse(text(at)?) {
        Ok(image) => Some(image),
        Err(error) => {
            at.refuse(error.to_string());
            None
        }
    }
}

fn command_words(at: &Cursor<'_>) -> Option<Vec<String>> {
    if let Value::List(_) = at.node().value {
        return texts(at);
    }
    match words::split(text(at)?) {
        Ok(words) => Some(words),
        Err(error) => {
            at.refuse(error.to_string());
            None
        }
    }
}

fn mounts(map: &Fields<'_>, declared: &Declared<'_>) -> Option<Vec<super::model::Mount>> {
    let mut mounts = Vec::new();
    if let Some(at) = map.get("volumes") {
        let items = at.items()?;
        mounts = volumes::volumes(&at, declared.directory)?;
        for mount in &mounts {
            let MountKind::Volume { key: Some(key), .. } = &mount.kind else {
                continue;
            };
            if !declared.volumes.contains(&key.as_str())
                && let Some(item) = items.iter().find(|item| item.path() == mount.place.path)
            {
                undefined(item, "volume", key, declared.volumes);
            }
        }
    }
    if let Some(at) = map.get("tmpfs") {
        mounts.extend(volumes::tmpfs(&at)?);
    }
    volumes::refuse_shared_targets(map.at(), &mounts);
    Some(mounts)
}

fn service_deploy(map: &Fields<'_>) -> Option<Deploy> {
    let mut read = optional(map, "deploy", deploy)?;
    if let Some(at) = map.get("restart") {
        let policy = restart(&at)?;
        if read.restart_policy.is_some() {
            at.refuse("`deploy.restart_policy` says the same; remove one of the two");
        }
        read.restart_policy = Some(policy);
    }
    Some(read)
}

fn attachments(at: &Cursor<'_>, declared: &Declared<'_>) -> Option<Vec<Attachment>> {
    let mut attachments: Vec<Attachment> = Vec::new();
    let known = |item: &Cursor<'_>, name: &str| {
        let found = name == "default" || declared.networks.contains(&name);
        if !found {
            undefined(item, "network", name, declared.networks);
        }
        found
    };
    if let Value::List(_) = at.node().value {
        for item in at.items()? {
            let Some(name) = text(&item) else { continue };
            if attachments.iter().any(|other| other.network == name) {
                item.refuse("the network is listed twice");
            } else if known(&item, name) {
                attachments.push(Attachment {
                    network: name.to_owned(),
                    aliases: Vec::new(),
                    driver_opts: BTreeMap::new(),
                    place: place(&item),
                });
            }
        }
        return Some(attachments);
    }
    for (name, position, value) in at.entries()? {
        if !known(&value, name) {
            continue;
        }
        let mut attachment = Attachment {
            network: name.to_owned(),
            aliases: Vec::new(),
            driver_opts: BTreeMap::new(),
            place: Place {
                position,
                path: value.path().to_owned(),
            },
        };
        if !value.is_null() {
            const ADDRESS: &str = "a swarm does not support fixed addresses of services";
            let map = fields(
                &value,
                &["aliases", "driver_opts"],
                &[("ipv4_address", ADDRESS), ("ipv6_address", ADDRESS)],
            )?;
            attachment.aliases = optional(&map, "aliases", texts)?;
            attachment.driver_opts = optional(&map, "driver_opts", options)?;
        }
        attachments.push(attachment);
    }
    Some(attachments)
}

fn files(at: &Cursor<'_>, what: &str, known: &[&str]) -> Option<Vec<FileReference>> {
    let mut files: Vec<FileReference> = Vec::new();
    for item in at.items()? {
        let Some((file, source_at)) = file(&item) else {
            continue;
        };
        if !known.contains(&file.source.as_str()) {
            undefined(&source_at, what, &file.source, known);
        } else if files.iter().any(|other| other.target == file.target) {
            item.refuse(format!("another {what} has the target `{}`", file.target));
        } else {
            files.push(file);
        }
    }
    Some(files)
}

fn file<'d>(at: &Cursor<'d>) -> Option<(FileReference, Cursor<'d>)> {
    let reference = |source: &str| FileReference {
        source: source.to_owned(),
        target: source.to_owned(),
        uid: "0".to_owned(),
        gid: "0".to_owned(),
        mode: 0o444,
        place: place(at),
    };
    if let Value::Map(_) = at.node().value {
        let map = fields(at, &["source", "target", "uid", "gid", "mode"], &[])?;
        let source_at = map.required("source")?;
        let mut file = reference(filled(&source_at)?);
        for (key, field) in [
            ("target", &mut file.target),
            ("uid", &mut file.uid),
            ("gid", &mut file.gid),
        ] {
            if let Some(at) = map.get(key) {
                *field = filled(&at)?.to_owned();
            }
        }
        if let Some(at) = map.get("mode") {
            file.mode = mode(&at)?;
        }
        Some((file, source_at))
    } else {
        Some((reference(filled(at)?), at.clone()))
    }
}

/// Permission bits. A decimal number is legal and nearly always an octal one without its `0`.
fn mode(at: &Cursor<'_>) -> Option<u32> {
    let written = at.node().written.as_deref().unwrap_or_default();
    if let Value::String(_) = at.node().value
        && written.starts_with('0')
        && let Ok(bits) = u32::from_str_radix(written.trim_start_matches("0o"), 8)
        && bits <= 0o7777
    {
        return Some(bits);
    }
    let bits = integer(at, 0..=0o7777)?;
    if bits > 0 && !written.starts_with('0') {
        at.warn(format!(
            "this decimal number stands for the mode {bits:04o}; octal ones begin with `0`"
        ));
    }
    Some(bits)
}

fn healthcheck(at: &Cursor<'_>) -> Option<Healthcheck> {
    let map = extensible(
        at,
        &[
            "test",
            "disable",
            "interval",
            "timeout",
            "retries",
            "start_period",
            "start_interval",
        ],
        &[],
    )?;
    let disable = optional(&map, "disable", boolean)?;
    let test = match map.get("test") {
        None => Vec::new(),
        Some(at) => {
            if disable {
                at.refuse("a check that is disabled has no test");
                return None;
            }
            match at.node().value {
                Value::List(_) => {
                    let test = texts(&at)?;
                    let kind = test.first().map(String::as_str);
                    if !matches!(kind, None | Some("CMD" | "CMD-SHELL" | "NONE")) {
                        at.refuse("a test in list form begins with `CMD`, `CMD-SHELL` or `NONE`");
                        return None;
                    }
                    test
                }
                _ => vec!["CMD-SHELL".to_owned(), filled(&at)?.to_owned()],
            }
        }
    };
    if disable {
        return Some(Healthcheck {
            test: vec!["NONE".to_owned()],
            ..Healthcheck::default()
        });
    }
    Some(Healthcheck {
        test,
        interval: present(&map, "interval", time)?,
        timeout: present(&map, "timeout", time)?,
        retries: present(&map, "retries", |at| {
            integer(at, 0..=i32::MAX.unsigned_abs())
        })?,
        start_period: present(&map, "start_period", time)?,
        start_interval: present(&map, "start_interval", time)?,
    })
}

fn extra_hosts(at: &Cursor<'_>) -> Option<Vec<String>> {
    let entry = |item: &Cursor<'_>, host: &str, address: &str| {
        let address = address.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || address.parse::<IpAddr>().is_err() && address != "host-gateway" {
            item.refuse("a host is written `name:address`, with an IP address");
            return None;
        }
        Some(format!("{address} {host}"))
    };
    if let Value::List(_) = at.node().value {
        return at.each(|item| {
            let text = text(&item)?;
            let (host, address) = text
                .split_once('=')
                .or_else(|| text.split_once(':'))
                .unwrap_or((text, ""));
            entry(&item, host, address)
        });
    }
    let sorted: BTreeMap<&str, Cursor<'_>> = at
        .entries()?
        .into_iter()
        .map(|(host, _, value)| (host, value))
        .collect();
    Some(
        sorted
            .iter()
            .filter_map(|(host, value)| entry(value, host, text(value)?))
            .collect(),
    )
}

fn dns(at: &Cursor<'_>) -> Option<Vec<IpAddr>> {
    let read = |item: &Cursor<'_>| {
        let address = text(item)?.parse();
        if address.is_err() {
            item.refuse("a name server is an IP address");
        }
        address.ok()
    };
    match at.node().value {
        Value::List(_) => at.each(|item| read(&item)),
        _ => read(at).map(|address| vec![address]),
    }
}

/// Capabilities added and dropped, as the docker CLI joins them: `ALL` stands for every other in
/// its list, and what is added is not dropped.
fn capabilities(map: &Fields<'_>) -> Option<(Vec<String>, Vec<String>)> {
    let read = |at: &Cursor<'_>| {
        let names = at.each(|item| {
            let name = text(&item)?.to_ascii_uppercase();
            let letters = |c: char| c.is_ascii_uppercase() || c == '_';
            if name.is_empty() || name == "RESET" || !name.chars().all(letters) {
                item.refuse("a capability is written like `NET_ADMIN` or `CAP_NET_ADMIN`, and all of them `ALL`");
                return None;
            }
            Some(if name == "ALL" || name.starts_with("CAP_") {
                name
            } else {
                format!("CAP_{name}")
            })
        })?;
        let mut names: BTreeSet<String> = names.into_iter().collect();
        if names.contains("ALL") {
            names.retain(|name| name == "ALL");
        }
        Some(names)
    };
    let add = optional(map, "cap_add", read);
    let drop = optional(map, "cap_drop", read);
    let (add, mut drop) = (add?, drop?);
    drop.retain(|name| !add.contains(name));
    Some((add.into_iter().collect(), drop.into_iter().collect()))
}

fn ulimits(at: &Cursor<'_>) -> Option<BTreeMap<String, Ulimit>> {
    let mut ulimits = BTreeMap::new();
    for (name, _, value) in at.entries()? {
        let limit = if let Value::Map(_) = value.node().value {
            let map = fields(&value, &["soft", "hard"], &[])?;
            let soft = integer(&map.required("soft")?, -1..=i64::MAX)?;
            let hard = integer(&map.required("hard")?, -1..=i64::MAX)?;
            if hard >= 0 && (soft > hard || soft < 0) {
                value.refuse("the soft limit is above the hard one");
            }
            Ulimit { soft, hard }
        } else {
            let both = integer(&value, -1..=i64::MAX)?;
            Ulimit {
                soft: both,
                hard: both,
            }
        };
        ulimits.insert(name.to_owned(), limit);
    }
    Some(ulimits)
}

fn logging(at: &Cursor<'_>) -> Option<Logging> {
    let map = extensible(at, &["driver", "options"], &[])?;
    Some(Logging {
        driver: optional(&map, "driver", |at| text(at).map(str::to_owned))?,
        options: optional(&map, "options", options)?,
    })
}

fn depends_on(at: &Cursor<'_>, declared: &Declared<'_>) -> Option<Vec<String>> {
    if let Value::Map(_) = at.node().value {
        at.refuse("only a list of services is supported here; every one is waited for until it has converged");
        return None;
    }
    at.each(|item| {
        let name = text(&item)?;
        if !declared.services.contains(&name) {
            undefined(&item, "service", name, declared.services);
            return None;
        }
        Some(name.to_owned())
    })
}
