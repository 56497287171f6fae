//! Waiting for services: all at once, by polling the lists, until each has an outcome.
//!
//! A wait ends early where going on could not help: rolled back, paused, gone, crashing,
//! no node, no image. What may pass (no node at this moment, a task that has just ended) must
//! last for a while first, and so must a success that the engine has not watched itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use time::OffsetDateTime;

use super::cause::{cause, named, newest};
use super::census::Seat;
use super::engine::Engine;
use super::error::{EngineError, Refusal};
use super::judge::{TaskFailure, Verdict, judge};
use super::node::Node;
use super::outcome::{Outcome, outcome};
use super::service::{ServiceMode, ServiceObserved, ServiceWritten, UpdateState};
use super::task::Task;
use crate::ground::Deadline;

/// A service to judge or wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServiceTarget {
    /// Its identifier.
    pub id: String,
    /// When its spec has just been written: the lowest version that can hold it. A rollback or a
    /// pause is then a failure. `None`: the spec in place is the wanted one, however it came
    /// there, and only its tasks matter.
    pub min_version: Option<u64>,
    /// A service label that the wanted spec carries. A service without it has another spec: a
    /// rollback takes labels back too.
    pub label: Option<(String, String)>,
    /// Whether its previous spec is being restored on purpose: a rollback is no failure then.
    pub restoring: bool,
    /// How long its tasks must run where the engine has not watched them itself; `None` for
    /// [`WaitOptions::stable`].
    pub stable: Option<Duration>,
    /// Whether its tasks are to end, and the wait with them: that they run is not enough.
    pub to_the_end: bool,
    /// Tasks that had failed before its spec was written. They may be of an equal spec, from an
    /// earlier time, and say nothing of this one.
    pub past: BTreeSet<String>,
}

impl ServiceTarget {
    /// A service whose spec has just been written.
    #[must_use]
    pub fn written(written: &ServiceWritten) -> Self {
        Self {
            id: written.id.clone(),
            min_version: Some(written.min_version),
            label: None,
            restoring: false,
            stable: None,
            to_the_end: false,
            past: BTreeSet::new(),
        }
    }

    /// A service whose spec is already the wanted one.
    #[must_use]
    pub fn in_place(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            min_version: None,
            label: None,
            restoring: false,
            stable: None,
            to_the_end: false,
            past: BTreeSet::new(),
        }
    }

    /// The same, whose tasks must run for `stable`.
    #[must_use]
    pub fn stable_for(mut self, stable: Duration) -> Self {
        self.stable = Some(stable);
        self
    }

    /// The same, of which these tasks had failed before.
    #[must_use]
    pub fn after(mut self, past: BTreeSet<String>) -> Self {
        self.past = past;
        self
    }

    /// A service whose previous spec is being restored on purpose.
    #[must_use]
    pub fn restored(written: &ServiceWritten) -> Self {
        Self {
            restoring: true,
            ..Self::written(written)
        }
    }

    /// The same, recognised by a label.
    #[must_use]
    pub fn with_label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.label = Some((key.into(), value.into()));
        self
    }
}

/// So long must a task run that took the place of a failed one before a single look takes it for
/// running. Less than [`WaitOptions::stable_after_failure`]: the clock here is not the node's.
const SETTLING: time::Duration = time::Duration::seconds(5);
/// What a task lets go of when it has stopped, in the scheduler's words.
const HELD: [&str; 3] = [
    "host-mode port",
    "insufficient resources",
    "max replicas per node",
];
/// So much later than its time allows may a stopping task be gone for the scheduler.
const AFTER_GRACE: Duration = Duration::from_secs(5);
/// A task that began so much later than it is now is on a node whose clock says nothing here.
const CLOCKS_DIFFER: time::Duration = time::Duration::seconds(2);

/// When a wait ends early, and how sure it has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitOptions {
    /// How long all tasks of a just written service must run, where the engine has not watched
    /// an update itself. Default 2 s.
    pub stable: Duration,
    /// The same where a task has already failed, for a service that is in place too. Default 10 s.
    pub stable_after_failure: Duration,
    /// So many failed tasks of one replica, with none running, are a crash. Default 3.
    pub crash_limit: u64,
    /// So many tasks of one replica without an image are a missing image. Default 2.
    pub image_limit: u64,
    /// How long a task may find no node. Default 15 s: longer than a stopping task keeps its
    /// host port by default. Longer where an update waits for a task that may take longer to stop.
    pub unschedulable: Duration,
    /// How long a replica may have no task at all after a failure. Default 3 s.
    pub abandoned: Duration,
    /// How long the manager may fail to answer. Default 20 s.
    pub patience: Duration,
    /// Between two looks. Default 400 ms.
    pub poll: Duration,
}

impl Default for WaitOptions {
    fn default() -> Self {
        Self {
            stable: Duration::from_secs(2),
            stable_after_failure: Duration::from_secs(10),
            crash_limit: 3,
            image_limit: 2,
            unschedulable: Duration::from_secs(15),
            abandoned: Duration::from_secs(3),
            patience: Duration::from_secs(20),
            poll: Duration::from_millis(400),
        }
    }
}

/// How a service that is waited for stands; told whenever that changes.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct ServiceProgress<'a> {
    /// Its identifier.
    pub id: &'a str,
    /// Its name; empty while unknown.
    pub name: &'a str,
    /// How it stands.
    pub verdict: &'a Verdict,
    /// How the wait for it ended, once it has.
    pub outcome: Option<&'a Outcome>,
}

/// The manager could not be asked how the services stand.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// It gave no usable answer for longer than [`WaitOptions::patience`].
    #[error("cannot tell how the services stand")]
    Engine {
        /// The last failure.
        #[from]
        source: EngineError,
    },
}

/// What the swarm said in one round.
struct Snapshot {
    services: Vec<ServiceObserved>,
    tasks: Vec<Task>,
    nodes: Vec<Node>,
}

impl Snapshot {
    fn service(&self, id: &str) -> Option<&ServiceObserved> {
        self.services.iter().find(|service| service.id == id)
    }

    fn tasks_of(&self, id: &str) -> Vec<Task> {
        self.tasks
            .iter()
            .filter(|task| task.service_id == id)
            .cloned()
            .collect()
    }
}

/// What has been seen of one service since the wait began.
pub(super) struct Watch {
    target: ServiceTarget,
    /// Failed tasks, also those the swarm has forgotten since.
    failed: BTreeMap<String, Task>,
    /// Failures from before the wait, or before the write.
    past: Option<BTreeSet<String>>,
    /// The task that the engine stopped the update for, or took it back.
    blamed: Option<String>,
    /// Whether a task was seen that had only just taken the place of a failed one.
    unsettled: bool,
    /// Since when the verdict has been of its present kind.
    since: Option<(std::mem::Discriminant<Verdict>, Instant)>,
    last: Verdict,
    begun: Instant,
    outcome: Option<Outcome>,
}

impl Watch {
    pub(super) fn new(target: ServiceTarget) -> Self {
        Self {
            target,
            failed: BTreeMap::new(),
            past: None,
            blamed: None,
            unsettled: false,
            since: None,
            last: Verdict::Progressing {
                done: 0,
                wanted: 0,
                detail: "not looked at yet".to_owned(),
            },
            begun: Instant::now(),
            outcome: None,
        }
    }

    /// How it ended: in time or not.
    fn end(self) -> (String, Outcome) {
        let waited = || self.begun.elapsed().max(Duration::from_millis(1));
        let outcome = match self.outcome {
            Some(outcome) => outcome,
            None if self.target.to_the_end && self.last.settled().is_some() => Outcome::TimedOut {
                waited: waited(),
                detail: "its tasks run, and have not ended".to_owned(),
            },
            None => outcome(self.last, waited()),
        };
        (self.target.id, outcome)
    }

    /// Takes in a round. Says whether anything is new to tell.
    pub(super) fn look(
        &mut self,
        service: Option<&ServiceObserved>,
        tasks: Vec<Task>,
        nodes: &[Node],
        options: &WaitOptions,
        now: Instant,
    ) -> bool {
        let failed = self.failed.len();
        let tasks = match service {
            Some(service) => {
                let now = OffsetDateTime::now_utc();
                self.unsettled |= unsettled(service.mode(), &tasks, now).is_some();
                self.remember(service, tasks)
            }
            None => Vec::new(),
        };
        let verdict = judge(&self.target, service, &tasks, nodes, options);
        let kind = std::mem::discriminant(&verdict);
        // Another task may have failed between two looks at a running one.
        let again = self.failed.len() > failed && verdict.settled().is_some();
        let since = match self.since {
            Some((before, since)) if before == kind && !again => since,
            _ => {
                self.since = Some((kind, now));
                now
            }
        };
        let held = now.saturating_duration_since(since);
        self.outcome = self.decide(&verdict, service, held, options);
        let news = self.outcome.is_some() || verdict != self.last;
        self.last = verdict;
        news
    }

    /// Adds failures the swarm has forgotten, and drops those from before the write, or from before
    /// the wait where another try is under way.
    fn remember(&mut self, service: &ServiceObserved, tasks: Vec<Task>) -> Vec<Task> {
        let mode = service.mode();
        let written = self.target.min_version.is_some();
        let failures = || tasks.iter().filter(|task| task.state.is_failure());
        let past = self.past.get_or_insert_with(|| {
            if written {
                self.target.past.clone()
            } else {
                failures().map(|task| task.id.clone()).collect()
            }
        });
        let status = service.update_status.as_ref();
        if let Some(id) = status.and_then(|status| named(&status.message)) {
            self.blamed = Some(id.to_owned());
        }
        // Those of a spec that the engine has restored are not of the one that was written.
        let restored = written
            && !self.target.restoring
            && status.is_some_and(|status| status.state.is_rollback());
        if !restored {
            for task in failures().filter(|task| !past.contains(&task.id)) {
                self.failed.insert(task.id.clone(), task.clone());
            }
        }
        let is_live = |seat: Seat<'_>| {
            let mut live = tasks.iter().filter(|task| task.is_live());
            live.any(|task| Seat::of(mode, task) == seat)
        };
        let mut kept: Vec<Task> = tasks
            .iter()
            .filter(|task| !past.contains(&task.id) || !(written || is_live(Seat::of(mode, task))))
            .cloned()
            .collect();
        for (id, task) in &self.failed {
            if !kept.iter().any(|kept| kept.id == *id) {
                kept.push(task.clone());
            }
        }
        kept
    }

    /// The task that ended the update of `service`; `all`: its tasks that the swarm remembers,
    /// `now`: those of the spec in place.
    fn cause(
        &self,
        service: &ServiceObserved,
        all: Vec<Task>,
        now: &[Task],
        nodes: &[Node],
    ) -> Option<TaskFailure> {
        let status = service.update_status.as_ref()?;
        let mut tasks = all;
        for task in self.failed.values() {
            if !tasks.iter().any(|one| one.id == task.id) {
                tasks.push(task.clone());
            }
        }
        let in_place = now.iter().map(|task| task.id.as_str()).collect();
        let task = cause(
            status,
            &tasks,
            &in_place,
            &self.target.past,
            self.blamed.as_deref(),
        );
        task.map(|task| TaskFailure::of(service, task, nodes))
    }

    fn decide(
        &self,
        verdict: &Verdict,
        service: Option<&ServiceObserved>,
        held: Duration,
        options: &WaitOptions,
    ) -> Option<Outcome> {
        let needed = match verdict {
            // Nothing is to follow that could change it.
            Verdict::Completed { .. } => Duration::ZERO,
            Verdict::Converged { .. } if self.target.to_the_end => return None,
            Verdict::Converged { .. } => {
                let watched = service
                    .and_then(|service| service.update_status.as_ref())
                    .is_some_and(|status| {
                        status.state == UpdateState::Completed
                            || self.target.restoring
                                && status.state == UpdateState::RollbackCompleted
                    });
                let fell = self.unsettled || !self.failed.is_empty();
                match self.target.min_version {
                    None if fell => options.stable_after_failure,
                    None => Duration::ZERO,
                    // An update can be completed although tasks fail.
                    Some(_) if watched && !fell => Duration::ZERO,
                    Some(_) => {
                        let stable = self.target.stable.unwrap_or(options.stable);
                        if self.failed.is_empty() {
                            stable
                        } else {
                            stable.max(options.stable_after_failure)
                        }
                    }
                }
            }
            Verdict::Unschedulable { reason } => {
                let written = service.filter(|_| self.target.min_version.is_some());
                let stopping = written.map(|service| stopping_time(service, reason));
                options.unschedulable.max(stopping.unwrap_or_default())
            }
            Verdict::Crashing { restarting, .. } | Verdict::ImageMissing { restarting, .. } => {
                if *restarting {
                    Duration::ZERO
                } else if self.target.min_version.is_none() {
                    // A manager that has only just come back takes its time to replace a task.
                    options.abandoned.max(options.stable_after_failure)
                } else {
                    options.abandoned
                }
            }
            // Of a spec that was in place before: a task that has just ended may come back.
            Verdict::Paused { .. } | Verdict::RollbackPaused { .. }
                if self.target.min_version.is_none() =>
            {
                options.unschedulable
            }
            Verdict::Paused { .. }
            | Verdict::RollbackPaused { .. }
            | Verdict::RolledBack { .. }
            | Verdict::Replaced
            | Verdict::Gone => Duration::ZERO,
            Verdict::Progressing { .. } | Verdict::RollingBack { .. } => return None,
        };
        (held >= needed).then(|| outcome(verdict.clone(), Duration::ZERO))
    }
}

/// A task that has only just taken the place of a failed one, and that one.
fn unsettled(mode: ServiceMode, tasks: &[Task], now: OffsetDateTime) -> Option<(&Task, &Task)> {
    let fresh = |task: &&Task| {
        let age = task.changed_at.map(|at| now - at);
        task.is_running() && age.is_some_and(|age| age > -CLOCKS_DIFFER && age < SETTLING)
    };
    tasks.iter().filter(fresh).find_map(|task| {
        let seat = Seat::of(mode, task);
        let before = tasks.iter().filter(|one| Seat::of(mode, one) == seat);
        Some((task, newest(before)?))
    })
}

/// The verdict of one look at a service whose spec is in place: a task that has only just taken
/// the place of a failed one may fail as that did.
fn cautious(
    verdict: Verdict,
    service: &ServiceObserved,
    tasks: &[Task],
    nodes: &[Node],
) -> Verdict {
    let Verdict::Converged { tasks: running } = verdict else {
        return verdict;
    };
    match unsettled(service.mode(), tasks, OffsetDateTime::now_utc()) {
        Some((_, failed)) => Verdict::Progressing {
            done: running.saturating_sub(1),
            wanted: running,
            detail: format!(
                "a task has only just begun after another failed; {}",
                TaskFailure::of(service, failed, nodes)
            ),
        },
        None => verdict,
    }
}

/// How long what `reason` says is missing may still be held by a task that is being stopped for
/// the one that finds no node.
fn stopping_time(service: &ServiceObserved, reason: &str) -> Duration {
    let stops = HELD.iter().any(|what| reason.contains(what));
    if stops && service.previous_spec.is_some() {
        service.stop_grace().saturating_add(AFTER_GRACE)
    } else {
        Duration::ZERO
    }
}

impl Engine {
    /// How services stand now, in the order of `targets`. Asks once and does not wait.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn judge_services(
        &self,
        targets: &[ServiceTarget],
        deadline: Deadline,
    ) -> Result<Vec<Verdict>, EngineError> {
        let options = WaitOptions::default();
        let snapshot = self.snapshot(targets.iter(), deadline).await?;
        Ok(targets
            .iter()
            .map(|target| {
                let service = snapshot.service(&target.id);
                let verdict = judge(target, service, &snapshot.tasks, &snapshot.nodes, &options);
                let tasks = snapshot.tasks_of(&target.id);
                match service {
                    Some(service) => cautious(verdict, service, &tasks, &snapshot.nodes),
                    None => verdict,
                }
            })
            .collect())
    }

    /// Waits for all services at once and says how each ended, in the order of `targets`.
    /// `progress` is called whenever the standing of one changes.
    ///
    /// # Errors
    /// [`WaitError`] when the manager stops answering. That services do not converge is no error
    /// here but an [`Outcome`].
    pub async fn await_services(
        &self,
        targets: &[ServiceTarget],
        options: &WaitOptions,
        deadline: Deadline,
        progress: &mut (dyn FnMut(ServiceProgress<'_>) + Send),
    ) -> Result<Vec<(String, Outcome)>, WaitError> {
        let mut wait = ServiceWait::new(self, options.clone());
        for target in targets {
            wait.add(target.clone());
        }
        let mut ended = Vec::new();
        while !wait.is_over() {
            ended.extend(wait.look(deadline, progress).await?);
            if !wait.is_over() && !wait.pause(deadline).await {
                ended.extend(wait.give_up());
            }
        }
        let place = |id: &str| targets.iter().position(|target| target.id == id);
        ended.sort_by_key(|(id, _)| place(id));
        Ok(ended)
    }

    async fn settle(
        &self,
        watch: &mut Watch,
        snapshot: &Snapshot,
        options: &WaitOptions,
        deadline: Deadline,
        progress: &mut (dyn FnMut(ServiceProgress<'_>) + Send),
    ) {
        let id = watch.target.id.clone();
        let service = snapshot.service(&id);
        let name = service.map(ServiceObserved::name).unwrap_or_default();
        let news = watch.look(
            service,
            snapshot.tasks_of(&id),
            &snapshot.nodes,
            options,
            Instant::now(),
        );
        if let Some(service) = service
            && let Some(
                Outcome::RolledBack { .. }
                | Outcome::Paused { .. }
                | Outcome::RollbackPaused { .. },
            ) = watch.outcome
        {
            // The failed tasks may be of a spec that is no longer in place: ask for all.
            let all = self.tasks(&id, deadline).await.unwrap_or_default();
            let now = snapshot.tasks_of(&id);
            let found = watch.cause(service, all, &now, &snapshot.nodes);
            if let Some(
                Outcome::RolledBack { cause, .. }
                | Outcome::Paused { cause, .. }
                | Outcome::RollbackPaused { cause, .. },
            ) = &mut watch.outcome
            {
                *cause = found;
            }
        }
        if news {
            progress(ServiceProgress {
                id: &id,
                name,
                verdict: &watch.last,
                outcome: watch.outcome.as_ref(),
            });
        }
    }

    async fn snapshot(
        &self,
        targets: impl Iterator<Item = &ServiceTarget>,
        deadline: Deadline,
    ) -> Result<Snapshot, EngineError> {
        let ids: Vec<&str> = targets.map(|target| target.id.as_str()).collect();
        if ids.is_empty() {
            return Ok(Snapshot {
                services: Vec::new(),
                tasks: Vec::new(),
                nodes: Vec::new(),
            });
        }
        let services = self.services_by_id(ids.iter().copied(), deadline).await?;
        let found: Vec<&str> = services.iter().map(|service| service.id.as_str()).collect();
        let tasks = if found.is_empty() {
            Vec::new()
        } else {
            self.current_tasks(found, deadline).await?
        };
        let nodes = self.nodes(deadline).await?;
        Ok(Snapshot {
            services,
            tasks,
            nodes,
        })
    }
}

/// Services that are waited for, each from when it is added.
pub(crate) struct ServiceWait<'e> {
    engine: &'e Engine,
    options: WaitOptions,
    /// Those that have not ended.
    watches: Vec<Watch>,
    /// Since when the manager has not answered.
    silent: Option<Instant>,
}

impl<'e> ServiceWait<'e> {
    pub(crate) fn new(engine: &'e Engine, options: WaitOptions) -> Self {
        Self {
            engine,
            options,
            watches: Vec::new(),
            silent: None,
        }
    }

    /// Waits for another one, too.
    pub(crate) fn add(&mut self, target: ServiceTarget) {
        self.watches.push(Watch::new(target));
    }

    /// Whether none is left that has not ended.
    pub(crate) fn is_over(&self) -> bool {
        self.watches.is_empty()
    }

    /// Looks once at those that have not ended, and gives those that have now.
    ///
    /// # Errors
    /// As [`Engine::await_services`].
    pub(crate) async fn look(
        &mut self,
        deadline: Deadline,
        progress: &mut (dyn FnMut(ServiceProgress<'_>) + Send),
    ) -> Result<Vec<(String, Outcome)>, WaitError> {
        let open = self.watches.iter().map(|watch| &watch.target);
        // Reads are repeated by themselves: not for so long that this is the only look.
        let (since, limit) = (Instant::now(), deadline.at_most(self.options.patience / 2));
        match self.engine.snapshot(open, limit).await {
            Ok(snapshot) => {
                self.silent = None;
                for watch in &mut self.watches {
                    self.engine
                        .settle(watch, &snapshot, &self.options, deadline, progress)
                        .await;
                }
            }
            // A service that vanished between two lists is refused as not found.
            Err(error)
                if (error.is_transient() || error.is(Refusal::NotFound))
                    && !deadline.is_over()
                    && self.silent.get_or_insert(since).elapsed() < self.options.patience =>
            {
                tracing::debug!(%error, "asking again");
            }
            Err(_) if deadline.is_over() => {}
            Err(source) => return Err(source.into()),
        }
        let (ended, open) = std::mem::take(&mut self.watches)
            .into_iter()
            .partition(|watch| watch.outcome.is_some());
        self.watches = open;
        let ended: Vec<Watch> = ended;
        Ok(ended.into_iter().map(Watch::end).collect())
    }

    /// Lets some time pass between two looks; `false` when the deadline comes first.
    pub(crate) async fn pause(&self, deadline: Deadline) -> bool {
        deadline.pause(self.options.poll).await.is_ok()
    }

    /// Gives those that have not ended, as not having converged in time.
    pub(crate) fn give_up(&mut self) -> Vec<(String, Outcome)> {
        let open = std::mem::take(&mut self.watches);
        open.into_iter().map(Watch::end).collect()
    }
}

#[cfg(test)]
#[path = "wait_tests.rs"]
mod tests;
