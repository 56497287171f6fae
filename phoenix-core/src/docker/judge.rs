//! How a service stands, decided from what the swarm says at one moment. Pure: no clock, no
//! network.
//!
//! That every task is up to date and runs proves nothing by itself: after a rollback it is true
//! as well. So the status of the update comes first, and whoever has just written a spec is told
//! of a success only when that spec is the one in place.

use std::collections::BTreeMap;
use std::fmt;

use super::constraint::eligible_nodes;
use super::node::Node;
use super::service::{ServiceMode, ServiceObserved, UpdateState};
use super::task::{Task, TaskState};
use super::wait::{ServiceTarget, WaitOptions};

/// How a service stands at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// All tasks that should run do, of the spec in place.
    Converged {
        /// How many.
        tasks: u64,
    },
    /// All tasks of the spec in place have ended well, and none is to follow: a job, or a service
    /// whose tasks are not restarted.
    Completed {
        /// How many.
        tasks: u64,
    },
    /// On its way.
    Progressing {
        /// Tasks that are as they should be.
        done: u64,
        /// Tasks that there should be.
        wanted: u64,
        /// What is still missing.
        detail: String,
    },
    /// The engine is restoring the previous spec.
    RollingBack {
        /// The engine's words.
        message: String,
    },
    /// The engine restored the previous spec.
    RolledBack {
        /// The engine's words.
        message: String,
    },
    /// The engine stopped the update after a failure.
    Paused {
        /// The engine's words.
        message: String,
    },
    /// The engine stopped a rollback after a failure.
    RollbackPaused {
        /// The engine's words.
        message: String,
    },
    /// No node can take a task, at this moment.
    Unschedulable {
        /// Why, in the engine's words where it has some.
        reason: String,
    },
    /// Tasks of the spec in place keep ending.
    Crashing {
        /// How many of one replica's tasks the swarm remembers to have failed.
        failures: u64,
        /// Whether the engine still tries.
        restarting: bool,
        /// The last one.
        last: TaskFailure,
    },
    /// A node cannot get the image.
    ImageMissing {
        /// How often one replica's task failed so.
        failures: u64,
        /// Whether the engine still tries.
        restarting: bool,
        /// The last one.
        last: TaskFailure,
    },
    /// The service has another spec than the one that was written.
    Replaced,
    /// There is no such service.
    Gone,
}

impl Verdict {
    /// The tasks of a service that is as it should be.
    #[must_use]
    pub fn settled(&self) -> Option<u64> {
        match self {
            Self::Converged { tasks } | Self::Completed { tasks } => Some(*tasks),
            _ => None,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Converged { tasks: 1 } => f.write_str("converged, 1 task"),
            Self::Converged { tasks } => write!(f, "converged, {tasks} tasks"),
            Self::Completed { tasks: 1 } => f.write_str("completed, 1 task"),
            Self::Completed { tasks } => write!(f, "completed, {tasks} tasks"),
            Self::Progressing {
                done,
                wanted,
                detail,
            } => write!(f, "{done}/{wanted} tasks: {detail}"),
            Self::RollingBack { message } => write!(f, "rolling back: {message}"),
            Self::RolledBack { message } => write!(f, "rolled back: {message}"),
            Self::Paused { message } => write!(f, "update paused: {message}"),
            Self::RollbackPaused { message } => write!(f, "rollback paused: {message}"),
            Self::Unschedulable { reason } => write!(f, "unschedulable: {reason}"),
            Self::Crashing { failures, last, .. } => write!(f, "crashed {failures} times: {last}"),
            Self::ImageMissing { last, .. } => {
                write!(f, "image {} is missing: {last}", last.image)
            }
            Self::Replaced => f.write_str("another spec was written meanwhile"),
            Self::Gone => f.write_str("there is no such service"),
        }
    }
}

/// A task that ended badly.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskFailure {
    /// Which one: `service.replica`.
    pub task: String,
    /// The task's identifier, by which its logs are found.
    pub id: String,
    /// The host name of its node; empty when it had none.
    pub node: String,
    /// Its image.
    pub image: String,
    /// The exit code of its container; `None` when none ran to an end.
    pub exit_code: Option<i64>,
    /// The engine's words.
    pub error: String,
}

impl fmt::Display for TaskFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.task)?;
        if !self.node.is_empty() {
            write!(f, " on {}", self.node)?;
        }
        match self.exit_code {
            Some(code) => write!(f, " exited with code {code}")?,
            None => f.write_str(" failed")?,
        }
        if !self.error.is_empty() {
            write!(f, ": {}", self.error)?;
        }
        Ok(())
    }
}

impl TaskFailure {
    pub(super) fn of(service: &str, task: &Task, nodes: &[Node]) -> Self {
        let node = task
            .node_id
            .as_deref()
            .map(|id| hostname(id, nodes).to_owned())
            .unwrap_or_default();
        Self {
            task: task_name(service, task, nodes),
            id: task.id.clone(),
            node,
            image: task.image.clone(),
            exit_code: task.exit_code,
            error: if task.error.is_empty() {
                task.message.clone()
            } else {
                task.error.clone()
            },
        }
    }

    /// The last task of the service called `service` that failed, of whatever spec.
    #[must_use]
    pub fn last_of(service: &str, tasks: &[Task], nodes: &[Node]) -> Option<Self> {
        let failed = tasks.iter().filter(|task| task.state.is_failure());
        // What a rollback cuts short says nothing of why it was begun.
        let last = failed
            .max_by_key(|task| (!task.error.contains("context canceled"), task.created_at))?;
        Some(Self::of(service, last, nodes))
    }

    /// Whether the node could not get the image.
    #[must_use]
    pub fn is_missing_image(&self) -> bool {
        let error = self.error.to_ascii_lowercase();
        [
            "no such image",
            "manifest unknown",
            "pull access denied",
            "repository does not exist",
            "no matching manifest",
        ]
        .iter()
        .any(|text| error.contains(text))
    }
}

fn hostname<'a>(id: &'a str, nodes: &'a [Node]) -> &'a str {
    nodes
        .iter()
        .find(|node| node.id == id)
        .map(|node| node.hostname.as_str())
        .filter(|name| !name.is_empty())
        .unwrap_or(id)
}

fn task_name(service: &str, task: &Task, nodes: &[Node]) -> String {
    match (task.slot, &task.node_id) {
        (Some(slot), _) => format!("{service}.{slot}"),
        (None, Some(id)) => format!("{service}.{}", hostname(id, nodes)),
        (None, None) => service.to_owned(),
    }
}

/// Judges a service by its tasks of the spec in place (what the engine lists as up to date) and
/// the nodes.
#[must_use]
pub fn judge(
    target: &ServiceTarget,
    service: Option<&ServiceObserved>,
    tasks: &[Task],
    nodes: &[Node],
    options: &WaitOptions,
) -> Verdict {
    let Some(service) = service else {
        return Verdict::Gone;
    };
    let (state, message) = match &service.update_status {
        Some(status) => (Some(&status.state), status.message.clone()),
        None => (None, String::new()),
    };
    let written = target.min_version.is_some();
    let as_written = target
        .label
        .as_ref()
        .is_none_or(|(key, value)| service.label(key) == Some(value));
    if written || !as_written {
        match state {
            Some(UpdateState::RollbackStarted) if !target.restoring => {
                return Verdict::RollingBack { message };
            }
            Some(UpdateState::RollbackCompleted) if !target.restoring => {
                return Verdict::RolledBack { message };
            }
            Some(UpdateState::RollbackPaused) => return Verdict::RollbackPaused { message },
            Some(UpdateState::Paused) if written => return Verdict::Paused { message },
            _ => {}
        }
    }
    if target
        .min_version
        .is_some_and(|least| service.version < least)
    {
        return Verdict::Progressing {
            done: 0,
            wanted: 0,
            detail: "the manager does not show the new spec yet".to_owned(),
        };
    }
    if !as_written {
        return Verdict::Replaced;
    }
    let verdict = Census::take(service, tasks, nodes).judge(options);
    // A rollback that was asked for is an update like any other.
    let state = match state {
        Some(UpdateState::RollbackStarted) if target.restoring => Some(&UpdateState::Updating),
        state => state,
    };
    match (state, verdict) {
        // The update is over only when the engine, having watched it, says so: until then it may
        // still pause or roll back.
        (
            Some(UpdateState::Updating),
            Verdict::Converged { tasks } | Verdict::Completed { tasks },
        ) => Verdict::Progressing {
            done: tasks,
            wanted: tasks,
            detail: "all tasks run; the engine still watches the update".to_owned(),
        },
        (
            Some(UpdateState::Updating),
            Verdict::Crashing { last, .. } | Verdict::ImageMissing { last, .. },
        ) if !service.ignores_failures() => Verdict::Progressing {
            done: 0,
            wanted: 0,
            detail: format!("the update is under way; {last}"),
        },
        // Nothing will move any more.
        (Some(UpdateState::Paused), Verdict::Progressing { .. }) => Verdict::Paused { message },
        (Some(UpdateState::RollbackPaused), Verdict::Progressing { .. }) => {
            Verdict::RollbackPaused { message }
        }
        (_, verdict) => verdict,
    }
}

/// The tasks that stand in for one another: of one replica, or of one node of a global service.
#[derive(Default)]
struct Seat<'a> {
    tasks: Vec<&'a Task>,
}

impl<'a> Seat<'a> {
    fn runs(&self) -> bool {
        self.tasks.iter().any(|task| task.is_running())
    }

    fn live(&self) -> Option<&'a Task> {
        self.tasks
            .iter()
            .copied()
            .filter(|task| task.is_live())
            .max_by_key(|task| task.state)
    }

    fn newest(&self) -> Option<&'a Task> {
        self.tasks
            .iter()
            .copied()
            .max_by_key(|task| task.created_at)
    }

    fn failures(&self) -> impl Iterator<Item = &'a Task> {
        self.tasks
            .iter()
            .copied()
            .filter(|task| task.state.is_failure())
    }

    fn last_failure(&self) -> Option<&'a Task> {
        self.failures().max_by_key(|task| task.created_at)
    }

    fn completed(&self) -> bool {
        self.tasks
            .iter()
            .any(|task| task.state == TaskState::Complete)
    }

    /// Its last task ended well and no other follows.
    fn ended_well(&self) -> bool {
        self.live().is_none()
            && self
                .newest()
                .is_some_and(|task| task.state == TaskState::Complete)
    }
}

/// The seats of a service and who sits there.
struct Census<'a> {
    service: &'a ServiceObserved,
    nodes: &'a [Node],
    seats: BTreeMap<Key<'a>, Seat<'a>>,
    done: u64,
    /// Whether no task runs or will, of those that are as they should be.
    over: bool,
    /// `None` when it cannot be told yet.
    wanted: Option<u64>,
    /// Why nothing will ever run, when that is plain from the placement alone.
    nowhere: Option<String>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Key<'a> {
    Slot(u64),
    Node(&'a str),
    None,
}

impl<'a> Census<'a> {
    fn take(service: &'a ServiceObserved, tasks: &'a [Task], nodes: &'a [Node]) -> Self {
        let mode = service.mode();
        let job = matches!(
            mode,
            ServiceMode::ReplicatedJob { .. } | ServiceMode::GlobalJob
        );
        let down = |task: &Task| {
            task.node_id
                .as_deref()
                .is_some_and(|id| nodes.iter().any(|node| node.id == id && node.is_down()))
        };
        let mut seats: BTreeMap<Key<'a>, Seat<'a>> = BTreeMap::new();
        for task in tasks.iter().filter(|task| task.service_id == service.id) {
            // What a lost node last said of its tasks is worth nothing.
            if (task.is_live() && down(task))
                || (job && task.job_iteration != service.job_iteration)
            {
                continue;
            }
            let key = match (task.slot, &task.node_id) {
                (Some(slot), _) => Key::Slot(slot),
                (None, Some(node)) => Key::Node(node),
                (None, None) => Key::None,
            };
            seats.entry(key).or_default().tasks.push(task);
        }
        let count = |done: &dyn Fn(&Seat<'a>) -> bool| {
            u64::try_from(seats.values().filter(|seat| done(seat)).count()).unwrap_or(u64::MAX)
        };
        let once = service.restart_condition() != "any";
        let settled = |seat: &Seat<'a>| seat.runs() || (once && seat.ended_well());
        let mut nowhere = None;
        let (done, wanted) = match mode {
            ServiceMode::Replicated { replicas } => {
                let present = count(&|seat| settled(seat) || seat.live().is_some());
                // More than wanted: a scaling down is not over.
                let wanted = Some(replicas).filter(|replicas| present <= *replicas);
                (count(&settled), wanted)
            }
            ServiceMode::ReplicatedJob { completions } => {
                (count(&Seat::completed), Some(completions))
            }
            ServiceMode::Global | ServiceMode::GlobalJob => {
                let here = |seat: &Seat<'a>| if job { seat.completed() } else { settled(seat) };
                let wanted = match eligible_nodes(service, nodes) {
                    Some(eligible) => {
                        if eligible.is_empty() {
                            nowhere = Some(no_node(service));
                        }
                        // A paused node keeps what it has and gets nothing new.
                        let expected = eligible.iter().filter(|id| {
                            seats.contains_key(&Key::Node(id))
                                || nodes
                                    .iter()
                                    .any(|node| node.id == **id && node.availability != "pause")
                        });
                        u64::try_from(expected.count()).ok()
                    }
                    None => service
                        .counts
                        .map(|counts| counts.desired_tasks)
                        .filter(|desired| *desired > 0),
                };
                (count(&here), wanted)
            }
        };
        Self {
            service,
            nodes,
            over: job || (once && done > 0 && !seats.values().any(Seat::runs)),
            seats,
            done,
            wanted,
            nowhere,
        }
    }

    fn judge(self, options: &WaitOptions) -> Verdict {
        if let Some(reason) = self.nowhere {
            return Verdict::Unschedulable { reason };
        }
        if self.wanted.is_some_and(|wanted| self.done >= wanted) {
            let tasks = self.done;
            return if self.over {
                Verdict::Completed { tasks }
            } else {
                Verdict::Converged { tasks }
            };
        }
        let vacant: Vec<&Seat<'_>> = self
            .seats
            .values()
            .filter(|seat| !seat.runs() && !seat.ended_well())
            .collect();
        let stuck = vacant.iter().find_map(|seat| {
            seat.live()
                .filter(|task| task.error.contains("no suitable node"))
        });
        if let Some(task) = stuck {
            return Verdict::Unschedulable {
                reason: task.error.clone(),
            };
        }
        let worst = vacant
            .iter()
            .filter_map(|seat| Some((seat, seat.failures().count(), seat.last_failure()?)))
            .max_by_key(|(seat, failures, _)| (seat.live().is_none(), *failures));
        if let Some((seat, failures, task)) = worst {
            let failures = u64::try_from(failures).unwrap_or(u64::MAX);
            let restarting = seat.live().is_some();
            let last = TaskFailure::of(self.service.name(), task, self.nodes);
            let missing = last.is_missing_image();
            let limit = if missing {
                options.image_limit
            } else {
                options.crash_limit
            };
            if failures >= limit || !restarting {
                return if missing {
                    Verdict::ImageMissing {
                        failures,
                        restarting,
                        last,
                    }
                } else {
                    Verdict::Crashing {
                        failures,
                        restarting,
                        last,
                    }
                };
            }
        }
        Verdict::Progressing {
            done: self.done,
            wanted: self.wanted.unwrap_or(self.done),
            detail: self.detail(&vacant),
        }
    }

    fn detail(&self, vacant: &[&Seat<'_>]) -> String {
        let name = self.service.name();
        let mut parts = Vec::new();
        if let Some(wanted) = self.wanted {
            parts.push(format!("{} of {wanted} tasks", self.done));
        } else {
            parts.push("tasks are still being placed or removed".to_owned());
        }
        if let Some(task) = vacant.iter().find_map(|seat| seat.live()) {
            let mut text = format!("{} is {}", task_name(name, task, self.nodes), task.state);
            if !task.error.is_empty() {
                text = format!("{text} ({})", task.error);
            }
            parts.push(text);
        }
        if let Some(task) = vacant.iter().find_map(|seat| seat.last_failure()) {
            parts.push(TaskFailure::of(name, task, self.nodes).to_string());
        }
        parts.join("; ")
    }
}

fn no_node(service: &ServiceObserved) -> String {
    let constraints = service.constraints();
    if constraints.is_empty() {
        "no node takes tasks".to_owned()
    } else {
        format!("no node satisfies {}", constraints.join(" and "))
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
