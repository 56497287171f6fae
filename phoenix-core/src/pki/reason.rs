//! Why something is to be done about a certificate: the one list of reasons that plans, reports and
//! lists use.
//!
//! A stored bundle has reasons to be issued anew ([`renewal_reasons`](super::renewal_reasons)), a
//! delivered file to be delivered again ([`delivered_differences`](super::delivered_differences),
//! owner and mode), and what was delivered to be put to use again (not reloaded, not served). No
//! reason shows a key.

use std::fmt;
use std::time::Duration;

use time::OffsetDateTime;

use super::request::{KeyType, Profile};
use super::san::SanDifference;
use super::times::{about, exactly, show};

/// Why a certificate is issued anew, delivered again or put to use again. `Display` is for plans,
/// reports and lists.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RenewalReason {
    /// There is none.
    Missing,
    /// What is there cannot be read.
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
    /// It is a file of a certificate that is issued now.
    Issued,
    /// The serial number is another.
    Serial {
        /// What it is, in hexadecimal digits.
        have: String,
        /// What it should be.
        want: String,
    },
    /// Its validity ends at another time.
    NotAfter {
        /// When it ends.
        have: OffsetDateTime,
        /// When it should end.
        want: OffsetDateTime,
    },
    /// The number of certificates is another.
    Length {
        /// How many there are.
        have: usize,
        /// How many there should be.
        want: usize,
    },
    /// A certificate after the first one is another.
    Above {
        /// Its place, from 2.
        place: usize,
        /// What is there.
        have: String,
        /// What should be.
        want: String,
    },
    /// There is a private key, and none should be.
    KeyBeside,
    /// Certificates and key are the wanted ones and written otherwise, or the file should hold
    /// neither.
    Content,
    /// The owner or the group of a delivered file is another.
    FileOwner {
        /// The file.
        path: String,
        /// Owner and group as they are, `root:root`.
        have: String,
        /// Owner and group as they should be.
        want: String,
    },
    /// The mode of a delivered file is another.
    FileMode {
        /// The file.
        path: String,
        /// Its permission bits as they are.
        have: u32,
        /// Its permission bits as they should be.
        want: u32,
    },
    /// What is to be put to use is delivered now.
    FilesChange,
    /// An earlier attempt to put it to use failed.
    LastAttempt {
        /// How it ended, in words.
        end: String,
    },
    /// It was delivered, and what uses it was not made to read it.
    NotReloaded {
        /// How the last attempt ended, in words.
        last: String,
    },
    /// It was delivered, and an endpoint presents another one or none.
    NotServed {
        /// The endpoint, and from where it was looked at.
        place: String,
        /// What is presented.
        instead: String,
        /// What should be.
        wanted: String,
    },
}

impl RenewalReason {
    /// Whether it is about owner or mode of a delivered file, and not about what is in it.
    #[must_use]
    pub fn is_attribute(&self) -> bool {
        matches!(self, Self::FileOwner { .. } | Self::FileMode { .. })
    }
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
            Self::Issued => f.write_str("the certificate is issued"),
            Self::Serial { have, want } => write!(f, "serial is {have}, not {want}"),
            Self::NotAfter { have, want } => {
                write!(f, "valid until {}, not {}", show(have), show(want))
            }
            Self::Length { have, want } => {
                let plural = if *have == 1 { "" } else { "s" };
                write!(f, "has {have} certificate{plural}, not {want}")
            }
            Self::Above { place, have, want } => {
                write!(f, "certificate {place} is {have}, not {want}")
            }
            Self::KeyBeside => f.write_str("has a private key, which does not belong there"),
            Self::Content => f.write_str("its content differs"),
            Self::FileOwner { path, have, want } => {
                write!(f, "owner of {path} is {have}, declared {want}")
            }
            Self::FileMode { path, have, want } => {
                write!(f, "mode of {path} is {have:04o}, declared {want:04o}")
            }
            Self::FilesChange => f.write_str("files change"),
            Self::LastAttempt { end } => write!(f, "last time: {end}"),
            Self::NotReloaded { last } => write!(f, "delivered but not reloaded: {last}"),
            Self::NotServed {
                place,
                instead,
                wanted,
            } => write!(f, "not served at {place}: {instead}, not {wanted}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_and_modes_are_said_with_their_file() {
        let path = || "/etc/x/key.pem".to_owned();
        let owner = RenewalReason::FileOwner {
            path: path(),
            have: "root:root".to_owned(),
            want: "app:app".to_owned(),
        };
        let mode = RenewalReason::FileMode {
            path: path(),
            have: 0o644,
            want: 0o600,
        };
        assert_eq!(
            owner.to_string(),
            "owner of /etc/x/key.pem is root:root, declared app:app"
        );
        assert_eq!(
            mode.to_string(),
            "mode of /etc/x/key.pem is 0644, declared 0600"
        );
        assert!(owner.is_attribute() && mode.is_attribute());
        for other in [
            RenewalReason::Missing,
            RenewalReason::Content,
            RenewalReason::FilesChange,
        ] {
            assert!(!other.is_attribute(), "{other}");
        }
    }
}
