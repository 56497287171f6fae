//! Why a stack could not be looked at, or could not be brought about at all. How single services
//! ended is no error but a [`ServiceOutcome`](super::ServiceOutcome).

use std::path::PathBuf;

use super::credentials::CredentialsError;
use super::plan::{Missing, Taken};
use crate::docker::{EngineError, NetworkError, ObjectError, ServiceError, TasksRemain, WaitError};
use crate::stack::is_stack_name;

/// A stack could not be planned, deployed, looked at or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeployError {
    /// The engine could not be asked, or refused.
    #[error("{what}")]
    Engine {
        /// What was being done.
        what: String,
        /// How it failed.
        source: EngineError,
    },
    /// The file of a secret cannot be read.
    #[error("secret {secret}: {} cannot be read", path.display())]
    Unreadable {
        /// Its key in the compose file.
        secret: String,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The content of a secret comes from a plugin, so that versions of it cannot be told apart.
    #[error(
        "secret {secret} comes from the plugin {driver}: create it apart from the stack, and make \
         it `external`"
    )]
    SecretDriver {
        /// Its key in the compose file.
        secret: String,
        /// The plugin.
        driver: String,
    },
    /// The credentials of a registry cannot be used.
    #[error("the registry's credentials cannot be used")]
    Credentials {
        /// Why.
        #[from]
        source: CredentialsError,
    },
    /// What the stack refers to does not exist.
    #[error("{}", listed(.missing))]
    Missing {
        /// All of it.
        missing: Vec<Missing>,
    },
    /// What the stack makes is there already, and somebody else's.
    #[error("{}", listed(.taken))]
    Taken {
        /// All of it.
        taken: Vec<Taken>,
    },
    /// A network could not be made or removed.
    #[error("network {name}")]
    Network {
        /// Its name.
        name: String,
        /// How it failed.
        source: NetworkError,
    },
    /// A secret or config could not be made, labelled or removed.
    #[error("{name}")]
    Object {
        /// Its name.
        name: String,
        /// How it failed.
        source: ObjectError,
    },
    /// A service could not be written.
    #[error("service {name}")]
    Service {
        /// Its name.
        name: String,
        /// How it failed.
        source: ServiceError,
    },
    /// The swarm does not say how the services stand.
    #[error("the services cannot be waited for")]
    Wait {
        /// Why.
        #[from]
        source: WaitError,
    },
    /// Tasks of removed services still run.
    #[error("not all tasks have ended")]
    Tasks {
        /// Which.
        #[from]
        source: TasksRemain,
    },
    /// A removed network is still listed at the deadline: its node has not let go of it.
    #[error("network {name} is removed, and still there on its node")]
    Lingers {
        /// Its name.
        name: String,
    },
    /// A service goes on changing while it is to be written.
    #[error("service {name} is being changed by somebody else all the time")]
    Contended {
        /// Its name.
        name: String,
    },
    /// No stack can have this name.
    #[error(
        "a stack cannot be named {name:?}: a name is of letters, digits, `-` and `_`, a letter or digit first"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// There is nothing of this name to act on.
    #[error("{}", unknown(.stack, .service.as_deref(), .known))]
    Unknown {
        /// The stack.
        stack: String,
        /// The service that it does not have; none where there is no such stack.
        service: Option<String>,
        /// The services that it has.
        known: Vec<String>,
    },
    /// There is no randomness.
    #[error("the operating system gives no randomness")]
    Random,
}

fn unknown(stack: &str, service: Option<&str>, known: &[String]) -> String {
    match service {
        None => format!("there is no stack {stack} with services"),
        Some(service) => format!(
            "stack {stack} has no service {service}: it has {}",
            known.join(", ")
        ),
    }
}

fn listed(all: &[impl ToString]) -> String {
    let texts: Vec<String> = all.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

/// That a stack can have this name. Nothing is asked for under one that none can have: an empty one
/// is no name to an engine, which then answers with everything there is.
pub(super) fn check_stack(name: &str) -> Result<(), DeployError> {
    if is_stack_name(name) {
        return Ok(());
    }
    Err(DeployError::Name {
        name: name.to_owned(),
    })
}

/// Makes the error of a request for `map_err`, while `what`.
pub(super) fn asking(what: impl Into<String>) -> impl FnOnce(EngineError) -> DeployError {
    let what = what.into();
    move |source| DeployError::Engine { what, source }
}
