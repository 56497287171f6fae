//! What differs between a declared service and the running one.
//!
//! Both specs are brought into one canonical form first, because the engine stores what it was
//! sent and fills some defaults in, and another client may have written others out: absent,
//! `null`, empty and default are one. Lists whose order means nothing are compared by what
//! identifies their items.
//!
//! Invariants: a spec that the engine stored as it was sent differs in nothing; a change of
//! anything that a task or the scheduler could notice does differ; values of environment
//! variables and of driver options, which may be secret, are never shown.

use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Map, Value, json};

/// A field that differs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FieldChange {
    /// The way to it in the spec: `TaskTemplate.ContainerSpec.Env[LEVEL]`.
    pub path: String,
    /// What runs; absent when there is nothing.
    pub from: Option<String>,
    /// What is declared; absent when there is nothing.
    pub to: Option<String>,
}

impl fmt::Display for FieldChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.path)?;
        match (&self.from, &self.to) {
            (Some(from), Some(to)) => write!(f, "{from} -> {to}"),
            (None, Some(to)) => write!(f, "+ {to}"),
            (Some(from), None) => write!(f, "- {from}"),
            (None, None) => Ok(()),
        }
    }
}

/// The hexadecimal digits of a spec's digest.
const DIGEST: usize = 32;

/// What stands in place of a value that may be secret.
const HIDDEN: &str = "(hidden)";

/// Maps with keys of the operator's choice, in which an empty text is a value.
const FREE_MAPS: &[&str] = &["Labels", "Options", "DriverOpts", "Sysctls", "Env"];
/// Numbers in which zero is a value and not the absence of one.
const COUNTED: &[&str] = &[
    "Replicas",
    "MaxConcurrent",
    "TotalCompletions",
    "Parallelism",
    "Delay",
    "StopGracePeriod",
];

const SECOND: i64 = 1_000_000_000;

/// What differs between the body that would be sent (`desired`) and the `Spec` of the running
/// service as the engine's API returns it, sorted by path; empty when nothing has to be sent.
#[must_use]
pub fn difference(desired: &Value, running: &Value) -> Vec<FieldChange> {
    let mut desired = leaves(desired);
    let mut changes: Vec<FieldChange> = Vec::new();
    for (path, from) in leaves(running) {
        let to = desired.remove(&path);
        if to.as_ref() != Some(&from) {
            changes.push(change(path, Some(&from), to.as_ref()));
        }
    }
    changes.extend(
        desired
            .into_iter()
            .map(|(path, to)| change(path, None, Some(&to))),
    );
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    changes
}

fn change(path: String, from: Option<&Value>, to: Option<&Value>) -> FieldChange {
    let hidden = [".Env[", "LogDriver.Options", "DriverConfig.Options"]
        .iter()
        .any(|part| path.contains(part));
    let shown = |value: &Value| match value {
        _ if hidden => HIDDEN.to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    FieldChange {
        from: from.map(shown),
        to: to.map(shown),
        path,
    }
}

/// A digest of what `spec` says, in its canonical form: two specs that differ in nothing have the
/// same.
#[must_use]
pub fn spec_digest(spec: &Value) -> String {
    let leaves = leaves(spec);
    // A map of texts and scalars: it can be written.
    let text = serde_json::to_vec(&leaves).unwrap_or_default();
    hex::encode(digest(&SHA256, &text))[..DIGEST].to_owned()
}

/// Lets the declared service keep the running one's digest (and platforms) when its own could not
/// be looked up and the image's text is the same: a registry that does not answer is no reason to
/// restart tasks. Whether anything was kept.
pub fn carry_digest(desired: &mut Value, running: &Value) -> bool {
    const IMAGE: &str = "/TaskTemplate/ContainerSpec/Image";
    let Some(pinned) = running.pointer(IMAGE).and_then(Value::as_str) else {
        return false;
    };
    let Some(image) = desired.pointer_mut(IMAGE) else {
        return false;
    };
    let Some((unpinned, _)) = pinned.split_once('@') else {
        return false;
    };
    if image.as_str() != Some(unpinned) {
        return false;
    }
    *image = json!(pinned);
    let platforms = running
        .pointer("/TaskTemplate/Placement/Platforms")
        .filter(|platforms| platforms.is_array());
    if let (Some(platforms), Some(Value::Object(task))) =
        (platforms, desired.get_mut("TaskTemplate"))
    {
        let placement = task.entry("Placement").or_insert_with(|| json!({}));
        if !placement.is_object() {
            *placement = json!({});
        }
        placement["Platforms"] = platforms.clone();
    }
    true
}

/// The canonical form as its leaves by path.
fn leaves(spec: &Value) -> BTreeMap<String, Value> {
    let mut spec = spec.clone();
    fill(&mut spec);
    let mut leaves = BTreeMap::new();
    let canonical = prune(&spec, "", false);
    flatten(String::new(), canonical.as_ref(), &mut leaves);
    leaves
}

fn flatten(path: String, value: Option<&Value>, leaves: &mut BTreeMap<String, Value>) {
    match value {
        None => {}
        Some(Value::Object(map)) => {
            for (key, value) in map {
                let path = if key.starts_with('[') || path.is_empty() {
                    format!("{path}{key}")
                } else {
                    format!("{path}.{key}")
                };
                flatten(path, Some(value), leaves);
            }
        }
        Some(Value::Array(items)) => {
            for (index, item) in items.iter().enumerate() {
                flatten(format!("{path}[{index}]"), Some(item), leaves);
            }
        }
        Some(leaf) => {
            leaves.insert(path, leaf.clone());
        }
    }
}

/// The object under `key`, made when it is absent or `null`.
fn object<'v>(parent: &'v mut Map<String, Value>, key: &str) -> &'v mut Map<String, Value> {
    let value = parent.entry(key).or_insert(Value::Null);
    if !value.is_object() {
        *value = json!({});
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("an object was stored just now"),
    }
}

/// Whether nothing is there: absent, `null`, an empty text or zero.
fn is_blank(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Number(number)) => number.as_f64() == Some(0.0),
        Some(_) => false,
    }
}

fn is_absent(value: Option<&Value>) -> bool {
    matches!(value, None | Some(Value::Null))
}

/// Fills `default` in where the engine does: where nothing is there.
fn default(map: &mut Map<String, Value>, key: &str, default: Value) {
    if is_blank(map.get(key)) {
        map.insert(key.to_owned(), default);
    }
}

/// As [`default`], where zero is a value.
fn default_if_absent(map: &mut Map<String, Value>, key: &str, default: Value) {
    if is_absent(map.get(key)) {
        map.insert(key.to_owned(), default);
    }
}

/// Fills the engine's defaults in and turns lists whose order means nothing into maps.
fn fill(spec: &mut Value) {
    let Value::Object(spec) = spec else { return };
    fill_mode(spec);
    for key in ["UpdateConfig", "RollbackConfig"] {
        let absent = !spec.get(key).is_some_and(Value::is_object);
        let config = object(spec, key);
        default_if_absent(config, "Parallelism", json!(i32::from(absent)));
        default_if_absent(config, "Delay", json!(0));
        default(config, "FailureAction", json!("pause"));
        default(config, "Monitor", json!(5 * SECOND));
        default(config, "Order", json!("stop-first"));
        // The engine keeps 32 bits of it.
        if let Some(ratio) = config.get("MaxFailureRatio").and_then(Value::as_f64) {
            #[allow(clippy::cast_possible_truncation)]
            let kept = f64::from(ratio as f32);
            config.insert("MaxFailureRatio".to_owned(), json!(kept));
        }
    }
    let endpoint = object(spec, "EndpointSpec");
    default(endpoint, "Mode", json!("vip"));
    key_list(endpoint, "Ports", |port| {
        default(port, "Protocol", json!("tcp"));
        default(port, "PublishMode", json!("ingress"));
        let published = taken(port, "PublishedPort").unwrap_or_default();
        let target = taken(port, "TargetPort").unwrap_or_default();
        let protocol = taken(port, "Protocol").unwrap_or_default();
        format!("{published}:{target}/{protocol}")
    });
    // Where older clients put them.
    let older = spec
        .remove("Networks")
        .filter(|older| !is_absent(Some(older)));
    let task = object(spec, "TaskTemplate");
    if let Some(older) = older
        && is_absent(task.get("Networks"))
    {
        task.insert("Networks".to_owned(), older);
    }
    fill_task(task);
}

fn fill_mode(spec: &mut Map<String, Value>) {
    let mode = object(spec, "Mode");
    mode.retain(|_, value| !value.is_null());
    if mode.is_empty() {
        mode.insert("Replicated".to_owned(), json!({}));
    }
    for kind in ["Global", "GlobalJob"] {
        if mode.contains_key(kind) {
            mode.insert(kind.to_owned(), json!(true));
        }
    }
    for (kind, counts) in [
        ("Replicated", &["Replicas"][..]),
        ("ReplicatedJob", &["MaxConcurrent", "TotalCompletions"]),
    ] {
        if mode.contains_key(kind) {
            let body = object(mode, kind);
            for count in counts {
                default_if_absent(body, count, json!(1));
            }
        }
    }
}

fn fill_task(task: &mut Map<String, Value>) {
    // A counter of forced restarts, which no declaration has an opinion on.
    task.remove("ForceUpdate");
    default(task, "Runtime", json!("container"));
    let policy = object(task, "RestartPolicy");
    default(policy, "Condition", json!("any"));
    default_if_absent(policy, "Delay", json!(5 * SECOND));
    let resources = object(task, "Resources");
    let reservations = object(resources, "Reservations");
    key_list(reservations, "GenericResources", |resource| {
        let spec = resource
            .get("DiscreteResourceSpec")
            .or_else(|| resource.get("NamedResourceSpec"));
        let kind = spec
            .and_then(|spec| spec.get("Kind"))
            .and_then(Value::as_str);
        kind.unwrap_or_default().to_owned()
    });
    let placement = object(task, "Placement");
    sort(placement, "Constraints");
    if let Some(Value::Array(platforms)) = placement.get_mut("Platforms") {
        // Older clients pass attestations on as platforms, which no node is.
        platforms.retain(|platform| {
            platform.get("OS").and_then(Value::as_str) != Some("unknown")
                && platform.get("Architecture").and_then(Value::as_str) != Some("unknown")
        });
    }
    sort(placement, "Platforms");
    if let Some(Value::Array(platforms)) = placement.get_mut("Platforms") {
        platforms.dedup();
    }
    key_list(task, "Networks", |network| {
        sort(network, "Aliases");
        taken(network, "Target").unwrap_or_default()
    });
    // Something must be left of a network that has nothing but its target.
    if let Some(Value::Object(networks)) = task.get_mut("Networks") {
        for network in networks.values_mut().filter_map(Value::as_object_mut) {
            network.insert("Attached".to_owned(), json!(true));
        }
    }
    let container = object(task, "ContainerSpec");
    default(container, "Isolation", json!("default"));
    default_if_absent(container, "StopGracePeriod", json!(10 * SECOND));
    sort(container, "CapabilityAdd");
    sort(container, "CapabilityDrop");
    key_list(container, "Ulimits", |limit| {
        default_if_absent(limit, "Soft", json!(0));
        default_if_absent(limit, "Hard", json!(0));
        taken(limit, "Name").unwrap_or_default()
    });
    key_list(container, "Mounts", |mount| {
        default(mount, "Type", json!("volume"));
        taken(mount, "Target").unwrap_or_default()
    });
    for (list, name) in [("Secrets", "SecretName"), ("Configs", "ConfigName")] {
        key_list(container, list, |reference| {
            let Some(Value::Object(file)) = reference.get_mut("File") else {
                // Not a file but a part of the container's set-up.
                reference.insert("Runtime".to_owned(), json!(true));
                return taken(reference, name).unwrap_or_default();
            };
            taken(file, "Name").unwrap_or_default()
        });
    }
    key_environment(container);
}

/// `["A=1", "B"]` as `{"A": {"value": "1"}, "B": {"removed": true}}`.
fn key_environment(container: &mut Map<String, Value>) {
    let Some(Value::Array(entries)) = container.remove("Env") else {
        return;
    };
    let mut keyed = Map::new();
    for entry in entries {
        let entry = entry.as_str().unwrap_or_default();
        // Of two entries with one name the process sees the last.
        match entry.split_once('=') {
            Some((name, value)) => keyed.insert(format!("[{name}]"), json!(value)),
            None => keyed.insert(format!("[{entry}] (unset)"), json!(true)),
        };
    }
    container.insert("Env".to_owned(), Value::Object(keyed));
}

/// Turns the list of objects under `key` into a map by what `name` says of (and may take from)
/// each.
fn key_list(
    parent: &mut Map<String, Value>,
    key: &str,
    name: impl Fn(&mut Map<String, Value>) -> String,
) {
    let Some(Value::Array(items)) = parent.remove(key) else {
        return;
    };
    let mut keyed = Map::new();
    for mut item in items {
        let name = match &mut item {
            Value::Object(item) => name(item),
            _ => String::new(),
        };
        let mut unique = format!("[{name}]");
        let mut count = 1;
        while keyed.contains_key(&unique) {
            count += 1;
            unique = format!("[{name}]({count})");
        }
        keyed.insert(unique, item);
    }
    parent.insert(key.to_owned(), Value::Object(keyed));
}

/// Removes a text or number and returns it as text.
fn taken(map: &mut Map<String, Value>, key: &str) -> Option<String> {
    match map.remove(key)? {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    }
}

fn sort(parent: &mut Map<String, Value>, key: &str) {
    if let Some(Value::Array(items)) = parent.get_mut(key) {
        items.sort_by_cached_key(|item| match item {
            // The order of fields must not count.
            Value::Object(fields) => {
                let fields: BTreeMap<_, _> = fields.iter().collect();
                format!("{fields:?}")
            }
            other => other.to_string(),
        });
    }
}

/// `value` without what is not there; `None` when nothing is left.
fn prune(value: &Value, key: &str, free: bool) -> Option<Value> {
    match value {
        Value::Null => None,
        // An init process that is refused is not the same as one not asked for.
        Value::Bool(false) if key != "Init" => None,
        Value::String(text) if text.is_empty() && !free => None,
        Value::Number(number) if number.as_f64() == Some(0.0) => {
            COUNTED.contains(&key).then(|| json!(0))
        }
        // One number is written in two ways: 1 and 1.0.
        Value::Number(number) => Some(match number.as_f64() {
            Some(float) if !number.is_i64() && !number.is_u64() && float == float.trunc() => {
                #[allow(clippy::cast_possible_truncation)]
                let whole = float as i64;
                json!(whole)
            }
            _ => value.clone(),
        }),
        Value::Array(items) if items.is_empty() => None,
        Value::Array(items) => Some(Value::Array(
            items
                .iter()
                .map(|item| match item {
                    Value::Object(_) => prune(item, "", false).unwrap_or_else(|| json!({})),
                    _ => item.clone(),
                })
                .collect(),
        )),
        Value::Object(map) => {
            let free = FREE_MAPS.contains(&key);
            let left: Map<String, Value> = map
                .iter()
                .filter_map(|(key, value)| Some((key.clone(), prune(value, key, free)?)))
                .collect();
            (!left.is_empty()).then_some(Value::Object(left))
        }
        other => Some(other.clone()),
    }
}

#[cfg(test)]
mod tests;
