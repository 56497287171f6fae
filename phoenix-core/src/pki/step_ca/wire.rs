//! Requests to a step-ca server.
//!
//! Every request has a connection of its own: one kept from before the server restarted would
//! make it uncertain whether a request was delivered. A few are in flight at once.

use std::sync::Arc;

use aws_lc_rs::rand;
use rustls_pki_types::CertificateDer;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use tokio::sync::Semaphore;
use url::Url;

use super::errors::StepCaError;
use crate::ground::Deadline;
use crate::ground::{Delivery, Trust, delivery};
use crate::pki::observed::fingerprint;
use crate::pki::pem;
use crate::pki::tls::{TlsIdentity, client_config, root_store};

/// Requests to one server at once.
const IN_FLIGHT: usize = 8;

/// No answer that makes sense is longer.
const LONGEST_ANSWER: usize = 4 << 20;

/// What a server answered.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    pub(super) request_id: String,
    /// What time it is there.
    pub(super) date: Option<OffsetDateTime>,
}

#[derive(Deserialize)]
struct Message {
    message: String,
}

impl Answer {
    pub(super) fn refused(&self, action: &'static str) -> StepCaError {
        let message = match serde_json::from_slice::<Message>(&self.body) {
            Ok(said) => said.message,
            Err(_) => String::from_utf8_lossy(&self.body).into_owned(),
        };
        let message: String = message
            .chars()
            .filter(|c| !c.is_control())
            .take(500)
            .collect();
        StepCaError::Refused {
            action,
            status: self.status,
            message,
            request_id: self.request_id.clone(),
        }
    }
}

/// A server with one way to recognise it.
#[derive(Clone)]
pub(super) struct Wire {
    url: Url,
    client: reqwest::Client,
    in_flight: Arc<Semaphore>,
}

impl Wire {
    pub(super) fn new(
        url: &Url,
        builder: reqwest::ClientBuilder,
        in_flight: Arc<Semaphore>,
    ) -> Result<Self, StepCaError> {
        let client = builder
            .pool_max_idle_per_host(0)
            .build()
            .map_err(|error| StepCaError::Client(crate::ground::TrustError::Client(error)))?;
        Ok(Self {
            url: url.clone(),
            client,
            in_flight,
        })
    }

    /// Fetches the root with this fingerprint from whoever answers, and returns it with a
    /// connection that trusts it and nothing else. The comparison made here is all the trust
    /// there is.
    pub(super) async fn bootstrap(
        url: &Url,
        expected: &[u8; 32],
        deadline: Deadline,
    ) -> Result<(CertificateDer<'static>, Self), StepCaError> {
        crate::ground::require_https(url).map_err(StepCaError::Client)?;
        let in_flight = Arc::new(Semaphore::new(IN_FLIGHT));
        let unverified = Trust::System
            .client()
            .map_err(StepCaError::Client)?
            .tls_danger_accept_invalid_certs(true);
        let unverified = Self::new(url, unverified, Arc::clone(&in_flight))?;
        let path = format!("root/{}", hex::encode(expected));
        let answer = unverified.get(&path, deadline).await?;
        if answer.status == 404 {
            return Err(StepCaError::NoSuchRoot {
                url: url.to_string(),
                expected: hex::encode(expected),
            });
        }
        if answer.status != 200 {
            return Err(answer.refused("hand out its root"));
        }
        #[derive(Deserialize)]
        struct Root {
            ca: String,
        }
        let root: Root = unverified.parse(&answer)?;
        let root = pem::certificates(root.ca.as_bytes())
            .ok()
            .filter(|found| found.len() == 1)
            .and_then(|mut found| found.pop())
            .ok_or_else(|| unverified.malformed("a root that is no certificate"))?;
        let found = fingerprint(&root);
        if aws_lc_rs::constant_time::verify_slices_are_equal(&found, expected).is_err() {
            return Err(StepCaError::Fingerprint {
                url: url.to_string(),
                expected: hex::encode(expected),
                found: hex::encode(found),
            });
        }
        let trust = Trust::CaPem(pem::encode_certificate(&root).into_bytes());
        let verified = trust.client().map_err(StepCaError::Client)?;
        Ok((root, Self::new(url, verified, in_flight)?))
    }

    /// The same server, asked with a client certificate.
    pub(super) fn with_identity(
        &self,
        root_pem: &str,
        identity: TlsIdentity,
    ) -> Result<Self, StepCaError> {
        let unusable = |_| self.malformed("a root that cannot be trusted");
        let roots = root_store(root_pem.as_bytes()).map_err(unusable)?;
        let config = client_config(roots, Some(identity)).map_err(unusable)?;
        let builder = Trust::System
            .client()
            .map_err(StepCaError::Client)?
            .tls_backend_preconfigured(config);
        Self::new(&self.url, builder, Arc::clone(&self.in_flight))
    }

    /// The URL of an API path, without a port where the URL has none.
    pub(super) fn at(&self, path: &str) -> String {
        format!("{}/1.0/{path}", self.url.as_str().trim_end_matches('/'))
    }

    pub(super) async fn get(&self, path: &str, deadline: Deadline) -> Result<Answer, StepCaError> {
        self.send(self.client.get(self.at(path)), deadline).await
    }

    pub(super) async fn post(
        &self,
        path: &str,
        body: &serde_json::Value,
        deadline: Deadline,
    ) -> Result<Answer, StepCaError> {
        self.send(self.client.post(self.at(path)).json(body), deadline)
            .await
    }

    async fn send(
        &self,
        request: reqwest::RequestBuilder,
        deadline: Deadline,
    ) -> Result<Answer, StepCaError> {
        let mut id = [0; 16];
        // An identifier without randomness is still one.
        let _ = rand::fill(&mut id);
        let request_id = hex::encode(id);
        let elapsed = |source| StepCaError::Elapsed {
            url: self.url.to_string(),
            source,
        };
        let work = async {
            let _turn = self.in_flight.acquire().await;
            let mut response = request
                .header("X-Request-Id", &request_id)
                .send()
                .await
                .map_err(|error| self.failed(error, &request_id))?;
            let date = response
                .headers()
                .get(http::header::DATE)
                .and_then(|date| OffsetDateTime::parse(date.to_str().ok()?, &Rfc2822).ok());
            let status = response.status().as_u16();
            let mut body = Vec::new();
            while let Some(part) = response
                .chunk()
                .await
                .map_err(|error| self.failed(error, &request_id))?
            {
                body.extend_from_slice(&part);
                if body.len() > LONGEST_ANSWER {
                    return Err(self.malformed("more than 4 MiB"));
                }
            }
            Ok(Answer {
                status,
                body,
                request_id: request_id.clone(),
                date,
            })
        };
        deadline.run(work).await.map_err(elapsed)?
    }

    fn failed(&self, source: reqwest::Error, request_id: &str) -> StepCaError {
        let url = self.url.to_string();
        match delivery(&source) {
            Delivery::Untrusted(source) => StepCaError::Untrusted {
                url,
                host: self.url.host_str().unwrap_or_default().to_owned(),
                source,
            },
            Delivery::NotDelivered => StepCaError::Unreachable { url, source },
            Delivery::Ambiguous => StepCaError::Lost {
                url,
                request_id: request_id.to_owned(),
                source,
            },
        }
    }

    pub(super) fn parse<T: DeserializeOwned>(&self, answer: &Answer) -> Result<T, StepCaError> {
        serde_json::from_slice(&answer.body)
            .map_err(|_| self.malformed("something other than the JSON that belongs there"))
    }

    pub(super) fn malformed(&self, problem: &'static str) -> StepCaError {
        StepCaError::Malformed {
            url: self.url.to_string(),
            problem,
        }
    }
}
