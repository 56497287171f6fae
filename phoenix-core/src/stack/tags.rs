//! The tags `!reset` and `!override`, by which `docker compose` has an override take something away.
//! The parser does not tell of tags, so that they are looked for in the text.

use std::path::Path;

use crate::ground::document::{Position, Problem};

use super::findings::Findings;

/// Refuses such tags in the `text` of the file at `path`, whose tree begins at `root`. Docker's
/// stacks do not know them, and take the values without them.
pub(super) fn check(
    root: Position,
    path: &Path,
    text: &str,
    as_docker: bool,
    findings: &mut Findings,
) {
    for (line, column, tag) in tags(text) {
        let problem = Problem {
            source: path.into(),
            position: Position { line, column },
            path: String::new(),
            offending: Some(tag.to_owned()),
            message: "this tag is not supported: the value would be merged as if it were not \
                      there"
                .to_owned(),
            suggestion: None,
        };
        if as_docker {
            let message =
                "docker does not know this tag: the value is merged as if it were not there";
            findings.add_warning(
                root,
                Problem {
                    message: message.to_owned(),
                    ..problem
                },
            );
        } else {
            findings.add(root, problem);
        }
    }
}

/// Where `text` has such tags: line, column and tag.
fn tags(text: &str) -> Vec<(u32, u32, &'static str)> {
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        for tag in ["!reset", "!override"] {
            for (at, _) in line.match_indices(tag) {
                let before = line[..at].trim_end();
                let after = line[at + tag.len()..].chars().next();
                let is_value = before.is_empty() || before.ends_with([':', '-', '[', ',', '{']);
                let is_whole = after.is_none_or(|next| " \t,]}[{".contains(next));
                let commented = before.starts_with('#') || before.contains(" #");
                if is_value && is_whole && !commented {
                    let column = u32::try_from(line[..at].chars().count()).unwrap_or(u32::MAX - 1);
                    found.push((number, column + 1, tag));
                }
            }
        }
    }
    found
}
