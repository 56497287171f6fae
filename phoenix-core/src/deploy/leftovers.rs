//! What a stack has in the swarm and does not need: services that its file does not have, old
//! versions, and, where it is asked for, everything else that the file does not have.
//!
//! Invariant: what a service refers to, or would again after a rollback, is no leftover.

use std::collections::BTreeSet;

use super::compare::{ComparedService, Found, list};
use super::plan::Removal;
use super::versions::{Decision, retired};
use super::{Deployment, belongs_to, is_network_of};
use crate::docker::{ObjectKind, ServiceObserved};
use crate::stack::{RenderContext, STACK_LABEL};

impl Deployment<'_> {
    pub(super) fn removals(
        &self,
        found: &Found,
        own: &[&ServiceObserved],
        objects: &[Decision],
        services: &[ComparedService],
        warnings: &mut Vec<String>,
    ) -> Vec<Removal> {
        let declared = |name: &str| services.iter().any(|service| service.body.name == name);
        let stray: Vec<&&ServiceObserved> =
            own.iter().filter(|one| !declared(one.name())).collect();
        let mut removals = Vec::new();
        if self.options.prune {
            removals.extend(stray.iter().map(|service| Removal {
                kind: "service",
                id: service.id.clone(),
                name: service.name().to_owned(),
                why: "not in the compose file",
            }));
        } else {
            warnings.extend(stray.iter().map(|service| {
                format!(
                    "service {} is not in the compose file; it is left alone",
                    service.name()
                )
            }));
        }
        // What services refer to, and would again after a rollback: an update that is still to be
        // written makes the current spec the previous one.
        let goes = |service: &&ServiceObserved| {
            self.options.prune
                && service.label(STACK_LABEL) == Some(self.file.stack())
                && !declared(service.name())
        };
        let used: BTreeSet<String> = found
            .services
            .iter()
            .filter(|service| !goes(service))
            .flat_map(ServiceObserved::needed_objects)
            .map(str::to_owned)
            .collect();
        for decision in objects {
            let all = &found.objects[list(decision.wanted.kind)];
            if decision.action == super::ObjectAction::Ask {
                continue;
            }
            let current = decision.current.as_ref().map(|object| object.id.as_str());
            let old = retired(&decision.wanted, all, current, &used, self.options.keep);
            removals.extend(old.into_iter().map(|object| Removal {
                kind: list(decision.wanted.kind),
                id: object.id.clone(),
                name: object.name.clone(),
                why: "an old version that nothing refers to",
            }));
        }
        if self.options.prune {
            removals.extend(self.strays(found, objects, &used));
        }
        removals
    }

    /// Networks, secrets and configs of the stack that the file does not have.
    fn strays(&self, found: &Found, objects: &[Decision], used: &BTreeSet<String>) -> Vec<Removal> {
        let why = "not in the compose file";
        let references = self.file.references();
        let mut kept: BTreeSet<String> = self
            .file
            .render(&RenderContext::default())
            .networks
            .into_iter()
            .map(|network| network.name)
            .collect();
        kept.extend(references.networks.into_iter().map(|one| one.name));
        let stack = self.file.stack();
        let networks = found
            .networks
            .iter()
            .filter(|network| is_network_of(network, stack) && !kept.contains(&network.name))
            .map(|network| Removal {
                kind: "network",
                id: network.id.clone(),
                name: network.name.clone(),
                why,
            });
        let external: BTreeSet<&str> = references
            .secrets
            .iter()
            .chain(&references.configs)
            .map(|one| one.name.as_str())
            .collect();
        let stray = [ObjectKind::Secret, ObjectKind::Config]
            .into_iter()
            .flat_map(|kind| {
                found.objects[list(kind)]
                    .iter()
                    .filter(|object| {
                        belongs_to(&object.labels, stack) && !used.contains(&object.id)
                    })
                    .filter(|object| !external.contains(object.name.as_str()))
                    .filter(move |object| {
                        !objects.iter().any(|decision| {
                            decision.wanted.kind == kind && decision.wanted.is_version(object)
                        })
                    })
                    .map(move |object| Removal {
                        kind: list(kind),
                        id: object.id.clone(),
                        name: object.name.clone(),
                        why,
                    })
            });
        networks.chain(stray).collect()
    }
}
