//! A declared certificate: issued, delivered to guests, and in use there.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::join_all;

use super::delivery::{Target, WantedFile, part};
use super::issued::{Issued, Stored};
use super::served::Expected;
use crate::pki::{Bundle, CertificateRequest, ObservedCertificate};
use crate::site::CertificateDeclaration;
use crate::sync::context::Context;
use crate::sync::plan::counted;
use crate::sync::session::local;
use crate::sync::step::{Observation, Progress, Step, View};
use crate::sync::{Change, Failure, ResourceId, Verb};

pub(in crate::sync) struct CertificateStep {
    cx: Arc<Context>,
    name: String,
}

/// What one look at a certificate gave.
pub(in crate::sync) struct Looked {
    pub(in crate::sync) stored: Stored,
    /// What differs; nothing when all is as declared.
    pub(in crate::sync) changes: Vec<Change>,
    /// How it is known to be as declared.
    evidence: String,
}

impl CertificateStep {
    pub(in crate::sync) fn new(cx: Arc<Context>, name: String) -> Self {
        Self { cx, name }
    }

    fn declared(&self) -> &CertificateDeclaration {
        &self.cx.site.certificates[&self.name]
    }

    pub(in crate::sync) fn issued(&self) -> Result<Issued, Failure> {
        let declared = self.declared();
        let request = CertificateRequest::new(
            &declared.common_name,
            declared.profile,
            declared.sans.clone(),
            declared.lifetime,
            declared.key_type,
        )
        .map_err(|error| local(format!("certificate {}", self.name), &error))?;
        Ok(Issued {
            what: format!("{} certificate {}", declared.profile, self.name),
            path: self.cx.state.certificate(&self.name),
            request,
            rule: declared.rule,
            issuer: declared.issuer.clone(),
        })
    }

    /// The deliveries of `bundle`.
    fn targets(&self, bundle: &Bundle) -> Vec<Target> {
        self.deliveries(|wanted| part(bundle, wanted), Some(bundle.leaf()))
    }

    fn deliveries(
        &self,
        content: impl Fn(crate::site::CertificatePart) -> crate::ground::SecretBytes,
        leaf: Option<&ObservedCertificate>,
    ) -> Vec<Target> {
        self.declared()
            .deliveries
            .iter()
            .enumerate()
            .map(|(number, delivery)| Target {
                guest: delivery.guest.clone(),
                key: format!("certificate-{}-{}-{number}", self.name, delivery.guest),
                what: format!("certificate {}", self.name),
                files: delivery
                    .files
                    .iter()
                    .map(|file| WantedFile {
                        path: file.path.clone(),
                        content: content(file.part),
                        owner: file.owner.clone(),
                        group: file.group.clone(),
                        mode: file.mode,
                    })
                    .collect(),
                reload: delivery.reload.clone(),
                verb: Verb::Reload,
                rollback: delivery.rollback,
                check: delivery
                    .check
                    .as_ref()
                    .zip(leaf)
                    .map(|(check, leaf)| Expected {
                        check: check.clone(),
                        leaf: leaf.clone(),
                    }),
            })
            .collect()
    }

    fn deliveries_unobserved(&self) -> Vec<Change> {
        self.deliveries(|_| crate::ground::SecretBytes::new(Vec::new()), None)
            .iter()
            .flat_map(Target::unobserved)
            .collect()
    }

    /// What is stored, and what differs there and in the guests.
    pub(in crate::sync) async fn look(&self) -> Result<Looked, Failure> {
        let issued = self.issued()?;
        let stored = issued.look(&self.cx).await?;
        let Some(bundle) = stored.current() else {
            let mut changes = vec![issued.change(&stored.reasons)];
            changes.extend(self.deliveries_unobserved());
            return Ok(Looked {
                stored,
                changes,
                evidence: String::new(),
            });
        };
        let targets = self.targets(bundle);
        let looked = join_all(targets.iter().map(|target| target.differences(&self.cx))).await;
        let mut changes = Vec::new();
        for differences in looked {
            changes.extend(differences?.into_changes());
        }
        let files: usize = targets.iter().map(|target| target.files.len()).sum();
        let mut evidence = format!("valid until {}", bundle.leaf().not_after.date());
        if files > 0 {
            let guests: Vec<&str> = targets.iter().map(|target| target.guest.as_str()).collect();
            evidence.push_str(&format!(
                ", {} in {}",
                counted(files, "file"),
                guests.join(", ")
            ));
        }
        let served: Vec<String> = targets
            .iter()
            .filter_map(|target| target.check.as_ref().map(Expected::address))
            .collect();
        if !served.is_empty() {
            evidence.push_str(&format!(", served at {}", served.join(", ")));
        }
        Ok(Looked {
            stored,
            changes,
            evidence,
        })
    }

    /// What is stored, and what differs there or is remembered not to be in use. Nothing is
    /// contacted.
    pub(in crate::sync) async fn look_here(&self) -> Result<Looked, Failure> {
        let issued = self.issued()?;
        let stored = issued.look(&self.cx).await?;
        let mut changes = Vec::new();
        match stored.current() {
            None => changes.push(issued.change(&stored.reasons)),
            Some(bundle) => {
                for target in self.targets(bundle) {
                    changes.extend(target.left_undone(&self.cx)?);
                }
            }
        }
        Ok(Looked {
            stored,
            changes,
            evidence: String::new(),
        })
    }
}

#[async_trait]
impl Step for CertificateStep {
    async fn observe(&self, _view: &View) -> Result<Observation, Failure> {
        let looked = self.look().await?;
        let wider = self.issued()?.wider(&self.cx, &looked.stored);
        Ok(Observation::of(looked.changes, looked.evidence)
            .usable()
            .warn(wider.into_iter().collect()))
    }

    async fn apply(&self, progress: &Progress) -> Result<(), Failure> {
        let issued = self.issued()?;
        let bundle = issued.ensure(&self.cx, progress).await?;
        let targets = self.targets(&bundle);
        // Each guest on its own: one that fails does not keep the others from being served.
        let delivered = join_all(targets.iter().map(|target| async {
            let previous = target.place(&self.cx, progress).await?;
            issued
                .delivered(&self.cx, progress, &bundle, &target.place_name())
                .await;
            target
                .put_to_use_or_back(&self.cx, progress, previous)
                .await
        }))
        .await;
        let mut failures = delivered.into_iter().filter_map(Result::err);
        match failures.next() {
            None => Ok(()),
            Some(mut first) => {
                for other in failures {
                    first.message = format!("{}; {}", first.message, other.message);
                }
                Err(first)
            }
        }
    }

    fn seen_through(&self) -> Vec<ResourceId> {
        self.declared()
            .deliveries
            .iter()
            .map(|delivery| ResourceId::Guest(delivery.guest.clone()))
            .collect()
    }

    fn unobserved(&self) -> Vec<Change> {
        let mut changes: Vec<Change> = self.issued().iter().map(Issued::unobserved).collect();
        changes.extend(self.deliveries_unobserved());
        changes
    }
}
