//! Converge a site of Proxmox VE guests, a private CA, a Docker Swarm, secrets, Portainer and
//! application stacks to what its operator declared, through native APIs only.
//!
//! The rooms, from the ground up; each knows only those below it:
//!
//! * [`ground`]: deadlines, secret bytes and their keyed fingerprints, atomic files, documents
//!   that keep positions
//! * [`proxmox`]: a client of the Proxmox VE REST API
//! * [`pki`]: subject alternative names, profiles, the embedded CA, bundles, renewal rules
//! * [`guest`]: programs run and files placed inside a guest
//! * [`docker`]: engines, swarm, nodes, networks, secrets, services and waiting for them
//! * [`stack`]: compose files turned into swarm services
//! * [`deploy`]: stacks on a swarm: plan, apply, outcomes, logs, rollback, removal
//! * [`portainer`]: a client of Portainer's HTTP API
//! * [`site`]: what the operator declared
//! * [`sync`]: the dependency graph, plan, apply, events and report
//!
//! A whole sync, with its events on standard output as JSON:
//!
//! ```no_run
//! use std::path::Path;
//! use std::sync::Arc;
//!
//! use phoenix_core::site::Site;
//! use phoenix_core::sync::{Inputs, Record, RunOutcome, Session, SyncOptions};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let loaded = Site::load(Path::new("phoenix.yaml"))?;
//! for warning in &loaded.warnings {
//!     eprintln!("{warning}");
//! }
//! let session = Session::open(loaded.site, Inputs::new(|name: &str| std::env::var(name).ok()))?;
//! let events = |record: &Record| match serde_json::to_string(record) {
//!     Ok(line) => println!("{line}"),
//!     Err(error) => eprintln!("{error}"),
//! };
//! let report = session.sync(&SyncOptions::default(), Arc::new(events)).await?;
//! assert_eq!(report.outcome, RunOutcome::Converged);
//! # Ok(())
//! # }
//! ```
pub mod deploy;
pub mod docker;
pub mod ground;
pub mod guest;
pub mod pki;
pub mod portainer;
pub mod proxmox;
pub mod site;
pub mod stack;
pub mod sync;
