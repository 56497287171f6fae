//! The versions of the swarm's format: which there are, and since when a key is known.

use crate::ground::document::{Node, Position, Value, child_path};

use super::findings::{Findings, map, matches};

/// The newest version's number after `3.`, which a file without version has.
pub(super) const NEWEST: u8 = 13;

/// Keys that came later than version 3.0.
const SINCE: &[(u8, &str)] = &[
    (1, "secrets"),
    (1, "services.*.secrets"),
    (2, "networks.*.attachable"),
    (2, "services.*.deploy.endpoint_mode"),
    (3, "configs"),
    (3, "services.*.configs"),
    (3, "services.*.credential_spec"),
    (3, "services.*.deploy.placement.preferences"),
    (4, "services.*.deploy.update_config.order"),
    (4, "services.*.healthcheck.start_period"),
    (4, "volumes.*.name"),
    (5, "configs.*.name"),
    (5, "networks.*.name"),
    (5, "secrets.*.name"),
    (
        5,
        "services.*.deploy.resources.reservations.generic_resources",
    ),
    (5, "services.*.isolation"),
    (6, "services.*.volumes.[].tmpfs"),
    (7, "services.*.deploy.rollback_config"),
    (7, "services.*.init"),
    (8, "configs.*.template_driver"),
    (8, "secrets.*.driver"),
    (8, "secrets.*.driver_opts"),
    (8, "secrets.*.template_driver"),
    (8, "services.*.credential_spec.config"),
    (8, "services.*.deploy.placement.max_replicas_per_node"),
    (9, "services.*.cgroupns_mode"),
    (9, "services.*.deploy.resources.limits.pids"),
    (10, "volumes.*.x-cluster-spec"),
    (12, "services.*.healthcheck.start_interval"),
    (13, "services.*.networks.*.driver_opts"),
    (13, "services.*.oom_score_adj"),
];

/// Places where items in long form and extensions came later than version 3.0.
const LONG_FORMS: &[(u8, &str)] = &[(2, "services.*.ports.[]"), (2, "services.*.volumes.[]")];
const EXTENSIONS: &[(u8, usize)] = &[(4, 1), (7, 3)];

/// The number after `3.` of the version that the file at `root` has, or the newest one.
pub(super) fn version(root: &Node, findings: &mut Findings) -> u8 {
    let Some(node) = map(root).and_then(|map| map.get("version")) else {
        return NEWEST;
    };
    let minor = match &node.value {
        Value::String(version) => match version.as_str() {
            "" | "3" => Some(NEWEST),
            _ => version
                .strip_prefix("3.")
                .filter(|minor| !minor.starts_with('0') || *minor == "0")
                .and_then(|minor| minor.parse().ok())
                .filter(|minor| *minor <= NEWEST),
        },
        _ => {
            findings.refuse(
                node.position,
                "version",
                node.text(),
                format!(
                    "a text is expected here, not {}: quote it",
                    node.value.kind()
                ),
                node.text().map(|text| format!("\"{text}\"")),
            );
            return NEWEST;
        }
    };
    minor.unwrap_or_else(|| {
        findings.refuse(
            node.position,
            "version",
            node.text(),
            "only the versions 3 and 3.0 to 3.13 describe stacks; the key can be left out",
            None,
        );
        NEWEST
    })
}

/// Where the file at `root` says its version, or would.
pub(super) fn place(root: &Node) -> Position {
    map(root)
        .and_then(|map| map.get("version"))
        .map_or(root.position, |node| node.position)
}

/// Refuses keys that version `3.minor` does not know yet.
pub(super) fn refuse_later_keys(root: &Node, minor: u8, findings: &mut Findings) {
    if minor < NEWEST {
        walk(root, minor, "", &mut Vec::new(), findings);
    }
}

fn walk<'n>(
    node: &'n Node,
    minor: u8,
    path: &str,
    way: &mut Vec<&'n str>,
    findings: &mut Findings,
) {
    match &node.value {
        Value::Map(map) => {
            if let Some((since, _)) = first(LONG_FORMS, minor, way) {
                findings.refuse(
                    node.position,
                    path,
                    None,
                    format!("the long form is known since version 3.{since}, and this file has 3.{minor}"),
                    None,
                );
                return;
            }
            for entry in map {
                way.push(&entry.key);
                let path = child_path(path, &entry.key);
                let since = first(SINCE, minor, way)
                    .map(|(since, _)| since)
                    .or_else(|| {
                        let mut extensions = EXTENSIONS.iter();
                        let known = entry.key.starts_with("x-")
                            && !matches("volumes.*.x-cluster-spec", way);
                        extensions
                            .find(|(since, depth)| known && way.len() == *depth && *since > minor)
                            .map(|(since, _)| *since)
                    });
                if let Some(since) = since {
                    findings.refuse(
                        entry.key_position,
                        &path,
                        Some(&entry.key),
                        format!(
                            "this key is known since version 3.{since}, and this file has 3.{minor}"
                        ),
                        None,
                    );
                } else {
                    walk(&entry.value, minor, &path, way, findings);
                }
                way.pop();
            }
        }
        Value::List(items) => {
            way.push("[]");
            for (index, item) in items.iter().enumerate() {
                walk(item, minor, &format!("{path}[{index}]"), way, findings);
            }
            way.pop();
        }
        _ => {}
    }
}

fn first<'p>(patterns: &[(u8, &'p str)], minor: u8, way: &[&str]) -> Option<(u8, &'p str)> {
    patterns
        .iter()
        .find(|(since, pattern)| *since > minor && matches(pattern, way))
        .copied()
}
