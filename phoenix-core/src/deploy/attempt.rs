//! What is remembered of a spec that the engine may take back: a label of the one that it would
//! restore.

use serde_json::Value;

use super::ATTEMPT_LABEL;
use super::plan::RolledBack;
use crate::docker::ServiceObserved;
use crate::stack::spec_digest;

/// The running spec without the label by which its last update is remembered.
pub(super) fn without_attempt(spec: &Value) -> Value {
    let mut spec = spec.clone();
    if let Some(Value::Object(labels)) = spec.get_mut("Labels") {
        labels.remove(ATTEMPT_LABEL);
    }
    spec
}

/// Whether the engine took `body` back from `service`.
pub(super) fn rolled_back(service: &ServiceObserved, body: &Value) -> Option<RolledBack> {
    let status = service.update_status.as_ref()?;
    let same = service
        .label(ATTEMPT_LABEL)
        .is_some_and(|mark| is_attempt(mark, body));
    (status.state.is_rollback() && same).then(|| RolledBack {
        at: status.ended_at,
        message: status.message.clone(),
        cause: None,
    })
}

/// What is remembered of the attempt to write `body`: a digest of it, and, where its image is pinned,
/// another of it as it would be had no registry answered.
pub(super) fn attempt(body: &Value) -> String {
    let (whole, unpinned) = (spec_digest(body), spec_digest(&without_digest(body)));
    if whole == unpinned {
        whole
    } else {
        format!("{whole}.{unpinned}")
    }
}

/// Whether `body` is what `mark` remembers. Where a registry did not answer, now or then, the image's
/// digest says nothing.
fn is_attempt(mark: &str, body: &Value) -> bool {
    let (whole, unpinned) = mark.split_once('.').unwrap_or((mark, mark));
    let (own, own_unpinned) = (spec_digest(body), spec_digest(&without_digest(body)));
    whole == own || unpinned == own_unpinned && (whole == unpinned || own == own_unpinned)
}

fn without_digest(body: &Value) -> Value {
    let mut body = body.clone();
    if let Some(Value::String(image)) = body.pointer_mut("/TaskTemplate/ContainerSpec/Image")
        && let Some(at) = image.find('@')
    {
        image.truncate(at);
    }
    if let Some(Value::Object(placement)) = body.pointer_mut("/TaskTemplate/Placement") {
        placement.remove("Platforms");
    }
    body
}
