//! What every room stands on: deadlines, secret bytes and their fingerprints, private files.
//!
//! Nothing here knows of Proxmox, Docker, certificates or sites.

mod causes;
mod deadline;
pub mod document;
mod files;
mod https;
mod key_proof;
pub(crate) mod mortal;
#[cfg(test)]
pub(crate) mod scripted;
mod secret;

pub use causes::causes;
pub use deadline::{Deadline, Elapsed};
pub use files::{create_private_directory, read_optional, write_atomic, write_new};
pub(crate) use https::{Delivery, delivery, require_https};
pub use https::{FingerprintMismatch, Trust, TrustError, UntrustedServer};
pub(crate) use key_proof::{Judge, judging_client};
pub use secret::{Fingerprint, FingerprintKey, SecretBytes};
