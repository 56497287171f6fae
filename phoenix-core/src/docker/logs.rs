//! What tasks wrote to stdout and stderr, as the engine keeps it.
//!
//! Invariant: the bytes are a program's own: they are neither trusted nor shown here, and lines
//! that are no UTF-8 are kept with the replacement character.

use std::collections::VecDeque;
use std::fmt;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Serialize;
use time::OffsetDateTime;

use super::call::Call;
use super::engine::Engine;
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
    /// Not written by a task: the engine says why there is not everything, as when a node is away.
    Engine,
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

/// Which lines, and how they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct LogOptions {
    /// How many of every task's last lines. Default all that the engine has.
    pub tail: Option<u32>,
    /// Only what was written at this time or later. Default from the beginning.
    pub since: Option<OffsetDateTime>,
    /// Whether the containers have a terminal, which the stream cannot tell.
    pub tty: bool,
}

impl LogOptions {
    /// With the last lines of every task only.
    #[must_use]
    pub fn with_tail(mut self, tail: u32) -> Self {
        self.tail = Some(tail);
        self
    }

    /// With what was written at `since` or later only.
    #[must_use]
    pub fn with_since(mut self, since: OffsetDateTime) -> Self {
        self.since = Some(since);
        self
    }

    /// Of containers that have a terminal, or have none.
    #[must_use]
    pub fn with_tty(mut self, tty: bool) -> Self {
        self.tty = tty;
        self
    }
}

impl Engine {
    /// What every task of `source` wrote, in the order of its times.
    ///
    /// The manager asks the nodes; one that is down gives nothing.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn logs(
        &self,
        source: LogSource<'_>,
        options: LogOptions,
        deadline: Deadline,
    ) -> Result<Vec<LogLine>, EngineError> {
        let body = self.send(call(source, options, false), deadline).await?;
        let mut decoder = Decoder::new(options.tty);
        decoder.feed(&body);
        decoder.end();
        let mut lines = Vec::from(decoder.lines);
        lines.sort_by(|a, b| a.time.cmp(&b.time));
        Ok(lines)
    }

    /// As [`Engine::logs`], then what the tasks write from now on, those that the service gets
    /// later too. `deadline`: until the engine begins to answer; the lines have none.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn follow_logs(
        &self,
        source: LogSource<'_>,
        options: LogOptions,
        deadline: Deadline,
    ) -> Result<FollowedLogs, EngineError> {
        let call = call(source, options, true);
        let operation = call.operation();
        let (engine, body) = self.open(&call, deadline).await?;
        Ok(FollowedLogs {
            engine,
            operation,
            body,
            decoder: Decoder::new(options.tty),
        })
    }
}

fn call(source: LogSource<'_>, options: LogOptions, follow: bool) -> Call {
    let path = match source {
        LogSource::Service(id) => ["services", id, "logs"],
        LogSource::Task(id) => ["tasks", id, "logs"],
    };
    let mut call = Call::get(&path)
        .query("stdout", "1")
        .query("stderr", "1")
        .query("timestamps", "1")
        .query("details", "1");
    if let Some(tail) = options.tail {
        call = call.query("tail", &tail.to_string());
    }
    if let Some(since) = options.since {
        let (seconds, rest) = (since.unix_timestamp(), since.nanosecond());
        call = call.query("since", &format!("{seconds}.{rest:09}"));
    }
    if follow {
        call = call.query("follow", "1");
    }
    call
}

/// Lines as they are written. Dropping it ends it.
#[derive(Debug)]
pub struct FollowedLogs {
    engine: Engine,
    operation: String,
    body: Incoming,
    decoder: Decoder,
}

impl FollowedLogs {
    /// The next line, as soon as there is one; `None` when the engine ends the answer, as it does
    /// when the service is gone. It may be dropped at any time without losing a line.
    ///
    /// # Errors
    /// [`EngineError::Ambiguous`] when the connection breaks.
    pub async fn next(&mut self) -> Result<Option<LogLine>, EngineError> {
        loop {
            if let Some(line) = self.decoder.lines.pop_front() {
                return Ok(Some(line));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.decoder.feed(&data);
                    }
                }
                Some(Err(error)) => return Err(self.engine.broke_off(&self.operation, error)),
                None => {
                    self.decoder.end();
                    return Ok(self.decoder.lines.pop_front());
                }
            }
        }
    }
}

/// Takes a stream apart, in whatever pieces it comes.
///
/// Where a container has no terminal the stream is of frames: a byte for the stream, three of
/// nothing, four of length (big endian), then the content. A frame that is cut off is left out. The
/// engine cuts a long line into several frames, of which only the last ends the line. What is not of
/// frames is a terminal's, whatever was said of it: another spec may have been written since.
#[derive(Debug)]
struct Decoder {
    tty: bool,
    /// What has come and is no whole frame or line yet.
    rest: Vec<u8>,
    /// Lines whose ends have not come yet.
    begun: Vec<LogLine>,
    lines: VecDeque<LogLine>,
}

impl Decoder {
    fn new(tty: bool) -> Self {
        Self {
            tty,
            rest: Vec::new(),
            begun: Vec::new(),
            lines: VecDeque::new(),
        }
    }

    fn feed(&mut self, piece: &[u8]) {
        let before = self.rest.len();
        self.rest.extend_from_slice(piece);
        let mut taken = 0;
        while !self.tty {
            match frame(&self.rest[taken..]) {
                Framed::Whole(stream, content) => {
                    let whole = content.ends_with(b"\n") || stream == LogStream::Engine;
                    let found: Vec<LogLine> = lines(stream, content).collect();
                    taken += FRAME_HEAD + content.len();
                    self.take(found, whole);
                }
                Framed::Part => break,
                Framed::Not => self.tty = true,
            }
        }
        if self.tty {
            let fresh = before.max(taken);
            let end = self.rest[fresh..].iter().rposition(|byte| *byte == b'\n');
            let end = match end {
                Some(end) => fresh + end + 1,
                None if self.rest.len() - taken > LONGEST => self.rest.len(),
                None => taken,
            };
            self.lines
                .extend(lines(LogStream::Stdout, &self.rest[taken..end]));
            taken = end;
        }
        self.rest.drain(..taken);
    }

    /// Takes in the lines of a frame; `whole`: whether the last of them has ended.
    fn take(&mut self, found: Vec<LogLine>, whole: bool) {
        let count = found.len();
        for (index, line) in found.into_iter().enumerate() {
            let same = |begun: &LogLine| begun.task == line.task && begun.stream == line.stream;
            let line = match self.begun.iter().position(same) {
                Some(at) => {
                    let mut begun = self.begun.swap_remove(at);
                    begun.text.push_str(&line.text);
                    begun
                }
                None => line,
            };
            if whole || index + 1 < count || line.text.len() > LONGEST {
                self.lines.push_back(line);
            } else {
                self.begun.push(line);
            }
        }
    }

    /// Nothing more comes.
    fn end(&mut self) {
        let rest = std::mem::take(&mut self.rest);
        if self.tty {
            self.lines.extend(lines(LogStream::Stdout, &rest));
        }
        self.lines.extend(self.begun.drain(..));
    }
}

/// How long the head of a frame is.
const FRAME_HEAD: usize = 8;
/// A line that is longer is given out in pieces; the engine's frames are far shorter.
const LONGEST: usize = 1 << 20;

/// What bytes begin with.
enum Framed<'b> {
    Whole(LogStream, &'b [u8]),
    /// Not all of a frame.
    Part,
    /// No frame.
    Not,
}

fn frame(bytes: &[u8]) -> Framed<'_> {
    let Some((head, rest)) = bytes.split_first_chunk::<FRAME_HEAD>() else {
        return Framed::Part;
    };
    let stream = match head[..4] {
        [0 | 1, 0, 0, 0] => LogStream::Stdout,
        [2, 0, 0, 0] => LogStream::Stderr,
        [3, 0, 0, 0] => LogStream::Engine,
        _ => return Framed::Not,
    };
    let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
    match usize::try_from(length) {
        Ok(length) if length <= 16 * LONGEST => match rest.get(..length) {
            Some(content) => Framed::Whole(stream, content),
            None => Framed::Part,
        },
        _ => Framed::Not,
    }
}

fn lines(stream: LogStream, content: &[u8]) -> impl Iterator<Item = LogLine> {
    content
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(move |line| line_of(stream, &String::from_utf8_lossy(line)))
}

/// `TIME KEY=VALUE,KEY=VALUE TEXT`; of the engine itself the text alone.
fn line_of(stream: LogStream, line: &str) -> LogLine {
    if stream == LogStream::Engine {
        return LogLine {
            task: String::new(),
            node: String::new(),
            stream,
            time: String::new(),
            text: line.to_owned(),
        };
    }
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

    /// What comes of a stream that arrives in pieces of `size`.
    fn decoded(tty: bool, stream: &[u8], size: usize) -> Vec<LogLine> {
        let mut decoder = Decoder::new(tty);
        for piece in stream.chunks(size) {
            decoder.feed(piece);
        }
        decoder.end();
        decoder.lines.into()
    }

    #[test]
    fn a_stream_is_taken_apart_however_it_comes_and_a_torn_frame_left_out() {
        let text =
            b"2026-01-01T00:00:00.5Z com.docker.swarm.node.id=n,com.docker.swarm.task.id=t a b\n";
        let mut body = vec![2, 0, 0, 0, 0, 0, 0];
        body.push(u8::try_from(text.len()).expect("short"));
        body.extend_from_slice(text);
        body.extend([3, 0, 0, 0, 0, 0, 0, 9]);
        body.extend_from_slice(b"a is away");
        body.extend([1, 0, 0, 0, 0, 0, 0, 9, b'x']);
        let engine = LogLine {
            task: String::new(),
            node: String::new(),
            stream: LogStream::Engine,
            time: String::new(),
            text: "a is away".to_owned(),
        };
        for size in 1..=body.len() {
            assert_eq!(
                decoded(false, &body, size),
                [
                    LogLine {
                        task: "t".to_owned(),
                        node: "n".to_owned(),
                        stream: LogStream::Stderr,
                        time: "2026-01-01T00:00:00.5Z".to_owned(),
                        text: "a b".to_owned(),
                    },
                    engine.clone(),
                ]
            );
        }
    }

    #[test]
    fn a_long_line_in_several_frames_is_one() {
        let mut body = Vec::new();
        for (task, text) in [
            ("a", "one "),
            ("b", "other\n"),
            ("a", "two "),
            ("a", "three\n"),
        ] {
            let content = format!("T com.docker.swarm.task.id={task} {text}");
            body.extend([1, 0, 0, 0, 0, 0, 0]);
            body.push(u8::try_from(content.len()).expect("short"));
            body.extend_from_slice(content.as_bytes());
        }
        for size in 1..=body.len() {
            let found = decoded(false, &body, size);
            let texts: Vec<&str> = found.iter().map(|line| line.text.as_str()).collect();
            assert_eq!(texts, ["other", "one two three"]);
        }
    }

    #[test]
    fn what_is_not_of_frames_is_a_terminals() {
        let stream = b"2026-01-01T00:00:00Z d=1 one\r\n2026-01-01T00:00:00Z d=1 two\r\n";
        for size in 1..=stream.len() {
            let found = decoded(false, stream, size);
            let texts: Vec<&str> = found.iter().map(|line| line.text.as_str()).collect();
            assert_eq!(texts, ["one", "two"]);
        }
        // A bar that never ends its line is given out all the same.
        let bar = vec![b'='; LONGEST + 10];
        let mut decoder = Decoder::new(true);
        decoder.feed(&bar);
        assert_eq!(decoder.lines.len(), 1);
        assert!(decoder.rest.is_empty());
    }

    #[test]
    fn lines_of_a_terminal_have_no_frames() {
        let stream = b"T d=1 one\r\nT d=1 \xff\nT\nT d=1 last";
        for size in 1..=stream.len() {
            let found = decoded(true, stream, size);
            let texts: Vec<&str> = found.iter().map(|line| line.text.as_str()).collect();
            assert_eq!(texts, ["one", "\u{fffd}", "", "last"]);
        }
    }
}
