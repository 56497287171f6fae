//! Compose files to be written.

use std::fmt;

/// A YAML value. Its `Display` is a document in block style.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Yaml {
    /// A scalar as it is to be written.
    Plain(String),
    /// A text, in quotes.
    Text(String),
    List(Vec<Yaml>),
    Map(Vec<(String, Yaml)>),
    /// A value with an anchor.
    Anchored(String, Box<Yaml>),
}

impl fmt::Display for Yaml {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, 0)?;
        writeln!(f)
    }
}

impl Yaml {
    fn is_block(&self) -> bool {
        match self {
            Self::Plain(_) | Self::Text(_) => false,
            Self::List(items) => !items.is_empty(),
            Self::Map(entries) => !entries.is_empty(),
            // It begins on the line of its key.
            Self::Anchored(..) => false,
        }
    }

    /// Writes it after what stands before it on its line, which has `depth` levels.
    fn write(&self, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        let indentation = "  ".repeat(depth);
        match self {
            Self::Plain(text) => write!(f, "{text}"),
            Self::Anchored(name, value) => {
                let space = if value.is_block() { "" } else { " " };
                write!(f, "&{name}{space}")?;
                value.write(f, depth)
            }
            Self::Text(text) => write!(f, "{}", quoted(text)),
            Self::List(items) if items.is_empty() => write!(f, "[]"),
            Self::Map(entries) if entries.is_empty() => write!(f, "{{}}"),
            Self::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    if index > 0 || depth > 0 {
                        write!(f, "\n{indentation}")?;
                    }
                    write!(f, "- ")?;
                    item.write(f, depth + 1)?;
                }
                Ok(())
            }
            Self::Map(entries) => {
                for (index, (key, value)) in entries.iter().enumerate() {
                    if index > 0 || depth > 0 {
                        write!(f, "\n{indentation}")?;
                    }
                    let space = if value.is_block() { "" } else { " " };
                    write!(f, "{}:{space}", quoted(key))?;
                    value.write(f, depth + 1)?;
                }
                Ok(())
            }
        }
    }
}

/// A text as YAML and JSON both write it; plain where that is plainly a text, or a merge key.
fn quoted(text: &str) -> String {
    if text == "<<" {
        return text.to_owned();
    }
    let plain = |c: char| c.is_ascii_lowercase() || c == '_';
    let words = [
        "", "y", "n", "yes", "no", "on", "off", "true", "false", "null",
    ];
    match text.chars().all(plain) && !words.contains(&text) {
        true => text.to_owned(),
        false => serde_json::Value::from(text).to_string(),
    }
}
