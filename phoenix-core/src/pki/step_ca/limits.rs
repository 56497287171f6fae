//! The lifetimes that a provisioner grants.

use std::time::Duration;

use serde::Deserialize;

/// step-ca's own default minimum.
const DEFAULT_MINIMUM: Duration = Duration::from_secs(5 * 60);

/// The claims of a provisioner that bound lifetimes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Claims {
    #[serde(rename = "minTLSCertDuration")]
    min: Option<String>,
    #[serde(rename = "maxTLSCertDuration")]
    max: Option<String>,
}

impl Claims {
    /// The shortest lifetime.
    pub(super) fn shortest(&self) -> Duration {
        let declared = self.min.as_deref().and_then(go_duration);
        declared.unwrap_or(DEFAULT_MINIMUM)
    }

    /// The longest lifetime, where the provisioner says so itself.
    pub(super) fn longest(&self) -> Option<Duration> {
        let declared = self.max.as_deref().and_then(go_duration);
        // Zero is how Go leaves a claim out.
        declared.filter(|longest| !longest.is_zero())
    }
}

/// A duration in Go's notation (`24h0m0s`, `1.5h`, `300ms`); `None` for what is none, is negative
/// or has units that Go lacks.
pub(super) fn go_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, after) = tail.split_at(end);
        let unit = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * unit;
        rest = after;
    }
    if text.is_empty() {
        return None;
    }
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, seconds) in [
            ("24h0m0s", 86_400),
            ("5m", 300),
            ("1h30m", 5_400),
            ("1.5h", 5_400),
            ("0", 0),
            ("0s", 0),
        ] {
            assert_eq!(
                go_duration(text),
                Some(Duration::from_secs(seconds)),
                "{text}"
            );
        }
        for text in ["", "30d", "3600", "-1m", "h", "1..2h", "1 h"] {
            assert_eq!(go_duration(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[0-9hmsnµu. -]{0,12}|\\PC{0,12}") {
            let _ = go_duration(&text);
        }
    }
}
