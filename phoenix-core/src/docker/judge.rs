//! How a service stands, decided from what the swarm says at one moment. Pure: no clock, no
//! network.
//!
//! That every task is up to date and runs proves nothing by itself: after a rollback it is true
//! as well. So the status of the update comes first, and whoever has just written a spec is told
//! of a success only when that spec is the one in place.

use std::fmt;

use super::census::Census;
use super::node::Node;
use super::service::{ServiceObserved, UpdateState};
use super::task::Task;
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

/// A task that ended badly, or too early for the engine.
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
    pub(super) fn of(service: &ServiceObserved, task: &Task, nodes: &[Node]) -> Self {
        let replica = task.replica(service.mode());
        Self {
            task: task_name(service.name(), replica, task, nodes),
            id: task.id.clone(),
            node: node_name(task, nodes).to_owned(),
            image: task.image.clone(),
            exit_code: task.exit_code,
            error: if task.error.is_empty() {
                task.message.clone()
            } else {
                task.error.clone()
            },
        }
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

pub(super) fn hostname<'a>(id: &'a str, nodes: &'a [Node]) -> &'a str {
    nodes
        .iter()
        .find(|node| node.id == id)
        .map(|node| node.hostname.as_str())
        .filter(|name| !name.is_empty())
        .unwrap_or(id)
}

/// The host name of the node of `task`, or its identifier where that is not known; empty where the
/// task has no node.
pub(crate) fn node_name<'a>(task: &'a Task, nodes: &'a [Node]) -> &'a str {
    let id = task.node_id.as_deref();
    id.map_or("", |id| hostname(id, nodes))
}

/// What a task of `service` is called: by its replica, or by its node where there is one per node.
pub(crate) fn task_name(
    service: &str,
    replica: Option<u64>,
    task: &Task,
    nodes: &[Node],
) -> String {
    match (replica, node_name(task, nodes)) {
        (Some(replica), _) => format!("{service}.{replica}"),
        (None, "") => service.to_owned(),
        (None, node) => format!("{service}.{node}"),
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
    let written = target.min_version.is_some();
    let as_written = target
        .label
        .as_ref()
        .is_none_or(|(key, value)| service.label(key) == Some(value));
    if (written || !as_written) && !target.restoring {
        match state {
            Some(UpdateState::RollbackStarted) => return Verdict::RollingBack { message },
            Some(UpdateState::RollbackCompleted) => return Verdict::RolledBack { message },
            Some(UpdateState::RollbackPaused) => return Verdict::RollbackPaused { message },
            _ => {}
        }
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
        // The engine takes any end of a task that it has just made for a failure, a good one too.
        (
            Some(UpdateState::Paused | UpdateState::RollbackPaused),
            verdict @ Verdict::Completed { .. },
        ) => verdict,
        // Nothing will move any more.
        (Some(UpdateState::Paused), verdict)
            if written || matches!(verdict, Verdict::Progressing { .. }) =>
        {
            Verdict::Paused { message }
        }
        (Some(UpdateState::RollbackPaused), verdict)
            if written || matches!(verdict, Verdict::Progressing { .. }) =>
        {
            Verdict::RollbackPaused { message }
        }
        (_, verdict) => verdict,
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
