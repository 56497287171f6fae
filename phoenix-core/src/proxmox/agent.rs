//! The QEMU guest agent of one VM: reachability, facts about the guest, its files.
//!
//! The agent serves one client at a time, and says nothing else when busy than when it is off;
//! so calls take turns, and that answer is asked again for a while. It is given before a command
//! is sent to the agent, so that asking again doubles nothing.
//!
//! No text that is not ASCII is ever sent in argv or a path: the host would cut the message short
//! by each further byte, and the agent's parser would stay stuck for everybody until it restarts.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::client::{Client, GuestKind};
use super::code_points::{self, NotABytePoint};
use super::error::{Rejection, RejectionKind, RequestError, Undelivered};
use super::loose;
use super::transport::Parameters;
use crate::ground::Deadline;

/// The most bytes that [`Agent::file_write`] can write.
pub const FILE_WRITE_LIMIT: usize = 46_080;

/// How much of a file is read at a time: a worker of the API is blocked for as long.
const READ_STEP: usize = 512 * 1024;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a silent agent keeps the host busy, which gives up on it after 3 s.
const SILENCE: Duration = Duration::from_secs(4);

/// The agent of one VM. Cheap to clone; all clones, and all agents of one client, take turns.
#[derive(Debug, Clone)]
pub struct Agent {
    client: Client,
    vmid: u32,
    node: Arc<Mutex<Option<String>>>,
    fixed: bool,
    patience: Duration,
    /// Whether the server reads parts of files (qemu-server 9.1.5 and later).
    parts: Arc<AtomicBool>,
}

/// A call to an agent failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// No such guest, or none that the token may see.
    #[error("no guest has the VMID {vmid}, or the token may not see it")]
    NoSuchGuest {
        /// The number.
        vmid: u32,
    },
    /// The guest is no VM: containers have no agent.
    #[error("guest {vmid} is of kind {kind} and has no agent")]
    NotAVm {
        /// The number.
        vmid: u32,
        /// What it is.
        kind: GuestKind,
    },
    /// A text cannot be sent. Nothing was.
    #[error(transparent)]
    Text(#[from] BadText),
    /// More input than fits into one call. Nothing was sent.
    #[error("{length} bytes are too many for one call, {limit} fit")]
    TooLong {
        /// The bytes given.
        length: usize,
        /// The most that fit.
        limit: usize,
    },
    /// A file in the guest is larger than was allowed for.
    #[error("{path} is larger than {limit} bytes")]
    FileTooLarge {
        /// The file.
        path: String,
        /// The most bytes allowed for.
        limit: usize,
    },
    /// What the agent sent is not what the server makes of bytes.
    #[error("the output from guest {vmid} cannot be decoded")]
    Bytes {
        /// The VM.
        vmid: u32,
        /// The first code point that stands for no byte.
        source: NotABytePoint,
    },
    /// The request failed.
    #[error("the agent of guest {vmid} did not do it")]
    Request {
        /// The VM.
        vmid: u32,
        /// How; says whether it may have been carried out.
        source: RequestError,
    },
}

/// A text that cannot be sent to an agent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place} cannot be sent to a guest's agent: {problem}")]
#[non_exhaustive]
pub struct BadText {
    /// Which text, such as `argument 2` or `the path`.
    pub place: String,
    /// What is wrong with it.
    pub problem: TextProblem,
}

/// What is wrong with a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TextProblem {
    /// There is none.
    #[error("it is empty")]
    Empty,
    /// It holds a character that is not ASCII.
    #[error("{0:?} is not ASCII")]
    NotAscii(char),
    /// It holds a NUL.
    #[error("it holds a NUL")]
    Nul,
}

/// Refuses what would wedge the agent.
pub(super) fn check_text(place: impl FnOnce() -> String, text: &str) -> Result<(), BadText> {
    let problem = text.chars().find_map(|c| match c {
        '\0' => Some(TextProblem::Nul),
        c if !c.is_ascii() => Some(TextProblem::NotAscii(c)),
        _ => None,
    });
    match problem {
        None => Ok(()),
        Some(problem) => Err(BadText {
            place: place(),
            problem,
        }),
    }
}

fn check_path(path: &str) -> Result<(), BadText> {
    if path.is_empty() {
        return Err(BadText {
            place: "the path".into(),
            problem: TextProblem::Empty,
        });
    }
    check_text(|| "the path".into(), path)
}

impl AgentError {
    /// Whether what was asked for may have been done although no answer says so.
    #[must_use]
    pub fn is_ambiguous(&self) -> bool {
        match self {
            Self::Request { source, .. } => {
                source.is_ambiguous() || matches!(source, RequestError::Decode { .. })
            }
            Self::Bytes { .. } => true,
            _ => false,
        }
    }

    /// The failed request, when it was one.
    #[must_use]
    pub fn request(&self) -> Option<&RequestError> {
        match self {
            Self::Request { source, .. } => Some(source),
            _ => None,
        }
    }

    /// What the server's rejection means, when it was one.
    #[must_use]
    pub fn rejection_kind(&self) -> Option<RejectionKind> {
        self.request().and_then(RequestError::rejection_kind)
    }
}

/// What an agent says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct AgentInfo {
    /// Its version.
    #[serde(default)]
    pub version: String,
    /// The commands it knows.
    #[serde(default)]
    pub supported_commands: Vec<AgentCommand>,
}

/// A command of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct AgentCommand {
    /// Such as `guest-exec`.
    pub name: String,
    /// Whether the guest's configuration allows it.
    #[serde(default, deserialize_with = "loose::boolean")]
    pub enabled: bool,
}

impl AgentInfo {
    /// Whether the command is known and allowed.
    #[must_use]
    pub fn allows(&self, command: &str) -> bool {
        self.supported_commands
            .iter()
            .any(|known| known.enabled && known.name == command)
    }
}

/// What a guest's system is. Every part may be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct OsInfo {
    /// Such as `debian`, `mswindows`.
    pub id: Option<String>,
    /// Such as `Debian GNU/Linux`.
    pub name: Option<String>,
    /// Such as `Debian GNU/Linux 13 (trixie)`.
    pub pretty_name: Option<String>,
    /// Such as `13 (trixie)`.
    pub version: Option<String>,
    /// Such as `13`.
    pub version_id: Option<String>,
    /// The kernel's release, such as `6.12.0-amd64`.
    pub kernel_release: Option<String>,
    /// The kernel's version text.
    pub kernel_version: Option<String>,
    /// Such as `x86_64`.
    pub machine: Option<String>,
}

#[derive(Deserialize)]
struct Simple {
    #[serde(default)]
    result: Value,
}

#[derive(Deserialize)]
struct AgentFault {
    error: AgentFaultText,
}

#[derive(Deserialize)]
struct AgentFaultText {
    class: String,
    #[serde(default)]
    desc: String,
}

#[derive(Deserialize)]
struct Part {
    content: String,
    #[serde(default, deserialize_with = "loose::boolean")]
    truncated: bool,
}

impl Agent {
    pub(super) fn new(client: Client, vmid: u32, node: Option<String>) -> Self {
        Self {
            client,
            vmid,
            fixed: node.is_some(),
            node: Arc::new(Mutex::new(node)),
            patience: PATIENCE,
            parts: Arc::new(AtomicBool::new(true)),
        }
    }

    /// The same agent, asked again for at most `patience` when it does not answer. Default 15 s.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The VM's number.
    #[must_use]
    pub fn vmid(&self) -> u32 {
        self.vmid
    }

    /// Asks once whether the agent answers, without asking again.
    ///
    /// # Errors
    /// [`AgentError`]; one that does not answer is [`RejectionKind::AgentNotRunning`].
    pub async fn ping(&self, deadline: Deadline) -> Result<(), AgentError> {
        let agent = self.clone().with_patience(Duration::ZERO);
        let _: Value = agent.simple(Method::POST, "ping", deadline).await?;
        Ok(())
    }

    /// Waits until the agent answers: while the VM is off or boots.
    ///
    /// # Errors
    /// [`AgentError`]: the last one when the deadline passes, and at once what waiting does not
    /// mend, such as a refused token or an agent that is not configured.
    pub async fn await_ready(&self, deadline: Deadline) -> Result<(), AgentError> {
        let mut pause = FIRST_PAUSE;
        loop {
            let Err(error) = self.ping(deadline).await else {
                return Ok(());
            };
            let worth_waiting = match error.request() {
                Some(request) => {
                    request.is_not_delivered()
                        || request.is_ambiguous()
                        || matches!(
                            request.rejection_kind(),
                            Some(RejectionKind::AgentNotRunning | RejectionKind::GuestNotRunning)
                        )
                }
                None => false,
            };
            if !worth_waiting || deadline.remaining() < pause {
                return Err(error);
            }
            if deadline.pause(pause).await.is_err() {
                return Err(error);
            }
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// The agent's version and commands. Changes nothing.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn info(&self, deadline: Deadline) -> Result<AgentInfo, AgentError> {
        self.simple(Method::GET, "info", deadline).await
    }

    /// The guest's host name. Changes nothing.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn host_name(&self, deadline: Deadline) -> Result<String, AgentError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "kebab-case")]
        struct HostName {
            host_name: String,
        }
        let answer: HostName = self.simple(Method::GET, "get-host-name", deadline).await?;
        Ok(answer.host_name)
    }

    /// What system the guest runs. Changes nothing.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn os_info(&self, deadline: Deadline) -> Result<OsInfo, AgentError> {
        self.simple(Method::GET, "get-osinfo", deadline).await
    }

    /// The content of a file in the guest; `None` when there is none. Changes nothing. A large
    /// file is read in parts, between which it may change.
    ///
    /// # Errors
    /// [`AgentError`]; [`AgentError::FileTooLarge`] when it has more than `max` bytes.
    pub async fn file_read(
        &self,
        path: &str,
        max: usize,
        deadline: Deadline,
    ) -> Result<Option<Vec<u8>>, AgentError> {
        check_path(path)?;
        let mut content = Vec::new();
        loop {
            let parts = self.parts.load(Ordering::Relaxed);
            let mut query = vec![("file", Cow::Borrowed(path))];
            if parts {
                query.push(("count", READ_STEP.to_string().into()));
                query.push(("offset", content.len().to_string().into()));
            }
            let part: Part = match self.call(Method::GET, "file-read", &query, deadline).await {
                Ok(part) => part,
                Err(error) => match error.request().and_then(RequestError::rejection) {
                    Some(rejection)
                        if parts
                            && content.is_empty()
                            && (rejection.does_not_know("count")
                                || rejection.does_not_know("offset")) =>
                    {
                        self.parts.store(false, Ordering::Relaxed);
                        continue;
                    }
                    Some(rejection)
                        if content.is_empty() && rejection.kind() == RejectionKind::NoSuchFile =>
                    {
                        return Ok(None);
                    }
                    _ => return Err(error),
                },
            };
            let bytes = self.bytes(&part.content)?;
            let ended = bytes.is_empty() || !part.truncated;
            content.extend_from_slice(&bytes);
            if content.len() > max || (!parts && !ended) {
                return Err(AgentError::FileTooLarge {
                    path: path.to_owned(),
                    limit: max,
                });
            }
            if ended {
                return Ok(Some(content));
            }
        }
    }

    /// Writes a file in the guest, at most [`FILE_WRITE_LIMIT`] bytes. Not for secrets: a new file
    /// gets mode 0666, and the writing is not atomic.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn file_write(
        &self,
        path: &str,
        content: &[u8],
        deadline: Deadline,
    ) -> Result<(), AgentError> {
        check_path(path)?;
        if content.len() > FILE_WRITE_LIMIT {
            return Err(AgentError::TooLong {
                length: content.len(),
                limit: FILE_WRITE_LIMIT,
            });
        }
        let form = [
            ("file", Cow::Borrowed(path)),
            ("content", STANDARD.encode(content).into()),
            ("encode", "0".into()),
        ];
        let _: Value = self
            .call(Method::POST, "file-write", &form, deadline)
            .await?;
        Ok(())
    }

    pub(super) fn bytes(&self, text: &str) -> Result<Vec<u8>, AgentError> {
        code_points::to_bytes(text).map_err(|source| AgentError::Bytes {
            vmid: self.vmid,
            source,
        })
    }

    fn failed(&self, source: RequestError) -> AgentError {
        AgentError::Request {
            vmid: self.vmid,
            source,
        }
    }

    /// A command whose answer is `{"result":…}`, and whose failure is too, with status 200.
    async fn simple<T: DeserializeOwned>(
        &self,
        method: Method,
        command: &str,
        deadline: Deadline,
    ) -> Result<T, AgentError> {
        let answer: Simple = self.call(method.clone(), command, &[], deadline).await?;
        let call = || format!("{method} agent/{command} of guest {}", self.vmid);
        if let Ok(AgentFault { error }) = AgentFault::deserialize(&answer.result) {
            return Err(self.failed(RequestError::Rejected {
                call: call(),
                rejection: Rejection {
                    status: 200,
                    message: format!("Agent error: {}: {}", error.class, error.desc),
                    errors: Default::default(),
                },
            }));
        }
        serde_json::from_value(answer.result).map_err(|source| {
            self.failed(RequestError::Decode {
                call: call(),
                source,
            })
        })
    }

    /// A call to the agent when it is this VM's turn: asked again while the agent does not answer
    /// and patience lasts, and once on another node when the VM has moved.
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        command: &str,
        parameters: &Parameters<'_>,
        deadline: Deadline,
    ) -> Result<T, AgentError> {
        let patience = deadline.at_most(self.patience);
        let mut pause = FIRST_PAUSE;
        let mut moved = self.fixed;
        loop {
            let node = self.node(deadline).await?;
            let error = match self
                .take_turn(&node, &method, command, parameters, deadline)
                .await
            {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            match error.rejection_kind() {
                Some(RejectionKind::GuestNotFound) if !moved => {
                    moved = true;
                    *self.node.lock().unwrap_or_else(PoisonError::into_inner) = None;
                }
                // Cut off at the deadline, another try would end with less than is known now.
                Some(RejectionKind::AgentNotRunning)
                    if patience.remaining() > pause && deadline.remaining() > pause + SILENCE =>
                {
                    if patience.pause(pause).await.is_err() {
                        return Err(self.failed(error));
                    }
                    pause = (pause * 2).min(LAST_PAUSE);
                }
                _ => return Err(self.failed(error)),
            }
        }
    }

    async fn take_turn<T: DeserializeOwned>(
        &self,
        node: &str,
        method: &Method,
        command: &str,
        parameters: &Parameters<'_>,
        deadline: Deadline,
    ) -> Result<T, RequestError> {
        let vmid = self.vmid.to_string();
        let path = ["nodes", node, "qemu", &vmid, "agent", command];
        let (guest, node) = (self.client.turn(self.vmid), self.client.permits(node));
        let turns = deadline
            .run(async { (guest.lock().await, node.acquire().await) })
            .await;
        let _turns = turns.map_err(|elapsed| RequestError::NotDelivered {
            call: format!("{method} /{}", path.join("/")),
            source: Undelivered::Deadline(elapsed),
        })?;
        if *method == Method::GET {
            self.client
                .transport()
                .get(&path, parameters, deadline)
                .await
        } else {
            self.client
                .transport()
                .post(&path, parameters, deadline)
                .await
        }
    }

    async fn node(&self, deadline: Deadline) -> Result<String, AgentError> {
        let known = self
            .node
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(node) = known {
            return Ok(node);
        }
        let vmid = self.vmid;
        let guest = self
            .client
            .guest(vmid, deadline)
            .await
            .map_err(|source| self.failed(source))?
            .ok_or(AgentError::NoSuchGuest { vmid })?;
        if guest.kind != GuestKind::Qemu {
            return Err(AgentError::NotAVm {
                vmid,
                kind: guest.kind,
            });
        }
        *self.node.lock().unwrap_or_else(PoisonError::into_inner) = Some(guest.node.clone());
        Ok(guest.node)
    }
}
