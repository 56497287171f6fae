//! What the steps of a site share: its declaration, its state, and the ways to its servers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::explain;
use super::issuers::{self, IssuerSecrets};
use super::needs::{self, StackNeeds};
use super::session::local;
use super::state::State;
use super::{Cycle, Failure, FailureClass};
use crate::deploy::Credentials;
use crate::docker::{Engine, SwarmState, TlsIdentity};
use crate::ground::document::{Position, Problems};
use crate::ground::{Deadline, SecretBytes, Trust};
use crate::guest::{AgentGuest, Guest};
use crate::pki::{Acme, Bundle, EmbeddedCa, StepCa};
use crate::proxmox::{Agent, ApiToken, Client};
use crate::site::{
    DockerAddress, DockerEndpoint, DockerTls, Reach, SecretSource, ServerTrust, Site, ValueSource,
};
use crate::stack::ComposeFile;
use crate::stack::model::Place;

type Environment = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// What a session takes from its surroundings. The library itself never reads the process's
/// environment.
#[non_exhaustive]
pub struct Inputs {
    environment: Environment,
}

impl Inputs {
    /// Environment variables are looked up with `environment`.
    pub fn new(environment: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self {
            environment: Box::new(environment),
        }
    }
}

impl std::fmt::Debug for Inputs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inputs").finish_non_exhaustive()
    }
}

/// Why a site cannot be opened. Nothing has been touched then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A compose file is wrong, or does not fit the site.
    #[error(transparent)]
    Problems(#[from] Problems),
    /// A file that the site refers to cannot be read.
    #[error("{what}: {} cannot be read", .path.display())]
    Unreadable {
        /// What refers to it.
        what: String,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// An environment variable that the site refers to is not set.
    #[error("{what}: the environment variable {variable} is not set")]
    Unset {
        /// What refers to it.
        what: String,
        /// The variable.
        variable: String,
    },
    /// What was read is not what it should be.
    #[error("{what}: {problem}")]
    Unusable {
        /// What it is for.
        what: String,
        /// What is wrong.
        problem: String,
    },
    /// Resources need each other.
    #[error("the site has {0}")]
    Cycle(#[source] Cycle),
}

/// What the steps of a site share.
pub(super) struct Context {
    pub(super) site: Site,
    pub(super) state: State,
    pub(super) proxmox: Option<Client>,
    pub(super) stacks: BTreeMap<String, ComposeFile>,
    pub(super) stack_needs: BTreeMap<String, StackNeeds>,
    /// Credentials for image registries.
    pub(super) registries: Option<Credentials>,
    /// The contents of secrets that come from files and the environment.
    pub(super) contents: BTreeMap<String, SecretBytes>,
    /// What the issuers need to issue.
    pub(super) issuer_secrets: IssuerSecrets,
    pub(super) warnings: Vec<String>,
    /// Held while a daemon is restarted, so that a swarm loses one node at a time.
    pub(super) restarts: tokio::sync::Mutex<()>,
    /// Whether specs that were rolled back are written once more in this run.
    retry_rolled_back: AtomicBool,
    /// Stored bundles that are issued anew in this run although they are not due.
    forced: Mutex<BTreeSet<PathBuf>>,
    guests: BTreeMap<String, Arc<AgentGuest>>,
    agents: BTreeMap<String, Agent>,
    engines: Mutex<BTreeMap<String, Engine>>,
    /// The ACME issuers that were made, by name: their orders share what they know.
    pub(super) acme: Mutex<BTreeMap<Option<String>, Acme>>,
    step_cas: Mutex<BTreeMap<Option<String>, StepCa>>,
    /// The embedded CAs that have been read, by the issuer's name.
    authorities: Mutex<BTreeMap<Option<String>, EmbeddedCa>>,
}

/// How long a single look at a server may take while observing.
const LOOK: Duration = Duration::from_secs(15);

impl Context {
    pub(super) fn open(site: Site, inputs: Inputs) -> Result<Self, OpenError> {
        let mut warnings = Vec::new();
        let proxmox = match &site.proxmox {
            Some(endpoint) => {
                let token = token(&endpoint.token, &inputs)?;
                let trust = trust("proxmox.ca", &endpoint.trust)?;
                Some(
                    Client::connect(&endpoint.url, &token, &trust)
                        .map_err(|error| unusable("proxmox", &error))?,
                )
            }
            None => None,
        };
        let mut guests = BTreeMap::new();
        let mut agents = BTreeMap::new();
        for (name, guest) in &site.guests {
            if let (Reach::Agent, Some(vmid), Some(client)) = (guest.reach, guest.vmid, &proxmox) {
                let agent = match &guest.node {
                    Some(node) => client.agent_on(node, vmid),
                    None => client.agent(vmid),
                };
                guests.insert(name.clone(), Arc::new(AgentGuest::new(name, agent.clone())));
                agents.insert(name.clone(), agent);
            }
        }
        let contents = contents(&site, &inputs)?;
        let registries = registries(&site, &inputs)?;
        let issuer_secrets = issuers::secrets(&site, &inputs)?;
        let mut stacks = BTreeMap::new();
        let mut stack_needs = BTreeMap::new();
        let mut problems = Vec::new();
        for (name, stack) in &site.stacks {
            let read = ComposeFile::load_files(&stack.compose.paths, name, &stack.load_options())
                .and_then(|compose| Ok((references(&site, &compose)?, compose)));
            match read {
                Ok((needs, compose)) => {
                    warnings.extend(compose.warnings().iter().map(ToString::to_string));
                    stack_needs.insert(name.clone(), needs);
                    stacks.insert(name.clone(), compose);
                }
                Err(Problems(found)) => problems.extend(found),
            }
        }
        if !problems.is_empty() {
            return Err(Problems(problems).into());
        }
        Ok(Self {
            state: State::new(site.state.clone()),
            proxmox,
            stacks,
            stack_needs,
            registries,
            contents,
            issuer_secrets,
            warnings,
            restarts: tokio::sync::Mutex::new(()),
            retry_rolled_back: AtomicBool::new(false),
            forced: Mutex::default(),
            guests,
            agents,
            engines: Mutex::default(),
            acme: Mutex::default(),
            step_cas: Mutex::default(),
            authorities: Mutex::default(),
            site,
        })
    }

    /// Whether specs that were rolled back are written once more.
    pub(super) fn retry_rolled_back(&self) -> bool {
        self.retry_rolled_back.load(Ordering::SeqCst)
    }

    pub(super) fn set_retry_rolled_back(&self, retry: bool) {
        self.retry_rolled_back.store(retry, Ordering::SeqCst);
    }

    /// Has the bundle stored at `path` issued anew once, due or not.
    pub(super) fn force(&self, path: PathBuf) {
        self.forced().insert(path);
    }

    /// The bundles that are still to be issued anew although they are not due.
    pub(super) fn forced(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.forced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A deadline for one look at a server.
    pub(super) fn look(&self) -> Deadline {
        Deadline::after(LOOK.min(self.site.timeouts.request))
    }

    /// A deadline for one request that acts.
    pub(super) fn act(&self) -> Deadline {
        Deadline::after(self.site.timeouts.request)
    }

    pub(super) fn guest(&self, name: &str) -> Result<Arc<dyn Guest>, Failure> {
        if let Some(guest) = self.guests.get(name) {
            return Ok(Arc::clone(guest) as Arc<dyn Guest>);
        }
        let failure = if self.site.guests.contains_key(name) {
            Failure::message(
                FailureClass::Failed,
                format!("guest {name} has no vmid, so no program can be run in it"),
            )
        } else {
            let names: Vec<_> = self.site.guests.keys().map(String::as_str).collect();
            Failure::message(FailureClass::Failed, format!("there is no guest {name}"))
                .hint(format!("declared are: {}", names.join(", ")))
        };
        Err(failure)
    }

    /// The guest agent of `name`.
    pub(super) fn agent(&self, name: &str) -> Option<&Agent> {
        self.agents.get(name)
    }

    /// The engine of `guest`. For a managed one Phoenix's client certificate must have been
    /// issued.
    pub(super) fn engine(&self, guest: &str) -> Result<Engine, Failure> {
        if let Some(engine) = self.engines().get(guest) {
            return Ok(engine.clone());
        }
        let endpoint = self
            .site
            .guests
            .get(guest)
            .and_then(|guest| guest.docker.as_ref())
            .ok_or_else(|| {
                Failure::message(
                    FailureClass::Failed,
                    format!("guest {guest} has no Docker endpoint"),
                )
            })?;
        let engine = self
            .connect(endpoint)
            .map_err(|failure| failure.context(format!("the Docker engine of {guest}")))?;
        self.engines().insert(guest.to_owned(), engine.clone());
        Ok(engine)
    }

    fn connect(&self, endpoint: &DockerEndpoint) -> Result<Engine, Failure> {
        let (host, port) = match &endpoint.address {
            DockerAddress::Unix(path) => return Ok(Engine::unix(path)),
            DockerAddress::Tcp { host, port } => (host, *port),
        };
        let identity = match &endpoint.tls {
            Some(DockerTls::Files {
                ca,
                certificate,
                key,
            }) => TlsIdentity {
                ca_pem: read(ca)?,
                cert_chain_pem: read(certificate)?,
                key: SecretBytes::new(read(key)?),
            },
            Some(DockerTls::Managed(_)) => {
                let bundle = Bundle::load(&self.state.docker_client())
                    .map_err(|error| local("Phoenix's client certificate", &error))?
                    .ok_or_else(|| {
                        Failure::message(
                            FailureClass::Failed,
                            "Phoenix's client certificate has not been issued yet",
                        )
                    })?;
                TlsIdentity {
                    ca_pem: bundle.root_pem().into_bytes(),
                    cert_chain_pem: bundle.chain_pem().into_bytes(),
                    key: bundle.key_pem(),
                }
            }
            None => {
                return Err(Failure::message(
                    FailureClass::Failed,
                    "a TCP address needs TLS",
                ));
            }
        };
        Engine::tcp_tls(host, port, &identity).map_err(|error| local("TLS", &error))
    }

    /// Forgets the connections of managed engines: Phoenix's client certificate has changed.
    pub(super) fn forget_engines(&self) {
        self.engines().clear();
    }

    fn engines(&self) -> MutexGuard<'_, BTreeMap<String, Engine>> {
        self.engines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The step-ca servers that have been made of their declarations, by their names.
    pub(super) fn step_cas(&self) -> MutexGuard<'_, BTreeMap<Option<String>, StepCa>> {
        self.step_cas.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The embedded CAs that have been read, by the issuers' names.
    pub(super) fn authorities(&self) -> MutexGuard<'_, BTreeMap<Option<String>, EmbeddedCa>> {
        self.authorities
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The engine of a manager that answers and takes part in the swarm, the first one declared
    /// where several do; should it stop answering, the others stand in for it.
    pub(super) async fn manager(&self) -> Result<(String, Engine), Failure> {
        let mut last = None;
        for name in needs::managers(&self.site) {
            let engine = self.engine(name)?;
            match engine.info(self.look()).await {
                Ok(info) => match &info.swarm {
                    SwarmState::Active(active) if active.can_manage() => {
                        let others = needs::managers(&self.site)
                            .filter(|other| *other != name)
                            .filter_map(|other| self.engine(other).ok());
                        let engines = std::iter::once(engine.clone()).chain(others);
                        let engine = Engine::any_of(engines).unwrap_or(engine);
                        return Ok((name.to_owned(), engine));
                    }
                    state => last = Some(explain::unusable_manager(name, state)),
                },
                Err(error) => last = Some(explain::engine(name, &error)),
            }
        }
        Err(last.unwrap_or_else(|| {
            Failure::message(FailureClass::Failed, "no guest is declared as a manager")
        }))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| local(path.display(), &error))
}

fn unusable(what: impl Into<String>, error: &dyn std::error::Error) -> OpenError {
    OpenError::Unusable {
        what: what.into(),
        problem: super::failure::chain(error),
    }
}

fn read_for(what: &str, path: &Path) -> Result<Vec<u8>, OpenError> {
    fs::read(path).map_err(|source| OpenError::Unreadable {
        what: what.to_owned(),
        path: path.to_owned(),
        source,
    })
}

fn variable(what: &str, name: &str, inputs: &Inputs) -> Result<String, OpenError> {
    (inputs.environment)(name)
        .filter(|value| !value.is_empty())
        .ok_or_else(|| OpenError::Unset {
            what: what.to_owned(),
            variable: name.to_owned(),
        })
}

/// What a declared source holds, without white space at its end.
pub(super) fn value(
    what: &str,
    source: &ValueSource,
    inputs: &Inputs,
) -> Result<SecretBytes, OpenError> {
    let content = match source {
        ValueSource::Environment(name) => SecretBytes::from(variable(what, name, inputs)?),
        ValueSource::File(path) => SecretBytes::new(read_for(what, path)?),
    };
    let trimmed = content.expose().trim_ascii_end();
    if trimmed.is_empty() {
        return Err(OpenError::Unusable {
            what: what.to_owned(),
            problem: "it is empty".to_owned(),
        });
    }
    Ok(SecretBytes::new(trimmed.to_vec()))
}

fn token(source: &ValueSource, inputs: &Inputs) -> Result<ApiToken, OpenError> {
    let what = "proxmox.token";
    let text = value(what, source, inputs)?;
    let text = text.expose_str().map_err(|_| OpenError::Unusable {
        what: what.to_owned(),
        problem: "it is not text".to_owned(),
    })?;
    text.trim()
        .parse()
        .map_err(|error: crate::proxmox::TokenError| unusable(what, &error))
}

/// Reads what a declared trust refers to. The site's own CA is not known here.
pub(super) fn trust(what: &str, declared: &ServerTrust) -> Result<Trust, OpenError> {
    Ok(match declared {
        ServerTrust::CaFile(path) => Trust::CaPem(read_for(what, path)?),
        ServerTrust::Fingerprint(fingerprint) => Trust::Fingerprint(*fingerprint),
        ServerTrust::System | ServerTrust::SiteCa => Trust::System,
    })
}

/// The credentials that the site declares for image registries; none where it declares none.
fn registries(site: &Site, inputs: &Inputs) -> Result<Option<Credentials>, OpenError> {
    let mut credentials = None;
    for (registry, login) in &site.registries {
        let what = format!("registries.{registry}.password");
        let password = value(&what, &login.password, inputs)?;
        credentials
            .get_or_insert_with(Credentials::default)
            .add(registry, &login.username, &password)
            .map_err(|error| unusable(&what, &error))?;
    }
    Ok(credentials)
}

fn contents(site: &Site, inputs: &Inputs) -> Result<BTreeMap<String, SecretBytes>, OpenError> {
    let mut contents = BTreeMap::new();
    for (name, secret) in &site.secrets {
        let what = format!("secrets.{name}");
        let content = match &secret.source {
            SecretSource::File(path) => SecretBytes::new(read_for(&what, path)?),
            SecretSource::Environment(variable_name) => {
                SecretBytes::from(variable(&what, variable_name, inputs)?)
            }
            SecretSource::Certificate { .. } => continue,
        };
        if content.is_empty() {
            return Err(OpenError::Unusable {
                what,
                problem: "it is empty; Docker takes secrets of 1 to 511,999 bytes".to_owned(),
            });
        }
        if content.len() >= 512_000 {
            return Err(OpenError::Unusable {
                what,
                problem: format!(
                    "it has {} bytes; Docker takes secrets of 1 to 511,999 bytes",
                    content.len()
                ),
            });
        }
        contents.insert(name.clone(), content);
    }
    Ok(contents)
}

/// What a compose file refers to that Phoenix manages. A reference that leads nowhere is a
/// problem at its place.
fn references(site: &Site, compose: &ComposeFile) -> Result<StackNeeds, Problems> {
    let mut needs = StackNeeds::default();
    let mut problems = Vec::new();
    let found = compose.references();
    for network in &found.networks {
        if site.networks.contains_key(&network.name) {
            needs.networks.insert(network.name.clone());
        } else {
            problems.push(compose.problem(
                &network.place,
                Some(&network.name),
                "the site declares no network of this name",
                Some(undeclared("networks", site.networks.keys())),
            ));
        }
    }
    for secret in &found.secrets {
        if site.secrets.contains_key(&secret.name) {
            needs.secrets.insert(secret.name.clone());
        } else {
            problems.push(compose.problem(
                &secret.place,
                Some(&secret.name),
                "the site declares no secret of this name",
                Some(undeclared("secrets", site.secrets.keys())),
            ));
        }
    }
    for secret in compose.secrets() {
        problems.push(compose.problem(
            &secret.place,
            None,
            "a secret that the stack makes is declared in the site file, which versions it",
            Some(format!(
                "declare it there under `secrets` with `file:`, and make it `external: true` with `name: {}` here",
                secret.name
            )),
        ));
    }
    let start = Place {
        source: compose.source().into(),
        position: Position { line: 1, column: 1 },
        path: "services".to_owned(),
    };
    for service in site.stacks[compose.stack()].service_labels.keys() {
        if service != "*" && !compose.services().contains_key(service) {
            let names: Vec<&str> = compose.services().keys().map(String::as_str).collect();
            problems.push(compose.problem(
                &start,
                Some(service),
                format!(
                    "the site adds labels to a service of stack {} that is not in this file",
                    compose.stack()
                ),
                Some(format!("its services are {}", names.join(", "))),
            ));
        }
    }
    if problems.is_empty() {
        Ok(needs)
    } else {
        Err(Problems(problems))
    }
}

fn undeclared<'a>(section: &str, names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<&str> = names.map(String::as_str).collect();
    if names.is_empty() {
        format!("declare it under `{section}` in the site file")
    } else {
        format!(
            "declare it under `{section}` in the site file, which has {}",
            names.join(", ")
        )
    }
}
