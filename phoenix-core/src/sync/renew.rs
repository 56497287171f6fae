//! A sync restricted to certificates.
//!
//! What is renewed are certificates: the declared ones, those of managed Docker daemons and
//! Phoenix's own. So that they are in use afterwards, the secrets made from them follow, and the
//! stacks that use those secrets, but a stack only when one of these secrets changes: what else
//! has been declared anew is left to a whole sync. Versions of secrets that nothing refers to any
//! more are removed at the end. Everything that these need is checked and never changed: where it
//! is not as declared, it fails and says so, which blocks what depends on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use indexmap::IndexMap;
use time::OffsetDateTime;

use super::context::Context;
use super::run::Steps;
use super::session::local;
use super::state::Served;
use super::step::{Observation, Progress, Step, View};
use super::steps::{self, CertificateStep, DockerClientStep, EndpointStep, Issued};
use super::{Change, Failure, FailureClass, Graph, PlannedAction, PlannedStep, ResourceId, Verb};
use crate::pki::Bundle;
use crate::site::SecretSource;

/// What a renewal is asked to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RenewOptions {
    /// The certificates to look at: declared names, `docker/GUEST` for the certificate of a
    /// managed daemon, `docker-client` for Phoenix's own. All when empty.
    pub names: Vec<String>,
    /// Whether they are issued anew although they are not due.
    pub force: bool,
}

impl RenewOptions {
    /// The same, for these certificates alone.
    #[must_use]
    pub fn names(mut self, names: impl IntoIterator<Item = String>) -> Self {
        self.names = names.into_iter().collect();
        self
    }

    /// The same, due or not.
    #[must_use]
    pub fn force(mut self, force: bool) -> Self {
        self.force = force;
        self
    }
}

/// A certificate was named that the site does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the site has no certificate `{name}`: it has {}", .known.join(", "))]
#[non_exhaustive]
pub struct UnknownCertificate {
    /// The name.
    pub name: String,
    /// The certificates that there are.
    pub known: Vec<String>,
}

/// What a renewal walks over.
pub(super) struct Scope {
    pub(super) graph: Graph,
    pub(super) steps: Steps,
    /// Stacks that act only when a secret of theirs changes.
    stacks: BTreeSet<String>,
}

/// The certificates of a site by the names that operators use, with the steps that issue them.
fn certificates(cx: &Arc<Context>) -> IndexMap<String, ResourceId> {
    let declared = cx
        .site
        .certificates
        .keys()
        .map(|name| (name.clone(), ResourceId::Certificate(name.clone())));
    let daemons: Vec<&String> = cx
        .site
        .guests
        .keys()
        .filter(|name| {
            let step = EndpointStep::new(Arc::clone(cx), (*name).clone());
            matches!(step.issued(), Ok(Some(_)))
        })
        .collect();
    let own = (!daemons.is_empty()).then(|| ("docker-client".to_owned(), ResourceId::DockerClient));
    declared
        .chain(
            daemons
                .into_iter()
                .map(|name| (format!("docker/{name}"), ResourceId::Endpoint(name.clone()))),
        )
        .chain(own)
        .collect()
}

/// What is issued by the step of `id`.
fn issued(cx: &Arc<Context>, id: &ResourceId) -> Result<Option<Issued>, Failure> {
    match id {
        ResourceId::Certificate(name) => CertificateStep::new(Arc::clone(cx), name.clone())
            .issued()
            .map(Some),
        ResourceId::Endpoint(name) => EndpointStep::new(Arc::clone(cx), name.clone()).issued(),
        ResourceId::DockerClient => DockerClientStep::new(Arc::clone(cx)).issued().map(Some),
        _ => Ok(None),
    }
}

/// The first moment at which any certificate of the site is due; `None` when there are none. One
/// that is missing or cannot be read is due now.
pub(super) fn next_due(cx: &Arc<Context>, now: OffsetDateTime) -> Option<OffsetDateTime> {
    certificates(cx)
        .values()
        .filter_map(|id| issued(cx, id).ok().flatten())
        .map(|issued| match Bundle::load(&issued.path) {
            Ok(Some(bundle)) => issued.rule.due(bundle.leaf(), bundle.not_after()),
            Ok(None) | Err(_) => now,
        })
        .min()
}

/// What is walked for `options`, in the graph of the whole site.
pub(super) fn scope(
    cx: &Arc<Context>,
    whole: &Graph,
    options: &RenewOptions,
) -> Result<Scope, UnknownCertificate> {
    let known = certificates(cx);
    let named: BTreeSet<ResourceId> = if options.names.is_empty() {
        known.values().cloned().collect()
    } else {
        options
            .names
            .iter()
            .map(|name| {
                known.get(name).cloned().ok_or_else(|| UnknownCertificate {
                    name: name.clone(),
                    known: known.keys().cloned().collect(),
                })
            })
            .collect::<Result<_, _>>()?
    };
    if options.force {
        for id in &named {
            if let Ok(Some(issued)) = issued(cx, id) {
                cx.force(issued.path);
            }
        }
    }
    let secrets: BTreeSet<ResourceId> = cx
        .site
        .secrets
        .iter()
        .filter(|(_, secret)| match &secret.source {
            SecretSource::Certificate { name, .. } => {
                named.contains(&ResourceId::Certificate(name.clone()))
            }
            _ => false,
        })
        .map(|(name, _)| ResourceId::Secret(name.clone()))
        .collect();
    let users: BTreeMap<ResourceId, Vec<ResourceId>> = whole
        .order()
        .filter(|id| matches!(id, ResourceId::Stack(_)))
        .map(|id| {
            let used = whole.needs(id).filter(|need| secrets.contains(*need));
            (id.clone(), used.cloned().collect::<Vec<_>>())
        })
        .filter(|(_, used)| !used.is_empty())
        .collect();

    let mut wanted: BTreeSet<&ResourceId> = BTreeSet::new();
    let mut open: Vec<&ResourceId> = whole
        .order()
        .filter(|id| named.contains(*id) || secrets.contains(*id) || users.contains_key(*id))
        .collect();
    while let Some(id) = open.pop() {
        if wanted.insert(id) {
            open.extend(whole.needs(id));
        }
    }
    // What is left of the keys that were renewed goes; what else is retired is as old.
    let retired = ResourceId::RetiredVersions;
    if !secrets.is_empty() && whole.contains(&retired) {
        wanted.insert(&retired);
    }
    let mut stacks = BTreeSet::new();
    let steps = wanted
        .iter()
        .map(|id| {
            let step = steps::step(cx, id);
            let step: Arc<dyn Step> = match (id, users.get(*id)) {
                (ResourceId::Stack(name), Some(used)) => {
                    stacks.insert(name.clone());
                    Arc::new(Follows {
                        inner: step,
                        cx: Arc::clone(cx),
                        key: key(name),
                        secrets: used.clone(),
                    })
                }
                (ResourceId::RetiredVersions, _) => step,
                _ if named.contains(*id) || secrets.contains(*id) => step,
                _ => Arc::new(Checked { inner: step }),
            };
            ((*id).clone(), step)
        })
        .collect();
    Ok(Scope {
        graph: whole.restricted(&wanted),
        steps,
        stacks,
    })
}

/// Under which it is remembered that a stack is to follow a secret.
fn key(stack: &str) -> String {
    format!("renewed-{stack}")
}

impl Scope {
    /// Remembers which stacks are to follow their secrets, before any secret changes: neither a
    /// crash nor a failure in between is to leave a stack with an old certificate.
    pub(super) fn begin(&self, cx: &Context, planned: &[PlannedStep]) -> std::io::Result<()> {
        for step in planned {
            if let (ResourceId::Stack(name), PlannedAction::Change { .. }) =
                (&step.step, &step.action)
                && self.stacks.contains(name)
            {
                cx.state.set_unfinished(
                    &key(name),
                    "a certificate that it uses was being renewed",
                    Served::Unknown,
                )?;
            }
        }
        Ok(())
    }

    /// Forgets it for the stacks that ended well.
    pub(super) fn end<'a>(
        &self,
        cx: &Context,
        well: impl IntoIterator<Item = &'a ResourceId>,
    ) -> std::io::Result<()> {
        for id in well {
            if let ResourceId::Stack(name) = id
                && self.stacks.contains(name)
            {
                cx.state.clear_unfinished(&key(name))?;
            }
        }
        Ok(())
    }
}

/// A step that is observed and never applied.
struct Checked {
    inner: Arc<dyn Step>,
}

#[async_trait]
impl Step for Checked {
    async fn observe(&self, view: &View) -> Result<Observation, Failure> {
        let observation = self.inner.observe(view).await?;
        if observation.changes.is_empty() {
            return Ok(observation);
        }
        Err(not_as_declared(&observation.changes))
    }

    async fn apply(&self, _progress: &Progress) -> Result<(), Failure> {
        Err(not_as_declared(&self.inner.unobserved()))
    }

    fn seen_through(&self) -> Vec<ResourceId> {
        self.inner.seen_through()
    }

    fn unobserved(&self) -> Vec<Change> {
        self.inner.unobserved()
    }
}

fn not_as_declared(changes: &[Change]) -> Failure {
    // What a sync would wait for does not answer now.
    let awaited = !changes.is_empty() && changes.iter().all(|change| change.verb == Verb::Await);
    let class = if awaited {
        FailureClass::Unreachable
    } else {
        FailureClass::Failed
    };
    let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
    Failure::message(
        class,
        format!("it is not as declared: {}", changes.join(", ")),
    )
    .hint("a renewal changes certificates only; run `phoenix sync all` first")
}

/// The step of a stack, which acts only when a secret that it uses changes.
struct Follows {
    inner: Arc<dyn Step>,
    cx: Arc<Context>,
    key: String,
    secrets: Vec<ResourceId>,
}

#[async_trait]
impl Step for Follows {
    async fn observe(&self, view: &View) -> Result<Observation, Failure> {
        let remembered = self
            .cx
            .state
            .unfinished(&self.key)
            .map_err(|error| local("what is unfinished", &error))?
            .is_some();
        let changes = self.secrets.iter().any(|id| view.pending(id).is_some());
        if remembered || changes {
            return self.inner.observe(view).await;
        }
        Ok(Observation::converged("no secret of it changes"))
    }

    async fn apply(&self, progress: &Progress) -> Result<(), Failure> {
        self.inner.apply(progress).await
    }

    fn seen_through(&self) -> Vec<ResourceId> {
        self.inner.seen_through()
    }

    fn unobserved(&self) -> Vec<Change> {
        self.inner.unobserved()
    }
}
