//! What Debian has to provide.
//!
//! Plain tools are installed by apt-get. Packages that bring a *service* (an engine, a registry)
//! are only unpacked into the cache with what they depend on, so that nothing is ever started,
//! enabled or left running on the machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::place::{self, Places};
use crate::{LabError, Result, process};

/// A program that must be there and the package that has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tool {
    /// The program or file, absolute or looked up in the `PATH` and the system's folders.
    pub probe: &'static str,
    /// The Debian package.
    pub package: &'static str,
}

/// What making a root and testing certificates takes.
pub const TOOLS: &[Tool] = &[
    Tool {
        probe: "mmdebstrap",
        package: "mmdebstrap",
    },
    Tool {
        probe: "openssl",
        package: "openssl",
    },
    Tool {
        probe: "/etc/ssl/certs/ca-certificates.crt",
        package: "ca-certificates",
    },
];

/// What mmdebstrap also needs where the user is not root.
pub const UNPRIVILEGED_TOOLS: &[Tool] = &[Tool {
    probe: "newuidmap",
    package: "uidmap",
}];

/// Lists of packages older than this are fetched anew before anything is installed.
const LISTS_AGE: Duration = Duration::from_secs(14 * 24 * 3600);

/// Finds a program in `PATH` or in the system's folders, which a user's `PATH` may lack.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    if name.starts_with('/') {
        let path = PathBuf::from(name);
        return path.exists().then_some(path);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|candidate| candidate.is_file())
}

/// Refuses anything but Debian and returns the release's code name.
///
/// # Errors
/// [`LabError::Unsuitable`] elsewhere.
pub fn debian_codename() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    codename_of(&text).ok_or_else(|| {
        LabError::Unsuitable(
            "the lab takes its nodes from the host's Debian archive, and this is not Debian".into(),
        )
    })
}

fn codename_of(os_release: &str) -> Option<String> {
    let value = |key: &str| {
        os_release.lines().find_map(|line| {
            let (name, value) = line.split_once('=')?;
            (name == key).then(|| value.trim_matches('"').to_owned())
        })
    };
    (value("ID")? == "debian").then(|| value("VERSION_CODENAME"))?
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("NEEDRESTART_SUSPEND", "1")
        .env("LC_ALL", "C.UTF-8");
    command
}

/// Whether apt has lists and they are not old. A list keeps the mirror's time, so that their age is
/// read off the folders in which every update works.
fn lists_are_fresh() -> bool {
    let lists = Path::new("/var/lib/apt/lists");
    let some = fs::read_dir(lists).is_ok_and(|entries| {
        entries
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().contains("_Packages"))
    });
    let age = [lists.to_owned(), lists.join("partial")]
        .iter()
        .filter_map(|dir| fs::metadata(dir).and_then(|data| data.modified()).ok())
        .max()
        .and_then(|updated| SystemTime::now().duration_since(updated).ok());
    some && age.is_some_and(|age| age < LISTS_AGE)
}

async fn update() -> Result<()> {
    let mut command = apt_get();
    command.args(["update", "-q"]);
    process::run(command).await.map(drop)
}

/// Installs what is missing of `tools`.
///
/// # Errors
/// [`LabError::MissingPackages`] where something is missing and the user is not root.
pub async fn ensure_tools(tools: &[Tool]) -> Result<()> {
    let mut missing: Vec<&str> = tools
        .iter()
        .filter(|tool| find_program(tool.probe).is_none())
        .map(|tool| tool.package)
        .collect();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    debian_codename()?;
    if !place::is_root() {
        return Err(LabError::MissingPackages {
            command: format!(
                "sudo apt-get update && sudo apt-get install -y --no-install-recommends {}",
                missing.join(" ")
            ),
        });
    }
    let install = || {
        let mut command = apt_get();
        command.args(["install", "-q", "-y", "--no-install-recommends"]);
        command.args(&missing);
        process::run(command)
    };
    if lists_are_fresh() && install().await.is_ok() {
        return Ok(());
    }
    update().await?;
    install().await.map(drop)
}

/// Programs of packages that were unpacked, not installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpacked {
    /// The folder that stands for `/`; `None` where the programs are installed on the machine.
    prefix: Option<PathBuf>,
}

impl Unpacked {
    /// A command of this set, with the environment in which it finds its libraries and helpers.
    ///
    /// # Errors
    /// Where there is no such program.
    pub fn command(&self, program: &str) -> Result<Command> {
        let path = self
            .folders(&["usr/local/sbin", "usr/sbin", "usr/bin", "sbin", "bin"])
            .into_iter()
            .map(|dir| dir.join(program))
            .find(|path| path.is_file())
            .or_else(|| find_program(program))
            .ok_or_else(|| LabError::Unsuitable(format!("no program '{program}'")))?;
        let mut command = Command::new(path);
        self.set_environment(&mut command);
        Ok(command)
    }

    fn folders(&self, names: &[&str]) -> Vec<PathBuf> {
        self.prefix
            .iter()
            .flat_map(|prefix| names.iter().map(|name| prefix.join(name)))
            .collect()
    }

    fn set_environment(&self, command: &mut Command) {
        let own = std::env::var_os("PATH").unwrap_or_default();
        let path = self
            .folders(&["usr/sbin", "usr/bin", "sbin", "bin"])
            .into_iter()
            .chain(std::env::split_paths(&own))
            .chain(["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from));
        if let Ok(path) = std::env::join_paths(path) {
            command.env("PATH", path);
        }
        let Some(prefix) = &self.prefix else { return };
        let mut libraries = Vec::new();
        for lib in ["usr/lib", "lib"] {
            for entry in fs::read_dir(prefix.join(lib))
                .into_iter()
                .flatten()
                .flatten()
            {
                if entry.file_name().to_string_lossy().contains("-linux-gnu") {
                    let xtables = entry.path().join("xtables");
                    if xtables.is_dir() {
                        command.env("XTABLES_LIBDIR", xtables);
                    }
                    libraries.push(entry.path());
                }
            }
        }
        if let Ok(libraries) = std::env::join_paths(libraries) {
            command.env("LD_LIBRARY_PATH", libraries);
        }
    }
}

/// Has the programs of a package that brings a service: those of the machine where they are
/// installed, else unpacked into the cache.
///
/// # Errors
/// Where the package cannot be fetched or unpacked.
pub async fn unpack(places: &Places, package: &str, program: &str) -> Result<Unpacked> {
    if find_program(program).is_some() {
        return Ok(Unpacked { prefix: None });
    }
    let codename = debian_codename()?;
    let prefix = places.cache.join(format!("{package}-{codename}"));
    let _lock = places.lock(&places.cache, package).await?;
    if !prefix.exists() {
        fetch(package, &prefix).await?;
    }
    Ok(Unpacked {
        prefix: Some(prefix),
    })
}

/// Has the docker CLI: that of the machine where there is one, else Debian's.
///
/// # Errors
/// As [`unpack`].
pub async fn docker_cli(places: &Places) -> Result<Unpacked> {
    // Newer releases have it in a package of its own.
    let package = match debian_codename().as_deref() {
        Ok("bullseye" | "bookworm") => "docker.io",
        _ => "docker-cli",
    };
    unpack(places, package, "docker").await
}

async fn fetch(package: &str, prefix: &Path) -> Result<()> {
    if !lists_are_fresh() && place::is_root() {
        update().await?;
    }
    let partial = prefix.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial).map_err(LabError::io("remove", &partial))?;
    }
    let debs = partial.join("debs");
    place::make_dir(&debs)?;
    let mut simulate = apt_get();
    simulate.args(["install", "-s", "--no-install-recommends", package]);
    let plan = process::run(simulate).await?;
    let mut download = apt_get();
    download.args(["download", "-q"]).current_dir(&debs);
    download.args(installed_by(&plan));
    process::run(download).await?;
    for entry in fs::read_dir(&debs).map_err(LabError::io("read", &debs))? {
        let deb = entry.map_err(LabError::io("read", &debs))?.path();
        let mut command = Command::new("dpkg-deb");
        command.arg("-x").arg(deb).arg(&partial);
        process::run(command).await?;
    }
    // Alternatives are links that a maintainer script would have made.
    let sbin = partial.join("usr/sbin");
    if sbin.join("xtables-nft-multi").exists() {
        for name in ["iptables", "ip6tables", "iptables-save", "iptables-restore"] {
            // One that is there already is as good.
            let _ = std::os::unix::fs::symlink("xtables-nft-multi", sbin.join(name));
        }
    }
    fs::remove_dir_all(&debs).map_err(LabError::io("remove", &debs))?;
    fs::rename(&partial, prefix).map_err(LabError::io("rename", &partial))
}

/// The packages that `apt-get install -s` says it would install.
fn installed_by(plan: &str) -> Vec<&str> {
    plan.lines()
        .filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_debian_has_a_code_name() {
        let debian = "ID=debian\nVERSION_CODENAME=bookworm\n";
        assert_eq!(codename_of(debian).as_deref(), Some("bookworm"));
        let other = "ID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=noble\n";
        assert_eq!(codename_of(other), None);
    }

    #[test]
    fn the_plan_of_apt_names_every_package_once() {
        let plan = "NOTE: only a simulation\nInst runc (1.1 Debian:12 [amd64])\nInst docker.io (20 Debian:12 [amd64])\nConf runc (1.1 Debian:12 [amd64])\n";
        assert_eq!(installed_by(plan), ["runc", "docker.io"]);
    }

    #[test]
    fn a_program_is_found_by_name_and_by_path() {
        assert!(find_program("sh").is_some());
        assert!(find_program("/bin/sh").is_some());
        assert!(find_program("no-such-program-here").is_none());
    }
}
