//! The host's end of a guest agent's socket: `PVE::QMPClient` for peers of type `qga`.
//!
//! One command at a time per agent, as QEMU's character device serves one client at a time; who
//! waits for the agent spends his own time limit waiting. Every command is preceded by
//! `guest-sync-delimited`, in one write with it. The text is cut to as many *bytes* as it has
//! *characters*, as measured on the original: a non-ASCII request loses its end.
//!
//! Where a unix socket differs from a virtio port, the port is imitated: a connection is closed
//! only when everything was read (a client that closes over unread bytes ends `qemu-ga`), so after
//! a time-out it is kept, with whatever half message the agent's parser holds. A new connection
//! begins with 0xFF, because it may follow a client that left one; a kept one does not, because
//! the original never sends it. So an agent stuck in a cut message stays stuck until it restarts.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

/// Between attempts to reach a socket on which nobody listens.
const RECONNECT: Duration = Duration::from_millis(50);

/// Why a command has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// Nothing, or nothing complete, within the time limit.
    Timeout,
    /// The agent's end was closed after the command had been written.
    Closed,
}

/// A socket and whoever uses it now.
#[derive(Debug)]
pub(super) struct AgentChannel {
    socket: PathBuf,
    /// Longest answer the host's parser gets through before the time limit.
    answer_limit: usize,
    kept: Mutex<Option<Link>>,
    sequence: AtomicU64,
}

#[derive(Debug)]
struct Link {
    stream: UnixStream,
    received: Vec<u8>,
    /// Where the search for a line's end goes on.
    searched: usize,
}

enum Line {
    Text(Vec<u8>),
    End,
    Late,
}

impl Link {
    async fn line(&mut self, deadline: Instant) -> Line {
        loop {
            if let Some(at) = self.received[self.searched..]
                .iter()
                .position(|b| *b == b'\n')
            {
                let rest = self.received.split_off(self.searched + at + 1);
                self.searched = 0;
                return Line::Text(std::mem::replace(&mut self.received, rest));
            }
            self.searched = self.received.len();
            self.received.reserve(64 * 1024);
            match timeout_at(deadline, self.stream.read_buf(&mut self.received)).await {
                Ok(Ok(1..)) => {}
                Ok(_) => return Line::End,
                Err(_) => return Line::Late,
            }
        }
    }

    /// Whether the agent has hung up. Takes in what has arrived meanwhile.
    fn is_dead(&mut self) -> bool {
        let mut chunk = [0; 4096];
        loop {
            match self.stream.try_read(&mut chunk) {
                Ok(0) => return true,
                Ok(count) => self.received.extend(&chunk[..count]),
                Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
            }
        }
    }
}

impl AgentChannel {
    pub(super) fn new(socket: PathBuf, answer_limit: usize) -> Self {
        let sequence = AtomicU64::new(u64::from(std::process::id()) * 1_000_000);
        Self {
            socket,
            answer_limit,
            kept: Mutex::new(None),
            sequence,
        }
    }

    /// Runs one command: its `return`, or `{"error": {...}}` when the agent refuses. `limit` is
    /// for everything: waiting for the socket, connecting, sending, the answer.
    pub(super) async fn command(
        &self,
        execute: &str,
        arguments: Value,
        limit: Duration,
    ) -> Result<Value, NoAnswer> {
        let deadline = Instant::now() + limit;
        let Ok(mut kept) = timeout_at(deadline, self.kept.lock()).await else {
            return Err(NoAnswer::Timeout);
        };
        let live = kept
            .take()
            .and_then(|mut link| (!link.is_dead()).then_some(link));
        let (mut link, fresh) = match live {
            Some(link) => (link, false),
            None => (self.connect(deadline).await?, true),
        };
        let id = self.sequence.fetch_add(1, Ordering::Relaxed);
        let sync = json!({"execute": "guest-sync-delimited", "arguments": {"id": id}});
        let command = json!({"execute": execute, "arguments": arguments});
        let text = format!("{sync}\n{command}\n");
        let mut message = if fresh { vec![0xff] } else { Vec::new() };
        message.extend(&text.as_bytes()[..text.chars().count()]);
        match timeout_at(deadline, link.stream.write_all(&message)).await {
            Ok(Ok(())) => {}
            // Half a message on its way is like a message cut short: the link must stay.
            Err(_) => {
                *kept = Some(link);
                return Err(NoAnswer::Timeout);
            }
            Ok(Err(_)) => return Err(NoAnswer::Closed),
        }
        let mut ours = false;
        loop {
            let line = match link.line(deadline).await {
                Line::Text(line) => line,
                Line::End => return Err(NoAnswer::Closed),
                Line::Late => {
                    *kept = Some(link);
                    return Err(NoAnswer::Timeout);
                }
            };
            if !ours {
                ours = is_sync_answer(&line, id);
                continue;
            }
            if line.len() > self.answer_limit {
                drop(kept);
                sleep_until(deadline).await;
                return Err(NoAnswer::Timeout);
            }
            let Ok(mut answer) = serde_json::from_slice::<Value>(&line) else {
                continue;
            };
            return Ok(match answer.get_mut("return") {
                Some(value) => value.take(),
                None => json!({"error": answer["error"].take()}),
            });
        }
    }

    /// A port accepts what is written before anybody listens; a socket is tried until somebody
    /// does.
    async fn connect(&self, deadline: Instant) -> Result<Link, NoAnswer> {
        loop {
            match timeout_at(deadline, UnixStream::connect(&self.socket)).await {
                Ok(Ok(stream)) => {
                    return Ok(Link {
                        stream,
                        received: Vec::new(),
                        searched: 0,
                    });
                }
                Ok(Err(_)) if Instant::now() + RECONNECT < deadline => sleep(RECONNECT).await,
                _ => {
                    sleep_until(deadline).await;
                    return Err(NoAnswer::Timeout);
                }
            }
        }
    }
}

/// Whether a line is the answer to our synchronisation; those of earlier commands are passed over.
fn is_sync_answer(line: &[u8], id: u64) -> bool {
    let Some(at) = line.iter().rposition(|byte| *byte == 0xff) else {
        return false;
    };
    serde_json::from_slice::<Value>(&line[at + 1..])
        .is_ok_and(|answer| answer["return"].as_u64() == Some(id))
}
