//! The configuration of a Docker daemon that is to listen on TCP with mutual TLS.
//!
//! Only texts are turned into texts here: what is already in `daemon.json` and in the systemd
//! unit, into what has to be there. Every key that TLS does not need is kept as it was.

use serde_json::{Map, Value, json};

/// Where a daemon is to listen and with which files.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DaemonTls {
    /// The TCP port.
    pub port: u16,
    /// Path, in the guest, of the CA that client certificates must chain to.
    pub ca: String,
    /// Path of the daemon's certificate with its chain.
    pub certificate: String,
    /// Path of its key.
    pub key: String,
}

impl DaemonTls {
    /// Settings for `port` with the files at these paths in the guest.
    #[must_use]
    pub fn new(port: u16, ca: String, certificate: String, key: String) -> Self {
        Self {
            port,
            ca,
            certificate,
            key,
        }
    }
}

/// A `daemon.json` that holds what TLS needs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DaemonJson {
    /// The whole text; the one given when nothing had to be changed.
    pub text: String,
    /// What had to be changed, one line each; empty when nothing had to.
    pub changes: Vec<String>,
    /// Where the daemon keeps its data.
    pub data_root: String,
}

/// Why a `daemon.json` cannot be changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DaemonJsonError {
    /// It is no JSON object.
    #[error("is not a JSON object: {0}")]
    NotAnObject(String),
    /// `hosts` is no list of strings.
    #[error("`hosts` is not a list of strings")]
    Hosts,
    /// Another address already listens on the port.
    #[error("`hosts` has {existing}, which takes port {port} without listening on every address")]
    PortTaken {
        /// The entry.
        existing: String,
        /// The port.
        port: u16,
    },
}

/// The host a daemon listens on when neither its flags nor `daemon.json` name one.
const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";

/// Where a daemon keeps its data when `daemon.json` does not say.
const DEFAULT_DATA_ROOT: &str = "/var/lib/docker";

/// What `daemon.json` must be for `tls`, given what it `is` and the hosts that the unit's
/// command line named (they move here, because dockerd refuses hosts in both places).
///
/// # Errors
/// [`DaemonJsonError`] when the existing text cannot be understood or contradicts.
pub fn daemon_json(
    is: Option<&str>,
    hosts_of_unit: &[String],
    tls: &DaemonTls,
) -> Result<DaemonJson, DaemonJsonError> {
    let text = is.unwrap_or_default();
    let mut object: Map<String, Value> = if text.trim().is_empty() {
        Map::new()
    } else {
        match serde_json::from_str(text) {
            Ok(Value::Object(object)) => object,
            Ok(other) => return Err(DaemonJsonError::NotAnObject(kind(&other).to_owned())),
            Err(error) => return Err(DaemonJsonError::NotAnObject(error.to_string())),
        }
    };
    let data_root = object
        .get("data-root")
        .and_then(Value::as_str)
        .unwrap_or(DEFAULT_DATA_ROOT)
        .to_owned();
    let mut changes = Vec::new();
    let mut hosts = match object.get("hosts") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(list)) => list
            .iter()
            .map(|entry| entry.as_str().map(str::to_owned))
            .collect::<Option<Vec<_>>>()
            .ok_or(DaemonJsonError::Hosts)?,
        Some(_) => return Err(DaemonJsonError::Hosts),
    };
    let declared = hosts.clone();
    for host in hosts_of_unit {
        if !hosts.contains(host) {
            hosts.push(host.clone());
        }
    }
    if hosts.is_empty() {
        hosts.push(DEFAULT_HOST.to_owned());
    }
    let wanted = format!("tcp://0.0.0.0:{}", tls.port);
    let suffix = format!(":{}", tls.port);
    match hosts
        .iter()
        .find(|host| host.starts_with("tcp://") && host.trim_end_matches('/').ends_with(&suffix))
    {
        Some(existing) if is_any_address(existing) => {}
        Some(existing) => {
            return Err(DaemonJsonError::PortTaken {
                existing: existing.clone(),
                port: tls.port,
            });
        }
        None => hosts.push(wanted),
    }
    if hosts != declared {
        let added: Vec<&str> = hosts
            .iter()
            .filter(|host| !declared.contains(host))
            .map(String::as_str)
            .collect();
        changes.push(format!("hosts: add {}", added.join(", ")));
        object.insert("hosts".to_owned(), json!(hosts));
    }
    let wanted = [
        ("tlsverify", json!(true)),
        ("tlscacert", json!(tls.ca)),
        ("tlscert", json!(tls.certificate)),
        ("tlskey", json!(tls.key)),
    ];
    for (key, value) in wanted {
        if object.get(key) != Some(&value) {
            changes.push(format!("{key}: {value}"));
            object.insert(key.to_owned(), value);
        }
    }
    let text = if changes.is_empty() {
        text.to_owned()
    } else {
        let mut text = format!("{:#}", Value::Object(object));
        text.push('\n');
        text
    };
    Ok(DaemonJson {
        text,
        changes,
        data_root,
    })
}

fn is_any_address(host: &str) -> bool {
    ["tcp://0.0.0.0:", "tcp://[::]:", "tcp://:"]
        .iter()
        .any(|prefix| host.starts_with(prefix))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A drop-in that takes the `-H` flags out of a unit's command line.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DropIn {
    /// The text of the drop-in.
    pub text: String,
    /// The hosts that the flags named, for `daemon.json`.
    pub hosts: Vec<String>,
}

/// The drop-in that `unit` (the text of a systemd unit) needs so that hosts can stand in
/// `daemon.json`; `None` when its command line names no hosts.
#[must_use]
pub fn drop_in(unit: &str) -> Option<DropIn> {
    let command = exec_start(unit)?;
    let mut kept = Vec::new();
    let mut hosts = Vec::new();
    let mut words = command.split_whitespace();
    while let Some(word) = words.next() {
        if word == "-H" || word == "--host" {
            hosts.extend(words.next().map(str::to_owned));
        } else if let Some(host) = word.strip_prefix("--host=") {
            hosts.push(host.to_owned());
        } else if let Some(host) = word.strip_prefix("-H").filter(|_| !word.starts_with("--")) {
            hosts.push(host.trim_start_matches('=').to_owned());
        } else {
            kept.push(word);
        }
    }
    if hosts.is_empty() {
        return None;
    }
    Some(DropIn {
        text: format!(
            "# Written by Phoenix: dockerd refuses hosts both here and in daemon.json.\n\
             [Service]\nExecStart=\nExecStart={}\n",
            kept.join(" ")
        ),
        hosts,
    })
}

/// The command line of the last `ExecStart=` of a unit, its continued lines joined.
fn exec_start(unit: &str) -> Option<String> {
    let joined = unit.replace("\\\n", " ");
    joined
        .lines()
        .filter_map(|line| line.trim().strip_prefix("ExecStart="))
        .map(str::trim)
        .rfind(|command| !command.is_empty())
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tls() -> DaemonTls {
        DaemonTls::new(
            2376,
            "/c/ca.pem".into(),
            "/c/server.pem".into(),
            "/c/key.pem".into(),
        )
    }

    #[test]
    fn nothing_there_becomes_socket_and_tls() {
        let merged = daemon_json(None, &[], &tls()).expect("merged");
        let value: Value = serde_json::from_str(&merged.text).expect("JSON");
        assert_eq!(
            value,
            json!({
                "hosts": ["unix:///var/run/docker.sock", "tcp://0.0.0.0:2376"],
                "tlsverify": true,
                "tlscacert": "/c/ca.pem",
                "tlscert": "/c/server.pem",
                "tlskey": "/c/key.pem",
            })
        );
        assert_eq!(merged.changes.len(), 5);
    }

    #[test]
    fn hosts_of_the_unit_move_into_the_file() {
        let unit = "[Service]\nExecStart=/usr/sbin/dockerd -H fd:// \\\n  --containerd=/run/c.sock $DOCKER_OPTS\n";
        let drop_in = drop_in(unit).expect("flags");
        assert_eq!(drop_in.hosts, ["fd://"]);
        assert!(
            drop_in.text.contains(
                "\nExecStart=\nExecStart=/usr/sbin/dockerd --containerd=/run/c.sock $DOCKER_OPTS\n"
            ),
            "{}",
            drop_in.text
        );
        let merged = daemon_json(Some("{}"), &drop_in.hosts, &tls()).expect("merged");
        let value: Value = serde_json::from_str(&merged.text).expect("JSON");
        assert_eq!(value["hosts"], json!(["fd://", "tcp://0.0.0.0:2376"]));
    }

    #[test]
    fn a_unit_without_hosts_needs_no_drop_in() {
        for unit in [
            "",
            "[Service]\nExecStart=/usr/bin/dockerd --containerd=/x\n",
            "[Service]\nExecStart=/usr/bin/dockerd -H fd://\nExecStart=\nExecStart=/usr/bin/dockerd\n",
        ] {
            assert_eq!(drop_in(unit), None, "{unit}");
        }
    }

    #[test]
    fn what_cannot_be_understood_is_refused() {
        for text in [
            "[]",
            "{",
            "3",
            r#"{"hosts": "unix://"}"#,
            r#"{"hosts": [1]}"#,
        ] {
            daemon_json(Some(text), &[], &tls()).expect_err(text);
        }
        let error = daemon_json(Some(r#"{"hosts": ["tcp://127.0.0.1:2376"]}"#), &[], &tls())
            .expect_err("port taken");
        assert!(matches!(
            error,
            DaemonJsonError::PortTaken { port: 2376, .. }
        ));
    }

    fn leaf() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[ -~]{0,12}".prop_map(Value::from),
        ]
    }

    proptest! {
        #[test]
        fn every_other_key_is_kept_and_a_second_merge_changes_nothing(
            others in prop::collection::btree_map("[a-z-]{1,12}", leaf(), 0..8),
            with_hosts in any::<bool>(),
        ) {
            let mut object: Map<String, Value> = others
                .into_iter()
                .filter(|(key, _)| !key.starts_with("tls") && key != "hosts")
                .collect();
            if with_hosts {
                object.insert("hosts".into(), json!(["unix:///run/docker.sock"]));
            }
            let text = serde_json::to_string(&object).expect("JSON");
            let merged = daemon_json(Some(&text), &[], &tls()).expect("merged");
            let after: Map<String, Value> = serde_json::from_str(&merged.text).expect("JSON");
            for (key, value) in &object {
                if key != "hosts" {
                    prop_assert_eq!(after.get(key), Some(value));
                }
            }
            let again = daemon_json(Some(&merged.text), &[], &tls()).expect("again");
            prop_assert!(again.changes.is_empty());
            prop_assert_eq!(again.text, merged.text);
        }
    }
}
