//! The HTTP API: who may call what, and the calls that are not about environments.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::access::{
    Attempts, REQUIRED_PASSWORD_LENGTH, Sessions, hash_password, key_digest, new_api_key,
    password_is,
};
use super::answer::{Answer, Refusal, empty, json_answer, text, with_type};
use super::environments;
use super::store::{ApiKey, Data, Store, User};

/// More than any certificate needs.
const MAXIMUM_BODY: usize = 4 * 1024 * 1024;
const NULL: &Value = &Value::Null;

/// What all connections share.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) store: Store,
    pub(super) sessions: Sessions,
    pub(super) attempts: Attempts,
    pub(super) started: Instant,
    pub(super) init_timeout: Duration,
    /// Told when the administrator is created.
    pub(super) administrator: Notify,
    /// Held while an environment is being created.
    pub(super) creating: tokio::sync::Mutex<()>,
}

/// A field of a JSON object, in any case, as Go reads it.
pub(super) fn field<'a>(payload: &'a Value, name: &str) -> &'a Value {
    let fields = payload.as_object();
    let mut fields = fields.into_iter().flatten();
    fields
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map_or(NULL, |(_, value)| value)
}

/// How a caller proved who he is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    Session,
    ApiKey,
}

/// A request with its body read.
struct Call {
    method: Method,
    path: String,
    query: HashMap<String, String>,
    headers: HeaderMap,
    body: Bytes,
    address: IpAddr,
}

impl Call {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    fn payload(&self) -> Result<Value, Refusal> {
        if self.body.is_empty() {
            return Err(Refusal::payload("EOF"));
        }
        serde_json::from_slice(&self.body).map_err(|error| Refusal::payload(error.to_string()))
    }

    fn cookie(&self) -> Option<&str> {
        let cookies = self.header("cookie")?.split(';');
        cookies
            .filter_map(|one| one.trim().strip_prefix("portainer_api_key="))
            .next()
    }
}

/// Answers one request.
pub(super) async fn serve(
    instance: Arc<Instance>,
    request: Request<Incoming>,
    address: IpAddr,
) -> Result<Answer, Infallible> {
    let (parts, body) = request.into_parts();
    let target = parts
        .uri
        .path_and_query()
        .map_or("/", |target| target.as_str());
    if let Some(locked) = instance.lockout(target) {
        return Ok(locked);
    }
    let Ok(body) = Limited::new(body, MAXIMUM_BODY).collect().await else {
        return Ok(Refusal::payload("http: request body too large").into());
    };
    let query = parts.uri.query().unwrap_or_default();
    let call = Call {
        method: parts.method,
        path: parts.uri.path().to_owned(),
        query: url::form_urlencoded::parse(query.as_bytes())
            .into_owned()
            .collect(),
        headers: parts.headers,
        body: body.to_bytes(),
        address,
    };
    Ok(instance.answer(&call).await.unwrap_or_else(Answer::from))
}

impl Instance {
    fn has_administrator(&self) -> bool {
        !self.store.read().users.is_empty()
    }

    /// Too long open without an administrator: closed until the next start.
    fn lockout(&self, target: &str) -> Option<Answer> {
        let open = matches!(target, "/api/status" | "/api/settings/public");
        if open
            || !target.starts_with("/api")
            || self.started.elapsed() < self.init_timeout
            || self.has_administrator()
        {
            return None;
        }
        let message = "Administrator initialization timeout";
        let mut answer = Answer::from(Refusal::new(StatusCode::SEE_OTHER, message, message));
        let reason = HeaderValue::from_static("AdminInitTimeout");
        answer.headers_mut().insert("redirect-reason", reason);
        Some(answer)
    }

    async fn answer(self: &Arc<Self>, call: &Call) -> Result<Answer, Refusal> {
        if let Some(refused) = guard(call) {
            return Ok(refused);
        }
        let path: Vec<&str> = call
            .path
            .split('/')
            .filter(|part| !part.is_empty())
            .collect();
        let get = call.method == Method::GET;
        let post = call.method == Method::POST;
        match path.as_slice() {
            [] | ["index.html"] if get => {
                let page = "<!doctype html><title>Portainer</title>".to_owned();
                Ok(with_type(StatusCode::OK, "text/html; charset=utf-8", page))
            }
            ["api", "status"] | ["api", "system", "status"] => only(get, || self.status()),
            ["api", "settings", "public"] => only(get, public_settings),
            ["api", "users", "admin", "check"] => {
                if !get {
                    return Ok(wrong_method());
                }
                if self.has_administrator() {
                    return Ok(empty());
                }
                let message = "No administrator account found inside the database";
                let details = "object not found inside the database";
                Err(Refusal::new(StatusCode::NOT_FOUND, message, details))
            }
            ["api", "users", "admin", "init"] if post => self.create_administrator(call),
            ["api", "auth"] if post => self.log_in(call),
            ["api", "users", "me"] if get => {
                let (user, _) = self.authenticate(call)?;
                let mut shown = show_user(&user);
                shown["forceChangePassword"] = json!(false);
                Ok(json_answer(StatusCode::OK, &shown))
            }
            ["api", "users", id, "tokens", rest @ ..] => self.tokens(call, id, rest),
            ["api", "endpoints"] if get => {
                self.authenticate(call)?;
                Ok(environments::list(self, &call.query))
            }
            ["api", "endpoints"] if post => {
                self.authenticate(call)?;
                environments::create(self, &call.headers, call.body.clone()).await
            }
            ["api", "endpoints", id] => {
                self.authenticate(call)?;
                let id = id.parse().map_err(|_| {
                    let message = "Invalid environment identifier route variable";
                    let details = format!("strconv.Atoi: parsing \"{id}\": invalid syntax");
                    Refusal::new(StatusCode::BAD_REQUEST, message, details)
                })?;
                match call.method {
                    Method::GET => environments::inspect(self, id),
                    Method::PUT => environments::update(self, id, &call.payload()?),
                    Method::DELETE => environments::delete(self, id),
                    _ => Ok(wrong_method()),
                }
            }
            ["api", "upload", "tls", kind] if post => {
                self.authenticate(call)?;
                environments::upload(self, kind, &call.headers, call.body.clone()).await
            }
            ["api", "auth"]
            | ["api", "endpoints"]
            | ["api", "users", "me"]
            | ["api", "users", "admin", "init"]
            | ["api", "upload", "tls", _] => Ok(wrong_method()),
            _ => Ok(text(StatusCode::NOT_FOUND, "404 page not found\n")),
        }
    }

    fn status(&self) -> Answer {
        let id = self.store.read().instance_id;
        json_answer(
            StatusCode::OK,
            &json!({"Version": super::VERSION, "InstanceID": id}),
        )
    }

    fn create_administrator(&self, call: &Call) -> Result<Answer, Refusal> {
        let payload = call.payload()?;
        let name = field(&payload, "Username").as_str().unwrap_or_default();
        let password = field(&payload, "Password").as_str().unwrap_or_default();
        if name.is_empty() || name.contains(' ') {
            return Err(Refusal::payload(
                "Invalid username. Must not contain any whitespace",
            ));
        }
        if password.is_empty() {
            return Err(Refusal::payload("Invalid password"));
        }
        let taken = || {
            let message = "Unable to create administrator user";
            let details = "An administrator user already exists";
            Refusal::new(StatusCode::CONFLICT, message, details)
        };
        if self.has_administrator() {
            return Err(taken());
        }
        if password.chars().count() < REQUIRED_PASSWORD_LENGTH {
            let message = "Password does not meet the requirements";
            return Err(Refusal::new(StatusCode::BAD_REQUEST, message, message));
        }
        let user = self.add_administrator(name, password);
        let user = user.map_err(|error| Refusal::broken("Unable to hash user password", &error))?;
        let user = user.ok_or_else(taken)?;
        let mut shown = show_user(&user);
        shown["Password"] = json!(user.password);
        Ok(json_answer(StatusCode::OK, &shown))
    }

    /// Creates the administrator unless there is one.
    pub(super) fn add_administrator(
        &self,
        name: &str,
        password: &str,
    ) -> std::io::Result<Option<User>> {
        let user = User {
            id: 1,
            name: name.to_owned(),
            password: hash_password(password)?,
        };
        let added = self.store.change(|data| {
            data.users.is_empty().then(|| {
                data.users.push(user.clone());
                user
            })
        })?;
        if added.is_some() {
            self.administrator.notify_one();
        }
        Ok(added)
    }

    fn limit(&self, call: &Call) -> Result<(), Refusal> {
        if self.attempts.admit(call.address) {
            return Ok(());
        }
        let details = "Access denied to resource";
        Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "Access denied",
            details,
        ))
    }

    fn log_in(&self, call: &Call) -> Result<Answer, Refusal> {
        self.limit(call)?;
        let payload = call.payload()?;
        let name = field(&payload, "Username").as_str().unwrap_or_default();
        let password = field(&payload, "Password").as_str().unwrap_or_default();
        if name.is_empty() {
            return Err(Refusal::payload("Invalid username"));
        }
        if password.is_empty() {
            return Err(Refusal::payload("Invalid password"));
        }
        let users = self.store.read().users;
        let user = users
            .iter()
            .find(|user| user.name.eq_ignore_ascii_case(name));
        let Some(user) = user.filter(|user| password_is(password, &user.password)) else {
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            return Err(Refusal::new(status, "Invalid credentials", "Unauthorized"));
        };
        let weak = password.chars().count() < REQUIRED_PASSWORD_LENGTH;
        let token = self.sessions.issue(user, weak);
        let mut answer = json_answer(StatusCode::OK, &json!({"jwt": token}));
        let cookie = format!("portainer_api_key={token}; Path=/; HttpOnly; SameSite=Strict");
        if let Ok(cookie) = HeaderValue::from_str(&cookie) {
            answer.headers_mut().insert(header::SET_COOKIE, cookie);
        }
        Ok(answer)
    }

    /// By API key, then cookie, then bearer.
    fn authenticate(&self, call: &Call) -> Result<(User, Proof), Refusal> {
        let refused = |message| Refusal::new(StatusCode::UNAUTHORIZED, message, "Unauthorized");
        let data = self.store.read();
        let bearer = call
            .header("authorization")
            .map(|value| value.trim_start_matches("Bearer "));
        let (id, proof) = if let Some(key) = call.header("x-api-key") {
            let digest = key_digest(key);
            (
                data.keys
                    .iter()
                    .find(|key| key.digest == digest)
                    .map(|key| key.user),
                Proof::ApiKey,
            )
        } else if let Some(token) = call.cookie().or(bearer) {
            (self.sessions.verify(token), Proof::Session)
        } else {
            return Err(refused("A valid authorization token is missing"));
        };
        let id = id.ok_or_else(|| refused("Invalid JWT token"))?;
        let user = data.users.into_iter().find(|user| user.id == id);
        let user = user.ok_or_else(|| refused("An authorization token is invalid"))?;
        Ok((user, proof))
    }

    /// `/api/users/{id}/tokens[/{key}]`.
    fn tokens(&self, call: &Call, id: &str, rest: &[&str]) -> Result<Answer, Refusal> {
        let creates = call.method == Method::POST && rest.is_empty();
        if creates {
            self.limit(call)?;
        }
        let (user, proof) = self.authenticate(call)?;
        if creates && proof != Proof::Session {
            let details = "Authentication required";
            return Err(Refusal::new(
                StatusCode::UNAUTHORIZED,
                "Auth not supported",
                details,
            ));
        }
        if id.parse() != Ok(user.id) {
            let message = "Permission denied to create user access token";
            return Err(Refusal::new(StatusCode::FORBIDDEN, message, "Unauthorized"));
        }
        match (&call.method, rest) {
            (&Method::POST, []) => self.create_key(call, &user),
            (&Method::GET, []) => {
                let keys = self.store.read().keys;
                let keys = keys.iter().filter(|key| key.user == user.id).map(show_key);
                Ok(json_answer(StatusCode::OK, &Value::Array(keys.collect())))
            }
            (&Method::DELETE, [key]) => {
                let before = self.store.read().keys.len();
                let remove = |data: &mut Data| {
                    data.keys.retain(|kept| key.parse() != Ok(kept.id));
                    data.keys.len()
                };
                let after = self.store.change(remove);
                let message = "Unable to remove the api-key from the user";
                match after.map_err(|error| Refusal::broken(message, &error))? {
                    after if after < before => Ok(empty()),
                    _ => {
                        let message = "Unable to find an api-key with the specified identifier \
                                       inside the database";
                        let details = "object not found inside the database";
                        Err(Refusal::new(StatusCode::NOT_FOUND, message, details))
                    }
                }
            }
            _ => Ok(wrong_method()),
        }
    }

    fn create_key(&self, call: &Call, user: &User) -> Result<Answer, Refusal> {
        let payload = call.payload()?;
        let description = field(&payload, "description").as_str().unwrap_or_default();
        let password = field(&payload, "password").as_str().unwrap_or_default();
        match description.chars().count() {
            0 => return Err(Refusal::payload("invalid description: cannot be empty")),
            1..=128 => {}
            _ => {
                let text = "invalid description: cannot be longer than 128 characters";
                return Err(Refusal::payload(text));
            }
        }
        if password.is_empty() {
            return Err(Refusal::payload("invalid password: cannot be empty"));
        }
        if !password_is(password, &user.password) {
            let message = "Current password doesn't match";
            let details = "Current password does not match the password provided. Please try again";
            return Err(Refusal::new(StatusCode::FORBIDDEN, message, details));
        }
        let broken = |error| Refusal::broken("Internal Server Error", &error);
        let raw = new_api_key().map_err(broken)?;
        let key = self.store.change(|data| {
            data.last_key += 1;
            let key = ApiKey {
                id: data.last_key,
                user: user.id,
                description: description.to_owned(),
                prefix: raw.chars().take(7).collect(),
                created: OffsetDateTime::now_utc().unix_timestamp(),
                digest: key_digest(&raw),
            };
            data.keys.push(key.clone());
            key
        });
        let key = key.map_err(broken)?;
        let body = json!({"rawAPIKey": raw, "apiKey": show_key(&key)});
        Ok(json_answer(StatusCode::CREATED, &body))
    }
}

/// What is refused before anything else is looked at.
fn guard(call: &Call) -> Option<Answer> {
    if call.header("x-api-key").is_some() && call.header("authorization").is_some() {
        let details = "api key and auth header are not allowed at the same time";
        return Some(Refusal::new(StatusCode::FORBIDDEN, details, details).into());
    }
    // Nobody has a CSRF token here: it would take a browser.
    let safe = matches!(call.method, Method::GET | Method::HEAD | Method::OPTIONS);
    (!safe && call.cookie().is_some())
        .then(|| text(StatusCode::FORBIDDEN, "Forbidden - CSRF token invalid\n"))
}

/// The router's 405 has no body.
fn wrong_method() -> Answer {
    text(StatusCode::METHOD_NOT_ALLOWED, "")
}

fn only(allowed: bool, answer: impl FnOnce() -> Answer) -> Result<Answer, Refusal> {
    Ok(if allowed { answer() } else { wrong_method() })
}

fn public_settings() -> Answer {
    let settings = json!({
        "LogoURL": "", "AuthenticationMethod": 1,
        "RequiredPasswordLength": REQUIRED_PASSWORD_LENGTH, "EnableEdgeComputeFeatures": false,
        "Features": {}, "OAuthLoginURI": "", "OAuthLogoutURI": "", "EnableTelemetry": false,
        "KubeconfigExpiry": "0", "TeamSync": false, "IsAMTEnabled": false,
        "IsDockerDesktopExtension": false,
    });
    json_answer(StatusCode::OK, &settings)
}

fn show_user(user: &User) -> Value {
    json!({
        "Id": user.id, "Username": user.name, "Role": 1, "TokenIssueAt": 0,
        "ThemeSettings": {"color": ""}, "UseCache": true, "PortainerAuthorizations": null,
        "EndpointAuthorizations": null,
    })
}

fn show_key(key: &ApiKey) -> Value {
    json!({
        "id": key.id, "userId": key.user, "description": key.description, "prefix": key.prefix,
        "dateCreated": key.created, "lastUsed": 0,
    })
}
