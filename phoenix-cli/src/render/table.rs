//! Tables that fit the terminal: the last column wraps, and where even that leaves no room,
//! every row becomes a small list.

use anstyle::Style;
use unicode_width::UnicodeWidthStr;

use super::Layout;
use crate::escape;

/// The least width of the last column before rows become lists.
const LAST_COLUMN: usize = 24;
const GAP: &str = "  ";

/// A cell: text, and how it is painted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// A cell of `text`, which may come from anywhere.
    pub(crate) fn new(text: impl AsRef<str>) -> Self {
        Self {
            text: escape::line(text.as_ref()).into_owned(),
            style: Style::new(),
        }
    }

    /// The same cell, painted.
    pub(crate) fn styled(mut self, style: Style) -> Self {
        self.style = style;
        self
    }
}

/// A table of `rows` under `header`, each line indented by two; empty without rows.
pub(crate) fn table<const N: usize>(
    layout: &Layout,
    header: [&str; N],
    rows: &[[Cell; N]],
) -> String {
    let mut text = String::new();
    if rows.is_empty() || N == 0 {
        return text;
    }
    let mut widths = header.map(UnicodeWidthStr::width);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.text.width());
        }
    }
    let before_last: usize = widths
        .iter()
        .take(N - 1)
        .map(|width| width + 2)
        .sum::<usize>()
        + 2;
    let room = layout.width.map(|width| width.saturating_sub(before_last));
    if room.is_some_and(|room| room < LAST_COLUMN.min(widths[N - 1])) {
        return lists(layout, header, rows);
    }
    let header = header.map(|title| Cell::new(title).styled(Layout::DIM));
    for row in std::iter::once(&header).chain(rows) {
        let mut continued = wrap(&row[N - 1].text, room).into_iter();
        text.push_str(GAP);
        for (cell, width) in row.iter().zip(widths).take(N - 1) {
            text.push_str(&layout.paint(cell.style, &cell.text));
            text.push_str(&" ".repeat(width - cell.text.width() + GAP.len()));
        }
        let last = continued.next().unwrap_or_default();
        text.push_str(&layout.paint(row[N - 1].style, &last));
        end_line(&mut text);
        for part in continued {
            text.push_str(&" ".repeat(before_last));
            text.push_str(&layout.paint(row[N - 1].style, &part));
            end_line(&mut text);
        }
    }
    text
}

fn lists<const N: usize>(layout: &Layout, header: [&str; N], rows: &[[Cell; N]]) -> String {
    let mut text = String::new();
    let room = layout.width.map(|width| width.saturating_sub(4).max(8));
    for row in rows {
        for (index, (title, cell)) in header.iter().zip(row).enumerate() {
            if cell.text.is_empty() {
                continue;
            }
            let line = if index == 0 {
                cell.text.clone()
            } else {
                format!("{}: {}", title.to_lowercase(), cell.text)
            };
            for (number, part) in wrap(&line, room).into_iter().enumerate() {
                text.push_str(if index == 0 && number == 0 {
                    "  "
                } else {
                    "    "
                });
                text.push_str(&layout.paint(cell.style, &part));
                end_line(&mut text);
            }
        }
    }
    text
}

fn end_line(text: &mut String) {
    text.truncate(text.trim_end_matches(' ').len());
    text.push('\n');
}

/// `text` in lines of at most `room` columns, broken between words where that is possible.
pub(crate) fn wrap(text: &str, room: Option<usize>) -> Vec<String> {
    let Some(room) = room.map(|room| room.max(1)) else {
        return vec![text.to_owned()];
    };
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        if !line.is_empty() && line.width() + 1 + word.width() > room {
            lines.push(std::mem::take(&mut line));
        } else if !line.is_empty() {
            line.push(' ');
        }
        for c in word.chars() {
            let before = line.len();
            line.push(c);
            if before > 0 && line.width() > room {
                let rest = line.split_off(before);
                lines.push(std::mem::replace(&mut line, rest));
            }
        }
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn layout(width: Option<usize>) -> Layout {
        Layout {
            color: false,
            width,
            verbose: false,
        }
    }

    fn rows() -> Vec<[Cell; 3]> {
        vec![
            [
                Cell::new("changed"),
                Cell::new("docker/portainer"),
                Cell::new("a TLS handshake with 10.0.0.2:2376 ended well"),
            ],
            [Cell::new("failed"), Cell::new("x"), Cell::new("")],
        ]
    }

    #[test]
    fn without_a_width_nothing_wraps() {
        assert_eq!(
            table(&layout(None), ["OUTCOME", "STEP", "DETAIL"], &rows()),
            "  OUTCOME  STEP              DETAIL\n  \
             changed  docker/portainer  a TLS handshake with 10.0.0.2:2376 ended well\n  \
             failed   x\n"
        );
    }

    #[test]
    fn the_last_column_wraps() {
        assert_eq!(
            table(&layout(Some(60)), ["OUTCOME", "STEP", "DETAIL"], &rows()),
            "  OUTCOME  STEP              DETAIL\n  \
             changed  docker/portainer  a TLS handshake with\n\
             \x20                            10.0.0.2:2376 ended well\n  \
             failed   x\n"
        );
    }

    #[test]
    fn where_there_is_no_room_rows_become_lists() {
        assert_eq!(
            table(&layout(Some(30)), ["OUTCOME", "STEP", "DETAIL"], &rows()),
            "  changed\n    step: docker/portainer\n    detail: a TLS handshake\n    with 10.0.0.2:2376 ended\n    well\n  failed\n    step: x\n"
        );
    }

    proptest! {
        #[test]
        fn no_line_is_wider_than_the_terminal(
            width in 12usize..100,
            cells in proptest::collection::vec(("[a-z]{0,20}", "\\PC{0,60}"), 1..5),
        ) {
            let rows: Vec<[Cell; 2]> =
                cells.iter().map(|(a, b)| [Cell::new(a), Cell::new(b)]).collect();
            for line in table(&layout(Some(width)), ["A", "B"], &rows).lines() {
                prop_assert!(line.width() <= width, "{line:?}");
            }
        }

        #[test]
        fn wrapping_keeps_every_character(text in "\\PC{0,80}", room in 1usize..40) {
            let kept: String = wrap(&text, Some(room)).concat();
            prop_assert_eq!(kept.replace(' ', ""), text.replace(' ', ""));
        }
    }
}
