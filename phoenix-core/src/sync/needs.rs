//! What each resource of a site needs. The order of a sync follows from this and from nothing
//! else.
//!
//! A certificate that only gives Phoenix its way into a Docker daemon comes before the swarm;
//! every other renewal, and every secret, comes after all nodes have joined and are ready.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;

use super::{Cycle, Graph, ResourceId, SyncOptions};
use crate::site::{
    AcmeAuthority, AcmeChallenge, CertificateAuthority, DockerTls, EnvironmentTls, Guest, Reach,
    SecretSource, Site, SwarmRole,
};

/// What the compose file of a stack refers to and Phoenix manages.
#[derive(Debug, Clone, Default)]
pub(super) struct StackNeeds {
    pub(super) networks: BTreeSet<String>,
    pub(super) secrets: BTreeSet<String>,
}

/// The graph of `site`, with what its `stacks` refer to.
///
/// # Errors
/// [`Cycle`] when resources need each other.
pub(super) fn graph(
    site: &Site,
    stacks: &BTreeMap<String, StackNeeds>,
    options: &SyncOptions,
) -> Result<Graph, Cycle> {
    let mut needs: IndexMap<ResourceId, BTreeSet<ResourceId>> = IndexMap::new();
    let members: BTreeSet<ResourceId> = site
        .guests
        .iter()
        .filter(|(_, guest)| guest.role.is_some())
        .map(|(name, _)| ResourceId::Node(name.clone()))
        .collect();
    // One resource stands for all of them, or the edges would multiply.
    let nodes: BTreeSet<ResourceId> = if members.is_empty() {
        BTreeSet::new()
    } else {
        BTreeSet::from([ResourceId::Nodes])
    };
    let managed = site.guests.values().any(is_managed);

    let issuers: BTreeSet<ResourceId> = site
        .certificates
        .values()
        .map(|certificate| ResourceId::issuer(certificate.issuer.as_deref()))
        .chain(managed.then_some(ResourceId::Authority))
        .collect();
    for issuer in issuers {
        let required = hook(site, &issuer).into_iter().collect();
        needs.insert(issuer, required);
    }
    if managed {
        needs.insert(
            ResourceId::DockerClient,
            BTreeSet::from([ResourceId::Authority]),
        );
    }
    for (name, guest) in &site.guests {
        if guest.reach == Reach::Agent {
            needs.insert(ResourceId::Guest(name.clone()), BTreeSet::new());
        }
        if guest.docker.is_some() {
            let mut required = BTreeSet::new();
            if guest.reach == Reach::Agent {
                required.insert(ResourceId::Guest(name.clone()));
            }
            if is_managed(guest) {
                required.extend([ResourceId::Authority, ResourceId::DockerClient]);
            }
            needs.insert(ResourceId::Endpoint(name.clone()), required);
        }
        if guest.role.is_some() {
            needs.insert(
                ResourceId::Node(name.clone()),
                BTreeSet::from([ResourceId::Swarm, ResourceId::Endpoint(name.clone())]),
            );
        }
    }
    if !members.is_empty() {
        needs.insert(ResourceId::Nodes, members);
        needs.insert(
            ResourceId::Swarm,
            managers(site)
                .map(|name| ResourceId::Endpoint(name.to_owned()))
                .collect(),
        );
    }
    for name in site.networks.keys() {
        needs.insert(ResourceId::Network(name.clone()), nodes.clone());
    }
    for (name, certificate) in &site.certificates {
        let mut required = nodes.clone();
        required.insert(ResourceId::issuer(certificate.issuer.as_deref()));
        required.extend(
            certificate
                .deliveries
                .iter()
                .map(|delivery| ResourceId::Guest(delivery.guest.clone())),
        );
        needs.insert(ResourceId::Certificate(name.clone()), required);
    }
    for (name, secret) in &site.secrets {
        let mut required = nodes.clone();
        if let SecretSource::Certificate { name, .. } = &secret.source {
            required.insert(ResourceId::Certificate(name.clone()));
        }
        needs.insert(ResourceId::Secret(name.clone()), required);
    }

    let mut portainer_ready = BTreeSet::new();
    if let Some(portainer) = &site.portainer {
        needs.insert(
            ResourceId::Portainer,
            BTreeSet::from([
                ResourceId::Stack(portainer.stack.clone()),
                ResourceId::Secret(portainer.admin_password.clone()),
            ]),
        );
        portainer_ready.insert(ResourceId::Portainer);
        for (name, environment) in &portainer.environments {
            let mut required = BTreeSet::from([ResourceId::Portainer]);
            if let Some(EnvironmentTls { certificate }) = &environment.tls {
                required.insert(ResourceId::Certificate(certificate.clone()));
            }
            let id = ResourceId::PortainerEnvironment(name.clone());
            needs.insert(id.clone(), required);
            portainer_ready.insert(id);
        }
        if options.reset_portainer {
            needs.insert(ResourceId::PortainerReset, nodes.clone());
        }
    }
    let before_portainer = before_portainer(site);
    let mut all_stacks = nodes.clone();
    for (name, stack) in &site.stacks {
        let mut required = nodes.clone();
        let refers = stacks.get(name).cloned().unwrap_or_default();
        required.extend(refers.networks.into_iter().map(ResourceId::Network));
        required.extend(refers.secrets.into_iter().map(ResourceId::Secret));
        required.extend(stack.after.iter().cloned().map(ResourceId::Stack));
        if site
            .portainer
            .as_ref()
            .is_some_and(|portainer| portainer.stack == *name)
        {
            required.insert(ResourceId::PortainerReset);
        } else if !before_portainer.contains(name.as_str()) {
            required.extend(portainer_ready.iter().cloned());
        }
        let id = ResourceId::Stack(name.clone());
        needs.insert(id.clone(), required);
        all_stacks.insert(id);
    }
    if !site.secrets.is_empty() || !site.stacks.is_empty() {
        let mut required = all_stacks;
        required.extend(site.secrets.keys().cloned().map(ResourceId::Secret));
        needs.insert(ResourceId::RetiredVersions, required);
    }
    Graph::new(needs)
}

/// The guest in which an issuer's names are proven.
fn hook(site: &Site, issuer: &ResourceId) -> Option<ResourceId> {
    let authority = match issuer {
        ResourceId::Issuer(name) => site.issuers.get(name)?,
        _ => &site.ca,
    };
    match authority {
        CertificateAuthority::Acme(AcmeAuthority {
            challenge: AcmeChallenge::Dns01 { guest, .. },
            ..
        }) => Some(ResourceId::Guest(guest.clone())),
        _ => None,
    }
}

fn is_managed(guest: &Guest) -> bool {
    guest
        .docker
        .as_ref()
        .is_some_and(|docker| matches!(docker.tls, Some(DockerTls::Managed(_))))
}

/// The guests that are managers of the swarm, in declared order.
pub(super) fn managers(site: &Site) -> impl Iterator<Item = &str> {
    site.guests
        .iter()
        .filter(|(_, guest)| guest.role == Some(SwarmRole::Manager))
        .map(|(name, _)| name.as_str())
}

/// The stacks that Portainer's own stack is declared to come after, however indirectly: they
/// cannot wait for Portainer.
fn before_portainer(site: &Site) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&str> = site
        .portainer
        .iter()
        .map(|portainer| portainer.stack.as_str())
        .collect();
    while let Some(name) = open.pop() {
        for earlier in site
            .stacks
            .get(name)
            .into_iter()
            .flat_map(|stack| &stack.after)
        {
            if found.insert(earlier.as_str()) {
                open.push(earlier);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    /// The shape of a site to generate.
    #[derive(Debug, Clone)]
    struct Shape {
        managers: usize,
        workers: usize,
        certificates: usize,
        secrets: usize,
        stacks: usize,
        /// Pairs of stacks: the first comes after the second.
        after: Vec<(usize, usize)>,
        /// The stack that is Portainer's.
        portainer: Option<usize>,
    }

    fn shapes() -> impl Strategy<Value = Shape> {
        (
            1usize..4,
            0usize..5,
            0usize..5,
            1usize..5,
            1usize..6,
            prop::collection::vec((0usize..6, 0usize..6), 0..6),
            prop::option::of(0usize..6),
        )
            .prop_map(
                |(managers, workers, certificates, secrets, stacks, after, portainer)| Shape {
                    managers,
                    workers,
                    certificates,
                    secrets,
                    stacks,
                    after: after
                        .into_iter()
                        .filter(|(a, b)| *a < stacks && *b < stacks && a != b)
                        .collect(),
                    portainer: portainer.filter(|stack| *stack < stacks),
                },
            )
    }

    fn site(shape: &Shape, after: &[(usize, usize)]) -> String {
        let mut text = String::from(
            "site: generated\nproxmox: { url: \"https://pve:8006\", token: { env: T }, fingerprint: \"00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\" }\nguests:\n",
        );
        for number in 0..shape.managers + shape.workers {
            let role = if number < shape.managers {
                "manager"
            } else {
                "worker"
            };
            let _ = writeln!(
                text,
                "  g{number}: {{ vmid: {}, docker: {{ address: \"tcp://10.0.0.{}:2376\", managed: {{ restart: [restart] }} }}, swarm: {{ role: {role} }} }}",
                100 + number,
                number + 1
            );
        }
        text.push_str("secrets:\n");
        for number in 0..shape.secrets {
            let _ = writeln!(text, "  s{number}: {{ env: S{number} }}");
        }
        if shape.certificates > 0 {
            text.push_str("certificates:\n");
        }
        for number in 0..shape.certificates {
            let _ = writeln!(
                text,
                "  c{number}: {{ common_name: c{number}.lan, profile: peer, sans: [c{number}.lan], deliver: [{{ secrets: {{ key: k{number} }} }}, {{ guest: g0, files: [{{ part: key, path: /etc/c{number} }}] }}] }}"
            );
        }
        text.push_str("stacks:\n");
        for number in 0..shape.stacks {
            let before: Vec<String> = after
                .iter()
                .filter(|(later, _)| *later == number)
                .map(|(_, earlier)| format!("t{earlier}"))
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect();
            let _ = writeln!(
                text,
                "  t{number}: {{ compose: t{number}.yml, after: [{}] }}",
                before.join(", ")
            );
        }
        if let Some(stack) = shape.portainer {
            let _ = writeln!(
                text,
                "portainer: {{ stack: t{stack}, url: \"https://10.0.0.1:9443\", admin_password: s0, environments: {{ local: {{ kind: docker, url: \"unix:///var/run/docker.sock\" }} }} }}"
            );
        }
        text
    }

    fn load(text: &str) -> Site {
        Site::parse(Path::new("/nowhere/phoenix.yaml"), text)
            .unwrap_or_else(|problems| panic!("{problems}\n{text}"))
            .site
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]
        #[test]
        fn the_swarm_comes_before_what_needs_it(shape in shapes(), uses in prop::collection::vec((0usize..6, 0usize..5), 0..8)) {
            // Only earlier stacks may come first, so that there is no cycle.
            let after: Vec<_> = shape.after.iter().copied().filter(|(a, b)| a > b).collect();
            let site = load(&site(&shape, &after));
            let mut stacks: BTreeMap<String, StackNeeds> = BTreeMap::new();
            for (stack, secret) in uses {
                if stack < shape.stacks && secret < shape.secrets {
                    stacks.entry(format!("t{stack}")).or_default().secrets.insert(format!("s{secret}"));
                }
            }
            let options = SyncOptions::default().reset_portainer(true);
            let graph = graph(&site, &stacks, &options).expect("no cycle");
            let order: Vec<&ResourceId> = graph.order().collect();
            let place = |id: &ResourceId| order.iter().position(|other| *other == id);
            let last_node = order.iter().rposition(|id| matches!(id, ResourceId::Node(_))).expect("nodes");
            let swarm = place(&ResourceId::Swarm).expect("a swarm");
            for (at, id) in order.iter().enumerate() {
                match id {
                    ResourceId::Certificate(_) | ResourceId::Secret(_) | ResourceId::Stack(_) | ResourceId::Portainer => {
                        prop_assert!(at > last_node && at > swarm, "{id} before the last node");
                    }
                    ResourceId::Endpoint(name) => {
                        prop_assert!(place(&ResourceId::DockerClient).expect("a client") < at);
                        prop_assert!(place(&ResourceId::Guest(name.clone())).expect("a guest") < at);
                    }
                    _ => {}
                }
            }
            if let (Some(stack), Some(portainer)) = (shape.portainer, place(&ResourceId::Portainer)) {
                let deployed = place(&ResourceId::Stack(format!("t{stack}")));
                prop_assert!(place(&ResourceId::PortainerReset) < deployed);
                let before = before_portainer(&site);
                for number in 0..shape.stacks {
                    let name = format!("t{number}");
                    let at = place(&ResourceId::Stack(name.clone())).expect("a stack");
                    if number == stack || before.contains(name.as_str()) {
                        prop_assert!(at < portainer, "{name} after Portainer");
                    } else {
                        prop_assert!(at > portainer, "{name} before Portainer");
                    }
                }
            }
            for (later, earlier) in &after {
                let first = place(&ResourceId::Stack(format!("t{earlier}")));
                let second = place(&ResourceId::Stack(format!("t{later}")));
                prop_assert!(first < second);
            }
        }
    }
}
