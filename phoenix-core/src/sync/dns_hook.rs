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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use super::*;
    use crate::guest::{Exit, GuestError, Output};

    /// Remembers what was run; `false` fails.
    #[derive(Debug, Default)]
    struct Scripted(Mutex<Vec<Vec<String>>>);

    #[async_trait]
    impl Guest for Scripted {
        fn name(&self) -> &str {
            "dns"
        }

        async fn run(&self, program: &Program) -> Result<Output, GuestError> {
            self.0.lock().expect("lock").push(program.argv.clone());
            let code = i64::from(program.argv[0] == "false");
            Ok(Output {
                status: Exit::Exited(code),
                stdout: Vec::new(),
                stderr: b"the zone is locked".to_vec(),
                stdout_truncated: false,
                stderr_truncated: false,
            })
        }

        async fn read(&self, _: &str, _: Deadline) -> Result<Option<Vec<u8>>, GuestError> {
            Ok(None)
        }
    }

    fn command(argv: &[&str]) -> Command {
        Command {
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
            timeout: Duration::from_secs(5),
        }
    }

    #[tokio::test]
    async fn commands_get_the_record_and_their_failure_is_told() {
        let guest = Arc::new(Scripted::default());
        let hook = GuestHook::new(
            Arc::clone(&guest) as Arc<dyn Guest>,
            command(&["/bin/sh", "-c", "add \"$1\" \"$2\""]),
            command(&["false"]),
        );
        let record = TxtRecord {
            name: "_acme-challenge.a.lan".to_owned(),
            value: "v".to_owned(),
        };
        let deadline = Deadline::after(Duration::from_secs(5));
        hook.set(&record, deadline).await.expect("set");
        let error = hook.clear(&record, deadline).await.expect_err("fails");
        assert!(error.to_string().contains("the zone is locked"), "{error}");
        assert_eq!(
            *guest.0.lock().expect("lock"),
            [
                vec![
                    "/bin/sh",
                    "-c",
                    "add \"$1\" \"$2\"",
                    "dns-01",
                    "_acme-challenge.a.lan",
                    "v"
                ],
                vec!["false", "_acme-challenge.a.lan", "v"],
            ]
        );
    }
}
