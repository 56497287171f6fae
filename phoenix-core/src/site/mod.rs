//! What the operator declared: the site file, loaded, validated and cross-referenced.
//!
//! This room reads the site file and what it points to by name; it never contacts a server.

mod model;

pub use model::{
    CertificateAuthority, CertificateDeclaration, CertificatePart, Command, ComposeSource,
    DaemonSettings, DeliveredFile, Delivery, DockerAddress, DockerEndpoint, DockerTls,
    EnvironmentKind, EnvironmentTls, Guest, Network, Portainer, PortainerEnvironment,
    ProxmoxEndpoint, Reach, SecretDeclaration, SecretSource, ServerTrust, Site, Stack, SwarmRole,
    SwarmSettings, Timeouts, TokenSource,
};
