//! Records for ACME's dns-01, set and cleared by commands in a guest.

use std::sync::Arc;

use async_trait::async_trait;

use crate::ground::Deadline;
use crate::guest::{Guest, Program};
use crate::pki::{DnsHook, HookError, TxtRecord};
use crate::site::Command;

/// The declared commands, run one at a time: few of the programs that edit zones bear company.
#[derive(Debug)]
pub(super) struct GuestHook {
    guest: Arc<dyn Guest>,
    set: Command,
    clear: Command,
    busy: tokio::sync::Mutex<()>,
}

impl GuestHook {
    pub(super) fn new(guest: Arc<dyn Guest>, set: Command, clear: Command) -> Self {
        Self {
            guest,
            set,
            clear,
            busy: tokio::sync::Mutex::new(()),
        }
    }

    async fn run(
        &self,
        command: &Command,
        record: &TxtRecord,
        deadline: Deadline,
    ) -> Result<(), HookError> {
        let _busy = deadline.run(self.busy.lock()).await?;
        let program = Program::new(argv(command, record), deadline.at_most(command.timeout));
        self.guest.run_checked(&program).await?;
        Ok(())
    }
}

#[async_trait]
impl DnsHook for GuestHook {
    async fn set(&self, record: &TxtRecord, deadline: Deadline) -> Result<(), HookError> {
        self.run(&self.set, record, deadline).await
    }

    async fn clear(&self, record: &TxtRecord, deadline: Deadline) -> Result<(), HookError> {
        self.run(&self.clear, record, deadline).await
    }
}

/// The command with the record's name and value. A shell takes the first word after its script
/// for its own name, so that one is put before: in the script they are `$1` and `$2`.
fn argv(command: &Command, record: &TxtRecord) -> Vec<String> {
    let mut argv = command.argv.clone();
    if let [shell, option, _] = &argv[..]
        && shell == "/bin/sh"
        && option == "-c"
    {
        argv.push("dns-01".to_owned());
    }
    argv.extend([record.name.clone(), record.value.clone()]);
    argv
}
