//! Stacks on a swarm: what differs, brought about, watched, looked at, taken back and removed.
//!
//! A [`Deployment`] is a compose file for one swarm. [`Deployment::plan`] looks and says what
//! differs; [`Deployment::apply`] brings it about and says how every service ended.
//!
//! ```no_run
//! use std::path::Path;
//! use std::time::Duration;
//!
//! use phoenix_core::deploy::{DeployOptions, Deployment};
//! use phoenix_core::docker::Engine;
//! use phoenix_core::ground::Deadline;
//! use phoenix_core::stack::{ComposeFile, LoadOptions};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let file = ComposeFile::load(Path::new("shop.yml"), "shop", &LoadOptions::default())?;
//! let engine = Engine::unix("/run/docker.sock");
//! let deployment = Deployment::new(&engine, &file, DeployOptions::default());
//! let done = deployment
//!     .apply(Deadline::after(Duration::from_secs(300)), &mut |_| ())
//!     .await?;
//! assert!(done.is_success());
//! # Ok(())
//! # }
//! ```
//!
//! Invariants:
//!
//! * Planning sends no write request and waits for nothing.
//! * What does not differ is not written: the status of the last update, the previous spec and
//!   the runs of jobs survive.
//! * A service is as declared only when the spec that was sent is the one that runs; a rollback is
//!   a failure, and is remembered by a label of the service.
//! * A write that may have run is never repeated without looking: services by their versions,
//!   everything else by its name.
//! * Secrets and configs are never changed and never removed while a service refers to them.
//! * The content of a secret stands in no plan, event or error.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod apply;
mod attempt;
mod compare;
mod credentials;
mod error;
mod leftovers;
mod outcome;
mod plan;
mod removal;
mod rollback;
mod rollout;
mod standing;
#[cfg(test)]
mod tests;
mod versions;
mod write;

use std::collections::BTreeMap;
use std::time::Duration;

pub use apply::{DeployEvent, Deployed};
pub use credentials::{Credentials, CredentialsError};
pub use error::DeployError;
pub use outcome::{OutcomeKind, ServiceOutcome};
pub use plan::{
    Change, Missing, MissingKind, ObjectAction, ObjectPlan, Removal, RolledBack, ServiceAction,
    ServicePlan, StackPlan, Taken, Verb,
};
pub use removal::{NodeEngine, Removed, UnreachedNode, remove};
pub use rollback::rollback;
pub use standing::{
    ServiceStanding, StackLine, StackSummary, TaskStanding, follow_logs, list, logs, services,
    tasks,
};

use crate::docker::{Engine, NetworkObserved, RegistryAuth};
use crate::ground::{Deadline, FingerprintKey};
use crate::stack::{ComposeFile, Image, ResolvedObject, STACK_LABEL};

/// The label of a secret or config with its logical name: versions of one share it.
pub const LOGICAL_LABEL: &str = "phoenix.logical";
/// The beginning of the label of a secret with the keyed fingerprint of its content. What follows
/// says under which key.
pub const FINGERPRINT_LABEL: &str = "phoenix.fingerprint";
/// The label of a service with the digest of the spec that was last written over it, where the
/// engine may take that back.
pub const ATTEMPT_LABEL: &str = "phoenix.attempted";

/// Whether what has these labels belongs to `stack`.
fn belongs_to(labels: &BTreeMap<String, String>, stack: &str) -> bool {
    labels.get(STACK_LABEL).is_some_and(|found| found == stack)
}

/// Whether a network is one of the swarm's that belongs to `stack`.
fn is_network_of(network: &NetworkObserved, stack: &str) -> bool {
    network.scope == "swarm" && belongs_to(&network.labels, stack)
}

/// When registries are asked for the digests of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ResolveImages {
    /// Always: a tag that moved is deployed.
    #[default]
    Always,
    /// When the image in the file is another one than when the service was written.
    Changed,
    /// Never.
    Never,
}

/// How a stack is deployed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DeployOptions {
    /// External secrets that are known by other names than the file's, by the file's.
    pub secrets: BTreeMap<String, ResolvedObject>,
    /// Labels added to services: by the service's key, or `*` for all.
    pub service_labels: BTreeMap<String, BTreeMap<String, String>>,
    /// Labels added to the secrets and configs that the stack makes.
    pub object_labels: BTreeMap<String, String>,
    /// The key under which the contents of secrets are recognised. Without one every secret is
    /// compared by the engine, which takes a write each time.
    pub key: Option<FingerprintKey>,
    /// Credentials for registries, for asking them and for the nodes, which get them with the
    /// service. Without any none are sent, and nodes keep those they have.
    pub credentials: Option<Credentials>,
    /// When registries are asked for digests.
    pub resolve: ResolveImages,
    /// How many versions of a secret or config are kept beside the current one, so that a
    /// rollback finds those it refers to. Default 1.
    pub keep: usize,
    /// Whether services, networks, secrets and configs of the stack that are not in the file are
    /// removed.
    pub prune: bool,
    /// Whether a spec that was rolled back is written once more, and one whose update the engine
    /// paused, for it to go on.
    pub retry_rolled_back: bool,
    /// How many of a failed task's last lines are fetched. Default none.
    pub log_lines: u32,
    /// How long one request may take. Default 20 s.
    pub request: Duration,
    /// How long a registry may take to tell a digest. Default 10 s.
    pub registry: Duration,
}

impl Default for DeployOptions {
    fn default() -> Self {
        Self {
            secrets: BTreeMap::new(),
            service_labels: BTreeMap::new(),
            object_labels: BTreeMap::new(),
            key: None,
            credentials: None,
            resolve: ResolveImages::Always,
            keep: 1,
            prune: false,
            retry_rolled_back: false,
            log_lines: 0,
            request: Duration::from_secs(20),
            registry: Duration::from_secs(10),
        }
    }
}

/// A compose file for a swarm.
#[derive(Debug, Clone)]
pub struct Deployment<'a> {
    engine: &'a Engine,
    file: &'a ComposeFile,
    options: DeployOptions,
}

impl<'a> Deployment<'a> {
    /// `file` for the swarm that `engine` manages.
    #[must_use]
    pub fn new(engine: &'a Engine, file: &'a ComposeFile, options: DeployOptions) -> Self {
        Self {
            engine,
            file,
            options,
        }
    }

    /// The credentials for the registry of `image`.
    fn auth(&self, image: &Image) -> Result<Option<&RegistryAuth>, DeployError> {
        match &self.options.credentials {
            Some(credentials) => Ok(credentials.of(image)?),
            None => Ok(None),
        }
    }

    fn request(&self) -> Deadline {
        Deadline::after(self.options.request)
    }
}
