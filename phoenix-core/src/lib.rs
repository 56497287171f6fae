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
//! * [`portainer`]: a client of Portainer's HTTP API
//! * [`site`]: what the operator declared
//! * [`sync`]: the dependency graph, plan, apply, events and report
pub mod docker;
pub mod ground;
pub mod guest;
pub mod pki;
pub mod portainer;
pub mod proxmox;
pub mod site;
pub mod stack;
pub mod sync;
