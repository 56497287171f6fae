//! A docker CLI to compare with, also on a machine that has none, or an old one.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::node::Node;
use crate::packages;
use crate::place::{self, Places};
use crate::{LabError, Result, process};

/// The oldest CLI that is compared with. Those before read YAML in other ways, and know no
/// `docker stack deploy --detach`.
const OLDEST: (u32, u32) = (26, 0);

/// Tells of the CLI and of the libraries that it is linked with: the path of each, and where it leads.
const PARTS: &str = "for f in /usr/bin/docker $(LD_TRACE_LOADED_OBJECTS=1 /usr/bin/docker | \
                     grep -o '/[^ ]*'); do echo $f $(readlink -f $f); done";

/// A docker CLI.
#[derive(Debug, Clone)]
pub struct DockerCli {
    path: PathBuf,
    /// What stands before its own arguments.
    before: Vec<OsString>,
    told: String,
    version: (u32, u32),
}

impl DockerCli {
    /// The one that is `named`, or that of the machine, or Debian's; where that is older than 26, a
    /// copy below `folder` of the one that `node` has, however old.
    ///
    /// # Errors
    /// Where it cannot be fetched, copied or run.
    pub async fn find(named: Option<PathBuf>, node: &Node, folder: &Path) -> Result<Self> {
        let path = match named {
            Some(path) => path,
            None => {
                let programs = packages::docker_cli(&Places::of_this_user()?).await?;
                PathBuf::from(programs.command("docker")?.get_program())
            }
        };
        let program = Self::at(path, Vec::new()).await?;
        if program.version >= OLDEST {
            return Ok(program);
        }
        let found = node.sh(PARTS).await?.success()?;
        let mut loader = None;
        for line in found.lines() {
            let (name, file) = line.split_once(' ').unwrap_or((line, line));
            let name = Path::new(name).file_name().unwrap_or_default();
            let copy = folder.join(name);
            place::write(&copy, node.read_file(file).await?)?;
            std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755))
                .map_err(LabError::io("make executable", &copy))?;
            if name.to_string_lossy().starts_with("ld-") {
                loader = Some(copy);
            }
        }
        let copy = folder.join("docker");
        match loader {
            Some(loader) => {
                let before = ["--library-path".into(), folder.into(), copy.into()];
                Self::at(loader, before.to_vec()).await
            }
            None => Self::at(copy, Vec::new()).await,
        }
    }

    async fn at(path: PathBuf, before: Vec<OsString>) -> Result<Self> {
        let mut program = Self {
            path,
            before,
            told: String::new(),
            version: OLDEST,
        };
        let mut asked = program.command();
        asked.arg("--version");
        let told = process::run(asked).await?;
        told.trim().clone_into(&mut program.told);
        program.version = told
            .strip_prefix("Docker version ")
            .and_then(version)
            .ok_or_else(|| LabError::Malformed(format!("no version in {told:?}")))?;
        Ok(program)
    }

    /// A command of it, without arguments yet.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.before);
        command
    }

    /// What it says of its version.
    #[must_use]
    pub fn told(&self) -> &str {
        &self.told
    }

    /// The first two numbers of its version.
    #[must_use]
    pub fn version(&self) -> (u32, u32) {
        self.version
    }
}

/// The first two numbers of `28.2.2`, `29` and the like.
#[must_use]
pub fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.');
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next().and_then(|minor| minor.parse().ok());
    Some((major, minor.unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_numbers_of_a_version_are_read() {
        for (text, read) in [
            ("28.2.2, build e6534b4", Some((28, 2))),
            ("20.10.24+dfsg1, build 297e128", Some((20, 10))),
            ("29", Some((29, 0))),
            ("newest", None),
        ] {
            assert_eq!(version(text), read, "{text}");
        }
    }
}
