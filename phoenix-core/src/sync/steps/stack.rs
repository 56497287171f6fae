//! A stack: its networks, configs and services, and that the services have converged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;

use super::secret::{SITE_LABEL, SecretVersion, find};
use crate::docker::{
    Engine, ObjectKind, Outcome, ServiceObserved, ServiceProgress, ServiceTarget, Verdict,
    WaitOptions, ignored_on, kept_by, without_ignored,
};
use crate::ground::{Deadline, SecretBytes};
use crate::stack::{
    ComposeFile, ConfigToCreate, Platform, RenderContext, Rendered, ResolvedImage, ResolvedObject,
    STACK_LABEL, ServiceBody, carry_digest, difference,
};
use crate::sync::context::Context;
use crate::sync::failure::chain;
use crate::sync::plan::counted;
use crate::sync::step::{Observation, Progress, Step, View};
use crate::sync::{Change, Failure, FailureClass, ResourceId, ServiceStatus, Verb, explain};

/// How long asking a registry for one digest may take.
const REGISTRY: Duration = Duration::from_secs(10);
/// Why something is made that is not there.
const MISSING: &str = "missing";

pub(in crate::sync) struct StackStep {
    cx: Arc<Context>,
    name: String,
}

/// A stack as it must be beside as it is.
struct Compared {
    manager: String,
    engine: Engine,
    rendered: Rendered,
    missing_networks: Vec<String>,
    missing_configs: Vec<String>,
    services: Vec<ComparedService>,
    warnings: Vec<String>,
}

struct ComparedService {
    body: ServiceBody,
    running: Option<ServiceObserved>,
    /// Why it has to be written; nothing when it has not.
    why: Vec<String>,
}

impl ComparedService {
    fn change(&self, why: Vec<String>) -> Change {
        let verb = if self.running.is_some() {
            Verb::Update
        } else {
            Verb::Create
        };
        Change::because(verb, format!("service {}", self.body.name), why)
    }
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

    /// Digests as the registry gives them now. One that cannot be had is left out.
    async fn images(&self, engine: &Engine) -> (BTreeMap<String, ResolvedImage>, Vec<String>) {
        let images = self.compose().references().images;
        let asked = join_all(images.iter().filter(|(image, _)| !image.has_digest()).map(
            |(image, _)| async move {
                let deadline = Deadline::after(REGISTRY);
                let answer = engine.distribution(&image.familiar(), None, deadline).await;
                (image, answer)
            },
        ))
        .await;
        let mut resolved = BTreeMap::new();
        let mut warnings = Vec::new();
        for (image, answer) in asked {
            match answer {
                Ok(found) => {
                    let platforms = found
                        .platforms
                        .into_iter()
                        .map(|platform| Platform {
                            os: platform.os,
                            architecture: platform.architecture,
                        })
                        .collect();
                    let digest = found.digest;
                    resolved.insert(image.familiar(), ResolvedImage { digest, platforms });
                }
                Err(error) => warnings.push(format!(
                    "no registry told the digest of {}, so it is not pinned: {}",
                    image.raw(),
                    chain(&error)
                )),
            }
        }
        (resolved, warnings)
    }

    /// Labels of a config, with that of the site.
    fn config_labels(&self, config: &ConfigToCreate) -> BTreeMap<String, String> {
        let mut labels = config.labels.clone();
        labels.insert(SITE_LABEL.to_owned(), self.cx.site.name.clone());
        labels
    }

    async fn compare(&self) -> Result<Compared, Failure> {
        let (manager, engine) = self.cx.manager().await?;
        let (images, mut warnings) = self.images(&engine).await;
        let mut context = RenderContext {
            secrets: self.secrets(&manager, &engine).await?,
            images,
            service_labels: self.cx.site.stacks[&self.name].service_labels.clone(),
            ..RenderContext::default()
        };
        let networks = engine
            .networks(self.cx.look())
            .await
            .map_err(explain::at(&manager))?;
        context.networks = networks
            .into_iter()
            .filter(|network| network.scope == "swarm")
            .map(|network| (network.name, network.id))
            .collect();
        for network in &self.compose().references().predefined_networks {
            let found = engine
                .predefined_network(&network.name, self.cx.look())
                .await
                .map_err(explain::at(&manager))?;
            if let Some(id) = found {
                context.networks.insert(network.name.clone(), id);
            }
        }
        // Names follow from the file alone; a second rendering has the identifiers too.
        let named = self.compose().render(&context);
        let external = self.compose().references().configs;
        let configs = named
            .configs
            .iter()
            .map(|config| (&config.name, true))
            .chain(external.iter().map(|config| (&config.name, false)));
        let mut missing_configs = Vec::new();
        for (name, own) in configs {
            let found = engine
                .find_object(ObjectKind::Config, name, self.cx.look())
                .await
                .map_err(explain::at(&manager))?;
            match found {
                Some(found) => {
                    let object = ResolvedObject {
                        name: name.clone(),
                        id: Some(found.id),
                    };
                    context.configs.insert(name.clone(), object);
                }
                None if own => missing_configs.push(name.clone()),
                None => {
                    return Err(Failure::message(
                        FailureClass::Failed,
                        format!("stack {}: there is no config {name}", self.name),
                    )
                    .hint("create it, or declare it with `file:` in the compose file"));
                }
            }
        }
        let missing_networks = named
            .networks
            .iter()
            .filter(|network| !context.networks.contains_key(&network.name))
            .map(|network| network.name.clone())
            .collect();
        let rendered = self.compose().render(&context);

        let running = engine
            .services(&[(STACK_LABEL, Some(&self.name))], self.cx.look())
            .await
            .map_err(explain::at(&manager))?;
        let nodes = engine
            .nodes(self.cx.look())
            .await
            .map_err(explain::at(&manager))?;
        let asked = engine
            .api_version(self.cx.look())
            .await
            .map_err(explain::at(&manager))?;
        let kept = kept_by(asked, &nodes);
        let mut services = Vec::new();
        for body in &rendered.services {
            warnings.extend(
                ignored_on(&nodes, &body.json)
                    .iter()
                    .map(|ignored| format!("service {}: {ignored}", body.name)),
            );
            let mut body = body.clone();
            let found = running.iter().find(|service| service.name() == body.name);
            let why = match found {
                None => vec![MISSING.to_owned()],
                Some(found) => {
                    carry_digest(&mut body.json, &found.spec);
                    carry_force_update(&mut body.json, &found.spec);
                    let declared = without_ignored(kept, &body.json);
                    difference(&declared, &without_ignored(kept, &found.spec))
                        .iter()
                        .map(ToString::to_string)
                        .collect()
                }
            };
            services.push(ComparedService {
                body,
                running: found.cloned(),
                why,
            });
        }
        warnings.extend(
            running
                .iter()
                .map(ServiceObserved::name)
                .filter(|name| !rendered.services.iter().any(|body| body.name == *name))
                .map(|name| format!("service {name} is not in the compose file; it is left alone")),
        );
        Ok(Compared {
            manager,
            engine,
            rendered,
            missing_networks,
            missing_configs,
            services,
            warnings,
        })
    }

    /// How the services that need no update stand: a change for each that has not converged, and
    /// how many tasks run.
    async fn health(&self, compared: &Compared) -> Result<(Vec<Change>, String), Failure> {
        let settled: Vec<(&str, &ServiceObserved)> = compared
            .services
            .iter()
            .filter(|service| service.why.is_empty())
            .filter_map(|service| Some((service.body.name.as_str(), service.running.as_ref()?)))
            .collect();
        let targets: Vec<ServiceTarget> = settled
            .iter()
            .map(|(_, running)| ServiceTarget::in_place(&running.id))
            .collect();
        let verdicts = compared
            .engine
            .judge_services(&targets, self.cx.look())
            .await
            .map_err(explain::at(&compared.manager))?;
        let mut changes = Vec::new();
        let mut tasks = 0;
        for ((name, _), verdict) in settled.iter().zip(&verdicts) {
            match verdict {
                Verdict::Converged { tasks: running } => tasks += running,
                verdict => changes.push(Change::new(
                    Verb::Await,
                    format!("service {name}"),
                    verdict.to_string(),
                )),
            }
        }
        let evidence = format!(
            "{} converged, {} running",
            counted(settled.len(), "service"),
            counted(tasks, "task")
        );
        Ok((changes, evidence))
    }

    /// Writes what differs, in waves: a service comes after those it depends on have converged.
    async fn write(&self, compared: &Compared, progress: &Progress) -> Result<(), Failure> {
        let deadline = Deadline::after(self.cx.site.stacks[&self.name].timeout);
        let mut open: Vec<&ComparedService> = compared.services.iter().collect();
        let mut converged: BTreeSet<&str> = BTreeSet::new();
        while !open.is_empty() {
            let (wave, later): (Vec<_>, Vec<_>) = open.iter().copied().partition(|service| {
                service
                    .body
                    .depends_on
                    .iter()
                    .all(|key| converged.contains(key.as_str()))
            });
            // Services that wait for each other are written together rather than never.
            let (wave, later) = if wave.is_empty() {
                (later, Vec::new())
            } else {
                (wave, later)
            };
            let mut written = Vec::new();
            for service in &wave {
                let target = self.write_one(compared, service, progress).await?;
                written.push((service.body.name.as_str(), target));
            }
            self.wait(compared, &written, deadline, progress).await?;
            converged.extend(wave.iter().map(|service| service.body.key.as_str()));
            open = later;
        }
        Ok(())
    }

    async fn write_one(
        &self,
        compared: &Compared,
        service: &ComparedService,
        progress: &Progress,
    ) -> Result<ServiceTarget, Failure> {
        let body = &service.body.json;
        if let Some(unresolved) = service.body.unresolved.first() {
            return Err(Failure::message(
                FailureClass::Failed,
                format!(
                    "service {}: {unresolved:?} does not exist",
                    service.body.name
                ),
            ));
        }
        let written = match &service.running {
            None => {
                compared
                    .engine
                    .create_service(body, None, self.cx.act())
                    .await
            }
            Some(running) if service.why.is_empty() => {
                return Ok(ServiceTarget::in_place(&running.id));
            }
            Some(running) => {
                compared
                    .engine
                    .update_service(&running.id, running.version, body, None, self.cx.act())
                    .await
            }
        };
        let written = written.map_err(|error| {
            explain::engine(&compared.manager, &error)
                .context(format!("service {}", service.body.name))
        })?;
        progress.changed(service.change(service.why.clone()));
        Ok(ServiceTarget::written(&written))
    }

    async fn wait(
        &self,
        compared: &Compared,
        written: &[(&str, ServiceTarget)],
        deadline: Deadline,
        progress: &Progress,
    ) -> Result<(), Failure> {
        let targets: Vec<ServiceTarget> =
            written.iter().map(|(_, target)| target.clone()).collect();
        let mut say = |standing: ServiceProgress<'_>| {
            progress.say(format!("service {} {}", standing.name, standing.verdict));
        };
        let outcomes = compared
            .engine
            .await_services(&targets, &WaitOptions::default(), deadline, &mut say)
            .await
            .map_err(explain::at(&compared.manager))?;
        // In the order of the targets.
        let failed: Vec<(&str, &Outcome)> = written
            .iter()
            .zip(&outcomes)
            .map(|((name, _), (_, outcome))| (*name, outcome))
            .filter(|(_, outcome)| !outcome.is_converged())
            .collect();
        if failed.is_empty() {
            return Ok(());
        }
        let class = if failed
            .iter()
            .all(|(_, outcome)| matches!(outcome, Outcome::TimedOut { .. }))
        {
            FailureClass::Unreachable
        } else {
            FailureClass::Failed
        };
        let texts: Vec<String> = failed
            .iter()
            .map(|(name, outcome)| format!("service {name} {outcome}"))
            .collect();
        Err(Failure::message(
            class,
            format!("stack {}: {}", self.name, texts.join("; ")),
        ))
    }
}

#[async_trait]
impl Step for StackStep {
    async fn observe(&self, view: &View) -> Result<Observation, Failure> {
        if view.pending(&ResourceId::PortainerReset).is_some() {
            return Ok(Observation::differs(self.unobserved()));
        }
        let compared = self.compare().await?;
        let mut changes: Vec<Change> = Vec::new();
        for network in &compared.missing_networks {
            changes.push(Change::new(
                Verb::Create,
                format!("network {network}"),
                MISSING,
            ));
        }
        for config in &compared.missing_configs {
            changes.push(Change::new(
                Verb::Create,
                format!("config {config}"),
                MISSING,
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
        for service in &compared.services {
            let mut why = service.why.clone();
            if service.running.is_some() {
                let refers = |secret: &str| {
                    self.compose().services()[&service.body.key]
                        .secrets
                        .iter()
                        .any(|reference| self.compose().secret_name(&reference.source) == secret)
                };
                for secret in rotating.iter().filter(|secret| refers(secret)) {
                    why.retain(|reason| !reason.contains(".Secrets["));
                    why.push(format!("secret {secret} gets a new version"));
                }
            }
            if !why.is_empty() {
                changes.push(service.change(why));
            }
        }
        let (waiting, evidence) = self.health(&compared).await?;
        changes.extend(waiting);
        Ok(Observation::of(changes, evidence)
            .usable()
            .warn(compared.warnings))
    }

    async fn apply(&self, progress: &Progress) -> Result<(), Failure> {
        let mut compared = self.compare().await?;
        for network in &compared.rendered.networks {
            if compared.missing_networks.contains(&network.name) {
                compared
                    .engine
                    .create_network_from(&network.json, self.cx.act())
                    .await
                    .map_err(explain::at(&compared.manager))?;
                let what = format!("network {}", network.name);
                progress.changed(Change::new(Verb::Create, what, MISSING));
            }
        }
        for config in &compared.rendered.configs {
            if compared.missing_configs.contains(&config.name) {
                compared
                    .engine
                    .create_object(
                        ObjectKind::Config,
                        &config.name,
                        &self.config_labels(config),
                        &SecretBytes::new(config.content.clone()),
                        self.cx.act(),
                    )
                    .await
                    .map_err(explain::at(&compared.manager))?;
                let what = format!("config {}", config.name);
                progress.changed(Change::new(Verb::Create, what, MISSING));
            }
        }
        if !compared.missing_networks.is_empty() || !compared.missing_configs.is_empty() {
            compared = self.compare().await?;
        }
        self.write(&compared, progress).await
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

/// Keeps the counter by which `docker service update --force` restarts tasks: sending another
/// one would restart them too.
fn carry_force_update(body: &mut serde_json::Value, running: &serde_json::Value) {
    if let Some(count) = running.pointer("/TaskTemplate/ForceUpdate")
        && let Some(task) = body
            .get_mut("TaskTemplate")
            .and_then(serde_json::Value::as_object_mut)
    {
        task.insert("ForceUpdate".to_owned(), count.clone());
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
                    state.healthy = matches!(verdict, Verdict::Converged { .. });
                }
                None => MISSING.clone_into(&mut state.state),
            }
            state.name = name;
            states.push(state);
        }
    }
    Ok(states)
}
