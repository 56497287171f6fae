//! Programs run and files placed inside a guest: one interface, several ways in.
//!
//! What holds here:
//!
//! * How a program ended is an [`Exit`], and [`CommandFailed`] names guest, program, how it ended
//!   and what it printed on standard error.
//! * [`Guest::read`] and [`Guest::attributes`] change nothing.
//! * A placed file is there whole or not at all, and never had another mode than 0600 before its
//!   owner and its own mode were set. Its content travels on standard input only.
//!
//! ```no_run
//! # use std::time::Duration;
//! # use phoenix_core::ground::Deadline;
//! # use phoenix_core::guest::{AgentGuest, File, Guest, Program};
//! # async fn example(client: phoenix_core::proxmox::Client) -> Result<(), Box<dyn std::error::Error>> {
//! let guest = AgentGuest::new("web", client.agent(100));
//! let deadline = Deadline::after(Duration::from_secs(30));
//! let key = File::new("/etc/app/key.pem", b"...".to_vec()).owner("app", "app").mode(0o600);
//! guest.place(&key, deadline).await?;
//! guest.run_checked(&Program::new(["systemctl", "reload", "app"], deadline)).await?;
//! # Ok(())
//! # }
//! ```

mod agent;
mod attributes;
mod error;
mod place;

use async_trait::async_trait;

use crate::ground::{Deadline, SecretBytes};

pub use crate::proxmox::{Exit, Output, UnknownReason};
pub use agent::AgentGuest;
pub use attributes::Attributes;
pub use error::{CommandFailed, GuestError};
pub use place::{File, FileProblem, InvalidFile};

/// The largest file that [`Guest::read`] reads, in bytes.
pub const READ_LIMIT: usize = 16 * 1024 * 1024;

/// A program to run in a guest.
#[derive(Debug, Clone)]
pub struct Program {
    /// The program and its arguments, ASCII only. Visible to every process in the guest: no
    /// secret belongs here.
    pub argv: Vec<String>,
    /// Its standard input; empty when absent.
    pub stdin: Option<SecretBytes>,
    /// When it must have ended; it is killed then.
    pub deadline: Deadline,
}

impl Program {
    /// A program without standard input.
    pub fn new(argv: impl IntoIterator<Item = impl Into<String>>, deadline: Deadline) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            stdin: None,
            deadline,
        }
    }

    /// With this standard input.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<SecretBytes>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }
}

/// A guest that programs are run and files placed in.
#[async_trait]
pub trait Guest: Send + Sync + std::fmt::Debug {
    /// Its name, for messages.
    fn name(&self) -> &str;

    /// Runs a program to its end. A failing program is no error here: see its
    /// [`Output::status`].
    ///
    /// # Errors
    /// [`GuestError`] only when the program was not started for certain.
    async fn run(&self, program: &Program) -> Result<Output, GuestError>;

    /// The content of a file; `None` when there is none. Changes nothing in the guest.
    ///
    /// # Errors
    /// [`GuestError`]; also for a file of more than [`READ_LIMIT`] bytes.
    async fn read(&self, path: &str, deadline: Deadline) -> Result<Option<Vec<u8>>, GuestError>;

    /// Owners, groups and modes of files that are there, in the order of `paths`, by one run of
    /// `stat` for all of them. Changes nothing in the guest; without paths nothing is run.
    ///
    /// # Errors
    /// [`GuestError`], too where `stat` ends other than with code 0, as for a missing file, and
    /// where it does not tell of every file.
    async fn attributes(
        &self,
        paths: &[&str],
        deadline: Deadline,
    ) -> Result<Vec<Attributes>, GuestError> {
        attributes::attributes(self, paths, deadline).await
    }

    /// Runs a program that must exit with code 0.
    ///
    /// # Errors
    /// [`GuestError::Failed`] when it ends otherwise.
    async fn run_checked(&self, program: &Program) -> Result<Output, GuestError> {
        let output = self.run(program).await?;
        Ok(CommandFailed::check(self.name(), &program.argv, output)?)
    }

    /// Places one file.
    ///
    /// # Errors
    /// [`GuestError`]; the file is as it was then, unless the outcome of the last step is unknown.
    async fn place(&self, file: &File, deadline: Deadline) -> Result<(), GuestError> {
        self.place_all(std::slice::from_ref(file), deadline).await
    }

    /// Places several files that belong together, such as a key and its certificate: all are
    /// written beside their targets first, then renamed in one go. Missing parent directories are
    /// made, with mode 0755.
    ///
    /// # Errors
    /// [`GuestError`]; all files are as they were then, unless a rename failed or the outcome of
    /// the last step is unknown.
    async fn place_all(&self, files: &[File], deadline: Deadline) -> Result<(), GuestError> {
        place::place_all(self, files, deadline).await
    }
}
