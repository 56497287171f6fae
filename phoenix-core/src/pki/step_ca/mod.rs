//! step-ca over its HTTP API.

pub mod jwe;
