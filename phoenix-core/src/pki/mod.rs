//! Subject alternative names, profiles, issuers, bundles and the rules of renewal.

mod request;
mod san;

pub use request::{KeyType, Profile};
pub use san::{SanError, SubjectAltName};
