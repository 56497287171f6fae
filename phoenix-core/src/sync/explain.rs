//! Turns the errors of the rooms below into failures: what they mean for the run, and what the
//! operator can do.

use std::error::Error;

use super::failure::{Failure, FailureClass, ProgramEnd};
use crate::docker::{
    EngineError, NetworkError, NodeError, SwarmError, SwarmState, TasksRemain, Unreached,
};
use crate::guest::{CommandFailed, GuestError, Output};
use crate::pki::{IssueError, StepCaError};
use crate::portainer::PortainerError;
use crate::proxmox::{RejectionKind, RequestError};

/// The failure of a request to the engine of `guest`.
pub(super) fn engine(guest: &str, error: &(dyn Error + 'static)) -> Failure {
    let class = if unanswered(error) {
        FailureClass::Unreachable
    } else {
        FailureClass::Failed
    };
    let failure = Failure::new(class, error).in_guest(guest);
    match find::<EngineError>(error) {
        Some(EngineError::NotDelivered { reason, .. }) => match reason {
            Unreached::ClientCertificateRefused { .. } | Unreached::UnknownAuthority => failure
                .hint("is the daemon set up with certificates of this site's CA? A managed endpoint gets them from Phoenix"),
            _ => failure.hint(format!("is the Docker daemon of {guest} running and listening there?")),
        },
        _ => failure,
    }
}

/// Makes the failure of a request to the engine of `guest`, for `map_err`.
pub(super) fn at<E: Error + 'static>(guest: &str) -> impl Fn(E) -> Failure + '_ {
    move |error| engine(guest, &error)
}

/// Whether a target could not be reached or did not answer in time.
fn unanswered(error: &(dyn Error + 'static)) -> bool {
    find::<EngineError>(error).is_some_and(EngineError::is_unreachable)
        || matches!(
            find(error),
            Some(SwarmError::StillJoining { .. } | SwarmError::NotManaging { .. })
        )
        || matches!(find(error), Some(NodeError::NotInTime { .. }))
        || matches!(find(error), Some(NetworkError::Pending { .. }))
        || find::<TasksRemain>(error).is_some()
}

/// The first error of type `E` among `error` and its causes.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// What an operator can do about an engine that is no usable manager.
pub(super) fn swarm_hint(state: &SwarmState) -> Option<&'static str> {
    match state {
        SwarmState::Pending => Some(
            "a join timed out and goes on in the background: wait for it, or end it with `docker swarm leave`",
        ),
        SwarmState::Locked => Some("unlock it with `docker swarm unlock` and its unlock key"),
        SwarmState::Error { .. } => {
            Some("see the daemon's log; a restart of the daemon often helps")
        }
        SwarmState::Active(active) if active.is_leaderless() => Some(
            "bring more than half of the managers back; if they are lost for good, `docker swarm init --force-new-cluster` on one that is left",
        ),
        SwarmState::Active(active) if !active.manager => {
            Some("it is a worker: promote it from a manager, or make it leave its swarm")
        }
        _ => None,
    }
}

/// The failure of a program that did not exit with code 0; `None` when it did.
pub(super) fn program(guest: &str, what: &str, argv: &[String], output: Output) -> Option<Failure> {
    let failed = CommandFailed::check(guest, argv, output).err()?;
    Some(command(what, &failed))
}

/// The failure of `what`, which was a program in a guest.
fn command(what: &str, failed: &CommandFailed) -> Failure {
    let mut failure =
        Failure::message(FailureClass::Failed, format!("{what}: {failed}")).in_guest(&failed.guest);
    failure.program = Some(ProgramEnd {
        command: failed.argv.clone(),
        exit_code: failed.status.code(),
        signal: failed.status.signal(),
        end: failed.status.to_string(),
        stderr: failed.stderr.clone(),
    });
    failure
}

/// The failure of a request to a guest.
pub(super) fn guest(name: &str, error: &GuestError) -> Failure {
    let failure = Failure::new(class_of_proxmox(error), error).in_guest(name);
    let failure = match find::<CommandFailed>(error) {
        Some(failed) => {
            let mut with_program = command(&failure.message, failed);
            with_program.message = failure.message;
            with_program
        }
        None => failure,
    };
    with_proxmox_hint(failure, error)
}

/// The failure of `what`, which was to be a program in a guest and was not started.
pub(super) fn not_run(name: &str, what: &str, argv: &[String], error: &GuestError) -> Failure {
    let mut failure = guest(name, error);
    failure.program = Some(ProgramEnd::new(argv.to_vec(), "not started", ""));
    failure.context(what)
}

/// The failure of a request to the Proxmox API.
pub(super) fn proxmox(error: &(dyn Error + 'static)) -> Failure {
    with_proxmox_hint(Failure::new(class_of_proxmox(error), error), error)
}

fn class_of_proxmox(error: &(dyn Error + 'static)) -> FailureClass {
    let unreachable = match find::<RequestError>(error) {
        Some(request) => {
            request.is_not_delivered()
                || request.is_ambiguous()
                || matches!(request, RequestError::Untrusted { .. })
                || matches!(
                    request.rejection_kind(),
                    Some(RejectionKind::AgentNotRunning | RejectionKind::GuestNotRunning)
                )
        }
        None => false,
    };
    if unreachable {
        FailureClass::Unreachable
    } else {
        FailureClass::Failed
    }
}

fn with_proxmox_hint(failure: Failure, error: &(dyn Error + 'static)) -> Failure {
    let Some(request) = find::<RequestError>(error) else {
        return failure;
    };
    let hint = match request {
        RequestError::Unauthorized { .. } => {
            "check proxmox.token: USER@REALM!TOKENID=SECRET, not expired, its user enabled"
        }
        RequestError::Untrusted { .. } => {
            "check proxmox.ca or proxmox.fingerprint against the node's certificate"
        }
        RequestError::NotDelivered { .. } => "check proxmox.url, and that the node is up",
        _ => match request.rejection_kind() {
            Some(RejectionKind::Permission) => {
                "give the token VM.Audit and VM.GuestAgent.Unrestricted on the guest; with privilege separation it needs an ACL of its own"
            }
            Some(RejectionKind::AgentNotConfigured) => {
                "enable the QEMU guest agent in the VM's options, then stop and start the VM"
            }
            Some(RejectionKind::AgentCommandDisabled) => {
                "the guest's agent blocks this command: see its configuration in the guest"
            }
            Some(RejectionKind::AgentNotRunning) => {
                "is qemu-guest-agent installed and running in the guest, and enabled in the VM's options?"
            }
            _ => return failure,
        },
    };
    failure.hint(hint)
}

/// The failure of a request to Portainer.
pub(super) fn portainer(error: &PortainerError) -> Failure {
    let class = if error.is_unreachable() {
        FailureClass::Unreachable
    } else {
        FailureClass::Failed
    };
    Failure::new(class, error)
}

/// The failure of a request to a step-ca server.
pub(super) fn step_ca(error: &StepCaError) -> Failure {
    let class = if error.is_unreachable() {
        FailureClass::Unreachable
    } else {
        FailureClass::Failed
    };
    Failure::new(class, error)
}

/// The failure of an issuer.
pub(super) fn issuing(error: &IssueError) -> Failure {
    match error {
        IssueError::StepCa(error) => step_ca(error),
        other => Failure::new(FailureClass::Failed, other),
    }
}

/// That a declared manager cannot be asked about the swarm.
pub(super) fn unusable_manager(name: &str, state: &SwarmState) -> Failure {
    let failure = Failure::message(
        FailureClass::Failed,
        format!("manager {name}: its swarm state is {state}"),
    )
    .in_guest(name);
    match swarm_hint(state) {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
