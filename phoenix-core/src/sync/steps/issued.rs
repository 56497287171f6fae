//! A certificate that Phoenix issues and keeps: what is stored, and whether it will do.

use std::path::PathBuf;

use time::OffsetDateTime;

use crate::ground::Deadline;
use crate::pki::{Bundle, CertificateRequest, RenewalReason, RenewalRule, renewal_reasons};
use crate::site::CertificateAuthority;
use crate::sync::context::Context;
use crate::sync::explain;
use crate::sync::session::local;
use crate::sync::state::create_parent;
use crate::sync::step::Progress;
use crate::sync::{Change, Failure, FailureClass, Verb};

/// A certificate to be issued and stored at `path`.
#[derive(Debug, Clone)]
pub(in crate::sync) struct Issued {
    pub(in crate::sync) what: String,
    pub(in crate::sync) path: PathBuf,
    pub(in crate::sync) request: CertificateRequest,
    pub(in crate::sync) rule: RenewalRule,
    /// The name of its issuer; the site's own when absent.
    pub(in crate::sync) issuer: Option<String>,
}

/// What is stored of a certificate, and why that does not do.
#[derive(Debug, Clone)]
pub(in crate::sync) struct Stored {
    pub(in crate::sync) bundle: Option<Bundle>,
    pub(in crate::sync) reasons: Vec<RenewalReason>,
}

impl Stored {
    /// Whether what is stored still works, although it is due.
    pub(in crate::sync) fn still_works(&self) -> bool {
        self.reasons.iter().all(|reason| {
            matches!(
                reason,
                RenewalReason::Expiring { .. }
                    | RenewalReason::Outlives { .. }
                    | RenewalReason::Forced
            )
        })
    }

    /// The bundle, when it will do.
    pub(in crate::sync) fn current(&self) -> Option<&Bundle> {
        self.bundle.as_ref().filter(|_| self.reasons.is_empty())
    }
}

impl Issued {
    /// Looks at what is stored.
    pub(in crate::sync) async fn look(&self, cx: &Context) -> Result<Stored, Failure> {
        let issuer = cx.issuer(self.issuer.as_deref())?;
        let loaded = Bundle::load(&self.path);
        let Some(issuer) = issuer else {
            return Ok(Stored {
                bundle: loaded.ok().flatten(),
                reasons: vec![RenewalReason::Missing],
            });
        };
        let mut reasons = renewal_reasons(
            loaded.as_ref().map(Option::as_ref),
            &self.request,
            self.rule,
            issuer.identity(),
            OffsetDateTime::now_utc(),
        );
        if cx.forced().contains(&self.path) {
            reasons.push(RenewalReason::Forced);
        }
        Ok(Stored {
            bundle: loaded.ok().flatten(),
            reasons,
        })
    }

    /// That what is stored is good for more than was asked for, which step-ca decides by itself.
    pub(in crate::sync) fn wider(&self, cx: &Context, stored: &Stored) -> Option<String> {
        let declared = cx.declared_issuer(self.issuer.as_deref());
        if !matches!(declared, CertificateAuthority::StepCa(_)) {
            return None;
        }
        let wanted = self.request.profile();
        let have = stored.bundle.as_ref()?.wider_than(wanted)?;
        Some(format!(
            "{} is good for {have}, not for {wanted} alone: its provisioner's template gives both \
             purposes; set `strict: true` to refuse that",
            self.what
        ))
    }

    /// The change that issuing it is.
    pub(in crate::sync) fn change(&self, reasons: &[RenewalReason]) -> Change {
        Change::because(Verb::Issue, self.what.clone(), reasons)
    }

    /// What issuing it probably is, when the CA cannot be seen yet.
    pub(in crate::sync) fn unobserved(&self) -> Change {
        self.change(&[RenewalReason::Missing])
    }

    /// The bundle that will do: the stored one, or one that is issued now.
    pub(in crate::sync) async fn ensure(
        &self,
        cx: &Context,
        progress: &Progress,
    ) -> Result<Bundle, Failure> {
        let stored = self.look(cx).await?;
        if let Some(bundle) = stored.current() {
            return Ok(bundle.clone());
        }
        let bundle = self.issue(cx, &stored).await?;
        progress.changed(self.change(&stored.reasons));
        Ok(bundle)
    }

    /// Tells the issuer that `bundle` lies at `place` now. It does so whether that can be
    /// recorded or not, so that a failure is only said.
    pub(in crate::sync) async fn delivered(
        &self,
        cx: &Context,
        progress: &Progress,
        bundle: &Bundle,
        place: &str,
    ) {
        let Ok(Some(issuer)) = cx.issuer(self.issuer.as_deref()) else {
            return;
        };
        if let Err(error) = issuer.delivered(&bundle.leaf().serial, place).await {
            let failure = local(
                format!("delivered to {place}, which is not recorded"),
                &error,
            );
            progress.say(failure.message);
        }
    }

    /// Issues it and stores it.
    async fn issue(&self, cx: &Context, stored: &Stored) -> Result<Bundle, Failure> {
        let issuer = cx.issuer(self.issuer.as_deref())?.ok_or_else(|| {
            Failure::message(
                FailureClass::Failed,
                "the certificate authority has not been created",
            )
        })?;
        let deadline = Deadline::after(issuer.patience());
        let issued = match &stored.bundle {
            Some(bundle) if stored.still_works() => {
                issuer.renew(&self.request, bundle, deadline).await
            }
            _ => issuer.issue(&self.request, deadline).await,
        };
        let bundle = issued.map_err(|error| {
            explain::issuing(&error).context(format!("{} cannot be issued", self.what))
        })?;
        create_parent(&self.path)
            .map_err(|error| local(format!("{} cannot be stored", self.what), &error))?;
        bundle
            .save(&self.path)
            .map_err(|error| local(format!("{} cannot be stored", self.what), &error))?;
        cx.forced().remove(&self.path);
        Ok(bundle)
    }
}
