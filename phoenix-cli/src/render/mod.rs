//! Events, plans, reports and failures as text for people. Nothing here prints, and nothing here
//! decides anything: text in, text out.

mod bodies;
mod ca;
mod certificate;
mod failure;
mod plan;
mod problems;
mod report;
mod stack;
mod status;
mod table;

use std::borrow::Cow;
use std::time::Duration;

use anstyle::{AnsiColor, Style};

use crate::escape;

pub(crate) use bodies::bodies;
pub(crate) use ca::ca;
pub(crate) use certificate::{certificate_list, certificates, checks, described};
pub(crate) use failure::{details, failure, reason};
pub(crate) use plan::{change, plan, plan_line};
pub(crate) use problems::{Severity, count, problem};
pub(crate) use report::report;
pub(crate) use stack::{
    deployed, removed, stack_event, stack_line, stack_list, stack_plan, stack_services, stack_tasks,
};
pub(crate) use status::status;

/// How text is laid out.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Layout {
    /// Whether to paint.
    pub(crate) color: bool,
    /// The width of the terminal in columns, when there is one.
    pub(crate) width: Option<usize>,
    /// Whether to show what is as it should be, too.
    pub(crate) verbose: bool,
}

impl Layout {
    pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
    pub(crate) const WARN: Style = AnsiColor::Yellow.on_default();
    pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
    pub(crate) const DIM: Style = Style::new().dimmed();
    pub(crate) const BOLD: Style = Style::new().bold();

    /// `text`, painted if this layout paints. `text` must be escaped already.
    pub(crate) fn paint<'a>(&self, style: Style, text: &'a str) -> Cow<'a, str> {
        if self.color && !style.is_plain() && !text.is_empty() {
            Cow::Owned(format!("{style}{text}{style:#}"))
        } else {
            Cow::Borrowed(text)
        }
    }
}

/// A warning on a line, or several, of its own.
pub(crate) fn warning(layout: &Layout, message: &str) -> String {
    let mut text = String::new();
    for (index, line) in escape::lines(message).enumerate() {
        if index == 0 {
            text.push_str(&layout.paint(Layout::WARN, "warning:"));
            text.push(' ');
        } else {
            text.push_str("         ");
        }
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// What the operator can do, on a line of its own.
pub(crate) fn hint(layout: &Layout, hint: &str) -> String {
    let label = layout.paint(Layout::BOLD, "hint:");
    format!("{label} {}\n", escape::line(hint))
}

/// `0.4s`, `41s`, `2m05s`, `1h02m`.
pub(crate) fn duration(elapsed: Duration) -> String {
    let tenths = elapsed.as_millis() / 100;
    let seconds = elapsed.as_secs();
    match seconds {
        0..10 => format!("{}.{}s", tenths / 10, tenths % 10),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

/// `1 step`, `3 steps`.
pub(crate) fn number(count: usize, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        let text = |ms| duration(Duration::from_millis(ms));
        assert_eq!(text(0), "0.0s");
        assert_eq!(text(9_999), "9.9s");
        assert_eq!(text(10_000), "10s");
        assert_eq!(text(125_400), "2m05s");
        assert_eq!(text(3_725_000), "1h02m");
    }

    #[test]
    fn paint_only_where_asked() {
        let painted = Layout {
            color: true,
            ..Layout::default()
        };
        assert_eq!(painted.paint(Layout::GOOD, "x"), "\u{1b}[32mx\u{1b}[0m");
        assert_eq!(Layout::default().paint(Layout::GOOD, "x"), "x");
    }
}
