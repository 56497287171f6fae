//! Bodies beside bodies.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

/// What a body creates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Network,
    Secret,
    Config,
    Service,
}

/// Bodies by what they create and its name.
pub(crate) type Bodies = BTreeMap<(Kind, String), Value>;

/// Fields of a network that the CLI writes, or not, to say nothing.
const OF_NETWORKS: [(&str, Value); 7] = [
    ("Scope", Value::String(String::new())),
    ("EnableIPv6", Value::Bool(false)),
    ("Ingress", Value::Bool(false)),
    ("ConfigOnly", Value::Bool(false)),
    ("ConfigFrom", Value::Null),
    ("IPAM", Value::Null),
    ("Options", Value::Null),
];

/// The normalisations: see the table in the documentation of this test.
fn normalised(kind: Kind, body: &Value) -> Value {
    let mut body = body.clone();
    match kind {
        Kind::Network => {
            if let Some(map) = body.as_object_mut() {
                map.remove("CheckDuplicate");
                map.retain(|key, value| !OF_NETWORKS.contains(&(key.as_str(), value.clone())));
            }
            if let Some(map) = body.pointer_mut("/IPAM").and_then(Value::as_object_mut) {
                map.retain(|_, value| !value.is_null());
            }
            if let Some(map) = body.as_object_mut()
                && map
                    .get("Options")
                    .and_then(Value::as_object)
                    .is_some_and(serde_json::Map::is_empty)
            {
                map.remove("Options");
            }
        }
        Kind::Service => {
            let container = "/TaskTemplate/ContainerSpec";
            if let Some(map) = body.pointer_mut(&format!("{container}/Privileges"))
                && let Some(map) = map.as_object_mut()
                && map.get("NoNewPrivileges") == Some(&Value::Bool(false))
            {
                map.remove("NoNewPrivileges");
            }
            let servers = body.pointer_mut(&format!("{container}/DNSConfig/Nameservers"));
            if let Some(servers) = servers.and_then(Value::as_array_mut) {
                for server in servers {
                    let address: Option<std::net::IpAddr> =
                        server.as_str().and_then(|server| server.parse().ok());
                    if let Some(address) = address {
                        *server = Value::String(address.to_string());
                    }
                }
            }
            for (references, name) in [("Secrets", "SecretName"), ("Configs", "ConfigName")] {
                sort(&mut body, &format!("{container}/{references}"), |item| {
                    vec![item[name].clone(), item["File"]["Name"].clone()]
                });
            }
            sort(&mut body, "/EndpointSpec/Ports", |port| {
                ["PublishedPort", "TargetPort", "Protocol", "PublishMode"]
                    .map(|key| port[key].clone())
                    .to_vec()
            });
        }
        Kind::Secret | Kind::Config => {}
    }
    body
}

fn sort(body: &mut Value, pointer: &str, key: impl Fn(&Value) -> Vec<Value>) {
    if let Some(Value::Array(items)) = body.pointer_mut(pointer) {
        items.sort_by_cached_key(|item| format!("{:?}", key(item)));
    }
}

/// What differs between docker's bodies and ours: a line each, empty where nothing does.
pub(crate) fn differences(docker: &Bodies, ours: &Bodies) -> String {
    let mut told = String::new();
    for (key, body) in docker {
        match ours.get(key) {
            None => {
                let _ = writeln!(told, "{key:?}: only docker makes it: {body}");
            }
            Some(own) => {
                let (kind, name) = key;
                let place = format!("{kind:?} {name}");
                let (docker, own) = (normalised(*kind, body), normalised(*kind, own));
                walk(&place, Some(&docker), Some(&own), &mut told);
            }
        }
    }
    for (key, body) in ours {
        if !docker.contains_key(key) {
            let _ = writeln!(told, "{key:?}: only we make it: {body}");
        }
    }
    told
}

fn walk(place: &str, docker: Option<&Value>, ours: Option<&Value>, told: &mut String) {
    match (docker, ours) {
        (Some(Value::Object(docker)), Some(Value::Object(ours))) => {
            let mut keys: Vec<&String> = docker.keys().chain(ours.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let place = format!("{place}.{key}");
                walk(&place, docker.get(key), ours.get(key), told);
            }
        }
        (Some(Value::Array(docker)), Some(Value::Array(ours))) if docker.len() == ours.len() => {
            for (index, (docker, ours)) in docker.iter().zip(ours).enumerate() {
                walk(&format!("{place}[{index}]"), Some(docker), Some(ours), told);
            }
        }
        (docker, ours) if docker == ours => {}
        (docker, ours) => {
            let shown = |value: Option<&Value>| match value {
                Some(value) => value.to_string(),
                None => "nothing".to_owned(),
            };
            let _ = writeln!(
                told,
                "{place}: docker {}, we {}",
                shown(docker),
                shown(ours)
            );
        }
    }
}
