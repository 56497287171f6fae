//! Subject alternative names, profiles, issuers, bundles and the rules of renewal.
//!
//! * [`SubjectAltName`]: a name that a certificate is valid for, parsed once
//! * [`CertificateRequest`]: what is asked of an [`Issuer`], validated
//! * [`Issuer`]: what answers it; [`EmbeddedCa`] keeps a root and intermediates in a directory
//! * [`StepCa`], [`Acme`]: issuers that are servers elsewhere
//! * [`Bundle`]: the answer: key, leaf, intermediates and root, and whether they fit together
//! * [`ObservedCertificate`]: what a certificate says, read back
//! * [`InventoryEntry`]: what the embedded CA knows of what it issued; [`Crl`]: what it revoked
//! * [`CertificateFile`]: certificates of any origin, taken apart, and what they are good for
//! * [`lint`]: which rules a certificate breaks that clients may hold it to
//! * [`RenewalReason`]: the one list of reasons to do something about a certificate
//! * [`renewal_reasons`]: why a stored bundle no longer is what is asked for
//! * [`delivered_differences`]: how a delivered file differs from what it should hold
//! * [`TlsIdentity`], [`root_store`], [`client_config`], [`server_config`]: TLS with all that
//! * [`peer_chain`]: what a TLS server presents, without trusting it
//!
//! Nothing here knows of guests, engines or sites. Reading never writes, nothing reads the clock
//! where the caller may pass the time, and no key is ever shown.

mod acme;
mod bundle;
mod delivered;
mod embedded;
#[cfg(test)]
mod fuzzed;
mod inspect;
mod inventory;
mod issuer;
mod key;
mod lint;
mod observed;
mod pem;
mod reason;
mod renewal;
mod request;
mod revocation;
mod san;
mod serial;
mod served;
mod step_ca;
mod stored_key;
mod template;
mod times;
mod tls;

/// What holds for every input of the parsers of servers' answers, for the fuzzer: each panics
/// where it does not. No part of the library's interface.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing {
    pub use super::acme::fuzzing::{acme, responder};
    pub use super::step_ca::fuzzing::{jwe, step_ca};

    use super::key::PrivateKey;
    use super::request::{CertificateRequest, KeyType, Profile};

    /// The root of the inputs that are certificates.
    pub(super) const ROOT: &[u8] =
        include_bytes!("../../../tests/fuzz/cases/certificate/seed-root");

    /// A key, and what all answers are taken to be asked for with it.
    pub(super) fn asked() -> (PrivateKey, CertificateRequest) {
        let key = PrivateKey::generate(KeyType::EcdsaP256).expect("a key");
        let request = CertificateRequest::new(
            "app",
            Profile::Server,
            vec!["app.lan".parse().expect("a name")],
            std::time::Duration::from_secs(3_600),
            KeyType::EcdsaP256,
        );
        (key, request.expect("a request"))
    }
}

pub use acme::{
    Acme, AcmeError, AcmeSettings, ChallengeKind, ChallengeSolver, DnsHook, HookError,
    ResponderError, TxtRecord,
};
pub use bundle::{Bundle, BundleError, CheckError};
pub use delivered::delivered_differences;
pub use embedded::{CaError, CaParameters, EmbeddedCa, ImportedCa, Intermediate};
pub use inspect::{
    CertificateFile, HeldKey, HeldName, InspectedCertificate, Purpose, VerdictError,
};
pub use inventory::{InventoryEntry, InventoryError, IssuedRecord, Placement, Revocation};
pub use issuer::{IssueError, Issuer, IssuerIdentity, RecordError};
pub use key::KeyError;
pub use lint::{LintFinding, LintRule, LintSeverity, lint};
pub use observed::{CertificateError, ObservedCertificate};
pub use pem::PemError;
pub use reason::RenewalReason;
pub use renewal::{RenewalRule, renewal_reasons};
pub use request::{CertificateRequest, KeyType, Profile, RequestError, UnknownChoice};
pub use revocation::{Crl, CrlError, RevocationReason, RevokeError};
pub use san::{SanDifference, SanError, SubjectAltName};
pub use serial::{Serial, SerialError};
pub use served::{ServedError, peer_chain};
pub use step_ca::{JweError, StepCa, StepCaError, StepCaSettings, Unauthorized};
pub use tls::{TlsError, TlsIdentity, client_config, crypto_provider, root_store, server_config};
