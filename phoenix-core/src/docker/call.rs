//! A request to an engine being put together.

use bytes::Bytes;
use http::Method;
use http::header::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use zeroize::Zeroizing;

use super::error::{EngineError, Refusal};
use super::registry::RegistryAuth;

/// What stands unencoded in a path segment: letters, digits and these.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// A request being put together. Path segments and queries are encoded as they are added.
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) body: Option<Bytes>,
    pub(super) registry_auth: Option<HeaderValue>,
}

impl Call {
    fn new(method: Method, path: &[&str]) -> Self {
        let mut encoded = String::new();
        for segment in path {
            encoded.push('/');
            encoded.extend(utf8_percent_encode(segment, SEGMENT));
        }
        Self {
            method,
            path: encoded,
            query: String::new(),
            body: None,
            registry_auth: None,
        }
    }

    pub(super) fn get(path: &[&str]) -> Self {
        Self::new(Method::GET, path)
    }

    pub(super) fn post(path: &[&str]) -> Self {
        Self::new(Method::POST, path)
    }

    pub(super) fn delete(path: &[&str]) -> Self {
        Self::new(Method::DELETE, path)
    }

    pub(super) fn query(mut self, key: &str, value: &str) -> Self {
        self.query
            .push(if self.query.is_empty() { '?' } else { '&' });
        self.query.extend(utf8_percent_encode(key, SEGMENT));
        self.query.push('=');
        self.query.extend(utf8_percent_encode(value, SEGMENT));
        self
    }

    pub(super) fn json(mut self, body: &Value) -> Self {
        self.body = Some(Bytes::from(body.to_string()));
        self
    }

    /// A JSON body that holds a secret: wiped once it is sent.
    pub(super) fn secret_json(mut self, body: Zeroizing<Vec<u8>>) -> Self {
        self.body = Some(Bytes::from_owner(body));
        self
    }

    pub(super) fn registry_auth(mut self, auth: Option<&RegistryAuth>) -> Self {
        self.registry_auth = auth.map(RegistryAuth::header);
        self
    }

    /// Whether another manager may be asked after this one failed so: the call has not run, or may
    /// run twice.
    pub(super) fn may_go_elsewhere(&self, error: &EngineError) -> bool {
        match error {
            EngineError::NotDelivered { .. } => true,
            _ if error.may_have_run() => self.method == Method::GET,
            _ => error.refusal().is_some_and(Refusal::is_of_the_manager),
        }
    }

    pub(super) fn operation(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}
