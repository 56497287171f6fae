//! Networks, as the swarm's services share them.
//!
//! The engine never changes a network: what differs from the wanted one is told, and only
//! making it anew could mend it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

use bollard::models;

use super::call::Call;
use super::engine::{Engine, RETRY_PAUSE, looking};
use super::error::{EngineError, Refusal};
use crate::ground::Deadline;

const SET_UP_POLL: Duration = Duration::from_millis(200);
const IN_USE_PAUSE: Duration = Duration::from_millis(500);

/// A network as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkSpec {
    /// Its name.
    pub name: String,
    /// Its driver, such as `overlay`.
    pub driver: String,
    /// Whether it spans the swarm (an overlay does) or one engine.
    pub swarm_scoped: bool,
    /// Whether containers outside the swarm's services may join.
    pub attachable: bool,
    /// Whether it has no way out.
    pub internal: bool,
    /// Subnets as CIDR; empty to have them chosen.
    pub subnets: Vec<String>,
    /// Driver options.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

impl NetworkSpec {
    /// A swarm-scoped overlay network with the engine's defaults.
    #[must_use]
    pub fn overlay(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            driver: "overlay".to_owned(),
            swarm_scoped: true,
            attachable: false,
            internal: false,
            subnets: Vec::new(),
            options: BTreeMap::new(),
            labels: BTreeMap::new(),
        }
    }

    /// What an existing network of that name has otherwise. Options and subnets that the spec
    /// does not name are the engine's business, and so are labels beside the wanted ones. What
    /// cannot be known yet ([`NetworkObserved::is_pending`]) is no difference.
    #[must_use]
    pub fn differences(&self, found: &NetworkObserved) -> Vec<NetworkDifference> {
        let mut differences = Vec::new();
        let mut compare = |what: &'static str, wanted: String, found: String| {
            if wanted != found {
                differences.push(NetworkDifference {
                    what: what.to_owned(),
                    wanted,
                    found,
                });
            }
        };
        let scope = if self.swarm_scoped { "swarm" } else { "local" };
        let pending = found.is_pending();
        if !pending {
            compare("driver", self.driver.clone(), found.driver.clone());
        }
        compare("scope", scope.to_owned(), found.scope.clone());
        compare(
            "attachable",
            self.attachable.to_string(),
            found.attachable.to_string(),
        );
        compare(
            "internal",
            self.internal.to_string(),
            found.internal.to_string(),
        );
        if !self.subnets.is_empty() && !pending {
            let sorted = |subnets: &[String]| {
                let mut subnets = subnets.to_vec();
                subnets.sort();
                subnets.join(", ")
            };
            compare("subnets", sorted(&self.subnets), sorted(&found.subnets));
        }
        let maps = [
            ("option", &self.options, &found.options),
            ("label", &self.labels, &found.labels),
        ];
        for (kind, wanted, found) in maps {
            if kind == "option" && pending {
                continue;
            }
            for (key, value) in wanted {
                if found.get(key) != Some(value) {
                    differences.push(NetworkDifference {
                        what: format!("{kind} {key}"),
                        wanted: value.clone(),
                        found: found.get(key).cloned().unwrap_or_default(),
                    });
                }
            }
        }
        differences
    }
}

/// A network as an engine has it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NetworkObserved {
    /// Its identifier.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its driver; empty while the swarm has not set it up ([`NetworkObserved::is_pending`]).
    pub driver: String,
    /// `swarm`, `local` or `global`.
    pub scope: String,
    /// Whether containers outside the swarm's services may join.
    pub attachable: bool,
    /// Whether it has no way out.
    pub internal: bool,
    /// Whether it carries the swarm's routing mesh.
    pub ingress: bool,
    /// Subnets as CIDR.
    pub subnets: Vec<String>,
    /// Driver options, those the engine added among them.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

impl NetworkObserved {
    /// Whether the swarm has taken it on and not set it up yet: its driver, its subnets and its
    /// options cannot be known.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.scope == "swarm" && self.driver.is_empty()
    }
}

impl From<models::Network> for NetworkObserved {
    fn from(network: models::Network) -> Self {
        let subnets = network
            .ipam
            .and_then(|ipam| ipam.config)
            .unwrap_or_default();
        Self {
            id: network.id.unwrap_or_default(),
            name: network.name.unwrap_or_default(),
            driver: network.driver.unwrap_or_default(),
            scope: network.scope.unwrap_or_default(),
            attachable: network.attachable.unwrap_or_default(),
            internal: network.internal.unwrap_or_default(),
            ingress: network.ingress.unwrap_or_default(),
            subnets: subnets
                .into_iter()
                .filter_map(|config| config.subnet)
                .collect(),
            options: network.options.unwrap_or_default().into_iter().collect(),
            labels: network.labels.unwrap_or_default().into_iter().collect(),
        }
    }
}

/// Something in which a network is not as wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NetworkDifference {
    /// What differs: `driver`, `scope`, `attachable`, `internal`, `subnets`, `option K`,
    /// `label K`.
    pub what: String,
    /// As wanted.
    pub wanted: String,
    /// As found; empty when missing.
    pub found: String,
}

impl NetworkDifference {
    /// Whether only labels differ, which changes nothing in how the network works.
    #[must_use]
    pub fn is_cosmetic(&self) -> bool {
        self.what.starts_with("label ")
    }
}

impl fmt::Display for NetworkDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is {:?} instead of {:?}",
            self.what, self.found, self.wanted
        )
    }
}

/// The answer to a creation.
#[derive(serde::Deserialize)]
struct NetworkCreated {
    #[serde(rename = "Id")]
    id: String,
}

/// Creating or removing a network failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// A network of that name exists.
    #[error("a network named {name:?} exists already")]
    Exists {
        /// The name.
        name: String,
        /// The engine's refusal.
        source: EngineError,
    },
    /// The swarm has not set it up by the deadline.
    #[error("the swarm has not set network {name} up within {}", humantime::format_duration(*waited))]
    Pending {
        /// The name.
        name: String,
        /// How long was waited.
        waited: Duration,
    },
    /// Services or tasks still use it at the deadline.
    #[error("network {id} is still in use")]
    InUse {
        /// The identifier.
        id: String,
        /// The engine's refusal, which names who uses it.
        source: EngineError,
    },
    /// The engine could not be asked, or refused.
    #[error("a request about networks failed")]
    Engine {
        /// How.
        #[from]
        source: EngineError,
    },
}

impl Engine {
    /// All networks of the engine and, on a manager, of the swarm.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn networks(&self, deadline: Deadline) -> Result<Vec<NetworkObserved>, EngineError> {
        let networks: Option<Vec<models::Network>> =
            self.fetch(Call::get(&["networks"]), deadline).await?;
        Ok(networks
            .unwrap_or_default()
            .into_iter()
            .map(NetworkObserved::from)
            .collect())
    }

    /// The network of exactly this name; of several, the swarm-scoped one.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn find_network(
        &self,
        name: &str,
        deadline: Deadline,
    ) -> Result<Option<NetworkObserved>, EngineError> {
        let mut named: Vec<_> = self
            .networks(deadline)
            .await?
            .into_iter()
            .filter(|network| network.name == name)
            .collect();
        named.sort_by_key(|network| network.scope != "swarm");
        Ok(named.into_iter().next())
    }

    /// Creates a network and returns its identifier. One of the same name that is as wanted counts
    /// as this one.
    ///
    /// # Errors
    /// [`NetworkError::Exists`] when the name is taken, [`NetworkError::Engine`] otherwise.
    pub async fn create_network(
        &self,
        spec: &NetworkSpec,
        deadline: Deadline,
    ) -> Result<String, NetworkError> {
        let map = |map: &BTreeMap<String, String>| -> HashMap<String, String> {
            map.clone().into_iter().collect()
        };
        let ipam = (!spec.subnets.is_empty()).then(|| models::Ipam {
            config: Some(
                spec.subnets
                    .iter()
                    .map(|subnet| models::IpamConfig {
                        subnet: Some(subnet.clone()),
                        ..models::IpamConfig::default()
                    })
                    .collect(),
            ),
            ..models::Ipam::default()
        });
        let scope = if spec.swarm_scoped { "swarm" } else { "local" };
        let request = models::NetworkCreateRequest {
            name: spec.name.clone(),
            driver: Some(spec.driver.clone()),
            scope: Some(scope.to_owned()),
            internal: Some(spec.internal),
            attachable: Some(spec.attachable),
            ipam,
            options: Some(map(&spec.options)),
            labels: Some(map(&spec.labels)),
            ..models::NetworkCreateRequest::default()
        };
        let body = serde_json::to_value(&request)
            .map_err(|error| self.decode("POST /networks/create", error.into()))?;
        let same = |found: &NetworkObserved| spec.differences(found).is_empty();
        self.create_as(&body, &spec.name, &same, deadline).await
    }

    /// Has a network made. After a request that may have made it, or that finds the name taken, the
    /// one of that name is looked at: `is_it` says whether that is it. Where there is none the
    /// request is sent again.
    async fn create_as(
        &self,
        body: &serde_json::Value,
        name: &str,
        is_it: &(impl Fn(&NetworkObserved) -> bool + Sync),
        deadline: Deadline,
    ) -> Result<String, NetworkError> {
        let call = || Call::post(&["networks", "create"]).json(body);
        loop {
            let (sent, uncertain) = self.send_persistently(call, deadline).await;
            let source = match sent {
                Ok(answer) => {
                    return serde_json::from_slice::<NetworkCreated>(&answer)
                        .map(|created| created.id)
                        .map_err(|error| {
                            self.decode("POST /networks/create", error.into()).into()
                        });
                }
                Err(error) => error,
            };
            let taken = source.is(Refusal::Conflict);
            if !uncertain && !taken && !source.may_have_run() {
                return Err(source.into());
            }
            match self.find_network(name, looking()).await {
                Ok(Some(found)) if is_it(&found) => return Ok(found.id),
                // Another one has the name, or none has it: the next answer says which.
                Ok(found)
                    if !(taken && found.is_some()) && deadline.pause(RETRY_PAUSE).await.is_ok() =>
                {
                    tracing::debug!(endpoint = %self.endpoint(), %source, name, "again");
                }
                _ if taken => {
                    return Err(NetworkError::Exists {
                        name: name.to_owned(),
                        source,
                    });
                }
                _ => return Err(source.into()),
            }
        }
    }

    /// Waits until the swarm has set up a network of its own that was just created: the leader
    /// gives it its driver and its subnets some time after it was taken on.
    ///
    /// # Errors
    /// [`NetworkError::Pending`] at the deadline, or [`NetworkError::Engine`].
    pub async fn await_network(
        &self,
        name: &str,
        deadline: Deadline,
    ) -> Result<NetworkObserved, NetworkError> {
        loop {
            match self.find_network(name, deadline).await? {
                Some(found) if !found.is_pending() => return Ok(found),
                _ => {}
            }
            if let Err(elapsed) = deadline.pause(SET_UP_POLL).await {
                return Err(NetworkError::Pending {
                    name: name.to_owned(),
                    waited: elapsed.allowed,
                });
            }
        }
    }

    /// The identifier of a network that every node has, such as `host`, as services refer to it.
    /// It is not among [`Engine::networks`].
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn predefined_network(
        &self,
        name: &str,
        deadline: Deadline,
    ) -> Result<Option<String>, EngineError> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Found {
            id: String,
            name: String,
        }
        let call = Call::get(&["networks", name]).query("scope", "swarm");
        let found: Option<Found> = self.fetch_optional(call, deadline).await?;
        Ok(found
            .filter(|found| found.name == name)
            .map(|found| found.id))
    }

    /// Creates a swarm-scoped network of a whole body of `POST /networks/create`, and returns its
    /// identifier. One of the same name and the same labels counts as this one.
    ///
    /// # Errors
    /// [`NetworkError::Exists`] when the name is taken, [`NetworkError::Engine`] otherwise. After
    /// an [ambiguous](EngineError::Ambiguous) one it was not there yet.
    pub async fn create_network_from(
        &self,
        body: &serde_json::Value,
        deadline: Deadline,
    ) -> Result<String, NetworkError> {
        let name = body.get("Name").and_then(serde_json::Value::as_str);
        let same = |found: &NetworkObserved| {
            let labels = body.get("Labels").filter(|labels| !labels.is_null());
            found.scope == "swarm"
                && match labels {
                    Some(labels) => {
                        serde_json::to_value(&found.labels).is_ok_and(|found| found == *labels)
                    }
                    None => found.labels.is_empty(),
                }
        };
        self.create_as(body, name.unwrap_or_default(), &same, deadline)
            .await
    }

    /// Removes a network by its identifier, waiting while it is in use. Says whether it was
    /// there.
    ///
    /// # Errors
    /// [`NetworkError::InUse`] at the deadline, or [`NetworkError::Engine`].
    pub async fn remove_network(&self, id: &str, deadline: Deadline) -> Result<bool, NetworkError> {
        let mut uncertain = false;
        loop {
            let removed = self.send(Call::delete(&["networks", id]), deadline).await;
            let source = match removed {
                Ok(_) => return Ok(true),
                Err(error) if error.is(Refusal::NotFound) => return Ok(uncertain),
                Err(error) => error,
            };
            // A removal can be repeated.
            uncertain |= source.may_have_run();
            let passing =
                source.may_have_run() || source.refusal().is_some_and(Refusal::is_transient);
            if passing && deadline.pause(RETRY_PAUSE).await.is_ok() {
                continue;
            }
            if !source.is(Refusal::InUse) {
                return Err(source.into());
            }
            if deadline.pause(IN_USE_PAUSE).await.is_err() {
                return Err(NetworkError::InUse {
                    id: id.to_owned(),
                    source,
                });
            }
        }
    }
}
