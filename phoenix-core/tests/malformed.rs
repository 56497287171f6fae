//! Malformed compose files, each with one fault: the error points at the line of the fault.
//!
//! A file begins with `# line: NUMBER, says: TEXT`: where its only problem must be, and a part of
//! what is said about it.

use std::path::{Path, PathBuf};

use phoenix_core::stack::{ComposeFile, LoadOptions};

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parity/malformed");
    let entries = std::fs::read_dir(folder).expect("the folder of malformed files");
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    files
}

/// What is wrong with how a file is read; nothing where its problem is told as it should be.
fn wrong(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).expect("a malformed file");
    let head = text.lines().next().and_then(|line| {
        let (line, says) = line.strip_prefix("# line: ")?.split_once(", says: ")?;
        Some((line.parse::<u32>().ok()?, says))
    });
    let Some((line, says)) = head else {
        return Some("it does not say what is wrong with it".to_owned());
    };
    let problems = match ComposeFile::load(path, "st", &LoadOptions::default()) {
        Ok(_) => return Some("it is accepted".to_owned()),
        Err(problems) => problems,
    };
    let [problem] = problems.0.as_slice() else {
        return Some(format!("it has not one problem: {problems}"));
    };
    let right = problem.position.line == line && problem.to_string().contains(says);
    (!right).then(|| format!("line {line} and {says:?} are expected: {problem}"))
}

#[test]
fn every_malformed_file_has_an_error_at_the_right_line() {
    let files = files();
    assert!(files.len() >= 60, "{} files", files.len());
    let wrong: String = files
        .iter()
        .filter_map(|path| Some(format!("{}: {}\n", path.display(), wrong(path)?)))
        .collect();
    assert!(wrong.is_empty(), "{wrong}");
}
