//! What a compose file declares beside services: networks, volumes, configs and secrets.
//!
//! Invariants: what is external is only named; what the stack makes has a name that the engine
//! takes; a secret's content stays out of the model, or in [`SecretBytes`].

use std::collections::BTreeMap;
use std::path::Path;

use indexmap::IndexMap;

use crate::ground::SecretBytes;
use crate::ground::document::{Cursor, Fields, Position, Value};

use super::load::scoped;
use super::model::{
    ConfigDeclaration, NetworkDeclaration, ObjectSource, Place, SecretDeclaration,
    VolumeDeclaration,
};
use super::options::{Dialect, LoadOptions};
use super::reading::{boolean, extensible, fields, filled, labels, optional, options, text};
use super::service::place;

/// The longest names the engine takes.
const LONGEST_NAME: usize = 63;
const LONGEST_OBJECT_NAME: usize = 64;
/// Configs and secrets hold less than this.
const LARGEST_CONFIG: usize = 1_024_000;
const LARGEST_SECRET: usize = 512_000;

/// Drivers whose networks, as a stack makes them, are those of one node.
const OF_ONE_NODE: &[&str] = &["bridge", "host", "ipvlan", "macvlan", "none", "null"];

/// How declarations are read.
#[derive(Clone, Copy)]
pub(super) struct Declaring<'a> {
    pub(super) stack: &'a str,
    pub(super) directory: &'a Path,
    pub(super) options: &'a LoadOptions,
    /// Whether this is the whole stack and not one of several files of it, of which another may
    /// name another file.
    pub(super) whole: bool,
}

/// The declarations under `key`, each read by `read` from its value, its key and the key's
/// position.
pub(super) fn section<'d, T>(
    map: &Fields<'d>,
    key: &str,
    read: impl Fn(&Cursor<'d>, &'d str, Position) -> Option<T>,
) -> Option<IndexMap<String, T>> {
    let Some(section) = map.get(key) else {
        return Some(IndexMap::new());
    };
    let mut declarations = IndexMap::new();
    for (key, position, at) in section.entries()? {
        if let Some(declaration) = read(&at, key, position) {
            declarations.insert(key.to_owned(), declaration);
        }
    }
    Some(declarations)
}

/// The text under `key`; an empty one is as good as none.
fn own(map: &Fields<'_>, key: &str) -> Option<Option<String>> {
    optional(map, key, |at| {
        let text = text(at)?;
        Some((!text.is_empty()).then(|| text.to_owned()))
    })
}

/// Whether the object is external, and its name. What else is written there is refused then, or
/// (where `forgotten`) forgotten.
fn external(map: &Fields<'_>, others: &[&str], forgotten: bool) -> Option<(bool, Option<String>)> {
    let mut name = own(map, "name")?;
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
            match map.get(key) {
                Some(other) if forgotten => {
                    other.warn("docker does not make what is external, and drops this key");
                }
                Some(other) => other.refuse(
                    "what is external is not made by this stack: only its `name` can be given",
                ),
                None => {}
            }
        }
    }
    Some((external, name))
}

/// Reads a network.
pub(super) fn network(
    at: &Cursor<'_>,
    key: &str,
    options_of_files: &LoadOptions,
) -> Option<NetworkDeclaration> {
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
    let own_keys = [
        "driver",
        "driver_opts",
        "attachable",
        "internal",
        "ipam",
        "labels",
    ];
    let (external, name) = external(&map, &own_keys, options_of_files.as_docker())?;
    let mut network = NetworkDeclaration {
        name: name.or_else(|| external.then(|| key.to_owned())),
        external,
        ..NetworkDeclaration::default()
    };
    network.driver = own(&map, "driver")?;
    if let (Some(driver), Some(at)) = (network.driver.as_deref(), map.get("driver"))
        && OF_ONE_NODE.contains(&driver)
        && !external
    {
        const MESSAGE: &str = "networks of this driver are those of one node, and the engine refuses \
                               services in them";
        if options_of_files.as_docker() {
            at.warn(MESSAGE);
        } else {
            at.refuse(format!(
                "{MESSAGE}: remove the key for an overlay network of all nodes, or name a network \
                 that is made apart from the stack as `external`"
            ));
        }
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
        network.ipam_driver = own(&map, "driver")?;
        if let Some(at) = map.get("config") {
            network.subnets = at.each(|item| {
                let map = fields(
                    &item,
                    &["subnet"],
                    &[("gateway", "compose files of stacks cannot choose a gateway")],
                )?;
                if options_of_files.as_docker() && map.get("subnet").is_none() {
                    item.warn("the key `subnet` is missing");
                    return Some(String::new());
                }
                let subnet = map.required("subnet")?;
                let written = text(&subnet)?;
                if !is_cidr(written) {
                    const FORM: &str = "a subnet is written like `10.20.0.0/24`";
                    // Docker leaves it to the engine, which hears of networks that are used.
                    if !options_of_files.as_docker() {
                        subnet.refuse(FORM);
                        return None;
                    }
                    subnet.warn(FORM);
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

const CLUSTER: &str = "a stack makes no cluster volumes (docker drops this key without a word): \
                       create the volume first, and make it `external` here";

pub(super) fn volume(at: &Cursor<'_>) -> Option<VolumeDeclaration> {
    if at.is_null() {
        return Some(VolumeDeclaration::default());
    }
    let map = extensible(
        at,
        &["name", "external", "driver", "driver_opts", "labels"],
        &[("x-cluster-spec", CLUSTER)],
    )?;
    if let Some(spec) = at.child("x-cluster-spec") {
        spec.refuse(CLUSTER);
        return None;
    }
    let (external, name) = external(&map, &["driver", "driver_opts", "labels"], false)?;
    let mut volume = VolumeDeclaration {
        name,
        external,
        ..VolumeDeclaration::default()
    };
    volume.driver = own(&map, "driver")?;
    if let Some(at) = map.get("driver_opts") {
        volume.driver_opts = Some(options(&at)?);
    }
    if let Some(at) = map.get("labels") {
        volume.labels = labels(&at)?;
    }
    Some(volume)
}

/// Reads a config.
pub(super) fn config(
    at: &Cursor<'_>,
    key: &str,
    position: Position,
    how: Declaring<'_>,
) -> Option<ConfigDeclaration> {
    const ONLY_FILES: &str = "a config comes from a `file`; the compose dialect knows this key";
    let mut known = vec!["name", "external", "file", "labels", "template_driver"];
    let mut refused = Vec::new();
    match how.options.dialect {
        Dialect::Compose => known.extend(["content", "environment"]),
        Dialect::Swarm => {
            refused.extend([("content", ONLY_FILES), ("environment", ONLY_FILES)]);
        }
    }
    let map = extensible(at, &known, &refused)?;
    let own_keys = [
        "file",
        "content",
        "environment",
        "labels",
        "template_driver",
    ];
    let (external, name) = external(&map, &own_keys, how.options.as_docker())?;
    let labels = declared_labels(&map)?;
    let template_driver = own(&map, "template_driver")?;
    let place = name_place(&map, at, position);
    let declaration = |content| ConfigDeclaration {
        name: name.clone(),
        content,
        template_driver,
        labels,
        place: place.clone(),
    };
    if external {
        return Some(declaration(None));
    }
    if !how.whole {
        optional(&map, "file", |at| text(at).map(drop))?;
        return Some(declaration(None));
    }
    let (source, from) = match how.options.dialect {
        Dialect::Swarm => ("file", map.required("file")?),
        Dialect::Compose => map.one_of(&["file", "content", "environment"])?,
    };
    let content = match source {
        "file" => file_content(&from, how)?,
        "content" => text(&from)?.as_bytes().to_vec(),
        _ => given(&from, how)?.as_bytes().to_vec(),
    };
    if content.is_empty() || content.len() >= LARGEST_CONFIG {
        from.refuse(format!(
            "a config holds from 1 to {} bytes, and this one has {}",
            LARGEST_CONFIG - 1,
            content.len()
        ));
    }
    check_object_name(at, (position, &map), how.stack, key, name.as_deref());
    Some(declaration(Some(content)))
}

fn file_content(at: &Cursor<'_>, how: Declaring<'_>) -> Option<Vec<u8>> {
    let path = how.directory.join(filled(at)?);
    match super::load::content(&path) {
        Ok(content) => Some(content),
        Err(error) => {
            at.refuse(format!(
                "the file {} cannot be read: {error}",
                path.display()
            ));
            None
        }
    }
}

/// The value of the variable that is named at `at`.
fn given<'a>(at: &Cursor<'_>, how: Declaring<'a>) -> Option<&'a str> {
    let name = filled(at)?;
    let value = how.options.variables().get(name);
    if value.is_none() {
        at.refuse("the variable is not set");
    }
    value.map(String::as_str)
}

/// Reads a secret.
pub(super) fn secret(
    at: &Cursor<'_>,
    key: &str,
    position: Position,
    how: Declaring<'_>,
) -> Option<SecretDeclaration> {
    let mut known = vec![
        "name",
        "external",
        "file",
        "labels",
        "driver",
        "driver_opts",
        "template_driver",
    ];
    let mut refused = Vec::new();
    match how.options.dialect {
        Dialect::Compose => known.push("environment"),
        Dialect::Swarm => refused.push((
            "environment",
            "a secret comes from a `file`, or is external; the compose dialect knows this key",
        )),
    }
    let map = extensible(at, &known, &refused)?;
    let own_keys = [
        "file",
        "environment",
        "labels",
        "driver",
        "driver_opts",
        "template_driver",
    ];
    let (external, name) = external(&map, &own_keys, how.options.as_docker())?;
    let labels = declared_labels(&map)?;
    let template_driver = own(&map, "template_driver")?;
    let driver = own(&map, "driver")?;
    let driver_options = optional(&map, "driver_opts", options)?;
    let place = name_place(&map, at, position);
    let source = if external {
        ObjectSource::External
    } else if let Some(driver) = driver {
        for key in ["file", "environment"] {
            if let Some(other) = map.get(key) {
                other.refuse("the `driver` makes the content up: remove one of the two");
            }
        }
        ObjectSource::Driver {
            name: driver,
            options: driver_options,
        }
    } else if !how.whole {
        optional(&map, "file", |at| text(at).map(drop))?;
        ObjectSource::External
    } else {
        match map.get("driver_opts") {
            Some(options) if how.options.as_docker() => {
                options.warn("without a `driver` docker drops this key");
            }
            Some(options) => options.refuse("without a `driver` these options mean nothing"),
            None => {}
        }
        secret_source(&map, how)?
    };
    if how.whole && source != ObjectSource::External {
        check_object_name(at, (position, &map), how.stack, key, name.as_deref());
    }
    Some(SecretDeclaration {
        name,
        source,
        template_driver,
        labels,
        place,
    })
}

fn secret_source(map: &Fields<'_>, how: Declaring<'_>) -> Option<ObjectSource> {
    let (source, from) = match how.options.dialect {
        Dialect::Swarm => ("file", map.required("file")?),
        Dialect::Compose => map.one_of(&["file", "environment"])?,
    };
    if source == "environment" {
        let value = given(&from, how)?;
        if value.is_empty() || value.len() >= LARGEST_SECRET {
            from.refuse(format!(
                "a secret holds from 1 to {} bytes, and this one has {}",
                LARGEST_SECRET - 1,
                value.len()
            ));
        }
        return Some(ObjectSource::Given(SecretBytes::from(value.to_owned())));
    }
    let path = how.directory.join(filled(&from)?);
    // Only whether it is there: its content stays out of the model.
    match std::fs::metadata(&path) {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => from.refuse(format!("{} is no file", path.display())),
        Err(error) => from.refuse(format!(
            "the file {} cannot be read: {error}",
            path.display()
        )),
    }
    Some(ObjectSource::File(path))
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
        Some(name) => place(&name),
        None => Place {
            position: at.reader().locate(key).1,
            ..place(at)
        },
    }
}

/// The engine's rule for names of services and networks.
pub(super) fn check_name(at: &Cursor<'_>, position: Position, what: &str, name: &str) {
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

/// The engine's rule for names of secrets and configs, of which later versions have longer ones.
fn check_object_name(
    at: &Cursor<'_>,
    (position, map): (Position, &Fields<'_>),
    stack: &str,
    key: &str,
    name: Option<&str>,
) {
    let (position, path) = match map.get("name") {
        Some(name) => (name.position(), name.path().to_owned()),
        None => (position, at.path().to_owned()),
    };
    let name = name.map_or_else(|| scoped(stack, key), str::to_owned);
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let longest = LONGEST_OBJECT_NAME;
    let message = if !name.starts_with(|c: char| c.is_ascii_alphanumeric())
        || !name.chars().all(inner)
    {
        format!(
            "it would be named `{name}`, and a name consists of letters, digits, `-`, `_` and `.`, with a letter or digit first"
        )
    } else if name.len() > longest {
        format!(
            "it would be named `{name}`, which has {} characters; {longest} are allowed",
            name.len()
        )
    } else {
        return;
    };
    at.reader().report(position, path, None, message, None);
}
