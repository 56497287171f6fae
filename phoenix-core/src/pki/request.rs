//! What is asked of an issuer.
//!
//! A [`CertificateRequest`] has been validated as far as that is possible without knowing the
//! issuer; it holds no key and nothing secret.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::san::SubjectAltName;
use super::times::exactly;

/// Characters of the longest common name (`ub-common-name` of X.520).
pub(super) const LONGEST_COMMON_NAME: usize = 64;

/// The longest lifetime that makes sense to ask for: 100 years.
pub(super) const LONGEST_LIFETIME: Duration = Duration::from_secs(36_525 * 86_400);

/// What a certificate may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Profile {
    /// A TLS server: extended key usage serverAuth.
    Server,
    /// A TLS client: extended key usage clientAuth.
    Client,
    /// Both.
    Peer,
}

/// The kind of a certificate's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, serde::Serialize)]
#[non_exhaustive]
pub enum KeyType {
    /// ECDSA on P-256, signed with SHA-256.
    #[default]
    #[serde(rename = "ecdsa-p256")]
    EcdsaP256,
    /// ECDSA on P-384, signed with SHA-384.
    #[serde(rename = "ecdsa-p384")]
    EcdsaP384,
    /// Ed25519.
    #[serde(rename = "ed25519")]
    Ed25519,
    /// RSA with 2048 bits.
    #[serde(rename = "rsa-2048")]
    Rsa2048,
    /// RSA with 4096 bits.
    #[serde(rename = "rsa-4096")]
    Rsa4096,
}

/// A text is none of the names that are known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no {kind}: one of {} is expected", .choices.join(", "))]
#[non_exhaustive]
pub struct UnknownChoice {
    /// What was to be named: `profile` or `key type`.
    pub kind: &'static str,
    /// What was parsed.
    pub text: String,
    /// What there is.
    pub choices: Vec<&'static str>,
}

impl Profile {
    /// Every profile.
    pub const ALL: [Self; 3] = [Self::Server, Self::Client, Self::Peer];

    /// Its name in a site file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
            Self::Peer => "peer",
        }
    }

    /// Whether it may be a TLS server.
    #[must_use]
    pub fn is_server(self) -> bool {
        matches!(self, Self::Server | Self::Peer)
    }

    /// Whether it may be a TLS client.
    #[must_use]
    pub fn is_client(self) -> bool {
        matches!(self, Self::Client | Self::Peer)
    }
}

impl KeyType {
    /// Every kind of key.
    pub const ALL: [Self; 5] = [
        Self::EcdsaP256,
        Self::EcdsaP384,
        Self::Ed25519,
        Self::Rsa2048,
        Self::Rsa4096,
    ];

    /// Its name in a site file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EcdsaP256 => "ecdsa-p256",
            Self::EcdsaP384 => "ecdsa-p384",
            Self::Ed25519 => "ed25519",
            Self::Rsa2048 => "rsa-2048",
            Self::Rsa4096 => "rsa-4096",
        }
    }
}

macro_rules! named {
    ($type:ty, $kind:literal) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $type {
            type Err = UnknownChoice;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::ALL
                    .into_iter()
                    .find(|choice| choice.as_str() == text)
                    .ok_or_else(|| UnknownChoice {
                        kind: $kind,
                        text: text.to_owned(),
                        choices: Self::ALL.into_iter().map(Self::as_str).collect(),
                    })
            }
        }
    };
}

named!(Profile, "profile");
named!(KeyType, "key type");

/// Why a certificate cannot be asked for like this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Neither a common name nor a subject alternative name.
    #[error("a certificate needs a common name or a subject alternative name")]
    Nameless,
    /// A server without names: clients ignore its common name.
    #[error(
        "a certificate of profile {profile} needs a subject alternative name: clients ignore the \
         common name"
    )]
    NoServerName {
        /// The profile.
        profile: Profile,
    },
    /// The common name is too long for a certificate.
    #[error("the common name `{common_name}` has {length} characters; {limit} are allowed")]
    CommonNameTooLong {
        /// The common name.
        common_name: String,
        /// Its characters.
        length: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// The common name has control characters in it, or white space around it.
    #[error("the common name {common_name:?} has white space around it or control characters")]
    CommonNameBlank {
        /// The common name.
        common_name: String,
    },
    /// The lifetime is under a second, or over 100 years.
    #[error(
        "a lifetime of {} is not between a second and 100 years",
        exactly(*.lifetime)
    )]
    Lifetime {
        /// The lifetime.
        lifetime: Duration,
    },
}

/// A certificate that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateRequest {
    common_name: String,
    profile: Profile,
    sans: Vec<SubjectAltName>,
    lifetime: Duration,
    key_type: KeyType,
}

impl CertificateRequest {
    /// A request for a certificate of `common_name` (which may be empty) and `sans` (repetitions
    /// are dropped) that is valid for `lifetime` (whole seconds) from the moment of issue.
    ///
    /// # Errors
    /// [`RequestError`] when no issuer could issue such a certificate, or no client accept it.
    pub fn new(
        common_name: impl Into<String>,
        profile: Profile,
        sans: Vec<SubjectAltName>,
        lifetime: Duration,
        key_type: KeyType,
    ) -> Result<Self, RequestError> {
        let common_name = common_name.into();
        check_common_name(&common_name, LONGEST_COMMON_NAME)?;
        if sans.is_empty() {
            if profile.is_server() {
                return Err(RequestError::NoServerName { profile });
            }
            if common_name.is_empty() {
                return Err(RequestError::Nameless);
            }
        }
        Ok(Self {
            common_name,
            profile,
            sans: SubjectAltName::normalize(sans),
            lifetime: check_lifetime(lifetime)?,
            key_type,
        })
    }

    /// The subject's common name; empty for an empty subject.
    #[must_use]
    pub fn common_name(&self) -> &str {
        &self.common_name
    }

    /// What the certificate may be used for.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// Its names, in declared order, without repetitions.
    #[must_use]
    pub fn sans(&self) -> &[SubjectAltName] {
        &self.sans
    }

    /// How long it is to be valid from its issue, in whole seconds.
    #[must_use]
    pub fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// The kind of its key.
    #[must_use]
    pub fn key_type(&self) -> KeyType {
        self.key_type
    }

    /// The common name, when clients may be expected to look for it and none of the names covers
    /// it: worth a warning, since clients ignore the common name.
    #[must_use]
    pub fn uncovered_common_name(&self) -> Option<&str> {
        if !self.profile.is_server() || self.common_name.is_empty() {
            return None;
        }
        let covered = self
            .common_name
            .parse()
            .is_ok_and(|name| self.sans.iter().any(|san| san.covers(&name)));
        (!covered).then_some(&self.common_name)
    }
}

/// Checks a common name (an empty one passes).
pub(super) fn check_common_name(common_name: &str, limit: usize) -> Result<(), RequestError> {
    if common_name.trim() != common_name || common_name.contains(char::is_control) {
        return Err(RequestError::CommonNameBlank {
            common_name: common_name.to_owned(),
        });
    }
    let length = common_name.chars().count();
    if length > limit {
        return Err(RequestError::CommonNameTooLong {
            common_name: common_name.to_owned(),
            length,
            limit,
        });
    }
    Ok(())
}

/// `lifetime` in whole seconds, which is all that a certificate can say.
pub(super) fn check_lifetime(lifetime: Duration) -> Result<Duration, RequestError> {
    let whole = Duration::from_secs(lifetime.as_secs());
    if whole.is_zero() || whole > LONGEST_LIFETIME {
        return Err(RequestError::Lifetime { lifetime });
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn sans(texts: &[&str]) -> Vec<SubjectAltName> {
        texts
            .iter()
            .map(|text| text.parse().expect("a name"))
            .collect()
    }

    fn request(
        common_name: &str,
        profile: Profile,
        names: &[&str],
        lifetime: Duration,
    ) -> Result<CertificateRequest, RequestError> {
        CertificateRequest::new(
            common_name,
            profile,
            sans(names),
            lifetime,
            KeyType::default(),
        )
    }

    #[test]
    fn names_of_choices_are_those_of_serde() {
        for profile in Profile::ALL {
            assert_eq!(profile.as_str().parse(), Ok(profile));
            assert_eq!(
                serde_json::to_value(profile).expect("JSON"),
                profile.to_string()
            );
        }
        for key_type in KeyType::ALL {
            assert_eq!(key_type.as_str().parse(), Ok(key_type));
            assert_eq!(
                serde_json::to_value(key_type).expect("JSON"),
                key_type.to_string()
            );
        }
        let error = "rsa".parse::<KeyType>().expect_err("no key type");
        assert_eq!(
            error.to_string(),
            "`rsa` is no key type: one of ecdsa-p256, ecdsa-p384, ed25519, rsa-2048, rsa-4096 is \
             expected"
        );
    }

    #[test]
    fn a_server_needs_a_name_and_a_client_a_name_or_a_common_name() {
        for profile in [Profile::Server, Profile::Peer] {
            assert_eq!(
                request("a.lan", profile, &[], DAY),
                Err(RequestError::NoServerName { profile })
            );
        }
        request("ops", Profile::Client, &[], DAY).expect("a common name is enough");
        request("", Profile::Client, &["a@b.lan"], DAY).expect("so is a name");
        assert_eq!(
            request("", Profile::Client, &[], DAY),
            Err(RequestError::Nameless)
        );
    }

    #[test]
    fn common_names_and_lifetimes_have_limits() {
        let client = |name: &str, lifetime| request(name, Profile::Client, &[], lifetime);
        client(&"ü".repeat(64), DAY).expect("characters count, not octets");
        assert!(matches!(
            client(&"a".repeat(65), DAY),
            Err(RequestError::CommonNameTooLong { length: 65, .. })
        ));
        for blank in [" a", "a\n", "a\u{0}b"] {
            assert!(matches!(
                client(blank, DAY),
                Err(RequestError::CommonNameBlank { .. })
            ));
        }
        for lifetime in [
            Duration::ZERO,
            Duration::from_millis(999),
            LONGEST_LIFETIME + Duration::from_secs(1),
            Duration::MAX,
        ] {
            let error = client("a", lifetime).expect_err("refused");
            assert_eq!(error, RequestError::Lifetime { lifetime });
        }
        let cut = client("a", Duration::from_millis(1_500)).expect("a second");
        assert_eq!(cut.lifetime(), Duration::from_secs(1));
    }

    #[test]
    fn an_uncovered_common_name_is_told_for_servers_only() {
        let uncovered = |name: &str, profile, names: &[&str]| {
            request(name, profile, names, DAY)
                .expect("valid")
                .uncovered_common_name()
                .map(str::to_owned)
        };
        assert_eq!(
            uncovered("a.site.lan", Profile::Server, &["*.site.lan"]),
            None
        );
        assert_eq!(uncovered("A.lan", Profile::Server, &["a.lan"]), None);
        assert_eq!(uncovered("", Profile::Server, &["a.lan"]), None);
        assert_eq!(uncovered("10.0.0.1", Profile::Peer, &["10.0.0.1"]), None);
        for profile in [Profile::Server, Profile::Peer] {
            assert_eq!(
                uncovered("b.lan", profile, &["a.lan"]).as_deref(),
                Some("b.lan")
            );
        }
        assert_eq!(
            uncovered("The Portal", Profile::Server, &["a.lan"]).as_deref(),
            Some("The Portal")
        );
        assert_eq!(uncovered("b.lan", Profile::Client, &["a.lan"]), None);
    }
}
