//! Docker engines and the swarm they form: connecting, observing, changing, waiting.
//!
//! An [`Engine`] is one daemon, reached over a unix socket or over TCP with mutual TLS, or a swarm
//! behind [any of several](Engine::any_of). Its methods are the room: swarm, nodes, networks,
//! volumes, secrets and configs, services, tasks.
//!
//! What holds throughout:
//!
//! * Every call takes a [`Deadline`](crate::ground::Deadline). Observing asks once and never
//!   waits; only functions named `await_…` and the removals that say so wait.
//! * [`EngineError`] says whether a request was not delivered, refused, or sent without an
//!   answer. A write that may have run is never repeated without looking first.
//! * Services, nodes and swarm settings are replaced as a whole by the engine, so they are read
//!   and written back as the JSON the engine gave: fields unknown here survive.
//! * What carries a secret, a private key or a join token goes through this room's own client,
//!   which logs no bodies (bollard logs them at debug level).
//! * An engine leaves out of a service what is newer than itself, without a word: [`ignored_by`]
//!   says what.
//! * Names are compared exactly: the engine's filters match prefixes, and its lookups match
//!   prefixes of identifiers.
//!
//! Leaving a swarm and removing volumes happen only where a caller asks for them by name.

mod call;
mod cause;
mod census;
mod constraint;
mod daemon;
mod engine;
mod error;
mod ignored;
mod judge;
mod logs;
mod managers;
mod network;
mod node;
mod outcome;
mod registry;
mod secret;
mod service;
mod swarm;
mod task;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod transport;
mod volume;
mod wait;
mod wire;

pub(crate) use census::Seat;
pub use constraint::eligible_nodes;
pub use daemon::{DaemonJson, DaemonJsonError, DaemonTls, DropIn, daemon_json, drop_in};
pub use engine::{ApiVersion, Endpoint, Engine, EngineInfo, EngineVersion, Exchange};
pub use error::{EngineError, Refusal, Unreached};
pub use ignored::{Ignored, IgnoredOn, ignored_by, ignored_on, kept_by, without_ignored};
pub use judge::{TaskFailure, Verdict, judge};
pub(crate) use judge::{node_name, task_name};
pub use logs::{FollowedLogs, LogLine, LogOptions, LogSource, LogStream};
pub use managers::{Managers, ManagersError};
pub use network::{NetworkDifference, NetworkError, NetworkObserved, NetworkSpec};
pub use node::{ManagerStatus, Node, NodeError, NodeRole};
pub use outcome::Outcome;
pub use registry::{ImagePlatform, RegistryAuth, RegistryImage};
pub use secret::{ObjectError, ObjectKind, ObjectObserved, check_object_name, sha256};
pub(crate) use service::has_terminal;
pub use service::{
    ServiceCounts, ServiceError, ServiceMode, ServiceObserved, ServiceWritten, UpdateState,
    UpdateStatus,
};
pub use swarm::{ActiveSwarm, InitOptions, JoinOptions, JoinToken, SwarmError, SwarmState};
pub use task::{Task, TaskState, TasksRemain};
pub use transport::{IdentityError, TlsIdentity};
pub use volume::{VolumeError, VolumeObserved};
pub(crate) use wait::ServiceWait;
pub use wait::{ServiceProgress, ServiceTarget, WaitError, WaitOptions};
