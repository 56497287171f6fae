//! Services returned to the specs they had before their last updates.

use std::time::Duration;

use serde_json::Value;

use super::apply::{DeployEvent, Deployed, Teller, in_words, patient};
use super::attempt::without_attempt;
use super::error::DeployError;
use super::outcome::{OutcomeKind, ServiceOutcome};
use super::plan::{Change, Verb};
use super::standing::{check_chosen, chosen, of_stack};
use super::write::{PAUSE, TRIES, monitor};
use crate::docker::{Engine, ServiceError, ServiceObserved, ServiceProgress, ServiceTarget};
use crate::ground::{Deadline, causes};
use crate::stack::difference;

/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(20);

/// Returns the services of `stack` to their previous specs and waits for them; those of `only`
/// (names or keys) when there are any. A service without another previous spec is left alone, which
/// a warning says.
///
/// # Errors
/// [`DeployError`] when it could not be done at all.
pub async fn rollback(
    engine: &Engine,
    stack: &str,
    only: &[String],
    deadline: Deadline,
    tell: &mut (dyn FnMut(DeployEvent) + Send),
) -> Result<Deployed, DeployError> {
    let mut teller = Teller::new(tell);
    let found = of_stack(engine, stack, deadline).await?;
    check_chosen(&found, stack, only)?;
    let mut warnings = Vec::new();
    let mut awaited: Vec<(&ServiceObserved, ServiceTarget)> = Vec::new();
    let mut outcomes = Vec::new();
    for service in found.iter().filter(|one| chosen(one.name(), stack, only)) {
        let name = service.name().to_owned();
        let Some((previous, differences)) = differences(service) else {
            warnings.push(format!("service {name} has no other spec to return to"));
            continue;
        };
        match restore(engine, service, previous, deadline).await {
            Ok(target) => {
                teller.changed(Change {
                    verb: Verb::Update,
                    what: format!("service {name}"),
                    why: differences,
                });
                awaited.push((service, target));
            }
            // The others are returned, and waited for, all the same.
            Err(error) => outcomes.push(not_restored(&name, &error)),
        }
    }
    let targets: Vec<ServiceTarget> = awaited.iter().map(|(_, target)| target.clone()).collect();
    let mut say = |standing: ServiceProgress<'_>| {
        teller.tell(DeployEvent::Standing {
            service: standing.name.to_owned(),
            text: in_words(standing.verdict),
        });
    };
    let ended = engine
        .await_services(&targets, &patient(), deadline, &mut say)
        .await?;
    for ((service, _), (_, outcome)) in awaited.iter().zip(&ended) {
        let job = service.mode().is_job();
        outcomes.push(ServiceOutcome::of(service.name(), outcome, job));
    }
    for outcome in &outcomes {
        teller.tell(DeployEvent::Ended(outcome.clone()));
    }
    Ok(Deployed {
        stack: stack.to_owned(),
        changes: teller.changes(),
        outcomes,
        warnings,
        unfinished: Vec::new(),
    })
}

/// The previous spec, and in what it differs; `None` where there is none, or it is the same.
fn differences(service: &ServiceObserved) -> Option<(&Value, Vec<String>)> {
    let previous = service.previous_spec.as_ref()?;
    let changes = difference(&without_attempt(previous), &without_attempt(&service.spec));
    let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
    (!changes.is_empty()).then_some((previous, changes))
}

/// What became of a service that was not returned.
fn not_restored(name: &str, error: &ServiceError) -> ServiceOutcome {
    let (kind, text) = match error {
        ServiceError::NotFound { .. } => (
            OutcomeKind::Replaced,
            "was removed by somebody else".to_owned(),
        ),
        ServiceError::Changed { .. } => (
            OutcomeKind::Replaced,
            "was not rolled back: somebody else has changed it meanwhile".to_owned(),
        ),
        ServiceError::Engine { source }
            if source
                .refusal()
                .is_some_and(|refusal| !refusal.is_transient()) =>
        {
            (
                OutcomeKind::Refused,
                format!("was refused: {}", causes(source)),
            )
        }
        error => (
            OutcomeKind::Unanswered,
            format!("may not have been rolled back: {}", causes(error)),
        ),
    };
    ServiceOutcome::new(name, kind, text)
}

/// Has the engine restore the `previous` spec. The engine keeps the one that is left as the previous
/// one, so what was sent once may be sent again only while the same two specs are there: a version
/// changes with the status of an update, too.
async fn restore(
    engine: &Engine,
    service: &ServiceObserved,
    previous: &Value,
    deadline: Deadline,
) -> Result<ServiceTarget, ServiceError> {
    let stable = monitor(previous, "RollbackConfig");
    let mut now = service.clone();
    let mut tries = 0;
    loop {
        let limit = deadline.at_most(REQUEST);
        let sent = engine
            .rollback_service(&now.id, now.version, &now.spec, limit)
            .await;
        let error = match sent {
            Ok(written) => return Ok(ServiceTarget::restored(&written).stable_for(stable)),
            Err(error) => error,
        };
        let open = match &error {
            ServiceError::Changed { .. } => true,
            ServiceError::Engine { source } => source.may_have_run(),
            _ => false,
        };
        if !open {
            return Err(error);
        }
        // With time of its own: that of the request may have passed.
        now = match engine
            .find_service(&service.id, Deadline::after(REQUEST))
            .await
        {
            Ok(Some(found)) => found,
            Ok(None) => {
                let id = service.id.clone();
                return Err(ServiceError::NotFound { id });
            }
            Err(unseen) => {
                tracing::debug!(%unseen, service = service.name(), "not looked at");
                return Err(error);
            }
        };
        if difference(previous, &now.spec).is_empty() {
            let mut target = ServiceTarget::in_place(&now.id);
            target.min_version = Some(0);
            target.restoring = true;
            return Ok(target.stable_for(stable));
        }
        tries += 1;
        let same = now.spec == service.spec && now.previous_spec.as_ref() == Some(previous);
        if !same || tries == TRIES || deadline.pause(PAUSE).await.is_err() {
            return Err(error);
        }
    }
}
