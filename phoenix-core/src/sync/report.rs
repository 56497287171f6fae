//! How a run ended, and what the site looks like.

use serde::Serialize;
use time::OffsetDateTime;

use super::{Failure, FailureClass, ResourceId};

/// How a run ended.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The site's name.
    pub site: String,
    /// The outcome as a whole.
    pub outcome: RunOutcome,
    /// How many steps changed something.
    pub changed: usize,
    /// Every step, in an order that the dependencies allow.
    pub steps: Vec<StepReport>,
    /// What was verified at the end, each with its evidence.
    pub checks: Vec<Check>,
    /// Worth knowing, without effect on the outcome.
    pub warnings: Vec<String>,
    /// How long the run took, in milliseconds.
    pub elapsed_ms: u64,
}

impl Report {
    /// A report of `steps`, without checks and warnings; the outcome and the number of changes
    /// follow from the steps.
    pub fn new(site: impl Into<String>, steps: Vec<StepReport>, elapsed_ms: u64) -> Self {
        Self {
            site: site.into(),
            outcome: RunOutcome::of(steps.iter().filter_map(|step| step.failure.as_ref())),
            changed: steps
                .iter()
                .filter(|step| step.outcome == StepOutcome::Changed)
                .count(),
            steps,
            checks: Vec::new(),
            warnings: Vec::new(),
            elapsed_ms,
        }
    }
}

/// The outcome of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RunOutcome {
    /// Everything is as declared.
    Converged,
    /// Something failed.
    Failed,
    /// Something failed, and only because targets could not be reached or did not answer in time.
    Unreachable,
}

impl RunOutcome {
    /// The outcome of a run with these failures.
    pub fn of<'a>(failures: impl IntoIterator<Item = &'a Failure>) -> Self {
        let mut outcome = Self::Converged;
        for failure in failures {
            match failure.class {
                FailureClass::Failed => return Self::Failed,
                FailureClass::Unreachable => outcome = Self::Unreachable,
            }
        }
        outcome
    }
}

/// How one step ended.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct StepReport {
    /// The step.
    pub step: ResourceId,
    /// How it ended.
    pub outcome: StepOutcome,
    /// How it is known to be as declared, when it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
    /// Why it failed, when it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// How long it took, in milliseconds.
    pub elapsed_ms: u64,
}

impl StepReport {
    /// A step that ended as `outcome`, without evidence and failure.
    #[must_use]
    pub fn new(step: ResourceId, outcome: StepOutcome, elapsed_ms: u64) -> Self {
        Self {
            step,
            outcome,
            evidence: None,
            failure: None,
            elapsed_ms,
        }
    }
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum StepOutcome {
    /// It was as declared.
    Unchanged,
    /// It was changed, and is now as declared.
    Changed,
    /// It failed.
    Failed,
    /// It was not begun because this step, which it needs, failed.
    Skipped {
        /// The step that failed.
        because_of: ResourceId,
    },
}

/// Something verified at the end of a run.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Check {
    /// What is claimed.
    pub statement: String,
    /// Whether it holds.
    pub holds: bool,
    /// How that is known.
    pub evidence: String,
}

impl Check {
    /// A statement that `holds` or not, known by `evidence`.
    pub fn new(statement: impl Into<String>, holds: bool, evidence: impl Into<String>) -> Self {
        Self {
            statement: statement.into(),
            holds,
            evidence: evidence.into(),
        }
    }
}

/// What a site looks like now.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct Status {
    /// The site's name.
    pub site: String,
    /// Its swarm nodes.
    pub nodes: Vec<NodeStatus>,
    /// Its services.
    pub services: Vec<ServiceStatus>,
    /// Its certificates, those of Docker daemons and Phoenix's own among them.
    pub certificates: Vec<CertificateStatus>,
    /// What could not be looked at.
    pub failures: Vec<Failure>,
}

/// A node of the swarm.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct NodeStatus {
    /// The guest's name, or the host name of a node that is not declared.
    pub name: String,
    /// `manager (leader)`, `manager`, `worker`.
    pub role: String,
    /// `ready`, `down`, `not joined`, `unreachable`, …
    pub state: String,
    /// `active`, `pause`, `drain`.
    pub availability: String,
    /// Version of its engine.
    pub engine: String,
    /// Its address.
    pub address: String,
    /// Whether it is as a converged site's would be.
    pub healthy: bool,
}

/// A service of a declared stack.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct ServiceStatus {
    /// The stack's name.
    pub stack: String,
    /// The service's full name.
    pub name: String,
    /// Its image, with tag and without digest.
    pub image: String,
    /// `2/2`; for jobs the completed ones.
    pub replicas: String,
    /// `converged`, `rolled back: …`, `crashing: …`, `missing`, …
    pub state: String,
    /// Whether it has converged.
    pub healthy: bool,
}

/// A certificate of the site.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct CertificateStatus {
    /// Its declared name; `docker/GUEST` for a managed daemon's, and `phoenix/docker-client` for
    /// the one that Phoenix shows to those.
    pub name: String,
    /// `server`, `client` or `peer`.
    pub profile: String,
    /// The declared name of its issuer; `ca` for the site's own.
    pub issuer: String,
    /// Its subject alternative names.
    pub sans: Vec<String>,
    /// Its serial number in hexadecimal digits; absent when it was never issued.
    pub serial: Option<String>,
    /// When it, or one above it, ends; absent when it was never issued.
    #[serde(with = "time::serde::rfc3339::option")]
    pub not_after: Option<OffsetDateTime>,
    /// Whole days left, negative once expired.
    pub days_left: Option<i64>,
    /// When its renewal is due; absent when it was never issued.
    #[serde(with = "time::serde::rfc3339::option")]
    pub due: Option<OffsetDateTime>,
    /// Where it is delivered to.
    pub delivered_to: Vec<String>,
    /// `valid`, or why it is to be renewed or reloaded.
    pub state: String,
    /// Whether it is valid and in place.
    pub healthy: bool,
}
