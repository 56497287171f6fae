//! Which swarm a command is about, and what it takes from its surroundings.

use std::io;
use std::path::{Path, PathBuf};

use phoenix_core::deploy::{Credentials, DeployOptions, NodeEngine, ResolveImages, UnreachedNode};
use phoenix_core::docker::{Engine, TlsIdentity};
use phoenix_core::ground::{FingerprintKey, SecretBytes, create_private_directory};
use phoenix_core::sync::Session;

use crate::arguments::{Global, ResolveImage, StackFile, SwarmPlace};
use crate::command::open;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::printer::Printer;

type Result<T> = std::result::Result<T, CommandError>;

/// A swarm, as it was asked for.
pub(super) struct Swarm {
    /// Any of its managers.
    pub(super) engine: Engine,
    /// The engines of nodes that are known, and of those that should be, why they are not.
    pub(super) nodes: Vec<std::result::Result<NodeEngine, UnreachedNode>>,
    site: Option<Session>,
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn usage(message: impl Into<String>) -> CommandError {
    CommandError::new(Exit::Usage, message)
}

impl Swarm {
    /// The swarm of `place`.
    pub(super) fn of(global: &Global, printer: &Printer, place: &SwarmPlace) -> Result<Self> {
        let mut hosts = place.hosts.clone();
        if hosts.is_empty() {
            hosts.extend(variable("DOCKER_HOST"));
        }
        if hosts.is_empty() {
            return Self::of_site(global, printer);
        }
        let tls = match &place.tls_dir {
            Some(directory) => Some(directory.clone()),
            None => variable("DOCKER_CERT_PATH").map(PathBuf::from),
        };
        let mut nodes = Vec::new();
        for host in hosts {
            let engine = engine(&host, tls.as_deref())?;
            nodes.push(NodeEngine { name: host, engine });
        }
        let engine = Engine::any_of(nodes.iter().map(|node| node.engine.clone()))
            .ok_or_else(|| usage("no engine is named"))?;
        Ok(Self {
            engine,
            nodes: nodes.into_iter().map(Ok).collect(),
            site: None,
        })
    }

    fn of_site(global: &Global, printer: &Printer) -> Result<Self> {
        let session = open(global, printer, |_| Ok(())).map_err(|error| {
            error.or_hint(
                "name a manager's engine with --host unix:///PATH or --host tcp://HOST:PORT, or a site with --config FILE",
            )
        })?;
        let managers = session
            .managers()
            .map_err(|failure| CommandError::of_failure("the site's swarm", failure))?;
        let nodes = session
            .node_engines()
            .into_iter()
            .map(|(name, engine)| match engine {
                Ok(engine) => Ok(NodeEngine { name, engine }),
                Err(failure) => Err(UnreachedNode::new(name, failure.message)),
            })
            .collect();
        let engine = Engine::any_of(managers)
            .ok_or_else(|| usage("the site declares no manager of a swarm"))?;
        Ok(Self {
            engine,
            nodes,
            site: Some(session),
        })
    }

    /// How `file` is deployed. `write`: whether a key may be made that is not there.
    pub(super) fn options(&self, file: &StackFile, write: bool) -> Result<DeployOptions> {
        let mut options = DeployOptions::default();
        options.key = self.key(write)?;
        options.prune = file.prune;
        options.keep = file.keep;
        options.retry_rolled_back = file.retry_rolled_back;
        options.resolve = match file.resolve_image {
            ResolveImage::Always => ResolveImages::Always,
            ResolveImage::Changed => ResolveImages::Changed,
            ResolveImage::Never => ResolveImages::Never,
        };
        if file.with_registry_auth {
            options.credentials = Some(credentials()?);
        }
        if let Some(declared) = self.site.as_ref().and_then(Session::registries) {
            let own = options.credentials.unwrap_or_default();
            options.credentials = Some(own.with(declared));
        }
        Ok(options)
    }

    /// The key of the fingerprints: the site's once it has one, else this user's.
    fn key(&self, write: bool) -> Result<Option<FingerprintKey>> {
        let cannot = |error: io::Error| {
            CommandError::new(
                Exit::Failed,
                format!("the key of the fingerprints cannot be used: {error}"),
            )
        };
        if let Some(session) = &self.site
            && let Some(key) = session.fingerprint_key().map_err(cannot)?
        {
            return Ok(Some(key));
        }
        let Some(path) = key_path() else {
            return Ok(None);
        };
        if !write {
            return FingerprintKey::read(&path).map_err(cannot);
        }
        if let Some(directory) = path.parent() {
            create_private_directory(directory).map_err(cannot)?;
        }
        FingerprintKey::ensure(&path).map(Some).map_err(cannot)
    }
}

/// Where this user's key is.
fn key_path() -> Option<PathBuf> {
    let state = match variable("XDG_STATE_HOME") {
        Some(state) => PathBuf::from(state),
        None => PathBuf::from(variable("HOME")?).join(".local/state"),
    };
    Some(state.join("phoenix/fingerprint.key"))
}

/// The engine at a URL.
fn engine(host: &str, tls: Option<&Path>) -> Result<Engine> {
    if let Some(path) = host.strip_prefix("unix://") {
        if !path.starts_with('/') {
            return Err(usage(format!(
                "{host}: a socket is written like unix:///run/docker.sock"
            )));
        }
        return Ok(Engine::unix(path));
    }
    let Some(address) = host.strip_prefix("tcp://") else {
        return Err(usage(format!(
            "{host}: an engine is written like unix:///PATH or tcp://HOST:PORT"
        )));
    };
    let (name, port) = address
        .trim_end_matches('/')
        .rsplit_once(':')
        .and_then(|(name, port)| Some((name, port.parse().ok()?)))
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| {
            usage(format!(
                "{host}: an address is written like tcp://HOST:PORT"
            ))
        })?;
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let Some(directory) = tls else {
        return Err(usage(format!("{host}: a TCP address needs TLS"))
            .hint("name the directory of ca.pem, cert.pem and key.pem with --tls-dir DIR"));
    };
    let read = |file: &str| {
        let path = directory.join(file);
        std::fs::read(&path)
            .map_err(|error| usage(format!("{} cannot be read: {error}", path.display())))
    };
    let identity = TlsIdentity {
        ca_pem: read("ca.pem")?,
        cert_chain_pem: read("cert.pem")?,
        key: SecretBytes::new(read("key.pem")?),
    };
    Engine::tcp_tls(name, port, &identity)
        .map_err(|error| CommandError::from_error(Exit::Usage, &error))
}

/// The credentials in docker's configuration file.
fn credentials() -> Result<Credentials> {
    let directory = match variable("DOCKER_CONFIG") {
        Some(directory) => PathBuf::from(directory),
        None => {
            let home = variable("HOME").ok_or_else(|| usage("HOME is not set"))?;
            PathBuf::from(home).join(".docker")
        }
    };
    let path = directory.join("config.json");
    let text = match std::fs::read(&path) {
        Ok(text) => SecretBytes::new(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Credentials::default()),
        Err(error) => {
            return Err(usage(format!("{} cannot be read: {error}", path.display())));
        }
    };
    Credentials::from_docker_config(&text).map_err(|error| {
        let told = CommandError::from_error(Exit::Usage, &error);
        told.hint(format!("it was read from {}", path.display()))
    })
}
