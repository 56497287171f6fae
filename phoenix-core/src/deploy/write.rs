//! One service, network, secret or config written, whatever happens to the request.
//!
//! Names are unique and an update names the version that it replaces, so a request whose answer was
//! lost is settled by looking: it has run, or it may be sent again. So is one that finds the name
//! taken: a manager that passes a request on to a leader that goes away sends it twice, and somebody
//! else may be deploying the same stack.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use super::apply::patient;
use super::attempt::{attempt, rolled_back};
use super::compare::{ComparedService, carry_force_update, spec_changes};
use super::error::DeployError;
use super::plan::Taken;
use super::versions::Decision;
use super::{ATTEMPT_LABEL, Deployment, belongs_to, is_network_of};
use crate::docker::{
    ApiVersion, EngineError, NetworkError, ObjectError, Refusal, RegistryAuth, ServiceError,
    ServiceObserved, ServiceTarget, ServiceWritten, UpdateState,
};
use crate::ground::{Deadline, causes};
use crate::stack::{NetworkBody, STACK_LABEL};

/// So often a service may change while it is written, and a request may go without an answer.
pub(super) const TRIES: u32 = 6;
/// Before it is looked at again.
pub(super) const PAUSE: Duration = Duration::from_millis(300);
const UPDATE: &str = "UpdateConfig";

/// What became of a write.
pub(super) enum Written {
    /// The spec is in place, or was, and has to be waited for.
    Target(ServiceTarget),
    /// The engine refused it.
    Refused(String),
}

/// How often a creation is sent again, which looks by itself whether it has run.
struct Again {
    sent: u32,
    /// For managers to elect a leader, as when services are waited for.
    patience: Deadline,
}

impl Again {
    fn new() -> Self {
        Self {
            sent: 0,
            patience: Deadline::after(patient().patience),
        }
    }

    /// Whether it may be, after it was sent once more and failed so.
    fn after(&mut self, error: &EngineError) -> bool {
        self.sent += 1;
        // Each request has waited for what passes to pass.
        let passing = error.refusal().is_some_and(Refusal::is_transient);
        error.may_have_run() && self.sent < TRIES || passing && !self.patience.is_over()
    }
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
        // Whether only the mark was written just now.
        let mut marked = false;
        let mut unanswered = None;
        let past = self.failed(running.as_ref()).await.map_err(failed)?;
        for attempt in 0..TRIES {
            if attempt > 0 {
                if !marked {
                    self.request().pause(PAUSE).await.ok();
                }
                running = match self.engine.find_service(name, self.request()).await {
                    Ok(found) => found,
                    Err(source) if source.is_transient() && attempt + 1 < TRIES => continue,
                    Err(source) => return Err(failed(source.into())),
                };
                let label = running.as_ref().map(|found| found.label(STACK_LABEL));
                if let Some(owner) = label
                    && owner != Some(self.file.stack())
                {
                    let taken = Taken::new("service", name, owner);
                    return Ok(Written::Refused(taken.to_string()));
                }
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
                    // One that was taken back before anything was sent is an older attempt; an equal
                    // spec may still have to be sent, for the credentials that go with it.
                    let looks = attempt > 0 && !std::mem::take(&mut marked);
                    let taken_back = uncertain && rolled_back(found, &body).is_some();
                    if looks && (holds(service.kept, &body, found) || taken_back) {
                        return Ok(Written::Target(self.found(service, found).after(past)));
                    }
                    match self.update(&body, found, auth).await {
                        // The service is read again for its version.
                        Ok(None) => {
                            marked = true;
                            continue;
                        }
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
                // It may be the one that was sent: looked at next.
                Err(error @ ServiceError::Exists { .. }) => {
                    uncertain = true;
                    unanswered = Some(error);
                }
                Err(ServiceError::Engine { source }) if source.may_have_run() => {
                    uncertain = true;
                    unanswered = Some(ServiceError::Engine { source });
                }
                // It is not the service that is wrong.
                Err(error) if forgotten_network(&error).is_some() => return Err(failed(error)),
                Err(error) => {
                    return match refusal(&error) {
                        Some(message) => Ok(Written::Refused(message)),
                        None => Err(failed(error)),
                    };
                }
            }
        }
        match unanswered {
            Some(error) => match refusal(&error) {
                Some(message) => Ok(Written::Refused(message)),
                None => Err(failed(error)),
            },
            None => Err(DeployError::Contended { name: name.clone() }),
        }
    }

    /// Makes a network of the stack.
    pub(super) async fn make_network(&self, network: &NetworkBody) -> Result<(), NetworkError> {
        let mut again = Again::new();
        loop {
            let made = self
                .engine
                .create_network_from(&network.json, self.request())
                .await;
            match made {
                Ok(_) => return Ok(()),
                Err(NetworkError::Engine { source }) if again.after(&source) => {}
                Err(error @ NetworkError::Exists { .. }) => {
                    // Of somebody else who deploys the stack, with other labels beside its own.
                    let found = self
                        .engine
                        .find_network(&network.name, self.request())
                        .await?;
                    let own = found.is_some_and(|found| is_network_of(&found, self.file.stack()));
                    return if own { Ok(()) } else { Err(error) };
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Makes a version of a secret or config with `labels`.
    pub(super) async fn make_version(
        &self,
        decision: &Decision,
        labels: &BTreeMap<String, String>,
    ) -> Result<(), ObjectError> {
        let (wanted, name) = (&decision.wanted, &decision.new_name);
        let kind = wanted.kind;
        let driver = wanted.template_driver.as_deref();
        let mut again = Again::new();
        loop {
            let made = self
                .engine
                .create_object(kind, name, labels, &wanted.content, driver, self.request())
                .await;
            match made {
                Ok(_) => return Ok(()),
                Err(ObjectError::Engine { source, .. }) if again.after(&source) => {}
                Err(error) => {
                    // Of somebody else who deploys the stack, with another key for fingerprints:
                    // it will do if it has the content.
                    if let ObjectError::Exists { labels: found, .. } = &error
                        && belongs_to(found, self.file.stack())
                        && let Ok(Some(found)) =
                            self.engine.find_object(kind, name, self.request()).await
                        && self.label(wanted, &found, labels).await?
                    {
                        return Ok(());
                    }
                    return Err(error);
                }
            }
        }
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
        // An update that is paused would go on with the spec that it is paused at.
        let paused = found.update_status.as_ref().is_some_and(|status| {
            matches!(
                status.state,
                UpdateState::Paused | UpdateState::RollbackPaused
            )
        });
        let attempt = attempt(body);
        if restored && !paused && found.label(ATTEMPT_LABEL) != Some(&attempt) {
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
        ServiceTarget::written(written).stable_for(monitor(&service.body.json, UPDATE))
    }

    /// The target of a write that was found to have run.
    fn found(&self, service: &ComparedService, found: &ServiceObserved) -> ServiceTarget {
        let mut target = ServiceTarget::in_place(&found.id);
        target.min_version = Some(0);
        target.stable_for(monitor(&service.body.json, UPDATE))
    }
}

/// Whether `found` has `body` for its spec, as far as the swarm keeps it.
pub(super) fn holds(kept: ApiVersion, body: &Value, found: &ServiceObserved) -> bool {
    spec_changes(kept, body, found).is_empty()
}

/// How long the tasks of a spec are watched that is put in place as `config` says (`UpdateConfig`,
/// `RollbackConfig`): as declared, else as the engine does.
pub(super) fn monitor(spec: &Value, config: &str) -> Duration {
    let declared = spec.pointer(&format!("/{config}/Monitor"));
    match declared.and_then(Value::as_u64) {
        Some(nanoseconds) if nanoseconds > 0 => Duration::from_nanos(nanoseconds),
        _ => Duration::from_secs(5),
    }
}

/// The identifier of a network that a service refers to and the swarm does not know.
pub(super) fn forgotten_network(error: &ServiceError) -> Option<&str> {
    let ServiceError::Engine {
        source: EngineError::Rejected { message, .. },
    } = error
    else {
        return None;
    };
    message.strip_prefix("network ")?.strip_suffix(" not found")
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
