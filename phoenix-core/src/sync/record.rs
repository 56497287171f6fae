//! Numbers the events of a run, hands them on, and keeps the journal.

use std::fs::File;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use time::OffsetDateTime;

use super::{Change, Event, EventSink, Record, ResourceId};

/// Numbers events and passes them to the sink and the journal, one at a time.
pub(super) struct Recorder {
    sink: Arc<dyn EventSink>,
    inner: Mutex<Inner>,
}

struct Inner {
    next: u64,
    journal: Option<File>,
    milestones: Vec<Milestone>,
}

/// What the order of events is later judged by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Milestone {
    /// A step ended as declared.
    Ready(u64, ResourceId),
    /// A step changed something.
    Changed(u64, ResourceId, Change),
}

impl Recorder {
    pub(super) fn new(sink: Arc<dyn EventSink>, journal: Option<File>) -> Self {
        Self {
            sink,
            inner: Mutex::new(Inner {
                next: 0,
                journal,
                milestones: Vec::new(),
            }),
        }
    }

    pub(super) fn emit(&self, event: Event) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let sequence = inner.next;
        inner.next += 1;
        match &event {
            Event::StepFinished {
                step,
                failure: None,
                outcome: super::StepOutcome::Changed | super::StepOutcome::Unchanged,
                ..
            } => inner
                .milestones
                .push(Milestone::Ready(sequence, step.clone())),
            Event::Changed { step, change } => {
                inner
                    .milestones
                    .push(Milestone::Changed(sequence, step.clone(), change.clone()))
            }
            _ => {}
        }
        let record = Record {
            sequence,
            at: OffsetDateTime::now_utc(),
            event,
        };
        if let Some(journal) = &mut inner.journal
            && let Err(error) = write_line(journal, &record)
        {
            tracing::warn!(%error, "the journal cannot be written any more");
            inner.journal = None;
        }
        self.sink.record(&record);
    }

    pub(super) fn progress(&self, step: &ResourceId, message: String) {
        self.emit(Event::StepProgress {
            step: step.clone(),
            message,
        });
    }

    pub(super) fn changed(&self, step: &ResourceId, change: Change) {
        self.emit(Event::Changed {
            step: step.clone(),
            change,
        });
    }

    pub(super) fn milestones(&self) -> Vec<Milestone> {
        self.inner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .milestones
            .clone()
    }
}

fn write_line(journal: &mut File, record: &Record) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(record)?;
    line.push(b'\n');
    journal.write_all(&line)
}
