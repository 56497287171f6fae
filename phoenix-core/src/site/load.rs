//! Finding and loading the site file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::model::Site;
use super::read;
use crate::ground::document::{Document, Position, Problem, Problems, Reader};

/// The names a site file may have, in the order they are looked for in a directory.
const NAMES: [&str; 3] = ["phoenix.yaml", "phoenix.yml", "phoenix.json"];

/// A loaded site and what is suspicious about it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Loaded {
    /// The site.
    pub site: Site,
    /// What is allowed but probably not meant, in the order of the file.
    pub warnings: Vec<Problem>,
}

/// Why a site file could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file cannot be read.
    #[error("the site file {} cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file was read and is wrong.
    #[error("{problems}")]
    Invalid {
        /// Everything that is wrong with it, in the order of the file.
        problems: Problems,
        /// The file's text, for [`Problem::excerpt`].
        text: String,
    },
}

impl Site {
    /// The site file at or above `start`: `phoenix.yaml`, `phoenix.yml` or `phoenix.json` in the
    /// nearest directory that has one.
    #[must_use]
    pub fn find(start: &Path) -> Option<PathBuf> {
        let start = std::path::absolute(start).ok()?;
        start.ancestors().find_map(|directory| {
            NAMES
                .iter()
                .map(|name| directory.join(name))
                .find(|path| path.is_file())
        })
    }

    /// Loads the site file at `path` and looks at the files it refers to. Nothing is contacted,
    /// and no environment variable is read.
    ///
    /// # Errors
    /// [`LoadError`] when the file cannot be read, or with everything that is wrong with it.
    pub fn load(path: &Path) -> Result<Loaded, LoadError> {
        let bytes = fs::read(path).map_err(|source| LoadError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            let before = String::from_utf8_lossy(&error.as_bytes()[..valid]).into_owned();
            LoadError::Invalid {
                problems: Problem {
                    source: Arc::from(path),
                    position: end_of(&before),
                    path: String::new(),
                    offending: None,
                    message: "the site file is not UTF-8 text".to_owned(),
                    suggestion: None,
                }
                .into(),
                text: before,
            }
        })?;
        parse(path, &text, true).map_err(|problems| LoadError::Invalid { problems, text })
    }

    /// Reads `text` as the site file that `path` would be, without looking at any file: whether
    /// those it refers to exist is left open.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(path: &Path, text: &str) -> Result<Loaded, Problems> {
        parse(path, text, false)
    }
}

fn parse(path: &Path, text: &str, look: bool) -> Result<Loaded, Problems> {
    let document = Document::parse(path, text)?;
    let reader = Reader::new(&document);
    let (directory, _) = read::absolute(path);
    let site = read::site(&reader.root(), &directory, look);
    let position = document.root().position;
    let warnings = reader.finish()?;
    match site {
        Some(site) => Ok(Loaded { site, warnings }),
        // Reading reports whatever makes it fail; a site is never assumed where it did not.
        None => Err(Problem {
            source: Arc::from(path),
            position,
            path: String::new(),
            offending: None,
            message: "the site file could not be read completely".to_owned(),
            suggestion: None,
        }
        .into()),
    }
}

/// The position behind `text`.
fn end_of(text: &str) -> Position {
    let line = text.split('\n').count();
    let column = text.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Position {
        line: u32::try_from(line).unwrap_or(u32::MAX),
        column: u32::try_from(column).unwrap_or(u32::MAX),
    }
}
