//! What clients asked, for tests to look at. Contents that may be secret are never kept.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::schema::{Parameters, scalar_text};

/// Parameters whose values are kept. `command` is, because a secret in an argument vector is a
/// fault that tests look for.
const KEPT: [&str; 15] = [
    "command",
    "count",
    "current",
    "decode",
    "encode",
    "file",
    "forceStop",
    "limit",
    "offset",
    "overrule-shutdown",
    "pid",
    "start",
    "timeout",
    "type",
    "crypted",
];

/// The beginning of the one program that is run in a guest and counts as reading: `stat`, which
/// changes nothing. Paths follow.
const STAT: [&str; 5] = ["stat", "-L", "-c", "%a:%u:%g:%U:%G:%n", "--"];

/// A value of a parameter, as far as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recorded {
    /// The value of a parameter known to hold no secret.
    Text(String),
    /// The same for an array.
    List(Vec<String>),
    /// Only the number of characters of what may be secret.
    Withheld {
        /// Its length.
        characters: usize,
    },
}

/// One request.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Request {
    /// Its number, from 0.
    pub number: usize,
    /// Which connection carried it, from 0.
    pub connection: usize,
    /// When it had arrived whole, since the server started.
    pub arrived: Duration,
    /// When its answer was about to be sent, since the server started; `None` while under way and
    /// when the connection was dropped.
    pub answered: Option<Duration>,
    /// `GET`, `POST`, ...
    pub method: String,
    /// Below `/api2/json`, decoded, without the query: `/nodes/pve1/qemu/100/agent/exec`.
    pub path: String,
    /// Parameters of query and body in order.
    pub parameters: Vec<(String, Recorded)>,
    /// The token's id, once it was accepted.
    pub token: Option<String>,
    /// The HTTP status sent; `None` while under way and when the connection was dropped.
    pub status: Option<u16>,
    /// The status of the API call, which `/api2/extjs` hides behind HTTP 200. `None` when it was
    /// not executed.
    pub outcome: Option<u16>,
}

impl Request {
    /// Whether it was meant to change something: anything but a GET, and but the one program that
    /// tells owners and modes of files.
    pub fn is_write(&self) -> bool {
        self.method != "GET" && !self.is_stat()
    }

    /// Whether it runs [`STAT`] about absolute paths in a guest, and nothing else.
    fn is_stat(&self) -> bool {
        let [(name, Recorded::List(argv))] = self.parameters.as_slice() else {
            return false;
        };
        let Some((fixed, paths)) = argv.split_at_checked(STAT.len()) else {
            return false;
        };
        self.method == "POST"
            && self.path.ends_with("/agent/exec")
            && name == "command"
            && fixed == STAT
            && !paths.is_empty()
            && paths.iter().all(|path| path.starts_with('/'))
    }

    /// The recorded value of a parameter.
    pub fn parameter(&self, name: &str) -> Option<&Recorded> {
        self.parameters
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
    }
}

/// The log that connections share.
#[derive(Debug, Clone)]
pub(super) struct RequestLog {
    started: Instant,
    entries: Arc<Mutex<Vec<Request>>>,
}

impl RequestLog {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            entries: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Request>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a request and returns its number.
    pub(super) fn add(&self, connection: usize, method: &str, path: &str) -> usize {
        let mut entries = self.lock();
        let number = entries.len();
        entries.push(Request {
            number,
            connection,
            arrived: self.started.elapsed(),
            answered: None,
            method: method.to_owned(),
            path: path.to_owned(),
            parameters: Vec::new(),
            token: None,
            status: None,
            outcome: None,
        });
        number
    }

    pub(super) fn update(&self, number: usize, change: impl FnOnce(&mut Request)) {
        if let Some(entry) = self.lock().get_mut(number) {
            change(entry);
            if entry.status.is_some() && entry.answered.is_none() {
                entry.answered = Some(self.started.elapsed());
            }
        }
    }

    pub(super) fn all(&self) -> Vec<Request> {
        self.lock().clone()
    }

    /// Forgets what was recorded. Requests under way keep nothing.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }
}

/// The part of the parameters that may be kept.
pub(super) fn redact(parameters: &Parameters) -> Vec<(String, Recorded)> {
    let redacted = |name: &String, value: &Value| match value {
        Value::Array(items) if KEPT.contains(&name.as_str()) => Recorded::List(
            items
                .iter()
                .map(|item| scalar_text(item).unwrap_or_default())
                .collect(),
        ),
        Value::Array(items) => {
            let texts = items.iter().filter_map(scalar_text);
            Recorded::Withheld {
                characters: texts.map(|text| text.chars().count()).sum(),
            }
        }
        Value::Bool(value) => Recorded::Text(value.to_string()),
        other => {
            let text = scalar_text(other).unwrap_or_default();
            if KEPT.contains(&name.as_str()) {
                Recorded::Text(text)
            } else {
                Recorded::Withheld {
                    characters: text.chars().count(),
                }
            }
        }
    };
    parameters
        .iter()
        .map(|(name, value)| (name.clone(), redacted(name, value)))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_exact_program_is_no_write() {
        let exec = |argv: &[&str]| Request {
            number: 0,
            connection: 0,
            arrived: Duration::ZERO,
            answered: None,
            method: "POST".to_owned(),
            path: "/nodes/pve1/qemu/100/agent/exec".to_owned(),
            parameters: vec![(
                "command".to_owned(),
                Recorded::List(argv.iter().map(|word| (*word).to_owned()).collect()),
            )],
            token: None,
            status: None,
            outcome: None,
        };
        let read = [&STAT[..], &["/etc/a", "/etc/b"]].concat();
        assert!(!exec(&read).is_write());
        for write in [
            &read[..STAT.len()],
            &["stat", "-c", STAT[3], "--", "/etc/a"],
            &["stat", "-L", "-c", "%n", "--", "/etc/a"],
            &["stat", "-L", "-c", STAT[3], "/etc/a", "/etc/b"],
            &["stat", "-L", "-c", STAT[3], "--", "a"],
            &["stat", "-L", "-c", STAT[3], "--", "/etc/a", "b"],
            &["/bin/sh", "-c", "stat", "--", "/etc/a"],
            &[],
        ] {
            assert!(exec(write).is_write(), "{write:?}");
        }
        let mut with_input = exec(&read);
        let input = Recorded::Withheld { characters: 1 };
        with_input.parameters.push(("input-data".to_owned(), input));
        assert!(with_input.is_write());
        let mut elsewhere = exec(&read);
        elsewhere.path = "/nodes/pve1/qemu/100/agent/file-write".to_owned();
        assert!(elsewhere.is_write());
        let mut other = exec(&read);
        other.method = "PUT".to_owned();
        assert!(other.is_write());
    }

    #[test]
    fn only_lengths_of_contents_are_kept() {
        let Value::Object(given) = json!({
            "command": ["cat", "/x"], "input-data": "geheim", "content": "ä", "other": ["a", "bc"],
            "password": "hunter2", "decode": 0, "encode": true,
        }) else {
            panic!()
        };
        let kept = redact(&given);
        let withheld = |characters| Recorded::Withheld { characters };
        assert_eq!(
            kept,
            vec![
                (
                    "command".to_owned(),
                    Recorded::List(vec!["cat".to_owned(), "/x".to_owned()])
                ),
                ("input-data".to_owned(), withheld(6)),
                ("content".to_owned(), withheld(1)),
                ("other".to_owned(), withheld(3)),
                ("password".to_owned(), withheld(7)),
                ("decode".to_owned(), Recorded::Text("0".to_owned())),
                ("encode".to_owned(), Recorded::Text("true".to_owned())),
            ]
        );
        assert!(!format!("{kept:?}").contains("geheim"));
    }
}
