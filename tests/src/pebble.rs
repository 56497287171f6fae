//! An ACME server on the loopback: Debian's pebble, with a DNS server that tests can tell what to
//! answer. Both end with [`Pebble`].

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::place::Places;
use crate::{LabError, Node, Result, packages};

/// How long the servers may take to start.
const STARTING: Duration = Duration::from_secs(20);

/// How a server differs from the usual one.
#[derive(Debug, Clone, Default)]
pub struct PebbleOptions {
    /// Identifier and key (base64url) of the external account that it demands.
    pub external_account: Option<(String, String)>,
    /// How many of a hundred nonces it refuses although they are good.
    pub bad_nonces: u8,
}

/// A running ACME server.
#[derive(Debug)]
pub struct Pebble {
    directory: tempfile::TempDir,
    children: Vec<Child>,
    /// The URL of its directory.
    pub url: url::Url,
    /// The CA (PEM) of its own TLS certificate.
    pub ca: Vec<u8>,
    /// The root (PEM) of what it issues.
    pub root: Vec<u8>,
    /// Where it looks for answers of http-01, whatever the name.
    pub http: SocketAddr,
    /// Where the DNS server is told what to answer.
    pub dns_control: SocketAddr,
    client: reqwest::Client,
}

impl Drop for Pebble {
    fn drop(&mut self) {
        for child in &mut self.children {
            // One that has ended already is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The way of a lab's guests to the DNS server, until it is dropped.
#[derive(Debug)]
pub struct Zone(JoinHandle<()>);

impl Drop for Zone {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Edits the zone of the DNS server, as `nsupdate` would, and keeps a record of it.
const ZONE: &str = r#"#!/bin/sh
echo "$1 $2" >>/run/zone
case "$1" in
    set) body="{\"host\":\"$2.\",\"value\":\"$3\"}" ;;
    clear) body="{\"host\":\"$2.\"}" ;;
esac
exec busybox wget -q -O /dev/null --post-data "$body" "http://DNS/$1-txt"
"#;

/// Ports of the loopback that are free now.
fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let at = Path::new("127.0.0.1");
    let mut ports = [0; N];
    let mut held = Vec::new();
    for port in &mut ports {
        let socket = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .map_err(LabError::io("listen on", at))?;
        *port = socket
            .local_addr()
            .map_err(LabError::io("listen on", at))?
            .port();
        held.push(socket);
    }
    Ok(ports)
}

fn malformed(error: impl std::fmt::Display) -> LabError {
    LabError::Malformed(error.to_string())
}

/// Writes a certificate for 127.0.0.1 with its key; returns the CA (PEM).
fn identity(certificate: &Path, key: &Path) -> Result<Vec<u8>> {
    let ca_key = KeyPair::generate().map_err(malformed)?;
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).map_err(malformed)?;
    let leaf_key = KeyPair::generate().map_err(malformed)?;
    let leaf = CertificateParams::new(["127.0.0.1".to_owned()])
        .and_then(|params| params.signed_by(&leaf_key, &Issuer::new(ca, ca_key)))
        .map_err(malformed)?;
    fs::write(certificate, leaf.pem()).map_err(LabError::io("write", certificate))?;
    fs::write(key, leaf_key.serialize_pem()).map_err(LabError::io("write", key))?;
    Ok(ca_certificate.pem().into_bytes())
}

impl Pebble {
    /// Starts one. Every name resolves to the loopback.
    ///
    /// # Errors
    /// Where the package cannot be had or a server does not start.
    pub async fn start(options: &PebbleOptions) -> Result<Self> {
        let programs = packages::unpack(&Places::of_this_user()?, "pebble", "pebble").await?;
        let directory = tempfile::tempdir().map_err(LabError::io("make", Path::new("a folder")))?;
        let [api, management, http, tls, dns, control] = free_ports()?;
        let at = |name: &str| directory.path().join(name);
        let ca = identity(&at("pebble.pem"), &at("pebble.key"))?;
        let mut config = serde_json::json!({
            "listenAddress": format!("127.0.0.1:{api}"),
            "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": at("pebble.pem"),
            "privateKey": at("pebble.key"),
            "httpPort": http,
            "tlsPort": tls,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": options.external_account.is_some(),
        });
        if let Some((id, key)) = &options.external_account {
            config["externalAccountMACKeys"] = serde_json::json!({ id: key });
        }
        let config = serde_json::json!({ "pebble": config }).to_string();
        fs::write(at("config.json"), config).map_err(LabError::io("write", &at("config.json")))?;
        let mut dns_server = programs.command("pebble-challtestsrv")?;
        dns_server
            .args(["-http01", "", "-https01", "", "-tlsalpn01", ""])
            .args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""])
            .args(["-dns01", &format!("127.0.0.1:{dns}")])
            .args(["-management", &format!("127.0.0.1:{control}")]);
        let mut server = programs.command("pebble")?;
        server
            .arg("-config")
            .arg(at("config.json"))
            .args(["-dnsserver", &format!("127.0.0.1:{dns}")])
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env("PEBBLE_WFE_NONCEREJECT", options.bad_nonces.to_string());
        let certificate = reqwest::Certificate::from_pem(&ca).map_err(malformed)?;
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([certificate])
            .timeout(Duration::from_secs(10))
            .build()
            .map_err(malformed)?;
        let mut pebble = Self {
            children: Vec::new(),
            url: format!("https://127.0.0.1:{api}/dir")
                .parse()
                .map_err(malformed)?,
            ca,
            root: Vec::new(),
            http: (Ipv4Addr::LOCALHOST, http).into(),
            dns_control: (Ipv4Addr::LOCALHOST, control).into(),
            client,
            directory,
        };
        for (name, command) in [("dns", dns_server), ("pebble", server)] {
            let child = start(command, &pebble.log(name))?;
            pebble.children.push(child);
        }
        pebble.root = pebble.fetch_root(management).await?;
        Ok(pebble)
    }

    fn log(&self, name: &str) -> PathBuf {
        self.directory.path().join(format!("{name}.log"))
    }

    /// What the ACME server has said so far.
    #[must_use]
    pub fn said(&self) -> String {
        fs::read_to_string(self.log("pebble")).unwrap_or_default()
    }

    async fn fetch_root(&self, management: u16) -> Result<Vec<u8>> {
        let url = format!("https://127.0.0.1:{management}/roots/0");
        let until = Instant::now() + STARTING;
        loop {
            if let Ok(answer) = self.client.get(&url).send().await
                && answer.status().is_success()
                && let Ok(root) = answer.bytes().await
            {
                return Ok(root.to_vec());
            }
            if Instant::now() > until {
                return Err(LabError::Program {
                    what: "pebble".into(),
                    status: "its start".into(),
                    stderr: self.said(),
                });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Gives a guest the command `/usr/local/bin/zone set|clear NAME VALUE`, which edits the zone
    /// of the DNS server and notes that in `/run/zone`. Guests reach the server by the address
    /// `gateway` of their network.
    ///
    /// # Errors
    /// Where the address cannot be listened at, or the guest does not take the command.
    pub async fn serve_zone(&self, gateway: Ipv4Addr, node: &Node) -> Result<Zone> {
        let at = Path::new("the lab's bridge");
        let bridge = TcpListener::bind((gateway, 0))
            .await
            .map_err(LabError::io("listen on", at))?;
        let address = bridge.local_addr().map_err(LabError::io("listen on", at))?;
        let command = ZONE.replace("DNS", &address.to_string());
        let dns = self.dns_control;
        let zone = Zone(tokio::spawn(async move {
            while let Ok((mut from, _)) = bridge.accept().await {
                tokio::spawn(async move {
                    // Whoever closes first ends it; a guest that gets no answer says so.
                    if let Ok(mut to) = TcpStream::connect(dns).await {
                        let _ = copy_bidirectional(&mut from, &mut to).await;
                    }
                });
            }
        }));
        node.write_file("/usr/local/bin/zone", 0o755, command.as_bytes())
            .await?;
        Ok(zone)
    }

    /// Tells the DNS server something: `set-txt` with `host` and `value`, `clear-txt` with `host`.
    ///
    /// # Errors
    /// Where it refuses.
    pub async fn tell_dns(&self, what: &str, body: &serde_json::Value) -> Result<()> {
        self.client
            .post(format!("http://{}/{what}", self.dns_control))
            .body(body.to_string())
            .send()
            .await
            .and_then(reqwest::Response::error_for_status)
            .map(drop)
            .map_err(malformed)
    }
}

fn start(mut command: Command, log: &Path) -> Result<Child> {
    let out = fs::File::create(log).map_err(LabError::io("create", log))?;
    let err = out.try_clone().map_err(LabError::io("create", log))?;
    command
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .spawn()
        .map_err(LabError::io("start", log))
}
