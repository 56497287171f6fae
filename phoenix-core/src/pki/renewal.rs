//! Why a stored bundle no longer is what is asked for.
//!
//! The reasons are a function of what is stored, what is asked for, who issues and what time it
//! is, so that a plan made twice says the same. A bundle that was just issued for a request gives
//! no reason (as long as [`RenewalRule::Before`] is below the lifetime), so that renewing ends.

use std::fmt;
use std::time::Duration;

use time::OffsetDateTime;

use super::bundle::{Bundle, BundleError};
use super::issuer::IssuerIdentity;
use super::observed::ObservedCertificate;
use super::request::{CertificateRequest, KeyType, Profile};
use super::san::SanDifference;
use super::serial::Serial;
use super::template::BACKDATE;
use super::times::{about, exactly, show};

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

/// A reason to issue a certificate anew. `Display` is for the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RenewalReason {
    /// There is none.
    Missing,
    /// What is stored cannot be read.
    Unreadable {
        /// Why.
        problem: String,
    },
    /// The private key is not that of the certificate.
    KeyMismatch,
    /// Its issuer has revoked it.
    Revoked {
        /// When.
        at: OffsetDateTime,
    },
    /// It has expired.
    Expired {
        /// The last second of its validity.
        at: OffsetDateTime,
        /// How long ago that was.
        ago: Duration,
    },
    /// Its renewal is due.
    Expiring {
        /// How long it is still valid.
        left: Duration,
        /// Since when it is due.
        since: OffsetDateTime,
    },
    /// It is not valid yet.
    NotYetValid {
        /// The first second of its validity.
        from: OffsetDateTime,
    },
    /// It would be valid longer than one issued now: the lifetime was shortened.
    Outlives {
        /// How long it is still valid.
        left: Duration,
        /// The lifetime that is asked for.
        lifetime: Duration,
    },
    /// The subject's common name is another.
    CommonName {
        /// What it is; empty when there is none.
        have: String,
        /// What it should be.
        want: String,
    },
    /// The names are others.
    Names(SanDifference),
    /// The profile is another.
    Profile {
        /// What it is, when it is one.
        have: Option<Profile>,
        /// What it should be.
        want: Profile,
    },
    /// The key is of another kind.
    KeyType {
        /// What it is, when it is known.
        have: Option<KeyType>,
        /// What it should be.
        want: KeyType,
    },
    /// Another issuer is to issue it.
    IssuerChanged {
        /// Who issued it.
        have: String,
        /// Who should.
        want: String,
    },
    /// It was asked for, due or not.
    Forced,
    /// The certificates do not form a valid chain.
    BrokenChain {
        /// Why not.
        problem: String,
    },
}

impl fmt::Display for RenewalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("missing"),
            Self::Unreadable { problem } => write!(f, "unreadable: {problem}"),
            Self::KeyMismatch => f.write_str("key does not match"),
            Self::Revoked { at } => write!(f, "revoked on {}", show(at)),
            Self::Expired { at, ago } => write!(f, "expired {} ago, on {}", about(*ago), show(at)),
            Self::Expiring { left, since } => {
                write!(f, "expires in {}, due since {}", about(*left), show(since))
            }
            Self::NotYetValid { from } => write!(f, "not valid before {}", show(from)),
            Self::Outlives { left, lifetime } => write!(
                f,
                "valid for {} more, longer than its lifetime of {}",
                about(*left),
                exactly(*lifetime)
            ),
            Self::CommonName { have, want } => {
                write!(f, "common name is `{have}`, not `{want}`")
            }
            Self::Names(difference) => write!(f, "SANs differ: {difference}"),
            Self::Profile { have, want } => write!(
                f,
                "profile is {}, not {want}",
                have.map_or("none", Profile::as_str)
            ),
            Self::KeyType { have, want } => write!(
                f,
                "key type is {}, not {want}",
                have.map_or("another", KeyType::as_str)
            ),
            Self::IssuerChanged { have, want } => {
                write!(f, "issuer changed: from {have} to {want}")
            }
            Self::Forced => f.write_str("forced"),
            Self::BrokenChain { problem } => write!(f, "chain is broken: {problem}"),
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
                problem: chain_of_causes(error),
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
            problem: chain_of_causes(&error),
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

/// An error's message with those of its sources.
pub(super) fn chain_of_causes(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        message.push_str(": ");
        message.push_str(&cause.to_string());
        source = cause.source();
    }
    message
}

#[cfg(test)]
#[path = "renewal_tests.rs"]
mod tests;
