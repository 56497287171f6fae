//! What is verified at the end of a sync, each claim with its evidence.

use std::collections::BTreeMap;

use super::context::Context;
use super::plan::counted;
use super::record::Milestone;
use super::{Check, ResourceId, StepOutcome, StepReport, Verb};
use crate::pki::SubjectAltName;
use crate::site::{SecretSource, Site};

/// The claims about the site after a run.
pub(super) fn checks(cx: &Context, steps: &[StepReport], milestones: &[Milestone]) -> Vec<Check> {
    let site = &cx.site;
    let mut checks = Vec::new();
    let by_id: BTreeMap<&ResourceId, &StepReport> =
        steps.iter().map(|step| (&step.step, step)).collect();
    if by_id.contains_key(&ResourceId::Nodes) {
        checks.extend(order(site, milestones));
    }
    for (name, certificate) in &site.certificates {
        let names: Vec<String> = certificate
            .sans
            .iter()
            .map(SubjectAltName::to_string)
            .collect();
        let check = of_step(
            &by_id,
            &ResourceId::Certificate(name.clone()),
            format!(
                "{} certificate {name} ({}) is valid and in place",
                certificate.profile,
                names.join(", ")
            ),
        );
        let Some(mut check) = check else { continue };
        let secrets: Vec<&str> = site
            .secrets
            .iter()
            .filter(|(_, secret)| {
                matches!(&secret.source, SecretSource::Certificate { name: of, .. } if of == name)
            })
            .map(|(secret, _)| secret.as_str())
            .collect();
        if check.holds && !secrets.is_empty() {
            check
                .evidence
                .push_str(&format!(", in secrets {}", secrets.join(", ")));
        }
        checks.push(check);
    }
    for name in site.secrets.keys() {
        checks.extend(of_step(
            &by_id,
            &ResourceId::Secret(name.clone()),
            format!("secret {name} is present"),
        ));
    }
    if site.portainer.is_some() {
        checks.extend(of_step(
            &by_id,
            &ResourceId::Portainer,
            "Portainer answers and has its admin".to_owned(),
        ));
    }
    for name in site.stacks.keys() {
        checks.extend(of_step(
            &by_id,
            &ResourceId::Stack(name.clone()),
            format!("stack {name} has converged"),
        ));
    }
    checks
}

/// The claim that the step of `id` stands for; `None` when it was no part of the run.
fn of_step(
    steps: &BTreeMap<&ResourceId, &StepReport>,
    id: &ResourceId,
    statement: String,
) -> Option<Check> {
    let step = steps.get(id)?;
    let (holds, evidence) = match &step.outcome {
        StepOutcome::Unchanged | StepOutcome::Changed => {
            (true, step.evidence.clone().unwrap_or_default())
        }
        StepOutcome::Skipped { because_of } => {
            (false, format!("not begun because {because_of} failed"))
        }
        StepOutcome::Failed => (
            false,
            step.failure
                .as_ref()
                .map(|failure| failure.message.clone())
                .unwrap_or_default(),
        ),
    };
    Some(Check {
        statement,
        holds,
        evidence,
    })
}

/// That the swarm was active and every node ready before the first renewal and the first
/// secret, from the order of the events.
fn order(site: &Site, milestones: &[Milestone]) -> Option<Check> {
    let nodes: Vec<ResourceId> = site
        .guests
        .iter()
        .filter(|(_, guest)| guest.role.is_some())
        .map(|(name, _)| ResourceId::Node(name.clone()))
        .collect();
    if nodes.is_empty() {
        return None;
    }
    let statement =
        "the swarm was active and every node ready before the first renewal and the first secret"
            .to_owned();
    let ready = |wanted: &ResourceId| {
        milestones.iter().find_map(|milestone| match milestone {
            Milestone::Ready(sequence, id) if id == wanted => Some(*sequence),
            _ => None,
        })
    };
    let mut last_ready = 0;
    for id in nodes.iter().chain([&ResourceId::Swarm]) {
        match ready(id) {
            Some(sequence) => last_ready = last_ready.max(sequence),
            None => {
                return Some(Check {
                    statement,
                    holds: first(milestones).is_none(),
                    evidence: format!("{id} did not become ready, and nothing was renewed"),
                });
            }
        }
    }
    let (holds, evidence) = match first(milestones) {
        None => (
            true,
            format!(
                "{} ready; no renewal or secret was needed",
                counted(nodes.len(), "node")
            ),
        ),
        Some((sequence, what)) => (
            last_ready < sequence,
            format!(
                "{} ready at event {last_ready}; first was event {sequence}: {what}",
                counted(nodes.len(), "node")
            ),
        ),
    };
    Some(Check {
        statement,
        holds,
        evidence,
    })
}

/// The first renewal of a declared certificate or creation of a secret.
fn first(milestones: &[Milestone]) -> Option<(u64, String)> {
    milestones.iter().find_map(|milestone| match milestone {
        Milestone::Changed(sequence, ResourceId::Certificate(_), change)
            if change.verb == Verb::Issue =>
        {
            Some((*sequence, change.to_string()))
        }
        Milestone::Changed(sequence, ResourceId::Secret(_), change) => {
            Some((*sequence, change.to_string()))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Change;

    fn site(yaml_guests: usize) -> Vec<ResourceId> {
        (0..yaml_guests)
            .map(|n| ResourceId::Node(format!("n{n}")))
            .collect()
    }

    #[test]
    fn the_first_renewal_or_secret_counts() {
        let secret = ResourceId::Secret("s".into());
        let certificate = ResourceId::Certificate("c".into());
        let milestones = [
            Milestone::Ready(1, site(1)[0].clone()),
            Milestone::Changed(
                2,
                ResourceId::Endpoint("n0".into()),
                Change::new(Verb::Issue, "daemon", "missing"),
            ),
            Milestone::Changed(
                3,
                certificate.clone(),
                Change::new(Verb::Deliver, "file", "missing"),
            ),
            Milestone::Changed(4, secret, Change::new(Verb::Create, "secret", "missing")),
            Milestone::Changed(5, certificate, Change::new(Verb::Issue, "c", "missing")),
        ];
        assert_eq!(first(&milestones).map(|(sequence, _)| sequence), Some(4));
    }
}
