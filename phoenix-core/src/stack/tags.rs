//! The tags `!reset` and `!override`, by which `docker compose` has an override take something away.
//! The tree does not tell of tags, so that they are looked for among the events of its parser.

use std::path::Path;

use granit_parser::{Event, Parser};

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

/// Where `text`, which parses, has such tags: line, column and tag.
fn tags(text: &str) -> Vec<(u32, u32, &'static str)> {
    const TAGS: [&str; 2] = ["!reset", "!override"];
    if !TAGS.iter().any(|tag| text.contains(tag)) {
        return Vec::new();
    }
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX - 1);
    let events = Parser::new_from_str(text).map_while(Result::ok);
    events
        .filter_map(|(event, span)| {
            let (Event::Scalar(.., Some(tag))
            | Event::SequenceStart(.., Some(tag))
            | Event::MappingStart(.., Some(tag))) = event
            else {
                return None;
            };
            let written = format!("{}{}", tag.handle(), tag.suffix());
            let tag = TAGS.into_iter().find(|tag| *tag == written)?;
            let at = span.tag_start.unwrap_or(span.start);
            Some((number(at.line()), number(at.col()) + 1, tag))
        })
        .collect()
}
