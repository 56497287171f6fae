//! A client of the Proxmox VE REST API: guests, tasks, and the QEMU guest agent.
//!
//! What holds here:
//!
//! * An error says whether its request was delivered ([`RequestError`]). A request that may have
//!   been carried out is never repeated; a GET is, within its deadline.
//! * Every call has a [`Deadline`](crate::ground::Deadline).
//! * A program in a guest ends as exactly one of exited, killed by a signal, or unknown
//!   ([`Exit`]). There is no default.
//! * One call at a time goes to a guest's agent and two to a node: the agent serves one client,
//!   and a call to one that is off blocks a worker of the node's API for 3 s.
//! * The token travels only over HTTPS, to a server that was recognised, and shows in no output.
//!
//! Known to the wire facts of Proxmox VE 8.0 to 9.2. Containers (LXC) have no way to run a program
//! through this API.
//!
//! ```no_run
//! use std::time::Duration;
//! use phoenix_core::ground::{Deadline, Trust};
//! use phoenix_core::proxmox::{Client, Command};
//!
//! # async fn example(fingerprint: [u8; 32]) -> Result<(), Box<dyn std::error::Error>> {
//! let url = "https://pve.example:8006".parse()?;
//! let token = std::fs::read_to_string("token")?.parse()?;
//! let client = Client::connect(&url, &token, &Trust::Fingerprint(fingerprint))?;
//! let deadline = Deadline::after(Duration::from_secs(30));
//! for guest in client.guests(deadline).await? {
//!     println!("{} {:?} on {}", guest.vmid, guest.name, guest.node);
//! }
//! let output = client.agent(100).exec(&Command::new(["uname", "-r"]), deadline).await?;
//! println!("{}: {}", output.status, String::from_utf8_lossy(&output.stdout));
//! # Ok(())
//! # }
//! ```

mod agent;
mod client;
mod code_points;
mod error;
mod exec;
mod loose;
mod task;
#[cfg(test)]
mod tests;
mod token;
mod transport;

pub use crate::ground::Trust;
pub use agent::{
    Agent, AgentCommand, AgentError, AgentInfo, BadText, FILE_WRITE_LIMIT, OsInfo, TextProblem,
};
pub use client::{Client, GuestKind, GuestResource, GuestStatus, Version, VmStatus};
pub use code_points::NotABytePoint;
pub use error::{LostAnswer, Rejection, RejectionKind, RequestError, Undelivered};
pub use exec::{Command, ExecStatus, Exit, Output, Pid, STDIN_LIMIT, UnknownReason, stdin_prefix};
pub use task::{TaskEnd, TaskError, TaskStatus, Upid, UpidError};
pub use token::{ApiToken, TokenError};
pub use transport::ConnectError;
