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
`phoenix exec` exits with the code of the program in the guest, and with 128+N when signal N
killed it.";

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
