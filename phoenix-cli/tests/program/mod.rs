//! The built command, run as a user runs it: with no environment, and nothing to read.
#![allow(dead_code, reason = "not every test uses all of it")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use regex::Regex;

/// How a run of `phoenix` ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// `phoenix`, to be run in `directory`.
pub(crate) fn phoenix(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_phoenix"));
    command
        .current_dir(directory)
        .env_clear()
        .stdin(Stdio::null());
    command
}

/// Sends `child`, whose stderr is piped and which was told `-v`, a signal (`-INT`) once it listens
/// for it. What it says on stderr from then on.
pub(crate) fn interrupted(child: &mut Child, signal: &str) -> String {
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("listening for signals") {
        line.clear();
        assert_ne!(said.read_line(&mut line).unwrap(), 0, "it ended");
    }
    let killed = Command::new("kill")
        .args([signal, &child.id().to_string()])
        .status();
    assert!(killed.unwrap().success());
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    rest
}

pub(crate) fn ended(code: i32, out: &str, err: &str) -> Ended {
    Ended {
        code: Some(code),
        out: out.to_owned(),
        err: err.to_owned(),
    }
}

/// `text` without what differs from run to run.
pub(crate) fn same(text: &str) -> String {
    let mut text = text.to_owned();
    for (pattern, with) in [
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME"),
        (r"\b\d{4}-\d\d-\d\d\b", "DATE"),
        (r"\b[0-9a-f]{64}\b", "FINGERPRINT"),
        (r"\b[0-9a-f]{40}\b", "KEY-ID"),
        (r"\b[0-9a-f]{30,32}\b", "SERIAL"),
    ] {
        text = Regex::new(pattern)
            .unwrap()
            .replace_all(&text, with)
            .into_owned();
    }
    text
}
