//! An overlay network that stacks share.

use std::sync::Arc;

use async_trait::async_trait;

use crate::docker::NetworkSpec;
use crate::sync::context::Context;
use crate::sync::step::{Observation, Progress, Step, View};
use crate::sync::{Change, Failure, FailureClass, ResourceId, Verb, explain};

pub(super) struct NetworkStep {
    cx: Arc<Context>,
    name: String,
}

impl NetworkStep {
    pub(super) fn new(cx: Arc<Context>, name: String) -> Self {
        Self { cx, name }
    }

    fn spec(&self) -> NetworkSpec {
        let declared = &self.cx.site.networks[&self.name];
        let mut spec = NetworkSpec::overlay(&self.name);
        spec.driver.clone_from(&declared.driver);
        spec.attachable = declared.attachable;
        spec.internal = declared.internal;
        spec.subnets.clone_from(&declared.subnets);
        spec.options.clone_from(&declared.options);
        spec.labels.clone_from(&declared.labels);
        spec
    }
}

#[async_trait]
impl Step for NetworkStep {
    async fn observe(&self, _view: &View) -> Result<Observation, Failure> {
        let (manager, engine) = self.cx.manager().await?;
        let found = engine
            .find_network(&self.name, self.cx.look())
            .await
            .map_err(explain::at(&manager))?;
        let Some(network) = found else {
            return Ok(Observation::differs(self.unobserved()));
        };
        if network.is_pending() {
            return Ok(Observation::differs(vec![Change::new(
                Verb::Await,
                format!("network {}", self.name),
                "the swarm has not set it up yet",
            )]));
        }
        let spec = self.spec();
        if network.driver != spec.driver || network.scope != "swarm" {
            return Err(Failure::message(
                FailureClass::Failed,
                format!(
                    "there is a network {} with driver {} and scope {}; declared is driver {} and scope swarm",
                    self.name, network.driver, network.scope, spec.driver
                ),
            )
            .hint("give the declared one another name, or remove the other one"));
        }
        let differences: Vec<String> = spec
            .differences(&network)
            .into_iter()
            .filter(|difference| !difference.is_cosmetic())
            .map(|difference| format!("{difference} (a network cannot be changed, only made anew)"))
            .collect();
        Ok(
            Observation::converged(format!("{} network {}", network.driver, network.id))
                .warn(differences),
        )
    }

    async fn apply(&self, progress: &Progress) -> Result<(), Failure> {
        let (manager, engine) = self.cx.manager().await?;
        let found = engine
            .find_network(&self.name, self.cx.look())
            .await
            .map_err(explain::at(&manager))?;
        if found.is_none() {
            engine
                .create_network(&self.spec(), self.cx.act())
                .await
                .map_err(explain::at(&manager))?;
            for change in self.unobserved() {
                progress.changed(change);
            }
        }
        engine
            .await_network(&self.name, self.cx.act())
            .await
            .map_err(explain::at(&manager))?;
        Ok(())
    }

    fn seen_through(&self) -> Vec<ResourceId> {
        vec![ResourceId::Swarm]
    }

    fn unobserved(&self) -> Vec<Change> {
        vec![Change::new(
            Verb::Create,
            format!("network {}", self.name),
            "missing",
        )]
    }
}
