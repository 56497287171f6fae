//! The grammar of `docker compose`: a modifier needs braces, `:+` and `+` give another text for a
//! variable that is set, what stands behind a modifier may hold variables itself, and a `$` before
//! no name is a dollar sign.

use super::docker::Oddity;
use super::{Fault, Variables, name_at, quoted};

/// How deep variables may be nested.
const DEPTH: usize = 16;

/// Replaces the variables in `text`.
pub(super) fn substitute(
    text: &str,
    variables: &Variables,
) -> Result<(String, Vec<Oddity>), Fault> {
    let mut oddities = Vec::new();
    let replaced = replace(text, variables, &mut oddities, 0)?;
    Ok((replaced, oddities))
}

fn replace(
    text: &str,
    variables: &Variables,
    oddities: &mut Vec<Oddity>,
    depth: usize,
) -> Result<String, Fault> {
    if depth > DEPTH {
        return Err("variables are nested too deeply".to_owned().into());
    }
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            result.push('$');
            rest = after;
        } else if let Some(inner) = rest.strip_prefix('{') {
            let end =
                end_of(inner).ok_or_else(|| Fault::from("`${` is not closed by `}`".to_owned()))?;
            result.push_str(&braced(&inner[..end], variables, oddities, depth)?);
            rest = &inner[end + 1..];
        } else {
            let name = name_at(rest);
            if name.is_empty() {
                oddities.push(Oddity::Dollar);
                result.push('$');
                continue;
            }
            result.push_str(plain(name, variables, oddities));
            rest = &rest[name.len()..];
        }
    }
    result.push_str(rest);
    Ok(result)
}

/// Where the `}` is that closes what `text` begins in. Every brace in it counts, unless there are
/// not enough that close; then it is those of variables.
fn end_of(text: &str) -> Option<usize> {
    balanced(text, |_| true).or_else(|| balanced(text, |before| before == Some('$')))
}

/// Where the first `}` is that closes no brace within `text`, of those that open something by what
/// stands before them.
fn balanced(text: &str, opens: impl Fn(Option<char>) -> bool) -> Option<usize> {
    let mut open = 0_usize;
    let mut before = None;
    for (index, character) in text.char_indices() {
        match character {
            '}' if open == 0 => return Some(index),
            '}' => open -= 1,
            '{' if opens(before) => open += 1,
            _ => {}
        }
        // Of two dollar signs the second begins no variable.
        before = Some(character).filter(|c| *c != '$' || before != Some('$'));
    }
    None
}

fn plain<'v>(name: &str, variables: &'v Variables, oddities: &mut Vec<Oddity>) -> &'v str {
    variables.get(name).map_or_else(
        || {
            oddities.push(Oddity::Unset(name.to_owned()));
            ""
        },
        String::as_str,
    )
}

fn braced(
    inner: &str,
    variables: &Variables,
    oddities: &mut Vec<Oddity>,
    depth: usize,
) -> Result<String, Fault> {
    let name = name_at(inner);
    if name.is_empty() {
        return Err(
            "`${` is followed by no variable; write `$$` for a dollar sign"
                .to_owned()
                .into(),
        );
    }
    let modifier = &inner[name.len()..];
    if modifier.is_empty() {
        return Ok(plain(name, variables, oddities).to_owned());
    }
    let value = variables.get(name).map(String::as_str);
    let (empty_counts, after) = match modifier.strip_prefix(':') {
        Some(after) => (false, after),
        None => (true, modifier),
    };
    let set = value.filter(|value| empty_counts || !value.is_empty());
    let Some(kind @ ('-' | '?' | '+')) = after.chars().next() else {
        return Err(
            "after a variable's name only `:-`, `-`, `:?`, `?`, `:+` and `+` are allowed"
                .to_owned()
                .into(),
        );
    };
    let operand = &after[1..];
    match (kind, set) {
        ('+', None) => Ok(String::new()),
        ('+', Some(_)) | ('-', None) => replace(operand, variables, oddities, depth + 1),
        (_, Some(value)) => Ok(value.to_owned()),
        (_, None) => {
            let message = replace(operand, variables, oddities, depth + 1)?;
            let state = if value.is_some() { "empty" } else { "not set" };
            let why = if message.is_empty() {
                String::new()
            } else {
                format!(": {}", quoted(&message))
            };
            Err(format!("the required variable {name} is {state}{why}").into())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn variables() -> Variables {
        [("A", "one"), ("B", "two"), ("EMPTY", "")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    fn replaced(text: &str) -> Result<String, String> {
        substitute(text, &variables())
            .map(|(text, _)| text)
            .map_err(|fault| fault.message)
    }

    #[test]
    fn texts_are_read_as_docker_compose_reads_them() {
        for (text, expected) in [
            ("$A-x ${A}-y $$A", "one-x one-y $A"),
            ("${NONE}", ""),
            ("${NONE:-${B}}", "two"),
            ("${NONE:-${X-${B}}}!", "two!"),
            ("${NONE-$A-$B}", "one-two"),
            ("${A:-${B}}", "one"),
            ("${EMPTY:-d}${EMPTY-d}", "d"),
            ("${A:+yes}${EMPTY:+yes}${EMPTY+set}${NONE+set}", "yesset"),
            ("${A:+${B}}", "two"),
            ("${A:?not-set}", "one"),
            ("${EMPTY?m}", ""),
            ("${NONE:-$${A}}", "${A}"),
            ("${NONE:-{a}}z", "{a}z"),
            ("${A:-{a}}z", "onez"),
            (
                "${NONE:-{\"a\": {\"b\": \"$A\"}}}",
                "{\"a\": {\"b\": \"one\"}}",
            ),
            ("${NONE:-{}} $B", "{} two"),
            ("${NONE:-{} $B", "{ two"),
            ("$", "$"),
            ("pa$1word$", "pa$1word$"),
            ("$(x) $$(y) $", "$(x) $(y) $"),
        ] {
            assert_eq!(replaced(text).as_deref(), Ok(expected), "{text}");
        }
        for (text, part) in [
            ("${NONE:?give ${A}}", "NONE is not set: give one"),
            ("${EMPTY:?}", "EMPTY is empty"),
            ("${A:=x}", "only"),
            ("${A", "not closed"),
            ("${}", "no variable"),
        ] {
            let message = replaced(text).unwrap_err();
            assert!(message.contains(part), "{text}: {message}");
        }
        let (_, oddities) = substitute("$NONE", &variables()).unwrap();
        assert_eq!(oddities, [Oddity::Unset("NONE".to_owned())]);
        let (_, oddities) = substitute("a$1$", &variables()).unwrap();
        assert_eq!(oddities, [Oddity::Dollar, Oddity::Dollar]);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "[$\\{\\}A-C:?+-]{0,24}") {
            let _ = replaced(&text);
        }

        #[test]
        fn an_escaped_text_comes_back(text in "\\PC{0,24}") {
            prop_assert_eq!(replaced(&text.replace('$', "$$")).unwrap(), text);
        }

        #[test]
        fn a_value_is_never_read_again(value in "\\PC{0,12}") {
            let variables = Variables::from([("V".to_owned(), value.clone())]);
            let (text, _) = substitute("<${N:-${V}}>", &variables).unwrap();
            prop_assert_eq!(text, format!("<{value}>"));
        }
    }
}
