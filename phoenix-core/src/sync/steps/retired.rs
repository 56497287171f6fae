//! Versions of declared secrets, and of the stacks' configs, that nothing refers to any more, nor
//! would after a rollback.
//!
//! Only what Phoenix itself versioned for this site is looked at, and only under names that are
//! still declared: what is no longer declared is not removed unasked.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;

use super::secret::{LOGICAL_LABEL, SITE_LABEL, SecretVersion};
use crate::deploy;
use crate::docker::{Engine, ObjectError, ObjectKind, ServiceObserved};
use crate::sync::context::Context;
use crate::sync::step::{Observation, Progress, Step, View};
use crate::sync::{Change, Failure, ResourceId, Verb, explain};

pub(super) struct RetiredStep {
    cx: Arc<Context>,
}

/// A version that can go.
struct Retired {
    kind: ObjectKind,
    id: String,
    name: String,
}

impl Retired {
    fn change(&self) -> Change {
        Change::new(
            Verb::Remove,
            format!("{} {}", self.kind, self.name),
            "an old version that nothing refers to",
        )
    }
}

impl RetiredStep {
    pub(super) fn new(cx: Arc<Context>) -> Self {
        Self { cx }
    }

    async fn find(&self, manager: &str, engine: &Engine) -> Result<Vec<Retired>, Failure> {
        let site = self.cx.site.name.as_str();
        let mut current = BTreeSet::new();
        for logical in self.cx.site.secrets.keys() {
            if let Some(version) = SecretVersion::of(&self.cx, logical).await? {
                current.insert(version.name);
            }
        }
        let services = engine
            .services(&[], self.cx.look())
            .await
            .map_err(explain::at(manager))?;
        let referred: BTreeSet<&str> = services
            .iter()
            .flat_map(ServiceObserved::needed_objects)
            .collect();
        let mut retired = Vec::new();
        for kind in [ObjectKind::Secret, ObjectKind::Config] {
            let objects = engine
                .objects(kind, &[(SITE_LABEL, Some(site))], self.cx.look())
                .await
                .map_err(explain::at(manager))?;
            for object in objects {
                let old = match kind {
                    // The deployment of its stack keeps and removes those it has versioned.
                    ObjectKind::Config => !object.labels.contains_key(deploy::LOGICAL_LABEL),
                    _ => {
                        !current.contains(&object.name)
                            && object
                                .labels
                                .get(LOGICAL_LABEL)
                                .is_some_and(|logical| self.cx.site.secrets.contains_key(logical))
                    }
                };
                if old && !referred.contains(object.id.as_str()) {
                    retired.push(Retired {
                        kind,
                        id: object.id,
                        name: object.name,
                    });
                }
            }
        }
        Ok(retired)
    }
}

#[async_trait]
impl Step for RetiredStep {
    async fn observe(&self, _view: &View) -> Result<Observation, Failure> {
        let (manager, engine) = self.cx.manager().await?;
        let retired = self.find(&manager, &engine).await?;
        Ok(Observation::of(
            retired.iter().map(Retired::change).collect(),
            "no version is left that nothing refers to",
        ))
    }

    async fn apply(&self, progress: &Progress) -> Result<(), Failure> {
        let (manager, engine) = self.cx.manager().await?;
        for version in self.find(&manager, &engine).await? {
            let removed = engine
                .remove_object(version.kind, &version.id, self.cx.act())
                .await;
            match removed {
                Ok(true) => progress.changed(version.change()),
                // A service took it up again meanwhile: it is no old version any more.
                Ok(false) | Err(ObjectError::InUse { .. }) => {}
                Err(error) => return Err(explain::engine(&manager, &error)),
            }
        }
        Ok(())
    }

    fn seen_through(&self) -> Vec<ResourceId> {
        vec![ResourceId::Swarm]
    }

    fn unobserved(&self) -> Vec<Change> {
        Vec::new()
    }
}
