//! One Docker engine: its address, its API version, and the two clients that talk to it over
//! the same transport.
//!
//! The API version is negotiated once, from the `Api-Version` header of `/_ping`, and every
//! later request is pinned to it: an unversioned request would be answered in whatever dialect
//! the engine speaks newest. (bollard 0.21 drops the version from its paths; the transport puts
//! it there.)

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bollard::{BollardRequest, Docker};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::OnceCell;

use super::call::Call;
use super::error::{EngineError, Fault, Refusal, Unanswered, without_rpc_prefix};
use super::transport::{IdentityError, TlsIdentity, Transport};
use super::wire::nullable;
use crate::ground::Deadline;

/// How long connecting to one of several managers may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(4);
/// How long one of several managers may take to answer a read.
const READ_LIMIT: Duration = Duration::from_secs(10);
/// Pause before a request that was refused for a passing reason is sent again.
pub(super) const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// How long looking for what a write may have made may take.
const LOOK_LIMIT: Duration = Duration::from_secs(15);

/// A version of the Engine API, such as 1.45.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiVersion {
    /// The number before the dot.
    pub major: u16,
    /// The number after it.
    pub minor: u16,
}

impl ApiVersion {
    /// The oldest version Phoenix speaks: Docker 20.10's.
    pub const OLDEST: Self = Self {
        major: 1,
        minor: 41,
    };
    /// The newest version Phoenix asks for: Docker 27's.
    pub const NEWEST: Self = Self {
        major: 1,
        minor: 47,
    };

    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.trim().split_once('.')?;
        Some(Self {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
        })
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Where an engine listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Endpoint {
    /// A unix socket.
    Unix(PathBuf),
    /// A TCP port with TLS.
    Tcp {
        /// Host name or IP address, without brackets.
        host: String,
        /// Port.
        port: u16,
    },
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
        }
    }
}

/// One request and how it ended, for an observer. Never a body, a query or a header.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Exchange {
    /// The method.
    pub method: Method,
    /// The path, with the API version.
    pub path: String,
    /// The status; `None` when no answer came.
    pub status: Option<StatusCode>,
    /// From sending to the head of the answer.
    pub took: Duration,
}

type Observer = Arc<dyn Fn(&Exchange) + Send + Sync>;

/// A Docker engine, or [any of several](Engine::any_of). Cheap to clone; connects when first asked
/// something.
#[derive(Clone)]
pub struct Engine {
    endpoint: Arc<Endpoint>,
    transport: Arc<Transport>,
    version: Arc<OnceCell<ApiVersion>>,
    observer: Option<Observer>,
    /// Others that will do as well, and which of all answered last: 0 is this one.
    others: Arc<[Engine]>,
    turn: Arc<AtomicUsize>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("endpoint", &self.endpoint)
            .field("version", &self.version.get())
            .field("others", &self.others)
            .finish_non_exhaustive()
    }
}

/// What an engine says of its software.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineVersion {
    /// Such as `26.1.5+dfsg1`.
    pub version: String,
    /// The newest API it speaks.
    pub api: String,
    /// The oldest API it speaks.
    pub min_api: String,
    /// Operating system, such as `linux`.
    pub os: String,
    /// Architecture in Go's words, such as `amd64`.
    pub arch: String,
}

/// What an engine says of itself, from `/info`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
#[non_exhaustive]
pub struct EngineInfo {
    /// The engine's own identifier.
    #[serde(rename = "ID", default, deserialize_with = "nullable")]
    pub id: String,
    /// The host name.
    #[serde(default, deserialize_with = "nullable")]
    pub name: String,
    /// Such as `26.1.5+dfsg1`.
    #[serde(default, deserialize_with = "nullable")]
    pub server_version: String,
    /// Whether containers outlive a restart of the daemon. A swarm refuses it.
    #[serde(default, deserialize_with = "nullable")]
    pub live_restore_enabled: bool,
    /// Operating system, such as `linux`.
    #[serde(rename = "OSType", default, deserialize_with = "nullable")]
    pub os: String,
    /// Architecture in the kernel's words, such as `x86_64`.
    #[serde(default, deserialize_with = "nullable")]
    pub architecture: String,
    /// Its part in a swarm.
    #[serde(default, deserialize_with = "nullable")]
    pub swarm: super::SwarmState,
}

impl Engine {
    /// The engine behind a unix socket.
    #[must_use]
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self::new(Endpoint::Unix(path.clone()), Transport::unix(path))
    }

    /// The engine at a TCP port, with TLS on both sides. `host` is a name or an address without
    /// brackets; it is what the engine's certificate must cover.
    ///
    /// # Errors
    /// [`IdentityError`] when the identity cannot be used; nothing is sent yet.
    pub fn tcp_tls(host: &str, port: u16, identity: &TlsIdentity) -> Result<Self, IdentityError> {
        let transport = Transport::tls(host, port, identity)?;
        let host = host.to_owned();
        Ok(Self::new(Endpoint::Tcp { host, port }, transport))
    }

    fn new(endpoint: Endpoint, transport: Transport) -> Self {
        Self {
            endpoint: Arc::new(endpoint),
            transport: Arc::new(transport),
            version: Arc::default(),
            observer: None,
            others: Arc::default(),
            turn: Arc::default(),
        }
    }

    /// The swarm that these engines manage, through whichever of them answers: what one of them
    /// cannot do (it is not reached, has no leader, is no manager) the next one is asked, as long as
    /// the request cannot have run. A request that may have run is not sent to another, but for
    /// reads. `None` without engines.
    ///
    /// For what is the swarm's: services, tasks, nodes, networks, secrets, configs. What belongs to
    /// one engine (its volumes, its part in the swarm) is asked of that engine.
    #[must_use]
    pub fn any_of(engines: impl IntoIterator<Item = Engine>) -> Option<Self> {
        let mut engines = engines.into_iter();
        let first = engines.next()?;
        Some(Self {
            others: engines.collect(),
            turn: Arc::default(),
            ..first
        })
    }

    /// The same engine, with `observer` told of every request once its answer began or failed.
    #[must_use]
    pub fn with_observer(self, observer: impl Fn(&Exchange) + Send + Sync + 'static) -> Self {
        self.observed(&(Arc::new(observer) as Observer))
    }

    fn observed(mut self, observer: &Observer) -> Self {
        self.observer = Some(Arc::clone(observer));
        let others = self.others.iter().cloned();
        self.others = others.map(|other| other.observed(observer)).collect();
        self
    }

    /// Where it listens.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Asks whether it answers.
    ///
    /// # Errors
    /// [`EngineError`] when it does not.
    pub async fn ping(&self, deadline: Deadline) -> Result<ApiVersion, EngineError> {
        let operation = "GET /_ping";
        let request = self.request(Method::GET, "/_ping", None, Bytes::new(), operation)?;
        let (headers, _) = self.exchange(request, operation, deadline, None).await?;
        let newest = headers
            .get("api-version")
            .and_then(|value| value.to_str().ok())
            .and_then(ApiVersion::parse)
            .ok_or_else(|| self.decode(operation, "no Api-Version header".into()))?;
        if newest < ApiVersion::OLDEST {
            return Err(EngineError::TooOld {
                endpoint: self.endpoint.to_string(),
                found: newest.to_string(),
                needed: ApiVersion::OLDEST.to_string(),
            });
        }
        Ok(newest)
    }

    /// Waits until the engine answers, as after a restart of the daemon.
    ///
    /// # Errors
    /// The last [`EngineError`] when it does not before the deadline, or at once when waiting
    /// cannot help (such as a refused certificate).
    pub async fn await_answer(&self, deadline: Deadline) -> Result<ApiVersion, EngineError> {
        loop {
            let error = match self.ping(deadline).await {
                Ok(version) => return Ok(version),
                Err(error) => error,
            };
            if !error.is_transient() || deadline.pause(RETRY_PAUSE).await.is_err() {
                return Err(error);
            }
        }
    }

    /// The API version that requests are pinned to: the engine's newest, at most
    /// [`ApiVersion::NEWEST`]. Asked once.
    ///
    /// # Errors
    /// [`EngineError`] when the engine does not answer or is too old.
    pub async fn api_version(&self, deadline: Deadline) -> Result<ApiVersion, EngineError> {
        self.version
            .get_or_try_init(|| async { Ok(self.ping(deadline).await?.min(ApiVersion::NEWEST)) })
            .await
            .copied()
    }

    /// The API version of the first manager that answers, where this stands for several.
    ///
    /// # Errors
    /// As [`Engine::api_version`], of the first one, when none answers.
    pub async fn spoken_version(&self, deadline: Deadline) -> Result<ApiVersion, EngineError> {
        if self.others.is_empty() {
            return self.api_version(deadline).await;
        }
        let mut failed = None;
        for member in std::iter::once(self).chain(self.others.iter()) {
            match member.api_version(deadline.at_most(CONNECT_LIMIT)).await {
                Ok(version) => return Ok(version),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        match failed {
            Some(error) => Err(error),
            None => self.api_version(deadline).await,
        }
    }

    /// What it says of its software.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn version(&self, deadline: Deadline) -> Result<EngineVersion, EngineError> {
        let version = self
            .bollard("GET /version", deadline, |docker| async move {
                docker.version().await
            })
            .await?;
        Ok(EngineVersion {
            version: version.version.unwrap_or_default(),
            api: version.api_version.unwrap_or_default(),
            min_api: version.min_api_version.unwrap_or_default(),
            os: version.os.unwrap_or_default(),
            arch: version.arch.unwrap_or_default(),
        })
    }

    /// What it says of itself. Not through bollard, whose closed enums refuse a swarm state
    /// they do not know.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn info(&self, deadline: Deadline) -> Result<EngineInfo, EngineError> {
        self.fetch(Call::get(&["info"]), deadline).await
    }

    /// Sends a call and decodes the JSON of its answer.
    pub(super) async fn fetch<T: DeserializeOwned>(
        &self,
        call: Call,
        deadline: Deadline,
    ) -> Result<T, EngineError> {
        let operation = call.operation();
        let body = self.send(call, deadline).await?;
        serde_json::from_slice(&body).map_err(|error| self.decode(&operation, error.into()))
    }

    /// As [`Self::fetch`], with `None` where the engine knows no such object.
    pub(super) async fn fetch_optional<T: DeserializeOwned>(
        &self,
        call: Call,
        deadline: Deadline,
    ) -> Result<Option<T>, EngineError> {
        match self.fetch(call, deadline).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is(Refusal::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends a call once; of several engines, to one after another until one takes it. A read is
    /// sent again while it is refused for a passing reason: managers pass reads on to their leader,
    /// and have none while they elect another.
    pub(super) async fn send(&self, call: Call, deadline: Deadline) -> Result<Bytes, EngineError> {
        loop {
            let sent = if self.others.is_empty() {
                self.send_here(&call, deadline, None).await
            } else {
                self.around(&call, deadline, |member, limit| {
                    Box::pin(member.send_here(&call, limit, Some(CONNECT_LIMIT)))
                })
                .await
            };
            match sent {
                Err(error) if reads_again(&call, &error, deadline).await => {}
                sent => return sent,
            }
        }
    }

    /// As [`Self::send`], and gives the answer as it comes, with the engine that it comes from. The
    /// deadline is for its beginning.
    pub(super) async fn open(
        &self,
        call: &Call,
        deadline: Deadline,
    ) -> Result<(Self, Incoming), EngineError> {
        loop {
            let opened = if self.others.is_empty() {
                let body = self.open_here(call, deadline, None).await;
                body.map(|body| (self.clone(), body))
            } else {
                self.around(call, deadline, |member, limit| {
                    Box::pin(async move {
                        let body = member.open_here(call, limit, Some(CONNECT_LIMIT)).await?;
                        Ok((member.clone(), body))
                    })
                })
                .await
            };
            match opened {
                Err(error) if reads_again(call, &error, deadline).await => {}
                opened => return opened,
            }
        }
    }

    /// Has a call sent to each of the engines in turn, from the one that answered last, until one
    /// takes it. The error is that of one that answered, where any did.
    async fn around<'a, T>(
        &'a self,
        call: &'a Call,
        deadline: Deadline,
        send: impl Fn(&'a Self, Deadline) -> BoxFuture<'a, Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        let count = self.others.len() + 1;
        let first = self.turn.load(Ordering::Relaxed);
        let mut failed: Option<EngineError> = None;
        for step in 0..count {
            let index = (first + step) % count;
            let member = match index {
                0 => self,
                index => &self.others[index - 1],
            };
            let limit = if call.method == Method::GET {
                deadline.at_most(READ_LIMIT)
            } else {
                deadline
            };
            match send(member, limit).await {
                Err(error) if call.may_go_elsewhere(&error) => {
                    tracing::debug!(endpoint = %member.endpoint, %error, "asking another manager");
                    if failed.is_none() || error.refusal().is_some() {
                        failed = Some(error);
                    }
                    if deadline.is_over() {
                        break;
                    }
                }
                sent => {
                    self.turn.store(index, Ordering::Relaxed);
                    return sent;
                }
            }
        }
        Err(failed.unwrap_or_else(|| {
            Fault::from_elapsed(deadline.elapsed(), false)
                .into_error(&self.endpoint, &call.operation())
        }))
    }

    /// Sends a call to this engine. `connect`: how long connecting may take, within the deadline.
    async fn send_here(
        &self,
        call: &Call,
        deadline: Deadline,
        connect: Option<Duration>,
    ) -> Result<Bytes, EngineError> {
        let operation = call.operation();
        let request = self.request_of(call, deadline, connect).await?;
        let (_, body) = self
            .exchange(request, &operation, deadline, connect)
            .await?;
        Ok(body)
    }

    /// As [`Self::send_here`], with the answer as it comes.
    async fn open_here(
        &self,
        call: &Call,
        deadline: Deadline,
        connect: Option<Duration>,
    ) -> Result<Incoming, EngineError> {
        let operation = call.operation();
        let request = self.request_of(call, deadline, connect).await?;
        let response = self.head(request, &operation, deadline, connect).await?;
        let (head, body) = response.into_parts();
        if head.status.is_success() {
            return Ok(body);
        }
        let body = self.whole(body, &operation, deadline).await?;
        Err(self.rejected(&operation, head.status.as_u16(), &body_message(&body)))
    }

    /// That the connection broke while `operation` was being answered.
    pub(super) fn broke_off(&self, operation: &str, error: hyper::Error) -> EngineError {
        Fault::Ambiguous(error.into()).into_error(&self.endpoint, operation)
    }

    /// The request for a call, in the version that this engine speaks.
    async fn request_of(
        &self,
        call: &Call,
        deadline: Deadline,
        connect: Option<Duration>,
    ) -> Result<Request<Full<Bytes>>, EngineError> {
        let version = match (self.version.get(), connect) {
            (Some(version), _) => *version,
            (None, None) => self.api_version(deadline).await?,
            (None, Some(limit)) => self.api_version(deadline.at_most(limit)).await?,
        };
        let path = format!("/v{version}{}{}", call.path, call.query);
        self.request(
            call.method.clone(),
            &path,
            call.registry_auth.clone(),
            call.body.clone().unwrap_or_default(),
            &call.operation(),
        )
    }

    /// Sends a write until it is not refused for a passing reason any more. Says whether an
    /// earlier attempt may have run all the same. A removal, which names its object by identifier,
    /// is also sent again after an attempt without an answer.
    pub(super) async fn send_persistently(
        &self,
        call: impl Fn() -> Call,
        deadline: Deadline,
    ) -> (Result<Bytes, EngineError>, bool) {
        let mut uncertain = false;
        loop {
            let call = call();
            let repeatable = call.method == Method::DELETE;
            let error = match self.send(call, deadline).await {
                Ok(body) => return (Ok(body), uncertain),
                Err(error) => error,
            };
            let passing = error.refusal().is_some_and(Refusal::is_transient)
                || repeatable && error.may_have_run();
            if !passing || deadline.pause(RETRY_PAUSE).await.is_err() {
                return (Err(error), uncertain);
            }
            uncertain |= error.may_have_run();
            tracing::debug!(endpoint = %self.endpoint, %error, "sending again");
        }
    }

    fn request(
        &self,
        method: Method,
        path_and_query: &str,
        registry_auth: Option<HeaderValue>,
        body: Bytes,
        operation: &str,
    ) -> Result<Request<Full<Bytes>>, EngineError> {
        let mut builder = Request::builder().method(method).uri(format!(
            "http://{}{path_and_query}",
            self.transport.authority()
        ));
        if !body.is_empty() {
            builder = builder.header(CONTENT_TYPE, "application/json");
        }
        if let Some(auth) = registry_auth {
            builder = builder.header("X-Registry-Auth", auth);
        }
        builder.body(Full::new(body)).map_err(|error| {
            Fault::NotDelivered(super::Unreached::Connect, Some(error.into()))
                .into_error(&self.endpoint, operation)
        })
    }

    /// Sends `request` and reads the whole answer; an error status becomes
    /// [`EngineError::Rejected`], or [`EngineError::Ambiguous`] where it says so of a write.
    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        operation: &str,
        deadline: Deadline,
        connect: Option<Duration>,
    ) -> Result<(HeaderMap, Bytes), EngineError> {
        let response = self.head(request, operation, deadline, connect).await?;
        let (head, body) = response.into_parts();
        let body = self.whole(body, operation, deadline).await?;
        if head.status.is_success() {
            return Ok((head.headers, body));
        }
        Err(self.rejected(operation, head.status.as_u16(), &body_message(&body)))
    }

    /// All of an answer's body.
    async fn whole(
        &self,
        body: Incoming,
        operation: &str,
        deadline: Deadline,
    ) -> Result<Bytes, EngineError> {
        let whole = deadline.run(body.collect()).await.map_err(|elapsed| {
            Fault::from_elapsed(elapsed, true).into_error(&self.endpoint, operation)
        })?;
        match whole {
            Ok(whole) => Ok(whole.to_bytes()),
            Err(error) => Err(self.broke_off(operation, error)),
        }
    }

    async fn head(
        &self,
        request: Request<Full<Bytes>>,
        operation: &str,
        deadline: Deadline,
        connect: Option<Duration>,
    ) -> Result<Response<Incoming>, EngineError> {
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        let start = Instant::now();
        let answer = self.transport.send(request, deadline, connect).await;
        let exchange = Exchange {
            method,
            path,
            status: answer.as_ref().ok().map(Response::status),
            took: start.elapsed(),
        };
        tracing::debug!(
            endpoint = %self.endpoint,
            method = %exchange.method,
            path = exchange.path,
            status = exchange.status.map(|status| status.as_u16()),
            took = ?exchange.took,
            "request"
        );
        if let Some(observer) = &self.observer {
            observer(&exchange);
        }
        answer.map_err(|fault| fault.into_error(&self.endpoint, operation))
    }

    /// Runs a bollard call over this engine's transport. Not for anything that carries a
    /// secret: bollard logs bodies.
    pub(super) async fn bollard<T, F, Fut>(
        &self,
        operation: &str,
        deadline: Deadline,
        call: F,
    ) -> Result<T, EngineError>
    where
        F: FnOnce(Docker) -> Fut,
        Fut: Future<Output = Result<T, bollard::errors::Error>>,
    {
        let engine = self.clone();
        let name: Arc<str> = operation.into();
        let transport = move |request: BollardRequest| {
            let engine = engine.clone();
            let name = Arc::clone(&name);
            async move {
                engine
                    .forward(request, &name, deadline)
                    .await
                    .map_err(|error| bollard::errors::Error::IOError {
                        err: std::io::Error::other(error),
                    })
            }
        };
        // The deadline is ours; bollard's own timeout only must not come first.
        let timeout = deadline.remaining().as_secs().saturating_add(5);
        let docker = Docker::connect_with_custom_transport(
            transport,
            Some(format!("http://{}", self.transport.authority())),
            timeout,
            bollard::API_DEFAULT_VERSION,
        )
        .map_err(|error| self.decode(operation, error.into()))?;
        match deadline.run(call(docker)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.translate(error, operation)),
            // The head is awaited under the same deadline inside, so this is the body's.
            Err(elapsed) => {
                Err(Fault::from_elapsed(elapsed, true).into_error(&self.endpoint, operation))
            }
        }
    }

    async fn forward(
        &self,
        request: BollardRequest,
        operation: &str,
        deadline: Deadline,
    ) -> Result<Response<Incoming>, EngineError> {
        let version = self.api_version(deadline).await?;
        let (head, body) = request.into_parts();
        let body = body
            .collect()
            .await
            .map_err(|error| {
                Fault::NotDelivered(super::Unreached::Connect, Some(error))
                    .into_error(&self.endpoint, operation)
            })?
            .to_bytes();
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let path = format!("/v{version}{}", without_version(path));
        let request = self.request(head.method, &path, None, body, operation)?;
        self.head(request, operation, deadline, None).await
    }

    fn translate(&self, error: bollard::errors::Error, operation: &str) -> EngineError {
        use bollard::errors::Error;
        match error {
            Error::IOError { err } => match err.downcast::<EngineError>() {
                Ok(error) => error,
                Err(error) => Fault::Ambiguous(error.into()).into_error(&self.endpoint, operation),
            },
            Error::DockerResponseServerError {
                status_code,
                message,
            } => self.rejected(operation, status_code, &message),
            Error::HyperResponseError { err } => {
                Fault::Ambiguous(err.into()).into_error(&self.endpoint, operation)
            }
            Error::RequestTimeoutError => {
                Fault::Ambiguous(error.into()).into_error(&self.endpoint, operation)
            }
            error => self.decode(operation, error.into()),
        }
    }

    fn rejected(&self, operation: &str, status: u16, message: &str) -> EngineError {
        // Read from the whole message: what is shown lacks the code.
        let unanswered = Refusal::classify(status, message) == Refusal::Unanswered;
        if unanswered && !operation.starts_with("GET ") {
            let message = without_rpc_prefix(message).to_owned();
            let source = Unanswered { status, message };
            return Fault::Ambiguous(source.into()).into_error(&self.endpoint, operation);
        }
        let message = if unanswered {
            message.trim()
        } else {
            without_rpc_prefix(message)
        };
        EngineError::Rejected {
            endpoint: self.endpoint.to_string(),
            operation: operation.to_owned(),
            status,
            message: message.to_owned(),
        }
    }

    pub(super) fn decode(&self, operation: &str, source: super::error::Source) -> EngineError {
        EngineError::Decode {
            endpoint: self.endpoint.to_string(),
            operation: operation.to_owned(),
            source,
        }
    }
}

/// The deadline of a look for what a write may have made: its own, for that of the write may have
/// passed without an answer.
pub(super) fn looking() -> Deadline {
    Deadline::after(LOOK_LIMIT)
}

/// Whether a call that failed is a read to be sent again; pauses before it says so.
async fn reads_again(call: &Call, error: &EngineError, deadline: Deadline) -> bool {
    call.method == Method::GET
        && error.refusal().is_some_and(Refusal::is_transient)
        && deadline.pause(RETRY_PAUSE).await.is_ok()
}

/// The message of an error answer: JSON, or (old engines, for a wrong version) plain text.
fn body_message(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Message {
        message: String,
    }
    serde_json::from_slice::<Message>(body).map_or_else(
        |_| String::from_utf8_lossy(body).trim().to_owned(),
        |answer| answer.message,
    )
}

/// `path` without a leading `/v1.53`.
fn without_version(path: &str) -> &str {
    let versioned = path.strip_prefix("/v").and_then(|rest| {
        let end = rest.find('/')?;
        ApiVersion::parse(&rest[..end]).map(|_| &rest[end..])
    });
    versioned.unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_in_a_path_is_taken_off() {
        assert_eq!(without_version("/v1.53/info?x=1"), "/info?x=1");
        assert_eq!(without_version("/volumes/v1.5"), "/volumes/v1.5");
        assert_eq!(without_version("/v1/x"), "/v1/x");
    }

    #[test]
    fn path_segments_and_queries_are_encoded() {
        let call = Call::get(&["services", "a/b?c#d"]).query("filters", r#"{"a b":1}"#);
        assert_eq!(call.path, "/services/a%2Fb%3Fc%23d");
        assert_eq!(call.query, "?filters=%7B%22a%20b%22%3A1%7D");
        assert_eq!(call.operation(), "GET /services/a%2Fb%3Fc%23d");
    }

    #[test]
    fn versions_compare_by_number() {
        let old = ApiVersion::parse("1.9").expect("version");
        assert!(old < ApiVersion::OLDEST);
        assert_eq!(ApiVersion::parse("2"), None);
    }
}
