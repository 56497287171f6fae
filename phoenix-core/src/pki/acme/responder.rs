//! Answers `GET /.well-known/acme-challenge/…` while orders are pending, and only then.
//!
//! All orders of this process share one listener for each address: the first opens it, the last
//! closes it. What is asked for is bounded in size and time, and everything else is not found.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

const PREFIX: &str = "/.well-known/acme-challenge/";

/// How long a connection may take from beginning to end.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest head of a request.
const HEAD_LIMIT: usize = 16 * 1024;

/// How many connections are served at once; more wait.
const CONNECTIONS: usize = 64;

/// How long an address that was just given up may still be in use.
const CLOSING: Duration = Duration::from_secs(1);

/// Why nothing can be answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResponderError {
    /// Another program has the address.
    #[error(
        "{address} is in use by another program: stop that, or let it pass \
         /.well-known/acme-challenge/ on to another address and set acme.http_01.listen to that one"
    )]
    InUse {
        /// The address.
        address: SocketAddr,
    },
    /// This user may not open the port.
    #[error(
        "this user may not listen on {address}: set acme.http_01.listen to a port above 1023 that \
         port 80 is forwarded to, or grant CAP_NET_BIND_SERVICE"
    )]
    NotPermitted {
        /// The address.
        address: SocketAddr,
    },
    /// The address cannot be opened.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The listeners that are open.
static OPEN: Mutex<BTreeMap<SocketAddr, Weak<Listener>>> = Mutex::new(BTreeMap::new());

pub(super) type Answers = Arc<Mutex<BTreeMap<String, (String, usize)>>>;

/// One open address. It closes when dropped.
struct Listener {
    address: SocketAddr,
    answers: Answers,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One token that is answered until this is dropped.
pub(super) struct Answer {
    listener: Arc<Listener>,
    token: String,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer(at {})", self.listener.address)
    }
}

impl Answer {
    /// Answers requests for `token` at `listen` with `content`.
    pub(super) async fn new(
        listen: SocketAddr,
        token: &str,
        content: &str,
    ) -> Result<Self, ResponderError> {
        let listener = open(listen).await?;
        locked(&listener.answers)
            .entry(token.to_owned())
            .and_modify(|(_, count)| *count += 1)
            .or_insert_with(|| (content.to_owned(), 1));
        Ok(Self {
            listener,
            token: token.to_owned(),
        })
    }

    /// Where it is answered.
    #[cfg(test)]
    fn address(&self) -> SocketAddr {
        self.listener.address
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let mut answers = locked(&self.listener.answers);
        if let Some((_, count)) = answers.get_mut(&self.token) {
            *count -= 1;
            if *count == 0 {
                answers.remove(&self.token);
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The listener at `address`, opened when it is not open.
async fn open(address: SocketAddr) -> Result<Arc<Listener>, ResponderError> {
    let begun = std::time::Instant::now();
    loop {
        match open_once(address) {
            // A listener that was dropped a moment ago still has the address.
            Err(ResponderError::InUse { .. }) if begun.elapsed() < CLOSING => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            other => return other,
        }
    }
}

fn open_once(address: SocketAddr) -> Result<Arc<Listener>, ResponderError> {
    let mut listeners = locked(&OPEN);
    listeners.retain(|_, listener| listener.strong_count() > 0);
    if let Some(listener) = listeners.get(&address).and_then(Weak::upgrade)
        && !listener.task.is_finished()
    {
        return Ok(listener);
    }
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => ResponderError::InUse { address },
        io::ErrorKind::PermissionDenied => ResponderError::NotPermitted { address },
        _ => ResponderError::Listen { address, source },
    };
    let socket = std::net::TcpListener::bind(address).map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    let socket = TcpListener::from_std(socket).map_err(failed)?;
    let bound = socket.local_addr().map_err(failed)?;
    let answers = Answers::default();
    let task = tokio::spawn(accept(socket, Arc::clone(&answers)));
    let listener = Arc::new(Listener {
        address: bound,
        answers,
        task,
    });
    listeners.insert(bound, Arc::downgrade(&listener));
    Ok(listener)
}

async fn accept(socket: TcpListener, answers: Answers) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return;
        };
        match socket.accept().await {
            Ok((stream, _)) => {
                let answers = Arc::clone(&answers);
                tokio::spawn(async move {
                    // A connection that fails concerns only who made it.
                    let _ = tokio::time::timeout(CONNECTION_TIMEOUT, serve(stream, answers)).await;
                    drop(slot);
                });
            }
            // Such as no more descriptors: that passes.
            Err(error) => {
                tracing::debug!(%error, "a connection to the ACME responder was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

pub(super) async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    answers: Answers,
) -> Result<(), hyper::Error> {
    let service = service_fn(move |request| {
        let response = respond(&request, &answers);
        async move { Ok::<_, Infallible>(response) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(CONNECTION_TIMEOUT)
        .max_buf_size(HEAD_LIMIT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

fn respond<B>(request: &Request<B>, answers: &Answers) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    if request.method() != Method::GET && request.method() != Method::HEAD {
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let content = request
        .uri()
        .path()
        .strip_prefix(PREFIX)
        .and_then(|token| Some(locked(answers).get(token)?.0.clone()));
    match content {
        Some(content) => {
            response.headers_mut().insert(
                CONTENT_TYPE,
                HeaderValue::from_static("application/octet-stream"),
            );
            *response.body_mut() = Full::new(content.into());
        }
        None => *response.status_mut() = StatusCode::NOT_FOUND,
    }
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("connected");
        // The server may have answered and closed before it was all sent.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).expect("text")
    }

    fn get(token: &str) -> String {
        format!("GET {PREFIX}{token} HTTP/1.1\r\nHost: a\r\n\r\n")
    }

    fn any_port() -> SocketAddr {
        ([127, 0, 0, 1], 0).into()
    }

    #[tokio::test]
    async fn a_token_is_answered_and_nothing_else() {
        let answer = Answer::new(any_port(), "abc", "abc.thumb")
            .await
            .expect("open");
        let at = answer.address();
        let ok = ask(at, &get("abc")).await;
        assert!(ok.starts_with("HTTP/1.1 200"), "{ok}");
        assert!(
            ok.contains("content-type: application/octet-stream"),
            "{ok}"
        );
        assert!(ok.ends_with("\r\n\r\nabc.thumb"), "{ok}");
        let head = ask(at, &get("abc").replacen("GET", "HEAD", 1)).await;
        assert!(
            head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"),
            "{head}"
        );
        for other in [
            get("abcd"),
            get(""),
            get("../abc"),
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n".into(),
        ] {
            assert!(ask(at, &other).await.starts_with("HTTP/1.1 404"), "{other}");
        }
        let post = ask(
            at,
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        )
        .await;
        assert!(post.starts_with("HTTP/1.1 405"), "{post}");
        let long = ask(at, &get(&"a".repeat(2 * HEAD_LIMIT))).await;
        assert!(!long.starts_with("HTTP/1.1 200"), "{long}");
    }

    #[tokio::test]
    async fn orders_share_an_address_which_closes_with_the_last() {
        let first = Answer::new(any_port(), "a", "1").await.expect("open");
        let at = first.address();
        let second = Answer::new(at, "b", "2").await.expect("shared");
        let again = Answer::new(at, "b", "2").await.expect("shared");
        assert!(ask(at, &get("a")).await.ends_with("\r\n\r\n1"));
        drop(first);
        drop(again);
        assert!(ask(at, &get("a")).await.starts_with("HTTP/1.1 404"));
        assert!(ask(at, &get("b")).await.ends_with("\r\n\r\n2"));
        drop(second);
        // Opening it again waits until the closed one has given the address back.
        let later = Answer::new(at, "c", "3").await.expect("open again");
        assert!(ask(at, &get("b")).await.starts_with("HTTP/1.1 404"));
        drop(later);
        for _ in 0..100 {
            if TcpStream::connect(at).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{at} is still open");
    }

    #[tokio::test]
    async fn an_address_in_use_is_an_error_that_says_what_to_do() {
        let taken = std::net::TcpListener::bind(any_port()).expect("bound");
        let at = taken.local_addr().expect("address");
        let error = Answer::new(at, "a", "1").await.expect_err("in use");
        assert!(matches!(error, ResponderError::InUse { .. }), "{error:?}");
        assert!(error.to_string().contains("acme.http_01.listen"), "{error}");
    }
}
