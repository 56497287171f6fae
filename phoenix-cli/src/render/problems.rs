//! What is wrong in a site file, the way rustc says it: the message, the place, the line with a
//! mark under what is meant, and what may have been meant instead.

use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};
use phoenix_core::ground::document::Problem;

use super::{Layout, number};
use crate::escape;

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    /// The file cannot be used.
    Error,
    /// It is suspicious, but allowed.
    Warning,
}

/// A problem in the file that people know as `file` and that holds `text`.
pub(crate) fn problem(
    layout: &Layout,
    severity: Severity,
    problem: &Problem,
    file: &str,
    text: Option<&str>,
) -> String {
    let level = match severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let file = escape::line(file);
    let line = problem.position.line as usize;
    let mut group = level
        .primary_title(escape::line(&problem.message).into_owned())
        .elements(Vec::<Snippet<'_, annotate_snippets::Annotation<'_>>>::new());
    // In a file of variables every line may be secret.
    let text = text.filter(|_| !problem.is_of_variables());
    let marked = text.and_then(|text| Marked::of(problem, text));
    let quoted_in_line = marked.as_ref().is_some_and(|marked| marked.quoted);
    group = match marked {
        Some(marked) => group.element(
            Snippet::source(marked.line)
                .line_start(line)
                .path(file)
                .annotation(AnnotationKind::Primary.span(marked.span)),
        ),
        None => group.element(
            Origin::path(file)
                .line(line)
                .char_column(problem.position.column as usize),
        ),
    };
    if !problem.path.is_empty() {
        let path = format!("in `{}`", escape::line(&problem.path));
        group = group.element(Level::NOTE.message(path));
    }
    if let Some(offending) = &problem.offending
        && !quoted_in_line
        && !problem.message.contains(offending.as_str())
    {
        let got = format!("got `{}`", escape::line(offending));
        group = group.element(Level::NOTE.message(got));
    }
    if let Some(suggestion) = &problem.suggestion {
        let meant = format!("did you mean `{}`?", escape::line(suggestion));
        group = group.element(Level::HELP.message(meant));
    }
    let renderer = if layout.color {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    let mut text = renderer
        .term_width(layout.width.unwrap_or(140).max(40))
        .render(&[group]);
    text.push('\n');
    text
}

/// `2 errors, 1 warning`.
pub(crate) fn count(errors: usize, warnings: usize) -> String {
    match (errors, warnings) {
        (errors, 0) => number(errors, "error"),
        (0, warnings) => number(warnings, "warning"),
        (errors, warnings) => {
            format!(
                "{}, {}",
                number(errors, "error"),
                number(warnings, "warning")
            )
        }
    }
}

/// A line of a file, fit to be shown, and the bytes of it that are meant.
struct Marked {
    line: String,
    span: std::ops::Range<usize>,
    /// Whether the span is the offending text.
    quoted: bool,
}

impl Marked {
    fn of(problem: &Problem, text: &str) -> Option<Self> {
        let before = problem.position.line.checked_sub(1)?;
        let line = text.lines().nth(before as usize)?;
        let column = problem.position.column.saturating_sub(1) as usize;
        let start = line
            .char_indices()
            .nth(column)
            .map_or(line.len(), |(index, _)| index);
        let (before, rest) = line.split_at(start);
        let offending = problem.offending.as_deref().filter(|text| !text.is_empty());
        // A quoted scalar begins with its quote.
        let length = offending.and_then(|offending| {
            let opening = rest.len() - rest.trim_start_matches(['"', '\'']).len();
            rest[opening..]
                .starts_with(offending)
                .then_some(2 * opening + offending.len())
                .filter(|length| rest.is_char_boundary(*length))
        });
        let (meant, after) =
            rest.split_at(length.unwrap_or_else(|| rest.chars().next().map_or(0, char::len_utf8)));
        let before = shown(before);
        let meant = shown(meant);
        let span = before.len()..before.len() + meant.len();
        Some(Self {
            line: format!("{before}{meant}{}", shown(after)),
            span,
            quoted: length.is_some(),
        })
    }
}

fn shown(text: &str) -> String {
    escape::line(&text.replace('\t', "    ")).into_owned()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use phoenix_core::ground::document::Position;
    use proptest::prelude::*;

    use super::*;

    fn sample(line: u32, column: u32, offending: Option<&str>) -> Problem {
        Problem {
            source: Path::new("phoenix.yaml").into(),
            position: Position { line, column },
            path: "guests.web.vmid".into(),
            offending: offending.map(str::to_owned),
            message: "a whole number is expected here".into(),
            suggestion: None,
        }
    }

    const TEXT: &str = "site: lab\nguests:\n  web:\n    vmid: many # of them\n";

    #[test]
    fn the_line_is_shown_with_a_mark_under_what_is_meant() {
        let mut wrong = sample(4, 11, Some("many"));
        wrong.suggestion = Some("1001".into());
        assert_eq!(
            problem(
                &Layout::default(),
                Severity::Error,
                &wrong,
                "phoenix.yaml",
                Some(TEXT)
            ),
            "\
error: a whole number is expected here
 --> phoenix.yaml:4:11
  |
4 |     vmid: many # of them
  |           ^^^^
  |
  = note: in `guests.web.vmid`
  = help: did you mean `1001`?
"
        );
    }

    #[test]
    fn without_the_file_the_place_is_still_named() {
        assert_eq!(
            problem(
                &Layout::default(),
                Severity::Warning,
                &sample(4, 11, Some("many")),
                "phoenix.yaml",
                None
            ),
            "\
warning: a whole number is expected here
--> phoenix.yaml:4:11
 = note: in `guests.web.vmid`
 = note: got `many`
"
        );
    }

    #[test]
    fn no_line_of_a_file_of_variables_is_shown() {
        let mut wrong = sample(1, 1, None);
        wrong.path = "$PASSWORD".into();
        let shown = problem(
            &Layout::default(),
            Severity::Warning,
            &wrong,
            ".env",
            Some("PASSWORD=hunter2$\n"),
        );
        assert_eq!(
            shown,
            "\
warning: a whole number is expected here
--> .env:1:1
 = note: in `$PASSWORD`
"
        );
    }

    #[test]
    fn a_file_cannot_reach_the_terminal() {
        let text = "site: \"\u{1b}[2J\u{9b}x\u{202e}\"\n";
        let mut wrong = sample(1, 7, None);
        wrong.message = "no\u{1b}[31m".into();
        let shown = problem(
            &Layout::default(),
            Severity::Error,
            &wrong,
            "a\u{7}b",
            Some(text),
        );
        assert!(
            !shown.replace('\n', "").contains(escape::is_active),
            "{shown:?}"
        );
    }

    #[test]
    fn problems_are_counted() {
        assert_eq!(count(1, 0), "1 error");
        assert_eq!(count(2, 1), "2 errors, 1 warning");
        assert_eq!(count(0, 2), "2 warnings");
    }

    proptest! {
        #[test]
        fn no_position_and_no_text_is_too_strange(
            text in any::<String>(),
            line in 0u32..6,
            column in 0u32..40,
            offending in proptest::option::of("\\PC{0,8}"),
            width in proptest::option::of(0usize..90),
        ) {
            let layout = Layout { width, ..Layout::default() };
            let wrong = sample(line, column, offending.as_deref());
            let shown = problem(&layout, Severity::Error, &wrong, "f", Some(&text));
            prop_assert!(shown.contains("a whole number is expected here"));
            prop_assert!(!shown.replace('\n', "").contains(escape::is_active), "{:?}", shown);
        }
    }
}
