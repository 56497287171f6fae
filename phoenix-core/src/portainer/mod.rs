//! A client of Portainer's HTTP API (Community Edition, 2.19 to 2.45).
//!
//! What holds here:
//!
//! * A session is a bearer token in a header. There is no cookie: one would make Portainer demand
//!   CSRF tokens on every write. A restart of Portainer ends all sessions.
//! * A login is tried once per call: more than ten requests of that kind in a second from one
//!   address are answered with a ban of one hour, which behind a swarm's ingress bans everybody.
//! * No redirect is followed: the only one is the lockout of an instance that had no admin
//!   within five minutes, told as [`PortainerError::LockedOut`].
//! * A request that may have been carried out is never repeated.
//!
//! ```no_run
//! # use std::time::Duration;
//! # use phoenix_core::ground::{Deadline, SecretBytes, Trust};
//! # use phoenix_core::portainer::{Client, EnvironmentKind, NewEnvironment};
//! # async fn example(ca: Vec<u8>, password: SecretBytes) -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::new(&"https://portainer.example:9443".parse()?, &Trust::CaPem(ca))?;
//! let deadline = Deadline::after(Duration::from_secs(120));
//! client.await_ready(deadline).await?;
//! let session = client.login("admin", &password, deadline).await?;
//! let agent = NewEnvironment::new("swarm", EnvironmentKind::Agent, "tcp://tasks.agent:9001");
//! if !session.environments(deadline).await?.iter().any(|known| known.name == "swarm") {
//!     session.create_environment(&agent, deadline).await?;
//! }
//! # Ok(())
//! # }
//! ```

mod client;
mod environment;
mod error;
#[cfg(test)]
mod tests;

pub use crate::ground::{Trust, TrustError};
pub use client::{Client, Session, Status};
pub use environment::{Environment, EnvironmentKind, EnvironmentTls, NewEnvironment};
pub use error::{LostReply, PortainerError, Refusal, Unsent};
