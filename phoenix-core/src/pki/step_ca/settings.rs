//! What is known of a step-ca server before it is contacted.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use url::Url;

use crate::ground::SecretBytes;
use crate::pki::Profile;

/// Where a step-ca server is, how it is recognised and which of its provisioners sign.
#[derive(Clone)]
#[non_exhaustive]
pub struct StepCaSettings {
    /// `https://host:9000`, without a path.
    pub url: Url,
    /// The SHA-256 of the root's certificate (DER).
    pub fingerprint: [u8; 32],
    /// The name of the JWK provisioner for each profile.
    pub provisioners: BTreeMap<Profile, String>,
    /// With which the provisioners' keys are encrypted; white space at its end does not count.
    pub password: SecretBytes,
    /// The longest lifetime that the server grants.
    pub max_lifetime: Duration,
    /// Whether a certificate that is good for more than its profile is refused.
    pub strict: bool,
    /// What tells the time for tokens. Default: the system's clock.
    pub clock: Arc<dyn Fn() -> OffsetDateTime + Send + Sync>,
}

impl StepCaSettings {
    /// Settings of a server that grants its default of 24 hours, and whose certificates may be
    /// good for more than was asked for.
    pub fn new(
        url: Url,
        fingerprint: [u8; 32],
        provisioners: BTreeMap<Profile, String>,
        password: SecretBytes,
    ) -> Self {
        Self {
            url,
            fingerprint,
            provisioners,
            password,
            max_lifetime: Duration::from_secs(24 * 60 * 60),
            strict: false,
            clock: Arc::new(OffsetDateTime::now_utc),
        }
    }
}

impl fmt::Debug for StepCaSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StepCaSettings")
            .field("url", &self.url.as_str())
            .field("fingerprint", &hex::encode(self.fingerprint))
            .field("provisioners", &self.provisioners)
            .field("max_lifetime", &self.max_lifetime)
            .field("strict", &self.strict)
            .finish_non_exhaustive()
    }
}
