//! The guests behind the server: their places, their power, their configuration.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{fmt, path::PathBuf};

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::agent::{AgentChannel, NoAnswer};
use super::answer::ApiError;
use super::tasks::Task;
use super::wire::code_points;

/// How often a worker looks whether a guest has powered off.
const POWER_POLL: Duration = Duration::from_millis(100);
/// Time limit of `guest-shutdown` and of a shutdown without an agent.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(60);

/// Power over what plays the part of a VM.
#[async_trait::async_trait]
pub trait VmControl: Send + Sync {
    /// Whether it runs now.
    async fn is_running(&self) -> bool;

    /// Turns it on. The text of an error becomes the task's exit status.
    async fn start(&self) -> Result<(), String>;

    /// Pulls the plug.
    async fn stop(&self) -> Result<(), String>;

    /// Presses the power button, as a shutdown does when no guest agent answers. What has no
    /// button is stopped.
    async fn power_button(&self) -> Result<(), String> {
        self.stop().await
    }
}

/// A VM of the cluster.
#[derive(Clone)]
pub struct Vm {
    /// 100 or more.
    pub vmid: u32,
    /// Its name.
    pub name: String,
    /// The node it is on.
    pub node: String,
    /// The unix socket on which its `qemu-ga` listens.
    pub agent_socket: PathBuf,
    /// Whether its configuration says that it has an agent.
    pub agent_enabled: bool,
    /// Power over it.
    pub control: Arc<dyn VmControl>,
}

impl fmt::Debug for Vm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Vm")
            .field("vmid", &self.vmid)
            .field("name", &self.name)
            .field("node", &self.node)
            .field("agent_socket", &self.agent_socket)
            .field("agent_enabled", &self.agent_enabled)
            .finish_non_exhaustive()
    }
}

/// UTF-8 text read as Latin-1, as files read by Perl without a layer are shown.
pub(super) fn latin1_text(text: &str) -> String {
    code_points(text.as_bytes())
}

/// A VM with what the server knows of it.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) vm: Vm,
    pub(super) agent: AgentChannel,
    agent_enabled: AtomicBool,
    seen_running: Mutex<Option<Instant>>,
    /// Workers that act on one VM take turns, as they do over its configuration's lock.
    power: tokio::sync::Mutex<()>,
}

/// What a power worker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Power {
    Start,
    Stop,
    /// Cleanly; by force at the end of the time, when so asked.
    Shutdown {
        limit: Option<Duration>,
        force: bool,
    },
    Reboot {
        limit: Option<Duration>,
    },
}

impl Power {
    pub(super) fn task_type(self) -> &'static str {
        match self {
            Self::Start => "qmstart",
            Self::Stop => "qmstop",
            Self::Shutdown { .. } => "qmshutdown",
            Self::Reboot { .. } => "qmreboot",
        }
    }
}

impl Guest {
    pub(super) fn new(vm: Vm, answer_limit: usize) -> Self {
        Self {
            agent: AgentChannel::new(vm.agent_socket.clone(), answer_limit),
            agent_enabled: AtomicBool::new(vm.agent_enabled),
            seen_running: Mutex::new(None),
            power: tokio::sync::Mutex::new(()),
            vm,
        }
    }

    pub(super) fn agent_enabled(&self) -> bool {
        self.agent_enabled.load(Ordering::SeqCst)
    }

    pub(super) fn set_agent_enabled(&self, enabled: bool) {
        self.agent_enabled.store(enabled, Ordering::SeqCst);
    }

    pub(super) async fn is_running(&self) -> bool {
        let running = self.vm.control.is_running().await;
        let mut seen = self
            .seen_running
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *seen = running.then(|| seen.unwrap_or_else(Instant::now));
        running
    }

    fn uptime(&self) -> u64 {
        let seen = self
            .seen_running
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        seen.map_or(0, |since| since.elapsed().as_secs())
    }

    /// A row of `GET /cluster/resources`.
    pub(super) async fn resource(&self) -> Value {
        let running = self.is_running().await;
        json!({
            "id": format!("qemu/{}", self.vm.vmid), "vmid": self.vm.vmid, "type": "qemu",
            "name": self.vm.name, "node": self.vm.node,
            "status": if running { "running" } else { "stopped" },
            "template": 0, "uptime": self.uptime(), "maxcpu": 2, "cpu": 0, "maxmem": 2_147_483_648_u64,
            "mem": 0, "memhost": 0, "maxdisk": 34_359_738_368_u64, "disk": 0, "netin": 0,
            "netout": 0, "diskread": 0, "diskwrite": 0,
        })
    }

    /// `GET .../status/current`.
    pub(super) async fn status(&self, off: bool) -> Value {
        let running = self.is_running().await && !off;
        let word = if running { "running" } else { "stopped" };
        let mut status = json!({
            "vmid": self.vm.vmid, "name": self.vm.name, "status": word, "qmpstatus": word,
            "uptime": if running { self.uptime() } else { 0 }, "cpus": 2, "cpu": 0,
            "maxmem": 2_147_483_648_u64, "mem": 0, "memhost": 0, "maxdisk": 34_359_738_368_u64,
            "disk": 0, "netin": 0, "netout": 0, "diskread": 0, "diskwrite": 0,
            "ha": {"managed": 0},
        });
        if running {
            status["pid"] = json!(10_000 + self.vm.vmid);
            status["running-qemu"] = json!("10.1.2");
            status["running-machine"] = json!("pc-i440fx-10.1+pve0");
        }
        if self.agent_enabled() {
            status["agent"] = json!(1);
        }
        status
    }

    /// `GET .../config`.
    pub(super) fn config(&self) -> Value {
        let mut config = json!({
            "name": self.vm.name, "ostype": "l26", "cores": 2, "sockets": 1, "memory": "2048",
            "boot": "order=scsi0", "scsihw": "virtio-scsi-single",
            "scsi0": format!("local-lvm:vm-{}-disk-0,size=32G", self.vm.vmid),
            "net0": format!("virtio=BC:24:11:00:{:02X}:{:02X},bridge=vmbr0",
                self.vm.vmid >> 8 & 0xff, self.vm.vmid & 0xff),
        });
        if self.agent_enabled() {
            config["agent"] = json!("1");
        }
        let text = config.to_string();
        let hash = aws_lc_rs::digest::digest(
            &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY,
            text.as_bytes(),
        );
        config["digest"] = json!(hex::encode(hash));
        config
    }

    /// What is refused at once, before a worker starts.
    pub(super) async fn check_power(&self, power: Power, off: bool) -> Result<(), ApiError> {
        let reboots = matches!(power, Power::Reboot { .. });
        if reboots && (off || !self.is_running().await) {
            return Err(ApiError::died(format!("VM {} not running", self.vm.vmid)));
        }
        Ok(())
    }

    /// The worker. `ping_limit` is for finding out whether the agent answers.
    pub(super) async fn work(
        &self,
        power: Power,
        task: &Task,
        ping_limit: Duration,
    ) -> Result<(), String> {
        let _turn = self.power.lock().await;
        let vmid = self.vm.vmid;
        match power {
            Power::Start if self.is_running().await => Err(format!("VM {vmid} already running")),
            Power::Start => self.vm.control.start().await,
            Power::Stop if self.is_running().await => self.vm.control.stop().await,
            Power::Stop => {
                task.print(format!("VM {vmid} not running"));
                Ok(())
            }
            Power::Shutdown { limit, force } => self.shut_down(limit, force, ping_limit).await,
            Power::Reboot { limit } => {
                self.shut_down(limit, false, ping_limit).await?;
                self.vm.control.start().await
            }
        }
    }

    async fn shut_down(
        &self,
        limit: Option<Duration>,
        force: bool,
        ping_limit: Duration,
    ) -> Result<(), String> {
        if !self.is_running().await {
            return Ok(());
        }
        let deadline = Instant::now() + limit.unwrap_or(SHUTDOWN_LIMIT);
        let answers = self.agent_enabled()
            && self
                .agent
                .command("guest-ping", json!({}), ping_limit)
                .await
                .is_ok();
        if answers {
            let left = deadline.saturating_duration_since(Instant::now());
            // No answer is the answer of an agent that is being shut down.
            let _ = self.agent.command("guest-shutdown", json!({}), left).await;
        } else {
            self.vm.control.power_button().await?;
        }
        while self.is_running().await {
            if Instant::now() >= deadline {
                if force {
                    return self.vm.control.stop().await;
                }
                return Err("VM quit/powerdown failed - got timeout".to_owned());
            }
            sleep(POWER_POLL).await;
        }
        Ok(())
    }

    /// The text of a failed agent command. On a port nothing is heard of an agent that hung up,
    /// unless the whole VM ended.
    pub(super) async fn no_answer(
        &self,
        error: NoAnswer,
        execute: &str,
        deadline: Instant,
    ) -> ApiError {
        let mut reason = "got timeout";
        if error == NoAnswer::Closed {
            loop {
                if !self.vm.control.is_running().await {
                    reason = "client closed connection";
                    break;
                }
                if Instant::now() >= deadline {
                    break;
                }
                sleep(POWER_POLL).await;
            }
        }
        ApiError::died(format!(
            "VM {} qga command '{execute}' failed - {reason}",
            self.vm.vmid
        ))
    }
}
