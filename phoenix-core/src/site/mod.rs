//! What the operator declared: the site file, loaded, validated and cross-referenced.
//!
//! This room reads the site file and looks at the files it refers to; it never contacts a server
//! and reads no environment variable. [`Site::load`] reports everything that is wrong at once,
//! each with its place in the file; what it gives back has no reference that leads nowhere.
//! Secrets are not in the site file, and what may be one by mistake is not quoted.

mod authorities;
mod certificates;
mod files;
mod format;
mod guests;
mod load;
mod model;
mod names;
mod read;
mod schema;
mod shape;
mod stacks;
mod values;

#[cfg(test)]
mod tests;

pub use load::{LoadError, Loaded};
pub use model::{
    AcmeAuthority, AcmeChallenge, CertificateAuthority, CertificateDeclaration, CertificatePart,
    Command, ComposeSource, DaemonSettings, DeliveredFile, Delivery, DockerAddress, DockerEndpoint,
    DockerTls, EmbeddedAuthority, EnvironmentKind, EnvironmentTls, ExternalAccount, Guest, Network,
    Portainer, PortainerEnvironment, ProxmoxEndpoint, Reach, RegistryLogin, SecretDeclaration,
    SecretSource, ServedCheck, ServerTrust, Site, Stack, StepCaAuthority, SwarmRole, SwarmSettings,
    Timeouts, ValueSource, Viewpoint,
};
pub use schema::schema;
