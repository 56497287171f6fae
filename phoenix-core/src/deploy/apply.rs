//! What differs brought about: objects first, then the services, then what is left over.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;

use super::Deployment;
use super::compare::{Compared, Images};
use super::error::{DeployError, asking};
use super::outcome::ServiceOutcome;
use super::plan::{Change, ObjectAction, Removal, Verb};
use super::removal::{await_networks_gone, left_running};
use super::rollout::Rollout;
use super::versions::{Decision, Wanted};
use crate::docker::{NetworkError, ObjectError, ObjectKind, ObjectObserved, Verdict, WaitOptions};
use crate::ground::{Deadline, causes};

/// So often an object may change while it is labelled.
const TRIES: u32 = 3;

/// What a deployment tells while it goes on.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DeployEvent {
    /// Something was changed.
    Changed(Change),
    /// A service stands otherwise than before.
    Standing {
        /// Its name.
        service: String,
        /// How, in words.
        text: String,
    },
    /// A service has ended in one way or another.
    Ended(ServiceOutcome),
    /// Something is being waited for.
    Waiting {
        /// For what, in words.
        text: String,
    },
}

/// What a deployment did, and how the services ended.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Deployed {
    /// The stack's name.
    pub stack: String,
    /// What was changed, in order.
    pub changes: Vec<Change>,
    /// How the services ended, in the order of the file.
    pub outcomes: Vec<ServiceOutcome>,
    /// Worth knowing.
    pub warnings: Vec<String>,
    /// Why what is not needed any more could not be removed. Empty where it was, or nothing is.
    pub unfinished: Vec<String>,
}

impl Deployed {
    /// Whether every service is as declared, and nothing is left that should have gone.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.failures().next().is_none() && self.unfinished.is_empty()
    }

    /// The services that are not as declared.
    pub fn failures(&self) -> impl Iterator<Item = &ServiceOutcome> {
        self.outcomes
            .iter()
            .filter(|outcome| !outcome.kind.is_success())
    }
}

/// Who is told, and what was done.
pub(super) struct Teller<'t> {
    tell: &'t mut (dyn FnMut(DeployEvent) + Send),
    changes: Vec<Change>,
}

impl<'t> Teller<'t> {
    pub(super) fn new(tell: &'t mut (dyn FnMut(DeployEvent) + Send)) -> Self {
        Self {
            tell,
            changes: Vec::new(),
        }
    }

    pub(super) fn changed(&mut self, change: Change) {
        self.changes.push(change.clone());
        (self.tell)(DeployEvent::Changed(change));
    }

    pub(super) fn tell(&mut self, event: DeployEvent) {
        (self.tell)(event);
    }

    fn has_changes(&self) -> bool {
        !self.changes.is_empty()
    }

    pub(super) fn changes(self) -> Vec<Change> {
        self.changes
    }
}

impl Deployment<'_> {
    /// Brings about what differs, and waits for the services until `deadline`. Where nothing
    /// differs nothing is sent. `tell` is told what goes on.
    ///
    /// Dropping the future stops it between two requests; another deployment goes on from there.
    ///
    /// # Errors
    /// [`DeployError`] when it could not be done at all. That services do not converge is no error
    /// but stands in [`Deployed::outcomes`].
    pub async fn apply(
        &self,
        deadline: Deadline,
        tell: &mut (dyn FnMut(DeployEvent) + Send),
    ) -> Result<Deployed, DeployError> {
        let mut teller = Teller::new(tell);
        let compared = self.compare(None).await?.complete()?;
        let pruned = self.remove_services(&compared, &mut teller).await?;
        let (compared, outcomes) = self.bring_about(compared, deadline, &mut teller).await?;
        let (mut unfinished, mut lost) = (Vec::new(), Vec::new());
        if !pruned.is_empty() {
            teller.tell(DeployEvent::Waiting {
                text: "the tasks of removed services to end".to_owned(),
            });
            // Services that took all the time there was take nothing from this.
            let limit = deadline.at_least(self.options.request);
            match self.engine.await_tasks_gone(&pruned, limit).await {
                Ok(nodes) => lost = nodes,
                Err(error) => {
                    unfinished.push(format!("tasks of removed services: {}", causes(&error)));
                }
            }
        }
        let mut warnings = compared.warnings();
        warnings.extend(lost.iter().map(|node| left_running(node)));
        // Where something failed, what it had before may be needed to go back.
        let well = outcomes.iter().all(|outcome| outcome.kind.is_success());
        if well && (!compared.removals.is_empty() || teller.has_changes()) {
            let images = compared.images;
            let removed = self.remove_leftovers(images, deadline, &mut teller).await;
            unfinished.extend(removed.err().map(|error| causes(&error)));
        }
        Ok(Deployed {
            stack: self.file.stack().to_owned(),
            changes: teller.changes(),
            outcomes,
            warnings,
            unfinished,
        })
    }

    /// Makes what the services refer to, and rolls these out.
    ///
    /// An engine lists a network that was removed until its own node has let go of it, which takes
    /// as long as tasks run there: the swarm does not know it any more, and refuses the services. It
    /// is waited for then, and everything compared anew.
    async fn bring_about(
        &self,
        mut compared: Compared,
        deadline: Deadline,
        teller: &mut Teller<'_>,
    ) -> Result<(Compared, Vec<ServiceOutcome>), DeployError> {
        let mut forgotten = BTreeSet::new();
        loop {
            if self.make_objects(&compared, teller).await? {
                // Once more, with what was made.
                compared = self.compare(Some(compared.images)).await?;
            }
            let rollout = Rollout::of(self, &compared.services, deadline);
            let id = match rollout.run(&forgotten, teller).await {
                Ok(outcomes) => return Ok((compared, outcomes)),
                Err(forgotten) => forgotten.0,
            };
            forgotten.insert(id.clone());
            teller.tell(DeployEvent::Waiting {
                text: format!("the removed network {id} to be gone"),
            });
            await_networks_gone(self.engine, &|network| network.id == id, deadline).await?;
            compared = self.compare(Some(compared.images)).await?.complete()?;
        }
    }

    /// Removes services that are not in the file, before others take their ports. Returns their
    /// identifiers.
    async fn remove_services(
        &self,
        compared: &Compared,
        teller: &mut Teller<'_>,
    ) -> Result<Vec<String>, DeployError> {
        let mut removed = Vec::new();
        for removal in compared.removals.iter().filter(|one| one.kind == "service") {
            self.engine
                .remove_service(&removal.id, self.request())
                .await
                .map_err(asking(format!("service {} is not removed", removal.name)))?;
            teller.changed(removal.change());
            removed.push(removal.id.clone());
        }
        Ok(removed)
    }

    /// Makes networks, secrets and configs. Says whether anything was made.
    async fn make_objects(
        &self,
        compared: &Compared,
        teller: &mut Teller<'_>,
    ) -> Result<bool, DeployError> {
        for network in &compared.networks {
            self.make_network(network)
                .await
                .map_err(|source| DeployError::Network {
                    name: network.name.clone(),
                    source,
                })?;
            let what = format!("network {}", network.name);
            teller.changed(Change::new(Verb::Create, what, "missing"));
        }
        let mut made = !compared.networks.is_empty();
        for decision in &compared.objects {
            if decision.action != ObjectAction::Unchanged {
                self.make_object(decision, teller).await?;
                made = true;
            }
        }
        Ok(made)
    }

    async fn make_object(
        &self,
        decision: &Decision,
        teller: &mut Teller<'_>,
    ) -> Result<(), DeployError> {
        let wanted = &decision.wanted;
        let failed = |name: &str, source: ObjectError| DeployError::Object {
            name: format!("{} {name}", wanted.kind),
            source,
        };
        let labels = wanted.all_labels();
        // Of those that may have the content, or have it without the labels.
        let asked = matches!(decision.action, ObjectAction::Ask | ObjectAction::Label);
        for object in decision.current.iter().chain(&decision.others) {
            if !asked {
                break;
            }
            let same = self.label(wanted, object, &labels).await;
            if same.map_err(|source| failed(&object.name, source))? {
                let what = format!("{} {}", wanted.kind, object.name);
                teller.changed(Change::new(Verb::Update, what, "taken over as it is"));
                return Ok(());
            }
        }
        self.make_version(decision, &labels)
            .await
            .map_err(|source| failed(&decision.new_name, source))?;
        let why = if decision.current.is_some() || decision.action == ObjectAction::Rotate {
            "the content changed"
        } else {
            "missing"
        };
        let what = format!("{} {}", wanted.kind, decision.new_name);
        teller.changed(Change::new(Verb::Create, what, why));
        Ok(())
    }

    /// Adds `labels` to an object if it has the wanted content; says whether it has.
    pub(super) async fn label(
        &self,
        wanted: &Wanted,
        object: &ObjectObserved,
        labels: &BTreeMap<String, String>,
    ) -> Result<bool, ObjectError> {
        let kind = wanted.kind;
        let mut object = object.clone();
        for _ in 0..TRIES {
            let mut all = object.labels.clone();
            all.extend(labels.clone());
            let content = Some(&wanted.content);
            let labelled = self
                .engine
                .label_object(kind, &object, &all, content, self.request())
                .await;
            // The same labels can be set twice, once the version is known again.
            let again = match &labelled {
                Err(ObjectError::Changed { .. }) => true,
                Err(ObjectError::Engine { source, .. }) => source.may_have_run(),
                _ => false,
            };
            if !again {
                return labelled;
            }
            let found = self
                .engine
                .find_object(kind, &object.name, self.request())
                .await
                .map_err(|source| ObjectError::Engine { kind, source })?;
            match found {
                Some(found) => object = found,
                None => return Ok(false),
            }
        }
        let content = Some(&wanted.content);
        self.engine
            .label_object(kind, &object, labels, content, self.request())
            .await
    }

    /// Removes what nothing refers to any more, as the swarm is now.
    async fn remove_leftovers(
        &self,
        images: Images,
        deadline: Deadline,
        teller: &mut Teller<'_>,
    ) -> Result<(), DeployError> {
        let removals = self.compare(Some(images)).await?.removals;
        for removal in removals.iter().filter(|one| one.kind != "service") {
            if self.remove(removal, deadline).await? {
                teller.changed(removal.change());
            }
        }
        Ok(())
    }

    /// Removes a network, secret or config. Says whether it was removed: one that is in use again
    /// is no leftover.
    async fn remove(&self, removal: &Removal, deadline: Deadline) -> Result<bool, DeployError> {
        let kind = match removal.kind {
            "secret" => ObjectKind::Secret,
            "config" => ObjectKind::Config,
            _ => {
                let limit = deadline.at_most(self.options.request);
                return match self.engine.remove_network(&removal.id, limit).await {
                    Err(NetworkError::InUse { .. }) => Ok(false),
                    removed => removed.map_err(|source| DeployError::Network {
                        name: removal.name.clone(),
                        source,
                    }),
                };
            }
        };
        match self
            .engine
            .remove_object(kind, &removal.id, self.request())
            .await
        {
            Err(ObjectError::InUse { .. }) => Ok(false),
            removed => removed.map_err(|source| DeployError::Object {
                name: format!("{kind} {}", removal.name),
                source,
            }),
        }
    }
}

/// How a service stands, without the counts that stand in the details too.
pub(super) fn in_words(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Progressing { detail, .. } => detail.clone(),
        // It is watched for a while yet.
        Verdict::Converged { tasks: 1 } => "its task runs".to_owned(),
        Verdict::Converged { tasks } => format!("all {tasks} tasks run"),
        verdict => verdict.to_string(),
    }
}

/// How services are waited for: managers may take a while to elect another leader.
pub(super) fn patient() -> WaitOptions {
    WaitOptions {
        patience: Duration::from_secs(60),
        ..WaitOptions::default()
    }
}
