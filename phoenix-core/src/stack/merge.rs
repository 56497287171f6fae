//! One compose file laid over another.
//!
//! Services, and what is declared beside them, are merged key by key: texts, numbers and booleans
//! are replaced; maps are joined; lists are appended, without removing what then stands there
//! twice; ports, mounts and files are joined by what identifies them (published port, target,
//! source) and sorted by it; commands and tests are replaced. Where a later file has another
//! driver, the options of the earlier one are none of its; where it makes something external, or
//! no longer so, nothing is left of the earlier declaration.
//!
//! Files of the compose dialect have rules of their own ([`Rules::Compose`]).
//!
//! Invariants: nodes keep their positions, so that what is wrong afterwards is told of the right
//! file; both files are right by themselves. By [`Rules::Phoenix`] laying over is associative, as
//! long as no two files disagree about a driver or about what is external.

use std::collections::{BTreeMap, HashSet};

use crate::ground::document::{Entry, Map, Node, Value, child_path};

use super::findings::{Findings, entry, map, map_mut, text_node};
use super::model::{Port, Protocol, PublishMode};
use super::{duration, ports};

/// By which rules files are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rules {
    /// As docker does, without its faults: what is empty, zero or false replaces too, a test is
    /// replaced and not appended, and ports of different protocols (or unpublished ones) are
    /// different.
    Phoenix,
    /// As docker does, with a warning for each fault.
    Docker,
    /// As [`Rules::Phoenix`] with the ways of `docker compose`: an empty key takes nothing away
    /// but a command or a test, lists have what they have once, aliases are joined, secrets and
    /// configs are identified by their targets.
    Compose,
}

/// How a value is merged.
enum How {
    /// The later one counts.
    Replace,
    /// The later one counts, zero too.
    Count,
    /// A map with keys of its own.
    Keys(&'static [(&'static str, How)]),
    /// Maps of texts, or lists of `key=value`.
    Union,
    /// As [`How::Union`]; for docker a variable without a value, or with an empty one, is nothing.
    Variables,
    /// Maps of which each value is replaced.
    Entries,
    /// One list after the other; one text is a list.
    Append,
    /// As [`How::Append`]; a map is a sorted list.
    Hosts,
    /// A command: the later one counts.
    Command,
    /// A test of health.
    Test,
    /// Options, under this key, are joined when the drivers agree.
    Driver(&'static str),
    /// Networks by name.
    Networks,
    /// Services that are depended on.
    Dependencies,
    /// Ports, mounts or files by what identifies them.
    Keyed(fn(&Node, Rules) -> Vec<(String, Node)>),
}

const UPDATE: How = How::Keys(&[("parallelism", How::Count)]);
const RESOURCES: How = How::Keys(&[("generic_resources", How::Append)]);
const SERVICE: &[(&str, How)] = &[
    ("cap_add", How::Append),
    ("cap_drop", How::Append),
    ("command", How::Command),
    ("configs", How::Keyed(configs)),
    ("credential_spec", How::Keys(&[])),
    ("depends_on", How::Dependencies),
    (
        "deploy",
        How::Keys(&[
            ("labels", How::Union),
            (
                "placement",
                How::Keys(&[("constraints", How::Append), ("preferences", How::Append)]),
            ),
            ("replicas", How::Count),
            (
                "resources",
                How::Keys(&[("limits", RESOURCES), ("reservations", RESOURCES)]),
            ),
            ("restart_policy", How::Keys(&[("max_attempts", How::Count)])),
            ("rollback_config", UPDATE),
            ("update_config", UPDATE),
        ]),
    ),
    ("dns", How::Append),
    ("dns_search", How::Append),
    ("entrypoint", How::Command),
    ("env_file", How::Append),
    ("environment", How::Variables),
    ("extra_hosts", How::Hosts),
    (
        "healthcheck",
        How::Keys(&[("retries", How::Count), ("test", How::Test)]),
    ),
    ("labels", How::Union),
    ("logging", How::Driver("options")),
    ("networks", How::Networks),
    ("ports", How::Keyed(published)),
    ("profiles", How::Append),
    ("secrets", How::Keyed(secrets)),
    ("sysctls", How::Union),
    ("tmpfs", How::Append),
    ("ulimits", How::Entries),
    ("volumes", How::Keyed(mounts)),
];

/// How a network, volume, secret or config is merged. (Docker replaces it as a whole.)
const DECLARED: &[(&str, How)] = &[
    ("driver_opts", How::Entries),
    ("ipam", How::Keys(&[("config", How::Keyed(subnets))])),
    ("labels", How::Union),
];

/// Durations, of which docker takes zero for nothing.
const DURATIONS: &[&str] = &[
    "delay",
    "interval",
    "monitor",
    "start_interval",
    "start_period",
    "stop_grace_period",
    "timeout",
    "window",
];

/// Lays the file at `over` over the one at `base`.
pub(super) fn merge(base: Node, over: Node, rules: Rules, findings: &mut Findings) -> Node {
    let mut base = base;
    let Value::Map(over) = over.value else {
        return base;
    };
    let Some(own) = map_mut(&mut base) else {
        return base;
    };
    let mut merge = Merge { rules, findings };
    for section in over {
        match own.get_mut(&section.key) {
            Some(Node {
                value: Value::Map(known),
                ..
            }) if section.key != "version" => {
                let Value::Map(entries) = section.value.value else {
                    continue;
                };
                for entry in entries {
                    match known.get_mut(&entry.key) {
                        Some(service) if section.key == "services" => {
                            let path = child_path("services", &entry.key);
                            merge.service(service, entry.value, &path);
                        }
                        Some(declared) if !section.key.starts_with("x-") => {
                            let path = child_path(&section.key, &entry.key);
                            merge.declared(declared, entry.value, &path);
                        }
                        _ => known.put(entry),
                    }
                }
            }
            _ => own.put(section),
        }
    }
    base
}

/// Lays the service at `over` over the one at `base`.
pub(super) fn merge_service(
    base: &mut Node,
    over: Node,
    path: &str,
    rules: Rules,
    findings: &mut Findings,
) {
    Merge { rules, findings }.service(base, over, path);
}

struct Merge<'a> {
    rules: Rules,
    findings: &'a mut Findings,
}

impl Merge<'_> {
    fn service(&mut self, base: &mut Node, over: Node, path: &str) {
        let had: Vec<&str> = SERVICE
            .iter()
            .map(|(key, _)| *key)
            .filter(|key| map(base).is_some_and(|map| map.get(key).is_some()))
            .collect();
        self.keys(base, over, SERVICE, path);
        // What the earlier file has is sorted, whether or not the later one has any; what only
        // the later one has stays as it is.
        for (key, how) in SERVICE {
            if let How::Keyed(keyed) = how
                && had.contains(key)
                && let Some(list) = map_mut(base).and_then(|map| map.get_mut(key))
            {
                self.keyed(list, None, *keyed, &child_path(path, key));
            }
        }
    }

    fn declared(&mut self, base: &mut Node, over: Node, path: &str) {
        if self.docker() {
            for lost in map(base).into_iter().flatten() {
                if map(&over).is_none_or(|over| over.get(&lost.key).is_none()) {
                    self.findings.warn(
                        lost.key_position,
                        &child_path(path, &lost.key),
                        Some(&lost.key),
                        "docker loses this: a later file replaces as a whole what it names again",
                    );
                }
            }
            *base = over;
        } else if map(&over).is_some_and(|over| over.get("external").is_some())
            && is_external(base) != is_external(&over)
        {
            if let Some(name) = map(base).and_then(|base| base.entry("name"))
                && map(&over).is_none_or(|over| over.get("name").is_none())
            {
                self.findings.warn(
                    name.key_position,
                    &child_path(path, "name"),
                    Some("name"),
                    "a later file says where this comes from, and gives it no such name",
                );
            }
            *base = over;
        } else {
            self.driver(base, over, "driver_opts", DECLARED, path);
        }
    }

    fn docker(&self) -> bool {
        self.rules == Rules::Docker
    }

    /// Whether `over` lets stand what it is laid over.
    fn keeps(&self, over: &Node) -> bool {
        self.rules == Rules::Compose && over.value == Value::Null
    }

    fn keys(&mut self, base: &mut Node, over: Node, hows: &[(&str, How)], path: &str) {
        let Value::Map(entries) = over.value else {
            // Nothing is written, which changes nothing.
            return;
        };
        if map(base).is_none() {
            base.value = Value::Map(Map::default());
        }
        let Some(own) = map_mut(base) else { return };
        for entry in entries {
            let path = child_path(path, &entry.key);
            let how = hows.iter().find(|(key, _)| *key == entry.key);
            let how = how.map_or(&How::Replace, |(_, how)| how);
            if self.keeps(&entry.value) && !matches!(how, How::Command | How::Test) {
                if own.get(&entry.key).is_none() {
                    own.put(entry);
                }
                continue;
            }
            match own.get_mut(&entry.key) {
                Some(value) if value.value != Value::Null => {
                    self.value(value, entry, how, &path);
                }
                // To docker this is nothing that could be taken.
                _ if self.docker() && matches!(how, How::Append) && is_empty_list(&entry.value) => {
                }
                _ => own.put(entry),
            }
        }
    }

    fn value(&mut self, base: &mut Node, over: Entry, how: &How, path: &str) {
        let key = over.key;
        let over = over.value;
        match how {
            How::Replace => {
                if self.docker() && is_zero(&key, &over) && !is_zero(&key, base) {
                    self.findings.warn(
                        over.position,
                        path,
                        over.text(),
                        "docker keeps the value of the earlier file: what is empty, zero or \
                         false replaces nothing",
                    );
                } else {
                    *base = over;
                }
            }
            How::Count => *base = over,
            How::Keys(hows) => self.keys(base, over, hows, path),
            How::Union | How::Variables => {
                let position = base.position;
                let own = std::mem::replace(base, Node::new(Value::Null, position));
                let mut joined = pairs(own);
                for entry in pairs(over) {
                    let lost = self.docker()
                        && matches!(how, How::Variables)
                        && is_zero("", &entry.value)
                        && joined.get(&entry.key).is_some_and(|own| !is_zero("", own));
                    if lost {
                        self.findings.warn(
                            entry.value.position,
                            path,
                            Some(&entry.key),
                            "docker keeps the value of the earlier file: what is empty replaces \
                             nothing",
                        );
                    } else {
                        joined.put(entry);
                    }
                }
                base.value = Value::Map(joined);
            }
            How::Entries => {
                if let (Some(own), Value::Map(entries)) = (map_mut(base), over.value) {
                    for entry in entries {
                        if !self.keeps(&entry.value) || own.get(&entry.key).is_none() {
                            own.put(entry);
                        }
                    }
                }
            }
            How::Append => self.append(base, over, str::to_owned),
            How::Hosts => {
                hosts(base);
                let mut over = over;
                hosts(&mut over);
                // Both forms are the same.
                self.append(base, over, |text| text.replacen(':', "=", 1));
            }
            How::Command => {
                let empty = match &over.value {
                    Value::List(items) => items.is_empty(),
                    Value::String(text) => text.trim().is_empty(),
                    _ => false,
                };
                if empty && self.docker() {
                    self.findings.warn(
                        over.position,
                        path,
                        None,
                        "docker keeps the command of the earlier file: an empty one replaces nothing",
                    );
                } else {
                    *base = over;
                }
            }
            How::Test => {
                if self.docker() {
                    self.findings.warn(
                        over.position,
                        path,
                        None,
                        "docker appends this to the test of the earlier file",
                    );
                    let mut over = over;
                    as_test(base);
                    as_test(&mut over);
                    append(base, over);
                } else {
                    *base = over;
                }
            }
            How::Driver(options) => {
                let mut over = over;
                let without = map(base).is_some_and(|own| own.get(options).is_none());
                if self.docker()
                    && without
                    && !drivers_differ(base, &over)
                    && let Some(lost) = map_mut(&mut over).and_then(|over| over.remove(options))
                {
                    self.findings.warn(
                        lost.key_position,
                        &child_path(path, options),
                        Some(options),
                        "docker loses these where the earlier file has none",
                    );
                }
                self.driver(base, over, options, &[(options, How::Entries)], path);
            }
            How::Networks => self.networks(base, over, path),
            How::Dependencies => {
                if matches!((&base.value, &over.value), (Value::List(_), Value::List(_))) {
                    append(base, over);
                } else {
                    let mut joined = names(base.clone());
                    names(over).into_iter().for_each(|entry| joined.put(entry));
                    base.value = Value::Map(joined);
                }
            }
            How::Keyed(keyed) => self.keyed(base, Some(over), *keyed, path),
        }
    }

    /// Appends `over`; what stands in a list once is what has one `key`.
    fn append(&self, base: &mut Node, over: Node, key: impl Fn(&str) -> String) {
        append(base, over);
        if self.rules == Rules::Compose
            && let Value::List(items) = &mut base.value
        {
            let mut seen = HashSet::new();
            items.retain(|item| item.text().is_none_or(|text| seen.insert(key(text))));
        }
    }

    /// Maps with a `driver`, whose options stand under the key `options`.
    fn driver(
        &mut self,
        base: &mut Node,
        over: Node,
        options: &str,
        hows: &[(&str, How)],
        path: &str,
    ) {
        if drivers_differ(base, &over)
            && let Some(own) = map_mut(base)
        {
            own.remove(options);
        }
        self.keys(base, over, hows, path);
    }

    fn networks(&mut self, base: &mut Node, over: Node, path: &str) {
        let mut joined = names(base.clone());
        for entry in names(over) {
            let Some(own) = joined.get_mut(&entry.key) else {
                joined.put(entry);
                continue;
            };
            let Value::Map(keys) = &entry.value.value else {
                continue;
            };
            if own.value == Value::Null {
                *own = entry.value;
                continue;
            }
            let Some(own) = map_mut(own) else { continue };
            let path = child_path(path, &entry.key);
            if self.docker() && keys.get("aliases").is_none() && own.remove("aliases").is_some() {
                self.findings.warn(
                    entry.key_position,
                    &path,
                    Some(&entry.key),
                    "docker drops the aliases of the earlier file",
                );
            }
            for key in keys {
                if key.key == "driver_opts" && self.docker() {
                    self.findings.warn(
                        key.key_position,
                        &child_path(&path, &key.key),
                        Some(&key.key),
                        "docker keeps the options of the earlier file",
                    );
                    continue;
                }
                match own.get_mut(&key.key) {
                    Some(own) if self.rules == Rules::Compose => {
                        let how = match key.key.as_str() {
                            "aliases" => &How::Append,
                            "driver_opts" => &How::Entries,
                            _ => &How::Replace,
                        };
                        if !self.keeps(&key.value) {
                            self.value(own, key.clone(), how, &path);
                        }
                    }
                    _ => own.put(key.clone()),
                }
            }
        }
        base.value = Value::Map(joined);
    }

    fn keyed(
        &mut self,
        base: &mut Node,
        over: Option<Node>,
        keyed: fn(&Node, Rules) -> Vec<(String, Node)>,
        path: &str,
    ) {
        let of = |node: &Node, rules| -> Vec<(String, Node)> {
            let Value::List(items) = &node.value else {
                return Vec::new();
            };
            items.iter().flat_map(|item| keyed(item, rules)).collect()
        };
        let earlier = of(base, self.rules);
        let later = over
            .as_ref()
            .map(|over| of(over, self.rules))
            .unwrap_or_default();
        let mut items: Vec<(String, Node)> = if self.docker() {
            let mut joined: BTreeMap<String, Node> = BTreeMap::new();
            for items in [earlier, later] {
                let mut own: BTreeMap<String, Node> = BTreeMap::new();
                for (key, item) in items {
                    if let Some(lost) = own.insert(key, item) {
                        self.findings.warn(
                            lost.position,
                            path,
                            None,
                            "docker loses this when files are merged: another one of this file \
                             has the same published port, target or source",
                        );
                    }
                }
                joined.extend(own);
            }
            joined.into_iter().collect()
        } else {
            let replaced: HashSet<&str> = later.iter().map(|(key, _)| key.as_str()).collect();
            let mut kept: Vec<_> = earlier
                .into_iter()
                .filter(|(key, _)| !replaced.contains(key.as_str()))
                .collect();
            kept.extend(later);
            kept
        };
        items.sort_by(|(a, _), (b, _)| a.cmp(b));
        base.value = Value::List(items.into_iter().map(|(_, item)| item).collect());
    }
}

/// Whether both maps name a `driver`, and not the same one.
fn drivers_differ(base: &Node, over: &Node) -> bool {
    let driver = |node| {
        let driver = map(node).and_then(|map| map.get("driver"));
        driver.and_then(Node::text).filter(|name| !name.is_empty())
    };
    matches!((driver(base), driver(over)), (Some(own), Some(other)) if own != other)
}

/// Whether the declaration at `node` says that it is made by somebody else.
fn is_external(node: &Node) -> bool {
    let external = map(node).and_then(|map| map.get("external"));
    external.is_some_and(|external| match &external.value {
        Value::Bool(external) => *external,
        Value::Map(_) => true,
        // What a variable brought in.
        Value::String(text) => ["y", "yes", "true", "on"]
            .iter()
            .any(|yes| text.eq_ignore_ascii_case(yes)),
        _ => false,
    })
}

fn is_zero(key: &str, node: &Node) -> bool {
    match &node.value {
        Value::Null | Value::Bool(false) | Value::Integer(0) => true,
        Value::Float(number) => *number == 0.0,
        Value::String(text) => {
            text.is_empty()
                || DURATIONS.contains(&key)
                    && duration::parse(text).is_ok_and(|duration| duration.is_zero())
        }
        _ => false,
    }
}

fn is_empty_list(node: &Node) -> bool {
    matches!(&node.value, Value::List(items) if items.is_empty())
}

/// A map of texts, or a list of `key=value`, as a map.
fn pairs(node: Node) -> Map {
    match node.value {
        Value::Map(map) => map,
        Value::List(items) => items
            .into_iter()
            .filter_map(|item| {
                let text = item.text()?;
                Some(match text.split_once('=') {
                    Some((key, value)) => entry(key, text_node(value, item.position)),
                    None => entry(text, Node::new(Value::Null, item.position)),
                })
            })
            .collect(),
        _ => Map::default(),
    }
}

/// A list of names as a map with nothing under each.
fn names(node: Node) -> Map {
    match node.value {
        Value::Map(map) => map,
        Value::List(items) => items
            .into_iter()
            .filter_map(|item| {
                let name = item.text()?.to_owned();
                Some(entry(&name, Node::new(Value::Null, item.position)))
            })
            .collect(),
        _ => Map::default(),
    }
}

fn append(base: &mut Node, over: Node) {
    let items = |node: Node| match node.value {
        Value::List(items) => items,
        Value::Null => Vec::new(),
        _ => vec![node],
    };
    let position = base.position;
    let mut joined = items(std::mem::replace(base, Node::new(Value::Null, position)));
    joined.extend(items(over));
    base.value = Value::List(joined);
}

fn as_test(test: &mut Node) {
    if let Value::String(text) = &test.value {
        let position = test.position;
        let words = ["CMD-SHELL", text.as_str()];
        test.value = Value::List(words.map(|word| text_node(word, position)).into());
    }
}

fn hosts(node: &mut Node) {
    if let Value::Map(map) = &node.value {
        let mut hosts: Vec<Node> = map
            .iter()
            .filter_map(|entry| {
                let address = entry.value.text()?;
                Some(text_node(
                    format!("{}={address}", entry.key),
                    entry.value.position,
                ))
            })
            .collect();
        hosts.sort_by(|a, b| a.text().cmp(&b.text()));
        node.value = Value::List(hosts);
    }
}

fn secrets(item: &Node, rules: Rules) -> Vec<(String, Node)> {
    file(item, "/run/secrets/", rules)
}

fn configs(item: &Node, rules: Rules) -> Vec<(String, Node)> {
    file(item, "/", rules)
}

/// A secret or config, of which relative targets are in the `folder`.
fn file(item: &Node, folder: &str, rules: Rules) -> Vec<(String, Node)> {
    let own = |key| map(item).and_then(|map| map.get(key)).and_then(Node::text);
    let source = own("source").or(item.text()).unwrap_or_default();
    let key = match (rules, own("target").filter(|target| !target.is_empty())) {
        (Rules::Phoenix | Rules::Docker, _) => source.to_owned(),
        (Rules::Compose, Some(target)) if target.starts_with('/') => target.to_owned(),
        (Rules::Compose, target) => format!("{folder}{}", target.unwrap_or(source)),
    };
    vec![(key, item.clone())]
}

fn subnets(item: &Node, _: Rules) -> Vec<(String, Node)> {
    let subnet = map(item).and_then(|map| map.get("subnet"));
    let subnet = subnet.and_then(Node::text).unwrap_or_default();
    vec![(subnet.to_owned(), item.clone())]
}

fn mounts(item: &Node, _: Rules) -> Vec<(String, Node)> {
    let target = match map(item) {
        Some(map) => map.get("target").and_then(Node::text),
        None => item.text().map(|text| {
            let mut parts = text.split(':');
            let first = parts.next().unwrap_or_default();
            parts.next().unwrap_or(first)
        }),
    };
    vec![(target.unwrap_or_default().to_owned(), item.clone())]
}

/// Ports in long form, by the published one.
fn published(item: &Node, rules: Rules) -> Vec<(String, Node)> {
    let Some(text) = ports::written(item) else {
        let number = |key: &str| {
            let node = map(item).and_then(|map| map.get(key));
            let text = node.and_then(ports::written).unwrap_or_default();
            // The first port of a range is the one that is taken.
            let first = match rules {
                Rules::Compose => text.split('-').next().unwrap_or_default(),
                Rules::Phoenix | Rules::Docker => text.as_ref(),
            };
            first.parse().unwrap_or(0)
        };
        let protocol = map(item).and_then(|map| map.get("protocol"));
        let protocol = protocol
            .and_then(Node::text)
            .filter(|text| !text.is_empty())
            .unwrap_or("tcp");
        let key = port_key(number("published"), number("target"), protocol, rules);
        return vec![(key, item.clone())];
    };
    let text = match rules {
        Rules::Compose => {
            let text = text.strip_prefix(':').unwrap_or(&text);
            ports::first_of_range(text).unwrap_or_else(|| text.to_owned())
        }
        Rules::Phoenix | Rules::Docker => text.into_owned(),
    };
    let Ok(ports) = ports::short(&text) else {
        // Whoever reads the service says what is wrong.
        return vec![(text, item.clone())];
    };
    let several = ports.len() > 1;
    ports
        .into_iter()
        .map(|port| {
            let protocol = word(&port);
            let key = port_key(port.published.unwrap_or(0), port.target, protocol, rules);
            let node = if several {
                long(&port, item)
            } else {
                item.clone()
            };
            (key, node)
        })
        .collect()
}

fn port_key(published: u16, target: u16, protocol: &str, rules: Rules) -> String {
    match (rules, published) {
        (Rules::Docker, _) => format!("{published:05}"),
        (_, 0) => format!("{published:05} {target:05} {protocol}"),
        (_, _) => format!("{published:05} {protocol}"),
    }
}

fn word(port: &Port) -> &'static str {
    match port.protocol {
        Some(Protocol::Udp) => "udp",
        Some(Protocol::Sctp) => "sctp",
        _ => "tcp",
    }
}

/// A port in long form, at the place of the item it comes from.
fn long(port: &Port, item: &Node) -> Node {
    let number = |number: u16| Node {
        value: Value::Integer(number.into()),
        position: item.position,
        written: Some(number.to_string().into()),
    };
    let mode = match port.mode {
        Some(PublishMode::Host) => "host",
        _ => "ingress",
    };
    let mut map = Map::default();
    map.put(entry("target", number(port.target)));
    if let Some(published) = port.published {
        map.put(entry("published", number(published)));
    }
    map.put(entry("protocol", text_node(word(port), item.position)));
    map.put(entry("mode", text_node(mode, item.position)));
    Node::new(Value::Map(map), item.position)
}
