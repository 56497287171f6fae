//! A lab of real Docker engines and real guest agents behind a Proxmox API, for the demo, the
//! benchmarks and the integration tests.
//!
//! A [`Lab`] is a closed network with one container per guest. Each container runs its own
//! dockerd and its own `qemu-ga`, whose sockets the host reaches through a mounted folder. Images
//! are built here and served by a registry on the lab's bridge under their ordinary names.
//!
//! * [`place`]: where the lab keeps things, and locks between labs
//! * [`wire`]: HTTP over unix sockets and TCP
//! * [`process`]: programs that outlive the one that started them
//! * [`packages`]: what Debian has to provide
//! * [`outer`]: the engine that runs the nodes
//! * [`engine`]: a Docker engine's API
//! * [`release`]: which engines there are
//! * [`root`]: the nodes' root file systems
//! * [`network`]: a lab's bridge and addresses
//! * [`node`]: one guest
//! * [`image`] and [`registry`]: images made here, and their way to the nodes
//! * [`lab`]: all of it together
//! * [`portainer`]: a stand-in for Portainer
//! * [`proxmox_api`]: the Proxmox VE API in front of guest agents
//! * [`recorder`]: a proxy that writes down what an engine is asked
//! * [`site`]: a lab's Proxmox API and the files of a site on it
//! * [`step_ca`]: a real step-ca on loopback
//! * [`template`]: site files filled with a lab's addresses
//! * [`converge`]: the benchmark of a whole sync
//! * [`deployments`]: the benchmark of stacks beside the docker CLI
//! * [`docker_cli`]: a docker CLI to compare with
//! * [`harness`]: for tests, the real program on a site of its own
//! * [`leaks`]: whether a secret stands where it must not

pub mod converge;
pub mod deployments;
pub mod docker_cli;
pub mod engine;
pub mod error;
pub mod harness;
pub mod image;
pub mod lab;
pub mod leaks;
pub mod network;
pub mod node;
pub mod outer;
pub mod packages;
pub mod pebble;
pub mod place;
pub mod portainer;
pub mod process;
pub mod proxmox_api;
pub mod recorder;
pub mod registry;
pub mod release;
pub mod root;
pub mod site;
pub mod step_ca;
pub mod template;
pub mod wire;

pub use error::LabError;
pub use lab::{Lab, LabOptions};
pub use node::{Node, Output, Service, ServiceAction};
pub use release::EngineRelease;

/// The result of the lab's operations.
pub type Result<T, E = LabError> = std::result::Result<T, E>;
