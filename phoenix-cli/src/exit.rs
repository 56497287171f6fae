//! The exit codes: part of the interface, for scripts.

use std::process::ExitCode;

use phoenix_core::sync::{Failure, FailureClass, RunOutcome};

/// What every `--help` that speaks of exit codes says about them.
pub(crate) const HELP: &str = "\
Exit codes:
    0  the site is as declared, or what was asked for was done
    1  a step failed or was rolled back, something is not healthy or cannot be read, or a
       certificate is not valid (cert verify)
    2  wrong usage, or a wrong site file
    3  changes are pending (only with --detailed-exitcode), or a certificate is due (cert check)
    4  a target could not be reached, or did not answer in time
    5  another sync of the site is running
  130  interrupted
`phoenix stack deploy` has further ones: see its help.
`phoenix exec` exits with the code of the program in the guest, and with 128+N when signal N
killed it.";

/// What the help of commands that bring services about says about exit codes.
pub(crate) const STACK_HELP: &str = "\
Exit codes:
    0  every service is as declared (a job, or a one-shot service, has completed)
    1  an update was rolled back, now or before; the engine refused something; what the stack
       refers to is missing; or services failed in different ways
    2  wrong usage, or a wrong compose or site file
    4  the swarm could not be reached, or services had not converged by the deadline
    5  a sync of the site, or another command that changes its stacks, is running
   11  an update is paused
   12  no node can take a task
   13  tasks keep ending
   14  a node cannot get an image
   15  a job failed
  130  interrupted
A service is blocked when one that it depends on failed; the code is that of the failure.";

/// The same of `stack diff`.
pub(crate) const STACK_DIFF_HELP: &str = "\
Exit codes:
    0  it is shown what would be sent, if anything
    1  what the stack refers to is missing; a spec was rolled back before; or the engine refused
       something
    2  wrong usage, or a wrong compose or site file
    3  something would be sent (only with --detailed-exitcode)
    4  the swarm could not be reached
  130  interrupted";

/// The same of `stack render`.
pub(crate) const STACK_RENDER_HELP: &str = "\
Exit codes:
    0  the files are right
    2  wrong usage, or a wrong compose file";

/// The same of commands that look at stacks.
pub(crate) const STACK_LOOK_HELP: &str = "\
Exit codes:
    0  what was asked for is shown
    1  there is no such stack or service; a service has not converged (services); lines are
       missing (logs); or the engine refused something
    2  wrong usage, or a wrong site file
    4  the swarm could not be reached
  130  interrupted";

/// The same of `stack rm`.
pub(crate) const STACK_RM_HELP: &str = "\
Exit codes:
    0  nothing of the stacks is left, or was there
    1  the engine refused something
    2  wrong usage, or a wrong site file
    4  the swarm could not be reached, tasks had not ended by the deadline, or there were nodes
       whose volumes could not be looked at (--volumes)
    5  a sync of the site, or another command that changes its stacks, is running
  130  interrupted";

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// As it should be.
    Success,
    /// A step failed, or something is not healthy.
    Failed,
    /// Wrong usage, or a wrong site file.
    Usage,
    /// Changes are pending.
    Pending,
    /// A target could not be reached, or did not answer in time.
    Unreachable,
    /// Another sync of the site is running.
    Locked,
    /// A service's update is paused.
    Paused,
    /// No node can take a task of a service.
    Unschedulable,
    /// Tasks of a service keep ending.
    CrashLoop,
    /// A node cannot get an image.
    ImageMissing,
    /// A job failed.
    JobFailed,
    /// Interrupted by a signal.
    Interrupted,
    /// The code of a program in a guest.
    Program(u8),
}

impl Exit {
    /// The number.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Pending => 3,
            Self::Unreachable => 4,
            Self::Locked => 5,
            Self::Paused => 11,
            Self::Unschedulable => 12,
            Self::CrashLoop => 13,
            Self::ImageMissing => 14,
            Self::JobFailed => 15,
            Self::Interrupted => 130,
            Self::Program(code) => code,
        }
    }

    /// For a run that ended as `outcome`.
    pub(crate) fn of(outcome: RunOutcome) -> Self {
        match outcome {
            RunOutcome::Converged => Self::Success,
            RunOutcome::Unreachable => Self::Unreachable,
            _ => Self::Failed,
        }
    }

    /// For a single failure.
    pub(crate) fn of_failure(failure: &Failure) -> Self {
        match failure.class {
            FailureClass::Unreachable => Self::Unreachable,
            _ => Self::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
