//! Variables in the values of a compose file: `$NAME`, `${NAME}`, `${NAME:-default}`,
//! `${NAME-default}`, `${NAME:?message}`, `${NAME?message}`, and `$$` for a dollar sign.
//!
//! Variables are replaced in the tree, never in the text, so that no value can change the
//! structure of the document; keys are left alone, and so are extensions (`x-…`) until an alias
//! brings them into a service.
//!
//! Where the docker CLI does something surprising, this does what was meant or refuses: a
//! modifier belongs to braces only (`$A-x` is refused, docker reads a default there), the first
//! modifier counts (`${A:?not-set}` is a message, no default), a default is a plain text (no `$`
//! in it), and a variable that nobody declared is an error and not the empty text. [`docker`] has
//! docker's own grammar, and [`nested`] that of the compose dialect.

mod docker;
mod nested;

use std::collections::BTreeMap;

use crate::ground::document::{Entry, Node, Value, child_path, nearest, quoted};

use super::findings::Findings;

/// Variables by name.
pub(super) type Variables = BTreeMap<String, String>;

/// What is wrong with a text that has variables in it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fault {
    message: String,
    suggestion: Option<String>,
}

impl From<String> for Fault {
    fn from(message: String) -> Self {
        Self {
            message,
            suggestion: None,
        }
    }
}

/// How texts with variables are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grammar {
    /// That of stacks, without its traps.
    Careful,
    /// That of `docker stack deploy`.
    Docker,
    /// That of `docker compose`.
    Nested,
}

/// Replaces the variables in every value of `root`.
///
/// A text that changed carries itself in [`Node::written`], as plain scalars do: it may become a
/// number or boolean where one is expected, and a text that was quoted may not. With docker's
/// grammar it is cast where docker casts, and nowhere else.
pub(super) fn interpolate(
    root: &Node,
    grammar: Grammar,
    variables: &Variables,
    findings: &mut Findings,
) -> Node {
    let mut walk = Walk {
        grammar,
        variables,
        findings,
        way: Vec::new(),
    };
    walk.node(root, "")
}

struct Walk<'a, 'n> {
    grammar: Grammar,
    variables: &'a Variables,
    findings: &'a mut Findings,
    /// The keys that lead to the node, `[]` for an item of a list.
    way: Vec<&'n str>,
}

impl<'n> Walk<'_, 'n> {
    fn node(&mut self, node: &'n Node, path: &str) -> Node {
        let value = match &node.value {
            Value::String(text) if text.contains('$') => return self.text(node, text, path),
            Value::List(items) => {
                self.way.push("[]");
                let items = items
                    .iter()
                    .enumerate()
                    .map(|(index, item)| self.node(item, &format!("{path}[{index}]")))
                    .collect();
                self.way.pop();
                Value::List(items)
            }
            Value::Map(map) => Value::Map(
                map.iter()
                    .map(|entry| {
                        // Extensions are allowed at the top and within each service, network…
                        let extension = self.grammar != Grammar::Docker
                            && entry.key.starts_with("x-")
                            && matches!(self.way.len(), 0 | 2);
                        self.way.push(&entry.key);
                        let value = if extension {
                            entry.value.clone()
                        } else {
                            self.node(&entry.value, &child_path(path, &entry.key))
                        };
                        self.way.pop();
                        Entry {
                            value,
                            key: entry.key.clone(),
                            key_position: entry.key_position,
                        }
                    })
                    .collect(),
            ),
            _ => return node.clone(),
        };
        Node {
            value,
            position: node.position,
            written: node.written.clone(),
        }
    }

    fn text(&mut self, node: &Node, text: &str, path: &str) -> Node {
        self.findings.uses(text, self.variables);
        let replaced = match self.grammar {
            Grammar::Careful => substitute(text, self.variables).map(|text| (text, Vec::new())),
            Grammar::Nested => nested::substitute(text, self.variables),
            Grammar::Docker => docker::substitute(text, self.variables),
        };
        let replaced = replaced.map(|(replaced, oddities)| {
            for oddity in oddities {
                self.findings
                    .warn(node.position, path, Some(text), oddity.to_string());
            }
            replaced
        });
        let value = match replaced {
            Ok(replaced) if self.grammar == Grammar::Docker => {
                docker::cast(&replaced, &self.way).map_err(Fault::from)
            }
            Ok(replaced) => {
                return Node {
                    written: Some(replaced.as_str().into()),
                    value: Value::String(replaced),
                    position: node.position,
                };
            }
            Err(fault) => Err(fault),
        };
        match value {
            Ok(value) => Node {
                // As if it had been written there.
                written: match &value {
                    Value::String(_) => None,
                    Value::Bool(value) => Some(value.to_string().into()),
                    Value::Integer(value) => Some(value.to_string().into()),
                    _ => Some(text.into()),
                },
                value,
                position: node.position,
            },
            Err(fault) => {
                self.findings.refuse(
                    node.position,
                    path,
                    Some(text),
                    fault.message,
                    fault.suggestion,
                );
                node.clone()
            }
        }
    }
}

/// Replaces the variables in `text` by the grammar of the compose dialect, and says what is odd.
pub(super) fn nested(text: &str, variables: &Variables) -> Result<(String, Vec<String>), String> {
    match nested::substitute(text, variables) {
        Ok((text, oddities)) => Ok((text, oddities.iter().map(ToString::to_string).collect())),
        Err(fault) => Err(fault.message),
    }
}

fn substitute(text: &str, variables: &Variables) -> Result<String, Fault> {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            result.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let end = after
                .find('}')
                .ok_or_else(|| Fault::from("`${` is not closed by `}`".to_owned()))?;
            result.push_str(braced(&after[..end], variables)?);
            rest = &after[end + 1..];
        } else {
            let name = name_at(rest);
            if name.is_empty() {
                return Err(
                    "`$` is followed by no variable; write `$$` for a dollar sign"
                        .to_owned()
                        .into(),
                );
            }
            let after = &rest[name.len()..];
            refuse_modifier(name, after)?;
            result.push_str(variables.get(name).ok_or_else(|| unset(name, variables))?);
            rest = after;
        }
    }
    result.push_str(rest);
    Ok(result)
}

/// Docker takes what looks like a modifier after a name without braces for one, and loses it.
fn refuse_modifier(name: &str, after: &str) -> Result<(), Fault> {
    if !["-", "?", ":-", ":?"]
        .iter()
        .any(|modifier| after.starts_with(modifier))
    {
        return Ok(());
    }
    let next: String = after
        .chars()
        .take_while(|c| !c.is_whitespace())
        .take(16)
        .collect();
    Err(Fault {
        message: format!(
            "without braces, what follows ${name} would be read as a default by \
             `docker stack deploy`, and lost; write `${{{name}}}` with braces"
        ),
        suggestion: Some(format!("${{{name}}}{next}")),
    })
}

fn braced<'a>(inner: &'a str, variables: &'a Variables) -> Result<&'a str, Fault> {
    let name = name_at(inner);
    if name.is_empty() {
        return Err(
            "`${` is followed by no variable; write `$$` for a dollar sign"
                .to_owned()
                .into(),
        );
    }
    let value = variables.get(name).map(String::as_str);
    let modifier = &inner[name.len()..];
    let filled = value.filter(|value| !value.is_empty());
    let (set, operand, message) = if modifier.is_empty() {
        return value.ok_or_else(|| unset(name, variables));
    } else if let Some(default) = modifier.strip_prefix(":-") {
        (filled, default, false)
    } else if let Some(default) = modifier.strip_prefix('-') {
        if default.contains(":-") {
            // Docker looks for `:-` first, wherever it stands.
            return Err("`:-` within a default that begins with `-` is ambiguous; \
                 give the default without it, or begin it with `:-`"
                .to_owned()
                .into());
        }
        (value, default, false)
    } else if let Some(message) = modifier.strip_prefix(":?") {
        (filled, message, true)
    } else if let Some(message) = modifier.strip_prefix('?') {
        (value, message, true)
    } else {
        return Err(
            "after a variable's name only `:-`, `-`, `:?` and `?` are allowed"
                .to_owned()
                .into(),
        );
    };
    if operand.contains('$') {
        return Err(
            "variables cannot be nested: a default or message is a plain text"
                .to_owned()
                .into(),
        );
    }
    match set {
        Some(value) => Ok(value),
        None if message => {
            let state = if value.is_some() { "empty" } else { "not set" };
            let why = if operand.is_empty() {
                String::new()
            } else {
                format!(": {}", quoted(operand))
            };
            Err(format!("the required variable {name} is {state}{why}").into())
        }
        None => Ok(operand),
    }
}

fn unset(name: &str, variables: &Variables) -> Fault {
    Fault {
        message: format!("the variable {name} is not set and has no default (`${{{name}:-}}`)"),
        suggestion: nearest(name, variables.keys().map(String::as_str))
            .map(|known| format!("${{{known}}}")),
    }
}

/// The variable's name that `text` begins with.
fn name_at(text: &str) -> &str {
    let end = text
        .char_indices()
        .find(|(index, c)| {
            !(c.is_ascii_alphabetic() || *c == '_' || *index > 0 && c.is_ascii_digit())
        })
        .map_or(text.len(), |(index, _)| index);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ground::document::Problems;

    fn variables() -> Variables {
        [("A", "one"), ("EMPTY", ""), ("N", "3")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    fn replaced(text: &str) -> Result<String, String> {
        substitute(text, &variables()).map_err(|fault| fault.message)
    }

    #[test]
    fn variables_are_replaced() {
        for (text, expected) in [
            ("plain", "plain"),
            ("$A", "one"),
            ("${A}", "one"),
            ("x${A}y$A.z", "xoneyone.z"),
            ("$$A $${A}", "$A ${A}"),
            ("${EMPTY}", ""),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY-d}", ""),
            ("${NONE:-d}", "d"),
            ("${NONE-d}", "d"),
            ("${NONE:-}", ""),
            ("${NONE:-a:b-c?d}", "a:b-c?d"),
            ("${A:?needed}", "one"),
            ("${EMPTY?needed}", ""),
            ("${A}{}", "one{}"),
        ] {
            assert_eq!(replaced(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_replaced_is_refused() {
        for (text, part) in [
            ("$", "no variable"),
            ("a $1", "no variable"),
            ("${}", "no variable"),
            ("${A", "not closed"),
            ("${NONE}", "not set"),
            ("$NONE", "not set"),
            ("${NONE:?give one}", "NONE is not set: give one"),
            ("${NONE:?not-set}", "NONE is not set: not-set"),
            ("${NONE?a:-b}", "NONE is not set: a:-b"),
            ("${EMPTY:?}", "EMPTY is empty"),
            ("${A:+x}", "only"),
            ("${A:=x}", "only"),
            ("${A.b}", "only"),
            ("${NONE:-${A}}", "nested"),
            ("${NONE:-$A}", "nested"),
            ("$A-x", "with braces"),
            ("$A:-x", "with braces"),
            ("$A?x", "with braces"),
            ("${A-x:-y}", "ambiguous"),
        ] {
            let message = replaced(text).unwrap_err();
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn the_document_keeps_positions_keys_and_extensions() {
        let text = "x-y: $NOPE\n$A:\n  b: [\"$N\", '3']\n  x-z: ok\n";
        let mut findings = Findings::default();
        let root = findings.sources.parse("f.yaml", text).unwrap();
        let root = interpolate(&root, Grammar::Careful, &variables(), &mut findings);
        assert!(findings.is_clean());
        let Value::Map(root) = &root.value else {
            panic!("no map")
        };
        assert_eq!(root.get("x-y").unwrap().text(), Some("$NOPE"));
        let Value::Map(inner) = &root.get("$A").unwrap().value else {
            panic!("no map")
        };
        let Value::List(items) = &inner.get("b").unwrap().value else {
            panic!("no list")
        };
        assert_eq!(items[0].value, Value::String("3".to_owned()));
        assert!(items[0].written.is_some() && items[1].written.is_none());
        assert_eq!(items[0].position.line, 3);
    }

    #[test]
    fn problems_have_path_position_and_a_suggestion() {
        let text = "services:\n  web:\n    ports:\n      - ${EMPT}:80\n";
        let mut findings = Findings::default();
        let root = findings.sources.parse("f.yaml", text).unwrap();
        interpolate(&root, Grammar::Careful, &variables(), &mut findings);
        let Problems(problems) = findings.finish().unwrap_err();
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].path, "services.web.ports[0]");
        assert_eq!(problems[0].position.line, 4);
        assert_eq!(problems[0].suggestion.as_deref(), Some("${EMPTY}"));
    }

    proptest! {
        #[test]
        fn an_escaped_text_comes_back(text in "\\PC{0,24}") {
            prop_assert_eq!(replaced(&text.replace('$', "$$")).unwrap(), text);
        }

        #[test]
        fn any_text_is_read_without_panic(text in "[$\\{\\}A-C:?-]{0,16}") {
            let _ = replaced(&text);
        }

        #[test]
        fn a_value_is_never_read_again(value in "\\PC{0,12}") {
            let variables = Variables::from([("V".to_owned(), value.clone())]);
            prop_assert_eq!(substitute("<${V}>", &variables).unwrap(), format!("<{value}>"));
        }
    }
}
