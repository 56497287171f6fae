//! Lists in which the swarm's format wants every entry once.

use std::collections::HashSet;

use crate::ground::document::{Node, Value, child_path};

use super::findings::{Findings, matches};

const LISTS: &[&str] = &[
    "configs.*.labels",
    "networks.*.labels",
    "secrets.*.labels",
    "services.*.cap_add",
    "services.*.cap_drop",
    "services.*.depends_on",
    "services.*.deploy.labels",
    "services.*.dns",
    "services.*.dns_search",
    "services.*.env_file",
    "services.*.environment",
    "services.*.extra_hosts",
    "services.*.labels",
    "services.*.networks.*.aliases",
    "services.*.sysctls",
    "services.*.tmpfs",
    "volumes.*.labels",
];

/// Refuses entries that stand in a list of `root` already.
pub(super) fn refuse(root: &Node, findings: &mut Findings) {
    walk(root, "", &mut Vec::new(), findings);
}

fn walk<'n>(node: &'n Node, path: &str, way: &mut Vec<&'n str>, findings: &mut Findings) {
    match &node.value {
        Value::Map(map) => {
            for entry in map {
                way.push(&entry.key);
                walk(&entry.value, &child_path(path, &entry.key), way, findings);
                way.pop();
            }
        }
        Value::List(items) if LISTS.iter().any(|list| matches(list, way)) => {
            let mut seen = HashSet::new();
            for (index, item) in items.iter().enumerate() {
                let Some(text) = item.text() else { continue };
                if !seen.insert(text) {
                    findings.refuse(
                        item.position,
                        &format!("{path}[{index}]"),
                        Some(text),
                        "this entry is in the list already",
                        None,
                    );
                }
            }
        }
        _ => {}
    }
}
