//! HTTP/1.1 over unix sockets and TCP, one connection per request: the lab's own way to engines
//! and registries, independent of the clients under test.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::Frame;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::{LabError, Result};

/// The longest that one request may take; imports of large images set their own.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A unix socket.
    Unix(PathBuf),
    /// A TCP address, without TLS.
    Tcp(SocketAddr),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "http://{address}"),
        }
    }
}

/// What a request carries.
#[derive(Debug, Clone, Default)]
pub enum Payload {
    /// Nothing.
    #[default]
    Empty,
    /// A JSON document.
    Json(Value),
    /// Bytes of a media type.
    Bytes(&'static str, Bytes),
    /// A file's content, streamed.
    File(&'static str, PathBuf),
}

/// A server's answer, of any status.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: http::HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON; `Null` where it is not.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// A header's text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

type Outgoing = BoxBody<Bytes, io::Error>;

fn whole(bytes: Bytes) -> Outgoing {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}

async fn file_body(path: &Path) -> io::Result<(Outgoing, u64)> {
    let file = tokio::fs::File::open(path).await?;
    let length = file.metadata().await?.len();
    let chunks = futures_util::stream::try_unfold(file, |mut file| async move {
        let mut buffer = bytes::BytesMut::with_capacity(1 << 20);
        let read = file.read_buf(&mut buffer).await?;
        Ok::<_, io::Error>((read > 0).then(|| (buffer.freeze(), file)))
    });
    let body = StreamBody::new(chunks.map_ok(Frame::data));
    Ok((BodyExt::boxed(body), length))
}

impl Endpoint {
    /// Sends a request and reads the whole answer, whatever its status.
    ///
    /// # Errors
    /// [`LabError::Wire`] where the server cannot be talked to, [`LabError::Late`] after a minute.
    pub async fn send(&self, method: &str, path: &str, payload: Payload) -> Result<Answer> {
        self.send_within(method, path, payload, PATIENCE).await
    }

    /// As [`Endpoint::send`], with another limit of time.
    ///
    /// # Errors
    /// As [`Endpoint::send`].
    pub async fn send_within(
        &self,
        method: &str,
        path: &str,
        payload: Payload,
        allowed: Duration,
    ) -> Result<Answer> {
        let what = || format!("{method} {self}{path}");
        tokio::time::timeout(allowed, self.exchange(method, path, payload))
            .await
            .map_err(|_| LabError::Late {
                what: what(),
                allowed,
            })?
            .map_err(|source| LabError::Wire {
                what: what(),
                source,
            })
    }

    /// As [`Endpoint::send`], with an answer of 400 or more as an error.
    ///
    /// # Errors
    /// Also [`LabError::Refused`].
    pub async fn ask(&self, method: &str, path: &str, payload: Payload) -> Result<Answer> {
        let answer = self.send(method, path, payload).await?;
        self.accept(method, path, answer)
    }

    pub(crate) fn accept(&self, method: &str, path: &str, answer: Answer) -> Result<Answer> {
        if answer.status < 400 {
            return Ok(answer);
        }
        let message = answer.json()["message"].as_str().map_or_else(
            || String::from_utf8_lossy(&answer.body).trim().to_owned(),
            str::to_owned,
        );
        Err(LabError::Refused {
            what: format!("{method} {self}{path}"),
            status: answer.status,
            message,
        })
    }

    async fn exchange(
        &self,
        method: &str,
        path: &str,
        payload: Payload,
    ) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
        let mut request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "lab");
        let body = match payload {
            Payload::Empty => whole(Bytes::new()),
            Payload::Json(value) => {
                request = request.header("content-type", "application/json");
                whole(Bytes::from(serde_json::to_vec(&value)?))
            }
            Payload::Bytes(media, bytes) => {
                request = request.header("content-type", media);
                whole(bytes)
            }
            Payload::File(media, path) => {
                let (body, length) = file_body(&path).await?;
                request = request
                    .header("content-type", media)
                    .header("content-length", length);
                body
            }
        };
        let request = request.body(body)?;
        match self {
            Self::Unix(path) => converse(UnixStream::connect(path).await?, request).await,
            Self::Tcp(address) => converse(TcpStream::connect(address).await?, request).await,
        }
    }
}

async fn converse<S>(
    stream: S,
    request: http::Request<Outgoing>,
) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let answer = async {
        let response = sender.send_request(request).await?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok::<_, hyper::Error>(Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body,
        })
    }
    .await;
    driver.abort();
    Ok(answer?)
}
