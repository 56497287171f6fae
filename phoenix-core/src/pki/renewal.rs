//! Why a stored bundle no longer is what is asked for.
//!
//! The reasons are a function of what is stored, what is asked for, who issues and what time it
//! is, so that a plan made twice says the same. A bundle that was just issued for a request gives
//! no reason (as long as [`RenewalRule::Before`] is below the lifetime), so that renewing ends.

use std::time::Duration;

use time::OffsetDateTime;

use super::bundle::{Bundle, BundleError};
use super::issuer::IssuerIdentity;
use super::observed::ObservedCertificate;
use super::reason::RenewalReason;
use super::request::CertificateRequest;
use super::san::SanDifference;
use super::serial::Serial;
use super::template::BACKDATE;
use crate::ground::causes;

/// When a certificate that is otherwise right is issued anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum RenewalRule {
    /// When two thirds of its own lifetime have passed, up to a twentieth of it earlier: each
    /// certificate at another moment, which follows from its fingerprint, so that those issued
    /// together are not all due together.
    #[default]
    TwoThirds,
    /// When less than this is left.
    Before(Duration),
}

impl RenewalRule {
    /// The moment from which `certificate` is due, when it is good until `not_after` at most.
    #[must_use]
    pub fn due(
        self,
        certificate: &ObservedCertificate,
        not_after: OffsetDateTime,
    ) -> OffsetDateTime {
        match self {
            Self::TwoThirds => {
                let lifetime = (not_after - certificate.not_before).max(time::Duration::ZERO);
                let [a, b, c, d, ..] = certificate.fingerprint;
                let jitter = f64::from(u32::from_be_bytes([a, b, c, d])) / f64::from(u32::MAX);
                certificate.not_before + lifetime * (2.0 / 3.0 - jitter / 20.0)
            }
            Self::Before(left) => not_after - left,
        }
    }
}

/// Why `stored` must be issued anew; empty when it need not. Always in the same order.
///
/// `stored` is what [`Bundle::load`] gave, borrowed:
/// `loaded.as_ref().map(Option::as_ref)`. A [`RenewalRule::Before`] must be below the request's
/// lifetime, or every new certificate is due at once.
#[must_use]
pub fn renewal_reasons(
    stored: Result<Option<&Bundle>, &BundleError>,
    request: &CertificateRequest,
    rule: RenewalRule,
    issuer: &IssuerIdentity,
    now: OffsetDateTime,
) -> Vec<RenewalReason> {
    let bundle = match stored {
        Ok(Some(bundle)) => bundle,
        Ok(None) => return vec![RenewalReason::Missing],
        Err(error) => {
            return vec![RenewalReason::Unreadable {
                problem: causes(error),
            }];
        }
    };
    let leaf = bundle.leaf();
    let mut reasons = Vec::new();
    if !bundle.key_matches() {
        reasons.push(RenewalReason::KeyMismatch);
    }
    reasons.extend(revoked(bundle, issuer));
    reasons.extend(time_reason(bundle, request, rule, issuer, now));
    let common_name = leaf.common_name.as_deref().unwrap_or_default();
    if !issuer.own_subjects && common_name != request.common_name() {
        reasons.push(RenewalReason::CommonName {
            have: common_name.to_owned(),
            want: request.common_name().to_owned(),
        });
    }
    let difference = SanDifference::between(&leaf.sans, request.sans());
    if !difference.is_empty() {
        reasons.push(RenewalReason::Names(difference));
    }
    let wider = issuer.wider_profiles && bundle.wider_than(request.profile()).is_some();
    if leaf.profile != Some(request.profile()) && !wider {
        reasons.push(RenewalReason::Profile {
            have: leaf.profile,
            want: request.profile(),
        });
    }
    if leaf.key_type != Some(request.key_type()) {
        reasons.push(RenewalReason::KeyType {
            have: leaf.key_type,
            want: request.key_type(),
        });
    }
    if !issuer.issued(bundle) {
        reasons.push(RenewalReason::IssuerChanged {
            have: IssuerIdentity::new(&leaf.issuer, vec![bundle.root().fingerprint]).to_string(),
            want: issuer.to_string(),
        });
    }
    // The reasons above say better than a verifier what is wrong; what none of them explains, such
    // as a signature that does not verify, is left to it.
    if reasons.is_empty()
        && let Err(error) = bundle.check(request.profile(), request.sans(), now)
    {
        reasons.push(RenewalReason::BrokenChain {
            problem: causes(&error),
        });
    }
    reasons
}

fn revoked(bundle: &Bundle, issuer: &IssuerIdentity) -> Option<RenewalReason> {
    if issuer.revoked.is_empty() || !issuer.issued(bundle) {
        return None;
    }
    let serial: Serial = bundle.leaf().serial.parse().ok()?;
    let at = *issuer.revoked.get(&serial)?;
    Some(RenewalReason::Revoked { at })
}

fn time_reason(
    bundle: &Bundle,
    request: &CertificateRequest,
    rule: RenewalRule,
    issuer: &IssuerIdentity,
    now: OffsetDateTime,
) -> Option<RenewalReason> {
    let leaf = bundle.leaf();
    let not_after = bundle.not_after();
    if now > not_after {
        return Some(RenewalReason::Expired {
            at: not_after,
            ago: (now - not_after).unsigned_abs(),
        });
    }
    if now < leaf.not_before {
        return Some(RenewalReason::NotYetValid {
            from: leaf.not_before,
        });
    }
    let left = (not_after - now).unsigned_abs();
    let since = rule.due(leaf, not_after);
    if now > since {
        return Some(RenewalReason::Expiring { left, since });
    }
    // The slack is for a clock that was set back after the issue.
    if !issuer.own_lifetimes && left > request.lifetime() + BACKDATE.unsigned_abs() {
        return Some(RenewalReason::Outlives {
            left,
            lifetime: request.lifetime(),
        });
    }
    None
}

#[cfg(test)]
#[path = "renewal_tests.rs"]
mod tests;
