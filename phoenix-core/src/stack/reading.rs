//! How values of compose files are read, beyond what [`Cursor`] reads: extensions, keys that a
//! swarm does not support, texts that must be quoted, numbers that variables brought in, and
//! Go's way to write a number.
//!
//! As with [`Cursor`], `None` means that a problem was reported.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::ground::document::{Cursor, Fields, Value, nearest};

use super::{duration, quantity};

/// A map with keys among `allowed`; of those in `refused` it is said why they are not.
pub(super) fn fields<'d>(
    at: &Cursor<'d>,
    allowed: &[&str],
    refused: &[(&'static str, &str)],
) -> Option<Fields<'d>> {
    read_fields(at, allowed, refused, false)
}

/// As [`fields`], where `x-…` is allowed too.
pub(super) fn extensible<'d>(
    at: &Cursor<'d>,
    allowed: &[&str],
    refused: &[(&'static str, &str)],
) -> Option<Fields<'d>> {
    read_fields(at, allowed, refused, true)
}

fn read_fields<'d>(
    at: &Cursor<'d>,
    allowed: &[&str],
    refused: &[(&'static str, &str)],
    extensible: bool,
) -> Option<Fields<'d>> {
    let mut known = allowed.to_vec();
    if let Value::Map(map) = &at.node().value {
        for entry in map {
            let key = entry.key.as_str();
            if extensible && key.starts_with("x-") {
                known.push(key);
            } else if let Some((_, why)) = refused.iter().find(|(name, _)| *name == key) {
                known.push(key);
                at.reader().report(
                    entry.key_position,
                    crate::ground::document::child_path(at.path(), key),
                    Some(key),
                    *why,
                    None,
                );
            }
        }
    }
    at.fields(&known)
}

/// What `read` makes of the value under `key`, or the default without the key.
pub(super) fn optional<'d, T: Default>(
    map: &Fields<'d>,
    key: &str,
    read: impl FnOnce(&Cursor<'d>) -> Option<T>,
) -> Option<T> {
    match map.get(key) {
        Some(at) => read(&at),
        None => Some(T::default()),
    }
}

/// What `read` makes of the value under `key`, or `Some(None)` without the key.
pub(super) fn present<'d, T>(
    map: &Fields<'d>,
    key: &str,
    read: impl FnOnce(&Cursor<'d>) -> Option<T>,
) -> Option<Option<T>> {
    match map.get(key) {
        Some(at) => read(&at).map(Some),
        None => Some(None),
    }
}

/// Reports that `name` is none of `known`.
pub(super) fn undefined<'n>(
    at: &Cursor<'_>,
    what: &str,
    name: &str,
    known: impl IntoIterator<Item = &'n str>,
) {
    let meant = nearest(name, known).map(str::to_owned);
    at.reader().report(
        at.position(),
        at.path(),
        Some(name),
        format!("no {what} of this name is declared under `{what}s`"),
        meant,
    );
}

/// A text that is written as one: numbers and booleans must be quoted.
pub(super) fn text<'d>(at: &Cursor<'d>) -> Option<&'d str> {
    match &at.node().value {
        Value::String(text) => Some(text),
        Value::Bool(_) | Value::Integer(_) | Value::Float(_) => {
            let meant = at.node().text().map(|text| format!("\"{text}\""));
            at.refuse_suggesting(
                format!(
                    "a text is expected here, not {}: quote it",
                    at.node().value.kind()
                ),
                meant,
            );
            None
        }
        _ => at.text(),
    }
}

/// A text that is not empty.
pub(super) fn filled<'d>(at: &Cursor<'d>) -> Option<&'d str> {
    let text = text(at)?;
    if text.is_empty() {
        at.refuse("an empty text is not allowed here");
        return None;
    }
    Some(text)
}

/// A list of texts.
pub(super) fn texts(at: &Cursor<'_>) -> Option<Vec<String>> {
    at.each(|item| text(&item).map(str::to_owned))
}

/// One text or a list of them.
pub(super) fn one_or_more(at: &Cursor<'_>) -> Option<Vec<String>> {
    match at.node().value {
        Value::List(_) => texts(at),
        _ => text(at).map(|text| vec![text.to_owned()]),
    }
}

/// What a text becomes that a variable brought in; `None` when the value was written in place.
fn brought_in<'d>(at: &Cursor<'d>) -> Option<&'d str> {
    match &at.node().value {
        Value::String(_) => at.node().written.as_deref(),
        _ => None,
    }
}

/// A whole number within `range`.
pub(super) fn integer<N>(at: &Cursor<'_>, range: RangeInclusive<N>) -> Option<N>
where
    N: TryFrom<i64> + PartialOrd + fmt::Display,
{
    // As docker does: `2.0` is a whole number.
    if let Value::Float(number) = at.node().value
        && number.fract() == 0.0
        && number.abs() < 9_007_199_254_740_992.0
    {
        #[allow(clippy::cast_possible_truncation)]
        let whole = N::try_from(number as i64).ok();
        if let Some(whole) = whole.filter(|whole| range.contains(whole)) {
            return Some(whole);
        }
    }
    let Some(text) = brought_in(at) else {
        return at.integer(range);
    };
    let number = text
        .parse()
        .ok()
        .and_then(|number: i64| N::try_from(number).ok());
    if let Some(number) = number
        && range.contains(&number)
    {
        return Some(number);
    }
    at.refuse(format!(
        "a whole number from {} to {} is expected here",
        range.start(),
        range.end()
    ));
    None
}

/// A boolean.
pub(super) fn boolean(at: &Cursor<'_>) -> Option<bool> {
    match brought_in(at).map(str::to_ascii_lowercase).as_deref() {
        Some("y" | "yes" | "true" | "on") => Some(true),
        Some("n" | "no" | "false" | "off") => Some(false),
        _ => at.boolean(),
    }
}

/// A number from 0 to 1.
pub(super) fn ratio(at: &Cursor<'_>) -> Option<f64> {
    let number = match &at.node().value {
        Value::Float(number) => Some(*number),
        Value::Integer(0) => Some(0.0),
        Value::Integer(1) => Some(1.0),
        _ => brought_in(at).and_then(|text| text.parse().ok()),
    };
    let number = number.filter(|number| (0.0..=1.0).contains(number));
    if number.is_none() {
        at.refuse("a number from 0 to 1 is expected here");
    }
    number
}

/// A duration.
pub(super) fn time(at: &Cursor<'_>) -> Option<Duration> {
    match duration::parse(text(at)?) {
        Ok(duration) => Some(duration),
        Err(error) => {
            at.refuse(error.to_string());
            None
        }
    }
}

/// An amount of memory in bytes.
pub(super) fn memory(at: &Cursor<'_>) -> Option<i64> {
    match quantity::bytes(text(at)?) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            at.refuse(error.to_string());
            None
        }
    }
}

/// A number of processors in billionths.
pub(super) fn processors(at: &Cursor<'_>) -> Option<i64> {
    match quantity::nano_cpus(text(at)?) {
        Ok(billionths) => Some(billionths),
        Err(error) => {
            at.refuse(error.to_string());
            None
        }
    }
}

/// A map of texts or a list of `key=value`: `None` for a key without a value. Of a list, the last
/// entry of a key counts.
pub(super) fn pairs(at: &Cursor<'_>) -> Option<BTreeMap<String, Option<String>>> {
    let mut pairs = BTreeMap::new();
    let mut complete = true;
    if let Value::List(_) = at.node().value {
        for item in at.items()? {
            let Some(entry) = text(&item) else {
                complete = false;
                continue;
            };
            let (key, value) = match entry.split_once('=') {
                Some((key, value)) => (key, Some(value.to_owned())),
                None => (entry, None),
            };
            if key.is_empty() {
                item.refuse("an entry is written `key=value`");
                complete = false;
            }
            pairs.insert(key.to_owned(), value);
        }
    } else {
        for (key, position, value) in at.entries()? {
            if key.is_empty() {
                at.reader()
                    .report(position, value.path(), None, "a key cannot be empty", None);
                complete = false;
            }
            if value.is_null() {
                pairs.insert(key.to_owned(), None);
            } else if let Some(text) = scalar(&value) {
                pairs.insert(key.to_owned(), Some(text));
            } else {
                complete = false;
            }
        }
    }
    complete.then_some(pairs)
}

/// As [`pairs`], where no value is the empty text.
pub(super) fn labels(at: &Cursor<'_>) -> Option<BTreeMap<String, String>> {
    let pairs = pairs(at)?.into_iter();
    Some(
        pairs
            .map(|(key, value)| (key, value.unwrap_or_default()))
            .collect(),
    )
}

/// A map of texts and numbers, where no value is the empty text.
pub(super) fn options_or_nothing(at: &Cursor<'_>) -> Option<BTreeMap<String, String>> {
    let pairs = at.entries()?;
    let count = pairs.len();
    let options: BTreeMap<String, String> = pairs
        .into_iter()
        .filter_map(|(key, _, value)| {
            let text = if value.is_null() {
                String::new()
            } else {
                scalar(&value)?
            };
            Some((key.to_owned(), text))
        })
        .collect();
    (options.len() == count).then_some(options)
}

/// A map of texts and numbers.
pub(super) fn options(at: &Cursor<'_>) -> Option<BTreeMap<String, String>> {
    let entries = at.entries()?;
    let count = entries.len();
    let options: BTreeMap<String, String> = entries
        .into_iter()
        .filter_map(|(key, _, value)| Some((key.to_owned(), scalar(&value)?)))
        .collect();
    (options.len() == count).then_some(options)
}

/// A text, or a number as the docker CLI would write it. A boolean is refused, because `yes` and
/// `true` would not mean the same to whoever reads it.
fn scalar(at: &Cursor<'_>) -> Option<String> {
    match &at.node().value {
        Value::Integer(number) => Some(number.to_string()),
        // Whole numbers of 64 bits without a sign do not fit.
        Value::Float(number) => Some(match at.node().text().and_then(unsigned) {
            Some(whole) => whole.to_string(),
            None => go_float(*number),
        }),
        _ => text(at).map(str::to_owned),
    }
}

/// A whole number of 64 bits without a sign, as YAML writes them.
fn unsigned(text: &str) -> Option<u64> {
    let (digits, radix) = match text.get(..2) {
        Some("0x" | "0X") => (&text[2..], 16),
        Some("0o" | "0O") => (&text[2..], 8),
        Some("0b" | "0B") => (&text[2..], 2),
        Some(_) if text.starts_with('0') => (&text[1..], 8),
        _ => (text, 10),
    };
    u64::from_str_radix(&digits.replace('_', ""), radix).ok()
}

/// A float as Go's `%v` writes it: the shortest digits, with an exponent of at least two digits
/// when it is below -4 or above 5 (`1000000.0` is `1e+06`).
pub(super) fn go_float(number: f64) -> String {
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..=5).contains(&exponent) {
        return format!("{number}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_go_does() {
        for (number, expected) in [
            (1.1, "1.1"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (-2.5, "-2.5"),
            (100_000.0, "100000"),
            (1_000_000.0, "1e+06"),
            (1_234_567.5, "1.2345675e+06"),
            (1e100, "1e+100"),
        ] {
            assert_eq!(go_float(number), expected);
        }
    }
}
