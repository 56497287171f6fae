//! Which nodes a global service's tasks belong on, by swarmkit's rules for placement
//! constraints: values compare without case, label keys with.

use std::collections::BTreeSet;

use super::node::{Node, NodeRole};
use super::service::ServiceObserved;

/// The identifiers of the nodes on which a global service should run a task: up, not drained,
/// and satisfying its constraints. `None` when a constraint cannot be decided from what is known
/// of nodes (`node.ip`).
#[must_use]
pub fn eligible_nodes<'a>(
    service: &ServiceObserved,
    nodes: &'a [Node],
) -> Option<BTreeSet<&'a str>> {
    nodes_for(&service.constraints(), nodes)
}

/// As [`eligible_nodes`], for constraints alone.
pub(super) fn nodes_for<'a>(constraints: &[&str], nodes: &'a [Node]) -> Option<BTreeSet<&'a str>> {
    let constraints = constraints
        .iter()
        .map(|text| Constraint::parse(text))
        .collect::<Option<Vec<_>>>()?;
    let mut eligible = BTreeSet::new();
    for node in nodes {
        if node.is_down() || node.availability == "drain" {
            continue;
        }
        let mut fits = true;
        for constraint in &constraints {
            fits &= constraint.allows(node)?;
        }
        if fits {
            eligible.insert(node.id.as_str());
        }
    }
    Some(eligible)
}

struct Constraint<'a> {
    key: &'a str,
    equal: bool,
    value: &'a str,
}

impl<'a> Constraint<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (key, equal, value) = match (text.split_once("=="), text.split_once("!=")) {
            (Some((key, value)), None) => (key, true, value),
            (None, Some((key, value))) => (key, false, value),
            _ => return None,
        };
        Some(Self {
            key: key.trim(),
            equal,
            value: value.trim(),
        })
    }

    /// Whether the node satisfies it; `None` when that cannot be told.
    fn allows(&self, node: &Node) -> Option<bool> {
        let key = self.key.to_ascii_lowercase();
        let label = |prefix: &str, labels: &std::collections::BTreeMap<String, String>| {
            let name = &self.key[prefix.len()..];
            labels.get(name).cloned().unwrap_or_default()
        };
        let found = match key.as_str() {
            "node.id" => node.id.clone(),
            "node.hostname" => node.hostname.clone(),
            "node.role" => match node.role {
                NodeRole::Manager => "manager",
                NodeRole::Worker => "worker",
            }
            .to_owned(),
            "node.platform.os" => node.os.clone(),
            "node.platform.arch" => node.arch.clone(),
            _ if key.starts_with("node.labels.") => label("node.labels.", &node.labels),
            _ if key.starts_with("engine.labels.") => label("engine.labels.", &node.engine_labels),
            "node.ip" => return None,
            _ => return Some(false),
        };
        Some(found.eq_ignore_ascii_case(self.value) == self.equal)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(id: &str, role: &str, state: &str, availability: &str, zone: &str) -> Node {
        Node::from_json(json!({
            "ID": id,
            "Spec": {"Role": role, "Availability": availability, "Labels": {"zone": zone}},
            "Description": {
                "Hostname": format!("{id}.example"),
                "Platform": {"Architecture": "x86_64", "OS": "linux"},
                "Engine": {"Labels": {"disk": "ssd"}}
            },
            "Status": {"State": state}
        }))
        .expect("node")
    }

    fn eligible(constraints: &[&str]) -> Option<Vec<String>> {
        let nodes = [
            node("m", "manager", "ready", "active", "a"),
            node("w", "worker", "ready", "active", "B"),
            node("down", "worker", "down", "active", "a"),
            node("drained", "worker", "ready", "drain", "a"),
        ];
        let service = ServiceObserved::from_json(json!({
            "ID": "s",
            "Spec": {"TaskTemplate": {"Placement": {"Constraints": constraints}}}
        }))
        .expect("service");
        eligible_nodes(&service, &nodes).map(|ids| ids.into_iter().map(str::to_owned).collect())
    }

    #[test]
    fn constraints_choose_nodes_as_the_swarm_does() {
        let ids = |ids: &[&str]| Some(ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>());
        assert_eq!(eligible(&[]), ids(&["m", "w"]));
        assert_eq!(eligible(&["node.role==manager"]), ids(&["m"]));
        assert_eq!(eligible(&["node.role != manager"]), ids(&["w"]));
        assert_eq!(eligible(&["node.labels.zone == b"]), ids(&["w"]));
        assert_eq!(eligible(&["Node.Labels.zone == b"]), ids(&["w"]));
        assert_eq!(eligible(&["node.labels.Zone == b"]), ids(&[]));
        assert_eq!(eligible(&["node.labels.missing != x"]), ids(&["m", "w"]));
        assert_eq!(
            eligible(&["engine.labels.disk==ssd", "node.hostname==M.example"]),
            ids(&["m"])
        );
        assert_eq!(eligible(&["node.platform.arch==aarch64"]), ids(&[]));
        assert_eq!(eligible(&["something.else==x"]), ids(&[]));
        assert_eq!(eligible(&["node.ip==10.0.0.1"]), None);
    }
}
