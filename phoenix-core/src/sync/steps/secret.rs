//! The current version of a Docker secret.
//!
//! Docker's secrets cannot be changed, so each version is an object of its own, named
//! `LOGICAL.FINGERPRINT`, where the fingerprint is keyed: it says nothing about the content.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::certificate::CertificateStep;
use super::delivery::part;
use crate::docker::{Engine, ObjectKind, ObjectObserved};
use crate::ground::SecretBytes;
use crate::pki::Bundle;
use crate::site::SecretSource;
use crate::sync::context::Context;
use crate::sync::session::local;
use crate::sync::step::{Observation, Progress, Step, View};
use crate::sync::{Change, Failure, FailureClass, ResourceId, Verb, explain};

/// The label with the logical name of a secret or config that Phoenix versions.
pub(super) const LOGICAL_LABEL: &str = "phoenix.secret";
/// The label with the name of the site that an object belongs to.
pub(super) const SITE_LABEL: &str = "phoenix.site";
/// The most that Docker takes as a name.
const NAME_LIMIT: usize = 64;

pub(super) struct SecretStep {
    cx: Arc<Context>,
    name: String,
}

/// The version of a secret that the site declares now.
#[derive(Debug, Clone)]
pub(in crate::sync) struct SecretVersion {
    pub(in crate::sync) name: String,
    pub(in crate::sync) content: SecretBytes,
}

impl SecretVersion {
    /// The current version of the secret `logical`; `None` while its certificate has not been
    /// issued, or the site has never been synced.
    pub(in crate::sync) async fn of(
        cx: &Arc<Context>,
        logical: &str,
    ) -> Result<Option<Self>, Failure> {
        let content = match &cx.site.secrets[logical].source {
            SecretSource::Certificate { name, part: wanted } => {
                let issued = CertificateStep::new(Arc::clone(cx), name.clone()).issued()?;
                match Bundle::load(&issued.path)
                    .map_err(|error| local(format!("certificate {name}"), &error))?
                {
                    Some(bundle) => part(&bundle, *wanted),
                    None => return Ok(None),
                }
            }
            SecretSource::File(_) | SecretSource::Environment(_) => {
                match cx.contents.get(logical) {
                    Some(content) => content.clone(),
                    None => return Ok(None),
                }
            }
        };
        let Some(key) = cx
            .state
            .fingerprint_key()
            .map_err(|error| local("the key of the fingerprints", &error))?
        else {
            return Ok(None);
        };
        let fingerprint = key.fingerprint(&format!("secret {logical}"), content.expose());
        let name = format!("{logical}.{fingerprint}");
        if name.len() > NAME_LIMIT {
            return Err(Failure::message(
                FailureClass::Failed,
                format!(
                    "secret {logical}: its versioned name {name} has {} characters, Docker takes {NAME_LIMIT}",
                    name.len()
                ),
            )
            .hint("shorten its name"));
        }
        Ok(Some(Self { name, content }))
    }
}

/// The secret named exactly `name`.
pub(super) async fn find(
    engine: &Engine,
    cx: &Context,
    manager: &str,
    name: &str,
) -> Result<Option<ObjectObserved>, Failure> {
    engine
        .find_object(ObjectKind::Secret, name, cx.look())
        .await
        .map_err(explain::at(manager))
}

impl SecretStep {
    pub(super) fn new(cx: Arc<Context>, name: String) -> Self {
        Self { cx, name }
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.cx.site.secrets[&self.name].labels.clone();
        labels.insert(SITE_LABEL.to_owned(), self.cx.site.name.clone());
        labels.insert(LOGICAL_LABEL.to_owned(), self.name.clone());
        labels
    }

    fn source(&self) -> &SecretSource {
        &self.cx.site.secrets[&self.name].source
    }

    fn change(&self, version: &str, why: &str) -> Change {
        Change::new(Verb::Create, format!("secret {version}"), why)
    }
}

#[async_trait]
impl Step for SecretStep {
    async fn observe(&self, view: &View) -> Result<Observation, Failure> {
        if let SecretSource::Certificate { name, .. } = self.source() {
            let renewed = view
                .pending(&ResourceId::Certificate(name.clone()))
                .is_some_and(|changes| changes.iter().any(|change| change.verb == Verb::Issue));
            if renewed {
                return Ok(Observation::differs(vec![
                    self.change(&self.name, &format!("certificate {name} is issued")),
                ])
                .usable());
            }
        }
        let Some(version) = SecretVersion::of(&self.cx, &self.name).await? else {
            return Ok(Observation::differs(self.unobserved()).usable());
        };
        let (manager, engine) = self.cx.manager().await?;
        Ok(
            match find(&engine, &self.cx, &manager, &version.name).await? {
                Some(secret) => Observation::converged(format!("{} ({})", secret.name, secret.id)),
                None => Observation::differs(vec![
                    self.change(&version.name, "no version with this content"),
                ])
                .usable(),
            },
        )
    }

    async fn apply(&self, progress: &Progress) -> Result<(), Failure> {
        let version = SecretVersion::of(&self.cx, &self.name)
            .await?
            .ok_or_else(|| {
                Failure::message(
                    FailureClass::Failed,
                    format!("secret {}: its certificate has not been issued", self.name),
                )
            })?;
        let (manager, engine) = self.cx.manager().await?;
        engine
            .create_object(
                ObjectKind::Secret,
                &version.name,
                &self.labels(),
                &version.content,
                None,
                self.cx.act(),
            )
            .await
            .map_err(explain::at(&manager))?;
        progress.changed(self.change(&version.name, "no version with this content"));
        Ok(())
    }

    fn seen_through(&self) -> Vec<ResourceId> {
        vec![ResourceId::Swarm]
    }

    fn unobserved(&self) -> Vec<Change> {
        vec![self.change(&self.name, "missing")]
    }
}
