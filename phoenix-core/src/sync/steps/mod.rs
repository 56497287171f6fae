//! One step for every kind of resource.

mod authority;
mod certificate;
mod delivery;
mod endpoint;
mod guest;
mod issued;
mod network;
mod portainer;
mod retired;
mod secret;
mod served;
mod stack;
mod swarm;

use std::sync::Arc;

use super::ResourceId;
use super::context::Context;
use super::step::Step;

pub(super) use authority::DockerClientStep;
pub(super) use certificate::CertificateStep;
pub(super) use endpoint::EndpointStep;
pub(super) use issued::{Issued, Stored};
pub(super) use stack::{StackStep, service_states};

/// The step of `id`.
pub(super) fn step(context: &Arc<Context>, id: &ResourceId) -> Arc<dyn Step> {
    let cx = Arc::clone(context);
    match id.clone() {
        ResourceId::Authority => Arc::new(authority::AuthorityStep::new(cx, None)),
        ResourceId::Issuer(name) => Arc::new(authority::AuthorityStep::new(cx, Some(name))),
        ResourceId::DockerClient => Arc::new(authority::DockerClientStep::new(cx)),
        ResourceId::Guest(name) => Arc::new(guest::GuestStep::new(cx, name)),
        ResourceId::Endpoint(name) => Arc::new(endpoint::EndpointStep::new(cx, name)),
        ResourceId::Swarm => Arc::new(swarm::SwarmStep::new(cx)),
        ResourceId::Node(name) => Arc::new(swarm::NodeStep::new(cx, name)),
        ResourceId::Nodes => Arc::new(swarm::NodesStep::new(cx)),
        ResourceId::Network(name) => Arc::new(network::NetworkStep::new(cx, name)),
        ResourceId::Certificate(name) => Arc::new(CertificateStep::new(cx, name)),
        ResourceId::Secret(name) => Arc::new(secret::SecretStep::new(cx, name)),
        ResourceId::PortainerReset => Arc::new(portainer::ResetStep::new(cx)),
        ResourceId::Portainer => Arc::new(portainer::PortainerStep::new(cx)),
        ResourceId::PortainerEnvironment(name) => {
            Arc::new(portainer::EnvironmentStep::new(cx, name))
        }
        ResourceId::Stack(name) => Arc::new(StackStep::new(cx, name)),
        ResourceId::RetiredVersions => Arc::new(retired::RetiredStep::new(cx)),
    }
}
