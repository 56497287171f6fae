//! Tasks: one run of a service's container on a node.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use time::OffsetDateTime;

use super::call::Call;
use super::engine::Engine;
use super::error::EngineError;
use super::service::ServiceMode;
use super::wire::{ObjectVersion, filters, instant, nullable};
use crate::ground::Deadline;

const POLL: Duration = Duration::from_millis(400);

/// Where a task stands. In the order in which a task passes through them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TaskState {
    /// Just made.
    New,
    /// Has its addresses.
    Allocated,
    /// Waits for a node.
    Pending,
    /// Has a node.
    Assigned,
    /// The node took it.
    Accepted,
    /// The image is being pulled, networks are being made.
    Preparing,
    /// Could start.
    Ready,
    /// Starts; stays here until its health check passes.
    Starting,
    /// Runs (and is healthy).
    Running,
    /// Ended with exit code 0.
    Complete,
    /// Was stopped.
    Shutdown,
    /// Ended by itself with another exit code.
    Failed,
    /// Could not be started on its node.
    Rejected,
    /// Its service is gone.
    Remove,
    /// Its node has been away for too long.
    Orphaned,
    /// A state this version of Phoenix does not know.
    Unknown,
}

impl TaskState {
    /// Whether nothing of it runs any more, or ever will.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Complete
                | Self::Shutdown
                | Self::Failed
                | Self::Rejected
                | Self::Remove
                | Self::Orphaned
        )
    }

    /// Whether it ended by a fault of its own.
    #[must_use]
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::Rejected)
    }

    fn parse(word: &str) -> Self {
        match word {
            "new" => Self::New,
            "allocated" => Self::Allocated,
            "pending" => Self::Pending,
            "assigned" => Self::Assigned,
            "accepted" => Self::Accepted,
            "preparing" => Self::Preparing,
            "ready" => Self::Ready,
            "starting" => Self::Starting,
            "running" => Self::Running,
            "complete" => Self::Complete,
            "shutdown" => Self::Shutdown,
            "failed" => Self::Failed,
            "rejected" => Self::Rejected,
            "remove" => Self::Remove,
            "orphaned" => Self::Orphaned,
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::New => "new",
            Self::Allocated => "allocated",
            Self::Pending => "pending",
            Self::Assigned => "assigned",
            Self::Accepted => "accepted",
            Self::Preparing => "preparing",
            Self::Ready => "ready",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Complete => "complete",
            Self::Shutdown => "shutdown",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Remove => "removed",
            Self::Orphaned => "orphaned",
            Self::Unknown => "in an unknown state",
        })
    }
}

/// A task of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Task {
    /// Its identifier.
    pub id: String,
    /// Its service's identifier.
    pub service_id: String,
    /// The node it is on, once assigned.
    pub node_id: Option<String>,
    /// Which replica it is, where the engine gives a number: see [`Task::replica`].
    pub slot: Option<u64>,
    /// Where it stands.
    pub state: TaskState,
    /// Where it should stand.
    pub desired: TaskState,
    /// What went wrong, in the engine's words; often empty.
    pub error: String,
    /// What it is about, in the engine's words.
    pub message: String,
    /// The exit code of its container, once it ended.
    pub exit_code: Option<i64>,
    /// The image of its container.
    pub image: String,
    /// The labels of its container.
    pub labels: BTreeMap<String, String>,
    /// For a job: which run of it.
    pub job_iteration: u64,
    /// When it was made.
    pub created_at: Option<OffsetDateTime>,
    /// When its state last changed.
    pub changed_at: Option<OffsetDateTime>,
}

impl Task {
    /// Whether it runs, should, and is not on its way out.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.state == TaskState::Running && self.is_live()
    }

    /// Whether it runs or may yet.
    #[must_use]
    pub fn is_live(&self) -> bool {
        // A task of a job is to complete: it is not being ended.
        let ending = self.desired.is_terminal() && self.desired != TaskState::Complete;
        !self.state.is_terminal() && !ending
    }

    /// Whether the manager took it off its node, which does not fit: no failure of its own. It does
    /// so with what is pending, too, whenever it hears of the node.
    pub(super) fn is_turned_away(&self) -> bool {
        self.state == TaskState::Rejected
            && self.error == "assigned node no longer meets constraints"
    }

    /// Which replica of a service of this mode it is; `None` where there is one task per node.
    ///
    /// The engine numbers the replicas of a service from 1 and those of a job from 0, and leaves
    /// a 0 out: what it says of a task alone does not tell the first of a job from one that
    /// belongs to a node.
    #[must_use]
    pub fn replica(&self, mode: ServiceMode) -> Option<u64> {
        match mode {
            ServiceMode::Replicated { .. } | ServiceMode::ReplicatedJob { .. } => {
                Some(self.slot.unwrap_or_default())
            }
            ServiceMode::Global | ServiceMode::GlobalJob => None,
        }
    }

    /// Reads a task from the engine's JSON.
    ///
    /// # Errors
    /// When it is not of the documented shape.
    pub fn from_json(value: Value) -> Result<Self, serde_json::Error> {
        Wire::deserialize(value).map(Self::from)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Wire {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "ServiceID", default, deserialize_with = "nullable")]
    service_id: String,
    #[serde(rename = "NodeID", default, deserialize_with = "nullable")]
    node_id: String,
    #[serde(default, deserialize_with = "nullable")]
    slot: u64,
    #[serde(default, deserialize_with = "instant")]
    created_at: Option<OffsetDateTime>,
    #[serde(default, deserialize_with = "nullable")]
    desired_state: String,
    #[serde(default, deserialize_with = "nullable")]
    status: Status,
    #[serde(default, deserialize_with = "nullable")]
    spec: Spec,
    job_iteration: Option<ObjectVersion>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Status {
    #[serde(default, deserialize_with = "instant")]
    timestamp: Option<OffsetDateTime>,
    #[serde(default, deserialize_with = "nullable")]
    state: String,
    #[serde(default, deserialize_with = "nullable")]
    message: String,
    #[serde(default, deserialize_with = "nullable")]
    err: String,
    container_status: Option<ContainerStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ContainerStatus {
    #[serde(rename = "ContainerID", default, deserialize_with = "nullable")]
    container_id: String,
    #[serde(default, deserialize_with = "nullable")]
    exit_code: i64,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Spec {
    #[serde(default, deserialize_with = "nullable")]
    container_spec: ContainerSpec,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ContainerSpec {
    #[serde(default, deserialize_with = "nullable")]
    image: String,
    #[serde(default, deserialize_with = "nullable")]
    labels: BTreeMap<String, String>,
}

impl From<Wire> for Task {
    fn from(wire: Wire) -> Self {
        let state = TaskState::parse(&wire.status.state);
        Self {
            id: wire.id,
            service_id: wire.service_id,
            node_id: Some(wire.node_id).filter(|id| !id.is_empty()),
            slot: Some(wire.slot).filter(|slot| *slot > 0),
            // The engine sends an exit code of 0 for a container that still runs, or never did:
            // only one of a container that ended says anything.
            exit_code: wire
                .status
                .container_status
                .filter(|status| {
                    !status.container_id.is_empty()
                        && matches!(
                            state,
                            TaskState::Complete | TaskState::Failed | TaskState::Shutdown
                        )
                })
                .map(|status| status.exit_code),
            state,
            desired: TaskState::parse(&wire.desired_state),
            error: wire.status.err,
            message: wire.status.message,
            image: wire.spec.container_spec.image,
            labels: wire.spec.container_spec.labels,
            job_iteration: wire.job_iteration.map_or(0, |iteration| iteration.index),
            created_at: wire.created_at,
            changed_at: wire.status.timestamp,
        }
    }
}

/// Tasks of removed services still run, or cannot be asked about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TasksRemain {
    /// They still run at the deadline.
    #[error(
        "{} of the removed services still run after {}: {}",
        if tasks.len() == 1 { "a task" } else { "tasks" },
        humantime::format_duration(*waited),
        tasks.join(", ")
    )]
    Running {
        /// The tasks, each with its node and state.
        tasks: Vec<String>,
        /// How long was waited.
        waited: Duration,
    },
    /// The engine could not be asked, or refused.
    #[error("a request about tasks failed")]
    Engine {
        /// How.
        #[from]
        source: EngineError,
    },
}

impl Engine {
    /// All tasks of a service that the swarm remembers, of whatever spec.
    ///
    /// # Errors
    /// [`EngineError`]; refused as not found once the service is gone.
    pub async fn tasks(
        &self,
        service_id: &str,
        deadline: Deadline,
    ) -> Result<Vec<Task>, EngineError> {
        let filter = filters([("service", service_id.to_owned())]);
        self.list_tasks(Some(filter), deadline).await
    }

    /// The tasks of these services that are of the services' current spec. The manager decides
    /// that: a task of a changed placement that its node still satisfies counts.
    pub(super) async fn current_tasks(
        &self,
        service_ids: impl IntoIterator<Item = &str>,
        deadline: Deadline,
    ) -> Result<Vec<Task>, EngineError> {
        let pairs = service_ids
            .into_iter()
            .map(|id| ("service", id.to_owned()))
            .chain([("_up-to-date", "true".to_owned())]);
        self.list_tasks(Some(filters(pairs)), deadline).await
    }

    async fn list_tasks(
        &self,
        filters: Option<String>,
        deadline: Deadline,
    ) -> Result<Vec<Task>, EngineError> {
        let mut call = Call::get(&["tasks"]);
        if let Some(filters) = filters {
            call = call.query("filters", &filters);
        }
        let wires: Option<Vec<Wire>> = self.fetch(call, deadline).await?;
        Ok(wires
            .unwrap_or_default()
            .into_iter()
            .map(Task::from)
            .collect())
    }

    /// The tasks whose containers have the label `key` with `value`, also those of services that
    /// are gone.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn labelled_tasks(
        &self,
        key: &str,
        value: &str,
        deadline: Deadline,
    ) -> Result<Vec<Task>, EngineError> {
        let mut tasks = self.list_tasks(None, deadline).await?;
        tasks.retain(|task| task.labels.get(key).is_some_and(|found| found == value));
        Ok(tasks)
    }

    /// Waits until no task of these (removed) services runs any more. Networks and volumes they
    /// used come free only then. Not waited for are tasks on nodes that are down, which the swarm
    /// takes for running until the node comes back: what they used comes free all the same. Gives
    /// the host names of those nodes.
    ///
    /// # Errors
    /// [`TasksRemain`].
    pub async fn await_tasks_gone(
        &self,
        service_ids: &[String],
        deadline: Deadline,
    ) -> Result<Vec<String>, TasksRemain> {
        let of_them = |task: &Task| service_ids.contains(&task.service_id);
        self.await_gone(of_them, deadline).await
    }

    /// As [`Engine::await_tasks_gone`], for tasks whose containers have the label `key` with
    /// `value`.
    ///
    /// # Errors
    /// [`TasksRemain`].
    pub async fn await_labelled_tasks_gone(
        &self,
        key: &str,
        value: &str,
        deadline: Deadline,
    ) -> Result<Vec<String>, TasksRemain> {
        let labelled = |task: &Task| task.labels.get(key).is_some_and(|found| found == value);
        self.await_gone(labelled, deadline).await
    }

    async fn await_gone(
        &self,
        of_them: impl Fn(&Task) -> bool,
        deadline: Deadline,
    ) -> Result<Vec<String>, TasksRemain> {
        let mut left = Vec::new();
        loop {
            match self.remaining(&of_them, deadline).await {
                Ok((running, lost)) if running.is_empty() => {
                    return Ok(lost.into_iter().collect());
                }
                Ok((running, _)) => left = running,
                Err(error) if error.is_transient() && !deadline.is_over() => {}
                Err(source) => return Err(source.into()),
            }
            if let Err(elapsed) = deadline.pause(POLL).await {
                return Err(TasksRemain::Running {
                    tasks: left,
                    waited: elapsed.allowed,
                });
            }
        }
    }

    /// The tasks that have not ended, in words, and the host names of the nodes that are down and
    /// were running others.
    async fn remaining(
        &self,
        of_them: &impl Fn(&Task) -> bool,
        deadline: Deadline,
    ) -> Result<(Vec<String>, BTreeSet<String>), EngineError> {
        // Without a filter: one that names a removed service is refused as not found.
        let mut tasks = self.list_tasks(None, deadline).await?;
        tasks.retain(|task| of_them(task) && !task.state.is_terminal());
        let (mut running, mut lost) = (Vec::new(), BTreeSet::new());
        if tasks.is_empty() {
            return Ok((running, lost));
        }
        let nodes = self.nodes(deadline).await?;
        for task in tasks {
            let id = task.node_id.as_deref();
            match nodes.iter().find(|node| Some(node.id.as_str()) == id) {
                Some(node) if node.is_down() => {
                    lost.insert(node.hostname.clone());
                }
                node => {
                    let node = node.map(|node| node.hostname.as_str());
                    let node = node.or(id).unwrap_or("no node");
                    running.push(format!("{} on {node} ({})", task.id, task.state));
                }
            }
        }
        Ok((running, lost))
    }
}
