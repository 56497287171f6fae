//! What tasks wrote to stdout and stderr, as the engine keeps it.
//!
//! Invariant: the bytes are a program's own: they are neither trusted nor shown here, and lines
//! that are no UTF-8 are kept with the replacement character.

use std::fmt;

use serde::Serialize;

use super::engine::{Call, Engine};
use super::error::EngineError;
use crate::ground::Deadline;

/// A line that a task wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LogLine {
    /// The task's identifier; empty where the engine does not say.
    pub task: String,
    /// The node's identifier; empty where the engine does not say.
    pub node: String,
    /// Where it was written.
    pub stream: LogStream,
    /// When, in the engine's words (RFC 3339 with nanoseconds); empty where it does not say.
    pub time: String,
    /// What, without the end of the line.
    pub text: String,
}

/// Where a task writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogStream {
    /// Standard output, or a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Whose logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogSource<'a> {
    /// Of all tasks of the service with this identifier.
    Service(&'a str),
    /// Of the task with this identifier.
    Task(&'a str),
}

impl fmt::Display for LogSource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(id) => write!(f, "service {id}"),
            Self::Task(id) => write!(f, "task {id}"),
        }
    }
}

impl Engine {
    /// The last `tail` lines of every task of `source`, in the order of their times. `tty`:
    /// whether its containers have a terminal, which the stream cannot tell.
    ///
    /// The manager asks the nodes; one that is down gives nothing.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn logs(
        &self,
        source: LogSource<'_>,
        tail: u32,
        tty: bool,
        deadline: Deadline,
    ) -> Result<Vec<LogLine>, EngineError> {
        let path = match source {
            LogSource::Service(id) => ["services", id, "logs"],
            LogSource::Task(id) => ["tasks", id, "logs"],
        };
        let call = Call::get(&path)
            .query("stdout", "1")
            .query("stderr", "1")
            .query("timestamps", "1")
            .query("details", "1")
            .query("tail", &tail.to_string());
        let body = self.send(call, deadline).await?;
        let mut lines = if tty {
            lines(LogStream::Stdout, &body)
        } else {
            frames(&body)
                .flat_map(|(stream, content)| lines(stream, content))
                .collect()
        };
        lines.sort_by(|a, b| a.time.cmp(&b.time));
        Ok(lines)
    }
}

/// The frames of a multiplexed stream: a byte for the stream, three of nothing, four of length
/// (big endian), then the content. What is cut off at the end is left out.
fn frames(mut body: &[u8]) -> impl Iterator<Item = (LogStream, &[u8])> {
    std::iter::from_fn(move || {
        let (head, rest) = body.split_first_chunk::<8>()?;
        let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
        let length = usize::try_from(length).ok()?;
        let content = rest.get(..length)?;
        body = &rest[length..];
        let stream = if head[0] == 2 {
            LogStream::Stderr
        } else {
            LogStream::Stdout
        };
        Some((stream, content))
    })
}

fn lines(stream: LogStream, content: &[u8]) -> Vec<LogLine> {
    content
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| line_of(stream, &String::from_utf8_lossy(line)))
        .collect()
}

/// `TIME KEY=VALUE,KEY=VALUE TEXT`.
fn line_of(stream: LogStream, line: &str) -> LogLine {
    let (time, rest) = line.split_once(' ').unwrap_or((line, ""));
    let (details, text) = rest.split_once(' ').unwrap_or((rest, ""));
    let detail = |key: &str| {
        details
            .split(',')
            .filter_map(|pair| pair.split_once('='))
            .find(|(name, _)| *name == key)
            .map(|(_, value)| value.to_owned())
            .unwrap_or_default()
    };
    LogLine {
        task: detail("com.docker.swarm.task.id"),
        node: detail("com.docker.swarm.node.id"),
        stream,
        time: time.to_owned(),
        text: text.trim_end_matches('\r').to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_taken_apart_and_a_torn_frame_left_out() {
        let text =
            b"2026-01-01T00:00:00.5Z com.docker.swarm.node.id=n,com.docker.swarm.task.id=t a b\n";
        let mut body = vec![
            2,
            0,
            0,
            0,
            0,
            0,
            0,
            u8::try_from(text.len()).expect("short"),
        ];
        body.extend_from_slice(text);
        body.extend([1, 0, 0, 0, 0, 0, 0, 9, b'x']);
        let found: Vec<LogLine> = frames(&body)
            .flat_map(|(stream, content)| lines(stream, content))
            .collect();
        assert_eq!(
            found,
            [LogLine {
                task: "t".to_owned(),
                node: "n".to_owned(),
                stream: LogStream::Stderr,
                time: "2026-01-01T00:00:00.5Z".to_owned(),
                text: "a b".to_owned(),
            }]
        );
    }

    #[test]
    fn lines_of_a_terminal_have_no_frames() {
        let found = lines(LogStream::Stdout, b"T d=1 one\r\nT d=1 \xff\nT\n");
        let texts: Vec<&str> = found.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(texts, ["one", "\u{fffd}", ""]);
    }
}
