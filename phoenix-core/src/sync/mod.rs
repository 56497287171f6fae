//! Takes a site to what was declared: the dependency graph, plan, apply, events and report.
//!
//! A [`Session`] holds one site. [`Session::plan`] only reads. [`Session::sync`] applies along
//! the graph: a step starts when everything it needs has ended well, observes, acts where
//! something differs, observes again, and has converged only when nothing differs any more. A
//! failed step fails the run and blocks what needs it, and nothing else.

mod context;
mod dns_hook;
mod event;
mod explain;
mod failure;
mod graph;
mod issuers;
mod needs;
mod plan;
mod record;
mod renew;
mod report;
mod resource;
mod run;
mod session;
mod state;
mod status;
mod step;
mod steps;
mod verify;
mod watch;

pub use context::{Inputs, OpenError};
pub use event::{Event, EventSink, FORMAT_VERSION, Record};
pub use failure::{Failure, FailureClass, ProgramEnd};
pub use graph::{Cycle, Graph};
pub use plan::{Change, Plan, PlannedAction, PlannedStep, Verb};
pub use renew::{RenewOptions, UnknownCertificate};
pub use report::{
    CertificateStatus, Check, NodeStatus, Report, RunOutcome, ServiceStatus, Status, StepOutcome,
    StepReport,
};
pub use resource::ResourceId;
pub use session::{RenewError, Session, SiteLock, SyncError, SyncOptions};
pub use watch::Watch;
