//! A stack taken away: services, then, once none of their tasks runs any more, what they used.
//!
//! In this order nothing of it is left behind, and a deployment right after finds every name and
//! address free. Run again it goes on where it was.

use std::time::Duration;

use futures_util::future::join_all;
use serde::Serialize;

use super::apply::{DeployEvent, Teller};
use super::error::{DeployError, asking, check_stack};
use super::plan::{Change, Verb};
use super::{belongs_to, is_network_of};
use crate::docker::{Endpoint, Engine, NetworkObserved, Node, ObjectKind, SwarmState};
use crate::ground::{Deadline, causes};
use crate::stack::STACK_LABEL;

const PAUSE: Duration = Duration::from_millis(200);

/// An engine of a node of the swarm.
#[derive(Debug, Clone)]
pub struct NodeEngine {
    /// What it is called where it is spoken of.
    pub name: String,
    /// The engine.
    pub engine: Engine,
}

/// What was removed of a stack.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Removed {
    /// The stack's name.
    pub stack: String,
    /// What was removed, in order.
    pub changes: Vec<Change>,
    /// Nodes on which volumes of the stack may be left, each with why they could not be looked for.
    pub unreached: Vec<UnreachedNode>,
    /// Worth knowing.
    pub warnings: Vec<String>,
}

/// A node whose volumes could not be removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct UnreachedNode {
    /// Its host name, or what its engine is called.
    pub node: String,
    /// Why.
    pub why: String,
}

impl UnreachedNode {
    /// The node called `node`, which cannot be asked.
    #[must_use]
    pub fn new(node: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            node: node.into(),
            why: why.into(),
        }
    }
}

/// That what a stack ran on a node is not known to have ended.
pub(super) fn left_running(node: &str) -> String {
    format!("node {node} is down: what it runs of removed services ends when it comes back")
}

/// Removes the stack called `stack`: its services, networks, secrets and configs, and with
/// `volumes` its volumes on the nodes of these engines, of which some may be known to be out of
/// reach. Waits for its tasks to end, except on nodes that are down.
///
/// # Errors
/// [`DeployError`]; what was removed by then stays removed.
pub async fn remove(
    engine: &Engine,
    stack: &str,
    volumes: Option<&[Result<NodeEngine, UnreachedNode>]>,
    deadline: Deadline,
    tell: &mut (dyn FnMut(DeployEvent) + Send),
) -> Result<Removed, DeployError> {
    check_stack(stack)?;
    let mut teller = Teller::new(tell);
    let mine = [(STACK_LABEL, Some(stack))];
    let looked = || asking(format!("stack {stack} cannot be looked at"));
    let removed =
        |kind: &str, name: &str| Change::new(Verb::Remove, format!("{kind} {name}"), "asked for");

    let mut services = engine.services(&mine, deadline).await.map_err(looked())?;
    services.sort_by(|a, b| a.name().cmp(b.name()));
    for service in &services {
        let name = service.name();
        let gone = engine
            .remove_service(&service.id, deadline)
            .await
            .map_err(asking(format!("service {name} is not removed")))?;
        if gone {
            teller.changed(removed("service", name));
        }
    }
    let mut warnings = Vec::new();
    // Also of services that an earlier removal has taken away.
    let tasks = engine
        .labelled_tasks(STACK_LABEL, stack, deadline)
        .await
        .map_err(looked())?;
    if !services.is_empty() || tasks.iter().any(|task| !task.state.is_terminal()) {
        teller.tell(DeployEvent::Waiting {
            text: "its tasks to end".to_owned(),
        });
        let lost = engine
            .await_labelled_tasks_gone(STACK_LABEL, stack, deadline)
            .await?;
        warnings.extend(lost.iter().map(|node| left_running(node)));
    }
    let networks = engine.networks(deadline).await.map_err(looked())?;
    let own = |network: &NetworkObserved| is_network_of(network, stack);
    for network in networks.iter().filter(|network| own(network)) {
        let gone = engine
            .remove_network(&network.id, deadline)
            .await
            .map_err(|source| DeployError::Network {
                name: network.name.clone(),
                source,
            })?;
        if gone {
            teller.changed(removed("network", &network.name));
        }
    }
    await_networks_gone(engine, &own, deadline).await?;
    for kind in [ObjectKind::Secret, ObjectKind::Config] {
        for object in engine
            .objects(kind, &mine, deadline)
            .await
            .map_err(looked())?
        {
            let gone = engine
                .await_object_removed(kind, &object.id, deadline)
                .await
                .map_err(|source| DeployError::Object {
                    name: format!("{kind} {}", object.name),
                    source,
                })?;
            if gone {
                teller.changed(removed(&kind.to_string(), &object.name));
            }
        }
    }
    let mut unreached = Vec::new();
    if let Some(engines) = volumes {
        unreached = remove_volumes(engine, stack, engines, deadline, &mut teller).await?;
    }
    Ok(Removed {
        stack: stack.to_owned(),
        changes: teller.changes(),
        unreached,
        warnings,
    })
}

/// Waits until the engine lists none of these networks any more. The swarm has forgotten them by
/// then, but a node lists a network until it has let go of it itself, and whoever deploys would take
/// it for one that is there.
pub(super) async fn await_networks_gone(
    engine: &Engine,
    these: &(impl Fn(&NetworkObserved) -> bool + Sync),
    deadline: Deadline,
) -> Result<(), DeployError> {
    loop {
        let networks = engine
            .networks(deadline)
            .await
            .map_err(asking("the networks cannot be looked at"))?;
        let Some(network) = networks.into_iter().find(these) else {
            return Ok(());
        };
        if deadline.pause(PAUSE).await.is_err() {
            return Err(DeployError::Lingers { name: network.name });
        }
    }
}

/// What became of the volumes of one engine.
#[derive(Default)]
struct Swept {
    /// Its node's identifier, where that is known.
    node: Option<String>,
    /// The volumes that were removed, each with what the engine is called.
    removed: Vec<(String, String)>,
    failed: Option<UnreachedNode>,
    /// Whether the engine did not answer at all.
    silent: bool,
}

async fn remove_volumes(
    engine: &Engine,
    stack: &str,
    engines: &[Result<NodeEngine, UnreachedNode>],
    deadline: Deadline,
    teller: &mut Teller<'_>,
) -> Result<Vec<UnreachedNode>, DeployError> {
    let nodes = engine
        .nodes(deadline)
        .await
        .map_err(asking("the nodes cannot be looked at"))?;
    let swept = join_all(engines.iter().map(async |node| match node {
        Ok(node) => sweep(node, stack, &nodes, deadline).await,
        Err(unreached) => Swept {
            node: named(&nodes, &unreached.node),
            failed: Some(unreached.clone()),
            ..Swept::default()
        },
    }))
    .await;
    for swept in &swept {
        for (volume, node) in &swept.removed {
            let what = format!("volume {volume} on {node}");
            teller.changed(Change::new(Verb::Remove, what, "asked for"));
        }
    }
    Ok(unreached(&nodes, swept))
}

/// The identifier of the node of this host name, or of this address.
fn named(nodes: &[Node], name: &str) -> Option<String> {
    let node = nodes
        .iter()
        .find(|node| node.hostname == name || node.addr == name)?;
    Some(node.id.clone())
}

/// The nodes on which volumes may be left, each once. An engine that does not answer does not say
/// which node's it is either.
fn unreached(nodes: &[Node], swept: Vec<Swept>) -> Vec<UnreachedNode> {
    let (known, unknown): (Vec<Swept>, Vec<Swept>) =
        swept.into_iter().partition(|one| one.node.is_some());
    let silent: Vec<String> = unknown
        .iter()
        .filter(|one| one.silent)
        .filter_map(|one| one.failed.as_ref())
        .map(|failed| format!("{}: {}", failed.node, failed.why))
        .collect();
    let mut unreached = Vec::new();
    for node in nodes {
        let own = || {
            known
                .iter()
                .filter(|one| one.node.as_ref() == Some(&node.id))
        };
        // One way to it that works is enough.
        if own().any(|one| one.failed.is_none()) {
            continue;
        }
        let why = match own().find_map(|one| one.failed.as_ref()) {
            Some(failed) => failed.why.clone(),
            None if silent.is_empty() => "no way to its engine was given".to_owned(),
            None => format!("no engine that answered is its own ({})", silent.join("; ")),
        };
        unreached.push(UnreachedNode::new(&node.hostname, why));
    }
    let strange = unknown.into_iter().filter(|one| !one.silent);
    unreached.extend(strange.filter_map(|one| one.failed));
    unreached
}

/// Removes the volumes of the stack on an engine that is one of `nodes`: another swarm may have a
/// stack of the same name.
async fn sweep(node: &NodeEngine, stack: &str, nodes: &[Node], deadline: Deadline) -> Swept {
    let mut swept = Swept::default();
    let failed = |why: String| Some(UnreachedNode::new(&node.name, why));
    match node.engine.info(deadline).await {
        Ok(info) => {
            if let SwarmState::Active(active) = info.swarm
                && nodes.iter().any(|node| node.id == active.node_id)
            {
                swept.node = Some(active.node_id);
            } else {
                swept.failed = failed("its engine is no node of this swarm".to_owned());
                return swept;
            }
        }
        Err(error) => {
            swept.node = match node.engine.endpoint() {
                Endpoint::Tcp { host, .. } => named(nodes, host),
                _ => None,
            };
            swept.node = swept.node.or_else(|| named(nodes, &node.name));
            swept.silent = true;
            swept.failed = failed(causes(&error));
            return swept;
        }
    }
    let volumes = match node.engine.volumes(deadline).await {
        Ok(volumes) => volumes,
        Err(error) => {
            swept.failed = failed(causes(&error));
            return swept;
        }
    };
    for volume in volumes {
        if !belongs_to(&volume.labels, stack) {
            continue;
        }
        match node.engine.remove_volume(&volume.name, deadline).await {
            Ok(_) => swept.removed.push((volume.name, node.name.clone())),
            Err(error) => swept.failed = failed(causes(&error)),
        }
    }
    swept
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::docker::testing::{Scripted, ok, refused, soon};

    fn node_called(id: &str, name: &str) -> Node {
        let node = json!({
            "ID": id, "Version": {"Index": 1}, "Spec": {"Role": "manager", "Availability": "active"},
            "Description": {"Hostname": name, "Engine": {"EngineVersion": "26.1.5"}},
            "Status": {"State": "ready", "Addr": format!("10.0.0.{id}")},
        });
        Node::from_json(node).unwrap()
    }

    #[test]
    fn every_node_that_was_not_reached_is_listed_once_with_what_is_known() {
        let nodes = [
            node_called("1", "one"),
            node_called("2", "two"),
            node_called("3", "three"),
        ];
        let reached = |id: &str| Swept {
            node: Some(id.to_owned()),
            ..Swept::default()
        };
        let failed = |node: Option<&str>, name: &str, silent| Swept {
            node: node.map(str::to_owned),
            failed: Some(UnreachedNode::new(name, "it is broken")),
            silent,
            ..Swept::default()
        };
        let listed = |swept| -> Vec<String> {
            let all = unreached(&nodes, swept);
            all.iter()
                .map(|one| format!("{}: {}", one.node, one.why))
                .collect()
        };
        assert_eq!(
            listed(["1", "2", "3"].map(reached).into()),
            Vec::<String>::new()
        );
        assert_eq!(
            listed(["1", "2"].map(reached).into()),
            ["three: no way to its engine was given"]
        );
        // A site says why.
        assert_eq!(
            listed(vec![
                reached("1"),
                reached("2"),
                failed(Some("3"), "three", false)
            ]),
            ["three: it is broken"]
        );
        // A URL says nothing of whose it is.
        assert_eq!(
            listed(vec![
                reached("1"),
                reached("2"),
                failed(None, "unix:///x", true)
            ]),
            ["three: no engine that answered is its own (unix:///x: it is broken)"]
        );
        // Two ways to one engine.
        let two = vec![
            reached("1"),
            reached("2"),
            failed(Some("3"), "x", true),
            reached("3"),
        ];
        assert_eq!(listed(two), Vec::<String>::new());
        let strange = vec![
            reached("1"),
            reached("2"),
            reached("3"),
            failed(None, "y", false),
        ];
        assert_eq!(listed(strange), ["y: it is broken"]);
        assert_eq!(named(&nodes, "10.0.0.2").as_deref(), Some("2"));
        assert_eq!(named(&nodes, "three").as_deref(), Some("3"));
        assert_eq!(named(&nodes, ""), None);
    }

    #[tokio::test]
    async fn a_node_that_is_down_keeps_nothing_from_being_removed() {
        let (server, engine) = Scripted::unix(|seen| match seen.operation().as_str() {
            "GET /services" => ok(&json!([])),
            "GET /tasks" => ok(&json!([{
                "ID": "t1", "ServiceID": "s1", "NodeID": "2", "DesiredState": "remove",
                "Status": {"State": "running"},
                "Spec": {"ContainerSpec": {"Labels": {STACK_LABEL: "st"}}},
            }])),
            "GET /nodes" => ok(&json!([{
                "ID": "2", "Spec": {"Role": "worker", "Availability": "active"},
                "Description": {"Hostname": "two"}, "Status": {"State": "down"},
            }])),
            "GET /networks" if seen.nth == 0 => ok(&json!([{
                "Name": "st_default", "Id": "x1", "Scope": "swarm", "Driver": "overlay",
                "Labels": {STACK_LABEL: "st"},
            }])),
            "GET /secrets" => ok(&json!([{
                "ID": "x2", "Spec": {"Name": "st_key", "Labels": {STACK_LABEL: "st"}},
            }])),
            operation if operation.starts_with("GET ") => ok(&json!([])),
            _ => ok(&json!({})),
        });
        let removed = remove(&engine, "st", None, soon(), &mut |_| ())
            .await
            .unwrap();
        assert_eq!(
            removed.warnings,
            ["node two is down: what it runs of removed services ends when it comes back"]
        );
        let asked = server.operations();
        let gone: Vec<&String> = asked
            .iter()
            .filter(|one| one.starts_with("DELETE"))
            .collect();
        assert_eq!(gone, ["DELETE /networks/x1", "DELETE /secrets/x2"]);
    }

    #[tokio::test]
    async fn volumes_of_another_swarm_are_left_alone() {
        let (server, engine) = Scripted::unix(|seen| match seen.operation().as_str() {
            "GET /info" => ok(&json!({"Swarm": {
                "LocalNodeState": "active", "NodeID": "n1", "RemoteManagers": null,
            }})),
            "GET /volumes" => ok(&json!({"Volumes": [{
                "Name": "st_data", "Driver": "local", "Scope": "local", "Mountpoint": "/v",
                "Options": null, "Labels": {"com.docker.stack.namespace": "st"},
            }], "Warnings": null})),
            "DELETE /volumes/st_data" => ok(&json!({})),
            _ => refused(404, "not found"),
        });
        let node = NodeEngine {
            name: "one".to_owned(),
            engine,
        };
        let swept = sweep(&node, "st", &[node_called("other", "one")], soon()).await;
        assert!(swept.removed.is_empty());
        assert!(swept.failed.unwrap().why.contains("no node of this swarm"));
        assert_eq!(
            server
                .operations()
                .iter()
                .filter(|one| one.starts_with("DELETE"))
                .count(),
            0
        );
        let swept = sweep(&node, "st", &[node_called("n1", "one")], soon()).await;
        assert_eq!(swept.removed, [("st_data".to_owned(), "one".to_owned())]);
        assert_eq!(swept.failed, None);
    }
}
