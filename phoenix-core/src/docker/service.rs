//! Services of the swarm, as the JSON that the engine keeps.
//!
//! A spec goes out and comes back as JSON: the published type stubs lose the health check (the
//! engine writes `Healthcheck`), the previous spec and whatever is newer than they are, and an
//! update replaces everything, so what is lost on reading is deleted on writing.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use time::OffsetDateTime;

use super::call::Call;
use super::engine::Engine;
use super::error::{EngineError, Refusal};
use super::registry::RegistryAuth;
use super::wire::{Created, ObjectVersion, filters, instant, is_labelled, label_filter, nullable};
use crate::ground::Deadline;

const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// What the engine takes where a spec says nothing.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// A service as the swarm has it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ServiceObserved {
    /// Its identifier.
    pub id: String,
    /// The version that an update must name. The manager raises it too, when the status of an
    /// update changes.
    pub version: u64,
    /// Its spec, exactly as the engine gave it.
    pub spec: Value,
    /// The spec before the last update; a rollback returns to it.
    pub previous_spec: Option<Value>,
    /// How the last update went; absent after a creation or before the update began.
    pub update_status: Option<UpdateStatus>,
    /// How many tasks run and should run; only where it was asked for.
    pub counts: Option<ServiceCounts>,
    /// For a job: which run of it is the current one.
    pub job_iteration: u64,
}

impl ServiceObserved {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.text("/Name").unwrap_or_default()
    }

    /// A label of the service (not of its containers).
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        self.spec.get("Labels")?.get(key)?.as_str()
    }

    /// The image of its containers.
    #[must_use]
    pub fn image(&self) -> &str {
        self.text("/TaskTemplate/ContainerSpec/Image")
            .unwrap_or_default()
    }

    /// How many tasks it should have.
    #[must_use]
    pub fn mode(&self) -> ServiceMode {
        let mode = self.spec.get("Mode");
        let has = |key: &str| mode.is_some_and(|mode| mode.get(key).is_some_and(|m| !m.is_null()));
        let number = |pointer: &str| mode.and_then(|mode| mode.pointer(pointer)?.as_u64());
        if has("Global") {
            ServiceMode::Global
        } else if has("ReplicatedJob") {
            let at_once = number("/ReplicatedJob/MaxConcurrent").unwrap_or(1);
            ServiceMode::ReplicatedJob {
                completions: number("/ReplicatedJob/TotalCompletions").unwrap_or(at_once),
            }
        } else if has("GlobalJob") {
            ServiceMode::GlobalJob
        } else {
            ServiceMode::Replicated {
                replicas: number("/Replicated/Replicas").unwrap_or(1),
            }
        }
    }

    /// The placement constraints.
    #[must_use]
    pub fn constraints(&self) -> Vec<&str> {
        self.spec
            .pointer("/TaskTemplate/Placement/Constraints")
            .and_then(Value::as_array)
            .map(|constraints| constraints.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default()
    }

    /// The identifiers of the secrets and configs that it refers to.
    pub fn objects(&self) -> impl Iterator<Item = &str> {
        objects_of(&self.spec)
    }

    /// The identifiers of the secrets and configs that it refers to, or would again after a
    /// rollback.
    pub fn needed_objects(&self) -> impl Iterator<Item = &str> {
        let previous = self.previous_spec.iter().flat_map(objects_of);
        self.objects().chain(previous)
    }

    /// `any`, `on-failure` or `none`: when a task that ended is replaced.
    pub(super) fn restart_condition(&self) -> &str {
        self.text("/TaskTemplate/RestartPolicy/Condition")
            .filter(|condition| !condition.is_empty())
            .unwrap_or("any")
    }

    /// How often a task that ended is replaced; `None` where there is no limit.
    pub(super) fn max_attempts(&self) -> Option<u64> {
        self.number("/TaskTemplate/RestartPolicy/MaxAttempts")
            .filter(|attempts| *attempts > 0)
    }

    /// Whether only what ended within a time counts against that.
    pub(super) fn has_restart_window(&self) -> bool {
        self.number("/TaskTemplate/RestartPolicy/Window") > Some(0)
    }

    /// How long its tasks, of this spec or the one before, may take to stop.
    pub(super) fn stop_grace(&self) -> Duration {
        let of = |spec: &Value| {
            let grace = spec.pointer("/TaskTemplate/ContainerSpec/StopGracePeriod");
            grace
                .and_then(Value::as_u64)
                .map_or(STOP_GRACE, Duration::from_nanos)
        };
        let before = self.previous_spec.as_ref().map(of).unwrap_or_default();
        of(&self.spec).max(before)
    }

    /// Whether the engine goes on with an update although tasks fail.
    pub(super) fn ignores_failures(&self) -> bool {
        self.text("/UpdateConfig/FailureAction") == Some("continue")
    }

    fn text(&self, pointer: &str) -> Option<&str> {
        self.spec.pointer(pointer)?.as_str()
    }

    fn number(&self, pointer: &str) -> Option<u64> {
        self.spec.pointer(pointer)?.as_u64()
    }

    /// Reads a service from the engine's JSON.
    ///
    /// # Errors
    /// When it is not of the documented shape.
    pub fn from_json(value: Value) -> Result<Self, serde_json::Error> {
        Wire::deserialize(value).map(Self::from)
    }
}

/// How many tasks a service should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServiceMode {
    /// So many.
    Replicated {
        /// How many.
        replicas: u64,
    },
    /// One on every node that its constraints allow.
    Global,
    /// A job that runs until so many tasks have completed.
    ReplicatedJob {
        /// How many.
        completions: u64,
    },
    /// A job that runs once on every node that its constraints allow.
    GlobalJob,
}

impl ServiceMode {
    /// Whether its tasks run to completion.
    #[must_use]
    pub fn is_job(self) -> bool {
        matches!(self, Self::ReplicatedJob { .. } | Self::GlobalJob)
    }
}

/// Tasks of a service, counted by the engine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
#[non_exhaustive]
pub struct ServiceCounts {
    /// Running, of whatever spec.
    #[serde(default, deserialize_with = "nullable")]
    pub running_tasks: u64,
    /// That should run.
    #[serde(default, deserialize_with = "nullable")]
    pub desired_tasks: u64,
    /// Completed, of a job.
    #[serde(default, deserialize_with = "nullable")]
    pub completed_tasks: u64,
}

/// How the last update of a service went.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UpdateStatus {
    /// Where it stands.
    pub state: UpdateState,
    /// The engine's words.
    pub message: String,
    /// When it began; a rollback by the engine is a part of it.
    pub started_at: Option<OffsetDateTime>,
    /// When it ended, where it has.
    pub ended_at: Option<OffsetDateTime>,
}

/// Whether a spec gives its containers a terminal.
pub(crate) fn has_terminal(spec: &Value) -> bool {
    let tty = spec.pointer("/TaskTemplate/ContainerSpec/TTY");
    tty == Some(&Value::Bool(true))
}

/// The identifiers of the secrets and configs that a spec refers to.
fn objects_of(spec: &Value) -> impl Iterator<Item = &str> {
    let container = spec.pointer("/TaskTemplate/ContainerSpec");
    let ids = |list: &'static str, id: &'static str| {
        container
            .and_then(|container| container.get(list))
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(move |reference| reference.get(id)?.as_str())
    };
    ids("Secrets", "SecretID").chain(ids("Configs", "ConfigID"))
}

/// Where an update stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpdateState {
    /// Tasks are being replaced.
    Updating,
    /// Stopped after a failure; the next update clears it.
    Paused,
    /// Done.
    Completed,
    /// The previous spec is being restored after a failure.
    RollbackStarted,
    /// The rollback itself failed and stopped.
    RollbackPaused,
    /// The previous spec is restored.
    RollbackCompleted,
    /// A state this version of Phoenix does not know.
    Other(String),
}

impl UpdateState {
    /// Whether the engine is taking the update back, or has.
    #[must_use]
    pub fn is_rollback(&self) -> bool {
        matches!(
            self,
            Self::RollbackStarted | Self::RollbackPaused | Self::RollbackCompleted
        )
    }
}

impl From<String> for UpdateState {
    fn from(state: String) -> Self {
        match state.as_str() {
            "updating" => Self::Updating,
            "paused" => Self::Paused,
            "completed" => Self::Completed,
            "rollback_started" => Self::RollbackStarted,
            "rollback_paused" => Self::RollbackPaused,
            "rollback_completed" => Self::RollbackCompleted,
            _ => Self::Other(state),
        }
    }
}

impl fmt::Display for UpdateState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Updating => "updating",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::RollbackStarted => "rolling back",
            Self::RollbackPaused => "rollback paused",
            Self::RollbackCompleted => "rolled back",
            Self::Other(state) => state,
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Wire {
    #[serde(rename = "ID")]
    id: String,
    #[serde(default)]
    version: ObjectVersion,
    #[serde(default)]
    spec: Value,
    previous_spec: Option<Value>,
    update_status: Option<UpdateStatusWire>,
    service_status: Option<ServiceCounts>,
    job_status: Option<JobStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UpdateStatusWire {
    #[serde(default, deserialize_with = "nullable")]
    state: String,
    #[serde(default, deserialize_with = "nullable")]
    message: String,
    #[serde(default, deserialize_with = "instant")]
    started_at: Option<OffsetDateTime>,
    #[serde(default, deserialize_with = "instant")]
    completed_at: Option<OffsetDateTime>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct JobStatus {
    #[serde(default)]
    job_iteration: ObjectVersion,
}

impl From<Wire> for ServiceObserved {
    fn from(wire: Wire) -> Self {
        Self {
            id: wire.id,
            version: wire.version.index,
            spec: wire.spec,
            previous_spec: wire.previous_spec,
            // A cleared status comes as `{}` from some engines.
            update_status: wire
                .update_status
                .filter(|status| !status.state.is_empty())
                .map(|status| UpdateStatus {
                    state: status.state.into(),
                    message: status.message,
                    started_at: status.started_at,
                    ended_at: status.completed_at,
                }),
            counts: wire.service_status,
            job_iteration: wire
                .job_status
                .map_or(0, |status| status.job_iteration.index),
        }
    }
}

/// A service that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServiceWritten {
    /// Its identifier.
    pub id: String,
    /// The lowest version that can hold what was written.
    pub min_version: u64,
    /// What the engine warned of.
    pub warnings: Vec<String>,
}

/// Writing a service failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// A service of that name exists.
    #[error("a service named {name:?} exists already")]
    Exists {
        /// The name.
        name: String,
        /// The engine's refusal.
        source: EngineError,
    },
    /// There is no such service.
    #[error("there is no service {id}")]
    NotFound {
        /// The identifier.
        id: String,
    },
    /// Somebody else changed the service since it was read: read it again and decide anew.
    #[error("service {id} changed since it was read")]
    Changed {
        /// The identifier.
        id: String,
        /// The engine's refusal.
        source: EngineError,
    },
    /// The engine could not be asked, or refused.
    #[error("a request about a service failed")]
    Engine {
        /// How.
        #[from]
        source: EngineError,
    },
}

impl Engine {
    /// The services that have all these labels (a key alone, or with its value), with their
    /// [`ServiceCounts`].
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn services(
        &self,
        labels: &[(&str, Option<&str>)],
        deadline: Deadline,
    ) -> Result<Vec<ServiceObserved>, EngineError> {
        let pairs = labels
            .iter()
            .map(|(key, value)| ("label", label_filter(key, *value)));
        let mut found = self.list_services(filters(pairs), deadline).await?;
        found.retain(|service| is_labelled(|key| service.label(key), labels));
        Ok(found)
    }

    pub(super) async fn services_by_id(
        &self,
        ids: impl IntoIterator<Item = &str>,
        deadline: Deadline,
    ) -> Result<Vec<ServiceObserved>, EngineError> {
        let pairs = ids.into_iter().map(|id| ("id", id.to_owned()));
        self.list_services(filters(pairs), deadline).await
    }

    async fn list_services(
        &self,
        filters: String,
        deadline: Deadline,
    ) -> Result<Vec<ServiceObserved>, EngineError> {
        let call = Call::get(&["services"])
            .query("status", "true")
            .query("filters", &filters);
        let wires: Option<Vec<Wire>> = self.fetch(call, deadline).await?;
        Ok(wires
            .unwrap_or_default()
            .into_iter()
            .map(ServiceObserved::from)
            .collect())
    }

    /// The service of exactly this name or identifier.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn find_service(
        &self,
        name_or_id: &str,
        deadline: Deadline,
    ) -> Result<Option<ServiceObserved>, EngineError> {
        let wire: Option<Wire> = self
            .fetch_optional(Call::get(&["services", name_or_id]), deadline)
            .await?;
        // The engine also finds by prefix of the identifier.
        Ok(wire
            .map(ServiceObserved::from)
            .filter(|service| service.name() == name_or_id || service.id == name_or_id))
    }

    /// Creates a service of `spec`, with credentials that its nodes pull the image with.
    ///
    /// # Errors
    /// [`ServiceError::Exists`] when the name is taken, [`ServiceError::Engine`] otherwise. After
    /// either of them look whether the service is there and has this spec: a manager that passes a
    /// request on may send it twice, and an [ambiguous](EngineError::Ambiguous) one may have run.
    pub async fn create_service(
        &self,
        spec: &Value,
        auth: Option<&RegistryAuth>,
        deadline: Deadline,
    ) -> Result<ServiceWritten, ServiceError> {
        let call = || {
            Call::post(&["services", "create"])
                .json(spec)
                .registry_auth(auth)
        };
        let name = spec.get("Name").and_then(Value::as_str).unwrap_or_default();
        let (sent, _) = self.send_persistently(call, deadline).await;
        match sent {
            Ok(answer) => {
                let (id, warnings) = serde_json::from_slice::<Created>(&answer)
                    .map_err(|error| self.decode("POST /services/create", error.into()))?
                    .warnings();
                Ok(ServiceWritten {
                    id,
                    min_version: 0,
                    warnings,
                })
            }
            Err(source) if source.is(Refusal::Conflict) => Err(ServiceError::Exists {
                name: name.to_owned(),
                source,
            }),
            Err(source) => Err(source.into()),
        }
    }

    /// Replaces the spec of a service that was read at `version`. Without `auth` the engine keeps
    /// the credentials it has. Even an equal spec counts as an update, and starts a job again.
    ///
    /// # Errors
    /// [`ServiceError::Changed`] when the version is not the current one any more;
    /// [`ServiceError`] otherwise.
    pub async fn update_service(
        &self,
        id: &str,
        version: u64,
        spec: &Value,
        auth: Option<&RegistryAuth>,
        deadline: Deadline,
    ) -> Result<ServiceWritten, ServiceError> {
        let call = || {
            Call::post(&["services", id, "update"])
                .query("version", &version.to_string())
                .json(spec)
                .registry_auth(auth)
        };
        self.send_update(id, version, call, deadline).await
    }

    /// Has the engine return a service to its previous spec. `spec` is the current one, which the
    /// engine wants to see.
    ///
    /// # Errors
    /// As [`Engine::update_service`]; refused when there is no previous spec.
    pub async fn rollback_service(
        &self,
        id: &str,
        version: u64,
        spec: &Value,
        deadline: Deadline,
    ) -> Result<ServiceWritten, ServiceError> {
        let call = || {
            Call::post(&["services", id, "update"])
                .query("version", &version.to_string())
                .query("rollback", "previous")
                .json(spec)
        };
        self.send_update(id, version, call, deadline).await
    }

    async fn send_update(
        &self,
        id: &str,
        version: u64,
        call: impl Fn() -> Call,
        deadline: Deadline,
    ) -> Result<ServiceWritten, ServiceError> {
        let (sent, _) = self.send_persistently(call, deadline).await;
        match sent {
            Ok(answer) => Ok(ServiceWritten {
                id: id.to_owned(),
                min_version: version.saturating_add(1),
                warnings: update_warnings(&answer),
            }),
            Err(source) if source.is(Refusal::UpdateOutOfSequence) => Err(ServiceError::Changed {
                id: id.to_owned(),
                source,
            }),
            Err(source) if source.is(Refusal::NotFound) => {
                Err(ServiceError::NotFound { id: id.to_owned() })
            }
            Err(source) => Err(source.into()),
        }
    }

    /// Reads a service, lets `change` alter its spec, and writes it back; starts over when the
    /// service changed meanwhile. Nothing is written when `change` says that nothing differs.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn modify_service(
        &self,
        id: &str,
        auth: Option<&RegistryAuth>,
        deadline: Deadline,
        change: impl Fn(&mut Value) -> bool + Send,
    ) -> Result<Option<ServiceWritten>, ServiceError> {
        loop {
            let service = self
                .find_service(id, deadline)
                .await?
                .ok_or_else(|| ServiceError::NotFound { id: id.to_owned() })?;
            let mut spec = service.spec;
            if !change(&mut spec) {
                return Ok(None);
            }
            match self
                .update_service(&service.id, service.version, &spec, auth, deadline)
                .await
            {
                Err(error @ ServiceError::Changed { .. }) => {
                    if deadline.pause(RETRY_PAUSE).await.is_err() {
                        return Err(error);
                    }
                }
                done => return done.map(Some),
            }
        }
    }

    /// Removes a service by its identifier. Its tasks stop later: see
    /// [`Engine::await_tasks_gone`]. Says whether it was there.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn remove_service(&self, id: &str, deadline: Deadline) -> Result<bool, EngineError> {
        let call = || Call::delete(&["services", id]);
        let (sent, uncertain) = self.send_persistently(call, deadline).await;
        match sent {
            Ok(_) => Ok(true),
            Err(error) if error.is(Refusal::NotFound) => Ok(uncertain),
            Err(error) => Err(error),
        }
    }
}

fn update_warnings(answer: &[u8]) -> Vec<String> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(rename = "Warnings", default, deserialize_with = "nullable")]
        warnings: Vec<String>,
    }
    serde_json::from_slice::<Answer>(answer)
        .map(|answer| answer.warnings)
        .unwrap_or_default()
}

/// Labels of a spec, for callers that compare them.
impl ServiceObserved {
    /// All labels of the service.
    #[must_use]
    pub fn labels(&self) -> BTreeMap<String, String> {
        self.spec
            .get("Labels")
            .and_then(|labels| BTreeMap::deserialize(labels).ok())
            .unwrap_or_default()
    }
}
