//! What a site looks like now.

use std::sync::Arc;

use futures_util::future::join_all;
use time::OffsetDateTime;

use super::context::Context;
use super::steps::{
    CertificateStep, DockerClientStep, EndpointStep, Issued, Stored, service_states,
};
use super::{CertificateStatus, Change, Failure, NodeStatus, Status, explain};
use crate::docker::{Node, NodeRole, SwarmState};
use crate::pki::{Bundle, SubjectAltName};
use crate::site::SecretSource;

/// Looks at nodes, services and certificates. Nothing is changed.
pub(super) async fn status(cx: &Arc<Context>) -> Status {
    let mut failures = Vec::new();
    let mut nodes = Vec::new();
    let mut services = Vec::new();
    match cx.manager().await {
        Ok((name, manager)) => {
            match manager.nodes(cx.look()).await {
                Ok(found) => nodes = node_states(cx, found).await,
                Err(error) => failures.push(explain::engine(&name, &error)),
            }
            match service_states(cx, &manager).await {
                Ok(found) => services = found,
                Err(failure) => failures.push(failure),
            }
        }
        Err(failure) => failures.push(failure),
    }
    let (certificates, more) = certificate_states(cx, Looked::InGuestsToo).await;
    failures.extend(more);
    Status {
        site: cx.site.name.clone(),
        nodes,
        services,
        certificates,
        failures,
    }
}

async fn node_states(cx: &Arc<Context>, nodes: Vec<Node>) -> Vec<NodeStatus> {
    let members = cx
        .site
        .guests
        .iter()
        .filter(|(_, guest)| guest.role.is_some());
    let ids = join_all(members.map(|(name, _)| async move {
        let id = match cx.engine(name) {
            Ok(engine) => match engine.info(cx.look()).await {
                Ok(info) => {
                    let id = match info.swarm {
                        SwarmState::Active(active) => Some(active.node_id),
                        _ => None,
                    };
                    Ok((id, info.server_version))
                }
                Err(_) => Err(()),
            },
            Err(_) => Err(()),
        };
        (name.clone(), id)
    }))
    .await;
    let mut states = Vec::new();
    let mut seen = Vec::new();
    for (name, id) in ids {
        let node = id
            .as_ref()
            .ok()
            .and_then(|(id, _)| nodes.iter().find(|node| Some(&node.id) == id.as_ref()));
        // An engine that does not answer is still found by its host name.
        let node = node.or_else(|| {
            nodes
                .iter()
                .find(|node| id.is_err() && node.hostname == name)
        });
        match node {
            Some(node) => {
                seen.push(node.id.clone());
                let mut state = node_state(&name, node);
                match id {
                    Ok((_, version)) => state.engine = version,
                    Err(()) => {
                        "unreachable".clone_into(&mut state.state);
                        state.healthy = false;
                    }
                }
                states.push(state);
            }
            None => states.push(NodeStatus {
                name,
                role: String::new(),
                state: if id.is_err() {
                    "unreachable"
                } else {
                    "not joined"
                }
                .to_owned(),
                availability: String::new(),
                engine: String::new(),
                address: String::new(),
                healthy: false,
            }),
        }
    }
    for node in nodes.iter().filter(|node| !seen.contains(&node.id)) {
        let mut state = node_state(&format!("{} (not declared)", node.hostname), node);
        state.healthy = false;
        states.push(state);
    }
    states
}

fn node_state(name: &str, node: &Node) -> NodeStatus {
    let leads = node.manager.as_ref().is_some_and(|manager| manager.leader);
    let role = match (node.role, leads) {
        (NodeRole::Manager, true) => "manager (leader)".to_owned(),
        (role, _) => role.to_string(),
    };
    NodeStatus {
        name: name.to_owned(),
        role,
        state: node.state.to_string(),
        availability: node.availability.to_string(),
        engine: String::new(),
        address: node.addr.clone(),
        healthy: node.is_ready(),
    }
}

/// How far certificates are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Looked {
    /// What is stored here alone: nothing is contacted.
    HereOnly,
    /// What was delivered, too.
    InGuestsToo,
}

/// The certificates of the site: the declared ones, those of managed daemons, and Phoenix's own.
pub(super) async fn certificate_states(
    cx: &Arc<Context>,
    looked: Looked,
) -> (Vec<CertificateStatus>, Vec<Failure>) {
    let mut failures = Vec::new();
    let mut states = Vec::new();
    for (name, certificate) in &cx.site.certificates {
        let step = CertificateStep::new(Arc::clone(cx), name.clone());
        let mut delivered_to: Vec<String> = certificate
            .deliveries
            .iter()
            .map(|delivery| delivery.guest.clone())
            .collect();
        delivered_to.extend(cx.site.secrets.iter().filter_map(|(secret, declared)| {
            match &declared.source {
                SecretSource::Certificate { name: of, .. } if of == name => {
                    Some(format!("secret {secret}"))
                }
                _ => None,
            }
        }));
        let issued = match step.issued() {
            Ok(issued) => issued,
            Err(failure) => {
                failures.push(failure);
                continue;
            }
        };
        let found = match looked {
            Looked::HereOnly => step.look_here().await,
            Looked::InGuestsToo => step.look().await,
        };
        let state = match found {
            Ok(found) => State::of(&found.changes, found.stored),
            Err(failure) => {
                let state = State::unknown(&issued, failure.message.clone());
                if looked == Looked::InGuestsToo {
                    failures.push(failure);
                }
                state
            }
        };
        states.push(certificate_state(
            name.clone(),
            &issued,
            delivered_to,
            state,
        ));
    }
    let mut daemons = false;
    for name in cx.site.guests.keys() {
        let step = EndpointStep::new(Arc::clone(cx), name.clone());
        match step.issued() {
            Ok(Some(issued)) => {
                daemons = true;
                let state = stored_state(cx, &issued).await;
                let at = format!("docker/{name}");
                states.push(certificate_state(at, &issued, vec![name.clone()], state));
            }
            Ok(None) => {}
            Err(failure) => failures.push(failure),
        }
    }
    if daemons {
        match DockerClientStep::new(Arc::clone(cx)).issued() {
            Ok(issued) => {
                let state = stored_state(cx, &issued).await;
                let name = "phoenix/docker-client".to_owned();
                states.push(certificate_state(name, &issued, Vec::new(), state));
            }
            Err(failure) => failures.push(failure),
        }
    }
    (states, failures)
}

/// A certificate as it was found.
struct State {
    bundle: Option<Bundle>,
    healthy: bool,
    text: String,
}

impl State {
    fn of(changes: &[Change], stored: Stored) -> Self {
        let texts: Vec<String> = changes.iter().map(ToString::to_string).collect();
        Self {
            bundle: stored.bundle,
            healthy: texts.is_empty(),
            text: if texts.is_empty() {
                "valid".to_owned()
            } else {
                texts.join(", ")
            },
        }
    }

    /// Of one that cannot be looked at, whatever can be said of it all the same.
    fn unknown(issued: &Issued, why: String) -> Self {
        Self {
            bundle: Bundle::load(&issued.path).ok().flatten(),
            healthy: false,
            text: why,
        }
    }
}

/// Whether what is stored of a certificate will do, and else why not.
async fn stored_state(cx: &Context, issued: &Issued) -> State {
    match issued.look(cx).await {
        Ok(stored) if stored.reasons.is_empty() => State::of(&[], stored),
        Ok(stored) => State::of(&[issued.change(&stored.reasons)], stored),
        Err(failure) => State::unknown(issued, failure.message),
    }
}

fn certificate_state(
    name: String,
    issued: &Issued,
    delivered_to: Vec<String>,
    state: State,
) -> CertificateStatus {
    let bundle = state.bundle;
    let not_after = bundle.as_ref().map(Bundle::not_after);
    CertificateStatus {
        name,
        profile: issued.request.profile().to_string(),
        issuer: issued.issuer.clone().unwrap_or_else(|| "ca".to_owned()),
        sans: issued
            .request
            .sans()
            .iter()
            .map(SubjectAltName::to_string)
            .collect(),
        serial: bundle.as_ref().map(|bundle| bundle.leaf().serial.clone()),
        days_left: not_after.map(|end| (end - OffsetDateTime::now_utc()).whole_days()),
        due: bundle
            .as_ref()
            .map(|bundle| issued.rule.due(bundle.leaf(), bundle.not_after())),
        not_after,
        delivered_to,
        state: state.text,
        healthy: state.healthy,
    }
}
