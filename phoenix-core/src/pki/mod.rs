//! Subject alternative names, profiles, issuers, bundles and the rules of renewal.
//!
//! * [`SubjectAltName`]: a name that a certificate is valid for, parsed once
//! * [`CertificateRequest`]: what is asked of an [`Issuer`], validated
//! * [`Issuer`]: what answers it; [`EmbeddedCa`] keeps a root and intermediates in a directory
//! * [`Bundle`]: the answer: key, leaf, intermediates and root, and whether they fit together
//! * [`ObservedCertificate`]: what a certificate says, read back
//! * [`renewal_reasons`]: why a stored bundle no longer is what is asked for
//! * [`TlsIdentity`], [`root_store`], [`client_config`], [`server_config`]: TLS with all that
//!
//! Nothing here knows of guests, engines or sites. Reading never writes, nothing reads the clock
//! where the caller may pass the time, and no key is ever shown.

mod bundle;
mod embedded;
mod issuer;
mod key;
mod observed;
mod pem;
mod renewal;
mod request;
mod san;
mod stored_key;
mod template;
mod times;
mod tls;

pub use bundle::{Bundle, BundleError, CheckError};
pub use embedded::{CaError, CaParameters, EmbeddedCa, ImportedCa, Intermediate};
pub use issuer::{IssueError, Issuer, IssuerIdentity, RecordError};
pub use key::KeyError;
pub use observed::{CertificateError, ObservedCertificate};
pub use pem::PemError;
pub use renewal::{RenewalReason, RenewalRule, renewal_reasons};
pub use request::{CertificateRequest, KeyType, Profile, RequestError, UnknownChoice};
pub use san::{SanDifference, SanError, SubjectAltName};
pub use tls::{TlsError, TlsIdentity, client_config, crypto_provider, root_store, server_config};
