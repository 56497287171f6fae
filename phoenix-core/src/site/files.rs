//! The files on this machine that a site file refers to: resolved while it is read, looked at
//! afterwards, never read here.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use crate::ground::document::Cursor;

/// What a referenced file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    /// What anybody may know; it must exist.
    Public,
    /// A private key; it must exist.
    Key,
    /// A token or a secret. It may be absent where a site file is only checked.
    Secret,
}

/// The files that a site file refers to.
#[derive(Debug)]
pub(super) struct LocalFiles<'d> {
    directory: PathBuf,
    references: RefCell<Vec<(Cursor<'d>, PathBuf, Holds)>>,
}

impl<'d> LocalFiles<'d> {
    /// `directory` is the site file's.
    pub(super) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            references: RefCell::default(),
        }
    }

    /// An absolute path; a relative one in the file is relative to the site file's directory.
    pub(super) fn path(&self, cursor: &Cursor<'d>) -> Option<PathBuf> {
        let text = cursor.nonempty()?;
        if text.starts_with('~') {
            cursor.refuse(
                "`~` is not expanded; write the whole path, or one relative to the site file",
            );
            return None;
        }
        if text.contains('\0') {
            cursor.refuse("no path has a NUL character");
            return None;
        }
        let plain: PathBuf = Path::new(text)
            .components()
            .filter(|part| *part != Component::CurDir)
            .collect();
        Some(self.directory.join(plain))
    }

    /// The path of a file that is looked at by [`LocalFiles::look`].
    pub(super) fn file(&self, cursor: &Cursor<'d>, holds: Holds) -> Option<PathBuf> {
        let path = self.path(cursor)?;
        self.references
            .borrow_mut()
            .push((cursor.clone(), path.clone(), holds));
        Some(path)
    }

    /// Reports the files that are missing, cannot be read or can be read by too many.
    pub(super) fn look(&self) {
        for (cursor, path, holds) in self.references.borrow().iter() {
            match stat(path) {
                Ok(mode) => {
                    if *holds != Holds::Public && mode & 0o077 != 0 {
                        cursor.warn(format!(
                            "others than its owner can access the file (mode {:04o}): \
                             run chmod 600 on it",
                            mode & 0o7777
                        ));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let message = format!("there is no file {}", path.display());
                    if *holds == Holds::Secret {
                        cursor.warn(message);
                    } else {
                        cursor.refuse(message);
                    }
                }
                Err(error) => {
                    cursor.refuse(format!("{} cannot be read: {error}", path.display()));
                }
            }
        }
    }
}

/// The mode of a file that can be read.
fn stat(path: &Path) -> io::Result<u32> {
    let metadata = fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(io::Error::new(
            io::ErrorKind::IsADirectory,
            "it is a directory",
        ));
    }
    // Opening a pipe would wait for its writer.
    if metadata.is_file() {
        File::open(path)?;
    }
    Ok(metadata.permissions().mode())
}
