//! Where the lab keeps things.
//!
//! * the *cache* (`$PHOENIX_LAB_CACHE`, else `/var/cache/phoenix-lab` for root, else
//!   `$XDG_CACHE_HOME/phoenix-lab`, else `~/.cache/phoenix-lab`) holds what takes long to make:
//!   packages, the nodes' root, the data of an engine of the lab's own
//! * the *runtime folder* (`$PHOENIX_LAB_RUN`, else `/run/phoenix-lab` for root, else
//!   `$XDG_RUNTIME_DIR/phoenix-lab`) holds sockets, process ids and one folder per lab. Its path is
//!   short, because a unix socket's may have 107 bytes.
//!
//! Neither lies in the work tree. Locks are files in them, held through an open descriptor, so
//! that a lock ends with its process.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::{LabError, Result};

/// The lab's folders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// What outlives labs.
    pub cache: PathBuf,
    /// What belongs to running labs.
    pub run: PathBuf,
}

/// Whether this process belongs to root.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

impl Places {
    /// The folders of this user, created where missing.
    ///
    /// # Errors
    /// Where they cannot be created, or no home is known.
    pub fn of_this_user() -> Result<Self> {
        let variable = |name: &str| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let cache = match variable("PHOENIX_LAB_CACHE") {
            Some(path) => path,
            None if is_root() => PathBuf::from("/var/cache/phoenix-lab"),
            None => variable("XDG_CACHE_HOME")
                .or_else(|| variable("HOME").map(|home| home.join(".cache")))
                .ok_or_else(|| {
                    LabError::Unsuitable("no folder for the lab: set PHOENIX_LAB_CACHE".into())
                })?
                .join("phoenix-lab"),
        };
        let run = match variable("PHOENIX_LAB_RUN") {
            Some(path) => path,
            None if is_root() => PathBuf::from("/run/phoenix-lab"),
            None => variable("XDG_RUNTIME_DIR").map_or_else(
                || {
                    let uid = rustix::process::geteuid().as_raw();
                    PathBuf::from(format!("/tmp/phoenix-lab-{uid}"))
                },
                |dir| dir.join("phoenix-lab"),
            ),
        };
        for path in [&cache, &run] {
            make_dir(path)?;
        }
        let absolute = |path: PathBuf| fs::canonicalize(&path).map_err(LabError::io("open", &path));
        Ok(Self {
            cache: absolute(cache)?,
            run: absolute(run)?,
        })
    }

    /// The folder of the lab with this name.
    #[must_use]
    pub fn lab(&self, name: &str) -> PathBuf {
        self.run.join("labs").join(name)
    }

    /// Waits for the lock of this name and holds it until the returned file is dropped.
    ///
    /// # Errors
    /// Where the lock's file cannot be made.
    pub async fn lock(&self, dir: &Path, name: &str) -> Result<File> {
        let path = dir.join(format!("{name}.lock"));
        let file = File::create(&path).map_err(LabError::io("create", &path))?;
        let locking = tokio::task::spawn_blocking(move || file.lock().map(|()| file));
        locking
            .await
            .map_err(std::io::Error::other)
            .and_then(|result| result)
            .map_err(LabError::io("lock", &path))
    }
}

pub(crate) fn make_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(LabError::io("create", path))
}

pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    fs::write(path, content).map_err(LabError::io("write", path))
}

pub(crate) fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(LabError::io("read", path))
}

/// The first 16 hexadecimal digits of the content's SHA-256.
pub(crate) fn short_hash(parts: &[&[u8]]) -> String {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    }
    hex::encode(&context.finish().as_ref()[..8])
}
