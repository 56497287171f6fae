//! A stack: its networks, configs and services, and that the services have converged.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::secret::{SITE_LABEL, SecretVersion, find};
use crate::deploy::{
    self, DeployEvent, DeployOptions, Deployment, MissingKind, OutcomeKind, StackPlan,
};
use crate::docker::{Engine, ServiceTarget, Verdict};
use crate::ground::Deadline;
use crate::stack::{ComposeFile, ResolvedObject, STACK_LABEL};
use crate::sync::context::Context;
use crate::sync::plan::counted;
use crate::sync::step::{Observation, Progress, Step, View};
use crate::sync::{Change, Failure, FailureClass, ResourceId, ServiceStatus, Verb, explain};

/// Why something is made that is not there.
const MISSING: &str = "missing";

pub(in crate::sync) struct StackStep {
    cx: Arc<Context>,
    name: String,
}

impl StackStep {
    pub(in crate::sync) fn new(cx: Arc<Context>, name: String) -> Self {
        Self { cx, name }
    }

    fn compose(&self) -> &ComposeFile {
        &self.cx.stacks[&self.name]
    }

    /// The current versions of the secrets that the stack refers to, by logical name.
    async fn secrets(
        &self,
        manager: &str,
        engine: &Engine,
    ) -> Result<BTreeMap<String, ResolvedObject>, Failure> {
        let mut resolved = BTreeMap::new();
        for logical in &self.cx.stack_needs[&self.name].secrets {
            let object = match SecretVersion::of(&self.cx, logical).await? {
                Some(version) => {
                    let found = find(engine, &self.cx, manager, &version.name).await?;
                    ResolvedObject {
                        name: version.name,
                        id: found.map(|secret| secret.id),
                    }
                }
                None => ResolvedObject {
                    name: logical.clone(),
                    id: None,
                },
            };
            resolved.insert(logical.clone(), object);
        }
        Ok(resolved)
    }

    async fn options(&self, manager: &str, engine: &Engine) -> Result<DeployOptions, Failure> {
        let site = &self.cx.site;
        let declared = &site.stacks[&self.name];
        Ok(DeployOptions {
            secrets: self.secrets(manager, engine).await?,
            service_labels: declared.service_labels.clone(),
            object_labels: BTreeMap::from([(SITE_LABEL.to_owned(), site.name.clone())]),
            keep: declared.keep,
            prune: declared.prune,
            credentials: self.cx.registries.clone(),
            retry_rolled_back: self.cx.retry_rolled_back(),
            request: self.cx.act().allowed(),
            ..DeployOptions::default()
        })
    }

    /// What would be done about the services, in the light of secrets that get new versions.
    fn service_changes(&self, plan: &StackPlan, rotating: &[&String]) -> Vec<Change> {
        let mut changes = Vec::new();
        for service in &plan.services {
            let declared = &self.compose().services()[&service.key].secrets;
            let refers = |secret: &str| {
                declared
                    .iter()
                    .any(|one| self.compose().secret_name(&one.source) == secret)
            };
            let reasons: Vec<String> = rotating
                .iter()
                .filter(|secret| refers(secret))
                .map(|secret| format!("secret {secret} gets a new version"))
                .collect();
            let mut change = match service.change() {
                Some(change) => Change::from(change),
                // Its spec is in place until the secret is another one.
                None if reasons.is_empty() => continue,
                None => {
                    let what = format!("service {}", service.name);
                    changes.push(Change::because(Verb::Update, what, reasons));
                    continue;
                }
            };
            if change.verb != Verb::Create && !reasons.is_empty() {
                change.why.retain(|reason| !reason.contains(".Secrets["));
                change.why.extend(reasons);
            }
            changes.push(change);
        }
        changes
    }

    fn fail(&self, class: FailureClass, texts: &[String]) -> Failure {
        Failure::message(class, format!("stack {}: {}", self.name, texts.join("; ")))
    }
}

impl From<deploy::Change> for Change {
    fn from(change: deploy::Change) -> Self {
        let verb = match change.verb {
            deploy::Verb::Create => Verb::Create,
            deploy::Verb::Update => Verb::Update,
            deploy::Verb::Remove => Verb::Remove,
            deploy::Verb::Await => Verb::Await,
        };
        Self::because(verb, change.what, change.why)
    }
}

#[async_trait]
impl Step for StackStep {
    async fn observe(&self, view: &View) -> Result<Observation, Failure> {
        if view.pending(&ResourceId::PortainerReset).is_some() {
            return Ok(Observation::differs(self.unobserved()));
        }
        let (manager, engine) = self.cx.manager().await?;
        let options = self.options(&manager, &engine).await?;
        let plan = Deployment::new(&engine, self.compose(), options)
            .plan()
            .await
            .map_err(explain::at(&manager))?;
        // Networks and secrets are other steps' business.
        let mut missing = plan.missing.iter();
        if let Some(config) = missing.find(|one| one.kind == MissingKind::Config) {
            return Err(self
                .fail(FailureClass::Failed, &[config.to_string()])
                .hint("create it, or declare it with `file:` in the compose file"));
        }
        if !plan.taken.is_empty() {
            let taken: Vec<String> = plan.taken.iter().map(ToString::to_string).collect();
            return Err(self
                .fail(FailureClass::Failed, &taken)
                .hint("remove it, or give the stack's another name"));
        }
        let rolled: Vec<String> = plan
            .rolled_back()
            .map(|(service, rolled)| format!("service {service}: {rolled}"))
            .collect();
        if !rolled.is_empty() {
            return Err(self.fail(FailureClass::Failed, &rolled).hint(
                "it is not tried again as it is: change the stack, or retry it with `phoenix sync all --retry-rolled-back`",
            ));
        }
        let rotating: Vec<&String> = self.cx.stack_needs[&self.name]
            .secrets
            .iter()
            .filter(|secret| {
                view.pending(&ResourceId::Secret((*secret).clone()))
                    .is_some()
            })
            .collect();
        let settled: Vec<u64> = plan.services.iter().filter_map(|one| one.settled).collect();
        let evidence = format!(
            "{} converged, {} running",
            counted(settled.len(), "service"),
            counted(settled.iter().sum::<u64>(), "task")
        );
        let services = self.service_changes(&plan, &rotating);
        let of_services = |change: &deploy::Change| {
            change.verb != deploy::Verb::Remove && change.what.starts_with("service ")
        };
        let (mut before, after): (Vec<_>, Vec<_>) = plan
            .changes()
            .into_iter()
            .filter(|change| !of_services(change))
            .partition(|change| change.verb != deploy::Verb::Remove);
        let mut changes: Vec<Change> = before.drain(..).map(Change::from).collect();
        changes.extend(services);
        changes.extend(after.into_iter().map(Change::from));
        Ok(Observation::of(changes, evidence)
            .usable()
            .warn(plan.warnings))
    }

    async fn apply(&self, progress: &Progress) -> Result<(), Failure> {
        let (manager, engine) = self.cx.manager().await?;
        let options = self.options(&manager, &engine).await?;
        let deadline = Deadline::after(self.cx.site.stacks[&self.name].timeout);
        let mut tell = |event: DeployEvent| match event {
            DeployEvent::Changed(change) => progress.changed(change.into()),
            DeployEvent::Standing { service, text } => {
                progress.say(format!("service {service} {text}"));
            }
            DeployEvent::Waiting { text } => progress.say(format!("waiting for {text}")),
            DeployEvent::Ended(_) => {}
        };
        let done = Deployment::new(&engine, self.compose(), options)
            .apply(deadline, &mut tell)
            .await
            .map_err(|error| {
                explain::engine(&manager, &error).context(format!("stack {}", self.name))
            })?;
        let failed: Vec<_> = done.failures().collect();
        if failed.is_empty() {
            return match done.unfinished.as_slice() {
                [] => Ok(()),
                left => Err(self.fail(FailureClass::Failed, left)),
            };
        }
        // What only waits for another says nothing about the class.
        let late = failed.iter().any(|one| one.kind != OutcomeKind::Blocked)
            && failed.iter().all(|one| {
                matches!(
                    one.kind,
                    OutcomeKind::TimedOut | OutcomeKind::Unanswered | OutcomeKind::Blocked
                )
            });
        let class = if late {
            FailureClass::Unreachable
        } else {
            FailureClass::Failed
        };
        let texts: Vec<String> = failed.iter().map(ToString::to_string).collect();
        Err(self.fail(class, &texts))
    }

    fn seen_through(&self) -> Vec<ResourceId> {
        vec![ResourceId::Swarm]
    }

    fn unobserved(&self) -> Vec<Change> {
        self.compose()
            .services()
            .keys()
            .map(|key| {
                let what = format!("service {}", self.compose().scoped(key));
                Change::new(Verb::Create, what, MISSING)
            })
            .collect()
    }
}

/// The services of all declared stacks as they are now.
pub(in crate::sync) async fn service_states(
    cx: &Arc<Context>,
    engine: &Engine,
) -> Result<Vec<ServiceStatus>, Failure> {
    let manager = "the swarm's manager";
    let mut states = Vec::new();
    for (stack, compose) in &cx.stacks {
        let running = engine
            .services(&[(STACK_LABEL, Some(stack))], cx.look())
            .await
            .map_err(explain::at(manager))?;
        let targets: Vec<ServiceTarget> = running
            .iter()
            .map(|service| ServiceTarget::in_place(&service.id))
            .collect();
        let verdicts = engine
            .judge_services(&targets, cx.look())
            .await
            .map_err(explain::at(manager))?;
        for key in compose.services().keys() {
            let name = compose.scoped(key);
            let found = running
                .iter()
                .zip(&verdicts)
                .find(|(service, _)| service.name() == name);
            let mut state = ServiceStatus::default();
            state.stack.clone_from(stack);
            match found {
                Some((service, verdict)) => {
                    let image = service.image();
                    image
                        .split_once('@')
                        .map_or(image, |(image, _)| image)
                        .clone_into(&mut state.image);
                    if let Some(counts) = &service.counts {
                        state.replicas =
                            format!("{}/{}", counts.running_tasks, counts.desired_tasks);
                    }
                    state.state = match verdict {
                        Verdict::Converged { .. } => "converged".to_owned(),
                        verdict => verdict.to_string(),
                    };
                    state.healthy = verdict.settled().is_some();
                }
                None => MISSING.clone_into(&mut state.state),
            }
            state.name = name;
            states.push(state);
        }
    }
    Ok(states)
}
