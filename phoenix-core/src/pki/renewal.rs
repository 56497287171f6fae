//! Why a stored bundle no longer is what is asked for.
//!
//! The reasons are a function of what is stored, what is asked for, who issues and what time it
//! is, so that a plan made twice says the same. A bundle that was just issued for a request gives
//! no reason (as long as `renew_before` is below the lifetime), so that renewing ends.

use std::fmt;
use std::time::Duration;

use time::OffsetDateTime;

use super::bundle::{Bundle, BundleError};
use super::issuer::IssuerIdentity;
use super::request::{CertificateRequest, KeyType, Profile};
use super::san::SanDifference;
use super::template::BACKDATE;
use super::times::{about, exactly, show};

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
    /// It has expired.
    Expired {
        /// The last second of its validity.
        at: OffsetDateTime,
        /// How long ago that was.
        ago: Duration,
    },
    /// Less than the declared time is left.
    Expiring {
        /// How long it is still valid.
        left: Duration,
        /// What must be left.
        renew_before: Duration,
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
            Self::Expired { at, ago } => write!(f, "expired {} ago, on {}", about(*ago), show(at)),
            Self::Expiring { left, renew_before } => write!(
                f,
                "expires in {} (renewed below {})",
                about(*left),
                exactly(*renew_before)
            ),
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
            Self::BrokenChain { problem } => write!(f, "chain is broken: {problem}"),
        }
    }
}

/// Why `stored` must be issued anew; empty when it need not. Always in the same order.
///
/// `stored` is what [`Bundle::load`] gave, borrowed:
/// `loaded.as_ref().map(Option::as_ref)`. `renew_before` must be below the request's lifetime,
/// or every new certificate is due at once.
#[must_use]
pub fn renewal_reasons(
    stored: Result<Option<&Bundle>, &BundleError>,
    request: &CertificateRequest,
    renew_before: Duration,
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
    reasons.extend(time_reason(bundle, request, renew_before, now));
    let common_name = leaf.common_name.as_deref().unwrap_or_default();
    if common_name != request.common_name() {
        reasons.push(RenewalReason::CommonName {
            have: common_name.to_owned(),
            want: request.common_name().to_owned(),
        });
    }
    let difference = SanDifference::between(&leaf.sans, request.sans());
    if !difference.is_empty() {
        reasons.push(RenewalReason::Names(difference));
    }
    if leaf.profile != Some(request.profile()) {
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
            have: IssuerIdentity {
                name: leaf.issuer.clone(),
                root: bundle.root().fingerprint,
                key_ids: Vec::new(),
            }
            .to_string(),
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

fn time_reason(
    bundle: &Bundle,
    request: &CertificateRequest,
    renew_before: Duration,
    now: OffsetDateTime,
) -> Option<RenewalReason> {
    let leaf = bundle.leaf();
    // What the leaf's own end says is moot once a certificate above it ends sooner.
    let not_after = bundle
        .intermediates()
        .chain([bundle.root()])
        .map(|certificate| certificate.not_after)
        .fold(leaf.not_after, OffsetDateTime::min);
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
    if left < renew_before {
        return Some(RenewalReason::Expiring { left, renew_before });
    }
    // The slack is for a clock that was set back after the issue.
    if left > request.lifetime() + BACKDATE.unsigned_abs() {
        return Some(RenewalReason::Outlives {
            left,
            lifetime: request.lifetime(),
        });
    }
    None
}

/// An error's message with those of its sources.
fn chain_of_causes(error: &dyn std::error::Error) -> String {
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
