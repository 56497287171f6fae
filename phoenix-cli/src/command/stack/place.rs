//! Which swarm a command is about, and what it takes from its surroundings.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use phoenix_core::deploy::{
    Credentials, DeployError, DeployOptions, MissingKind, NodeEngine, ResolveImages, UnreachedNode,
};
use phoenix_core::docker::{Engine, Managers, ManagersError, TlsIdentity};
use phoenix_core::ground::{Deadline, FingerprintKey, SecretBytes, create_private_directory};
use phoenix_core::sync::{Session, SiteLock};

use super::failed;
use crate::arguments::{Global, ResolveImage, StackFile, SwarmPlace};
use crate::command::sync::could_not_begin;
use crate::command::{interrupted, open, site_file, until_interrupted};
use crate::error::CommandError;
use crate::exit::Exit;
use crate::printer::Printer;
use crate::render;

type Result<T> = std::result::Result<T, CommandError>;

/// A swarm, as it was asked for.
pub(super) struct Swarm {
    /// Any of its managers.
    pub(super) engine: Engine,
    /// The engines of nodes that are known, and of those that should be, why they are not.
    pub(super) nodes: Vec<std::result::Result<NodeEngine, UnreachedNode>>,
    site: Option<Session>,
    lock: Option<SiteLock>,
}

/// How long engines may take to say what they are.
const LOOK: Duration = Duration::from_secs(10);

/// Where docker's own command line looks for an engine when nothing says where it is.
const LOCAL: &str = "unix:///var/run/docker.sock";

/// Where a swarm's managers are named.
#[derive(Debug, PartialEq, Eq)]
enum Named {
    Hosts(Vec<String>),
    Site,
}

impl Named {
    /// What is said at the command line wins over what is found around it. `config`: whether a site
    /// is named; `site`: whether one is found.
    fn of(
        hosts: &[String],
        config: bool,
        docker_host: Option<String>,
        site: impl FnOnce() -> bool,
    ) -> Self {
        if !hosts.is_empty() {
            return Self::Hosts(hosts.to_vec());
        }
        match docker_host {
            _ if config => Self::Site,
            Some(host) => Self::Hosts(vec![host]),
            None if site() => Self::Site,
            None => Self::Hosts(vec![LOCAL.to_owned()]),
        }
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn usage(message: impl Into<String>) -> CommandError {
    CommandError::new(Exit::Usage, message)
}

impl Swarm {
    /// The swarm of `place`.
    pub(super) fn of(global: &Global, printer: &Arc<Printer>, place: &SwarmPlace) -> Result<Self> {
        let named = Named::of(
            &place.hosts,
            global.config.is_some(),
            variable("DOCKER_HOST"),
            || site_file(global).is_ok(),
        );
        let Named::Hosts(hosts) = named else {
            return Self::of_site(global, printer);
        };
        let tls = match &place.tls_dir {
            Some(directory) => Some(directory.clone()),
            None => variable("DOCKER_CERT_PATH").map(PathBuf::from),
        };
        let mut nodes = Vec::new();
        for host in hosts {
            let engine = engine(&host, tls.as_deref())?;
            nodes.push(NodeEngine { name: host, engine });
        }
        let engine = managers(printer, nodes.iter().map(|node| node.engine.clone()))?;
        Ok(Self {
            engine,
            nodes: nodes.into_iter().map(Ok).collect(),
            site: None,
            lock: None,
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
            lock: None,
        })
    }

    /// The same swarm, for a command that changes these stacks: a site's is locked as a sync locks
    /// it, until this is dropped.
    pub(super) fn locked(mut self, printer: &Printer, stacks: &[String]) -> Result<Self> {
        for stack in stacks {
            self.tell_whose(printer, stack);
        }
        if let Some(session) = &self.site {
            self.lock = Some(session.lock().map_err(|error| could_not_begin(&error))?);
        }
        Ok(self)
    }

    /// Warns where `stack` is one of the site's own.
    pub(super) fn tell_whose(&self, printer: &Printer, stack: &str) {
        if let Some(session) = &self.site
            && session.site().stacks.contains_key(stack)
        {
            let text = format!(
                "{stack} is a stack of the site {}: `phoenix sync all` makes it as the site declares it, with variables, labels and secrets that this command does not know",
                session.site().name
            );
            printer.err(&render::warning(printer.err_layout(), &text));
        }
    }

    /// Why a deployment was not carried out.
    pub(super) fn failed(&self, error: &DeployError) -> CommandError {
        let told = failed(error);
        let of_site = |session: &Session| match error {
            DeployError::Missing { missing } => missing.iter().any(|one| {
                one.kind == MissingKind::Secret && session.site().secrets.contains_key(&one.name)
            }),
            _ => false,
        };
        if self.site.as_ref().is_some_and(of_site) {
            return told.hint(
                "the site declares this secret, for its own stacks: `phoenix sync all` makes it and deploys them",
            );
        }
        told
    }

    /// How `file` is deployed. `write`: whether a key may be made that is not there.
    pub(super) fn options(
        &self,
        printer: &Printer,
        file: &StackFile,
        write: bool,
    ) -> Result<DeployOptions> {
        let mut options = DeployOptions::default();
        options.key = self.key(file.fingerprint_key.as_deref(), write)?;
        options.prune = file.prune;
        options.keep = file.keep;
        options.retry_rolled_back = file.retry_rolled_back;
        options.resolve = match file.resolve_image {
            ResolveImage::Always => ResolveImages::Always,
            ResolveImage::Changed => ResolveImages::Changed,
            ResolveImage::Never => ResolveImages::Never,
        };
        if file.with_registry_auth {
            options.credentials = Some(credentials(printer)?);
        }
        if let Some(declared) = self.site.as_ref().and_then(Session::registries) {
            let own = options.credentials.unwrap_or_default();
            options.credentials = Some(own.with(declared));
        }
        Ok(options)
    }

    /// The key of the fingerprints: that in the file `named`, else the site's once it has one, else
    /// this user's.
    fn key(&self, named: Option<&Path>, write: bool) -> Result<Option<FingerprintKey>> {
        let cannot = |path: &Path, error: &io::Error| {
            let what = "the key of the fingerprints cannot be used";
            CommandError::new(Exit::Failed, format!("{what}: {}: {error}", path.display()))
                .hint("name another file with --fingerprint-key FILE or PHOENIX_FINGERPRINT_KEY")
        };
        if named.is_none()
            && let Some(session) = &self.site
        {
            let key = session.fingerprint_key();
            let key = key.map_err(|error| cannot(&session.site().state, &error))?;
            if key.is_some() {
                return Ok(key);
            }
        }
        let Some(path) = named.map(Path::to_owned).or_else(key_path) else {
            return Ok(None);
        };
        if !write {
            return FingerprintKey::read(&path).map_err(|error| cannot(&path, &error));
        }
        if named.is_none()
            && let Some(directory) = path.parent()
        {
            create_private_directory(directory).map_err(|error| cannot(directory, &error))?;
        }
        let key = FingerprintKey::ensure(&path);
        key.map(Some).map_err(|error| cannot(&path, &error))
    }
}

/// The swarm that these engines manage; workers among them are asked nothing of it.
fn managers(printer: &Arc<Printer>, engines: impl Iterator<Item = Engine>) -> Result<Engine> {
    let mut engines: Vec<Engine> = engines.collect();
    let count = engines.len();
    // One that is no manager refuses all that is asked of it.
    if count == 1
        && let Some(only) = engines.pop()
    {
        return Ok(only);
    }
    let found = until_interrupted(printer, Managers::among(engines, Deadline::after(LOOK)))?
        .map_err(interrupted)?
        .map_err(|error| {
            let told = CommandError::from_error(Exit::Usage, &error);
            match error {
                ManagersError::Different { .. } => {
                    told.hint("several --host are managers of one swarm")
                }
                _ => told.hint("name a manager's engine with --host or DOCKER_HOST"),
            }
        })?;
    // Where none answers, whatever is asked next says so.
    if found.silent.len() < count {
        for (host, why) in &found.silent {
            let text = format!("{host} did not answer, and is asked only where others fail: {why}");
            printer.err(&render::warning(printer.err_layout(), &text));
        }
    }
    Ok(found.engine)
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
        let told = usage(format!(
            "{host}: an engine is written like unix:///PATH or tcp://HOST:PORT"
        ));
        return Err(match host.strip_prefix("ssh://") {
            Some(_) => told.hint(format!(
                "Phoenix starts no ssh: forward the socket with `ssh -nNT -L /tmp/swarm.sock:/var/run/docker.sock {host}`, and name unix:///tmp/swarm.sock"
            )),
            None => told,
        });
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

/// The credentials in docker's configuration file. That there are none is told.
fn credentials(printer: &Printer) -> Result<Credentials> {
    let directory = match variable("DOCKER_CONFIG") {
        Some(directory) => PathBuf::from(directory),
        None => {
            let home = variable("HOME").ok_or_else(|| usage("HOME is not set"))?;
            PathBuf::from(home).join(".docker")
        }
    };
    let path = directory.join("config.json");
    let none = |why: &str| {
        let text = format!(
            "--with-registry-auth finds no credentials: {} {why}",
            path.display()
        );
        printer.err(&render::warning(printer.err_layout(), &text));
        Ok(Credentials::default())
    };
    let text = match std::fs::read(&path) {
        Ok(text) => SecretBytes::new(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return none("is not there"),
        Err(error) => {
            return Err(usage(format!("{} cannot be read: {error}", path.display())));
        }
    };
    match Credentials::from_docker_config(&text) {
        Ok(found) if found.is_empty() => none("names no registry"),
        Ok(found) => Ok(found),
        Err(error) => {
            let told = CommandError::from_error(Exit::Usage, &error);
            Err(told.hint(format!("it was read from {}", path.display())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_wins_over_what_is_found() {
        let host = || Some("unix:///docker".to_owned());
        let hosts = |host: &str| Named::Hosts(vec![host.to_owned()]);
        let given = ["unix:///given".to_owned()];
        assert_eq!(Named::of(&given, true, host(), || true), hosts(&given[0]));
        assert_eq!(Named::of(&[], true, host(), || true), Named::Site);
        assert_eq!(
            Named::of(&[], false, host(), || true),
            hosts("unix:///docker")
        );
        assert_eq!(Named::of(&[], false, None, || true), Named::Site);
        assert_eq!(Named::of(&[], false, None, || false), hosts(LOCAL));
    }
}
