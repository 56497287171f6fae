//! Programs run in a guest by its agent, and how they end.
//!
//! A finished result is delivered once: the agent forgets it when it is asked. If that answer is
//! lost, code and output are gone, and nothing here runs the program again: it ends as
//! [`Exit::Unknown`]. The same becomes of a program that prints more than about 1 MB: the host
//! cannot take its result from the agent in time. Redirect such output to a file in the guest.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use http::Method;
use serde::Deserialize;

use super::agent::{Agent, AgentError, BadText, TextProblem, check_text};
use super::code_points;
use super::error::{RejectionKind, RequestError};
use super::loose;
use crate::ground::{Deadline, SecretBytes};

/// The most bytes of standard input of one program.
pub const STDIN_LIMIT: usize = 65_536;

/// What a body may hold with every supported server (64 KiB before PVE 8.4), less room for argv.
const BODY_ROOM: usize = 48 * 1024;

const FIRST_POLL: Duration = Duration::from_millis(20);
const LAST_POLL: Duration = Duration::from_secs(1);
/// How long a program that overran may take to be killed, and the last question after it.
const GRACE: Duration = Duration::from_secs(10);

/// Kills the process `$1` and its descendants, if it still is the agent's child, as this shell is:
/// its number may belong to another by now. Each is halted before its children are listed.
const KILL: &str = r#"
parent=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$1/status") || exit 3
[ "$parent" = "$PPID" ] || exit 3
end() {
    kill -STOP "$1" 2>/dev/null
    for child in $(cat /proc/"$1"/task/*/children 2>/dev/null); do end "$child"; done
    kill -9 "$1" 2>/dev/null
}
end "$1"
"#;

/// A program to run in a guest.
#[derive(Debug, Clone)]
pub struct Command {
    argv: Vec<String>,
    stdin: Option<SecretBytes>,
}

impl Command {
    /// The program (looked up in the agent's `PATH`, without a shell) and its arguments. They are
    /// visible to every process in the guest.
    pub fn new(argv: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            stdin: None,
        }
    }

    /// With this standard input, at most [`STDIN_LIMIT`] bytes of any value. Without, it is empty.
    #[must_use]
    pub fn stdin(mut self, bytes: SecretBytes) -> Self {
        self.stdin = Some(bytes);
        self
    }

    /// The program and its arguments.
    #[must_use]
    pub fn argv(&self) -> &[String] {
        &self.argv
    }

    /// Checks what can be told without sending it.
    ///
    /// # Errors
    /// [`AgentError::Text`] or [`AgentError::TooLong`].
    pub fn validate(&self) -> Result<(), AgentError> {
        if self.argv.first().is_none_or(String::is_empty) {
            return Err(BadText {
                place: "the program".into(),
                problem: TextProblem::Empty,
            }
            .into());
        }
        for (index, argument) in self.argv.iter().enumerate() {
            check_text(|| format!("argument {index}"), argument)?;
        }
        let length = self.stdin.as_ref().map_or(0, SecretBytes::len);
        if length > STDIN_LIMIT {
            return Err(AgentError::TooLong {
                length,
                limit: STDIN_LIMIT,
            });
        }
        Ok(())
    }
}

/// How many of the first bytes of `content` fit into the standard input of one program with every
/// supported server: older ones take only small bodies, in which some bytes need more room.
#[must_use]
pub fn stdin_prefix(content: &[u8]) -> usize {
    let mut room = BODY_ROOM;
    content
        .iter()
        .take(STDIN_LIMIT)
        .take_while(|byte| {
            let needed = match byte {
                b' ' => 1,
                byte if byte.is_ascii_alphanumeric() => 1,
                byte if byte.is_ascii() => 3,
                _ => 6,
            };
            let fits = needed <= room;
            room = room.saturating_sub(needed);
            fits
        })
        .count()
}

/// A program that an agent has started, by its process number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pid(pub i64);

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How a program in a guest ended. There is no default, and only an exit code of 0 is success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this code.
    Exited(i64),
    /// It was killed by this signal (on Windows: by this exception).
    Signaled(i64),
    /// Nobody knows how it ended, or whether it has.
    Unknown(UnknownReason),
}

/// Why it is not known how a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnknownReason {
    /// It may have been started: the answer to starting it was lost, in this way.
    StartNotConfirmed(String),
    /// The agent no longer knows it: its result was lost on the way, or the agent restarted.
    ResultLost,
    /// It had not ended within the time allowed.
    TimedOut {
        /// The time allowed.
        after: Duration,
        /// Whether it was then killed, with its descendants.
        killed: bool,
    },
    /// The agent says that it ended, but neither with a code nor by a signal.
    NotReported,
    /// The VM stopped or disappeared while it ran.
    GuestGone(String),
    /// The server refused to tell, in these words.
    Refused(String),
    /// The server told it in a form that is not understood.
    Undecodable(String),
}

impl Exit {
    /// Whether it exited with code 0. Nothing else is success.
    #[must_use]
    pub fn success(&self) -> bool {
        matches!(self, Self::Exited(0))
    }

    /// The exit code, if it exited.
    #[must_use]
    pub fn code(&self) -> Option<i64> {
        match self {
            Self::Exited(code) => Some(*code),
            _ => None,
        }
    }

    /// The signal that killed it, if one did.
    #[must_use]
    pub fn signal(&self) -> Option<i64> {
        match self {
            Self::Signaled(signal) => Some(*signal),
            _ => None,
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exit code {code}"),
            Self::Signaled(signal) => write!(f, "killed by signal {signal}"),
            Self::Unknown(reason) => write!(f, "outcome unknown: {reason}"),
        }
    }
}

impl fmt::Display for UnknownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StartNotConfirmed(how) => {
                write!(
                    f,
                    "it may have been started, the answer to that was lost: {how}"
                )
            }
            Self::ResultLost => f.write_str(
                "its result was lost (the agent restarted, or it printed more than about 1 MB)",
            ),
            Self::TimedOut { after, killed } => write!(
                f,
                "it had not ended after {} and {}",
                humantime::format_duration(Duration::from_millis(
                    after.as_millis().try_into().unwrap_or(u64::MAX)
                )),
                if *killed {
                    "was killed"
                } else {
                    "could not be killed"
                }
            ),
            Self::NotReported => f.write_str("the agent reported neither exit code nor signal"),
            Self::GuestGone(how) => write!(f, "the guest went away: {how}"),
            Self::Refused(how) => write!(f, "the server does not tell: {how}"),
            Self::Undecodable(how) => write!(f, "the answer is not understood: {how}"),
        }
    }
}

/// How a program ended and what it printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Output {
    /// How it ended.
    pub status: Exit,
    /// Its standard output, byte for byte.
    pub stdout: Vec<u8>,
    /// Its standard error, byte for byte.
    pub stderr: Vec<u8>,
    /// Whether standard output was cut (by the agent, at 16 MiB).
    pub stdout_truncated: bool,
    /// Whether standard error was cut.
    pub stderr_truncated: bool,
}

impl Output {
    fn unknown(reason: UnknownReason) -> Self {
        Self {
            status: Exit::Unknown(reason),
            stdout: Vec::new(),
            stderr: Vec::new(),
            stdout_truncated: false,
            stderr_truncated: false,
        }
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output")
            .field("status", &self.status)
            .field("stdout", &format_args!("{} bytes", self.stdout.len()))
            .field("stderr", &format_args!("{} bytes", self.stderr.len()))
            .finish_non_exhaustive()
    }
}

/// Where a started program stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExecStatus {
    /// It runs, or something it started holds its standard output or error open.
    Running,
    /// It has ended. The agent has forgotten it now.
    Ended(Output),
}

#[derive(Deserialize)]
struct Started {
    #[serde(deserialize_with = "loose::integer")]
    pid: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct StatusAnswer {
    #[serde(deserialize_with = "loose::boolean")]
    exited: bool,
    #[serde(default, deserialize_with = "loose::optional_integer")]
    exitcode: Option<i64>,
    #[serde(default, deserialize_with = "loose::optional_integer")]
    signal: Option<i64>,
    #[serde(default)]
    out_data: Option<String>,
    #[serde(default)]
    err_data: Option<String>,
    #[serde(default, deserialize_with = "loose::boolean")]
    out_truncated: bool,
    #[serde(default, deserialize_with = "loose::boolean")]
    err_truncated: bool,
}

impl Agent {
    /// Starts a program.
    ///
    /// # Errors
    /// [`AgentError`]; a program that does not exist is [`RejectionKind::NoSuchFile`]. When it
    /// [is ambiguous](AgentError::is_ambiguous), the program may run.
    pub async fn exec_start(
        &self,
        command: &Command,
        deadline: Deadline,
    ) -> Result<Pid, AgentError> {
        command.validate()?;
        let mut form: Vec<_> = command
            .argv
            .iter()
            .map(|argument| ("command", Cow::Borrowed(argument.as_str())))
            .collect();
        let stdin = command
            .stdin
            .as_ref()
            .map(|bytes| zeroize::Zeroizing::new(code_points::from_bytes(bytes.expose())));
        if let Some(text) = &stdin {
            form.push(("input-data", Cow::Borrowed(text.as_str())));
        }
        let started: Started = self.call(Method::POST, "exec", &form, deadline).await?;
        Ok(Pid(started.pid))
    }

    /// Where a started program stands. An end is told once.
    ///
    /// # Errors
    /// [`AgentError`]; a program that the agent does not know (any more) is
    /// [`RejectionKind::UnknownProcess`].
    pub async fn exec_status(
        &self,
        pid: Pid,
        deadline: Deadline,
    ) -> Result<ExecStatus, AgentError> {
        let query = [("pid", pid.to_string().into())];
        let answer: StatusAnswer = self
            .call(Method::GET, "exec-status", &query, deadline)
            .await?;
        if !answer.exited {
            return Ok(ExecStatus::Running);
        }
        let status = match (answer.signal, answer.exitcode) {
            (Some(signal), _) => Exit::Signaled(signal),
            (None, Some(code)) => Exit::Exited(code),
            (None, None) => Exit::Unknown(UnknownReason::NotReported),
        };
        Ok(ExecStatus::Ended(Output {
            status,
            stdout: self.bytes(answer.out_data.as_deref().unwrap_or_default())?,
            stderr: self.bytes(answer.err_data.as_deref().unwrap_or_default())?,
            stdout_truncated: answer.out_truncated,
            stderr_truncated: answer.err_truncated,
        }))
    }

    /// Runs a program to its end.
    ///
    /// One that has not ended at the deadline is killed with its descendants, by a second program
    /// (`/bin/sh`); that and the last question may take 10 s more. It is not killed when the
    /// returned future is dropped.
    ///
    /// # Errors
    /// [`AgentError`] only when the program was not started for certain. Whatever happens
    /// afterwards, or when it may have been started, is an [`Output`] with [`Exit::Unknown`].
    pub async fn exec(&self, command: &Command, deadline: Deadline) -> Result<Output, AgentError> {
        let pid = match self.exec_start(command, deadline).await {
            Ok(pid) => pid,
            Err(error) if error.is_ambiguous() => {
                let how = chain(&error);
                return Ok(Output::unknown(UnknownReason::StartNotConfirmed(how)));
            }
            Err(error) => return Err(error),
        };
        if let Some(output) = self.follow(pid, deadline).await {
            return Ok(output);
        }
        let grace = Deadline::after(GRACE);
        let killed = self.kill(pid, grace).await;
        let timed_out = UnknownReason::TimedOut {
            after: deadline.allowed(),
            killed,
        };
        Ok(match self.follow(pid, grace.at_most(GRACE / 2)).await {
            Some(output) if matches!(output.status, Exit::Exited(_)) => output,
            Some(output) => Output {
                status: Exit::Unknown(timed_out),
                ..output
            },
            None => Output::unknown(timed_out),
        })
    }

    /// Asks until the program has ended or nothing more can be learnt; `None` at the deadline.
    async fn follow(&self, pid: Pid, deadline: Deadline) -> Option<Output> {
        let mut pause = FIRST_POLL;
        loop {
            deadline.pause(pause).await.ok()?;
            pause = (pause * 3 / 2).min(LAST_POLL);
            // A question cut off at the deadline could lose the only answer.
            let patient = Deadline::after(deadline.remaining() + GRACE);
            let error = match self.exec_status(pid, patient).await {
                Ok(ExecStatus::Running) => continue,
                Ok(ExecStatus::Ended(output)) => return Some(output),
                Err(error) => error,
            };
            let reason = match (&error, error.rejection_kind()) {
                (_, Some(RejectionKind::UnknownProcess)) => UnknownReason::ResultLost,
                (_, Some(RejectionKind::GuestNotRunning | RejectionKind::GuestNotFound)) => {
                    UnknownReason::GuestGone(chain(&error))
                }
                (_, Some(RejectionKind::AgentNotRunning | RejectionKind::Locked)) => continue,
                (
                    AgentError::Bytes { .. }
                    | AgentError::Request {
                        source: RequestError::Decode { .. },
                        ..
                    },
                    _,
                ) => UnknownReason::Undecodable(chain(&error)),
                (AgentError::Request { source, .. }, None)
                    if source.is_not_delivered() || source.is_ambiguous() =>
                {
                    tracing::debug!(%pid, error = chain(&error), "asking for the status again");
                    continue;
                }
                _ => UnknownReason::Refused(chain(&error)),
            };
            return Some(Output::unknown(reason));
        }
    }

    /// Whether the program and its descendants were killed.
    async fn kill(&self, pid: Pid, deadline: Deadline) -> bool {
        let kill = Command::new(["/bin/sh", "-c", KILL, "phoenix", &pid.to_string()]);
        let Ok(killer) = self.exec_start(&kill, deadline).await else {
            return false;
        };
        let ended = self.follow(killer, deadline.at_most(GRACE / 2)).await;
        ended.is_some_and(|output| output.status.success())
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod unit {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_an_exit_code_of_zero_is_success() {
        assert!(Exit::Exited(0).success());
        for exit in [
            Exit::Exited(1),
            Exit::Exited(-1),
            Exit::Signaled(0),
            Exit::Signaled(9),
            Exit::Unknown(UnknownReason::NotReported),
            Exit::Unknown(UnknownReason::ResultLost),
        ] {
            assert!(!exit.success(), "{exit}");
        }
    }

    /// Runs the killing script for `pid` as a sibling of it.
    async fn kill(pid: u32) -> Option<i32> {
        let killer = tokio::process::Command::new("/bin/sh")
            .args(["-c", KILL, "phoenix", &pid.to_string()])
            .status();
        killer.await.expect("killer").code()
    }

    #[tokio::test]
    async fn a_program_is_killed_with_what_it_started() {
        let mut program = tokio::process::Command::new("/bin/sh")
            .args(["-c", "sleep 600 & echo started; wait; echo survived"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("program");
        let mut stdout = program.stdout.take().expect("stdout");
        let mut text = [0; 8];
        tokio::io::AsyncReadExt::read_exact(&mut stdout, &mut text)
            .await
            .expect("started");
        assert_eq!(kill(program.id().expect("runs")).await, Some(0));
        // Ends only when nobody holds standard output open any more.
        let mut rest = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut stdout, &mut rest)
            .await
            .expect("closed");
        assert_eq!(rest, "");
        assert_eq!(program.wait().await.expect("ended").code(), None);
    }

    #[tokio::test]
    async fn a_process_of_somebody_else_is_not_killed() {
        let mut program = tokio::process::Command::new("/bin/sh")
            .args(["-c", "sleep 600 & echo $!; read -r line; kill $!"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("program");
        let mut lines = tokio::io::BufReader::new(program.stdout.take().expect("stdout"));
        let mut line = String::new();
        tokio::io::AsyncBufReadExt::read_line(&mut lines, &mut line)
            .await
            .expect("pid");
        let grandchild = line.trim().parse().expect("pid");
        assert_eq!(kill(grandchild).await, Some(3));
        drop(program.stdin.take());
        // Its own `kill` finds the grandchild alive.
        assert_eq!(program.wait().await.expect("ended").code(), Some(0));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn a_prefix_fits_into_a_small_body_and_makes_progress(
            content in proptest::collection::vec(any::<u8>(), 1..80_000),
        ) {
            let length = stdin_prefix(&content);
            prop_assert!(length > 0 && length <= STDIN_LIMIT && length <= content.len());
            let text = code_points::from_bytes(&content[..length]);
            let body: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
            prop_assert!(body.len() <= BODY_ROOM);
        }
    }
}
