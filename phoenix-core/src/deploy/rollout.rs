//! The services written, each as soon as those it depends on are as its conditions ask, and waited
//! for all at once.
//!
//! Invariants: a service that fails holds up only those that depend on it; what cannot be told of
//! one service is that service's outcome and nobody else's; nothing is written after the deadline.

use std::collections::{BTreeMap, BTreeSet};

use super::apply::{DeployEvent, Teller, in_words, patient};
use super::compare::ComparedService;
use super::error::{DeployError, asking};
use super::outcome::{OutcomeKind, ServiceOutcome};
use super::plan::{Change, RESUMED, ServiceAction, Verb};
use super::write::{Written, forgotten_network, holds};
use super::{Deployment, Missing, MissingKind};
use crate::docker::{
    LogOptions, LogSource, Outcome, ServiceProgress, ServiceTarget, ServiceWait, has_terminal,
};
use crate::ground::{Deadline, causes};
use crate::stack::model::Condition;
use crate::stack::{STACK_LABEL, Unresolved};

/// A rollout that goes on.
pub(super) struct Rollout<'r> {
    deployment: &'r Deployment<'r>,
    deadline: Deadline,
    services: &'r [ComparedService],
    /// Those that are to be written yet.
    open: Vec<&'r ComparedService>,
    /// Those that are waited for, by identifier.
    awaited: BTreeMap<String, &'r ComparedService>,
    wait: ServiceWait<'r>,
    /// How services ended, by key.
    outcomes: BTreeMap<&'r str, ServiceOutcome>,
    /// The keys of those that were seen last to be as declared.
    seen_last: Vec<&'r str>,
}

/// Whether a service can be written.
enum Readiness {
    Ready,
    /// Not yet.
    Waits,
    /// It cannot be any more, and why.
    Never(String),
}

/// The identifier of a network that an engine lists and the swarm does not know any more.
pub(super) struct ForgottenNetwork(pub(super) String);

fn forgotten(error: &DeployError) -> Option<&str> {
    match error {
        DeployError::Service { source, .. } => forgotten_network(source),
        _ => None,
    }
}

/// What became of a service before any waiting.
enum Brought {
    Target(ServiceTarget),
    Ended(Box<ServiceOutcome>),
}

impl<'r> Rollout<'r> {
    pub(super) fn of(
        deployment: &'r Deployment<'r>,
        services: &'r [ComparedService],
        deadline: Deadline,
    ) -> Self {
        Self {
            deployment,
            deadline,
            services,
            open: services.iter().collect(),
            awaited: BTreeMap::new(),
            wait: ServiceWait::new(deployment.engine, patient()),
            outcomes: BTreeMap::new(),
            seen_last: Vec::new(),
        }
    }

    /// How the services end, in the order of the file. It stops at the first that is refused for a
    /// network that the swarm does not know any more, unless that is one of `known`.
    pub(super) async fn run(
        mut self,
        known: &BTreeSet<String>,
        teller: &mut Teller<'_>,
    ) -> Result<Vec<ServiceOutcome>, ForgottenNetwork> {
        loop {
            // What is written, or has ended, may be what another one waits for.
            while self.write_ready(known, teller).await? {}
            if self.wait.is_over() {
                break;
            }
            match self.look(teller).await {
                Ok(ended) => self.conclude(ended, teller).await,
                Err(error) => {
                    let lost = std::mem::take(&mut self.awaited);
                    self.wait.give_up();
                    for service in lost.into_values() {
                        self.end(service, failure(service, &error), teller);
                    }
                }
            }
            if !self.wait.is_over() && !self.wait.pause(self.deadline).await {
                let late = self.wait.give_up();
                self.conclude(late, teller).await;
            }
        }
        for service in std::mem::take(&mut self.open) {
            let text = "was not written: what it depends on does not come";
            let outcome = ServiceOutcome::new(&service.body.name, OutcomeKind::Blocked, text);
            self.end(service, outcome, teller);
        }
        self.look_again(teller).await;
        let mut outcomes = self.outcomes;
        Ok(self
            .services
            .iter()
            .filter_map(|service| outcomes.remove(service.body.key.as_str()))
            .collect())
    }

    /// Writes what can be written now. Says whether anything was, or ended.
    async fn write_ready(
        &mut self,
        known: &BTreeSet<String>,
        teller: &mut Teller<'_>,
    ) -> Result<bool, ForgottenNetwork> {
        let mut any = false;
        for service in std::mem::take(&mut self.open) {
            let name = &service.body.name;
            match self.readiness(service) {
                Readiness::Waits => {
                    self.open.push(service);
                    continue;
                }
                Readiness::Never(why) => {
                    let text = format!("was not written: it {why}");
                    let outcome = ServiceOutcome::new(name, OutcomeKind::Blocked, text);
                    self.end(service, outcome, teller);
                }
                Readiness::Ready if self.deadline.is_over() && service.is_written() => {
                    let text = "was not written: no time was left";
                    let outcome = ServiceOutcome::new(name, OutcomeKind::TimedOut, text);
                    self.end(service, outcome, teller);
                }
                Readiness::Ready => match self.deployment.bring(service, teller).await {
                    Ok(Brought::Target(mut target)) => {
                        target.to_the_end = self.is_to_end(service);
                        self.awaited.insert(target.id.clone(), service);
                        self.wait.add(target);
                    }
                    Ok(Brought::Ended(outcome)) => self.end(service, *outcome, teller),
                    Err(error) => match forgotten(&error) {
                        Some(id) if !known.contains(id) => {
                            return Err(ForgottenNetwork(id.to_owned()));
                        }
                        _ => self.end(service, failure(service, &error), teller),
                    },
                },
            }
            any = true;
        }
        Ok(any)
    }

    /// Whether another service waits for this one to end well.
    fn is_to_end(&self, service: &ComparedService) -> bool {
        self.services.iter().any(|other| {
            other.body.depends_on.iter().any(|need| {
                need.service == service.body.key && need.condition == Condition::Completed
            })
        })
    }

    fn readiness(&self, service: &ComparedService) -> Readiness {
        let mut readiness = Readiness::Ready;
        for need in &service.body.depends_on {
            let written = || {
                let mut awaited = self.awaited.values();
                awaited.any(|one| one.body.key == need.service)
            };
            match self.outcomes.get(need.service.as_str()) {
                Some(outcome) if meets(outcome.kind, need.condition) => {}
                Some(_) if need.condition == Condition::Completed => {
                    return Readiness::Never(format!("waits for {} to end well", need.service));
                }
                Some(_) => return Readiness::Never(format!("depends on {}", need.service)),
                None if need.condition == Condition::Started && written() => {}
                None => readiness = Readiness::Waits,
            }
        }
        readiness
    }

    /// Looks once at those that are waited for, and gives those that have ended.
    async fn look(
        &mut self,
        teller: &mut Teller<'_>,
    ) -> Result<Vec<(String, Outcome)>, DeployError> {
        let awaited = &self.awaited;
        let mut say = |standing: ServiceProgress<'_>| {
            let name = awaited.get(standing.id).map(|one| one.body.name.as_str());
            teller.tell(DeployEvent::Standing {
                service: name.unwrap_or(standing.name).to_owned(),
                text: in_words(standing.verdict),
            });
        };
        Ok(self.wait.look(self.deadline, &mut say).await?)
    }

    /// Takes in how waits have ended.
    async fn conclude(&mut self, ended: Vec<(String, Outcome)>, teller: &mut Teller<'_>) {
        let ended: Vec<(&ComparedService, Outcome)> = ended
            .into_iter()
            .filter_map(|(id, outcome)| Some((self.awaited.remove(&id)?, outcome)))
            .collect();
        let well = ended.iter().filter(|(_, outcome)| outcome.is_converged());
        let well: Vec<&'r ComparedService> = well.map(|(service, _)| *service).collect();
        let others = self.deployment.overtaken(&well).await;
        if !well.is_empty() {
            self.seen_last = well.iter().map(|one| one.body.key.as_str()).collect();
        }
        for (service, outcome) in ended {
            let name = &service.body.name;
            let job = service.body.mode.is_job();
            let mut outcome = ServiceOutcome::of(name, &outcome, job);
            if outcome.kind.is_success() {
                match &others {
                    Ok(others) => {
                        let other = others.iter().find(|other| other.service == *name);
                        outcome = other.cloned().unwrap_or(outcome);
                    }
                    Err(error) => outcome = failure(service, error),
                }
            }
            let terminal = has_terminal(&service.body.json);
            let outcome = self.deployment.with_log(outcome, terminal).await;
            self.end(service, outcome, teller);
        }
    }

    /// Looks again whether what ended well early has been overtaken while others were waited for.
    async fn look_again(&mut self, teller: &mut Teller<'_>) {
        let early: Vec<&'r ComparedService> = self
            .services
            .iter()
            .filter(|service| {
                let key = service.body.key.as_str();
                let outcome = self.outcomes.get(key);
                outcome.is_some_and(|outcome| outcome.kind.is_success())
                    && !self.seen_last.contains(&key)
            })
            .collect();
        match self.deployment.overtaken(&early).await {
            Ok(others) => {
                for service in early {
                    let own = |other: &&ServiceOutcome| other.service == service.body.name;
                    if let Some(other) = others.iter().find(own) {
                        self.end(service, other.clone(), teller);
                    }
                }
            }
            // Each was as declared when it ended.
            Err(error) => tracing::debug!(%error, "not looked at again"),
        }
    }

    fn end(
        &mut self,
        service: &'r ComparedService,
        outcome: ServiceOutcome,
        teller: &mut Teller<'_>,
    ) {
        teller.tell(DeployEvent::Ended(outcome.clone()));
        self.outcomes.insert(&service.body.key, outcome);
    }
}

/// What an error about a service makes of it.
fn failure(service: &ComparedService, error: &DeployError) -> ServiceOutcome {
    let (kind, text) = match error {
        DeployError::Contended { .. } => (
            OutcomeKind::Replaced,
            "is being changed by somebody else all the time".to_owned(),
        ),
        DeployError::Missing { .. } | DeployError::Credentials { .. } => (
            OutcomeKind::Refused,
            format!("was not written: {}", causes(error)),
        ),
        DeployError::Service { source, .. } if forgotten_network(source).is_some() => (
            OutcomeKind::Refused,
            format!("was refused: {}", causes(source)),
        ),
        DeployError::Service { source, .. } => (
            OutcomeKind::Unanswered,
            format!("may not have been written: {}", causes(source)),
        ),
        _ => (
            OutcomeKind::Unanswered,
            format!(
                "cannot be seen, and how it stands is not known: {}",
                causes(error)
            ),
        ),
    };
    ServiceOutcome::new(&service.body.name, kind, text)
}

impl Deployment<'_> {
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
            let status = found.update_status.as_ref();
            let (kind, text) = if status.is_some_and(|status| status.state.is_rollback()) {
                let text = "was rolled back by the engine after a failure";
                (OutcomeKind::RolledBack, text)
            } else {
                let text = "has another spec, which somebody else has written meanwhile";
                (OutcomeKind::Replaced, text)
            };
            Some(ServiceOutcome::new(name, kind, text))
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
            (ServiceAction::Resume, _) => {
                Change::new(Verb::Update, format!("service {name}"), RESUMED)
            }
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
    /// be had; `terminal`: whether it has one.
    async fn with_log(&self, mut outcome: ServiceOutcome, terminal: bool) -> ServiceOutcome {
        if let Some(task) = &outcome.task
            && self.options.log_lines > 0
        {
            let options = LogOptions::default()
                .with_tail(self.options.log_lines)
                .with_tty(terminal);
            let lines = self
                .engine
                .logs(LogSource::Task(task), options, self.request())
                .await;
            match lines {
                Ok(lines) => outcome.log = lines.into_iter().map(|line| line.text).collect(),
                Err(error) => tracing::debug!(%error, task, "no logs"),
            }
        }
        outcome
    }
}

/// Whether a service that ended so is what another one that depends on it waits for.
fn meets(kind: OutcomeKind, condition: Condition) -> bool {
    match condition {
        // Whatever became of its tasks since.
        Condition::Started => !matches!(
            kind,
            OutcomeKind::Refused | OutcomeKind::Blocked | OutcomeKind::Unanswered
        ),
        Condition::Completed => kind == OutcomeKind::Completed,
        Condition::Healthy => kind.is_success(),
    }
}

#[cfg(test)]
#[path = "rollout_tests.rs"]
mod tests;
