//! HTTP/1.1 as pve-http-server speaks it (`PVE/APIServer/AnyEvent.pm`), over any byte stream.
//!
//! Written by hand on top of `httparse`, because a well-behaved server library cannot be brought
//! to do what this one does: answers without a length that end with the connection, reason
//! phrases in Latin-1 that carry the only text there is, two `Connection` headers in one answer,
//! and connections that are dropped at a chosen moment.

use std::time::Duration;

use time::OffsetDateTime;
use time::macros::format_description;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

/// Header lines a request may have; the line that reaches this number is refused.
const MAXIMUM_HEADER_LINES: usize = 64;
/// Bytes of header a request may have.
const MAXIMUM_HEADER_BYTES: usize = 8 * 1024;

/// A request line with its headers.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) method: String,
    /// Path and query, still percent-encoded.
    pub(super) target: String,
    pub(super) minor_version: u8,
    headers: Vec<(String, String)>,
}

impl Head {
    /// The first header of that (lower-case) name.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// What came of waiting for a request.
#[derive(Debug)]
pub(super) enum Incoming {
    Request(Head),
    /// The client went away, or said nothing for too long.
    Gone,
    /// Over the limits: no answer is given, the connection is left to its timeout.
    TooLarge,
    /// Not HTTP.
    Malformed,
}

/// An answer, before it is known whether the connection lives on.
#[derive(Debug, Clone, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// May have several lines; the first goes into the status line.
    pub(super) reason: String,
    pub(super) content_type: Option<&'static str>,
    pub(super) location: Option<String>,
    pub(super) body: Vec<u8>,
    /// Came through the inner hop, whose `Connection: close` is passed on.
    pub(super) proxied: bool,
}

impl Answer {
    /// An answer with nothing but a status line.
    pub(super) fn bare(status: u16, reason: impl Into<String>) -> Self {
        Self {
            status,
            reason: reason.into(),
            ..Self::default()
        }
    }

    /// `AnyEvent::error`: the message is the reason phrase and the untyped body.
    pub(super) fn text(status: u16, message: impl Into<String>) -> Self {
        let reason = message.into();
        let body = latin1(&reason);
        Self {
            status,
            reason,
            body,
            ..Self::default()
        }
    }

    /// The part of the message that goes into the status line.
    pub(super) fn first_line(&self) -> &str {
        self.reason.split('\n').next().unwrap_or_default()
    }

    /// The bytes on the wire, and whether the connection may be used again.
    pub(super) fn encode(mut self, keep_alive: bool) -> (Vec<u8>, bool) {
        if self.first_line().contains('\r') {
            self = Self::bare(400, "Bad Request");
        }
        let keep_alive = keep_alive && self.status < 400;
        let date = http_date();
        let mut wire = format!("HTTP/1.1 {} ", self.status).into_bytes();
        wire.extend(latin1(self.first_line()));
        wire.extend(b"\r\nCache-Control: max-age=0\r\n");
        if keep_alive {
            if self.proxied {
                wire.extend(b"Connection: close\r\n");
            }
            wire.extend(b"Connection: Keep-Alive\r\n");
        } else {
            wire.extend(b"Connection: close\r\n");
        }
        wire.extend(
            format!("Date: {date}\r\nPragma: no-cache\r\nServer: pve-api-daemon/3.0\r\n").bytes(),
        );
        if let Some(location) = &self.location {
            wire.extend(format!("Location: {location}\r\n").bytes());
        }
        if !self.body.is_empty() {
            wire.extend(format!("Content-Length: {}\r\n", self.body.len()).bytes());
        }
        if let Some(kind) = self.content_type {
            wire.extend(format!("Content-Type: {kind}\r\n").bytes());
        }
        wire.extend(format!("Expires: {date}\r\n\r\n").bytes());
        wire.extend(self.body);
        (wire, keep_alive)
    }
}

fn http_date() -> String {
    let format = format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    OffsetDateTime::now_utc()
        .format(&format)
        .unwrap_or_default()
}

/// Each character below U+0100 as one byte; others cannot be written this way and become `?`.
pub(super) fn latin1(text: &str) -> Vec<u8> {
    text.chars()
        .map(|character| u8::try_from(u32::from(character)).unwrap_or(b'?'))
        .collect()
}

/// Each byte as the character of equal value: what Perl prints for a string of bytes.
pub(super) fn code_points(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// One client's connection.
#[derive(Debug)]
pub(super) struct Connection<S> {
    stream: S,
    buffer: Vec<u8>,
    idle: Duration,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// `idle` ends the wait for a request and for its body.
    pub(super) fn new(stream: S, idle: Duration) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            idle,
        }
    }

    /// Waits for the next request.
    pub(super) async fn next(&mut self) -> Incoming {
        let deadline = Instant::now() + self.idle;
        loop {
            while self.buffer.starts_with(b"\r\n") {
                self.buffer.drain(..2);
            }
            let mut headers = [httparse::EMPTY_HEADER; MAXIMUM_HEADER_LINES];
            let mut request = httparse::Request::new(&mut headers);
            match request.parse(&self.buffer) {
                Ok(httparse::Status::Complete(length)) => {
                    // The blank line counts as one, as there.
                    if request.headers.len() + 1 >= MAXIMUM_HEADER_LINES
                        || length >= MAXIMUM_HEADER_BYTES
                    {
                        return Incoming::TooLarge;
                    }
                    let head = Head {
                        method: request.method.unwrap_or_default().to_owned(),
                        target: request.path.unwrap_or_default().to_owned(),
                        minor_version: request.version.unwrap_or(1),
                        headers: request
                            .headers
                            .iter()
                            .map(|header| {
                                (
                                    header.name.to_ascii_lowercase(),
                                    String::from_utf8_lossy(header.value).into_owned(),
                                )
                            })
                            .collect(),
                    };
                    self.buffer.drain(..length);
                    return Incoming::Request(head);
                }
                Ok(httparse::Status::Partial) if self.buffer.len() >= MAXIMUM_HEADER_BYTES => {
                    return Incoming::TooLarge;
                }
                Ok(httparse::Status::Partial) => {}
                Err(httparse::Error::TooManyHeaders) => return Incoming::TooLarge,
                Err(_) => return Incoming::Malformed,
            }
            match timeout_at(deadline, self.stream.read_buf(&mut self.buffer)).await {
                Ok(Ok(1..)) => {}
                _ => return Incoming::Gone,
            }
        }
    }

    /// The body of the request just read; `None` when the client stopped before its end.
    pub(super) async fn body(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < length {
            match timeout(self.idle, self.stream.read_buf(&mut self.buffer)).await {
                Ok(Ok(1..)) => {}
                _ => return None,
            }
        }
        let rest = self.buffer.split_off(length);
        Some(std::mem::replace(&mut self.buffer, rest))
    }

    /// Writes an answer; false when the connection is of no further use.
    pub(super) async fn answer(&mut self, answer: Answer, keep_alive: bool) -> bool {
        let (wire, keep_alive) = answer.encode(keep_alive);
        let written =
            self.stream.write_all(&wire).await.is_ok() && self.stream.flush().await.is_ok();
        written && keep_alive
    }

    /// Leaves an over-long request unanswered until the idle time is over.
    pub(super) async fn ignore(mut self) {
        let deadline = Instant::now() + self.idle;
        let mut sink = [0; 4096];
        while let Ok(Ok(1..)) = timeout_at(deadline, self.stream.read(&mut sink)).await {}
    }

    /// Ends the connection so that the last answer arrives: what the client is still sending is
    /// taken and thrown away for a moment, because closing over unread bytes would reset.
    pub(super) async fn close(mut self) {
        let _ = self.stream.shutdown().await;
        let deadline = Instant::now() + Duration::from_secs(1);
        let mut sink = [0; 16 * 1024];
        while let Ok(Ok(1..)) = timeout_at(deadline, self.stream.read(&mut sink)).await {}
    }
}
