//! Placing files, by a constant shell script that gets the content on standard input.
//!
//! A file is written under a temporary name beside its target, created with mode 0600 and by
//! nobody else before (`set -C`). Large content comes in several steps. The last step checks the
//! sizes, sets owners and modes, and renames. What fails in between leaves every target as it was
//! and no temporary file; what is interrupted leaves at most a temporary file of mode 0600, which
//! the next placing removes.

use std::collections::HashSet;
use std::time::Duration;

use super::{CommandFailed, Guest, GuestError, Program};
use crate::ground::{Deadline, SecretBytes};
use crate::proxmox::stdin_prefix;

const SCRIPT: &str = include_str!("place.sh");

/// How long tidying up after a failure may take, beyond the deadline.
const TIDY: Duration = Duration::from_secs(10);

/// A file to place in a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its absolute path, ASCII only.
    pub path: String,
    /// Its content.
    pub content: SecretBytes,
    /// Its owner: a name of the guest, or a number.
    pub owner: String,
    /// Its group: a name of the guest, or a number.
    pub group: String,
    /// Its permission bits.
    pub mode: u32,
}

/// A file that cannot be placed as described.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path:?}: {problem}")]
#[non_exhaustive]
pub struct InvalidFile {
    /// Its path.
    pub path: String,
    /// Why not.
    pub problem: FileProblem,
}

/// Why a file cannot be placed as described.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileProblem {
    /// The path is not absolute.
    #[error("the path is not absolute")]
    NotAbsolute,
    /// The path has a part that is empty, `.` or `..`, or ends with a slash.
    #[error("the path has a part that is empty, '.' or '..'")]
    Unclean,
    /// The path holds a character that is not printable ASCII.
    #[error("the path holds {0:?}, which is not printable ASCII")]
    Character(char),
    /// The owner or group is no name.
    #[error("{0:?} is no name of an owner or group")]
    Owner(String),
    /// The mode has other bits than permissions.
    #[error("{0:o} is no mode of a file")]
    Mode(u32),
    /// Another file to be placed with it has the same path.
    #[error("two files have this path")]
    Twice,
}

impl File {
    /// A file of root, with mode 0600.
    pub fn new(path: impl Into<String>, content: impl Into<SecretBytes>) -> Self {
        Self {
            path: path.into(),
            content: content.into(),
            owner: "root".into(),
            group: "root".into(),
            mode: 0o600,
        }
    }

    /// With this owner and group.
    #[must_use]
    pub fn owner(mut self, owner: impl Into<String>, group: impl Into<String>) -> Self {
        self.owner = owner.into();
        self.group = group.into();
        self
    }

    /// With these permission bits.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// Checks what can be told without sending it.
    ///
    /// # Errors
    /// [`InvalidFile`].
    pub fn validate(&self) -> Result<(), InvalidFile> {
        self.problem().map_or(Ok(()), |problem| {
            Err(InvalidFile {
                path: self.path.clone(),
                problem,
            })
        })
    }

    fn problem(&self) -> Option<FileProblem> {
        let Some(relative) = self.path.strip_prefix('/') else {
            return Some(FileProblem::NotAbsolute);
        };
        if let Some(c) = relative.chars().find(|c| !matches!(c, ' '..='~')) {
            return Some(FileProblem::Character(c));
        }
        if relative
            .split('/')
            .any(|part| matches!(part, "" | "." | ".."))
        {
            return Some(FileProblem::Unclean);
        }
        for name in [&self.owner, &self.group] {
            let fits = |b: u8| b.is_ascii_alphanumeric() || b"_.-@+\\$".contains(&b);
            if name.is_empty() || name.starts_with('-') || !name.bytes().all(fits) {
                return Some(FileProblem::Owner(name.clone()));
            }
        }
        (self.mode & !0o7777 != 0).then_some(FileProblem::Mode(self.mode))
    }

    fn temporary(&self, token: &str) -> String {
        let (directory, name) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
        format!("{directory}/.{name}.phoenix.{token}")
    }
}

/// One run of the script.
struct Step<'a> {
    action: &'static str,
    temporary: &'a str,
    content: &'a [u8],
    commit: &'a [String],
}

impl Step<'_> {
    fn program(&self, deadline: Deadline) -> Program {
        let fixed = [
            "/bin/sh",
            "-c",
            SCRIPT,
            "phoenix",
            self.action,
            self.temporary,
        ];
        let words = self.commit.iter().map(String::as_str);
        let program = Program::new(fixed.into_iter().chain(words), deadline);
        if self.content.is_empty() {
            return program;
        }
        program.stdin(self.content.to_vec())
    }
}

pub(super) async fn place_all<G: Guest + ?Sized>(
    guest: &G,
    files: &[File],
    deadline: Deadline,
) -> Result<(), GuestError> {
    let mut seen = HashSet::new();
    for file in files {
        let twice = || InvalidFile {
            path: file.path.clone(),
            problem: FileProblem::Twice,
        };
        file.validate()
            .and_then(|()| seen.insert(&file.path).then_some(()).ok_or_else(twice))
            .map_err(|source| GuestError::File {
                guest: guest.name().to_owned(),
                source,
            })?;
    }
    let mut token = [0; 8];
    aws_lc_rs::rand::fill(&mut token).map_err(|_| GuestError::Randomness)?;
    let token = hex::encode(token);
    let temporaries: Vec<String> = files.iter().map(|file| file.temporary(&token)).collect();
    let commit: Vec<String> = files
        .iter()
        .zip(&temporaries)
        .flat_map(|(file, temporary)| {
            [
                temporary.clone(),
                file.path.clone(),
                file.owner.clone(),
                file.group.clone(),
                format!("{:04o}", file.mode),
                file.content.len().to_string(),
            ]
        })
        .collect();
    let steps = steps(files, &temporaries, &commit);
    for (done, step) in steps.iter().enumerate() {
        let Err(error) = run(guest, step, deadline).await else {
            continue;
        };
        // A step that ran to its end has tidied up after itself.
        let tidied = matches!(&error, GuestError::Failed(failed) if failed.status.code().is_some());
        if done > 0 || !(tidied || matches!(error, GuestError::NotRun { .. })) {
            tidy(guest, &temporaries[0], &commit).await;
        }
        return Err(GuestError::Place {
            guest: guest.name().to_owned(),
            paths: files.iter().map(|file| file.path.clone()).collect(),
            source: Box::new(error),
        });
    }
    Ok(())
}

/// The runs that place the files: the last one commits all.
fn steps<'a>(files: &'a [File], temporaries: &'a [String], commit: &'a [String]) -> Vec<Step<'a>> {
    let mut steps = Vec::new();
    for (file, temporary) in files.iter().zip(temporaries) {
        let mut rest = file.content.expose();
        let mut action = "create";
        loop {
            let (content, later) = rest.split_at(stdin_prefix(rest));
            steps.push(Step {
                action,
                temporary,
                content,
                commit: &[],
            });
            action = "append";
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
    }
    if let Some(last) = steps.last_mut() {
        last.commit = commit;
    }
    steps
}

async fn run<G: Guest + ?Sized>(
    guest: &G,
    step: &Step<'_>,
    deadline: Deadline,
) -> Result<(), GuestError> {
    let program = step.program(deadline);
    let output = guest.run(&program).await?;
    CommandFailed::check(guest.name(), &program.argv, output)?;
    Ok(())
}

/// Removes temporary files after a failure. They are private, and the next placing removes them
/// too: a failure here changes nothing in what is reported.
async fn tidy<G: Guest + ?Sized>(guest: &G, temporary: &str, commit: &[String]) {
    let step = Step {
        action: "remove",
        temporary,
        content: &[],
        commit,
    };
    if let Err(error) = run(guest, &step, Deadline::after(TIDY)).await {
        tracing::warn!(guest = guest.name(), %error, "temporary files may be left");
    }
}

#[cfg(test)]
#[path = "place_tests.rs"]
mod tests;
