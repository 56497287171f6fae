//! What would be sent to an engine, as text that reads like YAML.

use phoenix_core::stack::Wire;
use serde_json::Value;

use super::Layout;
use crate::escape;

/// The bodies of a stack.
pub(crate) fn stack(layout: &Layout, wire: &Wire) -> String {
    let mut text = String::new();
    let name = scalar(&wire.stack);
    text.push_str(&format!(
        "{}: {name}\n",
        layout.paint(Layout::BOLD, "stack")
    ));
    for (section, bodies) in [
        ("networks", &wire.networks),
        ("secrets", &wire.secrets),
        ("configs", &wire.configs),
        ("services", &wire.services),
    ] {
        text.push_str(&layout.paint(Layout::BOLD, section));
        if bodies.is_empty() {
            text.push_str(": []\n");
            continue;
        }
        text.push_str(":\n");
        for body in bodies {
            let mut item = String::new();
            write(body, 4, &mut item);
            text.push_str("  - ");
            text.push_str(item.trim_start());
        }
    }
    text
}

/// Writes `value` at `indent`, each line with its end.
fn write(value: &Value, indent: usize, text: &mut String) {
    let margin = " ".repeat(indent);
    match value {
        Value::Object(map) if !map.is_empty() => {
            // The name first; the order of the others depends on how JSON is kept.
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| (*key != "Name", *key));
            for (key, value) in entries {
                let key = scalar(key);
                match value {
                    Value::Object(inner) if !inner.is_empty() => {
                        text.push_str(&format!("{margin}{key}:\n"));
                        write(value, indent + 2, text);
                    }
                    Value::Array(inner) if !inner.is_empty() => {
                        text.push_str(&format!("{margin}{key}:\n"));
                        write(value, indent + 2, text);
                    }
                    value => text.push_str(&format!("{margin}{key}: {}\n", leaf(value))),
                }
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                let mut inner = String::new();
                write(item, indent + 2, &mut inner);
                text.push_str(&format!("{margin}- {}", inner.trim_start()));
            }
        }
        value => text.push_str(&format!("{margin}{}\n", leaf(value))),
    }
}

fn leaf(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        other => other.to_string(),
    }
}

/// A text as YAML takes it for one, without anything that acts on a terminal.
fn scalar(text: &str) -> String {
    let word = |c: char| c.is_ascii_alphanumeric() || "/._-@+".contains(c);
    let inner = |c: char| word(c) || " :=,()".contains(c);
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.ends_with(word)
        && text.chars().all(inner)
        && !text.contains(": ")
        && !matches!(
            text.to_ascii_lowercase().as_str(),
            "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n"
        );
    if plain {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if escape::is_active(c) || c.is_control() => {
                let number = u32::from(c);
                if number > 0xffff {
                    quoted.push_str(&format!("\\U{number:08x}"));
                } else {
                    quoted.push_str(&format!("\\u{number:04x}"));
                }
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use phoenix_core::ground::document::Document;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn bodies_read_like_yaml() {
        let mut text = String::new();
        let body = json!({
            "Name": "shop_web",
            "Empty": {},
            "Ports": [{"TargetPort": 80, "Protocol": "tcp"}, {"TargetPort": 81}],
            "Args": ["a b", "-x", ""],
            "Mode": {"Replicated": {"Replicas": 2}},
            "Init": false,
        });
        write(&body, 0, &mut text);
        assert_eq!(
            text,
            "Name: shop_web\nArgs:\n  - a b\n  - \"-x\"\n  - \"\"\nEmpty: {}\nInit: false\nMode:\n  \
             Replicated:\n    Replicas: 2\nPorts:\n  - Protocol: tcp\n    TargetPort: 80\n  - TargetPort: 81\n"
        );
    }

    proptest! {
        #[test]
        fn every_text_comes_back_from_yaml(text in any::<String>()) {
            let written = scalar(&text);
            prop_assert!(!written.contains(escape::is_active), "{:?}", written);
            let document = Document::parse("x", &format!("a: {written}\n"));
            let document = document.map_err(|problem| TestCaseError::fail(problem.to_string()))?;
            let phoenix_core::ground::document::Value::Map(map) = &document.root().value else {
                return Err(TestCaseError::fail("no map"));
            };
            let value = map.get("a").map(|node| node.value.clone());
            prop_assert_eq!(value, Some(phoenix_core::ground::document::Value::String(text)));
        }
    }
}
