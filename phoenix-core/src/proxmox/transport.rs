//! Requests to the API server and what becomes of them.
//!
//! The base is `/api2/extjs`: there a failure's text arrives in every version and for every
//! character in it, and the connection stays open. The server closes an idle connection after
//! 5 s; connections idle for 3 s are not used again. A GET is repeated after a lost connection;
//! a POST only when it was not delivered.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use hyper::ext::ReasonPhrase;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use super::error::{LostAnswer, Rejection, RequestError, Undelivered};
use super::loose;
use super::token::ApiToken;
use crate::ground::{Deadline, Delivery, SecretBytes, Trust, TrustError, delivery, require_https};

const POOL_IDLE: Duration = Duration::from_secs(3);
/// How often a request is sent at most, and the first of the growing pauses between.
const ATTEMPTS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Parameters of a call, in order; a repeated name is an array.
pub(super) type Parameters<'a> = [(&'a str, Cow<'a, str>)];

pub(super) struct Transport {
    http: reqwest::Client,
    base: Url,
    authorization: http::HeaderValue,
}

/// A client of the API cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address or what the server is recognised by is unusable.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The token does not fit into a header.
    #[error("the API token cannot be sent in a header")]
    Token(#[source] http::header::InvalidHeaderValue),
}

/// The envelope of `/api2/extjs`.
#[derive(Deserialize)]
struct Envelope {
    #[serde(deserialize_with = "loose::boolean")]
    success: bool,
    #[serde(default, deserialize_with = "loose::optional_integer")]
    status: Option<i64>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    errors: Option<BTreeMap<String, Value>>,
    #[serde(default)]
    data: Value,
}

impl Transport {
    pub(super) fn new(url: &Url, token: &ApiToken, trust: &Trust) -> Result<Self, ConnectError> {
        require_https(url)?;
        let http = trust
            .client()?
            .pool_idle_timeout(POOL_IDLE)
            .build()
            .map_err(TrustError::Client)?;
        Ok(Self {
            http,
            base: url.clone(),
            authorization: token.header().map_err(ConnectError::Token)?,
        })
    }

    pub(super) fn base(&self) -> &Url {
        &self.base
    }

    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &Parameters<'_>,
        deadline: Deadline,
    ) -> Result<T, RequestError> {
        self.repeat(Method::GET, path, query, deadline).await
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        form: &Parameters<'_>,
        deadline: Deadline,
    ) -> Result<T, RequestError> {
        self.repeat(Method::POST, path, form, deadline).await
    }

    async fn repeat<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        parameters: &Parameters<'_>,
        deadline: Deadline,
    ) -> Result<T, RequestError> {
        let mut pause = FIRST_PAUSE;
        for _ in 1..ATTEMPTS {
            let error = match self.once(&method, path, parameters, deadline).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let again = match &error {
                RequestError::NotDelivered { source, .. } => {
                    !matches!(source, Undelivered::Deadline(_))
                }
                RequestError::Ambiguous { source, .. } => {
                    method == Method::GET && matches!(source, LostAnswer::Connection(_))
                }
                _ => false,
            };
            if !again || deadline.pause(pause).await.is_err() {
                return Err(error);
            }
            tracing::debug!(%error, "repeating a request to Proxmox");
            pause *= 2;
        }
        self.once(&method, path, parameters, deadline).await
    }

    async fn once<T: DeserializeOwned>(
        &self,
        method: &Method,
        path: &[&str],
        parameters: &Parameters<'_>,
        deadline: Deadline,
    ) -> Result<T, RequestError> {
        let call = format!("{method} /{}", path.join("/"));
        if deadline.is_over() {
            return Err(RequestError::NotDelivered {
                call,
                source: deadline.elapsed().into(),
            });
        }
        let request = self.request(method, path, parameters);
        let answered = deadline.run(async {
            let response = request.send().await?;
            let status = response.status().as_u16();
            let reason = reason(&response);
            // The body of such an answer is empty and of unknown length.
            let body = if status == 401 || status >= 595 {
                Bytes::new()
            } else {
                response.bytes().await?
            };
            Ok::<_, reqwest::Error>((status, reason, body))
        });
        let (status, reason, body) = match answered.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(unanswered(call, error)),
            Err(elapsed) => {
                return Err(RequestError::Ambiguous {
                    call,
                    source: elapsed.into(),
                });
            }
        };
        tracing::trace!(%call, status, "Proxmox answered");
        read(call, status, reason, &body)
    }

    fn request(
        &self,
        method: &Method,
        path: &[&str],
        parameters: &Parameters<'_>,
    ) -> reqwest::RequestBuilder {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            // `require_https` has seen that the address can be a base.
            segments.pop_if_empty().extend(["api2", "extjs"]);
            segments.extend(path);
        }
        let encoded = encode(parameters);
        if *method == Method::GET && !parameters.is_empty() {
            // Parameters of a GET are no secrets.
            url.set_query(encoded.expose_str().ok());
        }
        let request = self
            .http
            .request(method.clone(), url)
            .header(http::header::AUTHORIZATION, self.authorization.clone());
        if *method == Method::GET {
            return request;
        }
        request
            .header(
                http::header::CONTENT_TYPE,
                "application/x-www-form-urlencoded",
            )
            .body(Bytes::from_owner(Form(encoded)))
    }
}

struct Form(SecretBytes);

impl AsRef<[u8]> for Form {
    fn as_ref(&self) -> &[u8] {
        self.0.expose()
    }
}

/// The parameters as a form. The server splits at `;` too and cuts a value at a second `=`; the
/// encoder escapes both.
fn encode(parameters: &Parameters<'_>) -> SecretBytes {
    // Room for the worst case, so that no copy of a secret is left behind by growing.
    let room = parameters
        .iter()
        .map(|(name, value)| name.len() + 3 * value.len() + 2)
        .sum();
    let mut form = url::form_urlencoded::Serializer::new(String::with_capacity(room));
    for (name, value) in parameters {
        form.append_pair(name, value);
    }
    SecretBytes::from(form.finish())
}

fn reason(response: &reqwest::Response) -> String {
    match response.extensions().get::<ReasonPhrase>() {
        Some(phrase) => String::from_utf8_lossy(phrase.as_bytes()).into_owned(),
        None => response
            .status()
            .canonical_reason()
            .unwrap_or_default()
            .to_owned(),
    }
}

fn unanswered(call: String, error: reqwest::Error) -> RequestError {
    // The address is named by whoever made the client; a query would only lengthen the message.
    let error = error.without_url();
    match delivery(&error) {
        Delivery::Untrusted(source) => RequestError::Untrusted { call, source },
        Delivery::NotDelivered => RequestError::NotDelivered {
            call,
            source: Undelivered::Connect(error),
        },
        Delivery::Ambiguous => RequestError::Ambiguous {
            call,
            source: LostAnswer::Connection(error),
        },
    }
}

fn read<T: DeserializeOwned>(
    call: String,
    status: u16,
    reason: String,
    body: &[u8],
) -> Result<T, RequestError> {
    match status {
        200 => {}
        401 => return Err(RequestError::Unauthorized { call, reason }),
        595 => {
            return Err(RequestError::NotDelivered {
                call,
                source: Undelivered::Node(reason),
            });
        }
        502 | 504 | 596..=599 => {
            return Err(RequestError::Ambiguous {
                call,
                source: LostAnswer::Proxy { status, reason },
            });
        }
        _ => return Err(rejected(call, refusal(status, reason, body))),
    }
    let envelope: Envelope = match serde_json::from_slice(body) {
        Ok(envelope) => envelope,
        Err(source) => return Err(RequestError::Decode { call, source }),
    };
    if envelope.success {
        return serde_json::from_value(envelope.data)
            .map_err(|source| RequestError::Decode { call, source });
    }
    let status = envelope.status.and_then(|s| u16::try_from(s).ok());
    let rejection = Rejection {
        status: status.unwrap_or(500),
        message: envelope
            .message
            .unwrap_or_default()
            .trim_end()
            .replace('\n', " "),
        errors: plain_errors(envelope.errors.unwrap_or_default()),
    };
    // A token that was good for the server may be bad for the node behind it.
    if rejection.status == 401 {
        let reason = rejection.message;
        return Err(RequestError::Unauthorized { call, reason });
    }
    Err(rejected(call, rejection))
}

fn rejected(call: String, rejection: Rejection) -> RequestError {
    if rejection.is_agent_timeout() {
        return RequestError::Ambiguous {
            call,
            source: LostAnswer::AgentTimeout(rejection.message),
        };
    }
    RequestError::Rejected { call, rejection }
}

/// An error with an HTTP status of its own: its body is JSON, plain text or missing.
fn refusal(status: u16, reason: String, body: &[u8]) -> Rejection {
    #[derive(Deserialize, Default)]
    struct Body {
        #[serde(default)]
        message: Option<String>,
        #[serde(default)]
        errors: Option<BTreeMap<String, Value>>,
    }
    let body: Body = serde_json::from_slice(body).unwrap_or_default();
    let message = body.message.filter(|message| !message.trim().is_empty());
    Rejection {
        status,
        message: message.unwrap_or(reason).trim_end().replace('\n', " "),
        errors: plain_errors(body.errors.unwrap_or_default()),
    }
}

fn plain_errors(errors: BTreeMap<String, Value>) -> BTreeMap<String, String> {
    errors
        .into_iter()
        .map(|(name, error)| match error {
            Value::String(text) => (name, text.trim_end().to_owned()),
            other => (name, other.to_string()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_repeat_keys_and_escape_what_the_server_would_split_at() {
        let form = encode(&[
            ("command", "sh".into()),
            ("command", "-c".into()),
            ("command", "a=b;c&d é\n".into()),
        ]);
        assert_eq!(
            form.expose_str().expect("ascii"),
            "command=sh&command=-c&command=a%3Db%3Bc%26d+%C3%A9%0A"
        );
    }

    #[test]
    fn an_agent_that_was_not_waited_for_is_ambiguous() {
        let body = br#"{"success":0,"status":500,"data":null,
            "message":"VM 100 qga command 'guest-exec' failed - got timeout\n"}"#;
        let error = read::<Value>("POST /x".into(), 200, "OK".into(), body).expect_err("error");
        assert!(error.is_ambiguous(), "{error}");
    }

    #[test]
    fn a_lock_that_was_not_had_is_a_rejection() {
        let body = br#"{"success":0,"status":"500","data":null,
            "message":"can't lock file '/var/lock/qemu-server/lock-100.conf' - got timeout\n"}"#;
        let error = read::<Value>("POST /x".into(), 200, "OK".into(), body).expect_err("error");
        assert!(error.rejection().is_some(), "{error}");
    }
}
