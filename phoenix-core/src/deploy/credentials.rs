//! Credentials for image registries, as the docker CLI stores them.
//!
//! Its configuration file (`~/.docker/config.json`) holds them in `auths`, or names a program that
//! does (`credsStore`, `credHelpers`). Phoenix starts no program: what only one knows is refused,
//! in words that say so.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::docker::RegistryAuth;
use crate::ground::SecretBytes;
use crate::stack::Image;

/// The name under which the docker CLI keeps the credentials of Docker Hub.
const HUB: &str = "index.docker.io";

/// Credentials by registry.
#[derive(Clone, Default)]
pub struct Credentials {
    known: BTreeMap<String, RegistryAuth>,
    /// The programs that keep those of single registries.
    helpers: BTreeMap<String, String>,
    /// The program that keeps all others.
    store: Option<String>,
    /// Registries of which the file says that the program knows them.
    stored: Vec<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("registries", &self.known.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// Credentials cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// The file is not the docker CLI's.
    #[error("not a configuration file of the docker CLI (line {line}, column {column})")]
    Format {
        /// The line on which it is not. What stands there is not told: it may be a password.
        line: usize,
        /// The column.
        column: usize,
    },
    /// An entry of `auths` is damaged. Its content is not shown.
    #[error("the entry of {registry} in `auths` is damaged")]
    Entry {
        /// The registry.
        registry: String,
    },
    /// A password is not text.
    #[error("the password for {registry} is not UTF-8")]
    Password {
        /// The registry.
        registry: String,
    },
    /// A program keeps them.
    #[error(
        "the credentials of {registry} are kept by the program docker-credential-{helper}, and Phoenix starts none"
    )]
    Helper {
        /// The registry.
        registry: String,
        /// What the file calls the program.
        helper: String,
    },
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(rename = "credsStore", default)]
    store: Option<String>,
    #[serde(rename = "credHelpers", default)]
    helpers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    auth: Option<Hidden>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<Hidden>,
    #[serde(rename = "identitytoken", default)]
    token: Option<Hidden>,
}

/// Text that is wiped.
#[derive(Deserialize)]
#[serde(from = "String")]
struct Hidden(Zeroizing<String>);

impl From<String> for Hidden {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl Hidden {
    fn present(&self) -> bool {
        !self.0.is_empty()
    }

    fn bytes(&self) -> SecretBytes {
        SecretBytes::new(self.0.as_bytes().to_vec())
    }
}

impl Credentials {
    /// Those in the text of a configuration file of the docker CLI.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub fn from_docker_config(text: &SecretBytes) -> Result<Self, CredentialsError> {
        let file: File =
            serde_json::from_slice(text.expose()).map_err(|error| CredentialsError::Format {
                line: error.line(),
                column: error.column(),
            })?;
        let mut credentials = Self {
            store: file.store.filter(|store| !store.is_empty()),
            helpers: file
                .helpers
                .into_iter()
                .map(|(registry, helper)| (host(&registry).to_owned(), helper))
                .collect(),
            ..Self::default()
        };
        for (registry, entry) in file.auths {
            let name = host(&registry).to_owned();
            match entry.read(&registry)? {
                Some(auth) => {
                    credentials.known.insert(name, auth);
                }
                // An entry without content says that the store has it.
                None => credentials.stored.push(name),
            }
        }
        Ok(credentials)
    }

    /// Adds those of `username` at `registry`: a host, with its port where it has one.
    ///
    /// # Errors
    /// [`CredentialsError::Password`] when the password is not text.
    pub fn add(
        &mut self,
        registry: &str,
        username: &str,
        password: &SecretBytes,
    ) -> Result<(), CredentialsError> {
        let name = host(registry).to_owned();
        // The docker CLI's address of Docker Hub is the one that its registry knows.
        let server = if name == HUB {
            "https://index.docker.io/v1/"
        } else {
            registry
        };
        let auth = RegistryAuth::new(server, username, password).ok_or_else(|| {
            CredentialsError::Password {
                registry: registry.to_owned(),
            }
        })?;
        self.known.insert(name, auth);
        Ok(())
    }

    /// Whether no registry is known, neither with its credentials nor with the program that keeps
    /// them.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty() && self.helpers.is_empty() && self.stored.is_empty()
    }

    /// All of these, and those of `other` where both know a registry.
    #[must_use]
    pub fn with(mut self, other: &Self) -> Self {
        self.known.extend(other.known.clone());
        self
    }

    /// The credentials for the registry of `image`; `None` where there are none.
    ///
    /// # Errors
    /// [`CredentialsError::Helper`] where a program keeps them.
    pub fn of(&self, image: &Image) -> Result<Option<&RegistryAuth>, CredentialsError> {
        let registry = registry_of(&image.familiar()).to_owned();
        if let Some(known) = self.known.get(&registry) {
            return Ok(Some(known));
        }
        let helper = self.helpers.get(&registry).or_else(|| {
            let stored = self.stored.contains(&registry);
            self.store.as_ref().filter(|_| stored)
        });
        match helper {
            Some(helper) => Err(CredentialsError::Helper {
                registry,
                helper: helper.clone(),
            }),
            None => Ok(None),
        }
    }
}

impl Entry {
    fn read(self, registry: &str) -> Result<Option<RegistryAuth>, CredentialsError> {
        let damaged = || CredentialsError::Entry {
            registry: registry.to_owned(),
        };
        if let Some(token) = self.token.filter(Hidden::present) {
            let auth = RegistryAuth::with_token(registry, &token.bytes());
            return Ok(Some(auth.ok_or_else(damaged)?));
        }
        let auth = self.auth.filter(Hidden::present);
        let (username, password) = match (auth, self.username, self.password) {
            (Some(auth), _, _) => {
                let decoded = STANDARD.decode(auth.0.as_bytes()).map_err(|_| damaged())?;
                let decoded = Zeroizing::new(decoded);
                let text = std::str::from_utf8(&decoded).map_err(|_| damaged())?;
                let (username, password) = text.split_once(':').ok_or_else(damaged)?;
                let password = password.trim_end_matches('\0').to_owned();
                (username.to_owned(), SecretBytes::from(password))
            }
            (None, Some(username), Some(password)) => (username, password.bytes()),
            _ => return Ok(None),
        };
        let auth = RegistryAuth::new(registry, &username, &password).ok_or_else(damaged)?;
        Ok(Some(auth))
    }
}

/// The host of a key of `auths`, which may be a URL.
fn host(key: &str) -> &str {
    let rest = key.split_once("://").map_or(key, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or(rest);
    if matches!(host, "docker.io" | "registry-1.docker.io") {
        HUB
    } else {
        host
    }
}

/// The registry of an image in its short form.
fn registry_of(familiar: &str) -> &str {
    match familiar.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => host(first),
        _ => HUB,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Credentials, CredentialsError> {
        Credentials::from_docker_config(&SecretBytes::from(text.to_owned()))
    }

    fn image(text: &str) -> Image {
        Image::parse(text).unwrap()
    }

    #[test]
    fn entries_are_found_by_the_registry_of_the_image() {
        let encoded = STANDARD.encode("me:s3cr3t:with?colon");
        let text = format!(
            r#"{{"auths": {{"https://index.docker.io/v1/": {{"auth": "{encoded}"}},
                "registry.example:5000": {{"username": "u", "password": "p"}},
                "ghcr.io": {{"identitytoken": "t0ken"}}}}, "HttpHeaders": {{}}}}"#
        );
        let credentials = read(&text).unwrap();
        for known in [
            "nginx",
            "me/app:1",
            "registry.example:5000/app",
            "ghcr.io/a/b:2",
        ] {
            assert!(credentials.of(&image(known)).unwrap().is_some(), "{known}");
        }
        assert!(credentials.of(&image("quay.io/x/y")).unwrap().is_none());
        let shown = format!("{credentials:?}");
        for secret in ["s3cr3t", "t0ken", encoded.as_str()] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }

    #[test]
    fn credentials_can_be_added_and_win_over_others() {
        let password = |text: &str| SecretBytes::from(text.to_owned());
        let mut own = Credentials::default();
        own.add("docker.io", "me", &password("s3cr3t")).unwrap();
        own.add("r.example:5000", "me", &password("0wn")).unwrap();
        for known in ["nginx", "docker.io/me/app", "r.example:5000/a/b"] {
            assert!(own.of(&image(known)).unwrap().is_some(), "{known}");
        }
        assert!(own.of(&image("r.example/a")).unwrap().is_none());
        let bytes = SecretBytes::new(vec![0xff]);
        assert!(own.add("r.example", "me", &bytes).is_err());

        let stored = read(r#"{"auths": {"r.example:5000": {}}, "credsStore": "desktop"}"#).unwrap();
        assert!(stored.of(&image("r.example:5000/a")).is_err());
        let both = stored.with(&own);
        assert!(both.of(&image("r.example:5000/a")).unwrap().is_some());
        assert!(!format!("{both:?}").contains("s3cr3t"));
    }

    #[test]
    fn what_a_program_keeps_is_refused_in_words() {
        let credentials = read(
            r#"{"auths": {"a.example": {}}, "credsStore": "desktop",
                "credHelpers": {"b.example": "ecr-login"}}"#,
        )
        .unwrap();
        assert!(!credentials.is_empty());
        assert!(read(r#"{"credsStore": "desktop"}"#).unwrap().is_empty());
        let error = |name: &str| credentials.of(&image(name)).unwrap_err().to_string();
        assert!(error("a.example/x").contains("docker-credential-desktop"));
        assert!(error("b.example/x").contains("docker-credential-ecr-login"));
        assert!(credentials.of(&image("c.example/x")).unwrap().is_none());
    }

    #[test]
    fn a_damaged_entry_is_not_shown() {
        for auth in ["%%%", "bm9jb2xvbg=="] {
            let text = format!(r#"{{"auths": {{"a.example": {{"auth": "{auth}"}}}}}}"#);
            let error = read(&text).unwrap_err();
            assert_eq!(
                error.to_string(),
                "the entry of a.example in `auths` is damaged"
            );
        }
        assert!(matches!(read("7"), Err(CredentialsError::Format { .. })));
    }
}
