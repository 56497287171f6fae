//! Durations as compose files write them: Go's `1m30s`, units `ns`, `us`, `ms`, `s`, `m`, `h`.
//!
//! Invariant: what parses fits the engine's signed 64-bit nanoseconds and is not negative.

use std::time::Duration;

const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Units that only files of the compose dialect have.
const LONG_UNITS: [(&str, u128); 2] = [("d", 86_400_000_000_000), ("w", 604_800_000_000_000)];

/// What is wrong with a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum DurationError {
    #[error("no duration; one is written like `90s` or `1m30s`")]
    Malformed,
    #[error("the duration has no unit (`ns`, `us`, `ms`, `s`, `m`, `h`)")]
    NoUnit,
    #[error("the unit is not one of `ns`, `us`, `ms`, `s`, `m`, `h`")]
    UnknownUnit,
    #[error("a negative duration is not allowed here")]
    Negative,
    #[error("the duration is longer than 292 years")]
    TooLong,
}

/// Parses a duration; a bare `0` is one.
pub(super) fn parse(text: &str) -> Result<Duration, DurationError> {
    parse_in(text, &[])
}

/// Parses a duration of the compose dialect, which has days and weeks.
pub(super) fn parse_long(text: &str) -> Result<Duration, DurationError> {
    parse_in(text, &LONG_UNITS)
}

fn parse_in(text: &str, further: &[(&str, u128)]) -> Result<Duration, DurationError> {
    let mut rest = match text.strip_prefix('-') {
        Some("0") => return Ok(Duration::ZERO),
        Some(_) => return Err(DurationError::Negative),
        None => text.strip_prefix('+').unwrap_or(text),
    };
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(DurationError::Malformed);
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let whole = digits(rest);
        rest = &rest[whole.len()..];
        let fraction = match rest.strip_prefix('.') {
            Some(after) => {
                let fraction = digits(after);
                rest = &after[fraction.len()..];
                fraction
            }
            None => "",
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(DurationError::Malformed);
        }
        let unit = rest
            .split(|c: char| c == '.' || c.is_ascii_digit())
            .next()
            .unwrap_or_default();
        rest = &rest[unit.len()..];
        if unit.is_empty() {
            return Err(DurationError::NoUnit);
        }
        let (_, scale) = UNITS
            .iter()
            .chain(further)
            .find(|(name, _)| *name == unit)
            .ok_or(DurationError::UnknownUnit)?;
        total = total
            .checked_add(scaled(whole, fraction, *scale).ok_or(DurationError::TooLong)?)
            .ok_or(DurationError::TooLong)?;
    }
    let nanoseconds = i64::try_from(total).map_err(|_| DurationError::TooLong)?;
    Ok(Duration::from_nanos(nanoseconds.unsigned_abs()))
}

fn digits(text: &str) -> &str {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    &text[..end]
}

fn scaled(whole: &str, fraction: &str, scale: u128) -> Option<u128> {
    // Below a nanosecond nothing is left of a fraction, whatever the unit.
    const PRECISION: usize = 18;
    let whole: u128 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let fraction = &fraction[..fraction.len().min(PRECISION)];
    let part: u128 = if fraction.is_empty() {
        0
    } else {
        let power = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        fraction.parse::<u128>().ok()?.checked_mul(scale)? / power
    };
    whole.checked_mul(scale)?.checked_add(part)
}

/// A duration in the engine's nanoseconds.
pub(super) fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        for (text, expected) in [
            ("0", Duration::ZERO),
            ("90s", Duration::from_secs(90)),
            ("1m30s", Duration::from_secs(90)),
            ("1.5h", Duration::from_secs(5400)),
            (".5s", Duration::from_millis(500)),
            ("1.s", Duration::from_secs(1)),
            ("100us", Duration::from_micros(100)),
            ("100µs", Duration::from_micros(100)),
            ("7ns", Duration::from_nanos(7)),
            ("+1s", Duration::from_secs(1)),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn the_compose_dialect_has_days_and_weeks() {
        for (text, hours) in [("1d", 24), ("1w1d", 192), ("0.5d", 12), ("1d2h", 26)] {
            assert_eq!(
                parse_long(text),
                Ok(Duration::from_secs(hours * 3600)),
                "{text}"
            );
        }
        assert_eq!(parse_long("1y"), Err(DurationError::UnknownUnit));
    }

    #[test]
    fn what_is_no_duration_says_why() {
        for (text, expected) in [
            ("", DurationError::Malformed),
            (".s", DurationError::Malformed),
            ("s", DurationError::Malformed),
            ("1s ", DurationError::UnknownUnit),
            ("10", DurationError::NoUnit),
            ("1d", DurationError::UnknownUnit),
            ("1w", DurationError::UnknownUnit),
            ("-1s", DurationError::Negative),
            ("999999999h", DurationError::TooLong),
            (
                "99999999999999999999999999999999999999999h",
                DurationError::TooLong,
            ),
        ] {
            assert_eq!(parse(text), Err(expected), "{text}");
        }
    }

    proptest! {
        #[test]
        fn parts_add_up(h in 0_u64..9999, m in 0_u64..9999, s in 0_u64..9999, ms in 0_u64..9999) {
            let expected = Duration::from_millis(((h * 60 + m) * 60 + s) * 1000 + ms);
            prop_assert_eq!(parse(&format!("{h}h{m}m{s}s{ms}ms")), Ok(expected));
            prop_assert_eq!(nanoseconds(expected), i64::try_from(expected.as_nanos()).unwrap());
        }

        #[test]
        fn any_text_is_read_without_panic(text in "\\PC{0,12}") {
            let _ = parse(&text);
        }
    }
}
