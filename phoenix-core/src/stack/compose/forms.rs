//! Forms of values that only the compose dialect has, written as the swarm's has them.

use crate::ground::document::{Map, Node, Value, child_path};

use super::super::findings::{Findings, children, items, map_mut};
use super::super::{duration, ports};
use super::left_out;

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
    left_out::apply(root, findings);
    for (key, service) in children(root, "services") {
        let path = child_path("services", key);
        if let Some(service) = map_mut(service) {
            without_nothing(service);
            if let Some(check) = service.get_mut("healthcheck").and_then(map_mut) {
                without_nothing(check);
            }
            times(service, TIMES);
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
        }
    }
    for (key, network) in children(root, "networks") {
        of_network(network, &child_path("networks", key), findings);
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

/// Times of a service, and the maps that hold others.
const TIMES: Times = Times {
    own: &["stop_grace_period"],
    below: &[
        (
            "healthcheck",
            Times {
                own: &["interval", "timeout", "start_period", "start_interval"],
                below: &[],
            },
        ),
        (
            "deploy",
            Times {
                own: &[],
                below: &[
                    ("update_config", CHANGES),
                    ("rollback_config", CHANGES),
                    (
                        "restart_policy",
                        Times {
                            own: &["delay", "window"],
                            below: &[],
                        },
                    ),
                ],
            },
        ),
    ],
};
const CHANGES: Times = Times {
    own: &["delay", "monitor"],
    below: &[],
};

#[derive(Clone, Copy)]
struct Times {
    own: &'static [&'static str],
    below: &'static [(&'static str, Times)],
}

/// Writes days and weeks in the units of the swarm's dialect.
fn times(map: &mut Map, times_of: Times) {
    for key in times_of.own {
        if let Some(Value::String(text)) = map.get_mut(key).map(|node| &mut node.value)
            && duration::parse(text).is_err()
            && let Ok(time) = duration::parse_long(text)
        {
            *text = format!("{}ns", time.as_nanos());
        }
    }
    for (key, below) in times_of.below {
        if let Some(map) = map.get_mut(key).and_then(map_mut) {
            times(map, *below);
        }
    }
}

/// A bridge is what `docker compose` makes by itself, and here that is an overlay network.
fn of_network(network: &mut Node, path: &str, findings: &mut Findings) {
    let Some(network) = map_mut(network) else {
        return;
    };
    if network.get("driver").and_then(Node::text) != Some("bridge") {
        return;
    }
    if let Some(entry) = network.remove("driver") {
        findings.warn(
            entry.value.position,
            &child_path(path, "driver"),
            Some("bridge"),
            "a bridge is a network of one machine; the stack makes an overlay network of all nodes",
        );
    }
    let Some(options) = network.get_mut("driver_opts").and_then(map_mut) else {
        return;
    };
    let of_bridges: Vec<String> = options
        .iter()
        .map(|entry| entry.key.clone())
        .filter(|key| key.starts_with("com.docker.network.bridge."))
        .collect();
    for key in of_bridges {
        if let Some(entry) = options.remove(&key) {
            findings.warn(
                entry.key_position,
                &child_path(&child_path(path, "driver_opts"), &key),
                Some(&key),
                "an overlay network has no such option, and it is left out",
            );
        }
    }
}

/// Says that of a range of ports the first is taken.
fn of_range(node: &Node, path: &str, findings: &mut Findings) {
    findings.warn(
        node.position,
        path,
        node.text(),
        "`docker compose` takes one of these ports that is free, and a swarm is told which: \
         the first is published",
    );
}

fn of_port(port: &mut Node, path: &str, findings: &mut Findings) {
    if let Value::String(text) = &port.value {
        // What a variable without a value leaves behind.
        let mut short = text.strip_prefix(':').unwrap_or(text).to_owned();
        if let Some(first) = ports::first_of_range(&short) {
            of_range(port, path, findings);
            short = first;
        }
        port.value = Value::String(short);
        return;
    }
    let Some(long) = map_mut(port) else { return };
    if long.get("host_ip").is_some_and(|node| {
        node.text()
            .is_some_and(|text| text.is_empty() || ports::is_everywhere(text))
    }) {
        long.remove("host_ip");
    }
    if let Some(published) = long.get_mut("published")
        && let Some((first, last)) = published.text().and_then(|text| text.split_once('-'))
        && let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>())
        && first <= last
    {
        if first < last {
            of_range(published, &child_path(path, "published"), findings);
        }
        published.value = Value::Integer(first.into());
        published.written = Some(first.to_string().into());
    }
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
