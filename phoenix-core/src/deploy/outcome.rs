//! How a service of a deployment ended.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::docker::{Outcome, TaskFailure};

/// How a service ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ServiceOutcome {
    /// Its real name.
    pub service: String,
    /// Of which kind.
    #[serde(rename = "outcome")]
    pub kind: OutcomeKind,
    /// In words, without the service's name.
    pub text: String,
    /// The exit code of the task that failed, where one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// The host name of the node that it failed on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The last lines of that task, where they were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
    #[serde(skip)]
    pub(super) task: Option<String>,
}

/// The ways in which a service can end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum OutcomeKind {
    /// All its tasks run, of the declared spec, and have for the monitor time.
    Converged,
    /// All its tasks have ended well: a job, or a service whose tasks are not restarted.
    Completed,
    /// The engine restored the previous spec, now or before.
    RolledBack,
    /// The engine stopped the update, or a rollback, after a failure.
    Paused,
    /// No node can take a task.
    Unschedulable,
    /// Tasks keep ending.
    CrashLoop,
    /// A node cannot get the image.
    ImageMissing,
    /// A job's task failed, and no other is tried, or it has failed too often.
    JobFailed,
    /// None of these by the deadline.
    TimedOut,
    /// The engine refused what was written.
    Refused,
    /// The engine did not answer when it was written, or cannot tell how it stands.
    Unanswered,
    /// Nothing was done: a service that it depends on did not converge.
    Blocked,
    /// Somebody else wrote another spec, or removed it.
    Replaced,
}

impl OutcomeKind {
    /// Whether the service is as declared.
    #[must_use]
    pub fn is_success(self) -> bool {
        matches!(self, Self::Converged | Self::Completed)
    }
}

impl fmt::Display for OutcomeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Converged => "converged",
            Self::Completed => "completed",
            Self::RolledBack => "rolled back",
            Self::Paused => "paused",
            Self::Unschedulable => "unschedulable",
            Self::CrashLoop => "crash loop",
            Self::ImageMissing => "image missing",
            Self::JobFailed => "job failed",
            Self::TimedOut => "timed out",
            Self::Refused => "refused",
            Self::Unanswered => "unanswered",
            Self::Blocked => "blocked",
            Self::Replaced => "replaced",
        })
    }
}

impl fmt::Display for ServiceOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "service {} {}", self.service, self.text)
    }
}

impl ServiceOutcome {
    pub(super) fn new(service: &str, kind: OutcomeKind, text: impl Into<String>) -> Self {
        Self {
            service: service.to_owned(),
            kind,
            text: text.into(),
            exit_code: None,
            node: None,
            log: Vec::new(),
            task: None,
        }
    }

    /// How a wait for `service` ended; `job`: whether its tasks run to completion.
    pub(super) fn of(service: &str, outcome: &Outcome, job: bool) -> Self {
        let (kind, task) = match outcome {
            Outcome::Converged { .. } => (OutcomeKind::Converged, None),
            Outcome::Completed { .. } => (OutcomeKind::Completed, None),
            Outcome::RolledBack { cause, .. } => (OutcomeKind::RolledBack, cause.as_ref()),
            Outcome::Paused { cause, .. } | Outcome::RollbackPaused { cause, .. } => {
                (OutcomeKind::Paused, cause.as_ref())
            }
            Outcome::Unschedulable { .. } => (OutcomeKind::Unschedulable, None),
            Outcome::Crashing { last, .. } if job => (OutcomeKind::JobFailed, Some(last)),
            Outcome::Crashing { last, .. } => (OutcomeKind::CrashLoop, Some(last)),
            Outcome::ImageMissing { last } => (OutcomeKind::ImageMissing, Some(last)),
            Outcome::TimedOut { .. } => (OutcomeKind::TimedOut, None),
            Outcome::Replaced | Outcome::Gone => (OutcomeKind::Replaced, None),
        };
        let mut text = outcome.to_string();
        if kind == OutcomeKind::JobFailed {
            text = format!("job failed: {text}");
        }
        Self::new(service, kind, text).failed(task)
    }

    /// With what is known of the task that failed.
    pub(super) fn failed(mut self, task: Option<&TaskFailure>) -> Self {
        if let Some(task) = task {
            self.exit_code = task.exit_code;
            self.node = Some(task.node.clone()).filter(|node| !node.is_empty());
            self.task = Some(task.id.clone());
        }
        self
    }
}
