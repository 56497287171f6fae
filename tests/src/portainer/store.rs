//! What Portainer keeps in its data directory: a new volume is a new instance.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::rand;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Everything kept, in one file.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Data {
    pub(super) instance_id: String,
    pub(super) http_disabled: bool,
    pub(super) users: Vec<User>,
    pub(super) keys: Vec<ApiKey>,
    pub(super) environments: Vec<Environment>,
    /// The highest number given to each kind so far; numbers are not used again.
    pub(super) last_key: u32,
    pub(super) last_environment: u32,
}

/// An account. All are administrators here.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct User {
    pub(super) id: u32,
    pub(super) name: String,
    /// Salt and derived key.
    pub(super) password: String,
}

/// An API key. Of the key itself only a digest is kept.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct ApiKey {
    pub(super) id: u32,
    pub(super) user: u32,
    pub(super) description: String,
    pub(super) prefix: String,
    pub(super) created: i64,
    pub(super) digest: String,
}

/// An environment ("endpoint").
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Environment {
    pub(super) id: u32,
    pub(super) name: String,
    /// 1 Docker, 2 agent.
    pub(super) kind: u8,
    pub(super) url: String,
    pub(super) public_url: String,
    pub(super) group: u32,
    pub(super) tags: Vec<u32>,
    /// 1 up, 2 down.
    pub(super) status: u8,
    pub(super) tls: Tls,
    pub(super) agent_version: String,
    /// What the last look at it found.
    pub(super) snapshot: Option<Value>,
}

/// How an environment is spoken to. Paths of files in the data directory, or of mounted ones.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Tls {
    pub(super) enabled: bool,
    pub(super) skip_verify: bool,
    pub(super) ca: Option<PathBuf>,
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
}

impl std::fmt::Debug for User {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("User")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ApiKey")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// The data directory.
#[derive(Debug)]
pub(super) struct Store {
    directory: PathBuf,
    data: Mutex<Data>,
}

impl Store {
    /// Opens the directory, making it and an instance id when there is none.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let data = match fs::read(directory.join("portainer.json")) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Data {
                instance_id: uuid()?,
                ..Data::default()
            },
            Err(error) => return Err(error),
        };
        let store = Self {
            directory: directory.to_owned(),
            data: Mutex::new(data),
        };
        store.change(|_| ())?;
        Ok(store)
    }

    fn lock(&self) -> MutexGuard<'_, Data> {
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn read(&self) -> Data {
        self.lock().clone()
    }

    /// Changes the data and writes them; they stay as they were when they cannot be written.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Data) -> T) -> io::Result<T> {
        let mut data = self.lock();
        let mut changed = data.clone();
        let result = change(&mut changed);
        let bytes = serde_json::to_vec_pretty(&changed)?;
        write_private(&self.directory.join("portainer.json"), &bytes)?;
        *data = changed;
        Ok(result)
    }

    /// `tls/{folder}`, `certs`: where files of that kind go.
    pub(super) fn folder(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// Replaces a file whole.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let new = path.with_extension("new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(new, path)
}

/// Random bytes.
pub(super) fn random<const LENGTH: usize>() -> io::Result<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    rand::fill(&mut bytes).map_err(|_| io::Error::other("no random bytes"))?;
    Ok(bytes)
}

fn uuid() -> io::Result<String> {
    let mut bytes: [u8; 16] = random()?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let text = hex::encode(bytes);
    Ok([
        &text[..8],
        &text[8..12],
        &text[12..16],
        &text[16..20],
        &text[20..],
    ]
    .join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_keeps_its_instance() {
        let directory = tempfile::tempdir().expect("directory");
        let first = Store::open(directory.path())
            .expect("new")
            .read()
            .instance_id;
        let again = Store::open(directory.path())
            .expect("old")
            .read()
            .instance_id;
        assert_eq!(first, again);
        let other = tempfile::tempdir().expect("directory");
        let other = Store::open(other.path()).expect("new").read().instance_id;
        assert_ne!(first, other);
        assert_eq!(first.len(), 36);
    }
}
