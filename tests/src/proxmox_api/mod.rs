//! A Proxmox VE API server in front of real guest agents. **A fake**: it may stand in for Proxmox
//! VE only because that cannot run where the tests do (it needs its own kernel and cluster file
//! system). What is behind it is real: `qemu-ga` processes on unix sockets, in real guests.
//!
//! Faithful to pve-http-server 6.0, pve-manager 9.2, qemu-server 9.2, as read in their source and
//! measured on their real server code:
//! - TLS with a leaf from a private root; plain HTTP on the same port is redirected; HTTP/1.1 only;
//! - API tokens, the three seconds before a 401 and its empty body; permissions, checked before
//!   existence and parameters;
//! - keep-alive: five idle seconds, a hundred requests, closed after any status from 400 on; two
//!   `Connection` headers on answers that came through the inner daemon;
//! - limits on headers and bodies, refusal of chunked bodies and of bodies on GET and DELETE;
//! - forms that split on `;` and lose what follows a second `=`, repeated keys, JSON bodies,
//!   parameter verification with its texts, unknown parameters refused;
//! - `/api2/json` with texts in the reason phrase, the crash on characters above U+00FF, and
//!   `/api2/extjs`, which answers 200;
//! - three workers per node, thirty seconds until 596 while the call goes on;
//! - the agent: checks in order, three seconds for the ping and five for the command, one client
//!   at a time, a character count where bytes were meant (so non-ASCII arguments wedge the agent),
//!   bytes as code points, size limits of the API and of the host's slow parser;
//! - tasks with UPIDs, run against the guest through [`VmControl`].
//!
//! Not imitated: tickets and CSRF tokens (any ticket is refused), compression, HA, LXC, several
//! API hosts (one server answers for every node), statistics, and every call not listed in
//! `routes`, which answers 501 as an older server would.

mod access;
mod agent;
mod agent_calls;
mod answer;
mod cluster;
mod faults;
mod guests;
mod identity;
mod record;
mod routes;
mod schema;
mod session;
mod tasks;
mod wire;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

pub use access::{Privileges, Token};
pub use faults::{Fault, Faults, Filter, Injection};
pub use guests::{Vm, VmControl};
pub use identity::IdentityError;
pub use record::{Recorded, Request};

/// How to start a [`Server`].
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The VMs of the cluster. Their nodes are its nodes; without any there is `pve1`.
    pub vms: Vec<Vm>,
    /// The tokens it knows.
    pub tokens: Vec<Token>,
    /// How long a 401 is held back. Default: 3 s, as the original.
    pub unauthorized_delay: Duration,
    /// How long an agent may take to answer a ping before it counts as not running. Default: 3 s.
    pub ping_timeout: Duration,
    /// How long an agent command may take. Default: 5 s.
    pub command_timeout: Duration,
    /// How long the outer daemon waits for the inner one. Default: 30 s.
    pub proxy_timeout: Duration,
    /// How long a crashed worker's client waits. Default: 5 s.
    pub crash_delay: Duration,
    /// How long a connection may be idle. Default: 5 s.
    pub idle_timeout: Duration,
    /// Workers of each node's inner daemon: calls in it at once. Default: 3.
    pub workers: usize,
    /// Whether file-read knows `count`, `offset` and `decode` (qemu-server 9.1.5 and later).
    /// Default: true.
    pub file_read_options: bool,
    /// Bytes of an agent's answer above which the host's parser runs out of time. Default: 4 MiB.
    pub answer_limit: usize,
    /// The version it claims. Default: `9.1.6`.
    pub version: String,
    /// Names and addresses in its certificate, beside those it listens on and `localhost`.
    pub names: Vec<String>,
    /// Where root and leaf are kept (mode 0600), so that a server started again is the same to
    /// its clients. Default: nowhere.
    pub identity: Option<PathBuf>,
}

impl ServerOptions {
    /// The original's times and limits, no VMs, no tokens.
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            vms: Vec::new(),
            tokens: Vec::new(),
            unauthorized_delay: Duration::from_secs(3),
            ping_timeout: Duration::from_secs(3),
            command_timeout: Duration::from_secs(5),
            proxy_timeout: Duration::from_secs(30),
            crash_delay: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(5),
            workers: 3,
            file_read_options: true,
            answer_limit: 4 * 1024 * 1024,
            version: "9.1.6".to_owned(),
            names: Vec::new(),
            identity: None,
        }
    }

    /// On a free port of 127.0.0.1.
    pub fn loopback() -> Self {
        Self::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The address could not be listened on.
    #[error("the Proxmox API server cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No certificate.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// A running server. It ends when dropped.
pub struct Server {
    address: SocketAddr,
    ca_pem: String,
    cluster: Arc<cluster::Cluster>,
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Server {
    /// Starts it.
    ///
    /// # Errors
    /// When the address is taken, or the certificate cannot be made, read or kept.
    pub async fn start(options: ServerOptions) -> Result<Self, StartError> {
        let address = options.listen;
        let listen = |source| StartError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;

        let mut nodes: Vec<String> = options.vms.iter().map(|vm| vm.node.clone()).collect();
        if nodes.is_empty() {
            nodes.push("pve1".to_owned());
        }
        let mut names = vec![
            "127.0.0.1".to_owned(),
            "::1".to_owned(),
            "localhost".to_owned(),
        ];
        if !address.ip().is_unspecified() {
            names.push(address.ip().to_string());
        }
        names.extend(nodes.iter().cloned());
        names.extend(options.names.iter().cloned());
        names.sort_unstable();
        names.dedup();
        let identity = identity::Identity::obtain(options.identity.as_deref(), &nodes[0], &names)?;
        let acceptor = TlsAcceptor::from(identity.tls()?);

        let answer_limit = options.answer_limit;
        let cluster = Arc::new(cluster::Cluster {
            version: options.version,
            fingerprint: identity.fingerprint()?,
            guests: options
                .vms
                .into_iter()
                .map(|vm| (vm.vmid, guests::Guest::new(vm, answer_limit)))
                .collect(),
            nodes: nodes
                .into_iter()
                .map(|node| (node, Semaphore::new(options.workers)))
                .collect(),
            tokens: options.tokens,
            tasks: tasks::Tasks::new(),
            log: record::RequestLog::new(),
            faults: Faults::default(),
            limits: agent_calls::Limits {
                ping: options.ping_timeout,
                command: options.command_timeout,
            },
            routes: routes::routes(options.file_read_options),
            unauthorized_delay: options.unauthorized_delay,
            proxy_timeout: options.proxy_timeout,
            crash_delay: options.crash_delay,
            idle: options.idle_timeout,
        });
        let (stop, stopped) = watch::channel(false);
        let accepting = tokio::spawn(accept(listener, acceptor, Arc::clone(&cluster), stopped));
        Ok(Self {
            address,
            ca_pem: identity.ca_pem,
            cluster,
            stop,
            accepting,
        })
    }

    /// `https://address:port`, without a path. An unspecified address becomes 127.0.0.1.
    pub fn url(&self) -> String {
        format!("https://{}", self.address())
    }

    /// Where it can be reached.
    pub fn address(&self) -> SocketAddr {
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
        }
        address
    }

    /// The root certificate.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// SHA-256 of the leaf's DER as the original writes it: `AA:BB:...`.
    pub fn fingerprint(&self) -> &str {
        &self.cluster.fingerprint
    }

    /// What was asked so far, in order of arrival.
    pub fn requests(&self) -> Vec<Request> {
        self.cluster.log.all()
    }

    /// The requests among them that were meant to change something ([`Request::is_write`]).
    pub fn writes(&self) -> Vec<Request> {
        self.requests()
            .into_iter()
            .filter(Request::is_write)
            .collect()
    }

    /// Forgets what was asked so far. Call it when no request is under way.
    pub fn clear_requests(&self) {
        self.cluster.log.clear();
    }

    /// The faults to put into requests.
    pub fn faults(&self) -> Faults {
        self.cluster.faults.clone()
    }

    /// Says in the VM's configuration that it has an agent, or that it has none. False when there
    /// is no such VM. (An agent that is configured but silent:
    /// [`Faults::set_agent_answering`].)
    pub fn set_agent(&self, vmid: u32, enabled: bool) -> bool {
        let guest = self.cluster.guests.get(&vmid);
        if let Some(guest) = guest {
            guest.set_agent_enabled(enabled);
        }
        guest.is_some()
    }

    /// Ends it: no new connections, the old ones dropped, calls under way left to finish.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        // Its end is all there is to know.
        let _ = (&mut self.accepting).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Server")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    cluster: Arc<cluster::Cluster>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    let mut number = 0;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.wait_for(|stop| *stop) => break,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(connect(
                    stream,
                    acceptor.clone(),
                    Arc::clone(&cluster),
                    number,
                ));
                number += 1;
            }
            // Out of descriptors, or a client gone before its turn: the next may succeed.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn connect(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    cluster: Arc<cluster::Cluster>,
    number: usize,
) {
    let mut first = [0];
    let peeked = tokio::time::timeout(cluster.idle, stream.peek(&mut first)).await;
    if !matches!(peeked, Ok(Ok(1))) {
        return;
    }
    // 0x16 begins a TLS handshake.
    if first[0] != 0x16 {
        return session::redirect(cluster, stream).await;
    }
    // A slow last segment must not wait for an acknowledgement.
    let _ = stream.set_nodelay(true);
    if let Ok(Ok(stream)) = tokio::time::timeout(cluster.idle, acceptor.accept(stream)).await {
        session::serve(cluster, stream, number).await;
    }
}
