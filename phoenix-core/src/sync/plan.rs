//! What differs between the declared and the observed site, and why.

use serde::Serialize;

use super::{Failure, ResourceId};

/// What a sync would do, in an order that the dependencies allow.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Plan {
    /// The site's name.
    pub site: String,
    /// One entry for every resource.
    pub steps: Vec<PlannedStep>,
    /// Worth knowing, without effect on the outcome.
    pub warnings: Vec<String>,
}

impl Plan {
    /// A plan of `steps`, without warnings.
    pub fn new(site: impl Into<String>, steps: Vec<PlannedStep>) -> Self {
        Self {
            site: site.into(),
            steps,
            warnings: Vec::new(),
        }
    }

    /// Whether any step would change something.
    #[must_use]
    pub fn has_changes(&self) -> bool {
        self.steps
            .iter()
            .any(|step| matches!(step.action, PlannedAction::Change { .. }))
    }

    /// The failures met while observing.
    pub fn failures(&self) -> impl Iterator<Item = &Failure> {
        self.steps.iter().filter_map(|step| match &step.action {
            PlannedAction::Failed { failure } => Some(failure),
            _ => None,
        })
    }

    /// The planned step of `id`.
    #[must_use]
    pub fn step(&self, id: &ResourceId) -> Option<&PlannedStep> {
        self.steps.iter().find(|step| step.step == *id)
    }
}

/// What would be done about one resource.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct PlannedStep {
    /// The resource.
    pub step: ResourceId,
    /// What it needs first.
    pub needs: Vec<ResourceId>,
    /// What would be done.
    #[serde(flatten)]
    pub action: PlannedAction,
}

impl PlannedStep {
    /// What would be done about `step`.
    #[must_use]
    pub fn new(step: ResourceId, needs: Vec<ResourceId>, action: PlannedAction) -> Self {
        Self {
            step,
            needs,
            action,
        }
    }
}

/// What would be done about a resource.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum PlannedAction {
    /// It is as declared.
    Unchanged {
        /// How that is known.
        evidence: String,
    },
    /// It differs.
    Change {
        /// What would be done, in order.
        changes: Vec<Change>,
        /// It could not be observed yet: it will be, once this has been done.
        #[serde(skip_serializing_if = "Option::is_none")]
        after: Option<ResourceId>,
    },
    /// It could not be observed, and not because of another step.
    Failed {
        /// Why.
        failure: Failure,
    },
    /// It was not observed because something it needs failed.
    Blocked {
        /// What failed.
        by: ResourceId,
    },
}

/// One thing that would be done, or was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Change {
    /// The kind of change.
    pub verb: Verb,
    /// What is changed, in words: `server certificate`, `secret web_key as web_key.1f…`.
    pub what: String,
    /// Why, one reason each.
    pub why: Vec<String>,
    /// Whether it interrupts something that runs, such as a daemon's restart.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub disruptive: bool,
}

impl Change {
    /// A change that interrupts nothing.
    pub fn new(verb: Verb, what: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            verb,
            what: what.into(),
            why: vec![why.into()],
            disruptive: false,
        }
    }

    /// A change with several reasons, which are shown as they are displayed.
    pub fn because(
        verb: Verb,
        what: impl Into<String>,
        why: impl IntoIterator<Item = impl ToString>,
    ) -> Self {
        Self {
            verb,
            what: what.into(),
            why: why.into_iter().map(|reason| reason.to_string()).collect(),
            disruptive: false,
        }
    }

    /// The same change, marked as interrupting something that runs.
    #[must_use]
    pub fn disruptive(mut self) -> Self {
        self.disruptive = true;
        self
    }
}

/// Kinds of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Verb {
    /// Made anew.
    Create,
    /// Changed in place.
    Update,
    /// A certificate is issued.
    Issue,
    /// A file is placed in a guest.
    Deliver,
    /// A reload command is run.
    Reload,
    /// A daemon is restarted.
    Restart,
    /// A node joins the swarm.
    Join,
    /// Something is taken away.
    Remove,
    /// Something is waited for, and nothing written.
    Await,
}

impl std::fmt::Display for Verb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Issue => "issue",
            Self::Deliver => "deliver",
            Self::Reload => "reload",
            Self::Restart => "restart",
            Self::Join => "join",
            Self::Remove => "remove",
            Self::Await => "await",
        })
    }
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.verb, self.what)?;
        if !self.why.is_empty() {
            write!(f, " ({})", self.why.join("; "))?;
        }
        if self.disruptive {
            f.write_str(" [disruptive]")?;
        }
        Ok(())
    }
}

/// A number with its noun: `1 task`, `2 tasks`.
pub(super) fn counted<N: std::fmt::Display + PartialEq + From<u8>>(count: N, noun: &str) -> String {
    let plural = if count == N::from(1) { "" } else { "s" };
    format!("{count} {noun}{plural}")
}
