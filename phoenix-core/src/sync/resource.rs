//! The names of what a site consists of.

use std::fmt;

use serde::{Serialize, Serializer};

/// Names one resource of a site. Shown, and in JSON, as `kind/name`, or `kind` where a site has
/// only one of the kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ResourceId {
    /// The site's certificate authority.
    Authority,
    /// A further issuer of certificates.
    Issuer(String),
    /// A guest that runs and whose agent answers.
    Guest(String),
    /// Phoenix's own client certificate towards managed Docker daemons.
    DockerClient,
    /// A guest's Docker engine that Phoenix can use.
    Endpoint(String),
    /// The swarm, active on a manager.
    Swarm,
    /// A guest that has joined the swarm, is ready and labelled.
    Node(String),
    /// Every declared node, joined and ready: what everything after the swarm waits for.
    Nodes,
    /// An overlay network.
    Network(String),
    /// A certificate, issued, delivered and in use.
    Certificate(String),
    /// The current version of a Docker secret.
    Secret(String),
    /// The removal of Portainer's stack and data, when asked for.
    PortainerReset,
    /// A stack whose services have converged.
    Stack(String),
    /// Portainer answering, with its admin.
    Portainer,
    /// An environment registered in Portainer.
    PortainerEnvironment(String),
    /// The removal of versions of secrets and configs that nothing refers to any more.
    RetiredVersions,
}

impl ResourceId {
    /// The issuer of this name, or the site's own.
    #[must_use]
    pub fn issuer(name: Option<&str>) -> Self {
        name.map_or(Self::Authority, |name| Self::Issuer(name.to_owned()))
    }

    /// The kind, as it stands before the slash.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Authority => "authority",
            Self::Issuer(_) => "issuer",
            Self::Guest(_) => "guest",
            Self::DockerClient => "docker-client",
            Self::Endpoint(_) => "docker",
            Self::Swarm => "swarm",
            Self::Node(_) => "node",
            Self::Nodes => "nodes",
            Self::Network(_) => "network",
            Self::Certificate(_) => "certificate",
            Self::Secret(_) => "secret",
            Self::PortainerReset => "portainer-reset",
            Self::Stack(_) => "stack",
            Self::Portainer => "portainer",
            Self::PortainerEnvironment(_) => "environment",
            Self::RetiredVersions => "retired-versions",
        }
    }

    /// The name after the slash.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Issuer(name)
            | Self::Guest(name)
            | Self::Endpoint(name)
            | Self::Node(name)
            | Self::Network(name)
            | Self::Certificate(name)
            | Self::Secret(name)
            | Self::Stack(name)
            | Self::PortainerEnvironment(name) => Some(name),
            Self::Authority
            | Self::DockerClient
            | Self::Swarm
            | Self::Nodes
            | Self::PortainerReset
            | Self::Portainer
            | Self::RetiredVersions => None,
        }
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        match self.name() {
            Some(name) => write!(f, "/{name}"),
            None => Ok(()),
        }
    }
}

impl Serialize for ResourceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
