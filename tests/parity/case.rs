//! A case of the corpus: compose files, and what is known about them beforehand.
//!
//! A case is a file of `parity/corpus`, or a folder there whose files (in the order of their
//! paths) are given together. Its first file begins with comments. The first says what it is
//! about; these others are read:
//!
//! * `env: NAME=VALUE`: a variable of the environment
//! * `exists: KIND NAME`: a `network`, `secret` or `config` that is there beforehand
//! * `since: VERSION`: the docker CLI reads the file as it does today since this version
//! * `docker refuses: TEXT`: the docker CLI refuses the file and says so (or, in other versions,
//!   one of several texts between ` | `)
//! * `swarm lacks: TEXT`: the docker CLI looks for something that is not there and says so
//! * `engine refuses: TEXT`: the engine refuses what the docker CLI sends and says so
//! * `differs: refused: TEXT`: Phoenix refuses by default what docker takes, and says so
//! * `differs: mended: WHY`: Phoenix does by default what was meant, and docker something else
//! * `differs always: …`: the same, in docker's way too
//! * `resolve: always`: images are looked up in the registry

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use phoenix_lab::docker_cli::version;

/// Where the corpus is.
pub(crate) fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("parity/corpus")
}

/// What happens to a case in the docker CLI.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Expected {
    /// It is deployed.
    #[default]
    Deployed,
    /// The CLI refuses it.
    Refused(String),
    /// Something that it refers to is missing in the swarm.
    Lacking(String),
    /// The engine refuses it.
    Rejected(String),
}

/// How Phoenix differs from docker by default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Difference {
    /// It refuses and says this.
    Refused(String),
    /// It makes other bodies, because of this.
    Mended(String),
}

/// Compose files and what is known about them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) files: Vec<PathBuf>,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) exists: Vec<(String, String)>,
    pub(crate) since: Option<(u32, u32)>,
    pub(crate) expected: Expected,
    pub(crate) differs: Option<Difference>,
    pub(crate) always: bool,
    pub(crate) resolve: bool,
}

impl Case {
    fn of(name: String, files: Vec<PathBuf>) -> Self {
        let first = &files[0];
        let text =
            std::fs::read(first).unwrap_or_else(|error| panic!("{}: {error}", first.display()));
        let text = String::from_utf8_lossy(&text).into_owned();
        let mut case = Self {
            name,
            files,
            ..Self::default()
        };
        let mut comments = text.lines().map_while(|line| line.strip_prefix("# "));
        let about = comments.next();
        assert!(about.is_some(), "{}: what is it about?", case.name);
        for line in comments {
            case.note(line);
        }
        case
    }

    fn note(&mut self, line: &str) {
        let Some((key, value)) = line.split_once(": ") else {
            panic!("{}: what is {line:?}?", self.name);
        };
        let value = value.to_owned();
        let two = |by: char| {
            let parts = value.split_once(by);
            let (left, right) = parts.unwrap_or_else(|| panic!("{}: {line:?}", self.name));
            (left.to_owned(), right.to_owned())
        };
        match key {
            "env" => {
                let (name, value) = two('=');
                self.environment.insert(name, value);
            }
            "exists" => self.exists.push(two(' ')),
            "since" => self.since = version(&value),
            "docker refuses" => self.expected = Expected::Refused(value),
            "swarm lacks" => self.expected = Expected::Lacking(value),
            "engine refuses" => self.expected = Expected::Rejected(value),
            "differs" | "differs always" => {
                self.always = key == "differs always";
                self.differs = Some(match two(':') {
                    (how, text) if how == "refused" => Difference::Refused(text.trim().to_owned()),
                    (how, text) if how == "mended" => Difference::Mended(text.trim().to_owned()),
                    (how, _) => panic!("{}: differs how? {how}", self.name),
                });
            }
            "resolve" => self.resolve = true,
            _ => panic!("{}: what is {line:?}?", self.name),
        }
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder of the corpus");
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    files
        .into_iter()
        .flat_map(|path| match path.is_dir() {
            true => files_below(&path),
            false => vec![path],
        })
        .collect()
}

/// All cases, sorted by name.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = std::fs::read_dir(corpus())
        .expect("the corpus")
        .flatten()
        .filter(|entry| entry.file_name() != "files")
        .map(|entry| {
            let path = entry.path();
            let name = path.file_stem().expect("a name").to_string_lossy();
            let files = match path.is_dir() {
                true => files_below(&path),
                false => vec![path.clone()],
            };
            Case::of(name.into_owned(), files)
        })
        .collect();
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}
