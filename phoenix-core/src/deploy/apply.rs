//! What differs brought about: objects first, then the services in waves, then what is left over.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;

use super::compare::{Compared, ComparedService, Images};
use super::error::{DeployError, asking};
use super::outcome::{OutcomeKind, ServiceOutcome};
use super::plan::{Change, ObjectAction, Removal, ServiceAction, Verb};
use super::removal::await_networks_gone;
use super::versions::{Decision, Wanted};
use super::write::{Written, forgotten_network, holds};
use super::{Deployment, Missing, MissingKind};
use crate::docker::{
    LogSource, NetworkError, ObjectError, ObjectKind, ObjectObserved, ServiceProgress,
    ServiceTarget, UpdateState, Verdict, WaitOptions,
};
use crate::ground::Deadline;
use crate::stack::model::Condition;
use crate::stack::{STACK_LABEL, Unresolved};

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
}

impl Deployed {
    /// Whether every service is as declared.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.failures().next().is_none()
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
        if !pruned.is_empty() {
            teller.tell(DeployEvent::Waiting {
                text: "the tasks of removed services to end".to_owned(),
            });
            // Services that took all the time there was take nothing from this.
            let limit = deadline.at_least(self.options.request);
            self.engine.await_tasks_gone(&pruned, limit).await?;
        }
        let warnings = compared.warnings();
        // Where something failed, what it had before may be needed to go back.
        let well = outcomes.iter().all(|outcome| outcome.kind.is_success());
        if well && (!compared.removals.is_empty() || teller.has_changes()) {
            let images = compared.images;
            self.remove_leftovers(images, deadline, &mut teller).await?;
        }
        Ok(Deployed {
            stack: self.file.stack().to_owned(),
            changes: teller.changes(),
            outcomes,
            warnings,
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
            let error = match self.roll_out(&compared, deadline, teller).await {
                Ok(outcomes) => return Ok((compared, outcomes)),
                Err(error) => error,
            };
            let network = match &error {
                DeployError::Service { source, .. } => forgotten_network(source),
                _ => None,
            };
            let Some(id) = network.map(str::to_owned) else {
                return Err(error);
            };
            if !forgotten.insert(id.clone()) {
                return Err(error);
            }
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
            self.engine
                .create_network_from(&network.json, self.request())
                .await
                .map_err(|source| DeployError::Network {
                    name: network.name.clone(),
                    source: source.into(),
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
        self.engine
            .create_object(
                wanted.kind,
                &decision.new_name,
                &labels,
                &wanted.content,
                wanted.template_driver.as_deref(),
                self.request(),
            )
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
    async fn label(
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

    /// Writes the services and waits for them, in waves: a service comes after those it depends on
    /// are as its conditions ask.
    async fn roll_out(
        &self,
        compared: &Compared,
        deadline: Deadline,
        teller: &mut Teller<'_>,
    ) -> Result<Vec<ServiceOutcome>, DeployError> {
        let mut open: Vec<&ComparedService> = compared.services.iter().collect();
        let mut outcomes: BTreeMap<&str, ServiceOutcome> = BTreeMap::new();
        let lacks = |outcomes: &BTreeMap<&str, ServiceOutcome>, service: &ComparedService| {
            let mut needs = service.body.depends_on.iter();
            let unmet = needs.find(|need| {
                let outcome = outcomes.get(need.service.as_str());
                !outcome.is_some_and(|outcome| meets(outcome.kind, need.condition))
            });
            unmet.map(|need| match need.condition {
                Condition::Completed => format!("waits for {} to end well", need.service),
                _ => format!("depends on {}", need.service),
            })
        };
        while !open.is_empty() {
            let (wave, later): (Vec<_>, Vec<_>) = open
                .into_iter()
                .partition(|service| lacks(&outcomes, service).is_none());
            open = later;
            if wave.is_empty() {
                break;
            }
            for (service, outcome) in self.wave(&wave, deadline, teller).await? {
                outcomes.insert(&service.body.key, outcome);
            }
        }
        for service in open {
            let lost = lacks(&outcomes, service).unwrap_or_default();
            let text = format!("was not written: it {lost}");
            let outcome = ServiceOutcome::new(&service.body.name, OutcomeKind::Blocked, text);
            teller.tell(DeployEvent::Ended(outcome.clone()));
            outcomes.insert(&service.body.key, outcome);
        }
        Ok(compared
            .services
            .iter()
            .filter_map(|service| outcomes.remove(service.body.key.as_str()))
            .collect())
    }

    async fn wave<'s>(
        &self,
        wave: &[&'s ComparedService],
        deadline: Deadline,
        teller: &mut Teller<'_>,
    ) -> Result<Vec<(&'s ComparedService, ServiceOutcome)>, DeployError> {
        let mut ended = Vec::new();
        let mut awaited: Vec<(&'s ComparedService, ServiceTarget)> = Vec::new();
        for service in wave.iter().copied() {
            let name = service.body.name.as_str();
            match self.bring(service, teller).await? {
                Brought::Target(target) => awaited.push((service, target)),
                Brought::Ended(outcome) => {
                    tracing::debug!(service = name, %outcome, "not awaited");
                    ended.push((service, *outcome));
                }
            }
        }
        let targets: Vec<ServiceTarget> =
            awaited.iter().map(|(_, target)| target.clone()).collect();
        let names: BTreeMap<&str, &str> = awaited
            .iter()
            .map(|(service, target)| (target.id.as_str(), service.body.name.as_str()))
            .collect();
        let mut say = |standing: ServiceProgress<'_>| {
            let name = names.get(standing.id).copied().unwrap_or(standing.name);
            teller.tell(DeployEvent::Standing {
                service: name.to_owned(),
                text: in_words(standing.verdict),
            });
        };
        let found = self
            .engine
            .await_services(&targets, &patient(), deadline, &mut say)
            .await?;
        let ours: Vec<&ComparedService> = awaited.iter().map(|(service, _)| *service).collect();
        let others = self.overtaken(&ours).await?;
        for ((service, _), (_, outcome)) in awaited.iter().zip(&found) {
            let name = &service.body.name;
            let mut outcome = ServiceOutcome::of(name, outcome, service.body.mode.is_job());
            if outcome.kind.is_success()
                && let Some(other) = others.iter().find(|other| other.service == *name)
            {
                outcome = other.clone();
            }
            ended.push((service, self.with_log(outcome).await));
        }
        for (_, outcome) in &ended {
            teller.tell(DeployEvent::Ended(outcome.clone()));
        }
        Ok(ended)
    }

    /// Of services that stand well, those in whose place another spec is by now: taken back by the
    /// engine, or written by somebody else.
    pub(super) async fn overtaken(
        &self,
        services: &[&ComparedService],
    ) -> Result<Vec<ServiceOutcome>, DeployError> {
        if services.is_empty() {
            return Ok(Vec::new());
        }
        let now = self
            .engine
            .services(&[(STACK_LABEL, Some(self.file.stack()))], self.request())
            .await
            .map_err(asking("the services cannot be looked at again"))?;
        let outcomes = services.iter().filter_map(|service| {
            let name = &service.body.name;
            let Some(found) = now.iter().find(|found| found.name() == name) else {
                let text = "was removed by somebody else";
                return Some(ServiceOutcome::new(name, OutcomeKind::Replaced, text));
            };
            if holds(service.kept, &service.body.json, found) {
                return None;
            }
            let state = found.update_status.as_ref().map(|status| &status.state);
            Some(match state {
                Some(
                    UpdateState::RollbackStarted
                    | UpdateState::RollbackPaused
                    | UpdateState::RollbackCompleted,
                ) => {
                    let text = "was rolled back by the engine after a failure";
                    ServiceOutcome::new(name, OutcomeKind::RolledBack, text)
                }
                _ => {
                    let text = "has another spec, which somebody else has written meanwhile";
                    ServiceOutcome::new(name, OutcomeKind::Replaced, text)
                }
            })
        });
        Ok(outcomes.collect())
    }

    /// Writes one service, where it is to be written.
    async fn bring(
        &self,
        service: &ComparedService,
        teller: &mut Teller<'_>,
    ) -> Result<Brought, DeployError> {
        let name = &service.body.name;
        let ended = |outcome| Ok(Brought::Ended(Box::new(outcome)));
        if let Some(unresolved) = service.body.unresolved.first() {
            let (kind, lost) = match unresolved {
                Unresolved::Secret(lost) => (MissingKind::Secret, lost),
                Unresolved::Config(lost) => (MissingKind::Config, lost),
            };
            return Err(DeployError::Missing {
                missing: vec![Missing {
                    kind,
                    name: lost.clone(),
                }],
            });
        }
        let change = match (&service.action, &service.running) {
            (ServiceAction::RolledBack(rolled), _) => {
                let text = format!("is left alone: {rolled}");
                let outcome = ServiceOutcome::new(name, OutcomeKind::RolledBack, text);
                return ended(outcome.failed(rolled.cause.as_ref()));
            }
            (ServiceAction::Unchanged, Some(running)) => {
                return Ok(Brought::Target(ServiceTarget::in_place(&running.id)));
            }
            (ServiceAction::Update, _) => Change {
                verb: Verb::Update,
                what: format!("service {name}"),
                why: service.changes.iter().map(ToString::to_string).collect(),
            },
            _ => Change::new(Verb::Create, format!("service {name}"), "missing"),
        };
        match self.write(service).await? {
            Written::Target(target) => {
                teller.changed(change);
                Ok(Brought::Target(target))
            }
            Written::Refused(message) => ended(ServiceOutcome::new(
                name,
                OutcomeKind::Refused,
                format!("was refused: {message}"),
            )),
        }
    }

    /// The same outcome with the last lines of the task that failed, where they are wanted and to
    /// be had.
    async fn with_log(&self, mut outcome: ServiceOutcome) -> ServiceOutcome {
        if let Some(task) = &outcome.task
            && self.options.log_lines > 0
        {
            let lines = self
                .engine
                .logs(
                    LogSource::Task(task),
                    self.options.log_lines,
                    false,
                    self.request(),
                )
                .await;
            match lines {
                Ok(lines) => outcome.log = lines.into_iter().map(|line| line.text).collect(),
                Err(error) => tracing::debug!(%error, task, "no logs"),
            }
        }
        outcome
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

/// What became of a service before any waiting.
enum Brought {
    Target(ServiceTarget),
    Ended(Box<ServiceOutcome>),
}

/// Whether a service that ended so is what another one that depends on it waits for.
fn meets(kind: OutcomeKind, condition: Condition) -> bool {
    match condition {
        // Whatever became of its tasks since.
        Condition::Started => !matches!(kind, OutcomeKind::Refused | OutcomeKind::Blocked),
        Condition::Completed => kind == OutcomeKind::Completed,
        Condition::Healthy => kind.is_success(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_met_by_what_it_asks_for() {
        use OutcomeKind::{
            Blocked, Completed, Converged, CrashLoop, Refused, RolledBack, TimedOut,
        };
        let met = |condition| {
            let kinds = [
                Converged, Completed, RolledBack, CrashLoop, TimedOut, Refused, Blocked,
            ];
            kinds.map(|kind| meets(kind, condition))
        };
        assert_eq!(
            met(Condition::Started),
            [true, true, true, true, true, false, false]
        );
        assert_eq!(
            met(Condition::Healthy),
            [true, true, false, false, false, false, false]
        );
        assert_eq!(
            met(Condition::Completed),
            [false, true, false, false, false, false, false]
        );
    }
}
