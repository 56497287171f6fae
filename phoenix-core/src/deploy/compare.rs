//! A compose file beside the swarm as it is. Reads only, and waits for nothing.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::{join_all, try_join_all};
use serde_json::Value;

use super::attempt::{rolled_back, without_attempt};
use super::error::{DeployError, asking};
use super::plan::{
    Missing, MissingKind, ObjectPlan, Removal, RolledBack, ServiceAction, ServicePlan, StackPlan,
    Taken,
};
use super::versions::{Decision, Mark, Wanted, decide};
use super::{Deployment, ResolveImages};
use crate::docker::{
    ApiVersion, EngineError, NetworkObserved, NetworkSpec, Node, ObjectKind, ObjectObserved,
    ServiceObserved, ServiceTarget, UpdateState, Verdict, ignored_on, kept_by, without_ignored,
};
use crate::ground::{Deadline, SecretBytes, causes};
use crate::stack::model::ObjectSource;
use crate::stack::{
    FieldChange, IMAGE_LABEL, NetworkBody, Platform, RenderContext, ResolvedImage, ResolvedObject,
    STACK_LABEL, ServiceBody, carry_digest, difference,
};

/// A stack as it must be beside as it is.
pub(super) struct Compared {
    /// Networks that are missing.
    pub(super) networks: Vec<NetworkBody>,
    pub(super) objects: Vec<Decision>,
    pub(super) services: Vec<ComparedService>,
    pub(super) removals: Vec<Removal>,
    pub(super) missing: Vec<Missing>,
    taken: Vec<Taken>,
    pub(super) images: Images,
    warnings: Vec<String>,
}

/// What the registries said.
#[derive(Clone, Default)]
pub(super) struct Images {
    resolved: BTreeMap<String, ResolvedImage>,
    warnings: Vec<String>,
}

impl Compared {
    /// The same, where nothing is missing that the stack does not make, and nothing that it makes is
    /// somebody else's.
    pub(super) fn complete(self) -> Result<Self, DeployError> {
        if !self.taken.is_empty() {
            return Err(DeployError::Taken { taken: self.taken });
        }
        if self.missing.is_empty() {
            return Ok(self);
        }
        Err(DeployError::Missing {
            missing: self.missing,
        })
    }

    /// Worth knowing.
    pub(super) fn warnings(&self) -> Vec<String> {
        let registries = self.images.warnings.iter().cloned();
        registries.chain(self.warnings.clone()).collect()
    }
}

pub(super) struct ComparedService {
    pub(super) body: ServiceBody,
    /// The version up to which the swarm keeps what is sent to it.
    pub(super) kept: ApiVersion,
    pub(super) running: Option<ServiceObserved>,
    pub(super) changes: Vec<FieldChange>,
    pub(super) action: ServiceAction,
}

impl ComparedService {
    /// Whether something is sent about it.
    pub(super) fn is_written(&self) -> bool {
        !matches!(
            self.action,
            ServiceAction::Unchanged | ServiceAction::RolledBack(_)
        )
    }
}

/// What the swarm has that the stack is concerned with.
pub(super) struct Found {
    pub(super) networks: Vec<NetworkObserved>,
    pub(super) predefined: BTreeMap<String, String>,
    pub(super) objects: BTreeMap<&'static str, Vec<ObjectObserved>>,
    /// All services of the swarm: others may refer to the stack's objects.
    pub(super) services: Vec<ServiceObserved>,
    pub(super) nodes: Vec<Node>,
    /// The version that the manager is asked in.
    pub(super) asked: ApiVersion,
}

pub(super) fn list(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Secret => "secret",
        ObjectKind::Config => "config",
    }
}

impl Deployment<'_> {
    /// Looks at the swarm and says what differs.
    ///
    /// # Errors
    /// [`DeployError`] when it cannot be looked at. What the stack refers to and nobody has made
    /// is no error but stands in the plan.
    pub async fn plan(&self) -> Result<StackPlan, DeployError> {
        let compared = self.compare(None).await?;
        let standing = self.standing(&compared).await?;
        let warnings = compared.warnings();
        let objects = compared
            .objects
            .iter()
            .map(|decision| ObjectPlan {
                kind: decision.wanted.kind,
                key: decision.wanted.key.clone(),
                logical: decision.wanted.logical.clone(),
                name: decision.name().to_owned(),
                action: decision.action,
            })
            .collect();
        let services = compared
            .services
            .into_iter()
            .map(|service| {
                let verdict = standing.get(&service.body.name);
                ServicePlan {
                    key: service.body.key,
                    name: service.body.name,
                    action: service.action,
                    changes: service.changes,
                    standing: verdict.map(Verdict::to_string),
                    settled: verdict.and_then(Verdict::settled),
                }
            })
            .collect();
        Ok(StackPlan {
            stack: self.file.stack().to_owned(),
            networks: compared
                .networks
                .into_iter()
                .map(|network| network.name)
                .collect(),
            objects,
            services,
            removals: compared.removals,
            missing: compared.missing,
            taken: compared.taken,
            warnings,
        })
    }

    /// How the services whose spec is in place stand, by name.
    async fn standing(
        &self,
        compared: &Compared,
    ) -> Result<BTreeMap<String, Verdict>, DeployError> {
        let (names, targets): (Vec<&str>, Vec<ServiceTarget>) = compared
            .services
            .iter()
            .filter(|service| service.action == ServiceAction::Unchanged)
            .filter_map(|service| {
                let id = &service.running.as_ref()?.id;
                Some((service.body.name.as_str(), ServiceTarget::in_place(id)))
            })
            .unzip();
        let verdicts = self
            .engine
            .judge_services(&targets, self.request())
            .await
            .map_err(asking("how the services stand cannot be seen"))?;
        Ok(names.into_iter().map(str::to_owned).zip(verdicts).collect())
    }

    /// Compares. `known`: what the registries said a moment ago; they are not asked again then.
    pub(super) async fn compare(&self, known: Option<Images>) -> Result<Compared, DeployError> {
        let wanted = self.wanted()?;
        let found = self.find(&wanted).await?;
        let own: Vec<&ServiceObserved> = found
            .services
            .iter()
            .filter(|service| service.label(STACK_LABEL) == Some(self.file.stack()))
            .collect();
        let images = match known {
            Some(known) => known,
            None => self.images(&own).await?,
        };
        let mut warnings = Vec::new();
        let mut missing = Vec::new();
        let mut context = RenderContext {
            images: images.resolved.clone(),
            service_labels: self.options.service_labels.clone(),
            networks: found.predefined.clone(),
            ..RenderContext::default()
        };
        for network in found
            .networks
            .iter()
            .filter(|network| network.scope == "swarm")
        {
            context
                .networks
                .insert(network.name.clone(), network.id.clone());
        }
        let objects = self.decisions(wanted, &found, &own)?;
        for decision in &objects {
            let resolved = ResolvedObject {
                name: decision.name().to_owned(),
                id: decision.current.as_ref().map(|object| object.id.clone()),
            };
            let logical = decision.wanted.logical.clone();
            match decision.wanted.kind {
                ObjectKind::Secret => context.secrets.insert(logical, resolved),
                ObjectKind::Config => context.configs.insert(logical, resolved),
            };
        }
        self.external(&mut context, &mut missing).await?;

        let rendered = self.file.render(&context);
        for network in &self.file.references().networks {
            if !context.networks.contains_key(&network.name) {
                missing.push(Missing {
                    kind: MissingKind::Network,
                    name: network.name.clone(),
                });
            }
        }
        let mut networks = Vec::new();
        let mut taken = self.taken_objects(&objects, &found);
        for network in rendered.networks {
            let same = |one: &&NetworkObserved| one.name == network.name && one.scope == "swarm";
            match found.networks.iter().find(same) {
                Some(one) => {
                    let owner = one.labels.get(STACK_LABEL).map(String::as_str);
                    if owner != Some(self.file.stack()) {
                        taken.push(Taken::new("network", &network.name, owner));
                    }
                    warnings.extend(network_warnings(&network, one));
                }
                None => networks.push(network),
            }
        }
        let kept = kept_by(found.asked, &found.nodes);
        let mut services = Vec::new();
        for body in rendered.services {
            for ignored in ignored_on(&found.nodes, &body.json) {
                warnings.push(format!("service {}: {ignored}", body.name));
            }
            let running = own.iter().find(|service| service.name() == body.name);
            let mut others = found.services.iter();
            if running.is_none()
                && let Some(other) = others.find(|service| service.name() == body.name)
            {
                let owner = other.label(STACK_LABEL);
                taken.push(Taken::new("service", &body.name, owner));
            }
            let service = self.compare_service(body, running.copied(), kept).await?;
            if matches!(
                service.action,
                ServiceAction::Create | ServiceAction::Update
            ) {
                // Of an image with a digest no registry is asked: found out before any write.
                self.auth(&service.body.image)?;
            }
            if service.action == ServiceAction::Update && is_taken_back(&service.body.json) {
                warnings.push(format!(
                    "service {}: the engine rolls this update back (failure_action) when a task \
                     ends within the monitor time, also when it ends well: a task that is not \
                     restarted (restart_policy none) is expected to end",
                    service.body.name
                ));
            }
            services.push(service);
        }
        self.hand_out_credentials(&mut services).await?;
        let removals = self.removals(&found, &own, &objects, &services, &mut warnings);
        Ok(Compared {
            networks,
            objects,
            services,
            removals,
            missing,
            taken,
            images,
            warnings,
        })
    }

    /// The secrets and configs that are to be made, of whose names there are others.
    fn taken_objects(&self, objects: &[Decision], found: &Found) -> Vec<Taken> {
        let made = objects.iter().filter(|decision| {
            matches!(
                decision.action,
                super::ObjectAction::Create | super::ObjectAction::Rotate
            )
        });
        made.filter_map(|decision| {
            let kind = list(decision.wanted.kind);
            let other = found.objects[kind].iter().find(|object| {
                object.name == decision.new_name && !decision.wanted.is_version(object)
            })?;
            let owner = other.labels.get(STACK_LABEL).map(String::as_str);
            Some(Taken::new(kind, &decision.new_name, owner))
        })
        .collect()
    }

    /// The secrets and configs that the stack makes.
    fn wanted(&self) -> Result<Vec<Wanted>, DeployError> {
        let labelled = |labels: &BTreeMap<String, String>| {
            let mut labels = labels.clone();
            labels.extend(self.options.object_labels.clone());
            labels
        };
        let mut wanted = Vec::new();
        for secret in self.file.secrets() {
            let content = match secret.source {
                ObjectSource::External => continue,
                ObjectSource::Given(content) => content,
                ObjectSource::File(path) => match std::fs::read(&path) {
                    Ok(content) => SecretBytes::new(content),
                    Err(source) => {
                        return Err(DeployError::Unreadable {
                            secret: secret.key,
                            path,
                            source,
                        });
                    }
                },
                ObjectSource::Driver { name, .. } => {
                    return Err(DeployError::SecretDriver {
                        secret: secret.key,
                        driver: name,
                    });
                }
            };
            let key = self.options.key.as_ref();
            wanted.push(Wanted {
                kind: ObjectKind::Secret,
                mark: Mark::of(ObjectKind::Secret, &secret.name, &content, key),
                labels: labelled(&secret.labels),
                template_driver: secret.template_driver,
                key: secret.key,
                logical: secret.name,
                content,
            });
        }
        for config in self.file.render(&RenderContext::default()).configs {
            let content = SecretBytes::new(config.content);
            wanted.push(Wanted {
                kind: ObjectKind::Config,
                mark: Mark::of(ObjectKind::Config, &config.name, &content, None),
                labels: labelled(&config.labels),
                template_driver: config.template_driver,
                key: config.key,
                logical: config.name,
                content,
            });
        }
        for one in &wanted {
            one.kind
                .check_size(&one.logical, &one.content)
                .map_err(|source| DeployError::Object {
                    name: format!("{} {}", one.kind, one.key),
                    source,
                })?;
        }
        Ok(wanted)
    }

    async fn find(&self, wanted: &[Wanted]) -> Result<Found, DeployError> {
        let stack = [(STACK_LABEL, Some(self.file.stack()))];
        let makes = |kind| self.options.prune || wanted.iter().any(|one| one.kind == kind);
        let objects = async |kind| -> Result<Vec<ObjectObserved>, EngineError> {
            if !makes(kind) {
                return Ok(Vec::new());
            }
            let mut found = self.engine.objects(kind, &stack, self.request()).await?;
            for one in wanted.iter().filter(|one| one.kind == kind) {
                // One of docker's name may belong to nobody.
                if found.iter().all(|object| object.name != one.logical)
                    && let Some(other) = self
                        .engine
                        .find_object(kind, &one.logical, self.request())
                        .await?
                {
                    found.push(other);
                }
            }
            Ok(found)
        };
        let references = self.file.references();
        let predefined = try_join_all(references.predefined_networks.iter().map(async |network| {
            let id = self
                .engine
                .predefined_network(&network.name, self.request())
                .await?;
            Ok((network.name.clone(), id))
        }));
        let (networks, services, secrets, configs, predefined, nodes, asked) = tokio::try_join!(
            self.engine.networks(self.request()),
            self.engine.services(&[], self.request()),
            objects(ObjectKind::Secret),
            objects(ObjectKind::Config),
            predefined,
            self.engine.nodes(self.request()),
            self.engine.spoken_version(self.request()),
        )
        .map_err(asking("the stack cannot be looked at"))?;
        Ok(Found {
            networks,
            predefined: predefined
                .into_iter()
                .filter_map(|(name, id)| Some((name, id?)))
                .collect(),
            objects: BTreeMap::from([("secret", secrets), ("config", configs)]),
            services,
            nodes,
            asked,
        })
    }

    fn decisions(
        &self,
        wanted: Vec<Wanted>,
        found: &Found,
        own: &[&ServiceObserved],
    ) -> Result<Vec<Decision>, DeployError> {
        let used: BTreeSet<String> = own
            .iter()
            .flat_map(|service| service.objects())
            .map(str::to_owned)
            .collect();
        let random = if wanted.iter().any(|one| one.mark == Mark::None) {
            let mut bytes = [0; 6];
            aws_lc_rs::rand::fill(&mut bytes).map_err(|_| DeployError::Random)?;
            hex::encode(bytes)
        } else {
            String::new()
        };
        Ok(wanted
            .into_iter()
            .map(|one| {
                let objects = &found.objects[list(one.kind)];
                decide(one, objects, &used, &random)
            })
            .collect())
    }

    /// Looks up the secrets and configs that exist apart from the stack.
    async fn external(
        &self,
        context: &mut RenderContext,
        missing: &mut Vec<Missing>,
    ) -> Result<(), DeployError> {
        let references = self.file.references();
        let wanted = references
            .secrets
            .iter()
            .map(|secret| (ObjectKind::Secret, MissingKind::Secret, secret))
            .chain(
                references
                    .configs
                    .iter()
                    .map(|config| (ObjectKind::Config, MissingKind::Config, config)),
            );
        for (kind, lost, reference) in wanted {
            let name = &reference.name;
            let given = self.options.secrets.get(name);
            let object = match (kind, given) {
                (ObjectKind::Secret, Some(given)) => given.clone(),
                _ => ResolvedObject {
                    name: name.clone(),
                    id: self
                        .engine
                        .find_object(kind, name, self.request())
                        .await
                        .map_err(asking(format!("{kind} {name} cannot be looked at")))?
                        .map(|object| object.id),
                },
            };
            if object.id.is_none() {
                missing.push(Missing {
                    kind: lost,
                    name: object.name.clone(),
                });
            }
            match kind {
                ObjectKind::Secret => context.secrets.insert(name.clone(), object),
                ObjectKind::Config => context.configs.insert(name.clone(), object),
            };
        }
        Ok(())
    }

    /// Digests as the registries give them now. One that cannot be had is left out.
    async fn images(&self, own: &[&ServiceObserved]) -> Result<Images, DeployError> {
        let references = self.file.references();
        let due = references.images.iter().filter(|(image, _)| {
            let unchanged = || {
                self.file.services().iter().all(|(key, service)| {
                    service.image != *image
                        || own
                            .iter()
                            .find(|running| running.name() == self.file.scoped(key))
                            .is_some_and(|running| same_image(running, image.raw()))
                })
            };
            !image.has_digest()
                && match self.options.resolve {
                    ResolveImages::Always => true,
                    ResolveImages::Changed => !unchanged(),
                    ResolveImages::Never => false,
                }
        });
        let mut questions = Vec::new();
        for (image, _) in due {
            questions.push((image, self.auth(image)?));
        }
        let asked = join_all(questions.into_iter().map(async |(image, auth)| {
            let deadline = Deadline::after(self.options.registry);
            let answer = self
                .engine
                .distribution(&image.familiar(), auth, deadline)
                .await;
            (image, answer)
        }))
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
                    causes(&error)
                )),
            }
        }
        Ok(Images { resolved, warnings })
    }

    async fn compare_service(
        &self,
        mut body: ServiceBody,
        running: Option<&ServiceObserved>,
        kept: ApiVersion,
    ) -> Result<ComparedService, DeployError> {
        let Some(found) = running else {
            return Ok(ComparedService {
                body,
                kept,
                running: None,
                changes: Vec::new(),
                action: ServiceAction::Create,
            });
        };
        if self.options.resolve != ResolveImages::Always && same_image(found, body.image.raw()) {
            // As long as the text is the same, the digest is.
            let image = "/TaskTemplate/ContainerSpec/Image";
            if let Some(pinned) = body.json.pointer_mut(image) {
                *pinned = Value::String(body.image.familiar());
            }
        }
        carry_digest(&mut body.json, &found.spec);
        carry_force_update(&mut body.json, &found.spec);
        let changes = spec_changes(kept, &body.json, found);
        let paused = found
            .update_status
            .as_ref()
            .is_some_and(|status| status.state == UpdateState::Paused);
        let action = if changes.is_empty() && paused && self.options.retry_rolled_back {
            ServiceAction::Resume
        } else if changes.is_empty() {
            ServiceAction::Unchanged
        } else if self.options.retry_rolled_back {
            ServiceAction::Update
        } else {
            match rolled_back(found, &body.json) {
                Some(rolled) => ServiceAction::RolledBack(self.with_cause(rolled, found).await?),
                None => ServiceAction::Update,
            }
        };
        Ok(ComparedService {
            body,
            kept,
            running: Some(found.clone()),
            changes,
            action,
        })
    }

    /// Has services written once more whose image a node cannot get although there are credentials
    /// for it. An engine does not tell those it has of a service, so that no difference shows. Jobs
    /// are left alone: they would run again.
    async fn hand_out_credentials(
        &self,
        services: &mut [ComparedService],
    ) -> Result<(), DeployError> {
        let mut due = Vec::new();
        let mut targets = Vec::new();
        for service in services {
            if service.action == ServiceAction::Unchanged
                && !service.body.mode.is_job()
                && let Some(running) = &service.running
                && let Ok(Some(_)) = self.auth(&service.body.image)
            {
                targets.push(ServiceTarget::in_place(&running.id));
                due.push(service);
            }
        }
        if due.is_empty() {
            return Ok(());
        }
        let verdicts = self
            .engine
            .judge_services(&targets, self.request())
            .await
            .map_err(asking("how the services stand cannot be seen"))?;
        for (service, verdict) in due.into_iter().zip(verdicts) {
            if matches!(verdict, Verdict::ImageMissing { .. }) {
                service.action = ServiceAction::Update;
                service.changes.push(FieldChange {
                    path: "TaskTemplate.ContainerSpec.PullOptions.RegistryAuth".to_owned(),
                    from: None,
                    to: Some("the credentials that are given: a node lacks the image".to_owned()),
                });
            }
        }
        Ok(())
    }

    async fn with_cause(
        &self,
        rolled: RolledBack,
        service: &ServiceObserved,
    ) -> Result<RolledBack, DeployError> {
        let what = format!("the tasks of {} cannot be looked at", service.name());
        let cause = self
            .engine
            .rollback_cause(service, self.request())
            .await
            .map_err(asking(what))?;
        Ok(RolledBack { cause, ..rolled })
    }
}

/// Whether a service was written with this image in the compose file.
fn same_image(running: &ServiceObserved, raw: &str) -> bool {
    running.label(IMAGE_LABEL) == Some(raw)
}

/// How `body` differs from the spec of `found`, as far as the swarm keeps it.
pub(super) fn spec_changes(
    kept: ApiVersion,
    body: &Value,
    found: &ServiceObserved,
) -> Vec<FieldChange> {
    difference(
        &without_ignored(kept, body),
        &without_ignored(kept, &without_attempt(&found.spec)),
    )
}

/// Whether the engine takes an update to `body` back although its tasks end as they are to: it
/// takes any end of a task that it watches for a failure.
fn is_taken_back(body: &Value) -> bool {
    let says =
        |pointer: &str, what: &str| body.pointer(pointer).and_then(Value::as_str) == Some(what);
    says("/UpdateConfig/FailureAction", "rollback")
        && says("/TaskTemplate/RestartPolicy/Condition", "none")
}

/// Keeps the counter by which `docker service update --force` restarts tasks: sending another
/// one would restart them too.
pub(super) fn carry_force_update(body: &mut Value, running: &Value) {
    if let Some(count) = running.pointer("/TaskTemplate/ForceUpdate")
        && let Some(task) = body.get_mut("TaskTemplate").and_then(Value::as_object_mut)
    {
        task.insert("ForceUpdate".to_owned(), count.clone());
    }
}

/// In what a network that is there is not as the file declares it.
fn network_warnings(network: &NetworkBody, found: &NetworkObserved) -> Vec<String> {
    if found.driver.is_empty() {
        // It was made just now: the manager has not set it up yet.
        return Vec::new();
    }
    let text = |key: &str| network.json.get(key).and_then(Value::as_str);
    let flag = |key: &str| network.json.get(key).and_then(Value::as_bool) == Some(true);
    let mut spec = NetworkSpec::overlay(&network.name);
    if let Some(driver) = text("Driver") {
        driver.clone_into(&mut spec.driver);
    }
    spec.attachable = flag("Attachable");
    spec.internal = flag("Internal");
    if let Some(Value::Array(subnets)) = network.json.pointer("/IPAM/Config") {
        let subnet = |one: &Value| one.get("Subnet")?.as_str().map(str::to_owned);
        spec.subnets = subnets.iter().filter_map(subnet).collect();
    }
    if let Some(Value::Object(options)) = network.json.get("Options") {
        spec.options = options
            .iter()
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect();
    }
    spec.differences(found)
        .into_iter()
        .filter(|difference| !difference.is_cosmetic())
        .map(|difference| {
            format!(
                "network {}: {difference} (a network cannot be changed, only made anew)",
                network.name
            )
        })
        .collect()
}
