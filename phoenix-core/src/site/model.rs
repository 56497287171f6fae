//! The declared site as types. Everything in it has been validated and every reference resolves.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use indexmap::IndexMap;

use crate::pki::{KeyType, Profile, RenewalRule, SubjectAltName};
use crate::stack::{Compat, Dialect, LoadOptions};

/// A declared site. Paths are absolute: relative ones in the file are relative to its directory.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Site {
    /// The site's name: it labels what Phoenix creates.
    pub name: String,
    /// The directory of the site file.
    pub directory: PathBuf,
    /// Where Phoenix keeps the site's CA, issued bundles, records and lock (mode 0700).
    /// Default `.phoenix` beside the site file.
    pub state: PathBuf,
    /// The name of the environment (such as `production`) that chooses among the stacks'
    /// `environments`, already applied to them.
    pub environment: Option<String>,
    /// How to reach the Proxmox API; present when any guest is reached through it.
    pub proxmox: Option<ProxmoxEndpoint>,
    /// The issuer of the site's certificates, unless they name another.
    pub ca: CertificateAuthority,
    /// Further issuers by name.
    pub issuers: IndexMap<String, CertificateAuthority>,
    /// Guests by name.
    pub guests: IndexMap<String, Guest>,
    /// Settings that apply when the swarm is initialised.
    pub swarm: SwarmSettings,
    /// Overlay networks by name.
    pub networks: IndexMap<String, Network>,
    /// Docker secrets by logical name: the declared ones and those that certificates deliver to.
    pub secrets: IndexMap<String, SecretDeclaration>,
    /// Certificates by name.
    pub certificates: IndexMap<String, CertificateDeclaration>,
    /// Credentials for image registries, by their hosts.
    pub registries: IndexMap<String, RegistryLogin>,
    /// Stacks by name, the one of Portainer among them.
    pub stacks: IndexMap<String, Stack>,
    /// Portainer, when declared.
    pub portainer: Option<Portainer>,
    /// How long things may take.
    pub timeouts: Timeouts,
}

/// The credentials for an image registry.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RegistryLogin {
    /// The user.
    pub username: String,
    /// Where the password or access token comes from.
    pub password: ValueSource,
}

/// How to reach the Proxmox API.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ProxmoxEndpoint {
    /// `https://host:8006`, without a path.
    pub url: url::Url,
    /// Where the API token (`USER@REALM!ID=SECRET`) comes from.
    pub token: ValueSource,
    /// How the server is recognised.
    pub trust: ServerTrust,
}

/// How a TLS server is recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerTrust {
    /// By a chain to a CA certificate in this PEM file.
    CaFile(PathBuf),
    /// By the SHA-256 of its certificate (DER).
    Fingerprint([u8; 32]),
    /// By the roots that the operating system trusts.
    System,
    /// By a chain to the site's own CA.
    SiteCa,
}

/// An issuer of certificates.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum CertificateAuthority {
    /// A root and an intermediate that Phoenix creates on first use and keeps.
    Embedded(EmbeddedAuthority),
    /// A step-ca server.
    StepCa(StepCaAuthority),
    /// A server that speaks ACME (RFC 8555).
    Acme(AcmeAuthority),
}

/// A root and an intermediate that Phoenix creates on first use and keeps in `directory`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EmbeddedAuthority {
    /// Default `ca` in the site's state directory.
    pub directory: PathBuf,
    /// Common name of the root; the intermediate's is derived from it.
    pub common_name: String,
    /// Default 3650 days.
    pub root_lifetime: Duration,
    /// Default 1825 days; never longer than the root's.
    pub intermediate_lifetime: Duration,
    /// Of both keys. Default ECDSA P-256.
    pub key_type: KeyType,
    /// What both keys are encrypted with at rest; in the clear (mode 0600) when absent.
    pub passphrase: Option<ValueSource>,
}

/// A step-ca server and the JWK provisioners that sign there.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StepCaAuthority {
    /// `https://host:9000`, without a path. The host must be among the server's `dnsNames`.
    pub url: url::Url,
    /// The SHA-256 of the root's certificate (DER).
    pub fingerprint: [u8; 32],
    /// The name of the JWK provisioner for each profile.
    pub provisioners: BTreeMap<Profile, String>,
    /// With which the provisioners' keys are encrypted.
    pub password: ValueSource,
    /// The longest lifetime that the server grants. Default 24 h, as step-ca's.
    pub max_lifetime: Duration,
    /// Whether a certificate that is good for more than its profile is refused. Default: it is a
    /// warning.
    pub strict: bool,
}

/// An ACME server, and how Phoenix proves that names are the site's.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AcmeAuthority {
    /// The URL of the server's directory.
    pub directory: url::Url,
    /// How the server is recognised: by the operating system's roots or by a CA file.
    pub trust: ServerTrust,
    /// The roots (PEM) to which its certificates lead. Default: the CA file, or the operating
    /// system's roots.
    pub roots: Option<PathBuf>,
    /// Where the CA reaches the operator: `mailto:` URLs.
    pub contact: Vec<String>,
    /// The account at the CA to bind to, where it demands one.
    pub external_account: Option<ExternalAccount>,
    /// How names are proven.
    pub challenge: AcmeChallenge,
}

/// An account at a CA to which an ACME account is bound.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ExternalAccount {
    /// The key's identifier.
    pub key_id: String,
    /// The key for the HMAC, in base64url as CAs hand it out.
    pub key: ValueSource,
}

/// How Phoenix proves to an ACME server that a name is the site's.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AcmeChallenge {
    /// Phoenix itself answers `GET /.well-known/acme-challenge/…` at this address of the machine
    /// it runs on, while it waits.
    Http01 {
        /// Default `0.0.0.0:80`.
        listen: std::net::SocketAddr,
    },
    /// Commands in a guest set and clear a TXT record. Each gets the record's name and its value
    /// as its last two arguments.
    Dns01 {
        /// The guest.
        guest: String,
        /// Sets the record.
        set: Command,
        /// Clears it.
        clear: Command,
        /// How long the record may take to be seen everywhere. Default 10 s.
        propagation: Duration,
    },
}

/// Where a value comes from that is never written in the site file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ValueSource {
    /// An environment variable of the Phoenix process.
    Environment(String),
    /// A file that only its owner should be able to read.
    File(PathBuf),
}

/// A guest of the Proxmox cluster, or a machine reached through Docker alone.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Guest {
    /// Its VMID; present when [`Reach::Agent`].
    pub vmid: Option<u32>,
    /// The Proxmox node it must be on; looked up when absent.
    pub node: Option<String>,
    /// How programs are run and files placed inside.
    pub reach: Reach,
    /// Its Docker engine, when it has one.
    pub docker: Option<DockerEndpoint>,
    /// Its role in the swarm, when it belongs to it (needs `docker`).
    pub role: Option<SwarmRole>,
    /// The address (and optional port) the engine advertises in the swarm. Default: the host of
    /// a TCP Docker endpoint.
    pub advertise: Option<String>,
    /// Labels of its swarm node.
    pub labels: BTreeMap<String, String>,
}

/// How a guest is reached for programs and files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reach {
    /// Through the QEMU guest agent, by the Proxmox API.
    Agent,
    /// Not at all: only its Docker endpoint is used.
    DockerOnly,
}

/// The part a guest plays in the swarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SwarmRole {
    /// Takes part in the raft and can be asked to change the swarm.
    Manager,
    /// Runs tasks only.
    Worker,
}

/// How to reach a Docker engine.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DockerEndpoint {
    /// Where it listens.
    pub address: DockerAddress,
    /// Who Phoenix is to it, for a TCP address.
    pub tls: Option<DockerTls>,
}

/// Where a Docker engine listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DockerAddress {
    /// A unix socket on the machine Phoenix runs on.
    Unix(PathBuf),
    /// A TCP address with TLS.
    Tcp {
        /// Host name or IP address, without brackets.
        host: String,
        /// Default 2376.
        port: u16,
    },
}

/// How TLS with a Docker engine is set up.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum DockerTls {
    /// With files that exist already, all PEM.
    Files {
        /// The CA of the engine's certificate.
        ca: PathBuf,
        /// Phoenix's client certificate, with its chain.
        certificate: PathBuf,
        /// Its key.
        key: PathBuf,
    },
    /// Phoenix issues both sides from the site's CA and configures the daemon (needs
    /// [`Reach::Agent`]).
    Managed(DaemonSettings),
}

/// How Phoenix configures a managed Docker daemon.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DaemonSettings {
    /// Restarts the daemon; run only when something changed.
    pub restart: Command,
    /// Default `/etc/docker/daemon.json`.
    pub daemon_json: String,
    /// Where `ca.pem`, `server.pem` and `server-key.pem` go. Default `/etc/docker/phoenix`.
    pub certificates: String,
    /// The systemd unit whose `-H` flags would clash with `hosts` in daemon.json. Default
    /// `docker.service`.
    pub unit: String,
    /// Names in the daemon's certificate beside the endpoint's host and the guest's name.
    pub sans: Vec<SubjectAltName>,
    /// Of the daemon's certificate and of Phoenix's client certificate. Default 90 days.
    pub lifetime: Duration,
    /// When it is renewed. Default: after two thirds of its lifetime.
    pub rule: RenewalRule,
}

/// A program run in a guest: never a secret in it, it is visible to every process there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Command {
    /// The program and its arguments, ASCII only. One string in the site file is run by
    /// `/bin/sh -c`.
    pub argv: Vec<String>,
    /// How long it may run. Default 60 s.
    pub timeout: Duration,
}

impl std::fmt::Display for Command {
    /// As a shell would take it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words = self.argv.iter().map(String::as_str);
        match shlex::try_join(words) {
            Ok(line) => f.write_str(&line),
            Err(_) => write!(f, "{:?}", self.argv),
        }
    }
}

impl Command {
    /// A command of `argv` that may run for `timeout`.
    #[must_use]
    pub fn new(argv: Vec<String>, timeout: Duration) -> Self {
        Self { argv, timeout }
    }
}

/// Settings that apply when the swarm is initialised, and never later.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct SwarmSettings {
    /// Address pools of overlay networks, as CIDR. Default: the engine's.
    pub address_pools: Vec<String>,
    /// Prefix length of each overlay network within the pools. Default: the engine's (24).
    pub subnet_size: Option<u8>,
    /// Period of the dispatcher's heartbeat. Default: the engine's (5 s).
    pub heartbeat: Option<Duration>,
}

/// An overlay network that stacks share.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Network {
    /// Default `overlay`.
    pub driver: String,
    /// Whether containers outside the swarm's services may join. Default false.
    pub attachable: bool,
    /// Whether it has no way out. Default false.
    pub internal: bool,
    /// Subnets as CIDR. Default: chosen by the swarm.
    pub subnets: Vec<String>,
    /// Driver options.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// A Docker secret under its logical name.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SecretDeclaration {
    /// Where its content comes from.
    pub source: SecretSource,
    /// Labels beside those that Phoenix sets.
    pub labels: BTreeMap<String, String>,
}

/// Where the content of a secret comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecretSource {
    /// A file, byte for byte.
    File(PathBuf),
    /// An environment variable of the Phoenix process.
    Environment(String),
    /// A part of a declared certificate.
    Certificate {
        /// The certificate's name.
        name: String,
        /// Which part.
        part: CertificatePart,
    },
}

/// A part of an issued certificate, as PEM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum CertificatePart {
    /// The leaf alone.
    Certificate,
    /// The leaf, then the intermediate: what servers and clients present.
    Chain,
    /// The private key (PKCS#8).
    Key,
    /// The root: what peers trust.
    Ca,
    /// Key, leaf and intermediate in one file.
    Bundle,
}

/// A declared certificate.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CertificateDeclaration {
    /// The subject's common name.
    pub common_name: String,
    /// What it may be used for.
    pub profile: Profile,
    /// Its names, in declared order, without duplicates.
    pub sans: Vec<SubjectAltName>,
    /// Default 90 days.
    pub lifetime: Duration,
    /// When it is renewed. Default: after two thirds of its lifetime.
    pub rule: RenewalRule,
    /// The kind of its key. Default ECDSA P-256.
    pub key_type: KeyType,
    /// The name of its issuer among [`Site::issuers`]; [`Site::ca`] when absent.
    pub issuer: Option<String>,
    /// The guests it is delivered to. (Deliveries to Docker secrets are in [`Site::secrets`].)
    pub deliveries: Vec<Delivery>,
}

/// Files of a certificate in one guest, and what makes the guest use them.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Delivery {
    /// The guest's name.
    pub guest: String,
    /// The files, each with a path of its own.
    pub files: Vec<DeliveredFile>,
    /// Run after any of the files changed.
    pub reload: Option<Command>,
    /// Whether the previous files are put back when the reload failed or the check did not see
    /// the new certificate. Default false.
    pub rollback: bool,
    /// Where the new certificate must be seen after the reload.
    pub check: Option<ServedCheck>,
}

/// A TLS endpoint that must present a delivered certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServedCheck {
    /// Host name or IP address, without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// The server name (SNI) that is asked for. Default: the host.
    pub server_name: Option<String>,
    /// From where it is looked at.
    pub from: Viewpoint,
    /// How long after the reload the new certificate may take to appear. Default 30 s.
    pub timeout: Duration,
}

/// From where something is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Viewpoint {
    /// From the machine Phoenix runs on.
    Phoenix,
    /// From inside the guest that is delivered to, which needs `openssl` for it.
    Guest,
}

/// A file of a certificate in a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeliveredFile {
    /// What it holds.
    pub part: CertificatePart,
    /// Its absolute path, ASCII only.
    pub path: String,
    /// Owner's name or number. Default `root`.
    pub owner: String,
    /// Group's name or number. Default `root`.
    pub group: String,
    /// Its permission bits. Default 0600 where the part holds a key, 0644 elsewhere.
    pub mode: u32,
}

/// A stack of services.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Stack {
    /// Its compose files.
    pub compose: ComposeSource,
    /// The dialect of the files.
    pub dialect: Dialect,
    /// What becomes of what docker drops or changes without a word.
    pub compat: Compat,
    /// The profiles whose services are deployed.
    pub profiles: Vec<String>,
    /// Variables for `${VAR}` in the compose file. Phoenix's own environment is not used.
    pub variables: BTreeMap<String, String>,
    /// Labels added to services: by service name, or `*` for all.
    pub service_labels: BTreeMap<String, BTreeMap<String, String>>,
    /// Stacks that must have converged first.
    pub after: Vec<String>,
    /// How many old versions of a secret or config of the stack stay. Default 1.
    pub keep: usize,
    /// Whether what the compose files do not have any more is removed. Default false.
    pub prune: bool,
    /// How long its services may take to converge. Default [`Timeouts::converge`].
    pub timeout: Duration,
}

impl Stack {
    /// How its compose files are read.
    #[must_use]
    pub fn load_options(&self) -> LoadOptions {
        LoadOptions::default()
            .with_dialect(self.dialect)
            .with_compat(self.compat)
            .with_variables(self.variables.clone())
            .with_profiles(self.profiles.clone())
    }
}

/// The compose files of a stack.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ComposeSource {
    /// Their paths; each file is laid over those before it.
    pub paths: Vec<PathBuf>,
}

/// The site's Portainer.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Portainer {
    /// The stack that deploys it.
    pub stack: String,
    /// Where its API answers.
    pub url: url::Url,
    /// How it is recognised. Default: by the site's CA.
    pub trust: ServerTrust,
    /// The logical name of the secret with the admin's password.
    pub admin_password: String,
    /// Environments to register, by name.
    pub environments: IndexMap<String, PortainerEnvironment>,
    /// How long it may take to answer after its stack converged. Default 120 s.
    pub ready_timeout: Duration,
}

/// An environment that Portainer manages.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PortainerEnvironment {
    /// What answers at the address.
    pub kind: EnvironmentKind,
    /// Its URL as Portainer sees it: `unix:///var/run/docker.sock`, `tcp://tasks.agent:9001`,
    /// `tcp://host:2376`.
    pub url: String,
    /// TLS towards a Docker engine at a TCP address.
    pub tls: Option<EnvironmentTls>,
}

/// What answers at an environment's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EnvironmentKind {
    /// A Docker engine.
    Docker,
    /// A Portainer agent.
    Agent,
}

/// TLS from Portainer to a Docker engine.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EnvironmentTls {
    /// The declared client (or peer) certificate that Portainer presents; the engine is
    /// recognised by the site's CA.
    pub certificate: String,
}

/// How long things may take before they count as failed.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Timeouts {
    /// A guest running with its agent answering. Default 60 s.
    pub guest: Duration,
    /// One request to a server. Default 30 s.
    pub request: Duration,
    /// A swarm node ready after it joined; a daemon back after its restart. Default 120 s.
    pub node: Duration,
    /// The services of a stack converged. Default 5 min.
    pub converge: Duration,
}
