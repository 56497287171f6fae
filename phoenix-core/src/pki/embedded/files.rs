//! The CA's files: where they lie, how they are read, and how they get there whole.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use aws_lc_rs::rand;
use rustls_pki_types::CertificateDer;

use super::error::CaError;
use crate::ground::mortal::step;
use crate::ground::{SecretBytes, read_optional, write_atomic};
use crate::pki::issuer::IssueError;
use crate::pki::key::PrivateKey;
use crate::pki::observed::{CertificateError, ObservedCertificate};
use crate::pki::pem;
use crate::pki::stored_key;

pub(super) const ROOT: &str = "root.pem";
pub(super) const ROOT_KEY: &str = "root-key.pem";
pub(super) const INTERMEDIATES: &str = "intermediates";

/// The one intermediate of a CA that was made before there could be several.
const OLD_INTERMEDIATE: &str = "intermediate.pem";
const OLD_INTERMEDIATE_KEY: &str = "intermediate-key.pem";

/// Ends the name of a directory that is being filled.
const UNFINISHED: &str = ".creating";

/// Where the files of an intermediate lie in the CA's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) number: u32,
    pub(super) certificate: String,
    pub(super) key: String,
}

impl Place {
    pub(super) fn new(number: u32) -> Self {
        if number == 0 {
            return Self {
                number,
                certificate: OLD_INTERMEDIATE.to_owned(),
                key: OLD_INTERMEDIATE_KEY.to_owned(),
            };
        }
        let directory = format!("{INTERMEDIATES}/{}", directory_name(number));
        Self {
            number,
            certificate: format!("{directory}/certificate.pem"),
            key: format!("{directory}/key.pem"),
        }
    }
}

/// The name of a numbered intermediate's directory.
pub(super) fn directory_name(number: u32) -> String {
    format!("{number:04}")
}

/// What is where in a CA's directory.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) has_root_key: bool,
    /// The current intermediate's.
    pub(super) current: Place,
    /// Those of earlier ones, oldest first.
    pub(super) older: Vec<Place>,
}

/// What is where in `directory`; `None` when there is no CA yet.
pub(super) fn layout(directory: &Path) -> Result<Option<Layout>, CaError> {
    let metadata = match fs::metadata(directory) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("look at", directory)(error)),
    };
    if !metadata.is_dir() {
        return Err(CaError::NotADirectory {
            path: directory.to_owned(),
        });
    }
    let present = |name: &str| directory.join(name).symlink_metadata().is_ok();
    let mut numbers = numbers(&directory.join(INTERMEDIATES))?;
    let old = Place::new(0);
    if present(&old.certificate) || present(&old.key) {
        numbers.insert(0, 0);
    }
    let has_root_key = present(ROOT_KEY);
    if !present(ROOT) && !has_root_key && numbers.is_empty() {
        return match first_entry(directory)? {
            None => Ok(None),
            Some(found) => Err(CaError::Foreign {
                directory: directory.to_owned(),
                found,
            }),
        };
    }
    refuse_exposed(directory)?;
    let mut older: Vec<Place> = numbers.into_iter().map(Place::new).collect();
    let current = older.pop().unwrap_or_else(|| Place::new(1));
    let needed = std::iter::once(ROOT)
        .chain(older.iter().map(|place| place.certificate.as_str()))
        .chain([current.certificate.as_str(), current.key.as_str()]);
    let missing: Vec<_> = needed
        .filter(|name| !present(name))
        .map(str::to_owned)
        .collect();
    if !missing.is_empty() {
        return Err(CaError::Incomplete {
            directory: directory.to_owned(),
            missing,
        });
    }
    Ok(Some(Layout {
        has_root_key,
        current,
        older,
    }))
}

/// The numbers of the intermediates in `directory`, ascending. What is being filled there, or
/// has another name, is passed over.
fn numbers(directory: &Path) -> Result<Vec<u32>, CaError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_error("list", directory)(error)),
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry.map_err(io_error("list", directory))?.file_name();
        let number = name.to_str().and_then(|name| {
            let number = name.parse().ok().filter(|number| *number > 0)?;
            (directory_name(number) == name).then_some(number)
        });
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// A file to be: its name below a directory, its content and its mode.
pub(super) type NewFile = (String, SecretBytes, u32);

/// Fills a new directory with `files` under a temporary name beside its place and renames it
/// there. `false` when another process was faster. Killed at any point, this leaves the directory
/// whole or not at all; what it leaves beside it, the next call for the same place removes.
pub(super) fn put_directory(directory: &Path, files: &[NewFile]) -> Result<bool, CaError> {
    let name = directory
        .file_name()
        .ok_or_else(|| CaError::NotADirectory {
            path: directory.to_owned(),
        })?;
    let parent = match directory.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    make_directory(parent)?;
    let prefix = format!(".{}.", name.to_string_lossy());
    remove_unfinished(parent, &prefix)?;

    let mut random = [0; 8];
    rand::fill(&mut random).map_err(|_| CaError::Create(IssueError::Randomness))?;
    let unfinished = parent.join(format!("{prefix}{}{UNFINISHED}", hex::encode(random)));
    let result =
        fill_and_rename(&unfinished, directory, files).and_then(|()| sync_directory(parent));
    match result {
        Ok(()) => Ok(true),
        Err(error) => {
            // It may be gone or renamed; what stays behind is removed by the next attempt.
            let _ = step().and_then(|()| fs::remove_dir_all(&unfinished));
            let lost_the_race = matches!(
                &error,
                CaError::Io { source, .. }
                    if source.kind() == io::ErrorKind::DirectoryNotEmpty
            );
            if lost_the_race { Ok(false) } else { Err(error) }
        }
    }
}

fn fill_and_rename(unfinished: &Path, directory: &Path, files: &[NewFile]) -> Result<(), CaError> {
    make_directory(unfinished)?;
    for (name, content, mode) in files {
        let path = unfinished.join(name);
        for folder in path.ancestors().skip(1) {
            if folder == unfinished {
                break;
            }
            make_directory(folder)?;
        }
        write_atomic(&path, content.expose(), *mode).map_err(io_error("write", &path))?;
    }
    for (name, ..) in files {
        // Each file's own folder has been synced with it, those above it not.
        for folder in unfinished.join(name).ancestors().skip(2) {
            if !folder.starts_with(unfinished) {
                break;
            }
            sync_directory(folder)?;
        }
    }
    step()
        .and_then(|()| fs::rename(unfinished, directory))
        .map_err(io_error("put a CA's files into", directory))
}

/// Makes `directory` and its missing parents, for its owner only.
pub(super) fn make_directory(directory: &Path) -> Result<(), CaError> {
    step()
        .and_then(|()| {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)
        })
        .map_err(io_error("make", directory))
}

pub(super) fn sync_directory(directory: &Path) -> Result<(), CaError> {
    step()
        .and_then(|()| File::open(directory)?.sync_all())
        .map_err(io_error("write", directory))
}

/// Removes what earlier attempts left when they were killed: keys that nothing was signed with.
fn remove_unfinished(parent: &Path, prefix: &str) -> Result<(), CaError> {
    for entry in fs::read_dir(parent).map_err(io_error("list", parent))? {
        let path = entry.map_err(io_error("list", parent))?.path();
        let unfinished = path
            .file_name()
            .map(|name| name.to_string_lossy())
            .is_some_and(|name| name.starts_with(prefix) && name.ends_with(UNFINISHED));
        if unfinished {
            step()
                .and_then(|()| fs::remove_dir_all(&path))
                .map_err(io_error("remove", &path))?;
        }
    }
    Ok(())
}

pub(super) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CaError {
    move |source| CaError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

pub(super) fn first_entry(directory: &Path) -> Result<Option<String>, CaError> {
    let mut names = fs::read_dir(directory)
        .map_err(io_error("list", directory))?
        .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(io_error("list", directory))?;
    names.sort();
    Ok(names.into_iter().next())
}

fn refuse_exposed(path: &Path) -> Result<(), CaError> {
    let mode = fs::metadata(path)
        .map_err(io_error("look at", path))?
        .permissions()
        .mode()
        & 0o7777;
    if mode & 0o077 != 0 {
        return Err(CaError::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(())
}

fn read_file(path: &Path) -> Result<SecretBytes, CaError> {
    read_optional(path)
        .and_then(|content| content.ok_or_else(|| io::ErrorKind::NotFound.into()))
        .map(SecretBytes::new)
        .map_err(io_error("read", path))
}

/// The PEM text of a key that nobody else can read.
pub(super) fn read_key(path: &Path) -> Result<SecretBytes, CaError> {
    refuse_exposed(path)?;
    read_file(path)
}

/// The key in `text`, which came from `path`.
pub(super) fn parse_key(
    path: &Path,
    text: &SecretBytes,
    passphrase: Option<&SecretBytes>,
) -> Result<PrivateKey, CaError> {
    stored_key::read(text, passphrase).map_err(|source| CaError::Key {
        path: path.to_owned(),
        source,
    })
}

pub(super) fn read_certificate(
    path: &Path,
) -> Result<(CertificateDer<'static>, ObservedCertificate), CaError> {
    certificate(path, read_file(path)?.expose())
}

/// The one certificate in `text`, which came from `path`.
pub(super) fn certificate(
    path: &Path,
    text: &[u8],
) -> Result<(CertificateDer<'static>, ObservedCertificate), CaError> {
    let unusable = |source| CaError::Certificate {
        path: path.to_owned(),
        source,
    };
    let mut certificates =
        pem::certificates(text).map_err(|source| unusable(CertificateError::Pem(source)))?;
    if certificates.len() > 1 {
        return Err(CaError::Unfit {
            path: path.to_owned(),
            problem: "holds more than one certificate",
        });
    }
    let der = certificates.remove(0);
    let observed = ObservedCertificate::from_der(&der).map_err(unusable)?;
    Ok((der, observed))
}
