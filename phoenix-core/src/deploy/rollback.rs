//! Services returned to the specs they had before their last updates.

use super::apply::{DeployEvent, Deployed, Teller, in_words, patient};
use super::compare::without_attempt;
use super::error::DeployError;
use super::outcome::{OutcomeKind, ServiceOutcome};
use super::plan::{Change, Verb};
use super::standing::{check_chosen, chosen, of_stack};
use crate::docker::{Engine, ServiceError, ServiceObserved, ServiceProgress, ServiceTarget};
use crate::ground::{Deadline, causes};
use crate::stack::difference;

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
    let mut awaited: Vec<(String, ServiceTarget)> = Vec::new();
    let mut outcomes = Vec::new();
    for service in found.iter().filter(|one| chosen(one.name(), stack, only)) {
        let name = service.name().to_owned();
        let Some(differences) = differences(service) else {
            warnings.push(format!("service {name} has no other spec to return to"));
            continue;
        };
        match restore(engine, service, deadline).await {
            Ok(target) => {
                teller.changed(Change {
                    verb: Verb::Update,
                    what: format!("service {name}"),
                    why: differences,
                });
                awaited.push((name, target));
            }
            Err(ServiceError::Engine { source }) if source.refusal().is_some() => {
                let text = format!("was refused: {}", causes(&source));
                outcomes.push(ServiceOutcome::new(&name, OutcomeKind::Refused, text));
            }
            Err(source) => return Err(DeployError::Service { name, source }),
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
    for ((name, _), (_, outcome)) in awaited.iter().zip(&ended) {
        outcomes.push(ServiceOutcome::of(name, outcome, false));
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

/// In what the previous spec differs; `None` where there is none, or it is the same.
fn differences(service: &ServiceObserved) -> Option<Vec<String>> {
    let previous = service.previous_spec.as_ref()?;
    let changes = difference(&without_attempt(previous), &without_attempt(&service.spec));
    (!changes.is_empty()).then(|| changes.iter().map(ToString::to_string).collect())
}

/// Has the engine restore the previous spec. The engine keeps the one that is left as the previous
/// one, so a request whose answer was lost must not be sent again: whether it has run is seen by the
/// spec that is in place.
async fn restore(
    engine: &Engine,
    service: &ServiceObserved,
    deadline: Deadline,
) -> Result<ServiceTarget, ServiceError> {
    let sent = engine
        .rollback_service(&service.id, service.version, &service.spec, deadline)
        .await;
    let error = match sent {
        Ok(written) => return Ok(ServiceTarget::restored(&written)),
        Err(error) => error,
    };
    let uncertain = match &error {
        ServiceError::Changed { .. } => true,
        ServiceError::Engine { source } => source.may_have_run(),
        _ => false,
    };
    if uncertain
        && let Some(now) = engine.find_service(&service.id, deadline).await?
        && service
            .previous_spec
            .as_ref()
            .is_some_and(|previous| difference(previous, &now.spec).is_empty())
    {
        let mut target = ServiceTarget::in_place(&now.id);
        target.min_version = Some(0);
        target.restoring = true;
        return Ok(target);
    }
    Err(error)
}
