//! How a wait for a service ended.

use std::fmt;
use std::time::Duration;

use super::judge::{TaskFailure, Verdict};

/// How a wait for a service ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// All its tasks run, of the spec that was wanted.
    Converged {
        /// How many.
        tasks: u64,
    },
    /// All its tasks have ended well, and none is to follow: a job, or a service whose tasks are
    /// not restarted.
    Completed {
        /// How many.
        tasks: u64,
    },
    /// The engine restored (or, at the deadline, was restoring) the previous spec.
    RolledBack {
        /// The engine's words.
        message: String,
        /// The task whose failure made it.
        cause: Option<TaskFailure>,
    },
    /// The engine stopped the update after a failure.
    Paused {
        /// The engine's words.
        message: String,
        /// The task whose failure made it.
        cause: Option<TaskFailure>,
    },
    /// The engine stopped a rollback after a failure.
    RollbackPaused {
        /// The engine's words.
        message: String,
        /// The task whose failure made it.
        cause: Option<TaskFailure>,
    },
    /// No node can take a task.
    Unschedulable {
        /// Why.
        reason: String,
    },
    /// Tasks keep ending.
    Crashing {
        /// How many of one replica failed.
        failures: u64,
        /// The last one.
        last: TaskFailure,
    },
    /// A node cannot get the image.
    ImageMissing {
        /// The last task that failed for it.
        last: TaskFailure,
    },
    /// None of these by the deadline.
    TimedOut {
        /// How long was waited.
        waited: Duration,
        /// What was still missing.
        detail: String,
    },
    /// Somebody else wrote another spec.
    Replaced,
    /// Somebody else removed it.
    Gone,
}

impl Outcome {
    /// Whether the service is as wanted.
    #[must_use]
    pub fn is_converged(&self) -> bool {
        matches!(self, Self::Converged { .. } | Self::Completed { .. })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = |f: &mut fmt::Formatter<'_>, what: &str, message: &str, cause: &Option<_>| {
            // The engine's words often begin with the same.
            if message.starts_with(what) {
                f.write_str(message)?;
            } else if message.is_empty() {
                f.write_str(what)?;
            } else {
                write!(f, "{what} ({message})")?;
            }
            match cause {
                Some(cause) => write!(f, ": {cause}"),
                None => Ok(()),
            }
        };
        match self {
            Self::Converged { tasks: 1 } => f.write_str("converged, 1 task"),
            Self::Converged { tasks } => write!(f, "converged, {tasks} tasks"),
            Self::Completed { tasks: 1 } => f.write_str("completed, 1 task"),
            Self::Completed { tasks } => write!(f, "completed, {tasks} tasks"),
            Self::RolledBack { message, cause } => words(f, "rolled back", message, cause),
            Self::Paused { message, cause } => words(f, "update paused", message, cause),
            Self::RollbackPaused { message, cause } => words(f, "rollback paused", message, cause),
            Self::Unschedulable { reason } => write!(f, "unschedulable: {reason}"),
            Self::Crashing { failures: 1, last } => write!(f, "crashed: {last}"),
            Self::Crashing { failures, last } => write!(f, "crashed {failures} times: {last}"),
            Self::ImageMissing { last } => write!(f, "image {} is missing: {last}", last.image),
            Self::TimedOut { waited, detail } => write!(
                f,
                "not converged after {}: {detail}",
                humantime::format_duration(rounded(*waited))
            ),
            Self::Replaced => f.write_str("another spec was written meanwhile"),
            Self::Gone => f.write_str("removed meanwhile"),
        }
    }
}

/// To whole seconds, or milliseconds where there is none.
fn rounded(time: Duration) -> Duration {
    match time.as_secs() {
        0 => Duration::from_millis(u64::from(time.subsec_millis()).max(1)),
        seconds => Duration::from_secs(seconds),
    }
}

/// The outcome of a wait that ends with `verdict`, after `waited` when it is the deadline that
/// ends it.
pub(super) fn outcome(verdict: Verdict, waited: Duration) -> Outcome {
    match verdict {
        Verdict::Converged { .. } | Verdict::Completed { .. } if !waited.is_zero() => {
            Outcome::TimedOut {
                waited,
                detail: "all tasks run, but not for long enough yet".to_owned(),
            }
        }
        Verdict::Converged { tasks } => Outcome::Converged { tasks },
        Verdict::Completed { tasks } => Outcome::Completed { tasks },
        Verdict::Progressing { detail, .. } => Outcome::TimedOut { waited, detail },
        Verdict::RollingBack { message } | Verdict::RolledBack { message } => Outcome::RolledBack {
            message,
            cause: None,
        },
        Verdict::Paused { message } => Outcome::Paused {
            message,
            cause: None,
        },
        Verdict::RollbackPaused { message } => Outcome::RollbackPaused {
            message,
            cause: None,
        },
        Verdict::Unschedulable { reason } => Outcome::Unschedulable { reason },
        Verdict::Crashing { failures, last, .. } => Outcome::Crashing { failures, last },
        Verdict::ImageMissing { last, .. } => Outcome::ImageMissing { last },
        Verdict::Replaced => Outcome::Replaced,
        Verdict::Gone => Outcome::Gone,
    }
}
