//! The client: readiness, the first admin, sessions.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::json;
use url::Url;

use super::error::{LostReply, PortainerError, Refusal, Unsent};
use crate::ground::{Deadline, Delivery, SecretBytes, Trust, TrustError, delivery, require_https};

/// The header that carries an API key. Never together with `Authorization`: that is refused.
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_secs(3);
/// How long one question may take while waiting for readiness: a proxy in front of an instance
/// that is gone may accept a connection and stay silent.
const QUESTION: Duration = Duration::from_secs(10);
/// How often a GET is sent at most.
const ATTEMPTS: u32 = 3;
const SETUP_TOKEN: HeaderName = HeaderName::from_static("x-setup-token");

/// A client of one Portainer instance, without a session. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
}

/// What an instance says about itself to anybody.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Status {
    /// Such as `2.23.0`.
    #[serde(rename = "Version")]
    pub version: String,
    /// A UUID, new with every new data folder.
    #[serde(rename = "InstanceID", default)]
    pub instance_id: String,
}

/// A user's session, at most 8 h long; it ends when Portainer restarts.
#[derive(Clone)]
pub struct Session {
    client: Client,
    identity: (HeaderName, HeaderValue),
}

/// The content of a request.
pub(super) enum Content {
    Nothing,
    Json(SecretBytes),
    Form(reqwest::multipart::Form),
}

struct Owned(SecretBytes);

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        self.0.expose()
    }
}

impl Content {
    pub(super) fn json(value: &serde_json::Value) -> Self {
        Self::Json(SecretBytes::from(value.to_string()))
    }
}

impl Client {
    /// A client of the instance at `url` (`https://host:9443`). Nothing is sent yet.
    ///
    /// # Errors
    /// [`TrustError`] when the address is not https or the trust unusable.
    pub fn new(url: &Url, trust: &Trust) -> Result<Self, TrustError> {
        require_https(url)?;
        let http = trust.client()?.build().map_err(TrustError::Client)?;
        Ok(Self {
            http,
            base: url.clone(),
        })
    }

    /// The address it was made with.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.base
    }

    /// What the instance says about itself, asked once.
    ///
    /// # Errors
    /// [`PortainerError`]; [`PortainerError::LockedOut`] when it had no admin in time.
    pub async fn status(&self, deadline: Deadline) -> Result<Status, PortainerError> {
        self.get("api/system/status", &[], None, deadline).await
    }

    /// Waits until the instance answers, asking slowly.
    ///
    /// # Errors
    /// [`PortainerError`]: the last one at the deadline; at once when the certificate is not the
    /// one expected or the instance is locked, which waiting does not mend.
    pub async fn await_ready(&self, deadline: Deadline) -> Result<Status, PortainerError> {
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match self.status(deadline.at_most(QUESTION)).await {
                Ok(status) => return Ok(status),
                Err(error) => error,
            };
            // Before it is ready, what stands in front of it answers with errors of its own.
            let worth_waiting = match &error {
                PortainerError::NotDelivered { .. }
                | PortainerError::Ambiguous { .. }
                | PortainerError::Decode { .. } => true,
                PortainerError::Rejected { refusal, .. } => {
                    refusal.status >= 500 || refusal.status == 404
                }
                _ => false,
            };
            if !worth_waiting || deadline.remaining() < pause {
                return Err(error);
            }
            if deadline.pause(pause).await.is_err() {
                return Err(error);
            }
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// Whether the instance has an admin.
    ///
    /// # Errors
    /// [`PortainerError`].
    pub async fn admin_exists(&self, deadline: Deadline) -> Result<bool, PortainerError> {
        let asked: Result<IgnoredAny, _> =
            self.get("api/users/admin/check", &[], None, deadline).await;
        match asked {
            Ok(_) => Ok(true),
            Err(error) if error.refusal().is_some_and(|r| r.status == 404) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes the first admin. Instances from 2.43 on want the setup token that they print to
    /// their log, unless it was set or switched off.
    ///
    /// # Errors
    /// [`PortainerError::Rejected`] with status 409 when there is one, 400 when the password is
    /// too short (12 characters unless configured otherwise), 403 when the setup token is missing
    /// or wrong.
    pub async fn init_admin(
        &self,
        user: &str,
        password: &SecretBytes,
        setup_token: Option<&SecretBytes>,
        deadline: Deadline,
    ) -> Result<(), PortainerError> {
        let content = credentials(user, password)?;
        let header = match setup_token {
            Some(token) => Some((SETUP_TOKEN, secret_header(token.expose(), "setup token")?)),
            None => None,
        };
        // The answer holds the password's hash: it is not kept.
        let _: IgnoredAny = self
            .send(
                Method::POST,
                "api/users/admin/init",
                &[],
                header.as_ref(),
                content,
                deadline,
            )
            .await?;
        Ok(())
    }

    /// Begins a session. Tried once.
    ///
    /// # Errors
    /// [`PortainerError::WrongPassword`], [`PortainerError::Banned`] and others.
    pub async fn login(
        &self,
        user: &str,
        password: &SecretBytes,
        deadline: Deadline,
    ) -> Result<Session, PortainerError> {
        #[derive(Deserialize)]
        struct Answer {
            jwt: String,
        }
        let content = credentials(user, password)?;
        let answer: Result<Answer, _> = self
            .send(Method::POST, "api/auth", &[], None, content, deadline)
            .await;
        let jwt = match answer {
            Ok(answer) => SecretBytes::from(answer.jwt),
            Err(error) => {
                return Err(match error.refusal().map(|refusal| refusal.status) {
                    Some(422) => PortainerError::WrongPassword {
                        user: user.to_owned(),
                    },
                    Some(403) => PortainerError::Banned,
                    _ => error,
                });
            }
        };
        let bearer = [b"Bearer ", jwt.expose()].concat();
        let bearer = SecretBytes::new(bearer);
        Ok(Session {
            client: self.clone(),
            identity: (
                AUTHORIZATION,
                secret_header(bearer.expose(), "session token")?,
            ),
        })
    }

    /// A session by an API key, which outlives restarts. Nothing is sent yet.
    ///
    /// # Errors
    /// [`PortainerError::NotText`] when the key cannot stand in a header.
    pub fn with_api_key(&self, key: &SecretBytes) -> Result<Session, PortainerError> {
        Ok(Session {
            client: self.clone(),
            identity: (API_KEY, secret_header(key.expose(), "API key")?),
        })
    }

    async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
        header: Option<&(HeaderName, HeaderValue)>,
        deadline: Deadline,
    ) -> Result<T, PortainerError> {
        let mut pause = FIRST_PAUSE;
        for _ in 1..ATTEMPTS {
            let sent = self
                .send(Method::GET, path, query, header, Content::Nothing, deadline)
                .await;
            let error = match sent {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let closed = matches!(
                error,
                PortainerError::Ambiguous {
                    source: LostReply::Connection(_),
                    ..
                }
            );
            if !closed || deadline.pause(pause).await.is_err() {
                return Err(error);
            }
            pause *= 2;
        }
        self.send(Method::GET, path, query, header, Content::Nothing, deadline)
            .await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        header: Option<&(HeaderName, HeaderValue)>,
        content: Content,
        deadline: Deadline,
    ) -> Result<T, PortainerError> {
        let call = format!("{method} /{path}");
        if deadline.is_over() {
            let source = deadline.elapsed().into();
            return Err(PortainerError::NotDelivered { call, source });
        }
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            // `require_https` has seen that the address can be a base.
            segments.pop_if_empty().extend(path.split('/'));
        }
        let mut request = self.http.request(method, url);
        if !query.is_empty() {
            request = request.query(query);
        }
        if let Some((name, value)) = header {
            request = request.header(name.clone(), value.clone());
        }
        request = match content {
            Content::Nothing => request,
            Content::Json(body) => request
                .header(CONTENT_TYPE, "application/json")
                .body(Bytes::from_owner(Owned(body))),
            Content::Form(form) => request.multipart(form),
        };
        let answered = deadline
            .run(async {
                let response = request.send().await?;
                let status = response.status();
                Ok::<_, reqwest::Error>((status, response.bytes().await?))
            })
            .await;
        match answered {
            Ok(Ok((status, body))) => {
                tracing::trace!(%call, %status, "Portainer answered");
                read(call, status, &body)
            }
            Ok(Err(error)) => Err(unanswered(call, error)),
            Err(elapsed) => Err(PortainerError::Ambiguous {
                call,
                source: elapsed.into(),
            }),
        }
    }
}

impl Session {
    /// The client it was begun with.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
        deadline: Deadline,
    ) -> Result<T, PortainerError> {
        self.client
            .get(path, query, Some(&self.identity), deadline)
            .await
    }

    pub(super) async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        content: Content,
        deadline: Deadline,
    ) -> Result<T, PortainerError> {
        self.client
            .send(method, path, &[], Some(&self.identity), content, deadline)
            .await
    }

    /// Asks who the session is: the number of the user.
    ///
    /// # Errors
    /// [`PortainerError`]; [`is_unauthorized`](PortainerError::is_unauthorized) when it is nobody
    /// any more.
    pub async fn user_id(&self, deadline: Deadline) -> Result<i64, PortainerError> {
        #[derive(Deserialize)]
        struct User {
            #[serde(rename = "Id")]
            id: i64,
        }
        let user: User = self.get("api/users/me", &[], deadline).await?;
        Ok(user.id)
    }

    /// Makes an API key for the session's own user, who has to be logged in with `password`: a
    /// session by API key cannot make another. Portainer shows the key this once.
    ///
    /// # Errors
    /// [`PortainerError`]. After an [ambiguous](PortainerError::is_ambiguous) one there may be a
    /// key that nobody knows.
    pub async fn create_api_key(
        &self,
        password: &SecretBytes,
        description: &str,
        deadline: Deadline,
    ) -> Result<SecretBytes, PortainerError> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(rename = "rawAPIKey")]
            key: String,
        }
        let user = self.user_id(deadline).await?;
        let password = password
            .expose_str()
            .map_err(|_| PortainerError::NotText("password"))?;
        let content = Content::json(&json!({"password": password, "description": description}));
        let answer: Answer = self
            .send(
                Method::POST,
                &format!("api/users/{user}/tokens"),
                content,
                deadline,
            )
            .await?;
        Ok(SecretBytes::from(answer.key))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "portainer::Client({})", self.base)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "portainer::Session({})", self.client.base)
    }
}

fn credentials(user: &str, password: &SecretBytes) -> Result<Content, PortainerError> {
    let password = password
        .expose_str()
        .map_err(|_| PortainerError::NotText("password"))?;
    Ok(Content::json(
        &json!({"Username": user, "Password": password}),
    ))
}

fn secret_header(value: &[u8], what: &'static str) -> Result<HeaderValue, PortainerError> {
    let mut header = HeaderValue::from_bytes(value).map_err(|_| PortainerError::NotText(what))?;
    header.set_sensitive(true);
    Ok(header)
}

fn unanswered(call: String, error: reqwest::Error) -> PortainerError {
    let error = error.without_url();
    match delivery(&error) {
        Delivery::Untrusted(source) => PortainerError::Untrusted { call, source },
        Delivery::NotDelivered => PortainerError::NotDelivered {
            call,
            source: Unsent::Connect(error),
        },
        Delivery::Ambiguous => PortainerError::Ambiguous {
            call,
            source: LostReply::Connection(error),
        },
    }
}

fn read<T: DeserializeOwned>(
    call: String,
    status: StatusCode,
    body: &[u8],
) -> Result<T, PortainerError> {
    if status.is_success() {
        let body = if body.trim_ascii().is_empty() {
            b"null"
        } else {
            body
        };
        return serde_json::from_slice(body)
            .map_err(|source| PortainerError::Decode { call, source });
    }
    if status == StatusCode::SEE_OTHER {
        return Err(PortainerError::LockedOut);
    }
    let refusal = refusal(status, body);
    Err(PortainerError::Rejected { call, refusal })
}

fn refusal(status: StatusCode, body: &[u8]) -> Refusal {
    #[derive(Deserialize)]
    struct Said {
        message: String,
        #[serde(default)]
        details: String,
    }
    let (message, details) = match serde_json::from_slice::<Said>(body) {
        Ok(said) => (said.message, said.details),
        Err(_) => {
            // Plain text, or the page of something in front of it.
            let text = String::from_utf8_lossy(&body[..body.len().min(300)]);
            (text.trim().to_owned(), String::new())
        }
    };
    let reason = || status.canonical_reason().unwrap_or_default().to_owned();
    Refusal {
        status: status.as_u16(),
        message: if message.is_empty() {
            reason()
        } else {
            message
        },
        details,
    }
}
