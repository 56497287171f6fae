//! Secrets and configs: small immutable contents that the swarm hands to its tasks.
//!
//! The engine lets only labels of an existing one be changed, never its content: another
//! content is another object. A secret's content can be written but never read back.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::call::Call;
use super::engine::{Engine, RETRY_PAUSE, looking};
use super::error::{EngineError, Refusal};
use super::wire::{Created, ObjectVersion, filters, instant, is_labelled, label_filter, nullable};
use crate::ground::{Deadline, SecretBytes};

const IN_USE_PAUSE: Duration = Duration::from_millis(500);

/// A secret or a config.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ObjectKind {
    /// Encrypted at rest, never given back.
    Secret,
    /// Readable by whoever may ask a manager.
    Config,
}

impl ObjectKind {
    fn path(self) -> &'static str {
        match self {
            Self::Secret => "secrets",
            Self::Config => "configs",
        }
    }

    /// The most bytes one may hold (the engine's limit is exclusive).
    #[must_use]
    pub fn max_size(self) -> usize {
        match self {
            Self::Secret => 511_999,
            Self::Config => 1_023_999,
        }
    }

    /// That one called `name` may hold `content`.
    ///
    /// # Errors
    /// [`ObjectError::Size`].
    pub(crate) fn check_size(self, name: &str, content: &SecretBytes) -> Result<(), ObjectError> {
        if content.is_empty() || content.len() > self.max_size() {
            return Err(ObjectError::Size {
                kind: self,
                name: name.to_owned(),
                size: content.len(),
            });
        }
        Ok(())
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Secret => "secret",
            Self::Config => "config",
        })
    }
}

/// A secret or config as the swarm has it, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObjectObserved {
    /// Its identifier, which services refer to.
    pub id: String,
    /// The version that an update must name.
    pub version: u64,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created_at: Option<OffsetDateTime>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// The SHA-256 of a config's content, in hexadecimal digits. A secret's cannot be known.
    pub sha256: Option<String>,
    /// What replaces templates in it when it is mounted: `golang`.
    pub template_driver: Option<String>,
}

#[cfg(test)]
impl ObjectObserved {
    /// An object of which nothing is known but its name.
    pub(crate) fn named(name: &str) -> Self {
        Self {
            id: String::new(),
            version: 0,
            name: name.to_owned(),
            created_at: None,
            labels: BTreeMap::new(),
            sha256: None,
            template_driver: None,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Wire {
    #[serde(rename = "ID")]
    id: String,
    #[serde(default)]
    version: ObjectVersion,
    #[serde(default, deserialize_with = "instant")]
    created_at: Option<OffsetDateTime>,
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Spec {
    #[serde(default, deserialize_with = "nullable")]
    name: String,
    #[serde(default, deserialize_with = "nullable")]
    labels: BTreeMap<String, String>,
    data: Option<String>,
    templating: Option<Templating>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Templating {
    #[serde(default, deserialize_with = "nullable")]
    name: String,
}

impl From<Wire> for ObjectObserved {
    fn from(wire: Wire) -> Self {
        Self {
            id: wire.id,
            version: wire.version.index,
            name: wire.spec.name,
            created_at: wire.created_at,
            labels: wire.spec.labels,
            sha256: wire
                .spec
                .data
                .and_then(|data| STANDARD.decode(data).ok())
                .map(|content| sha256(&content)),
            template_driver: wire
                .spec
                .templating
                .map(|driver| driver.name)
                .filter(|name| !name.is_empty()),
        }
    }
}

/// The SHA-256 of `content` in hexadecimal digits, as [`ObjectObserved::sha256`] has it.
#[must_use]
pub fn sha256(content: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, content))
}

/// Something about a secret or config failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectError {
    /// The name is none that the swarm takes.
    #[error(
        "{name:?} is no name of a {kind}: 1 to 64 letters, digits, '-', '_' and '.', \
         with a letter or digit at both ends"
    )]
    Name {
        /// Which kind.
        kind: ObjectKind,
        /// The text.
        name: String,
    },
    /// The content is empty or too large.
    #[error("{kind} {name:?} would hold {size} bytes; it may hold 1 to {}", kind.max_size())]
    Size {
        /// Which kind.
        kind: ObjectKind,
        /// Its name.
        name: String,
        /// Bytes given.
        size: usize,
    },
    /// One of that name exists and is labelled otherwise: it is somebody else's.
    #[error("a {kind} named {name:?} exists with other labels")]
    Exists {
        /// Which kind.
        kind: ObjectKind,
        /// Its name.
        name: String,
        /// The labels it has.
        labels: BTreeMap<String, String>,
    },
    /// It changed since it was looked at: look again and decide anew.
    #[error("{kind} {name:?} changed since it was looked at")]
    Changed {
        /// Which kind.
        kind: ObjectKind,
        /// Its name.
        name: String,
        /// The engine's refusal.
        source: EngineError,
    },
    /// Services refer to it.
    #[error("{kind} {id} is in use by {}", services.join(", "))]
    InUse {
        /// Which kind.
        kind: ObjectKind,
        /// Its identifier.
        id: String,
        /// The names of the services.
        services: Vec<String>,
    },
    /// The engine could not be asked, or refused.
    #[error("a request about a {kind} failed")]
    Engine {
        /// Which kind.
        kind: ObjectKind,
        /// How.
        source: EngineError,
    },
}

/// Checks a name as the swarm would.
///
/// # Errors
/// [`ObjectError::Name`].
pub fn check_object_name(kind: ObjectKind, name: &str) -> Result<(), ObjectError> {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let bytes = name.as_bytes();
    let fits =
        bytes.len() <= 64 && edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(inner);
    if fits {
        Ok(())
    } else {
        Err(ObjectError::Name {
            kind,
            name: name.to_owned(),
        })
    }
}

/// The services named at the end of `secret 'x' is in use by the following services: a, b`.
fn users(message: &str) -> Vec<String> {
    message
        .rsplit_once(": ")
        .map(|(_, names)| names.split(", ").map(str::to_owned).collect())
        .unwrap_or_default()
}

impl Engine {
    /// The secrets or configs that have all these labels (a key alone, or with its value).
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn objects(
        &self,
        kind: ObjectKind,
        labels: &[(&str, Option<&str>)],
        deadline: Deadline,
    ) -> Result<Vec<ObjectObserved>, EngineError> {
        let mut call = Call::get(&[kind.path()]);
        if !labels.is_empty() {
            let pairs = labels
                .iter()
                .map(|(key, value)| ("label", label_filter(key, *value)));
            call = call.query("filters", &filters(pairs));
        }
        let wires: Option<Vec<Wire>> = self.fetch(call, deadline).await?;
        Ok(wires
            .unwrap_or_default()
            .into_iter()
            .map(ObjectObserved::from)
            .filter(|object| is_labelled(|key| object.labels.get(key).map(String::as_str), labels))
            .collect())
    }

    /// The secret or config of exactly this name.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn find_object(
        &self,
        kind: ObjectKind,
        name: &str,
        deadline: Deadline,
    ) -> Result<Option<ObjectObserved>, EngineError> {
        // The filter matches prefixes.
        let call =
            Call::get(&[kind.path()]).query("filters", &filters([("name", name.to_owned())]));
        let wires: Option<Vec<Wire>> = self.fetch(call, deadline).await?;
        Ok(wires
            .unwrap_or_default()
            .into_iter()
            .map(ObjectObserved::from)
            .find(|object| object.name == name))
    }

    /// Creates a secret or config and returns its identifier. One of the same name and the same
    /// labels counts as this one, so that a creation whose answer was lost is looked for, and sent
    /// again where it is not there: give a name or label that stands for the content.
    /// `template_driver` replaces templates in it when it is mounted.
    ///
    /// # Errors
    /// [`ObjectError`]; name and size are checked before anything is sent. After an
    /// [ambiguous](EngineError::Ambiguous) one it was not there yet.
    pub async fn create_object(
        &self,
        kind: ObjectKind,
        name: &str,
        labels: &BTreeMap<String, String>,
        content: &SecretBytes,
        template_driver: Option<&str>,
        deadline: Deadline,
    ) -> Result<String, ObjectError> {
        check_object_name(kind, name)?;
        kind.check_size(name, content)?;
        let failed = |source| ObjectError::Engine { kind, source };
        let body = self.object_body(kind, name, labels, Some(content), template_driver)?;
        let call = || Call::post(&[kind.path(), "create"]).secret_json(body.clone());
        loop {
            let (sent, uncertain) = self.send_persistently(call, deadline).await;
            let error = match sent {
                Ok(answer) => {
                    return serde_json::from_slice::<Created>(&answer)
                        .map(|created| created.id)
                        .map_err(|error| failed(self.decode(kind.path(), error.into())));
                }
                Err(error) => error,
            };
            if !uncertain && !error.is(Refusal::Conflict) && !error.may_have_run() {
                return Err(failed(error));
            }
            match self.find_object(kind, name, looking()).await {
                Ok(Some(found)) if found.labels == *labels => return Ok(found.id),
                Ok(Some(found)) => {
                    return Err(ObjectError::Exists {
                        kind,
                        name: name.to_owned(),
                        labels: found.labels,
                    });
                }
                // It was not made.
                Ok(None) if deadline.pause(RETRY_PAUSE).await.is_ok() => {
                    tracing::debug!(endpoint = %self.endpoint(), %error, %kind, name, "again");
                }
                _ => return Err(failed(error)),
            }
        }
    }

    fn object_body(
        &self,
        kind: ObjectKind,
        name: &str,
        labels: &BTreeMap<String, String>,
        content: Option<&SecretBytes>,
        template_driver: Option<&str>,
    ) -> Result<Zeroizing<Vec<u8>>, ObjectError> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Body<'a> {
            name: &'a str,
            labels: &'a BTreeMap<String, String>,
            #[serde(skip_serializing_if = "Option::is_none")]
            data: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            templating: Option<Templating>,
        }
        let data = content.map(|content| Zeroizing::new(STANDARD.encode(content.expose())));
        let data = data.as_ref().map(|data| data.as_str());
        // Sized up front: growing would leave copies behind.
        let room = data.map_or(0, str::len) + 4096;
        let mut body = Zeroizing::new(Vec::with_capacity(room));
        let templating = template_driver.map(|name| Templating {
            name: name.to_owned(),
        });
        let body_of = Body {
            name,
            labels,
            data,
            templating,
        };
        serde_json::to_writer(&mut *body, &body_of).map_err(|error| ObjectError::Engine {
            kind,
            source: self.decode(kind.path(), error.into()),
        })?;
        Ok(body)
    }

    /// Replaces the labels of a secret or config as it was observed, on the condition that its
    /// content is `content`; without one, whatever it holds. Says whether the content is the
    /// same: when it is not, nothing was changed. This is the one way to find out what a secret
    /// holds.
    ///
    /// # Errors
    /// [`ObjectError::Changed`] when it changed since, [`ObjectError::Engine`] otherwise.
    pub async fn label_object(
        &self,
        kind: ObjectKind,
        object: &ObjectObserved,
        labels: &BTreeMap<String, String>,
        content: Option<&SecretBytes>,
        deadline: Deadline,
    ) -> Result<bool, ObjectError> {
        let template_driver = object.template_driver.as_deref();
        let body = self.object_body(kind, &object.name, labels, content, template_driver)?;
        let version = object.version.to_string();
        let call = || {
            Call::post(&[kind.path(), &object.id, "update"])
                .query("version", &version)
                .secret_json(body.clone())
        };
        let (sent, _) = self.send_persistently(call, deadline).await;
        match sent {
            Ok(_) => Ok(true),
            Err(source) if source.is(Refusal::ContentDiffers) => Ok(false),
            Err(source) if source.is(Refusal::UpdateOutOfSequence) => Err(ObjectError::Changed {
                kind,
                name: object.name.clone(),
                source,
            }),
            Err(source) => Err(ObjectError::Engine { kind, source }),
        }
    }

    /// Removes a secret or config by its identifier. Says whether it was there.
    ///
    /// # Errors
    /// [`ObjectError::InUse`] at once while services refer to it, or [`ObjectError::Engine`].
    pub async fn remove_object(
        &self,
        kind: ObjectKind,
        id: &str,
        deadline: Deadline,
    ) -> Result<bool, ObjectError> {
        let call = || Call::delete(&[kind.path(), id]);
        let (sent, uncertain) = self.send_persistently(call, deadline).await;
        match sent {
            Ok(_) => Ok(true),
            Err(error) if error.is(Refusal::NotFound) => Ok(uncertain),
            Err(EngineError::Rejected {
                status, message, ..
            }) if Refusal::classify(status, &message) == Refusal::InUse => {
                Err(ObjectError::InUse {
                    kind,
                    id: id.to_owned(),
                    services: users(&message),
                })
            }
            Err(source) => Err(ObjectError::Engine { kind, source }),
        }
    }

    /// As [`Self::remove_object`], waiting while services refer to it.
    ///
    /// # Errors
    /// [`ObjectError::InUse`] at the deadline, or [`ObjectError::Engine`].
    pub async fn await_object_removed(
        &self,
        kind: ObjectKind,
        id: &str,
        deadline: Deadline,
    ) -> Result<bool, ObjectError> {
        loop {
            let error = match self.remove_object(kind, id, deadline).await {
                Err(error @ ObjectError::InUse { .. }) => error,
                done => return done,
            };
            if deadline.pause(IN_USE_PAUSE).await.is_err() {
                return Err(error);
            }
        }
    }
}
