//! Environments: the engines that Portainer manages.
//!
//! Creating one is a form, changing one is JSON, and the TLS files of a change are uploaded
//! before. In a form only the literal `true` is true.

use std::time::Duration;

use http::Method;
use reqwest::multipart::{Form, Part};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;

use super::client::{Content, Session};
use super::error::PortainerError;
use crate::ground::{Deadline, SecretBytes};

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(4);

/// What answers at an environment's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EnvironmentKind {
    /// A Docker engine.
    Docker,
    /// A Portainer agent. Its certificate is its own and new with every start: it is never
    /// verified, the agent recognises Portainer by a signature.
    Agent,
}

impl EnvironmentKind {
    /// The number by which Portainer knows it.
    #[must_use]
    pub fn number(self) -> i64 {
        match self {
            Self::Docker => 1,
            Self::Agent => 2,
        }
    }
}

/// An environment to register.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NewEnvironment {
    /// Its name, unique in the instance.
    pub name: String,
    /// What answers at the address.
    pub kind: EnvironmentKind,
    /// Its address as Portainer sees it: `unix:///var/run/docker.sock`, `tcp://tasks.agent:9001`,
    /// `tcp://host:2376`.
    pub url: String,
    /// TLS to a Docker engine at a TCP address.
    pub tls: Option<EnvironmentTls>,
}

/// TLS from Portainer to a Docker engine, all PEM.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EnvironmentTls {
    /// The CA of the engine's certificate.
    pub ca: Vec<u8>,
    /// Portainer's client certificate with its chain.
    pub certificate: Vec<u8>,
    /// Its key.
    pub key: SecretBytes,
}

impl EnvironmentTls {
    /// TLS with these files.
    #[must_use]
    pub fn new(ca: Vec<u8>, certificate: Vec<u8>, key: SecretBytes) -> Self {
        Self {
            ca,
            certificate,
            key,
        }
    }
}

impl NewEnvironment {
    /// An environment without TLS files.
    pub fn new(name: impl Into<String>, kind: EnvironmentKind, url: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            kind,
            url: url.into(),
            tls: None,
        }
    }

    /// With TLS to a Docker engine. Not for an agent, which has TLS of its own.
    #[must_use]
    pub fn tls(mut self, tls: EnvironmentTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Whether TLS is spoken, and whether verification is skipped. Both sides are skipped or
    /// verified together: Portainer 2.23 mixes the two flags up.
    fn flags(&self) -> (bool, bool) {
        match self.kind {
            EnvironmentKind::Agent => (true, true),
            EnvironmentKind::Docker => (self.tls.is_some(), false),
        }
    }

    /// The TLS files, which an agent has none of.
    fn files(&self) -> Option<&EnvironmentTls> {
        match self.kind {
            EnvironmentKind::Agent => None,
            EnvironmentKind::Docker => self.tls.as_ref(),
        }
    }

    fn form(&self) -> Form {
        let (tls, skip) = self.flags();
        let word = |flag: bool| if flag { "true" } else { "false" };
        let form = Form::new()
            .text("Name", self.name.clone())
            .text("EndpointCreationType", self.kind.number().to_string())
            .text("URL", self.url.clone())
            .text("ContainerEngine", "docker")
            .text("TLS", word(tls))
            .text("TLSSkipVerify", word(skip))
            .text("TLSSkipClientVerify", word(skip));
        match self.files() {
            None => form,
            Some(files) => form
                .part("TLSCACertFile", file("ca.pem", &files.ca))
                .part("TLSCertFile", file("cert.pem", &files.certificate))
                .part("TLSKeyFile", file("key.pem", files.key.expose())),
        }
    }
}

fn file(name: &'static str, content: &[u8]) -> Part {
    Part::bytes(content.to_vec()).file_name(name)
}

/// A registered environment.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
#[non_exhaustive]
pub struct Environment {
    /// Its number in the instance.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// What answers there: 1 Docker, 2 agent, 4 edge agent, others.
    #[serde(rename = "Type")]
    pub kind_number: i64,
    /// Its address as Portainer sees it.
    #[serde(rename = "URL", default)]
    pub url: String,
    /// 1 up, 2 down.
    #[serde(default)]
    pub status: i64,
    /// Its TLS settings.
    #[serde(rename = "TLSConfig", default)]
    tls_config: TlsConfig,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
struct TlsConfig {
    #[serde(rename = "TLS", default)]
    tls: bool,
    #[serde(rename = "TLSSkipVerify", default)]
    skip_verify: bool,
}

impl Environment {
    /// Whether it answered when Portainer last asked.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.status == 1
    }

    /// Whether it is registered as `wanted` says: name, kind, address and whether TLS is spoken
    /// and verified. The content of TLS files cannot be read back.
    #[must_use]
    pub fn matches(&self, wanted: &NewEnvironment) -> bool {
        let (tls, skip) = wanted.flags();
        self.name == wanted.name
            && self.kind_number == wanted.kind.number()
            && bare(&self.url) == bare(&wanted.url)
            && self.tls_config.tls == tls
            && (!tls || self.tls_config.skip_verify == skip)
    }
}

/// An address without what Portainer may add to it.
fn bare(url: &str) -> &str {
    url.strip_prefix("tcp://")
        .unwrap_or(url)
        .trim_end_matches('/')
}

impl Session {
    /// All environments.
    ///
    /// # Errors
    /// [`PortainerError`].
    pub async fn environments(
        &self,
        deadline: Deadline,
    ) -> Result<Vec<Environment>, PortainerError> {
        let query = [("excludeSnapshots", "true")];
        let all: Option<_> = self.get("api/endpoints", &query, deadline).await?;
        Ok(all.unwrap_or_default())
    }

    /// Registers an environment. Portainer contacts it first and stores nothing when that fails;
    /// as agents need a while to join, that is tried again until the deadline.
    ///
    /// # Errors
    /// [`PortainerError`]; [`Rejected`](PortainerError::Rejected) with status 409 when the name
    /// is taken. After an [ambiguous](PortainerError::is_ambiguous) one it may be there.
    pub async fn create_environment(
        &self,
        wanted: &NewEnvironment,
        deadline: Deadline,
    ) -> Result<Environment, PortainerError> {
        let mut pause = FIRST_PAUSE;
        loop {
            let content = Content::Form(wanted.form());
            let created = self.send(Method::POST, "api/endpoints", content, deadline);
            let error = match created.await {
                Ok(environment) => return Ok(environment),
                Err(error) => error,
            };
            let unreachable = error.refusal().is_some_and(|refusal| {
                let said = refusal.message.to_lowercase();
                refusal.status == 500
                    && (said.contains("unable to initiate communications")
                        || said.contains("unable to get environment type"))
            });
            let again = unreachable || error.is_not_delivered();
            if !again || deadline.remaining() < pause {
                return Err(error);
            }
            tracing::debug!(%error, name = wanted.name, "registering the environment again");
            if deadline.pause(pause).await.is_err() {
                return Err(error);
            }
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// Makes a registered environment as `wanted`: name, address, TLS and its files. The kind of
    /// an environment cannot be changed.
    ///
    /// # Errors
    /// [`PortainerError`].
    pub async fn update_environment(
        &self,
        id: i64,
        wanted: &NewEnvironment,
        deadline: Deadline,
    ) -> Result<Environment, PortainerError> {
        if let Some(files) = wanted.files() {
            let parts = [
                ("ca", "ca.pem", &files.ca[..]),
                ("cert", "cert.pem", &files.certificate),
                ("key", "key.pem", files.key.expose()),
            ];
            for (which, name, content) in parts {
                let form = Form::new()
                    .text("folder", id.to_string())
                    .part("file", file(name, content));
                let path = format!("api/upload/tls/{which}");
                let _: IgnoredAny = self
                    .send(Method::POST, &path, Content::Form(form), deadline)
                    .await?;
            }
        }
        let (tls, skip) = wanted.flags();
        let content = Content::json(&json!({
            "Name": wanted.name,
            "URL": wanted.url,
            "TLS": tls,
            "TLSSkipVerify": skip,
            "TLSSkipClientVerify": skip,
        }));
        let path = format!("api/endpoints/{id}");
        self.send(Method::PUT, &path, content, deadline).await
    }

    /// Removes an environment from Portainer; the engine itself is left alone.
    ///
    /// # Errors
    /// [`PortainerError`].
    pub async fn delete_environment(
        &self,
        id: i64,
        deadline: Deadline,
    ) -> Result<(), PortainerError> {
        let path = format!("api/endpoints/{id}");
        let _: IgnoredAny = self
            .send(Method::DELETE, &path, Content::Nothing, deadline)
            .await?;
        Ok(())
    }

    /// The identity of the swarm that the environment's engine manages, asked through Portainer.
    ///
    /// # Errors
    /// [`PortainerError`]; a rejection when the engine is no manager.
    pub async fn swarm_id(&self, id: i64, deadline: Deadline) -> Result<String, PortainerError> {
        #[derive(Deserialize)]
        struct Swarm {
            #[serde(rename = "ID")]
            id: String,
        }
        let path = format!("api/endpoints/{id}/docker/swarm");
        let swarm: Swarm = self.get(&path, &[], deadline).await?;
        Ok(swarm.id)
    }
}
