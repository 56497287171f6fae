//! What happens during a sync, as it happens.

use serde::Serialize;
use time::OffsetDateTime;

use super::{Change, Failure, Plan, Report, ResourceId, StepOutcome};

/// The version of the form of [`Record`] in JSON. It grows when a reader would have to change.
pub const FORMAT_VERSION: u32 = 1;

/// An event with its place in the run.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Record {
    /// Grows by one with every event of a run, from 0.
    pub sequence: u64,
    /// When it happened (UTC, RFC 3339 in JSON).
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

impl Record {
    /// The event number `sequence` of a run, which happened `at`.
    #[must_use]
    pub fn new(sequence: u64, at: OffsetDateTime, event: Event) -> Self {
        Self {
            sequence,
            at,
            event,
        }
    }
}

/// Something that happened during a run.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Event {
    /// The first event of every run.
    Started {
        /// [`FORMAT_VERSION`].
        format: u32,
        /// The site's name.
        site: String,
        /// The version of Phoenix.
        version: &'static str,
        /// Whether anything may be changed.
        dry_run: bool,
    },
    /// Observing has ended.
    Planned {
        /// What is to be done.
        plan: Plan,
    },
    /// A step has begun to act.
    StepStarted {
        /// The step.
        step: ResourceId,
        /// What it is about to do.
        changes: Vec<Change>,
    },
    /// A step says what it is doing.
    StepProgress {
        /// The step.
        step: ResourceId,
        /// What it is doing or waiting for.
        message: String,
    },
    /// A change has been made.
    Changed {
        /// The step.
        step: ResourceId,
        /// What has been changed.
        change: Change,
    },
    /// A step has ended.
    StepFinished {
        /// The step.
        step: ResourceId,
        /// How.
        outcome: StepOutcome,
        /// How long it took, in milliseconds.
        elapsed_ms: u64,
        /// How it is known to be as declared, when it is.
        #[serde(skip_serializing_if = "Option::is_none")]
        evidence: Option<String>,
        /// Why it failed, when it did.
        #[serde(skip_serializing_if = "Option::is_none")]
        failure: Option<Failure>,
    },
    /// The last event of every run that was not interrupted.
    Finished {
        /// How it went.
        report: Report,
    },
}

/// Takes the events of a run. It is called from several tasks, one event at a time, and must
/// not block for long.
pub trait EventSink: Send + Sync {
    /// Takes one event.
    fn record(&self, record: &Record);
}

impl<F: Fn(&Record) + Send + Sync> EventSink for F {
    fn record(&self, record: &Record) {
        self(record);
    }
}
