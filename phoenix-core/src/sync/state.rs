//! What Phoenix remembers of a site between runs, on the machine it runs on.
//!
//! The directory has mode 0700 and its files 0600; every write is atomic. Reading never creates
//! anything, so that a plan leaves no trace.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::ground::{
    FingerprintKey, SecretBytes, create_private_directory, read_optional, write_atomic,
};

/// How many journals of earlier runs are kept.
const JOURNALS_KEPT: usize = 20;

/// The state directory of a site.
#[derive(Debug, Clone)]
pub(super) struct State {
    directory: PathBuf,
}

/// Something that was begun in a guest and has not ended well yet: the daemon or service there
/// may not use what was delivered. It is written before the delivery and removed after the
/// reload, so that neither a crash nor a failed reload can be forgotten.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Unfinished {
    /// How the last attempt ended, in words.
    pub(super) last: String,
    /// Whether the delivered certificate is served.
    #[serde(default)]
    pub(super) served: Served,
}

/// What is known of the certificate that a guest serves, while a delivery is unfinished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Served {
    /// Nothing: the reload is still due.
    #[default]
    Unknown,
    /// The reload succeeded, or none was due, and another certificate was served.
    Not,
}

impl Served {
    pub(super) fn is_unknown(self) -> bool {
        self == Self::Unknown
    }
}

/// Held while a sync runs; another one on the same state is refused meanwhile. The kernel
/// releases it when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct StateLock(#[expect(dead_code, reason = "held, never read")] File);

/// Why the lock was not to be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum LockError {
    #[error("held by {0}")]
    Held(String),
    #[error("{}", .0.display())]
    Io(PathBuf, #[source] io::Error),
}

impl State {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Creates the directory with mode 0700.
    pub(super) fn create(&self) -> io::Result<()> {
        create_private_directory(&self.directory)
    }

    pub(super) fn lock(&self) -> Result<StateLock, LockError> {
        let path = self.directory.join("lock");
        let failed = |error| LockError::Io(path.clone(), error);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder).map_err(failed)?;
                return Err(LockError::Held(holder.trim().to_owned()));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let note = format!("process {}\n", std::process::id());
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(note.as_bytes()))
            .map_err(failed)?;
        Ok(StateLock(file))
    }

    /// The bundle of the certificate `name`.
    pub(super) fn certificate(&self, name: &str) -> PathBuf {
        self.directory
            .join("certificates")
            .join(format!("{name}.pem"))
    }

    /// The bundle of the managed Docker daemon in `guest`.
    pub(super) fn daemon(&self, guest: &str) -> PathBuf {
        self.directory.join("daemons").join(format!("{guest}.pem"))
    }

    /// The file with the account at the ACME server of this issuer, or of the site's own.
    pub(super) fn acme_account(&self, issuer: Option<&str>) -> PathBuf {
        match issuer {
            Some(name) => self.directory.join("issuers").join(name),
            None => self.directory.join("acme"),
        }
        .join("account.json")
    }

    /// The bundle with which Phoenix shows itself to Docker daemons.
    pub(super) fn docker_client(&self) -> PathBuf {
        self.directory.join("docker-client.pem")
    }

    pub(super) fn fingerprint_key(&self) -> io::Result<Option<FingerprintKey>> {
        FingerprintKey::read(&self.fingerprint_path())
    }

    pub(super) fn ensure_fingerprint_key(&self) -> io::Result<FingerprintKey> {
        FingerprintKey::ensure(&self.fingerprint_path())
    }

    fn fingerprint_path(&self) -> PathBuf {
        self.directory.join("fingerprint.key")
    }

    pub(super) fn unfinished(&self, what: &str) -> io::Result<Option<Unfinished>> {
        read_json(&self.unfinished_path(what))
    }

    pub(super) fn set_unfinished(
        &self,
        what: &str,
        last: impl Into<String>,
        served: Served,
    ) -> io::Result<()> {
        let last = last.into();
        write_json(&self.unfinished_path(what), &Unfinished { last, served })
    }

    pub(super) fn clear_unfinished(&self, what: &str) -> io::Result<()> {
        remove_optional(&self.unfinished_path(what))
    }

    fn unfinished_path(&self, what: &str) -> PathBuf {
        self.directory
            .join("unfinished")
            .join(format!("{what}.json"))
    }

    /// The key with which Phoenix reads from Portainer's API without logging in.
    pub(super) fn portainer_key(&self) -> io::Result<Option<SecretBytes>> {
        Ok(read_optional(&self.portainer_path())?.map(SecretBytes::new))
    }

    pub(super) fn set_portainer_key(&self, key: &SecretBytes) -> io::Result<()> {
        write_atomic(&self.portainer_path(), key.expose(), 0o600)
    }

    pub(super) fn clear_portainer_key(&self) -> io::Result<()> {
        remove_optional(&self.portainer_path())
    }

    fn portainer_path(&self) -> PathBuf {
        self.directory.join("portainer.key")
    }

    /// Remembers text, such as a fingerprint, under a name.
    pub(super) fn set_note(&self, name: &str, text: &str) -> io::Result<()> {
        let path = self.note_path(name);
        create_parent(&path)?;
        write_atomic(&path, text.as_bytes(), 0o600)
    }

    pub(super) fn note(&self, name: &str) -> io::Result<Option<String>> {
        Ok(read_optional(&self.note_path(name))?
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn note_path(&self, name: &str) -> PathBuf {
        self.directory.join("notes").join(name)
    }

    /// A fresh journal; the oldest ones are removed.
    pub(super) fn journal(&self, name: &str) -> io::Result<File> {
        let directory = self.directory.join("journal");
        create_private_directory(&directory)?;
        let mut earlier: Vec<PathBuf> = fs::read_dir(&directory)?
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .collect();
        earlier.sort();
        let surplus = (earlier.len() + 1).saturating_sub(JOURNALS_KEPT);
        for old in earlier.into_iter().take(surplus) {
            fs::remove_file(old)?;
        }
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(directory.join(format!("{name}.jsonl")))
    }
}

/// Creates the directory of `path`, with mode 0700.
pub(super) fn create_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => create_private_directory(parent),
        None => Ok(()),
    }
}

fn read_json<T: for<'a> Deserialize<'a>>(path: &Path) -> io::Result<Option<T>> {
    let Some(bytes) = read_optional(path)? else {
        return Ok(None);
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{}: {error}", path.display()),
        )
    })
}

fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    create_parent(path)?;
    write_atomic(path, &serde_json::to_vec(value)?, 0o600)
}

fn remove_optional(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> (tempfile::TempDir, State) {
        let directory = tempfile::tempdir().expect("directory");
        let state = State::new(directory.path().join("state"));
        state.create().expect("created");
        (directory, state)
    }

    #[test]
    fn a_second_lock_is_refused_and_names_the_holder() {
        let (_directory, state) = state();
        let held = state.lock().expect("first");
        match state.lock() {
            Err(LockError::Held(holder)) => {
                assert_eq!(holder, format!("process {}", std::process::id()));
            }
            other => panic!("{other:?}"),
        }
        drop(held);
        state.lock().expect("free again");
    }

    #[test]
    fn what_is_unfinished_is_remembered_until_cleared() {
        let (_directory, state) = state();
        assert!(state.unfinished("web@a").expect("read").is_none());
        state
            .set_unfinished("web@a", "exited with code 3", Served::Not)
            .expect("set");
        let unfinished = state.unfinished("web@a").expect("read").expect("there");
        assert_eq!(unfinished.last, "exited with code 3");
        assert_eq!(unfinished.served, Served::Not);
        state.clear_unfinished("web@a").expect("clear");
        state.clear_unfinished("web@a").expect("clear again");
        assert!(state.unfinished("web@a").expect("read").is_none());
    }

    #[test]
    fn reading_creates_nothing() {
        let directory = tempfile::tempdir().expect("directory");
        let state = State::new(directory.path().join("state"));
        assert!(state.fingerprint_key().expect("read").is_none());
        assert!(state.portainer_key().expect("read").is_none());
        assert!(state.unfinished("x").expect("read").is_none());
        assert!(!directory.path().join("state").exists());
    }

    #[test]
    fn old_journals_go() {
        let (_directory, state) = state();
        for number in 0..JOURNALS_KEPT + 5 {
            state.journal(&format!("{number:04}")).expect("journal");
        }
        let kept = fs::read_dir(state.directory.join("journal"))
            .expect("list")
            .count();
        assert_eq!(kept, JOURNALS_KEPT);
    }
}
