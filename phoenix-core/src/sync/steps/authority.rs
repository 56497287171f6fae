//! The site's CA, and the certificate with which Phoenix shows itself to managed daemons.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::issued::Issued;
use crate::pki::{CertificateRequest, EmbeddedCa, Issuer, KeyType, Profile, SubjectAltName};
use crate::site::{CertificateAuthority, DockerTls};
use crate::sync::context::Context;
use crate::sync::session::local;
use crate::sync::step::{Observation, Progress, Step, View};
use crate::sync::{Change, Failure, ResourceId, Verb};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) struct AuthorityStep {
    cx: Arc<Context>,
}

impl AuthorityStep {
    pub(super) fn new(cx: Arc<Context>) -> Self {
        Self { cx }
    }
}

#[async_trait]
impl Step for AuthorityStep {
    async fn observe(&self, _view: &View) -> Result<Observation, Failure> {
        Ok(match self.cx.authority()? {
            Some(authority) => Observation::converged(format!(
                "{} is valid until {}",
                authority.identity().name,
                authority.intermediate().not_after.date()
            ))
            .warn(authority.departures(&self.cx.ca_parameters()?)),
            None => Observation::differs(self.unobserved()).usable(),
        })
    }

    async fn apply(&self, progress: &Progress) -> Result<(), Failure> {
        let CertificateAuthority::Embedded { directory, .. } = &self.cx.site.ca;
        let parameters = self.cx.ca_parameters()?;
        progress.say("making the keys of root and intermediate");
        EmbeddedCa::open_or_create(directory, &parameters)
            .map_err(|error| local("the certificate authority cannot be created", &error))?;
        for change in self.unobserved() {
            progress.changed(change);
        }
        Ok(())
    }

    fn unobserved(&self) -> Vec<Change> {
        let CertificateAuthority::Embedded { common_name, .. } = &self.cx.site.ca;
        vec![Change::new(
            Verb::Create,
            format!("root and intermediate of {common_name}"),
            "missing",
        )]
    }
}

pub(super) struct DockerClientStep {
    cx: Arc<Context>,
}

impl DockerClientStep {
    pub(super) fn new(cx: Arc<Context>) -> Self {
        Self { cx }
    }

    fn issued(&self) -> Result<Issued, Failure> {
        let (lifetime, renew_before) = self
            .cx
            .site
            .guests
            .values()
            .filter_map(|guest| match guest.docker.as_ref()?.tls.as_ref()? {
                DockerTls::Managed(daemon) => Some((daemon.lifetime, daemon.renew_before)),
                DockerTls::Files { .. } => None,
            })
            .min()
            .unwrap_or((DAY * 90, DAY * 30));
        docker_client(&self.cx, lifetime, renew_before)
    }
}

/// Phoenix's own client certificate.
fn docker_client(
    cx: &Context,
    lifetime: Duration,
    renew_before: Duration,
) -> Result<Issued, Failure> {
    let invalid = |error: &dyn std::error::Error| local("Phoenix's client certificate", error);
    let name: SubjectAltName = format!("phoenix.{}", cx.site.name)
        .parse()
        .map_err(|error: crate::pki::SanError| invalid(&error))?;
    let request = CertificateRequest::new(
        "phoenix",
        Profile::Client,
        vec![name],
        lifetime,
        KeyType::EcdsaP256,
    )
    .map_err(|error| invalid(&error))?;
    Ok(Issued {
        what: "Phoenix's client certificate for Docker".to_owned(),
        path: cx.state.docker_client(),
        request,
        renew_before,
    })
}

#[async_trait]
impl Step for DockerClientStep {
    async fn observe(&self, _view: &View) -> Result<Observation, Failure> {
        let issued = self.issued()?;
        let stored = issued.look(&self.cx).await?;
        Ok(match stored.current() {
            Some(bundle) => {
                Observation::converged(format!("valid until {}", bundle.leaf().not_after.date()))
            }
            None => {
                let observation = Observation::differs(vec![issued.change(&stored.reasons)]);
                // One that is only about to expire still opens the daemons.
                if stored.still_works() {
                    observation.usable()
                } else {
                    observation
                }
            }
        })
    }

    async fn apply(&self, progress: &Progress) -> Result<(), Failure> {
        let issued = self.issued()?;
        issued.ensure(&self.cx, progress).await?;
        self.cx.forget_engines();
        Ok(())
    }

    fn seen_through(&self) -> Vec<ResourceId> {
        vec![ResourceId::Authority]
    }

    fn unobserved(&self) -> Vec<Change> {
        self.issued()
            .map(|issued| vec![issued.unobserved()])
            .unwrap_or_default()
    }
}
