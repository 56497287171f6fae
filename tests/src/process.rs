//! Programs: run to their end, or started so that they outlive the process that started them and
//! can be ended by another one.
//!
//! A running program is named by its id *and* the kernel's start time of it, so that an id which
//! was given to somebody else is never signalled.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

use crate::{LabError, Result};

/// A process that can be recognised later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// The process id.
    pub pid: i32,
    /// Clock ticks between boot and its start.
    pub started: u64,
}

impl Running {
    /// This very process.
    ///
    /// # Errors
    /// Where `/proc` is not readable.
    pub fn this() -> Result<Self> {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        Self::of(pid).ok_or_else(|| LabError::Unsuitable("/proc is not readable".into()))
    }

    fn of(pid: i32) -> Option<Self> {
        let (state, started) = stat(pid)?;
        (state != 'Z' && state != 'X').then_some(Self { pid, started })
    }

    /// Whether it still runs.
    #[must_use]
    pub fn alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Ends it: TERM first, KILL once `patience` has passed. Returns once it is gone.
    ///
    /// # Errors
    /// Where it survives both.
    pub async fn end(self, patience: Duration) -> Result<()> {
        for (signal, patience) in [
            (Signal::TERM, patience),
            (Signal::KILL, Duration::from_secs(10)),
        ] {
            if !self.alive() {
                return Ok(());
            }
            if let Some(pid) = Pid::from_raw(self.pid) {
                // A process that ends meanwhile is what is wanted.
                let _ = rustix::process::kill_process(pid, signal);
            }
            let until = Instant::now() + patience;
            while self.alive() && Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        if self.alive() {
            return Err(LabError::Late {
                what: format!("the end of process {}", self.pid),
                allowed: patience,
            });
        }
        Ok(())
    }
}

/// State letter and start time from `/proc/PID/stat`, whose second field is a name in parentheses
/// that may hold anything.
fn stat(pid: i32) -> Option<(char, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?.chars().next()?;
    let started = fields.nth(18)?.parse().ok()?;
    Some((state, started))
}

/// Starts a program in a process group of its own, with its output appended to `log`.
///
/// # Errors
/// Where it cannot be started.
pub fn start_detached(mut command: Command, log: &Path) -> Result<Running> {
    use std::os::unix::process::CommandExt;
    let what = command.get_program().to_string_lossy().into_owned();
    let out = fs::File::options()
        .append(true)
        .create(true)
        .open(log)
        .map_err(LabError::io("open", log))?;
    let err = out.try_clone().map_err(LabError::io("open", log))?;
    let child = command
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .process_group(0)
        .spawn()
        .map_err(LabError::io("start", Path::new(&what)))?;
    let pid = i32::try_from(child.id())
        .map_err(|_| LabError::Malformed(format!("process id {}", child.id())))?;
    Running::of(pid).ok_or_else(|| LabError::Program {
        what,
        status: "its start".into(),
        stderr: tail(&fs::read_to_string(log).unwrap_or_default(), 5),
    })
}

/// Runs a program to its end and returns its stdout.
///
/// # Errors
/// [`LabError::Program`] where it ends otherwise than with 0.
pub async fn run(command: Command) -> Result<String> {
    let what = format!(
        "{} {}",
        command.get_program().to_string_lossy(),
        command
            .get_args()
            .map(|arg| arg.to_string_lossy())
            .collect::<Vec<_>>()
            .join(" ")
    );
    let output = tokio::process::Command::from(command)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(LabError::io("run", Path::new(&what)))?;
    if !output.status.success() {
        return Err(LabError::Program {
            what,
            status: output.status.to_string(),
            stderr: tail(&String::from_utf8_lossy(&output.stderr), 8),
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The last lines of a text.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.trim_end().lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_another_start_time_is_somebody_else() {
        let this = Running::this().expect("proc");
        assert!(this.alive());
        let other = Running {
            started: this.started + 1,
            ..this
        };
        assert!(!other.alive());
    }

    #[tokio::test]
    async fn a_failing_program_is_an_error_with_its_stderr() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo broken >&2; exit 3"]);
        let error = run(command).await.expect_err("exit 3");
        let text = error.to_string();
        assert!(
            text.contains("exit status: 3") && text.contains("broken"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn a_detached_program_is_ended_by_its_identity() {
        let dir = tempfile::tempdir().expect("dir");
        let mut command = Command::new("sleep");
        command.arg("1000");
        let running = start_detached(command, &dir.path().join("log")).expect("start");
        assert!(running.alive());
        running.end(Duration::from_secs(5)).await.expect("end");
        assert!(!running.alive());
    }
}
