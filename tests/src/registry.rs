//! A lab's image registry, on its bridge: Debian's docker-registry, with a data folder of the lab.
//!
//! The nodes' engines know it as a mirror of Docker Hub, so that images keep their ordinary names.
//! A lab may have a second one, which has the same images under its own address and gives them to
//! nobody without credentials.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;

use crate::image::{self, Image};
use crate::packages::Unpacked;
use crate::place;
use crate::process::{self, Running};
use crate::wire::{Endpoint, Payload};
use crate::{LabError, Result};

/// The registry's port on the lab's bridge.
pub const PORT: u16 = 5000;
/// That of the registry that asks for credentials.
pub const PRIVATE_PORT: u16 = 5001;

/// Who may use the private registry.
pub const USERNAME: &str = "lab";
/// The password. Wherever it stands in a text, base64 has a `+` and a `/` for it, and the URL-safe
/// alphabet a `-` and a `_`.
pub const PASSWORD: &str = "private???>>>~~~registry";
/// Both as a line of `htpasswd`, with the password's bcrypt hash: the one kind that it takes.
const HTPASSWD: &str = "lab:$2b$05$phoenixlab.registry.uudiZDry3haiIcu0h4i4tNC92kYAF8dbW\n";

/// A running registry.
#[derive(Debug, Clone)]
pub struct Registry {
    endpoint: Endpoint,
}

impl Registry {
    pub(crate) fn at(address: IpAddr, port: u16) -> Self {
        Self {
            endpoint: Endpoint::Tcp(SocketAddr::new(address, port)),
        }
    }

    /// Starts one on this address, with its files in `dir`, and waits until it answers.
    pub(crate) async fn start(
        programs: &Unpacked,
        address: IpAddr,
        dir: &Path,
    ) -> Result<(Self, Running)> {
        let data = dir.join("data");
        place::make_dir(&data)?;
        Self::serve(programs, SocketAddr::new(address, PORT), dir, &data, "").await
    }

    /// Starts the private one on this address, beside that with its files in `dir`, and waits until
    /// it answers.
    pub(crate) async fn start_private(
        programs: &Unpacked,
        address: IpAddr,
        dir: &Path,
    ) -> Result<(Self, Running)> {
        let own = dir.join("private");
        place::make_dir(&own)?;
        let users = own.join("htpasswd");
        place::write(&users, HTPASSWD)?;
        let auth = format!(
            "auth:\n  htpasswd:\n    realm: lab\n    path: '{}'\n",
            users.display()
        );
        let at = SocketAddr::new(address, PRIVATE_PORT);
        Self::serve(programs, at, &own, &dir.join("data"), &auth).await
    }

    async fn serve(
        programs: &Unpacked,
        at: SocketAddr,
        dir: &Path,
        data: &Path,
        auth: &str,
    ) -> Result<(Self, Running)> {
        let registry = Self::at(at.ip(), at.port());
        let config = dir.join("config.yml");
        place::write(
            &config,
            format!(
                "version: 0.1\nlog:\n  level: warn\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    rootdirectory: '{}'\nhttp:\n  addr: '{at}'\n{auth}",
                data.display()
            ),
        )?;
        let log = dir.join("registry.log");
        let mut command = programs.command("docker-registry")?;
        command.arg("serve").arg(&config);
        let process = process::start_detached(command, &log)?;
        let until = tokio::time::Instant::now() + Duration::from_secs(20);
        // One that asks for credentials answers, too.
        while registry
            .endpoint
            .send("GET", "/v2/", Payload::Empty)
            .await
            .is_err()
        {
            if !process.alive() || tokio::time::Instant::now() > until {
                return Err(LabError::Program {
                    what: "docker-registry".into(),
                    status: "its start".into(),
                    stderr: process::tail(&std::fs::read_to_string(&log).unwrap_or_default(), 5),
                });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok((registry, process))
    }

    /// Where it listens, as names of its images begin: `10.77.1.1:5001`.
    #[must_use]
    pub fn host(&self) -> String {
        let address = self.endpoint.to_string();
        address.trim_start_matches("http://").to_owned()
    }

    /// Stores an image under an ordinary name (`nginx:1.27-alpine`, `portainer/portainer-ce:2.21.4`).
    /// Returns the manifest's digest.
    ///
    /// # Errors
    /// Where the name is none, or the registry refuses.
    pub async fn push(&self, name: &str, image: &Image) -> Result<String> {
        let (repository, tag) = repository_and_tag(name)?;
        let (layer, layer_digest) = image.layer();
        self.blob(&repository, layer.clone(), layer_digest).await?;
        let config = image.configuration();
        let config_digest = image::digest(&config);
        self.blob(&repository, config.into(), &config_digest)
            .await?;
        let manifest = image.manifest();
        let digest = image::digest(&manifest);
        let path = format!("/v2/{repository}/manifests/{tag}");
        let payload = Payload::Bytes(image::MANIFEST_TYPE, manifest.into());
        self.endpoint.ask("PUT", &path, payload).await?;
        Ok(digest)
    }

    async fn blob(&self, repository: &str, content: Bytes, digest: &str) -> Result<()> {
        let path = format!("/v2/{repository}/blobs/{digest}");
        let known = self.endpoint.send("HEAD", &path, Payload::Empty).await?;
        if known.status == 200 {
            return Ok(());
        }
        let path = format!("/v2/{repository}/blobs/uploads/");
        let begun = self.endpoint.ask("POST", &path, Payload::Empty).await?;
        let location = begun
            .header("location")
            .and_then(|location| url::Url::parse(location).ok())
            .ok_or_else(|| LabError::Malformed("an upload without a place".to_owned()))?;
        let path = format!(
            "{}?{}&digest={digest}",
            location.path(),
            location.query().unwrap_or_default()
        );
        let payload = Payload::Bytes("application/octet-stream", content);
        self.endpoint.ask("PUT", &path, payload).await.map(drop)
    }
}

/// The repository as Docker Hub names it, and the tag.
fn repository_and_tag(name: &str) -> Result<(String, &str)> {
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    let (repository, tag) = name.rsplit_once(':').unwrap_or((name, "latest"));
    let fine = |text: &str| {
        !text.is_empty()
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c))
    };
    if !fine(repository) || !fine(tag) || tag.contains('/') {
        return Err(LabError::Malformed(format!("'{name}' names no image")));
    }
    let repository = match repository.split_once('/') {
        None => format!("library/{repository}"),
        Some(_) => repository.to_owned(),
    };
    Ok((repository, tag))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE;

    use super::*;

    #[test]
    fn both_alphabets_differ_in_the_password_wherever_it_stands() {
        for before in ["", "a", "ab"] {
            let encoded = URL_SAFE.encode(format!("{before}{PASSWORD}"));
            assert!(encoded.contains('-') && encoded.contains('_'), "{encoded}");
        }
    }

    #[test]
    fn names_are_those_of_docker_hub() {
        let cases = [
            ("nginx:1.27", "library/nginx", "1.27"),
            ("docker.io/library/x:2", "library/x", "2"),
            (
                "portainer/portainer-ce:2.21.4",
                "portainer/portainer-ce",
                "2.21.4",
            ),
            ("busybox", "library/busybox", "latest"),
        ];
        for (name, repository, tag) in cases {
            let parsed = repository_and_tag(name).expect(name);
            assert_eq!(parsed, (repository.to_owned(), tag), "{name}");
        }
        assert!(repository_and_tag("a b").is_err());
        assert!(repository_and_tag("host:5000/x").is_err());
    }
}
