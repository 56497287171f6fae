//! The grammar of `docker stack deploy`, with its oddities, each of which is told.
//!
//! A name is followed by a modifier with or without braces, and what belongs to the modifier ends
//! at the next `}`. Which modifier it is, is found by looking for `:-`, `-`, `:?` and `?` in this
//! order anywhere in the text, and what stands before it is the name, even if it is none.

use std::fmt;

use crate::ground::document::Value;

use super::super::findings::matches;
use super::{Fault, Variables};

/// What docker does with a text that probably means something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Oddity {
    /// A `$` stands before no variable, and stays as it is.
    Dollar,
    /// The variable is not set, which gives the empty text.
    Unset(String),
    /// A modifier without braces took in what stands behind the variable.
    WithoutBraces(String),
    /// A later modifier counted, and what stands before it was no name.
    WrongModifier(String),
    /// A `$` in a default or message stays as it is.
    Nested(String),
    /// The fault was forgotten because another variable follows in the same text.
    Forgotten(String),
}

impl fmt::Display for Oddity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dollar => f.write_str(
                "a `$` stands before no variable's name, and is taken for a dollar sign; `$$` says so",
            ),
            Self::Unset(name) => write!(
                f,
                "the variable {name} is not set, and nothing stands in its place"
            ),
            Self::WithoutBraces(text) => write!(
                f,
                "docker reads `${text}` as a variable and its default, though there are no braces"
            ),
            Self::WrongModifier(text) => write!(
                f,
                "docker reads another modifier in `{text}` than the one that begins it"
            ),
            Self::Nested(text) => write!(f, "docker replaces no variables within `{text}`"),
            Self::Forgotten(fault) => write!(
                f,
                "docker forgets this fault because another variable follows: {fault}"
            ),
        }
    }
}

/// A piece of a text after a `$`.
enum Piece<'t> {
    Dollar,
    Variable { text: &'t str, braces: bool },
    Invalid,
}

/// Replaces the variables in `text` as docker does.
pub(super) fn substitute(
    text: &str,
    variables: &Variables,
) -> Result<(String, Vec<Oddity>), Fault> {
    let mut result = String::with_capacity(text.len());
    let mut oddities = Vec::new();
    let mut fault: Option<Fault> = None;
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        let (piece, after) = piece(&rest[at + 1..]);
        rest = after;
        match piece {
            Piece::Dollar => result.push('$'),
            Piece::Invalid => {
                fault = Some(
                    "no variable follows the `$`; write `$$` for a dollar sign"
                        .to_owned()
                        .into(),
                );
            }
            Piece::Variable { text, braces } => {
                let name_only = text.len() == name_length(text);
                if !name_only && !braces {
                    oddities.push(Oddity::WithoutBraces(text.to_owned()));
                }
                if text.contains('$') {
                    oddities.push(Oddity::Nested(text.to_owned()));
                }
                // What is wrong with one variable is forgotten when the next one is right.
                if let Some(fault) = fault.take() {
                    oddities.push(Oddity::Forgotten(fault.message));
                }
                match value(text, variables, &mut oddities) {
                    Ok(value) => result.push_str(value),
                    Err(found) => fault = Some(found),
                }
            }
        }
    }
    result.push_str(rest);
    match fault {
        None => Ok((result, oddities)),
        Some(fault) => Err(fault),
    }
}

/// What the text behind a `$` begins with, and what follows it.
fn piece(text: &str) -> (Piece<'_>, &str) {
    if let Some(after) = text.strip_prefix('$') {
        return (Piece::Dollar, after);
    }
    let plain = length(text);
    if plain > 0 {
        let (text, after) = text.split_at(plain);
        return (
            Piece::Variable {
                text,
                braces: false,
            },
            after,
        );
    }
    if let Some(inner) = text.strip_prefix('{') {
        let length = length(inner);
        if length > 0
            && let Some(after) = inner[length..].strip_prefix('}')
        {
            let text = &inner[..length];
            return (Piece::Variable { text, braces: true }, after);
        }
    }
    (Piece::Invalid, text)
}

/// The length of a name with its modifier.
fn length(text: &str) -> usize {
    let name = name_length(text);
    let after = &text[name..];
    let modifier = after.strip_prefix(':').unwrap_or(after);
    if name == 0 || !modifier.starts_with(['-', '?']) {
        return name;
    }
    name + after.find('}').unwrap_or(after.len())
}

fn name_length(text: &str) -> usize {
    // Without regard to case, which Go extends to these two letters.
    let letter = |c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '\u{17f}' | '\u{212a}');
    text.char_indices()
        .find(|(index, c)| !(letter(*c) || *index > 0 && c.is_ascii_digit()))
        .map_or(text.len(), |(index, _)| index)
}

fn value<'t>(
    text: &'t str,
    variables: &'t Variables,
    oddities: &mut Vec<Oddity>,
) -> Result<&'t str, Fault> {
    for (separator, empty_counts, message) in [
        (":-", false, false),
        ("-", true, false),
        (":?", false, true),
        ("?", true, true),
    ] {
        let Some((name, operand)) = text.split_once(separator) else {
            continue;
        };
        if name.len() != name_length(text) {
            oddities.push(Oddity::WrongModifier(text.to_owned()));
        }
        let set = variables
            .get(name)
            .map(String::as_str)
            .filter(|value| empty_counts || !value.is_empty());
        return match set {
            Some(value) => Ok(value),
            None if message => {
                Err(format!("required variable {name} is missing a value: {operand}").into())
            }
            None => Ok(operand),
        };
    }
    Ok(variables.get(text).map_or_else(
        || {
            oddities.push(Oddity::Unset(text.to_owned()));
            ""
        },
        String::as_str,
    ))
}

const INTEGERS: &[&str] = &[
    "services.*.configs.[].mode",
    "services.*.secrets.[].mode",
    "services.*.healthcheck.retries",
    "services.*.deploy.replicas",
    "services.*.deploy.update_config.parallelism",
    "services.*.deploy.rollback_config.parallelism",
    "services.*.deploy.restart_policy.max_attempts",
    "services.*.deploy.placement.max_replicas_per_node",
    "services.*.ports.[].target",
    "services.*.ports.[].published",
    "services.*.ulimits.*",
    "services.*.ulimits.*.hard",
    "services.*.ulimits.*.soft",
    "services.*.oom_score_adj",
];
const FLOATS: &[&str] = &[
    "services.*.deploy.update_config.max_failure_ratio",
    "services.*.deploy.rollback_config.max_failure_ratio",
];
const BOOLEANS: &[&str] = &[
    "services.*.healthcheck.disable",
    "services.*.privileged",
    "services.*.read_only",
    "services.*.stdin_open",
    "services.*.tty",
    "services.*.volumes.[].read_only",
    "services.*.volumes.[].volume.nocopy",
    "networks.*.external",
    "networks.*.internal",
    "networks.*.attachable",
    "volumes.*.external",
    "secrets.*.external",
    "configs.*.external",
];

/// What a text that variables changed becomes at a place that the keys `way` lead to.
pub(super) fn cast(text: &str, way: &[&str]) -> Result<Value, String> {
    let is = |patterns: &[&str]| patterns.iter().any(|pattern| matches(pattern, way));
    if is(INTEGERS) {
        text.parse()
            .map(Value::Integer)
            .map_err(|_| "a whole number in decimal digits is expected here".to_owned())
    } else if is(FLOATS) {
        text.parse()
            .ok()
            .filter(|number: &f64| number.is_finite())
            .map(Value::Float)
            .ok_or_else(|| "a number is expected here".to_owned())
    } else if is(BOOLEANS) {
        match text.to_ascii_lowercase().as_str() {
            "y" | "yes" | "true" | "on" => Ok(Value::Bool(true)),
            "n" | "no" | "false" | "off" => Ok(Value::Bool(false)),
            _ => Err("a boolean is expected here: `true` or `false`".to_owned()),
        }
    } else {
        Ok(Value::String(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn variables() -> Variables {
        [("A", "one"), ("EMPTY", ""), ("IMG", "nginx")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    fn replaced(text: &str) -> Result<String, String> {
        substitute(text, &variables())
            .map(|(text, _)| text)
            .map_err(|fault| fault.message)
    }

    #[test]
    fn texts_are_read_as_the_docker_cli_reads_them() {
        for (text, expected) in [
            ("$A ${A} $$A", "one one $A"),
            ("$IMG-alpine", "nginx"),
            ("$NONE", ""),
            ("$NONE-x ${A}x", "x ${A}x"),
            ("${EMPTY:-d}${EMPTY-d}${NONE-d}", "dd"),
            ("${NONE:-${A}}", "${A}"),
            ("${X:?not-set}", "set"),
            ("${A:?not-set}", "set"),
            ("${X?a:-b}", "b"),
            ("${A?}", "one"),
            ("${A:?}", "one"),
            ("${X:?needed} $A", " one"),
            ("a$a", "a"),
        ] {
            assert_eq!(replaced(text).unwrap(), expected, "{text}");
        }
        for text in [
            "$",
            "$1",
            "${}",
            "${A",
            "${A.b}",
            "${A:+x}",
            "${X:?}",
            "${X?}",
            "$A $",
            "${EMPTY:?m}",
        ] {
            assert!(replaced(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_odd_is_told() {
        for (text, odd) in [
            (
                "$IMG-alpine",
                Oddity::WithoutBraces("IMG-alpine".to_owned()),
            ),
            ("$NONE", Oddity::Unset("NONE".to_owned())),
            (
                "${A:?not-set}",
                Oddity::WrongModifier("A:?not-set".to_owned()),
            ),
            ("${N:-$A}", Oddity::Nested("N:-$A".to_owned())),
        ] {
            let (_, oddities) = substitute(text, &variables()).unwrap();
            assert_eq!(oddities, [odd], "{text}");
        }
        assert_eq!(substitute("${A} ${X:-a} $$", &variables()).unwrap().1, []);
    }

    #[test]
    fn texts_are_cast_where_docker_casts() {
        assert_eq!(
            cast("3", &["services", "w", "deploy", "replicas"]),
            Ok(Value::Integer(3))
        );
        assert_eq!(
            cast("0440", &["services", "w", "secrets", "[]", "mode"]),
            Ok(Value::Integer(440))
        );
        assert_eq!(
            cast("Yes", &["services", "w", "tty"]),
            Ok(Value::Bool(true))
        );
        assert!(cast("1", &["services", "w", "tty"]).is_err());
        assert_eq!(
            cast("yes", &["services", "w", "init"]),
            Ok(Value::String("yes".to_owned()))
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "[$\\{\\}A-C:?ſ-]{0,16}") {
            let _ = substitute(&text, &variables());
        }

        #[test]
        fn an_escaped_text_comes_back(text in "\\PC{0,24}") {
            prop_assert_eq!(replaced(&text.replace('$', "$$")).unwrap(), text);
        }
    }
}
