//! What an embedded CA issued and what became of it, in files that are only ever appended to.
//!
//! `inventory.jsonl` (mode 0600) in the CA's directory holds one JSON object a line for what was
//! issued and delivered, `revoked.jsonl` for what was revoked and for the lists of it. A line is
//! written with one write and synced before anybody gets what it tells of: a certificate that is
//! in use is in the inventory, however the run that issued it ended. A run that is killed, or a
//! disk that is full, leaves at most one line without its end, which never told of anything that
//! was used: readers pass over it, and the next append cuts it off. Anything else that is no
//! record is damage that somebody did, and is an error with its line number.
//!
//! Several threads and processes may append at once: each holds the file's lock. Readers hold it
//! only while they look how far the file is whole, since what is whole never changes.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Take, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Deserializer, Serialize};
use time::OffsetDateTime;

use super::observed::ObservedCertificate;
use super::request::{CertificateRequest, KeyType, Profile};
use super::revocation::RevocationReason;
use super::san::SubjectAltName;
use super::serial::{Serial, SerialError};

/// The file in the CA's directory.
const INVENTORY: &str = "inventory.jsonl";

/// How long another process may keep the lock: it needs a few milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// The file beside it for what was revoked.
const REVOKED: &str = "revoked.jsonl";

/// Why the inventory cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InventoryError {
    /// The file system refused.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The inventory's file.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// A line is no record.
    #[error("{}:{line} is damaged ({problem}): restore the file from a backup", .path.display())]
    Damaged {
        /// The inventory's file.
        path: PathBuf,
        /// The number of the line, from 1.
        line: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// Another process does not release the lock.
    #[error("another process has kept {} locked for 10 seconds", .path.display())]
    Busy {
        /// The inventory's file.
        path: PathBuf,
    },
    /// A certificate has a serial number that an inventory cannot hold.
    #[error("the certificate's serial number cannot be recorded")]
    Serial(#[from] SerialError),
    /// A record cannot be written as JSON.
    #[error("the record cannot be written")]
    Unwritable(#[source] serde_json::Error),
}

/// A certificate when it was issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct IssuedRecord {
    /// Its serial number.
    pub serial: Serial,
    /// Its subject's common name; empty when there is none.
    pub common_name: String,
    /// The names that it is valid for.
    #[serde(deserialize_with = "all_from_text")]
    pub sans: Vec<SubjectAltName>,
    /// What it may be used for.
    #[serde(deserialize_with = "from_text")]
    pub profile: Profile,
    /// The kind of its key.
    #[serde(deserialize_with = "from_text")]
    pub key_type: KeyType,
    /// The first second of its validity.
    #[serde(with = "time::serde::rfc3339")]
    pub not_before: OffsetDateTime,
    /// The last second of its validity.
    #[serde(with = "time::serde::rfc3339")]
    pub not_after: OffsetDateTime,
    /// The identifier of the key that signed it, in hexadecimal digits.
    pub issuer_key_id: String,
    /// The SHA-256 of its DER in hexadecimal digits.
    pub fingerprint: String,
}

impl IssuedRecord {
    /// Of `leaf`, which was issued for `request`.
    pub(super) fn new(
        leaf: &ObservedCertificate,
        request: &CertificateRequest,
    ) -> Result<Self, InventoryError> {
        Ok(Self {
            serial: leaf.serial.parse()?,
            common_name: request.common_name().to_owned(),
            sans: request.sans().to_vec(),
            profile: request.profile(),
            key_type: request.key_type(),
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            issuer_key_id: leaf
                .authority_key_id
                .as_ref()
                .map(hex::encode)
                .unwrap_or_default(),
            fingerprint: leaf.fingerprint_hex(),
        })
    }
}

/// Where a certificate lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Placement {
    /// The place, readable.
    pub place: String,
    /// When it was last delivered there.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
}

/// That a certificate was revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Revocation {
    /// Why.
    pub reason: RevocationReason,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
}

/// A certificate and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct InventoryEntry {
    /// What was issued.
    #[serde(flatten)]
    pub issued: IssuedRecord,
    /// Where it was delivered, in the order in which that first happened.
    pub delivered: Vec<Placement>,
    /// Whether it was revoked, the first time.
    pub revoked: Option<Revocation>,
}

/// A line of the inventory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(super) enum Record {
    /// A certificate was issued.
    Issued(IssuedRecord),
    /// A certificate was delivered.
    Delivered {
        serial: Serial,
        place: String,
        #[serde(with = "time::serde::rfc3339")]
        at: OffsetDateTime,
    },
    /// A certificate was revoked.
    Revoked {
        serial: Serial,
        #[serde(deserialize_with = "from_text")]
        reason: RevocationReason,
        #[serde(with = "time::serde::rfc3339")]
        at: OffsetDateTime,
    },
    /// A list of what the key with this identifier has revoked was signed.
    Crl {
        issuer_key_id: String,
        number: u64,
        #[serde(with = "time::serde::rfc3339")]
        at: OffsetDateTime,
    },
}

/// The inventory of one CA. Need not exist: it is made by the first append.
#[derive(Debug)]
pub(super) struct Inventory {
    /// What was issued and delivered.
    issued: Log,
    /// What was revoked. Its own file, so that it is known without reading all that was issued.
    revoked: Log,
    /// The threads of this process take turns before they ask for a file's lock.
    turn: Mutex<()>,
}

impl Inventory {
    /// Of the CA in `directory`. Looks at nothing yet.
    pub(super) fn of(directory: &Path) -> Self {
        let log = |name| Log {
            path: directory.join(name),
        };
        Self {
            issued: log(INVENTORY),
            revoked: log(REVOKED),
            turn: Mutex::new(()),
        }
    }

    /// Appends `record`, which is durable when this returns. After an error it may be there or
    /// not, but is never there in part.
    pub(super) fn append(&self, record: &Record) -> Result<(), InventoryError> {
        let line = line(record)?;
        let log = self.log(record);
        let _turn = self.turn();
        log.append(&mut log.open_locked()?, &line)
    }

    /// Appends the records that `decide` makes of what is there, while no other process that
    /// does the same changes it.
    pub(super) fn append_with<T, E: From<InventoryError>>(
        &self,
        decide: impl FnOnce(Contents) -> Result<(Vec<Record>, T), E>,
    ) -> Result<T, E> {
        let _turn = self.turn();
        let mut file = self.revoked.open_locked()?;
        let whole = self.revoked.whole(&mut file)?;
        let contents = Contents::of(
            self.issued
                .records()?
                .chain(self.revoked.records_up_to(Some(whole))?),
        )?;
        let (records, answer) = decide(contents)?;
        let lines = records
            .iter()
            .map(line)
            .collect::<Result<Vec<_>, _>>()?
            .concat();
        if !lines.is_empty() {
            self.revoked.append(&mut file, &lines)?;
        }
        Ok(answer)
    }

    /// Every certificate that was issued, in that order, with what became of it. What is told of
    /// certificates that are not in the inventory, since they are older than it, is left out.
    pub(super) fn entries(&self) -> Result<Vec<InventoryEntry>, InventoryError> {
        let records = self.issued.records()?.chain(self.revoked.records()?);
        Ok(Contents::of(records)?.entries)
    }

    /// What was revoked when. Cheap, however much was issued.
    pub(super) fn revoked(&self) -> Result<BTreeMap<Serial, OffsetDateTime>, InventoryError> {
        let mut revoked = BTreeMap::new();
        for record in self.revoked.records()? {
            if let Record::Revoked { serial, at, .. } = record? {
                revoked.entry(serial).or_insert(at);
            }
        }
        Ok(revoked)
    }

    /// The file that `record` belongs in.
    fn log(&self, record: &Record) -> &Log {
        match record {
            Record::Issued(_) | Record::Delivered { .. } => &self.issued,
            Record::Revoked { .. } | Record::Crl { .. } => &self.revoked,
        }
    }

    fn turn(&self) -> std::sync::MutexGuard<'_, ()> {
        // It guards nothing that a panic could leave half done.
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file of records.
#[derive(Debug)]
struct Log {
    path: PathBuf,
}

impl Log {
    /// The records that are there now, in their order.
    fn records(&self) -> Result<Records, InventoryError> {
        let whole = match File::open(&self.path) {
            Ok(mut file) => {
                self.lock(&file, File::try_lock_shared)?;
                Some(self.whole(&mut file)?)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(self.io("read")(error)),
        };
        self.records_up_to(whole)
    }

    fn open_locked(&self) -> Result<File, InventoryError> {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&self.path)
            .map_err(self.io("open"))?;
        self.lock(&file, File::try_lock)?;
        Ok(file)
    }

    /// Waits for the lock, which is released when `file` is closed.
    fn lock(
        &self,
        file: &File,
        try_lock: impl Fn(&File) -> Result<(), TryLockError>,
    ) -> Result<(), InventoryError> {
        let began = Instant::now();
        let mut pause = Duration::from_micros(200);
        loop {
            match try_lock(file) {
                Ok(()) => return Ok(()),
                Err(TryLockError::Error(error)) => return Err(self.io("lock")(error)),
                Err(TryLockError::WouldBlock) if began.elapsed() > PATIENCE => {
                    return Err(InventoryError::Busy {
                        path: self.path.clone(),
                    });
                }
                Err(TryLockError::WouldBlock) => {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(10));
                }
            }
        }
    }

    /// The length of the file up to the end of its last whole line.
    fn whole(&self, file: &mut File) -> Result<u64, InventoryError> {
        whole_length(file).map_err(self.io("read"))
    }

    fn append(&self, file: &mut File, lines: &[u8]) -> Result<(), InventoryError> {
        let whole = self.whole(file)?;
        let appended = (|| {
            if file.metadata()?.len() > whole {
                file.set_len(whole)?;
            }
            let written = file.write_all(lines).and_then(|()| file.sync_all());
            if written.is_err() {
                // What was not acknowledged should not be there; if it stays, it does no harm.
                let _ = file.set_len(whole);
            }
            written?;
            match self.path.parent() {
                // The file may be new.
                Some(directory) if whole == 0 => File::open(directory)?.sync_all(),
                _ => Ok(()),
            }
        })();
        appended.map_err(self.io("append to"))
    }

    fn records_up_to(&self, whole: Option<u64>) -> Result<Records, InventoryError> {
        let reader = match whole {
            None => None,
            Some(length) => {
                let file = File::open(&self.path).map_err(self.io("read"))?;
                Some(BufReader::with_capacity(64 * 1024, file).take(length))
            }
        };
        Ok(Records {
            path: self.path.clone(),
            reader,
            line: 0,
        })
    }

    fn io(&self, action: &'static str) -> impl FnOnce(io::Error) -> InventoryError {
        let path = self.path.clone();
        move |source| InventoryError::Io {
            action,
            path,
            source,
        }
    }
}

/// The records of an inventory, read as they are asked for.
struct Records {
    path: PathBuf,
    reader: Option<Take<BufReader<File>>>,
    /// The number of the line that was read last.
    line: u64,
}

impl Records {
    fn next_line(&mut self) -> Result<Option<Vec<u8>>, InventoryError> {
        let Some(reader) = &mut self.reader else {
            return Ok(None);
        };
        let mut line = Vec::new();
        reader
            .read_until(b'\n', &mut line)
            .map_err(|source| InventoryError::Io {
                action: "read",
                path: self.path.clone(),
                source,
            })?;
        if line.is_empty() {
            return Ok(None);
        }
        self.line += 1;
        if !line.starts_with(b"{\"event\":\"") || !line.ends_with(b"}\n") {
            return Err(self.damaged("it is no record"));
        }
        Ok(Some(line))
    }

    fn parse(&self, line: &[u8]) -> Result<Record, InventoryError> {
        serde_json::from_slice(line).map_err(|error| self.damaged(error))
    }

    fn damaged(&self, problem: impl ToString) -> InventoryError {
        InventoryError::Damaged {
            path: self.path.clone(),
            line: self.line,
            problem: problem.to_string(),
        }
    }
}

impl Iterator for Records {
    type Item = Result<Record, InventoryError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.next_line() {
            Ok(None) => None,
            Ok(Some(line)) => Some(self.parse(&line)),
            Err(error) => {
                // After an error there is no telling what would follow.
                self.reader = None;
                Some(Err(error))
            }
        }
    }
}

/// What the records of an inventory tell.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// The certificates in the order in which they were issued.
    pub(super) entries: Vec<InventoryEntry>,
    /// The number of the last list of each issuing key.
    pub(super) crl_numbers: BTreeMap<String, u64>,
}

impl Contents {
    fn of(
        records: impl Iterator<Item = Result<Record, InventoryError>>,
    ) -> Result<Self, InventoryError> {
        let mut contents = Self::default();
        let entries = &mut contents.entries;
        let mut by_serial = BTreeMap::new();
        for record in records {
            match record? {
                Record::Issued(issued) => {
                    by_serial.insert(issued.serial.clone(), entries.len());
                    entries.push(InventoryEntry {
                        issued,
                        delivered: Vec::new(),
                        revoked: None,
                    });
                }
                Record::Delivered { serial, place, at } => {
                    let Some(index) = by_serial.get(&serial) else {
                        continue;
                    };
                    let delivered = &mut entries[*index].delivered;
                    match delivered.iter_mut().find(|known| known.place == place) {
                        Some(known) => known.at = at,
                        None => delivered.push(Placement { place, at }),
                    }
                }
                Record::Revoked { serial, reason, at } => {
                    if let Some(index) = by_serial.get(&serial) {
                        entries[*index]
                            .revoked
                            .get_or_insert(Revocation { reason, at });
                    }
                }
                Record::Crl {
                    issuer_key_id,
                    number,
                    ..
                } => {
                    contents.crl_numbers.insert(issuer_key_id, number);
                }
            }
        }
        Ok(contents)
    }
}

/// A record with the end of its line.
fn line(record: &Record) -> Result<Vec<u8>, InventoryError> {
    let mut line = serde_json::to_vec(record).map_err(InventoryError::Unwritable)?;
    line.push(b'\n');
    Ok(line)
}

/// The length of `file` up to and with its last line end.
fn whole_length(file: &mut File) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    let mut buffer = [0; 4096];
    // Almost always the very last byte is a line end.
    let mut size = 1;
    while end > 0 {
        let start = end.saturating_sub(size);
        size = buffer.len() as u64;
        let chunk = &mut buffer[..usize::try_from(end - start).map_err(io::Error::other)?];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(chunk)?;
        if let Some(position) = chunk.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + position as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

fn from_text<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: std::fmt::Display>,
{
    String::deserialize(deserializer)?
        .parse()
        .map_err(serde::de::Error::custom)
}

fn all_from_text<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: std::fmt::Display>,
{
    Vec::<String>::deserialize(deserializer)?
        .iter()
        .map(|text| text.parse().map_err(serde::de::Error::custom))
        .collect()
}

#[cfg(test)]
#[path = "inventory_tests.rs"]
mod tests;
