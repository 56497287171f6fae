//! Nodes of the swarm, as its managers know them.
//!
//! The manager changes nodes behind a client's back (leader changes, heartbeats), and an update
//! replaces the whole spec: so every change reads the node, changes the JSON it got, and starts
//! over when the engine says that the version is stale.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::call::Call;
use super::engine::Engine;
use super::error::{EngineError, Refusal};
use super::wire::{ObjectVersion, nullable};
use crate::ground::Deadline;

const POLL: Duration = Duration::from_millis(400);
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// The part a node plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NodeRole {
    /// Takes part in the raft.
    Manager,
    /// Runs tasks only.
    Worker,
}

impl NodeRole {
    fn word(self) -> &'static str {
        match self {
            Self::Manager => "manager",
            Self::Worker => "worker",
        }
    }
}

impl fmt::Display for NodeRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A manager's place in the raft.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
#[non_exhaustive]
pub struct ManagerStatus {
    /// Whether it leads.
    #[serde(default, deserialize_with = "nullable")]
    pub leader: bool,
    /// `reachable`, `unreachable` or `unknown`.
    #[serde(default, deserialize_with = "nullable")]
    pub reachability: String,
    /// Its address.
    #[serde(default, deserialize_with = "nullable")]
    pub addr: String,
}

/// A node of the swarm.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Node {
    /// Its identifier.
    pub id: String,
    /// The version that an update must name.
    pub version: u64,
    /// The engine's host name.
    pub hostname: String,
    /// `ready`, `down`, `unknown` or `disconnected`.
    pub state: String,
    /// What the manager says of the state; often empty.
    pub message: String,
    /// Its address, as the manager sees it.
    pub addr: String,
    /// `active`, `pause` or `drain`.
    pub availability: String,
    /// The role it should have. Promotion takes a while: see [`Self::manager`].
    pub role: NodeRole,
    /// Its place in the raft; absent for workers and for managers not yet in it.
    pub manager: Option<ManagerStatus>,
    /// Labels that the swarm's operator set.
    pub labels: BTreeMap<String, String>,
    /// Labels of the engine's own configuration.
    pub engine_labels: BTreeMap<String, String>,
    /// The engine's software version, such as `26.1.5+dfsg1`.
    pub engine: String,
    /// Operating system, such as `linux`.
    pub os: String,
    /// Architecture in the kernel's words, such as `x86_64`.
    pub arch: String,
}

impl Node {
    /// Whether it takes tasks as far as its state goes.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.state == "ready"
    }

    /// Whether it is down: what runs there cannot be known.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.state == "down"
    }

    /// Reads a node from the engine's JSON.
    ///
    /// # Errors
    /// When it is not of the documented shape.
    pub fn from_json(value: Value) -> Result<Self, serde_json::Error> {
        Wire::deserialize(value).map(Wire::into_node)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Wire {
    #[serde(rename = "ID")]
    id: String,
    #[serde(default)]
    version: ObjectVersion,
    #[serde(default, deserialize_with = "nullable")]
    spec: Spec,
    #[serde(default, deserialize_with = "nullable")]
    description: Description,
    #[serde(default, deserialize_with = "nullable")]
    status: Status,
    manager_status: Option<ManagerStatus>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Spec {
    #[serde(default, deserialize_with = "nullable")]
    labels: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "nullable")]
    role: String,
    #[serde(default, deserialize_with = "nullable")]
    availability: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Description {
    #[serde(default, deserialize_with = "nullable")]
    hostname: String,
    #[serde(default, deserialize_with = "nullable")]
    platform: Platform,
    #[serde(default, deserialize_with = "nullable")]
    engine: EngineDescription,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Platform {
    #[serde(default, deserialize_with = "nullable")]
    architecture: String,
    #[serde(rename = "OS", default, deserialize_with = "nullable")]
    os: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct EngineDescription {
    #[serde(default, deserialize_with = "nullable")]
    engine_version: String,
    #[serde(default, deserialize_with = "nullable")]
    labels: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Status {
    #[serde(default, deserialize_with = "nullable")]
    state: String,
    #[serde(default, deserialize_with = "nullable")]
    message: String,
    #[serde(default, deserialize_with = "nullable")]
    addr: String,
}

impl Wire {
    fn into_node(self) -> Node {
        Node {
            id: self.id,
            version: self.version.index,
            hostname: self.description.hostname,
            state: self.status.state,
            message: self.status.message,
            addr: self.status.addr,
            availability: self.spec.availability,
            role: if self.spec.role == "manager" {
                NodeRole::Manager
            } else {
                NodeRole::Worker
            },
            manager: self.manager_status,
            labels: self.spec.labels,
            engine_labels: self.description.engine.labels,
            engine: self.description.engine.engine_version,
            os: self.description.platform.os,
            arch: self.description.platform.architecture,
        }
    }
}

/// Waiting for a node, or changing it, failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The swarm has no such node.
    #[error("the swarm has no node {id}")]
    NotFound {
        /// The identifier asked for.
        id: String,
    },
    /// The node is not as awaited by the deadline.
    #[error(
        "node {id} is not {awaited} after {}: {found}",
        humantime::format_duration(*waited)
    )]
    NotInTime {
        /// The identifier.
        id: String,
        /// What was awaited.
        awaited: &'static str,
        /// How long was waited.
        waited: Duration,
        /// How it was found last.
        found: String,
    },
    /// The node kept changing until the deadline.
    #[error("node {id} kept changing while it was being updated")]
    Contended {
        /// The identifier.
        id: String,
        /// The last refusal.
        source: EngineError,
    },
    /// The engine could not be asked, or refused.
    #[error("a request about swarm nodes failed")]
    Engine {
        /// How.
        #[from]
        source: EngineError,
    },
}

impl Engine {
    /// The nodes of the swarm, asked of a manager.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn nodes(&self, deadline: Deadline) -> Result<Vec<Node>, EngineError> {
        let wires: Vec<Wire> = self.fetch(Call::get(&["nodes"]), deadline).await?;
        Ok(wires.into_iter().map(Wire::into_node).collect())
    }

    /// The node with exactly this identifier.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn node(&self, id: &str, deadline: Deadline) -> Result<Option<Node>, EngineError> {
        let wire: Option<Wire> = self
            .fetch_optional(Call::get(&["nodes", id]), deadline)
            .await?;
        // The engine also finds by host name and by prefix.
        Ok(wire.map(Wire::into_node).filter(|node| node.id == id))
    }

    /// Waits until the manager holds the node for ready.
    ///
    /// # Errors
    /// [`NodeError::NotInTime`] at the deadline, or [`NodeError::Engine`].
    pub async fn await_node_ready(&self, id: &str, deadline: Deadline) -> Result<Node, NodeError> {
        self.await_node(id, "ready", deadline, Node::is_ready).await
    }

    /// Waits until a promotion or a demotion is done: the raft has the node, or not any more.
    ///
    /// # Errors
    /// [`NodeError::NotInTime`] at the deadline, or [`NodeError::Engine`].
    pub async fn await_node_role(
        &self,
        id: &str,
        role: NodeRole,
        deadline: Deadline,
    ) -> Result<Node, NodeError> {
        match role {
            NodeRole::Manager => {
                self.await_node(id, "a reachable manager", deadline, |node| {
                    node.manager
                        .as_ref()
                        .is_some_and(|status| status.reachability == "reachable")
                })
                .await
            }
            NodeRole::Worker => {
                self.await_node(id, "a worker", deadline, |node| node.manager.is_none())
                    .await
            }
        }
    }

    async fn await_node(
        &self,
        id: &str,
        awaited: &'static str,
        deadline: Deadline,
        done: impl Fn(&Node) -> bool,
    ) -> Result<Node, NodeError> {
        let mut found = "the swarm does not know it".to_owned();
        loop {
            match self.node(id, deadline).await {
                Ok(Some(node)) if done(&node) => return Ok(node),
                Ok(Some(node)) => {
                    found = format!("it is a {} and {}", node.role.word(), node.state);
                    if !node.message.is_empty() {
                        found = format!("{found} ({})", node.message);
                    }
                }
                Ok(None) => {}
                Err(error) if error.is_transient() && !deadline.is_over() => {}
                Err(source) => return Err(source.into()),
            }
            if let Err(elapsed) = deadline.pause(POLL).await {
                return Err(NodeError::NotInTime {
                    id: id.to_owned(),
                    awaited,
                    waited: elapsed.allowed,
                    found,
                });
            }
        }
    }

    /// Sets and removes labels of a node, leaving its others. Says whether anything differed;
    /// nothing is written when not.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn set_node_labels(
        &self,
        id: &str,
        set: &BTreeMap<String, String>,
        remove: &[String],
        deadline: Deadline,
    ) -> Result<bool, NodeError> {
        self.update_node(id, deadline, |spec| {
            let mut labels: BTreeMap<String, String> = spec
                .get("Labels")
                .and_then(|labels| BTreeMap::deserialize(labels).ok())
                .unwrap_or_default();
            let before = labels.clone();
            for key in remove {
                labels.remove(key);
            }
            labels.extend(set.clone());
            let changed = labels != before;
            spec.insert("Labels".to_owned(), serde_json::json!(labels));
            changed
        })
        .await
    }

    /// Promotes or demotes a node. Takes effect later: see [`Engine::await_node_role`]. Says
    /// whether anything differed; nothing is written when not.
    ///
    /// # Errors
    /// [`NodeError`]; the engine refuses to demote the last manager, or one whose loss would
    /// cost the quorum.
    pub async fn set_node_role(
        &self,
        id: &str,
        role: NodeRole,
        deadline: Deadline,
    ) -> Result<bool, NodeError> {
        self.update_node(id, deadline, |spec| {
            let word = role.word();
            let changed = spec.get("Role").and_then(Value::as_str) != Some(word);
            spec.insert("Role".to_owned(), word.into());
            changed
        })
        .await
    }

    async fn update_node(
        &self,
        id: &str,
        deadline: Deadline,
        change: impl Fn(&mut serde_json::Map<String, Value>) -> bool,
    ) -> Result<bool, NodeError> {
        let mut written = false;
        loop {
            let node: Option<Value> = self
                .fetch_optional(Call::get(&["nodes", id]), deadline)
                .await?;
            let not_found = || NodeError::NotFound { id: id.to_owned() };
            let node = node
                .filter(|node| node.get("ID").and_then(Value::as_str) == Some(id))
                .ok_or_else(not_found)?;
            let version = node
                .pointer("/Version/Index")
                .and_then(Value::as_u64)
                .unwrap_or_default();
            let mut spec = match node.get("Spec") {
                Some(Value::Object(spec)) => spec.clone(),
                _ => serde_json::Map::new(),
            };
            if !change(&mut spec) {
                return Ok(written);
            }
            let call = Call::post(&["nodes", id, "update"])
                .query("version", &version.to_string())
                .json(&Value::Object(spec));
            let error = match self.send(call, deadline).await {
                Ok(_) => return Ok(true),
                Err(error) => error,
            };
            // The version guards the write, and it is read anew: trying again is not blind.
            let retry = error.is(Refusal::UpdateOutOfSequence)
                || error.may_have_run()
                || error.refusal().is_some_and(Refusal::is_transient);
            if !retry {
                return Err(error.into());
            }
            written |= error.may_have_run();
            if deadline.pause(RETRY_PAUSE).await.is_err() {
                return Err(if error.is(Refusal::UpdateOutOfSequence) {
                    NodeError::Contended {
                        id: id.to_owned(),
                        source: error,
                    }
                } else {
                    error.into()
                });
            }
        }
    }
}
