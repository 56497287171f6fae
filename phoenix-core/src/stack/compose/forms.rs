//! Forms of values that only the compose dialect has, written as the swarm's has them.

use crate::ground::document::{Map, Node, Value, child_path};

use super::super::findings::{Findings, children, items, map_mut};

/// Maps of a service whose keys are names that are declared elsewhere, or of limits.
const NAMED: &[&str] = &["depends_on", "networks", "ulimits"];

/// Maps with keys of the operator's choice, in which nothing is an extension.
const FREE: &[&str] = &[
    "annotations",
    "args",
    "driver_opts",
    "environment",
    "extra_hosts",
    "labels",
    "options",
    "sysctls",
];
/// Maps of texts, of which a boolean is one too.
const TEXTS: &[&str] = &["environment", "labels", "sysctls"];

/// Rewrites the tree at `root`.
pub(super) fn apply(root: &mut Node, findings: &mut Findings) {
    plain(root, 0, false, false);
    for (key, service) in children(root, "services") {
        let path = child_path("services", key);
        let position = service.position;
        if let Some(service) = map_mut(service) {
            without_nothing(service);
            if let Some(deploy) = service.get_mut("deploy").and_then(map_mut) {
                without_nothing(deploy);
                numbers_as_texts(deploy);
                texts(deploy);
            }
            texts(service);
            for (index, port) in items(service, "ports") {
                of_port(port, &format!("{path}.ports[{index}]"), findings);
            }
            for (index, mount) in items(service, "volumes") {
                of_mount(mount, &format!("{path}.volumes[{index}]"), findings);
            }
            for list in ["configs", "secrets"] {
                for (_, file) in items(service, list) {
                    of_file(file);
                }
            }
            if service.remove("expose").is_some() {
                findings.warn(
                    position,
                    &child_path(&path, "expose"),
                    None,
                    "this does nothing: every port of a service is open to its networks",
                );
            }
        }
    }
    for section in ["networks", "volumes", "configs", "secrets"] {
        for (_, declared) in children(root, section) {
            if let Some(declared) = map_mut(declared) {
                texts(declared);
            }
        }
    }
    if let Some(root) = map_mut(root) {
        without_nothing(root);
    }
}

/// Lets quoted numbers be numbers, and takes extensions away from everywhere.
fn plain(node: &mut Node, depth: usize, free: bool, named: bool) {
    match &mut node.value {
        Value::String(text) => node.written = Some(text.as_str().into()),
        Value::List(items) => items
            .iter_mut()
            .for_each(|item| plain(item, depth + 1, false, false)),
        Value::Map(map) => {
            // The keys of services, networks and the like are names, and so are those by which a
            // service refers to them.
            let names = depth == 1 || named;
            if !free && !names {
                let extensions: Vec<String> = map
                    .iter()
                    .map(|entry| entry.key.clone())
                    .filter(|key| key.starts_with("x-"))
                    .collect();
                for key in extensions {
                    map.remove(&key);
                }
            }
            for (key, value) in map.values_mut() {
                let named = depth == 2 && NAMED.contains(&key);
                let free = !free && !names && FREE.contains(&key);
                plain(value, depth + 1, free, named);
            }
        }
        _ => {}
    }
}

/// A key with nothing under it is as good as none.
fn without_nothing(map: &mut Map) {
    let empty: Vec<String> = map
        .iter()
        .filter(|entry| entry.value.value == Value::Null)
        .map(|entry| entry.key.clone())
        .collect();
    for key in empty {
        map.remove(&key);
    }
}

fn texts(map: &mut Map) {
    for key in TEXTS {
        let Some(Value::Map(values)) = map.get_mut(key).map(|node| &mut node.value) else {
            continue;
        };
        for (_, value) in values.values_mut() {
            if let Value::Bool(truth) = value.value {
                value.value = Value::String(truth.to_string());
            }
        }
    }
}

/// Amounts may be numbers.
fn numbers_as_texts(deploy: &mut Map) {
    let Some(resources) = deploy.get_mut("resources").and_then(map_mut) else {
        return;
    };
    for (_, amounts) in resources.values_mut() {
        let Some(amounts) = map_mut(amounts) else {
            continue;
        };
        for key in ["cpus", "memory"] {
            if let Some(amount) = amounts.get_mut(key)
                && matches!(amount.value, Value::Integer(_) | Value::Float(_))
                && let Some(text) = amount.text().map(str::to_owned)
            {
                amount.value = Value::String(text);
            }
        }
    }
}

fn of_port(port: &mut Node, path: &str, findings: &mut Findings) {
    let Some(long) = map_mut(port) else { return };
    for key in ["name", "app_protocol"] {
        if let Some(entry) = long.remove(key) {
            findings.warn(
                entry.key_position,
                &child_path(path, key),
                Some(key),
                "a swarm has no place for this, and nothing comes of it",
            );
        }
    }
    if long
        .get("published")
        .is_some_and(|node| node.text() == Some(""))
    {
        long.remove("published");
    }
}

fn of_mount(mount: &mut Node, path: &str, findings: &mut Findings) {
    let Some(long) = map_mut(mount) else { return };
    if let Some(bind) = long.get_mut("bind").and_then(map_mut)
        && let Some(entry) = bind.remove("create_host_path")
        && entry.value.text() != Some("false")
    {
        findings.warn(
            entry.key_position,
            &child_path(&child_path(path, "bind"), "create_host_path"),
            None,
            "a swarm makes no directories on its nodes: this one must be there on each",
        );
    }
}

/// The mode of a file may be a text of octal digits.
fn of_file(file: &mut Node) {
    let Some(mode) = map_mut(file).and_then(|map| map.get_mut("mode")) else {
        return;
    };
    if let Value::String(text) = &mode.value
        && let Ok(bits) = i64::from_str_radix(text, 8)
    {
        let written = format!("0{}", text.trim_start_matches('0'));
        mode.value = Value::Integer(bits);
        mode.written = Some(written.into());
    }
}
