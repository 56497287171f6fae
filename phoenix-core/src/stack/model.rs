//! What a compose file says, typed: the form between reading and rendering.
//!
//! Invariants: every name a service refers to within the file is declared there; variables are
//! replaced, defaults are not yet filled in; times are within the engine's range.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::ground::SecretBytes;
use crate::ground::document::Position;

use super::image::Image;

/// A place in a compose file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub source: Arc<Path>,
    /// Line and column.
    pub position: Position,
    /// The way to the value: `services.web.image`.
    pub path: String,
}

/// A service.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Service {
    /// Its image.
    pub image: Image,
    /// Where its image is written.
    pub image_place: Place,
    /// Replaces the image's entrypoint when not empty.
    pub entrypoint: Vec<String>,
    /// Replaces the image's arguments when not empty.
    pub command: Vec<String>,
    /// Environment variables; one without a value takes away the image's.
    pub environment: BTreeMap<String, Option<String>>,
    /// Labels of its containers.
    pub labels: BTreeMap<String, String>,
    /// Published ports.
    pub ports: Vec<Port>,
    /// Mounts, those of `tmpfs` last.
    pub mounts: Vec<Mount>,
    /// Networks; none means the stack's `default`.
    pub networks: Vec<Attachment>,
    /// Configs mounted into its containers.
    pub configs: Vec<FileReference>,
    /// Secrets mounted into its containers.
    pub secrets: Vec<FileReference>,
    /// How its containers' health is checked.
    pub healthcheck: Option<Healthcheck>,
    /// How many tasks, where, and how they are replaced.
    pub deploy: Deploy,
    /// Host name of its containers; may be a template.
    pub hostname: Option<String>,
    /// User (and group) its processes run as.
    pub user: Option<String>,
    /// Working directory.
    pub working_dir: Option<String>,
    /// Time between the stop signal and the kill.
    pub stop_grace_period: Option<Duration>,
    /// The stop signal.
    pub stop_signal: Option<String>,
    /// Whether an init process runs; the daemon decides when absent.
    pub init: Option<bool>,
    /// Whether a terminal is allocated.
    pub tty: bool,
    /// Whether standard input stays open.
    pub stdin_open: bool,
    /// Whether the root file system is read-only.
    pub read_only: bool,
    /// Entries of `/etc/hosts`, as `ADDRESS NAME`.
    pub extra_hosts: Vec<String>,
    /// Name servers. An empty list is something else than none: docker sends an empty
    /// configuration for it.
    pub dns: Option<Vec<IpAddr>>,
    /// Search domains. An empty list as for `dns`.
    pub dns_search: Option<Vec<String>>,
    /// Capabilities added, `CAP_…` or `ALL`, sorted.
    pub cap_add: Vec<String>,
    /// Capabilities dropped, `CAP_…` or `ALL`, sorted.
    pub cap_drop: Vec<String>,
    /// Kernel parameters.
    pub sysctls: BTreeMap<String, String>,
    /// Limits of its processes, by name.
    pub ulimits: BTreeMap<String, Ulimit>,
    /// Where its logs go.
    pub logging: Option<Logging>,
    /// Services of the same stack that come first.
    pub depends_on: Vec<Dependency>,
    /// How its containers are isolated on Windows: `default`, `process` or `hyperv`.
    pub isolation: Option<String>,
    /// The credential spec of its Windows containers.
    pub credential_spec: Option<CredentialSpec>,
}

/// A service that another one depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// Its key in the file.
    pub service: String,
    /// What must be true of it.
    pub condition: Condition,
}

/// What must be true of a service before those that depend on it are deployed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Condition {
    /// It was deployed.
    Started,
    /// It has converged: its tasks run, and are healthy where health is checked. What a list of
    /// services asks for in the swarm's dialect.
    Healthy,
    /// Its tasks have ended well.
    Completed,
}

/// Where the credential spec of a Windows container comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialSpec {
    /// A config, by its key in the file.
    Config(String),
    /// A file on the node.
    File(String),
    /// A value in the node's registry.
    Registry(String),
}

/// A published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    /// The port in the container.
    pub target: u16,
    /// The port on the nodes; the swarm chooses one when absent.
    pub published: Option<u16>,
    /// The protocol; TCP when absent.
    pub protocol: Option<Protocol>,
    /// On which nodes; [`PublishMode::Ingress`] when absent.
    pub mode: Option<PublishMode>,
}

/// The protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Protocol {
    Sctp,
    Tcp,
    Udp,
}

/// Where a port is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PublishMode {
    /// On the nodes that run a task, leading to that task.
    Host,
    /// On every node, leading to any task.
    Ingress,
}

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted.
    pub kind: MountKind,
    /// Where in the container; absolute.
    pub target: String,
    /// Whether it is read-only.
    pub read_only: bool,
    /// Consistency requirement, passed on as it is.
    pub consistency: Option<String>,
    /// Where it is written.
    pub place: Place,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// A directory or file of the node.
    Bind {
        /// Its absolute path.
        source: String,
        /// How mounts below it spread.
        propagation: Option<String>,
    },
    /// A volume.
    Volume {
        /// Its key in the file; an anonymous volume has none.
        key: Option<String>,
        /// Whether the image's files are not copied into a new volume.
        no_copy: bool,
        /// A directory within the volume.
        subpath: Option<String>,
    },
    /// Memory.
    Tmpfs {
        /// Its size in bytes; unlimited when absent or zero.
        size: Option<i64>,
        /// Its permission bits.
        mode: Option<u32>,
    },
    /// A named pipe of a Windows node.
    Npipe {
        /// Its path.
        source: String,
        /// How mounts below it spread.
        propagation: Option<String>,
    },
    /// A cluster volume.
    Cluster {
        /// Its key in the file, or `group:` and a group of volumes.
        source: String,
    },
    /// The files of an image.
    Image {
        /// The image.
        source: String,
        /// A directory within it.
        subpath: Option<String>,
    },
}

/// A service's place in a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The network's key in the file.
    pub network: String,
    /// Names the service has there beside its own.
    pub aliases: Vec<String>,
    /// Options of the network's driver.
    pub driver_opts: BTreeMap<String, String>,
    /// Where it is written.
    pub place: Place,
}

/// A secret or config mounted as a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileReference {
    /// Its key in the file.
    pub source: String,
    /// The file's path; a relative one is below `/run/secrets` for secrets, `/` for configs.
    pub target: String,
    /// The file's owner.
    pub uid: String,
    /// The file's group.
    pub gid: String,
    /// The file's permission bits.
    pub mode: u32,
    /// Where it is written.
    pub place: Place,
}

/// How the health of containers is checked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Healthcheck {
    /// `["CMD", …]`, `["CMD-SHELL", …]` or `["NONE"]`; empty for the image's own.
    pub test: Vec<String>,
    /// Time between checks.
    pub interval: Option<Duration>,
    /// Time a check may take.
    pub timeout: Option<Duration>,
    /// Failures in a row that count.
    pub retries: Option<u32>,
    /// Time in which failures do not count.
    pub start_period: Option<Duration>,
    /// Time between checks within the start period.
    pub start_interval: Option<Duration>,
}

/// Limits of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ulimit {
    /// The limit that applies.
    pub soft: i64,
    /// Up to which a process may raise it.
    pub hard: i64,
}

/// Where logs go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Logging {
    /// The log driver; the daemon's own when empty.
    pub driver: String,
    /// Its options.
    pub options: BTreeMap<String, String>,
}

/// How many tasks, where, and how they are replaced.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Deploy {
    /// How many tasks.
    pub mode: Mode,
    /// Labels of the service.
    pub labels: BTreeMap<String, String>,
    /// How clients in the network find the tasks.
    pub endpoint_mode: Option<EndpointMode>,
    /// On which nodes.
    pub placement: Placement,
    /// What a task may use.
    pub limits: Option<Resources>,
    /// What a node must have free.
    pub reservations: Option<Resources>,
    /// What happens when a task ends.
    pub restart_policy: Option<RestartPolicy>,
    /// How an update goes.
    pub update_config: Option<UpdateConfig>,
    /// How a rollback goes.
    pub rollback_config: Option<UpdateConfig>,
}

/// How many tasks a service has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// This many, restarted when they end; one when absent.
    Replicated(Option<u64>),
    /// One on every node that fits.
    Global,
    /// This many that run to completion; one when absent.
    ReplicatedJob(Option<u64>),
    /// One to completion on every node that fits.
    GlobalJob,
}

impl Default for Mode {
    fn default() -> Self {
        Self::Replicated(None)
    }
}

impl Mode {
    /// Whether its tasks run to completion.
    #[must_use]
    pub fn is_job(self) -> bool {
        matches!(self, Self::ReplicatedJob(_) | Self::GlobalJob)
    }
}

/// How clients in the network find the tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointMode {
    /// By one virtual address.
    Vip,
    /// By the addresses of all tasks.
    Dnsrr,
}

/// On which nodes tasks run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Placement {
    /// All must hold: `node.role == manager`.
    pub constraints: Vec<String>,
    /// Labels over whose values tasks are spread.
    pub spread: Vec<String>,
    /// At most this many tasks on a node.
    pub max_replicas_per_node: Option<u64>,
}

/// Amounts that a task may use or needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resources {
    /// Billionths of a processor.
    pub nano_cpus: i64,
    /// Bytes of memory.
    pub memory: i64,
    /// Processes (limits only).
    pub pids: i64,
    /// Counted resources of nodes (reservations only), as kind and amount.
    pub generic: Vec<(String, i64)>,
}

/// What happens when a task ends.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RestartPolicy {
    /// `none`, `on-failure` or `any`.
    pub condition: Option<&'static str>,
    /// Time before the next start.
    pub delay: Option<Duration>,
    /// Starts within the window.
    pub max_attempts: Option<u64>,
    /// The window in which attempts count.
    pub window: Option<Duration>,
}

/// How an update or a rollback goes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct UpdateConfig {
    /// Tasks at a time; 0 is all at once, and one when absent.
    pub parallelism: Option<u64>,
    /// Time between batches.
    pub delay: Duration,
    /// `pause`, `continue` or `rollback`.
    pub failure_action: Option<&'static str>,
    /// Time in which a new task's failure counts.
    pub monitor: Duration,
    /// The share of failures that is borne.
    pub max_failure_ratio: f64,
    /// `stop-first` or `start-first`.
    pub order: Option<&'static str>,
}

/// A network in the file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct NetworkDeclaration {
    /// Its explicit name, or the name of an external one.
    pub name: Option<String>,
    /// Whether it exists apart from the stack.
    pub external: bool,
    /// Default `overlay`.
    pub driver: Option<String>,
    /// Options of the driver.
    pub driver_opts: BTreeMap<String, String>,
    /// Whether containers outside the swarm's services may join.
    pub attachable: bool,
    /// Whether it has no way out.
    pub internal: bool,
    /// The driver of its addresses.
    pub ipam_driver: Option<String>,
    /// Its subnets as CIDR.
    pub subnets: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// A volume in the file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct VolumeDeclaration {
    /// Its explicit name, or the name of an external one.
    pub name: Option<String>,
    /// Whether it exists apart from the stack.
    pub external: bool,
    /// Its driver.
    pub driver: Option<String>,
    /// Options of the driver.
    pub driver_opts: Option<BTreeMap<String, String>>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// Where a config or secret in the file comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectSource {
    /// It exists apart from the stack.
    External,
    /// A file, as an absolute path when the compose file's is.
    File(PathBuf),
    /// A plugin of the engine, which makes the content up.
    Driver {
        /// Its name.
        name: String,
        /// Its options.
        options: BTreeMap<String, String>,
    },
    /// A variable.
    Given(SecretBytes),
}

/// A secret in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SecretDeclaration {
    /// Its explicit name, or the name of an external one.
    pub name: Option<String>,
    /// Where it comes from.
    pub source: ObjectSource,
    /// What replaces templates in it when it is mounted: `golang`.
    pub template_driver: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Where its name (or key) is written.
    pub place: Place,
}

/// A config in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigDeclaration {
    /// Its explicit name, or the name of an external one.
    pub name: Option<String>,
    /// Its content; an external one has none here.
    pub content: Option<Vec<u8>>,
    /// What replaces templates in it when it is mounted: `golang`.
    pub template_driver: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Where its name (or key) is written.
    pub place: Place,
}
