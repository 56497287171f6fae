//! One service written, whatever happens to the request.
//!
//! The name of a service is unique and an update names the version that it replaces, so a request
//! whose answer was lost is settled by looking: the spec is there, or it may be sent again.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::compare::{ComparedService, carry_force_update, rolled_back, spec_changes};
use super::error::DeployError;
use super::{ATTEMPT_LABEL, Deployment};
use crate::docker::{
    ApiVersion, EngineError, Refusal, RegistryAuth, ServiceError, ServiceObserved, ServiceTarget,
    ServiceWritten,
};
use crate::ground::causes;
use crate::stack::spec_digest;

/// So often a service may change while it is written.
const TRIES: u32 = 6;
const PAUSE: Duration = Duration::from_millis(300);

/// What became of a write.
pub(super) enum Written {
    /// The spec is in place, or was, and has to be waited for.
    Target(ServiceTarget),
    /// The engine refused it.
    Refused(String),
}

impl Deployment<'_> {
    /// Creates or updates a service.
    pub(super) async fn write(&self, service: &ComparedService) -> Result<Written, DeployError> {
        let name = &service.body.name;
        let failed = |source| DeployError::Service {
            name: name.clone(),
            source,
        };
        let auth = self.auth(&service.body.image)?;
        let mut running = service.running.clone();
        // Whether a request may have run without an answer.
        let mut uncertain = false;
        let mut unanswered = None;
        let past = self.failed(running.as_ref()).await.map_err(failed)?;
        for attempt in 0..TRIES {
            if attempt > 0 {
                self.request().pause(PAUSE).await.ok();
                running = self
                    .engine
                    .find_service(name, self.request())
                    .await
                    .map_err(|source| failed(source.into()))?;
            }
            let sent = match &running {
                None => {
                    let created =
                        self.engine
                            .create_service(&service.body.json, auth, self.request());
                    created.await
                }
                Some(found) => {
                    let mut body = service.body.json.clone();
                    carry_force_update(&mut body, &found.spec);
                    if attempt > 0 && is_in_place(service.kept, &body, found) {
                        return Ok(Written::Target(self.found(service, found).after(past)));
                    }
                    match self.update(&body, found, auth).await {
                        // Only the mark was written: the service is read again for its version.
                        Ok(None) => continue,
                        Ok(Some(written)) => Ok(written),
                        Err(error) => Err(error),
                    }
                }
            };
            match sent {
                Ok(written) => {
                    return Ok(Written::Target(self.target(service, &written).after(past)));
                }
                Err(ServiceError::Changed { .. } | ServiceError::NotFound { .. }) => {
                    unanswered = None;
                }
                Err(ServiceError::Exists { .. }) if uncertain => {}
                Err(ServiceError::Engine { source }) if source.may_have_run() => {
                    uncertain = true;
                    unanswered = Some(ServiceError::Engine { source });
                }
                Err(error) => {
                    return match refusal(&error) {
                        Some(message) => Ok(Written::Refused(message)),
                        None => Err(failed(error)),
                    };
                }
            }
        }
        Err(match unanswered {
            Some(error) => failed(error),
            None => DeployError::Contended { name: name.clone() },
        })
    }

    /// Updates `found` to `body`. Where the engine may take that back, what is attempted is first
    /// written down in the spec that would then be restored; `None` when only that was done.
    async fn update(
        &self,
        body: &Value,
        found: &ServiceObserved,
        auth: Option<&RegistryAuth>,
    ) -> Result<Option<ServiceWritten>, ServiceError> {
        let restored = body
            .pointer("/UpdateConfig/FailureAction")
            .and_then(Value::as_str)
            == Some("rollback");
        let attempt = spec_digest(body);
        if restored && found.label(ATTEMPT_LABEL) != Some(&attempt) {
            let mut marked = found.spec.clone();
            if !marked["Labels"].is_object() {
                marked["Labels"] = Value::Object(serde_json::Map::new());
            }
            marked["Labels"][ATTEMPT_LABEL] = Value::String(attempt);
            self.engine
                .update_service(&found.id, found.version, &marked, None, self.request())
                .await?;
            return Ok(None);
        }
        self.engine
            .update_service(&found.id, found.version, body, auth, self.request())
            .await
            .map(Some)
    }

    /// The tasks of a service that have failed by now: they may be of a spec that is written again,
    /// and say nothing of that.
    async fn failed(
        &self,
        running: Option<&ServiceObserved>,
    ) -> Result<BTreeSet<String>, ServiceError> {
        let Some(found) = running else {
            return Ok(BTreeSet::new());
        };
        match self.engine.tasks(&found.id, self.request()).await {
            Ok(tasks) => {
                let failed = tasks.into_iter().filter(|task| task.state.is_failure());
                Ok(failed.map(|task| task.id).collect())
            }
            // The service is gone.
            Err(error) if error.is(Refusal::NotFound) => Ok(BTreeSet::new()),
            Err(source) => Err(source.into()),
        }
    }

    fn target(&self, service: &ComparedService, written: &ServiceWritten) -> ServiceTarget {
        let target = ServiceTarget::written(written);
        match monitor(&service.body.json) {
            Some(monitor) => target.stable_for(monitor),
            None => target,
        }
    }

    /// The target of a write that was found to have run.
    fn found(&self, service: &ComparedService, found: &ServiceObserved) -> ServiceTarget {
        let mut target = ServiceTarget::in_place(&found.id);
        target.min_version = Some(0);
        match monitor(&service.body.json) {
            Some(monitor) => target.stable_for(monitor),
            None => target,
        }
    }
}

/// Whether `body` was written to `found`: it is there, or the engine took it back since.
fn is_in_place(kept: ApiVersion, body: &Value, found: &ServiceObserved) -> bool {
    holds(kept, body, found) || rolled_back(found, body).is_some()
}

/// Whether `found` has `body` for its spec, as far as the swarm keeps it.
pub(super) fn holds(kept: ApiVersion, body: &Value, found: &ServiceObserved) -> bool {
    spec_changes(kept, body, found).is_empty()
}

/// How long the tasks of a new spec are watched: as declared, else as the engine does.
fn monitor(body: &Value) -> Option<Duration> {
    let declared = body
        .pointer("/UpdateConfig/Monitor")
        .and_then(Value::as_u64);
    Some(match declared {
        Some(nanoseconds) if nanoseconds > 0 => Duration::from_nanos(nanoseconds),
        _ => Duration::from_secs(5),
    })
}

/// The engine's words, where it refused a service.
fn refusal(error: &ServiceError) -> Option<String> {
    let rejected = |source: &EngineError| source.refusal().is_some_and(|one| !one.is_transient());
    match error {
        ServiceError::Exists { source, .. } | ServiceError::Engine { source }
            if rejected(source) =>
        {
            Some(causes(error))
        }
        _ => None,
    }
}
