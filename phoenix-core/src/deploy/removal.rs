//! A stack taken away: services, then, once none of their tasks runs any more, what they used.
//!
//! In this order nothing of it is left behind, and a deployment right after finds every name and
//! address free. Run again it goes on where it was.

use std::time::Duration;

use futures_util::future::join_all;
use serde::Serialize;

use super::apply::{DeployEvent, Teller};
use super::error::{DeployError, asking};
use super::plan::{Change, Verb};
use crate::docker::{Engine, NetworkObserved, Node, ObjectKind, SwarmState};
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

/// Removes the stack called `stack`: its services, networks, secrets and configs, and with
/// `volumes` its volumes on the nodes of these engines. Waits for its tasks to end.
///
/// # Errors
/// [`DeployError`]; what was removed by then stays removed.
pub async fn remove(
    engine: &Engine,
    stack: &str,
    volumes: Option<&[NodeEngine]>,
    deadline: Deadline,
    tell: &mut (dyn FnMut(DeployEvent) + Send),
) -> Result<Removed, DeployError> {
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
    // Also of services that an earlier removal has taken away.
    let tasks = engine
        .labelled_tasks(STACK_LABEL, stack, deadline)
        .await
        .map_err(looked())?;
    if !services.is_empty() || tasks.iter().any(|task| !task.state.is_terminal()) {
        teller.tell(DeployEvent::Waiting {
            text: "its tasks to end".to_owned(),
        });
        engine
            .await_labelled_tasks_gone(STACK_LABEL, stack, deadline)
            .await?;
    }
    let networks = engine.networks(deadline).await.map_err(looked())?;
    let own = |network: &NetworkObserved| {
        network.scope == "swarm"
            && network.labels.get(STACK_LABEL).map(String::as_str) == Some(stack)
    };
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
struct Swept {
    /// Its node's identifier, where it answered.
    node: Option<String>,
    removed: Vec<String>,
    failed: Option<String>,
}

async fn remove_volumes(
    engine: &Engine,
    stack: &str,
    engines: &[NodeEngine],
    deadline: Deadline,
    teller: &mut Teller<'_>,
) -> Result<Vec<UnreachedNode>, DeployError> {
    let nodes = engine
        .nodes(deadline)
        .await
        .map_err(asking("the nodes cannot be looked at"))?;
    let swept = join_all(
        engines
            .iter()
            .map(async |node| sweep(node, stack, &nodes, deadline).await),
    )
    .await;
    let mut unreached = Vec::new();
    let mut reached = Vec::new();
    for (node, swept) in engines.iter().zip(swept) {
        for volume in swept.removed {
            let what = format!("volume {volume} on {}", node.name);
            teller.changed(Change::new(Verb::Remove, what, "asked for"));
        }
        reached.extend(swept.node);
        if let Some(why) = swept.failed {
            let node = node.name.clone();
            unreached.push(UnreachedNode { node, why });
        }
    }
    for node in nodes {
        let known = engines.iter().any(|one| one.name == node.hostname);
        if !reached.contains(&node.id) && !known {
            unreached.push(UnreachedNode {
                node: node.hostname,
                why: "no way to its engine was given".to_owned(),
            });
        }
    }
    Ok(unreached)
}

/// Removes the volumes of the stack on an engine that is one of `nodes`: another swarm may have a
/// stack of the same name.
async fn sweep(node: &NodeEngine, stack: &str, nodes: &[Node], deadline: Deadline) -> Swept {
    let mut swept = Swept {
        node: None,
        removed: Vec::new(),
        failed: None,
    };
    match node.engine.info(deadline).await {
        Ok(info) => {
            if let SwarmState::Active(active) = info.swarm
                && nodes.iter().any(|node| node.id == active.node_id)
            {
                swept.node = Some(active.node_id);
            } else {
                swept.failed = Some("its engine is no node of this swarm".to_owned());
                return swept;
            }
        }
        Err(error) => {
            swept.failed = Some(causes(&error));
            return swept;
        }
    }
    let volumes = match node.engine.volumes(deadline).await {
        Ok(volumes) => volumes,
        Err(error) => {
            swept.failed = Some(causes(&error));
            return swept;
        }
    };
    for volume in volumes {
        if volume.labels.get(STACK_LABEL).map(String::as_str) != Some(stack) {
            continue;
        }
        match node.engine.remove_volume(&volume.name, deadline).await {
            Ok(_) => swept.removed.push(volume.name),
            Err(error) => swept.failed = Some(causes(&error)),
        }
    }
    swept
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::docker::testing::{Scripted, ok, refused, soon};

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
        let node_called = |id: &str| {
            let node = json!({
                "ID": id, "Version": {"Index": 1}, "Spec": {"Role": "manager", "Availability": "active"},
                "Description": {"Hostname": "one", "Engine": {"EngineVersion": "26.1.5"}},
                "Status": {"State": "ready", "Addr": "10.0.0.1"},
            });
            Node::from_json(node).unwrap()
        };
        let swept = sweep(&node, "st", &[node_called("other")], soon()).await;
        assert!(swept.removed.is_empty());
        assert!(swept.failed.unwrap().contains("no node of this swarm"));
        assert_eq!(
            server
                .operations()
                .iter()
                .filter(|one| one.starts_with("DELETE"))
                .count(),
            0
        );
        let swept = sweep(&node, "st", &[node_called("n1")], soon()).await;
        assert_eq!(swept.removed, ["st_data"]);
        assert_eq!(swept.failed, None);
    }
}
