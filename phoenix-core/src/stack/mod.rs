//! Compose files turned into swarm services.
//!
//! Compose files are parsed into trees with positions, variables are replaced there, the trees
//! are merged into one, which is validated into a [model], and the model is rendered into the
//! bodies that the engine's API takes, as `docker stack deploy` would send them. [`difference`]
//! compares such a body with what runs. [`LoadOptions`] chooses the dialect of the files and what
//! becomes of what docker drops without a word.
//!
//! ```
//! use std::collections::BTreeMap;
//! use std::path::Path;
//!
//! use phoenix_core::stack::{ComposeFile, LoadOptions, RenderContext, difference};
//!
//! let text = "services: {web: {image: \"nginx:${TAG}\", deploy: {replicas: 2}}}";
//! let variables = BTreeMap::from([("TAG".to_owned(), "1.27".to_owned())]);
//! let options = LoadOptions::default().with_variables(variables);
//! let file = ComposeFile::parse(Path::new("site/web.yaml"), text, "shop", &options)?;
//! let rendered = file.render(&RenderContext::default());
//! let web = &rendered.services[0];
//! assert_eq!(web.name, "shop_web");
//! assert_eq!(web.json["TaskTemplate"]["ContainerSpec"]["Image"], "nginx:1.27");
//! assert!(difference(&web.json, &web.json).is_empty());
//! # Ok::<(), phoenix_core::ground::document::Problems>(())
//! ```
//!
//! Invariants:
//! * Nothing is dropped in silence: what a swarm cannot do is an error with its position, or a
//!   warning where docker's ways are asked for.
//! * Nothing depends on the environment of the process: variables are given.
//! * Rendering is a pure function of the file and of what was looked up; the same file gives the
//!   same bodies, whatever the order of maps.
//! * This room talks to no engine and no registry.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod attachments;
mod bodies;
mod compose;
mod container;
mod declared;
mod deploy;
mod difference;
mod duration;
mod environment;
mod findings;
mod habits;
mod image;
mod interpolate;
mod keys;
mod load;
mod merge;
pub mod model;
mod options;
mod ports;
mod quantity;
mod reading;
mod references;
mod render;
mod repeats;
mod scalars;
mod service;
mod tags;
mod versions;
mod volumes;
mod waits;
mod wire;
mod words;

#[cfg(test)]
mod tests;

pub use difference::{FieldChange, carry_digest, difference, spec_digest};
pub use environment::{EnvFileError, read_variables};
pub use image::{Image, ImageError, Platform, ResolvedImage};
pub use load::ComposeFile;
pub use options::{Compat, Dialect, LoadOptions};
pub use references::{Reference, References, StackSecret};
pub use render::{
    ConfigToCreate, NetworkBody, RenderContext, Rendered, ResolvedObject, ServiceBody, Unresolved,
};
pub use wire::Wire;

/// Whether a stack can have this name: the names of its services begin with it.
#[must_use]
pub fn is_stack_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

/// The label of everything that belongs to a stack; its value is the stack's name.
pub const STACK_LABEL: &str = "com.docker.stack.namespace";
/// The label of a service with its image as the compose file writes it.
pub const IMAGE_LABEL: &str = "com.docker.stack.image";
