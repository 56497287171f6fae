//! How requests reach an ACME server: over HTTPS to a server that is recognised as declared, each
//! bounded in time and in what it may answer.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::RETRY_AFTER;
use http_body_util::{BodyExt, Full};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use crate::ground::{Trust, TrustError};

/// How long one request may take. Some servers validate before they answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// The largest answer that is read.
const ANSWER_LIMIT: usize = 1024 * 1024;

/// An HTTPS client that remembers when the server wants to be asked again.
#[derive(Debug, Clone)]
pub(super) struct Transport {
    client: reqwest::Client,
    retry_at: Arc<Mutex<Option<Instant>>>,
}

impl Transport {
    pub(super) fn new(trust: &Trust) -> Result<Self, TrustError> {
        Ok(Self {
            client: trust
                .client()?
                .timeout(REQUEST_TIMEOUT)
                .build()
                .map_err(TrustError::Client)?,
            retry_at: Arc::default(),
        })
    }

    /// One that remembers on its own, over the same connections.
    pub(super) fn fork(&self) -> Self {
        Self {
            client: self.client.clone(),
            retry_at: Arc::default(),
        }
    }

    /// How long the server asked to be left alone when it last refused, if it did.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        self.retry_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// Fetches what must be a directory, and forgets it.
    pub(super) async fn directory(&self, url: &str) -> Result<(), Error> {
        let request = http::Request::get(url).body(BodyWrapper::default())?;
        let mut answer = self.clone().send(request).await?;
        let content = answer.body.into_bytes().await.map_err(Error::Other)?;
        let directory: serde_json::Value = serde_json::from_slice(&content)?;
        match directory["newOrder"].is_string() {
            true => Ok(()),
            false => Err(Error::Str("a directory with newOrder")),
        }
    }

    async fn send(
        self,
        request: http::Request<BodyWrapper<Bytes>>,
    ) -> Result<BytesResponse, Error> {
        let other = |error: reqwest::Error| Error::Other(Box::new(error.without_url()));
        let (parts, body) = request.into_parts();
        let body = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(never) => match never {},
        };
        let is_get = parts.method == http::Method::GET;
        let mut answer = self
            .client
            .request(parts.method, parts.uri.to_string())
            .headers(parts.headers)
            .body(body)
            .send()
            .await
            .map_err(other)?;
        if answer.status().as_u16() == 429 || answer.status().as_u16() == 503 {
            let wanted = answer
                .headers()
                .get(RETRY_AFTER)
                .and_then(|value| wait(value.to_str().ok()?, OffsetDateTime::now_utc()));
            *self.retry_at.lock().unwrap_or_else(PoisonError::into_inner) =
                wanted.and_then(|wait| Instant::now().checked_add(wait));
        }
        // Only the directory is fetched like this; what else lies there is no directory.
        if is_get && !answer.status().is_success() {
            return Err(Error::Other(
                format!("the server answered with {}", answer.status()).into(),
            ));
        }
        let mut response = http::Response::builder().status(answer.status());
        if let Some(headers) = response.headers_mut() {
            headers.clone_from(answer.headers());
        }
        let mut content = BytesMut::new();
        while let Some(chunk) = answer.chunk().await.map_err(other)? {
            if content.len() + chunk.len() > ANSWER_LIMIT {
                return Err(Error::Str("an answer of at most 1 MiB"));
            }
            content.extend_from_slice(&chunk);
        }
        Ok(response.body(Full::new(content.freeze()))?.into())
    }
}

impl HttpClient for Transport {
    fn request(
        &self,
        request: http::Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        Box::pin(self.clone().send(request))
    }
}

/// What a `Retry-After` header says: seconds, or a date.
pub(super) fn wait(text: &str, now: OffsetDateTime) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = OffsetDateTime::parse(text, &Rfc2822).ok()?;
    Some((at - now).try_into().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = OffsetDateTime::from_unix_timestamp(784_111_777).expect("a time");
        assert_eq!(wait(" 120 ", now), Some(Duration::from_secs(120)));
        assert_eq!(
            wait("Sun, 06 Nov 1994 08:50:37 GMT", now),
            Some(Duration::from_secs(60))
        );
        assert_eq!(
            wait("Sun, 06 Nov 1994 08:48:37 GMT", now),
            Some(Duration::ZERO)
        );
        for nonsense in ["", "-1", "soon", "1.5"] {
            assert_eq!(wait(nonsense, now), None, "{nonsense}");
        }
    }
}
