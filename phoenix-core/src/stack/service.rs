//! A service of a compose file, read into the model.
//!
//! Invariants: what a service refers to is declared in the file; a key that a swarm has no use for
//! is an error that says so.

use std::path::Path;

use indexmap::IndexSet;

use crate::ground::document::{Cursor, Fields, Value};

use super::attachments::{attachments, files};
use super::container::{capabilities, dns, extra_hosts, healthcheck, logging, ulimits};
use super::deploy::{deploy, restart};
use super::image::Image;
use super::keys::{KEYS, REFUSED};
use super::model::{
    Condition, CredentialSpec, Dependency, Deploy, EndpointMode, MountKind, Place, PublishMode,
    Service,
};
use super::options::{Dialect, LoadOptions};
use super::reading::{
    boolean, extensible, fields, labels, one_or_more, optional, present, text, texts, time,
    undefined,
};
use super::{environment, ports, volumes, words};

/// The names of what a file declares, in one of its sections.
pub(super) struct Names<'a>(IndexSet<&'a str>);

impl<'a> Names<'a> {
    pub(super) fn new(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self(names.into_iter().collect())
    }

    fn contains(&self, name: &str) -> bool {
        self.0.contains(name)
    }
}

/// What the services of a file may refer to, and how they are read.
pub(super) struct Declared<'a> {
    pub(super) directory: &'a Path,
    pub(super) options: &'a LoadOptions,
    /// Whether this is the whole stack and not one of several files of it.
    pub(super) whole: bool,
    pub(super) services: &'a Names<'a>,
    pub(super) networks: &'a Names<'a>,
    pub(super) volumes: &'a Names<'a>,
    pub(super) configs: &'a Names<'a>,
    pub(super) secrets: &'a Names<'a>,
}

impl Declared<'_> {
    /// Whether `name` is among the `known`; otherwise it is reported at `at`. What one of several
    /// files refers to may be declared in another.
    pub(super) fn knows(&self, at: &Cursor<'_>, what: &str, name: &str, known: &Names<'_>) -> bool {
        let found = !self.whole || known.contains(name);
        if !found {
            undefined(at, what, name, known.0.iter().copied());
        }
        found
    }

    /// Whether what docker lets pass is let pass.
    pub(super) fn as_docker(&self) -> bool {
        self.options.as_docker()
    }

    /// Whether this is one of several files, of which docker looks at the whole only: what does
    /// not go together may be mended by another file.
    pub(super) fn is_docker_part(&self) -> bool {
        !self.whole && self.as_docker()
    }
}

pub(super) fn place(at: &Cursor<'_>) -> Place {
    let (source, position) = at.source();
    Place {
        source,
        position,
        path: at.path().to_owned(),
    }
}

/// Reads a service.
pub(super) fn service(at: &Cursor<'_>, declared: &Declared<'_>) -> Option<Service> {
    let map = extensible(at, KEYS, REFUSED)?;
    let image_at = if declared.whole {
        map.required("image")
    } else {
        map.get("image")
    };
    let image = match &image_at {
        // Another file may have another one, and that is looked at.
        Some(at) if declared.is_docker_part() => text(at).and(Image::parse("image").ok()),
        Some(at) => image(at),
        None => None,
    };

    let mounts = mounts(&map, declared);
    let deploy = service_deploy(&map, declared);
    let ports = optional(&map, "ports", ports::ports);
    if let (Some(ports), Some(deploy)) = (&ports, &deploy)
        && deploy.endpoint_mode == Some(EndpointMode::Dnsrr)
        && !declared.is_docker_part()
        && ports
            .iter()
            .any(|port| port.mode != Some(PublishMode::Host))
        && let Some(at) = map.get("ports")
    {
        at.refuse("with `endpoint_mode: dnsrr` every port needs `mode: host` (in the long form)");
    }
    let environment = environment::environment(at, declared.directory, declared.options);
    let networks = optional(&map, "networks", |at| attachments(at, declared));
    let configs = optional(&map, "configs", |at| {
        files(at, declared, "config", declared.configs)
    });
    let secrets = optional(&map, "secrets", |at| {
        files(at, declared, "secret", declared.secrets)
    });
    let capabilities = capabilities(&map);
    let depends_on = optional(&map, "depends_on", |at| depends_on(at, declared));
    // An empty text is as good as none, which is how variables leave a key out.
    let own = |key| optional(&map, key, |at| text(at).map(unless_empty));
    let flag = |key| optional(&map, key, boolean);

    let command = optional(&map, "command", command_words);
    let entrypoint = optional(&map, "entrypoint", command_words);
    let service_labels = optional(&map, "labels", labels);
    let healthcheck = present(&map, "healthcheck", |at| healthcheck(at, declared));
    let hostname = own("hostname");
    let user = own("user");
    let working_dir = own("working_dir");
    let stop_grace_period = present(&map, "stop_grace_period", time);
    let stop_signal = own("stop_signal");
    let init = present(&map, "init", boolean);
    let (tty, stdin_open, read_only) = (flag("tty"), flag("stdin_open"), flag("read_only"));
    let extra_hosts = optional(&map, "extra_hosts", |at| extra_hosts(at, declared));
    let dns = present(&map, "dns", dns);
    let dns_search = present(&map, "dns_search", one_or_more);
    let sysctls = optional(&map, "sysctls", labels);
    let ulimits = optional(&map, "ulimits", ulimits);
    let logging = present(&map, "logging", logging);
    let isolation = own("isolation");
    let credential_spec = optional(&map, "credential_spec", |at| credential_spec(at, declared));
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
        isolation: isolation?,
        credential_spec: credential_spec?,
    })
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

fn unless_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn mounts(map: &Fields<'_>, declared: &Declared<'_>) -> Option<Vec<super::model::Mount>> {
    let mut mounts = Vec::new();
    if let Some(at) = map.get("volumes") {
        let items = at.items()?;
        mounts = volumes::volumes(&at, declared)?;
        for mount in &mounts {
            let key = match &mount.kind {
                MountKind::Volume { key: Some(key), .. } => key,
                MountKind::Cluster { source } if !source.starts_with("group:") => source,
                _ => continue,
            };
            if let Some(item) = items.iter().find(|item| item.path() == mount.place.path) {
                let source = item.child("source");
                declared.knows(
                    source.as_ref().unwrap_or(item),
                    "volume",
                    key,
                    declared.volumes,
                );
            }
        }
    }
    if let Some(at) = map.get("tmpfs") {
        mounts.extend(volumes::tmpfs(&at)?);
    }
    // Of one of several files docker keeps the last mount of a target, when it merges them.
    if !declared.is_docker_part() {
        volumes::refuse_shared_targets(map, &mounts);
    }
    Some(mounts)
}

/// The credential spec of a Windows container; an empty one is none.
fn credential_spec(at: &Cursor<'_>, declared: &Declared<'_>) -> Option<Option<CredentialSpec>> {
    const KINDS: &[&str] = &["config", "file", "registry"];
    let map = fields(at, KINDS, &[])?;
    let mut given = Vec::new();
    for kind in KINDS {
        if let Some(at) = map.get(kind) {
            let text = text(&at)?;
            if !text.is_empty() {
                given.push((*kind, text.to_owned(), at));
            }
        }
    }
    let Some((kind, text, text_at)) = given.pop() else {
        return Some(None);
    };
    if !given.is_empty() && !declared.is_docker_part() {
        at.refuse("only one of `config`, `file` and `registry` can be given");
        return None;
    }
    Some(Some(match kind {
        "config" => {
            if !declared.knows(&text_at, "config", &text, declared.configs) {
                return None;
            }
            CredentialSpec::Config(text)
        }
        "file" => CredentialSpec::File(text),
        _ => CredentialSpec::Registry(text),
    }))
}

fn service_deploy(map: &Fields<'_>, declared: &Declared<'_>) -> Option<Deploy> {
    let mut read = optional(map, "deploy", |at| deploy(at, declared))?;
    // An empty text is as good as none.
    if let Some(at) = map.get("restart").filter(|at| at.node().text() != Some("")) {
        if declared.is_docker_part() {
            text(&at)?;
            return Some(read);
        }
        let policy = restart(&at)?;
        match (declared.as_docker(), &read.restart_policy) {
            (true, Some(_)) => {
                at.warn("docker takes `deploy.restart_policy` and ignores this key");
            }
            (true, None) if policy.condition == Some("none") => at.warn(
                "docker drops this, and the engine restarts what ends; \
                 `deploy: {restart_policy: {condition: none}}` would not",
            ),
            (false, Some(_)) => {
                at.refuse("`deploy.restart_policy` says the same; remove one of the two");
            }
            _ => read.restart_policy = Some(policy),
        }
    }
    Some(read)
}

const CONDITIONS: &[(&str, Condition)] = &[
    ("service_started", Condition::Started),
    ("service_healthy", Condition::Healthy),
    ("service_completed_successfully", Condition::Completed),
];

fn depends_on(at: &Cursor<'_>, declared: &Declared<'_>) -> Option<Vec<Dependency>> {
    if let Value::Map(_) = at.node().value {
        if declared.options.dialect == Dialect::Swarm {
            at.refuse("only a list of services is allowed in a file of the swarm's dialect; every one is waited for until it has converged");
            return None;
        }
        let mut dependencies = Vec::new();
        for (name, _, value) in at.entries()? {
            let map = fields(&value, &["condition", "restart", "required"], &[])?;
            let condition = match map.get("condition") {
                Some(at) => at.word(CONDITIONS)?,
                None => Condition::Started,
            };
            optional(&map, "restart", boolean)?;
            let required = match map.get("required") {
                Some(at) => boolean(&at)?,
                None => true,
            };
            if !required && !declared.services.contains(name) {
                continue;
            }
            if declared.knows(&value, "service", name, declared.services) {
                dependencies.push(Dependency {
                    service: name.to_owned(),
                    condition,
                });
            }
        }
        return Some(dependencies);
    }
    let condition = match declared.options.dialect {
        Dialect::Swarm => Condition::Healthy,
        Dialect::Compose => Condition::Started,
    };
    at.each(|item| {
        let name = text(&item)?;
        declared
            .knows(&item, "service", name, declared.services)
            .then(|| Dependency {
                service: name.to_owned(),
                condition,
            })
    })
}
