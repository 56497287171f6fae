//! Files that are there whole or not at all, and that nobody else ever could read.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use aws_lc_rs::rand;

use super::mortal::step;

/// Writes `content` to `path` atomically: beside it under a temporary name that is created with
/// `mode` and never had another, synced, then renamed over it.
///
/// # Errors
/// What the file system said; the temporary file is removed then.
pub fn write_atomic(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    write_beside(path, content, mode, |temporary| fs::rename(temporary, path))
}

/// As [`write_atomic`], where there is no such file yet. Says whether it was written: of several
/// that write at once only one does.
///
/// # Errors
/// As [`write_atomic`].
pub fn write_new(path: &Path, content: &[u8], mode: u32) -> io::Result<bool> {
    let mut written = true;
    write_beside(path, content, mode, |temporary| {
        match fs::hard_link(temporary, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => written = false,
            linked => linked?,
        }
        fs::remove_file(temporary)
    })?;
    Ok(written)
}

fn write_beside(
    path: &Path,
    content: &[u8],
    mode: u32,
    put: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "path has no file name"))?;
    let mut random = [0; 8];
    rand::fill(&mut random).map_err(|_| io::Error::other("no randomness"))?;
    let mut temporary = name.to_os_string();
    temporary.push(format!(".{}.tmp", hex::encode(random)));
    let temporary = directory.join(temporary);
    let written = (|| {
        step()?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temporary)?;
        // The umask may have taken bits away; it can never have added any.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        step()?;
        file.write_all(content)?;
        file.sync_all()?;
        step()?;
        put(&temporary)?;
        step()?;
        File::open(directory)?.sync_all()
    })();
    if written.is_err() && step().is_ok() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Creates `path` and its missing parents as directories of mode 0700.
///
/// # Errors
/// What the file system said; also when `path` exists and others than its owner can enter it.
pub fn create_private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "{} has mode {:04o} and holds keys: run chmod 700 on it",
                path.display(),
                mode & 0o7777
            ),
        ));
    }
    Ok(())
}

/// The content of `path`, or `None` when there is no such file.
///
/// # Errors
/// Any other failure to read it.
pub fn read_optional(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_atomic_write_leaves_the_file_with_its_mode_and_nothing_else() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("key.pem");
        write_atomic(&path, b"one", 0o644).expect("first");
        write_atomic(&path, b"two", 0o600).expect("second");
        assert_eq!(fs::read(&path).expect("read"), b"two");
        assert_eq!(
            fs::metadata(&path).expect("stat").permissions().mode() & 0o7777,
            0o600
        );
        assert_eq!(fs::read_dir(directory.path()).expect("list").count(), 1);
    }

    #[test]
    fn a_new_file_is_written_once_by_whoever_comes_first() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("key");
        let written: usize = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..8_u8)
                .map(|index| {
                    let path = &path;
                    scope.spawn(move || write_new(path, &[index; 4], 0o600).expect("written"))
                })
                .collect();
            let ended = writers.into_iter().map(|one| one.join().expect("ended"));
            ended.filter(|written| *written).count()
        });
        assert_eq!(written, 1);
        let content = fs::read(&path).expect("read");
        assert!(!write_new(&path, b"other", 0o600).expect("seen"));
        assert_eq!(fs::read(&path).expect("read"), content);
        assert_eq!(fs::read_dir(directory.path()).expect("list").count(), 1);
    }

    #[test]
    fn a_directory_that_others_can_enter_is_refused() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("state");
        create_private_directory(&path).expect("created");
        create_private_directory(&path).expect("again");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
        let error = create_private_directory(&path).expect_err("refused");
        assert!(error.to_string().contains("chmod 700"), "{error}");
    }
}
