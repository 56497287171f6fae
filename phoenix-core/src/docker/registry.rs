//! What an engine learns for its client from an image registry.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use http::header::HeaderValue;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::call::Call;
use super::engine::Engine;
use super::error::EngineError;
use super::wire::nullable;
use crate::ground::{Deadline, SecretBytes};

/// Credentials for a registry, ready to be sent along with a service or a look-up.
#[derive(Clone)]
pub struct RegistryAuth {
    /// The header's value, marked as sensitive.
    header: HeaderValue,
    server: String,
}

impl fmt::Debug for RegistryAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryAuth")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

impl RegistryAuth {
    /// Credentials of `username` at the registry `server`. `None` when the password is not
    /// UTF-8.
    #[must_use]
    pub fn new(server: &str, username: &str, password: &SecretBytes) -> Option<Self> {
        #[derive(Serialize)]
        struct Wire<'a> {
            username: &'a str,
            password: &'a str,
            serveraddress: &'a str,
        }
        Self::of(
            server,
            &Wire {
                username,
                password: password.expose_str().ok()?,
                serveraddress: server,
            },
        )
    }

    /// An identity token for the registry `server`. `None` when it is not UTF-8.
    #[must_use]
    pub fn with_token(server: &str, token: &SecretBytes) -> Option<Self> {
        #[derive(Serialize)]
        struct Wire<'a> {
            identitytoken: &'a str,
            serveraddress: &'a str,
        }
        Self::of(
            server,
            &Wire {
                identitytoken: token.expose_str().ok()?,
                serveraddress: server,
            },
        )
    }

    fn of(server: &str, wire: &impl Serialize) -> Option<Self> {
        let json = Zeroizing::new(serde_json::to_vec(wire).ok()?);
        // The engine decodes the URL-safe alphabet only, and ignores what it cannot decode.
        let encoded = Zeroizing::new(URL_SAFE.encode(&*json));
        let mut header = HeaderValue::from_str(&encoded).ok()?;
        header.set_sensitive(true);
        Some(Self {
            header,
            server: server.to_owned(),
        })
    }

    pub(super) fn header(&self) -> HeaderValue {
        self.header.clone()
    }
}

/// What a registry has under an image name.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegistryImage {
    /// The digest of the manifest or index, such as `sha256:…`.
    pub digest: String,
    /// The platforms it is there for, as the registry lists them.
    pub platforms: Vec<ImagePlatform>,
}

/// A platform of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct ImagePlatform {
    /// Architecture in Go's words, such as `amd64`.
    #[serde(default, deserialize_with = "nullable")]
    pub architecture: String,
    /// Operating system.
    #[serde(default, deserialize_with = "nullable")]
    pub os: String,
    /// Variant, such as `v8`; often empty.
    #[serde(default, deserialize_with = "nullable")]
    pub variant: String,
}

impl Engine {
    /// Has the engine ask the registry of `image` for its digest and platforms. Without a
    /// network the engine waits for its resolver first, often 10 to 20 s: give it a deadline of
    /// its own.
    ///
    /// # Errors
    /// [`EngineError`]; a registry that cannot be reached is
    /// [`Rejected`](EngineError::Rejected), an engine that waits longer than `deadline`
    /// [`Ambiguous`](EngineError::Ambiguous). Neither says that nodes cannot run the image.
    pub async fn distribution(
        &self,
        image: &str,
        auth: Option<&RegistryAuth>,
        deadline: Deadline,
    ) -> Result<RegistryImage, EngineError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Wire {
            descriptor: Descriptor,
            #[serde(default, deserialize_with = "nullable")]
            platforms: Vec<ImagePlatform>,
        }
        #[derive(Deserialize)]
        struct Descriptor {
            #[serde(alias = "Digest")]
            digest: String,
        }
        let mut path = vec!["distribution"];
        path.extend(image.split('/'));
        path.push("json");
        let call = Call::get(&path).registry_auth(auth);
        let answer: Wire = self.fetch(call, deadline).await?;
        Ok(RegistryImage {
            digest: answer.descriptor.digest,
            platforms: answer.platforms,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_use_the_alphabet_the_engine_decodes_and_are_not_shown() {
        let auth = RegistryAuth::new(
            "registry.example",
            "u",
            &SecretBytes::from("p?>~?>~".to_owned()),
        )
        .expect("auth");
        let value = auth.header();
        let text = value.to_str().expect("ascii");
        assert!(!text.contains(['+', '/']), "{text}");
        let decoded = URL_SAFE.decode(text).expect("base64");
        let json: serde_json::Value = serde_json::from_slice(&decoded).expect("json");
        assert_eq!(json["password"], "p?>~?>~");
        assert_eq!(format!("{value:?}"), "Sensitive");
        assert!(!format!("{auth:?}").contains("p?>"));
    }
}
