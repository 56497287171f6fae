//! Parts of a service's spec that an engine older than they are leaves out without a word.
//!
//! An engine decodes what it knows and drops the rest: the creation succeeds, and the service has
//! no such setting. Three engines have a say: the one that is asked, which answers in the version
//! it is asked in; every manager, for each keeps the spec in its own words and may lead tomorrow;
//! and the node that runs a task. What was measured of swarms of 20.10, 26.1 and 28.5 is in the
//! table here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;

use super::constraint::nodes_for;
use super::engine::ApiVersion;
use super::node::{Node, NodeRole};

/// A field, as the keys on the way to it (`[]` for every item of a list), with the minor version
/// of the first API 1 that a swarm keeps it in; none where no swarm does, though the API has it.
type Field = (&'static [&'static str], Option<u16>);

const FIELDS: &[Field] = &[
    (
        &[
            "TaskTemplate",
            "ContainerSpec",
            "Healthcheck",
            "StartInterval",
        ],
        Some(44),
    ),
    (
        &["TaskTemplate", "ContainerSpec", "Privileges", "Seccomp"],
        Some(44),
    ),
    (
        &["TaskTemplate", "ContainerSpec", "Privileges", "AppArmor"],
        Some(44),
    ),
    (
        &[
            "TaskTemplate",
            "ContainerSpec",
            "Privileges",
            "NoNewPrivileges",
        ],
        Some(44),
    ),
    (
        &[
            "TaskTemplate",
            "ContainerSpec",
            "Mounts",
            "[]",
            "VolumeOptions",
            "Subpath",
        ],
        Some(45),
    ),
    (
        &[
            "TaskTemplate",
            "ContainerSpec",
            "Mounts",
            "[]",
            "TmpfsOptions",
            "Options",
        ],
        Some(46),
    ),
    (&["TaskTemplate", "ContainerSpec", "OomScoreAdj"], Some(46)),
    (&["TaskTemplate", "Resources", "SwapBytes"], Some(52)),
    (&["TaskTemplate", "Resources", "MemorySwappiness"], Some(52)),
    (
        &[
            "TaskTemplate",
            "ContainerSpec",
            "Mounts",
            "[]",
            "BindOptions",
            "CreateMountpoint",
        ],
        None,
    ),
    (
        &[
            "TaskTemplate",
            "ContainerSpec",
            "Mounts",
            "[]",
            "BindOptions",
            "ReadOnlyNonRecursive",
        ],
        None,
    ),
    (
        &[
            "TaskTemplate",
            "ContainerSpec",
            "Mounts",
            "[]",
            "BindOptions",
            "ReadOnlyForceRecursive",
        ],
        None,
    ),
];

/// Releases of Docker with the newest API that they speak, the newest release first.
const RELEASES: &[((u16, u16), u16)] = &[
    ((29, 0), 52),
    ((28, 3), 51),
    ((28, 2), 50),
    ((28, 1), 49),
    ((28, 0), 48),
    ((27, 2), 47),
    ((27, 0), 46),
    ((26, 0), 45),
    ((25, 0), 44),
    ((24, 0), 43),
    ((23, 0), 42),
    ((20, 10), 41),
];

/// A part of a service's spec that an engine leaves out.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ignored {
    /// The way to it in the spec: `TaskTemplate.ContainerSpec.Mounts[/data].VolumeOptions.Subpath`.
    pub path: String,
    /// The first API version in which it counts; `None` when no swarm heeds it.
    pub since: Option<ApiVersion>,
    pointer: String,
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        match self.since {
            Some(since) => match release_of(since) {
                Some((major, _)) => write!(f, " (since Docker {major})"),
                None => write!(f, " (since API {since})"),
            },
            None => f.write_str(" (no swarm heeds it)"),
        }
    }
}

/// What some nodes of a swarm leave out of a service's spec.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct IgnoredOn {
    /// Their engine's software version, such as `20.10.24+dfsg1`.
    pub engine: String,
    /// Their host names.
    pub nodes: BTreeSet<String>,
    /// What they leave out.
    pub fields: Vec<Ignored>,
}

impl fmt::Display for IgnoredOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes: Vec<&str> = self.nodes.iter().map(String::as_str).collect();
        let fields: Vec<String> = self.fields.iter().map(ToString::to_string).collect();
        write!(
            f,
            "Docker {} on {} ignores {}",
            self.engine,
            nodes.join(", "),
            fields.join(", ")
        )
    }
}

impl ApiVersion {
    /// The newest version that an engine speaks, by its software version (`26.1.5+dfsg1`); `None`
    /// when that says nothing. Of releases that are newer than this table, at least what it says.
    #[must_use]
    pub fn spoken_by(engine: &str) -> Option<Self> {
        let mut numbers = engine
            .split(|c: char| !c.is_ascii_digit())
            .map(str::parse::<u16>);
        let major = numbers.next()?.ok()?;
        let minor = numbers.next()?.ok()?;
        let known = RELEASES
            .iter()
            .find(|(release, _)| *release <= (major, minor));
        Some(match known {
            Some((_, api)) => Self {
                major: 1,
                minor: *api,
            },
            // Too old for Phoenix anyhow.
            None => Self {
                major: 1,
                minor: 40,
            },
        })
    }
}

/// The first release that speaks a version.
fn release_of(version: ApiVersion) -> Option<(u16, u16)> {
    RELEASES
        .iter()
        .find(|(_, api)| version.major == 1 && *api == version.minor)
        .map(|(release, _)| *release)
}

/// What an engine that speaks at most `version` leaves out of a service's spec.
#[must_use]
pub fn ignored_by(version: ApiVersion, spec: &Value) -> Vec<Ignored> {
    let mut found = Vec::new();
    for (way, since) in FIELDS {
        let since = since.map(|minor| ApiVersion { major: 1, minor });
        if since.is_some_and(|since| since <= version) {
            continue;
        }
        let mut at = Vec::new();
        places(spec, way, String::new(), String::new(), &mut at);
        found.extend(at.into_iter().map(|(path, pointer)| Ignored {
            path,
            since,
            pointer,
        }));
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// A service's spec without what an engine that speaks at most `version` leaves out of it: what
/// can be compared there.
#[must_use]
pub fn without_ignored(version: ApiVersion, spec: &Value) -> Value {
    let mut spec = spec.clone();
    for ignored in ignored_by(version, &spec) {
        if let Some((parent, key)) = ignored.pointer.rsplit_once('/')
            && let Some(Value::Object(parent)) = spec.pointer_mut(parent)
        {
            parent.remove(key);
        }
    }
    spec
}

/// The version up to which a swarm keeps what is sent to it in `asked`: that of its oldest manager,
/// where it is older.
#[must_use]
pub fn kept_by(asked: ApiVersion, nodes: &[Node]) -> ApiVersion {
    nodes
        .iter()
        .filter(|node| node.role == NodeRole::Manager)
        .filter_map(|node| ApiVersion::spoken_by(&node.engine))
        .fold(asked, ApiVersion::min)
}

/// What of a service's spec is left out by the managers that would keep it and by the nodes that
/// may run it. Nodes whose version says nothing are not in it.
#[must_use]
pub fn ignored_on(nodes: &[Node], spec: &Value) -> Vec<IgnoredOn> {
    let constraints: Vec<&str> = spec
        .pointer("/TaskTemplate/Placement/Constraints")
        .and_then(Value::as_array)
        .map(|constraints| constraints.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let runs = nodes_for(&constraints, nodes);
    let mut engines: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for node in nodes {
        let may_run = runs
            .as_ref()
            .is_none_or(|nodes| nodes.contains(node.id.as_str()));
        if may_run || node.role == NodeRole::Manager {
            let nodes = engines.entry(&node.engine).or_default();
            nodes.insert(node.hostname.clone());
        }
    }
    engines
        .into_iter()
        .filter_map(|(engine, nodes)| {
            let fields = ignored_by(ApiVersion::spoken_by(engine)?, spec);
            (!fields.is_empty()).then(|| IgnoredOn {
                engine: engine.to_owned(),
                nodes,
                fields,
            })
        })
        .collect()
}

/// Where in `value` the way leads to something, for a reader and as a JSON pointer.
fn places(
    value: &Value,
    way: &[&str],
    path: String,
    pointer: String,
    found: &mut Vec<(String, String)>,
) {
    match way {
        [] if is_blank(value) => {}
        [] => found.push((path, pointer)),
        ["[]", rest @ ..] => {
            for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                let name = match item.get("Target").and_then(Value::as_str) {
                    Some(target) => target.to_owned(),
                    None => index.to_string(),
                };
                let pointer = format!("{pointer}/{index}");
                places(item, rest, format!("{path}[{name}]"), pointer, found);
            }
        }
        [key, rest @ ..] => {
            if let Some(value) = value.get(key) {
                let dot = if path.is_empty() { "" } else { "." };
                let pointer = format!("{pointer}/{key}");
                places(value, rest, format!("{path}{dot}{key}"), pointer, found);
            }
        }
    }
}

/// Whether leaving it out changes nothing.
fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

#[cfg(test)]
#[path = "ignored_tests.rs"]
mod tests;
