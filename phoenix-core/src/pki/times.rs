//! Times and spans of time as messages show them.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const UNITS: [(u64, &str); 3] = [(86_400, "day"), (3_600, "hour"), (60, "minute")];

/// A time as RFC 3339 in whole seconds.
pub(super) fn show(time: &OffsetDateTime) -> String {
    let whole = time.replace_nanosecond(0).unwrap_or(*time);
    whole.format(&Rfc3339).unwrap_or_else(|_| whole.to_string())
}

/// `duration` in its largest unit of which there are at least two, rounded down.
pub(super) fn about(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let unit = UNITS
        .into_iter()
        .map(|(length, unit)| (seconds / length, unit))
        .find(|(count, _)| *count >= 2);
    let (count, unit) = unit.unwrap_or((seconds, "second"));
    counted(count, unit)
}

/// `duration`, whole seconds of it, in as many units as leave no rest.
pub(super) fn exactly(duration: Duration) -> String {
    let mut rest = duration.as_secs();
    let mut parts = Vec::new();
    for (length, unit) in UNITS.into_iter().chain([(1, "second")]) {
        let count = rest / length;
        rest %= length;
        if count > 0 {
            parts.push(counted(count, unit));
        }
    }
    if parts.is_empty() {
        parts.push(counted(0, "second"));
    }
    parts.join(" ")
}

fn counted(count: u64, unit: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_rounded_or_whole() {
        for (seconds, rounded, exact) in [
            (0, "0 seconds", "0 seconds"),
            (1, "1 second", "1 second"),
            (60, "60 seconds", "1 minute"),
            (119, "119 seconds", "1 minute 59 seconds"),
            (120, "2 minutes", "2 minutes"),
            (7_259, "2 hours", "2 hours 59 seconds"),
            (86_400, "24 hours", "1 day"),
            (90 * 86_400, "90 days", "90 days"),
            (90 * 86_400 + 3_600, "90 days", "90 days 1 hour"),
            (
                315_359_998,
                "3649 days",
                "3649 days 23 hours 59 minutes 58 seconds",
            ),
        ] {
            let duration = Duration::from_secs(seconds);
            assert_eq!(about(duration), rounded);
            assert_eq!(exactly(duration), exact);
        }
    }
}
