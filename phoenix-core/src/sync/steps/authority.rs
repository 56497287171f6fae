//! The site's issuers, and the certificate with which Phoenix shows itself to managed daemons.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use time::OffsetDateTime;

use super::issued::Issued;
use crate::pki::{
    CertificateRequest, EmbeddedCa, Issuer, KeyType, Profile, RenewalRule, SubjectAltName,
};
use crate::site::{CertificateAuthority, DockerTls};
use crate::sync::context::Context;
use crate::sync::explain;
use crate::sync::session::local;
use crate::sync::step::{Observation, Progress, Step, View};
use crate::sync::{Change, Failure, ResourceId, Verb};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) struct AuthorityStep {
    cx: Arc<Context>,
    /// The site's own when absent.
    name: Option<String>,
}

impl AuthorityStep {
    pub(super) fn new(cx: Arc<Context>, name: Option<String>) -> Self {
        Self { cx, name }
    }

    fn declared(&self) -> &CertificateAuthority {
        self.cx.declared_issuer(self.name.as_deref())
    }

    /// The longest that a certificate of this issuer is to live.
    fn longest_leaf(&self) -> Duration {
        let declared = self
            .cx
            .site
            .certificates
            .values()
            .filter(|certificate| certificate.issuer == self.name)
            .map(|certificate| certificate.lifetime);
        declared.max().unwrap_or(DAY * 90)
    }
}

#[async_trait]
impl Step for AuthorityStep {
    async fn observe(&self, _view: &View) -> Result<Observation, Failure> {
        match self.declared() {
            CertificateAuthority::Embedded(declared) => Ok(
                match self.cx.read_embedded(self.name.as_deref(), declared)? {
                    Some(authority) => Observation::converged(format!(
                        "{} is valid until {}",
                        authority.identity().name,
                        authority.intermediate().not_after.date()
                    ))
                    .warn(
                        authority
                            .departures(&self.cx.ca_parameters(self.name.as_deref(), declared)?),
                    )
                    .warn(authority.warnings(OffsetDateTime::now_utc(), self.longest_leaf())),
                    None => Observation::differs(self.unobserved()).usable(),
                },
            ),
            CertificateAuthority::Acme(declared) => {
                // Settings that cannot work are told before a certificate is due.
                let acme = self.cx.acme(self.name.as_deref(), declared)?;
                let name = acme.identity().to_string();
                match acme.probe(self.cx.look()).await {
                    Ok(()) => Ok(Observation::converged(format!("{name} answers"))),
                    // Certificates that need nothing do not need it either.
                    Err(error) => {
                        let problem = explain::issuing(&error).message;
                        Ok(
                            Observation::converged(format!("{name} is declared")).warn(vec![
                                format!("{problem}. Nothing can be issued until it answers"),
                            ]),
                        )
                    }
                }
            }
            CertificateAuthority::StepCa(declared) => {
                let ca = self.cx.step_ca(self.name.as_deref(), declared)?;
                let name = ca.identity().to_string();
                match ca.probe(self.cx.look()).await {
                    Ok(()) => Ok(Observation::converged(format!("{name} answers"))),
                    // Certificates that need nothing do not need it either.
                    Err(error) if error.is_unreachable() => {
                        let problem = explain::step_ca(&error).message;
                        Ok(
                            Observation::converged(format!("{name} is declared")).warn(vec![
                                format!("{problem}. Nothing can be issued until it answers"),
                            ]),
                        )
                    }
                    Err(error) => Err(explain::step_ca(&error)),
                }
            }
        }
    }

    async fn apply(&self, progress: &Progress) -> Result<(), Failure> {
        if let CertificateAuthority::Embedded(declared) = self.declared() {
            progress.say("making the keys of root and intermediate");
            let name = self.name.as_deref();
            let parameters = self.cx.ca_parameters(name, declared)?;
            EmbeddedCa::open_or_create(&declared.directory, &parameters)
                .map_err(|error| local("the certificate authority cannot be created", &error))?;
            self.cx.read_embedded(name, declared)?;
            for change in self.unobserved() {
                progress.changed(change);
            }
        }
        Ok(())
    }

    fn unobserved(&self) -> Vec<Change> {
        match self.declared() {
            CertificateAuthority::Embedded(declared) => vec![Change::new(
                Verb::Create,
                format!("root and intermediate of {}", declared.common_name),
                "missing",
            )],
            CertificateAuthority::StepCa(_) | CertificateAuthority::Acme(_) => Vec::new(),
        }
    }
}

pub(in crate::sync) struct DockerClientStep {
    cx: Arc<Context>,
}

impl DockerClientStep {
    pub(in crate::sync) fn new(cx: Arc<Context>) -> Self {
        Self { cx }
    }

    pub(in crate::sync) fn issued(&self) -> Result<Issued, Failure> {
        let (lifetime, rule) = self
            .cx
            .site
            .guests
            .values()
            .filter_map(|guest| match guest.docker.as_ref()?.tls.as_ref()? {
                DockerTls::Managed(daemon) => Some((daemon.lifetime, daemon.rule)),
                DockerTls::Files { .. } => None,
            })
            .min_by_key(|(lifetime, _)| *lifetime)
            .unwrap_or((DAY * 90, RenewalRule::TwoThirds));
        docker_client(&self.cx, lifetime, rule)
    }
}

/// Phoenix's own client certificate.
fn docker_client(cx: &Context, lifetime: Duration, rule: RenewalRule) -> Result<Issued, Failure> {
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
        rule,
        issuer: None,
    })
}

#[async_trait]
impl Step for DockerClientStep {
    async fn observe(&self, _view: &View) -> Result<Observation, Failure> {
        let issued = self.issued()?;
        let stored = issued.look(&self.cx).await?;
        let observation = match stored.current() {
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
        };
        Ok(observation.warn(issued.wider(&self.cx, &stored).into_iter().collect()))
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
