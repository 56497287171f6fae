//! A guest that runs and whose agent answers.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::ground::Deadline;
use crate::proxmox::GuestStatus;
use crate::sync::context::Context;
use crate::sync::step::{Observation, Progress, Step, View};
use crate::sync::{Change, Failure, FailureClass, Verb, explain};

/// How long one question to an agent may take. Proxmox itself gives up on a silent one after 3 s.
const ASKING: Duration = Duration::from_secs(10);

pub(super) struct GuestStep {
    cx: Arc<Context>,
    name: String,
}

impl GuestStep {
    pub(super) fn new(cx: Arc<Context>, name: String) -> Self {
        Self { cx, name }
    }

    fn vmid(&self) -> u32 {
        self.cx
            .site
            .guests
            .get(&self.name)
            .and_then(|guest| guest.vmid)
            .unwrap_or_default()
    }

    fn failed(&self, error: &(dyn std::error::Error + 'static)) -> Failure {
        explain::proxmox(error)
            .context(format!("guest {}", self.name))
            .in_guest(&self.name)
    }

    /// Whether the VM runs where it should; how it is known.
    async fn find(&self, deadline: Deadline) -> Result<String, Failure> {
        let vmid = self.vmid();
        let Some(client) = &self.cx.proxmox else {
            return Err(Failure::message(
                FailureClass::Failed,
                "the site declares no Proxmox endpoint",
            ));
        };
        let found = client
            .guest(vmid, deadline)
            .await
            .map_err(|error| self.failed(&error))?
            .ok_or_else(|| {
                Failure::message(
                    FailureClass::Failed,
                    format!("guest {}: Proxmox has no VM {vmid}", self.name),
                )
                .in_guest(&self.name)
                .hint("check the vmid, and that the token may see the VM (VM.Audit)")
            })?;
        let declared = self
            .cx
            .site
            .guests
            .get(&self.name)
            .and_then(|guest| guest.node.as_ref());
        if let Some(node) = declared
            && *node != found.node
        {
            return Err(Failure::message(
                FailureClass::Failed,
                format!(
                    "guest {}: VM {vmid} is on node {}, not on {node} as declared",
                    self.name, found.node
                ),
            )
            .in_guest(&self.name));
        }
        let status = client
            .vm_status(&found.node, vmid, deadline)
            .await
            .map_err(|error| self.failed(&error))?;
        if status.status != GuestStatus::Running {
            return Err(Failure::message(
                FailureClass::Unreachable,
                format!(
                    "guest {}: VM {vmid} on node {} is {}",
                    self.name, found.node, status.status
                ),
            )
            .in_guest(&self.name)
            .hint(format!("start it: qm start {vmid}")));
        }
        Ok(format!("VM {vmid} runs on {}", found.node))
    }

    /// The version of the guest's agent, asked once, and by GET, so that a plan sends no write.
    async fn ask_agent(&self) -> Result<String, Failure> {
        let agent = self.cx.agent(&self.name).ok_or_else(|| {
            Failure::message(
                FailureClass::Failed,
                format!("guest {} is not reached through an agent", self.name),
            )
        })?;
        let info = agent
            .clone()
            .with_patience(Duration::ZERO)
            .info(Deadline::after(ASKING))
            .await
            .map_err(|error| explain::proxmox(&error).in_guest(&self.name))?;
        Ok(info.version)
    }
}

#[async_trait]
impl Step for GuestStep {
    async fn observe(&self, _view: &View) -> Result<Observation, Failure> {
        let runs = self.find(self.cx.look()).await?;
        match self.ask_agent().await {
            Ok(version) => Ok(Observation::converged(format!(
                "{runs}, its agent {version} answers"
            ))),
            Err(failure) if failure.class == FailureClass::Unreachable => {
                Ok(Observation::differs(self.unobserved()))
            }
            Err(failure) => Err(failure),
        }
    }

    async fn apply(&self, progress: &Progress) -> Result<(), Failure> {
        let deadline = Deadline::after(self.cx.site.timeouts.guest);
        progress.say("waiting for its guest agent");
        loop {
            let failure = match self.ask_agent().await {
                Ok(_) => return Ok(()),
                Err(failure) => failure,
            };
            if failure.class != FailureClass::Unreachable {
                return Err(failure);
            }
            if deadline.pause(Duration::from_secs(1)).await.is_err() {
                return Err(failure.context(format!(
                    "guest {}: its agent did not answer within {}",
                    self.name,
                    humantime::format_duration(deadline.allowed())
                )));
            }
        }
    }

    fn unobserved(&self) -> Vec<Change> {
        vec![Change::new(
            Verb::Await,
            format!("the guest agent of {}", self.name),
            "it does not answer",
        )]
    }
}
