//! One guest: a container with its own dockerd and its own `qemu-ga`.
//!
//! The container is not privileged: an engine before 25 refuses `--privileged` where a capability
//! is missing from the bounding set, and the flags used here are enough everywhere. What happens
//! in a node through this module goes through the outer engine, never through what is under test.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::engine::Engine;
use crate::network::Network;
use crate::place;
use crate::release::EngineRelease;
use crate::{LabError, Result};

/// A node's services answer within this time of its start.
const READY: Duration = Duration::from_secs(60);

const SCRIPTS: &[(&str, &str)] = &[
    ("usr/local/sbin/lab-init", include_str!("../node/lab-init")),
    (
        "usr/local/sbin/lab-shutdown",
        include_str!("../node/lab-shutdown"),
    ),
    ("usr/local/bin/svc", include_str!("../node/svc")),
    (
        "usr/local/bin/restart-docker",
        include_str!("../node/restart-docker"),
    ),
];

/// A guest to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guest {
    /// Its name, which is also its host name.
    pub name: String,
    /// Its number at the Proxmox API.
    pub vmid: u32,
    /// Where its engine comes from.
    #[serde(default)]
    pub engine: EngineRelease,
}

/// What a program wrote and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The exit code as the engine reports it; 128 and the signal's number where one ended it.
    pub code: i64,
    /// Its stdout.
    pub stdout: Vec<u8>,
    /// Its stderr.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Stdout as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Stdout as text where the program ended with 0.
    ///
    /// # Errors
    /// [`LabError::Program`] otherwise.
    pub fn success(self) -> Result<String> {
        if self.code == 0 {
            return Ok(self.text());
        }
        Err(LabError::Program {
            what: "a program in a node".into(),
            status: format!("exit code {}", self.code),
            stderr: String::from_utf8_lossy(&self.stderr).trim().to_owned(),
        })
    }
}

/// A supervised service of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// The node's Docker engine.
    Dockerd,
    /// The guest agent.
    GuestAgent,
}

/// What is done to a service. One that was stopped or killed stays down until it is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceAction {
    /// Let run.
    Start,
    /// TERM, then KILL after 20 s; returns once it ended.
    Stop,
    /// KILL; returns once it ended.
    Kill,
    /// Stop and start.
    Restart,
}

/// A guest of a lab.
#[derive(Debug, Clone)]
pub struct Node {
    guest: Guest,
    ip: Ipv4Addr,
    container: String,
    dir: PathBuf,
    outer: Engine,
}

/// The capabilities and mounts of a node's container.
fn host_config(network: &Network, dir: &Path, hosts: &[String]) -> Value {
    json!({
        "CapAdd": ["ALL"],
        "CapDrop": ["SYS_RESOURCE", "SYS_TIME", "SYS_BOOT", "SYS_MODULE"],
        "SecurityOpt": ["seccomp=unconfined", "apparmor=unconfined", "label=disable"],
        "MaskedPaths": [],
        "ReadonlyPaths": [],
        "DeviceCgroupRules": ["a *:* rwm"],
        "NetworkMode": network.name,
        "Binds": [format!("{}:/run/lab", dir.display())],
        "ExtraHosts": hosts,
    })
}

/// The engine's settings. Every one of them is here, and none on dockerd's command line, so that
/// whoever adds hosts and certificates to the file is obeyed. `log-opts` has no other use than to
/// be there afterwards.
fn daemon_json(network: &Network) -> Value {
    let mut settings = json!({
        "hosts": ["unix:///run/docker.sock", "unix:///run/lab/docker.sock"],
        "registry-mirrors": [format!("http://{}:5000", network.gateway())],
        "insecure-registries": [network.subnet()],
        // Refused at once: a resolver that cannot be reached would hold every task up.
        "dns": ["127.0.0.1"],
        "log-opts": { "max-size": "8m", "max-file": "2" },
    });
    if !place::is_root() {
        settings["group"] = json!(rustix::process::getegid().as_raw().to_string());
    }
    settings
}

impl Node {
    pub(crate) fn new(
        lab: &str,
        guest: Guest,
        ip: Ipv4Addr,
        nodes_dir: &Path,
        outer: Engine,
    ) -> Self {
        Self {
            container: format!("{lab}-{}", guest.name),
            dir: nodes_dir.join(&guest.name),
            guest,
            ip,
            outer,
        }
    }

    /// The guest's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.guest.name
    }

    /// The guest's number at the Proxmox API.
    #[must_use]
    pub fn vmid(&self) -> u32 {
        self.guest.vmid
    }

    /// Where its engine comes from.
    #[must_use]
    pub fn release(&self) -> EngineRelease {
        self.guest.engine
    }

    /// Its address on the lab's network.
    #[must_use]
    pub fn ip(&self) -> Ipv4Addr {
        self.ip
    }

    /// Its container's name at the outer engine.
    #[must_use]
    pub fn container(&self) -> &str {
        &self.container
    }

    /// The guest agent's socket, on the host.
    #[must_use]
    pub fn qga_socket(&self) -> PathBuf {
        self.dir.join("qga.sock")
    }

    /// The Docker engine's socket, on the host.
    #[must_use]
    pub fn docker_socket(&self) -> PathBuf {
        self.dir.join("docker.sock")
    }

    /// The node's own Docker engine.
    #[must_use]
    pub fn docker(&self) -> Engine {
        Engine::at(self.docker_socket())
    }

    /// The engine that runs this node.
    #[must_use]
    pub fn outer(&self) -> &Engine {
        &self.outer
    }

    pub(crate) async fn create(
        &self,
        image: &str,
        network: &Network,
        hosts: &[String],
        labels: &Value,
    ) -> Result<()> {
        place::make_dir(&self.dir)?;
        let mut environment = Vec::new();
        if !place::is_root() {
            let uid = rustix::process::geteuid().as_raw();
            environment.push(format!("LAB_UID={uid}"));
        }
        let wish = json!({
            "Image": image,
            "Hostname": self.name(),
            "Cmd": ["/usr/local/sbin/lab-init"],
            "Env": environment,
            "Labels": labels,
            "StopSignal": "SIGTERM",
            "Volumes": { "/var/lib/docker": {} },
            "HostConfig": host_config(network, &self.dir, hosts),
            "NetworkingConfig": { "EndpointsConfig": {
                network.name.as_str(): { "IPAMConfig": { "IPv4Address": self.ip } },
            } },
        });
        let path = format!("/containers/create?name={}", self.container);
        self.outer.post(&path, wish).await?;
        let mut files: Vec<File<'_>> = SCRIPTS
            .iter()
            .map(|(path, text)| File {
                path,
                mode: 0o755,
                content: text.as_bytes(),
            })
            .collect();
        let settings = serde_json::to_vec_pretty(&daemon_json(network))
            .map_err(|error| LabError::Malformed(error.to_string()))?;
        files.push(File {
            path: "etc/docker/daemon.json",
            mode: 0o644,
            content: &settings,
        });
        self.outer
            .put_archive(&self.container, archive(&files)?)
            .await?;
        self.start().await
    }

    /// Runs a program in the node, as root, whatever state its services are in.
    ///
    /// # Errors
    /// Where it cannot be started; its own failure is in the [`Output`].
    pub async fn exec(&self, argv: &[&str]) -> Result<Output> {
        self.outer.exec(&self.container, argv).await
    }

    /// Runs a line of shell in the node.
    ///
    /// # Errors
    /// As [`Node::exec`].
    pub async fn sh(&self, script: &str) -> Result<Output> {
        self.exec(&["sh", "-c", script]).await
    }

    /// Steers a service. [`ServiceAction::Start`] does not wait for it; [`Node::wait`] does.
    ///
    /// # Errors
    /// Where the node does not run.
    pub async fn service(&self, service: Service, action: ServiceAction) -> Result<()> {
        let name = match service {
            Service::Dockerd => "dockerd",
            Service::GuestAgent => "qga",
        };
        let action = match action {
            ServiceAction::Start => "start",
            ServiceAction::Stop => "stop",
            ServiceAction::Kill => "kill",
            ServiceAction::Restart => "restart",
        };
        let done = self.exec(&["/usr/local/bin/svc", name, action]).await?;
        done.success().map(drop)
    }

    /// Switches the node on. Its services need a moment: [`Node::wait`].
    ///
    /// # Errors
    /// Where the outer engine refuses.
    pub async fn start(&self) -> Result<()> {
        self.steer("start").await
    }

    /// Switches the node off.
    ///
    /// # Errors
    /// Where the outer engine refuses.
    pub async fn stop(&self) -> Result<()> {
        self.steer("stop?t=2").await
    }

    /// Stops every process of the node where it stands.
    ///
    /// # Errors
    /// Where the outer engine refuses.
    pub async fn pause(&self) -> Result<()> {
        self.steer("pause").await
    }

    /// Lets a paused node go on.
    ///
    /// # Errors
    /// Where the outer engine refuses.
    pub async fn unpause(&self) -> Result<()> {
        self.steer("unpause").await
    }

    async fn steer(&self, action: &str) -> Result<()> {
        let path = format!("/containers/{}/{action}", self.container);
        self.outer.command(&path).await
    }

    /// Whether the node is switched on.
    ///
    /// # Errors
    /// Where the outer engine does not say.
    pub async fn running(&self) -> Result<bool> {
        let state = self
            .outer
            .get(&format!("/containers/{}/json", self.container))
            .await?;
        Ok(state["State"]["Running"].as_bool().unwrap_or(false))
    }

    /// Waits until the node's engine and agent take connections.
    ///
    /// # Errors
    /// [`LabError::Late`] after a minute.
    pub async fn wait(&self) -> Result<()> {
        self.docker().wait(READY).await?;
        let socket = self.qga_socket();
        let until = tokio::time::Instant::now() + READY;
        while tokio::net::UnixStream::connect(&socket).await.is_err() {
            if tokio::time::Instant::now() > until {
                return Err(LabError::Late {
                    what: format!("the guest agent of {}", self.name()),
                    allowed: READY,
                });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Writes a file in the node. Its folder has to be there.
    ///
    /// # Errors
    /// Where the outer engine refuses.
    pub async fn write_file(&self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        let file = File {
            path: path.trim_start_matches('/'),
            mode,
            content,
        };
        self.outer
            .put_archive(&self.container, archive(&[file])?)
            .await
    }

    /// Reads a file in the node.
    ///
    /// # Errors
    /// Where there is none.
    pub async fn read_file(&self, path: &str) -> Result<Vec<u8>> {
        use std::io::Read;
        let tar = self.outer.get_archive(&self.container, path).await?;
        let malformed = |error: std::io::Error| LabError::Malformed(error.to_string());
        let mut archive = tar::Archive::new(&tar[..]);
        let mut content = Vec::new();
        for entry in archive.entries().map_err(malformed)? {
            let mut entry = entry.map_err(malformed)?;
            if entry.header().entry_type().is_file() {
                entry.read_to_end(&mut content).map_err(malformed)?;
                return Ok(content);
            }
        }
        Err(LabError::Malformed(format!("{path} is no regular file")))
    }
}

/// A file for a tar.
#[derive(Debug, Clone, Copy)]
pub(crate) struct File<'a> {
    /// Relative to the root.
    pub path: &'a str,
    pub mode: u32,
    pub content: &'a [u8],
}

/// A tar of files that belong to root, the same bytes for the same files.
pub(crate) fn archive(files: &[File<'_>]) -> Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    let malformed = |error: std::io::Error| LabError::Malformed(error.to_string());
    for file in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(file.mode);
        header.set_size(file.content.len() as u64);
        header.set_mtime(0);
        builder
            .append_data(&mut header, file.path, file.content)
            .map_err(malformed)?;
    }
    builder.into_inner().map_err(malformed)
}

pub(crate) fn remove_dir(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(LabError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}
