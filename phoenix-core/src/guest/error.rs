//! What goes wrong in a guest.

use std::fmt;

use super::place::InvalidFile;
use crate::proxmox::{AgentError, Exit, Output};

/// The most of standard error that an error repeats, in bytes; the end of it matters most.
const STDERR_SHOWN: usize = 4096;

/// Something in a guest failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GuestError {
    /// A program was not started.
    #[error("{program} was not run in guest {guest}")]
    NotRun {
        /// The guest.
        guest: String,
        /// Its name in argv.
        program: String,
        /// Why.
        source: AgentError,
    },
    /// A program did not exit with code 0.
    #[error(transparent)]
    Failed(#[from] CommandFailed),
    /// A file cannot be read.
    #[error("{path} cannot be read in guest {guest}")]
    Read {
        /// The guest.
        guest: String,
        /// The file.
        path: String,
        /// Why.
        source: AgentError,
    },
    /// A program that was to tell owners and modes of files does not tell one.
    #[error("`stat` in guest {guest} does not tell owner and mode of {path}")]
    Untold {
        /// The guest.
        guest: String,
        /// The file.
        path: String,
    },
    /// A file cannot be placed as it was described. Nothing was sent.
    #[error("{} cannot be placed in guest {guest}", source.path)]
    File {
        /// The guest.
        guest: String,
        /// Which, and why.
        source: InvalidFile,
    },
    /// The operating system gave no randomness for a temporary name.
    #[error("no randomness from the operating system")]
    Randomness,
    /// A file was not placed.
    #[error("{} not placed in guest {guest}", paths.join(", "))]
    Place {
        /// The guest.
        guest: String,
        /// The files that were to be placed together.
        paths: Vec<String>,
        /// Why.
        source: Box<GuestError>,
    },
}

/// A program in a guest did not exit with code 0.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommandFailed {
    /// The guest.
    pub guest: String,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// How it ended.
    pub status: Exit,
    /// The end of what it printed on standard error, at most 4 KiB, as text.
    pub stderr: String,
}

impl CommandFailed {
    /// Gives `output` back when the program exited with code 0.
    ///
    /// # Errors
    /// [`CommandFailed`] when it ended in any other way.
    pub fn check(guest: &str, argv: &[String], output: Output) -> Result<Output, Self> {
        if output.status.success() {
            return Ok(output);
        }
        let cut = output.stderr.len().saturating_sub(STDERR_SHOWN);
        let end = String::from_utf8_lossy(&output.stderr[cut..]);
        Err(Self {
            guest: guest.to_owned(),
            argv: argv.to_vec(),
            status: output.status,
            stderr: if cut > 0 {
                format!("…{}", end.trim_end())
            } else {
                end.trim_end().to_owned()
            },
        })
    }

    /// The command as a shell would take it, without what is longer than a line.
    #[must_use]
    pub fn command(&self) -> String {
        let words: Vec<String> = self
            .argv
            .iter()
            .map(|word| match word.split_once('\n') {
                Some((first, _)) => shown(&format!("{first}…")),
                None => shown(word),
            })
            .collect();
        words.join(" ")
    }
}

fn shown(word: &str) -> String {
    shlex::try_quote(word).map_or_else(|_| format!("{word:?}"), std::borrow::Cow::into_owned)
}

impl fmt::Display for CommandFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} in guest {}: {}",
            self.command(),
            self.guest,
            self.status
        )?;
        if !self.stderr.is_empty() {
            write!(f, ": {}", self.stderr)?;
        }
        Ok(())
    }
}

impl std::error::Error for CommandFailed {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxmox::UnknownReason;

    fn output(status: Exit, stderr: Vec<u8>) -> Output {
        Output {
            status,
            stdout: Vec::new(),
            stderr,
            stdout_truncated: false,
            stderr_truncated: false,
        }
    }

    #[test]
    fn a_failure_names_guest_command_code_and_stderr() {
        let argv = ["sh".to_owned(), "-c".into(), "exit 3".into()];
        let failed = CommandFailed::check("web", &argv, output(Exit::Exited(3), b"no\n".to_vec()))
            .expect_err("failed");
        assert_eq!(
            failed.to_string(),
            "sh -c 'exit 3' in guest web: exit code 3: no"
        );
    }

    #[test]
    fn nothing_but_a_code_of_zero_passes() {
        let argv = ["true".to_owned()];
        assert!(CommandFailed::check("web", &argv, output(Exit::Exited(0), vec![])).is_ok());
        for status in [
            Exit::Exited(1),
            Exit::Signaled(9),
            Exit::Unknown(UnknownReason::NotReported),
        ] {
            assert!(CommandFailed::check("web", &argv, output(status, vec![])).is_err());
        }
    }

    #[test]
    fn long_output_and_scripts_are_cut() {
        let argv = ["sh".to_owned(), "-c".into(), "one\ntwo".into()];
        let mut stderr = vec![b'x'; 10_000];
        stderr.extend(b"\xffend");
        let failed = CommandFailed::check("web", &argv, output(Exit::Exited(1), stderr))
            .expect_err("failed");
        assert!(failed.stderr.len() < 4200 && failed.stderr.ends_with("end"));
        assert!(!failed.to_string().contains("two"));
    }
}
