//! A VM reached through its QEMU guest agent.

use async_trait::async_trait;

use super::{Guest, GuestError, Output, Program, READ_LIMIT};
use crate::ground::Deadline;
use crate::proxmox::{Agent, Command};

/// A VM whose programs are run by its QEMU guest agent, through the Proxmox VE API.
#[derive(Debug, Clone)]
pub struct AgentGuest {
    name: String,
    agent: Agent,
}

impl AgentGuest {
    /// The VM behind `agent`, called `name` in messages.
    #[must_use]
    pub fn new(name: impl Into<String>, agent: Agent) -> Self {
        Self {
            name: name.into(),
            agent,
        }
    }

    /// The agent itself.
    #[must_use]
    pub fn agent(&self) -> &Agent {
        &self.agent
    }
}

#[async_trait]
impl Guest for AgentGuest {
    fn name(&self) -> &str {
        &self.name
    }

    async fn run(&self, program: &Program) -> Result<Output, GuestError> {
        let mut command = Command::new(&program.argv);
        if let Some(stdin) = &program.stdin {
            command = command.stdin(stdin.clone());
        }
        let ran = self.agent.exec(&command, program.deadline).await;
        ran.map_err(|source| GuestError::NotRun {
            guest: self.name.clone(),
            program: program.argv.first().cloned().unwrap_or_default(),
            source,
        })
    }

    async fn read(&self, path: &str, deadline: Deadline) -> Result<Option<Vec<u8>>, GuestError> {
        let content = self.agent.file_read(path, READ_LIMIT, deadline).await;
        content.map_err(|source| GuestError::Read {
            guest: self.name.clone(),
            path: path.to_owned(),
            source,
        })
    }
}
