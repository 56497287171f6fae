//! Scalars that docker reads in a way of its own: plain ones that are a time, a number with
//! underscores, or no finite number. Only where docker's ways are asked for; otherwise they are
//! the texts that they look like.
//!
//! Docker turns a time into the text that Go writes for it where a map of texts holds it, and
//! fails everywhere else.

use crate::ground::document::{Node, Value, child_path};

use super::findings::{Findings, matches};

/// Maps of texts, in which docker writes times.
const MAPS: &[&str] = &[
    "configs.*.labels.*",
    "networks.*.driver_opts.*",
    "networks.*.labels.*",
    "secrets.*.driver_opts.*",
    "secrets.*.labels.*",
    "services.*.deploy.labels.*",
    "services.*.environment.*",
    "services.*.extra_hosts.*",
    "services.*.labels.*",
    "services.*.logging.options.*",
    "services.*.networks.*.driver_opts.*",
    "services.*.sysctls.*",
    "volumes.*.driver_opts.*",
    "volumes.*.labels.*",
];

/// Changes the tree at `root`, which was parsed from `text`, as docker does.
pub(super) fn apply(root: &mut Node, text: &str, findings: &mut Findings) {
    let mut walk = Walk {
        lines: text.lines().collect(),
        findings,
        way: Vec::new(),
    };
    walk.node(root, "");
}

struct Walk<'a> {
    lines: Vec<&'a str>,
    findings: &'a mut Findings,
    /// The keys that lead to the node, `[]` for an item of a list.
    way: Vec<String>,
}

impl Walk<'_> {
    fn node(&mut self, node: &mut Node, path: &str) {
        match &mut node.value {
            Value::List(items) => {
                self.way.push("[]".to_owned());
                for (index, item) in items.iter_mut().enumerate() {
                    self.node(item, &format!("{path}[{index}]"));
                }
                self.way.pop();
            }
            Value::Map(map) => {
                for (key, value) in map.values_mut() {
                    self.way.push(key.to_owned());
                    self.node(value, &child_path(path, key));
                    self.way.pop();
                }
            }
            Value::String(text) => {
                if let Some(odd) = resolve(text) {
                    let text = text.clone();
                    if self.is_plain(node, &text) {
                        self.scalar(node, &text, odd, path);
                    }
                }
            }
            _ => {}
        }
    }

    fn scalar(&mut self, node: &mut Node, text: &str, odd: Odd, path: &str) {
        let way: Vec<&str> = self.way.iter().map(String::as_str).collect();
        // Nothing is made of extensions, nor of what is built.
        let forgotten = way.first().is_some_and(|key| key.starts_with("x-"))
            || way
                .get(2)
                .is_some_and(|key| key.starts_with("x-") || *key == "build");
        match odd {
            Odd::NotFinite => self.findings.refuse(
                node.position,
                path,
                Some(text),
                "docker reads this as a number that is not finite, and fails: quote it",
                None,
            ),
            _ if forgotten => {}
            Odd::Time(time) if MAPS.iter().any(|map| matches(map, &way)) => {
                self.findings.warn(
                    node.position,
                    path,
                    Some(text),
                    format!("docker takes this for a time, and writes `{time}`"),
                );
                node.value = Value::String(time);
            }
            Odd::Time(_) => self.findings.refuse(
                node.position,
                path,
                Some(text),
                "docker takes this for a time, and fails: quote it",
                None,
            ),
            Odd::Number(number) => {
                self.findings.warn(
                    node.position,
                    path,
                    Some(text),
                    "docker takes this for a number: it does not see the underscores",
                );
                node.value = number;
                node.written = Some(text.into());
            }
        }
    }

    /// Whether `value` stands at its place in the file without quotes or a tag.
    fn is_plain(&self, node: &Node, value: &str) -> bool {
        let (_, position) = self.findings.sources.locate(node.position);
        let index = |number: u32| usize::try_from(number.saturating_sub(1)).unwrap_or(usize::MAX);
        let line = self.lines.get(index(position.line)).copied();
        let line = line.unwrap_or_default().trim_start_matches('\u{feff}');
        let at = line.char_indices().nth(index(position.column));
        let (before, mut rest) = line.split_at(at.map_or(line.len(), |(at, _)| at));
        if rest.starts_with('&') {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            rest = rest[end..].trim_start();
        }
        let last = before.split_whitespace().last().unwrap_or_default();
        rest.starts_with(value) && !last.starts_with('!')
    }
}

/// What docker reads.
#[derive(Debug, PartialEq)]
enum Odd {
    /// This text, for a time.
    Time(String),
    Number(Value),
    NotFinite,
}

fn resolve(text: &str) -> Option<Odd> {
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return None;
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Some(Odd::NotFinite);
    }
    if text.starts_with('.') {
        return None;
    }
    if let Some(time) = time(text) {
        return Some(Odd::Time(time));
    }
    // Without underscores it would be a number already.
    text.contains('_')
        .then(|| number(&text.replace('_', "")))?
        .map(Odd::Number)
}

/// A number as Go reads it, which is written without underscores.
fn number(text: &str) -> Option<Value> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (radix, digits) = match digits.get(..2) {
        Some("0x" | "0X") => (16, &digits[2..]),
        Some("0o" | "0O") => (8, &digits[2..]),
        Some("0b" | "0B") => (2, &digits[2..]),
        Some(_) if digits.starts_with('0') => (8, &digits[1..]),
        _ => (10, digits),
    };
    // A second sign is none.
    if digits.starts_with(|c: char| c.is_ascii_alphanumeric())
        && let Ok(number) = i128::from_str_radix(digits, radix)
    {
        let number = if negative { -number } else { number };
        if let Ok(number) = i64::try_from(number) {
            return Some(Value::Integer(number));
        }
        if !text.starts_with('+')
            && let Ok(number) = u64::try_from(number)
        {
            #[allow(clippy::cast_precision_loss)]
            return Some(Value::Float(number as f64));
        }
    }
    let decimal = text
        .chars()
        .all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'));
    let number: f64 = text.parse().ok().filter(|_| decimal)?;
    number.is_finite().then_some(Value::Float(number))
}

/// What Go writes for the time that it reads in `text`, on a machine whose clock shows UTC.
fn time(text: &str) -> Option<String> {
    let mut rest = Rest(text);
    let year = rest.digits(4, 4)?;
    rest.sign('-')?;
    let month = rest.digits(1, 2)?;
    rest.sign('-')?;
    let day = rest.digits(1, 2)?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u32::from(leap),
        _ => return None,
    };
    if !(1..=days).contains(&day) {
        return None;
    }
    let date = format!("{year:04}-{month:02}-{day:02}");
    if rest.0.is_empty() {
        return Some(format!("{date} 00:00:00 +0000 UTC"));
    }
    let zoned = rest.sign('T').or_else(|| rest.sign('t')).is_some();
    if !zoned {
        rest.sign(' ')?;
        rest.0 = rest.0.trim_start_matches(' ');
    }
    let hour = rest.digits(1, 2).filter(|hour| *hour < 24)?;
    rest.sign(':')?;
    let minute = rest.digits(1, 2).filter(|minute| *minute < 60)?;
    rest.sign(':')?;
    let second = rest.digits(1, 2).filter(|second| *second < 60)?;
    let fraction = rest.fraction();
    let zone = match zoned {
        true => rest.zone()?,
        false => "+0000 UTC".to_owned(),
    };
    rest.0
        .is_empty()
        .then(|| format!("{date} {hour:02}:{minute:02}:{second:02}{fraction} {zone}"))
}

/// What has not been read yet.
struct Rest<'a>(&'a str);

impl Rest<'_> {
    fn sign(&mut self, sign: char) -> Option<()> {
        self.0 = self.0.strip_prefix(sign)?;
        Some(())
    }

    /// A number of this many digits.
    fn digits(&mut self, least: usize, most: usize) -> Option<u32> {
        let count = self
            .0
            .bytes()
            .take(most)
            .take_while(u8::is_ascii_digit)
            .count();
        if count < least {
            return None;
        }
        let (digits, rest) = self.0.split_at(count);
        self.0 = rest;
        digits.parse().ok()
    }

    /// A fraction of a second, to the billionth, without zeros at its end.
    fn fraction(&mut self) -> String {
        let Some(after) = self.0.strip_prefix(['.', ',']) else {
            return String::new();
        };
        let count = after.bytes().take_while(u8::is_ascii_digit).count();
        if count == 0 {
            return String::new();
        }
        let (digits, rest) = after.split_at(count);
        self.0 = rest;
        let digits = digits[..count.min(9)].trim_end_matches('0');
        match digits.is_empty() {
            true => String::new(),
            false => format!(".{digits}"),
        }
    }

    /// A zone: `Z`, or hours and minutes.
    fn zone(&mut self) -> Option<String> {
        if self.sign('Z').is_some() {
            return Some("+0000 UTC".to_owned());
        }
        let sign = self.0.chars().next().filter(|c| matches!(c, '+' | '-'))?;
        self.sign(sign)?;
        let hours = self.digits(2, 2).filter(|hours| *hours <= 24)?;
        self.sign(':')?;
        let minutes = self.digits(2, 2).filter(|minutes| *minutes <= 60)?;
        let minutes = hours * 60 + minutes;
        if minutes == 0 {
            return Some("+0000 UTC".to_owned());
        }
        let zone = format!("{sign}{:02}{:02}", minutes / 60, minutes % 60);
        Some(format!("{zone} {zone}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_go_does() {
        for (text, expected) in [
            ("2024-01-01", "2024-01-01 00:00:00 +0000 UTC"),
            ("2024-1-2", "2024-01-02 00:00:00 +0000 UTC"),
            ("2024-02-29", "2024-02-29 00:00:00 +0000 UTC"),
            ("0000-01-01", "0000-01-01 00:00:00 +0000 UTC"),
            ("2024-01-01 1:2:3", "2024-01-01 01:02:03 +0000 UTC"),
            ("2024-01-01  10:00:00.50", "2024-01-01 10:00:00.5 +0000 UTC"),
            ("2024-01-01T10:00:00Z", "2024-01-01 10:00:00 +0000 UTC"),
            (
                "2024-01-01t10:00:00,25+02:00",
                "2024-01-01 10:00:00.25 +0200 +0200",
            ),
            (
                "2024-01-01T01:02:03.1234567891-05:30",
                "2024-01-01 01:02:03.123456789 -0530 -0530",
            ),
            ("2024-01-01T01:02:03-00:00", "2024-01-01 01:02:03 +0000 UTC"),
            ("2024-01-01T01:02:03.0Z", "2024-01-01 01:02:03 +0000 UTC"),
        ] {
            assert_eq!(time(text).as_deref(), Some(expected), "{text}");
        }
        for text in [
            "2024-13-01",
            "2024-00-01",
            "2024-02-30",
            "2023-02-29",
            "1900-02-29",
            "2024-01-00",
            "24-01-01",
            "02024-01-01",
            "2024-001-01",
            "2024-01-01T",
            "2024-01-01T10:00:00",
            "2024-01-01T25:00:00Z",
            "2024-01-01 24:00:00",
            "2024-01-01 10:60:00",
            "2024-01-01 10:00",
            "2024-01-01 10:00:00Z",
            "2024-01-01T10:00:00+2",
            "2024-01-01T10:00:00+0200",
            "2024-01-01x",
            "2024-01-01T10:00:00.Z",
            "2024",
            "",
        ] {
            assert_eq!(time(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_are_read_without_underscores() {
        for (text, expected) in [
            ("1__0", Value::Integer(10)),
            ("1_", Value::Integer(1)),
            ("0_17", Value::Integer(15)),
            ("-0x_F", Value::Integer(-15)),
            ("+0b_1", Value::Integer(1)),
            ("0_8_", Value::Float(8.0)),
            ("1_0.5", Value::Float(10.5)),
            ("1_e3", Value::Float(1000.0)),
            ("1e_3", Value::Float(1000.0)),
            (
                "18_446_744_073_709_551_615",
                Value::Float(18_446_744_073_709_551_615.0),
            ),
        ] {
            assert_eq!(resolve(text), Some(Odd::Number(expected)), "{text}");
        }
        for text in [
            "1_x", "_1", "1_0.5.5", "._5", "1_e400", "0x_", "-_", "1_-0", "-+_1", "1", "a_1",
        ] {
            assert_eq!(resolve(text), None, "{text}");
        }
    }
}
