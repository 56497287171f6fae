//! step-ca over its HTTP API, without its `step` program.
//!
//! * [`StepCaSettings`]: where the server is, how it is recognised and which provisioners sign
//! * [`StepCa`]: the [`Issuer`](super::Issuer)
//! * [`StepCaError`]: why it issued nothing
//!
//! The server is trusted for one reason: the root that it hands out has the declared SHA-256.
//! Everything after that first request goes over connections verified against that root alone.
//! A token is made for each attempt and used once: the server burns it whatever it answers.

mod errors;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;
mod issuer;
mod jwe;
mod limits;
mod settings;
mod token;
mod wire;

pub use errors::{StepCaError, Unauthorized};
pub use issuer::StepCa;
pub use jwe::JweError;
pub use settings::StepCaSettings;
