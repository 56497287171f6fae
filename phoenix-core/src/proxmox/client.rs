//! The client itself: the cluster's guests, and starting and stopping them.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Deserializer};
use url::Url;

use super::agent::Agent;
use super::error::RequestError;
use super::loose;
use super::task::Upid;
use super::token::ApiToken;
use super::transport::{ConnectError, Transport};
use crate::ground::{Deadline, Trust};

/// Agent calls in flight to one node: its API has three workers, and a call to an agent that is
/// off blocks one of them for 3 s.
const CALLS_PER_NODE: usize = 2;

/// A client of the API of one Proxmox VE cluster or node. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    transport: Transport,
    guests: Mutex<HashMap<u32, Arc<tokio::sync::Mutex<()>>>>,
    nodes: Mutex<HashMap<String, Arc<tokio::sync::Semaphore>>>,
}

/// The version of the API server, of the package `pve-manager`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Version {
    /// Such as `9.2.11`.
    pub version: String,
    /// Such as `9.2`.
    #[serde(default)]
    pub release: String,
    /// The commit it was built from.
    #[serde(default)]
    pub repoid: String,
}

/// A guest as the cluster lists it. The list is about 10 s old.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GuestResource {
    /// Its number, unique in the cluster.
    pub vmid: u32,
    /// Its name; missing for a while after it was made or moved.
    pub name: Option<String>,
    /// The node it is on.
    pub node: String,
    /// Whether it runs.
    pub status: GuestStatus,
    /// What it is.
    pub kind: GuestKind,
    /// Whether it is a template, which cannot run.
    pub template: bool,
}

/// Whether a guest runs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum GuestStatus {
    /// It runs (it may be paused).
    Running,
    /// It is off.
    Stopped,
    /// Something else, such as `unknown` while its node does not report.
    Other(String),
}

/// What a guest is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum GuestKind {
    /// A virtual machine.
    Qemu,
    /// A container.
    Lxc,
    /// Something newer.
    Other(String),
}

/// A VM as its node sees it now.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct VmStatus {
    /// Whether it runs.
    pub status: GuestStatus,
    /// What QEMU says: `running`, `paused`, `prelaunch`, …
    #[serde(default, rename = "qmpstatus")]
    pub qmp_status: Option<String>,
    /// Its name.
    #[serde(default)]
    pub name: Option<String>,
    /// The operation that holds its lock, such as `clone`.
    #[serde(default)]
    pub lock: Option<String>,
    /// Whether its configuration has the agent enabled; says nothing about whether it runs.
    #[serde(default, rename = "agent", deserialize_with = "loose::boolean")]
    pub agent_configured: bool,
}

impl GuestStatus {
    fn read(text: String) -> Self {
        match text.as_str() {
            "running" => Self::Running,
            "stopped" => Self::Stopped,
            _ => Self::Other(text),
        }
    }
}

impl<'de> Deserialize<'de> for GuestStatus {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(Self::read(String::deserialize(d)?))
    }
}

impl fmt::Display for GuestStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Other(other) => other,
        })
    }
}

impl GuestKind {
    fn segment(&self) -> &str {
        match self {
            Self::Qemu => "qemu",
            Self::Lxc => "lxc",
            Self::Other(other) => other,
        }
    }
}

impl fmt::Display for GuestKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.segment())
    }
}

#[derive(Deserialize)]
struct ResourceRow {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default, deserialize_with = "loose::optional_integer")]
    vmid: Option<i64>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    node: Option<String>,
    #[serde(default)]
    status: Option<String>,
    #[serde(default, deserialize_with = "loose::boolean")]
    template: bool,
}

impl ResourceRow {
    /// `None` for what is no guest.
    fn guest(self) -> Option<GuestResource> {
        Some(GuestResource {
            vmid: u32::try_from(self.vmid?).ok()?,
            node: self.node?,
            name: self.name,
            status: GuestStatus::read(self.status.unwrap_or_else(|| "unknown".into())),
            kind: match self.kind.as_str() {
                "qemu" => GuestKind::Qemu,
                "lxc" => GuestKind::Lxc,
                _ => GuestKind::Other(self.kind),
            },
            template: self.template,
        })
    }
}

impl Client {
    /// A client of the API at `url` (`https://host:8006`). Nothing is sent yet.
    ///
    /// # Errors
    /// [`ConnectError`] when the address is not https or the trust unusable.
    pub fn connect(url: &Url, token: &ApiToken, trust: &Trust) -> Result<Self, ConnectError> {
        Ok(Self {
            inner: Arc::new(Inner {
                transport: Transport::new(url, token, trust)?,
                guests: Mutex::default(),
                nodes: Mutex::default(),
            }),
        })
    }

    /// The address it was made with.
    #[must_use]
    pub fn url(&self) -> &Url {
        self.inner.transport.base()
    }

    pub(super) fn transport(&self) -> &Transport {
        &self.inner.transport
    }

    /// The lock that lets one call at a time go to the agent of `vmid`.
    pub(super) fn turn(&self, vmid: u32) -> Arc<tokio::sync::Mutex<()>> {
        let mut guests = self
            .inner
            .guests
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Arc::clone(guests.entry(vmid).or_default())
    }

    /// The permits of the agent calls to `node`.
    pub(super) fn permits(&self, node: &str) -> Arc<tokio::sync::Semaphore> {
        let mut nodes = self
            .inner
            .nodes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let permits = nodes
            .entry(node.to_owned())
            .or_insert_with(|| Arc::new(tokio::sync::Semaphore::new(CALLS_PER_NODE)));
        Arc::clone(permits)
    }

    /// The server's version. Any token that is accepted may ask for it.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn version(&self, deadline: Deadline) -> Result<Version, RequestError> {
        self.transport().get(&["version"], &[], deadline).await
    }

    /// All guests of the cluster that the token may see (privilege `VM.Audit`); the others are
    /// left out silently.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn guests(&self, deadline: Deadline) -> Result<Vec<GuestResource>, RequestError> {
        let rows: Option<Vec<ResourceRow>> = self
            .transport()
            .get(
                &["cluster", "resources"],
                &[("type", "vm".into())],
                deadline,
            )
            .await?;
        Ok(rows
            .unwrap_or_default()
            .into_iter()
            .filter_map(ResourceRow::guest)
            .collect())
    }

    /// The guest with this number; `None` when there is none that the token may see.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn guest(
        &self,
        vmid: u32,
        deadline: Deadline,
    ) -> Result<Option<GuestResource>, RequestError> {
        let guests = self.guests(deadline).await?;
        Ok(guests.into_iter().find(|guest| guest.vmid == vmid))
    }

    /// What the node says about a VM now.
    ///
    /// # Errors
    /// [`RequestError`]; a VM that is not there is
    /// [`GuestNotFound`](super::RejectionKind::GuestNotFound).
    pub async fn vm_status(
        &self,
        node: &str,
        vmid: u32,
        deadline: Deadline,
    ) -> Result<VmStatus, RequestError> {
        let vmid = vmid.to_string();
        let path = ["nodes", node, "qemu", &vmid, "status", "current"];
        self.transport().get(&path, &[], deadline).await
    }

    /// Starts a guest: the task to wait for. A VM that runs already makes the task fail.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn start(
        &self,
        guest: &GuestResource,
        deadline: Deadline,
    ) -> Result<Upid, RequestError> {
        self.change(guest, "start", deadline).await
    }

    /// Stops a guest at once, as if its power were cut: the task to wait for.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn stop(
        &self,
        guest: &GuestResource,
        deadline: Deadline,
    ) -> Result<Upid, RequestError> {
        self.change(guest, "stop", deadline).await
    }

    /// Asks a guest to shut itself down: the task to wait for, which fails after 60 s.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn shutdown(
        &self,
        guest: &GuestResource,
        deadline: Deadline,
    ) -> Result<Upid, RequestError> {
        self.change(guest, "shutdown", deadline).await
    }

    async fn change(
        &self,
        guest: &GuestResource,
        action: &str,
        deadline: Deadline,
    ) -> Result<Upid, RequestError> {
        let vmid = guest.vmid.to_string();
        let kind = guest.kind.segment();
        let path = ["nodes", &guest.node, kind, &vmid, "status", action];
        self.transport().post(&path, &[], deadline).await
    }

    /// The agent of a VM, whose node is looked up.
    #[must_use]
    pub fn agent(&self, vmid: u32) -> Agent {
        Agent::new(self.clone(), vmid, None)
    }

    /// The agent of a VM that must be on `node`.
    #[must_use]
    pub fn agent_on(&self, node: &str, vmid: u32) -> Agent {
        Agent::new(self.clone(), vmid, Some(node.to_owned()))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "proxmox::Client({})", self.url())
    }
}
