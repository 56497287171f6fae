//! Why there is no usable CA.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use time::OffsetDateTime;

use super::files::ROOT;
use crate::pki::inventory::InventoryError;
use crate::pki::issuer::IssueError;
use crate::pki::key::KeyError;
use crate::pki::observed::CertificateError;
use crate::pki::request::RequestError;
use crate::pki::times::{exactly, show};

/// Why there is no usable CA.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaError {
    /// A CA cannot be made like this.
    #[error("the CA cannot be made like this")]
    Parameters(#[source] RequestError),
    /// The intermediate would be valid longer than the root.
    #[error(
        "the intermediate's lifetime ({}) is longer than the root's ({})",
        exactly(*.intermediate), exactly(*.root)
    )]
    IntermediateOutlivesRoot {
        /// The intermediate's lifetime.
        intermediate: Duration,
        /// The root's lifetime.
        root: Duration,
    },
    /// The file system refused.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// Something is in the CA's place that is no directory.
    #[error("{} is in the place of the CA's directory", .path.display())]
    NotADirectory {
        /// What is there.
        path: PathBuf,
    },
    /// Others than the owner can read a key, or enter the directory.
    #[error(
        "{} has mode {:04o} and others may have read the CA's keys: if nobody did, run chmod go= \
         on it",
        .path.display(), .mode
    )]
    Exposed {
        /// The file or directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Some of the CA's files are missing.
    #[error(
        "the CA in {} lacks {}: restore the directory from a backup, or move it away to start a \
         new CA that nothing trusts yet",
        .directory.display(), .missing.join(", ")
    )]
    Incomplete {
        /// The CA's directory.
        directory: PathBuf,
        /// The names of the missing files.
        missing: Vec<String>,
    },
    /// The CA's directory holds something else and no CA.
    #[error("{} holds {found} but no CA: the CA needs a directory of its own", .directory.display())]
    Foreign {
        /// The CA's directory.
        directory: PathBuf,
        /// One of the things it holds.
        found: String,
    },
    /// A CA is to be imported where something is already.
    #[error("{} holds {found} already, and nothing is imported over it", .directory.display())]
    Occupied {
        /// The directory.
        directory: PathBuf,
        /// One of the things it holds.
        found: String,
    },
    /// A certificate of the CA cannot be read.
    #[error("{} is not usable", .path.display())]
    Certificate {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: CertificateError,
    },
    /// A key of the CA cannot be read.
    #[error("{} is not usable", .path.display())]
    Key {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: KeyError,
    },
    /// A certificate of the CA is not what it must be.
    #[error("{} {problem}", .path.display())]
    Unfit {
        /// Its file.
        path: PathBuf,
        /// What it is or is not.
        problem: &'static str,
    },
    /// A key does not belong to its certificate.
    #[error("{} is not the key of {certificate}", .key.display())]
    KeyMismatch {
        /// The key's file.
        key: PathBuf,
        /// The name of the certificate's file in the CA's directory.
        certificate: String,
    },
    /// A certificate of the CA has expired.
    #[error("{} expired on {}{}", .path.display(), show(.at), way_out(.path))]
    Expired {
        /// Its file.
        path: PathBuf,
        /// The last second of its validity.
        at: OffsetDateTime,
    },
    /// A certificate of the CA is not valid yet: most likely the clock is wrong.
    #[error(
        "{} is valid from {} only, and it is {} here: is the clock right?",
        .path.display(), show(.from), show(.now)
    )]
    NotYetValid {
        /// Its file.
        path: PathBuf,
        /// The first second of its validity.
        from: OffsetDateTime,
        /// What the clock says.
        now: OffsetDateTime,
    },
    /// The root's key is kept elsewhere.
    #[error(
        "{} is not there, and no intermediate can be made without the root's key: put it there \
         for as long as this takes",
        .path.display()
    )]
    NoRootKey {
        /// Where it would be.
        path: PathBuf,
    },
    /// What was issued and revoked is not known.
    #[error("the CA's inventory is not usable")]
    Inventory(#[source] InventoryError),
    /// No key or certificate could be made for a new CA.
    #[error("the CA could not be made")]
    Create(#[source] IssueError),
}

/// What to do about an expired certificate of the CA in `path`.
fn way_out(path: &Path) -> &'static str {
    if path.ends_with(ROOT) {
        ""
    } else {
        ": `phoenix ca rotate` makes another intermediate below the same root"
    }
}
