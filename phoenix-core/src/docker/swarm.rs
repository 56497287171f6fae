//! The swarm as one engine sees it: observing, initialising, joining, leaving.
//!
//! An engine's local state is one of five, and "active" says nothing of a leader:
//! `ControlAvailable` stays true on a manager whose swarm has lost its quorum.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::call::Call;
use super::engine::Engine;
use super::error::{EngineError, Refusal};
use super::node::NodeRole;
use super::wire::nullable;
use crate::ground::{Deadline, SecretBytes};

const POLL: Duration = Duration::from_millis(400);

/// An engine's part in a swarm, from `/info`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "SwarmWire")]
#[non_exhaustive]
pub enum SwarmState {
    /// In none.
    #[default]
    Inactive,
    /// A join timed out and goes on in the background; only a leave ends it.
    Pending,
    /// In one, with its state encrypted until the unlock key is given.
    Locked,
    /// In one that could not be started.
    Error {
        /// The engine's words.
        message: String,
    },
    /// In one.
    Active(ActiveSwarm),
    /// A state this version of Phoenix does not know.
    Unknown {
        /// The engine's word for it.
        state: String,
    },
}

/// An active part in a swarm.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ActiveSwarm {
    /// The identifier of this engine's node.
    pub node_id: String,
    /// The address it is known by.
    pub node_addr: String,
    /// The identifier of the swarm. Workers are not told it, nor is a manager without a leader.
    pub cluster_id: Option<String>,
    /// Whether the node is a manager.
    pub manager: bool,
    /// Whether it takes requests about the swarm. No proof of a leader.
    pub control_available: bool,
    /// What is wrong, such as no leader; empty when nothing.
    pub error: String,
    /// The addresses of the managers that the node knows.
    pub managers: Vec<String>,
}

impl ActiveSwarm {
    /// Whether the swarm's managers have no leader.
    #[must_use]
    pub fn is_leaderless(&self) -> bool {
        self.error.contains("does not have a leader")
    }

    /// Whether this engine can be asked to change the swarm.
    #[must_use]
    pub fn can_manage(&self) -> bool {
        self.control_available && self.error.is_empty()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SwarmWire {
    #[serde(rename = "NodeID", default, deserialize_with = "nullable")]
    node_id: String,
    #[serde(default, deserialize_with = "nullable")]
    node_addr: String,
    #[serde(default, deserialize_with = "nullable")]
    local_node_state: String,
    #[serde(default, deserialize_with = "nullable")]
    control_available: bool,
    #[serde(default, deserialize_with = "nullable")]
    error: String,
    #[serde(default, deserialize_with = "nullable")]
    remote_managers: Vec<Peer>,
    cluster: Option<Cluster>,
}

#[derive(Deserialize)]
struct Peer {
    #[serde(rename = "NodeID", default, deserialize_with = "nullable")]
    node_id: String,
    #[serde(rename = "Addr", default, deserialize_with = "nullable")]
    addr: String,
}

#[derive(Deserialize)]
struct Cluster {
    #[serde(rename = "ID", default, deserialize_with = "nullable")]
    id: String,
}

impl From<SwarmWire> for SwarmState {
    fn from(wire: SwarmWire) -> Self {
        match wire.local_node_state.as_str() {
            "" | "inactive" => Self::Inactive,
            "pending" => Self::Pending,
            "locked" => Self::Locked,
            "error" => Self::Error {
                message: wire.error,
            },
            "active" => Self::Active(ActiveSwarm {
                manager: wire.control_available
                    || wire
                        .remote_managers
                        .iter()
                        .any(|peer| peer.node_id == wire.node_id),
                managers: wire
                    .remote_managers
                    .into_iter()
                    .map(|peer| peer.addr)
                    .collect(),
                node_id: wire.node_id,
                node_addr: wire.node_addr,
                cluster_id: wire
                    .cluster
                    .map(|cluster| cluster.id)
                    .filter(|id| !id.is_empty()),
                control_available: wire.control_available,
                error: wire.error,
            }),
            _ => Self::Unknown {
                state: wire.local_node_state,
            },
        }
    }
}

impl fmt::Display for SwarmState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inactive => f.write_str("inactive"),
            Self::Pending => f.write_str("pending (a join goes on in the background)"),
            Self::Locked => f.write_str("locked"),
            Self::Error { message } => write!(f, "in error: {message}"),
            Self::Active(active) if active.is_leaderless() => {
                f.write_str("active without a leader")
            }
            Self::Active(active) if !active.error.is_empty() => {
                write!(f, "active with an error: {}", active.error)
            }
            Self::Active(active) if active.manager => f.write_str("active as a manager"),
            Self::Active(_) => f.write_str("active as a worker"),
            Self::Unknown { state } => write!(f, "{state}"),
        }
    }
}

/// How a swarm is initialised.
#[derive(Debug, Clone, Default)]
pub struct InitOptions {
    /// Address (or interface) and optional port by which other nodes reach this one. Needed
    /// where the machine has several addresses.
    pub advertise: Option<String>,
    /// Address and port to listen on. Default `0.0.0.0:2377`.
    pub listen: Option<String>,
    /// Address pools of overlay networks, as CIDR. Default: the engine's.
    pub address_pools: Vec<String>,
    /// Prefix length of each overlay network within the pools, at most 29. Default: 24.
    pub subnet_size: Option<u8>,
    /// Period of the dispatcher's heartbeat. Default: 5 s.
    pub heartbeat: Option<Duration>,
}

/// How an engine joins a swarm.
#[derive(Debug, Clone, Default)]
pub struct JoinOptions {
    /// Addresses of managers (`host` or `host:port`, port 2377 by default). The engine uses only
    /// the first to join.
    pub remote_addrs: Vec<String>,
    /// Address (or interface) and optional port by which other nodes reach this one. The engine
    /// ignores a wrong one in silence.
    pub advertise: Option<String>,
    /// Address and port to listen on, should the node be a manager. Default `0.0.0.0:2377`.
    pub listen: Option<String>,
}

/// The token by which an engine joins a swarm, and in what role.
#[derive(Clone)]
pub struct JoinToken {
    token: SecretBytes,
    role: NodeRole,
}

impl JoinToken {
    /// The role that the token gives.
    #[must_use]
    pub fn role(&self) -> NodeRole {
        self.role
    }

    /// The token itself.
    #[must_use]
    pub fn secret(&self) -> &SecretBytes {
        &self.token
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({:?})", self.role)
    }
}

/// Initialising, joining or leaving a swarm failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SwarmError {
    /// The engine belongs to a swarm already, or has joined one halfway.
    #[error("the Docker engine at {endpoint} is already in a swarm")]
    AlreadyInSwarm {
        /// Where the engine is.
        endpoint: String,
    },
    /// No manager was given to join.
    #[error("no address of a manager to join")]
    NoManager,
    /// The join goes on in the background and had not succeeded by the deadline. The engine
    /// stays `pending`; it must leave before it can join again.
    #[error(
        "the Docker engine at {endpoint} has not joined the swarm within {} (its state is {state})",
        humantime::format_duration(*waited)
    )]
    StillJoining {
        /// Where the engine is.
        endpoint: String,
        /// How long was waited.
        waited: Duration,
        /// The state it was last in.
        state: SwarmState,
    },
    /// The join was given up by the engine.
    #[error("the Docker engine at {endpoint} did not join the swarm: it is {state}")]
    JoinFailed {
        /// Where the engine is.
        endpoint: String,
        /// The state it is in.
        state: SwarmState,
        /// How the request to join had failed, where it left that open.
        source: Option<EngineError>,
    },
    /// The engine is not, by the deadline, a manager that can be asked to change the swarm.
    #[error(
        "the Docker engine at {endpoint} cannot manage the swarm after {}: it is {state}",
        humantime::format_duration(*waited)
    )]
    NotManaging {
        /// Where the engine is.
        endpoint: String,
        /// How long was waited.
        waited: Duration,
        /// The state it was last in.
        state: SwarmState,
    },
    /// The engine could not be asked, or refused.
    #[error("a swarm request failed")]
    Engine {
        /// How.
        #[from]
        source: EngineError,
    },
}

impl Engine {
    /// The engine's part in a swarm.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn observe_swarm(&self, deadline: Deadline) -> Result<SwarmState, EngineError> {
        Ok(self.info(deadline).await?.swarm)
    }

    /// Initialises a swarm with this engine as its manager. Returns the node's identifier. After a
    /// request without an answer the engine is looked at, and nothing is sent again: one that is a
    /// manager by then is taken to have initialised this swarm.
    ///
    /// # Errors
    /// [`SwarmError::AlreadyInSwarm`], or [`SwarmError::Engine`] with what the engine says, such
    /// as an ambiguous address to advertise.
    pub async fn init_swarm(
        &self,
        options: &InitOptions,
        deadline: Deadline,
    ) -> Result<String, SwarmError> {
        let mut body = Map::new();
        body.insert(
            "ListenAddr".to_owned(),
            options.listen.as_deref().unwrap_or("0.0.0.0:2377").into(),
        );
        if let Some(advertise) = &options.advertise {
            body.insert("AdvertiseAddr".to_owned(), advertise.as_str().into());
        }
        if !options.address_pools.is_empty() {
            body.insert("DefaultAddrPool".to_owned(), json!(options.address_pools));
        }
        if let Some(size) = options.subnet_size {
            body.insert("SubnetSize".to_owned(), size.into());
        }
        // At init (unlike at update) what the spec leaves out keeps the engine's defaults.
        let mut spec = Map::new();
        if let Some(heartbeat) = options.heartbeat {
            let nanoseconds = u64::try_from(heartbeat.as_nanos()).unwrap_or(u64::MAX);
            spec.insert(
                "Dispatcher".to_owned(),
                json!({ "HeartbeatPeriod": nanoseconds }),
            );
        }
        body.insert("Spec".to_owned(), Value::Object(spec));
        let call = Call::post(&["swarm", "init"]).json(&Value::Object(body));
        let error = match self.fetch(call, deadline).await {
            Ok(node) => return Ok(node),
            Err(error) => error,
        };
        if error.may_have_run()
            && let Ok(SwarmState::Active(active)) = self.observe_swarm(deadline).await
            && active.manager
        {
            tracing::debug!(endpoint = %self.endpoint(), %error, "initialised all the same");
            return Ok(active.node_id);
        }
        Err(self.swarm_error(error))
    }

    /// The identifier of the swarm, asked of a manager.
    ///
    /// # Errors
    /// [`EngineError`]; refused as [`Refusal::NotAManager`] elsewhere.
    pub async fn cluster_id(&self, deadline: Deadline) -> Result<String, EngineError> {
        let cluster: Cluster = self.fetch(Call::get(&["swarm"]), deadline).await?;
        Ok(cluster.id)
    }

    /// The token that joins an engine in `role`, asked of a manager.
    ///
    /// # Errors
    /// [`EngineError`]; refused as [`Refusal::NotAManager`] elsewhere.
    pub async fn join_token(
        &self,
        role: NodeRole,
        deadline: Deadline,
    ) -> Result<JoinToken, EngineError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Swarm {
            join_tokens: Tokens,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Tokens {
            worker: String,
            manager: String,
        }
        let swarm: Swarm = self.fetch(Call::get(&["swarm"]), deadline).await?;
        let (worker, manager) = (
            SecretBytes::from(swarm.join_tokens.worker),
            SecretBytes::from(swarm.join_tokens.manager),
        );
        let token = match role {
            NodeRole::Worker => worker,
            NodeRole::Manager => manager,
        };
        Ok(JoinToken { token, role })
    }

    /// Joins a swarm and waits until the engine says it is in it. Where the engine goes on with
    /// the join in the background, so does the wait. That the manager holds the node for ready
    /// is another matter: see [`Engine::await_node_ready`].
    ///
    /// # Errors
    /// [`SwarmError`].
    pub async fn join_swarm(
        &self,
        token: &JoinToken,
        options: &JoinOptions,
        deadline: Deadline,
    ) -> Result<ActiveSwarm, SwarmError> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Wire<'a> {
            listen_addr: &'a str,
            advertise_addr: &'a str,
            remote_addrs: &'a [String],
            join_token: &'a str,
        }
        if options.remote_addrs.is_empty() {
            return Err(SwarmError::NoManager);
        }
        let operation = "POST /swarm/join";
        let body = serde_json::to_vec(&Wire {
            listen_addr: options.listen.as_deref().unwrap_or("0.0.0.0:2377"),
            advertise_addr: options.advertise.as_deref().unwrap_or_default(),
            remote_addrs: &options.remote_addrs,
            join_token: token
                .token
                .expose_str()
                .map_err(|error| self.decode(operation, error.into()))?,
        })
        .map_err(|error| self.decode(operation, error.into()))?;
        let call = Call::post(&["swarm", "join"]).secret_json(Zeroizing::new(body));
        let open = match self.send(call, deadline).await {
            Ok(_) => None,
            // Both mean: the engine is at it. Joining again before it gave up is refused.
            Err(error) if error.is(Refusal::JoinContinues) || error.may_have_run() => {
                tracing::debug!(endpoint = %self.endpoint(), %error, "waiting for the join");
                Some(error)
            }
            Err(error) => return Err(self.swarm_error(error)),
        };
        let joined = self.await_joined(deadline).await;
        joined.map_err(|error| match error {
            SwarmError::JoinFailed {
                endpoint, state, ..
            } => SwarmError::JoinFailed {
                endpoint,
                state,
                source: open,
            },
            error => error,
        })
    }

    /// Waits for a join under way to end.
    ///
    /// # Errors
    /// [`SwarmError::StillJoining`] at the deadline, [`SwarmError::JoinFailed`] when the engine
    /// gave up, or [`SwarmError::Engine`].
    pub async fn await_joined(&self, deadline: Deadline) -> Result<ActiveSwarm, SwarmError> {
        loop {
            let state = match self.observe_swarm(deadline).await {
                Ok(SwarmState::Active(active)) => return Ok(active),
                Ok(state @ (SwarmState::Pending | SwarmState::Unknown { .. })) => state,
                Ok(state) => {
                    return Err(SwarmError::JoinFailed {
                        endpoint: self.endpoint().to_string(),
                        state,
                        source: None,
                    });
                }
                Err(error) if error.is_transient() && !deadline.is_over() => SwarmState::Pending,
                Err(source) => return Err(source.into()),
            };
            if let Err(elapsed) = deadline.pause(POLL).await {
                return Err(SwarmError::StillJoining {
                    endpoint: self.endpoint().to_string(),
                    waited: elapsed.allowed,
                    state,
                });
            }
        }
    }

    /// Waits until this engine is a manager of a swarm that has a leader.
    ///
    /// # Errors
    /// [`SwarmError::NotManaging`] at the deadline, at once when the engine is inactive, locked,
    /// in error or a worker; [`SwarmError::Engine`] when it cannot be asked.
    pub async fn await_managing(&self, deadline: Deadline) -> Result<ActiveSwarm, SwarmError> {
        let start = std::time::Instant::now();
        loop {
            let state = self.observe_swarm(deadline).await?;
            let hopeless = match &state {
                SwarmState::Active(active) if active.can_manage() => {
                    // Only an answer from the raft proves a leader.
                    match self.cluster_id(deadline).await {
                        Ok(id) => {
                            return Ok(ActiveSwarm {
                                cluster_id: Some(id),
                                ..active.clone()
                            });
                        }
                        Err(error) if error.is_transient() => false,
                        Err(error) => return Err(error.into()),
                    }
                }
                SwarmState::Active(active) => !active.manager,
                SwarmState::Pending | SwarmState::Unknown { .. } => false,
                SwarmState::Inactive | SwarmState::Locked | SwarmState::Error { .. } => true,
            };
            if hopeless || deadline.pause(POLL).await.is_err() {
                return Err(SwarmError::NotManaging {
                    endpoint: self.endpoint().to_string(),
                    waited: start.elapsed(),
                    state,
                });
            }
        }
    }

    /// Leaves the swarm. Nothing in this crate calls it on its own. With `force` a manager
    /// leaves too, and the last one takes the swarm's state with it.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn leave_swarm(&self, force: bool, deadline: Deadline) -> Result<(), EngineError> {
        let call = Call::post(&["swarm", "leave"]).query("force", &force.to_string());
        self.send(call, deadline).await.map(drop)
    }

    fn swarm_error(&self, error: EngineError) -> SwarmError {
        if error.is(Refusal::AlreadyInSwarm) {
            SwarmError::AlreadyInSwarm {
                endpoint: self.endpoint().to_string(),
            }
        } else {
            error.into()
        }
    }
}
