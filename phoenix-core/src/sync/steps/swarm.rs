//! The swarm, and the guests that are its nodes.

use std::sync::Arc;

use async_trait::async_trait;

use crate::docker::{Engine, EngineInfo, InitOptions, JoinOptions, NodeRole, SwarmState};
use crate::ground::Deadline;
use crate::site::{DockerAddress, Guest, SwarmRole};
use crate::sync::context::Context;
use crate::sync::plan::counted;
use crate::sync::step::{Observation, Progress, Step, View};
use crate::sync::{Change, Failure, FailureClass, ResourceId, Verb, explain, needs};

/// The port on which managers take joins, where an advertised address names none.
const SWARM_PORT: u16 = 2377;

pub(super) struct SwarmStep {
    cx: Arc<Context>,
}

/// What was found on the managers.
enum Found {
    /// No manager belongs to a swarm.
    Nowhere,
    /// This manager takes part in the swarm.
    Active { manager: String, cluster: String },
}

impl SwarmStep {
    pub(super) fn new(cx: Arc<Context>) -> Self {
        Self { cx }
    }

    async fn look(&self) -> Result<Found, Failure> {
        let mut found: Option<(String, String)> = None;
        let mut unusable = None;
        for name in needs::managers(&self.cx.site) {
            let info = self.info(name).await?;
            match &info.swarm {
                SwarmState::Inactive => {}
                SwarmState::Active(active) if active.can_manage() => {
                    let cluster = active.cluster_id.clone().unwrap_or_default();
                    match &found {
                        None => found = Some((name.to_owned(), cluster)),
                        Some((other, theirs)) if *theirs != cluster => {
                            return Err(Failure::message(
                                FailureClass::Failed,
                                format!(
                                    "{other} is a manager of swarm {theirs}, {name} of swarm {cluster}: one site has one swarm"
                                ),
                            )
                            .hint("make one of them leave its swarm by hand (docker swarm leave), after looking at what runs there"));
                        }
                        Some(_) => {}
                    }
                }
                state => unusable = unusable.or(Some(explain::unusable_manager(name, state))),
            }
        }
        match (found, unusable) {
            (Some((manager, cluster)), _) => Ok(Found::Active { manager, cluster }),
            (None, Some(failure)) => Err(failure),
            (None, None) => Ok(Found::Nowhere),
        }
    }

    async fn info(&self, name: &str) -> Result<EngineInfo, Failure> {
        self.cx
            .engine(name)?
            .info(self.cx.look())
            .await
            .map_err(explain::at(name))
    }
}

#[async_trait]
impl Step for SwarmStep {
    async fn observe(&self, _view: &View) -> Result<Observation, Failure> {
        Ok(match self.look().await? {
            Found::Nowhere => Observation::differs(self.unobserved()),
            Found::Active { manager, cluster } => {
                Observation::converged(format!("swarm {cluster} is active on {manager}"))
            }
        })
    }

    async fn apply(&self, progress: &Progress) -> Result<(), Failure> {
        let Some(name) = needs::managers(&self.cx.site).next() else {
            return Err(Failure::message(
                FailureClass::Failed,
                "no guest is declared as a manager",
            ));
        };
        let guest = &self.cx.site.guests[name];
        let engine = self.cx.engine(name)?;
        let settings = &self.cx.site.swarm;
        let options = InitOptions {
            advertise: Some(advertised(name, guest)?),
            address_pools: settings.address_pools.clone(),
            subnet_size: settings.subnet_size,
            heartbeat: settings.heartbeat,
            ..InitOptions::default()
        };
        let deadline = Deadline::after(self.cx.site.timeouts.node);
        engine
            .init_swarm(&options, deadline)
            .await
            .map_err(explain::at(name))?;
        progress.changed(Change::new(
            Verb::Create,
            format!("the swarm on {name}"),
            "inactive",
        ));
        progress.say("waiting for the manager to lead");
        engine
            .await_managing(deadline)
            .await
            .map_err(explain::at(name))?;
        Ok(())
    }

    fn seen_through(&self) -> Vec<ResourceId> {
        needs::managers(&self.cx.site)
            .map(|name| ResourceId::Endpoint(name.to_owned()))
            .collect()
    }

    fn unobserved(&self) -> Vec<Change> {
        let manager = needs::managers(&self.cx.site).next().unwrap_or("nobody");
        vec![Change::new(
            Verb::Create,
            format!("the swarm on {manager}"),
            "inactive",
        )]
    }
}

/// The address that a guest's engine advertises in the swarm.
fn advertised(name: &str, guest: &Guest) -> Result<String, Failure> {
    if let Some(address) = &guest.advertise {
        return Ok(address.clone());
    }
    match guest.docker.as_ref().map(|docker| &docker.address) {
        Some(DockerAddress::Tcp { host, .. }) => Ok(host.clone()),
        _ => Err(Failure::message(
            FailureClass::Failed,
            format!("guest {name} needs `advertise`: its Docker address is not TCP"),
        )),
    }
}

/// Which swarm a node belongs to, as far as it knows.
fn other_swarm(state: &SwarmState) -> String {
    match state {
        SwarmState::Active(active) => match &active.cluster_id {
            Some(id) => format!("swarm {id}"),
            None => format!("the swarm managed at {}", active.managers.join(", ")),
        },
        state => format!("a swarm ({state})"),
    }
}

/// `address` with the port on which managers take joins.
fn join_address(address: &str) -> String {
    let has_port = match address.rsplit_once(':') {
        Some((host, port)) => {
            port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']'))
        }
        None => false,
    };
    if has_port {
        address.to_owned()
    } else if address.contains(':') && !address.starts_with('[') {
        format!("[{address}]:{SWARM_PORT}")
    } else {
        format!("{address}:{SWARM_PORT}")
    }
}

pub(super) struct NodeStep {
    cx: Arc<Context>,
    name: String,
}

impl NodeStep {
    pub(super) fn new(cx: Arc<Context>, name: String) -> Self {
        Self { cx, name }
    }

    fn guest(&self) -> &Guest {
        &self.cx.site.guests[&self.name]
    }

    fn role(&self) -> NodeRole {
        match self.guest().role {
            Some(SwarmRole::Manager) => NodeRole::Manager,
            _ => NodeRole::Worker,
        }
    }

    /// The node's identifier in the site's swarm; `None` when it belongs to none.
    async fn node_id(&self, manager: &Engine, own: &Engine) -> Result<Option<String>, Failure> {
        let info = own
            .info(self.cx.look())
            .await
            .map_err(explain::at(&self.name))?;
        let id = match &info.swarm {
            SwarmState::Inactive => return Ok(None),
            SwarmState::Active(active) => active.node_id.clone(),
            state => return Err(explain::unusable_manager(&self.name, state)),
        };
        let nodes = manager
            .nodes(self.cx.look())
            .await
            .map_err(explain::at("the swarm's manager"))?;
        if nodes.iter().any(|node| node.id == id) {
            return Ok(Some(id));
        }
        let ours = manager
            .cluster_id(self.cx.look())
            .await
            .map_err(explain::at("the swarm's manager"))?;
        Err(Failure::message(
            FailureClass::Failed,
            format!(
                "guest {} is node {id} of {}, not of this site's swarm {ours}",
                self.name,
                other_swarm(&info.swarm)
            ),
        )
        .in_guest(&self.name)
        .hint("Phoenix never makes a node leave a swarm: look at what runs there, then run `docker swarm leave` on it"))
    }
}

#[async_trait]
impl Step for NodeStep {
    async fn observe(&self, _view: &View) -> Result<Observation, Failure> {
        let (manager_name, manager) = self.cx.manager().await?;
        let own = self.cx.engine(&self.name)?;
        let Some(id) = self.node_id(&manager, &own).await? else {
            return Ok(Observation::differs(self.unobserved()).usable());
        };
        let nodes = manager
            .nodes(self.cx.look())
            .await
            .map_err(explain::at(&manager_name))?;
        let Some(node) = nodes.into_iter().find(|node| node.id == id) else {
            return Ok(Observation::differs(self.unobserved()).usable());
        };
        let mut changes = Vec::new();
        if node.role != self.role() {
            changes.push(Change::new(
                Verb::Update,
                format!("role of {}", self.name),
                format!("{} -> {}", node.role, self.role()),
            ));
        }
        let labels: Vec<String> = self
            .guest()
            .labels
            .iter()
            .filter(|(key, value)| node.labels.get(*key) != Some(*value))
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        if !labels.is_empty() {
            changes.push(Change::because(
                Verb::Update,
                format!("labels of {}", self.name),
                labels,
            ));
        }
        if !node.is_ready() {
            changes.push(Change::new(
                Verb::Await,
                format!("node {}", self.name),
                format!("it is {}", node.state),
            ));
        }
        Ok(Observation::of(changes, format!("{} {id} is {}", node.role, node.state)).usable())
    }

    async fn apply(&self, progress: &Progress) -> Result<(), Failure> {
        let (manager_name, manager) = self.cx.manager().await?;
        let own = self.cx.engine(&self.name)?;
        let deadline = Deadline::after(self.cx.site.timeouts.node);
        let id = match self.node_id(&manager, &own).await? {
            Some(id) => id,
            None => {
                let token = manager
                    .join_token(self.role(), self.cx.act())
                    .await
                    .map_err(explain::at(&manager_name))?;
                let remotes = needs::managers(&self.cx.site)
                    .filter(|name| *name == manager_name)
                    .map(|name| advertised(name, &self.cx.site.guests[name]))
                    .collect::<Result<Vec<_>, _>>()?;
                let remotes: Vec<String> = remotes
                    .iter()
                    .map(|address| join_address(address))
                    .collect();
                progress.say(format!("joining through {}", remotes.join(", ")));
                let options = JoinOptions {
                    remote_addrs: remotes,
                    advertise: Some(advertised(&self.name, self.guest())?),
                    ..JoinOptions::default()
                };
                own.join_swarm(&token, &options, deadline)
                    .await
                    .map_err(explain::at(&self.name))?;
                progress.changed(Change::new(
                    Verb::Join,
                    format!("{} as {}", self.name, self.role()),
                    "not in the swarm",
                ));
                self.node_id(&manager, &own).await?.ok_or_else(|| {
                    Failure::message(
                        FailureClass::Failed,
                        format!("guest {} joined, but is in no swarm", self.name),
                    )
                })?
            }
        };
        progress.say("waiting for it to be ready");
        let node = manager
            .await_node_ready(&id, deadline)
            .await
            .map_err(explain::at(&manager_name))?;
        if node.role != self.role() {
            manager
                .set_node_role(&id, self.role(), deadline)
                .await
                .map_err(explain::at(&manager_name))?;
            manager
                .await_node_role(&id, self.role(), deadline)
                .await
                .map_err(explain::at(&manager_name))?;
            progress.changed(Change::new(
                Verb::Update,
                format!("role of {}", self.name),
                format!("{} -> {}", node.role, self.role()),
            ));
        }
        let labels = &self.guest().labels;
        if labels
            .iter()
            .any(|(key, value)| node.labels.get(key) != Some(value))
        {
            manager
                .set_node_labels(&id, labels, &[], deadline)
                .await
                .map_err(explain::at(&manager_name))?;
            progress.changed(Change::because(
                Verb::Update,
                format!("labels of {}", self.name),
                labels.iter().map(|(key, value)| format!("{key}={value}")),
            ));
        }
        Ok(())
    }

    fn seen_through(&self) -> Vec<ResourceId> {
        vec![ResourceId::Swarm, ResourceId::Endpoint(self.name.clone())]
    }

    fn unobserved(&self) -> Vec<Change> {
        vec![Change::new(
            Verb::Join,
            format!("{} as {}", self.name, self.role()),
            "not in the swarm",
        )]
    }
}

/// All nodes: it holds once each of them, which it needs, is ready.
pub(super) struct NodesStep {
    cx: Arc<Context>,
}

impl NodesStep {
    pub(super) fn new(cx: Arc<Context>) -> Self {
        Self { cx }
    }
}

#[async_trait]
impl Step for NodesStep {
    async fn observe(&self, _view: &View) -> Result<Observation, Failure> {
        let members = self.cx.site.guests.values();
        let count = members.filter(|guest| guest.role.is_some()).count();
        Ok(Observation::converged(format!(
            "{} joined and ready",
            counted(count, "node")
        )))
    }

    async fn apply(&self, _progress: &Progress) -> Result<(), Failure> {
        Ok(())
    }

    fn unobserved(&self) -> Vec<Change> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::join_address;

    #[test]
    fn joins_go_to_the_swarm_port_unless_another_is_named() {
        for (address, expected) in [
            ("10.0.0.1", "10.0.0.1:2377"),
            ("10.0.0.1:2400", "10.0.0.1:2400"),
            ("manager", "manager:2377"),
            ("fd00::1", "[fd00::1]:2377"),
            ("[fd00::1]:2400", "[fd00::1]:2400"),
        ] {
            assert_eq!(join_address(address), expected);
        }
    }
}
