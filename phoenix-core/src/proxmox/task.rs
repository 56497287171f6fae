//! Tasks: what the server does in the background, and the UPID it names them by.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

use super::client::Client;
use super::error::RequestError;
use crate::ground::{Deadline, Elapsed};

const FIRST_POLL: Duration = Duration::from_millis(250);
const LAST_POLL: Duration = Duration::from_secs(2);

/// The name of a task: `UPID:node:pid:pstart:starttime:type:id:user:`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Upid {
    text: String,
    node: String,
    kind: String,
    id: String,
    user: String,
    started: u64,
}

/// A text is not a UPID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a UPID: {problem}")]
#[non_exhaustive]
pub struct UpidError {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl Upid {
    /// The whole text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The node that the task runs on, which can differ from the one asked.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Its type, such as `qmstart`.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// What it works on, such as a VMID; may be empty.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Who started it: `user@realm` or `user@realm!token`.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// When it started, in Unix seconds.
    #[must_use]
    pub fn started(&self) -> u64 {
        self.started
    }
}

impl FromStr for Upid {
    type Err = UpidError;

    fn from_str(text: &str) -> Result<Self, UpidError> {
        let fail = |problem| UpidError {
            text: text.to_owned(),
            problem,
        };
        let rest = text
            .strip_prefix("UPID:")
            .ok_or_else(|| fail("it does not begin with UPID:"))?;
        let rest = rest
            .strip_suffix(':')
            .ok_or_else(|| fail("it does not end with a colon"))?;
        let fields: Vec<&str> = rest.split(':').collect();
        let [node, pid, pstart, started, kind, id, user] = fields[..] else {
            return Err(fail("it has not seven fields"));
        };
        let hex = |field: &str, lengths: std::ops::RangeInclusive<usize>| {
            lengths.contains(&field.len()) && field.bytes().all(|b| b.is_ascii_hexdigit())
        };
        if !hex(pid, 8..=8) || !hex(pstart, 8..=9) || !hex(started, 8..=8) {
            return Err(fail("its numbers are not hexadecimal"));
        }
        if node.is_empty() || kind.is_empty() || user.is_empty() {
            return Err(fail("node, type or user is empty"));
        }
        if text.contains('/') || text.contains(char::is_whitespace) {
            return Err(fail("it holds a slash or white space"));
        }
        Ok(Self {
            node: node.to_owned(),
            kind: kind.to_owned(),
            id: id.to_owned(),
            user: user.to_owned(),
            started: u64::from_str_radix(started, 16)
                .map_err(|_| fail("its start time is no number"))?,
            text: text.to_owned(),
        })
    }
}

impl fmt::Display for Upid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Upid {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// Where a task stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskStatus {
    /// It runs.
    Running,
    /// It has ended.
    Ended(TaskEnd),
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskEnd {
    /// Well. For a guest under high availability this means only that the request is queued.
    Ok,
    /// Well, with this many warnings in its log.
    Warnings(u64),
    /// With this error.
    Failed(String),
    /// Its worker was killed or its node rebooted: what it did is not known.
    Unknown,
}

impl TaskEnd {
    /// Whether it ended well, with warnings or without.
    #[must_use]
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Ok | Self::Warnings(_))
    }

    fn read(status: Option<&str>) -> Self {
        match status {
            Some("OK") => Self::Ok,
            None | Some("unexpected status" | "") => Self::Unknown,
            Some(other) => match other.strip_prefix("WARNINGS: ") {
                Some(count) => count
                    .trim()
                    .parse()
                    .map_or_else(|_| Self::Failed(other.to_owned()), Self::Warnings),
                None => Self::Failed(other.to_owned()),
            },
        }
    }
}

/// A task was not seen to end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// It still ran when the deadline passed. It is not stopped.
    #[error("task {upid} did not end in time")]
    Deadline {
        /// The task.
        upid: Upid,
        /// How long was waited.
        source: Elapsed,
    },
    /// Its status cannot be had.
    #[error("the status of task {upid} cannot be read")]
    Request {
        /// The task.
        upid: Upid,
        /// Why.
        source: RequestError,
    },
}

#[derive(Deserialize)]
struct StatusAnswer {
    status: String,
    #[serde(default)]
    exitstatus: Option<String>,
}

impl Client {
    /// Where the task stands, asked on the node that its UPID names.
    ///
    /// # Errors
    /// [`RequestError`]; a task that was rotated away is
    /// [`NoSuchTask`](super::RejectionKind::NoSuchTask).
    pub async fn task_status(
        &self,
        upid: &Upid,
        deadline: Deadline,
    ) -> Result<TaskStatus, RequestError> {
        let path = ["nodes", upid.node(), "tasks", upid.as_str(), "status"];
        let answer: StatusAnswer = self.transport().get(&path, &[], deadline).await?;
        Ok(match answer.status.as_str() {
            "stopped" => TaskStatus::Ended(TaskEnd::read(answer.exitstatus.as_deref())),
            _ => TaskStatus::Running,
        })
    }

    /// Waits until the task has ended, by polling with growing pauses.
    ///
    /// # Errors
    /// [`TaskError`]. A task that fails is no error of waiting: it is a [`TaskEnd`].
    pub async fn await_task(&self, upid: &Upid, deadline: Deadline) -> Result<TaskEnd, TaskError> {
        let mut pause = FIRST_POLL;
        loop {
            match self.task_status(upid, deadline).await {
                Ok(TaskStatus::Ended(end)) => return Ok(end),
                Ok(TaskStatus::Running) => {}
                // Reading again does no harm, whatever became of this answer.
                Err(error) if error.is_not_delivered() || error.is_ambiguous() => {
                    if deadline.is_over() {
                        return Err(TaskError::Request {
                            upid: upid.clone(),
                            source: error,
                        });
                    }
                }
                Err(source) => {
                    return Err(TaskError::Request {
                        upid: upid.clone(),
                        source,
                    });
                }
            }
            if let Err(source) = deadline.pause(pause).await {
                return Err(TaskError::Deadline {
                    upid: upid.clone(),
                    source,
                });
            }
            pause = (pause * 2).min(LAST_POLL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_upid_is_taken_apart() {
        let text = "UPID:pve-1:0009A8B1:0F2C6E70:66B1F2C3:qmstart:1001:root@pam!phoenix:";
        let upid: Upid = text.parse().expect("upid");
        assert_eq!(upid.as_str(), text);
        assert_eq!(upid.node(), "pve-1");
        assert_eq!(upid.kind(), "qmstart");
        assert_eq!(upid.id(), "1001");
        assert_eq!(upid.user(), "root@pam!phoenix");
        assert_eq!(upid.started(), 0x66B1_F2C3);
        let empty = "UPID:pve:0009A8B1:0F2C6E701:66B1F2C3:vzdump::root@pam:";
        assert_eq!(empty.parse::<Upid>().expect("upid").id(), "");
    }

    #[test]
    fn the_end_of_a_task_is_told_apart() {
        for (status, expected) in [
            (Some("OK"), TaskEnd::Ok),
            (Some("WARNINGS: 2"), TaskEnd::Warnings(2)),
            (Some("unexpected status"), TaskEnd::Unknown),
            (None, TaskEnd::Unknown),
            (
                Some("VM 100 already running"),
                TaskEnd::Failed("VM 100 already running".into()),
            ),
        ] {
            let end = TaskEnd::read(status);
            assert_eq!(end, expected);
            assert_eq!(
                end.is_success(),
                matches!(status, Some("OK" | "WARNINGS: 2"))
            );
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_reader(text in ".*") {
            let _ = text.parse::<Upid>();
        }

        #[test]
        fn what_is_read_is_what_was_written(
            node in "[a-z][a-z0-9-]{0,9}", pid: u32, pstart: u32, start: u32,
            kind in "[a-z]{1,9}", id in "[0-9]{0,9}", user in "[a-z]{1,6}@[a-z]{1,4}(![a-z]{1,4})?",
        ) {
            let text = format!("UPID:{node}:{pid:08X}:{pstart:08X}:{start:08X}:{kind}:{id}:{user}:");
            let upid: Upid = text.parse().expect("upid");
            prop_assert_eq!(upid.node(), node);
            prop_assert_eq!(upid.started(), u64::from(start));
            prop_assert_eq!(upid.user(), user);
            prop_assert_eq!(upid.to_string(), text);
        }
    }
}
