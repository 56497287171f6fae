//! A compose file from its text to the model: parse, replace variables, validate.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;

use crate::ground::document::{
    Cursor, Document, Fields, Position, Problem, Problems, Reader, Value,
};

use super::interpolate::{Variables, interpolate};
use super::model::{
    ConfigDeclaration, NetworkDeclaration, ObjectSource, Place, SecretDeclaration, Service,
    VolumeDeclaration,
};
use super::reading::{boolean, extensible, fields, filled, labels, options, text};
use super::service::{Declared, service};

/// The longest names the engine takes.
const LONGEST_NAME: usize = 63;
const LONGEST_OBJECT_NAME: usize = 64;
/// Configs hold less than this.
const LARGEST_CONFIG: usize = 1_024_000;

/// A compose file that describes a stack, validated: every reference within it resolves.
#[derive(Debug, Clone)]
pub struct ComposeFile {
    pub(super) source: PathBuf,
    pub(super) stack: String,
    pub(super) services: IndexMap<String, Service>,
    pub(super) networks: IndexMap<String, NetworkDeclaration>,
    pub(super) volumes: IndexMap<String, VolumeDeclaration>,
    pub(super) configs: IndexMap<String, ConfigDeclaration>,
    pub(super) secrets: IndexMap<String, SecretDeclaration>,
    warnings: Vec<Problem>,
}

impl ComposeFile {
    /// Reads the compose file at `path` that is deployed as `stack`. `variables` are those for
    /// `${NAME}`; the environment of the process is not used. Relative paths in the file are
    /// relative to its directory; files it names (`env_file`, configs) are read too.
    ///
    /// # Errors
    /// Everything that is wrong with the file, each with its position.
    pub fn load(path: &Path, stack: &str, variables: &Variables) -> Result<Self, Problems> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(path, &text, stack, variables),
            Err(error) => Err(Problems::from(Problem {
                source: path.into(),
                position: Position { line: 1, column: 1 },
                path: String::new(),
                offending: None,
                message: format!("the file cannot be read: {error}"),
                suggestion: None,
            })),
        }
    }

    /// As [`Self::load`], from the `text` of the file at `path`.
    ///
    /// # Errors
    /// As for [`Self::load`].
    pub fn parse(
        path: &Path,
        text: &str,
        stack: &str,
        variables: &Variables,
    ) -> Result<Self, Problems> {
        let directory = path.parent().unwrap_or(Path::new(""));
        let directory = if directory.as_os_str().is_empty() {
            Path::new(".")
        } else {
            directory
        };
        // Fails on an empty path only.
        let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
        let document = interpolate(Document::parse(path, text)?, variables)?;
        let reader = Reader::new(&document);
        let read = file(&reader.root(), stack, &directory, variables);
        let warnings = reader.finish()?;
        match read {
            Some(file) => Ok(Self {
                source: path.to_owned(),
                warnings,
                ..file
            }),
            // Unreachable as long as whatever is not read was reported; an empty list of
            // problems would be worse than one without words.
            None => Err(Problems::from(Problem {
                source: path.into(),
                position: document.root().position,
                path: String::new(),
                offending: None,
                message: "the file cannot be understood".to_owned(),
                suggestion: None,
            })),
        }
    }

    /// The file it was read from.
    #[must_use]
    pub fn source(&self) -> &Path {
        &self.source
    }

    /// The stack's name.
    #[must_use]
    pub fn stack(&self) -> &str {
        &self.stack
    }

    /// The services by their keys, in the order of the file.
    #[must_use]
    pub fn services(&self) -> &IndexMap<String, Service> {
        &self.services
    }

    /// What is suspicious in the file, and allowed.
    #[must_use]
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// A problem at `place` in this file, for what only its user can find out.
    #[must_use]
    pub fn problem(
        &self,
        place: &Place,
        offending: Option<&str>,
        message: impl Into<String>,
        suggestion: Option<String>,
    ) -> Problem {
        Problem {
            source: self.source.as_path().into(),
            position: place.position,
            path: place.path.clone(),
            offending: offending.map(crate::ground::document::quoted),
            message: message.into(),
            suggestion,
        }
    }

    /// The name in the swarm of what has `key` in the file: `<stack>_<key>`.
    #[must_use]
    pub fn scoped(&self, key: &str) -> String {
        scoped(&self.stack, key)
    }
}

fn scoped(stack: &str, key: &str) -> String {
    format!("{stack}_{key}")
}

fn file(
    root: &Cursor<'_>,
    stack: &str,
    directory: &Path,
    variables: &Variables,
) -> Option<ComposeFile> {
    let map = extensible(
        root,
        &[
            "version", "services", "networks", "volumes", "configs", "secrets",
        ],
        &[
            ("name", "the stack has its name from where it is declared"),
            ("include", "other files cannot be included"),
        ],
    )?;
    if let Some(at) = map.get("version") {
        version(&at);
    }
    let networks = section(&map, "networks", |at, _, key, position| {
        network(at, key, position)
    });
    let volumes = section(&map, "volumes", |at, _, _, _| volume(at));
    let configs = section(&map, "configs", |at, _, key, position| {
        config(at, stack, key, position, directory)
    });
    let secrets = section(&map, "secrets", |at, _, key, position| {
        secret(at, stack, key, position, directory)
    });
    let services_at = map.required("services")?;
    let entries = services_at.entries()?;
    if entries.is_empty() {
        services_at.refuse("a stack needs at least one service");
    }
    let keys = |section: &str| -> Vec<&str> {
        match map.get(section).map(|at| &at.node().value) {
            Some(Value::Map(map)) => map.iter().map(|entry| entry.key.as_str()).collect(),
            _ => Vec::new(),
        }
    };
    let declared = Declared {
        directory,
        variables,
        services: &keys("services"),
        networks: &keys("networks"),
        volumes: &keys("volumes"),
        configs: &keys("configs"),
        secrets: &keys("secrets"),
    };
    let mut services = IndexMap::new();
    for (key, position, at) in entries {
        check_name(&at, position, "service", &scoped(stack, key));
        if let Some(service) = service(&at, &declared) {
            services.insert(key.to_owned(), service);
        }
    }
    refuse_cycles(&services_at, &services);
    let file = ComposeFile {
        source: PathBuf::new(),
        stack: stack.to_owned(),
        services,
        networks: networks?,
        volumes: volumes?,
        configs: configs?,
        secrets: secrets?,
        warnings: Vec::new(),
    };
    check_network_names(&map, &file);
    Some(file)
}

fn version(at: &Cursor<'_>) {
    let Some(version) = text(at) else { return };
    let minor = match version {
        "" | "3" => Some(0),
        _ => version
            .strip_prefix("3.")
            .filter(|minor| !minor.starts_with('0') || *minor == "0")
            .and_then(|minor| minor.parse::<u8>().ok()),
    };
    if minor.is_none_or(|minor| minor > 13) {
        at.refuse("only the versions 3 and 3.0 to 3.13 describe stacks; the key can be left out");
    }
}

/// The declarations under `key`, each read by `read` from its value, the section, its key and the
/// key's position.
fn section<'d, T>(
    map: &Fields<'d>,
    key: &str,
    read: impl Fn(&Cursor<'d>, &Cursor<'d>, &'d str, Position) -> Option<T>,
) -> Option<IndexMap<String, T>> {
    let Some(section) = map.get(key) else {
        return Some(IndexMap::new());
    };
    let mut declarations = IndexMap::new();
    if section.is_null() {
        return Some(declarations);
    }
    for (key, position, at) in section.entries()? {
        if let Some(declaration) = read(&at, &section, key, position) {
            declarations.insert(key.to_owned(), declaration);
        }
    }
    Some(declarations)
}

/// Whether the object is external, and its name. What else is written there is refused then.
fn external(map: &Fields<'_>, others: &[&str]) -> Option<(bool, Option<String>)> {
    let mut name = match map.get("name") {
        Some(at) => Some(filled(&at)?.to_owned()),
        None => None,
    };
    let Some(at) = map.get("external") else {
        return Some((false, name));
    };
    let external = if let Value::Map(_) = at.node().value {
        if let Some(inner) = fields(&at, &["name"], &[])?.get("name") {
            let inner_name = filled(&inner)?;
            if name.is_some() {
                inner.refuse("`name` beside `external` says the same; remove one of the two");
            }
            name = Some(inner_name.to_owned());
        }
        true
    } else {
        boolean(&at)?
    };
    if external {
        for key in others {
            if let Some(other) = map.get(key) {
                other.refuse(
                    "what is external is not made by this stack: only its `name` can be given",
                );
            }
        }
    }
    Some((external, name))
}

fn network(at: &Cursor<'_>, key: &str, _: Position) -> Option<NetworkDeclaration> {
    if at.is_null() {
        return Some(NetworkDeclaration::default());
    }
    let map = extensible(
        at,
        &[
            "name",
            "external",
            "driver",
            "driver_opts",
            "attachable",
            "internal",
            "ipam",
            "labels",
        ],
        &[(
            "enable_ipv6",
            "compose files of stacks cannot ask for IPv6 networks; make the network apart from the stack",
        )],
    )?;
    let own = [
        "driver",
        "driver_opts",
        "attachable",
        "internal",
        "ipam",
        "labels",
    ];
    let (external, name) = external(&map, &own)?;
    let mut network = NetworkDeclaration {
        name: name.or_else(|| external.then(|| key.to_owned())),
        external,
        ..NetworkDeclaration::default()
    };
    if let Some(at) = map.get("driver") {
        network.driver = Some(filled(&at)?.to_owned());
    }
    if let Some(at) = map.get("driver_opts") {
        network.driver_opts = options(&at)?;
    }
    if let Some(at) = map.get("attachable") {
        network.attachable = boolean(&at)?;
    }
    if let Some(at) = map.get("internal") {
        network.internal = boolean(&at)?;
    }
    if let Some(at) = map.get("labels") {
        network.labels = labels(&at)?;
    }
    if let Some(at) = map.get("ipam") {
        let map = fields(&at, &["driver", "config"], &[])?;
        if let Some(at) = map.get("driver") {
            network.ipam_driver = Some(filled(&at)?.to_owned());
        }
        if let Some(at) = map.get("config") {
            network.subnets = at.each(|item| {
                let subnet = fields(
                    &item,
                    &["subnet"],
                    &[("gateway", "compose files of stacks cannot choose a gateway")],
                )?
                .required("subnet")?;
                let written = text(&subnet)?;
                if !is_cidr(written) {
                    subnet.refuse("a subnet is written like `10.20.0.0/24`");
                    return None;
                }
                Some(written.to_owned())
            })?;
        }
    }
    Some(network)
}

fn is_cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else {
        return false;
    };
    let Ok(address) = address.parse::<std::net::IpAddr>() else {
        return false;
    };
    let longest = if address.is_ipv4() { 32 } else { 128 };
    length.parse::<u8>().is_ok_and(|length| length <= longest)
}

fn volume(at: &Cursor<'_>) -> Option<VolumeDeclaration> {
    if at.is_null() {
        return Some(VolumeDeclaration::default());
    }
    let map = extensible(
        at,
        &["name", "external", "driver", "driver_opts", "labels"],
        &[("x-cluster-spec", "cluster volumes are not supported")],
    )?;
    if map.get("x-cluster-spec").is_some() {
        at.refuse("cluster volumes are not supported");
        return None;
    }
    let (external, name) = external(&map, &["driver", "driver_opts", "labels"])?;
    let mut volume = VolumeDeclaration {
        name,
        external,
        ..VolumeDeclaration::default()
    };
    if let Some(at) = map.get("driver") {
        volume.driver = Some(filled(&at)?.to_owned());
    }
    if let Some(at) = map.get("driver_opts") {
        volume.driver_opts = Some(options(&at)?);
    }
    if let Some(at) = map.get("labels") {
        volume.labels = labels(&at)?;
    }
    Some(volume)
}

fn config(
    at: &Cursor<'_>,
    stack: &str,
    key: &str,
    position: Position,
    directory: &Path,
) -> Option<ConfigDeclaration> {
    let map = extensible(
        at,
        &["name", "external", "file", "labels"],
        &[
            ("template_driver", "templates in configs are not supported"),
            ("content", "a config comes from a `file`"),
            ("environment", "a config comes from a `file`"),
        ],
    )?;
    let (external, name) = external(&map, &["file", "labels"])?;
    let labels = declared_labels(&map)?;
    let place = name_place(&map, at, position);
    if external {
        return Some(ConfigDeclaration {
            name,
            content: None,
            labels,
            place,
        });
    }
    let file_at = map.required("file")?;
    let path = directory.join(filled(&file_at)?);
    let content = match std::fs::read(&path) {
        Ok(content) => content,
        Err(error) => {
            file_at.refuse(format!(
                "the file {} cannot be read: {error}",
                path.display()
            ));
            return None;
        }
    };
    if content.is_empty() || content.len() >= LARGEST_CONFIG {
        file_at.refuse(format!(
            "a config holds from 1 to {} bytes, and the file has {}",
            LARGEST_CONFIG - 1,
            content.len()
        ));
    }
    // The name is followed by a hyphen and twelve digits of the content's hash.
    check_object_name(at, &place, stack, key, name.as_deref(), 13);
    Some(ConfigDeclaration {
        name,
        content: Some(content),
        labels,
        place,
    })
}

fn secret(
    at: &Cursor<'_>,
    stack: &str,
    key: &str,
    position: Position,
    directory: &Path,
) -> Option<SecretDeclaration> {
    let map = extensible(
        at,
        &["name", "external", "file", "labels"],
        &[
            ("driver", "secrets of plugins are not supported"),
            ("driver_opts", "secrets of plugins are not supported"),
            ("template_driver", "templates in secrets are not supported"),
            ("environment", "a secret comes from a `file` or is external"),
        ],
    )?;
    let (external, name) = external(&map, &["file", "labels"])?;
    let labels = declared_labels(&map)?;
    let place = name_place(&map, at, position);
    let source = if external {
        ObjectSource::External
    } else {
        let file_at = map.required("file")?;
        let path = directory.join(filled(&file_at)?);
        // Only whether it is there: its content stays out of the model.
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => {}
            Ok(_) => file_at.refuse(format!("{} is no file", path.display())),
            Err(error) => {
                file_at.refuse(format!(
                    "the file {} cannot be read: {error}",
                    path.display()
                ));
            }
        }
        // The name is followed by a hyphen and sixteen digits of the content's fingerprint.
        check_object_name(at, &place, stack, key, name.as_deref(), 17);
        ObjectSource::File(path)
    };
    Some(SecretDeclaration {
        name,
        source,
        labels,
        place,
    })
}

fn declared_labels(map: &Fields<'_>) -> Option<BTreeMap<String, String>> {
    match map.get("labels") {
        Some(at) => labels(&at),
        None => Some(BTreeMap::new()),
    }
}

/// Where the name of a declared object is written; its key when it has no other name.
fn name_place(map: &Fields<'_>, at: &Cursor<'_>, key: Position) -> Place {
    match map.get("name") {
        Some(name) => super::service::place(&name),
        None => Place {
            position: key,
            path: at.path().to_owned(),
        },
    }
}

/// The engine's rule for names of services and networks.
fn check_name(at: &Cursor<'_>, position: Position, what: &str, name: &str) {
    let edge = |c: char| c.is_ascii_alphanumeric();
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let message = if !name.starts_with(edge) || !name.ends_with(edge) || !name.chars().all(inner) {
        format!(
            "the {what} would be named `{name}`, and a name consists of letters, digits, `-` and `_`, with a letter or digit at both ends"
        )
    } else if name.len() > LONGEST_NAME {
        format!(
            "the {what} would be named `{name}`, which has {} characters; {LONGEST_NAME} are allowed",
            name.len()
        )
    } else {
        return;
    };
    at.reader().report(position, at.path(), None, message, None);
}

/// The engine's rule for names of secrets and configs, of which `appended` characters are to come.
fn check_object_name(
    at: &Cursor<'_>,
    place: &Place,
    stack: &str,
    key: &str,
    name: Option<&str>,
    appended: usize,
) {
    let name = name.map_or_else(|| scoped(stack, key), str::to_owned);
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let longest = LONGEST_OBJECT_NAME - appended;
    let message = if !name.starts_with(|c: char| c.is_ascii_alphanumeric())
        || !name.chars().all(inner)
    {
        format!(
            "it would be named `{name}`, and a name consists of letters, digits, `-`, `_` and `.`, with a letter or digit first"
        )
    } else if name.len() > longest {
        format!(
            "it would be named `{name}`, which has {} characters; {longest} are allowed before the hash of the content",
            name.len()
        )
    } else {
        return;
    };
    at.reader()
        .report(place.position, &place.path, None, message, None);
}

fn check_network_names(map: &Fields<'_>, file: &ComposeFile) {
    let Some(at) = map.get("networks") else {
        return;
    };
    if at.is_null() {
        return;
    }
    for (key, position, value) in at.entries().unwrap_or_default() {
        if let Some(network) = file.networks.get(key)
            && !network.external
        {
            let name = network.name.clone().unwrap_or_else(|| file.scoped(key));
            check_name(&value, position, "network", &name);
        }
    }
}

/// Reports services that wait for themselves by way of others.
fn refuse_cycles(at: &Cursor<'_>, services: &IndexMap<String, Service>) {
    for key in services.keys() {
        let mut way = vec![key.as_str()];
        let mut seen = vec![];
        if find_way(services, key, &mut way, &mut seen) {
            // Each cycle is reported once, at its first service in the file.
            let first = way
                .iter()
                .filter_map(|key| services.get_index_of(*key))
                .min();
            if first == services.get_index_of(key)
                && let Some(service) = services.get(key)
            {
                way.push(key);
                at.reader().report(
                    service.image_place.position,
                    format!("services.{key}.depends_on"),
                    None,
                    format!("these services wait for each other: {}", way.join(" -> ")),
                    None,
                );
            }
        }
    }
}

/// Extends `way`, which begins at some service, until the next step would lead back to `goal`.
fn find_way<'a>(
    services: &'a IndexMap<String, Service>,
    goal: &str,
    way: &mut Vec<&'a str>,
    seen: &mut Vec<&'a str>,
) -> bool {
    let Some(service) = way.last().and_then(|key| services.get(*key)) else {
        return false;
    };
    for next in &service.depends_on {
        if next == goal {
            return true;
        }
        if seen.contains(&next.as_str()) {
            continue;
        }
        seen.push(next);
        way.push(next);
        if find_way(services, goal, way, seen) {
            return true;
        }
        way.pop();
    }
    false
}
