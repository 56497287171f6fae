//! A lab's Proxmox API, and the files of a site on it.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::lab::Lab;
use crate::node::Node;
use crate::place;
use crate::proxmox_api::{Server, ServerOptions, Token, Vm, VmControl};
use crate::template;
use crate::{LabError, Result};

/// The port of the Proxmox API on the lab's bridge.
pub const API_PORT: u16 = 8006;
/// The API token's name.
pub const TOKEN_ID: &str = "phoenix@pve!lab";

/// The file that marks a folder as one that a lab wrote and may remove.
const MARKER: &str = ".phoenix-lab";
/// Secrets of the demo site, made anew for each lab.
const SECRETS: &[&str] = &["portainer_admin_password", "api_token"];

/// What a client of a lab's Proxmox API needs.
#[derive(Clone, Serialize, Deserialize)]
pub struct Access {
    /// `https://address:port`.
    pub url: String,
    /// The root certificate.
    pub ca_pem: String,
    /// SHA-256 of the server's certificate, as Proxmox VE writes it.
    pub fingerprint: String,
    /// `USER@REALM!ID=SECRET`.
    pub token: String,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

#[async_trait::async_trait]
impl VmControl for Node {
    async fn is_running(&self) -> bool {
        self.running().await.unwrap_or(false)
    }

    async fn start(&self) -> Result<(), String> {
        Node::start(self).await.map_err(|error| error.chain())
    }

    async fn stop(&self) -> Result<(), String> {
        Node::stop(self).await.map_err(|error| error.chain())
    }
}

/// As many random bytes in hexadecimal.
fn random(bytes: usize) -> Result<String> {
    let mut random = vec![0; bytes];
    aws_lc_rs::rand::fill(&mut random)
        .map_err(|_| LabError::Unsuitable("no randomness to be had".to_owned()))?;
    Ok(hex::encode(random))
}

/// How to start the lab's Proxmox API: on its bridge, with its guests on two nodes, and one token
/// that may do everything. A test may change what it likes before [`serve`].
///
/// # Errors
/// Where there is no randomness for the token.
pub fn server_options(lab: &Lab) -> Result<ServerOptions> {
    let listen = SocketAddr::new(lab.gateway().into(), API_PORT);
    let mut options = ServerOptions::new(listen);
    options.vms = lab
        .nodes()
        .iter()
        .enumerate()
        .map(|(index, node)| Vm {
            vmid: node.vmid(),
            name: node.name().to_owned(),
            node: format!("pve{}", index % 2 + 1),
            agent_socket: node.qga_socket(),
            agent_enabled: true,
            control: Arc::new(node.clone()),
        })
        .collect();
    options.tokens = vec![Token::administrator(TOKEN_ID, &random(16)?)];
    Ok(options)
}

/// Starts the Proxmox API within this process.
///
/// # Errors
/// Where its address is taken.
pub async fn serve(options: ServerOptions) -> Result<(Server, Access)> {
    let token = options
        .tokens
        .first()
        .map(|token| format!("{}={}", token.id, token.secret))
        .unwrap_or_default();
    let server = Server::start(options)
        .await
        .map_err(|error| LabError::Wire {
            what: "the lab's Proxmox API did not start".to_owned(),
            source: Box::new(error),
        })?;
    let access = Access {
        url: server.url(),
        ca_pem: server.ca_pem().to_owned(),
        fingerprint: server.fingerprint().to_owned(),
        token,
    };
    Ok((server, access))
}

/// Writes a site into a folder: a template filled with the lab's addresses, the API's token and
/// root certificate (`proxmox.token`, `pve-root-ca.pem`), and random secrets (`secrets/`). A
/// folder that a lab wrote before is emptied first.
///
/// Beside [`template::values_of`], templates may use `PROXMOX_URL` and `PROXMOX_FINGERPRINT`.
///
/// # Errors
/// Where the folder holds something else, or the template names an unknown value.
pub fn write(lab: &Lab, access: &Access, from: &Path, to: &Path) -> Result<()> {
    remove(to)?;
    if to.exists() {
        return Err(LabError::Unsuitable(format!(
            "{} is there already and was not written by a lab",
            to.display()
        )));
    }
    place::make_dir(to)?;
    place::write(&to.join(MARKER), lab.name())?;
    let mut values = template::values_of(lab);
    values.insert("PROXMOX_URL".to_owned(), access.url.clone());
    values.insert("PROXMOX_FINGERPRINT".to_owned(), access.fingerprint.clone());
    template::render(from, to, &values)?;
    place::write(&to.join("pve-root-ca.pem"), &access.ca_pem)?;
    write_private(&to.join("proxmox.token"), &access.token)?;
    place::make_dir(&to.join("secrets"))?;
    for name in SECRETS {
        write_private(&to.join("secrets").join(name), &random(16)?)?;
    }
    Ok(())
}

/// Removes a folder that a lab wrote; any other stays.
///
/// # Errors
/// Where it cannot be removed.
pub fn remove(dir: &Path) -> Result<()> {
    if dir.join(MARKER).exists() {
        fs::remove_dir_all(dir).map_err(LabError::io("remove", dir))?;
    }
    Ok(())
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    fs::File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(LabError::io("write", path))
}
