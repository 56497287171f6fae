//! What the engine asks of every resource: look without touching, act, look again.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::record::Recorder;
use super::{Change, Failure, ResourceId};

/// One resource of a site.
#[async_trait]
pub(super) trait Step: Send + Sync {
    /// Looks at the resource. It reads only, waits for nothing, and leaves no trace.
    async fn observe(&self, view: &View) -> Result<Observation, Failure>;

    /// Makes the resource as declared. What it needs is as declared already.
    async fn apply(&self, progress: &Progress) -> Result<(), Failure>;

    /// The resources through which this one is seen: while any of them cannot be used yet, a
    /// plan shows [`Step::unobserved`].
    fn seen_through(&self) -> Vec<ResourceId> {
        Vec::new()
    }

    /// What probably has to be done, when the resource cannot be seen yet.
    fn unobserved(&self) -> Vec<Change>;
}

/// What was seen of a resource.
#[derive(Debug, Clone, Default)]
pub(super) struct Observation {
    /// What differs; nothing when the resource is as declared.
    pub(super) changes: Vec<Change>,
    /// How it is known to be as declared.
    pub(super) evidence: String,
    /// Worth knowing.
    pub(super) warnings: Vec<String>,
    /// Although something differs, what is seen through this resource can be seen already.
    pub(super) usable: bool,
}

impl Observation {
    pub(super) fn converged(evidence: impl Into<String>) -> Self {
        Self {
            evidence: evidence.into(),
            usable: true,
            ..Self::default()
        }
    }

    pub(super) fn differs(changes: Vec<Change>) -> Self {
        Self {
            changes,
            ..Self::default()
        }
    }

    /// As declared when there are no `changes`, known by `evidence`.
    pub(super) fn of(changes: Vec<Change>, evidence: impl Into<String>) -> Self {
        if changes.is_empty() {
            Self::converged(evidence)
        } else {
            Self::differs(changes)
        }
    }

    pub(super) fn usable(mut self) -> Self {
        self.usable = true;
        self
    }

    pub(super) fn warn(mut self, warnings: Vec<String>) -> Self {
        self.warnings.extend(warnings);
        self
    }
}

/// What a step may know of the steps that it needs while a plan is made. While a sync applies,
/// all of them have been done already, and it is empty.
#[derive(Debug, Clone, Default)]
pub(super) struct View {
    pub(super) pending: BTreeMap<ResourceId, Vec<Change>>,
}

impl View {
    /// What is going to be done about `id`, which the step needs directly; nothing when it is as
    /// declared or done already.
    pub(super) fn pending(&self, id: &ResourceId) -> Option<&[Change]> {
        self.pending.get(id).map(Vec::as_slice)
    }
}

/// With which a step says what it does.
#[derive(Clone)]
pub(super) struct Progress {
    pub(super) step: ResourceId,
    pub(super) recorder: Arc<Recorder>,
}

impl Progress {
    /// Says what is being done or waited for.
    pub(super) fn say(&self, message: impl Into<String>) {
        self.recorder.progress(&self.step, message.into());
    }

    /// Says what has been changed.
    pub(super) fn changed(&self, change: Change) {
        self.recorder.changed(&self.step, change);
    }
}
